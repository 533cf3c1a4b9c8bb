//! Peers that stall: each of the deadlines ends what it is for, and nothing else.
//!
//! Nothing is asserted about time. A deadline is set short and its effect awaited, while every other
//! one is at its default, which no test outlives.

use std::time::Duration;

use crate::support::certificates::{Authority, ClientSide};
use crate::support::gate::{Folder, Gate, Namespace, Settings};
use crate::support::http1::{Client, get, post};
use crate::support::http2::{Http2, PREFACE, flag, frame, kind};
use crate::support::model_server::{CANNED, ModelServer, Then};
use crate::support::rig::Rig;
use crate::support::tokens::{self, secret};
use crate::support::transport::Connection;

fn rig_with(limits: &str) -> Rig {
    Rig::with(ModelServer::canned(), |settings| settings.limits = limits.into())
}

/// Waits until the gate closes, whatever it says before; a 408 is fair.
fn closes(case: &str, client: &mut Client) {
    let rest = client.rest();
    let text = String::from_utf8_lossy(&rest);
    assert!(rest.is_empty() || text.starts_with("HTTP/1.1 4"), "{case}: {text}");
}

#[test]
fn a_first_request_has_to_come() {
    let rig = rig_with("header_timeout = \"300ms\"\n");
    let head = get("/score/allowed").token("eval").bytes();
    // Silence, the beginning of either protocol, and half a head. All stall at the same time.
    let stalled = [
        ("nothing", &b""[..]),
        ("a byte", b"G"),
        ("half a line", b"GET /score"),
        ("half a head", &head[..head.len() - 2]),
        ("a byte of the preface", b"P"),
        ("half a preface", &PREFACE[..14]),
        ("all but a byte of the preface", &PREFACE[..23]),
    ];
    let stalled = stalled.map(|(case, said)| {
        let mut client = rig.connect();
        client.send(said);
        (case, client)
    });
    // The preface and the frames that belong to it, and no request.
    let mut http2 = Http2::client(Connection::to(rig.gate.data), rig.heard());
    for (case, mut client) in stalled {
        closes(case, &mut client);
    }
    http2.wait_until_closed();
    // A head that comes in drops.
    let mut client = rig.connect();
    for byte in &head {
        // Each byte is progress, and the whole is too slow all the same.
        if !client.connection.try_send(&[*byte], Duration::from_secs(5)) {
            break;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    closes("drops", &mut client);
    rig.assert_upstream_got_nothing("heads that never came");
    rig.assert_forwarded("one that comes", &get("/score/allowed").token("eval"));
    rig.finish(1);
}

#[test]
fn the_rest_of_a_later_head_has_to_come() {
    let rig = rig_with("header_timeout = \"300ms\"\n");
    let mut client = rig.connect();
    assert_eq!(client.ask(&get("/score/allowed").token("eval")).status, 200);
    client.send("GET /score/al");
    closes("half a second request", &mut client);
    rig.finish(1);
}

#[test]
fn a_kept_connection_is_not_kept_for_ever() {
    let rig = rig_with("keep_alive_timeout = \"300ms\"\n");
    let mut client = rig.connect();
    for _ in 0..2 {
        assert_eq!(client.ask(&get("/score/allowed").token("eval")).status, 200);
    }
    client.assert_closes();
    let mut refused = rig.connect();
    assert_eq!(refused.ask(&get("/score/secret").token("eval")).status, 403);
    refused.assert_closes();
    rig.finish(2);
}

#[test]
fn a_request_under_way_is_not_idle() {
    let (release, wait) = std::sync::mpsc::channel::<()>();
    let wait = std::sync::Mutex::new(wait);
    let server = ModelServer::scripted(move |exchange| {
        let _released_or_over = wait.lock().unwrap().recv();
        exchange.send(CANNED);
        Then::KeepOpen
    });
    let limits = "header_timeout = \"200ms\"\nkeep_alive_timeout = \"200ms\"\n";
    let rig = Rig::with(server, |settings| settings.limits = limits.into());
    let mut client = rig.connect();
    client.send(get("/score/allowed").token("eval").bytes());
    rig.server.wait_for_requests(1);
    // Others have been idle for too long by now, and this one has not.
    let mut idle = rig.connect();
    closes("idle beside it", &mut idle);
    let mut idle = rig.connect();
    closes("idle beside it", &mut idle);
    release.send(()).unwrap();
    assert_eq!(client.response().status, 200);
    rig.finish(1);
}

#[test]
fn a_body_has_to_go_on() {
    let rig = rig_with("body_idle_timeout = \"300ms\"\n");
    let head = |framing: &str| {
        let whole = String::from_utf8(post("/score/allowed", "").token("eval").bytes()).unwrap();
        whole.replace("Content-Length: 0", framing)
    };
    let stalled = [
        ("nothing of it", head("Content-Length: 100")),
        ("a part", format!("{}part", head("Content-Length: 100"))),
        ("a chunk", format!("{}4\r\npart\r\n", head("Transfer-Encoding: chunked"))),
        ("half a chunk", format!("{}40\r\npart", head("Transfer-Encoding: chunked"))),
    ];
    let stalled = stalled.map(|(case, sent)| {
        let mut client = rig.connect();
        client.send(sent);
        (case, client)
    });
    for (case, mut client) in stalled {
        closes(case, &mut client);
    }
    assert!(rig.server.requests().is_empty());
    rig.server.wait_for_ended_connections(rig.server.connections().len());
    rig.assert_no_leak();
}

#[test]
fn a_reader_has_to_read() {
    let server = ModelServer::scripted(|exchange| {
        exchange.send("HTTP/1.1 200 OK\r\nContent-Length: 67108864\r\n\r\n");
        for _ in 0..1024 {
            exchange.send(vec![b'x'; 65536]);
        }
        Then::Close
    });
    let rig =
        Rig::with(server, |settings| settings.limits = "write_idle_timeout = \"300ms\"\n".into());
    let mut stalled = rig.connect();
    stalled.send(get("/score/allowed").token("eval").bytes());
    stalled.response_head();
    // The server is rid of it without the client having said a word.
    rig.server.wait_for_closed_here(1);
    let whole = 64 * 1024 * 1024;
    assert!(stalled.rest().len() < whole, "what was cut is not whole");
    rig.assert_no_leak();
}

#[test]
fn a_reader_in_http_2_has_to_open_its_window() {
    let body = vec![b'x'; 200_000];
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
    let rig = Rig::with(ModelServer::answering([head.as_bytes(), &body].concat()), |settings| {
        settings.limits =
            "write_idle_timeout = \"300ms\"\nhttp2_send_buffer_bytes = \"16KiB\"\n".into();
    });
    let mut http2 = Http2::client(Connection::to(rig.gate.data), rig.heard());
    http2.settled();
    // Streams begin without any window.
    http2.send(kind::SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0]);
    let bearer = format!("Bearer {}", secret("eval"));
    let stream = http2.start(
        &[
            (":method", b"GET"),
            (":scheme", b"http"),
            (":authority", b"models.test"),
            (":path", b"/score/allowed"),
            ("authorization", bearer.as_bytes()),
        ],
        true,
    );
    match http2.answer(stream) {
        crate::support::http2::Answer::Response(message) => {
            panic!("whole without a window: {}", message.body.len())
        }
        crate::support::http2::Answer::Reset(..) | crate::support::http2::Answer::Gone(_) => {}
    }
    rig.assert_no_leak();
}

#[test]
fn an_idle_http_2_connection_is_not_kept_for_ever() {
    let rig = rig_with("keep_alive_timeout = \"300ms\"\nwrite_idle_timeout = \"300ms\"\n");
    let mut http2 = Http2::client(Connection::to(rig.gate.data), rig.heard());
    let head: [(&str, &[u8]); 4] = [
        (":method", b"GET"),
        (":scheme", b"http"),
        (":authority", b"models.test"),
        (":path", b"/open"),
    ];
    assert_eq!(http2.ask(&head).response().status(), 200);
    http2.wait_until_closed();
    // Pings are no requests.
    let mut http2 = Http2::client(Connection::to(rig.gate.data), rig.heard());
    assert_eq!(http2.ask(&head).response().status(), 200);
    while http2.connection.try_send(&frame(kind::PING, 0, 0, &[0; 8]), Duration::from_secs(5))
        && http2.step()
    {
        std::thread::sleep(Duration::from_millis(10));
    }
    rig.finish(2);
}

#[test]
fn a_header_block_that_never_ends_is_a_head_that_never_comes() {
    let rig = rig_with("header_timeout = \"300ms\"\n");
    let mut http2 = Http2::client(Connection::to(rig.gate.data), rig.heard());
    http2.send(kind::HEADERS, flag::END_STREAM, 1, &[]);
    http2.wait_until_closed();
    rig.finish(0);
}

#[test]
fn a_handshake_has_to_come_to_its_end() {
    let authority = Authority::new("authority");
    let own = authority.sign(&["models.test"]);
    let server = ModelServer::canned();
    let folder = Folder::new();
    folder.write("tls.crt", &own.pem);
    folder.write("tls.key", &own.key);
    folder.write("tokens.toml", tokens::standard_file());
    let mut settings = Settings::of(Namespace::before(server.url()));
    settings.data = "tls = { cert_file = \"tls.crt\", key_file = \"tls.key\" }\n".into();
    settings.limits = "tls_handshake_timeout = \"300ms\"\nheader_timeout = \"700ms\"\n".into();
    folder.write("faregate.toml", settings.toml());
    let rig = Rig::of(Gate::start(folder), server);
    let stalled = [&b""[..], b"\x16", b"\x16\x03\x01\x02\x00\x01\x00"].map(|said| {
        let mut client = rig.connect();
        client.send(said);
        client
    });
    for mut client in stalled {
        // An alert is fair.
        client.rest();
    }
    // A handshake and nothing after it.
    let config = authority.client(&ClientSide::default());
    let mut client = rig.over(Connection::tls(rig.gate.data, &config, "models.test").unwrap());
    closes("silent after the handshake", &mut client);
    let mut client = rig.over(Connection::tls(rig.gate.data, &config, "models.test").unwrap());
    assert_eq!(client.ask(&get("/score/allowed").token("eval")).status, 200);
    rig.finish(1);
}
