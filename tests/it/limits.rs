//! Sizes and numbers: what is below a limit passes, what is above is refused, and what was taken is given back.

use std::sync::Mutex;
use std::sync::mpsc::{self, Sender};

use crate::support::eventually;
use crate::support::gate::{Folder, Gate, Namespace, Settings};
use crate::support::http1::{Client, Request, get};
use crate::support::http2::{Answer, Http2};
use crate::support::model_server::{CANNED, ModelServer, Then};
use crate::support::rig::Rig;
use crate::support::tokens::{secret, standard_file};
use crate::support::transport::Connection;

fn ask() -> Request {
    get("/score/allowed").token("eval")
}

#[test]
fn a_head_has_a_largest_size() {
    let rig = Rig::with(ModelServer::canned(), |settings| {
        settings.limits = "max_header_bytes = \"8KiB\"\n".into()
    });
    let of = |length: usize| {
        let before = ask().with("X", "").bytes().len();
        ask().with("X", "x".repeat(length - before))
    };
    for (case, length, passes) in [
        ("well below", 4 * 1024, true),
        ("just below", 8 * 1024 - 1, true),
        ("just above", 8 * 1024 + 1, false),
        ("well above", 16 * 1024, false),
        ("far above", 1024 * 1024, false),
    ] {
        if passes {
            rig.assert_forwarded(case, &of(length));
            continue;
        }
        let before = rig.server.bytes().len();
        let mut client = rig.connect();
        client.send(of(length).bytes());
        // The answer to a client that is still sending may be lost.
        if let Some(response) = client.response_or_end("GET") {
            assert_eq!(response.status, 431, "{case}: {response:?}");
        }
        rig.assert_upstream_got_nothing_since(before, case);
    }
    // One long target counts like any other part.
    let response = rig.ask(&get(&format!("/score/allowed?{}", "q".repeat(9 * 1024))).token("eval"));
    assert!(matches!(response.status, 414 | 431), "{response:?}");
    rig.finish(2);
}

#[test]
fn a_head_in_http_2_has_the_same_size() {
    let rig = Rig::with(ModelServer::canned(), |settings| {
        settings.limits = "max_header_bytes = \"8KiB\"\n".into()
    });
    let bearer = format!("Bearer {}", secret("eval"));
    for (length, passes) in [(4 * 1024, true), (12 * 1024, false), (200 * 1024, false)] {
        let filler = "x".repeat(length);
        let mut http2 = Http2::client(Connection::to(rig.gate.data), rig.heard());
        let mut head: Vec<(&str, &[u8])> = vec![
            (":method", b"GET"),
            (":scheme", b"http"),
            (":authority", b"models.test"),
            (":path", b"/score/allowed"),
            ("authorization", bearer.as_bytes()),
        ];
        // Frames hold 16 KiB, so a large head comes in several fields of one frame each, or is refused by the first.
        head.push(("x", &filler.as_bytes()[..length.min(15 * 1024)]));
        match http2.ask(&head) {
            Answer::Response(message) if passes => assert_eq!(message.status(), 200),
            Answer::Response(message) => assert_eq!(message.status(), 431, "{length}"),
            Answer::Reset(..) | Answer::Gone(_) => assert!(!passes, "{length}"),
        }
    }
    rig.finish(1);
}

#[test]
fn a_head_has_a_largest_number_of_fields() {
    let rig =
        Rig::with(ModelServer::canned(), |settings| settings.limits = "max_headers = 20\n".into());
    // `Host` and `Authorization` are two of them.
    let of = |count: usize| {
        (0..count - 2).fold(ask(), |request, number| request.with(&format!("X-{number}"), "x"))
    };
    rig.assert_forwarded("below", &of(19));
    rig.assert_forwarded("at", &of(20));
    let before = rig.server.bytes().len();
    for count in [21, 90, 500] {
        let response = rig.ask(&of(count));
        assert_eq!(response.status, 431, "{count}");
        rig.assert_upstream_got_nothing_since(before, "too many");
    }
    rig.finish(2);

    let rig = Rig::standard();
    rig.assert_forwarded("at the default", &of(100));
    assert_eq!(rig.ask(&of(101)).status, 431);
    rig.finish(1);
}

/// A server that answers when it is told to.
fn held() -> (ModelServer, Sender<()>) {
    let (release, wait) = mpsc::channel::<()>();
    let wait = Mutex::new(wait);
    let server = ModelServer::scripted(move |exchange| {
        exchange.whole();
        let _released_or_over = wait.lock().unwrap().recv();
        exchange.send(CANNED);
        Then::KeepOpen
    });
    (server, release)
}

