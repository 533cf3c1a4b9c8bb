//! What stands where a model server would: a plain TCP server that keeps the exact bytes it received and answers what
//! the test tells it to.

use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

use rustls::ServerConfig;

use super::PATIENCE;
use super::http1::{Belief, Read, Received, count_leniently, read_strictly};
use super::transport::{Came, Connection};

/// What the server does with the connection after an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Then {
    KeepOpen,
    Close,
    Reset,
}

type Script = dyn Fn(&mut Exchange<'_>) -> Then + Send + Sync;

/// A request, and the connection on which to answer it.
pub(crate) struct Exchange<'c> {
    /// Its head; the body may still be on its way.
    pub(crate) request: Received,
    /// The how manieth request of its connection this is, from 0.
    pub(crate) nth: usize,
    peer: &'c mut Peer,
}

impl Exchange<'_> {
    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.peer.connection.send(bytes.as_ref());
    }

    /// Reads the whole request, body and trailers.
    pub(crate) fn whole(&mut self) -> Option<Received> {
        loop {
            match read_strictly(&self.peer.connection.unread) {
                Read::Whole(request) => return Some(request),
                Read::Broken(_) => return None,
                Read::HeadOnly(_) | Read::Partial => {}
            }
            if !self.peer.read_more() {
                return None;
            }
        }
    }

    /// From here on the connection is no HTTP: what follows the head is read as it comes.
    pub(crate) fn switch_protocols(&mut self) {
        self.peer.connection.unread.drain(..self.request.length);
        let mut log = lock(&self.peer.log);
        let record = &mut log.connections[self.peer.index];
        record.http_length = Some(record.bytes.len() - self.peer.connection.unread.len());
    }

    /// The next bytes after [`Self::switch_protocols`]; none at the end.
    pub(crate) fn next_bytes(&mut self) -> Option<Vec<u8>> {
        if self.peer.connection.unread.is_empty() && !self.peer.read_more() {
            return None;
        }
        Some(std::mem::take(&mut self.peer.connection.unread))
    }

    /// Waits until the gate closes this connection.
    pub(crate) fn wait_until_closed(&mut self) {
        while self.peer.read_more() {}
    }
}

/// What came on one connection.
#[derive(Debug, Clone, Default)]
pub(crate) struct Record {
    pub(crate) bytes: Vec<u8>,
    /// Whether the gate ended the connection.
    pub(crate) is_ended: bool,
    /// Whether this end closed it.
    pub(crate) is_closed_here: bool,
    /// How many of the bytes are HTTP, when the rest is not.
    http_length: Option<usize>,
    /// The whole requests that were found so far, and how many of the bytes they are.
    read: Vec<Received>,
    read_length: usize,
}

#[derive(Default)]
struct Log {
    connections: Vec<Record>,
    /// To end those connections that are still open when the test ends.
    sockets: Vec<Option<TcpStream>>,
}

type SharedLog = Arc<(Mutex<Log>, Condvar)>;

/// A test that fails with the log in its hand leaves it to the others as it is.
fn lock(log: &SharedLog) -> MutexGuard<'_, Log> {
    log.0.lock().unwrap_or_else(PoisonError::into_inner)
}

/// See the module.
pub(crate) struct ModelServer {
    pub(crate) address: SocketAddr,
    log: SharedLog,
    is_stopping: Arc<AtomicBool>,
    acceptor: Option<JoinHandle<()>>,
}

