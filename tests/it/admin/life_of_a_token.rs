//! A token from its making to its end: what an answer says is in force on every worker when the answer is there.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::desk::{Desk, TOKENS, new_token, path_of, text};
use crate::support::eventually;
use crate::support::http1::{Client, get};
use crate::support::tokens;

/// So many connections that every worker has some of them: the system deals them out by their ports.
const CONNECTIONS: usize = 24;

/// Connections that were opened, and used, before anything was changed.
struct Callers(Vec<Client>);

impl Callers {
    fn of(desk: &Desk) -> Self {
        let mut clients: Vec<Client> = (0..CONNECTIONS).map(|_| desk.rig.connect()).collect();
        for client in &mut clients {
            assert_eq!(client.ask(&get("/open")).status, 200);
        }
        Self(clients)
    }

    /// Every one of them, and as many new ones, get this status and reason with the secret.
    fn all_get(&mut self, desk: &Desk, secret: &str, status: u16, reason: Option<&str>) {
        let request = get("/score/allowed").bearer(secret);
        for (number, client) in self.0.iter_mut().enumerate() {
            let response = client.ask(&request);
            assert_eq!((response.status, response.reason()), (status, reason), "kept, {number}");
        }
        for number in 0..CONNECTIONS {
            let response = desk.rig.ask(&request);
            assert_eq!((response.status, response.reason()), (status, reason), "new, {number}");
        }
    }
}

const REFUSED: Option<&str> = Some("invalid_token");

#[test]
fn each_change_is_in_force_on_every_worker_when_it_is_answered() {
    let desk = Desk::new();
    let mut callers = Callers::of(&desk);
    let (id, first) = desk.create(&new_token("all its life"));
    callers.all_get(&desk, &first, 200, None);
    let path = path_of(&id);

    assert_eq!(desk.post(&format!("{path}/disable"), &json!({})).status, 200);
    callers.all_get(&desk, &first, 401, REFUSED);
    assert_eq!(desk.post(&format!("{path}/enable"), &json!({})).status, 200);
    callers.all_get(&desk, &first, 200, None);

    assert_eq!(desk.patch(&path, &json!({"resources": ["pre-*"]})).status, 200);
    callers.all_get(&desk, &first, 403, Some("resource_not_allowed"));
    assert_eq!(desk.patch(&path, &json!({"resources": ["a*"]})).status, 200);
    callers.all_get(&desk, &first, 200, None);
    assert_eq!(desk.patch(&path, &json!({"groups": ["model-management"]})).status, 200);
    callers.all_get(&desk, &first, 403, Some("group_not_allowed"));
    assert_eq!(desk.patch(&path, &json!({"groups": ["model-evaluation"]})).status, 200);
    callers.all_get(&desk, &first, 200, None);

    let second = desk.regenerate(&id, &json!({}));
    callers.all_get(&desk, &first, 401, REFUSED);
    callers.all_get(&desk, &second, 200, None);

    let third = desk.regenerate(&id, &json!({"grace_period": "24h"}));
    callers.all_get(&desk, &second, 200, None);
    callers.all_get(&desk, &third, 200, None);
    // Only the last secret but one has a grace.
    let fourth = desk.regenerate(&id, &json!({"grace_period": "24h"}));
    callers.all_get(&desk, &second, 401, REFUSED);
    callers.all_get(&desk, &third, 200, None);
    callers.all_get(&desk, &fourth, 200, None);
    let fifth = desk.regenerate(&id, &json!({"grace_period": "0s"}));
    for ended in [&first, &second, &third, &fourth] {
        callers.all_get(&desk, ended, 401, REFUSED);
    }
    callers.all_get(&desk, &fifth, 200, None);

    assert_eq!(desk.patch(&path, &json!({"disabled": true})).status, 200);
    callers.all_get(&desk, &fifth, 401, REFUSED);
    assert_eq!(desk.patch(&path, &json!({"disabled": false})).status, 200);
    callers.all_get(&desk, &fifth, 200, None);
    assert_eq!(desk.patch(&path, &json!({"expires_at": "2020-01-01T00:00:00Z"})).status, 200);
    callers.all_get(&desk, &fifth, 401, REFUSED);
    assert_eq!(desk.patch(&path, &json!({"expires_at": null})).status, 200);
    callers.all_get(&desk, &fifth, 200, None);

    assert_eq!(desk.delete(&path).status, 204);
    callers.all_get(&desk, &fifth, 401, REFUSED);
    assert_eq!(desk.get(&path).status, 404);
    assert_eq!(desk.delete(&path).status, 404);
    assert_eq!(
        desk.file(),
        tokens::standard_file(),
        "nothing of it is left, and nothing else is touched"
    );
    desk.finish();
}

