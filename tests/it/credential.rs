//! Every place where a credential may stand: read once, understood in one way, and taken out before the model server
//! sees the request.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use crate::support::http1::{Request, get, post};
use crate::support::model_server::ModelServer;
use crate::support::rig::Rig;
use crate::support::tokens::{self, secret};

/// All places at once.
fn rig_with_every_place() -> Rig {
    rig_with(
        "[\"bearer\", \"basic\", \"header:x-api-key\", \"query:key\", \"cookie:session\", \"websocket-protocol\"]",
    )
}

fn rig_with(credentials: &str) -> Rig {
    Rig::with(ModelServer::canned(), |settings| {
        settings.namespaces[0].keys = format!("credentials = {credentials}\n");
    })
}

fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", BASE64.encode(format!("{user}:{password}")))
}

fn upgrade(request: Request) -> Request {
    request
        .with("Connection", "Upgrade")
        .with("Upgrade", "websocket")
        .with("Sec-WebSocket-Version", "13")
        .with("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")
}

#[test]
fn a_credential_is_read_from_each_place_and_leaves_no_trace() {
    let rig = rig_with_every_place();
    let eval = secret("eval");
    let path = "/score/allowed";
    // The request, the target that arrives, and a field of which this much arrives.
    #[rustfmt::skip]
    let table: Vec<(&str, Request, &str, &str, Option<&str>)> = vec![
        ("bearer", get(path).bearer(&eval), path, "authorization", None),
        ("bearer, lower case", get(path).with("authorization", format!("bearer {eval}")), path, "authorization", None),
        ("bearer, odd case", get(path).with("AUTHORIZATION", format!("bEaReR {eval}")), path, "authorization", None),
        ("basic, no user", get(path).with("Authorization", basic("", &eval)), path, "authorization", None),
        ("basic, the id", get(path).with("Authorization", basic("eval", &eval)), path, "authorization", None),
        ("basic, odd case", get(path).with("Authorization", basic("", &eval).replace("Basic", "bASIC")), path, "authorization", None),
        ("header", get(path).with("X-Api-Key", &eval), path, "x-api-key", None),
        ("header, odd case", get(path).with("x-aPI-kEY", &eval), path, "x-api-key", None),
        ("query, alone", get(&format!("{path}?key={eval}")), path, "cookie", None),
        ("query, first", get(&format!("{path}?key={eval}&a=1")), "/score/allowed?a=1", "cookie", None),
        ("query, last", get(&format!("{path}?a=1&key={eval}")), "/score/allowed?a=1", "cookie", None),
        ("query, between", get(&format!("{path}?a=%2F&key={eval}&b=2&b=3")), "/score/allowed?a=%2F&b=2&b=3", "cookie", None),
        ("query, name escaped", get(&format!("{path}?a=1&%6Bey={eval}")), "/score/allowed?a=1", "cookie", None),
        ("query, value escaped", get(&format!("{path}?key=%66g_{}", &eval[3..])), path, "cookie", None),
        ("cookie, alone", get(path).with("Cookie", format!("session={eval}")), path, "cookie", None),
        ("cookie, first", get(path).with("Cookie", format!("session={eval}; b=2")), path, "cookie", Some("b=2")),
        ("cookie, last", get(path).with("Cookie", format!("a=1; session={eval}")), path, "cookie", Some("a=1")),
        ("cookie, between", get(path).with("Cookie", format!("a=1; session={eval}; sessions=2; b=\"x\"")), path, "cookie", Some("a=1; sessions=2; b=\"x\"")),
        ("another scheme beside a key", get(path).with("Authorization", "Digest username=\"x\"").with("X-Api-Key", &eval), path, "authorization", None),
        ("the same in two places", get(path).bearer(&eval).with("X-Api-Key", &eval), path, "x-api-key", None),
        ("the same in three", get(&format!("{path}?key={eval}")).bearer(&eval).with("Cookie", format!("session={eval}")), path, "cookie", None),
    ];
    for (case, request, target, field, arrives) in &table {
        let received = rig.assert_forwarded(case, request);
        assert_eq!(received.target, *target, "{case}");
        assert_eq!(received.field(field), *arrives, "{case}");
        assert_eq!(received.field("x-credential-identifier"), Some("eval"), "{case}");
    }
    rig.finish(table.len());
}

