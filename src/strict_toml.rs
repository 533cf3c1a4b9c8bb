//! Strict reading of TOML: every value with its line, every key known, every problem told at once.
//!
//! [`read`] parses a text and hands its root [`Table`] to a reader, which asks for keys by name;
//! what nobody asked for is unknown and a problem. [`read_token_file`] is the reader of token
//! files, [`judge_token_file`] reads one and judges it in one go.
//!
//! No message quotes a value or a line of the file: any of them may hold a secret that somebody
//! put into the wrong place.

mod place;
mod report;
mod syntax;
mod table;
mod token_file;
mod wording;

use toml::de::DeTable;

use crate::policy::Problems;
use report::Report;

pub use place::{Complaint, Kind};
pub use table::Table;
pub use token_file::{judge_token_file, read_token_file};
pub use wording::{closest, plain_name};

/// What a reader made of a text, and all that is wrong with the text.
#[derive(Debug)]
pub struct Reading<T> {
    /// What the reader made of it; worth something only when nothing is wrong.
    pub value: T,
    /// Syntax errors, duplicate and unknown keys, wrong types, and what the reader itself found.
    pub problems: Problems,
    /// Whether the text is no TOML at all, so that a part of it could not be read.
    pub is_broken: bool,
}

/// Reads a text with a reader of its root table.
///
/// After a syntax error nothing is sure: of what the reader finds, only what stands on the lines
/// before it is told, and never that something is missing.
pub fn read<T>(text: &str, reader: impl FnOnce(&mut Table<'_>) -> T) -> Reading<T> {
    read_piece(text, 1, reader)
}

/// Reads a text that starts at a line of a longer one.
fn read_piece<T>(
    text: &str,
    first_line: usize,
    reader: impl FnOnce(&mut Table<'_>) -> T,
) -> Reading<T> {
    let (root, errors) = DeTable::parse_recoverable(text);
    let report = Report::new(text, first_line);
    let first_broken_line = syntax::tell(&errors, &report);
    let mut table = Table::root(root.get_ref(), &report);
    let value = reader(&mut table);
    table.finish();
    Reading {
        value,
        problems: report.into_problems(first_broken_line),
        is_broken: first_broken_line.is_some(),
    }
}
