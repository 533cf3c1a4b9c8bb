//! Which secret opens what at which moment: after issuing, regenerating with and without grace,
//! switching off, expiring and deleting, in any order; and what of it ends a running stream.

use std::sync::Arc;

use faregate::policy::amend::{self, AmendError, Entropy, MAX_GRACE_SECONDS, NewToken, TokenPatch};
use faregate::policy::{
    Ask, Caller, Decision, Document, Moment, Permit, Policy, RequestPath, Rules, SecretUsed,
};
use faregate::token::Presented;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

use super::world::{
    EVALUATION, Request, Who, World, a_moment, a_request, a_world, policy, profile_routes, secret,
    some_tokens,
};

/// What an administrator does, some seconds after the change before.
#[derive(Debug, Clone)]
enum Change {
    Issue,
    Regenerate(Index, i64),
    Disable(Index, bool),
    Expire(Index, Option<i64>),
    Delete(Index),
}

fn a_change() -> impl Strategy<Value = Change> {
    let seconds = || select(vec![0, 1, 2, 5, 10]);
    prop_oneof![
        3 => Just(Change::Issue),
        5 => (any::<Index>(), seconds()).prop_map(|(who, grace)| Change::Regenerate(who, grace)),
        1 => (any::<Index>(), any::<bool>()).prop_map(|(who, off)| Change::Disable(who, off)),
        2 => (any::<Index>(), prop::option::of(seconds()))
            .prop_map(|(who, after)| Change::Expire(who, after)),
        1 => any::<Index>().prop_map(Change::Delete),
    ]
}

/// What somebody with pencil and paper would keep of a token.
#[derive(Debug, Clone)]
struct Kept {
    id: String,
    secret: String,
    /// And the first second in which it is no longer good.
    previous: Option<(String, i64)>,
    expires_at: Option<i64>,
    disabled: bool,
}

impl Kept {
    fn is_good(&self, secret: &str, now: i64) -> bool {
        let is_own = secret == self.secret
            || self.previous.as_ref().is_some_and(|(old, until)| secret == old && now < *until);
        is_own && !self.disabled && self.expires_at.is_none_or(|end| now < end)
    }
}

fn rules() -> Arc<Rules> {
    let routes = profile_routes("any");
    World { routes, default_model: None, enforce: true, tokens: Vec::new() }.rules()
}

fn decide(policy: &Policy, secret: &str, now: i64) -> Option<Permit> {
    let ask = Ask {
        method: "POST",
        path: RequestPath::parse("/").unwrap(),
        query: None,
        caller: Caller::Secret { secret: Presented::new(secret.as_bytes()), user: "" },
        now: Moment(now),
    };
    match policy.decide(&ask) {
        Decision::Allow(permit) => Some(permit),
        Decision::Inspect(_) | Decision::Deny(_) => None,
    }
}

fn entropy(seed: usize) -> Entropy {
    let byte = u8::try_from(seed).unwrap();
    Entropy { secret: [byte; 32], id: [byte; 16] }
}

/// The secrets ever made, the file, and the notes on it.
#[derive(Default)]
struct History {
    document: Document,
    secrets: Vec<String>,
    kept: Vec<Kept>,
}

impl History {
    fn issue(&mut self, now: i64) {
        let new = NewToken {
            resources: vec!["*".into()],
            groups: vec![EVALUATION.into()],
            ..NewToken::default()
        };
        let entropy = entropy(self.secrets.len());
        let (amended, secret) = amend::issue(&self.document, new, &entropy, Moment(now));
        let id = amended.document.tokens.last().unwrap().id.value.clone();
        let secret = secret.reveal().to_string();
        self.document = amended.document;
        self.secrets.push(secret.clone());
        self.kept.push(Kept { id, secret, previous: None, expires_at: None, disabled: false });
    }

