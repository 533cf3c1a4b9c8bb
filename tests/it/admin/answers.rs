//! What there is to read beside tokens: namespaces, routes, explanations, the description of the API.

use std::collections::BTreeSet;

use faregate::admin::router::ENDPOINTS;
use serde_json::{Value, json};

use super::desk::{Desk, new_token, text};
use crate::support::gate::{Folder, faregate};
use crate::support::http1::request;
use crate::support::tokens;

/// Three namespaces: alice has the first and the third, bob the second.
fn three_namespaces() -> Desk {
    let folder = Folder::new();
    let only_alice = tokens::file(&[]).split("\n[[token]]").next().unwrap().to_owned();
    folder.write("tokens.toml", tokens::standard_file());
    folder.write("second.toml", format!("version = 1\n{}", tokens::administrator("bob")));
    folder.write("third.toml", only_alice + &tokens::administrator("bob"));
    Desk::in_folder(folder, |settings| {
        let first = settings.namespaces[0].clone();
        for (name, keys) in
            [("second", "default_model = \"iris\"\n"), ("third", "enforce = false\n")]
        {
            let mut namespace = first.clone();
            namespace.name = name.into();
            namespace.tokens = format!("{name}.toml");
            namespace.hosts = vec![format!("{name}.test"), format!("*.{name}.test")];
            namespace.profiles = vec!["ovh".into(), "any".into()];
            namespace.keys = keys.into();
            namespace.tables = String::new();
            settings.namespaces.push(namespace);
        }
    })
}

#[test]
fn a_key_sees_the_namespaces_that_it_opens() {
    let desk = three_namespaces();
    let list = |key: &str| {
        let response = desk.ask(&desk.anonymous("GET", "/api/v1/namespaces").bearer(key));
        assert_eq!(response.status, 200);
        response.json()["namespaces"].as_array().unwrap().clone()
    };
    let names = |list: &[Value]| -> Vec<(String, String)> {
        list.iter().map(|own| (text(&own["name"]), text(&own["administrator"]))).collect()
    };
    let pair = |name: &str, administrator: &str| (name.to_owned(), administrator.to_owned());
    let of_alice = list(&tokens::administrator_key());
    assert_eq!(names(&of_alice), [pair("default", "alice"), pair("third", "alice")]);
    let of_bob = list(&tokens::key_of("bob"));
    assert_eq!(names(&of_bob), [pair("second", "bob"), pair("third", "bob")]);
    let generation = |file: &str| {
        let bytes = std::fs::read(desk.rig.gate.folder.path(file)).unwrap();
        blake3::hash(&bytes).to_hex().to_string()
    };
    let url = desk.rig.server.url();
    assert_eq!(
        of_alice[0],
        json!({
            "name": "default", "administrator": "alice", "hosts": ["*"],
            "upstream": {"endpoints": [url]}, "profiles": ["kserve-v2"],
            "groups": ["model-evaluation", "model-management", "auditing"],
            "default_model": null, "enforce": true, "writable": true, "read_only_reason": null,
            "generation": generation("tokens.toml"),
        })
    );
    assert_eq!(
        of_bob[0],
        json!({
            "name": "second", "administrator": "bob", "hosts": ["second.test", "*.second.test"],
            "upstream": {"endpoints": [url]}, "profiles": ["ovh", "any"],
            "groups": ["model-evaluation", "model-management"],
            "default_model": "iris", "enforce": true, "writable": true, "read_only_reason": null,
            "generation": generation("second.toml"),
        })
    );
    assert_eq!(of_bob[1]["enforce"], false);
    desk.finish();
}

/// What the command line says to the same question.
fn of_the_command_line(desk: &Desk, arguments: &[&str]) -> Value {
    let settings = desk.rig.gate.folder.path("faregate.toml");
    let mut command = faregate();
    command.args(arguments).arg("--json").arg("--config").arg(settings);
    let ran = command.output().unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    serde_json::from_slice(&ran.stdout).unwrap()
}

#[test]
fn routes_are_those_of_the_command_line() {
    let desk = three_namespaces();
    for (namespace, key) in
        [("default", tokens::administrator_key()), ("second", tokens::key_of("bob"))]
    {
        let path = format!("/api/v1/namespaces/{namespace}/routes");
        let response = desk.ask(&desk.anonymous("GET", &path).bearer(&key));
        assert_eq!(response.status, 200);
        let told = of_the_command_line(&desk, &["routes", "--namespace", namespace]);
        assert_eq!(response.json(), told, "{namespace}");
        assert!(told["routes"].as_array().unwrap().len() > 2);
    }
    desk.finish();
}

