use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

use crate::policy::{Moment, Placed};

use super::place::{Complaint, Kind, Place};
use super::report::{About, Report};
use super::wording::{closest, plain_name};

/// A table of a file, out of which a reader takes keys by name. At its end stands [`finish`],
/// which tells every key that nobody took.
///
/// What has a wrong type is told and counts as not there.
///
/// [`finish`]: Table::finish
#[must_use = "`finish` tells the unknown keys"]
pub struct Table<'r> {
    entries: &'r DeTable<'r>,
    report: &'r Report<'r>,
    place: Place,
    line: Option<usize>,
    asked: Vec<&'static str>,
}

type Entry<'r> = (&'r Spanned<DeString<'r>>, &'r Spanned<DeValue<'r>>);

impl<'r> Table<'r> {
    pub(super) fn root(entries: &'r DeTable<'r>, report: &'r Report<'r>) -> Self {
        Self { entries, report, place: Place::ROOT, line: None, asked: Vec::new() }
    }

    fn below(
        &self,
        name: &'static str,
        line: usize,
        entries: &'r DeTable<'r>,
        listed: bool,
    ) -> Self {
        Self {
            entries,
            report: self.report,
            place: self.place.below(name, listed),
            line: Some(line),
            asked: Vec::new(),
        }
    }

    /// The line of its header; 0 for the file itself.
    #[must_use]
    pub fn line(&self) -> usize {
        self.line.unwrap_or(0)
    }

    /// The line of a key, or of the table's header when the key is not there.
    #[must_use]
    pub fn line_of(&self, name: &str) -> usize {
        self.entries
            .get_key_value(name)
            .map_or(self.line(), |(key, _)| self.report.line(key.span().start))
    }

    /// The type of a key's value; none when the key is not there. Does not take the key.
    #[must_use]
    pub fn kind(&self, name: &str) -> Option<Kind> {
        self.entries.get(name).map(|value| Kind::of(value.get_ref()))
    }

    /// Whether a key's value is this string. Does not take the key.
    #[must_use]
    pub fn is_string(&self, name: &str, text: &str) -> bool {
        self.entries.get(name).is_some_and(|value| value.get_ref().as_str() == Some(text))
    }

    /// Whether a key's value is a list without an entry. Does not take the key.
    #[must_use]
    pub fn has_empty_list(&self, name: &str) -> bool {
        let value = self.entries.get(name);
        value.is_some_and(|value| value.get_ref().as_array().is_some_and(|list| list.is_empty()))
    }

    /// Tells a problem; line 0 is the file as a whole.
    pub fn problem(&self, line: usize, what: impl AsRef<str>, remedy: impl AsRef<str>) {
        let line = (line > 0).then_some(line);
        self.report.tell(About::Presence, line, what, remedy);
    }

    /// Tells that a key is missing, when it is.
    pub fn must_have(&self, name: &'static str, remedy: impl AsRef<str>) {
        if self.entries.get(name).is_none() {
            self.missing(format!("`{name}` is missing in {}", self.place), remedy);
        }
    }

    /// Tells that something is missing, on the line of the table.
    pub fn missing(&self, what: impl AsRef<str>, remedy: impl AsRef<str>) {
        self.report.tell(About::Absence, self.line, what, remedy);
    }

    /// Takes a string.
    pub fn string(&mut self, name: &'static str) -> Option<Placed<String>> {
        let (key, value) = self.take(name)?;
        match value.get_ref() {
            DeValue::String(text) => Some(self.placed(key, text.clone().into_owned())),
            other => self.wrong_type(name, key, other, "write a string in double quotes"),
        }
    }

    /// Takes a string and what it means; a complaint about it is told with its remedy. The example
    /// is for whoever wrote no string.
    pub fn parsed<T>(
        &mut self,
        name: &'static str,
        example: &str,
        parse: impl FnOnce(&str) -> Result<T, Complaint>,
    ) -> Option<Placed<T>> {
        let (key, value) = self.take(name)?;
        let DeValue::String(text) = value.get_ref() else {
            let remedy = format!("write a string, such as \"{example}\"");
            return self.wrong_type(name, key, value.get_ref(), &remedy);
        };
        match parse(text) {
            Ok(value) => Some(self.placed(key, value)),
            Err(complaint) => {
                let line = self.report.line(key.span().start);
                self.complain(line, name, complaint);
                None
            }
        }
    }

