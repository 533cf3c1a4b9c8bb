//! The strings of JSON (RFC 8259, section 7).

use memchr::memchr2;

use super::{JsonScan, Role, State};
use crate::wire::inspect::name::hex_value;
use crate::wire::inspect::{Fault, MAX_MODEL_BYTES};

/// The first bytes of a character, at most three.
#[derive(Debug, Default)]
pub(super) struct Cut {
    bytes: [u8; 4],
    length: usize,
}

impl JsonScan {
    /// Reads on in a string, up to its end, an escape, or the end of the block.
    pub(super) fn string<'b>(&mut self, rest: &'b [u8]) -> Result<&'b [u8], Fault> {
        if self.cut.length > 0 {
            return self.finish_character(rest);
        }
        // Of a model no more than what is too long, so that the fault that comes first is told,
        // however the body is cut.
        let room = match self.role {
            Role::Model => MAX_MODEL_BYTES + 1 - self.text.len(),
            Role::TopName | Role::Name | Role::Value => usize::MAX,
        };
        let window = &rest[..rest.len().min(room)];
        // Most names and many values are short and ASCII: a search would cost more than it saves.
        let is_special = |byte: &u8| matches!(byte, b'"' | b'\\' | ..b' ' | 0x80..);
        let short = window.iter().take(8).position(is_special);
        let end = match short {
            Some(end) if matches!(window[end], b'"' | b'\\') => {
                self.take(&window[..end])?;
                end
            }
            _ => {
                let end = memchr2(b'"', b'\\', window).unwrap_or(window.len());
                self.plain(&window[..end])?;
                end
            }
        };
        if end == window.len() {
            return Ok(&rest[end..]);
        }
        let Some((&byte, after)) = rest[end..].split_first() else { return Ok(&[]) };
        if self.cut.length > 0 {
            return Err(Fault::BadBody);
        }
        if byte == b'"' {
            self.end_string()?;
        } else {
            self.state = State::Escape(None);
        }
        Ok(after)
    }

    /// A part of a string that holds neither `"` nor `\`.
    fn plain(&mut self, run: &[u8]) -> Result<(), Fault> {
        // A minimum of all bytes, and not a search: that takes many bytes at a time.
        if run.iter().fold(u8::MAX, |least, &byte| least.min(byte)) < b' ' {
            return Err(Fault::BadBody);
        }
        match std::str::from_utf8(run) {
            Ok(_) => self.take(run),
            Err(error) if error.error_len().is_none() => {
                let (whole, cut) = run.split_at(error.valid_up_to());
                self.cut.length = cut.len();
                self.cut.bytes[..cut.len()].copy_from_slice(cut);
                self.take(whole)
            }
            Err(_) => Err(Fault::BadBody),
        }
    }

    /// The rest of a character whose beginning came with the piece before.
    fn finish_character<'b>(&mut self, mut rest: &'b [u8]) -> Result<&'b [u8], Fault> {
        while let Some((&byte, after)) = rest.split_first() {
            rest = after;
            let Cut { mut bytes, length } = std::mem::take(&mut self.cut);
            bytes[length] = byte;
            let character = &bytes[..=length];
            match std::str::from_utf8(character) {
                Ok(_) => {
                    self.take(character)?;
                    break;
                }
                // Never at four bytes: they are a character or none.
                Err(error) if error.error_len().is_none() => {
                    self.cut = Cut { bytes, length: length + 1 };
                }
                Err(_) => return Err(Fault::BadBody),
            }
        }
        Ok(rest)
    }

    /// What follows `\`, and with all four digits of `\u` if they are there.
    pub(super) fn escape<'b>(
        &mut self,
        rest: &'b [u8],
        half: Option<u16>,
    ) -> Result<&'b [u8], Fault> {
        let (byte, after) = match rest {
            [b'u', a, b, c, d, after @ ..] => {
                let digits = [*a, *b, *c, *d].map(hex_value);
                let [Some(a), Some(b), Some(c), Some(d)] = digits else {
                    return Err(Fault::BadBody);
                };
                self.unit(u16::from(a << 4 | b) << 8 | u16::from(c << 4 | d), half)?;
                return Ok(after);
            }
            [b'u', after @ ..] => {
                self.state = State::Hex(0, 0, half);
                return Ok(after);
            }
            [byte, after @ ..] => (*byte, after),
            [] => return Ok(rest),
        };
        let character = match byte {
            _ if half.is_some() => return Err(Fault::BadBody),
            b'"' | b'\\' | b'/' => byte,
            b'b' => 8,
            b'f' => 12,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            _ => return Err(Fault::BadBody),
        };
        self.state = State::String;
        self.take(&[character])?;
        Ok(after)
    }

    /// A digit of `\u` whose digits did not come in one piece.
    pub(super) fn hex(
        &mut self,
        byte: u8,
        read: u8,
        value: u16,
        half: Option<u16>,
    ) -> Result<(), Fault> {
        let digit = hex_value(byte).ok_or(Fault::BadBody)?;
        let value = value << 4 | u16::from(digit);
        if read < 3 {
            self.state = State::Hex(read + 1, value, half);
            return Ok(());
        }
        self.unit(value, half)
    }

    /// What `\u` stands for: a character, or with the half before it one.
    pub(super) fn unit(&mut self, value: u16, half: Option<u16>) -> Result<(), Fault> {
        let units = [half.unwrap_or(value), value];
        let units = if half.is_some() { &units[..] } else { &units[1..] };
        match char::decode_utf16(units.iter().copied()).next() {
            Some(Ok(character)) => {
                self.state = State::String;
                self.take(character.encode_utf8(&mut [0; 4]).as_bytes())
            }
            // A first half, alone so far.
            Some(Err(error)) if half.is_none() && error.unpaired_surrogate() < 0xDC00 => {
                self.state = State::SecondHalf(value);
                Ok(())
            }
            _ => Err(Fault::BadBody),
        }
    }
}
