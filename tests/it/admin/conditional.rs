//! Changes on a condition: `If-Match` with the generation that was seen, and the tags that answers have.

use serde_json::{Value, json};

use super::desk::{Desk, TOKENS, new_token, path_of, text};
use crate::support::http1::{Request, Response};
use crate::support::tokens;

/// The tag and the generation of an answer are those of the file as it is.
fn assert_is_of_the_file(desk: &Desk, case: &str, response: &Response) {
    let generation = blake3::hash(desk.file().as_bytes()).to_hex().to_string();
    assert_eq!(response.json()["generation"], generation, "{case}");
    assert_eq!(response.field("etag"), Some(&*format!("\"{generation}\"")), "{case}");
}

#[test]
fn every_answer_about_tokens_has_the_generation_of_the_file() {
    let desk = Desk::new();
    let eval = path_of("eval");
    assert_is_of_the_file(&desk, "list", &desk.get(TOKENS));
    assert_is_of_the_file(&desk, "token", &desk.get(&eval));
    assert_is_of_the_file(&desk, "new", &desk.post(TOKENS, &new_token("new")));
    assert_is_of_the_file(&desk, "patch", &desk.patch(&eval, &json!({"name": "x"})));
    assert_is_of_the_file(&desk, "patch again", &desk.patch(&eval, &json!({"name": "x"})));
    for call in ["disable", "enable", "regenerate"] {
        let response = desk.post(&format!("{eval}/{call}"), &json!({}));
        assert_is_of_the_file(&desk, call, &response);
    }
    assert_eq!(desk.delete(&eval).status, 204);
    assert_is_of_the_file(&desk, "after the end", &desk.get(TOKENS));
    let namespaces = desk.get("/api/v1/namespaces").json();
    let generation = blake3::hash(desk.file().as_bytes()).to_hex().to_string();
    assert_eq!(namespaces["namespaces"][0]["generation"], generation);
    desk.finish();
}

/// Every call that changes something, on a token of its own.
fn changes(desk: &Desk) -> Vec<(&'static str, Request)> {
    let path = path_of(&desk.create(&new_token("changed")).0);
    vec![
        ("create", desk.with_json("POST", TOKENS, &new_token("one more"))),
        ("patch", desk.with_json("PATCH", &path, &json!({"name": "other"}))),
        ("disable", desk.request("POST", &format!("{path}/disable"))),
        ("enable", desk.request("POST", &format!("{path}/enable"))),
        ("regenerate", desk.request("POST", &format!("{path}/regenerate"))),
        ("delete", desk.request("DELETE", &path)),
    ]
}

#[test]
fn a_change_on_a_condition_is_made_only_when_it_holds() {
    let desk = Desk::new();
    let hex = |text: &str| blake3::hash(text.as_bytes()).to_hex().to_string();
    let stale = hex(&tokens::standard_file());
    for (call, request) in changes(&desk) {
        let before = desk.file();
        let now = hex(&before);
        #[rustfmt::skip]
        let refused = [
            ("stale", format!("\"{stale}\""), 412),
            ("of another file", format!("\"{}\"", hex("x")), 412),
            ("weak", format!("W/\"{now}\""), 412),
            ("shortened", format!("\"{}\"", &now[..12]), 412),
            ("longer", format!("\"{now}0\""), 412),
            ("no generation", "\"x\"".to_owned(), 412),
            ("empty tag", "\"\"".to_owned(), 412),
            ("without quotes", now.clone(), 400),
            ("one quote", format!("\"{now}"), 400),
            ("empty", String::new(), 400),
            ("a list", format!("\"{stale}\", \"{now}\""), 400),
            ("single quotes", format!("'{now}'"), 400),
        ];
        for (case, tag, expected) in refused {
            let response = desk.ask(&request.clone().with("If-Match", &tag));
            assert_eq!(response.status, expected, "{call}: {case}: {response:?}");
            if expected == 412 {
                assert_eq!(response.reason(), Some("changed_meanwhile"), "{call}: {case}");
            }
            assert_eq!(response.json()["secret"], Value::Null, "{call}: {case}");
        }
        let twice = request.clone().with("If-Match", format!("\"{now}\"")).with("If-Match", "*");
        assert_eq!(desk.ask(&twice).status, 400, "{call}: two lines");
        assert_eq!(desk.file(), before, "{call}: refused, and the file changed");
        let response = desk.ask(&request.with("If-Match", format!("\"{now}\"")));
        assert!(response.status < 300, "{call}: {response:?}");
    }
    for (call, request) in changes(&desk) {
        let response = desk.ask(&request.with("If-Match", "*"));
        assert!(response.status < 300, "{call}, whatever the state: {response:?}");
    }
    desk.finish();
}

#[test]
fn of_two_with_the_same_condition_one_is_too_late() {
    let desk = Desk::new();
    for round in 0..8 {
        let seen = desk.get(&path_of("eval")).field("etag").unwrap().to_owned();
        let mut clients: Vec<_> = (0..4).map(|_| desk.connect()).collect();
        for (number, client) in clients.iter_mut().enumerate() {
            let body = json!({"name": format!("by {number} in round {round}")});
            let request = desk.with_json("PATCH", &path_of("eval"), &body);
            client.send(request.with("If-Match", &seen).bytes());
        }
        let mut winner = None;
        for (number, client) in clients.iter_mut().enumerate() {
            let response = client.response_to("PATCH");
            desk.judge("PATCH", &response);
            if response.status == 200 {
                assert_eq!(winner.replace(number), None, "two have won");
            } else {
                assert_eq!((response.status, response.reason()), (412, Some("changed_meanwhile")));
            }
        }
        let name = format!("by {} in round {round}", winner.expect("one wins"));
        assert_eq!(text(&desk.token("eval")["name"]), name);
    }
    desk.finish();
}

#[test]
fn a_condition_on_a_hand_edit_not_in_force_yet_does_not_hold() {
    let desk = Desk::new();
    let seen = desk.get(TOKENS).field("etag").unwrap().to_owned();
    let edited = format!("{}\n# by hand\n", tokens::standard_file());
    desk.rig.gate.folder.replace("tokens.toml", &edited);
    let request = desk.with_json("PATCH", &path_of("eval"), &json!({"name": "x"}));
    assert_eq!(desk.ask(&request.clone().with("If-Match", &seen)).status, 412);
    assert_eq!(desk.file(), edited);
    let now = format!("\"{}\"", blake3::hash(edited.as_bytes()).to_hex());
    assert_eq!(desk.ask(&request.with("If-Match", now)).status, 200);
    desk.finish();
}
