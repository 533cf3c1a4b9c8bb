//! Where nothing is enforced, what would be refused is forwarded byte for byte, and counted.

use super::grpc::{AS_GRPC, STREAM, framed, infer, numbered, succeed, text};
use super::{
    AS_JSON, BOTH, CHAT, TRANSCRIBE, chunked, connect, json, open, rig_before_h2c, rig_with,
};
use crate::support::gate::Settings;
use crate::support::h2c_server::H2cServer;
use crate::support::http1::{get, only, post};
use crate::support::model_server::ModelServer;
use crate::support::rig::Rig;

fn observe(settings: &mut Settings) {
    settings.namespaces[0].keys = "enforce = false\n".into();
    settings.limits = "inspect_body_bytes = \"1KiB\"\n".into();
}

fn would_deny(rig: &Rig, reason: &str) -> f64 {
    let labels = [("result", "would_deny"), ("reason", reason)];
    rig.gate.metric("faregate_decisions_total", &labels)
}

#[test]
fn what_would_be_refused_is_forwarded_as_it_came() {
    let rig = rig_with(ModelServer::canned(), observe);
    let large = format!("{{\"model\":\"allowed\"}}{}", " ".repeat(50_000));
    let cut_form = "--b\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nall";
    let as_form = "multipart/form-data; boundary=b";
    let cases: [(&str, &str, &str, &str); 14] = [
        (CHAT, "application/json", r#"{"model":"secret"}"#, "resource_not_allowed"),
        (CHAT, "application/json", r#"{"model":"a","model":"b"}"#, "model_conflict"),
        (CHAT, "application/json", r#"{"model":"a b"}"#, "bad_model"),
        (CHAT, "application/json", "{}", "model_unresolved"),
        (CHAT, "application/json", "", "model_unresolved"),
        (CHAT, "application/json", r#"[] and a lot more that nobody reads"#, "bad_body"),
        (CHAT, "application/json", r#"{"model":"allowed""#, "bad_body"),
        (CHAT, "application/json", &large, "body_too_large"),
        (CHAT, "text/plain", r#"{"model":"allowed"}"#, "unsupported_encoding"),
        (CHAT, "text/plain", &large, "unsupported_encoding"),
        (BOTH, "application/json", r#"{"model":"pre-a"}"#, "model_conflict"),
        (TRANSCRIBE, as_form, cut_form, "bad_body"),
        (TRANSCRIBE, "multipart/form-data", cut_form, "bad_body"),
        (TRANSCRIBE, as_form, "--b--\r\n", "model_unresolved"),
    ];
    let mut client = rig.connect();
    for (path, content_type, body, reason) in cases {
        let case = format!("{path} {content_type} {reason}");
        let before = would_deny(&rig, reason);
        let request = post(path, body).token("eval").with("Content-Type", content_type);
        let mark = rig.server.mark();
        assert_eq!(client.ask(&request).status, 200, "{case}");
        let in_chunks = post(path, "").token("eval").with("Content-Type", content_type);
        client.send(chunked(&in_chunks, body.as_bytes(), 333));
        assert_eq!(client.response().status, 200, "{case}, in chunks");
        let received = rig.server.since(&mark);
        assert_eq!(received.len(), 2, "{case}");
        for received in received {
            assert_eq!(received.body, body.as_bytes(), "{case}");
            assert_eq!(received.field("content-type"), Some(content_type), "{case}");
        }
        assert_eq!(would_deny(&rig, reason), before + 2.0, "{case}");
    }
    rig.finish(2 * cases.len());
}

#[test]
fn over_http2_too() {
    let rig = rig_with(ModelServer::canned(), observe);
    let mut http2 = connect(&rig);
    let large = format!("{{\"model\":\"allowed\"}}{}", " ".repeat(20_000));
    for body in [r#"{"model":"secret"}"#, "[1, 2, 3]", &large, "{"] {
        let mark = rig.server.mark();
        let stream = open(&mut http2, CHAT, "eval", AS_JSON);
        for piece in body.as_bytes().chunks(700) {
            http2.data(stream, piece, false);
        }
        http2.data(stream, b"", true);
        assert_eq!(http2.answer(stream).response().status(), 200);
        let received = rig.server.since(&mark).remove(0);
        assert_eq!(received.body, body.as_bytes());
    }
    rig.finish(4);
}

#[test]
fn messages_of_every_kind_pass_and_are_counted() {
    let server = H2cServer::scripted(|_, _| {});
    let rig = rig_before_h2c(&server, observe);
    let mut http2 = connect(&rig);
    let good = infer("allowed");
    let compressed = [&[1, 0, 0, 0, 9][..], &text(1, "allowed")].concat();
    let wrong: [(&str, Vec<u8>); 6] = [
        ("resource_not_allowed", infer("secret")),
        ("model_unresolved", framed(b"")),
        ("model_conflict", framed(&[text(1, "a"), text(1, "b")].concat())),
        ("bad_body", framed(&[0x08, 1])),
        ("unsupported_encoding", compressed),
        ("body_too_large", framed(&[b'x'; 3000])),
    ];
    let mut number = 0;
    for (reason, message) in &wrong {
        for (place, case) in ["first", "later", "cut by the end"].into_iter().enumerate() {
            let messages = match place {
                0 => [message.clone(), good.clone(), infer("secret")].concat(),
                1 => [good.clone(), message.clone(), good.clone(), infer("secret")].concat(),
                _ => [good.clone(), message.clone(), good[..9].to_vec()].concat(),
            };
            for size in [messages.len(), 40, 1] {
                if size == 1 && messages.len() > 500 {
                    continue;
                }
                number += 1;
                let path = numbered(STREAM, number);
                let before = would_deny(&rig, reason);
                let stream = open(&mut http2, &path, "eval", AS_GRPC);
                for piece in messages.chunks(size) {
                    http2.data(stream, piece, false);
                }
                match place {
                    0 => http2.data(stream, b"", true),
                    _ => http2.head(stream, &[("x-checksum", b"1")], true),
                }
                let (at_server, seen) =
                    server.wait_for(&path, "is whole", |message| message.is_whole);
                assert_eq!(seen.body, messages, "{reason}, {case}, by {size}");
                if place > 0 {
                    assert_eq!(only(&seen.trailers, "x-checksum"), Some("1"), "{seen:?}");
                }
                succeed(&at_server);
                let answer = http2.answer(stream).response();
                assert_eq!(only(&answer.trailers, "grpc-status"), Some("0"), "{reason}, {case}");
                assert_eq!(would_deny(&rig, reason), before + 1.0, "{reason}, {case}, by {size}");
            }
        }
    }
    rig.finish(0);
}

#[test]
fn lists_are_shown_as_they_are() {
    let list = r#"{"object":"list","data":[{"id":"secret"}]}"#;
    let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{list}", list.len());
    let rig = rig_with(ModelServer::answering(answer), observe);
    let response = rig.ask(&get("/v1/models").token("eval").with("Accept-Encoding", "gzip"));
    assert_eq!(response.text(), list);
    assert_eq!(rig.server.requests()[0].field("accept-encoding"), Some("gzip"));
    rig.finish(1);
}

/// What breaks off is no request to anybody, and nothing is known of what it would have said.
#[test]
fn what_breaks_off_is_not_forwarded() {
    let rig = rig_with(ModelServer::canned(), observe);
    let bytes = json(CHAT, r#"{"model":"secret"}"#).bytes();
    let mut client = rig.connect();
    client.send(&bytes[..bytes.len() - 1]);
    client.connection.finish_sending();
    let rest = String::from_utf8_lossy(&client.rest()).into_owned();
    assert!(rest.is_empty() || rest.starts_with("HTTP/1.1 400"), "{rest}");
    rig.finish(0);
}
