//! The description of the admin API is true: Schemathesis reads it, makes requests of it (those that
//! fit it and those that do not) and compares what comes back.

use std::fs;
use std::os::unix::fs::OpenOptionsExt as _;
use std::process::Command;

use tempfile::TempDir;

use crate::curl::curl;
use crate::gate::faregate;
use crate::process::{Finished, RunningProcess, run};
use crate::python::installed_program;

/// A gate with an `[admin]` listener and a token file of its own.
struct AdminGate {
    process: RunningProcess,
    folder: TempDir,
    /// `HOST:PORT` of the admin listener.
    admin: String,
    key: String,
    token_id: String,
}

const SETTINGS: &str = r#"
[data]
listen = "127.0.0.1:0"

[admin]
listen = "127.0.0.1:0"
audit_log = "audit.log"

[ops]
listen = "127.0.0.1:0"

[[namespace]]
name = "default"
hosts = ["*"]
tokens = "tokens.toml"
profiles = ["ovh"]

[namespace.upstream]
endpoints = ["http://127.0.0.1:9"]
"#;

impl AdminGate {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in [("faregate.toml", SETTINGS), ("tokens.toml", "version = 1\n")] {
            let mut options = fs::OpenOptions::new();
            let file = options.write(true).create_new(true).mode(0o600);
            let file = file.open(folder.path().join(name)).unwrap();
            std::io::Write::write_all(&mut { file }, text.as_bytes()).unwrap();
        }
        let command = |arguments: &[&str]| {
            let mut command = faregate();
            command.args(arguments).arg("--config").arg(folder.path().join("faregate.toml"));
            command
        };
        let said = |arguments: &[&str]| {
            run("faregate", &mut command(arguments)).succeeded().stdout.trim_end().to_owned()
        };
        let key = said(&["admin-key", "issue", "--name", "schemathesis"]);
        said(&[
            "token",
            "issue",
            "--name",
            "there",
            "--resource",
            "*",
            "--group",
            "model-evaluation",
        ]);
        let tokens: serde_json::Value =
            serde_json::from_str(&said(&["token", "list", "--json"])).unwrap();
        let tokens = tokens.get("tokens").unwrap_or(&tokens);
        let token_id = tokens[0]["id"].as_str().unwrap().to_owned();
        let process = RunningProcess::start("faregate serve", &mut command(&["serve"]));
        let admin = process.wait_for("the address of its admin listener", |line| {
            let event: serde_json::Value = serde_json::from_str(line).ok()?;
            let it_is = event["message"] == "listening" && event["listener"] == "admin";
            it_is.then(|| event["address"].as_str().unwrap().to_owned())
        });
        Self { process, folder, admin, key, token_id }
    }

    /// Every phase of Schemathesis, with inputs that are the same each time.
    fn schemathesis(&self, further: &[&str], key_is_sent: &str) -> Finished {
        let mut command = Command::new(installed_program("schemathesis"));
        command
            .current_dir(self.folder.path())
            .args(["run", &format!("http://{}/openapi.json", self.admin), "--no-color"])
            .args(["--phases", "examples,coverage,fuzzing,stateful", "--max-examples", "15"])
            .args(["--seed", "20261124", "--generation-database", "none"])
            .args(["--generation-with-security-parameters", "false"])
            .args(["--continue-on-failure", "--no-shrink", "--warnings", "off"])
            .args(further)
            .env("SCHEMATHESIS_HOOKS", "openapi_rules")
            .env("PYTHONPATH", concat!(env!("CARGO_MANIFEST_DIR"), "/tests/e2e/python"))
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .env("TOKEN_ID", &self.token_id)
            .env("KEY_IS_SENT", key_is_sent);
        run("schemathesis", &mut command).succeeded()
    }

    fn audited(&self) -> String {
        fs::read_to_string(self.folder.path().join("audit.log")).unwrap()
    }
}

fn assert_all_was_tried(finished: &Finished) {
    let told = &finished.stdout;
    assert!(told.contains("Selected: 11/11"), "{told}");
    assert!(told.contains("Tested: 11"), "{told}");
    for phase in ["Examples", "Coverage", "Fuzzing", "Stateful"] {
        assert!(told.contains(&format!("✅ {phase}")), "{phase}: {told}");
    }
}

#[test]
fn the_document_is_valid() {
    let gate = AdminGate::start();
    let document = curl(&[&format!("http://{}/openapi.json", gate.admin)]);
    assert_eq!(document.status, 200, "{document:?}");
    let file = gate.folder.path().join("openapi.json");
    fs::write(&file, &document.body).unwrap();
    let mut validator = Command::new(installed_program("openapi-spec-validator"));
    validator.args(["--schema", "3.1", "--errors", "all"]).arg(file);
    run("openapi-spec-validator", &mut validator).succeeded();
}

#[test]
fn an_administrator_gets_what_the_document_says() {
    let gate = AdminGate::start();
    let authorization = format!("Authorization: Bearer {}", gate.key);
    // A rule of our own about what fits the schema tells values apart that only the gate can judge.
    let without = ["--exclude-checks", "positive_data_acceptance"];
    let finished =
        gate.schemathesis(&[&without[..], &["--header", &authorization]].concat(), "yes");
    assert_all_was_tried(&finished);

    let audited = gate.audited();
    for action in
        ["create_token", "update_token", "delete_token", "regenerate_token", "enable_token"]
    {
        assert!(audited.contains(&format!(r#""action":"{action}""#)), "never done: {action}");
    }
    let log = gate.process.transcript();
    assert!(!log.contains("panicked") && !log.contains(r#""level":"ERROR""#), "{log}");
    assert!(!log.contains(&gate.key) && !audited.contains(&gate.key));
}

#[test]
fn without_a_key_every_call_is_refused_as_the_document_says() {
    let gate = AdminGate::start();
    let tokens = gate.folder.path().join("tokens.toml");
    let before = fs::read_to_string(&tokens).unwrap();
    // `ignored_auth` sends wrong keys, and after ten of them the address has to wait.
    let without = ["--exclude-checks", "positive_data_acceptance,ignored_auth"];
    let finished = gate.schemathesis(&without, "no");
    assert_all_was_tried(&finished);
    assert_eq!(gate.audited(), "", "nobody sent a key, and nothing was changed");
    assert_eq!(fs::read_to_string(&tokens).unwrap(), before);
}
