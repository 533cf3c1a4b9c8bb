//! The built-in profiles: who may do what on each of their routes, kept in `golden/profiles/`, and
//! what becomes of them when a namespace has several.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use faregate::policy::profile::PROFILES;
use faregate::policy::{
    Access, BodyModel, Moment, Origin, Policy, RequestPath, Route, RouteSpec, TokenEntry,
};

use super::matrix::in_short;
use super::world::{
    EVALUATION, MANAGEMENT, Request, Verdict, Who, World, judge, profile_routes, token,
};
use crate::golden;

fn callers() -> Vec<(&'static str, Who)> {
    vec![
        ("nobody", Who::Nobody),
        ("evaluation of iris*", Who::Secret(0, "")),
        ("evaluation of *", Who::Secret(1, "")),
        ("management of iris*", Who::Secret(2, "")),
        ("management of *", Who::Secret(4, "")),
        ("no group, of every model", Who::Secret(5, "")),
    ]
}

fn tokens() -> Vec<TokenEntry> {
    vec![
        token(0, &[EVALUATION], &["iris*"]),
        token(1, &[EVALUATION], &["*"]),
        token(2, &[MANAGEMENT], &["iris*"]),
        token(4, &[MANAGEMENT], &["*"]),
        token(5, &[], &["*"]),
    ]
}

fn world(profiles: &[&str]) -> World {
    let routes = profiles.iter().flat_map(|name| profile_routes(name)).collect();
    World { routes, default_model: Some("iris"), enforce: true, tokens: tokens() }
}

/// A method and a path that a route is for, with this model where the path names one.
fn sample(spec: &RouteSpec, model: &str) -> (&'static str, String) {
    let method = match spec.methods[0].as_str() {
        "GET" => "GET",
        "PUT" => "PUT",
        "OPTIONS" => "OPTIONS",
        _ => "POST",
    };
    let path = spec.path.replace("{model}", model).replace("{model...}", &format!("{model}/v1"));
    let path = ["version", "label", "id"]
        .iter()
        .fold(path, |path, name| path.replace(&format!("{{{name}}}"), "1"));
    (method, path.replace("{rest...}", "some/thing"))
}

fn asks_in_body(spec: &RouteSpec) -> bool {
    let in_body = |place: &String| {
        place == "body" || place.starts_with("form:") || place.starts_with("grpc:")
    };
    spec.model.iter().flatten().any(in_body)
}

fn ask(
    policy: &Policy,
    method: &'static str,
    path: &str,
    body: BodyModel<'static>,
    who: Who,
) -> Verdict {
    let request = Request { method, path: path.into(), query: None, body, who, now: Moment(1_000) };
    judge(policy, &request)
}

fn rows(policy: &Policy, spec: &RouteSpec) -> String {
    let mut text = String::new();
    let (method, with_iris) = sample(spec, "iris");
    let in_path = with_iris != sample(spec, "secret").1;
    let mut asked = Vec::new();
    if asks_in_body(spec) {
        asked.push((with_iris.clone(), BodyModel::One("iris"), "iris in the body"));
        asked.push((with_iris.clone(), BodyModel::One("secret"), "secret in the body"));
        asked.push((with_iris, BodyModel::None, "none in the body"));
    } else {
        asked.push((with_iris, BodyModel::None, ""));
        if in_path {
            asked.push((sample(spec, "secret").1, BodyModel::None, ""));
        }
    }
    for (path, body, told) in asked {
        let verdicts: Vec<Verdict> =
            callers().into_iter().map(|(_, who)| ask(policy, method, &path, body, who)).collect();
        let cells: String =
            verdicts.iter().map(|verdict| format!("{:<6}", in_short(verdict.refused))).collect();
        let target = if told.is_empty() { path } else { format!("  {told}") };
        let _ = writeln!(text, "  {:<70}{}", target, cells.trim_end());
    }
    text
}

