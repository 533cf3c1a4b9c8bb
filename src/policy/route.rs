mod answer;
mod place;
mod table;

use std::fmt;

use super::path::RequestPath;
pub use answer::{Dialect, Filter};
pub use place::{BodyForm, Field, FieldPath, Place};
pub use table::{RouteMatch, RouteTable};

/// A route as a person writes it, in a profile or under `[[namespace.route]]`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RouteSpec {
    /// Methods it is for, in upper case; `*` alone is every method. `GET` covers `HEAD`.
    pub methods: Vec<String>,
    /// `/literal/{model}/{rest...}`.
    pub path: String,
    /// `public`, `deny`, or the group it asks for.
    pub group: String,
    /// Where the model may be named; none given: in the path when that has `{model}`, else nowhere.
    pub model: Option<Vec<String>>,
    /// What a request is about that names no model: `default`, the namespace's `default_model`, or
    /// `all`, every model there is. None given: `default`.
    pub unnamed: Option<String>,
    /// In which form a refusal is told; none given: problem+json.
    pub dialect: Option<String>,
    /// Whether a token without the pattern `*` may use it though it names no model, because the
    /// answer shows nothing of models that the token may not use.
    pub any_resource: bool,
    /// Which list its answer is, to be cut down to the models that the token may use. Then it is
    /// for every token of the group, as with `any_resource`.
    pub filter: Option<String>,
}

/// What a route asks of a caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Access {
    /// Nothing: forwarded without a token.
    Public,
    /// Refused, whoever asks.
    Deny,
    /// A token with this group.
    Group(Box<str>),
}

impl Access {
    /// As it is written in a file.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Public => "public",
            Self::Deny => "deny",
            Self::Group(group) => group,
        }
    }
}

/// Where a route comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// `[[namespace.route]]`.
    Own,
    /// A built-in profile.
    Profile(&'static str),
}

impl Origin {
    /// The name, as in the metric label `profile`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Own => "own",
            Self::Profile(name) => name,
        }
    }
}

/// What is wrong with a [`RouteSpec`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RouteError {
    /// No method, or one that is none.
    #[error("`methods` must list HTTP methods in upper case, or be [\"*\"]")]
    Methods,
    /// `CONNECT` and `TRACE` are never forwarded.
    #[error("`CONNECT` and `TRACE` are never forwarded, so no route can be for them")]
    ForbiddenMethod,
    /// The path's form.
    #[error("`path` {0}")]
    Path(&'static str),
    /// The group's form.
    #[error(
        "`group` must be `public`, `deny`, or a name of 1 to 64 characters of A-Z a-z 0-9 . _ -"
    )]
    Group,
    /// A place that is none, or none here.
    #[error("`model` {0}")]
    Model(&'static str),
    /// What a request without a model is about.
    #[error("`unnamed` must be \"default\" or \"all\", on a route that is about a model")]
    Unnamed,
    /// A dialect that is none.
    #[error("`dialect` must be \"problem\", \"openai\" or \"error\"")]
    Dialect,
    /// A filter that is none, or none here.
    #[error("`filter` {0}")]
    Filter(&'static str),
}

/// A segment of a route's path.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Segment {
    Literal(Box<str>),
    /// One segment, or the part of one before `suffix` (as in `{model}:predict`).
    Parameter {
        name: Box<str>,
        suffix: Box<str>,
    },
    /// All that remains: at least one segment, which may be the empty one of a trailing slash.
    Rest {
        name: Box<str>,
    },
}

/// A route in force.
#[derive(Debug, Clone)]
pub struct Route {
    origin: Origin,
    methods: Vec<Box<str>>,
    path: Box<str>,
    segments: Vec<Segment>,
    access: Access,
    places: Vec<Place>,
    unnamed_is_all: bool,
    any_resource: bool,
    filter: Option<Filter>,
    dialect: Dialect,
}

impl Route {
    fn compile(origin: Origin, spec: &RouteSpec) -> Result<Self, Vec<RouteError>> {
        let mut errors = Vec::new();
        let is_method = |m: &String| {
            !m.is_empty() && m.bytes().all(|b| b.is_ascii_uppercase() || b == b'-' || b == b'_')
        };
        let every = spec.methods == ["*"];
        if !every && (spec.methods.is_empty() || !spec.methods.iter().all(is_method)) {
            errors.push(RouteError::Methods);
        }
        if spec.methods.iter().any(|m| m == "CONNECT" || m == "TRACE") {
            errors.push(RouteError::ForbiddenMethod);
        }
        let segments = parse_segments(&spec.path).unwrap_or_else(|reason| {
            errors.push(RouteError::Path(reason));
            Vec::new()
        });
        let names_model = segments.iter().any(is_model);
        let access = match spec.group.as_str() {
            "public" => Access::Public,
            "deny" => Access::Deny,
            group if is_group_name(group) => Access::Group(group.into()),
            _ => {
                errors.push(RouteError::Group);
                Access::Deny
            }
        };
        let places = place::places(spec, names_model).unwrap_or_else(|reason| {
            errors.push(RouteError::Model(reason));
            Vec::new()
        });
        let has_default = matches!(places.as_slice(), [] | [Place::Default]);
        let unnamed_is_all = match spec.unnamed.as_deref() {
            None => Some(false),
            Some("default") if !places.is_empty() => Some(false),
            Some("all") if !has_default => Some(true),
            Some(_) => None,
        };
        if unnamed_is_all.is_none() {
            errors.push(RouteError::Unnamed);
        }
        let dialect = spec.dialect.as_deref().map_or(Some(Dialect::default()), Dialect::parse);
        if dialect.is_none() {
            errors.push(RouteError::Dialect);
        }
        let filter = answer::filter(spec, &access).unwrap_or_else(|reason| {
            errors.push(RouteError::Filter(reason));
            None
        });
        if !errors.is_empty() {
            return Err(errors);
        }
        Ok(Self {
            origin,
            methods: spec.methods.iter().map(|m| m.as_str().into()).collect(),
            path: spec.path.as_str().into(),
            segments,
            access,
            places,
            unnamed_is_all: unnamed_is_all.unwrap_or_default(),
            any_resource: spec.any_resource,
            filter,
            dialect: dialect.unwrap_or_default(),
        })
    }

