//! What the values of a token may be, one value at a time: for the compiler of whole files, and for
//! whoever takes a single value and wants to say which one is wrong.

use std::collections::BTreeMap;

use super::document::{Limits, MAX_NAME_CHARS};
use super::pattern::Pattern;

/// What is wrong with a value. Never quotes a value that may be a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// What is wrong.
    pub what: String,
    /// What to write instead.
    pub remedy: &'static str,
}

impl Fault {
    fn new(what: impl Into<String>, remedy: &'static str) -> Self {
        Self { what: what.into(), remedy }
    }
}

/// What is wrong with the name of a token or an administrator.
#[must_use]
pub fn name_fault(name: &str) -> Option<Fault> {
    let length = name.chars().count();
    let is_wrong = length == 0 || length > MAX_NAME_CHARS || name.chars().any(char::is_control);
    is_wrong.then(|| {
        Fault::new(
            "`name` is empty, too long, or holds a control character",
            "write 1 to 200 printable characters",
        )
    })
}

/// What is wrong with a pattern in `resources`.
#[must_use]
pub fn resource_fault(pattern: &str) -> Option<Fault> {
    resource(pattern).err()
}

/// The pattern that a text in `resources` is.
pub(super) fn resource(pattern: &str) -> Result<Pattern, Fault> {
    Pattern::parse(pattern).map_err(|error| {
        Fault::new(
            format!("a pattern in `resources` is not one: {error}"),
            "write a model id, `prefix*`, or `*`",
        )
    })
}

/// What is wrong with a name in `groups`. Whether any route asks for the group is another question.
#[must_use]
pub fn group_fault(name: &str) -> Option<Fault> {
    let what = if !super::route::is_group_name(name) {
        "a name in `groups` is not 1 to 64 characters of A-Z a-z 0-9 . _ -".into()
    } else if matches!(name, "public" | "deny") {
        format!("`{name}` is no group: it is what a route says instead of one")
    } else {
        return None;
    };
    Some(Fault::new(
        what,
        "write `model-evaluation`, `model-management`, or a group of your own routes",
    ))
}

/// What is wrong with the pairs in `labels`.
#[must_use]
pub fn labels_fault(labels: &BTreeMap<String, String>) -> Option<Fault> {
    let bad = |text: &str, most| text.chars().count() > most || text.chars().any(char::is_control);
    let is_bad =
        |(key, value): (&String, &String)| key.is_empty() || bad(key, 64) || bad(value, 200);
    (labels.len() > 64 || labels.iter().any(is_bad)).then(|| {
        Fault::new(
            "`labels` has more than 64 pairs, or one that is too long or holds a control character",
            "keys are 1 to 64 characters long, values at most 200",
        )
    })
}

/// What is wrong with `limits`; the first of it.
#[must_use]
pub fn limits_fault(limits: &Limits) -> Option<Fault> {
    limits_faults(limits).next()
}

/// Everything that is wrong with `limits`.
pub(super) fn limits_faults(limits: &Limits) -> impl Iterator<Item = Fault> {
    let values = [limits.requests_per_second, limits.burst, limits.max_in_flight];
    let zero = values.contains(&Some(0)).then(|| {
        Fault::new(
            "a value in `limits` is 0, which would refuse everything",
            "use `disabled = true` to switch a token off",
        )
    });
    let burst_alone = limits.burst.is_some() && limits.requests_per_second.is_none();
    let burst_alone = burst_alone.then(|| {
        Fault::new(
            "`limits` has `burst` without `requests_per_second`",
            "add `requests_per_second`, or remove `burst`",
        )
    });
    zero.into_iter().chain(burst_alone)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: impl IntoIterator<Item = (String, String)>) -> BTreeMap<String, String> {
        pairs.into_iter().collect()
    }

    #[test]
    fn names_and_labels_have_their_bounds() {
        for name in ["a", "Team A, café", &"é".repeat(200)] {
            assert_eq!(name_fault(name), None, "{name}");
        }
        for name in ["", "a\nb", "\u{1b}[31m", "\u{85}", &"x".repeat(201)] {
            assert!(name_fault(name).is_some(), "{name:?}");
        }
        let pair = |key: usize, value: usize| labels([("k".repeat(key), "v".repeat(value))]);
        let many = |count: u32| labels((0..count).map(|n| (n.to_string(), String::new())));
        for good in [labels([]), pair(1, 0), pair(64, 200), many(64)] {
            assert_eq!(labels_fault(&good), None);
        }
        for bad in [pair(0, 1), pair(65, 1), pair(1, 201), many(65)] {
            assert!(labels_fault(&bad).is_some());
        }
        assert!(labels_fault(&labels([("a".into(), "b\tc".into())])).is_some());
    }

    #[test]
    fn resources_and_groups_are_told_with_a_remedy() {
        assert_eq!(resource_fault("iris-*"), None);
        assert!(resource_fault("a*b").unwrap().what.contains("`resources`"));
        assert_eq!(group_fault("model-evaluation"), None);
        assert!(group_fault("deny").unwrap().what.contains("`deny`"));
        assert!(group_fault("a b").unwrap().remedy.contains("`model-management`"));
    }

    #[test]
    fn limits_that_refuse_everything_or_nothing_are_told() {
        let of = |requests_per_second, burst, max_in_flight| Limits {
            requests_per_second,
            burst,
            max_in_flight,
        };
        assert_eq!(limits_fault(&of(Some(1), Some(1), Some(1))), None);
        assert_eq!(limits_fault(&of(None, None, None)), None);
        assert!(limits_fault(&of(None, None, Some(0))).unwrap().what.contains("is 0"));
        assert!(limits_fault(&of(None, Some(3), None)).unwrap().what.contains("`burst`"));
        assert_eq!(limits_faults(&of(None, Some(0), None)).count(), 2);
    }
}
