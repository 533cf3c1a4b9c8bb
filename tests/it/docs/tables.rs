//! Tables, paths and links of the documents, compared with the program and the project.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use faregate::policy::Dialect;
use faregate::settings::{FileProblems, Settings};
use faregate::wire::refusal::{Circumstances, Refusal, answer};
use http::HeaderValue;
use toml_edit::DocumentMut;

use super::markdown::{Row, code, project, rows, text_of};
use super::session::Session;
use super::{DOCUMENTS, completed};

#[test]
fn the_table_of_reasons_is_that_of_the_program() {
    let expected: Vec<Vec<String>> = Refusal::all()
        .into_iter()
        .map(|refusal| {
            let told = answer(refusal, &in_grpc());
            let grpc = told.headers().get("grpc-status").unwrap().to_str().unwrap().to_owned();
            let mut name = format!("`{}`", refusal.as_str());
            if refusal.public_reason() != refusal.as_str() {
                name = format!("{name}, told as `{}`", refusal.public_reason());
            }
            vec![name, refusal.status().as_u16().to_string(), grpc]
        })
        .collect();
    let written: Vec<Vec<String>> = rows("README.md", |heading| heading.contains("says no"))
        .into_iter()
        .map(|row| {
            assert_eq!(row.cells.len(), 5, "{row:?}");
            assert!(row.cells.iter().all(|cell| !cell.is_empty()), "{row:?}");
            row.cells[..3].to_vec()
        })
        .collect();
    assert_eq!(written, expected);
}

fn in_grpc() -> Circumstances<'static> {
    static REQUEST_ID: HeaderValue = HeaderValue::from_static("id");
    Circumstances {
        realm: "default",
        dialect: Dialect::default(),
        is_grpc: true,
        offers_basic: false,
        missing_group: None,
        request_id: &REQUEST_ID,
        path: "/",
    }
}

#[test]
fn the_table_of_metrics_is_that_of_the_program() {
    let mut session = Session::after_first_five_minutes();
    // What has no series before something happens.
    let scrape = session.run(
        "NEW=$(faregate token regenerate \"$ID\" --grace 1h 2>/dev/null)
         until curl http://127.0.0.1:9902/metrics | grep -q '^faregate_token_previous_secret_used'; do
             curl -o /dev/null -H \"Authorization: Bearer $TOKEN\" http://127.0.0.1:8080/v2/models/iris
             sleep 0.02
         done
         curl http://127.0.0.1:9902/metrics",
    );
    let mut types = BTreeMap::new();
    let mut labels = BTreeMap::<&str, BTreeSet<&str>>::new();
    for line in scrape.lines() {
        if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|it| it.split_once(' ')) {
            types.insert(name, kind);
        } else if !line.starts_with('#') {
            let name = line.split(['{', ' ']).next().unwrap();
            let stem = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
            let name = stem.filter(|stem| types.contains_key(stem)).unwrap_or(name);
            let own = labels.entry(name).or_default();
            let listed =
                line.split_once('{').map_or("", |(_, rest)| rest.split_once('}').unwrap().0);
            let names = listed.split("\",").filter_map(|label| Some(label.split_once('=')?.0));
            own.extend(names.filter(|label| *label != "le"));
        }
    }
    let expected: BTreeSet<Vec<String>> = types
        .into_iter()
        .filter(|(name, _)| !name.starts_with("process_"))
        .map(|(name, kind)| {
            let labels: Vec<String> =
                labels[name].iter().map(|label| format!("`{label}`")).collect();
            vec![format!("`{name}`"), kind.into(), labels.join(", ")]
        })
        .collect();
    let written: BTreeSet<Vec<String>> = rows("README.md", |heading| heading == "Metrics")
        .into_iter()
        .map(|row| {
            assert_eq!(row.cells.len(), 4, "{row:?}");
            let mut labels: Vec<&str> = row.cells[2].split(", ").collect();
            labels.sort_unstable();
            vec![row.cells[0].clone(), row.cells[1].clone(), labels.join(", ")]
        })
        .collect();
    let missing: Vec<_> = expected.difference(&written).collect();
    let invented: Vec<_> = written.difference(&expected).collect();
    assert!(missing.is_empty() && invented.is_empty(), "{missing:?}\nbut not {invented:?}");
}

