use std::ops::Range;

use toml_edit::{Item, Table};

use super::array;
use super::layout::{Layout, Section, line_end, line_start, section};
use super::render::{Shape, TOKEN_KEYS, token_shapes};
use super::{EditError, Splice};
use crate::policy::TokenEntry;

/// The splices by which the entry of `before` becomes `after`: only keys whose values differ.
pub(super) fn set(
    layout: &Layout<'_>,
    before: &TokenEntry,
    after: &TokenEntry,
) -> Result<Vec<Splice>, EditError> {
    let table = layout.table("token", "id", &before.id.value)?;
    let own = section(layout.text(), table).ok_or(EditError::NotFound)?;
    let mut writer = Writer { layout, table, own, splices: Vec::new() };
    let shapes = token_shapes(before).into_iter().zip(token_shapes(after));
    for (order, (old, new)) in shapes.enumerate() {
        if old != new {
            writer.set(order, old.as_ref(), new.as_ref());
        }
    }
    Ok(writer.splices)
}

struct Writer<'l, 't> {
    layout: &'l Layout<'t>,
    table: &'l Table,
    own: Section,
    splices: Vec<Splice>,
}

/// A key and its value, as they stand in the text.
struct Line {
    key: Range<usize>,
    value: Range<usize>,
}

impl Writer<'_, '_> {
    fn set(&mut self, order: usize, old: Option<&Shape>, new: Option<&Shape>) {
        let key = TOKEN_KEYS[order];
        let present = self.table.get_key_value(key);
        match (present, new) {
            (None, None) => {}
            (None, Some(new)) => self.insert(order, new),
            // Without dotted keys there would be no table at all, which says something else.
            (Some((_, Item::Table(inner))), Some(new @ Shape::Table(pairs)))
                if pairs.is_empty() && inner.is_dotted() =>
            {
                self.remove_table(inner);
                self.insert(order, new);
            }
            (Some((_, Item::Table(inner))), Some(Shape::Table(pairs))) => {
                let old = match old {
                    Some(Shape::Table(old)) => old.as_slice(),
                    _ => &[],
                };
                self.set_pairs(key, inner, old, pairs);
            }
            (Some((_, item)), Some(new)) => {
                let Some(span) = item.span() else { return };
                let text = match (item.as_array(), new) {
                    (Some(array), Shape::Array(values)) => {
                        array::rewritten(self.layout.text(), array, span.clone(), values)
                    }
                    _ => None,
                };
                self.replace(span, text.unwrap_or_else(|| new.inline()));
            }
            (Some((_, Item::Table(inner))), None) => self.remove_table(inner),
            (Some((key, item)), None) => {
                if let Some(line) = line_of(key, item) {
                    self.remove_line(&line);
                }
            }
        }
    }

    /// Changes a table that is written with dotted keys or under a header of its own.
    fn set_pairs(
        &mut self,
        name: &str,
        inner: &Table,
        old: &[(String, String)],
        new: &[(String, String)],
    ) {
        let text = self.layout.text();
        let mut end = section(text, inner).map(|own| line_end(text, own.start));
        let mut found = Vec::new();
        for (key, line) in lines(inner) {
            end = end.max(Some(line_end(text, line.value.end)));
            match new.iter().find(|(new_key, _)| *new_key == key) {
                None => self.remove_line(&line),
                Some(pair) if old.contains(pair) => {}
                Some((_, value)) => self.replace(line.value, value.clone()),
            }
            found.push(key);
        }
        let prefix = if inner.is_dotted() { format!("{name}.") } else { String::new() };
        for (key, value) in new.iter().filter(|(key, _)| !found.contains(key)) {
            let end = end.unwrap_or(self.own.end);
            self.insert_line(end, &format!("{prefix}{key} = {value}"));
        }
    }

