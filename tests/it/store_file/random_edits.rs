//! Random files in many ways of writing, and random sequences of changes: each change touches the
//! lines of its own entry and no others.

use std::collections::BTreeMap;
use std::ops::Range;

use faregate::policy::amend::{self, AmendError, Amended, Edit, NewToken, TokenPatch};
use faregate::policy::{Document, Limits, Moment};
use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::{Index, select};

use super::{Folder, NOW, entropy, rules};

/// How an entry of the first file is written.
#[derive(Debug, Clone)]
struct Style {
    /// Which of the optional parts it has, one bit each.
    parts: u16,
    /// A comment on the line above the header.
    attached_comment: bool,
    /// A comment with blank lines around, which belongs to nobody.
    free_comment: bool,
    is_admin: bool,
}

#[derive(Debug, Clone)]
enum Op {
    Issue(NewTokenParts),
    Patch(Index, PatchParts),
    Regenerate(Index, bool),
    Delete(Index),
    IssueAdmin,
    DeleteAdmin(Index),
}

#[derive(Debug, Clone)]
struct NewTokenParts {
    name: Option<String>,
    resources: Vec<String>,
    labels: BTreeMap<String, String>,
}

#[derive(Debug, Clone)]
struct PatchParts {
    name: Option<Option<String>>,
    resources: Option<Vec<String>>,
    expires_at: Option<Option<i64>>,
    limits: Option<Option<(Option<u32>, Option<u32>)>>,
    labels: Option<BTreeMap<String, String>>,
    disabled: Option<bool>,
}

fn names() -> impl Strategy<Value = String> {
    prop_oneof![
        "[ -~]{1,20}",
        "[\"'\\[\\]#=\\\\{},.]{1,12}",
        "\\PC{1,8}",
        Just("[[token]]".to_owned()),
    ]
    .prop_filter("names hold no control character", |name| !name.chars().any(char::is_control))
}

fn resources() -> impl Strategy<Value = Vec<String>> {
    vec(select(vec!["iris*", "fraud-v2", "*", "a/b*", "m'1\"x", "old"]), 0..5)
        .prop_map(|list| list.into_iter().map(str::to_owned).collect())
}

fn labels() -> impl Strategy<Value = BTreeMap<String, String>> {
    btree_map(
        select(vec!["team", "cost center", "a.b", "é"]).prop_map(str::to_owned),
        names(),
        0..4,
    )
}

fn styles() -> impl Strategy<Value = Vec<Style>> {
    let style = (any::<u16>(), any::<bool>(), any::<bool>(), prop::bool::weighted(0.2)).prop_map(
        |(parts, attached_comment, free_comment, is_admin)| Style {
            parts,
            attached_comment,
            free_comment,
            is_admin,
        },
    );
    vec(style, 0..6)
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let limits = (option::of(1..9_u32), option::of(1..9_u32));
    let patch =
        (
            option::of(option::of(names())),
            option::of(resources()),
            option::of(option::of(1..1000_i64)),
            option::of(option::of(limits)),
            option::of(labels()),
            option::of(any::<bool>()),
        )
            .prop_map(|(name, resources, expires_at, limits, labels, disabled)| {
                PatchParts { name, resources, expires_at, limits, labels, disabled }
            });
    let new = (option::of(names()), resources(), labels())
        .prop_map(|(name, resources, labels)| NewTokenParts { name, resources, labels });
    let op = prop_oneof![
        2 => new.prop_map(Op::Issue),
        5 => (any::<Index>(), patch).prop_map(|(index, patch)| Op::Patch(index, patch)),
        2 => (any::<Index>(), any::<bool>()).prop_map(|(index, grace)| Op::Regenerate(index, grace)),
        2 => any::<Index>().prop_map(Op::Delete),
        1 => Just(Op::IssueAdmin),
        1 => any::<Index>().prop_map(Op::DeleteAdmin),
    ];
    vec(op, 1..10)
}

