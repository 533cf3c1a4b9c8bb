use std::borrow::Cow;

/// Replaces whatever looks like a secret of ours (`fg_…`, `fga_…` with eight or more characters
/// behind it) by `fg_[redacted]`, for texts that go into logs and messages.
#[must_use]
pub fn redact(text: &str) -> Cow<'_, str> {
    // Most texts have neither; one search tells.
    if !text.contains("fg_") && !text.contains("fga_") {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, prefix, after)) = next_prefix(rest) {
        out.push_str(before);
        out.push_str(prefix);
        let length = after.bytes().take_while(u8::is_ascii_alphanumeric).count();
        if length >= SHORTEST {
            out.push_str("[redacted]");
            rest = &after[length..];
        } else {
            // Too short to be one; but another may begin within it (`fg_fg_…`).
            rest = after;
        }
    }
    out.push_str(rest);
    Cow::Owned(out)
}

/// Fewer characters than this behind a prefix are a word (`cfg_file`).
const SHORTEST: usize = 8;

fn next_prefix(text: &str) -> Option<(&str, &str, &str)> {
    let (place, prefix) = ["fg_", "fga_"]
        .into_iter()
        .filter_map(|prefix| Some((text.find(prefix)?, prefix)))
        .min()?;
    Some((&text[..place], prefix, &text[place + prefix.len()..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hides_secrets_and_nothing_else() {
        for (text, expected) in [
            ("", ""),
            ("plain", "plain"),
            ("fg_", "fg_"),
            ("cfg_file", "cfg_file"),
            ("a fg_0123456789 b fga_ABCDEFGHIJ", "a fg_[redacted] b fga_[redacted]"),
            ("fg_12345678/fg_12345678", "fg_[redacted]/fg_[redacted]"),
            ("é fg_é", "é fg_é"),
            ("fg_fg_0123456789", "fg_fg_[redacted]"),
            ("fga_fga_fg_0123456789_fg_01234567", "fga_fga_fg_[redacted]_fg_[redacted]"),
        ] {
            assert_eq!(redact(text), expected);
        }
    }
}