    /// Adds a key after those that stand before it in the usual order, and above the hash.
    fn insert(&mut self, order: usize, shape: &Shape) {
        let text = self.layout.text();
        let key = TOKEN_KEYS[order];
        let header_end = line_end(text, self.own.start);
        let hash = self.table.get_key_value("hash");
        let hash_start = hash.and_then(|(key, _)| key.span()).map_or(self.own.end, |key| key.start);
        let anchor = TOKEN_KEYS[..order]
            .iter()
            .filter_map(|earlier| self.table.get_key_value(earlier))
            .filter_map(|(key, item)| match item {
                Item::Table(inner) if inner.is_dotted() => {
                    lines(inner).map(|(_, line)| line.value.end).max()
                }
                Item::Table(_) => None,
                _ => line_of(key, item).map(|line| line.value.end),
            })
            .filter(|end| *end < hash_start)
            .max();
        let at = anchor.map_or(header_end, |end| line_end(text, end));
        let indent = self.indent();
        let column = self.column_of_equal_signs().unwrap_or(0).saturating_sub(indent.len() + 1);
        self.insert_line(at, &format!("{indent}{key:<column$} = {}", shape.inline()));
    }

    /// The white space before the entry's keys.
    fn indent(&self) -> String {
        let text = self.layout.text();
        let first = plain_lines(self.table).next();
        first.map_or(String::new(), |line| {
            let start = line_start(text, line.key.start);
            text[start..line.key.start].chars().take_while(|c| c.is_whitespace()).collect()
        })
    }

    /// Where the `=` of the entry's keys stand, when all stand below each other and that is no
    /// accident.
    fn column_of_equal_signs(&self) -> Option<usize> {
        let text = self.layout.text();
        let mut column = None;
        let mut is_padded = false;
        for line in plain_lines(self.table) {
            let between = text.get(line.key.end..line.value.start)?;
            let equal = line.key.end + between.find('=')?;
            let own = equal - line_start(text, line.key.start);
            if *column.get_or_insert(own) != own {
                return None;
            }
            is_padded |= equal - line.key.end > 1;
        }
        column.filter(|_| is_padded)
    }

    fn remove_table(&mut self, inner: &Table) {
        if let Some(section) = section(self.layout.text(), inner) {
            let range = self.layout.extent(section);
            self.replace(range, String::new());
            return;
        }
        for (_, line) in lines(inner) {
            self.remove_line(&line);
        }
    }

    fn remove_line(&mut self, line: &Line) {
        let text = self.layout.text();
        let range = line_start(text, line.key.start)..line_end(text, line.value.end);
        self.replace(range, String::new());
    }

    fn insert_line(&mut self, at: usize, line: &str) {
        let newline = self.layout.newline();
        let is_line_open = at > 0 && !self.layout.text()[..at].ends_with('\n');
        // Several lines may be added at the end of a text without a last newline.
        let is_first = !self.splices.iter().any(|splice| splice.range == (at..at));
        let text = if is_line_open && is_first {
            format!("{newline}{line}{newline}")
        } else {
            format!("{line}{newline}")
        };
        self.replace(at..at, text);
    }

    fn replace(&mut self, range: Range<usize>, text: String) {
        self.splices.push(Splice { range, text });
    }
}

/// The keys of a table with their values, by the TOML form of the key.
fn lines(table: &Table) -> impl Iterator<Item = (String, Line)> {
    table.iter().filter_map(|(name, item)| {
        let key = table.key(name)?;
        let line = line_of(key, item)?;
        Some((toml_edit::Key::new(name).display_repr().into_owned(), line))
    })
}

/// The keys of a table that are neither dotted nor tables.
fn plain_lines(table: &Table) -> impl Iterator<Item = Line> {
    lines(table).map(|(_, line)| line)
}

fn line_of(key: &toml_edit::Key, item: &Item) -> Option<Line> {
    let value = item.as_value()?;
    Some(Line { key: key.span()?, value: value.span()? })
}
