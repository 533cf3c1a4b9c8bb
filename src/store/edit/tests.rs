use super::*;
use crate::policy::amend::{self, Amended, Entropy, NewToken, TokenPatch};
use crate::policy::{Limits, Moment};
use crate::strict_toml::read_token_file;

const NOW: Moment = Moment(1_795_428_000);

fn hash(digit: char) -> String {
    format!("blake3:{}", digit.to_string().repeat(64))
}

/// Writes `H1`, `H2`, … of a text as hashes.
fn with_hashes(text: &str) -> String {
    let mut text = text.to_owned();
    for digit in '0'..='9' {
        text = text.replace(&format!("\"H{digit}\""), &format!("{:?}", hash(digit)));
    }
    text
}

/// The text after a change, with the hashes written as `H1` again; proves that the text says what
/// the document does.
fn changed(text: &str, change: impl FnOnce(&Document) -> Amended) -> String {
    let text = with_hashes(text);
    let before = read_token_file(&text).unwrap();
    let amended = change(&before);
    let mut after = apply(&text, &before, &amended.edit).unwrap();
    assert_eq!(read_token_file(&after).as_ref(), Ok(&amended.document), "{after}");
    for digit in '0'..='9' {
        after = after.replace(&hash(digit), &format!("H{digit}"));
    }
    after
}

fn entropy(seed: u8) -> Entropy {
    Entropy { secret: [seed; 32], id: [seed; 16] }
}

fn patched(text: &str, id: &str, patch: TokenPatch) -> String {
    changed(text, |document| amend::patch(document, id, patch).unwrap())
}

fn removed_token(text: &str, id: &str) -> String {
    changed(text, |document| amend::delete(document, id).unwrap())
}

fn texts(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|&text| text.to_owned()).collect()
}

const FILE: &str = r#"# The tokens of the fraud team.
# Ask Alice.
version = 1

# --- administrators ---

# Alice, until May
[[admin]]
name = "alice"
hash = "H1"   # laptop

# --- tokens ---

# nightly
[[token]]
id         = "batch"       # do not rename
resources  = ["iris*"]
groups     = ["model-evaluation"]
created_at = 2026-11-23T10:00:00Z
hash       = "H2"
# disabled = true


[[token]]
id = "web"
hash = "H3"
"#;

#[test]
fn switching_off_adds_one_line_and_on_again_changes_one_word() {
    let off = patched(FILE, "batch", TokenPatch { disabled: Some(true), ..Default::default() });
    let created = "created_at = 2026-11-23T10:00:00Z\n";
    assert_eq!(off, FILE.replace(created, &format!("{created}disabled   = true\n")));
    let on = patched(&off, "batch", TokenPatch { disabled: Some(false), ..Default::default() });
    assert_eq!(on, off.replace("disabled   = true", "disabled   = false"));
    // Unaligned keys stay so.
    let off = patched(FILE, "web", TokenPatch { disabled: Some(true), ..Default::default() });
    assert_eq!(off, FILE.replace("id = \"web\"\n", "id = \"web\"\ndisabled = true\n"));
}

#[test]
fn what_takes_rights_away_goes_above_the_hash_wherever_that_stands() {
    let text = "version = 1\n[[token]]\nid = \"a\"\nhash = \"H1\"\ngroups = [\"g\"]\n";
    let off = patched(text, "a", TokenPatch { disabled: Some(true), ..Default::default() });
    assert_eq!(off, text.replace("id = \"a\"\n", "id = \"a\"\ndisabled = true\n"));
}

