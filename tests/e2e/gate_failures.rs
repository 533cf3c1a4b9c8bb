//! The gate itself is killed, or its disk fails, while an administrator makes a change: what was
//! acknowledged is there after a restart, and what failed was never said to have been done.

use std::process::Command;

use serde_json::{Value, json};

use crate::admin_gate::{
    Administrator, Asked, Client, Prepared, Running, admin_address, new_token,
};
use crate::gate::{Gate, GateFiles};
use crate::http_connection::Answer;
use crate::strace::{self, SystemCall};

use crate::token_file::{NAMES, assert_valid, entries, for_each_at_once, hash, names, text};

const ALL: [Asked; 3] = [Asked::Issue, Asked::Regenerate, Asked::Disable];

#[test]
fn a_gate_that_is_killed_in_a_change_starts_again_with_the_old_file_or_the_new_one() {
    if !strace::is_allowed() {
        return;
    }
    let with_calls = |asked: Asked| asked.calls().into_iter().map(move |call| (asked, call));
    let kills: Vec<(Asked, SystemCall)> = ALL.into_iter().flat_map(with_calls).collect();
    for_each_at_once(&kills, |(asked, call)| {
        let mut running = Prepared::new().start_traced(&[call.inject("signal=KILL")]);
        let answer = asked.of(&mut running.administrator, &running.id);
        // It is not acknowledged before all of these calls are made.
        assert!(answer.is_none(), "{asked:?} was killed at {call:?}, and yet: {answer:?}");
        let Running { gate, key, id, secret, old, .. } = running;
        let Gate { process, files, .. } = gate;
        assert!(!process.wait_for_end().success());
        let text = text(&files);
        assert_valid(&files);
        let entries = entries(&text);
        if text != old {
            match asked {
                Asked::Issue => {
                    assert_eq!((entries.len(), &entries[&id].hash), (3, &hash(&secret)))
                }
                Asked::Regenerate => {
                    assert!(entries[&id].hash != hash(&secret) && text.contains(&hash(&secret)));
                }
                Asked::Disable => assert!(entries[&id].is_disabled),
            }
        }
        let is_disabled = entries[&id].is_disabled;
        assert_goes_on(files, &key, &secret, is_disabled);
    });
}

/// The gate starts again, the old secret means what the file says, and the next change works.
fn assert_goes_on(files: GateFiles, key: &str, secret: &str, is_disabled: bool) {
    let gate = files.start();
    let mut client = Client::of(&gate.data);
    assert_eq!(client.status(secret, "after a restart"), if is_disabled { 401 } else { 200 });
    let mut administrator = Administrator::at(&admin_address(&gate.process), key);
    let answer = administrator.call("POST", "", Some(&new_token("next")));
    assert_eq!(answer.status, 201, "{answer:?}");
    assert_eq!(client.status(answer.json()["secret"].as_str().unwrap(), "the next"), 200);
    assert_eq!(names(&gate.files), NAMES);
}

#[test]
fn a_gate_that_is_killed_after_its_answer_has_what_it_acknowledged() {
    let rounds: Vec<usize> = (0..8).collect();
    for_each_at_once(&rounds, |round| {
        let Prepared { mut files, key, id, secret, .. } = Prepared::new();
        let mut valid = vec![secret];
        for _ in 0..3 {
            let gate = files.start();
            let mut administrator = Administrator::at(&admin_address(&gate.process), &key);
            // A few before, so that the last one is not always the first.
            for _ in 0..=*round % 3 {
                let answer = administrator.call("POST", "", Some(&new_token("new")));
                assert_eq!(answer.status, 201, "{answer:?}");
                valid.push(answer.json()["secret"].as_str().unwrap().to_owned());
            }
            let answer = administrator.call("POST", &format!("/{id}/disable"), None);
            // Dropping the process kills it.
            let Gate { process, files: kept, .. } = gate;
            drop(process);
            assert_eq!(answer.status, 200, "{answer:?}");
            files = kept;
        }
        let gate = files.start();
        let mut client = Client::of(&gate.data);
        assert_eq!(client.status(&valid[0], "disabled"), 401);
        for secret in &valid[1..] {
            assert_eq!(client.status(secret, "acknowledged"), 200);
        }
    });
}

/// What an error of the disk is answered.
fn expected(error: &str) -> (u16, &'static str) {
    match error {
        "EROFS" | "EACCES" => (409, "read_only_store"),
        _ => (500, "write_failed"),
    }
}

