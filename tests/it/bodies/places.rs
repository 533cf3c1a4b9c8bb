//! Each place that may name the model, and what becomes of those that do not agree.

use super::{BOTH, CHAT, EDIT, TRANSCRIBE, json, rig, rig_with, routes_of};
use crate::support::http1::{Request, post};
use crate::support::model_server::ModelServer;
use crate::support::rig::Rig;

/// What becomes of a request: forwarded as it is, or refused so.
type Fate = Option<(u16, &'static str)>;

const FORWARDED: Fate = None;
const CONFLICT: Fate = Some((400, "model_conflict"));
const BAD_BODY: Fate = Some((400, "bad_body"));
const BAD_MODEL: Fate = Some((400, "bad_model"));
const UNRESOLVED: Fate = Some((403, "model_unresolved"));
const NOT_ALLOWED: Fate = Some((403, "resource_not_allowed"));
const UNSUPPORTED: Fate = Some((415, "unsupported_encoding"));

/// Asks, and gives 1 when it was forwarded byte for byte.
fn assert_fate(rig: &Rig, case: &str, request: &Request, body: &[u8], fate: Fate) -> usize {
    match fate {
        Some((status, reason)) => {
            rig.assert_refused(case, request, status, reason);
            0
        }
        FORWARDED => {
            let received = rig.assert_forwarded(case, request);
            assert_eq!(received.body, body, "{case}: the body at the model server");
            1
        }
    }
}

#[test]
fn a_json_body_names_one_model_in_one_way() {
    let rig = rig("");
    let mut passed = 0;
    let long = format!("{{\"model\":\"{}\"}}", "a".repeat(257));
    let deep = format!("{{\"a\":{}{},\"model\":\"allowed\"}}", "[".repeat(300), "]".repeat(300));
    let cases: &[(&[u8], Fate)] = &[
        (br#"{"model":"allowed"}"#, FORWARDED),
        (b" \r\n\t{ \"model\" : \"allowed\" } \r\n", FORWARDED),
        (br#"{"messages":[{"role":"user","content":"hi"}],"model":"pre-x"}"#, FORWARDED),
        (br#"{"model":"secret"}"#, NOT_ALLOWED),
        (br#"{"model":"Allowed"}"#, NOT_ALLOWED),
        (br#"{"model":"allowed/x"}"#, NOT_ALLOWED),
        // Twice, in any order, whatever they say.
        (br#"{"model":"allowed","model":"secret"}"#, CONFLICT),
        (br#"{"model":"secret","model":"allowed"}"#, CONFLICT),
        (br#"{"model":"allowed","model":"allowed"}"#, CONFLICT),
        // The same name in another spelling is the same name.
        (br#"{"\u006dodel":"allowed"}"#, FORWARDED),
        (br#"{"mod\u0065l":"secret"}"#, NOT_ALLOWED),
        (br#"{"model":"allowed","mod\u0065l":"secret"}"#, CONFLICT),
        (br#"{"model":"\u0061llowed"}"#, FORWARDED),
        (br#"{"model":"\u0073ecret"}"#, NOT_ALLOWED),
        // Another name to some, and the same one to others.
        (br#"{"Model":"allowed"}"#, CONFLICT),
        (br#"{"model":"allowed","MODEL":"secret"}"#, CONFLICT),
        (br#"{"model":"allowed","model\u0000":"secret"}"#, CONFLICT),
        ("{\"model\":\"allowed\",\"\u{ff4d}odel\":\"secret\"}".as_bytes(), CONFLICT),
        ("{\"model\":\"allowed\",\"mode\u{2113}\":\"secret\"}".as_bytes(), CONFLICT),
        // Another name to all.
        (br#"{"model":"allowed","model_name":"secret","models":["secret"]}"#, FORWARDED),
        (br#"{"a":{"model":"secret"},"model":"allowed","b":[{"model":"secret"}]}"#, FORWARDED),
        (br#"{"a":{"model":"allowed"}}"#, UNRESOLVED),
        (br#"{}"#, UNRESOLVED),
        (b"", UNRESOLVED),
        // A value that is no name.
        (br#"{"model":null}"#, BAD_BODY),
        (br#"{"model":1}"#, BAD_BODY),
        (br#"{"model":["allowed"]}"#, BAD_BODY),
        (br#"{"model":{"id":"allowed"}}"#, BAD_BODY),
        (br#"{"model":""}"#, BAD_MODEL),
        (br#"{"model":"allowed "}"#, BAD_MODEL),
        (br#"{"model":"allowed\u0000"}"#, BAD_MODEL),
        (br#"{"model":"pre-/../secret"}"#, BAD_MODEL),
        (br#"{"model":"pre-%2e"}"#, BAD_MODEL),
        (br#"{"model":"/allowed"}"#, BAD_MODEL),
        (long.as_bytes(), BAD_MODEL),
        // No JSON, or not to everybody.
        (br#"["model","allowed"]"#, BAD_BODY),
        (br#""allowed""#, BAD_BODY),
        (br#"{"model":"allowed"}{"model":"secret"}"#, BAD_BODY),
        (br#"{"model":"allowed"} x"#, BAD_BODY),
        (br#"{"model":"allowed",}"#, BAD_BODY),
        (br#"{"model":"allowed""#, BAD_BODY),
        (br#"{"model":"allowed"/**/}"#, BAD_BODY),
        (br#"{model:"allowed"}"#, BAD_BODY),
        (br#"{'model':'allowed'}"#, BAD_BODY),
        (br#"{"model":"allowed","t":NaN}"#, BAD_BODY),
        (b"{\"model\":\"allowed\",\"x\":\"\n\"}", BAD_BODY),
        (b"{\"model\":\"allowed\",\"x\":\"\xff\"}", BAD_BODY),
        (b"\xef\xbb\xbf{\"model\":\"allowed\"}", BAD_BODY),
        (b"{\0\"\0m\0o\0d\0e\0l\0\"\0:\0\"\0a\0\"\0}\0", BAD_BODY),
        (br#"{"model":"allowed\ud800"}"#, BAD_BODY),
        (b"model=allowed", BAD_BODY),
        (deep.as_bytes(), BAD_BODY),
        (b" ", BAD_BODY),
    ];
    for (body, fate) in cases {
        let case = String::from_utf8_lossy(body);
        passed += assert_fate(&rig, &case, &json(CHAT, body), body, *fate);
    }
    rig.finish(passed);
}

#[test]
fn a_body_is_read_only_as_what_it_says_it_is() {
    let rig = rig("");
    let body = br#"{"model":"allowed"}"#;
    let bare = post(CHAT, body).token("eval");
    let mut passed = 0;
    for (content_type, fate) in [
        ("application/json", FORWARDED),
        ("Application/JSON; charset=UTF-8", FORWARDED),
        ("application/vnd.api+json", FORWARDED),
        ("application/json; charset=utf-16", UNSUPPORTED),
        ("application/json; charset=utf-7", UNSUPPORTED),
        ("text/plain", UNSUPPORTED),
        ("text/json", UNSUPPORTED),
        ("application/xml", UNSUPPORTED),
        ("application/msgpack", UNSUPPORTED),
        ("application/x-www-form-urlencoded", UNSUPPORTED),
        ("multipart/form-data; boundary=b", UNSUPPORTED),
        ("application/octet-stream", UNSUPPORTED),
        ("application/json, text/plain", BAD_BODY),
        ("json", BAD_BODY),
        ("", BAD_BODY),
    ] {
        let request = bare.clone().with("Content-Type", content_type);
        passed += assert_fate(&rig, content_type, &request, body, fate);
    }
    passed += assert_fate(&rig, "no type", &bare, body, FORWARDED);
    let twice = json(CHAT, body).with("Content-Type", "text/plain");
    passed += assert_fate(&rig, "two types", &twice, body, BAD_BODY);
    for (coding, fate) in [
        ("identity", FORWARDED),
        ("gzip", UNSUPPORTED),
        ("GZIP", UNSUPPORTED),
        ("deflate", UNSUPPORTED),
        ("br", UNSUPPORTED),
        ("zstd", UNSUPPORTED),
        ("identity, gzip", UNSUPPORTED),
        ("x-unheard-of", UNSUPPORTED),
        ("", UNSUPPORTED),
    ] {
        let request = json(CHAT, body).with("Content-Encoding", coding);
        passed += assert_fate(&rig, coding, &request, body, fate);
    }
    let two_lines = json(CHAT, body).with("Content-Encoding", "identity");
    let two_lines = two_lines.with("Content-Encoding", "gzip");
    passed += assert_fate(&rig, "two codings", &two_lines, body, UNSUPPORTED);
    rig.finish(passed);
}

#[test]
fn query_path_and_body_agree() {
    let rig = rig("");
    let mut passed = 0;
    let allowed = r#"{"model":"allowed"}"#;
    let forbidden = r#"{"model":"secret"}"#;
    for (target, body, fate) in [
        ("/v1/chat/completions?model=allowed", allowed, FORWARDED),
        ("/v1/chat/completions?model=allowed", "{}", FORWARDED),
        ("/v1/chat/completions?model=allowed", "", FORWARDED),
        ("/v1/chat/completions?x=1&model=pre-a&y", r#"{"model":"pre-a"}"#, FORWARDED),
        ("/v1/chat/completions?model=secret", allowed, CONFLICT),
        ("/v1/chat/completions?model=allowed", forbidden, CONFLICT),
        ("/v1/chat/completions?model=pre-a", allowed, CONFLICT),
        ("/v1/chat/completions?mod%65l=secret", allowed, CONFLICT),
        ("/v1/chat/completions?model=allowed&model=allowed", allowed, FORWARDED),
        ("/v1/chat/completions?model=allowed&model=secret", "{}", CONFLICT),
        ("/v1/chat/completions?model=secret", forbidden, NOT_ALLOWED),
        ("/v1/chat/completions?model=secret", "{}", NOT_ALLOWED),
        ("/v1/chat/completions?model=secret", "", NOT_ALLOWED),
        ("/v1/chat/completions?model=", allowed, CONFLICT),
        ("/v1/chat/completions?model=", "", BAD_MODEL),
        (BOTH, allowed, FORWARDED),
        (BOTH, "{}", FORWARDED),
        (BOTH, "", FORWARDED),
        (BOTH, forbidden, CONFLICT),
        (BOTH, r#"{"model":"pre-a"}"#, CONFLICT),
        (BOTH, "[]", BAD_BODY),
        ("/both/secret", allowed, CONFLICT),
        ("/both/secret", forbidden, NOT_ALLOWED),
        ("/both/secret", "", NOT_ALLOWED),
        ("/both/allowed?model=allowed", allowed, FORWARDED),
        ("/both/allowed?model=secret", allowed, CONFLICT),
        ("/both/allowed?model=secret", "", CONFLICT),
    ] {
        let case = format!("{target} {body}");
        passed += assert_fate(&rig, &case, &json(target, body), body.as_bytes(), fate);
    }
    rig.finish(passed);
}

#[test]
fn where_no_model_is_named_the_default_is_meant() {
    for (default, fate) in [("allowed", FORWARDED), ("secret", NOT_ALLOWED)] {
        let rig = rig_with(ModelServer::canned(), |settings| {
            settings.namespaces[0].keys = format!("default_model = \"{default}\"\n");
        });
        let mut passed = 0;
        for body in ["", "{}", r#"{"messages":[]}"#] {
            let case = format!("{default}: {body:?}");
            passed += assert_fate(&rig, &case, &json(CHAT, body), body.as_bytes(), fate);
        }
        // What names one, in whatever way, is not the default.
        for (body, fate) in [
            (r#"{"model":""}"#, BAD_MODEL),
            (r#"{"model":null}"#, BAD_BODY),
            (r#"{"Model":"allowed"}"#, CONFLICT),
            (r#"{"model":"other"}"#, NOT_ALLOWED),
            (r#"{"model":"pre-a"}"#, FORWARDED),
            ("[]", BAD_BODY),
            (" ", BAD_BODY),
        ] {
            let case = format!("{default}: {body:?}");
            passed += assert_fate(&rig, &case, &json(CHAT, body), body.as_bytes(), fate);
        }
        rig.finish(passed);
    }
}

/// A body that has no byte has none however it is framed.
#[test]
fn no_body_is_no_body_in_chunks_too() {
    let rig = rig_with(ModelServer::canned(), |settings| {
        settings.namespaces[0].keys = "default_model = \"allowed\"\n".into();
    });
    let request = json(CHAT, "");
    let mut client = rig.connect();
    client.send(super::chunked(&request, b"", 1));
    assert_eq!(client.response().status, 200);
    // The connection goes on where the chunks ended.
    assert_eq!(client.ask(&request).status, 200);
    assert!(rig.server.requests().iter().all(|received| received.body.is_empty()));
    rig.finish(2);
}

fn part(head: &str, content: &str) -> String {
    format!("--b0und\r\nContent-Disposition: {head}\r\n\r\n{content}\r\n")
}

fn form(parts: &[(&str, &str)]) -> String {
    let parts: String = parts.iter().map(|(head, content)| part(head, content)).collect();
    format!("{parts}--b0und--\r\n")
}

#[test]
fn a_form_names_one_model_in_one_field() {
    let rig = rig("");
    let file = ("form-data; name=\"file\"; filename=\"a.wav\"", "RIFF\r\n--b0un\r\n\0\x01");
    let model = |name: &'static str| ("form-data; name=\"model\"", name);
    let mut passed = 0;
    let cases = [
        (form(&[model("allowed"), file]), FORWARDED),
        (form(&[file, model("allowed")]), FORWARDED),
        (form(&[file, model("secret")]), NOT_ALLOWED),
        (form(&[file]), UNRESOLVED),
        (form(&[model("allowed"), file, model("secret")]), CONFLICT),
        (form(&[model("allowed"), model("allowed")]), CONFLICT),
        (form(&[model("allowed"), ("form-data; name=\"Model\"", "secret")]), CONFLICT),
        (form(&[model("allowed"), ("form-data; name=\"model[]\"", "secret")]), CONFLICT),
        (form(&[model("")]), BAD_MODEL),
        (form(&[model("a b")]), BAD_MODEL),
        // A part that hides in the file of another is content.
        (
            form(&[
                model("allowed"),
                (
                    "form-data; name=\"file\"; filename=\"x\"",
                    "--other\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nsecret",
                ),
            ]),
            FORWARDED,
        ),
        // What one reader takes for the end is the middle to another.
        (form(&[model("allowed")]).replace("--b0und--\r\n", "--b0und"), BAD_BODY),
        (form(&[model("allowed")]).replace("\r\n", "\n"), BAD_BODY),
        (String::from("{\"model\":\"allowed\"}"), BAD_BODY),
    ];
    for (body, fate) in &cases {
        let request = post(TRANSCRIBE, body).token("eval");
        let request = request.with("Content-Type", "multipart/form-data; boundary=b0und");
        passed += assert_fate(&rig, body, &request, body.as_bytes(), *fate);
    }
    for (body, fate) in [
        ("model=allowed&prompt=x", FORWARDED),
        ("prompt=x&model=%61llowed", FORWARDED),
        ("mod%65l=secret", NOT_ALLOWED),
        ("model=allowed&model=secret", CONFLICT),
        ("model=allowed&Model=secret", CONFLICT),
        ("model=allowed&mod%65l=secret", CONFLICT),
        ("prompt=x", UNRESOLVED),
        ("", UNRESOLVED),
    ] {
        let request = post(EDIT, body).token("eval");
        let request = request.with("Content-Type", "application/x-www-form-urlencoded");
        passed += assert_fate(&rig, body, &request, body.as_bytes(), fate);
    }
    // Routes that take a form only, JSON only, and both.
    let json_body = r#"{"model":"allowed"}"#;
    let form_body = form(&[model("allowed")]);
    for (path, as_json, as_form) in [
        (CHAT, FORWARDED, UNSUPPORTED),
        (TRANSCRIBE, UNSUPPORTED, FORWARDED),
        (EDIT, FORWARDED, FORWARDED),
    ] {
        let request = json(path, json_body);
        passed += assert_fate(&rig, path, &request, json_body.as_bytes(), as_json);
        let request = post(path, &form_body).token("eval");
        let request = request.with("Content-Type", "multipart/form-data; boundary=b0und");
        passed += assert_fate(&rig, path, &request, form_body.as_bytes(), as_form);
    }
    // The boundary that counts is the one that both have to read.
    for (content_type, fate) in [
        ("multipart/form-data", BAD_BODY),
        ("multipart/form-data; boundary=", BAD_BODY),
        ("multipart/form-data; boundary=b0und; boundary=x", BAD_BODY),
        ("multipart/form-data; boundary=x", BAD_BODY),
        ("multipart/mixed; boundary=b0und", UNSUPPORTED),
        ("multipart/form-data; boundary=\"b0und\"", FORWARDED),
    ] {
        let request = post(TRANSCRIBE, &form_body).token("eval");
        let request = request.with("Content-Type", content_type);
        passed += assert_fate(&rig, content_type, &request, form_body.as_bytes(), fate);
    }
    rig.finish(passed);
}

#[test]
fn every_route_with_the_model_in_its_body_asks_for_it() {
    let rig = rig("");
    let mut passed = 0;
    let mut routes = 0;
    for profile in ["openai", "vllm"] {
        for route in routes_of(profile) {
            if !route.places.iter().any(|place| place == "body") {
                continue;
            }
            assert_eq!((route.method.as_str(), route.group.as_str()), ("POST", "model-evaluation"));
            routes += 1;
            let path = route.path.as_str();
            for (body, fate) in [
                (r#"{"model":"allowed"}"#, FORWARDED),
                (r#"{"model":"secret"}"#, NOT_ALLOWED),
                (r#"{"model":"allowed","model":"secret"}"#, CONFLICT),
                ("", UNRESOLVED),
            ] {
                let case = format!("{path} {body}");
                passed += assert_fate(&rig, &case, &json(path, body), body.as_bytes(), fate);
            }
        }
    }
    assert!(routes > 30, "{routes}");
    rig.finish(passed);
}

/// Text Generation Inference serves one model, and takes whatever a body names for an adapter of it.
#[test]
fn where_the_route_is_about_the_default_model_the_body_is_not_read() {
    let rig = rig_with(ModelServer::canned(), |settings| {
        settings.namespaces[0].profiles = vec!["tgi".into()];
        settings.namespaces[0].keys = "default_model = \"allowed\"\n".into();
    });
    let mut passed = 0;
    for path in ["/generate", "/generate_stream", "/tokenize", CHAT, "/invocations"] {
        for body in [r#"{"model":"tgi"}"#, r#"{"model":"a","model":"b"}"#, "", "no JSON"] {
            passed += assert_fate(&rig, path, &json(path, body), body.as_bytes(), FORWARDED);
        }
        let target = format!("{path}?model=secret");
        assert_fate(&rig, &target, &json(&target, "{}"), b"{}", CONFLICT);
    }
    rig.finish(passed);
    let rig = rig_with(ModelServer::canned(), |settings| {
        settings.namespaces[0].profiles = vec!["tgi".into()];
        settings.namespaces[0].keys = "default_model = \"secret\"\n".into();
    });
    for path in ["/generate", CHAT] {
        let body = r#"{"model":"allowed"}"#;
        assert_fate(&rig, path, &json(path, body), body.as_bytes(), NOT_ALLOWED);
    }
    rig.finish(0);
}
