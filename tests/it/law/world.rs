//! Policies and requests, by hand or generated.

use std::collections::BTreeMap;
use std::sync::Arc;

use faregate::policy::{
    Ask, BodyFault, BodyModel, Caller, Decision, Document, ModelId, Moment, Origin, Placed, Policy,
    Previous, Reason, RequestPath, RouteSpec, RouteTable, Rules, SecretUsed, TokenEntry, compile,
    profile,
};
use faregate::token::{Digest, Presented, Secret, SecretKind};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::{Select, select, subsequence};

pub(super) const EVALUATION: &str = "model-evaluation";
pub(super) const MANAGEMENT: &str = "model-management";

/// A namespace: its routes, its default model and its token file.
#[derive(Debug, Clone)]
pub(super) struct World {
    pub(super) routes: Vec<(Origin, RouteSpec)>,
    pub(super) default_model: Option<&'static str>,
    pub(super) enforce: bool,
    pub(super) tokens: Vec<TokenEntry>,
}

impl World {
    pub(super) fn rules(&self) -> Arc<Rules> {
        let mut routes = RouteTable::new();
        for (origin, spec) in &self.routes {
            routes.add(origin.clone(), spec).unwrap_or_else(|e| panic!("{spec:?}: {e:?}"));
        }
        let default_model = self.default_model.map(|id| ModelId::parse(id).unwrap());
        Arc::new(Rules { routes, default_model, enforce: self.enforce })
    }

    pub(super) fn policy(&self) -> Policy {
        self.policy_under(self.rules())
    }

    /// The tokens of this world under the routes of another.
    pub(super) fn policy_under(&self, rules: Arc<Rules>) -> Policy {
        policy(&Document { admins: Vec::new(), tokens: self.tokens.clone() }, rules)
    }

    pub(super) fn with_tokens(&self, tokens: Vec<TokenEntry>) -> Self {
        Self { tokens, ..self.clone() }
    }
}

/// The policy of a document that is known to be good.
pub(super) fn policy(document: &Document, rules: Arc<Rules>) -> Policy {
    match compile(document, rules) {
        Ok(compiled) => compiled.policy,
        Err(problems) => panic!("the document was meant to be good: {problems}"),
    }
}

/// Who presents what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Who {
    Nobody,
    /// Whoever knows the secret of this number, with this user name beside it.
    Secret(usize, &'static str),
    /// Whoever presents these bytes.
    Bytes(Vec<u8>),
    /// The token with this id, as `explain` asks.
    Known(String),
}

#[derive(Debug, Clone)]
pub(super) struct Request {
    pub(super) method: &'static str,
    pub(super) path: String,
    pub(super) query: Option<&'static str>,
    /// What is found in its body, should the law ask for it.
    pub(super) body: BodyModel<'static>,
    pub(super) who: Who,
    pub(super) now: Moment,
}

/// What the law said, in words that do not depend on where an entry stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Verdict {
    /// None: allowed. Where nothing is enforced: what would have been.
    pub(super) refused: Option<Reason>,
    pub(super) route: Option<String>,
    pub(super) token: Option<String>,
    pub(super) used: Option<SecretUsed>,
    pub(super) model: Option<String>,
    /// Whether the body had to be looked at.
    pub(super) asks_for_body: bool,
}

/// Asks the law, both ways it can be asked, and holds the two answers against each other.
pub(super) fn judge(policy: &Policy, request: &Request) -> Verdict {
    let text;
    let caller = match &request.who {
        Who::Nobody => Caller::Nobody,
        Who::Secret(number, user) => {
            text = secret(*number);
            Caller::Secret { secret: Presented::new(text.as_bytes()), user }
        }
        Who::Bytes(bytes) => Caller::Secret { secret: Presented::new(bytes), user: "" },
        Who::Known(id) => Caller::Known(id),
    };
    let path = RequestPath::parse(&request.path).unwrap();
    let ask = Ask { method: request.method, path, query: request.query, caller, now: request.now };
    let first = policy.decide(&ask);
    let explained = policy.explain(&ask, None);
    assert_eq!(told(policy, &explained.decision), told(policy, &first), "{request:?}");
    let asks_for_body = matches!(first, Decision::Inspect(_));
    let last = match first {
        Decision::Inspect(inspection) => policy.decide_with(&ask, inspection, request.body),
        decided => decided,
    };
    let verdict = told(policy, &last);
    assert!(!matches!(last, Decision::Inspect(_)), "asked twice: {request:?}");
    let explained = policy.explain(&ask, Some(request.body));
    assert_eq!(told(policy, &explained.decision), verdict, "explain says otherwise: {request:?}");
    assert!(!explained.steps.is_empty(), "explain gives no reason: {request:?}");
    if let Decision::Allow(permit) = &last
        && permit.would_deny().is_none()
    {
        assert!(policy.still_grants(&permit.grant(), policy.rules(), request.now), "{request:?}");
    }
    Verdict { asks_for_body, ..verdict }
}

