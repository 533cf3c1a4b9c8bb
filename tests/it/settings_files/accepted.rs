//! What right files put in force.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use faregate::policy::{Access, Moment};
use faregate::settings::{
    AccessLog, AuditLog, CredentialPlace, Endpoint, HostPattern, Level, Limits, LogFormat,
    PrefixSegment, ReadSettings, Scheme,
};
use faregate::strict_toml::{judge_token_file, read_token_file};

use super::{SMALLEST, read, rules, told};
use crate::golden;

#[test]
fn the_smallest_file_has_the_documented_defaults() {
    let ReadSettings { settings, warnings } = read(SMALLEST).unwrap();
    assert_eq!(warnings, []);
    assert_eq!(settings.data.listen, "0.0.0.0:8080".parse::<SocketAddr>().unwrap());
    assert_eq!((settings.data.workers, settings.data.tls), (0, None));
    assert_eq!(settings.ops.listen, "0.0.0.0:9902".parse::<SocketAddr>().unwrap());
    assert_eq!((settings.admin, settings.forward_auth), (None, None));
    assert_eq!(settings.log.level, Level::Info);
    assert_eq!(settings.log.format, LogFormat::Json);
    assert_eq!(settings.log.access, AccessLog::Denied);
    assert_eq!(settings.drain.delay, Duration::from_secs(5));
    assert_eq!(settings.drain.timeout, Duration::from_secs(30));
    assert_eq!(
        settings.limits,
        Limits {
            header_timeout: Duration::from_secs(10),
            tls_handshake_timeout: Duration::from_secs(10),
            keep_alive_timeout: Duration::from_secs(75),
            write_idle_timeout: Duration::from_secs(60),
            body_idle_timeout: Duration::from_secs(60),
            max_header_bytes: 32 * 1024,
            max_headers: 100,
            max_connections: 10_000,
            max_requests_in_flight: 10_000,
            inspect_body_bytes: 8 * 1024 * 1024,
            inspect_total_bytes: 256 * 1024 * 1024,
            http2_max_streams: 100,
            http2_send_buffer_bytes: 64 * 1024,
            end_revoked_streams: true,
        }
    );
    let [namespace] = &settings.namespaces[..] else { panic!("one namespace") };
    assert_eq!(namespace.name, "default");
    assert_eq!(namespace.hosts, [HostPattern::Any]);
    assert_eq!(namespace.tokens, Path::new("etc/tokens.toml"));
    assert_eq!(namespace.profiles, ["ovh"]);
    assert_eq!(
        namespace.credentials,
        [
            CredentialPlace::Bearer,
            CredentialPlace::Header("x-api-key".into()),
            CredentialPlace::Basic
        ]
    );
    assert!(namespace.rules.enforce);
    assert_eq!(namespace.rules.default_model, None);
    assert_eq!(namespace.models, []);
    assert_eq!(namespace.identity_headers.token_id, "x-credential-identifier");
    assert_eq!(namespace.identity_headers.token_name, "x-consumer-username");
    assert_eq!(namespace.identity_headers.groups, "x-authenticated-groups");
    let upstream = &namespace.upstream;
    let endpoint = Endpoint { scheme: Scheme::Http, host: "127.0.0.1".into(), port: 8000 };
    assert_eq!(upstream.endpoints, [endpoint]);
    assert_eq!(upstream.connect_timeout, Duration::from_secs(1));
    assert_eq!(upstream.response_timeout, Duration::from_secs(600));
    assert_eq!(upstream.idle_timeout, Duration::from_secs(4));
    assert_eq!((&upstream.ca_file, &upstream.client_cert), (&None, &None));
    assert_eq!(upstream.authorization_file, None);
}

const WHOLE: &str = r#"
[data]
listen  = "127.0.0.1:0"
workers = 3
tls = { cert_file = "tls.crt", key_file = "/keys/tls.key", client_ca_file = "clients-ca.crt" }

[admin]
listen = "127.0.0.1:9001"
allowed_hosts = ["Gate.Example.", "[0:0::2]"]
audit_log = "audit.log"

[ops]
listen = "[::1]:9002"

[forward_auth]
trusted_peers = ["10.0.0.0/8", "fd00::1"]

[log]
level = "debug"
format = "text"
access = "all"

[limits]
header_timeout = "250ms"
max_header_bytes = "8KiB"
max_headers = 0x10
http2_max_streams = 1_000
end_revoked_streams = false

