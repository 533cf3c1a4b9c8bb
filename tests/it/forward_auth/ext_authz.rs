//! Questions as Envoy asks them by gRPC.

use super::Asked;
use super::envoy::{Check, Connection, ask, ask_raw};
use crate::paths::SECOND_SPELLINGS;
use crate::support::tokens;

/// The number of a status of gRPC that belongs to a status of HTTP here.
fn code(status: u64) -> u64 {
    match status {
        400 => 3,
        401 => 16,
        403 => 7,
        404 => 5,
        405 | 415 => 12,
        413 => 8,
        _ => panic!("no status of a refusal: {status}"),
    }
}

#[test]
fn every_outcome_is_told_as_on_the_data_plane() {
    let asked = Asked::standard();
    let mut envoy = Connection::to(&asked);
    #[rustfmt::skip]
    let table: &[(&str, &str, Option<&str>, u64, &str)] = &[
        ("GET", "/score/allowed", Some("eval"), 200, ""),
        ("POST", "/score/pre-1?a=b", Some("eval"), 200, ""),
        ("GET", "/open", None, 200, ""),
        ("PUT", "/score/allowed", Some("manage"), 200, ""),
        ("GET", "/score/allowed", None, 401, "no_credential"),
        ("GET", "/score/allowed", Some("nobody"), 401, "invalid_token"),
        ("GET", "/score/allowed", Some("expired"), 401, "invalid_token"),
        ("GET", "/score/secret", Some("eval"), 403, "resource_not_allowed"),
        ("PUT", "/score/allowed", Some("eval"), 403, "group_not_allowed"),
        ("GET", "/nowhere", Some("all"), 403, "no_route"),
        ("GET", "/closed", Some("all"), 403, "route_denied"),
        ("GET", "/ask?model=allowed&model=secret", Some("eval"), 400, "model_conflict"),
        ("GET", "/ask", Some("eval"), 403, "model_unresolved"),
        ("CONNECT", "/score/allowed", Some("eval"), 405, "method_not_allowed"),
        ("TRACE", "/score/allowed", Some("eval"), 405, "method_not_allowed"),
        ("GET", "*", Some("all"), 400, "bad_target"),
        ("GET", "/score/allowed#secret", Some("all"), 400, "bad_target"),
        ("GET", "", Some("all"), 400, "bad_target"),
        ("", "/score/allowed", Some("all"), 400, "bad_target"),
        ("GET", "/v1/models", Some("eval"), 403, "resource_not_allowed"),
        ("GET", "/v1/models", Some("all"), 200, ""),
    ];
    for is_raw in [true, false] {
        for (method, target, token, status, reason) in table {
            let check = Check { is_raw, ..Check::of(method, target) };
            let check = match token {
                Some(token) => check.token(token),
                None => check,
            };
            let told = envoy.ask(&check);
            let case = format!("{method} {target} with {token:?}: {told:?}");
            if *status == 200 {
                assert!(told.is_ok(), "{case}");
                continue;
            }
            let denied = told.denied();
            assert_eq!((denied.status, denied.code), (*status, code(*status)), "{case}");
            assert_eq!(denied.reason(), Some(*reason), "{case}");
            assert_eq!(denied.header("www-authenticate").is_some(), matches!(status, 401 | 403));
        }
    }
    asked.finish();
}

#[test]
fn a_path_has_one_spelling_here_too() {
    let asked = Asked::standard();
    let mut envoy = Connection::to(&asked);
    for target in SECOND_SPELLINGS {
        let denied = envoy.ask(&Check::of("GET", target).token("all")).denied();
        assert_eq!(denied.status, 400, "{target:?}: {denied:?}");
    }
    assert!(envoy.ask(&Check::of("GET", "/score/secret").token("all")).is_ok());
    asked.finish();
}

