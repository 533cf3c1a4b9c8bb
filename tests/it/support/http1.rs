//! HTTP/1 as bytes: requests that are written as they stand, and readers that forgive nothing (the rig's own) or
//! everything (as careless servers do).

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use super::tokens;
use super::transport::{Came, Connection};

/// The host that well-behaved requests name.
pub(crate) const HOST: &str = "models.test";

/// A request in the making. Nothing in it is checked.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    line: String,
    fields: Vec<(String, Vec<u8>)>,
    body: Option<Vec<u8>>,
}

pub(crate) fn request(method: &str, target: &str) -> Request {
    Request {
        line: format!("{method} {target} HTTP/1.1"),
        fields: vec![("Host".into(), HOST.into())],
        body: None,
    }
}

pub(crate) fn get(target: &str) -> Request {
    request("GET", target)
}

pub(crate) fn post(target: &str, body: impl AsRef<[u8]>) -> Request {
    request("POST", target).body(body)
}

impl Request {
    pub(crate) fn with(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.fields.push((name.into(), value.as_ref().into()));
        self
    }

    pub(crate) fn without(mut self, name: &str) -> Self {
        self.fields.retain(|(own, _)| !own.eq_ignore_ascii_case(name));
        self
    }

    pub(crate) fn host(self, host: &str) -> Self {
        let mut changed = self.without("host");
        changed.fields.insert(0, ("Host".into(), host.into()));
        changed
    }

    /// Shows the secret of the token with this id.
    pub(crate) fn token(self, id: &str) -> Self {
        self.bearer(&tokens::secret(id))
    }

    pub(crate) fn bearer(self, secret: &str) -> Self {
        self.with("Authorization", format!("Bearer {secret}"))
    }

    pub(crate) fn body(mut self, body: impl AsRef<[u8]>) -> Self {
        self.body = Some(body.as_ref().into());
        self
    }

    pub(crate) fn version(mut self, version: &str) -> Self {
        let (rest, _) = self.line.rsplit_once(' ').unwrap();
        self.line = format!("{rest} {version}");
        self
    }

    pub(crate) fn method(&self) -> &str {
        self.line.split(' ').next().unwrap()
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut bytes = format!("{}\r\n", self.line).into_bytes();
        for (name, value) in &self.fields {
            bytes.extend_from_slice(name.as_bytes());
            bytes.extend_from_slice(b": ");
            bytes.extend_from_slice(value);
            bytes.extend_from_slice(b"\r\n");
        }
        if let Some(body) = &self.body {
            bytes.extend_from_slice(format!("Content-Length: {}\r\n\r\n", body.len()).as_bytes());
            bytes.extend_from_slice(body);
        } else {
            bytes.extend_from_slice(b"\r\n");
        }
        bytes
    }
}

/// Names in lower case, values as text; order and repetitions kept.
pub(crate) type Fields = Vec<(String, String)>;

/// The one value of a field.
///
/// # Panics
/// When the field is there more than once.
pub(crate) fn only<'f>(fields: &'f Fields, name: &str) -> Option<&'f str> {
    let found = all(fields, name);
    assert!(found.len() <= 1, "{name} is there {} times: {found:?}", found.len());
    found.first().copied()
}

pub(crate) fn all<'f>(fields: &'f Fields, name: &str) -> Vec<&'f str> {
    fields.iter().filter(|(own, _)| own == name).map(|(_, value)| value.as_str()).collect()
}

/// A response as a careful client reads it.
#[derive(Debug, Clone)]
pub(crate) struct Response {
    pub(crate) version: String,
    pub(crate) status: u16,
    pub(crate) fields: Fields,
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: Fields,
    /// Statuses of the interim responses before it.
    pub(crate) interim: Vec<u16>,
    /// False when the connection ended before the response did.
    pub(crate) is_whole: bool,
    /// Whether only the end of the connection ended it.
    pub(crate) ends_with_connection: bool,
    /// Every byte of it, less interim responses.
    pub(crate) bytes: Vec<u8>,
}

impl Response {
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        only(&self.fields, name)
    }

    pub(crate) fn reason(&self) -> Option<&str> {
        self.field("faregate-reason")
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// What is the same in two refusals for one reason: all bytes, but for the request id and the date.
    pub(crate) fn without_what_varies(&self) -> String {
        let mut text = String::from_utf8_lossy(&self.bytes).into_owned();
        let ids: Vec<String> =
            [self.field("x-request-id").map(str::to_owned), self.request_id_in_body()]
                .into_iter()
                .flatten()
                .collect();
        for id in ids {
            text = text.replace(&id, "REQUEST-ID");
        }
        if let Some(date) = self.field("date") {
            text = text.replace(date, "DATE");
        }
        text
    }

    fn request_id_in_body(&self) -> Option<String> {
        let body: serde_json::Value = serde_json::from_slice(&self.body).ok()?;
        body.get("request_id")?.as_str().map(str::to_owned)
    }
}