[drain]
delay = "0s"
timeout = "2h"

[[namespace]]
name = "team-a"
hosts = ["Models.Example.com.", "*.example.com", "[::1]"]
tokens = "a/tokens.toml"
profiles = ["ovh", "kserve-v2"]
credentials = ["websocket-protocol", "header:X-Key", "query:api_key", "cookie:__Host-t", "bearer"]
default_model = "llama"
enforce = false
upstream.endpoints = ["https://Models.internal", "h2c://[::1]:9000", "http://models"]
upstream.ca_file = "ca.crt"
upstream.client_cert_file = "gate.crt"
upstream.client_key_file = "gate.key"
upstream.authorization = { file = "upstream.key" }
upstream.idle_timeout = "1ms"
identity_headers.groups = "X-Groups"

[[namespace.model]]
resource = "*"
endpoints = ["http://127.0.0.1:1"]
[[namespace.model]]
resource = "iris*"
endpoints = ["http://127.0.0.1:2"]
connect_timeout = "5s"
strip_prefix = "/v1/{model}"
[[namespace.model]]
resource = "iris-v1"
endpoints = ["http://127.0.0.1:3"]

[[namespace.route]]
methods = ["*"]
path = "/{model}/eval"
group = "deny"
[[namespace.route]]
methods = ["POST"]
path = "/score"
group = "scoring"
model = ["query:model"]
dialect = "openai"
[[namespace.route]]
methods = ["POST"]
path = "/score"
group = "public"

[[namespace]]
name = "team-b"
tokens = "a/tokens.toml"
route = [{ methods = ["GET"], path = "/", group = "public" }]
upstream = { endpoints = ["http://localhost:8000"] }
"#;

#[test]
fn every_key_has_its_effect() {
    let ReadSettings { settings, warnings } = read(WHOLE).unwrap();
    golden::check("settings_warnings.txt", &format!("{}\n", told(&warnings)));
    let tls = settings.data.tls.unwrap();
    assert_eq!(settings.data.workers, 3);
    assert_eq!(tls.cert_file, Path::new("etc/tls.crt"));
    assert_eq!(tls.key_file, Path::new("/keys/tls.key"));
    assert_eq!(tls.client_ca_file.as_deref(), Some(Path::new("etc/clients-ca.crt")));
    let admin = settings.admin.unwrap();
    assert_eq!(admin.allowed_hosts, ["gate.example", "[::2]"]);
    assert_eq!(admin.audit_log, AuditLog::File("etc/audit.log".into()));
    let forward_auth = settings.forward_auth.unwrap();
    assert_eq!(forward_auth.listen, "127.0.0.1:9903".parse::<SocketAddr>().unwrap());
    let peers = [("10.0.0.0".parse().unwrap(), 8), ("fd00::1".parse().unwrap(), 128)];
    assert_eq!(forward_auth.trusted_peers, peers);
    assert_eq!(settings.log.level, Level::Debug);
    assert_eq!(settings.log.format, LogFormat::Text);
    assert_eq!(settings.log.access, AccessLog::All);
    assert_eq!(settings.limits.header_timeout, Duration::from_millis(250));
    assert_eq!(settings.limits.max_header_bytes, 8192);
    assert_eq!(settings.limits.max_headers, 16);
    assert_eq!(settings.limits.http2_max_streams, 1_000);
    assert!(!settings.limits.end_revoked_streams);
    assert_eq!(settings.drain.delay, Duration::ZERO);
    assert_eq!(settings.drain.timeout, Duration::from_secs(7_200));
    let [a, b] = &settings.namespaces[..] else { panic!("two namespaces") };
    assert_eq!(
        a.hosts,
        [
            HostPattern::Exact("models.example.com".into()),
            HostPattern::Below(".example.com".into()),
            HostPattern::Exact("[::1]".into()),
        ]
    );
    assert_eq!(
        a.credentials,
        [
            CredentialPlace::WebSocketProtocol,
            CredentialPlace::Header("x-key".into()),
            CredentialPlace::Query("api_key".into()),
            CredentialPlace::Cookie("__Host-t".into()),
            CredentialPlace::Bearer,
        ]
    );
    assert_eq!(a.rules.default_model.as_ref().unwrap().as_str(), "llama");
    assert!(!a.rules.enforce);
    let endpoint = |scheme, host: &str, port| Endpoint { scheme, host: host.into(), port };
    assert_eq!(
        a.upstream.endpoints,
        [
            endpoint(Scheme::Https, "models.internal", 443),
            endpoint(Scheme::H2c, "::1", 9000),
            endpoint(Scheme::Http, "models", 80),
        ]
    );
    let (cert, key) = a.upstream.client_cert.clone().unwrap();
    assert_eq!((cert, key), ("etc/gate.crt".into(), "etc/gate.key".into()));
    assert_eq!(a.upstream.authorization_file.as_deref(), Some(Path::new("etc/upstream.key")));
    assert_eq!(a.upstream.idle_timeout, Duration::from_millis(1));
    assert_eq!(a.identity_headers.groups, "x-groups");
    assert_eq!(a.identity_headers.token_id, "x-credential-identifier");
    let order: Vec<String> = a.models.iter().map(|model| model.resource.to_string()).collect();
    assert_eq!(order, ["iris-v1", "iris*", "*"]);
    let strip = a.models[1].strip_prefix.clone().unwrap();
    assert_eq!(strip.0, [PrefixSegment::Literal("v1".into()), PrefixSegment::Model]);
    assert_eq!(a.models[1].upstream.connect_timeout, Duration::from_secs(5));
    assert_eq!(a.models[1].upstream.ca_file, None);
    let routes = a.rules.routes.routes();
    assert_eq!(routes[0].access(), &Access::Deny);
    assert_eq!(routes[1].access(), &Access::Group("scoring".into()));
    let origins: Vec<&str> = routes.iter().map(|route| route.origin().as_str()).collect();
    assert_eq!(origins[..4], ["own", "own", "own", "ovh"]);
    assert_eq!(origins.last(), Some(&"kserve-v2"));
    assert_eq!(b.hosts, [HostPattern::Any]);
    assert_eq!(b.rules.routes.routes().len(), 1);
}