#[test]
fn a_grace_ends_by_itself() {
    let desk = Desk::new();
    let (id, old) = desk.create(&new_token("short grace"));
    let new = desk.regenerate(&id, &json!({"grace_period": "2s"}));
    eventually("the old secret stops", || (desk.status_with(&old) == 401).then_some(()));
    assert_eq!(desk.status_with(&new), 200);
    assert_eq!(desk.token(&id)["previous_valid_until"], Value::Null);
    desk.finish();
}

#[test]
fn a_new_token_is_answered_as_it_was_made() {
    let desk = Desk::new();
    let asked = json!({
        "name": "fraud team, batch scoring",
        "resources": ["allowed", "pre-*", "org/name"],
        "groups": ["model-evaluation", "model-management"],
        "expires_in": "90d",
        "limits": {"requests_per_second": 50, "burst": 100, "max_in_flight": 8},
        "labels": {"team": "fraud", "": ""},
    });
    let refused = desk.post(TOKENS, &asked);
    assert_eq!((refused.status, &refused.json()["field"]), (422, &json!("labels")));
    let mut asked = asked;
    asked["labels"] = json!({"team": "fraud", "cost centre": "4711"});
    let began = Timestamp::now().as_second();
    let response = desk.post(TOKENS, &asked);
    assert_eq!(response.status, 201, "{response:?}");
    let body = response.json();
    let token = &body["token"];
    for member in ["name", "resources", "groups", "limits", "labels"] {
        assert_eq!(token[member], asked[member], "{member}");
    }
    let id = text(&token["id"]);
    assert!(id.len() == 15 && id.starts_with("tk_"), "{id}");
    let time = |member: &str| text(&token[member]).parse::<Timestamp>().unwrap().as_second();
    assert!((began..=Timestamp::now().as_second()).contains(&time("created_at")), "{token}");
    assert_eq!(time("expires_at") - time("created_at"), 90 * 24 * 60 * 60);
    assert_eq!(token["state"], "active");
    assert_eq!(token["disabled"], false);
    for member in ["requests", "denied"] {
        assert_eq!(token[member], 0, "{member}");
    }
    for member in ["previous_valid_until", "last_used_at", "previous_last_used_at"] {
        assert_eq!(token[member], Value::Null, "{member}");
    }
    let mut members: Vec<&String> = token.as_object().unwrap().keys().collect();
    members.sort_unstable();
    assert_eq!(
        members,
        [
            "created_at",
            "denied",
            "disabled",
            "expires_at",
            "groups",
            "id",
            "labels",
            "last_used_at",
            "limits",
            "name",
            "previous_last_used_at",
            "previous_valid_until",
            "requests",
            "resources",
            "state",
        ]
    );
    let secret = text(&body["secret"]);
    assert!(secret.starts_with("fg_") && secret.len() == 52, "{} characters", secret.len());
    assert!(faregate::token::Presented::new(secret.as_bytes()).is_well_formed());
    assert_eq!(response.field("location"), Some(&*path_of(&id)));
    let found = desk.get(response.field("location").unwrap());
    assert_eq!(found.json()["token"], *token);
    assert_eq!(found.json()["secret"], Value::Null);
    // The smallest one.
    let response = desk.post(TOKENS, &json!({"resources": ["*"], "groups": ["model-evaluation"]}));
    let token = &response.json()["token"];
    assert_eq!(token["name"], Value::Null);
    assert_eq!(token["expires_at"], Value::Null);
    assert_eq!(token["limits"], Value::Null);
    assert_eq!(token["labels"], json!({}));
    assert_eq!(response.json()["warnings"], Value::Null);
    desk.finish();
}

