//! What a route's answers look like.

use super::{Access, RouteSpec};

/// The form in which a route's clients expect to be refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Dialect {
    /// `application/problem+json` (RFC 9457).
    #[default]
    Problem,
    /// `{"error":{"message","type","code","param"}}`.
    OpenAi,
    /// `{"error":"…"}`, as KServe, Triton and TensorFlow Serving answer.
    ErrorText,
}

impl Dialect {
    pub(super) fn parse(text: &str) -> Option<Self> {
        match text {
            "problem" => Some(Self::Problem),
            "openai" => Some(Self::OpenAi),
            "error" => Some(Self::ErrorText),
            _ => None,
        }
    }

    /// As it is written in a file.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Problem => "problem",
            Self::OpenAi => "openai",
            Self::ErrorText => "error",
        }
    }
}

/// A list of models in an answer, of which a token is shown what it may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Filter {
    /// OpenAI's list of models: `{"object":"list","data":[{"id"}]}`.
    OpenAiModels,
    /// The index of a model repository, as the Open Inference Protocol's extension has it:
    /// `[{"name"}]`.
    KserveIndex,
}

impl Filter {
    pub(super) fn parse(text: &str) -> Option<Self> {
        match text {
            "openai-models" => Some(Self::OpenAiModels),
            "kserve-index" => Some(Self::KserveIndex),
            _ => None,
        }
    }

    /// As it is written in a file.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::OpenAiModels => "openai-models",
            Self::KserveIndex => "kserve-index",
        }
    }
}

/// What a route says of it, which has to ask for a group.
pub(super) fn filter(spec: &RouteSpec, access: &Access) -> Result<Option<Filter>, &'static str> {
    let Some(text) = &spec.filter else { return Ok(None) };
    let filter = Filter::parse(text).ok_or("must be \"openai-models\" or \"kserve-index\"")?;
    match access {
        Access::Group(_) => Ok(Some(filter)),
        // Without a token there is nothing to filter by.
        Access::Public | Access::Deny => Err("needs a `group`"),
    }
}
