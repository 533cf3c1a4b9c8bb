use std::fmt::Display;
use std::io::{self, IsTerminal as _, Write as _};
use std::process::ExitCode;

use clap::builder::styling::{AnsiColor, Style};
use serde::Serialize;

use crate::store::StoreError;
use crate::token::{Secret, redact};

/// What a command comes to.
pub(super) type Outcome = Result<ExitCode, Failure>;

/// Why a command could not do what it should.
#[derive(Debug)]
pub(super) enum Failure {
    /// Told with exit code 1.
    Message(String),
    /// Told with exit code 2.
    Usage(String),
    /// The reader of standard output went away, as `head` does.
    PipeClosed,
}

impl Failure {
    pub(super) fn message(message: impl Display) -> Self {
        Self::Message(message.to_string())
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::message(error)
    }
}

impl From<crate::settings::FileProblems> for Failure {
    fn from(problems: crate::settings::FileProblems) -> Self {
        Self::message(problems)
    }
}

/// Writes a text to standard output, to the last byte.
pub(super) fn print(text: &str) -> Result<(), Failure> {
    print_bytes(text.as_bytes())
}

pub(super) fn print_bytes(bytes: &[u8]) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    out.write_all(bytes).and_then(|()| out.flush()).map_err(|error| match error.kind() {
        io::ErrorKind::BrokenPipe => Failure::PipeClosed,
        _ => Failure::Message(format!("standard output cannot be written: {error}")),
    })
}

/// Writes a value to standard output as JSON.
pub(super) fn print_json(value: &impl Serialize) -> Result<(), Failure> {
    let mut text = serde_json::to_string_pretty(value).map_err(Failure::message)?;
    text.push('\n');
    print(&text)
}

/// Writes a secret alone to standard output: the one time it is shown. `what` is made already and
/// `remedy` is what helps if nobody could read its secret.
pub(super) fn print_secret(secret: Secret, what: &str, remedy: &str) -> Result<(), Failure> {
    let text = secret.reveal();
    let mut out = io::stdout().lock();
    let written = writeln!(out, "{}", text.as_str()).and_then(|()| out.flush());
    written.map_err(|error| not_shown(what, remedy, &error))
}

/// As [`print_secret`], for a secret within JSON.
pub(super) fn print_json_with_secret(
    value: &impl Serialize,
    what: &str,
    remedy: &str,
) -> Result<(), Failure> {
    print_json(value).map_err(|failure| match failure {
        Failure::PipeClosed => not_shown(what, remedy, &io::ErrorKind::BrokenPipe.into()),
        Failure::Message(message) => Failure::Message(format!("{message}; {remedy}")),
        usage @ Failure::Usage(_) => usage,
    })
}

fn not_shown(what: &str, remedy: &str, error: &io::Error) -> Failure {
    Failure::Message(format!("{what}, but its secret could not be shown: {error}; {remedy}"))
}

/// Tells something beside the result, on standard error.
pub(super) fn note(text: &str) {
    note_raw(&format!("{}\n", redact(text)));
}

/// Tells what may go wrong later, on standard error.
pub(super) fn warning(text: &str) {
    label("warning", AnsiColor::Yellow, text);
}

/// Tells what went wrong, on standard error.
pub(super) fn error(text: &str) {
    label("error", AnsiColor::Red, text);
}

fn label(label: &str, colour: AnsiColor, text: &str) {
    let style = Style::new().bold().fg_color(Some(colour.into()));
    let label = painted(label, Some(style), stderr_has_colour());
    note_raw(&format!("{label}: {}\n", redact(text)));
}

pub(super) fn note_raw(text: &str) {
    // When standard error is closed, the exit code must do.
    let _ = io::stderr().lock().write_all(text.as_bytes());
}

pub(super) fn stderr_has_colour() -> bool {
    io::stderr().is_terminal() && wants_colour()
}

pub(super) fn stdout_has_colour() -> bool {
    io::stdout().is_terminal() && wants_colour()
}

