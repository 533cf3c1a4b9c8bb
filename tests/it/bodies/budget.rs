//! How much of bodies is held: up to the limit of each and of all together, and given back.

use super::grpc::{AS_GRPC, INFER, STREAM, framed, infer, text};
use super::{
    AS_JSON, CHAT, chunk, chunked, chunked_head, connect, heard_to_go_on, held_by, json, open, rig,
    rig_before, rig_before_h2c, rig_with,
};
use crate::support::eventually;
use crate::support::h2c_server::H2cServer;
use crate::support::http1::{Client, post};
use crate::support::http2::{Http2, kind};
use crate::support::model_server::{ModelServer, Then};
use crate::support::rig::Rig;

/// A body of this length that names a model, with white space at its end.
fn body_of(model: &str, length: usize) -> String {
    let body = format!("{{\"model\":\"{model}\"}}");
    format!("{body}{}", " ".repeat(length - body.len()))
}

#[test]
fn the_limit_of_a_body_is_the_last_byte_that_passes() {
    let rig = rig("inspect_body_bytes = \"1KiB\"\n");
    let mut http2 = connect(&rig);
    let mut client = rig.connect();
    let mut passed = 0;
    for (length, passes) in [(1023, true), (1024, true), (1025, false), (100_000, false)] {
        let body = body_of("allowed", length);
        let (status, reason) = if passes { (200, None) } else { (413, Some("body_too_large")) };
        let announced = client.ask(&json(CHAT, &body));
        assert_eq!((announced.status, announced.reason()), (status, reason), "{length} announced");
        for size in [length, 100] {
            client.send(chunked(&json(CHAT, ""), body.as_bytes(), size));
            let answer = client.response();
            assert_eq!((answer.status, answer.reason()), (status, reason), "{length} in chunks");
        }
        if length < 10_000 {
            let stream = open(&mut http2, CHAT, "eval", AS_JSON);
            for piece in body.as_bytes().chunks(100) {
                http2.data(stream, piece, false);
            }
            http2.data(stream, b"", true);
            let answer = http2.answer(stream).response();
            assert_eq!((answer.status(), answer.reason()), (status, reason), "{length}, HTTP/2");
        }
        passed += if passes { 4 } else { 0 };
    }
    // A model that was found early says nothing of what follows.
    let far = format!("{{\"model\":\"allowed\"{},\"model\":\"secret\"}}", " ".repeat(2000));
    rig.assert_refused("a second beyond the limit", &json(CHAT, &far), 413, "body_too_large");
    // Bodies that are not read have no such limit.
    let large = body_of("allowed", 100_000);
    let received = rig.assert_forwarded("not read", &post("/score/allowed", &large).token("eval"));
    assert_eq!(received.body.len(), 100_000);
    rig.finish(passed + 1);
}

/// Nobody waits for the end of what is too large already.
#[test]
fn a_body_without_end_is_refused_at_the_limit() {
    let rig = rig("inspect_body_bytes = \"1KiB\"\n");
    let body = body_of("allowed", 1025);
    let mut client = rig.connect();
    client.send([chunked_head(&json(CHAT, "")), chunk(body.as_bytes())].concat());
    let answer = client.response();
    assert_eq!((answer.status, answer.reason()), (413, Some("body_too_large")));
    let mut http2 = connect(&rig);
    let stream = open(&mut http2, CHAT, "eval", AS_JSON);
    http2.data(stream, body.as_bytes(), false);
    let answer = http2.answer(stream).response();
    assert_eq!((answer.status(), answer.reason()), (413, Some("body_too_large")));
    // Nor of what is wrong already.
    let stream = open(&mut http2, CHAT, "eval", AS_JSON);
    http2.data(stream, b"{]", false);
    let answer = http2.answer(stream).response();
    assert_eq!((answer.status(), answer.reason()), (400, Some("bad_body")));
    rig.finish(0);
}

