//! Client, gate and model server together, and the rules that hold whatever a test does.

use std::sync::{Arc, Mutex};

use super::gate::{Folder, Gate, Namespace, Settings};
use super::http1::{Client, Received, Request, Response};
use super::leaks::Forms;
use super::model_server::ModelServer;
use super::tokens;
use super::transport::Connection;

/// See the module. [`Rig::finish`] ends a test and judges all of it.
pub(crate) struct Rig {
    pub(crate) gate: Gate,
    pub(crate) server: ModelServer,
    /// What the clients were told.
    heard: Arc<Mutex<Vec<u8>>>,
    /// What must be found nowhere, beside the secrets of the standard tokens.
    secrets: Vec<String>,
}

impl Rig {
    /// The standard tokens and routes before a server that gives the canned answer.
    pub(crate) fn standard() -> Self {
        Self::before(ModelServer::canned())
    }

    /// The same before this server.
    pub(crate) fn before(server: ModelServer) -> Self {
        Self::with(server, |_| {})
    }

    /// The same with other settings. The one namespace is `settings.namespaces[0]`.
    pub(crate) fn with(server: ModelServer, change: impl FnOnce(&mut Settings)) -> Self {
        let mut settings = Settings::of(Namespace::before(server.url()));
        change(&mut settings);
        let folder = Folder::new();
        folder.write("tokens.toml", tokens::standard_file());
        folder.write("faregate.toml", settings.toml());
        Self::of(Gate::start(folder), server)
    }

    pub(crate) fn of(gate: Gate, server: ModelServer) -> Self {
        let mut secrets: Vec<String> =
            tokens::STANDARD.iter().map(|token| tokens::secret(token.id)).collect();
        secrets.push(tokens::administrator_key());
        secrets.push(tokens::FOREIGN_KEY.to_owned());
        Self { gate, server, heard: Arc::default(), secrets }
    }

    /// Counts this among what must be found nowhere.
    pub(crate) fn keep_secret(&mut self, secret: &str) {
        self.secrets.push(secret.to_owned());
    }

    /// A new connection to the gate.
    pub(crate) fn connect(&self) -> Client {
        self.over(Connection::to(self.gate.data))
    }

    /// A client on a connection that the test made.
    pub(crate) fn over(&self, connection: Connection) -> Client {
        Client::over(connection, &self.heard)
    }

    pub(crate) fn heard(&self) -> &Arc<Mutex<Vec<u8>>> {
        &self.heard
    }

    /// Asks on a new connection.
    pub(crate) fn ask(&self, request: &Request) -> Response {
        self.connect().ask(request)
    }

    /// Asks on a new connection, and expects to be refused by the gate before the model server got a single byte.
    pub(crate) fn assert_refused(
        &self,
        case: &str,
        request: &Request,
        status: u16,
        reason: &str,
    ) -> Response {
        let before = self.server.bytes().len();
        let response = self.ask(request);
        assert_eq!(
            (response.status, response.reason()),
            (status, Some(reason)),
            "{case}: {response:?}"
        );
        self.assert_upstream_got_nothing_since(before, case);
        response
    }

    /// Asks on a new connection, expects the model server's answer, and gives what the server received.
    pub(crate) fn assert_forwarded(&self, case: &str, request: &Request) -> Received {
        let (response, received) = self.forward(case, request);
        assert_eq!(response.field("x-served-by"), Some("model"), "{case}: {response:?}");
        received
    }

    /// Asks on a new connection, and gives the answer and the one request that reached the model server.
    pub(crate) fn forward(&self, case: &str, request: &Request) -> (Response, Received) {
        let mark = self.server.mark();
        let response = self.ask(request);
        let mut new = self.server.since(&mark);
        assert_eq!(new.len(), 1, "{case}: requests at the model server; the client {response:?}");
        (response, new.remove(0))
    }

    pub(crate) fn assert_upstream_got_nothing(&self, case: &str) {
        self.assert_upstream_got_nothing_since(0, case);
    }

    /// Compares with the number of bytes the model server had before.
    pub(crate) fn assert_upstream_got_nothing_since(&self, before: usize, case: &str) {
        let bytes = self.server.bytes();
        assert_eq!(
            bytes.len(),
            before,
            "{case}: the model server received:\n{}",
            String::from_utf8_lossy(&bytes)
        );
    }

    /// The end of a test: counts the requests that reached the model server with readers of every kind, and looks for
    /// secrets wherever one could have gone.
    pub(crate) fn finish(self, entitled: usize) {
        assert_eq!(self.server.requests().len(), entitled, "requests that a strict reader finds");
        assert_eq!(
            self.server.count_leniently(),
            entitled,
            "requests that a forgiving reader finds"
        );
        self.assert_no_leak();
    }

    /// Looks for secrets in what the model server received, the log, the metrics and what clients were told.
    pub(crate) fn assert_no_leak(&self) {
        let forms = Forms::of(&self.secrets);
        forms.assert_absent("what the model server received", &self.server.bytes());
        forms.assert_absent("the metrics", self.gate.metrics().text.as_bytes());
        forms.assert_absent("what clients were told", &self.heard.lock().unwrap());
        forms.assert_absent("the log", &self.gate.log());
        let arguments = std::fs::read(format!("/proc/{}/cmdline", self.gate.id())).unwrap();
        forms.assert_absent("the process's arguments", &arguments);
    }
}
