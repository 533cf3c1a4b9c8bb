//! The list of tokens: filtered, sorted, page by page.

use std::cmp::Ordering;
use std::sync::atomic::Ordering as Atomic;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{Response, StatusCode};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::problem::Refusal;
use super::response::{Body, json_of};
use super::view::UsedTokenView;
use crate::live::NamespaceInForce;
use crate::policy::{Moment, TokenFacts, TokenState};

/// Tokens on a page, unless the request says how many.
const DEFAULT_LIMIT: usize = 50;

/// The most tokens on a page.
pub(super) const MAX_LIMIT: usize = 1000;

/// A page of the list.
#[derive(Serialize, ToSchema)]
pub(super) struct TokensView<'n> {
    /// The tokens.
    tokens: Vec<UsedTokenView<'n>>,
    /// The state of the token file that is in force, for `If-Match`.
    generation: String,
    /// Asks for the next page; `null` on the last one.
    #[schema(required)]
    next_cursor: Option<String>,
    /// How many tokens the filters leave, on all pages.
    total: usize,
}

/// By what tokens are sorted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Key {
    File,
    Name,
    Id,
    State,
    CreatedAt,
    ExpiresAt,
    LastUsedAt,
}

/// What the parameter `sort` may say; with `-` before it, from the last to the first.
pub(super) const SORT_KEYS: [&str; 7] =
    ["file", "name", "id", "state", "created_at", "expires_at", "last_used_at"];

const KEYS: [Key; 7] =
    [Key::File, Key::Name, Key::Id, Key::State, Key::CreatedAt, Key::ExpiresAt, Key::LastUsedAt];

/// What the query of a request asks for.
#[derive(Debug)]
struct Query {
    text: String,
    group: Option<String>,
    state: Option<TokenState>,
    sort: String,
    key: Key,
    descending: bool,
    cursor: Option<Cursor>,
    limit: usize,
}

/// Where the next page begins: after this token, wherever it stands by then; where it stood, if it
/// is gone. Tokens that go between two pages may make others be shown twice, but pass none over.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Cursor {
    after: String,
    key: Option<SortKey>,
    /// Its place in the file.
    place: usize,
    /// How many tokens the file had.
    count: usize,
    sort: String,
}

/// By what a token is sorted.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
enum SortKey {
    Number(i64),
    Text(String),
}

/// A token in the list.
#[derive(Debug)]
struct Entry {
    key: Option<SortKey>,
    /// Twice its place in the file: so there is room between two tokens.
    twice_place: usize,
}

impl Entry {
    fn place(&self) -> usize {
        self.twice_place / 2
    }
}

impl Query {
    fn parse(query: Option<&str>) -> Result<Self, Refusal> {
        let mut parsed = Self {
            text: String::new(),
            group: None,
            state: None,
            sort: "file".into(),
            key: Key::File,
            descending: false,
            cursor: None,
            limit: DEFAULT_LIMIT,
        };
        let mut seen = Vec::new();
        for (name, value) in form_urlencoded::parse(query.unwrap_or_default().as_bytes()) {
            if seen.contains(&name) {
                return Err(Refusal::of_field(&name, "it is given twice"));
            }
            // A parameter without a value filters nothing, as an empty field of a form.
            match &*name {
                "q" => parsed.text = value.to_lowercase(),
                "group" => {
                    parsed.group = Some(value.into_owned()).filter(|group| !group.is_empty())
                }
                "state" if value.is_empty() => {}
                "state" => {
                    let state = TokenState::ALL.into_iter().find(|state| state.as_str() == value);
                    let expected = "write `active`, `expired` or `disabled`";
                    parsed.state = Some(state.ok_or_else(|| Refusal::of_field("state", expected))?);
                }
                "sort" if value.is_empty() => {}
                "sort" => parsed.sort_by(&value)?,
                "cursor" if value.is_empty() => {}
                "cursor" => parsed.cursor = Some(Cursor::decoded(&value)?),
                "limit" if value.is_empty() => {}
                "limit" => {
                    let limit = value.parse().ok().filter(|limit| (1..=MAX_LIMIT).contains(limit));
                    let expected = format!("write a number from 1 to {MAX_LIMIT}");
                    parsed.limit = limit.ok_or_else(|| Refusal::of_field("limit", expected))?;
                }
                _ => return Err(Refusal::of_field(&name, "there is no such parameter")),
            }
            seen.push(name);
        }
        match &parsed.cursor {
            Some(cursor) if cursor.sort != parsed.sort => {
                Err(Refusal::of_field("cursor", "it belongs to a list that is sorted otherwise"))
            }
            _ => Ok(parsed),
        }
    }

    fn sort_by(&mut self, text: &str) -> Result<(), Refusal> {
        let name = text.strip_prefix('-').unwrap_or(text);
        let place = SORT_KEYS.iter().position(|key| *key == name);
        let key = place.and_then(|place| KEYS.get(place)).ok_or_else(|| {
            let expected =
                format!("write one of {}, with `-` before it or not", SORT_KEYS.join(", "));
            Refusal::of_field("sort", expected)
        })?;
        self.key = *key;
        self.descending = text.starts_with('-');
        self.sort = text.into();
        Ok(())
    }

