//! Names and addresses: of listeners, hosts, networks and model servers.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use crate::strict_toml::Complaint;

use super::{Endpoint, HostPattern, Scheme};

/// Reads `address:port`, where the address is one of IP.
pub(super) fn listen_address(text: &str) -> Result<SocketAddr, Complaint> {
    text.parse().map_err(|_| {
        Complaint::new(
            "is no address to listen on",
            "write an IP address and a port: \"0.0.0.0:8080\", \"127.0.0.1:8080\" or \"[::]:8080\"",
        )
    })
}

/// Whether two listeners cannot both be opened. Port 0 is another port each time.
pub(super) fn collide(one: SocketAddr, other: SocketAddr) -> bool {
    let (a, b) = (one.ip().to_canonical(), other.ip().to_canonical());
    // The unspecified address of IPv6 takes IPv4 connections too, as systems are set up by default.
    let covers = |wide: IpAddr, narrow: IpAddr| {
        wide.is_unspecified() && (wide.is_ipv6() || narrow.is_ipv4())
    };
    one.port() == other.port() && one.port() != 0 && (a == b || covers(a, b) || covers(b, a))
}

/// Reads a host without port, in lower case and without trailing dot; IPv6 keeps its brackets.
pub(super) fn host_name(text: &str) -> Result<String, Complaint> {
    let complaint = |what: &str| Err(Complaint::new(what, HOST_REMEDY));
    if let Some(rest) = text.strip_prefix('[') {
        let Some((address, after)) = rest.split_once(']') else {
            return complaint("has a `[` without `]`");
        };
        let Ok(address) = address.parse::<Ipv6Addr>() else {
            return complaint("has no IPv6 address between `[` and `]`");
        };
        if !after.is_empty() {
            return complaint("has something after the `]`");
        }
        return Ok(format!("[{address}]"));
    }
    if text.parse::<Ipv6Addr>().is_ok() {
        return complaint("is an IPv6 address without brackets");
    }
    if text.contains("//") {
        return complaint("is a URL");
    }
    if text.contains(':') {
        return complaint("has a port");
    }
    let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
    };
    if name.len() > 253 || !name.split('.').all(is_label) {
        return complaint("is no host name");
    }
    // Resolvers take `127.1` and `2130706433` for addresses; nobody else does.
    let ends_in_number =
        name.rsplit('.').next().is_some_and(|last| last.bytes().all(|b| b.is_ascii_digit()));
    if ends_in_number && name.parse::<std::net::Ipv4Addr>().is_err() {
        return complaint("looks like an IPv4 address and is none");
    }
    Ok(name)
}

const HOST_REMEDY: &str =
    "write a name such as \"models.example.com\", or an address such as \"192.0.2.1\" or \"[::1]\"";

/// Reads a host, `*.name` or `*`.
pub(super) fn host_pattern(text: &str) -> Result<HostPattern, Complaint> {
    if text == "*" {
        return Ok(HostPattern::Any);
    }
    let Some(name) = text.strip_prefix("*.") else {
        if text.contains('*') {
            return Err(Complaint::new(
                "has a `*` in the wrong place",
                "write \"*\" for every host, or \"*.example.com\" for every name below one",
            ));
        }
        return host_name(text).map(HostPattern::Exact);
    };
    let name = host_name(name)?;
    if name.starts_with('[') || name.parse::<IpAddr>().is_ok() {
        return Err(Complaint::new("has a `*` before an address", HOST_REMEDY));
    }
    Ok(HostPattern::Below(format!(".{name}")))
}

/// Reads a network, `192.0.2.0/24`, or a single address.
pub(super) fn network(text: &str) -> Result<(IpAddr, u8), Complaint> {
    let complaint = |what: &str| {
        Complaint::new(what, "write networks such as \"10.0.0.0/8\", \"fd00::/8\" or \"192.0.2.1\"")
    };
    let (address, length) = match text.split_once('/') {
        Some((address, length)) => (address, Some(length)),
        None => (text, None),
    };
    let address: IpAddr = address.parse().map_err(|_| complaint("is no network"))?;
    let (bits, longest) = match address {
        IpAddr::V4(v4) => (u128::from(v4.to_bits()) << 96, 32),
        IpAddr::V6(v6) => (v6.to_bits(), 128),
    };
    let length = match length {
        None => longest,
        Some(text) if !text.starts_with('+') => {
            text.parse().map_err(|_| complaint("is no network"))?
        }
        Some(_) => return Err(complaint("is no network")),
    };
    if length > longest {
        return Err(complaint("has a prefix longer than an address"));
    }
    if bits.checked_shl(u32::from(length)).unwrap_or(0) != 0 {
        return Err(complaint("has an address that is not the first of its network"));
    }
    Ok((address, length))
}

