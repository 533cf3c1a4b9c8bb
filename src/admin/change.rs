//! Changing a token file: on disk and in force on every worker before anybody is told.

use std::sync::Arc;

use http::StatusCode;
use http::header::{self, HeaderMap, HeaderValue};
use zeroize::Zeroizing;

use super::problem::{Refusal, Stanza};
use super::{Admin, KeyHashes};
use crate::live::{NamespaceInForce, NotInForce, Order, Settlement};
use crate::policy::Document;
use crate::policy::amend::{AmendError, Amended, Edit, Entropy};
use crate::store::file::{Committed, FileStore};
use crate::store::{Generation, StoreError, stanza};
use crate::token::{Digest, Secret};

/// The change that a request asks for. It may be called twice: the second time only to say what
/// would have been written.
pub(super) type Change =
    Box<dyn Fn(&Document) -> Result<(Amended, Option<Secret>), AmendError> + Send>;

/// A change that is in force.
pub(super) struct Changed {
    /// The secret that it made.
    pub(super) secret: Option<Zeroizing<String>>,
    /// The id of the token it was about.
    pub(super) token_id: String,
    /// The state of the file.
    pub(super) generation: Generation,
    /// What is odd about the token.
    pub(super) warnings: Vec<String>,
}

/// What a commit has come to.
enum Written {
    Committed(Box<Committed<(Edit, Option<Secret>)>>),
    ReadOnly(Box<(StoreError, Edit, Option<Secret>)>),
}

/// Which state of the file a request insists on (`If-Match`, RFC 9110, section 13.1.1).
pub(super) fn if_match(headers: &HeaderMap) -> Result<Option<Generation>, Refusal> {
    let mut lines = headers.get_all(header::IF_MATCH).iter();
    let Some(line) = lines.next() else { return Ok(None) };
    let line = line.to_str().unwrap_or_default().trim();
    if line == "*" && lines.next().is_none() {
        return Ok(None);
    }
    let tag = line.strip_prefix('"').and_then(|line| line.strip_suffix('"'));
    match tag {
        Some(tag) if lines.next().is_none() && !tag.contains('"') => {
            Generation::parse(tag).map(Some).map_err(|_| overtaken(StatusCode::PRECONDITION_FAILED))
        }
        // A weak tag never matches here.
        None if line.starts_with("W/") => Err(overtaken(StatusCode::PRECONDITION_FAILED)),
        _ => Err(Refusal::bad_request("`If-Match` is one generation in quotation marks, or `*`.")),
    }
}

fn overtaken(status: StatusCode) -> Refusal {
    let detail = "The token file was changed meanwhile; look at it and try again.";
    Refusal::new(status, "changed_meanwhile", detail)
}

/// Random bytes from the operating system, for one change.
pub(super) fn entropy() -> Result<Entropy, Refusal> {
    let mut entropy = Entropy { secret: [0; _], id: [0; _] };
    for bytes in [entropy.secret.as_mut_slice(), entropy.id.as_mut_slice()] {
        getrandom::fill(bytes).map_err(|error| {
            tracing::error!(%error, "the system gives no random bytes");
            Refusal::internal()
        })?;
    }
    Ok(entropy)
}

impl Admin {
    /// Makes a change. Changes of one namespace are made one after the other.
    pub(super) async fn change(
        &self,
        namespace: &str,
        administrator: KeyHashes,
        seen: Option<Generation>,
        change: Change,
    ) -> Result<Changed, Refusal> {
        let turn = self.turn_of(namespace);
        let _turn = turn.lock().await;
        let Some(namespace) = self.live.gate().namespace_named(namespace).cloned() else {
            return Err(super::no_such_namespace());
        };
        let store = FileStore::new(&namespace.site.settings.tokens);
        let rules = Arc::clone(&namespace.site.settings.rules);
        // The lock of the file and the disk may take their time.
        let written = tokio::task::spawn_blocking(move || {
            // Whoever is no administrator any more changes nothing, even if that is not in force
            // yet.
            let permitted = |document: &Document| {
                let is_one = administrator.open(document);
                is_one.then_some(()).ok_or_else(|| AmendError::NoSuchAdmin(String::new()))
            };
            let with_edit = |document: &Document| {
                let (amended, secret) = change(document)?;
                let edit = amended.edit.clone();
                Ok((amended, (edit, secret)))
            };
            match store.commit_while(seen.as_ref(), &rules, permitted, with_edit) {
                Ok(committed) => Ok(Written::Committed(Box::new(committed))),
                Err(error @ StoreError::ReadOnly { .. }) => {
                    let (edit, secret) = store.rehearse(&rules, |document| {
                        permitted(document)?;
                        change(document)
                    })?;
                    Ok(Written::ReadOnly(Box::new((error, edit, secret))))
                }
                Err(error) => Err(error),
            }
        })
        .await;
        let written = match written {
            Ok(Ok(written)) => written,
            Ok(Err(error)) => return Err(refused(&error, seen.is_some())),
            Err(_) => {
                tracing::error!("a change of a token file panicked");
                return Err(Refusal::internal());
            }
        };
        match written {
            Written::Committed(committed) => self.settled(&namespace, *committed).await,
            Written::ReadOnly(would_be) => {
                let (error, edit, secret) = *would_be;
                let secret = secret.map(Secret::reveal);
                let detail = format!("{error}; nothing was saved: put the stanza there yourself");
                let refusal = Refusal::new(StatusCode::CONFLICT, "read_only_store", detail);
                Err(refusal.with_stanza(Some(Stanza { toml: stanza(&edit), secret })))
            }
        }
    }

