//! The reference of the admin API, the guide of the token page and the alert rules, compared with
//! the program.

use std::collections::BTreeSet;

use faregate::admin::router::ENDPOINTS;
use faregate::wire::refusal::Refusal;
use serde_json::Value;

use super::markdown::{Row, code, files_in, rows, text_of};
use super::session::Session;

const REFERENCE: &str = "docs/admin-api.md";

fn under(heading: &str) -> Vec<Row> {
    rows(REFERENCE, |own| own == heading)
}

/// What the first cells of a table name.
fn named_under(heading: &str) -> BTreeSet<String> {
    under(heading).iter().map(|row| code(&row.cells[0]).unwrap().to_owned()).collect()
}

fn members(of: &Value) -> BTreeSet<String> {
    of.as_object().unwrap_or_else(|| panic!("{of}")).keys().cloned().collect()
}

/// What a gate answers to an administrator.
struct Answers(Session);

impl Answers {
    fn new() -> Self {
        Self(Session::after_first_five_minutes())
    }

    fn get(&mut self, path: &str) -> Value {
        let url = format!("http://127.0.0.1:9901{path}");
        let said = self.0.run(&format!("curl -H \"Authorization: Bearer $ADMIN_KEY\" {url}"));
        serde_json::from_str(&said).unwrap_or_else(|error| panic!("{path}: {error}\n{said}"))
    }
}

#[test]
fn the_table_of_calls_is_that_of_the_program() {
    let expected: Vec<[String; 2]> = ENDPOINTS
        .iter()
        .map(|endpoint| {
            let call = format!("{} {}", endpoint.method, endpoint.path);
            [call, endpoint.operation.as_str().to_owned()]
        })
        .collect();
    let written: Vec<[String; 2]> = under("Calls")
        .iter()
        .map(|row| [&row.cells[0], &row.cells[1]].map(|cell| code(cell).unwrap().to_owned()))
        .collect();
    assert_eq!(written, expected);
}

#[test]
fn the_fields_and_parameters_are_those_of_the_program() {
    let mut answers = Answers::new();
    let tokens = answers.get("/api/v1/namespaces/default/tokens");
    assert_eq!(named_under("A token"), members(&tokens["tokens"][0]));
    let namespaces = answers.get("/api/v1/namespaces");
    assert_eq!(named_under("A namespace"), members(&namespaces["namespaces"][0]));

    let document = answers.get("/openapi.json");
    for (heading, schema) in [
        ("To make one", "NewTokenBody"),
        ("To change one", "PatchBody"),
        ("To give it a new secret", "RegenerateBody"),
        ("Explain", "ExplainBody"),
    ] {
        let schema = &document["components"]["schemas"][schema];
        assert_eq!(named_under(heading), members(&schema["properties"]), "{heading}");
        let required = schema["required"].as_array().into_iter().flatten();
        let required: BTreeSet<String> =
            required.map(|name| name.as_str().unwrap().to_owned()).collect();
        let told = under(heading).into_iter().filter(|row| row.cells[1].contains("required"));
        let told: BTreeSet<String> =
            told.map(|row| code(&row.cells[0]).unwrap().to_owned()).collect();
        assert_eq!(told, required, "{heading}");
    }
    let list = &document["paths"]["/api/v1/namespaces/{namespace}/tokens"]["get"];
    let parameters = list["parameters"].as_array().unwrap().iter();
    let parameters: BTreeSet<String> = parameters
        .filter(|parameter| parameter["in"] == "query")
        .map(|parameter| parameter["name"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(named_under("Lists"), parameters);
}

/// The reasons stand where refusals are made, so that is where they are read.
#[test]
fn the_table_of_admin_refusals_is_that_of_the_program() {
    let mut made = BTreeSet::new();
    let mut files = files_in("src/admin", "rs");
    files.push("src/admin.rs".into());
    for file in files {
        let text = text_of(&file);
        let text = text.split("#[cfg(test)]").next().unwrap();
        let makers: &[&str] = match &*file {
            "src/admin/problem.rs" => &["Self::new("],
            _ => &["Refusal::new(", "unauthorized("],
        };
        for call in makers.iter().flat_map(|maker| text.split(maker).skip(1)) {
            let is_reason = |text: &&str| text.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
            // Of the arguments, texts for people have spaces.
            let arguments = call.split(';').next().unwrap();
            made.extend(arguments.split('"').skip(1).step_by(2).find(is_reason).map(String::from));
        }
    }
    assert!(made.len() > 15, "{made:?}");
    let of_the_gate: BTreeSet<&str> = Refusal::all().iter().map(|own| own.as_str()).collect();
    // The host is read as the gate reads it, and refused by its reasons.
    made.extend(["bad_target", "bad_host"].map(String::from));
    assert!(["bad_target", "bad_host"].iter().all(|reason| of_the_gate.contains(reason)));
    assert_eq!(named_under("When it says no"), made);

    let document = Answers::new().get("/openapi.json");
    let calls = document["paths"].as_object().unwrap().values();
    let calls = calls.flat_map(|path| path.as_object().unwrap().values());
    let mut told: BTreeSet<String> = calls
        .flat_map(|call| members(&call["responses"]))
        .filter(|code| &**code >= "400")
        .collect();
    // A method that is not there is in no description of one that is.
    told.insert("405".into());
    let written = under("When it says no");
    let written = written.iter().flat_map(|row| row.cells[1].split(", "));
    let written: BTreeSet<String> = written.map(String::from).collect();
    assert_eq!(written, told);
}

/// What the guide calls the page's buttons, columns and choices is what stands on the page.
#[test]
fn the_guide_calls_things_as_the_page_does() {
    let words = text_of("src/admin/page/text.js").to_lowercase();
    let mut seen = 0;
    for bold in text_of("docs/manage-tokens.md").split("**").skip(1).step_by(2) {
        // The ways to reach the page are none of its words.
        if matches!(bold, "SSH" | "Kubernetes" | "TLS") {
            continue;
        }
        assert!(words.contains(&format!("'{}", bold.to_lowercase())), "the page has no {bold}");
        seen += 1;
    }
    assert!(seen > 20, "{seen} words");
    for row in rows("docs/manage-tokens.md", |heading| heading == "When the page says no") {
        let said = row.cells[0].to_lowercase();
        let sources = [&words, &text_of("src/admin/change.rs").to_lowercase()];
        assert!(sources.iter().any(|source| source.contains(&said)), "nothing says: {said}");
    }
}

/// `promtool` judges the rules themselves, in `tests/e2e`.
#[test]
fn every_alert_is_documented_and_about_metrics_that_are_there() {
    let rules = text_of("deploy/prometheus/faregate-rules.yaml");
    let alerts = rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: "));
    let alerts: Vec<&str> = alerts.collect();
    let table = rows("docs/observability.md", |heading| heading == "Alerts");
    let written: Vec<&str> = table.iter().map(|row| code(&row.cells[0]).unwrap()).collect();
    assert_eq!(written, alerts);

    let metrics = rows("README.md", |heading| heading == "Metrics");
    let metrics: BTreeSet<&str> = metrics.iter().map(|row| code(&row.cells[0]).unwrap()).collect();
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let words = rules.split(|c| !is_word(c)).filter(|word| word.starts_with("faregate_"));
    let spoken_of: BTreeSet<&str> = words.collect();
    assert!(spoken_of.len() >= 8, "{spoken_of:?}");
    assert_eq!(spoken_of.difference(&metrics).collect::<Vec<_>>(), Vec::<&&str>::new());
}
