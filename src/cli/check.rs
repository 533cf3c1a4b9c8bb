mod named_files;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;
use serde::Serialize;

use super::output::{self, Outcome};
use super::target::ConfigFile;
use crate::policy::{Problem, Rules};
use crate::settings::{Namespace, ReadSettings, Settings};
use crate::store::file::FileStore;
use crate::strict_toml::judge_token_file;
use crate::token::redact;

/// Check the settings and token files, and print all that is wrong.
///
/// Reads the settings, every token file they name, and the certificates and keys, as `serve` would.
/// Prints every problem and warning with its file and line, and what to write instead. Nothing is
/// changed and nothing is listened on. Exits with 1 when there is a problem; warnings are none.
#[derive(Args)]
#[command(after_help = "\
Examples:
  faregate check
  faregate check --config /etc/faregate/faregate.toml --json")]
pub(super) struct Check {
    #[command(flatten)]
    config: ConfigFile,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Something to tell about a file.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Finding {
    severity: Severity,
    file: PathBuf,
    line: Option<usize>,
    what: String,
    remedy: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Severity {
    Problem,
    Warning,
}

#[derive(Default)]
struct Findings {
    list: Vec<Finding>,
    tokens: usize,
}

#[derive(Serialize)]
struct CheckJson<'f> {
    ok: bool,
    findings: &'f [Finding],
}

impl Check {
    pub(super) fn run(self) -> Outcome {
        let path = &self.config.path;
        let mut findings = Findings::default();
        let mut namespaces = 0;
        match Settings::read(path) {
            Ok(ReadSettings { settings, warnings }) => {
                findings.add(Severity::Warning, path, warnings);
                for namespace in &settings.namespaces {
                    namespaces += 1;
                    findings.check_tokens(namespace);
                }
                for (file, problem, severity) in named_files::look_at(&settings) {
                    findings.add(severity, &file, vec![problem]);
                }
            }
            Err(problems) => {
                findings.add(Severity::Problem, path, problems.problems);
                // The settings say nothing for sure, but most likely these are the token files.
                for file in token_files_named_in(path) {
                    findings.check_token_file(&file, None);
                }
            }
        }
        let problems = findings.count(Severity::Problem);
        let warnings = findings.count(Severity::Warning);
        if self.json {
            output::print_json(&CheckJson { ok: problems == 0, findings: &findings.list })?;
        } else {
            for finding in &findings.list {
                output::note(&finding.line());
            }
            let noun = |number, noun: &str| match number {
                1 => format!("1 {noun}"),
                number => format!("{number} {noun}s"),
            };
            if problems == 0 {
                let path = path.display();
                let about = noun(namespaces, "namespace");
                let tokens = noun(findings.tokens, "token");
                let warnings = noun(warnings, "warning");
                output::print(&format!("{path}: right ({about}, {tokens}, {warnings})\n"))?;
            } else {
                let warnings = noun(warnings, "warning");
                output::error(&format!("{}, {warnings}", noun(problems, "problem")));
            }
        }
        Ok(if problems == 0 { ExitCode::SUCCESS } else { ExitCode::from(1) })
    }
}

impl Finding {
    fn line(&self) -> String {
        let mut text = format!("{}:", self.file.display());
        if let Some(line) = self.line {
            text.push_str(&format!("{line}:"));
        }
        if self.severity == Severity::Warning {
            text.push_str(" warning:");
        }
        text.push_str(&format!(" {}", self.what));
        if !self.remedy.is_empty() {
            text.push_str(&format!("; {}", self.remedy));
        }
        text
    }
}

impl Findings {
    fn add(&mut self, severity: Severity, file: &Path, mut problems: Vec<Problem>) {
        problems.sort_by_key(|problem| problem.line);
        for Problem { line, what, remedy } in problems {
            let finding = Finding {
                severity,
                file: file.into(),
                line: line.filter(|line| *line > 0),
                what: redact(&what).into_owned(),
                remedy: redact(&remedy).into_owned(),
            };
            // Two namespaces may have one token file, or one certificate two uses.
            if !self.list.contains(&finding) {
                self.list.push(finding);
            }
        }
    }

    fn count(&self, severity: Severity) -> usize {
        self.list.iter().filter(|finding| finding.severity == severity).count()
    }

    fn check_tokens(&mut self, namespace: &Namespace) {
        self.check_token_file(&namespace.tokens, Some(&namespace.rules));
    }

    /// Without rules, what only they can tell is not told.
    fn check_token_file(&mut self, path: &Path, rules: Option<&Arc<Rules>>) {
        let snapshot = match FileStore::new(path).read() {
            Ok(snapshot) => snapshot,
            Err(error) => return self.add(Severity::Problem, path, error.problems()),
        };
        self.add(Severity::Warning, path, snapshot.warnings);
        match judge_token_file(&snapshot.text, rules.cloned().unwrap_or_default()) {
            Ok((document, compiled)) => {
                self.tokens += document.tokens.len();
                if rules.is_some() {
                    self.add(Severity::Warning, path, compiled.warnings);
                }
            }
            Err(problems) => self.add(Severity::Problem, path, problems.sorted()),
        }
    }
}

/// The token files that settings name which are not right themselves.
fn token_files_named_in(settings: &Path) -> Vec<PathBuf> {
    let Ok(text) = std::fs::read_to_string(settings) else { return Vec::new() };
    let Ok(document) = toml_edit::Document::parse(text.as_str()) else { return Vec::new() };
    let folder = settings.parent().unwrap_or(Path::new(""));
    let namespaces = document.get("namespace").and_then(toml_edit::Item::as_array_of_tables);
    let named = namespaces.into_iter().flatten().filter_map(|table| table.get("tokens")?.as_str());
    named.map(|tokens| folder.join(tokens)).filter(|path| path.exists()).collect()
}
