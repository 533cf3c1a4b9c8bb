//! Settings and token files: what is in force when they are right, and what is said of wrong ones.
//!
//! `golden/bad_settings` and `golden/bad_tokens` hold wrong files (`NAME.toml`) and what is printed
//! about them (`NAME.txt`). A new wrong file is enough for a new test.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use faregate::policy::{Problem, Rules};
use faregate::settings::{FileProblems, Limits, ReadSettings, Settings};
use faregate::strict_toml::judge_token_file;

use crate::golden;

mod accepted;

/// What stands in every secret and hash of the wrong files, and must stand in no message.
const PLANTED: [&str; 2] = ["Pl4nted", "facade"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(text: &str) -> Result<ReadSettings, FileProblems> {
    Settings::from_text(text, Path::new("etc/faregate.toml"))
}

/// The rules of a namespace with the profile `ovh`.
fn rules() -> Arc<Rules> {
    Arc::clone(&read(SMALLEST).unwrap().settings.namespaces[0].rules)
}

const SMALLEST: &str = r#"
[[namespace]]
tokens = "tokens.toml"
profiles = ["ovh"]
[namespace.upstream]
endpoints = ["http://127.0.0.1:8000"]
"#;

fn told(problems: &[Problem]) -> String {
    let problems = problems.to_vec();
    FileProblems { file: "tokens.toml".into(), problems }.to_string()
}

/// Compares what is said of every file of a folder, and answers how many files there are and how
/// many of them have something planted.
fn check_folder(folder: &str, say: impl Fn(&str) -> String) -> (usize, usize) {
    let mut files: Vec<PathBuf> = fs::read_dir(root().join("tests/it/golden").join(folder))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "toml"))
        .collect();
    files.sort();
    let mut with_planted = 0;
    for file in &files {
        let text = fs::read_to_string(file).unwrap();
        let name = file.file_stem().unwrap().to_str().unwrap();
        let said = say(&text);
        golden::check(&format!("{folder}/{name}.txt"), &format!("{said}\n"));
        assert_quotes_nothing(name, &text, &said);
        with_planted += usize::from(PLANTED.iter().any(|planted| text.contains(planted)));
    }
    (files.len(), with_planted)
}

fn assert_quotes_nothing(name: &str, text: &str, said: &str) {
    for planted in PLANTED {
        assert!(!said.contains(planted), "{name}: a secret is quoted:\n{said}");
    }
    for line in text.lines().filter(|line| line.len() > 24 && line.contains('=')) {
        assert!(!said.contains(line), "{name}: a whole line is quoted:\n{said}");
    }
}

#[test]
fn wrong_settings_are_told_whole_and_quote_no_secret() {
    let (files, with_planted) =
        check_folder("bad_settings", |text| read(text).unwrap_err().to_string());
    assert!(files >= 40, "{files}");
    assert!(with_planted >= 4, "{with_planted}");
}

#[test]
fn wrong_token_files_are_told_whole_and_quote_no_secret() {
    let rules = rules();
    let (files, with_planted) = check_folder("bad_tokens", |text| {
        let problems = judge_token_file(text, Arc::clone(&rules)).err().expect("it is accepted");
        told(&problems.sorted())
    });
    assert!(files >= 25, "{files}");
    assert!(with_planted >= 15, "{with_planted}");
}

/// Every way to break a file in one place, so that its values end up where other things belong.
#[test]
fn no_single_mistake_brings_a_secret_into_a_message() {
    let secret = "fg_Pl4ntedPl4ntedPl4ntedPl4ntedPl4ntedPl4nted000000000";
    let hash = "facade".repeat(11);
    let hash = &hash[..64];
    let tokens = format!(
        "version = 1\n[[token]]\nid = \"a\"\nhash = \"blake3:{hash}\"\nname = \"{secret}\"\n\
         labels = {{ team = \"{secret}\" }}\n# {secret}\n[[admin]]\nname = \"x\"\nhash = \"{secret}\"\n"
    );
    let settings = SMALLEST.replace("\"tokens.toml\"", &format!("\"{secret}\"")).replace(
        "[namespace.upstream]",
        &format!("name = \"{secret}\"\ndefault_model = \"{secret}\"\n[namespace.upstream]\nca_file = \"{secret}\""),
    );
    let rules = rules();
    let mut refused = 0;
    for (place, _) in tokens.char_indices() {
        for broken in mistakes(&tokens, place) {
            if let Err(problems) = judge_token_file(&broken, Arc::clone(&rules)) {
                refused += 1;
                assert_quotes_nothing(&broken, "", &problems.to_string());
            }
        }
    }
    for (place, _) in settings.char_indices() {
        for broken in mistakes(&settings, place) {
            if let Err(problems) = read(&broken) {
                refused += 1;
                assert_quotes_nothing(&broken, "", &problems.to_string());
            }
        }
    }
    assert!(refused > 1_000, "{refused}");
}

