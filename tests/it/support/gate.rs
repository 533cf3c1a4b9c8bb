//! The gate under test: the real binary, its files in a folder of its own, its log, its two addresses.

use std::fs;
use std::io::{BufRead, BufReader, Write as _};
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

use tempfile::TempDir;

use super::http1::{Client, Response, get};
use super::metrics::Scrape;
use super::{PATIENCE, eventually, tokens};

/// What goes into `faregate.toml`; a field is TOML that stands as it is.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// Further keys of `[data]`.
    pub(crate) data: String,
    /// Keys of `[limits]`.
    pub(crate) limits: String,
    /// Keys of `[drain]`.
    pub(crate) drain: String,
    /// Keys of `[log]`.
    pub(crate) log: String,
    /// Further keys of `[admin]`; none for a gate without the listener.
    pub(crate) admin: Option<String>,
    pub(crate) namespaces: Vec<Namespace>,
}

/// A `[[namespace]]`.
#[derive(Debug, Clone)]
pub(crate) struct Namespace {
    pub(crate) name: String,
    pub(crate) hosts: Vec<String>,
    pub(crate) tokens: String,
    pub(crate) profiles: Vec<String>,
    /// Further keys, each with its line end.
    pub(crate) keys: String,
    pub(crate) endpoints: Vec<String>,
    /// Further keys of `[namespace.upstream]`.
    pub(crate) upstream: String,
    /// Whole tables that belong to it: `[[namespace.route]]` and the like.
    pub(crate) tables: String,
}

/// Routes beside those of the profile `kserve-v2`: one of each kind.
pub(crate) const OWN_ROUTES: &str = r#"
[[namespace.route]]
methods = ["GET", "POST"]
path = "/score/{model}"
group = "model-evaluation"

[[namespace.route]]
methods = ["GET", "POST"]
path = "/files/{model}/{rest...}"
group = "model-evaluation"

[[namespace.route]]
methods = ["GET"]
path = "/predict/{model}"
group = "model-evaluation"

[[namespace.route]]
methods = ["GET"]
path = "/predict/{model}:unload"
group = "model-management"

[[namespace.route]]
methods = ["GET", "POST"]
path = "/ask"
group = "model-evaluation"
model = ["query:model"]

[[namespace.route]]
methods = ["PUT", "DELETE"]
path = "/score/{model}"
group = "model-management"

[[namespace.route]]
methods = ["GET"]
path = "/everything"
group = "model-evaluation"

[[namespace.route]]
methods = ["GET"]
path = "/lists"
group = "model-evaluation"
any_resource = true

[[namespace.route]]
methods = ["GET", "POST", "OPTIONS"]
path = "/open"
group = "public"

[[namespace.route]]
methods = ["GET"]
path = "/closed"
group = "deny"

[[namespace.route]]
methods = ["GET"]
path = "/audit/{model}"
group = "auditing"
"#;

impl Namespace {
    /// The namespace `default`, for every host, with [`OWN_ROUTES`] before the profile `kserve-v2`.
    pub(crate) fn before(endpoint: impl Into<String>) -> Self {
        Self {
            name: "default".into(),
            hosts: vec!["*".into()],
            tokens: "tokens.toml".into(),
            profiles: vec!["kserve-v2".into()],
            keys: String::new(),
            endpoints: vec![endpoint.into()],
            upstream: String::new(),
            tables: OWN_ROUTES.into(),
        }
    }

    fn toml(&self) -> String {
        let Self { name, hosts, tokens, profiles, keys, endpoints, upstream, tables } = self;
        format!(
            "[[namespace]]\nname = {name:?}\nhosts = {hosts:?}\ntokens = {tokens:?}\nprofiles = {profiles:?}\n{keys}\n\
             [namespace.upstream]\nendpoints = {endpoints:?}\n{upstream}\n{tables}\n"
        )
    }
}

impl Settings {
    pub(crate) fn of(namespace: Namespace) -> Self {
        Self {
            data: String::new(),
            limits: String::new(),
            drain: "delay = \"0s\"\ntimeout = \"20s\"\n".into(),
            log: "level = \"trace\"\naccess = \"all\"\n".into(),
            admin: None,
            namespaces: vec![namespace],
        }
    }

    pub(crate) fn toml(&self) -> String {
        let Self { data, limits, drain, log, admin, namespaces } = self;
        let namespaces: String = namespaces.iter().map(Namespace::toml).collect();
        let admin = admin.as_ref().map_or_else(String::new, |keys| {
            format!("[admin]\nlisten = \"127.0.0.1:0\"\n{keys}\n")
        });
        format!(
            "[data]\nlisten = \"127.0.0.1:0\"\nworkers = 2\n{data}\n[ops]\nlisten = \"127.0.0.1:0\"\n\n\
             [log]\n{log}\n[limits]\n{limits}\n[drain]\n{drain}\n{admin}{namespaces}"
        )
    }
}

/// A folder with the files of a gate.
pub(crate) struct Folder(TempDir);

