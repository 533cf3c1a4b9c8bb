use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde::Serialize;

use super::moment;
use super::output::{self, Cell, Outcome, Table};
use super::target::Target;
use crate::policy::amend;

/// Issue, list and delete administrator keys, in the token file.
///
/// An administrator key opens the admin API and the token page of one namespace. It calls no model.
#[derive(Args)]
#[command(arg_required_else_help = true, subcommand_required = true)]
pub(super) struct AdminKey {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Issue(Issue),
    List(List),
    Delete(Delete),
}

/// Make a new administrator key and print it, once.
///
/// The key alone goes to standard output. It cannot be shown again: the file keeps its hash.
#[derive(Args)]
#[command(after_help = "\
Examples:
  faregate admin-key issue --name alice
  faregate admin-key issue --name alice --namespace fraud")]
struct Issue {
    /// Who holds it; unique in the file.
    #[arg(long)]
    name: String,
    #[command(flatten)]
    target: Target,
    /// Print JSON, with the key in it.
    #[arg(long)]
    json: bool,
}

/// List who holds an administrator key.
#[derive(Args)]
#[command(after_help = "Example:\n  faregate admin-key list")]
struct List {
    #[command(flatten)]
    target: Target,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Remove an administrator key for good.
#[derive(Args)]
#[command(
    override_usage = "faregate admin-key delete [OPTIONS] <NAME>",
    after_help = "Example:\n  faregate admin-key delete alice"
)]
struct Delete {
    /// Who holds it.
    #[arg(value_name = "NAME", required_unless_present = "name")]
    holder: Option<String>,
    /// The same as NAME, as `issue` takes it.
    #[arg(long, conflicts_with = "holder", hide = true)]
    name: Option<String>,
    #[command(flatten)]
    target: Target,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct AdminJson<'t> {
    name: &'t str,
}

impl AdminKey {
    pub(super) fn run(self) -> Outcome {
        match self.command {
            Command::Issue(issue) => issue.run(),
            Command::List(list) => list.run(),
            Command::Delete(delete) => delete.run(),
        }
    }
}

impl Issue {
    fn run(self) -> Outcome {
        let opened = self.target.open()?;
        let entropy = moment::entropy()?;
        let committed =
            opened.commit(|document| amend::issue_admin_key(document, &self.name, &entropy))?;
        let file = opened.store.path().display();
        let what = format!("{file}: the key of `{}` was made", self.name);
        let remedy = format!("delete it with `faregate admin-key delete '{}'`", self.name);
        let key = committed.value;
        if self.json {
            let key = key.reveal();
            let value = serde_json::json!({
                "admin": AdminJson { name: &self.name },
                "secret": key.as_str(),
                "generation": committed.generation.to_hex(),
            });
            output::print_json_with_secret(&value, &what, &remedy)?;
            return Ok(ExitCode::SUCCESS);
        }
        output::print_secret(key, &what, &remedy)?;
        output::note(&format!(
            "Administrator key of `{}` issued in namespace `{}` ({file}).\n\
             This is the only time the key is shown; keep it now.",
            self.name, opened.namespace.name,
        ));
        Ok(ExitCode::SUCCESS)
    }
}

impl List {
    fn run(self) -> Outcome {
        let opened = self.target.open()?;
        let loaded = opened.load()?;
        let admins = &loaded.document.admins;
        if self.json {
            let admins: Vec<AdminJson<'_>> =
                admins.iter().map(|admin| AdminJson { name: &admin.name.value }).collect();
            let generation = loaded.generation;
            let value = serde_json::json!({ "admins": admins, "generation": generation });
            output::print_json(&value)?;
        } else if admins.is_empty() {
            output::note(
                "There are no administrator keys yet: `faregate admin-key issue` makes one.",
            );
        } else {
            let mut table = Table::new(&["NAME"]);
            for admin in admins {
                table.row(vec![Cell::plain(admin.name.value.as_str())]);
            }
            output::print(&table.text())?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl Delete {
    fn run(self) -> Outcome {
        let name = self.holder.or(self.name).unwrap_or_default();
        let opened = self.target.open()?;
        let committed =
            opened.commit(|document| Ok((amend::delete_admin_key(document, &name)?, ())))?;
        if self.json {
            let generation = committed.generation.to_hex();
            output::print_json(&serde_json::json!({ "deleted": name, "generation": generation }))?;
        } else {
            output::note(&format!(
                "Administrator key of `{name}` deleted in namespace `{}` ({}).",
                opened.namespace.name,
                opened.store.path().display()
            ));
        }
        Ok(ExitCode::SUCCESS)
    }
}
