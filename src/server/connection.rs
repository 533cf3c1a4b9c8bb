//! One client connection: TLS, which HTTP it speaks, and the deadlines between its requests.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf as _, Bytes, BytesMut};
use http::Request;
use hyper::body::Incoming;
use hyper::rt::{Executor, Read, ReadBufCursor, Write};
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rustls::ServerConfig;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

use crate::proxy::socket::Socket;
use crate::proxy::switch::{Switch, until_off};
use crate::proxy::{Client, Proxy};
use crate::settings::Limits;

/// How an HTTP/2 client with prior knowledge begins (RFC 9113, section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Milliseconds since the worker started, moved on by its sweep: a deadline needs no finer clock,
/// and nobody has to ask the system for the time on every read.
#[derive(Debug, Default)]
pub(super) struct Clock(AtomicU64);

impl Clock {
    pub(super) fn set(&self, since_start: Duration) {
        let millis = u64::try_from(since_start.as_millis()).unwrap_or(u64::MAX);
        self.0.store(millis, Ordering::Relaxed);
    }

    fn now(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What a connection waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// The end of the TLS handshake.
    Handshake = 0,
    /// The first request's head, from the start on.
    FirstHead = 1,
    /// Nothing: a request is being answered.
    Busy = 2,
    /// The next request.
    Idle = 3,
    /// The rest of a head whose first bytes came.
    Head = 4,
}

/// The part of a connection that its socket reports to. hyper wants sockets that can change
/// threads, so this is atomic; it never does.
#[derive(Debug)]
struct Progress {
    clock: Arc<Clock>,
    phase: AtomicU8,
    since: AtomicU64,
    /// Since when the client takes nothing; `u64::MAX`: it does.
    unwritten_since: AtomicU64,
    is_http2: AtomicU8,
}

impl Progress {
    fn new(clock: Arc<Clock>) -> Self {
        Self {
            since: AtomicU64::new(clock.now()),
            clock,
            phase: AtomicU8::new(Phase::Handshake as u8),
            unwritten_since: AtomicU64::new(u64::MAX),
            is_http2: AtomicU8::new(0),
        }
    }

    fn enter(&self, phase: Phase) {
        self.phase.store(phase as u8, Ordering::Relaxed);
        self.since.store(self.clock.now(), Ordering::Relaxed);
    }

    fn is_in(&self, phase: Phase) -> bool {
        self.phase.load(Ordering::Relaxed) == phase as u8
    }

    fn note_read(&self) {
        // An HTTP/2 client may speak between requests without beginning one.
        if self.is_in(Phase::Idle) && self.is_http2.load(Ordering::Relaxed) == 0 {
            self.enter(Phase::Head);
        }
    }

    fn note_write(&self, is_pending: bool) {
        if !is_pending {
            self.unwritten_since.store(u64::MAX, Ordering::Relaxed);
        } else if self.unwritten_since.load(Ordering::Relaxed) == u64::MAX {
            self.unwritten_since.store(self.clock.now(), Ordering::Relaxed);
        }
    }
}

/// A connection as the worker that owns it sees it.
pub(super) struct Connection {
    progress: Arc<Progress>,
    switch: Rc<Switch>,
    closing: Cell<bool>,
}

impl Connection {
    pub(super) fn new(clock: &Arc<Clock>) -> Rc<Self> {
        Rc::new(Self {
            progress: Arc::new(Progress::new(Arc::clone(clock))),
            switch: Rc::default(),
            closing: Cell::new(false),
        })
    }

    /// Ends it when it passed a deadline.
    pub(super) fn check_deadlines(&self, limits: &Limits) {
        let progress = &self.progress;
        let now = progress.clock.now();
        let waited = |since: &AtomicU64| {
            Duration::from_millis(now.saturating_sub(since.load(Ordering::Relaxed)))
        };
        if waited(&progress.unwritten_since) >= limits.write_idle_timeout {
            return self.switch.turn_off();
        }
        let most = if progress.is_in(Phase::Handshake) {
            limits.tls_handshake_timeout
        } else if progress.is_in(Phase::FirstHead) || progress.is_in(Phase::Head) {
            limits.header_timeout
        } else if progress.is_in(Phase::Idle) {
            limits.keep_alive_timeout
        } else {
            return;
        };
        let waited = waited(&progress.since);
        if waited < most {
            return;
        }
        let is_idle_http2 =
            progress.is_in(Phase::Idle) && progress.is_http2.load(Ordering::Relaxed) == 1;
        if is_idle_http2 && waited < most + limits.write_idle_timeout {
            // GOAWAY first; whoever does not leave then is cut off.
            self.close();
        } else {
            self.switch.turn_off();
        }
    }

