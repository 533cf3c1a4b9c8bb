use std::fmt;

use toml::de::DeValue;

/// The type of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the types of TOML")]
pub enum Kind {
    String,
    Integer,
    Float,
    Boolean,
    Date,
    List,
    Table,
}

impl Kind {
    pub(super) fn of(value: &DeValue<'_>) -> Self {
        match value {
            DeValue::String(_) => Self::String,
            DeValue::Integer(_) => Self::Integer,
            DeValue::Float(_) => Self::Float,
            DeValue::Boolean(_) => Self::Boolean,
            DeValue::Datetime(_) => Self::Date,
            DeValue::Array(_) => Self::List,
            DeValue::Table(_) => Self::Table,
        }
    }

    pub(super) fn told(self) -> &'static str {
        match self {
            Self::String => "a string",
            Self::Integer => "a whole number",
            Self::Float => "a number",
            Self::Boolean => "true or false",
            Self::Date => "a date",
            Self::List => "a list",
            Self::Table => "a table",
        }
    }
}

/// Which table of a file it is, as its header would be written.
#[derive(Clone, Copy)]
pub(super) struct Place {
    names: [&'static str; 4],
    depth: usize,
    is_listed: bool,
}

impl Place {
    pub(super) const ROOT: Self = Self { names: [""; 4], depth: 0, is_listed: false };

    pub(super) fn below(mut self, name: &'static str, is_listed: bool) -> Self {
        if let Some(slot) = self.names.get_mut(self.depth) {
            *slot = name;
            self.depth += 1;
        }
        self.is_listed = is_listed;
        self
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.names[..self.depth].join(".");
        match (self.depth, self.is_listed) {
            (0, _) => f.write_str("the file"),
            (_, false) => write!(f, "`[{path}]`"),
            (_, true) => write!(f, "`[[{path}]]`"),
        }
    }
}

/// What is wrong with the text of a value: told after the name of its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Complaint {
    /// What is wrong, to follow the key's name: "is no duration".
    pub what: String,
    /// What to write instead.
    pub remedy: String,
}

impl Complaint {
    /// A complaint.
    pub fn new(what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { what: what.into(), remedy: remedy.into() }
    }
}
