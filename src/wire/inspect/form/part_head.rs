use smallvec::SmallVec;

use super::is_wanted;
use crate::wire::inspect::Fault;
use crate::wire::inspect::media_type::{Parameter, is_token, parameters, require_utf_8};

/// The most header lines of a part; writers make three.
const MAX_LINES: usize = 16;

/// What the head of a part says (RFC 7578, section 4).
#[derive(Debug, PartialEq, Eq)]
pub(super) struct PartHead {
    /// Whether it is the field that names the model.
    pub(super) is_model: bool,
    /// How long the part says to be.
    pub(super) length: Option<u64>,
}

impl PartHead {
    /// Reads the header lines of a part, each with its CRLF, without the empty line after them.
    ///
    /// # Errors
    /// [`Fault::BadBody`] for what readers take differently, such as folded lines, headers twice,
    /// escapes in names, encodings of the content, parts of parts; the others as `is_wanted`.
    pub(super) fn read(head: &[u8], field: &str, is_second: bool) -> Result<Self, Fault> {
        let head = std::str::from_utf8(head).map_err(|_| Fault::BadBody)?;
        let head = head.strip_suffix("\r\n").ok_or(Fault::BadBody)?;
        let mut lines = SmallVec::<[Line<'_>; MAX_LINES]>::new();
        for line in head.split("\r\n") {
            let line = Line::read(line)?;
            let is_repeated = lines.iter().any(|other| other.is(line.name));
            if is_repeated || lines.len() == MAX_LINES {
                return Err(Fault::BadBody);
            }
            lines.push(line);
        }
        let value = |name: &str| lines.iter().find(|line| line.is(name)).map(|line| line.value);

        let disposition = Disposition::read(value("content-disposition").ok_or(Fault::BadBody)?)?;
        let is_model = is_wanted(disposition.name, field, is_second)?;
        if is_model && disposition.is_file {
            return Err(Fault::BadBody);
        }
        if let Some(content_type) = value("content-type") {
            check_content_type(content_type, is_model)?;
        }
        if let Some(encoding) = value("content-transfer-encoding") {
            // Go decodes `quoted-printable`, some decode `base64`, the others leave both alone.
            let plain = ["binary", "8bit", "7bit"];
            if !plain.iter().any(|plain| encoding.eq_ignore_ascii_case(plain)) {
                return Err(Fault::BadBody);
            }
        }
        let length = value("content-length").map(decimal).transpose()?;
        Ok(Self { is_model, length })
    }
}

struct Line<'h> {
    name: &'h str,
    value: &'h str,
}

impl<'h> Line<'h> {
    fn read(line: &'h str) -> Result<Self, Fault> {
        // A bare CR or LF is a line's end to some; a line that starts with a space has no name.
        if line.contains(char::is_control) {
            return Err(Fault::BadBody);
        }
        let (name, value) = line.split_once(':').ok_or(Fault::BadBody)?;
        if !is_token(name) {
            return Err(Fault::BadBody);
        }
        Ok(Self { name, value: value.trim_matches(' ') })
    }

    fn is(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name)
    }
}

struct Disposition<'h> {
    name: &'h str,
    is_file: bool,
}

impl<'h> Disposition<'h> {
    /// Reads `form-data; name="…"`, with the file's name after it if there is one, as every client
    /// writes it: in this order and in lower case. Some readers compare letter case, and some look
    /// for the next `name=` without heeding quotes, so nothing in a value may look like one.
    fn read(value: &'h str) -> Result<Self, Fault> {
        let (kind, rest) = value.split_at(value.find(';').unwrap_or(value.len()));
        if kind.trim_end_matches(' ') != "form-data" {
            return Err(Fault::BadBody);
        }
        let mut read = parameters(rest);
        let mut next = || match read.next() {
            None => Ok(None),
            Some(Ok(Some(parameter))) if !parameter.value.contains('=') => Ok(Some(parameter)),
            Some(_) => Err(Fault::BadBody),
        };
        // Not `name*` or `name*0`: RFC 7578, section 4.2 forbids them, some read them.
        let Some(Parameter { name: "name", value: name }) = next()? else {
            return Err(Fault::BadBody);
        };
        let (file_name, encoded, end) = (next()?, next()?, next()?);
        let key = |parameter: Option<Parameter<'h>>| parameter.map(|parameter| parameter.name);
        match (key(file_name), key(encoded), end) {
            (None, None, None) => Ok(Self { name, is_file: false }),
            (Some("filename" | "filename*"), None, None)
            | (Some("filename"), Some("filename*"), None) => Ok(Self { name, is_file: true }),
            _ => Err(Fault::BadBody),
        }
    }
}

