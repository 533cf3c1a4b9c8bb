//! gRPC calls: each message is judged before any byte of it goes on.

use super::{connect, open, rig_before_h2c, start};
use crate::support::gate::Settings;
use crate::support::h2c_server::{H2cServer, Stream};
use crate::support::http1::only;
use crate::support::http2::{Answer, Http2, Message, kind};
use crate::support::rig::Rig;

pub(super) const INFER: &str = "/inference.GRPCInferenceService/ModelInfer";
pub(super) const STREAM: &str = "/inference.GRPCInferenceService/ModelStreamInfer";
const LOAD: &str = "/inference.GRPCInferenceService/RepositoryModelLoad";
const UNLOAD: &str = "/inference.GRPCInferenceService/RepositoryModelUnload";

pub(super) const AS_GRPC: &[(&str, &str)] =
    &[("content-type", "application/grpc"), ("te", "trailers")];

/// A field whose value is text.
pub(super) fn text(number: u8, value: &str) -> Vec<u8> {
    let length = u8::try_from(value.len()).unwrap();
    assert!(length < 128);
    [&[number << 3 | 2, length][..], value.as_bytes()].concat()
}

/// A message with its prefix, not compressed.
pub(super) fn framed(message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).unwrap();
    [&[0][..], &length.to_be_bytes(), message].concat()
}

/// A `ModelInferRequest` of this model: its name, a version, an id, an input.
pub(super) fn infer(model: &str) -> Vec<u8> {
    framed(&[text(1, model), text(2, "1"), text(3, "id"), text(5, "input")].concat())
}

fn h2c() -> H2cServer {
    H2cServer::scripted(|_, _| {})
}

pub(super) fn before(server: &H2cServer) -> Rig {
    rig_before_h2c(server, |_| {})
}

fn with_limit(server: &H2cServer) -> Rig {
    rig_before_h2c(server, |settings: &mut Settings| {
        settings.limits = "inspect_body_bytes = \"1KiB\"\n".into();
    })
}

/// An answer of one message, with trailers.
pub(super) fn succeed(stream: &Stream) {
    stream.head(&[(":status", b"200"), ("content-type", b"application/grpc")], false);
    stream.data(&framed(b"answer"), false);
    stream.head(&[("grpc-status", b"0"), ("x-model", b"kept")], true);
}

fn assert_success(case: &str, answer: Answer) {
    let answer = answer.response();
    assert_eq!(answer.status(), 200, "{case}: {answer:?}");
    assert_eq!(answer.body, framed(b"answer"), "{case}");
    assert_eq!(only(&answer.trailers, "grpc-status"), Some("0"), "{case}: {answer:?}");
    assert_eq!(only(&answer.trailers, "x-model"), Some("kept"), "{case}: {answer:?}");
}

/// The status of a call that ended before anything was answered, in the head alone.
#[track_caller]
pub(super) fn assert_refused(case: &str, answer: Answer, status: &str, reason: &str) {
    let answer = answer.response();
    assert_eq!(answer.status(), 200, "{case}: {answer:?}");
    assert!(answer.is_head_only && answer.body.is_empty(), "{case}: {answer:?}");
    assert_eq!(answer.field("content-type"), Some("application/grpc"), "{case}: {answer:?}");
    assert_eq!(answer.field("grpc-status"), Some(status), "{case}: {answer:?}");
    assert_eq!(answer.reason(), Some(reason), "{case}: {answer:?}");
    assert!(answer.field("grpc-message").is_some_and(|text| !text.is_empty()), "{case}");
}

/// The status of a call that was refused while it was answered, in its trailers.
#[track_caller]
pub(super) fn assert_ended(case: &str, answer: Answer, status: &str, reason: &str) {
    let message = match answer {
        Answer::Response(message) => message,
        other => panic!("{case}: {other:?}"),
    };
    assert_eq!(only(&message.trailers, "grpc-status"), Some(status), "{case}: {message:?}");
    assert_eq!(only(&message.trailers, "faregate-reason"), Some(reason), "{case}: {message:?}");
    assert!(only(&message.trailers, "grpc-message").is_some(), "{case}: {message:?}");
}

