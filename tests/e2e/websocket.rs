//! WebSockets, by the `websockets` library at both ends.

use crate::gate::{GateFiles, GateSettings};
use crate::process::run;
use crate::python::{PythonServer, script};
use crate::recording_relay::RecordingRelay;

#[test]
fn a_websocket_passes_unchanged() {
    let server = PythonServer::start("websocket_server.py");
    let relay = RecordingRelay::before(&server.address);
    let (files, token) = GateFiles::open_to_one_token(&format!("http://{}", relay.address));
    let gate = files.start();

    let client =
        run("websocket_client.py", script("websocket_client.py").args([&gate.data, &token]))
            .succeeded();

    assert_eq!(
        client.stdout,
        "subprotocol\ntext\nbinary\nfragments\nping\nheaders\nclose by the server\nclose by the client\n"
    );
    relay.assert_never_received(&token);
    relay.assert_never_received("authorization");
}

#[test]
fn a_browser_gives_its_token_as_a_subprotocol() {
    let server = PythonServer::start("websocket_server.py");
    let relay = RecordingRelay::before(&server.address);
    let files = GateFiles::write(&GateSettings {
        profile: "any",
        upstream: &format!("http://{}", relay.address),
        namespace: r#"credentials = ["bearer", "websocket-protocol"]"#,
        ..GateSettings::default()
    });
    let token = files.issue("everything", &["*"], &["model-evaluation"]);
    let gate = files.start();

    let client =
        run("websocket_browser.py", script("websocket_browser.py").args([&gate.data, &token]))
            .succeeded();

    assert_eq!(client.stdout, "let through\n");
    relay.assert_never_received("faregate.token");
    relay.assert_never_received(&token);
}

#[test]
fn a_refused_handshake_does_not_reach_the_server() {
    let server = PythonServer::start("websocket_server.py");
    let relay = RecordingRelay::before(&server.address);
    let (files, allowed) = GateFiles::open_to_one_token(&format!("http://{}", relay.address));
    let other = files.issue("other", &["other"], &["model-evaluation"]);
    let gate = files.start();
    let mistyped = allowed.replacen("fg_", "fg_x", 1);

    for (status, token) in [("401", None), ("401", Some(&mistyped)), ("403", Some(&other))] {
        let mut client = script("websocket_refused.py");
        client.args([gate.data.as_str(), status]).args(token);
        let client = run("websocket_refused.py", &mut client).succeeded();
        assert_eq!(client.stdout, format!("refused with {status}\n"));
    }

    assert_eq!(relay.received(), b"", "the server saw nothing of them");
}
