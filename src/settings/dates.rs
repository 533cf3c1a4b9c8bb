//! Dates as people and programs write them: RFC 3339.

use jiff::Timestamp;

use crate::policy::Moment;

/// The first second of the year 1: RFC 3339 and TOML have years of four digits.
const FIRST_DATE: Moment = Moment(-62_135_596_800);

/// The last second that can be written in every time zone: 9999-12-30T22:00:00Z.
pub const LAST_DATE: Moment = Moment(253_402_207_200);

/// A text that is no date.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a date: write a date, a time and a zone, such as 2027-11-23T10:00:00Z")]
pub struct DateError;

/// A moment as text, in UTC: `2027-11-23T10:00:00Z`.
#[must_use]
pub fn rfc3339(moment: Moment) -> String {
    Timestamp::from_second(moment.0).map_or_else(|_| "(no date)".into(), |time| time.to_string())
}

/// Reads a date, a time and a zone (RFC 3339, section 5.6). Parts of a second are cut off.
///
/// # Errors
/// When it is none, or is before the year 1 or after [`LAST_DATE`].
pub fn parse_rfc3339(text: &str) -> Result<Moment, DateError> {
    // jiff reads more than RFC 3339 has, such as `20271123T10Z` and names of zones.
    let has_form = text.len() >= "2027-11-23T10:00:00Z".len()
        && text.bytes().zip(*b"dddd-dd-dd?dd:dd:dd").all(|(byte, form)| match form {
            b'd' => byte.is_ascii_digit(),
            b'?' => matches!(byte, b'T' | b't' | b' '),
            form => byte == form,
        })
        && !text.contains('[');
    let time: Timestamp = text.parse().map_err(|_| DateError)?;
    let moment = Moment(time.as_second());
    if has_form && (FIRST_DATE..=LAST_DATE).contains(&moment) { Ok(moment) } else { Err(DateError) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_read_as_they_are_written() {
        for (text, expected) in [
            ("1970-01-01T00:00:00Z", Some(0)),
            ("2027-11-23T10:00:00Z", Some(1_826_964_000)),
            ("2027-11-23T11:00:00+01:00", Some(1_826_964_000)),
            ("2027-11-23t10:00:00.999z", Some(1_826_964_000)),
            ("9999-12-30T22:00:00Z", Some(253_402_207_200)),
            ("9999-12-31T23:59:59Z", None),
            ("2027-11-23T10:00:00", None),
            ("2027-11-23", None),
            ("20271123T100000Z", None),
            ("2027-11-23T10:00:00+01:00[Europe/Paris]", None),
            ("+010000-01-01T00:00:00Z", None),
            ("2027-13-23T10:00:00Z", None),
            ("tomorrow", None),
            ("", None),
        ] {
            assert_eq!(parse_rfc3339(text).ok(), expected.map(Moment), "{text}");
            if let Some(seconds) = expected {
                assert_eq!(parse_rfc3339(&rfc3339(Moment(seconds))), Ok(Moment(seconds)));
            }
        }
    }
}
