//! Bodies of requests: read whole, and as JSON that says each thing once.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::body::Incoming;
use serde::de::{DeserializeOwned, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use super::problem::{FieldError, Refusal};

/// The longest body, in bytes: a token with as many patterns as anybody will write.
const MAX_BYTES: usize = 1 << 20;

/// By when a body must have arrived.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Reads a body to its end.
pub(super) async fn read(body: Incoming) -> Result<Bytes, Refusal> {
    let collected = tokio::time::timeout(TIMEOUT, Limited::new(body, MAX_BYTES).collect()).await;
    match collected {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(Refusal::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "body_too_large",
            "The body is larger than 1 MiB.",
        )),
        Ok(Err(_)) => Err(Refusal::bad_request("The body broke off.")),
        Err(_) => Err(Refusal::new(
            StatusCode::REQUEST_TIMEOUT,
            "body_timeout",
            "The body did not arrive within 10 seconds.",
        )),
    }
}

/// Reads a value from JSON. Nothing is passed over: an unknown member, or one that is there twice,
/// is an error.
pub(super) fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Refusal> {
    let value: Strict = serde_json::from_slice(body).map_err(|error| {
        // Never the text itself: it may be a secret in the wrong place.
        Refusal::bad_request(format!("The body is not the JSON that is expected: {error}"))
    })?;
    if !value.0.is_object() {
        return Err(Refusal::bad_request("The body is not a JSON object."));
    }
    serde_path_to_error::deserialize(value.0).map_err(|error| {
        let segments: Vec<String> = error
            .path()
            .iter()
            .filter_map(|segment| match segment {
                serde_path_to_error::Segment::Seq { index } => Some(index.to_string()),
                serde_path_to_error::Segment::Map { key } => Some(key.clone()),
                _ => None,
            })
            .collect();
        let detail = error.inner().to_string();
        let missing = detail
            .strip_prefix("missing field `")
            .and_then(|rest| rest.strip_suffix('`'))
            .map(str::to_owned);
        let segments: Vec<String> = segments.into_iter().chain(missing).collect();
        let escaped = segments.iter().map(|part| part.replace('~', "~0").replace('/', "~1"));
        let pointer: String = escaped.map(|part| format!("/{part}")).collect();
        Refusal::of_fields(vec![FieldError {
            field: segments.first().cloned().unwrap_or_default(),
            pointer: (!pointer.is_empty()).then_some(pointer),
            detail,
        }])
    })
}

/// A JSON value in which no object has a member twice.
struct Strict(Value);

impl<'de> serde::Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(StrictVisitor).map(Self)
    }
}

struct StrictVisitor;

impl<'de> Visitor<'de> for StrictVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut values = Vec::new();
        while let Some(Strict(value)) = access.next_element()? {
            values.push(value);
        }
        Ok(values.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut members = Map::new();
        while let Some((name, Strict(value))) = access.next_entry::<String, Strict>()? {
            if members.contains_key(&name) {
                return Err(A::Error::custom("a member is there twice"));
            }
            members.insert(name, value);
        }
        Ok(members.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::input::NewTokenBody;

    fn field(body: &str) -> (u16, String) {
        let Err(refusal) = parse::<NewTokenBody>(body.as_bytes()) else {
            return (200, String::new());
        };
        let status = refusal.status;
        let response = refusal.into_response("/", "id");
        let body = futures_body(response);
        let body: Value = serde_json::from_slice(&body).unwrap();
        (status.as_u16(), body["field"].as_str().unwrap_or_default().into())
    }

    fn futures_body(response: http::Response<super::super::response::Body>) -> Bytes {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(response.into_body().collect()).unwrap().to_bytes()
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (body, expected) in [
            (r#"{"resources":["a"],"groups":["g"]}"#, (200, "")),
            (r#"{"resources":["a"],"groups":["g"],"name":null}"#, (200, "")),
            ("", (400, "")),
            ("[]", (400, "")),
            ("{", (400, "")),
            (r#"{"resources":[],"resources":[]}"#, (400, "")),
            (r#"{"resources":["a"],"groups":["g"],"labels":{"a":"1","a":"2"}}"#, (400, "")),
            (r#"{"resources":["a"]}"#, (422, "groups")),
            (r#"{"resources":"a","groups":["g"]}"#, (422, "resources")),
            (r#"{"resources":["a",1],"groups":["g"]}"#, (422, "resources")),
            (r#"{"resources":["a"],"groups":["g"],"hash":"x"}"#, (422, "hash")),
            (r#"{"resources":["a"],"groups":["g"],"limits":{"burst":-1}}"#, (422, "limits")),
            (r#"{"resources":["a"],"groups":["g"],"limits":{"x":1}}"#, (422, "limits")),
            (r#"{"resources":["a"],"groups":["g"]} x"#, (400, "")),
        ] {
            let (status, name) = field(body);
            assert_eq!((status, &*name), expected, "{body}");
        }
    }
}