#[test]
fn the_subprotocol_of_a_websocket_carries_a_credential_on_upgrades_only() {
    let rig = rig_with_every_place();
    let protocol = format!("faregate.token.{}", secret("eval"));
    for (case, offered, arrives) in [
        ("alone", protocol.clone(), None),
        ("first", format!("{protocol}, chat"), Some("chat")),
        ("last", format!("chat, superchat,{protocol}"), Some("chat, superchat")),
    ] {
        let asked = upgrade(get("/score/allowed")).with("Sec-WebSocket-Protocol", offered);
        let received = rig.assert_forwarded(case, &asked);
        let left = received
            .field("sec-websocket-protocol")
            .map(|list| list.replace(", ", ",").replace(',', ", "));
        assert_eq!(left.as_deref(), arrives, "{case}");
        assert_eq!(received.field("sec-websocket-key"), Some("dGhlIHNhbXBsZSBub25jZQ=="), "{case}");
    }
    let no_upgrade = get("/score/allowed").with("Sec-WebSocket-Protocol", &protocol);
    rig.assert_refused("no upgrade", &no_upgrade, 401, "no_credential");
    let beside = get("/score/allowed")
        .token("eval")
        .with("Sec-WebSocket-Protocol", format!("chat, {protocol}"));
    rig.assert_forwarded("no upgrade, but a token elsewhere", &beside);
    let twice = upgrade(get("/score/allowed"))
        .with("Sec-WebSocket-Protocol", format!("{protocol}, {protocol}"));
    rig.assert_refused("twice", &twice, 400, "ambiguous_credential");
    let other =
        upgrade(get("/score/allowed")).token("all").with("Sec-WebSocket-Protocol", &protocol);
    rig.assert_refused("another elsewhere", &other, 400, "ambiguous_credential");
    rig.finish(4);
}

#[test]
fn what_could_be_read_as_another_credential_is_refused() {
    let rig = rig_with_every_place();
    let (eval, all) = (secret("eval"), secret("all"));
    let path = "/score/allowed";
    let in_query = |query: &str| get(&format!("{path}?{query}"));
    #[rustfmt::skip]
    let ambiguous: Vec<(&str, Request)> = vec![
        ("two headers", get(path).bearer(&eval).bearer(&all)),
        ("one header twice", get(path).bearer(&eval).bearer(&eval)),
        ("bearer and basic", get(path).bearer(&eval).with("Authorization", basic("", &eval))),
        ("bearer and an unknown scheme", get(path).bearer(&eval).with("Authorization", "Digest x")),
        ("a good and a bad one", get(path).bearer(&eval).bearer("x")),
        ("bearer and key", get(path).bearer(&eval).with("X-Api-Key", &all)),
        ("bearer and a wrong key", get(path).bearer(&eval).with("X-Api-Key", "x")),
        ("bearer and an empty key", get(path).bearer(&eval).with("X-Api-Key", "")),
        ("key twice", get(path).with("X-Api-Key", &eval).with("x-api-key", &eval)),
        ("bearer and query", in_query(&format!("key={all}")).bearer(&eval)),
        ("query twice", in_query(&format!("key={eval}&key={eval}"))),
        ("query twice, one escaped", in_query(&format!("key={eval}&ke%79={eval}"))),
        ("query twice, by a semicolon", in_query(&format!("key={eval};key={all}"))),
        ("cookie twice", get(path).with("Cookie", format!("session={eval}; session={eval}"))),
        ("cookie twice, two lines", get(path).with("Cookie", format!("session={eval}")).with("Cookie", format!("session={eval}"))),
        ("cookie and bearer", get(path).bearer(&eval).with("Cookie", format!("session={all}"))),
        ("basic and key", get(path).with("Authorization", basic("", &eval)).with("X-Api-Key", &all)),
    ];
    for (case, request) in &ambiguous {
        let response = rig.assert_refused(case, request, 400, "ambiguous_credential");
        assert!(
            response.field("www-authenticate").unwrap().ends_with(", error=\"invalid_request\""),
            "{case}"
        );
    }
    let long = "x".repeat(20_000);
    #[rustfmt::skip]
    let bad: Vec<(&str, Request)> = vec![
        ("basic, another user", get(path).with("Authorization", basic("all", &eval))),
        ("basic, user in another case", get(path).with("Authorization", basic("EVAL", &eval))),
        ("basic, token as user", get(path).with("Authorization", basic(&eval, ""))),
        ("basic, twice in one", get(path).with("Authorization", basic("", &format!("{eval}:{eval}")))),
        ("basic, no colon", get(path).with("Authorization", format!("Basic {}", BASE64.encode(&eval)))),
        ("basic, no base64", get(path).with("Authorization", "Basic !!!!")),
        ("basic, no text", get(path).with("Authorization", format!("Basic {}", BASE64.encode(b"\xff\xfe:\xff")))),
        ("bearer, two in one", get(path).bearer(&format!("{eval} {eval}"))),
        ("bearer, a list", get(path).bearer(&format!("{eval}, Bearer {all}"))),
        ("bearer, a parameter", get(path).bearer(&format!("{eval};x=y"))),
        ("bearer, a byte more", get(path).with("Authorization", [b"Bearer ", eval.as_bytes(), b"\x80"].concat())),
        ("bearer, very long", get(path).bearer(&format!("fg_{long}"))),
        ("key, another make", get(path).with("X-Api-Key", "sk-unknown")),
        ("query, unknown", in_query("key=x")),
        ("cookie, unknown", get(path).with("Cookie", "session=x")),
    ];
    for (case, request) in &bad {
        rig.assert_refused(case, request, 401, "invalid_token");
    }
    rig.finish(0);
}

