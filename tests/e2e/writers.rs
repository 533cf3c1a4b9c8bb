//! Eight who change the token file by the program and one who edits it by hand, all at once: nothing
//! that was acknowledged is lost, and whoever looks finds a valid file.
//!
//! `FAREGATE_WRITERS_SECONDS` says how long they go on.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::admin_gate::{
    self, Administrator, Client, admin_address, new_token, wait_until_in_force,
};
use crate::gate::{Gate, GateFiles};
use crate::token_file::{Entry, NAMES, Ran, assert_valid, entries, hash, names, text};

const WRITERS: usize = 8;

fn duration() -> Duration {
    let seconds = std::env::var("FAREGATE_WRITERS_SECONDS").ok();
    Duration::from_secs(seconds.map_or(8, |seconds| seconds.parse().expect("whole seconds")))
}

/// What all of them see.
struct Scene<'g> {
    files: &'g GateFiles,
    until: Instant,
    /// Somebody failed, so the others need not go on.
    is_over: AtomicBool,
    /// Odd while the file is written in place, when it may be anything for a moment.
    saves: AtomicUsize,
}

impl Scene<'_> {
    fn goes_on(&self) -> bool {
        Instant::now() < self.until && !self.is_over.load(Ordering::Relaxed)
    }

    /// Who edits by a script holds this lock.
    fn lock_file(&self) -> File {
        let path = self.files.path("tokens.toml.lock");
        OpenOptions::new().write(true).create(true).truncate(false).open(path).unwrap()
    }

    /// The file's text while nobody changes it.
    fn text(&self) -> String {
        let lock = self.lock_file();
        lock.lock_shared().unwrap();
        text(self.files)
    }
}

/// Ends the others when its thread panics.
struct EndsAll<'s>(&'s AtomicBool);

impl Drop for EndsAll<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.store(true, Ordering::Relaxed);
        }
    }
}

/// A token as its owner was told it is.
#[derive(Clone, Debug)]
struct Told {
    secret: String,
    /// The secret before, in its grace.
    previous: Option<String>,
    is_disabled: bool,
}

/// Changes tokens of its own, one after the other, and keeps what it was told.
struct Writer<'s> {
    scene: &'s Scene<'s>,
    by: By,
    number: usize,
    random: fastrand::Rng,
    own: BTreeMap<String, Told>,
    /// Secrets that must not work any more.
    dead: Vec<String>,
    changes: usize,
}

/// How a writer changes the file.
enum By {
    Commands,
    AdminApi(Administrator, Client),
}

