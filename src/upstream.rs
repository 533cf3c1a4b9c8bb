//! Model servers as all workers see them: how they are reached, and which of their endpoints answer.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use http::HeaderValue;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

use crate::settings::{Endpoint, Scheme, UpstreamSettings};

/// One upstream of a namespace, ready for requests.
pub struct Upstream {
    /// Tells upstreams apart, across reloads too.
    pub id: u64,
    /// What the settings say.
    pub settings: UpstreamSettings,
    /// Its servers; at least one.
    pub endpoints: Vec<EndpointState>,
    /// For `https` endpoints.
    pub tls: Option<Arc<ClientConfig>>,
    /// The server's own key.
    pub authorization: Option<HeaderValue>,
}

/// One server, shared by all workers.
pub struct EndpointState {
    /// Where it is.
    pub endpoint: Endpoint,
    /// As in the settings: the metric label.
    pub name: String,
    in_flight: AtomicUsize,
    down: AtomicBool,
}

/// A file that the settings name for an upstream cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{}: {reason}", file.display())]
pub struct UpstreamFileError {
    file: PathBuf,
    reason: String,
}

fn file_error(file: &Path, reason: impl ToString) -> UpstreamFileError {
    UpstreamFileError { file: file.to_owned(), reason: reason.to_string() }
}

static NEXT: AtomicU64 = AtomicU64::new(1);

impl Upstream {
    /// Reads the files that the settings name.
    ///
    /// # Errors
    /// When a certificate, key or authorization file cannot be read or used.
    pub fn open(settings: &UpstreamSettings) -> Result<Self, UpstreamFileError> {
        let by_tls = settings.endpoints.iter().any(|endpoint| endpoint.scheme == Scheme::Https);
        let tls = if by_tls { Some(Arc::new(client_config(settings)?)) } else { None };
        let authorization =
            settings.authorization_file.as_deref().map(read_authorization).transpose()?;
        let endpoints = settings
            .endpoints
            .iter()
            .map(|endpoint| EndpointState {
                name: name_of(endpoint),
                endpoint: endpoint.clone(),
                in_flight: AtomicUsize::new(0),
                down: AtomicBool::new(false),
            })
            .collect();
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        Ok(Self { id, settings: settings.clone(), endpoints, tls, authorization })
    }

    /// The endpoint for a request: the one with the fewest in flight among those that answer and
    /// were not tried; if none answers, among all. None when all were tried.
    #[must_use]
    pub fn pick(&self, tried: &[usize]) -> Option<usize> {
        if self.endpoints.len() == 1 {
            return tried.is_empty().then_some(0);
        }
        let best = |include_down: bool| {
            self.endpoints
                .iter()
                .enumerate()
                .filter(|(place, endpoint)| {
                    !tried.contains(place) && (include_down || !endpoint.is_down())
                })
                .min_by_key(|(_, endpoint)| endpoint.in_flight.load(Ordering::Relaxed))
                .map(|(place, _)| place)
        };
        best(false).or_else(|| best(true))
    }
}

impl EndpointState {
    /// Whether the last connection to it failed.
    #[must_use]
    pub fn is_down(&self) -> bool {
        self.down.load(Ordering::Relaxed)
    }

    /// Notes whether a connection could be made; true when that is news.
    pub fn note(&self, up: bool) -> bool {
        self.down.load(Ordering::Relaxed) == up && self.down.swap(!up, Ordering::Relaxed) == up
    }
}

/// A request at an endpoint; counts while it lives.
pub struct AtEndpoint {
    upstream: Arc<Upstream>,
    place: usize,
}

impl AtEndpoint {
    /// Counts a request.
    #[must_use]
    pub fn count(upstream: &Arc<Upstream>, place: usize) -> Self {
        if let Some(endpoint) = upstream.endpoints.get(place) {
            endpoint.in_flight.fetch_add(1, Ordering::Relaxed);
        }
        Self { upstream: Arc::clone(upstream), place }
    }
}

impl Drop for AtEndpoint {
    fn drop(&mut self) {
        if let Some(endpoint) = self.upstream.endpoints.get(self.place) {
            endpoint.in_flight.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

fn name_of(endpoint: &Endpoint) -> String {
    let scheme = match endpoint.scheme {
        Scheme::Http => "http",
        Scheme::Https => "https",
        Scheme::H2c => "h2c",
    };
    let (host, port) = (&endpoint.host, endpoint.port);
    if host.contains(':') {
        format!("{scheme}://[{host}]:{port}")
    } else {
        format!("{scheme}://{host}:{port}")
    }
}

fn read_authorization(file: &Path) -> Result<HeaderValue, UpstreamFileError> {
    let text = fs::read_to_string(file).map_err(|error| file_error(file, error))?;
    let mut value = HeaderValue::from_str(text.trim())
        .map_err(|_| file_error(file, "its content is no header value; write one line of text"))?;
    value.set_sensitive(true);
    Ok(value)
}

fn client_config(settings: &UpstreamSettings) -> Result<ClientConfig, UpstreamFileError> {
    let mut roots = RootCertStore::empty();
    match settings.ca_file.as_deref() {
        Some(file) => {
            for certificate in read_certificates(file)? {
                roots.add(certificate).map_err(|error| file_error(file, error))?;
            }
        }
        None => {
            // Single unusable certificates of the system are no reason to trust none of them.
            let system = rustls_native_certs::load_native_certs().certs;
            let _ = roots.add_parsable_certificates(system);
        }
    }
    let builder = ClientConfig::builder().with_root_certificates(roots);
    let mut config = match &settings.client_cert {
        None => builder.with_no_client_auth(),
        Some((cert_file, key_file)) => {
            let key = PrivateKeyDer::from_pem_file(key_file)
                .map_err(|error| file_error(key_file, error))?;
            builder
                .with_client_auth_cert(read_certificates(cert_file)?, key)
                .map_err(|error| file_error(cert_file, error))?
        }
    };
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

fn read_certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, UpstreamFileError> {
    let certificates = CertificateDer::pem_file_iter(file)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| file_error(file, error))?;
    if certificates.is_empty() {
        return Err(file_error(file, "it holds no certificate; write PEM blocks"));
    }
    Ok(certificates)
}
