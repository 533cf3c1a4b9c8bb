//! The law, asked thousands of questions that nobody wrote down.
//!
//! Policies and requests are generated from small stocks of names, so that they meet often. A run
//! is repeatable: the seed is fixed, and what fails is shrunk and shown. `PROPTEST_CASES` and
//! `PROPTEST_RNG_SEED` ask for more questions, or for others.

mod bodies;
mod hostile_input;
mod matrix;
mod one_spelling;
mod order;
mod plain_rule;
mod profiles;
mod readers;
mod secrets_in_time;
mod shrinking_rights;
mod size;
mod world;

use proptest::test_runner::{Config, RngSeed};

/// How a property is run: `cases` generated inputs, unless the environment says otherwise.
fn cases(cases: u32) -> Config {
    let mut config = Config { failure_persistence: None, ..Config::default() };
    if std::env::var_os("PROPTEST_CASES").is_none() {
        config.cases = cases;
    }
    if std::env::var_os("PROPTEST_RNG_SEED").is_none() {
        config.rng_seed = RngSeed::Fixed(20_261_123);
    }
    config
}
