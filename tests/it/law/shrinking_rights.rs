//! Taking something away never gives something.

use faregate::policy::{Moment, Placed, TokenEntry};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

use super::plain_rule::taken;
use super::world::{Request, Who, a_moment, a_request, a_world, judge};

/// A change after which a token file must not allow more than before.
#[derive(Debug, Clone)]
enum Loss {
    Token,
    Group(Index),
    Pattern(Index),
    /// A pattern becomes the id or prefix that follows it here, if that one is narrower.
    Narrowed(Index, &'static str),
    Disabled,
    Expiry(Moment),
    Grace,
    GraceEnd(Moment),
}

fn a_loss() -> impl Strategy<Value = Loss> {
    prop_oneof![
        Just(Loss::Token),
        any::<Index>().prop_map(Loss::Group),
        any::<Index>().prop_map(Loss::Pattern),
        (any::<Index>(), prop::sample::select(vec!["iris", "iris-*", "org/a", "x:p"]))
            .prop_map(|(place, narrow)| Loss::Narrowed(place, narrow)),
        Just(Loss::Disabled),
        a_moment().prop_map(Loss::Expiry),
        Just(Loss::Grace),
        a_moment().prop_map(Loss::GraceEnd),
    ]
}

fn remove_at<T>(list: &mut Vec<T>, place: &Index) {
    if !list.is_empty() {
        list.remove(place.index(list.len()));
    }
}

/// Applies a loss to one of the tokens; says which.
fn lose(tokens: &mut Vec<TokenEntry>, who: &Index, loss: &Loss) -> Option<String> {
    if tokens.is_empty() {
        return None;
    }
    let place = who.index(tokens.len());
    let entry = &mut tokens[place];
    let id = entry.id.value.clone();
    match loss {
        Loss::Token => {
            tokens.remove(place);
        }
        Loss::Group(at) => remove_at(&mut entry.groups, at),
        Loss::Pattern(at) => remove_at(&mut entry.resources, at),
        Loss::Narrowed(at, narrow) => {
            if !entry.resources.is_empty() {
                let at = at.index(entry.resources.len());
                let pattern = &mut entry.resources[at].value;
                let is_narrower = pattern
                    .strip_suffix('*')
                    .is_some_and(|prefix| narrow.trim_end_matches('*').starts_with(prefix));
                if is_narrower {
                    *pattern = (*narrow).into();
                }
            }
        }
        Loss::Disabled => entry.disabled = true,
        Loss::Expiry(end) => {
            entry.expires_at = Some(entry.expires_at.map_or(*end, |old| old.min(*end)));
        }
        Loss::Grace => entry.previous = None,
        Loss::GraceEnd(end) => {
            if let Some(previous) = &mut entry.previous {
                previous.valid_until = previous.valid_until.min(*end);
            }
        }
    }
    Some(id)
}

proptest! {
    #![proptest_config(super::cases(400))]

    #[test]
    fn what_was_refused_stays_refused_after_a_loss(
        world in a_world(),
        losses in vec((any::<Index>(), a_loss()), 1..4),
        requests in vec(a_request(), 1..24),
    ) {
        let before = world.policy();
        let mut tokens = world.tokens.clone();
        for (who, loss) in &losses {
            lose(&mut tokens, who, loss);
        }
        let after = world.with_tokens(tokens).policy();
        for request in &requests {
            let (old, new) = (judge(&before, request), judge(&after, request));
            prop_assert!(
                old.refused.is_none() || new.refused.is_some(),
                "{:?} allowed it, which was {:?}: {:?}", new, old, request
            );
        }
    }

    #[test]
    fn a_token_that_is_over_opens_nothing(
        world in a_world(),
        who in any::<Index>(),
        loss in prop_oneof![
            Just(Loss::Token),
            Just(Loss::Disabled),
            Just(Loss::Expiry(Moment(0))),
        ],
        requests in vec(a_request(), 1..24),
    ) {
        let mut tokens = world.tokens.clone();
        let Some(id) = lose(&mut tokens, &who, &loss) else { return Ok(()) };
        let number: usize = id.trim_start_matches("token-").parse().unwrap();
        let after = world.with_tokens(tokens).policy();
        for request in requests {
            let is_public = taken(&world, request.method, &request.path)
                .is_some_and(|found| found.route.group == "public");
            for who in
                [Who::Secret(number, ""), Who::Secret(100 + number, ""), Who::Known(id.clone())]
            {
                let request = Request { who, ..request.clone() };
                prop_assert_eq!(judge(&after, &request).refused.is_none(), is_public, "{:?}", request);
            }
        }
    }

    #[test]
    fn time_alone_gives_nothing(
        world in a_world(),
        request in a_request(),
        later in a_moment(),
    ) {
        let policy = world.policy();
        let later = Request { now: Moment(request.now.0 + later.0), ..request.clone() };
        let (old, new) = (judge(&policy, &request), judge(&policy, &later));
        prop_assert!(old.refused.is_none() || new.refused.is_some(), "{:?}", request);
    }

    #[test]
    fn a_token_without_groups_or_patterns_may_do_nothing(
        world in a_world(),
        request in a_request(),
        keeps_groups in any::<bool>(),
    ) {
        let bare = |entry: &TokenEntry| {
            let mut entry = entry.clone();
            if keeps_groups {
                entry.resources = Vec::<Placed<String>>::new();
            } else {
                entry.groups = Vec::<Placed<String>>::new();
            }
            entry
        };
        let policy = world.with_tokens(world.tokens.iter().map(bare).collect()).policy();
        let needs_nothing = taken(&world, request.method, &request.path).is_some_and(|found| {
            found.route.group == "public" || (keeps_groups && found.route.any_resource)
        });
        prop_assert!(needs_nothing || judge(&policy, &request).refused.is_some(), "{:?}", request);
    }
}
