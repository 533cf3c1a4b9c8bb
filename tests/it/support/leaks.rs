//! Where a secret must not be, in any of the forms in which it could still be used or recovered.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE_NO_PAD};

use super::http1::find;
use super::tokens;

/// Fails when one of the secrets is in these bytes: as it is, in hex, in base64 (alone, or as the password of a user),
/// percent-escaped; or its hash.
pub(crate) fn assert_no_secret(place: &str, bytes: &[u8], secrets: &[String]) {
    let unescaped = percent_decoded(bytes);
    let folded = bytes.to_ascii_lowercase();
    for secret in secrets {
        let id = secret_owner(secret);
        let raw = secret.as_bytes();
        assert!(
            find(bytes, raw).is_none(),
            "{place} holds the secret of {id}:\n{}",
            excerpt(bytes, raw)
        );
        assert!(
            find(&unescaped, raw).is_none(),
            "{place} holds the secret of {id}, percent-escaped"
        );
        // In lower case a header name would still give it away to a search.
        let lower = raw.to_ascii_lowercase();
        assert!(
            find(&folded, &lower).is_none(),
            "{place} holds the secret of {id} in another letter case"
        );
        let hex: String = raw.iter().map(|byte| format!("{byte:02x}")).collect();
        assert!(find(&folded, hex.as_bytes()).is_none(), "{place} holds the secret of {id} in hex");
        for form in base64_forms(raw) {
            assert!(
                find(bytes, form.as_bytes()).is_none(),
                "{place} holds the secret of {id} in base64"
            );
        }
        let digest = blake3::hash(raw).to_hex();
        assert!(
            find(&folded, digest.as_bytes()).is_none(),
            "{place} holds the hash of the secret of {id}"
        );
    }
}

fn secret_owner(secret: &str) -> String {
    let known = tokens::STANDARD.iter().find(|token| tokens::secret(token.id) == secret);
    known.map_or_else(|| "a token of the test".to_owned(), |token| token.id.to_owned())
}

/// Base64 of the secret at each of the three offsets it can have in a longer text, less the ends that depend on what
/// stands beside it.
fn base64_forms(secret: &[u8]) -> Vec<String> {
    let mut forms = vec![STANDARD.encode(secret)];
    for before in 0..3 {
        let mut text = vec![b'x'; before];
        text.extend_from_slice(secret);
        for encoded in [STANDARD_NO_PAD.encode(&text), URL_SAFE_NO_PAD.encode(&text)] {
            let cut = if before == 0 { 0 } else { before + 1 };
            forms.push(encoded[cut..encoded.len() - 2].to_owned());
        }
    }
    forms
}

pub(crate) fn percent_decoded(bytes: &[u8]) -> Vec<u8> {
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut place = 0;
    while place < bytes.len() {
        let digits =
            bytes.get(place + 1..place + 3).and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) if bytes[place] == b'%' => {
                decoded.push(byte);
                place += 3;
            }
            _ => {
                decoded.push(bytes[place]);
                place += 1;
            }
        }
    }
    decoded
}

fn excerpt(bytes: &[u8], found: &[u8]) -> String {
    let place = find(bytes, found).unwrap_or(0);
    let from = place.saturating_sub(200);
    let to = (place + found.len() + 50).min(bytes.len());
    String::from_utf8_lossy(&bytes[from..to]).into_owned()
}
