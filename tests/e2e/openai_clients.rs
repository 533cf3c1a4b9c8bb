//! LitServe with two models behind the gate, called by OpenAI's official client, Anthropic's, and
//! `websockets`.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use crate::gate::{GateFiles, GateSettings};
use crate::process::{RunningProcess, run};
use crate::python::{PythonServer, installed_program, script};
use crate::recording_relay::RecordingRelay;

const EXPECTED: &str = "\
chat
streamed chat
embeddings
transcription
the list of models
one model of the list
another model
another group
no token
two models in one request
a model that is not there
the default model
what is closed and what is open
Anthropic's client
odd bodies
";

#[test]
fn openai_clients_call_the_models_they_may() {
    let server = PythonServer::start("openai_server.py");
    let relay = RecordingRelay::before(&server.address);
    let files = GateFiles::write(&GateSettings {
        profile: "openai vllm",
        upstream: &format!("http://{}", relay.address),
        namespace: r#"default_model = "org/echo""#,
        ..GateSettings::default()
    });
    let tokens = Tokens::issue(&files);
    let gate = files.start();

    let mut client = script("openai_client.py");
    let client = run("openai_client.py", client.args([&gate.data, &tokens.as_json()])).succeeded();

    assert_eq!(client.stdout, EXPECTED);
    relay.assert_never_received("unheard");
    tokens.assert_unknown_to(&relay);
    for secret in &tokens.0 {
        assert!(!gate.process.transcript().contains(&secret.1), "a secret in the gate's log");
    }
}

#[test]
fn a_revoked_token_ends_the_chat_that_it_streams() {
    let server = PythonServer::start("openai_server.py");
    let relay = RecordingRelay::before(&server.address);
    let files = GateFiles::write(&GateSettings {
        profile: "openai",
        upstream: &format!("http://{}", relay.address),
        ..GateSettings::default()
    });
    let token = files.issue("echo", &["org/echo"], &["model-evaluation"]);
    let id = files.token_id("echo");
    let gate = files.start();

    let mut client = script("openai_revoked.py");
    let client = RunningProcess::start("openai_revoked.py", client.args([&gate.data, &token]));
    client.wait_for_output("the first word", |line| (line == "the first word").then_some(()));
    let mut disable = gate.files.command(&["token", "disable", &id]);
    run("faregate token disable", &mut disable).succeeded();

    client.wait_for_output("its last line", |line| (line == "refused").then_some(()));
    assert_eq!(client.output_lines(), ["the first word", "broken off", "refused"]);
    assert!(client.wait_for_end().success());
    relay.assert_never_received("unheard");
}

#[test]
fn openai_clients_are_told_that_a_host_has_no_namespace() {
    let files = GateFiles::write(&GateSettings {
        profile: "openai",
        upstream: "http://127.0.0.1:9",
        hosts: r#"["models.example.com"]"#,
        ..GateSettings::default()
    });
    let token = files.issue("echo", &["org/echo"], &["model-evaluation"]);
    let gate = files.start();

    let mut client = script("openai_host.py");
    let client = run("openai_host.py", client.args([&gate.data, &token])).succeeded();

    assert_eq!(client.stdout, "unknown_host\n");
}

#[test]
fn a_realtime_connection_is_for_the_model_of_its_query() {
    let server = PythonServer::start("openai_server.py");
    let relay = RecordingRelay::before(&server.address);
    let files = GateFiles::write(&GateSettings {
        profile: "openai",
        upstream: &format!("http://{}", relay.address),
        namespace: r#"credentials = ["bearer", "websocket-protocol"]"#,
        ..GateSettings::default()
    });
    let tokens = Tokens::issue(&files);
    let gate = files.start();

    let mut client = script("openai_realtime.py");
    let client = run("openai_realtime.py", client.args([&gate.data, &tokens.as_json()]));

    assert_eq!(
        client.succeeded().stdout,
        "echo: org/echo\n\
         all: org/reverse\n\
         resource_not_allowed: ?model=org/reverse\n\
         resource_not_allowed: ?model=org%2Freverse\n\
         model_conflict: ?model=org/echo&model=org/reverse\n\
         model_conflict: ?model=org/echo&%6Dodel=org/reverse\n\
         model_unresolved: \n\
         no_credential: ?model=org/echo\n\
         invalid_token: ?model=org/echo\n\
         ambiguous_credential: ?model=org/echo\n"
    );
    let handshakes = String::from_utf8_lossy(&relay.received()).matches("GET /v1/realtime").count();
    assert_eq!(handshakes, 2, "those that were let through");
    tokens.assert_unknown_to(&relay);
}