/// A file as people write them, some tidy and some not.
fn written(styles: &[Style], crlf: bool, last_newline: bool) -> String {
    let mut text = String::from("# tokens\nversion = 1   # the form\n");
    for (number, style) in styles.iter().enumerate() {
        let hash = format!("blake3:{:064x}", number + 1);
        if style.free_comment {
            text.push_str(&format!("\n# free {number}\n\n"));
        } else if style.parts & 1 != 0 {
            text.push('\n');
        }
        if style.attached_comment {
            text.push_str(&format!("# attached {number}\n"));
        }
        if style.is_admin {
            text.push_str(&format!("[[admin]]\nname = \"admin {number}\"\nhash = \"{hash}\"\n"));
            continue;
        }
        let has = |bit: u16| style.parts & (1 << bit) != 0;
        text.push_str("[[token]]   # header\n");
        let (id, equal) = (format!("t{number}"), if has(1) { "         =" } else { " =" });
        text.push_str(&format!("id{equal} \"{id}\"\n"));
        if has(2) {
            text.push_str("name = 'it # is \"[[token]]\"'  # a name\n");
        }
        if has(3) {
            text.push_str(&format!("  hash = \"{hash}\"\n"));
        }
        match (has(4), has(5)) {
            (true, true) => {
                text.push_str("resources = [\n  # flowers\n  \"iris*\",  # all\n  \"old\"\n]\n")
            }
            (true, false) => text.push_str("resources = [\"iris*\", \"fraud-v2\"] # two\n"),
            (false, _) => {}
        }
        if has(6) {
            text.push_str("groups = [ 'model-evaluation' ]\n");
        }
        if has(7) {
            text.push_str("created_at = 2026-11-23T10:00:00Z\n\n# why?\nexpires_at = 2027-01-01T00:00:00+02:00\n");
        }
        if has(8) {
            text.push_str("disabled=false # on\n");
        }
        if !has(3) {
            text.push_str(&format!("\"hash\" = '{hash}'\n"));
        }
        let previous = format!("blake3:{:064x}", 1000 + number);
        match (has(9), has(10)) {
            (true, true) => text.push_str(&format!(
                "previous.hash = \"{previous}\"\nprevious.valid_until = 2026-12-01T00:00:00Z # grace\n"
            )),
            (true, false) => text.push_str(&format!(
                "previous = {{ valid_until = 2026-12-01T00:00:00Z, hash = \"{previous}\" }}\n"
            )),
            (false, _) => {}
        }
        match (has(11), has(12)) {
            (true, true) => text.push_str("limits = {requests_per_second=5,burst=3}\n"),
            (true, false) => {
                text.push_str("limits.requests_per_second = 5\n# odd\nlimits.burst = 3\n")
            }
            (false, _) => {}
        }
        match (has(13), has(14)) {
            (true, true) => text
                .push_str("\n# who\n[token.labels]\n# it\nteam = \"x\" # theirs\n\"a.b\" = '1'\n"),
            (true, false) => text.push_str("labels = { team = \"x\", \"cost center\" = \"7\" }\n"),
            (false, _) => {}
        }
    }
    if !last_newline {
        text.pop();
    }
    if crlf { text.replace('\n', "\r\n") } else { text }
}

fn patch_of(parts: &PatchParts) -> TokenPatch {
    TokenPatch {
        name: parts.name.clone(),
        resources: parts.resources.clone(),
        groups: None,
        expires_at: parts.expires_at.map(|end| end.map(|end| Moment(NOW.0 + end))),
        limits: parts.limits.map(|limits| {
            limits.map(|(rate, flight)| Limits {
                requests_per_second: rate,
                burst: None,
                max_in_flight: flight,
            })
        }),
        labels: parts.labels.clone(),
        disabled: parts.disabled,
    }
}

/// Makes a change; none when there is nothing that it could be made to.
fn amended(document: &Document, op: &Op, seed: u64) -> Option<Result<Amended, AmendError>> {
    let token = |index: &Index| {
        let tokens = &document.tokens;
        (!tokens.is_empty()).then(|| tokens[index.index(tokens.len())].id.value.clone())
    };
    let entropy = entropy(seed);
    Some(match op {
        Op::Issue(parts) => {
            let new = NewToken {
                name: parts.name.clone(),
                resources: parts.resources.clone(),
                labels: parts.labels.clone(),
                ..NewToken::default()
            };
            Ok(amend::issue(document, new, &entropy, NOW).0)
        }
        Op::Patch(index, parts) => amend::patch(document, &token(index)?, patch_of(parts)),
        Op::Regenerate(index, grace) => {
            let grace = if *grace { 3600 } else { 0 };
            amend::regenerate(document, &token(index)?, grace, &entropy, NOW)
                .map(|(amended, _)| amended)
        }
        Op::Delete(index) => amend::delete(document, &token(index)?),
        Op::IssueAdmin => amend::issue_admin_key(document, &format!("made {seed}"), &entropy)
            .map(|(amended, _)| amended),
        Op::DeleteAdmin(index) => {
            let admins = &document.admins;
            let place = (!admins.is_empty()).then(|| index.index(admins.len()))?;
            amend::delete_admin_key(document, &admins[place].name.value)
        }
    })
}