    /// Lets it end after the requests that are under way.
    pub(super) fn close(&self) {
        if !self.closing.replace(true) {
            self.switch.wake();
        }
    }

    /// Ends it now.
    pub(super) fn cut(&self) {
        self.switch.turn_off();
    }
}

/// A socket that reports its progress, and gives out first what was read ahead.
struct ClientIo {
    io: TokioIo<Socket>,
    ahead: Bytes,
    progress: Arc<Progress>,
}

impl Read for ClientIo {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut buf: ReadBufCursor<'_>,
    ) -> Poll<std::io::Result<()>> {
        let own = self.get_mut();
        if !own.ahead.is_empty() {
            let length = own.ahead.len().min(buf.remaining());
            buf.put_slice(&own.ahead[..length]);
            own.ahead.advance(length);
            return Poll::Ready(Ok(()));
        }
        let read = Pin::new(&mut own.io).poll_read(cx, buf);
        if read.is_ready() {
            own.progress.note_read();
        }
        read
    }
}

impl Write for ClientIo {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        let own = self.get_mut();
        let written = Pin::new(&mut own.io).poll_write(cx, buf);
        own.progress.note_write(written.is_pending());
        written
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[std::io::IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        let own = self.get_mut();
        let written = Pin::new(&mut own.io).poll_write_vectored(cx, bufs);
        own.progress.note_write(written.is_pending());
        written
    }
}

/// Serves a connection to its end. `slot` is dropped when the last of it is gone, an upgraded
/// connection included.
pub(super) async fn serve(
    connection: Rc<Connection>,
    proxy: Rc<Proxy>,
    stream: TcpStream,
    peer: SocketAddr,
    tls: Option<Arc<ServerConfig>>,
    slot: Box<dyn Any>,
) {
    let switch = Rc::clone(&connection.switch);
    let work = async {
        // Only a socket that is gone already refuses.
        let _ = stream.set_nodelay(true);
        let by_tls = tls.is_some();
        let (socket, negotiated) = match tls {
            None => (Socket::Clear(stream), None),
            Some(config) => match TlsAcceptor::from(config).accept(stream).await {
                Ok(stream) => {
                    let is_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
                    (Socket::Tls(Box::new(stream.into())), Some(is_http2))
                }
                Err(error) => {
                    tracing::debug!(%peer, %error, "TLS handshake failed");
                    return;
                }
            },
        };
        connection.progress.enter(Phase::FirstHead);
        let mut socket = socket;
        let (is_http2, ahead) = match negotiated {
            Some(is_http2) => (is_http2, Bytes::new()),
            None => match speaks_http2(&mut socket).await {
                Ok(spoken) => spoken,
                Err(_) => return,
            },
        };
        let progress = Arc::clone(&connection.progress);
        let io = ClientIo { io: TokioIo::new(socket), ahead, progress: Arc::clone(&progress) };
        let on_idle = Box::new(move || progress.enter(Phase::Idle));
        let switch = Rc::clone(&connection.switch);
        let client = Client::new(canonical(peer), by_tls, switch, on_idle, slot);
        if is_http2 {
            connection.progress.is_http2.store(1, Ordering::Relaxed);
            serve_http2(&connection, proxy, client, io).await;
        } else {
            serve_http1(&connection, proxy, client, io).await;
        }
    };
    until_off(&switch, work).await;
}

/// An IPv4 client on an IPv6 socket is told by its IPv4 address.
fn canonical(peer: SocketAddr) -> std::net::IpAddr {
    peer.ip().to_canonical()
}