    /// Tells a complaint about an entry of the list under a key.
    pub fn complain_entry(&self, line: usize, name: &str, complaint: Complaint) {
        let what = format!("an entry of `{name}` in {} {}", self.place, complaint.what);
        self.problem(line, what, complaint.remedy);
    }

    /// Tells a complaint about the value of a key.
    pub fn complain(&self, line: usize, name: &str, complaint: Complaint) {
        let what = format!("`{name}` in {} {}", self.place, complaint.what);
        self.problem(line, what, complaint.remedy);
    }

    /// Takes `true` or `false`.
    pub fn boolean(&mut self, name: &'static str) -> Option<Placed<bool>> {
        let (key, value) = self.take(name)?;
        match value.get_ref() {
            DeValue::Boolean(yes) => Some(self.placed(key, *yes)),
            other => self.wrong_type(name, key, other, "write `true` or `false`, without quotes"),
        }
    }

    /// Takes a whole number within limits.
    pub fn integer(
        &mut self,
        name: &'static str,
        range: RangeInclusive<u64>,
    ) -> Option<Placed<u64>> {
        let (key, value) = self.take(name)?;
        let remedy = format!("write a whole number from {} to {}", range.start(), range.end());
        let DeValue::Integer(number) = value.get_ref() else {
            return self.wrong_type(name, key, value.get_ref(), &remedy);
        };
        match u64::from_str_radix(number.as_str(), number.radix()) {
            Ok(number) if range.contains(&number) => Some(self.placed(key, number)),
            _ => {
                let line = self.report.line(key.span().start);
                self.problem(line, format!("`{name}` in {} is out of range", self.place), remedy);
                None
            }
        }
    }

    /// Takes a point in time, which must say its offset from UTC. Parts of a second are cut off.
    pub fn moment(&mut self, name: &'static str) -> Option<Placed<Moment>> {
        const REMEDY: &str = "write it without quotes as 2027-11-23T10:00:00Z";
        let (key, value) = self.take(name)?;
        let DeValue::Datetime(date) = value.get_ref() else {
            return self.wrong_type(name, key, value.get_ref(), REMEDY);
        };
        // By its text: the parser's own parts of a date cannot be named without its serde feature.
        let moment = date.to_string().parse::<jiff::Timestamp>().ok();
        if moment.is_none() {
            let line = self.report.line(key.span().start);
            let what = format!(
                "`{name}` in {} is no point in time: it lacks the date, the time or the offset \
                 from UTC, or is not in the calendar",
                self.place
            );
            self.problem(line, what, REMEDY);
        }
        moment.map(|moment| self.placed(key, Moment(moment.as_second())))
    }

    /// Takes a list of strings, each with its own line. One that is no string is told and left out.
    pub fn strings(&mut self, name: &'static str) -> Option<Placed<Vec<Placed<String>>>> {
        const REMEDY: &str = "write a list of strings, such as [\"one\", \"two\"]";
        let (key, value) = self.take(name)?;
        let DeValue::Array(items) = value.get_ref() else {
            return self.wrong_type(name, key, value.get_ref(), REMEDY);
        };
        let mut strings = Vec::with_capacity(items.len());
        for item in items.iter() {
            let line = self.report.line(item.span().start);
            match item.get_ref() {
                DeValue::String(text) => strings.push(Placed::new(text.clone().into_owned(), line)),
                other => {
                    let what = format!(
                        "an entry of `{name}` in {} is {}",
                        self.place,
                        Kind::of(other).told()
                    );
                    self.problem(line, what, REMEDY);
                }
            }
        }
        Some(self.placed(key, strings))
    }

    /// Takes a table of free keys with strings.
    pub fn string_pairs(&mut self, name: &'static str) -> Option<BTreeMap<String, String>> {
        const REMEDY: &str = "write pairs of strings, such as { team = \"fraud\" }";
        let (key, value) = self.take(name)?;
        let DeValue::Table(entries) = value.get_ref() else {
            return self.wrong_type(name, key, value.get_ref(), REMEDY);
        };
        let mut pairs = BTreeMap::new();
        for (key, value) in entries {
            if let DeValue::String(text) = value.get_ref() {
                pairs.insert(key.get_ref().clone().into_owned(), text.clone().into_owned());
                continue;
            }
            let what = format!(
                "a value of `{name}` in {} is {}",
                self.place,
                Kind::of(value.get_ref()).told()
            );
            self.problem(self.report.line(key.span().start), what, REMEDY);
        }
        Some(pairs)
    }

