//! The admin API and the token page: where the administrators of a namespace issue, change and
//! withdraw its tokens.
//!
//! It shares nothing with the data plane but the policies in force. A request passes the guards
//! (host, other sites, administrator key) before anything of it is looked at.

mod body;
mod change;
pub mod explanation;
mod guard;
mod input;
mod list;
mod namespaces;
mod openapi;
mod page;
mod problem;
mod replay;
mod response;
pub mod router;
pub mod throttle;
mod tokens;
pub mod view;

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::Instant;

use http::header::{self, HeaderValue};
use http::request::Parts;
use http::{Request, Response, StatusCode};
use hyper::body::{Body as _, Incoming};
use tokio::sync::{Mutex, Semaphore};

use crate::live::{self, Live, NamespaceInForce, Order};
use crate::policy::Document;
use crate::settings::AdminListener;
use crate::telemetry::audit::{AuditEntry, AuditWriter};
use crate::telemetry::metrics::{Metrics, WITHOUT_KEY};
use crate::token::{Digest, Presented};
use crate::wire::headers;
use guard::{AllowedHosts, Key};
use problem::Refusal;
use replay::{Asked, Replays, Turn};
pub use response::Body;
use router::{Found, Operation};
use throttle::Throttle;

/// So many changes are carried out at one time; further ones wait.
const MAX_UNDER_WAY: usize = 256;

/// The action of requests with a right key for something that is no call.
const NO_CALL: &str = "none";

/// The admin listener's state; one thread has it.
pub struct Admin {
    live: Arc<Live>,
    metrics: Arc<Metrics>,
    audit: AuditWriter,
    orders: Sender<Order>,
    hosts: AllowedHosts,
    throttle: RefCell<Throttle>,
    replays: RefCell<Replays>,
    /// Changes that are being carried out, whether their clients wait for them or not.
    under_way: Arc<Semaphore>,
    /// Whoever changes a namespace's tokens holds its turn.
    turns: RefCell<HashMap<Box<str>, Rc<Mutex<()>>>>,
}

/// Who asks, of which namespace.
struct Administrator {
    name: String,
    namespace: Arc<NamespaceInForce>,
}

/// A request on its way.
struct Call {
    peer: IpAddr,
    parts: Parts,
    request_id: String,
    operation: Operation,
    /// The id in the path, of the calls that have one.
    id: String,
    /// The hashes of the administrator key, as files have them.
    key: KeyHashes,
}

/// The hashes under which a token file may hold an administrator key.
#[derive(Clone, Copy)]
struct KeyHashes {
    blake3: Digest,
    sha256: Digest,
}

impl KeyHashes {
    fn of(key: Presented<'_>) -> Self {
        Self { blake3: Digest::blake3(key.bytes()), sha256: Digest::sha256(key.bytes()) }
    }

    /// Whether the key is an administrator's in a file that says this.
    fn open(&self, document: &Document) -> bool {
        document.admins.iter().any(|admin| {
            Digest::parse(&admin.hash.value)
                .is_ok_and(|own| own == self.blake3 || own == self.sha256)
        })
    }
}

fn no_such_namespace() -> Refusal {
    let detail = "There is no namespace of this name that the key opens.";
    Refusal::new(StatusCode::NOT_FOUND, "no_such_namespace", detail)
}

fn no_such_token() -> Refusal {
    let detail = "There is no token with this id in the namespace.";
    Refusal::new(StatusCode::NOT_FOUND, "no_such_token", detail)
}

impl Admin {
    /// Makes the state of a listener. `orders` reach the thread that keeps the policies.
    #[must_use]
    pub fn new(
        settings: &AdminListener,
        live: Arc<Live>,
        metrics: Arc<Metrics>,
        audit: AuditWriter,
        orders: Sender<Order>,
    ) -> Rc<Self> {
        Rc::new(Self {
            live,
            metrics,
            audit,
            orders,
            hosts: AllowedHosts::new(&settings.allowed_hosts),
            throttle: RefCell::default(),
            replays: RefCell::default(),
            under_way: Arc::new(Semaphore::new(MAX_UNDER_WAY)),
            turns: RefCell::default(),
        })
    }

    /// Answers a request, whatever it is; with the body of one that was refused before it was read.
    pub async fn answer(
        self: Rc<Self>,
        peer: IpAddr,
        request: Request<Incoming>,
    ) -> (Response<Body>, Option<Incoming>) {
        let (parts, body) = request.into_parts();
        let request_id = headers::request_id(&parts.headers);
        let id = request_id.to_str().unwrap_or_default().to_owned();
        let path = parts.uri.path().to_owned();
        let mut action = WITHOUT_KEY;
        let mut body = Some(body);
        let answered = Rc::clone(&self).respond(peer, parts, &mut body, &id, &mut action).await;
        let mut response = answered.unwrap_or_else(|refusal| refusal.into_response(&path, &id));
        response::set_headers_of_all(&mut response, &request_id);
        self.metrics.admin_answered(action, response.status().as_u16());
        (response, body)
    }

