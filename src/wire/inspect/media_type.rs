//! What a request says its body is.

use http::{HeaderMap, HeaderName, header};

use super::{Boundary, Fault};

/// The form of a body, as `content-type` names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MediaType {
    /// None is named.
    Missing,
    /// `application/json` or `application/…+json`.
    Json,
    /// `application/x-www-form-urlencoded`.
    UrlEncoded,
    /// `multipart/form-data`, with what stands between its parts.
    Multipart(Boundary),
    /// `application/grpc` or `application/grpc+proto`: protocol buffers. Not `grpc+json`, whose
    /// messages are JSON, nor `grpc-web`, which is framed in another way.
    Grpc,
    /// Any other.
    Other,
}

impl MediaType {
    /// Reads `content-type`.
    ///
    /// # Errors
    /// [`Fault::BadBody`] when it is there twice or malformed, or a form's boundary is missing or one
    /// that readers take differently; [`Fault::UnsupportedEncoding`] for a `charset` other than
    /// UTF-8: some servers heed it, and in UTF-7 `+AG0-odel` is a way to write `model`.
    pub fn of(headers: &HeaderMap) -> Result<Self, Fault> {
        let Some(line) = only(headers, &header::CONTENT_TYPE)? else { return Ok(Self::Missing) };
        let (essence, rest) = line.split_at(line.find(';').unwrap_or(line.len()));
        let essence = essence.trim_matches(OWS).to_ascii_lowercase();
        let (kind, subtype) = essence.split_once('/').ok_or(Fault::BadBody)?;
        if !is_token(kind) || !is_token(subtype) {
            return Err(Fault::BadBody);
        }
        let is_multipart = essence == "multipart/form-data";
        let mut boundary = None;
        for parameter in parameters(rest) {
            let Parameter { name, value } = match parameter? {
                Some(parameter) => parameter,
                // RFC 9110, section 5.6.6 allows empty ones; not all who look for a boundary do.
                None if !is_multipart => continue,
                None => return Err(Fault::BadBody),
            };
            if name.eq_ignore_ascii_case("charset") {
                require_utf_8(value)?;
            } else if is_multipart {
                // Only once, and no other parameter: `boundary*0` is a boundary to some.
                if !name.eq_ignore_ascii_case("boundary") || boundary.is_some() {
                    return Err(Fault::BadBody);
                }
                boundary = Some(Boundary::parse(value).ok_or(Fault::BadBody)?);
            }
        }
        Ok(match essence.as_str() {
            "application/json" => Self::Json,
            "application/x-www-form-urlencoded" => Self::UrlEncoded,
            "multipart/form-data" => Self::Multipart(boundary.ok_or(Fault::BadBody)?),
            "application/grpc" | "application/grpc+proto" => Self::Grpc,
            _ if kind == "application" && subtype.ends_with("+json") && !is_grpc(subtype) => {
                Self::Json
            }
            _ => Self::Other,
        })
    }
}

fn is_grpc(subtype: &str) -> bool {
    subtype.starts_with("grpc")
}

/// What a compressed body says is not read, so it must not be compressed.
///
/// # Errors
/// [`Fault::UnsupportedEncoding`] for any `content-encoding` but `identity`.
pub fn require_identity_coding(headers: &HeaderMap) -> Result<(), Fault> {
    let is_identity = |line: &http::HeaderValue| {
        line.to_str().is_ok_and(|line| line.trim_matches(OWS).eq_ignore_ascii_case("identity"))
    };
    if headers.get_all(header::CONTENT_ENCODING).iter().all(is_identity) {
        Ok(())
    } else {
        Err(Fault::UnsupportedEncoding)
    }
}

/// The one value of a header, if there is one.
fn only<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Result<Option<&'h str>, Fault> {
    let mut lines = headers.get_all(name).iter();
    let Some(line) = lines.next() else { return Ok(None) };
    if lines.next().is_some() {
        return Err(Fault::BadBody);
    }
    line.to_str().map(Some).map_err(|_| Fault::BadBody)
}

/// Optional white space (RFC 9110, section 5.6.3).
const OWS: [char; 2] = [' ', '\t'];

/// A parameter of a header (RFC 9110, section 5.6.6), without the quotes of its value.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Parameter<'h> {
    pub(super) name: &'h str,
    pub(super) value: &'h str,
}

/// The parameters in what follows a header's first word: each after a `;`, none for an empty one.
///
/// Values are tokens or stand in quotes. In quotes no `\`: some readers drop it, some keep it, and
/// to some the quote after it ends the value.
pub(super) fn parameters(
    mut rest: &str,
) -> impl Iterator<Item = Result<Option<Parameter<'_>>, Fault>> {
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let read = parameter(rest);
        // After a mistake there is nothing to go on with.
        rest = read.as_ref().map_or("", |(_, rest)| *rest);
        Some(read.map(|(parameter, _)| parameter).ok_or(Fault::BadBody))
    })
}

/// A `;` and the parameter after it, and what follows that.
fn parameter(text: &str) -> Option<(Option<Parameter<'_>>, &str)> {
    let text = text.trim_start_matches(OWS);
    if text.is_empty() {
        return Some((None, ""));
    }
    let text = text.strip_prefix(';')?.trim_start_matches(OWS);
    if text.is_empty() || text.starts_with(';') {
        return Some((None, text));
    }
    let (name, text) = text.split_once('=')?;
    let (value, rest) = match text.strip_prefix('"') {
        Some(quoted) => quoted.split_once('"')?,
        None => text.split_at(text.find([';', ' ', '\t']).unwrap_or(text.len())),
    };
    let is_quoted = text.starts_with('"');
    let is_value = if is_quoted {
        !value.contains(|c: char| c == '\\' || c.is_control())
    } else {
        is_token(value)
    };
    let ends = rest.trim_start_matches(OWS);
    (is_token(name) && is_value && (ends.is_empty() || ends.starts_with(';')))
        .then_some((Some(Parameter { name, value }), ends))
}