/// Reads the URL of a model server.
pub(super) fn endpoint(text: &str) -> Result<Endpoint, Complaint> {
    const REMEDY: &str = "write a scheme, a host and a port, such as \"http://127.0.0.1:8000\"; https:// and h2c:// are there too";
    let complaint = |what: &str| Complaint::new(what, REMEDY);
    let schemes = [
        ("http://", Scheme::Http, 80),
        ("https://", Scheme::Https, 443),
        ("h2c://", Scheme::H2c, 80),
    ];
    let (scheme, default_port, rest) = schemes
        .into_iter()
        .find_map(|(prefix, scheme, port)| Some((scheme, port, text.strip_prefix(prefix)?)))
        .ok_or_else(|| complaint("does not start with http://, https:// or h2c://"))?;
    if rest.contains('@') {
        return Err(Complaint::new(
            "has a user name or password in it",
            "keep the server's own key in a file and name it: `authorization = { file = \"…\" }`",
        ));
    }
    if rest.contains(['/', '?', '#', '\\']) {
        return Err(Complaint::new(
            "has a path, a query or a trailing slash",
            "write only scheme, host and port; a path is cut off requests by `strip_prefix`",
        ));
    }
    let after_name = match rest.rfind(']') {
        Some(end) => end + 1,
        None => rest.find(':').unwrap_or(rest.len()),
    };
    let (name, port) = rest.split_at(after_name);
    let port = match port.strip_prefix(':') {
        None if port.is_empty() => default_port,
        Some(digits) if digits.bytes().all(|b| b.is_ascii_digit()) => {
            digits.parse().ok().filter(|port| *port > 0).ok_or_else(|| {
                Complaint::new("has no port from 1 to 65535 after the `:`", REMEDY)
            })?
        }
        _ => return Err(complaint("has no port from 1 to 65535 after the host")),
    };
    let host = host_name(name).map_err(|other| complaint(&other.what))?;
    let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    Ok(Endpoint { scheme, host, port })
}