/// A path of its own for each call, by which the server's side of it is found.
pub(super) fn numbered(path: &str, number: usize) -> String {
    format!("{path}?n={number}")
}

fn has(message: &Message, bytes: &[u8]) -> bool {
    message.body.len() >= bytes.len()
}

#[test]
fn a_message_cut_anywhere_arrives_as_it_was() {
    let server = h2c();
    let rig = before(&server);
    let mut http2 = connect(&rig);
    let message = infer("allowed");
    let mut number = 0;
    let mut call = |http2: &mut Http2, case: &str, pieces: &[&[u8]]| {
        number += 1;
        let path = numbered(INFER, number);
        let stream = open(http2, &path, "eval", AS_GRPC);
        for piece in pieces {
            http2.data(stream, piece, false);
        }
        http2.data(stream, b"", true);
        let (at_server, seen) = server.wait_for(&path, "is whole", |message| message.is_whole);
        assert_eq!(seen.body, message, "{case}");
        assert_eq!(seen.field("te"), Some("trailers"), "{case}: {seen:?}");
        succeed(&at_server);
        assert_success(case, http2.answer(stream));
    };
    for place in 0..=message.len() {
        let (start, end) = message.split_at(place);
        call(&mut http2, &format!("cut at {place}"), &[start, end]);
    }
    let bytes: Vec<&[u8]> = message.chunks(1).collect();
    call(&mut http2, "byte by byte", &bytes);
    rig.finish(0);
}

#[test]
fn nothing_of_a_message_goes_before_its_end() {
    let server = h2c();
    let rig = before(&server);
    let mut http2 = connect(&rig);
    let first = infer("allowed");
    let held = numbered(STREAM, 0);
    let stream = open(&mut http2, &held, "eval", AS_GRPC);
    // All but the last byte: there is no call at the server yet.
    http2.data(stream, &first[..first.len() - 1], false);
    let fence = |http2: &mut Http2, number: usize| {
        let path = numbered(INFER, number);
        let stream = open(http2, &path, "eval", AS_GRPC);
        http2.data(stream, &infer("pre-x"), true);
        let (at_server, _) = server.wait_for(&path, "is whole", |message| message.is_whole);
        succeed(&at_server);
        assert_success("the fence", http2.answer(stream));
    };
    fence(&mut http2, 1);
    assert_eq!(server.requests().len(), 1, "the fence alone");
    http2.data(stream, &first[first.len() - 1..], false);
    server.wait_for(&held, "has the first message", |message| message.body == first);
    // The same of the second, on the call that runs already.
    let second = infer("pre-y");
    for (number, byte) in second[..second.len() - 1].iter().enumerate() {
        http2.data(stream, &[*byte], false);
        if number % 8 == 0 {
            fence(&mut http2, 2 + number);
            let (_, seen) = server.wait_for(&held, "is there", |_| true);
            assert_eq!(seen.body, first, "after {} bytes of the second", number + 1);
        }
    }
    http2.data(stream, &second[second.len() - 1..], true);
    let both = [first, second].concat();
    let (at_server, seen) = server.wait_for(&held, "is whole", |message| message.is_whole);
    assert_eq!(seen.body, both);
    succeed(&at_server);
    assert_success("the call", http2.answer(stream));
    rig.finish(0);
}

#[test]
fn several_messages_may_come_in_one_frame() {
    let server = h2c();
    let rig = before(&server);
    let mut http2 = connect(&rig);
    let all: Vec<u8> =
        ["allowed", "pre-a", "pre-b", "allowed"].map(infer).into_iter().flatten().collect();
    for (number, size) in [all.len(), 50, 17, 5, 1].into_iter().enumerate() {
        let path = numbered(STREAM, number);
        let stream = open(&mut http2, &path, "eval", AS_GRPC);
        for piece in all.chunks(size) {
            http2.data(stream, piece, false);
        }
        http2.data(stream, b"", true);
        let (at_server, seen) = server.wait_for(&path, "is whole", |message| message.is_whole);
        assert_eq!(seen.body, all, "in pieces of {size}");
        succeed(&at_server);
        assert_success("the call", http2.answer(stream));
    }
    rig.finish(0);
}

