//! The listener for other gateways' questions: a thread, a runtime and connections of its own.

use std::convert::Infallible;
use std::future::Future;
use std::io::Cursor;
use std::net::{IpAddr, SocketAddr};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::{Semaphore, watch};
use tonic::body::Body;

use super::ListenError;
use crate::forward_auth::ForwardAuth;
use crate::proxy::LocalExecutor;
use crate::proxy::switch::catching_panics;

/// Gateways are few, but some open a connection for each question.
const MAX_CONNECTIONS: usize = 1024;

/// Connections of peers that are only told no. They keep nobody else out.
const MAX_STRANGERS: usize = 64;

/// How long a stranger's connection lives.
const STRANGER_TIMEOUT: Duration = Duration::from_secs(10);

/// How often a gateway that keeps a connection of HTTP/2 is asked whether it is still there, and
/// by when it must say so.
const PING: Duration = Duration::from_secs(20);

/// How long questions get when the gate stops.
const LAST_ANSWER: Duration = Duration::from_secs(15);

/// Header lines by which gateways ask, beside those of the client.
const HEADERS_OF_GATEWAYS: usize = 32;

/// Opens the listener.
///
/// # Errors
/// When the address is taken, is not this machine's, or may not be used.
pub fn listen(address: SocketAddr) -> Result<std::net::TcpListener, ListenError> {
    super::bind("forward_auth", address)
}

/// The running listener. Dropping it lets questions that are under way come to their end.
pub struct ForwardAuthServer {
    stop: watch::Sender<bool>,
    thread: Option<JoinHandle<()>>,
}

