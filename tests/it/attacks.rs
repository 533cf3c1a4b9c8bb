//! Attacks that once worked, or nearly: each was made against a running gate, and none may work again.
//!
//! What is asserted is what a peer sees on its own connection and what the gate says of itself. Nothing is
//! asserted about time: a deadline that matters is set short and its effect awaited.

mod messages;
mod names;
mod rights;
mod stalled;

use crate::support::eventually;
use crate::support::h2c_server::H2cServer;
use crate::support::http2::Http2;
use crate::support::model_server::ModelServer;
use crate::support::rig::Rig;
use crate::support::tokens::{self, secret};
use crate::support::transport::Connection;

/// The standard gate, before a server that speaks HTTP/2.
fn rig_before(server: &H2cServer, limits: &str, upstream: &str) -> Rig {
    Rig::with(ModelServer::canned(), |settings| {
        settings.limits = limits.into();
        settings.namespaces[0].endpoints = vec![format!("h2c://{}", server.address)];
        settings.namespaces[0].upstream = upstream.into();
    })
}

fn connect(rig: &Rig) -> Http2 {
    Http2::client(Connection::to(rig.gate.data), rig.heard())
}

/// Opens a stream with a request.
fn start(http2: &mut Http2, method: &str, path: &str, token: Option<&str>, is_whole: bool) -> u32 {
    let bearer = token.map(|id| format!("Bearer {}", secret(id)));
    let mut head: Vec<(&str, &[u8])> = vec![
        (":method", method.as_bytes()),
        (":scheme", b"http"),
        (":authority", b"models.test"),
        (":path", path.as_bytes()),
    ];
    if let Some(bearer) = &bearer {
        head.push(("authorization", bearer.as_bytes()));
    }
    http2.start(&head, is_whole)
}

fn get(http2: &mut Http2, path: &str, token: Option<&str>) -> u32 {
    start(http2, "GET", path, token, true)
}

fn in_flight(rig: &Rig) -> f64 {
    rig.gate.metric("faregate_requests_in_flight", &[])
}

/// Waits until so many requests are under way.
fn wait_for_flights(rig: &Rig, count: u32) {
    eventually(&format!("{count} requests are in flight"), || {
        (in_flight(rig) == f64::from(count)).then_some(())
    });
}

/// Puts this token file in force.
fn replace_tokens(rig: &Rig, file: &str) {
    rig.gate.folder.replace("tokens.toml", file);
    rig.gate.wait_for_policy("default", file);
}

/// Takes the token `eval` away.
fn revoke_eval(rig: &Rig) {
    let others: Vec<_> =
        tokens::STANDARD.iter().copied().filter(|token| token.id != "eval").collect();
    replace_tokens(rig, &tokens::file(&others));
}
