//! Where a permitted request goes, and by which target.

use std::borrow::Cow;
use std::sync::Arc;

use http::request::Parts;
use http::uri::PathAndQuery;

use crate::live::NamespaceInForce;
use crate::policy::{Permit, RequestPath, decoded_segment};
use crate::settings::{PrefixSegment, StripPrefix};
use crate::upstream::Upstream;

/// Which of the namespace's upstreams is for the request, and what is cut off its path.
pub(super) fn destination(
    namespace: &NamespaceInForce,
    permit: &Permit,
    path: &RequestPath<'_>,
) -> Option<(Arc<Upstream>, Option<String>)> {
    let site = &namespace.site;
    let elsewhere = permit.model().and_then(|model| {
        let mut models = site.settings.models.iter().enumerate();
        let (place, found) = models.find(|(_, other)| other.resource.matches(model.as_str()))?;
        let prefix = found.strip_prefix.as_ref().and_then(|p| leading(p, path, model.as_str()));
        Some((place + 1, prefix.map(ToOwned::to_owned)))
    });
    let (place, prefix) = elsewhere.unwrap_or((0, None));
    site.upstreams.get(place).map(|upstream| (Arc::clone(upstream), prefix))
}

/// The leading whole segments of the path that a `strip_prefix` cuts off; none when the path does
/// not start so.
fn leading<'r>(prefix: &StripPrefix, path: &RequestPath<'r>, model: &str) -> Option<&'r str> {
    let whole = path.as_str();
    let mut rest = whole;
    for segment in &prefix.0 {
        let after_slash = rest.strip_prefix('/')?;
        let end = after_slash.find('/').unwrap_or(after_slash.len());
        let (own, after) = after_slash.split_at(end);
        let fits = match segment {
            PrefixSegment::Literal(literal) => own == literal,
            PrefixSegment::Model => decoded_segment(own) == model,
        };
        if !fits {
            return None;
        }
        rest = after;
    }
    whole.get(..whole.len() - rest.len())
}

/// Path and query as the model server gets them: the bytes that were judged, less a prefix and
/// credentials.
pub(super) fn forwarded_target(
    namespace: &NamespaceInForce,
    parts: &Parts,
    prefix: Option<&str>,
) -> Option<PathAndQuery> {
    let whole = parts.uri.path_and_query()?;
    let credentials = &namespace.site.headers.credentials;
    let query = whole.query().map(|query| credentials.strip_query(query));
    if prefix.is_none() && !matches!(query, Some(Cow::Owned(_))) {
        return Some(whole.clone());
    }
    let path = whole.path();
    let path = prefix.map_or(path, |prefix| path.strip_prefix(prefix).unwrap_or(path));
    let path = if path.is_empty() { "/" } else { path };
    match query {
        Some(query) if !query.is_empty() => format!("{path}?{query}").parse().ok(),
        _ => path.parse().ok(),
    }
}