/// A second message that is not for the token, in each way in which it can come.
#[test]
fn a_later_message_about_another_model_ends_the_call_and_is_not_delivered() {
    let server = h2c();
    let rig = before(&server);
    let mut http2 = connect(&rig);
    let (first, second) = (infer("allowed"), infer("secret"));
    let both = [first.clone(), second.clone()].concat();
    let third = infer("pre-a");
    let cases: Vec<(&str, Vec<&[u8]>)> = vec![
        ("each in a frame", vec![&first, &second]),
        ("both in one frame", vec![&both]),
        ("the second in two frames", vec![&first, &second[..7], &second[7..]]),
        ("cut across", vec![&both[..first.len() + 3], &both[first.len() + 3..]]),
        ("byte by byte", both.chunks(1).collect()),
        ("with a good one after it", vec![&first, &second, &third]),
    ];
    let mut refused = 0.0;
    for (number, (case, pieces)) in cases.iter().enumerate() {
        for answers_first in [true, false] {
            let path = numbered(STREAM, 2 * number + usize::from(answers_first));
            let stream = open(&mut http2, &path, "eval", AS_GRPC);
            let mut pieces = pieces.iter();
            if answers_first {
                // The head goes out and a first answer, then the message is refused.
                http2.data(stream, &first, false);
                let (at_server, _) = server.wait_for(&path, "comes", |m| has(m, &first));
                at_server
                    .head(&[(":status", b"200"), ("content-type", b"application/grpc")], false);
                at_server.data(&framed(b"one"), false);
                assert_eq!(http2.body_so_far(stream, 8), framed(b"one"), "{case}");
                pieces.next();
                http2.data(stream, &second, false);
            }
            for piece in pieces {
                http2.data(stream, piece, false);
            }
            let answer = http2.answer(stream);
            refused += 1.0;
            let labels = [("result", "denied"), ("reason", "resource_not_allowed")];
            assert_eq!(rig.gate.metric("faregate_decisions_total", &labels), refused, "{case}");
            if answers_first {
                assert_ended(case, answer, "7", "resource_not_allowed");
                assert_eq!(http2_reset(&mut http2, stream), Some(0), "{case}: RST_STREAM after");
            } else {
                assert_refused(case, answer, "7", "resource_not_allowed");
            }
            let (_, seen) = server.wait_for(&path, "is reset", |message| message.reset.is_some());
            assert!(!seen.is_whole, "{case}: {seen:?}");
            assert!(first.starts_with(&seen.body), "{case}: {:?}", seen.body);
            if answers_first {
                assert_eq!(seen.body, first, "{case}");
            }
        }
    }
    rig.finish(0);
}

/// Waits for the RST_STREAM that comes after an answer.
fn http2_reset(http2: &mut Http2, stream: u32) -> Option<u32> {
    loop {
        if let Some(code) = http2.streams.get(&stream).and_then(|message| message.reset) {
            return Some(code);
        }
        if !http2.step() {
            return None;
        }
    }
}

