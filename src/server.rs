//! Listeners: the data plane's, which hands connections to the workers, and the one for probes.

pub mod admin;
mod connection;
pub mod forward_auth;
pub mod ops;
pub mod tls;
pub mod worker;

use std::net::SocketAddr;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::live::Live;
use worker::Workers;

/// How many connections the system may hold for us before they are accepted.
const BACKLOG: i32 = 4096;

/// How long nothing is accepted after the system could not give a descriptor.
const PAUSE: Duration = Duration::from_millis(50);

/// An address that cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot listen on {address} ({listener} listener): {error}; choose another address or stop what uses it"
)]
pub struct ListenError {
    listener: &'static str,
    address: SocketAddr,
    error: std::io::Error,
}

/// Opens a listener and tells its address, which names the port that was chosen for port 0.
///
/// # Errors
/// When the address is taken, is not this machine's, or may not be used.
pub fn listen(listener: &'static str, address: SocketAddr) -> Result<TcpListener, ListenError> {
    bind(listener, address).and_then(|socket| {
        TcpListener::from_std(socket).map_err(|error| ListenError { listener, address, error })
    })
}

/// As [`listen`], outside of a runtime.
fn bind(listener: &'static str, address: SocketAddr) -> Result<std::net::TcpListener, ListenError> {
    let open = || {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        // A restart must not wait for the last minute's connections.
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        let opened: std::net::TcpListener = socket.into();
        let address = opened.local_addr()?;
        Ok((opened, address))
    };
    let (opened, bound) = open().map_err(|error| ListenError { listener, address, error })?;
    tracing::info!(listener, address = %bound, "listening");
    Ok(opened)
}

/// Starts a thread without which the gate must not go on: when it panics, the process ends, and
/// whoever watches over it starts it anew. A gate that serves by a policy nobody can change, or
/// hands connections to a worker that is gone, would look well from outside.
///
/// # Errors
/// When the system gives no thread.
pub fn vital_thread(
    name: String,
    work: impl FnOnce() + Send + 'static,
) -> std::io::Result<std::thread::JoinHandle<()>> {
    let told = name.clone();
    std::thread::Builder::new().name(name).spawn(move || {
        if std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)).is_err() {
            tracing::error!(thread = told, "a vital thread panicked, the gate ends");
            // Time for the line to be written.
            std::thread::sleep(PAUSE);
            std::process::exit(1);
        }
    })
}

/// Accepts client connections until `stop` changes, and spreads them over the workers.
pub async fn accept(
    listener: TcpListener,
    workers: &Workers,
    live: &Live,
    mut stop: watch::Receiver<bool>,
) {
    let mut told = false;
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stop.changed() => return,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) if is_of_one_connection(&error) => continue,
            Err(error) => {
                // Descriptors or memory are exhausted: what is open goes on, and frees some.
                if !std::mem::replace(&mut told, true) {
                    tracing::error!(%error, "cannot accept connections");
                }
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        told = false;
        if workers.connections() >= live.gate().limits.max_connections {
            // Closed at once: a client that waits in vain is worse off.
            drop(stream);
            continue;
        }
        if let Ok(stream) = stream.into_std() {
            workers.hand_over(stream, peer);
        }
    }
}

fn is_of_one_connection(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}