/// A token (RFC 9110, section 5.6.2).
pub(super) fn is_token(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

/// The encoding of characters must be UTF-8, of which ASCII is a part.
pub(super) fn require_utf_8(charset: &str) -> Result<(), Fault> {
    let names = ["utf-8", "utf8", "us-ascii", "ascii"];
    if names.iter().any(|name| charset.eq_ignore_ascii_case(name)) {
        Ok(())
    } else {
        Err(Fault::UnsupportedEncoding)
    }
}

#[cfg(test)]
mod tests {
    use super::Fault::{BadBody, UnsupportedEncoding};
    use super::*;

    fn headers(name: &HeaderName, lines: &[&str]) -> HeaderMap {
        lines.iter().map(|line| (name.clone(), line.parse().unwrap())).collect()
    }

    fn of(lines: &[&str]) -> Result<MediaType, Fault> {
        MediaType::of(&headers(&header::CONTENT_TYPE, lines))
    }

    fn multipart(boundary: &str) -> MediaType {
        MediaType::Multipart(Boundary::parse(boundary).unwrap())
    }

    #[test]
    fn content_types_are_read() {
        use MediaType::{Grpc, Json, Missing, Other, UrlEncoded};
        for (lines, expected) in [
            (&[][..], Ok(Missing)),
            (&["application/json"], Ok(Json)),
            (&["Application/JSON ; Charset=UTF-8"], Ok(Json)),
            (&["application/json; charset=\"utf-8\""], Ok(Json)),
            (&["application/json;"], Ok(Json)),
            (&["application/json; odata=verbose"], Ok(Json)),
            (&["application/vnd.api+json"], Ok(Json)),
            (&["application/x-www-form-urlencoded"], Ok(UrlEncoded)),
            (&["application/x-www-form-urlencoded;charset=utf-8"], Ok(UrlEncoded)),
            (&["multipart/form-data; boundary=abc"], Ok(multipart("abc"))),
            (&["multipart/form-data;boundary=\"a:b\""], Ok(multipart("a:b"))),
            (&["Multipart/Form-Data; charset=utf-8; Boundary=AbC"], Ok(multipart("AbC"))),
            (&["application/grpc"], Ok(Grpc)),
            (&["application/grpc+proto"], Ok(Grpc)),
            (&["application/grpc+json"], Ok(Other)),
            (&["application/grpc-web+proto"], Ok(Other)),
            (&["application/grpc-web+json"], Ok(Other)),
            (&["text/plain"], Ok(Other)),
            (&["multipart/mixed; boundary=abc"], Ok(Other)),
            (&["application/json", "application/json"], Err(BadBody)),
            (&[""], Err(BadBody)),
            (&["json"], Err(BadBody)),
            (&["application/json, text/plain"], Err(BadBody)),
            (&["application /json"], Err(BadBody)),
            (&["application/json charset=utf-8"], Err(BadBody)),
            (&["application/json; charset"], Err(BadBody)),
            (&["application/json; charset=utf-8 x"], Err(BadBody)),
            (&["application/json; charset=\"utf-8"], Err(BadBody)),
            (&["application/json; charset=\"utf\\-8\""], Err(BadBody)),
            (&["application/json; charset = utf-8"], Err(BadBody)),
            (&["application/json; charset=utf-7"], Err(UnsupportedEncoding)),
            (&["application/json; charset=UTF-16LE"], Err(UnsupportedEncoding)),
            (&["application/json; charset=utf-8; charset=utf-16"], Err(UnsupportedEncoding)),
            (&["application/json; charset=\"\""], Err(UnsupportedEncoding)),
            (&["multipart/form-data"], Err(BadBody)),
            (&["multipart/form-data; boundary="], Err(BadBody)),
            (&["multipart/form-data; boundary=\"\""], Err(BadBody)),
            (&["multipart/form-data; boundary=a; boundary=a"], Err(BadBody)),
            (&["multipart/form-data; boundary=a; boundary*=b"], Err(BadBody)),
            (&["multipart/form-data; boundary*0=a"], Err(BadBody)),
            (&["multipart/form-data; boundary=a; x=\"; boundary=b\""], Err(BadBody)),
            (&["multipart/form-data; boundary=a;"], Err(BadBody)),
            (&["multipart/form-data; boundary=a:b"], Err(BadBody)),
            (&["multipart/form-data; boundary=\"a b\""], Err(BadBody)),
            (&["multipart/form-data; boundary=\"a\\b\""], Err(BadBody)),
            (&["multipart/form-data; charset=utf-16; boundary=a"], Err(UnsupportedEncoding)),
        ] {
            assert_eq!(of(lines), expected, "{lines:?}");
        }
        let mut raw = HeaderMap::new();
        raw.insert(header::CONTENT_TYPE, http::HeaderValue::from_bytes(b"text/\xff").unwrap());
        assert_eq!(MediaType::of(&raw), Err(BadBody));
    }

    #[test]
    fn compressed_bodies_are_not_read() {
        for (lines, expected) in [
            (&[][..], Ok(())),
            (&["identity"], Ok(())),
            (&["Identity "], Ok(())),
            (&["gzip"], Err(UnsupportedEncoding)),
            (&["identity, gzip"], Err(UnsupportedEncoding)),
            (&["identity", "br"], Err(UnsupportedEncoding)),
            (&[""], Err(UnsupportedEncoding)),
        ] {
            let coded = headers(&header::CONTENT_ENCODING, lines);
            assert_eq!(require_identity_coding(&coded), expected, "{lines:?}");
        }
    }
}