#[test]
fn what_is_odd_and_not_wrong_is_told() {
    let desk = Desk::new();
    let mut asked = new_token("odd");
    asked["groups"] = json!(["model-evaluation", "no-route-asks-for-this"]);
    let response = desk.post(TOKENS, &asked);
    assert_eq!(response.status, 201, "{response:?}");
    let warnings = response.json()["warnings"].clone();
    assert_eq!(warnings.as_array().map(Vec::len), Some(1), "{warnings}");
    assert!(text(&warnings[0]).contains("no-route-asks-for-this"), "{warnings}");
    desk.finish();
}

#[test]
fn a_patch_changes_what_it_names_and_nothing_else() {
    let desk = Desk::new();
    let full = json!({
        "name": "before",
        "resources": ["allowed", "pre-*"],
        "groups": ["model-evaluation"],
        "expires_at": "2199-01-01T00:00:00Z",
        "limits": {"requests_per_second": 5, "burst": 7, "max_in_flight": 3},
        "labels": {"team": "fraud"},
    });
    #[rustfmt::skip]
    let table: [(Value, Value); 20] = [
        (json!({}), json!({})),
        (json!({"name": "after"}), json!({"name": "after"})),
        (json!({"name": null}), json!({"name": null})),
        (json!({"resources": ["*"]}), json!({"resources": ["*"]})),
        (json!({"resources": []}), json!({"resources": []})),
        (json!({"groups": ["model-management"]}), json!({"groups": ["model-management"]})),
        (json!({"groups": []}), json!({"groups": []})),
        (json!({"expires_at": null}), json!({"expires_at": null})),
        (json!({"expires_at": "2198-06-01T12:00:00+02:00"}), json!({"expires_at": "2198-06-01T10:00:00Z"})),
        (json!({"expires_at": "2020-01-01T00:00:00Z"}), json!({"expires_at": "2020-01-01T00:00:00Z", "state": "expired"})),
        (json!({"limits": null}), json!({"limits": null})),
        (json!({"limits": {}}), json!({"limits": null})),
        (json!({"limits": {"max_in_flight": 9}}), json!({"limits": {"max_in_flight": 9}})),
        (json!({"limits": {"max_in_flight": 9, "burst": null}}), json!({"limits": {"max_in_flight": 9}})),
        (json!({"labels": null}), json!({"labels": {}})),
        (json!({"labels": {}}), json!({"labels": {}})),
        (json!({"labels": {"owner": "bob"}}), json!({"labels": {"owner": "bob"}})),
        (json!({"disabled": true}), json!({"disabled": true, "state": "disabled"})),
        (json!({"disabled": false}), json!({})),
        (json!({"name": "both", "disabled": true}), json!({"name": "both", "disabled": true, "state": "disabled"})),
    ];
    for (patch, changed) in table {
        let (id, secret) = desk.create(&full);
        let mut expected = desk.token(&id);
        for (member, value) in changed.as_object().unwrap() {
            expected[member] = value.clone();
        }
        let file = desk.file();
        let response = desk.patch(&path_of(&id), &patch);
        assert_eq!(response.status, 200, "{patch}: {response:?}");
        assert_eq!(response.json()["token"], expected, "{patch}");
        assert_eq!(response.json()["secret"], Value::Null, "{patch}");
        assert_eq!(desk.token(&id), expected, "{patch}, asked again");
        assert_eq!(desk.file() == file, changed == json!({}), "{patch}: the file");
        // The secret stays, whatever became of the token.
        desk.patch(&path_of(&id), &json!({"resources": ["allowed"], "groups": ["model-evaluation"], "expires_at": null, "disabled": false, "limits": null}));
        assert_eq!(desk.status_with(&secret), 200, "{patch}");
    }
    desk.finish();
}

