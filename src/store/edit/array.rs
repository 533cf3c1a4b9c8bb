use std::ops::Range;

use toml_edit::Array;

use super::layout::{line_end, line_start};
use super::{Splice, spliced};

/// The text of an array with these elements instead, when it is written with one element a line and
/// nothing but elements goes or is added at the end: then the other lines, and the comments on
/// them, stay. None in every other case: the array is then written anew on one line.
pub(super) fn rewritten(
    text: &str,
    array: &Array,
    span: Range<usize>,
    wanted: &[String],
) -> Option<String> {
    let elements: Vec<(String, Range<usize>)> = array
        .iter()
        .map(|value| Some((value.as_str()?.to_owned(), value.span()?)))
        .collect::<Option<_>>()?;
    let as_toml = |value: &str| toml_edit::Value::from(value).to_string();
    let is_kept = |value: &str| wanted.contains(&as_toml(value));
    let kept: Vec<&(String, Range<usize>)> =
        elements.iter().filter(|(value, _)| is_kept(value)).collect();
    let kept_are_first = kept.len() <= wanted.len()
        && kept.iter().zip(wanted).all(|((value, _), wanted)| as_toml(value) == *wanted);
    let last = kept.last()?;
    if !kept_are_first || !is_one_a_line(text, &span, &elements) {
        return None;
    }
    let mut splices: Vec<Splice> = elements
        .iter()
        .filter(|(value, _)| !is_kept(value))
        .map(|(_, place)| Splice {
            range: line_start(text, place.start)..line_end(text, place.end),
            text: String::new(),
        })
        .collect();
    let place = &last.1;
    let line = line_start(text, place.start)..line_end(text, place.end);
    let added = &wanted[kept.len()..];
    if !added.is_empty() {
        let has_comma = text[place.end..line.end].trim_start().starts_with(',');
        if !has_comma {
            splices.push(Splice { range: place.end..place.end, text: ",".into() });
        }
        let indent = &text[line.start..place.start];
        let newline = if text[line.clone()].ends_with("\r\n") { "\r\n" } else { "\n" };
        let lines = added.iter().map(|value| format!("{indent}{value},{newline}")).collect();
        splices.push(Splice { range: line.end..line.end, text: lines });
    }
    for splice in &mut splices {
        splice.range = splice.range.start - span.start..splice.range.end - span.start;
    }
    spliced(&text[span], splices)
}

/// Whether no element shares a line with another or with a bracket, and a comma follows each on its
/// own line. (The last may have none.)
fn is_one_a_line(text: &str, span: &Range<usize>, elements: &[(String, Range<usize>)]) -> bool {
    let mut end = line_end(text, span.start);
    for (_, place) in elements {
        let start = line_start(text, place.start);
        let is_alone = start >= end && text[start..place.start].trim().is_empty();
        end = line_end(text, place.end);
        let rest = text[place.end..end].trim_start();
        let rest = rest.strip_prefix(',').unwrap_or(rest).trim();
        if !is_alone || !(rest.is_empty() || rest.starts_with('#')) {
            return false;
        }
    }
    end <= line_start(text, span.end - 1)
}
