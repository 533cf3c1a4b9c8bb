//! The one record that each request leaves: metrics always, a log line when it is wanted.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::header::HeaderValue;
use http::request::Parts;
use http::{Method, StatusCode};

use super::milliseconds;
use crate::live::{self, NamespaceInForce, Refused};
use crate::policy::{ModelId, Permit, TokenIndex};
use crate::settings::AccessLog;
use crate::telemetry::logging;
use crate::telemetry::metrics::{Metrics, UpstreamError};
use crate::wire::refusal::Refusal;

/// What the log says of a client that went away before the answer; as NGINX writes it.
const CLIENT_CLOSED_REQUEST: u16 = 499;

/// What is known of a request so far; recorded when dropped.
pub(super) struct Outcome {
    started: Instant,
    peer: IpAddr,
    method: Method,
    /// Kept only when a line may be written.
    path: Option<String>,
    request_id: HeaderValue,
    access: AccessLog,
    metrics: Arc<Metrics>,
    namespace: Option<Arc<NamespaceInForce>>,
    route: Option<usize>,
    token: Option<TokenIndex>,
    model: Option<ModelId>,
    refusal: Option<Refusal>,
    would_deny: Option<&'static str>,
    status: Option<StatusCode>,
    upstream: Option<Duration>,
    /// Bytes of the request's body that were forwarded.
    pub(super) bytes_in: u64,
    /// Bytes of the response's body.
    pub(super) bytes_out: u64,
}

impl Outcome {
    pub(super) fn new(
        started: Instant,
        peer: IpAddr,
        parts: &Parts,
        request_id: HeaderValue,
        access: AccessLog,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            started,
            peer,
            method: parts.method.clone(),
            path: (access == AccessLog::All).then(|| parts.uri.path().to_owned()),
            request_id,
            access,
            metrics,
            namespace: None,
            route: None,
            token: None,
            model: None,
            refusal: None,
            would_deny: None,
            status: None,
            upstream: None,
            bytes_in: 0,
            bytes_out: 0,
        }
    }

    /// The request was refused by the law or before it.
    pub(super) fn refused(&mut self, refused: Refused, path: &str) {
        let Refused { refusal, namespace, denial } = refused;
        let reason = match refusal {
            Refusal::Denied(reason) => Some(reason),
            _ => None,
        };
        if let Some(denial) = denial {
            self.route = denial.route;
            self.token = denial.token;
            self.model = denial.model;
        }
        match &namespace {
            Some(namespace) => namespace.count_refused(reason, self.token),
            None => self.metrics.denied_without_namespace(reason),
        }
        self.namespace = namespace;
        self.failed(refusal, path);
    }

    /// The request was permitted.
    pub(super) fn permitted(&mut self, namespace: &Arc<NamespaceInForce>, permit: &Permit) {
        namespace.count_permitted(permit, live::now());
        self.would_deny = permit.would_deny().map(crate::policy::Reason::as_str);
        self.route = permit.route();
        self.token = permit.token();
        if self.access == AccessLog::All {
            self.model = permit.model().cloned();
        }
        self.namespace = Some(Arc::clone(namespace));
    }

    /// A message of a permitted gRPC call was refused.
    pub(super) fn refused_in_its_course(&mut self, refusal: Refusal) {
        self.refusal = Some(refusal);
    }

    /// The model server began to answer.
    pub(super) fn answered(&mut self, status: StatusCode, took: Duration) {
        self.status = Some(status);
        self.upstream = Some(took);
        if let Some(namespace) = &self.namespace {
            namespace.site.metrics.first_byte.observe(took.as_secs_f64());
        }
    }

    /// The gate answers instead of the model server.
    pub(super) fn failed(&mut self, refusal: Refusal, path: &str) {
        self.status = Some(refusal.status());
        self.refusal = Some(refusal);
        if self.path.is_none() && self.access == AccessLog::Denied {
            self.path = Some(path.to_owned());
        }
        let kind = match refusal {
            Refusal::Unreachable => UpstreamError::Connect,
            Refusal::NoEndpoint => UpstreamError::NoEndpoint,
            Refusal::UpstreamTimeout => UpstreamError::Timeout,
            Refusal::UpstreamReset => UpstreamError::Reset,
            Refusal::UpstreamProtocol => UpstreamError::Protocol,
            _ => return,
        };
        self.upstream_failed(kind);
    }

    /// The model server did not answer to the end.
    pub(super) fn upstream_failed(&self, kind: UpstreamError) {
        if let Some(namespace) = &self.namespace {
            namespace.site.metrics.upstream_failed(kind);
        }
    }

    fn record(&self) {
        // A panic passes here on its way to being answered by a 500.
        let code = match self.status {
            Some(status) => status.as_u16(),
            None if std::thread::panicking() => 500,
            None => CLIENT_CLOSED_REQUEST,
        };
        let took = self.started.elapsed();
        match &self.namespace {
            Some(namespace) => {
                namespace.site.metrics.answered(self.route, code, took.as_secs_f64());
            }
            None => self.metrics.answered_without_namespace(code),
        }
        let may_write = |reason| logging::may_write(reason, live::now());
        let wanted = match self.access {
            AccessLog::All => true,
            AccessLog::Denied => match (self.refusal, self.would_deny) {
                (Some(refusal), _) => may_write(refusal.as_str()),
                (None, Some(reason)) => may_write(reason),
                (None, None) => false,
            },
            AccessLog::Off => false,
        };
        if wanted {
            self.log(code, took);
        }
    }

    fn log(&self, code: u16, took: Duration) {
        let namespace = self.namespace.as_deref();
        let token = self.token.and_then(|token| namespace?.policy.token_id(token));
        let group = self.route.and_then(|route| {
            namespace?.policy.rules().routes.routes().get(route).map(|r| r.access().as_str())
        });
        tracing::info!(
            request_id = self.request_id.to_str().ok(),
            namespace = namespace.map(|namespace| namespace.site.settings.name.as_str()),
            peer = %self.peer,
            method = self.method.as_str(),
            path = self.path.as_deref(),
            status = u64::from(code),
            reason = self.refusal.map(Refusal::as_str).or(self.would_deny),
            token_id = token.map(crate::token::TokenId::as_str),
            model = self.model.as_ref().map(ModelId::as_str),
            group,
            duration_ms = milliseconds(took),
            upstream_ms = self.upstream.map(milliseconds),
            bytes_in = self.bytes_in,
            bytes_out = self.bytes_out,
            "request"
        );
    }
}

impl Drop for Outcome {
    fn drop(&mut self) {
        self.record();
    }
}
