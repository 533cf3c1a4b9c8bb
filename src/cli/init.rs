use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;

use super::moment;
use super::output::{self, Failure, Outcome};
use crate::policy::Document;
use crate::policy::amend::{self, Edit};
use crate::store::stanza;

/// The commented defaults, as they stand in the project.
const SETTINGS: &str = include_str!("../../config/faregate.toml");
const TOKENS: &str = include_str!("../../config/tokens.toml");

/// Who holds the first administrator key.
const FIRST_ADMIN: &str = "admin";

/// Write settings and a token file to start from, and print an administrator key, once.
///
/// Writes a commented `faregate.toml`, and a `tokens.toml` that nobody else can read with one
/// administrator key in it. The key alone goes to standard output. Files that are there already are
/// left alone, and nothing is written then.
#[derive(Args)]
#[command(after_help = "\
Examples:
  faregate init
  faregate init --dir /etc/faregate && faregate serve --config /etc/faregate/faregate.toml")]
pub(super) struct Init {
    /// The folder to write to; made when it is not there.
    #[arg(long, value_name = "DIR", default_value = "config")]
    dir: PathBuf,
}

impl Init {
    pub(super) fn run(self) -> Outcome {
        let (settings, tokens) = (self.dir.join("faregate.toml"), self.dir.join("tokens.toml"));
        for file in [&settings, &tokens] {
            if fs::symlink_metadata(file).is_ok() {
                return Err(Failure::Message(format!(
                    "{}: it is there already, and nothing was written; \
                     choose another folder with `--dir`",
                    file.display()
                )));
            }
        }
        let entropy = moment::entropy()?;
        let (amended, key) = amend::issue_admin_key(&Document::default(), FIRST_ADMIN, &entropy)
            .map_err(Failure::message)?;
        fs::create_dir_all(&self.dir).map_err(|error| failed(&self.dir, &error))?;
        write_new(&tokens, &tokens_with(&amended.edit), 0o600)?;
        let written = write_new(&settings, SETTINGS, 0o644).and_then(|()| {
            File::open(&self.dir)
                .and_then(|folder| folder.sync_all())
                .map_err(|error| failed(&self.dir, &error))
        });
        if let Err(failure) = written {
            // Both or none: a second try shall not stumble over the first.
            let _ = fs::remove_file(&tokens);
            return Err(failure);
        }
        let what = format!("{} was written", tokens.display());
        let remedy = "make another with `faregate admin-key issue`";
        output::print_secret(key, &what, remedy)?;
        let config = settings.display();
        let is_default = settings == Path::new("config/faregate.toml");
        let option = if is_default { String::new() } else { format!(" --config {config}") };
        output::note(&format!(
            "Wrote {config} and {}.\n\
             The line on standard output is the administrator key of `{FIRST_ADMIN}`: this is the \
             only time it is shown; keep it now.\n\n\
             Next:\n  \
             edit {config}, to say where the model server is\n  \
             faregate check{option}\n  \
             faregate token issue{option} --resource 'iris*' --group model-evaluation\n  \
             faregate serve{option}\n\n\
             Then open the token page, http://127.0.0.1:9901, and sign in with the key.",
            tokens.display(),
        ));
        Ok(ExitCode::SUCCESS)
    }
}

/// The commented token file with an entry below `version`.
fn tokens_with(edit: &Edit) -> String {
    let version = "version = 1\n";
    TOKENS.replacen(version, &format!("{version}\n{}", stanza(edit)), 1)
}

/// Writes a file that must not be there yet.
fn write_new(path: &Path, text: &str, mode: u32) -> Result<(), Failure> {
    let write = || -> io::Result<()> {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
        let written = file.write_all(text.as_bytes()).and_then(|()| file.sync_all());
        if written.is_err() {
            let _ = fs::remove_file(path);
        }
        written
    };
    write().map_err(|error| failed(path, &error))
}

fn failed(path: &Path, error: &io::Error) -> Failure {
    Failure::Message(format!(
        "{}: it cannot be written: {error}; choose another folder with `--dir`",
        path.display()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::amend::Entropy;
    use crate::strict_toml::read_token_file;

    #[test]
    fn the_first_token_file_has_one_administrator_and_nothing_else() {
        let entropy = Entropy { secret: [7; 32], id: [7; 16] };
        let (amended, _) =
            amend::issue_admin_key(&Document::default(), FIRST_ADMIN, &entropy).unwrap();
        let text = tokens_with(&amended.edit);
        assert_eq!(read_token_file(&text), Ok(amended.document));
    }
}
