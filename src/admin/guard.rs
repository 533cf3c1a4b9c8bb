//! Who may speak to the admin listener at all: the right host name, no other site, JSON only.

use http::header::{self, HeaderMap, HeaderValue};
use http::request::Parts;
use http::{Method, StatusCode};

use super::problem::Refusal;
use crate::token::Presented;
use crate::wire::headers;
use crate::wire::target::{self, Host};

/// The host names that the listener answers to.
pub(super) struct AllowedHosts(Vec<String>);

impl AllowedHosts {
    pub(super) fn new(further: &[String]) -> Self {
        let own = ["localhost", "127.0.0.1", "[::1]"].map(String::from);
        Self(own.into_iter().chain(further.iter().cloned()).collect())
    }

    /// The host of a request, when it is one of ours. A page of another site can make a browser
    /// connect here under a name of its own (DNS rebinding), but then that name is the host.
    pub(super) fn check<'p>(&self, parts: &'p Parts) -> Result<Host<'p>, Refusal> {
        let host = target::host(&parts.uri, &parts.headers).map_err(|reason| {
            Refusal::new(
                StatusCode::BAD_REQUEST,
                reason.as_str(),
                "The request must name one host, in `Host`, and a path.",
            )
        })?;
        if !headers::is_framed_plainly(&parts.headers) || !has_plain_length(&parts.headers) {
            return Err(Refusal::bad_request(
                "The body is framed in a way that servers read apart.",
            ));
        }
        if self.0.iter().any(|own| own.eq_ignore_ascii_case(host.name)) {
            return Ok(host);
        }
        Err(Refusal::new(
            StatusCode::MISDIRECTED_REQUEST,
            "unknown_host",
            "This listener does not answer to this host name; an operator adds it to \
             `allowed_hosts` under `[admin]`.",
        ))
    }
}

/// Whether the length of the body is given once, and as everybody writes a number.
fn has_plain_length(headers: &HeaderMap) -> bool {
    let mut lines = headers.get_all(header::CONTENT_LENGTH).iter();
    let Some(length) = lines.next() else { return true };
    let digits = length.as_bytes();
    let is_plain = digits == b"0" || !digits.starts_with(b"0");
    is_plain && digits.iter().all(u8::is_ascii_digit) && lines.next().is_none()
}

/// Refuses what another site makes a browser send.
///
/// No cookie is ever read, so such a request has no rights; this keeps it from trying, too.
pub(super) fn check_site(parts: &Parts, host: &Host<'_>, is_page: bool) -> Result<(), Refusal> {
    let refused = || {
        Refusal::new(
            StatusCode::FORBIDDEN,
            "cross_site",
            "Another site made this request; open the token page itself.",
        )
    };
    let headers = &parts.headers;
    let mut sites = headers.get_all("sec-fetch-site").iter();
    let site = sites.next().map(HeaderValue::as_bytes);
    if sites.next().is_some() {
        return Err(refused());
    }
    match site {
        None | Some(b"same-origin" | b"none") => {}
        // Who follows a link from a wiki to the page does no more than who types its address.
        Some(_) if is_page && is_navigation(parts) => {}
        Some(_) => return Err(refused()),
    }
    let mut origins = headers.get_all(header::ORIGIN).iter();
    let Some(origin) = origins.next() else { return Ok(()) };
    let is_own = origin.to_str().is_ok_and(|origin| is_origin_of(origin, host.given));
    if is_own && origins.next().is_none() { Ok(()) } else { Err(refused()) }
}

fn is_navigation(parts: &Parts) -> bool {
    let is = |name: &str, value: &str| {
        parts.headers.get(name).is_some_and(|own| own.as_bytes() == value.as_bytes())
    };
    parts.method == Method::GET
        && is("sec-fetch-mode", "navigate")
        && is("sec-fetch-dest", "document")
}

/// Whether an origin is `http` or `https` of this host and port. The scheme is not compared: a
/// proxy before this listener may speak TLS for it.
fn is_origin_of(origin: &str, host: &str) -> bool {
    for (scheme, port) in [("http://", ":80"), ("https://", ":443")] {
        let Some(authority) = origin.strip_prefix(scheme) else { continue };
        let bare =
            |authority: &str| authority.strip_suffix(port).unwrap_or(authority).to_lowercase();
        return bare(authority) == bare(host);
    }
    false
}

/// The administrator key that a request brings.
#[derive(Debug)]
pub(super) enum Key<'p> {
    Missing,
    Presented(Presented<'p>),
}

/// Reads `Authorization: Bearer …` (RFC 6750, section 2.1); there is no other place for a key.
pub(super) fn key(headers: &HeaderMap) -> Result<Key<'_>, Refusal> {
    let mut lines = headers.get_all(header::AUTHORIZATION).iter();
    let Some(line) = lines.next() else { return Ok(Key::Missing) };
    if lines.next().is_some() {
        let detail = "The request carries several `Authorization` headers: send one key.";
        return Err(Refusal::new(StatusCode::BAD_REQUEST, "ambiguous_credential", detail));
    }
    let line = line.as_bytes();
    let after_scheme = line
        .split_at_checked(6)
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case(b"bearer"))
        .and_then(|(_, rest)| rest.strip_prefix(b" "));
    Ok(match after_scheme {
        Some(key) => Key::Presented(Presented::new(key.trim_ascii())),
        // Another scheme is a credential too, and a wrong one.
        None => Key::Presented(Presented::new(b"")),
    })
}

