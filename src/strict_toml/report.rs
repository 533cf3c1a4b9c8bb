use std::cell::RefCell;

use crate::policy::{Problem, Problems};
use crate::token::redact;

/// Collects what is wrong with a text.
pub(super) struct Report<'t> {
    pub(super) text: &'t str,
    /// The number of the text's first line in its file.
    first_line: usize,
    /// Where each line but the first starts, in bytes.
    line_starts: Vec<usize>,
    found: RefCell<Vec<Found>>,
}

struct Found {
    problem: Problem,
    about: About,
}

/// What a problem is about, which decides whether it is believed after a syntax error.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum About {
    /// The text is no TOML here.
    Syntax,
    /// Something that is there.
    Presence,
    /// Something that is not there.
    Absence,
}

impl<'t> Report<'t> {
    pub(super) fn new(text: &'t str, first_line: usize) -> Self {
        let line_starts = text.match_indices('\n').map(|(place, _)| place + 1).collect();
        Self { text, first_line, line_starts, found: RefCell::new(Vec::new()) }
    }

    /// The line of the file on which a byte of the text stands.
    pub(super) fn line(&self, byte: usize) -> usize {
        self.line_starts.partition_point(|start| *start <= byte) + self.first_line
    }

    pub(super) fn tell(
        &self,
        about: About,
        line: Option<usize>,
        what: impl AsRef<str>,
        remedy: impl AsRef<str>,
    ) {
        let problem = Problem {
            line,
            what: redact(what.as_ref()).into_owned(),
            remedy: redact(remedy.as_ref()).into_owned(),
        };
        self.found.borrow_mut().push(Found { problem, about });
    }

    /// All of it, but for what a syntax error makes doubtful.
    pub(super) fn into_problems(self, first_broken_line: Option<usize>) -> Problems {
        let believed = |found: &Found| match (first_broken_line, found.about) {
            (None, _) | (Some(_), About::Syntax) => true,
            (Some(_), About::Absence) => false,
            (Some(broken), About::Presence) => found.problem.line.is_some_and(|line| line < broken),
        };
        let mut problems = Problems::new();
        for found in self.found.into_inner() {
            if believed(&found) {
                problems.push(found.problem);
            }
        }
        problems
    }
}
