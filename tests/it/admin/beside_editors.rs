//! The API beside people who edit the same file by hand: no change of either is lost.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use serde_json::{Value, json};

use super::desk::{Desk, TOKENS, ids, new_token, path_of, text};
use crate::support::eventually;
use crate::support::gate::Folder;
use crate::support::http1::get;
use crate::support::tokens::{self, Token};

const BY_HAND: Token<'static> = Token {
    id: "by-hand",
    name: "added by hand",
    resources: &["allowed"],
    groups: &["model-evaluation"],
    more: "",
};

/// The table of [`BY_HAND`], as a person adds it.
fn stanza() -> String {
    let whole = tokens::file(&[BY_HAND]);
    let (_, stanza) = whole.split_once("\n[[token]]\nid = \"by-hand\"").unwrap();
    format!("\n# A person was here.\n[[token]]\nid = \"by-hand\"{stanza}")
}

#[test]
fn a_change_is_made_to_the_file_as_it_is_and_not_as_it_was_in_force() {
    type Write = fn(&Folder, &str, &str);
    let ways: [(&str, Write); 2] = [
        ("in place", |folder, name, text| folder.write(name, text)),
        ("by rename", |folder, name, text| folder.replace(name, text)),
    ];
    for (case, write) in ways {
        let mut desk = Desk::new();
        desk.rig.keep_secret(&tokens::secret("by-hand"));
        let edited = tokens::standard_file() + &stanza();
        write(&desk.rig.gate.folder, "tokens.toml", &edited);
        // At once: nothing has looked at the file since.
        let (id, secret) = desk.create(&new_token("through the API"));
        assert!(desk.file().starts_with(&edited), "{case}: the hand's work is as it was");
        for secret in [&secret, &tokens::secret("by-hand"), &tokens::secret("eval")] {
            assert_eq!(desk.status_with(secret), 200, "{case}");
        }
        assert_eq!(desk.token("by-hand")["name"], "added by hand");
        // Removed by hand, changed here: there is no such token.
        write(&desk.rig.gate.folder, "tokens.toml", &desk.file().replace(&stanza(), ""));
        let response = desk.patch(&path_of("by-hand"), &json!({"name": "x"}));
        assert_eq!((response.status, response.reason()), (404, Some("no_such_token")), "{case}");
        assert_eq!(desk.delete(&path_of(&id)).status, 204, "{case}");
        assert_eq!(desk.status_with(&tokens::secret("by-hand")), 401, "{case}");
        assert_eq!(desk.file(), tokens::standard_file(), "{case}");
        desk.finish();
    }
}

#[test]
fn comments_blank_lines_and_order_stay() {
    let file = tokens::standard_file()
        .replace("version = 1\n", "# Who may ask our models.\n\nversion = 1   # the first\n")
        .replace(
            "[[token]]\nid = \"eval\"",
            "# Ask fraud@example.com before you change this.\n[[token]] # eval\nid   =   'eval'",
        )
        .replace(
            "\n[[token]]\nid = \"manage\"",
            "\n\n\n# --- deployers ---\n[[token]]\nid = \"manage\"",
        )
        + "\n# The end.\n";
    let desk = Desk::before(&file, |_| {});
    let (id, _) = desk.create(&new_token("comes and goes"));
    for (path, patch) in [
        (path_of("eval"), json!({"labels": {"a": "b"}})),
        (path_of("eval"), json!({"labels": null})),
        (path_of("manage"), json!({"disabled": true})),
    ] {
        assert_eq!(desk.patch(&path, &patch).status, 200);
    }
    assert_eq!(desk.post(&format!("{}/enable", path_of("manage")), &json!({})).status, 200);
    assert_eq!(desk.delete(&path_of(&id)).status, 204);
    let changed: Vec<_> = desk.file().lines().map(str::to_owned).collect();
    for line in file.lines() {
        assert!(changed.iter().any(|own| own == line), "gone: {line:?}\n{}", desk.file());
    }
    desk.finish();
}

