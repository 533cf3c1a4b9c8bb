//! Where a request ends: whatever two readers could see differently is refused or written anew, so that no request
//! hides in another one.

use std::cell::RefCell;

use crate::support::http1::{Client, HOST, Received, get, post};
use crate::support::model_server::{self, ModelServer};
use crate::support::rig::Rig;
use crate::support::tokens::secret;

/// A request that would be allowed, if it were one: it must never arrive from inside another.
fn hidden() -> String {
    format!(
        "GET /score/allowed?hidden HTTP/1.1\r\nHost: {HOST}\r\nAuthorization: Bearer {}\r\n\r\n",
        secret("eval")
    )
}

/// The head of a request for an allowed model, with these lines before its end.
fn head(method: &str, lines: &str) -> String {
    format!(
        "{method} /score/allowed HTTP/1.1\r\nHost: {HOST}\r\nAuthorization: Bearer {}\r\n{lines}\r\n\r\n",
        secret("eval")
    )
}

/// What may come of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    /// Refused, before the model server heard of it, and the connection closed: where the next
    /// request begins is anyone's guess.
    Refused,
    /// Refused at the head, or broken off in the body: never a whole request at the model server.
    NeverWhole,
    /// The client leaves before its request is whole, and nobody is told that it was.
    Incomplete,
    /// Refused, or one request of this body, and nothing after it.
    AtMostOne(&'static str),
    /// One request of this body, and nothing after it.
    One(&'static str),
    /// One request of this body, and then the hidden one, which stands where the next request belongs.
    Then(&'static str),
}
use Outcome::{AtMostOne, Incomplete, NeverWhole, One, Refused, Then};

/// A gate that is sent one odd thing after another.
struct Bench {
    rig: Rig,
    /// All that went wrong, so that a table is read as a whole.
    wrong: RefCell<Vec<String>>,
}

impl Bench {
    fn new() -> Self {
        Self { rig: Rig::standard(), wrong: RefCell::default() }
    }

    fn check(&self, case: &str, bytes: impl AsRef<[u8]>, outcome: Outcome) {
        let rig = &self.rig;
        let mark = rig.server.mark();
        let unfinished = rig.server.unfinished().len();
        let mut client = rig.connect();
        client.send(bytes);
        let awaited = match outcome {
            Incomplete => 0,
            Then(_) => 2,
            _ => 1,
        };
        let mut statuses = Vec::new();
        loop {
            if outcome == Incomplete {
                client.connection.finish_sending();
            } else if statuses.len() == awaited {
                // Whether the connection goes on is seen by a request that asks for its end.
                let probe = get("/score/pre-probe").token("eval").with("Connection", "close");
                client.send(probe.bytes());
            }
            match client.response_or_end("POST") {
                Some(response) => statuses.push(response.status),
                None => break,
            }
        }
        // What a connection had left to do is done when a request that came later has been answered.
        let barrier = rig.connect().ask(&get("/score/pre-barrier").token("eval"));
        assert_eq!(barrier.status, 200, "{case}");
        let mut received = rig.server.since(&mark);
        let mut arrived = |target: &str| {
            let before = received.len();
            received.retain(|request| request.target != target);
            before - received.len()
        };
        assert_eq!(arrived("/score/pre-barrier"), 1, "{case}");
        let goes_on = arrived("/score/pre-probe") == 1;
        if goes_on && statuses.last() == Some(&200) {
            statuses.pop();
        }
        let whole = |body: &str| received.len() == 1 && received[0].body == body.as_bytes();
        let fits = match outcome {
            Refused => {
                received.is_empty()
                    && !goes_on
                    && rig.server.unfinished().len() == unfinished
                    && refused(&statuses)
            }
            NeverWhole | Incomplete => received.is_empty() && !goes_on && refused(&statuses),
            AtMostOne(body) => {
                (received.is_empty() && refused(&statuses)) || (whole(body) && statuses == [200])
            }
            One(body) => whole(body) && statuses == [200],
            Then(body) => {
                received.len() == 2
                    && received[0].body == body.as_bytes()
                    && is_hidden(&received[1])
                    && statuses == [200, 200]
            }
        };
        if !fits {
            let forwarded: Vec<String> = received
                .iter()
                .map(|request| {
                    format!("{} {:?}", request.target, String::from_utf8_lossy(&request.body))
                })
                .collect();
            let line = format!(
                "{case}: expected {outcome:?}, answered {statuses:?}, forwarded {forwarded:?}"
            );
            self.wrong.borrow_mut().push(line);
        }
        // Not even as a part of something else.
        let hidden = rig.server.requests().iter().filter(|request| is_hidden(request)).count();
        let bytes = String::from_utf8_lossy(&rig.server.bytes()).matches("?hidden HTTP").count();
        assert_eq!(bytes, hidden, "{case}: hidden bytes were forwarded");
    }

    fn finish(self) {
        self.rig.assert_no_leak();
        let wrong = self.wrong.into_inner();
        assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
    }
}

fn is_hidden(request: &Received) -> bool {
    request.target.contains("hidden")
}

/// One refusal and nothing after it, or the end of the connection without a word.
fn refused(statuses: &[u16]) -> bool {
    match statuses {
        [] => true,
        [status] => (400..=501).contains(status),
        _ => false,
    }
}

#[test]
fn a_length_and_chunks_together() {
    let bench = Bench::new();
    let hidden = hidden();
    let chunks = format!("0\r\n\r\n{hidden}");
    let short = format!("5\r\nhello\r\n0\r\n\r\n{hidden}");
    for (case, lines, body, outcome) in [
        ("CL.TE", "Content-Length: 4\r\nTransfer-Encoding: chunked", &chunks, AtMostOne("")),
        ("TE.CL", "Transfer-Encoding: chunked\r\nContent-Length: 4", &chunks, AtMostOne("")),
        (
            "CL.TE of a body",
            "Content-Length: 5\r\nTransfer-Encoding: chunked",
            &short,
            AtMostOne("hello"),
        ),
        (
            "TE.CL, upper case",
            "TRANSFER-ENCODING: CHUNKED\r\nCONTENT-LENGTH: 5",
            &short,
            AtMostOne("hello"),
        ),
        ("length 0", "Content-Length: 0\r\nTransfer-Encoding: chunked", &short, AtMostOne("hello")),
        (
            "a bad length",
            "Content-Length: x\r\nTransfer-Encoding: chunked",
            &short,
            AtMostOne("hello"),
        ),
    ] {
        bench.check(case, format!("{}{body}", head("POST", lines)), outcome);
    }
    bench.finish();
}

#[test]
fn lengths_that_are_none() {
    let bench = Bench::new();
    let hidden = hidden();
    for (case, lines, outcome) in [
        ("two that differ", "Content-Length: 5\r\nContent-Length: 0", Refused),
        ("two that differ, the other way", "Content-Length: 0\r\nContent-Length: 5", Refused),
        ("a list that differs", "Content-Length: 5, 0", Refused),
        ("negative", "Content-Length: -5", Refused),
        ("signed", "Content-Length: +5", Refused),
        ("hexadecimal", "Content-Length: 0x5", Refused),
        ("with a blank", "Content-Length: 5 5", Refused),
        ("with a comma", "Content-Length: 5,", Refused),
        ("with a semicolon", "Content-Length: 5;", Refused),
        ("quoted", "Content-Length: \"5\"", Refused),
        ("of other digits", "Content-Length: \u{665}", Refused),
        ("beyond all numbers", "Content-Length: 99999999999999999999999999", Refused),
        ("just beyond", "Content-Length: 18446744073709551616", Refused),
        ("fraction", "Content-Length: 5.0", Refused),
        ("empty", "Content-Length:", AtMostOne("")),
        ("two the same", "Content-Length: 5\r\nContent-Length: 5", AtMostOne("hello")),
        ("a list of the same", "Content-Length: 5, 5", AtMostOne("hello")),
        ("leading zeros", "Content-Length: 0005", AtMostOne("hello")),
        ("blank before the colon", "Content-Length : 5", Refused),
        ("folded", "Content-Length:\r\n 5", Refused),
        ("folded away", "X: y\r\n Content-Length: 5", Refused),
    ] {
        let bytes = format!("{}hello", head("POST", lines));
        // Where the length is believed to be 5, nothing follows; where it is not, `hello` is no request.
        bench.check(case, &bytes, outcome);
        let bytes = format!("{}{hidden}", head("POST", lines));
        if outcome == Refused {
            bench.check(case, bytes, Refused);
        }
    }
    bench.finish();
}

#[test]
fn codings_that_are_not_plain_chunks() {
    let bench = Bench::new();
    let hidden = hidden();
    let body = format!("5\r\nhello\r\n0\r\n\r\n{hidden}");
    for (case, lines, outcome) in [
        ("gzip, chunked", "Transfer-Encoding: gzip, chunked", Refused),
        ("chunked, gzip", "Transfer-Encoding: chunked, gzip", Refused),
        ("chunked twice", "Transfer-Encoding: chunked, chunked", Refused),
        (
            "chunked twice, two lines",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
            Refused,
        ),
        ("chunked, identity", "Transfer-Encoding: chunked, identity", Refused),
        ("identity, chunked", "Transfer-Encoding: identity\r\nTransfer-Encoding: chunked", Refused),
        ("identity", "Transfer-Encoding: identity", Refused),
        ("an empty member before", "Transfer-Encoding: ,chunked", Refused),
        ("an empty member after", "Transfer-Encoding: chunked,", Refused),
        ("unknown", "Transfer-Encoding: xyz, chunked", Refused),
        ("nearly", "Transfer-Encoding: xchunked", Refused),
        ("nearly, too", "Transfer-Encoding: chunke", Refused),
        ("a parameter", "Transfer-Encoding: chunked;q=1", Refused),
        ("quoted", "Transfer-Encoding: \"chunked\"", Refused),
        ("a vertical tab", "Transfer-Encoding: \u{b}chunked", Refused),
        ("a no-break space", "Transfer-Encoding: \u{a0}chunked", Refused),
        ("empty", "Transfer-Encoding:", Refused),
        ("blank before the colon", "Transfer-Encoding : chunked", Refused),
        ("folded", "Transfer-Encoding:\r\n chunked", Refused),
        (
            "a bare line feed",
            "X: y\nTransfer-Encoding: chunked\r\nContent-Length: 0",
            AtMostOne("hello"),
        ),
        ("a bare carriage return", "X: y\rTransfer-Encoding: chunked", Refused),
    ] {
        bench.check(case, format!("{}{body}", head("POST", lines)), outcome);
    }
    for (case, lines) in [
        ("plain", "Transfer-Encoding: chunked"),
        ("upper case", "Transfer-Encoding: CHUNKED"),
        ("a tab before", "Transfer-Encoding:\tchunked"),
    ] {
        bench.check(case, format!("{}{body}", head("POST", lines)), Then("hello"));
    }
    bench.finish();
}

#[test]
fn a_coding_with_an_underscore_is_no_coding() {
    // It is dropped like every name with an underscore. So there is no body, and what follows is no request.
    let rig = Rig::standard();
    let mut client = rig.connect();
    client.send(format!("{}5\r\nhello\r\n0\r\n\r\n", head("POST", "Transfer_Encoding: chunked")));
    assert_eq!(client.response().status, 200);
    assert!(client.response_or_end("POST").is_none_or(|response| response.status == 400));
    assert_eq!(rig.server.requests()[0].body, b"");
    rig.finish(1);
}

#[test]
fn chunks_that_are_none() {
    let bench = Bench::new();
    let hidden = hidden();
    for (case, chunks, outcome) in [
        ("size with a sign", "+5\r\nhello\r\n0\r\n\r\n", NeverWhole),
        ("size with 0x", "0x5\r\nhello\r\n0\r\n\r\n", NeverWhole),
        ("size beyond all numbers", "FFFFFFFFFFFFFFFFFF\r\nhello\r\n0\r\n\r\n", NeverWhole),
        ("size that wraps around", "10000000000000005\r\nhello\r\n0\r\n\r\n", NeverWhole),
        ("negative size", "-5\r\nhello\r\n0\r\n\r\n", NeverWhole),
        ("no size", "\r\nhello\r\n0\r\n\r\n", NeverWhole),
        ("no digits", ";x\r\nhello\r\n0\r\n\r\n", NeverWhole),
        ("size with an underscore", "0_5\r\nhello\r\n0\r\n\r\n", NeverWhole),
        ("data longer than its size", "3\r\nhello\r\n0\r\n\r\n", NeverWhole),
        ("data without its end", "5\r\nhello0\r\n\r\n", NeverWhole),
        ("a line feed ends the size", "5\nhello\r\n0\r\n\r\n", NeverWhole),
        ("a line feed ends the data", "5\r\nhello\n0\r\n\r\n", NeverWhole),
        ("a line feed in an extension", "5;x\nhello\r\n0\r\n\r\n", NeverWhole),
        ("a carriage return in an extension", "5;x\rhello\r\n0\r\n\r\n", NeverWhole),
        ("blank before the size", " 5\r\nhello\r\n0\r\n\r\n", NeverWhole),
        ("no last chunk", "5\r\nhello\r\n", Incomplete),
        ("a last chunk with data", "5\r\nhello\r\n0\r\nx\r\n\r\n", NeverWhole),
        ("blank after the size", "5 \r\nhello\r\n0\r\n\r\n", AtMostOne("hello")),
        ("an extension", "5;a=b\r\nhello\r\n0;c\r\n\r\n", One("hello")),
        ("zeros before the size", "0000000005\r\nhello\r\n000\r\n\r\n", AtMostOne("hello")),
    ] {
        let head = head("POST", "Transfer-Encoding: chunked");
        bench.check(case, format!("{head}{chunks}"), outcome);
        if outcome == NeverWhole {
            bench.check(case, format!("{head}{chunks}{hidden}"), NeverWhole);
        }
    }
    bench.finish();
}

#[test]
fn a_client_that_spoils_its_body_is_no_failure_of_the_model_server() {
    let rig = Rig::standard();
    let broken =
        format!("{}5\r\nhello\r\nnonsense\r\n", head("POST", "Transfer-Encoding: chunked"));
    let cut = format!("{}hel", head("POST", "Content-Length: 5"));
    for bytes in [&broken, &cut, &broken, &cut] {
        let mut client = rig.connect();
        client.send(bytes);
        if bytes == &cut {
            rig.server.wait_for_heads(1);
            client.connection.finish_sending();
        }
        if let Some(response) = client.response_or_end("POST") {
            assert!((400..500).contains(&response.status), "{response:?}");
        }
        // The next is served by the same endpoint.
        assert_eq!(rig.ask(&get("/score/allowed").token("eval")).status, 200);
    }
    let metrics = rig.gate.metrics();
    let of_default = [("namespace", "default")];
    assert_eq!(metrics.value("faregate_upstream_errors_total", &of_default).unwrap_or(0.0), 0.0);
    assert_eq!(metrics.value("faregate_upstream_endpoint_up", &of_default), Some(1.0));
    assert_eq!(rig.server.requests().len(), 4);
    rig.assert_no_leak();
}

#[test]
fn heads_that_are_none() {
    let bench = Bench::new();
    let hidden = hidden();
    let token = secret("eval");
    let lines = format!("Host: {HOST}\r\nAuthorization: Bearer {token}");
    for (case, bytes, outcome) in [
        (
            "a blank before the first field",
            format!("GET /score/allowed HTTP/1.1\r\n X: y\r\n{lines}\r\n\r\n"),
            Refused,
        ),
        (
            "a folded field",
            format!("GET /score/allowed HTTP/1.1\r\n{lines}\r\nX: a\r\n\tb\r\n\r\n"),
            Refused,
        ),
        (
            "a field without a colon",
            format!("GET /score/allowed HTTP/1.1\r\n{lines}\r\nnonsense\r\n\r\n"),
            Refused,
        ),
        (
            "a field without a name",
            format!("GET /score/allowed HTTP/1.1\r\n{lines}\r\n: x\r\n\r\n"),
            Refused,
        ),
        (
            "a blank in a name",
            format!("GET /score/allowed HTTP/1.1\r\n{lines}\r\nX Y: x\r\n\r\n"),
            Refused,
        ),
        (
            "a blank after a name",
            format!("GET /score/allowed HTTP/1.1\r\n{lines}\r\nX : x\r\n\r\n"),
            Refused,
        ),
        (
            "NUL in a value",
            format!("GET /score/allowed HTTP/1.1\r\n{lines}\r\nX: a\0b\r\n\r\n"),
            Refused,
        ),
        (
            "a carriage return in a value",
            format!("GET /score/allowed HTTP/1.1\r\n{lines}\r\nX: a\rb\r\n\r\n"),
            Refused,
        ),
        (
            "a carriage return before the end",
            format!("GET /score/allowed HTTP/1.1\r\n{lines}\r\nX: a\r\r\n\r\n"),
            Refused,
        ),
        (
            "two blanks in the first line",
            format!("GET  /score/allowed HTTP/1.1\r\n{lines}\r\n\r\n"),
            Refused,
        ),
        (
            "a tab in the first line",
            format!("GET\t/score/allowed\tHTTP/1.1\r\n{lines}\r\n\r\n"),
            Refused,
        ),
        (
            "a blank in the target",
            format!("GET /score/allowed /x HTTP/1.1\r\n{lines}\r\n\r\n"),
            Refused,
        ),
        ("no version", format!("GET /score/allowed\r\n{lines}\r\n\r\n"), Refused),
        ("HTTP/0.9", "GET /score/allowed\r\n".to_owned(), Incomplete),
        ("version 1.2", format!("GET /score/allowed HTTP/1.2\r\n{lines}\r\n\r\n"), Refused),
        ("version 2.0", format!("GET /score/allowed HTTP/2.0\r\n{lines}\r\n\r\n"), Refused),
        (
            "version in lower case",
            format!("GET /score/allowed http/1.1\r\n{lines}\r\n\r\n"),
            Refused,
        ),
        (
            "a method of other characters",
            format!("GE(T /score/allowed HTTP/1.1\r\n{lines}\r\n\r\n"),
            Refused,
        ),
        ("half a head", format!("GET /score/allowed HTTP/1.1\r\n{lines}\r\n"), Incomplete),
        ("nothing but an end", "\r\n\r\n".to_owned(), Incomplete),
        ("TLS", "\u{16}\u{3}\u{1}\u{2}\0\u{1}\0\u{1}".to_owned(), Incomplete),
        (
            "bare line feeds",
            format!("GET /score/allowed HTTP/1.1\n{}\n\n", lines.replace("\r\n", "\n")),
            AtMostOne(""),
        ),
        (
            "empty lines before",
            format!("\r\n\r\nGET /score/allowed HTTP/1.1\r\n{lines}\r\n\r\n"),
            AtMostOne(""),
        ),
    ] {
        bench.check(case, &bytes, outcome);
        if outcome == Refused && bytes.ends_with("\r\n\r\n") && bytes.len() > 10 {
            bench.check(case, format!("{bytes}{hidden}"), Refused);
        }
    }
    bench.finish();
}

#[test]
fn what_follows_a_request_is_the_next_one() {
    let bench = Bench::new();
    let hidden = hidden();
    bench.check("no body", format!("{}{hidden}", head("GET", "X: y")), Then(""));
    bench.check("POST without a length", format!("{}{hidden}", head("POST", "X: y")), Then(""));
    bench.check("length 0", format!("{}{hidden}", head("POST", "Content-Length: 0")), Then(""));
    bench.check(
        "GET with a body",
        format!("{}hello{hidden}", head("GET", "Content-Length: 5")),
        Then("hello"),
    );
    // Named as a hop's own, a length is a length all the same.
    let named = head("POST", "Connection: Content-Length\r\nContent-Length: 5");
    bench.check("a length named by Connection", format!("{named}hello{hidden}"), Then("hello"));
    let named = head("POST", "Connection: close, Transfer-Encoding\r\nTransfer-Encoding: chunked");
    bench.check(
        "chunks named by Connection",
        format!("{named}5\r\nhello\r\n0\r\n\r\n"),
        One("hello"),
    );
    // Announced, and not sent.
    bench.check(
        "a body that is cut",
        format!("{}hel", head("POST", "Content-Length: 5")),
        Incomplete,
    );
    bench.finish();
}

#[test]
fn the_body_of_what_was_refused_is_no_request() {
    for (case, target, token) in [
        ("no token", "/score/allowed", None),
        ("bad token", "/score/allowed", Some("nobody")),
        ("resource", "/score/secret", Some("eval")),
        ("no route", "/nowhere", Some("eval")),
        ("path", "/score/../x", Some("eval")),
        ("method", "/score/allowed", Some("manage")),
    ] {
        for chunked in [false, true] {
            let rig = Rig::standard();
            let inner = hidden();
            let mut asked = post(target, &inner);
            if let Some(token) = token {
                asked = asked.token(token);
            }
            let mut bytes = asked.bytes();
            if chunked {
                let text = String::from_utf8(bytes).unwrap();
                let (head, _) = text.split_once("Content-Length").unwrap();
                bytes = format!(
                    "{head}Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{inner}\r\n0\r\n\r\n",
                    inner.len()
                )
                .into();
            }
            let mut client = rig.connect();
            client.send(&bytes);
            // A request of its own right after the refused one is answered, or the connection is closed before it.
            client.send(get("/score/pre-next").token("eval").bytes());
            let refusal = client.response();
            assert!((400..404).contains(&refusal.status), "{case}: {refusal:?}");
            if let Some(next) = client.response_or_end("GET") {
                assert_eq!(next.status, 200, "{case}: {next:?}");
            }
            let received = rig.server.requests();
            assert!(
                received.iter().all(|request| request.target == "/score/pre-next"),
                "{case}: {received:#?}"
            );
            assert!(received.len() <= 1, "{case}");
            let count = received.len();
            rig.finish(count);
        }
    }
}

#[test]
fn a_body_that_never_comes_does_not_delay_a_refusal() {
    let rig = Rig::standard();
    let mut client = rig.connect();
    let asked = post("/score/secret", "").token("eval").bytes();
    let asked =
        String::from_utf8(asked).unwrap().replace("Content-Length: 0", "Content-Length: 1000000");
    client.send(asked);
    assert_eq!(client.response().reason(), Some("resource_not_allowed"));
    rig.finish(0);
}

#[test]
fn a_huge_body_of_what_was_refused_is_not_read_to_its_end() {
    let rig = Rig::standard();
    let mut client = rig.connect();
    let asked = String::from_utf8(post("/score/secret", "").token("eval").bytes()).unwrap();
    client.send(asked.replace("Content-Length: 0", "Content-Length: 1073741824"));
    let piece = vec![b'x'; 1024 * 1024];
    let patience = crate::support::PATIENCE;
    let taken = (0..256).take_while(|_| client.connection.try_send(&piece, patience)).count();
    assert!(taken < 256, "the gate took 256 MiB that nobody wanted");
    rig.finish(0);
}

#[test]
fn nobody_is_told_to_continue_who_will_be_refused() {
    let rig = Rig::standard();
    let asked = |target: &str, token: &str| {
        let bytes = post(target, "").token(token).with("Expect", "100-continue").bytes();
        String::from_utf8(bytes).unwrap().replace("Content-Length: 0", "Content-Length: 5")
    };
    for (target, token, status) in [
        ("/score/secret", "eval", 403),
        ("/score/allowed", "nobody", 401),
        ("/nowhere", "all", 403),
        ("/a//b", "all", 400),
    ] {
        let mut client = rig.connect();
        client.send(asked(target, token));
        let response = client.response();
        assert_eq!((response.status, &response.interim[..]), (status, &[][..]), "{target}");
    }
    rig.assert_upstream_got_nothing("refused");
    // Who is allowed is told, by the gate or by the server, and then the body goes through.
    let mut client = rig.connect();
    client.send(asked("/score/allowed", "eval"));
    let interim = client.bytes(25);
    assert_eq!(String::from_utf8_lossy(&interim), "HTTP/1.1 100 Continue\r\n\r\n");
    client.send("hello");
    assert_eq!(client.response().status, 200);
    assert_eq!(rig.server.requests()[0].body, b"hello");
    rig.finish(1);
}

#[test]
fn bodies_of_every_size_come_through_as_they_are() {
    let server = ModelServer::scripted(|exchange| {
        let Some(request) = exchange.whole() else { return model_server::Then::Close };
        let digest = blake3::hash(&request.body).to_hex();
        let answer = format!(
            "HTTP/1.1 200 OK\r\nX-Served-By: model\r\nX-Digest: {digest}\r\nContent-Length: {}\r\n\r\n",
            request.body.len()
        );
        exchange.send(answer);
        exchange.send(&request.body);
        model_server::Then::KeepOpen
    });
    let rig = Rig::before(server);
    let mut count = 0;
    for length in [0, 1, 255, 4096, 16 * 1024, 16 * 1024 + 1, 70_000, 1_000_000] {
        let body: Vec<u8> =
            (0..length).map(|place: usize| u8::try_from(place * 7 % 251).unwrap()).collect();
        let digest = blake3::hash(&body).to_hex().to_string();
        let sent_whole = rig.connect().ask(&post("/score/allowed", &body).token("eval"));
        let mut client = rig.connect();
        client.send(head("POST", "Transfer-Encoding: chunked"));
        for piece in body.chunks(50_001) {
            client.send(format!("{:X}\r\n", piece.len()));
            client.send(piece);
            client.send("\r\n");
        }
        client.send("0\r\n\r\n");
        for response in [sent_whole, client.response()] {
            assert_eq!(response.field("x-digest"), Some(digest.as_str()), "{length}");
            assert!(response.body == body && response.is_whole, "{length}");
            count += 1;
        }
    }
    rig.finish(count);
}

#[test]
fn requests_that_come_in_single_bytes_are_requests() {
    let rig = Rig::standard();
    let mut client: Client = rig.connect();
    for byte in post("/score/allowed", "hello").token("eval").bytes() {
        client.send([byte]);
    }
    assert_eq!(client.response().status, 200);
    assert_eq!(rig.server.requests()[0].body, b"hello");
    rig.finish(1);
}

#[test]
fn requests_that_come_all_at_once_are_answered_in_their_order() {
    let server = ModelServer::scripted(|exchange| {
        let target = exchange.request.target.clone();
        exchange
            .send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{target}", target.len()));
        model_server::Then::KeepOpen
    });
    let rig = Rig::before(server);
    let mut client = rig.connect();
    let targets: Vec<String> =
        (0..200).map(|number| format!("/score/{}?{number}", model(number))).collect();
    fn model(number: usize) -> &'static str {
        if number.is_multiple_of(3) { "secret" } else { "allowed" }
    }
    let bytes: Vec<u8> =
        targets.iter().flat_map(|target| get(target).token("eval").bytes()).collect();
    client.send(bytes);
    let mut allowed = 0;
    for (number, target) in targets.iter().enumerate() {
        let response = client.response();
        if model(number) == "secret" {
            assert_eq!(response.reason(), Some("resource_not_allowed"), "{target}");
        } else {
            assert_eq!(response.text(), *target);
            allowed += 1;
        }
    }
    rig.finish(allowed);
}
