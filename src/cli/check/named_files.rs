use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use super::Severity;
use crate::policy::Problem;
use crate::settings::{ServerTls, Settings, UpstreamSettings};

/// What a file that settings name should hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Content {
    Certificates,
    PrivateKey,
    HeaderValue,
}

/// What is wrong with the certificates, keys and other files that the settings name, beside the
/// token files.
pub(super) fn look_at(settings: &Settings) -> Vec<(PathBuf, Problem, Severity)> {
    let mut told = Vec::new();
    let mut look = |path: &Path, key, content| {
        if let Some((problem, severity)) = judge(path, key, content) {
            told.push((path.to_path_buf(), problem, severity));
        }
    };
    let admin_tls = settings.admin.as_ref().and_then(|admin| admin.tls.as_ref());
    for tls in settings.data.tls.iter().chain(admin_tls) {
        let ServerTls { cert_file, key_file, client_ca_file } = tls;
        look(cert_file, "cert_file", Content::Certificates);
        look(key_file, "key_file", Content::PrivateKey);
        if let Some(file) = client_ca_file {
            look(file, "client_ca_file", Content::Certificates);
        }
    }
    for namespace in &settings.namespaces {
        let elsewhere = namespace.models.iter().map(|model| &model.upstream);
        for upstream in std::iter::once(&namespace.upstream).chain(elsewhere) {
            let UpstreamSettings { ca_file, client_cert, authorization_file, .. } = upstream;
            if let Some(file) = ca_file {
                look(file, "ca_file", Content::Certificates);
            }
            if let Some((certificate, key)) = client_cert {
                look(certificate, "client_cert_file", Content::Certificates);
                look(key, "client_key_file", Content::PrivateKey);
            }
            if let Some(file) = authorization_file {
                look(file, "authorization", Content::HeaderValue);
            }
        }
    }
    told
}

fn judge(path: &Path, key: &str, content: Content) -> Option<(Problem, Severity)> {
    let problem =
        |what: String, remedy: String| Some((Problem::of_file(what, remedy), Severity::Problem));
    // A pipe would be waited for; no such file is one.
    let is_file = fs::metadata(path).map(|metadata| metadata.is_file());
    let bytes = match is_file {
        Ok(true) => fs::read(path),
        Ok(false) => {
            let remedy = format!("let `{key}` name a file");
            return problem("it is not a regular file".into(), remedy);
        }
        Err(error) => Err(error),
    };
    let bytes = match bytes {
        Ok(bytes) => zeroize::Zeroizing::new(bytes),
        Err(error) => {
            let remedy = format!("put it there, or correct `{key}` in the settings");
            return problem(format!("it cannot be read: {error}"), remedy);
        }
    };
    let has = |mark: &str| bytes.windows(mark.len()).any(|part| part == mark.as_bytes());
    match content {
        Content::Certificates if !has("-----BEGIN CERTIFICATE-----") => {
            problem("there is no certificate in it".into(), format!("`{key}` must be a PEM file"))
        }
        Content::PrivateKey if !has("PRIVATE KEY-----") => {
            problem("there is no private key in it".into(), format!("`{key}` must be a PEM file"))
        }
        Content::HeaderValue if bytes.trim_ascii().is_empty() => {
            let remedy = "write the value of the header `Authorization` into it".into();
            problem("it is empty".into(), remedy)
        }
        Content::Certificates => None,
        Content::PrivateKey | Content::HeaderValue => {
            let is_open = fs::metadata(path).is_ok_and(|it| it.permissions().mode() & 0o004 != 0);
            is_open.then(|| {
                let what = "every user of this machine may read this secret";
                (Problem::of_file(what, "run `chmod o-r` on it"), Severity::Warning)
            })
        }
    }
}
