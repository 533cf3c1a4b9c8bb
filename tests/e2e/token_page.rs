//! The token page in Chromium: `tests/e2e/browser` has one scenario a file, and each has a gate of
//! its own here.
//!
//! Whatever the scenario, it fails when the browser reports a script error, a breach of the page's
//! content security policy or a request to anywhere else. Pictures are left in the target folder;
//! `make screenshots` takes those of the documentation from there.

use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::gate::{faregate, listener_address};
use crate::process::{RunningProcess, run};

/// The pictures that the documentation shows, and the states they are taken from.
const DOCUMENTED: &[(&str, &str)] = &[
    ("appearances-light-list", "token-page"),
    ("appearances-dark-list", "token-page-dark"),
    ("appearances-light-new-token", "new-token"),
    ("appearances-light-green-box", "green-box"),
    ("appearances-light-regenerate", "regenerate"),
    ("appearances-light-explain", "explain"),
];

/// One namespace of the gate under test, and the text its token file has beside the administrator.
struct Namespace {
    name: &'static str,
    host: &'static str,
    tokens: String,
    read_only: bool,
}

impl Namespace {
    fn everywhere(tokens: String) -> Self {
        Self { name: "default", host: "*", tokens, read_only: false }
    }
}

/// A gate with the admin listener, a model server behind it, and the key of `alice`, who
/// administers every namespace.
struct GateWithPage {
    gate: RunningProcess,
    _model_server: RunningProcess,
    key: String,
    folder: TempDir,
}

impl GateWithPage {
    fn start(namespaces: &[Namespace]) -> Self {
        let model_server = RunningProcess::start(
            "the model server",
            Command::new("node").arg(browser_folder().join("model-server.mjs")),
        );
        let upstream = model_server.wait_for_output("its address", |line| {
            line.strip_prefix("listening on ").map(str::to_owned)
        });
        let folder = tempfile::tempdir().unwrap();
        let mut settings: String = ["data", "admin", "ops"]
            .map(|listener| format!("[{listener}]\nlisten = \"127.0.0.1:0\"\n"))
            .concat();
        for Namespace { name, host, tokens, .. } in namespaces {
            write!(
                settings,
                r#"
[[namespace]]
name = "{name}"
hosts = ["{host}"]
tokens = "{name}.toml"
profiles = ["ovh"]

[namespace.upstream]
endpoints = ["http://{upstream}"]
"#
            )
            .unwrap();
            let path = folder.path().join(format!("{name}.toml"));
            write_private(&path, &format!("version = 1\n{tokens}"));
        }
        write_private(&folder.path().join("faregate.toml"), &settings);
        let key = administrator_key(&folder, namespaces);
        let settings = folder.path().join("faregate.toml");
        let gate = RunningProcess::start(
            "faregate serve",
            faregate().arg("serve").arg("--config").arg(settings),
        );
        Self { gate, _model_server: model_server, key, folder }
    }

    /// Runs `tests/e2e/browser/<scenario>.mjs` to its end.
    fn play(&self, scenario: &str, variables: &[(&str, &str)]) {
        let pictures = pictures_folder();
        fs::create_dir_all(&pictures).unwrap();
        let mut node = Command::new("node");
        node.arg(browser_folder().join(format!("{scenario}.mjs")));
        node.env("E2E_BROWSER_ENVIRONMENT", installed_packages());
        node.env("ADMIN_URL", format!("http://{}", listener_address(&self.gate, "admin")));
        node.env("DATA_URL", format!("http://{}", listener_address(&self.gate, "data")));
        node.env("ADMIN_KEY", &self.key);
        node.env("SCREENSHOTS", pictures);
        node.env("FAREGATE", env!("CARGO_BIN_EXE_faregate"));
        node.env("FAREGATE_CONFIG", self.folder.path().join("faregate.toml"));
        node.envs(variables.iter().copied());
        run(scenario, &mut node).succeeded();
    }
}

