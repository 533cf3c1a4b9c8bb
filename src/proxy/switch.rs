//! Switches by which one task ends another on the same thread.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::{Context, Poll, Waker};

/// Ends the future it is wired to, from outside of it.
#[derive(Default)]
pub struct Switch {
    off: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl Switch {
    /// Ends the future.
    pub fn turn_off(&self) {
        self.off.set(true);
        self.wake();
    }

    /// Wakes the future without ending it.
    pub fn wake(&self) {
        // Taken out first: waking may run code that registers anew.
        let waker = self.waker.borrow_mut().take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Whether it was turned off.
    #[must_use]
    pub fn is_off(&self) -> bool {
        self.off.get()
    }

    /// Remembers whom to wake.
    pub fn register(&self, cx: &Context<'_>) {
        let mut waker = self.waker.borrow_mut();
        match &*waker {
            Some(own) if own.will_wake(cx.waker()) => {}
            _ => *waker = Some(cx.waker().clone()),
        }
    }
}

/// Runs a future until it is done or the switch is turned off; it is dropped then.
pub fn until_off<F: Future>(switch: &Switch, future: F) -> impl Future<Output = Option<F::Output>> {
    // Boxed at once: an `async fn` would hold the future twice, as its argument and pinned.
    let mut future = Box::pin(future);
    poll_fn(move |cx| {
        if switch.is_off() {
            return Poll::Ready(None);
        }
        switch.register(cx);
        future.as_mut().poll(cx).map(Some)
    })
}

/// Runs a future; none when it panics. What it held is dropped then, so a panic costs one request.
pub fn catching_panics<F: Future>(future: F) -> impl Future<Output = Option<F::Output>> {
    // Boxed at once: an `async fn` would hold the future twice, as its argument and pinned.
    let mut future = Box::pin(future);
    poll_fn(move |cx| {
        // Nothing of the future is looked at again after a panic.
        catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx)))
            .map_or(Poll::Ready(None), |poll| poll.map(Some))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::rc::Rc;

    fn block_on<F: Future>(future: F) -> F::Output {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
    }

    #[test]
    fn a_switch_ends_what_never_ends_by_itself() {
        let switch = Rc::new(Switch::default());
        let other = Rc::clone(&switch);
        let local = tokio::task::LocalSet::new();
        let ended = block_on(local.run_until(async move {
            let task = tokio::task::spawn_local(async move {
                until_off(&switch, std::future::pending::<()>()).await
            });
            tokio::task::yield_now().await;
            other.turn_off();
            task.await.unwrap()
        }));
        assert_eq!(ended, None);
    }

    #[test]
    fn a_panic_ends_one_future() {
        assert_eq!(block_on(catching_panics(async { 1 })), Some(1));
        assert_eq!(block_on(catching_panics(async { panic!("on purpose") })), None::<()>);
    }
}
