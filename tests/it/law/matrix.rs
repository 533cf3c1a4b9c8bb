//! Every kind of caller, on every kind of route, about models that it may use and may not: one
//! table, kept in `golden/decisions.txt`, for people to read.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use faregate::policy::{
    BodyFault, BodyModel, Moment, Origin, Policy, Previous, Reason, RouteSpec, TokenEntry,
};

use super::world::{
    EVALUATION, MANAGEMENT, Request, Verdict, Who, World, hash, judge, profile_routes, route,
    secret, token,
};
use crate::golden;

const NOW: Moment = Moment(1_000);

/// The callers, each a column of the table.
fn callers() -> Vec<(&'static str, Who)> {
    let mut mistyped = secret(4).into_bytes();
    *mistyped.last_mut().unwrap() ^= 1;
    vec![
        ("nobody", Who::Nobody),
        ("a secret that nobody was given", Who::Secret(70, "")),
        ("a secret of ours, mistyped", Who::Bytes(mistyped)),
        ("evaluation of *, expired this second", Who::Secret(1, "")),
        ("evaluation of *, disabled", Who::Secret(2, "")),
        ("evaluation of iris*, by a key brought from elsewhere (sha256)", Who::Secret(3, "")),
        ("evaluation of iris*, its new secret", Who::Secret(4, "")),
        ("evaluation of iris*, its old secret, in grace", Who::Secret(40, "")),
        ("evaluation of iris*, its old secret, grace over this second", Who::Secret(50, "")),
        ("evaluation of iris*, with the user name of another token", Who::Secret(4, "token-6")),
        ("evaluation of *", Who::Secret(6, "")),
        ("management of iris*", Who::Secret(8, "")),
        ("management of *", Who::Secret(9, "token-9")),
        ("evaluation and management, of no model", Who::Secret(10, "")),
        ("no group, of every model", Who::Secret(12, "")),
    ]
}

fn tokens() -> Vec<TokenEntry> {
    let regenerated = |number, old, valid_until| TokenEntry {
        previous: Some(Previous { hash: hash(old), valid_until }),
        ..token(number, &[EVALUATION], &["iris*"])
    };
    vec![
        TokenEntry { expires_at: Some(NOW), ..token(1, &[EVALUATION], &["*"]) },
        TokenEntry { disabled: true, ..token(2, &[EVALUATION], &["*"]) },
        token(3, &[EVALUATION], &["iris*"]),
        regenerated(4, 40, Moment(NOW.0 + 1)),
        regenerated(5, 50, NOW),
        TokenEntry {
            expires_at: Some(Moment(NOW.0 + 1)),
            ..token(6, &[EVALUATION], &["other", "*"])
        },
        token(8, &[MANAGEMENT], &["iris*"]),
        token(9, &[MANAGEMENT], &["*"]),
        token(10, &[EVALUATION, MANAGEMENT], &[]),
        token(12, &[], &["*"]),
    ]
}

/// How a cell of the table is written.
pub(super) fn in_short(refused: Option<Reason>) -> &'static str {
    let Some(reason) = refused else { return "yes" };
    match reason {
        Reason::RouteDenied => "deny",
        Reason::NoCredential => "who",
        Reason::UnknownToken => "unkn",
        Reason::ExpiredToken => "late",
        Reason::DisabledToken => "off",
        Reason::NoRoute => "path",
        Reason::GroupNotAllowed => "group",
        Reason::ModelConflict => "twice",
        Reason::BodyTooLarge => "large",
        Reason::BadBody => "body",
        Reason::UnsupportedEncoding => "zip",
        Reason::ModelUnresolved => "none",
        Reason::BadModel => "form",
        Reason::ResourceNotAllowed => "model",
        // These are told of requests that never get as far as this question.
        Reason::BadTarget
        | Reason::BadHost
        | Reason::BadPath
        | Reason::UnknownHost
        | Reason::AmbiguousCredential => "early",
    }
}

/// What a namespace is asked: a method and a target each, and after a space what its body names.
struct Namespace {
    title: &'static str,
    world: World,
    asked: &'static [(&'static str, &'static str)],
}

fn namespace(
    title: &'static str,
    routes: Vec<(Origin, RouteSpec)>,
    default_model: Option<&'static str>,
    asked: &'static [(&'static str, &'static str)],
) -> Namespace {
    let world = World { routes, default_model, enforce: true, tokens: tokens() };
    Namespace { title, world, asked }
}

