use std::fmt;

use sha2::{Digest as _, Sha256};

/// The hash of a whole secret, as the token file keeps it: `blake3:` or `sha256:` and 64 hex digits.
///
/// Equality takes the same time wherever two digests differ. `Debug` names the algorithm only:
/// a hash belongs in the token file and nowhere else.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Digest {
    algorithm: Algorithm,
    // `blake3::Hash` for its constant-time equality; the bytes may be those of SHA-256.
    bytes: blake3::Hash,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Algorithm {
    Blake3,
    Sha256,
}

/// Why a text is no [`Digest`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DigestError {
    /// Neither `blake3:` nor `sha256:` stands before the digits.
    #[error("it starts with neither `blake3:` nor `sha256:`")]
    Algorithm,
    /// What follows the algorithm is not 64 hexadecimal digits.
    #[error("64 hexadecimal digits must follow the algorithm")]
    Digits,
}

impl Digest {
    /// The BLAKE3 hash of a secret's bytes; the form Faregate writes.
    #[must_use]
    pub fn blake3(secret: &[u8]) -> Self {
        Self { algorithm: Algorithm::Blake3, bytes: blake3::hash(secret) }
    }

    /// The SHA-256 hash of a secret's bytes, for keys that were brought from elsewhere.
    #[must_use]
    pub fn sha256(secret: &[u8]) -> Self {
        let bytes: [u8; 32] = Sha256::digest(secret).into();
        Self { algorithm: Algorithm::Sha256, bytes: bytes.into() }
    }

    /// Reads the form of the token file.
    ///
    /// # Errors
    /// When the algorithm is unknown or the digits are not 64 hexadecimal ones.
    pub fn parse(text: &str) -> Result<Self, DigestError> {
        let (algorithm, digits) = if let Some(digits) = text.strip_prefix("blake3:") {
            (Algorithm::Blake3, digits)
        } else if let Some(digits) = text.strip_prefix("sha256:") {
            (Algorithm::Sha256, digits)
        } else {
            return Err(DigestError::Algorithm);
        };
        let bytes = blake3::Hash::from_hex(digits).map_err(|_| DigestError::Digits)?;
        Ok(Self { algorithm, bytes })
    }

    /// Whether this is a SHA-256 hash.
    #[must_use]
    pub fn is_sha256(&self) -> bool {
        self.algorithm == Algorithm::Sha256
    }

    /// The form of the token file. Only what writes that file has a use for it.
    #[must_use]
    pub fn to_file_form(&self) -> String {
        let algorithm = match self.algorithm {
            Algorithm::Blake3 => "blake3",
            Algorithm::Sha256 => "sha256",
        };
        format!("{algorithm}:{}", self.bytes.to_hex())
    }

    /// The 32 bytes, for an index of digests. What is found by them is compared again by `==`.
    #[must_use]
    pub fn bytes(&self) -> &[u8; 32] {
        self.bytes.as_bytes()
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.algorithm {
            Algorithm::Blake3 => "Digest(blake3)",
            Algorithm::Sha256 => "Digest(sha256)",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_writes_and_nothing_else() {
        let digest = Digest::blake3(b"secret");
        assert_eq!(Digest::parse(&digest.to_file_form()), Ok(digest));
        let digest = Digest::sha256(b"secret");
        assert_eq!(
            digest.to_file_form(),
            "sha256:2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b"
        );
        assert_eq!(Digest::parse(&digest.to_file_form()), Ok(digest));
        assert_ne!(Digest::blake3(b"secret"), Digest::sha256(b"secret"));
        for (text, error) in [
            ("", DigestError::Algorithm),
            ("md5:00", DigestError::Algorithm),
            ("BLAKE3:00", DigestError::Algorithm),
            ("blake3:", DigestError::Digits),
            (&format!("blake3:{}", "0".repeat(63)), DigestError::Digits),
            (&format!("blake3:{}", "0".repeat(65)), DigestError::Digits),
            (&format!("blake3:{}g", "0".repeat(63)), DigestError::Digits),
            (&format!("sha256: {}", "0".repeat(63)), DigestError::Digits),
        ] {
            assert_eq!(Digest::parse(text), Err(error), "{text}");
        }
    }

    #[test]
    fn the_same_digits_of_another_algorithm_are_another_digest() {
        let digits = "ab".repeat(32);
        let blake3 = Digest::parse(&format!("blake3:{digits}"));
        let sha256 = Digest::parse(&format!("sha256:{digits}"));
        assert_ne!(blake3, sha256);
    }

    #[test]
    fn debug_shows_no_digit() {
        assert_eq!(format!("{:?}", Digest::blake3(b"secret")), "Digest(blake3)");
    }
}