#[test]
fn an_explanation_is_what_the_gate_does_and_what_the_command_line_says() {
    let desk = Desk::new();
    let explain = "/api/v1/namespaces/default/explain";
    #[rustfmt::skip]
    let table = [
        ("eval", "GET", "/score/allowed", "allowed"),
        ("eval", "GET", "/score/pre-x", "allowed"),
        ("eval", "GET", "/score/secret", "resource_not_allowed"),
        ("eval", "GET", "/ask?model=allowed", "allowed"),
        ("eval", "GET", "/ask?model=secret", "resource_not_allowed"),
        ("eval", "GET", "/ask", "model_unresolved"),
        ("eval", "GET", "/score/allowed?model=secret", "model_conflict"),
        ("eval", "PUT", "/score/allowed", "group_not_allowed"),
        ("eval", "GET", "/nowhere", "no_route"),
        ("eval", "GET", "/score/../allowed", "bad_path"),
        ("eval", "GET", "/score/%61llowed", "bad_path"),
        ("eval", "GET", "/closed", "route_denied"),
        ("eval", "GET", "/open", "allowed"),
        ("eval", "GET", "/lists", "allowed"),
        ("eval", "GET", "/everything", "resource_not_allowed"),
        ("all", "GET", "/everything", "allowed"),
        ("manage", "PUT", "/score/allowed", "allowed"),
        ("expired", "GET", "/score/allowed", "expired_token"),
        ("disabled", "GET", "/score/allowed", "disabled_token"),
        ("powerless", "GET", "/score/allowed", "group_not_allowed"),
        ("no-models", "GET", "/score/allowed", "resource_not_allowed"),
    ];
    for (id, method, path, reason) in table {
        let case = format!("{id} {method} {path}");
        let response = desk.post(explain, &json!({"token_id": id, "method": method, "path": path}));
        assert_eq!(response.status, 200, "{case}");
        let told = response.json();
        let allowed = reason == "allowed";
        assert_eq!(
            (&told["allowed"], &told["reason"]),
            (&json!(allowed), &json!(reason)),
            "{case}"
        );
        assert!(!told["steps"].as_array().unwrap().is_empty(), "{case}");
        let arguments = ["explain", "--token-id", id, "--method", method, "--path", path];
        assert_eq!(told, of_the_command_line(&desk, &arguments), "{case}");
        let done = desk.rig.ask(&request(method, path).token(id));
        let on_the_wire = match reason {
            "allowed" => None,
            "expired_token" | "disabled_token" => Some("invalid_token"),
            reason => Some(reason),
        };
        assert_eq!(done.reason(), on_the_wire, "{case}: what the gate did");
    }
    let unknown = desk.post(explain, &json!({"token_id": "nobody", "method": "GET", "path": "/"}));
    assert_eq!((unknown.status, unknown.reason()), (404, Some("no_such_token")));
    // Headers and a body may be given.
    let more = json!({
        "token_id": "eval", "method": "GET", "path": "/score/allowed",
        "headers": {"Accept": "text/html"}, "body": "{\"model\":\"secret\"}",
    });
    assert_eq!(desk.post(explain, &more).json()["allowed"], true);
    desk.finish();
}

#[test]
fn an_explanation_knows_a_token_as_soon_as_it_is_made() {
    let desk = Desk::new();
    let (id, _) = desk.create(&new_token("asked about"));
    let explain = || {
        let question = json!({"token_id": id, "method": "GET", "path": "/score/allowed"});
        desk.post("/api/v1/namespaces/default/explain", &question)
    };
    assert_eq!(explain().json()["reason"], "allowed");
    desk.post(&format!("{}/disable", super::desk::path_of(&id)), &json!({}));
    assert_eq!(explain().json()["reason"], "disabled_token");
    desk.delete(&super::desk::path_of(&id));
    assert_eq!(explain().status, 404);
    desk.finish();
}

#[test]
fn the_description_has_every_call() {
    let desk = Desk::new();
    let response = desk.ask(&desk.anonymous("GET", "/openapi.json"));
    assert_eq!((response.status, response.field("content-type")), (200, Some("application/json")));
    let document = response.json();
    assert!(text(&document["openapi"]).starts_with("3.1"), "{}", document["openapi"]);
    let described: BTreeSet<(String, String)> = document["paths"]
        .as_object()
        .unwrap()
        .iter()
        .flat_map(|(path, item)| {
            let methods = item.as_object().unwrap().keys();
            methods
                .filter(|key| ["get", "post", "patch", "delete", "put"].contains(&key.as_str()))
                .map(|method| (method.to_uppercase(), path.clone()))
                .collect::<Vec<_>>()
        })
        .collect();
    let served: BTreeSet<(String, String)> = ENDPOINTS
        .iter()
        .filter(|endpoint| endpoint.path.starts_with("/api/"))
        .map(|endpoint| (endpoint.method.to_owned(), endpoint.path.to_owned()))
        .collect();
    let missing: Vec<_> = served.difference(&described).collect();
    let invented: Vec<_> = described
        .iter()
        .filter(|(_, path)| path.starts_with("/api/"))
        .filter(|call| !served.contains(*call))
        .collect();
    assert!(missing.is_empty() && invented.is_empty(), "{missing:?} {invented:?}");
    desk.finish();
}

#[test]
fn the_page_and_its_files_are_served_as_what_they_are() {
    let desk = Desk::new();
    let page = desk.ask(&desk.anonymous("GET", "/"));
    assert_eq!(page.field("content-type"), Some("text/html; charset=utf-8"));
    let html = page.text();
    let named: BTreeSet<&str> = html
        .split(['"', '\''])
        .filter(|part| part.starts_with("/page/") || part.starts_with("page/"))
        .collect();
    assert!(!named.is_empty(), "{html}");
    for name in named {
        let response =
            desk.ask(&desk.anonymous("GET", &format!("/{}", name.trim_start_matches('/'))));
        assert_eq!(response.status, 200, "{name}");
        let kind = match name.rsplit_once('.').unwrap().1 {
            "css" => "text/css; charset=utf-8",
            "js" => "text/javascript; charset=utf-8",
            "svg" => "image/svg+xml",
            other => panic!("{other}"),
        };
        assert_eq!(response.field("content-type"), Some(kind), "{name}");
    }
    for inline in ["<style", " style=", " onclick", " onload", "javascript:", "http://", "https://"]
    {
        assert!(!html.contains(inline), "{inline} in the page");
    }
    assert!(!html.contains("<script>"), "an inline script");
    desk.finish();
}
