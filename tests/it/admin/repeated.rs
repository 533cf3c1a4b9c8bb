//! Requests that are sent again with the same `Idempotency-Key`: the same answer, secret included, and one change.

use serde_json::{Value, json};

use super::desk::{Desk, TOKENS, ids, new_token, path_of, text};
use crate::support::gate::Folder;
use crate::support::http1::{Request, Response};
use crate::support::tokens;

fn with_key(request: Request, key: &str) -> Request {
    request.with("Idempotency-Key", key)
}

/// A namespace with the administrators `alice` and `bob`.
fn of_two_administrators() -> Desk {
    Desk::before(&(tokens::standard_file() + &tokens::administrator("bob")), |_| {})
}

fn is_replay(response: &Response) -> bool {
    response.field("idempotent-replayed") == Some("true")
}

fn count(desk: &Desk) -> u64 {
    desk.get(&format!("{TOKENS}?limit=1")).json()["total"].as_u64().unwrap()
}

#[test]
fn the_same_key_and_body_is_one_token_and_one_answer() {
    let desk = Desk::new();
    let before = count(&desk);
    let request = with_key(desk.with_json("POST", TOKENS, &new_token("once")), "8e03978e-40d5");
    let first = desk.ask(&request);
    assert_eq!((first.status, is_replay(&first)), (201, false));
    let file = desk.file();
    // Over the same connection and others, and after other changes.
    let mut kept = desk.connect();
    for turn in 0..4 {
        let again = if turn % 2 == 0 { kept.ask(&request) } else { desk.ask(&request) };
        assert_eq!((again.status, is_replay(&again)), (201, true), "{again:?}");
        assert_eq!(again.body, first.body, "{turn}");
        assert_eq!(again.field("location"), first.field("location"));
        assert_eq!(again.field("etag"), first.field("etag"));
        assert_ne!(again.field("x-request-id"), first.field("x-request-id"));
        if turn == 1 {
            assert_eq!(desk.file(), file);
            assert_eq!(desk.patch(&path_of("eval"), &json!({"name": "meanwhile"})).status, 200);
        }
    }
    assert_eq!(count(&desk), before + 1);
    assert_eq!(desk.status_with(&text(&first.json()["secret"])), 200);
    // Another key is another token.
    let other = desk.ask(&with_key(desk.with_json("POST", TOKENS, &new_token("once")), "another"));
    assert_eq!((other.status, is_replay(&other)), (201, false));
    assert_ne!(other.json()["token"]["id"], first.json()["token"]["id"]);
    assert_eq!(count(&desk), before + 2);
    desk.finish();
}

#[test]
fn sent_at_once_it_is_one_token_too() {
    let desk = Desk::new();
    for round in 0..6 {
        let before = count(&desk);
        let request = with_key(
            desk.with_json("POST", TOKENS, &new_token("at once")),
            &format!("round {round}"),
        );
        let mut clients: Vec<_> = (0..8).map(|_| desk.connect()).collect();
        for client in &mut clients {
            client.send(request.bytes());
        }
        let mut bodies = Vec::new();
        let mut made = 0;
        for client in &mut clients {
            let response = client.response_to("POST");
            desk.judge("POST", &response);
            assert_eq!(response.status, 201, "{response:?}");
            made += usize::from(!is_replay(&response));
            bodies.push(response.body);
        }
        bodies.dedup();
        assert_eq!((bodies.len(), made, count(&desk)), (1, 1, before + 1));
    }
    desk.finish();
}

#[test]
fn another_body_under_the_same_key_is_a_mistake() {
    let desk = Desk::new();
    let ask = |body: &Value| desk.ask(&with_key(desk.with_json("POST", TOKENS, body), "k"));
    let first = ask(&new_token("one"));
    assert_eq!(first.status, 201);
    let before = desk.file();
    for body in
        [new_token("two"), json!({}), json!({"resources": ["*"], "groups": ["model-evaluation"]})]
    {
        let response = ask(&body);
        assert_eq!((response.status, response.reason()), (422, Some("idempotency_key_reused")));
        assert_eq!(response.json()["secret"], Value::Null);
    }
    assert_eq!(desk.file(), before);
    assert_eq!(ask(&new_token("one")).body, first.body, "the first answer is still there");
    desk.finish();
}

#[test]
fn a_key_belongs_to_one_administrator_and_one_call() {
    let desk = of_two_administrators();
    let body = new_token("mine");
    let of = |administrator: &str| {
        desk.anonymous("POST", TOKENS)
            .bearer(administrator)
            .with("Content-Type", "application/json")
            .body(body.to_string())
    };
    let alice = desk.ask(&with_key(of(&tokens::administrator_key()), "same"));
    let bob = desk.ask(&with_key(of(&tokens::key_of("bob")), "same"));
    assert_eq!((alice.status, bob.status), (201, 201));
    assert!(!is_replay(&bob), "bob was told alice's secret");
    assert_ne!(alice.json()["secret"], bob.json()["secret"]);
    // Nor does it open anything to somebody without a key.
    for refused in [of("fga_wrong"), of(&tokens::secret("all"))] {
        assert_eq!(desk.ask(&with_key(refused, "same")).status, 401);
    }
    let id = text(&alice.json()["token"]["id"]);
    let path = format!("{}/regenerate", path_of(&id));
    let regenerated = desk.ask(&with_key(desk.request("POST", &path), "same"));
    assert_eq!((regenerated.status, is_replay(&regenerated)), (200, false));
    desk.finish();
}

