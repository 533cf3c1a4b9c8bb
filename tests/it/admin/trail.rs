//! What is left of a visit: audit lines and metrics, and no secret in either.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::{Value, json};

use super::desk::{Desk, TOKENS, new_token, path_of, text};
use crate::support::http1::Request;
use crate::support::tokens;

fn lines(desk: &Desk) -> Vec<Value> {
    let text = fs::read_to_string(desk.rig.gate.folder.path("audit.log")).unwrap();
    assert!(text.is_empty() || text.ends_with('\n'), "{text}");
    text.lines().map(|line| serde_json::from_str(line).expect(line)).collect()
}

fn to_a_file() -> Desk {
    Desk::before(&(tokens::standard_file() + &tokens::administrator("bob")), |settings| {
        settings.admin = Some("audit_log = \"audit.log\"\n".into());
    })
}

/// The members of a line that are the same in every run.
fn told(line: &Value) -> Value {
    let mut told = line.clone();
    let members = told.as_object_mut().unwrap();
    let time = text(&members.remove("time").unwrap());
    assert!(time.parse::<jiff::Timestamp>().is_ok(), "{time}");
    for (name, value) in [("level", "INFO"), ("message", "audit")] {
        assert_eq!(members.remove(name).unwrap(), value);
    }
    told
}

/// A request, its status, and the action and changed fields of its line.
type Visit<'v> = (Request, u16, Option<(&'v str, Value)>);

#[test]
fn each_change_leaves_one_line_and_what_changes_nothing_none() {
    let desk = to_a_file();
    assert_eq!(lines(&desk), Vec::<Value>::new());
    let mode = fs::metadata(desk.rig.gate.folder.path("audit.log")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let response = desk.ask(
        &desk.with_json("POST", TOKENS, &new_token("watched")).with("X-Request-Id", "create-1"),
    );
    assert_eq!(response.field("x-request-id"), Some("create-1"));
    let id = text(&response.json()["token"]["id"]);
    let path = path_of(&id);
    let all_members = json!({
        "name": "x", "resources": ["pre-*"], "groups": ["model-management"],
        "expires_at": "2199-01-01T00:00:00Z", "limits": {"max_in_flight": 1}, "labels": {"a": "b"},
    });
    let bob = |request: Request| request.without("authorization").bearer(&tokens::key_of("bob"));
    #[rustfmt::skip]
    let table: Vec<Visit<'_>> = vec![
        (desk.with_json("PATCH", &path, &all_members), 200, Some(("update_token", json!(["name", "resources", "groups", "expires_at", "limits", "labels"])))),
        (bob(desk.with_json("PATCH", &path, &json!({"expires_at": null, "name": null}))), 200, Some(("update_token", json!(["name", "expires_at"])))),
        (desk.request("POST", &format!("{path}/disable")), 200, Some(("disable_token", json!(["disabled"])))),
        (desk.request("POST", &format!("{path}/enable")), 200, Some(("enable_token", json!(["disabled"])))),
        (desk.request("POST", &format!("{path}/regenerate")), 200, Some(("regenerate_token", json!(["secret"])))),
        // What changes nothing.
        (desk.request("GET", TOKENS), 200, None),
        (desk.request("GET", &path), 200, None),
        (desk.request("GET", "/"), 200, None),
        (desk.with_json("POST", TOKENS, &json!({})), 422, None),
        (desk.with_json("PATCH", &path_of("nobody"), &json!({"name": "x"})), 404, None),
        (desk.request("DELETE", &path).with("If-Match", "\"x\""), 412, None),
        (desk.request("POST", &format!("{}/regenerate", path_of("expired"))), 409, None),
        (desk.request("PUT", TOKENS), 405, None),
        (desk.anonymous("GET", TOKENS), 401, None),
        (desk.with_json("POST", "/api/v1/namespaces/default/explain", &json!({"token_id": id, "method": "GET", "path": "/"})), 200, None),
        (bob(desk.request("DELETE", &path)), 204, Some(("delete_token", json!([])))),
    ];
    let first = lines(&desk);
    assert_eq!(first.len(), 1);
    assert_eq!(
        told(&first[0]),
        json!({
            "administrator": "alice", "address": "127.0.0.1", "action": "create_token",
            "namespace": "default", "token_id": id,
            "changed_fields": ["name", "resources", "groups"],
            "request_id": "create-1", "outcome": "done",
        })
    );
    for (request, status, line) in table {
        let before = lines(&desk).len();
        let is_bobs =
            request.bytes().windows(20).any(|part| part == &tokens::key_of("bob").as_bytes()[..20]);
        let response = desk.ask(&request);
        assert_eq!(response.status, status, "{response:?}");
        let new: Vec<Value> = lines(&desk)[before..].iter().map(told).collect();
        let expected = line.map(|(action, fields)| {
            json!({
                "administrator": if is_bobs { "bob" } else { "alice" },
                "address": "127.0.0.1", "action": action, "namespace": "default",
                "token_id": id, "changed_fields": fields,
                "request_id": response.field("x-request-id"), "outcome": "done",
            })
        });
        assert_eq!(new, expected.into_iter().collect::<Vec<_>>(), "{request:?}");
    }
    let bytes = fs::read(desk.rig.gate.folder.path("audit.log")).unwrap();
    let all = [tokens::administrator_key(), tokens::key_of("bob")];
    crate::support::leaks::Forms::of(&all).assert_absent("the audit log", &bytes);
    desk.finish();
}