#[test]
fn every_caller_on_every_route_of_every_profile() {
    for profile in PROFILES {
        let world = world(&[profile.name]);
        let policy = world.policy();
        let mut text = format!(
            "The profile `{}`: its routes, and who may do what. The default model is iris.\n\n\
             Columns\n",
            profile.name
        );
        for (letter, (caller, _)) in (b'A'..).zip(callers()) {
            let _ = writeln!(text, "  {}  {caller}", char::from(letter));
        }
        let letters: String =
            (b'A'..).take(callers().len()).map(|b| format!("{:<6}", b as char)).collect();
        let _ = writeln!(text, "\n{:<72}{}", "", letters.trim_end());
        for (route, (_, spec)) in policy.rules().routes.routes().iter().zip(&world.routes) {
            let places: Vec<String> = route.places().iter().map(ToString::to_string).collect();
            let mut told = vec![route.access().as_str().to_owned()];
            if !places.is_empty() {
                told.push(format!("model from {}", places.join(", ")));
            }
            if route.unnamed_is_all() {
                told.push("none named is all".into());
            }
            match route.filter() {
                Some(filter) => told.push(format!("filtered as {}", filter.as_str())),
                None if route.any_resource() => told.push("any resource".into()),
                None => {}
            }
            told.push(format!("{} errors", route.dialect().as_str()));
            let _ = writeln!(text, "{route}  -  {}", told.join(", "));
            text.push_str(&rows(&policy, spec));
            // What a route is for is what is found for it.
            let (method, path) = sample(spec, "iris");
            let found = policy.rules().routes.find(method, &RequestPath::parse(&path).unwrap());
            assert_eq!(found.unwrap().route.to_string(), route.to_string(), "{}", profile.name);
        }
        golden::check(&format!("profiles/{}.txt", profile.name), &text);
    }
}

/// Where two profiles have the same path they agree on who may use it, so that their order never
/// opens anything; what is denied in one stays denied beside every other.
#[test]
fn profiles_beside_each_other_open_nothing_that_one_of_them_closes() {
    let mut compared = 0;
    for one in PROFILES {
        for other in PROFILES.iter().filter(|other| other.name != one.name) {
            let alone = world(&[one.name]).policy();
            let both = [[one.name, other.name], [other.name, one.name]]
                .map(|names| world(&names).policy());
            for (origin, spec) in profile_routes(one.name) {
                assert_eq!(origin, Origin::Profile(one.name));
                let (method, path) = sample(&spec, "iris");
                let path = RequestPath::parse(&path).unwrap();
                let own = alone.rules().routes.find(method, &path).unwrap().route.access().clone();
                // What the one model has at its root is for the group; there other servers tell
                // that they live. `ovh-runtime` is meant to be alone.
                if path.as_str() == "/" && [one.name, other.name].contains(&"ovh-runtime") {
                    continue;
                }
                for both in &both {
                    let rules = both.rules();
                    let found = rules.routes.find(method, &path).unwrap().route;
                    compared += 1;
                    assert!(
                        *found.access() == own || *found.access() == Access::Deny,
                        "{} beside {}: {method} {} took `{found}`",
                        one.name,
                        other.name,
                        path.as_str()
                    );
                }
            }
        }
    }
    assert!(compared > 3_000, "{compared}");
}

/// A model is looked for in the same places whichever profile stands first, but for what is listed:
/// two servers have one path for two purposes.
#[test]
fn profiles_beside_each_other_agree_where_the_model_is() {
    const DIFFER: &[&str] = &[
        // A list: filtered, about the only model, or for `*`.
        "/v1/models",
        // One model whatever the body says, or the one in the body.
        "/tokenize",
        "/v1/chat/completions",
        "/v1/completions",
        "/invocations",
        // The page of the only model, or a server's liveness.
        "/",
    ];
    let routes = |name| world(&[name]).policy().rules().clone();
    let places =
        |route: &Route| -> Vec<String> { route.places().iter().map(ToString::to_string).collect() };
    let mut seen = BTreeSet::new();
    for one in PROFILES {
        for other in PROFILES.iter().filter(|other| other.name != one.name) {
            let (one_rules, other_rules) = (routes(one.name), routes(other.name));
            for own in one_rules.routes.routes() {
                let meets = |other: &&Route| {
                    let has = |method: &str| own.methods().iter().any(|other| **other == *method);
                    other.path() == own.path() && other.methods().iter().any(|method| has(method))
                };
                let Some(theirs) = other_rules.routes.routes().iter().find(meets) else { continue };
                if places(own) != places(theirs) {
                    seen.insert(own.path().to_owned());
                }
            }
        }
    }
    assert_eq!(seen, DIFFER.iter().map(|&path| path.to_owned()).collect::<BTreeSet<_>>());
}
