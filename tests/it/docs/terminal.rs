//! The programs of a session: a shell, and the gate beside it.

use std::fs;
use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::session::{ADMIN, DATA, OPS};

/// How long a step may take: far more than any needs, so that it only ends what hangs.
const PATIENCE: Duration = Duration::from_secs(30);

/// What ends the output of a block.
const MARK: &str = "@@ the block has ended: ";

/// The project's own binary, or a shell that finds it as `faregate`, as a new user has it: with no
/// setting of ours in the environment.
fn command(program: &str, folder: &TempDir, programs: &std::path::Path) -> Command {
    let mut command = Command::new(program);
    let path = std::env::var("PATH").unwrap();
    command
        .current_dir(folder.path())
        .env_clear()
        .env("HOME", folder.path())
        .env("LC_ALL", "C.UTF-8")
        .env("PATH", format!("{}:{path}", programs.display()));
    command
}

/// A shell that is told one block after the other.
pub(crate) struct Shell {
    child: Child,
    script: PathBuf,
    output: Receiver<String>,
}

pub(crate) struct Ended {
    pub(crate) said: String,
    pub(crate) failed: bool,
}

impl Shell {
    pub(crate) fn start(folder: &TempDir, programs: &std::path::Path) -> Self {
        let mut child = command("bash", folder, programs)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("bash, which the docs' commands are for");
        // One pipe for both streams, as on a terminal. A command that fails is noted, whatever
        // comes after it.
        let shell = child.stdin.as_mut().unwrap();
        writeln!(shell, "exec 2>&1; set -E; trap 'failed=yes' ERR").unwrap();
        let (lines, output) = channel();
        let stdout = child.stdout.take().unwrap();
        read_lines(stdout, move |line| drop(lines.send(line)));
        Self { child, script: folder.path().join(".block"), output }
    }

    pub(crate) fn run(&mut self, block: &str) -> Ended {
        fs::write(&self.script, block).unwrap();
        let shell = self.child.stdin.as_mut().unwrap();
        writeln!(shell, "failed=no; . ~/.block </dev/null; echo \"{MARK}$failed\"").unwrap();
        let mut said = String::new();
        loop {
            match self.output.recv_timeout(PATIENCE) {
                Ok(line) => match line.split_once(MARK) {
                    // What was printed without a line end stands before the mark.
                    Some((rest, failed)) => {
                        said.push_str(rest);
                        return Ended { said, failed: failed != "no" };
                    }
                    None => said = format!("{said}{line}\n"),
                },
                Err(RecvTimeoutError::Timeout) => {
                    panic!("this hangs:\n{block}\n--- it said:\n{said}")
                }
                Err(RecvTimeoutError::Disconnected) => {
                    panic!("this ended the shell:\n{block}\n--- it said:\n{said}")
                }
            }
        }
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        // Both fail only when it has ended already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// The gate, as a reader starts it in a second terminal.
pub(crate) struct Gate {
    child: Child,
    log: Arc<(Mutex<Vec<String>>, Condvar)>,
}

impl Gate {
    pub(crate) fn start(folder: &TempDir, block: &str) -> Self {
        let mut child = command("bash", folder, &folder.path().join(".programs"))
            .args(["-c", &format!("exec {block}")])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = Arc::<(Mutex<Vec<String>>, Condvar)>::default();
        let own = Arc::clone(&log);
        read_lines(child.stderr.take().unwrap(), move |line| {
            own.0.lock().unwrap().push(line);
            own.1.notify_all();
        });
        Self { child, log }
    }

    pub(crate) fn lines(&self) -> Vec<String> {
        self.log.0.lock().unwrap().clone()
    }

    /// Whether the log holds such a line, or comes to.
    pub(crate) fn wait_for_line(&self, mut wanted: impl FnMut(&str) -> bool) -> bool {
        let until = Instant::now() + PATIENCE;
        let (lines, changed) = &*self.log;
        let mut lines = lines.lock().unwrap();
        let mut seen = 0;
        loop {
            if lines[seen..].iter().any(|line| wanted(line)) {
                return true;
            }
            seen = lines.len();
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            lines = changed.wait_timeout(lines, left).unwrap().0;
        }
    }

    /// Where a listener came to listen.
    pub(crate) fn address_of(&self, listener: &str, place: &str) -> SocketAddr {
        let mut address = None;
        self.wait_for_line(|line| {
            let event: serde_json::Value = serde_json::from_str(line).unwrap_or_default();
            let listens = event["message"] == "listening" && event["listener"] == listener;
            address = listens.then(|| event["address"].as_str().unwrap().parse().unwrap());
            listens
        });
        let log = || self.lines().join("\n");
        address.unwrap_or_else(|| panic!("{place}: the gate does not listen:\n{}", log()))
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        // Both fail only when it has ended already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn read_lines(from: impl Read + Send + 'static, mut take: impl FnMut(String) + Send + 'static) {
    std::thread::spawn(move || {
        let mut from = BufReader::new(from);
        let mut line = Vec::new();
        while from.read_until(b'\n', &mut line).is_ok_and(|length| length > 0) {
            take(String::from_utf8_lossy(&line).trim_end_matches('\n').to_owned());
            line.clear();
        }
    });
}

/// What `faregate demo` prints until it waits, with the addresses of the docs.
pub(crate) fn what_the_demo_prints() -> String {
    let folder = tempfile::tempdir().unwrap();
    let mut demo = Command::new(env!("CARGO_BIN_EXE_faregate"))
        .arg("demo")
        .env("TMPDIR", folder.path())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut printed = String::new();
    for line in BufReader::new(demo.stdout.take().unwrap()).lines() {
        let line = line.unwrap();
        printed = format!("{printed}{line}\n");
        if line.starts_with("Stop it") {
            break;
        }
    }
    demo.kill().unwrap();
    demo.wait().unwrap();
    let address_behind = |title: &str| {
        let line = printed.lines().find(|line| line.trim_start().starts_with(title)).unwrap();
        line.rsplit_once("//").unwrap().1.to_owned()
    };
    let folder = folder.path().to_str().unwrap();
    [("Token page", ADMIN), ("Clients", DATA), ("Probes", OPS)]
        .iter()
        .fold(printed.replace(folder, "/tmp"), |printed, (title, written)| {
            printed.replace(&address_behind(title), written)
        })
}