const OWN_REQUESTS: &[(&str, &str)] = &[
    ("GET", "/health"),
    ("HEAD", "/health"),
    ("POST", "/health"),
    ("GET", "/admin"),
    ("GET", "/admin/users"),
    ("GET", "/v1/models"),
    ("GET", "/stats"),
    ("POST", "/score"),
    ("POST", "/score?model=iris-2"),
    ("POST", "/score?model=secret"),
    ("POST", "/score?model=iris&model=secret"),
    ("POST", "/score?model=%FF"),
    ("POST", "/score?model=a%20b"),
    ("POST", "/score?model="),
    ("POST", "/score/iris"),
    ("POST", "/score/iris?model=iris"),
    ("POST", "/score/iris?model=secret"),
    ("POST", "/score/secret"),
    ("POST", "/score/iris%20"),
    ("POST", "/invocations"),
    ("POST", "/invocations?model=iris"),
    ("POST", "/invocations?model=secret"),
    ("GET", "/repo/iris/v1"),
    ("GET", "/repo/org/iris"),
    ("GET", "/repo/iris/"),
    ("POST", "/iris:predict"),
    ("POST", "/secret:predict"),
    ("DELETE", "/iris:predict"),
    ("POST", "/chat"),
    ("POST", "/chat iris"),
    ("POST", "/chat secret"),
    ("POST", "/chat?model=iris iris"),
    ("POST", "/chat?model=secret iris"),
    ("POST", "/chat?model=iris"),
    ("POST", "/chat iris\t"),
    ("POST", "/chat (two models)"),
    ("POST", "/chat (too large)"),
    ("POST", "/chat (no JSON)"),
    ("POST", "/chat (compressed)"),
    ("POST", "/pkg.Service/Call iris"),
    ("POST", "/pkg.Service/Call secret"),
    ("POST", "/pkg.Service/Call"),
    ("POST", "/pkg.Service/Statistics iris"),
    ("POST", "/pkg.Service/Statistics secret"),
    ("POST", "/pkg.Service/Statistics"),
    ("POST", "/iris:v1:predict"),
];

fn body_named(text: &str) -> BodyModel<'_> {
    match text {
        "" => BodyModel::None,
        "(two models)" => BodyModel::Unclear(BodyFault::Conflict),
        "(too large)" => BodyModel::Unclear(BodyFault::TooLarge),
        "(no JSON)" => BodyModel::Unclear(BodyFault::Malformed),
        "(compressed)" => BodyModel::Unclear(BodyFault::Encoded),
        model => BodyModel::One(model),
    }
}

fn own_routes() -> Vec<(Origin, RouteSpec)> {
    let places = |names: &[&str]| Some(names.iter().map(|&name| name.into()).collect());
    let own = [
        route("GET", "/health", "public"),
        route("*", "/admin", "deny"),
        route("*", "/admin/{rest...}", "deny"),
        RouteSpec { any_resource: true, ..route("GET", "/v1/models", EVALUATION) },
        route("GET", "/stats", EVALUATION),
        RouteSpec { model: places(&["query:model"]), ..route("POST", "/score", EVALUATION) },
        RouteSpec {
            model: places(&["path", "query:model"]),
            ..route("POST", "/score/{model}", EVALUATION)
        },
        RouteSpec { model: places(&["default"]), ..route("POST", "/invocations", EVALUATION) },
        route("GET", "/repo/{model...}", EVALUATION),
        route("POST", "/{model}:predict", EVALUATION),
        route("DELETE", "/{model}", MANAGEMENT),
        RouteSpec { model: places(&["body", "form:model"]), ..route("POST", "/chat", EVALUATION) },
        RouteSpec {
            model: places(&["grpc:1"]),
            unnamed: Some("all".into()),
            ..route("POST", "/pkg.Service/Statistics", EVALUATION)
        },
        RouteSpec { model: places(&["grpc:1"]), ..route("POST", "/pkg.Service/Call", EVALUATION) },
    ];
    own.into_iter().map(|spec| (Origin::Own, spec)).collect()
}

