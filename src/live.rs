//! The policies in force: read by everyone without a lock, written by the keeper alone.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use arc_swap::ArcSwap;

use crate::policy::{Compiled, Moment, Policy, Problem};
use crate::settings::{AccessLog, HostPattern, Limits, Namespace, Settings};
use crate::store::file::{FileStore, Snapshot};
use crate::store::{Generation, StoreError};
use crate::telemetry::logging;
use crate::telemetry::metrics::{Metrics, NamespaceMetrics};
use crate::telemetry::usage::TokenUsage;
use crate::upstream::Upstream;
use crate::wire::credential::CredentialPlaces;
use crate::wire::headers::HeaderRules;

mod asked;
mod settle;
mod watch;

pub use asked::{Asked, Heard, Refused};
pub use settle::{NotInForce, Order, Settlement};
pub use watch::Watch;

/// The current moment.
#[must_use]
pub fn now() -> Moment {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    // A clock before 1970 makes every token that expires an expired one.
    Moment(since.map_or(i64::MAX, |since| i64::try_from(since.as_secs()).unwrap_or(i64::MAX)))
}

/// What settings say of a namespace, made ready for requests; lives until the settings change.
pub struct Site {
    /// Tells sites of different settings apart.
    pub key: u64,
    /// The settings.
    pub settings: Namespace,
    /// Which headers carry credentials and identity.
    pub headers: HeaderRules,
    /// The namespace's metric handles.
    pub metrics: NamespaceMetrics,
    /// Where requests go: the namespace's upstream, then those of models served elsewhere.
    pub upstreams: Vec<Arc<Upstream>>,
}

/// A namespace with the policy in force.
pub struct NamespaceInForce {
    /// What the settings say.
    pub site: Arc<Site>,
    /// What the token file says.
    pub policy: Policy,
    /// The use of each token, in the policy's order.
    pub usage: Vec<Arc<TokenUsage>>,
    /// Which content of the token file that is.
    pub generation: Generation,
}

/// Everything a request is judged by; swapped whole.
pub struct Gate {
    namespaces: Vec<Arc<NamespaceInForce>>,
    exact: HashMap<String, usize>,
    /// Suffixes with their leading dot, longest first.
    below: Vec<(String, usize)>,
    any: Option<usize>,
    /// Deadlines and sizes.
    pub limits: Limits,
    /// Which requests get a log line.
    pub access_log: AccessLog,
}

impl Gate {
    fn new(namespaces: Vec<Arc<NamespaceInForce>>, limits: Limits, access_log: AccessLog) -> Self {
        let (mut exact, mut below, mut any) = (HashMap::new(), Vec::new(), None);
        for (place, namespace) in namespaces.iter().enumerate() {
            for host in &namespace.site.settings.hosts {
                match host {
                    HostPattern::Exact(name) => drop(exact.insert(name.clone(), place)),
                    HostPattern::Below(suffix) => below.push((suffix.clone(), place)),
                    HostPattern::Any => any = Some(place),
                }
            }
        }
        below.sort_by_key(|(suffix, _)| std::cmp::Reverse(suffix.len()));
        Self { namespaces, exact, below, any, limits, access_log }
    }

    /// The namespace for a host name without port: the most specific pattern wins.
    #[must_use]
    pub fn namespace_for(&self, host: &str) -> Option<&Arc<NamespaceInForce>> {
        let place = if self.exact.is_empty() && self.below.is_empty() {
            self.any
        } else {
            let host = host.to_ascii_lowercase();
            let below = || {
                let fits = |suffix: &str| host.len() > suffix.len() && host.ends_with(suffix);
                self.below.iter().find(|(suffix, _)| fits(suffix)).map(|(_, place)| *place)
            };
            self.exact.get(&host).copied().or_else(below).or(self.any)
        };
        place.and_then(|place| self.namespaces.get(place))
    }

    /// Every namespace, in the order of the settings.
    #[must_use]
    pub fn namespaces(&self) -> &[Arc<NamespaceInForce>] {
        &self.namespaces
    }

