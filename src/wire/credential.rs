//! Where a credential may stand in a request, how it is read, and how it is taken out.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{self, Entry};
use http::{HeaderMap, HeaderName, HeaderValue};
use zeroize::Zeroizing;

use crate::settings::CredentialPlace;
use crate::token::Presented;

/// The prefix of the WebSocket subprotocol that carries a token.
const SUBPROTOCOL_PREFIX: &str = "faregate.token.";

/// The places of a namespace, in the form requests are compared with.
#[derive(Debug, Default)]
pub struct CredentialPlaces {
    bearer: bool,
    basic: bool,
    headers: Vec<HeaderName>,
    query: Vec<String>,
    cookies: Vec<String>,
    websocket_protocol: bool,
}

/// What a request presents.
pub enum Credential<'r> {
    /// Nothing.
    Missing,
    /// One credential, in one place or equally in several.
    Presented(Claim<'r>),
    /// Two that differ, or one place twice.
    Ambiguous,
}

/// A credential and the user name beside it.
pub struct Claim<'r> {
    secret: SecretBytes<'r>,
    user: Option<Zeroizing<String>>,
}

enum SecretBytes<'r> {
    Borrowed(&'r [u8]),
    Decoded(Zeroizing<Vec<u8>>),
}

impl<'r> Claim<'r> {
    fn borrowed(bytes: &'r [u8]) -> Self {
        Self { secret: SecretBytes::Borrowed(bytes), user: None }
    }

    fn decoded(bytes: Vec<u8>, user: Option<String>) -> Self {
        Self { secret: SecretBytes::Decoded(Zeroizing::new(bytes)), user: user.map(Zeroizing::new) }
    }

    /// What was presented.
    #[must_use]
    pub fn secret(&self) -> Presented<'_> {
        Presented::new(match &self.secret {
            SecretBytes::Borrowed(bytes) => bytes,
            SecretBytes::Decoded(bytes) => bytes,
        })
    }

    /// The user name beside it, or the empty one.
    #[must_use]
    pub fn user(&self) -> &str {
        self.user.as_ref().map_or("", |user| user.as_str())
    }
}

/// Collects what the places hold.
#[derive(Default)]
struct Found<'r> {
    claim: Option<Claim<'r>>,
    ambiguous: bool,
}

impl<'r> Found<'r> {
    fn add(&mut self, claim: Claim<'r>) {
        match &mut self.claim {
            None => self.claim = Some(claim),
            Some(before) if before.secret().bytes() == claim.secret().bytes() => {
                if before.user().is_empty() {
                    before.user = claim.user;
                } else if !claim.user().is_empty() && before.user() != claim.user() {
                    self.ambiguous = true;
                }
            }
            Some(_) => self.ambiguous = true,
        }
    }

    /// The claims of one place, which may hold one.
    fn add_place(&mut self, mut claims: impl Iterator<Item = Claim<'r>>) {
        if let Some(claim) = claims.next() {
            self.add(claim);
        }
        if claims.next().is_some() {
            self.ambiguous = true;
        }
    }
}

impl CredentialPlaces {
    /// The places as the settings name them.
    #[must_use]
    pub fn new(places: &[CredentialPlace]) -> Self {
        let mut own = Self::default();
        for place in places {
            match place {
                CredentialPlace::Bearer => own.bearer = true,
                CredentialPlace::Basic => own.basic = true,
                CredentialPlace::Header(name) => own.headers.extend(name.parse::<HeaderName>()),
                CredentialPlace::Query(name) => own.query.push(name.clone()),
                CredentialPlace::Cookie(name) => own.cookies.push(name.clone()),
                CredentialPlace::WebSocketProtocol => own.websocket_protocol = true,
            }
        }
        own
    }

    /// Whether the scheme `Basic` is read, so that a browser may be asked for it.
    #[must_use]
    pub fn takes_basic(&self) -> bool {
        self.basic
    }

