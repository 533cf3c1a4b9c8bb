use super::is_wanted;
use crate::wire::inspect::name::hex_value;
use crate::wire::inspect::{Fault, MAX_MODEL_BYTES};

/// The longest name of a field, in bytes after decoding.
const MAX_NAME_BYTES: usize = 1024;

/// Finds the field that names the model in an `application/x-www-form-urlencoded` body (WHATWG URL,
/// section 5).
///
/// Strict: no broken escapes, no `;`, at which some readers part fields, no control characters,
/// space or bytes beyond ASCII, which no writer leaves as they are, and names are UTF-8.
#[derive(Debug)]
pub struct UrlEncodedScan {
    field: Box<str>,
    place: Place,
    escape: Escape,
    /// The name that is being read, or the model.
    text: Vec<u8>,
    model: Option<String>,
    failed: Option<Fault>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Name,
    /// A value that names the model.
    Model,
    /// Another value.
    Value,
}

#[derive(Debug, Clone, Copy)]
enum Escape {
    None,
    /// After `%`.
    High,
    /// After the first digit, which says so much.
    Low(u8),
}

impl UrlEncodedScan {
    /// Looks for the field of this name.
    #[must_use]
    pub fn new(field: &str) -> Self {
        Self {
            field: field.into(),
            place: Place::Name,
            escape: Escape::None,
            text: Vec::new(),
            model: None,
            failed: None,
        }
    }

    /// Reads the next piece of the body.
    ///
    /// # Errors
    /// [`Fault::BadBody`]; [`Fault::Conflict`] when the field is there twice, or another whose name
    /// some readers take for its; [`Fault::BadModel`]; [`Fault::UnsupportedEncoding`] for a field
    /// `_charset_`. A scan that failed goes on to fail.
    pub fn feed(&mut self, piece: &[u8]) -> Result<(), Fault> {
        if let Some(fault) = self.failed {
            return Err(fault);
        }
        let read = piece.iter().try_for_each(|&byte| self.byte(byte));
        self.failed = read.err();
        read
    }

    /// The body is over: the model, if it names one.
    ///
    /// # Errors
    /// [`Fault::BadBody`] when it ends inside of an escape, or as [`Self::feed`].
    pub fn end(mut self) -> Result<Option<String>, Fault> {
        match self.failed {
            Some(fault) => return Err(fault),
            // The end of the last pair is read like the end of the others.
            None => self.byte(b'&')?,
        }
        Ok(self.model)
    }

    fn byte(&mut self, byte: u8) -> Result<(), Fault> {
        match (self.escape, byte) {
            (Escape::High, _) => {
                self.escape = Escape::Low(hex_value(byte).ok_or(Fault::BadBody)?);
            }
            (Escape::Low(high), _) => {
                self.escape = Escape::None;
                self.take(high << 4 | hex_value(byte).ok_or(Fault::BadBody)?)?;
            }
            (Escape::None, b'%') => self.escape = Escape::High,
            (Escape::None, b'&') => self.end_of_pair()?,
            (Escape::None, b'=') if self.place == Place::Name => self.end_of_name()?,
            (Escape::None, b'+') => self.take(b' ')?,
            (Escape::None, b'!'..=b'~') if byte != b';' => self.take(byte)?,
            _ => return Err(Fault::BadBody),
        }
        Ok(())
    }

    fn take(&mut self, decoded: u8) -> Result<(), Fault> {
        match self.place {
            Place::Value => return Ok(()),
            Place::Name if self.text.len() == MAX_NAME_BYTES => return Err(Fault::BadBody),
            Place::Model if self.text.len() == MAX_MODEL_BYTES => return Err(Fault::BadModel),
            Place::Name | Place::Model => self.text.push(decoded),
        }
        Ok(())
    }

    fn end_of_name(&mut self) -> Result<(), Fault> {
        let name = std::str::from_utf8(&self.text).map_err(|_| Fault::BadBody)?;
        let is_model = is_wanted(name, &self.field, self.model.is_some())?;
        self.place = if is_model { Place::Model } else { Place::Value };
        self.text.clear();
        Ok(())
    }

