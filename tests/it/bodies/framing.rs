//! Bodies over HTTP/1.1, in all the ways in which one can come: nothing before its last byte, all of
//! it after, and the connections on both sides stay in step.

use super::{CHAT, LAST_CHUNK, chunk, chunked, chunked_head, heard_to_go_on, json, rig};
use crate::support::http1::{Client, find, get, post};
use crate::support::rig::Rig;
use crate::support::tokens::secret;

const BODY: &str = r#"{"model":"allowed","messages":[{"role":"user","content":"\u00e9"}]}"#;

/// Another request on the same connection is answered for itself, so nothing of the one before was
/// taken for its beginning.
fn is_in_step(client: &mut Client, name: &str) {
    let answer = client.ask(&get(&format!("/score/allowed?{name}")).token("eval"));
    assert_eq!(answer.status, 200, "{name}: {answer:?}");
}

/// What the model server received besides those fences.
fn bodies(rig: &Rig) -> Vec<Vec<u8>> {
    let requests = rig.server.requests();
    requests.into_iter().filter(|r| r.method == "POST").map(|received| received.body).collect()
}

#[test]
fn a_body_that_comes_byte_by_byte_leaves_as_a_whole() {
    let rig = rig("");
    let request = json(CHAT, BODY);
    let head_length = find(&request.bytes(), b"\r\n\r\n").unwrap() + 4;
    let by_length = (head_length, request.bytes());
    let in_chunks = (chunked_head(&request).len(), chunked(&request, BODY.as_bytes(), 1));
    for (head_length, bytes) in [by_length, in_chunks] {
        let before = rig.server.bytes().len();
        let mut client = rig.connect();
        client.send(&bytes[..head_length]);
        let (last, others) = bytes[head_length..].split_last().unwrap();
        for byte in others {
            client.send([*byte]);
        }
        rig.assert_upstream_got_nothing_since(before, "all but the last byte");
        client.send([*last]);
        assert_eq!(client.response().status, 200);
        is_in_step(&mut client, "after");
    }
    assert_eq!(bodies(&rig), [BODY.as_bytes(), BODY.as_bytes()]);
    rig.finish(4);
}