    fn apply(&mut self, change: &Change, now: i64) {
        let place = |who: &Index| (!self.kept.is_empty()).then(|| who.index(self.kept.len()));
        match change {
            Change::Issue => self.issue(now),
            Change::Regenerate(who, grace) => {
                let Some(place) = place(who) else { return };
                let kept = &mut self.kept[place];
                let entropy = entropy(self.secrets.len());
                let outcome =
                    amend::regenerate(&self.document, &kept.id, *grace, &entropy, Moment(now));
                if kept.expires_at.is_some_and(|end| now >= end) {
                    assert_eq!(outcome.unwrap_err(), AmendError::Expired(kept.id.clone()));
                    return;
                }
                let (amended, secret) = outcome.unwrap();
                let secret = secret.reveal().to_string();
                let old = std::mem::replace(&mut kept.secret, secret.clone());
                kept.previous = (*grace > 0).then_some((old, now + grace));
                self.document = amended.document;
                self.secrets.push(secret);
            }
            Change::Disable(who, off) => {
                let Some(place) = place(who) else { return };
                let kept = &mut self.kept[place];
                kept.disabled = *off;
                self.document =
                    amend::set_disabled(&self.document, &kept.id, *off).unwrap().document;
            }
            Change::Expire(who, after) => {
                let Some(place) = place(who) else { return };
                let kept = &mut self.kept[place];
                kept.expires_at = after.map(|after| now + after);
                let expires_at = Some(kept.expires_at.map(Moment));
                let patch = TokenPatch { expires_at, ..TokenPatch::default() };
                self.document = amend::patch(&self.document, &kept.id, patch).unwrap().document;
            }
            Change::Delete(who) => {
                let Some(place) = place(who) else { return };
                let kept = self.kept.remove(place);
                self.document = amend::delete(&self.document, &kept.id).unwrap().document;
            }
        }
    }
}

proptest! {
    #![proptest_config(super::cases(300))]

    #[test]
    fn a_secret_is_good_exactly_as_long_as_was_said(
        changes in vec((0_i64..4, a_change()), 1..14),
    ) {
        let rules = rules();
        let mut history = History::default();
        history.issue(0);
        let mut now = 0;
        for (seconds, change) in &changes {
            now += seconds;
            history.apply(change, now);
            let policy = policy(&history.document, Arc::clone(&rules));
            for secret in &history.secrets {
                for at in now..now + 13 {
                    let is_good = history.kept.iter().any(|kept| kept.is_good(secret, at));
                    let permit = decide(&policy, secret, at);
                    prop_assert_eq!(permit.is_some(), is_good, "at {} after {:?}", at, change);
                    let Some(permit) = permit else { continue };
                    let is_new = history.kept.iter().any(|kept| kept.secret == *secret);
                    let used = if is_new { SecretUsed::Current } else { SecretUsed::Previous };
                    prop_assert_eq!(permit.secret_used(), Some(used));
                }
            }
        }
    }

    #[test]
    fn a_running_request_goes_on_while_a_new_one_would_be_let_in(
        world in a_world(),
        tokens in some_tokens(),
        requests in vec(a_request(), 1..24),
        later in vec(a_moment(), 1..4),
    ) {
        let before = world.policy();
        let world = world.with_tokens(tokens);
        let after = world.policy_under(Arc::clone(before.rules()));
        // Expiry alone ends nothing that runs: a new request is asked for as if nothing expired.
        let mut immortal = world.tokens.clone();
        immortal.iter_mut().for_each(|entry| entry.expires_at = None);
        let fresh = world.with_tokens(immortal).policy_under(Arc::clone(before.rules()));
        for request in requests {
            // A user name belongs to the request that was judged and not to what it runs by.
            let number = match request.who {
                Who::Secret(number, _) => Some(number),
                Who::Nobody => None,
                _ => continue,
            };
            let request = Request { who: number.map_or(Who::Nobody, |n| Who::Secret(n, "")), ..request };
            let Some(permit) = permitted(&before, &request, request.now) else { continue };
            let grant = permit.grant();
            for later in &later {
                let now = Moment(request.now.0 + later.0);
                let runs_on = after.still_grants(&grant, before.rules(), now);
                let let_in = permitted(&fresh, &request, now);
                if permit.would_deny().is_some() {
                    // It never had a right that could end.
                    prop_assert!(runs_on);
                    continue;
                }
                // Where nothing is enforced a new request passes too, but not by its own right.
                let by_right = let_in.is_some_and(|permit| permit.would_deny().is_none());
                prop_assert_eq!(runs_on, by_right, "at {:?}: {:?}", now, request);
            }
        }
    }
}

fn permitted(policy: &Policy, request: &Request, now: Moment) -> Option<Permit> {
    let text;
    let caller = match &request.who {
        Who::Secret(number, user) => {
            text = secret(*number);
            Caller::Secret { secret: Presented::new(text.as_bytes()), user }
        }
        _ => Caller::Nobody,
    };
    let path = RequestPath::parse(&request.path).unwrap();
    let ask = Ask { method: request.method, path, query: request.query, caller, now };
    let decided = match policy.decide(&ask) {
        Decision::Inspect(inspection) => policy.decide_with(&ask, inspection, request.body),
        decided => decided,
    };
    match decided {
        Decision::Allow(permit) => Some(permit),
        Decision::Inspect(_) | Decision::Deny(_) => None,
    }
}

