use std::borrow::Cow;
use std::fmt;

use unicode_normalization::UnicodeNormalization as _;

/// The id of a model as a request names it, in a form that means one thing to every reader.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ModelId(Box<str>);

/// Why a text is no model id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ModelError {
    /// Nothing is named.
    #[error("it is empty")]
    Empty,
    /// Longer than 256 bytes.
    #[error("it is longer than 256 bytes")]
    TooLong,
    /// A control character, white space, or one of `\ ? # % ;`; in an id also `*`.
    #[error("it holds white space, a control character, or one of `\\?#%;`")]
    Character,
    /// An empty, `.` or `..` segment, or a `/` at either end.
    #[error("it has an empty, `.` or `..` segment, or `/` at an end")]
    Segment,
}

/// The longest id or pattern, in bytes.
const MAX_BYTES: usize = 256;

/// The rules that ids and patterns share.
pub(super) fn check_form(text: &str) -> Result<(), ModelError> {
    if text.is_empty() {
        return Err(ModelError::Empty);
    }
    if text.len() > MAX_BYTES {
        return Err(ModelError::TooLong);
    }
    let forbidden =
        |c: char| matches!(c, '\\' | '?' | '#' | '%' | ';') || c.is_control() || c.is_whitespace();
    if text.chars().any(forbidden) {
        return Err(ModelError::Character);
    }
    if text.split('/').any(|segment| matches!(segment, "" | "." | "..")) {
        return Err(ModelError::Segment);
    }
    Ok(())
}

impl ModelId {
    /// Reads an id.
    ///
    /// # Errors
    /// When it breaks one of the rules above. `*` is no part of an id: as a pattern it would say
    /// something else than as a name.
    pub fn parse(text: &str) -> Result<Self, ModelError> {
        check_form(text)?;
        if text.contains('*') {
            return Err(ModelError::Character);
        }
        Ok(Self(text.into()))
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ModelId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a query says of the model.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum QueryModel<'q> {
    /// No parameter `model`.
    None,
    /// The value, decoded.
    One(Cow<'q, str>),
    /// Several that differ.
    Conflict,
    /// A `model` whose value is no text.
    Unreadable,
}

/// Reads the parameter `model`. Names are decoded first, since every server does so. What only
/// some servers would take for it (after a `;`, or by another name) makes the query ambiguous.
pub(super) fn in_query(query: &str) -> QueryModel<'_> {
    let mut found = QueryModel::None;
    for pair in query.split('&') {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let Some(name) = form_decoded(name) else { return QueryModel::Unreadable };
        let is_model = name == "model";
        let seen_by_some = pair.split(';').filter(|part| {
            let name = form_decoded(part.split('=').next().unwrap_or_default());
            name.is_none_or(|name| is_model_in_some_reader(&name))
        });
        if seen_by_some.count() > usize::from(is_model) {
            return QueryModel::Conflict;
        }
        if !is_model {
            continue;
        }
        let Some(value) = form_decoded(value) else { return QueryModel::Unreadable };
        match &found {
            QueryModel::One(before) if *before != value => return QueryModel::Conflict,
            _ => found = QueryModel::One(value),
        }
    }
    found
}

/// Whether any reader may take the name for `model`: some cut at NUL or at `[` (lists), trim, fold
/// the case, or normalise.
fn is_model_in_some_reader(name: &str) -> bool {
    if name == "model" {
        return true;
    }
    let folded: String = name.nfkc().flat_map(char::to_lowercase).collect();
    let cut = folded.split(['\0', '[', '#']).next().unwrap_or_default();
    cut.trim_matches(|c: char| c.is_whitespace() || c == '.') == "model"
}

/// Decodes `+` and percent escapes; none when the result is no UTF-8 or an escape is broken.
fn form_decoded(text: &str) -> Option<Cow<'_, str>> {
    if !text.contains(['%', '+']) {
        return Some(Cow::Borrowed(text));
    }
    let plain = text.replace('+', " ");
    percent_decoded(&plain).map(|decoded| Cow::Owned(decoded.into_owned()))
}

/// Decodes percent escapes; none when the result is no UTF-8 or an escape is broken.
pub(super) fn percent_decoded(text: &str) -> Option<Cow<'_, str>> {
    if !text.contains('%') {
        return Some(Cow::Borrowed(text));
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        if first != b'%' {
            bytes.push(first);
            rest = after;
            continue;
        }
        let (high, low) = (hex_value(*after.first()?)?, hex_value(*after.get(1)?)?);
        bytes.push(high << 4 | low);
        rest = after.get(2..)?;
    }
    String::from_utf8(bytes).ok().map(Cow::Owned)
}

pub(super) fn hex_value(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).map(|value| value as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_query_is_read_as_servers_read_it() {
        use QueryModel::{Conflict, None, One, Unreadable};
        for (query, expected) in [
            ("", None),
            ("a=b&models=x", None),
            ("model=x", One("x".into())),
            ("a=1&model=x&b=2", One("x".into())),
            ("%6dodel=x", One("x".into())),
            ("model=%78", One("x".into())),
            ("model=a+b", One("a b".into())),
            ("model=x&model=x", One("x".into())),
            ("model=x&model=y", Conflict),
            ("model=x;model=y", Conflict),
            ("a=1;model=y", Conflict),
            ("model", One("".into())),
            ("model=", One("".into())),
            ("model=x&mod%65l=y", Conflict),
            ("model=%ff", Unreadable),
            ("model=%zz", Unreadable),
            ("%ff=1&model=x", Unreadable),
            ("model=x;", One("x;".into())),
            ("model;a=1", Conflict),
            ("model[]=x", Conflict),
            ("model[0]=x", Conflict),
            ("model=x&Model=y", Conflict),
            ("model=x&model%00=y", Conflict),
            ("model=x&%20model=y", Conflict),
            ("model=x&model.=y", Conflict),
            ("model=x&%EF%BD%8Dodel=y", Conflict),
            ("model_name=x", None),
        ] {
            assert_eq!(in_query(query), expected, "{query}");
        }
    }

    #[test]
    fn an_id_is_no_pattern() {
        assert!(ModelId::parse("iris*").is_err());
        assert!(ModelId::parse("*").is_err());
        assert!(ModelId::parse("meta-llama/Llama-3.1-8B").is_ok());
    }
}
