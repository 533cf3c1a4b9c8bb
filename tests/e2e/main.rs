//! The gate as its users meet it: the real binary, real clients and real model servers, each a
//! process of its own, on loopback ports the operating system chose.
//!
//! `make test` installs what these tests drive (MLServer, `tritonclient`, LitServe, `openai`,
//! `anthropic`, grpcio, `websockets`, uvicorn, curl, `nghttp`, `h2load`, strace, promtool, Chromium)
//! and runs them. No test waits for a time to pass: each waits for a line a process prints, for an
//! answer, or for a process to end. Those that disturb changes of the token file at random go on for
//! some seconds.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test stops at the first thing that is wrong"
)]

mod admin_gate;
mod certificates;
mod curl;
mod gate;
mod http_connection;
mod process;
mod python;
mod recording_relay;
mod strace;
mod token_file;

mod alert_rules;
mod crash;
mod demo;
mod failing_disk;
mod gate_failures;
mod gateways;
mod grpc;
mod hand_edits;
mod http_clients;
mod image_rules;
mod kserve_grpc;
mod mlserver;
mod openai_clients;
mod openapi;
mod serving_grpc;
mod serving_rest;
mod streaming;
mod tls;
mod token_page;
mod websocket;
mod writers;