    /// Whether a header of this name is a credential as a whole, to be removed always.
    #[must_use]
    pub fn is_credential_header(&self, name: &HeaderName) -> bool {
        (*name == header::AUTHORIZATION && (self.bearer || self.basic))
            || self.headers.iter().any(|own| own == name)
    }

    /// Reads every place.
    #[must_use]
    pub fn read<'r>(
        &self,
        headers: &'r HeaderMap,
        query: Option<&'r str>,
        is_upgrade: bool,
    ) -> Credential<'r> {
        let mut found = Found::default();
        if self.bearer || self.basic {
            let mut lines = headers.get_all(header::AUTHORIZATION).iter();
            if let Some(line) = lines.next() {
                found.ambiguous |= lines.next().is_some();
                if let Some(claim) = self.authorization(line.as_bytes()) {
                    found.add(claim);
                }
            }
        }
        for name in &self.headers {
            found.add_place(headers.get_all(name).iter().map(|v| Claim::borrowed(v.as_bytes())));
        }
        if let Some(query) = query {
            for name in &self.query {
                found.add_place(query_values(query, name));
            }
        }
        for name in &self.cookies {
            let named = cookies(headers).filter(|(key, _)| *key == name.as_bytes());
            found.add_place(named.map(|(_, value)| Claim::borrowed(value)));
        }
        if self.websocket_protocol && is_upgrade {
            found.add_place(subprotocols(headers).filter_map(|protocol| {
                protocol.strip_prefix(SUBPROTOCOL_PREFIX).map(|s| Claim::borrowed(s.as_bytes()))
            }));
        }
        match found {
            Found { ambiguous: true, .. } => Credential::Ambiguous,
            Found { claim: Some(claim), .. } => Credential::Presented(claim),
            Found { claim: None, .. } => Credential::Missing,
        }
    }

    fn authorization<'r>(&self, value: &'r [u8]) -> Option<Claim<'r>> {
        let end = value.iter().position(|&b| b == b' ' || b == b'\t').unwrap_or(value.len());
        let (scheme, rest) = value.split_at(end);
        let rest = rest.trim_ascii();
        if self.bearer && scheme.eq_ignore_ascii_case(b"bearer") {
            return Some(Claim::borrowed(rest));
        }
        if self.basic && scheme.eq_ignore_ascii_case(b"basic") {
            // What does not decode is presented as it is, to be refused as unknown.
            return Some(basic(rest).unwrap_or_else(|| Claim::borrowed(b"")));
        }
        None
    }

    /// Takes every credential out of the headers, whatever was decided. Headers that are one as a
    /// whole are left to who walks the headers anyway, by [`Self::is_credential_header`].
    pub fn strip(&self, headers: &mut HeaderMap) {
        if !self.cookies.is_empty() {
            self.strip_cookies(headers);
        }
        if self.websocket_protocol && headers.contains_key(header::SEC_WEBSOCKET_PROTOCOL) {
            let kept: Vec<&str> = subprotocols(headers)
                .filter(|protocol| !protocol.starts_with(SUBPROTOCOL_PREFIX))
                .collect();
            let kept = HeaderValue::from_str(&kept.join(", ")).ok().filter(|kept| !kept.is_empty());
            match kept {
                Some(kept) => drop(headers.insert(header::SEC_WEBSOCKET_PROTOCOL, kept)),
                None => drop(headers.remove(header::SEC_WEBSOCKET_PROTOCOL)),
            }
        }
    }

    fn strip_cookies(&self, headers: &mut HeaderMap) {
        let is_ours = |key: &[u8]| self.cookies.iter().any(|own| own.as_bytes() == key);
        if !cookies(headers).any(|(key, _)| is_ours(key)) {
            return;
        }
        let Entry::Occupied(entry) = headers.entry(header::COOKIE) else { return };
        let (_, lines) = entry.remove_entry_mult();
        let kept: Vec<Vec<u8>> = lines
            .filter_map(|line| {
                let pairs: Vec<&[u8]> = line
                    .as_bytes()
                    .split(|&b| b == b';')
                    .map(<[u8]>::trim_ascii)
                    .filter(|pair| !pair.is_empty() && !is_ours(split_pair(pair).0))
                    .collect();
                (!pairs.is_empty()).then(|| pairs.join(&b"; "[..]))
            })
            .collect();
        for line in kept {
            if let Ok(line) = HeaderValue::from_bytes(&line) {
                headers.append(header::COOKIE, line);
            }
        }
    }

    /// The query without credentials: the same text when there was none in it.
    #[must_use]
    pub fn strip_query<'q>(&self, query: &'q str) -> Cow<'q, str> {
        let is_ours = |pair: &str| {
            let name = pair.split_once('=').map_or(pair, |(name, _)| name);
            self.query.iter().any(|own| decoded(name).is_some_and(|name| name == own.as_bytes()))
        };
        if self.query.is_empty() || !query.split(['&', ';']).any(is_ours) {
            return Cow::Borrowed(query);
        }
        let kept: String = query
            .split_inclusive(['&', ';'])
            .filter(|pair| !is_ours(pair.trim_end_matches(['&', ';'])))
            .collect();
        Cow::Owned(kept.trim_end_matches(['&', ';']).into())
    }
}

