//! What is tried, and what must hold of it.

use std::sync::Arc;

use faregate::policy::{Document, RequestPath, RouteTable, Rules};
use faregate::settings::CredentialPlace;
use faregate::strict_toml::judge_token_file;
use faregate::wire::credential::{Credential, CredentialPlaces};
use fastrand::Rng;
use http::{HeaderMap, HeaderName, HeaderValue};
use unicode_normalization::is_nfkc;

use crate::agreement;

fn cuts(random: &mut Rng) -> Vec<usize> {
    (0..random.usize(..4)).map(|_| random.usize(..)).collect()
}

pub(crate) const JSON_WORDS: &[&[u8]] = &[
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b":",
    b"\"",
    b"\\",
    b"\\\"",
    b"\\u",
    b"\\u0065",
    b"\\u0000",
    b"\\ud83d",
    b"\\ude00",
    b"\"model\"",
    b"\"model\":\"x\"",
    b",\"model\":\"y\"",
    b"\"Model\":\"x\",",
    b"model",
    b"\"a\":",
    b"\"\"",
    b"{}",
    b"[]",
    b"null",
    b"true",
    b"false",
    b"0",
    b"-1",
    b"1.5",
    b"1e9",
    b" ",
    b"\n",
    b"\t\r ",
    b"\0",
    b"\xc3\xa9",
    b"\xe2\x82\xac",
    b"\xf0\x9f\x98\x80",
    b"\xed\xa0\x80",
    b"\xc0\x80",
    b"\xef\xbb\xbf",
    b"\xef\xbd\x8d",
];

/// serde_json reads what the gate passes, and the same model.
pub(crate) fn json_scan(input: &[u8], random: &mut Rng) -> bool {
    agreement::json(input, &cuts(random)).is_ok()
}

pub(crate) const MULTIPART_WORDS: &[&[u8]] = &[
    b"\r\n",
    b"\r",
    b"\n",
    b"\r\n\r\n",
    b"--",
    b"--X-b",
    b"\r\n--X-b",
    b"--X-b\r\n",
    b"--X-b--",
    b"--X-b--\r\n",
    b"\n--X-b\r\n",
    b"Content-Disposition: form-data; name=\"model\"\r\n",
    b"Content-Disposition: ",
    b"form-data",
    b"; name=\"model\"",
    b"; name=model",
    b"; name=\"Model\"",
    b"; name*=utf-8''model",
    b"; filename=\"a\"",
    b"\"",
    b"\\\"",
    b"\\",
    b";",
    b"=",
    b":",
    b" ",
    b"\t",
    b"model",
    b"[]",
    b"%6d",
    b"\0",
    b"\xff",
    b"\xc3\xa9",
    b"Content-Type: text/plain\r\n",
    b"; charset=utf-16",
    b"Content-Transfer-Encoding: base64\r\n",
    b"; name=model ;",
    b"NAME=",
    b"Content-Length: 5\r\n",
    b"\r\n--X-b\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nx\r\n",
];

/// multer reads what the gate passes, and the same model.
pub(crate) fn multipart_scan(input: &[u8], random: &mut Rng) -> bool {
    agreement::multipart(input, &cuts(random)).is_ok()
}

pub(crate) const URLENCODED_WORDS: &[&[u8]] = &[
    b"&",
    b"=",
    b";",
    b"+",
    b"%",
    b"%6d",
    b"%6D",
    b"%256d",
    b"%00",
    b"%26",
    b"%3D",
    b"%FF",
    b"%EF%BD%8D",
    b"model",
    b"model=",
    b"&model=y",
    b"&Model=y",
    b";model=y",
    b"model[]",
    b"[0]",
    b".",
    b"#",
    b" ",
    b"\r\n",
    b"\0",
    b"\xff",
];

/// Simple readers read what the gate passes, and the same model.
pub(crate) fn urlencoded_scan(input: &[u8], random: &mut Rng) -> bool {
    agreement::urlencoded(input, &cuts(random)).is_ok()
}

pub(crate) const GRPC_WORDS: &[&[u8]] = &[
    b"\0\0\0\0\0",
    b"\0\0\0\0\x03\x0a\x01x",
    b"\x01\0\0\0\x01",
    b"\0\xff\xff\xff\xff",
    b"\0\x01\0\0\0",
    b"\x0a",
    b"\x0a\0",
    b"\x0a\x01x",
    b"\x0a\x03\x0a\x01x",
    b"\x0a\x05\x0a\x03\x0a\x01x",
    b"\x12\x01x",
    b"\x08\x01",
    b"\x10\x01",
    b"\x10\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
    b"\x09",
    b"\x0b",
    b"\x0c",
    b"\x0d",
    b"\x13\x14",
    b"\x8a\0",
    b"\x8a\x80\x80\x80\x10",
    b"\x80",
    b"\xff",
    b"\x7f",
    b"\xc3\xa9",
];

