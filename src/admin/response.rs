//! Answers of the admin listener, and the headers that every one of them has.

use bytes::Bytes;
use http::header::{self, HeaderName, HeaderValue};
use http::{Response, StatusCode};
use http_body_util::Full;
use serde::Serialize;
use zeroize::Zeroizing;

use crate::store::Generation;

/// A body that is there as a whole.
pub type Body = Full<Bytes>;

/// Only files of this origin, no script or style within the page, nobody may frame it.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
     connect-src 'self'; img-src 'self'; base-uri 'none'; form-action 'none'; \
     frame-ancestors 'none'";

/// On every answer: nothing is kept, framed, guessed at or told to other sites.
const HEADERS_OF_ALL: [(HeaderName, &str); 9] = [
    (header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY),
    (header::CACHE_CONTROL, "no-store"),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    (HeaderName::from_static("permissions-policy"), "camera=(), geolocation=(), microphone=()"),
    (header::VARY, "origin"),
];

/// Sets what every answer has.
pub(super) fn set_headers_of_all(response: &mut Response<Body>, request_id: &HeaderValue) {
    let headers = response.headers_mut();
    for (name, value) in HEADERS_OF_ALL {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.insert("x-request-id", request_id.clone());
}

/// An answer in JSON. Its bytes may hold a secret, and are wiped from memory when they were sent.
pub(super) fn json(status: StatusCode, value: &impl Serialize) -> Response<Body> {
    // Room for most answers: what grows is copied, and the copy left behind is not wiped.
    let mut text = Zeroizing::new(Vec::with_capacity(16 * 1024));
    // Only a map whose keys are no text cannot be written, and there is none.
    let written = serde_json::to_writer(&mut *text, value);
    debug_assert!(written.is_ok());
    let mut response = Response::new(Full::new(Bytes::from_owner(text)));
    *response.status_mut() = status;
    let content_type = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, content_type);
    response
}

/// An answer in JSON about the token file in a certain state.
pub(super) fn json_of(
    status: StatusCode,
    generation: &Generation,
    value: &impl Serialize,
) -> Response<Body> {
    let mut response = json(status, value);
    if let Ok(tag) = HeaderValue::from_str(&format!("\"{}\"", generation.to_hex())) {
        response.headers_mut().insert(header::ETAG, tag);
    }
    response
}
