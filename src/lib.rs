//! Faregate: the gate that people put in front of their model servers.
//!
//! The modules stand in layer order; each may use those above it in this list, never one below:
//! the law (`token`, `policy`), then strangers to each other (`strict_toml` and `store`, `wire`,
//! `telemetry`), then `live`, then the planes, then the assembly.

// Tests say with `unwrap` what they rely on; nothing else may.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod token;

pub mod policy;

pub mod strict_toml;

pub mod settings;
pub mod store;
