//! The admin listener: a thread, a runtime and connections of its own, so that nothing that happens
//! here slows the data plane.

use std::cell::RefCell;
use std::collections::HashMap;
use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::{Semaphore, watch};
use tokio_rustls::TlsAcceptor;

use super::ListenError;
use super::tls::TlsInForce;
use crate::admin::Admin;
use crate::admin::throttle::network;
use crate::proxy::discard;
use crate::proxy::socket::Socket;
use crate::proxy::switch::catching_panics;

/// Administrators are few; a flood of connections shall not reach the memory.
const MAX_CONNECTIONS: usize = 256;

/// So many of them may come from one address: it keeps nobody else out.
const MAX_CONNECTIONS_OF_ONE: usize = 64;

/// By when a TLS handshake must be over, and a request's head be there.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// After so long a connection takes no further request, so that nobody holds one for ever.
const CONNECTION_AGE: Duration = Duration::from_secs(120);

/// How long its last answer may take then; and how long requests get when the gate stops.
const LAST_ANSWER: Duration = Duration::from_secs(15);

/// The largest head of a request, in bytes.
const MAX_HEAD_BYTES: usize = 32 * 1024;

/// Opens the listener.
///
/// # Errors
/// When the address is taken, is not this machine's, or may not be used.
pub fn listen(address: SocketAddr) -> Result<std::net::TcpListener, ListenError> {
    super::bind("admin", address)
}

/// The running listener. Dropping it lets requests that are under way come to their end.
pub struct AdminServer {
    stop: watch::Sender<bool>,
    thread: Option<JoinHandle<()>>,
}

impl AdminServer {
    /// Starts the thread. `admin` makes the listener's state on that thread.
    ///
    /// # Errors
    /// When the system gives no thread or no runtime.
    pub fn start(
        listener: std::net::TcpListener,
        tls: Option<TlsInForce>,
        admin: impl FnOnce() -> Rc<Admin> + Send + 'static,
    ) -> std::io::Result<Self> {
        let (stop, stopped) = watch::channel(false);
        let (started, has_started) = std::sync::mpsc::sync_channel(1);
        let thread = super::vital_thread("admin".into(), move || {
            let opened = Builder::new_current_thread()
                .enable_all()
                // Changes of token files: one at a time for each namespace.
                .max_blocking_threads(16)
                .build_local(LocalOptions::default())
                .and_then(|runtime| {
                    let _inside = runtime.enter();
                    let listener = TcpListener::from_std(listener)?;
                    drop(_inside);
                    Ok((runtime, listener))
                });
            match opened {
                Ok((runtime, listener)) => {
                    // Whoever starts it waits for this word.
                    let _ = started.send(Ok(()));
                    runtime.block_on(serve(listener, tls, admin(), stopped));
                    // A disk that hangs keeps the gate from ending no longer than this.
                    runtime.shutdown_timeout(LAST_ANSWER);
                }
                Err(error) => drop(started.send(Err(error))),
            }
        })?;
        has_started.recv().unwrap_or_else(|_| Err(std::io::ErrorKind::Other.into()))?;
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for AdminServer {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.stop.send(true);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn serve(
    listener: TcpListener,
    tls: Option<TlsInForce>,
    admin: Rc<Admin>,
    stopped: watch::Receiver<bool>,
) {
    let connections = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let by_address = Rc::<RefCell<HashMap<IpAddr, usize>>>::default();
    let all_gone = u32::try_from(MAX_CONNECTIONS).unwrap_or(u32::MAX);
    let accepting = async {
        loop {
            let Ok(turn) = Arc::clone(&connections).acquire_owned().await else { return };
            match listener.accept().await {
                Ok((stream, peer)) => {
                    let Some(place) = Place::take(&by_address, peer.ip()) else { continue };
                    let (admin, stopped) = (Rc::clone(&admin), stopped.clone());
                    let tls = tls.clone();
                    tokio::task::spawn_local(async move {
                        serve_connection(stream, peer, tls, admin, stopped).await;
                        drop((turn, place));
                    });
                }
                // As in the data plane: what is open frees descriptors.
                Err(_) => tokio::time::sleep(super::PAUSE).await,
            }
        }
    };
    let mut until_stopped = stopped.clone();
    tokio::select! {
        () = accepting => {}
        _ = until_stopped.changed() => {}
    }
    // Each connection hears the same word, and ends after its request.
    let ended = async {
        let _ = connections.acquire_many(all_gone).await;
        // Clients may have gone away from what they asked for.
        admin.until_idle().await;
    };
    let _ = tokio::time::timeout(LAST_ANSWER, ended).await;
}

/// A connection among those of its address; counts while it lives.
struct Place {
    by_address: Rc<RefCell<HashMap<IpAddr, usize>>>,
    network: IpAddr,
}

impl Place {
    fn take(by_address: &Rc<RefCell<HashMap<IpAddr, usize>>>, peer: IpAddr) -> Option<Self> {
        let network = network(peer);
        let mut counts = by_address.borrow_mut();
        let count = counts.entry(network).or_default();
        (*count < MAX_CONNECTIONS_OF_ONE).then(|| {
            *count += 1;
            Self { by_address: Rc::clone(by_address), network }
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.by_address.borrow_mut();
        if let Some(count) = counts.get_mut(&self.network) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.network);
            }
        }
    }
}

async fn serve_connection(
    stream: TcpStream,
    peer: SocketAddr,
    tls: Option<TlsInForce>,
    admin: Rc<Admin>,
    mut stopped: watch::Receiver<bool>,
) {
    // Only a socket that is gone already refuses.
    let _ = stream.set_nodelay(true);
    let socket = match tls {
        None => Socket::Clear(stream),
        Some(tls) => {
            let accepting = TlsAcceptor::from(tls.config()).accept(stream);
            match tokio::time::timeout(HEAD_TIMEOUT, accepting).await {
                Ok(Ok(stream)) => Socket::Tls(Box::new(stream.into())),
                // Who cannot speak TLS with us is told so by TLS itself.
                Ok(Err(_)) | Err(_) => return,
            }
        }
    };
    let peer = peer.ip().to_canonical();
    let service = service_fn(move |request: Request<Incoming>| {
        let admin = Rc::clone(&admin);
        async move {
            let answer = catching_panics(Rc::clone(&admin).answer(peer, request)).await;
            let Some((answer, unread)) = answer else {
                tracing::error!("a request to the admin listener panicked");
                return Ok::<_, Infallible>(admin.failed());
            };
            if let Some(unread) = unread {
                discard(unread);
            }
            Ok(answer)
        }
    });
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_header_size(MAX_HEAD_BYTES)
        .max_buf_size(2 * MAX_HEAD_BYTES)
        .serve_connection(TokioIo::new(socket), service);
    let mut serving = pin!(serving);
    tokio::select! {
        _ = serving.as_mut() => return,
        _ = stopped.changed() => {}
        () = tokio::time::sleep(CONNECTION_AGE) => {}
    }
    serving.as_mut().graceful_shutdown();
    let _ = tokio::time::timeout(LAST_ANSWER, serving).await;
}
