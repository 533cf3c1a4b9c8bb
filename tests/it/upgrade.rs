//! Connections that leave HTTP: only when the model server says so, and never a byte before it does.

use std::sync::Mutex;
use std::sync::mpsc::{self, Receiver, Sender};

use crate::support::http1::{Client, Request, get};
use crate::support::model_server::{CANNED, ModelServer, Then};
use crate::support::rig::Rig;
use crate::support::tokens;

fn websocket(request: Request) -> Request {
    request
        .with("Connection", "Upgrade")
        .with("Upgrade", "websocket")
        .with("Sec-WebSocket-Version", "13")
        .with("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")
}

fn ask() -> Request {
    websocket(get("/score/allowed").token("eval"))
}

const SWITCH: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                      Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

/// A server that answers upgrades when the test lets it, and then sends every piece back with `<` before it. Other
/// requests get the canned answer.
fn echo_when_told() -> (ModelServer, Sender<&'static str>) {
    let (sender, receiver): (_, Receiver<&'static str>) = mpsc::channel();
    let receiver = Mutex::new(receiver);
    let server = ModelServer::scripted(move |exchange| {
        if exchange.request.field("upgrade").is_none() {
            exchange.whole();
            exchange.send(CANNED);
            return Then::KeepOpen;
        }
        let Ok(answer) = receiver.lock().unwrap().recv() else { return Then::Close };
        if answer != SWITCH {
            exchange.send(answer);
            return Then::KeepOpen;
        }
        exchange.switch_protocols();
        exchange.send(answer);
        while let Some(bytes) = exchange.next_bytes() {
            exchange.send([b"<", &bytes[..]].concat());
        }
        Then::Close
    });
    (server, sender)
}

fn switched(client: &mut Client) {
    let (status, fields) = client.response_head();
    assert_eq!(status, 101, "{fields:?}");
    let field =
        |name: &str| crate::support::http1::only(&fields, name).map(str::to_ascii_lowercase);
    assert_eq!(field("upgrade").as_deref(), Some("websocket"));
    assert_eq!(field("connection").as_deref(), Some("upgrade"));
    assert_eq!(field("sec-websocket-accept").as_deref(), Some("s3pplmbitxaq9kygzzhzrbk+xoo="));
}

#[test]
fn bytes_go_both_ways_after_the_servers_own_101() {
    let (server, answers) = echo_when_told();
    let rig = Rig::before(server);
    let mut client = rig.connect();
    client.send(ask().bytes());
    let received = rig.server.wait_for_requests(1).remove(0);
    assert_eq!(received.field("upgrade"), Some("websocket"));
    assert_eq!(
        received.field("connection").map(str::to_ascii_lowercase).as_deref(),
        Some("upgrade")
    );
    assert_eq!(received.field("sec-websocket-key"), Some("dGhlIHNhbXBsZSBub25jZQ=="));
    assert_eq!(received.field("authorization"), None);
    assert_eq!(received.field("x-credential-identifier"), Some("eval"));
    answers.send(SWITCH).unwrap();
    switched(&mut client);
    for message in
        ["one", "two\r\n\r\n", "GET /score/secret HTTP/1.1\r\nHost: x\r\n\r\n", "\0\u{1}"]
    {
        client.send(message);
        assert_eq!(client.bytes(message.len() + 1), [b"<", message.as_bytes()].concat());
    }
    // Either end may be the one to leave.
    client.connection.finish_sending();
    client.assert_closes();
    rig.server.wait_for_ended_connections(1);
    rig.finish(1);
}

#[test]
fn not_a_byte_is_forwarded_before_the_101() {
    let (server, answers) = echo_when_told();
    let rig = Rig::before(server);
    let mut client = rig.connect();
    client.send([&ask().bytes()[..], b"EARLY"].concat());
    rig.server.wait_for_requests(1);
    client.send("AND MORE");
    // The gate has had its turn with those bytes when others have come and gone.
    for _ in 0..5 {
        assert_eq!(rig.ask(&get("/score/allowed").token("eval")).status, 200);
    }
    let bytes = String::from_utf8(rig.server.bytes()).unwrap();
    assert!(!bytes.contains("EARLY") && !bytes.contains("MORE"), "{bytes}");
    answers.send(SWITCH).unwrap();
    switched(&mut client);
    let mut echoed = Vec::new();
    while echoed.len() < "EARLYAND MORE".len() {
        echoed.extend(client.bytes(1).into_iter().filter(|&byte| byte != b'<'));
    }
    assert_eq!(echoed, b"EARLYAND MORE");
    rig.finish(6);
}

#[test]
fn an_upgrade_that_the_server_refuses_stays_http() {
    for answer in [
        "HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nno",
        "HTTP/1.1 426 Upgrade Required\r\nUpgrade: other\r\nConnection: Upgrade\r\nContent-Length: 2\r\n\r\nno",
    ] {
        let (server, answers) = echo_when_told();
        let rig = Rig::before(server);
        let mut client = rig.connect();
        // What a tunnel would carry is judged like any other request, or never read.
        let smuggled = get("/score/secret").token("eval").bytes();
        client.send([ask().bytes(), smuggled].concat());
        rig.server.wait_for_requests(1);
        answers.send(answer).unwrap();
        let response = client.response();
        assert_ne!(response.status, 101);
        assert_eq!(response.text(), "no");
        if let Some(next) = client.response_or_end("GET") {
            assert_eq!(next.reason(), Some("resource_not_allowed"));
        }
        rig.finish(1);
    }
}

#[test]
fn an_upgrade_that_the_gate_refuses_never_begins() {
    let rig = Rig::standard();
    let smuggled = get("/score/allowed?smuggled").token("eval").bytes();
    for (case, request, status) in [
        ("no token", websocket(get("/score/allowed")), 401),
        ("bad token", websocket(get("/score/allowed").token("nobody")), 401),
        ("resource", websocket(get("/score/secret").token("eval")), 403),
        ("no route", websocket(get("/nowhere").token("eval")), 403),
        ("path", websocket(get("/score/../allowed").token("eval")), 400),
    ] {
        let mark = rig.server.mark();
        let mut client = rig.connect();
        client.send([request.bytes(), smuggled.clone()].concat());
        let response = client.response();
        assert_eq!(response.status, status, "{case}");
        // What follows is the next request of an HTTP connection, if anything.
        if let Some(next) = client.response_or_end("GET") {
            assert_eq!(next.status, 200, "{case}");
        }
        assert!(
            rig.server.since(&mark).iter().all(|request| request.field("upgrade").is_none()),
            "{case}"
        );
    }
    let count = rig.server.requests().len();
    rig.finish(count);
}

#[test]
fn what_is_no_upgrade_is_an_ordinary_request() {
    let rig = Rig::standard();
    let ask = || get("/score/allowed").token("eval");
    for (case, request) in [
        ("no Connection", ask().with("Upgrade", "websocket")),
        ("no Upgrade", ask().with("Connection", "Upgrade")),
        (
            "h2c",
            ask()
                .with("Connection", "Upgrade, HTTP2-Settings")
                .with("Upgrade", "h2c")
                .with("HTTP2-Settings", "AAMAAABkAAQCAAAAAAIAAAAA"),
        ),
        ("h2c, no Settings", ask().with("Connection", "Upgrade").with("Upgrade", "h2c")),
        ("H2C", ask().with("Connection", "upgrade").with("Upgrade", "H2C")),
        ("h2", ask().with("Connection", "Upgrade").with("Upgrade", "h2")),
        ("HTTP/2.0", ask().with("Connection", "Upgrade").with("Upgrade", "HTTP/2.0")),
        ("h2c in a list", ask().with("Connection", "Upgrade").with("Upgrade", "websocket, h2c")),
        (
            "h2c in two lines",
            ask().with("Connection", "Upgrade").with("Upgrade", "websocket").with("Upgrade", "h2c"),
        ),
        ("TLS", ask().with("Connection", "Upgrade").with("Upgrade", "TLS/1.0")),
        ("with a body", websocket(ask()).body("hello")),
        (
            "HTTP/1.0",
            ask().with("Connection", "Upgrade").with("Upgrade", "websocket").version("HTTP/1.0"),
        ),
    ] {
        let (response, received) = rig.forward(case, &request);
        assert_eq!(response.status, 200, "{case}");
        let upgrade = received.field("upgrade").unwrap_or_default().to_ascii_lowercase();
        assert!(!upgrade.contains("h2") && !upgrade.contains("http/2"), "{case}: {upgrade}");
        assert_eq!(received.field("http2-settings"), None, "{case}");
        if !case.contains("h2c in") && case != "TLS" {
            assert_eq!((upgrade.as_str(), received.field("connection")), ("", None), "{case}");
        }
    }
    rig.finish(12);
}

#[test]
fn an_open_tunnel_ends_with_the_right_to_it() {
    let (server, answers) = echo_when_told();
    let rig = Rig::before(server);
    let mut client = rig.connect();
    client.send(ask().bytes());
    answers.send(SWITCH).unwrap();
    switched(&mut client);
    client.send("one");
    assert_eq!(client.bytes(4), b"<one");
    // Another token's change is none of its business.
    let others: Vec<_> =
        tokens::STANDARD.iter().copied().filter(|token| token.id != "manage").collect();
    rig.gate.change_tokens(&tokens::file(&others));
    client.send("two");
    assert_eq!(client.bytes(4), b"<two");
    let others: Vec<_> =
        tokens::STANDARD.iter().copied().filter(|token| token.id != "eval").collect();
    rig.gate.change_tokens(&tokens::file(&others));
    client.rest();
    rig.server.wait_for_ended_connections(1);
    rig.finish(1);
}

#[test]
fn a_tunnel_ends_at_both_ends() {
    for server_leaves in [true, false] {
        let server = ModelServer::scripted(move |exchange| {
            exchange.switch_protocols();
            exchange.send(SWITCH);
            let first = exchange.next_bytes();
            assert_eq!(first.as_deref(), Some(&b"bye"[..]));
            exchange.send("last words");
            if !server_leaves {
                exchange.wait_until_closed();
            }
            Then::Close
        });
        let rig = Rig::before(server);
        let mut client = rig.connect();
        client.send(ask().bytes());
        switched(&mut client);
        client.send("bye");
        assert_eq!(client.bytes(10), b"last words");
        if server_leaves {
            client.assert_closes();
        } else {
            drop(client);
            rig.server.wait_for_ended_connections(1);
        }
        rig.finish(1);
    }
}
