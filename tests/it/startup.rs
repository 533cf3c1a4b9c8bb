//! What is wrong when the gate starts: it says so, names the file, and listens nowhere.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::Command;

use crate::support::certificates::Authority;
use crate::support::gate::{Ended, Folder, Gate, Namespace, Settings};
use crate::support::http1::{Client, get};
use crate::support::model_server::ModelServer;
use crate::support::tokens::{self, standard_file};

/// Files of a gate that would start.
fn good() -> Folder {
    let folder = Folder::new();
    folder.write("tokens.toml", standard_file());
    folder.write("faregate.toml", settings().toml());
    folder
}

fn settings() -> Settings {
    // Nobody is asked anything at this address.
    Settings::of(Namespace::before("http://127.0.0.1:9"))
}

fn assert_gave_up(case: &str, ended: &Ended, named: &str) {
    assert_eq!(ended.status.code(), Some(1), "{case}:\n{}", ended.said);
    assert!(ended.said.contains(named), "{case} does not name {named}:\n{}", ended.said);
    assert!(!ended.said.contains("\"listening\""), "{case}: it listened:\n{}", ended.said);
    assert!(!ended.said.contains("panicked"), "{case}:\n{}", ended.said);
    for token in tokens::STANDARD {
        let hash = tokens::hash(&tokens::secret(token.id));
        assert!(
            !ended.said.contains(&hash["blake3:".len()..]),
            "{case} quotes a hash:\n{}",
            ended.said
        );
    }
}

#[test]
fn a_token_file_that_cannot_be_used() {
    type Spoil = fn(&Folder);
    let table: [(&str, Spoil); 9] = [
        ("missing", |folder| fs::remove_file(folder.path("tokens.toml")).unwrap()),
        ("empty", |folder| folder.write("tokens.toml", "")),
        ("a folder", |folder| {
            fs::remove_file(folder.path("tokens.toml")).unwrap();
            fs::create_dir(folder.path("tokens.toml")).unwrap();
        }),
        ("a pipe", |folder| {
            fs::remove_file(folder.path("tokens.toml")).unwrap();
            assert!(
                Command::new("mkfifo").arg(folder.path("tokens.toml")).status().unwrap().success()
            );
        }),
        ("a device", |folder| {
            fs::remove_file(folder.path("tokens.toml")).unwrap();
            symlink("/dev/zero", folder.path("tokens.toml")).unwrap();
        }),
        ("a link to nothing", |folder| {
            fs::remove_file(folder.path("tokens.toml")).unwrap();
            symlink("nowhere.toml", folder.path("tokens.toml")).unwrap();
        }),
        ("a link to itself", |folder| {
            fs::remove_file(folder.path("tokens.toml")).unwrap();
            symlink("tokens.toml", folder.path("tokens.toml")).unwrap();
        }),
        ("writable by others", |folder| {
            fs::set_permissions(folder.path("tokens.toml"), fs::Permissions::from_mode(0o602))
                .unwrap();
        }),
        ("no text", |folder| folder.write("tokens.toml", b"version = 1\n# \xff\xfe\n")),
    ];
    for (case, spoil) in table {
        let folder = good();
        spoil(&folder);
        assert_gave_up(case, &Gate::fail_to_start(&folder), "tokens.toml");
    }
}

#[test]
fn all_that_is_wrong_in_a_token_file_is_said_at_once() {
    let folder = good();
    let hash = tokens::hash(&tokens::secret("eval"));
    let bad = format!(
        "version = 1\n\n[[token]]\nid = \"one two\"\nhash = \"{hash}\"\n\n[[token]]\nid = \"x\"\nhash = \"md5:00\"\n\
         resources = [\"a*b\"]\nsecret = \"fg_not-to-be-quoted\"\n\n[[token]]\nid = \"x\"\nhash = \"{hash}\"\n"
    );
    folder.write("tokens.toml", bad);
    let ended = Gate::fail_to_start(&folder);
    assert_gave_up("several", &ended, "tokens.toml");
    // One problem at least at each of these lines: the id, the hash, the pattern, the key, the id and hash again.
    for line in [4, 9, 10, 11, 14, 15] {
        let at = [format!(":{line}"), format!("line {line}")];
        assert!(
            at.iter().any(|at| ended.said.contains(at)),
            "line {line} is not named:\n{}",
            ended.said
        );
    }
    assert!(!ended.said.contains("not-to-be-quoted"), "{}", ended.said);
}