#[test]
fn a_token_file_is_read_with_all_its_keys() {
    let hash = |digit: &str| format!("blake3:{}", digit.repeat(64));
    let text = format!(
        r#"version = 1

[[admin]]
name = "alice"
hash = "{}"

[[token]]
id         = "tk_9ZfQ2mB7xLrA"
name       = "fraud team, batch scoring"
hash       = "{}"
resources  = [
  "iris*",
  "fraud-v2",
]
groups     = ["model-evaluation"]
created_at = 2026-11-23T10:00:00Z
expires_at = 2027-11-23 12:00:00.999+02:00
disabled   = true
previous   = {{ hash = "{}", valid_until = 1970-01-01T00:00:01Z }}

[token.limits]
requests_per_second = 50
burst = 100
max_in_flight = 8

[token.labels]
team = "fraud"
"cost centre" = "42"

[[token]]
id = "b"
hash = "{}"
"#,
        hash("1"),
        hash("2"),
        hash("3"),
        hash("4"),
    );
    let document = read_token_file(&text).unwrap();
    assert_eq!(document.admins[0].name.value, "alice");
    assert_eq!(document.admins[0].hash.line, 5);
    let token = &document.tokens[0];
    assert_eq!((token.id.value.as_str(), token.id.line), ("tk_9ZfQ2mB7xLrA", 8));
    assert_eq!(token.name.as_ref().unwrap().value, "fraud team, batch scoring");
    let resources: Vec<_> = token.resources.iter().map(|r| (r.value.as_str(), r.line)).collect();
    assert_eq!(resources, [("iris*", 12), ("fraud-v2", 13)]);
    assert_eq!(token.groups[0].value, "model-evaluation");
    assert_eq!(token.created_at, Some(Moment(1_795_428_000)));
    assert_eq!(token.expires_at, Some(Moment(1_795_428_000 + 365 * 86_400)));
    assert!(token.disabled);
    let previous = token.previous.as_ref().unwrap();
    assert_eq!((previous.hash.value.clone(), previous.valid_until), (hash("3"), Moment(1)));
    let limits = token.limits.unwrap();
    assert_eq!(
        (limits.requests_per_second, limits.burst, limits.max_in_flight),
        (Some(50), Some(100), Some(8))
    );
    assert_eq!(token.labels["team"], "fraud");
    assert_eq!(token.labels["cost centre"], "42");
    let bare = &document.tokens[1];
    assert!(bare.resources.is_empty() && bare.groups.is_empty() && !bare.disabled);
    assert!(bare.expires_at.is_none() && bare.previous.is_none() && bare.limits.is_none());
    assert!(judge_token_file(&text, rules()).is_ok());
}
