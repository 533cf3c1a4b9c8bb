use super::decision::Decision;
use super::route::Route;

/// One step on the way to a decision, for a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// Which rule.
    pub rule: &'static str,
    /// What it found.
    pub found: String,
}

/// A decision with its reasons laid open, for a person.
#[derive(Debug)]
pub struct Explanation<'p> {
    /// The decision itself.
    pub decision: Decision,
    /// The route that was taken.
    pub route: Option<&'p Route>,
    /// What each rule found, in order, up to the one that decided.
    pub steps: Vec<Step>,
}

/// Who listens to the steps of a decision. On the data plane nobody does, and the texts are never
/// made.
pub(super) trait Witness {
    fn saw(&mut self, rule: &'static str, found: impl FnOnce() -> String);
}

pub(super) struct Nobody;

impl Witness for Nobody {
    fn saw(&mut self, _: &'static str, _: impl FnOnce() -> String) {}
}

impl Witness for Vec<Step> {
    fn saw(&mut self, rule: &'static str, found: impl FnOnce() -> String) {
        self.push(Step { rule, found: found() });
    }
}