/// A client of the gate: one connection.
pub(crate) struct Client {
    pub(crate) connection: Connection,
    heard: Arc<Mutex<Vec<u8>>>,
}

impl Client {
    pub(crate) fn over(connection: Connection, heard: &Arc<Mutex<Vec<u8>>>) -> Self {
        Self { connection, heard: Arc::clone(heard) }
    }

    pub(crate) fn to(address: SocketAddr) -> Self {
        Self::over(Connection::to(address), &Arc::default())
    }

    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.connection.send(bytes.as_ref());
    }

    pub(crate) fn ask(&mut self, request: &Request) -> Response {
        self.send(request.bytes());
        self.response_to(request.method())
    }

    /// The next response.
    ///
    /// # Panics
    /// When the connection ends before its head does, or it is malformed.
    pub(crate) fn response(&mut self) -> Response {
        self.response_to("GET")
    }

    pub(crate) fn response_to(&mut self, method: &str) -> Response {
        self.response_or_end(method).expect("a response, not the end of the connection")
    }

    /// The next response; none when the connection ends instead.
    pub(crate) fn response_or_end(&mut self, method: &str) -> Option<Response> {
        let mut interim = Vec::new();
        loop {
            let Some(head_length) = self.head_length() else {
                self.note_all();
                let rest = &self.connection.unread;
                assert!(rest.is_empty(), "half a head: {:?}", String::from_utf8_lossy(rest));
                return None;
            };
            let head = self.take(head_length);
            let (version, status, fields) = parse_response_head(&head);
            if (100..200).contains(&status) && status != 101 {
                interim.push(status);
                continue;
            }
            let mut response = Response {
                version,
                status,
                fields,
                body: Vec::new(),
                trailers: Vec::new(),
                interim,
                is_whole: true,
                ends_with_connection: false,
                bytes: head,
            };
            self.read_body(method, &mut response);
            return Some(response);
        }
    }

    /// The head of the next response, its body left to be read piece by piece.
    pub(crate) fn response_head(&mut self) -> (u16, Fields) {
        let length = self.head_length().expect("a response head");
        let head = self.take(length);
        let (_, status, fields) = parse_response_head(&head);
        (status, fields)
    }

    /// The next `length` bytes, whatever they are; fewer when the connection ends.
    pub(crate) fn bytes(&mut self, length: usize) -> Vec<u8> {
        self.connection.read_until(length);
        let length = length.min(self.connection.unread.len());
        self.take(length)
    }

    /// The data of the next chunk; none at the end of the chunks or of the connection.
    pub(crate) fn chunk(&mut self) -> Option<Vec<u8>> {
        let line = self.line()?;
        let length =
            usize::from_str_radix(&String::from_utf8(line).unwrap(), 16).expect("a chunk size");
        if length == 0 {
            assert_eq!(self.line().as_deref(), Some(&b""[..]), "the end of the chunks");
            return None;
        }
        let data = self.bytes(length);
        assert_eq!(self.bytes(2), b"\r\n");
        Some(data)
    }

    /// Waits until the gate closes, and gives what came before.
    pub(crate) fn rest(&mut self) -> Vec<u8> {
        while let Came::Bytes(_) = self.connection.read_more() {}
        self.note_all();
        std::mem::take(&mut self.connection.unread)
    }

    /// Waits until the gate closes.
    ///
    /// # Panics
    /// When it says something more before.
    pub(crate) fn assert_closes(&mut self) {
        let rest = self.rest();
        assert!(rest.is_empty(), "said before closing: {:?}", String::from_utf8_lossy(&rest));
    }

    fn head_length(&mut self) -> Option<usize> {
        loop {
            if let Some(end) = find(&self.connection.unread, b"\r\n\r\n") {
                return Some(end + 4);
            }
            if !matches!(self.connection.read_more(), Came::Bytes(_)) {
                return None;
            }
        }
    }

    fn line(&mut self) -> Option<Vec<u8>> {
        loop {
            if let Some(end) = find(&self.connection.unread, b"\r\n") {
                let mut line = self.take(end + 2);
                line.truncate(end);
                return Some(line);
            }
            if !matches!(self.connection.read_more(), Came::Bytes(_)) {
                self.note_all();
                return None;
            }
        }
    }

    fn take(&mut self, length: usize) -> Vec<u8> {
        let taken: Vec<u8> = self.connection.unread.drain(..length).collect();
        self.heard.lock().unwrap().extend_from_slice(&taken);
        taken
    }

    fn note_all(&self) {
        self.heard.lock().unwrap().extend_from_slice(&self.connection.unread);
    }

    fn read_body(&mut self, method: &str, response: &mut Response) {
        if method == "HEAD" || matches!(response.status, 101 | 204 | 304) {
            return;
        }
        let chunked = only(&response.fields, "transfer-encoding").map(|coding| {
            assert_eq!(coding, "chunked", "{response:?}");
        });
        let length =
            only(&response.fields, "content-length").map(|length| length.parse::<usize>().unwrap());
        assert!(chunked.is_none() || length.is_none(), "two framings: {response:?}");
        if chunked.is_some() {
            assert_eq!(response.version, "HTTP/1.1", "{response:?}");
            self.read_chunks(response);
        } else if let Some(length) = length {
            response.body = self.bytes(length);
            response.is_whole = response.body.len() == length;
            response.bytes.extend_from_slice(&response.body);
        } else {
            response.ends_with_connection = true;
            response.body = self.rest();
            response.is_whole = self.connection.ended == Some(Came::End);
            response.bytes.extend_from_slice(&response.body);
        }
    }

    fn read_chunks(&mut self, response: &mut Response) {
        loop {
            let Some(line) = self.line() else {
                response.is_whole = false;
                return;
            };
            let length =
                usize::from_str_radix(&String::from_utf8(line).unwrap(), 16).expect("a chunk size");
            if length == 0 {
                break;
            }
            let data = self.bytes(length + 2);
            if data.len() < length + 2 {
                response.is_whole = false;
                return;
            }
            response.body.extend_from_slice(&data[..length]);
        }
        loop {
            let Some(line) = self.line() else {
                response.is_whole = false;
                return;
            };
            if line.is_empty() {
                return;
            }
            response.trailers.push(parse_field(&String::from_utf8_lossy(&line)));
        }
    }
}

