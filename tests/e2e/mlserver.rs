//! MLServer with a scikit-learn model behind the gate, called by Triton's official client.

use std::process::Command;

use tempfile::TempDir;

use crate::gate::{GateFiles, GateSettings};
use crate::process::{RunningProcess, run};
use crate::python::{installed_program, script, uvicorn_address};
use crate::recording_relay::RecordingRelay;

const EXPECTED: &str = "\
inference
metadata
no token
other resource
health without a token
unload refused
unload and load
a manager does not infer
";

#[test]
fn mlserver_is_called_by_those_who_may() {
    let mlserver = MlServer::start();
    let relay = RecordingRelay::before(&mlserver.address);
    let (files, tokens) = gate_files(&format!("http://{}", relay.address));
    let id = files.token_id("iris");
    let gate = files.start();

    let mut client = script("mlserver_client.py");
    client.args([&gate.data, &serde_json::to_string(&tokens).unwrap()]);
    let client = run("mlserver_client.py", &mut client).succeeded();

    assert_eq!(client.stdout, EXPECTED);
    let received = String::from_utf8(relay.received()).unwrap().to_ascii_lowercase();
    assert_eq!(
        received.matches("post /v2/models/iris-v1/infer ").count(),
        1,
        "the one call that was allowed"
    );
    assert!(
        received.contains(&format!("x-credential-identifier: {}\r\n", id.to_ascii_lowercase()))
    );
    relay.assert_never_received("fraud-v1");
    relay.assert_never_received("authorization");
    for secret in tokens.values() {
        relay.assert_never_received(secret.as_str().unwrap());
        assert!(
            !gate.process.transcript().contains(secret.as_str().unwrap()),
            "a secret in the gate's log"
        );
    }
}

fn gate_files(upstream: &str) -> (GateFiles, serde_json::Map<String, serde_json::Value>) {
    let files = GateFiles::write(&GateSettings {
        profile: "kserve-v2",
        upstream,
        ..GateSettings::default()
    });
    let tokens = [
        ("iris", files.issue("iris", &["iris*"], &["model-evaluation"])),
        ("other", files.issue("other", &["other"], &["model-evaluation"])),
        ("manager", files.issue("manager", &["iris*"], &["model-management"])),
    ];
    (files, tokens.into_iter().map(|(name, secret)| (name.to_owned(), secret.into())).collect())
}

/// MLServer with the models `iris-v1`, `iris-v2` and `fraud-v1`, all of them the iris classifier.
struct MlServer {
    address: String,
    _process: RunningProcess,
    _models: TempDir,
}

impl MlServer {
    fn start() -> Self {
        let models = tempfile::tempdir().unwrap();
        let folder = models.path().join("models");
        run("fit_iris.py", script("fit_iris.py").arg(&folder)).succeeded();
        let mut mlserver = Command::new(installed_program("mlserver"));
        let process = RunningProcess::start("mlserver", mlserver.arg("start").arg(&folder));
        // The line comes after the models were loaded.
        let address = process.wait_for("its address", uvicorn_address);
        Self { address, _process: process, _models: models }
    }
}
