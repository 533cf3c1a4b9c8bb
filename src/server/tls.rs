//! Certificates of the gate's own listeners, taken over when their content changes.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};

use crate::live::Watch;
use crate::settings::ServerTls;

/// The TLS configuration of a listener; new connections take the newest.
#[derive(Clone)]
pub struct TlsInForce(Arc<ArcSwap<ServerConfig>>);

impl TlsInForce {
    /// The configuration for a new connection.
    #[must_use]
    pub fn config(&self) -> Arc<ServerConfig> {
        self.0.load_full()
    }
}

/// What clients of the data listener may speak.
pub const HTTP_2_OR_1: &[&[u8]] = &[b"h2", b"http/1.1"];

/// What clients of the admin listener may speak.
pub const HTTP_1: &[&[u8]] = &[b"http/1.1"];

/// Certificate files that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{}: {reason}", file.display())]
pub struct TlsFileError {
    file: PathBuf,
    reason: String,
}

fn file_error(file: &Path, reason: impl ToString) -> TlsFileError {
    TlsFileError { file: file.to_owned(), reason: reason.to_string() }
}

/// Follows the files of a listener.
pub struct TlsKeeper {
    files: ServerTls,
    protocols: &'static [&'static [u8]],
    watches: Vec<Watch>,
    in_force: TlsInForce,
    /// What is wrong with the files at present.
    failing: Option<String>,
    contents: blake3::Hash,
}

impl TlsKeeper {
    /// Reads the files for the first time. `protocols` are offered by ALPN, the best first.
    ///
    /// # Errors
    /// When one is missing or unusable, or the key is not the certificate's.
    pub fn open(
        files: &ServerTls,
        protocols: &'static [&'static [u8]],
    ) -> Result<Self, TlsFileError> {
        let mut watches: Vec<Watch> = paths(files).map(|path| Watch::new(path.clone())).collect();
        for watch in &mut watches {
            watch.note();
        }
        let contents = contents(files);
        let config = server_config(files, protocols)?;
        let in_force = TlsInForce(Arc::new(ArcSwap::from_pointee(config)));
        Ok(Self { files: files.clone(), protocols, watches, in_force, failing: None, contents })
    }

    /// What listeners use.
    #[must_use]
    pub fn in_force(&self) -> TlsInForce {
        self.in_force.clone()
    }

    /// Takes the files over if their content changed; a pair that does not fit changes nothing, and
    /// is told once.
    pub fn follow(&mut self, thoroughly: bool) {
        if !thoroughly && !self.watches.iter().any(Watch::hints_at_change) {
            return;
        }
        for watch in &mut self.watches {
            watch.note();
        }
        let contents = contents(&self.files);
        if contents == self.contents {
            self.failing = None;
            return;
        }
        match server_config(&self.files, self.protocols) {
            Ok(config) => {
                self.in_force.0.store(Arc::new(config));
                self.contents = contents;
                self.failing = None;
                tracing::info!(file = %self.files.cert_file.display(), "certificate in force");
            }
            Err(error) => {
                let error = error.to_string();
                if self.failing.as_ref() != Some(&error) {
                    tracing::error!(error, "certificate refused, the one before stays in force");
                    self.failing = Some(error);
                }
            }
        }
    }
}

fn paths(files: &ServerTls) -> impl Iterator<Item = &PathBuf> {
    [Some(&files.cert_file), Some(&files.key_file), files.client_ca_file.as_ref()]
        .into_iter()
        .flatten()
}

fn contents(files: &ServerTls) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new();
    for path in paths(files) {
        // An unreadable file is a content of its own.
        let content = std::fs::read(path).unwrap_or_default();
        hasher.update(&content.len().to_le_bytes());
        hasher.update(&content);
    }
    hasher.finalize()
}

fn server_config(files: &ServerTls, protocols: &[&[u8]]) -> Result<ServerConfig, TlsFileError> {
    let certificates = read_certificates(&files.cert_file)?;
    let key = PrivateKeyDer::from_pem_file(&files.key_file)
        .map_err(|error| file_error(&files.key_file, error))?;
    let builder = ServerConfig::builder();
    let builder = match &files.client_ca_file {
        None => builder.with_no_client_auth(),
        Some(file) => {
            let mut roots = RootCertStore::empty();
            for certificate in read_certificates(file)? {
                roots.add(certificate).map_err(|error| file_error(file, error))?;
            }
            let verifier = WebPkiClientVerifier::builder(Arc::new(roots))
                .build()
                .map_err(|error| file_error(file, error))?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let mut config = builder
        .with_single_cert(certificates, key)
        .map_err(|error| file_error(&files.cert_file, error))?;
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    Ok(config)
}

fn read_certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, TlsFileError> {
    let certificates = CertificateDer::pem_file_iter(file)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| file_error(file, error))?;
    if certificates.is_empty() {
        return Err(file_error(file, "it holds no certificate; write PEM blocks"));
    }
    Ok(certificates)
}
