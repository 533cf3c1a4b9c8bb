//! Following the files that the gate is made of, on a thread of its own.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use crate::live::{Keeper, Order, Watch};
use crate::server::tls::TlsKeeper;
use crate::settings::{
    AdminListener, DataListener, Drain, ForwardAuthListener, OpsListener, Settings,
};
use crate::telemetry::logging;
use crate::telemetry::metrics::Metrics;

/// How often files are looked at: a change is in force after two looks, within a second in all.
const LOOK: Duration = Duration::from_millis(200);

/// After so many looks, settings that were refused are tried again.
const LOOKS_UNTIL_RETRY: u32 = 4;

/// What cannot change while running.
pub(super) struct Fixed {
    pub(super) data: DataListener,
    pub(super) admin: Option<AdminListener>,
    pub(super) ops: OpsListener,
    pub(super) forward_auth: Option<ForwardAuthListener>,
    pub(super) drain: Drain,
}

impl Fixed {
    pub(super) fn of(settings: &Settings) -> Self {
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
pub(super) struct Follower {
    pub(super) settings: SettingsFile,
    pub(super) fixed: Fixed,
    pub(super) keeper: Keeper,
    pub(super) tls: Vec<TlsKeeper>,
    pub(super) metrics: Arc<Metrics>,
}

pub(super) struct SettingsFile {
    path: PathBuf,
    watch: Watch,
    content: Option<blake3::Hash>,
    /// What was wrong when it was last read, and whether that was told.
    failing: Option<(String, bool)>,
    /// Looks since the settings were last refused.
    looks_since: u32,
}

impl Follower {
    pub(super) fn follow(mut self, orders: &Receiver<Order>) {
        let mut next_look = Instant::now() + LOOK;
        loop {
            let left = next_look.saturating_duration_since(Instant::now());
            let thoroughly = match orders.recv_timeout(left) {
                Ok(Order::LookAgain) => {
                    tracing::info!("reloading");
                    true
                }
                Ok(Order::Settle(settlement)) => {
                    self.keeper.settle(settlement);
                    // Many changes in a row must not keep files from being looked at.
                    if Instant::now() < next_look {
                        continue;
                    }
                    false
                }
                Err(RecvTimeoutError::Timeout) => false,
                Err(RecvTimeoutError::Disconnected) => return,
            };
            self.keeper.follow(thoroughly);
            self.follow_settings(thoroughly);
            for tls in &mut self.tls {
                tls.follow(thoroughly);
            }
            next_look = Instant::now() + LOOK;
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
                logging::tell_warnings(&file.path, &read.warnings);
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
    /// A file that is about to be read for the first time.
    pub(super) fn new(path: &Path) -> Self {
        let mut watch = Watch::new(path.to_owned());
        watch.note();
        let content = content_of(path);
        Self { path: path.to_owned(), watch, content, failing: None, looks_since: 0 }
    }

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
