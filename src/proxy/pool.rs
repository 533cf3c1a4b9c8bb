//! The door to the model servers: one pool of connections per worker and endpoint.
//!
//! An HTTP/1.1 connection has no task of its own: whoever waits for its answer moves it along, so
//! that a request crosses the gate within one task. HTTP/2 connections are shared by many requests
//! and have one.

mod connect;
mod exchange;
mod http2;
mod message;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use http::header::{self, HeaderValue};
use http::uri::{PathAndQuery, Scheme as UriScheme};
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2 as client_http2};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use smallvec::SmallVec;

use super::flight::InFlight;
use super::socket::Socket;
use super::upload::OutBody;
use crate::policy::Permit;
use crate::settings::Scheme;
use crate::upstream::{AtEndpoint, Upstream};
use crate::wire::refusal::Refusal;

use exchange::{send_http1, send_http2, unless_ended, wait};
use http2::Http2;
pub(super) use http2::StreamSlot;
use message::Message;

/// What the gate asks of a model server: a request that was permitted.
pub(super) struct Call {
    /// By what right; used up here.
    pub permit: Permit,
    /// Method, headers and body; no target yet.
    pub request: Request<OutBody>,
    /// The target.
    pub target: PathAndQuery,
    /// The host that the client asked for.
    pub host: HeaderValue,
    /// Whether the client takes trailers.
    pub takes_trailers: bool,
    /// The other protocol that the client wants to go on in, and its half of the connection.
    pub upgrade: Option<(HeaderValue, OnUpgrade)>,
    /// Where to.
    pub upstream: Arc<Upstream>,
}

/// A model server's answer.
pub(super) struct Answer {
    pub response: Response<Incoming>,
    /// HTTP/1.1: the connection that the body comes on.
    pub connection: Option<Box<Http1>>,
    /// Counts the request at its endpoint until it is answered to the end.
    pub at: Option<AtEndpoint>,
    /// HTTP/2: its place on the connection, likewise.
    pub slot: Option<StreamSlot>,
    /// Both halves of an upgraded connection, client first.
    pub upgrade: Option<(OnUpgrade, OnUpgrade)>,
}

/// A connection of HTTP/1.1.
pub(super) struct Http1 {
    sender: http1::SendRequest<OutBody>,
    driver: Option<http1::Connection<Io, OutBody>>,
    home: Weak<EndpointPool>,
    idle_since: Cell<Instant>,
}

type Io = TokioIo<Socket>;

impl Http1 {
    /// Moves the connection along; reads and writes what can be.
    pub(super) fn drive(&mut self, cx: &mut Context<'_>) {
        if let Some(driver) = &mut self.driver
            && Pin::new(driver).poll(cx).is_ready()
        {
            self.driver = None;
        }
    }

    /// Gives it back to its pool if it can serve another request.
    pub(super) fn release(mut self: Box<Self>, cx: &mut Context<'_>) {
        self.drive(cx);
        if self.driver.is_some()
            && self.sender.is_ready()
            && let Some(home) = self.home.upgrade()
        {
            self.idle_since.set(Instant::now());
            home.idle.borrow_mut().push(self);
        }
    }
}

/// The pools of a worker, by upstream.
#[derive(Default)]
pub(super) struct Pools(RefCell<HashMap<u64, Rc<Pool>>>);

struct Pool {
    upstream: Arc<Upstream>,
    endpoints: Vec<Rc<EndpointPool>>,
}

#[derive(Default)]
struct EndpointPool {
    /// Last used last: the others may rest and be closed. Boxed: they move in and out all the time.
    #[allow(clippy::vec_box, reason = "a connection is large, and moves at every request")]
    idle: RefCell<Vec<Box<Http1>>>,
    http2: RefCell<Vec<Http2>>,
    /// Held while an HTTP/2 connection is made, so that a burst of requests makes one.
    connecting: tokio::sync::Mutex<()>,
    /// What the server chose by ALPN, once it did.
    speaks_http2: Cell<Option<bool>>,
    /// When a connection could last not be made.
    failed_at: Cell<Option<(Instant, Refusal)>>,
}

