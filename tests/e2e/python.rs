//! The Python programs beside this file: model servers and clients.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::certificates::CertificateFiles;
use crate::process::RunningProcess;

/// A folder's program of the virtual environment that `tests/e2e/install-tools` makes.
pub(crate) fn installed_program(name: &str) -> PathBuf {
    let environment = std::env::var_os("E2E_PYTHON_ENVIRONMENT").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("target/e2e-venv"),
        PathBuf::from,
    );
    let program = environment.join("bin").join(name);
    assert!(program.exists(), "{} is missing: `make e2e-tools` installs it", program.display());
    program
}

/// A command that runs `tests/e2e/python/<script>`.
pub(crate) fn script(script: &str) -> Command {
    let mut command = Command::new(installed_program("python"));
    command
        .arg("-u")
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/e2e/python").join(script));
    command.env("PYTHONDONTWRITEBYTECODE", "1");
    command
}

/// A server that says where it listens with a line `listening on HOST:PORT`.
pub(crate) struct PythonServer {
    _process: RunningProcess,
    pub(crate) address: String,
}

impl PythonServer {
    pub(crate) fn start(file: &str) -> Self {
        Self::start_with(file, &[])
    }

    /// As [`Self::start`], with arguments.
    pub(crate) fn start_with(file: &str, arguments: &[&str]) -> Self {
        let process = RunningProcess::start(file, script(file).args(arguments));
        let address = process.wait_for_output("its address", |line| {
            line.strip_prefix("listening on ").map(str::to_owned)
        });
        Self { _process: process, address }
    }

    /// An ASGI application of the folder, served by uvicorn.
    pub(crate) fn start_asgi(module: &str) -> Self {
        Self::start_uvicorn(module, &[])
    }

    /// As [`Self::start_asgi`], over TLS.
    pub(crate) fn start_asgi_over_tls(module: &str, files: &CertificateFiles) -> Self {
        let (certificate, key) = (files.certificate.to_str().unwrap(), files.key.to_str().unwrap());
        Self::start_uvicorn(module, &["--ssl-certfile", certificate, "--ssl-keyfile", key])
    }

    fn start_uvicorn(module: &str, arguments: &[&str]) -> Self {
        let mut command = Command::new(installed_program("uvicorn"));
        command
            .arg(format!("{module}:application"))
            .arg("--app-dir")
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/e2e/python"))
            .args(["--host", "127.0.0.1", "--port", "0", "--no-access-log"])
            .args(arguments)
            .env("PYTHONDONTWRITEBYTECODE", "1");
        let process = RunningProcess::start(module, &mut command);
        let address = process.wait_for("its address", uvicorn_address);
        Self { _process: process, address }
    }
}

/// The address in uvicorn's line `Uvicorn running on http://127.0.0.1:41237 (Press CTRL+C to
/// quit)`; `https` over TLS.
pub(crate) fn uvicorn_address(line: &str) -> Option<String> {
    let (_, address) = line.split_once("Uvicorn running on http")?;
    let (_, address) = address.split_once("://")?;
    address.split_whitespace().next().map(str::to_owned)
}
