//! How long the law takes: `cargo bench --bench decide`.
//!
//! Each decision is measured from the request's texts to the answer: path, token, route, model.

#![allow(missing_docs, reason = "criterion's macros make public functions")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a benchmark stops at what is wrong")]

use std::collections::BTreeMap;
use std::hint::black_box;
use std::sync::Arc;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use faregate::policy::{
    Ask, Caller, Decision, Document, Moment, Origin, Placed, Policy, Reason, RequestPath,
    RouteSpec, RouteTable, Rules, TokenEntry, compile,
};
use faregate::token::{Digest, Presented, Secret, SecretKind};

const NOW: Moment = Moment(1_700_000_000);
const EVALUATION: &str = "model-evaluation";

/// The secret of the token of this number.
fn secret(number: usize) -> String {
    let mut entropy = [7; 32];
    entropy[..8].copy_from_slice(&number.to_le_bytes());
    Secret::from_entropy(SecretKind::Token, &entropy).reveal().to_string()
}

fn document(tokens: usize, patterns: &[&str]) -> Document {
    let made = |text: &str| Placed::made(text.to_owned());
    let entry = |number: usize| TokenEntry {
        id: made(&format!("tk_{number:012}")),
        name: Some(made(&format!("team {number}"))),
        hash: made(&Digest::blake3(secret(number).as_bytes()).to_file_form()),
        resources: patterns.iter().map(|pattern| made(pattern)).collect(),
        groups: vec![made(EVALUATION)],
        created_at: Some(Moment(NOW.0 - 86_400)),
        expires_at: Some(Moment(NOW.0 + 86_400)),
        disabled: false,
        previous: None,
        limits: None,
        labels: BTreeMap::new(),
    };
    Document { admins: Vec::new(), tokens: (0..tokens).map(entry).collect() }
}

/// Secrets of tokens from all over the file, so that no token stays in the processor's cache only
/// because it is the one that always asks.
fn callers(tokens: usize) -> Vec<String> {
    (0..4_096).map(|n| secret(n * 1_000_003 % tokens)).collect()
}

fn rules() -> Arc<Rules> {
    let route = |methods: &[&str], path: &str, group: &str| RouteSpec {
        methods: methods.iter().map(|&method| method.into()).collect(),
        path: path.into(),
        group: group.into(),
        ..RouteSpec::default()
    };
    let mut routes = RouteTable::new();
    for spec in [
        route(&["GET"], "/v2/health/live", "public"),
        route(&["POST"], "/v2/models/{model}/infer", EVALUATION),
        route(&["POST"], "/v2/repository/models/{model}/load", "model-management"),
        route(&["GET", "POST", "OPTIONS"], "/{model}", EVALUATION),
        route(&["GET", "POST", "OPTIONS"], "/{model}/{rest...}", EVALUATION),
        route(&["PUT", "PATCH", "DELETE"], "/{model}", "model-management"),
    ] {
        routes.add(Origin::Own, &spec).unwrap();
    }
    Arc::new(Rules { routes, default_model: None, enforce: true })
}

fn policy(document: &Document) -> Policy {
    compile(document, rules()).unwrap_or_else(|problems| panic!("{problems}")).policy
}

/// From the texts of a request to the answer.
fn decide(policy: &Policy, path: &str, secret: &str) -> Decision {
    policy.decide(&Ask {
        method: "POST",
        path: RequestPath::parse(path).unwrap(),
        query: None,
        caller: Caller::Secret { secret: Presented::new(secret.as_bytes()), user: "" },
        now: NOW,
    })
}

fn decisions(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("decide");
    for tokens in [1, 10_000, 1_000_000] {
        let policy = policy(&document(tokens, &["fraud-v2", "iris*"]));
        let callers = callers(tokens);
        let is_allowed =
            |secret: &String| matches!(decide(&policy, "/iris/eval", secret), Decision::Allow(_));
        assert!(callers.iter().all(is_allowed));
        let mut next = callers.iter().cycle();
        group.bench_function(format!("allowed, {tokens} tokens"), |bencher| {
            bencher.iter(|| decide(&policy, black_box("/iris/eval"), next.next().unwrap()));
        });

        let strangers: Vec<String> = (0..4_096).map(|n| secret(tokens + n)).collect();
        assert_eq!(reason(decide(&policy, "/iris/eval", &strangers[0])), Reason::UnknownToken);
        let mut next = strangers.iter().cycle();
        group.bench_function(format!("unknown secret, {tokens} tokens"), |bencher| {
            bencher.iter(|| decide(&policy, black_box("/iris/eval"), next.next().unwrap()));
        });
    }

    // The pattern that matches is the last one that is looked at.
    let mut patterns: Vec<String> = (1..100).map(|number| format!("model-{number}-*")).collect();
    patterns.push("iris*".into());
    let patterns: Vec<&str> = patterns.iter().map(String::as_str).collect();
    let policy = policy(&document(10_000, &patterns));
    let own = secret(5_000);
    assert!(matches!(decide(&policy, "/iris/eval", &own), Decision::Allow(_)));
    group.bench_function("allowed, 100 patterns", |bencher| {
        bencher.iter(|| decide(&policy, black_box("/iris/eval"), black_box(&own)));
    });
    assert_eq!(reason(decide(&policy, "/secret/eval", &own)), Reason::ResourceNotAllowed);
    group.bench_function("model refused, 100 patterns", |bencher| {
        bencher.iter(|| decide(&policy, black_box("/secret/eval"), black_box(&own)));
    });
    // Two digits of it change places.
    let mut mistyped = own.clone().into_bytes();
    let place = (3..).find(|&place| mistyped[place] != mistyped[place + 1]).unwrap();
    mistyped.swap(place, place + 1);
    let mistyped = String::from_utf8(mistyped).unwrap();
    assert_eq!(reason(decide(&policy, "/iris/eval", &mistyped)), Reason::UnknownToken);
    group.bench_function("mistyped secret", |bencher| {
        bencher.iter(|| decide(&policy, black_box("/iris/eval"), black_box(&mistyped)));
    });
    group.finish();
}

fn reason(decision: Decision) -> Reason {
    match decision {
        Decision::Deny(denial) => denial.reason,
        Decision::Allow(_) | Decision::Inspect(_) => panic!("it was meant to be refused"),
    }
}

fn paths(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("path");
    for (name, path) in [
        ("short", "/iris/eval".to_owned()),
        ("ordinary", "/v2/models/meta-llama-3.1-8b/versions/12/infer".into()),
        ("escaped", "/caf%C3%A9-cr%C3%A8me/eval".into()),
        ("8 KiB", format!("/{}", "segment/".repeat(1_023))),
        ("8 KiB, all escaped", format!("/{}", "%C3%A9".repeat(1_365))),
    ] {
        assert!(RequestPath::parse(&path).is_ok(), "{name}");
        group.bench_function(name, |bencher| {
            bencher.iter(|| RequestPath::parse(black_box(&path)).is_ok());
        });
    }
    group.bench_function("refused", |bencher| {
        bencher.iter(|| RequestPath::parse(black_box("/iris/%2e%2e/secret/eval")).is_ok());
    });
    group.finish();
}

fn compiling(criterion: &mut Criterion) {
    let document = document(10_000, &["iris*"]);
    let rules = rules();
    criterion.bench_function("compile, 10000 tokens", |bencher| {
        // What was compiled is dropped outside the measurement.
        bencher.iter_batched(
            || Arc::clone(&rules),
            |rules| compile(black_box(&document), rules),
            BatchSize::PerIteration,
        );
    });
}

criterion_group!(benches, decisions, paths, compiling);
criterion_main!(benches);
