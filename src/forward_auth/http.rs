//! Questions by HTTP: a subrequest whose headers name the request that is to be judged.
//!
//! NGINX (`auth_request`) is told by its configuration to send `X-Original-Method` and
//! `X-Original-URI`; Traefik (`ForwardAuth`), Caddy (`forward_auth`) and Envoy (`ext_authz` with an
//! `http_service`) send `X-Forwarded-Method` and `X-Forwarded-Uri`. The subrequest's own method and
//! path say nothing: with the first three it is always the same `GET`.

use std::net::IpAddr;

use ::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use ::http::{Method, Request, Response, StatusCode, Uri};
use hyper::body::{Body as _, Incoming};
use tonic::body::Body;

use super::question::{self, Allowed, Question};
use super::record::{self, Record};
use super::{ForwardAuth, with_status};
use crate::live::Refused;
use crate::policy::Reason;
use crate::wire::headers::X_REQUEST_ID;
use crate::wire::refusal;

const X_ORIGINAL_METHOD: HeaderName = HeaderName::from_static("x-original-method");
const X_ORIGINAL_URI: HeaderName = HeaderName::from_static("x-original-uri");
const X_FORWARDED_METHOD: HeaderName = HeaderName::from_static("x-forwarded-method");
const X_FORWARDED_URI: HeaderName = HeaderName::from_static("x-forwarded-uri");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// By this header of an answer Envoy is told which headers to take out of the request.
const HEADERS_TO_REMOVE: HeaderName = HeaderName::from_static("x-envoy-auth-headers-to-remove");

/// Headers that name the request.
pub(super) const NAMING: [HeaderName; 4] =
    [X_ORIGINAL_METHOD, X_ORIGINAL_URI, X_FORWARDED_METHOD, X_FORWARDED_URI];

/// Answers a question.
pub(super) async fn answer(
    auth: &ForwardAuth,
    asked_by: IpAddr,
    request: Request<Incoming>,
) -> Response<Body> {
    let (parts, body) = request.into_parts();
    // Whoever sends this pair is NGINX, to which every other refusal is a failure of its own.
    let is_nginx =
        [X_ORIGINAL_METHOD, X_ORIGINAL_URI].iter().any(|name| parts.headers.contains_key(name));
    let question = match question(&parts.uri, parts.headers) {
        Ok(question) => question,
        Err(flaw) => {
            record::tell_unusable(asked_by, flaw);
            auth.metrics.denied_without_namespace(Some(Reason::BadTarget));
            return with_status(status_for(is_nginx, StatusCode::BAD_REQUEST));
        }
    };
    let request_id = question.request_id();
    let record = Record::new(auth, asked_by, &question, &request_id);
    let body = match body.is_end_stream() {
        true => question::Body::Unknown,
        false => question::Body::Coming(body),
    };
    let mut response = match auth.judge(&question, body, &record).await {
        Ok(allowed) => allow(&question, &allowed),
        Err(refused) => {
            let mut response = refuse(&question, &refused, &request_id);
            *response.status_mut() = status_for(is_nginx, response.status());
            response
        }
    };
    response.headers_mut().insert(X_REQUEST_ID, request_id);
    response
}

/// NGINX takes 401 and 403 for a no, and makes a 500 of any other refusal.
fn status_for(is_nginx: bool, status: StatusCode) -> StatusCode {
    if is_nginx && status != StatusCode::UNAUTHORIZED { StatusCode::FORBIDDEN } else { status }
}

