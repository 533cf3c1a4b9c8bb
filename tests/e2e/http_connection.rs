//! A kept HTTP/1.1 connection, so that a test decides which request goes over which.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::thread;

use crate::process::PATIENCE;

/// A connection to one address; made anew when the other side has closed it.
pub(crate) struct HttpConnection {
    address: String,
    stream: Option<BufReader<TcpStream>>,
}

/// An answer, whole.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// Names in lower case.
    headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Answer {
    /// The value of a header that is there once at most.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

impl HttpConnection {
    pub(crate) fn to(address: &str) -> Self {
        Self { address: address.to_owned(), stream: None }
    }

    /// Sends a request and reads its answer.
    ///
    /// # Panics
    /// When there is none.
    pub(crate) fn send(
        &mut self,
        method: &str,
        path: &str,
        bearer: &str,
        json: Option<&serde_json::Value>,
    ) -> Answer {
        let answer = self.try_to_send(method, path, bearer, json);
        answer.unwrap_or_else(|| panic!("no answer to {method} {path}"))
    }

    /// As [`Self::send`], but none when the other side goes away before the whole answer was there.
    pub(crate) fn try_to_send(
        &mut self,
        method: &str,
        path: &str,
        bearer: &str,
        json: Option<&serde_json::Value>,
    ) -> Option<Answer> {
        let mut request = format!(
            "{method} {path} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {bearer}\r\n"
        );
        match json {
            Some(json) => {
                let body = json.to_string();
                let length = body.len();
                request += &format!(
                    "content-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
                );
            }
            None => request += "\r\n",
        }
        let mut stream = match self.stream.take() {
            Some(stream) => stream,
            None => {
                let stream = TcpStream::connect(&self.address).ok()?;
                stream.set_nodelay(true).unwrap();
                stream.set_read_timeout(Some(PATIENCE)).unwrap();
                BufReader::new(stream)
            }
        };
        stream.get_mut().write_all(request.as_bytes()).ok()?;
        let answer = read_answer(&mut stream)?;
        if answer.header("connection") != Some("close") {
            self.stream = Some(stream);
        }
        Some(answer)
    }
}

fn read_answer(stream: &mut BufReader<TcpStream>) -> Option<Answer> {
    let mut line = || {
        let mut line = String::new();
        let length = stream.read_line(&mut line).ok()?;
        (length > 0).then(|| line.trim_end().to_owned())
    };
    let status = line()?.split(' ').nth(1)?.parse().ok()?;
    let mut headers = Vec::new();
    loop {
        let line = line()?;
        if line.is_empty() {
            break;
        }
        let (name, value) = line.split_once(':')?;
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let mut answer = Answer { status, headers, body: String::new() };
    assert_eq!(answer.header("transfer-encoding"), None, "{answer:?}");
    let length = answer.header("content-length").map_or(0, |length| length.parse().unwrap());
    let mut body = vec![0; length];
    stream.read_exact(&mut body).ok()?;
    answer.body = String::from_utf8(body).unwrap();
    Some(answer)
}

/// A model server that answers 200 to every request without a body. Its threads end with their
/// connections, the first of them with the test.
pub(crate) fn contented_model_server() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for connection in listener.incoming().flatten() {
            thread::spawn(move || {
                let mut stream = BufReader::new(connection);
                let mut line = String::new();
                while stream.read_line(&mut line).is_ok_and(|length| length > 0) {
                    let is_end_of_head = line.trim_end().is_empty();
                    line.clear();
                    let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
                    if is_end_of_head && stream.get_mut().write_all(answer).is_err() {
                        return;
                    }
                }
            });
        }
    });
    format!("http://{address}")
}
