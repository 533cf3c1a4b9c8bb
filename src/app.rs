//! Putting it together: from a settings file to a running gate, and back down in good order.

mod follower;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::runtime::{Builder, LocalOptions};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use crate::admin::Admin;
use crate::forward_auth::{ForwardAuth, Judging};
use crate::live::{Keeper, Live, Order, Site};
use crate::proxy::Shared;
use crate::server::admin::{self, AdminServer};
use crate::server::forward_auth::{self, ForwardAuthServer};
use crate::server::ops::{self, Ops};
use crate::server::tls::{HTTP_1, HTTP_2_OR_1, TlsKeeper};
use crate::server::worker::Workers;
use crate::server::{self, ListenError};
use crate::settings::{DataListener, Drain, ServerTls, Settings};
use crate::telemetry::audit::{Audit, AuditError, AuditWriter};
use crate::telemetry::logging;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::usage_file::{UsageFile, UsageSaver};
use follower::{Fixed, Follower, SettingsFile};

/// How often endpoints that do not answer are tried.
const PROBE: Duration = Duration::from_millis(500);

/// Why the gate did not open.
#[derive(Debug, thiserror::Error)]
enum StartError {
    #[error(transparent)]
    Settings(#[from] crate::settings::FileProblems),
    #[error(transparent)]
    Load(#[from] crate::live::LoadError),
    #[error(transparent)]
    Tls(#[from] crate::server::tls::TlsFileError),
    #[error(transparent)]
    Listen(#[from] ListenError),
    #[error(transparent)]
    Audit(#[from] AuditError),
    #[error("the system refused what the gate needs: {0}")]
    System(#[from] std::io::Error),
    #[error("the metrics are inconsistent: {0}")]
    Metrics(#[from] prometheus::Error),
}

/// Where the gate listens, once it does.
pub struct Open {
    /// Clients.
    pub data: std::net::SocketAddr,
    /// Probes and metrics.
    pub ops: std::net::SocketAddr,
    /// The admin API and the token page, if there is an `[admin]`.
    pub admin: Option<std::net::SocketAddr>,
}

/// Runs the gate until it is told to stop.
#[must_use]
pub fn serve(config: &Path) -> ExitCode {
    run(config, |_| ())
}

/// Runs the gate until it is told to stop; `on_open` is called on the gate's own thread, within its
/// runtime, when it listens.
#[must_use]
pub fn run(config: &Path, on_open: impl FnOnce(&Open)) -> ExitCode {
    match start(config, on_open) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Standard error is all there is to tell it to.
            let _ = writeln!(std::io::stderr(), "{}", crate::token::redact(&error.to_string()));
            ExitCode::FAILURE
        }
    }
}

fn start(config: &Path, on_open: impl FnOnce(&Open)) -> Result<(), StartError> {
    let settings_file = SettingsFile::new(config);
    let read = Settings::read(config)?;
    let settings = read.settings;
    let _logging = logging::start(&settings.log);
    logging::tell_warnings(config, &read.warnings);
    let fixed = Fixed::of(&settings);
    let metrics = Arc::new(Metrics::new(settings.ops.token_series)?);
    let (mut keeper, _) = Keeper::open(settings, Arc::clone(&metrics))?;
    let open_tls = |files: Option<&ServerTls>, protocols| {
        files.map(|files| TlsKeeper::open(files, protocols)).transpose()
    };
    let tls = open_tls(fixed.data.tls.as_ref(), HTTP_2_OR_1)?;
    let in_force = tls.as_ref().map(TlsKeeper::in_force);
    let admin = fixed.admin.as_ref();
    let admin_tls = open_tls(admin.and_then(|admin| admin.tls.as_ref()), HTTP_1)?;
    let audit = admin.map(|admin| Audit::open(&admin.audit_log)).transpose()?;
    let audit = audit.map(AuditWriter::start).transpose()?;
    let live = Arc::clone(keeper.live());
    let runtime = Builder::new_current_thread().enable_all().build_local(LocalOptions::default())?;
    let signals = {
        let _inside = runtime.enter();
        Signals::new()?
    };
    let (data, ops_listener) = {
        let _inside = runtime.enter();
        (server::listen("data", fixed.data.listen)?, server::listen("ops", fixed.ops.listen)?)
    };
    let admin_listener = admin.map(|admin| admin::listen(admin.listen)).transpose()?;
    let forward_auth = fixed.forward_auth.clone();
    let forward_auth_listener =
        forward_auth.as_ref().map(|auth| forward_auth::listen(auth.listen)).transpose()?;
    let open = Open {
        data: data.local_addr()?,
        ops: ops_listener.local_addr()?,
        admin: admin_listener.as_ref().map(std::net::TcpListener::local_addr).transpose()?,
    };
    let shared = Arc::new(Shared {
        live: Arc::clone(&live),
        metrics: Arc::clone(&metrics),
        in_flight: AtomicUsize::new(0),
        inspection_room: Arc::default(),
    });
    let workers = Workers::start(worker_count(&fixed.data), &shared, in_force.as_ref())?;
    let (judging, workers_judged) = (Judging::default(), workers.barrier());
    keeper.set_barrier(Box::new({
        let judging = judging.clone();
        move || {
            workers_judged();
            judging.wait();
        }
    }));
    let (orders, received_orders) = channel();
    let drain = fixed.drain;
    let in_force = admin_tls.as_ref().map(TlsKeeper::in_force);
    // Before anybody can ask for it.
    let saver = admin.map(|_| usage_saver(&live, &metrics)).transpose()?;
    let admin_server = match (admin.cloned(), admin_listener, audit) {
        (Some(settings), Some(listener), Some(audit)) => {
            let (live, metrics, orders) = (Arc::clone(&live), Arc::clone(&metrics), orders.clone());
            let admin = move || Admin::new(&settings, live, metrics, audit, orders);
            Some(AdminServer::start(listener, in_force, admin)?)
        }
        _ => None,
    };
    let forward_auth_server = match (forward_auth, forward_auth_listener) {
        (Some(settings), Some(listener)) => {
            let (live, metrics) = (Arc::clone(&live), Arc::clone(&metrics));
            let auth = move || ForwardAuth::new(&settings, live, metrics, judging);
            Some(ForwardAuthServer::start(listener, auth)?)
        }
        _ => None,
    };
    let follower = Follower {
        settings: settings_file,
        fixed,
        keeper,
        tls: tls.into_iter().chain(admin_tls).collect(),
        metrics: Arc::clone(&metrics),
    };
    server::vital_thread("follower".into(), move || follower.follow(&received_orders))?;
    let ops = Arc::new(Ops { live: Arc::clone(&live), metrics, draining: AtomicBool::new(false) });
    runtime.block_on(async move {
        tokio::task::spawn_local(ops::serve(ops_listener, Arc::clone(&ops)));
        tokio::task::spawn_local(probe(Arc::clone(&live)));
        on_open(&open);
        serve_until_told(data, workers, &live, &ops, signals, &orders, drain).await;
    });
    // Changes that are under way come to their end first.
    drop(admin_server);
    drop(forward_auth_server);
    if let Some(saver) = saver {
        saver.stop();
    }
    tracing::info!("stopped");
    Ok(())
}

/// Takes over the use of tokens that was saved before, and saves it from now on.
fn usage_saver(live: &Arc<Live>, metrics: &Metrics) -> std::io::Result<UsageSaver> {
    let live = Arc::clone(live);
    let files = move || -> Vec<(Arc<str>, PathBuf)> {
        let gate = live.gate();
        let file = |site: &Site| (Arc::clone(site.metrics.name()), site.settings.tokens.clone());
        gate.namespaces().iter().map(|namespace| file(&namespace.site)).collect()
    };
    for (namespace, tokens) in files() {
        if let Some(saved) = UsageFile::of(&tokens).load() {
            metrics.usage.restore(&namespace, saved);
        }
    }
    UsageSaver::start(Arc::clone(&metrics.usage), files)
}

fn worker_count(data: &DataListener) -> usize {
    match data.workers {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        count => count,
    }
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    /// The next request to stop.
    async fn stop(&mut self, orders: &Sender<Order>) {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return,
                _ = self.interrupt.recv() => return,
                _ = self.hang_up.recv() => {
                    // The follower runs as long as the process.
                    let _ = orders.send(Order::LookAgain);
                }
            }
        }
    }
}

async fn serve_until_told(
    data: TcpListener,
    workers: Workers,
    live: &Live,
    ops: &Ops,
    mut signals: Signals,
    orders: &Sender<Order>,
    drain: Drain,
) {
    let (stop, stopped) = watch::channel(false);
    {
        let accepting = server::accept(data, &workers, live, stopped);
        tokio::pin!(accepting);
        tokio::select! {
            () = &mut accepting => {}
            () = signals.stop(orders) => {}
        }
        tracing::info!("stopping: not ready from now on, still accepting");
        ops.draining.store(true, Ordering::Relaxed);
        tokio::select! {
            () = &mut accepting => {}
            () = tokio::time::sleep(drain.delay) => {}
            () = signals.stop(orders) => {
                tracing::warn!("told to stop at once");
                return;
            }
        }
        // The listener is dropped with `accepting`: no new connection from here on.
    }
    drop(stop);
    tracing::info!(connections = workers.connections(), "draining");
    workers.drain();
    let drained = async {
        while workers.connections() > 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::select! {
        () = drained => {}
        () = tokio::time::sleep(drain.timeout) => {
            tracing::warn!(connections = workers.connections(), "cut off after the drain timeout");
        }
        () = signals.stop(orders) => {
            tracing::warn!("told to stop at once");
            return;
        }
    }
    workers.stop();
}

/// Tries endpoints that did not answer, so that requests need not.
async fn probe(live: Arc<Live>) {
    let mut tick = tokio::time::interval(PROBE);
    loop {
        tick.tick().await;
        let gate = live.gate();
        for (_, upstream) in gate.upstreams() {
            for endpoint in upstream.endpoints.iter().filter(|endpoint| endpoint.is_down()) {
                let address = (endpoint.endpoint.host.as_str(), endpoint.endpoint.port);
                let connecting = tokio::net::TcpStream::connect(address);
                let timeout = upstream.settings.connect_timeout;
                if matches!(tokio::time::timeout(timeout, connecting).await, Ok(Ok(_)))
                    && endpoint.note(true)
                {
                    tracing::info!(endpoint = endpoint.name, "model server answers again");
                }
            }
        }
    }
}
