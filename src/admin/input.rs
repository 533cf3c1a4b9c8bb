//! What requests say, and the law's judgement of each field.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use utoipa::ToSchema;

use super::problem::{FieldError, Refusal};
use crate::policy::amend::{MAX_GRACE_SECONDS, NewToken, TokenPatch};
use crate::policy::entry_rules::{
    Fault, group_fault, labels_fault, limits_fault, name_fault, resource_fault,
};
use crate::policy::{Limits, Moment};
use crate::settings::{LAST_DATE, parse_duration, parse_rfc3339};

/// A new token.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({
    "name": "fraud team, batch scoring",
    "resources": ["iris*", "fraud-v2"],
    "groups": ["model-evaluation"],
    "expires_in": "90d",
}))]
pub(super) struct NewTokenBody {
    /// What it is for, for people: 1 to 200 characters, none of them a control character.
    #[schema(min_length = 1, max_length = 200, pattern = r"^[^\x00-\x1f\x7f-\x9f]*$")]
    name: Option<String>,
    /// The models it may use.
    #[schema(value_type = Vec<ResourceText>, min_items = 1)]
    resources: Vec<String>,
    /// What it may do with them.
    #[schema(value_type = Vec<GroupText>, min_items = 1)]
    groups: Vec<String>,
    /// When it expires: a later date, a time and a zone (RFC 3339). Not together with `expires_in`.
    #[schema(value_type = Option<String>, format = DateTime)]
    expires_at: Option<String>,
    /// When it expires, from now: `12h`, `90d`, in whole seconds. Not together with `expires_at`.
    #[schema(pattern = r"^[0-9]+(ms|s|m|h|d)$")]
    expires_in: Option<String>,
    /// How much it may be used.
    #[serde(default, deserialize_with = "object")]
    limits: Option<LimitsBody>,
    /// Free pairs for people and their tools: 64 at most.
    #[schema(value_type = Option<BTreeMap<LabelName, LabelText>>)]
    labels: Option<BTreeMap<String, String>>,
}

/// What shall change of a token. What is absent stays; `null` takes a value away.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PatchBody {
    /// What it is for, for people: 1 to 200 characters, none of them a control character.
    #[serde(default, deserialize_with = "given")]
    #[schema(
        value_type = Option<String>, min_length = 1, max_length = 200,
        pattern = r"^[^\x00-\x1f\x7f-\x9f]*$"
    )]
    name: Option<Option<String>>,
    /// The models it may use; none at all takes every right away.
    #[schema(value_type = Option<Vec<ResourceText>>, nullable = false)]
    #[serde(default, deserialize_with = "not_null")]
    resources: Option<Vec<String>>,
    /// What it may do with them; none at all takes every right away.
    #[schema(value_type = Option<Vec<GroupText>>, nullable = false)]
    #[serde(default, deserialize_with = "not_null")]
    groups: Option<Vec<String>>,
    /// When it expires (RFC 3339); `null`: never.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<String>, format = DateTime)]
    expires_at: Option<Option<String>>,
    /// How much it may be used; `null`: without limits.
    #[serde(default, deserialize_with = "given_object")]
    #[schema(value_type = Option<LimitsBody>)]
    limits: Option<Option<LimitsBody>>,
    /// All labels it shall have: 64 at most.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<BTreeMap<LabelName, LabelText>>)]
    labels: Option<Option<BTreeMap<String, String>>>,
    /// Whether it is switched off.
    #[schema(nullable = false)]
    #[serde(default, deserialize_with = "not_null")]
    disabled: Option<bool>,
}

/// A model id, `prefix*`, or `*` for every model: 256 bytes at most, and none of its segments is
/// empty, `.` or `..`.
#[derive(ToSchema)]
#[schema(
    min_length = 1,
    max_length = 256,
    example = "iris*",
    pattern = r"^[^\s\x00-\x1f\x7f-\x9f\\?#%;*]*\*?$"
)]
#[allow(dead_code, reason = "only its schema is used")]
pub(super) struct ResourceText(String);

/// The group of a route.
#[derive(ToSchema)]
#[schema(pattern = "^[A-Za-z0-9._-]{1,64}$", example = "model-evaluation")]
#[allow(dead_code, reason = "only its schema is used")]
pub(super) struct GroupText(String);

/// The name of a label.
#[derive(ToSchema)]
#[schema(min_length = 1, max_length = 64, pattern = r"^[^\x00-\x1f\x7f-\x9f]*$")]
#[allow(dead_code, reason = "only its schema is used")]
pub(super) struct LabelName(String);

/// What a label says.
#[derive(ToSchema)]
#[schema(max_length = 200, pattern = r"^[^\x00-\x1f\x7f-\x9f]*$")]
#[allow(dead_code, reason = "only its schema is used")]
pub(super) struct LabelText(String);

