//! A request as it is put to the law, by whichever plane it came: rules 1 to 4 of the decision.

use std::sync::Arc;

use http::header::HeaderValue;
use http::{HeaderMap, Method, Uri};

use super::{Gate, NamespaceInForce};
use crate::policy::{
    Access, Ask, Caller, Denial, Dialect, Moment, Permit, Reason, RequestPath, Route, SecretUsed,
    TokenIndex,
};
use crate::wire::credential::Credential;
use crate::wire::headers::{Identity, is_framed_plainly};
use crate::wire::refusal::{self, Circumstances, Refusal};
use crate::wire::target::{self, Host};

/// The realm before a namespace is known.
const REALM: &str = "faregate";

/// A request that somebody wants to be judged.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'r> {
    /// Its method.
    pub method: &'r Method,
    /// Its target.
    pub uri: &'r Uri,
    /// Its headers, with `Host` among them where the target does not name the host.
    pub headers: &'r HeaderMap,
    /// Whether it asks to go on in another protocol, so that subprotocols count.
    pub is_upgrade: bool,
}

/// A request that the law can be asked about: its host has a namespace, its path has one spelling,
/// and it presents one credential or none.
pub struct Heard<'r> {
    /// The namespace it is for.
    pub namespace: Arc<NamespaceInForce>,
    /// The host it names.
    pub host: Host<'r>,
    /// Its path.
    pub path: RequestPath<'r>,
    method: &'r str,
    query: Option<&'r str>,
    credential: Credential<'r>,
}

/// A request that was refused.
pub struct Refused {
    /// Why.
    pub refusal: Refusal,
    /// The namespace it was for, where one is known.
    pub namespace: Option<Arc<NamespaceInForce>>,
    /// What the law said of it, where it was asked.
    pub denial: Option<Denial>,
}

impl Gate {
    /// Reads a request up to what the law is asked. Nothing in here waits.
    ///
    /// # Errors
    /// The refusal, when the request breaks one of the rules 1 to 4.
    pub fn hear<'r>(&self, asked: Asked<'r>) -> Result<Heard<'r>, Refused> {
        let Asked { method, uri, headers, is_upgrade } = asked;
        if *method == Method::CONNECT || *method == Method::TRACE {
            return Err(Refused::without_namespace(Refusal::MethodNotAllowed));
        }
        // hyper counts the header lines of HTTP/1.1 only.
        if headers.len() > self.limits.max_headers {
            return Err(Refused::without_namespace(Refusal::TooManyHeaders));
        }
        let host = target::host(uri, headers).map_err(Refused::early)?;
        let namespace = self.namespace_for(host.name).cloned();
        // The path is judged before the namespace is looked for, and counted with it.
        let path = RequestPath::parse(uri.path()).map_err(|_| Refused {
            refusal: Refusal::Denied(Reason::BadPath),
            namespace: namespace.clone(),
            denial: None,
        })?;
        let namespace = namespace.ok_or_else(|| Refused::early(Reason::UnknownHost))?;
        if !is_framed_plainly(headers) {
            return Err(Refused::by(&namespace, Reason::BadTarget));
        }
        let (method, query) = (method.as_str(), uri.query());
        let credential = namespace.site.headers.credentials.read(headers, query, is_upgrade);
        if matches!(credential, Credential::Ambiguous) {
            let reason = Reason::AmbiguousCredential;
            // Looked for already here so that the refusal is told in the route's dialect.
            let route = namespace.policy.rules().routes.find(method, &path);
            let route = route.map(|found| found.index);
            let denial = Denial { route, ..Denial::early(reason) };
            return Err(Refused::by_law(&namespace, denial));
        }
        Ok(Heard { namespace, host, path, method, query, credential })
    }
}

impl Heard<'_> {
    /// The question to the law.
    #[must_use]
    pub fn ask(&self, now: Moment) -> Ask<'_> {
        let caller = match &self.credential {
            Credential::Presented(claim) => {
                Caller::Secret { secret: claim.secret(), user: claim.user() }
            }
            // Who presents two was refused before.
            Credential::Missing | Credential::Ambiguous => Caller::Nobody,
        };
        Ask { method: self.method, path: self.path, query: self.query, caller, now }
    }
}

impl Refused {
    /// A fault of the gate itself.
    #[must_use]
    pub fn internal() -> Self {
        Self::without_namespace(Refusal::Internal)
    }

    /// Refused before a namespace was known.
    #[must_use]
    pub fn early(reason: Reason) -> Self {
        Self::without_namespace(Refusal::Denied(reason))
    }

    /// Refused before a namespace was known, and not by the law.
    #[must_use]
    pub fn without_namespace(refusal: Refusal) -> Self {
        Self { refusal, namespace: None, denial: None }
    }

    /// Refused within a namespace, before the law was asked.
    #[must_use]
    pub fn by(namespace: &Arc<NamespaceInForce>, reason: Reason) -> Self {
        let refusal = Refusal::Denied(reason);
        Self { refusal, namespace: Some(Arc::clone(namespace)), denial: None }
    }

    /// Refused by the law.
    #[must_use]
    pub fn by_law(namespace: &Arc<NamespaceInForce>, denial: Denial) -> Self {
        Self { denial: Some(denial.clone()), ..Self::by(namespace, denial.reason) }
    }

    /// What the answer to a request with these headers and this path depends on.
    #[must_use]
    pub fn circumstances<'c>(
        &'c self,
        headers: &HeaderMap,
        is_grpc: bool,
        path: &'c str,
        request_id: &'c HeaderValue,
    ) -> Circumstances<'c> {
        let namespace = self.namespace.as_deref();
        let routes = namespace.map(|namespace| namespace.policy.rules().routes.routes());
        let route = self.denial.as_ref().and_then(|denial| routes?.get(denial.route?));
        let missing_group = match (self.refusal, route.map(Route::access)) {
            (Refusal::Denied(Reason::GroupNotAllowed), Some(Access::Group(group))) => {
                Some(&**group)
            }
            _ => None,
        };
        let takes_basic = namespace.is_some_and(|own| own.site.headers.credentials.takes_basic());
        Circumstances {
            realm: namespace.map_or(REALM, |own| &own.site.settings.name),
            dialect: route.map_or_else(Dialect::default, Route::dialect),
            is_grpc,
            offers_basic: takes_basic && refusal::accepts_html(headers),
            missing_group,
            request_id,
            path,
        }
    }
}

impl NamespaceInForce {
    /// Who calls, for the model server; none where no token was needed.
    #[must_use]
    pub fn identity(&self, permit: &Permit) -> Option<Identity<'_>> {
        let token = permit.caller()?;
        Some(Identity {
            token_id: self.policy.token_id(token)?.as_str(),
            token_name: self.policy.token_name(token),
            groups: self.policy.token_groups(token),
        })
    }

    /// Counts a permitted request, and the use of its token.
    pub fn count_permitted(&self, permit: &Permit, now: Moment) {
        self.site.metrics.decided(None, permit.would_deny());
        let Some(usage) = permit.token().and_then(|token| self.usage.get(token.get())) else {
            return;
        };
        if permit.would_deny().is_some() {
            usage.would_deny.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        } else {
            usage.count_allowed(now, permit.secret_used() == Some(SecretUsed::Previous));
        }
    }

    /// Counts a refused request, if a rule refused it, and with the token it came with.
    pub fn count_refused(&self, reason: Option<Reason>, token: Option<TokenIndex>) {
        if reason.is_some() {
            self.site.metrics.decided(reason, None);
        }
        if let Some(usage) = token.and_then(|token| self.usage.get(token.get())) {
            usage.denied.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        }
    }
}
