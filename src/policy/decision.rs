use super::compile::{Holder, Policy, Rules, Token};
use super::document::Moment;
use super::explanation::{Explanation, Nobody, Witness};
use super::model::{self, ModelId, QueryModel};
use super::path::RequestPath;
use super::reason::Reason;
use super::route::{Access, Place, Route, RouteMatch};
use crate::token::{Digest, Presented, TokenId};

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

/// The right to forward one request. Only [`Policy::decide`] makes one, and forwarding takes it by
/// value: who forgets to ask the law cannot call a model server.
#[derive(Debug)]
#[must_use]
pub struct Permit {
    route: Option<usize>,
    token: Option<(TokenIndex, SecretUsed)>,
    digest: Option<Digest>,
    model: Option<ModelId>,
    would_deny: Option<Reason>,
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

    /// What a later policy is asked about a request that is still running.
    #[must_use]
    pub fn grant(&self) -> Grant {
        Grant {
            route: self.route,
            digest: self.would_deny.is_none().then_some(self.digest).flatten(),
            model: self.model.clone(),
        }
    }
}

/// By what right a running request runs.
#[derive(Debug, Clone)]
pub struct Grant {
    route: Option<usize>,
    /// None: no token was needed.
    digest: Option<Digest>,
    model: Option<ModelId>,
}

/// What is known of a request while it is judged.
#[derive(Default)]
struct Known {
    route: Option<usize>,
    token: Option<(TokenIndex, SecretUsed)>,
    digest: Option<Digest>,
    model: Option<ModelId>,
}

impl Policy {
    /// Judges a request: rules 5 to 10 of the decision.
    pub fn decide(&self, ask: &Ask<'_>) -> Decision {
        self.conclude(ask, &mut Nobody)
    }