#[test]
fn the_model_server_gets_the_callers_name_and_nothing_that_the_client_said_of_it() {
    let asked = Asked::standard();
    let spoofed = |check: Check| {
        [
            "x-credential-identifier",
            "x-consumer-username",
            "x-authenticated-groups",
            "x_consumer_username",
            "x-consumer_username",
            "x.consumer.username",
            "x_credential_identifier",
            "x-http-method-override",
            "x-original-url",
            "my_header",
        ]
        .into_iter()
        .fold(check, |check, name| check.with(name, "admin").with("x-own", "kept"))
    };
    for is_raw in [true, false] {
        let check = Check { is_raw, ..Check::of("GET", "/score/allowed") };
        let told = ask(&asked, &spoofed(check).token("eval"));
        assert_eq!(told.set("x-credential-identifier"), Some("eval"));
        assert_eq!(told.set("x-consumer-username"), Some("calls models"));
        assert_eq!(told.set("x-authenticated-groups"), Some("model-evaluation"));
        for name in [
            "authorization",
            "x_consumer_username",
            "x-consumer_username",
            "x.consumer.username",
            "x_credential_identifier",
            "x-http-method-override",
            "x-original-url",
            "my_header",
        ] {
            assert!(told.removes(name), "{name}: {told:?}");
        }
        // Envoy removes after it has set.
        for name in ["x-credential-identifier", "x-consumer-username", "x-authenticated-groups"] {
            assert!(!told.removes(name), "{name}: {told:?}");
        }
        assert!(!told.removes("x-own") && told.set(":path").is_none(), "{told:?}");
    }
    // What is not said is removed: of nobody there is nothing to say, of the token `all` no name.
    let nobody = ask(&asked, &spoofed(Check::of("GET", "/open")).token("eval"));
    for name in ["x-credential-identifier", "x-consumer-username", "x-authenticated-groups"] {
        assert!(nobody.removes(name) && nobody.set(name).is_none(), "{name}: {nobody:?}");
    }
    assert!(nobody.removes("authorization"), "{nobody:?}");
    let nameless = ask(&asked, &Check::of("GET", "/score/allowed").token("all"));
    assert!(nameless.removes("x-consumer-username"), "{nameless:?}");
    assert_eq!(nameless.set("x-credential-identifier"), Some("all"));
    asked.finish();
}

#[test]
fn a_credential_is_taken_out_wherever_it_is() {
    let asked = Asked::with("", |settings| {
        settings.namespaces[0].keys = "credentials = [\"bearer\", \"header:x-api-key\", \
             \"query:access_token\", \"cookie:token\", \"websocket-protocol\"]\n"
            .into();
    });
    let own = tokens::secret("eval");
    let check = || Check::of("GET", "/score/allowed");

    let in_header = ask(&asked, &check().with("x-api-key", &own));
    assert!(in_header.removes("x-api-key"), "{in_header:?}");

    // The rest of the query keeps its bytes, which were judged.
    for (query, kept) in [
        (format!("?b=%41&access_token={own}&a=;x"), "/score/allowed?b=%41&a=;x"),
        (format!("?access%5Ftoken={own}"), "/score/allowed"),
        (format!("?a=1;access_token={own}"), "/score/allowed?a=1"),
    ] {
        let told = ask(&asked, &Check::of("GET", &format!("/score/allowed{query}")));
        assert_eq!(told.set(":path"), Some(kept));
    }

    let cookies = check().with("cookie", format!("a=b; token={own}")).with("cookie", "c=d");
    for is_raw in [true, false] {
        let told = ask(&asked, &Check { is_raw, ..cookies.clone() });
        assert_eq!(told.set("cookie"), Some("a=b; c=d"), "{told:?}");
    }
    // Joined by Envoy the second one is no longer a cookie of its own, but is found.
    let second = check().with("cookie", "c=d").with("cookie", format!("token={own}")).joined();
    assert_eq!(ask(&asked, &second).set("cookie"), Some("c=d"));
    let alone = ask(&asked, &check().with("cookie", format!("token={own}")));
    assert!(alone.removes("cookie") && alone.set("cookie").is_none(), "{alone:?}");

    let handshake = check()
        .with("connection", "Upgrade")
        .with("upgrade", "websocket")
        .with("sec-websocket-protocol", format!("faregate.token.{own}, chat"));
    assert_eq!(ask(&asked, &handshake).set("sec-websocket-protocol"), Some("chat"));

    for (case, check) in [
        ("one place twice", check().with("x-api-key", &own).with("x-api-key", &own)),
        ("cookies", check().with("cookie", format!("token={own}; token={own}"))),
        ("two places", check().token("all").with("x-api-key", &own)),
    ] {
        assert_eq!(ask(&asked, &check).denied().reason(), Some("ambiguous_credential"), "{case}");
    }
    // Joined by commas two of them are none that anybody knows.
    let joined = check().with("x-api-key", &own).with("x-api-key", &own).joined();
    assert_eq!(ask(&asked, &joined).denied().reason(), Some("invalid_token"));
    let joined = check().token("eval").token("eval").joined();
    assert_eq!(ask(&asked, &joined).denied().reason(), Some("invalid_token"));
    asked.finish();
}

