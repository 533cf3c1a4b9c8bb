mod grant;
mod identity;
mod named;

use std::sync::Arc;

use super::compile::{Policy, Rules, Token};
use super::document::Moment;
use super::explanation::{Explanation, Nobody, Witness};
use super::model::ModelId;
use super::path::RequestPath;
use super::reason::Reason;
use super::route::{Access, Filter, Route, RouteMatch};
use crate::token::{Digest, Presented, TokenId};
pub use grant::{Grant, MessageDecision};
use named::Inspected;
pub use named::{BodyFault, BodyModel};

/// A question to the law: who asks to do what.
#[derive(Debug, Clone, Copy)]
pub struct Ask<'r> {
    /// The request's method.
    pub method: &'r str,
    /// Its path.
    pub path: RequestPath<'r>,
    /// Its query, without `?`.
    pub query: Option<&'r str>,
    /// Who asks.
    pub caller: Caller<'r>,
    /// When.
    pub now: Moment,
}

/// Who asks.
#[derive(Debug, Clone, Copy)]
pub enum Caller<'r> {
    /// Nobody who said so.
    Nobody,
    /// Whoever knows this secret.
    Secret {
        /// What was presented.
        secret: Presented<'r>,
        /// The user name beside it (scheme `Basic`): must be empty or the token's id.
        user: &'r str,
    },
    /// The token with this id, for `explain`: no request can say this.
    Known(&'r str),
}

/// The answer of the law.
///
/// An enum and not a `Result`, so that no `?` can stand where the gate says no.
#[derive(Debug)]
#[must_use]
pub enum Decision {
    /// Forward it.
    Allow(Permit),
    /// The route's model may be named in the body: read it, then ask [`Policy::decide_with`].
    Inspect(Inspection),
    /// Refuse it.
    Deny(Denial),
}

/// A token's place in the policy that judged it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TokenIndex(u32);

impl TokenIndex {
    /// The place in [`Policy::tokens`].
    #[must_use]
    pub fn get(self) -> usize {
        self.0 as usize
    }
}

/// Which of a token's secrets was presented.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SecretUsed {
    /// The one in force.
    Current,
    /// The one before the last regeneration, within its grace.
    Previous,
}

/// A refusal, and what is known of the request that was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Denial {
    /// Why.
    pub reason: Reason,
    /// The route it took, by its place in the table.
    pub route: Option<usize>,
    /// The token it came with, when that one is known and valid, or was.
    pub token: Option<TokenIndex>,
    /// The model it named.
    pub model: Option<ModelId>,
}

impl Denial {
    /// A refusal before anything of the request was understood.
    #[must_use]
    pub fn early(reason: Reason) -> Self {
        Self { reason, route: None, token: None, model: None }
    }
}

/// The law has no objection so far, but cannot answer before the body was looked at. It is no right
/// to forward anything.
#[derive(Debug)]
#[must_use]
pub struct Inspection {
    rules: Arc<Rules>,
    route: usize,
    token: TokenIndex,
}

impl Inspection {
    /// The route it took, by its place in the table. [`Route::in_body`] says what to read.
    #[must_use]
    pub fn route(&self) -> usize {
        self.route
    }

    /// The token it came with, which is known and valid, and has the route's group.
    #[must_use]
    pub fn token(&self) -> TokenIndex {
        self.token
    }

    /// What a refusal is told with when the body cannot be waited for.
    #[must_use]
    pub fn denied(&self, reason: Reason) -> Denial {
        Denial { reason, route: Some(self.route), token: Some(self.token), model: None }
    }
}

/// The right to forward one request. Only the law makes one, in one place, and forwarding takes it
/// by value: who forgets to ask the law cannot call a model server.
#[derive(Debug)]
#[must_use]
pub struct Permit {
    route: Option<usize>,
    token: Option<(TokenIndex, SecretUsed)>,
    digest: Option<Digest>,
    model: Option<ModelId>,
    /// What path or query name, with which every message of a gRPC call has to agree.
    outside: Option<Box<str>>,
    would_deny: Option<Reason>,
    filter: Option<Filter>,
}

impl Permit {
    /// The route it took, by its place in the table; none only where nothing is enforced.
    #[must_use]
    pub fn route(&self) -> Option<usize> {
        self.route
    }

