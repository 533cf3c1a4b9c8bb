//! What the model server is told, and what no client can make it believe.

use crate::support::http1::{Request, all, get, post};
use crate::support::model_server::ModelServer;
use crate::support::rig::Rig;
use crate::support::tokens::{self, Token};

#[test]
fn a_forwarded_request_is_what_the_client_sent_less_what_is_ours() {
    let rig = Rig::standard();
    let request = post("/v2/models/allowed/infer?x=1", "{}")
        .token("eval")
        .with("Content-Type", "application/json")
        .with("Accept", "*/*")
        .with("User-Agent", "test/1")
        .with("Accept-Encoding", "gzip")
        .with("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
        .with("tracestate", "a=b")
        .with("X-Request-Id", "given.by_the-client")
        .with("X-Own", "1")
        .with("X-Own", "2");
    let received = rig.assert_forwarded("all of it", &request);
    assert_eq!(
        received.summary(),
        "POST /v2/models/allowed/infer?x=1\n\
         accept-encoding: gzip\n\
         accept: */*\n\
         content-length: 2\n\
         content-type: application/json\n\
         host: models.test\n\
         traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\n\
         tracestate: a=b\n\
         user-agent: test/1\n\
         x-authenticated-groups: model-evaluation\n\
         x-consumer-username: calls models\n\
         x-credential-identifier: eval\n\
         x-forwarded-for: 127.0.0.1\n\
         x-forwarded-host: models.test\n\
         x-forwarded-proto: http\n\
         x-own: 1\n\
         x-own: 2\n\
         x-request-id: given.by_the-client\n"
    );
    assert_eq!(received.body, b"{}");
    rig.finish(1);
}

#[test]
fn the_caller_is_told_by_the_gate_alone() {
    let rig = Rig::standard();
    let ours = ["x-credential-identifier", "x-consumer-username", "x-authenticated-groups"];
    let spellings = |name: &str| {
        let title: String = name
            .split('-')
            .map(|word| format!("{}{}", word[..1].to_uppercase(), &word[1..]))
            .collect::<Vec<_>>()
            .join("-");
        [
            name.to_owned(),
            name.to_uppercase(),
            title.clone(),
            title.replace('-', "_"),
            name.replace('-', "_"),
            name.replacen('-', "_", 1),
        ]
    };
    let mut count = 0;
    for name in ours {
        for spelling in spellings(name) {
            // With a token, with one that has no name, without any; alone, twice, and named as a hop's own.
            let requests = [
                get("/score/allowed").token("eval"),
                get("/score/allowed").token("all"),
                get("/open"),
                get("/open").token("eval"),
            ];
            for request in requests {
                for request in [
                    request.clone().with(&spelling, "forged"),
                    request.clone().with(&spelling, "forged").with(&spelling, "forged again"),
                    request.clone().with("Connection", &spelling).with(&spelling, "forged"),
                    request.clone().with("Connection", name),
                ] {
                    let received = rig.assert_forwarded(&spelling, &request);
                    count += 1;
                    assert!(
                        !received.summary().contains("forged"),
                        "{request:?}: {}",
                        received.summary()
                    );
                    let told: Vec<Option<&str>> =
                        ours.iter().map(|name| received.field(name)).collect();
                    let (eval, named) = (received.target == "/score/allowed", told[1].is_some());
                    assert_eq!(told[0].is_some(), eval, "{request:?}: {told:?}");
                    assert!(
                        !named
                            || told
                                == [Some("eval"), Some("calls models"), Some("model-evaluation")]
                    );
                    if told[0] == Some("all") {
                        assert_eq!(told[1..], [None, Some("model-evaluation, model-management")]);
                    }
                }
            }
        }
    }
    rig.finish(count);
}

#[test]
fn the_names_of_the_identity_headers_can_be_chosen() {
    let rig = Rig::with(ModelServer::canned(), |settings| {
        settings.namespaces[0].tables.push_str(
            "[namespace.identity_headers]\ntoken_id = \"x-caller\"\ntoken_name = \"x-caller-name\"\ngroups = \"x-caller-groups\"\n",
        );
    });
    let request =
        get("/score/allowed").token("eval").with("X_Caller", "forged").with("X-Caller", "forged");
    let received = rig.assert_forwarded("own names", &request);
    assert_eq!(received.field("x-caller"), Some("eval"));
    assert_eq!(received.field("x-caller-name"), Some("calls models"));
    assert_eq!(received.field("x-caller-groups"), Some("model-evaluation"));
    assert_eq!(received.field("x-credential-identifier"), None);
    rig.finish(1);
}

#[test]
fn a_name_in_any_script_breaks_no_header() {
    let rig = Rig::standard();
    let token = |name| Token {
        id: "eval",
        name,
        resources: &["*"],
        groups: &["model-evaluation"],
        more: "",
    };
    for name in ["équipe fraude", "評価", "a\\\"b\\\"; c=d, e", "  blanks  "] {
        rig.gate.change_tokens(&tokens::file(&[token(name)]));
        let received = rig.assert_forwarded(name, &get("/score/allowed").token("eval"));
        assert_eq!(received.field("x-credential-identifier"), Some("eval"));
        assert!(all(&received.fields, "x-consumer-username").len() <= 1, "{name}");
    }
    rig.finish(4);
}

#[test]
fn what_is_for_one_hop_ends_there() {
    let rig = Rig::standard();
    let ask = || get("/score/allowed").token("eval");
    #[rustfmt::skip]
    let table: Vec<(&str, Request, &[&str])> = vec![
        ("keep-alive", ask().with("Connection", "keep-alive").with("Keep-Alive", "timeout=5"), &["connection", "keep-alive"]),
        ("proxy-connection", ask().with("Proxy-Connection", "keep-alive"), &["proxy-connection"]),
        ("proxy-authorization", ask().with("Proxy-Authorization", "Basic eDp5"), &["proxy-authorization"]),
        ("te", ask().with("TE", "gzip, deflate"), &["te"]),
        ("te, named", ask().with("Connection", "TE").with("TE", "gzip"), &["te"]),
        ("named once", ask().with("Connection", "X-One").with("X-One", "1").with("x-one", "2"), &["x-one"]),
        ("named in a list", ask().with("Connection", "close, x-one , X-TWO,").with("X-One", "1").with("X-Two", "2"), &["x-one", "x-two", "connection"]),
        ("named in two lines", ask().with("Connection", "x-one").with("Connection", "x-two").with("X-One", "1").with("X-Two", "2"), &["x-one", "x-two"]),
        ("upgrade not asked for", ask().with("Upgrade", "websocket"), &["upgrade", "connection"]),
        ("upgrade of no name", ask().with("Connection", "upgrade"), &["upgrade", "connection"]),
        ("http2-settings", ask().with("Connection", "Upgrade, HTTP2-Settings").with("Upgrade", "h2c").with("HTTP2-Settings", "AAMAAABkAAQAoAAAAAIAAAAA"), &["upgrade", "http2-settings", "connection"]),
    ];
    for (case, request, gone) in &table {
        let received = rig.assert_forwarded(case, request);
        for name in *gone {
            assert_eq!(all(&received.fields, name), [""; 0], "{case}: {name}");
        }
    }
    rig.finish(table.len());
}

#[test]
fn a_client_cannot_have_removed_what_the_gate_relies_on() {
    let rig = Rig::standard();
    let named = "host, content-length, transfer-encoding, content-type, x-forwarded-for, x-forwarded-host, \
                 x-forwarded-proto, x-request-id, x-credential-identifier, x-consumer-username, x-authenticated-groups, \
                 authorization, connection, upgrade, te, trailer";
    let request =
        post("/score/allowed", "GET /score/secret HTTP/1.1\r\nHost: x\r\n\r\n").token("eval");
    let received = rig.assert_forwarded("all named", &request.with("Connection", named));
    assert_eq!(received.body, b"GET /score/secret HTTP/1.1\r\nHost: x\r\n\r\n");
    for name in ["host", "x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "x-request-id"]
    {
        assert!(received.field(name).is_some(), "{name}");
    }
    assert_eq!(received.field("x-credential-identifier"), Some("eval"));
    assert_eq!(received.field("authorization"), None);
    // A credential is read and taken out whatever `Connection` says of it.
    let hidden = get("/score/allowed")
        .token("eval")
        .with("X-Api-Key", "other")
        .with("Connection", "X-Api-Key");
    rig.assert_refused("hidden key", &hidden, 400, "ambiguous_credential");
    let hidden = get("/score/allowed").token("eval").with("Connection", "Authorization");
    rig.assert_forwarded("named token", &hidden);
    rig.finish(2);
}

#[test]
fn what_would_change_the_request_behind_the_gate_is_dropped() {
    let rig = Rig::standard();
    for name in [
        "X-HTTP-Method-Override",
        "X-HTTP-Method",
        "X-Method-Override",
        "x-http-method-override",
        "X_HTTP_Method_Override",
        "Forwarded",
        "X_Forwarded_For",
        "X_Anything",
        "Content_Length",
        "Transfer_Encoding",
        "under_score",
        "_",
    ] {
        let received =
            rig.assert_forwarded(name, &get("/score/allowed").token("eval").with(name, "DELETE"));
        assert!(!received.summary().contains("DELETE"), "{name}: {}", received.summary());
    }
    rig.finish(12);
}

#[test]
fn where_a_request_comes_from_is_told_by_the_gate() {
    let rig = Rig::standard();
    let ask = || get("/score/allowed").token("eval").host("Models.Test:8080");
    let forged = ask()
        .with("X-Forwarded-For", "10.1.2.3")
        .with("X-Forwarded-Proto", "https")
        .with("X-Forwarded-Host", "evil.test")
        .with("Forwarded", "for=10.1.2.3;host=evil.test");
    let received = rig.assert_forwarded("forged", &forged);
    assert_eq!(received.field("x-forwarded-for"), Some("10.1.2.3, 127.0.0.1"));
    assert_eq!(received.field("x-forwarded-proto"), Some("http"));
    assert_eq!(received.field("x-forwarded-host"), Some("Models.Test:8080"));
    assert_eq!(received.field("forwarded"), None);
    let twice = ask().with("X-Forwarded-For", "10.1.2.3").with("X-Forwarded-For", "10.4.5.6");
    let received = rig.assert_forwarded("two lines", &twice);
    let told = all(&received.fields, "x-forwarded-for").join(", ");
    assert!(told.ends_with(", 127.0.0.1") && told.starts_with("10.1.2.3"), "{told}");
    let twice = ask().with("X-Forwarded-Proto", "https").with("X-Forwarded-Proto", "wss");
    assert_eq!(rig.assert_forwarded("twice", &twice).field("x-forwarded-proto"), Some("http"));
    let twice = ask().with("X-Forwarded-Host", "a").with("x-forwarded-host", "b");
    assert_eq!(
        rig.assert_forwarded("twice", &twice).field("x-forwarded-host"),
        Some("Models.Test:8080")
    );
    rig.finish(4);
}

#[test]
fn a_request_has_one_sane_id() {
    let rig = Rig::standard();
    let ask = || get("/score/allowed").token("eval");
    let is_sane = |id: &str| {
        (1..=128).contains(&id.len())
            && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
    };
    let longest = "i".repeat(128);
    for kept in ["a", "3f2c-9.B_x", longest.as_str()] {
        let received = rig.assert_forwarded("kept", &ask().with("X-Request-Id", kept));
        assert_eq!(received.field("x-request-id"), Some(kept));
    }
    let too_long = "i".repeat(129);
    let mut made = Vec::new();
    for replaced in ["", " ", "a b", "a\tb", "a/b", "é", "{\"a\":1}", too_long.as_str()] {
        let received = rig.assert_forwarded("made", &ask().with("X-Request-Id", replaced));
        let id = received.field("x-request-id").unwrap().to_owned();
        assert!(is_sane(&id) && id != replaced, "{id:?} for {replaced:?}");
        made.push(id);
    }
    let twice = ask().with("X-Request-Id", "one").with("X-Request-Id", "two");
    assert!(is_sane(rig.assert_forwarded("twice", &twice).field("x-request-id").unwrap()));
    made.push(rig.assert_forwarded("none", &ask()).field("x-request-id").unwrap().to_owned());
    let count = made.len();
    made.sort();
    made.dedup();
    assert_eq!(made.len(), count, "made ids repeat: {made:?}");
    rig.finish(13);
}

#[test]
fn trailers_bring_no_identity_and_no_credential() {
    let rig = Rig::standard();
    for field in [
        "X-Credential-Identifier: forged".to_owned(),
        "x_credential_identifier: forged".to_owned(),
        "X-Consumer-Username: forged".to_owned(),
        "X-Authenticated-Groups: forged".to_owned(),
        format!("Authorization: Bearer {}", tokens::secret("all")),
        format!("X-Api-Key: {}", tokens::secret("all")),
        "Host: forged".to_owned(),
        "Content-Length: 3".to_owned(),
        "Transfer-Encoding: chunked".to_owned(),
    ] {
        let name = field.split(':').next().unwrap();
        let head = String::from_utf8(
            post("/score/allowed", "")
                .without("content-length")
                .token("eval")
                .with("Trailer", name)
                .bytes(),
        )
        .unwrap()
        .replace("Content-Length: 0\r\n", "Transfer-Encoding: chunked\r\n");
        let before = rig.server.requests().len();
        let mut client = rig.connect();
        client.send(format!("{head}5\r\nhello\r\n0\r\n{field}\r\n\r\n"));
        let response = client.response_or_end("POST");
        assert!(response.is_none_or(|response| matches!(response.status, 200 | 400)), "{field}");
        for request in &rig.server.requests()[before..] {
            assert_eq!(request.body, b"hello", "{field}");
            assert!(
                request.trailers.iter().all(|(_, value)| value != "forged"),
                "{field}: {:?}",
                request.trailers
            );
            for (name, _) in &request.trailers {
                let ours = [
                    "x-credential-identifier",
                    "authorization",
                    "x-api-key",
                    "host",
                    "content-length",
                ];
                assert!(!ours.contains(&name.as_str()), "{field}: {:?}", request.trailers);
            }
        }
    }
    let count = rig.server.requests().len();
    rig.finish(count);
}

#[test]
fn the_answer_brings_no_header_of_the_hop_behind() {
    let answer = "HTTP/1.1 200 OK\r\nConnection: keep-alive, X-Hop\r\nKeep-Alive: timeout=5\r\nX-Hop: 1\r\n\
                  Proxy-Authenticate: Basic\r\nX-Served-By: model\r\nContent-Length: 2\r\n\r\nok";
    let rig = Rig::before(ModelServer::answering(answer));
    let response = rig.ask(&get("/score/allowed").token("eval"));
    assert_eq!(response.text(), "ok");
    for name in ["keep-alive", "x-hop", "connection"] {
        assert_eq!(all(&response.fields, name), [""; 0], "{name}");
    }
    rig.finish(1);
}
