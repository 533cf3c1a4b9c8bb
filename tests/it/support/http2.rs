//! HTTP/2 as frames: a client, and a server, that send whatever a test wants and read what a careful peer reads.

pub(crate) mod hpack;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use super::http1::{Fields, only};
use super::transport::{Came, Connection};
use hpack::Decoder;

pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The types of frames.
pub(crate) mod kind {
    pub(crate) const DATA: u8 = 0;
    pub(crate) const HEADERS: u8 = 1;
    pub(crate) const RST_STREAM: u8 = 3;
    pub(crate) const SETTINGS: u8 = 4;
    pub(crate) const PING: u8 = 6;
    pub(crate) const GOAWAY: u8 = 7;
    pub(crate) const WINDOW_UPDATE: u8 = 8;
    pub(crate) const CONTINUATION: u8 = 9;
}

/// Their flags; `ACK` of SETTINGS and PING is the bit of `END_STREAM`.
pub(crate) mod flag {
    pub(crate) const END_STREAM: u8 = 1;
    pub(crate) const END_HEADERS: u8 = 4;
    pub(crate) const PADDED: u8 = 8;
    pub(crate) const PRIORITY: u8 = 32;
}

/// Keys of SETTINGS.
pub(crate) mod setting {
    pub(crate) const HEADER_TABLE_SIZE: u16 = 1;
    pub(crate) const ENABLE_PUSH: u16 = 2;
    pub(crate) const MAX_CONCURRENT_STREAMS: u16 = 3;
    pub(crate) const INITIAL_WINDOW_SIZE: u16 = 4;
}

#[derive(Debug, Clone)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
    pub(crate) payload: Vec<u8>,
}

pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = u32::try_from(payload.len()).unwrap().to_be_bytes()[1..].to_vec();
    bytes.extend_from_slice(&[kind, flags]);
    bytes.extend_from_slice(&stream.to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

/// SETTINGS with a window nothing in a test fills and no dynamic table; server push off.
fn settings() -> Vec<u8> {
    let mut payload = Vec::new();
    for (key, value) in [
        (setting::HEADER_TABLE_SIZE, 0_u32),
        (setting::ENABLE_PUSH, 0),
        (setting::INITIAL_WINDOW_SIZE, 0x7fff_ffff),
    ] {
        payload.extend_from_slice(&key.to_be_bytes());
        payload.extend_from_slice(&value.to_be_bytes());
    }
    frame(kind::SETTINGS, 0, 0, &payload)
}

/// A list of fields, in the order in which they are sent.
pub(crate) type Head<'h> = Vec<(&'h str, &'h [u8])>;

/// What came back on a stream.
#[derive(Debug, Clone, Default)]
pub(crate) struct Message {
    /// Pseudo fields among them.
    pub(crate) fields: Fields,
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: Fields,
    /// Whether the first header block ended it: the form of a gRPC refusal.
    pub(crate) is_head_only: bool,
    pub(crate) is_whole: bool,
    /// The code of the RST_STREAM that ended it.
    pub(crate) reset: Option<u32>,
    /// Statuses of interim responses.
    pub(crate) interim: Vec<u16>,
}

impl Message {
    pub(crate) fn status(&self) -> u16 {
        self.field(":status").unwrap_or_else(|| panic!("no status: {self:?}")).parse().unwrap()
    }

    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        only(&self.fields, name)
    }

    pub(crate) fn reason(&self) -> Option<&str> {
        self.field("faregate-reason")
    }
}

/// How a request on a stream ended.
#[derive(Debug)]
#[expect(dead_code, reason = "the codes are told in the message of a failure")]
pub(crate) enum Answer {
    Response(Message),
    /// The stream was reset with this code; what had come of the response is with it.
    Reset(u32, Message),
    /// The connection ended; the code of GOAWAY if it said one.
    Gone(Option<u32>),
}

impl Answer {
    pub(crate) fn response(self) -> Message {
        match self {
            Self::Response(message) => message,
            other => panic!("no response: {other:?}"),
        }
    }
}

/// One end of an HTTP/2 connection.
pub(crate) struct Http2 {
    pub(crate) connection: Connection,
    decoder: Decoder,
    pub(crate) streams: BTreeMap<u32, Message>,
    next_stream: u32,
    pub(crate) peer_settings: BTreeMap<u16, u32>,
    pub(crate) goaway: Option<u32>,
    heard: Arc<Mutex<Vec<u8>>>,
    /// A header block under way: its stream, whether it ends it, what came of it.
    block: Option<(u32, bool, Vec<u8>)>,
}

