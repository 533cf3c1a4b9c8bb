//! Bodies that were judged and cannot leave, or leave for another place.

use std::io::Write as _;
use std::net::TcpListener;

use super::grpc::{
    AS_GRPC, STREAM, assert_ended, assert_refused, framed, infer, numbered, succeed, text,
};
use super::{
    AS_JSON, CHAT, chunk, chunked_head, connect, held_by, json, open, rig_before_h2c, rig_with,
};
use crate::support::eventually;
use crate::support::h2c_server::H2cServer;
use crate::support::http1::{find, only, post};
use crate::support::http2::{frame, kind};
use crate::support::model_server::{CANNED_BODY, ModelServer, Then};
use crate::support::rig::Rig;
use crate::support::transport::{Came, Connection};

const LENGTH: usize = 200 * 1024;

fn large(model: &str) -> String {
    let body = format!("{{\"model\":\"{model}\"}}");
    format!("{body}{}", " ".repeat(LENGTH - body.len()))
}

/// A model server that speaks HTTP/2, takes the first 65 535 bytes of a body and no more.
fn stalled_http2() -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for socket in listener.incoming() {
            let Ok(mut socket) = socket else { return };
            std::thread::spawn(move || {
                drop(socket.write_all(&frame(kind::SETTINGS, 0, 0, &[])));
                let mut connection = Connection::over(socket);
                while matches!(connection.read_once(), Came::Bytes(_)) {}
            });
        }
    });
    address
}

/// Whether there is room for a body of this length, of a model that is refused anyway.
fn has_room(rig: &Rig) -> bool {
    match rig.ask(&json(CHAT, large("secret"))).status {
        403 => true,
        503 => false,
        other => panic!("{other}"),
    }
}

const ROOM: &str = "inspect_body_bytes = \"256KiB\"\ninspect_total_bytes = \"256KiB\"\n";

/// The client of a model server that takes nothing goes away, or is sent away: what was held for it
/// is not held on.
#[test]
fn what_a_stalled_server_does_not_take_is_not_held_for_nobody() {
    let stalled = stalled_http2();
    for (case, timeout) in [("goes", "10m"), ("is sent away", "1s")] {
        let rig = rig_with(ModelServer::canned(), |settings| {
            settings.limits = ROOM.into();
            settings.log = "level = \"info\"\naccess = \"all\"\n".into();
            settings.namespaces[0].endpoints = vec![format!("h2c://{stalled}")];
            settings.namespaces[0].upstream = format!("response_timeout = \"{timeout}\"\n");
        });
        let start = || {
            let mut client = rig.connect();
            client.send(json(CHAT, large("allowed")).bytes());
            client
        };
        if case == "goes" {
            held_by(start, || !has_room(&rig)).connection.reset();
        } else {
            assert_eq!(start().response().status, 504);
        }
        eventually(&format!("there is room again: the client {case}"), || {
            has_room(&rig).then_some(())
        });
        rig.finish(0);
    }
}

#[test]
fn a_body_goes_whole_to_the_endpoint_that_lives() {
    let dead = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let server = ModelServer::canned();
    let live = server.url();
    let rig = rig_with(server, |settings| {
        settings.namespaces[0].endpoints = vec![format!("http://{dead}"), live];
    });
    let body = large("allowed");
    for _ in 0..8 {
        let received = rig.assert_forwarded("with a dead one", &json(CHAT, &body));
        assert!(received.body == body.as_bytes());
    }
    rig.finish(8);
}

/// A server that closes its connections without a word: each body arrives once, or not at all.
#[test]
fn a_body_on_a_connection_that_was_closed_is_sent_at_most_once() {
    let server = ModelServer::scripted(|exchange| {
        if exchange.whole().is_some() {
            exchange.send(crate::support::model_server::CANNED);
        }
        Then::Close
    });
    let rig = rig_with(server, |_| {});
    let mut served = 0;
    let mut client = rig.connect();
    for number in 0..20 {
        let body = format!("{{\"model\":\"allowed\",\"n\":{number}}}");
        let answer = client.ask(&json(CHAT, &body));
        assert!(matches!(answer.status, 200 | 502), "{answer:?}");
        served += usize::from(answer.status == 200);
        let came = rig.server.requests();
        let same = came.iter().filter(|received| received.body == body.as_bytes()).count();
        assert_eq!(same, usize::from(answer.status == 200), "{number}");
    }
    rig.finish(served);
}

