//! Model servers that are slow, gone, rude or wrong: what their clients are told, and that no answer goes astray.

use std::net::TcpListener;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex};

use crate::support::certificates::Authority;
use crate::support::http1::{Received, Response, all, get, post, request};
use crate::support::http2::Http2;
use crate::support::model_server::{CANNED, CANNED_BODY, Exchange, ModelServer, Then};
use crate::support::rig::Rig;
use crate::support::transport::Connection;
use crate::support::{eventually, tokens};

/// An address at which nobody listens: the port was free a moment ago.
fn dead_endpoint() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

fn assert_is_failure(case: &str, response: &Response, status: u16) {
    assert_eq!(response.status, status, "{case}: {response:?}");
    assert!(response.is_whole, "{case}");
    let reason = response.reason().unwrap_or_else(|| panic!("{case}: no reason: {response:?}"));
    assert_eq!(response.field("content-type"), Some("application/problem+json"), "{case}");
    assert_eq!(response.field("cache-control"), Some("no-store"), "{case}");
    assert_eq!(response.field("www-authenticate"), None, "{case}");
    assert_eq!(response.json()["reason"], reason, "{case}");
    assert_eq!(response.json()["status"], status, "{case}");
    if status == 503 {
        let wait: u32 = response
            .field("retry-after")
            .unwrap_or_else(|| panic!("{case}: {response:?}"))
            .parse()
            .unwrap();
        assert!(wait >= 1, "{case}");
    }
}

fn ask() -> crate::support::http1::Request {
    get("/score/allowed").token("eval")
}

#[test]
fn a_server_that_is_not_there_is_a_bad_gateway() {
    let rig = Rig::with(ModelServer::canned(), |settings| {
        settings.namespaces[0].endpoints = vec![dead_endpoint()];
    });
    let response = rig.ask(&ask());
    assert_is_failure("not there", &response, 502);
    let connect = [("namespace", "default"), ("kind", "connect")];
    assert_eq!(rig.gate.metric("faregate_upstream_errors_total", &connect), 1.0);
    let up = rig.gate.metric("faregate_upstream_endpoint_up", &[("namespace", "default")]);
    assert_eq!(up, 0.0);
    // Told in the words of the route.
    let kserve = rig.ask(&post("/v2/models/allowed/infer", "{}").token("eval"));
    assert_eq!(kserve.status, 502);
    assert_eq!(kserve.json().as_object().unwrap().keys().collect::<Vec<_>>(), ["error"]);
    // The law comes first.
    rig.assert_refused("law", &get("/score/secret").token("eval"), 403, "resource_not_allowed");
    rig.finish(0);
}

#[test]
fn a_server_that_comes_back_is_used_again() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let rig = Rig::with(ModelServer::canned(), |settings| {
        settings.namespaces[0].endpoints = vec![format!("http://{address}")];
    });
    assert_is_failure("away", &rig.ask(&ask()), 502);
    let listener = TcpListener::bind(address).unwrap();
    let server = std::thread::spawn(move || {
        use std::io::{Read, Write};
        // Probes may connect and say nothing.
        for socket in listener.incoming() {
            let mut socket = socket.unwrap();
            let mut buffer = [0; 4096];
            if socket.read(&mut buffer).is_ok_and(|length| length > 0) {
                socket.write_all(CANNED.as_bytes()).unwrap();
                return;
            }
        }
    });
    let body = eventually("the server is used again", || {
        let response = rig.ask(&ask());
        (response.status == 200).then(|| response.text())
    });
    assert_eq!(body, CANNED_BODY);
    server.join().unwrap();
    rig.finish(0);
}

#[test]
fn one_dead_endpoint_among_several_costs_no_request() {
    let (first, second) = (ModelServer::canned(), ModelServer::canned());
    let endpoints = vec![first.url(), dead_endpoint(), second.url()];
    let rig =
        Rig::with(ModelServer::canned(), |settings| settings.namespaces[0].endpoints = endpoints);
    for round in 0..30 {
        let asked = if round % 2 == 0 { ask() } else { post("/score/allowed", "x").token("eval") };
        assert_eq!(rig.ask(&asked).status, 200, "{round}");
    }
    assert_eq!(first.requests().len() + second.requests().len(), 30);
    rig.finish(0);
}

