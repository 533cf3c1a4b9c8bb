//! Texts that would be something else in TOML, JSON, HTML or a log: they come back equal, and say nothing more.

use serde_json::{Value, json};

use super::desk::{Desk, TOKENS, path_of, read_file, text};
use crate::support::tokens;

const NAMES: &[&str] = &[
    "\"",
    "\"\"\"",
    "'''",
    "\\",
    "\\\"",
    "\\n[[token]]\\n",
    "\\u000a",
    "\" \\",
    "x\", hash = \"blake3:0000\", y = \"",
    "x\"\nhash",
    "]]",
    "[[admin]]",
    "# a comment",
    "= { }",
    "}",
    "${HOME} $(id) `id`",
    "{{7*7}} {0} %s %n",
    "<script>alert(1)</script>",
    "\"><img src=x onerror=alert(1)>",
    "</title><!--",
    "' OR 1=1 --",
    "../../etc/passwd",
    " leading and trailing ",
    " ",
    "\u{a0}",
    "\u{feff}bom",
    "\u{202e}backwards",
    "\u{2028}\u{2029}",
    "\u{200b}",
    "e\u{301} and é",
    "ﬀ Ⅷ ①",
    "虹膜 🌸 👩‍🔬",
    "\u{10ffff}",
    "\u{e000}",
    "null",
    "true",
    "2026-11-23T10:00:00Z",
    "0",
];

/// A file is what it was, and tokens of these names.
fn assert_holds_nothing_else(desk: &Desk, before: &str, made: &[(String, Value)]) {
    let file = desk.file();
    assert!(file.starts_with(before), "what was there stands as it stood");
    let root = read_file(&file);
    let mut keys: Vec<&String> = root.as_object().unwrap().keys().collect();
    keys.sort_unstable();
    assert_eq!(keys, ["admin", "token", "version"]);
    assert_eq!(root["admin"].as_array().unwrap().len(), 1, "an administrator has come in");
    let entries = root["token"].as_array().unwrap();
    assert_eq!(entries.len(), tokens::STANDARD.len() + 1 + made.len());
    for (id, asked) in made {
        let entry = entries.iter().find(|entry| entry["id"] == **id).unwrap();
        let mut told = entry.clone();
        for made_by_the_program in ["id", "hash", "created_at"] {
            told.as_object_mut().unwrap().remove(made_by_the_program).unwrap();
        }
        assert_eq!(told, *asked);
    }
}

#[test]
fn texts_come_back_as_they_were_sent() {
    let desk = Desk::new();
    let before = desk.file();
    let mut made = Vec::new();
    for name in NAMES {
        let asked = json!({
            "name": name,
            "resources": ["allowed"],
            "groups": ["model-evaluation"],
            "labels": {*name: *name, "a.b": name, "\"quoted\"": "", "plain": "[[token]]"},
        });
        let response = desk.post(TOKENS, &asked);
        if name.chars().any(char::is_control) {
            assert_eq!(
                (response.status, &response.json()["field"]),
                (422, &json!("name")),
                "{name:?}"
            );
            continue;
        }
        assert_eq!(response.status, 201, "{name:?}: {response:?}");
        assert_eq!(response.field("content-type"), Some("application/json"));
        let token = &response.json()["token"];
        assert_eq!(
            (&token["name"], &token["labels"]),
            (&asked["name"], &asked["labels"]),
            "{name:?}"
        );
        let id = text(&token["id"]);
        assert_eq!(desk.token(&id)["name"], *name);
        made.push((id, asked));
    }
    assert!(made.len() + 1 >= NAMES.len(), "one name of the table is no name");
    assert_holds_nothing_else(&desk, &before, &made);
    // Once more by way of a patch, in the place of another text, and back out again.
    for (id, asked) in made.iter().rev() {
        for patch in [
            json!({"name": "plain", "labels": {"k": "v"}}),
            json!({"name": asked["name"], "labels": asked["labels"]}),
        ] {
            let response = desk.patch(&path_of(id), &patch);
            assert_eq!(response.status, 200, "{patch}: {response:?}");
            assert_eq!(response.json()["token"]["name"], patch["name"]);
            assert_eq!(response.json()["token"]["labels"], patch["labels"]);
        }
    }
    assert_holds_nothing_else(&desk, &before, &made);
    for (id, _) in &made {
        assert_eq!(desk.delete(&path_of(id)).status, 204);
    }
    assert_eq!(desk.file(), before);
    desk.finish();
}

#[test]
fn patterns_that_are_odd_and_right_come_back_too() {
    let desk = Desk::new();
    let before = desk.file();
    let patterns = [
        "a\"b",
        "a'b",
        "]]",
        "[[token]]",
        "{model}",
        "a=b",
        "a,b",
        "$x",
        "a:b@c",
        "org/name-v1.2+x*",
        "虹膜*",
        "<b>",
        "~",
        "a&b",
        "(a)",
        "a|b",
        "!a",
        "a^b",
        "*",
    ];
    let mut made = Vec::new();
    for pattern in patterns {
        let asked = json!({"resources": [pattern, "plain"], "groups": ["model-evaluation"]});
        let response = desk.post(TOKENS, &asked);
        assert_eq!(response.status, 201, "{pattern}: {response:?}");
        assert_eq!(response.json()["token"]["resources"], asked["resources"]);
        made.push((text(&response.json()["token"]["id"]), asked));
    }
    assert_holds_nothing_else(&desk, &before, &made);
    desk.finish();
}

#[test]
fn a_member_of_json_may_be_written_with_escapes() {
    let desk = Desk::new();
    let body = br#"{"n\u0061me":"\u0061\u00e9\ud83c\udf38","resources":["\u0061llowed"],"groups":["model-evaluation"]}"#;
    let request = desk.request("POST", TOKENS).with("Content-Type", "application/json");
    let response = desk.ask(&request.body(body));
    assert_eq!(response.status, 201, "{response:?}");
    assert_eq!(response.json()["token"]["name"], "aé🌸");
    assert_eq!(response.json()["token"]["resources"], json!(["allowed"]));
    desk.finish();
}

#[test]
fn the_longest_texts_fit() {
    let desk = Desk::new();
    let before = desk.file();
    let labels: serde_json::Map<String, Value> = (0..64)
        .map(|number| (format!("{number:02}{}", "é".repeat(62)), json!("\"".repeat(200))))
        .collect();
    let asked = json!({
        "name": "\\".repeat(200),
        "resources": (0..1000).map(|number| format!("m{number:04}{}*", "x".repeat(250))).collect::<Vec<_>>(),
        "groups": ["model-evaluation", "g".repeat(64)],
        "labels": labels,
    });
    let (id, _) = desk.create(&asked);
    let token = desk.token(&id);
    for member in ["name", "resources", "groups", "labels"] {
        assert_eq!(token[member], asked[member], "{member}");
    }
    assert_holds_nothing_else(&desk, &before, &[(id, asked)]);
    desk.finish();
}
