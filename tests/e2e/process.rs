//! Processes that are read while they run and never outlive the test that started them.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write as _};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long anything here may take before the test gives up: far beyond what a busy machine needs,
/// so that it only ever ends what hangs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// Where a line came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stream {
    Output,
    Error,
}

#[derive(Default)]
struct Transcript {
    lines: Vec<(Stream, String)>,
    /// Streams that have reached their end: two when the process is gone.
    ended: u8,
}

type SharedTranscript = Arc<(Mutex<Transcript>, Condvar)>;

/// A server (or a client that is talked with) running beside the test. Dropping it kills it and
/// waits for its end.
pub(crate) struct RunningProcess {
    name: String,
    child: Child,
    transcript: SharedTranscript,
    readers: Vec<JoinHandle<()>>,
}

impl RunningProcess {
    pub(crate) fn start(name: &str, command: &mut Command) -> Self {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| {
                panic!("{name} does not start: {error}; `make e2e-tools` installs what is missing")
            });
        let transcript = SharedTranscript::default();
        let readers = vec![
            keep_lines(child.stdout.take().unwrap(), Stream::Output, &transcript),
            keep_lines(child.stderr.take().unwrap(), Stream::Error, &transcript),
        ];
        Self { name: name.to_owned(), child, transcript, readers }
    }

    /// The first value that `find` makes of a line printed so far or later.
    ///
    /// # Panics
    ///
    /// When the process ends, or nothing is found in [`PATIENCE`]; the message holds all that was
    /// printed.
    pub(crate) fn wait_for<T>(&self, what: &str, find: impl Fn(&str) -> Option<T>) -> T {
        self.wait_for_on(None, what, find)
    }

    /// As [`Self::wait_for`], looking at one of the two streams only.
    pub(crate) fn wait_for_output<T>(&self, what: &str, find: impl Fn(&str) -> Option<T>) -> T {
        self.wait_for_on(Some(Stream::Output), what, find)
    }

    fn wait_for_on<T>(
        &self,
        only: Option<Stream>,
        what: &str,
        find: impl Fn(&str) -> Option<T>,
    ) -> T {
        let deadline = Instant::now() + PATIENCE;
        let (transcript, changed) = &*self.transcript;
        let mut transcript = transcript.lock().unwrap();
        let mut seen = 0;
        loop {
            for (stream, line) in &transcript.lines[seen..] {
                if only.is_none_or(|only| only == *stream)
                    && let Some(found) = find(line)
                {
                    return found;
                }
            }
            seen = transcript.lines.len();
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(
                transcript.ended < 2,
                "{} ended without {what}:\n{}",
                self.name,
                printed(&transcript)
            );
            assert!(
                !left.is_zero(),
                "{} has not printed {what}:\n{}",
                self.name,
                printed(&transcript)
            );
            transcript = changed.wait_timeout(transcript, left).unwrap().0;
        }
    }

    /// All that was printed until now, both streams in the order they were read.
    pub(crate) fn transcript(&self) -> String {
        // A test that waited for a line in vain panicked with the lock in its hands.
        printed(&self.transcript.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Standard output until now, line by line.
    pub(crate) fn output_lines(&self) -> Vec<String> {
        let transcript = self.transcript.0.lock().unwrap();
        let output = transcript.lines.iter().filter(|(stream, _)| *stream == Stream::Output);
        output.map(|(_, line)| line.clone()).collect()
    }

    /// Asks the process to end (SIGTERM) and waits until it has.
    pub(crate) fn terminate(self) -> ExitStatus {
        run("kill", Command::new("kill").arg(self.child.id().to_string())).succeeded();
        self.wait_for_end()
    }

    /// Waits until the process has ended by itself.
    pub(crate) fn wait_for_end(mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        let (transcript, changed) = &*self.transcript;
        let mut transcript = transcript.lock().unwrap();
        while transcript.ended < 2 {
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "{} does not end:\n{}", self.name, printed(&transcript));
            transcript = changed.wait_timeout(transcript, left).unwrap().0;
        }
        drop(transcript);
        self.child.wait().unwrap()
    }
}

impl Drop for RunningProcess {
    fn drop(&mut self) {
        // Both fail only when the process has already ended.
        drop(self.child.kill());
        drop(self.child.wait());
        for reader in self.readers.drain(..) {
            drop(reader.join());
        }
        if std::thread::panicking() {
            // Kept back by the test runner unless the test fails, and then it is what one wants to
            // read.
            let mut story = String::new();
            let _infallible = writeln!(story, "--- {} printed:\n{}", self.name, self.transcript());
            drop(std::io::stderr().write_all(story.as_bytes()));
        }
    }
}

fn keep_lines(
    from: impl Read + Send + 'static,
    stream: Stream,
    transcript: &SharedTranscript,
) -> JoinHandle<()> {
    let transcript = Arc::clone(transcript);
    std::thread::spawn(move || {
        let mut from = BufReader::new(from);
        let mut line = Vec::new();
        while from.read_until(b'\n', &mut line).is_ok_and(|length| length > 0) {
            let text = String::from_utf8_lossy(&line).trim_end_matches(['\r', '\n']).to_owned();
            transcript.0.lock().unwrap().lines.push((stream, text));
            transcript.1.notify_all();
            line.clear();
        }
        transcript.0.lock().unwrap().ended += 1;
        transcript.1.notify_all();
    })
}

fn printed(transcript: &Transcript) -> String {
    transcript.lines.iter().fold(String::new(), |mut all, (_, line)| {
        all.push_str(line);
        all.push('\n');
        all
    })
}

/// What a command that ran to its end left behind.
pub(crate) struct Finished {
    name: String,
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Finished {
    /// Itself, when the exit code was 0.
    pub(crate) fn succeeded(self) -> Self {
        assert!(
            self.status.success(),
            "{} failed ({}):\n{}{}",
            self.name,
            self.status,
            self.stdout,
            self.stderr
        );
        self
    }
}

/// Runs a command to its end, or for [`PATIENCE`].
pub(crate) fn run(name: &str, command: &mut Command) -> Finished {
    let mut limited = Command::new("timeout");
    limited.arg("--kill-after=5").arg(PATIENCE.as_secs().to_string());
    limited.arg(command.get_program()).args(command.get_args()).stdin(Stdio::null());
    if let Some(folder) = command.get_current_dir() {
        limited.current_dir(folder);
    }
    for (key, value) in command.get_envs() {
        match value {
            Some(value) => limited.env(key, value),
            None => limited.env_remove(key),
        };
    }
    let output = limited.output().unwrap_or_else(|error| panic!("{name} does not start: {error}"));
    Finished {
        name: name.to_owned(),
        status: output.status,
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}
