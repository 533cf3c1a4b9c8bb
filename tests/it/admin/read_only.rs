//! Stores that cannot be written: the answer is what to paste, and nothing pretends to be saved.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use serde_json::{Value, json};

use super::desk::{Desk, TOKENS, new_token, path_of, text};
use crate::support::gate::{Folder, Gate};
use crate::support::http1::Response;
use crate::support::tokens;

/// A store that cannot be written: its files, and what the person does with a new file.
struct Store {
    case: &'static str,
    folder: Folder,
    publish: fn(&Gate, &str),
}

/// A version of a volume as Kubernetes lays it, and the link that makes it count.
fn lay(folder: &Folder, version: &str, text: &str) {
    fs::create_dir(folder.path(version)).unwrap();
    folder.write(&format!("{version}/tokens.toml"), text);
    symlink(version, folder.path("..data_tmp")).unwrap();
    fs::rename(folder.path("..data_tmp"), folder.path("..data")).unwrap();
}

fn stores() -> Vec<Store> {
    let protected = Folder::new();
    protected.write("tokens.toml", tokens::standard_file());
    fs::set_permissions(protected.path("tokens.toml"), fs::Permissions::from_mode(0o444)).unwrap();
    let volume = Folder::new();
    lay(&volume, "..2026_11_23_10_00_00.1", &tokens::standard_file());
    symlink("..data/tokens.toml", volume.path("tokens.toml")).unwrap();
    vec![
        Store {
            case: "a file that nobody may write",
            folder: protected,
            publish: |gate, text| {
                gate.folder.replace("tokens.toml", text);
                let mode = fs::Permissions::from_mode(0o444);
                fs::set_permissions(gate.folder.path("tokens.toml"), mode).unwrap();
            },
        },
        Store {
            case: "a volume of Kubernetes",
            folder: volume,
            publish: |gate, text| {
                let now = fs::read_link(gate.folder.path("..data")).unwrap();
                lay(&gate.folder, &format!("{}1", now.display()), text);
            },
        },
    ]
}

/// The stanza and the secret of an answer that says that nothing was saved.
fn told(case: &str, response: &Response) -> (String, Option<String>) {
    assert_eq!(
        (response.status, response.reason()),
        (409, Some("read_only_store")),
        "{case}: {response:?}"
    );
    let body = response.json();
    (text(&body["stanza"]), body["secret"].as_str().map(str::to_owned))
}

/// Everything in a folder, so that a file that was left there is seen.
fn listing(folder: &Folder) -> Vec<String> {
    let entries = fs::read_dir(folder.path("")).unwrap();
    let mut names: Vec<_> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort_unstable();
    names
}

#[test]
fn a_new_token_is_a_stanza_to_paste_and_its_secret() {
    for Store { case, folder, publish } in stores() {
        let desk = Desk::in_folder(folder, |_| {});
        let before = listing(&desk.rig.gate.folder);
        let namespaces = desk.get("/api/v1/namespaces").json();
        assert_eq!(namespaces["namespaces"][0]["writable"], false, "{case}");
        assert!(!text(&namespaces["namespaces"][0]["read_only_reason"]).is_empty(), "{case}");
        let name = "fraud \"team\" \\ [[token]] 虹膜";
        let asked = json!({
            "name": name,
            "resources": ["allowed", "pre-*"],
            "groups": ["model-evaluation"],
            "expires_in": "90d",
            "limits": {"max_in_flight": 3},
            "labels": {"cost centre": "4711 = \"x\""},
        });
        let (stanza, secret) = told(case, &desk.post(TOKENS, &asked));
        let secret = secret.unwrap();
        assert_eq!(desk.file(), tokens::standard_file(), "{case}");
        assert_eq!(listing(&desk.rig.gate.folder), before, "{case}: a file was left");
        assert_eq!(desk.status_with(&secret), 401, "{case}: nothing pretends to be saved");
        assert_eq!(desk.get(TOKENS).json()["total"], tokens::STANDARD.len() + 1, "{case}");
        // Pasted as it is.
        let file = format!("{}\n{stanza}", desk.file());
        publish(&desk.rig.gate, &file);
        desk.rig.gate.wait_for_policy("default", &file);
        assert_eq!(desk.status_with(&secret), 200, "{case}");
        let found = desk.get(&format!("{TOKENS}?q=fraud+%22team")).json();
        assert_eq!(found["total"], 1, "{case}");
        for member in ["name", "resources", "groups", "limits", "labels"] {
            assert_eq!(found["tokens"][0][member], asked[member], "{case}: {member}");
        }
        desk.finish();
    }
}

