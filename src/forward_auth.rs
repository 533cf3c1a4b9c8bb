//! Answers to other gateways: whether a request that came to them may go on.
//!
//! A gateway asks in one of two languages: by HTTP, with the request named in headers (`http`), or
//! by Envoy's `ext_authz` over gRPC (`ext_authz`). Both become one `Question`, which
//! is judged by the same law and for the same reasons as a request on the data plane. What differs
//! is who forwards: the gateway does, so what the gate cannot do on the way (cut down lists, end
//! running answers) it does not promise, and what a gateway could get wrong it refuses.

mod ext_authz;
mod http;
mod question;
mod record;

use std::net::IpAddr;
use std::rc::Rc;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, PoisonError};

use ::http::header::{self, HeaderValue};
use ::http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use tonic::body::Body;

use crate::live::Live;
use crate::settings::ForwardAuthListener;
use crate::telemetry::metrics::Metrics;

/// The listener's state; belongs to the thread it is made on.
pub struct ForwardAuth {
    live: Arc<Live>,
    metrics: Arc<Metrics>,
    judging: Judging,
    trusted_peers: Vec<(IpAddr, u8)>,
    /// Bytes of questions that are being received, all together.
    held: Arc<AtomicUsize>,
}

/// Held while a question is judged, so that others can wait for the end of that.
#[derive(Debug, Clone, Default)]
pub struct Judging(Arc<Mutex<()>>);

impl Judging {
    /// Returns when no question is judged by a policy that was replaced before the call.
    pub fn wait(&self) {
        drop(self.enter());
    }

    fn enter(&self) -> std::sync::MutexGuard<'_, ()> {
        // It guards no data that a panic could have left half done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ForwardAuth {
    /// The state of a listener with these settings.
    #[must_use]
    pub fn new(
        settings: &ForwardAuthListener,
        live: Arc<Live>,
        metrics: Arc<Metrics>,
        judging: Judging,
    ) -> Rc<Self> {
        let trusted_peers = settings.trusted_peers.clone();
        Rc::new(Self { live, metrics, judging, trusted_peers, held: Arc::default() })
    }

    /// Deadlines and sizes in force.
    #[must_use]
    pub fn limits(&self) -> crate::settings::Limits {
        self.live.gate().limits
    }

    /// Whether a peer's word about requests is taken.
    #[must_use]
    pub fn trusts(&self, peer: IpAddr) -> bool {
        self.trusted_peers.iter().any(|network| contains(*network, peer))
    }

    /// Answers a question of a peer, which is a canonical address. A peer that is not trusted
    /// learns nothing, not even whether its question was one.
    pub async fn answer(
        self: Rc<Self>,
        peer: IpAddr,
        request: Request<Incoming>,
    ) -> Response<Body> {
        if !self.trusts(peer) {
            return refused_to_a_stranger();
        }
        if ext_authz::is_check(&request) {
            ext_authz::check(self, peer, request).await
        } else {
            http::answer(&self, peer, request).await
        }
    }

    /// What is answered when answering failed.
    #[must_use]
    pub fn failed(&self) -> Response<Body> {
        with_status(StatusCode::INTERNAL_SERVER_ERROR)
    }
}

fn refused_to_a_stranger() -> Response<Body> {
    with_status(StatusCode::FORBIDDEN)
}

fn with_status(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// Whether an address is of a network, given as its first address and the length of its prefix.
fn contains((network, length): (IpAddr, u8), address: IpAddr) -> bool {
    let (network, address, bits) = match (network, address) {
        (IpAddr::V4(network), IpAddr::V4(address)) => {
            (u128::from(network.to_bits()), u128::from(address.to_bits()), 32)
        }
        (IpAddr::V6(network), IpAddr::V6(address)) => (network.to_bits(), address.to_bits(), 128),
        _ => return false,
    };
    let host_bits = bits - u32::from(length).min(bits);
    let prefix = |address: u128| address.checked_shr(host_bits).unwrap_or(0);
    prefix(network) == prefix(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_holds_the_addresses_that_begin_like_it() {
        for (network, length, address, is_in) in [
            ("127.0.0.0", 8, "127.0.0.1", true),
            ("127.0.0.0", 8, "127.255.255.255", true),
            ("127.0.0.0", 8, "128.0.0.0", false),
            ("192.0.2.1", 32, "192.0.2.1", true),
            ("192.0.2.1", 32, "192.0.2.2", false),
            ("0.0.0.0", 0, "203.0.113.9", true),
            ("0.0.0.0", 0, "::1", false),
            ("::1", 128, "::1", true),
            ("::1", 128, "::2", false),
            ("::", 0, "2001:db8::1", true),
            ("::", 0, "127.0.0.1", false),
            ("fd00::", 8, "fdff::1", true),
            ("fd00::", 8, "fe80::1", false),
        ] {
            let network = (network.parse().unwrap(), length);
            assert_eq!(contains(network, address.parse().unwrap()), is_in, "{network:?} {address}");
        }
    }
}
