//! What must not wait for the rest: events, interim responses, large bodies.

use std::fs;
use std::io::Write;
use std::process::Command;

use sha2::{Digest, Sha256};

use crate::curl::{curl, curl_to_file};
use crate::gate::GateFiles;
use crate::process::RunningProcess;
use crate::python::PythonServer;

#[test]
fn server_sent_events_come_one_by_one() {
    let server = PythonServer::start_asgi("echo_app");
    let (files, token) = GateFiles::open_to_one_token(&format!("http://{}", server.address));
    let gate = files.start();
    let authorization = format!("Authorization: Bearer {token}");

    for (name, flag) in [("over-http-1", "--http1.1"), ("over-http-2", "--http2-prior-knowledge")] {
        let mut reader = Command::new("curl");
        reader.args(["--disable", "--silent", "--no-buffer", flag, "--header", &authorization]);
        let reader = RunningProcess::start(
            "curl",
            reader.arg(gate.url(&format!("/events/{name}?count=10"))),
        );
        for number in 0..10 {
            let event = format!("data: token {number}");
            reader.wait_for_output(&event, |line| (line == event).then_some(()));
            let acknowledgement = gate.url(&format!("/acknowledge/{name}/{number}"));
            assert_eq!(
                curl(&["--request", "POST", "--header", &authorization, &acknowledgement]).status,
                200
            );
        }
        assert!(reader.wait_for_end().success());
    }
}

#[test]
fn an_upload_waits_for_the_gates_word() {
    let server = PythonServer::start_asgi("echo_app");
    let (files, token) = GateFiles::open_to_one_token(&format!("http://{}", server.address));
    let gate = files.start();
    let upload = LargeFile::create(8);
    let file = upload.path();
    // So long that a `100 Continue` that never comes fails the test by its time limit instead of
    // going unseen.
    let waiting = [
        "--http1.1",
        "--header",
        "Expect: 100-continue",
        "--expect100-timeout",
        "3600",
        "--upload-file",
        &file,
    ];
    let authorization = format!("Authorization: Bearer {token}");

    let url = gate.url("/echo/upload");
    let answer = curl(&[&waiting[..], &["--header", &authorization, &url]].concat());
    assert!(answer.headers.starts_with("HTTP/1.1 100 Continue\r\n"), "{answer:?}");
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.json()["sha256"], upload.sha256);

    let refused = curl(&[&waiting[..], &[&url]].concat());
    assert_eq!(refused.status, 401, "{refused:?}");
    assert_eq!(refused.uploaded, 0, "a refused upload is not sent: {refused:?}");
}

#[test]
fn a_refusal_reaches_a_client_that_is_still_sending() {
    let server = PythonServer::start_asgi("echo_app");
    let (files, _token) = GateFiles::open_to_one_token(&format!("http://{}", server.address));
    let gate = files.start();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("upload");
    fs::write(&file, vec![b'x'; 64 * 1024]).unwrap();
    let url = gate.url("/echo/upload");

    // Not each of them would lose the refusal to a stream that is reset, or a connection that is
    // closed, while the client sends.
    for round in 0..20 {
        for version in ["--http1.1", "--http2-prior-knowledge"] {
            let upload = ["--header", "Expect:", "--upload-file", file.to_str().unwrap(), &url];
            let refused = curl(&[&[version], &upload[..]].concat());
            assert_eq!(refused.status, 401, "{version}, round {round}: {refused:?}");
        }
    }
}

#[test]
fn large_bodies_arrive_whole() {
    let server = PythonServer::start_asgi("echo_app");
    let (files, token) = GateFiles::open_to_one_token(&format!("http://{}", server.address));
    let gate = files.start();
    let authorization = format!("Authorization: Bearer {token}");
    let upload = LargeFile::create(64);
    let (file, url) = (upload.path(), gate.url("/file"));
    let download = upload.folder.path().join("download");

    for (version, chunked) in [
        ("--http1.1", &[][..]),
        ("--http1.1", &["--header", "Transfer-Encoding: chunked"]),
        ("--http2-prior-knowledge", &[]),
    ] {
        let request = [version, "--header", &authorization, &url];
        let uploaded = curl(&[&request, chunked, &["--upload-file", &file]].concat());
        assert_eq!(uploaded.status, 201, "{version} {chunked:?}: {uploaded:?}");
        assert_eq!(uploaded.json()["length"], 64 << 20);

        let downloaded = curl_to_file(&request, &download);
        assert_eq!(downloaded.status, 200, "{version} {chunked:?}: {downloaded:?}");
        assert_eq!(
            sha256_of(&fs::read(&download).unwrap()),
            upload.sha256,
            "{version} {chunked:?}"
        );
    }
}

/// A file of bytes that neither repeat nor compress, the same in every run.
struct LargeFile {
    folder: tempfile::TempDir,
    sha256: String,
}

impl LargeFile {
    fn create(mebibytes: usize) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut bytes = vec![0; mebibytes << 20];
        fastrand::Rng::with_seed(7).fill(&mut bytes);
        fs::File::create(folder.path().join("upload")).unwrap().write_all(&bytes).unwrap();
        Self { folder, sha256: sha256_of(&bytes) }
    }

    fn path(&self) -> String {
        self.folder.path().join("upload").to_str().unwrap().to_owned()
    }
}

fn sha256_of(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}
