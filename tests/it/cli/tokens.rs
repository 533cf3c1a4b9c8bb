use std::fs;

use faregate::policy::Moment;
use faregate::strict_toml::read_token_file;

use super::{Place, SETTINGS, TOKENS, assert_secret, hash_of, set_mode};

const ISSUE: [&str; 6] = ["token", "issue", "--resource", "iris*", "--group", "model-evaluation"];

fn now() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    i64::try_from(since.as_secs()).unwrap()
}

#[test]
fn the_life_of_a_token_in_a_file_with_comments() {
    let place = Place::new();
    let mut arguments = ISSUE.to_vec();
    arguments.extend([
        "--resource",
        "fraud-v2",
        "--name",
        "fraud \"team\"",
        "--label",
        "team=fraud",
    ]);
    arguments.extend(["--expires-in", "90d"]);
    let before = now();
    let issued = place.ok(&arguments);
    let after = now();
    let secret = issued.line().to_owned();
    assert_secret(&secret);
    assert!(issued.err.contains("only time"), "{}", issued.err);
    assert!(!issued.err.contains(&secret[3..]), "{}", issued.err);
    // Everything that was there is there still, to the byte.
    let text = place.tokens();
    assert!(text.starts_with(TOKENS), "{text}");
    let document = read_token_file(&text).unwrap();
    let token = document.tokens.last().unwrap();
    let id = token.id.value.clone();
    assert!(issued.err.contains(&id), "{}", issued.err);
    assert_eq!(token.hash.value, hash_of(&secret));
    assert_eq!(token.name.as_ref().unwrap().value, "fraud \"team\"");
    assert_eq!(token.labels["team"], "fraud");
    let days = 90 * 86_400;
    let Some(Moment(expires)) = token.expires_at else { panic!("it does not expire") };
    assert!((before + days..=after + days).contains(&expires));
    let resources: Vec<&str> = token.resources.iter().map(|r| r.value.as_str()).collect();
    assert_eq!(resources, ["iris*", "fraud-v2"]);

    // Listed, with its state and without a hash.
    let list = place.ok(&["token", "list"]).out;
    let states = |list: &str| -> Vec<(String, String)> {
        list.lines()
            .skip(1)
            .map(|line| {
                let mut words = line.split_whitespace().map(str::to_owned);
                (words.next().unwrap(), words.next().unwrap())
            })
            .collect()
    };
    let state = |id: &str, state: &str| (id.to_owned(), state.to_owned());
    let all = [state("batch", "active"), state("old", "expired"), state(&id, "active")];
    assert_eq!(states(&list), all);
    assert!(!list.contains('\u{1b}'), "colour, though nobody sees it");

    // It may do what was said and nothing else.
    let explain = |path: &str| {
        let arguments =
            ["explain", "--token-id", &id, "--method", "POST", "--path", path, "--json"];
        place.json(&arguments)["reason"].as_str().unwrap().to_owned()
    };
    assert_eq!(explain("/iris-v1/eval"), "allowed");
    assert_eq!(explain("/other/eval"), "resource_not_allowed");

    // A new secret; the old one for a while.
    let regenerated = place.ok(&["token", "regenerate", &id, "--grace", "24h"]);
    let new_secret = regenerated.line().to_owned();
    assert_secret(&new_secret);
    assert_ne!(new_secret, secret);
    let document = read_token_file(&place.tokens()).unwrap();
    let token = document.tokens.last().unwrap();
    assert_eq!(token.hash.value, hash_of(&new_secret));
    let previous = token.previous.as_ref().unwrap();
    assert_eq!(previous.hash.value, hash_of(&secret));
    assert!((before + 86_400..=now() + 86_400).contains(&previous.valid_until.0));
    let last = place.ok(&["token", "regenerate", &id]).line().to_owned();
    let document = read_token_file(&place.tokens()).unwrap();
    let token = document.tokens.last().unwrap();
    assert_eq!((token.hash.value.as_str(), &token.previous), (hash_of(&last).as_str(), &None));

    // Off, on, gone.
    place.ok(&["token", "disable", &id]);
    assert_eq!(explain("/iris-v1/eval"), "disabled_token");
    assert_eq!(states(&place.ok(&["token", "list"]).out)[2], state(&id, "disabled"));
    place.ok(&["token", "disable", &id]);
    place.ok(&["token", "enable", &id]);
    assert_eq!(explain("/iris-v1/eval"), "allowed");
    place.ok(&["token", "delete", &id]);
    assert_eq!(explain("/iris-v1/eval"), "unknown_token");
    assert_eq!(place.tokens(), TOKENS);
    assert!(place.fails(1, &["token", "delete", &id]).contains(&id));
}

