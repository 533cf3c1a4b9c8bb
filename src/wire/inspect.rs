//! Which model a body names, read so strictly that no server behind can read another.
//!
//! A server may take the first of two members of one name or the last, fold letter case, or decode
//! what others leave alone. So nothing here chooses: what could be read in two ways is a [`Fault`].
//! Each reader is a state machine that is fed the body in whatever pieces it arrives, remembers a
//! few hundred bytes whatever the body's size, and judges it to its last byte: a model that was
//! found early says nothing about what follows. They neither wait nor hold the body; who forwards
//! it holds it (see [`Held`]) until the answer is known.

use bytes::Bytes;
use http::HeaderMap;

use crate::policy::{BodyFault, BodyForm, Field};

mod form;
mod grpc;
mod held;
mod json;
mod media_type;
mod name;

pub use form::{Boundary, MultipartScan, UrlEncodedScan};
pub use grpc::{GrpcScan, Message, PathStep};
pub use held::Held;
pub use json::JsonScan;
pub use media_type::{MediaType, require_identity_coding};

/// The longest model id, in bytes after decoding. A longer one is no id whatever it says, so no
/// reader keeps more of it.
const MAX_MODEL_BYTES: usize = 256;

/// Why a body does not tell its model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Fault {
    /// Not in the form it should have, or in one that readers take differently: 400 `bad_body`.
    #[error("the body is not in a form that every server reads alike")]
    BadBody,
    /// The model is named twice, or by a name that only some readers take for it: 400
    /// `model_conflict`.
    #[error("the body names the model more than once")]
    Conflict,
    /// The model's name is longer than any id: 400 `bad_model`.
    #[error("the model's name is longer than 256 bytes")]
    BadModel,
    /// Longer than the limit of inspection: 413 `body_too_large`, in gRPC `RESOURCE_EXHAUSTED`.
    #[error("the body is longer than what is inspected")]
    TooLarge,
    /// Compressed, or in an encoding of characters that is not UTF-8: 415, in gRPC
    /// `UNIMPLEMENTED`.
    #[error("the body is compressed, or its characters are not UTF-8")]
    UnsupportedEncoding,
}

/// In the words of the law.
impl From<Fault> for BodyFault {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::BadBody => Self::Malformed,
            Fault::Conflict => Self::Conflict,
            Fault::BadModel => Self::NotAnId,
            Fault::TooLarge => Self::TooLarge,
            Fault::UnsupportedEncoding => Self::Encoded,
        }
    }
}

/// A body that is read once as a whole: JSON or a form, with a limit to its length.
#[derive(Debug)]
pub struct BodyScan {
    reader: Reader,
    left: usize,
}

#[derive(Debug)]
enum Reader {
    Json(JsonScan),
    Multipart(Box<MultipartScan>),
    UrlEncoded(UrlEncodedScan),
}

impl BodyScan {
    /// A JSON object of at most `limit` bytes that names the model in the member `member`.
    #[must_use]
    pub fn json(member: &str, limit: usize) -> Self {
        Self { reader: Reader::Json(JsonScan::new(member)), left: limit }
    }

    /// A form of at most `limit` bytes that names the model in the field `field`; none when the
    /// media type is that of no form.
    #[must_use]
    pub fn form(media_type: &MediaType, field: &str, limit: usize) -> Option<Self> {
        let reader = match media_type {
            MediaType::Multipart(boundary) => {
                Reader::Multipart(Box::new(MultipartScan::new(boundary, field)))
            }
            MediaType::UrlEncoded => Reader::UrlEncoded(UrlEncodedScan::new(field)),
            _ => return None,
        };
        Some(Self { reader, left: limit })
    }

    /// Reads the next piece of the body.
    ///
    /// # Errors
    /// Any [`Fault`]. After one, every further call returns a fault too.
    pub fn feed(&mut self, piece: &[u8]) -> Result<(), Fault> {
        let Some(left) = self.left.checked_sub(piece.len()) else {
            self.left = 0;
            return Err(Fault::TooLarge);
        };
        self.left = left;
        match &mut self.reader {
            Reader::Json(scan) => scan.feed(piece),
            Reader::Multipart(scan) => scan.feed(piece),
            Reader::UrlEncoded(scan) => scan.feed(piece),
        }
    }

