//! The exposition of the ops listener, read as Prometheus reads it.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use super::http1::{Client, get};

/// One sample.
#[derive(Debug, Clone)]
pub(crate) struct Sample {
    pub(crate) name: String,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) value: f64,
}

/// What one scrape gave.
#[derive(Debug, Clone)]
pub(crate) struct Scrape {
    pub(crate) text: String,
    pub(crate) samples: Vec<Sample>,
    /// The type of each family.
    pub(crate) types: BTreeMap<String, String>,
}

impl Scrape {
    pub(crate) fn of(ops: SocketAddr) -> Self {
        let response = Client::to(ops).ask(&get("/metrics"));
        assert_eq!(response.status, 200, "{response:?}");
        Self::parse(response.text())
    }

    /// # Panics
    /// On a line that is neither a comment of the format nor a sample.
    pub(crate) fn parse(text: String) -> Self {
        let mut samples = Vec::new();
        let mut types = BTreeMap::new();
        for line in text.lines() {
            if let Some(comment) = line.strip_prefix("# ") {
                let words: Vec<&str> = comment.split(' ').collect();
                if let ["TYPE", name, kind] = words[..] {
                    assert!(
                        types.insert(name.to_owned(), kind.to_owned()).is_none(),
                        "{name} has two types"
                    );
                }
                continue;
            }
            samples.push(parse_sample(line));
        }
        Self { text, samples, types }
    }

    /// The sum of the samples of this name that have these labels, beside any others; none when there is none.
    pub(crate) fn value(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let fits = |sample: &&Sample| {
            sample.name == name
                && labels
                    .iter()
                    .all(|(key, value)| sample.labels.get(*key).map(String::as_str) == Some(*value))
        };
        let mut found = self.samples.iter().filter(fits).peekable();
        found.peek()?;
        Some(found.map(|sample| sample.value).sum())
    }
}

fn parse_sample(line: &str) -> Sample {
    let (series, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("no sample: {line:?}"));
    let value = match value {
        "+Inf" => f64::INFINITY,
        value => value.parse().unwrap_or_else(|_| panic!("no value: {line:?}")),
    };
    let (name, labels) = match series.split_once('{') {
        None => (series, BTreeMap::new()),
        Some((name, labels)) => (
            name,
            parse_labels(labels.strip_suffix('}').unwrap_or_else(|| panic!("no labels: {line:?}"))),
        ),
    };
    Sample { name: name.to_owned(), labels, value }
}

fn parse_labels(mut text: &str) -> BTreeMap<String, String> {
    let mut labels = BTreeMap::new();
    while !text.is_empty() {
        let (key, rest) = text.split_once("=\"").expect("a label");
        let mut value = String::new();
        let mut escaped = false;
        let mut end = None;
        for (place, c) in rest.char_indices() {
            match c {
                'n' if escaped => value.push('\n'),
                c if escaped => value.push(c),
                '\\' => {
                    escaped = true;
                    continue;
                }
                '"' => {
                    end = Some(place);
                    break;
                }
                c => value.push(c),
            }
            escaped = false;
        }
        let end = end.expect("a closing quotation mark");
        labels.insert(key.to_owned(), value);
        text = rest[end + 1..].trim_start_matches(',');
    }
    labels
}