    /// The token it came with; none on public routes and where nothing is enforced.
    #[must_use]
    pub fn token(&self) -> Option<TokenIndex> {
        self.token.map(|(index, _)| index)
    }

    /// The token, when it is known *and* valid: who the model server is told is calling.
    #[must_use]
    pub fn caller(&self) -> Option<TokenIndex> {
        self.digest.and(self.token())
    }

    /// Which of the token's secrets was presented.
    #[must_use]
    pub fn secret_used(&self) -> Option<SecretUsed> {
        self.token.map(|(_, used)| used)
    }

    /// The model it is about.
    #[must_use]
    pub fn model(&self) -> Option<&ModelId> {
        self.model.as_ref()
    }

    /// Why it would be refused if the namespace enforced its policy.
    #[must_use]
    pub fn would_deny(&self) -> Option<Reason> {
        self.would_deny
    }

    /// The list that its answer is, of which the caller may be shown only the models that
    /// [`Policy::may_use`] says; none where it may see all of it.
    #[must_use]
    pub fn filter(&self) -> Option<Filter> {
        self.filter
    }

    /// What a later policy is asked about a request that is still running.
    #[must_use]
    pub fn grant(&self) -> Grant {
        Grant::of(self)
    }
}

/// What is known of a request while it is judged.
#[derive(Default)]
struct Known {
    route: Option<usize>,
    token: Option<(TokenIndex, SecretUsed)>,
    digest: Option<Digest>,
    model: Option<ModelId>,
    outside: Option<Box<str>>,
    filter: Option<Filter>,
}

/// Why judging came to a stop.
enum Stop {
    Refused(Reason),
    /// The body has to be read first.
    ForBody,
}

impl From<Reason> for Stop {
    fn from(reason: Reason) -> Self {
        Self::Refused(reason)
    }
}

impl Policy {
    /// Judges a request: rules 5 to 10 of the decision. Where the model may be named in the body,
    /// and nothing else refuses the request, the answer is [`Decision::Inspect`].
    pub fn decide(&self, ask: &Ask<'_>) -> Decision {
        self.conclude(ask, None, &mut Nobody)
    }

    /// Judges a request anew, from the first rule on, with what was found in its body. This may be
    /// a later policy than the one that asked for the inspection; under other routes, or for
    /// another route, the body may have to be read in another way, and it is asked for again.
    pub fn decide_with(
        &self,
        ask: &Ask<'_>,
        inspection: Inspection,
        found: BodyModel<'_>,
    ) -> Decision {
        let is_same =
            |route| Arc::ptr_eq(&inspection.rules, &self.rules) && inspection.route == route;
        self.conclude(ask, Some(&Inspected { found, is_for: &is_same }), &mut Nobody)
    }