    /// Waits until a change is in force.
    async fn settled(
        &self,
        namespace: &NamespaceInForce,
        committed: Committed<(Edit, Option<Secret>)>,
    ) -> Result<Changed, Refusal> {
        let Committed {
            value: (edit, secret), compiled, generation, replaced, written_after, ..
        } = committed;
        let (token_id, hash) = match edit {
            Edit::AddToken(entry) | Edit::SetToken(entry) => {
                (entry.id.value, Some(entry.hash.value))
            }
            Edit::RemoveToken(id) => (id, None),
            Edit::AddAdmin(_) | Edit::RemoveAdmin(_) => return Err(Refusal::internal()),
        };
        // What was made here stands on no line of the file.
        let made = compiled.warnings.iter().filter(|warning| warning.line == Some(0));
        let warnings =
            made.map(|warning| format!("{}; {}", warning.what, warning.remedy)).collect();
        let (done, settled) = tokio::sync::oneshot::channel();
        let order = Order::Settle(Box::new(Settlement {
            namespace: Arc::clone(namespace.site.metrics.name()),
            file: namespace.site.settings.tokens.clone(),
            compiled,
            generation,
            replaced,
            written_after,
            done: Box::new(move |result| drop(done.send(result))),
        }));
        if self.orders.send(order).is_err() {
            return Err(Refusal::internal());
        }
        match settled.await {
            // Somebody may have put an old text back in between, which is in force then.
            Ok(Ok(())) if !self.is_in_force(namespace, &token_id, hash.as_deref()) => {
                Err(not_in_force(&NotInForce::Overtaken))
            }
            Ok(Ok(())) => {
                let secret = secret.map(Secret::reveal);
                Ok(Changed { secret, token_id, generation, warnings })
            }
            Ok(Err(error)) => Err(not_in_force(&error)),
            Err(_) => Err(Refusal::internal()),
        }
    }
}

impl Admin {
    /// Whether a token is there with this hash; without one, whether it is gone.
    fn is_in_force(&self, namespace: &NamespaceInForce, id: &str, hash: Option<&str>) -> bool {
        let gate = self.live.gate();
        let Some(in_force) = gate.namespace_named(&namespace.site.settings.name) else {
            return false;
        };
        match hash.map(Digest::parse) {
            None => in_force.policy.facts(id).is_none(),
            Some(digest) => digest.is_ok_and(|digest| in_force.policy.is_secret_of(id, &digest)),
        }
    }
}

fn not_in_force(error: &NotInForce) -> Refusal {
    let detail = format!("The change was written and is not in force: {error}; look at the file.");
    let mut refusal = Refusal::new(StatusCode::CONFLICT, "changed_meanwhile", detail);
    refusal.is_written = true;
    match error {
        NotInForce::Invalid(error) => refusal.with_file_problems(error.problems()),
        NotInForce::SettingsChanged | NotInForce::Overtaken => refusal,
    }
}

fn refused(error: &StoreError, is_conditional: bool) -> Refusal {
    let status = match error {
        StoreError::Amend(AmendError::NoSuchToken(_)) => return super::no_such_token(),
        StoreError::Amend(AmendError::Expired(_)) => {
            return Refusal::new(StatusCode::CONFLICT, "expired_token", error.to_string());
        }
        StoreError::Amend(AmendError::Grace) => {
            return Refusal::of_field("grace_period", error.to_string());
        }
        StoreError::Amend(AmendError::NoSuchAdmin(_)) => return super::wrong_key(),
        StoreError::Amend(AmendError::AdminExists(_)) => return Refusal::internal(),
        StoreError::Refused(problems) => return Refusal::of_problems(problems.clone()),
        StoreError::Changed { .. } if is_conditional => StatusCode::PRECONDITION_FAILED,
        StoreError::Changed { .. } => StatusCode::CONFLICT,
        StoreError::Busy { .. } => {
            let refusal = Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "busy", error.to_string());
            return refusal.with_header(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        StoreError::Read { .. }
        | StoreError::NotAFile { .. }
        | StoreError::WritableByOthers { .. }
        | StoreError::TooLarge { .. }
        | StoreError::Invalid { .. } => {
            let detail = "The token file is not valid at present, so nothing was changed; an \
                          operator must mend it first.";
            let refusal = Refusal::new(StatusCode::CONFLICT, "invalid_file", detail);
            return refusal.with_file_problems(error.problems());
        }
        StoreError::ReadOnly { .. } => {
            return Refusal::new(StatusCode::CONFLICT, "read_only_store", error.to_string());
        }
        StoreError::Write { .. } | StoreError::Unsettled { .. } | StoreError::Internal { .. } => {
            tracing::error!(%error, "a change of a token file failed");
            let status = StatusCode::INTERNAL_SERVER_ERROR;
            let mut refusal = Refusal::new(status, "write_failed", error.to_string());
            refusal.is_written = matches!(error, StoreError::Unsettled { .. });
            return refusal;
        }
    };
    overtaken(status)
}
