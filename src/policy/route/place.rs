//! Where a request may name its model.

use std::fmt;

use super::RouteSpec;

/// A place of a request that may name the model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// The `{model}` segment (or, as `{model...}`, the rest) of the path.
    Path,
    /// The query parameter `model`.
    Query,
    /// The member `model` of the JSON object that is the body.
    Body,
    /// A field of the form that is the body (`multipart/form-data`).
    Form(Box<str>),
    /// A field of each message of a gRPC call.
    Grpc(FieldPath),
    /// Nowhere: the route is always about the namespace's `default_model`.
    Default,
}

impl Place {
    fn parse(text: &str) -> Option<Self> {
        match text {
            "path" => return Some(Self::Path),
            "query:model" => return Some(Self::Query),
            "body" => return Some(Self::Body),
            "default" => return Some(Self::Default),
            _ => {}
        }
        if let Some(field) = text.strip_prefix("form:") {
            let is_name = (1..=64).contains(&field.len())
                && field.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'));
            return is_name.then(|| Self::Form(field.into()));
        }
        FieldPath::parse(text.strip_prefix("grpc:")?).map(Self::Grpc)
    }

    fn is_in_body(&self) -> bool {
        matches!(self, Self::Body | Self::Form(_) | Self::Grpc(_))
    }
}

/// As it is written in a file.
impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path => f.write_str("path"),
            Self::Query => f.write_str("query:model"),
            Self::Body => f.write_str("body"),
            Self::Form(field) => write!(f, "form:{field}"),
            Self::Grpc(fields) => write!(f, "grpc:{fields}"),
            Self::Default => f.write_str("default"),
        }
    }
}

/// The way from a protobuf message to the field that names the model: `1`, or `1.1` for field 1 of
/// the message in field 1, or `1*.1` for that of every message that field 1 repeats.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldPath(Box<[Field]>);

/// One step of a [`FieldPath`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Field {
    /// Its number in the message.
    pub number: u32,
    /// Whether it may be there more than once, each time another message. What is not repeated and
    /// there twice is read in two ways: protobuf merges messages and takes the last text.
    pub is_repeated: bool,
}

/// The most steps of a [`FieldPath`].
const MAX_DEPTH: usize = 8;

impl FieldPath {
    fn parse(text: &str) -> Option<Self> {
        let fields: Vec<Field> = text.split('.').map(Field::parse).collect::<Option<_>>()?;
        let names_one = fields.last().is_some_and(|last| !last.is_repeated);
        (names_one && fields.len() <= MAX_DEPTH).then(|| Self(fields.into()))
    }

    /// The fields from the outermost message inwards; the last one is the text, those before it are
    /// messages. There is at least one.
    #[must_use]
    pub fn fields(&self) -> &[Field] {
        &self.0
    }
}

impl Field {
    fn parse(text: &str) -> Option<Self> {
        let (digits, is_repeated) = match text.strip_suffix('*') {
            Some(digits) => (digits, true),
            None => (text, false),
        };
        // Protocol Buffers, "Assigning Field Numbers": 1 to 2^29 - 1, some of them reserved.
        let is_plain = !digits.starts_with('0') && digits.bytes().all(|b| b.is_ascii_digit());
        let number = digits.parse::<u32>().ok().filter(|_| is_plain)?;
        let is_number = number < 1 << 29 && !(19_000..20_000).contains(&number);
        is_number.then_some(Self { number, is_repeated })
    }
}

impl fmt::Display for FieldPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, field) in self.0.iter().enumerate() {
            let dot = if place > 0 { "." } else { "" };
            let star = if field.is_repeated { "*" } else { "" };
            write!(f, "{dot}{}{star}", field.number)?;
        }
        Ok(())
    }
}

/// What a body has to be read as to find the model in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyForm<'t> {
    /// A JSON object or a form.
    Text {
        /// Whether it may be a JSON object that names the model in its member `model`.
        json: bool,
        /// The field of a form (`multipart/form-data`) that names it, where it may be a form.
        form: Option<&'t str>,
    },
    /// The messages of a gRPC call, each with the model in this field.
    Grpc(&'t FieldPath),
}

/// What a body has to be read as; none where no place is in the body.
pub(super) fn in_body(places: &[Place]) -> Option<BodyForm<'_>> {
    let (mut json, mut form) = (false, None);
    for place in places {
        match place {
            Place::Grpc(fields) => return Some(BodyForm::Grpc(fields)),
            Place::Body => json = true,
            Place::Form(field) => form = Some(&**field),
            Place::Path | Place::Query | Place::Default => {}
        }
    }
    (json || form.is_some()).then_some(BodyForm::Text { json, form })
}

