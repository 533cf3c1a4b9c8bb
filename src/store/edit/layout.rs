use std::ops::Range;

use toml_edit::{ArrayOfTables, Document, Item, Table};

use super::EditError;

/// Where the tables of a token file stand in its text. All places are byte offsets, and every
/// section starts and ends at the border of a line.
pub(super) struct Layout<'t> {
    text: &'t str,
    document: Document<&'t str>,
    /// In the order of the text; the first is what stands before every header.
    sections: Vec<Section>,
    newline: &'static str,
}

/// A header and the keys under it, without the comments and blank lines that follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Section {
    pub(super) start: usize,
    pub(super) end: usize,
}

impl<'t> Layout<'t> {
    pub(super) fn read(text: &'t str) -> Result<Self, EditError> {
        let document = Document::parse(text).map_err(|_| EditError::Unreadable)?;
        let mut sections =
            vec![Section { start: 0, end: content_end(text, document.as_table(), 0) }];
        collect(text, document.as_table(), &mut sections);
        sections.sort_unstable();
        let crlf = text.find('\n').is_some_and(|at| text[..at].ends_with('\r'));
        Ok(Self { text, document, sections, newline: if crlf { "\r\n" } else { "\n" } })
    }

    pub(super) fn text(&self) -> &'t str {
        self.text
    }

    /// What ends a line in this file.
    pub(super) fn newline(&self) -> &'static str {
        self.newline
    }

    /// The tables under `[[name]]`; none when there are none.
    pub(super) fn tables(&self, name: &'static str) -> Result<Option<&ArrayOfTables>, EditError> {
        match self.document.get(name) {
            None => Ok(None),
            Some(Item::ArrayOfTables(tables)) => Ok(Some(tables)),
            // The strict reader refuses `token = […]` before anybody comes here.
            Some(_) => Err(EditError::Unreadable),
        }
    }

    /// The table under `[[name]]` in which `key` is `value`.
    pub(super) fn table(
        &self,
        name: &'static str,
        key: &str,
        value: &str,
    ) -> Result<&Table, EditError> {
        self.tables(name)?
            .into_iter()
            .flatten()
            .find(|table| table.get(key).and_then(Item::as_str) == Some(value))
            .ok_or(EditError::NotFound)
    }

    /// The sections of an entry: its own and those of tables under it. What stands in one piece is
    /// one section.
    pub(super) fn sections_of(&self, entry: &Table) -> Vec<Section> {
        let mut own = Vec::new();
        own.extend(section(self.text, entry));
        collect(self.text, entry, &mut own);
        own.sort_unstable();
        let mut joined: Vec<Section> = Vec::new();
        for next in own {
            match joined.last_mut() {
                Some(last) if self.after(*last) == next.start => last.end = next.end,
                _ => joined.push(next),
            }
        }
        joined
    }

    /// What stands before every header.
    pub(super) fn preamble(&self) -> Section {
        self.sections.first().copied().unwrap_or(Section { start: 0, end: 0 })
    }

    /// Where the section after this one starts, or the text ends.
    fn after(&self, section: Section) -> usize {
        self.sections
            .iter()
            .map(|other| other.start)
            .find(|start| *start >= section.end && *start > section.start)
            .unwrap_or(self.text.len())
    }

    /// Where the section before this one ends.
    fn before(&self, section: Section) -> usize {
        self.sections
            .iter()
            .filter(|other| other.start < section.start)
            .map(|other| other.end)
            .max()
            .unwrap_or(0)
    }

    /// What a person would select to delete a section: its lines, the comments that touch it, and
    /// the blank lines that would be left over.
    ///
    /// A comment that also touches what stands before or after the section may be about that, so
    /// it stays.
    pub(super) fn extent(&self, section: Section) -> Range<usize> {
        let (floor, ceiling) = (self.before(section), self.after(section));
        let above = self.lines_above(section.start, floor, is_comment);
        let mut start = if above == floor { section.start } else { above };
        let mut end = self.end_with_comments(section);
        let next = self.lines_below(end, ceiling, is_blank);
        if next == self.text.len() {
            start = self.lines_above(start, floor, is_blank);
            end = next;
        } else if start > floor && self.lines_above(start, floor, is_blank) < start {
            end = next;
        }
        start..end
    }

    /// The end of a section with the comments that touch its last line and nothing after them.
    pub(super) fn end_with_comments(&self, section: Section) -> usize {
        let ceiling = self.after(section);
        let below = self.lines_below(section.end, ceiling, is_comment);
        if below == ceiling && ceiling < self.text.len() { section.end } else { below }
    }

    fn lines_above(&self, from: usize, floor: usize, is_wanted: fn(&str) -> bool) -> usize {
        let mut top = from;
        while top > floor {
            let start = line_start(self.text, top - 1);
            if !is_wanted(&self.text[start..top]) {
                break;
            }
            top = start;
        }
        top
    }

    fn lines_below(&self, from: usize, ceiling: usize, is_wanted: fn(&str) -> bool) -> usize {
        let mut bottom = from;
        while bottom < ceiling {
            let end = line_end(self.text, bottom);
            if !is_wanted(&self.text[bottom..end]) {
                break;
            }
            bottom = end;
        }
        bottom
    }
}

/// Adds the sections of every table below `table` that has a header of its own.
fn collect(text: &str, table: &Table, sections: &mut Vec<Section>) {
    for (_, item) in table {
        match item {
            Item::Table(inner) => {
                sections.extend(section(text, inner));
                collect(text, inner, sections);
            }
            Item::ArrayOfTables(inner) => {
                for inner in inner {
                    sections.extend(section(text, inner));
                    collect(text, inner, sections);
                }
            }
            Item::Value(_) | Item::None => {}
        }
    }
}

/// The section of a table; none when it has no header, as dotted keys make one.
pub(super) fn section(text: &str, table: &Table) -> Option<Section> {
    if table.is_dotted() || table.is_implicit() {
        return None;
    }
    let header = table.span()?;
    let end = content_end(text, table, line_end(text, header.end));
    Some(Section { start: line_start(text, header.start), end })
}

/// The end of the last line of a table's keys, those of dotted tables among them.
fn content_end(text: &str, table: &Table, least: usize) -> usize {
    table.iter().fold(least, |end, (_, item)| match item {
        Item::Value(value) => value.span().map_or(end, |span| end.max(line_end(text, span.end))),
        Item::Table(inner) if inner.is_dotted() => content_end(text, inner, end),
        Item::Table(_) | Item::ArrayOfTables(_) | Item::None => end,
    })
}

/// Where the line that holds `at` starts.
pub(super) fn line_start(text: &str, at: usize) -> usize {
    text[..at].rfind('\n').map_or(0, |newline| newline + 1)
}

/// Where the line after the one that holds `at` starts.
pub(super) fn line_end(text: &str, at: usize) -> usize {
    text[at..].find('\n').map_or(text.len(), |newline| at + newline + 1)
}

fn is_blank(line: &str) -> bool {
    line.trim().is_empty()
}

fn is_comment(line: &str) -> bool {
    line.trim_start().starts_with('#')
}