#[test]
fn a_credential_of_a_megabyte_is_refused_quickly_and_quietly() {
    let rig = Rig::standard();
    let mut client = rig.connect();
    client.send(get("/score/allowed").bearer(&format!("fg_{}", "x".repeat(1024 * 1024))).bytes());
    // The gate may close while the client is still sending, so the answer may be lost.
    if let Some(response) = client.response_or_end("GET") {
        assert!((400..500).contains(&response.status), "{response:?}");
    }
    rig.assert_upstream_got_nothing("a megabyte");
    rig.finish(0);
}

#[test]
fn a_place_that_is_not_configured_is_not_read() {
    let rig = Rig::standard();
    let eval = secret("eval");
    for (case, request) in [
        ("query", get(&format!("/score/allowed?key={eval}"))),
        ("cookie", get("/score/allowed").with("Cookie", format!("session={eval}"))),
        ("another header", get("/score/allowed").with("X-Token", &eval)),
        ("no scheme", get("/score/allowed").with("Proxy-Authorization", format!("Bearer {eval}"))),
        (
            "subprotocol",
            upgrade(get("/score/allowed"))
                .with("Sec-WebSocket-Protocol", format!("faregate.token.{eval}")),
        ),
        ("body", post("/score/allowed", format!("access_token={eval}"))),
    ] {
        rig.assert_refused(case, &request, 401, "no_credential");
    }
    rig.finish(0);

    let rig = rig_with("[\"header:x-model-key\"]");
    rig.assert_refused("bearer", &get("/score/allowed").token("eval"), 401, "no_credential");
    let basic = get("/score/allowed").with("Authorization", basic("", &eval));
    rig.assert_refused("basic", &basic, 401, "no_credential");
    rig.assert_refused(
        "default header",
        &get("/score/allowed").with("X-Api-Key", &eval),
        401,
        "no_credential",
    );
    // With neither scheme configured, the header belongs to the model server.
    let both = get("/score/allowed")
        .with("X-Model-Key", &eval)
        .with("Authorization", "Bearer of-the-server");
    let received = rig.assert_forwarded("the server's own", &both);
    assert_eq!(received.field("authorization"), Some("Bearer of-the-server"));
    assert_eq!(received.field("x-model-key"), None);
    rig.finish(1);
}