#[test]
fn every_field_goes_to_its_usual_place() {
    let patch = TokenPatch {
        name: Some(Some("the \"shop\"".into())),
        resources: Some(texts(&["a", "b/c*"])),
        groups: Some(texts(&["model-evaluation"])),
        expires_at: Some(Some(NOW)),
        limits: Some(Some(Limits { max_in_flight: Some(3), ..Limits::default() })),
        labels: Some([("team".into(), "web".into()), ("a b".into(), "é".into())].into()),
        disabled: Some(true),
    };
    let after = patched(FILE, "web", patch.clone());
    let expected = r#"id = "web"
name = 'the "shop"'
resources = ["a", "b/c*"]
groups = ["model-evaluation"]
expires_at = 2026-11-23T10:00:00Z
disabled = true
limits = { max_in_flight = 3 }
labels = { "a b" = "é", team = "web" }
hash = "H3"
"#;
    assert_eq!(after, FILE.replace("id = \"web\"\nhash = \"H3\"\n", expected));
    // And all of it away again: what has no place in the file leaves no line.
    let none = TokenPatch {
        name: Some(None),
        resources: Some(Vec::new()),
        groups: Some(Vec::new()),
        expires_at: Some(None),
        limits: Some(None),
        labels: Some([].into()),
        disabled: Some(false),
    };
    let expected = "id = \"web\"\nresources = []\ngroups = []\ndisabled = false\nhash = \"H3\"\n";
    assert_eq!(
        patched(&after, "web", none),
        FILE.replace("id = \"web\"\nhash = \"H3\"\n", expected)
    );
}

#[test]
fn a_new_secret_keeps_the_comment_beside_the_old_one() {
    let text = FILE.replace("hash       = \"H2\"", "hash       = \"H2\"  # rotated in May");
    let mut new_hash = String::new();
    let graceful = changed(&text, |document| {
        let (amended, _) = amend::regenerate(document, "batch", 3600, &entropy(1), NOW).unwrap();
        new_hash = amended.document.tokens[0].hash.value.clone();
        amended
    });
    let created = "created_at = 2026-11-23T10:00:00Z\n";
    let previous = "previous   = { hash = \"H2\", valid_until = 2026-11-23T11:00:00Z }\n";
    let expected = text
        .replace("\"H2\"", &format!("{new_hash:?}"))
        .replace(created, &format!("{created}{previous}"));
    assert_eq!(graceful, expected);
    // Without grace: the one before is gone, and its line with it.
    let at_once = changed(&graceful, |document| {
        amend::regenerate(document, "batch", 0, &entropy(2), NOW).unwrap().0
    });
    assert!(!at_once.contains("previous"));
    assert_eq!(at_once.lines().count(), text.lines().count());
}

#[test]
fn a_token_takes_its_comments_with_it_and_no_others() {
    let after = removed_token(FILE, "batch");
    let entry = FILE.find("# nightly").unwrap()..FILE.find("[[token]]\nid = \"web\"").unwrap();
    let mut expected = FILE.to_owned();
    expected.replace_range(entry, "");
    assert_eq!(after, expected);
    // The last one leaves no blank lines at the end.
    let after = removed_token(&after, "web");
    let tail = "\n\n# --- tokens ---\n";
    assert!(after.ends_with(tail), "{after}");
    let after = changed(&after, |document| amend::delete_admin_key(document, "alice").unwrap());
    assert_eq!(
        after,
        "# The tokens of the fraud team.\n# Ask Alice.\nversion = 1\n\n\
         # --- administrators ---\n\n# --- tokens ---\n"
    );
}

#[test]
fn a_comment_that_may_be_about_a_neighbour_stays() {
    let text = "version = 1\n[[token]]\nid = \"a\"\nhash = \"H1\"\n# of a, or of b?\n\
                [[token]]\nid = \"b\"\nhash = \"H2\"\n# about b\n\n# about c\n\
                [[token]]\nid = \"c\"\nhash = \"H3\"\n";
    assert_eq!(
        removed_token(text, "a"),
        "version = 1\n# of a, or of b?\n[[token]]\nid = \"b\"\nhash = \"H2\"\n# about b\n\n\
         # about c\n[[token]]\nid = \"c\"\nhash = \"H3\"\n"
    );
    assert_eq!(
        removed_token(text, "b"),
        "version = 1\n[[token]]\nid = \"a\"\nhash = \"H1\"\n# of a, or of b?\n\n# about c\n\
         [[token]]\nid = \"c\"\nhash = \"H3\"\n"
    );
    assert_eq!(removed_token(text, "c"), text[..text.find("\n# about c").unwrap()]);
}

