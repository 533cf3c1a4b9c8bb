//! The order in which things are written never decides anything.

use faregate::policy::{Origin, RouteSpec, TokenEntry};
use proptest::collection::vec;
use proptest::prelude::*;

use super::world::{World, a_request, a_world, judge};

/// A world, and the same world written in another order: its tokens, the groups and patterns of
/// each, its routes and the methods of each.
fn a_world_twice() -> impl Strategy<Value = (World, World)> {
    a_world().prop_flat_map(|world| {
        let tokens: Vec<_> = world.tokens.iter().cloned().map(an_entry_shuffled).collect();
        let routes: Vec<_> = world.routes.iter().cloned().map(a_route_shuffled).collect();
        (Just(world), tokens, routes)
            .prop_flat_map(|(world, tokens, routes)| {
                (Just(world), Just(tokens).prop_shuffle(), Just(routes).prop_shuffle())
            })
            .prop_map(|(world, tokens, routes)| {
                let other = World { tokens, routes, ..world.clone() };
                (world, other)
            })
    })
}

fn an_entry_shuffled(entry: TokenEntry) -> impl Strategy<Value = TokenEntry> {
    let groups = Just(entry.groups.clone()).prop_shuffle();
    let resources = Just(entry.resources.clone()).prop_shuffle();
    (groups, resources).prop_map(move |(groups, resources)| TokenEntry {
        groups,
        resources,
        ..entry.clone()
    })
}

fn a_route_shuffled(route: (Origin, RouteSpec)) -> impl Strategy<Value = (Origin, RouteSpec)> {
    let (origin, spec) = route;
    let methods = Just(spec.methods.clone()).prop_shuffle();
    methods.prop_map(move |methods| (origin.clone(), RouteSpec { methods, ..spec.clone() }))
}

proptest! {
    #![proptest_config(super::cases(300))]

    #[test]
    fn order_never_matters(
        (world, other) in a_world_twice(),
        requests in vec(a_request(), 1..16),
    ) {
        let (policy, shuffled) = (world.policy(), other.policy());
        for request in &requests {
            let mut one = judge(&policy, request);
            let mut two = judge(&shuffled, request);
            // The methods of a route are told in the order of the file.
            for verdict in [&mut one, &mut two] {
                verdict.route = verdict.route.take().map(|route| in_order(&route));
            }
            prop_assert_eq!(one, two, "{:?}", request);
        }
    }
}

fn in_order(route: &str) -> String {
    let (methods, path) = route.split_once(' ').unwrap();
    let mut methods: Vec<&str> = methods.split(',').collect();
    methods.sort_unstable();
    format!("{} {path}", methods.join(","))
}
