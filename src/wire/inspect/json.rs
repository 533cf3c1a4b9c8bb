//! The model that a JSON object names (RFC 8259), found in one pass and without a tree.

mod number;
mod string;

use super::name::{Likeness, decisive_bytes, of_member};
use super::{Fault, MAX_MODEL_BYTES};
use number::Number;
use string::Cut;

/// How deep arrays and objects may nest, the outermost included. As deep as serde_json reads, and
/// Python's json and Go's encoding/json read deeper.
const MAX_DEPTH: u32 = 127;

/// How much of a string is looked at in one go: what several passes read stays in the processor's
/// nearest cache.
const BLOCK_BYTES: usize = 16 * 1024;

/// Finds the member that names the model at the top level of a JSON object.
///
/// Strict, so that every reader behind reads the same: an object and nothing but white space around
/// it, UTF-8 without a byte order mark, no control characters in strings, no escaped half of a
/// surrogate pair, no comments, trailing commas, `NaN`. Members of other names may be there twice.
/// All of the body is read, since what comes last counts for most readers.
#[derive(Debug)]
pub struct JsonScan {
    member: Box<str>,
    state: State,
    /// A bit for each open array or object, the innermost lowest; set for an object.
    open: u128,
    depth: u32,
    role: Role,
    /// The bytes of a character that was cut by the end of a piece.
    cut: Cut,
    /// What was decoded of the name or the model that is being read.
    text: Vec<u8>,
    /// The next value is that of the member.
    names_model: bool,
    model: Option<String>,
}

/// What may come next.
#[derive(Debug, Clone, Copy)]
enum State {
    /// The object.
    Start,
    /// A name, or the end of the object.
    FirstName,
    /// A name, after a comma.
    Name,
    Colon,
    /// A value, or the end of the array.
    FirstValue,
    Value,
    /// A comma, or the end of an array or object.
    AfterValue,
    /// Inside of a string.
    String,
    /// After the `\` of a string; with the first half of a surrogate pair that waits for its other.
    Escape(Option<u16>),
    /// Hexadecimal digits of `\u`: how many were read, what they say, and the half before them.
    Hex(u8, u16, Option<u16>),
    /// The `\` of the other half of a surrogate pair.
    SecondHalf(u16),
    /// What is left of `true`, `false` or `null`.
    Literal(&'static [u8]),
    Number(Number),
    /// White space after the object.
    End,
    Failed(Fault),
}

/// What a string is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    /// The name of a member of the outermost object.
    TopName,
    /// The name of another member.
    Name,
    /// The model.
    Model,
    Value,
}

impl JsonScan {
    /// Looks for the member of this name.
    #[must_use]
    pub fn new(member: &str) -> Self {
        Self {
            member: member.into(),
            state: State::Start,
            open: 0,
            depth: 0,
            role: Role::Value,
            cut: Cut::default(),
            text: Vec::new(),
            names_model: false,
            model: None,
        }
    }

    /// Reads a whole body.
    ///
    /// # Errors
    /// As [`Self::feed`] and [`Self::end`].
    pub fn read(member: &str, body: &[u8]) -> Result<Option<String>, Fault> {
        let mut scan = Self::new(member);
        scan.feed(body)?;
        scan.end()
    }

    /// Reads the next piece of the body.
    ///
    /// # Errors
    /// [`Fault::BadBody`], also when the member's value is no string; [`Fault::Conflict`] when the
    /// member is there twice, or another whose name some readers take for its; [`Fault::BadModel`].
    /// A scan that failed goes on to fail.
    pub fn feed(&mut self, piece: &[u8]) -> Result<(), Fault> {
        if let State::Failed(fault) = self.state {
            return Err(fault);
        }
        for block in piece.chunks(BLOCK_BYTES) {
            if let Err(fault) = self.block(block) {
                self.state = State::Failed(fault);
                return Err(fault);
            }
        }
        Ok(())
    }

    /// The body is over: the model, if it names one.
    ///
    /// # Errors
    /// [`Fault::BadBody`] when it ends too early, or the fault that was told before.
    pub fn end(self) -> Result<Option<String>, Fault> {
        match self.state {
            State::End => Ok(self.model),
            State::Failed(fault) => Err(fault),
            _ => Err(Fault::BadBody),
        }
    }

