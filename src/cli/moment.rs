use std::time::{SystemTime, UNIX_EPOCH};

use super::output::Failure;
use crate::policy::Moment;
use crate::policy::amend::Entropy;
use crate::settings::{parse_duration, parse_rfc3339};

/// The moment by the system's clock.
pub(super) fn now() -> Result<Moment, Failure> {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).ok();
    let seconds = since.and_then(|since| i64::try_from(since.as_secs()).ok());
    seconds.map(Moment).ok_or_else(|| {
        Failure::message("the system's clock stands before 1970; set it, then try again")
    })
}

/// Reads a moment as it is written in files; for the parser of the command line.
pub(super) fn parsed(text: &str) -> Result<Moment, String> {
    parse_rfc3339(text).map_err(|error| error.to_string())
}

/// Reads a span of time, in whole seconds; for the parser of the command line.
pub(super) fn parsed_seconds(text: &str) -> Result<i64, String> {
    let span = parse_duration(text).map_err(|error| error.to_string())?;
    if span.subsec_nanos() != 0 {
        return Err("write whole seconds".into());
    }
    i64::try_from(span.as_secs()).map_err(|_| "that is too long".into())
}

/// Random bytes from the operating system, for one change.
pub(super) fn entropy() -> Result<Entropy, Failure> {
    let mut entropy = Entropy { secret: [0; _], id: [0; _] };
    for bytes in [entropy.secret.as_mut_slice(), entropy.id.as_mut_slice()] {
        getrandom::fill(bytes).map_err(|error| {
            Failure::Message(format!(
                "the system gave no random bytes, so nothing was made: {error}"
            ))
        })?;
    }
    Ok(entropy)
}
