//! Token files that are changed while something goes wrong: what is in them, and what each change
//! makes of them.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use crate::gate::{GateFiles, GateSettings};
use crate::process::run;

/// Two tokens and a key, with what people write around them.
const TEXT: &str = r#"# Whose models these are: the fraud team's.
version = 1

[[admin]]
name = "alice"
hash = "blake3:00000000000000000000000000000000000000000000000000000000000000a1"  # her laptop

# --- tokens ---

[[token]]
id        = "batch"             # nightly
resources = ["iris*"]
groups    = ["model-evaluation"]
hash      = "blake3:00000000000000000000000000000000000000000000000000000000000000b2"

[[token]]
id        = "web"
name      = "the shop"          # ask Bob
resources = ["*"]
groups    = ["model-evaluation", "model-management"]
hash      = "blake3:00000000000000000000000000000000000000000000000000000000000000c3"
# The end.
"#;

/// A change that a command makes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Change {
    arguments: &'static [&'static str],
}

/// One of each kind.
pub(crate) const CHANGES: &[Change] = &[
    Change { arguments: &["token", "regenerate", "batch"] },
    Change { arguments: &["token", "regenerate", "batch", "--grace", "24h"] },
    Change { arguments: &["token", "issue", "--resource", "*", "--group", "model-evaluation"] },
    Change { arguments: &["token", "disable", "batch"] },
    Change { arguments: &["token", "delete", "web"] },
    Change { arguments: &["admin-key", "issue", "--name", "bob"] },
];

impl Change {
    /// Whether there is something to show: a token or a key.
    pub(crate) fn has_secret(self) -> bool {
        self.arguments.contains(&"issue") || self.arguments.contains(&"regenerate")
    }

    /// The command that makes it.
    pub(crate) fn command(self, files: &GateFiles) -> Command {
        files.command(self.arguments)
    }

    /// Any one change.
    pub(crate) fn regenerate() -> Self {
        CHANGES[0]
    }
}

/// What a run of a command came to.
#[derive(Debug)]
pub(crate) struct Ran {
    /// None when a signal ended it.
    pub(crate) code: Option<i32>,
    pub(crate) was_killed: bool,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Ran {
    /// Runs a command to its end.
    pub(crate) fn of(command: &mut Command) -> Self {
        Self::from(command.stdin(Stdio::null()).output().unwrap())
    }

    /// The secret on standard output.
    pub(crate) fn secret(&self) -> Option<&str> {
        (!self.out.is_empty()).then(|| {
            let secret = self.out.strip_suffix('\n').expect("a whole line");
            assert!(secret.starts_with("fg") && secret.len() > 50, "{self:?}");
            secret
        })
    }
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code(),
            was_killed: output.status.signal() == Some(9),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

/// A folder with the text above as its token file.
pub(crate) fn files() -> GateFiles {
    let files = GateFiles::write(&GateSettings {
        profile: "any",
        upstream: "http://127.0.0.1:9",
        ..GateSettings::default()
    });
    fs::write(files.path("tokens.toml"), TEXT).unwrap();
    files
}

/// What [`files`] writes.
pub(crate) fn old_text() -> &'static str {
    TEXT
}

/// The text of the token file.
pub(crate) fn text(files: &GateFiles) -> String {
    fs::read_to_string(files.path("tokens.toml")).unwrap()
}

/// The names of the files in the folder, in order.
pub(crate) fn names(files: &GateFiles) -> Vec<String> {
    let entries = fs::read_dir(files.path("")).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// What stands in the folder when nothing is going on.
pub(crate) const NAMES: [&str; 3] = ["faregate.toml", "tokens.toml", "tokens.toml.lock"];

/// A text with what each run makes anew (secrets' hashes, ids, moments) put out of sight. What is
/// left of two runs of one change is the same, byte for byte.
pub(crate) fn without_what_varies(text: &str) -> String {
    let is_date = |word: &str| word.len() >= 20 && word.get(10..11) == Some("T");
    let word = |word: &str| {
        if TEXT.contains(word) {
            return word.to_owned();
        }
        // A new value of another form than the old ones is seen by its length or its end.
        let (bare, end) = word.split_at(word.trim_end_matches([' ', '"', '\n', ',']).len());
        match bare {
            _ if bare.starts_with("blake3:") => format!("blake3:{}{end}", bare.len()),
            _ if bare.starts_with("tk_") => format!("tk_{}{end}", bare.len()),
            _ if is_date(bare) => format!("moment{end}"),
            _ => word.to_owned(),
        }
    };
    text.split_inclusive([' ', '"', '\n']).map(word).collect()
}

/// How a file names the secret.
pub(crate) fn hash(secret: &str) -> String {
    format!("blake3:{}", blake3::hash(secret.as_bytes()).to_hex())
}

/// A token as a file has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) hash: String,
    pub(crate) is_disabled: bool,
}

/// The tokens of a file by their ids. Read by another reader than the program's own.
///
/// # Panics
/// When it is no TOML, or an id is there twice.
pub(crate) fn entries(text: &str) -> BTreeMap<String, Entry> {
    let document: toml_edit::DocumentMut =
        text.parse().unwrap_or_else(|error| panic!("{error}:\n{text}"));
    let mut entries = BTreeMap::new();
    for table in document["token"].as_array_of_tables().into_iter().flatten() {
        let id = table["id"].as_str().unwrap().to_owned();
        let hash = table["hash"].as_str().unwrap().to_owned();
        let is_disabled = table.get("disabled").is_some_and(|value| value.as_bool().unwrap());
        let twice = entries.insert(id, Entry { hash, is_disabled });
        assert_eq!(twice, None, "an id is there twice:\n{text}");
    }
    entries
}

/// Fails unless `faregate check` finds nothing wrong.
pub(crate) fn assert_valid(files: &GateFiles) {
    run("faregate check", &mut files.command(&["check"])).succeeded();
}

/// Fails unless the next change works and leaves nothing lying about.
pub(crate) fn assert_next_change_works(files: &GateFiles) {
    let before = entries(&text(files));
    let secret = files.issue("next", &["*"], &["model-evaluation"]);
    let after = entries(&text(files));
    assert!(before.iter().all(|(id, entry)| after.get(id) == Some(entry)), "{before:?} {after:?}");
    assert_eq!(after.len(), before.len() + 1);
    assert!(after.values().any(|entry| entry.hash == hash(&secret)));
    assert_eq!(names(files), NAMES);
}

/// Does the work with every item, several at a time.
pub(crate) fn for_each_at_once<T: Sync>(items: &[T], work: impl Fn(&T) + Sync) {
    let next = AtomicUsize::new(0);
    let workers = thread::available_parallelism().map_or(2, usize::from).max(2);
    thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                while let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed)) {
                    work(item);
                }
            });
        }
    });
}