/// Where entry number `number` of a kind may stand, as lines: from the last key of what is before it
/// to the header of what is after it.
fn zone(lines: &[&str], kind: &str, number: usize) -> Range<usize> {
    let is_header = |line: &str| line.starts_with("[[");
    let headers: Vec<usize> = (0..lines.len()).filter(|&at| is_header(lines[at])).collect();
    let is_kind = |&at: &usize| lines[at].starts_with(&format!("[[{kind}]]"));
    let own = headers.iter().copied().filter(is_kind).nth(number).unwrap();
    let is_content = |line: &str| {
        let line = line.trim();
        !line.is_empty() && !line.starts_with('#')
    };
    let start = (0..own).rev().find(|&at| is_content(lines[at])).map_or(0, |at| at + 1);
    let end = headers.iter().copied().find(|at| *at > own).unwrap_or(lines.len());
    start..end
}

fn lines_of(text: &str) -> Vec<&str> {
    // Without a line end at the very end, which may be added there.
    text.trim_end_matches(['\r', '\n']).split_inclusive('\n').map(|line| line.trim_end()).collect()
}

/// Fails unless everything outside of the changed entry is byte for byte what it was.
fn assert_only_the_entry_differs(before: &str, after: &str, document: &Document, edit: &Edit) {
    let (old, new) = (lines_of(before), lines_of(after));
    let place = |id: &str| document.tokens.iter().position(|token| token.id.value == id).unwrap();
    let (old_zone, new_zone) = match edit {
        Edit::AddToken(_) => {
            assert!(after.starts_with(before), "{before}\n----\n{after}");
            return;
        }
        Edit::AddAdmin(_) => {
            let number = document.admins.len();
            let zone = zone(&new, "admin", number);
            let inserted = new.len() - old.len();
            // Some window of as many lines as were added, within the zone.
            let fits = |at: usize| old[..at] == new[..at] && old[at..] == new[at + inserted..];
            assert!((zone.start..=old.len()).any(fits), "{before}\n----\n{after}");
            return;
        }
        Edit::SetToken(entry) => {
            let number = place(&entry.id.value);
            (zone(&old, "token", number), zone(&new, "token", number))
        }
        Edit::RemoveToken(id) => removed(&old, &new, zone(&old, "token", place(id))),
        Edit::RemoveAdmin(name) => {
            let number = document.admins.iter().position(|a| a.name.value == *name).unwrap();
            removed(&old, &new, zone(&old, "admin", number))
        }
    };
    assert_eq!(old[..old_zone.start], new[..new_zone.start], "{before}\n----\n{after}");
    assert_eq!(old[old_zone.end..], new[new_zone.end..], "{before}\n----\n{after}");
}

/// The zone of an entry that is gone is what is left of it.
fn removed(old: &[&str], new: &[&str], zone: Range<usize>) -> (Range<usize>, Range<usize>) {
    // At the end of the file, blank lines and free comments before it may be all that is left.
    let end = (zone.end + new.len()).saturating_sub(old.len());
    let start = zone.start.min(new.len());
    assert!(start <= end || zone.end == old.len(), "more went than the entry");
    (start..zone.end, start..end.max(start))
}

fn free_comments(text: &str) -> Vec<&str> {
    text.lines().filter(|line| line.starts_with("# free")).collect()
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 128,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn each_change_touches_its_own_entry_only(
        styles in styles(),
        ops in ops(),
        crlf in any::<bool>(),
        last_newline in any::<bool>(),
    ) {
        let folder = Folder::with(&written(&styles, crlf, last_newline));
        let store = folder.store();
        store.load().unwrap();
        for (number, op) in ops.iter().enumerate() {
            let before = folder.text();
            let document = store.load().unwrap().document;
            let seed = 5000 + number as u64;
            let Some(Ok(Amended { document: expected, edit })) = amended(&document, op, seed) else {
                continue;
            };
            let committed = store
                .commit(None, &rules(), |now| {
                    assert_eq!(*now, document);
                    amended(now, op, seed).unwrap().map(|amended| (amended, ()))
                })
                .unwrap();
            prop_assert_eq!(&committed.document, &expected);
            prop_assert_eq!(&store.load().unwrap().document, &expected);
            let after = folder.text();
            assert_only_the_entry_differs(&before, &after, &document, &edit);
            prop_assert_eq!(free_comments(&before), free_comments(&after));
            let line_ends = after.matches('\n').count();
            let crlf_ends = after.matches("\r\n").count();
            let expected_crlf = if crlf { line_ends } else { 0 };
            prop_assert_eq!(crlf_ends, expected_crlf);
        }
    }
}