    /// Takes a table.
    pub fn table(&mut self, name: &'static str) -> Option<Self> {
        let (key, value) = self.take(name)?;
        let DeValue::Table(entries) = value.get_ref() else {
            let remedy =
                format!("write one table of this name, once, {}", self.header(name, false));
            return self.wrong_type(name, key, value.get_ref(), &remedy);
        };
        let line = self.report.line(key.span().start);
        Some(self.below(name, line, entries, false))
    }

    /// Takes a list of tables, `[[name]]`; empty when there is none.
    pub fn tables(&mut self, name: &'static str) -> Vec<Self> {
        self.take(name).map_or_else(Vec::new, |entry| self.listed(name, entry))
    }

    /// Takes a list of tables that have to be written as `[[name]]`, so that they can be edited in
    /// place; empty when there is none.
    pub fn headed_tables(&mut self, name: &'static str) -> Vec<Self> {
        let Some(entry) = self.take(name) else { return Vec::new() };
        let (key, value) = entry;
        let is_written_inline = matches!(value.get_ref(), DeValue::Array(_))
            && !self.report.text.get(value.span()).is_some_and(|text| text.starts_with("[["));
        if is_written_inline {
            let what = format!("`{name}` is a list in one value");
            let remedy = format!("write each as a table of its own, {}", self.header(name, true));
            self.problem(self.report.line(key.span().start), what, remedy);
        }
        self.listed(name, entry)
    }

    fn listed(&self, name: &'static str, (key, value): Entry<'r>) -> Vec<Self> {
        let remedy = format!("write each as a table {}", self.header(name, true));
        let DeValue::Array(items) = value.get_ref() else {
            let nothing: Option<()> = self.wrong_type(name, key, value.get_ref(), &remedy);
            debug_assert!(nothing.is_none());
            return Vec::new();
        };
        let mut tables = Vec::with_capacity(items.len());
        for item in items.iter() {
            let line = self.report.line(item.span().start);
            match item.get_ref() {
                DeValue::Table(entries) => tables.push(self.below(name, line, entries, true)),
                other => {
                    let what = format!("an entry of `{name}` is {}", Kind::of(other).told());
                    self.problem(line, what, &remedy);
                }
            }
        }
        tables
    }

    /// Takes a key that this reader does not look at, so that it is not told as unknown.
    pub fn ignore(&mut self, name: &'static str) {
        self.asked.push(name);
    }

    /// Tells every key that was not taken.
    pub fn finish(self) {
        if self.entries.len() <= self.asked.len()
            && self.entries.keys().all(|key| self.asked.contains(&&**key.get_ref()))
        {
            return;
        }
        for (key, _) in self.entries {
            let name: &str = key.get_ref();
            if self.asked.contains(&name) {
                continue;
            }
            let line = Some(self.report.line(key.span().start));
            let what = match plain_name(name) {
                Some(name) => format!("{} has no key `{name}`", self.place),
                None => format!(
                    "{} has no such key (its name is not shown: it may be a secret)",
                    self.place
                ),
            };
            let remedy = match closest(name, self.asked.iter().copied()) {
                Some(known) => format!("did you mean `{known}`?"),
                None => format!("remove it; what can stand here: {}", self.known()),
            };
            self.report.tell(About::Presence, line, what, remedy);
        }
    }

    fn known(&self) -> String {
        let mut names: Vec<String> = self.asked.iter().map(|name| format!("`{name}`")).collect();
        names.sort_unstable();
        names.dedup();
        names.join(", ")
    }

    fn take(&mut self, name: &'static str) -> Option<Entry<'r>> {
        self.asked.push(name);
        self.entries.get_key_value(name)
    }

    fn placed<T>(&self, key: &Spanned<DeString<'_>>, value: T) -> Placed<T> {
        Placed::new(value, self.report.line(key.span().start))
    }

    fn header(&self, name: &'static str, is_listed: bool) -> Place {
        self.place.below(name, is_listed)
    }

    /// Tells it on the line of the key: that of a value which a syntax error broke is unknown.
    fn wrong_type<T>(
        &self,
        name: &str,
        key: &Spanned<DeString<'_>>,
        value: &DeValue<'_>,
        remedy: &str,
    ) -> Option<T> {
        let what = format!("`{name}` in {} is {}", self.place, Kind::of(value).told());
        self.problem(self.report.line(key.span().start), what, remedy);
        None
    }
}
