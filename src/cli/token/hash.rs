use std::io::{self, IsTerminal as _, Read as _};
use std::process::ExitCode;

use clap::Args;
use zeroize::Zeroizing;

use crate::cli::output::{self, Failure, Outcome};
use crate::token::{Digest, Presented};

/// The longest secret that is hashed, in bytes; requests cannot carry one as long.
const MOST_BYTES: u64 = 64 * 1024;

/// Hash a secret that you already have, for the `hash` of an entry in the token file.
///
/// Reads the secret on standard input and prints `blake3:` and 64 hexadecimal digits. One line end
/// after the secret, as `echo` writes it, is not part of the secret; this is told on standard
/// error. No file is read or changed.
#[derive(Args)]
#[command(after_help = "\
Examples:
  printf %s \"$SECRET\" | faregate token hash
  faregate token hash < secret.txt

`printf %s \"$SECRET\" | b3sum` gives the same digits.")]
pub(super) struct Hash {
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl Hash {
    pub(super) fn run(self) -> Outcome {
        if io::stdin().is_terminal() {
            output::note(
                "Type or paste the secret, then Enter and Ctrl-D. It is shown as you type.",
            );
        }
        let mut secret = Zeroizing::new(Vec::with_capacity(4096));
        io::stdin()
            .lock()
            .take(MOST_BYTES + 1)
            .read_to_end(&mut secret)
            .map_err(|error| Failure::Message(format!("standard input cannot be read: {error}")))?;
        if secret.len() as u64 > MOST_BYTES {
            return Err(Failure::message("this is longer than 64 KiB; is it a secret?"));
        }
        let bytes = secret.as_slice();
        let without_line_end = bytes.strip_suffix(b"\n").map(|bytes| {
            output::note("The line end after the secret is not hashed.");
            bytes.strip_suffix(b"\r").unwrap_or(bytes)
        });
        let bytes = without_line_end.unwrap_or(bytes);
        if bytes.is_empty() {
            return Err(Failure::message(
                "no secret on standard input; try: printf %s \"$SECRET\" | faregate token hash",
            ));
        }
        warn(bytes);
        let hash = Digest::blake3(bytes).to_file_form();
        if self.json {
            output::print_json(&serde_json::json!({ "hash": hash }))?;
        } else {
            output::print(&format!("{hash}\n"))?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn warn(secret: &[u8]) {
    let presented = Presented::new(secret);
    if presented.is_admin_key() {
        output::warning("this is an administrator key: its hash belongs under `[[admin]]`");
    } else if !presented.is_well_formed() {
        output::warning(
            "this starts like a secret of Faregate, but its checksum is wrong: it is mistyped or \
             cut, and will be refused",
        );
    }
    if secret.first().is_some_and(u8::is_ascii_whitespace)
        || secret.last().is_some_and(u8::is_ascii_whitespace)
    {
        output::warning("white space at the ends of the secret is part of it");
    }
}
