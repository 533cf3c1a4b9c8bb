//! How many tokens or patterns there are decides nothing.

use faregate::policy::{BodyModel, Moment, Pattern, Placed, Reason, TokenEntry};
use faregate::token::Digest;

use super::world::{
    EVALUATION, MANAGEMENT, Request, Verdict, Who, World, judge, profile_routes, token,
};

const SIZES: [usize; 4] = [1, 99, 101, 10_000];

/// Tokens of which every one is judged in another way.
fn tokens() -> Vec<TokenEntry> {
    vec![
        token(0, &[EVALUATION], &["iris*", "fraud"]),
        token(1, &[MANAGEMENT], &["*"]),
        token(2, &[], &["*"]),
        token(3, &[EVALUATION, MANAGEMENT], &["iris"]),
        TokenEntry { disabled: true, ..token(4, &[EVALUATION], &["*"]) },
        TokenEntry { expires_at: Some(Moment(5)), ..token(5, &[EVALUATION], &["*"]) },
    ]
}

fn requests(number: usize) -> Vec<Request> {
    let mut requests = Vec::new();
    for who in [
        Who::Secret(number, ""),
        Who::Secret(number, "token-0"),
        Who::Known(format!("token-{number}")),
        Who::Secret(9_999, ""),
        Who::Bytes(b"sk-stranger".to_vec()),
        Who::Nobody,
    ] {
        for (method, path) in [
            ("POST", "/iris/eval"),
            ("GET", "/iris-2"),
            ("POST", "/fraud/eval"),
            ("POST", "/secret/eval"),
            ("DELETE", "/iris"),
            ("POST", "/v2/models/iris/infer"),
            ("GET", "/v2/repository/index"),
            ("GET", "/v2/health/live"),
            ("PURGE", "/iris"),
        ] {
            let (path, who) = (path.to_owned(), who.clone());
            requests.push(Request {
                method,
                path,
                query: None,
                body: BodyModel::None,
                who,
                now: Moment(10),
            });
        }
    }
    requests
}

/// A token that nobody here asks with.
fn filler(number: usize) -> TokenEntry {
    let made = Digest::blake3(format!("filler {number}").as_bytes());
    TokenEntry {
        id: Placed::made(format!("filler-{number}")),
        hash: Placed::made(made.to_file_form()),
        ..token(0, &[EVALUATION, MANAGEMENT], &["*"])
    }
}

fn world(tokens: Vec<TokenEntry>) -> World {
    let routes = [profile_routes("ovh"), profile_routes("kserve-v2")].concat();
    World { routes, default_model: None, enforce: true, tokens }
}

fn verdicts(world: &World, number: usize) -> Vec<Verdict> {
    let policy = world.policy();
    requests(number).iter().map(|request| judge(&policy, request)).collect()
}

#[test]
fn the_number_of_tokens_changes_no_verdict() {
    for (number, entry) in tokens().into_iter().enumerate() {
        let alone = verdicts(&world(vec![entry.clone()]), number);
        assert!(alone.iter().any(|verdict| verdict.refused.is_none()), "{entry:?}");
        assert!(alone.iter().any(|v| v.refused == Some(Reason::UnknownToken)), "{entry:?}");
        for size in SIZES {
            // First, in the middle, last; the larger the file, the fewer places.
            let places = if size < 1_000 { vec![0, size / 2, size - 1] } else { vec![size / 2] };
            for place in places {
                let mut tokens: Vec<_> = (1..size).map(filler).collect();
                tokens.insert(place, entry.clone());
                assert_eq!(tokens.len(), size);
                assert_eq!(verdicts(&world(tokens), number), alone, "{size} {place} {entry:?}");
            }
        }
    }
}

#[test]
fn a_token_among_ten_thousand_is_found_wherever_it_stands() {
    let mut all: Vec<_> = (0..10_000).map(filler).collect();
    for (number, place) in [(0, 0), (1, 99), (2, 100), (3, 101), (6, 5_000), (7, 10_000)] {
        all[place.min(9_999)] = token(number, &[EVALUATION], &["iris"]);
    }
    let policy = world(all).policy();
    for number in [0, 1, 2, 3, 6, 7] {
        let ask = |path: &str| Request {
            method: "POST",
            path: path.into(),
            query: None,
            body: BodyModel::None,
            who: Who::Secret(number, ""),
            now: Moment(0),
        };
        assert_eq!(judge(&policy, &ask("/iris/eval")).refused, None, "{number}");
        let refused = judge(&policy, &ask("/secret/eval")).refused;
        assert_eq!(refused, Some(Reason::ResourceNotAllowed), "{number}");
    }
}

#[test]
fn the_number_of_patterns_changes_no_verdict() {
    for size in SIZES {
        for (place, last) in [(0, "iris*"), (size / 2, "iris*"), (size - 1, "fraud")] {
            let mut patterns: Vec<String> = (1..size).map(|n| format!("other-{n}")).collect();
            patterns.insert(place, last.into());
            assert!(patterns.iter().all(|pattern| Pattern::parse(pattern).is_ok()));
            let patterns: Vec<&str> = patterns.iter().map(String::as_str).collect();
            let many = verdicts(&world(vec![token(0, &[EVALUATION], &patterns)]), 0);
            let one = verdicts(&world(vec![token(0, &[EVALUATION], &[last])]), 0);
            assert_eq!(many, one, "{size} {place} {last}");
        }
    }
}