/// The metrics that the docs speak of are those of the README's table.
#[test]
fn no_document_speaks_of_a_metric_that_is_not_there() {
    let known: BTreeSet<String> = rows("README.md", |heading| heading == "Metrics")
        .iter()
        .map(|row| code(&row.cells[0]).unwrap().to_owned())
        .collect();
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    for file in DOCUMENTS {
        let text = text_of(file);
        for word in text.split(|c| !is_word(c)).filter(|word| word.starts_with("faregate_")) {
            let stem = ["_bucket", "_sum", "_count"].iter().find_map(|end| word.strip_suffix(end));
            let is_known = known.contains(word) || stem.is_some_and(|stem| known.contains(stem));
            assert!(is_known, "{file}: there is no metric {word}");
        }
    }
}

#[test]
fn every_setting_is_documented_with_its_default() {
    let rows = rows("docs/settings.md", |heading| code_in(heading).is_some());
    let find = |table: &str, key: &str| {
        rows.iter()
            .find(|row| code_in(&row.heading) == Some(table) && code(&row.cells[0]) == Some(key))
    };
    let mut seen = 0;
    for Setting { table, key, value } in settings_of_the_default_file() {
        seen += 1;
        let row = find(&table, &key).unwrap_or_else(|| panic!("`{key}` of {table} is missing"));
        assert_eq!(row.cells.len(), 4, "{row:?}");
        // What is no code is `required`, `none` or the like: the file shows an example there.
        if let Some(default) = code(&row.cells[2]) {
            assert_eq!(default, value, "`{key}` of {table}");
        }
    }
    assert!(seen > 50, "{seen} settings");
    for row in &rows {
        assert_is_known(code_in(&row.heading).unwrap(), code(&row.cells[0]).unwrap(), row);
    }
}

/// The first code within a heading: a table's header.
fn code_in(heading: &str) -> Option<&str> {
    let (_, rest) = heading.split_once('`')?;
    rest.split_once('`').map(|(code, _)| code).filter(|code| code.starts_with('['))
}

struct Setting {
    /// As its header stands in the file.
    table: String,
    /// With a dot within inline tables.
    key: String,
    value: String,
}

/// Every key of the commented default file, those that are commented out as well.
fn settings_of_the_default_file() -> Vec<Setting> {
    let mut settings = Vec::new();
    let mut table = String::new();
    for line in text_of("config/faregate.toml").lines() {
        let line = line.strip_prefix("# ").unwrap_or(line);
        if line.starts_with('[') {
            table = line.split_whitespace().next().unwrap().to_owned();
            continue;
        }
        let Some((key, _)) = line.split_once('=') else { continue };
        let key = key.trim();
        if key.is_empty()
            || !key.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
        {
            continue;
        }
        let document: DocumentMut = line.parse().unwrap_or_else(|error| panic!("{line}: {error}"));
        let item = document[key].as_value().unwrap();
        let text = |value: &toml_edit::Value| value.clone().decorated("", "").to_string();
        match item.as_inline_table() {
            Some(inline) => settings.extend(inline.iter().map(|(inner, value)| Setting {
                table: table.clone(),
                key: format!("{key}.{inner}"),
                value: text(value),
            })),
            None => {
                settings.push(Setting { table: table.clone(), key: key.into(), value: text(item) })
            }
        }
    }
    settings
}

/// Fails when the program does not know a key that the docs have.
fn assert_is_known(table: &str, key: &str, row: &Row) {
    // A date is the right value of no setting, so the program complains about it by the key's name.
    let above = if table.contains("namespace.") { "[[namespace]]\n" } else { "" };
    let text = format!("{above}{table}\n{key} = 1979-05-27\n");
    let problems: FileProblems =
        Settings::from_text(&text, Path::new("faregate.toml")).expect_err("a date is no value");
    let told = problems.to_string();
    assert!(!told.contains("has no key"), "{row:?}\n{told}");
}