/// How much a token may be used; what is absent is not limited.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct LimitsBody {
    /// Sustained rate.
    #[schema(minimum = 1, maximum = 4_294_967_295_u32, format = Int64)]
    requests_per_second: Option<u32>,
    /// How many may come at once above the rate; only together with `requests_per_second`.
    #[schema(minimum = 1, maximum = 4_294_967_295_u32, format = Int64)]
    burst: Option<u32>,
    /// How many may be unanswered at one time.
    #[schema(minimum = 1, maximum = 4_294_967_295_u32, format = Int64)]
    max_in_flight: Option<u32>,
}

/// How a token is regenerated.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RegenerateBody {
    /// How long the old secret works beside the new one, in whole seconds: `0s` (the default),
    /// `24h`, `30d` at most.
    #[schema(example = "24h", pattern = r"^[0-9]+(ms|s|m|h|d)$")]
    grace_period: Option<String>,
}

/// A request to be explained.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ExplainBody {
    /// The id of the token that the request would bring.
    pub(super) token_id: String,
    /// The method, in upper case.
    #[schema(example = "POST", pattern = "^[A-Z_-]+$")]
    pub(super) method: String,
    /// The path, with its query if it has one.
    #[schema(example = "/iris/eval")]
    pub(super) path: String,
    /// Its headers. Those that say how the body is to be read count; the credential is the token
    /// that is named above.
    #[serde(default)]
    #[schema(value_type = BTreeMap<HeaderName, HeaderText>)]
    pub(super) headers: BTreeMap<String, String>,
    /// Its body, where the model may be named too.
    pub(super) body: Option<String>,
}

/// The name of a header (RFC 9110, section 5.1).
#[derive(ToSchema)]
#[schema(pattern = "^[!#$%&'*+.^_`|~0-9A-Za-z-]+$")]
#[allow(dead_code, reason = "only its schema is used")]
pub(super) struct HeaderName(String);

/// The value of a header: no control character but the tab.
#[derive(ToSchema)]
#[schema(pattern = r"^[^\x00-\x08\x0a-\x1f\x7f]*$")]
#[allow(dead_code, reason = "only its schema is used")]
pub(super) struct HeaderText(String);

/// A call that takes no member.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct EmptyBody {}

/// Tells a member that is `null` from one that is absent.
fn given<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Option<Option<T>>, D::Error> {
    Deserialize::deserialize(deserializer).map(Some)
}

/// An object or `null`.
fn object<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    let read: Option<ObjectOnly<T>> = Deserialize::deserialize(deserializer)?;
    Ok(read.map(|ObjectOnly(object)| object))
}

/// A value that is read from an object. serde would take a list for one too.
struct ObjectOnly<T>(T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for ObjectOnly<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Object<T> {
            type Value = T;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, members: A) -> Result<T, A::Error> {
                T::deserialize(MapAccessDeserializer::new(members))
            }
        }

        deserializer.deserialize_map(Object(PhantomData)).map(Self)
    }
}

/// [`given`] and [`object`].
fn given_object<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Option<Option<T>>, D::Error> {
    object(deserializer).map(Some)
}

/// A member that may be absent, but not `null`.
fn not_null<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    Deserialize::deserialize(deserializer).map(Some)
}

/// What is wrong with the fields that were looked at.
#[derive(Default)]
struct Faults(Vec<FieldError>);

impl Faults {
    fn add(&mut self, field: &str, place: Option<usize>, detail: String) {
        let pointer = match place {
            Some(place) => format!("/{field}/{place}"),
            None => format!("/{field}"),
        };
        self.0.push(FieldError { field: field.into(), pointer: Some(pointer), detail });
    }

    fn fault(&mut self, field: &str, place: Option<usize>, fault: Option<Fault>) {
        if let Some(Fault { what, remedy }) = fault {
            self.add(field, place, format!("{what}; {remedy}"));
        }
    }

    fn list(&mut self, field: &str, texts: &[String], fault: impl Fn(&str) -> Option<Fault>) {
        for (place, text) in texts.iter().enumerate() {
            self.fault(field, Some(place), fault(text));
        }
    }

    fn not_empty(&mut self, field: &str, texts: &[String]) {
        if texts.is_empty() {
            let detail = "it is empty, so the token could do nothing; name at least one";
            self.add(field, None, detail.into());
        }
    }

    fn moment(&mut self, field: &str, text: &str) -> Option<Moment> {
        let read = parse_rfc3339(text);
        read.map_err(|error| self.add(field, None, error.to_string())).ok()
    }

    fn or<T>(self, value: T) -> Result<T, Refusal> {
        if self.0.is_empty() { Ok(value) } else { Err(Refusal::of_fields(self.0)) }
    }
}