/// What is wrong with a message, as what it is refused, and how the message looks.
fn wrong_messages() -> Vec<(&'static str, &'static str, &'static str, Vec<u8>)> {
    let allowed = text(1, "allowed");
    let twice = framed(&[text(1, "allowed"), text(1, "secret")].concat());
    let same_twice = framed(&[allowed.clone(), allowed.clone()].concat());
    let compressed = [&[1, 0, 0, 0, 9][..], &allowed].concat();
    let mut odd_flag = infer("allowed");
    odd_flag[0] = 2;
    let mut high_flag = infer("allowed");
    high_flag[0] = 0x81;
    vec![
        ("another model", "7", "resource_not_allowed", infer("secret")),
        ("no model", "7", "model_unresolved", framed(&text(3, "id"))),
        ("nothing", "7", "model_unresolved", framed(b"")),
        ("an empty name", "3", "bad_model", framed(&text(1, ""))),
        ("no id", "3", "bad_model", framed(&text(1, "a b"))),
        ("no UTF-8", "3", "bad_body", framed(&[0x0a, 2, 0xff, 0xfe])),
        ("the field twice", "3", "model_conflict", twice),
        ("the same twice", "3", "model_conflict", same_twice),
        ("a number", "3", "bad_body", framed(&[0x08, 1])),
        ("a fixed number", "3", "bad_body", framed(&[0x0d, 1, 0, 0, 0])),
        ("a group", "3", "bad_body", framed(&[0x0b, 0x0c])),
        ("a long tag", "3", "bad_body", framed(&[&[0x8a, 0x00, 7][..], b"allowed"].concat())),
        ("a field longer than the message", "3", "bad_body", framed(&[0x0a, 100, b'a'])),
        ("field 0", "3", "bad_body", framed(&[&[0x02, 1, b'a'][..], &allowed].concat())),
        ("compressed", "12", "unsupported_encoding", compressed),
        ("an unknown flag", "3", "bad_body", odd_flag),
        ("an unknown flag that has the known one", "3", "bad_body", high_flag),
        ("too large", "8", "body_too_large", [&[0, 0, 0, 4, 1][..], &allowed].concat()),
        ("huge", "8", "body_too_large", vec![0, 0xff, 0xff, 0xff, 0xff]),
    ]
}

#[test]
fn what_is_wrong_with_a_first_message_reaches_nobody() {
    let server = h2c();
    let rig = with_limit(&server);
    let mut http2 = connect(&rig);
    for (case, status, reason, message) in wrong_messages() {
        for size in [message.len(), 1] {
            let stream = open(&mut http2, INFER, "eval", AS_GRPC);
            for piece in message.chunks(size) {
                http2.data(stream, piece, false);
            }
            http2.data(stream, b"", true);
            assert_refused(case, http2.answer(stream), status, reason);
        }
    }
    // A message that is cut by the end of the call, at each of its bytes.
    let message = infer("allowed");
    for end in 1..message.len() {
        let stream = open(&mut http2, INFER, "eval", AS_GRPC);
        http2.data(stream, &message[..end], true);
        assert_refused(&format!("cut at {end}"), http2.answer(stream), "3", "bad_body");
        let stream = open(&mut http2, INFER, "eval", AS_GRPC);
        http2.data(stream, &message[..end], false);
        http2.head(stream, &[("x-trailer", b"1")], true);
        assert_refused(&format!("cut at {end}, trailers"), http2.answer(stream), "3", "bad_body");
    }
    // No message at all.
    let stream = start(&mut http2, INFER, "eval", AS_GRPC, true);
    assert_refused("no body", http2.answer(stream), "7", "model_unresolved");
    let stream = open(&mut http2, INFER, "eval", AS_GRPC);
    http2.data(stream, b"", true);
    assert_refused("an empty body", http2.answer(stream), "7", "model_unresolved");
    let stream = open(&mut http2, INFER, "eval", AS_GRPC);
    http2.head(stream, &[("x-trailer", b"1")], true);
    assert_refused("trailers alone", http2.answer(stream), "7", "model_unresolved");
    assert!(server.requests().is_empty(), "{:?}", server.requests());
    rig.finish(0);
}

