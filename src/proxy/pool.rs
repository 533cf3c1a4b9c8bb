//! The door to the model servers: one pool of connections per worker and endpoint.
//!
//! An HTTP/1.1 connection has no task of its own: whoever waits for its answer moves it along, so
//! that a request crosses the gate within one task. HTTP/2 connections are shared by many requests
//! and have one.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use http::header::{self, HeaderMap, HeaderValue};
use http::uri::{PathAndQuery, Scheme as UriScheme};
use http::{Request, Response, StatusCode, Uri, Version};
use http_body::Body as _;
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use smallvec::SmallVec;
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::LocalExecutor;
use super::flight::{Ending, InFlight};
use super::relay::OutBody;
use super::socket::Socket;
use crate::policy::Permit;
use crate::settings::Scheme;
use crate::upstream::{AtEndpoint, Upstream};
use crate::wire::refusal::Refusal;

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

/// A connection of HTTP/2, shared by as many requests as the server allows at one time.
struct Http2 {
    sender: http2::SendRequest<OutBody>,
    /// How many streams the server allows; kept current by the connection's task.
    allowed: Rc<Cell<usize>>,
    open: Rc<Cell<usize>>,
    idle_since: Rc<Cell<Instant>>,
}

/// A request on a connection of HTTP/2; counts while it lives.
pub(super) struct StreamSlot {
    open: Rc<Cell<usize>>,
    idle_since: Rc<Cell<Instant>>,
}

impl Drop for StreamSlot {
    fn drop(&mut self) {
        self.open.set(self.open.get().saturating_sub(1));
        self.idle_since.set(Instant::now());
    }
}

impl Http2 {
    /// A place for a request, if the server allows another. What is handed to hyper beyond that
    /// waits in a queue where nobody can take it back: it would be sent after it was refused.
    fn take(&self) -> Option<(http2::SendRequest<OutBody>, StreamSlot)> {
        let has_place = self.open.get() < self.allowed.get() && !self.sender.is_closed();
        has_place.then(|| {
            self.open.set(self.open.get() + 1);
            let (open, idle_since) = (Rc::clone(&self.open), Rc::clone(&self.idle_since));
            (self.sender.clone(), StreamSlot { open, idle_since })
        })
    }
}

type Io = TokioIo<Socket>;

/// How much of an answer may be read ahead of its client, in bytes.
const READ_BUFFER: usize = 64 * 1024;

/// HTTP/2: how much of each answer a server may send ahead of its client, in bytes.
const STREAM_WINDOW: u32 = 256 * 1024;

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
    Http2(http2::SendRequest<OutBody>, StreamSlot),
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

/// What a request is made of besides headers and body.
struct Message {
    target: PathAndQuery,
    host: HeaderValue,
    takes_trailers: bool,
}

impl Message {
    fn in_http1(&self, request: &mut Request<OutBody>) {
        *request.version_mut() = Version::HTTP_11;
        *request.uri_mut() = Uri::from(self.target.clone());
        let headers = request.headers_mut();
        headers.remove(header::TE);
        headers.insert(header::HOST, self.host.clone());
        join_cookies(headers);
        // hyper would leave a body of unknown length out of a GET.
        if request.body().size_hint().exact().is_none() {
            let chunked = HeaderValue::from_static("chunked");
            request.headers_mut().insert(header::TRANSFER_ENCODING, chunked);
        }
    }

    fn in_http2(&self, request: &mut Request<OutBody>, scheme: UriScheme) -> Result<(), Refusal> {
        *request.version_mut() = Version::HTTP_2;
        let host = self.host.to_str().map_err(|_| Refusal::Internal)?;
        *request.uri_mut() = Uri::builder()
            .scheme(scheme)
            .authority(host)
            .path_and_query(self.target.clone())
            .build()
            .map_err(|_| Refusal::Internal)?;
        let headers = request.headers_mut();
        headers.remove(header::HOST);
        if self.takes_trailers {
            headers.insert(header::TE, HeaderValue::from_static("trailers"));
        }
        Ok(())
    }
}