/// Whole seconds of a span such as `90d`.
fn seconds(text: &str) -> Result<i64, String> {
    let span = parse_duration(text).map_err(|error| error.to_string())?;
    if span.subsec_nanos() != 0 {
        return Err("write whole seconds".into());
    }
    i64::try_from(span.as_secs()).map_err(|_| "that is too long".into())
}

fn limits_of(body: Option<&LimitsBody>) -> Option<Limits> {
    let limits = body.map(|body| Limits {
        requests_per_second: body.requests_per_second,
        burst: body.burst,
        max_in_flight: body.max_in_flight,
    });
    // No limit at all is written as none.
    limits.filter(|limits| *limits != Limits::default())
}

impl NewTokenBody {
    /// Judges every field.
    pub(super) fn judged(self, now: Moment) -> Result<NewToken, Refusal> {
        let mut faults = Faults::default();
        faults.fault("name", None, self.name.as_deref().and_then(name_fault));
        faults.not_empty("resources", &self.resources);
        faults.list("resources", &self.resources, resource_fault);
        faults.not_empty("groups", &self.groups);
        faults.list("groups", &self.groups, group_fault);
        let limits = limits_of(self.limits.as_ref());
        faults.fault("limits", None, limits.as_ref().and_then(limits_fault));
        let labels = self.labels.unwrap_or_default();
        faults.fault("labels", None, labels_fault(&labels));
        let mut expires_at = None;
        if let Some(text) = &self.expires_at {
            expires_at = faults.moment("expires_at", text);
            if expires_at.is_some_and(|end| end <= now) {
                faults.add("expires_at", None, "it is past already; name a later time".into());
            }
        }
        if let Some(text) = &self.expires_in {
            match seconds(text) {
                Ok(0) => faults.add("expires_in", None, "the token would never be valid".into()),
                Ok(span) if now.0.saturating_add(span) > LAST_DATE.0 => {
                    faults.add("expires_in", None, "that is after the year 9999".into());
                }
                Ok(span) => expires_at = Some(Moment(now.0.saturating_add(span))),
                Err(detail) => faults.add("expires_in", None, detail),
            }
            if self.expires_at.is_some() {
                let detail = "give it or `expires_at`, not both";
                faults.add("expires_in", None, detail.into());
            }
        }
        let (name, resources, groups) = (self.name, self.resources, self.groups);
        faults.or(NewToken { name, resources, groups, expires_at, limits, labels })
    }
}

impl PatchBody {
    /// Judges every field that is there; tells which those are.
    pub(super) fn judged(self) -> Result<(TokenPatch, Vec<&'static str>), Refusal> {
        let mut faults = Faults::default();
        let mut fields = Vec::new();
        let mut note = |field, is_given: bool| {
            if is_given {
                fields.push(field);
            }
        };
        note("name", self.name.is_some());
        note("resources", self.resources.is_some());
        note("groups", self.groups.is_some());
        note("expires_at", self.expires_at.is_some());
        note("limits", self.limits.is_some());
        note("labels", self.labels.is_some());
        note("disabled", self.disabled.is_some());
        let name = self.name.as_ref().and_then(Option::as_deref);
        faults.fault("name", None, name.and_then(name_fault));
        faults.list("resources", self.resources.as_deref().unwrap_or_default(), resource_fault);
        faults.list("groups", self.groups.as_deref().unwrap_or_default(), group_fault);
        let limits = self.limits.map(|limits| limits_of(limits.as_ref()));
        faults.fault("limits", None, limits.flatten().as_ref().and_then(limits_fault));
        let labels = self.labels.map(Option::unwrap_or_default);
        faults.fault("labels", None, labels.as_ref().and_then(labels_fault));
        // A time that is past is taken: it ends the token by expiry, which leaves its streams alone.
        let expires_at = match self.expires_at {
            None => None,
            Some(None) => Some(None),
            Some(Some(text)) => faults.moment("expires_at", &text).map(Some),
        };
        let patch = TokenPatch {
            name: self.name,
            resources: self.resources,
            groups: self.groups,
            expires_at,
            limits,
            labels,
            disabled: self.disabled,
        };
        faults.or((patch, fields))
    }
}

impl RegenerateBody {
    /// The grace period in seconds.
    pub(super) fn judged(self) -> Result<i64, Refusal> {
        let grace = seconds(self.grace_period.as_deref().unwrap_or("0s"))
            .map_err(|detail| Refusal::of_field("grace_period", detail))?;
        if grace > MAX_GRACE_SECONDS {
            return Err(Refusal::of_field("grace_period", "it is 30 days at most"));
        }
        Ok(grace)
    }
}
