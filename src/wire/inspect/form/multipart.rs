use memchr::memmem::Finder;

use super::Boundary;
use super::part_head::PartHead;
use crate::wire::inspect::{Fault, MAX_MODEL_BYTES};

/// The longest head of a part, in bytes.
const MAX_HEAD_BYTES: usize = 8 * 1024;

/// Finds the part that names the model in a `multipart/form-data` body (RFC 7578, RFC 2046).
///
/// Strict: the first delimiter is the body's first byte, and nothing but a CRLF follows the last.
/// `--boundary` stands nowhere but in delimiters, each of them after a CRLF and before a CRLF or
/// `--`: some readers take a bare LF before it, white space or anything else after it.
#[derive(Debug)]
pub struct MultipartScan {
    field: Box<str>,
    /// Finds `--` and the boundary.
    dashes: Finder<'static>,
    state: State,
    /// The head of the part, the model, or a few bytes that must be what is expected.
    text: Vec<u8>,
    part: PartHead,
    /// How much of the part's content was read, the CRLF and dashes after it included.
    read: u64,
    /// The last bytes of the content: so many that with the next piece no delimiter is missed.
    tail: Vec<u8>,
    model: Option<String>,
}

#[derive(Debug, Clone, Copy)]
enum State {
    /// The first delimiter, up to its boundary.
    Opening,
    /// What follows the boundary of a delimiter.
    AfterBoundary,
    Head,
    Content,
    /// After the last delimiter.
    End,
    Failed(Fault),
}

impl MultipartScan {
    /// Looks for the part with the field of this name.
    #[must_use]
    pub fn new(boundary: &Boundary, field: &str) -> Self {
        let dashes = format!("--{}", boundary.0);
        Self {
            field: field.into(),
            dashes: Finder::new(dashes.as_bytes()).into_owned(),
            state: State::Opening,
            text: Vec::new(),
            part: PartHead { is_model: false, length: None },
            read: 0,
            tail: Vec::new(),
            model: None,
        }
    }

    /// Reads the next piece of the body.
    ///
    /// # Errors
    /// [`Fault::BadBody`]; [`Fault::Conflict`] when the field is there twice, or another whose name
    /// some readers take for its; [`Fault::BadModel`]; [`Fault::UnsupportedEncoding`] for a part
    /// whose text may not be UTF-8. A scan that failed goes on to fail.
    pub fn feed(&mut self, piece: &[u8]) -> Result<(), Fault> {
        if let State::Failed(fault) = self.state {
            return Err(fault);
        }
        let mut rest = piece;
        while !rest.is_empty() {
            match self.step(rest) {
                Ok(after) => rest = after,
                Err(fault) => {
                    self.state = State::Failed(fault);
                    return Err(fault);
                }
            }
        }
        Ok(())
    }

    /// The body is over: the model, if a part names one.
    ///
    /// # Errors
    /// [`Fault::BadBody`] when the last delimiter is missing, or as [`Self::feed`].
    pub fn end(self) -> Result<Option<String>, Fault> {
        match self.state {
            // The last CRLF may be left out, but not half of it.
            State::End if matches!(&self.text[..], b"" | b"\r\n") => Ok(self.model),
            State::Failed(fault) => Err(fault),
            _ => Err(Fault::BadBody),
        }
    }

