//! Putting it together: from a settings file to a running gate, and back down in good order.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::runtime::{Builder, LocalOptions};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use crate::live::{Keeper, Live, Watch};
use crate::proxy::Shared;
use crate::server::ops::{self, Ops};
use crate::server::tls::TlsKeeper;
use crate::server::worker::Workers;
use crate::server::{self, ListenError};
use crate::settings::{
    AdminListener, DataListener, Drain, ForwardAuthListener, OpsListener, Settings,
};
use crate::telemetry::logging;
use crate::telemetry::metrics::Metrics;

/// How often files are looked at: a change is in force after two looks, within a second in all.
const LOOK: Duration = Duration::from_millis(200);

/// After so many looks, settings that were refused are tried again.
const LOOKS_UNTIL_RETRY: u32 = 4;

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
    let mut watch = Watch::new(config.to_owned());
    watch.note();
    let content = content_of(config);
    let read = Settings::read(config)?;
    let settings = read.settings;
    let _logging = logging::start(&settings.log);
    for warning in &read.warnings {
        log_warning(config, warning);
    }
    let fixed = Fixed::of(&settings);
    let metrics = Arc::new(Metrics::new(settings.ops.token_series)?);
    let (mut keeper, _) = Keeper::open(settings, Arc::clone(&metrics))?;
    let tls = fixed.data.tls.as_ref().map(TlsKeeper::open).transpose()?;
    let in_force = tls.as_ref().map(TlsKeeper::in_force);
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
    let open = Open { data: data.local_addr()?, ops: ops_listener.local_addr()? };
    let shared = Arc::new(Shared {
        live: Arc::clone(&live),
        metrics: Arc::clone(&metrics),
        in_flight: AtomicUsize::new(0),
    });
    let workers = Workers::start(worker_count(&fixed.data), &shared, in_force.as_ref())?;
    keeper.set_barrier(Box::new(workers.barrier()));
    let (reload, reloads) = channel();
    let drain = fixed.drain;
    let follower = Follower {
        settings: SettingsFile {
            path: config.to_owned(),
            watch,
            content,
            failing: None,
            looks_since: 0,
        },
        fixed,
        keeper,
        tls,
        metrics: Arc::clone(&metrics),
    };
    server::vital_thread("follower".into(), move || follower.follow(&reloads))?;
    let ops = Arc::new(Ops { live: Arc::clone(&live), metrics, draining: AtomicBool::new(false) });
    runtime.block_on(async move {
        tokio::task::spawn_local(ops::serve(ops_listener, Arc::clone(&ops)));
        tokio::task::spawn_local(probe(Arc::clone(&live)));
        on_open(&open);
        serve_until_told(data, workers, &live, &ops, signals, &reload, drain).await;
    });
    tracing::info!("stopped");
    Ok(())
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
    async fn stop(&mut self, reload: &Sender<()>) {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return,
                _ = self.interrupt.recv() => return,
                _ = self.hang_up.recv() => {
                    // The follower runs as long as the process.
                    let _ = reload.send(());
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
    reload: &Sender<()>,
    drain: Drain,
) {
    let (stop, stopped) = watch::channel(false);
    {
        let accepting = server::accept(data, &workers, live, stopped);
        tokio::pin!(accepting);
        tokio::select! {
            () = &mut accepting => {}
            () = signals.stop(reload) => {}
        }
        tracing::info!("stopping: not ready from now on, still accepting");
        ops.draining.store(true, Ordering::Relaxed);
        tokio::select! {
            () = &mut accepting => {}
            () = tokio::time::sleep(drain.delay) => {}
            () = signals.stop(reload) => {
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
        () = signals.stop(reload) => {
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

/// What cannot change while running.
struct Fixed {
    data: DataListener,
    admin: Option<AdminListener>,
    ops: OpsListener,
    forward_auth: Option<ForwardAuthListener>,
    drain: Drain,
}

impl Fixed {
    fn of(settings: &Settings) -> Self {
        Self {
            data: settings.data.clone(),
            admin: settings.admin.clone(),
            ops: settings.ops.clone(),
            forward_auth: settings.forward_auth.clone(),
            drain: settings.drain,
        }
    }

    fn tell_differences(&self, other: &Self) {
        for (table, same) in [
            ("data", self.data == other.data),
            ("admin", self.admin == other.admin),
            ("ops", self.ops == other.ops),
            ("forward_auth", self.forward_auth == other.forward_auth),
            ("drain", self.drain == other.drain),
        ] {
            if !same {
                tracing::warn!(
                    table,
                    "this table cannot change while running and keeps its old values; restart to \
                     change it"
                );
            }
        }
    }
}

/// Follows the settings, the token files and the certificates, on a thread of its own: reading and
/// compiling a large file takes time that no request shall wait for.
struct Follower {
    settings: SettingsFile,
    fixed: Fixed,
    keeper: Keeper,
    tls: Option<TlsKeeper>,
    metrics: Arc<Metrics>,
}

struct SettingsFile {
    path: PathBuf,
    watch: Watch,
    content: Option<blake3::Hash>,
    /// What was wrong when it was last read, and whether that was told.
    failing: Option<(String, bool)>,
    /// Looks since the settings were last refused.
    looks_since: u32,
}

impl Follower {
    fn follow(mut self, reloads: &Receiver<()>) {
        loop {
            let thoroughly = match reloads.recv_timeout(LOOK) {
                Ok(()) => {
                    tracing::info!("reloading");
                    true
                }
                Err(RecvTimeoutError::Timeout) => false,
                Err(RecvTimeoutError::Disconnected) => return,
            };
            self.keeper.follow(thoroughly);
            self.follow_settings(thoroughly);
            if let Some(tls) = &mut self.tls {
                tls.follow(thoroughly);
            }
        }
    }

    fn follow_settings(&mut self, thoroughly: bool) {
        let file = &mut self.settings;
        // Settings may be refused for a file that they name, which may come later: in Kubernetes
        // a ConfigMap before its Secret.
        file.looks_since = file.looks_since.saturating_add(1);
        let again = match &file.failing {
            Some((_, told)) => !told || file.looks_since >= LOOKS_UNTIL_RETRY,
            None => false,
        };
        if !thoroughly && !again && !file.watch.hints_at_change() {
            return;
        }
        file.watch.note();
        let content = content_of(&file.path);
        // On SIGHUP even unchanged settings are taken over: files that they name may have changed.
        if content == file.content && !thoroughly {
            if file.failing.take().is_some() {
                self.metrics.settings_in_force(true);
                tracing::info!(file = %file.path.display(), "settings are as before again");
            }
            return;
        }
        let taken = match Settings::read(&file.path) {
            Ok(read) => {
                for warning in &read.warnings {
                    log_warning(&file.path, warning);
                }
                let fixed = Fixed::of(&read.settings);
                let log = read.settings.log;
                match self.keeper.replace(read.settings) {
                    Ok(_) => {
                        logging::apply(&log);
                        self.fixed.tell_differences(&fixed);
                        Ok(())
                    }
                    Err(error) => Err(error.to_string()),
                }
            }
            Err(problems) => Err(problems.to_string()),
        };
        match taken {
            Ok(()) => {
                file.content = content;
                file.failing = None;
                self.metrics.settings_in_force(true);
                tracing::info!(file = %file.path.display(), "settings in force");
            }
            Err(text) => {
                file.looks_since = 0;
                if file.failed(text) {
                    self.metrics.settings_in_force(false);
                }
            }
        }
    }
}

impl SettingsFile {
    /// Tells what is wrong when it was seen twice: a save in place leaves half a file for a moment.
    /// Says whether it told.
    fn failed(&mut self, text: String) -> bool {
        match &mut self.failing {
            Some((before, told)) if *before == text => {
                if std::mem::replace(told, true) {
                    return false;
                }
                for problem in text.lines() {
                    tracing::error!(problem, "settings refused, the last good ones stay in force");
                }
                true
            }
            failing => {
                *failing = Some((text, false));
                false
            }
        }
    }
}

fn content_of(path: &Path) -> Option<blake3::Hash> {
    std::fs::read(path).ok().map(|bytes| blake3::hash(&bytes))
}

fn log_warning(file: &Path, warning: &crate::policy::Problem) {
    tracing::warn!(
        file = %file.display(),
        line = warning.line.unwrap_or_default() as u64,
        remedy = warning.remedy,
        "{}",
        warning.what
    );
}
