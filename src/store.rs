//! Where token files are kept.

pub mod file;