    fn block(&mut self, mut rest: &[u8]) -> Result<(), Fault> {
        while let Some((&byte, after)) = rest.split_first() {
            rest = match self.state {
                State::String => self.string(rest)?,
                State::Number(number) => self.number(number, rest)?,
                State::Escape(half) => self.escape(rest, half)?,
                State::Hex(read, value, half) => {
                    self.hex(byte, read, value, half)?;
                    after
                }
                State::SecondHalf(half) => {
                    if byte != b'\\' {
                        return Err(Fault::BadBody);
                    }
                    self.state = State::Escape(Some(half));
                    after
                }
                State::Literal(left) => {
                    self.literal(byte, left)?;
                    after
                }
                // RFC 8259, section 2: these four and no other white space.
                _ if matches!(byte, b' ' | b'\t' | b'\n' | b'\r') => after,
                State::Start => {
                    if byte != b'{' {
                        return Err(Fault::BadBody);
                    }
                    self.open(byte)?;
                    after
                }
                State::FirstName | State::Name => {
                    match (byte, self.state) {
                        (b'"', _) => {
                            let top = self.depth == 1;
                            self.begin_string(if top { Role::TopName } else { Role::Name });
                        }
                        (b'}', State::FirstName) => self.close(byte)?,
                        _ => return Err(Fault::BadBody),
                    }
                    after
                }
                State::Colon => {
                    if byte != b':' {
                        return Err(Fault::BadBody);
                    }
                    self.state = State::Value;
                    after
                }
                State::FirstValue | State::Value => {
                    if byte == b']' && matches!(self.state, State::FirstValue) {
                        self.close(byte)?;
                    } else {
                        self.value(byte)?;
                    }
                    after
                }
                State::AfterValue => {
                    match byte {
                        b',' if self.in_object() => self.state = State::Name,
                        b',' => self.state = State::Value,
                        _ => self.close(byte)?,
                    }
                    after
                }
                State::End | State::Failed(_) => return Err(Fault::BadBody),
            };
        }
        Ok(())
    }

    fn in_object(&self) -> bool {
        self.open & 1 == 1
    }

    fn open(&mut self, byte: u8) -> Result<(), Fault> {
        if self.depth == MAX_DEPTH {
            return Err(Fault::BadBody);
        }
        self.depth += 1;
        let is_object = byte == b'{';
        self.open = self.open << 1 | u128::from(is_object);
        self.state = if is_object { State::FirstName } else { State::FirstValue };
        Ok(())
    }

    fn close(&mut self, byte: u8) -> Result<(), Fault> {
        if byte != if self.in_object() { b'}' } else { b']' } {
            return Err(Fault::BadBody);
        }
        self.open >>= 1;
        self.depth -= 1;
        self.state = if self.depth == 0 { State::End } else { State::AfterValue };
        Ok(())
    }

    /// The first byte of a value.
    fn value(&mut self, byte: u8) -> Result<(), Fault> {
        if self.names_model {
            // Not `null` either: some servers take it for no model, and put their own in its place.
            if byte != b'"' {
                return Err(Fault::BadBody);
            }
            self.names_model = false;
            self.begin_string(Role::Model);
            return Ok(());
        }
        match byte {
            b'"' => self.begin_string(Role::Value),
            b'{' | b'[' => self.open(byte)?,
            b't' => self.state = State::Literal(b"rue"),
            b'f' => self.state = State::Literal(b"alse"),
            b'n' => self.state = State::Literal(b"ull"),
            _ => self.state = State::Number(Number::start(byte).ok_or(Fault::BadBody)?),
        }
        Ok(())
    }

    fn literal(&mut self, byte: u8, left: &'static [u8]) -> Result<(), Fault> {
        match left.split_first() {
            Some((&expected, left)) if expected == byte => {
                self.state = if left.is_empty() { State::AfterValue } else { State::Literal(left) };
                Ok(())
            }
            _ => Err(Fault::BadBody),
        }
    }

    /// Reads on in a number, and gives back what follows it.
    fn number<'b>(&mut self, number: Number, rest: &'b [u8]) -> Result<&'b [u8], Fault> {
        let (number, after) = number.read(rest).ok_or(Fault::BadBody)?;
        self.state = if after.is_empty() {
            State::Number(number)
        } else if number.is_complete() {
            State::AfterValue
        } else {
            return Err(Fault::BadBody);
        };
        Ok(after)
    }

    fn begin_string(&mut self, role: Role) {
        self.role = role;
        self.text.clear();
        self.state = State::String;
    }

    /// Decoded text of a string.
    fn take(&mut self, text: &[u8]) -> Result<(), Fault> {
        match self.role {
            Role::Name | Role::Value => {}
            Role::TopName => {
                let room = decisive_bytes(&self.member).saturating_sub(self.text.len());
                self.text.extend_from_slice(&text[..text.len().min(room)]);
            }
            Role::Model if self.text.len() + text.len() > MAX_MODEL_BYTES => {
                return Err(Fault::BadModel);
            }
            Role::Model => self.text.extend_from_slice(text),
        }
        Ok(())
    }

    fn end_string(&mut self) -> Result<(), Fault> {
        self.state = State::AfterValue;
        match self.role {
            Role::Value => {}
            Role::Name => self.state = State::Colon,
            Role::TopName => {
                self.state = State::Colon;
                match of_member(&decided(&self.text), &self.member) {
                    Likeness::Other => {}
                    Likeness::Same if self.model.is_none() => self.names_model = true,
                    Likeness::Same | Likeness::Alike => return Err(Fault::Conflict),
                }
            }
            Role::Model => {
                let text = std::mem::take(&mut self.text);
                self.model = Some(String::from_utf8(text).map_err(|_| Fault::BadBody)?);
            }
        }
        Ok(())
    }
}

/// The text of a name as far as it was kept, which may be cut inside of a character.
fn decided(kept: &[u8]) -> std::borrow::Cow<'_, str> {
    String::from_utf8_lossy(kept)
}

#[cfg(test)]
mod tests;
