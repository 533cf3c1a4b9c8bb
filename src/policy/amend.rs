//! Changes of a token file, as pure functions: a document in, the changed document out, with the
//! one edit by which they differ and, where one was made, the secret.
//!
//! Nothing here judges values: [`super::compile`] does that on the result, for every change alike.

use super::document::{AdminEntry, Document, Limits, Moment, Placed, Previous, TokenEntry};
use crate::token::{ENTROPY_BYTES, Secret, SecretKind, TokenId};
use std::collections::BTreeMap;

/// The longest grace period of a regeneration, in seconds: 30 days.
pub const MAX_GRACE_SECONDS: i64 = 30 * 24 * 60 * 60;

/// Random bytes that a change may use up; from the operating system.
pub struct Entropy {
    /// For a secret.
    pub secret: [u8; ENTROPY_BYTES],
    /// For an id.
    pub id: [u8; 16],
}

/// A changed document.
#[derive(Debug)]
pub struct Amended {
    /// The document after the change.
    pub document: Document,
    /// The only difference to the document before.
    pub edit: Edit,
}

/// The difference that a change makes to a token file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Edit {
    /// A `[[token]]` table at the end.
    AddToken(TokenEntry),
    /// The `[[token]]` table with this id becomes this.
    SetToken(TokenEntry),
    /// The `[[token]]` table with this id goes.
    RemoveToken(String),
    /// An `[[admin]]` table after the others.
    AddAdmin(AdminEntry),
    /// The `[[admin]]` table with this name goes.
    RemoveAdmin(String),
}

/// Why a change cannot be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AmendError {
    /// No token has the id.
    #[error("there is no token with the id `{0}`")]
    NoSuchToken(String),
    /// No administrator has the name.
    #[error("there is no administrator key named `{0}`")]
    NoSuchAdmin(String),
    /// An administrator has the name already.
    #[error("there is an administrator key named `{0}` already")]
    AdminExists(String),
    /// A secret of an expired token would be worth nothing.
    #[error("the token `{0}` has expired: give it a later `expires_at` first")]
    Expired(String),
    /// More than 30 days, or less than none.
    #[error("a grace period is at most 30 days")]
    Grace,
}

/// What a new token shall be.
#[derive(Debug, Clone, Default)]
pub struct NewToken {
    /// For people.
    pub name: Option<String>,
    /// Resource patterns.
    pub resources: Vec<String>,
    /// Groups.
    pub groups: Vec<String>,
    /// The first second in which it is no longer valid.
    pub expires_at: Option<Moment>,
    /// How much it may be used.
    pub limits: Option<Limits>,
    /// Free pairs.
    pub labels: BTreeMap<String, String>,
}

/// What shall change of a token; what is none stays.
#[derive(Debug, Clone, Default)]
pub struct TokenPatch {
    /// `Some(None)` removes the name.
    pub name: Option<Option<String>>,
    /// The new patterns.
    pub resources: Option<Vec<String>>,
    /// The new groups.
    pub groups: Option<Vec<String>>,
    /// `Some(None)`: it does not expire.
    pub expires_at: Option<Option<Moment>>,
    /// `Some(None)`: it is not limited.
    pub limits: Option<Option<Limits>>,
    /// The new labels.
    pub labels: Option<BTreeMap<String, String>>,
    /// Whether it is switched off.
    pub disabled: Option<bool>,
}

/// Adds a token.
#[must_use]
pub fn issue(
    document: &Document,
    new: NewToken,
    entropy: &Entropy,
    now: Moment,
) -> (Amended, Secret) {
    let secret = Secret::from_entropy(SecretKind::Token, &entropy.secret);
    let made = |texts: Vec<String>| texts.into_iter().map(Placed::made).collect();
    let entry = TokenEntry {
        id: Placed::made(TokenId::from_entropy(entropy.id).to_string()),
        name: new.name.map(Placed::made),
        hash: Placed::made(secret.digest().to_file_form()),
        resources: made(new.resources),
        groups: made(new.groups),
        created_at: Some(now),
        expires_at: new.expires_at,
        disabled: false,
        previous: None,
        limits: new.limits,
        labels: new.labels,
    };
    let mut document = document.clone();
    document.tokens.push(entry.clone());
    (Amended { document, edit: Edit::AddToken(entry) }, secret)
}

