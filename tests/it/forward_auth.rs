//! The gate as another gateway asks it: by HTTP, and by Envoy's gRPC.

mod envoy;
mod ext_authz;
mod http;

use std::net::SocketAddr;
use std::path::Path;

use crate::support::gate::{Folder, Gate, Namespace, OWN_ROUTES, Settings};
use crate::support::http1::{Client, Request, Response, get};
use crate::support::model_server::ModelServer;
use crate::support::rig::Rig;
use crate::support::tokens;

/// A rig whose gate is asked by gateways. Nothing of what they ask about goes to the model server.
pub(crate) struct Asked {
    pub(crate) rig: Rig,
    pub(crate) address: SocketAddr,
}

impl Asked {
    /// The standard tokens and routes, those of the profile `openai` and of gRPC's `kserve-v2`.
    pub(crate) fn standard() -> Self {
        Self::with("", |_| {})
    }

    /// The same with further keys of `[forward_auth]` and other settings.
    pub(crate) fn with(keys: &str, change: impl FnOnce(&mut Settings)) -> Self {
        let server = ModelServer::canned();
        let mut settings = Settings::of(Namespace {
            profiles: vec!["kserve-v2".into(), "openai".into()],
            tables: OWN_ROUTES.into(),
            ..Namespace::before(server.url())
        });
        change(&mut settings);
        let folder = Folder::new();
        folder.write("tokens.toml", tokens::standard_file());
        let listener = format!("\n[forward_auth]\nlisten = \"127.0.0.1:0\"\n{keys}\n");
        folder.write("faregate.toml", settings.toml() + &listener);
        let gate = Gate::start(folder);
        let address = gate.address_of("forward_auth");
        Self { rig: Rig::of(gate, server), address }
    }

    /// Asks on a new connection.
    pub(crate) fn ask(&self, request: &Request) -> Response {
        Client::over(crate::support::transport::Connection::to(self.address), self.rig.heard())
            .ask(request)
    }

    pub(crate) fn decided(&self, result: &str, reason: &str) -> f64 {
        let labels = [("namespace", "default"), ("result", result), ("reason", reason)];
        self.rig.gate.metric("faregate_decisions_total", &labels)
    }

    pub(crate) fn finish(self) {
        self.rig.finish(0);
    }
}

#[test]
fn a_peer_that_is_not_trusted_is_told_nothing() {
    let asked = Asked::with("trusted_peers = [\"192.0.2.0/24\"]", |_| {});
    let allowed = get("/")
        .with("X-Forwarded-Method", "GET")
        .with("X-Forwarded-Uri", "/score/allowed")
        .token("eval");
    let open = get("/").with("X-Forwarded-Method", "GET").with("X-Forwarded-Uri", "/open");
    for (case, request) in
        [("allowed", &allowed), ("public", &open), ("no question", &get("/metrics"))]
    {
        let response = asked.ask(request);
        assert_eq!((response.status, response.body.len()), (403, 0), "{case}: {response:?}");
        for name in ["faregate-reason", "www-authenticate", "x-credential-identifier"] {
            assert_eq!(response.field(name), None, "{case}");
        }
    }
    let check = envoy::Check::of("GET", "/score/allowed").token("eval");
    let answer = envoy::ask_raw(&asked, &check.bytes());
    assert_eq!((answer.status(), answer.body.len()), (403, 0), "{answer:?}");
    assert_eq!(asked.decided("allowed", "allowed"), 0.0);
    asked.finish();
}

#[test]
fn a_token_that_was_taken_away_is_refused_on_kept_connections() {
    let asked = Asked::standard();
    let question = get("/")
        .with("X-Forwarded-Method", "GET")
        .with("X-Forwarded-Uri", "/score/allowed")
        .token("eval");
    let mut kept = Client::to(asked.address);
    let mut envoy = envoy::Connection::to(&asked);
    let check = envoy::Check::of("GET", "/score/allowed").token("eval");
    assert_eq!(kept.ask(&question).status, 200);
    assert!(envoy.ask(&check).is_ok());
    asked.rig.gate.change_tokens(&tokens::file(&[]));
    assert_eq!(kept.ask(&question).status, 401);
    assert_eq!(envoy.ask(&check).denied().status, 401);
    asked.finish();
}