#[test]
fn nothing_that_is_printed_holds_a_hash() {
    let place = Place::new();
    place.ok(&["token", "regenerate", "batch", "--grace", "1h"]);
    let commands: [&[&str]; 8] = [
        &["token", "list"],
        &["token", "show", "batch"],
        &["token", "disable", "batch"],
        &["token", "enable", "batch"],
        &["admin-key", "list"],
        &["admin-key", "delete", "alice"],
        &["check"],
        &["token", "delete", "batch"],
    ];
    let hashes: Vec<String> = place
        .tokens()
        .split('"')
        .filter_map(|part| part.strip_prefix("blake3:").map(str::to_owned))
        .collect();
    assert_eq!(hashes.len(), 4);
    for command in commands {
        let is_json = command[0] != "check" && command[1] != "delete";
        let mut json = command.to_vec();
        json.push("--json");
        for arguments in [Some(json).filter(|_| is_json), Some(command.to_vec())].iter().flatten() {
            let ran = place.ok(arguments);
            for hash in &hashes {
                assert!(!ran.out.contains(hash) && !ran.err.contains(hash), "{arguments:?}");
            }
        }
    }
}

#[test]
fn json_has_every_field_and_the_secret_only_where_it_is_made() {
    let place = Place::new();
    let mut arguments = ISSUE.to_vec();
    arguments.extend(["--expires-at", "2199-11-23T12:00:00+02:00", "--label", "a=b=c", "--json"]);
    let issued = place.json(&arguments);
    let secret = issued["secret"].as_str().unwrap();
    assert_secret(secret);
    let token = &issued["token"];
    assert_eq!(token["expires_at"], "2199-11-23T10:00:00Z");
    assert_eq!(token["labels"]["a"], "b=c");
    assert_eq!(token["state"], "active");
    assert_eq!(token["name"], serde_json::Value::Null);
    let id = token["id"].as_str().unwrap();
    let generation = issued["generation"].as_str().unwrap();
    assert_eq!(generation, super::blake3_hex(place.tokens().as_bytes()));

    let list = place.json(&["token", "list", "--json"]);
    assert_eq!(list["generation"], generation);
    assert_eq!(list["tokens"].as_array().unwrap().len(), 3);
    assert_eq!(&list["tokens"][2], token);
    let shown = place.json(&["token", "show", id, "--json"]);
    assert_eq!(&shown["token"], token);
    assert_eq!(shown.get("secret"), None);
    let regenerated = place.json(&["token", "regenerate", id, "--grace", "1h", "--json"]);
    assert_ne!(regenerated["secret"].as_str().unwrap(), secret);
    assert!(regenerated["token"]["previous_valid_until"].is_string());
    let disabled = place.json(&["token", "disable", id, "--json"]);
    assert_eq!(disabled["token"]["state"], "disabled");
    let deleted = place.json(&["token", "delete", id, "--json"]);
    assert_eq!(deleted["deleted"], id);
    assert_eq!(deleted["generation"], super::blake3_hex(TOKENS.as_bytes()));
}