fn namespaces() -> Vec<Namespace> {
    let mut unenforced = namespace(
        "The same, not enforced: what is not `yes` is let through and told",
        own_routes(),
        None,
        &OWN_REQUESTS[3..9],
    );
    let mut unenforced_bodies =
        namespace("The same, not enforced, bodies", own_routes(), None, &OWN_REQUESTS[28..]);
    unenforced_bodies.world.enforce = false;
    unenforced.world.enforce = false;
    vec![
        namespace(
            "Profile ovh",
            profile_routes("ovh"),
            None,
            &[
                ("GET", "/"),
                ("GET", "/iris"),
                ("HEAD", "/iris/"),
                ("POST", "/iris/eval"),
                ("POST", "/iris/eval?model=iris"),
                ("POST", "/iris/eval?model=secret"),
                ("GET", "/iris-2/describe"),
                ("POST", "/secret/eval"),
                ("POST", "/Iris/eval"),
                ("OPTIONS", "/iris/eval"),
                ("PUT", "/iris"),
                ("DELETE", "/secret"),
                ("DELETE", "/iris/versions/1"),
                ("PURGE", "/iris"),
            ],
        ),
        namespace(
            "Profile kserve-v2",
            profile_routes("kserve-v2"),
            None,
            &[
                ("GET", "/v2"),
                ("GET", "/v2/health/live"),
                ("GET", "/v2/health/ready"),
                ("GET", "/v2/health/other"),
                ("GET", "/v2/models/iris"),
                ("HEAD", "/v2/models/iris/ready"),
                ("GET", "/v2/models/secret/versions/1/ready"),
                ("POST", "/v2/models/iris/infer"),
                ("POST", "/v2/models/secret/infer"),
                ("POST", "/v2/models/iris/versions/1/infer"),
                ("POST", "/v2/models/iris/infer/"),
                ("POST", "/v2/models/iris"),
                ("POST", "/v2/repository/models/iris/load"),
                ("POST", "/v2/repository/models/secret/unload"),
                ("POST", "/v2/repository/index"),
                ("GET", "/v2/repository/anything"),
                ("GET", "/metrics"),
            ],
        ),
        namespace(
            "Routes of one's own, default model iris",
            own_routes(),
            Some("iris"),
            OWN_REQUESTS,
        ),
        namespace("The same, without a default model", own_routes(), None, &OWN_REQUESTS[7..22]),
        namespace("The same, bodies", own_routes(), None, &OWN_REQUESTS[28..]),
        unenforced,
        unenforced_bodies,
    ]
}

/// Asks for one target as every caller.
fn row(policy: &Policy, method: &'static str, target: &'static str) -> Vec<Verdict> {
    let (target, body) = target.split_once(' ').unwrap_or((target, ""));
    let body = body_named(body);
    let (path, query) = match target.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (target, None),
    };
    let request = |who| Request { method, path: path.into(), query, body, who, now: NOW };
    callers().into_iter().map(|(_, who)| judge(policy, &request(who))).collect()
}

fn table(namespace: &Namespace, seen: &mut BTreeSet<Reason>) -> String {
    let policy = namespace.world.policy();
    let letters: String =
        (b'A'..).take(callers().len()).map(|b| format!("{:<6}", b as char)).collect();
    let underline = "=".repeat(namespace.title.chars().count());
    let mut text = format!("\n{}\n{underline}\n", namespace.title);
    let _ = writeln!(text, "  {:<41}{:<14}{}", "", "", letters.trim_end());
    let mut heading = String::new();
    for (method, target) in namespace.asked {
        let verdicts = row(&policy, method, target);
        let route = verdicts[0].route.clone();
        // One route per row, whoever asks.
        assert!(verdicts.iter().all(|verdict| verdict.route == route), "{method} {target}");
        let asks =
            namespace.world.routes.iter().find(|(_, spec)| {
                route == Some(format!("{} {}", spec.methods.join(","), spec.path))
            });
        let told = match asks {
            Some((origin, spec)) => format!(
                "{} {}  -  {}{} ({})",
                spec.methods.join(","),
                spec.path,
                spec.group,
                if spec.any_resource { ", any resource" } else { "" },
                origin.as_str()
            ),
            None => "no route".into(),
        };
        if told != heading {
            let _ = writeln!(text, "{told}");
            heading = told;
        }
        let models: BTreeSet<&str> = verdicts.iter().filter_map(|v| v.model.as_deref()).collect();
        assert!(models.len() <= 1, "{method} {target} is about {models:?}");
        seen.extend(verdicts.iter().filter_map(|verdict| verdict.refused));
        let cells: String =
            verdicts.iter().map(|verdict| format!("{:<6}", in_short(verdict.refused))).collect();
        let model = models.first().copied().unwrap_or("-");
        let line =
            format!("  {:<41}{model:<14}{cells}", format!("{method} {}", target.escape_default()));
        let _ = writeln!(text, "{}", line.trim_end());
    }
    text
}

#[test]
fn every_caller_on_every_route() {
    let mut text = String::from("Who may do what: the decisions of a sample policy\n\nColumns\n");
    for (letter, (caller, _)) in (b'A'..).zip(callers()) {
        let _ = writeln!(text, "  {}      {caller}", char::from(letter));
    }
    text.push_str("\nCells\n  yes    allowed\n");
    for reason in Reason::ALL {
        let short = in_short(Some(reason));
        if short != "early" {
            let _ = writeln!(text, "  {short:<6} {}", reason.as_str());
        }
    }
    text.push_str(
        "\nThe word after a target is the model that the request is about, where it gets that far.\n",
    );
    let mut seen = BTreeSet::new();
    for namespace in namespaces() {
        text.push_str(&table(&namespace, &mut seen));
    }
    golden::check("decisions.txt", &text);

    // The table shows every answer that there is, and none that this question cannot have.
    let expected: BTreeSet<Reason> =
        Reason::ALL.into_iter().filter(|&reason| in_short(Some(reason)) != "early").collect();
    assert_eq!(seen, expected);
}
