//! MLServer with a scikit-learn model behind the gate, called by Triton's official client.

use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;

use tempfile::TempDir;

use crate::gate::{GateFiles, GateSettings};
use crate::process::{RunningProcess, run};
use crate::python::{installed_program, script, uvicorn_address};
use crate::recording_relay::RecordingRelay;

pub(crate) const EXPECTED: &str = "\
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
pub(crate) struct MlServer {
    /// `HOST:PORT` of REST.
    pub(crate) address: String,
    /// `HOST:PORT` of gRPC.
    pub(crate) grpc_address: String,
    _process: RunningProcess,
    _models: TempDir,
    _grpc_port: socket2::Socket,
}

impl MlServer {
    pub(crate) fn start() -> Self {
        let models = tempfile::tempdir().unwrap();
        let folder = models.path().join("models");
        let (grpc_port, grpc_address) = port_to_share();
        let mut fit = script("fit_iris.py");
        run("fit_iris.py", fit.arg(&folder).arg(grpc_address.port().to_string())).succeeded();
        let mut mlserver = Command::new(installed_program("mlserver"));
        let process = RunningProcess::start("mlserver", mlserver.arg("start").arg(&folder));
        let grpc = format!("gRPC server running on http://{grpc_address}");
        process.wait_for("its gRPC server", |line| line.contains(&grpc).then_some(()));
        // The line comes after the models were loaded.
        let address = process.wait_for("its address", uvicorn_address);
        Self {
            address,
            grpc_address: grpc_address.to_string(),
            _process: process,
            _models: models,
            _grpc_port: grpc_port,
        }
    }
}

/// A port for a server that does not tell which one it got. The socket holds it for those that
/// share it, as gRPC servers do, and takes no connections itself: it does not listen.
fn port_to_share() -> (socket2::Socket, SocketAddr) {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.set_reuse_port(true).unwrap();
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    (socket, address)
}