#[test]
fn so_many_requests_are_served_at_once_and_no_more() {
    let (server, release) = held();
    let rig = Rig::with(server, |settings| settings.limits = "max_requests_in_flight = 3\n".into());
    let mut clients: Vec<_> = (0..3).map(|_| rig.connect()).collect();
    for client in &mut clients {
        client.send(ask().bytes());
    }
    rig.server.wait_for_requests(3);
    let before = rig.server.bytes().len();
    for _ in 0..3 {
        let response = rig.ask(&ask());
        assert_eq!(response.status, 503, "{response:?}");
        let wait: u32 = response.field("retry-after").expect("Retry-After").parse().unwrap();
        assert!(wait >= 1 && response.reason().is_some(), "{response:?}");
        assert_eq!(response.json()["status"], 503);
    }
    // What is refused needs no room, and no place in the queue.
    assert_eq!(rig.ask(&get("/score/secret").token("eval")).status, 403);
    assert_eq!(rig.ask(&get("/score/allowed")).status, 401);
    rig.assert_upstream_got_nothing_since(before, "beyond the limit");
    assert_eq!(rig.gate.ops_get("/livez").status, 200);
    // Room is given back by an answer, and by a client that leaves.
    release.send(()).unwrap();
    eventually("one is answered", || {
        (rig.gate.metric("faregate_requests_in_flight", &[("namespace", "default")]) == 2.0)
            .then_some(())
    });
    let mut fourth = rig.connect();
    fourth.send(ask().bytes());
    rig.server.wait_for_requests(4);
    assert_eq!(rig.ask(&ask()).status, 503);
    for _ in 0..3 {
        release.send(()).unwrap();
    }
    assert_eq!(fourth.response().status, 200);
    for client in &mut clients {
        assert_eq!(client.response().status, 200);
    }
    eventually("all room is given back", || {
        (rig.gate.metric("faregate_requests_in_flight", &[("namespace", "default")]) == 0.0)
            .then_some(())
    });
    rig.finish(4);
}

#[test]
fn a_client_that_leaves_gives_its_room_back() {
    let (server, release) = held();
    let rig = Rig::with(server, |settings| settings.limits = "max_requests_in_flight = 1\n".into());
    for round in 1..=3 {
        let mut client = rig.connect();
        client.send(ask().bytes());
        rig.server.wait_for_requests(round);
        client.connection.reset();
        eventually("its room is given back", || {
            (rig.gate.metric("faregate_requests_in_flight", &[]) == 0.0).then_some(())
        });
    }
    let mut client = rig.connect();
    client.send(ask().bytes());
    rig.server.wait_for_requests(4);
    for _ in 0..4 {
        release.send(()).unwrap();
    }
    assert_eq!(client.response().status, 200);
    rig.finish(4);
}

#[test]
fn so_many_connections_are_open_at_once_and_no_more() {
    let rig = Rig::with(ModelServer::canned(), |settings| {
        settings.limits = "max_connections = 2\n".into()
    });
    let connections = || rig.gate.metric("faregate_connections", &[]);
    let (mut first, mut second) = (rig.connect(), rig.connect());
    assert_eq!(first.ask(&ask()).status, 200);
    assert_eq!(second.ask(&ask()).status, 200);
    assert_eq!(connections(), 2.0);
    // It is closed at once, or waits until there is room; it is not served beside the two.
    let mut third = rig.connect();
    third.send(ask().bytes());
    assert_eq!(first.ask(&ask()).status, 200);
    assert_eq!(second.ask(&ask()).status, 200);
    assert!(connections() <= 2.0);
    assert_eq!(rig.server.requests().len(), 4);
    drop(first);
    eventually("there is room again", || (connections() < 2.0).then_some(()));
    let served = match third.response_or_end("GET") {
        Some(response) => response,
        None => rig.ask(&ask()),
    };
    assert_eq!(served.status, 200);
    assert_eq!(second.ask(&ask()).status, 200);
    rig.finish(6);
}

#[test]
fn it_goes_on_when_descriptors_ran_out() {
    let server = ModelServer::canned();
    let folder = Folder::new();
    folder.write("tokens.toml", standard_file());
    folder.write("faregate.toml", Settings::of(Namespace::before(server.url())).toml());
    let rig = Rig::of(Gate::start_with_descriptors(folder, 64), server);
    // Every worker is at work before there is no room for it.
    for _ in 0..4 {
        rig.assert_forwarded("served before", &ask());
    }
    let clients: Vec<Client> = (0..100).map(|_| rig.connect()).collect();
    rig.gate.wait_for_line("that no connection can be accepted", |line| {
        (line.contains("\"ERROR\"") && line.contains("accept")).then_some(())
    });
    drop(clients);
    // Nothing was let through meanwhile that would not be now.
    rig.assert_refused(
        "resource",
        &get("/score/secret").token("eval"),
        403,
        "resource_not_allowed",
    );
    rig.assert_forwarded("served again", &ask());
    rig.finish(5);
}