/// The places of a route; `path_names_model`: its path has `{model}`.
pub(super) fn places(spec: &RouteSpec, path_names_model: bool) -> Result<Vec<Place>, &'static str> {
    let Some(written) = &spec.model else {
        return Ok(if path_names_model { vec![Place::Path] } else { Vec::new() });
    };
    let mut places = Vec::new();
    for text in written {
        let place = Place::parse(text).ok_or(
            "must list places: \"path\", \"query:model\", \"body\", \"form:FIELD\", \
             \"grpc:NUMBERS\" or \"default\"",
        )?;
        if places.contains(&place) {
            return Err("names a place twice");
        }
        places.push(place);
    }
    if places.contains(&Place::Path) != path_names_model {
        return Err("must list \"path\" exactly when `path` has {model}");
    }
    let is_alone = places.len() == 1;
    if places.contains(&Place::Default) && !is_alone {
        return Err("must be [\"default\"] alone: the model is then never named by the request");
    }
    if places.iter().filter(|place| matches!(place, Place::Form(_))).count() > 1 {
        return Err("names two fields of a form");
    }
    if places.iter().any(|place| matches!(place, Place::Grpc(_))) {
        // gRPC over HTTP/2, "Requests": POST to /Service/Method, which is all that names the call.
        let is_call = spec.methods == ["POST"] && !spec.path.contains('{');
        if !is_alone || !is_call {
            return Err("can have \"grpc:…\" only alone, on a path without `{name}`, for POST");
        }
    }
    let reads_body = |method: &String| !matches!(method.as_str(), "GET" | "HEAD" | "OPTIONS");
    if places.iter().any(Place::is_in_body) && !spec.methods.iter().all(reads_body) {
        return Err("in the body is for methods that have one: not for GET, HEAD and OPTIONS");
    }
    if !places.is_empty() && (spec.any_resource || spec.filter.is_some()) {
        return Err("and `any_resource` or `filter` exclude each other");
    }
    Ok(places)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_printed_as_it_is_written() {
        for text in [
            "path",
            "query:model",
            "body",
            "form:model",
            "default",
            "grpc:1",
            "grpc:1.1",
            "grpc:1*.1.1",
            "grpc:536870911",
        ] {
            assert_eq!(Place::parse(text).unwrap().to_string(), text);
        }
        for text in [
            "",
            "Path",
            "query:name",
            "query:",
            "body:name",
            "form:",
            "form:a b",
            "form",
            "grpc:",
            "grpc",
            "grpc:0",
            "grpc:01",
            "grpc:+1",
            "grpc:1.",
            "grpc:.1",
            "grpc:1*",
            "grpc:1**.1",
            "grpc:a",
            "grpc:19000",
            "grpc:536870912",
            "grpc:1.1.1.1.1.1.1.1.1",
        ] {
            assert_eq!(Place::parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_body_is_read_as_the_places_say() {
        let form = |texts: &[&str]| {
            let places: Vec<Place> = texts.iter().map(|text| Place::parse(text).unwrap()).collect();
            in_body(&places).map(|form| format!("{form:?}"))
        };
        assert_eq!(form(&["path", "query:model"]), None);
        assert_eq!(form(&["default"]), None);
        let both = form(&["form:model", "body"]).unwrap();
        assert_eq!(both, "Text { json: true, form: Some(\"model\") }");
        assert_eq!(form(&["path", "body"]).unwrap(), "Text { json: true, form: None }");
        assert!(form(&["grpc:1"]).unwrap().starts_with("Grpc"));
    }

    #[test]
    fn what_cannot_be_together_is_refused() {
        let spec = |methods: &str, path: &str, model: &[&str]| RouteSpec {
            methods: methods.split(' ').map(Into::into).collect(),
            path: path.into(),
            group: "g".into(),
            model: Some(model.iter().map(|&text| text.into()).collect()),
            ..RouteSpec::default()
        };
        for (methods, path, model, is_good) in [
            ("POST", "/s/M", &["grpc:1"][..], true),
            ("POST", "/s/{m}", &["grpc:1"], false),
            ("POST GET", "/s/M", &["grpc:1"], false),
            ("*", "/s/M", &["grpc:1"], false),
            ("POST", "/s/M", &["grpc:1", "query:model"], false),
            ("POST", "/s/M", &["grpc:1", "grpc:2"], false),
            ("POST", "/a", &["body", "form:model"], true),
            ("POST PUT", "/a", &["body"], true),
            ("*", "/a", &["body"], true),
            ("POST", "/a/{model}", &["body"], false),
            ("POST", "/a/{model}", &["path", "body"], true),
            ("GET", "/a", &["body"], false),
            ("POST HEAD", "/a", &["form:model"], false),
            ("POST", "/a", &["form:model", "form:name"], false),
            ("POST", "/a", &["body", "body"], false),
            ("POST", "/a", &["body", "default"], false),
        ] {
            let spec = spec(methods, path, model);
            assert_eq!(places(&spec, path.contains("{model")).is_ok(), is_good, "{spec:?}");
        }
        for (any_resource, filter) in [(true, None), (false, Some("openai-models".to_owned()))] {
            let spec = RouteSpec { any_resource, filter, ..spec("POST", "/a", &["body"]) };
            assert!(places(&spec, false).is_err());
        }
    }
}