#[test]
fn settings_that_cannot_be_used() {
    let with = |change: fn(&mut Settings)| {
        let mut settings = settings();
        change(&mut settings);
        settings.toml()
    };
    let table: Vec<(&str, String, &str)> = vec![
        ("empty", String::new(), "faregate.toml"),
        ("no TOML", "[data\n".to_owned(), "faregate.toml"),
        (
            "a key nobody knows",
            with(|settings| settings.limits = "max_headres = 1\n".into()),
            "max_headres",
        ),
        (
            "a profile nobody knows",
            with(|settings| settings.namespaces[0].profiles = vec!["none".into()]),
            "none",
        ),
        (
            "a duration that is none",
            with(|settings| settings.limits = "header_timeout = \"10\"\n".into()),
            "header_timeout",
        ),
        (
            "a size that is none",
            with(|settings| settings.limits = "max_header_bytes = \"many\"\n".into()),
            "max_header_bytes",
        ),
        (
            "an endpoint that is none",
            with(|settings| settings.namespaces[0].endpoints = vec!["ftp://x".into()]),
            "endpoints",
        ),
        ("no endpoint", with(|settings| settings.namespaces[0].endpoints.clear()), "endpoints"),
        (
            "a host that is none",
            with(|settings| settings.namespaces[0].hosts = vec!["a*b".into()]),
            "hosts",
        ),
        (
            "a certificate that is missing",
            with(|settings| {
                settings.data =
                    "tls = { cert_file = \"tls.crt\", key_file = \"tls.key\" }\n".into();
            }),
            "tls.crt",
        ),
        (
            "an authority that is missing",
            with(|settings| {
                settings.namespaces[0].endpoints = vec!["https://127.0.0.1:9".into()];
                settings.namespaces[0].upstream = "ca_file = \"ca.crt\"\n".into();
            }),
            "ca.crt",
        ),
        (
            "a key of the server that is missing",
            with(|settings| {
                settings.namespaces[0].upstream =
                    "authorization = { file = \"upstream.key\" }\n".into();
            }),
            "upstream.key",
        ),
    ];
    for (case, text, named) in table {
        let folder = good();
        folder.write("faregate.toml", text);
        assert_gave_up(case, &Gate::fail_to_start(&folder), named);
    }
    let folder = good();
    fs::remove_file(folder.path("faregate.toml")).unwrap();
    assert_gave_up("missing", &Gate::fail_to_start(&folder), "faregate.toml");
}

#[test]
fn certificates_that_cannot_be_used() {
    let authority = Authority::new("authority");
    let (own, other) = (authority.sign(&["models.test"]), authority.sign(&["models.test"]));
    for (case, certificate, key, named) in [
        ("no certificate in it", "nonsense", own.key.as_str(), "tls.crt"),
        ("no key in it", own.pem.as_str(), "nonsense", "tls.key"),
        ("another key", own.pem.as_str(), other.key.as_str(), "tls."),
    ] {
        let folder = good();
        folder.write("tls.crt", certificate);
        folder.write("tls.key", key);
        let mut settings = settings();
        settings.data = "tls = { cert_file = \"tls.crt\", key_file = \"tls.key\" }\n".into();
        folder.write("faregate.toml", settings.toml());
        let ended = Gate::fail_to_start(&folder);
        assert_gave_up(case, &ended, named);
        assert!(!ended.said.contains("PRIVATE KEY"), "{}", ended.said);
    }
}

#[test]
fn an_address_that_is_taken() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for listener in ["[data]\nlisten = \"", "[ops]\nlisten = \""] {
        let folder = good();
        let free = format!("{listener}127.0.0.1:0");
        folder.write(
            "faregate.toml",
            settings().toml().replace(&free, &format!("{listener}{address}")),
        );
        let ended = Gate::fail_to_start(&folder);
        assert_eq!(ended.status.code(), Some(1), "{}", ended.said);
        assert!(ended.said.contains(&address), "{}", ended.said);
    }
}

#[test]
fn a_worker_that_cannot_start_is_a_gate_that_cannot_start() {
    // From too few descriptors for anything to enough for everything. What it must not be is a gate
    // that listens and has nobody to serve what comes.
    for most in 8..=24 {
        let ended = Gate::start_and_stop(&good(), most);
        let is_whole = !ended.said.contains("could not start");
        let code = ended.status.code();
        assert!(
            code == Some(1) || (is_whole && code == Some(0)),
            "{most}: {code:?}\n{}",
            ended.said
        );
    }
}

#[test]
fn a_file_that_others_may_read_is_a_warning() {
    let server = ModelServer::canned();
    let folder = Folder::new();
    folder.write("tokens.toml", standard_file());
    fs::set_permissions(folder.path("tokens.toml"), fs::Permissions::from_mode(0o644)).unwrap();
    folder.write("faregate.toml", Settings::of(Namespace::before(server.url())).toml());
    let gate = Gate::start(folder);
    gate.wait_for_line("a warning about the token file", |line| {
        (line.contains("\"WARN\"") && line.contains("tokens.toml")).then_some(())
    });
    assert_eq!(Client::to(gate.data).ask(&get("/score/allowed").token("eval")).status, 200);
}
