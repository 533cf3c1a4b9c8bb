//! Lists of models in a model server's answer, cut down to what a token may use.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::policy::Filter;

/// The list with only those models that `may_use` says; none when the answer is no such list, and
/// then nothing of it may be shown.
///
/// An entry is kept as it came or left out: one whose name cannot be read is left out. Of what
/// stands beside the list nothing is kept, since it may name models as well.
#[must_use]
pub fn cut_down(filter: Filter, answer: &[u8], may_use: impl Fn(&str) -> bool) -> Option<Vec<u8>> {
    match filter {
        Filter::OpenAiModels => {
            let list: OpenAiList<'_> = serde_json::from_slice(answer).ok()?;
            let shown = entries::<OpenAiModel<'_>>(&list.data, |model| &model.id, may_use);
            Some(joined(r#"{"object":"list","data":["#, &shown, "]}"))
        }
        Filter::KserveIndex => {
            let list: Vec<&RawValue> = serde_json::from_slice(answer).ok()?;
            let shown = entries::<KserveModel<'_>>(&list, |model| &model.name, may_use);
            Some(joined("[", &shown, "]"))
        }
    }
}

/// `GET /v1/models` of OpenAI's API.
#[derive(Deserialize)]
struct OpenAiList<'a> {
    #[serde(borrow)]
    data: Vec<&'a RawValue>,
}

#[derive(Deserialize)]
struct OpenAiModel<'a> {
    #[serde(borrow)]
    id: Cow<'a, str>,
}

/// An entry of the index of the Open Inference Protocol's repository extension.
#[derive(Deserialize)]
struct KserveModel<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
}

fn entries<'a, T: Deserialize<'a>>(
    all: &[&'a RawValue],
    name: impl Fn(&T) -> &str,
    may_use: impl Fn(&str) -> bool,
) -> Vec<&'a str> {
    let is_shown = |entry: &&&'a RawValue| {
        serde_json::from_str::<T>(entry.get()).is_ok_and(|model| may_use(name(&model)))
    };
    all.iter().filter(is_shown).map(|entry| entry.get()).collect()
}

fn joined(start: &str, entries: &[&str], end: &str) -> Vec<u8> {
    let mut text = String::with_capacity(entries.iter().map(|entry| entry.len() + 1).sum());
    text.push_str(start);
    for (place, entry) in entries.iter().enumerate() {
        if place > 0 {
            text.push(',');
        }
        text.push_str(entry);
    }
    text.push_str(end);
    text.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_may_be_used_is_left() {
        let openai = Filter::OpenAiModels;
        let kserve = Filter::KserveIndex;
        for (filter, answer, expected) in [
            (
                openai,
                r#"{"models":["b"],"object":"list","data":[{"id":"a","root":"x"}, {"id":"b"}],"x":1}"#,
                Some(r#"{"object":"list","data":[{"id":"a","root":"x"}]}"#),
            ),
            (openai, r#"{"data":[]}"#, Some(r#"{"object":"list","data":[]}"#)),
            (
                openai,
                r#"{"data":[{"id":"\u0061"}]}"#,
                Some(r#"{"object":"list","data":[{"id":"\u0061"}]}"#),
            ),
            // Whatever is read in two ways is left out, or refused.
            (
                openai,
                r#"{"data":[{"id":"a","id":"b"},{"id":1},{},"a",null]}"#,
                Some(r#"{"object":"list","data":[]}"#),
            ),
            (openai, r#"{"data":[],"data":[{"id":"a"}]}"#, None),
            (openai, r#"{"data":{"id":"a"}}"#, None),
            (openai, r#"[{"id":"a"}]"#, None),
            (openai, "", None),
            (
                kserve,
                r#"[{"name":"a","state":"READY"},{"name":"b"}]"#,
                Some(r#"[{"name":"a","state":"READY"}]"#),
            ),
            (kserve, r#"[{"name":"b"}]"#, Some("[]")),
            (kserve, r#"{"name":"a"}"#, None),
            (kserve, "[] ]", None),
        ] {
            let shown = cut_down(filter, answer.as_bytes(), |model| model == "a");
            let shown = shown.map(|shown| String::from_utf8(shown).unwrap());
            assert_eq!(shown.as_deref(), expected, "{answer}");
        }
    }
}
