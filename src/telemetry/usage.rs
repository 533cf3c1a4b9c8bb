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
    /// When the secret before the last regeneration was last used, in seconds since 1970; 0: never.
    pub previous_last_used: AtomicI64,
    /// The end of that secret's grace, in seconds since 1970; 0: there is no such secret. Another
    /// end means another secret.
    pub previous_valid_until: AtomicI64,
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
            self.previous_last_used.store(now.0, Ordering::Relaxed);
        }
    }

    /// Whether any request came with the token.
    pub(super) fn has_any(&self) -> bool {
        [&self.allowed, &self.denied, &self.would_deny]
            .into_iter()
            .any(|count| count.load(Ordering::Relaxed) > 0)
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
                let grace = token.previous_valid_until.map_or(0, |end| end.0);
                if usage.previous_valid_until.swap(grace, Ordering::Relaxed) != grace {
                    usage.previous_last_used.store(0, Ordering::Relaxed);
                }
                usage
            })
            .collect();
        let ids: std::collections::HashSet<&TokenId> =
            policy.tokens().map(|token| token.id).collect();
        self.tokens.retain(|(own, id), _| own != namespace || ids.contains(id));
        adopted
    }

    /// Forgets the tokens of all other namespaces: the settings no longer have them.
    pub fn keep_namespaces(&self, names: &[Arc<str>]) {
        self.tokens.retain(|(namespace, _), _| names.contains(namespace));
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

    /// The use of one token.
    pub(super) fn of_token(&self, namespace: &Arc<str>, id: TokenId) -> Option<Arc<TokenUsage>> {
        self.tokens.get(&(Arc::clone(namespace), id)).map(|usage| Arc::clone(&usage))
    }

    /// The tokens of a namespace with their use, in no order.
    pub(super) fn of_namespace(&self, namespace: &str) -> Vec<(TokenId, Arc<TokenUsage>)> {
        // Taken out first: nothing is done while a part of the table is locked.
        self.tokens
            .iter()
            .filter(|entry| &*entry.key().0 == namespace)
            .map(|entry| (entry.key().1.clone(), Arc::clone(entry.value())))
            .collect()
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{Rules, compile};
    use crate::strict_toml::read_token_file;

    fn policy(previous: &str) -> Policy {
        let hash = |of: &str| format!("blake3:{}", blake3::hash(of.as_bytes()));
        let previous = match previous {
            "" => String::new(),
            until => format!("previous = {{ hash = \"{}\", valid_until = {until} }}\n", hash("b")),
        };
        let text =
            format!("version = 1\n[[token]]\nid = \"a\"\nhash = \"{}\"\n{previous}", hash("a"));
        let document = read_token_file(&text).unwrap();
        compile(&document, Arc::new(Rules::default())).ok().unwrap().policy
    }

    #[test]
    fn the_last_use_of_a_previous_secret_is_that_of_this_one() {
        let table = UsageTable::default();
        let namespace: Arc<str> = "default".into();
        let adopt = |previous| table.adopt(&namespace, &policy(previous)).remove(0);
        let last = |usage: &TokenUsage| usage.previous_last_used.load(Ordering::Relaxed);

        let usage = adopt("2030-01-01T00:00:00Z");
        usage.count_allowed(Moment(7), false);
        assert_eq!(last(&usage), 0);
        usage.count_allowed(Moment(8), true);
        usage.count_allowed(Moment(9), false);
        assert_eq!((last(&usage), usage.last_used.load(Ordering::Relaxed)), (8, 9));

        assert_eq!(last(&adopt("2030-01-01T00:00:00Z")), 8);
        assert_eq!(last(&adopt("2030-01-02T00:00:00Z")), 0);
        usage.count_allowed(Moment(10), true);
        assert_eq!(last(&adopt("")), 0);
        assert_eq!(usage.previous_secret.load(Ordering::Relaxed), 2);
    }
}
