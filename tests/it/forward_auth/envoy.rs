//! Envoy's side of `ext_authz`: its messages written and read byte by byte, over HTTP/2 frames.

use super::Asked;
use crate::support::http2::{Answer, Http2, Message};
use crate::support::tokens;
use crate::support::transport;

fn varint(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let low = u8::try_from(value & 0x7f).unwrap();
        value >>= 7;
        if value == 0 {
            bytes.push(low);
            return bytes;
        }
        bytes.push(low | 0x80);
    }
}

/// A field of length-delimited content: a text, bytes, or a message.
fn field(number: u64, content: impl AsRef<[u8]>) -> Vec<u8> {
    let content = content.as_ref();
    let mut bytes = varint(number << 3 | 2);
    bytes.extend(varint(content.len() as u64));
    bytes.extend_from_slice(content);
    bytes
}

fn number(number: u64, value: u64) -> Vec<u8> {
    [varint(number << 3), varint(value)].concat()
}

/// A `CheckRequest`, as Envoy 1.40 was seen to send it.
#[derive(Debug, Clone)]
pub(crate) struct Check {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) host: String,
    pub(crate) headers: Vec<(String, Vec<u8>)>,
    /// Whether `encode_raw_headers` is set.
    pub(crate) is_raw: bool,
    /// Further fields of the request, encoded.
    pub(crate) more: Vec<u8>,
}

impl Check {
    pub(crate) fn of(method: &str, path: &str) -> Self {
        Self {
            method: method.into(),
            path: path.into(),
            host: "models.test".into(),
            headers: Vec::new(),
            is_raw: true,
            more: Vec::new(),
        }
    }

    pub(crate) fn with(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.headers.push((name.into(), value.as_ref().into()));
        self
    }

    pub(crate) fn token(self, id: &str) -> Self {
        let credential = format!("Bearer {}", tokens::secret(id));
        self.with("authorization", credential)
    }

    /// Headers of one name are joined by commas.
    pub(crate) fn joined(mut self) -> Self {
        self.is_raw = false;
        self
    }

    /// `body`, `raw_body` or anything else of the request.
    pub(crate) fn field(mut self, number: u64, content: impl AsRef<[u8]>) -> Self {
        self.more.extend(field(number, content));
        self
    }

    /// With a body that Envoy sent all of, as bytes.
    pub(crate) fn body(self, body: impl AsRef<[u8]>) -> Self {
        self.with("x-envoy-auth-partial-body", "false").field(12, body)
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let pseudo = [(":method", &self.method), (":path", &self.path), (":authority", &self.host)];
        let pseudo = pseudo.map(|(name, value)| (name.to_owned(), value.clone().into_bytes()));
        let lines: Vec<(String, Vec<u8>)> =
            pseudo.into_iter().chain(self.headers.clone()).collect();
        let headers: Vec<u8> = if self.is_raw {
            let line = |(name, value): &(String, Vec<u8>)| {
                field(1, [field(1, name), field(3, value)].concat())
            };
            field(13, lines.iter().flat_map(line).collect::<Vec<u8>>())
        } else {
            let mut joined: Vec<(String, Vec<u8>)> = Vec::new();
            for (name, value) in lines {
                match joined.iter_mut().find(|(own, _)| *own == name) {
                    Some((_, own)) => *own = [own.as_slice(), b",", &value].concat(),
                    None => joined.push((name, value)),
                }
            }
            let entry = |(name, value): &(String, Vec<u8>)| {
                field(3, [field(1, name), field(2, value)].concat())
            };
            joined.iter().flat_map(entry).collect()
        };
        let http = [
            field(1, "16495349533638969520"),
            field(2, &self.method),
            headers,
            field(4, &self.path),
            field(5, &self.host),
            field(6, "http"),
            number(9, 11),
            field(10, "HTTP/1.1"),
            self.more.clone(),
        ]
        .concat();
        let address =
            field(1, field(1, field(1, [field(2, "203.0.113.9"), number(3, 4711)].concat())));
        let request = field(4, [field(1, number(1, 1_795_482_985)), field(2, http)].concat());
        // The empty ones stand for metadata that nobody reads here.
        field(1, [address, request, field(11, ""), field(13, "")].concat())
    }
}

/// A field that was read: its number and content; numbers as their varint's value in eight bytes.
fn fields(mut bytes: &[u8]) -> Vec<(u64, Vec<u8>)> {
    let read_varint = |bytes: &mut &[u8]| {
        let mut value = 0_u64;
        for shift in (0..).step_by(7) {
            let (first, rest) = bytes.split_first().expect("a whole number");
            *bytes = rest;
            value |= u64::from(first & 0x7f) << shift;
            if first & 0x80 == 0 {
                return value;
            }
        }
        unreachable!("a number ends");
    };
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let tag = read_varint(&mut bytes);
        let content = match tag & 7 {
            0 => read_varint(&mut bytes).to_be_bytes().to_vec(),
            2 => {
                let length = usize::try_from(read_varint(&mut bytes)).unwrap();
                let (content, rest) = bytes.split_at(length);
                bytes = rest;
                content.to_vec()
            }
            kind => panic!("a field of wire type {kind}"),
        };
        found.push((tag >> 3, content));
    }
    found
}

fn one(bytes: &[u8], number: u64) -> Option<Vec<u8>> {
    fields(bytes).into_iter().find(|(own, _)| *own == number).map(|(_, content)| content)
}

