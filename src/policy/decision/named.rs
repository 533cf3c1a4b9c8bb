//! Which model a request names, in all places together.

use std::borrow::Cow;

use super::{Ask, Known, Stop};
use crate::policy::compile::{Policy, Rules};
use crate::policy::explanation::Witness;
use crate::policy::model::{self, ModelId, QueryModel};
use crate::policy::reason::Reason;
use crate::policy::route::{Place, Route, RouteMatch};

/// What was found in a body, or in one message of a gRPC call, that may name the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyModel<'b> {
    /// It names none, or there is no body.
    None,
    /// It names this one.
    One(&'b str),
    /// It cannot be said what it names.
    Unclear(BodyFault),
}

/// Why it cannot be said which model a body names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyFault {
    /// It names several, or one in a way that another reader may read as another.
    Conflict,
    /// It is longer than what may be read.
    TooLarge,
    /// It is not what the route's places say that it is.
    Malformed,
    /// What it names is longer than any model id.
    NotAnId,
    /// It is compressed, or of a type whose reader is not the one that the places say.
    Encoded,
    /// It is not here, or not all of it, though the request may have one.
    Absent,
}

impl BodyFault {
    /// Every fault.
    pub const ALL: [Self; 6] = [
        Self::Conflict,
        Self::TooLarge,
        Self::Malformed,
        Self::NotAnId,
        Self::Encoded,
        Self::Absent,
    ];

    /// As what it is refused.
    #[must_use]
    pub fn reason(self) -> Reason {
        match self {
            Self::Conflict => Reason::ModelConflict,
            Self::TooLarge => Reason::BodyTooLarge,
            Self::Malformed => Reason::BadBody,
            Self::NotAnId => Reason::BadModel,
            Self::Encoded => Reason::UnsupportedEncoding,
            Self::Absent => Reason::ModelUnresolved,
        }
    }
}

/// What was found in a body, and which route it was looked for.
pub(super) struct Inspected<'i> {
    pub(super) found: BodyModel<'i>,
    pub(super) is_for: &'i dyn Fn(usize) -> bool,
}

/// What is named so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Named<'n> {
    None,
    One(&'n str),
}

impl<'n> Named<'n> {
    /// With what the body names.
    pub(super) fn and_in_body(self, body: BodyModel<'n>) -> Result<Self, Reason> {
        match (self, body) {
            (_, BodyModel::Unclear(fault)) => Err(fault.reason()),
            (own, BodyModel::None) => Ok(own),
            (Self::One(own), BodyModel::One(other)) if own != other => Err(Reason::ModelConflict),
            (_, BodyModel::One(other)) => Ok(Self::One(other)),
        }
    }
}

/// What is named outside the body.
pub(super) struct Outside<'r>(Option<Cow<'r, str>>);

impl<'r> Outside<'r> {
    /// What path and query name together.
    pub(super) fn of(
        ask: &Ask<'r>,
        found: RouteMatch<'_>,
        rules: &'r Rules,
    ) -> Result<Self, Reason> {
        let in_query = ask.query.map_or(QueryModel::None, model::in_query);
        let named = if found.route.is_about_default_model() {
            rules.default_model.as_ref().map(|model| Cow::Borrowed(ModelId::as_str(model)))
        } else {
            found.model_in_path(&ask.path)
        };
        // `a:b:predict` is `a:b` to one server, `a` to another, and nothing to a third.
        if found.route.model_has_suffix() && named.as_ref().is_some_and(|text| text.contains(':')) {
            return Err(Reason::BadModel);
        }
        match (named, in_query) {
            (_, QueryModel::Conflict | QueryModel::Unreadable) => Err(Reason::ModelConflict),
            (Some(named), QueryModel::One(other)) if named != other => Err(Reason::ModelConflict),
            // A query does not stand in for a default model that is not there.
            (None, _) if found.route.is_about_default_model() => Ok(Self(None)),
            (None, QueryModel::One(named)) => Ok(Self(Some(named))),
            (named, _) => Ok(Self(named)),
        }
    }

    pub(super) fn as_named(&self) -> Named<'_> {
        self.0.as_deref().map_or(Named::None, Named::One)
    }

    pub(super) fn into_text(self) -> Option<Box<str>> {
        self.0.map(|text| text.into_owned().into_boxed_str())
    }
}

impl Policy {
    /// Rule 9; none: the request is about all models.
    pub(super) fn model(
        &self,
        ask: &Ask<'_>,
        found: RouteMatch<'_>,
        inspected: Option<&Inspected<'_>>,
        known: &mut Known,
        witness: &mut impl Witness,
    ) -> Result<Option<ModelId>, Stop> {
        let route = found.route;
        let outside = Outside::of(ask, found, &self.rules);
        let outcome = match (outside, route.in_body(), inspected) {
            (Err(reason), _, _) => Err(reason),
            (Ok(outside), None, _) => self.resolve(route, outside.as_named()),
            (Ok(outside), Some(_), Some(body)) if (body.is_for)(found.index) => {
                let named = outside.as_named().and_in_body(body.found);
                let model = named.and_then(|named| self.resolve(route, named));
                known.outside = outside.into_text();
                model
            }
            (Ok(_), Some(_), _) => return Err(Stop::ForBody),
        };
        witness.saw("model", || match &outcome {
            Ok(Some(model)) => format!("the request is about `{model}`"),
            Ok(None) => "the request names no model, and so is about all".into(),
            Err(Reason::ModelConflict) => "the request names several models".into(),
            Err(Reason::BadModel) => "what the request names is no model id".into(),
            Err(Reason::BodyTooLarge) => "the body is too large to be read for its model".into(),
            Err(Reason::BadBody) => "the body is not in a form that names a model".into(),
            Err(Reason::UnsupportedEncoding) => "the body is compressed".into(),
            Err(_) => {
                let places: Vec<String> = route.places().iter().map(ToString::to_string).collect();
                format!("the request names no model (places: {})", places.join(", "))
            }
        });
        outcome.map_err(Stop::Refused)
    }

    /// The end of rule 9: the model that is named, or meant where none is; none: all of them.
    pub(super) fn resolve(
        &self,
        route: &Route,
        named: Named<'_>,
    ) -> Result<Option<ModelId>, Reason> {
        let default = self.rules.default_model.as_ref().map(ModelId::as_str);
        let named = match named {
            Named::One(named) => named,
            Named::None if route.unnamed_is_all() => return Ok(None),
            Named::None if route.is_about_default_model() => return Err(Reason::ModelUnresolved),
            Named::None => default.ok_or(Reason::ModelUnresolved)?,
        };
        ModelId::parse(named).map(Some).map_err(|_| Reason::BadModel)
    }
}

// A place added there must be read here, or in `Route::in_body`.
const _: fn(Place) = |place| match place {
    Place::Path | Place::Query | Place::Default => {}
    Place::Body | Place::Form(_) | Place::Grpc(_) => {}
};
