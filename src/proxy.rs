//! The journey of a request: judged, cleaned, forwarded, relayed, recorded.
//!
//! One [`Proxy`] belongs to one worker thread and shares nothing with others but the gate in force
//! and atomic counters.

mod client;
mod destination;
pub mod flight;
mod inspecting;
mod judged_body;
mod judging;
mod listing;
mod outcome;
mod pool;
mod refusing;
mod relay;
pub mod socket;
pub mod switch;
mod upload;

use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use http::header::{self, HeaderValue};
use http::request::Parts;
use http::{Method, Request, Response, StatusCode, Version};
use http_body::Body as _;
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;

use crate::live::{self, Live, NamespaceInForce, Reader, Refused};
use crate::policy::{Inspection, Reason, Route};
use crate::settings::Limits;
use crate::telemetry::metrics::Metrics;
use crate::wire::headers::{self, Forwarded};
use crate::wire::refusal::Refusal;

pub use client::{Busy, Client};
use flight::{Flight, Flights};
pub use inspecting::InspectionRoom;
use inspecting::{HeldBody, Room};
use judging::{Passage, Verdict};
use outcome::Outcome;
use pool::{Call, Pools};
use refusing::{Refusing, refuse};
pub use relay::GateBody;
use switch::Switch;
use upload::OutBody;
pub use upload::discard;

/// What all workers share.
pub struct Shared {
    /// The gate in force.
    pub live: Arc<Live>,
    /// The metrics.
    pub metrics: Arc<Metrics>,
    /// Requests in flight on all workers.
    pub in_flight: AtomicUsize,
    /// Room for bodies that are held until they are judged.
    pub inspection_room: Arc<InspectionRoom>,
}

/// A worker's part of the gate.
pub struct Proxy {
    shared: Arc<Shared>,
    reader: RefCell<Reader>,
    pools: Pools,
    flights: Flights,
    draining: Cell<bool>,
}

impl Proxy {
    /// A worker's part; belongs to the thread it is made on.
    #[must_use]
    pub fn new(shared: Arc<Shared>) -> Self {
        let reader = RefCell::new(shared.live.reader());
        Self {
            shared,
            reader,
            pools: Pools::default(),
            flights: Flights::default(),
            draining: Cell::new(false),
        }
    }

    /// From now on every answer asks its client to come back on another connection.
    pub fn start_draining(&self) {
        self.draining.set(true);
    }

    /// Ends what passed a deadline. To be called several times a second.
    pub fn sweep(&self) {
        let gate = Arc::clone(self.reader.borrow_mut().gate());
        let limits = gate.limits;
        let now = live::now();
        self.flights.each(|flight| {
            flight.check_deadlines(&limits);
            // The end of a grace period revokes without any file changing.
            let is_due = flight.revoke_at.get().is_some_and(|at| now >= at);
            if limits.end_revoked_streams && is_due {
                self.end_if_revoked(flight, &gate, now);
            }
        });
        self.pools.sweep(|id| gate.upstreams().any(|(_, upstream)| upstream.id == id));
    }

    /// Ends what the policy in force no longer allows. Called on this thread after each swap, it
    /// also proves that nothing here is judged by an older policy.
    pub fn end_revoked(&self) {
        let gate = Arc::clone(self.reader.borrow_mut().gate());
        if gate.limits.end_revoked_streams {
            let now = live::now();
            self.flights.each(|flight| self.end_if_revoked(flight, &gate, now));
        }
    }

    fn end_if_revoked(&self, flight: &Flight, gate: &live::Gate, now: crate::policy::Moment) {
        let judged_by = &flight.namespace;
        let rules = judged_by.policy.rules();
        let in_force = gate.namespace_named(&judged_by.site.settings.name);
        let grant = flight.grant.borrow();
        let granted =
            in_force.filter(|namespace| namespace.policy.still_grants(&grant, rules, now));
        match granted {
            Some(namespace) => flight.revoke_at.set(namespace.policy.grant_until(&grant)),
            None => flight.end(flight::Ending::Revoked),
        }
    }

    /// Deadlines and sizes in force.
    #[must_use]
    pub fn limits(&self) -> crate::settings::Limits {
        self.reader.borrow_mut().gate().limits
    }

