//! The gate as it is met on the wire.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test stops at the first thing that is wrong"
)]

mod admin;
mod attacks;
mod bodies;
mod cli;
mod credential;
mod deadlines;
mod docs;
mod drain;
mod forward_auth;
mod framing;
mod golden;
mod headers;
mod http2;
mod inspect;
mod journey;
mod law;
mod layers;
mod limits;
mod namespaces;
mod ops;
mod paths;
mod reload;
mod settings_files;
mod startup;
mod store_file;
mod support;
mod targets;
mod tls;
mod upgrade;
mod upstream;
mod usage_kept;