#[test]
fn a_token_without_resources_or_groups_may_do_nothing() {
    let desk = Desk::new();
    let (id, secret) = desk.create(&new_token("shrinking"));
    assert_eq!(desk.patch(&path_of(&id), &json!({"resources": []})).status, 200);
    assert_eq!(desk.status_with(&secret), 403);
    assert_eq!(desk.patch(&path_of(&id), &json!({"resources": ["*"], "groups": []})).status, 200);
    assert_eq!(desk.status_with(&secret), 403);
    desk.finish();
}

#[test]
fn an_expired_token_gets_no_new_secret() {
    let desk = Desk::new();
    let path = path_of("expired");
    let before = desk.file();
    for body in [json!({}), json!({"grace_period": "24h"})] {
        let response = desk.post(&format!("{path}/regenerate"), &body);
        assert_eq!((response.status, response.reason()), (409, Some("expired_token")));
        assert_eq!(response.json()["secret"], Value::Null);
    }
    assert_eq!(desk.file(), before);
    // To enable it does not bring it back.
    let response = desk.post(&format!("{path}/enable"), &json!({}));
    assert_eq!((response.status, &response.json()["token"]["state"]), (200, &json!("expired")));
    assert_eq!(desk.status_with(&tokens::secret("expired")), 401);
    assert_eq!(desk.patch(&path, &json!({"expires_at": "2199-01-01T00:00:00Z"})).status, 200);
    let secret = desk.regenerate("expired", &json!({"grace_period": "30d"}));
    assert_eq!(desk.status_with(&secret), 200);
    // A regeneration never makes it last longer.
    assert_eq!(desk.token("expired")["expires_at"], "2199-01-01T00:00:00Z");
    desk.finish();
}

#[test]
fn an_old_secret_never_outlives_its_token() {
    let desk = Desk::new();
    let (id, old) = desk.create(&new_token("ends in its grace"));
    let new = desk.regenerate(&id, &json!({"grace_period": "30d"}));
    let until = text(&desk.token(&id)["previous_valid_until"]).parse::<Timestamp>().unwrap();
    let left = until.as_second() - Timestamp::now().as_second();
    assert!((30 * 86_400 - 300..=30 * 86_400).contains(&left), "{left} s");
    for end in [
        json!({"disabled": true}),
        json!({"expires_at": "2020-01-01T00:00:00Z", "disabled": false}),
    ] {
        assert_eq!(desk.patch(&path_of(&id), &end).status, 200);
        for secret in [&old, &new] {
            assert_eq!(desk.status_with(secret), 401, "{end}");
        }
    }
    assert_eq!(desk.delete(&path_of(&id)).status, 204);
    for secret in [&old, &new] {
        assert_eq!(desk.status_with(secret), 401);
    }
    desk.finish();
}

#[test]
fn calls_without_a_body_take_none_or_an_empty_object() {
    let desk = Desk::new();
    let (id, _) = desk.create(&new_token("called"));
    for call in ["disable", "enable", "regenerate"] {
        let path = format!("{}/{call}", path_of(&id));
        let ask = || desk.request("POST", &path);
        let json = || ask().with("Content-Type", "application/json");
        #[rustfmt::skip]
        let table = [
            ("nothing", ask(), 200),
            ("nothing of a length", ask().body(""), 200),
            ("nothing of a type", json(), 200),
            ("an empty object", json().body("{}"), 200),
            ("a blank", json().body(" "), 400),
            ("null", json().body("null"), 400),
            ("a list", json().body("[]"), 400),
            ("an object that says more", json().body("{\"disabled\": true}"), 422),
            ("an object of no type", ask().body("{}"), 415),
        ];
        for (case, request, expected) in table {
            assert_eq!(desk.ask(&request).status, expected, "{call}: {case}");
        }
    }
    desk.finish();
}
