use std::collections::BTreeMap;

use super::compile::{Policy, Token};
use super::document::{Limits, Moment};
use super::pattern::Pattern;
use super::token_state::TokenState;
use crate::token::{Digest, TokenId};

/// What may be told of a token: everything but its hashes.
#[derive(Debug, Clone)]
pub struct TokenFacts<'p> {
    /// Its id.
    pub id: &'p TokenId,
    /// Its name.
    pub name: Option<&'p str>,
    /// Its groups.
    pub groups: &'p [Box<str>],
    /// Its resource patterns.
    pub resources: &'p [Pattern],
    /// When it was made.
    pub created_at: Option<Moment>,
    /// When it ends.
    pub expires_at: Option<Moment>,
    /// Whether it is switched off.
    pub disabled: bool,
    /// The first second in which the secret before the last regeneration is no longer valid; it
    /// may be past.
    pub previous_valid_until: Option<Moment>,
    /// How much it may be used.
    pub limits: Option<Limits>,
    /// Free pairs.
    pub labels: &'p BTreeMap<String, String>,
}

impl TokenFacts<'_> {
    /// Its state at a moment.
    #[must_use]
    pub fn state(&self, now: Moment) -> TokenState {
        TokenState::of(self.disabled, self.expires_at, now)
    }
}

static NO_LABELS: BTreeMap<String, String> = BTreeMap::new();

impl Token {
    fn facts(&self) -> TokenFacts<'_> {
        let seldom = self.seldom.as_deref();
        TokenFacts {
            id: &self.id,
            name: self.name.as_deref(),
            groups: &self.groups,
            resources: &self.resources,
            created_at: self.created_at,
            expires_at: self.expires_at,
            disabled: self.disabled,
            previous_valid_until: seldom.and_then(|seldom| seldom.previous_valid_until),
            limits: seldom.and_then(|seldom| seldom.limits),
            labels: seldom.map_or(&NO_LABELS, |seldom| &seldom.labels),
        }
    }
}

impl Policy {
    /// What may be told of every token, in the order of the document.
    pub fn tokens(&self) -> impl ExactSizeIterator<Item = TokenFacts<'_>> {
        self.tokens.iter().map(Token::facts)
    }

    /// The place of a token in [`Policy::tokens`], and what may be told of it. Takes the same time
    /// however many tokens there are.
    #[must_use]
    pub fn facts(&self, id: &str) -> Option<(usize, TokenFacts<'_>)> {
        let place = self.token_named(id)? as usize;
        Some((place, self.facts_at(place)?))
    }

    /// Whether a token's present secret has this hash.
    #[must_use]
    pub fn is_secret_of(&self, id: &str, digest: &Digest) -> bool {
        let holder = self.secrets.get(digest.bytes()).filter(|holder| holder.digest == *digest);
        let is_present = holder.filter(|holder| holder.valid_until.is_none());
        is_present.is_some_and(|holder| self.token_named(id) == Some(holder.token))
    }

    /// What may be told of the token at a place in [`Policy::tokens`].
    #[must_use]
    pub fn facts_at(&self, place: usize) -> Option<TokenFacts<'_>> {
        self.tokens.get(place).map(Token::facts)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::policy::{Document, Placed, Previous, Rules, TokenEntry, compile};

    fn entry(id: &str) -> TokenEntry {
        let hash = |of: &str| Placed::made(format!("blake3:{}", blake3::hash(of.as_bytes())));
        TokenEntry {
            id: Placed::made(id.into()),
            name: Some(Placed::made(format!("name of {id}"))),
            hash: hash(id),
            resources: vec![Placed::made("iris-*".into())],
            groups: vec![Placed::made("g".into())],
            created_at: Some(Moment(5)),
            expires_at: Some(Moment(100)),
            disabled: false,
            previous: Some(Previous {
                hash: hash(&format!("before {id}")),
                valid_until: Moment(50),
            }),
            limits: Some(Limits { max_in_flight: Some(3), ..Limits::default() }),
            labels: [("team".into(), "a".into())].into(),
        }
    }

    #[test]
    fn a_token_is_found_by_its_id_with_all_that_may_be_told() {
        let plain = TokenEntry {
            name: None,
            created_at: None,
            expires_at: None,
            previous: None,
            limits: None,
            labels: BTreeMap::new(),
            ..entry("plain")
        };
        let tokens = vec![entry("a"), plain, entry("c")];
        let document = Document { admins: Vec::new(), tokens };
        let policy = compile(&document, Arc::new(Rules::default())).ok().unwrap().policy;

        let (place, facts) = policy.facts("c").unwrap();
        assert_eq!((place, facts.id.as_str(), facts.name), (2, "c", Some("name of c")));
        assert_eq!((facts.created_at, facts.expires_at), (Some(Moment(5)), Some(Moment(100))));
        assert_eq!(facts.previous_valid_until, Some(Moment(50)));
        assert_eq!(facts.limits, document.tokens[2].limits);
        assert_eq!(facts.labels["team"], "a");
        assert_eq!(facts.state(Moment(99)), TokenState::Active);
        assert_eq!(facts.state(Moment(100)), TokenState::Expired);

        let plain = policy.facts_at(1).unwrap();
        assert_eq!(plain.id.as_str(), "plain");
        assert_eq!((plain.created_at, plain.previous_valid_until), (None, None));
        assert!(plain.limits.is_none() && plain.labels.is_empty());
        assert!(policy.facts_at(3).is_none());
        for unknown in ["", "d", "C", "fg_0123456789"] {
            assert!(policy.facts(unknown).is_none(), "{unknown}");
        }
    }

    #[test]
    fn what_few_tokens_have_takes_little_room_in_the_others() {
        assert!(std::mem::size_of::<Token>() <= 128, "{}", std::mem::size_of::<Token>());
    }
}
