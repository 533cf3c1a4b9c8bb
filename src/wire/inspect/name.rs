//! When a name is the one looked for, and when only some readers take it for that.

use unicode_normalization::UnicodeNormalization as _;

/// How a name stands to the one looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Likeness {
    /// It is that name.
    Same,
    /// Another, which some readers take for it: they fold letter case (Go's encoding/json, .NET),
    /// normalise, or stop at a NUL (readers on C strings).
    Alike,
    /// Another to all.
    Other,
}

/// How many bytes of a name decide about it. No character folds to less than one letter, and none
/// is longer than four bytes, so what is longer and has no NUL up to here is another name.
pub(super) fn decisive_bytes(wanted: &str) -> usize {
    4 * wanted.len() + 1
}

/// Compares the name of a JSON member. What lies beyond [`decisive_bytes`] need not be given.
pub(super) fn of_member(name: &str, wanted: &str) -> Likeness {
    if name == wanted {
        return Likeness::Same;
    }
    if name.is_ascii() && !name.contains('\0') {
        return if name.eq_ignore_ascii_case(wanted) { Likeness::Alike } else { Likeness::Other };
    }
    let cut = name.split('\0').next().unwrap_or_default();
    if folds_to(cut, wanted) { Likeness::Alike } else { Likeness::Other }
}

/// Compares the name of a form field. Readers of forms take more liberties than those of JSON:
/// `model[]` and `model[0]` are lists, names are trimmed, escapes decoded a second time.
pub(super) fn of_field(name: &str, wanted: &str) -> Likeness {
    if name == wanted {
        return Likeness::Same;
    }
    let spelt = |name: &str| {
        let cut = name.split(['\0', '[', '#']).next().unwrap_or_default();
        let trimmed = cut.trim_matches(|c: char| {
            c.is_whitespace() || c.is_control() || matches!(c, '.' | '"' | '\'')
        });
        folds_to(trimmed, wanted)
    };
    if spelt(name) || (name.contains(['%', '+']) && spelt(&decoded_again(name))) {
        Likeness::Alike
    } else {
        Likeness::Other
    }
}

/// Whether a name is the wanted one to somebody who folds it. By upper and then lower case, since
/// some compare the one and some the other: `ı` is `I` above and `ſ` is `S`.
fn folds_to(name: &str, wanted: &str) -> bool {
    let folded = name.nfkc().flat_map(char::to_uppercase).flat_map(lower_case);
    folded.eq(wanted.nfkc().flat_map(char::to_uppercase).flat_map(lower_case))
}

/// Some fold `İ` to a plain `i`, letter by letter.
fn lower_case(letter: char) -> impl Iterator<Item = char> {
    let letter = if letter == '\u{130}' { 'I' } else { letter };
    letter.to_lowercase()
}

/// Decodes `+` and percent escapes, and leaves alone what is none.
fn decoded_again(name: &str) -> String {
    let mut bytes = Vec::with_capacity(name.len());
    let mut rest = name.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let escape = match (first, after) {
            (b'%', [high, low, ..]) => hex_value(*high).zip(hex_value(*low)),
            _ => None,
        };
        rest = match escape {
            Some((high, low)) => {
                bytes.push(high << 4 | low);
                &after[2..]
            }
            None => {
                bytes.push(if first == b'+' { b' ' } else { first });
                after
            }
        };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The value of a hexadecimal digit.
pub(super) fn hex_value(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::Likeness::{Alike, Other, Same};
    use super::*;

    #[test]
    fn members_are_told_apart() {
        for (name, expected) in [
            ("model", Same),
            ("Model", Alike),
            ("MODEL", Alike),
            ("mOdEl", Alike),
            ("model\0", Alike),
            ("model\0x", Alike),
            ("MODEL\0x", Alike),
            ("\u{ff4d}odel", Alike),
            ("mod\u{ff25}l", Alike),
            ("\u{1d426}\u{1d428}\u{1d41d}\u{1d41e}\u{1d425}", Alike),
            ("mode\u{2113}", Alike),
            ("", Other),
            ("\0model", Other),
            ("mode", Other),
            ("models", Other),
            ("model_name", Other),
            ("model ", Other),
            ("m\u{f6}del", Other),
            ("mo\u{308}del", Other),
            // Letters of other alphabets that only look alike: no reader folds them.
            ("m\u{43e}del", Other),
        ] {
            assert_eq!(of_member(name, "model"), expected, "{name:?}");
        }
    }

    #[test]
    fn fields_are_told_apart() {
        for (name, expected) in [
            ("model", Same),
            ("Model", Alike),
            ("model[]", Alike),
            ("model[0]", Alike),
            ("model\0", Alike),
            (" model", Alike),
            ("model\r\n", Alike),
            ("model.", Alike),
            ("'model'", Alike),
            ("%6dodel", Alike),
            ("mod%65l", Alike),
            ("%4dODEL", Alike),
            ("model%00x", Alike),
            ("+model", Alike),
            ("model%", Other),
            ("%model", Other),
            ("models", Other),
            ("my model", Other),
            ("[model]", Other),
            ("data[model]", Other),
        ] {
            assert_eq!(of_field(name, "model"), expected, "{name:?}");
        }
    }

    /// All characters that are assigned: none is in what is left out.
    fn characters() -> impl Iterator<Item = char> {
        ('\0'..='\u{33fff}').chain('\u{e0000}'..='\u{e0fff}')
    }

    /// Of all characters, every one that some case mapping takes to a letter of the name.
    #[test]
    fn no_letter_of_any_alphabet_is_missed() {
        let mut met = Vec::new();
        for other in characters() {
            let lower = (other.to_lowercase(), other.to_lowercase().len() == 1);
            let upper = (other.to_uppercase(), other.to_uppercase().len() == 1);
            for (mut mapped, is_one) in
                [(lower.0.to_string(), lower.1), (upper.0.to_string(), upper.1)]
            {
                mapped.make_ascii_lowercase();
                for wanted in ["model", "task", "fizik"] {
                    if is_one && other.to_string() != mapped && wanted.contains(&mapped) {
                        let name = wanted.replacen(&mapped, &other.to_string(), 1);
                        assert_eq!(of_member(&name, wanted), Alike, "{other:?}");
                        assert!(name.len() < decisive_bytes(wanted));
                        met.push(other);
                    }
                }
            }
        }
        for letter in ['M', 'L', '\u{131}', '\u{17f}', '\u{212a}'] {
            assert!(met.contains(&letter), "{letter:?}");
        }
        assert_eq!(of_member("f\u{130}zik", "fizik"), Alike, "lower case in C# and Java");
    }

    /// What [`decisive_bytes`] relies on: whatever is made of a character, it does not vanish.
    #[test]
    fn no_character_folds_to_nothing() {
        for letter in characters() {
            let mut folded =
                std::iter::once(letter).nfkc().flat_map(char::to_uppercase).flat_map(lower_case);
            assert!(folded.next().is_some(), "{letter:?}");
        }
    }
}
