//! Who is let in: every call and every method, with every kind of key and without one.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use faregate::admin::router::{ENDPOINTS, Operation};
use serde_json::json;

use super::desk::{Desk, TOKENS, new_token, path_of};
use crate::golden;
use crate::support::eventually;
use crate::support::gate::{Folder, Namespace, faregate};
use crate::support::http1::Request;
use crate::support::tokens;

const METHODS: [&str; 8] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"];

/// What needs no key, in full: a call that is added here is seen by a reviewer.
const PUBLIC: [(&str, &str); 3] = [("GET", "/"), ("GET", "/page/{file}"), ("GET", "/openapi.json")];

/// A second namespace, whose administrator is `bob`.
fn two_namespaces() -> Desk {
    let folder = Folder::new();
    folder.write("tokens.toml", tokens::standard_file());
    folder.write("second.toml", format!("version = 1\n{}", tokens::administrator("bob")));
    Desk::in_folder(folder, |settings| {
        let first = settings.namespaces[0].clone();
        settings.namespaces.push(Namespace {
            name: "second".into(),
            hosts: vec!["second.test".into()],
            tokens: "second.toml".into(),
            ..first
        });
    })
}

fn with_body(request: Request, operation: Option<Operation>) -> Request {
    let body = match operation {
        Some(Operation::CreateToken) => new_token("made"),
        Some(Operation::Explain) => {
            json!({"token_id": "eval", "method": "GET", "path": "/score/allowed"})
        }
        Some(Operation::UpdateToken) => json!({"labels": {"seen": "yes"}}),
        _ => return request,
    };
    request.with("Content-Type", "application/json").body(body.to_string())
}

#[test]
fn every_call_and_every_method_asks_for_the_right_key() {
    let desk = two_namespaces();
    let good = tokens::administrator_key();
    let mut wrong_end = good.clone();
    wrong_end.pop();
    wrong_end.push(if good.ends_with('0') { '1' } else { '0' });
    let keys: [(&str, Option<String>); 7] = [
        ("none", None),
        ("token", Some(format!("Bearer {}", tokens::secret("all")))),
        ("hash", Some(format!("Bearer {}", tokens::hash(&good)))),
        ("unknown", Some(format!("Bearer {}", tokens::key_of("nobody")))),
        ("mistyped", Some(format!("Bearer {wrong_end}"))),
        ("basic", Some(format!("Basic {good}"))),
        ("bob's", Some(format!("Bearer {}", tokens::key_of("bob")))),
    ];
    let paths: BTreeSet<&str> = ENDPOINTS.iter().map(|endpoint| endpoint.path).collect();
    let mut told = format!("{:8}{:58}", "", "");
    for (name, _) in &keys {
        write!(told, "{name:>9}").unwrap();
    }
    writeln!(told, "{:>9}", "right").unwrap();
    for path in paths {
        for method in METHODS {
            // The token of this line, because some lines are its end.
            let (id, _) = desk.create(&new_token("for one line"));
            let target = path
                .replace("{namespace}", "default")
                .replace("{id}", &id)
                .replace("{file}", "app.js");
            let operation = ENDPOINTS
                .iter()
                .find(|endpoint| endpoint.path == path && endpoint.method == method)
                .map(|endpoint| endpoint.operation);
            let is_public = PUBLIC
                .iter()
                .any(|(own, public)| *public == path && (*own == method || method == "HEAD"));
            if let Some(operation) = operation {
                assert_eq!(operation.is_public(), is_public, "{method} {path}");
            }
            write!(told, "{method:8}{path:58}").unwrap();
            let before = desk.file();
            for (name, key) in &keys {
                let request = with_body(desk.anonymous(method, &target), operation);
                let request = match key {
                    None => request,
                    Some(key) => request.with("Authorization", key),
                };
                let response = desk.ask(&request);
                write!(told, "{:>9}", response.status).unwrap();
                if path.starts_with("/api/") && *name != "bob's" {
                    assert_eq!(response.status, 401, "{method} {target} with {name}");
                    let challenge = response.field("www-authenticate").unwrap();
                    assert!(challenge.starts_with("Bearer realm="), "{challenge}");
                    assert_eq!(challenge.contains("invalid_token"), *name != "none", "{challenge}");
                }
                assert_eq!(
                    response.status == 200,
                    is_public
                        || (path, method == "GET" || method == "HEAD")
                            == ("/api/v1/namespaces", true)
                            && *name == "bob's",
                    "{method} {target} with {name}"
                );
            }
            assert_eq!(desk.file(), before, "{method} {target}: refused, and the file changed");
            let response = desk.ask(&with_body(desk.request(method, &target), operation));
            writeln!(told, "{:>9}", response.status).unwrap();
            let is_served = operation.is_some()
                || method == "HEAD"
                    && ENDPOINTS.iter().any(|end| end.path == path && end.method == "GET");
            assert_eq!(response.status < 300, is_served, "{method} {target}: {response:?}");
            if !is_served {
                let served: Vec<&str> = ENDPOINTS
                    .iter()
                    .filter(|endpoint| endpoint.path == path)
                    .flat_map(|endpoint| match endpoint.method {
                        "GET" => vec!["GET", "HEAD"],
                        method => vec![method],
                    })
                    .collect();
                assert_eq!(response.status, 405, "{method} {target}");
                assert_eq!(response.field("allow"), Some(&*served.join(", ")), "{method} {target}");
            }
        }
    }
    golden::check("admin_access.txt", &told);
    desk.finish();
}