/// prost reads the messages that the gate passes, and the same models; what is released came.
pub(crate) fn grpc_scan(input: &[u8], random: &mut Rng) -> bool {
    let cuts = cuts(random);
    // As one message first: with a damaged length nothing else would be read.
    let alone = agreement::protobuf(input, &cuts).iter().any(Result::is_ok);
    let (messages, end) = agreement::grpc(input, &cuts);
    alone || (!messages.is_empty() && end.is_ok())
}

pub(crate) const PATH_WORDS: &[&[u8]] = &[
    b"/",
    b"//",
    b"/./",
    b"/../",
    b"..",
    b".",
    b"..;/",
    b";",
    b"\\",
    b"%2F",
    b"%2f",
    b"%5C",
    b"%2E%2E",
    b"%252e",
    b"%00",
    b"%0A",
    b"%20",
    b"%2B",
    b"%C3%A9",
    b"%c3%a9",
    b"%C0%AF",
    b"%E2%80%A5",
    b"%EF%BC%8F",
    b"%EF%BC%8E",
    b"%CC%81",
    b"%",
    b"%4",
    b"%41",
    b"%7F",
    b"#",
    b"?",
    b":predict",
    b"{",
    b"*",
    b"~",
    b"@",
    b"\xc3\xa9",
    b"\0",
    b" ",
];

/// A path that is accepted is forwarded as it came, and no decoding or normalising makes another.
pub(crate) fn request_path(input: &[u8], _: &mut Rng) -> bool {
    let Ok(text) = std::str::from_utf8(input) else { return false };
    let Ok(path) = RequestPath::parse(text) else { return false };
    assert_eq!(path.as_str(), text);
    let tail = text.strip_prefix('/').expect("a path starts with a slash");
    let segments: Vec<String> = tail.split('/').map(percent_decoded).collect();
    let (last, before) = segments.split_last().unwrap();
    assert!(before.iter().all(|segment| !segment.is_empty()));
    for segment in before.iter().chain([last]) {
        assert!(!matches!(segment.as_str(), "." | ".."));
        assert!(!segment.contains(['/', '\\', '%', '?', '#', ';']), "{segment:?}");
        assert!(!segment.contains(char::is_control), "{segment:?}");
        assert!(is_nfkc(segment), "{segment:?}");
    }
    true
}

/// Decodes percent escapes, all of which must be well-formed.
fn percent_decoded(segment: &str) -> String {
    let mut pieces = segment.split('%');
    let mut decoded = pieces.next().unwrap_or_default().as_bytes().to_vec();
    for piece in pieces {
        decoded.push(u8::from_str_radix(&piece[..2], 16).expect("two digits"));
        decoded.extend_from_slice(&piece.as_bytes()[2..]);
    }
    String::from_utf8(decoded).expect("text")
}

pub(crate) const CREDENTIAL_WORDS: &[&[u8]] = &[
    b"\n",
    b"authorization: ",
    b"Bearer fg_a",
    b"bearer\tfg_b",
    b"Basic OmZnX2E=",
    b"basic dTpmZ19h",
    b"Digest x",
    b"x-api-key: fg_a",
    b"cookie: ",
    b"session=fg_a",
    b"; ",
    b"session = fg_b",
    b"SESSION=x",
    b"\"",
    b"sec-websocket-protocol: ",
    b"faregate.token.fg_a",
    b"faregate.token.",
    b", ",
    b",",
    b"chat",
    b"key=fg_a",
    b"&",
    b"k%65y=fg_b",
    b"key",
    b";key=fg_a",
    b"=",
    b"%6b",
    b"%",
    b"+",
    b" ",
    b"\t",
    b"\xff",
];

/// The first line is a query, the others are headers. What is stripped is found no more.
pub(crate) fn credential(input: &[u8], random: &mut Rng) -> bool {
    let places = CredentialPlaces::new(&[
        CredentialPlace::Bearer,
        CredentialPlace::Basic,
        CredentialPlace::Header("x-api-key".into()),
        CredentialPlace::Query("key".into()),
        CredentialPlace::Cookie("session".into()),
        CredentialPlace::WebSocketProtocol,
    ]);
    let mut lines = input.split(|byte| *byte == b'\n');
    let query = lines.next().and_then(|query| std::str::from_utf8(query).ok());
    let mut headers = HeaderMap::new();
    for line in lines {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { continue };
        let name = HeaderName::from_bytes(line[..colon].trim_ascii());
        let value = HeaderValue::from_bytes(line[colon + 1..].trim_ascii());
        if let (Ok(name), Ok(value)) = (name, value) {
            headers.append(name, value);
        }
    }
    let is_upgrade = random.bool();
    let is_presented = match places.read(&headers, query, is_upgrade) {
        Credential::Presented(claim) => {
            assert!(claim.secret().bytes().len() <= input.len());
            true
        }
        Credential::Missing | Credential::Ambiguous => false,
    };

    places.strip(&mut headers);
    let whole: Vec<HeaderName> =
        headers.keys().filter(|name| places.is_credential_header(name)).cloned().collect();
    for name in whole {
        headers.remove(name);
    }
    let query = query.map(|query| places.strip_query(query).into_owned());
    for is_upgrade in [false, true] {
        let left = places.read(&headers, query.as_deref(), is_upgrade);
        assert!(matches!(left, Credential::Missing), "left in {headers:?} {query:?}");
    }
    is_presented
}

