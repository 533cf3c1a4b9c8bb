//! The program `faregate`; everything it does is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    faregate::cli::run()
}
