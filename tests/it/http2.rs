//! HTTP/2 in frames: the same rules as for HTTP/1.1, and what only HTTP/2 makes possible.

use std::sync::Mutex;
use std::sync::mpsc;

use crate::support::eventually;
use crate::support::http1::{all, find};
use crate::support::http2::{
    Answer, Head, Http2, Message, PREFACE, flag, frame, hpack, kind, setting,
};
use crate::support::model_server::{CANNED, CANNED_BODY, ModelServer, Then};
use crate::support::rig::Rig;
use crate::support::tokens::{self, secret};
use crate::support::transport::Connection;

fn connect(rig: &Rig) -> Http2 {
    Http2::client(Connection::to(rig.gate.data), rig.heard())
}

/// A request's head in parts, which a test may change before it is sent.
struct Asked {
    fields: Vec<(String, Vec<u8>)>,
}

fn ask(method: &str, path: &str) -> Asked {
    let asked = Asked { fields: Vec::new() };
    asked
        .with(":method", method)
        .with(":scheme", "http")
        .with(":authority", "models.test")
        .with(":path", path)
}

impl Asked {
    fn with(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.fields.push((name.to_owned(), value.as_ref().to_vec()));
        self
    }

    fn token(self, id: &str) -> Self {
        self.with("authorization", format!("Bearer {}", secret(id)))
    }

    fn set(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        let field = self.fields.iter_mut().find(|(own, _)| own == name).unwrap();
        field.1 = value.as_ref().to_vec();
        self
    }

    fn without(mut self, name: &str) -> Self {
        self.fields.retain(|(own, _)| own != name);
        self
    }

    fn head(&self) -> Head<'_> {
        self.fields.iter().map(|(name, value)| (name.as_str(), &value[..])).collect()
    }

    fn send(&self, http2: &mut Http2) -> Answer {
        http2.ask(&self.head())
    }
}

fn allowed() -> Asked {
    ask("GET", "/score/allowed").token("eval")
}

#[test]
fn a_request_is_forwarded_in_http_1_with_the_authority_as_host() {
    let rig = Rig::standard();
    let mut http2 = connect(&rig);
    for round in 0..3 {
        let response = allowed().with("x-own", format!("{round}")).send(&mut http2).response();
        assert_eq!(response.status(), 200);
        assert_eq!(response.body, CANNED_BODY.as_bytes());
        assert_eq!(response.field("x-served-by"), Some("model"));
    }
    let received = rig.server.requests();
    assert_eq!(received[0].target, "/score/allowed");
    assert_eq!(received[0].field("host"), Some("models.test"));
    assert_eq!(received[0].field("x-credential-identifier"), Some("eval"));
    assert_eq!(received[0].field("x-forwarded-proto"), Some("http"));
    // A body with and without an announced length.
    let stream = http2.start(
        &ask("POST", "/score/allowed").token("eval").with("content-length", "5").head(),
        false,
    );
    http2.data(stream, b"he", false);
    http2.data(stream, b"llo", true);
    assert_eq!(http2.answer(stream).response().status(), 200);
    let stream = http2.start(&ask("POST", "/score/allowed").token("eval").head(), false);
    http2.data(stream, b"hello", false);
    http2.data(stream, b"", true);
    assert_eq!(http2.answer(stream).response().status(), 200);
    let bodies: Vec<_> =
        rig.server.requests().into_iter().filter(|request| request.method == "POST").collect();
    assert!(
        bodies.len() == 2 && bodies.iter().all(|request| request.body == b"hello"),
        "{bodies:?}"
    );
    rig.finish(5);
}

