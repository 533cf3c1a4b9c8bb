//! Bodies that name the model: the gate holds them until it knows which one, and lets through
//! exactly what came, or nothing.
//!
//! Raw bytes and frames go in, and what is asserted is what stands on the model server's side of the
//! wire: nothing before the decision, nothing of what was refused, every byte of what was not.
//! Nothing is asserted about time.

mod budget;
mod dialects;
mod framing;
mod grpc;
mod grpc_ends;
mod held_back;
mod http2;
mod lists;
mod observed;
mod places;
mod slow;

use faregate::policy::profile;

use crate::support::eventually;
use crate::support::gate::{OWN_ROUTES, Settings};
use crate::support::h2c_server::H2cServer;
use crate::support::http1::{Client, Request, find, post};
use crate::support::http2::Http2;
use crate::support::model_server::ModelServer;
use crate::support::rig::Rig;
use crate::support::tokens::secret;
use crate::support::transport::Connection;

/// A route whose model is a member of the JSON body.
const CHAT: &str = "/v1/chat/completions";
/// One whose model is a field of a form.
const TRANSCRIBE: &str = "/v1/audio/transcriptions";
/// One that takes both.
const EDIT: &str = "/v1/images/edits";
/// One whose model is named by path and body.
const BOTH: &str = "/both/allowed";

const BOTH_ROUTE: &str = r#"
[[namespace.route]]
methods = ["POST"]
path = "/both/{model}"
group = "model-evaluation"
model = ["path", "body"]
"#;

/// The profiles of servers that have their models named in bodies, and a route of each kind.
fn prepare(settings: &mut Settings) {
    let namespace = &mut settings.namespaces[0];
    namespace.profiles = ["openai", "vllm", "kserve-v2"].map(String::from).to_vec();
    namespace.tables = format!("{OWN_ROUTES}{BOTH_ROUTE}");
}

fn rig(limits: &str) -> Rig {
    rig_before(ModelServer::canned(), limits)
}

fn rig_before(server: ModelServer, limits: &str) -> Rig {
    rig_with(server, |settings| settings.limits = limits.into())
}

fn rig_with(server: ModelServer, change: impl FnOnce(&mut Settings)) -> Rig {
    Rig::with(server, |settings| {
        prepare(settings);
        change(settings);
    })
}

/// Before a server that speaks HTTP/2.
fn rig_before_h2c(server: &H2cServer, change: impl FnOnce(&mut Settings)) -> Rig {
    rig_with(ModelServer::canned(), |settings| {
        settings.namespaces[0].endpoints = vec![format!("h2c://{}", server.address)];
        change(settings);
    })
}

/// A request of the token `eval` with a JSON body.
fn json(path: &str, body: impl AsRef<[u8]>) -> Request {
    post(path, body).token("eval").with("Content-Type", "application/json")
}

/// The head of a request whose body comes in chunks.
fn chunked_head(request: &Request) -> Vec<u8> {
    let request = request.clone().with("Transfer-Encoding", "chunked");
    let bytes = request.bytes();
    let text = String::from_utf8(bytes).unwrap();
    let (head, _) = text.split_once("Content-Length: ").unwrap_or((&text, ""));
    format!("{}\r\n\r\n", head.trim_end()).into_bytes()
}

fn chunk(data: &[u8]) -> Vec<u8> {
    [format!("{:x}\r\n", data.len()).as_bytes(), data, b"\r\n"].concat()
}

const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// A request that is chunked, in chunks of so many bytes.
fn chunked(request: &Request, body: &[u8], size: usize) -> Vec<u8> {
    let chunks = body.chunks(size).map(chunk).collect::<Vec<_>>().concat();
    [chunked_head(request), chunks, LAST_CHUNK.to_vec()].concat()
}

/// A client that has heard a 100, so that the gate reads its body.
fn heard_to_go_on(rig: &Rig, request: &Request) -> Client {
    let mut client = rig.connect();
    let bytes = request.clone().with("Expect", "100-continue").bytes();
    let end = find(&bytes, b"\r\n\r\n").unwrap() + 4;
    client.send(&bytes[..end]);
    assert_eq!(client.response_head().0, 100);
    client
}

/// Makes somebody hold of the room, and waits until they do. Who looks for room takes of it too, so
/// it may be the holder who finds none: then there is another. `make` starts a holder, who is not
/// answered while they hold; `lacks_room` says whether another finds none.
fn held_by(mut make: impl FnMut() -> Client, lacks_room: impl Fn() -> bool) -> Client {
    let mut holder = make();
    eventually("there is less room", || {
        if lacks_room() {
            return Some(());
        }
        let socket = holder.connection.socket();
        socket.set_nonblocking(true).unwrap();
        let is_answered = socket.peek(&mut [0]).is_ok();
        socket.set_nonblocking(false).unwrap();
        if is_answered {
            holder = make();
        }
        None
    });
    holder
}

fn connect(rig: &Rig) -> Http2 {
    Http2::client(Connection::to(rig.gate.data), rig.heard())
}

/// Opens a stream with a POST of this token and these further fields, its body to come.
fn open(http2: &mut Http2, path: &str, token: &str, fields: &[(&str, &str)]) -> u32 {
    start(http2, path, token, fields, false)
}

fn start(
    http2: &mut Http2,
    path: &str,
    token: &str,
    fields: &[(&str, &str)],
    is_whole: bool,
) -> u32 {
    let bearer = format!("Bearer {}", secret(token));
    let mut head: Vec<(&str, &[u8])> = vec![
        (":method", b"POST"),
        (":scheme", b"http"),
        (":authority", b"models.test"),
        (":path", path.as_bytes()),
        ("authorization", bearer.as_bytes()),
    ];
    head.extend(fields.iter().map(|(name, value)| (*name, value.as_bytes())));
    http2.start(&head, is_whole)
}

const AS_JSON: &[(&str, &str)] = &[("content-type", "application/json")];

/// A route of a profile, as its file has it.
struct ProfileRoute {
    method: String,
    path: String,
    group: String,
    places: Vec<String>,
    dialect: String,
}

fn routes_of(name: &str) -> Vec<ProfileRoute> {
    let file: toml_edit::DocumentMut = profile::find(name).unwrap().text.parse().unwrap();
    let read = |table: &toml_edit::Table| {
        let text = |key: &str| table.get(key).and_then(|item| item.as_str()).map(str::to_owned);
        let texts = |key: &str| -> Vec<String> {
            let list = table.get(key).and_then(|item| item.as_array());
            list.into_iter().flatten().map(|text| text.as_str().unwrap().to_owned()).collect()
        };
        ProfileRoute {
            method: texts("methods")[0].replace('*', "POST"),
            path: text("path").unwrap(),
            group: text("group").unwrap(),
            places: texts("model"),
            dialect: text("dialect").unwrap_or_else(|| "problem".into()),
        }
    };
    file["route"].as_array_of_tables().unwrap().iter().map(read).collect()
}
