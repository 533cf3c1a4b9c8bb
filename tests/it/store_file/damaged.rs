//! A file that was cut off: by a full disk, by an editor that saves in place and is seen half-way.

use faregate::policy::amend::{self, TokenPatch};
use faregate::policy::{Limits, Moment, Policy};
use faregate::strict_toml::judge_token_file;

use super::{FILE, Folder, NOW, entropy, named, rules};

const BATCH_HASH: &str =
    "hash = \"blake3:0000000000000000000000000000000000000000000000000000000000000002\"\n";

/// What a token may do, as a set of single rights; more of anything is more rights.
fn rights(policy: &Policy) -> Vec<(String, String, String, bool, Option<Moment>)> {
    let mut rights = Vec::new();
    for token in policy.tokens() {
        for group in token.groups {
            for resource in token.resources {
                let (id, group, resource) =
                    (token.id.to_string(), group.to_string(), resource.to_string());
                rights.push((id, group, resource, token.disabled, token.expires_at));
            }
        }
    }
    rights
}

#[test]
fn a_file_cut_off_at_any_byte_is_refused_or_gives_fewer_rights() {
    // An entry whose hash stands above what it may do, as people write it too.
    let text = FILE.replace("id = \"batch\"\n", "id = \"batch\"\nHASH").replace(BATCH_HASH, "");
    let folder = Folder::with(&text.replace("HASH", BATCH_HASH));
    let store = folder.store();
    // Everything that takes rights away stands in an entry written by the program.
    let mut new = named("a name");
    new.resources = vec!["iris*".into(), "fraud-v2".into()];
    new.groups = vec!["model-evaluation".into(), "model-management".into()];
    new.expires_at = Some(Moment(NOW.0 + 100));
    new.labels = [("team".into(), "x".into())].into();
    for seed in [1, 2] {
        let new = new.clone();
        let committed = store
            .commit(None, &rules(), |document| Ok(amend::issue(document, new, &entropy(seed), NOW)))
            .unwrap();
        let id = committed.document.tokens.last().unwrap().id.value.clone();
        let patch = TokenPatch {
            disabled: Some(seed == 1),
            limits: Some(Some(Limits { max_in_flight: Some(8), ..Limits::default() })),
            ..TokenPatch::default()
        };
        store.commit(None, &rules(), |d| Ok((amend::patch(d, &id, patch)?, ()))).unwrap();
        store
            .commit(None, &rules(), |d| amend::regenerate(d, &id, 60, &entropy(seed + 10), NOW))
            .unwrap();
    }
    // And in one that a person wrote and the program changed.
    store
        .commit(None, &rules(), |d| {
            let patch = TokenPatch {
                disabled: Some(true),
                expires_at: Some(Some(NOW)),
                ..TokenPatch::default()
            };
            Ok((amend::patch(d, "batch", patch)?, ()))
        })
        .unwrap();
    let whole = folder.text();
    let (document, compiled) = judge_token_file(&whole, rules()).unwrap();
    let all = rights(&compiled.policy);
    assert_eq!(all.len(), 1 + 2 * 4);
    let mut accepted = 0;
    for cut in 0..whole.len() {
        if !whole.is_char_boundary(cut) {
            continue;
        }
        let Ok((part, compiled)) = judge_token_file(&whole[..cut], rules()) else { continue };
        accepted += 1;
        for right in rights(&compiled.policy) {
            assert!(all.contains(&right), "cut at {cut} gives {right:?}:\n{}", &whole[..cut]);
        }
        for token in &part.tokens {
            let full = document.tokens.iter().find(|full| full.id == token.id).unwrap();
            assert_eq!(full.hash, token.hash, "cut at {cut}");
            assert_eq!(full.limits, token.limits, "cut at {cut}");
            assert!(token.previous.is_none() || token.previous == full.previous, "cut at {cut}");
        }
        for admin in &part.admins {
            assert!(document.admins.contains(admin), "cut at {cut}");
        }
    }
    assert!(accepted > 5, "nothing but refusals proves little: {accepted}");
}

#[test]
fn a_cut_within_an_entry_written_by_the_program_is_refused() {
    let folder = Folder::with("version = 1\n");
    let store = folder.store();
    let committed = super::issue(&store, "x", 1).unwrap();
    let id = committed.document.tokens[0].id.value.clone();
    store.commit(None, &rules(), |document| super::disable(document, &id)).unwrap();
    let whole = folder.text();
    let entry = whole.find("[[token]]").unwrap();
    // Only the last line end may be missing.
    for cut in entry + 1..whole.len() - 1 {
        assert!(judge_token_file(&whole[..cut], rules()).is_err(), "{}", &whole[..cut]);
    }
    assert!(judge_token_file(&whole[..whole.len() - 1], rules()).is_ok());
}