#[test]
fn the_law_is_the_same() {
    let rig = Rig::standard();
    let mut http2 = connect(&rig);
    for (case, asked, status, reason) in [
        ("no token", ask("GET", "/score/allowed"), 401, "no_credential"),
        ("bad token", ask("GET", "/score/allowed").token("nobody"), 401, "invalid_token"),
        ("resource", ask("GET", "/score/secret").token("eval"), 403, "resource_not_allowed"),
        ("group", ask("PUT", "/score/allowed").token("eval"), 403, "group_not_allowed"),
        ("no route", ask("GET", "/nowhere").token("eval"), 403, "no_route"),
        ("path", ask("GET", "/score/../score/allowed").token("eval"), 400, "bad_path"),
        ("path, escaped", ask("GET", "/score/%61llowed").token("eval"), 400, "bad_path"),
        ("two credentials", allowed().with("x-api-key", "x"), 400, "ambiguous_credential"),
        ("a credential twice", allowed().token("eval"), 400, "ambiguous_credential"),
        (
            "model twice",
            ask("GET", "/score/allowed?model=secret").token("eval"),
            400,
            "model_conflict",
        ),
    ] {
        let response = asked.send(&mut http2).response();
        assert_eq!((response.status(), response.reason()), (status, Some(reason)), "{case}");
        assert_eq!(response.field("cache-control"), Some("no-store"), "{case}");
    }
    for method in ["TRACE", "CONNECT"] {
        let answer = ask(method, "/score/allowed").token("eval").send(&mut http2);
        if let Answer::Response(response) = answer {
            assert!(matches!(response.status(), 400 | 405), "{method}: {response:?}");
        }
    }
    rig.finish(0);
}

/// The status of a refusal, or none when the stream or the connection was ended instead.
fn refusal(case: &str, answer: Answer) -> Option<u16> {
    match answer {
        Answer::Response(message) => {
            let status = message.status();
            assert!((400..500).contains(&status), "{case}: {message:?}");
            Some(status)
        }
        Answer::Reset(..) | Answer::Gone(_) => None,
    }
}

