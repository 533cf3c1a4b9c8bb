//! What the gate tells of itself: metrics, usage of tokens, logs.

pub mod exposition;
pub mod logging;
pub mod metrics;
pub mod usage;
