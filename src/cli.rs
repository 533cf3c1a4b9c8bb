//! The commands. Each reads its arguments, asks the rest of the program, and tells the outcome:
//! what was asked for on standard output, everything else on standard error.
//!
//! Exit codes: 0 when the command did what it should, 1 when it could not, 2 for wrong usage.

mod admin_key;
mod check;
mod explain;
mod init;
mod manual;
mod moment;
mod output;
mod routes;
mod target;
mod token;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::token::redact;
use output::{Failure, Outcome};
use target::ConfigFile;

/// The gate in front of model servers: a key of its own for each team, for these models only.
///
/// Clients send their requests to the gate with a token. The gate forwards what the token may do to
/// the model server, and refuses everything else.
#[derive(Parser)]
#[command(
    name = "faregate",
    version,
    max_term_width = 100,
    subcommand_required = true,
    arg_required_else_help = true,
    after_help = "\
Start here:
  faregate demo                        see all of it work, with nothing else installed
  faregate init                        write config/faregate.toml and config/tokens.toml
  faregate check                       see whether the files are right
  faregate token issue --resource 'iris*' --group model-evaluation
  faregate serve                       run the gate"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the gate.
    ///
    /// Reads the settings and token files, listens, and runs until it gets SIGTERM or SIGINT; then
    /// it stops accepting and lets requests in flight end. Changed files are taken over while it
    /// runs. Exits with 1 when a file is invalid or an address cannot be listened on.
    #[command(after_help = "\
Examples:
  faregate serve
  faregate serve --config /etc/faregate/faregate.toml
  FAREGATE_CONFIG=/etc/faregate/faregate.toml faregate serve")]
    Serve {
        #[command(flatten)]
        config: ConfigFile,
    },
    /// Try everything in one process: a small model server and the gate before it.
    ///
    /// Prints the addresses, an administrator key, a token, and `curl` lines to paste. Needs no
    /// other software and no settings. Ends with Ctrl-C.
    #[command(after_help = "\
Examples:
  faregate demo
  faregate demo --dir ./demo           keep the files it writes")]
    Demo {
        /// Where to write the demo's settings and tokens [default: a temporary folder].
        #[arg(long, value_name = "DIR")]
        dir: Option<PathBuf>,
    },
    Init(init::Init),
    Check(check::Check),
    Routes(routes::Routes),
    Explain(explain::Explain),
    Token(token::Token),
    AdminKey(admin_key::AdminKey),
    Completions(manual::Completions),
    Manual(manual::Manual),
}

/// Reads the command line, runs the command and answers the exit code of the process.
#[must_use]
pub fn run() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return told_by_parser(&error),
    };
    let outcome: Outcome = match cli.command {
        Command::Serve { config } => return crate::app::serve(&config.path),
        Command::Demo { dir } => return crate::demo::run(dir.as_deref()),
        Command::Init(init) => init.run(),
        Command::Check(check) => check.run(),
        Command::Routes(routes) => routes.run(),
        Command::Explain(explain) => explain.run(),
        Command::Token(token) => token.run(),
        Command::AdminKey(admin_key) => admin_key.run(),
        Command::Completions(completions) => completions.run(),
        Command::Manual(manual) => manual.run(),
    };
    match outcome {
        Ok(code) => code,
        Err(failure) => failed(&failure),
    }
}

/// Help goes to standard output; what is wrong with the usage to standard error, without secrets
/// that somebody put in the wrong place.
fn told_by_parser(error: &clap::Error) -> ExitCode {
    if error.use_stderr() {
        let rendered = error.render();
        let text = if output::stderr_has_colour() {
            rendered.ansi().to_string()
        } else {
            rendered.to_string()
        };
        output::note_raw(&redact(&text));
    } else {
        // Nobody is left to tell when this fails.
        let _ = error.print();
    }
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
}

fn failed(failure: &Failure) -> ExitCode {
    match failure {
        // Whoever read the output has seen enough of it.
        Failure::PipeClosed => ExitCode::SUCCESS,
        Failure::Message(message) => {
            output::error(message);
            ExitCode::from(1)
        }
        Failure::Usage(message) => {
            output::error(message);
            output::note("Try `--help`.");
            ExitCode::from(2)
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    #[test]
    fn the_commands_are_well_defined() {
        super::Cli::command().debug_assert();
    }
}
