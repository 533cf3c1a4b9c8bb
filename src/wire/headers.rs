//! Which headers pass the gate, in both directions.
//!
//! Strip first, inject after, unconditionally: what the gate says of a caller is set after every
//! spelling of it was removed.

use std::net::IpAddr;

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use smallvec::SmallVec;

use super::credential::CredentialPlaces;
use crate::settings::IdentityHeaders;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PREFIX: HeaderName = HeaderName::from_static("x-forwarded-prefix");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
/// The id by which a request is found in the logs of both sides.
pub const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Why the gate refused.
pub const FAREGATE_REASON: HeaderName = HeaderName::from_static("faregate-reason");

/// What a namespace says about headers, in the form requests are compared with.
#[derive(Debug)]
pub struct HeaderRules {
    /// Where credentials may stand.
    pub credentials: CredentialPlaces,
    /// Carries the token's id.
    pub token_id: HeaderName,
    /// Carries the token's name.
    pub token_name: HeaderName,
    /// Carries the token's groups.
    pub groups: HeaderName,
}

/// Header names in the settings that are none.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is not a header name")]
pub struct BadHeaderName(String);

impl HeaderRules {
    /// The rules of a namespace.
    ///
    /// # Errors
    /// When an identity header's name is none; the reading of the settings has excluded that.
    pub fn new(
        credentials: CredentialPlaces,
        names: &IdentityHeaders,
    ) -> Result<Self, BadHeaderName> {
        let name = |name: &String| name.parse().map_err(|_| BadHeaderName(name.clone()));
        Ok(Self {
            credentials,
            token_id: name(&names.token_id)?,
            token_name: name(&names.token_name)?,
            groups: name(&names.groups)?,
        })
    }

    /// The names of the identity headers.
    #[must_use]
    pub fn identity_names(&self) -> [&HeaderName; 3] {
        [&self.token_id, &self.token_name, &self.groups]
    }

    fn is_identity(&self, name: &HeaderName) -> bool {
        self.identity_names().into_iter().any(|own| name == own || is_taken_for(name, own))
    }

    /// Whether a client's header is not for the model server because of what it is taken for: a
    /// credential, an identity header, another method or path. No name with `_` is, by which
    /// servers that know headers as variables take one for the other.
    #[must_use]
    pub fn is_withheld(&self, name: &HeaderName) -> bool {
        is_override(name)
            || self.credentials.is_credential_header(name)
            || self.is_identity(name)
            || name.as_str().contains('_')
    }

    /// Whether a header is one that a model server may take for an identity header under another
    /// name, or for another method or path. Whoever cannot take it out must not let it pass.
    #[must_use]
    pub fn may_deceive(&self, name: &HeaderName) -> bool {
        is_override(name) || (self.is_identity(name) && !self.identity_names().contains(&name))
    }

    /// Whether a trailer field of a request may pass: nothing that is a credential, says who calls,
    /// frames the message or steers a hop.
    fn may_trail(&self, name: &HeaderName) -> bool {
        !name.as_str().contains('_')
            && !self.is_identity(name)
            && !self.credentials.is_credential_header(name)
            && !is_hop_by_hop(name)
            && !is_override(name)
            && !name.as_str().starts_with("x-forwarded-")
            && *name != X_REQUEST_ID
            && !matches!(
                *name,
                header::CONTENT_LENGTH
                    | header::HOST
                    | header::AUTHORIZATION
                    | header::COOKIE
                    | header::CONTENT_TYPE
                    | header::CONTENT_ENCODING
                    | header::FORWARDED
                    | header::SEC_WEBSOCKET_PROTOCOL
            )
    }

    /// Removes from request trailers what may not pass.
    pub fn clean_request_trailers(&self, trailers: &mut HeaderMap) {
        remove_where(trailers, |name| !self.may_trail(name));
    }

    /// Removes from a request's headers everything that is not for the model server. Framing
    /// headers go too: the message is framed anew.
    ///
    /// What is said of `TE` and `Upgrade` must be read before.
    pub fn clean_request(&self, headers: &mut HeaderMap) {
        let mut named: SmallVec<[HeaderName; 4]> = SmallVec::new();
        for line in headers.get_all(header::CONNECTION) {
            for token in line.as_bytes().split(|&byte| byte == b',') {
                if let Ok(name) = HeaderName::from_bytes(token.trim_ascii()) {
                    named.push(name);
                }
            }
        }
        self.credentials.strip(headers);
        remove_where(headers, |name| {
            is_hop_by_hop(name)
                || *name == header::CONTENT_LENGTH
                || *name == header::EXPECT
                || *name == header::FORWARDED
                || self.is_withheld(name)
                || (name.as_str().starts_with("x-forwarded-") && *name != X_FORWARDED_FOR)
                // The client may not take away by `Connection` what tells hosts apart.
                || (*name != header::HOST && named.contains(name))
        });
    }
}

