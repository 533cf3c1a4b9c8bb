use std::collections::BTreeMap;
use std::process::ExitCode;

use clap::Args;

use super::TokenJson;
use super::view::TokenView;
use crate::cli::moment;
use crate::cli::output::{self, Failure, Outcome};
use crate::cli::target::{Opened, Target};
use crate::policy::amend::{self, AmendError, Amended, Edit, NewToken};
use crate::policy::{Document, Moment};
use crate::store::stanza;
use crate::token::Secret;

/// Make a new token and print its secret, once.
///
/// The secret alone goes to standard output. It cannot be shown again: the file keeps its hash.
#[derive(Args)]
#[command(after_help = "\
Examples:
  faregate token issue --resource 'iris*' --resource fraud-v2 --group model-evaluation \\
      --name 'fraud team, batch scoring' --expires-in 90d --label team=fraud
  SECRET=$(faregate token issue --resource '*' --group model-evaluation)
  faregate token issue --resource 'iris*' --group model-evaluation --stanza > secret.txt

A resource is the id of a model, `prefix*`, or `*` for every model. The groups that routes ask for
are shown by `faregate routes`; built in are `model-evaluation` and `model-management`.")]
pub(super) struct Issue {
    /// A model the token may use: its id, `prefix*`, or `*`; may be given several times.
    #[arg(long = "resource", value_name = "PATTERN", required = true, num_args = 1..)]
    resources: Vec<String>,
    /// A group, as routes ask for it; may be given several times.
    #[arg(long = "group", value_name = "GROUP", required = true, num_args = 1..)]
    groups: Vec<String>,
    /// What it is for, for people.
    #[arg(long)]
    name: Option<String>,
    /// When it expires, from now: `12h`, `90d`.
    #[arg(
        long, value_name = "SPAN", value_parser = moment::parsed_seconds,
        conflicts_with = "expires_at"
    )]
    expires_in: Option<i64>,
    /// When it expires: `2027-11-23T10:00:00Z`.
    #[arg(long, value_name = "TIME", value_parser = moment::parsed)]
    expires_at: Option<Moment>,
    /// A label, `key=value`; may be given several times.
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = parsed_label)]
    labels: Vec<(String, String)>,
    /// Change no file: print the entry to paste on standard error.
    #[arg(long)]
    stanza: bool,
    #[command(flatten)]
    target: Target,
    /// Print JSON, with the secret in it.
    #[arg(long)]
    json: bool,
}

/// Give a token a new secret and print it, once.
///
/// Id, resources and groups stay. The old secret stops at once, or after the grace; a secret that
/// was in its grace already stops at once in any case.
#[derive(Args)]
#[command(after_help = "\
Examples:
  faregate token regenerate tk_9ZfQ2mB7xLrA
  faregate token regenerate tk_9ZfQ2mB7xLrA --grace 24h")]
pub(super) struct Regenerate {
    /// The token's id.
    id: String,
    /// How long the old secret works beside the new one: `1h`, `7d`; 30 days at most.
    #[arg(
        long, value_name = "SPAN", default_value = "0s", value_parser = moment::parsed_seconds
    )]
    grace: i64,
    /// Change no file: print the entry to paste on standard error.
    #[arg(long)]
    stanza: bool,
    #[command(flatten)]
    target: Target,
    /// Print JSON, with the secret in it.
    #[arg(long)]
    json: bool,
}

impl Issue {
    pub(super) fn run(self) -> Outcome {
        let now = moment::now()?;
        let expires_at = match self.expires_in {
            Some(seconds) => Some(Moment(now.0.saturating_add(seconds))),
            None => self.expires_at,
        };
        if expires_at.is_some_and(|end| end <= now) {
            return Err(Failure::Usage("the token would have expired before it is used".into()));
        }
        let mut labels = BTreeMap::new();
        for (key, value) in self.labels {
            if labels.insert(key.clone(), value).is_some() {
                return Err(Failure::Usage(format!("the label `{key}` is given twice")));
            }
        }
        let opened = self.target.open()?;
        warn_of_unknown_groups(&opened, &self.groups);
        let new = NewToken {
            name: self.name,
            resources: self.resources,
            groups: self.groups,
            expires_at,
            limits: None,
            labels,
        };
        let entropy = moment::entropy()?;
        let change = |document: &Document| Ok(amend::issue(document, new, &entropy, now));
        make_secret(&opened, change, now, self.stanza, self.json, "issued")
    }
}

impl Regenerate {
    pub(super) fn run(self) -> Outcome {
        let now = moment::now()?;
        let opened = self.target.open()?;
        let entropy = moment::entropy()?;
        let change =
            |document: &Document| amend::regenerate(document, &self.id, self.grace, &entropy, now);
        make_secret(&opened, change, now, self.stanza, self.json, "given a new secret")
    }
}

/// Makes a change that has a secret, and shows the secret.
fn make_secret(
    opened: &Opened,
    change: impl FnOnce(&Document) -> Result<(Amended, Secret), AmendError>,
    now: Moment,
    only_stanza: bool,
    json: bool,
    done: &str,
) -> Outcome {
    let namespace = &opened.namespace.name;
    let file = opened.store.path().display();
    let (edit, secret, generation) = if only_stanza {
        let rehearsed = opened.store.rehearse(opened.rules(), change);
        let (edit, secret) = rehearsed.map_err(|error| opened.failure(error))?;
        (edit, secret, None)
    } else {
        let change = |document: &Document| {
            let (amended, secret) = change(document)?;
            let edit = amended.edit.clone();
            Ok((amended, (edit, secret)))
        };
        let committed = opened.commit(change)?;
        let (edit, secret) = committed.value;
        (edit, secret, Some(committed.generation.to_hex()))
    };
    let (Edit::AddToken(entry) | Edit::SetToken(entry)) = &edit else {
        return Err(Failure::message("the change was about no token; please report this"));
    };
    let id = &entry.id.value;
    let (what, remedy) = if only_stanza {
        (format!("{file}: not changed"), "run the command again".to_owned())
    } else {
        let remedy = format!("make another with `faregate token regenerate {id}`");
        (format!("{file}: the token `{id}` was {done}"), remedy)
    };
    let stanza = only_stanza.then(|| stanza(&edit));
    if json {
        let secret = secret.reveal();
        let token = TokenView::new(entry, now);
        let value = TokenJson { token, secret: Some(&secret), generation, stanza };
        output::print_json_with_secret(&value, &what, &remedy)?;
        return Ok(ExitCode::SUCCESS);
    }
    output::print_secret(secret, &what, &remedy)?;
    match stanza {
        Some(stanza) => output::note(&format!(
            "{file} was not changed. Put this where it comes from{}:\n\n{stanza}",
            match edit {
                Edit::SetToken(_) => ", in place of the entry with this id",
                _ => "",
            }
        )),
        None => output::note(&format!(
            "Token `{id}` {done} in namespace `{namespace}` ({file}).\n\
             This is the only time the secret is shown; keep it now."
        )),
    }
    Ok(ExitCode::SUCCESS)
}

fn warn_of_unknown_groups(opened: &Opened, groups: &[String]) {
    let known: Vec<&str> = opened.rules().routes.groups().into_iter().collect();
    for group in groups.iter().filter(|group| !known.contains(&group.as_str())) {
        output::warning(&format!(
            "no route of namespace `{}` asks for the group `{group}`; routes ask for: {}",
            opened.namespace.name,
            if known.is_empty() { "none".into() } else { known.join(", ") }
        ));
    }
}

fn parsed_label(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.into(), value.into())),
        _ => Err("write it as key=value".into()),
    }
}