fn basic(encoded: &[u8]) -> Option<Claim<'static>> {
    let decoded = Zeroizing::new(STANDARD.decode(encoded).ok()?);
    let colon = decoded.iter().position(|&byte| byte == b':')?;
    let (user, password) = decoded.split_at(colon);
    let user = std::str::from_utf8(user).ok()?.to_owned();
    Some(Claim::decoded(password.get(1..)?.to_vec(), Some(user)))
}

fn query_values<'r>(query: &'r str, name: &str) -> impl Iterator<Item = Claim<'r>> {
    query.split(['&', ';']).filter_map(move |pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        if decoded(key)? != name.as_bytes() {
            return None;
        }
        Some(match decoded(value) {
            Some(Cow::Borrowed(value)) => Claim::borrowed(value),
            Some(Cow::Owned(value)) => Claim::decoded(value, None),
            None => Claim::borrowed(b""),
        })
    })
}

/// Percent escapes and `+` decoded; none when an escape is broken.
fn decoded(text: &str) -> Option<Cow<'_, [u8]>> {
    if !text.contains(['%', '+']) {
        return Some(Cow::Borrowed(text.as_bytes()));
    }
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let (byte, after) = match first {
            b'+' => (b' ', after),
            b'%' => {
                let digits = std::str::from_utf8(after.get(..2)?).ok()?;
                (u8::from_str_radix(digits, 16).ok()?, after.get(2..)?)
            }
            plain => (plain, after),
        };
        out.push(byte);
        rest = after;
    }
    Some(Cow::Owned(out))
}

fn cookies(headers: &HeaderMap) -> impl Iterator<Item = (&[u8], &[u8])> {
    headers
        .get_all(header::COOKIE)
        .iter()
        .flat_map(|line| line.as_bytes().split(|&b| b == b';'))
        .map(|pair| split_pair(pair.trim_ascii()))
}

fn split_pair(pair: &[u8]) -> (&[u8], &[u8]) {
    match pair.iter().position(|&b| b == b'=') {
        Some(place) => (pair[..place].trim_ascii_end(), pair[place + 1..].trim_ascii_start()),
        None => (pair, b""),
    }
}