pub(crate) const TOKEN_FILE_WORDS: &[&[u8]] = &[
    b"version = 1\n", b"[[token]]\n", b"[[admin]]\n", b"[token.limits]\n", b"[[token.x]]\n", b"[token]\n",
    b"id = \"b\"\n", b"id = \"tk_9ZfQ2mB7xLrA\"\n", b"name = \"b\"\n", b"resources = [\"*\"]\n",
    b"resources = [\"iris*\", \"a/b\"]\n", b"resources = []\n", b"groups = [\"model-evaluation\"]\n",
    b"groups = [\"x\"]\n", b"disabled = true\n", b"created_at = 2026-11-23T10:00:00Z\n",
    b"expires_at = 2027-11-23T10:00:00Z\n", b"labels = { team = \"x\" }\n", b"limits = { burst = 1 }\n",
    b"hash = \"blake3:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef\"\n",
    b"hash = \"sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\"\n",
    b"previous = { hash = \"blake3:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb\", valid_until = 2026-11-24T10:00:00Z }\n",
    b"# comment\n", b"\"", b"\"\"\"", b"'''", b"\n", b"\r\n", b"=", b".", b"[", b"]", b"{", b"}", b",", b"*", b"\\",
    b"\0", b"\xff", b"\xc3\xa9", b"\xef\xbb\xbf", b"0", b"f",
];

/// A file that is accepted says what a plain reader of TOML finds in it, is read the same whole and
/// piece by piece, and messages about one that is not quote no hash.
pub(crate) fn token_file(input: &[u8], random: &mut Rng) -> bool {
    let Ok(text) = std::str::from_utf8(input) else { return false };
    let rules =
        || Arc::new(Rules { routes: RouteTable::new(), default_model: None, enforce: true });
    let read = judge_token_file(text, rules());
    // So long that what follows the first list is read in pieces. A byte order mark must stay first.
    let read_in_pieces = if random.u8(..16) == 0 {
        let after_mark = text.trim_start_matches('\u{feff}');
        let mark = &text[..text.len() - after_mark.len()];
        let page = "x".repeat(64 * 1024);
        judge_token_file(&format!("{mark}# {page}\n{after_mark}"), rules())
    } else {
        judge_token_file(text, rules())
    };
    let told = match (&read, &read_in_pieces) {
        (Ok((document, compiled)), Ok((again, _))) => {
            assert_eq!(document, again, "read in pieces");
            assert_eq!(plainly(document), as_plain_toml(text));
            compiled.warnings.iter().map(ToString::to_string).collect()
        }
        (Err(problems), Err(_)) => problems.to_string(),
        _ => panic!("whole: {}, in pieces: {}", read.is_ok(), read_in_pieces.is_ok()),
    };
    // As long as a part of a hash, and not all letters as a word is.
    let is_hash_like = |word: &str| {
        word.len() >= 24 && word.bytes().filter(u8::is_ascii_digit).count() * 6 >= word.len()
    };
    let quoted = told.split(|c: char| !c.is_ascii_hexdigit()).find(|word| is_hash_like(word));
    assert_eq!(quoted, None, "{told}");
    read.is_ok()
}

/// Of each token: its id, hash, resources, groups, and whether it is disabled.
type Plain = Vec<(String, String, Vec<String>, Vec<String>, bool)>;

fn plainly(document: &Document) -> Plain {
    let texts = |list: &[faregate::policy::Placed<String>]| {
        list.iter().map(|placed| placed.value.clone()).collect()
    };
    let tokens = document.tokens.iter();
    tokens
        .map(|token| {
            let (id, hash) = (token.id.value.clone(), token.hash.value.clone());
            (id, hash, texts(&token.resources), texts(&token.groups), token.disabled)
        })
        .collect()
}

fn as_plain_toml(text: &str) -> Plain {
    let document: toml_edit::DocumentMut = text.parse().expect("TOML");
    let Some(tokens) = document.get("token").and_then(|item| item.as_array_of_tables()) else {
        return Vec::new();
    };
    tokens
        .iter()
        .map(|token| {
            let text = |key: &str| token[key].as_str().unwrap().to_owned();
            let texts = |key: &str| {
                let list = token.get(key).and_then(|item| item.as_array());
                list.into_iter().flatten().map(|value| value.as_str().unwrap().to_owned()).collect()
            };
            let disabled = token.get("disabled").is_some_and(|item| item.as_bool().unwrap());
            (text("id"), text("hash"), texts("resources"), texts("groups"), disabled)
        })
        .collect()
}
