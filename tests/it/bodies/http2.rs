//! Bodies over HTTP/2, into HTTP/1.1 and HTTP/2: however the frames cut them and end them.

use super::{AS_JSON, CHAT, connect, open, rig, rig_before_h2c, start};
use crate::support::eventually;
use crate::support::h2c_server::H2cServer;
use crate::support::http2::{Answer, Http2, flag, kind};
use crate::support::rig::Rig;

const BODY: &[u8] = br#"{"model":"allowed","prompt":"x"}"#;

/// How a body is sent.
type Way = (&'static str, fn(&mut Http2, u32, &[u8]));

const WAYS: &[Way] = &[
    ("in one frame", |http2, stream, body| http2.data(stream, body, true)),
    ("with an empty last frame", |http2, stream, body| {
        http2.data(stream, body, false);
        http2.data(stream, b"", true);
    }),
    ("with trailers", |http2, stream, body| {
        http2.data(stream, body, false);
        http2.head(stream, &[("x-checksum", b"1"), ("x-credential-identifier", b"admin")], true);
    }),
    ("byte by byte", |http2, stream, body| {
        for byte in body {
            http2.data(stream, &[*byte], false);
        }
        http2.data(stream, b"", true);
    }),
    ("between empty frames", |http2, stream, body| {
        for byte in body {
            http2.data(stream, b"", false);
            http2.data(stream, &[*byte], false);
        }
        http2.data(stream, b"", true);
    }),
    ("padded", |http2, stream, body| {
        let padded = [&[5][..], body, &[0; 5]].concat();
        http2.send(kind::DATA, flag::PADDED | flag::END_STREAM, stream, &padded);
    }),
    ("with padding alone at the end", |http2, stream, body| {
        http2.data(stream, body, false);
        http2.send(kind::DATA, flag::PADDED | flag::END_STREAM, stream, &[3, 0, 0, 0]);
    }),
];

#[test]
fn a_body_may_come_in_frames_of_any_kind() {
    let rig = rig("");
    let mut http2 = connect(&rig);
    for (case, send) in WAYS {
        let mark = rig.server.mark();
        let stream = open(&mut http2, CHAT, "eval", AS_JSON);
        send(&mut http2, stream, BODY);
        let answer = http2.answer(stream).response();
        assert_eq!(answer.status(), 200, "{case}: {answer:?}");
        let received = rig.server.since(&mark).remove(0);
        assert_eq!(received.body, BODY, "{case}");
        for (name, _) in &received.trailers {
            assert_eq!(name, "x-checksum", "{case}: {received:?}");
        }
        let stream = open(&mut http2, CHAT, "eval", AS_JSON);
        send(&mut http2, stream, br#"{"model":"secret"}"#);
        let answer = http2.answer(stream).response();
        let refused = (answer.status(), answer.reason());
        assert_eq!(refused, (403, Some("resource_not_allowed")), "{case}: {answer:?}");
    }
    rig.finish(WAYS.len());
}

#[test]
fn into_http2_too_goes_exactly_what_came() {
    let server = H2cServer::scripted(|_, _| {});
    let rig = rig_before_h2c(&server, |_| {});
    let mut http2 = connect(&rig);
    for (number, (case, send)) in WAYS.iter().enumerate() {
        let path = format!("{CHAT}?n={number}");
        let stream = open(&mut http2, &path, "eval", AS_JSON);
        send(&mut http2, stream, BODY);
        let (at_server, seen) = server.wait_for(&path, "is whole", |message| message.is_whole);
        assert_eq!(seen.body, BODY, "{case}");
        for (name, _) in &seen.trailers {
            assert_eq!(name, "x-checksum", "{case}: {seen:?}");
        }
        at_server.answer(b"done");
        assert_eq!(http2.answer(stream).response().body, b"done", "{case}");
        let stream = open(&mut http2, CHAT, "eval", AS_JSON);
        send(&mut http2, stream, br#"{"model":"secret"}"#);
        assert_eq!(http2.answer(stream).response().status(), 403, "{case}");
    }
    let came = server.requests().len();
    assert_eq!(came, WAYS.len(), "what was refused has no stream at the model server");
    rig.finish(0);
}

/// A body of no byte is none, whichever frame says so.
#[test]
fn no_body_ends_with_the_head_or_with_an_empty_frame() {
    let rig = rig("");
    let mut http2 = connect(&rig);
    for (case, path, expected) in [
        ("unnamed", CHAT, (403, Some("model_unresolved"))),
        ("named by the query", "/v1/chat/completions?model=allowed", (200, None)),
    ] {
        let stream = start(&mut http2, path, "eval", AS_JSON, true);
        let answer = http2.answer(stream).response();
        assert_eq!((answer.status(), answer.reason()), expected, "{case}, at once: {answer:?}");
        let stream = open(&mut http2, path, "eval", AS_JSON);
        http2.data(stream, b"", true);
        let answer = http2.answer(stream).response();
        assert_eq!((answer.status(), answer.reason()), expected, "{case}, after: {answer:?}");
    }
    rig.finish(2);
}

#[test]
fn a_length_that_is_not_that_of_the_data_is_no_request() {
    let rig = rig("");
    for (case, length) in [("longer", BODY.len() + 1), ("shorter", BODY.len() - 1)] {
        let mut http2 = connect(&rig);
        let length = length.to_string();
        let fields = [AS_JSON[0], ("content-length", length.as_str())];
        let stream = open(&mut http2, CHAT, "eval", &fields);
        http2.data(stream, BODY, true);
        match http2.answer(stream) {
            Answer::Response(answer) => assert_eq!(answer.status(), 400, "{case}: {answer:?}"),
            Answer::Reset(..) | Answer::Gone(_) => {}
        }
    }
    rig.finish(0);
}

/// Sends a request that is answered, so that whatever came before has been dealt with.
fn fence(rig: &Rig, http2: &mut Http2) {
    let stream = open(http2, CHAT, "eval", AS_JSON);
    http2.data(stream, BODY, true);
    assert_eq!(http2.answer(stream).response().status(), 200);
    assert_eq!(rig.server.requests().len(), 1, "the fence alone");
}

#[test]
fn a_stream_that_is_reset_leaves_nothing() {
    for code in [0_u32, 2, 8] {
        let rig = rig("");
        let mut http2 = connect(&rig);
        // All of the model was said, and not that it was all.
        let stream = open(&mut http2, CHAT, "eval", AS_JSON);
        http2.data(stream, BODY, false);
        http2.send(kind::RST_STREAM, 0, stream, &code.to_be_bytes());
        let other = open(&mut http2, CHAT, "eval", AS_JSON);
        http2.send(kind::RST_STREAM, 0, other, &code.to_be_bytes());
        fence(&rig, &mut http2);
        rig.finish(1);
    }
}

#[test]
fn streams_are_judged_each_by_its_own_body() {
    let rig = rig("");
    let mut http2 = connect(&rig);
    let bodies: Vec<&[u8]> = (0..40)
        .map(|n| if n % 2 == 0 { BODY } else { &br#"{"model":"secret","prompt":"x"} "#[..] })
        .collect();
    let streams: Vec<u32> =
        bodies.iter().map(|_| open(&mut http2, CHAT, "eval", AS_JSON)).collect();
    for place in 0..BODY.len() {
        for (stream, body) in streams.iter().zip(&bodies) {
            http2.data(*stream, &body[place..=place], false);
        }
    }
    for (stream, body) in streams.iter().zip(&bodies) {
        http2.data(*stream, &body[BODY.len()..], true);
    }
    for (n, stream) in streams.iter().enumerate() {
        let status = http2.answer(*stream).response().status();
        assert_eq!(status, if n % 2 == 0 { 200 } else { 403 }, "stream {n}");
    }
    assert!(rig.server.requests().iter().all(|received| received.body == BODY));
    rig.finish(20);
}

/// A connection that ends takes its held bodies with it.
#[test]
fn a_connection_that_ends_in_the_middle_leaves_nothing() {
    let rig = rig("inspect_body_bytes = \"2KiB\"\ninspect_total_bytes = \"2KiB\"\n");
    let large = format!("{}{}", " ".repeat(1500), r#"{"model":"allowed"}"#);
    let mut http2 = connect(&rig);
    let stream = open(&mut http2, CHAT, "eval", AS_JSON);
    http2.data(stream, &large.as_bytes()[..1400], false);
    http2.connection.reset();
    eventually("there is room again", || {
        let mut http2 = connect(&rig);
        let stream = open(&mut http2, CHAT, "eval", AS_JSON);
        http2.data(stream, large.as_bytes(), true);
        (http2.answer(stream).response().status() == 200).then_some(())
    });
    rig.finish(1);
}
