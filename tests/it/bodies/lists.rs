//! Lists of models: a token sees what it may use, whatever the model server answers and however.

use serde_json::{Value, json};

use super::{connect, held_by, rig_before, rig_before_h2c, rig_with};
use crate::support::eventually;
use crate::support::h2c_server::H2cServer;
use crate::support::http1::{Request, Response, get, request};
use crate::support::http2::{flag, frame, kind, setting};
use crate::support::model_server::{ModelServer, Then};
use crate::support::rig::Rig;
use crate::support::tokens::secret;
use crate::support::transport::Connection;

const MODELS: &str = "/v1/models";
const INDEX: &str = "/v2/repository/index";

const OPENAI_LIST: &str = r#"{"object":"list","data":[{"id":"secret","object":"model","owned_by":"x"}, {"id":"allowed","object":"model","max_model_len":8192},{"id":"pre-a","parent":null},{"id":"\u0073ecret"},{"id":1},{"name":"allowed"},"allowed"],"models":["secret"]}"#;
const INDEX_LIST: &str =
    r#"[{"name":"secret","state":"READY"},{"name":"allowed","version":"1","state":"READY"},{}]"#;

fn answer(head: &str, body: impl AsRef<[u8]>) -> Vec<u8> {
    let body = body.as_ref();
    let head = format!("HTTP/1.1 200 OK\r\n{head}Content-Length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

fn of_openai() -> Vec<u8> {
    answer("Content-Type: application/json\r\nX-Served-By: model\r\n", OPENAI_LIST)
}

/// A server with both lists.
fn with_lists() -> ModelServer {
    ModelServer::scripted(|exchange| {
        if exchange.whole().is_none() {
            return Then::Close;
        }
        let head = "Content-Type: application/json\r\nETag: \"1\"\r\nLast-Modified: Mon, 23 Nov 2026 10:00:00 GMT\r\nAccept-Ranges: bytes\r\nX-Served-By: model\r\n";
        let body =
            if exchange.request.target.starts_with(INDEX) { INDEX_LIST } else { OPENAI_LIST };
        let whole = answer(head, body);
        let length =
            if exchange.request.method == "HEAD" { whole.len() - body.len() } else { whole.len() };
        exchange.send(&whole[..length]);
        Then::KeepOpen
    })
}

fn ids(list: &Value) -> Vec<&str> {
    list.as_array().unwrap().iter().filter_map(|model| model["id"].as_str()).collect()
}

fn assert_says_nothing_of_others(case: &str, response: &Response) {
    assert!(!response.text().contains("secret"), "{case}: {response:?}");
    assert!(!response.text().contains("\\u0073"), "{case}: {response:?}");
}

#[test]
fn a_token_sees_the_models_that_it_may_use() {
    let rig = rig_before(with_lists(), "");
    let mut client = rig.connect();
    let response = client.ask(&get(MODELS).token("eval"));
    assert_eq!(response.status, 200, "{response:?}");
    let list = json!({"object":"list","data":[
        {"id":"allowed","object":"model","max_model_len":8192},
        {"id":"pre-a","parent":null},
    ]});
    assert_eq!(response.json(), list);
    // What was said of the whole list does not hold for a part of it.
    for name in ["etag", "last-modified", "accept-ranges"] {
        assert_eq!(response.field(name), None, "{response:?}");
    }
    assert_eq!(response.field("x-served-by"), Some("model"));
    assert_eq!(response.field("content-length"), Some(response.body.len().to_string().as_str()));
    // Who may use all of them sees the list as it came, byte for byte.
    let response = client.ask(&get(MODELS).token("all"));
    assert_eq!(response.text(), OPENAI_LIST);
    assert_eq!(response.field("etag"), Some("\"1\""));
    // Who may use none sees none, and who has not the group does not ask.
    let response = client.ask(&get(MODELS).token("no-models"));
    assert_eq!(response.json(), json!({"object":"list","data":[]}));
    for (token, reason) in [("manage", "group_not_allowed"), ("powerless", "group_not_allowed")] {
        rig.assert_refused(token, &get(MODELS).token(token), 403, reason);
    }
    // The index of the other protocol, which is for another group.
    let response = client.ask(&request("POST", INDEX).body("{}").token("manage"));
    assert_eq!(
        response.json(),
        json!([{"name":"allowed","version":"1","state":"READY"}]),
        "{response:?}"
    );
    let response = client.ask(&request("POST", INDEX).body("{}").token("all"));
    assert_eq!(response.text(), INDEX_LIST);
    // The two lists below other prefixes.
    for path in ["/openai/v1/models", "/v3/models"] {
        let response = client.ask(&get(path).token("eval"));
        assert_eq!(ids(&response.json()["data"]), ["allowed", "pre-a"], "{path}");
    }
    rig.finish(7);
}

/// Nothing that a client asks for makes the answer a part, an encoded one, or none.
#[test]
fn what_the_client_asks_for_does_not_change_what_is_read() {
    let rig = rig_before(with_lists(), "");
    let plain = rig.ask(&get(MODELS).token("eval")).text();
    let ways: [(&str, &str); 10] = [
        ("Accept-Encoding", "gzip"),
        ("Accept-Encoding", "gzip, br, zstd, *;q=0.1"),
        ("Range", "bytes=0-10"),
        ("If-Range", "\"1\""),
        ("If-None-Match", "\"1\""),
        ("If-None-Match", "*"),
        ("If-Match", "\"2\""),
        ("If-Modified-Since", "Tue, 24 Nov 2026 10:00:00 GMT"),
        ("If-Unmodified-Since", "Mon, 01 Jan 2001 00:00:00 GMT"),
        ("A-IM", "feed"),
    ];
    for (name, value) in ways {
        let mark = rig.server.mark();
        let response = rig.ask(&get(MODELS).token("eval").with(name, value));
        assert_eq!((response.status, response.text()), (200, plain.clone()), "{name}: {value}");
        let received = rig.server.since(&mark).remove(0);
        if name != "A-IM" {
            assert_eq!(received.field(&name.to_ascii_lowercase()), None, "{received:?}");
        }
    }
    // Who sees the whole list asks as it likes.
    let mark = rig.server.mark();
    rig.ask(&get(MODELS).token("all").with("Accept-Encoding", "gzip").with("Range", "bytes=0-1"));
    let received = rig.server.since(&mark).remove(0);
    assert_eq!(received.field("accept-encoding"), Some("gzip"));
    assert_eq!(received.field("range"), Some("bytes=0-1"));
    rig.finish(ways.len() + 2);
}

#[test]
fn a_head_says_nothing_of_the_list() {
    let rig = rig_before(with_lists(), "");
    let mut client = rig.connect();
    let response = client.ask(&request("HEAD", MODELS).token("eval"));
    assert_eq!(response.status, 200, "{response:?}");
    // The length of the whole list tells how much there is that is not shown.
    for name in ["content-length", "etag", "last-modified"] {
        assert_eq!(response.field(name), None, "{response:?}");
    }
    assert_eq!(client.ask(&get(MODELS).token("eval")).status, 200, "the connection goes on");
    rig.finish(2);
}

/// What the gate cannot read it does not show.
#[test]
fn what_is_no_list_is_not_shown() {
    let as_json = "Content-Type: application/json\r\n";
    let gzip = "Content-Type: application/json\r\nContent-Encoding: gzip\r\n";
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("no JSON", answer(as_json, "secret models")),
        ("nothing", answer(as_json, "")),
        ("another JSON", answer(as_json, r#"{"models":[{"id":"secret"}]}"#)),
        ("a list alone", answer(as_json, r#"[{"id":"allowed"},{"id":"secret"}]"#)),
        ("two lists", answer(as_json, r#"{"data":[{"id":"allowed"}],"data":[{"id":"secret"}]}"#)),
        ("the list twice", answer(as_json, format!("{OPENAI_LIST}{OPENAI_LIST}"))),
        ("cut JSON", answer(as_json, &OPENAI_LIST[..OPENAI_LIST.len() - 1])),
        ("compressed", answer(gzip, b"\x1f\x8b\x08\0secret")),
        ("said to be compressed", answer(gzip, OPENAI_LIST)),
        ("UTF-16", answer(as_json, b"{\0\"\0d\0")),
        ("too large", answer(as_json, OPENAI_LIST.replace("\"x\"", &format!("\"{}\"", "x".repeat(5000))))),
        (
            "too large in chunks",
            format!(
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{OPENAI_LIST}\r\n1388\r\n{}\r\n0\r\n\r\n",
                OPENAI_LIST.len(),
                " ".repeat(5000)
            )
            .into_bytes(),
        ),
        ("broken off", {
            let mut whole = of_openai();
            whole.truncate(whole.len() - 3);
            whole
        }),
        (
            "broken off in chunks",
            format!(
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{OPENAI_LIST}\r\n",
                OPENAI_LIST.len()
            )
            .into_bytes(),
        ),
    ];
    for (case, bytes) in cases {
        let server = ModelServer::scripted(move |exchange| {
            exchange.send(&bytes);
            Then::Close
        });
        let rig = rig_with(server, |settings| {
            settings.limits = "inspect_body_bytes = \"4KiB\"\n".into();
            settings.log = "level = \"trace\"\naccess = \"denied\"\n".into();
        });
        let mut client = rig.connect();
        let response = client.ask(&get(MODELS).token("eval"));
        assert_eq!(response.status, 502, "{case}: {response:?}");
        assert_says_nothing_of_others(case, &response);
        assert_eq!(response.json()["error"]["type"], "server_error", "{case}: {response:?}");
        let next = client.ask(&get("/score/secret").token("eval"));
        assert_eq!(next.status, 403, "{case}: the connection goes on");
        let errors = rig.gate.metric("faregate_upstream_errors_total", &[("namespace", "default")]);
        assert!(errors >= 1.0, "{case}: {errors}");
        let line = rig.gate.wait_for_event("message", "request");
        assert_eq!((&line["path"], &line["status"]), (&json!(MODELS), &json!(502)), "{case}");
        rig.finish(1);
    }
}

/// Statuses that carry no list pass as they are.
#[test]
fn an_answer_that_is_no_success_is_passed_on() {
    for (head, body) in [
        ("404 Not Found", "no such path"),
        ("302 Found\r\nLocation: /v1/models/", "over there"),
        ("503 Service Unavailable", "loading"),
        ("401 Unauthorized", "who is that?"),
    ] {
        let bytes = format!(
            "HTTP/1.1 {head}\r\nX-Served-By: model\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let rig = rig_before(ModelServer::answering(bytes), "");
        let response = rig.ask(&get(MODELS).token("eval"));
        assert_eq!(response.status.to_string(), head[..3], "{response:?}");
        assert_eq!(response.text(), body);
        assert_eq!(response.field("x-served-by"), Some("model"));
        rig.finish(1);
    }
    for head in ["204 No Content", "304 Not Modified"] {
        let bytes = format!("HTTP/1.1 {head}\r\nX-Served-By: model\r\n\r\n");
        let rig = rig_before(ModelServer::answering(bytes), "");
        let mut client = rig.connect();
        for _ in 0..2 {
            let response = client.ask(&get(MODELS).token("eval"));
            assert_eq!(response.status.to_string(), head[..3], "{response:?}");
        }
        rig.finish(2);
    }
    // A part that nobody asked for is no list, or it is one that can be cut down.
    let part = "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 10-30/40\r\nContent-Length: 8\r\n\r\n\"secret\"";
    let rig = rig_before(ModelServer::answering(part), "");
    let response = rig.ask(&get(MODELS).token("eval"));
    assert_eq!(response.status, 502, "{response:?}");
    assert_says_nothing_of_others("a part", &response);
    rig.finish(1);
}

/// However the list comes: chunk by chunk, with trailers, to the end of the connection.
#[test]
fn a_list_may_come_in_any_framing() {
    let chunks: String = OPENAI_LIST.as_bytes().chunks(7).fold(String::new(), |all, piece| {
        all + &format!("{:x}\r\n{}\r\n", piece.len(), std::str::from_utf8(piece).unwrap())
    });
    let in_chunks = format!(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: x-models\r\n\r\n{chunks}0\r\nX-Models: secret\r\n\r\n"
    );
    let to_the_end = format!("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{OPENAI_LIST}");
    for (case, bytes, then) in
        [("chunks", in_chunks, Then::KeepOpen), ("to the end", to_the_end, Then::Close)]
    {
        let server = ModelServer::scripted(move |exchange| {
            exchange.whole();
            exchange.send(&bytes);
            then
        });
        let rig = rig_before(server, "");
        let mut client = rig.connect();
        for _ in 0..2 {
            let response = client.ask(&get(MODELS).token("eval").with("TE", "trailers"));
            assert_eq!(ids(&response.json()["data"]), ["allowed", "pre-a"], "{case}");
            let text = String::from_utf8_lossy(&response.bytes).into_owned();
            assert!(!text.contains("secret") && response.trailers.is_empty(), "{case}: {text}");
        }
        rig.finish(2);
    }
}

fn ask_http2(rig: &Rig, method: &[u8]) -> (crate::support::http2::Http2, u32) {
    let mut http2 = connect(rig);
    let bearer = format!("Bearer {}", secret("eval"));
    let stream = http2.start(
        &[
            (":method", method),
            (":scheme", b"http"),
            (":authority", b"models.test"),
            (":path", MODELS.as_bytes()),
            ("authorization", bearer.as_bytes()),
        ],
        true,
    );
    (http2, stream)
}

#[test]
fn a_list_of_an_http2_server_is_cut_down_too() {
    let server = H2cServer::scripted(|stream, request| {
        let is_head = request.field(":method") == Some("HEAD");
        let length = OPENAI_LIST.len().to_string();
        stream.head(
            &[(":status", b"200"), ("content-length", length.as_bytes()), ("etag", b"\"1\"")],
            is_head,
        );
        if !is_head {
            for piece in OPENAI_LIST.as_bytes().chunks(9) {
                stream.data(piece, false);
            }
            stream.head(&[("x-models", b"secret")], true);
        }
    });
    let rig = rig_before_h2c(&server, |_| {});
    let response = rig.ask(&get(MODELS).token("eval"));
    assert_eq!(ids(&response.json()["data"]), ["allowed", "pre-a"]);
    let (mut http2, stream) = ask_http2(&rig, b"GET");
    let response = http2.answer(stream).response();
    let list: Value = serde_json::from_slice(&response.body).unwrap();
    assert_eq!(ids(&list["data"]), ["allowed", "pre-a"]);
    assert!(response.trailers.is_empty() && response.field("etag").is_none(), "{response:?}");
    let (mut http2, stream) = ask_http2(&rig, b"HEAD");
    let response = http2.answer(stream).response();
    assert_eq!((response.status(), response.field("etag")), (200, None), "{response:?}");
    assert_ne!(response.field("content-length"), Some(OPENAI_LIST.len().to_string().as_str()));
    rig.finish(0);
    // One that breaks off.
    let server = H2cServer::scripted(|stream, _| {
        stream.head(&[(":status", b"200")], false);
        stream.data(OPENAI_LIST.as_bytes(), false);
        stream.reset(0);
    });
    let rig = rig_before_h2c(&server, |_| {});
    let response = rig.ask(&get(MODELS).token("eval"));
    assert_eq!(response.status, 502, "{response:?}");
    rig.finish(0);
}

/// Who asks for a list and takes nothing of it does not hold it for ever.
#[test]
fn a_list_that_nobody_takes_is_given_up() {
    let rig = rig_before(with_lists(), "write_idle_timeout = \"1s\"\n");
    let mut connection = Connection::to(rig.gate.data);
    let mut payload = setting::INITIAL_WINDOW_SIZE.to_be_bytes().to_vec();
    payload.extend_from_slice(&0_u32.to_be_bytes());
    connection.send(crate::support::http2::PREFACE);
    connection.send(&frame(kind::SETTINGS, 0, 0, &payload));
    let bearer = format!("Bearer {}", secret("eval"));
    let head = crate::support::http2::hpack::encode(&[
        (":method", b"GET"),
        (":scheme", b"http"),
        (":authority", b"models.test"),
        (":path", MODELS.as_bytes()),
        ("authorization", bearer.as_bytes()),
    ]);
    connection.send(&frame(kind::HEADERS, flag::END_HEADERS | flag::END_STREAM, 1, &head));
    rig.server.wait_for_requests(1);
    eventually("it is given up", || {
        let now = rig.gate.metric("faregate_requests_in_flight", &[]);
        (now == 0.0).then_some(())
    });
    drop(connection);
    rig.finish(1);
}

/// Lists take of the same room as bodies do, and give it back.
#[test]
fn lists_count_among_what_is_held() {
    let limits = "inspect_body_bytes = \"4KiB\"\ninspect_total_bytes = \"4KiB\"\n";
    let (go_on, wait) = std::sync::mpsc::channel::<()>();
    let wait = std::sync::Mutex::new(wait);
    let filler = " ".repeat(3000);
    let server = ModelServer::scripted(move |exchange| {
        if exchange.whole().is_none() {
            return Then::Close;
        }
        let length = OPENAI_LIST.len() + 3000;
        exchange.send(format!(
            "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{OPENAI_LIST}{}",
            &filler[..2999]
        ));
        if exchange.request.target.ends_with("held") {
            let _go_on_or_over = wait.lock().unwrap().recv();
        }
        exchange.send(" ");
        Then::KeepOpen
    });
    let rig = rig_before(server, limits);
    let ask = |target: &str| -> Request { get(target).token("eval") };
    let start = || {
        let mut client = rig.connect();
        client.send(ask("/v1/models?held").bytes());
        client
    };
    let mut held = held_by(start, || {
        let response = rig.ask(&ask(MODELS));
        assert_says_nothing_of_others("no room", &response);
        if response.status == 503 {
            assert_eq!(response.reason(), Some("overloaded"), "{response:?}");
        }
        response.status == 503
    });
    drop(go_on);
    assert_eq!(ids(&held.response().json()["data"]), ["allowed", "pre-a"]);
    let response = rig.ask(&ask(MODELS));
    assert_eq!(ids(&response.json()["data"]), ["allowed", "pre-a"]);
    rig.assert_no_leak();
}