/// Gives a token a new secret. The old one stops at once, or `grace_seconds` from now; a secret
/// before that one stops at once in any case.
///
/// # Errors
/// When there is no such token, it has expired, or the grace is longer than 30 days.
pub fn regenerate(
    document: &Document,
    id: &str,
    grace_seconds: i64,
    entropy: &Entropy,
    now: Moment,
) -> Result<(Amended, Secret), AmendError> {
    if !(0..=MAX_GRACE_SECONDS).contains(&grace_seconds) {
        return Err(AmendError::Grace);
    }
    let secret = Secret::from_entropy(SecretKind::Token, &entropy.secret);
    let hash = secret.digest().to_file_form();
    let amended = set_token(document, id, |entry| {
        if entry.expires_at.is_some_and(|end| now >= end) {
            return Err(AmendError::Expired(id.into()));
        }
        let old = std::mem::replace(&mut entry.hash, Placed::made(hash));
        entry.previous = (grace_seconds > 0).then(|| Previous {
            hash: old,
            valid_until: Moment(now.0.saturating_add(grace_seconds)),
        });
        Ok(())
    })?;
    Ok((amended, secret))
}

/// Switches a token off or on.
///
/// # Errors
/// When there is no such token.
pub fn set_disabled(document: &Document, id: &str, disabled: bool) -> Result<Amended, AmendError> {
    patch(document, id, TokenPatch { disabled: Some(disabled), ..TokenPatch::default() })
}

/// Changes what a token may do.
///
/// # Errors
/// When there is no such token.
pub fn patch(document: &Document, id: &str, patch: TokenPatch) -> Result<Amended, AmendError> {
    let made = |texts: Vec<String>| texts.into_iter().map(Placed::made).collect();
    set_token(document, id, |entry| {
        if let Some(name) = patch.name {
            entry.name = name.map(Placed::made);
        }
        if let Some(resources) = patch.resources {
            entry.resources = made(resources);
        }
        if let Some(groups) = patch.groups {
            entry.groups = made(groups);
        }
        if let Some(expires_at) = patch.expires_at {
            entry.expires_at = expires_at;
        }
        if let Some(limits) = patch.limits {
            entry.limits = limits;
        }
        if let Some(labels) = patch.labels {
            entry.labels = labels;
        }
        if let Some(disabled) = patch.disabled {
            entry.disabled = disabled;
        }
        Ok(())
    })
}

/// Removes a token.
///
/// # Errors
/// When there is no such token.
pub fn delete(document: &Document, id: &str) -> Result<Amended, AmendError> {
    let mut document = document.clone();
    let place = document
        .tokens
        .iter()
        .position(|entry| entry.id.value == id)
        .ok_or_else(|| AmendError::NoSuchToken(id.into()))?;
    document.tokens.remove(place);
    Ok(Amended { document, edit: Edit::RemoveToken(id.into()) })
}

/// Adds an administrator with a new key.
///
/// # Errors
/// When there is one of this name.
pub fn issue_admin_key(
    document: &Document,
    name: &str,
    entropy: &Entropy,
) -> Result<(Amended, Secret), AmendError> {
    if document.admins.iter().any(|admin| admin.name.value == name) {
        return Err(AmendError::AdminExists(name.into()));
    }
    let secret = Secret::from_entropy(SecretKind::AdminKey, &entropy.secret);
    let entry = AdminEntry {
        name: Placed::made(name.into()),
        hash: Placed::made(secret.digest().to_file_form()),
    };
    let mut document = document.clone();
    document.admins.push(entry.clone());
    Ok((Amended { document, edit: Edit::AddAdmin(entry) }, secret))
}

/// Removes an administrator.
///
/// # Errors
/// When there is none of this name.
pub fn delete_admin_key(document: &Document, name: &str) -> Result<Amended, AmendError> {
    let mut document = document.clone();
    let place = document
        .admins
        .iter()
        .position(|admin| admin.name.value == name)
        .ok_or_else(|| AmendError::NoSuchAdmin(name.into()))?;
    document.admins.remove(place);
    Ok(Amended { document, edit: Edit::RemoveAdmin(name.into()) })
}

fn set_token(
    document: &Document,
    id: &str,
    change: impl FnOnce(&mut TokenEntry) -> Result<(), AmendError>,
) -> Result<Amended, AmendError> {
    let mut document = document.clone();
    let entry = document
        .tokens
        .iter_mut()
        .find(|entry| entry.id.value == id)
        .ok_or_else(|| AmendError::NoSuchToken(id.into()))?;
    change(entry)?;
    let edit = Edit::SetToken(entry.clone());
    Ok(Amended { document, edit })
}