/// What the content of a part says to be: no parts of its own, and where the model is named, text
/// that is UTF-8.
fn check_content_type(value: &str, is_model: bool) -> Result<(), Fault> {
    let (essence, rest) = value.split_at(value.find(';').unwrap_or(value.len()));
    let essence = essence.trim_matches(' ').to_ascii_lowercase();
    if essence.starts_with("multipart/") || essence.starts_with("message/") {
        return Err(Fault::BadBody);
    }
    if !is_model {
        return Ok(());
    }
    if essence != "text/plain" {
        return Err(Fault::BadBody);
    }
    for parameter in parameters(rest) {
        match parameter? {
            Some(Parameter { name, value }) if name.eq_ignore_ascii_case("charset") => {
                require_utf_8(value)?;
            }
            _ => return Err(Fault::BadBody),
        }
    }
    Ok(())
}

fn decimal(digits: &str) -> Result<u64, Fault> {
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(Fault::BadBody);
    }
    digits.parse().map_err(|_| Fault::BadBody)
}

#[cfg(test)]
mod tests {
    use super::*;
    use Fault::{BadBody, Conflict, UnsupportedEncoding};

    const NAMED: &str = "Content-Disposition: form-data; name=\"model\"\r\n";

    fn read(head: &str) -> Result<PartHead, Fault> {
        PartHead::read(head.as_bytes(), "model", false)
    }

    #[test]
    fn heads_as_clients_write_them_are_read() {
        let model = PartHead { is_model: true, length: None };
        let other = PartHead { is_model: false, length: None };
        for (lines, expected) in [
            // curl, browsers, requests, httpx.
            (NAMED.into(), &model),
            ("Content-Disposition: form-data; name=\"file\"; filename=\"a b.wav\"\r\n\
              Content-Type: audio/wav\r\n".into(), &other),
            ("Content-Disposition: form-data; name=\"file\"; filename=\"café.wav\"\r\n".into(), &other),
            ("Content-Disposition: form-data; name=\"file\"; filename*=utf-8''caf%C3%A9.wav\r\n".into(), &other),
            ("Content-Disposition: form-data; name=\"timestamp_granularities[]\"\r\n".into(), &other),
            // .NET, aiohttp, OkHttp.
            ("Content-Disposition: form-data; name=model\r\n".into(), &model),
            ("Content-Type: text/plain; charset=utf-8\r\nContent-Disposition: form-data; name=model\r\n".into(), &model),
            ("Content-Disposition: form-data; name=file; filename=a.wav; filename*=utf-8''a.wav\r\n".into(), &other),
            (format!("{NAMED}Content-Transfer-Encoding: binary\r\nContent-Type: text/plain\r\n"), &model),
            (format!("{NAMED}Content-Length: 4\r\n"), &PartHead { is_model: true, length: Some(4) }),
            ("content-disposition:form-data ;name=\"model\"\r\n".into(), &model),
        ] {
            assert_eq!(read(&lines).as_ref(), Ok(expected), "{lines}");
        }
    }

