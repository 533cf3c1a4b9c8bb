//! The list of tokens: its pages, its order, its filters.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::time::Instant;

use serde_json::{Value, json};

use super::desk::{Desk, TOKENS, ids, path_of, text};
use crate::support::http1::get;
use crate::support::tokens;

/// A token of a long list. What is sorted by is there in many tokens alike, and missing in some.
struct Entry {
    id: String,
    name: Option<String>,
    created_at: Option<String>,
    expires_at: Option<String>,
    disabled: bool,
    group: &'static str,
}

impl Entry {
    fn nth(number: usize) -> Self {
        // Neither in the order of the file nor backwards.
        let mixed = number * 7919 % 1009;
        Self {
            id: format!("t{mixed:04}-{number:03}"),
            name: (!number.is_multiple_of(5)).then(|| {
                format!("{} {}", if mixed.is_multiple_of(2) { "Team" } else { "team" }, mixed % 37)
            }),
            created_at: (!number.is_multiple_of(7))
                .then(|| format!("2026-{:02}-11T10:00:00Z", mixed % 12 + 1)),
            expires_at: (!number.is_multiple_of(3))
                .then(|| format!("20{:02}-06-01T00:00:00Z", 10 + mixed % 60)),
            disabled: number.is_multiple_of(11),
            group: if number.is_multiple_of(4) { "model-management" } else { "model-evaluation" },
        }
    }

    fn state(&self) -> &'static str {
        // Far from the present day on both sides, so that it is the same on any day of a run.
        match &self.expires_at {
            _ if self.disabled => "disabled",
            Some(at) if at.as_str() < "2026-06-02" => "expired",
            _ => "active",
        }
    }

    fn toml(&self) -> String {
        let mut toml = format!(
            "\n[[token]]\nid = \"{}\"\nhash = \"{}\"\nresources = [\"m-{}\"]\ngroups = [\"{}\"]\n",
            self.id,
            tokens::hash(&tokens::secret(&self.id)),
            self.id.to_uppercase(),
            self.group,
        );
        for (key, value) in [("created_at", &self.created_at), ("expires_at", &self.expires_at)] {
            if let Some(value) = value {
                writeln!(toml, "{key} = {value}").unwrap();
            }
        }
        if let Some(name) = &self.name {
            writeln!(toml, "name = \"{name}\"").unwrap();
        }
        if self.disabled {
            toml.push_str("disabled = true\n");
        }
        toml
    }
}

fn entries() -> Vec<Entry> {
    (0..250).map(Entry::nth).collect()
}

fn desk_of(entries: &[Entry]) -> Desk {
    let file: String = entries.iter().map(Entry::toml).collect();
    Desk::before(
        &(tokens::file(&[]).split("\n[[token]]").next().unwrap().to_owned() + &file),
        |_| {},
    )
}

/// All ids of a list, page by page.
fn pages(desk: &Desk, query: &str) -> Vec<String> {
    let mut all = Vec::new();
    let mut cursor = String::new();
    loop {
        let list = desk.get(&format!("{TOKENS}?{query}{cursor}")).json();
        all.extend(ids(&list));
        match &list["next_cursor"] {
            Value::Null => return all,
            next => cursor = format!("&cursor={}", text(next)),
        }
    }
}

