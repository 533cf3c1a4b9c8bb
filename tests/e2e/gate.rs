//! The gate under test: its files in a folder of its own, its process, its addresses.

use std::fs;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::process::Command;

use tempfile::TempDir;

use crate::process::{RunningProcess, run};
use crate::python::installed_program;

/// The binary that cargo built beside this test.
pub(crate) fn faregate() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_faregate"));
    command.env_remove("FAREGATE_CONFIG");
    command
}

/// What differs between the gates of these tests.
#[derive(Default)]
pub(crate) struct GateSettings<'a> {
    /// One, or several with spaces between.
    pub(crate) profile: &'a str,
    /// TOML of the namespace's `hosts`; all of them when it is empty.
    pub(crate) hosts: &'a str,
    /// The model server's endpoint with its scheme.
    pub(crate) upstream: &'a str,
    /// TOML of the `[data]` table.
    pub(crate) data: &'a str,
    /// TOML of the namespace.
    pub(crate) namespace: &'a str,
    /// TOML of the namespace's upstream.
    pub(crate) upstream_keys: &'a str,
}

/// A folder with `faregate.toml` and `tokens.toml`; tokens are issued into it before or after the
/// gate starts.
pub(crate) struct GateFiles {
    folder: TempDir,
}

impl GateFiles {
    /// One namespace in front of one model server.
    pub(crate) fn write(settings: &GateSettings<'_>) -> Self {
        let GateSettings { profile, hosts, upstream, data, namespace, upstream_keys } = settings;
        let profiles: Vec<&str> = profile.split(' ').collect();
        let hosts = if hosts.is_empty() { r#"["*"]"# } else { hosts };
        let settings = format!(
            r#"[data]
listen = "127.0.0.1:0"
workers = 2
{data}

[ops]
listen = "127.0.0.1:0"

[log]
access = "all"

[[namespace]]
name = "default"
hosts = {hosts}
tokens = "tokens.toml"
profiles = {profiles:?}
{namespace}

[namespace.upstream]
endpoints = ["{upstream}"]
{upstream_keys}

[namespace.identity_headers]
token_id = "x-credential-identifier"
token_name = "x-consumer-username"
groups = "x-authenticated-groups"
"#
        );
        Self::with_settings(&settings)
    }

    /// What a guide of `docs/servers` has its reader write, with endpoints that are there. The gate
    /// listens where the operating system chooses.
    pub(crate) fn of_guide(server: &str, endpoints: &[(&str, &str)]) -> Self {
        let guide = guide(server);
        let (_, block) = guide.split_once("```toml file=config/faregate.toml").unwrap();
        let (_, block) = block.split_once('\n').unwrap();
        let (settings, _) = block.split_once("\n```\n").unwrap();
        let listeners = [("127.0.0.1:8080", "127.0.0.1:0"), ("127.0.0.1:9902", "127.0.0.1:0")];
        let settings =
            listeners.iter().chain(endpoints).fold(settings.to_owned(), |text, (from, to)| {
                assert!(text.contains(&format!("{from}\"")), "{from} is not in:\n{text}");
                text.replace(&format!("{from}\""), &format!("{to}\""))
            });
        Self::with_settings(&settings)
    }

    fn with_settings(settings: &str) -> Self {
        let files = Self { folder: tempfile::tempdir().unwrap() };
        fs::write(files.settings(), settings).unwrap();
        let tokens = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(files.path("tokens.toml"));
        std::io::Write::write_all(&mut tokens.unwrap(), b"version = 1\n").unwrap();
        files
    }

    /// The profile `any` before the endpoint, and a token named `everything` that may call every
    /// model there.
    pub(crate) fn open_to_one_token(upstream: &str) -> (Self, String) {
        let files =
            Self::write(&GateSettings { profile: "any", upstream, ..GateSettings::default() });
        let secret = files.issue("everything", &["*"], &["model-evaluation"]);
        (files, secret)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn settings(&self) -> PathBuf {
        self.path("faregate.toml")
    }

    /// A new token's secret, made by the command an administrator would type.
    pub(crate) fn issue(&self, name: &str, resources: &[&str], groups: &[&str]) -> String {
        let mut command = self.command(&["token", "issue"]);
        command.args(["--name", name]);
        command.args(resources.iter().flat_map(|resource| ["--resource", resource]));
        command.args(groups.iter().flat_map(|group| ["--group", group]));
        let secret = run("faregate token issue", &mut command).succeeded().stdout;
        let secret = secret.strip_suffix('\n').unwrap_or(&secret);
        assert!(
            secret.starts_with("fg_") && !secret.contains(char::is_whitespace),
            "standard output is the secret alone, not {secret:?}"
        );
        secret.to_owned()
    }

    /// The id of the token with this name.
    pub(crate) fn token_id(&self, name: &str) -> String {
        let listed = run("faregate token list", &mut self.command(&["token", "list", "--json"]))
            .succeeded()
            .stdout;
        let listed: serde_json::Value = serde_json::from_str(&listed).unwrap();
        let tokens =
            listed.get("tokens").unwrap_or(&listed).as_array().expect("a list of tokens").clone();
        let token =
            tokens.into_iter().find(|token| token["name"] == name).expect("a token of that name");
        token["id"].as_str().unwrap().to_owned()
    }

    /// A command about these files.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = faregate();
        command.args(arguments).arg("--config").arg(self.settings());
        command
    }

    pub(crate) fn start(self) -> Gate {
        let mut serve = self.command(&["serve"]);
        self.start_by(&mut serve)
    }

    /// As [`Self::start`], by a command around `faregate serve`.
    pub(crate) fn start_by(self, command: &mut Command) -> Gate {
        let process = RunningProcess::start("faregate serve", command);
        let data = listener_address(&process, "data");
        let ops = listener_address(&process, "ops");
        Gate { process, data, ops, files: self }
    }
}

/// A guide of `docs/servers`.
fn guide(server: &str) -> String {
    let file = format!("{}/docs/servers/{server}.md", env!("CARGO_MANIFEST_DIR"));
    fs::read_to_string(&file).unwrap_or_else(|error| panic!("{file}: {error}"))
}

/// A gate that serves.
pub(crate) struct Gate {
    pub(crate) process: RunningProcess,
    /// `HOST:PORT` where clients come in.
    pub(crate) data: String,
    /// `HOST:PORT` of probes and metrics.
    pub(crate) ops: String,
    pub(crate) files: GateFiles,
}

impl Gate {
    /// What the Python programs of a guide of `docs/servers` print, one after the other, run with
    /// this gate and a token.
    pub(crate) fn run_programs_of_guide(&self, server: &str, token: &str) -> Vec<String> {
        let guide = guide(server);
        let programs = guide.split("\n```python client\n").skip(1);
        programs
            .map(|block| {
                let (program, _) = block.split_once("\n```\n").unwrap();
                assert!(program.contains("127.0.0.1:8080"), "it calls no gate:\n{program}");
                let mut python = Command::new(installed_program("python"));
                python.arg("-c").arg(program.replace("127.0.0.1:8080", &self.data));
                // Nothing between the program and the gate.
                python.env("TOKEN", token).env("no_proxy", "*").env("NO_PROXY", "*");
                run("a program of a guide", &mut python).succeeded().stdout
            })
            .collect()
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.data)
    }
}

/// The address of a listener, from the line the gate logs for each when it has bound it.
pub(crate) fn listener_address(process: &RunningProcess, listener: &str) -> String {
    process.wait_for(&format!("the address of its {listener} listener"), |line| {
        let event: serde_json::Value = serde_json::from_str(line).ok()?;
        let it_is = event["message"] == "listening" && event["listener"] == listener;
        it_is.then(|| event["address"].as_str().expect("an address").to_owned())
    })
}
