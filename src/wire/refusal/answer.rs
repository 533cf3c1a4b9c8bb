//! The answer that a refusal becomes, in the client's protocol and dialect.

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderValue};
use http::{Response, StatusCode};
use http_body_util::Full;
use serde_json::json;

use super::{Challenge, Refusal, Row};
use crate::policy::{Dialect, Reason};
use crate::token::redact;
use crate::wire::headers::{FAREGATE_REASON, X_REQUEST_ID};

/// What is known of the request that is refused.
#[derive(Debug)]
pub struct Circumstances<'r> {
    /// The namespace's name, as the realm; the gate's own before one is known.
    pub realm: &'r str,
    /// The form of the route.
    pub dialect: Dialect,
    /// Whether the client speaks gRPC.
    pub is_grpc: bool,
    /// Whether a browser may be asked for user name and password.
    pub offers_basic: bool,
    /// The group that is missing, where one is.
    pub missing_group: Option<&'r str>,
    /// The id of the request.
    pub request_id: &'r HeaderValue,
    /// The path of the request.
    pub path: &'r str,
}

/// Whether the client is a browser that shows pages, by its `Accept`.
#[must_use]
pub fn accepts_html(headers: &HeaderMap) -> bool {
    headers
        .get_all(header::ACCEPT)
        .iter()
        .any(|line| line.to_str().is_ok_and(|line| line.to_ascii_lowercase().contains("text/html")))
}

/// The answer.
#[must_use]
pub fn answer(refusal: Refusal, at: &Circumstances<'_>) -> Response<Full<Bytes>> {
    let row = refusal.row();
    let mut response =
        if at.is_grpc { in_grpc(refusal, &row, at) } else { in_http(refusal, &row, at) };
    let headers = response.headers_mut();
    headers.insert(FAREGATE_REASON, HeaderValue::from_static(refusal.public_reason()));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_REQUEST_ID, at.request_id.clone());
    response
}

/// What the client's user is told.
fn detail(refusal: Refusal, row: &Row, at: &Circumstances<'_>) -> String {
    match at.missing_group {
        Some(group) if refusal == Refusal::Denied(Reason::GroupNotAllowed) => {
            format!("{} It is `{group}`.", row.text)
        }
        _ => row.text.to_owned(),
    }
}

fn in_http(refusal: Refusal, row: &Row, at: &Circumstances<'_>) -> Response<Full<Bytes>> {
    let request_id = at.request_id.to_str().unwrap_or_default();
    let detail = detail(refusal, row, at);
    let reason = refusal.public_reason();
    let (content_type, body) = match at.dialect {
        Dialect::Problem => (
            "application/problem+json",
            json!({
                "type": "about:blank",
                "title": row.status.canonical_reason().unwrap_or_default(),
                "status": row.status.as_u16(),
                "detail": detail,
                "instance": redact(at.path),
                "reason": reason,
                "request_id": request_id,
            }),
        ),
        Dialect::OpenAi => (
            "application/json",
            json!({"error": {
                "message": detail,
                "type": openai_type(row.status),
                "code": reason,
                "param": null,
            }}),
        ),
        Dialect::ErrorText => ("application/json", json!({ "error": detail })),
    };
    let mut response = Response::new(Full::from(body.to_string()));
    *response.status_mut() = row.status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    for challenge in challenges(row, at) {
        if let Ok(challenge) = HeaderValue::try_from(challenge) {
            headers.append(header::WWW_AUTHENTICATE, challenge);
        }
    }
    if matches!(row.status.as_u16(), 502..=504) {
        headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    }
    if refusal == Refusal::MethodNotAllowed {
        let allowed = HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS");
        headers.insert(header::ALLOW, allowed);
    }
    response
}

fn challenges(row: &Row, at: &Circumstances<'_>) -> Vec<String> {
    // A namespace's name is of A-Za-z0-9._- and needs no quoting; a group is too.
    let realm = at.realm;
    let bearer = match row.challenge {
        Challenge::None => return Vec::new(),
        Challenge::NoToken => format!("Bearer realm=\"{realm}\""),
        Challenge::InvalidToken => format!("Bearer realm=\"{realm}\", error=\"invalid_token\""),
        Challenge::InvalidRequest => {
            format!("Bearer realm=\"{realm}\", error=\"invalid_request\"")
        }
        Challenge::InsufficientScope => match at.missing_group {
            Some(group) => {
                format!("Bearer realm=\"{realm}\", error=\"insufficient_scope\", scope=\"{group}\"")
            }
            None => format!("Bearer realm=\"{realm}\", error=\"insufficient_scope\""),
        },
    };
    let mut challenges = vec![bearer];
    if row.status == StatusCode::UNAUTHORIZED && at.offers_basic {
        challenges.push(format!("Basic realm=\"{realm}\""));
    }
    challenges
}

fn openai_type(status: StatusCode) -> &'static str {
    match status.as_u16() {
        401 => "authentication_error",
        403 => "permission_error",
        429 => "rate_limit_error",
        500.. => "server_error",
        _ => "invalid_request_error",
    }
}

/// Trailers-only: a client library reads the status from the headers of a response without body.
fn in_grpc(refusal: Refusal, row: &Row, at: &Circumstances<'_>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::default());
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    set_grpc_status(row, &detail(refusal, row, at), headers);
    response
}

/// The end of a gRPC call that is refused in its middle (gRPC over HTTP/2, "Responses").
#[must_use]
pub fn grpc_trailers(refusal: Refusal) -> HeaderMap {
    let mut trailers = HeaderMap::new();
    let row = refusal.row();
    set_grpc_status(&row, row.text, &mut trailers);
    trailers.insert(FAREGATE_REASON, HeaderValue::from_static(refusal.public_reason()));
    trailers
}

fn set_grpc_status(row: &Row, text: &str, headers: &mut HeaderMap) {
    headers.insert("grpc-status", HeaderValue::from(row.grpc as u16));
    if let Ok(message) = HeaderValue::try_from(grpc_escaped(text)) {
        headers.insert("grpc-message", message);
    }
}

/// `grpc-message` is percent-encoded outside printable ASCII (gRPC over HTTP/2, "Responses").
fn grpc_escaped(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'%' => "%25".into(),
            b' '..=b'~' => char::from(byte).to_string(),
            _ => format!("%{byte:02X}"),
        })
        .collect()
}
