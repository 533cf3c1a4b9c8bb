//! Every kind of gRPC call, by grpcio at both ends.

use crate::certificates::Authority;
use crate::gate::{GateFiles, GateSettings};
use crate::process::run;
use crate::python::{PythonServer, script};

const EXPECTED: &str = "\
unary
large messages
metadata
status, message and trailers of a failure
server streaming, one message at a time
client streaming
bidirectional streaming, turn by turn
deadlines
refusals
the connection outlives refusals
";

#[test]
fn grpc_calls_pass_unchanged_in_clear_text() {
    let server = PythonServer::start("grpc_server.py");
    let (files, everything) = GateFiles::open_to_one_token(&format!("h2c://{}", server.address));
    let other = files.issue("other", &["other"], &["model-evaluation"]);
    let gate = files.start();

    let tokens = serde_json::json!({ "everything": everything, "other": other }).to_string();
    let client =
        run("grpc_client.py", script("grpc_client.py").args([&gate.data, &tokens])).succeeded();

    assert_eq!(client.stdout, EXPECTED);
}

#[test]
fn grpc_calls_pass_unchanged_over_tls() {
    let server = PythonServer::start("grpc_server.py");
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::create(folder.path(), "authority");
    let files = GateFiles::write(&GateSettings {
        profile: "any",
        upstream: &format!("h2c://{}", server.address),
        data: &authority.sign(folder.path(), "gate").as_gate_settings(None),
        ..GateSettings::default()
    });
    let everything = files.issue("everything", &["*"], &["model-evaluation"]);
    let other = files.issue("other", &["other"], &["model-evaluation"]);
    let gate = files.start();

    let tokens = serde_json::json!({ "everything": everything, "other": other }).to_string();
    let mut client = script("grpc_client.py");
    client.args([&gate.data, &tokens]).arg(&authority.file);
    let client = run("grpc_client.py", &mut client).succeeded();

    assert_eq!(client.stdout, EXPECTED);
}
