//! Whoever tries keys waits longer and longer; nobody else does.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

/// So many wrong keys in a row are a typing mistake, more are a search.
const FREE_FAILURES: u32 = 10;

/// The longest wait.
const MAX_WAIT: Duration = Duration::from_secs(300);

/// After so long without a further wrong key, an address begins anew.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(15 * 60);

/// So many addresses are remembered; those that waited longest are forgotten first.
const MAX_ADDRESSES: usize = 10_000;

/// Wrong keys by address. IPv6 addresses count by their /64, which one machine has to itself.
#[derive(Debug, Default)]
pub(super) struct Throttle {
    addresses: HashMap<IpAddr, Failures>,
}

#[derive(Debug)]
struct Failures {
    in_a_row: u32,
    last: Instant,
    blocked_until: Instant,
}

impl Throttle {
    /// How long the address has to wait before a key of it is looked at again, if at all.
    pub(super) fn wait(&self, address: IpAddr, now: Instant) -> Option<Duration> {
        let failures = self.addresses.get(&network(address))?;
        let wait = failures.blocked_until.saturating_duration_since(now);
        (!wait.is_zero()).then_some(wait)
    }

    /// Notes a wrong key.
    pub(super) fn failed(&mut self, address: IpAddr, now: Instant) {
        if self.addresses.len() >= MAX_ADDRESSES {
            self.forget(now);
        }
        let failures = self.addresses.entry(network(address)).or_insert(Failures {
            in_a_row: 0,
            last: now,
            blocked_until: now,
        });
        if now.saturating_duration_since(failures.last) >= FORGOTTEN_AFTER {
            failures.in_a_row = 0;
        }
        failures.in_a_row = failures.in_a_row.saturating_add(1);
        failures.last = now;
        if let Some(over) = failures.in_a_row.checked_sub(FREE_FAILURES) {
            let seconds = 1_u64.checked_shl(over).unwrap_or(u64::MAX);
            failures.blocked_until = now + Duration::from_secs(seconds).min(MAX_WAIT);
        }
    }

    /// Notes a right key.
    pub(super) fn succeeded(&mut self, address: IpAddr) {
        if !self.addresses.is_empty() {
            self.addresses.remove(&network(address));
        }
    }

    fn forget(&mut self, now: Instant) {
        self.addresses.retain(|_, own| now.saturating_duration_since(own.last) < FORGOTTEN_AFTER);
        if self.addresses.len() >= MAX_ADDRESSES {
            let mut times: Vec<Instant> = self.addresses.values().map(|own| own.last).collect();
            let (_, median, _) = times.select_nth_unstable(MAX_ADDRESSES / 2);
            let median = *median;
            self.addresses.retain(|_, own| own.last > median);
        }
    }
}

/// The network that an address stands for: its /64 in IPv6, which one machine has to itself.
#[must_use]
pub fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn the_wait_begins_after_ten_and_doubles() {
        let mut throttle = Throttle::default();
        let (here, there): (IpAddr, IpAddr) = ([127, 0, 0, 1].into(), [127, 0, 0, 2].into());
        let mut now = Instant::now();
        for _ in 0..9 {
            throttle.failed(here, now);
            assert_eq!(throttle.wait(here, now), None);
        }
        for wait in [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300] {
            throttle.failed(here, now);
            assert_eq!(throttle.wait(here, now), Some(wait * SECOND));
            assert_eq!(throttle.wait(there, now), None);
            now += wait * SECOND;
            assert_eq!(throttle.wait(here, now), None);
        }
        throttle.succeeded(here);
        throttle.failed(here, now);
        assert_eq!(throttle.wait(here, now), None);
    }

    #[test]
    fn a_quarter_of_an_hour_later_it_is_forgotten() {
        let mut throttle = Throttle::default();
        let here: IpAddr = "2001:db8::1".parse().unwrap();
        let neighbour: IpAddr = "2001:db8::2".parse().unwrap();
        let start = Instant::now();
        for _ in 0..10 {
            throttle.failed(here, start);
        }
        assert_eq!(throttle.wait(neighbour, start), Some(SECOND), "the same /64");
        let later = start + FORGOTTEN_AFTER;
        throttle.failed(here, later);
        assert_eq!(throttle.wait(here, later), None);
    }

    #[test]
    fn memory_is_bounded() {
        let mut throttle = Throttle::default();
        let mut now = Instant::now();
        for number in 0..3 * u32::try_from(MAX_ADDRESSES).unwrap() {
            now += Duration::from_millis(1);
            throttle.failed(IpAddr::V4(number.into()), now);
        }
        assert!(throttle.addresses.len() <= MAX_ADDRESSES);
    }
}
