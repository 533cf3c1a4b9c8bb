//! Making connections to model servers.

use std::cell::Cell;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::task::Poll;
use std::time::Instant;

use hyper::client::conn::{http1, http2 as client_http2};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use smallvec::SmallVec;
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::http2::Http2;
use super::{Connected, EndpointPool, Http1, Pool};
use crate::proxy::socket::Socket;
use crate::proxy::switch::Switch;
use crate::settings::Scheme;
use crate::wire::refusal::Refusal;

/// How much of an answer may be read ahead of its client, in bytes.
const READ_BUFFER: usize = 64 * 1024;

/// HTTP/2: how much of each answer a server may send ahead of its client, in bytes.
const STREAM_WINDOW: u32 = 256 * 1024;

impl Pool {
    /// Makes a connection, by the endpoint's scheme.
    pub(super) async fn connect(&self, place: usize) -> Result<Connected, Refusal> {
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
        let progress = Rc::new(Switch::default());
        let handshake = client_http2::Builder::new(Telling(Rc::clone(&progress)))
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
            progress.register(cx);
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

/// Runs the tasks of a connection, and wakes who waits for what the server says first: hyper's own
/// halves tell each other of requests and answers, but not of SETTINGS.
#[derive(Clone)]
struct Telling(Rc<Switch>);

impl<F: Future<Output: 'static> + 'static> hyper::rt::Executor<F> for Telling {
    fn execute(&self, future: F) {
        let progress = Rc::clone(&self.0);
        tokio::task::spawn_local(async move {
            let mut future = pin!(future);
            poll_fn(|cx| {
                let polled = future.as_mut().poll(cx);
                progress.wake();
                polled
            })
            .await
        });
    }
}
