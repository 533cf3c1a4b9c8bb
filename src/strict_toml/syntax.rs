use std::ops::Range;

use toml::de::Error;

use super::report::{About, Report};
use super::wording::plain_name;

/// After so many broken lines, more of them help nobody.
const MOST_BROKEN_LINES: usize = 20;

/// Tells the errors of the parser, the first of each line; answers the first line that is broken.
///
/// A key that stands twice leaves the rest of the file readable, so it does not count as broken.
pub(super) fn tell(errors: &[Error], report: &Report<'_>) -> Option<usize> {
    let mut broken_lines: Vec<usize> = Vec::new();
    for error in errors {
        let span = error.span().unwrap_or(0..0);
        let line = report.line(span.start);
        if error.message() == "duplicate key" {
            tell_duplicate(span, line, report);
            continue;
        }
        if broken_lines.contains(&line) {
            continue;
        }
        if broken_lines.len() == MOST_BROKEN_LINES {
            report.tell(
                About::Syntax,
                Some(line),
                "more lines from here on are no TOML",
                "mend those above first",
            );
            break;
        }
        broken_lines.push(line);
        let is_without_quotes = error.message().starts_with("string values must be quoted");
        let (what, remedy) = match report.text.get(span).map(str::trim) {
            Some("") if is_without_quotes => ("a value is missing", "write a value after the `=`"),
            _ if is_without_quotes => ("the value is no number, no date, and not in quotes", QUOTE),
            _ => (error.message(), remedy(error.message())),
        };
        report.tell(About::Syntax, Some(line), format!("this is no TOML: {what}"), remedy);
    }
    broken_lines.into_iter().min()
}

fn tell_duplicate(span: Range<usize>, line: usize, report: &Report<'_>) {
    let is_table = report.text.get(..span.start).is_some_and(|before| before.ends_with('['));
    let what = match report.text.get(span).and_then(plain_name) {
        Some(name) => format!("`{name}` stands twice"),
        None => "a key stands twice".into(),
    };
    let remedy = if is_table {
        "keep one of the tables; each table of a list has its name in `[[…]]`"
    } else {
        "keep one of the two"
    };
    report.tell(About::Presence, Some(line), what, remedy);
}

const QUOTE: &str = "write `true`, `false`, a number, a date, or a string in double quotes";

fn remedy(message: &str) -> &'static str {
    const ESCAPE: &str = "write `\\\\` for a backslash, or the string in single quotes";
    // The parser has no codes for its messages; one that it words anew gets the last remedy.
    let remedies = [
        ("boolean", QUOTE),
        ("unicode", ESCAPE),
        ("escape", ESCAPE),
        (
            "invalid basic string",
            "close the string with `\"`, and write `\\\\` for a backslash in it",
        ),
        ("string", "close the string with the quote that opened it"),
        ("unclosed array table", "close the table's name with `]]`"),
        ("unclosed table", "close the table's name with `]`"),
        ("unclosed array", "close the list with `]`"),
        ("unclosed inline table", "close the table with `}`"),
        ("comma", "put one comma between two entries of a list or table"),
        ("missing value", "write a value after the `=`"),
        ("key with no value", "write `key = value`, and `#` before a comment"),
        ("assignment", "write one `key = value` a line"),
        ("unquoted key", "a key is of A-Z a-z 0-9 _ - or stands in double quotes"),
        ("leading zero", "write the number without zeros before it"),
        ("carriage return", "end lines with a line feed"),
        ("date", "write a date as 2027-11-23T10:00:00Z"),
        ("year", "write a date as 2027-11-23T10:00:00Z"),
        ("month", "write a date as 2027-11-23T10:00:00Z"),
        ("day", "write a date as 2027-11-23T10:00:00Z"),
        ("hour", "write a date as 2027-11-23T10:00:00Z"),
        ("minute", "write a date as 2027-11-23T10:00:00Z"),
        ("second", "write a date as 2027-11-23T10:00:00Z"),
        ("recurs", "nest fewer lists and tables"),
        ("cannot extend value", "give the table a name that is not the name of a value"),
    ];
    remedies.iter().find(|(part, _)| message.contains(part)).map_or(
        "write one `key = value`, one `[table]` or one `# comment` a line",
        |(_, remedy)| remedy,
    )
}
