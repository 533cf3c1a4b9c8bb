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

use http::header::{self, HeaderValue};
use http::uri::{PathAndQuery, Scheme as UriScheme};
use http::{Request, Response, StatusCode, Uri, Version};
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

type Http2 = http2::SendRequest<OutBody>;
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
    http2: RefCell<Option<Http2>>,
    /// Held while an HTTP/2 connection is made, so that a burst of requests makes one.
    connecting: tokio::sync::Mutex<()>,
}

/// What a connection turned out to speak.
enum Connected {
    Http1(Box<Http1>),
    Http2(Http2),
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
                None => match self.connect(place).await {
                    Ok(connected) => (connected, false),
                    Err(refusal) => return Err(Failed { refusal, unsent: Some(request) }),
                },
            };
            flight.expect_response(self.upstream.settings.response_timeout);
            let sent = match connected {
                Connected::Http1(connection) => {
                    message.in_http1(&mut request);
                    send_http1(connection, request, flight).await
                }
                Connected::Http2(sender) => {
                    let scheme = match self.upstream.endpoints.get(place) {
                        Some(state) if state.endpoint.scheme == Scheme::Https => UriScheme::HTTPS,
                        _ => UriScheme::HTTP,
                    };
                    if let Err(refusal) = message.in_http2(&mut request, scheme) {
                        return Err(Failed { refusal, unsent: None });
                    }
                    send_http2(sender, request, flight).await
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
        let mut connection = match self.connect(place).await {
            Ok(Connected::Http1(connection)) => connection,
            // What is to be upgraded is a connection, and this one is shared.
            Ok(Connected::Http2(_)) => {
                return Err(Failed { refusal: Refusal::UpstreamProtocol, unsent: None });
            }
            Err(refusal) => return Err(Failed { refusal, unsent: Some(request) }),
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
        Ok((Answer { response, connection: None, at: Some(at), upgrade: None }, server))
    }

    /// Makes a connection, by the endpoint's scheme.
    async fn connect(&self, place: usize) -> Result<Connected, Refusal> {
        let (Some(state), Some(own)) =
            (self.upstream.endpoints.get(place), self.endpoints.get(place))
        else {
            return Err(Refusal::Internal);
        };
        let shared = (state.endpoint.scheme != Scheme::Http).then(|| own.connecting.lock());
        let _turn = match shared {
            Some(turn) => Some(turn.await),
            None => None,
        };
        // Whoever held the turn before may have made the connection.
        if let Some(http2) = own.ready_http2() {
            return Ok(Connected::Http2(http2));
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
        match connected {
            Ok(Connected::Http2(http2)) => {
                *own.http2.borrow_mut() = Some(http2.clone());
                Ok(Connected::Http2(http2))
            }
            Ok(connected) => Ok(connected),
            Err(error) if error.kind() == std::io::ErrorKind::AddrNotAvailable => {
                Err(Refusal::NoEndpoint)
            }
            Err(_) => Err(Refusal::Unreachable),
        }
    }

    async fn open(&self, place: usize, home: Weak<EndpointPool>) -> std::io::Result<Connected> {
        let state = self.upstream.endpoints.get(place).ok_or(std::io::ErrorKind::NotFound)?;
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
            let handshake = http1::Builder::new().handshake(io).await;
            let (sender, driver) = handshake.map_err(std::io::Error::other)?;
            let idle_since = Cell::new(Instant::now());
            let driver = Some(driver);
            let connection = Http1 { sender, driver, home, idle_since };
            return Ok(Connected::Http1(Box::new(connection)));
        }
        let handshake = http2::Builder::new(LocalExecutor).handshake(io).await;
        let (sender, driver) = handshake.map_err(std::io::Error::other)?;
        tokio::task::spawn_local(async move {
            // What went wrong is told to each request on it.
            let _ = driver.await;
        });
        Ok(Connected::Http2(sender))
    }
}

impl EndpointPool {
    fn ready_http2(&self) -> Option<Http2> {
        let mut kept = self.http2.borrow_mut();
        if kept.as_ref().is_some_and(|sender| sender.is_closed() || !sender.is_ready()) {
            *kept = None;
        }
        kept.clone()
    }

    /// A kept connection that the server has not closed.
    async fn kept(&self) -> Option<Connected> {
        if let Some(http2) = self.ready_http2() {
            return Some(Connected::Http2(http2));
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
    Ok(Answer { response, connection: Some(connection), at: None, upgrade: None })
}

async fn send_http2(
    mut sender: Http2,
    request: Request<OutBody>,
    flight: &Rc<InFlight>,
) -> Result<Answer, Failed> {
    let response = wait(sender.try_send_request(request), flight).await?;
    Ok(Answer { response, connection: None, at: None, upgrade: None })
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
            let refusal = if cause.is_parse() || cause.is_parse_too_large() {
                Refusal::UpstreamProtocol
            } else {
                Refusal::UpstreamReset
            };
            tracing::debug!(error = %cause, "no answer of the model server");
            Err(Failed { refusal, unsent })
        }
        Err(why) => Err(Failed {
            refusal: match why {
                Ending::ResponseTimeout => Refusal::UpstreamTimeout,
                Ending::BodyTimeout | Ending::WriteTimeout => Refusal::BodyTimeout,
                Ending::Revoked => Refusal::Revoked,
                Ending::Drain => Refusal::Overloaded,
            },
            unsent: None,
        }),
    }
}