#[test]
fn what_is_wrong_with_a_later_message_reaches_nobody() {
    let server = h2c();
    let rig = with_limit(&server);
    let mut http2 = connect(&rig);
    let first = infer("allowed");
    let mut number = 0;
    let mut call =
        |case: &str, message: &[u8], size: usize, end: End, status: &str, reason: &str| {
            number += 1;
            let path = numbered(STREAM, number);
            let stream = open(&mut http2, &path, "eval", AS_GRPC);
            http2.data(stream, &first, false);
            let (at_server, _) = server.wait_for(&path, "comes", |m| has(m, &first));
            at_server.head(&[(":status", b"200"), ("content-type", b"application/grpc")], false);
            http2.answer_head(stream);
            for piece in message.chunks(size) {
                http2.data(stream, piece, false);
            }
            match end {
                End::Open => {}
                End::Data => http2.data(stream, b"", true),
                End::Trailers => http2.head(stream, &[("x-trailer", b"1")], true),
            }
            assert_ended(case, http2.answer(stream), status, reason);
            let (_, seen) = server.wait_for(&path, "is reset", |message| message.reset.is_some());
            assert_eq!(seen.body, first, "{case}");
            assert!(!seen.is_whole, "{case}: {seen:?}");
        };
    for (case, status, reason, message) in wrong_messages() {
        for size in [message.len(), 1] {
            call(case, &message, size, End::Open, status, reason);
        }
    }
    let message = infer("allowed");
    for end in [1, 4, 5, 6, message.len() - 1] {
        let case = format!("cut at {end}");
        call(&case, &message[..end], end, End::Data, "3", "bad_body");
        call(&format!("{case}, trailers"), &message[..end], end, End::Trailers, "3", "bad_body");
    }
    rig.finish(0);
}

#[derive(Clone, Copy)]
enum End {
    Open,
    Data,
    Trailers,
}

#[test]
fn a_message_of_the_limit_passes() {
    let server = h2c();
    let rig = with_limit(&server);
    let mut http2 = connect(&rig);
    let filler = |length: usize| {
        let model = text(1, "allowed");
        let field = [&[0x2a, 0x80 | u8::try_from(length % 128).unwrap()][..]].concat();
        let field = [field, vec![u8::try_from(length / 128).unwrap()]].concat();
        framed(&[model, field, vec![b'x'; length]].concat())
    };
    let most = filler(1024 - 9 - 3);
    assert_eq!(most.len(), 5 + 1024);
    // Each message has its own limit, and the call has none.
    let three = [most.clone(), most.clone(), most.clone()].concat();
    let path = numbered(STREAM, 0);
    let stream = open(&mut http2, &path, "eval", AS_GRPC);
    for piece in three.chunks(300) {
        http2.data(stream, piece, false);
    }
    http2.data(stream, b"", true);
    let (at_server, seen) = server.wait_for(&path, "is whole", |message| message.is_whole);
    assert_eq!(seen.body, three);
    succeed(&at_server);
    assert_success("three", http2.answer(stream));
    let stream = open(&mut http2, INFER, "eval", AS_GRPC);
    http2.data(stream, &filler(1024 - 9 - 2), true);
    assert_refused("one byte more", http2.answer(stream), "8", "body_too_large");
    rig.finish(0);
}

#[test]
fn the_field_is_the_one_of_the_call() {
    let server = h2c();
    let rig = before(&server);
    let mut http2 = connect(&rig);
    let load =
        |repository: &str, model: &str| framed(&[text(1, repository), text(2, model)].concat());
    for (number, path) in [LOAD, UNLOAD].into_iter().enumerate() {
        // Field 1 is the repository there.
        let numbered = numbered(path, number);
        let stream = open(&mut http2, &numbered, "manage", AS_GRPC);
        http2.data(stream, &load("secret", "allowed"), true);
        let (at_server, seen) = server.wait_for(&numbered, "is whole", |message| message.is_whole);
        assert_eq!(seen.body, load("secret", "allowed"));
        succeed(&at_server);
        assert_success(path, http2.answer(stream));
        for (case, token, message, status, reason) in [
            ("another", "manage", load("allowed", "secret"), "7", "resource_not_allowed"),
            ("field 1 alone", "manage", infer("allowed")[..14].to_vec(), "7", "model_unresolved"),
            ("another group", "eval", load("", "allowed"), "7", "group_not_allowed"),
        ] {
            let mut message = message;
            if case == "field 1 alone" {
                message = framed(&text(1, "allowed"));
            }
            let stream = open(&mut http2, path, token, AS_GRPC);
            http2.data(stream, &message, true);
            assert_refused(case, http2.answer(stream), status, reason);
        }
    }
    assert_eq!(server.requests().len(), 2);
    rig.finish(0);
}

