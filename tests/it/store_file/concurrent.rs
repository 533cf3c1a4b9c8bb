//! Several who change the file at one time. Nothing that was acknowledged may be lost.

use std::fs;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Barrier, mpsc};
use std::thread;

use faregate::policy::amend::{self, TokenPatch};
use faregate::store::StoreError;

use super::{FILE, Folder, disable, entropy, issue, named, refused, rules};

#[test]
fn eight_writers_and_a_hand_editor_lose_nothing() {
    const WRITERS: u64 = 8;
    const EACH: u64 = 12;
    let folder = Folder::with(FILE);
    let start = Barrier::new(WRITERS as usize + 1);
    let (acknowledged, all_acknowledged) = mpsc::channel();
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        // Whoever reads meanwhile sees a whole file at every moment, and never less than before.
        let reader = scope.spawn(|| {
            let (mut readings, mut most) = (0, 0);
            while !is_over.load(Ordering::Relaxed) {
                let tokens = folder.store().load().unwrap().document.tokens.len();
                assert!(tokens >= most, "{tokens} after {most}");
                (readings, most) = (readings + 1, tokens);
            }
            readings
        });
        let mut changers = Vec::new();
        for writer in 0..WRITERS {
            let (folder, start, acknowledged) = (&folder, &start, acknowledged.clone());
            changers.push(scope.spawn(move || {
                start.wait();
                for number in 0..EACH {
                    let seed = writer * 1000 + number;
                    let committed = issue(&folder.store(), &format!("n{seed}"), seed).unwrap();
                    let hash = committed.value.digest().to_file_form();
                    acknowledged.send((format!("n{seed}"), hash)).unwrap();
                }
            }));
        }
        // Who edits by a script holds the lock while it does, by the tool everybody has.
        let (by_hand, start) = (&folder, &start);
        let editor = scope.spawn(move || {
            let folder = by_hand;
            start.wait();
            let file = folder.file();
            for number in 0..EACH {
                let script = format!("echo '# by hand {number}' >> \"$1\"");
                let status = Command::new("flock")
                    .arg(folder.path().join("tokens.toml.lock"))
                    .args(["sh", "-c", &script, "sh"])
                    .arg(&file)
                    .status()
                    .unwrap();
                assert!(status.success());
            }
        });
        changers.push(editor);
        let all_ended = changers.into_iter().all(|changer| changer.join().is_ok());
        is_over.store(true, Ordering::Relaxed);
        assert!(all_ended && reader.join().unwrap() > 0);
    });
    drop(acknowledged);
    let document = folder.store().load().unwrap().document;
    let mut count = 0;
    for (name, hash) in all_acknowledged {
        let is_it = |token: &&faregate::policy::TokenEntry| {
            token.name.as_ref().is_some_and(|own| own.value == name)
        };
        let found: Vec<_> = document.tokens.iter().filter(is_it).collect();
        assert_eq!(found.len(), 1, "{name}");
        assert_eq!(found[0].hash.value, hash, "{name}");
        count += 1;
    }
    assert_eq!(count, WRITERS * EACH);
    assert_eq!(document.tokens.len() as u64, 2 + WRITERS * EACH);
    let text = folder.text();
    for number in 0..EACH {
        assert_eq!(text.matches(&format!("# by hand {number}\n")).count(), 1, "{number}");
    }
    assert_eq!(folder.names(), ["tokens.toml", "tokens.toml.lock"]);
}

#[test]
fn an_edit_by_hand_in_the_middle_of_a_change_stays() {
    let folder = Folder::with(FILE);
    // The editor saves when the change has read the file and has not written it yet.
    let by_hand = FILE.replace("# Ours.", "# Theirs.").replace("id = \"web\"", "id = \"site\"");
    let committed = folder
        .store()
        .commit(None, &rules(), |document| {
            folder.write(&by_hand);
            disable(document, "batch")
        })
        .unwrap();
    let groups = "groups = [\"model-evaluation\"]\n";
    assert_eq!(folder.text(), by_hand.replace(groups, &format!("{groups}disabled = true\n")));
    assert_eq!(committed.document.tokens[1].id.value, "site");

    // Saved by renaming, as most editors do, and a token added meanwhile.
    let by_hand = folder.text().replace("# Theirs.", "# Everybody's.");
    let added = folder
        .store()
        .commit(None, &rules(), |document| {
            fs::write(folder.path().join("4913"), &by_hand).unwrap();
            fs::rename(folder.path().join("4913"), folder.file()).unwrap();
            Ok(amend::issue(document, named("new"), &entropy(5), super::NOW))
        })
        .unwrap();
    assert!(folder.text().starts_with(&by_hand));
    assert_eq!(added.document.tokens.len(), 3);
}

#[test]
fn two_changes_of_one_entry_are_not_merged() {
    let change = |by_hand: String| {
        let folder = Folder::with(FILE);
        let result = folder.store().commit(None, &rules(), |document| {
            folder.write(&by_hand);
            let patch = TokenPatch { groups: Some(Vec::new()), ..TokenPatch::default() };
            Ok((amend::patch(document, "batch", patch)?, ()))
        });
        let error = refused(result);
        assert!(matches!(error, StoreError::Changed { .. }), "{error}");
        assert_eq!(folder.text(), by_hand);
    };
    change(FILE.replace("iris*", "iris"));
    change(FILE.replace("id = \"batch\"", "id = \"renamed\""));
    // Left invalid by hand: that is what is told, with its line.
    let folder = Folder::with(FILE);
    let result = folder.store().commit(None, &rules(), |document| {
        folder.write("version = 1\noops\n");
        disable(document, "batch")
    });
    let error = refused(result).to_string();
    assert!(error.contains("tokens.toml:2:"), "{error}");
    assert_eq!(folder.text(), "version = 1\noops\n");
}
