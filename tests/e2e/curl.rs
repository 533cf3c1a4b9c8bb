//! Debian's curl, and what it saw.

use std::path::Path;
use std::process::Command;

use crate::process::run;

/// An answer as curl reports it.
#[derive(Debug)]
pub(crate) struct CurlAnswer {
    pub(crate) status: u16,
    /// `1.1` or `2`.
    pub(crate) http_version: String,
    /// Body bytes curl sent.
    pub(crate) uploaded: u64,
    /// Header lines as received, names as the wire spelt them; interim responses come first.
    pub(crate) headers: String,
    pub(crate) body: String,
}

impl CurlAnswer {
    /// Every value of the header, in order.
    pub(crate) fn header_values(&self, name: &str) -> Vec<&str> {
        let lines = self.headers.lines().filter_map(|line| line.split_once(':'));
        lines
            .filter(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.trim())
            .collect()
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error} in {self:?}"))
    }
}

/// Runs curl with the arguments; the answer's body is text.
pub(crate) fn curl(arguments: &[&str]) -> CurlAnswer {
    let folder = tempfile::tempdir().unwrap();
    let body = folder.path().join("body");
    let mut answer = curl_to_file(arguments, &body);
    answer.body = String::from_utf8_lossy(&std::fs::read(&body).unwrap_or_default()).into_owned();
    answer
}

/// Runs curl with the arguments; the answer's body goes to the file.
pub(crate) fn curl_to_file(arguments: &[&str], body: &Path) -> CurlAnswer {
    let folder = tempfile::tempdir().unwrap();
    let headers = folder.path().join("headers");
    let mut command = Command::new("curl");
    // A ~/.curlrc or a proxy of the machine's must not change what is tested.
    command.arg("--disable").args(["--silent", "--show-error", "--noproxy", "*"]);
    command.arg("--output").arg(body).arg("--dump-header").arg(&headers);
    command.args(["--write-out", "%{http_code} %{http_version} %{size_upload}"]).args(arguments);
    let finished = run(&format!("curl {}", arguments.join(" ")), &mut command).succeeded();
    let mut written = finished.stdout.split_whitespace();
    let mut next = || written.next().expect("three values from --write-out");
    CurlAnswer {
        status: next().parse().unwrap(),
        http_version: next().to_owned(),
        uploaded: next().parse().unwrap(),
        headers: std::fs::read_to_string(&headers).unwrap(),
        body: String::new(),
    }
}