    /// Whether every request was answered to its end.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.flights.is_empty()
    }

    /// Ends everything that is left when the time to drain is over.
    pub fn end_all(&self) {
        self.flights.each(|flight| flight.end(flight::Ending::Drain));
    }

    /// Answers a request; `stream` ends its response alone, where others share the connection.
    /// Whatever happens in here, the client gets an answer or a closed
    /// connection, and the model server gets nothing that was not permitted.
    ///
    /// # Errors
    /// Never: a refusal is an answer.
    pub async fn serve(
        self: Rc<Self>,
        client: Rc<Client>,
        busy: Busy,
        stream: Option<Rc<Switch>>,
        request: Request<Incoming>,
    ) -> Result<Response<GateBody>, std::convert::Infallible> {
        let started = Instant::now();
        let (limits, access) = {
            let mut reader = self.reader.borrow_mut();
            let gate = reader.gate();
            (gate.limits, gate.access_log)
        };
        let (parts, body) = request.into_parts();
        let version = parts.version;
        let request_id = headers::request_id(&parts.headers);
        let metrics = Arc::clone(&self.shared.metrics);
        let outcome =
            Outcome::new(started, client.peer, &parts, request_id.clone(), access, metrics);
        let judging = AssertUnwindSafe(|| self.judge(&parts, started, None));
        let judged = catch_unwind(judging).unwrap_or_else(|_| Err(Refused::internal()));
        let mut response = match judged {
            Err(refused) => {
                // Who waits for a 100 before it sends is told no instead.
                if !parts.headers.contains_key(header::EXPECT) {
                    discard(body);
                }
                refuse(&parts, refused, &request_id, outcome)
            }
            Ok(Verdict::Pass(passage)) => {
                let body = Upload::Coming(body);
                let journey = Journey { client, stream, parts, body, passage, request_id, outcome };
                self.forwarded(journey, None, &limits).await
            }
            Ok(Verdict::ReadBody(namespace, inspection)) => {
                let unread = Unread {
                    client,
                    stream,
                    parts,
                    body,
                    namespace,
                    inspection,
                    request_id,
                    outcome,
                };
                // Boxed: requests whose body is not read shall not carry the room for this.
                Box::pin(self.read_and_forwarded(unread, &limits)).await
            }
        };
        drop(busy);
        let is_upgrade = response.status() == StatusCode::SWITCHING_PROTOCOLS;
        if self.draining.get() && version < Version::HTTP_2 && !is_upgrade {
            let headers = response.headers_mut();
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        Ok(response)
    }

    /// Forwards a permitted request, and answers for the model server where that does not.
    async fn forwarded(
        &self,
        journey: Journey,
        load: Option<Load>,
        limits: &Limits,
    ) -> Response<GateBody> {
        let refusing = Refusing::of(&journey.parts, &journey.passage, &journey.request_id);
        let forwarded = self.forward(journey, load, limits);
        match switch::catching_panics(forwarded).await {
            Some(Ok(response)) => response,
            Some(Err((refusal, outcome))) => refusing.answer(refusal, outcome),
            None => refusing.answer(Refusal::Internal, None),
        }
    }

    /// Reads the body of a request as far as the law has to know it, then goes on as if it had
    /// just come. Whoever got here has a valid token with the route's group.
    async fn read_and_forwarded(&self, unread: Unread, limits: &Limits) -> Response<GateBody> {
        let Unread { client, stream, parts, body, namespace, inspection, request_id, outcome } =
            unread;
        let refused = |refusal| Refused {
            refusal,
            namespace: Some(Arc::clone(&namespace)),
            denial: Some(inspection.denied(Reason::BadBody)),
        };
        let Some(load) = Load::take(&self.shared, limits.max_requests_in_flight) else {
            if !parts.headers.contains_key(header::EXPECT) {
                discard(body);
            }
            return refuse(&parts, refused(Refusal::Overloaded), &request_id, outcome);
        };
        let routes = namespace.policy.rules().routes.routes();
        let Some(form) = routes.get(inspection.route()).and_then(Route::in_body) else {
            return refuse(&parts, refused(Refusal::Internal), &request_id, outcome);
        };
        let room = Room::new(&self.shared.inspection_room, limits.inspect_total_bytes);
        let read = inspecting::read(body, form, &parts, limits, room);
        let (named, held) = match switch::catching_panics(read).await {
            Some(Ok(read)) => read,
            Some(Err(refusal)) => {
                return refuse(&parts, refused(refusal), &request_id, outcome);
            }
            None => return refuse(&parts, refused(Refusal::Internal), &request_id, outcome),
        };
        let overtaken = refused(Refusal::Overloaded);
        let judging = AssertUnwindSafe(|| {
            let inspected = Some((inspection, named.as_body_model()));
            self.judge(&parts, Instant::now(), inspected)
        });
        let judged = catch_unwind(judging).unwrap_or_else(|_| Err(Refused::internal()));
        let refused = match judged {
            Ok(Verdict::Pass(passage)) => {
                let body = Upload::Held(held);
                let journey = Journey { client, stream, parts, body, passage, request_id, outcome };
                return self.forwarded(journey, Some(load), limits).await;
            }
            // The settings changed meanwhile, and it would have to be read in another way.
            Ok(Verdict::ReadBody(..)) => overtaken,
            Err(refused) => refused,
        };
        // Who waits for a 100 and hears no may send another request in the place of the body.
        if let Some(rest) = held.rest
            && (held.is_asked_for || !parts.headers.contains_key(header::EXPECT))
        {
            discard(rest);
        }
        refuse(&parts, refused, &request_id, outcome)
    }

    /// Sends a permitted request on its way and relays the answer.
    async fn forward(
        &self,
        journey: Journey,
        load: Option<Load>,
        limits: &Limits,
    ) -> Result<Response<GateBody>, (Refusal, Option<Outcome>)> {
        let Journey { client, stream, mut parts, body, passage, request_id, mut outcome } = journey;
        let Passage { permit, namespace, target, prefix, upstream, host } = passage;
        outcome.permitted(&namespace, &permit);
        let load = load.or_else(|| Load::take(&self.shared, limits.max_requests_in_flight));
        let Some(load) = load else { return Err((Refusal::Overloaded, Some(outcome))) };
        let stream = stream.unwrap_or_else(|| Rc::clone(&client.switch));
        let flight = Flight::new(Arc::clone(&namespace), &permit, stream, client.busy(), load);
        let flight = self.flights.start(flight);
        let takes_trailers = headers::takes_trailers(&parts.headers);
        let protocol = headers::wanted_upgrade(&parts.headers)
            .filter(|_| parts.version == Version::HTTP_11 && body.is_empty());
        let upgrade =
            protocol.and_then(|protocol| Some((protocol, parts.extensions.remove::<OnUpgrade>()?)));
        namespace.site.headers.clean_request(&mut parts.headers);
        if let Some(identity) = namespace.identity(&permit) {
            namespace.site.headers.set_identity(&mut parts.headers, &identity);
        }
        let (peer, by_tls, prefix) = (client.peer, client.by_tls, prefix.as_deref());
        let forwarded = Forwarded { peer, by_tls, host: &host, prefix };
        headers::set_forwarded(&mut parts.headers, &forwarded);
        parts.headers.insert(headers::X_REQUEST_ID, request_id);
        let shown = permit.filter().zip(permit.caller());
        if shown.is_some() {
            headers::ask_for_the_whole(&mut parts.headers);
        }
        let is_http2 = parts.version == Version::HTTP_2;
        let body = match body {
            Upload::Coming(body) => OutBody::take(body, is_http2, &flight).await,
            Upload::Held(held) => OutBody::held(held, is_http2, &flight, &self.shared.live),
        };
        let is_head = parts.method == Method::HEAD;
        let path = if shown.is_some() { parts.uri.path().to_owned() } else { String::new() };
        let mut request = Request::new(body);
        *request.method_mut() = parts.method;
        *request.headers_mut() = parts.headers;
        let call = Call { permit, request, target, host, takes_trailers, upgrade, upstream };
        let sent = Instant::now();
        match self.pools.call(call, &flight).await {
            Ok(answer) => {
                outcome.answered(answer.response.status(), sent.elapsed());
                let response = relay::relay(answer, flight, outcome);
                let Some((filter, token)) = shown else { return Ok(response) };
                let may_use = |model: &str| namespace.policy.may_use(token, model);
                let room = Room::new(&self.shared.inspection_room, limits.inspect_total_bytes);
                let cut =
                    listing::cut_down(response, is_head, &path, filter, may_use, limits, room);
                Box::pin(cut).await.map_err(|refusal| (refusal, None))
            }
            Err(refusal) => {
                outcome.bytes_in = flight.bytes_in.get();
                Err((refusal, Some(outcome)))
            }
        }
    }
}