#[test]
fn every_order_shows_each_token_once_whatever_the_pages() {
    let entries = entries();
    let desk = desk_of(&entries);
    let in_file: Vec<String> = entries.iter().map(|entry| entry.id.clone()).collect();
    let of: BTreeMap<&str, &Entry> =
        entries.iter().map(|entry| (entry.id.as_str(), entry)).collect();
    // What is sorted by; none stands last in both directions.
    type SortKey = fn(&Entry) -> Option<String>;
    let keys: [(&str, Option<SortKey>); 7] = [
        ("file", None),
        ("name", Some(|entry| entry.name.as_ref().map(|name| name.to_lowercase()))),
        ("id", Some(|entry| Some(entry.id.clone()))),
        ("state", Some(|entry| Some(entry.state().to_owned()))),
        ("created_at", Some(|entry| entry.created_at.clone())),
        ("expires_at", Some(|entry| entry.expires_at.clone())),
        ("last_used_at", Some(|_| None)),
    ];
    for (name, key) in keys {
        for descending in [false, true] {
            let sort = if descending { format!("-{name}") } else { name.to_owned() };
            let whole = pages(&desk, &format!("limit=1000&sort={sort}"));
            for limit in [7, 50, 249, 250] {
                assert_eq!(
                    pages(&desk, &format!("limit={limit}&sort={sort}")),
                    whole,
                    "{sort} by {limit}"
                );
            }
            let mut sorted = in_file.clone();
            match key {
                None if descending => sorted.reverse(),
                None => {}
                Some(key) => sorted.sort_by(|one, other| {
                    let (one, other) = (key(of[one.as_str()]), key(of[other.as_str()]));
                    let order = if descending { other.cmp(&one) } else { one.cmp(&other) };
                    one.is_none().cmp(&other.is_none()).then(order)
                }),
            }
            assert_eq!(whole.iter().collect::<BTreeSet<_>>().len(), 250, "{sort}");
            if let Some(key) = key {
                let values = |list: &[String]| -> Vec<Option<String>> {
                    list.iter().map(|id| key(of[id.as_str()])).collect()
                };
                assert_eq!(values(&whole), values(&sorted), "{sort}");
            } else {
                assert_eq!(whole, sorted, "{sort}");
            }
        }
    }
    assert_eq!(pages(&desk, ""), in_file, "by default as in the file");
    desk.finish();
}

#[test]
fn filters_leave_what_they_say() {
    let entries = entries();
    let desk = desk_of(&entries);
    let all = |keep: &dyn Fn(&Entry) -> bool| -> Vec<String> {
        entries.iter().filter(|entry| keep(entry)).map(|entry| entry.id.clone()).collect()
    };
    let named = |entry: &Entry, part: &str| {
        entry.name.as_ref().is_some_and(|name| name.to_lowercase().contains(part))
    };
    #[rustfmt::skip]
    let table: Vec<(&str, Vec<String>)> = vec![
        ("q=", all(&|_| true)),
        ("group=&state=&sort=", all(&|_| true)),
        ("state=active", all(&|entry| entry.state() == "active")),
        ("state=expired", all(&|entry| entry.state() == "expired")),
        ("state=disabled", all(&|entry| entry.state() == "disabled")),
        ("group=model-management", all(&|entry| entry.group == "model-management")),
        ("group=model", vec![]),
        ("group=MODEL-MANAGEMENT", vec![]),
        ("q=team%203", all(&|entry| named(entry, "team 3"))),
        ("q=TEAM+3", all(&|entry| named(entry, "team 3"))),
        ("q=m-T0", all(&|entry| entry.id.starts_with("t0"))),
        ("q=-007", all(&|entry| entry.id.ends_with("-007"))),
        ("q=nothing-of-the-kind", vec![]),
        ("q=team&state=active&group=model-management", all(&|entry| named(entry, "team") && entry.state() == "active" && entry.group == "model-management")),
    ];
    for (query, expected) in table {
        let list = desk.get(&format!("{TOKENS}?{query}&limit=1")).json();
        assert_eq!(list["total"], expected.len(), "{query}");
        assert_eq!(ids(&list), expected[..expected.len().min(1)], "{query}");
        assert_eq!(pages(&desk, &format!("{query}&limit=9")), expected, "{query}");
    }
    desk.finish();
}