fn told(policy: &Policy, decision: &Decision) -> Verdict {
    let (refused, route, token, used, model) = match decision {
        Decision::Allow(permit) => (
            permit.would_deny(),
            permit.route(),
            permit.token(),
            permit.secret_used(),
            permit.model().cloned(),
        ),
        Decision::Inspect(inspection) => {
            (None, Some(inspection.route()), Some(inspection.token()), None, None)
        }
        Decision::Deny(denial) => {
            (Some(denial.reason), denial.route, denial.token, None, denial.model.clone())
        }
    };
    Verdict {
        refused,
        route: route.map(|index| policy.rules().routes.routes()[index].to_string()),
        token: token.map(|index| policy.token_id(index).unwrap().to_string()),
        used,
        model: model.map(|model| model.to_string()),
        asks_for_body: matches!(decision, Decision::Inspect(_)),
    }
}

/// The secret of a number. Every fourth is a key of another make, known by its SHA-256.
pub(super) fn secret(number: usize) -> String {
    if number % 4 == 3 {
        return format!("sk-brought-from-elsewhere-{number}");
    }
    let mut entropy = [0x5a; 32];
    entropy[..8].copy_from_slice(&number.to_be_bytes());
    Secret::from_entropy(SecretKind::Token, &entropy).reveal().to_string()
}

/// What the token file says of [`secret`].
pub(super) fn hash(number: usize) -> Placed<String> {
    let secret = secret(number);
    let digest = if number % 4 == 3 { Digest::sha256 } else { Digest::blake3 };
    Placed::made(digest(secret.as_bytes()).to_file_form())
}

/// A token in force that has the secret of this number, and may do nothing else.
pub(super) fn token(number: usize, groups: &[&str], resources: &[&str]) -> TokenEntry {
    let made = |texts: &[&str]| texts.iter().map(|&text| Placed::made(text.into())).collect();
    TokenEntry {
        id: Placed::made(format!("token-{number}")),
        name: None,
        hash: hash(number),
        resources: made(resources),
        groups: made(groups),
        created_at: None,
        expires_at: None,
        disabled: false,
        previous: None,
        limits: None,
        labels: BTreeMap::new(),
    }
}

/// The number of the secret that a generated token had before it was regenerated.
pub(super) fn previous_number(number: usize) -> usize {
    100 + number
}

/// A route, written as in a file.
pub(super) fn route(methods: &str, path: &str, group: &str) -> RouteSpec {
    RouteSpec {
        methods: methods.split(' ').map(Into::into).collect(),
        path: path.into(),
        group: group.into(),
        ..RouteSpec::default()
    }
}