impl Http2 {
    /// Says the preface and SETTINGS.
    pub(crate) fn client(connection: Connection, heard: &Arc<Mutex<Vec<u8>>>) -> Self {
        let mut end = Self::end(connection, heard, 1);
        end.connection.send(PREFACE);
        end.connection.send(&settings());
        end.open_window();
        end
    }

    /// Reads the preface and says SETTINGS; none when the peer speaks something else.
    pub(crate) fn server(connection: Connection) -> Option<Self> {
        let mut end = Self::end(connection, &Arc::default(), 2);
        if !end.connection.read_until(PREFACE.len()) || !end.connection.unread.starts_with(PREFACE)
        {
            return None;
        }
        end.connection.unread.drain(..PREFACE.len());
        end.connection.send(&settings());
        end.open_window();
        Some(end)
    }

    fn end(connection: Connection, heard: &Arc<Mutex<Vec<u8>>>, next_stream: u32) -> Self {
        Self {
            connection,
            decoder: Decoder::default(),
            streams: BTreeMap::new(),
            next_stream,
            peer_settings: BTreeMap::new(),
            goaway: None,
            heard: Arc::clone(heard),
            block: None,
        }
    }

    fn open_window(&mut self) {
        self.send(kind::WINDOW_UPDATE, 0, 0, &0x3fff_ffff_u32.to_be_bytes());
    }

