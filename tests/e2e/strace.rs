//! Debian's strace: what a program asks the system for, and ending, stopping or failing it at the
//! system call of one's choice.

use std::ffi::OsStr;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;
use std::thread;
use std::time::{Duration, Instant};

use crate::process::{PATIENCE, run};
use crate::token_file::{self, Change, Ran};

/// Calls that no file can tell of: a process that is ended before one of them leaves what it leaves
/// when it is ended before the next call. How many there are differs from run to run.
const MEMORY_CALLS: &[&str] = &["brk", "madvise", "mmap", "mprotect", "mremap", "munmap"];

/// A call that a thread of a traced program made.
#[derive(Clone, Debug)]
pub(crate) struct SystemCall {
    /// As strace writes it: `fsync`.
    pub(crate) name: String,
    /// Which of the calls of this name in its thread it is, from 1: strace counts so, too.
    pub(crate) number: usize,
    /// The whole line: with arguments, the files behind descriptors, and the result.
    pub(crate) line: String,
}

impl SystemCall {
    /// What strace does to it: `fsync:error=EIO:when=2` for `error=EIO`.
    pub(crate) fn inject(&self, what: &str) -> String {
        format!("inject={}:{what}:when={}", self.name, self.number)
    }
}

/// Whether this machine lets one process trace another. Many containers do not.
pub(crate) fn is_allowed() -> bool {
    static ALLOWED: LazyLock<bool> = LazyLock::new(|| {
        let version = Command::new("strace").arg("--version").output();
        version.expect("strace starts; `make e2e-tools` installs what is missing");
        // Where tracing fails, the program may wait for its tracer for ever.
        let mut trial = Command::new("timeout");
        trial.args(["10", "strace", "-D", "-ff", "-o", "/dev/null"]);
        trial.args(["-e", "inject=fsync:error=EIO", "true"]);
        trial.output().unwrap().status.success()
    });
    if !*ALLOWED {
        let told = b"not tested: this machine lets no process trace another\n";
        std::io::stderr().write_all(told).unwrap();
    }
    *ALLOWED
}

/// The same command under strace, which writes a file for each thread: `trace.` and its number.
/// The process that is started is the program itself, as without strace; when its standard output
/// has ended, so has strace.
pub(crate) fn traced(command: &Command, trace: &Trace, injections: &[String]) -> Command {
    let mut strace = Command::new("strace");
    // Numbers of descriptors with the files behind them, texts long enough for paths.
    strace.args(["-D", "-ff", "-y", "-s", "256", "-o"]).arg(trace.prefix());
    for injection in injections {
        strace.args(["-e", injection]);
    }
    strace.arg(command.get_program()).args(command.get_args());
    for (key, value) in command.get_envs() {
        match value {
            Some(value) => strace.env(key, value),
            None => strace.env_remove(key),
        };
    }
    strace
}

/// Where strace writes.
pub(crate) struct Trace {
    folder: tempfile::TempDir,
}

impl Trace {
    pub(crate) fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn prefix(&self) -> PathBuf {
        self.folder.path().join("trace")
    }

    /// The numbers of the threads so far, and what each of them called.
    pub(crate) fn threads(&self) -> Vec<(u32, String)> {
        let thread = |path: &Path| {
            let number = path.extension().and_then(OsStr::to_str)?.parse().ok()?;
            Some((number, String::from_utf8_lossy(&fs::read(path).ok()?).into_owned()))
        };
        let entries = fs::read_dir(self.folder.path()).unwrap();
        let mut threads: Vec<_> =
            entries.filter_map(|entry| thread(&entry.unwrap().path())).collect();
        threads.sort();
        threads
    }

    /// Waits until a signal that was injected has stopped the program. Its threads' numbers will do
    /// to let it go on.
    pub(crate) fn wait_until_stopped(&self) -> u32 {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let is_stopped = |(_, lines): &(u32, String)| lines.contains("--- stopped by SIGSTOP");
            if let Some((thread, _)) = self.threads().into_iter().find(is_stopped) {
                return thread;
            }
            assert!(Instant::now() < deadline, "nothing stops: {:?}", self.threads());
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// The calls of the thread that changed a token file, from the first that names the file.
    ///
    /// # Panics
    /// When there is no such thread, or several.
    pub(crate) fn calls_of_the_change(&self) -> Vec<SystemCall> {
        let threads = self.threads().into_iter().map(|(_, lines)| calls(&lines));
        let mut changing: Vec<_> =
            threads.filter(|calls| calls.iter().any(|call| call.name == "flock")).collect();
        assert_eq!(changing.len(), 1, "one thread takes the lock");
        let calls = changing.remove(0);
        let first = calls.iter().position(|call| call.line.contains("/tokens.toml"));
        calls[first.expect("the file is named")..].to_vec()
    }
}

fn calls(lines: &str) -> Vec<SystemCall> {
    let mut calls: Vec<SystemCall> = Vec::new();
    for line in lines.lines() {
        // Signals and ends of processes stand between dashes and plus signs.
        let Some((name, _)) = line.split_once('(') else { continue };
        if !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
            continue;
        }
        let number = calls.iter().filter(|call| call.name == name).count() + 1;
        calls.push(SystemCall { name: name.to_owned(), number, line: line.to_owned() });
    }
    calls.retain(|call| !MEMORY_CALLS.contains(&call.name.as_str()));
    calls
}

/// What the change calls when nobody disturbs it.
pub(crate) fn calls_of(change: Change) -> Vec<SystemCall> {
    let (files, trace) = (token_file::files(), Trace::new());
    let ran = Ran::of(&mut traced(&change.command(&files), &trace, &[]));
    assert_eq!(ran.code, Some(0), "{ran:?}");
    trace.calls_of_the_change()
}

/// Lets a program that was stopped go on.
pub(crate) fn go_on(thread: u32) {
    run("kill", Command::new("kill").args(["-CONT", &thread.to_string()])).succeeded();
}