    fn end_of_pair(&mut self) -> Result<(), Fault> {
        if self.place == Place::Name {
            // A name alone has an empty value.
            self.end_of_name()?;
        }
        if self.place == Place::Model {
            let text = std::mem::take(&mut self.text);
            self.model = Some(String::from_utf8(text).map_err(|_| Fault::BadBody)?);
        }
        self.place = Place::Name;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Fault::{BadBody, BadModel, Conflict, UnsupportedEncoding};

    fn read(body: &[u8]) -> Result<Option<String>, Fault> {
        let read = |length: usize| {
            let mut scan = UrlEncodedScan::new("model");
            body.chunks(length).try_for_each(|piece| scan.feed(piece))?;
            scan.end()
        };
        let whole = read(usize::MAX);
        assert_eq!(read(1), whole);
        whole
    }

    #[test]
    fn the_model_is_found() {
        for (body, model) in [
            ("", None),
            ("&", None),
            ("a=b&models=x", None),
            ("model=x", Some("x")),
            ("a=1&model=x&b=2", Some("x")),
            ("%6dodel=%78&", Some("x")),
            ("mode%6C=meta-llama/Llama%2D3.1-8B", Some("meta-llama/Llama-3.1-8B")),
            ("model=a=b", Some("a=b")),
            ("model=a+b%2Bc", Some("a b+c")),
            ("model=%26model%3Dy", Some("&model=y")),
            ("model=", Some("")),
            ("a&model", Some("")),
            ("model=caf%C3%A9", Some("café")),
            ("prompt=%FF%00&model=x&=y&&", Some("x")),
            ("prompt=model=y&model=x", Some("x")),
            ("data[model]=y&model=x", Some("x")),
        ] {
            assert_eq!(read(body.as_bytes()), Ok(model.map(Into::into)), "{body}");
        }
    }

    #[test]
    fn what_readers_take_differently_is_refused() {
        for (body, fault) in [
            ("model=x&model=x", Conflict),
            ("model=x&model", Conflict),
            ("model=x&mod%65l=y", Conflict),
            ("model=x&Model=y", Conflict),
            ("MODEL=x", Conflict),
            ("model[]=x", Conflict),
            ("model%5B%5D=x", Conflict),
            ("model=x&model[0]=y", Conflict),
            ("model=x&model%00=y", Conflict),
            ("model=x&+model=y", Conflict),
            ("model=x&model.=y", Conflict),
            ("model=x&model%0A=y", Conflict),
            ("model=x&%256dodel=y", Conflict),
            ("model=x&%EF%BD%8Dodel=y", Conflict),
            ("model=x;model=y", BadBody),
            ("a=1;b=2&model=x", BadBody),
            ("model=%", BadBody),
            ("model=%4", BadBody),
            ("model=%4&a=b", BadBody),
            ("model=%zz", BadBody),
            ("a=%&model=x", BadBody),
            ("model=%ff", BadBody),
            ("%ff=1&model=x", BadBody),
            ("model%ff=1", BadBody),
            ("model=a b", BadBody),
            ("model=x\r\n", BadBody),
            ("model=x\0", BadBody),
            ("model=café", BadBody),
            ("prompt=é", BadBody),
            ("{\"model\": \"x\"}", BadBody),
            ("_charset_=utf-16&model=x", UnsupportedEncoding),
        ] {
            assert_eq!(read(body.as_bytes()), Err(fault), "{body}");
        }
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let long = "x".repeat(MAX_MODEL_BYTES);
        assert_eq!(read(format!("model={long}").as_bytes()), Ok(Some(long.clone())));
        assert_eq!(read(format!("model={long}x").as_bytes()), Err(BadModel));
        let long = "x".repeat(MAX_NAME_BYTES);
        assert_eq!(read(format!("{long}=y&model=x").as_bytes()), Ok(Some("x".into())));
        assert_eq!(read(format!("{long}x=y&model=x").as_bytes()), Err(BadBody));
    }

    #[test]
    fn a_fault_stays() {
        let mut scan = UrlEncodedScan::new("model");
        assert_eq!(scan.feed(b"model=x&model=y&"), Err(Conflict));
        assert_eq!(scan.feed(b"a=b"), Err(Conflict));
        assert_eq!(scan.end(), Err(Conflict));
    }
}