fn mistakes(text: &str, place: usize) -> impl Iterator<Item = String> {
    let (before, after) = text.split_at(place);
    let without = format!("{before}{}", &after[1..]);
    ["\"", "'", "\n", "=", "[", "]", "{", "#", ".", "\\", "\0", " = 1\n", "\"\n\""]
        .into_iter()
        .map(move |put_in| format!("{before}{put_in}{after}"))
        .chain([without, before.to_owned()])
}

#[test]
fn the_files_that_are_shipped_are_valid() {
    let config = root().join("config");
    let ReadSettings { settings, warnings } =
        Settings::read(&config.join("faregate.toml")).unwrap();
    assert_eq!(warnings, []);
    let [namespace] = &settings.namespaces[..] else { panic!("one namespace") };
    assert_eq!(namespace.tokens, config.join("tokens.toml"));
    let text = fs::read_to_string(&namespace.tokens).unwrap();
    let (document, compiled) = judge_token_file(&text, Arc::clone(&namespace.rules)).unwrap();
    assert!(document.tokens.is_empty() && document.admins.is_empty());
    assert_eq!(compiled.warnings, []);
    // What they say is what holds without them.
    let defaults = read(SMALLEST).unwrap().settings;
    assert_eq!(settings.data, defaults.data);
    assert_eq!(settings.ops, defaults.ops);
    assert_eq!(settings.log, defaults.log);
    assert_eq!(settings.limits, defaults.limits);
    assert_eq!(settings.drain, defaults.drain);
    assert_eq!(namespace.credentials, defaults.namespaces[0].credentials);
    assert_eq!(namespace.identity_headers, defaults.namespaces[0].identity_headers);
    assert_eq!(namespace.upstream, defaults.namespaces[0].upstream);
}

/// A file with its commented-out keys and tables in force.
fn uncommented(name: &str) -> String {
    let text = fs::read_to_string(root().join("config").join(name)).unwrap();
    let is_toml = |line: &str| {
        (line.starts_with('[') && line.split('#').next().is_some_and(|l| l.trim().ends_with(']')))
            || line.split_once('=').is_some_and(|(key, _)| {
                !key.trim().is_empty()
                    && key
                        .trim()
                        .bytes()
                        .all(|b| b.is_ascii_lowercase() || matches!(b, b'_' | b'2'))
            })
    };
    text.lines()
        .map(|line| line.strip_prefix("# ").filter(|rest| is_toml(rest)).unwrap_or(line))
        .fold(String::new(), |text, line| text + line + "\n")
}

#[test]
fn what_is_commented_out_in_the_shipped_files_is_valid_too() {
    let text = uncommented("faregate.toml");
    let settings = read(&text).unwrap().settings;
    assert_eq!(settings.limits, Limits::default());
    assert!(settings.admin.is_some() && settings.forward_auth.is_some());
    assert!(settings.data.tls.is_some());
    let namespace = &settings.namespaces[0];
    assert!(namespace.upstream.client_cert.is_some());
    assert_eq!(namespace.models.len(), 1);
    assert_eq!(namespace.rules.routes.routes()[0].path(), "/score/{model}");
    let (document, compiled) =
        judge_token_file(&uncommented("tokens.toml"), Arc::clone(&namespace.rules)).unwrap();
    assert_eq!((document.admins.len(), document.tokens.len()), (1, 1));
    assert_eq!(compiled.warnings, []);
}

#[test]
fn a_file_that_cannot_be_read_is_told_with_its_name() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("none.toml");
    let said = Settings::read(&missing).unwrap_err().to_string();
    assert!(said.starts_with(&format!("{}: the settings cannot be read: ", missing.display())));
    assert!(said.contains("`faregate init` makes one"), "{said}");
    assert!(Settings::read(folder.path()).is_err());
    let binary = folder.path().join("binary.toml");
    fs::write(&binary, b"[log]\nlevel = \"info\"\n# caf\xe9\n").unwrap();
    let said = Settings::read(&binary).unwrap_err().to_string();
    assert!(said.starts_with(&format!("{}:3: ", binary.display())), "{said}");
    let good = folder.path().join("faregate.toml");
    fs::write(&good, SMALLEST).unwrap();
    let settings = Settings::read(&good).unwrap().settings;
    assert_eq!(settings.namespaces[0].tokens, folder.path().join("tokens.toml"));
}

#[test]
fn a_file_with_the_line_ends_and_the_mark_of_windows_is_read() {
    let text = format!("\u{feff}{}", SMALLEST.replace('\n', "\r\n"));
    assert_eq!(read(&text).unwrap().settings.namespaces.len(), 1);
    let wrong = text.replace("tokens.toml\"\r\n", "tokens.toml\"\r\ncolour = 1\r\n");
    assert_eq!(read(&wrong).unwrap_err().problems[0].line, Some(4));
}