#[test]
fn a_head_that_is_none_is_refused_or_ends_its_stream() {
    let rig = Rig::standard();
    let long = "x".repeat(100_000);
    let table: Vec<(&str, Asked)> = vec![
        ("path without a slash", allowed().set(":path", "score/allowed")),
        ("path empty", allowed().set(":path", "")),
        ("path missing", allowed().without(":path")),
        ("path an asterisk", allowed().set(":path", "*")),
        ("path an asterisk, OPTIONS", allowed().set(":path", "*").set(":method", "OPTIONS")),
        ("path absolute", allowed().set(":path", "http://models.test/score/allowed")),
        ("path a query", allowed().set(":path", "?x=/score/allowed")),
        ("path with a blank", allowed().set(":path", "/score/allowed x")),
        ("path with a line end", allowed().set(":path", "/score/allowed\r\nx: y")),
        ("path with NUL", allowed().set(":path", "/score/allowed\0")),
        ("path twice", allowed().with(":path", "/score/secret")),
        ("path with a fragment", allowed().set(":path", "/score/secret#/score/allowed")),
        ("authority missing", allowed().without(":authority")),
        ("authority empty", allowed().set(":authority", "")),
        ("authority twice", allowed().with(":authority", "other.test")),
        ("authority with a user", allowed().set(":authority", "user@models.test")),
        ("authority with a path", allowed().set(":authority", "models.test/x")),
        ("authority with a blank", allowed().set(":authority", "models.test x")),
        ("host differs", allowed().with("host", "other.test")),
        ("host differs in its port", allowed().with("host", "models.test:81")),
        (
            "host twice",
            allowed().without(":authority").with("host", "models.test").with("host", "models.test"),
        ),
        ("host malformed", allowed().without(":authority").with("host", "a/../b")),
        ("method missing", allowed().without(":method")),
        ("method twice", allowed().with(":method", "DELETE")),
        ("method with a blank", allowed().set(":method", "GET /score/secret HTTP/1.1\r\n")),
        ("method empty", allowed().set(":method", "")),
        ("scheme missing", allowed().without(":scheme")),
        ("scheme twice", allowed().with(":scheme", "https")),
        ("a pseudo field nobody knows", allowed().with(":other", "x")),
        ("a pseudo field of responses", allowed().with(":status", "200")),
        (
            "a pseudo field after others",
            allowed().with("x", "y").without(":path").with(":path", "/score/allowed"),
        ),
        ("an upper-case name", allowed().with("X-Upper", "x")),
        ("an empty name", allowed().with("", "x")),
        ("a name with a colon", allowed().with("x:y", "x")),
        ("a name with a line end", allowed().with("x\r\ny", "x")),
        ("a value with a line end", allowed().with("x", "a\r\nauthorization: b")),
        ("a value with a line feed", allowed().with("x", "a\nb")),
        ("a value with NUL", allowed().with("x", "a\0b")),
        ("connection", allowed().with("connection", "x-one")),
        ("connection, identity", allowed().with("connection", "x-credential-identifier")),
        ("keep-alive", allowed().with("keep-alive", "timeout=5")),
        ("proxy-connection", allowed().with("proxy-connection", "keep-alive")),
        ("transfer-encoding", allowed().with("transfer-encoding", "chunked")),
        ("upgrade", allowed().with("upgrade", "websocket")),
        ("te", allowed().with("te", "gzip")),
        ("a length of no body", allowed().with("content-length", "5")),
        ("two lengths", allowed().with("content-length", "0").with("content-length", "5")),
        ("a length that is none", allowed().with("content-length", "x")),
        ("a huge field", allowed().with("x", &long)),
        (
            "CONNECT",
            ask("CONNECT", "/")
                .token("eval")
                .without(":path")
                .without(":scheme")
                .set(":authority", "models.test:80"),
        ),
        (
            "CONNECT with a protocol",
            ask("CONNECT", "/score/allowed").token("eval").with(":protocol", "websocket"),
        ),
    ];
    for (case, asked) in &table {
        // The order of pseudo fields matters only to the cases that change it.
        let mut fields = asked.fields.clone();
        if !case.contains("after others") {
            fields.sort_by_key(|(name, _)| !name.starts_with(':'));
        }
        let asked = Asked { fields };
        let mut http2 = connect(&rig);
        let answer = asked.send(&mut http2);
        // Named as a hop's own, or dropped, where a library has not refused it already: but never believed.
        if let Answer::Response(message) = &answer
            && message.status() == 200
        {
            let received = rig.server.requests().pop().unwrap();
            panic!("{case}: forwarded as {}", received.summary());
        }
        refusal(case, answer);
    }
    // The fragment is cut before anyone judges, so what is left is judged: `/score/secret`.
    rig.assert_upstream_got_nothing("all of them");
    let mut http2 = connect(&rig);
    assert_eq!(allowed().with("host", "models.test").send(&mut http2).response().status(), 200);
    assert_eq!(
        allowed()
            .without(":authority")
            .with("host", "models.test")
            .send(&mut http2)
            .response()
            .status(),
        200
    );
    assert_eq!(allowed().with("te", "trailers").send(&mut http2).response().status(), 200);
    for request in rig.server.requests() {
        assert_eq!(request.field("host"), Some("models.test"));
    }
    rig.finish(3);
}

#[test]
fn the_length_that_was_announced_is_the_length_that_comes() {
    let rig = Rig::standard();
    let post =
        |length: &str| ask("POST", "/score/allowed").token("eval").with("content-length", length);
    for (case, asked, data) in [
        ("more", post("3"), &b"hello"[..]),
        ("less", post("9"), b"hello"),
        ("none", post("5"), b""),
        ("some for none", post("0"), b"hello"),
    ] {
        let mut http2 = connect(&rig);
        let stream = http2.start(&asked.head(), false);
        http2.data(stream, data, true);
        // A head that announces nothing is whole by itself, and may be answered before what should
        // not follow it comes; that is never its body.
        let is_announced = case != "some for none";
        let answer = http2.answer(stream);
        if is_announced {
            refusal(case, answer);
        }
        // The rest of the gate goes on, and nothing whole has arrived.
        let mut other = connect(&rig);
        assert_eq!(
            ask("GET", "/score/pre-barrier").token("eval").send(&mut other).response().status(),
            200,
            "{case}"
        );
        let whole: Vec<_> = rig
            .server
            .requests()
            .into_iter()
            .filter(|request| request.target == "/score/allowed")
            .collect();
        assert!(
            whole.iter().all(|request| !is_announced && request.body.is_empty()),
            "{case}: {whole:?}"
        );
    }
    rig.assert_no_leak();
}