    /// Every upstream in the settings.
    pub fn upstreams(&self) -> impl Iterator<Item = (&Site, &Arc<Upstream>)> {
        self.namespaces.iter().flat_map(|namespace| {
            namespace.site.upstreams.iter().map(|upstream| (&*namespace.site, upstream))
        })
    }

    /// The namespace of this name.
    #[must_use]
    pub fn namespace_named(&self, name: &str) -> Option<&Arc<NamespaceInForce>> {
        self.namespaces.iter().find(|namespace| namespace.site.settings.name == name)
    }
}

/// The gate in force.
pub struct Live(Arc<ArcSwap<Gate>>);

impl Live {
    /// A handle that reads without counting references; one per worker.
    #[must_use]
    pub fn reader(&self) -> Reader {
        Reader(arc_swap::Cache::new(Arc::clone(&self.0)))
    }

    /// The gate at this moment.
    #[must_use]
    pub fn gate(&self) -> Arc<Gate> {
        self.0.load_full()
    }

    fn swap(&self, gate: Gate) {
        self.0.store(Arc::new(gate));
    }
}

/// Reads the gate in force, fresh at each call.
pub struct Reader(arc_swap::Cache<Arc<ArcSwap<Gate>>, Arc<Gate>>);

impl Reader {
    /// The gate at this moment.
    pub fn gate(&mut self) -> &Arc<Gate> {
        self.0.load()
    }
}

/// Told after each swap; returns when no request is judged by what was in force before.
pub type Barrier = Box<dyn Fn() + Send>;

/// The one writer: loads, compiles and swaps.
pub struct Keeper {
    live: Arc<Live>,
    metrics: Arc<Metrics>,
    barrier: Barrier,
    files: Vec<TokenFile>,
}

/// Why a namespace has no policy.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// Its token file cannot be taken over.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Its settings cannot be made ready.
    #[error("namespace `{namespace}`: {reason}")]
    Site {
        /// Which namespace.
        namespace: String,
        /// Why.
        reason: String,
    },
}

/// A token file, as far as it was followed.
struct TokenFile {
    namespace: Arc<str>,
    store: FileStore,
    watch: Watch,
    generation: Generation,
    /// When the reading of what is in force began.
    read_at: Instant,
    /// What is wrong with it at present; told once it was seen twice, since an editor's save in
    /// place leaves an empty file for a moment.
    failing: Option<Failure>,
    /// Content that was seen once. A file that is written in place is taken over when two looks
    /// found the same: half of it may be a valid file that grants more than the whole.
    half_seen: Option<Generation>,
}

struct Failure {
    text: String,
    told: bool,
}

static NEXT_SITE: AtomicU64 = AtomicU64::new(1);

impl Keeper {
    /// Loads every policy for the first time.
    ///
    /// # Errors
    /// The first namespace that has no valid policy: the gate does not open without.
    pub fn open(
        settings: Settings,
        metrics: Arc<Metrics>,
    ) -> Result<(Self, Vec<Problem>), LoadError> {
        let (limits, access) = (settings.limits, settings.log.access);
        let (namespaces, files, warnings) = load_all(settings.namespaces, &metrics)?;
        let live =
            Arc::new(Live(Arc::new(ArcSwap::from_pointee(Gate::new(namespaces, limits, access)))));
        let keeper = Self { live, metrics, barrier: Box::new(|| ()), files };
        for file in &keeper.files {
            keeper.tell_in_force(&file.namespace, None, &file.generation);
        }
        Ok((keeper, warnings))
    }

    /// What readers read from.
    #[must_use]
    pub fn live(&self) -> &Arc<Live> {
        &self.live
    }

    /// Sets what is waited for after each swap.
    pub fn set_barrier(&mut self, barrier: Barrier) {
        self.barrier = barrier;
    }