#[test]
fn a_disk_that_fails_the_gate_changes_nothing_and_shows_no_secret() {
    if !strace::is_allowed() {
        return;
    }
    let mut steps = Vec::new();
    for asked in ALL {
        // What cannot be removed is in nobody's way.
        for call in asked.calls().iter().filter(|call| call.name != "unlink") {
            let errors = ["ENOSPC", "EIO", "EROFS", "EACCES"];
            steps.extend(errors.map(|error| (asked, call.clone(), error)));
        }
    }
    // The lock, the mode, the new file, its renaming, the folder.
    assert_eq!(steps.len(), ALL.len() * 5 * 4);
    for_each_at_once(&steps, |(asked, call, error)| {
        let prepared = Prepared::new();
        let mut running = prepared.start_traced(&[call.inject(&format!("error={error}"))]);
        let answer = asked.of(&mut running.administrator, &running.id).unwrap();
        let injected =
            running.trace.threads().iter().any(|(_, lines)| lines.contains("(INJECTED)"));
        assert!(injected, "{error} at {call:?} of {asked:?}");
        let what = format!("{error} at {call:?} of {asked:?}: {answer:?}");
        assert_refused(&answer, expected(error), *asked, &what);
        let Running { gate, secret, old, .. } = running;
        assert_eq!(text(&gate.files), old, "{what}");
        assert_eq!(names(&gate.files), NAMES, "{what}");
        let mut client = Client::of(&gate.data);
        assert_eq!(client.status(&secret, &what), 200, "{what}");
        if let Some(never_saved) = answer.json()["secret"].as_str() {
            assert_eq!(client.status(never_saved, &what), 401, "{what}");
        }
    });
}

/// An error of the system itself, which needs no strace: files may not grow here.
#[test]
fn a_gate_whose_files_may_not_grow_says_so_and_goes_on() {
    let Prepared { files, key, id, secret, .. } = Prepared::new();
    let old = text(&files);
    let serve = files.command(&["serve"]);
    let mut limited = Command::new("sh");
    limited.args(["-c", "trap '' XFSZ; ulimit -f 0; exec \"$@\"", "sh"]);
    limited.arg(serve.get_program()).args(serve.get_args());
    let gate = files.start_by(&mut limited);
    let mut administrator = Administrator::at(&admin_address(&gate.process), &key);
    let mut client = Client::of(&gate.data);
    for _ in 0..3 {
        let answers = [
            (Asked::Issue, administrator.call("POST", "", Some(&new_token("new")))),
            (Asked::Regenerate, administrator.call("POST", &format!("/{id}/regenerate"), None)),
            (
                Asked::Disable,
                administrator.call("PATCH", &format!("/{id}"), Some(&json!({ "disabled": true }))),
            ),
            (Asked::Disable, administrator.call("DELETE", &format!("/{id}"), None)),
        ];
        for (asked, answer) in &answers {
            assert_refused(answer, (500, "write_failed"), *asked, &format!("{answer:?}"));
        }
        assert_eq!(client.status(&secret, "nothing was changed"), 200);
    }
    assert_eq!(text(&gate.files), old);
    assert_eq!(names(&gate.files), NAMES);
}

fn assert_refused(answer: &Answer, (status, reason): (u16, &str), asked: Asked, what: &str) {
    assert_eq!(answer.status, status, "{what}");
    assert_eq!(answer.header("content-type"), Some("application/problem+json"), "{what}");
    let problem = answer.json();
    assert_eq!(problem["reason"], reason, "{what}");
    if status != 409 {
        assert!(!answer.body.contains("fg_") && !answer.body.contains("blake3:"), "{what}");
        assert_eq!(
            (&problem["secret"], &problem["stanza"]),
            (&Value::Null, &Value::Null),
            "{what}"
        );
        return;
    }
    // What to paste, and the secret that goes with it.
    let stanza = problem["stanza"].as_str().unwrap_or_else(|| panic!("{what}"));
    let entries = entries(&format!("version = 1\n{stanza}"));
    assert_eq!(entries.len(), 1, "{what}");
    let entry = entries.values().next().unwrap();
    match asked {
        Asked::Disable => assert!(entry.is_disabled && problem["secret"].is_null(), "{what}"),
        Asked::Issue | Asked::Regenerate => {
            assert_eq!(entry.hash, hash(problem["secret"].as_str().unwrap()), "{what}");
        }
    }
}