#[test]
fn a_body_is_not_read_as_a_request() {
    let rig = Rig::standard();
    let mut http2 = connect(&rig);
    let body = format!(
        "0\r\n\r\nGET /score/secret HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\n\r\n",
        "x".repeat(20)
    );
    for length in [None, Some(body.len())] {
        let mut asked = ask("POST", "/score/allowed").token("eval");
        if let Some(length) = length {
            asked = asked.with("content-length", length.to_string());
        }
        let stream = http2.start(&asked.head(), false);
        http2.data(stream, body.as_bytes(), true);
        assert_eq!(http2.answer(stream).response().status(), 200);
    }
    assert!(rig.server.requests().iter().all(|request| request.body == body.as_bytes()));
    rig.finish(2);
}

#[test]
fn identity_and_credentials_are_the_gates_alone() {
    let rig = Rig::with(ModelServer::canned(), |settings| {
        settings.namespaces[0].keys = "credentials = [\"bearer\", \"cookie:session\"]\n".into();
    });
    let mut http2 = connect(&rig);
    for name in [
        "x-credential-identifier",
        "x_credential_identifier",
        "x-consumer-username",
        "x-authenticated-groups",
    ] {
        let response =
            allowed().with(name, "forged").with(name, "forged").send(&mut http2).response();
        assert_eq!(response.status(), 200, "{name}");
    }
    // A cookie may come in crumbs, and the credential is one of them.
    let crumbs = ask("GET", "/score/allowed")
        .with("cookie", "a=1")
        .with("cookie", format!("session={}", secret("eval")))
        .with("cookie", "b=2");
    assert_eq!(crumbs.send(&mut http2).response().status(), 200);
    let twice = ask("GET", "/score/allowed")
        .with("cookie", format!("session={}", secret("eval")))
        .with("cookie", format!("session={}", secret("all")));
    assert_eq!(twice.send(&mut http2).response().reason(), Some("ambiguous_credential"));
    // Trailers come after the law has spoken.
    let stream = http2
        .start(&ask("POST", "/score/allowed").token("eval").with("te", "trailers").head(), false);
    http2.data(stream, b"hello", false);
    let credential = format!("Bearer {}", secret("all"));
    let trailers: Head<'_> = vec![
        ("x-credential-identifier", b"forged"),
        ("x_consumer_username", b"forged"),
        ("authorization", credential.as_bytes()),
        ("x-checksum", b"abc"),
    ];
    http2.head(stream, &trailers, true);
    assert_eq!(http2.answer(stream).response().status(), 200);
    let received = rig.server.requests();
    for request in &received {
        assert!(!request.summary().contains("forged"), "{}", request.summary());
        assert_eq!(request.field("x-credential-identifier"), Some("eval"));
        assert!(
            request.trailers.iter().all(|(name, _)| name == "x-checksum"),
            "{:?}",
            request.trailers
        );
    }
    let cookies: Vec<&str> =
        received.iter().filter_map(|request| request.field("cookie")).collect();
    assert_eq!(cookies, ["a=1; b=2"]);
    rig.finish(6);
}

#[test]
fn an_open_connection_sees_the_new_policy_at_its_next_request() {
    let rig = Rig::standard();
    let mut http2 = connect(&rig);
    assert_eq!(allowed().send(&mut http2).response().status(), 200);
    rig.gate.change_tokens("version = 1\n");
    assert_eq!(allowed().send(&mut http2).response().reason(), Some("invalid_token"));
    rig.gate.change_tokens(&tokens::standard_file());
    assert_eq!(allowed().send(&mut http2).response().status(), 200);
    rig.finish(2);
}

