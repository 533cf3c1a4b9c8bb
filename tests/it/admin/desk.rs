//! An administrator's desk: a gate with its admin listener, a client of that listener, and the rules that hold for
//! every one of its answers.

use std::cell::RefCell;
use std::fs;

use serde_json::{Value, json};

use crate::support::gate::{Folder, Gate, Namespace, Settings};
use crate::support::http1::{Client, Request, Response, get, request};
use crate::support::leaks::Forms;
use crate::support::model_server::ModelServer;
use crate::support::rig::Rig;
use crate::support::tokens;

/// The tokens of the namespace `default`.
pub(super) const TOKENS: &str = "/api/v1/namespaces/default/tokens";

/// The path of a token of the namespace `default`.
pub(super) fn path_of(id: &str) -> String {
    format!("{TOKENS}/{id}")
}

/// What every answer has, whatever it says.
pub(super) const HEADERS_OF_ALL: &[(&str, &str)] = &[
    (
        "content-security-policy",
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; base-uri 'none'; \
         form-action 'none'; frame-ancestors 'none'",
    ),
    ("cache-control", "no-store"),
    ("x-content-type-options", "nosniff"),
    ("referrer-policy", "no-referrer"),
    ("x-frame-options", "DENY"),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
];

/// See the module. [`Desk::finish`] ends a test.
pub(super) struct Desk {
    pub(super) rig: Rig,
    /// Every secret that an answer was meant to show.
    shown: RefCell<Vec<String>>,
    /// Every answer, less those secrets where they belong.
    heard: RefCell<Vec<u8>>,
}

/// A new token that may do what the standard token `eval` may.
pub(super) fn new_token(name: &str) -> Value {
    json!({"name": name, "resources": ["allowed"], "groups": ["model-evaluation"]})
}

impl Desk {
    /// The standard tokens, and `alice` as their administrator.
    pub(super) fn new() -> Self {
        Self::with(|_| {})
    }

    /// The same with other settings.
    pub(super) fn with(change: impl FnOnce(&mut Settings)) -> Self {
        Self::before(&tokens::standard_file(), change)
    }

    /// The same with another token file.
    pub(super) fn before(file: &str, change: impl FnOnce(&mut Settings)) -> Self {
        let folder = Folder::new();
        folder.write("tokens.toml", file);
        Self::in_folder(folder, change)
    }

    /// The same in a folder that has all files but the settings.
    pub(super) fn in_folder(folder: Folder, change: impl FnOnce(&mut Settings)) -> Self {
        let server = ModelServer::canned();
        let mut settings = Settings::of(Namespace::before(server.url()));
        settings.admin = Some(String::new());
        change(&mut settings);
        folder.write("faregate.toml", settings.toml());
        Self::of(Rig::of(Gate::start(folder), server))
    }

    pub(super) fn of(mut rig: Rig) -> Self {
        for administrator in ["bob", "carol"] {
            rig.keep_secret(&tokens::key_of(administrator));
        }
        Self { rig, shown: RefCell::default(), heard: RefCell::default() }
    }

    /// A request to the admin listener that says nothing of who asks.
    pub(super) fn anonymous(&self, method: &str, target: &str) -> Request {
        request(method, target).host(&self.rig.gate.admin().to_string())
    }

    /// A request of `alice`.
    pub(super) fn request(&self, method: &str, target: &str) -> Request {
        self.anonymous(method, target).bearer(&tokens::administrator_key())
    }

    /// A request of `alice` with a body.
    pub(super) fn with_json(&self, method: &str, target: &str, body: &Value) -> Request {
        self.request(method, target).with("Content-Type", "application/json").body(body.to_string())
    }

    /// A connection to the admin listener.
    pub(super) fn connect(&self) -> Client {
        Client::to(self.rig.gate.admin())
    }

    /// Asks on a new connection.
    pub(super) fn ask(&self, request: &Request) -> Response {
        let response = self.connect().ask(request);
        self.judge(request.method(), &response);
        response
    }

    pub(super) fn get(&self, target: &str) -> Response {
        self.ask(&self.request("GET", target))
    }

    pub(super) fn post(&self, target: &str, body: &Value) -> Response {
        self.ask(&self.with_json("POST", target, body))
    }

    pub(super) fn patch(&self, target: &str, body: &Value) -> Response {
        self.ask(&self.with_json("PATCH", target, body))
    }

    pub(super) fn delete(&self, target: &str) -> Response {
        self.ask(&self.request("DELETE", target))
    }

    /// Makes a token in the namespace `default`: its id and its secret.
    pub(super) fn create(&self, body: &Value) -> (String, String) {
        let response = self.post(TOKENS, body);
        assert_eq!(response.status, 201, "{response:?}");
        (text(&response.json()["token"]["id"]), text(&response.json()["secret"]))
    }

    /// Regenerates a token of the namespace `default`: its new secret.
    pub(super) fn regenerate(&self, id: &str, body: &Value) -> String {
        let response = self.post(&format!("{}/regenerate", path_of(id)), body);
        assert_eq!(response.status, 200, "{response:?}");
        text(&response.json()["secret"])
    }

    /// A token of the namespace `default` as it is.
    pub(super) fn token(&self, id: &str) -> Value {
        let response = self.get(&path_of(id));
        assert_eq!(response.status, 200, "{response:?}");
        response.json()["token"].clone()
    }

