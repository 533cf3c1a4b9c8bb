//! What may be told of namespaces, and of what a token may do in them.

use std::collections::BTreeMap;
use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use serde::Serialize;
use utoipa::ToSchema;

use super::explanation::{Question, explained, is_method};
use super::input::ExplainBody;
use super::problem::Refusal;
use super::response::{Body, json, json_of};
use super::view::RouteView;
use super::{administrator_of, body, no_such_token};
use crate::live::{self, Gate, NamespaceInForce};
use crate::store::file::FileStore;
use crate::token::Presented;
use crate::upstream::Upstream;

/// The namespaces that a key opens.
pub(super) fn opened_by(gate: &Gate, key: Presented<'_>) -> Response<Body> {
    let opened = gate
        .namespaces()
        .iter()
        .filter_map(|namespace| Some(namespace_view(namespace, administrator_of(namespace, key)?)));
    json(StatusCode::OK, &NamespacesView { namespaces: opened.collect() })
}

/// The namespaces that a key opens.
#[derive(Serialize, ToSchema)]
pub(super) struct NamespacesView {
    /// In the order of the settings.
    namespaces: Vec<NamespaceView>,
}

/// A namespace.
#[derive(Serialize, ToSchema)]
struct NamespaceView {
    /// Its name.
    name: String,
    /// The name of the administrator whose key was sent.
    administrator: String,
    /// The hosts it answers to.
    hosts: Vec<String>,
    /// Where its requests go.
    upstream: UpstreamView,
    /// The profiles of its routes.
    profiles: Vec<&'static str>,
    /// The groups that its routes ask for.
    groups: Vec<String>,
    /// The model that is meant where a request names none.
    #[schema(required)]
    default_model: Option<String>,
    /// Whether refusals are enforced, or only logged.
    enforce: bool,
    /// Whether its token file can be changed here.
    writable: bool,
    /// Why not.
    #[schema(required)]
    read_only_reason: Option<String>,
    /// The state of the token file that is in force.
    generation: String,
}

/// Where requests go.
#[derive(Serialize, ToSchema)]
struct UpstreamView {
    /// The model servers.
    endpoints: Vec<String>,
}

fn namespace_view(namespace: &NamespaceInForce, administrator: &str) -> NamespaceView {
    let settings = &namespace.site.settings;
    let read_only = FileStore::new(&settings.tokens).writable().err();
    let upstream = namespace.site.upstreams.first();
    let endpoints = |upstream: &Arc<Upstream>| -> Vec<String> {
        upstream.endpoints.iter().map(|endpoint| endpoint.name.clone()).collect()
    };
    NamespaceView {
        name: settings.name.clone(),
        administrator: administrator.into(),
        hosts: settings.hosts.iter().map(ToString::to_string).collect(),
        upstream: UpstreamView { endpoints: upstream.into_iter().flat_map(endpoints).collect() },
        profiles: settings.profiles.clone(),
        groups: settings.rules.routes.groups().into_iter().map(Into::into).collect(),
        default_model: settings.rules.default_model.as_ref().map(|model| model.as_str().into()),
        enforce: settings.rules.enforce,
        writable: read_only.is_none(),
        read_only_reason: read_only.map(|error| error.to_string()),
        generation: namespace.generation.to_hex(),
    }
}

/// The route table in force.
#[derive(Serialize, ToSchema)]
pub(super) struct RoutesView<'r> {
    /// The namespace.
    namespace: &'r str,
    /// The model that is meant where a request names none.
    #[schema(required)]
    default_model: Option<&'r str>,
    /// Whether refusals are enforced, or only logged.
    enforce: bool,
    /// The routes, in the order in which they are looked at.
    routes: Vec<RouteView<'r>>,
}

pub(super) fn routes(namespace: &NamespaceInForce) -> Response<Body> {
    let settings = &namespace.site.settings;
    let view = RoutesView {
        namespace: &settings.name,
        default_model: settings.rules.default_model.as_ref().map(|model| model.as_str()),
        enforce: settings.rules.enforce,
        routes: settings.rules.routes.routes().iter().map(RouteView::new).collect(),
    };
    json_of(StatusCode::OK, &namespace.generation, &view)
}

pub(super) fn explain(
    namespace: &NamespaceInForce,
    body: &[u8],
) -> Result<Response<Body>, Refusal> {
    let ExplainBody { token_id, method, path, headers, body } = body::parse(body)?;
    let body = body.unwrap_or_default();
    let headers = header_map(&headers)?;
    if !is_method(&method) {
        return Err(Refusal::of_field("method", "write a method in upper case, such as GET"));
    }
    if namespace.policy.facts(&token_id).is_none() {
        return Err(no_such_token());
    }
    let question = Question {
        token_id: &token_id,
        method: &method,
        path: &path,
        headers: &headers,
        body: body.as_bytes(),
        now: live::now(),
    };
    Ok(json(StatusCode::OK, &explained(&namespace.policy, &question)))
}

/// The most headers of a request that is asked about: `max_headers` allows no more.
const MAX_HEADERS: usize = 10_000;

fn header_map(given: &BTreeMap<String, String>) -> Result<HeaderMap, Refusal> {
    // As many as a request may have at most; far fewer than the map can hold.
    if given.len() > MAX_HEADERS {
        return Err(Refusal::of_field("headers", format!("there are more than {MAX_HEADERS}")));
    }
    let mut headers = HeaderMap::new();
    for (name, value) in given {
        let name = HeaderName::try_from(name).ok();
        let value = HeaderValue::try_from(value).ok();
        match name.zip(value) {
            Some((name, value)) => drop(headers.append(name, value)),
            None => return Err(Refusal::of_field("headers", "one of them is no header")),
        }
    }
    Ok(headers)
}