#[test]
fn a_regeneration_is_made_once() {
    let desk = Desk::new();
    let (id, first) = desk.create(&new_token("again"));
    let path = format!("{}/regenerate", path_of(&id));
    let request =
        with_key(desk.with_json("POST", &path, &json!({"grace_period": "1h"})), "regenerate once");
    let answer = desk.ask(&request);
    assert_eq!(answer.status, 200);
    for _ in 0..3 {
        assert_eq!(desk.ask(&request).body, answer.body);
    }
    // Made twice, it would have ended the first secret's grace.
    assert_eq!(desk.status_with(&first), 200);
    assert_eq!(desk.status_with(&text(&answer.json()["secret"])), 200);
    desk.finish();
}

#[test]
fn what_failed_is_tried_anew() {
    let desk = Desk::new();
    let before = count(&desk);
    let create = || with_key(desk.with_json("POST", TOKENS, &new_token("in the end")), "k");
    let stale = format!("\"{}\"", blake3::hash(b"x").to_hex());
    assert_eq!(desk.ask(&create().with("If-Match", stale)).status, 412);
    let good = desk.file();
    desk.rig.gate.folder.write("tokens.toml", "version = 1\n[[token");
    assert_eq!(desk.ask(&create()).status, 409);
    desk.rig.gate.change_tokens(&good);
    let response = desk.ask(&create());
    assert_eq!((response.status, is_replay(&response)), (201, false));
    assert!(is_replay(&desk.ask(&create())));
    // A wrong body does not take the key either.
    let wrong = with_key(desk.with_json("POST", TOKENS, &json!({"resources": ["a"]})), "k2");
    assert_eq!(desk.ask(&wrong).status, 422);
    let right = with_key(desk.with_json("POST", TOKENS, &new_token("k2")), "k2");
    assert_eq!(desk.ask(&right).status, 201);
    assert_eq!(count(&desk), before + 2);
    desk.finish();
}

#[test]
fn who_lost_the_key_is_not_told_the_answer_again() {
    let desk = of_two_administrators();
    let request = with_key(
        desk.anonymous("POST", TOKENS)
            .bearer(&tokens::key_of("bob"))
            .with("Content-Type", "application/json")
            .body(new_token("bob's").to_string()),
        "k",
    );
    assert_eq!(desk.ask(&request).status, 201);
    let without_bob = desk.file().replace(&tokens::administrator("bob"), "");
    assert_ne!(without_bob, desk.file());
    desk.rig.gate.change_tokens(&without_bob);
    assert_eq!(desk.ask(&request).status, 401);
    desk.finish();
}

#[test]
fn keys_have_a_form() {
    let desk = Desk::new();
    let create = || desk.with_json("POST", TOKENS, &new_token("formed"));
    let before = desk.file();
    for (case, request) in [
        ("empty", with_key(create(), "")),
        ("256 characters", with_key(create(), &"k".repeat(256))),
        ("no text", create().with("Idempotency-Key", b"\xff")),
        ("two", with_key(with_key(create(), "a"), "b")),
        ("the same twice", with_key(with_key(create(), "a"), "a")),
    ] {
        assert_eq!(desk.ask(&request).status, 400, "{case}");
    }
    assert_eq!(desk.file(), before);
    for key in ["k", "\"quoted\"", &"k".repeat(255)] {
        assert_eq!(desk.ask(&with_key(create(), key)).status, 201, "{key}");
    }
    desk.finish();
}

#[test]
fn each_namespace_has_its_own_answers() {
    let folder = Folder::new();
    folder.write("tokens.toml", tokens::standard_file());
    // The same administrator, with the same key.
    let only_alice = tokens::file(&[]).split("\n[[token]]").next().unwrap().to_owned();
    folder.write("second.toml", &only_alice);
    let desk = Desk::in_folder(folder, |settings| {
        let mut second = settings.namespaces[0].clone();
        (second.name, second.tokens) = ("second".into(), "second.toml".into());
        second.hosts = vec!["second.test".into()];
        settings.namespaces.push(second);
    });
    let ask = |path: &str| desk.ask(&with_key(desk.with_json("POST", path, &new_token("t")), "k"));
    let second = "/api/v1/namespaces/second/tokens";
    let (one, other) = (ask(TOKENS), ask(second));
    assert_eq!((one.status, other.status, is_replay(&other)), (201, 201, false));
    assert_eq!(ids(&desk.get(second).json()), [text(&other.json()["token"]["id"])]);
    desk.finish();
}
