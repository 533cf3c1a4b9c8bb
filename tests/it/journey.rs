//! The decision, rule by rule, as a client sees it: status, reason, challenge, body; and that nothing of what was
//! refused reached the model server.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use crate::golden;
use crate::support::http1::{Request, Response, get, post, request};
use crate::support::model_server::{CANNED_BODY, ModelServer, Then};
use crate::support::rig::Rig;
use crate::support::tokens;

/// The parameters after the realm of a challenge.
const BARE: Option<&str> = Some("");
const INVALID_TOKEN: Option<&str> = Some(r#", error="invalid_token""#);
const INSUFFICIENT: Option<&str> = Some(r#", error="insufficient_scope""#);
const INVALID_REQUEST: Option<&str> = Some(r#", error="invalid_request""#);
const NO_CHALLENGE: Option<&str> = None;

/// The form of a refusal's body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Body {
    Problem,
    ErrorText,
}
use Body::{ErrorText, Problem};

/// What is asked, and the status, reason, challenge and form of the refusal.
type Refusal<'c> = (&'c str, Request, u16, &'c str, Option<&'c str>, Body);

/// What every refusal has, whatever the reason.
fn assert_is_refusal(case: &str, response: &Response, challenge: Option<&str>, body: Body) {
    assert!(response.is_whole, "{case}: {response:?}");
    assert_eq!(response.field("cache-control"), Some("no-store"), "{case}");
    let given = response.field("www-authenticate").map(|challenge| {
        let rest = challenge
            .strip_prefix("Bearer realm=\"")
            .unwrap_or_else(|| panic!("{case}: {challenge}"));
        rest.split_once('"').unwrap_or_else(|| panic!("{case}: {challenge}")).1.to_owned()
    });
    assert_eq!(given.as_deref(), challenge, "{case}: WWW-Authenticate");
    let json = response.json();
    let object = json.as_object().unwrap();
    match body {
        Problem => {
            assert_eq!(response.field("content-type"), Some("application/problem+json"), "{case}");
            let mut names: Vec<&str> = object.keys().map(String::as_str).collect();
            names.sort_unstable();
            assert_eq!(
                names,
                ["detail", "instance", "reason", "request_id", "status", "title", "type"],
                "{case}"
            );
            assert_eq!(object["status"], response.status, "{case}");
            assert_eq!(object["reason"].as_str(), response.reason(), "{case}");
        }
        ErrorText => {
            assert_eq!(response.field("content-type"), Some("application/json"), "{case}");
            assert_eq!(object.keys().collect::<Vec<_>>(), ["error"], "{case}");
            assert!(object["error"].as_str().is_some_and(|text| !text.is_empty()), "{case}");
        }
    }
}

fn with_scope(group: &str) -> String {
    format!(r#", error="insufficient_scope", scope="{group}""#)
}

#[test]
fn every_rule_refuses_with_its_own_words_and_before_the_model_server_hears_of_it() {
    let rig = Rig::standard();
    let evaluation = with_scope("model-evaluation");
    let management = with_scope("model-management");
    let auditing = with_scope("auditing");
    let hash = tokens::hash(&tokens::secret("all"));
    let two = |first: &str, second: &str| {
        get("/score/allowed")
            .token("eval")
            .with(first, tokens::secret("all"))
            .with(second, tokens::secret("all"))
    };
    #[rustfmt::skip]
    let table: Vec<Refusal<'_>> = vec![
        // 1: form
        ("host missing", get("/score/allowed").token("eval").without("host"), 400, "bad_host", NO_CHALLENGE, Problem),
        ("host malformed", get("/score/allowed").token("eval").host("a/../b"), 400, "bad_host", NO_CHALLENGE, Problem),
        ("target of another form", request("OPTIONS", "*").token("eval"), 400, "bad_target", NO_CHALLENGE, Problem),
        // 2: path
        ("path", get("/score/../allowed").token("eval"), 400, "bad_path", NO_CHALLENGE, Problem),
        ("path before token", get("/score//allowed"), 400, "bad_path", NO_CHALLENGE, Problem),
        // 4: credential
        ("credential twice", get("/score/allowed").token("eval").token("eval"), 400, "ambiguous_credential", INVALID_REQUEST, Problem),
        ("two credentials", two("X-Api-Key", "X-Nothing"), 400, "ambiguous_credential", INVALID_REQUEST, Problem),
        ("two credentials, KServe", get("/v2/models/allowed").token("eval").with("x-api-key", "y"), 400, "ambiguous_credential", INVALID_REQUEST, ErrorText),
        // 5: route
        ("route denied", get("/closed").token("all"), 403, "route_denied", INSUFFICIENT, Problem),
        ("route denied, no token", get("/closed"), 401, "no_credential", BARE, Problem),
        ("route denied, bad token", get("/closed").token("nobody"), 401, "invalid_token", INVALID_TOKEN, Problem),
        // 6: token
        ("no token", get("/score/allowed"), 401, "no_credential", BARE, Problem),
        ("no token, KServe", post("/v2/models/allowed/infer", "{}"), 401, "no_credential", BARE, ErrorText),
        ("unknown token", get("/score/allowed").token("nobody"), 401, "invalid_token", INVALID_TOKEN, Problem),
        ("unknown token, KServe", post("/v2/models/allowed/infer", "{}").token("nobody"), 401, "invalid_token", INVALID_TOKEN, ErrorText),
        ("expired token", get("/score/allowed").token("expired"), 401, "invalid_token", INVALID_TOKEN, Problem),
        ("disabled token", get("/score/allowed").token("disabled"), 401, "invalid_token", INVALID_TOKEN, Problem),
        ("administrator key", get("/score/allowed").bearer(&tokens::administrator_key()), 401, "invalid_token", INVALID_TOKEN, Problem),
        ("hash as token", get("/score/allowed").bearer(&hash), 401, "invalid_token", INVALID_TOKEN, Problem),
        ("hash's digits as token", get("/score/allowed").bearer(&hash["blake3:".len()..]), 401, "invalid_token", INVALID_TOKEN, Problem),
        ("token's id as token", get("/score/allowed").bearer("all"), 401, "invalid_token", INVALID_TOKEN, Problem),
        // 7: no route
        ("no route", get("/nowhere").token("all"), 403, "no_route", INSUFFICIENT, Problem),
        ("no route, no token", get("/nowhere"), 401, "no_credential", BARE, Problem),
        ("no route for the method", request("DELETE", "/v2/models/allowed").token("all"), 403, "no_route", INSUFFICIENT, Problem),
        ("no route, unlisted path of the server", post("/invocations", "{}").token("all"), 403, "no_route", INSUFFICIENT, Problem),
        ("no route, health by prefix", get("/v2/health/live/x").token("all"), 403, "no_route", INSUFFICIENT, Problem),
        ("no route, OPTIONS", request("OPTIONS", "/score/allowed").token("all"), 403, "no_route", INSUFFICIENT, Problem),
        ("no route, OPTIONS, no token", request("OPTIONS", "/score/allowed"), 401, "no_credential", BARE, Problem),
        ("no route, trailing slash", get("/score/allowed/").token("all"), 403, "no_route", INSUFFICIENT, Problem),
        ("no route, letter case", get("/Score/allowed").token("all"), 403, "no_route", INSUFFICIENT, Problem),
        // 8: group
        ("group", get("/audit/allowed").token("all"), 403, "group_not_allowed", Some(&auditing), Problem),
        ("group, management", request("PUT", "/score/allowed").token("eval"), 403, "group_not_allowed", Some(&management), Problem),
        ("group, evaluation", post("/v2/models/allowed/infer", "{}").token("manage"), 403, "group_not_allowed", Some(&evaluation), ErrorText),
        ("group, load", post("/v2/repository/models/allowed/load", "").token("eval"), 403, "group_not_allowed", Some(&management), ErrorText),
        ("group, powerless", get("/score/allowed").token("powerless"), 403, "group_not_allowed", Some(&evaluation), Problem),
        ("group, none", get("/score/allowed").token("no-groups"), 403, "group_not_allowed", Some(&evaluation), Problem),
        // 9: model
        ("model in path and query", get("/score/allowed?model=secret").token("eval"), 400, "model_conflict", NO_CHALLENGE, Problem),
        ("model in query twice", get("/ask?model=allowed&model=secret").token("eval"), 400, "model_conflict", NO_CHALLENGE, Problem),
        ("model in query, escaped name", get("/ask?model=allowed&mod%65l=secret").token("eval"), 400, "model_conflict", NO_CHALLENGE, Problem),
        ("model in path and query, KServe", get("/v2/models/allowed?model=secret").token("eval"), 400, "model_conflict", NO_CHALLENGE, ErrorText),
        ("model named nowhere", get("/ask").token("eval"), 403, "model_unresolved", INSUFFICIENT, Problem),
        ("model empty", get("/ask?model=").token("eval"), 400, "bad_model", NO_CHALLENGE, Problem),
        ("model with a blank", get("/score/allowed%20").token("all"), 400, "bad_model", NO_CHALLENGE, Problem),
        ("model that is a pattern", get("/score/pre-*").token("eval"), 400, "bad_model", NO_CHALLENGE, Problem),
        ("model with a dot segment", get("/ask?model=pre-/../secret").token("all"), 400, "bad_model", NO_CHALLENGE, Problem),
        ("model too long", get(&format!("/score/{}", "m".repeat(257))).token("all"), 400, "bad_model", NO_CHALLENGE, Problem),
        // 10: resource
        ("resource", get("/score/secret").token("eval"), 403, "resource_not_allowed", INSUFFICIENT, Problem),
        ("resource, KServe", post("/v2/models/secret/infer", "{}").token("eval"), 403, "resource_not_allowed", INSUFFICIENT, ErrorText),
        ("resource, longer", get("/score/allowed2").token("eval"), 403, "resource_not_allowed", INSUFFICIENT, Problem),
        ("resource, shorter", get("/score/allowe").token("eval"), 403, "resource_not_allowed", INSUFFICIENT, Problem),
        ("resource, letter case", get("/score/Allowed").token("eval"), 403, "resource_not_allowed", INSUFFICIENT, Problem),
        ("resource, short of the prefix", get("/score/pre").token("eval"), 403, "resource_not_allowed", INSUFFICIENT, Problem),
        ("resource, in the query", get("/ask?model=secret").token("eval"), 403, "resource_not_allowed", INSUFFICIENT, Problem),
        ("resource, in the query, escaped", get("/ask?%6Dodel=%73ecret").token("eval"), 403, "resource_not_allowed", INSUFFICIENT, Problem),
        ("resource, of a foreign key", get("/score/secret").bearer(tokens::FOREIGN_KEY), 403, "resource_not_allowed", INSUFFICIENT, Problem),
        ("resource, a token without any", get("/score/allowed").token("no-models"), 403, "resource_not_allowed", INSUFFICIENT, Problem),
        ("resource, a route without a model", get("/everything").token("eval"), 403, "resource_not_allowed", INSUFFICIENT, Problem),
    ];
    let mut told = String::new();
    let mut bodies = BTreeSet::new();
    let mut reasons: BTreeMap<String, f64> = BTreeMap::new();
    for (case, request, status, reason, challenge, body) in &table {
        let response = rig.assert_refused(case, request, *status, reason);
        assert_is_refusal(case, &response, *challenge, *body);
        let field = |name| response.field(name).unwrap_or("-");
        let (kind, challenge) = (field("content-type"), field("www-authenticate"));
        writeln!(told, "{case}: {status} {reason} | {challenge} | {kind}").unwrap();
        bodies.insert(said(&response));
        let counted = match *case {
            "expired token" => "expired_token",
            "disabled token" => "disabled_token",
            _ if *reason == "invalid_token" => "unknown_token",
            _ => reason,
        };
        *reasons.entry(counted.to_owned()).or_default() += 1.0;
    }
    let bodies: Vec<String> = bodies.into_iter().collect();
    golden::check("refusals.txt", &format!("{told}\n{}\n", bodies.join("\n")));
    // The metric tells what the wire does not.
    let metrics = rig.gate.metrics();
    for (reason, count) in &reasons {
        let labels = [("namespace", "default"), ("result", "denied"), ("reason", reason.as_str())];
        // What has no host belongs to no namespace.
        if reason != "bad_host" && reason != "bad_target" {
            assert_eq!(
                metrics.value("faregate_decisions_total", &labels),
                Some(*count),
                "{reason}"
            );
        }
    }
    rig.finish(0);
}

/// What a refusal says, without what differs from request to request.
fn said(response: &Response) -> String {
    let mut json = response.json();
    for (field, value) in [("request_id", "REQUEST-ID"), ("instance", "PATH")] {
        if let Some(own) = json.get_mut(field) {
            *own = value.into();
        }
    }
    format!("{} {json}", response.reason().unwrap_or_default())
}

#[test]
fn what_a_token_may_do_is_forwarded() {
    let rig = Rig::standard();
    #[rustfmt::skip]
    let table = [
        ("own route", get("/score/allowed").token("eval")),
        ("own route, POST", post("/score/allowed", "x").token("eval")),
        ("prefix", get("/score/pre-anything").token("eval")),
        ("the prefix itself", get("/score/pre-").token("eval")),
        ("rest", get("/files/allowed/a/b.txt").token("eval")),
        ("rest with a trailing slash", get("/files/allowed/a/").token("eval")),
        ("rest that is a trailing slash", get("/files/allowed/").token("eval")),
        ("query", get("/ask?model=allowed").token("eval")),
        ("query, the same twice", get("/ask?model=allowed&model=allowed").token("eval")),
        ("query that agrees with the path", get("/score/allowed?model=allowed").token("eval")),
        ("query about something else", get("/score/allowed?models=secret&x=%2F..%2F").token("eval")),
        ("profile, metadata", get("/v2/models/allowed").token("eval")),
        ("profile, ready", get("/v2/models/allowed/ready").token("eval")),
        ("profile, infer", post("/v2/models/allowed/infer", "{}").token("eval")),
        ("profile, infer a version", post("/v2/models/pre-x/versions/3/infer", "{}").token("eval")),
        ("profile, load", post("/v2/repository/models/allowed/load", "").token("manage")),
        ("management", request("PUT", "/score/allowed").token("manage").body("x")),
        ("HEAD follows GET", request("HEAD", "/score/allowed").token("eval")),
        ("a route without a model", get("/everything").token("all")),
        ("a route for any resource", get("/lists").token("eval")),
        ("a route for any resource, no models", get("/lists").token("no-models")),
        ("a foreign key", get("/score/allowed").bearer(tokens::FOREIGN_KEY)),
        ("an escape that is needed", get("/files/allowed/caf%C3%A9").token("eval")),
        ("public", get("/open")),
        ("public, OPTIONS", request("OPTIONS", "/open")),
        ("public, with a token nobody knows", get("/open").token("nobody")),
        ("public, of the profile", get("/v2/health/ready")),
        ("public, HEAD", request("HEAD", "/v2/health/live")),
    ];
    for (case, request) in &table {
        let received = rig.assert_forwarded(case, request);
        let line = format!("{} {} ", received.method, received.target);
        assert!(request.bytes().starts_with(line.as_bytes()), "{case}: {line} was forwarded");
        assert_eq!(received.field("host"), Some("models.test"), "{case}");
    }
    let allowed = [("namespace", "default"), ("result", "allowed"), ("reason", "allowed")];
    let count = u32::try_from(table.len()).unwrap();
    assert_eq!(rig.gate.metric("faregate_decisions_total", &allowed), f64::from(count));
    rig.finish(table.len());
}

#[test]
fn an_answer_comes_through_as_the_model_server_gave_it() {
    let answer = "HTTP/1.1 418 Short And Stout\r\nContent-Type: text/plain\r\nX-Tea: yes\r\nX-Tea: please\r\n\
                  WWW-Authenticate: Basic realm=\"the server's own\"\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\n\
                  Content-Length: 6\r\n\r\nteapot";
    let rig = Rig::before(ModelServer::answering(answer));
    let (response, received) =
        rig.forward("teapot", &post("/v2/models/allowed/infer", "{\"x\":1}").token("eval"));
    assert_eq!((response.status, response.text().as_str()), (418, "teapot"));
    assert_eq!(crate::support::http1::all(&response.fields, "x-tea"), ["yes", "please"]);
    assert_eq!(crate::support::http1::all(&response.fields, "set-cookie"), ["a=1", "b=2"]);
    assert_eq!(response.field("www-authenticate"), Some("Basic realm=\"the server's own\""));
    assert_eq!(response.field("content-type"), Some("text/plain"));
    assert_eq!(response.reason(), None, "only a refusal has a reason");
    assert_eq!(received.body, b"{\"x\":1}");
    assert_eq!(received.field("content-length"), Some("7"));
    rig.finish(1);
}

#[test]
fn answers_without_a_body_have_none_and_the_connection_goes_on() {
    let server = ModelServer::scripted(|exchange| {
        exchange.whole();
        exchange.send(match exchange.request.target.rsplit('?').next() {
            Some("204") => "HTTP/1.1 204 No Content\r\nX-Served-By: model\r\n\r\n",
            Some("304") => "HTTP/1.1 304 Not Modified\r\nETag: \"x\"\r\nContent-Length: 16\r\n\r\n",
            Some("head") => "HTTP/1.1 200 OK\r\nContent-Length: 16\r\n\r\n",
            Some("chunks") => "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            _ => "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        });
        Then::KeepOpen
    });
    let rig = Rig::before(server);
    let mut client = rig.connect();
    for _ in 0..2 {
        for (method, query, status, length) in [
            ("GET", "204", 204, None),
            ("GET", "304", 304, Some("16")),
            ("HEAD", "head", 200, Some("16")),
            ("GET", "chunks", 200, None),
            ("GET", "empty", 200, Some("0")),
        ] {
            let response =
                client.ask(&request(method, &format!("/score/allowed?{query}")).token("eval"));
            assert_eq!((response.status, response.body.len()), (status, 0), "{query}");
            // A length may be said of an empty series of chunks, and left out where nothing was sent.
            if matches!(query, "204" | "head" | "empty") {
                assert_eq!(response.field("content-length"), length, "{query}");
            }
        }
    }
    rig.finish(10);
}

#[test]
fn bad_tokens_are_told_apart_by_nobody_outside() {
    let rig = Rig::standard();
    let good = tokens::secret("eval");
    let mut mistyped = good.clone();
    mistyped.replace_range(10..11, if &good[10..11] == "x" { "y" } else { "x" });
    let presented = [
        ("unknown", tokens::secret("nobody")),
        ("expired", tokens::secret("expired")),
        ("disabled", tokens::secret("disabled")),
        ("mistyped", mistyped),
        ("cut", good[..good.len() - 1].to_owned()),
        ("longer", format!("{good}0")),
        ("only the prefix", "fg_".to_owned()),
        ("lower case", good.to_ascii_lowercase()),
        ("of another make", "sk-unknown".to_owned()),
        ("an administrator's", tokens::administrator_key()),
        ("a list", format!("{good},{good}")),
        ("quoted", format!("\"{good}\"")),
    ];
    for make in [
        |secret: &str| get("/score/allowed").bearer(secret),
        |secret: &str| get("/score/allowed").with("X-Api-Key", secret),
        |secret: &str| post("/v2/models/allowed/infer", "{}").bearer(secret),
        |secret: &str| get("/nowhere").bearer(secret),
    ] {
        let mut before: Option<String> = None;
        for (case, secret) in &presented {
            let response = rig.assert_refused(case, &make(secret), 401, "invalid_token");
            let bytes = response.without_what_varies();
            if let Some(before) = &before {
                assert_eq!(before, &bytes, "{case} differs");
            }
            before = Some(bytes);
        }
    }
    rig.finish(0);
}

#[test]
fn a_browser_is_asked_for_a_password() {
    let rig = Rig::standard();
    let challenges = |request: &Request| {
        let response = rig.ask(request);
        assert_eq!(response.status, 401);
        let all = crate::support::http1::all(&response.fields, "www-authenticate").join(", ");
        (all.contains("Bearer realm="), all.contains("Basic realm="))
    };
    let browser = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";
    for (accept, asked) in [
        (browser, true),
        ("application/json, text/html", true),
        ("TEXT/HTML", true),
        ("application/json", false),
        ("*/*", false),
    ] {
        for request in [get("/score/allowed"), get("/score/allowed").token("nobody")] {
            let request = request.with("Accept", accept);
            assert_eq!(challenges(&request), (true, asked), "{accept}: {request:?}");
        }
    }
    // A 403 is no question for a password.
    let refused = rig.ask(&get("/score/secret").token("eval").with("Accept", browser));
    assert!(!refused.field("www-authenticate").unwrap().contains("Basic"));
    rig.finish(0);

    let rig = Rig::with(ModelServer::canned(), |settings| {
        settings.namespaces[0].keys = "credentials = [\"bearer\"]\n".into();
    });
    let refused = rig.ask(&get("/score/allowed").with("Accept", browser));
    assert!(!refused.field("www-authenticate").unwrap().contains("Basic"), "basic is off here");
    rig.finish(0);
}

#[test]
fn what_is_not_enforced_is_forwarded_and_told() {
    let rig = Rig::with(ModelServer::canned(), |settings| {
        settings.namespaces[0].keys = "enforce = false\n".into();
    });
    #[rustfmt::skip]
    let table = [
        ("no_credential", get("/score/allowed")),
        ("unknown_token", get("/score/allowed").token("nobody")),
        ("expired_token", get("/score/allowed").token("expired")),
        ("disabled_token", get("/score/allowed").token("disabled")),
        ("route_denied", get("/closed").token("all")),
        ("no_route", get("/nowhere").token("eval")),
        ("group_not_allowed", get("/audit/allowed").token("eval")),
        ("model_unresolved", get("/ask").token("eval")),
        ("resource_not_allowed", get("/score/secret").token("eval")),
    ];
    for (reason, request) in &table {
        let forged = request
            .clone()
            .with("X-Credential-Identifier", "forged")
            .with("X_Consumer_Username", "forged");
        let received = rig.assert_forwarded(reason, &forged);
        let labels = [("namespace", "default"), ("result", "would_deny"), ("reason", *reason)];
        assert_eq!(rig.gate.metric("faregate_decisions_total", &labels), 1.0, "{reason}");
        assert!(!received.summary().contains("forged"), "{reason}: {}", received.summary());
        if matches!(*reason, "no_credential" | "unknown_token" | "expired_token" | "disabled_token")
        {
            let told = received.field("x-credential-identifier");
            assert_eq!(told, None, "{reason}: nobody valid is calling");
        }
    }
    // What can be read in two ways is refused all the same.
    rig.assert_refused("path", &get("/score/../allowed").token("eval"), 400, "bad_path");
    rig.assert_refused("host", &get("/score/allowed").host("a b").token("eval"), 400, "bad_host");
    let twice = get("/score/allowed").token("eval").with("X-Api-Key", "other");
    rig.assert_refused("credential", &twice, 400, "ambiguous_credential");
    rig.finish(table.len());
}

#[test]
fn the_default_model_is_meant_where_a_request_names_none() {
    let rig = Rig::with(ModelServer::canned(), |settings| {
        let namespace = &mut settings.namespaces[0];
        namespace.profiles = vec!["ovh-runtime".into()];
        namespace.keys = "default_model = \"allowed\"\n".into();
    });
    for (case, request) in [
        ("eval", post("/eval", "[1,2]").token("eval")),
        ("describe", get("/describe").token("eval")),
        ("root", get("/").token("eval")),
        ("own route", get("/ask").token("eval")),
        ("named all the same", get("/describe?model=allowed").token("eval")),
    ] {
        rig.assert_forwarded(case, &request);
    }
    rig.assert_refused(
        "another",
        &get("/describe?model=secret").token("eval"),
        400,
        "model_conflict",
    );
    rig.assert_refused(
        "another",
        &get("/ask?model=secret").token("eval"),
        403,
        "resource_not_allowed",
    );
    rig.assert_refused(
        "not given",
        &get("/describe").token("no-models"),
        403,
        "resource_not_allowed",
    );
    rig.finish(5);
}

#[test]
fn each_model_under_its_own_path() {
    let rig = Rig::with(ModelServer::canned(), |settings| {
        settings.namespaces[0].profiles = vec!["ovh".into()];
        settings.namespaces[0].tables.clear();
    });
    for (case, request) in [
        ("evaluate", post("/allowed/eval", "{}").token("eval")),
        ("describe", get("/pre-x/describe").token("eval")),
        ("the model itself", get("/allowed").token("eval")),
        ("its page", get("/allowed/").token("eval")),
        ("deploy", request("PUT", "/allowed").token("manage").body("{}")),
        ("delete", request("DELETE", "/allowed/v1").token("manage")),
    ] {
        rig.assert_forwarded(case, &request);
    }
    rig.assert_refused(
        "another",
        &post("/secret/eval", "{}").token("eval"),
        403,
        "resource_not_allowed",
    );
    rig.assert_refused(
        "deploy",
        &request("PUT", "/allowed").token("eval").body("x"),
        403,
        "group_not_allowed",
    );
    rig.assert_refused(
        "evaluate",
        &post("/allowed/eval", "{}").token("manage"),
        403,
        "group_not_allowed",
    );
    rig.assert_refused("preflight", &request("OPTIONS", "/allowed/eval"), 401, "no_credential");
    rig.assert_refused("root", &get("/").token("all"), 403, "no_route");
    rig.finish(6);
}

#[test]
fn a_refused_request_leaves_a_line_that_says_why() {
    let rig = Rig::standard();
    let asked =
        get("/score/secret?key=value").token("eval").with("X-Request-Id", "line-of-this-request");
    let response = rig.assert_refused("resource", &asked, 403, "resource_not_allowed");
    assert_eq!(response.json()["request_id"], "line-of-this-request");
    let line = rig.gate.wait_for_event("request_id", "line-of-this-request");
    for (field, value) in [
        ("namespace", "default"),
        ("method", "GET"),
        ("path", "/score/secret"),
        ("reason", "resource_not_allowed"),
        ("token_id", "eval"),
        ("model", "secret"),
        ("group", "model-evaluation"),
    ] {
        assert_eq!(line[field], value, "{field} in {line}");
    }
    assert_eq!(line["status"].to_string().trim_matches('"'), "403", "{line}");
    for field in ["time", "level", "message", "peer", "duration_ms", "bytes_in", "bytes_out"] {
        assert!(line.get(field).is_some(), "{field} in {line}");
    }
    let expired =
        get("/score/allowed").token("expired").with("X-Request-Id", "line-of-the-expired");
    rig.assert_refused("expired", &expired, 401, "invalid_token");
    assert_eq!(
        rig.gate.wait_for_event("request_id", "line-of-the-expired")["reason"],
        "expired_token"
    );
    let allowed = get("/score/allowed").token("eval").with("X-Request-Id", "line-of-the-allowed");
    assert_eq!(rig.ask(&allowed).text(), CANNED_BODY);
    let line = rig.gate.wait_for_event("request_id", "line-of-the-allowed");
    assert_eq!(line["status"].to_string().trim_matches('"'), "200", "{line}");
    assert!(line.get("upstream_ms").is_some(), "{line}");
    rig.finish(1);
}

#[test]
fn only_refusals_are_logged_unless_more_is_asked_for() {
    let rig = Rig::with(ModelServer::canned(), |settings| {
        settings.log = "level = \"info\"\naccess = \"denied\"\n".into();
    });
    rig.ask(&get("/score/allowed").token("eval").with("X-Request-Id", "quiet"));
    rig.ask(&get("/score/secret").token("eval").with("X-Request-Id", "loud"));
    rig.gate.wait_for_event("request_id", "loud");
    assert!(!String::from_utf8(rig.gate.log()).unwrap().contains("quiet"));
    rig.finish(1);
}

#[test]
fn what_a_client_writes_stays_inside_its_field_of_the_log() {
    let rig = Rig::standard();
    let long = "x".repeat(8000);
    for (case, target, extra) in [
        ("escape sequences", "/score/%1B[2Jsecret", "a\u{1b}[31m"),
        ("quotation marks", "/score/\"},{\"level\":\"ERROR", "\"}"),
        ("a long path", long.as_str(), "a"),
    ] {
        let target = if target.starts_with('/') { target.to_owned() } else { format!("/{target}") };
        let asked =
            get(&target).with("X-Request-Id", extra).with("User-Agent", format!("{extra} {case}"));
        let response = rig.connect().ask(&asked);
        assert!((400..500).contains(&response.status), "{case}: {response:?}");
    }
    rig.ask(&get("/score/secret").token("eval").with("X-Request-Id", "after-all"));
    rig.gate.wait_for_event("request_id", "after-all");
    for line in rig.gate.log_lines() {
        let event: serde_json::Value =
            serde_json::from_str(&line).unwrap_or_else(|_| panic!("no JSON: {line:?}"));
        assert!(event.is_object(), "{line}");
        assert!(!line.contains('\u{1b}'), "{line:?}");
    }
    rig.finish(0);
}