/// HTTP/2 may part cookies into several lines; before HTTP/2 there is one (RFC 9113, section 8.2.3).
fn join_cookies(headers: &mut HeaderMap) {
    let lines: Vec<&[u8]> =
        headers.get_all(header::COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if lines.len() > 1
        && let Ok(joined) = HeaderValue::from_bytes(&lines.join(&b"; "[..]))
    {
        headers.insert(header::COOKIE, joined);
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
            return self.try_upgrade(place, at, request, message, protocol, flight).await;
        }
        let Some(own) = self.endpoints.get(place) else {
            return Err(Failed { refusal: Refusal::Internal, unsent: None });
        };
        loop {
            let (connected, is_kept) = match own.kept().await {
                Some(kept) => (kept, true),
                None => match unless_ended(self.connect(place), flight).await {
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
        let mut connection = match unless_ended(self.connect(place), flight).await {
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

    /// Makes a connection, by the endpoint's scheme.
    async fn connect(&self, place: usize) -> Result<Connected, Refusal> {
        let (Some(state), Some(own)) =
            (self.upstream.endpoints.get(place), self.endpoints.get(place))
        else {
            return Err(Refusal::Internal);
        };
        let may_be_shared = match state.endpoint.scheme {
            Scheme::Http => false,
            Scheme::H2c => true,
            Scheme::Https => own.speaks_http2.get() != Some(false),
        };
        let asked_at = Instant::now();
        let _turn = if may_be_shared { Some(own.connecting.lock().await) } else { None };
        // Whoever held the turn before may have made the connection, or found that none can be
        // made; each waiting its own time for the same dead server would add up.
        if let Some((sender, slot)) = own.place_on_http2() {
            return Ok(Connected::Http2(sender, slot));
        }
        if let Some((at, refusal)) = own.failed_at.get().filter(|_| may_be_shared)
            && at > asked_at
        {
            return Err(refusal);
        }
        let connecting = self.open(place, Rc::downgrade(own));
        let connected = timeout(self.upstream.settings.connect_timeout, connecting).await;
        let connected = connected.unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into()));
        if state.note(connected.is_ok()) {
            match &connected {
                Ok(_) => tracing::info!(endpoint = state.name, "model server answers again"),
                Err(error) => tracing::warn!(
                    endpoint = state.name, %error, "model server cannot be reached"
                ),
            }
        }
        connected.map_err(|error| {
            let refusal = match error.kind() {
                std::io::ErrorKind::AddrNotAvailable => Refusal::NoEndpoint,
                _ => Refusal::Unreachable,
            };
            own.failed_at.set(Some((Instant::now(), refusal)));
            refusal
        })
    }

    async fn open(&self, place: usize, home: Weak<EndpointPool>) -> std::io::Result<Connected> {
        let state = self.upstream.endpoints.get(place).ok_or(std::io::ErrorKind::NotFound)?;
        let own = self.endpoints.get(place).ok_or(std::io::ErrorKind::NotFound)?;
        let endpoint = &state.endpoint;
        let addresses = lookup_host((endpoint.host.as_str(), endpoint.port)).await;
        let addresses: SmallVec<[SocketAddr; 4]> =
            addresses.map(Iterator::collect).unwrap_or_default();
        if addresses.is_empty() {
            return Err(std::io::ErrorKind::AddrNotAvailable.into());
        }
        let stream = TcpStream::connect(&addresses[..]).await?;
        stream.set_nodelay(true)?;
        let (socket, speaks_http2) = match (endpoint.scheme, &self.upstream.tls) {
            (Scheme::Http, _) => (Socket::Clear(stream), false),
            (Scheme::H2c, _) => (Socket::Clear(stream), true),
            (Scheme::Https, Some(config)) => {
                let name = ServerName::try_from(endpoint.host.clone())
                    .map_err(|error| std::io::Error::other(error.to_string()))?;
                let stream = TlsConnector::from(Arc::clone(config)).connect(name, stream).await?;
                let speaks_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
                (Socket::Tls(Box::new(stream.into())), speaks_http2)
            }
            (Scheme::Https, None) => return Err(std::io::ErrorKind::Unsupported.into()),
        };
        let io = TokioIo::new(socket);
        if !speaks_http2 {
            own.speaks_http2.set(Some(false));
            let handshake = http1::Builder::new().max_buf_size(READ_BUFFER).handshake(io).await;
            let (sender, driver) = handshake.map_err(std::io::Error::other)?;
            let idle_since = Cell::new(Instant::now());
            let driver = Some(driver);
            let connection = Http1 { sender, driver, home, idle_since };
            return Ok(Connected::Http1(Box::new(connection)));
        }
        own.speaks_http2.set(Some(true));
        let handshake = http2::Builder::new(LocalExecutor)
            // None before the server said how many it allows.
            .initial_max_send_streams(0)
            // Each stream holds back its own server; together they never hold back each other.
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(i32::MAX.unsigned_abs())
            .handshake(io)
            .await;
        let (sender, mut driver) = handshake.map_err(std::io::Error::other)?;
        let allowed = Rc::new(Cell::new(0));
        poll_fn(|cx| {
            let ended = Pin::new(&mut driver).poll(cx);
            allowed.set(driver.current_max_send_streams());
            match ended {
                _ if allowed.get() > 0 => Poll::Ready(Ok(())),
                Poll::Ready(_) => Poll::Ready(Err(std::io::ErrorKind::ConnectionAborted)),
                Poll::Pending => Poll::Pending,
            }
        })
        .await?;
        let kept_current = Rc::clone(&allowed);
        tokio::task::spawn_local(poll_fn(move |cx| {
            // What went wrong is told to each request on it.
            let ended = Pin::new(&mut driver).poll(cx).map(drop);
            kept_current.set(driver.current_max_send_streams());
            ended
        }));
        let (open, idle_since) = (Rc::default(), Rc::new(Cell::new(Instant::now())));
        let http2 = Http2 { sender, allowed, open, idle_since };
        let (sender, slot) = http2.take().ok_or(std::io::ErrorKind::ConnectionAborted)?;
        own.http2.borrow_mut().push(http2);
        Ok(Connected::Http2(sender, slot))
    }
}

impl EndpointPool {
    /// A place on an HTTP/2 connection that has one.
    fn place_on_http2(&self) -> Option<(http2::SendRequest<OutBody>, StreamSlot)> {
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

async fn send_http1(
    mut connection: Box<Http1>,
    request: Request<OutBody>,
    flight: &Rc<InFlight>,
) -> Result<Answer, Failed> {
    let sending = connection.sender.try_send_request(request);
    let mut sending = pin!(sending);
    let response = wait(
        poll_fn(|cx| {
            connection.drive(cx);
            sending.as_mut().poll(cx)
        }),
        flight,
    )
    .await?;
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        // Nobody asked for that.
        return Err(Failed { refusal: Refusal::UpstreamProtocol, unsent: None });
    }
    Ok(Answer { response, connection: Some(connection), at: None, slot: None, upgrade: None })
}

async fn send_http2(
    mut sender: http2::SendRequest<OutBody>,
    request: Request<OutBody>,
    flight: &Rc<InFlight>,
) -> Result<Answer, Failed> {
    let response = wait(sender.try_send_request(request), flight).await?;
    Ok(Answer { response, connection: None, at: None, slot: None, upgrade: None })
}

/// Waits for the head of an answer, or for the flight's end.
async fn wait(
    sending: impl Future<
        Output = Result<Response<Incoming>, hyper::client::conn::TrySendError<Request<OutBody>>>,
    >,
    flight: &Rc<InFlight>,
) -> Result<Response<Incoming>, Failed> {
    let mut sending = pin!(sending);
    let sent = poll_fn(|cx| {
        if let Some(why) = flight.ended() {
            return Poll::Ready(Err(why));
        }
        flight.waiting.register(cx);
        sending.as_mut().poll(cx).map(Ok)
    })
    .await;
    match sent {
        Ok(Ok(response)) => Ok(response),
        Ok(Err(mut error)) => {
            let unsent = error.take_message();
            let cause = error.error();
            let refusal = if flight.client_failed.get() {
                Refusal::BadBody
            } else if cause.is_parse() || cause.is_parse_too_large() {
                Refusal::UpstreamProtocol
            } else {
                Refusal::UpstreamReset
            };
            tracing::debug!(error = %cause, "no answer of the model server");
            Err(Failed { refusal, unsent })
        }
        Err(why) => Err(Failed { refusal: refusal_for(why), unsent: None }),
    }
}

/// Waits for something that nothing was sent for yet, or for the flight's end.
async fn unless_ended<T>(
    future: impl Future<Output = T>,
    flight: &Rc<InFlight>,
) -> Result<T, Refusal> {
    let mut future = pin!(future);
    poll_fn(|cx| {
        if let Some(why) = flight.ended() {
            return Poll::Ready(Err(refusal_for(why)));
        }
        flight.waiting.register(cx);
        future.as_mut().poll(cx).map(Ok)
    })
    .await
}

fn refusal_for(why: Ending) -> Refusal {
    match why {
        Ending::ResponseTimeout => Refusal::UpstreamTimeout,
        Ending::BodyTimeout | Ending::WriteTimeout => Refusal::BodyTimeout,
        Ending::Revoked => Refusal::Revoked,
        Ending::Drain => Refusal::Overloaded,
    }
}
