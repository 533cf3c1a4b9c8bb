//! A model server that speaks HTTP/2 without TLS, whose streams a test can write to and watch.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

use crate::support::PATIENCE;
use crate::support::http2::{Http2, Message, flag, frame, hpack, kind, setting};
use crate::support::transport::{Came, Connection};

/// How the server receives a connection.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Greeting {
    /// With SETTINGS that allow as many streams as anybody wants.
    Open,
    /// With SETTINGS that allow so many streams at one time.
    Allowing(u32),
    /// With nothing at all.
    Silence,
}

/// A request's stream, to be written to from any thread: each frame is one write.
#[derive(Debug, Clone)]
pub(crate) struct Stream {
    /// The how manieth connection it is on, from 0.
    pub(crate) connection: usize,
    id: u32,
    socket: Arc<TcpStream>,
}

impl Stream {
    fn send(&self, kind: u8, flags: u8, payload: &[u8]) {
        // A gate that has closed already is for the reader to notice.
        drop((&*self.socket).write_all(&frame(kind, flags, self.id, payload)));
    }

    pub(crate) fn head(&self, fields: &[(&str, &[u8])], is_last: bool) {
        let flags = flag::END_HEADERS | if is_last { flag::END_STREAM } else { 0 };
        self.send(kind::HEADERS, flags, &hpack::encode(fields));
    }

    pub(crate) fn data(&self, data: &[u8], is_last: bool) {
        self.send(kind::DATA, if is_last { flag::END_STREAM } else { 0 }, data);
    }

    pub(crate) fn reset(&self, code: u32) {
        self.send(kind::RST_STREAM, 0, &code.to_be_bytes());
    }

    /// A whole answer.
    pub(crate) fn answer(&self, body: &[u8]) {
        self.head(&[(":status", b"200")], false);
        self.data(body, true);
    }
}

struct Seen {
    socket: Arc<TcpStream>,
    streams: BTreeMap<u32, Message>,
}

type SharedLog = Arc<(Mutex<Vec<Seen>>, Condvar)>;

fn lock(log: &SharedLog) -> MutexGuard<'_, Vec<Seen>> {
    log.0.lock().unwrap_or_else(PoisonError::into_inner)
}

/// See the module.
pub(crate) struct H2cServer {
    pub(crate) address: SocketAddr,
    log: SharedLog,
    is_stopping: Arc<AtomicBool>,
    acceptor: Option<JoinHandle<()>>,
}

type Script = dyn Fn(&Stream, &Message) + Send + Sync;

impl H2cServer {
    /// The script runs when the head of a request is there.
    pub(crate) fn scripted(script: impl Fn(&Stream, &Message) + Send + Sync + 'static) -> Self {
        Self::greeting(|_| Greeting::Open, script)
    }

    /// Receives each connection, counted from 0, as told.
    pub(crate) fn greeting(
        greeting: impl Fn(usize) -> Greeting + Send + 'static,
        script: impl Fn(&Stream, &Message) + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let log = SharedLog::default();
        let is_stopping = Arc::new(AtomicBool::new(false));
        let script: Arc<Script> = Arc::new(script);
        let acceptor = {
            let (log, is_stopping) = (Arc::clone(&log), Arc::clone(&is_stopping));
            std::thread::spawn(move || {
                for socket in listener.incoming() {
                    if is_stopping.load(Ordering::SeqCst) {
                        return;
                    }
                    let Ok(socket) = socket else { continue };
                    let own = Arc::new(socket.try_clone().unwrap());
                    let connection = {
                        let mut log = lock(&log);
                        log.push(Seen { socket: Arc::clone(&own), streams: BTreeMap::new() });
                        log.len() - 1
                    };
                    log.1.notify_all();
                    let greeting = greeting(connection);
                    let (log, script) = (Arc::clone(&log), Arc::clone(&script));
                    std::thread::spawn(move || {
                        serve(Connection::over(socket), greeting, |streams| {
                            let new = note(&log, connection, streams);
                            for (id, message) in new {
                                let socket = Arc::clone(&own);
                                script(&Stream { connection, id, socket }, &message);
                            }
                        });
                    });
                }
            })
        };
        Self { address, log, is_stopping, acceptor: Some(acceptor) }
    }