/// The answer of a server that nobody told another one.
pub(crate) const CANNED: &str = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nX-Served-By: model\r\nContent-Length: 16\r\n\r\n{\"answer\":\"yes\"}";

/// The body of [`CANNED`].
pub(crate) const CANNED_BODY: &str = "{\"answer\":\"yes\"}";

impl ModelServer {
    /// Answers [`CANNED`] to everything.
    pub(crate) fn canned() -> Self {
        Self::answering(CANNED)
    }

    /// Answers the same bytes to every whole request.
    pub(crate) fn answering(answer: impl Into<Vec<u8>>) -> Self {
        let answer = answer.into();
        Self::scripted(move |exchange| {
            if exchange.whole().is_none() {
                return Then::Close;
            }
            let head_only = exchange.request.method == "HEAD";
            let end = super::http1::find(&answer, b"\r\n\r\n").map_or(answer.len(), |end| end + 4);
            exchange.send(if head_only { &answer[..end] } else { &answer });
            Then::KeepOpen
        })
    }

    /// Answers what the script sends. The script runs when a head is there.
    pub(crate) fn scripted(
        script: impl Fn(&mut Exchange<'_>) -> Then + Send + Sync + 'static,
    ) -> Self {
        Self::start(None, script)
    }

    /// As [`Self::scripted`], in TLS.
    pub(crate) fn scripted_tls(
        tls: Arc<ServerConfig>,
        script: impl Fn(&mut Exchange<'_>) -> Then + Send + Sync + 'static,
    ) -> Self {
        Self::start(Some(tls), script)
    }

    fn start(
        tls: Option<Arc<ServerConfig>>,
        script: impl Fn(&mut Exchange<'_>) -> Then + Send + Sync + 'static,
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
                    let index = {
                        let mut log = lock(&log);
                        log.connections.push(Record::default());
                        log.sockets.push(Some(socket.try_clone().unwrap()));
                        log.connections.len() - 1
                    };
                    log.1.notify_all();
                    let (log, script, tls) = (Arc::clone(&log), Arc::clone(&script), tls.clone());
                    std::thread::spawn(move || {
                        let connection = match &tls {
                            None => Ok(Connection::over(socket)),
                            Some(tls) => Connection::tls_accepted(socket, tls),
                        };
                        if let Ok(connection) = connection {
                            Peer { connection, log: Arc::clone(&log), index }.serve(&*script);
                        }
                    });
                }
            })
        };
        Self { address, log, is_stopping, acceptor: Some(acceptor) }
    }

    /// As `endpoints` names it.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn connections(&self) -> Vec<Record> {
        lock(&self.log).connections.clone()
    }

    /// Every byte that came, connection after connection.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.connections().into_iter().flat_map(|record| record.bytes).collect()
    }

    /// The whole requests that came, as a strict reader finds them.
    ///
    /// # Panics
    /// When something came that such a reader refuses.
    pub(crate) fn requests(&self) -> Vec<Received> {
        self.since(&[])
    }

    fn with_records<T>(&self, look: impl FnOnce(&mut [Record]) -> T) -> T {
        look(&mut lock(&self.log).connections)
    }

    /// How many whole requests each connection has brought.
    pub(crate) fn mark(&self) -> Vec<usize> {
        self.with_records(|records| records.iter_mut().map(|record| record.whole().len()).collect())
    }

    /// The whole requests that came after a mark was set.
    pub(crate) fn since(&self, mark: &[usize]) -> Vec<Received> {
        self.with_records(|records| {
            let new = |(index, record): (usize, &mut Record)| {
                let before = mark.get(index).copied().unwrap_or(0);
                record.whole()[before..].to_vec()
            };
            records.iter_mut().enumerate().flat_map(new).collect()
        })
    }

    /// Heads of requests whose body did not come whole.
    pub(crate) fn unfinished(&self) -> Vec<Received> {
        self.with_records(|records| records.iter_mut().filter_map(Record::unfinished).collect())
    }

    /// How many requests the most forgiving readers find, the greatest number of any of them.
    pub(crate) fn count_leniently(&self) -> usize {
        let count = |belief| {
            self.with_records(|records| {
                records.iter().map(|record| count_leniently(record.http(), belief)).sum::<usize>()
            })
        };
        count(Belief::Length).max(count(Belief::Chunks))
    }

    /// Waits for what is received to become so.
    pub(crate) fn wait_until<T>(&self, what: &str, look: impl Fn(&mut [Record]) -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        let mut log = lock(&self.log);
        loop {
            if let Some(found) = look(&mut log.connections) {
                return found;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let bytes: Vec<u8> =
                    log.connections.iter().flat_map(|record| record.bytes.clone()).collect();
                // The lock is given back first: dropping the server wants it while this unwinds.
                drop(log);
                panic!(
                    "it never came to pass that {what}; received:\n{}",
                    String::from_utf8_lossy(&bytes)
                );
            }
            log = self.log.1.wait_timeout(log, left).unwrap().0;
        }
    }

    /// Waits until this many whole requests have come.
    pub(crate) fn wait_for_requests(&self, count: usize) -> Vec<Received> {
        self.wait_until(&format!("{count} requests come"), |records| {
            let requests: Vec<Received> =
                records.iter_mut().flat_map(|record| record.whole().to_vec()).collect();
            (requests.len() >= count).then_some(requests)
        })
    }

    /// Waits until this many heads have come.
    pub(crate) fn wait_for_heads(&self, count: usize) {
        self.wait_until(&format!("{count} heads come"), |records| {
            let heads = |record: &mut Record| {
                record.whole().len() + usize::from(record.unfinished().is_some())
            };
            (records.iter_mut().map(heads).sum::<usize>() >= count).then_some(())
        });
    }

    /// Waits until the gate has ended as many connections.
    pub(crate) fn wait_for_ended_connections(&self, count: usize) {
        self.wait_until(&format!("{count} connections end"), |records| {
            (records.iter().filter(|record| record.is_ended).count() >= count).then_some(())
        });
    }

    /// Waits until this end has closed as many connections.
    pub(crate) fn wait_for_closed_here(&self, count: usize) {
        self.wait_until(&format!("{count} connections are closed here"), |records| {
            (records.iter().filter(|record| record.is_closed_here).count() >= count).then_some(())
        });
    }
}

