//! A worker: one thread, one current-thread runtime, its own connections and pools.

use std::cell::RefCell;
use std::net::{SocketAddr, TcpStream};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::SyncSender;
use std::thread;
use std::time::{Duration, Instant};

use slab::Slab;
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::{MissedTickBehavior, interval};

use super::connection::{self, Clock, Connection};
use super::tls::TlsInForce;
use crate::proxy::{Proxy, Shared};

/// How often deadlines are looked at.
const SWEEP: Duration = Duration::from_millis(100);

/// What a worker is told.
enum Order {
    Serve(TcpStream, SocketAddr, Slot),
    /// A policy was swapped: end what it no longer allows, then say so.
    PolicyChanged(SyncSender<()>),
    /// Take nothing new, end what is idle.
    Drain,
    /// End everything.
    Stop,
}

/// A client connection; counts while it lives.
struct Slot {
    shared: Arc<Shared>,
    on_worker: Arc<AtomicUsize>,
}

impl Slot {
    fn take(shared: &Arc<Shared>, on_worker: &Arc<AtomicUsize>) -> Self {
        shared.metrics.connections.inc();
        on_worker.fetch_add(1, Ordering::Relaxed);
        Self { shared: Arc::clone(shared), on_worker: Arc::clone(on_worker) }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.shared.metrics.connections.dec();
        self.on_worker.fetch_sub(1, Ordering::Relaxed);
    }
}

/// All workers, from outside.
pub struct Workers {
    shared: Arc<Shared>,
    workers: Vec<Handle>,
}

struct Handle {
    orders: UnboundedSender<Order>,
    connections: Arc<AtomicUsize>,
    thread: thread::JoinHandle<()>,
}

impl Workers {
    /// Starts the threads.
    ///
    /// # Errors
    /// When the system gives no thread, or not the descriptors that a worker needs.
    pub fn start(
        count: usize,
        shared: &Arc<Shared>,
        tls: Option<&TlsInForce>,
    ) -> std::io::Result<Self> {
        let workers = (0..count)
            .map(|number| {
                let (orders, receiver) = unbounded_channel();
                let (shared, tls) = (Arc::clone(shared), tls.cloned());
                let (started, has_started) = std::sync::mpsc::sync_channel(1);
                let thread = super::vital_thread(format!("worker-{number}"), move || {
                    run(shared, tls, receiver, &started);
                })?;
                // A gate that lacks a worker does not open.
                has_started.recv().unwrap_or_else(|_| Err(std::io::ErrorKind::Other.into()))?;
                Ok(Handle { orders, connections: Arc::default(), thread })
            })
            .collect::<std::io::Result<_>>()?;
        Ok(Self { shared: Arc::clone(shared), workers })
    }

    /// How many connections are open.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.workers.iter().map(|worker| worker.connections.load(Ordering::Relaxed)).sum()
    }

    /// Hands a connection to the worker with the fewest, so that none idles while another queues.
    pub fn hand_over(&self, stream: TcpStream, peer: SocketAddr) {
        let fewest = self.workers.iter().min_by_key(|w| w.connections.load(Ordering::Relaxed));
        if let Some(worker) = fewest {
            let slot = Slot::take(&self.shared, &worker.connections);
            // A worker that is gone drops the connection.
            let _ = worker.orders.send(Order::Serve(stream, peer, slot));
        }
    }

    /// What waits until no worker judges by what was in force before.
    pub fn barrier(&self) -> impl Fn() + Send + use<> {
        let orders: Vec<_> = self.workers.iter().map(|worker| worker.orders.clone()).collect();
        move || {
            let (done, all_done) = std::sync::mpsc::sync_channel(orders.len());
            for worker in &orders {
                let _ = worker.send(Order::PolicyChanged(done.clone()));
            }
            drop(done);
            // Ends when each has answered, or is gone.
            while all_done.recv().is_ok() {}
        }
    }

    /// Takes nothing new and ends what is idle.
    pub fn drain(&self) {
        self.tell(|| Order::Drain);
    }

    /// Ends everything and waits for the threads.
    pub fn stop(self) {
        self.tell(|| Order::Stop);
        for worker in self.workers {
            // A worker that panicked is as gone as one that stopped.
            let _ = worker.thread.join();
        }
    }

    fn tell(&self, order: impl Fn() -> Order) {
        for worker in &self.workers {
            let _ = worker.orders.send(order());
        }
    }
}

fn run(
    shared: Arc<Shared>,
    tls: Option<TlsInForce>,
    orders: UnboundedReceiver<Order>,
    started: &SyncSender<std::io::Result<()>>,
) {
    let runtime = Builder::new_current_thread().enable_all().build_local(LocalOptions::default());
    match runtime {
        Ok(runtime) => {
            // Whoever starts it waits for this word.
            let _ = started.send(Ok(()));
            runtime.block_on(work(shared, tls, orders));
        }
        Err(error) => drop(started.send(Err(error))),
    }
}

async fn work(shared: Arc<Shared>, tls: Option<TlsInForce>, mut orders: UnboundedReceiver<Order>) {
    let started = Instant::now();
    let clock = Arc::<Clock>::default();
    let proxy = Rc::new(Proxy::new(shared));
    let connections = Rc::<RefCell<Slab<Rc<Connection>>>>::default();
    let mut sweep = interval(SWEEP);
    sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let order = tokio::select! {
            order = orders.recv() => order,
            _ = sweep.tick() => {
                clock.set(started.elapsed());
                proxy.sweep();
                let limits = proxy.limits();
                each(&connections, |connection| connection.check_deadlines(&limits));
                continue;
            }
        };
        match order {
            Some(Order::Serve(stream, peer, slot)) => {
                let Ok(stream) = tokio::net::TcpStream::from_std(stream) else { continue };
                let connection = Connection::new(&clock);
                let place = connections.borrow_mut().insert(Rc::clone(&connection));
                let tls = tls.as_ref().map(TlsInForce::config);
                let (proxy, connections) = (Rc::clone(&proxy), Rc::clone(&connections));
                let leaving = Leaving { connections, place };
                tokio::task::spawn_local(async move {
                    connection::serve(connection, proxy, stream, peer, tls, Box::new(slot)).await;
                    drop(leaving);
                });
            }
            Some(Order::PolicyChanged(done)) => {
                proxy.end_revoked();
                let _ = done.try_send(());
            }
            Some(Order::Drain) => {
                proxy.start_draining();
                each(&connections, Connection::close);
            }
            Some(Order::Stop) | None => {
                proxy.end_all();
                each(&connections, Connection::cut);
                // Their tasks run once more, to close what they hold.
                tokio::task::yield_now().await;
                return;
            }
        }
    }
}

fn each(connections: &RefCell<Slab<Rc<Connection>>>, visit: impl Fn(&Connection)) {
    let all: Vec<Rc<Connection>> =
        connections.borrow().iter().map(|(_, connection)| Rc::clone(connection)).collect();
    for connection in all {
        visit(&connection);
    }
}

/// Takes a connection off the list when its task ends, by a panic too.
struct Leaving {
    connections: Rc<RefCell<Slab<Rc<Connection>>>>,
    place: usize,
}

impl Drop for Leaving {
    fn drop(&mut self) {
        let removed = self.connections.borrow_mut().try_remove(self.place);
        drop(removed);
    }
}
