//! The record that each question leaves: counts as on the data plane, and a line in the log.
//!
//! Requests and their durations are not counted here: the gateway serves them, and they would be
//! counted twice where it forwards to the data plane.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use ::http::Method;
use ::http::header::HeaderValue;

use super::question::{Allowed, Question};
use crate::live::{self, NamespaceInForce, Refused};
use crate::policy::{ModelId, TokenIndex};
use crate::settings::AccessLog;
use crate::telemetry::logging;
use crate::telemetry::metrics::Metrics;
use crate::wire::refusal::Refusal;

/// What is known of a question so far.
pub(super) struct Record {
    started: Instant,
    metrics: Arc<Metrics>,
    access: AccessLog,
    /// The gateway.
    asked_by: IpAddr,
    /// The client, where the gateway tells.
    peer: Option<IpAddr>,
    method: Method,
    path: String,
    request_id: HeaderValue,
}

impl Record {
    pub(super) fn new(
        auth: &super::ForwardAuth,
        asked_by: IpAddr,
        question: &Question,
        request_id: &HeaderValue,
    ) -> Self {
        Self {
            started: Instant::now(),
            metrics: Arc::clone(&auth.metrics),
            access: auth.live.gate().access_log,
            asked_by,
            peer: question.client,
            method: question.method.clone(),
            path: question.uri.path().to_owned(),
            request_id: request_id.clone(),
        }
    }

    pub(super) fn allowed(&self, allowed: &Allowed) {
        let Allowed { namespace, permit } = allowed;
        namespace.count_permitted(permit, live::now());
        let would_deny = permit.would_deny().map(crate::policy::Reason::as_str);
        let is_wanted = match (self.access, would_deny) {
            (AccessLog::All, _) => true,
            (AccessLog::Denied, Some(reason)) => logging::may_write(reason, live::now()),
            (AccessLog::Denied, None) | (AccessLog::Off, _) => false,
        };
        if is_wanted {
            let known = Known {
                namespace: Some(namespace),
                route: permit.route(),
                token: permit.token(),
                model: permit.model(),
            };
            self.log(200, would_deny, &known);
        }
    }

    pub(super) fn refused(&self, refused: &Refused) {
        let Refused { refusal, namespace, denial } = refused;
        let reason = match refusal {
            Refusal::Denied(reason) => Some(*reason),
            _ => None,
        };
        let denial = denial.as_ref();
        let token = denial.and_then(|denial| denial.token);
        match namespace {
            Some(namespace) => namespace.count_refused(reason, token),
            None => self.metrics.denied_without_namespace(reason),
        }
        let is_wanted = match self.access {
            AccessLog::All => true,
            AccessLog::Denied => logging::may_write(refusal.as_str(), live::now()),
            AccessLog::Off => false,
        };
        if is_wanted {
            let known = Known {
                namespace: namespace.as_deref(),
                route: denial.and_then(|denial| denial.route),
                token,
                model: denial.and_then(|denial| denial.model.as_ref()),
            };
            self.log(refusal.status().as_u16(), Some(refusal.as_str()), &known);
        }
    }

    fn log(&self, status: u16, reason: Option<&'static str>, known: &Known<'_>) {
        let Known { namespace, route, token, model } = *known;
        let token = token.and_then(|token| namespace?.policy.token_id(token));
        let routes = namespace.map(|namespace| namespace.policy.rules().routes.routes());
        let route = route.and_then(|route| routes?.get(route));
        let took = self.started.elapsed().as_secs_f64();
        tracing::info!(
            request_id = self.request_id.to_str().ok(),
            namespace = namespace.map(|namespace| namespace.site.settings.name.as_str()),
            peer = self.peer.map(tracing::field::display),
            asked_by = %self.asked_by,
            method = self.method.as_str(),
            path = self.path,
            status = u64::from(status),
            reason,
            token_id = token.map(crate::token::TokenId::as_str),
            model = model.map(ModelId::as_str),
            group = route.map(|route| route.access().as_str()),
            duration_ms = (took * 1e6).round() / 1e3,
            "forward auth"
        );
    }
}

/// What the line tells of what was decided.
struct Known<'k> {
    namespace: Option<&'k NamespaceInForce>,
    route: Option<usize>,
    token: Option<TokenIndex>,
    model: Option<&'k ModelId>,
}

/// Tells an operator what is wrong with the way a gateway asks, without what it said.
pub(super) fn tell_unusable(asked_by: IpAddr, flaw: &'static str) {
    if logging::may_write(flaw, live::now()) {
        tracing::warn!(asked_by = %asked_by, flaw, "a gateway's question cannot be judged as it is");
    }
}