impl Writer<'_> {
    fn work(mut self) -> Self {
        while self.scene.goes_on() {
            let ids: Vec<String> = self.own.keys().cloned().collect();
            let choice = match ids.len() {
                0..3 => 0,
                8.. => 1,
                _ => self.random.u32(0..7),
            };
            let id = if ids.is_empty() {
                String::new()
            } else {
                ids[self.random.usize(0..ids.len())].clone()
            };
            match choice {
                0 => self.issue(),
                1 => self.delete(&id),
                2 | 3 => self.regenerate(&id, self.changes.is_multiple_of(2)),
                _ => self.switch(&id),
            }
            self.changes += 1;
            self.compare_with_the_file();
        }
        self
    }

    /// Every token of this writer is in the file as it was told to be.
    fn compare_with_the_file(&self) {
        let text = self.scene.text();
        let entries = entries(&text);
        for (id, told) in &self.own {
            let Told { secret, is_disabled, .. } = told;
            let expected = Entry { hash: hash(secret), is_disabled: *is_disabled };
            assert_eq!(entries.get(id), Some(&expected), "writer {}, {id}:\n{text}", self.number);
        }
    }

    fn command(&self, arguments: &[&str]) -> Ran {
        let ran = Ran::of(&mut self.scene.files.command(arguments));
        assert_eq!(ran.code, Some(0), "{arguments:?}: {ran:?}");
        ran
    }

    fn issue(&mut self) {
        let name = format!("writer {}, change {}", self.number, self.changes);
        let (id, secret) = match &mut self.by {
            By::Commands => {
                let issue = ["token", "issue", "--json", "--name", &name];
                let rights = ["--resource", "*", "--group", "model-evaluation"];
                let told = self.command(&[&issue[..], &rights].concat()).out;
                let told: serde_json::Value = serde_json::from_str(&told).unwrap();
                (text_of(&told["token"]["id"]), text_of(&told["secret"]))
            }
            By::AdminApi(administrator, client) => {
                let answer = administrator.call("POST", "", Some(&new_token(&name)));
                assert_eq!(answer.status, 201, "{answer:?}");
                let secret = text_of(&answer.json()["secret"]);
                assert_eq!(client.status(&secret, "issued"), 200);
                (text_of(&answer.json()["token"]["id"]), secret)
            }
        };
        let told = Told { secret, previous: None, is_disabled: false };
        assert!(self.own.insert(id, told).is_none(), "an id is given twice");
    }

    fn regenerate(&mut self, id: &str, with_grace: bool) {
        let grace = if with_grace { "24h" } else { "0s" };
        let secret = match &mut self.by {
            By::Commands => {
                let regenerate = ["token", "regenerate", id, "--grace", grace];
                self.command(&regenerate).secret().unwrap().to_owned()
            }
            By::AdminApi(administrator, _) => {
                let body = json!({ "grace_period": grace });
                let answer = administrator.call("POST", &format!("/{id}/regenerate"), Some(&body));
                assert_eq!(answer.status, 200, "{answer:?}");
                text_of(&answer.json()["secret"])
            }
        };
        let told = self.own.get_mut(id).unwrap();
        let old = std::mem::replace(&mut told.secret, secret);
        self.dead.extend(told.previous.take());
        if with_grace {
            told.previous = Some(old);
        } else {
            self.dead.push(old);
        }
        self.try_out(id, "regenerated");
    }

    fn switch(&mut self, id: &str) {
        let is_disabled = !self.own[id].is_disabled;
        let word = if is_disabled { "disable" } else { "enable" };
        match &mut self.by {
            By::Commands => drop(self.command(&["token", word, id])),
            By::AdminApi(administrator, _) => {
                let answer = if self.changes.is_multiple_of(2) {
                    administrator.call("POST", &format!("/{id}/{word}"), None)
                } else {
                    let body = json!({ "disabled": is_disabled, "labels": { "by": word } });
                    administrator.call("PATCH", &format!("/{id}"), Some(&body))
                };
                assert_eq!(answer.status, 200, "{answer:?}");
                assert_eq!(answer.json()["token"]["disabled"], is_disabled, "{answer:?}");
            }
        }
        self.own.get_mut(id).unwrap().is_disabled = is_disabled;
        self.try_out(id, word);
    }

    fn delete(&mut self, id: &str) {
        match &mut self.by {
            By::Commands => drop(self.command(&["token", "delete", id])),
            By::AdminApi(administrator, _) => {
                let answer = administrator.call("DELETE", &format!("/{id}"), None);
                assert_eq!(answer.status, 204, "{answer:?}");
            }
        }
        let told = self.own.remove(id).unwrap();
        self.dead.extend(told.previous);
        self.dead.push(told.secret);
        if let By::AdminApi(_, client) = &mut self.by {
            assert_eq!(client.status(self.dead.last().unwrap(), "deleted"), 401);
        }
        assert!(!entries(&self.scene.text()).contains_key(id), "{id} is there again");
    }

    /// What the admin API acknowledged is in force on every worker.
    fn try_out(&mut self, id: &str, what: &str) {
        let By::AdminApi(_, client) = &mut self.by else { return };
        let Told { secret, previous, is_disabled } = &self.own[id];
        let expected = if *is_disabled { 401 } else { 200 };
        assert_eq!(client.status(secret, what), expected, "{id} was {what}");
        if let Some(previous) = previous {
            assert_eq!(client.status(previous, what), expected, "{id} was {what}");
        }
        if let Some(dead) = self.dead.last() {
            assert_eq!(client.status(dead, what), 401, "{id} was {what}");
        }
    }
}

fn text_of(value: &serde_json::Value) -> String {
    value.as_str().unwrap().to_owned()
}

const HAND: &str = "[[token]] # by hand\n";

/// Somebody with an editor and a script that holds the lock while it saves: comments at the head of
/// the file and in an entry of their own, and that entry's name. Answers how often it saved.
fn edit_by_hand(scene: &Scene<'_>) -> usize {
    let mut edits = 0_usize;
    while scene.goes_on() {
        let lock = scene.lock_file();
        lock.lock().unwrap();
        let read = text(scene.files);
        let before = if edits == 0 { "0".to_owned() } else { (edits - 1).to_string() };
        let comment = format!("# edit {edits}\n");
        let mine = if edits.is_multiple_of(2) {
            format!("{comment}{read}")
        } else {
            read.replace(HAND, &format!("{HAND}{comment}"))
        };
        let mine =
            mine.replace(&format!("name = \"hand {before}\""), &format!("name = \"hand {edits}\""));
        assert!(
            mine.contains(&format!("\"hand {edits}\"")),
            "the entry is as it was left:\n{read}"
        );
        if edits.is_multiple_of(3) {
            scene.saves.fetch_add(1, Ordering::SeqCst);
            fs::write(scene.files.path("tokens.toml"), mine).unwrap();
            scene.saves.fetch_add(1, Ordering::SeqCst);
        } else {
            let new = scene.files.path("4913");
            fs::copy(scene.files.path("tokens.toml"), &new).unwrap();
            fs::write(&new, mine).unwrap();
            fs::rename(&new, scene.files.path("tokens.toml")).unwrap();
        }
        drop(lock);
        edits += 1;
        // A person thinks between two edits.
        thread::sleep(Duration::from_millis(15));
    }
    edits
}

