//! curl, `nghttp` and `h2load` in clear text, and the ways they can carry a token.

use std::process::Command;

use crate::curl::curl;
use crate::gate::{Gate, GateFiles};
use crate::process::run;
use crate::python::PythonServer;

/// A model server that tells what it received, and the gate before it.
fn echo_behind_the_gate() -> (PythonServer, Gate, String) {
    let server = PythonServer::start_asgi("echo_app");
    let (files, token) = GateFiles::open_to_one_token(&format!("http://{}", server.address));
    (server, files.start(), token)
}

#[test]
fn curl_is_served_over_http_1_and_2() {
    let (_server, gate, token) = echo_behind_the_gate();
    let id = gate.files.token_id("everything");

    for (version, flag) in [("1.1", "--http1.1"), ("2", "--http2-prior-knowledge")] {
        let authorization = format!("Authorization: Bearer {token}");
        let url = gate.url("/echo/iris?shape=4&name=%C3%A9");
        let answer =
            curl(&[flag, "-H", &authorization, "-H", "X-Mine: kept", "--data", "[5.1, 3.5]", &url]);

        assert_eq!((answer.status, answer.http_version.as_str()), (200, version), "{answer:?}");
        let told = answer.json();
        assert_eq!(told["method"], "POST");
        assert_eq!(told["path"], "/echo/iris");
        assert_eq!(told["query"], "shape=4&name=%C3%A9");
        assert_eq!(told["length"], "[5.1, 3.5]".len());
        assert_eq!(told["headers"]["x-mine"], "kept");
        assert_eq!(told["headers"]["x-credential-identifier"], id.as_str());
        assert_eq!(told["headers"]["x-consumer-username"], "everything");
        assert_eq!(told["headers"]["x-authenticated-groups"], "model-evaluation");
        assert_eq!(told["headers"]["x-forwarded-for"], "127.0.0.1");
        assert!(
            !answer.body.contains(&token) && told["headers"].get("authorization").is_none(),
            "{told}"
        );

        let refused = curl(&[flag, &url]);
        assert_eq!((refused.status, refused.http_version.as_str()), (401, version), "{refused:?}");
        assert_eq!(refused.header_values("faregate-reason"), ["no_credential"]);
    }
}

#[test]
fn a_token_may_be_a_bearer_an_api_key_or_a_password() {
    let (_server, gate, token) = echo_behind_the_gate();
    let id = gate.files.token_id("everything");
    let url = gate.url("/echo");

    for carried in [
        ["--header", &format!("Authorization: bearer {token}")],
        ["--header", &format!("X-API-Key: {token}")],
        ["--user", &format!(":{token}")],
        ["--user", &format!("{id}:{token}")],
    ] {
        let answer = curl(&[carried[0], carried[1], &url]);
        assert_eq!(answer.status, 200, "{carried:?}: {answer:?}");
        assert!(!answer.body.contains(&token), "the model server was given the token: {answer:?}");
        assert_eq!(answer.json()["headers"]["x-credential-identifier"], id.as_str());
    }

    let somebody_else = curl(&["--user", &format!("somebody-else:{token}"), &url]);
    assert_eq!(somebody_else.status, 401, "{somebody_else:?}");
    let two_different =
        curl(&["--user", ":fg_another", "--header", &format!("X-API-Key: {token}"), &url]);
    assert_eq!(two_different.status, 400, "{two_different:?}");
    assert_eq!(two_different.header_values("faregate-reason"), ["ambiguous_credential"]);
}

#[test]
fn a_browser_is_asked_for_a_password() {
    let (_server, gate, token) = echo_behind_the_gate();
    let url = gate.url("/echo");
    let page = ["--header", "Accept: text/html,application/xhtml+xml,*/*;q=0.8"];

    let challenged = curl(&[page[0], page[1], &url]);
    assert_eq!(challenged.status, 401);
    let challenges = challenged.header_values("www-authenticate");
    assert_eq!(challenges.len(), 2, "{challenged:?}");
    assert!(challenges[0].starts_with("Bearer realm="), "{challenges:?}");
    assert!(challenges[1].starts_with("Basic realm="), "{challenges:?}");

    let program = curl(&["--header", "Accept: application/json", &url]);
    assert_eq!(
        program.header_values("www-authenticate").len(),
        1,
        "a program is not asked for a password"
    );

    // As a browser does: the first request goes without the password, the second follows the
    // challenge.
    let answered = curl(&["--anyauth", "--user", &format!(":{token}"), page[0], page[1], &url]);
    assert_eq!(answered.status, 200, "{answered:?}");
    assert!(answered.headers.starts_with("HTTP/1.1 401"), "the challenge came first: {answered:?}");
}

#[test]
fn nghttp_is_answered_on_every_stream() {
    let (_server, gate, token) = echo_behind_the_gate();
    let authorization = format!("authorization: Bearer {token}");

    let url = gate.url("/echo");
    let mut nghttp = Command::new("nghttp");
    nghttp.args(["--verbose", "--null-out", "--multiply=20", "--header", &authorization, &url]);
    let session = run("nghttp", &mut nghttp).succeeded().stdout;

    assert_eq!(session.matches(":status: 200").count(), 20, "{session}");
    assert_eq!(session.matches(":status: ").count(), 20, "{session}");
    assert!(!session.contains("RST_STREAM"), "{session}");
}

#[test]
fn h2load_gets_only_good_answers() {
    let (_server, gate, token) = echo_behind_the_gate();
    let authorization = format!("authorization: Bearer {token}");

    for protocol in ["h2c", "http/1.1"] {
        let url = gate.url("/echo/load");
        let mut h2load = Command::new("h2load");
        h2load.args([
            "--requests=1000",
            "--clients=4",
            "--max-concurrent-streams=10",
            "--header",
            &authorization,
        ]);
        h2load.args(["--no-tls-proto", protocol, &url]);
        let report = run("h2load", &mut h2load).succeeded().stdout;

        assert!(
            report.contains("1000 succeeded, 0 failed, 0 errored, 0 timeout"),
            "{protocol}: {report}"
        );
        assert!(
            report.contains("status codes: 1000 2xx, 0 3xx, 0 4xx, 0 5xx"),
            "{protocol}: {report}"
        );
    }
    let metrics = curl(&[&format!("http://{}/metrics", gate.ops)]).body;
    let allowed = metrics.lines().find(|line| {
        line.starts_with("faregate_decisions_total{") && line.contains(r#"result="allowed""#)
    });
    assert!(
        allowed.is_some_and(|line| line.ends_with(" 2000")),
        "each request was decided once: {metrics}"
    );
    assert!(!metrics.contains(&token), "a secret in the metrics");
}

#[test]
fn probes_and_metrics_need_no_token() {
    let (_server, gate, _token) = echo_behind_the_gate();

    for path in ["/livez", "/readyz", "/metrics"] {
        let answer = curl(&[&format!("http://{}{path}", gate.ops)]);
        assert_eq!(answer.status, 200, "{path}: {answer:?}");
    }
    assert_eq!(
        curl(&[&format!("http://{}/echo", gate.ops)]).status,
        404,
        "the ops listener forwards nothing"
    );
}

#[test]
fn sigterm_ends_the_gate_in_order() {
    let (_server, gate, _token) = echo_behind_the_gate();
    let status = gate.process.terminate();
    assert!(status.success(), "{status}");
}