    /// Judges as [`Policy::decide`] does, and tells why; with `found`, as
    /// [`Policy::decide_with`] does after it.
    #[must_use]
    pub fn explain(&self, ask: &Ask<'_>, found: Option<BodyModel<'_>>) -> Explanation<'_> {
        let mut steps = Vec::new();
        let inspected = found.map(|found| Inspected { found, is_for: &|_| true });
        let decision = self.conclude(ask, inspected.as_ref(), &mut steps);
        let route = match &decision {
            Decision::Allow(permit) => permit.route,
            Decision::Inspect(inspection) => Some(inspection.route),
            Decision::Deny(denial) => denial.route,
        };
        let route = route.and_then(|index| self.rules.routes.routes().get(index));
        Explanation { decision, route, steps }
    }

    /// The id of a token of this policy.
    #[must_use]
    pub fn token_id(&self, token: TokenIndex) -> Option<&TokenId> {
        self.tokens.get(token.get()).map(|token| &token.id)
    }

    /// A token's name.
    #[must_use]
    pub fn token_name(&self, token: TokenIndex) -> Option<&str> {
        self.tokens.get(token.get()).and_then(|token| token.name.as_deref())
    }

    /// A token's groups, in the order of the file.
    #[must_use]
    pub fn token_groups(&self, token: TokenIndex) -> &[Box<str>] {
        self.tokens.get(token.get()).map_or(&[], |token| &token.groups)
    }

    /// Whether a token may use a model: what a list that is filtered shows of it.
    #[must_use]
    pub fn may_use(&self, token: TokenIndex, model: &str) -> bool {
        self.tokens.get(token.get()).is_some_and(|token| token.may_use(model))
    }

    fn conclude(
        &self,
        ask: &Ask<'_>,
        inspected: Option<&Inspected<'_>>,
        witness: &mut impl Witness,
    ) -> Decision {
        let mut known = Known::default();
        let refused = match self.judge(ask, inspected, &mut known, witness) {
            Ok(()) => None,
            Err(Stop::Refused(reason)) => Some(reason),
            Err(Stop::ForBody) => {
                witness
                    .saw("body", || "the model may be named in the body: it has to be read".into());
                // Rules 5 to 8 were kept, so both are known.
                return match (known.route, known.token) {
                    (Some(route), Some((token, _))) => {
                        let rules = Arc::clone(&self.rules);
                        Decision::Inspect(Inspection { rules, route, token })
                    }
                    _ => Decision::Deny(Denial::early(Reason::ModelUnresolved)),
                };
            }
        };
        match refused {
            Some(reason) if self.rules.enforce => Decision::Deny(Denial {
                reason,
                route: known.route,
                token: known.token.map(|(index, _)| index),
                model: known.model,
            }),
            would_deny => {
                if would_deny.is_some() {
                    witness.saw("enforce", || "the namespace has `enforce = false`".into());
                }
                Decision::Allow(Permit {
                    route: known.route,
                    token: known.token,
                    digest: known.digest,
                    model: known.model,
                    outside: known.outside,
                    would_deny,
                    // Where nothing is enforced, answers are not changed either.
                    filter: known.filter.filter(|_| self.rules.enforce),
                })
            }
        }
    }

    fn judge(
        &self,
        ask: &Ask<'_>,
        inspected: Option<&Inspected<'_>>,
        known: &mut Known,
        witness: &mut impl Witness,
    ) -> Result<(), Stop> {
        let found = self.rules.routes.find(ask.method, &ask.path);
        known.route = found.map(|found| found.index);
        witness.saw("route", || match found {
            None => "no route is for this method and path".into(),
            Some(RouteMatch { route, .. }) => {
                format!("`{route}` ({}) asks for {}", route.origin().as_str(), asks_for(route))
            }
        });
        if let Some(RouteMatch { route, .. }) = found
            && *route.access() == Access::Public
        {
            return Ok(());
        }
        let token = self.identify(ask, known, witness)?;
        let RouteMatch { route, .. } = found.ok_or(Reason::NoRoute)?;
        let group = match route.access() {
            Access::Public => return Ok(()),
            Access::Deny => return Err(Reason::RouteDenied.into()),
            Access::Group(group) => group,
        };
        let has_group = token.has_group(group);
        witness.saw("group", || {
            let verb = if has_group { "has" } else { "does not have" };
            format!("the token {verb} the group `{group}`")
        });
        if !has_group {
            return Err(Reason::GroupNotAllowed.into());
        }
        if let Some(found) = found.filter(|_| route.needs_model()) {
            known.model = self.model(ask, found, inspected, known, witness)?;
        }
        let covered = covers(token, route, known.model.as_ref());
        witness.saw("resource", || match (&known.model, covered) {
            (Some(model), true) => format!("a pattern of the token matches `{model}`"),
            (Some(model), false) => format!("no pattern of the token matches `{model}`"),
            (None, _) if route.any_resource() => "the route is for every token of the group".into(),
            (None, true) => "the route names no model, and the token has the pattern `*`".into(),
            (None, false) => "the route names no model, so it asks for the pattern `*`".into(),
        });
        if !covered {
            return Err(Reason::ResourceNotAllowed.into());
        }
        known.filter = route.filter().filter(|_| !token.may_use_all());
        Ok(())
    }
}

/// Rule 10.
fn covers(token: &Token, route: &Route, model: Option<&ModelId>) -> bool {
    match model {
        Some(model) => token.may_use(model.as_str()),
        None => route.any_resource() || token.may_use_all(),
    }
}

fn asks_for(route: &Route) -> String {
    match route.access() {
        Access::Public => "no token".into(),
        Access::Deny => "nothing: it is refused to everybody".into(),
        Access::Group(group) => format!("the group `{group}`"),
    }
}