    pub(crate) fn connections(&self) -> usize {
        lock(&self.log).len()
    }

    /// Every request that came: its stream and what came on it so far.
    pub(crate) fn requests(&self) -> Vec<(Stream, Message)> {
        requests(&lock(&self.log))
    }

    /// What came so far of the request with this path, once `is_so` of it.
    pub(crate) fn wait_for(
        &self,
        path: &str,
        what: &str,
        is_so: impl Fn(&Message) -> bool,
    ) -> (Stream, Message) {
        let deadline = Instant::now() + PATIENCE;
        let mut log = lock(&self.log);
        loop {
            let found = requests(&log)
                .into_iter()
                .find(|(_, message)| message.field(":path") == Some(path) && is_so(message));
            if let Some(found) = found {
                return found;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let came: Vec<_> = requests(&log).into_iter().map(|(_, message)| message).collect();
                // The lock is given back first: dropping the server wants it while this unwinds.
                drop(log);
                panic!("it never came to pass that {path} {what}; came: {came:?}");
            }
            log = self.log.1.wait_timeout(log, left).unwrap().0;
        }
    }

    /// The stream of the request with this path, once its head is there.
    pub(crate) fn stream(&self, path: &str) -> Stream {
        self.wait_for(path, "comes", |_| true).0
    }
}

impl Drop for H2cServer {
    fn drop(&mut self) {
        self.is_stopping.store(true, Ordering::SeqCst);
        // The acceptor looks at the flag at its next connection: this is it.
        drop(TcpStream::connect(self.address));
        if let Some(acceptor) = self.acceptor.take() {
            drop(acceptor.join());
        }
        for seen in lock(&self.log).iter() {
            drop(seen.socket.shutdown(Shutdown::Both));
        }
    }
}

fn requests(log: &[Seen]) -> Vec<(Stream, Message)> {
    let of = |(connection, seen): (usize, &Seen)| {
        let socket = Arc::clone(&seen.socket);
        seen.streams
            .iter()
            .filter(|(_, message)| !message.fields.is_empty())
            .map(move |(id, message)| {
                (Stream { connection, id: *id, socket: Arc::clone(&socket) }, message.clone())
            })
            .collect::<Vec<_>>()
    };
    log.iter().enumerate().flat_map(of).collect()
}

/// Reads one connection to its end, and shows its streams after each frame.
fn serve(
    mut connection: Connection,
    greeting: Greeting,
    mut after_frame: impl FnMut(&BTreeMap<u32, Message>),
) {
    if matches!(greeting, Greeting::Silence) {
        while matches!(connection.read_once(), Came::Bytes(_)) {}
        return;
    }
    if let Greeting::Allowing(most) = greeting {
        // The first SETTINGS of the connection; those that follow leave the number as it is.
        let mut payload = setting::MAX_CONCURRENT_STREAMS.to_be_bytes().to_vec();
        payload.extend_from_slice(&most.to_be_bytes());
        connection.send(&frame(kind::SETTINGS, 0, 0, &payload));
    }
    let Some(mut http2) = Http2::server(connection) else { return };
    while http2.step() {
        after_frame(&http2.streams);
    }
}

/// Keeps what came, and gives the requests whose heads were not there before.
fn note(
    log: &SharedLog,
    connection: usize,
    streams: &BTreeMap<u32, Message>,
) -> Vec<(u32, Message)> {
    let mut kept = lock(log);
    let before = std::mem::replace(&mut kept[connection].streams, streams.clone());
    drop(kept);
    log.1.notify_all();
    let has_head = |message: &Message| !message.fields.is_empty();
    streams
        .iter()
        .filter(|(id, message)| has_head(message) && !before.get(id).is_some_and(has_head))
        .map(|(id, message)| (*id, message.clone()))
        .collect()
}
