//! Somebody who knows of no lock saves the token file by an editor, at any moment of a change: what
//! they wrote stays.

use std::fs;
use std::process::Stdio;
use std::thread;

use crate::admin_gate::{Asked, Client, Prepared, Running, wait_until_in_force};
use crate::gate::GateFiles;
use crate::strace::{self, SystemCall, Trace, traced};
use crate::token_file::{
    CHANGES, Change, Ran, assert_next_change_works, assert_valid, entries, files, for_each_at_once,
    hash, old_text, text,
};

/// How editors save.
#[derive(Clone, Copy, Debug)]
enum Saving {
    /// The file is emptied and written: nano, most graphical editors.
    InPlace,
    /// A new file takes its place: vim, `sed -i`, Git.
    ByRenaming,
}

/// Saves the file as it is now with three changes: a comment more, a token more, and the token with
/// this id switched off.
fn save_by_hand(files: &GateFiles, saving: Saving, id: &str) {
    let mut mine = "# everybody's\n".to_owned();
    for line in text(files).split_inclusive('\n') {
        mine += line;
        if line.starts_with("id ") && line.contains(&format!("\"{id}\"")) {
            mine += "disabled = true\n";
        }
    }
    mine += &format!("\n[[token]]\nid = \"by-hand\"\nhash = \"{}\"\n", hash("mine"));
    match saving {
        Saving::InPlace => fs::write(files.path("tokens.toml"), mine).unwrap(),
        Saving::ByRenaming => {
            let new = files.path("4913");
            // Editors keep the mode.
            fs::copy(files.path("tokens.toml"), &new).unwrap();
            fs::write(&new, mine).unwrap();
            fs::rename(&new, files.path("tokens.toml")).unwrap();
        }
    }
}

/// Fails when anything is gone that was saved by hand.
fn assert_saved(text: &str, id: &str, what: &str) {
    assert_eq!(text.matches("# everybody's\n").count(), 1, "a comment is lost: {what}");
    let entries = entries(text);
    assert_eq!(entries.get("by-hand").map(|entry| &entry.hash), Some(&hash("mine")), "{what}");
    assert!(entries[id].is_disabled, "a token is valid again: {what}");
}

#[test]
fn what_is_saved_by_hand_at_any_moment_of_a_change_stays() {
    if !strace::is_allowed() {
        return;
    }
    let mut stops = Vec::new();
    // One that shows a secret and one that does not: all others differ in what they write only.
    for change in [CHANGES[0], CHANGES[3]] {
        // What is called after the change was told concerns nobody.
        let calls = strace::calls_of(change);
        let last = calls.iter().rposition(|call| call.name == "write").unwrap();
        for call in &calls[..last] {
            stops.extend(
                [Saving::InPlace, Saving::ByRenaming].map(|saving| (change, call.clone(), saving)),
            );
        }
    }
    let old = entries(old_text());
    for_each_at_once(&stops, |(change, call, saving)| {
        let files = files();
        let ran = stopped_after(&files, *change, call, || save_by_hand(&files, *saving, "web"));
        let text = text(&files);
        let what = format!("saved {saving:?} after {call:?} of {change:?}: {ran:?}\n{text}");
        assert_saved(&text, "web", &what);
        let tokens = entries(&text);
        assert_valid(&files);
        if ran.code == Some(1) {
            // Half of the old file was read and half of the new one. That is told, and nothing done.
            assert!(matches!(saving, Saving::InPlace) && call.name == "read", "{what}");
            assert_eq!((ran.out.as_str(), &tokens["batch"]), ("", &old["batch"]), "{what}");
        } else {
            // Theirs is about another entry, so both are made.
            assert_eq!(ran.code, Some(0), "{what}");
            match ran.secret() {
                Some(secret) => assert_eq!(tokens["batch"].hash, hash(secret), "{what}"),
                None => assert!(tokens["batch"].is_disabled, "{what}"),
            }
        }
        assert_next_change_works(&files);
    });
}

/// Stops the change when the call was made, does what is to be done meanwhile, and lets it go on.
fn stopped_after(
    files: &GateFiles,
    change: Change,
    call: &SystemCall,
    meanwhile: impl FnOnce(),
) -> Ran {
    let trace = Trace::new();
    let mut command = traced(&change.command(files), &trace, &[call.inject("signal=STOP")]);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = command.spawn().unwrap();
    let process = trace.wait_until_stopped();
    meanwhile();
    strace::go_on(process);
    Ran::from(child.wait_with_output().unwrap())
}

#[test]
fn what_is_saved_by_hand_while_the_gate_makes_a_change_stays() {
    if !strace::is_allowed() {
        return;
    }
    let mut stops = Vec::new();
    for asked in [Asked::Issue, Asked::Regenerate] {
        for call in asked.calls() {
            stops.extend(
                [Saving::InPlace, Saving::ByRenaming].map(|how| (asked, call.clone(), how)),
            );
        }
    }
    for_each_at_once(&stops, |(asked, call, saving)| {
        let mut running = Prepared::new().start_traced(&[call.inject("signal=STOP")]);
        let other = running.gate.files.token_id("other");
        let Running { gate, trace, administrator, id, .. } = &mut running;
        let answer = thread::scope(|threads| {
            let asking = threads.spawn(|| asked.of(administrator, id).unwrap());
            let stopped = trace.wait_until_stopped();
            save_by_hand(&gate.files, *saving, &other);
            strace::go_on(stopped);
            asking.join().unwrap()
        });
        let text = text(&gate.files);
        let what = format!("saved {saving:?} after {call:?} of {asked:?}: {answer:?}\n{text}");
        assert_saved(&text, &other, &what);
        assert!(matches!(answer.status, 200 | 201), "{what}");
        let secret = answer.json()["secret"].as_str().unwrap().to_owned();
        assert!(text.contains(&hash(&secret)), "{what}");
        let mut client = Client::of(&gate.data);
        assert_eq!(client.status(&secret, &what), 200, "{what}");
        wait_until_in_force(gate);
        assert_eq!(client.status(&secret, &what), 200, "{what}");
        assert_eq!(client.status(&running.other_secret, &what), 401, "{what}");
    });
}