    /// Takes over new settings with all their token files, or nothing of them.
    ///
    /// # Errors
    /// When a namespace of theirs has no valid policy; what was in force stays.
    pub fn replace(&mut self, settings: Settings) -> Result<Vec<Problem>, LoadError> {
        let (limits, access) = (settings.limits, settings.log.access);
        let (namespaces, files, warnings) = load_all(settings.namespaces, &self.metrics)?;
        self.live.swap(Gate::new(namespaces, limits, access));
        (self.barrier)();
        let before = std::mem::replace(&mut self.files, files);
        let names: Vec<Arc<str>> =
            self.files.iter().map(|file| Arc::clone(&file.namespace)).collect();
        self.metrics.usage.keep_namespaces(&names);
        for file in &self.files {
            let before = before.iter().find(|other| other.namespace == file.namespace);
            self.tell_in_force(&file.namespace, before.map(|b| &b.generation), &file.generation);
        }
        Ok(warnings)
    }

    /// Looks at every token file, and takes over those whose content changed. `thoroughly`: reads
    /// them even if nothing hints at a change.
    pub fn follow(&mut self, thoroughly: bool) {
        for place in 0..self.files.len() {
            self.follow_file(place, thoroughly);
        }
    }

    fn follow_file(&mut self, place: usize, thoroughly: bool) {
        let Some(file) = self.files.get_mut(place) else { return };
        let pending = file.failing.as_ref().is_some_and(|failure| !failure.told);
        let pending = pending || file.half_seen.is_some();
        if !thoroughly && !pending && !file.watch.hints_at_change() {
            return;
        }
        let is_replaced = file.watch.note();
        let read_at = Instant::now();
        let snapshot = match file.store.read() {
            Ok(snapshot) => snapshot,
            Err(error) => return self.failed(place, error.to_string(), false),
        };
        let seen_before = file.half_seen.replace(snapshot.generation);
        if snapshot.generation != file.generation
            && !is_replaced
            && seen_before != Some(snapshot.generation)
        {
            return;
        }
        file.half_seen = None;
        if snapshot.generation == file.generation {
            file.read_at = read_at;
            if file.failing.take().is_some_and(|failure| failure.told) {
                self.metrics.policy_agrees(&file.namespace);
                tracing::info!(namespace = &*file.namespace, "token file is as before again");
            }
            return;
        }
        if let Err(error) = self.take_over(place, &snapshot, read_at) {
            self.failed(place, error.to_string(), true);
        }
    }

    fn take_over(
        &mut self,
        place: usize,
        snapshot: &Snapshot,
        read_at: Instant,
    ) -> Result<(), StoreError> {
        let Some(file) = self.files.get(place) else { return Ok(()) };
        let gate = self.live.gate();
        let Some(before) = gate.namespace_named(&file.namespace) else { return Ok(()) };
        let (_, compiled) = file.store.judge(snapshot, &before.site.settings.rules)?;
        self.adopt(place, compiled, snapshot.generation, snapshot.warnings.clone());
        if let Some(file) = self.files.get_mut(place) {
            file.read_at = read_at;
        }
        Ok(())
    }

    /// Brings a policy into force on every worker.
    fn adopt(
        &mut self,
        place: usize,
        compiled: Compiled,
        generation: Generation,
        mut warnings: Vec<Problem>,
    ) {
        let Some(file) = self.files.get_mut(place) else { return };
        let gate = self.live.gate();
        let Some(before) = gate.namespace_named(&file.namespace) else { return };
        let site = Arc::clone(&before.site);
        warnings.extend(compiled.warnings);
        logging::tell_warnings(file.store.path(), &warnings);
        let next = in_force(&site, compiled.policy, generation, &self.metrics);
        let next = Arc::new(next);
        let namespaces = gate
            .namespaces
            .iter()
            .map(|own| Arc::clone(if own.site.key == site.key { &next } else { own }))
            .collect();
        self.live.swap(Gate::new(namespaces, gate.limits, gate.access_log));
        (self.barrier)();
        let old = std::mem::replace(&mut file.generation, generation);
        file.failing = None;
        let namespace = Arc::clone(&file.namespace);
        self.tell_in_force(&namespace, Some(&old), &generation);
    }

