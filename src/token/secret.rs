use std::fmt;

use zeroize::{Zeroize, Zeroizing};

use super::{Digest, base62};

/// How many random bytes a new secret is made of: 256 bits.
pub const ENTROPY_BYTES: usize = 32;

const RANDOM_DIGITS: usize = 43;
const CHECKSUM_DIGITS: usize = 6;

/// What a secret opens; the kinds are told apart by their prefix and live in different tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SecretKind {
    /// `fg_…`: calls models.
    Token,
    /// `fga_…`: opens the admin API of one namespace.
    AdminKey,
}

impl SecretKind {
    fn prefix(self) -> &'static str {
        match self {
            Self::Token => "fg_",
            Self::AdminKey => "fga_",
        }
    }
}

/// A secret this process made and is about to show, once.
///
/// It cannot be cloned or printed, and its memory is wiped when it is dropped;
/// [`Secret::reveal`] consumes it.
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Makes a secret from the operating system's randomness: prefix, 43 base62 characters that
    /// hold all 256 bits, and 6 base62 characters of the CRC-32 (IEEE) of what stands before them.
    #[must_use]
    pub fn from_entropy(kind: SecretKind, entropy: &[u8; ENTROPY_BYTES]) -> Self {
        let mut number = Zeroizing::new(*entropy);
        let mut digits = Zeroizing::new([0_u8; RANDOM_DIGITS]);
        base62::encode(number.as_mut_slice(), digits.as_mut_slice());
        let prefix = kind.prefix();
        // The whole length at once: a buffer that grew would leave a copy behind unwiped.
        let length = prefix.len() + RANDOM_DIGITS + CHECKSUM_DIGITS;
        let mut text = Zeroizing::new(String::with_capacity(length));
        text.push_str(prefix);
        text.extend(digits.iter().map(|&digit| char::from(digit)));
        let mut checksum = checksum(text.as_bytes());
        text.extend(checksum.iter().map(|&digit| char::from(digit)));
        checksum.zeroize();
        Self(text)
    }

    /// The hash that the token file keeps.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest::blake3(self.0.as_bytes())
    }

    /// Gives the text away for the one time it is shown. The text is wiped when dropped.
    #[must_use]
    pub fn reveal(self) -> Zeroizing<String> {
        self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// A credential as a client presented it: any bytes at all, borrowed from the request.
#[derive(Clone, Copy)]
pub struct Presented<'r>(&'r [u8]);

impl<'r> Presented<'r> {
    /// Wraps what stood where a credential is expected.
    #[must_use]
    pub fn new(bytes: &'r [u8]) -> Self {
        Self(bytes)
    }

    /// The bytes, to be hashed or compared, never to be written anywhere.
    #[must_use]
    pub fn bytes(self) -> &'r [u8] {
        self.0
    }

    /// False when it claims to be one of ours (`fg_`) but cannot be: mistyped, cut, or guessed.
    /// Such a credential is refused without a look into the token table. Keys of another make
    /// (imported by their hash) are well formed whatever they are.
    #[must_use]
    pub fn is_well_formed(self) -> bool {
        if self.0.starts_with(b"fg_") {
            is_ours(SecretKind::Token, self.0)
        } else if self.0.starts_with(b"fga_") {
            // An administrator key opens no model, in any form.
            false
        } else {
            !self.0.is_empty()
        }
    }

    /// Whether it is an administrator key with a right checksum.
    #[must_use]
    pub fn is_admin_key(self) -> bool {
        is_ours(SecretKind::AdminKey, self.0)
    }
}

impl fmt::Debug for Presented<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Presented(…)")
    }
}

fn is_ours(kind: SecretKind, bytes: &[u8]) -> bool {
    let prefix = kind.prefix().as_bytes();
    let Some(body) = bytes.strip_prefix(prefix) else { return false };
    if body.len() != RANDOM_DIGITS + CHECKSUM_DIGITS || !body.iter().copied().all(base62::is_digit)
    {
        return false;
    }
    let (before, given) = bytes.split_at(bytes.len() - CHECKSUM_DIGITS);
    // No secret is in a checksum, so an early exit tells nothing.
    given == checksum(before)
}

fn checksum(bytes: &[u8]) -> [u8; CHECKSUM_DIGITS] {
    let mut digits = [0; CHECKSUM_DIGITS];
    base62::encode(&mut crc32fast::hash(bytes).to_be_bytes(), &mut digits);
    digits
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(kind: SecretKind, seed: u8) -> String {
        Secret::from_entropy(kind, &[seed; ENTROPY_BYTES]).reveal().to_string()
    }

    #[test]
    fn a_made_secret_has_the_documented_form() {
        let secret = made(SecretKind::Token, 0);
        // Entropy 0 leaves the checksum to be computed by anyone's CRC-32:
        // python3 -c 'import zlib; print(zlib.crc32(b"fg_" + b"0"*43))' prints 3634865940.
        let (before, sum) = secret.split_at(3 + 43);
        assert_eq!(before, format!("fg_{}", "0".repeat(43)));
        assert_eq!(sum, "3xzWg0");
        for seed in [0, 1, 128, 255] {
            let secret = made(SecretKind::Token, seed);
            assert_eq!(secret.len(), 52);
            assert!(Presented::new(secret.as_bytes()).is_well_formed(), "{seed}");
            let key = made(SecretKind::AdminKey, seed);
            assert_eq!(key.len(), 53);
            assert!(Presented::new(key.as_bytes()).is_admin_key());
            assert!(!Presented::new(key.as_bytes()).is_well_formed());
        }
    }

    #[test]
    fn every_mistyped_character_is_noticed() {
        let secret = made(SecretKind::Token, 42);
        for place in 3..secret.len() {
            let mut typo = secret.clone().into_bytes();
            typo[place] = if typo[place] == b'x' { b'y' } else { b'x' };
            assert!(!Presented::new(&typo).is_well_formed(), "{place}");
        }
        for cut in 3..secret.len() {
            assert!(!Presented::new(&secret.as_bytes()[..cut]).is_well_formed());
        }
        assert!(!Presented::new(format!("{secret} ").as_bytes()).is_well_formed());
        assert!(!Presented::new(format!("{secret}0").as_bytes()).is_well_formed());
    }

    #[test]
    fn keys_of_another_make_are_left_to_the_table() {
        assert!(Presented::new(b"sk-1234").is_well_formed());
        assert!(!Presented::new(b"").is_well_formed());
        assert!(!Presented::new(b"fg_").is_well_formed());
    }

    #[test]
    fn nothing_prints_a_secret() {
        let secret = Secret::from_entropy(SecretKind::Token, &[9; ENTROPY_BYTES]);
        assert_eq!(format!("{secret:?}"), "Secret(…)");
        assert_eq!(format!("{:?}", Presented::new(b"abc")), "Presented(…)");
    }
}