#[test]
fn a_stream_ends_with_the_right_to_it_and_takes_no_other_along() {
    let (pieces, receiver) = mpsc::channel::<&'static str>();
    let receiver = Mutex::new(receiver);
    let server = ModelServer::scripted(move |exchange| {
        if exchange.request.target != "/score/allowed" {
            exchange.send(CANNED);
            return Then::KeepOpen;
        }
        exchange.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        while let Ok(piece) = receiver.lock().unwrap().recv() {
            exchange.send(piece);
        }
        exchange.wait_until_closed();
        Then::Close
    });
    let rig = Rig::before(server);
    let mut http2 = connect(&rig);
    let stream = http2.start(&allowed().head(), true);
    pieces.send("3\r\none\r\n").unwrap();
    assert_eq!(http2.body_so_far(stream, 3), b"one");
    let others: Vec<_> =
        tokens::STANDARD.iter().copied().filter(|token| token.id != "eval").collect();
    drop(pieces);
    rig.gate.change_tokens(&tokens::file(&others));
    match http2.answer(stream) {
        Answer::Reset(..) => {}
        other => panic!("only this stream is to be reset: {other:?}"),
    }
    rig.server.wait_for_ended_connections(1);
    assert_eq!(ask("GET", "/score/pre-x").token("all").send(&mut http2).response().status(), 200);
    rig.finish(2);
}

/// A model server that speaks HTTP/2 without TLS and answers each request with a message and gRPC's trailers. It gives
/// back what it saw as the message.
fn grpc_server() -> (std::net::SocketAddr, mpsc::Receiver<Message>) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (seen, requests) = mpsc::channel();
    std::thread::spawn(move || {
        // Ends when the test has ended and nobody takes what it saw.
        for socket in listener.incoming() {
            let (Ok(socket), seen) = (socket, seen.clone()) else { return };
            std::thread::spawn(move || {
                let Some(mut http2) = Http2::server(Connection::over(socket)) else { return };
                while http2.step() {
                    let whole: Vec<u32> = http2
                        .streams
                        .iter()
                        .filter(|(_, message)| message.is_whole)
                        .map(|(id, _)| *id)
                        .collect();
                    for stream in whole {
                        let message = http2.streams.remove(&stream).unwrap();
                        http2.head(
                            stream,
                            &[(":status", b"200"), ("content-type", b"application/grpc")],
                            false,
                        );
                        http2.data(stream, &message.body, false);
                        http2.head(
                            stream,
                            &[("grpc-status", b"0"), ("grpc-message", b"fine"), ("x-own", b"1")],
                            true,
                        );
                        if seen.send(message).is_err() {
                            return;
                        }
                    }
                }
            });
        }
    });
    (address, requests)
}

fn grpc(path: &str) -> Asked {
    ask("POST", path).with("content-type", "application/grpc").with("te", "trailers")
}

const MESSAGE: &[u8] = b"\0\0\0\0\x05hello";

#[test]
fn grpc_goes_through_with_its_trailers() {
    let (address, requests) = grpc_server();
    let rig = Rig::with(ModelServer::canned(), |settings| {
        settings.namespaces[0].endpoints = vec![format!("h2c://{address}")];
    });
    let mut http2 = connect(&rig);
    for _ in 0..3 {
        let stream = http2
            .start(&grpc("/score/allowed").token("eval").with("grpc-timeout", "1S").head(), false);
        http2.data(stream, MESSAGE, true);
        let response = http2.answer(stream).response();
        assert_eq!(response.status(), 200);
        assert_eq!(response.body, MESSAGE);
        assert_eq!(response.field("content-type"), Some("application/grpc"));
        assert_eq!(all(&response.trailers, "grpc-status"), ["0"]);
        assert_eq!(all(&response.trailers, "grpc-message"), ["fine"]);
        assert_eq!(all(&response.trailers, "x-own"), ["1"]);
        let seen = requests.recv_timeout(crate::support::PATIENCE).unwrap();
        assert_eq!(seen.field(":path"), Some("/score/allowed"));
        assert_eq!(seen.field(":authority"), Some("models.test"));
        assert_eq!(seen.field("te"), Some("trailers"));
        assert_eq!(seen.field("grpc-timeout"), Some("1S"));
        assert_eq!(seen.field("authorization"), None);
        assert_eq!(seen.field("x-credential-identifier"), Some("eval"));
        assert_eq!(seen.body, MESSAGE);
    }
    // HTTP/1.1 clients of the same server are served, too.
    let response = rig.ask(&crate::support::http1::post("/score/allowed", MESSAGE).token("eval"));
    assert_eq!((response.status, &response.body[..]), (200, MESSAGE));
    rig.finish(0);
}

