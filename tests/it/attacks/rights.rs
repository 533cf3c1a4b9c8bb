//! Rights that end while a request is under way.

use std::sync::Mutex;
use std::sync::mpsc;

use super::{connect, get, replace_tokens, revoke_eval, rig_before, start, wait_for_flights};
use crate::support::h2c_server::{Greeting, H2cServer};
use crate::support::http1;
use crate::support::http2::Answer;
use crate::support::model_server::{ModelServer, Then};
use crate::support::rig::Rig;
use crate::support::tokens::{self, former_secret, hash, secret};

#[test]
fn nothing_more_of_an_upload_reaches_the_server_after_a_revocation() {
    let server = H2cServer::scripted(|stream, request| match request.field(":path") {
        Some("/score/allowed?fence") => stream.answer(b"fence"),
        // Answers while it still receives, and goes on for as long as the client does.
        _ => {
            stream.head(&[(":status", b"200")], false);
            stream.data(b"first", false);
        }
    });
    let rig = rig_before(&server, "", "");
    let mut http2 = connect(&rig);
    let stream = start(&mut http2, "POST", "/score/allowed", Some("eval"), false);
    http2.data(stream, b"BEFORE", false);
    assert_eq!(http2.body_so_far(stream, 5), b"first");
    server.wait_for("/score/allowed", "comes with the data", |message| message.body == b"BEFORE");
    revoke_eval(&rig);
    let answer = http2.answer(stream);
    assert!(matches!(answer, Answer::Reset(..)), "{answer:?}");
    // A client that does not care for that.
    for _ in 0..3 {
        http2.data(stream, b"AFTER", false);
    }
    http2.data(stream, b"AFTER", true);
    // Another request follows on the same connections: what was sent before it has come by then.
    let fence = get(&mut http2, "/score/allowed?fence", Some("all"));
    let fenced = http2.answer(fence);
    assert!(matches!(fenced, Answer::Response(_) | Answer::Gone(_)), "{fenced:?}");
    let (_, seen) =
        server.wait_for("/score/allowed", "is reset", |message| message.reset.is_some());
    assert_eq!(String::from_utf8_lossy(&seen.body), "BEFORE");
    assert!(!seen.is_whole, "{seen:?}");
    wait_for_flights(&rig, 0);
    rig.finish(0);
}

#[test]
fn a_request_that_waits_for_a_place_is_not_delivered_once_it_is_refused() {
    // One stream at a time, and a second connection on which no stream is ever allowed.
    let server = H2cServer::greeting(
        |connection| if connection == 0 { Greeting::Allowing(1) } else { Greeting::Silence },
        |stream, request| {
            if request.field(":path") != Some("/score/allowed?held") {
                stream.answer(b"done");
            }
        },
    );
    let rig = rig_before(&server, "", "connect_timeout = \"8s\"\n");
    let mut http2 = connect(&rig);
    // When this one is answered the gate has read how many streams are allowed.
    let stream = get(&mut http2, "/score/allowed?warm", Some("all"));
    assert_eq!(http2.answer(stream).response().body, b"done");
    let held = get(&mut http2, "/score/allowed?held", Some("all"));
    let place = server.stream("/score/allowed?held");
    let waiting = get(&mut http2, "/score/allowed?waiting", Some("eval"));
    wait_for_flights(&rig, 2);
    revoke_eval(&rig);
    let refused = http2.answer(waiting).response();
    assert_eq!((refused.status(), refused.reason()), (401, Some("invalid_token")), "{refused:?}");
    // Now there is a place, and the next request is the one that gets it.
    place.answer(b"done");
    assert_eq!(http2.answer(held).response().body, b"done");
    let next = get(&mut http2, "/score/allowed?next", Some("all"));
    assert_eq!(http2.answer(next).response().body, b"done");
    let paths: Vec<_> = server
        .requests()
        .into_iter()
        .map(|(stream, request)| {
            (stream.connection, request.field(":path").unwrap_or_default().to_owned())
        })
        .collect();
    let expected = ["warm", "held", "next"].map(|name| (0, format!("/score/allowed?{name}")));
    assert_eq!(paths, expected);
    wait_for_flights(&rig, 0);
    rig.finish(0);
}

#[test]
fn the_end_of_a_grace_ends_streams_that_are_older_than_the_regeneration() {
    let (sender, receiver) = mpsc::channel::<&str>();
    let receiver = Mutex::new(receiver);
    let server = ModelServer::scripted(move |exchange| {
        exchange.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        while let Ok(piece) = receiver.lock().unwrap().recv() {
            exchange.send(format!("{:x}\r\n{piece}\r\n", piece.len()));
        }
        exchange.wait_until_closed();
        Then::Close
    });
    let rig = Rig::before(server);
    // The stream begins while its secret is the token's own.
    let before =
        tokens::standard_file().replace(&hash(&secret("eval")), &hash(&former_secret("eval")));
    replace_tokens(&rig, &before);
    let mut client = rig.connect();
    client.send(http1::get("/score/allowed").bearer(&former_secret("eval")).bytes());
    assert_eq!(client.response_head().0, 200);
    sender.send("one").unwrap();
    assert_eq!(client.chunk().as_deref(), Some(&b"one"[..]));
    let until = jiff::Timestamp::from_second(jiff::Timestamp::now().as_second() + 3).unwrap();
    let regenerated = tokens::standard_file().replace(
        "id = \"eval\"\n",
        &format!("id = \"eval\"\n{}", tokens::previous("eval", &until.to_string())),
    );
    replace_tokens(&rig, &regenerated);
    sender.send("two").unwrap();
    assert_eq!(client.chunk().as_deref(), Some(&b"two"[..]), "within the grace");
    drop(sender);
    // The server says nothing more: what ends it is the gate.
    assert_eq!(client.rest(), b"", "cut, not ended");
    rig.server.wait_for_ended_connections(1);
    assert!(jiff::Timestamp::now() >= until, "ended before the grace was over");
    let revoked = [("namespace", "default"), ("why", "revoked")];
    assert_eq!(rig.gate.metric("faregate_streams_ended_total", &revoked), 1.0);
    wait_for_flights(&rig, 0);
    rig.finish(1);
}
