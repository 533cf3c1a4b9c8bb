//! Settings: `faregate.toml`, read whole and judged whole before anything starts.

mod addresses;
mod dates;
mod header_name;
mod listeners;
mod namespace;
mod routes;
mod settings_file;
mod units;
mod upstream;
mod values;

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::policy::{Pattern, Placed, Rules};

pub use dates::{DateError, LAST_DATE, parse_rfc3339, rfc3339};
pub use settings_file::{FileProblems, ReadSettings};
pub use units::{UnitError, duration_text, parse_duration, parse_size, size_text};

/// Everything `faregate.toml` says, with defaults filled in and paths made absolute or relative to
/// the current folder.
#[derive(Debug)]
pub struct Settings {
    /// `[data]`.
    pub data: DataListener,
    /// `[admin]`, when the table is there.
    pub admin: Option<AdminListener>,
    /// `[ops]`.
    pub ops: OpsListener,
    /// `[forward_auth]`, when the table is there.
    pub forward_auth: Option<ForwardAuthListener>,
    /// `[log]`.
    pub log: Log,
    /// `[limits]`.
    pub limits: Limits,
    /// `[drain]`.
    pub drain: Drain,
    /// `[[namespace]]`, in the order of the file; at least one.
    pub namespaces: Vec<Namespace>,
}

/// Where clients come in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataListener {
    /// The address; port 0 lets the system choose.
    pub listen: SocketAddr,
    /// Threads that serve; 0: one per core.
    pub workers: usize,
    /// Certificate files, when clients come by TLS.
    pub tls: Option<ServerTls>,
}

/// The files of a TLS listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerTls {
    /// PEM: the certificate and its chain.
    pub cert_file: PathBuf,
    /// PEM: the private key.
    pub key_file: PathBuf,
    /// PEM: who must have signed a client's certificate; none: clients need none.
    pub client_ca_file: Option<PathBuf>,
}

/// The admin API and token page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdminListener {
    /// The address.
    pub listen: SocketAddr,
    /// Host names beside `localhost`, `127.0.0.1` and `[::1]`.
    pub allowed_hosts: Vec<String>,
    /// Certificate files.
    pub tls: Option<ServerTls>,
    /// Where audit lines go.
    pub audit_log: AuditLog,
    /// Where the file says so.
    pub(crate) audit_log_placed: Placed<()>,
}

/// Where audit lines go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AuditLog {
    /// Standard error.
    Stderr,
    /// A file, appended to.
    File(PathBuf),
}

/// Probes and metrics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpsListener {
    /// The address.
    pub listen: SocketAddr,
    /// Whether each token has series of its own.
    pub token_series: bool,
}

/// Answers for other gateways.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForwardAuthListener {
    /// The address.
    pub listen: SocketAddr,
    /// Networks whose word is taken, as address and prefix length.
    pub trusted_peers: Vec<(IpAddr, u8)>,
}

/// What is logged, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Log {
    /// The least severe level that is logged.
    pub level: Level,
    /// JSON or text.
    pub format: LogFormat,
    /// Which requests get a line.
    pub access: AccessLog,
}

/// How severe an event is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the levels everybody knows")]
pub enum Level {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

/// The form of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// For people.
    Text,
}

/// Which requests get a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AccessLog {
    /// Every one.
    All,
    /// Refused ones.
    Denied,
    /// None.
    Off,
}

/// `[limits]`: deadlines and sizes. Bytes are bytes, durations durations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the keys of the file, documented in docs/settings.md")]
pub struct Limits {
    pub header_timeout: Duration,
    pub tls_handshake_timeout: Duration,
    pub keep_alive_timeout: Duration,
    pub write_idle_timeout: Duration,
    pub body_idle_timeout: Duration,
    pub max_header_bytes: usize,
    pub max_headers: usize,
    pub max_connections: usize,
    pub max_requests_in_flight: usize,
    pub inspect_body_bytes: usize,
    pub inspect_total_bytes: usize,
    pub http2_max_streams: u32,
    pub http2_send_buffer_bytes: usize,
    pub end_revoked_streams: bool,
}

