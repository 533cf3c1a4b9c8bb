//! Questions by gRPC: Envoy's `ext_authz`, which sends the request as a message and is told what to
//! change of it before it is forwarded.

mod messages;

use std::borrow::Cow;
use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use ::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use ::http::{Method, Request, Response, Uri, Version};
use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::body::{Frame, Incoming, SizeHint};
use tonic::body::Body;
use tonic::server::{Grpc, UnaryService};
use tonic::{Code, Status};
use tonic_prost::ProstCodec;

use super::ForwardAuth;
use super::http::NAMING;
use super::question::{self, Allowed, Question};
use super::record::{self, Record};
use crate::live::Refused;
use crate::policy::Reason;
use crate::wire::headers;
use crate::wire::refusal;
use messages::{
    AppendAction, CheckRequest, CheckResponse, DeniedHttpResponse, HeaderEntry, HeaderValueOption,
    HttpRequest, HttpResponse, HttpStatus, OkHttpResponse, RpcStatus,
};

const CHECK: &str = "/envoy.service.auth.v3.Authorization/Check";

/// By when a question must have come, and been answered.
const TIMEOUT: Duration = Duration::from_secs(30);

/// What a question may be larger than the request that it is about, beside its headers.
const ENVELOPE_BYTES: usize = 64 * 1024;

/// Whether a request is a question in this language. With the headers that name a request it is
/// none: the path of such a question may be the client's, who must not choose the language.
pub(super) fn is_check(request: &Request<Incoming>) -> bool {
    request.version() == Version::HTTP_2
        && request.uri().path() == CHECK
        && headers::is_grpc(request.headers())
        && NAMING.iter().all(|name| !request.headers().contains_key(name))
}

/// Answers a question.
pub(super) async fn check(
    auth: Rc<ForwardAuth>,
    asked_by: IpAddr,
    request: Request<Incoming>,
) -> Response<Body> {
    let limits = auth.limits();
    let most = limits.inspect_body_bytes + 2 * limits.max_header_bytes + ENVELOPE_BYTES;
    let held = Arc::clone(&auth.held);
    let request = request.map(|body| Held::new(body, held, limits.inspect_total_bytes));
    let mut grpc = Grpc::new(ProstCodec::default()).max_decoding_message_size(most);
    let answering = grpc.unary(Checker { auth, asked_by }, request);
    match tokio::time::timeout(TIMEOUT, answering).await {
        Ok(response) => response,
        Err(_) => Status::new(Code::DeadlineExceeded, "the question did not come").into_http(),
    }
}

struct Checker {
    auth: Rc<ForwardAuth>,
    asked_by: IpAddr,
}

impl UnaryService<CheckRequest> for Checker {
    type Response = CheckResponse;
    type Future = Pin<Box<dyn Future<Output = Result<tonic::Response<CheckResponse>, Status>>>>;

    fn call(&mut self, request: tonic::Request<CheckRequest>) -> Self::Future {
        let (auth, asked_by) = (Rc::clone(&self.auth), self.asked_by);
        Box::pin(async move {
            let answer = answer(&auth, asked_by, request.into_inner()).await;
            Ok(tonic::Response::new(answer))
        })
    }
}

async fn answer(auth: &ForwardAuth, asked_by: IpAddr, request: CheckRequest) -> CheckResponse {
    let (question, body) = match read(asked_by, request) {
        Ok(read) => read,
        Err(flaw) => {
            record::tell_unusable(asked_by, flaw);
            auth.metrics.denied_without_namespace(Some(Reason::BadTarget));
            let refused = Refused::early(Reason::BadTarget);
            let request_id = headers::request_id(&HeaderMap::new());
            return deny(&HeaderMap::new(), "/", &refused, &request_id).await;
        }
    };
    let request_id = question.request_id();
    let record = Record::new(auth, asked_by, &question, &request_id);
    match auth.judge(&question, body, &record).await {
        Ok(allowed) => allow(&question, &allowed),
        Err(refused) => deny(&question.headers, question.uri.path(), &refused, &request_id).await,
    }
}

