//! How tokens and routes are shown: everything but the hashes.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use serde::Serialize;
use utoipa::ToSchema;

use crate::policy::{Filter, Moment, Route, TokenFacts, TokenState};
use crate::settings::rfc3339;
use crate::telemetry::usage::TokenUsage;

/// A token as its file has it, without its hashes, and its state.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct TokenView<'t> {
    /// Its id.
    pub id: &'t str,
    /// What it is for.
    #[schema(required)]
    pub name: Option<&'t str>,
    /// `active`, `expired` or `disabled`.
    #[schema(value_type = StateView)]
    pub state: &'static str,
    /// The models it may use.
    pub resources: Vec<String>,
    /// What it may do with them.
    pub groups: Vec<&'t str>,
    /// When it was made (RFC 3339).
    #[schema(required)]
    pub created_at: Option<String>,
    /// The first second in which it is no longer valid.
    #[schema(required)]
    pub expires_at: Option<String>,
    /// Whether it is switched off.
    pub disabled: bool,
    /// Until when the secret before the last regeneration works beside the present one.
    #[schema(required)]
    pub previous_valid_until: Option<String>,
    /// How much it may be used.
    #[schema(required)]
    pub limits: Option<LimitsView>,
    /// Free pairs.
    pub labels: &'t BTreeMap<String, String>,
}

/// The states of a token.
#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
#[allow(dead_code, reason = "only its schema is used")]
pub enum StateView {
    /// It can be used.
    Active,
    /// Its time is over.
    Expired,
    /// It is switched off.
    Disabled,
}

/// How much a token may be used; what is absent is not limited.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
#[allow(missing_docs, reason = "the keys of the token file")]
pub struct LimitsView {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requests_per_second: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub burst: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_in_flight: Option<u32>,
}

impl<'t> TokenView<'t> {
    /// What may be told of a token now.
    #[must_use]
    pub fn new(facts: &TokenFacts<'t>, now: Moment) -> Self {
        Self {
            id: facts.id.as_str(),
            name: facts.name,
            state: facts.state(now).as_str(),
            resources: facts.resources.iter().map(ToString::to_string).collect(),
            groups: facts.groups.iter().map(|group| &**group).collect(),
            created_at: facts.created_at.map(rfc3339),
            expires_at: facts.expires_at.map(rfc3339),
            disabled: facts.disabled,
            // A previous secret whose grace is over is no secret any more.
            previous_valid_until: previous_in_force(facts, now).map(rfc3339),
            limits: facts.limits.map(|limits| LimitsView {
                requests_per_second: limits.requests_per_second,
                burst: limits.burst,
                max_in_flight: limits.max_in_flight,
            }),
            labels: facts.labels,
        }
    }

    /// Its state.
    #[must_use]
    pub fn is_active(&self) -> bool {
        self.state == TokenState::Active.as_str()
    }
}

fn previous_in_force(facts: &TokenFacts<'_>, now: Moment) -> Option<Moment> {
    facts.previous_valid_until.filter(|end| now < *end)
}

/// A token with its use.
#[derive(Serialize, ToSchema)]
pub(super) struct UsedTokenView<'t> {
    #[serde(flatten)]
    token: TokenView<'t>,
    /// When a request of it was last forwarded.
    #[schema(required)]
    last_used_at: Option<String>,
    /// Requests of it that were forwarded.
    requests: u64,
    /// Requests of it that were refused, or would have been if the namespace enforced.
    denied: u64,
    /// When the previous secret, while it works, was last used.
    #[schema(required)]
    previous_last_used_at: Option<String>,
}

impl<'t> UsedTokenView<'t> {
    pub(super) fn new(facts: &TokenFacts<'t>, usage: &TokenUsage, now: Moment) -> Self {
        let read = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
        let at = |time: &std::sync::atomic::AtomicI64| {
            let time = time.load(Ordering::Relaxed);
            (time > 0).then(|| rfc3339(Moment(time)))
        };
        let would_deny = read(&usage.would_deny);
        Self {
            token: TokenView::new(facts, now),
            last_used_at: at(&usage.last_used),
            requests: read(&usage.allowed).saturating_add(would_deny),
            denied: read(&usage.denied).saturating_add(would_deny),
            previous_last_used_at: previous_in_force(facts, now)
                .and_then(|_| at(&usage.previous_last_used)),
        }
    }
}

/// A route, as it is shown.
#[derive(Serialize, ToSchema)]
pub struct RouteView<'r> {
    /// Its methods.
    pub methods: Vec<&'r str>,
    /// Its path; `{model}` stands for one segment, a last `{rest...}` for any remainder.
    pub path: &'r str,
    /// Where requests name the model.
    pub model: Vec<String>,
    /// `all`: a request that names no model is about all of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unnamed: Option<&'static str>,
    /// The group it asks for, or `public`, or `deny`.
    pub group: &'r str,
    /// The profile it comes from, or `own`.
    pub profile: &'r str,
    /// How refusals are worded.
    pub dialect: &'static str,
    /// Whether a token needs no certain model.
    pub any_resource: bool,
    /// The list that its answer is, cut down to the models that the token may use.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub filter: Option<&'static str>,
}

impl<'r> RouteView<'r> {
    /// What is shown of a route.
    #[must_use]
    pub fn new(route: &'r Route) -> Self {
        Self {
            methods: route.methods().iter().map(|method| &**method).collect(),
            path: route.path(),
            model: route.places().iter().map(ToString::to_string).collect(),
            unnamed: route.unnamed_is_all().then_some("all"),
            group: route.access().as_str(),
            profile: route.origin().as_str(),
            dialect: route.dialect().as_str(),
            any_resource: route.any_resource(),
            filter: route.filter().map(Filter::as_str),
        }
    }
}
