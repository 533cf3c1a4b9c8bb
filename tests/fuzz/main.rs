//! Hostile input for the readers of what clients and people write: `make fuzz`.
//!
//! Each target has a folder of inputs in `tests/fuzz/corpus`, which are tried first, then damaged
//! at random for `FUZZ_SECONDS` (2 by default). `FUZZ_SEED` repeats a run as far as its time allows.
//! An input on which a target panics is made shorter and written to `target/fuzz-failures`; put into
//! the corpus, it is tried ever after.
//!
//! The damage knows the words of each format, and inputs that are accepted are damaged further. It
//! does not know which code was reached, as fuzzers with an instrumented compiler do: those want a
//! nightly toolchain.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a test stops at the first thing that is wrong, and tells how much was tried"
)]

#[path = "../it/inspect/agreement.rs"]
#[allow(dead_code, reason = "shared with tests that need more of it")]
mod agreement;
mod damage;
mod run;
mod targets;

use run::Target;

#[test]
fn json_scan() {
    Target::new("json_scan", targets::JSON_WORDS, targets::json_scan).run();
}

#[test]
fn multipart_scan() {
    Target::new("multipart_scan", targets::MULTIPART_WORDS, targets::multipart_scan).run();
}

#[test]
fn urlencoded_scan() {
    Target::new("urlencoded_scan", targets::URLENCODED_WORDS, targets::urlencoded_scan).run();
}

#[test]
fn grpc_scan() {
    Target::new("grpc_scan", targets::GRPC_WORDS, targets::grpc_scan).run();
}

#[test]
fn request_path() {
    Target::new("request_path", targets::PATH_WORDS, targets::request_path).run();
}

#[test]
fn credential() {
    Target::new("credential", targets::CREDENTIAL_WORDS, targets::credential).run();
}

#[test]
fn token_file() {
    Target::new("token_file", targets::TOKEN_FILE_WORDS, targets::token_file).run();
}

/// What finds a defect is no good if it does not tell: a target that panics fails, and leaves a short
/// input behind.
#[test]
fn a_failure_is_found_and_made_short() {
    let folder = tempfile::tempdir().unwrap();
    let told = run::quietly(|| {
        Target::new("request_path", &[b"needle"], |input, _| {
            assert!(!input.windows(6).any(|six| six == b"needle"), "found");
            input.starts_with(b"//")
        })
        .with_failures_in(folder.path())
        .run();
    });
    assert!(told.unwrap_err().contains("found"));
    let files: Vec<_> = std::fs::read_dir(folder.path()).unwrap().collect();
    let [Ok(file)] = &files[..] else { panic!("{files:?}") };
    assert_eq!(std::fs::read(file.path()).unwrap(), b"needle");
}