impl Endpoint {
    /// Whether it is on this machine by its name, so that no network is in between.
    pub(super) fn is_loopback(&self) -> bool {
        self.host == "localhost"
            || self.host.ends_with(".localhost")
            || self.host.parse::<IpAddr>().is_ok_and(|ip| ip.to_canonical().is_loopback())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listeners_collide_where_the_system_says_so() {
        for (one, other, expected) in [
            ("0.0.0.0:1", "0.0.0.0:1", true),
            ("0.0.0.0:1", "0.0.0.0:2", false),
            ("0.0.0.0:0", "0.0.0.0:0", false),
            ("0.0.0.0:1", "127.0.0.1:1", true),
            ("127.0.0.1:1", "127.0.0.2:1", false),
            ("[::]:1", "127.0.0.1:1", true),
            ("127.0.0.1:1", "[::]:1", true),
            ("[::]:1", "[::1]:1", true),
            ("0.0.0.0:1", "[::1]:1", false),
            ("[::ffff:127.0.0.1]:1", "127.0.0.1:1", true),
        ] {
            let result = collide(one.parse().unwrap(), other.parse().unwrap());
            assert_eq!(result, expected, "{one} {other}");
        }
    }

    #[test]
    fn hosts_have_one_spelling() {
        use HostPattern::{Any, Below, Exact};
        for (text, expected) in [
            ("*", Some(Any)),
            ("Models.Example.com", Some(Exact("models.example.com".into()))),
            ("models.example.com.", Some(Exact("models.example.com".into()))),
            ("*.Example.com.", Some(Below(".example.com".into()))),
            ("my_host", Some(Exact("my_host".into()))),
            ("192.0.2.1", Some(Exact("192.0.2.1".into()))),
            ("[::1]", Some(Exact("[::1]".into()))),
            ("[0:0::1]", Some(Exact("[::1]".into()))),
            ("", None),
            (".", None),
            ("a..b", None),
            ("a b", None),
            ("é.example", None),
            ("a:80", None),
            ("::1", None),
            ("[::1]:80", None),
            ("[::1", None),
            ("[127.0.0.1]", None),
            ("http://a", None),
            ("a.*", None),
            ("*a", None),
            ("*.", None),
            ("*.192.0.2.1", None),
            ("*.[::1]", None),
            ("127.1", None),
            ("1.2.3.4.5", None),
            (&"a".repeat(64), None),
            (&"a.".repeat(127), Some(Exact("a.".repeat(126) + "a"))),
            (&"a.".repeat(128), None),
        ] {
            assert_eq!(host_pattern(text).ok(), expected, "{text}");
        }
    }

    #[test]
    fn networks_are_whole() {
        for (text, expected) in [
            ("127.0.0.0/8", Some(("127.0.0.0", 8))),
            ("0.0.0.0/0", Some(("0.0.0.0", 0))),
            ("192.0.2.1", Some(("192.0.2.1", 32))),
            ("192.0.2.1/32", Some(("192.0.2.1", 32))),
            ("::1/128", Some(("::1", 128))),
            ("::/0", Some(("::", 0))),
            ("fd00::/8", Some(("fd00::", 8))),
            ("127.0.0.1/8", None),
            ("fd00::1/8", None),
            ("10.0.0.0/33", None),
            ("::/129", None),
            ("10.0.0.0/", None),
            ("10.0.0.0/+8", None),
            ("10.0.0.0/-1", None),
            ("10.0.0/8", None),
            ("example.com", None),
        ] {
            let expected = expected.map(|(address, length)| (address.parse().unwrap(), length));
            assert_eq!(network(text).ok(), expected, "{text}");
        }
    }

    #[test]
    fn endpoints_are_scheme_host_and_port() {
        use Scheme::{H2c, Http, Https};
        for (text, expected) in [
            ("http://127.0.0.1:8000", Some((Http, "127.0.0.1", 8000))),
            ("http://Models.internal", Some((Http, "models.internal", 80))),
            ("https://models.internal", Some((Https, "models.internal", 443))),
            ("h2c://models:9000", Some((H2c, "models", 9000))),
            ("h2c://models", Some((H2c, "models", 80))),
            ("http://[::1]:8000", Some((Http, "::1", 8000))),
            ("http://[::1]", Some((Http, "::1", 80))),
            ("127.0.0.1:8000", None),
            ("ftp://a", None),
            ("HTTP://a", None),
            ("http://", None),
            ("http://:80", None),
            ("http://a/", None),
            ("http://a/b", None),
            ("http://a?b", None),
            ("http://a#b", None),
            ("http://a\\b", None),
            ("http://user:password@a", None),
            ("http://user@a", None),
            ("http://a:", None),
            ("http://a:0", None),
            ("http://a:65536", None),
            ("http://a:+80", None),
            ("http://a:80:80", None),
            ("http://::1", None),
            ("http://[::1", None),
            ("http://[::1]80", None),
            ("http://[a]", None),
            ("http://a b", None),
            ("http://*", None),
            ("http://127.1:80", None),
        ] {
            let expected =
                expected.map(|(scheme, host, port)| Endpoint { scheme, host: host.into(), port });
            assert_eq!(endpoint(text).ok(), expected, "{text}");
        }
    }

    #[test]
    fn loopback_is_what_stays_on_the_machine() {
        for (text, expected) in [
            ("http://127.0.0.1", true),
            ("http://127.9.9.9", true),
            ("http://[::1]", true),
            ("http://[::ffff:127.0.0.1]", true),
            ("http://localhost", true),
            ("http://10.0.0.1", false),
            ("http://models", false),
        ] {
            assert_eq!(endpoint(text).unwrap().is_loopback(), expected, "{text}");
        }
    }
}