fn parse_response_head(head: &[u8]) -> (String, u16, Fields) {
    let text = String::from_utf8_lossy(head);
    let mut lines = text.split("\r\n");
    let line = lines.next().unwrap();
    let mut words = line.splitn(3, ' ');
    let version = words.next().unwrap().to_owned();
    assert!(version.starts_with("HTTP/1."), "no status line: {line:?}");
    let status = words.next().unwrap().parse().unwrap();
    let fields = lines.filter(|line| !line.is_empty()).map(parse_field).collect();
    (version, status, fields)
}

fn parse_field(line: &str) -> (String, String) {
    let (name, value) = line.split_once(':').unwrap_or_else(|| panic!("no field: {line:?}"));
    (name.to_ascii_lowercase(), value.trim_matches([' ', '\t']).to_owned())
}

pub(crate) fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}

/// A request as the model server read it.
#[derive(Debug, Clone)]
pub(crate) struct Received {
    pub(crate) method: String,
    pub(crate) target: String,
    pub(crate) fields: Fields,
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: Fields,
    /// How many bytes of the connection it took.
    pub(crate) length: usize,
}

impl Received {
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        only(&self.fields, name)
    }

    /// As a reviewer reads it: fields sorted, body as text.
    pub(crate) fn summary(&self) -> String {
        let mut lines: Vec<String> =
            self.fields.iter().map(|(name, value)| format!("{name}: {value}")).collect();
        lines.sort();
        let mut text = format!("{} {}\n", self.method, self.target);
        for line in lines {
            writeln!(text, "{line}").unwrap();
        }
        text
    }
}

/// How far a reader came.
#[derive(Debug)]
pub(crate) enum Read {
    Whole(Received),
    /// The head is there, the body is not.
    HeadOnly(Received),
    Partial,
    Broken(String),
}

/// Reads a request the way RFC 9112 has it written, and nothing else.
pub(crate) fn read_strictly(bytes: &[u8]) -> Read {
    let Some(end) = find(bytes, b"\r\n\r\n") else { return Read::Partial };
    let head = &bytes[..end];
    let Ok(text) = std::str::from_utf8(head) else {
        return Read::Broken("a head that is no text".into());
    };
    if let Some(control) = text.replace("\r\n", "").chars().find(|c| c.is_control() && *c != '\t') {
        return Read::Broken(format!("{control:?} in the head"));
    }
    let mut lines = text.split("\r\n");
    let words: Vec<&str> = lines.next().unwrap_or_default().split(' ').collect();
    let [method, target, "HTTP/1.1"] = words[..] else {
        return Read::Broken(format!("request line {words:?}"));
    };
    let mut fields = Fields::new();
    for line in lines {
        match line.split_once(':') {
            Some((name, value)) if !name.is_empty() && name.bytes().all(is_token_byte) => {
                fields
                    .push((name.to_ascii_lowercase(), value.trim_matches([' ', '\t']).to_owned()));
            }
            _ => return Read::Broken(format!("field line {line:?}")),
        }
    }
    let mut request = Received {
        method: method.to_owned(),
        target: target.to_owned(),
        fields,
        body: Vec::new(),
        trailers: Vec::new(),
        length: end + 4,
    };
    let lengths = all(&request.fields, "content-length");
    let codings = all(&request.fields, "transfer-encoding");
    let body = &bytes[end + 4..];
    match (&lengths[..], &codings[..]) {
        ([], []) => Read::Whole(request),
        ([length], [])
            if !length.is_empty() && length.bytes().all(|digit| digit.is_ascii_digit()) =>
        {
            let Ok(length) = length.parse::<usize>() else {
                return Read::Broken("a huge length".into());
            };
            if body.len() < length {
                request.body = body.to_vec();
                return Read::HeadOnly(request);
            }
            request.body = body[..length].to_vec();
            request.length += length;
            Read::Whole(request)
        }
        ([], ["chunked"]) => read_chunked(body, request),
        _ => Read::Broken(format!("framing: lengths {lengths:?}, codings {codings:?}")),
    }
}