    /// The body is over: the model it names, if it names one.
    ///
    /// # Errors
    /// [`Fault::BadBody`] when it ends too early, or the fault that [`Self::feed`] told.
    pub fn end(self) -> Result<Option<String>, Fault> {
        match self.reader {
            Reader::Json(scan) => scan.end(),
            Reader::Multipart(scan) => scan.end(),
            Reader::UrlEncoded(scan) => scan.end(),
        }
    }
}

/// A reader for a body: what its headers say it is, and what the route says it may be.
#[derive(Debug)]
pub enum BodyReader {
    /// A body that is read as a whole.
    Whole(BodyScan),
    /// The messages of a gRPC call.
    Messages(GrpcScan),
}

/// The reader that a body needs, up to `limit` bytes, or for each message as many.
///
/// # Errors
/// [`Fault::UnsupportedEncoding`] when it is compressed, or of a type that is read in another way
/// than the route says; [`Fault::BadBody`] when its type cannot be told.
pub fn reader(form: BodyForm<'_>, headers: &HeaderMap, limit: usize) -> Result<BodyReader, Fault> {
    require_identity_coding(headers)?;
    let media_type = MediaType::of(headers)?;
    let (json, form) = match form {
        BodyForm::Text { json, form } => (json, form),
        BodyForm::Grpc(_) if media_type != MediaType::Grpc => {
            return Err(Fault::UnsupportedEncoding);
        }
        BodyForm::Grpc(path) => {
            let step =
                |field: &Field| PathStep { field: field.number, is_repeated: field.is_repeated };
            let path: Vec<PathStep> = path.fields().iter().map(step).collect();
            return Ok(BodyReader::Messages(GrpcScan::new(&path, limit)));
        }
    };
    let scan = match &media_type {
        MediaType::Json | MediaType::Missing if json => Some(BodyScan::json("model", limit)),
        _ => form.and_then(|field| BodyScan::form(&media_type, field, limit)),
    };
    scan.map(BodyReader::Whole).ok_or(Fault::UnsupportedEncoding)
}

/// The model that a body names which is there as a whole; in a gRPC call, that of its first message.
///
/// # Errors
/// Any [`Fault`].
pub fn model_in(
    form: BodyForm<'_>,
    headers: &HeaderMap,
    body: &[u8],
    limit: usize,
) -> Result<Option<String>, Fault> {
    if body.is_empty() {
        return Ok(None);
    }
    match reader(form, headers, limit)? {
        BodyReader::Whole(mut scan) => {
            scan.feed(body)?;
            scan.end()
        }
        BodyReader::Messages(mut scan) => {
            let mut body = Bytes::copy_from_slice(body);
            match scan.next(&mut body)? {
                Some(message) => Ok(message.model),
                None => scan.end().map(|()| None),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_the_last_byte_that_is_read() {
        let body = br#"{"model":"iris"}"#;
        let mut scan = BodyScan::json("model", body.len());
        assert_eq!(scan.feed(&body[..8]).and_then(|()| scan.feed(&body[8..])), Ok(()));
        assert_eq!(scan.end(), Ok(Some("iris".into())));

        let mut scan = BodyScan::json("model", body.len() - 1);
        assert_eq!(scan.feed(&body[..8]), Ok(()));
        assert_eq!(scan.feed(&body[8..]), Err(Fault::TooLarge));
        assert_eq!(scan.feed(b" "), Err(Fault::TooLarge), "it stays so");
    }

    #[test]
    fn a_form_needs_the_media_type_of_one() {
        assert!(BodyScan::form(&MediaType::Json, "model", 100).is_none());
        assert!(BodyScan::form(&MediaType::Missing, "model", 100).is_none());
        let mut scan = BodyScan::form(&MediaType::UrlEncoded, "model", 100).unwrap();
        assert_eq!(scan.feed(b"a=1&model=ir"), Ok(()));
        assert_eq!(scan.feed(b"is"), Ok(()));
        assert_eq!(scan.end(), Ok(Some("iris".into())));
    }
}