    #[test]
    fn what_readers_take_differently_is_refused() {
        for (lines, fault) in [
            (String::new(), BadBody),
            ("Content-Type: text/plain\r\n".into(), BadBody),
            (NAMED.repeat(2), BadBody),
            (format!("{NAMED}content-disposition: form-data; name=\"a\"\r\n"), BadBody),
            (format!("{NAMED}X: 1\r\nx: 2\r\n"), BadBody),
            // Lines.
            (NAMED.replace("; name", ";\r\n name"), BadBody),
            (NAMED.replace("; name", ";\r\n\tname"), BadBody),
            (format!("X: 1\n{NAMED}"), BadBody),
            (format!("X: 1\r{NAMED}"), BadBody),
            (format!("X: 1\0\r\n{NAMED}"), BadBody),
            (format!(" X: 1\r\n{NAMED}"), BadBody),
            (format!("X\r\n{NAMED}"), BadBody),
            (format!("X : 1\r\n{NAMED}"), BadBody),
            (format!(": 1\r\n{NAMED}"), BadBody),
            (NAMED.trim_end().into(), BadBody),
            // The disposition.
            (NAMED.replace("form-data", "attachment"), BadBody),
            (NAMED.replace("form-data; ", ""), BadBody),
            (NAMED.replace("; name=\"model\"", ""), BadBody),
            (NAMED.replace("\r\n", ";\r\n"), BadBody),
            (NAMED.replace("\r\n", "; name=\"a\"\r\n"), BadBody),
            (NAMED.replace("\r\n", "; NAME=\"model\"\r\n"), BadBody),
            (NAMED.replace("\r\n", "; name*=utf-8''a\r\n"), BadBody),
            (NAMED.replace("name=", "name*="), BadBody),
            (NAMED.replace("name=\"model\"", "name*=utf-8''model"), BadBody),
            (NAMED.replace("name=\"model\"", "name*0=\"mo\"; name*1=\"del\""), BadBody),
            (NAMED.replace("\r\n", "; size=1\r\n"), BadBody),
            (NAMED.replace("form-data", "Form-Data"), BadBody),
            (NAMED.replace("name=", "Name="), BadBody),
            (NAMED.replace("name=", "filename=\"a\"; name="), BadBody),
            (NAMED.replace("model", "=?utf-8?q?model?="), BadBody),
            (NAMED.replace("model\"", "f\"; filename*=utf-8''a; filename=\"a\""), BadBody),
            (NAMED.replace("model\"", "f\"; filename=\"a\"; filename=\"a\""), BadBody),
            (NAMED.replace("model\"", "f\"; filename=\"a; name=model; b\""), BadBody),
            (NAMED.replace("model\"", "f\"; filename=\"name = model\""), BadBody),
            (NAMED.replace("\"model\"", "\"mo\\del\""), BadBody),
            (NAMED.replace("\"model\"", "\"model"), BadBody),
            (NAMED.replace("\"model\"", "model\""), BadBody),
            (NAMED.replace("\"model\"", "\"mo\"del"), BadBody),
            (NAMED.replace("\"model\"", "'model'"), Conflict),
            (NAMED.replace("\"model\"", "\"Model\""), Conflict),
            (NAMED.replace("\"model\"", "\"model[]\""), Conflict),
            (NAMED.replace("\"model\"", "\" model\""), Conflict),
            (NAMED.replace("\"model\"", "\"%6dodel\""), Conflict),
            (NAMED.replace("\"model\"", "\"model%22\""), Conflict),
            (NAMED.replace("\"model\"", "\"ｍodel\""), Conflict),
            (NAMED.replace("\"model\"", "_charset_"), UnsupportedEncoding),
            // A file is no name, and its name may not hide another parameter.
            (NAMED.replace("\r\n", "; filename=\"a\"\r\n"), BadBody),
            (NAMED.replace("\r\n", "; filename=\"\"\r\n"), BadBody),
            (NAMED.replace("\r\n", "; filename*=utf-8''a\r\n"), BadBody),
            (NAMED.replace("name=", "name=\"f\"; filename=\"a\\\"; name="), BadBody),
            (NAMED.replace("name=", "filename=\"a\\\\\"; name="), BadBody),
            // The content.
            (format!("{NAMED}Content-Transfer-Encoding: base64\r\n"), BadBody),
            (format!("{NAMED}Content-Transfer-Encoding: quoted-printable\r\n"), BadBody),
            (
                format!("{}Content-Transfer-Encoding: base64\r\n", NAMED.replace("model", "a")),
                BadBody,
            ),
            (format!("{NAMED}Content-Type: application/json\r\n"), BadBody),
            (format!("{NAMED}Content-Type: text/plain; charset=utf-16le\r\n"), UnsupportedEncoding),
            (format!("{NAMED}Content-Type: text/plain; charset=base64\r\n"), UnsupportedEncoding),
            (format!("{NAMED}Content-Type: text/plain; format=flowed\r\n"), BadBody),
            (
                format!(
                    "{}Content-Type: multipart/mixed; boundary=b\r\n",
                    NAMED.replace("model", "a")
                ),
                BadBody,
            ),
            (format!("{NAMED}Content-Length: -1\r\n"), BadBody),
            (format!("{NAMED}Content-Length: 99999999999999999999\r\n"), BadBody),
            ((0..MAX_LINES).map(|n| format!("X-{n}: 1\r\n")).collect::<String>() + NAMED, BadBody),
        ] {
            assert_eq!(read(&lines), Err(fault), "{lines}");
        }
        assert_eq!(PartHead::read(b"X: \xff\r\n", "model", false), Err(BadBody));
        assert_eq!(PartHead::read(NAMED.as_bytes(), "model", true), Err(Conflict));
    }
}
