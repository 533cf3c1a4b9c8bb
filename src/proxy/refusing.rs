//! Telling a client no.

use std::sync::Arc;

use http::header::{self, HeaderValue};
use http::request::Parts;
use http::{Response, Uri, Version};

use super::outcome::Outcome;
use super::relay::GateBody;
use super::{Passage, REALM};
use crate::live::NamespaceInForce;
use crate::policy::{Access, Denial, Dialect, Reason, Route};
use crate::wire::headers;
use crate::wire::refusal::{self, Circumstances, Refusal};

/// A request that was refused.
pub(super) struct Refused {
    pub(super) refusal: Refusal,
    pub(super) namespace: Option<Arc<NamespaceInForce>>,
    pub(super) denial: Option<Denial>,
}

impl Refused {
    pub(super) fn internal() -> Self {
        Self { refusal: Refusal::Internal, namespace: None, denial: None }
    }

    pub(super) fn early(reason: Reason) -> Self {
        Self { refusal: Refusal::Denied(reason), namespace: None, denial: None }
    }
}

/// Answers a request that the law, or what stands before it, refused.
pub(super) fn refuse(
    parts: &Parts,
    refused: Refused,
    request_id: &HeaderValue,
    mut outcome: Outcome,
) -> Response<GateBody> {
    let Refused { refusal, namespace, denial } = refused;
    let rules = namespace.as_ref().map(|namespace| namespace.policy.rules());
    let route = denial.as_ref().and_then(|denial| rules?.routes.routes().get(denial.route?));
    let missing_group = match (refusal, route.map(Route::access)) {
        (Refusal::Denied(Reason::GroupNotAllowed), Some(Access::Group(group))) => Some(&**group),
        _ => None,
    };
    let takes_basic =
        namespace.as_ref().is_some_and(|own| own.site.headers.credentials.takes_basic());
    let circumstances = Circumstances {
        realm: namespace.as_ref().map_or(REALM, |own| &own.site.settings.name),
        dialect: route.map_or_else(Dialect::default, Route::dialect),
        is_grpc: headers::is_grpc(&parts.headers),
        offers_basic: takes_basic && refusal::accepts_html(&parts.headers),
        missing_group,
        request_id,
        path: parts.uri.path(),
    };
    let mut response = refusal::answer(refusal, &circumstances);
    if refusal == Refusal::Denied(Reason::BadTarget) && parts.version < Version::HTTP_2 {
        // Where the request ends is in doubt, and so is what would be read as the next one.
        let close = HeaderValue::from_static("close");
        response.headers_mut().insert(header::CONNECTION, close);
    }
    outcome.refused(namespace.clone(), refusal, denial, parts.uri.path());
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
