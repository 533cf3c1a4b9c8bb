//! How gRPC calls end: by the model server, by what changes while they run.

use super::connect;
use super::grpc::{
    AS_GRPC, INFER, STREAM, assert_ended, assert_refused, before, framed, infer, numbered, succeed,
};
use super::open;
use crate::support::eventually;
use crate::support::h2c_server::H2cServer;
use crate::support::http1::only;
use crate::support::http2::{Answer, Http2};
use crate::support::rig::Rig;
use crate::support::tokens;

const HEAD: &[(&str, &[u8])] = &[(":status", b"200"), ("content-type", b"application/grpc")];

fn h2c() -> H2cServer {
    H2cServer::scripted(|_, _| {})
}

/// A model server that cannot serve a call says so in its head alone, and a client library reads it
/// there.
/// What is taken from a token in the middle of a call.
type Taken = fn(&mut tokens::Token<'static>);

#[test]
fn an_answer_of_trailers_alone_stays_one() {
    let server = h2c();
    let rig = before(&server);
    let mut http2 = connect(&rig);
    for (number, path, is_whole) in [(0, INFER, true), (1, STREAM, true), (2, STREAM, false)] {
        let path = numbered(path, number);
        let stream = open(&mut http2, &path, "eval", AS_GRPC);
        http2.data(stream, &infer("allowed"), is_whole);
        let (at_server, _) = server.wait_for(&path, "comes", |message| {
            !message.body.is_empty() && (message.is_whole || !is_whole)
        });
        at_server.head(
            &[HEAD[0], HEAD[1], ("grpc-status", b"5"), ("grpc-message", b"no such model")],
            true,
        );
        let answer = http2.answer(stream).response();
        assert!(answer.is_head_only, "{path}: {answer:?}");
        assert_eq!(answer.field("grpc-status"), Some("5"), "{path}: {answer:?}");
        assert_eq!(answer.field("grpc-message"), Some("no such model"), "{path}: {answer:?}");
    }
    rig.finish(0);
}

#[test]
fn trailers_of_the_answer_are_kept() {
    let server = h2c();
    let rig = before(&server);
    let mut http2 = connect(&rig);
    let path = numbered(STREAM, 0);
    let stream = open(&mut http2, &path, "eval", AS_GRPC);
    http2.data(stream, &infer("allowed"), true);
    let (at_server, _) = server.wait_for(&path, "is whole", |message| message.is_whole);
    at_server.head(HEAD, false);
    for _ in 0..3 {
        at_server.data(&framed(b"piece"), false);
    }
    let trailers: &[(&str, &[u8])] =
        &[("grpc-status", b"13"), ("grpc-message", b"it%20broke"), ("x-usage", b"3")];
    at_server.head(trailers, true);
    let answer = http2.answer(stream).response();
    assert_eq!(answer.body, framed(b"piece").repeat(3));
    for (name, value) in trailers {
        let value = std::str::from_utf8(value).unwrap();
        assert_eq!(only(&answer.trailers, name), Some(value), "{answer:?}");
    }
    rig.finish(0);
}

#[test]
fn a_server_may_answer_before_it_has_read_all() {
    let server = h2c();
    let rig = before(&server);
    let mut http2 = connect(&rig);
    for (number, says_stop) in [(0, true), (1, false)] {
        let path = numbered(STREAM, number);
        let stream = open(&mut http2, &path, "eval", AS_GRPC);
        http2.data(stream, &[infer("allowed"), infer("pre-a")[..6].to_vec()].concat(), false);
        let (at_server, _) = server.wait_for(&path, "comes", |message| !message.body.is_empty());
        succeed(&at_server);
        if says_stop {
            at_server.reset(0);
        }
        let answer = http2.answer(stream).response();
        assert_eq!(only(&answer.trailers, "grpc-status"), Some("0"), "{answer:?}");
        // What the client still says is for nobody.
        for _ in 0..3 {
            http2.data(stream, &infer("allowed"), false);
        }
        let fence = numbered(INFER, 10 + number);
        let stream = open(&mut http2, &fence, "eval", AS_GRPC);
        http2.data(stream, &infer("allowed"), true);
        let (at_server, _) = server.wait_for(&fence, "is whole", |message| message.is_whole);
        succeed(&at_server);
        assert_eq!(http2.answer(stream).response().status(), 200);
        let (_, seen) = server.wait_for(&path, "is there", |_| true);
        assert_eq!(seen.body, infer("allowed"), "only what came before the answer");
    }
    wait_for_flights(&rig, 0);
    rig.finish(0);
}

fn wait_for_flights(rig: &Rig, count: u32) {
    eventually(&format!("{count} requests are in flight"), || {
        let now = rig.gate.metric("faregate_requests_in_flight", &[]);
        (now == f64::from(count)).then_some(())
    });
}

/// A call whose first message was delivered and whose answer has begun.
fn running(http2: &mut Http2, server: &H2cServer, path: &str) -> u32 {
    let stream = open(http2, path, "eval", AS_GRPC);
    http2.data(stream, &infer("allowed"), false);
    let (at_server, _) = server.wait_for(path, "comes", |message| !message.body.is_empty());
    at_server.head(HEAD, false);
    http2.answer_head(stream);
    stream
}

/// The standard tokens, `eval` changed.
fn tokens_with(change: impl Fn(&mut tokens::Token<'static>)) -> String {
    let mut all = tokens::STANDARD.to_vec();
    let eval = all.iter_mut().find(|token| token.id == "eval").unwrap();
    change(eval);
    tokens::file(&all)
}

#[test]
fn a_right_that_ends_between_two_messages_ends_the_call() {
    let cases: [(&str, Taken); 4] = [
        ("disabled", |eval| eval.more = "disabled = true\n"),
        ("without its group", |eval| eval.groups = &["model-management"]),
        ("without any model", |eval| eval.resources = &[]),
        ("without the model of the call", |eval| eval.resources = &["pre-*"]),
    ];
    for (case, change) in cases {
        let server = h2c();
        let rig = before(&server);
        let mut http2 = connect(&rig);
        let path = numbered(STREAM, 0);
        let stream = running(&mut http2, &server, &path);
        rig.gate.change_tokens(&tokens_with(change));
        // By now nothing more of it may pass, whatever it names.
        http2.data(stream, &infer("allowed"), false);
        http2.data(stream, &infer("pre-a"), false);
        match http2.answer(stream) {
            Answer::Reset(..) => {}
            Answer::Response(message) => {
                let status = only(&message.trailers, "grpc-status");
                assert!(matches!(status, Some("7" | "16")), "{case}: {message:?}");
            }
            gone @ Answer::Gone(_) => panic!("{case}: {gone:?}"),
        }
        let (_, seen) = server.wait_for(&path, "is reset", |message| message.reset.is_some());
        assert_eq!(seen.body, infer("allowed"), "{case}");
        assert!(!seen.is_whole, "{case}");
        wait_for_flights(&rig, 0);
        rig.finish(0);
    }
}

/// Where streams are left alone when their rights end, their messages are not.
#[test]
fn each_message_is_judged_by_the_policy_in_force() {
    let server = h2c();
    let rig = super::rig_before_h2c(&server, |settings| {
        settings.limits = "end_revoked_streams = false\n".into();
    });
    let mut http2 = connect(&rig);
    let cases: [(&str, Taken, &str, &str); 3] = [
        ("a model less", |eval| eval.resources = &["allowed"], "7", "resource_not_allowed"),
        ("no group", |eval| eval.groups = &[], "16", "invalid_token"),
        ("disabled", |eval| eval.more = "disabled = true\n", "16", "invalid_token"),
    ];
    for (number, (case, change, status, reason)) in cases.into_iter().enumerate() {
        let path = numbered(STREAM, number);
        let stream = running(&mut http2, &server, &path);
        http2.data(stream, &infer("pre-a"), false);
        let both = [infer("allowed"), infer("pre-a")].concat();
        server.wait_for(&path, "has both", |message| message.body == both);
        rig.gate.change_tokens(&tokens_with(change));
        http2.data(stream, &infer("pre-b"), false);
        assert_ended(case, http2.answer(stream), status, reason);
        let (_, seen) = server.wait_for(&path, "is reset", |message| message.reset.is_some());
        assert_eq!(seen.body, both, "{case}");
        rig.gate.change_tokens(&tokens::standard_file());
    }
    // A model more, while the call runs.
    let path = numbered(STREAM, 9);
    let stream = running(&mut http2, &server, &path);
    rig.gate.change_tokens(&tokens_with(|eval| eval.resources = &["allowed", "secret"]));
    http2.data(stream, &infer("secret"), true);
    let (at_server, seen) = server.wait_for(&path, "is whole", |message| message.is_whole);
    assert_eq!(seen.body, [infer("allowed"), infer("secret")].concat());
    at_server.head(&[("grpc-status", b"0")], true);
    let answer = http2.answer(stream).response();
    assert_eq!(only(&answer.trailers, "grpc-status"), Some("0"), "{answer:?}");
    rig.finish(0);
}

#[test]
fn a_change_that_is_about_others_ends_nothing() {
    let server = h2c();
    let rig = before(&server);
    let mut http2 = connect(&rig);
    let path = numbered(STREAM, 0);
    let stream = running(&mut http2, &server, &path);
    let others: Vec<_> =
        tokens::STANDARD.iter().copied().filter(|token| token.id != "manage").collect();
    rig.gate.change_tokens(&tokens::file(&others));
    http2.data(stream, &infer("pre-a"), true);
    let (at_server, seen) = server.wait_for(&path, "is whole", |message| message.is_whole);
    assert_eq!(seen.body, [infer("allowed"), infer("pre-a")].concat());
    at_server.data(&framed(b"done"), false);
    at_server.head(&[("grpc-status", b"0")], true);
    let answer = http2.answer(stream).response();
    assert_eq!((&answer.body[..], answer.reset), (&framed(b"done")[..], None), "{answer:?}");
    rig.finish(0);
}

/// A model that a later message added to the call is part of its right as the first one is.
#[test]
fn who_loses_a_model_of_a_later_message_loses_the_call() {
    let server = h2c();
    let rig = before(&server);
    let mut http2 = connect(&rig);
    let path = numbered(STREAM, 0);
    let stream = running(&mut http2, &server, &path);
    http2.data(stream, &infer("pre-a"), false);
    let both = [infer("allowed"), infer("pre-a")].concat();
    server.wait_for(&path, "has both", |message| message.body == both);
    rig.gate.change_tokens(&tokens_with(|eval| eval.resources = &["allowed"]));
    let answer = http2.answer(stream);
    assert!(matches!(answer, Answer::Reset(..)), "{answer:?}");
    wait_for_flights(&rig, 0);
    rig.finish(0);
}

/// While the first message is on its way, so is the decision.
#[test]
fn a_right_that_ends_before_the_first_message_is_whole_opens_nothing() {
    let server = h2c();
    let rig = before(&server);
    let mut http2 = connect(&rig);
    let first = infer("allowed");
    let stream = open(&mut http2, STREAM, "eval", AS_GRPC);
    http2.data(stream, &first[..first.len() - 1], false);
    rig.gate.change_tokens(&tokens_with(|eval| eval.more = "disabled = true\n"));
    http2.data(stream, &first[first.len() - 1..], false);
    assert_refused("disabled meanwhile", http2.answer(stream), "16", "invalid_token");
    assert!(server.requests().is_empty());
    rig.finish(0);
}