#[test]
fn questions_are_counted_and_logged_as_requests_are() {
    let asked = Asked::standard();
    let question = |target: &str| {
        get("/")
            .with("X-Forwarded-Method", "GET")
            .with("X-Forwarded-Uri", target)
            .with("X-Forwarded-For", "198.51.100.7, 203.0.113.9")
            .with("X-Request-Id", target.trim_start_matches('/').replace('/', "."))
            .token("eval")
    };
    assert_eq!(asked.ask(&question("/score/allowed")).status, 200);
    assert_eq!(asked.ask(&question("/score/secret")).status, 403);
    assert_eq!(asked.decided("allowed", "allowed"), 1.0);
    assert_eq!(asked.decided("denied", "resource_not_allowed"), 1.0);
    let used = |result| {
        let labels = [("namespace", "default"), ("token_id", "eval"), ("result", result)];
        asked.rig.gate.metric("faregate_token_requests_total", &labels)
    };
    assert_eq!((used("allowed"), used("denied")), (1.0, 1.0));
    let line = asked.rig.gate.wait_for_event("request_id", "score.secret");
    for (field, value) in [
        ("message", "forward auth"),
        ("peer", "203.0.113.9"),
        ("asked_by", "127.0.0.1"),
        ("method", "GET"),
        ("path", "/score/secret"),
        ("reason", "resource_not_allowed"),
        ("token_id", "eval"),
        ("model", "secret"),
        ("group", "model-evaluation"),
    ] {
        assert_eq!(line[field], value, "{line}");
    }
    assert_eq!(line["status"], 403);
    asked.finish();
}

#[test]
fn kept_connections_of_gateways_do_not_hold_up_the_end() {
    let mut asked = Asked::standard();
    let mut kept = Client::to(asked.address);
    let mut envoy = envoy::Connection::to(&asked);
    let question = get("/").with("X-Forwarded-Method", "GET").with("X-Forwarded-Uri", "/open");
    assert_eq!(kept.ask(&question).status, 200);
    assert!(envoy.ask(&envoy::Check::of("GET", "/open")).is_ok());
    // One that never says what it speaks.
    let silent = Client::to(asked.address);
    asked.rig.gate.signal("TERM");
    envoy.wait_until_closed();
    assert!(asked.rig.gate.wait_for_end().success());
    drop((kept, envoy, silent));
}

#[test]
fn a_listener_that_most_of_the_world_may_ask_is_warned_of() {
    for (listen, peers, warns) in [
        ("127.0.0.1:9903", r#"["0.0.0.0/0"]"#, false),
        ("[::1]:9903", r#"["::/0"]"#, false),
        ("0.0.0.0:9903", r#"["10.0.0.0/8", "192.0.2.1", "fd00::/8"]"#, false),
        ("0.0.0.0:9903", r#"["0.0.0.0/0"]"#, true),
        ("0.0.0.0:9903", r#"["10.0.0.0/8", "::/0"]"#, true),
        ("192.0.2.1:9903", r#"["128.0.0.0/1"]"#, true),
    ] {
        let settings = Settings::of(Namespace::before("http://127.0.0.1:8000")).toml();
        let text =
            format!("{settings}\n[forward_auth]\nlisten = \"{listen}\"\ntrusted_peers = {peers}\n");
        let read = faregate::settings::Settings::from_text(&text, Path::new("faregate.toml"));
        let warnings = read.unwrap().warnings;
        assert_eq!(!warnings.is_empty(), warns, "{listen} {peers}: {warnings:?}");
        if let [warning] = &warnings[..] {
            assert_eq!(
                text.lines().nth(warning.line.unwrap() - 1).unwrap().find("trusted"),
                Some(0)
            );
        }
    }
}