    /// Waits until every change that is under way has come to its end.
    pub async fn until_idle(&self) {
        let all = u32::try_from(MAX_UNDER_WAY).unwrap_or(u32::MAX);
        // It is never closed.
        let _ = self.under_way.acquire_many(all).await;
    }

    /// The answer where answering itself failed.
    #[must_use]
    pub fn failed(&self) -> Response<Body> {
        let request_id = headers::request_id(&http::HeaderMap::new());
        let request = request_id.to_str().unwrap_or_default();
        let mut response = Refusal::internal().into_response("", request);
        response::set_headers_of_all(&mut response, &request_id);
        self.metrics.admin_answered(WITHOUT_KEY, 500);
        response
    }

    async fn respond(
        self: Rc<Self>,
        peer: IpAddr,
        parts: Parts,
        body: &mut Option<Incoming>,
        request_id: &str,
        action: &mut &'static str,
    ) -> Result<Response<Body>, Refusal> {
        let host = self.hosts.check(&parts)?;
        let found = router::find(&parts.method, parts.uri.path());
        let is_page = matches!(&found, Found::Call(Operation::Page, _));
        guard::check_site(&parts, &host, is_page)?;
        if let Found::Call(operation, values) = &found
            && operation.is_public()
        {
            *action = operation.as_str();
            return match operation {
                Operation::OpenApi => Ok(openapi::response()),
                _ => page::file(values.first().copied()).ok_or_else(no_such_path),
            };
        }
        // From here on nobody is told what there is without a key.
        let key = match &found {
            Found::Nothing | Found::OtherMethod(_) if !parts.uri.path().starts_with("/api/") => {
                None
            }
            _ => Some(self.authenticated(peer, &parts, request_id).await?),
        };
        if key.is_some() {
            *action = NO_CALL;
        }
        let (operation, values) = match found {
            Found::Call(operation, values) => (operation, values),
            Found::Nothing => return Err(no_such_path()),
            Found::OtherMethod(methods) => {
                let detail = format!("This path has the methods {methods}.");
                let status = StatusCode::METHOD_NOT_ALLOWED;
                let refusal = Refusal::new(status, "method_not_allowed", detail);
                return Err(match HeaderValue::from_str(&methods) {
                    Ok(methods) => refusal.with_header(header::ALLOW, methods),
                    Err(_) => refusal,
                });
            }
        };
        let Some(key) = key else { return Err(no_such_path()) };
        *action = operation.as_str();
        if operation != Operation::ListTokens {
            let query = parts.uri.query().unwrap_or_default();
            if let Some((name, _)) = form_urlencoded::parse(query.as_bytes()).next() {
                return Err(Refusal::of_field(&name, "this call has no such parameter"));
            }
        }
        if operation == Operation::ListNamespaces {
            return Ok(namespaces::opened_by(&self.live.gate(), key));
        }
        let text = |place: usize| values.get(place).copied().unwrap_or_default().to_owned();
        let (namespace, id) = (text(0), text(1));
        let request_id = request_id.to_owned();
        let hashes = KeyHashes::of(key);
        let administrator = self.administrator(key, &namespace).ok_or_else(no_such_namespace)?;
        let call = Call { peer, parts, request_id, operation, id, key: hashes };
        self.dispatch(call, administrator, body).await
    }

    async fn dispatch(
        self: Rc<Self>,
        call: Call,
        administrator: Administrator,
        body: &mut Option<Incoming>,
    ) -> Result<Response<Body>, Refusal> {
        let is_read = matches!(
            call.operation,
            Operation::ListTokens | Operation::GetToken | Operation::ListRoutes
        );
        if is_read {
            let namespace = &administrator.namespace;
            return match call.operation {
                Operation::ListTokens => {
                    list::tokens(namespace, call.parts.uri.query(), live::now())
                }
                Operation::GetToken => tokens::one(namespace, &call.id, live::now()),
                _ => Ok(namespaces::routes(namespace)),
            };
        }
        let has_body = body.as_ref().is_some_and(|body| !body.is_end_stream());
        guard::check_content_type(&call.parts.headers, has_body)?;
        let body = match body.take() {
            Some(body) => body::read(body).await?,
            None => bytes::Bytes::new(),
        };
        // The key may have been taken away while the body came.
        let administrator = self.still_administrator(&call, &administrator)?;
        if call.operation == Operation::Explain {
            return namespaces::explain(&administrator.namespace, &body);
        }
        let Some(key) = replay::key_of(&call.parts.headers)?.filter(|_| call.is_post()) else {
            return self.carried_out(call, administrator, body, None).await;
        };
        let path = call.parts.uri.path().to_owned();
        let asked = Asked { administrator: *call.key.blake3.bytes(), path, key };
        let answer = self.replays.borrow_mut().enter(asked, Instant::now());
        match Turn::take(answer, &body).await? {
            Ok(answered_before) => {
                // Or while the first answer was waited for.
                self.still_administrator(&call, &administrator)?;
                Ok(answered_before)
            }
            Err(turn) => self.carried_out(call, administrator, body, Some(turn)).await,
        }
    }