fn subprotocols(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    headers
        .get_all(header::SEC_WEBSOCKET_PROTOCOL)
        .iter()
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(','))
        .map(str::trim)
        .filter(|protocol| !protocol.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places() -> CredentialPlaces {
        CredentialPlaces::new(&[
            CredentialPlace::Bearer,
            CredentialPlace::Basic,
            CredentialPlace::Header("x-api-key".into()),
            CredentialPlace::Query("access_token".into()),
            CredentialPlace::Cookie("token".into()),
            CredentialPlace::WebSocketProtocol,
        ])
    }

    fn headers(lines: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            let name: HeaderName = name.parse().unwrap();
            headers.append(name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        headers
    }

    fn read(lines: &[(&str, &str)], query: Option<&str>) -> String {
        match places().read(&headers(lines), query, true) {
            Credential::Missing => "missing".into(),
            Credential::Ambiguous => "ambiguous".into(),
            Credential::Presented(claim) => {
                let secret = String::from_utf8_lossy(claim.secret().bytes()).into_owned();
                format!("{}:{secret}", claim.user())
            }
        }
    }

    #[test]
    fn every_place_is_read() {
        for (lines, query, expected) in [
            (&[][..], None, "missing"),
            (&[("authorization", "Bearer s")], None, ":s"),
            (&[("authorization", "bEaReR   s")], None, ":s"),
            (&[("authorization", "Bearer")], None, ":"),
            (&[("authorization", "Bearer s t")], None, ":s t"),
            (&[("authorization", "Basic OnM=")], None, ":s"),
            (&[("authorization", "basic dTpzOnQ=")], None, "u:s:t"),
            (&[("authorization", "Basic !")], None, ":"),
            (&[("authorization", "Digest s")], None, "missing"),
            (&[("x-api-key", "s")], None, ":s"),
            (&[], Some("a=1&access_token=s"), ":s"),
            (&[], Some("access%5Ftoken=%73"), ":s"),
            (&[("cookie", "a=b; token=s; c=d")], None, ":s"),
            (&[("sec-websocket-protocol", "chat, faregate.token.s")], None, ":s"),
            (&[("authorization", "Bearer s"), ("x-api-key", "s")], None, ":s"),
            (&[("authorization", "Bearer s"), ("x-api-key", "t")], None, "ambiguous"),
            (&[("authorization", "Bearer s"), ("authorization", "Bearer s")], None, "ambiguous"),
            (&[("x-api-key", "s"), ("x-api-key", "s")], None, "ambiguous"),
            (&[("cookie", "token=s"), ("cookie", "token=s")], None, "ambiguous"),
            (&[], Some("access_token=s&access_token=s"), "ambiguous"),
            (&[("x-api-key", "s")], Some("access_token=t"), "ambiguous"),
            (
                &[("sec-websocket-protocol", "faregate.token.s, faregate.token.s")],
                None,
                "ambiguous",
            ),
        ] {
            assert_eq!(read(lines, query), expected, "{lines:?} {query:?}");
        }
    }

    #[test]
    fn every_place_is_emptied_and_the_rest_kept() {
        let mut lines = headers(&[
            ("cookie", "a=b; token=s;c=d"),
            ("cookie", "token=s"),
            ("sec-websocket-protocol", "faregate.token.s, chat"),
        ]);
        places().strip(&mut lines);
        assert_eq!(lines, headers(&[("cookie", "a=b; c=d"), ("sec-websocket-protocol", "chat")]));
        for (query, expected) in [
            ("a=1", "a=1"),
            ("access_token=s", ""),
            ("a=1&access_token=s", "a=1"),
            ("access_token=s&a=1", "a=1"),
            ("a=1&access_token=s&b=%20", "a=1&b=%20"),
            ("a=1;access%5ftoken=s;b", "a=1;b"),
            ("a=1&&b", "a=1&&b"),
        ] {
            assert_eq!(places().strip_query(query), expected, "{query}");
        }
    }

    #[test]
    fn a_subprotocol_counts_on_upgrades_only() {
        let lines = headers(&[("sec-websocket-protocol", "faregate.token.s")]);
        assert!(matches!(places().read(&lines, None, false), Credential::Missing));
    }
}
