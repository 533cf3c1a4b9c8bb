use std::fmt::Write as _;

use toml_edit::{Key, Value};

use crate::policy::{AdminEntry, Limits, Moment, TokenEntry};
use crate::settings::rfc3339;

/// The keys of a `[[token]]` table, in the order in which they are written.
///
/// The hash comes last: an entry without one is refused, so a file that was cut off within an entry
/// is refused as a whole. Were `disabled` or `expires_at` below it, a cut could give rights back.
pub(super) const TOKEN_KEYS: [&str; 11] = [
    "id",
    "name",
    "resources",
    "groups",
    "created_at",
    "expires_at",
    "disabled",
    "previous",
    "limits",
    "labels",
    "hash",
];

/// What shall stand behind a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Shape {
    /// A value, as TOML.
    Value(String),
    /// An array of these values, each as TOML.
    Array(Vec<String>),
    /// A table of keys and values, each as TOML.
    Table(Vec<(String, String)>),
}

impl Shape {
    /// On one line, as it stands behind `key = `.
    pub(super) fn inline(&self) -> String {
        match self {
            Self::Value(value) => value.clone(),
            Self::Array(values) => format!("[{}]", values.join(", ")),
            Self::Table(pairs) if pairs.is_empty() => "{}".into(),
            Self::Table(pairs) => {
                let pairs: Vec<String> =
                    pairs.iter().map(|(key, value)| format!("{key} = {value}")).collect();
                format!("{{ {} }}", pairs.join(", "))
            }
        }
    }
}

/// What each of [`TOKEN_KEYS`] shall hold; none where the key has no place in the file.
pub(super) fn token_shapes(entry: &TokenEntry) -> [Option<Shape>; 11] {
    let texts = |texts: &[crate::policy::Placed<String>]| {
        Some(Shape::Array(texts.iter().map(|text| string(&text.value)).collect()))
    };
    let moment_shape = |at: Option<Moment>| at.map(|at| Shape::Value(moment(at)));
    [
        Some(Shape::Value(string(&entry.id.value))),
        entry.name.as_ref().map(|name| Shape::Value(string(&name.value))),
        texts(&entry.resources),
        texts(&entry.groups),
        moment_shape(entry.created_at),
        moment_shape(entry.expires_at),
        Some(Shape::Value(entry.disabled.to_string())),
        entry.previous.as_ref().map(|previous| {
            Shape::Table(vec![
                ("hash".into(), string(&previous.hash.value)),
                ("valid_until".into(), moment(previous.valid_until)),
            ])
        }),
        entry.limits.as_ref().map(limits),
        (!entry.labels.is_empty()).then(|| {
            let pair = |(key, value): (&String, &String)| (self::key(key), string(value));
            Shape::Table(entry.labels.iter().map(pair).collect())
        }),
        Some(Shape::Value(string(&entry.hash.value))),
    ]
}

/// A `[[token]]` table; lines end with `\n`.
pub(super) fn token(entry: &TokenEntry) -> String {
    let mut text = String::from("[[token]]\n");
    for (key, shape) in TOKEN_KEYS.iter().zip(token_shapes(entry)) {
        if *key == "disabled" && !entry.disabled {
            continue;
        }
        if let Some(shape) = shape {
            let _ = writeln!(text, "{key:<10} = {}", shape.inline());
        }
    }
    text
}

/// An `[[admin]]` table; lines end with `\n`.
pub(super) fn admin(entry: &AdminEntry) -> String {
    let (name, hash) = (string(&entry.name.value), string(&entry.hash.value));
    format!("[[admin]]\nname = {name}\nhash = {hash}\n")
}

fn limits(limits: &Limits) -> Shape {
    let pairs = [
        ("requests_per_second", limits.requests_per_second),
        ("burst", limits.burst),
        ("max_in_flight", limits.max_in_flight),
    ];
    let given = |(key, value): (&str, Option<u32>)| Some((key.into(), value?.to_string()));
    Shape::Table(pairs.into_iter().filter_map(given).collect())
}

fn string(text: &str) -> String {
    Value::from(text).to_string()
}

fn key(text: &str) -> String {
    Key::new(text).display_repr().into_owned()
}

fn moment(at: Moment) -> String {
    // What no calendar holds becomes words, which the proof of the edit refuses.
    rfc3339(at)
}
