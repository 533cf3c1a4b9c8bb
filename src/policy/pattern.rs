use std::fmt;

use super::model::{self, ModelError};

/// Which models a token may use: an id, `prefix*`, or `*`. Case-sensitive; no other wildcard.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Pattern {
    /// This id and no other.
    Exact(Box<str>),
    /// Every id that starts so.
    Prefix(Box<str>),
    /// Every id, and the routes that name no model.
    All,
}

/// Why a text is no [`Pattern`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// A `*` that is not the last character.
    #[error("`*` may stand only at the end")]
    StarNotLast,
    /// What a model id may not be either.
    #[error(transparent)]
    Form(#[from] ModelError),
}

impl Pattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// When `*` stands anywhere but last, or the text breaks a rule of model ids.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        if text == "*" {
            return Ok(Self::All);
        }
        let (id, is_prefix) = match text.strip_suffix('*') {
            Some(prefix) => (prefix, true),
            None => (text, false),
        };
        if id.contains('*') {
            return Err(PatternError::StarNotLast);
        }
        // The text as a whole, so that `org/*` is judged with its last segment, which is `*`.
        model::check_form(text)?;
        Ok(if is_prefix { Self::Prefix(id.into()) } else { Self::Exact(id.into()) })
    }

    /// Whether the id falls under this pattern.
    #[must_use]
    pub fn matches(&self, id: &str) -> bool {
        match self {
            Self::Exact(exact) => **exact == *id,
            Self::Prefix(prefix) => id.starts_with(&**prefix),
            Self::All => true,
        }
    }

    /// Orders patterns that match one id: an exact id before the longest prefix before `*`.
    #[must_use]
    pub fn specificity(&self) -> usize {
        match self {
            Self::Exact(_) => usize::MAX,
            Self::Prefix(prefix) => prefix.len(),
            Self::All => 0,
        }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(id) => f.write_str(id),
            Self::Prefix(prefix) => write!(f, "{prefix}*"),
            Self::All => f.write_str("*"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_three_forms_match_as_told() {
        for (pattern, id, expected) in [
            ("iris", "iris", true),
            ("iris", "iris-v1", false),
            ("iris", "Iris", false),
            ("iris*", "iris", true),
            ("iris*", "iris-v1", true),
            ("iris*", "org/iris", false),
            ("org/*", "org/iris", true),
            ("org/*", "org", false),
            ("org/*", "other/iris", false),
            ("*", "anything/at-all", true),
        ] {
            assert_eq!(Pattern::parse(pattern).unwrap().matches(id), expected, "{pattern} {id}");
        }
    }

    #[test]
    fn refuses_every_other_form() {
        for bad in [
            "",
            "**",
            "a*b",
            "*a",
            "a**",
            "a b",
            "a\tb",
            "a\u{a0}b",
            "a\\b",
            "a?b",
            "a#b",
            "a%b",
            "a;b",
            "/a",
            "a/",
            "a//b",
            "./a",
            "a/../b",
            "..",
            ".",
            "a/.",
            "a\0",
            "a\u{85}b",
            "/*",
            "a//*",
            "../*",
            &"x".repeat(257),
        ] {
            assert!(Pattern::parse(bad).is_err(), "{bad:?}");
        }
        assert!(Pattern::parse(&"x".repeat(256)).is_ok());
    }

    #[test]
    fn prints_as_it_was_written() {
        for text in ["iris", "iris*", "*", "org/name*", "org/*"] {
            assert_eq!(Pattern::parse(text).unwrap().to_string(), text);
        }
    }
}
