//! What the gate tells of itself: metrics, usage of tokens, logs.

pub mod audit;
pub mod exposition;
pub mod logging;
pub mod metrics;
pub mod usage;
pub mod usage_file;