/// The request that the headers name. Nothing is guessed: what is missing or there twice makes it
/// no question.
fn question(own_uri: &Uri, mut headers: HeaderMap) -> Result<Question, &'static str> {
    let original = pair(&headers, &X_ORIGINAL_METHOD, &X_ORIGINAL_URI)
        .map_err(|()| "X-Original-Method and X-Original-URI must both be there, each once")?;
    let forwarded = pair(&headers, &X_FORWARDED_METHOD, &X_FORWARDED_URI)
        .map_err(|()| "X-Forwarded-Method and X-Forwarded-Uri must both be there, each once")?;
    let (method, target) = match (original, forwarded) {
        (None, None) => return Err("neither X-Original-… nor X-Forwarded-… name a request"),
        (Some(one), Some(other)) if one != other => {
            return Err("X-Original-… and X-Forwarded-… name two requests");
        }
        (Some(named), _) | (None, Some(named)) => named,
    };
    let method = Method::from_bytes(method.as_bytes()).map_err(|_| "the method is none")?;
    // `Uri` would drop what follows.
    let target = Some(target).filter(|target| !target.contains('#'));
    let uri = target.and_then(|target| target.parse::<Uri>().ok()).ok_or("the target is none")?;
    let host = match once(&headers, &X_FORWARDED_HOST) {
        Err(()) => return Err("X-Forwarded-Host must be there once"),
        Ok(Some(host)) => Some(host.clone()),
        Ok(None) => match once(&headers, &header::HOST) {
            Err(()) => return Err("Host must be there once"),
            Ok(Some(host)) => Some(host.clone()),
            Ok(None) => own_uri.authority().and_then(|own| own.as_str().try_into().ok()),
        },
    };
    let client = headers.get_all(X_FORWARDED_FOR).iter().next_back().and_then(last_address);
    for name in NAMING.iter().chain(&[X_FORWARDED_HOST, header::HOST]).chain(&FRAMING) {
        headers.remove(name);
    }
    if let Some(host) = host {
        headers.insert(header::HOST, host);
    }
    Ok(Question { method, uri, headers, client, can_remove_headers: false })
}

/// Headers of the subrequest's own framing and hop.
const FRAMING: [HeaderName; 6] = [
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::TRANSFER_ENCODING,
    header::TE,
    header::UPGRADE,
    header::EXPECT,
];

/// Two headers that are both there, each once, or both not.
fn pair<'h>(
    headers: &'h HeaderMap,
    one: &HeaderName,
    other: &HeaderName,
) -> Result<Option<(&'h str, &'h str)>, ()> {
    match (once(headers, one)?, once(headers, other)?) {
        (None, None) => Ok(None),
        (Some(one), Some(other)) => {
            let text = |value: &'h HeaderValue| value.to_str().map_err(|_| ());
            Ok(Some((text(one)?, text(other)?)))
        }
        _ => Err(()),
    }
}

/// The one value of a header, if it is there.
fn once<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Result<Option<&'h HeaderValue>, ()> {
    let mut lines = headers.get_all(name).iter();
    let line = lines.next();
    if lines.next().is_some() { Err(()) } else { Ok(line) }
}

/// The last address of a list, which is the one that the gateway itself has seen.
fn last_address(list: &HeaderValue) -> Option<IpAddr> {
    list.to_str().ok()?.rsplit(',').next()?.trim().parse().ok()
}

/// 200, with what the model server is to be told of the caller. Every identity header is there: by
/// an empty one a gateway that copies what it finds overwrites what the client said under its name.
fn allow(question: &Question, allowed: &Allowed) -> Response<Body> {
    let Allowed { namespace, permit } = allowed;
    let rules = &namespace.site.headers;
    let mut response = with_status(StatusCode::OK);
    let headers = response.headers_mut();
    for name in rules.identity_names() {
        headers.insert(name, HeaderValue::from_static(""));
    }
    if let Some(identity) = namespace.identity(permit) {
        rules.set_identity(headers, &identity);
    }
    let removed: Vec<&str> = question
        .headers
        .keys()
        .filter(|name| rules.is_withheld(name) && !rules.identity_names().contains(name))
        .map(HeaderName::as_str)
        .collect();
    if let Some(removed) = (!removed.is_empty()).then(|| removed.join(", "))
        && let Ok(removed) = HeaderValue::try_from(removed)
    {
        headers.insert(HEADERS_TO_REMOVE, removed);
    }
    response
}

/// The refusal, as the client of the gateway shall get it. Never in gRPC's way, with status 200: a
/// gateway would take that for a yes.
fn refuse(question: &Question, refused: &Refused, request_id: &HeaderValue) -> Response<Body> {
    let path = question.uri.path();
    let circumstances = refused.circumstances(&question.headers, false, path, request_id);
    refusal::answer(refused.refusal, &circumstances).map(Body::new)
}