impl ForwardAuthServer {
    /// Starts the thread. `auth` makes the listener's state on that thread.
    ///
    /// # Errors
    /// When the system gives no thread or no runtime.
    pub fn start(
        listener: std::net::TcpListener,
        auth: impl FnOnce() -> Rc<ForwardAuth> + Send + 'static,
    ) -> std::io::Result<Self> {
        let (stop, stopped) = watch::channel(false);
        let (started, has_started) = std::sync::mpsc::sync_channel(1);
        let thread = super::vital_thread("forward-auth".into(), move || {
            let opened = Builder::new_current_thread()
                .enable_all()
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
                    runtime.block_on(serve(listener, auth(), stopped));
                }
                Err(error) => drop(started.send(Err(error))),
            }
        })?;
        has_started.recv().unwrap_or_else(|_| Err(std::io::ErrorKind::Other.into()))?;
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for ForwardAuthServer {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.stop.send(true);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn serve(listener: TcpListener, auth: Rc<ForwardAuth>, stopped: watch::Receiver<bool>) {
    let gateways = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let strangers = Arc::new(Semaphore::new(MAX_STRANGERS));
    let all_gone = u32::try_from(MAX_CONNECTIONS).unwrap_or(u32::MAX);
    let accepting = async {
        loop {
            let Ok((stream, peer)) = listener.accept().await else {
                // As in the data plane: what is open frees descriptors.
                tokio::time::sleep(super::PAUSE).await;
                continue;
            };
            let peer = peer.ip().to_canonical();
            let room = if auth.trusts(peer) { &gateways } else { &strangers };
            // Closed at once: a gateway that waits in vain is worse off.
            let Ok(turn) = Arc::clone(room).try_acquire_owned() else { continue };
            let (auth, stopped) = (Rc::clone(&auth), stopped.clone());
            tokio::task::spawn_local(async move {
                if auth.trusts(peer) {
                    serve_connection(stream, peer, auth, stopped).await;
                } else {
                    let serving = serve_connection(stream, peer, auth, stopped);
                    let _ = tokio::time::timeout(STRANGER_TIMEOUT, serving).await;
                }
                drop(turn);
            });
        }
    };
    let mut told = stopped.clone();
    tokio::select! {
        () = accepting => {}
        _ = told.changed() => {}
    }
    // Each connection sees the same word, and ends after its questions.
    let _ = tokio::time::timeout(LAST_ANSWER, gateways.acquire_many(all_gone)).await;
}

async fn serve_connection(
    mut stream: TcpStream,
    peer: IpAddr,
    auth: Rc<ForwardAuth>,
    mut stopped: watch::Receiver<bool>,
) {
    // Only a socket that is gone already refuses.
    let _ = stream.set_nodelay(true);
    let limits = auth.limits();
    let telling = tokio::time::timeout(limits.header_timeout, told_protocol(&mut stream));
    let (is_http2, ahead) = tokio::select! {
        told = telling => match told {
            Ok(Some(told)) => told,
            Ok(None) | Err(_) => return,
        },
        _ = stopped.changed() => return,
    };
    let (reader, writer) = stream.into_split();
    let io = TokioIo::new(tokio::io::join(Cursor::new(ahead).chain(reader), writer));
    let is_trusted = auth.trusts(peer);
    let service = service_fn(move |request: Request<Incoming>| {
        let auth = Rc::clone(&auth);
        async move { Ok::<_, Infallible>(answer(&auth, peer, request).await) }
    });
    if is_http2 {
        let serving = http2::Builder::new(LocalExecutor)
            .timer(TokioTimer::new())
            .max_concurrent_streams(limits.http2_max_streams)
            .max_header_list_size(u32::try_from(limits.max_header_bytes).unwrap_or(u32::MAX))
            .max_send_buf_size(limits.http2_send_buffer_bytes)
            .keep_alive_interval(PING)
            .keep_alive_timeout(PING)
            .serve_connection(io, service);
        until_stopped(serving, stopped, |serving| serving.graceful_shutdown()).await;
    } else {
        let serving = http1::Builder::new()
            .timer(TokioTimer::new())
            // It also ends a connection on which nothing is asked any more.
            .header_read_timeout(limits.keep_alive_timeout)
            .max_header_size(limits.max_header_bytes)
            // The gateway adds some to the client's, whose number is judged with the question.
            .max_headers(limits.max_headers + HEADERS_OF_GATEWAYS)
            .max_buf_size(2 * limits.max_header_bytes)
            .keep_alive(is_trusted)
            .serve_connection(io, service);
        until_stopped(serving, stopped, |serving| serving.graceful_shutdown()).await;
    }
}

async fn answer(
    auth: &Rc<ForwardAuth>,
    peer: IpAddr,
    request: Request<Incoming>,
) -> Response<Body> {
    let answered = catching_panics(Rc::clone(auth).answer(peer, request)).await;
    answered.unwrap_or_else(|| {
        tracing::error!("a question of a gateway panicked");
        auth.failed()
    })
}

/// Drives a connection; told to stop, it ends after the questions that are under way.
async fn until_stopped<C: Future>(
    serving: C,
    mut stopped: watch::Receiver<bool>,
    wind_down: impl FnOnce(Pin<&mut C>),
) {
    let mut serving = pin!(serving);
    tokio::select! {
        _ = serving.as_mut() => return,
        _ = stopped.changed() => {}
    }
    wind_down(serving.as_mut());
    let _ = tokio::time::timeout(LAST_ANSWER, serving).await;
}

/// How a connection of HTTP/2 with prior knowledge begins (RFC 9113, section 3.4), as far as no
/// request of HTTP/1.1 begins so.
const PREFACE: &[u8] = b"PRI";

/// Whether the peer speaks HTTP/2, and what was read to know; none when it says nothing.
async fn told_protocol<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
) -> Option<(bool, Vec<u8>)> {
    let mut ahead = Vec::with_capacity(PREFACE.len());
    while ahead.len() < PREFACE.len() && PREFACE.starts_with(&ahead) {
        let mut byte = [0];
        if stream.read(&mut byte).await.ok()? == 0 {
            return None;
        }
        ahead.extend_from_slice(&byte);
    }
    Some((ahead == PREFACE, ahead))
}