/// The request that a question is about, and its body.
fn read(
    asked_by: IpAddr,
    request: CheckRequest,
) -> Result<(Question, question::Body), &'static str> {
    let attributes = request.attributes.ok_or("the question has no attributes")?;
    let client = attributes
        .source
        .and_then(|peer| peer.address?.socket_address)
        .and_then(|address| address.address.parse().ok());
    let http = attributes.request.and_then(|request| request.http);
    let mut http = http.ok_or("the question is about no request of HTTP")?;
    let lines = header_lines(&mut http)?;
    let mut headers = HeaderMap::with_capacity(lines.len());
    for (name, value) in lines {
        let pseudo = match name.as_str() {
            ":method" => Some(&http.method),
            ":path" => Some(&http.path),
            ":authority" => Some(&http.host),
            _ => None,
        };
        if let Some(expected) = pseudo {
            if *expected.as_bytes() != *value {
                return Err("the question names two methods, targets or hosts");
            }
        } else if !name.starts_with(':') {
            let name = HeaderName::from_bytes(name.as_bytes());
            let value = HeaderValue::from_bytes(&value);
            let (Ok(name), Ok(value)) = (name, value) else {
                return Err("the question has a header that is none");
            };
            headers.append(name, value);
        }
    }
    // Envoy leaves both empty; who sets them means a target that would have to be guessed.
    if !http.query.is_empty() || !http.fragment.is_empty() {
        return Err("the question has a query or fragment beside its path");
    }
    let method = Method::from_bytes(http.method.as_bytes()).map_err(|_| "the method is none")?;
    // `Uri` would drop what follows.
    let target = Some(&http.path).filter(|target| !target.contains('#'));
    let uri = target.and_then(|target| target.parse::<Uri>().ok()).ok_or("the target is none")?;
    let host = HeaderValue::from_str(&http.host).map_err(|_| "the host is none")?;
    // A client's `Host` beside `:authority` is a second host, and is refused as such.
    headers.append(header::HOST, host);
    let body = if !http.body.is_empty() {
        // In text Envoy replaces what is no UTF-8, so it is not the body that is forwarded.
        record::tell_unusable(
            asked_by,
            "the body came as text: set `pack_as_bytes` beside its limit",
        );
        question::Body::Unknown
    } else if http.raw_body.is_empty() || !is_whole(&headers, &http.raw_body) {
        question::Body::Unknown
    } else {
        question::Body::Whole(http.raw_body)
    };
    Ok((Question { method, uri, headers, client, can_remove_headers: true }, body))
}

/// Whether Envoy says that it is the whole body, and it is as long as the request says.
fn is_whole(headers: &HeaderMap, body: &Bytes) -> bool {
    let is_its_length = |line: &HeaderValue| {
        line.to_str().is_ok_and(|line| line.parse::<usize>().is_ok_and(|it| it == body.len()))
    };
    headers.get(question::PARTIAL_BODY).is_some_and(|partial| partial == "false")
        && headers.get_all(header::CONTENT_LENGTH).iter().all(is_its_length)
}

/// The header lines of the request: as they came with `encode_raw_headers`, else lines of one name
/// joined by commas, which for cookies is no form that HTTP knows.
fn header_lines(http: &mut HttpRequest) -> Result<Vec<(String, Vec<u8>)>, &'static str> {
    let joined = std::mem::take(&mut http.headers);
    let raw = http.header_map.take().map(|map| map.headers).unwrap_or_default();
    if !joined.is_empty() && !raw.is_empty() {
        return Err("the question has its headers twice");
    }
    let mut lines = Vec::with_capacity(joined.len() + raw.len());
    for HeaderEntry { key, value } in joined {
        if lines.iter().any(|(name, _)| *name == key) {
            return Err("the question has a header twice that should be joined");
        }
        if key == "cookie" {
            // A comma within a cookie splits it too: what is read wrongly so is only a credential
            // too many, and refused.
            let cookies = value.split(',').map(|cookies| (key.clone(), cookies.trim().into()));
            lines.extend(cookies);
        } else {
            lines.push((key, value.into_bytes()));
        }
    }
    for messages::HeaderValue { key, value, raw_value } in raw {
        if !value.is_empty() && !raw_value.is_empty() {
            return Err("the question has a header with two values");
        }
        lines.push((key, if value.is_empty() { raw_value } else { value.into_bytes() }));
    }
    Ok(lines)
}