#[test]
fn a_key_is_taken_from_one_place_only() {
    let desk = Desk::new();
    let (key, list) = (tokens::administrator_key(), "/api/v1/namespaces");
    let basic = |text: String| {
        use base64::Engine as _;
        format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(text))
    };
    let ask = || desk.anonymous("GET", list);
    #[rustfmt::skip]
    let table: Vec<(&str, Request, u16)> = vec![
        ("as it should be", ask().bearer(&key), 200),
        ("scheme in capitals", ask().with("Authorization", format!("BEARER {key}")), 200),
        ("x-api-key", ask().with("X-Api-Key", &key), 401),
        ("query", desk.anonymous("GET", &format!("{list}?key={key}")), 401),
        ("cookie", ask().with("Cookie", format!("key={key}")), 401),
        ("basic, as password", ask().with("Authorization", basic(format!(":{key}"))), 401),
        ("basic, as user", ask().with("Authorization", basic(format!("{key}:"))), 401),
        ("no scheme", ask().with("Authorization", &key), 401),
        ("as it should be", ask().bearer(&key), 200),
        ("scheme and nothing", ask().with("Authorization", "Bearer"), 401),
        ("scheme and a blank", ask().with("Authorization", "Bearer "), 401),
        ("twice in one line", ask().with("Authorization", format!("Bearer {key}, Bearer {key}")), 401),
        ("twice", ask().bearer(&key).bearer(&key), 400),
        ("a right one and a wrong one", ask().bearer(&key).bearer("fga_wrong"), 400),
        ("a byte more", ask().bearer(&format!("{key}x")), 401),
        ("a byte less", ask().bearer(&key[..key.len() - 1]), 401),
        ("in another letter case", ask().bearer(&key.to_uppercase()), 401),
        ("as it should be", ask().bearer(&key), 200),
        ("quoted", ask().with("Authorization", format!("Bearer \"{key}\"")), 401),
        ("bytes that are no text", ask().with("Authorization", b"Bearer \xff\xfe"), 401),
        ("a long one", ask().bearer(&"fga_".repeat(5000)), 401),
    ];
    for (case, request, expected) in table {
        assert_eq!(desk.ask(&request).status, expected, "{case}");
    }
    desk.finish();
}

#[test]
fn a_token_never_becomes_a_key_whatever_stands_in_the_file() {
    // A person pastes the hash of a token where the hash of a key belongs.
    let file = format!(
        "version = 1\n\n[[admin]]\nname = \"mallory\"\nhash = \"{}\"\n{}",
        tokens::hash(&tokens::secret("stray")),
        tokens::administrator("bob"),
    );
    let desk = Desk::before(&file, |_| {});
    let ask = |key: &str| desk.ask(&desk.anonymous("GET", "/api/v1/namespaces").bearer(key)).status;
    assert_eq!(ask(&tokens::secret("stray")), 401);
    assert_eq!(ask(&tokens::key_of("bob")), 200);
    // And a key is no token.
    assert_eq!(desk.status_with(&tokens::key_of("bob")), 401);
    desk.finish();
}

