//! The gate as it is met on the wire.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test stops at the first thing that is wrong"
)]

mod credential;
mod framing;
mod golden;
mod headers;
mod journey;
mod namespaces;
mod paths;
mod reload;
mod support;
mod targets;
mod upgrade;
mod upstream;