fn all(bytes: &[u8], number: u64) -> Vec<Vec<u8>> {
    fields(bytes).into_iter().filter(|(own, _)| *own == number).map(|(_, own)| own).collect()
}

fn value(content: Option<Vec<u8>>) -> u64 {
    content.map_or(0, |content| u64::from_be_bytes(content.try_into().unwrap()))
}

fn text(content: Option<Vec<u8>>) -> String {
    String::from_utf8(content.unwrap_or_default()).unwrap()
}

/// A `HeaderValueOption`: name, value and what is done about others of that name (2: replaced).
type Header = (String, String, u64);

/// A `CheckResponse`.
#[derive(Debug)]
pub(crate) enum Told {
    Ok { set: Vec<Header>, removed: Vec<String> },
    Denied(Denied),
}

#[derive(Debug)]
pub(crate) struct Denied {
    /// Of gRPC.
    pub(crate) code: u64,
    /// Of HTTP.
    pub(crate) status: u64,
    pub(crate) headers: Vec<Header>,
    pub(crate) body: String,
}

impl Denied {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(own, ..)| own == name).map(|(_, value, _)| value.as_str())
    }

    pub(crate) fn reason(&self) -> Option<&str> {
        self.header("faregate-reason")
    }
}

impl Told {
    pub(crate) fn is_ok(&self) -> bool {
        matches!(self, Self::Ok { .. })
    }

    pub(crate) fn denied(self) -> Denied {
        match self {
            Self::Denied(denied) => denied,
            ok => panic!("not denied: {ok:?}"),
        }
    }

    /// What is set, by name; each must replace.
    pub(crate) fn set(&self, name: &str) -> Option<&str> {
        let Self::Ok { set, .. } = self else { panic!("denied: {self:?}") };
        let found: Vec<&Header> = set.iter().filter(|(own, ..)| own == name).collect();
        assert!(found.len() <= 1 && found.iter().all(|(.., action)| *action == 2), "{self:?}");
        found.first().map(|(_, value, _)| value.as_str())
    }

    pub(crate) fn removes(&self, name: &str) -> bool {
        let Self::Ok { removed, .. } = self else { panic!("denied: {self:?}") };
        removed.iter().any(|own| own == name)
    }

    fn read(bytes: &[u8]) -> Self {
        let headers = |bytes: &[u8]| {
            all(bytes, 2)
                .iter()
                .map(|option| {
                    let header = one(option, 1).unwrap();
                    (text(one(&header, 1)), text(one(&header, 2)), value(one(option, 3)))
                })
                .collect()
        };
        let code = value(one(&one(bytes, 1).expect("a status"), 1));
        match (one(bytes, 2), one(bytes, 3)) {
            (Some(denied), None) if code != 0 => Self::Denied(Denied {
                code,
                status: value(one(&one(&denied, 1).unwrap(), 1)),
                headers: headers(&denied),
                body: text(one(&denied, 3)),
            }),
            (None, Some(ok)) if code == 0 => Self::Ok {
                set: headers(&ok),
                removed: all(&ok, 5).into_iter().map(|name| text(Some(name))).collect(),
            },
            other => panic!("neither yes nor no, code {code}: {other:?}"),
        }
    }
}

/// A connection on which questions are asked.
pub(crate) struct Connection(Http2);

impl Connection {
    pub(crate) fn to(asked: &Asked) -> Self {
        let connection = transport::Connection::to(asked.address);
        Self(Http2::client(connection, asked.rig.heard()))
    }

    pub(crate) fn ask(&mut self, check: &Check) -> Told {
        let message = self.send(&check.bytes(), &[]);
        let status = message.trailers.iter().chain(&message.fields);
        let status: Vec<&str> =
            status.filter(|(name, _)| name == "grpc-status").map(|(_, own)| own.as_str()).collect();
        assert_eq!((message.status(), &status[..]), (200, &["0"][..]), "{message:?}");
        let length = u32::from_be_bytes(message.body[1..5].try_into().unwrap());
        assert_eq!((message.body[0], length as usize), (0, message.body.len() - 5));
        Told::read(&message.body[5..])
    }

    /// Reads, and answers as a careful peer does, until the gate ends the connection.
    pub(crate) fn wait_until_closed(&mut self) {
        self.0.wait_until_closed();
    }

    /// Sends a message as a question, with further headers.
    pub(crate) fn send(&mut self, message: &[u8], more: &[(&str, &[u8])]) -> Message {
        let head: &[(&str, &[u8])] = &[
            (":method", b"POST"),
            (":scheme", b"http"),
            (":path", b"/envoy.service.auth.v3.Authorization/Check"),
            (":authority", b"auth"),
            ("te", b"trailers"),
            ("content-type", b"application/grpc"),
        ];
        let stream = self.0.start(&[head, more].concat(), false);
        let length = u32::try_from(message.len()).unwrap().to_be_bytes();
        self.0.data(stream, &[&[0], &length[..], message].concat(), true);
        match self.0.answer(stream) {
            Answer::Response(message) => message,
            other => panic!("no answer: {other:?}"),
        }
    }
}

/// Asks on a new connection.
pub(crate) fn ask(asked: &Asked, check: &Check) -> Told {
    Connection::to(asked).ask(check)
}

/// The same, without reading what the answer says.
pub(crate) fn ask_raw(asked: &Asked, message: &[u8]) -> Message {
    Connection::to(asked).send(message, &[])
}
