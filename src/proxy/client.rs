use std::any::Any;
use std::cell::Cell;
use std::net::IpAddr;
use std::rc::Rc;

use super::switch::Switch;

/// A client's connection, as far as requests on it are concerned.
pub struct Client {
    /// Its address.
    pub peer: IpAddr,
    /// Whether it came by TLS.
    pub by_tls: bool,
    /// Ends the whole connection.
    pub switch: Rc<Switch>,
    /// Requests on it that are not answered to their end.
    busy: Cell<usize>,
    /// Told whenever there is none.
    on_idle: Box<dyn Fn()>,
    _slot: Box<dyn Any>,
}

/// A request on a connection; counts while it lives.
pub struct Busy(Rc<Client>);

impl Client {
    /// A connection that was accepted. `on_idle` is called whenever its last request is
    /// answered; `slot` is dropped when nothing of the connection is left.
    #[must_use]
    pub fn new(
        peer: IpAddr,
        by_tls: bool,
        switch: Rc<Switch>,
        on_idle: Box<dyn Fn()>,
        slot: Box<dyn Any>,
    ) -> Rc<Self> {
        Rc::new(Self { peer, by_tls, switch, busy: Cell::new(0), on_idle, _slot: slot })
    }

    /// Counts a request.
    #[must_use]
    pub fn busy(self: &Rc<Self>) -> Busy {
        self.busy.set(self.busy.get() + 1);
        Busy(Rc::clone(self))
    }

    /// Whether a request is not answered to its end.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        self.busy.get() > 0
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        let busy = self.0.busy.get().saturating_sub(1);
        self.0.busy.set(busy);
        if busy == 0 {
            (self.0.on_idle)();
        }
    }
}
