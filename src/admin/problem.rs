//! How the admin API says no: problem details (RFC 9457).

use std::borrow::Cow;

use http::header::{self, HeaderValue};
use http::{Response, StatusCode};
use serde::Serialize;
use utoipa::ToSchema;
use zeroize::Zeroizing;

use super::response::{Body, json};
use crate::policy::{self, Problems};
use crate::token::redact;

/// What was wrong with one field of a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub(super) struct FieldError {
    /// The member of the body, or the parameter of the query.
    pub(super) field: String,
    /// Where in the body, as a JSON pointer (RFC 6901).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) pointer: Option<String>,
    /// What is wrong and what to write instead.
    pub(super) detail: String,
}

/// What is wrong in the token file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub(super) struct FileProblem {
    /// The line it stands on, from 1.
    line: Option<usize>,
    /// What is wrong.
    what: String,
    /// What to write instead.
    remedy: String,
}

/// A refusal: problem details as RFC 9457 has them, with members of our own.
#[derive(Serialize, ToSchema)]
pub(super) struct Problem<'p> {
    /// Always `about:blank`: `reason` tells the kind.
    r#type: &'static str,
    /// The name of the status.
    title: &'static str,
    /// The HTTP status.
    status: u16,
    /// What is wrong and what to do, for people.
    detail: Cow<'p, str>,
    /// The path of the request.
    instance: Cow<'p, str>,
    /// The kind of problem, for programs.
    reason: &'static str,
    /// The request's id, as in logs.
    request_id: &'p str,
    /// The first field that was wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<&'p str>,
    /// Every field that was wrong.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    errors: &'p [FieldError],
    /// What is wrong in the token file.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    problems: &'p [FileProblem],
    /// For a store that cannot be written: the TOML to put into the place it comes from.
    #[serde(skip_serializing_if = "Option::is_none")]
    stanza: Option<&'p str>,
    /// The secret that the stanza belongs to. It is shown this one time.
    #[serde(skip_serializing_if = "Option::is_none")]
    secret: Option<&'p str>,
}

/// Why a request is not answered as it wished.
pub(super) struct Refusal {
    pub(super) status: StatusCode,
    pub(super) reason: &'static str,
    /// Whether the token file says it nevertheless, or may.
    pub(super) is_written: bool,
    told: Box<Told>,
}

/// What a refusal tells beside its kind.
#[derive(Default)]
struct Told {
    detail: Cow<'static, str>,
    errors: Vec<FieldError>,
    problems: Vec<FileProblem>,
    stanza: Option<Stanza>,
    header: Option<(header::HeaderName, HeaderValue)>,
}

/// The longest text of a request that is said back, in characters.
const MAX_TOLD_CHARS: usize = 1000;

/// What a request said, as far as it may be said back: a secret in the wrong place is none of it.
fn tellable(text: &str) -> String {
    let told = redact(text);
    match told.char_indices().nth(MAX_TOLD_CHARS) {
        Some((end, _)) => format!("{}…", &told[..end]),
        None => told.into_owned(),
    }
}

/// An entry for a person to paste, and its secret where it has a new one.
pub(super) struct Stanza {
    pub(super) toml: String,
    pub(super) secret: Option<Zeroizing<String>>,
}

impl Refusal {
    pub(super) fn new(
        status: StatusCode,
        reason: &'static str,
        detail: impl Into<Cow<'static, str>>,
    ) -> Self {
        let told = Told { detail: detail.into(), ..Told::default() };
        Self { status, reason, is_written: false, told: Box::new(told) }
    }

    /// A fault of the gate itself; the log has to say which.
    pub(super) fn internal() -> Self {
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal_error",
            "Something went wrong here, and the log says what.",
        )
    }

    /// The request cannot be read.
    pub(super) fn bad_request(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad_request", detail)
    }

    /// The request can be read, and a field of it is wrong.
    pub(super) fn of_field(field: &str, detail: impl Into<String>) -> Self {
        let detail = detail.into();
        Self::of_fields(vec![FieldError { field: field.into(), pointer: None, detail }])
    }

    /// The request can be read, and these fields of it are wrong.
    pub(super) fn of_fields(errors: Vec<FieldError>) -> Self {
        let tellable_error = |error: FieldError| FieldError {
            field: tellable(&error.field),
            pointer: error.pointer.map(|pointer| tellable(&pointer)),
            detail: tellable(&error.detail),
        };
        let errors: Vec<FieldError> = errors.into_iter().map(tellable_error).collect();
        let detail = match errors.first() {
            Some(error) if error.field.is_empty() => error.detail.clone(),
            Some(error) => format!("{}: {}", error.field, error.detail),
            None => "A field is wrong.".into(),
        };
        let mut refusal = Self::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid_field", detail);
        refusal.told.errors = errors;
        refusal
    }

    /// What is wrong with values, as the law tells it.
    pub(super) fn of_problems(problems: Problems) -> Self {
        let told: Vec<String> = problems.sorted().iter().map(ToString::to_string).collect();
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid_field", told.join("; "))
    }

    /// The token file is wrong at present.
    pub(super) fn with_file_problems(mut self, problems: Vec<policy::Problem>) -> Self {
        let told = problems.into_iter().map(|policy::Problem { line, what, remedy }| FileProblem {
            line,
            what,
            remedy,
        });
        self.told.problems = told.collect();
        self
    }

    pub(super) fn with_stanza(mut self, stanza: Option<Stanza>) -> Self {
        self.told.stanza = stanza;
        self
    }

    pub(super) fn with_header(mut self, name: header::HeaderName, value: HeaderValue) -> Self {
        self.told.header = Some((name, value));
        self
    }

    /// Whether it tells what a person has to write, and with it, maybe, a secret that is shown
    /// nowhere else.
    pub(super) fn has_stanza(&self) -> bool {
        self.told.stanza.is_some()
    }

    pub(super) fn into_response(self, path: &str, request_id: &str) -> Response<Body> {
        let Told { detail, errors, problems, stanza, header } = *self.told;
        let stanza = stanza.as_ref();
        let problem = Problem {
            r#type: "about:blank",
            title: self.status.canonical_reason().unwrap_or("Error"),
            status: self.status.as_u16(),
            detail: tellable(&detail).into(),
            instance: tellable(path).into(),
            reason: self.reason,
            request_id,
            field: errors.first().map(|error| &*error.field).filter(|field| !field.is_empty()),
            errors: &errors,
            problems: &problems,
            stanza: stanza.map(|stanza| &*stanza.toml),
            secret: stanza.and_then(|stanza| stanza.secret.as_ref()).map(|secret| &***secret),
        };
        let mut response = json(self.status, &problem);
        let headers = response.headers_mut();
        let content_type = HeaderValue::from_static("application/problem+json");
        headers.insert(http::header::CONTENT_TYPE, content_type);
        headers.insert("faregate-reason", HeaderValue::from_static(self.reason));
        if let Some((name, value)) = header {
            headers.insert(name, value);
        }
        response
    }
}