    fn accepts(&self, facts: &TokenFacts<'_>, now: Moment) -> bool {
        self.state.is_none_or(|state| facts.state(now) == state)
            && self
                .group
                .as_ref()
                .is_none_or(|group| facts.groups.iter().any(|own| **own == **group))
            && (self.text.is_empty() || self.finds(facts))
    }

    fn finds(&self, facts: &TokenFacts<'_>) -> bool {
        let text = self.text.as_str();
        facts.name.is_some_and(|name| contains(name, text))
            || contains(facts.id.as_str(), text)
            || facts.resources.iter().any(|resource| contains(&resource.to_string(), text))
            || facts.labels.iter().any(|(key, value)| contains(key, text) || contains(value, text))
    }
}

/// Whether `needle`, which is in lower case, is in `text` in any letter case.
fn contains(text: &str, needle: &str) -> bool {
    if text.is_ascii() {
        let mut windows = text.as_bytes().windows(needle.len().max(1));
        return windows.any(|window| window.eq_ignore_ascii_case(needle.as_bytes()));
    }
    text.to_lowercase().contains(needle)
}

impl Cursor {
    fn encoded(&self) -> String {
        URL_SAFE_NO_PAD.encode(serde_json::to_vec(self).unwrap_or_default())
    }

    fn decoded(text: &str) -> Result<Self, Refusal> {
        let decoded = URL_SAFE_NO_PAD.decode(text).ok();
        decoded
            .and_then(|bytes| serde_json::from_slice(&bytes).ok())
            .ok_or_else(|| Refusal::of_field("cursor", "it is none that this API gave"))
    }
}

/// A page of the tokens in force.
pub(super) fn tokens(
    namespace: &NamespaceInForce,
    query: Option<&str>,
    now: Moment,
) -> Result<Response<Body>, Refusal> {
    let query = Query::parse(query)?;
    let policy = &namespace.policy;
    let count = policy.tokens().len();
    let mut entries: Vec<Entry> = policy
        .tokens()
        .enumerate()
        .filter(|(_, facts)| query.accepts(facts, now))
        .map(|(place, facts)| {
            let usage =
                namespace.usage.get(place).map(|usage| usage.last_used.load(Atomic::Relaxed));
            Entry { key: query.key_of(&facts, usage, now), twice_place: 2 * place }
        })
        .collect();
    entries.sort_by(|one, other| query.order(one, other));
    let start = query.cursor.as_ref().map_or(0, |cursor| {
        let twice_place = match policy.facts(&cursor.after) {
            Some((place, _)) => 2 * place,
            None => {
                // What is shown from the file's end on keeps its places when later tokens go.
                let is_from_the_end = query.key == Key::File && query.descending;
                let gone = cursor.count.saturating_sub(count).saturating_sub(1);
                let gone = if is_from_the_end { 0 } else { gone };
                let place = cursor.place.min(count).saturating_sub(gone);
                (2 * place).saturating_sub(1)
            }
        };
        let last = Entry { key: cursor.key.clone(), twice_place };
        entries.partition_point(|entry| query.order(entry, &last) != Ordering::Greater)
    });
    let end = (start + query.limit).min(entries.len());
    let page = entries.get(start..end).unwrap_or_default();
    let view = |entry: &Entry| {
        let usage = namespace.usage.get(entry.place())?;
        Some(UsedTokenView::new(&policy.facts_at(entry.place())?, usage, now))
    };
    let next_cursor = page.last().filter(|_| end < entries.len()).and_then(|last| {
        let cursor = Cursor {
            after: policy.facts_at(last.place())?.id.as_str().into(),
            key: last.key.clone(),
            place: last.place(),
            count,
            sort: query.sort.clone(),
        };
        Some(cursor.encoded())
    });
    let view = TokensView {
        tokens: page.iter().filter_map(view).collect(),
        generation: namespace.generation.to_hex(),
        next_cursor,
        total: entries.len(),
    };
    Ok(json_of(StatusCode::OK, &namespace.generation, &view))
}

impl Query {
    fn key_of(
        &self,
        facts: &TokenFacts<'_>,
        last_used: Option<i64>,
        now: Moment,
    ) -> Option<SortKey> {
        let text = |text: &str| Some(SortKey::Text(text.into()));
        let at = |moment: Option<Moment>| moment.map(|Moment(at)| SortKey::Number(at));
        match self.key {
            Key::File => None,
            Key::Name => facts.name.map(|name| SortKey::Text(name.to_lowercase())),
            Key::Id => text(facts.id.as_str()),
            Key::State => text(facts.state(now).as_str()),
            Key::CreatedAt => at(facts.created_at),
            Key::ExpiresAt => at(facts.expires_at),
            Key::LastUsedAt => at(last_used.filter(|used| *used > 0).map(Moment)),
        }
    }

    /// What has no key comes last, in both directions; what has the same is in the file's order.
    fn order(&self, one: &Entry, other: &Entry) -> Ordering {
        let directed = |order: Ordering| if self.descending { order.reverse() } else { order };
        let by_key = match (&one.key, &other.key) {
            (None, None) => Ordering::Equal,
            (None, Some(_)) => Ordering::Greater,
            (Some(_), None) => Ordering::Less,
            (Some(one), Some(other)) => directed(one.cmp(other)),
        };
        let by_place = one.twice_place.cmp(&other.twice_place);
        let by_place = if self.key == Key::File { directed(by_place) } else { by_place };
        by_key.then(by_place)
    }
}
