use super::{Access, Origin, Route, RouteError, RouteSpec, Segment, is_model};
use crate::policy::path::{RequestPath, decoded_segment};

/// A route that matched a request.
#[derive(Debug, Clone, Copy)]
pub struct RouteMatch<'t> {
    /// The route's place in the table.
    pub index: usize,
    /// The route.
    pub route: &'t Route,
}

/// All routes of a namespace, found by method and path.
///
/// The most specific match wins, segment by segment from the left: a literal before `{name}:suffix`
/// before `{name}` before `{name...}`. Equally specific ones: in the order they were added, but what
/// one profile denies no other opens. A route for another method is passed over in favour of a less
/// specific one for this method.
#[derive(Debug, Default)]
pub struct RouteTable {
    routes: Vec<Route>,
    root: Node,
}

#[derive(Debug, Default)]
struct Node {
    literals: Vec<(Box<str>, Self)>,
    /// By suffix, longest first; the empty suffix is last.
    parameters: Vec<(Box<str>, Self)>,
    rest: Vec<usize>,
    here: Vec<usize>,
}

impl RouteTable {
    /// A table without a route: everything is `no_route`.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a route after those already there.
    ///
    /// # Errors
    /// All that is wrong with the route; the table is unchanged then.
    pub fn add(&mut self, origin: Origin, spec: &RouteSpec) -> Result<(), Vec<RouteError>> {
        let route = Route::compile(origin, spec)?;
        let index = self.routes.len();
        self.routes.push(route);
        let Self { routes, root } = self;
        if let Some(route) = routes.last() {
            root.insert(&route.segments, index, &|index| routes.get(index).map_or(0, rank));
        }
        Ok(())
    }

    /// All routes, in the order they were added.
    #[must_use]
    pub fn routes(&self) -> &[Route] {
        &self.routes
    }

    /// The group names that routes ask for, each once, in order of appearance.
    #[must_use]
    pub fn groups(&self) -> Vec<&str> {
        let mut groups = Vec::new();
        for route in &self.routes {
            if let Access::Group(group) = &route.access
                && !groups.contains(&&**group)
            {
                groups.push(&**group);
            }
        }
        groups
    }

    /// The route for a request; none: nobody mapped it.
    #[must_use]
    pub fn find(&self, method: &str, path: &RequestPath<'_>) -> Option<RouteMatch<'_>> {
        let takes = |index: &&usize| self.takes(**index, method, path);
        let index = self.root.find(path.tail(), &as_it_stands, &takes)?;
        // Routes are compared as they stand, but a server may decode before it compares: a path
        // that would take another route then (`%3A` for `:`, say) takes none.
        if path.tail().contains('%') {
            let decoded: Vec<_> = path.tail().split('/').map(decoded_segment).collect();
            let decoded = decoded.join("/");
            if self.root.find(&decoded, &once_decoded, &takes) != Some(index) {
                return None;
            }
        }
        self.routes.get(index).map(|route| RouteMatch { index, route })
    }

    fn takes(&self, index: usize, method: &str, path: &RequestPath<'_>) -> bool {
        self.routes.get(index).is_some_and(|route| {
            route.takes(method)
                // A rest that is joined to a model id has no trailing slash.
                && !(matches!(route.segments.last(), Some(rest @ Segment::Rest { .. }) if is_model(rest))
                    && path.as_str().ends_with('/'))
        })
    }
}

impl RouteMatch<'_> {
    /// The model named by the path's segment, percent-decoded; none when the route's path names
    /// none.
    pub(in crate::policy) fn model_in_path<'r>(
        &self,
        path: &RequestPath<'r>,
    ) -> Option<std::borrow::Cow<'r, str>> {
        self.route.model_in(path).map(decoded_segment)
    }
}

impl Node {
    /// `rank` orders what is equally specific.
    fn insert(&mut self, segments: &[Segment], index: usize, rank: &dyn Fn(usize) -> u8) {
        let Some((first, after)) = segments.split_first() else {
            self.here.push(index);
            self.here.sort_by_key(|&index| rank(index));
            return;
        };
        match first {
            Segment::Literal(text) => child(&mut self.literals, text).insert(after, index, rank),
            Segment::Parameter { suffix, .. } => {
                child(&mut self.parameters, suffix).insert(after, index, rank);
                self.parameters.sort_by_key(|(suffix, _)| std::cmp::Reverse(suffix.len()));
            }
            Segment::Rest { .. } => {
                self.rest.push(index);
                self.rest.sort_by_key(|&index| rank(index));
            }
        }
    }