/// A body that is read counts as a request in flight.
#[test]
fn bodies_under_way_are_requests_under_way() {
    let rig = rig("max_requests_in_flight = 1\n");
    let body = body_of("allowed", 100);
    let mut held = heard_to_go_on(&rig, &json(CHAT, &body));
    let mut client = rig.connect();
    for _ in 0..2 {
        let response = client.ask(&json(CHAT, &body));
        assert_eq!((response.status, response.reason()), (503, Some("overloaded")));
    }
    held.send(&body);
    assert_eq!(held.response().status, 200);
    eventually("there is a place again", || {
        let response = client.ask(&json(CHAT, &body));
        (response.status == 200).then_some(())
    });
    rig.finish(2);
}

const ROOM: &str = "inspect_body_bytes = \"4KiB\"\ninspect_total_bytes = \"4KiB\"\n";

/// Asks until all of the room is free again: this body needs every byte of it.
fn wait_for_all_room(case: &str, rig: &Rig) {
    eventually(&format!("all room is given back: {case}"), || {
        let response = rig.ask(&json(CHAT, body_of("allowed", 4096)));
        match response.status {
            503 => {
                assert_eq!(response.reason(), Some("overloaded"), "{case}: {response:?}");
                None
            }
            status => {
                assert_eq!(status, 200, "{case}: {response:?}");
                Some(())
            }
        }
    });
}

/// Whether somebody has taken of the room.
fn lacks_room(rig: &Rig) -> bool {
    let response = rig.ask(&json(CHAT, body_of("allowed", 4096)));
    if response.status == 503 {
        assert_eq!(response.field("retry-after"), Some("1"), "{response:?}");
    }
    response.status == 503
}

/// A client whose body has come but for the last byte.
fn holding(rig: &Rig, body: &str) -> Client {
    let start = || {
        let mut client = heard_to_go_on(rig, &json(CHAT, body));
        client.send(&body[..body.len() - 1]);
        client
    };
    held_by(start, || lacks_room(rig))
}

/// How a client goes on that has sent all but the last byte of this body.
type Ending = fn(Client, &str);

#[test]
fn room_is_given_back_however_a_body_ends() {
    let rig = rig(ROOM);
    let good = body_of("allowed", 100);
    let cases: [(&str, &str, Ending); 5] = [
        ("forwarded", &good, |mut client, body| {
            client.send(&body[body.len() - 1..]);
            assert_eq!(client.response().status, 200);
        }),
        ("refused for its model", r#"{"model":"secret"}"#, |mut client, body| {
            client.send(&body[body.len() - 1..]);
            assert_eq!(client.response().status, 403);
        }),
        ("refused for its form", r#"{"model":"allowed"]"#, |mut client, body| {
            client.send(&body[body.len() - 1..]);
            assert_eq!(client.response().status, 400);
        }),
        ("ended", &good, |mut client, _| {
            client.connection.finish_sending();
            client.rest();
        }),
        ("reset", &good, |client, _| client.connection.reset()),
    ];
    for (case, body, end) in cases {
        end(holding(&rig, body), body);
        wait_for_all_room(case, &rig);
    }
    // HTTP/2: a stream that is reset, and a connection that ends.
    let hold = |rig: &Rig| -> (Http2, u32) {
        let mut http2 = connect(rig);
        let mut start = || {
            let stream = open(&mut http2, CHAT, "eval", AS_JSON);
            http2.data(stream, &good.as_bytes()[..99], false);
            stream
        };
        let mut stream = start();
        // Whoever finds no room because somebody looked for some tries again.
        eventually("a stream holds of the room", || {
            if lacks_room(rig) {
                return Some(());
            }
            stream = start();
            None
        });
        (http2, stream)
    };
    for code in [0_u32, 8] {
        let (mut http2, last) = hold(&rig);
        for stream in (1..=last).step_by(2) {
            http2.send(kind::RST_STREAM, 0, stream, &code.to_be_bytes());
        }
        wait_for_all_room("a stream that was reset", &rig);
    }
    let (http2, _) = hold(&rig);
    http2.connection.reset();
    wait_for_all_room("a connection that ended", &rig);
    rig.assert_no_leak();
}