#[test]
fn the_query_and_each_message_agree() {
    let server = h2c();
    let rig = before(&server);
    let mut http2 = connect(&rig);
    let path = format!("{STREAM}?model=allowed");
    for (case, message) in
        [("another that is allowed", infer("pre-a")), ("one that is not", infer("secret"))]
    {
        let stream = open(&mut http2, &path, "eval", AS_GRPC);
        http2.data(stream, &message, true);
        assert_refused(case, http2.answer(stream), "3", "model_conflict");
    }
    let first = infer("allowed");
    let stream = open(&mut http2, &path, "eval", AS_GRPC);
    http2.data(stream, &first, false);
    // A message that names none is about the one of the query.
    let unnamed = framed(&text(3, "id"));
    http2.data(stream, &unnamed, false);
    let both = [first, unnamed].concat();
    let (at_server, _) = server.wait_for(&path, "has both", |message| message.body == both);
    at_server.head(&[(":status", b"200"), ("content-type", b"application/grpc")], false);
    http2.answer_head(stream);
    http2.data(stream, &infer("pre-a"), false);
    assert_ended("a later message", http2.answer(stream), "3", "model_conflict");
    let (_, seen) = server.wait_for(&path, "is reset", |message| message.reset.is_some());
    assert_eq!(seen.body, both);
    assert_eq!(server.requests().len(), 1);
    rig.finish(0);
}

#[test]
fn what_is_not_framed_as_grpc_is_refused() {
    let server = h2c();
    let rig = before(&server);
    let mut http2 = connect(&rig);
    for content_type in [
        "application/grpc+json",
        "application/grpc-web",
        "application/grpc-web+proto",
        "application/grpc-web-text",
        "application/grpc+thrift",
        "application/grpcx",
    ] {
        let stream = open(&mut http2, INFER, "eval", &[("content-type", content_type)]);
        http2.data(stream, &infer("allowed"), true);
        assert_refused(content_type, http2.answer(stream), "12", "unsupported_encoding");
    }
    for (case, fields) in [
        ("JSON", &[("content-type", "application/json")][..]),
        ("protobuf", &[("content-type", "application/x-protobuf")]),
        ("none", &[]),
    ] {
        let stream = open(&mut http2, INFER, "eval", fields);
        http2.data(stream, &infer("allowed"), true);
        let answer = http2.answer(stream).response();
        let refused = (answer.status(), answer.reason());
        assert_eq!(refused, (415, Some("unsupported_encoding")), "{case}: {answer:?}");
    }
    let coded = [AS_GRPC[0], ("content-encoding", "gzip")];
    let stream = open(&mut http2, INFER, "eval", &coded);
    http2.data(stream, &infer("allowed"), true);
    assert_refused("coded", http2.answer(stream), "12", "unsupported_encoding");
    assert!(server.requests().is_empty());
    // What says how messages are compressed says nothing of one that is not.
    let fields = [AS_GRPC[0], AS_GRPC[1], ("grpc-encoding", "gzip"), ("grpc-timeout", "5S")];
    let stream = open(&mut http2, INFER, "eval", &fields);
    http2.data(stream, &infer("allowed"), true);
    let (at_server, seen) = server.wait_for(INFER, "is whole", |message| message.is_whole);
    assert_eq!(
        (seen.field("grpc-encoding"), seen.field("grpc-timeout")),
        (Some("gzip"), Some("5S"))
    );
    succeed(&at_server);
    assert_success("it", http2.answer(stream));
    rig.finish(0);
}

