//! Questions as NGINX, Traefik and Caddy ask them.

use super::Asked;
use crate::paths::SECOND_SPELLINGS;
use crate::support::gate::Namespace;
use crate::support::http1::{Client, Request, get, request};
use crate::support::model_server::ModelServer;
use crate::support::tokens;

/// As NGINX asks with the configuration of the guide.
fn nginx(method: &str, target: &str) -> Request {
    get("/auth").with("X-Original-Method", method).with("X-Original-URI", target)
}

/// As Traefik and Caddy ask.
fn traefik(method: &str, target: &str) -> Request {
    get("/auth").with("X-Forwarded-Method", method).with("X-Forwarded-Uri", target)
}

/// Both ways to ask, with the status that each makes of one.
type Ways = [(&'static str, fn(&str, &str) -> Request); 2];
const WAYS: Ways = [("nginx", nginx), ("traefik", traefik)];

fn expected(way: &str, status: u16) -> u16 {
    match (way, status) {
        ("nginx", 200 | 401) => status,
        ("nginx", _) => 403,
        _ => status,
    }
}

/// Method, target, token; status and reason.
type Row = (&'static str, &'static str, Option<&'static str>, u16, Option<&'static str>);

#[test]
fn every_outcome_is_told_as_on_the_data_plane() {
    let asked = Asked::standard();
    #[rustfmt::skip]
    let table: &[Row] = &[
        ("GET", "/score/allowed", Some("eval"), 200, None),
        ("POST", "/score/pre-1?a=b", Some("eval"), 200, None),
        ("HEAD", "/score/allowed", Some("eval"), 200, None),
        ("GET", "/open", None, 200, None),
        ("OPTIONS", "/open", None, 200, None),
        ("PUT", "/score/allowed", Some("manage"), 200, None),
        ("GET", "http://models.test/score/allowed", Some("eval"), 200, None),
        ("GET", "/score/allowed", None, 401, Some("no_credential")),
        ("GET", "/score/allowed", Some("nobody"), 401, Some("invalid_token")),
        ("GET", "/score/allowed", Some("expired"), 401, Some("invalid_token")),
        ("GET", "/score/allowed", Some("disabled"), 401, Some("invalid_token")),
        ("GET", "/score/secret", Some("eval"), 403, Some("resource_not_allowed")),
        ("PUT", "/score/allowed", Some("eval"), 403, Some("group_not_allowed")),
        ("GET", "/nowhere", Some("all"), 403, Some("no_route")),
        ("GET", "/closed", Some("all"), 403, Some("route_denied")),
        ("GET", "/everything", Some("eval"), 403, Some("resource_not_allowed")),
        ("GET", "/lists", Some("eval"), 200, None),
        ("GET", "/ask?model=allowed", Some("eval"), 200, None),
        ("GET", "/ask?model=allowed&model=secret", Some("eval"), 400, Some("model_conflict")),
        ("GET", "/ask", Some("eval"), 403, Some("model_unresolved")),
        ("GET", "/ask?model=a%20b", Some("all"), 400, Some("bad_model")),
        ("CONNECT", "/score/allowed", Some("eval"), 405, Some("method_not_allowed")),
        ("TRACE", "/score/allowed", Some("eval"), 405, Some("method_not_allowed")),
        ("GET", "http://other.test/score/allowed", Some("eval"), 400, Some("bad_host")),
        ("GET", "ftp://models.test/score/allowed", Some("eval"), 400, Some("bad_target")),
        ("GET", "*", Some("all"), 400, Some("bad_target")),
        // A list of which the token may see a part: its answer cannot be cut down on the way.
        ("GET", "/v1/models", Some("eval"), 403, Some("resource_not_allowed")),
        ("GET", "/v1/models", Some("all"), 200, None),
    ];
    for (way, ask) in WAYS {
        for (method, target, token, status, reason) in table {
            let question = ask(method, target);
            let question = match token {
                Some(token) => question.token(token),
                None => question,
            };
            let response = asked.ask(&question);
            let case = format!("{way}: {method} {target} with {token:?}: {response:?}");
            assert_eq!(response.status, expected(way, *status), "{case}");
            assert_eq!(response.reason(), *reason, "{case}");
            assert_eq!(response.field("cache-control"), Some("no-store"), "{case}");
            let challenged = matches!(*reason, Some("no_credential" | "invalid_token"));
            assert_eq!(
                response.field("www-authenticate").is_some(),
                challenged
                    || matches!(
                        *reason,
                        Some(
                            "resource_not_allowed"
                                | "group_not_allowed"
                                | "no_route"
                                | "route_denied"
                                | "model_unresolved"
                        )
                    ),
                "{case}"
            );
        }
    }
    asked.finish();
}

#[test]
fn the_caller_is_named_whoever_it_is() {
    let asked = Asked::standard();
    for (target, token, identity) in [
        ("/score/allowed", Some("eval"), ["eval", "calls models", "model-evaluation"]),
        ("/score/allowed", Some("all"), ["all", "", "model-evaluation, model-management"]),
        ("/open", Some("eval"), ["", "", ""]),
        ("/open", None, ["", "", ""]),
    ] {
        // What the client says under these names is overwritten by what the answer says, so the
        // answer always says something.
        let spoofed = traefik("GET", target)
            .with("X-Credential-Identifier", "admin")
            .with("X-Consumer-Username", "admin")
            .with("X-Authenticated-Groups", "admin");
        let question = match token {
            Some(token) => spoofed.token(token),
            None => spoofed,
        };
        let response = asked.ask(&question);
        assert_eq!(response.status, 200, "{response:?}");
        let names = ["x-credential-identifier", "x-consumer-username", "x-authenticated-groups"];
        assert_eq!(names.map(|name| response.field(name).unwrap()), identity, "{target} {token:?}");
    }
    asked.finish();
}

#[test]
fn a_question_that_names_no_request_is_none() {
    let asked = Asked::standard();
    const OM: &str = "X-Original-Method";
    const OU: &str = "X-Original-URI";
    const FM: &str = "X-Forwarded-Method";
    const FU: &str = "X-Forwarded-Uri";
    const FH: &str = "X-Forwarded-Host";
    const PATH: &str = "/score/allowed";
    #[rustfmt::skip]
    let table: &[(&[(&str, &str)], u16)] = &[
        // Nothing is guessed from the subrequest's own method and path.
        (&[], 400),
        (&[(FM, "GET")], 400),
        (&[(FU, PATH)], 400),
        (&[(OM, "GET")], 403),
        (&[(OU, PATH)], 403),
        // Half of one pair and half of the other.
        (&[(OM, "GET"), (FU, PATH)], 403),
        (&[(FM, "GET"), (OU, PATH)], 403),
        // One pair and half of the other.
        (&[(FM, "GET"), (FU, PATH), (OU, PATH)], 403),
        (&[(OM, "GET"), (OU, PATH), (FM, "GET")], 403),
        // Twice, even if equal.
        (&[(FM, "GET"), (FM, "GET"), (FU, PATH)], 400),
        (&[(FM, "GET"), (FU, PATH), (FU, PATH)], 400),
        (&[(FM, "GET"), (FU, PATH), (FU, "/open")], 400),
        (&[(OM, "GET"), (OU, PATH), (OU, PATH)], 403),
        (&[(OM, "GET"), (OM, "POST"), (OU, PATH)], 403),
        (&[(FM, "GET"), (FU, PATH), (FH, "models.test"), (FH, "models.test")], 400),
        // Both pairs, of one request and of two.
        (&[(OM, "GET"), (OU, PATH), (FM, "GET"), (FU, PATH)], 200),
        (&[(OM, "GET"), (OU, PATH), (FM, "PUT"), (FU, PATH)], 403),
        (&[(OM, "GET"), (OU, "/open"), (FM, "GET"), (FU, PATH)], 403),
        (&[(OM, "GET"), (OU, PATH), (FM, "GET"), (FU, "/score/allowed?a")], 403),
        // What is no method and no target.
        (&[(FM, ""), (FU, PATH)], 400),
        (&[(FM, "GE T"), (FU, PATH)], 400),
        (&[(FM, "GET"), (FU, "")], 400),
        (&[(FM, "GET"), (FU, "score/allowed")], 400),
        (&[(FM, "GET"), (FU, "/score/allowed#secret")], 400),
        (&[(FM, "GET"), (FU, "/score/allowed, /open")], 400),
        (&[(OM, "GET"), (OU, "/score/allowed#secret")], 403),
        // Hosts that are none.
        (&[(FM, "GET"), (FU, PATH), (FH, "models.test, other.test")], 400),
        (&[(FM, "GET"), (FU, PATH), (FH, "")], 400),
        (&[(FM, "GET"), (FU, PATH), (FH, "models.test/../")], 400),
        // The letter case of a method is part of it.
        (&[(FM, "get"), (FU, PATH)], 403),
    ];
    for (named, status) in table {
        let question = named
            .iter()
            .fold(get("/score/allowed"), |question, (name, value)| question.with(name, value));
        let response = asked.ask(&question.token("eval"));
        assert_eq!(response.status, *status, "{named:?}: {response:?}");
        if *status != 200 {
            assert_eq!(response.field("x-credential-identifier"), None, "{named:?}");
        }
    }
    let flaw = asked.rig.gate.wait_for_line("what is wrong with a question", |line| {
        let event: serde_json::Value = serde_json::from_str(line).ok()?;
        event.get("flaw").is_some().then_some(event)
    });
    assert_eq!(flaw["level"], "WARN", "{flaw}");
    asked.finish();
}

#[test]
fn a_path_has_one_spelling_here_too() {
    let asked = Asked::standard();
    for (way, ask) in WAYS {
        for target in SECOND_SPELLINGS {
            let response = asked.ask(&ask("GET", target).token("all"));
            assert_eq!(response.status, expected(way, 400), "{way}: {target:?}: {response:?}");
        }
        assert_eq!(asked.ask(&ask("GET", "/score/secret").token("all")).status, 200);
    }
    asked.finish();
}

#[test]
fn a_credential_is_read_where_the_data_plane_reads_it() {
    let asked = Asked::with("", |settings| {
        settings.namespaces[0].keys =
            "credentials = [\"bearer\", \"basic\", \"header:x-api-key\", \
             \"query:access_token\", \"cookie:token\", \"websocket-protocol\"]\n"
                .into();
    });
    let own = tokens::secret("eval");
    let other = tokens::secret("all");
    let protocol = format!("chat, faregate.token.{own}");
    let cookie = format!("a=b; token={own}");
    let ask = || traefik("GET", "/score/allowed");
    let in_query = |rest: &str| traefik("GET", &format!("/score/allowed?access_token={own}{rest}"));
    #[rustfmt::skip]
    let table = [
        ("bearer", ask().bearer(&own), 200),
        ("header", ask().with("X-Api-Key", &own), 200),
        ("query", in_query(""), 200),
        ("cookie", ask().with("Cookie", &cookie), 200),
        // Not every gateway passes `Upgrade` on; the key is there in every handshake.
        ("subprotocol", ask().with("Sec-WebSocket-Key", "x").with("Sec-WebSocket-Protocol", &protocol), 200),
        ("subprotocol of no handshake", ask().with("Sec-WebSocket-Protocol", &protocol), 401),
        ("bearer twice", ask().bearer(&own).bearer(&own), 400),
        ("two that differ", ask().bearer(&own).with("X-Api-Key", &other), 400),
        ("one place twice", ask().with("X-Api-Key", &own).with("X-Api-Key", &own), 400),
        ("query twice", in_query(&format!("&access_token={own}")), 400),
        ("query and header", in_query("").bearer(&other), 400),
        // The subrequest's own query is the gateway's.
        ("own query", request("GET", &format!("/auth?access_token={own}"))
            .with("X-Forwarded-Method", "GET").with("X-Forwarded-Uri", "/score/allowed"), 401),
    ];
    for (case, question, status) in table {
        let response = asked.ask(&question);
        assert_eq!(response.status, status, "{case}: {response:?}");
        if status == 400 {
            assert_eq!(response.reason(), Some("ambiguous_credential"), "{case}");
        }
    }
    asked.finish();
}

#[test]
fn the_host_decides_on_the_namespace() {
    let other = ModelServer::canned();
    let url = other.url();
    let asked = Asked::with("", |settings| {
        settings.namespaces[0].hosts = vec!["models.test".into()];
        settings.namespaces.push(Namespace {
            name: "other".into(),
            hosts: vec!["other.test".into()],
            tokens: "other.toml".into(),
            profiles: vec!["any".into()],
            tables: String::new(),
            ..Namespace::before(url)
        });
        settings.namespaces[1].tokens = "tokens.toml".into();
    });
    let ask = |host: &str, forwarded: Option<&str>| {
        let question = traefik("GET", "/score/allowed").token("eval").host(host);
        let question = match forwarded {
            Some(forwarded) => question.with("X-Forwarded-Host", forwarded),
            None => question,
        };
        let response = asked.ask(&question);
        (response.status, response.reason().map(str::to_owned))
    };
    let reason = |reason: &str| Some(reason.to_owned());
    assert_eq!(ask("models.test", None), (200, None));
    assert_eq!(ask("127.0.0.1:9903", Some("models.test")), (200, None));
    assert_eq!(ask("127.0.0.1:9903", Some("Models.Test.:443")), (200, None));
    assert_eq!(ask("127.0.0.1:9903", None), (404, reason("unknown_host")));
    assert_eq!(ask("models.test", Some("nowhere.test")), (404, reason("unknown_host")));
    // The routes of the other namespace ask for every model.
    assert_eq!(ask("models.test", Some("other.test")), (403, reason("resource_not_allowed")));
    asked.finish();
}

#[test]
fn what_a_gateway_cannot_take_out_is_refused() {
    let asked = Asked::standard();
    for name in [
        "X_Consumer_Username",
        "X-Consumer_Username",
        "x_consumer-username",
        "X.Consumer.Username",
        "X_Credential_Identifier",
        "X-Authenticated_Groups",
        "X-HTTP-Method-Override",
        "X-HTTP-Method",
        "X-Method-Override",
        "X-Original-URL",
        "X-Rewrite-URL",
    ] {
        for (way, ask) in WAYS {
            for (target, token) in [("/score/allowed", Some("eval")), ("/open", None)] {
                let question = ask("GET", target).with(name, "DELETE");
                let question = match token {
                    Some(token) => question.token(token),
                    None => question,
                };
                let response = asked.ask(&question);
                assert_eq!(response.status, expected(way, 400), "{way} {name}: {response:?}");
                assert_eq!(response.reason(), Some("unsafe_header"), "{way} {name}");
            }
        }
    }
    // A name with `_` that is nobody's is the gateway's affair.
    assert_eq!(asked.ask(&traefik("GET", "/open").with("my_header", "x")).status, 200);
    asked.finish();
}

#[test]
fn a_client_that_speaks_grpc_is_refused_with_a_status_that_gateways_take_for_a_no() {
    let asked = Asked::standard();
    for (target, token, status) in [
        ("/score/allowed", None, 401),
        ("/score/secret", Some("eval"), 403),
        ("/score/../secret", Some("all"), 400),
    ] {
        for (way, ask) in WAYS {
            let question = ask("POST", target).with("Content-Type", "application/grpc");
            let question = match token {
                Some(token) => question.token(token),
                None => question,
            };
            let response = asked.ask(&question);
            assert_eq!(response.status, expected(way, status), "{way} {target}: {response:?}");
        }
    }
    asked.finish();
}

#[test]
fn the_refusal_speaks_the_routes_dialect() {
    let asked = Asked::standard();
    let openai = asked.ask(&traefik("GET", "/v1/models/secret").token("eval"));
    assert_eq!(openai.json()["error"]["code"], "resource_not_allowed", "{openai:?}");
    let problem = asked.ask(&traefik("GET", "/score/secret").token("eval"));
    assert_eq!(problem.json()["instance"], "/score/secret", "{problem:?}");
    let browser = asked.ask(&traefik("GET", "/score/secret").with("Accept", "text/html"));
    let challenges: Vec<&str> = crate::support::http1::all(&browser.fields, "www-authenticate");
    assert_eq!(challenges, ["Bearer realm=\"default\"", "Basic realm=\"default\""]);
    asked.finish();
}

#[test]
fn a_body_is_judged_when_it_is_sent_along() {
    let asked =
        Asked::with("", |settings| settings.limits = "inspect_body_bytes = \"1KiB\"\n".into());
    let chat = |body: &str| {
        request("POST", "/auth")
            .with("X-Forwarded-Method", "POST")
            .with("X-Forwarded-Uri", "/v1/chat/completions")
            .with("Content-Type", "application/json")
            .token("eval")
            .body(body)
    };
    let long = format!("{{\"model\":\"allowed\",\"text\":\"{}\"}}", "a".repeat(1024));
    #[rustfmt::skip]
    let table = [
        ("its model", chat(r#"{"model":"allowed","messages":[]}"#), 200, None),
        ("another", chat(r#"{"model":"secret"}"#), 403, Some("resource_not_allowed")),
        ("two", chat(r#"{"model":"allowed","model":"secret"}"#), 400, Some("model_conflict")),
        ("another spelling", chat(r#"{"model":"allowed","mode\u006c":"secret"}"#), 400, Some("model_conflict")),
        ("none", chat(r#"{"messages":[]}"#), 403, Some("model_unresolved")),
        ("cut", chat(r#"{"model":"allowed","#), 400, Some("bad_body")),
        ("too long", chat(&long), 413, Some("body_too_large")),
        ("compressed", chat("x").with("Content-Encoding", "gzip"), 415, Some("unsupported_encoding")),
        ("told to be cut", chat(r#"{"model":"allowed"}"#).with("X-Envoy-Auth-Partial-Body", "true"),
            403, Some("model_unresolved")),
        ("told to be whole", chat(r#"{"model":"allowed"}"#).with("X-Envoy-Auth-Partial-Body", "false"), 200, None),
        ("empty", chat(""), 403, Some("model_unresolved")),
        ("query against body", request("POST", "/auth").with("X-Forwarded-Method", "POST")
            .with("X-Forwarded-Uri", "/v1/chat/completions?model=secret").token("eval")
            .with("Content-Type", "application/json").body(r#"{"model":"allowed"}"#), 400, Some("model_conflict")),
    ];
    for (case, question, status, reason) in table {
        let response = asked.ask(&question);
        assert_eq!((response.status, response.reason()), (status, reason), "{case}: {response:?}");
    }
    // Sent in chunks, and not at all.
    let mut client = Client::to(asked.address);
    let head = String::from_utf8(chat("").without("content-length").bytes()).unwrap();
    let head = head.replace("Content-Length: 0\r\n", "Transfer-Encoding: chunked\r\n");
    client.send(head + "5\r\n{\"mod\r\nf\r\nel\":\"allowed\"} \r\n0\r\n\r\n");
    assert_eq!(client.response().status, 200);
    let bodiless = traefik("POST", "/v1/chat/completions").token("eval");
    let response = client.ask(&bodiless);
    assert_eq!((response.status, response.reason()), (403, Some("model_unresolved")));
    asked.finish();
}

#[test]
fn a_default_model_does_not_stand_in_for_a_body_that_was_not_sent() {
    let asked = Asked::with("", |settings| {
        settings.namespaces[0].keys = "default_model = \"allowed\"\n".into();
    });
    let question = traefik("POST", "/v1/chat/completions").token("eval");
    let response = asked.ask(&question);
    assert_eq!((response.status, response.reason()), (403, Some("model_unresolved")));
    asked.finish();
}

#[test]
fn where_nothing_is_enforced_everything_may_pass_and_is_counted() {
    let asked = Asked::with("", |settings| {
        settings.namespaces[0].keys = "enforce = false\n".into();
    });
    for target in ["/score/secret", "/nowhere"] {
        assert_eq!(asked.ask(&traefik("GET", target).token("eval")).status, 200, "{target}");
    }
    assert_eq!(asked.ask(&traefik("POST", "/v1/chat/completions").token("eval")).status, 200);
    assert_eq!(asked.ask(&traefik("GET", "/score/../x").token("eval")).status, 400);
    assert_eq!(asked.decided("would_deny", "resource_not_allowed"), 1.0);
    assert_eq!(asked.decided("would_deny", "no_route"), 1.0);
    assert_eq!(asked.decided("would_deny", "model_unresolved"), 1.0);
    asked.finish();
}

#[test]
fn envoy_is_told_which_headers_to_take_out() {
    let asked = Asked::standard();
    let question = traefik("GET", "/score/allowed")
        .token("eval")
        .with("my_header", "x")
        .with("X-Consumer-Username", "admin");
    let response = asked.ask(&question);
    let removed = response.field("x-envoy-auth-headers-to-remove").unwrap();
    let mut removed: Vec<&str> = removed.split(", ").collect();
    removed.sort_unstable();
    // Not the identity header: Envoy removes after it has set.
    assert_eq!(removed, ["authorization", "my_header"]);
    asked.finish();
}
