//! The calls about one token.

use http::header::{self, HeaderValue};
use http::{Response, StatusCode};
use http_body_util::Full;
use serde::Serialize;
use utoipa::ToSchema;

use super::change::{self, Change, Changed};
use super::input::{EmptyBody, NewTokenBody, PatchBody, RegenerateBody};
use super::problem::Refusal;
use super::response::{Body, json_of};
use super::router::Operation;
use super::view::UsedTokenView;
use super::{Admin, Administrator, Call, body, no_such_namespace, no_such_token};
use crate::live::{self, NamespaceInForce};
use crate::policy::Moment;
use crate::policy::amend;
use crate::telemetry::audit::AuditEntry;

/// A token, and what its change made beside it.
#[derive(Serialize, ToSchema)]
pub(super) struct TokenAnswer<'t> {
    /// The token as it is in force now.
    token: UsedTokenView<'t>,
    /// Its new secret. It is shown this one time; only its hash is kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    secret: Option<&'t str>,
    /// The state of the token file, for `If-Match`.
    generation: String,
    /// What is odd about the token, for people.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    warnings: &'t [String],
}

/// One token as it is in force.
pub(super) fn one(
    namespace: &NamespaceInForce,
    id: &str,
    now: Moment,
) -> Result<Response<Body>, Refusal> {
    let token = view(namespace, id, now).ok_or_else(no_such_token)?;
    let generation = namespace.generation.to_hex();
    let answer = TokenAnswer { token, secret: None, generation, warnings: &[] };
    Ok(json_of(StatusCode::OK, &namespace.generation, &answer))
}

fn view<'n>(namespace: &'n NamespaceInForce, id: &str, now: Moment) -> Option<UsedTokenView<'n>> {
    let (place, facts) = namespace.policy.facts(id)?;
    Some(UsedTokenView::new(&facts, namespace.usage.get(place)?, now))
}

/// Makes the change that a call asks for.
pub(super) async fn change(
    admin: &Admin,
    call: &Call,
    administrator: &Administrator,
    body: &[u8],
) -> Result<Response<Body>, Refusal> {
    let seen = change::if_match(&call.parts.headers)?;
    let now = live::now();
    let (change, changed_fields) = asked(call, body, now)?;
    let namespace = &administrator.namespace.site.settings.name;
    let record = async |token_id: Option<&str>, outcome| {
        let entry = AuditEntry {
            administrator: Some(&administrator.name),
            address: call.peer,
            action: call.operation.as_str(),
            namespace: Some(namespace),
            token_id,
            changed_fields: &changed_fields,
            request_id: &call.request_id,
            outcome,
        };
        admin.audit.record(&entry).await;
    };
    let changed = match admin.change(namespace, call.key, seen, change).await {
        Ok(changed) => changed,
        Err(refusal) => {
            let id = Some(&*call.id).filter(|id| !id.is_empty());
            if refusal.has_stanza() {
                // Nothing was saved, but an operator may make the secret valid that was shown.
                record(id, "read_only_store").await;
            } else if refusal.is_written {
                record(id, "not_in_force").await;
            }
            return Err(refusal);
        }
    };
    record(Some(&changed.token_id), "done").await;
    if call.operation == Operation::DeleteToken {
        let mut response = Response::new(Full::default());
        *response.status_mut() = StatusCode::NO_CONTENT;
        return Ok(response);
    }
    answer(admin, call.operation, namespace, &changed)
}

type Asked = (Change, Vec<&'static str>);

fn asked(call: &Call, text: &[u8], now: Moment) -> Result<Asked, Refusal> {
    let id = call.id.clone();
    Ok(match call.operation {
        Operation::CreateToken => {
            let new = body::parse::<NewTokenBody>(text)?.judged(now)?;
            let entropy = change::entropy()?;
            let fields = [
                ("name", new.name.is_some()),
                ("resources", true),
                ("groups", true),
                ("expires_at", new.expires_at.is_some()),
                ("limits", new.limits.is_some()),
                ("labels", !new.labels.is_empty()),
            ];
            let fields = fields.into_iter().filter(|(_, is_set)| *is_set);
            let change: Change = Box::new(move |document| {
                let (amended, secret) = amend::issue(document, new.clone(), &entropy, now);
                Ok((amended, Some(secret)))
            });
            (change, fields.map(|(name, _)| name).collect())
        }
        Operation::UpdateToken => {
            let (patch, fields) = body::parse::<PatchBody>(text)?.judged()?;
            let change =
                move |document: &_| Ok((amend::patch(document, &id, patch.clone())?, None));
            (Box::new(change), fields)
        }
        Operation::RegenerateToken => {
            let body: RegenerateBody = if_any(text)?;
            let grace = body.judged()?;
            let entropy = change::entropy()?;
            let change: Change = Box::new(move |document| {
                let (amended, secret) = amend::regenerate(document, &id, grace, &entropy, now)?;
                Ok((amended, Some(secret)))
            });
            (change, vec!["secret"])
        }
        Operation::DeleteToken => {
            if_any::<EmptyBody>(text)?;
            (Box::new(move |document| Ok((amend::delete(document, &id)?, None))), Vec::new())
        }
        operation => {
            if_any::<EmptyBody>(text)?;
            let disabled = operation == Operation::DisableToken;
            let change =
                move |document: &_| Ok((amend::set_disabled(document, &id, disabled)?, None));
            (Box::new(change), vec!["disabled"])
        }
    })
}

/// The body of a call that needs none.
fn if_any<T: Default + serde::de::DeserializeOwned>(text: &[u8]) -> Result<T, Refusal> {
    if text.is_empty() { Ok(T::default()) } else { body::parse(text) }
}

fn answer(
    admin: &Admin,
    operation: Operation,
    namespace: &str,
    changed: &Changed,
) -> Result<Response<Body>, Refusal> {
    let gate = admin.live.gate();
    let in_force = gate.namespace_named(namespace).ok_or_else(no_such_namespace)?;
    // It may be gone again by now.
    let token = view(in_force, &changed.token_id, live::now()).ok_or_else(no_such_token)?;
    let is_new = operation == Operation::CreateToken;
    let status = if is_new { StatusCode::CREATED } else { StatusCode::OK };
    let secret = changed.secret.as_ref().map(|secret| secret.as_str());
    let generation = changed.generation.to_hex();
    let answer = TokenAnswer { token, secret, generation, warnings: &changed.warnings };
    let mut response = json_of(status, &changed.generation, &answer);
    if is_new {
        let location = format!("/api/v1/namespaces/{namespace}/tokens/{}", changed.token_id);
        if let Ok(location) = HeaderValue::from_str(&location) {
            response.headers_mut().insert(header::LOCATION, location);
        }
    }
    Ok(response)
}
