//! Nothing that can be written panics, and a message about it quotes no secret.

use std::collections::BTreeMap;
use std::sync::Arc;

use faregate::policy::amend::{self, Entropy, NewToken, TokenPatch};
use faregate::policy::{
    AdminEntry, Ask, Caller, Decision, Document, Limits, ModelId, Moment, Origin, Pattern, Placed,
    Policy, Previous, RequestPath, RouteSpec, RouteTable, TokenEntry, compile,
};
use faregate::token::{Digest, Presented, TokenId};
use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

use super::world::{World, a_world, hash};

/// Text that is anything, or made of what the law looks at.
fn a_text() -> impl Strategy<Value = String> {
    let piece = select(vec![
        "/",
        "*",
        "{",
        "}",
        "...",
        "{model}",
        "{rest...}",
        ":",
        "%",
        "%4",
        "%C3",
        "%A9",
        ";",
        "&",
        "=",
        "model",
        "+",
        "a",
        ".",
        "..",
        "fg_",
        "fga_",
        "blake3:",
        "sha256:",
        "é",
        "\u{0}",
        "\u{7f}",
        "\u{85}",
        "\u{feff}",
        "\u{ff0f}",
        "GET",
        "public",
        "deny",
        "default",
        "path",
        "query:model",
        "\r\n",
        "\\",
        " ",
        "00",
    ]);
    prop_oneof![
        3 => vec(piece, 0..12).prop_map(|pieces| pieces.concat()),
        1 => any::<String>(),
        1 => "[a-z]{0,3}".prop_map(|text| text.repeat(4_000)),
    ]
}

fn a_placed_text() -> impl Strategy<Value = Placed<String>> {
    (a_text(), 0_usize..500).prop_map(|(text, line)| Placed::new(text, line))
}

fn any_moment() -> impl Strategy<Value = Moment> {
    prop_oneof![any::<i64>(), select(vec![i64::MIN, -1, 0, 1, i64::MAX])].prop_map(Moment)
}

fn any_limits() -> impl Strategy<Value = Limits> {
    (any::<Option<u32>>(), any::<Option<u32>>(), any::<Option<u32>>()).prop_map(
        |(requests_per_second, burst, max_in_flight)| Limits {
            requests_per_second,
            burst,
            max_in_flight,
        },
    )
}

/// A hash of the right form, or something else.
fn a_hash() -> impl Strategy<Value = Placed<String>> {
    prop_oneof![
        3 => (0_usize..20).prop_map(hash),
        1 => "(blake3|sha256):[0-9a-fA-F]{63,65}".prop_map(Placed::made),
        1 => a_placed_text(),
    ]
}

fn any_token() -> impl Strategy<Value = TokenEntry> {
    (
        prop_oneof!["[a-c]", a_text()],
        option::of(a_placed_text()),
        a_hash(),
        vec(prop_oneof![Just(Placed::made("iris*".into())), a_placed_text()], 0..4),
        vec(prop_oneof![Just(Placed::made("model-evaluation".into())), a_placed_text()], 0..4),
        (option::of(any_moment()), option::of(any_moment()), any::<bool>()),
        option::of((a_hash(), any_moment())),
        option::of(any_limits()),
        btree_map(a_text(), a_text(), 0..3),
    )
        .prop_map(|(id, name, hash, resources, groups, times, previous, limits, labels)| {
            let (created_at, expires_at, disabled) = times;
            let previous = previous.map(|(hash, valid_until)| Previous { hash, valid_until });
            let id = Placed::new(id, 7);
            TokenEntry {
                id,
                name,
                hash,
                resources,
                groups,
                created_at,
                expires_at,
                disabled,
                previous,
                limits,
                labels,
            }
        })
}

fn any_document() -> impl Strategy<Value = Document> {
    let admin = (a_placed_text(), a_hash()).prop_map(|(name, hash)| AdminEntry { name, hash });
    (vec(admin, 0..3), vec(any_token(), 0..4))
        .prop_map(|(admins, tokens)| Document { admins, tokens })
}

fn any_route() -> impl Strategy<Value = RouteSpec> {
    let path = prop_oneof![a_text(), a_text().prop_map(|text| format!("/{text}"))];
    let method = prop_oneof![select(vec!["GET", "POST", "*"]).prop_map(String::from), a_text()];
    let group = prop_oneof![Just("model-evaluation".to_owned()), a_text()];
    (
        vec(method, 0..3),
        path,
        group,
        option::of(vec(a_text(), 0..3)),
        option::of(a_text()),
        any::<bool>(),
        option::weighted(0.1, a_text()),
    )
        .prop_map(|(methods, path, group, model, dialect, any_resource, filter)| RouteSpec {
            methods,
            path,
            group,
            model,
            dialect,
            any_resource,
            filter,
            unnamed: None,
        })
}