#[test]
fn what_is_looked_for_may_be_in_any_letter_case_and_script() {
    let desk = Desk::new();
    let (id, _) = desk.create(&json!({
        "name": "Équipe ÖKO ИРИС 虹膜",
        "resources": ["Org/Model-*"],
        "groups": ["model-evaluation"],
        "labels": {"Cost Centre": "Straße 4711"},
    }));
    for query in [
        "%C3%A9quipe",
        "%C3%96ko",
        "%D0%B8%D1%80%D0%B8%D1%81",
        "%E8%99%B9",
        "ORG%2FMODEL",
        "cost+centre",
        "4711",
        &id,
        &id.to_lowercase(),
    ] {
        let found = ids(&desk.get(&format!("{TOKENS}?q={query}")).json());
        assert_eq!(found, [id.as_str()], "{query}");
    }
    // What a person may not read, nobody can search for.
    let hash = tokens::hash(&tokens::secret("eval"));
    for secret in [&hash, &hash["blake3:".len()..], &hash[10..20]] {
        assert_eq!(desk.get(&format!("{TOKENS}?q={secret}")).json()["total"], 0);
    }
    desk.finish();
}

#[test]
fn a_wrong_parameter_is_named() {
    let desk = Desk::new();
    for (query, field) in [
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("limit=-1", "limit"),
        ("limit=ten", "limit"),
        ("limit=1e2", "limit"),
        ("limit=99999999999999999999", "limit"),
        ("state=gone", "state"),
        ("state=Active", "state"),
        ("sort=hash", "sort"),
        ("sort=--name", "sort"),
        ("sort=name,id", "sort"),
        ("cursor=x", "cursor"),
        ("cursor=e30", "cursor"),
        ("cursor=bnVsbA", "cursor"),
        ("offset=5", "offset"),
        ("q=a&q=b", "q"),
        ("q=a&%71=b", "q"),
    ] {
        let response = desk.get(&format!("{TOKENS}?{query}"));
        assert_eq!((response.status, &response.json()["field"]), (422, &json!(field)), "{query}");
    }
    // What is left empty, as a form sends it, asks for nothing.
    let all = desk.get(TOKENS).json();
    let empty = desk.get(&format!("{TOKENS}?q=&group=&state=&sort=&cursor=&limit="));
    assert_eq!((empty.status, empty.json()), (200, all));
    // A cursor is one of a certain order.
    let cursor = text(&desk.get(&format!("{TOKENS}?limit=1&sort=name")).json()["next_cursor"]);
    for sort in ["", "&sort=-name", "&sort=id"] {
        let response = desk.get(&format!("{TOKENS}?limit=1&cursor={cursor}{sort}"));
        assert_eq!((response.status, &response.json()["field"]), (422, &json!("cursor")), "{sort}");
    }
    desk.finish();
}

#[test]
fn pages_go_on_where_they_were_when_tokens_come_and_go_between_them() {
    for sort in ["file", "-file", "id", "-id", "name", "expires_at"] {
        let desk = desk_of(&entries());
        let whole = pages(&desk, &format!("limit=1000&sort={sort}"));
        let first = desk.get(&format!("{TOKENS}?limit=50&sort={sort}")).json();
        let shown = ids(&first);
        assert_eq!(shown, whole[..50], "{sort}");
        let go_on = || {
            let cursor = text(&first["next_cursor"]);
            ids(&desk.get(&format!("{TOKENS}?limit=1000&sort={sort}&cursor={cursor}")).json())
        };
        // The one to which the cursor points goes.
        assert_eq!(desk.delete(&path_of(&shown[49])).status, 204);
        assert_eq!(go_on(), whole[50..], "{sort}: the last that was shown is gone");
        // One that was shown before goes too; then it is better to show one twice than never.
        assert_eq!(desk.delete(&path_of(&shown[10])).status, 204);
        let rest = go_on();
        let missing: Vec<_> = whole[50..].iter().filter(|id| !rest.contains(id)).collect();
        assert!(missing.is_empty(), "{sort}: never shown: {missing:?}");
        desk.finish();
    }
}

#[test]
fn pages_of_a_filter_go_on_when_the_last_token_no_longer_passes_it() {
    let desk = desk_of(&entries());
    let query = "state=active&limit=20";
    let whole = pages(&desk, "state=active&limit=1000");
    let first = desk.get(&format!("{TOKENS}?{query}")).json();
    assert_eq!(desk.patch(&path_of(&whole[19]), &json!({"disabled": true})).status, 200);
    let cursor = text(&first["next_cursor"]);
    let rest = ids(&desk.get(&format!("{TOKENS}?state=active&limit=1000&cursor={cursor}")).json());
    let missing: Vec<_> = whole[20..].iter().filter(|id| !rest.contains(id)).collect();
    assert!(missing.is_empty(), "never shown: {missing:?}");
    desk.finish();
}

