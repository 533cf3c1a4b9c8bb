use std::process::ExitCode;

use clap::{Args, Command, CommandFactory as _};
use clap_mangen::Man;

use super::Cli;
use super::output::{self, Failure, Outcome};

/// Print the completions of a shell.
#[derive(Args)]
#[command(after_help = "\
Examples:
  faregate completions bash > /etc/bash_completion.d/faregate
  faregate completions zsh > \"${fpath[1]}/_faregate\"
  faregate completions fish > ~/.config/fish/completions/faregate.fish")]
pub(super) struct Completions {
    /// The shell.
    #[arg(value_name = "SHELL")]
    shell: clap_complete::Shell,
}

impl Completions {
    pub(super) fn run(self) -> Outcome {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "faregate", &mut script);
        output::print_bytes(&script)?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Print the manual page.
#[derive(Args)]
#[command(after_help = "\
Examples:
  faregate manual | man -l -
  faregate manual > /usr/local/share/man/man1/faregate.1")]
pub(super) struct Manual {}

impl Manual {
    pub(super) fn run(self) -> Outcome {
        output::print_bytes(&page().map_err(Failure::message)?)?;
        Ok(ExitCode::SUCCESS)
    }
}

/// One page for the program and all its commands.
fn page() -> std::io::Result<Vec<u8>> {
    let mut command = Cli::command();
    command.build();
    let mut page = Vec::new();
    let man = Man::new(command.clone());
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    for subcommand in command.get_subcommands() {
        render(subcommand, &mut page)?;
    }
    page.extend_from_slice(
        b".SH \"EXIT STATUS\"\n0 when the command did what it should, 1 when it could not, 2 for \
          wrong usage.\n.SH ENVIRONMENT\n.TP\n\\fBFAREGATE_CONFIG\\fR\nThe settings file, where \
          \\fB\\-\\-config\\fR is not given.\n.TP\n\\fBNO_COLOR\\fR\nWhen set, output has no \
          colour.\n",
    );
    Ok(page)
}

/// The section of a command, and those of the commands below it.
fn render(command: &Command, page: &mut Vec<u8>) -> std::io::Result<()> {
    if command.get_name() == "help" {
        return Ok(());
    }
    let name = command.get_bin_name().unwrap_or_else(|| command.get_name()).to_uppercase();
    page.extend_from_slice(format!(".SH \"{name}\"\n").as_bytes());
    let man = Man::new(command.clone());
    let mut section = Vec::new();
    man.render_synopsis_section(&mut section)?;
    man.render_description_section(&mut section)?;
    if command.get_arguments().next().is_some() {
        man.render_options_section(&mut section)?;
    }
    let has_examples = command.get_after_help().is_some();
    if has_examples {
        man.render_extra_section(&mut section)?;
    }
    // What is a section of a page of its own is a part of a section here.
    let section = format!("\n{}", String::from_utf8_lossy(&section)).replace("\n.SH ", "\n.SS ");
    // Examples are lines to paste, not a text to fill.
    let section = section.replacen("\n.SS EXTRA\n", "\n.SS EXAMPLES\n.nf\n", 1);
    let section = section.replacen("\nExamples:\n", "\n", 1).replacen("\nExample:\n", "\n", 1);
    page.extend_from_slice(section.trim_start().as_bytes());
    if has_examples {
        page.extend_from_slice(b".fi\n");
    }
    for subcommand in command.get_subcommands() {
        render(subcommand, page)?;
    }
    Ok(())
}