#[test]
fn endpoints_share_what_is_in_flight() {
    let (release, gate) = mpsc::channel::<()>();
    let gate = Arc::new(Mutex::new(gate));
    let held = || {
        let gate = Arc::clone(&gate);
        ModelServer::scripted(move |exchange| {
            let _released_or_over = gate.lock().unwrap().recv();
            exchange.send(CANNED);
            Then::KeepOpen
        })
    };
    let (first, second) = (held(), held());
    let endpoints = vec![first.url(), second.url()];
    let rig = Rig::with(ModelServer::canned(), |settings| {
        settings.namespaces[0].endpoints = endpoints;
    });
    // The next goes to the server that has less to do, so two held requests are never at one.
    let mut clients: Vec<_> = (0..8).map(|_| rig.connect()).collect();
    for client in &mut clients {
        client.send(ask().bytes());
    }
    let arrived = || (first.requests().len(), second.requests().len());
    eventually("all have arrived", || (arrived().0 + arrived().1 == 8).then_some(()));
    let (one, other) = arrived();
    assert!(one >= 2 && other >= 2, "{one} and {other}");
    assert_eq!(rig.gate.metric("faregate_requests_in_flight", &[("namespace", "default")]), 8.0);
    for _ in 0..8 {
        release.send(()).unwrap();
    }
    for client in &mut clients {
        assert_eq!(client.response().status, 200);
    }
    eventually("nothing is in flight", || {
        (rig.gate.metric("faregate_requests_in_flight", &[("namespace", "default")]) == 0.0)
            .then_some(())
    });
    rig.finish(0);
}

#[test]
fn a_late_answer_is_a_gateway_timeout() {
    let server = ModelServer::scripted(|exchange| {
        exchange.wait_until_closed();
        Then::Close
    });
    let rig = Rig::with(server, |settings| {
        settings.namespaces[0].upstream = "response_timeout = \"200ms\"\n".into()
    });
    let mut client = rig.connect();
    let response = client.ask(&ask());
    assert_is_failure("late", &response, 504);
    // The request is given up, so that the server may stop working on it.
    rig.server.wait_for_ended_connections(1);
    let kind = [("namespace", "default"), ("kind", "timeout")];
    assert_eq!(rig.gate.metric("faregate_upstream_errors_total", &kind), 1.0);
    rig.finish(1);
}

