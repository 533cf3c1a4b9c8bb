//! A gate whose admin API is used: the administrator's connection, and those of clients on every
//! worker.

use std::collections::BTreeSet;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::gate::{Gate, GateFiles, GateSettings, listener_address};
use crate::http_connection::{Answer, HttpConnection, contented_model_server};
use crate::process::{PATIENCE, RunningProcess, run};
use crate::strace::{SystemCall, Trace, traced};
use crate::token_file::text;

/// Connections of one client: so many that each of the two workers has some.
const CONNECTIONS: usize = 6;

/// The files of a gate with an admin listener, and an administrator key.
pub(crate) fn files() -> (GateFiles, String) {
    let files = GateFiles::write(&GateSettings {
        profile: "any",
        upstream: &contented_model_server(),
        data: "\n[admin]\nlisten = \"127.0.0.1:0\"\n",
        ..GateSettings::default()
    });
    let mut issue = files.command(&["admin-key", "issue", "--name", "tester"]);
    let key = run("faregate admin-key issue", &mut issue).succeeded().stdout;
    (files, key.trim_end().to_owned())
}

/// The address of a gate's admin listener.
pub(crate) fn admin_address(process: &RunningProcess) -> String {
    listener_address(process, "admin")
}

/// An administrator with a connection.
pub(crate) struct Administrator {
    connection: HttpConnection,
    key: String,
}

impl Administrator {
    pub(crate) fn at(address: &str, key: &str) -> Self {
        Self { connection: HttpConnection::to(address), key: key.to_owned() }
    }

    /// A call about the tokens of the namespace; `path` is what stands after `…/tokens`.
    pub(crate) fn try_to_call(
        &mut self,
        method: &str,
        path: &str,
        body: Option<&Value>,
    ) -> Option<Answer> {
        let path = format!("/api/v1/namespaces/default/tokens{path}");
        self.connection.try_to_send(method, &path, &self.key, body)
    }

    pub(crate) fn call(&mut self, method: &str, path: &str, body: Option<&Value>) -> Answer {
        let answer = self.try_to_call(method, path, body);
        answer.unwrap_or_else(|| panic!("no answer to {method} {path}"))
    }
}

/// The body of a call that issues a token for everything.
pub(crate) fn new_token(name: &str) -> Value {
    json!({ "name": name, "resources": ["*"], "groups": ["model-evaluation"] })
}

/// A client with kept connections to every worker.
pub(crate) struct Client {
    connections: Vec<HttpConnection>,
}

impl Client {
    pub(crate) fn of(data: &str) -> Self {
        Self { connections: (0..CONNECTIONS).map(|_| HttpConnection::to(data)).collect() }
    }

    /// What a request with this secret is answered; the same on every connection.
    #[track_caller]
    pub(crate) fn status(&mut self, secret: &str, what: &str) -> u16 {
        let asked =
            self.connections.iter_mut().map(|one| one.send("GET", "/x", secret, None).status);
        let statuses: Vec<u16> = asked.collect();
        assert!(statuses.windows(2).all(|two| two[0] == two[1]), "{what}: {statuses:?}");
        statuses[0]
    }
}

/// Waits until the gate judges by the file as it is.
pub(crate) fn wait_until_in_force(gate: &Gate) {
    let generation = blake3::hash(text(&gate.files).as_bytes()).to_hex();
    let deadline = Instant::now() + PATIENCE;
    let mut ops = HttpConnection::to(&gate.ops);
    while !ops.send("GET", "/metrics", "-", None).body.contains(&generation[..12]) {
        assert!(Instant::now() < deadline, "the file does not come into force");
        thread::sleep(Duration::from_millis(20));
    }
}

/// A gate's files with two tokens: all changes are about the one or beside it.
pub(crate) struct Prepared {
    pub(crate) files: GateFiles,
    pub(crate) key: String,
    pub(crate) id: String,
    pub(crate) secret: String,
    pub(crate) other_secret: String,
}

impl Prepared {
    pub(crate) fn new() -> Self {
        let (files, key) = files();
        let secret = files.issue("old", &["*"], &["model-evaluation"]);
        let id = files.token_id("old");
        let other_secret = files.issue("other", &["*"], &["model-evaluation"]);
        Self { files, key, id, secret, other_secret }
    }

    pub(crate) fn start_traced(self, injections: &[String]) -> Running {
        let Self { files, key, id, secret, other_secret } = self;
        let old = text(&files);
        let trace = Trace::new();
        let mut serve = traced(&files.command(&["serve"]), &trace, injections);
        let gate = files.start_by(&mut serve);
        let administrator = Administrator::at(&admin_address(&gate.process), &key);
        Running { gate, key, id, secret, other_secret, old, trace, administrator }
    }
}

/// A gate under strace, and an administrator.
pub(crate) struct Running {
    pub(crate) gate: Gate,
    pub(crate) key: String,
    pub(crate) id: String,
    pub(crate) secret: String,
    pub(crate) other_secret: String,
    /// The token file before the change.
    pub(crate) old: String,
    pub(crate) trace: Trace,
    pub(crate) administrator: Administrator,
}

/// What an administrator asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    Issue,
    Regenerate,
    Disable,
}

impl Asked {
    /// Asks for it, where it is about a token for that with this id. None when the gate went away
    /// before the answer was there.
    pub(crate) fn of(self, administrator: &mut Administrator, id: &str) -> Option<Answer> {
        match self {
            Self::Issue => administrator.try_to_call("POST", "", Some(&new_token("new"))),
            Self::Regenerate => {
                let body = json!({ "grace_period": "1h" });
                administrator.try_to_call("POST", &format!("/{id}/regenerate"), Some(&body))
            }
            Self::Disable => administrator.try_to_call("POST", &format!("/{id}/disable"), None),
        }
    }

    /// What the thread that makes the change calls to lock, sync or move something in the folder of
    /// the token file, when nobody disturbs it. strace counts the calls of each thread by themselves,
    /// so that opening and writing by number would meet other threads too; all steps are between two
    /// of these.
    pub(crate) fn calls(self) -> Vec<SystemCall> {
        let mut running = Prepared::new().start_traced(&[]);
        let answer = self.of(&mut running.administrator, &running.id).unwrap();
        assert!(matches!(answer.status, 200 | 201), "{answer:?}");
        assert_ne!(text(&running.gate.files), running.old);
        running.gate.process.terminate();
        let names = ["fchmod", "flock", "fsync", "renameat2", "unlink"];
        let mut calls = running.trace.calls_of_the_change();
        calls.retain(|call| names.contains(&call.name.as_str()));
        let found: BTreeSet<&str> = calls.iter().map(|call| call.name.as_str()).collect();
        assert_eq!(found.into_iter().collect::<Vec<_>>(), names);
        calls
    }
}
