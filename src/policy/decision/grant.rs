//! Requests that are still running, and what later policies and later messages make of them.

use super::named::{BodyModel, Named};
use super::{Permit, covers};
use crate::policy::compile::{Policy, Rules, Token};
use crate::policy::document::Moment;
use crate::policy::model::ModelId;
use crate::policy::reason::Reason;
use crate::policy::route::{Access, Route};
use crate::token::Digest;

/// By what right a running request runs.
#[derive(Debug, Clone)]
pub struct Grant {
    route: Option<usize>,
    /// None: no token was needed.
    digest: Option<Digest>,
    model: Option<ModelId>,
    /// Models that later messages of a gRPC call named.
    further: Vec<ModelId>,
    /// What path or query name, with which every message has to agree.
    outside: Option<Box<str>>,
    would_deny: Option<Reason>,
}

/// The most models that one call may name: each is kept for as long as the call runs.
const MAX_MODELS: usize = 64;

/// The answer of the law to a further message of a gRPC call.
///
/// An enum and not a `Result`, so that no `?` can stand where the gate says no.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub enum MessageDecision {
    /// Let it through.
    Pass {
        /// Why it would be refused if the namespace enforced its policy.
        would_deny: Option<Reason>,
    },
    /// End the call. The message is not for the model server.
    Refuse(Reason),
}

impl Grant {
    pub(super) fn of(permit: &Permit) -> Self {
        Self {
            route: permit.route,
            digest: permit.would_deny.is_none().then_some(permit.digest).flatten(),
            model: permit.model.clone(),
            further: Vec::new(),
            outside: permit.outside.clone(),
            would_deny: permit.would_deny,
        }
    }

    /// Why the request would have been refused at once if the namespace enforced its policy.
    #[must_use]
    pub fn would_deny(&self) -> Option<Reason> {
        self.would_deny
    }

    fn models(&self) -> impl Iterator<Item = &ModelId> {
        self.model.iter().chain(&self.further)
    }
}

impl Policy {
    /// Whether a request that was permitted may go on under this policy: every model that it named
    /// so far counts. Expiry alone does not end what runs; the end of a grace period does.
    /// `judged_by` are the rules by which it was permitted.
    #[must_use]
    pub fn still_grants(&self, grant: &Grant, judged_by: &Rules, now: Moment) -> bool {
        let Some(digest) = &grant.digest else { return true };
        let Some((token, route)) = self.holder_and_route(grant, digest, judged_by, now) else {
            return false;
        };
        let is_covered = |model: &ModelId| covers(token, route, Some(model));
        match &grant.model {
            None => covers(token, route, None),
            Some(_) => grant.models().all(is_covered),
        }
    }

    /// Judges a further message of a gRPC call that was permitted by its first one: rules 9 and 10,
    /// and whether its right still stands. Best asked of the policy in force; `judged_by` are the
    /// rules by which the call was permitted. A model that is new to the call becomes part of its
    /// right, and whoever loses that model later loses the call.
    pub fn decide_message(
        &self,
        grant: &mut Grant,
        judged_by: &Rules,
        found: BodyModel<'_>,
        now: Moment,
    ) -> MessageDecision {
        match self.judge_message(grant, judged_by, found, now) {
            Ok(None) => MessageDecision::Pass { would_deny: None },
            Ok(Some(model)) => {
                grant.further.push(model);
                MessageDecision::Pass { would_deny: None }
            }
            Err(reason) if self.rules.enforce => MessageDecision::Refuse(reason),
            Err(reason) => MessageDecision::Pass { would_deny: Some(reason) },
        }
    }

    /// The model that the message named, where no message before it did.
    fn judge_message(
        &self,
        grant: &Grant,
        judged_by: &Rules,
        found: BodyModel<'_>,
        now: Moment,
    ) -> Result<Option<ModelId>, Reason> {
        if let Some(reason) = grant.would_deny {
            return Err(reason);
        }
        let digest = grant.digest.as_ref().ok_or(Reason::NoCredential)?;
        let holder = self.holder_and_route(grant, digest, judged_by, now);
        let (token, route) = holder.ok_or(Reason::UnknownToken)?;
        let outside = grant.outside.as_deref().map_or(Named::None, Named::One);
        let model = self.resolve(route, outside.and_in_body(found)?)?;
        // Patterns may have changed since it was named before.
        if !covers(token, route, model.as_ref()) {
            return Err(Reason::ResourceNotAllowed);
        }
        let Some(model) = model else { return Ok(None) };
        if grant.models().any(|known| *known == model) {
            return Ok(None);
        }
        if grant.models().count() >= MAX_MODELS {
            return Err(Reason::ModelConflict);
        }
        Ok(Some(model))
    }

    fn holder_and_route<'p>(
        &'p self,
        grant: &Grant,
        digest: &Digest,
        judged_by: &'p Rules,
        now: Moment,
    ) -> Option<(&'p Token, &'p Route)> {
        let holder = self.secrets.get(digest.bytes()).filter(|holder| holder.digest == *digest)?;
        if holder.valid_until.is_some_and(|until| now >= until) {
            return None;
        }
        let token = self.tokens.get(holder.token as usize).filter(|token| !token.disabled)?;
        let route = grant.route.and_then(|index| judged_by.routes.routes().get(index))?;
        let group_held = match route.access() {
            Access::Public => true,
            Access::Deny => false,
            Access::Group(group) => token.has_group(group),
        };
        group_held.then_some((token, route))
    }

    /// When a right ends without any change: the end of a grace period.
    #[must_use]
    pub fn grant_until(&self, grant: &Grant) -> Option<Moment> {
        let digest = grant.digest.as_ref()?;
        let holder = self.secrets.get(digest.bytes()).filter(|holder| holder.digest == *digest)?;
        holder.valid_until
    }
}