#[test]
fn credentials_are_taken_out_where_none_is_asked_for() {
    let every = |target: &str| {
        let (eval, all) = (secret("eval"), secret("all"));
        upgrade(get(&format!("{target}?a=1&key={eval}")))
            .bearer(&all)
            .with("X-Api-Key", secret("manage"))
            .with("Cookie", format!("a=1; session={eval}"))
            .with("Sec-WebSocket-Protocol", format!("chat, faregate.token.{all}"))
            .with("Connection", "x-nothing")
    };
    let public = rig_with_every_place();
    // Several credentials are ambiguous even where none is needed, or they are simply taken out: but they never arrive.
    let response = public.ask(&every("/open"));
    assert!(matches!(response.status, 200 | 400), "{response:?}");
    for (case, request) in [
        ("bearer", get("/open").token("eval")),
        ("another scheme", get("/open").with("Authorization", "Digest x")),
        ("basic", get("/open").with("Authorization", basic("x", &secret("eval")))),
        ("key", get("/open").with("X-Api-Key", secret("eval"))),
        ("query", get(&format!("/open?key={}", secret("eval")))),
        ("cookie", get("/open").with("Cookie", format!("session={}", secret("eval")))),
        (
            "subprotocol",
            upgrade(get("/open"))
                .with("Sec-WebSocket-Protocol", format!("faregate.token.{}", secret("eval"))),
        ),
    ] {
        let received = public.assert_forwarded(case, &request);
        assert_eq!(received.target, "/open", "{case}");
        for field in ["authorization", "x-api-key", "cookie", "sec-websocket-protocol"] {
            assert_eq!(received.field(field), None, "{case}");
        }
    }
    public.assert_no_leak();

    let lenient = Rig::with(ModelServer::canned(), |settings| {
        settings.namespaces[0].keys =
            "enforce = false\ncredentials = [\"bearer\", \"basic\", \"header:x-api-key\", \"query:key\", \"cookie:session\"]\n".into();
    });
    for (case, request) in [
        ("bearer", get("/score/secret").token("eval")),
        ("unknown", get("/score/secret").bearer("unknown-but-a-credential")),
        (
            "basic, another user",
            get("/score/secret").with("Authorization", basic("all", &secret("eval"))),
        ),
        ("key", get("/nowhere").with("X-Api-Key", secret("disabled"))),
        ("query", get(&format!("/nowhere?key={}", secret("expired")))),
        ("cookie", get("/nowhere").with("Cookie", format!("session={}", secret("eval")))),
    ] {
        let received = lenient.assert_forwarded(case, &request);
        assert!(!received.target.contains("key="), "{case}");
        for field in ["authorization", "x-api-key", "cookie"] {
            assert_eq!(received.field(field), None, "{case}");
        }
    }
    lenient.finish(6);
}

#[test]
fn a_secret_that_was_replaced_works_until_its_grace_ends() {
    let rig = Rig::standard();
    let with_previous = |until: &str| {
        tokens::standard_file().replace(
            "id = \"eval\"\n",
            &format!("id = \"eval\"\n{}", tokens::previous("eval", until)),
        )
    };
    let former = get("/score/allowed").bearer(&tokens::former_secret("eval"));
    rig.assert_refused("not yet known", &former, 401, "invalid_token");
    rig.gate.change_tokens(&with_previous("2999-01-01T00:00:00Z"));
    rig.assert_forwarded("within the grace", &former);
    rig.assert_forwarded("the new one", &get("/score/allowed").token("eval"));
    let used = rig.gate.metric(
        "faregate_token_previous_secret_used_total",
        &[("namespace", "default"), ("token_id", "eval")],
    );
    assert_eq!(used, 1.0);
    rig.gate.change_tokens(&with_previous("2020-01-01T00:00:00Z"));
    rig.assert_refused("after the grace", &former, 401, "invalid_token");
    rig.assert_forwarded("the new one", &get("/score/allowed").token("eval"));
    rig.finish(3);
}