    /// Reads on, and gives back what follows.
    fn step<'b>(&mut self, rest: &'b [u8]) -> Result<&'b [u8], Fault> {
        if matches!(self.state, State::Content) {
            return self.content(rest);
        }
        let Some((&byte, after)) = rest.split_first() else { return Ok(rest) };
        self.text.push(byte);
        match self.state {
            State::Opening => {
                let expected = self.dashes.needle();
                if !expected.starts_with(&self.text) {
                    return Err(Fault::BadBody);
                }
                if self.text.len() == expected.len() {
                    self.enter(State::AfterBoundary);
                }
            }
            State::AfterBoundary => match &self.text[..] {
                b"\r" | b"-" => {}
                b"\r\n" => self.enter(State::Head),
                b"--" => self.enter(State::End),
                _ => return Err(Fault::BadBody),
            },
            State::Head => {
                if let Some(head) = self.text.strip_suffix(b"\r\n")
                    && (head.is_empty() || head.ends_with(b"\r\n"))
                {
                    self.part = PartHead::read(head, &self.field, self.model.is_some())?;
                    self.read = 0;
                    self.tail.clear();
                    self.enter(State::Content);
                } else if self.text.len() == MAX_HEAD_BYTES {
                    return Err(Fault::BadBody);
                }
            }
            State::End if b"\r\n".starts_with(&self.text) => {}
            State::End => return Err(Fault::BadBody),
            // Both were seen to before.
            State::Content | State::Failed(_) => return Err(Fault::BadBody),
        }
        Ok(after)
    }

    fn enter(&mut self, state: State) {
        self.text.clear();
        self.state = state;
    }

    /// Reads the content of a part, up to the boundary of the delimiter after it or the end of the
    /// piece.
    fn content<'b>(&mut self, rest: &'b [u8]) -> Result<&'b [u8], Fault> {
        let dashes = self.dashes.needle().len();
        // First where the tail and this piece meet, then in this piece alone.
        let tail = self.tail.len();
        let mut seam = std::mem::take(&mut self.tail);
        seam.extend_from_slice(&rest[..rest.len().min(dashes)]);
        let in_seam = self.dashes.find(&seam).map(|start| (start + dashes) - tail);
        let found = in_seam.or_else(|| self.dashes.find(rest).map(|start| start + dashes));
        // What follows the found boundary, and is no content.
        let (content, after) = rest.split_at(found.unwrap_or(rest.len()));
        self.keep(content)?;
        if found.is_none() {
            self.tail = last(seam, tail, rest, dashes + 1);
            return Ok(after);
        }
        let start = content.len().checked_sub(dashes + 2);
        let before = match start {
            Some(start) => &content[start..start + 2],
            // The delimiter began in the tail, and with it the CRLF; or the part has no such.
            None => {
                let end = (tail + content.len()).checked_sub(dashes).ok_or(Fault::BadBody)?;
                &seam[end.checked_sub(2).ok_or(Fault::BadBody)?..end]
            }
        };
        if before != b"\r\n" {
            return Err(Fault::BadBody);
        }
        self.end_of_part(dashes + 2)?;
        Ok(after)
    }

    /// Counts the content, and keeps it where it is the model.
    fn keep(&mut self, content: &[u8]) -> Result<(), Fault> {
        self.read += content.len() as u64;
        if self.part.is_model {
            // The delimiter after it is kept too, until it is known to be one.
            let most = MAX_MODEL_BYTES + self.dashes.needle().len() + 2;
            if self.text.len() + content.len() > most {
                return Err(Fault::BadModel);
            }
            self.text.extend_from_slice(content);
        }
        Ok(())
    }

    /// The part is over; so many of the bytes that were read as content are the delimiter.
    fn end_of_part(&mut self, delimiter: usize) -> Result<(), Fault> {
        let length = self.read.checked_sub(delimiter as u64).ok_or(Fault::BadBody)?;
        if self.part.length.is_some_and(|told| told != length) {
            return Err(Fault::BadBody);
        }
        if self.part.is_model {
            let mut text = std::mem::take(&mut self.text);
            text.truncate(text.len() - delimiter);
            self.model = Some(String::from_utf8(text).map_err(|_| Fault::BadBody)?);
        }
        self.enter(State::AfterBoundary);
        Ok(())
    }
}

/// The last bytes of what was read: of the tail at the head of `seam` and the piece after it.
fn last(mut seam: Vec<u8>, tail: usize, piece: &[u8], count: usize) -> Vec<u8> {
    seam.truncate(tail);
    let from_piece = piece.len().min(count);
    let from_tail = tail.min(count - from_piece);
    seam.drain(..tail - from_tail);
    seam.extend_from_slice(&piece[piece.len() - from_piece..]);
    seam
}