#[test]
fn room_is_given_back_by_who_does_not_go_on() {
    let rig = rig(&format!("{ROOM}body_idle_timeout = \"300ms\"\n"));
    let body = body_of("allowed", 4096);
    for _ in 0..3 {
        let mut client = heard_to_go_on(&rig, &json(CHAT, &body));
        client.send(&body[..4095]);
        assert_eq!(client.response().status, 408);
        wait_for_all_room("not gone on with", &rig);
    }
    rig.finish(3);
}

#[test]
fn room_is_given_back_when_the_model_server_fails() {
    // Refuses the connection, closes it without an answer, in the middle of one, and answers early.
    let server = ModelServer::scripted(|exchange| {
        let fails = exchange.request.field("x-fail").map(str::to_owned);
        match fails.as_deref() {
            Some("close") => return Then::Close,
            Some("reset") => return Then::Reset,
            Some("half") => {
                exchange.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf");
                return Then::Close;
            }
            Some("early") => {
                exchange.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
                return Then::Close;
            }
            Some("nonsense") => {
                exchange.send("nonsense\r\n\r\n");
                return Then::Close;
            }
            _ => {}
        }
        if exchange.whole().is_none() {
            return Then::Close;
        }
        exchange.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        Then::KeepOpen
    });
    let rig = rig_before(server, ROOM);
    for fail in ["close", "reset", "half", "early", "nonsense"] {
        for _ in 0..3 {
            let request = json(CHAT, body_of("allowed", 4096)).with("X-Fail", fail);
            let mut client = rig.connect();
            client.send(request.bytes());
            // An answer that breaks off may end the connection before its head is out.
            let status = client.response_or_end("POST").map(|response| response.status);
            assert!(matches!(status, None | Some(200 | 502)), "{fail}: {status:?}");
        }
        wait_for_all_room(fail, &rig);
    }
    rig.assert_no_leak();
    // Nobody listens there.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let rig = rig_with(ModelServer::canned(), |settings| {
        settings.limits = ROOM.into();
        settings.namespaces[0].endpoints = vec![format!("http://{free}")];
    });
    for _ in 0..5 {
        let response = rig.ask(&json(CHAT, body_of("allowed", 4096)));
        assert_eq!((response.status, response.reason()), (502, Some("upstream_unreachable")));
    }
    rig.finish(0);
}

/// Who finds no room hears so, and may try again on the same connection.
#[test]
fn a_lack_of_room_costs_no_connection() {
    let rig = rig(ROOM);
    let held = holding(&rig, &body_of("allowed", 100));
    let mut client = rig.connect();
    for _ in 0..3 {
        let response = client.ask(&json(CHAT, body_of("allowed", 4096)));
        assert_eq!((response.status, response.reason()), (503, Some("overloaded")));
    }
    drop(held);
    eventually("there is room again", || {
        let response = client.ask(&json(CHAT, body_of("allowed", 4096)));
        (response.status == 200).then_some(())
    });
    rig.assert_no_leak();
}

/// While the model server takes its time, what it has received is no longer held.
#[test]
fn what_has_been_delivered_takes_no_room() {
    let server = H2cServer::scripted(|_, _| {});
    let rig = rig_before_h2c(&server, |settings| settings.limits = ROOM.into());
    let mut http2 = connect(&rig);
    let body = body_of("allowed", 4096);
    let streams: Vec<(u32, String)> = (0..4)
        .map(|number| {
            let path = format!("{CHAT}?n={number}");
            let stream = open(&mut http2, &path, "eval", AS_JSON);
            http2.data(stream, body.as_bytes(), true);
            server.wait_for(&path, "is whole", |message| message.is_whole);
            (stream, path)
        })
        .collect();
    for (stream, path) in streams {
        server.stream(&path).answer(b"done");
        assert_eq!(http2.answer(stream).response().body, b"done");
    }
    rig.finish(0);
}