#[test]
fn an_answer_that_is_none_is_a_bad_gateway() {
    type Script = fn(&mut Exchange<'_>) -> Then;
    let table: [(&str, Script); 14] = [
        ("closes", |_| Then::Close),
        ("resets", |_| Then::Reset),
        ("says nonsense", |exchange| {
            exchange.send("SSH-2.0-OpenSSH_9.9\r\n");
            Then::Close
        }),
        ("cuts its head", |exchange| {
            exchange.send("HTTP/1.1 200 OK\r\nContent-Type: te");
            Then::Close
        }),
        ("resets in its head", |exchange| {
            exchange.send("HTTP/1.1 200 OK\r\nContent-Type: te");
            Then::Reset
        }),
        ("has two lengths", |exchange| {
            exchange.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok!");
            Then::Close
        }),
        ("has a length that is none", |exchange| {
            exchange.send("HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\nok!");
            Then::Close
        }),
        ("has a status that is none", |exchange| {
            exchange.send("HTTP/1.1 2000 OK\r\nContent-Length: 0\r\n\r\n");
            Then::Close
        }),
        ("has a status of two digits", |exchange| {
            exchange.send("HTTP/1.1 20 OK\r\nContent-Length: 0\r\n\r\n");
            Then::Close
        }),
        ("has a blank in a name", |exchange| {
            exchange.send("HTTP/1.1 200 OK\r\nX Y: z\r\nContent-Length: 0\r\n\r\n");
            Then::Close
        }),
        ("has NUL in a value", |exchange| {
            exchange.send("HTTP/1.1 200 OK\r\nX: a\0b\r\nContent-Length: 0\r\n\r\n");
            Then::Close
        }),
        ("switches protocols unasked", |exchange| {
            exchange.send("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n");
            Then::Close
        }),
        ("has an endless head", |exchange| {
            exchange.send("HTTP/1.1 200 OK\r\n");
            for number in 0..100_000 {
                exchange.send(format!("X-{number}: {}\r\n", "y".repeat(100)));
            }
            Then::Close
        }),
        ("speaks HTTP/2", |exchange| {
            exchange.send(b"\0\0\0\x04\0\0\0\0\0");
            Then::Close
        }),
    ];
    for (case, script) in table {
        let rig = Rig::before(ModelServer::scripted(script));
        let response = rig.ask(&post("/score/allowed", "x").token("eval"));
        assert_is_failure(case, &response, 502);
        // A request that was written may have been worked on: it is sent once.
        assert_eq!(rig.server.requests().len(), 1, "{case}");
        let errors = rig.gate.metric("faregate_upstream_errors_total", &[("namespace", "default")]);
        assert_eq!(errors, 1.0, "{case}");
        rig.finish(1);
    }
}

#[test]
fn a_kept_connection_that_the_server_closes_costs_no_request() {
    // The server closes after each answer without saying so, and the next request comes when it has.
    let server = ModelServer::scripted(|exchange| {
        exchange.whole();
        exchange.send(CANNED);
        Then::Close
    });
    let rig = Rig::before(server);
    for round in 0..40 {
        let asked =
            if round % 2 == 0 { post("/score/allowed", "once").token("eval") } else { ask() };
        assert_eq!(rig.ask(&asked).status, 200, "{round}");
        rig.server.wait_for_closed_here(round + 1);
    }
    rig.finish(40);
}

#[test]
fn a_request_that_was_written_is_never_sent_twice() {
    // Answers the first request of a connection and resets at the second, when it has been read.
    let server = ModelServer::scripted(|exchange| {
        if exchange.nth == 1 {
            return Then::Reset;
        }
        exchange.whole();
        exchange.send(CANNED);
        Then::KeepOpen
    });
    let rig = Rig::before(server);
    let mut client = rig.connect();
    for round in 0..5 {
        let body = format!("body {round}");
        let response = client.ask(&post("/score/allowed", &body).token("eval"));
        assert!(matches!(response.status, 200 | 502), "{response:?}");
        let sent = rig
            .server
            .requests()
            .into_iter()
            .filter(|request| request.body == body.as_bytes())
            .count();
        assert_eq!(sent, 1, "{body} was sent {sent} times");
        if response.field("connection") == Some("close") {
            client = rig.connect();
        }
    }
    rig.finish(5);
}

#[test]
fn connections_to_the_server_are_kept_and_not_for_ever() {
    let rig = Rig::with(ModelServer::canned(), |settings| {
        settings.namespaces[0].upstream = "idle_timeout = \"200ms\"\n".into();
    });
    let mut client = rig.connect();
    for _ in 0..10 {
        assert_eq!(client.ask(&ask()).status, 200);
    }
    assert!(rig.server.connections().len() <= 2, "{} connections", rig.server.connections().len());
    let opened = rig.server.connections().len();
    rig.server.wait_for_ended_connections(opened);
    rig.finish(10);
}

#[test]
fn an_answer_that_is_cut_arrives_as_cut() {
    type Script = fn(&mut Exchange<'_>) -> Then;
    let table: [(&str, Script); 6] = [
        ("a length, closed", |exchange| {
            exchange.send("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this");
            Then::Close
        }),
        ("a length, reset", |exchange| {
            exchange.send("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this");
            Then::Reset
        }),
        ("chunks, closed", |exchange| {
            exchange
                .send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nonly this\r\n");
            Then::Close
        }),
        ("chunks, cut inside", |exchange| {
            exchange.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n20\r\nonly this");
            Then::Close
        }),
        ("chunks, reset", |exchange| {
            exchange
                .send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nonly this\r\n");
            Then::Reset
        }),
        ("chunks, then nonsense", |exchange| {
            exchange.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nonly this\r\nxyz\r\n0\r\n\r\n");
            Then::Close
        }),
    ];
    for (case, script) in table {
        let rig = Rig::before(ModelServer::scripted(script));
        let mut client = rig.connect();
        client.send(ask().bytes());
        // A server that resets may take what it said back, and then there is nothing to pass on.
        if let Some(response) = client.response_or_end("GET")
            && response.status != 502
        {
            assert_eq!(response.status, 200, "{case}");
            assert!(!response.is_whole, "{case}: {response:?}");
            assert!("only this".starts_with(&response.text()), "{case}: {response:?}");
        }
        rig.finish(1);
    }
}

#[test]
fn an_answer_that_ends_with_its_connection_is_whole() {
    let server = ModelServer::scripted(|exchange| {
        exchange.send("HTTP/1.1 200 OK\r\nX-Served-By: model\r\n\r\nall of it");
        Then::Close
    });
    let rig = Rig::before(server);
    let mut client = rig.connect();
    for _ in 0..3 {
        let response = client.ask(&ask());
        assert_eq!((response.text().as_str(), response.is_whole), ("all of it", true));
        if response.ends_with_connection {
            client = rig.connect();
        }
    }
    rig.finish(3);
}

#[test]
fn an_answer_to_nobody_reaches_nobody() {
    // Each says more than one answer; what is too much must not become the answer to the next request.
    const POISON: &str = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison";
    let answers: [(&str, &str, String); 6] = [
        ("two answers", "GET", format!("{CANNED}{POISON}")),
        (
            "HEAD with a body",
            "HEAD",
            format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{POISON}", POISON.len()),
        ),
        ("204 with a body", "GET", format!("HTTP/1.1 204 No Content\r\n\r\n{POISON}")),
        (
            "304 with a body",
            "GET",
            format!(
                "HTTP/1.1 304 Not Modified\r\nContent-Length: {}\r\n\r\n{POISON}",
                POISON.len()
            ),
        ),
        (
            "length and chunks",
            "GET",
            format!(
                "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{POISON}"
            ),
        ),
        (
            "chunks and length",
            "GET",
            format!(
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 60\r\n\r\n0\r\n\r\n{POISON}"
            ),
        ),
    ];
    for (case, method, answer) in answers {
        let server = ModelServer::scripted(move |exchange| {
            exchange.whole();
            let target = exchange.request.target.clone();
            if target.ends_with("first") {
                exchange.send(&answer);
            } else {
                exchange.send(format!(
                    "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{target}",
                    target.len()
                ));
            }
            Then::KeepOpen
        });
        let rig = Rig::before(server);
        let mut client = rig.connect();
        for round in 0..4 {
            client.send(request(method, "/score/allowed?first").token("eval").bytes());
            match client.response_or_end(method) {
                Some(response) => assert_ne!(response.text(), "poison", "{case}"),
                None => client = rig.connect(),
            }
            let target = format!("/score/allowed?{round}");
            client.send(get(&target).token("eval").bytes());
            let response = match client.response_or_end("GET") {
                Some(response) => response,
                None => {
                    client = rig.connect();
                    client.ask(&get(&target).token("eval"))
                }
            };
            assert_eq!(response.text(), target, "{case}");
        }
        rig.assert_no_leak();
    }
}

#[test]
fn interim_answers_do_not_end_the_wait() {
    let server = ModelServer::scripted(|exchange| {
        exchange.whole();
        exchange.send("HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\n\r\n");
        exchange.send("HTTP/1.1 102 Processing\r\n\r\n");
        exchange.send(CANNED);
        Then::KeepOpen
    });
    let rig = Rig::before(server);
    assert_eq!(rig.ask(&ask()).text(), CANNED_BODY);
    rig.finish(1);
}

#[test]
fn an_answer_before_the_body_is_passed_on() {
    let server = ModelServer::scripted(|exchange| {
        exchange.send(
            "HTTP/1.1 413 Content Too Large\r\nContent-Length: 3\r\nConnection: close\r\n\r\nbig",
        );
        Then::Close
    });
    let rig = Rig::before(server);
    let mut client = rig.connect();
    let head = String::from_utf8(post("/score/allowed", "").token("eval").bytes()).unwrap();
    client.send(head.replace("Content-Length: 0", "Content-Length: 1000000"));
    let response = client.response();
    assert_eq!((response.status, response.text().as_str()), (413, "big"));
    rig.assert_no_leak();
}

#[test]
fn a_connection_with_half_a_body_on_it_is_used_for_no_other_request() {
    // The server answers at the head and keeps the connection, on which the rest of a body is due.
    let server = ModelServer::scripted(|exchange| {
        exchange.send(CANNED);
        Then::KeepOpen
    });
    let rig = Rig::before(server);
    let head = String::from_utf8(post("/score/allowed", "").token("eval").bytes()).unwrap();
    let mut clients = Vec::new();
    for framing in ["Content-Length: 1000", "Transfer-Encoding: chunked"] {
        let mut client = rig.connect();
        client.send(head.replace("Content-Length: 0", framing));
        client.send("3\r\n");
        assert_eq!(client.response().status, 200, "{framing}");
        // On the same client connection this would be a part of the body, so it comes on others.
        for round in 0..4 {
            let target = format!("/score/allowed?{round}");
            let received = rig.assert_forwarded(framing, &get(&target).token("eval"));
            assert_eq!(received.target, target);
        }
        clients.push(client);
    }
    assert_eq!(rig.server.requests().len(), 8, "the two posts are not whole");
    rig.assert_no_leak();
}

/// A server that sends what the test hands it, piece by piece.
fn piecewise(head: &'static str) -> (ModelServer, Sender<Vec<u8>>) {
    let (sender, receiver): (_, Receiver<Vec<u8>>) = mpsc::channel();
    let receiver = Mutex::new(receiver);
    let server = ModelServer::scripted(move |exchange| {
        exchange.whole();
        exchange.send(head);
        while let Ok(piece) = receiver.lock().unwrap().recv() {
            if piece.is_empty() {
                return Then::KeepOpen;
            }
            exchange.send(piece);
        }
        // The test has no more to say: what comes now is the gate's to decide.
        exchange.wait_until_closed();
        Then::Close
    });
    (server, sender)
}

const EVENTS: &str =
    "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";

#[test]
fn a_stream_is_passed_on_piece_by_piece() {
    let (server, pieces) = piecewise(EVENTS);
    let rig = Rig::before(server);
    let mut client = rig.connect();
    client.send(post("/score/allowed", "{\"stream\":true}").token("eval").bytes());
    let (status, fields) = client.response_head();
    assert_eq!(status, 200, "the head comes before any event");
    assert_eq!(all(&fields, "content-type"), ["text/event-stream"]);
    for number in 0..5 {
        let event = format!("data: {number}\n\n");
        pieces.send(format!("{:x}\r\n{event}\r\n", event.len()).into()).unwrap();
        // Nothing more is sent before this has arrived.
        assert_eq!(client.chunk().unwrap(), event.as_bytes());
    }
    pieces.send(b"0\r\n\r\n".to_vec()).unwrap();
    pieces.send(Vec::new()).unwrap();
    assert_eq!(client.chunk(), None);
    rig.finish(1);
}

#[test]
fn a_body_is_passed_on_piece_by_piece() {
    let (seen_to, seen) = mpsc::channel::<usize>();
    let seen_to = Mutex::new(seen_to);
    let server = ModelServer::scripted(move |exchange| {
        seen_to.lock().unwrap().send(0).unwrap();
        exchange.whole();
        exchange.send(CANNED);
        Then::KeepOpen
    });
    let rig = Rig::before(server);
    let mut client = rig.connect();
    let head = String::from_utf8(post("/score/allowed", "").token("eval").bytes()).unwrap();
    client.send(head.replace("Content-Length: 0", "Transfer-Encoding: chunked"));
    seen.recv_timeout(crate::support::PATIENCE).expect("the head comes before any of the body");
    for number in 1..=3 {
        client.send("4\r\nbody\r\n");
        rig.server.wait_until("the piece has come", |records| {
            let bytes: Vec<u8> = records.iter().flat_map(|record| record.bytes.clone()).collect();
            (String::from_utf8_lossy(&bytes).matches("body").count() == number).then_some(())
        });
    }
    client.send("0\r\n\r\n");
    assert_eq!(client.response().status, 200);
    assert_eq!(rig.server.requests()[0].body, b"bodybodybody");
    rig.finish(1);
}

#[test]
fn a_client_that_leaves_takes_its_request_with_it() {
    let (server, pieces) = piecewise(EVENTS);
    let rig = Rig::before(server);
    let mut client = rig.connect();
    client.send(ask().bytes());
    client.response_head();
    pieces.send(b"3\r\none\r\n".to_vec()).unwrap();
    assert_eq!(client.chunk().unwrap(), b"one");
    client.connection.reset();
    // The server may be told only when it speaks again.
    eventually("the server is told", || {
        drop(pieces.send(b"3\r\ntwo\r\n".to_vec()));
        let in_flight = rig.gate.metric("faregate_requests_in_flight", &[("namespace", "default")]);
        (in_flight == 0.0).then_some(())
    });
    rig.finish(1);
}

fn without_eval() -> String {
    let others: Vec<_> =
        tokens::STANDARD.iter().copied().filter(|token| token.id != "eval").collect();
    tokens::file(&others)
}

/// The standard file with another `[[token]]` for `eval`.
fn with_eval(resources: &[&str], groups: &[&str], more: &str) -> String {
    let others: Vec<_> =
        tokens::STANDARD.iter().copied().filter(|token| token.id != "eval").collect();
    let eval = tokens::Token { id: "eval", name: "", resources, groups, more };
    tokens::file(&[&others[..], &[eval]].concat())
}

#[test]
fn a_stream_ends_with_the_right_to_it() {
    let evaluation = &["model-evaluation"][..];
    for (case, file, ends) in [
        ("deleted", without_eval(), true),
        ("disabled", with_eval(&["allowed"], evaluation, "disabled = true\n"), true),
        ("resources shrank", with_eval(&["pre-*"], evaluation, ""), true),
        ("groups shrank", with_eval(&["allowed"], &["model-management"], ""), true),
        ("nothing that matters", with_eval(&["allo*"], evaluation, ""), false),
        (
            "expired",
            with_eval(&["allowed"], evaluation, "expires_at = 2020-01-01T00:00:00Z\n"),
            false,
        ),
    ] {
        let (server, pieces) = piecewise(EVENTS);
        let rig = Rig::before(server);
        let mut client = rig.connect();
        client.send(ask().bytes());
        client.response_head();
        pieces.send(b"3\r\none\r\n".to_vec()).unwrap();
        assert_eq!(client.chunk().unwrap(), b"one");
        rig.gate.change_tokens(&file);
        let why = [("namespace", "default"), ("why", "revoked")];
        if ends {
            drop(pieces);
            // Cut, not ended in order: what came is not all there was.
            let rest = client.rest();
            assert!(!rest.ends_with(b"0\r\n\r\n"), "{case}: {:?}", String::from_utf8_lossy(&rest));
            rig.server.wait_for_ended_connections(1);
            eventually("the metric tells it", || {
                (rig.gate.metric("faregate_streams_ended_total", &why) == 1.0).then_some(())
            });
        } else {
            // Whatever ends streams has done so when the stream of a token that is gone has ended.
            pieces.send(b"3\r\ntwo\r\n".to_vec()).unwrap();
            assert_eq!(client.chunk().unwrap(), b"two", "{case}");
            pieces.send(b"0\r\n\r\n".to_vec()).unwrap();
            pieces.send(Vec::new()).unwrap();
            assert_eq!(client.chunk(), None, "{case}");
            assert_eq!(rig.gate.metric("faregate_streams_ended_total", &why), 0.0, "{case}");
        }
        rig.finish(1);
    }
}

/// So many seconds from now, as a token file writes it.
fn seconds_from_now(seconds: i64) -> String {
    let then = jiff::Timestamp::now().as_second() + seconds;
    jiff::Timestamp::from_second(then).unwrap().to_string()
}

#[test]
fn a_stream_of_a_former_secret_ends_with_its_grace() {
    let (server, pieces) = piecewise(EVENTS);
    let rig = Rig::before(server);
    let previous = tokens::previous("eval", &seconds_from_now(3));
    rig.gate.change_tokens(&with_eval(&["allowed"], &["model-evaluation"], &previous));
    let mut client = rig.connect();
    client.send(get("/score/allowed").bearer(&tokens::former_secret("eval")).bytes());
    client.response_head();
    pieces.send(b"3\r\none\r\n".to_vec()).unwrap();
    assert_eq!(client.chunk().unwrap(), b"one");
    drop(pieces);
    // No file changes from here on.
    let rest = client.rest();
    assert!(!rest.ends_with(b"0\r\n\r\n"), "{:?}", String::from_utf8_lossy(&rest));
    rig.server.wait_for_ended_connections(1);
    assert_eq!(rig.ask(&get("/score/allowed").bearer(&tokens::former_secret("eval"))).status, 401);
    rig.finish(1);
}

#[test]
fn a_stream_that_was_begun_before_a_regeneration_ends_with_the_grace() {
    let (server, pieces) = piecewise(EVENTS);
    let rig = Rig::before(server);
    let mut client = rig.connect();
    client.send(ask().bytes());
    client.response_head();
    // The secret of the stream becomes the former one, and another takes its place.
    let file = tokens::standard_file();
    let own = tokens::hash(&tokens::secret("eval"));
    let other = tokens::hash(&tokens::former_secret("eval"));
    let hash = |hash: &str| format!("hash = \"{hash}\"\n");
    let previous =
        format!("previous = {{ hash = \"{own}\", valid_until = {} }}\n", seconds_from_now(3));
    let regenerated = file.replace(&hash(&own), &format!("{}{previous}", hash(&other)));
    assert_ne!(file, regenerated);
    rig.gate.change_tokens(&regenerated);
    pieces.send(b"3\r\none\r\n".to_vec()).unwrap();
    assert_eq!(client.chunk().unwrap(), b"one", "within the grace");
    drop(pieces);
    let rest = client.rest();
    assert!(!rest.ends_with(b"0\r\n\r\n"), "{:?}", String::from_utf8_lossy(&rest));
    rig.server.wait_for_ended_connections(1);
    rig.finish(1);
}

#[test]
fn a_token_expires_without_any_change() {
    let (server, pieces) = piecewise(EVENTS);
    let rig = Rig::before(server);
    let expires = format!("expires_at = {}\n", seconds_from_now(3));
    rig.gate.change_tokens(&with_eval(&["allowed"], &["model-evaluation"], &expires));
    let mut client = rig.connect();
    client.send(ask().bytes());
    client.response_head();
    eventually("it has expired", || {
        // Another model, so that nothing reaches the server that waits for pieces.
        let response = rig.ask(&get("/score/other").token("eval"));
        (response.reason() == Some("invalid_token")).then_some(())
    });
    // What was running runs to its end.
    pieces.send(b"3\r\none\r\n0\r\n\r\n".to_vec()).unwrap();
    pieces.send(Vec::new()).unwrap();
    assert_eq!(client.chunk().unwrap(), b"one");
    assert_eq!(client.chunk(), None);
    rig.finish(1);
}

#[test]
fn streams_of_a_revoked_token_go_on_where_that_was_chosen() {
    let (server, pieces) = piecewise(EVENTS);
    let rig =
        Rig::with(server, |settings| settings.limits = "end_revoked_streams = false\n".into());
    let mut client = rig.connect();
    client.send(ask().bytes());
    client.response_head();
    rig.gate.change_tokens(&without_eval());
    assert_eq!(rig.ask(&ask()).status, 401);
    pieces.send(b"3\r\ntwo\r\n0\r\n\r\n".to_vec()).unwrap();
    pieces.send(Vec::new()).unwrap();
    assert_eq!(client.chunk().unwrap(), b"two");
    assert_eq!(client.chunk(), None);
    rig.finish(1);
}

#[test]
fn a_request_that_waits_for_its_answer_ends_with_the_right_to_it_too() {
    let server = ModelServer::scripted(|exchange| {
        exchange.wait_until_closed();
        Then::Close
    });
    let rig = Rig::before(server);
    let mut client = rig.connect();
    client.send(ask().bytes());
    rig.server.wait_for_requests(1);
    rig.gate.change_tokens(&without_eval());
    // Nothing has been answered yet, so it can still be refused; or it is cut.
    if let Some(response) = client.response_or_end("GET") {
        assert!(matches!(response.status, 401 | 403 | 502 | 503), "{response:?}");
    }
    rig.server.wait_for_ended_connections(1);
    rig.finish(1);
}

/// A TLS model server with this certificate that gives the canned answer.
fn tls_server(authority: &Authority, names: &[&str], clients: Option<&Authority>) -> ModelServer {
    let config = Authority::server(&authority.sign(names), &[], clients);
    ModelServer::scripted_tls(config, |exchange| {
        exchange.whole();
        exchange.send(CANNED);
        Then::KeepOpen
    })
}

#[test]
fn a_server_behind_tls_is_known_by_its_authority() {
    let (authority, stranger) = (Authority::new("authority"), Authority::new("stranger"));
    let own = authority.sign(&["gate.test"]);
    let foreign = stranger.sign(&["gate.test"]);
    // The server's names, who signs it, whom it asks for a certificate, what the gate shows, and what comes of it.
    type Case<'c> =
        (&'c str, ModelServer, Option<&'c crate::support::certificates::Certificate>, u16);
    let table: Vec<Case<'_>> = vec![
        ("by address", tls_server(&authority, &["127.0.0.1"], None), None, 200),
        ("another authority", tls_server(&stranger, &["127.0.0.1"], None), None, 502),
        ("another name", tls_server(&authority, &["other.test"], None), None, 502),
        (
            "shows its certificate",
            tls_server(&authority, &["127.0.0.1"], Some(&authority)),
            Some(&own),
            200,
        ),
        ("has none to show", tls_server(&authority, &["127.0.0.1"], Some(&authority)), None, 502),
        (
            "shows a stranger's",
            tls_server(&authority, &["127.0.0.1"], Some(&authority)),
            Some(&foreign),
            502,
        ),
        ("no TLS at all", ModelServer::canned(), None, 502),
    ];
    for (case, server, shown, status) in table {
        use crate::support::gate::{Folder, Gate, Namespace, Settings};
        let folder = Folder::new();
        folder.write("ca.crt", &authority.pem);
        let mut namespace = Namespace::before(format!("https://{}", server.address));
        namespace.upstream = "ca_file = \"ca.crt\"\n".into();
        if let Some(certificate) = shown {
            folder.write("client.crt", &certificate.pem);
            folder.write("client.key", &certificate.key);
            namespace
                .upstream
                .push_str("client_cert_file = \"client.crt\"\nclient_key_file = \"client.key\"\n");
        }
        folder.write("tokens.toml", tokens::standard_file());
        folder.write("faregate.toml", Settings::of(namespace).toml());
        let rig = Rig::of(Gate::start(folder), server);
        for _ in 0..2 {
            let response = rig.ask(&ask());
            assert_eq!(response.status, status, "{case}: {response:?}");
        }
        if status == 200 {
            assert_eq!(rig.server.requests()[0].field("host"), Some("models.test"));
            rig.finish(2);
        } else if case != "no TLS at all" {
            rig.finish(0);
        }
    }
}

#[test]
fn a_server_behind_tls_chooses_its_protocol() {
    let authority = Authority::new("authority");
    let config = Authority::server(&authority.sign(&["127.0.0.1"]), &["h2"], None);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        // Ends with the process of the tests; each connection ends with the gate.
        for socket in listener.incoming() {
            let (Ok(socket), config) = (socket, Arc::clone(&config)) else { return };
            std::thread::spawn(move || {
                let Ok(connection) = Connection::tls_accepted(socket, &config) else { return };
                let Some(mut http2) = Http2::server(connection) else { return };
                while http2.step() {
                    let whole = http2.streams.iter().find(|(_, message)| message.is_whole);
                    let Some(stream) = whole.map(|(stream, _)| *stream) else { continue };
                    let asked = http2.streams.remove(&stream).unwrap();
                    http2.head(stream, &[(":status", b"200"), ("x-served-by", b"model")], false);
                    http2.data(stream, asked.field(":path").unwrap().as_bytes(), true);
                }
            });
        }
    });
    use crate::support::gate::{Folder, Gate, Namespace, Settings};
    let folder = Folder::new();
    folder.write("ca.crt", &authority.pem);
    let mut namespace = Namespace::before(format!("https://{address}"));
    namespace.upstream = "ca_file = \"ca.crt\"\n".into();
    folder.write("tokens.toml", tokens::standard_file());
    folder.write("faregate.toml", Settings::of(namespace).toml());
    let rig = Rig::of(Gate::start(folder), ModelServer::canned());
    for _ in 0..3 {
        let response = rig.ask(&ask());
        assert_eq!((response.status, response.text().as_str()), (200, "/score/allowed"));
    }
    rig.finish(0);
}

