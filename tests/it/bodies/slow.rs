//! Clients that do not go on with a body, and a gate that stops while one comes.

use super::grpc::{AS_GRPC, INFER, assert_refused, before, infer};
use super::{AS_JSON, CHAT, connect, heard_to_go_on, json, open, rig, rig_before_h2c};
use crate::support::eventually;
use crate::support::h2c_server::H2cServer;
use crate::support::http1::get;
use crate::support::model_server::CANNED_BODY;

const BODY: &str = r#"{"model":"allowed"}"#;

#[test]
fn a_body_that_does_not_go_on_is_given_up() {
    let rig = rig("body_idle_timeout = \"300ms\"\n");
    for length in [0, 1, BODY.len() - 1] {
        let mut client = heard_to_go_on(&rig, &json(CHAT, BODY));
        client.send(&BODY[..length]);
        let answer = client.response();
        let refused = (answer.status, answer.reason());
        assert_eq!(refused, (408, Some("body_timeout")), "after {length} bytes: {answer:?}");
        assert_eq!(client.rest(), b"", "after {length} bytes: closed");
    }
    let mut http2 = connect(&rig);
    for length in [0, BODY.len()] {
        let stream = open(&mut http2, CHAT, "eval", AS_JSON);
        http2.data(stream, &BODY.as_bytes()[..length], false);
        let answer = http2.answer(stream).response();
        let refused = (answer.status(), answer.reason());
        assert_eq!(refused, (408, Some("body_timeout")), "after {length} bytes: {answer:?}");
    }
    // The connection is as good as before.
    let stream = open(&mut http2, CHAT, "eval", AS_JSON);
    http2.data(stream, BODY.as_bytes(), true);
    assert_eq!(http2.answer(stream).response().status(), 200);
    rig.finish(1);
}

#[test]
fn a_message_that_does_not_go_on_is_given_up() {
    let server = H2cServer::scripted(|_, _| {});
    let rig = rig_before_h2c(&server, |settings| {
        settings.limits = "body_idle_timeout = \"300ms\"\n".into();
    });
    let mut http2 = connect(&rig);
    let message = infer("allowed");
    for length in [0, 4, 5, message.len() - 1] {
        let stream = open(&mut http2, INFER, "eval", AS_GRPC);
        http2.data(stream, &message[..length], false);
        let case = format!("after {length} bytes");
        assert_refused(&case, http2.answer(stream), "4", "body_timeout");
    }
    assert!(server.requests().is_empty());
    rig.finish(0);
}

#[test]
fn a_gate_that_stops_waits_for_a_body_under_way() {
    let mut rig = rig("");
    let mut client = heard_to_go_on(&rig, &json(CHAT, BODY));
    client.send(&BODY[..5]);
    rig.gate.signal("TERM");
    eventually("it takes no more", || (rig.gate.ops_get("/readyz").status == 503).then_some(()));
    client.send(&BODY[5..]);
    // Whether the answer says `close` depends on whether its worker has heard of the end already; the
    // connection ends with it either way.
    let answer = client.response();
    assert_eq!((answer.status, answer.text().as_str()), (200, CANNED_BODY), "{answer:?}");
    client.assert_closes();
    assert!(rig.gate.wait_for_end().success());
    assert_eq!(rig.server.requests().len(), 1);
    assert_eq!(rig.server.requests()[0].body, BODY.as_bytes());
}

/// A right that ends while the body is on its way.
#[test]
fn what_is_judged_is_the_policy_at_the_end_of_the_body() {
    let rig = rig("");
    let mut client = heard_to_go_on(&rig, &json(CHAT, BODY));
    client.send(&BODY[..5]);
    let others: Vec<_> = crate::support::tokens::STANDARD
        .iter()
        .copied()
        .filter(|token| token.id != "eval")
        .collect();
    rig.gate.change_tokens(&crate::support::tokens::file(&others));
    client.send(&BODY[5..]);
    let answer = client.response();
    assert_eq!((answer.status, answer.reason()), (401, Some("invalid_token")), "{answer:?}");
    assert_eq!(client.ask(&get("/score/allowed").token("all")).status, 200);
    rig.finish(1);
}

/// The settings change so that the body would have to be read in another way.
#[test]
fn a_route_that_changes_under_a_body_lets_nothing_through() {
    let server = H2cServer::scripted(|_, _| {});
    let rig = before(&server);
    let mut http2 = connect(&rig);
    let stream = open(&mut http2, CHAT, "eval", AS_JSON);
    http2.data(stream, &BODY.as_bytes()[..5], false);
    let settings = std::fs::read_to_string(rig.gate.folder.path("faregate.toml")).unwrap();
    let changed = settings.replace("path = \"/both/{model}\"", "path = \"/neither/{model}\"");
    assert_ne!(changed, settings);
    rig.gate.folder.replace("faregate.toml", &changed);
    eventually("the new routes are in force", || {
        let mut client = rig.connect();
        let status = client.ask(&json("/both/allowed", "[]")).status;
        (status == 403).then_some(())
    });
    http2.data(stream, &BODY.as_bytes()[5..], true);
    let answer = http2.answer(stream).response();
    assert_eq!(answer.status(), 503, "{answer:?}");
    assert!(server.requests().is_empty());
    rig.finish(0);
}
