//! The wire format of protocol buffers, read along the path of one field.

use super::PathStep;
use crate::wire::inspect::{Fault, MAX_MODEL_BYTES};

/// The longest varint, in bytes.
const MAX_VARINT_BYTES: u8 = 10;

/// Reads one message as it comes.
///
/// Strict, since parsers differ in what they do with the rest: fields of the path have their wire
/// type and are there once, unless repeated; tags and lengths are written in the fewest bytes; no
/// groups, which some skip and some refuse. Fields beside the path are skipped by their length and
/// not looked into.
#[derive(Debug)]
pub(super) struct MessageScan {
    length: usize,
    /// How many bytes were read.
    position: usize,
    /// The message and those inside of it that are being read, the outermost first: as many as
    /// steps on the path were taken, and one.
    levels: Vec<Level>,
    state: State,
    /// The model that is being read.
    text: Vec<u8>,
    model: Option<String>,
    /// A message on the path does not have the field that it should.
    is_missing: bool,
}

#[derive(Debug)]
struct Level {
    /// The position at which this message ends.
    end: usize,
    /// Its field of the path was there.
    is_seen: bool,
}

#[derive(Debug, Clone, Copy)]
enum State {
    /// A tag, or the end of the message.
    Tag(Varint),
    /// The value of a varint field, of which so many bytes were read.
    Number(u8),
    /// The length of a field.
    Length(Varint, Field),
    /// The content of a field, up to this position.
    Content(usize, Field),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Field {
    /// A message on the way.
    OnPath,
    /// The end of the path.
    Model,
    Other,
}

/// A number whose bytes come one by one, seven bits each, the lowest first.
#[derive(Debug, Clone, Copy, Default)]
struct Varint {
    value: u64,
    bytes: u32,
}

impl Varint {
    /// Adds a byte: the number, when it was the last. No more bytes than it needs, and no more than
    /// 32 bits, since tags and lengths are no longer.
    fn push(&mut self, byte: u8) -> Result<Option<u32>, Fault> {
        if self.bytes == 5 || (byte == 0 && self.bytes > 0) {
            return Err(Fault::BadBody);
        }
        self.value |= u64::from(byte & 0x7F) << (7 * self.bytes);
        self.bytes += 1;
        let value = u32::try_from(self.value).map_err(|_| Fault::BadBody)?;
        Ok((byte & 0x80 == 0).then_some(value))
    }
}

impl MessageScan {
    /// A message of this length.
    pub(super) fn new(length: usize) -> Self {
        Self {
            length,
            position: 0,
            levels: vec![Level { end: length, is_seen: false }],
            state: State::Tag(Varint::default()),
            text: Vec::new(),
            model: None,
            is_missing: false,
        }
    }

    /// How many bytes are still to come.
    pub(super) fn left(&self) -> usize {
        self.length - self.position
    }

    /// Reads the next bytes, no more than are left.
    pub(super) fn feed(&mut self, mut rest: &[u8], path: &[PathStep]) -> Result<(), Fault> {
        while let Some((&byte, after)) = rest.split_first() {
            rest = match self.state {
                State::Content(end, field) => {
                    let (content, after) = rest.split_at(rest.len().min(end - self.position));
                    if field == Field::Model {
                        self.text.extend_from_slice(content);
                    }
                    self.position += content.len();
                    if self.position == end {
                        self.end_of_content(field)?;
                    }
                    after
                }
                State::Tag(mut tag) => {
                    self.position += 1;
                    match tag.push(byte)? {
                        None => self.state = State::Tag(tag),
                        Some(tag) => self.field(tag, path)?,
                    }
                    after
                }
                State::Number(bytes) => {
                    self.position += 1;
                    self.number(byte, bytes)?;
                    after
                }
                State::Length(mut length, field) => {
                    self.position += 1;
                    match length.push(byte)? {
                        None => self.state = State::Length(length, field),
                        Some(length) => self.content(length as usize, field)?,
                    }
                    after
                }
            };
            self.end_of_levels()?;
        }
        Ok(())
    }

    /// The message is over: the model it names.
    pub(super) fn end(mut self) -> Result<Option<String>, Fault> {
        // For the message of no bytes, of which nothing was read.
        self.end_of_levels()?;
        if !self.levels.is_empty() {
            return Err(Fault::BadBody);
        }
        if self.model.is_some() && self.is_missing {
            // One of several tells no model, and what a server puts in its place is another.
            return Err(Fault::Conflict);
        }
        Ok(self.model)
    }

    /// A tag: which field, and how its value is written.
    fn field(&mut self, tag: u32, path: &[PathStep]) -> Result<(), Fault> {
        let (number, wire_type) = (tag >> 3, tag & 7);
        if number == 0 {
            return Err(Fault::BadBody);
        }
        let depth = self.levels.len();
        let step = depth.checked_sub(1).and_then(|taken| path.get(taken));
        let field = match (step, self.levels.last_mut()) {
            (Some(step), Some(level)) if step.field == number => {
                if wire_type != 2 {
                    return Err(Fault::BadBody);
                }
                if level.is_seen && !step.is_repeated {
                    return Err(Fault::Conflict);
                }
                level.is_seen = true;
                if depth == path.len() { Field::Model } else { Field::OnPath }
            }
            _ => Field::Other,
        };
        match wire_type {
            0 => self.state = State::Number(0),
            1 => self.content(8, field)?,
            2 => self.state = State::Length(Varint::default(), field),
            5 => self.content(4, field)?,
            _ => return Err(Fault::BadBody),
        }
        Ok(())
    }

    /// A byte of a number that is not looked at: it has 64 bits at most.
    fn number(&mut self, byte: u8, bytes: u8) -> Result<(), Fault> {
        let bytes = bytes + 1;
        if bytes == MAX_VARINT_BYTES && byte > 1 {
            return Err(Fault::BadBody);
        }
        self.state =
            if byte & 0x80 == 0 { State::Tag(Varint::default()) } else { State::Number(bytes) };
        Ok(())
    }

    /// The content of a field begins, and is so long.
    fn content(&mut self, length: usize, field: Field) -> Result<(), Fault> {
        let end = self.position.checked_add(length).ok_or(Fault::BadBody)?;
        if self.levels.last().is_none_or(|level| end > level.end) {
            return Err(Fault::BadBody);
        }
        match field {
            Field::OnPath => {
                self.levels.push(Level { end, is_seen: false });
                self.state = State::Tag(Varint::default());
                return Ok(());
            }
            Field::Model if length > MAX_MODEL_BYTES => return Err(Fault::BadModel),
            Field::Model | Field::Other => self.state = State::Content(end, field),
        }
        if length == 0 { self.end_of_content(field) } else { Ok(()) }
    }

    fn end_of_content(&mut self, field: Field) -> Result<(), Fault> {
        self.state = State::Tag(Varint::default());
        if field == Field::Model {
            let text = std::mem::take(&mut self.text);
            let model = String::from_utf8(text).map_err(|_| Fault::BadBody)?;
            if self.model.as_ref().is_some_and(|other| *other != model) {
                return Err(Fault::Conflict);
            }
            self.model = Some(model);
        }
        Ok(())
    }

    /// Leaves the messages that end here.
    fn end_of_levels(&mut self) -> Result<(), Fault> {
        while let Some(level) = self.levels.pop_if(|level| level.end == self.position) {
            if !matches!(self.state, State::Tag(Varint { bytes: 0, .. })) {
                return Err(Fault::BadBody);
            }
            self.is_missing |= !level.is_seen;
        }
        Ok(())
    }
}
