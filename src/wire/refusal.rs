//! How the gate says no: the one table from reasons to statuses, challenges and texts.

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderValue};
use http::{Response, StatusCode};
use http_body_util::Full;
use serde_json::json;

use super::headers::FAREGATE_REASON;
use crate::policy::{Dialect, Reason};
use crate::token::redact;

/// Everything that the gate answers instead of the model server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// The law said no.
    Denied(Reason),
    /// `CONNECT` and `TRACE`, which are never forwarded.
    MethodNotAllowed,
    /// More header lines than `max_headers`.
    TooManyHeaders,
    /// The client's body broke off or was not framed as HTTP frames bodies.
    BadBody,
    /// No connection to a model server could be made.
    Unreachable,
    /// No address is known for any model server.
    NoEndpoint,
    /// The model server closed or reset the connection before it answered.
    UpstreamReset,
    /// The model server's answer is no HTTP.
    UpstreamProtocol,
    /// The client's body did not go on for `body_idle_timeout`.
    BodyTimeout,
    /// No answer within `response_timeout`.
    UpstreamTimeout,
    /// As many requests in flight as `max_requests_in_flight` allows.
    Overloaded,
    /// The token's rights ended while the request waited for its answer.
    Revoked,
    /// A fault of the gate itself.
    Internal,
}

impl Refusal {
    /// Every refusal, for tables in tests and docs.
    #[must_use]
    pub fn all() -> Vec<Self> {
        let others = [
            Self::MethodNotAllowed,
            Self::TooManyHeaders,
            Self::BadBody,
            Self::Unreachable,
            Self::NoEndpoint,
            Self::UpstreamReset,
            Self::UpstreamProtocol,
            Self::BodyTimeout,
            Self::UpstreamTimeout,
            Self::Overloaded,
            Self::Revoked,
            Self::Internal,
        ];
        Reason::ALL.into_iter().map(Self::Denied).chain(others).collect()
    }

