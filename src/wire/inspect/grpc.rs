//! The model that each message of a gRPC call names.

mod protobuf;

use bytes::Bytes;

use super::{Fault, Held};
use protobuf::MessageScan;

/// A step on the way to the field that names the model: the field's number in its message.
///
/// `1.1` is the field 1 of the message in field 1; `1*.1.1` the same in each of the messages in the
/// repeated field 1, which must all name one model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PathStep {
    /// From 1 to 536 870 911.
    pub field: u32,
    /// Whether the field may be there many times.
    pub is_repeated: bool,
}

impl PathStep {
    /// A field that may be there once.
    #[must_use]
    pub fn one(field: u32) -> Self {
        Self { field, is_repeated: false }
    }

    /// A field that may be there many times.
    #[must_use]
    pub fn each(field: u32) -> Self {
        Self { field, is_repeated: true }
    }
}

/// A message that was judged: what it names, and its bytes, to be forwarded as they came.
#[derive(Debug)]
pub struct Message {
    /// The model, if the field is there. An empty field is there.
    pub model: Option<String>,
    /// The message with the prefix before it.
    pub bytes: Held,
}

/// Reads the messages of a call, each with its prefix of five bytes (gRPC over HTTP/2,
/// "Length-Prefixed-Message"), and holds each until it is judged.
#[derive(Debug)]
pub struct GrpcScan {
    path: Box<[PathStep]>,
    limit: usize,
    prefix: [u8; PREFIX_BYTES],
    prefix_read: usize,
    message: Option<MessageScan>,
    held: Held,
    failed: Option<Fault>,
}

const PREFIX_BYTES: usize = 5;

impl GrpcScan {
    /// Looks for the field at the end of the path in messages of at most `limit` bytes.
    #[must_use]
    pub fn new(path: &[PathStep], limit: usize) -> Self {
        Self {
            path: path.into(),
            limit,
            prefix: [0; PREFIX_BYTES],
            prefix_read: 0,
            message: None,
            held: Held::default(),
            failed: None,
        }
    }

    /// Reads on up to the end of a message, and takes what it read out of `piece`: a message, or
    /// none when the piece is used up and its last message goes on. To be called until it is none.
    ///
    /// # Errors
    /// [`Fault::TooLarge`] as soon as a prefix tells so; [`Fault::UnsupportedEncoding`] for a
    /// compressed message; [`Fault::Conflict`] when a field of the path is there twice, or messages
    /// in a repeated one do not agree; [`Fault::BadModel`]; [`Fault::BadBody`] for all else that is
    /// no protocol buffer or that its readers take differently. A scan that failed goes on to fail.
    pub fn next(&mut self, piece: &mut Bytes) -> Result<Option<Message>, Fault> {
        if let Some(fault) = self.failed {
            return Err(fault);
        }
        let read = self.read(piece);
        self.failed = read.as_ref().err().copied();
        read
    }

    /// The call's messages are over.
    ///
    /// # Errors
    /// [`Fault::BadBody`] when that cut one, or the fault that was told before.
    pub fn end(self) -> Result<(), Fault> {
        match self.failed {
            Some(fault) => Err(fault),
            None if self.prefix_read == 0 => Ok(()),
            None => Err(Fault::BadBody),
        }
    }

    /// How many bytes are held, because their message is not complete.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.held.len()
    }

    fn read(&mut self, piece: &mut Bytes) -> Result<Option<Message>, Fault> {
        let mut message = match self.message.take() {
            Some(message) => message,
            None => match self.read_prefix(piece)? {
                Some(length) => MessageScan::new(length),
                None => return Ok(None),
            },
        };
        let part = piece.split_to(piece.len().min(message.left()));
        message.feed(&part, &self.path)?;
        self.held.push(part);
        if message.left() > 0 {
            self.message = Some(message);
            return Ok(None);
        }
        self.prefix_read = 0;
        Ok(Some(Message { model: message.end()?, bytes: std::mem::take(&mut self.held) }))
    }

    /// The length of the message that follows, once its prefix is complete.
    fn read_prefix(&mut self, piece: &mut Bytes) -> Result<Option<usize>, Fault> {
        let missing = PREFIX_BYTES - self.prefix_read;
        let part = piece.split_to(piece.len().min(missing));
        let end = self.prefix_read + part.len();
        self.prefix[self.prefix_read..end].copy_from_slice(&part);
        self.prefix_read = end;
        self.held.push(part);
        // The flag alone refuses: there is no need to wait for the length.
        match self.prefix[0] {
            0 => {}
            1 => return Err(Fault::UnsupportedEncoding),
            _ => return Err(Fault::BadBody),
        }
        if self.prefix_read < PREFIX_BYTES {
            return Ok(None);
        }
        let [_, length @ ..] = self.prefix;
        let length = usize::try_from(u32::from_be_bytes(length)).map_err(|_| Fault::TooLarge)?;
        if length > self.limit {
            return Err(Fault::TooLarge);
        }
        Ok(Some(length))
    }
}

#[cfg(test)]
mod tests;