#[test]
fn a_question_that_can_be_read_in_two_ways_is_refused() {
    let asked = Asked::standard();
    let check = || Check::of("GET", "/score/allowed").token("eval");
    let twice_joined = {
        let entry = |value: &str| {
            let mut entry = vec![0x0a, 9];
            entry.extend_from_slice(b"x-api-key\x12");
            entry.push(u8::try_from(value.len()).unwrap());
            entry.extend_from_slice(value.as_bytes());
            entry
        };
        check().joined().field(3, entry("one")).field(3, entry("two"))
    };
    for (case, check, reason) in [
        ("another method", check().with(":method", "PUT"), "bad_target"),
        ("another target", check().with(":path", "/open"), "bad_target"),
        ("another host", check().with(":authority", "other.test"), "bad_target"),
        ("a second host", check().with("host", "models.test"), "bad_host"),
        ("a query beside the path", check().field(7, "model=secret"), "bad_target"),
        ("a fragment", check().field(8, "secret"), "bad_target"),
        ("a header that is none", check().with("a b", "c"), "bad_target"),
        ("headers in both forms", check().field(3, [0x0a, 1, b'a', 0x12, 1, b'b']), "bad_target"),
        ("an entry of a map twice", twice_joined, "bad_target"),
        ("no host", Check { host: String::new(), ..check() }, "bad_host"),
        ("a bad host", Check { host: "a/../".into(), ..check() }, "bad_host"),
    ] {
        let denied = ask(&asked, &check).denied();
        assert_eq!((denied.status, denied.reason()), (400, Some(reason)), "{case}: {denied:?}");
    }
    // Questions about nothing.
    for message in [&[][..], &[0x0a, 0], &[0x0a, 2, 0x22, 0]] {
        let answer = ask_raw(&asked, message);
        assert_eq!(answer.status(), 200, "{answer:?}");
        assert!(answer.body.windows(10).any(|part| part == b"bad_target"), "{answer:?}");
    }
    // No message at all, and none that is one.
    let broken = ask_raw(&asked, b"\xff\xff\xff");
    let status = broken.trailers.iter().chain(&broken.fields);
    let status = status.filter(|(name, _)| name == "grpc-status").map(|(_, own)| own.as_str());
    assert_ne!(status.collect::<Vec<_>>(), ["0"], "{broken:?}");
    asked.finish();
}

#[test]
fn the_language_is_not_the_clients_choice() {
    let asked = Asked::standard();
    // A gateway that asks by HTTP may pass on the client's path, type and body.
    let message = Check::of("GET", "/open").bytes();
    let more: &[(&str, &[u8])] =
        &[("x-forwarded-method", b"GET"), ("x-forwarded-uri", b"/score/secret")];
    let answer = Connection::to(&asked).send(&message, more);
    assert_eq!((answer.status(), answer.reason()), (401, Some("no_credential")), "{answer:?}");
    asked.finish();
}

