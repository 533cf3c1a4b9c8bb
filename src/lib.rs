//! Faregate: the gate that people put in front of their model servers.
//!
//! The modules stand in layer order; each may use those above it in this list, never one below.
//! Modules of one block are strangers to each other, but for those of the assembly.

// Tests say with `unwrap` what they rely on; nothing else may.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

// The law.
pub mod token;

pub mod policy;

// What files say.
pub mod strict_toml;

pub mod settings;

// The parts of the machine.
pub mod store;
pub mod telemetry;
pub mod upstream;
pub mod wire;

// The only bridge between what is kept and what is served.
pub mod live;

// The planes.
pub mod admin;
pub mod forward_auth;
pub mod proxy;

// The assembly.
pub mod app;
pub mod cli;
pub mod demo;
pub mod server;