/// Refuses bodies that are no JSON: what a form of another site can send is none.
pub(super) fn check_content_type(headers: &HeaderMap, has_body: bool) -> Result<(), Refusal> {
    let refused = |detail: &'static str| {
        Err(Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", detail))
    };
    let mut types = headers.get_all(header::CONTENT_TYPE).iter();
    let given = types.next();
    if types.next().is_some() {
        return refused("Send one `Content-Type`.");
    }
    if headers.contains_key(header::CONTENT_ENCODING) {
        return refused("Send the body as it is, without `Content-Encoding`.");
    }
    match given {
        Some(given) if given.to_str().is_ok_and(is_json) => Ok(()),
        None if !has_body => Ok(()),
        _ => refused("Send the body as `Content-Type: application/json`."),
    }
}

fn is_json(content_type: &str) -> bool {
    let mut parts = content_type.split(';').map(str::trim);
    let is_json = parts.next().is_some_and(|kind| kind.eq_ignore_ascii_case("application/json"));
    is_json
        && parts.all(|parameter| {
            parameter.split_once('=').is_some_and(|(name, value)| {
                name.eq_ignore_ascii_case("charset")
                    && value.trim_matches('"').eq_ignore_ascii_case("utf-8")
            })
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(headers: &[(&str, &str)]) -> Parts {
        let mut request = http::Request::get("/").header("host", "localhost:9901");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    fn status(headers: &[(&str, &str)], is_page: bool) -> u16 {
        let parts = parts(headers);
        let hosts = AllowedHosts::new(&["admin.example".into()]);
        let checked = hosts.check(&parts).and_then(|host| check_site(&parts, &host, is_page));
        checked.map_or_else(|refusal| refusal.status.as_u16(), |()| 200)
    }

    #[test]
    fn other_sites_are_refused() {
        for (headers, api, page) in [
            (&[][..], 200, 200),
            (&[("origin", "http://localhost:9901")], 200, 200),
            (&[("origin", "https://localhost:9901")], 200, 200),
            (&[("origin", "http://LOCALHOST:9901")], 200, 200),
            (&[("origin", "http://localhost")], 403, 403),
            (&[("origin", "http://localhost:9902")], 403, 403),
            (&[("origin", "http://evil.example")], 403, 403),
            (&[("origin", "null")], 403, 403),
            (&[("origin", "http://localhost:9901"), ("origin", "http://evil.example")], 403, 403),
            (&[("sec-fetch-site", "same-origin")], 200, 200),
            (&[("sec-fetch-site", "none")], 200, 200),
            (&[("sec-fetch-site", "same-site")], 403, 403),
            (&[("sec-fetch-site", "cross-site")], 403, 403),
            (&[("sec-fetch-site", "none"), ("sec-fetch-site", "cross-site")], 403, 403),
            (
                &[
                    ("sec-fetch-site", "cross-site"),
                    ("sec-fetch-mode", "navigate"),
                    ("sec-fetch-dest", "document"),
                ],
                403,
                200,
            ),
            (
                &[
                    ("sec-fetch-site", "cross-site"),
                    ("sec-fetch-mode", "navigate"),
                    ("sec-fetch-dest", "iframe"),
                ],
                403,
                403,
            ),
        ] {
            assert_eq!((status(headers, false), status(headers, true)), (api, page), "{headers:?}");
        }
    }

    #[test]
    fn only_our_hosts_are_answered() {
        let hosts = AllowedHosts::new(&["admin.example".into()]);
        for (host, expected) in [
            ("localhost", 200),
            ("LocalHost.:1", 200),
            ("127.0.0.1:9901", 200),
            ("[::1]:9901", 200),
            ("admin.example", 200),
            ("127.0.0.2", 421),
            ("localhost.evil.example", 421),
            ("evil.example", 421),
            ("a/../localhost", 400),
            ("", 400),
        ] {
            let mut parts = parts(&[]);
            parts.headers.insert("host", host.parse().unwrap());
            let status = hosts.check(&parts).map_or_else(|no| no.status.as_u16(), |_| 200);
            assert_eq!(status, expected, "{host}");
        }
    }

    #[test]
    fn only_json_is_taken() {
        for (content_type, has_body, taken) in [
            (None, false, true),
            (None, true, false),
            (Some("application/json"), true, true),
            (Some("Application/JSON; charset=UTF-8"), true, true),
            (Some("application/json; charset=utf-16"), true, false),
            (Some("application/jsonp"), true, false),
            (Some("text/plain"), true, false),
            (Some("text/plain"), false, false),
            (Some("application/x-www-form-urlencoded"), true, false),
        ] {
            let mut headers = HeaderMap::new();
            if let Some(content_type) = content_type {
                headers.insert(header::CONTENT_TYPE, content_type.parse().unwrap());
            }
            let checked = check_content_type(&headers, has_body).is_ok();
            assert_eq!(checked, taken, "{content_type:?} {has_body}");
        }
    }
}