#[test]
fn what_http_2_has_no_word_for_is_not_passed_on_in_it() {
    let (address, requests) = grpc_server();
    let rig = Rig::with(ModelServer::canned(), |settings| {
        settings.namespaces[0].endpoints = vec![format!("h2c://{address}")];
    });
    let asked = crate::support::http1::get("/score/allowed").token("eval");
    for (case, request) in [
        ("keep-alive", asked.clone().with("Connection", "keep-alive, x-one").with("X-One", "1")),
        ("te", asked.clone().with("TE", "gzip")),
        ("te, trailers", asked.clone().with("Connection", "TE").with("TE", "trailers, deflate")),
        ("proxy-connection", asked.clone().with("Proxy-Connection", "keep-alive")),
        ("close", asked.clone().with("Connection", "close")),
    ] {
        assert_eq!(rig.ask(&request).status, 200, "{case}");
        let seen = requests.recv_timeout(crate::support::PATIENCE).unwrap();
        for name in
            ["connection", "keep-alive", "proxy-connection", "transfer-encoding", "x-one", "host"]
        {
            assert_eq!(seen.field(name), None, "{case}: {name}");
        }
        assert!(
            matches!(seen.field("te"), None | Some("trailers")),
            "{case}: {:?}",
            seen.field("te")
        );
        assert_eq!(seen.field(":authority"), Some("models.test"), "{case}");
    }
    // There is no such server of WebSockets, and nobody pretends that there is.
    let upgrade = asked
        .with("Connection", "Upgrade")
        .with("Upgrade", "websocket")
        .with("Sec-WebSocket-Version", "13")
        .with("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==");
    let response = rig.ask(&upgrade);
    assert_ne!(response.status, 101, "{response:?}");
    rig.finish(0);
}

#[test]
fn a_grpc_client_is_refused_in_grpc() {
    let rig = Rig::with(ModelServer::canned(), |settings| {
        settings.namespaces[0].profiles.push("any".into());
    });
    let mut http2 = connect(&rig);
    let service = "/inference.GRPCInferenceService/ModelInfer";
    #[rustfmt::skip]
    let table = [
        ("no token", grpc(service), "16", "no_credential"),
        ("bad token", grpc(service).token("nobody"), "16", "invalid_token"),
        ("expired token", grpc(service).token("expired"), "16", "invalid_token"),
        ("resource", grpc("/other.Service/Call").token("eval"), "7", "resource_not_allowed"),
        ("group", grpc(service).token("no-groups"), "7", "group_not_allowed"),
        ("route denied", grpc("/closed").set(":method", "GET").token("all"), "7", "route_denied"),
        ("path", grpc("/inference.GRPCInferenceService//ModelInfer").token("all"), "3", "bad_path"),
        ("two credentials", grpc(service).token("all").with("x-api-key", "x"), "3", "ambiguous_credential"),
        ("model twice", grpc("/score/allowed?model=secret").token("all"), "3", "model_conflict"),
        ("another content type of gRPC", grpc(service).set("content-type", "application/grpc+proto"), "16", "no_credential"),
    ];
    for (case, asked, status, reason) in &table {
        for with_body in [false, true] {
            let stream = http2.start(&asked.head(), !with_body);
            if with_body {
                http2.data(stream, MESSAGE, true);
            }
            let response = http2.answer(stream).response();
            assert_eq!(response.status(), 200, "{case}");
            assert!(response.is_head_only, "{case}: trailers only: {response:?}");
            assert_eq!(response.field("grpc-status"), Some(*status), "{case}");
            assert!(
                response.field("grpc-message").is_some_and(|message| !message.is_empty()),
                "{case}"
            );
            assert_eq!(response.reason(), Some(*reason), "{case}");
            assert!(
                response
                    .field("content-type")
                    .is_some_and(|kind| kind.starts_with("application/grpc")),
                "{case}"
            );
        }
    }
    rig.finish(0);
}