fn read_chunked(body: &[u8], mut request: Received) -> Read {
    let mut place = 0;
    loop {
        let Some(end) = find(&body[place..], b"\r\n") else { return Read::HeadOnly(request) };
        let line = &body[place..place + end];
        let text = String::from_utf8_lossy(line).into_owned();
        if text.is_empty() || !text.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return Read::Broken(format!("chunk size {text:?}"));
        }
        let Ok(length) = usize::from_str_radix(&text, 16) else {
            return Read::Broken(format!("chunk size {text:?}"));
        };
        place += end + 2;
        if length == 0 {
            break;
        }
        let Some(data) = body.get(place..place + length + 2) else {
            return Read::HeadOnly(request);
        };
        if !data.ends_with(b"\r\n") {
            return Read::Broken("a chunk longer than its size".into());
        }
        request.body.extend_from_slice(&data[..length]);
        place += length + 2;
    }
    loop {
        let Some(end) = find(&body[place..], b"\r\n") else { return Read::HeadOnly(request) };
        let line = String::from_utf8_lossy(&body[place..place + end]).into_owned();
        place += end + 2;
        if line.is_empty() {
            request.length += place;
            return Read::Whole(request);
        }
        request.trailers.push(parse_field(&line));
    }
}

fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// How a careless server takes a body's length where there is a choice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Belief {
    /// `Content-Length`, whatever else there is.
    Length,
    /// Anything that has `chunked` in it, whatever else there is.
    Chunks,
}

/// How many requests a reader finds that forgives everything: bare line feeds, folded lines, blanks before colons,
/// signs and extensions in sizes.
pub(crate) fn count_leniently(bytes: &[u8], belief: Belief) -> usize {
    let mut rest = bytes;
    let mut count = 0;
    loop {
        while let Some(after) = rest.strip_prefix(b"\n").or_else(|| rest.strip_prefix(b"\r")) {
            rest = after;
        }
        if rest.is_empty() {
            return count;
        }
        count += 1;
        let mut length = 0;
        let mut chunked = false;
        let mut lines = 0;
        loop {
            let Some(end) = rest.iter().position(|&byte| byte == b'\n') else { return count };
            let line =
                String::from_utf8_lossy(&rest[..end]).trim_end_matches('\r').to_ascii_lowercase();
            rest = &rest[end + 1..];
            lines += 1;
            if line.is_empty() && lines > 1 {
                break;
            }
            let line = line.replace([' ', '\t'], "");
            if let Some((name, value)) = line.split_once(':') {
                match name.replace('_', "-").as_str() {
                    "content-length" => {
                        length = value.trim_start_matches('+').parse().unwrap_or(length)
                    }
                    "transfer-encoding" => chunked |= value.contains("chunked"),
                    _ => {}
                }
            }
        }
        if chunked && (belief == Belief::Chunks || length == 0) {
            rest = skip_chunks_leniently(rest);
        } else {
            rest = rest.get(length..).unwrap_or_default();
        }
    }
}

fn skip_chunks_leniently(mut rest: &[u8]) -> &[u8] {
    let mut last = false;
    loop {
        let Some(end) = rest.iter().position(|&byte| byte == b'\n') else { return &[] };
        let line = String::from_utf8_lossy(&rest[..end]).trim().to_owned();
        rest = &rest[end + 1..];
        if last {
            // Trailers, up to the empty line.
            if line.is_empty() {
                return rest;
            }
            continue;
        }
        let digits = line.split([';', ' ']).next().unwrap_or_default().trim_start_matches("0x");
        let length = usize::from_str_radix(digits, 16).unwrap_or(0);
        last = length == 0;
        rest = rest.get(length..).unwrap_or_default();
        if !last && let Some(newline) = rest.iter().position(|&byte| byte == b'\n') {
            rest = &rest[newline + 1..];
        }
    }
}
