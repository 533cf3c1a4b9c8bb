//! MLServer by gRPC behind the gate, as the guide for it sets both up: REST and gRPC have a port each
//! there, and a host each at the gate.

use std::collections::BTreeMap;

use crate::gate::GateFiles;
use crate::mlserver::MlServer;
use crate::process::run;
use crate::python::script;
use crate::recording_relay::RecordingRelay;

const BY_TRITONS_CLIENT: &str = "\
the server without a token
ModelInfer
ModelReady and ModelMetadata
RepositoryIndex
RepositoryModelLoad and RepositoryModelUnload
";

const BY_MLSERVERS_MESSAGES: &str = "\
ModelStreamInfer
ModelStreamInfer refused
the other name of the repository
";

#[test]
fn mlserver_is_called_by_grpc_by_those_who_may() {
    let mlserver = MlServer::start();
    let rest = RecordingRelay::before(&mlserver.address);
    let grpc = RecordingRelay::before(&mlserver.grpc_address);
    let files = GateFiles::of_guide(
        "mlserver",
        &[("127.0.0.1:8000", &rest.address), ("127.0.0.1:8001", &grpc.address)],
    );
    let tokens: BTreeMap<&str, String> = [
        ("iris", files.issue("iris", &["iris*"], &["model-evaluation"])),
        ("other", files.issue("other", &["other"], &["model-evaluation"])),
        ("manager", files.issue("manager", &["iris*"], &["model-management"])),
        ("administrator", files.issue("administrator", &["*"], &["model-management"])),
    ]
    .into();
    let id = files.token_id("iris");
    run("faregate check", &mut files.command(&["check"])).succeeded();
    let gate = files.start();

    let told = serde_json::to_string(&tokens).unwrap();
    for (client, expected) in [
        ("mlserver_grpc_client.py", BY_TRITONS_CLIENT),
        ("mlserver_stream_client.py", BY_MLSERVERS_MESSAGES),
        // The same tokens are good for REST under every other host.
        ("mlserver_client.py", crate::mlserver::EXPECTED),
    ] {
        let client = run(client, script(client).args([&gate.data, &told])).succeeded();
        assert_eq!(client.stdout, expected);
    }
    // What the guide has its reader write, by HTTP and by gRPC.
    assert_eq!(gate.run_programs_of_guide("mlserver", &tokens["iris"]), ["[[0]]\n", "[[0]]\n"]);

    let requests = grpc.http2_requests();
    let count = |method: &str| {
        let path = format!("/inference.GRPCInferenceService/{method}");
        requests.iter().filter(|request| request.path() == path).count()
    };
    assert_eq!(count("ModelStreamInfer"), 1, "the one that was allowed");
    assert_eq!((count("RepositoryModelLoad"), count("RepositoryModelUnload")), (1, 1));
    assert_eq!(count("RepositoryIndex"), 1);
    for request in &requests {
        let caller = request.header("x-credential-identifier");
        if request.path().ends_with("/ModelInfer") {
            assert_eq!(caller, Some(id.as_str()), "{request:?}");
        }
        if request.path().contains("/Server") {
            assert_eq!(caller, None, "nobody in particular calls there: {request:?}");
        }
        assert_eq!(request.header("authorization"), None, "{request:?}");
        assert_eq!(request.header("x-api-key"), None, "{request:?}");
        let text = format!("{request:?}");
        assert!(!text.contains("fraud-v1"), "not for those who called: {text}");
        assert!(tokens.values().all(|secret| !text.contains(secret)), "a secret: {text}");
    }
    for secret in tokens.values() {
        rest.assert_never_received(secret);
        assert!(!gate.process.transcript().contains(secret), "a secret in the gate's log");
    }
}
