//! Values that many tables have: durations, sizes, numbers, choices and paths.

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::policy::Problem;
use crate::strict_toml::{Complaint, Table};

use super::units::{duration_text, parse_duration, parse_size, size_text};

/// What the reading of every table needs, and the warnings it leaves.
pub(super) struct Context<'f> {
    /// The file itself.
    pub(super) file: &'f Path,
    /// Where the file stands; its paths start there.
    pub(super) folder: &'f Path,
    pub(super) warnings: Vec<Problem>,
}

impl Context<'_> {
    /// Warns about a line; 0 is the file as a whole.
    pub(super) fn warn(&mut self, line: usize, what: &str, remedy: &str) {
        let line = (line > 0).then_some(line);
        self.warnings.push(Problem { line, what: what.into(), remedy: remedy.into() });
    }

    /// Takes the path of a file.
    pub(super) fn path(&self, table: &mut Table<'_>, name: &'static str) -> Option<PathBuf> {
        let path = table.parsed(name, "path/to/file", |text| {
            if text.is_empty() || text.contains('\0') {
                return Err(Complaint::new("is no path of a file", "write the path of a file"));
            }
            Ok(self.folder.join(text))
        });
        path.map(|path| path.value)
    }
}

/// Takes a duration within limits.
pub(super) fn duration(
    table: &mut Table<'_>,
    name: &'static str,
    default: Duration,
    range: RangeInclusive<Duration>,
) -> Duration {
    let example = duration_text(default);
    let given = table.parsed(name, &example, |text| {
        let duration = parse_duration(text)?;
        if range.contains(&duration) {
            return Ok(duration);
        }
        let (least, most) = (duration_text(*range.start()), duration_text(*range.end()));
        Err(Complaint::new(
            "is out of range",
            format!("write a duration from \"{least}\" to \"{most}\""),
        ))
    });
    given.map_or(default, |given| given.value)
}

/// Takes a size within limits, in bytes.
pub(super) fn size(
    table: &mut Table<'_>,
    name: &'static str,
    default: usize,
    range: RangeInclusive<u64>,
) -> usize {
    let example = size_text(default as u64);
    let given = table.parsed(name, &example, |text| {
        let bytes = parse_size(text)?;
        match usize::try_from(bytes) {
            Ok(size) if range.contains(&bytes) => Ok(size),
            _ => {
                let (least, most) = (size_text(*range.start()), size_text(*range.end()));
                Err(Complaint::new(
                    "is out of range",
                    format!("write a size from \"{least}\" to \"{most}\""),
                ))
            }
        }
    });
    given.map_or(default, |given| given.value)
}

/// Takes a whole number within limits.
pub(super) fn number<N: TryFrom<u64>>(
    table: &mut Table<'_>,
    name: &'static str,
    default: N,
    range: RangeInclusive<u64>,
) -> N {
    let given = table.integer(name, range);
    given.and_then(|given| N::try_from(given.value).ok()).unwrap_or(default)
}

/// Takes one of a few words.
pub(super) fn choice<T: Copy>(
    table: &mut Table<'_>,
    name: &'static str,
    default: T,
    choices: &[(&str, T)],
) -> T {
    let words: Vec<String> = choices.iter().map(|(word, _)| format!("\"{word}\"")).collect();
    let example = choices.first().map_or("", |(word, _)| word);
    let given = table.parsed(name, example, |text| {
        let choice = choices.iter().find(|(word, _)| *word == text);
        choice.map(|(_, choice)| *choice).ok_or_else(|| {
            let remedy = format!("write one of {}", words.join(", "));
            Complaint::new("is not a word that is known here", remedy)
        })
    });
    given.map_or(default, |given| given.value)
}
