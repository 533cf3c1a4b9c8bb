//! The token file on disk: what is refused, and that no change loses or invents anything.

mod concurrent;
mod damaged;
mod random_edits;

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use faregate::policy::amend::{self, AmendError, Amended, Edit, Entropy, NewToken, TokenPatch};
use faregate::policy::{Document, Moment, Rules};
use faregate::store::file::{Committed, FileStore};
use faregate::store::{Generation, StoreError};
use faregate::token::Secret;
use tempfile::TempDir;

const NOW: Moment = Moment(1_795_428_000);

const FILE: &str = r#"# Ours.
version = 1

[[admin]]
name = "alice"
hash = "blake3:0000000000000000000000000000000000000000000000000000000000000001"

# nightly
[[token]]
id = "batch"
resources = ["iris*"]   # flowers
groups = ["model-evaluation"]
hash = "blake3:0000000000000000000000000000000000000000000000000000000000000002"

[[token]]
id = "web"
hash = "blake3:0000000000000000000000000000000000000000000000000000000000000003"
"#;

fn rules() -> Arc<Rules> {
    Arc::new(Rules::default())
}

/// A folder with a token file in it.
struct Folder {
    folder: TempDir,
}

impl Folder {
    fn with(text: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let own = Self { folder };
        own.write(text);
        fs::set_permissions(own.file(), Permissions::from_mode(0o600)).unwrap();
        own
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn file(&self) -> PathBuf {
        self.path().join("tokens.toml")
    }

    fn store(&self) -> FileStore {
        FileStore::new(self.file())
    }

    fn text(&self) -> String {
        fs::read_to_string(self.file()).unwrap()
    }

    fn write(&self, text: &str) {
        fs::write(self.file(), text).unwrap();
    }

    /// The names of all files, in order.
    fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(self.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

fn entropy(seed: u64) -> Entropy {
    let mut entropy = Entropy { secret: [7; 32], id: [7; 16] };
    entropy.secret[..8].copy_from_slice(&seed.to_be_bytes());
    entropy.id[8..].copy_from_slice(&seed.to_be_bytes());
    entropy
}

fn named(name: &str) -> NewToken {
    NewToken { name: Some(name.into()), ..NewToken::default() }
}

fn issue(store: &FileStore, name: &str, seed: u64) -> Result<Committed<Secret>, StoreError> {
    store.commit(None, &rules(), |document| {
        Ok(amend::issue(document, named(name), &entropy(seed), NOW))
    })
}

fn disable(document: &Document, id: &str) -> Result<(Amended, ()), AmendError> {
    Ok((amend::set_disabled(document, id, true)?, ()))
}

/// The error of a reading or a change that must fail.
fn refused<T>(result: Result<T, StoreError>) -> StoreError {
    match result {
        Ok(_) => panic!("this was not refused"),
        Err(error) => error,
    }
}

#[test]
fn a_file_is_read_with_its_generation() {
    let folder = Folder::with(FILE);
    let loaded = folder.store().load().unwrap();
    assert_eq!(loaded.document.tokens.len(), 2);
    assert_eq!(loaded.document.admins[0].name.line, 5);
    assert_eq!(loaded.generation, Generation::of(FILE.as_bytes()));
    assert!(loaded.warnings.is_empty());
    // Reading leaves nothing behind.
    assert_eq!(folder.names(), ["tokens.toml"]);
}

#[test]
fn what_is_no_private_regular_file_is_refused() {
    let folder = Folder::with(FILE);
    let set_mode = |mode| fs::set_permissions(folder.file(), Permissions::from_mode(mode)).unwrap();
    set_mode(0o644);
    let warnings = folder.store().load().unwrap().warnings;
    assert_eq!(warnings.len(), 1);
    assert!(warnings[0].remedy.contains("chmod o-r"), "{}", warnings[0]);
    set_mode(0o602);
    assert!(matches!(folder.store().load(), Err(StoreError::WritableByOthers { .. })));
    assert!(matches!(issue(&folder.store(), "x", 1), Err(StoreError::WritableByOthers { .. })));
    assert_eq!(folder.text(), FILE);

    let store = |path: &Path| FileStore::new(path);
    assert!(matches!(store(folder.path()).load(), Err(StoreError::NotAFile { .. })));
    assert!(matches!(store(Path::new("/dev/null")).load(), Err(StoreError::NotAFile { .. })));
    let missing = refused(store(&folder.path().join("none.toml")).load());
    assert!(matches!(missing, StoreError::Read { .. }));
    assert!(missing.to_string().contains("none.toml"), "{missing}");
    // A pipe that nobody writes to: an answer at once, or this test never ends.
    let pipe = folder.path().join("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    assert!(matches!(store(&pipe).load(), Err(StoreError::NotAFile { .. })));
    assert!(matches!(issue(&store(&pipe), "x", 1), Err(StoreError::NotAFile { .. })));
    let large = fs::File::create(folder.path().join("large")).unwrap();
    large.set_len((1 << 30) + 1).unwrap();
    let large = folder.path().join("large");
    fs::set_permissions(&large, Permissions::from_mode(0o600)).unwrap();
    assert!(matches!(store(&large).load(), Err(StoreError::TooLarge { .. })));
}

#[test]
fn an_invalid_file_is_told_with_all_lines_and_never_changed() {
    let text = "version = 1\n[[token]]\nid = \"a b\"\nhash = \"plain-secret-42\"\nfoo = 1\n";
    let folder = Folder::with(text);
    let error = refused(issue(&folder.store(), "x", 1)).to_string();
    for line in [3, 4, 5] {
        assert!(error.contains(&format!("tokens.toml:{line}: ")), "{error}");
    }
    assert!(!error.contains("plain-secret-42"), "{error}");
    assert_eq!(folder.text(), text);

    fs::write(folder.file(), b"version = 1\n# \xff\n").unwrap();
    let error = refused(folder.store().load()).to_string();
    assert!(error.contains("tokens.toml:2: ") && error.contains("UTF-8"), "{error}");
    folder.write("");
    assert!(matches!(folder.store().load(), Err(StoreError::Invalid { .. })));
    // One array of all tokens is another form than the one that is edited.
    let hash = format!("blake3:{}", "1".repeat(64));
    folder.write(&format!("version = 1\ntoken = [{{ id = \"a\", hash = \"{hash}\" }}]\n"));
    let error = refused(issue(&folder.store(), "x", 1)).to_string();
    assert!(error.contains("tokens.toml:2: ") && error.contains("[[token]]"), "{error}");
    assert!(!error.contains(&hash), "{error}");
}

#[test]
fn a_change_keeps_mode_owner_and_links() {
    let folder = Folder::with(FILE);
    let real = folder.path().join("real");
    fs::create_dir(&real).unwrap();
    fs::rename(folder.file(), real.join("t.toml")).unwrap();
    symlink("real/t.toml", folder.file()).unwrap();
    fs::set_permissions(real.join("t.toml"), Permissions::from_mode(0o640)).unwrap();
    let is_root = fs::metadata(real.join("t.toml")).unwrap().uid() == 0;
    let (user, group) = if is_root { (1234, 4321) } else { (0, 0) };
    if is_root {
        std::os::unix::fs::chown(real.join("t.toml"), Some(user), Some(group)).unwrap();
    }
    let committed = issue(&folder.store(), "x", 1).unwrap();
    assert_eq!(committed.generation, Generation::of(folder.text().as_bytes()));
    assert_eq!(committed.document, folder.store().load().unwrap().document);
    assert_eq!(committed.compiled.policy.tokens().len(), 3);
    assert!(fs::symlink_metadata(folder.file()).unwrap().is_symlink());
    let metadata = fs::metadata(real.join("t.toml")).unwrap();
    assert_eq!(metadata.mode() & 0o7777, 0o640);
    if is_root {
        assert_eq!((metadata.uid(), metadata.gid()), (user, group));
        // Or the owner could never change the file again.
        assert_eq!(fs::metadata(real.join("t.toml.lock")).unwrap().uid(), user);
    }
    // The lock is beside the real file, so that all who reach it by any path share it.
    assert_eq!(folder.names(), ["real", "tokens.toml"]);
    let mut names: Vec<_> = fs::read_dir(&real).unwrap().map(|e| e.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["t.toml", "t.toml.lock"]);
    let lock = fs::metadata(real.join("t.toml.lock")).unwrap();
    assert_eq!((lock.mode() & 0o777, lock.len()), (0o600, 0));
}

#[test]
fn a_refused_change_writes_nothing() {
    let folder = Folder::with(FILE);
    let store = folder.store();
    let patch = |name: &str| TokenPatch { name: Some(Some(name.into())), ..TokenPatch::default() };
    for name in ["", "two\nlines", "esc\u{1b}[2J", &"x".repeat(201)] {
        let error = refused(store.commit(None, &rules(), |document| {
            Ok((amend::patch(document, "web", patch(name))?, ()))
        }));
        assert!(matches!(error, StoreError::Refused(_)), "{error}");
    }
    let new = NewToken { resources: vec!["a*b".into()], ..NewToken::default() };
    let error = refused(
        store.commit(None, &rules(), |document| Ok(amend::issue(document, new, &entropy(1), NOW))),
    );
    assert_eq!(
        error.to_string(),
        "the change is refused: a pattern in `resources` is not one: `*` may stand only at the \
         end; write a model id, `prefix*`, or `*`"
    );
    let error = refused(store.commit(None, &rules(), |document| disable(document, "none")));
    assert!(matches!(error, StoreError::Amend(AmendError::NoSuchToken(_))), "{error}");
    assert_eq!(folder.text(), FILE);
    assert_eq!(folder.names(), ["tokens.toml", "tokens.toml.lock"]);
}

#[test]
fn a_change_of_what_was_seen_is_made_to_nothing_else() {
    let folder = Folder::with(FILE);
    let seen = folder.store().load().unwrap().generation;
    let disable_if = |seen| folder.store().commit(Some(seen), &rules(), |d| disable(d, "web"));
    folder.write(&FILE.replace("# Ours.", "# Theirs."));
    assert!(matches!(disable_if(&seen), Err(StoreError::Changed { .. })));
    assert!(!folder.text().contains("disabled"));
    let seen = folder.store().load().unwrap().generation;
    let next = disable_if(&seen).unwrap().generation;
    assert_ne!(next, seen);
    // Nothing left to do: the same file.
    assert_eq!(disable_if(&next).unwrap().generation, next);
}

#[test]
fn a_file_that_cannot_be_changed_says_so_and_how_it_would_be() {
    let folder = Folder::with(FILE);
    fs::set_permissions(folder.file(), Permissions::from_mode(0o400)).unwrap();
    let error = refused(issue(&folder.store(), "x", 1));
    assert!(matches!(error, StoreError::ReadOnly { .. }), "{error}");
    assert_eq!(folder.names(), ["tokens.toml"]);

    // A ConfigMap or Secret, as the kubelet lays it out.
    let volume = tempfile::tempdir().unwrap();
    let version = volume.path().join("..2026_11_23_10_00_00.1");
    fs::create_dir(&version).unwrap();
    fs::write(version.join("tokens.toml"), FILE).unwrap();
    symlink("..2026_11_23_10_00_00.1", volume.path().join("..data")).unwrap();
    symlink("..data/tokens.toml", volume.path().join("tokens.toml")).unwrap();
    let store = FileStore::new(volume.path().join("tokens.toml"));
    assert_eq!(store.load().unwrap().document.tokens.len(), 2);
    let error = refused(issue(&store, "x", 1));
    assert!(error.to_string().contains("Kubernetes"), "{error}");
    let change = |document: &Document| Ok(amend::issue(document, named("x"), &entropy(1), NOW));
    let (edit, secret) = store.rehearse(&rules(), change).unwrap();
    let Edit::AddToken(entry) = &edit else { panic!("{edit:?}") };
    assert_eq!(entry.hash.value, secret.digest().to_file_form());
    let stanza = faregate::store::stanza(&edit);
    let pasted = faregate::strict_toml::read_token_file(&format!("{FILE}{stanza}")).unwrap();
    assert_eq!(pasted.tokens.last(), Some(entry));
    assert_eq!(fs::read_to_string(version.join("tokens.toml")).unwrap(), FILE);
    assert_eq!(fs::read_dir(&version).unwrap().count(), 1);
}

#[test]
fn what_a_killed_change_left_behind_is_swept_and_nothing_else() {
    let folder = Folder::with(FILE);
    let write = |name: &str| fs::write(folder.path().join(name), "x").unwrap();
    write(".tokens.toml.faregate-AbC123.tmp");
    for kept in
        [".tokens.toml.swp", ".other.toml.faregate-AbC123.tmp", "tokens.toml.faregate-x.tmp"]
    {
        write(kept);
    }
    issue(&folder.store(), "x", 1).unwrap();
    assert_eq!(
        folder.names(),
        [
            ".other.toml.faregate-AbC123.tmp",
            ".tokens.toml.swp",
            "tokens.toml",
            "tokens.toml.faregate-x.tmp",
            "tokens.toml.lock"
        ]
    );
}

#[test]
fn a_lock_file_that_is_a_link_is_not_followed() {
    let folder = Folder::with(FILE);
    symlink("victim", folder.path().join("tokens.toml.lock")).unwrap();
    let error = refused(issue(&folder.store(), "x", 1));
    assert!(matches!(error, StoreError::Write { .. }), "{error}");
    assert_eq!(folder.names(), ["tokens.toml", "tokens.toml.lock"]);
    assert_eq!(folder.text(), FILE);
}

#[test]
fn no_name_can_add_a_table() {
    let names = [
        "\"]]\n[[token]]",
        "\"\"\"\n[[admin]]\nname = \"mallory\"",
        "x\"\n[[token]]\nid = \"y",
        "'''\n[[token]]",
        "\\\"]]\\n[[token]]",
        "\" ]] [[token]] # \"",
        "'''",
        "\"\"\"",
        "a' = \"b\" # '",
        "\\",
        "\\u000a[[token]]",
        "✓ 漢字 \u{2028}[[token]]",
        "\u{85}[[token]]",
        "\r[[token]]",
        "\u{202e}gnikcah",
    ];
    let mut accepted = 0;
    for (number, name) in names.iter().enumerate() {
        let folder = Folder::with(FILE);
        let store = folder.store();
        let new = || NewToken {
            name: Some((*name).into()),
            labels: [("k".into(), (*name).into())].into(),
            ..NewToken::default()
        };
        let results = [
            store
                .commit(None, &rules(), |d| {
                    Ok(amend::issue(d, new(), &entropy(number as u64), NOW))
                })
                .map(|committed| committed.document),
            store
                .commit(None, &rules(), |d| {
                    let patch = TokenPatch {
                        name: Some(new().name),
                        labels: Some(new().labels),
                        ..TokenPatch::default()
                    };
                    Ok((amend::patch(d, "batch", patch)?, ()))
                })
                .map(|committed| committed.document),
            store
                .commit(None, &rules(), |d| {
                    amend::issue_admin_key(d, name, &entropy(number as u64 + 100))
                })
                .map(|committed| committed.document),
        ];
        let is_printable = !name.chars().any(char::is_control);
        for result in results {
            assert_eq!(result.is_ok(), is_printable, "{name:?}");
        }
        let document = store.load().unwrap().document;
        let added = usize::from(is_printable);
        assert_eq!((document.tokens.len(), document.admins.len()), (2 + added, 1 + added));
        if is_printable {
            accepted += 1;
            assert_eq!(document.tokens[2].name.as_ref().unwrap().value, *name);
            assert_eq!(document.tokens[0].labels["k"], *name);
            assert_eq!(document.admins[1].name.value, *name);
        } else {
            assert_eq!(folder.text(), FILE);
        }
    }
    assert!(accepted >= 8, "too few names got as far as the file: {accepted}");
}
