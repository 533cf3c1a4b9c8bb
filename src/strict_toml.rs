//! Strict reading of TOML.
