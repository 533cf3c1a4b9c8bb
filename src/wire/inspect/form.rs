//! The model that a form names: `application/x-www-form-urlencoded` and `multipart/form-data`.

mod multipart;
mod part_head;
mod urlencoded;

pub use multipart::MultipartScan;
pub use urlencoded::UrlEncodedScan;

use super::Fault;
use super::name::{Likeness, of_field};

/// What stands between the parts of a `multipart/form-data` body (RFC 2046, section 5.1.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Boundary(Box<str>);

impl Boundary {
    /// Reads a boundary: 1 to 70 of the characters that RFC 2046 gives, but no space, which some
    /// readers trim.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let is_fit = |byte: u8| byte.is_ascii_alphanumeric() || b"'()+_,-./:=?".contains(&byte);
        ((1..=70).contains(&text.len()) && text.bytes().all(is_fit)).then(|| Self(text.into()))
    }
}

/// A field by which forms say in which encoding their texts are (RFC 7578, section 4.6; HTML's
/// older rule for forms that are urlencoded).
const CHARSET_FIELD: &str = "_charset_";

/// Whether a field of this name is the one that names the model, which may be there once.
fn is_wanted(name: &str, wanted: &str, is_second: bool) -> Result<bool, Fault> {
    match of_field(name, wanted) {
        Likeness::Same if !is_second => return Ok(true),
        Likeness::Same | Likeness::Alike => return Err(Fault::Conflict),
        Likeness::Other => {}
    }
    match of_field(name, CHARSET_FIELD) {
        Likeness::Other => Ok(false),
        Likeness::Same | Likeness::Alike => Err(Fault::UnsupportedEncoding),
    }
}
