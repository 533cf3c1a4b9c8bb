//! How the gate says no: the one table from reasons to statuses, challenges and texts.

mod answer;

use http::StatusCode;

use crate::policy::Reason;

pub use answer::{Circumstances, accepts_html, answer, grpc_trailers};

/// Everything that the gate answers instead of the model server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// The law said no.
    Denied(Reason),
    /// `CONNECT` and `TRACE`, which are never forwarded.
    MethodNotAllowed,
    /// More header lines than `max_headers`.
    TooManyHeaders,
    /// A header that the gateway who asks cannot take out, and a model server may take for another.
    UnsafeHeader,
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
            Self::UnsafeHeader,
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
            Self::UnsafeHeader => "unsafe_header",
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

    /// The status of gRPC, as a number.
    #[must_use]
    pub fn grpc_status(self) -> u16 {
        self.row().grpc as u16
    }

    /// What the client is told in words.
    #[must_use]
    pub fn detail(self) -> &'static str {
        self.row().text
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
                Reason::BodyTooLarge => row(
                    StatusCode::PAYLOAD_TOO_LARGE,
                    Grpc::ResourceExhausted,
                    None,
                    "The body is too large to be read for the model that it names.",
                ),
                Reason::BadBody => row(
                    StatusCode::BAD_REQUEST,
                    Grpc::InvalidArgument,
                    None,
                    "The body of the request broke off, or is not framed as it should be, or is \
                     not what this call takes.",
                ),
                Reason::UnsupportedEncoding => row(
                    StatusCode::UNSUPPORTED_MEDIA_TYPE,
                    Grpc::Unimplemented,
                    None,
                    "The body names the model of this call, so it has to be sent without \
                     compression, and in a type that this call takes.",
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
            Self::UnsafeHeader => row(
                StatusCode::BAD_REQUEST,
                Grpc::InvalidArgument,
                None,
                "The request has a header that a server may take for one that only the gate sets, \
                 or for another method or path: leave it out.",
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