/// Reads until it is clear whether the client begins as HTTP/2 does; the deadline is the caller's.
async fn speaks_http2(socket: &mut Socket) -> std::io::Result<(bool, Bytes)> {
    let mut ahead = BytesMut::with_capacity(4096);
    loop {
        let length = ahead.len().min(PREFACE.len());
        if ahead[..length] != PREFACE[..length] {
            return Ok((false, ahead.freeze()));
        }
        if length == PREFACE.len() {
            return Ok((true, ahead.freeze()));
        }
        if socket.read_buf(&mut ahead).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
    }
}

async fn serve_http1(
    connection: &Rc<Connection>,
    proxy: Rc<Proxy>,
    client: Rc<Client>,
    io: ClientIo,
) {
    let limits = proxy.limits();
    let mut builder = http1::Builder::new();
    builder
        // The worker's sweep watches all deadlines; a timer per request would cost more.
        .header_read_timeout(None)
        .max_header_size(limits.max_header_bytes)
        .max_buf_size(limits.max_header_bytes.max(64 * 1024));
    // 100 is hyper's own default, for which it needs no allocation.
    if limits.max_headers != 100 {
        builder.max_headers(limits.max_headers);
    }
    let progress = Arc::clone(&connection.progress);
    let service = service_fn(move |request: Request<Incoming>| {
        progress.enter(Phase::Busy);
        Rc::clone(&proxy).serve(Rc::clone(&client), client.busy(), None, request)
    });
    let serving = pin!(builder.serve_connection(io, service).with_upgrades());
    drive(connection, serving, http1::UpgradeableConnection::graceful_shutdown).await;
}

async fn serve_http2(
    connection: &Rc<Connection>,
    proxy: Rc<Proxy>,
    client: Rc<Client>,
    io: ClientIo,
) {
    let limits = proxy.limits();
    let streams = StreamExecutor::default();
    let mut builder = http2::Builder::new(streams.clone());
    builder
        .max_concurrent_streams(limits.http2_max_streams)
        .max_send_buf_size(limits.http2_send_buffer_bytes)
        .max_header_list_size(u32::try_from(limits.max_header_bytes).unwrap_or(u32::MAX));
    let progress = Arc::clone(&connection.progress);
    let service = service_fn(move |request: Request<Incoming>| {
        progress.enter(Phase::Busy);
        let stream = streams.next();
        Rc::clone(&proxy).serve(Rc::clone(&client), client.busy(), Some(stream), request)
    });
    let serving = pin!(builder.serve_connection(io, service));
    drive(connection, serving, http2::Connection::graceful_shutdown).await;
}

/// Moves a connection along to its end; `let_end` is called once when it shall take no more.
async fn drive<C: Future<Output = hyper::Result<()>>>(
    connection: &Connection,
    mut serving: Pin<&mut C>,
    let_end: impl Fn(Pin<&mut C>),
) {
    let mut told = false;
    let ended = poll_fn(|cx| {
        if connection.closing.get() && !std::mem::replace(&mut told, true) {
            let_end(serving.as_mut());
        }
        serving.as_mut().poll(cx)
    })
    .await;
    if let Err(error) = ended {
        tracing::debug!(%error, "client connection ended");
    }
}

/// Runs each stream of an HTTP/2 connection as a task that can be ended by itself: hyper calls the
/// service and then hands over the stream's future, in this order and without a pause.
#[derive(Clone, Default)]
struct StreamExecutor(Rc<RefCell<Option<Rc<Switch>>>>);

impl StreamExecutor {
    /// The switch of the stream whose future comes next.
    fn next(&self) -> Rc<Switch> {
        let switch = Rc::<Switch>::default();
        *self.0.borrow_mut() = Some(Rc::clone(&switch));
        switch
    }
}

impl<F: Future<Output = ()> + 'static> Executor<F> for StreamExecutor {
    fn execute(&self, future: F) {
        let switch = self.0.borrow_mut().take().unwrap_or_default();
        let future = Box::pin(future);
        tokio::task::spawn_local(async move {
            until_off(&switch, future).await;
        });
    }
}