/// Asks everything that can be asked; the answers are used, so that nothing is left out.
fn ask_everything(policy: &Policy, method: &str, path: &str, query: &str, secret: &[u8], id: &str) {
    let Ok(path) = RequestPath::parse(path) else { return };
    for query in [None, Some(query)] {
        for caller in [
            Caller::Nobody,
            Caller::Known(id),
            Caller::Secret { secret: Presented::new(secret), user: "" },
            Caller::Secret { secret: Presented::new(secret), user: id },
        ] {
            for now in [Moment(i64::MIN), Moment(0), Moment(i64::MAX)] {
                let ask = Ask { method, path, query, caller, now };
                if let Decision::Allow(permit) = policy.decide(&ask) {
                    // What was granted a moment ago, and has not expired since.
                    assert!(
                        permit.would_deny().is_some()
                            || policy.still_grants(&permit.grant(), policy.rules(), now)
                    );
                }
                assert!(!policy.explain(&ask, None).steps.is_empty());
            }
        }
    }
}

proptest! {
    #![proptest_config(super::cases(400))]

    #[test]
    fn no_text_panics(
        text in a_text(),
        hash in "(blake3|sha256):[0-9a-fA-F]{63,66}",
        bytes in vec(any::<u8>(), 0..80),
    ) {
        // What is accepted reads as it was written.
        if let Ok(path) = RequestPath::parse(&text) {
            prop_assert_eq!(path.as_str(), &text);
        }
        if let Ok(pattern) = Pattern::parse(&text) {
            prop_assert_eq!(pattern.to_string(), text.clone());
        }
        if let Ok(id) = ModelId::parse(&text) {
            prop_assert_eq!(id.as_str(), &text);
        }
        for text in [&text, &hash] {
            if let Ok(digest) = Digest::parse(text) {
                prop_assert_eq!(digest.to_file_form(), text.to_ascii_lowercase());
            }
        }
        if let Ok(id) = TokenId::parse(&text) {
            prop_assert_eq!(id.as_str(), &text);
        }
        for bytes in [text.as_bytes(), &bytes] {
            let presented = Presented::new(bytes);
            prop_assert!(!(presented.is_well_formed() && presented.is_admin_key()));
        }
    }

    #[test]
    fn a_mistyped_secret_of_ours_is_never_looked_up(
        number in (0_usize..1_000).prop_filter("not ours", |number| number % 4 != 3),
        place in any::<prop::sample::Index>(),
        other in "[0-9A-Za-z_-]",
    ) {
        let right = super::world::secret(number);
        prop_assert!(Presented::new(right.as_bytes()).is_well_formed());
        let place = 3 + place.index(right.len() - 3);
        let wrong = format!("{}{other}{}", &right[..place], &right[place + 1..]);
        prop_assert_eq!(Presented::new(wrong.as_bytes()).is_well_formed(), wrong == right);
    }

    #[test]
    fn no_request_panics(
        world in a_world(),
        method in prop_oneof![Just("POST".to_owned()), a_text()],
        path in prop_oneof!["(/[a-c]{1,2}){1,4}/?", "(/(iris|a|b|%C3%A9|x:p)){1,3}", a_text()],
        query in a_text(),
        secret in prop_oneof![vec(any::<u8>(), 0..70), a_text().prop_map(String::into_bytes)],
        id in prop_oneof!["token-[0-5]", a_text()],
    ) {
        ask_everything(&world.policy(), &method, &path, &query, &secret, &id);
    }

    #[test]
    fn no_route_panics(
        specs in vec(any_route(), 0..6),
        method in a_text(),
        path in prop_oneof!["(/[a-c]{1,2}){1,4}/?", a_text()],
    ) {
        let mut table = RouteTable::new();
        for spec in &specs {
            let before = table.routes().len();
            match table.add(Origin::Own, spec) {
                Ok(()) => prop_assert_eq!(table.routes().len(), before + 1),
                Err(errors) => {
                    prop_assert!(!errors.is_empty());
                    prop_assert!(errors.iter().all(|error| !error.to_string().is_empty()));
                    prop_assert_eq!(table.routes().len(), before);
                }
            }
        }
        for group in table.groups() {
            prop_assert!(group != "public" && group != "deny");
        }
        for method in [&method, "GET"] {
            if let Ok(path) = RequestPath::parse(&path)
                && let Some(found) = table.find(method, &path)
            {
                prop_assert_eq!(table.routes()[found.index].path(), found.route.path());
            }
        }
    }

    #[test]
    fn no_document_panics_and_no_problem_quotes_a_hash(
        document in any_document(),
        world in a_world(),
        path in "(/(iris|a|b)){1,3}",
    ) {
        let rules = world.rules();
        let told = match compile(&document, Arc::clone(&rules)) {
            Ok(compiled) => {
                for facts in compiled.policy.tokens() {
                    let id = facts.id.as_str();
                    ask_everything(&compiled.policy, "GET", &path, "model=a", b"sk-x", id);
                }
                prop_assert_eq!(compiled.policy.admin(b"anything"), None);
                compiled.warnings.iter().map(ToString::to_string).collect::<Vec<_>>()
            }
            Err(problems) => {
                prop_assert!(!problems.is_empty());
                vec![problems.to_string()]
            }
        };
        let tokens = document.tokens.iter().map(|entry| &entry.hash.value);
        for hash in tokens.chain(document.admins.iter().map(|admin| &admin.hash.value)) {
            // What is shorter may stand in a message by chance.
            if hash.len() >= 32 {
                prop_assert!(!told.iter().any(|text| text.contains(hash.as_str())));
            }
        }
    }

    #[test]
    fn no_change_panics(
        document in any_document(),
        id in prop_oneof!["[a-c]", a_text()],
        grace in prop_oneof![any::<i64>(), select(vec![i64::MIN, -1, 0, 1, amend::MAX_GRACE_SECONDS])],
        now in any_moment(),
        entropy in (any::<[u8; 32]>(), any::<[u8; 16]>()),
        texts in vec(a_text(), 3),
    ) {
        let entropy = Entropy { secret: entropy.0, id: entropy.1 };
        let new = NewToken { resources: texts.clone(), groups: texts.clone(), ..NewToken::default() };
        let (amended, _) = amend::issue(&document, new, &entropy, now);
        prop_assert_eq!(amended.document.tokens.len(), document.tokens.len() + 1);
        let patch = TokenPatch {
            name: Some(Some(texts[0].clone())),
            resources: Some(texts.clone()),
            labels: Some(BTreeMap::from([(texts[1].clone(), texts[2].clone())])),
            expires_at: Some(Some(now)),
            ..TokenPatch::default()
        };
        let known = document.tokens.iter().any(|entry| entry.id.value == id);
        prop_assert_eq!(amend::patch(&document, &id, patch).is_ok(), known);
        prop_assert_eq!(amend::set_disabled(&document, &id, true).is_ok(), known);
        prop_assert_eq!(amend::delete(&document, &id).is_ok(), known);
        if amend::regenerate(&document, &id, grace, &entropy, now).is_ok() {
            prop_assert!(known && (0..=amend::MAX_GRACE_SECONDS).contains(&grace));
        }
        let named = document.admins.iter().any(|admin| admin.name.value == id);
        prop_assert_eq!(amend::issue_admin_key(&document, &id, &entropy).is_err(), named);
        prop_assert_eq!(amend::delete_admin_key(&document, &id).is_ok(), named);
    }

    #[test]
    fn a_star_is_only_last(
        before in "[a-z/*.-]{0,6}",
        after in "[a-z/*.-]{0,6}",
        id in "[a-z]{1,4}(/[a-z-]{1,4}){0,2}",
    ) {
        let text = format!("{before}*{after}");
        if let Ok(pattern) = Pattern::parse(&text) {
            prop_assert!(after.is_empty() && !before.contains('*'), "{} is accepted", text);
            // And it means a prefix, no more and no less.
            prop_assert_eq!(pattern.matches(&id), id.starts_with(&before));
            let under = format!("{before}{id}");
            prop_assert!(pattern.matches(&under));
        }
        prop_assert!(ModelId::parse(&text).is_err(), "{} is no id", text);
        let exact = Pattern::parse(&id).unwrap();
        prop_assert!(exact.matches(&id));
        let longer = format!("{id}x");
        prop_assert!(!exact.matches(&longer) && !exact.matches(&id[1..]));
        prop_assert!(!exact.matches(&id.to_ascii_uppercase()));
    }
}

#[test]
fn the_stored_hash_is_no_secret() {
    let world = World {
        routes: super::world::profile_routes("any"),
        default_model: None,
        enforce: true,
        tokens: vec![super::world::token(0, &[super::world::EVALUATION], &["*"])],
    };
    let policy = world.policy();
    let file_form = hash(0).value;
    let digits = file_form.split_once(':').unwrap().1;
    let raw = *Digest::parse(&file_form).unwrap().bytes();
    for presented in [file_form.as_bytes(), digits.as_bytes(), &raw] {
        let ask = Ask {
            method: "GET",
            path: RequestPath::parse("/").unwrap(),
            query: None,
            caller: Caller::Secret { secret: Presented::new(presented), user: "" },
            now: Moment(0),
        };
        assert!(matches!(policy.decide(&ask), Decision::Deny(_)));
    }
}
