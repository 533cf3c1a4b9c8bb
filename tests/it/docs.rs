//! What the documents say, tried out: settings and token files are checked, commands are run
//! against a real gate, tables are compared with the program.
//!
//! What stands behind the language of a fenced block says what becomes of it:
//!
//! | block | what becomes of it |
//! |---|---|
//! | `sh run` | is run in the document's folder; `fails`: it has to fail |
//! | `sh serve` | is run beside the others, which wait until the gate listens |
//! | `sh elsewhere` | is for another machine, and not run |
//! | `text output` | is what the commands before it print; `…` stands for any text or lines |
//! | `text demo` | is what `faregate demo` prints |
//! | `python client` | is run with the official client by the end-to-end tests |
//! | `text client` | is what it prints there |
//! | `http received` | is the last request that reached the model server |
//! | `json log` | are lines of the gate's log |
//! | `toml settings` | has to be right as settings, or as a part of them; `warns`: with a warning |
//! | `toml tokens` | has to be right as a token file, or as entries of one |
//! | `toml file=PATH` | is written to a file; `faregate.toml` and `tokens.toml` are checked as well |
//! | `start` behind any | belongs to the README's first five minutes, where other documents begin |

mod admin;
mod markdown;
mod model_server;
mod session;
mod tables;
mod terminal;

use std::path::Path;
use std::sync::Arc;

use faregate::settings::{ReadSettings, Settings};
use faregate::strict_toml::judge_token_file;
use toml_edit::{ArrayOfTables, DocumentMut, Item, Table, value};

use markdown::{Block, blocks, differs, files_in, text_of};
use session::Session;

/// One test for each document with commands, and the list of all.
macro_rules! documents {
    (without commands: [$($plain:literal),*], $($test:ident: $file:literal,)*) => {
        const WITHOUT_COMMANDS: &[&str] = &[$($plain),*];
        const DOCUMENTS: &[&str] = &[$($plain,)* $($file),*];

        $(#[test]
        fn $test() {
            Session::follow($file);
        })*
    };
}

documents! {
    without commands: [
        "ARCHITECTURE.md",
        "CONTRIBUTING.md",
        "docs/forward-auth.md",
        // `tests/e2e/gateways.rs` runs what they show.
        "docs/gateways/caddy.md",
        "docs/gateways/envoy.md",
        "docs/gateways/nginx.md",
        "docs/gateways/traefik.md"
    ],
    the_commands_of_the_readme_work: "README.md",
    the_commands_about_the_admin_api_work: "docs/admin-api.md",
    the_commands_about_credentials_work: "docs/credentials-and-headers.md",
    the_commands_about_decisions_work: "docs/decision.md",
    the_commands_about_deploying_work: "docs/deploy.md",
    the_commands_about_git_work: "docs/gitops.md",
    the_commands_about_managing_tokens_work: "docs/manage-tokens.md",
    the_commands_about_observing_work: "docs/observability.md",
    the_commands_about_profiles_work: "docs/profiles.md",
    the_commands_about_refusals_work: "docs/refusals.md",
    the_commands_about_reloading_work: "docs/reload-and-drain.md",
    the_commands_about_rotation_work: "docs/rotation.md",
    the_commands_for_kserve_work: "docs/servers/kserve.md",
    the_commands_for_mlserver_work: "docs/servers/mlserver.md",
    the_commands_for_tensorflow_serving_work: "docs/servers/tensorflow-serving.md",
    the_commands_for_torchserve_work: "docs/servers/torchserve.md",
    the_commands_for_triton_work: "docs/servers/triton.md",
    the_commands_about_settings_work: "docs/settings.md",
    the_commands_about_openai_servers_work: "docs/servers/openai.md",
    the_commands_about_tgi_work: "docs/servers/tgi.md",
    the_commands_about_tls_work: "docs/tls.md",
    the_commands_about_token_files_work: "docs/token-file.md",
    the_commands_about_vllm_work: "docs/servers/vllm.md",
}

#[test]
fn every_document_is_tried_out() {
    let mut all = files_in("docs", "md");
    all.extend(["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md"].map(Into::into));
    all.sort();
    let mut tried: Vec<String> = DOCUMENTS.iter().map(|&file| file.into()).collect();
    tried.sort();
    assert_eq!(tried, all);
    for block in WITHOUT_COMMANDS.iter().flat_map(|file| blocks(file)) {
        assert!(!block.is("run") && !block.is("serve"), "{}: nothing runs this", block.place);
    }
}

fn all_blocks() -> impl Iterator<Item = Block> {
    DOCUMENTS.iter().flat_map(|file| blocks(file))
}

#[test]
fn every_block_says_what_it_is_for() {
    for block in all_blocks() {
        let purpose = block.info.get(1).map_or("", String::as_str);
        let is_known = match block.language() {
            "sh" => matches!(purpose, "run" | "serve" | "elsewhere"),
            "toml" => matches!(purpose, "settings" | "tokens") || purpose.starts_with("file="),
            "text" => matches!(purpose, "" | "output" | "demo" | "client"),
            "http" => matches!(purpose, "" | "received"),
            "json" => matches!(purpose, "" | "log"),
            // Read by a test of its own below.
            "yaml" => purpose.is_empty(),
            "ini" | "nginx" | "caddyfile" => purpose.is_empty(),
            // Run by `tests/e2e`, which has the clients.
            "python" => matches!(purpose, "" | "client"),
            _ => false,
        };
        assert!(is_known, "{}: ```{}", block.place, block.info.join(" "));
    }
}