    /// Tells what is wrong; if it may be wrong for a moment only, when it was seen twice.
    fn failed(&mut self, place: usize, text: String, is_certain: bool) {
        let Some(file) = self.files.get_mut(place) else { return };
        let before = file.failing.take().filter(|failure| failure.text == text);
        let tell = match &before {
            Some(failure) => !failure.told,
            None => is_certain,
        };
        let told = tell || before.is_some();
        file.failing = Some(Failure { text: text.clone(), told });
        if !tell {
            return;
        }
        self.metrics.policy_refused(&file.namespace);
        for problem in text.lines() {
            tracing::error!(
                namespace = &*file.namespace,
                problem,
                "token file refused, the last good policy stays in force"
            );
        }
    }

    fn tell_in_force(&self, namespace: &str, before: Option<&Generation>, after: &Generation) {
        let before = before.map(Generation::short);
        self.metrics.policy_in_force(namespace, before.as_deref(), &after.short(), now().0);
        tracing::info!(namespace, generation = after.short(), "policy in force");
    }
}

type AllLoaded = (Vec<Arc<NamespaceInForce>>, Vec<TokenFile>, Vec<Problem>);

fn load_all(settings: Vec<Namespace>, metrics: &Arc<Metrics>) -> Result<AllLoaded, LoadError> {
    let mut judged = Vec::new();
    for namespace in settings {
        let store = FileStore::new(namespace.tokens.clone());
        let mut watch = Watch::new(namespace.tokens.clone());
        watch.note();
        let site = site(namespace, metrics)?;
        let read_at = Instant::now();
        let snapshot = store.read()?;
        let (_, compiled) = store.judge(&snapshot, &site.settings.rules)?;
        judged.push((site, store, watch, snapshot, compiled, read_at));
    }
    // Only now that all of it is right: settings that are refused must not touch what counts the
    // tokens in force.
    let (mut namespaces, mut files, mut warnings) = (Vec::new(), Vec::new(), Vec::new());
    for (site, store, watch, snapshot, compiled, read_at) in judged {
        let next = in_force(&site, compiled.policy, snapshot.generation, metrics);
        let more: Vec<Problem> = snapshot.warnings.into_iter().chain(compiled.warnings).collect();
        logging::tell_warnings(store.path(), &more);
        warnings.extend(more);
        files.push(TokenFile {
            namespace: Arc::clone(site.metrics.name()),
            store,
            watch,
            generation: snapshot.generation,
            read_at,
            failing: None,
            half_seen: None,
        });
        namespaces.push(Arc::new(next));
    }
    Ok((namespaces, files, warnings))
}

fn site(settings: Namespace, metrics: &Arc<Metrics>) -> Result<Arc<Site>, LoadError> {
    let places = CredentialPlaces::new(&settings.credentials);
    let unusable = |reason: String| LoadError::Site { namespace: settings.name.clone(), reason };
    let headers = HeaderRules::new(places, &settings.identity_headers)
        .map_err(|error| unusable(error.to_string()))?;
    let elsewhere = settings.models.iter().map(|model| &model.upstream);
    let upstreams = std::iter::once(&settings.upstream)
        .chain(elsewhere)
        .map(|upstream| Upstream::open(upstream).map(Arc::new))
        .collect::<Result<_, _>>()
        .map_err(|error| unusable(error.to_string()))?;
    Ok(Arc::new(Site {
        key: NEXT_SITE.fetch_add(1, Ordering::Relaxed),
        headers,
        metrics: metrics.namespace(&settings.name, &settings.rules.routes),
        upstreams,
        settings,
    }))
}

fn in_force(
    site: &Arc<Site>,
    policy: Policy,
    generation: Generation,
    metrics: &Metrics,
) -> NamespaceInForce {
    let usage = metrics.usage.adopt(site.metrics.name(), &policy);
    NamespaceInForce { site: Arc::clone(site), policy, usage, generation }
}
