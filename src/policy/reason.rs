/// Why a request is refused: the reasons of the rule, each the label of a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reason {
    /// Rule 1: the request target's form, or framing that two readers could read differently.
    BadTarget,
    /// Rule 1: `Host` missing, twice, malformed, or another than the authority.
    BadHost,
    /// Rule 2.
    BadPath,
    /// Rule 3.
    UnknownHost,
    /// Rule 4.
    AmbiguousCredential,
    /// Rule 5, told after rule 6.
    RouteDenied,
    /// Rule 6: none presented.
    NoCredential,
    /// Rule 6: no such secret, or not in a form that could be one.
    UnknownToken,
    /// Rule 6: its time is over.
    ExpiredToken,
    /// Rule 6: switched off.
    DisabledToken,
    /// Rule 7.
    NoRoute,
    /// Rule 8.
    GroupNotAllowed,
    /// Rule 9: named in several ways that differ.
    ModelConflict,
    /// Rule 9: the body is longer than what may be read to find the model.
    BodyTooLarge,
    /// Rule 9: the body is not in a form that names a model, or broke off.
    BadBody,
    /// Rule 9: the body is compressed, or of a type that is read in another way.
    UnsupportedEncoding,
    /// Rule 9: named nowhere.
    ModelUnresolved,
    /// Rule 9: named in a form that no model id has.
    BadModel,
    /// Rule 10.
    ResourceNotAllowed,
}

impl Reason {
    /// Every reason, in the order of the rules.
    pub const ALL: [Self; 19] = [
        Self::BadTarget,
        Self::BadHost,
        Self::BadPath,
        Self::UnknownHost,
        Self::AmbiguousCredential,
        Self::RouteDenied,
        Self::NoCredential,
        Self::UnknownToken,
        Self::ExpiredToken,
        Self::DisabledToken,
        Self::NoRoute,
        Self::GroupNotAllowed,
        Self::ModelConflict,
        Self::BodyTooLarge,
        Self::BadBody,
        Self::UnsupportedEncoding,
        Self::ModelUnresolved,
        Self::BadModel,
        Self::ResourceNotAllowed,
    ];

    /// As in metrics and logs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::BadTarget => "bad_target",
            Self::BadHost => "bad_host",
            Self::BadPath => "bad_path",
            Self::UnknownHost => "unknown_host",
            Self::AmbiguousCredential => "ambiguous_credential",
            Self::RouteDenied => "route_denied",
            Self::NoCredential => "no_credential",
            Self::UnknownToken => "unknown_token",
            Self::ExpiredToken => "expired_token",
            Self::DisabledToken => "disabled_token",
            Self::NoRoute => "no_route",
            Self::GroupNotAllowed => "group_not_allowed",
            Self::ModelConflict => "model_conflict",
            Self::BodyTooLarge => "body_too_large",
            Self::BadBody => "bad_body",
            Self::UnsupportedEncoding => "unsupported_encoding",
            Self::ModelUnresolved => "model_unresolved",
            Self::BadModel => "bad_model",
            Self::ResourceNotAllowed => "resource_not_allowed",
        }
    }
}