#[test]
fn a_change_that_makes_no_sense_is_refused_and_changes_nothing() {
    let place = Place::new();
    let issue = |more: &[&'static str]| {
        let mut arguments = ISSUE.to_vec();
        arguments.extend(more);
        arguments
    };
    for (code, arguments, told) in [
        (1, issue(&["--resource", "a*b"]), "`*` may stand only at the end"),
        (1, issue(&["--resource", "../x"]), "segment"),
        (1, issue(&["--name", "two\nlines"]), "`name`"),
        (1, issue(&["--name", ""]), "`name`"),
        (1, issue(&["--label", "x=y\u{7}"]), "`labels`"),
        (2, issue(&["--label", "novalue"]), "key=value"),
        (2, issue(&["--label", "a=1", "--label", "a=2"]), "twice"),
        (2, issue(&["--expires-in", "0s"]), "expired"),
        (2, issue(&["--expires-at", "2020-01-01T00:00:00Z"]), "expired"),
        (2, issue(&["--expires-at", "2199-01-01"]), "zone"),
        (2, issue(&["--expires-in", "1d", "--expires-at", "2199-01-01T00:00:00Z"]), "cannot"),
        (1, vec!["token", "regenerate", "old"], "has expired"),
        (1, vec!["token", "regenerate", "batch", "--grace", "31d"], "30 days"),
        (1, vec!["token", "regenerate", "none"], "`none`"),
        (1, vec!["token", "enable", "none"], "`none`"),
        (1, vec!["token", "show", "none"], "`none`"),
        (1, vec!["admin-key", "issue", "--name", "alice"], "already"),
        (1, vec!["admin-key", "issue", "--name", "a\u{1b}b"], "`name`"),
        (1, vec!["admin-key", "delete", "bob"], "`bob`"),
    ] {
        let error = place.fails(code, &arguments);
        assert!(error.contains(told), "{arguments:?}: {error}");
        assert!(code == 2 || error.starts_with("error: config/tokens.toml: "), "{error}");
    }
    assert_eq!(place.tokens(), TOKENS);
}

#[test]
fn a_group_that_no_route_asks_for_is_warned_of() {
    let place = Place::new();
    let mut arguments = ISSUE.to_vec();
    arguments.extend(["--group", "model-evalution"]);
    let err = place.ok(&arguments).err;
    assert!(err.contains("warning: ") && err.contains("`model-evalution`"), "{err}");
    assert!(!place.ok(&ISSUE).err.contains("warning"));
}

#[test]
fn administrator_keys_are_made_listed_and_removed() {
    let place = Place::new();
    let issued = place.ok(&["admin-key", "issue", "--name", "bob"]);
    let key = issued.line().to_owned();
    assert!(faregate::token::Presented::new(key.as_bytes()).is_admin_key(), "{key}");
    assert!(!issued.err.contains(&key));
    assert_eq!(place.ok(&["admin-key", "list"]).out, "NAME\nalice\nbob\n");
    let document = read_token_file(&place.tokens()).unwrap();
    assert_eq!(document.admins[1].hash.value, hash_of(&key));
    let names = place.json(&["admin-key", "list", "--json"]);
    assert_eq!(names["admins"][1]["name"], "bob");
    place.ok(&["admin-key", "delete", "bob"]);
    assert_eq!(place.tokens(), TOKENS);
    let issued = place.json(&["admin-key", "issue", "--name", "bob", "--json"]);
    assert!(issued["secret"].as_str().unwrap().starts_with("fga_"));
    place.ok(&["admin-key", "delete", "--name", "bob"]);
    assert_eq!(place.tokens(), TOKENS);
}

