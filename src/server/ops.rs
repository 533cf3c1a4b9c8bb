//! Probes and metrics: no token is needed here, so nothing secret is here.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::header::{self, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use crate::live::{self, Live};
use crate::policy::TokenState;
use crate::telemetry::exposition::Form;
use crate::telemetry::metrics::Metrics;

/// Probes and scrapers are few; a flood of connections shall not reach the memory.
const MAX_CONNECTIONS: usize = 64;

/// By when a request's head must be there.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// By when the whole answer must have been taken: who does not read keeps nobody else out.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(15);

/// What the ops listener tells of.
pub struct Ops {
    /// The gate in force.
    pub live: Arc<Live>,
    /// The metrics.
    pub metrics: Arc<Metrics>,
    /// Set when the gate begins to stop.
    pub draining: AtomicBool,
}

/// Answers probes and scrapers until it is dropped.
pub async fn serve(listener: TcpListener, ops: Arc<Ops>) {
    let connections = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let Ok(turn) = Arc::clone(&connections).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let ops = Arc::clone(&ops);
                tokio::task::spawn_local(async move {
                    serve_connection(stream, ops).await;
                    drop(turn);
                });
            }
            // As in the data plane: what is open frees descriptors.
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

async fn serve_connection(stream: TcpStream, ops: Arc<Ops>) {
    let service = service_fn(move |request: Request<Incoming>| {
        let response = ops.answer(&request);
        async move { Ok::<_, Infallible>(response) }
    });
    // A scraper that goes away in the middle is no event.
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    let _ = tokio::time::timeout(CONNECTION_TIMEOUT, serving).await;
}

impl Ops {
    fn answer(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        let is_read = matches!(*request.method(), Method::GET | Method::HEAD);
        let response = match request.uri().path() {
            "/livez" | "/readyz" | "/metrics" if !is_read => {
                let mut response = plain(StatusCode::METHOD_NOT_ALLOWED, "only GET\n");
                let allow = HeaderValue::from_static("GET, HEAD");
                response.headers_mut().insert(header::ALLOW, allow);
                response
            }
            "/livez" => plain(StatusCode::OK, "ok\n"),
            "/readyz" => self.ready(),
            "/metrics" => self.metrics(request),
            _ => plain(StatusCode::NOT_FOUND, "here are /livez, /readyz and /metrics\n"),
        };
        let (mut parts, body) = response.into_parts();
        parts.headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        Response::from_parts(parts, body)
    }

    fn ready(&self) -> Response<Full<Bytes>> {
        let draining = self.draining.load(Ordering::Relaxed);
        let gate = self.live.gate();
        let policies: Vec<_> = gate
            .namespaces()
            .iter()
            .map(|namespace| {
                json!({
                    "check": "policy",
                    "namespace": namespace.site.settings.name,
                    "generation": namespace.generation.short(),
                    "ok": true,
                })
            })
            .collect();
        let mut checks = policies;
        checks.push(json!({ "check": "draining", "ok": !draining }));
        let body = json!({ "ready": !draining, "checks": checks });
        let status = if draining { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
        with_type(status, "application/json", body.to_string())
    }

    fn metrics(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        let now = live::now();
        for namespace in self.live.gate().namespaces() {
            let mut counts = TokenState::ALL.map(|state| (state, 0));
            for token in namespace.policy.tokens() {
                let state = token.state(now);
                counts
                    .iter_mut()
                    .filter(|(own, _)| *own == state)
                    .for_each(|(_, count)| *count += 1);
            }
            let name = namespace.site.settings.name.as_str();
            for (state, count) in counts {
                self.metrics.tokens.with_label_values(&[name, state.as_str()]).set(count);
            }
        }
        for (site, upstream) in self.live.gate().upstreams() {
            for endpoint in &upstream.endpoints {
                let name = site.settings.name.as_str();
                self.metrics.set_endpoint_up(name, &endpoint.name, !endpoint.is_down());
            }
        }
        let accept = request.headers().get(header::ACCEPT).and_then(|value| value.to_str().ok());
        let form = Form::asked_for(accept);
        with_type(StatusCode::OK, form.content_type(), self.metrics.exposition(form))
    }
}

fn plain(status: StatusCode, text: &'static str) -> Response<Full<Bytes>> {
    with_type(status, "text/plain; charset=utf-8", text)
}

fn with_type(
    status: StatusCode,
    content_type: &'static str,
    body: impl Into<Bytes>,
) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    let content_type = HeaderValue::from_static(content_type);
    response.headers_mut().insert(header::CONTENT_TYPE, content_type);
    response
}