/// The routes of a built-in profile, read from its file.
pub(super) fn profile_routes(name: &str) -> Vec<(Origin, RouteSpec)> {
    let profile = profile::find(name).unwrap();
    let file: toml_edit::DocumentMut = profile.text.parse().unwrap();
    let texts = |item: &toml_edit::Item| -> Vec<String> {
        let array = item.as_array().unwrap();
        array.iter().map(|text| text.as_str().unwrap().to_owned()).collect()
    };
    let text = |item: &toml_edit::Item| item.as_str().unwrap().to_owned();
    let tables = file["route"].as_array_of_tables().unwrap();
    let read = |table: &toml_edit::Table| {
        let known =
            ["methods", "path", "group", "model", "unnamed", "dialect", "any_resource", "filter"];
        assert!(table.iter().all(|(key, _)| known.contains(&key)), "an unknown key in {name}");
        RouteSpec {
            methods: texts(&table["methods"]),
            path: text(&table["path"]),
            group: text(&table["group"]),
            model: table.get("model").map(texts),
            unnamed: table.get("unnamed").map(text),
            dialect: table.get("dialect").map(text),
            any_resource: table.get("any_resource").is_some_and(|item| item.as_bool().unwrap()),
            filter: table.get("filter").map(text),
        }
    };
    tables.iter().map(|table| (Origin::Profile(profile.name), read(table))).collect()
}

// Generated worlds.

/// One of these words; who stands there twice comes twice as often.
pub(super) fn words(text: &'static str) -> Select<&'static str> {
    select(text.split_whitespace().collect::<Vec<_>>())
}

const GROUPS: [&str; 3] = [EVALUATION, MANAGEMENT, "own-group"];
const PATTERNS: [&str; 9] = ["a", "b", "iris", "iris*", "iris-2", "org/*", "org/a", "x*", "*"];

/// Moments are small numbers, so that requests, expiry and graces meet.
pub(super) fn a_moment() -> impl Strategy<Value = Moment> {
    (0_i64..20).prop_map(Moment)
}

/// A world with routes of different specificity: no two of them can match with equal right, so
/// that their order cannot matter.
pub(super) fn a_world() -> impl Strategy<Value = World> {
    (vec(a_route(), 1..16), option::weighted(0.3, Just("iris")), any::<bool>(), some_tokens())
        .prop_map(|(specs, default_model, enforce, tokens)| {
            let mut seen: Vec<(String, Vec<String>)> = Vec::new();
            let mut routes = Vec::new();
            for spec in specs {
                let (shape, methods) = (shape(&spec.path), all_methods(&spec));
                let meets = |(other, taken): &(String, Vec<String>)| {
                    *other == shape && taken.iter().any(|method| methods.contains(method))
                };
                let is_good = RouteTable::new().add(Origin::Own, &spec).is_ok();
                if is_good && !seen.iter().any(meets) {
                    seen.push((shape, methods));
                    routes.push((Origin::Own, spec));
                }
            }
            World { routes, default_model, enforce, tokens }
        })
}

/// A route's path without the names of its parameters.
fn shape(path: &str) -> String {
    ["model", "name"].iter().fold(path.to_owned(), |path, name| path.replace(name, ""))
}

fn all_methods(spec: &RouteSpec) -> Vec<String> {
    let every = ["GET", "HEAD", "POST", "DELETE"].map(String::from);
    match spec.methods[0].as_str() {
        "*" => every.to_vec(),
        "GET" => ["GET", "HEAD"]
            .map(String::from)
            .into_iter()
            .chain(spec.methods[1..].to_vec())
            .collect(),
        _ => spec.methods.clone(),
    }
}

fn a_route() -> impl Strategy<Value = RouteSpec> {
    let segment =
        select(vec!["a", "b", "iris", "caf%C3%A9", "{model}", "{model}:p", "{name}", "{name}:p"]);
    let last = select(vec!["", "", "/", "/{name...}", "/{model...}", "/{model...}"]);
    let methods = select(vec!["*", "GET", "POST", "POST", "GET POST", "DELETE", "HEAD"]);
    let group = select(vec!["public", "deny", EVALUATION, EVALUATION, MANAGEMENT, "own-group"]);
    let places = prop_oneof![
        3 => Just(None),
        1 => subsequence(vec!["path", "query:model", "default"], 0..=2).prop_map(Some),
        1 => Just(Some(vec!["query:model"])),
        4 => subsequence(vec!["path", "query:model", "body", "form:model"], 1..=3).prop_map(Some),
    ];
    let unnamed = select(vec![None, None, None, Some("default"), Some("all")]);
    (vec(segment, 0..4), last, methods, group, places, unnamed, any::<bool>()).prop_map(
        |(segments, last, methods, group, places, unnamed, any_resource)| {
            let path: String = segments.iter().map(|segment| format!("/{segment}")).collect();
            let path = if path.is_empty() && last.is_empty() { "/".into() } else { path + last };
            // Only some methods have a body, and `path` goes with `{model}`.
            let reads = |place: &&str| {
                let in_body = *place == "body" || place.starts_with("form:");
                !in_body || !["GET", "HEAD"].iter().any(|method| methods.contains(method))
            };
            let named = |places: Vec<&'static str>| {
                let mut places: Vec<&str> = places.into_iter().filter(reads).collect();
                if places != ["default"] {
                    places.retain(|place| *place != "path");
                    places.extend(path.contains("{model").then_some("path"));
                }
                places.into_iter().map(Into::into).collect()
            };
            let model = places.map(named);
            RouteSpec {
                model,
                unnamed: unnamed.map(Into::into),
                any_resource,
                ..route(methods, &path, group)
            }
        },
    )
}