/// What a connection turned out to speak.
enum Connected {
    Http1(Box<Http1>),
    Http2(client_http2::SendRequest<OutBody>, StreamSlot),
}

/// Why one try failed.
struct Failed {
    refusal: Refusal,
    /// The request, if nothing of it was written.
    unsent: Option<Request<OutBody>>,
}

impl Pools {
    /// Closes what rested for too long, and forgets upstreams that are no longer in the settings.
    pub(super) fn sweep(&self, in_force: impl Fn(u64) -> bool) {
        self.0.borrow_mut().retain(|id, pool| {
            for endpoint in &pool.endpoints {
                let idle_timeout = pool.upstream.settings.idle_timeout;
                endpoint.idle.borrow_mut().retain(|c| c.idle_since.get().elapsed() < idle_timeout);
                endpoint.http2.borrow_mut().retain(|c| {
                    let rests = c.open.get() == 0 && c.idle_since.get().elapsed() >= idle_timeout;
                    !c.sender.is_closed() && !rests
                });
            }
            in_force(*id)
        });
    }

    fn pool(&self, upstream: &Arc<Upstream>) -> Rc<Pool> {
        let mut pools = self.0.borrow_mut();
        let pool = pools.entry(upstream.id).or_insert_with(|| {
            let endpoints = upstream.endpoints.iter().map(|_| Rc::default()).collect();
            Rc::new(Pool { upstream: Arc::clone(upstream), endpoints })
        });
        Rc::clone(pool)
    }

    /// Sends a permitted request to a model server and waits for the head of its answer. Another
    /// endpoint is tried when no connection can be made; a request of which anything was written
    /// is never sent again.
    pub(super) async fn call(&self, call: Call, flight: &Rc<InFlight>) -> Result<Answer, Refusal> {
        let Call { permit, mut request, target, host, takes_trailers, upgrade, upstream } = call;
        drop(permit);
        if let Some(authorization) = &upstream.authorization {
            request.headers_mut().insert(header::AUTHORIZATION, authorization.clone());
        }
        let message = Message { target, host, takes_trailers };
        let pool = self.pool(&upstream);
        let mut tried: SmallVec<[usize; 4]> = SmallVec::new();
        let mut failed = Refusal::NoEndpoint;
        loop {
            let Some(place) = upstream.pick(&tried) else { return Err(failed) };
            tried.push(place);
            let trial = pool.try_endpoint(place, request, &message, upgrade.as_ref(), flight);
            match trial.await {
                Ok((mut answer, server)) => {
                    answer.upgrade = server.zip(upgrade).map(|(s, (_, client))| (client, s));
                    return Ok(answer);
                }
                Err(Failed {
                    refusal: refusal @ (Refusal::Unreachable | Refusal::NoEndpoint),
                    unsent: Some(unsent),
                }) => {
                    failed = refusal;
                    request = unsent;
                }
                Err(Failed { refusal, .. }) => return Err(refusal),
            }
        }
    }
}

