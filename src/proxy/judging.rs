//! What the law says of a request, and where it goes then.

use std::sync::Arc;
use std::time::Instant;

use http::header::HeaderValue;
use http::request::Parts;
use http::uri::PathAndQuery;

use super::Proxy;
use super::destination::{destination, forwarded_target};
use crate::live::{self, Asked, NamespaceInForce, Refused};
use crate::policy::{BodyModel, Decision, Inspection, Permit, Reason};
use crate::upstream::Upstream;
use crate::wire::headers;
use crate::wire::refusal::Refusal;

/// What the law says of a request that it does not refuse.
#[allow(clippy::large_enum_variant, reason = "the large one is the common one")]
pub(super) enum Verdict {
    Pass(Passage),
    /// The model may be named in its body: that has to be read first.
    ReadBody(Arc<NamespaceInForce>, Inspection),
}

/// A request that may go on its way, and where.
pub(super) struct Passage {
    pub(super) permit: Permit,
    pub(super) namespace: Arc<NamespaceInForce>,
    pub(super) target: PathAndQuery,
    pub(super) prefix: Option<String>,
    pub(super) upstream: Arc<Upstream>,
    pub(super) host: HeaderValue,
}

impl Proxy {
    /// Rules 1 to 10: nothing here waits. `inspected`: what the law asked for, and what was found.
    pub(super) fn judge(
        &self,
        parts: &Parts,
        started: Instant,
        inspected: Option<(Inspection, BodyModel<'_>)>,
    ) -> Result<Verdict, Refused> {
        let asked = Asked {
            method: &parts.method,
            uri: &parts.uri,
            headers: &parts.headers,
            is_upgrade: headers::wanted_upgrade(&parts.headers).is_some(),
        };
        let heard = self.reader.borrow_mut().gate().hear(asked)?;
        let namespace = &heard.namespace;
        let ask = heard.ask(live::now());
        let decision = match inspected {
            None => namespace.policy.decide(&ask),
            Some((inspection, found)) => namespace.policy.decide_with(&ask, inspection, found),
        };
        self.shared.metrics.decision_duration.observe(started.elapsed().as_secs_f64());
        let permit = match decision {
            Decision::Allow(permit) => permit,
            Decision::Inspect(inspection) => {
                return Ok(Verdict::ReadBody(heard.namespace, inspection));
            }
            Decision::Deny(denial) => return Err(Refused::by_law(namespace, denial)),
        };
        let (upstream, prefix) = destination(namespace, &permit, &heard.path).ok_or_else(|| {
            Refused { refusal: Refusal::Internal, ..Refused::by(namespace, Reason::NoRoute) }
        })?;
        let target = forwarded_target(namespace, parts, prefix.as_deref())
            .ok_or_else(|| Refused::by(namespace, Reason::BadTarget))?;
        let host = HeaderValue::from_str(heard.host.given)
            .map_err(|_| Refused::by(namespace, Reason::BadHost))?;
        let namespace = heard.namespace;
        Ok(Verdict::Pass(Passage { permit, namespace, target, prefix, upstream, host }))
    }
}
