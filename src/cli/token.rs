mod hash;
mod new_secret;
mod view;

use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde::Serialize;

use super::moment;
use super::output::{self, Failure, Outcome};
use super::target::{Loaded, Opened, Target};
use crate::policy::amend::{self, AmendError};
use crate::policy::{Document, TokenEntry};
use crate::store::file::Committed;
use hash::Hash;
use new_secret::{Issue, Regenerate};
use view::TokenView;

/// Issue, list and change tokens, in the token file.
///
/// The file is changed in place: comments, blank lines and the order of everything else stay. A
/// gate that runs takes the change over within a second.
#[derive(Args)]
#[command(arg_required_else_help = true, subcommand_required = true)]
pub(super) struct Token {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Issue(Issue),
    List(List),
    Show(Show),
    Regenerate(Regenerate),
    /// Switch a token off; it can be switched on again.
    #[command(after_help = "Example:\n  faregate token disable tk_9ZfQ2mB7xLrA")]
    Disable(Named),
    /// Switch a token on again.
    #[command(after_help = "Example:\n  faregate token enable tk_9ZfQ2mB7xLrA")]
    Enable(Named),
    /// Remove a token for good.
    #[command(after_help = "Example:\n  faregate token delete tk_9ZfQ2mB7xLrA")]
    Delete(Named),
    Hash(Hash),
}

/// List the tokens with their state.
#[derive(Args)]
#[command(after_help = "\
Examples:
  faregate token list
  faregate token list --json | jq -r '.tokens[] | select(.state == \"expired\").id'")]
struct List {
    #[command(flatten)]
    target: Target,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Show a token: everything but its hash.
#[derive(Args)]
#[command(after_help = "Example:\n  faregate token show tk_9ZfQ2mB7xLrA")]
struct Show {
    /// The token's id.
    id: String,
    #[command(flatten)]
    target: Target,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
struct Named {
    /// The token's id.
    id: String,
    #[command(flatten)]
    target: Target,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct TokenJson<'t> {
    token: TokenView<'t>,
    #[serde(skip_serializing_if = "Option::is_none")]
    secret: Option<&'t str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    generation: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stanza: Option<String>,
}

#[derive(Serialize)]
struct ListJson<'t> {
    tokens: Vec<TokenView<'t>>,
    generation: String,
}

#[derive(Serialize)]
struct DeletedJson<'t> {
    deleted: &'t str,
    generation: String,
}

impl Token {
    pub(super) fn run(self) -> Outcome {
        match self.command {
            Command::Issue(issue) => issue.run(),
            Command::List(list) => list.run(),
            Command::Show(show) => show.run(),
            Command::Regenerate(regenerate) => regenerate.run(),
            Command::Disable(named) => named.switch(true),
            Command::Enable(named) => named.switch(false),
            Command::Delete(named) => named.delete(),
            Command::Hash(hash) => hash.run(),
        }
    }
}

impl List {
    fn run(self) -> Outcome {
        let now = moment::now()?;
        let opened = self.target.open()?;
        let Loaded { document, generation, .. } = opened.load()?;
        let tokens: Vec<TokenView<'_>> =
            document.tokens.iter().map(|entry| TokenView::new(entry, now)).collect();
        if self.json {
            output::print_json(&ListJson { tokens, generation })?;
        } else if tokens.is_empty() {
            output::note("There are no tokens yet: `faregate token issue` makes one.");
        } else {
            output::print(&view::table(&tokens).text())?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl Show {
    fn run(self) -> Outcome {
        let now = moment::now()?;
        let opened = self.target.open()?;
        let Loaded { document, generation, .. } = opened.load()?;
        let token = TokenView::new(token_named(&opened, &document, &self.id)?, now);
        if self.json {
            let generation = Some(generation);
            output::print_json(&TokenJson { token, secret: None, generation, stanza: None })?;
        } else {
            output::print(&token.details().text())?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl Named {
    fn switch(self, disabled: bool) -> Outcome {
        let now = moment::now()?;
        let opened = self.target.open()?;
        let committed = opened
            .commit(|document| Ok((amend::set_disabled(document, &self.id, disabled)?, ())))?;
        let Committed { document, generation, .. } = committed;
        if self.json {
            let token = TokenView::new(token_named(&opened, &document, &self.id)?, now);
            let generation = Some(generation.to_hex());
            output::print_json(&TokenJson { token, secret: None, generation, stanza: None })?;
        } else {
            let word = if disabled { "disabled" } else { "enabled" };
            self.told(&opened, word);
        }
        Ok(ExitCode::SUCCESS)
    }

    fn delete(self) -> Outcome {
        let opened = self.target.open()?;
        let committed = opened.commit(|document| Ok((amend::delete(document, &self.id)?, ())))?;
        if self.json {
            let generation = committed.generation.to_hex();
            output::print_json(&DeletedJson { deleted: &self.id, generation })?;
        } else {
            self.told(&opened, "deleted");
        }
        Ok(ExitCode::SUCCESS)
    }

    fn told(&self, opened: &Opened, done: &str) {
        output::note(&format!(
            "Token `{}` {done} in namespace `{}` ({}).",
            self.id,
            opened.namespace.name,
            opened.store.path().display()
        ));
    }
}

fn token_named<'d>(
    opened: &Opened,
    document: &'d Document,
    id: &str,
) -> Result<&'d TokenEntry, Failure> {
    let found = document.tokens.iter().find(|entry| entry.id.value == id);
    found.ok_or_else(|| opened.failure(AmendError::NoSuchToken(id.into()).into()))
}
