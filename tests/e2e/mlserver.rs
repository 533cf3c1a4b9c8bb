//! MLServer with a scikit-learn model behind the gate, called by Triton's official client.

use std::process::Command;

use socket2::{Domain, Socket, Type};
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
fn mlserver_is_called_over_http_by_those_who_may() {
    let mlserver = MlServer::start();
    let relay = RecordingRelay::before(&mlserver.http);
    let (files, tokens) = gate_files(&format!("http://{}", relay.address));
    let id = files.token_id("iris");
    let gate = files.start();

    let client = run_client("http", &gate.data, &tokens);

    assert_eq!(client, EXPECTED);
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

fn run_client(
    protocol: &str,
    gate: &str,
    tokens: &serde_json::Map<String, serde_json::Value>,
) -> String {
    let mut client = script("mlserver_client.py");
    client.args([protocol, gate, &serde_json::to_string(tokens).unwrap()]);
    run("mlserver_client.py", &mut client).succeeded().stdout
}

/// MLServer with the models `iris-v1`, `iris-v2` and `fraud-v1`, all of them the iris classifier.
struct MlServer {
    http: String,
    grpc: String,
    _process: RunningProcess,
    _grpc_port: Socket,
    _models: TempDir,
}

impl MlServer {
    fn start() -> Self {
        let models = tempfile::tempdir().unwrap();
        let folder = models.path().join("models");
        // MLServer does not tell which port it was given for gRPC, so one is held for it. It binds with SO_REUSEPORT,
        // and only a listening socket is given connections.
        let grpc_port = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        grpc_port.set_reuse_port(true).unwrap();
        grpc_port.bind(&"127.0.0.1:0".parse::<std::net::SocketAddr>().unwrap().into()).unwrap();
        let grpc = grpc_port.local_addr().unwrap().as_socket().unwrap();
        run("fit_iris.py", script("fit_iris.py").arg(&folder).arg(grpc.port().to_string()))
            .succeeded();
        let process = RunningProcess::start(
            "mlserver",
            Command::new(installed_program("mlserver")).arg("start").arg(&folder),
        );
        // Its line comes after the models were loaded and the gRPC server was started.
        let http = process.wait_for("its address", uvicorn_address);
        Self {
            http,
            grpc: grpc.to_string(),
            _process: process,
            _grpc_port: grpc_port,
            _models: models,
        }
    }
}