#[test]
fn each_key_that_is_refused_leaves_one_line() {
    let desk = to_a_file();
    let sent = [
        format!("Bearer {}", tokens::key_of("nobody")),
        format!("Bearer {}", tokens::secret("eval")),
        "Basic Zm9vOmJhcg==".to_owned(),
        "Bearer \u{202e}\u{9b}31m".to_owned(),
        format!("Bearer {}", "x".repeat(10_000)),
    ];
    let paths = ["/api/v1/namespaces", TOKENS, "/api/v1/nothing", &path_of("eval"), TOKENS];
    for (number, (sent, path)) in sent.iter().zip(paths).enumerate() {
        let method = if number == 3 { "DELETE" } else { "GET" };
        let request = desk.anonymous(method, path).with("Authorization", sent);
        let response = desk.ask(&request.with("X-Request-Id", "an id \u{9b}31m of another form"));
        assert_eq!(response.status, 401, "{sent}");
        let lines = lines(&desk);
        assert_eq!(
            told(lines.last().unwrap()),
            json!({
                "administrator": null, "address": "127.0.0.1", "action": "authenticate",
                "namespace": null, "token_id": null, "changed_fields": [],
                "request_id": response.field("x-request-id"), "outcome": "refused_key",
            })
        );
        assert_eq!(lines.len(), number + 1, "{sent}");
    }
    // What is no key is none that was refused.
    let before = lines(&desk).len();
    assert_eq!(desk.ask(&desk.anonymous("GET", TOKENS)).status, 401);
    assert_eq!(desk.ask(&desk.anonymous("GET", "/")).status, 200);
    assert_eq!(lines(&desk).len(), before);
    let text = fs::read_to_string(desk.rig.gate.folder.path("audit.log")).unwrap();
    assert!(!text.contains("fg_") && !text.contains("fga_") && !text.contains("xxxx"), "{text}");
    desk.finish();
}

#[test]
fn by_default_the_lines_stand_among_the_log() {
    let desk = Desk::new();
    let (id, _) = desk.create(&new_token("logged"));
    let line = desk.rig.gate.wait_for_event("message", "audit");
    assert_eq!(line["action"], "create_token");
    assert_eq!(line["token_id"], id);
    assert_eq!(line["administrator"], "alice");
    desk.finish();
}

#[test]
fn a_repeated_request_and_a_lost_race_leave_no_line() {
    let desk = to_a_file();
    let request =
        desk.with_json("POST", TOKENS, &new_token("once")).with("Idempotency-Key", "only once");
    for _ in 0..3 {
        assert_eq!(desk.ask(&request).status, 201);
    }
    assert_eq!(lines(&desk).len(), 1);
    let seen = desk.get(TOKENS).field("etag").unwrap().to_owned();
    for name in ["first", "second"] {
        let patch = desk.with_json("PATCH", &path_of("eval"), &json!({"name": name}));
        desk.ask(&patch.with("If-Match", &seen));
    }
    assert_eq!(lines(&desk).len(), 2);
    desk.finish();
}

