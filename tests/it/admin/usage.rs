//! The use of tokens as administrators see it.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::desk::{Desk, TOKENS, new_token, path_of, text};
use crate::support::eventually;
use crate::support::gate::Gate;
use crate::support::http1::get;
use crate::support::rig::Rig;

/// Waits until a token is told to have been used so often.
fn wait_for(desk: &Desk, id: &str, requests: u64, denied: u64) -> Value {
    eventually(&format!("{requests} requests and {denied} denied are told of {id}"), || {
        let token = desk.token(id);
        (token["requests"] == requests && token["denied"] == denied).then_some(token)
    })
}

fn seconds(value: &Value) -> i64 {
    text(value).parse::<Timestamp>().unwrap().as_second()
}

#[test]
fn requests_are_told_with_their_token() {
    let desk = Desk::new();
    let (id, secret) = desk.create(&new_token("used"));
    let token = wait_for(&desk, &id, 0, 0);
    assert_eq!(token["last_used_at"], Value::Null);
    let began = Timestamp::now().as_second();
    for _ in 0..5 {
        assert_eq!(desk.status_with(&secret), 200);
    }
    let token = wait_for(&desk, &id, 5, 0);
    let last = seconds(&token["last_used_at"]);
    assert!((began..=Timestamp::now().as_second()).contains(&last), "{token}");
    // A refusal is no use.
    for target in ["/score/secret", "/nowhere", "/audit/allowed"] {
        assert_eq!(desk.rig.ask(&get(target).bearer(&secret)).status, 403);
    }
    let token = wait_for(&desk, &id, 5, 3);
    assert_eq!(seconds(&token["last_used_at"]), last);
    assert_eq!(token["previous_last_used_at"], Value::Null);
    // A change of the token does not make it a new one.
    assert_eq!(desk.patch(&path_of(&id), &json!({"name": "still used"})).status, 200);
    wait_for(&desk, &id, 5, 3);
    let list = desk.get(&format!("{TOKENS}?q=still+used")).json();
    assert_eq!(
        (&list["tokens"][0]["requests"], &list["tokens"][0]["denied"]),
        (&json!(5), &json!(3))
    );
    // Who brings the secret of a token that is switched off is refused as this token.
    desk.post(&format!("{}/disable", path_of(&id)), &json!({}));
    assert_eq!(desk.status_with(&secret), 401);
    wait_for(&desk, &id, 5, 4);
    desk.finish();
}

#[test]
fn the_last_use_of_the_old_secret_tells_when_it_is_no_longer_needed() {
    let desk = Desk::new();
    let (id, old) = desk.create(&new_token("moving over"));
    let new = desk.regenerate(&id, &json!({"grace_period": "24h"}));
    assert_eq!(desk.status_with(&new), 200);
    assert_eq!(wait_for(&desk, &id, 1, 0)["previous_last_used_at"], Value::Null);
    let began = Timestamp::now().as_second();
    assert_eq!(desk.status_with(&old), 200);
    let token = wait_for(&desk, &id, 2, 0);
    let last = seconds(&token["previous_last_used_at"]);
    assert!((began..=Timestamp::now().as_second()).contains(&last), "{token}");
    assert_eq!(desk.status_with(&new), 200);
    assert_eq!(seconds(&wait_for(&desk, &id, 3, 0)["previous_last_used_at"]), last);
    // With the next regeneration another secret is the old one, and nobody has used it yet.
    desk.regenerate(&id, &json!({"grace_period": "48h"}));
    let token = wait_for(&desk, &id, 3, 0);
    assert_eq!(token["previous_last_used_at"], Value::Null, "{token}");
    desk.finish();
}

#[test]
fn what_is_only_watched_is_told_as_both() {
    let desk = Desk::with(|settings| settings.namespaces[0].keys = "enforce = false\n".into());
    let (id, secret) = desk.create(&new_token("watched"));
    assert_eq!(desk.status_with(&secret), 200);
    assert_eq!(desk.rig.ask(&get("/score/secret").bearer(&secret)).status, 200);
    wait_for(&desk, &id, 2, 1);
    desk.finish();
}

#[test]
fn the_use_of_tokens_is_known_after_a_new_start() {
    let mut desk = Desk::new();
    let (id, secret) = desk.create(&new_token("kept"));
    for target in ["/score/allowed", "/score/allowed", "/score/secret"] {
        desk.rig.ask(&get(target).bearer(&secret));
    }
    let before = wait_for(&desk, &id, 2, 1);
    desk.rig.gate.signal("TERM");
    assert!(desk.rig.gate.wait_for_end().success());
    let Rig { gate, server, .. } = desk.rig;
    let mut desk = Desk::of(Rig::of(Gate::start(gate.killed()), server));
    desk.rig.keep_secret(&secret);
    let after = desk.token(&id);
    for member in ["requests", "denied", "last_used_at"] {
        assert_eq!(after[member], before[member], "{member}");
    }
    assert_eq!(desk.status_with(&secret), 200);
    wait_for(&desk, &id, 3, 1);
    desk.finish();
}
