//! Where a secret must not be, in any of the forms in which it could still be used or recovered.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE_NO_PAD};

/// All forms of some secrets, to be looked for in one pass over a text.
pub(crate) struct Forms {
    /// As they stand: the secret itself, and base64 of it alone or as the password of a user.
    exact: Needles,
    /// In lower case: the secret (a header name would still give it away), hex of it, its hash.
    folded: Needles,
}

impl Forms {
    pub(crate) fn of(secrets: &[String]) -> Self {
        let (mut exact, mut folded) = (Needles::default(), Needles::default());
        for (number, secret) in secrets.iter().enumerate() {
            let raw = secret.as_bytes();
            exact.add(number, "a secret", raw);
            for form in base64_forms(raw) {
                exact.add(number, "base64 of a secret", form.as_bytes());
            }
            folded.add(number, "a secret in another letter case", &raw.to_ascii_lowercase());
            let hex: String = raw.iter().map(|byte| format!("{byte:02x}")).collect();
            folded.add(number, "hex of a secret", hex.as_bytes());
            folded.add(number, "the hash of a secret", blake3::hash(raw).to_hex().as_bytes());
        }
        Self { exact, folded }
    }

    /// # Panics
    /// When one of the forms is in these bytes, as they are or with percent escapes decoded.
    pub(crate) fn assert_absent(&self, place: &str, bytes: &[u8]) {
        self.exact.assert_absent(place, bytes);
        self.folded.assert_absent(place, &bytes.to_ascii_lowercase());
        if bytes.contains(&b'%') {
            self.exact.assert_absent(place, &percent_decoded(bytes));
        }
    }
}

/// Texts to look for, all at once.
struct Needles {
    needles: Vec<(usize, &'static str, Vec<u8>)>,
    /// By the first two bytes: whether a needle starts so.
    starts: Vec<bool>,
}

impl Default for Needles {
    fn default() -> Self {
        Self { needles: Vec::new(), starts: vec![false; 1 << 16] }
    }
}

fn start(bytes: &[u8]) -> usize {
    usize::from(bytes[0]) << 8 | usize::from(bytes[1])
}

impl Needles {
    fn add(&mut self, number: usize, what: &'static str, needle: &[u8]) {
        self.starts[start(needle)] = true;
        self.needles.push((number, what, needle.to_vec()));
    }

    fn assert_absent(&self, place: &str, bytes: &[u8]) {
        for at in 0..bytes.len().saturating_sub(1) {
            let rest = &bytes[at..];
            if !self.starts[start(rest)] {
                continue;
            }
            if let Some((number, what, _)) =
                self.needles.iter().find(|(_, _, needle)| rest.starts_with(needle))
            {
                let around = &bytes[at.saturating_sub(200)..(at + 100).min(bytes.len())];
                panic!(
                    "{place}: {what} (number {number}) in {:?}",
                    String::from_utf8_lossy(around)
                );
            }
        }
    }
}

/// Base64 of the secret at each of the three offsets it can have in a longer text, less the ends
/// that depend on what stands beside it.
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

#[test]
fn every_form_is_found() {
    let secret = "fg_0123456789abcdefghijABCDEFGHIJ";
    let forms = Forms::of(&[secret.to_owned()]);
    forms.assert_absent("nothing", b"fg_0123456789abcdefghijABCDEFGHI and more");
    let hidden = [
        format!("before {secret} after"),
        secret.to_ascii_uppercase(),
        STANDARD.encode(format!("user:{secret}")),
        STANDARD.encode(format!("u:{secret}:x")),
        STANDARD.encode(format!(":{secret}")),
        URL_SAFE_NO_PAD.encode(secret),
        secret.bytes().map(|byte| format!("%{byte:02X}")).collect(),
        secret.bytes().map(|byte| format!("{byte:02X}")).collect(),
        blake3::hash(secret.as_bytes()).to_hex().to_uppercase(),
    ];
    for text in hidden {
        let found = std::panic::catch_unwind(|| forms.assert_absent("a text", text.as_bytes()));
        assert!(found.is_err(), "{text}");
    }
}