    /// Where it comes from.
    #[must_use]
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    /// The methods as written.
    #[must_use]
    pub fn methods(&self) -> &[Box<str>] {
        &self.methods
    }

    /// The path as written.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// What it asks of a caller.
    #[must_use]
    pub fn access(&self) -> &Access {
        &self.access
    }

    /// Whether a request on it is about one model.
    #[must_use]
    pub fn needs_model(&self) -> bool {
        !self.places.is_empty()
    }

    /// Where the model is named.
    #[must_use]
    pub fn places(&self) -> &[Place] {
        &self.places
    }

    /// What a body has to be read as to find the model in it; none where the body names none.
    #[must_use]
    pub fn in_body(&self) -> Option<BodyForm<'_>> {
        place::in_body(&self.places)
    }

    /// Whether it is always about the namespace's `default_model`.
    #[must_use]
    pub fn is_about_default_model(&self) -> bool {
        self.places.contains(&Place::Default)
    }

    /// Whether a request that names no model is about all of them: it asks for the pattern `*` then.
    #[must_use]
    pub fn unnamed_is_all(&self) -> bool {
        self.unnamed_is_all
    }

    /// Whether a request without a model may pass without the pattern `*`.
    #[must_use]
    pub fn any_resource(&self) -> bool {
        self.any_resource || self.filter.is_some()
    }

    /// Which list its answer is, to be cut down to the models that the token may use.
    #[must_use]
    pub fn filter(&self) -> Option<Filter> {
        self.filter
    }

    /// In which form a refusal on it is told.
    #[must_use]
    pub fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// Whether something stands behind the model in its segment, as in `{model}:predict`.
    pub(super) fn model_has_suffix(&self) -> bool {
        self.segments.iter().any(|segment| {
            matches!(segment, Segment::Parameter { name, suffix }
                if is_model_name(name) && !suffix.is_empty())
        })
    }

    fn takes(&self, method: &str) -> bool {
        self.methods.iter().any(|own| match &**own {
            "*" => true,
            "GET" => matches!(method, "GET" | "HEAD"),
            own => own == method,
        })
    }

    /// The bytes of the path that name the model; none when none do.
    fn model_in<'r>(&self, path: &RequestPath<'r>) -> Option<&'r str> {
        let mut tail = path.tail();
        for segment in &self.segments {
            let (first, after) = tail.split_once('/').unwrap_or((tail, ""));
            match segment {
                Segment::Parameter { name, suffix } if is_model_name(name) => {
                    return first.strip_suffix(&**suffix);
                }
                Segment::Rest { name } => return is_model_name(name).then_some(tail),
                Segment::Literal(_) | Segment::Parameter { .. } => tail = after,
            }
        }
        None
    }
}

fn is_model_name(name: &str) -> bool {
    name == "model"
}

fn is_model(segment: &Segment) -> bool {
    match segment {
        Segment::Literal(_) => false,
        Segment::Parameter { name, .. } | Segment::Rest { name } => is_model_name(name),
    }
}

pub(super) fn is_group_name(group: &str) -> bool {
    (1..=64).contains(&group.len())
        && group.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
}

fn parse_segments(path: &str) -> Result<Vec<Segment>, &'static str> {
    let tail = path.strip_prefix('/').ok_or("must start with `/`")?;
    let texts: Vec<&str> = tail.split('/').collect();
    let mut segments = Vec::with_capacity(texts.len());
    for (number, text) in texts.iter().enumerate() {
        let is_last = number + 1 == texts.len();
        let segment = parse_segment(text, is_last)?;
        if matches!(segment, Segment::Rest { .. }) && !is_last {
            return Err("can have `{name...}` only as its last segment");
        }
        segments.push(segment);
    }
    if segments.iter().filter(|segment| is_model(segment)).count() > 1 {
        return Err("names the model twice");
    }
    Ok(segments)
}

fn parse_segment(text: &str, is_last: bool) -> Result<Segment, &'static str> {
    let Some(body) = text.strip_prefix('{') else {
        if text.contains(['{', '}']) {
            return Err("can have `{name}` only at the start of a segment");
        }
        if text.is_empty() && !is_last {
            return Err("has an empty segment");
        }
        // A literal that no accepted request path can hold would never match: say so.
        if RequestPath::parse(&format!("/{text}")).is_err() {
            return Err("has a segment that no accepted request path can have");
        }
        return Ok(Segment::Literal(text.into()));
    };
    let (name, suffix) = body.split_once('}').ok_or("has a `{` without `}`")?;
    let (name, is_rest) = match name.strip_suffix("...") {
        Some(name) => (name, true),
        None => (name, false),
    };
    if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
        return Err("has a parameter whose name is not of A-Z a-z 0-9 _");
    }
    if !is_rest {
        if suffix.contains(['{', '}']) || (!suffix.is_empty() && !suffix.starts_with(':')) {
            return Err("can have only `:text` after `{name}` in a segment");
        }
        return Ok(Segment::Parameter { name: name.into(), suffix: suffix.into() });
    }
    if !suffix.is_empty() {
        return Err("can have nothing after `{name...}`");
    }
    Ok(Segment::Rest { name: name.into() })
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.methods.join(","), self.path)
    }
}