    /// Judges as [`Policy::decide`] does, and tells why.
    #[must_use]
    pub fn explain(&self, ask: &Ask<'_>) -> Explanation<'_> {
        let mut steps = Vec::new();
        let decision = self.conclude(ask, &mut steps);
        let route = match &decision {
            Decision::Allow(permit) => permit.route,
            Decision::Deny(denial) => denial.route,
        };
        let route = route.and_then(|index| self.rules.routes.routes().get(index));
        Explanation { decision, route, steps }
    }

    /// Whether a request that was permitted may go on under this policy. Expiry alone does not end
    /// what runs; the end of a grace period does.
    #[must_use]
    pub fn still_grants(&self, grant: &Grant, judged_by: &Rules, now: Moment) -> bool {
        let Some(digest) = &grant.digest else { return true };
        let holder = self.secrets.get(digest.bytes()).filter(|holder| holder.digest == *digest);
        let Some(holder) = holder else { return false };
        if holder.valid_until.is_some_and(|until| now >= until) {
            return false;
        }
        let Some(token) = self.tokens.get(holder.token as usize) else { return false };
        let Some(route) = grant.route.and_then(|index| judged_by.routes.routes().get(index)) else {
            return false;
        };
        let group_held = match route.access() {
            Access::Public => true,
            Access::Deny => false,
            Access::Group(group) => token.has_group(group),
        };
        group_held && !token.disabled && covers(token, route, grant.model.as_ref())
    }

    /// When a right ends without any change: the end of a grace period.
    #[must_use]
    pub fn grant_until(&self, grant: &Grant) -> Option<Moment> {
        let digest = grant.digest.as_ref()?;
        let holder = self.secrets.get(digest.bytes()).filter(|holder| holder.digest == *digest)?;
        holder.valid_until
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

    fn conclude(&self, ask: &Ask<'_>, witness: &mut impl Witness) -> Decision {
        let mut known = Known::default();
        let refused = self.judge(ask, &mut known, witness).err();
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
                    would_deny,
                })
            }
        }
    }

    fn judge<'r>(
        &self,
        ask: &Ask<'r>,
        known: &mut Known,
        witness: &mut impl Witness,
    ) -> Result<(), Reason> {
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
            Access::Deny => return Err(Reason::RouteDenied),
            Access::Group(group) => group,
        };
        let has_group = token.has_group(group);
        witness.saw("group", || {
            let verb = if has_group { "has" } else { "does not have" };
            format!("the token {verb} the group `{group}`")
        });
        if !has_group {
            return Err(Reason::GroupNotAllowed);
        }
        let model =
            if route.needs_model() { Some(self.model(ask, found, route, witness)?) } else { None };
        known.model = model;
        let covered = covers(token, route, known.model.as_ref());
        witness.saw("resource", || match (&known.model, covered) {
            (Some(model), true) => format!("a pattern of the token matches `{model}`"),
            (Some(model), false) => format!("no pattern of the token matches `{model}`"),
            (None, _) if route.any_resource() => "the route is for every token of the group".into(),
            (None, true) => "the route names no model, and the token has the pattern `*`".into(),
            (None, false) => "the route names no model, so it asks for the pattern `*`".into(),
        });
        if covered { Ok(()) } else { Err(Reason::ResourceNotAllowed) }
    }

    fn identify(
        &self,
        ask: &Ask<'_>,
        known: &mut Known,
        witness: &mut impl Witness,
    ) -> Result<&Token, Reason> {
        let outcome = self.holder_of(ask);
        let (index, valid_until, digest) = match outcome {
            Ok(holder) => holder,
            Err(reason) => {
                witness.saw("token", || match reason {
                    Reason::NoCredential => "no credential was presented".into(),
                    _ => "no token is known by this credential or id".into(),
                });
                return Err(reason);
            }
        };
        let token = self.tokens.get(index as usize).ok_or(Reason::UnknownToken)?;
        if let Caller::Secret { user, .. } = ask.caller
            && !user.is_empty()
            && user != token.id.as_str()
        {
            return Err(Reason::UnknownToken);
        }
        let used = if valid_until.is_some() { SecretUsed::Previous } else { SecretUsed::Current };
        known.token = Some((TokenIndex(index), used));
        let refused = if token.disabled {
            Some(Reason::DisabledToken)
        } else if token.expires_at.is_some_and(|end| ask.now >= end) {
            Some(Reason::ExpiredToken)
        } else if valid_until.is_some_and(|end| ask.now >= end) {
            // The secret is gone, whoever's it was.
            Some(Reason::UnknownToken)
        } else {
            None
        };
        witness.saw("token", || match refused {
            Some(reason) => format!("`{}` is refused: {}", token.id, reason.as_str()),
            None => format!("`{}` is known and valid", token.id),
        });
        match refused {
            Some(reason) => Err(reason),
            None => {
                known.digest = digest;
                Ok(token)
            }
        }
    }

    fn holder_of(&self, ask: &Ask<'_>) -> Result<(u32, Option<Moment>, Option<Digest>), Reason> {
        match ask.caller {
            Caller::Nobody => Err(Reason::NoCredential),
            Caller::Secret { secret, .. } => {
                let Holder { digest, token, valid_until } =
                    self.holder(secret).ok_or(Reason::UnknownToken)?;
                Ok((token, valid_until, Some(digest)))
            }
            Caller::Known(id) => {
                let token = self.token_named(id).ok_or(Reason::UnknownToken)?;
                Ok((token, None, None))
            }
        }
    }

    fn model(
        &self,
        ask: &Ask<'_>,
        found: Option<RouteMatch<'_>>,
        route: &Route,
        witness: &mut impl Witness,
    ) -> Result<ModelId, Reason> {
        let in_path = found.and_then(|found| found.model_in_path(&ask.path));
        let in_query = ask.query.map_or(QueryModel::None, model::in_query);
        let default = self.rules.default_model.as_ref().map(ModelId::as_str);
        let named = if route.is_about_default_model() { default } else { in_path.as_deref() };
        let outcome = match (named, &in_query) {
            (_, QueryModel::Conflict | QueryModel::Unreadable) => Err(Reason::ModelConflict),
            (Some(named), QueryModel::One(other)) if named != &**other => {
                Err(Reason::ModelConflict)
            }
            (Some(named), _) => Ok(named),
            (None, _) if route.is_about_default_model() => Err(Reason::ModelUnresolved),
            (None, QueryModel::One(named)) => Ok(&**named),
            (None, QueryModel::None) => default.ok_or(Reason::ModelUnresolved),
        };
        let outcome = outcome.and_then(|named| ModelId::parse(named).map_err(|_| Reason::BadModel));
        witness.saw("model", || match &outcome {
            Ok(model) => format!("the request is about `{model}`"),
            Err(Reason::ModelConflict) => "the request names several models".into(),
            Err(Reason::BadModel) => "what the request names is no model id".into(),
            Err(_) => {
                let places: Vec<&str> = route.places().collect();
                format!("the request names no model (places: {})", places.join(", "))
            }
        });
        outcome
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

// `Place` decides where `model` looks; a place added there must be read here.
const _: fn(Place) = |place| match place {
    Place::Path | Place::Query | Place::Default => {}
};
