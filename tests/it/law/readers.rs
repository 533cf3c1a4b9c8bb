//! What is forwarded may be read by a server in more ways than one: whatever it makes of the path
//! or the query, it must not arrive at a model or a route that the caller may not use.
//!
//! A path that the law allows is put through every rewriting that servers, frameworks and gateways
//! are known to do, and through every two of them; what comes out is looked up as an open-hearted
//! server would, and judged again.

use std::cell::Cell;
use std::collections::BTreeSet;

use faregate::policy::{
    Ask, BodyModel, Caller, Decision, Moment, Origin, Policy, RequestPath, RouteSpec, TokenEntry,
};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use proptest::test_runner::TestRunner;
use unicode_normalization::UnicodeNormalization;

use super::plain_rule::{covers, find};
use super::world::{
    EVALUATION, MANAGEMENT, Request, Who, World, judge, profile_routes, route, token, words,
};

type Rewriting = (&'static str, fn(&str) -> String);

/// What servers do to a path.
const REWRITINGS: &[Rewriting] = &[
    ("nothing", |path| path.into()),
    ("percent-decode", |path| decoded(path, false)),
    ("percent-decode, lenient", |path| decoded(path, true)),
    ("remove dot segments", without_dots),
    ("merge slashes", merged),
    ("backslash is slash", |path| path.replace('\\', "/")),
    ("cut path parameters", without_parameters),
    ("cut at `?`, `#` or NUL", |path| {
        path.split(['?', '#', '\0']).next().unwrap_or_default().into()
    }),
    ("NFC", |path| path.nfc().collect()),
    ("NFKC", |path| path.nfkc().collect()),
];

/// What some do beside: file systems that forget what stands at an end, or the case of letters.
/// Among routes of one's own a name with a dot at its end, or a trailing slash, may well be
/// something else; with a built-in profile alone nothing may come of it.
const FORGETFUL_REWRITINGS: &[Rewriting] = &[
    ("nothing", |path| path.into()),
    ("percent-decode", |path| decoded(path, false)),
    ("trim slashes, dots and spaces", |path| {
        let kept = path.trim_end_matches(['/', '.', ' ']);
        if kept.is_empty() { "/".into() } else { kept.into() }
    }),
    ("lower-case", |path| path.to_lowercase()),
    ("NFKC", |path| path.nfkc().collect()),
];

/// Percent-decodes; bytes that are no text become U+FFFD. The lenient kind takes what is no escape
/// as it stands; the other leaves the whole path alone then.
fn decoded(path: &str, lenient: bool) -> String {
    let bytes = path.as_bytes();
    let (mut text, mut place) = (Vec::new(), 0);
    while let Some(&byte) = bytes.get(place) {
        let two = bytes.get(place + 1..place + 3).and_then(|two| std::str::from_utf8(two).ok());
        match two.filter(|_| byte == b'%').and_then(|two| u8::from_str_radix(two, 16).ok()) {
            Some(value) => {
                text.push(value);
                place += 3;
            }
            None if byte == b'%' && !lenient => return path.into(),
            None => {
                text.push(byte);
                place += 1;
            }
        }
    }
    String::from_utf8_lossy(&text).into_owned()
}

fn without_dots(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    for segment in path.split('/').skip(1) {
        match segment {
            "." => {}
            ".." => {
                kept.pop();
            }
            other => kept.push(other),
        }
    }
    format!("/{}", kept.join("/"))
}

fn merged(path: &str) -> String {
    let mut text = path.to_owned();
    while text.contains("//") {
        text = text.replace("//", "/");
    }
    text
}

fn without_parameters(path: &str) -> String {
    let cut = |segment: &str| segment.split(';').next().unwrap_or_default().to_owned();
    path.split('/').map(cut).collect::<Vec<_>>().join("/")
}

/// Every path that one rewriting or two make of this one, with how it came about.
fn readings(path: &str, rewritings: &[Rewriting]) -> Vec<(String, String)> {
    let mut seen = BTreeSet::new();
    let mut readings = Vec::new();
    for (first, once) in rewritings {
        let once = once(path);
        if once == path && *first != "nothing" {
            continue;
        }
        for (second, twice) in rewritings {
            let reading = twice(&once);
            if seen.insert(reading.clone()) {
                readings.push((reading, format!("{first}, then {second}")));
            }
        }
    }
    readings
}

/// Whether a caller may do what a server understood. `Err` says why not.
fn entitled(
    world: &World,
    token: Option<&TokenEntry>,
    method: &str,
    path: &str,
) -> Result<(), String> {
    let Some(found) = find(world, method, path) else {
        return Err("nobody mapped it".into());
    };
    let RouteSpec { group, any_resource, filter, .. } = found.route;
    if group == "public" {
        return Ok(());
    }
    let Some(token) = token else { return Err(format!("`{}` needs a token", found.route.path)) };
    if !token.groups.iter().any(|own| own.value == *group) {
        return Err(format!("`{}` asks for `{group}`", found.route.path));
    }
    let resources: Vec<&str> = token.resources.iter().map(|own| own.value.as_str()).collect();
    match found.model {
        Some(model) if !covers(&resources, &decoded(&model, true)) => {
            Err(format!("it names the model `{model}`"))
        }
        None if !any_resource && filter.is_none() && !resources.contains(&"*") => {
            Err("it asks for `*`".into())
        }
        _ => Ok(()),
    }
}

/// Who asks: evaluation and management of two names, evaluation of the names that paths are made
/// of, management of everything, and nobody. None of them may evaluate the model `secret`.
fn tokens() -> Vec<TokenEntry> {
    vec![
        token(0, &[EVALUATION], &["allowed", "pre-*"]),
        token(1, &[MANAGEMENT], &["allowed", "pre-*"]),
        token(2, &[EVALUATION], &["allowed*", "v2", "v1", "models", "org/*", "admin"]),
        token(4, &[MANAGEMENT], &["*"]),
    ]
}

/// Routes of one's own of every kind, that lie close to each other.
fn own_routes() -> Vec<(Origin, RouteSpec)> {
    let own = [
        route("GET", "/health", "public"),
        route("GET", "/docs/{page...}", "public"),
        route("*", "/admin", "deny"),
        route("*", "/admin/{rest...}", "deny"),
        route("POST", "/v1/models:reload", "deny"),
        route("POST", "/v1/models/{model}:predict", EVALUATION),
        route("POST", "/v1/models/{model}:stop", MANAGEMENT),
        route("POST", "/v1/models/{model}", MANAGEMENT),
        route("GET", "/v1/models/{model...}", EVALUATION),
        route("POST", "/jobs/{model}/start", MANAGEMENT),
        route("POST", "/jobs/{model}/{step}", EVALUATION),
        route("POST", "/{model}/eval", EVALUATION),
    ];
    own.into_iter().map(|spec| (Origin::Own, spec)).collect()
}

fn worlds() -> Vec<World> {
    let routes = [
        profile_routes("ovh"),
        profile_routes("kserve-v2"),
        [profile_routes("kserve-v2"), profile_routes("ovh")].concat(),
        [profile_routes("kserve-v1"), profile_routes("tensorflow-serving")].concat(),
        [profile_routes("torchserve"), profile_routes("triton")].concat(),
        [profile_routes("openai"), profile_routes("vllm")].concat(),
        own_routes(),
        [own_routes(), profile_routes("ovh")].concat(),
        [own_routes(), profile_routes("any")].concat(),
    ];
    routes
        .into_iter()
        .map(|routes| World { routes, default_model: None, enforce: true, tokens: tokens() })
        .collect()
}

/// A path that some route takes, as a client would write it.
fn a_plain_path() -> impl Strategy<Value = String> {
    let form = words(
        "/{} /{}/eval /{}/describe /v2 /v2/health/live /v2/models/{}/infer \
             /v2/models/{} /v2/models/{}/ready /v2/models/{}/versions/1/infer \
             /v2/repository/index /v2/repository/models/{}/load /health /docs/{} /admin \
             /admin/{} /v1/models:reload /v1/models/{} /v1/models/{}:predict \
             /v1/models/{}:stop /jobs/{}/start /jobs/{}/{} /{}/{}/{}",
    );
    let name = || {
        words(
            "allowed allowed pre-x pre-x pre- secret org v2 v1 models eval start a+b caf\u{e9} \
               pre-\u{e9}",
        )
    };
    (form, name(), name(), name()).prop_map(|(form, one, two, three)| {
        [one, two, three].iter().fold(form.to_owned(), |path, name| path.replacen("{}", name, 1))
    })
}

/// What somebody does to a path so that it looks like another one and still arrives: the reverse of
/// what some server does.
#[derive(Debug, Clone)]
enum Disguise {
    /// Escapes a character, in the digits of this case.
    Escape { upper: bool },
    /// Escapes a character and its escape.
    EscapeTwice,
    /// Writes a character in its full width.
    Widen,
    /// Writes letters and their accents apart.
    Decompose,
    /// Puts something in after a slash.
    AfterSlash(&'static str),
    /// Puts something in the place of a slash.
    ForSlash(&'static str),
    /// Puts something in anywhere.
    Anywhere(&'static str),
    /// Puts something at the end.
    AtEnd(&'static str),
}

fn a_disguise() -> impl Strategy<Value = Disguise> {
    let around = words(
        "%3A : %20 %2B %40 %21 %26 %3D %2C %22 %7B %60 %7C %2A %CC%81 %CC%B8 \
                        %EF%BC%9A %C2%BD %C2%A0 %C2%A8 %E2%80%8B %EF%AC%81 %E2%84%AA %E2%81%84 \
                        %E2%88%95 %C4%B0 %C0%AF %61 %25",
    );
    let ends = words(
        ":predict :stop %3Apredict %3Astop %EF%BC%9Fx %EF%BC%83x ?x #x %3Fx %23x \
                      %00x \0 ;v=1 %3Bv=1 %EF%BC%9Bv=1 /.. /. /%2E%2E . .. %20 %C2%A0 / //",
    );
    prop_oneof![
        4 => any::<bool>().prop_map(|upper| Disguise::Escape { upper }),
        1 => Just(Disguise::EscapeTwice),
        4 => Just(Disguise::Widen),
        1 => Just(Disguise::Decompose),
        1 => select(vec!["/", "./", "x/../", "..;/", "%2E/", "%EF%BC%8E/", ".%2F"])
            .prop_map(Disguise::AfterSlash),
        1 => select(vec!["\\", "%2F", "%2f", "%5C", "%252F", "%EF%BC%8F", "%C0%AF", ";a=b/"])
            .prop_map(Disguise::ForSlash),
        2 => around.prop_map(Disguise::Anywhere),
        2 => ends.prop_map(Disguise::AtEnd),
    ]
}

fn disguised(path: &str, disguise: &Disguise, at: Index) -> String {
    let (place, one) = path.char_indices().nth(at.index(path.chars().count())).unwrap();
    let (before, after) = (&path[..place], &path[place + one.len_utf8()..]);
    let escaped = |text: &str| -> String { text.bytes().map(|b| format!("%{b:02X}")).collect() };
    let slashes: Vec<usize> = path.match_indices('/').map(|(slash, _)| slash).collect();
    let slash = if slashes.is_empty() { 0 } else { slashes[at.index(slashes.len())] };
    let (to_slash, from_slash) = (&path[..slash], path[slash..].trim_start_matches('/'));
    match disguise {
        Disguise::Escape { upper: true } => {
            format!("{before}{}{after}", escaped(one.encode_utf8(&mut [0; 4])))
        }
        Disguise::Escape { upper: false } => {
            let escaped = escaped(one.encode_utf8(&mut [0; 4])).to_ascii_lowercase();
            format!("{before}{escaped}{after}")
        }
        Disguise::EscapeTwice => {
            format!("{before}{}{after}", escaped(one.encode_utf8(&mut [0; 4])).replace('%', "%25"))
        }
        Disguise::Widen if ('!'..='~').contains(&one) => {
            let wide = char::from_u32(u32::from(one) + 0xfee0).unwrap();
            format!("{before}{}{after}", escaped(wide.encode_utf8(&mut [0; 4])))
        }
        Disguise::Widen => path.into(),
        Disguise::Decompose => path.nfd().collect(),
        Disguise::AfterSlash(text) => format!("{to_slash}/{text}{from_slash}"),
        Disguise::ForSlash(text) => format!("{to_slash}{text}{from_slash}"),
        Disguise::Anywhere(text) => format!("{before}{one}{text}{after}"),
        Disguise::AtEnd(text) => format!("{path}{text}"),
    }
}

/// A path in up to two disguises; what no URL can hold as it stands is escaped as clients do.
fn a_disguised_path() -> impl Strategy<Value = String> {
    (a_plain_path(), vec((a_disguise(), any::<Index>()), 0..3)).prop_map(|(path, disguises)| {
        let path =
            disguises.iter().fold(path, |path, (disguise, at)| disguised(&path, disguise, *at));
        let mut text = String::new();
        for character in path.chars() {
            if character.is_ascii() {
                text.push(character);
            } else {
                let mut bytes = [0; 4];
                let bytes = character.encode_utf8(&mut bytes).bytes();
                text.extend(bytes.map(|byte| format!("%{byte:02X}")));
            }
        }
        text
    })
}

/// How often a request was allowed, and how often in a path that can be read in two ways.
#[derive(Debug, Default)]
struct Seen {
    allowed: Cell<u32>,
    bent: Cell<u32>,
}

fn count(cell: &Cell<u32>) {
    cell.set(cell.get() + 1);
}

/// Asks for a path in every world, as each of its tokens and as nobody; where it is allowed, every
/// reading must be allowed too.
fn check(
    worlds: &[(Policy, World)],
    rewritings: &[Rewriting],
    may_leave_the_routes: bool,
    method: &'static str,
    path: &str,
    seen: &Seen,
) -> Result<(), TestCaseError> {
    if RequestPath::parse(path).is_err() {
        return Ok(());
    }
    let mut readings = None;
    for (policy, world) in worlds {
        for token in world.tokens.iter().map(Some).chain([None]) {
            let who = token.map_or(Who::Nobody, |token| Who::Known(token.id.value.clone()));
            let (asked, query, now) = (path.to_owned(), None, Moment(0));
            let body = BodyModel::None;
            let request = Request { method, path: asked, query, body, who, now };
            if judge(policy, &request).refused.is_some() {
                continue;
            }
            let readings = readings.get_or_insert_with(|| self::readings(path, rewritings));
            count(&seen.allowed);
            if readings.len() > 1 {
                count(&seen.bent);
            }
            for (reading, how) in readings.iter() {
                if may_leave_the_routes && find(world, method, reading).is_none() {
                    continue;
                }
                if let Err(why) = entitled(world, token, method, reading) {
                    return Err(TestCaseError::fail(format!(
                        "{method} {path} is allowed to {:?}, but some server reads {reading:?} \
                         ({how}): {why}",
                        token.map(|token| &token.resources)
                    )));
                }
            }
        }
    }
    Ok(())
}

fn a_method() -> impl Strategy<Value = &'static str> {
    select(vec!["GET", "POST", "POST", "PUT", "DELETE"])
}

fn with_policies(worlds: Vec<World>) -> Vec<(Policy, World)> {
    worlds.into_iter().map(|world| (world.policy(), world)).collect()
}

#[test]
fn no_reading_of_an_allowed_path_is_forbidden() {
    let (worlds, seen) = (with_policies(worlds()), Seen::default());
    TestRunner::new(super::cases(8_000))
        .run(&(a_disguised_path(), a_method()), |(path, method)| {
            check(&worlds, REWRITINGS, false, method, &path, &seen)
        })
        .unwrap_or_else(|e| panic!("{e}"));
    // Otherwise the test would show nothing.
    assert!(seen.allowed.get() > 3_000 && seen.bent.get() > 500, "{seen:?}");
}

#[test]
fn no_forgetful_reading_under_a_profile_is_forbidden() {
    let seen = Seen::default();
    let profiles = ["ovh", "kserve-v2", "kserve-v1", "tensorflow-serving", "torchserve", "openai"];
    let worlds = profiles.map(|profile| World {
        routes: profile_routes(profile),
        default_model: None,
        enforce: true,
        tokens: tokens()[..2].to_vec(),
    });
    let worlds = with_policies(worlds.into());
    TestRunner::new(super::cases(12_000))
        .run(&(a_disguised_path(), a_method()), |(path, method)| {
            check(&worlds, FORGETFUL_REWRITINGS, true, method, &path, &seen)
        })
        .unwrap_or_else(|e| panic!("{e}"));
    assert!(seen.allowed.get() > 300 && seen.bent.get() > 60, "{seen:?}");
}

/// A parameter's name and value, decoded.
type Parameter = (String, String);

type QueryReader = (&'static str, fn(&str) -> Vec<Parameter>);

/// What servers make of a query: which parameters they see, and which of them is the model.
const QUERY_READERS: &[QueryReader] = &[
    ("`&` parts", |query| parameters(query, &['&'])),
    ("`&` and `;` part", |query| parameters(query, &['&', ';'])),
    ("`model[]` is a list of `model`", |query| {
        renamed(query, |name| name.trim_end_matches("[]").into())
    }),
    ("the case of a name does not matter", |query| renamed(query, |name| name.to_lowercase())),
    ("a name has no white space around it", |query| renamed(query, |name| name.trim().into())),
    ("a name ends at NUL", |query| {
        renamed(query, |name| name.split('\0').next().unwrap_or_default().into())
    }),
];

fn parameters(query: &str, separators: &[char]) -> Vec<Parameter> {
    query
        .split(separators)
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(|(name, value)| [name, value].map(|text| decoded(&text.replace('+', " "), true)))
        .map(|[name, value]| (name, value))
        .collect()
}

fn renamed(query: &str, as_read: fn(&str) -> String) -> Vec<Parameter> {
    let parameters = parameters(query, &['&']);
    parameters.into_iter().map(|(name, value)| (as_read(&name), value)).collect()
}

#[test]
fn no_reading_of_an_allowed_query_names_a_forbidden_model() {
    let score = RouteSpec {
        model: Some(vec!["query:model".into()]),
        ..route("POST", "/score", EVALUATION)
    };
    let both = RouteSpec {
        model: Some(vec!["path".into(), "query:model".into()]),
        ..route("POST", "/score/{model}", EVALUATION)
    };
    let world = |default_model| World {
        routes: vec![(Origin::Own, score.clone()), (Origin::Own, both.clone())],
        default_model,
        enforce: true,
        tokens: vec![token(0, &[EVALUATION], &["allowed", "pre-*"])],
    };
    let worlds =
        [None, Some("allowed"), Some("secret")].map(|default| (world(default).policy(), default));
    let piece = words(
        "model model model = = = & & ; allowed allowed pre-x secret secret k k=v \
             model=allowed model=secret %6dodel=secret mod%65l model[]=allowed \
             model[]=secret model%5B%5D=secret + %20 %26 %3D %3B %00 % %FF %zz []",
    );
    let query = vec(piece, 0..7).prop_map(|pieces| pieces.concat());
    let allowed = Cell::new(0);
    TestRunner::new(super::cases(8_000))
        .run(&(query, select(vec!["/score", "/score/allowed"])), |(query, path)| {
            for (policy, default) in &worlds {
                if !allows(policy, path, &query) {
                    continue;
                }
                allowed.set(allowed.get() + 1);
                for (reader, read) in QUERY_READERS {
                    let in_path = path.strip_prefix("/score/");
                    let parameters = read(&query);
                    let mut named = parameters.iter().filter(|(name, _)| name == "model");
                    // Where a model is named twice, some take the first and some the last.
                    let first = named.next().map(|(_, value)| value.as_str());
                    let last = named.next_back().map_or(first, |(_, value)| Some(value));
                    let models = [first, last].map(|model| model.or(in_path).or(*default));
                    let is_covered = |model: &Option<&str>| {
                        model.is_none_or(|id| covers(&["allowed", "pre-*"], id))
                    };
                    prop_assert!(
                        models.iter().all(is_covered),
                        "{}?{} is allowed with the default model {:?}, but some server ({}) reads {:?}",
                        path, query, default, reader, models
                    );
                }
            }
            Ok(())
        })
        .unwrap_or_else(|e| panic!("{e}"));
    assert!(allowed.get() > 1_000, "only {} were allowed", allowed.get());
}

fn allows(policy: &Policy, path: &str, query: &str) -> bool {
    let path = RequestPath::parse(path).unwrap();
    let caller = Caller::Known("token-0");
    let ask = Ask { method: "POST", path, query: Some(query), caller, now: Moment(0) };
    matches!(policy.decide(&ask), Decision::Allow(_))
}