    /// Carries a change out, to its end even when the client goes away meanwhile.
    async fn carried_out(
        self: Rc<Self>,
        call: Call,
        administrator: Administrator,
        body: bytes::Bytes,
        turn: Option<Turn>,
    ) -> Result<Response<Body>, Refusal> {
        let path = call.parts.uri.path().to_owned();
        let id = call.request_id.clone();
        let place = Arc::clone(&self.under_way).acquire_owned().await;
        let work = tokio::task::spawn_local(async move {
            let _place = place;
            let answered = tokens::change(&self, &call, &administrator, &body).await;
            let is_kept = answered.as_ref().map_or_else(Refusal::has_stanza, |_| true);
            let response = answered.unwrap_or_else(|refusal| refusal.into_response(&path, &id));
            match turn {
                Some(turn) if is_kept => kept(turn, response).await,
                _ => response,
            }
        });
        work.await.map_err(|_| {
            tracing::error!("a call of the admin API panicked");
            Refusal::internal()
        })
    }

    /// The key of a request, if it opens any namespace.
    async fn authenticated<'p>(
        &self,
        peer: IpAddr,
        parts: &'p Parts,
        request_id: &str,
    ) -> Result<Presented<'p>, Refusal> {
        let now = Instant::now();
        let key = match guard::key(&parts.headers)? {
            Key::Presented(key) => key,
            Key::Missing => {
                return Err(unauthorized(
                    "An administrator key is needed: send it as `Authorization: Bearer fga_…`.",
                    "no_credential",
                    "Bearer realm=\"faregate-admin\"",
                ));
            }
        };
        if let Some(wait) = self.throttle.borrow().wait(peer, now) {
            let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
            let detail = "Too many wrong keys came from this address; wait, then try again.";
            let refusal =
                Refusal::new(StatusCode::TOO_MANY_REQUESTS, "too_many_wrong_keys", detail);
            return Err(refusal.with_header(header::RETRY_AFTER, seconds.into()));
        }
        let gate = self.live.gate();
        let opens = |namespace: &&Arc<NamespaceInForce>| administrator_of(namespace, key).is_some();
        if gate.namespaces().iter().any(|namespace| opens(&namespace)) {
            self.throttle.borrow_mut().succeeded(peer);
            return Ok(key);
        }
        self.throttle.borrow_mut().failed(peer, now);
        let entry = AuditEntry {
            administrator: None,
            address: peer,
            action: "authenticate",
            namespace: None,
            token_id: None,
            changed_fields: &[],
            request_id,
            outcome: "refused_key",
        };
        self.audit.record(&entry).await;
        Err(wrong_key())
    }

    fn administrator(&self, key: Presented<'_>, namespace: &str) -> Option<Administrator> {
        let gate = self.live.gate();
        let namespace = Arc::clone(gate.namespace_named(namespace)?);
        let name = administrator_of(&namespace, key)?.to_owned();
        Some(Administrator { name, namespace })
    }

    /// Who asks, by the policy in force now.
    fn still_administrator(
        &self,
        call: &Call,
        before: &Administrator,
    ) -> Result<Administrator, Refusal> {
        let still = match guard::key(&call.parts.headers)? {
            Key::Presented(key) => self.administrator(key, &before.namespace.site.settings.name),
            Key::Missing => None,
        };
        still.ok_or_else(wrong_key)
    }

    fn turn_of(&self, namespace: &str) -> Rc<Mutex<()>> {
        Rc::clone(self.turns.borrow_mut().entry(namespace.into()).or_default())
    }
}

impl Call {
    fn is_post(&self) -> bool {
        self.parts.method == http::Method::POST
    }
}

async fn kept(turn: Turn, response: Response<Body>) -> Response<Body> {
    use http_body_util::BodyExt as _;
    let (parts, body) = response.into_parts();
    let Ok(body) = body.collect().await.map(http_body_util::Collected::to_bytes);
    turn.keep(parts.status, &parts.headers, body.clone());
    Response::from_parts(parts, Body::new(body))
}

fn unauthorized(detail: &'static str, reason: &'static str, challenge: &'static str) -> Refusal {
    Refusal::new(StatusCode::UNAUTHORIZED, reason, detail)
        .with_header(header::WWW_AUTHENTICATE, HeaderValue::from_static(challenge))
}

fn wrong_key() -> Refusal {
    unauthorized(
        "The administrator key is not valid.",
        "invalid_token",
        "Bearer realm=\"faregate-admin\", error=\"invalid_token\"",
    )
}

fn no_such_path() -> Refusal {
    let detail = "There is nothing here; `/openapi.json` describes what there is.";
    Refusal::new(StatusCode::NOT_FOUND, "no_such_path", detail)
}

/// The administrator whose key this is. Only keys with the prefix of administrator keys are looked
/// up, so that a token is never one, whatever stands in the file.
fn administrator_of<'n>(namespace: &'n NamespaceInForce, key: Presented<'_>) -> Option<&'n str> {
    if key.is_admin_key() { namespace.policy.admin(key.bytes()) } else { None }
}