#[test]
fn tables_are_added_where_a_person_would() {
    let new = |document: &Document| {
        let new = NewToken {
            name: Some("x".into()),
            resources: texts(&["iris*"]),
            groups: texts(&["model-evaluation"]),
            expires_at: Some(Moment(NOW.0 + 1)),
            labels: [("team".into(), "x".into())].into(),
            limits: None,
        };
        amend::issue(document, new, &entropy(0), NOW).0
    };
    let hash = {
        let (_, secret) = amend::issue(&Document::default(), NewToken::default(), &entropy(0), NOW);
        secret.digest().to_file_form()
    };
    let table = format!(
        r#"[[token]]
id         = "tk_000000000000"
name       = "x"
resources  = ["iris*"]
groups     = ["model-evaluation"]
created_at = 2026-11-23T10:00:00Z
expires_at = 2026-11-23T10:00:01Z
labels     = {{ team = "x" }}
hash       = "{hash}"
"#
    );
    assert_eq!(changed(FILE, new), format!("{FILE}\n{table}"));
    assert_eq!(changed("version = 1\n\n", new), format!("version = 1\n\n{table}"));
    assert_eq!(changed("version = 1", new), format!("version = 1\n\n{table}"));
    assert_eq!(
        changed("version = 1\n# example\n#[[token]]", new),
        format!("version = 1\n# example\n#[[token]]\n\n{table}")
    );
    let crlf = FILE.replace('\n', "\r\n");
    assert_eq!(changed(&crlf, new), format!("{FILE}\n{table}").replace('\n', "\r\n"));

    let key = |document: &Document| amend::issue_admin_key(document, "bob", &entropy(0)).unwrap().0;
    let admin_hash = {
        let (amended, _) =
            amend::issue_admin_key(&Document::default(), "bob", &entropy(0)).unwrap();
        amended.document.admins[0].hash.value.clone()
    };
    let table = format!("[[admin]]\nname = \"bob\"\nhash = \"{admin_hash}\"\n");
    let laptop = "hash = \"H1\"   # laptop\n";
    assert_eq!(changed(FILE, key), FILE.replace(laptop, &format!("{laptop}\n{table}")));
    assert_eq!(
        changed("version = 1\n[[token]]\nid = \"a\"\nhash = \"H1\"\n", key),
        format!("version = 1\n\n{table}\n[[token]]\nid = \"a\"\nhash = \"H1\"\n")
    );
}

#[test]
fn tables_within_a_token_are_changed_in_the_form_they_have() {
    let text = r#"version = 1
[[token]]
id = "a"
hash = "H1"
limits.burst = 3          # spikes
limits.requests_per_second = 5
previous.hash = "H2"
previous.valid_until = 2026-11-23T10:00:00Z

# who
[token.labels]
# the team
team = "x"  # theirs
"cost center" = "7"

[[token]]
id = "b"
hash = "H3"

[[admin]]
name = "z"
hash = "H4"

[token.labels]
late = "b's, since the last token counts"
"#;
    let labels: &[(&str, &str)] = &[("team", "y"), ("a b", "1")];
    let labels = labels.iter().map(|&(key, value)| (key.into(), value.into())).collect();
    let limits = Limits { requests_per_second: Some(6), burst: Some(3), max_in_flight: Some(1) };
    let patch = TokenPatch {
        limits: Some(Some(limits)),
        labels: Some(labels),
        disabled: Some(true),
        ..TokenPatch::default()
    };
    let expected = text
        .replace("id = \"a\"\n", "id = \"a\"\ndisabled = true\n")
        .replace("second = 5\n", "second = 6\nlimits.max_in_flight = 1\n")
        .replace("team = \"x\"", "team = \"y\"")
        .replace("\"cost center\" = \"7\"\n", "\"a b\" = \"1\"\n");
    assert_eq!(patched(text, "a", patch), expected);

    let none = TokenPatch { limits: Some(None), labels: Some([].into()), ..TokenPatch::default() };
    let after = patched(text, "a", none.clone());
    assert!(!after.contains("limits"), "{after}");
    assert!(!after.contains("who"), "{after}");
    assert!(after.contains("2026-11-23T10:00:00Z\n\n[[token]]\nid = \"b\""), "{after}");
    let after = patched(text, "b", none);
    assert_eq!(after, text[..text.find("\n[token.labels]\nlate").unwrap()]);

    let after = removed_token(text, "b");
    assert!(after.ends_with("\n\n[[admin]]\nname = \"z\"\nhash = \"H4\"\n"), "{after}");
    let after = removed_token(text, "a");
    assert!(after.starts_with("version = 1\n\n[[token]]\nid = \"b\""), "{after}");

    let regenerated =
        changed(text, |document| amend::regenerate(document, "a", 60, &entropy(3), NOW).unwrap().0);
    assert!(regenerated.contains("\nprevious.hash = \"H1\"\n"), "{regenerated}");
    assert_eq!(regenerated.lines().count(), text.lines().count());
}

