use std::collections::BTreeMap;

use serde::Serialize;

use crate::admin::view::LimitsView;
use crate::cli::output::{Cell, Table};
use crate::policy::{Moment, TokenEntry, TokenState};
use crate::settings::rfc3339;

/// All that may be told of a token: everything in the file but the hashes, and its state.
#[derive(Serialize)]
pub(super) struct TokenView<'t> {
    id: &'t str,
    name: Option<&'t str>,
    state: TokenState,
    resources: Vec<&'t str>,
    groups: Vec<&'t str>,
    created_at: Option<String>,
    expires_at: Option<String>,
    disabled: bool,
    previous_valid_until: Option<String>,
    limits: Option<LimitsView>,
    labels: &'t BTreeMap<String, String>,
}

impl<'t> TokenView<'t> {
    pub(super) fn new(entry: &'t TokenEntry, now: Moment) -> Self {
        let texts = |texts: &'t [crate::policy::Placed<String>]| {
            texts.iter().map(|text| text.value.as_str()).collect()
        };
        // A previous secret whose grace is over is no secret any more.
        let previous = entry.previous.as_ref().map(|previous| previous.valid_until);
        Self {
            id: &entry.id.value,
            name: entry.name.as_ref().map(|name| name.value.as_str()),
            state: TokenState::of(entry.disabled, entry.expires_at, now),
            resources: texts(&entry.resources),
            groups: texts(&entry.groups),
            created_at: entry.created_at.map(rfc3339),
            expires_at: entry.expires_at.map(rfc3339),
            disabled: entry.disabled,
            previous_valid_until: previous.filter(|end| now < *end).map(rfc3339),
            limits: entry.limits.map(|limits| LimitsView {
                requests_per_second: limits.requests_per_second,
                burst: limits.burst,
                max_in_flight: limits.max_in_flight,
            }),
            labels: &entry.labels,
        }
    }

    fn state_cell(&self) -> Cell {
        match self.state {
            TokenState::Active => Cell::good(self.state.as_str()),
            TokenState::Expired | TokenState::Disabled => Cell::bad(self.state.as_str()),
        }
    }

    /// One line for each key, for people.
    pub(super) fn details(&self) -> Table {
        let mut table = Table::bare();
        let mut line = |key: &str, value: Option<Cell>| {
            table.row(vec![Cell::heading(key), value.unwrap_or_else(|| Cell::faint("-"))]);
        };
        let list = |texts: &[&str]| (!texts.is_empty()).then(|| Cell::plain(texts.join(", ")));
        line("id", Some(Cell::plain(self.id)));
        line("name", self.name.map(Cell::plain));
        line("state", Some(self.state_cell()));
        line("resources", list(&self.resources));
        line("groups", list(&self.groups));
        line("created", self.created_at.as_deref().map(Cell::plain));
        line("expires", Some(Cell::plain(self.expires_at.as_deref().unwrap_or("never"))));
        if let Some(end) = &self.previous_valid_until {
            line("previous secret", Some(Cell::plain(format!("valid until {end}"))));
        }
        if let Some(limits) = &self.limits {
            let limits = [
                ("requests per second", limits.requests_per_second),
                ("burst", limits.burst),
                ("in flight", limits.max_in_flight),
            ];
            let given = |(key, value): (&str, Option<u32>)| Some(format!("{} {key}", value?));
            let given: Vec<String> = limits.into_iter().filter_map(given).collect();
            line("limits", Some(Cell::plain(given.join(", "))));
        }
        for (key, value) in self.labels {
            line(&format!("label {key}"), Some(Cell::plain(value.as_str())));
        }
        table
    }
}

/// A line for each token, for people.
pub(super) fn table(tokens: &[TokenView<'_>]) -> Table {
    let mut table = Table::new(&["ID", "STATE", "RESOURCES", "GROUPS", "EXPIRES", "NAME"]);
    for token in tokens {
        let expires = match &token.expires_at {
            Some(end) => Cell::plain(end.as_str()),
            None => Cell::faint("never"),
        };
        table.row(vec![
            Cell::plain(token.id),
            token.state_cell(),
            Cell::plain(token.resources.join(",")),
            Cell::plain(token.groups.join(",")),
            expires,
            Cell::plain(token.name.unwrap_or("")),
        ]);
    }
    table
}
