//! How each route of each profile says no: in the form that its clients read.

use serde_json::Value;

use super::grpc::{AS_GRPC, assert_refused};
use super::{ProfileRoute, connect, json, open, rig, rig_with, routes_of};
use crate::support::http1::{Request, Response, request};
use crate::support::model_server::ModelServer;
use crate::support::rig::Rig;

/// A path of the route, about the model that no token of the test may use.
fn about_the_secret(route: &ProfileRoute) -> String {
    let mut path = route.path.replace("{model...}", "secret/x").replace("{model}", "secret");
    for name in ["version", "label", "id"] {
        path = path.replace(&format!("{{{name}}}"), "1");
    }
    path.replace("{rest...}", "rest")
}

fn assert_form(case: &str, response: &Response, dialect: &str, reason: &str) {
    let text = |value: &Value| value.as_str().is_some_and(|text| !text.is_empty());
    let body = response.json();
    let content_type = response.field("content-type");
    match dialect {
        "openai" => {
            assert_eq!(content_type, Some("application/json"), "{case}");
            let error = body["error"].as_object().unwrap();
            let mut keys: Vec<&str> = error.keys().map(String::as_str).collect();
            keys.sort_unstable();
            assert_eq!(keys, ["code", "message", "param", "type"], "{case}: {body}");
            assert!(text(&error["message"]) && text(&error["type"]), "{case}: {body}");
            assert_eq!(error["code"], reason, "{case}: {body}");
        }
        "error" => {
            assert_eq!(content_type, Some("application/json"), "{case}");
            assert!(text(&body["error"]), "{case}: {body}");
            assert_eq!(body.as_object().unwrap().len(), 1, "{case}: {body}");
        }
        "problem" => {
            assert_eq!(content_type, Some("application/problem+json"), "{case}");
            assert_eq!(body["reason"], reason, "{case}: {body}");
            assert_eq!(body["status"], response.status, "{case}: {body}");
            for key in ["type", "title", "detail", "instance", "request_id"] {
                assert!(text(&body[key]), "{case}: {key} in {body}");
            }
        }
        other => panic!("{case}: the dialect {other}"),
    }
    assert_eq!(response.reason(), Some(reason), "{case}");
    assert_eq!(response.field("cache-control"), Some("no-store"), "{case}");
}

fn assert_says_no(rig: &Rig, case: &str, request: &Request, dialect: &str, reason: &str) {
    let response = rig.ask(request);
    assert_eq!(response.reason(), Some(reason), "{case}: {response:?}");
    assert_form(case, &response, dialect, reason);
}

#[test]
fn every_route_of_every_profile_refuses_in_its_form() {
    for name in [
        "ovh",
        "ovh-runtime",
        "kserve-v1",
        "kserve-v2",
        "triton",
        "tensorflow-serving",
        "torchserve",
        "openai",
        "vllm",
        "tgi",
        "any",
    ] {
        let rig = rig_with(ModelServer::canned(), |settings| {
            settings.namespaces[0].profiles = vec![name.into()];
            settings.namespaces[0].tables = String::new();
            settings.namespaces[0].keys = "default_model = \"secret\"\n".into();
        });
        let mut http2 = connect(&rig);
        for route in routes_of(name) {
            let path = about_the_secret(&route);
            let case = format!("{name}: {} {path}", route.method);
            let dialect = route.dialect.as_str();
            if route.places.iter().any(|place| place.starts_with("grpc:")) {
                // A client without a token, and one that names nothing.
                for (token, status, reason) in
                    [("nobody", "16", "invalid_token"), ("powerless", "7", "group_not_allowed")]
                {
                    let stream = open(&mut http2, &path, token, AS_GRPC);
                    http2.data(stream, b"", true);
                    assert_refused(&case, http2.answer(stream), status, reason);
                }
                let bare = request("POST", &path).body("").token("powerless");
                assert_says_no(&rig, &case, &bare, dialect, "group_not_allowed");
                continue;
            }
            let ask = |token: &str| {
                let ask = request(&route.method, &path).token(token);
                if route.method == "POST" { ask.body("") } else { ask }
            };
            match route.group.as_str() {
                "public" => {}
                "deny" => assert_says_no(&rig, &case, &ask("all"), dialect, "route_denied"),
                _ => {
                    let nobody = ask("eval").without("authorization");
                    assert_says_no(&rig, &case, &nobody, dialect, "no_credential");
                    assert_says_no(&rig, &case, &ask("powerless"), dialect, "group_not_allowed");
                }
            }
        }
        rig.finish(0);
    }
}

#[test]
fn what_is_wrong_with_a_body_is_told_in_the_form_of_its_route() {
    let rig = rig("inspect_body_bytes = \"1KiB\"\n");
    let large = " ".repeat(1025);
    let cases: [(Request, u16, &str); 8] = [
        (json("/v1/chat/completions", r#"{"model":"secret"}"#), 403, "resource_not_allowed"),
        (json("/v1/chat/completions", "{}"), 403, "model_unresolved"),
        (json("/v1/chat/completions", r#"{"model":"a","model":"b"}"#), 400, "model_conflict"),
        (json("/v1/chat/completions", r#"{"model":"a b"}"#), 400, "bad_model"),
        (json("/v1/chat/completions", "[]"), 400, "bad_body"),
        (json("/v1/chat/completions", &large), 413, "body_too_large"),
        (
            json("/v1/chat/completions", "{}").with("Content-Encoding", "br"),
            415,
            "unsupported_encoding",
        ),
        (json("/pooling", r#"{"model":"secret"}"#), 403, "resource_not_allowed"),
    ];
    for (ask, status, reason) in &cases {
        let response = rig.assert_refused(reason, ask, *status, reason);
        assert_form(reason, &response, "openai", reason);
        let challenge = response.field("www-authenticate");
        if *status == 403 {
            let scope = "Bearer realm=\"default\", error=\"insufficient_scope\"";
            assert_eq!(challenge, Some(scope), "{reason}");
        } else {
            assert_eq!(challenge, None, "{reason}");
        }
    }
    // A route of one's own has problem+json, whatever its body is.
    let response = rig.assert_refused("own", &json("/both/allowed", "[]"), 400, "bad_body");
    assert_form("own", &response, "problem", "bad_body");
    rig.finish(0);
}