/// Who calls, for the model server.
#[derive(Debug)]
pub struct Identity<'p> {
    /// The token's id.
    pub token_id: &'p str,
    /// Its name.
    pub token_name: Option<&'p str>,
    /// Its groups.
    pub groups: &'p [Box<str>],
}

impl HeaderRules {
    /// Tells the model server who calls. A text that no header can hold is left out.
    pub fn set_identity(&self, headers: &mut HeaderMap, identity: &Identity<'_>) {
        let mut set = |name: &HeaderName, value: &[u8]| {
            if let Ok(value) = HeaderValue::from_bytes(value) {
                headers.insert(name, value);
            }
        };
        set(&self.token_id, identity.token_id.as_bytes());
        if let Some(name) = identity.token_name {
            set(&self.token_name, name.as_bytes());
        }
        if let [group] = identity.groups {
            set(&self.groups, group.as_bytes());
        } else {
            set(&self.groups, identity.groups.join(", ").as_bytes());
        }
    }
}

/// Where a request came from, for the model server.
#[derive(Debug)]
pub struct Forwarded<'r> {
    /// The client.
    pub peer: IpAddr,
    /// Whether it came by TLS.
    pub by_tls: bool,
    /// The host it asked for, as it wrote it.
    pub host: &'r HeaderValue,
    /// What was cut off the path.
    pub prefix: Option<&'r str>,
}

/// Tells the model server where a request came from.
pub fn set_forwarded(headers: &mut HeaderMap, forwarded: &Forwarded<'_>) {
    use std::fmt::Write as _;
    let mut chain = String::new();
    for line in headers.get_all(X_FORWARDED_FOR) {
        if let Ok(line) = line.to_str() {
            chain.push_str(line.trim());
            chain.push_str(", ");
        }
    }
    // Writing to a string cannot fail.
    let _ = write!(chain, "{}", forwarded.peer);
    if let Ok(chain) = HeaderValue::try_from(chain) {
        headers.insert(X_FORWARDED_FOR, chain);
    }
    let proto = HeaderValue::from_static(if forwarded.by_tls { "https" } else { "http" });
    headers.insert(X_FORWARDED_PROTO, proto);
    headers.insert(X_FORWARDED_HOST, forwarded.host.clone());
    if let Some(prefix) = forwarded.prefix
        && let Ok(prefix) = HeaderValue::from_str(prefix)
    {
        headers.insert(X_FORWARDED_PREFIX, prefix);
    }
}

/// A client's request id that may be taken over: 1 to 128 characters of `A-Za-z0-9._-`, once.
#[must_use]
pub fn sane_request_id(headers: &HeaderMap) -> Option<&HeaderValue> {
    let mut lines = headers.get_all(X_REQUEST_ID).iter();
    let id = lines.next()?;
    let sane = (1..=128).contains(&id.len())
        && id.as_bytes().iter().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(b));
    (sane && lines.next().is_none()).then_some(id)
}

/// The request's id: the client's if it is sane, else a new one of 32 hexadecimal digits.
#[must_use]
pub fn request_id(headers: &HeaderMap) -> HeaderValue {
    if let Some(id) = sane_request_id(headers) {
        return id.clone();
    }
    let mut digits = [0u8; 32];
    for (place, byte) in fastrand::u128(..).to_be_bytes().into_iter().enumerate() {
        digits[place * 2] = b"0123456789abcdef"[usize::from(byte >> 4)];
        digits[place * 2 + 1] = b"0123456789abcdef"[usize::from(byte & 15)];
    }
    let id = bytes::Bytes::copy_from_slice(&digits);
    HeaderValue::from_maybe_shared(id).unwrap_or_else(|_| HeaderValue::from_static("none"))
}

/// Whether a request is framed as every server reads alike: `chunked` is the only coding, once.
/// hyper refuses any other as the last one, but lets `gzip, chunked` and two lines pass.
#[must_use]
pub fn is_framed_plainly(headers: &HeaderMap) -> bool {
    let mut lines = headers.get_all(header::TRANSFER_ENCODING).iter();
    match lines.next() {
        None => true,
        Some(line) => {
            lines.next().is_none() && line.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked")
        }
    }
}

/// Removes from a request what would make its answer a part of the whole, an encoded one, or none:
/// the gate has to read it.
pub fn ask_for_the_whole(headers: &mut HeaderMap) {
    for name in [
        header::ACCEPT_ENCODING,
        header::RANGE,
        header::IF_RANGE,
        header::IF_MATCH,
        header::IF_NONE_MATCH,
        header::IF_MODIFIED_SINCE,
        header::IF_UNMODIFIED_SINCE,
    ] {
        headers.remove(name);
    }
}

