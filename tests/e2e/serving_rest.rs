//! The REST routes of TorchServe, TensorFlow Serving, Triton and KServe's first protocol, each once
//! allowed and once refused for every reason there is, by the clients that people use.

use std::collections::BTreeMap;

use crate::gate::{Gate, GateFiles, GateSettings};
use crate::process::run;
use crate::python::{PythonServer, script};

struct Served {
    gate: Gate,
    server: PythonServer,
    tokens: BTreeMap<&'static str, String>,
}

impl Served {
    fn behind(profiles: &str) -> Self {
        let server = PythonServer::start_asgi("serving_app");
        let files = GateFiles::write(&GateSettings {
            profile: profiles,
            upstream: &format!("http://{}", server.address),
            ..GateSettings::default()
        });
        let tokens = [
            ("iris", files.issue("iris", &["iris*"], &["model-evaluation"])),
            ("manager", files.issue("manager", &["iris*"], &["model-management"])),
            ("caller", files.issue("caller", &["*"], &["model-evaluation"])),
            ("administrator", files.issue("administrator", &["*"], &["model-management"])),
        ];
        Self { gate: files.start(), server, tokens: tokens.into() }
    }

    /// Every route of a profile, by a table that was written apart from it.
    fn try_every_route_of(&self, profile: &str, expected: &str) {
        let mut routes = self.gate.files.command(&["routes", "--json"]);
        let routes = run("faregate routes", &mut routes).succeeded().stdout;
        let mut client = script("rest_client.py");
        client.args([profile, &self.gate.data, &self.server.address, &self.told_tokens(), &routes]);
        assert_eq!(run("rest_client.py", &mut client).succeeded().stdout, expected);
        self.assert_no_secret_was_logged();
    }

    fn told_tokens(&self) -> String {
        serde_json::to_string(&self.tokens).unwrap()
    }

    fn assert_no_secret_was_logged(&self) {
        let log = self.gate.process.transcript();
        assert!(self.tokens.values().all(|secret| !log.contains(secret)), "a secret in the log");
    }
}

#[test]
fn every_route_of_torchserve_is_open_to_those_who_may() {
    let served = Served::behind("torchserve");
    served.try_every_route_of("torchserve", "27 routes, 100 with each method\n");
}

#[test]
fn every_route_of_tensorflow_serving_is_open_to_those_who_may() {
    let served = Served::behind("tensorflow-serving");
    served.try_every_route_of("tensorflow-serving", "16 routes, 28 with each method\n");
}

#[test]
fn every_route_of_triton_is_open_to_those_who_may() {
    let served = Served::behind("kserve-v2 triton");
    served.try_every_route_of("triton", "15 routes, 37 with each method\n");
}

#[test]
fn every_route_of_kserves_first_protocol_is_open_to_those_who_may() {
    let served = Served::behind("kserve-v1");
    served.try_every_route_of("kserve-v1", "5 routes, 8 with each method\n");
}

/// The settings and the programs of the guides.
#[test]
fn the_guides_lead_to_a_gate_that_serves() {
    let server = PythonServer::start_asgi("serving_app");
    let nobody = "127.0.0.1:9";
    for (guide, rest, grpc, path) in [
        (
            "kserve",
            &["127.0.0.1:8000", "127.0.0.1:8001"][..],
            &[][..],
            "/v1/models/iris-v1:predict",
        ),
        (
            "torchserve",
            &["127.0.0.1:8000"],
            &["127.0.0.1:7070", "127.0.0.1:7071"],
            "/predictions/iris-v1",
        ),
        (
            "tensorflow-serving",
            &["127.0.0.1:8501"],
            &["127.0.0.1:8500"],
            "/v1/models/iris-v1:predict",
        ),
    ] {
        let rest = rest.iter().map(|endpoint| (*endpoint, server.address.as_str()));
        let endpoints = rest.chain(grpc.iter().map(|endpoint| (*endpoint, nobody)));
        let files = GateFiles::of_guide(guide, &endpoints.collect::<Vec<_>>());
        run("faregate check", &mut files.command(&["check"])).succeeded();
        let token = files.issue("team", &["iris*"], &["model-evaluation"]);
        let gate = files.start();

        let printed = gate.run_programs_of_guide(guide, &token);
        assert_eq!(printed.len(), 1, "{guide}");
        assert!(printed[0].contains(&format!("'target': '{path}'")), "{guide}: {printed:?}");
        assert!(printed[0].contains("'x-consumer-username': 'team'"), "{guide}: {printed:?}");
        assert!(!printed[0].contains(&token), "{guide}: the server got the token");
    }
}

#[test]
fn tritons_own_http_client_calls_what_it_may() {
    let served = Served::behind("kserve-v2 triton");

    let mut client = script("triton_http_client.py");
    client.args([&served.gate.data, &served.told_tokens()]);
    let expected = "\
infer
configuration and statistics
what changes the server
the repository and one model's trace
";
    assert_eq!(run("triton_http_client.py", &mut client).succeeded().stdout, expected);
    served.assert_no_secret_was_logged();
}
