//! Clients that go away in the middle: a change is there as a whole or not at all, and the listener lives.

use std::collections::BTreeSet;

use serde_json::json;

use super::desk::{Desk, TOKENS, ids, new_token, path_of, read_file, text};
use crate::support::http1::Client;

/// Every token of the file is in force, and the other way round.
fn assert_file_is_in_force(desk: &Desk) -> BTreeSet<String> {
    let in_force: BTreeSet<String> =
        ids(&desk.get(&format!("{TOKENS}?limit=1000")).json()).into_iter().collect();
    let root = read_file(&desk.file());
    let in_file = root["token"].as_array().unwrap().iter();
    let in_file: BTreeSet<String> = in_file.map(|token| text(&token["id"])).collect();
    assert_eq!(in_force, in_file);
    in_force
}

#[test]
fn a_request_that_breaks_off_makes_nothing() {
    let desk = Desk::new();
    let before = desk.file();
    let whole = desk.with_json("POST", TOKENS, &new_token("half")).bytes();
    // At every tenth byte, and at the last but one.
    let cuts = (0..whole.len()).step_by(10).chain([whole.len() - 1]);
    for cut in cuts {
        let mut client = desk.connect();
        client.send(&whole[..cut]);
        if cut % 20 == 0 {
            client.connection.reset();
        } else {
            client.connection.finish_sending();
            let rest = client.rest();
            let told = String::from_utf8_lossy(&rest);
            assert!(
                rest.is_empty() || told.starts_with("HTTP/1.1 400"),
                "after {cut} bytes: {told}"
            );
        }
    }
    // A body in chunks that ends without its end.
    let head = String::from_utf8(
        desk.request("POST", TOKENS).with("Content-Type", "application/json").bytes(),
    )
    .unwrap();
    let body = new_token("half").to_string();
    let mut client = desk.connect();
    client.send(format!(
        "{}Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n",
        head.trim_end_matches("\r\n").to_owned() + "\r\n",
        body.len()
    ));
    client.connection.finish_sending();
    let told = String::from_utf8_lossy(&client.rest()).into_owned();
    assert!(told.is_empty() || told.starts_with("HTTP/1.1 400"), "{told}");
    assert_eq!(desk.file(), before);
    assert_file_is_in_force(&desk);
    desk.create(&new_token("whole"));
    desk.finish();
}

#[test]
fn a_client_that_does_not_wait_has_its_change_or_has_not() {
    const ROUNDS: usize = 30;
    let desk = Desk::new();
    let before = assert_file_is_in_force(&desk);
    for round in 0..ROUNDS {
        let mut client = desk.connect();
        client.send(desk.with_json("POST", TOKENS, &new_token(&format!("{round}"))).bytes());
        if round % 2 == 0 {
            client.connection.reset();
        } else {
            drop(client);
        }
    }
    // Changes are made one after the other: this one comes after all that were begun.
    let (id, secret) = desk.create(&new_token("after them"));
    assert_eq!(desk.status_with(&secret), 200);
    let after = assert_file_is_in_force(&desk);
    assert!(after.contains(&id));
    assert!(after.len() <= before.len() + ROUNDS + 1);
    assert!(before.is_subset(&after));
    for id in after.difference(&before) {
        let token = desk.token(id);
        assert_eq!(token["resources"], json!(["allowed"]), "{token}");
        assert_eq!(token["groups"], json!(["model-evaluation"]), "{token}");
    }
    desk.finish();
}

#[test]
fn who_asks_again_after_a_broken_connection_gets_the_one_token() {
    let desk = Desk::new();
    let before = assert_file_is_in_force(&desk).len();
    for round in 1..=10 {
        let request = desk
            .with_json("POST", TOKENS, &new_token(&format!("{round}")))
            .with("Idempotency-Key", format!("round {round}"));
        let mut client = desk.connect();
        client.send(request.bytes());
        client.connection.reset();
        let response = desk.ask(&request);
        assert_eq!(response.status, 201, "{response:?}");
        assert_eq!(desk.status_with(&text(&response.json()["secret"])), 200);
        assert_eq!(
            assert_file_is_in_force(&desk).len(),
            before + round,
            "one token for each round"
        );
    }
    // The same of a regeneration, which made twice would end what was told the first time.
    let (id, _) = desk.create(&new_token("regenerated"));
    for round in 1..=10 {
        let path = format!("{}/regenerate", path_of(&id));
        let request = desk.request("POST", &path).with("Idempotency-Key", format!("again {round}"));
        let mut client = desk.connect();
        client.send(request.bytes());
        client.connection.reset();
        let secret = text(&desk.ask(&request).json()["secret"]);
        assert_eq!(desk.status_with(&secret), 200, "{round}");
        assert_eq!(text(&desk.ask(&request).json()["secret"]), secret, "{round}");
    }
    desk.finish();
}

#[test]
fn a_body_that_does_not_come_is_not_waited_for_for_ever() {
    let desk = Desk::new();
    let before = desk.file();
    let head = desk.request("POST", TOKENS).with("Content-Type", "application/json").bytes();
    let head = String::from_utf8(head).unwrap();
    let mut slow: Vec<Client> = (0..4).map(|_| desk.connect()).collect();
    for client in &mut slow {
        client.send(format!("{}\r\nContent-Length: 100\r\n\r\n{{", head.trim_end_matches("\r\n")));
    }
    // Meanwhile others are served.
    let (id, _) = desk.create(&new_token("meanwhile"));
    assert_eq!(desk.delete(&path_of(&id)).status, 204);
    for client in &mut slow {
        let response = client.response_to("POST");
        desk.judge("POST", &response);
        assert_eq!((response.status, response.reason()), (408, Some("body_timeout")));
    }
    assert_eq!(desk.file(), before);
    desk.finish();
}

#[test]
fn a_change_that_waits_for_its_file_holds_up_no_reader() {
    let desk = Desk::new();
    let lock = std::fs::File::create(desk.rig.gate.folder.path("tokens.toml.lock")).unwrap();
    lock.lock().unwrap();
    let mut waiting = desk.connect();
    waiting.send(desk.with_json("POST", TOKENS, &new_token("waits")).bytes());
    for _ in 0..3 {
        assert_eq!(desk.get(TOKENS).status, 200);
        assert_eq!(desk.get("/api/v1/namespaces").status, 200);
        assert_eq!(desk.ask(&desk.anonymous("GET", "/")).status, 200);
    }
    lock.unlock().unwrap();
    let response = waiting.response_to("POST");
    desk.judge("POST", &response);
    assert_eq!(response.status, 201);
    // A lock that is never given back: it is busy, and nothing is changed.
    lock.lock().unwrap();
    let before = desk.file();
    let response = desk.post(TOKENS, &new_token("too late"));
    assert_eq!((response.status, response.reason()), (503, Some("busy")));
    assert_eq!(response.field("retry-after"), Some("1"));
    assert_eq!(response.json()["secret"], serde_json::Value::Null);
    assert_eq!(desk.file(), before);
    desk.finish();
}