/// Lets the request pass, with what the model server is told of the caller and without what only
/// the gate was told.
fn allow(question: &Question, allowed: &Allowed) -> CheckResponse {
    let Allowed { namespace, permit } = allowed;
    let rules = &namespace.site.headers;
    let mut set = HeaderMap::new();
    if let Some(identity) = namespace.identity(permit) {
        rules.set_identity(&mut set, &identity);
    }
    // Envoy removes after it has set: nothing may be in both lists.
    let withheld = question.headers.keys().filter(|name| rules.is_withheld(name));
    let mut remove: Vec<String> = Vec::new();
    for name in withheld.chain(rules.identity_names()) {
        if !set.contains_key(name) && !remove.iter().any(|other| other == name.as_str()) {
            remove.push(name.as_str().into());
        }
    }
    let mut headers: Vec<HeaderValueOption> =
        set.iter().map(|(name, value)| overwrite(name.as_str(), value.as_bytes())).collect();
    // Headers of which a credential is a part.
    let mut kept = question.headers.clone();
    rules.credentials.strip(&mut kept);
    for (name, separator) in [(header::COOKIE, "; "), (header::SEC_WEBSOCKET_PROTOCOL, ", ")] {
        let lines = |headers: &HeaderMap| -> Vec<Vec<u8>> {
            headers.get_all(&name).iter().map(|line| line.as_bytes().to_vec()).collect()
        };
        let kept = lines(&kept);
        if kept == lines(&question.headers) {
            continue;
        }
        if kept.is_empty() {
            remove.push(name.as_str().into());
        } else {
            headers.push(overwrite(name.as_str(), &kept.join(separator.as_bytes())));
        }
    }
    // Not by `query_parameters_to_remove`, with which Envoy writes the whole query anew: the bytes
    // that were judged shall be those that are forwarded.
    if let Some(Cow::Owned(query)) =
        question.uri.query().map(|query| rules.credentials.strip_query(query))
    {
        let path = question.uri.path();
        let mark = if query.is_empty() { "" } else { "?" };
        headers.push(overwrite(":path", format!("{path}{mark}{query}").as_bytes()));
    }
    let ok = OkHttpResponse { headers, headers_to_remove: remove };
    CheckResponse {
        status: Some(RpcStatus { code: Code::Ok as i32 }),
        http_response: Some(HttpResponse::Ok(ok)),
    }
}

/// The refusal, as Envoy's client shall get it. To a client that speaks gRPC Envoy answers with
/// status 200, makes `grpc-message` of the body, and keeps the `grpc-status` it is given.
async fn deny(
    headers: &HeaderMap,
    path: &str,
    refused: &Refused,
    request_id: &HeaderValue,
) -> CheckResponse {
    let refusal = refused.refusal;
    let is_grpc = headers::is_grpc(headers);
    let circumstances = refused.circumstances(headers, is_grpc, path, request_id);
    let (parts, body) = refusal::answer(refusal, &circumstances).into_parts();
    let Ok(body) = body.collect().await;
    let body = if is_grpc {
        refusal.detail().into()
    } else {
        String::from_utf8_lossy(&body.to_bytes()).into_owned()
    };
    let mut told: Vec<HeaderValueOption> = Vec::new();
    let is_envoys =
        |name: &HeaderName| is_grpc && (*name == header::CONTENT_TYPE || name == "grpc-message");
    for name in parts.headers.keys().filter(|name| !is_envoys(name)) {
        for (place, value) in parts.headers.get_all(name).iter().enumerate() {
            let mut option = overwrite(name.as_str(), value.as_bytes());
            if place > 0 {
                option.append_action = AppendAction::AppendIfExistsOrAdd.into();
            }
            told.push(option);
        }
    }
    let denied = DeniedHttpResponse {
        status: Some(HttpStatus { code: refusal.status().as_u16().into() }),
        headers: told,
        body,
    };
    CheckResponse {
        status: Some(RpcStatus { code: refusal.grpc_status().into() }),
        http_response: Some(HttpResponse::Denied(denied)),
    }
}

fn overwrite(name: &str, value: &[u8]) -> HeaderValueOption {
    let header = messages::HeaderValue {
        key: name.into(),
        value: String::from_utf8_lossy(value).into_owned(),
        raw_value: Vec::new(),
    };
    let append_action = AppendAction::OverwriteIfExistsOrAdd.into();
    HeaderValueOption { header: Some(header), append_action }
}

/// A question on its way, which counts among the bytes that are held.
struct Held {
    body: Incoming,
    all: Arc<AtomicUsize>,
    own: usize,
    most: usize,
}

impl Held {
    fn new(body: Incoming, all: Arc<AtomicUsize>, most: usize) -> Self {
        Self { body, all, own: 0, most }
    }
}

impl hyper::body::Body for Held {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        if let Poll::Ready(Some(Ok(frame))) = &polled
            && let Some(piece) = frame.data_ref()
        {
            self.own += piece.len();
            if self.all.fetch_add(piece.len(), Ordering::Relaxed) + piece.len() > self.most {
                let full = Status::new(Code::ResourceExhausted, "too many questions at one time");
                return Poll::Ready(Some(Err(full)));
            }
        }
        polled.map(|frame| {
            frame.map(|frame| frame.map_err(|_| Status::new(Code::Unavailable, "it broke off")))
        })
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.all.fetch_sub(self.own, Ordering::Relaxed);
    }
}
