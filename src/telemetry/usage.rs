//! How much each token is used. Kept for people and their dashboards; no decision looks here.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use dashmap::DashMap;

use crate::policy::{Moment, Policy};
use crate::token::TokenId;

/// The use of one token, counted by all workers.
#[derive(Debug, Default)]
pub struct TokenUsage {
    /// Requests that were forwarded.
    pub allowed: AtomicU64,
    /// Requests that were refused.
    pub denied: AtomicU64,
    /// Requests that were forwarded only because the namespace does not enforce.
    pub would_deny: AtomicU64,
    /// Seconds since 1970 of the last forwarded request; 0: never.
    pub last_used: AtomicI64,
    /// Requests that came with the secret before the last regeneration.
    pub previous_secret: AtomicU64,
    /// When it expires, in seconds since 1970; 0: never.
    pub expires_at: AtomicI64,
}

impl TokenUsage {
    /// Counts a forwarded request.
    pub fn count_allowed(&self, now: Moment, by_previous_secret: bool) {
        self.allowed.fetch_add(1, Ordering::Relaxed);
        self.last_used.store(now.0, Ordering::Relaxed);
        if by_previous_secret {
            self.previous_secret.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// The use of every token of every namespace, across reloads of the policies.
#[derive(Debug, Default)]
pub struct UsageTable {
    tokens: DashMap<(Arc<str>, TokenId), Arc<TokenUsage>>,
}

impl UsageTable {
    /// The counters of a policy's tokens, in its order: those of tokens that were there before go
    /// on, those of tokens that are gone are dropped.
    #[must_use]
    pub fn adopt(&self, namespace: &Arc<str>, policy: &Policy) -> Vec<Arc<TokenUsage>> {
        let adopted: Vec<Arc<TokenUsage>> = policy
            .tokens()
            .map(|token| {
                let key = (Arc::clone(namespace), token.id.clone());
                let usage = Arc::clone(&self.tokens.entry(key).or_default());
                let end = token.expires_at.map_or(0, |end| end.0);
                usage.expires_at.store(end, Ordering::Relaxed);
                usage
            })
            .collect();
        let ids: std::collections::HashSet<&TokenId> =
            policy.tokens().map(|token| token.id).collect();
        self.tokens.retain(|(own, id), _| own != namespace || ids.contains(id));
        adopted
    }

    /// How many tokens are counted.
    #[must_use]
    pub fn len(&self) -> usize {
        self.tokens.len()
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }

    /// Every token with its use, by namespace and id.
    #[must_use]
    pub fn all(&self) -> Vec<(Arc<str>, TokenId, Arc<TokenUsage>)> {
        let mut all: Vec<_> = self
            .tokens
            .iter()
            .map(|entry| {
                let (namespace, id) = entry.key();
                (Arc::clone(namespace), id.clone(), Arc::clone(entry.value()))
            })
            .collect();
        all.sort_by(|one, other| (&one.0, &one.1).cmp(&(&other.0, &other.1)));
        all
    }
}