fn wants_colour() -> bool {
    let is_set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    !is_set("NO_COLOR") && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

fn painted(text: &str, style: Option<Style>, colour: bool) -> String {
    match style {
        Some(style) if colour => format!("{style}{text}{style:#}"),
        _ => text.into(),
    }
}

/// Rows under a heading, in columns.
pub(super) struct Table {
    rows: Vec<Vec<Cell>>,
}

/// A text in a table.
pub(super) struct Cell {
    text: String,
    style: Option<Style>,
}

impl Cell {
    pub(super) fn plain(text: impl Into<String>) -> Self {
        Self { text: visible(&text.into()), style: None }
    }

    pub(super) fn good(text: impl Into<String>) -> Self {
        Self::coloured(text, AnsiColor::Green)
    }

    pub(super) fn bad(text: impl Into<String>) -> Self {
        Self::coloured(text, AnsiColor::Red)
    }

    pub(super) fn faint(text: impl Into<String>) -> Self {
        Self { style: Some(Style::new().dimmed()), ..Self::plain(text) }
    }

    pub(super) fn heading(text: impl Into<String>) -> Self {
        Self { style: Some(Style::new().bold()), ..Self::plain(text) }
    }

    fn coloured(text: impl Into<String>, colour: AnsiColor) -> Self {
        Self { style: Some(Style::new().fg_color(Some(colour.into()))), ..Self::plain(text) }
    }

    fn width(&self) -> usize {
        self.text.chars().count()
    }
}

/// Characters that would act on a terminal, written out. Files are checked for control characters
/// before they are shown; those that turn the direction of the text around are none.
fn visible(text: &str) -> String {
    let acts = |c: char| {
        c.is_control()
            || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
    };
    if !text.contains(acts) {
        return text.into();
    }
    text.chars()
        .map(|c| if acts(c) { c.escape_unicode().to_string() } else { c.to_string() })
        .collect()
}

impl Table {
    /// A table with a heading.
    pub(super) fn new(heading: &[&str]) -> Self {
        Self { rows: vec![heading.iter().map(|text| Cell::heading(*text)).collect()] }
    }

    /// A table without one.
    pub(super) fn bare() -> Self {
        Self { rows: Vec::new() }
    }

    pub(super) fn row(&mut self, cells: Vec<Cell>) {
        self.rows.push(cells);
    }

    /// The table as lines, for standard output.
    pub(super) fn text(&self) -> String {
        self.rendered(stdout_has_colour())
    }

    fn rendered(&self, colour: bool) -> String {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| {
            self.rows.iter().filter_map(|row| row.get(column)).map(Cell::width).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let mut text = String::new();
        for row in &self.rows {
            let mut gap = 0;
            for (cell, width) in row.iter().zip(&widths) {
                text.extend(std::iter::repeat_n(' ', gap));
                text.push_str(&painted(&cell.text, cell.style, colour));
                // Spaces stand before what follows, so that no line ends with some.
                gap = width - cell.width() + 2;
            }
            while text.ends_with(' ') {
                text.pop();
            }
            text.push('\n');
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_stand_below_each_other_and_colour_does_not_move_them() {
        let mut table = Table::new(&["ID", "STATE", "NAME"]);
        table.row(vec![Cell::plain("a"), Cell::good("active"), Cell::plain("é")]);
        table.row(vec![Cell::plain("long-id"), Cell::bad("expired"), Cell::plain("")]);
        assert_eq!(
            table.rendered(false),
            "ID       STATE    NAME\na        active   é\nlong-id  expired\n"
        );
        let plain: String = table.rendered(true).split('\u{1b}').enumerate().fold(
            String::new(),
            |text, (number, part)| {
                // After each escape stands its code up to `m`.
                text + if number == 0 { part } else { part.split_once('m').unwrap().1 }
            },
        );
        assert_eq!(plain.replace(" \n", "\n"), table.rendered(false));
        assert!(table.rendered(true).contains("\u{1b}[32mactive"));
    }

    #[test]
    fn no_text_acts_on_the_terminal() {
        let cell = Cell::plain("a\u{1b}[2Jb\u{202e}c\n");
        assert_eq!(cell.text, "a\\u{1b}[2Jb\\u{202e}c\\u{a}");
    }
}
