//! A TCP relay that keeps every byte the gate sent to the model server.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use crate::process::run;
use crate::python::script;

/// A request as HTTP/2 carried it.
#[derive(Debug, serde::Deserialize)]
pub(crate) struct Http2Request {
    /// With those that start with a colon, and those of trailers.
    headers: Vec<(String, String)>,
    /// Bytes beyond ASCII are escaped.
    pub(crate) body: String,
}

impl Http2Request {
    /// The value of a header that is there once.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.iter().filter(|(own, _)| own == name);
        let (_, value) = values.next()?;
        assert!(values.next().is_none(), "{name} is there twice: {self:?}");
        Some(value)
    }

    pub(crate) fn path(&self) -> &str {
        self.header(":path").expect("every request has a path")
    }
}

/// Stands between the gate and a model server. Its threads end with the connections they carry; the
/// one that accepts ends with the relay.
pub(crate) struct RecordingRelay {
    pub(crate) address: String,
    received: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl RecordingRelay {
    pub(crate) fn before(model_server: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let received = Arc::new(Mutex::new(Vec::new()));
        let model_server = model_server.to_owned();
        let keep = Arc::downgrade(&received);
        std::thread::spawn(move || {
            for connection in listener.incoming() {
                let (Ok(gate), Some(received)) = (connection, keep.upgrade()) else { return };
                let Ok(server) = TcpStream::connect(&model_server) else { continue };
                let number = {
                    let mut connections = received.lock().unwrap();
                    connections.push(Vec::new());
                    connections.len() - 1
                };
                let (answers_from, answers_to) =
                    (server.try_clone().unwrap(), gate.try_clone().unwrap());
                std::thread::spawn(move || {
                    copy(gate, server, |bytes| received.lock().unwrap()[number].extend(bytes))
                });
                std::thread::spawn(move || copy(answers_from, answers_to, |_| {}));
            }
        });
        Self { address, received }
    }

    /// All that was sent towards the model server so far, every connection's bytes as they came, one
    /// connection after the other.
    pub(crate) fn received(&self) -> Vec<u8> {
        self.received.lock().unwrap().concat()
    }

    /// The requests that were sent towards the model server so far, where all was HTTP/2: its headers
    /// are packed, and cannot be looked for in the bytes.
    pub(crate) fn http2_requests(&self) -> Vec<Http2Request> {
        let folder = tempfile::tempdir().unwrap();
        let mut unpack = script("http2_requests.py");
        for (number, connection) in self.received.lock().unwrap().iter().enumerate() {
            let file = folder.path().join(number.to_string());
            std::fs::write(&file, connection).unwrap();
            unpack.arg(file);
        }
        let unpacked = run("http2_requests.py", &mut unpack).succeeded();
        serde_json::from_str(&unpacked.stdout).unwrap()
    }

    /// Fails when the text is anywhere in what the model server received, in whatever letter case.
    pub(crate) fn assert_never_received(&self, text: &str) {
        let received = String::from_utf8_lossy(&self.received()).to_ascii_lowercase();
        assert!(
            !received.contains(&text.to_ascii_lowercase()),
            "the model server received {text:?}:\n{received}"
        );
    }
}

impl Drop for RecordingRelay {
    fn drop(&mut self) {
        self.received = Arc::default();
        // The accepting thread looks for the record at its next connection: this is it.
        drop(TcpStream::connect(&self.address));
    }
}

fn copy(mut from: TcpStream, mut to: TcpStream, record: impl Fn(&[u8])) {
    let mut buffer = vec![0; 64 * 1024];
    // A reset is an end as well: whoever is behind the other socket learns of it below.
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        record(&buffer[..length]);
        if to.write_all(&buffer[..length]).is_err() {
            break;
        }
    }
    drop(to.shutdown(Shutdown::Write));
    drop(from.shutdown(Shutdown::Read));
}
