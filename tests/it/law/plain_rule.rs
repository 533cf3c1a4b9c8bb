//! The rule said a second time, as plainly and as slowly as it can be said, straight from the token
//! file and the routes as written. The law must agree with it on everything.

use faregate::policy::{BodyFault, BodyModel, Moment, Reason, RouteSpec, SecretUsed, TokenEntry};
use proptest::collection::vec;
use proptest::prelude::*;

use super::world::{Request, Verdict, Who, World, a_request, a_world, hash, judge};

proptest! {
    #![proptest_config(super::cases(500))]

    #[test]
    fn the_law_follows_the_plain_rule(
        world in a_world(),
        requests in vec(a_request(), 1..24),
    ) {
        let policy = world.policy();
        for request in &requests {
            let said = judge(&policy, request);
            let expected = verdict(&world, request);
            prop_assert_eq!(&said, &expected, "{:?}", request);
        }
    }

    #[test]
    fn not_enforcing_changes_what_is_done_and_not_what_is_said(
        world in a_world(),
        requests in vec(a_request(), 1..12),
    ) {
        let enforced = World { enforce: true, ..world.clone() }.policy();
        let watched = World { enforce: false, ..world }.policy();
        for request in &requests {
            let (strict, mild) = (judge(&enforced, request), judge(&watched, request));
            prop_assert_eq!(strict.refused, mild.refused);
            prop_assert_eq!((strict.route, strict.token), (mild.route, mild.token));
        }
    }
}

/// A route that matched, and the bytes of the path that name the model.
pub(super) struct Match<'w> {
    pub(super) route: &'w RouteSpec,
    pub(super) model: Option<String>,
}

/// The route that a request takes; none for a path that would take another once it is decoded,
/// as some servers do before they look.
pub(super) fn taken<'w>(world: &'w World, method: &str, path: &str) -> Option<Match<'w>> {
    let found = find(world, method, path)?;
    let once_decoded = find_as(world, method, path, decoded)?;
    std::ptr::eq(found.route, once_decoded.route).then_some(found)
}

/// What the escapes of generated paths stand for.
fn decoded(text: &str) -> String {
    text.replace("%3A", ":").replace("%20", " ").replace("%C3%A9", "é")
}

/// The most specific route that matches the path as it stands.
pub(super) fn find<'w>(world: &'w World, method: &str, path: &str) -> Option<Match<'w>> {
    find_as(world, method, path, str::to_owned)
}

fn find_as<'w>(
    world: &'w World,
    method: &str,
    path: &str,
    read: fn(&str) -> String,
) -> Option<Match<'w>> {
    let matching = world.routes.iter().filter_map(|(_, route)| {
        let for_method = route
            .methods
            .iter()
            .any(|own| own == "*" || own == method || (own == "GET" && method == "HEAD"));
        let fit = for_method.then(|| fits(&read(&route.path), &read(path))).flatten();
        let (rank, model) = fit?;
        Some((rank, Match { route, model }))
    });
    // The first of equals, since `min_by` keeps it.
    matching.min_by(|(one, _), (other, _)| one.cmp(other)).map(|(_, found)| found)
}

/// How specific each segment of a route is, from the left; smaller is more specific. And the model.
type Fit = (Vec<(u8, usize)>, Option<String>);

fn fits(route: &str, path: &str) -> Option<Fit> {
    let mut segments = path.strip_prefix('/')?.split('/');
    let (mut rank, mut model) = (Vec::new(), None);
    for want in route.strip_prefix('/')?.split('/') {
        if let Some(name) = want.strip_suffix("...}") {
            let rest = segments.by_ref().collect::<Vec<_>>();
            if rest.is_empty() {
                return None;
            }
            rank.push((3, 0));
            if name == "{model" {
                if rest.last() == Some(&"") {
                    return None;
                }
                model = Some(rest.join("/"));
            }
            return Some((rank, model));
        }
        let segment = segments.next()?;
        if let Some((name, suffix)) = want.strip_prefix('{').and_then(|want| want.split_once('}')) {
            let value = segment.strip_suffix(suffix).filter(|value| !value.is_empty())?;
            rank.push(if suffix.is_empty() { (2, 0) } else { (1, usize::MAX - suffix.len()) });
            if name == "model" {
                model = Some(value.to_owned());
            }
        } else if segment == want {
            rank.push((0, 0));
        } else {
            return None;
        }
    }
    segments.next().is_none().then_some((rank, model))
}

