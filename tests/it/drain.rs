//! Stopping: what runs ends by itself if it can, what does not is cut, and a second signal waits for nobody.

use std::net::TcpStream;
use std::sync::Mutex;
use std::sync::mpsc::{self, Sender};

use crate::support::eventually;
use crate::support::http1::{Request, get};
use crate::support::http2::{Answer, Http2};
use crate::support::model_server::{ModelServer, Then};
use crate::support::rig::Rig;
use crate::support::tokens::secret;
use crate::support::transport::Connection;

/// A server whose answer to `/score/pre-slow` comes in pieces, when it is told to. It is whole when the sender is gone.
fn slow() -> (ModelServer, Sender<&'static str>) {
    let (pieces, receiver) = mpsc::channel::<&'static str>();
    let receiver = Mutex::new(receiver);
    let server = ModelServer::scripted(move |exchange| {
        if exchange.request.target != "/score/pre-slow" {
            exchange.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
            return Then::KeepOpen;
        }
        exchange.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        while let Ok(piece) = receiver.lock().unwrap().recv() {
            exchange.send(piece);
        }
        exchange.send("0\r\n\r\n");
        Then::KeepOpen
    });
    (server, pieces)
}

fn ask() -> Request {
    get("/score/pre-slow").token("eval")
}

fn quick() -> Request {
    get("/score/allowed").token("eval")
}

fn rig_that_drains(server: ModelServer, drain: &str) -> Rig {
    Rig::with(server, |settings| settings.drain = drain.into())
}

#[test]
fn a_running_answer_comes_to_its_end() {
    let (server, pieces) = slow();
    let mut rig = rig_that_drains(server, "delay = \"0s\"\ntimeout = \"60s\"\n");
    let mut client = rig.connect();
    client.send(ask().bytes());
    client.response_head();
    let mut idle = rig.connect();
    assert_eq!(idle.ask(&quick()).status, 200);
    let mut http2 = Http2::client(Connection::to(rig.gate.data), rig.heard());
    let bearer = format!("Bearer {}", secret("eval"));
    let head: [(&str, &[u8]); 5] = [
        (":method", b"GET"),
        (":scheme", b"http"),
        (":authority", b"models.test"),
        (":path", b"/score/allowed"),
        ("authorization", bearer.as_bytes()),
    ];
    assert_eq!(http2.ask(&head).response().status(), 200);
    rig.gate.signal("TERM");
    // Who is idle is let go, in HTTP/2 with a word.
    idle.assert_closes();
    http2.wait_until_closed();
    assert_eq!(http2.goaway, Some(0));
    assert!(!rig.gate.has_ended());
    pieces.send("3\r\none\r\n").unwrap();
    assert_eq!(client.chunk().unwrap(), b"one");
    pieces.send("3\r\ntwo\r\n").unwrap();
    drop(pieces);
    assert_eq!(client.chunk().unwrap(), b"two");
    assert_eq!(client.chunk(), None, "the end of the answer, in order");
    client.assert_closes();
    assert!(rig.gate.wait_for_end().success());
}

#[test]
fn while_it_waits_it_is_not_ready_and_serves() {
    let (server, _pieces) = slow();
    let mut rig = rig_that_drains(server, "delay = \"2s\"\ntimeout = \"60s\"\n");
    let mut kept = rig.connect();
    assert_eq!(kept.ask(&quick()).status, 200);
    assert_eq!(rig.gate.ops_get("/readyz").status, 200);
    rig.gate.signal("TERM");
    eventually("it is not ready", || (rig.gate.ops_get("/readyz").status == 503).then_some(()));
    assert_eq!(rig.gate.ops_get("/livez").status, 200);
    // Load balancers still send for a while, on connections new and old.
    assert_eq!(kept.ask(&quick()).status, 200);
    assert_eq!(rig.ask(&quick()).status, 200);
    drop(kept);
    assert!(rig.gate.wait_for_end().success());
    assert!(TcpStream::connect(rig.gate.data).is_err(), "nobody listens any more");
}

#[test]
fn what_does_not_end_in_time_is_cut() {
    let (server, _pieces) = slow();
    let mut rig = rig_that_drains(server, "delay = \"0s\"\ntimeout = \"300ms\"\n");
    let mut client = rig.connect();
    client.send(ask().bytes());
    client.response_head();
    rig.gate.signal("TERM");
    let rest = client.rest();
    assert!(!rest.ends_with(b"0\r\n\r\n"), "it is cut, not ended: {rest:?}");
    rig.gate.wait_for_end();
}

#[test]
fn a_second_signal_ends_it_at_once() {
    for drain in ["delay = \"60s\"\ntimeout = \"60s\"\n", "delay = \"0s\"\ntimeout = \"60s\"\n"] {
        let (server, _pieces) = slow();
        let mut rig = rig_that_drains(server, drain);
        let mut client = rig.connect();
        client.send(ask().bytes());
        client.response_head();
        rig.gate.signal("TERM");
        eventually("it is not ready", || (rig.gate.ops_get("/readyz").status == 503).then_some(()));
        assert!(!rig.gate.has_ended());
        rig.gate.signal("TERM");
        rig.gate.wait_for_end();
        let rest = client.rest();
        assert!(!rest.ends_with(b"0\r\n\r\n"), "{rest:?}");
    }
}

#[test]
fn an_interrupt_stops_it_as_well() {
    let mut rig = Rig::standard();
    assert_eq!(rig.ask(&quick()).status, 200);
    rig.gate.signal("INT");
    assert!(rig.gate.wait_for_end().success());
}

#[test]
fn a_kept_connection_is_asked_to_close_with_its_last_answer() {
    let (server, pieces) = slow();
    let mut rig = rig_that_drains(server, "delay = \"0s\"\ntimeout = \"60s\"\n");
    let mut http2 = Http2::client(Connection::to(rig.gate.data), rig.heard());
    let bearer = format!("Bearer {}", secret("eval"));
    let head: [(&str, &[u8]); 5] = [
        (":method", b"GET"),
        (":scheme", b"http"),
        (":authority", b"models.test"),
        (":path", b"/score/pre-slow"),
        ("authorization", bearer.as_bytes()),
    ];
    let stream = http2.start(&head, true);
    http2.answer_head(stream);
    rig.gate.signal("TERM");
    while http2.goaway.is_none() {
        assert!(http2.step(), "the connection ended with a stream on it");
    }
    pieces.send("3\r\none\r\n").unwrap();
    drop(pieces);
    match http2.answer(stream) {
        Answer::Response(message) => assert_eq!(message.body, b"one"),
        other => panic!("{other:?}"),
    }
    http2.wait_until_closed();
    assert!(rig.gate.wait_for_end().success());
}