    /// The status of a request to the model `allowed` with this secret.
    pub(super) fn status_with(&self, secret: &str) -> u16 {
        self.rig.ask(&get("/score/allowed").bearer(secret)).status
    }

    /// The token file of the namespace `default`.
    pub(super) fn file(&self) -> String {
        fs::read_to_string(self.rig.gate.folder.path("tokens.toml")).unwrap()
    }

    /// Looks at what every answer must have, and keeps it for the search for secrets.
    pub(super) fn judge(&self, method: &str, response: &Response) {
        for (name, value) in HEADERS_OF_ALL {
            assert_eq!(response.field(name), Some(*value), "{name}: {response:?}");
        }
        let id = response.field("x-request-id").unwrap_or_default();
        assert!(!id.is_empty(), "{response:?}");
        for absent in ["set-cookie", "access-control-allow-origin", "server"] {
            assert_eq!(response.field(absent), None, "{absent}: {response:?}");
        }
        let bodiless = method == "HEAD" || response.status == 204;
        let mut text = String::from_utf8_lossy(&response.bytes).into_owned();
        if !bodiless && response.status >= 400 {
            let body = response.json();
            assert_eq!(response.field("content-type"), Some("application/problem+json"));
            assert_eq!(body["type"], "about:blank", "{body}");
            assert_eq!(body["status"], response.status, "{body}");
            assert_eq!(body["reason"].as_str(), response.reason(), "{body}");
            if response.field("idempotent-replayed").is_none() {
                assert_eq!(body["request_id"], id, "{body}");
            }
            for member in ["title", "detail"] {
                assert!(body[member].as_str().is_some_and(|text| !text.is_empty()), "{body}");
            }
            // Empty for a target that has no path.
            assert!(body["instance"].is_string(), "{body}");
        }
        // A secret stands in the member for it, of the answers that have one, and nowhere else.
        let shows =
            matches!(response.status, 200 | 201) || response.reason() == Some("read_only_store");
        if shows
            && !bodiless
            && let Ok(body) = serde_json::from_slice::<Value>(&response.body)
            && let Some(secret) = body["secret"].as_str()
        {
            assert_eq!(text.matches(secret).count(), 1, "{text}");
            text = text.replace(secret, "");
            if let Some(stanza) = body["stanza"].as_str() {
                assert!(stanza.contains(&tokens::hash(secret)), "{body}");
            }
            self.shown.borrow_mut().push(secret.to_owned());
        }
        if response.reason() == Some("read_only_store") {
            // What a person pastes into the file has to have the hashes that stand there.
            let parts: Vec<&str> = text.split("blake3:").collect();
            text = parts[0].to_owned()
                + &parts[1..].iter().map(|part| &part[64..]).collect::<Vec<_>>().join("");
        }
        self.heard.borrow_mut().extend_from_slice(text.as_bytes());
    }

    /// The end of a test: looks for every secret, wherever one could have gone.
    pub(super) fn finish(mut self) {
        let shown = self.shown.take();
        for secret in &shown {
            self.rig.keep_secret(secret);
        }
        self.rig.assert_no_leak();
        let mut all = shown;
        all.extend(tokens::STANDARD.iter().map(|token| tokens::secret(token.id)));
        all.extend(["bob", "carol"].map(tokens::key_of));
        all.push(tokens::administrator_key());
        Forms::of(&all).assert_absent("what administrators were told", &self.heard.borrow());
    }
}

/// A text in JSON.
pub(super) fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}")).to_owned()
}

/// The ids of a list of tokens.
pub(super) fn ids(list: &Value) -> Vec<String> {
    let tokens = list["tokens"].as_array().unwrap_or_else(|| panic!("no list: {list}"));
    tokens.iter().map(|token| text(&token["id"])).collect()
}

/// A token file as a reader of TOML sees it, as JSON; dates are texts.
pub(super) fn read_file(file: &str) -> Value {
    let document: toml_edit::DocumentMut = file.parse().unwrap_or_else(|error| panic!("{error}"));
    table_as_json(document.as_table())
}

fn table_as_json(table: &dyn toml_edit::TableLike) -> Value {
    let members = table.iter().map(|(key, item)| (key.to_owned(), item_as_json(item)));
    Value::Object(members.collect())
}

fn item_as_json(item: &toml_edit::Item) -> Value {
    match item {
        toml_edit::Item::None => Value::Null,
        toml_edit::Item::Table(table) => table_as_json(table),
        toml_edit::Item::ArrayOfTables(tables) => {
            tables.iter().map(|table| table_as_json(table)).collect()
        }
        toml_edit::Item::Value(value) => value_as_json(value),
    }
}

fn value_as_json(value: &toml_edit::Value) -> Value {
    match value {
        toml_edit::Value::String(text) => json!(text.value()),
        toml_edit::Value::Integer(number) => json!(number.value()),
        toml_edit::Value::Float(number) => json!(number.value()),
        toml_edit::Value::Boolean(truth) => json!(truth.value()),
        toml_edit::Value::Datetime(at) => json!(at.value().to_string()),
        toml_edit::Value::Array(values) => values.iter().map(value_as_json).collect(),
        toml_edit::Value::InlineTable(table) => table_as_json(table),
    }
}
