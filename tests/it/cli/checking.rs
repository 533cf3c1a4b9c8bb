use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use super::{Place, SETTINGS, TOKENS, set_mode};
use crate::golden;

#[test]
fn right_files_are_said_to_be_right() {
    let place = Place::new();
    let ran = place.ok(&["check"]);
    assert_eq!(ran.out, "config/faregate.toml: right (1 namespace, 2 tokens, 0 warnings)\n");
    assert_eq!(ran.err, "");
    let json = place.json(&["check", "--json"]);
    assert_eq!(json, serde_json::json!({ "ok": true, "findings": [] }));
}

#[test]
fn all_problems_of_all_files_are_told_at_once() {
    let second = "\n[[namespace]]\nname = \"fraud\"\nhosts = [\"fraud.example\"]\n\
                  tokens = \"none.toml\"\nprofiles = [\"any\"]\n\
                  [namespace.upstream]\nendpoints = [\"https://127.0.0.1:9\"]\nca_file = \"ca.crt\"\n\
                  client_cert_file = \"gate.crt\"\nclient_key_file = \"gate.key\"\n";
    let data = "[data]\ntls = { cert_file = \"tls.crt\", key_file = \"tls.key\" }\n";
    let settings = format!("{SETTINGS}{second}").replace("[data]\n", data);
    let tokens = TOKENS
        .replace("\"iris*\"", "\"iris*\", \"a*b\", \"..\"")
        .replace("expires_at = 2020-01-01T00:00:00Z", "expires_at = \"tomorrow\"\nfoo = 1")
        .replace("groups    = [\"model-evaluation\"]", "groups    = [\"no-such-group\"]")
        .replace("00c3\"", "00b2\"");
    let place = Place::with(&settings, &tokens);
    place.write("config/tls.crt", "no certificate");
    place.write("config/gate.crt", "-----BEGIN CERTIFICATE-----\n");
    place.write("config/gate.key", "-----BEGIN PRIVATE KEY-----\n");
    set_mode(&place.path("config/gate.key"), 0o644);
    set_mode(&place.path("config/tokens.toml"), 0o644);
    let told = place.fails(1, &["check"]);
    golden::check("check_bad_files.txt", &told);
    let json = place.run(&["check", "--json"]);
    assert_eq!(json.code, 1);
    let json: serde_json::Value = serde_json::from_str(&json.out).unwrap();
    assert_eq!(json["ok"], false);
    let findings = json["findings"].as_array().unwrap();
    assert_eq!(findings.len() + 1, told.lines().count());
    for (finding, line) in findings.iter().zip(told.lines()) {
        let file = finding["file"].as_str().unwrap();
        let place = match finding["line"].as_u64() {
            Some(number) => format!("{file}:{number}: "),
            None => format!("{file}: "),
        };
        assert!(line.starts_with(&place), "{line}");
        assert_eq!(line.contains(" warning: "), finding["severity"] == "warning", "{line}");
    }
}

#[test]
fn wrong_settings_do_not_hide_what_is_wrong_in_token_files() {
    let settings = SETTINGS.replace("profiles = [\"ovh\"]", "profiles = [\"ohv\"]\nfoo = 1");
    let place = Place::with(&settings, &TOKENS.replace("\"iris*\"", "\"a*b\""));
    let told = place.fails(1, &["check"]);
    golden::check("check_bad_settings.txt", &told);
}

#[test]
fn warnings_alone_are_no_failure() {
    let place = Place::with(SETTINGS, &TOKENS.replace("model-management", "no-such-group"));
    let ran = place.ok(&["check"]);
    assert!(ran.out.contains("1 warning)"), "{}", ran.out);
    let line = ran.err.lines().next().unwrap();
    assert!(line.starts_with("config/tokens.toml:22: warning: "), "{line}");
    // What everybody may write is no warning.
    set_mode(&place.path("config/tokens.toml"), 0o666);
    assert!(place.fails(1, &["check"]).contains("chmod o-w"));
}

#[test]
fn nothing_wrong_is_told_with_a_secret_in_it() {
    let secret = "sk-live-4242";
    let tokens = TOKENS
        .replace("blake3:00000000000000000000000000000000000000000000000000000000000000b2", secret)
        .replace("# --- tokens ---", "[token_of_mine]\nvalue = \"sk-live-4242\"");
    let place = Place::with(SETTINGS, &tokens);
    let told = place.fails(1, &["check"]);
    assert!(told.contains("tokens.toml:9: ") && told.contains("tokens.toml:18: "), "{told}");
    assert!(!told.contains(secret), "{told}");
}

#[test]
fn init_writes_files_that_are_right_and_overwrites_none() {
    let place = Place::empty();
    let ran = place.ok(&["init"]);
    let key = ran.line().to_owned();
    assert!(faregate::token::Presented::new(key.as_bytes()).is_admin_key(), "{key}");
    assert!(!ran.err.contains(&key));
    let mode = |name| fs::metadata(place.path(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode("config/tokens.toml"), 0o600);
    assert!(place.tokens().contains(&super::hash_of(&key)));
    assert!(!place.tokens().contains(&key));
    let checked = place.ok(&["check"]);
    assert_eq!((checked.out.contains("0 warnings"), checked.err.as_str()), (true, ""));
    assert_eq!(place.ok(&["admin-key", "list"]).out, "NAME\nadmin\n");
    let secret =
        place.ok(&["token", "issue", "--resource", "iris*", "--group", "model-evaluation"]);
    super::assert_secret(secret.line());

    let before = place.tokens();
    assert!(place.fails(1, &["init"]).contains("there already"));
    assert_eq!(place.tokens(), before);
    fs::remove_file(place.path("config/faregate.toml")).unwrap();
    assert!(place.fails(1, &["init"]).contains("tokens.toml"));
    assert!(!place.path("config/faregate.toml").exists());

    let other = place.ok(&["init", "--dir", "a/b"]);
    assert_ne!(other.line(), key);
    assert!(other.err.contains("--config a/b/faregate.toml"), "{}", other.err);
    place.ok(&["check", "--config", "a/b/faregate.toml"]);
    // A folder that cannot be made.
    assert!(place.fails(1, &["init", "--dir", "a/b/tokens.toml/c"]).contains("a/b/tokens.toml/c"));
}