#[test]
fn a_new_secret_is_a_stanza_in_the_place_of_the_old_one() {
    for Store { case, folder, publish } in stores() {
        let mut desk = Desk::in_folder(folder, |_| {});
        desk.rig.keep_secret(&tokens::secret("eval"));
        let path = path_of("eval");
        let answer = desk.post(&format!("{path}/regenerate"), &json!({"grace_period": "24h"}));
        let (stanza, secret) = told(case, &answer);
        let secret = secret.unwrap();
        assert_eq!(desk.status_with(&secret), 401, "{case}");
        // The stanza has the hash of the old secret as well, for its grace.
        let whole = desk.file();
        let start = whole.find("[[token]]\nid = \"eval\"").unwrap();
        let end = whole[start + 1..].find("[[token]]").unwrap() + start + 1;
        let file = format!("{}{}\n{}", &whole[..start], stanza.trim_end(), &whole[end..]);
        publish(&desk.rig.gate, &file);
        desk.rig.gate.wait_for_policy("default", &file);
        for works in [&secret, &tokens::secret("eval"), &tokens::secret("all")] {
            assert_eq!(desk.status_with(works), 200, "{case}");
        }
        assert!(desk.token("eval")["previous_valid_until"].is_string(), "{case}");
        desk.finish();
    }
}

#[test]
fn every_other_change_is_refused_too_and_wrong_requests_as_ever() {
    for Store { case, folder, .. } in stores() {
        let desk = Desk::in_folder(folder, |_| {});
        let path = path_of("eval");
        for (what, response) in [
            ("patch", desk.patch(&path, &json!({"name": "x"}))),
            ("disable", desk.post(&format!("{path}/disable"), &json!({}))),
            ("enable", desk.post(&format!("{}/enable", path_of("disabled")), &json!({}))),
        ] {
            let (stanza, secret) = told(&format!("{case}: {what}"), &response);
            assert!(stanza.contains("[[token]]"), "{case}: {what}: {stanza}");
            assert_eq!(secret, None, "{case}: {what}");
        }
        let response = desk.delete(&path);
        assert_eq!((response.status, response.reason()), (409, Some("read_only_store")), "{case}");
        assert_eq!(response.json()["secret"], Value::Null, "{case}");
        assert_eq!(desk.patch(&path_of("nobody"), &json!({"name": "x"})).status, 404, "{case}");
        assert_eq!(desk.post(TOKENS, &json!({"resources": ["a"]})).status, 422, "{case}");
        let expired = desk.post(&format!("{}/regenerate", path_of("expired")), &json!({}));
        assert_eq!((expired.status, expired.reason()), (409, Some("expired_token")), "{case}");
        assert_eq!(desk.file(), tokens::standard_file(), "{case}");
        assert_eq!(desk.status_with(&tokens::secret("eval")), 200, "{case}");
        assert_eq!(desk.status_with(&tokens::secret("disabled")), 401, "{case}");
        desk.finish();
    }
}

#[test]
fn asked_again_it_is_the_same_stanza_and_the_same_secret() {
    for Store { case, folder, .. } in stores() {
        let desk = Desk::in_folder(folder, |_| {});
        let request =
            desk.with_json("POST", TOKENS, &new_token("once")).with("Idempotency-Key", "k");
        let first = told(case, &desk.ask(&request));
        assert_eq!(told(case, &desk.ask(&request)), first, "{case}");
        let other = desk.with_json("POST", TOKENS, &new_token("once"));
        assert_ne!(told(case, &desk.ask(&other)).1, first.1, "{case}");
        desk.finish();
    }
}

#[test]
fn a_store_that_can_be_written_again_is() {
    let folder = stores().remove(0).folder;
    let desk = Desk::in_folder(folder, |_| {});
    assert_eq!(desk.post(TOKENS, &new_token("x")).status, 409);
    let mode = fs::Permissions::from_mode(0o640);
    fs::set_permissions(desk.rig.gate.folder.path("tokens.toml"), mode).unwrap();
    let (_, secret) = desk.create(&new_token("x"));
    assert_eq!(desk.status_with(&secret), 200);
    let metadata = fs::metadata(desk.rig.gate.folder.path("tokens.toml")).unwrap();
    assert_eq!(metadata.permissions().mode() & 0o777, 0o640, "the old mode stays");
    desk.finish();
}

#[test]
fn when_writing_fails_no_secret_is_told_and_nothing_is_changed() {
    let desk = Desk::new();
    // Where the lock belongs, there is something that cannot be locked.
    fs::create_dir(desk.rig.gate.folder.path("tokens.toml.lock")).unwrap();
    let path = path_of("eval");
    for response in [
        desk.post(TOKENS, &new_token("x")),
        desk.post(&format!("{path}/regenerate"), &json!({})),
        desk.patch(&path, &json!({"name": "x"})),
        desk.delete(&path),
    ] {
        assert_eq!(
            (response.status, response.reason()),
            (500, Some("write_failed")),
            "{response:?}"
        );
        assert_eq!(response.json()["secret"], Value::Null);
    }
    assert_eq!(desk.file(), tokens::standard_file());
    assert_eq!(desk.status_with(&tokens::secret("eval")), 200);
    fs::remove_dir(desk.rig.gate.folder.path("tokens.toml.lock")).unwrap();
    let (_, secret) = desk.create(&new_token("x"));
    assert_eq!(desk.status_with(&secret), 200);
    desk.finish();
}
