//! The use of tokens is still known after the gate was started anew, and the file that keeps it has no say in
//! anything else.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use crate::support::gate::{Folder, Gate};
use crate::support::http1::get;
use crate::support::model_server::ModelServer;
use crate::support::rig::Rig;
use crate::support::tokens::{self, STANDARD, secret};

const FILE: &str = "tokens.toml.usage.json";

/// With the admin listener, which is where the use of tokens is read.
fn rig() -> Rig {
    Rig::with(ModelServer::canned(), |settings| {
        settings.data = "[admin]\nlisten = \"127.0.0.1:0\"\n".into();
    })
}

/// Stops the gate as its service manager does, and gives the folder with its files.
fn stopped(gate: &mut Gate) -> Folder {
    gate.signal("TERM");
    assert!(gate.wait_for_end().success());
    std::mem::replace(&mut gate.folder, Folder::new())
}

fn requests(rig: &Rig, token: &str, result: &str) -> f64 {
    let labels = [("token_id", token), ("result", result)];
    rig.gate.metric("faregate_token_requests_total", &labels)
}

/// What the gate says to every token, for a model that most may use and one that few may.
fn decisions(rig: &Rig) -> Vec<(String, u16)> {
    let ask = |token: &str, path: &str| {
        let response = rig.ask(&get(path).token(token));
        (format!("{token} {path}"), response.status)
    };
    STANDARD
        .iter()
        .flat_map(|token| [ask(token.id, "/score/allowed"), ask(token.id, "/score/secret")])
        .collect()
}

#[test]
fn a_restart_keeps_the_counts() {
    let mut rig = rig();
    for (path, status) in [("/score/allowed", 200), ("/score/allowed", 200), ("/score/secret", 403)]
    {
        assert_eq!(rig.ask(&get(path).token("eval")).status, status);
    }
    let folder = stopped(&mut rig.gate);
    let path = folder.path(FILE);
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let text = fs::read_to_string(&path).unwrap();
    assert!(!text.contains(&secret("eval")) && !text.contains("blake3"), "{text}");

    let gate = Gate::start(folder);
    let rig = Rig::of(gate, rig.server);
    assert_eq!((requests(&rig, "eval", "allowed"), requests(&rig, "eval", "denied")), (2.0, 1.0));
    let last = [("token_id", "eval")];
    assert!(rig.gate.metric("faregate_token_last_used_timestamp_seconds", &last) > 0.0);
    assert_eq!(rig.ask(&get("/score/allowed").token("eval")).status, 200);
    assert_eq!(requests(&rig, "eval", "allowed"), 3.0);
    rig.finish(3);
}

#[test]
fn a_forged_file_is_counted_and_decides_nothing() {
    let mut rig = rig();
    let before = decisions(&rig);
    let folder = stopped(&mut rig.gate);
    let claims = format!(
        "\"requests\":7,\"last_used_at\":4102444800,\"disabled\":false,\"expires_at\":null,\
         \"resources\":[\"*\"],\"groups\":[\"model-evaluation\",\"model-management\"],\"hash\":\"{}\"",
        tokens::hash(&secret("stranger"))
    );
    let forged = STANDARD.iter().map(|token| token.id).chain(["stranger"]);
    let forged: Vec<String> = forged.map(|id| format!("\"{id}\":{{{claims}}}")).collect();
    let forged = format!("{{\"version\":1,\"tokens\":{{{}}}}}", forged.join(","));
    folder.write(FILE, forged);

    let gate = Gate::start(folder);
    let rig = Rig::of(gate, rig.server);
    assert_eq!(requests(&rig, "disabled", "allowed"), 7.0, "the file was not read");
    assert_eq!(decisions(&rig), before);
    let stranger = rig.ask(&get("/score/allowed").token("stranger"));
    assert_eq!((stranger.status, stranger.reason()), (401, Some("invalid_token")));
    assert_eq!(requests(&rig, "stranger", "allowed"), 0.0);
    rig.assert_no_leak();
}

#[test]
fn a_file_that_cannot_be_read_keeps_nothing_from_starting() {
    let mut rig = rig();
    let folder = stopped(&mut rig.gate);
    assert!(!folder.path(FILE).exists(), "nothing was used");
    folder.write(FILE, "{\"version\":1,\"tokens\":");
    let gate = Gate::start(folder);
    gate.wait_for_line("that the file cannot be read", |line| {
        line.contains("the saved use of tokens cannot be read").then_some(())
    });
    let rig = Rig::of(gate, rig.server);
    assert_eq!(rig.ask(&get("/score/allowed").token("eval")).status, 200);
    rig.finish(1);
}