#[test]
fn while_the_file_is_wrong_nothing_is_changed_and_the_problems_are_told() {
    let desk = Desk::new();
    let good = tokens::standard_file();
    let (id, secret) = desk.create(&new_token("before"));
    let with_token = desk.file();
    let hash = tokens::hash(&tokens::secret("eval"));
    #[rustfmt::skip]
    let table = [
        ("no TOML", "version = 1\n[[token".to_owned(), Some(2)),
        ("empty", String::new(), None),
        ("a key nobody knows", with_token.replace("id = \"eval\"", "id = \"eval\"\nrigths = [\"not-to-be-quoted\"]"), Some(15)),
        ("a hash twice", with_token.clone() + &format!("\n[[token]]\nid = \"twin\"\nhash = \"{hash}\"\n"), None),
        ("another version", with_token.replace("version = 1", "version = 2"), Some(1)),
    ];
    for (case, wrong, line) in table {
        desk.rig.gate.folder.write("tokens.toml", &wrong);
        let path = path_of(&id);
        for response in [
            desk.post(TOKENS, &new_token("meanwhile")),
            desk.patch(&path, &json!({"name": "meanwhile"})),
            desk.post(&format!("{path}/regenerate"), &json!({})),
            desk.post(&format!("{path}/disable"), &json!({})),
            desk.delete(&path),
        ] {
            assert_eq!((response.status, response.reason()), (409, Some("invalid_file")), "{case}");
            let body = response.json();
            assert_eq!(body["secret"], Value::Null, "{case}");
            let problems = body["problems"].as_array().unwrap();
            assert!(!problems.is_empty(), "{case}");
            if let Some(line) = line {
                assert_eq!(problems[0]["line"], line, "{case}: {body}");
            }
            for problem in problems {
                for member in ["what", "remedy"] {
                    assert!(!text(&problem[member]).is_empty(), "{case}: {problem}");
                }
            }
            for quoted in ["not-to-be-quoted", &hash["blake3:".len()..]] {
                assert!(!response.text().contains(quoted), "{case}: quotes {quoted}");
            }
        }
        assert_eq!(desk.file(), wrong, "{case}: it is left as it is");
        // What was in force stays so, and can be read.
        assert_eq!(desk.status_with(&secret), 200, "{case}");
        assert_eq!(desk.token(&id)["state"], "active", "{case}");
    }
    desk.rig.gate.folder.write("tokens.toml", &with_token);
    assert_eq!(desk.delete(&path_of(&id)).status, 204);
    assert_eq!(desk.file(), good);
    desk.finish();
}

#[test]
fn a_file_that_is_gone_comes_back_by_no_change() {
    let desk = Desk::new();
    std::fs::remove_file(desk.rig.gate.folder.path("tokens.toml")).unwrap();
    let response = desk.post(TOKENS, &new_token("of nothing"));
    assert_eq!((response.status, response.reason()), (409, Some("invalid_file")), "{response:?}");
    assert!(!desk.rig.gate.folder.path("tokens.toml").exists());
    assert_eq!(desk.status_with(&tokens::secret("eval")), 200, "the last good policy");
    desk.finish();
}

#[test]
fn what_is_not_there_is_not_found() {
    let desk = Desk::new();
    for id in ["nobody", "EVAL", "eval.", "tk_000000000000", "%65val", "eval%20", "eval%00"] {
        let path = path_of(id);
        for (method, path, body) in [
            ("GET", path.clone(), None),
            ("PATCH", path.clone(), Some(json!({"name": "x"}))),
            ("DELETE", path.clone(), None),
            ("POST", format!("{path}/regenerate"), Some(json!({"grace_period": "1h"}))),
            ("POST", format!("{path}/disable"), None),
            ("POST", format!("{path}/enable"), Some(json!({}))),
        ] {
            let request = match &body {
                Some(body) => desk.with_json(method, &path, body),
                None => desk.request(method, &path),
            };
            let response = desk.ask(&request);
            assert_eq!(
                (response.status, response.reason()),
                (404, Some("no_such_token")),
                "{method} {path}"
            );
        }
    }
    for (method, rest) in [
        ("GET", "/tokens"),
        ("POST", "/tokens"),
        ("GET", "/routes"),
        ("POST", "/explain"),
        ("DELETE", "/tokens/eval"),
    ] {
        let path = format!("/api/v1/namespaces/nowhere{rest}");
        let response = desk.ask(&desk.with_json(method, &path, &new_token("x")));
        assert_eq!(
            (response.status, response.reason()),
            (404, Some("no_such_namespace")),
            "{method} {path}"
        );
    }
    assert_eq!(desk.file(), tokens::standard_file());
    desk.finish();
}