#[test]
fn an_audit_log_that_is_moved_away_is_begun_anew() {
    let desk = to_a_file();
    desk.create(&new_token("before"));
    let folder = &desk.rig.gate.folder;
    fs::rename(folder.path("audit.log"), folder.path("audit.log.1")).unwrap();
    desk.create(&new_token("after"));
    assert_eq!(lines(&desk).len(), 1);
    let mode = fs::metadata(folder.path("audit.log")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    // One that cannot be written undoes no change, and is told.
    fs::remove_file(folder.path("audit.log")).unwrap();
    fs::create_dir(folder.path("audit.log")).unwrap();
    let (_, secret) = desk.create(&new_token("unwritten"));
    assert_eq!(desk.status_with(&secret), 200);
    desk.rig.gate.wait_for_line("that audit lines are lost", |line| {
        (line.contains("ERROR") && line.contains("audit line")).then_some(())
    });
    desk.finish();
}

#[test]
fn requests_are_counted_by_what_they_asked_for_and_what_came_of_it() {
    let desk = Desk::new();
    let eval = path_of("eval");
    #[rustfmt::skip]
    let table: Vec<(Request, &str, &str)> = vec![
        (desk.request("GET", "/api/v1/namespaces"), "list_namespaces", "200"),
        (desk.request("GET", TOKENS), "list_tokens", "200"),
        (desk.request("HEAD", TOKENS), "list_tokens", "200"),
        (desk.request("GET", &format!("{TOKENS}?limit=0")), "list_tokens", "422"),
        (desk.with_json("POST", TOKENS, &new_token("x")), "create_token", "201"),
        (desk.with_json("POST", TOKENS, &json!({})), "create_token", "422"),
        (desk.request("POST", TOKENS).body("{}"), "create_token", "415"),
        (desk.request("GET", &eval), "get_token", "200"),
        (desk.request("GET", &path_of("nobody")), "get_token", "404"),
        (desk.with_json("PATCH", &eval, &json!({"name": "x"})), "update_token", "200"),
        (desk.with_json("PATCH", &eval, &json!({"name": "y"})).with("If-Match", "\"x\""), "update_token", "412"),
        (desk.request("POST", &format!("{eval}/regenerate")), "regenerate_token", "200"),
        (desk.request("POST", &format!("{}/regenerate", path_of("expired"))), "regenerate_token", "409"),
        (desk.request("POST", &format!("{eval}/disable")), "disable_token", "200"),
        (desk.request("POST", &format!("{eval}/enable")), "enable_token", "200"),
        (desk.request("DELETE", &eval), "delete_token", "204"),
        (desk.request("GET", "/api/v1/namespaces/default/routes"), "list_routes", "200"),
        (desk.with_json("POST", "/api/v1/namespaces/default/explain", &json!({"token_id": "all", "method": "GET", "path": "/"})), "explain", "200"),
        (desk.anonymous("GET", "/"), "page", "200"),
        (desk.anonymous("GET", "/page/app.js"), "page_file", "200"),
        (desk.anonymous("GET", "/openapi.json"), "openapi", "200"),
        (desk.anonymous("GET", TOKENS), "without_key", "401"),
        (desk.anonymous("GET", TOKENS).bearer("fga_wrong"), "without_key", "401"),
        (desk.request("PUT", TOKENS), "none", "405"),
        (desk.request("GET", "/api/v1/nothing"), "none", "404"),
        (desk.anonymous("GET", "/nothing"), "without_key", "404"),
        (desk.anonymous("GET", "/").host("evil.example"), "without_key", "421"),
        (desk.anonymous("GET", "/").with("Origin", "http://evil.example"), "without_key", "403"),
    ];
    let count = |action: &str, code: &str| {
        desk.rig.gate.metric("faregate_admin_requests_total", &[("action", action), ("code", code)])
    };
    let all = table.len();
    for (request, action, code) in table {
        let before = count(action, code);
        assert_eq!(desk.ask(&request).status.to_string(), code, "{request:?}");
        assert_eq!(count(action, code), before + 1.0, "{action} {code}: {request:?}");
    }
    let sum: f64 = desk.rig.gate.metric("faregate_admin_requests_total", &[]);
    assert_eq!(sum, f64::from(u32::try_from(all).unwrap()), "each is counted once");
    desk.finish();
}
