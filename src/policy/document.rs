use std::collections::BTreeMap;

/// A point in time in whole seconds since 1970-01-01T00:00:00Z.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(pub i64);

/// A value and the line it stands on in its file, from 1. Two are equal when their values are.
#[derive(Debug, Clone)]
pub struct Placed<T> {
    /// What was read.
    pub value: T,
    /// Where it was read; 0 for what was not read from a file.
    pub line: usize,
}

impl<T> Placed<T> {
    /// A value that stands at a line.
    pub fn new(value: T, line: usize) -> Self {
        Self { value, line }
    }

    /// A value made by the program.
    pub fn made(value: T) -> Self {
        Self { value, line: 0 }
    }
}

impl<T: PartialEq> PartialEq for Placed<T> {
    fn eq(&self, other: &Self) -> bool {
        self.value == other.value
    }
}

impl<T: Eq> Eq for Placed<T> {}

/// The longest name of a token or an administrator, in characters.
pub const MAX_NAME_CHARS: usize = 200;

/// What a token file says, typed but not yet judged: [`super::compile`] judges.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Document {
    /// `[[admin]]`, in the order of the file.
    pub admins: Vec<AdminEntry>,
    /// `[[token]]`, in the order of the file.
    pub tokens: Vec<TokenEntry>,
}

/// An `[[admin]]` table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdminEntry {
    /// Who it is; names are unique in a file.
    pub name: Placed<String>,
    /// `blake3:…` or `sha256:…`.
    pub hash: Placed<String>,
}

/// A `[[token]]` table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenEntry {
    /// What it is called; unique in a file.
    pub id: Placed<String>,
    /// For people.
    pub name: Option<Placed<String>>,
    /// `blake3:…` or `sha256:…`.
    pub hash: Placed<String>,
    /// Resource patterns; empty: no model.
    pub resources: Vec<Placed<String>>,
    /// Groups; empty: no route.
    pub groups: Vec<Placed<String>>,
    /// When it was made.
    pub created_at: Option<Moment>,
    /// The first second in which it is no longer valid.
    pub expires_at: Option<Moment>,
    /// Whether it is switched off.
    pub disabled: bool,
    /// The secret it had before it was regenerated with grace.
    pub previous: Option<Previous>,
    /// How much it may be used.
    pub limits: Option<Limits>,
    /// Free key and value pairs, for people and their tools.
    pub labels: BTreeMap<String, String>,
}

/// A secret that still works for a while beside its successor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Previous {
    /// `blake3:…` or `sha256:…`.
    pub hash: Placed<String>,
    /// The first second in which it is no longer valid.
    pub valid_until: Moment,
}

/// How much a token may be used; what is not given is not limited.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Limits {
    /// Sustained rate.
    pub requests_per_second: Option<u32>,
    /// How many may come at once above the rate.
    pub burst: Option<u32>,
    /// How many may be unanswered at one time.
    pub max_in_flight: Option<u32>,
}
