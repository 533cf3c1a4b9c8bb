use std::fmt;
use std::sync::Arc;

use super::base62;

/// What a token is called in logs, metrics and the admin API; never a secret.
///
/// Made by the program as `tk_` and 12 base62 characters; written by hand, 1 to 64 characters of
/// `A-Za-z0-9._-`. Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TokenId(Arc<str>);

/// A text that is no [`TokenId`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an id is 1 to 64 characters of A-Z a-z 0-9 . _ -")]
pub struct IdError;

impl TokenId {
    /// Reads an id.
    ///
    /// # Errors
    /// When it is empty, longer than 64 characters, or holds another character.
    pub fn parse(text: &str) -> Result<Self, IdError> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
        if text.is_empty() || text.len() > 64 || !text.bytes().all(allowed) {
            return Err(IdError);
        }
        Ok(Self(text.into()))
    }

    /// A new id from 16 random bytes: 71 bits of them, so that a billion tokens do not collide.
    #[must_use]
    pub fn from_entropy(entropy: [u8; 16]) -> Self {
        let mut number = entropy;
        let mut text = *b"tk_000000000000";
        base62::encode(&mut number, &mut text[3..]);
        Self(String::from_utf8_lossy(&text).into())
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_what_the_file_may_hold_and_nothing_else() {
        for good in ["a", "tk_9ZfQ2mB7xLrA", "A.b-c_9", &"x".repeat(64)] {
            assert!(TokenId::parse(good).is_ok(), "{good}");
        }
        for bad in ["", &"x".repeat(65), "a b", "a/b", "é", "a\n", "a\"", "*"] {
            assert_eq!(TokenId::parse(bad), Err(IdError), "{bad}");
        }
    }

    #[test]
    fn made_ids_have_the_documented_form() {
        for entropy in [[0; 16], [255; 16], [7; 16]] {
            let id = TokenId::from_entropy(entropy);
            assert_eq!(id.as_str().len(), 15);
            assert!(id.as_str().starts_with("tk_"));
            assert_eq!(TokenId::parse(id.as_str()), Ok(id));
        }
    }
}