impl Folder {
    /// An empty one.
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Writes a file that its owner alone may read, in place when it is there already.
    pub(crate) fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        let mut options = fs::OpenOptions::new();
        let file =
            options.write(true).create(true).truncate(true).mode(0o600).open(self.path(name));
        file.unwrap().write_all(text.as_ref()).unwrap();
    }

    /// Puts a new file in the place of the old one, as editors do.
    pub(crate) fn replace(&self, name: &str, text: impl AsRef<[u8]>) {
        self.write(".new", text);
        fs::rename(self.path(".new"), self.path(name)).unwrap();
    }
}

/// The binary, to be run with arguments of the test.
pub(crate) fn faregate() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_faregate"));
    command.env_remove("FAREGATE_CONFIG").env("NO_COLOR", "1").stdin(Stdio::null());
    command
}

#[derive(Default)]
struct Transcript {
    bytes: Vec<u8>,
    lines: Vec<String>,
    /// Streams that reached their end, of two.
    ended: u8,
}

type SharedTranscript = Arc<(Mutex<Transcript>, Condvar)>;

/// A test that fails with the transcript in its hand leaves it to the others as it is.
fn lock(transcript: &SharedTranscript) -> MutexGuard<'_, Transcript> {
    transcript.0.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A running `faregate serve`. Dropping it kills it.
pub(crate) struct Gate {
    child: Child,
    transcript: SharedTranscript,
    readers: Vec<JoinHandle<()>>,
    pub(crate) data: SocketAddr,
    pub(crate) ops: SocketAddr,
    pub(crate) folder: Folder,
}

/// A gate that may not have come up.
struct Starting {
    child: Child,
    transcript: SharedTranscript,
    readers: Vec<JoinHandle<()>>,
}

impl Starting {
    fn new(folder: &Folder, mut program: Command) -> Self {
        let mut child = program
            .arg("serve")
            .arg("--config")
            .arg(folder.path("faregate.toml"))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let transcript = SharedTranscript::default();
        let readers = vec![
            keep_lines(child.stdout.take().unwrap(), &transcript),
            keep_lines(child.stderr.take().unwrap(), &transcript),
        ];
        Self { child, transcript, readers }
    }

    /// Waits until it has ended by itself.
    fn end(mut self) -> Ended {
        let deadline = Instant::now() + PATIENCE;
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            if Instant::now() > deadline {
                drop(self.child.kill());
                let lines = lock(&self.transcript).lines.join("\n");
                panic!("it goes on nevertheless:\n{lines}");
            }
            std::thread::sleep(std::time::Duration::from_millis(5));
        };
        self.readers.into_iter().for_each(|reader| reader.join().unwrap());
        let said = String::from_utf8_lossy(&lock(&self.transcript).bytes).into_owned();
        Ended { status, said }
    }
}

fn faregate_with_descriptors(most: u32) -> Command {
    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", "ulimit -n \"$0\" && exec \"$@\"", &most.to_string()]);
    shell.arg(env!("CARGO_BIN_EXE_faregate")).env("NO_COLOR", "1").stdin(Stdio::null());
    shell
}

/// Sends a signal by its name without `SIG`. One that has ended already does not hear it.
fn send_signal(child: &Child, name: &str) {
    let id = child.id().to_string();
    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", "kill -s \"$0\" \"$1\"", name, &id]).stderr(Stdio::null());
    shell.status().unwrap();
}

/// How a gate ended that could not start.
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    pub(crate) said: String,
}

impl Gate {
    /// Starts it and waits until both listeners are bound.
    pub(crate) fn start(folder: Folder) -> Self {
        Self::start_as(faregate(), folder)
    }

    /// The same with room for so many descriptors.
    pub(crate) fn start_with_descriptors(folder: Folder, most: u32) -> Self {
        Self::start_as(faregate_with_descriptors(most), folder)
    }

    /// Starts it with room for so many descriptors, asks it to stop as soon as it says that it
    /// listens, and waits until it has ended, by itself or for having been asked.
    pub(crate) fn start_and_stop(folder: &Folder, most: u32) -> Ended {
        let starting = Starting::new(folder, faregate_with_descriptors(most));
        let (transcript, changed) = &*starting.transcript;
        let listens = |line: &String| line.contains("\"listening\"") && line.contains("\"ops\"");
        let waiting = |transcript: &mut Transcript| {
            transcript.ended < 2 && !transcript.lines.iter().any(listens)
        };
        let heard = changed.wait_timeout_while(transcript.lock().unwrap(), PATIENCE, waiting);
        drop(heard.unwrap());
        send_signal(&starting.child, "TERM");
        starting.end()
    }

    fn start_as(program: Command, folder: Folder) -> Self {
        let Starting { child, transcript, readers } = Starting::new(&folder, program);
        let unbound = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut gate = Self { child, transcript, readers, data: unbound, ops: unbound, folder };
        gate.data = gate.address_of("data");
        gate.ops = gate.address_of("ops");
        gate
    }