/// Removes from a response what no longer holds once its body was cut down.
pub fn forget_the_whole(headers: &mut HeaderMap) {
    for name in [
        header::CONTENT_LENGTH,
        header::ETAG,
        header::LAST_MODIFIED,
        header::ACCEPT_RANGES,
        HeaderName::from_static("content-md5"),
        HeaderName::from_static("digest"),
        HeaderName::from_static("content-digest"),
        HeaderName::from_static("repr-digest"),
    ] {
        headers.remove(name);
    }
}

/// Removes from a response what is between the model server and the gate, and what only the gate
/// may say.
pub fn clean_response(headers: &mut HeaderMap) {
    let mut named: SmallVec<[HeaderName; 4]> = SmallVec::new();
    for line in headers.get_all(header::CONNECTION) {
        for token in line.as_bytes().split(|&byte| byte == b',') {
            if let Ok(name) = HeaderName::from_bytes(token.trim_ascii()) {
                named.push(name);
            }
        }
    }
    let is_chunked = headers.contains_key(header::TRANSFER_ENCODING);
    remove_where(headers, |name| {
        is_hop_by_hop(name)
            || *name == FAREGATE_REASON
            // The length of a chunked body is what its chunks say (RFC 9112, section 6.3).
            || (is_chunked && *name == header::CONTENT_LENGTH)
            || (named.contains(name) && *name != header::CONTENT_LENGTH)
    });
}

/// Whether the client asks to go on in another protocol, and in which. `h2c` is none that could be
/// let through: what follows would be requests that nobody judges.
#[must_use]
pub fn wanted_upgrade(headers: &HeaderMap) -> Option<HeaderValue> {
    let asks = headers.get_all(header::CONNECTION).iter().any(|line| {
        line.as_bytes()
            .split(|&byte| byte == b',')
            .any(|token| token.trim_ascii().eq_ignore_ascii_case(b"upgrade"))
    });
    let mut lines = headers.get_all(header::UPGRADE).iter();
    let protocol = lines.next()?;
    let is_one = lines.next().is_none()
        && !protocol.is_empty()
        && protocol.as_bytes().iter().all(|b| b.is_ascii_graphic() && *b != b',');
    let is_http = protocol.as_bytes().to_ascii_lowercase();
    (asks && is_one && !is_http.starts_with(b"h2") && !is_http.starts_with(b"http"))
        .then(|| protocol.clone())
}

/// Whether the client takes trailers in the response, which gRPC requires.
#[must_use]
pub fn takes_trailers(headers: &HeaderMap) -> bool {
    headers.get_all(header::TE).iter().any(|line| {
        line.as_bytes()
            .split(|&byte| byte == b',')
            .any(|token| token.trim_ascii().eq_ignore_ascii_case(b"trailers"))
    })
}

/// Whether it is a gRPC request by its content type.
#[must_use]
pub fn is_grpc(headers: &HeaderMap) -> bool {
    headers.get(header::CONTENT_TYPE).is_some_and(|content_type| {
        let content_type = content_type.as_bytes();
        content_type.len() >= 16 && content_type[..16].eq_ignore_ascii_case(b"application/grpc")
    })
}

/// Whether a server that knows headers as variables (`HTTP_X_CONSUMER_USERNAME`) takes one for the
/// other: such servers write `_` for whatever is no letter or digit.
fn is_taken_for(name: &HeaderName, own: &HeaderName) -> bool {
    let (name, own) = (name.as_str().as_bytes(), own.as_str().as_bytes());
    let same =
        |(a, b): (&u8, &u8)| a == b || !(a.is_ascii_alphanumeric() || b.is_ascii_alphanumeric());
    name.len() == own.len() && name.iter().zip(own).all(same)
}

fn is_hop_by_hop(name: &HeaderName) -> bool {
    matches!(
        name.as_str(),
        "connection"
            | "keep-alive"
            | "proxy-connection"
            | "proxy-authorization"
            | "proxy-authenticate"
            | "te"
            | "transfer-encoding"
            | "upgrade"
            | "http2-settings"
    )
}

/// Headers by which some frameworks take another method or path than the request line's.
fn is_override(name: &HeaderName) -> bool {
    matches!(
        name.as_str(),
        "x-http-method-override"
            | "x-http-method"
            | "x-method-override"
            | "x-original-url"
            | "x-original-uri"
            | "x-original-method"
            | "x-rewrite-url"
            | "x-envoy-original-path"
    )
}

fn remove_where(headers: &mut HeaderMap, goes: impl Fn(&HeaderName) -> bool) {
    let going: SmallVec<[HeaderName; 8]> =
        headers.keys().filter(|name| goes(name)).cloned().collect();
    for name in going {
        headers.remove(name);
    }
}
