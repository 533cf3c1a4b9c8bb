//! The tables about the gate as a whole: where it listens, what it logs, its limits and its end.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use crate::policy::Placed;
use crate::strict_toml::Table;

use super::addresses::{collide, host_name, listen_address, network};
use super::values::{Context, choice, duration, number, size};
use super::{
    AccessLog, AdminListener, AuditLog, DataListener, Drain, ForwardAuthListener, Level, Limits,
    Log, LogFormat, Namespace, OpsListener, ServerTls,
};

const EVERYWHERE: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// The addresses that are listened on, to find out whether two are one.
#[derive(Default)]
pub(super) struct Addresses(Vec<(&'static str, Placed<SocketAddr>)>);

impl Addresses {
    fn take(
        &mut self,
        table: Option<&mut Table<'_>>,
        title: &'static str,
        default: SocketAddr,
    ) -> SocketAddr {
        let example = default.to_string();
        let given = table.and_then(|table| table.parsed("listen", &example, listen_address));
        let address = given.unwrap_or(Placed::made(default));
        self.0.push((title, address.clone()));
        address.value
    }

    /// Tells which listeners would take each other's port.
    pub(super) fn check(&self, root: &Table<'_>) {
        for (place, (title, address)) in self.0.iter().enumerate() {
            let Some((other_title, other)) =
                self.0[..place].iter().find(|(_, other)| collide(address.value, other.value))
            else {
                continue;
            };
            // One of them may be a default, which stands on no line.
            root.problem(
                address.line.max(other.line),
                format!("`{title}` and `{other_title}` listen on the same port"),
                "give each its own port in `listen`",
            );
        }
    }
}

pub(super) fn data(
    root: &mut Table<'_>,
    context: &Context<'_>,
    addresses: &mut Addresses,
) -> DataListener {
    let mut table = root.table("data");
    let default = SocketAddr::new(EVERYWHERE, 8080);
    let listen = addresses.take(table.as_mut(), "[data]", default);
    let Some(mut table) = table else { return DataListener { listen, workers: 0, tls: None } };
    let workers = number(&mut table, "workers", 0, 0..=1024);
    let tls = tls(&mut table, context);
    table.finish();
    DataListener { listen, workers, tls }
}

pub(super) fn ops(root: &mut Table<'_>, addresses: &mut Addresses) -> OpsListener {
    let mut table = root.table("ops");
    let default = SocketAddr::new(EVERYWHERE, 9902);
    let listen = addresses.take(table.as_mut(), "[ops]", default);
    let token_series = table.as_mut().and_then(|table| table.boolean("token_series"));
    if let Some(table) = table {
        table.finish();
    }
    OpsListener { listen, token_series: token_series.is_none_or(|given| given.value) }
}

pub(super) fn admin(
    root: &mut Table<'_>,
    context: &mut Context<'_>,
    addresses: &mut Addresses,
) -> Option<AdminListener> {
    let mut table = root.table("admin")?;
    let default = SocketAddr::new(HERE, 9901);
    let listen = addresses.take(Some(&mut table), "[admin]", default);
    let mut allowed_hosts = Vec::new();
    for host in table.strings("allowed_hosts").map(|hosts| hosts.value).unwrap_or_default() {
        match host_name(&host.value) {
            Ok(host) => allowed_hosts.push(host),
            Err(complaint) => table.complain_entry(host.line, "allowed_hosts", complaint),
        }
    }
    let tls = tls(&mut table, context);
    if tls.is_none() && !listen.ip().to_canonical().is_loopback() {
        context.warn(
            table.line_of("listen").max(table.line()),
            "administrator keys and new secrets would travel in clear: `[admin]` listens beyond \
             this machine and has no `tls`",
            "listen on \"127.0.0.1:9901\", or add `tls = { cert_file = \"tls.crt\", key_file = \
             \"tls.key\" }`",
        );
    }
    let audit_log_placed = Placed::new((), table.line_of("audit_log"));
    let is_stderr = table.is_string("audit_log", "stderr");
    let audit_log = match context.path(&mut table, "audit_log") {
        Some(path) if !is_stderr => AuditLog::File(path),
        _ => AuditLog::Stderr,
    };
    table.finish();
    Some(AdminListener { listen, allowed_hosts, tls, audit_log, audit_log_placed })
}

/// Audit lines that were appended to a file of the gate's own would spoil it.
pub(super) fn check_audit_log(
    root: &Table<'_>,
    admin: &AdminListener,
    namespaces: &[Namespace],
    context: &Context<'_>,
) {
    let AuditLog::File(log) = &admin.audit_log else { return };
    let is_of = |file: &Path| {
        let beside = |ending: &str| {
            let mut name = file.as_os_str().to_owned();
            name.push(ending);
            log.as_os_str() == name
        };
        log == file || beside(".lock") || beside(".usage.json")
    };
    if is_of(context.file) || namespaces.iter().any(|namespace| is_of(&namespace.tokens)) {
        root.problem(
            admin.audit_log_placed.line,
            "`audit_log` is a file that the gate keeps for itself",
            "name a file of its own, such as \"audit.log\"",
        );
    }
}

pub(super) fn forward_auth(
    root: &mut Table<'_>,
    context: &mut Context<'_>,
    addresses: &mut Addresses,
) -> Option<ForwardAuthListener> {
    let mut table = root.table("forward_auth")?;
    let default = SocketAddr::new(HERE, 9903);
    let listen = addresses.take(Some(&mut table), "[forward_auth]", default);
    let mut trusted_peers = Vec::new();
    match table.strings("trusted_peers") {
        None => {
            trusted_peers.push((IpAddr::V4(Ipv4Addr::new(127, 0, 0, 0)), 8));
            trusted_peers.push((IpAddr::V6(Ipv6Addr::LOCALHOST), 128));
        }
        Some(peers) => {
            for peer in peers.value {
                match network(&peer.value) {
                    Ok(peer) => trusted_peers.push(peer),
                    Err(complaint) => table.complain_entry(peer.line, "trusted_peers", complaint),
                }
            }
        }
    }
    let is_wide = |&(network, length): &(IpAddr, u8)| match network {
        // Shorter than the prefixes of private networks, 10.0.0.0/8 and fc00::/7.
        IpAddr::V4(_) => length < 8,
        IpAddr::V6(_) => length < 7,
    };
    if !listen.ip().is_loopback() && trusted_peers.iter().any(is_wide) {
        context.warn(
            table.line_of("trusted_peers"),
            "`trusted_peers` takes the word of most of the network, and `listen` in \
             `[forward_auth]` is not of this machine alone: whoever reaches it can try out what \
             tokens may do",
            "name the gateways' own addresses or networks, or listen on 127.0.0.1",
        );
    }
    table.finish();
    Some(ForwardAuthListener { listen, trusted_peers })
}

fn tls(table: &mut Table<'_>, context: &Context<'_>) -> Option<ServerTls> {
    let mut table = table.table("tls")?;
    table.must_have("cert_file", "write `cert_file = \"tls.crt\"`: the certificate and its chain");
    table.must_have("key_file", "write `key_file = \"tls.key\"`: the private key");
    let cert_file = context.path(&mut table, "cert_file");
    let key_file = context.path(&mut table, "key_file");
    let client_ca_file = context.path(&mut table, "client_ca_file");
    table.finish();
    Some(ServerTls { cert_file: cert_file?, key_file: key_file?, client_ca_file })
}

pub(super) fn log(root: &mut Table<'_>) -> Log {
    let mut log = Log { level: Level::Info, format: LogFormat::Json, access: AccessLog::Denied };
    let Some(mut table) = root.table("log") else { return log };
    let levels = [
        ("error", Level::Error),
        ("warn", Level::Warn),
        ("info", Level::Info),
        ("debug", Level::Debug),
        ("trace", Level::Trace),
    ];
    log.level = choice(&mut table, "level", log.level, &levels);
    let formats = [("json", LogFormat::Json), ("text", LogFormat::Text)];
    log.format = choice(&mut table, "format", log.format, &formats);
    let access = [("all", AccessLog::All), ("denied", AccessLog::Denied), ("off", AccessLog::Off)];
    log.access = choice(&mut table, "access", log.access, &access);
    table.finish();
    log
}

const MILLISECOND: Duration = Duration::from_millis(1);
const DAY: Duration = Duration::from_secs(86_400);
const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

impl Default for Limits {
    fn default() -> Self {
        Self {
            header_timeout: Duration::from_secs(10),
            tls_handshake_timeout: Duration::from_secs(10),
            keep_alive_timeout: Duration::from_secs(75),
            write_idle_timeout: Duration::from_secs(60),
            body_idle_timeout: Duration::from_secs(60),
            max_header_bytes: 32 << 10,
            max_headers: 100,
            max_connections: 10_000,
            max_requests_in_flight: 10_000,
            inspect_body_bytes: 8 << 20,
            inspect_total_bytes: 256 << 20,
            http2_max_streams: 100,
            http2_send_buffer_bytes: 64 << 10,
            end_revoked_streams: true,
        }
    }
}

pub(super) fn limits(root: &mut Table<'_>) -> Limits {
    let mut limits = Limits::default();
    let Some(mut table) = root.table("limits") else { return limits };
    let t = &mut table;
    let timeouts = [
        ("header_timeout", &mut limits.header_timeout),
        ("tls_handshake_timeout", &mut limits.tls_handshake_timeout),
        ("keep_alive_timeout", &mut limits.keep_alive_timeout),
        ("write_idle_timeout", &mut limits.write_idle_timeout),
        ("body_idle_timeout", &mut limits.body_idle_timeout),
    ];
    for (name, timeout) in timeouts {
        *timeout = duration(t, name, *timeout, MILLISECOND..=DAY);
    }
    // Below 8 KiB the parser cannot hold a request line of the longest path that is taken.
    let sizes = [
        ("max_header_bytes", &mut limits.max_header_bytes, 8 * KIB..=MIB),
        ("inspect_body_bytes", &mut limits.inspect_body_bytes, KIB..=GIB),
        ("inspect_total_bytes", &mut limits.inspect_total_bytes, KIB..=1024 * GIB),
        ("http2_send_buffer_bytes", &mut limits.http2_send_buffer_bytes, KIB..=16 * MIB),
    ];
    for (name, bytes, range) in sizes {
        *bytes = size(t, name, *bytes, range);
    }
    let counts = [
        ("max_headers", &mut limits.max_headers, 1..=10_000),
        ("max_connections", &mut limits.max_connections, 1..=1_000_000),
        ("max_requests_in_flight", &mut limits.max_requests_in_flight, 1..=1_000_000),
    ];
    for (name, count, range) in counts {
        *count = number(t, name, *count, range);
    }
    limits.http2_max_streams =
        number(t, "http2_max_streams", limits.http2_max_streams, 1..=100_000);
    if let Some(yes) = t.boolean("end_revoked_streams") {
        limits.end_revoked_streams = yes.value;
    }
    if limits.inspect_total_bytes < limits.inspect_body_bytes {
        t.problem(
            t.line_of("inspect_total_bytes").max(t.line_of("inspect_body_bytes")),
            "`inspect_total_bytes` is less than `inspect_body_bytes`",
            "all bodies together need at least the room of one",
        );
    }
    table.finish();
    limits
}

pub(super) fn drain(root: &mut Table<'_>) -> Drain {
    let mut drain = Drain { delay: Duration::from_secs(5), timeout: Duration::from_secs(30) };
    let Some(mut table) = root.table("drain") else { return drain };
    drain.delay = duration(&mut table, "delay", drain.delay, Duration::ZERO..=DAY);
    drain.timeout = duration(&mut table, "timeout", drain.timeout, Duration::ZERO..=DAY);
    table.finish();
    drain
}
