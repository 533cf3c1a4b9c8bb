//! Rule 1 of the decision: the request target and the host, read strictly.
//!
//! hyper takes any scheme, `*`, an authority with `GET`, paths that start with `?`, and neither
//! requires nor checks `Host`; all of that is done here.

use http::{HeaderMap, Uri, header, uri::Scheme};

use crate::policy::Reason;

/// The host a request is for: lower-case, without port and trailing dot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Host<'r> {
    /// As it stands in the request, with its port.
    pub given: &'r str,
    /// Without port and trailing dot, in the letter case of the request.
    pub name: &'r str,
}

/// Reads the host, which must be named once, or equally by `Host` and the target.
///
/// # Errors
/// [`Reason::BadTarget`] for a target that is neither origin-form nor `http(s)` absolute-form,
/// [`Reason::BadHost`] for a host that is missing, named twice, malformed, or differs.
pub fn host<'r>(uri: &'r Uri, headers: &'r HeaderMap) -> Result<Host<'r>, Reason> {
    let authority = uri.authority().map(http::uri::Authority::as_str);
    if let Some(scheme) = uri.scheme() {
        if *scheme != Scheme::HTTP && *scheme != Scheme::HTTPS {
            return Err(Reason::BadTarget);
        }
    } else if authority.is_some() {
        // Authority-form, which is for CONNECT.
        return Err(Reason::BadTarget);
    }
    if !uri.path().starts_with('/') {
        return Err(Reason::BadTarget);
    }
    let mut hosts = headers.get_all(header::HOST).iter();
    let in_header = hosts.next().map(|value| value.to_str().map_err(|_| Reason::BadHost));
    if hosts.next().is_some() {
        return Err(Reason::BadHost);
    }
    let in_header = in_header.transpose()?;
    let given = match (in_header, authority) {
        (None, None) => return Err(Reason::BadHost),
        (Some(one), None) | (None, Some(one)) => one,
        (Some(one), Some(other)) => {
            let default_port = if uri.scheme() == Some(&Scheme::HTTPS) { "443" } else { "80" };
            if !same_host(one, other, default_port) {
                return Err(Reason::BadHost);
            }
            one
        }
    };
    parse(given).ok_or(Reason::BadHost)
}

/// Splits `host[:port]`; none when it is malformed.
fn parse(given: &str) -> Option<Host<'_>> {
    let (name, port) = split_port(given)?;
    if let Some(port) = port {
        let number = port.bytes().all(|b| b.is_ascii_digit()).then(|| port.parse::<u16>().ok());
        if number.flatten().is_none_or(|number| number == 0) {
            return None;
        }
    }
    if let Some(address) = name.strip_prefix('[') {
        let address = address.strip_suffix(']')?;
        address.parse::<std::net::Ipv6Addr>().ok()?;
        return Some(Host { given, name });
    }
    let name = name.strip_suffix('.').unwrap_or(name);
    let label = |label: &str| {
        !label.is_empty()
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
    };
    (name.len() <= 255 && name.split('.').all(label)).then_some(Host { given, name })
}

fn split_port(given: &str) -> Option<(&str, Option<&str>)> {
    let after_name = match given.strip_prefix('[') {
        Some(_) => given.find(']')? + 1,
        None => given.find(':').unwrap_or(given.len()),
    };
    let (name, rest) = given.split_at(after_name);
    match rest.strip_prefix(':') {
        Some(port) => Some((name, Some(port))),
        None => rest.is_empty().then_some((name, None)),
    }
}

fn same_host(one: &str, other: &str, default_port: &str) -> bool {
    let (Some((one, one_port)), Some((other, other_port))) = (split_port(one), split_port(other))
    else {
        return false;
    };
    one.eq_ignore_ascii_case(other)
        && one_port.unwrap_or(default_port) == other_port.unwrap_or(default_port)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn read(target: &str, hosts: &[&str]) -> Result<String, Reason> {
        let uri: Uri = target.parse().unwrap();
        let mut headers = HeaderMap::new();
        for host in hosts {
            headers.append(header::HOST, HeaderValue::from_bytes(host.as_bytes()).unwrap());
        }
        host(&uri, &headers).map(|host| host.name.to_owned())
    }

    #[test]
    fn the_host_is_read_strictly() {
        use Reason::{BadHost, BadTarget};
        for (target, hosts, expected) in [
            ("/", &["a.example"][..], Ok("a.example")),
            ("/", &["A.example:8080"], Ok("A.example")),
            ("/", &["a.example."], Ok("a.example")),
            ("/", &["127.0.0.1:80"], Ok("127.0.0.1")),
            ("/", &["[::1]:80"], Ok("[::1]")),
            ("/", &["[::1]"], Ok("[::1]")),
            ("/", &["my_host"], Ok("my_host")),
            ("http://a.example/", &["a.example"], Ok("a.example")),
            ("http://a.example:80/", &["a.example"], Ok("a.example")),
            ("https://a.example/", &["a.example:443"], Ok("a.example")),
            ("http://a.example/", &["A.EXAMPLE"], Ok("A.EXAMPLE")),
            ("http://a.example/", &[], Ok("a.example")),
            ("/", &[], Err(BadHost)),
            ("/", &[""], Err(BadHost)),
            ("/", &["a", "a"], Err(BadHost)),
            ("/", &["a b"], Err(BadHost)),
            ("/", &["a/../"], Err(BadHost)),
            ("/", &["a@b"], Err(BadHost)),
            ("/", &["user:pass@b"], Err(BadHost)),
            ("/", &["a:0"], Err(BadHost)),
            ("/", &["a:65536"], Err(BadHost)),
            ("/", &["a:"], Err(BadHost)),
            ("/", &["a:+80"], Err(BadHost)),
            ("/", &["a:80:80"], Err(BadHost)),
            ("/", &["[::1"], Err(BadHost)),
            ("/", &["[::1]x"], Err(BadHost)),
            ("/", &["[127.0.0.1]"], Err(BadHost)),
            ("/", &["::1"], Err(BadHost)),
            ("/", &["a..b"], Err(BadHost)),
            ("/", &[".a"], Err(BadHost)),
            ("/", &["."], Err(BadHost)),
            ("/", &["a,b"], Err(BadHost)),
            ("/", &["caf\u{e9}"], Err(BadHost)),
            ("/", &["a%2eb"], Err(BadHost)),
            ("http://a.example/", &["b.example"], Err(BadHost)),
            ("http://a.example:81/", &["a.example"], Err(BadHost)),
            ("ftp://a.example/", &["a.example"], Err(BadTarget)),
            ("a.example:80", &["a.example"], Err(BadTarget)),
            ("*", &["a.example"], Err(BadTarget)),
        ] {
            assert_eq!(read(target, hosts), expected.map(Into::into), "{target} {hosts:?}");
        }
    }
}
