//! The tensors of a request, read strictly.

use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

use super::*;

/// The values of one input tensor.
pub(super) enum Tensor {
    /// A number by itself: one flower is asked for.
    Scalar(f64),
    /// At least one and at most [`MOST_FLOWERS`] numbers, one for each flower.
    List(Vec<f64>),
}

/// The four input tensors of a request, in the order of [`MEASUREMENTS`].
pub(super) struct InputTensors([Tensor; 4]);

/// The flowers that a request asks for.
pub(super) enum Asked {
    One([f64; 4]),
    Several(Vec<[f64; 4]>),
}

impl InputTensors {
    /// The flowers these tensors describe, or a message that says which tensor does not fit the others.
    pub(super) fn flowers(&self) -> Result<Asked, String> {
        let (first, rest) = (&self.0[0], MEASUREMENTS.iter().zip(&self.0).skip(1));
        match first {
            Tensor::Scalar(_) => {
                let mut features = [0.0; 4];
                for ((feature, name), tensor) in features.iter_mut().zip(MEASUREMENTS).zip(&self.0)
                {
                    let Tensor::Scalar(value) = tensor else {
                        return Err(format!(
                            "tensor `{name}` is a list where `{}` is a single number: \
                             either all four are lists or none is",
                            MEASUREMENTS[0]
                        ));
                    };
                    *feature = *value;
                }
                Ok(Asked::One(features))
            }
            Tensor::List(values) => {
                let mut flowers: Vec<[f64; 4]> =
                    values.iter().map(|value| [*value, 0.0, 0.0, 0.0]).collect();
                for (place, (name, tensor)) in (1..).zip(rest) {
                    let Tensor::List(values) = tensor else {
                        return Err(format!(
                            "tensor `{name}` is a single number where `{}` is a list: \
                             either all four are lists or none is",
                            MEASUREMENTS[0]
                        ));
                    };
                    if values.len() != flowers.len() {
                        return Err(format!(
                            "tensor `{name}` has {} values where `{}` has {}: all four lists are of one length",
                            values.len(),
                            MEASUREMENTS[0],
                            flowers.len()
                        ));
                    }
                    for (flower, value) in flowers.iter_mut().zip(values) {
                        flower[place] = *value;
                    }
                }
                Ok(Asked::Several(flowers))
            }
        }
    }
}

impl<'de> Deserialize<'de> for InputTensors {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(InputTensorsVisitor)
    }
}

/// Reads the object by hand, because a map would take the last of two tensors of one name without a word.
struct InputTensorsVisitor;

impl<'de> Visitor<'de> for InputTensorsVisitor {
    type Value = InputTensors;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "an object of the tensors {}", tensor_names())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Self::Value, A::Error> {
        let mut found: [Option<Tensor>; 4] = [const { None }; 4];
        while let Some(name) = object.next_key::<String>()? {
            let Some(place) = MEASUREMENTS.iter().position(|known| *known == name) else {
                return Err(A::Error::custom(format_args!(
                    "tensor `{}` is unknown: this model takes {}",
                    shortened(&name, LONGEST_NAME),
                    tensor_names()
                )));
            };
            if found[place].is_some() {
                return Err(A::Error::custom(format_args!("tensor `{name}` is given twice")));
            }
            // Every error below is named here, also the parser's own, such as of a number no double holds.
            let tensor = object
                .next_value_seed(TensorVisitor)
                .map_err(|error| A::Error::custom(format_args!("tensor `{name}`: {error}")))?;
            found[place] = Some(tensor);
        }
        let present = |place: usize, tensor: Option<Tensor>| {
            tensor.ok_or_else(|| {
                A::Error::custom(format_args!("tensor `{}` is missing", MEASUREMENTS[place]))
            })
        };
        let [a, b, c, d] = found;
        Ok(InputTensors([present(0, a)?, present(1, b)?, present(2, c)?, present(3, d)?]))
    }
}

/// Reads the values of one tensor.
struct TensorVisitor;

impl<'de> DeserializeSeed<'de> for TensorVisitor {
    type Value = Tensor;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Tensor, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for TensorVisitor {
    type Value = Tensor;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a finite number, or a list of such numbers")
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Tensor, E> {
        if value.is_finite() {
            Ok(Tensor::Scalar(value))
        } else {
            Err(E::custom("the number is not finite"))
        }
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Tensor, E> {
        // A whole number past 2^53 is rounded, as JSON's readers do.
        Ok(Tensor::Scalar(value as f64))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Tensor, E> {
        Ok(Tensor::Scalar(value as f64))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Tensor, A::Error> {
        let mut values = Vec::new();
        while let Some(Finite(value)) = list.next_element()? {
            if values.len() == MOST_FLOWERS {
                return Err(A::Error::custom(format_args!(
                    "the list is too long: {MOST_FLOWERS} values are the most"
                )));
            }
            values.push(value);
        }
        if values.is_empty() {
            return Err(A::Error::custom("the list is empty"));
        }
        Ok(Tensor::List(values))
    }
}

/// One number of a list.
struct Finite(f64);

impl<'de> Deserialize<'de> for Finite {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = f64::deserialize(deserializer)?;
        if value.is_finite() {
            Ok(Self(value))
        } else {
            Err(D::Error::custom("the number is not finite"))
        }
    }
}
