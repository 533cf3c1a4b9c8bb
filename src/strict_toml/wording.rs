/// The text, when it is surely a plain name that may be shown in a message: short, of
/// `A-Z a-z 0-9 . _ - /`, and unlike a secret, a hash or a key.
///
/// Somebody may have put a secret where a name belongs; a message that quoted it would carry it
/// into a log.
#[must_use]
pub fn plain_name(text: &str) -> Option<&str> {
    let is_plain =
        |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-' | b'/');
    let digits = text.bytes().filter(u8::is_ascii_digit).count();
    let is_word_like = text.len() < 20 || (text.len() <= 48 && digits * 6 < text.len());
    let is_key_like = ["sk-", "fg_", "fga_", "hf_", "ghp_", "glpat-", "xox"]
        .iter()
        .any(|prefix| text.to_ascii_lowercase().contains(prefix));
    (!text.is_empty() && text.bytes().all(is_plain) && is_word_like && !is_key_like).then_some(text)
}

/// The name among `known` that somebody who wrote `given` most likely meant.
#[must_use]
pub fn closest<'k>(given: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    let folded = |text: &str| text.to_lowercase().replace(['-', '_', '.', ' '], "");
    let given = folded(given);
    // Long names are no near misses of anything here, and the distance takes quadratic time.
    if given.len() > 64 {
        return None;
    }
    known
        .into_iter()
        .map(|name| (distance(&given, &folded(name)), name))
        .filter(|(distance, name)| *distance <= (name.len() / 3).min(3))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

/// How many letters must be put in, left out, replaced or swapped with their neighbour.
fn distance(one: &str, other: &str) -> usize {
    let one: Vec<char> = one.chars().collect();
    let other: Vec<char> = other.chars().collect();
    let mut rows: Vec<Vec<usize>> = vec![(0..=other.len()).collect()];
    for i in 1..=one.len() {
        let mut row = vec![i];
        for j in 1..=other.len() {
            let replaced = rows[i - 1][j - 1] + usize::from(one[i - 1] != other[j - 1]);
            let mut best = replaced.min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && one[i - 1] == other[j - 2] && one[i - 2] == other[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows[one.len()][other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_harmless_names_are_shown() {
        for name in
            ["listen", "max_headers", "kserve-v2", "expected_response_header_timeout", "a/b"]
        {
            assert_eq!(plain_name(name), Some(name));
        }
        for name in [
            "",
            "a b",
            "a\nb",
            "é",
            "fg_a",
            "xFGA_a",
            "sk-1234",
            "6f1c6f1c6f1c6f1c6f1c6f1c6f1c6f1c6f1c6f1c6f1c6f1c6f1c6f1c6f1c6f1c",
            "Zk3J9dQ2mB7xLrA81hTs",
            &"x".repeat(49),
        ] {
            assert_eq!(plain_name(name), None, "{name}");
        }
    }

    #[test]
    fn near_misses_are_found() {
        let known = ["listen", "workers", "tls", "max_header_bytes", "max_headers"];
        for (given, expected) in [
            ("listn", Some("listen")),
            ("lsiten", Some("listen")),
            ("Listen", Some("listen")),
            ("worker", Some("workers")),
            ("maxHeaders", Some("max_headers")),
            ("max-header-bytes", Some("max_header_bytes")),
            ("port", None),
            ("ssl", None),
            ("", None),
        ] {
            assert_eq!(closest(given, known), expected, "{given}");
        }
    }
}