/// The settings and the Python of `docs/servers/openai.md`, as they stand there.
#[test]
fn the_python_of_the_openai_guide_works() {
    let llama = "meta-llama/Llama-3.1-8B-Instruct";
    let server =
        PythonServer::start_with("openai_server.py", &[llama, "Qwen/Qwen3-Embedding-0.6B"]);
    let files = GateFiles::write(&GateSettings { profile: "openai", ..GateSettings::default() });
    let blocks = fenced_blocks("docs/servers/openai.md");
    let settings = blocks.iter().find(|(info, _)| info == "toml file=config/faregate.toml");
    let settings = ["127.0.0.1:8080", "127.0.0.1:9901", "127.0.0.1:9902"]
        .iter()
        .fold(settings.unwrap().1.clone(), |text, written| text.replace(written, "127.0.0.1:0"));
    let settings = settings.replace("127.0.0.1:8000", &server.address);
    fs::write(files.path("faregate.toml"), settings).unwrap();
    let token = files.issue("chat team", &[llama], &["model-evaluation"]);
    let gate = files.start();

    let mut run_so_far = 0;
    for pair in blocks.windows(2).filter(|pair| pair[0].0 == "python client") {
        let program = gate.files.path("example.py");
        fs::write(&program, &pair[0].1).unwrap();
        let mut client = Command::new(installed_program("python"));
        client.arg(&program).env("OPENAI_BASE_URL", gate.url("/v1")).env("OPENAI_API_KEY", &token);
        // Whatever proxy is set on this machine, the gate is not behind it.
        client.env("NO_PROXY", "*");
        let printed = run("the Python of the guide", &mut client).succeeded().stdout;

        assert_eq!(pair[1].0, "text client", "what it prints stands below");
        let (shown, printed): (Vec<_>, Vec<_>) =
            (pair[1].1.lines().collect(), printed.lines().collect());
        assert_eq!(shown.len(), printed.len(), "{printed:#?}");
        for (shown, printed) in shown.iter().zip(&printed) {
            assert!(shown == printed || *shown == "…", "{shown} is {printed}");
        }
        run_so_far += 1;
    }
    assert_eq!(run_so_far, 2);
}

/// What stands behind the first fence, and the text, of each block of a document.
fn fenced_blocks(document: &str) -> Vec<(String, String)> {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(document)).unwrap();
    let fenced = text.split("\n```").skip(1).step_by(2);
    let parts = fenced.map(|block| block.split_once('\n').unwrap());
    parts.map(|(info, text)| (info.to_owned(), format!("{text}\n"))).collect()
}

/// Names and secrets.
struct Tokens(Vec<(&'static str, String)>);

impl Tokens {
    fn issue(files: &GateFiles) -> Self {
        Self(vec![
            ("echo", files.issue("echo", &["org/echo"], &["model-evaluation"])),
            ("all", files.issue("all", &["*"], &["model-evaluation"])),
            ("manager", files.issue("manager", &["*"], &["model-management"])),
        ])
    }

    fn as_json(&self) -> String {
        serde_json::to_string(&self.0.iter().cloned().collect::<BTreeMap<_, _>>()).unwrap()
    }

    fn assert_unknown_to(&self, relay: &RecordingRelay) {
        relay.assert_never_received("faregate.token");
        for (_, secret) in &self.0 {
            relay.assert_never_received(secret);
        }
    }
}