#[test]
fn messages_take_of_the_room_while_they_are_judged() {
    let server = H2cServer::scripted(|_, _| {});
    let rig = rig_before_h2c(&server, |settings| settings.limits = ROOM.into());
    let mut http2 = connect(&rig);
    let large =
        |model: &str| framed(&[&text(1, model)[..], &[0x2a, 0x80, 0x10], &[b'x'; 2048]].concat());
    let message = large("allowed");
    // Two calls hold a message each but for its last byte: one is opened by it, one runs already.
    let first = format!("{INFER}?first");
    let opened = open(&mut http2, &first, "eval", AS_GRPC);
    http2.data(opened, &message[..message.len() - 1], false);
    let later = format!("{STREAM}?later");
    let running = open(&mut http2, &later, "eval", AS_GRPC);
    http2.data(running, &infer("allowed"), false);
    let (at_server, _) = server.wait_for(&later, "comes", |message| !message.body.is_empty());
    at_server.head(&[(":status", b"200"), ("content-type", b"application/grpc")], false);
    http2.answer_head(running);
    http2.data(running, &message[..message.len() - 1], false);
    let ended = http2.answer(running);
    super::grpc::assert_ended("no room", ended, "14", "overloaded");
    let (_, seen) = server.wait_for(&later, "is reset", |message| message.reset.is_some());
    assert_eq!(seen.body, infer("allowed"));
    // The other goes on, and so does everything once it is through.
    http2.data(opened, &message[message.len() - 1..], true);
    let (at_server, seen) = server.wait_for(&first, "is whole", |message| message.is_whole);
    assert_eq!(seen.body, message);
    super::grpc::succeed(&at_server);
    assert_eq!(http2.answer(opened).response().status(), 200);
    let whole = format!("{CHAT}?whole");
    let stream = open(&mut http2, &whole, "eval", AS_JSON);
    http2.data(stream, body_of("allowed", 4096).as_bytes(), true);
    server.wait_for(&whole, "is whole", |message| message.is_whole);
    server.stream(&whole).answer(b"done");
    assert_eq!(http2.answer(stream).response().body, b"done");
    rig.finish(0);
}

/// The resident memory of a process, in KiB.
fn resident(rig: &Rig) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", rig.gate.id())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// Many large bodies at one time: what is over the room is told so, and the memory follows the room.
#[test]
fn many_large_bodies_take_no_more_than_the_room() {
    const CLIENTS: usize = 64;
    const LENGTH: usize = 8 << 20;
    let rig = rig_with(ModelServer::canned(), |settings| {
        settings.limits = "inspect_total_bytes = \"64MiB\"\n".into();
        settings.log = "level = \"info\"\naccess = \"off\"\n".into();
    });
    let before = resident(&rig);
    let body = body_of("allowed", LENGTH);
    let statuses: Vec<Option<u16>> = std::thread::scope(|scope| {
        let asking: Vec<_> = (0..CLIENTS)
            .map(|_| {
                scope.spawn(|| {
                    let mut client = rig.connect();
                    let request = json(CHAT, "").bytes();
                    let head = String::from_utf8(request).unwrap();
                    let head =
                        head.replace("Content-Length: 0", &format!("Content-Length: {LENGTH}"));
                    client.send(head);
                    client.send(&body[..LENGTH - 1]);
                    client.send(&body[LENGTH - 1..]);
                    client.response_or_end("POST").map(|response| response.status)
                })
            })
            .collect();
        asking.into_iter().map(|client| client.join().unwrap()).collect()
    });
    let after = resident(&rig);
    let served = statuses.iter().filter(|status| **status == Some(200)).count();
    let told = statuses.iter().filter(|status| **status == Some(503)).count();
    eprintln!(
        "resident memory {before} KiB before, {after} KiB after {CLIENTS} bodies of 8 MiB in a room \
         of 64 MiB: {served} served, {told} told to come back"
    );
    assert!(served >= 1, "{statuses:?}");
    assert_eq!(rig.server.requests().len(), served, "{statuses:?}");
    // All of the room is there for as many as fit in it.
    for _ in 0..2 {
        assert_eq!(rig.ask(&json(CHAT, &body)).status, 200);
    }
    // Less than half of what came.
    assert!(after < before + (CLIENTS * LENGTH / 2 / 1024) as u64, "{after} KiB");
    rig.assert_no_leak();
}