/// Whether one of a token's patterns covers an id.
pub(super) fn covers(resources: &[&str], id: &str) -> bool {
    resources.iter().any(|pattern| match pattern.strip_suffix('*') {
        Some(prefix) => id.starts_with(prefix),
        None => *pattern == id,
    })
}

fn verdict(world: &World, request: &Request) -> Verdict {
    let found = taken(world, request.method, &request.path);
    let mut said = Verdict {
        refused: None,
        route: found
            .as_ref()
            .map(|found| format!("{} {}", found.route.methods.join(","), found.route.path)),
        token: None,
        used: None,
        model: None,
        asks_for_body: false,
    };
    if found.as_ref().is_some_and(|found| found.route.group == "public") {
        return said;
    }
    said.refused = rules_six_to_ten(world, request, found, &mut said).err();
    if said.refused.is_some() && world.enforce {
        // A refusal does not tell which secret it was.
        said.used = None;
    }
    said
}

fn rules_six_to_ten(
    world: &World,
    request: &Request,
    found: Option<Match<'_>>,
    said: &mut Verdict,
) -> Result<(), Reason> {
    let (entry, used) = known_token(world, &request.who)?;
    said.token = Some(entry.id.value.clone());
    said.used = Some(used);
    let is_over = |end: Option<Moment>| end.is_some_and(|end| end <= request.now);
    if entry.disabled {
        return Err(Reason::DisabledToken);
    }
    if is_over(entry.expires_at) {
        return Err(Reason::ExpiredToken);
    }
    if used == SecretUsed::Previous
        && is_over(entry.previous.as_ref().map(|previous| previous.valid_until))
    {
        return Err(Reason::UnknownToken);
    }
    let Match { route, model, .. } = found.ok_or(Reason::NoRoute)?;
    if route.group == "deny" {
        return Err(Reason::RouteDenied);
    }
    if !entry.groups.iter().any(|group| group.value == route.group) {
        return Err(Reason::GroupNotAllowed);
    }
    let resources: Vec<&str> = entry.resources.iter().map(|r| r.value.as_str()).collect();
    let is_covered = if asks_for_model(route) {
        let in_body = |place: &String| place == "body" || place.starts_with("form:");
        let reads_body = route.model.iter().flatten().any(in_body);
        let outside = named_outside(world, request, route, model)?;
        said.asks_for_body = reads_body;
        let body = if reads_body { request.body } else { BodyModel::None };
        said.model = model_of(world, route, outside, body)?;
        match &said.model {
            Some(id) => covers(&resources, id),
            None => resources.contains(&"*"),
        }
    } else {
        route.any_resource || resources.contains(&"*")
    };
    if is_covered { Ok(()) } else { Err(Reason::ResourceNotAllowed) }
}

fn known_token<'w>(world: &'w World, who: &Who) -> Result<(&'w TokenEntry, SecretUsed), Reason> {
    let by_number = |number: usize| {
        world.tokens.iter().find_map(|entry| {
            if entry.hash == hash(number) {
                return Some((entry, SecretUsed::Current));
            }
            let previous = entry.previous.as_ref()?;
            (previous.hash == hash(number)).then_some((entry, SecretUsed::Previous))
        })
    };
    let known = match who {
        Who::Nobody => return Err(Reason::NoCredential),
        Who::Bytes(_) => None,
        Who::Known(id) => {
            let entry = world.tokens.iter().find(|entry| entry.id.value == *id);
            entry.map(|entry| (entry, SecretUsed::Current))
        }
        Who::Secret(number, user) => {
            by_number(*number).filter(|(entry, _)| user.is_empty() || entry.id.value == *user)
        }
    };
    known.ok_or(Reason::UnknownToken)
}

fn asks_for_model(route: &RouteSpec) -> bool {
    match &route.model {
        Some(places) => !places.is_empty(),
        None => route.path.contains("{model"),
    }
}