#[test]
fn a_grpc_client_is_told_of_a_server_that_fails_in_grpc() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let gone = listener.local_addr().unwrap();
    drop(listener);
    let rig = Rig::with(ModelServer::canned(), |settings| {
        settings.namespaces[0].endpoints = vec![format!("h2c://{gone}")];
    });
    let mut http2 = connect(&rig);
    let stream = http2.start(&grpc("/score/allowed").token("eval").head(), false);
    http2.data(stream, MESSAGE, true);
    let response = http2.answer(stream).response();
    assert_eq!((response.status(), response.field("grpc-status")), (200, Some("14")));
    rig.finish(0);

    let server = ModelServer::scripted(|exchange| {
        exchange.wait_until_closed();
        Then::Close
    });
    let rig = Rig::with(server, |settings| {
        settings.namespaces[0].upstream = "response_timeout = \"200ms\"\n".into()
    });
    let mut http2 = connect(&rig);
    let stream = http2.start(&grpc("/score/allowed").token("eval").head(), false);
    http2.data(stream, MESSAGE, true);
    let response = http2.answer(stream).response();
    assert_eq!((response.status(), response.field("grpc-status")), (200, Some("4")));
    rig.finish(1);
}

#[test]
fn an_answer_that_is_cut_resets_its_stream() {
    for answer in [
        "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nonly this\r\n",
    ] {
        let server = ModelServer::scripted(move |exchange| {
            exchange.send(answer);
            Then::Close
        });
        let rig = Rig::before(server);
        let mut http2 = connect(&rig);
        match allowed().send(&mut http2) {
            Answer::Reset(_, message) => assert!(b"only this".starts_with(&message.body[..])),
            other => panic!("{other:?}"),
        }
        rig.finish(1);
    }
}

#[test]
fn what_the_gate_offers_is_what_was_configured() {
    let rig = Rig::with(ModelServer::canned(), |settings| {
        settings.limits = "http2_max_streams = 7\n".into()
    });
    let mut http2 = connect(&rig);
    http2.settled();
    assert_eq!(http2.peer_settings.get(&setting::MAX_CONCURRENT_STREAMS), Some(&7));
    rig.finish(0);
    let rig = Rig::standard();
    let mut http2 = connect(&rig);
    http2.settled();
    assert_eq!(http2.peer_settings.get(&setting::MAX_CONCURRENT_STREAMS), Some(&100));
    rig.finish(0);
}

#[test]
fn many_streams_at_once_are_answered_each_with_its_own() {
    let server = ModelServer::scripted(|exchange| {
        let target = exchange.request.target.clone();
        exchange
            .send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{target}", target.len()));
        Then::KeepOpen
    });
    let rig = Rig::before(server);
    let mut http2 = connect(&rig);
    let targets: Vec<String> = (0..60).map(|number| format!("/score/allowed?{number}")).collect();
    let streams: Vec<u32> = targets
        .iter()
        .map(|target| http2.start(&allowed().set(":path", target).head(), true))
        .collect();
    for (stream, target) in streams.into_iter().zip(&targets) {
        let response = http2.answer(stream).response();
        assert_eq!(response.body, target.as_bytes());
    }
    rig.finish(60);
}

