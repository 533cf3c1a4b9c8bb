//! Messages that break off or say two things of their length.

use std::sync::mpsc;

use super::{connect, get, rig_before, start, wait_for_flights};
use crate::support::h2c_server::H2cServer;
use crate::support::http1;
use crate::support::http2::{Answer, kind};
use crate::support::model_server::{CANNED_BODY, ModelServer, Then};
use crate::support::rig::Rig;

/// The codes of HTTP/2 by which a peer says that there was no error, that there was one of its own, and that it has
/// lost interest.
const CODES: [u32; 3] = [0, 2, 8];

#[test]
fn an_answer_that_is_reset_without_an_error_is_no_whole_answer() {
    let server = H2cServer::scripted(|stream, _| {
        stream.head(&[(":status", b"200")], false);
        stream.data(b"half", false);
    });
    let rig = rig_before(&server, "", "");
    for code in CODES {
        let path = format!("/score/allowed?http1-{code}");
        let mut client = rig.connect();
        client.send(http1::get(&path).token("eval").bytes());
        assert_eq!(client.response_head().0, 200);
        assert_eq!(client.chunk().as_deref(), Some(&b"half"[..]));
        server.stream(&path).reset(code);
        assert_eq!(client.rest(), b"", "code {code}: cut, without a last chunk");

        let path = format!("/score/allowed?http2-{code}");
        let mut http2 = connect(&rig);
        let stream = get(&mut http2, &path, Some("eval"));
        assert_eq!(http2.body_so_far(stream, 4), b"half");
        server.stream(&path).reset(code);
        let answer = http2.answer(stream);
        assert!(matches!(answer, Answer::Reset(..)), "code {code}: {answer:?}");
    }
    wait_for_flights(&rig, 0);
    rig.finish(0);
}

#[test]
fn an_upload_that_is_reset_without_an_error_is_no_whole_request() {
    let path = |code: u32| format!("/score/allowed?{code}");
    // Into HTTP/2.
    let server = H2cServer::scripted(|_, _| {});
    let rig = rig_before(&server, "", "");
    for code in CODES {
        let mut http2 = connect(&rig);
        let stream = start(&mut http2, "POST", &path(code), Some("eval"), false);
        http2.data(stream, b"half", false);
        server.wait_for(&path(code), "comes by half", |message| message.body == b"half");
        http2.send(kind::RST_STREAM, 0, stream, &code.to_be_bytes());
        let (_, seen) = server.wait_for(&path(code), "comes to an end", |message| {
            message.is_whole || message.reset.is_some()
        });
        assert!(!seen.is_whole && seen.body == b"half", "code {code}: {seen:?}");
    }
    wait_for_flights(&rig, 0);
    rig.finish(0);

    // Into HTTP/1.1.
    let (heads, head_came) = mpsc::channel();
    let server = ModelServer::scripted(move |exchange| {
        heads.send(()).unwrap();
        exchange.whole();
        Then::Close
    });
    let rig = Rig::before(server);
    for (index, code) in CODES.into_iter().enumerate() {
        let mut http2 = connect(&rig);
        let stream = start(&mut http2, "POST", &path(code), Some("eval"), false);
        http2.data(stream, b"half", false);
        head_came.recv_timeout(crate::support::PATIENCE).unwrap();
        rig.server.wait_until("half of the upload comes", |records| {
            let came = |bytes: &[u8]| http1::find(bytes, b"half").is_some();
            (records.get(index).is_some_and(|record| came(&record.bytes))).then_some(())
        });
        http2.send(kind::RST_STREAM, 0, stream, &code.to_be_bytes());
        rig.server.wait_for_ended_connections(index + 1);
        assert!(rig.server.requests().is_empty(), "code {code}: {:?}", rig.server.requests());
    }
    wait_for_flights(&rig, 0);
    assert_eq!(rig.server.unfinished().len(), CODES.len());
    rig.assert_no_leak();
}

#[test]
fn an_answer_in_chunks_has_no_other_length() {
    let answer = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n\
                  a\r\n0123456789\r\n0\r\n\r\n";
    let rig = Rig::before(ModelServer::answering(answer));
    let mut client = rig.connect();
    for round in 0..2 {
        // The reader refuses an answer with two lengths.
        let response = client.ask(&http1::get("/score/allowed").token("eval"));
        assert_eq!((response.status, response.text().as_str()), (200, "0123456789"), "{round}");
        assert_eq!(response.field("content-length"), None, "{round}");
        assert!(response.is_whole, "{round}");
    }
    let mut http2 = connect(&rig);
    let stream = get(&mut http2, "/score/allowed", Some("eval"));
    let response = http2.answer(stream).response();
    assert_eq!((response.status(), &response.body[..]), (200, &b"0123456789"[..]));
    assert_eq!(response.field("content-length"), None);
    rig.finish(3);
}

#[test]
fn a_get_with_a_body_in_chunks_arrives_whole() {
    let rig = Rig::standard();
    let mut client = rig.connect();
    let head = http1::get("/score/allowed").token("eval").with("Transfer-Encoding", "chunked");
    client.send([&head.bytes()[..], b"5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n"].concat());
    assert_eq!(client.response().text(), CANNED_BODY);
    // The connection goes on where the body ended.
    assert_eq!(client.ask(&http1::get("/score/allowed?next").token("eval")).status, 200);
    let requests = rig.server.requests();
    assert_eq!(requests[0].body, b"hello world", "{:?}", requests[0]);
    assert_eq!(
        (requests[1].target.as_str(), &requests[1].body[..]),
        ("/score/allowed?next", &b""[..])
    );
    rig.finish(2);
}
