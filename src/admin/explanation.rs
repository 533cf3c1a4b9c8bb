//! Why a token may or may not do something, for people.

use http::HeaderMap;
use serde::Serialize;
use utoipa::ToSchema;

use super::view::RouteView;
use crate::policy::{
    Ask, BodyModel, Caller, Decision, Moment, Policy, Reason, RequestPath, Route, Step,
};
use crate::wire::inspect;

/// A request that nobody made.
#[derive(Debug, Clone, Copy)]
pub struct Question<'q> {
    /// The id of the token that it would bring.
    pub token_id: &'q str,
    /// Its method.
    pub method: &'q str,
    /// Its path, with its query if it has one.
    pub path: &'q str,
    /// What says how its body is to be read; no other header is looked at.
    pub headers: &'q HeaderMap,
    /// Its body.
    pub body: &'q [u8],
    /// When it would come.
    pub now: Moment,
}

/// The longest body that is read for its model, in bytes: the default of `inspect_body_bytes`.
const MAX_BODY_BYTES: usize = 8 << 20;

/// What the gate would say to it, and why.
#[derive(Serialize, ToSchema)]
pub struct Explained<'p> {
    /// Whether it would be forwarded.
    pub allowed: bool,
    /// `allowed`, or the reason of the refusal.
    pub reason: &'static str,
    /// Why it would be refused if the namespace enforced.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub would_deny: Option<&'static str>,
    /// The route that was taken.
    #[schema(required)]
    pub route: Option<RouteView<'p>>,
    /// What each rule found, up to the one that decided.
    pub steps: Vec<ExplainedStep>,
}

/// A rule and what it found.
#[derive(Serialize, ToSchema)]
pub struct ExplainedStep {
    /// Which rule.
    pub rule: &'static str,
    /// What it found.
    pub found: String,
}

/// Judges a request as the gate would.
#[must_use]
pub fn explained<'p>(policy: &'p Policy, question: &Question<'_>) -> Explained<'p> {
    let refused = |reason: &'static str, rule, found: String| Explained {
        allowed: false,
        reason,
        would_deny: None,
        route: None,
        steps: vec![ExplainedStep { rule, found }],
    };
    if matches!(question.method, "CONNECT" | "TRACE") {
        let found = format!("`{}` is never forwarded (405)", question.method);
        return refused("method_not_allowed", "method", found);
    }
    let (path, query) = match question.path.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (question.path, None),
    };
    let path = match RequestPath::parse(path) {
        Ok(path) => path,
        Err(error) => return refused(Reason::BadPath.as_str(), "path", error.to_string()),
    };
    let caller = Caller::Known(question.token_id);
    let ask = Ask { method: question.method, path, query, caller, now: question.now };
    let mut explanation = policy.explain(&ask, None);
    let in_body = explanation.route.and_then(Route::in_body);
    if let (Decision::Inspect(_), Some(form)) = (&explanation.decision, in_body) {
        let read = inspect::model_in(form, question.headers, question.body, MAX_BODY_BYTES);
        let found = match &read {
            Ok(None) => BodyModel::None,
            Ok(Some(model)) => BodyModel::One(model),
            Err(fault) => BodyModel::Unclear((*fault).into()),
        };
        explanation = policy.explain(&ask, Some(found));
    }
    let (reason, would_deny) = match &explanation.decision {
        Decision::Allow(permit) => ("allowed", permit.would_deny().map(Reason::as_str)),
        Decision::Deny(denial) => (denial.reason.as_str(), None),
        // It was answered above.
        Decision::Inspect(_) => (Reason::ModelUnresolved.as_str(), None),
    };
    Explained {
        allowed: reason == "allowed",
        reason,
        would_deny,
        route: explanation.route.map(RouteView::new),
        steps: explanation
            .steps
            .into_iter()
            .map(|Step { rule, found }| ExplainedStep { rule, found })
            .collect(),
    }
}

/// Whether a text can be the method of a request that is judged: letters in upper case.
#[must_use]
pub fn is_method(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_uppercase() || matches!(b, b'-' | b'_'))
}
