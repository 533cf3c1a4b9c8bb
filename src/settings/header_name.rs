//! Names of headers that carry a credential or say who calls.

use http::HeaderName;

use crate::strict_toml::Complaint;

/// Headers with a meaning of their own: carrying something else in them, or removing them, breaks
/// requests or lets a client steer who it is.
const TAKEN: [&str; 27] = [
    "accept",
    "accept-encoding",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "cookie",
    "date",
    "expect",
    "forwarded",
    "host",
    "http2-settings",
    "keep-alive",
    "origin",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "range",
    "te",
    "traceparent",
    "tracestate",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "via",
    "x-real-ip",
    "x-request-id",
];

/// Whole families of such headers.
const TAKEN_PREFIXES: [&str; 6] =
    ["x-forwarded-", "sec-", "grpc-", "access-control-", "faregate-", "x-http-method"];

/// Reads a header's name, in lower case.
pub(super) fn header_name(text: &str) -> Result<String, Complaint> {
    const REMEDY: &str = "write a name of your own, such as \"x-api-key\"";
    let name = HeaderName::from_bytes(text.as_bytes())
        .map_err(|_| Complaint::new("is no name of a header", REMEDY))?;
    let name = name.as_str();
    if name.contains('_') {
        return Err(Complaint::new(
            "has a `_`: such headers are dropped from every request, since servers confuse `_` and `-`",
            "write `-` instead of `_`",
        ));
    }
    if TAKEN.contains(&name) || TAKEN_PREFIXES.iter().any(|prefix| name.starts_with(prefix)) {
        return Err(Complaint::new("is a header with a meaning of its own", REMEDY));
    }
    if name == "authorization" {
        return Err(Complaint::new(
            "is `Authorization`, which has schemes",
            "write \"bearer\" or \"basic\" among the `credentials` for what stands in it",
        ));
    }
    Ok(name.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_ones_own_are_taken() {
        for (text, expected) in [
            ("x-api-key", Some("x-api-key")),
            ("X-Api-Key", Some("x-api-key")),
            ("apikey", Some("apikey")),
            ("", None),
            ("x api", None),
            ("x:api", None),
            ("é", None),
            (":path", None),
            ("x_api_key", None),
            ("Host", None),
            ("authorization", None),
            ("Transfer-Encoding", None),
            ("x-forwarded-for", None),
            ("sec-websocket-protocol", None),
        ] {
            assert_eq!(header_name(text).ok().as_deref(), expected, "{text}");
        }
    }
}