impl Pool {
    async fn try_endpoint(
        &self,
        place: usize,
        mut request: Request<OutBody>,
        message: &Message,
        upgrade: Option<&(HeaderValue, OnUpgrade)>,
        flight: &Rc<InFlight>,
    ) -> Result<(Answer, Option<OnUpgrade>), Failed> {
        let at = AtEndpoint::count(&self.upstream, place);
        if let Some((protocol, _)) = upgrade {
            let upgrading = self.try_upgrade(place, at, request, message, protocol, flight);
            return Box::pin(upgrading).await;
        }
        let Some(own) = self.endpoints.get(place) else {
            return Err(Failed { refusal: Refusal::Internal, unsent: None });
        };
        loop {
            let (connected, is_kept) = match own.kept().await {
                Some(kept) => (kept, true),
                None => match unless_ended(Box::pin(self.connect(place)), flight).await {
                    Ok(Ok(connected)) => (connected, false),
                    Ok(Err(refusal)) | Err(refusal) => {
                        return Err(Failed { refusal, unsent: Some(request) });
                    }
                },
            };
            flight.expect_response(self.upstream.settings.response_timeout);
            let sent = match connected {
                Connected::Http1(connection) => {
                    message.in_http1(&mut request);
                    send_http1(connection, request, flight).await
                }
                Connected::Http2(sender, slot) => {
                    let scheme = match self.upstream.endpoints.get(place) {
                        Some(state) if state.endpoint.scheme == Scheme::Https => UriScheme::HTTPS,
                        _ => UriScheme::HTTP,
                    };
                    if let Err(refusal) = message.in_http2(&mut request, scheme) {
                        return Err(Failed { refusal, unsent: None });
                    }
                    let sent = send_http2(sender, request, flight).await;
                    if matches!(&sent, Err(failed) if failed.refusal == Refusal::UpstreamTimeout) {
                        own.retire(&slot);
                    }
                    sent.map(|answer| Answer { slot: Some(slot), ..answer })
                }
            };
            match sent {
                Ok(mut answer) => {
                    answer.at = Some(at);
                    return Ok((answer, None));
                }
                // A kept connection that was closed before anything was written on it.
                Err(Failed { unsent: Some(unsent), .. }) if is_kept => request = unsent,
                Err(failed) => return Err(failed),
            }
        }
    }

    async fn try_upgrade(
        &self,
        place: usize,
        at: AtEndpoint,
        mut request: Request<OutBody>,
        message: &Message,
        protocol: &HeaderValue,
        flight: &Rc<InFlight>,
    ) -> Result<(Answer, Option<OnUpgrade>), Failed> {
        let mut connection = match unless_ended(Box::pin(self.connect(place)), flight).await {
            Ok(Ok(Connected::Http1(connection))) => connection,
            // What is to be upgraded is a connection, and this one is shared.
            Ok(Ok(Connected::Http2(..))) => {
                return Err(Failed { refusal: Refusal::UpstreamProtocol, unsent: None });
            }
            Ok(Err(refusal)) | Err(refusal) => {
                return Err(Failed { refusal, unsent: Some(request) });
            }
        };
        message.in_http1(&mut request);
        let headers = request.headers_mut();
        headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(header::UPGRADE, protocol.clone());
        if let Some(driver) = connection.driver.take() {
            // It lives as long as the connection does, in whatever protocol.
            tokio::task::spawn_local(driver.with_upgrades());
        }
        flight.expect_response(self.upstream.settings.response_timeout);
        let sending = connection.sender.try_send_request(request);
        let mut response = wait(sending, flight).await?;
        let server = (response.status() == StatusCode::SWITCHING_PROTOCOLS)
            .then(|| hyper::upgrade::on(&mut response));
        Ok((Answer { response, connection: None, at: Some(at), slot: None, upgrade: None }, server))
    }
}

impl EndpointPool {
    /// A place on an HTTP/2 connection that has one.
    fn place_on_http2(&self) -> Option<(client_http2::SendRequest<OutBody>, StreamSlot)> {
        self.http2.borrow().iter().find_map(Http2::take)
    }

    /// No further request goes on this connection: it may be dead without having been closed.
    fn retire(&self, slot: &StreamSlot) {
        self.http2.borrow_mut().retain(|http2| !Rc::ptr_eq(&http2.open, &slot.open));
    }

    /// A kept connection that the server has not closed.
    async fn kept(&self) -> Option<Connected> {
        if let Some((sender, slot)) = self.place_on_http2() {
            return Some(Connected::Http2(sender, slot));
        }
        poll_fn(|cx| {
            loop {
                let Some(mut connection) = self.idle.borrow_mut().pop() else {
                    return Poll::Ready(None);
                };
                connection.drive(cx);
                if connection.driver.is_some() && connection.sender.is_ready() {
                    return Poll::Ready(Some(Connected::Http1(connection)));
                }
            }
        })
        .await
    }
}