/// The model that the body names decides where the request goes.
#[test]
fn the_model_in_the_body_chooses_the_server() {
    let other = ModelServer::answering("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nother");
    let elsewhere = other.url();
    let rig = rig_with(ModelServer::canned(), |settings| {
        let table =
            format!("[[namespace.model]]\nresource = \"pre-*\"\nendpoints = [\"{elsewhere}\"]\n");
        settings.namespaces[0].tables.push_str(&table);
    });
    let mut client = rig.connect();
    for (model, answer) in [("allowed", CANNED_BODY), ("pre-a", "other"), ("allowed", CANNED_BODY)]
    {
        let body = format!("{{\"model\":\"{model}\"}}");
        assert_eq!(client.ask(&json(CHAT, &body)).text(), answer, "{model}");
    }
    assert_eq!(other.requests().len(), 1);
    assert_eq!(other.requests()[0].body, br#"{"model":"pre-a"}"#);
    rig.finish(2);
}

/// gRPC over HTTP/1.1, which no client speaks: it opens nothing either.
#[test]
fn messages_over_http1_are_judged_too() {
    let rig = rig_with(ModelServer::canned(), |_| {});
    let request = || post(STREAM, "").token("eval").with("Content-Type", "application/grpc");
    let ask = |body: &[u8]| {
        let mut client = rig.connect();
        client.send([&chunked_head(&request())[..], &chunk(body), b"0\r\n\r\n"].concat());
        client.response_or_end("POST")
    };
    let good = [infer("allowed"), infer("pre-a")].concat();
    assert_eq!(ask(&good).unwrap().status, 200);
    assert_eq!(rig.server.requests()[0].body, good);
    let refused = ask(&infer("secret")).unwrap();
    assert_eq!((refused.status, refused.field("grpc-status")), (200, Some("7")), "{refused:?}");
    let refused = ask(&[infer("allowed"), infer("secret")].concat());
    if let Some(refused) = refused {
        assert_eq!(refused.field("grpc-status"), Some("7"), "{refused:?}");
    }
    let bytes = rig.server.bytes();
    assert_eq!(find(&bytes, b"secret"), None);
    rig.finish(1);
}

#[test]
fn a_message_that_names_none_is_about_the_default() {
    let server = H2cServer::scripted(|_, _| {});
    let unnamed = framed(&text(3, "id"));
    for (default, passes) in [("allowed", true), ("secret", false)] {
        let rig = rig_before_h2c(&server, |settings| {
            settings.namespaces[0].keys = format!("default_model = \"{default}\"\n");
        });
        let mut http2 = connect(&rig);
        let first = format!("{STREAM}?first-{default}");
        let stream = open(&mut http2, &first, "eval", AS_GRPC);
        http2.data(stream, &unnamed, true);
        let later = format!("{STREAM}?later-{default}");
        let running = open(&mut http2, &later, "eval", AS_GRPC);
        http2.data(running, &infer("allowed"), false);
        let (at_server, _) = server.wait_for(&later, "comes", |m| !m.body.is_empty());
        at_server.head(&[(":status", b"200"), ("content-type", b"application/grpc")], false);
        http2.answer_head(running);
        http2.data(running, &unnamed, true);
        if passes {
            let (at_server, seen) = server.wait_for(&first, "is whole", |m| m.is_whole);
            assert_eq!(seen.body, unnamed);
            succeed(&at_server);
            assert_eq!(http2.answer(stream).response().status(), 200);
            let (_, seen) = server.wait_for(&later, "is whole", |m| m.is_whole);
            assert_eq!(seen.body, [infer("allowed"), unnamed.clone()].concat());
        } else {
            assert_refused("the first", http2.answer(stream), "7", "resource_not_allowed");
            assert_ended("a later one", http2.answer(running), "7", "resource_not_allowed");
            let (_, seen) = server.wait_for(&later, "is reset", |m| m.reset.is_some());
            assert_eq!(seen.body, infer("allowed"));
        }
        rig.finish(0);
    }
}

/// What was let through while nothing was enforced goes on no further once it is.
#[test]
fn a_call_hears_that_its_policy_is_enforced_now() {
    let server = H2cServer::scripted(|_, _| {});
    let rig = rig_before_h2c(&server, |settings| {
        settings.namespaces[0].keys = "enforce = false\n".into();
    });
    let mut http2 = connect(&rig);
    let calls: Vec<(String, u32, Vec<u8>)> = ["secret", "allowed"]
        .into_iter()
        .enumerate()
        .map(|(number, model)| {
            let path = numbered(STREAM, number);
            let stream = open(&mut http2, &path, "eval", AS_GRPC);
            let sent = [infer(model), infer("secret")].concat();
            http2.data(stream, &sent, false);
            let (at_server, _) = server.wait_for(&path, "has both", |m| m.body == sent);
            at_server.head(&[(":status", b"200"), ("content-type", b"application/grpc")], false);
            http2.answer_head(stream);
            (path, stream, sent)
        })
        .collect();
    let settings = std::fs::read_to_string(rig.gate.folder.path("faregate.toml")).unwrap();
    rig.gate.folder.replace("faregate.toml", settings.replace("enforce = false", "enforce = true"));
    rig.gate.wait_for_event("message", "settings in force");
    for (path, stream, sent) in calls {
        http2.data(stream, &infer("secret"), false);
        assert_ended(&path, http2.answer(stream), "7", "resource_not_allowed");
        let (_, seen) = server.wait_for(&path, "is reset", |m| m.reset.is_some());
        assert_eq!(seen.body, sent, "{path}");
    }
    rig.assert_no_leak();
}

/// A model server may end its answer while the client still sends: the body that was judged is not
/// sent to its end, and the next request on the connection is one of its own.
#[test]
fn an_answer_before_the_body_was_taken_ends_the_upload() {
    let server = ModelServer::scripted(|exchange| {
        exchange.send(
            "HTTP/1.1 413 Payload Too Large\r\nContent-Length: 3\r\nConnection: close\r\n\r\nno!",
        );
        Then::Close
    });
    let rig = rig_with(server, |_| {});
    let mut client = rig.connect();
    for _ in 0..3 {
        let body = format!("{{\"model\":\"allowed\"}}{}", " ".repeat(4 << 20));
        let answer = client.ask(&json(CHAT, &body));
        assert!(matches!(answer.status, 413 | 502), "{answer:?}");
    }
    assert_eq!(client.ask(&json(CHAT, r#"{"model":"secret"}"#)).status, 403);
    let mut http2 = connect(&rig);
    let stream = open(&mut http2, CHAT, "eval", AS_JSON);
    http2.data(stream, br#"{"model":"allowed"}"#, true);
    assert_eq!(http2.answer(stream).response().status(), 413);
    assert_eq!(
        only(&rig.server.unfinished().first().map_or(Vec::new(), |r| r.fields.clone()), "te"),
        None
    );
    rig.assert_no_leak();
}
