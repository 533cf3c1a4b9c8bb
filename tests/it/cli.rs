//! The commands, run as people run them: the real program, its output, its exit code.

mod checking;
mod explaining;
mod help;
mod streams;
mod tokens;

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use faregate::token::Presented;
use serde_json::Value;
use tempfile::TempDir;

const SETTINGS: &str = r#"[data]
listen = "127.0.0.1:0"

[ops]
listen = "127.0.0.1:0"

[[namespace]]
name     = "default"
hosts    = ["*"]
tokens   = "tokens.toml"
profiles = ["ovh"]

[namespace.upstream]
endpoints = ["http://127.0.0.1:9"]
"#;

const TOKENS: &str = r#"# The team's tokens.
version = 1

# Alice, until May
[[admin]]
name = "alice"
hash = "blake3:00000000000000000000000000000000000000000000000000000000000000a1"  # laptop

# --- tokens ---

# nightly scoring
[[token]]
id        = "batch"           # keep
name      = "nightly"
resources = ["iris*"]         # flowers
groups    = ["model-evaluation"]
hash      = "blake3:00000000000000000000000000000000000000000000000000000000000000b2"

[[token]]
id         = "old"
resources  = ["*"]
groups     = ["model-management"]
expires_at = 2020-01-01T00:00:00Z
hash       = "blake3:00000000000000000000000000000000000000000000000000000000000000c3"
# The end.
"#;

/// A folder with settings and tokens, in which the program runs.
struct Place {
    folder: TempDir,
}

/// What a run of the program came to.
struct Ran {
    code: i32,
    out: String,
    err: String,
}

impl Place {
    fn new() -> Self {
        Self::with(SETTINGS, TOKENS)
    }

    fn empty() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn with(settings: &str, tokens: &str) -> Self {
        let place = Self::empty();
        fs::create_dir(place.path("config")).unwrap();
        place.write("config/faregate.toml", settings);
        place.write("config/tokens.toml", tokens);
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(0o600)).unwrap();
    }

    fn tokens(&self) -> String {
        fs::read_to_string(self.path("config/tokens.toml")).unwrap()
    }

    /// The program, to be run in the folder with nothing of the tester's environment.
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_faregate"));
        command
            .args(arguments)
            .current_dir(self.folder.path())
            .env_clear()
            .env("COLUMNS", "100")
            .stdin(Stdio::null());
        command
    }

    fn run(&self, arguments: &[&str]) -> Ran {
        Ran::of(&mut self.command(arguments))
    }

    fn run_with_input(&self, arguments: &[&str], input: &[u8]) -> Ran {
        let mut command = self.command(arguments);
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(input).unwrap();
        Ran::from_output(child.wait_with_output().unwrap())
    }

    /// Runs a command that must succeed.
    #[track_caller]
    fn ok(&self, arguments: &[&str]) -> Ran {
        let ran = self.run(arguments);
        assert_eq!(ran.code, 0, "{arguments:?}: {}", ran.err);
        ran
    }

    /// Runs a command that must succeed and answer JSON.
    #[track_caller]
    fn json(&self, arguments: &[&str]) -> Value {
        serde_json::from_str(&self.ok(arguments).out).unwrap()
    }

    /// Runs a command that must fail with this code and print nothing on standard output.
    #[track_caller]
    fn fails(&self, code: i32, arguments: &[&str]) -> String {
        let ran = self.run(arguments);
        assert_eq!((ran.code, ran.out.as_str()), (code, ""), "{arguments:?}: {}", ran.err);
        ran.err
    }
}

impl Ran {
    fn of(command: &mut Command) -> Self {
        Self::from_output(command.output().unwrap())
    }

    fn from_output(output: std::process::Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).unwrap();
        // By a signal: as a shell tells it.
        let signal = std::os::unix::process::ExitStatusExt::signal(&output.status);
        let code = output.status.code().unwrap_or_else(|| 128 + signal.unwrap_or(0));
        Self { code, out: text(output.stdout), err: text(output.stderr) }
    }

    /// The one line of standard output.
    #[track_caller]
    fn line(&self) -> &str {
        let line = self.out.strip_suffix('\n').unwrap();
        assert!(!line.contains('\n'), "more than one line: {}", self.out);
        line
    }
}

/// Fails unless the text is a secret of a token, with its checksum.
#[track_caller]
fn assert_secret(text: &str) {
    assert!(text.starts_with("fg_"), "{text}");
    assert!(Presented::new(text.as_bytes()).is_well_formed(), "{text}");
}

/// What `faregate token hash` must print for a secret.
fn hash_of(secret: &str) -> String {
    format!("blake3:{}", blake3_hex(secret.as_bytes()))
}

fn blake3_hex(bytes: &[u8]) -> String {
    let form = faregate::token::Digest::blake3(bytes).to_file_form();
    form.strip_prefix("blake3:").unwrap().to_owned()
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}