/// How the gate stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Drain {
    /// Not ready, still accepting.
    pub delay: Duration,
    /// Then requests in flight get this long.
    pub timeout: Duration,
}

/// One namespace.
#[derive(Debug)]
pub struct Namespace {
    /// Its name; unique.
    pub name: String,
    /// The hosts it answers to, lower-case.
    pub hosts: Vec<HostPattern>,
    /// Its token file.
    pub tokens: PathBuf,
    /// The profiles, by name, in order.
    pub profiles: Vec<&'static str>,
    /// Where credentials may stand.
    pub credentials: Vec<CredentialPlace>,
    /// Routes, default model and whether the policy is enforced.
    pub rules: Arc<Rules>,
    /// Where requests go, unless a model is served elsewhere.
    pub upstream: UpstreamSettings,
    /// Models served elsewhere, most specific pattern first.
    pub models: Vec<ModelElsewhere>,
    /// What the model server is told about the caller.
    pub identity_headers: IdentityHeaders,
}

/// Which hosts a namespace answers to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum HostPattern {
    /// This one, lower-case, without port and trailing dot.
    Exact(String),
    /// Every name below: for `*.example.com` this holds `.example.com`.
    Below(String),
    /// Every host.
    Any,
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(name) => f.write_str(name),
            Self::Below(suffix) => write!(f, "*{suffix}"),
            Self::Any => f.write_str("*"),
        }
    }
}

/// A place of a request where a credential may stand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CredentialPlace {
    /// `Authorization: Bearer …`.
    Bearer,
    /// `Authorization: Basic …`: the password.
    Basic,
    /// A header of this name, lower-case.
    Header(String),
    /// A query parameter of this name.
    Query(String),
    /// A cookie of this name.
    Cookie(String),
    /// The WebSocket subprotocol `faregate.token.<secret>`.
    WebSocketProtocol,
}

/// Names of the headers that tell the model server who calls; lower-case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdentityHeaders {
    /// Carries the token's id.
    pub token_id: String,
    /// Carries the token's name, when it has one.
    pub token_name: String,
    /// Carries the token's groups, parted by `, `.
    pub groups: String,
}

/// Where requests are sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpstreamSettings {
    /// The servers; at least one.
    pub endpoints: Vec<Endpoint>,
    /// PEM: who must have signed an `https` server's certificate; none: the system's authorities.
    pub ca_file: Option<PathBuf>,
    /// PEM: the certificate the gate shows to an `https` server, with its key.
    pub client_cert: Option<(PathBuf, PathBuf)>,
    /// A file whose content is sent as `Authorization`: the server's own key.
    pub authorization_file: Option<PathBuf>,
    /// To a connection, its TLS handshake included.
    pub connect_timeout: Duration,
    /// From the request's last byte sent to the head of the response.
    pub response_timeout: Duration,
    /// How long a connection is kept unused.
    pub idle_timeout: Duration,
}

/// One server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// How it is spoken to.
    pub scheme: Scheme,
    /// Host name or address, without brackets.
    pub host: String,
    /// Port.
    pub port: u16,
}

/// How a model server is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// HTTP/1.1 in clear.
    Http,
    /// HTTP/2 or HTTP/1.1 in TLS, as the server chooses by ALPN.
    Https,
    /// HTTP/2 in clear, with prior knowledge.
    H2c,
}

/// `[[namespace.model]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelElsewhere {
    /// Which models.
    pub resource: Pattern,
    /// Where they are served.
    pub upstream: UpstreamSettings,
    /// What is cut off the path.
    pub strip_prefix: Option<StripPrefix>,
}

/// Whole leading segments that are cut off a path; `{model}` stands for the model's segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StripPrefix(pub Vec<PrefixSegment>);

/// A segment of a [`StripPrefix`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PrefixSegment {
    /// As it stands.
    Literal(String),
    /// The model's id.
    Model,
}