#[test]
fn a_key_of_the_command_line_opens_and_is_closed_again_while_the_gate_runs() {
    let mut desk = Desk::new();
    let settings = desk.rig.gate.folder.path("faregate.toml");
    let run = |arguments: &[&str]| {
        let ran = faregate().args(arguments).arg("--config").arg(&settings).output().unwrap();
        assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
        String::from_utf8(ran.stdout).unwrap().trim().to_owned()
    };
    let key = run(&["admin-key", "issue", "--name", "dora"]);
    desk.rig.keep_secret(&key);
    let mut client = desk.connect();
    let list = desk.anonymous("GET", "/api/v1/namespaces").bearer(&key);
    let right = desk.request("GET", "/api/v1/namespaces");
    let mut status_is = |expected: u16| {
        eventually(&format!("dora gets {expected}"), || {
            // Between two tries with what may be a wrong key stands a right one.
            assert_eq!(client.ask(&right).status, 200);
            (client.ask(&list).status == expected).then_some(())
        });
    };
    status_is(200);
    let create =
        desk.anonymous("POST", TOKENS).bearer(&key).with("Content-Type", "application/json");
    assert_eq!(desk.ask(&create.body(new_token("dora's").to_string())).status, 201);
    run(&["admin-key", "delete", "dora"]);
    status_is(401);
    desk.finish();
}

#[test]
fn a_head_that_cannot_be_read_is_answered_without_a_word() {
    let desk = Desk::new();
    let key = tokens::administrator_key();
    let ask = || desk.request("GET", "/api/v1/namespaces");
    let many = (0..200).fold(ask(), |request, number| request.with(&format!("x-{number}"), "y"));
    #[rustfmt::skip]
    let table = [
        ("a control character in a value", ask().with("X", "a\u{1b}[31m")),
        ("a blank in a name", ask().with("X Y", "z")),
        ("no name", ask().with("", "z")),
        ("a control character in the target", desk.request("GET", "/\u{1}")),
        ("no version of HTTP", ask().version("HTTP/9.9")),
        ("a length that is none", ask().with("Content-Length", "x")),
        ("two lengths", ask().with("Content-Length", "0").with("Content-Length", "1")),
        ("more than 32 KiB", ask().with("X", "y".repeat(40 * 1024))),
        ("200 fields", many),
    ];
    for (case, request) in table {
        let mut client = desk.connect();
        client.send(request.bytes());
        let rest = client.rest();
        let told = String::from_utf8_lossy(&rest);
        let (head, body) = told.split_once("\r\n\r\n").unwrap_or((&told, ""));
        assert!(head.starts_with("HTTP/1.1 4"), "{case}: {told}");
        assert_eq!(body, "", "{case}");
        assert!(!told.contains(&key), "{case}");
    }
    assert_eq!(desk.get("/api/v1/namespaces").status, 200);
    desk.finish();
}

#[test]
fn paths_that_are_almost_a_call_are_none() {
    let desk = Desk::new();
    #[rustfmt::skip]
    let table: [(&str, u16, u16); 21] = [
        ("/api", 404, 404),
        ("/api/", 401, 404),
        ("/api/v1", 401, 404),
        ("/api/v2/namespaces", 401, 404),
        ("/api/v1/namespaces/", 401, 404),
        ("//api/v1/namespaces", 404, 404),
        ("/api//v1/namespaces", 401, 404),
        ("/API/v1/namespaces", 404, 404),
        ("/./api/v1/namespaces", 404, 404),
        ("/page/../api/v1/namespaces", 404, 404),
        ("/api/v1/x/../namespaces", 401, 404),
        ("/api/v1/namespaces/default/tokens/", 401, 404),
        ("/api/v1/namespaces/default/tokens/ev%61l", 401, 404),
        ("/api/v1/namespaces/default/tokens/eval%2f", 401, 404),
        ("/api/v1/namespaces/d%65fault/tokens", 401, 404),
        ("/api/v1/namespaces/Default/tokens", 401, 404),
        ("/page/", 404, 404),
        ("/page/index.html", 404, 404),
        ("/page/..%2fadmin.rs", 404, 404),
        ("/metrics", 404, 404),
        ("/livez", 404, 404),
    ];
    for (path, without, with) in table {
        let anonymous = desk.ask(&desk.anonymous("GET", path)).status;
        assert_eq!((anonymous, desk.get(path).status), (without, with), "{path}");
    }
    assert_eq!(desk.get(&path_of("eval")).status, 200);
    desk.finish();
}