    /// As in `faregate-reason`, logs and metrics; on the wire see [`Self::public_reason`].
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Denied(reason) => reason.as_str(),
            Self::MethodNotAllowed => "method_not_allowed",
            Self::TooManyHeaders => "too_many_headers",
            Self::BadBody => "bad_body",
            Self::Unreachable => "upstream_unreachable",
            Self::NoEndpoint => "no_endpoint",
            Self::UpstreamReset => "upstream_reset",
            Self::UpstreamProtocol => "upstream_protocol",
            Self::BodyTimeout => "body_timeout",
            Self::UpstreamTimeout => "upstream_timeout",
            Self::Overloaded => "overloaded",
            Self::Revoked => "revoked",
            Self::Internal => "internal_error",
        }
    }

    /// What the client is told: for a bad token never in which way it is bad.
    #[must_use]
    pub fn public_reason(self) -> &'static str {
        match self.row().challenge {
            Challenge::InvalidToken => "invalid_token",
            _ => self.as_str(),
        }
    }

    /// The HTTP status.
    #[must_use]
    pub fn status(self) -> StatusCode {
        self.row().status
    }

    fn row(self) -> Row {
        use Challenge::{InsufficientScope, InvalidRequest, InvalidToken, NoToken, None};
        let row = |status, grpc, challenge, text| Row { status, grpc, challenge, text };
        match self {
            Self::Denied(reason) => match reason {
                Reason::BadTarget => row(
                    StatusCode::BAD_REQUEST,
                    Grpc::InvalidArgument,
                    None,
                    "The request target or the framing of the request is not in a form that every \
                     server reads alike.",
                ),
                Reason::BadHost => row(
                    StatusCode::BAD_REQUEST,
                    Grpc::InvalidArgument,
                    None,
                    "The request must name one host, in `Host` or `:authority`, as a name or an \
                     address with an optional port.",
                ),
                Reason::BadPath => row(
                    StatusCode::BAD_REQUEST,
                    Grpc::InvalidArgument,
                    None,
                    "The path has another spelling, or a server may read it in another way: write \
                     it without dot segments, double slashes, backslashes, semicolons and needless \
                     escapes.",
                ),
                Reason::UnknownHost => row(
                    StatusCode::NOT_FOUND,
                    Grpc::NotFound,
                    None,
                    "No namespace is served under this host name.",
                ),
                Reason::AmbiguousCredential => row(
                    StatusCode::BAD_REQUEST,
                    Grpc::InvalidArgument,
                    InvalidRequest,
                    "The request carries several credentials: send one token, in one place.",
                ),
                Reason::NoCredential => row(
                    StatusCode::UNAUTHORIZED,
                    Grpc::Unauthenticated,
                    NoToken,
                    "A token is needed: send it as `Authorization: Bearer …`. An administrator of \
                     the namespace can issue one.",
                ),
                Reason::UnknownToken | Reason::ExpiredToken | Reason::DisabledToken => row(
                    StatusCode::UNAUTHORIZED,
                    Grpc::Unauthenticated,
                    InvalidToken,
                    "The token is not valid: ask an administrator of the namespace for another.",
                ),
                Reason::RouteDenied => row(
                    StatusCode::FORBIDDEN,
                    Grpc::PermissionDenied,
                    InsufficientScope,
                    "This path is closed to everybody.",
                ),
                Reason::NoRoute => row(
                    StatusCode::FORBIDDEN,
                    Grpc::PermissionDenied,
                    InsufficientScope,
                    "No route of the namespace is for this method and path; an administrator can \
                     add one to the settings.",
                ),
                Reason::GroupNotAllowed => row(
                    StatusCode::FORBIDDEN,
                    Grpc::PermissionDenied,
                    InsufficientScope,
                    "The token lacks the group that this call asks for; an administrator of the \
                     namespace can add it.",
                ),
                Reason::ResourceNotAllowed => row(
                    StatusCode::FORBIDDEN,
                    Grpc::PermissionDenied,
                    InsufficientScope,
                    "The token is not for this model; an administrator of the namespace can add it \
                     to the token's resources.",
                ),
                Reason::ModelUnresolved => row(
                    StatusCode::FORBIDDEN,
                    Grpc::PermissionDenied,
                    InsufficientScope,
                    "The request names no model, and this call is about one: name it.",
                ),
                Reason::ModelConflict => row(
                    StatusCode::BAD_REQUEST,
                    Grpc::InvalidArgument,
                    None,
                    "The request names several models: name one.",
                ),
                Reason::BadModel => row(
                    StatusCode::BAD_REQUEST,
                    Grpc::InvalidArgument,
                    None,
                    "What the request names is not a model id.",
                ),
            },
            Self::MethodNotAllowed => row(
                StatusCode::METHOD_NOT_ALLOWED,
                Grpc::Unimplemented,
                None,
                "This method is never forwarded.",
            ),
            Self::TooManyHeaders => row(
                StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
                Grpc::ResourceExhausted,
                None,
                "The request has too many header lines.",
            ),
            Self::BadBody => row(
                StatusCode::BAD_REQUEST,
                Grpc::InvalidArgument,
                None,
                "The body of the request broke off, or is not framed as it should be.",
            ),
            Self::Unreachable => row(
                StatusCode::BAD_GATEWAY,
                Grpc::Unavailable,
                None,
                "The model server cannot be reached.",
            ),
            Self::NoEndpoint => row(
                StatusCode::BAD_GATEWAY,
                Grpc::Unavailable,
                None,
                "No address of the model server is known.",
            ),
            Self::UpstreamReset => row(
                StatusCode::BAD_GATEWAY,
                Grpc::Unavailable,
                None,
                "The model server closed the connection before it answered.",
            ),
            Self::UpstreamProtocol => row(
                StatusCode::BAD_GATEWAY,
                Grpc::Unavailable,
                None,
                "The model server's answer cannot be understood.",
            ),
            Self::BodyTimeout => row(
                StatusCode::REQUEST_TIMEOUT,
                Grpc::DeadlineExceeded,
                None,
                "The body of the request did not come to its end in time.",
            ),
            Self::UpstreamTimeout => row(
                StatusCode::GATEWAY_TIMEOUT,
                Grpc::DeadlineExceeded,
                None,
                "The model server did not answer in time.",
            ),
            Self::Overloaded => row(
                StatusCode::SERVICE_UNAVAILABLE,
                Grpc::Unavailable,
                None,
                "Too many requests are in flight.",
            ),
            Self::Revoked => row(
                StatusCode::UNAUTHORIZED,
                Grpc::Unauthenticated,
                InvalidToken,
                "The token is not valid: ask an administrator of the namespace for another.",
            ),
            Self::Internal => row(
                StatusCode::INTERNAL_SERVER_ERROR,
                Grpc::Internal,
                None,
                "The gate failed to handle the request.",
            ),
        }
    }
}

/// One line of the table.
struct Row {
    status: StatusCode,
    grpc: Grpc,
    challenge: Challenge,
    text: &'static str,
}

/// RFC 6750, section 3.
#[derive(PartialEq)]
enum Challenge {
    None,
    NoToken,
    InvalidToken,
    InvalidRequest,
    InsufficientScope,
}

/// Status codes of gRPC.
#[derive(Clone, Copy)]
enum Grpc {
    InvalidArgument = 3,
    DeadlineExceeded = 4,
    NotFound = 5,
    PermissionDenied = 7,
    ResourceExhausted = 8,
    Unimplemented = 12,
    Internal = 13,
    Unavailable = 14,
    Unauthenticated = 16,
}

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
    let mut response = if at.is_grpc { in_grpc(&row) } else { in_http(refusal, &row, at) };
    let headers = response.headers_mut();
    headers.insert(FAREGATE_REASON, HeaderValue::from_static(refusal.public_reason()));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(super::headers::X_REQUEST_ID, at.request_id.clone());
    response
}

fn in_http(refusal: Refusal, row: &Row, at: &Circumstances<'_>) -> Response<Full<Bytes>> {
    let request_id = at.request_id.to_str().unwrap_or_default();
    let detail = match at.missing_group {
        Some(group) if refusal == Refusal::Denied(Reason::GroupNotAllowed) => {
            format!("{} It is `{group}`.", row.text)
        }
        _ => row.text.to_owned(),
    };
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
fn in_grpc(row: &Row) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::default());
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert("grpc-status", HeaderValue::from(row.grpc as u16));
    if let Ok(message) = HeaderValue::try_from(grpc_escaped(row.text)) {
        headers.insert("grpc-message", message);
    }
    response
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
