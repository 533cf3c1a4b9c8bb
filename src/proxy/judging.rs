//! What the law says of a request, and where it goes then.

use std::sync::Arc;
use std::time::Instant;

use http::Method;
use http::header::HeaderValue;
use http::request::Parts;
use http::uri::PathAndQuery;

use super::Proxy;
use super::destination::{destination, forwarded_target};
use super::refusing::Refused;
use crate::live::{self, NamespaceInForce};
use crate::policy::{
    Ask, BodyModel, Caller, Decision, Denial, Inspection, Permit, Reason, RequestPath,
};
use crate::upstream::Upstream;
use crate::wire::credential::Credential;
use crate::wire::headers;
use crate::wire::refusal::Refusal;
use crate::wire::target;

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
        max_headers: usize,
        inspected: Option<(Inspection, BodyModel<'_>)>,
    ) -> Result<Verdict, Refused> {
        if parts.method == Method::CONNECT || parts.method == Method::TRACE {
            let refusal = Refusal::MethodNotAllowed;
            return Err(Refused { refusal, namespace: None, denial: None });
        }
        // hyper counts the header lines of HTTP/1.1 only.
        if parts.headers.len() > max_headers {
            let refusal = Refusal::TooManyHeaders;
            return Err(Refused { refusal, namespace: None, denial: None });
        }
        let host = target::host(&parts.uri, &parts.headers).map_err(Refused::early)?;
        let namespace = self.reader.borrow_mut().gate().namespace_for(host.name).cloned();
        // The path is judged before the namespace is looked for, and counted with it.
        let raw_path = parts.uri.path();
        let path = RequestPath::parse(raw_path).map_err(|_| Refused {
            refusal: Refusal::Denied(Reason::BadPath),
            namespace: namespace.clone(),
            denial: None,
        })?;
        let namespace = namespace.ok_or_else(|| Refused::early(Reason::UnknownHost))?;
        let denied = |reason, denial| Refused {
            refusal: Refusal::Denied(reason),
            namespace: Some(Arc::clone(&namespace)),
            denial,
        };
        if !headers::is_framed_plainly(&parts.headers) {
            return Err(denied(Reason::BadTarget, None));
        }
        let rules = &namespace.site.headers;
        let query = parts.uri.query();
        let is_upgrade = headers::wanted_upgrade(&parts.headers).is_some();
        let credential = rules.credentials.read(&parts.headers, query, is_upgrade);
        let caller = match &credential {
            Credential::Missing => Caller::Nobody,
            Credential::Presented(claim) => {
                Caller::Secret { secret: claim.secret(), user: claim.user() }
            }
            Credential::Ambiguous => {
                let reason = Reason::AmbiguousCredential;
                // Looked for already here so that the refusal is told in the route's dialect.
                let route = namespace.policy.rules().routes.find(parts.method.as_str(), &path);
                let route = route.map(|found| found.index);
                return Err(denied(reason, Some(Denial { route, ..Denial::early(reason) })));
            }
        };
        let now = live::now();
        let ask = Ask { method: parts.method.as_str(), path, query, caller, now };
        let decision = match inspected {
            None => namespace.policy.decide(&ask),
            Some((inspection, found)) => namespace.policy.decide_with(&ask, inspection, found),
        };
        self.shared.metrics.decision_duration.observe(started.elapsed().as_secs_f64());
        let permit = match decision {
            Decision::Allow(permit) => permit,
            Decision::Inspect(inspection) => {
                drop(credential);
                return Ok(Verdict::ReadBody(namespace, inspection));
            }
            Decision::Deny(denial) => return Err(denied(denial.reason, Some(denial))),
        };
        let (upstream, prefix) = destination(&namespace, &permit, &path).ok_or_else(|| {
            Refused { refusal: Refusal::Internal, ..denied(Reason::NoRoute, None) }
        })?;
        let target = forwarded_target(&namespace, parts, prefix.as_deref())
            .ok_or_else(|| denied(Reason::BadTarget, None))?;
        let host = HeaderValue::from_str(host.given).map_err(|_| denied(Reason::BadHost, None))?;
        drop(credential);
        Ok(Verdict::Pass(Passage { permit, namespace, target, prefix, upstream, host }))
    }
}