pub(super) fn some_tokens() -> impl Strategy<Value = Vec<TokenEntry>> {
    vec(a_token(), 2..6).prop_map(|mut tokens| {
        for (number, entry) in tokens.iter_mut().enumerate() {
            entry.id = Placed::made(format!("token-{number}"));
            entry.hash = hash(number);
            if let Some(previous) = &mut entry.previous {
                previous.hash = hash(previous_number(number));
            }
        }
        tokens
    })
}

fn a_token() -> impl Strategy<Value = TokenEntry> {
    (
        prop_oneof![subsequence(GROUPS.to_vec(), 0..=2), Just(GROUPS.to_vec())],
        subsequence(PATTERNS.to_vec(), 0..=4),
        option::weighted(0.2, a_moment()),
        prop::bool::weighted(0.1),
        option::weighted(0.4, a_moment()),
    )
        .prop_map(|(groups, resources, expires_at, disabled, grace_end)| TokenEntry {
            expires_at,
            disabled,
            previous: grace_end
                .map(|valid_until| Previous { hash: Placed::made(String::new()), valid_until }),
            ..token(0, &groups, &resources)
        })
}

pub(super) fn a_request() -> impl Strategy<Value = Request> {
    let segment = words("a b iris iris-2 x:p a:p org x%3Ap x%20y caf%C3%A9");
    let path = (vec(segment, 0..4), prop::bool::weighted(0.2)).prop_map(|(segments, slash)| {
        let path = segments.join("/");
        if slash && !path.is_empty() { format!("/{path}/") } else { format!("/{path}") }
    });
    let method = select(vec!["GET", "POST", "HEAD", "DELETE", "OPTIONS"]);
    let query = prop_oneof![
        2 => Just(None),
        1 => Just(Some("")),
        2 => words("k=v model=a model=iris k&model=org/a model=a&model=iris model=%FF \
             model=a&model=a model=a%20b model=")
        .prop_map(Some),
    ];
    (method, path, query, a_body(), a_caller(), a_moment()).prop_map(
        |(method, path, query, body, who, now)| Request { method, path, query, body, who, now },
    )
}

fn a_body() -> impl Strategy<Value = BodyModel<'static>> {
    prop_oneof![
        2 => Just(BodyModel::None),
        6 => select(vec!["a", "iris", "iris-2", "org/a", "a b", ""]).prop_map(BodyModel::One),
        12 => select(BodyFault::ALL.to_vec()).prop_map(BodyModel::Unclear),
    ]
}

fn a_caller() -> impl Strategy<Value = Who> {
    prop_oneof![
        1 => Just(Who::Nobody),
        24 => (0_usize..3).prop_map(|number| Who::Secret(number, "")),
        4 => (0_usize..4).prop_map(|number| Who::Secret(previous_number(number), "")),
        1 => (0_usize..6).prop_map(|number| Who::Secret(number, "")),
        1 => (0_usize..6).prop_map(|number| Who::Secret(number, "token-0")),
        1 => (0_usize..6).prop_map(|number| Who::Known(format!("token-{number}"))),
        1 => Just(Who::Bytes(secret(77).into_bytes())),
        1 => Just(Who::Bytes(b"fg_mistyped".to_vec())),
    ]
}