    /// `is` compares a literal of a route with a segment.
    fn find(
        &self,
        tail: &str,
        is: &dyn Fn(&str, &str) -> bool,
        takes: &dyn Fn(&&usize) -> bool,
    ) -> Option<usize> {
        let (first, after) = match tail.split_once('/') {
            Some((first, after)) => (first, Some(after)),
            None => (tail, None),
        };
        let below = |node: &Self| match after {
            Some(after) => node.find(after, is, takes),
            None => node.here.iter().find(takes).copied(),
        };
        let literal = self.literals.iter().find(|(text, _)| is(text, first));
        if let Some(found) = literal.and_then(|(_, node)| below(node)) {
            return Some(found);
        }
        for (suffix, node) in &self.parameters {
            let fits = first.strip_suffix(&**suffix).is_some_and(|value| !value.is_empty());
            if fits && let Some(found) = below(node) {
                return Some(found);
            }
        }
        self.rest.iter().find(takes).copied()
    }
}

/// Routes of one's own are first, in their order; then what profiles deny, then what they open.
fn rank(route: &Route) -> u8 {
    match (&route.origin, &route.access) {
        (Origin::Own, _) => 0,
        (Origin::Profile(_), Access::Deny) => 1,
        (Origin::Profile(_), _) => 2,
    }
}

fn as_it_stands(literal: &str, segment: &str) -> bool {
    literal == segment
}

/// For a segment that was decoded; a literal may hold escapes too.
fn once_decoded(literal: &str, segment: &str) -> bool {
    decoded_segment(literal) == segment
}