#[cfg(test)]
mod tests {
    use super::*;
    use Fault::{BadBody, BadModel, Conflict};

    const BOUNDARY: &str = "X-b";

    fn read(body: &[u8]) -> Result<Option<String>, Fault> {
        let boundary = Boundary::parse(BOUNDARY).unwrap();
        let read = |length: usize| {
            let mut scan = MultipartScan::new(&boundary, "model");
            body.chunks(length).try_for_each(|piece| scan.feed(piece))?;
            scan.end()
        };
        let whole = read(usize::MAX);
        for length in 1..12 {
            assert_eq!(read(length), whole, "{length}: {:?}", String::from_utf8_lossy(body));
        }
        whole
    }

    fn part(name: &str, content: &str) -> String {
        format!(
            "--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{content}\r\n"
        )
    }

    fn end() -> String {
        format!("--{BOUNDARY}--\r\n")
    }

    #[test]
    fn the_model_is_found() {
        for (parts, model) in [
            (vec![("model", "whisper-1")], Some("whisper-1")),
            (vec![("a", "b"), ("model", "x"), ("c", "")], Some("x")),
            (vec![("a", "b")], None),
            (vec![("model", "")], Some("")),
            (vec![("model", "\r\n")], Some("\r\n")),
            (vec![("model", "café")], Some("café")),
            (vec![("a", "\r\n--X-\r\n--X\r\n--\r\n-"), ("model", "x")], Some("x")),
            (vec![("a", "\r\n\r\nmodel=y\r\n"), ("model", "x")], Some("x")),
            (vec![("a", "\r"), ("b", "\n"), ("c", "\r\n-"), ("model", "x")], Some("x")),
        ] {
            let body: String = parts.iter().map(|(name, content)| part(name, content)).collect();
            let body = body + &end();
            assert_eq!(read(body.as_bytes()), Ok(model.map(Into::into)), "{body}");
            let body = body.trim_end();
            assert_eq!(read(body.as_bytes()), Ok(model.map(Into::into)), "{body}");
        }
        // No part at all.
        assert_eq!(read(b"--X-b--"), Ok(None));
    }

    #[test]
    fn what_readers_take_differently_is_refused() {
        let good = part("model", "x") + &end();
        assert!(read(good.as_bytes()).is_ok());
        for (body, fault) in [
            (String::new(), BadBody),
            (part("model", "x") + &part("model", "x") + &end(), Conflict),
            (part("model", "x") + &part("Model", "y") + &end(), Conflict),
            (part("model[]", "x") + &end(), Conflict),
            // What stands before and after.
            (format!("\r\n{good}"), BadBody),
            (format!("preamble\r\n{good}"), BadBody),
            (format!("{good}\r\n"), BadBody),
            (format!("{good}{good}"), BadBody),
            (format!("{good}x"), BadBody),
            (format!("{}\n", good.trim_end()), BadBody),
            (format!("{}\r", good.trim_end()), BadBody),
            (format!("{} \r\n", good.trim_end()), BadBody),
            (part("model", "x"), BadBody),
            (part("model", "x").trim_end().into(), BadBody),
            (part("model", "x") + "--X-b", BadBody),
            (part("model", "x") + "--X-b-", BadBody),
            (part("model", "x") + "--X-b\r\n", BadBody),
            (part("model", "x") + "--X-b\r\n\r\n" + &end(), BadBody),
            // Delimiters that only some take for one.
            (good.replacen("--X-b\r\n", "--X-b \r\n", 1), BadBody),
            (good.replacen("--X-b\r\n", "--X-b\n", 1), BadBody),
            (good.replacen("--X-b\r\n", "--X-bc\r\n", 1), BadBody),
            (good.replacen("--X-b\r\n", "--x-b\r\n", 1), BadBody),
            (good.replace("\r\n", "\n"), BadBody),
            (good.replace("x\r\n", "x\n"), BadBody),
            (good.replace("x\r\n", "x\r"), BadBody),
            (good.replace("x\r\n", "x"), BadBody),
            (part("a", "b\n--X-b\r\n") + &good, BadBody),
            (part("a", "b\n--X-b--\r\n") + &good, BadBody),
            (part("a", "b--X-b") + &good, BadBody),
            (part("a", "--X-b") + &good, BadBody),
            (part("a", "\n--X-b") + &good, BadBody),
            (part("a", "\r\n--X-bc\r\n") + &good, BadBody),
            (part("a", "\r\n---X-b\r\n") + &good, BadBody),
            (part("a", "\r\n--X-b \r\n") + &good, BadBody),
            (part("a", "\r\n--X-b-\r\n") + &good, BadBody),
            (part("a", "\r\n--X-b--\r\n") + &good, BadBody),
            // A part without the CRLF between its head and the next delimiter.
            (
                "--X-b\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n".to_owned() + &good,
                BadBody,
            ),
            ("--X-b\r\nContent-Disposition: form-data; name=\"a\"\r\n".to_owned() + &good, BadBody),
            ("--X-b\r\n\r\nb\r\n".to_owned() + &good, BadBody),
        ] {
            assert_eq!(read(body.as_bytes()), Err(fault), "{body:?}");
        }
        let bytes = |content: &[u8]| {
            [
                &b"--X-b\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\n"[..],
                content,
                b"\r\n--X-b--",
            ]
            .concat()
        };
        assert_eq!(read(&bytes(b"\xff")), Err(BadBody));
        assert_eq!(read(&bytes(b"\0")), Ok(Some("\0".into())));
    }