/// Some clients reuse a connection for hundreds of calls.
#[test]
fn calls_are_judged_each_by_its_own_messages() {
    let server = h2c();
    let rig = before(&server);
    let mut http2 = connect(&rig);
    let calls: Vec<(String, u32, &str)> = (0..60)
        .map(|number| {
            let path = numbered(STREAM, number);
            let stream = open(&mut http2, &path, "eval", AS_GRPC);
            (path, stream, if number % 3 == 0 { "secret" } else { "pre-a" })
        })
        .collect();
    let (first, length) = (infer("allowed"), infer("pre-a").len());
    for place in 0..first.len() {
        for (_, stream, _) in &calls {
            http2.data(*stream, &first[place..=place], false);
        }
    }
    for (path, _, _) in &calls {
        let (at_server, _) = server.wait_for(path, "comes", |message| message.body == first);
        at_server.head(&[(":status", b"200"), ("content-type", b"application/grpc")], false);
    }
    for (_, stream, _) in &calls {
        http2.answer_head(*stream);
    }
    for place in 0..length.max(infer("secret").len()) {
        for (_, stream, model) in &calls {
            if let Some(byte) = infer(model).get(place) {
                http2.data(*stream, &[*byte], false);
            }
        }
    }
    for (path, stream, model) in &calls {
        if *model == "secret" {
            assert_ended(path, http2.answer(*stream), "7", "resource_not_allowed");
            let (_, seen) = server.wait_for(path, "is reset", |message| message.reset.is_some());
            assert_eq!(seen.body, first, "{path}");
            continue;
        }
        let both = [first.clone(), infer(model)].concat();
        let (at_server, _) = server.wait_for(path, "has both", |message| message.body == both);
        at_server.data(&framed(b"answer"), false);
        at_server.head(&[("grpc-status", b"0"), ("x-model", b"kept")], true);
        assert_success(path, http2.answer(*stream));
    }
    rig.finish(0);
}

#[test]
fn a_call_names_only_so_many_models() {
    let server = h2c();
    let rig = before(&server);
    let mut http2 = connect(&rig);
    let path = numbered(STREAM, 0);
    let stream = open(&mut http2, &path, "all", AS_GRPC);
    let mut sent = Vec::new();
    for number in 0..64 {
        sent.extend(infer(&format!("model-{number}")));
    }
    http2.data(stream, &sent, false);
    let (at_server, _) = server.wait_for(&path, "has all", |message| message.body == sent);
    at_server.head(&[(":status", b"200"), ("content-type", b"application/grpc")], false);
    http2.answer_head(stream);
    // One that was named before is no further one.
    http2.data(stream, &infer("model-63"), false);
    sent.extend(infer("model-63"));
    server.wait_for(&path, "has it again", |message| message.body == sent);
    http2.data(stream, &infer("model-64"), false);
    assert_ended("one too many", http2.answer(stream), "3", "model_conflict");
    let (_, seen) = server.wait_for(&path, "is reset", |message| message.reset.is_some());
    assert_eq!(seen.body, sent);
    rig.finish(0);
}

/// The client resets the call, or its connection breaks off: nothing that was not judged goes on.
#[test]
fn a_call_that_breaks_off_delivers_nothing_more() {
    let server = h2c();
    let rig = before(&server);
    let first = infer("allowed");
    for (number, code) in [0_u32, 8].into_iter().enumerate() {
        let mut http2 = connect(&rig);
        let path = numbered(STREAM, number);
        let stream = open(&mut http2, &path, "eval", AS_GRPC);
        let start = [first.clone(), infer("pre-a")[..9].to_vec()].concat();
        http2.data(stream, &start, false);
        server.wait_for(&path, "has the first", |message| message.body == first);
        http2.send(kind::RST_STREAM, 0, stream, &code.to_be_bytes());
        let (_, seen) = server.wait_for(&path, "is reset", |message| message.reset.is_some());
        assert_eq!(seen.body, first, "code {code}");
        assert!(!seen.is_whole, "code {code}");
    }
    let mut http2 = connect(&rig);
    let path = numbered(STREAM, 9);
    let stream = open(&mut http2, &path, "eval", AS_GRPC);
    http2.data(stream, &[first.clone(), vec![0]].concat(), false);
    server.wait_for(&path, "has the first", |message| message.body == first);
    http2.connection.reset();
    let (_, seen) = server.wait_for(&path, "is reset", |message| message.reset.is_some());
    assert_eq!(seen.body, first);
    rig.finish(0);
}