#[test]
fn lists_with_an_entry_a_line_keep_the_comments_of_those_that_stay() {
    let text = r#"version = 1
[[token]]
id = "a"
hash = "H1"
resources = [
    # flowers
    "iris*",     # all of them
    "fraud-v2",  # see the wiki
    "old"        # goes in May
]
"#;
    let patch = |list: &[&str]| TokenPatch { resources: Some(texts(list)), ..Default::default() };
    assert_eq!(
        patched(text, "a", patch(&["iris*", "old", "new", "newer"])),
        text.replace("    \"fraud-v2\",  # see the wiki\n", "").replace(
            "\"old\"        # goes in May\n",
            "\"old\",        # goes in May\n    \"new\",\n    \"newer\",\n"
        )
    );
    assert_eq!(
        patched(text, "a", patch(&["iris*"])),
        text.replace("    \"fraud-v2\",  # see the wiki\n    \"old\"        # goes in May\n", "")
    );
    // Another order is another list.
    let after = patched(text, "a", patch(&["old", "iris*"]));
    assert!(after.ends_with("resources = [\"old\", \"iris*\"]\n"), "{after}");
    let crlf = text.replace('\n', "\r\n");
    assert_eq!(
        patched(&crlf, "a", patch(&["iris*", "fraud-v2", "old", "new"])),
        crlf.replace(
            "\"old\"        # goes in May\r\n",
            "\"old\",        # goes in May\r\n    \"new\",\r\n"
        )
    );
    // Several on a line: written anew.
    let text = text.replace("\"fraud-v2\",  # see the wiki\n    ", "\"fraud-v2\", ");
    let after = patched(&text, "a", patch(&["iris*"]));
    assert!(after.ends_with("resources = [\"iris*\"]\n"), "{after}");
}

#[test]
fn what_looks_like_a_table_in_a_text_is_none() {
    let text = r##"version = 1
[[token]]
id = "a"
name = "[[token]] # no comment"
hash = "H1"
labels = { note = """[[token]]
id = 'x' # ]""" }

[["token"]]
"id" = 'b'
'hash' = "H2"
"##;
    let off = TokenPatch { disabled: Some(true), ..TokenPatch::default() };
    assert_eq!(
        patched(text, "b", off.clone()),
        text.replace("\"id\" = 'b'\n", "\"id\" = 'b'\ndisabled = true\n")
    );
    assert_eq!(
        patched(text, "a", off),
        text.replace("# no comment\"\n", "# no comment\"\ndisabled = true\n")
    );
    assert_eq!(removed_token(text, "b"), text[..text.find("\n[[\"token\"]]").unwrap()]);
    assert_eq!(
        removed_token(text, "a"),
        format!("version = 1\n{}", &text[text.find("\n[[\"token\"]]").unwrap()..])
    );
}

#[test]
fn a_stanza_is_a_token_file_but_for_the_version() {
    let new = NewToken { resources: texts(&["*"]), ..NewToken::default() };
    let (amended, _) = amend::issue(&Document::default(), new, &entropy(0), NOW);
    let text = format!("version = 1\n{}", stanza(&amended.edit));
    assert_eq!(read_token_file(&text), Ok(amended.document));
    let removal = stanza(&Edit::RemoveToken("a\nb".into()));
    assert_eq!(removal.lines().count(), 1);
    assert!(removal.starts_with('#'));
}
