//! Changes of a token file's text. What a change is not about keeps every byte: comments, blank
//! lines, order, spacing and line ends.
//!
//! The text is not written anew from a tree: `toml_edit` tells where everything stands, and pieces
//! are cut out and put in there.

mod array;
mod layout;
mod render;
mod token;

use std::ops::Range;

use crate::policy::Document;
use crate::policy::amend::Edit;
use layout::{Layout, line_end};

/// Why a text cannot be changed as asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum EditError {
    /// The entry is not there.
    #[error("the entry to change was not found in the text")]
    NotFound,
    /// The text is no TOML, has no `[[…]]` tables where they are expected, or the pieces do not fit.
    #[error("the text could not be taken apart")]
    Unreadable,
}

/// A piece of the text, and what comes in its place.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Splice {
    range: Range<usize>,
    text: String,
}

/// The text after an edit. `before` is the document that `text` says.
pub(super) fn apply(text: &str, before: &Document, edit: &Edit) -> Result<String, EditError> {
    let layout = Layout::read(text)?;
    let splices = match edit {
        Edit::AddToken(entry) => {
            layout.tables("token")?;
            vec![added(&layout, text.len(), &render::token(entry))]
        }
        Edit::SetToken(entry) => {
            let old = before.tokens.iter().find(|old| old.id == entry.id);
            token::set(&layout, old.ok_or(EditError::NotFound)?, entry)?
        }
        Edit::RemoveToken(id) => removed(&layout, layout.table("token", "id", id)?),
        Edit::AddAdmin(entry) => {
            let last = layout.tables("admin")?.and_then(|tables| tables.iter().last());
            let section = last.and_then(|table| layout.sections_of(table).pop());
            let at = match section {
                Some(section) => layout.end_with_comments(section),
                None => layout.end_with_comments(layout.preamble()),
            };
            vec![added(&layout, at, &render::admin(entry))]
        }
        Edit::RemoveAdmin(name) => removed(&layout, layout.table("admin", "name", name)?),
    };
    spliced(text, splices).ok_or(EditError::Unreadable)
}

/// The table that an edit adds or sets, as TOML; for a removal, a comment that says it.
///
/// For people who keep the token file where this program cannot write it.
#[must_use]
pub fn stanza(edit: &Edit) -> String {
    match edit {
        Edit::AddToken(entry) | Edit::SetToken(entry) => render::token(entry),
        Edit::AddAdmin(entry) => render::admin(entry),
        Edit::RemoveToken(id) => format!("# Remove the [[token]] table whose id is {id:?}.\n"),
        Edit::RemoveAdmin(name) => {
            format!("# Remove the [[admin]] table whose name is {name:?}.\n")
        }
    }
}

/// A table put in at the border of a line, with a blank line around it.
fn added(layout: &Layout<'_>, at: usize, table: &str) -> Splice {
    let (above, below) = layout.text().split_at(at);
    let newline = layout.newline();
    let mut text = String::new();
    if !above.is_empty() && !above.ends_with('\n') {
        text.push_str(newline);
    }
    let last_line = above.trim_end_matches(['\r', '\n']).len();
    let is_blank_above = above[last_line..].matches('\n').count() > 1;
    if !above.is_empty() && !is_blank_above {
        text.push_str(newline);
    }
    text.push_str(&table.replace('\n', newline));
    let next_line = &below[..line_end(below, 0)];
    if !next_line.trim().is_empty() {
        text.push_str(newline);
    }
    Splice { range: at..at, text }
}

fn removed(layout: &Layout<'_>, table: &toml_edit::Table) -> Vec<Splice> {
    let extents = layout.sections_of(table).into_iter().map(|section| layout.extent(section));
    extents.map(|range| Splice { range, text: String::new() }).collect()
}

/// The text with all splices made; none when they overlap or cut a character.
fn spliced(text: &str, mut splices: Vec<Splice>) -> Option<String> {
    // Stable: what is put in at one place keeps its order, and comes before what is cut out there.
    splices.sort_by_key(|splice| (splice.range.start, splice.range.end));
    let mut result = String::with_capacity(text.len() + 256);
    let mut done = 0;
    for splice in &splices {
        result.push_str(text.get(done..splice.range.start)?);
        result.push_str(&splice.text);
        done = splice.range.end;
    }
    result.push_str(text.get(done..)?);
    Some(result)
}

#[cfg(test)]
mod tests;