#[test]
fn the_servers_own_key_is_sent_and_shown_to_nobody() {
    use crate::support::gate::{Folder, Gate, Namespace, Settings};
    let server = ModelServer::canned();
    let folder = Folder::new();
    folder.write("upstream.key", "Bearer key-of-the-model-server\n");
    let mut namespace = Namespace::before(server.url());
    namespace.upstream = "authorization = { file = \"upstream.key\" }\n".into();
    folder.write("tokens.toml", tokens::standard_file());
    folder.write("faregate.toml", Settings::of(namespace).toml());
    let rig = Rig::of(Gate::start(folder), server);
    let requests: Vec<Received> =
        [ask(), get("/open"), get("/open").with("Authorization", "Bearer x")]
            .iter()
            .map(|request| rig.assert_forwarded("key", request))
            .collect();
    for received in requests {
        assert_eq!(received.field("authorization"), Some("Bearer key-of-the-model-server"));
    }
    assert!(!String::from_utf8_lossy(&rig.gate.log()).contains("key-of-the-model-server"));
    assert!(!rig.gate.metrics().text.contains("key-of-the-model-server"));
    rig.finish(3);
}

#[test]
fn a_slow_reader_holds_up_nobody_else() {
    // 64 MiB that nobody reads.
    let sent = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&sent);
    let server = ModelServer::scripted(move |exchange| {
        if !exchange.request.target.contains("flood") {
            exchange.send(CANNED);
            return Then::KeepOpen;
        }
        exchange.send("HTTP/1.1 200 OK\r\nContent-Length: 67108864\r\n\r\n");
        for _ in 0..1024 {
            exchange.send(vec![b'x'; 65536]);
            counter.fetch_add(1, Ordering::SeqCst);
        }
        Then::KeepOpen
    });
    let rig = Rig::before(server);
    let mut stalled: Vec<_> = (0..4)
        .map(|_| {
            let mut client = rig.connect();
            client.send(get("/score/allowed?flood").token("eval").bytes());
            client.response_head();
            client
        })
        .collect();
    for _ in 0..20 {
        assert_eq!(rig.ask(&ask()).status, 200);
    }
    // The gate stops reading when its reader does: no buffer takes 256 MiB.
    let memory = std::fs::read_to_string(format!("/proc/{}/status", rig.gate.id())).unwrap();
    let resident = memory.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    let kib: u64 = resident.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(kib < 200 * 1024, "{kib} KiB resident while nobody reads");
    assert!(sent.load(Ordering::SeqCst) < 4096, "everything was taken in");
    let one = stalled.remove(0);
    drop(one);
    drop(stalled);
    rig.assert_no_leak();
}
