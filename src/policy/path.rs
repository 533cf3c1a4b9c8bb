use std::borrow::Cow;

use unicode_normalization::is_nfkc;

use super::model::{hex_value, percent_decoded};

/// The path of a request target, in the only spelling the gate accepts.
///
/// Nothing is ever normalised: the bytes that were judged are the bytes that are forwarded. So a
/// path is refused when a server behind might read it in a second way (RFC 3986, section 6.2.2):
/// dot segments, empty segments, `\`, `;`, escapes of what needs none or of what separates, escapes
/// in lower-case hex, bytes that are no `pchar`, text whose compatibility form hides a separator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestPath<'r> {
    raw: &'r str,
}

/// Why a path is refused; each is the reason `bad_path`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// It does not start with `/`.
    #[error("a path starts with `/`")]
    NotAbsolute,
    /// Longer than 8 KiB.
    #[error("a path is at most 8 KiB long")]
    TooLong,
    /// Two slashes in a row.
    #[error("a segment is empty")]
    EmptySegment,
    /// `.` or `..`.
    #[error("a segment is `.` or `..`")]
    DotSegment,
    /// A byte that may not stand in a path as it is, or that servers disagree on.
    #[error("a character may not stand in a path as it is")]
    Character,
    /// `%` without two upper-case hexadecimal digits.
    #[error("an escape is `%` and two upper-case hexadecimal digits")]
    Escape,
    /// An escape of a character that needs none, of a separator or of a control character.
    #[error("an escape stands for a character that must not be escaped")]
    NeedlessEscape,
    /// Escapes that do not decode to UTF-8.
    #[error("the escapes are not UTF-8")]
    NotUtf8,
    /// Text that becomes another when a server normalises it: a wide letter or slash, a letter and
    /// its accent apart.
    #[error("a character turns into another when it is normalised (NFKC)")]
    Lookalike,
}

/// The longest path, in bytes.
const MAX_BYTES: usize = 8 * 1024;

/// What a byte of a path is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    Plain,
    Slash,
    Escape,
    Refused,
}

/// RFC 3986 `pchar` less `;`: unreserved, sub-delims, `:` and `@`.
const CLASSES: [Class; 256] = {
    let mut classes = [Class::Refused; 256];
    let mut byte = 0;
    while byte < 128 {
        let plain = (byte as u8).is_ascii_alphanumeric()
            || matches!(
                byte as u8,
                b'-' | b'.'
                    | b'_'
                    | b'~'
                    | b'!'
                    | b'$'
                    | b'&'
                    | b'\''
                    | b'('
                    | b')'
                    | b'*'
                    | b'+'
                    | b','
                    | b'='
                    | b':'
                    | b'@'
            );
        if plain {
            classes[byte] = Class::Plain;
        }
        byte += 1;
    }
    classes[b'/' as usize] = Class::Slash;
    classes[b'%' as usize] = Class::Escape;
    classes
};

impl<'r> RequestPath<'r> {
    /// Reads the path of a request target, without query.
    ///
    /// # Errors
    /// When it has, or may be taken to have, a second spelling.
    pub fn parse(raw: &'r str) -> Result<Self, PathError> {
        if raw.len() > MAX_BYTES {
            return Err(PathError::TooLong);
        }
        let bytes = raw.as_bytes();
        if bytes.first() != Some(&b'/') {
            return Err(PathError::NotAbsolute);
        }
        let mut escaped = false;
        let mut segment_start = 1;
        let mut place = 1;
        while let Some(&byte) = bytes.get(place) {
            match CLASSES[usize::from(byte)] {
                Class::Plain => place += 1,
                Class::Slash => {
                    check_segment(&bytes[segment_start..place], false)?;
                    place += 1;
                    segment_start = place;
                }
                Class::Escape => {
                    check_escape(&bytes[place..])?;
                    escaped = true;
                    place += 3;
                }
                Class::Refused => return Err(PathError::Character),
            }
        }
        check_segment(&bytes[segment_start..], true)?;
        let path = Self { raw };
        if escaped {
            path.check_decoded()?;
        }
        Ok(path)
    }

    /// The path as it came and as it is forwarded.
    #[must_use]
    pub fn as_str(&self) -> &'r str {
        self.raw
    }

    /// What follows the first slash: segments parted by `/`, an empty last one for a trailing slash.
    pub(super) fn tail(&self) -> &'r str {
        &self.raw[1..]
    }

    fn check_decoded(&self) -> Result<(), PathError> {
        for segment in self.tail().split('/').filter(|segment| segment.contains('%')) {
            let decoded = percent_decoded(segment).ok_or(PathError::NotUtf8)?;
            if decoded.chars().any(char::is_control) {
                return Err(PathError::NeedlessEscape);
            }
            if !is_nfkc(&decoded) {
                return Err(PathError::Lookalike);
            }
        }
        Ok(())
    }
}

