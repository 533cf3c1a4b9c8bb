//! What an administrator hands out: secrets, their hashes, and the ids by which tokens are named.
//!
//! Pure: no clock, no file, no randomness of its own. Whoever makes a secret brings the entropy.

mod base62;
mod digest;
mod id;
mod redact;
mod secret;

pub use digest::{Digest, DigestError};
pub use id::{IdError, TokenId};
pub use redact::redact;
pub use secret::{ENTROPY_BYTES, Presented, Secret, SecretKind};