#[test]
fn nothing_is_sent_and_no_connection_made_before_the_decision() {
    let rig = rig("");
    for (body, status) in [(r#"{"model":"secret"}"#, 403), (r#"{"model":"allowed"}"#, 200)] {
        let request = json(CHAT, body);
        let mut client = heard_to_go_on(&rig, &request);
        client.send(&body[..body.len() - 1]);
        assert!(rig.server.connections().is_empty(), "{body}");
        client.send(&body[body.len() - 1..]);
        assert_eq!(client.response().status, status, "{body}");
    }
    assert_eq!(bodies(&rig), [br#"{"model":"allowed"}"#]);
    let received = rig.server.requests().remove(0);
    assert_eq!(received.field("expect"), None, "it was kept here: {received:?}");
    rig.finish(1);
}

#[test]
fn a_body_is_cut_anywhere_into_chunks() {
    let rig = rig("");
    let request = json(CHAT, BODY);
    let mut client = rig.connect();
    for place in 1..BODY.len() {
        let (start, end) = BODY.as_bytes().split_at(place);
        client.send([chunked_head(&request), chunk(start)].concat());
        client.send([chunk(end), LAST_CHUNK.to_vec()].concat());
        assert_eq!(client.response().status, 200, "{place}");
    }
    assert!(bodies(&rig).iter().all(|body| body == BODY.as_bytes()));
    rig.finish(BODY.len() - 1);
}

#[test]
fn trailers_of_a_judged_body_go_on_less_those_that_say_who_calls() {
    let rig = rig("");
    let request = json(CHAT, BODY).with("Trailer", "x-checksum");
    let trailers = format!(
        "0\r\nX-Checksum: 1\r\nX-Credential-Identifier: admin\r\nAuthorization: Bearer {}\r\n\r\n",
        secret("all")
    );
    let mut client = rig.connect();
    client.send([chunked_head(&request), chunk(BODY.as_bytes()), trailers.into_bytes()].concat());
    assert_eq!(client.response().status, 200);
    is_in_step(&mut client, "after");
    let received = rig.server.requests().remove(0);
    assert_eq!(received.body, BODY.as_bytes());
    for (name, value) in &received.trailers {
        assert_eq!((name.as_str(), value.as_str()), ("x-checksum", "1"), "{received:?}");
    }
    rig.finish(2);
}

#[test]
fn who_waits_for_a_100_hears_no_at_once_where_the_answer_is_known() {
    let rig = rig("inspect_body_bytes = \"1KiB\"\n");
    let body = r#"{"model":"allowed"}"#;
    let large = format!("{}{body}", " ".repeat(2000));
    for (case, request, status) in [
        ("no token", json(CHAT, body).without("authorization"), 401),
        ("no group", json(CHAT, body).without("authorization").token("manage"), 403),
        ("another model in the query", json("/v1/chat/completions?model=a&model=b", body), 400),
        ("not JSON", post(CHAT, body).token("eval").with("Content-Type", "text/plain"), 415),
        ("compressed", json(CHAT, body).with("Content-Encoding", "gzip"), 415),
        ("too large", json(CHAT, &large), 413),
    ] {
        let bytes = request.with("Expect", "100-continue").bytes();
        let head = &bytes[..find(&bytes, b"\r\n\r\n").unwrap() + 4];
        let mut client = rig.connect();
        client.send(head);
        let answer = client.response();
        assert_eq!((answer.status, &answer.interim[..]), (status, &[][..]), "{case}: {answer:?}");
        // The body may come or not, so nothing can be told of what follows.
        client.send(get("/score/allowed").token("eval").bytes());
        assert_eq!(client.rest(), b"", "{case}: closed after the answer");
    }
    rig.finish(0);
}

#[test]
fn requests_behind_a_judged_body_are_requests_of_their_own() {
    let rig = rig("");
    let allowed = json(CHAT, BODY).bytes();
    let refused = json(CHAT, r#"{"model":"secret"}"#).bytes();
    let mut unread = vec![b'x'; 100_000];
    unread[..2].copy_from_slice(b"[]");
    let broken = json(CHAT, &unread).bytes();
    let plain = get("/score/allowed").token("eval").bytes();
    let in_chunks = chunked(&json(CHAT, BODY), BODY.as_bytes(), 7);
    let mut client = rig.connect();
    client.send(
        [
            &allowed[..],
            &refused,
            &plain,
            &in_chunks,
            &broken,
            &allowed,
            &chunked(&json(CHAT, ""), br#"{"model":"secret"}"#, 3),
            &plain,
        ]
        .concat(),
    );
    let statuses: Vec<u16> = (0..8).map(|_| client.response().status).collect();
    assert_eq!(statuses, [200, 403, 200, 200, 400, 200, 403, 200]);
    assert_eq!(bodies(&rig), [BODY.as_bytes(); 3]);
    rig.finish(5);
}

#[test]
fn a_request_inside_a_body_stays_a_body() {
    let rig = rig("");
    let hidden = format!("GET /score/secret HTTP/1.1\\r\\nHost: {}\\r\\n\\r\\n", "models.test");
    // As text of a JSON string, and as the white space and the bytes around one.
    let in_json = format!(r#"{{"model":"allowed","prompt":"{hidden}"}}"#);
    let raw = "GET /score/secret HTTP/1.1\r\nHost: models.test\r\n\r\n";
    let after = format!("{{\"model\":\"allowed\"}}\r\n\r\n{raw}");
    let mut client = rig.connect();
    assert_eq!(client.ask(&json(CHAT, &in_json)).status, 200);
    assert_eq!(client.ask(&json(CHAT, &after)).status, 400);
    client.send(chunked(&json(CHAT, ""), in_json.as_bytes(), 11));
    assert_eq!(client.response().status, 200);
    client.send(chunked(&json(CHAT, ""), after.as_bytes(), 11));
    assert_eq!(client.response().status, 400);
    is_in_step(&mut client, "after");
    // A length that is shorter than what follows: what follows is a request of its own, and judged.
    let short = [json(CHAT, BODY).bytes(), raw.as_bytes().to_vec()].concat();
    client.send(short);
    assert_eq!(client.response().status, 200);
    assert_eq!(client.response().status, 401);
    rig.finish(4);
}

#[test]
fn a_body_that_breaks_off_reaches_nobody() {
    let rig = rig("");
    let whole = json(CHAT, BODY).bytes();
    let in_chunks = chunked(&json(CHAT, BODY), BODY.as_bytes(), 9);
    let chunks_start = chunked_head(&json(CHAT, BODY)).len();
    for (case, bytes) in [
        ("a length", &whole[..whole.len() - 1]),
        // Everything but what says that it is over.
        ("chunks", &in_chunks[..in_chunks.len() - LAST_CHUNK.len()]),
        ("the last chunk", &in_chunks[..in_chunks.len() - 2]),
        ("a chunk", &in_chunks[..chunks_start + 5]),
    ] {
        let mut client = rig.connect();
        client.send(bytes);
        client.connection.finish_sending();
        let rest = client.rest();
        let text = String::from_utf8_lossy(&rest);
        assert!(text.is_empty() || text.starts_with("HTTP/1.1 400"), "{case}: {text}");
        let mut client = rig.connect();
        client.send(bytes);
        client.connection.reset();
    }
    for (case, chunks) in [
        ("no size", "x\r\n"),
        ("a negative size", "-1\r\n{}\r\n0\r\n\r\n"),
        ("a longer chunk", "2\r\n{}}\r\n0\r\n\r\n"),
        ("a huge size", "fffffffffffffffff\r\n"),
    ] {
        let mut client = rig.connect();
        client.send([&chunked_head(&json(CHAT, ""))[..], chunks.as_bytes()].concat());
        let answer = client.response();
        assert_eq!((answer.status, answer.reason()), (400, Some("bad_body")), "{case}: {answer:?}");
        assert_eq!(client.rest(), b"", "{case}: closed");
    }
    assert!(rig.server.connections().is_empty());
    rig.finish(0);
}

#[test]
fn an_inspected_request_changes_no_protocol() {
    let rig = rig("");
    let request = json(CHAT, BODY)
        .with("Connection", "Upgrade")
        .with("Upgrade", "websocket")
        .with("Sec-WebSocket-Version", "13")
        .with("Sec-WebSocket-Key", "AAAAAAAAAAAAAAAAAAAAAA==");
    let received = rig.assert_forwarded("with a body", &request);
    assert_eq!(received.field("upgrade"), None, "{received:?}");
    assert_eq!(received.body, BODY.as_bytes());
    rig.finish(1);
}