#[test]
fn floods_end_their_own_connection_at_most() {
    let rig = Rig::standard();
    let block = hpack::encode(&allowed().head());
    let start = |stream: u32, flags: u8| frame(kind::HEADERS, flags, stream, &block);
    let whole = flag::END_HEADERS | flag::END_STREAM;
    let floods: Vec<(&str, Vec<u8>)> = vec![
        ("rapid reset", {
            (0..2000_u32)
                .flat_map(|number| {
                    let stream = number * 2 + 1;
                    [start(stream, whole), frame(kind::RST_STREAM, 0, stream, &8_u32.to_be_bytes())]
                        .concat()
                })
                .collect()
        }),
        ("continuations", {
            let mut bytes = frame(kind::HEADERS, flag::END_STREAM, 1, &block);
            (0..5000).for_each(|_| {
                bytes.extend(frame(kind::CONTINUATION, 0, 1, &hpack::encode(&[("x", &[b'y'; 50])])))
            });
            bytes
        }),
        ("empty continuations", {
            let mut bytes = frame(kind::HEADERS, flag::END_STREAM, 1, &block);
            (0..20_000).for_each(|_| bytes.extend(frame(kind::CONTINUATION, 0, 1, &[])));
            bytes
        }),
        ("pings", (0..20_000).flat_map(|_| frame(kind::PING, 0, 0, &[0; 8])).collect()),
        ("settings", (0..20_000).flat_map(|_| frame(kind::SETTINGS, 0, 0, &[])).collect()),
        (
            "window updates of nothing",
            (0..2000).flat_map(|_| frame(kind::WINDOW_UPDATE, 0, 0, &[0; 4])).collect(),
        ),
        ("empty data", {
            let asked = ask("POST", "/score/allowed").token("eval");
            let mut bytes =
                frame(kind::HEADERS, flag::END_HEADERS, 1, &hpack::encode(&asked.head()));
            (0..20_000).for_each(|_| bytes.extend(frame(kind::DATA, 0, 1, &[])));
            bytes
        }),
        (
            "streams beyond the limit",
            (0..500_u32).flat_map(|number| start(number * 2 + 1, whole)).collect(),
        ),
        ("no frames at all", vec![0xff; 20_000]),
    ];
    for (case, bytes) in floods {
        let mut flooding = connect(&rig);
        flooding.connection.send(&bytes);
        // A good client is served on a connection of its own, whatever became of the other.
        let mut http2 = connect(&rig);
        assert_eq!(allowed().send(&mut http2).response().status(), 200, "{case}");
        drop(flooding);
    }
    eventually("nothing is left of them", || {
        let metrics = rig.gate.metrics();
        let in_flight = metrics.value("faregate_requests_in_flight", &[]).unwrap_or(0.0);
        let connections = metrics.value("faregate_connections", &[]).unwrap_or(0.0);
        (in_flight == 0.0 && connections == 0.0).then_some(())
    });
    rig.assert_no_leak();
}

#[test]
fn a_preface_may_come_in_single_bytes() {
    let rig = Rig::standard();
    let mut connection = Connection::to(rig.gate.data);
    for byte in PREFACE {
        connection.send(&[*byte]);
    }
    connection.send(&frame(kind::SETTINGS, 0, 0, &[]));
    connection.send(&frame(
        kind::HEADERS,
        flag::END_HEADERS | flag::END_STREAM,
        1,
        &hpack::encode(&ask("GET", "/score/secret").token("eval").head()),
    ));
    // The refusal names its reason in the head's compressed text, and in the body as it is.
    while find(&connection.unread, b"resource_not_allowed").is_none() {
        connection.read_more();
    }
    rig.finish(0);
}

#[test]
fn a_peer_that_asks_for_little_at_a_time_gets_it_all() {
    let body = "0123456789".repeat(2000);
    let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    let rig = Rig::before(ModelServer::answering(answer));
    let mut http2 = connect(&rig);
    http2.settled();
    // A window of one frame's few bytes, opened again and again.
    http2.send(kind::SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 100]);
    let stream = http2.start(&allowed().head(), true);
    let mut had = 0;
    while had < body.len() {
        let so_far = http2.body_so_far(stream, had + 1).len();
        http2.send(
            kind::WINDOW_UPDATE,
            0,
            stream,
            &u32::try_from(so_far - had).unwrap().to_be_bytes(),
        );
        had = so_far;
    }
    assert_eq!(http2.answer(stream).response().body, body.as_bytes());
    rig.finish(1);
}