    #[test]
    fn a_told_length_must_be_true() {
        let told = |length: usize, content: &str| {
            let body = part("a", content) + &part("model", "x") + &end();
            read(
                body.replacen("\r\n\r\n", &format!("\r\nContent-Length: {length}\r\n\r\n"), 1)
                    .as_bytes(),
            )
        };
        for content in ["", "b", "bc\r\n", &"b".repeat(1_000)] {
            assert_eq!(told(content.len(), content), Ok(Some("x".into())));
            assert_eq!(told(content.len() + 1, content), Err(BadBody));
        }
        assert_eq!(told(0, "b"), Err(BadBody));
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let long = "x".repeat(MAX_MODEL_BYTES);
        assert_eq!(read((part("model", &long) + &end()).as_bytes()), Ok(Some(long.clone())));
        assert_eq!(read((part("model", &(long + "x")) + &end()).as_bytes()), Err(BadModel));
        let head = format!("X: {}\r\nContent-Disposition", "x".repeat(MAX_HEAD_BYTES));
        assert_eq!(
            read(part("model", "x").replace("Content-Disposition", &head).as_bytes()),
            Err(BadBody)
        );

        let mut scan = MultipartScan::new(&Boundary::parse(BOUNDARY).unwrap(), "model");
        scan.feed(part("a", "").trim_end_matches("\r\n").as_bytes()).unwrap();
        scan.feed(b"\r\n\r\n").unwrap();
        for _ in 0..100 {
            scan.feed(&[b'-'; 10_000]).unwrap();
        }
        assert!(scan.tail.capacity() + scan.text.capacity() < 1_000);
    }

    #[test]
    fn boundaries_of_clients_are_read() {
        for boundary in [
            "----WebKitFormBoundary7MA4YWxkTrZu0gW",
            "------------------------d74496d66958873e",
            "0f6e2e0b6d3f4a2b8a53",
            "===============5996062482053075853==",
            &"b".repeat(70),
        ] {
            let boundary_read = Boundary::parse(boundary).unwrap();
            let mut scan = MultipartScan::new(&boundary_read, "model");
            let body = (part("a", "---\r\n----") + &part("model", "x") + &end())
                .replace(BOUNDARY, boundary);
            body.as_bytes().chunks(7).try_for_each(|piece| scan.feed(piece)).unwrap();
            assert_eq!(scan.end(), Ok(Some("x".into())), "{boundary}");
        }
        for none in ["", "a b", "a\"b", "é", "a;b", &"b".repeat(71)] {
            assert_eq!(Boundary::parse(none), None, "{none}");
        }
    }
}