impl Drop for ModelServer {
    fn drop(&mut self) {
        self.is_stopping.store(true, Ordering::SeqCst);
        // The acceptor looks at the flag at its next connection: this is it.
        drop(TcpStream::connect(self.address));
        if let Some(acceptor) = self.acceptor.take() {
            drop(acceptor.join());
        }
        for socket in lock(&self.log).sockets.iter().flatten() {
            drop(socket.shutdown(Shutdown::Both));
        }
    }
}

impl Record {
    /// What came as HTTP.
    fn http(&self) -> &[u8] {
        &self.bytes[..self.http_length.unwrap_or(self.bytes.len())]
    }

    /// The whole requests, as a strict reader finds them. What was read once is not read again.
    fn whole(&mut self) -> &[Received] {
        while let Read::Whole(request) = self.next() {
            self.read_length += request.length;
            self.read.push(request);
        }
        &self.read
    }

    /// The request whose body did not come whole.
    fn unfinished(&mut self) -> Option<Received> {
        self.whole();
        match self.next() {
            Read::HeadOnly(request) => Some(request),
            _ => None,
        }
    }

    fn next(&self) -> Read {
        let rest = &self.http()[self.read_length..];
        let read = read_strictly(rest);
        if let Read::Broken(why) = &read {
            let text = String::from_utf8_lossy(rest);
            panic!("the model server received what no strict server reads ({why}):\n{text}");
        }
        read
    }
}

/// The server's side of a connection.
struct Peer {
    connection: Connection,
    log: SharedLog,
    index: usize,
}

impl Peer {
    fn serve(mut self, script: &Script) {
        let mut nth = 0;
        loop {
            let request = match read_strictly(&self.connection.unread) {
                Read::Whole(request) | Read::HeadOnly(request) => request,
                // What is broken stays in the record, and the test that reads it fails.
                Read::Broken(_) => return self.close(),
                Read::Partial => {
                    if !self.read_more() {
                        return;
                    }
                    continue;
                }
            };
            let is_upgrade = request.field("upgrade").is_some();
            let mut exchange = Exchange { request, nth, peer: &mut self };
            match script(&mut exchange) {
                Then::Close => return self.close(),
                Then::Reset => {
                    let linger = Some(std::time::Duration::ZERO);
                    socket2::SockRef::from(self.connection.socket()).set_linger(linger).unwrap();
                    return self.end();
                }
                Then::KeepOpen => {}
            }
            if is_upgrade && lock(&self.log).connections[self.index].http_length.is_some() {
                return self.close();
            }
            // What is left of the body is read before the next request is looked for.
            let length = loop {
                match read_strictly(&self.connection.unread) {
                    Read::Whole(request) => break request.length,
                    Read::Broken(_) => return self.close(),
                    Read::HeadOnly(_) | Read::Partial => {
                        if !self.read_more() {
                            return;
                        }
                    }
                }
            };
            self.connection.unread.drain(..length);
            nth += 1;
        }
    }

    /// Closes in order.
    fn close(self) {
        drop(self.connection.socket().shutdown(Shutdown::Both));
        self.end();
    }

    /// Gives the socket up. A second handle of it would keep it open.
    fn end(self) {
        let Self { connection, log, index } = self;
        lock(&log).sockets[index] = None;
        drop(connection);
        lock(&log).connections[index].is_closed_here = true;
        log.1.notify_all();
    }

    /// False at the end of the connection.
    fn read_more(&mut self) -> bool {
        let before = self.connection.unread.len();
        let came = self.connection.read_once();
        let mut log = lock(&self.log);
        let record = &mut log.connections[self.index];
        match came {
            Came::Bytes(_) => record.bytes.extend_from_slice(&self.connection.unread[before..]),
            Came::End | Came::Cut => record.is_ended = true,
            // Idle for as long as a test may take.
            Came::Nothing => {}
        }
        drop(log);
        self.log.1.notify_all();
        matches!(came, Came::Bytes(_))
    }
}
