//! Where token files are kept: reading them, and changing them so that nothing is lost.
//!
//! A store knows the text of a file and how it is changed; what a file *means* is the business of
//! [`crate::policy`].

mod edit;
mod error;
pub mod file;
mod rebase;

use std::fmt;

pub use edit::stanza;
pub use error::StoreError;

/// The state of a file: the BLAKE3 hash of its bytes. Content decides, never a timestamp.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Generation(blake3::Hash);

/// A text that is no [`Generation`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a generation is 64 hexadecimal digits")]
pub struct GenerationError;

impl Generation {
    /// The generation of a file with these bytes.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(blake3::hash(bytes))
    }

    /// Reads what [`Generation::to_hex`] wrote.
    ///
    /// # Errors
    /// When it is not 64 hexadecimal digits.
    pub fn parse(text: &str) -> Result<Self, GenerationError> {
        blake3::Hash::from_hex(text).map(Self).map_err(|_| GenerationError)
    }

    /// All 64 hexadecimal digits, in lower case.
    #[must_use]
    pub fn to_hex(&self) -> String {
        self.0.to_hex().to_string()
    }

    /// The first 12 hexadecimal digits: enough to see that two replicas agree.
    #[must_use]
    pub fn short(&self) -> String {
        let mut digits = self.to_hex();
        digits.truncate(12);
        digits
    }
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_hex())
    }
}

impl fmt::Debug for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Generation({})", self.short())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_generation_is_the_hash_of_the_bytes() {
        let generation = Generation::of(b"version = 1\n");
        // printf 'version = 1\n' | b3sum
        assert_eq!(generation.to_hex(), blake3::hash(b"version = 1\n").to_hex().as_str());
        assert_eq!(generation.short(), generation.to_hex()[..12]);
        assert_eq!(Generation::parse(&generation.to_hex()), Ok(generation));
        assert_ne!(generation, Generation::of(b"version = 1"));
        for bad in ["", "ab", &generation.short(), &"g".repeat(64)] {
            assert_eq!(Generation::parse(bad), Err(GenerationError), "{bad}");
        }
    }
}
