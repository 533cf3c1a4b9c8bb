//! The gate as its users meet it: the real binary, real clients and real model servers, each a
//! process of its own, on loopback ports the operating system chose.
//!
//! `make test` installs what these tests drive (MLServer, `tritonclient`, grpcio, `websockets`,
//! uvicorn, curl, `nghttp`, `h2load`, promtool) and runs them. No test waits for a time to pass:
//! each waits for a line a process prints, for an answer, or for a process to end.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test stops at the first thing that is wrong"
)]

mod certificates;
mod curl;
mod gate;
mod process;
mod python;
mod recording_relay;

mod alert_rules;
mod demo;
mod grpc;
mod http_clients;
mod image_rules;
mod mlserver;
mod streaming;
mod tls;
mod websocket;