    /// Starts one that is to give up, and waits until it has.
    pub(crate) fn fail_to_start(folder: &Folder) -> Ended {
        Starting::new(folder, faregate()).end()
    }

    pub(crate) fn address_of(&self, listener: &str) -> SocketAddr {
        self.wait_for_line(&format!("the address of the listener `{listener}`"), |line| {
            let event: serde_json::Value = serde_json::from_str(line).ok()?;
            let bound = event["message"] == "listening" && event["listener"] == listener;
            bound.then(|| event["address"].as_str().unwrap().parse().unwrap())
        })
    }

    /// Where the administrators come in.
    pub(crate) fn admin(&self) -> SocketAddr {
        self.address_of("admin")
    }

    /// Kills it, and gives its files to whoever starts it again.
    pub(crate) fn killed(mut self) -> Folder {
        std::mem::replace(&mut self.folder, Folder::new())
    }

    /// What `find` makes of the first fitting line of the log, printed already or still to come.
    pub(crate) fn wait_for_line<T>(&self, what: &str, find: impl Fn(&str) -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        let changed = &self.transcript.1;
        let mut transcript = lock(&self.transcript);
        let mut seen = 0;
        loop {
            if let Some(found) = transcript.lines[seen..].iter().find_map(|line| find(line)) {
                return found;
            }
            seen = transcript.lines.len();
            let left = deadline.saturating_duration_since(Instant::now());
            if transcript.ended == 2 || left.is_zero() {
                // The lock is given back first: the gate's log is wanted again while this unwinds.
                drop(transcript);
                panic!("the gate has not said {what}");
            }
            transcript = changed.wait_timeout(transcript, left).unwrap().0;
        }
    }

    /// The first event of the log, past or to come, with this field and value.
    pub(crate) fn wait_for_event(&self, field: &str, value: &str) -> serde_json::Value {
        self.wait_for_line(&format!("an event with {field} = {value}"), |line| {
            let event: serde_json::Value = serde_json::from_str(line).ok()?;
            (event[field] == value).then_some(event)
        })
    }

    /// Everything it printed so far.
    pub(crate) fn log(&self) -> Vec<u8> {
        lock(&self.transcript).bytes.clone()
    }

    pub(crate) fn log_lines(&self) -> Vec<String> {
        lock(&self.transcript).lines.clone()
    }

    pub(crate) fn metrics(&self) -> Scrape {
        Scrape::of(self.ops)
    }

    /// The value of a metric, 0 when there is no such series yet.
    pub(crate) fn metric(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.metrics().value(name, labels).unwrap_or(0.0)
    }

    pub(crate) fn ops_get(&self, target: &str) -> Response {
        Client::to(self.ops).ask(&get(target))
    }

    /// Waits until the policy of a namespace is the one of this token file.
    pub(crate) fn wait_for_policy(&self, namespace: &str, file: &str) {
        let generation = tokens::generation(file);
        eventually(&format!("the policy {generation} of `{namespace}` is in force"), || {
            let labels = [("namespace", namespace), ("generation", generation.as_str())];
            let now = self.metrics();
            (now.value("faregate_policy_info", &labels) == Some(1.0)).then_some(())
        });
    }

    /// Writes `tokens.toml` in place and waits until it is in force in the namespace `default`.
    pub(crate) fn change_tokens(&self, file: &str) {
        self.folder.write("tokens.toml", file);
        self.wait_for_policy("default", file);
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal by its name without `SIG`.
    pub(crate) fn signal(&self, name: &str) {
        send_signal(&self.child, name);
    }

    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Waits until the process has ended by itself.
    pub(crate) fn wait_for_end(&mut self) -> ExitStatus {
        eventually("the gate ends", || self.child.try_wait().unwrap())
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        // Both fail only when it has ended already.
        drop(self.child.kill());
        drop(self.child.wait());
        for reader in self.readers.drain(..) {
            drop(reader.join());
        }
        if std::thread::panicking() {
            // The test runner shows it beside the failure.
            let lines = &lock(&self.transcript).lines;
            let from = lines.len().saturating_sub(60);
            eprintln!("--- the gate's log, its end:\n{}", lines[from..].join("\n"));
        }
    }
}

fn keep_lines(
    from: impl std::io::Read + Send + 'static,
    into: &SharedTranscript,
) -> JoinHandle<()> {
    let into = Arc::clone(into);
    std::thread::spawn(move || {
        let mut from = BufReader::new(from);
        let mut line = Vec::new();
        while from.read_until(b'\n', &mut line).is_ok_and(|length| length > 0) {
            let text = String::from_utf8_lossy(&line).trim_end().to_owned();
            let mut transcript = lock(&into);
            transcript.bytes.extend_from_slice(&line);
            transcript.lines.push(text);
            into.1.notify_all();
            line.clear();
        }
        lock(&into).ended += 1;
        into.1.notify_all();
    })
}
