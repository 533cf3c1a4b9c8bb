//! Telling a client no.

use std::sync::Arc;

use http::header::{self, HeaderValue};
use http::request::Parts;
use http::{Response, Uri, Version};

use super::Passage;
use super::outcome::Outcome;
use super::relay::GateBody;
use crate::live::{NamespaceInForce, Refused};
use crate::policy::{Dialect, Reason, Route};
use crate::wire::headers;
use crate::wire::refusal::{self, Circumstances, Refusal};

/// Answers a request that the law, or what stands before it, refused.
pub(super) fn refuse(
    parts: &Parts,
    refused: Refused,
    request_id: &HeaderValue,
    mut outcome: Outcome,
) -> Response<GateBody> {
    let is_grpc = headers::is_grpc(&parts.headers);
    let path = parts.uri.path();
    let circumstances = refused.circumstances(&parts.headers, is_grpc, path, request_id);
    let mut response = refusal::answer(refused.refusal, &circumstances);
    if refused.refusal == Refusal::Denied(Reason::BadTarget) && parts.version < Version::HTTP_2 {
        // Where the request ends is in doubt, and so is what would be read as the next one.
        let close = HeaderValue::from_static("close");
        response.headers_mut().insert(header::CONNECTION, close);
    }
    outcome.refused(refused, path);
    response.map(GateBody::whole)
}

/// What a refusal after the decision needs of a request whose headers are gone by then.
pub(super) struct Refusing {
    namespace: Arc<NamespaceInForce>,
    route: Option<usize>,
    is_grpc: bool,
    request_id: HeaderValue,
    uri: Uri,
}

impl Refusing {
    pub(super) fn of(parts: &Parts, passage: &Passage, request_id: &HeaderValue) -> Self {
        Self {
            namespace: Arc::clone(&passage.namespace),
            route: passage.permit.route(),
            is_grpc: headers::is_grpc(&parts.headers),
            request_id: request_id.clone(),
            uri: parts.uri.clone(),
        }
    }

    pub(super) fn answer(&self, refusal: Refusal, outcome: Option<Outcome>) -> Response<GateBody> {
        let routes = self.namespace.policy.rules().routes.routes();
        let route = self.route.and_then(|index| routes.get(index));
        let circumstances = Circumstances {
            realm: &self.namespace.site.settings.name,
            dialect: route.map_or_else(Dialect::default, Route::dialect),
            is_grpc: self.is_grpc,
            offers_basic: false,
            missing_group: None,
            request_id: &self.request_id,
            path: self.uri.path(),
        };
        if let Some(mut outcome) = outcome {
            outcome.failed(refusal, self.uri.path());
        }
        refusal::answer(refusal, &circumstances).map(GateBody::whole)
    }
}
