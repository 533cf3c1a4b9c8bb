//! The rig of every test here: raw bytes in, the real gate, and behind it a plain TCP server that keeps the exact
//! bytes it received. No HTTP library stands at either end, because one would hide what these tests look for.

pub(crate) mod certificates;
pub(crate) mod gate;
pub(crate) mod h2c_server;
pub(crate) mod http1;
pub(crate) mod http2;
pub(crate) mod leaks;
pub(crate) mod metrics;
pub(crate) mod model_server;
pub(crate) mod rig;
pub(crate) mod tokens;
pub(crate) mod transport;

use std::time::Duration;

/// How long anything may take before a test gives up: far more than a busy machine needs, so that it only ever ends
/// what hangs. Nothing is asserted about time.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Asks again and again until there is an answer.
///
/// For what announces itself nowhere, like a metric that changes; what announces itself is awaited.
pub(crate) fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = std::time::Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(std::time::Instant::now() < deadline, "it never came to pass that {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