    pub(crate) fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        self.connection.send(&frame(kind, flags, stream, payload));
    }

    /// Takes the number of the next stream of this end.
    pub(crate) fn new_stream(&mut self) -> u32 {
        let stream = self.next_stream;
        self.next_stream += 2;
        stream
    }

    /// Opens a stream with this head.
    pub(crate) fn start(&mut self, head: &[(&str, &[u8])], is_whole: bool) -> u32 {
        let stream = self.new_stream();
        self.head(stream, head, is_whole);
        stream
    }

    /// Sends a header block on a stream: a head, or trailers.
    pub(crate) fn head(&mut self, stream: u32, head: &[(&str, &[u8])], is_last: bool) {
        let flags = flag::END_HEADERS | if is_last { flag::END_STREAM } else { 0 };
        self.send(kind::HEADERS, flags, stream, &hpack::encode(head));
    }

    pub(crate) fn data(&mut self, stream: u32, data: &[u8], is_last: bool) {
        self.send(kind::DATA, if is_last { flag::END_STREAM } else { 0 }, stream, data);
    }

    /// Opens a stream without a body and waits for what becomes of it.
    pub(crate) fn ask(&mut self, head: &[(&str, &[u8])]) -> Answer {
        let stream = self.start(head, true);
        self.answer(stream)
    }

    /// Waits for what becomes of a stream.
    pub(crate) fn answer(&mut self, stream: u32) -> Answer {
        loop {
            if let Some(message) = self.streams.get(&stream) {
                if message.is_whole {
                    return Answer::Response(self.streams.remove(&stream).unwrap());
                }
                if let Some(code) = message.reset {
                    return Answer::Reset(code, self.streams.remove(&stream).unwrap());
                }
            }
            if !self.step() {
                return Answer::Gone(self.goaway);
            }
        }
    }

    /// Waits for the head of a response.
    pub(crate) fn answer_head(&mut self, stream: u32) -> Message {
        loop {
            match self.streams.get(&stream) {
                Some(message) if !message.fields.is_empty() => return message.clone(),
                _ => assert!(self.step(), "the connection ended: {:?}", self.goaway),
            }
        }
    }

    /// Waits until at least this much of a response's body has come, and gives it.
    pub(crate) fn body_so_far(&mut self, stream: u32, length: usize) -> Vec<u8> {
        loop {
            match self.streams.get(&stream) {
                Some(message) if message.body.len() >= length => return message.body.clone(),
                _ => assert!(self.step(), "the connection ended: {:?}", self.goaway),
            }
        }
    }

    /// Waits until the peer's SETTINGS have come.
    pub(crate) fn settled(&mut self) {
        while self.peer_settings.is_empty() {
            assert!(self.step(), "the connection ended before SETTINGS");
        }
    }

    /// Waits until the peer ends the connection.
    pub(crate) fn wait_until_closed(&mut self) {
        while self.step() {}
    }

    /// Reads and takes in one frame; false at the end of the connection.
    pub(crate) fn step(&mut self) -> bool {
        let Some(frame) = self.read_frame() else { return false };
        self.take_in(frame);
        true
    }

    /// The next frame; none at the end.
    pub(crate) fn read_frame(&mut self) -> Option<Frame> {
        let unread = |end: &mut Self, length: usize| {
            while end.connection.unread.len() < length {
                if !matches!(end.connection.read_more(), Came::Bytes(_)) {
                    return false;
                }
            }
            true
        };
        if !unread(self, 9) {
            return None;
        }
        let head = self.connection.unread[..9].to_vec();
        let length = usize::try_from(u32::from_be_bytes([0, head[0], head[1], head[2]])).unwrap();
        if !unread(self, 9 + length) {
            return None;
        }
        let payload = self.connection.unread[9..9 + length].to_vec();
        self.connection.unread.drain(..9 + length);
        self.heard.lock().unwrap().extend_from_slice(&payload);
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]) & 0x7fff_ffff;
        Some(Frame { kind: head[3], flags: head[4], stream, payload })
    }

    fn take_in(&mut self, frame: Frame) {
        let Frame { kind, flags, stream, payload } = frame;
        match kind {
            kind::SETTINGS if flags & flag::END_STREAM == 0 => {
                for pair in payload.chunks_exact(6) {
                    let key = u16::from_be_bytes([pair[0], pair[1]]);
                    let value = u32::from_be_bytes([pair[2], pair[3], pair[4], pair[5]]);
                    self.peer_settings.insert(key, value);
                }
                // An empty SETTINGS has been settled as well.
                self.peer_settings.entry(0).or_insert(0);
                self.send(kind::SETTINGS, flag::END_STREAM, 0, &[]);
            }
            kind::PING if flags & flag::END_STREAM == 0 => {
                self.send(kind::PING, flag::END_STREAM, 0, &payload)
            }
            kind::GOAWAY => {
                self.goaway =
                    Some(u32::from_be_bytes([payload[4], payload[5], payload[6], payload[7]]));
            }
            kind::RST_STREAM => {
                let code = u32::from_be_bytes([payload[0], payload[1], payload[2], payload[3]]);
                self.streams.entry(stream).or_default().reset = Some(code);
            }
            kind::DATA => {
                let data = unpadded(flags, &payload);
                let message = self.streams.entry(stream).or_default();
                message.body.extend_from_slice(data);
                message.is_whole |= flags & flag::END_STREAM != 0;
                if !payload.is_empty() {
                    // Keeps a peer with a small window going, too.
                    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
                    self.send(kind::WINDOW_UPDATE, 0, 0, &length);
                }
            }
            kind::HEADERS => {
                let mut block = unpadded(flags, &payload);
                if flags & flag::PRIORITY != 0 {
                    block = &block[5..];
                }
                self.block = Some((stream, flags & flag::END_STREAM != 0, block.to_vec()));
                if flags & flag::END_HEADERS != 0 {
                    self.end_block();
                }
            }
            kind::CONTINUATION => {
                self.block
                    .as_mut()
                    .expect("a header block under way")
                    .2
                    .extend_from_slice(&payload);
                if flags & flag::END_HEADERS != 0 {
                    self.end_block();
                }
            }
            _ => {}
        }
    }

    fn end_block(&mut self) {
        let (stream, is_last, block) = self.block.take().unwrap();
        let fields = self.decoder.decode(&block);
        // Compressed text hides a secret from a search for it.
        for (name, value) in &fields {
            self.heard.lock().unwrap().extend_from_slice(format!("\n{name}: {value}\n").as_bytes());
        }
        let message = self.streams.entry(stream).or_default();
        let status = only(&fields, ":status").and_then(|status| status.parse::<u16>().ok());
        match status {
            Some(status @ 100..200) => message.interim.push(status),
            _ if message.fields.is_empty() => {
                message.fields = fields;
                message.is_head_only = is_last;
            }
            _ => message.trailers = fields,
        }
        message.is_whole |= is_last;
    }
}

fn unpadded(flags: u8, payload: &[u8]) -> &[u8] {
    if flags & flag::PADDED == 0 {
        return payload;
    }
    let padding = usize::from(payload[0]);
    &payload[1..payload.len() - padding]
}
