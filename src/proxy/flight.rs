//! Requests on their way: what can end them from outside.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use slab::Slab;

use super::switch::Switch;
use super::{Busy, Load};
use crate::live::NamespaceInForce;
use crate::policy::{Grant, Moment, Permit};
use crate::settings::Limits;
use crate::telemetry::metrics::StreamEnd;
use crate::wire::refusal::Refusal;

/// Why a request was ended from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// The head of the model server's answer did not come in time.
    ResponseTimeout,
    /// The client's body did not go on.
    BodyTimeout,
    /// The client took nothing of the answer.
    WriteTimeout,
    /// The token no longer allows it.
    Revoked,
    /// The gate stops.
    Drain,
    /// A message of the call was refused.
    Refused(Refusal),
}

/// A request between its permit and the last byte of its response.
pub struct Flight {
    /// By which policy it was judged.
    pub namespace: Arc<NamespaceInForce>,
    /// By what right it runs. The messages of a gRPC call may add models to it.
    pub(super) grant: RefCell<Grant>,
    /// When the right ends by itself, if it does.
    pub(super) revoke_at: Cell<Option<Moment>>,
    ended: Cell<Option<Ending>>,
    /// Whether the head of the response went out.
    answered: Cell<bool>,
    /// Wakes whoever waits for the model server, or carries an upgraded connection.
    pub waiting: Switch,
    /// Ends the response: the stream of HTTP/2, or the connection.
    stream: Rc<Switch>,
    _busy: Busy,
    _load: Load,
    response_due: Cell<Option<Instant>>,
    response_timeout: Cell<Duration>,
    /// Wakes whoever carries the client's body to the model server.
    pub uploading: Switch,
    /// Whether each message of the client is judged as it passes.
    pub(super) is_judged_by_message: Cell<bool>,
    /// Whether the client's body was carried to its end.
    pub uploaded: Cell<bool>,
    /// Whether the client's body broke off, or was no body.
    pub client_failed: Cell<bool>,
    is_over: Cell<bool>,
    /// Since when a piece of the client's body is waited for.
    pub body_awaited: Cell<Option<Instant>>,
    /// Since when a piece of the response waits to be taken.
    pub piece_offered: Cell<Option<Instant>>,
    /// Bytes of the client's body.
    pub bytes_in: Cell<u64>,
    place: Cell<usize>,
    list: RefCell<std::rc::Weak<RefCell<Slab<Rc<Self>>>>>,
}

impl Flight {
    pub(super) fn new(
        namespace: Arc<NamespaceInForce>,
        permit: &Permit,
        stream: Rc<Switch>,
        busy: Busy,
        load: Load,
    ) -> Self {
        namespace.site.metrics.in_flight.inc();
        let grant = permit.grant();
        Self {
            revoke_at: Cell::new(namespace.policy.grant_until(&grant)),
            grant: RefCell::new(grant),
            namespace,
            ended: Cell::new(None),
            answered: Cell::new(false),
            waiting: Switch::default(),
            stream,
            _busy: busy,
            _load: load,
            response_due: Cell::new(None),
            response_timeout: Cell::new(Duration::MAX),
            uploading: Switch::default(),
            is_judged_by_message: Cell::new(false),
            uploaded: Cell::new(false),
            client_failed: Cell::new(false),
            is_over: Cell::new(false),
            body_awaited: Cell::new(None),
            piece_offered: Cell::new(None),
            bytes_in: Cell::new(0),
            place: Cell::new(0),
            list: RefCell::default(),
        }
    }

    /// Why it was ended, if it was.
    #[must_use]
    pub fn ended(&self) -> Option<Ending> {
        self.ended.get()
    }

    /// From now on the head of the response is waited for, this long.
    pub(super) fn expect_response(&self, timeout: Duration) {
        self.response_timeout.set(timeout);
        self.response_due.set(Instant::now().checked_add(timeout));
    }

    /// The client is still sending: the model server cannot have answered.
    pub(super) fn postpone_response_due(&self) {
        if self.response_due.get().is_some() {
            self.response_due.set(Instant::now().checked_add(self.response_timeout.get()));
        }
    }

    /// From now on the response streams, and can only be cut off.
    pub(super) fn mark_answered(&self) {
        self.response_due.set(None);
        self.answered.set(true);
    }

    /// Ends it: by a refusal while it waits, by cutting it off once it streams.
    pub fn end(&self, why: Ending) {
        if self.ended.replace(Some(why)).is_some() {
            return;
        }
        self.waiting.turn_off();
        self.finish();
        // Whoever relays the answer ends it with the refusal as its trailers.
        if self.answered.get() && !matches!(why, Ending::Refused(_)) {
            let counted = match why {
                Ending::Revoked => Some(StreamEnd::Revoked),
                Ending::Drain => Some(StreamEnd::Drain),
                _ => None,
            };
            if let Some(why) = counted {
                self.namespace.site.metrics.stream_ended(why);
            }
            self.stream.turn_off();
        }
    }

    /// The response is over, in whatever way: what the client still sends is for nobody.
    pub(super) fn finish(&self) {
        self.is_over.set(true);
        self.uploading.wake();
    }

    /// Whether nothing more may be carried.
    pub(super) fn is_over(&self) -> bool {
        self.is_over.get()
    }

    pub(super) fn check_deadlines(&self, limits: &Limits) {
        let now = Instant::now();
        let over = |since: &Cell<Option<Instant>>, most| {
            since.get().is_some_and(|since| now.saturating_duration_since(since) >= most)
        };
        if self.response_due.get().is_some_and(|due| now >= due) {
            self.end(Ending::ResponseTimeout);
        } else if over(&self.body_awaited, limits.body_idle_timeout) {
            self.end(Ending::BodyTimeout);
        } else if over(&self.piece_offered, limits.write_idle_timeout) {
            self.end(Ending::WriteTimeout);
        }
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        self.namespace.site.metrics.in_flight.dec();
    }
}

/// A flight and its place in the list; leaves the list on drop.
pub struct InFlight(Rc<Flight>);

impl std::ops::Deref for InFlight {
    type Target = Rc<Flight>;

    fn deref(&self) -> &Rc<Flight> {
        &self.0
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let list = self.0.list.borrow().upgrade();
        if let Some(list) = list {
            let removed = list.borrow_mut().try_remove(self.0.place.get());
            drop(removed);
        }
    }
}

/// All flights of a worker.
#[derive(Default)]
pub struct Flights(Rc<RefCell<Slab<Rc<Flight>>>>);

impl Flights {
    pub(super) fn start(&self, flight: Flight) -> Rc<InFlight> {
        let flight = Rc::new(flight);
        *flight.list.borrow_mut() = Rc::downgrade(&self.0);
        flight.place.set(self.0.borrow_mut().insert(Rc::clone(&flight)));
        Rc::new(InFlight(flight))
    }

    /// Whether there is none.
    pub(super) fn is_empty(&self) -> bool {
        self.0.borrow().is_empty()
    }

    /// Calls `visit` with each. What it ends may leave the list meanwhile.
    pub(super) fn each(&self, visit: impl Fn(&Flight)) {
        let flights: Vec<Rc<Flight>> =
            self.0.borrow().iter().map(|(_, flight)| Rc::clone(flight)).collect();
        for flight in flights {
            visit(&flight);
        }
    }
}
