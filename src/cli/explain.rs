use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use http::{HeaderName, HeaderValue};

use super::moment;
use super::output::{self, Cell, Failure, Outcome, Table};
use super::target::Target;
use crate::admin::explanation::{Explained, Question, explained, is_method};

/// Say whether a request would be allowed, and which rule decides.
///
/// Judges a request with the files as they are, as the gate would. It needs no secret and sends
/// nothing. The exit code is 0 whatever the answer is.
#[derive(Args)]
#[command(after_help = "\
Examples:
  faregate explain --token-id tk_9ZfQ2mB7xLrA --method POST --path /iris/eval
  faregate explain --token-id tk_9ZfQ2mB7xLrA --method GET --path '/iris/describe?x=1' --json")]
pub(super) struct Explain {
    /// The id of the token that the request would bring.
    #[arg(long, value_name = "ID")]
    token_id: String,
    /// The request's method, in upper case.
    #[arg(long, value_name = "METHOD", value_parser = parsed_method)]
    method: String,
    /// The request's path, with its query if it has one.
    #[arg(long, value_name = "PATH")]
    path: String,
    /// A header of the request, `Name: value`; may be given several times. Those that say how the
    /// body is to be read count; `--token-id` stands for the credential.
    #[arg(long = "header", value_name = "NAME: VALUE", value_parser = parsed_header)]
    headers: Vec<(HeaderName, HeaderValue)>,
    /// A file with the body of the request, which may name the model.
    #[arg(long, value_name = "FILE")]
    body: Option<PathBuf>,
    #[command(flatten)]
    target: Target,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl Explain {
    pub(super) fn run(self) -> Outcome {
        let opened = self.target.open()?;
        let body = match &self.body {
            None => Vec::new(),
            Some(file) => std::fs::read(file)
                .map_err(|error| Failure::Message(format!("{}: {error}", file.display())))?,
        };
        let policy = opened.load()?.policy;
        let question = Question {
            token_id: &self.token_id,
            method: &self.method,
            path: &self.path,
            headers: &self.headers.into_iter().collect(),
            body: &body,
            now: moment::now()?,
        };
        let answer = explained(&policy, &question);
        if self.json {
            output::print_json(&answer)?;
        } else {
            output::print(&told(&answer).text())?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn told(answer: &Explained<'_>) -> Table {
    let mut table = Table::bare();
    let verdict = match (answer.allowed, answer.would_deny) {
        (true, None) => Cell::good("yes"),
        (true, Some(reason)) => {
            Cell::bad(format!("yes, only because nothing is enforced; else no: {reason}"))
        }
        (false, _) => Cell::bad(format!("no: {}", answer.reason)),
    };
    table.row(vec![Cell::heading("allowed"), verdict]);
    for (number, step) in answer.steps.iter().enumerate() {
        let decides = number + 1 == answer.steps.len();
        let rule = if decides { Cell::heading(step.rule) } else { Cell::plain(step.rule) };
        let mark = if decides { "  <- decides" } else { "" };
        table.row(vec![rule, Cell::plain(format!("{}{mark}", step.found))]);
    }
    table
}

fn parsed_method(text: &str) -> Result<String, String> {
    if is_method(text) {
        Ok(text.into())
    } else {
        Err("write a method in upper case, such as GET".into())
    }
}

fn parsed_header(text: &str) -> Result<(HeaderName, HeaderValue), String> {
    let parts = text.split_once(':');
    let header = parts
        .and_then(|(name, value)| Some((name.trim().parse().ok()?, value.trim().parse().ok()?)));
    header.ok_or_else(|| "write it as 'Name: value'".into())
}
