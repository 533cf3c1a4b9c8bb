use std::cell::Cell;
use std::rc::Rc;
use std::time::Instant;

use hyper::client::conn::http2;

use crate::proxy::upload::OutBody;

/// A connection of HTTP/2, shared by as many requests as the server allows at one time.
pub(super) struct Http2 {
    pub(super) sender: http2::SendRequest<OutBody>,
    /// How many streams the server allows; kept current by the connection's task.
    pub(super) allowed: Rc<Cell<usize>>,
    pub(super) open: Rc<Cell<usize>>,
    pub(super) idle_since: Rc<Cell<Instant>>,
}

/// A request on a connection of HTTP/2; counts while it lives.
pub(in crate::proxy) struct StreamSlot {
    pub(super) open: Rc<Cell<usize>>,
    pub(super) idle_since: Rc<Cell<Instant>>,
}

impl Drop for StreamSlot {
    fn drop(&mut self) {
        self.open.set(self.open.get().saturating_sub(1));
        self.idle_since.set(Instant::now());
    }
}

impl Http2 {
    /// A place for a request, if the server allows another. What is handed to hyper beyond that
    /// waits in a queue where nobody can take it back: it would be sent after it was refused.
    pub(super) fn take(&self) -> Option<(http2::SendRequest<OutBody>, StreamSlot)> {
        let has_place = self.open.get() < self.allowed.get() && !self.sender.is_closed();
        has_place.then(|| {
            self.open.set(self.open.get() + 1);
            let (open, idle_since) = (Rc::clone(&self.open), Rc::clone(&self.idle_since));
            (self.sender.clone(), StreamSlot { open, idle_since })
        })
    }
}