#[test]
fn a_file_that_cannot_be_written_stays_and_its_entry_can_be_had() {
    let place = Place::new();
    set_mode(&place.path("config/tokens.toml"), 0o400);
    let error = place.fails(1, &ISSUE);
    assert!(error.contains("tokens.toml") && error.contains("--stanza"), "{error}");
    for arguments in [
        &["token", "regenerate", "batch"][..],
        &["token", "disable", "batch"],
        &["token", "delete", "batch"],
        &["admin-key", "issue", "--name", "bob"],
    ] {
        assert!(place.fails(1, arguments).contains("cannot be changed here"), "{arguments:?}");
    }
    let mut arguments = ISSUE.to_vec();
    arguments.push("--stanza");
    let ran = place.ok(&arguments);
    assert_secret(ran.line());
    let stanza = &ran.err[ran.err.find("[[token]]").unwrap()..];
    let pasted = read_token_file(&format!("{TOKENS}\n{stanza}")).unwrap();
    assert_eq!(pasted.tokens[2].hash.value, hash_of(ran.line()));
    arguments.push("--json");
    let json = place.json(&arguments);
    let pasted = format!("{TOKENS}\n{}", json["stanza"].as_str().unwrap());
    let pasted = read_token_file(&pasted).unwrap();
    assert_eq!(pasted.tokens[2].hash.value, hash_of(json["secret"].as_str().unwrap()));
    let again = place.ok(&["token", "regenerate", "batch", "--grace", "1h", "--stanza"]);
    let stanza = &again.err[again.err.find("[[token]]").unwrap()..];
    let entry = read_token_file(&format!("version = 1\n{stanza}")).unwrap().tokens.remove(0);
    assert_eq!(entry.hash.value, hash_of(again.line()));
    assert_eq!(entry.id.value, "batch");
    assert_eq!(place.tokens(), TOKENS);
    assert_eq!(fs::read_dir(place.path("config")).unwrap().count(), 2);
}

#[test]
fn an_invalid_file_is_neither_listed_nor_changed() {
    let place = Place::with(SETTINGS, &TOKENS.replace("id         = \"old\"", "id = \"batch\""));
    let before = place.tokens();
    for arguments in
        [&["token", "list"][..], &ISSUE, &["token", "disable", "batch"], &["admin-key", "list"]]
    {
        let error = place.fails(1, arguments);
        assert!(error.contains("config/tokens.toml:20: "), "{arguments:?}: {error}");
    }
    assert_eq!(place.tokens(), before);
}

#[test]
fn the_namespace_is_the_one_named_or_default_or_the_only_one() {
    let second = SETTINGS
        .split_once("[[namespace]]")
        .map(|(_, rest)| format!("\n[[namespace]]{rest}"))
        .unwrap()
        .replace("\"default\"", "\"fraud\"")
        .replace("\"*\"", "\"fraud.example\"")
        .replace("tokens.toml", "fraud.toml");
    let place = Place::with(&format!("{SETTINGS}{second}"), TOKENS);
    place.write("config/fraud.toml", "version = 1\n");
    let count = |arguments: &[&str]| place.json(arguments)["tokens"].as_array().unwrap().len();
    assert_eq!(count(&["token", "list", "--json"]), 2);
    assert_eq!(count(&["token", "list", "--json", "--namespace", "fraud"]), 0);
    let mut arguments = ISSUE.to_vec();
    arguments.extend(["--namespace", "fraud"]);
    place.ok(&arguments);
    assert_eq!(count(&["token", "list", "--json", "--namespace", "fraud"]), 1);
    assert_eq!(place.tokens(), TOKENS);

    let settings = format!("{SETTINGS}{second}").replace("\"default\"", "\"other\"");
    place.write("config/faregate.toml", &settings);
    let error = place.fails(2, &["token", "list"]);
    assert!(error.contains("`other`, `fraud`") && error.contains("--namespace"), "{error}");
    place.write("config/faregate.toml", &SETTINGS.replace("\"default\"", "\"only\""));
    assert_eq!(count(&["token", "list", "--json"]), 2);
    // By the environment, and the option before it.
    fs::rename(place.path("config"), place.path("elsewhere")).unwrap();
    assert!(place.fails(1, &["token", "list"]).contains("config/faregate.toml"));
    let mut command = place.command(&["token", "list", "--json"]);
    command.env("FAREGATE_CONFIG", "elsewhere/faregate.toml");
    assert_eq!(super::Ran::of(&mut command).code, 0);
    let mut command = place.command(&["token", "list", "--config", "none.toml"]);
    command.env("FAREGATE_CONFIG", "elsewhere/faregate.toml");
    assert!(super::Ran::of(&mut command).err.contains("none.toml"));
}
