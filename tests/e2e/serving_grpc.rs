//! The gRPC services of Triton, TorchServe and TensorFlow Serving, as the guides for them set up the
//! gate: real clients, and a server of the same services that takes whatever it gets. So what was
//! refused was refused by the gate, and what the server did not get is what the bytes on the wire
//! tell.

use std::collections::BTreeMap;

use crate::gate::{Gate, GateFiles};
use crate::process::run;
use crate::python::{PythonServer, script};
use crate::recording_relay::RecordingRelay;

/// The model that no token here is for by its name.
const REFUSED_MODEL: &str = "fraud-v1";

struct Served {
    gate: Gate,
    relay: RecordingRelay,
    tokens: BTreeMap<&'static str, String>,
    _server: PythonServer,
}

impl Served {
    /// The gate of a guide, whose gRPC endpoints are these.
    fn as_in_guide(name: &str, endpoints: &[&str]) -> Self {
        let server = PythonServer::start("serving_server.py");
        let relay = RecordingRelay::before(&server.address);
        let endpoints: Vec<(&str, &str)> =
            endpoints.iter().map(|endpoint| (*endpoint, relay.address.as_str())).collect();
        let files = GateFiles::of_guide(name, &endpoints);
        let tokens = [
            ("iris", files.issue("iris", &["iris*"], &["model-evaluation"])),
            ("manager", files.issue("manager", &["iris*"], &["model-management"])),
            ("caller", files.issue("caller", &["*"], &["model-evaluation"])),
            ("administrator", files.issue("administrator", &["*"], &["model-management"])),
        ];
        run("faregate check", &mut files.command(&["check"])).succeeded();
        Self { gate: files.start(), relay, tokens: tokens.into(), _server: server }
    }

    fn call(&self, client: &str, arguments: &[&str], expected: &str) {
        let tokens = serde_json::to_string(&self.tokens).unwrap();
        let mut command = script(client);
        command.args(arguments).args([&self.gate.data, &tokens]);
        assert_eq!(run(client, &mut command).succeeded().stdout, expected);
    }

    /// How many calls of each method reached the server, by the last segment of its path. None may
    /// have brought a secret, or a message about the model that was refused.
    fn delivered(&self) -> BTreeMap<String, usize> {
        let mut delivered = BTreeMap::new();
        for request in self.relay.http2_requests() {
            let text = format!("{request:?}");
            assert!(!request.body.contains(REFUSED_MODEL), "delivered: {text}");
            assert_eq!(request.header("authorization"), None, "{text}");
            assert!(self.tokens.values().all(|secret| !text.contains(secret)), "a secret: {text}");
            let method = request.path().rsplit('/').next().unwrap().to_owned();
            *delivered.entry(method).or_default() += 1;
        }
        let log = self.gate.process.transcript();
        assert!(self.tokens.values().all(|secret| !log.contains(secret)), "a secret in the log");
        delivered
    }
}

fn counts(of: &[(&str, usize)]) -> BTreeMap<String, usize> {
    of.iter().map(|(method, count)| ((*method).to_owned(), *count)).collect()
}

#[test]
fn torchserve_is_called_by_those_who_may() {
    let served = Served::as_in_guide("torchserve", &["127.0.0.1:7070", "127.0.0.1:7071"]);

    let expected = "\
Ping without a token
Predictions
metadata
deadlines
large messages
compressed messages
StreamPredictions
StreamPredictions2
management
what no route is for
";
    served.call("serving_client.py", &["torchserve"], expected);

    let delivered = served.delivered();
    let allowed = [
        ("Ping", 1),
        ("Predictions", 8),
        ("StreamPredictions", 1),
        // One to its end, three that ended in their course.
        ("StreamPredictions2", 4),
        ("DescribeModel", 1),
        ("ScaleWorker", 1),
        ("SetDefault", 1),
        ("UnregisterModel", 1),
        ("ListModels", 1),
        ("RegisterModel", 1),
    ];
    assert_eq!(delivered, counts(&allowed));
}

#[test]
fn tensorflow_serving_is_called_by_those_who_may() {
    let served = Served::as_in_guide("tensorflow-serving", &["127.0.0.1:8500"]);

    let expected = "\
PredictionService
MultiInference
ModelService
compressed and large messages
";
    served.call("serving_client.py", &["tensorflow-serving"], expected);

    let allowed = [
        ("Predict", 1),
        ("Classify", 1),
        ("Regress", 1),
        ("GetModelMetadata", 1),
        ("MultiInference", 2),
        ("GetModelStatus", 1),
        ("HandleReloadConfigRequest", 1),
    ];
    assert_eq!(served.delivered(), counts(&allowed));
}

#[test]
fn triton_is_called_by_those_who_may() {
    let served = Served::as_in_guide("triton", &["127.0.0.1:8001"]);

    let expected = "\
one answer
large messages
ModelStreamInfer
";
    served.call("serving_client.py", &["triton"], expected);
    let programs = served.gate.run_programs_of_guide("triton", &served.tokens["iris"]);
    assert_eq!(programs, ["True\niris-v1\niris-v2\n"]);

    let allowed = [
        ("ServerLive", 2),
        ("ModelReady", 1),
        ("ModelInfer", 3),
        ("RepositoryModelLoad", 1),
        ("ModelStreamInfer", 5),
    ];
    assert_eq!(served.delivered(), counts(&allowed));
}

#[test]
fn tritons_own_client_calls_what_it_may() {
    let served = Served::as_in_guide("triton", &["127.0.0.1:8001"]);

    let expected = "\
a stream, and another one after it was refused
configuration and statistics
what changes the server
the repository
compression
";
    served.call("triton_grpc_client.py", &[], expected);

    let delivered = served.delivered();
    assert_eq!(delivered["ModelStreamInfer"], 2);
    assert_eq!(delivered["ModelStatistics"], 2);
    assert_eq!(delivered["ModelInfer"], 1);
    assert_eq!(delivered["TraceSetting"], 2);
}