/// A key for `alice` in the first namespace, and the same in the others.
fn administrator_key(folder: &TempDir, namespaces: &[Namespace]) -> String {
    let mut issue = faregate();
    issue.args(["admin-key", "issue", "--name", "alice", "--config"]);
    issue.arg(folder.path().join("faregate.toml"));
    issue.args(["--namespace", namespaces[0].name]);
    let key = run("faregate admin-key issue", &mut issue).succeeded().stdout;
    let hash = format!("blake3:{}", blake3::hash(key.trim_end().as_bytes()).to_hex());
    for (place, Namespace { name, read_only, .. }) in namespaces.iter().enumerate() {
        let path = folder.path().join(format!("{name}.toml"));
        if place > 0 {
            let mut file = fs::OpenOptions::new().append(true).open(&path).unwrap();
            writeln!(file, "\n[[admin]]\nname = \"alice\"\nhash = \"{hash}\"").unwrap();
        }
        if *read_only {
            fs::set_permissions(&path, fs::Permissions::from_mode(0o400)).unwrap();
        }
    }
    key.trim_end().to_owned()
}

fn write_private(path: &Path, text: &str) {
    let file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    file.unwrap().write_all(text.as_bytes()).unwrap();
}

fn browser_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/e2e/browser")
}

fn pictures_folder() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("token-page")
}

/// The npm packages that `tests/e2e/install-tools` installs.
fn installed_packages() -> PathBuf {
    let folder = std::env::var_os("E2E_BROWSER_ENVIRONMENT").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("target/e2e-browser"),
        PathBuf::from,
    );
    let packages = folder.join("node_modules");
    assert!(packages.exists(), "{} is missing: `make e2e-tools` installs it", packages.display());
    folder
}

/// Tokens nobody has the secret of, as they stand in a file: `service 000`, and so on.
fn services(count: usize) -> String {
    (0..count).fold(String::new(), |mut text, number| {
        let group = if number % 10 == 0 { "model-management" } else { "model-evaluation" };
        let state = match number {
            // Every state is there, with a few tokens of each.
            3..6 => "expires_at = 2020-01-01T00:00:00Z",
            6..9 => "disabled = true",
            _ => "",
        };
        write!(
            text,
            r#"
[[token]]
id = "tk_service{number:03}"
name = "service {number:03}"
hash = "blake3:{number:064x}"
resources = ["model-{number:03}"]
groups = ["{group}"]
{state}
"#
        )
        .unwrap();
        text
    })
}

#[test]
fn a_token_lives_from_new_token_to_delete() {
    GateWithPage::start(&[Namespace::everywhere(String::new())]).play("life-of-a-token", &[]);
}

#[test]
fn the_keyboard_is_enough() {
    GateWithPage::start(&[Namespace::everywhere(String::new())]).play("keyboard", &[]);
}

#[test]
fn hostile_names_are_only_text() {
    GateWithPage::start(&[Namespace::everywhere(String::new())]).play("hostile-names", &[]);
}

#[test]
fn many_tokens_are_searched_sorted_and_paged() {
    GateWithPage::start(&[Namespace::everywhere(services(150))]).play("many-tokens", &[]);
}

#[test]
fn namespaces_are_tabs_and_a_read_only_file_says_so() {
    let namespaces = [
        Namespace {
            name: "fraud",
            host: "fraud.example.com",
            tokens: services(2),
            read_only: false,
        },
        Namespace {
            name: "vision",
            host: "vision.example.com",
            tokens: services(3),
            read_only: true,
        },
    ];
    GateWithPage::start(&namespaces).play("namespaces", &[]);
}

#[test]
fn two_people_and_a_refused_key() {
    GateWithPage::start(&[Namespace::everywhere(String::new())]).play("meanwhile", &[]);
}

#[test]
fn every_state_is_accessible_in_light_colours() {
    look_at_every_state("light");
}

#[test]
fn every_state_is_accessible_in_dark_colours() {
    look_at_every_state("dark");
}

#[test]
fn every_state_fits_into_a_narrow_window() {
    look_at_every_state("narrow");
}

/// Has axe judge every main state of the page, its width measured and a picture taken.
fn look_at_every_state(look: &str) {
    let namespaces = [
        Namespace {
            name: "fraud",
            host: "fraud.example.com",
            tokens: String::new(),
            read_only: false,
        },
        Namespace {
            name: "vision",
            host: "vision.example.com",
            tokens: services(3),
            read_only: true,
        },
    ];
    GateWithPage::start(&namespaces).play("appearances", &[("LOOK", look)]);
    if std::env::var_os("UPDATE_SCREENSHOTS").is_some() {
        let images = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/images");
        let of_this_look = format!("appearances-{look}-");
        for (taken, shown) in
            DOCUMENTED.iter().filter(|(taken, _)| taken.starts_with(&of_this_look))
        {
            let taken = pictures_folder().join(format!("{taken}.png"));
            fs::copy(taken, images.join(format!("{shown}.png"))).unwrap();
        }
    }
}