#[test]
fn a_body_is_judged_when_envoy_sends_all_of_it() {
    let asked =
        Asked::with("", |settings| settings.limits = "inspect_body_bytes = \"1KiB\"\n".into());
    let chat = || {
        Check::of("POST", "/v1/chat/completions")
            .token("eval")
            .with("content-type", "application/json")
    };
    let own = r#"{"model":"allowed"}"#;
    let length = own.len().to_string();
    let long = format!("{{\"model\":\"allowed\",\"text\":\"{}\"}}", "a".repeat(1024));
    #[rustfmt::skip]
    let table = [
        ("its model", chat().body(own), 200, ""),
        ("its model, with its length", chat().with("content-length", &length).body(own), 200, ""),
        ("another", chat().body(r#"{"model":"secret"}"#), 403, "resource_not_allowed"),
        ("two", chat().body(r#"{"model":"allowed","Model":"secret"}"#), 400, "model_conflict"),
        ("none in it", chat().body("{}"), 403, "model_unresolved"),
        ("no UTF-8", chat().body(b"{\"model\":\"allowed\",\"\xff\":1}"), 400, "bad_body"),
        ("too long", chat().body(&long), 413, "body_too_large"),
        ("compressed", chat().with("content-encoding", "br").body("x"), 415, "unsupported_encoding"),
        ("cut", chat().with("x-envoy-auth-partial-body", "true").field(12, own), 403, "model_unresolved"),
        ("cut and not", chat().with("x-envoy-auth-partial-body", "true").body(own), 403, "model_unresolved"),
        ("shorter than it says", chat().with("content-length", "1000").body(own), 403, "model_unresolved"),
        ("not told to be whole", chat().field(12, own), 403, "model_unresolved"),
        ("missing", chat(), 403, "model_unresolved"),
        ("missing and whole", chat().with("x-envoy-auth-partial-body", "false"), 403, "model_unresolved"),
        // Envoy replaces what is no UTF-8 in it: it may not be what is forwarded.
        ("as text", chat().with("x-envoy-auth-partial-body", "false").field(11, own), 403, "model_unresolved"),
        ("as text and bytes", chat().field(11, "{}").body(own), 403, "model_unresolved"),
        // A route that needs no body is judged without it.
        ("cut, not needed", Check::of("POST", "/score/allowed").token("eval")
            .with("x-envoy-auth-partial-body", "true").field(12, "x"), 200, ""),
    ];
    for (case, check, status, reason) in table {
        let told = ask(&asked, &check);
        if status == 200 {
            assert!(told.is_ok(), "{case}: {told:?}");
            continue;
        }
        let denied = told.denied();
        assert_eq!((denied.status, denied.reason()), (status, Some(reason)), "{case}: {denied:?}");
    }
    let openai = ask(&asked, &chat().body(r#"{"model":"secret"}"#)).denied();
    let body: serde_json::Value = serde_json::from_str(&openai.body).unwrap();
    assert_eq!(body["error"]["code"], "resource_not_allowed", "the route's dialect");
    asked.finish();
}

/// A message of gRPC with its prefix, the model in field 1.
fn message(model: &str) -> Vec<u8> {
    let length = u8::try_from(model.len()).unwrap();
    [&[0, 0, 0, 0, length + 2, 0x0a, length], model.as_bytes()].concat()
}

#[test]
fn a_grpc_call_is_judged_by_all_its_messages_and_refused_in_its_own_way() {
    let asked = Asked::standard();
    let call = || {
        Check::of("POST", "/inference.GRPCInferenceService/ModelInfer")
            .token("eval")
            .with("content-type", "application/grpc")
    };
    let both = [message("allowed"), message("pre-1")].concat();
    assert!(ask(&asked, &call().body(message("allowed"))).is_ok());
    assert!(ask(&asked, &call().body(both)).is_ok());
    let second = [message("allowed"), message("secret")].concat();
    let cut = &second[..second.len() - 1];
    for (case, check, code, reason) in [
        ("the first", call().body(message("secret")), 7, "resource_not_allowed"),
        ("the second", call().body(&second), 7, "resource_not_allowed"),
        ("a cut one", call().body(cut), 3, "bad_body"),
        ("none", call().body([]), 7, "model_unresolved"),
        (
            "no credential",
            Check::of("POST", "/inference.GRPCInferenceService/ModelInfer")
                .with("content-type", "application/grpc")
                .body(message("allowed")),
            16,
            "no_credential",
        ),
    ] {
        let denied = ask(&asked, &check).denied();
        assert_eq!((denied.code, denied.reason()), (code, Some(reason)), "{case}: {denied:?}");
        // Envoy keeps this status, and makes `grpc-message` of the body.
        assert_eq!(denied.header("grpc-status"), Some(code.to_string().as_str()), "{case}");
        assert_eq!(denied.header("grpc-message"), None, "{case}");
        assert!(!denied.body.starts_with('{'), "{case}: {denied:?}");
    }
    asked.finish();
}