/// A segment of a path that was parsed, decoded. Borrowed where nothing was escaped.
#[must_use]
pub fn decoded_segment(segment: &str) -> Cow<'_, str> {
    percent_decoded(segment).unwrap_or(Cow::Borrowed(segment))
}

fn check_segment(segment: &[u8], is_last: bool) -> Result<(), PathError> {
    match segment {
        b"" if !is_last => Err(PathError::EmptySegment),
        b"." | b".." => Err(PathError::DotSegment),
        _ => Ok(()),
    }
}

fn check_escape(bytes: &[u8]) -> Result<(), PathError> {
    let [b'%', high, low, ..] = bytes else { return Err(PathError::Escape) };
    if high.is_ascii_lowercase() || low.is_ascii_lowercase() {
        return Err(PathError::Escape);
    }
    let (Some(high), Some(low)) = (hex_value(*high), hex_value(*low)) else {
        return Err(PathError::Escape);
    };
    let byte = high << 4 | low;
    let needless = byte.is_ascii_alphanumeric()
        || byte.is_ascii_control()
        || matches!(byte, b'-' | b'.' | b'_' | b'~' | b'/' | b'\\' | b'%' | b'#' | b'?' | b';');
    if needless { Err(PathError::NeedlessEscape) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_ordinary_paths() {
        for good in [
            "/",
            "/iris",
            "/iris/",
            "/iris/eval",
            "/v1/models/x:predict",
            "/a.b/c..d/...",
            "/caf%C3%A9",
            "/a%20b",
            "/a%2Bb",
            "/~user/a-b_c",
            "/!$&'()*+,=:@",
            "/a%3Ab",
        ] {
            assert!(RequestPath::parse(good).is_ok(), "{good}");
        }
    }

    #[test]
    fn refuses_every_second_spelling() {
        use PathError::{
            Character, DotSegment, EmptySegment, Escape, Lookalike, NeedlessEscape, NotAbsolute,
            NotUtf8,
        };
        for (bad, error) in [
            ("", NotAbsolute),
            ("iris", NotAbsolute),
            ("*", NotAbsolute),
            ("?a", NotAbsolute),
            ("//", EmptySegment),
            ("//iris", EmptySegment),
            ("/iris//eval", EmptySegment),
            ("/iris//", EmptySegment),
            ("/.", DotSegment),
            ("/..", DotSegment),
            ("/iris/./eval", DotSegment),
            ("/iris/../eval", DotSegment),
            ("/iris/..", DotSegment),
            ("/../", DotSegment),
            ("/a\\b", Character),
            ("/a;b", Character),
            ("/..;/b", Character),
            ("/a b", Character),
            ("/a\"b", Character),
            ("/a<b", Character),
            ("/a^b", Character),
            ("/a|b", Character),
            ("/{a}", Character),
            ("/a[b]", Character),
            ("/caf\u{e9}", Character),
            ("/a\u{0}b", Character),
            ("/a\u{7f}", Character),
            ("/a?b", Character),
            ("/a#b", Character),
            ("/`", Character),
            ("/%", Escape),
            ("/%2", Escape),
            ("/%zz", Escape),
            ("/%%41", Escape),
            ("/caf%c3%a9", Escape),
            ("/%+1", Escape),
            ("/a%2/b", Escape),
            ("/%61", NeedlessEscape),
            ("/%41", NeedlessEscape),
            ("/%2D", NeedlessEscape),
            ("/%2E%2E", NeedlessEscape),
            ("/%2F", NeedlessEscape),
            ("/%5C", NeedlessEscape),
            ("/%25", NeedlessEscape),
            ("/%252E", NeedlessEscape),
            ("/%23", NeedlessEscape),
            ("/%3F", NeedlessEscape),
            ("/%3B", NeedlessEscape),
            ("/%00", NeedlessEscape),
            ("/%0A", NeedlessEscape),
            ("/%7F", NeedlessEscape),
            ("/%C2%85", NeedlessEscape),
            ("/%7E", NeedlessEscape),
            ("/%C0%AF", NotUtf8),
            ("/%FF", NotUtf8),
            ("/%C3", NotUtf8),
            ("/%C3/%A9", NotUtf8),
            ("/%ED%A0%80", NotUtf8),
            ("/a%EF%BC%8Fb", Lookalike),
            ("/%EF%BC%8E%EF%BC%8E", Lookalike),
            ("/%E2%84%80", Lookalike),
            ("/%EF%BC%9B", Lookalike),
            ("/%E2%80%A5", Lookalike),
            ("/%EF%BD%81dmin", Lookalike),
            ("/cafe%CC%81", Lookalike),
            ("/a%EF%BC%9Fb", Lookalike),
        ] {
            assert_eq!(RequestPath::parse(bad), Err(error), "{bad:?}");
        }
    }

    #[test]
    fn is_long_but_not_too_long() {
        assert!(RequestPath::parse(&format!("/{}", "a".repeat(8191))).is_ok());
        assert_eq!(RequestPath::parse(&format!("/{}", "a".repeat(8192))), Err(PathError::TooLong));
    }
}