#[test]
fn the_routes_of_each_profile_are_those_of_the_program() {
    let folder = tempfile::tempdir().unwrap();
    let settings = folder.path().join("faregate.toml");
    let written = rows("docs/profiles.md", |heading| heading.starts_with('`'));
    for profile in faregate::policy::profile::PROFILES {
        let own = format!("profiles = [\"{}\"]\ndefault_model = \"m\"\n", profile.name);
        std::fs::write(&settings, completed(&format!("[[namespace]]\n{own}"))).unwrap();
        let mut routes = Command::new(env!("CARGO_BIN_EXE_faregate"));
        let routes = routes.args(["routes", "--json", "--config"]).arg(&settings).output().unwrap();
        let told: serde_json::Value = serde_json::from_slice(&routes.stdout).unwrap();
        let expected: Vec<Vec<String>> = told["routes"]
            .as_array()
            .unwrap()
            .iter()
            .map(|route| {
                let list = |of: &str| {
                    let texts = route[of].as_array().unwrap().iter();
                    texts.map(|text| text.as_str().unwrap()).collect::<Vec<_>>().join(" ")
                };
                let model = match list("model") {
                    model if model.is_empty() => "–".to_owned(),
                    model => model,
                };
                let path = route["path"].as_str().unwrap();
                let group = route["group"].as_str().unwrap();
                vec![list("methods").replace('*', "any"), format!("`{path}`"), model, group.into()]
            })
            .collect();
        let heading = format!("`{}`", profile.name);
        let own = written.iter().filter(|row| row.heading.starts_with(&heading));
        let own: Vec<Vec<String>> = own.map(|row| row.cells.clone()).collect();
        assert_eq!(own, expected, "{}", profile.name);
    }
}

#[test]
fn the_code_map_has_the_modules_in_layer_order() {
    let library = text_of("src/lib.rs");
    let modules =
        library.lines().filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';'));
    let modules: Vec<&str> = modules.collect();
    let map = rows("ARCHITECTURE.md", |heading| heading == "Code map");
    let map: Vec<&str> = map.iter().map(|row| code(&row.cells[0]).unwrap()).collect();
    assert_eq!(map, modules);
}

/// Source files and folders that a document speaks of are there.
#[test]
fn no_document_speaks_of_a_file_that_is_not_there() {
    let mut seen = 0;
    for file in DOCUMENTS {
        let text = text_of(file);
        // Between backticks, and in the journeys, whose paths start within `src`.
        let words = text.split(|c: char| c.is_whitespace() || "`|(),;".contains(c));
        for word in words.map(|word| word.trim_end_matches([':', '.'])) {
            let is_ours =
                ["src/", "tests/", "config/", "deploy/"].iter().any(|at| word.starts_with(at));
            let is_module = *file == "ARCHITECTURE.md" && word.ends_with(".rs");
            if !(is_ours && (word.ends_with('/') || word.contains('.'))) && !is_module {
                continue;
            }
            // What a reader makes in a folder of their own, and the default file of the project.
            if word.starts_with("config/") && *file != "ARCHITECTURE.md" {
                continue;
            }
            let is_there = [word.to_owned(), format!("src/{word}")]
                .iter()
                .any(|path| project().join(path).exists());
            assert!(is_there, "{file}: there is no {word}");
            seen += 1;
        }
    }
    assert!(seen > 30, "{seen} paths");
}

/// A link within the project leads somewhere.
#[test]
fn every_link_leads_to_a_file() {
    let mut seen = 0;
    for file in DOCUMENTS.iter().chain(&["CHANGELOG.md"]) {
        let text = text_of(file);
        let folder = Path::new(file).parent().unwrap();
        for link in text.split("](").skip(1).filter_map(|rest| Some(rest.split_once(')')?.0)) {
            if link.contains("://") || link.starts_with("../../") {
                continue;
            }
            let (path, place) = link.split_once('#').unwrap_or((link, ""));
            let target = if path.is_empty() { file.into() } else { folder.join(path) };
            let whole = project().join(&target);
            assert!(whole.exists(), "{file}: {link}");
            if !place.is_empty() {
                let text = std::fs::read_to_string(&whole).unwrap();
                let headings = text.lines().filter(|line| line.starts_with('#'));
                let mut anchors = headings.map(anchor);
                assert!(anchors.any(|anchor| anchor == place), "{file}: {link}");
            }
            seen += 1;
        }
    }
    assert!(seen > 20, "{seen} links");
}

/// What forges make of a heading.
fn anchor(heading: &str) -> String {
    let text = heading.trim_start_matches('#').trim().to_lowercase();
    let kept = text.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}