#[test]
fn the_demo_prints_what_the_readme_shows() {
    let shown = blocks("README.md").into_iter().find(|block| block.is("demo")).unwrap();
    let printed = terminal::what_the_demo_prints();
    let complaint = differs(&shown.text, &printed);
    assert!(complaint.is_none(), "{}:\n{}", shown.place, complaint.unwrap_or_default());
}

#[test]
fn every_settings_block_is_right() {
    let mut seen = 0;
    for block in all_blocks().filter(|block| block.language() == "toml") {
        let is_file = block.file().is_some_and(|file| file.ends_with("faregate.toml"));
        if !is_file && !block.is("settings") {
            continue;
        }
        seen += 1;
        let text = if is_file { block.text.clone() } else { completed(&block.text) };
        check_settings(&block.place, &text, block.is("warns"));
    }
    assert!(seen > 10, "{seen} blocks");
}

fn check_settings(place: &str, text: &str, warns: bool) {
    let read = Settings::from_text(text, Path::new("faregate.toml"));
    let ReadSettings { warnings, .. } =
        read.unwrap_or_else(|problems| panic!("{place}:\n{problems}\n--- of:\n{text}"));
    assert_eq!(!warnings.is_empty(), warns, "{place}: {warnings:?}");
}

/// Settings of which the docs show a part: what every file needs is added.
fn completed(part: &str) -> String {
    let mut document: DocumentMut = part.parse().unwrap_or_else(|error| panic!("{error}\n{part}"));
    let namespaces = document
        .entry("namespace")
        .or_insert_with(|| Item::ArrayOfTables(ArrayOfTables::from_iter([Table::new()])));
    // `[namespace.upstream]` alone is of a namespace above that is not shown.
    if let Item::Table(table) = namespaces {
        table.set_implicit(false);
        *namespaces = Item::ArrayOfTables(ArrayOfTables::from_iter([table.clone()]));
    }
    let all = namespaces.as_array_of_tables_mut().unwrap();
    for (number, namespace) in all.iter_mut().enumerate() {
        let tokens = format!("tokens-{number}.toml");
        namespace.entry("tokens").or_insert_with(|| value(tokens));
        if !namespace.contains_key("route") {
            let ovh = || value(toml_edit::Array::from_iter(["ovh"]));
            namespace.entry("profiles").or_insert_with(ovh);
        }
        let upstream = namespace.entry("upstream").or_insert_with(|| Item::Table(Table::new()));
        let here = || value(toml_edit::Array::from_iter(["http://127.0.0.1:8000"]));
        upstream.as_table_mut().unwrap().entry("endpoints").or_insert_with(here);
    }
    document.to_string()
}

#[test]
fn every_token_file_block_is_right() {
    let mut seen = 0;
    for block in all_blocks().filter(|block| block.language() == "toml") {
        let is_file = block.file().is_some_and(|file| file.ends_with("tokens.toml"));
        if !is_file && !block.is("tokens") {
            continue;
        }
        seen += 1;
        let has_version = block.text.contains("version =");
        let before = if is_file || has_version { "" } else { "version = 1\n" };
        check_tokens(&block.place, &format!("{before}{}", block.text));
    }
    assert!(seen > 0, "there is none");
}

fn check_tokens(place: &str, text: &str) {
    let rules = Settings::from_text(&completed(""), Path::new("faregate.toml")).unwrap();
    let rules = Arc::clone(&rules.settings.namespaces[0].rules);
    let judged = judge_token_file(text, rules);
    judged.unwrap_or_else(|problems| panic!("{place}:\n{problems}"));
}

#[test]
fn the_files_within_manifests_are_right() {
    let manifests = files_in("deploy", "yaml").into_iter().map(|file| {
        let text = text_of(&file);
        (file, text)
    });
    let shown = all_blocks().filter(|block| block.language() == "yaml");
    let mut seen = 0;
    for (place, text) in manifests.chain(shown.map(|block| (block.place, block.text))) {
        for (file, text) in embedded(&text) {
            seen += 1;
            match file.as_str() {
                "faregate.toml" => check_settings(&place, &text, false),
                "tokens.toml" => check_tokens(&place, &text),
                other => panic!("{place}: what is {other}?"),
            }
        }
    }
    assert!(seen > 0, "no manifest has one");
}

/// The TOML files that stand in a manifest as `name.toml: |`.
fn embedded(yaml: &str) -> Vec<(String, String)> {
    let indent = |line: &str| line.len() - line.trim_start().len();
    let lines: Vec<&str> = yaml.lines().collect();
    let mut files = Vec::new();
    for (number, line) in lines.iter().enumerate() {
        let Some(name) = line.trim().strip_suffix(": |").filter(|name| name.ends_with(".toml"))
        else {
            continue;
        };
        let below = |own: &&&str| own.is_empty() || indent(own) > indent(line);
        let own: Vec<&str> = lines[number + 1..].iter().take_while(below).copied().collect();
        let least = own.iter().filter(|line| !line.is_empty()).map(|line| indent(line)).min();
        let least = least.unwrap_or_else(|| panic!("{name} is empty"));
        let text: String =
            own.iter().map(|line| format!("{}\n", line.get(least..).unwrap_or(""))).collect();
        files.push((name.to_owned(), text));
    }
    files
}