#[test]
fn namespaces_are_strangers() {
    let folder = Folder::new();
    folder.write("tokens.toml", tokens::standard_file());
    let second = format!("version = 1\n{}", tokens::administrator("bob"));
    folder.write("second.toml", &second);
    let desk = Desk::in_folder(folder, |settings| {
        let mut other = settings.namespaces[0].clone();
        (other.name, other.tokens) = ("second".into(), "second.toml".into());
        other.hosts = vec!["second.test".into()];
        settings.namespaces.push(other);
    });
    let theirs = "/api/v1/namespaces/second/tokens";
    let bob = |method: &str, target: &str, body: &Value| {
        let request = desk.anonymous(method, target).bearer(&tokens::key_of("bob"));
        desk.ask(&request.with("Content-Type", "application/json").body(body.to_string()))
    };
    // Neither sees, changes or makes anything of the other's.
    assert_eq!(desk.post(theirs, &new_token("x")).status, 404);
    assert_eq!(bob("POST", TOKENS, &new_token("x")).status, 404);
    let made = bob("POST", theirs, &new_token("bob's"));
    assert_eq!(made.status, 201, "{made:?}");
    let (id, secret) = (text(&made.json()["token"]["id"]), text(&made.json()["secret"]));
    assert_eq!(desk.file(), tokens::standard_file());
    assert_eq!(desk.get(&format!("{theirs}/{id}")).status, 404);
    assert_eq!(desk.get(&path_of(&id)).status, 404);
    assert_eq!(bob("DELETE", &path_of("eval"), &json!({})).status, 404);
    // The same id in both is two tokens.
    let file = std::fs::read_to_string(desk.rig.gate.folder.path("second.toml")).unwrap();
    let twin = file
        + &format!(
            "\n[[token]]\nid = \"eval\"\nhash = \"{}\"\nresources = [\"*\"]\ngroups = [\"model-evaluation\"]\n",
            tokens::hash(&tokens::secret("twin"))
        );
    desk.rig.gate.folder.write("second.toml", &twin);
    desk.rig.gate.wait_for_policy("second", &twin);
    assert_eq!(bob("DELETE", &format!("{theirs}/eval"), &json!({})).status, 204);
    assert_eq!(desk.status_with(&tokens::secret("eval")), 200);
    // And a token is worth something behind its own hosts only.
    let at = |host: &str| desk.rig.ask(&get("/score/allowed").host(host).bearer(&secret)).status;
    assert_eq!((at("second.test"), at("models.test")), (200, 401));
    let of_bob = bob("GET", theirs, &json!({}));
    assert_eq!(ids(&of_bob.json()), [id]);
    desk.finish();
}

#[test]
fn many_administrators_and_a_script_at_once_lose_nothing() {
    const EACH: usize = 12;
    let desk = Desk::new();
    let begun = AtomicUsize::new(0);
    let stop = AtomicBool::new(false);
    let address = desk.rig.gate.admin();
    let mut made: Vec<String> = Vec::new();
    let by_script = std::thread::scope(|scope| {
        let administrators: Vec<_> = (0..4)
            .map(|number| {
                let request = desk.with_json("POST", TOKENS, &new_token(&format!("of {number}")));
                let begun = &begun;
                scope.spawn(move || {
                    let mut client = crate::support::http1::Client::to(address);
                    let mut ids = Vec::new();
                    for _ in 0..EACH {
                        begun.fetch_add(1, Ordering::Relaxed);
                        let response = client.ask(&request);
                        assert_eq!(response.status, 201, "{response:?}");
                        ids.push(text(&response.json()["token"]["id"]));
                    }
                    ids
                })
            })
            .collect();
        // A script that holds the lock while it edits, as the manual tells it to.
        let folder = &desk.rig.gate.folder;
        let (path, stop) = (folder.path("tokens.toml"), &stop);
        let script = scope.spawn(move || {
            let mut added = Vec::new();
            while !stop.load(Ordering::Relaxed) {
                let id = format!("script-{}", added.len());
                let hash = tokens::hash(&tokens::secret(&id));
                let edit = format!(
                    "cp -p \"$0\" \"$0.script\" && printf '\\n[[token]]\\nid = \"{id}\"\\nhash = \"{hash}\"\\n' >>\"$0.script\" && mv \"$0.script\" \"$0\""
                );
                let lock = format!("{}.lock", path.display());
                let status = std::process::Command::new("flock")
                    .args([lock.as_str(), "/bin/sh", "-c", &edit])
                    .arg(&path)
                    .status()
                    .unwrap();
                assert!(status.success());
                added.push(id);
            }
            added
        });
        for administrator in administrators {
            made.extend(administrator.join().unwrap());
        }
        stop.store(true, Ordering::Relaxed);
        script.join().unwrap()
    });
    assert!(!by_script.is_empty());
    made.extend(by_script);
    assert_eq!(begun.load(Ordering::Relaxed), 4 * EACH);
    desk.rig.gate.wait_for_policy("default", &desk.file());
    eventually("all of them are in force", || {
        let all = ids(&desk.get(&format!("{TOKENS}?limit=1000")).json());
        made.iter().all(|id| all.contains(id)).then_some(())
    });
    for token in tokens::STANDARD {
        assert_eq!(desk.get(&path_of(token.id)).status, 200, "{}", token.id);
    }
    desk.finish();
}
