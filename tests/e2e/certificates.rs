//! An authority and the certificates it signed, made anew for each test.

use std::fs;
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
};

/// Signs certificates for the one test that made it.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    /// PEM file of its own certificate.
    pub(crate) file: PathBuf,
}

/// PEM files of a certificate and its key.
pub(crate) struct CertificateFiles {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
}

impl Authority {
    pub(crate) fn create(folder: &Path, name: &str) -> Self {
        let mut parameters = CertificateParams::new(Vec::new()).unwrap();
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        parameters.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        let certificate = parameters.self_signed(&key).unwrap();
        let file = folder.join(format!("{name}.crt"));
        fs::write(&file, certificate.pem()).unwrap();
        Self { issuer: Issuer::new(parameters, key), file }
    }

    /// A certificate for `localhost` and 127.0.0.1, of a server and of a client alike.
    pub(crate) fn sign(&self, folder: &Path, name: &str) -> CertificateFiles {
        let mut parameters =
            CertificateParams::new(vec!["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
        parameters.distinguished_name.push(DnType::CommonName, name);
        parameters.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate().unwrap();
        let signed = parameters.signed_by(&key, &self.issuer).unwrap();
        let files = CertificateFiles {
            certificate: folder.join(format!("{name}.crt")),
            key: folder.join(format!("{name}.key")),
        };
        fs::write(&files.certificate, signed.pem()).unwrap();
        fs::write(&files.key, key.serialize_pem()).unwrap();
        files
    }
}

impl CertificateFiles {
    /// TOML of the gate's `[data]` table that serves this certificate, and asks clients for one of
    /// that authority.
    pub(crate) fn as_gate_settings(&self, clients: Option<&Authority>) -> String {
        let (certificate, key) = (self.certificate.display(), self.key.display());
        let clients =
            clients.map(|authority| format!(", client_ca_file = \"{}\"", authority.file.display()));
        format!(
            "tls = {{ cert_file = \"{certificate}\", key_file = \"{key}\"{} }}",
            clients.unwrap_or_default()
        )
    }
}
