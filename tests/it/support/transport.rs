//! Byte streams with a deadline: clear TCP and TLS look the same to what reads and writes messages.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, ServerConfig, ServerConnection, StreamOwned};

use super::PATIENCE;

/// What a connection is made of.
pub(crate) trait Transport: Read + Write + Send {
    fn socket(&self) -> &TcpStream;
}

impl Transport for TcpStream {
    fn socket(&self) -> &TcpStream {
        self
    }
}

impl Transport for StreamOwned<ClientConnection, TcpStream> {
    fn socket(&self) -> &TcpStream {
        &self.sock
    }
}

impl Transport for StreamOwned<ServerConnection, TcpStream> {
    fn socket(&self) -> &TcpStream {
        &self.sock
    }
}

/// What became of a read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Came {
    Bytes(usize),
    /// The peer closed in order.
    End,
    /// The peer reset the connection, or ended TLS without saying so.
    Cut,
    /// Nothing, for all the time there was.
    Nothing,
}

/// A connection that keeps what was read and not yet taken.
pub(crate) struct Connection {
    transport: Box<dyn Transport>,
    pub(crate) unread: Vec<u8>,
    pub(crate) ended: Option<Came>,
    /// What a TLS server showed.
    pub(crate) peer_certificates: Vec<CertificateDer<'static>>,
}

impl Connection {
    pub(crate) fn over(transport: impl Transport + 'static) -> Self {
        transport.socket().set_read_timeout(Some(PATIENCE)).unwrap();
        transport.socket().set_write_timeout(Some(PATIENCE)).unwrap();
        drop(transport.socket().set_nodelay(true));
        Self {
            transport: Box::new(transport),
            unread: Vec::new(),
            ended: None,
            peer_certificates: Vec::new(),
        }
    }

    pub(crate) fn to(address: SocketAddr) -> Self {
        Self::over(
            TcpStream::connect(address)
                .unwrap_or_else(|error| panic!("cannot connect to {address}: {error}")),
        )
    }

    /// Speaks TLS, and says what the handshake failed with.
    pub(crate) fn tls(
        address: SocketAddr,
        config: &Arc<ClientConfig>,
        name: &str,
    ) -> Result<Self, std::io::Error> {
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let tls = ClientConnection::new(Arc::clone(config), name).unwrap();
        let socket = TcpStream::connect(address)?;
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut stream = StreamOwned::new(tls, socket);
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock)?;
        }
        let shown = stream.conn.peer_certificates().unwrap_or_default().to_vec();
        Ok(Self { peer_certificates: shown, ..Self::over(stream) })
    }

    /// Takes a TLS client.
    pub(crate) fn tls_accepted(
        socket: TcpStream,
        config: &Arc<ServerConfig>,
    ) -> Result<Self, std::io::Error> {
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let tls = ServerConnection::new(Arc::clone(config)).unwrap();
        let mut stream = StreamOwned::new(tls, socket);
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock)?;
        }
        Ok(Self::over(stream))
    }

    /// Sends what it can: a peer that has closed already is for the reader to notice.
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        drop(self.transport.write_all(bytes).and_then(|()| self.transport.flush()));
    }

    /// Sends while the peer takes it; false when it takes no more.
    pub(crate) fn try_send(&mut self, bytes: &[u8], patience: Duration) -> bool {
        self.transport.socket().set_write_timeout(Some(patience)).unwrap();
        let sent = self.transport.write_all(bytes).is_ok();
        drop(self.transport.socket().set_write_timeout(Some(PATIENCE)));
        sent
    }

    /// Reads once, however much comes.
    ///
    /// # Panics
    /// When nothing comes in [`PATIENCE`].
    pub(crate) fn read_more(&mut self) -> Came {
        let came = self.read_once();
        assert!(
            came != Came::Nothing,
            "nothing came; unread: {:?}",
            String::from_utf8_lossy(&self.unread)
        );
        came
    }

    /// As [`Self::read_more`], but leaves it to the caller what to make of nothing.
    pub(crate) fn read_once(&mut self) -> Came {
        if let Some(ended) = self.ended {
            return ended;
        }
        let mut buffer = vec![0; 64 * 1024];
        let came = loop {
            match self.transport.read(&mut buffer) {
                Ok(0) => break Came::End,
                Ok(length) => {
                    self.unread.extend_from_slice(&buffer[..length]);
                    return Came::Bytes(length);
                }
                Err(error) => match error.kind() {
                    ErrorKind::Interrupted => {}
                    ErrorKind::WouldBlock | ErrorKind::TimedOut => return Came::Nothing,
                    _ => break Came::Cut,
                },
            }
        };
        self.ended = Some(came);
        came
    }

    /// Reads until at least `length` bytes are unread; false when the peer ended before.
    pub(crate) fn read_until(&mut self, length: usize) -> bool {
        while self.unread.len() < length {
            if !matches!(self.read_more(), Came::Bytes(_)) {
                return false;
            }
        }
        true
    }

    /// Says that nothing more will be sent, and goes on reading.
    pub(crate) fn finish_sending(&self) {
        drop(self.transport.socket().shutdown(Shutdown::Write));
    }

    /// Ends the connection with a reset: what was sent and not yet read is lost.
    pub(crate) fn reset(self) {
        let socket = self.transport.socket();
        socket2::SockRef::from(socket).set_linger(Some(Duration::ZERO)).unwrap();
    }

    pub(crate) fn socket(&self) -> &TcpStream {
        self.transport.socket()
    }
}