fn one_token(expires_at: Option<i64>) -> (Document, String, String) {
    let mut history = History::default();
    history.issue(0);
    let id = history.kept[0].id.clone();
    let patch = TokenPatch { expires_at: Some(expires_at.map(Moment)), ..TokenPatch::default() };
    let document = amend::patch(&history.document, &id, patch).unwrap().document;
    (document, id, history.secrets.remove(0))
}

/// The seconds out of `at` in which a secret is good.
fn good_at(document: &Document, secret: &str, at: &[i64]) -> Vec<i64> {
    let policy = policy(document, rules());
    at.iter().copied().filter(|&now| decide(&policy, secret, now).is_some()).collect()
}

#[test]
fn without_grace_the_old_secret_stops_at_once() {
    let (document, id, old) = one_token(None);
    let (amended, new) = amend::regenerate(&document, &id, 0, &entropy(9), Moment(50)).unwrap();
    let new = new.reveal().to_string();
    let at = [49, 50, 51, 1_000];
    assert_eq!(good_at(&document, &old, &at), at);
    assert_eq!(good_at(&amended.document, &old, &at), Vec::<i64>::new());
    assert_eq!(good_at(&amended.document, &new, &at), at);
}

#[test]
fn with_grace_the_old_secret_stops_in_the_second_that_was_said() {
    for grace in [1, 60, MAX_GRACE_SECONDS] {
        let (document, id, old) = one_token(None);
        let (amended, new) =
            amend::regenerate(&document, &id, grace, &entropy(9), Moment(50)).unwrap();
        let at = [50, 50 + grace - 1, 50 + grace, 50 + grace + 1];
        assert_eq!(good_at(&amended.document, &old, &at), at[..2], "{grace}");
        assert_eq!(good_at(&amended.document, &new.reveal(), &at), at, "{grace}");
        // Regenerated again within the grace: the secret before the last stops at once.
        let again =
            amend::regenerate(&amended.document, &id, grace, &entropy(10), Moment(50)).unwrap().0;
        assert_eq!(good_at(&again.document, &old, &at), Vec::<i64>::new(), "{grace}");
    }
}

#[test]
fn grace_never_outlives_the_token() {
    let (document, id, old) = one_token(Some(60));
    let (amended, new) = amend::regenerate(&document, &id, 100, &entropy(9), Moment(50)).unwrap();
    let new = new.reveal().to_string();
    for secret in [&old, &new] {
        assert_eq!(good_at(&amended.document, secret, &[50, 59, 60, 61, 149, 150]), [50, 59]);
    }
    assert_eq!(amended.document.tokens[0].expires_at, Some(Moment(60)));
    let late = amend::regenerate(&amended.document, &id, 0, &entropy(10), Moment(60));
    assert_eq!(late.unwrap_err(), AmendError::Expired(id));
}

#[test]
fn a_grace_is_at_most_thirty_days_and_never_negative() {
    let (document, id, _) = one_token(None);
    for grace in [-1, MAX_GRACE_SECONDS + 1, i64::MIN, i64::MAX] {
        let outcome = amend::regenerate(&document, &id, grace, &entropy(9), Moment(50));
        assert_eq!(outcome.unwrap_err(), AmendError::Grace, "{grace}");
    }
    assert_eq!(MAX_GRACE_SECONDS, 2_592_000);
}

#[test]
fn the_end_of_a_grace_ends_a_stream_and_expiry_does_not() {
    let (document, id, old) = one_token(Some(100));
    let (amended, new) = amend::regenerate(&document, &id, 20, &entropy(9), Moment(50)).unwrap();
    let policy = policy(&amended.document, rules());
    let by_old = decide(&policy, &old, 60).unwrap().grant();
    let by_new = decide(&policy, &new.reveal(), 60).unwrap().grant();
    for (now, old_runs, new_runs) in [(69, true, true), (70, false, true), (100, false, true)] {
        assert_eq!(policy.still_grants(&by_old, policy.rules(), Moment(now)), old_runs, "{now}");
        assert_eq!(policy.still_grants(&by_new, policy.rules(), Moment(now)), new_runs, "{now}");
    }
}