/// All that belongs to a request that was permitted.
struct Journey {
    client: Rc<Client>,
    stream: Option<Rc<Switch>>,
    parts: Parts,
    body: Upload,
    passage: Passage,
    request_id: HeaderValue,
    outcome: Outcome,
}

/// A client's body on its way to the model server.
#[allow(clippy::large_enum_variant, reason = "each is moved once, and most are the small one")]
enum Upload {
    /// Nothing of it was read.
    Coming(Incoming),
    /// It was read to find its model.
    Held(HeldBody),
}

impl Upload {
    fn is_empty(&self) -> bool {
        matches!(self, Self::Coming(body) if body.is_end_stream())
    }
}

/// A request whose body the law has to know.
struct Unread {
    client: Rc<Client>,
    stream: Option<Rc<Switch>>,
    parts: Parts,
    body: Incoming,
    namespace: Arc<NamespaceInForce>,
    inspection: Inspection,
    request_id: HeaderValue,
    outcome: Outcome,
}

/// One of `max_requests_in_flight`, given back on drop.
pub struct Load(Arc<Shared>);

impl Load {
    fn take(shared: &Arc<Shared>, most: usize) -> Option<Self> {
        let load = Self(Arc::clone(shared));
        (shared.in_flight.fetch_add(1, Ordering::Relaxed) < most).then_some(load)
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

/// How long something took, in milliseconds with three decimals.
fn milliseconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}

/// Runs hyper's tasks on the worker's own thread.
#[derive(Debug, Clone, Copy)]
pub struct LocalExecutor;

impl<F: Future<Output: 'static> + 'static> hyper::rt::Executor<F> for LocalExecutor {
    fn execute(&self, future: F) {
        tokio::task::spawn_local(future);
    }
}
