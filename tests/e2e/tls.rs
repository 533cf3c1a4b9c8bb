//! TLS towards clients and towards the model server.

use std::process::Command;

use crate::certificates::Authority;
use crate::curl::curl;
use crate::gate::{GateFiles, GateSettings};
use crate::process::run;
use crate::python::PythonServer;

#[test]
fn clients_choose_http_2_or_1_by_alpn() {
    let server = PythonServer::start_asgi("echo_app");
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::create(folder.path(), "authority");
    let files = GateFiles::write(&GateSettings {
        profile: "any",
        upstream: &format!("http://{}", server.address),
        data: &authority.sign(folder.path(), "gate").as_gate_settings(None),
        ..GateSettings::default()
    });
    let token = files.issue("everything", &["*"], &["model-evaluation"]);
    let gate = files.start();
    let url = format!("https://{}/echo", gate.data);
    let authorization = format!("authorization: Bearer {token}");
    let ca_file = authority.file.to_str().unwrap();

    for (version, flag) in [("2", "--http2"), ("1.1", "--http1.1")] {
        let answer = curl(&[flag, "--cacert", ca_file, "--header", &authorization, &url]);
        assert_eq!((answer.status, answer.http_version.as_str()), (200, version), "{answer:?}");
        assert_eq!(answer.json()["headers"]["x-forwarded-proto"], "https");
        assert_eq!(curl(&[flag, "--cacert", ca_file, &url]).status, 401);
    }
    for version in ["--tlsv1.3", "--tls-max=1.2"] {
        let (flag, value) =
            version.split_once('=').map_or((version, None), |(flag, value)| (flag, Some(value)));
        let arguments: Vec<&str> = [flag]
            .into_iter()
            .chain(value)
            .chain(["--cacert", ca_file, "--header", &authorization, &url])
            .collect();
        assert_eq!(curl(&arguments).status, 200, "{version}");
    }

    let mut h2load = Command::new("h2load");
    h2load.args([
        "--requests=400",
        "--clients=4",
        "--max-concurrent-streams=10",
        "--header",
        &authorization,
        &url,
    ]);
    let report = run("h2load", &mut h2load).succeeded().stdout;
    assert!(report.contains("Application protocol: h2\n"), "{report}");
    assert!(report.contains("status codes: 400 2xx, 0 3xx, 0 4xx, 0 5xx"), "{report}");
}

#[test]
fn a_client_without_a_certificate_is_not_heard_where_one_is_asked_for() {
    let server = PythonServer::start_asgi("echo_app");
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::create(folder.path(), "authority");
    let clients = Authority::create(folder.path(), "clients");
    let files = GateFiles::write(&GateSettings {
        profile: "any",
        upstream: &format!("http://{}", server.address),
        data: &authority.sign(folder.path(), "gate").as_gate_settings(Some(&clients)),
        ..GateSettings::default()
    });
    let token = files.issue("everything", &["*"], &["model-evaluation"]);
    let gate = files.start();
    let url = format!("https://{}/echo", gate.data);
    let authorization = format!("authorization: Bearer {token}");
    let ca_file = authority.file.to_str().unwrap();
    let exit_code = |arguments: &[&str]| {
        let mut curl = Command::new("curl");
        curl.args([
            "--disable",
            "--silent",
            "--fail",
            "--cacert",
            ca_file,
            "--header",
            &authorization,
        ]);
        run("curl", curl.args(arguments).arg(&url)).status.code()
    };

    let known = clients.sign(folder.path(), "known-client");
    let stranger = authority.sign(folder.path(), "stranger");
    let (known_crt, known_key) = (known.certificate.to_str().unwrap(), known.key.to_str().unwrap());
    let (stranger_crt, stranger_key) =
        (stranger.certificate.to_str().unwrap(), stranger.key.to_str().unwrap());

    assert_eq!(exit_code(&["--cert", known_crt, "--key", known_key]), Some(0));
    // An alert during the handshake, or after curl's own half of a TLS 1.3 handshake: as it sends
    // its request, or as it waits for the answer.
    for refused in [exit_code(&[]), exit_code(&["--cert", stranger_crt, "--key", stranger_key])] {
        assert!(matches!(refused, Some(35 | 55 | 56)), "curl's exit code was {refused:?}");
    }
    let log = gate.process.transcript();
    assert_eq!(log.matches(r#""message":"request""#).count(), 1, "only the known client: {log}");
}

#[test]
fn the_model_server_must_show_a_certificate_of_the_authority() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::create(folder.path(), "authority");
    let another = Authority::create(folder.path(), "another");
    let server = PythonServer::start_asgi_over_tls(
        "echo_app",
        &authority.sign(folder.path(), "model-server"),
    );

    for (ca_file, status) in [(&authority.file, 200), (&another.file, 502)] {
        let files = GateFiles::write(&GateSettings {
            profile: "any",
            upstream: &format!("https://{}", server.address),
            upstream_keys: &format!("ca_file = \"{}\"", ca_file.display()),
            ..GateSettings::default()
        });
        let token = files.issue("everything", &["*"], &["model-evaluation"]);
        let gate = files.start();
        let answer =
            curl(&["--header", &format!("authorization: Bearer {token}"), &gate.url("/echo")]);
        assert_eq!(answer.status, status, "{answer:?}");
    }
}