/// Somebody who looks all the time. Answers how often the file was looked at.
fn look(scene: &Scene<'_>) -> usize {
    let mut looks = 0;
    while scene.goes_on() {
        let before = scene.saves.load(Ordering::SeqCst);
        let ran = Ran::of(&mut scene.files.command(&["check"]));
        let is_settled = before.is_multiple_of(2) && before == scene.saves.load(Ordering::SeqCst);
        if is_settled {
            assert_eq!(ran.code, Some(0), "{ran:?}");
            looks += 1;
        }
    }
    looks
}

/// Lets all of them loose and answers what the writers were told.
fn let_loose<'s>(scene: &'s Scene<'s>, by: impl Fn(usize) -> By) -> Vec<Writer<'s>> {
    let hand = format!("\n{HAND}id = \"hand\"\nname = \"hand 0\"\nhash = \"{}\"\n", hash("hand"));
    let path = scene.files.path("tokens.toml");
    fs::write(&path, text(scene.files) + &hand).unwrap();
    let (writers, edits, looks) = thread::scope(|threads| {
        let editor = threads.spawn(|| {
            let _ends_all = EndsAll(&scene.is_over);
            edit_by_hand(scene)
        });
        let reader = threads.spawn(|| {
            let _ends_all = EndsAll(&scene.is_over);
            look(scene)
        });
        let writers: Vec<_> = (0..WRITERS)
            .map(|number| {
                let writer = Writer {
                    scene,
                    by: by(number),
                    number,
                    random: fastrand::Rng::with_seed(number as u64),
                    own: BTreeMap::new(),
                    dead: Vec::new(),
                    changes: 0,
                };
                threads.spawn(move || {
                    let _ends_all = EndsAll(&scene.is_over);
                    writer.work()
                })
            })
            .collect();
        let writers: Vec<_> = writers.into_iter().map(|writer| writer.join().unwrap()).collect();
        (writers, editor.join().unwrap(), reader.join().unwrap())
    });
    let changes: Vec<usize> = writers.iter().map(|writer| writer.changes).collect();
    let counts = format!("changes {changes:?}, {edits} edits by hand, {looks} looks");
    // Everybody took part.
    assert!(changes.iter().all(|changes| *changes > 0) && edits > 2 && looks > 0, "{counts}");

    let text = text(scene.files);
    let mut expected: Vec<&String> = writers.iter().flat_map(|writer| writer.own.keys()).collect();
    let hand = "hand".to_owned();
    expected.push(&hand);
    expected.sort();
    assert_eq!(entries(&text).keys().collect::<Vec<_>>(), expected, "no token more, none less");
    for edit in 0..edits {
        assert_eq!(text.matches(&format!("# edit {edit}\n")).count(), 1, "edit {edit}:\n{text}");
    }
    assert!(text.contains(&format!("name = \"hand {}\"", edits - 1)), "{text}");
    for writer in &writers {
        writer.compare_with_the_file();
    }
    assert_valid(scene.files);
    assert_eq!(names(scene.files), NAMES);
    writers
}

#[test]
fn eight_commands_and_a_hand_editor_lose_nothing() {
    let (files, _key) = admin_gate::files();
    let scene = Scene {
        files: &files,
        until: Instant::now() + duration(),
        is_over: AtomicBool::new(false),
        saves: AtomicUsize::new(0),
    };
    let_loose(&scene, |_| By::Commands);
}

#[test]
fn the_admin_api_commands_and_a_hand_editor_lose_nothing() {
    let (files, key) = admin_gate::files();
    let gate = files.start();
    let admin = admin_address(&gate.process);
    let scene = Scene {
        files: &gate.files,
        until: Instant::now() + duration(),
        is_over: AtomicBool::new(false),
        saves: AtomicUsize::new(0),
    };
    let writers = let_loose(&scene, |number| match number % 2 {
        0 => By::AdminApi(Administrator::at(&admin, &key), Client::of(&gate.data)),
        _ => By::Commands,
    });
    assert_all_in_force(&gate, &writers);
}

/// What the commands were told comes into force, too.
fn assert_all_in_force(gate: &Gate, writers: &[Writer<'_>]) {
    wait_until_in_force(gate);
    let mut client = Client::of(&gate.data);
    for writer in writers {
        for (id, told) in &writer.own {
            let expected = if told.is_disabled { 401 } else { 200 };
            for secret in [Some(&told.secret), told.previous.as_ref()].into_iter().flatten() {
                assert_eq!(client.status(secret, id), expected, "{id}");
            }
        }
        for dead in &writer.dead {
            assert_eq!(client.status(dead, "an old secret"), 401);
        }
    }
}