fn child<'n>(children: &'n mut Vec<(Box<str>, Node)>, text: &str) -> &'n mut Node {
    let place = children.iter().position(|(own, _)| **own == *text).unwrap_or_else(|| {
        children.push((text.into(), Node::default()));
        children.len() - 1
    });
    &mut children[place].1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(methods: &str, path: &str) -> RouteSpec {
        RouteSpec {
            methods: methods.split(' ').map(Into::into).collect(),
            path: path.into(),
            group: "model-evaluation".into(),
            ..RouteSpec::default()
        }
    }

    fn table(routes: &[(&str, &str)]) -> RouteTable {
        let mut table = RouteTable::new();
        for (methods, path) in routes {
            table.add(Origin::Own, &spec(methods, path)).unwrap();
        }
        table
    }

    #[test]
    fn the_most_specific_route_wins() {
        let table = table(&[
            ("*", "/{rest...}"),
            ("GET", "/{model}"),
            ("POST", "/{model}/eval"),
            ("GET", "/health"),
            ("POST", "/v1/models/{model}:predict"),
            ("POST", "/v1/models/{model}"),
            ("GET", "/v1/models/{model...}"),
            ("DELETE", "/v1/models/{any...}"),
            ("GET", "/slash/"),
        ]);
        for (method, path, expected, model) in [
            ("GET", "/", "/{rest...}", None),
            ("GET", "/health", "/health", None),
            ("HEAD", "/health", "/health", None),
            ("POST", "/health", "/{rest...}", None),
            ("GET", "/iris", "/{model}", Some("iris")),
            ("GET", "/iris/", "/{rest...}", None),
            ("POST", "/iris/eval", "/{model}/eval", Some("iris")),
            ("POST", "/caf%C3%A9/eval", "/{model}/eval", Some("café")),
            ("GET", "/iris/eval", "/{rest...}", None),
            ("POST", "/v1/models/x:predict", "/v1/models/{model}:predict", Some("x")),
            ("POST", "/v1/models/:predict", "/v1/models/{model}", Some(":predict")),
            ("POST", "/v1/models/x:explain", "/v1/models/{model}", Some("x:explain")),
            ("GET", "/v1/models/org/name", "/v1/models/{model...}", Some("org/name")),
            ("GET", "/v1/models/org/name/", "/{rest...}", None),
            ("DELETE", "/v1/models/org/", "/v1/models/{any...}", None),
            ("GET", "/slash/", "/slash/", None),
            ("GET", "/slash", "/{model}", Some("slash")),
        ] {
            let path = RequestPath::parse(path).unwrap();
            let found = table.find(method, &path).unwrap();
            assert_eq!(found.route.path(), expected, "{method} {path:?}");
            assert_eq!(found.model_in_path(&path).as_deref(), model, "{method} {path:?}");
        }
    }

    #[test]
    fn an_escape_does_not_lead_to_another_route() {
        let table = table(&[
            ("POST", "/v1/models/{model}:unload"),
            ("POST", "/v1/models/{model}"),
            ("GET", "/{model}/admin@internal"),
            ("GET", "/{model}/{rest...}"),
            ("GET", "/caf%C3%A9/{model...}"),
            ("PUT", "/{model...}"),
        ]);
        for (method, path, is_found) in [
            ("GET", "/caf%C3%A9/x", true),
            ("PUT", "/x", true),
            ("PUT", "/", false),
            ("POST", "/v1/models/x:unload", true),
            ("POST", "/v1/models/x%3Aunload", false),
            ("POST", "/v1/models/x%3Av1", true),
            ("GET", "/x/admin%40internal", false),
            ("GET", "/x/other%40internal", true),
        ] {
            let path = RequestPath::parse(path).unwrap();
            assert_eq!(table.find(method, &path).is_some(), is_found, "{path:?}");
        }
    }

    #[test]
    fn equally_specific_routes_keep_their_order() {
        let mut table = RouteTable::new();
        table.add(Origin::Own, &spec("GET", "/{model}")).unwrap();
        table.add(Origin::Profile("ovh"), &spec("GET", "/{name}")).unwrap();
        let path = RequestPath::parse("/iris").unwrap();
        assert_eq!(table.find("GET", &path).unwrap().route.origin(), &Origin::Own);
    }

    #[test]
    fn what_a_profile_denies_no_other_opens() {
        let mut table = RouteTable::new();
        let denied = |path| RouteSpec { group: "deny".into(), ..spec("*", path) };
        table.add(Origin::Profile("a"), &spec("GET", "/x")).unwrap();
        table.add(Origin::Profile("a"), &spec("GET", "/y")).unwrap();
        table.add(Origin::Profile("b"), &denied("/x")).unwrap();
        table.add(Origin::Profile("b"), &denied("/y")).unwrap();
        table.add(Origin::Own, &spec("GET", "/y")).unwrap();
        table.add(Origin::Profile("a"), &spec("GET", "/z/{rest...}")).unwrap();
        table.add(Origin::Profile("b"), &denied("/z/{rest...}")).unwrap();
        for (path, expected) in
            [("/x", Origin::Profile("b")), ("/y", Origin::Own), ("/z/1", Origin::Profile("b"))]
        {
            let path = RequestPath::parse(path).unwrap();
            assert_eq!(table.find("GET", &path).unwrap().route.origin(), &expected, "{path:?}");
        }
    }

    #[test]
    fn nobody_mapped_it() {
        let table = table(&[("POST", "/{model}/eval")]);
        for (method, path) in
            [("GET", "/iris/eval"), ("POST", "/iris"), ("POST", "/iris/eval/"), ("POST", "/")]
        {
            assert!(table.find(method, &RequestPath::parse(path).unwrap()).is_none());
        }
    }

    #[test]
    fn a_bad_route_is_told_whole() {
        for bad in [
            "iris",
            "/a//b",
            "/{a",
            "/a}",
            "/x{model}",
            "/{model}x",
            "/{}",
            "/{a b}",
            "/{r...}/x",
            "/{model}/{model}",
            "/{r...}x",
            "/a b",
            "/%61",
            "/..",
            "/;",
        ] {
            let mut table = RouteTable::new();
            assert!(table.add(Origin::Own, &spec("GET", bad)).is_err(), "{bad}");
            assert!(table.routes().is_empty());
        }
        let bad = RouteSpec {
            methods: vec!["get".into(), "TRACE".into()],
            path: "x".into(),
            group: "a b".into(),
            model: Some(vec!["header".into()]),
            dialect: Some("xml".into()),
            any_resource: false,
            filter: Some("all".into()),
            unnamed: Some("none".into()),
        };
        assert_eq!(RouteTable::new().add(Origin::Own, &bad).unwrap_err().len(), 8);
    }
}