/// What path and query name, or the default model where a route is always about that.
fn named_outside(
    world: &World,
    request: &Request,
    route: &RouteSpec,
    in_path: Option<String>,
) -> Result<Option<String>, Reason> {
    // The stock of queries is small enough to say what each of them names.
    let in_query = match request.query {
        None | Some("" | "k=v") => None,
        Some("model=a" | "model=a&model=a") => Some("a"),
        Some("model=iris") => Some("iris"),
        Some("k&model=org/a") => Some("org/a"),
        Some("model=a%20b") => Some("a b"),
        Some("model=") => Some(""),
        Some("model=a&model=iris" | "model=%FF") => return Err(Reason::ModelConflict),
        Some(other) => panic!("say what `{other}` names"),
    };
    let named = if is_about_default(route) {
        let Some(default) = world.default_model else { return Ok(None) };
        Some(default.to_owned())
    } else {
        in_path.map(|text| decoded(&text))
    };
    match (named, in_query) {
        (Some(one), Some(other)) if one != other => Err(Reason::ModelConflict),
        (None, Some(other)) => Ok(Some(other.to_owned())),
        (named, _) => Ok(named),
    }
}

fn is_about_default(route: &RouteSpec) -> bool {
    route.model.iter().flatten().any(|place| place == "default")
}

fn model_of(
    world: &World,
    route: &RouteSpec,
    outside: Option<String>,
    body: BodyModel<'_>,
) -> Result<Option<String>, Reason> {
    let id = match (outside, body) {
        (_, BodyModel::Unclear(BodyFault::Conflict)) => return Err(Reason::ModelConflict),
        (_, BodyModel::Unclear(BodyFault::TooLarge)) => return Err(Reason::BodyTooLarge),
        (_, BodyModel::Unclear(BodyFault::Malformed)) => return Err(Reason::BadBody),
        (_, BodyModel::Unclear(BodyFault::NotAnId)) => return Err(Reason::BadModel),
        (_, BodyModel::Unclear(BodyFault::Encoded)) => return Err(Reason::UnsupportedEncoding),
        (_, BodyModel::Unclear(BodyFault::Absent)) => return Err(Reason::ModelUnresolved),
        (Some(one), BodyModel::One(other)) if one != other => return Err(Reason::ModelConflict),
        (Some(one), _) => one,
        (None, BodyModel::One(other)) => other.to_owned(),
        (None, BodyModel::None) if route.unnamed.as_deref() == Some("all") => return Ok(None),
        (None, BodyModel::None) if is_about_default(route) => return Err(Reason::ModelUnresolved),
        (None, BodyModel::None) => world.default_model.ok_or(Reason::ModelUnresolved)?.to_owned(),
    };
    if id.is_empty() || id.contains(' ') { Err(Reason::BadModel) } else { Ok(Some(id)) }
}

#[test]
fn generated_requests_meet_every_reason() {
    use std::cell::RefCell;
    use std::collections::BTreeMap;

    // A property over questions that all have one answer would show nothing.
    let seen: RefCell<BTreeMap<Option<Reason>, usize>> = RefCell::default();
    let mut runner = proptest::test_runner::TestRunner::new(super::cases(400));
    runner
        .run(&(a_world(), vec(a_request(), 48)), |(world, requests)| {
            let policy = world.policy();
            for request in &requests {
                *seen.borrow_mut().entry(judge(&policy, request).refused).or_default() += 1;
            }
            Ok(())
        })
        .unwrap_or_else(|e| panic!("{e}"));
    let seen = seen.into_inner();
    for reason in [
        None,
        Some(Reason::RouteDenied),
        Some(Reason::NoCredential),
        Some(Reason::UnknownToken),
        Some(Reason::ExpiredToken),
        Some(Reason::DisabledToken),
        Some(Reason::NoRoute),
        Some(Reason::GroupNotAllowed),
        Some(Reason::ModelConflict),
        Some(Reason::ModelUnresolved),
        Some(Reason::BodyTooLarge),
        Some(Reason::BadBody),
        Some(Reason::UnsupportedEncoding),
        Some(Reason::BadModel),
        Some(Reason::ResourceNotAllowed),
    ] {
        assert!(seen.get(&reason).is_some_and(|&times| times > 3), "{reason:?}: {seen:?}");
    }
}