#[test]
fn what_was_used_last_comes_first_when_asked_for() {
    let desk = Desk::new();
    assert_eq!(desk.rig.ask(&get("/score/allowed").token("all")).status, 200);
    crate::support::eventually("the use is counted", || {
        (desk.token("all")["requests"] == 1).then_some(())
    });
    for sort in ["last_used_at", "-last_used_at"] {
        // Those never used come last in both directions.
        assert_eq!(pages(&desk, &format!("sort={sort}"))[0], "all", "{sort}");
    }
    desk.finish();
}

/// How many tokens the test of many tokens has: a debug build that shares two cores with the other
/// tests needs minutes to change a file of 100 000. A release build takes them in seconds.
const MANY: usize = if cfg!(debug_assertions) { 20_000 } else { 100_000 };

#[test]
fn many_thousand_tokens_are_listed_searched_and_changed() {
    const COUNT: usize = MANY;
    let mut file = tokens::file(&[]).split("\n[[token]]").next().unwrap().to_owned();
    for number in 0..COUNT {
        let hash = blake3::hash(number.to_string().as_bytes()).to_hex();
        write!(
            file,
            "\n[[token]]\nid = \"t{number:06}\"\nname = \"team {}\"\nhash = \"blake3:{hash}\"\nresources = [\"model-{}*\"]\n\
             groups = [\"model-evaluation\"]\n",
            number % 1000,
            number % 10,
        )
        .unwrap();
    }
    let began = Instant::now();
    let desk = Desk::before(&file, |settings| settings.log = "level = \"info\"\n".into());
    eprintln!("{COUNT} tokens: ready after {:?}", began.elapsed());
    let timed = |what: &str, query: &str| {
        let began = Instant::now();
        let list = desk.get(&format!("{TOKENS}?{query}")).json();
        eprintln!("{COUNT} tokens: {what} in {:?}", began.elapsed());
        list
    };
    let id = |number: usize| format!("t{number:06}");
    let first = timed("first page", "");
    assert_eq!(first["total"], COUNT);
    assert_eq!(ids(&first), (0..50).map(id).collect::<Vec<_>>());
    let last = timed("last page", "sort=-id&limit=1000");
    assert_eq!(ids(&last), (COUNT - 1000..COUNT).rev().map(id).collect::<Vec<_>>());
    let found = timed("search", "q=team+777&sort=-name&limit=1000");
    assert_eq!(found["total"], COUNT / 1000);
    let numbers: Vec<String> = (0..COUNT).filter(|number| number % 1000 == 777).map(id).collect();
    let mut all = ids(&found);
    all.sort_unstable();
    assert_eq!(all, numbers);
    assert_eq!(timed("search for an id", &format!("q={}", id(COUNT - 1)))["total"], 1);
    let began = Instant::now();
    let mut seen = BTreeSet::new();
    let mut cursor = String::new();
    for _ in 0..10 {
        let list = desk.get(&format!("{TOKENS}?sort=name&limit=1000{cursor}")).json();
        seen.extend(ids(&list));
        cursor = format!("&cursor={}", text(&list["next_cursor"]));
    }
    assert_eq!(seen.len(), 10_000);
    eprintln!("{COUNT} tokens: ten pages of 1000 by name in {:?}", began.elapsed());
    let began = Instant::now();
    let (new, secret) = desk.create(
        &json!({"name": "one more", "resources": ["allowed"], "groups": ["model-evaluation"]}),
    );
    eprintln!("{COUNT} tokens: one more in {:?}", began.elapsed());
    assert_eq!(desk.status_with(&secret), 200);
    assert_eq!(ids(&timed("the last of the file", "sort=-file&limit=1")), [new]);
    assert!(desk.file().starts_with(&file), "all others stand as they stood");
    desk.finish();
}
