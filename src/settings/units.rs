use std::time::Duration;

use crate::strict_toml::Complaint;

/// Why a text is no duration or size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UnitError {
    /// Not a number and a unit of time.
    #[error(
        "not a duration: write a whole number and one of ms, s, m, h, d, such as \"250ms\" or \"90d\""
    )]
    Duration,
    /// Not a number and a unit of size.
    #[error(
        "not a size: write a whole number and one of B, KiB, MiB, GiB, such as \"64KiB\" or \"8MiB\""
    )]
    Size,
}

impl From<UnitError> for Complaint {
    fn from(error: UnitError) -> Self {
        match error {
            UnitError::Duration => Self::new(
                "is no duration",
                "write a whole number and one of ms, s, m, h, d, such as \"250ms\", \"10s\" or \"90d\"",
            ),
            UnitError::Size => Self::new(
                "is no size",
                "write a whole number and one of B, KiB, MiB, GiB, such as \"64KiB\" or \"8MiB\"",
            ),
        }
    }
}

/// No duration is longer than 100 years, so that adding one to a clock is always possible.
const LONGEST: Duration = Duration::from_secs(100 * 365 * 86_400);

/// Reads a duration: `250ms`, `10s`, `5m`, `2h`, `90d`. A day has 24 hours.
///
/// # Errors
/// When it is not a whole number with a unit, or longer than 100 years.
pub fn parse_duration(text: &str) -> Result<Duration, UnitError> {
    let (number, unit) = number_and_unit(text).ok_or(UnitError::Duration)?;
    let seconds_each = match unit {
        "ms" => 0,
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        _ => return Err(UnitError::Duration),
    };
    let duration = if unit == "ms" {
        Some(Duration::from_millis(number))
    } else {
        number.checked_mul(seconds_each).map(Duration::from_secs)
    };
    duration.filter(|duration| *duration <= LONGEST).ok_or(UnitError::Duration)
}

/// Reads a size: `512B`, `64KiB`, `8MiB`, `1GiB`; in bytes.
///
/// # Errors
/// When it is not a whole number with a unit, or more bytes than can be counted.
pub fn parse_size(text: &str) -> Result<u64, UnitError> {
    let (number, unit) = number_and_unit(text).ok_or(UnitError::Size)?;
    let bytes_each: u64 = match unit {
        "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return Err(UnitError::Size),
    };
    number.checked_mul(bytes_each).ok_or(UnitError::Size)
}

/// A duration as [`parse_duration`] reads it, in the largest unit that keeps it whole.
#[must_use]
pub fn duration_text(duration: Duration) -> String {
    let (seconds, millis) = (duration.as_secs(), duration.subsec_millis());
    if millis > 0 {
        return format!("{}ms", duration.as_millis());
    }
    for (each, unit) in [(86_400, "d"), (3_600, "h"), (60, "m")] {
        if seconds > 0 && seconds.is_multiple_of(each) {
            return format!("{}{unit}", seconds / each);
        }
    }
    format!("{seconds}s")
}

/// A size as [`parse_size`] reads it, in the largest unit that keeps it whole.
#[must_use]
pub fn size_text(bytes: u64) -> String {
    for (each, unit) in [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")] {
        if bytes > 0 && bytes.is_multiple_of(each) {
            return format!("{}{unit}", bytes / each);
        }
    }
    format!("{bytes}B")
}

fn number_and_unit(text: &str) -> Option<(u64, &str)> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    // `parse` fails for no digit at all and for more than fit.
    Some((number.parse().ok()?, unit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_a_unit() {
        for (text, millis) in [
            ("0s", Some(0)),
            ("250ms", Some(250)),
            ("10s", Some(10_000)),
            ("5m", Some(300_000)),
            ("2h", Some(7_200_000)),
            ("90d", Some(7_776_000_000)),
            ("36500d", Some(3_153_600_000_000)),
            ("36501d", None),
            ("", None),
            ("10", None),
            ("s", None),
            ("-1s", None),
            ("+1s", None),
            ("1.5s", None),
            ("10 s", None),
            (" 10s", None),
            ("10s ", None),
            ("10S", None),
            ("10sec", None),
            ("1h30m", None),
            ("١s", None),
            ("99999999999999999999s", None),
            ("18446744073709551615d", None),
            ("18446744073709551615ms", None),
        ] {
            let expected = millis.map(Duration::from_millis).ok_or(UnitError::Duration);
            assert_eq!(parse_duration(text), expected, "{text}");
        }
    }

    #[test]
    fn sizes_have_a_unit() {
        for (text, bytes) in [
            ("0B", Some(0)),
            ("512B", Some(512)),
            ("64KiB", Some(65_536)),
            ("8MiB", Some(8_388_608)),
            ("1GiB", Some(1_073_741_824)),
            ("", None),
            ("64", None),
            ("64KB", None),
            ("64kib", None),
            ("64K", None),
            ("1.5MiB", None),
            ("64 KiB", None),
            ("17179869184GiB", None),
        ] {
            assert_eq!(parse_size(text), bytes.ok_or(UnitError::Size), "{text}");
        }
    }

    #[test]
    fn what_is_written_is_read_again() {
        for text in ["0s", "250ms", "1500ms", "10s", "90s", "5m", "2h", "90d"] {
            assert_eq!(duration_text(parse_duration(text).unwrap()), text);
        }
        for text in ["0B", "512B", "64KiB", "8MiB", "1GiB", "1025B"] {
            assert_eq!(size_text(parse_size(text).unwrap()), text);
        }
    }
}
