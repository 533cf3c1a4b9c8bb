//! The metrics, one line each in [`Metrics::new`]. Labels come from closed lists, the settings and
//! the token files, never from a request.

mod token_series;

use std::sync::{Arc, OnceLock};

use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry,
};

use super::exposition;
use super::usage::UsageTable;
use crate::policy::{Reason, RouteTable};

/// Above this many tokens the series of each token are left out.
const MAX_TOKENS_WITH_SERIES: usize = 10_000;

/// The action of requests to the admin API that came without a right key.
pub const WITHOUT_KEY: &str = "without_key";

/// Every metric of the process.
pub struct Metrics {
    registry: Registry,
    /// The use of tokens, from which their series are made at each scrape.
    pub usage: Arc<UsageTable>,
    per_token: bool,
    requests: IntCounterVec,
    decisions: IntCounterVec,
    /// How long the law takes for a decision.
    pub decision_duration: Histogram,
    request_duration: HistogramVec,
    first_byte: HistogramVec,
    in_flight: IntGaugeVec,
    upstream_errors: IntCounterVec,
    endpoint_up: IntGaugeVec,
    /// Tokens by namespace and state.
    pub tokens: IntGaugeVec,
    reloads: IntCounterVec,
    reload_successful: IntGaugeVec,
    last_reload: IntGaugeVec,
    policy_info: IntGaugeVec,
    streams_ended: IntCounterVec,
    admin_requests: IntCounterVec,
    settings_in_force: IntGauge,
    /// Open client connections.
    pub connections: IntGauge,
}

/// Why a request to a model server failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UpstreamError {
    /// No connection.
    Connect,
    /// No answer in time.
    Timeout,
    /// Closed before the answer was whole.
    Reset,
    /// The answer is no HTTP.
    Protocol,
    /// No address is known for any endpoint.
    NoEndpoint,
}

impl UpstreamError {
    const ALL: [Self; 5] =
        [Self::Connect, Self::Timeout, Self::Reset, Self::Protocol, Self::NoEndpoint];

    fn as_str(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Timeout => "timeout",
            Self::Reset => "reset",
            Self::Protocol => "protocol",
            Self::NoEndpoint => "no_endpoint",
        }
    }
}

/// Why the gate ended a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamEnd {
    /// Its token no longer allows it.
    Revoked,
    /// The gate stopped.
    Drain,
}

impl StreamEnd {
    fn as_str(self) -> &'static str {
        match self {
            Self::Revoked => "revoked",
            Self::Drain => "drain",
        }
    }
}

impl Metrics {
    /// Registers every metric.
    ///
    /// # Errors
    /// When two have one name, which a test excludes.
    pub fn new(per_token: bool) -> prometheus::Result<Self> {
        let registry = Registry::new();
        let table = Registering(&registry);
        let metrics = Self {
            requests: table.counters("faregate_requests_total",
                "Requests that were answered, by the gate or the model server.",
                &["namespace", "profile", "group", "code"])?,
            decisions: table.counters("faregate_decisions_total",
                "Decisions about requests.", &["namespace", "result", "reason"])?,
            decision_duration: table.histogram("faregate_decision_duration_seconds",
                "Time that the decision about a request took.",
                vec![1e-7, 2.5e-7, 5e-7, 1e-6, 2.5e-6, 5e-6, 1e-5, 2.5e-5, 5e-5, 1e-4, 2.5e-4,
                     5e-4, 1e-3, 2.5e-3, 5e-3, 1e-2])?,
            request_duration: table.histograms("faregate_request_duration_seconds",
                "Time from a request's head to the end of its response.",
                &["namespace", "profile"], seconds())?,
            first_byte: table.histograms("faregate_upstream_first_byte_seconds",
                "Time from forwarding a request to the head of the model server's response.",
                &["namespace"], seconds())?,
            in_flight: table.gauges("faregate_requests_in_flight",
                "Requests that are being served.", &["namespace"])?,
            upstream_errors: table.counters("faregate_upstream_errors_total",
                "Requests that the model server did not answer.", &["namespace", "kind"])?,
            endpoint_up: table.gauges("faregate_upstream_endpoint_up",
                "Whether the last connection to the endpoint could be made.",
                &["namespace", "endpoint"])?,
            tokens: table.gauges("faregate_tokens", "Tokens in the policy in force.",
                &["namespace", "state"])?,
            reloads: table.counters("faregate_policy_reloads_total",
                "Policies that were loaded, by result.", &["namespace", "result"])?,
            reload_successful: table.gauges("faregate_policy_reload_successful",
                "Whether the policy in force is what the token file says.", &["namespace"])?,
            last_reload: table.gauges("faregate_policy_last_reload_timestamp_seconds",
                "When the policy in force was loaded.", &["namespace"])?,
            policy_info: table.gauges("faregate_policy_info",
                "The policy in force on every worker: the first 12 hex digits of its file's BLAKE3.",
                &["namespace", "generation"])?,
            streams_ended: table.counters("faregate_streams_ended_total",
                "Responses and upgraded connections that the gate ended.", &["namespace", "why"])?,
            admin_requests: table.counters("faregate_admin_requests_total",
                "Requests to the admin API and the token page.", &["action", "code"])?,
            connections: table.gauge("faregate_connections", "Open client connections.")?,
            settings_in_force: table.gauge(
                "faregate_settings_reload_successful",
                "Whether the settings in force are what the file says.",
            )?,
            usage: Arc::default(),
            per_token,
            registry,
        };
        let build = IntGauge::with_opts(
            Opts::new("faregate_build_info", "The running version.")
                .const_label("version", env!("CARGO_PKG_VERSION")),
        )?;
        build.set(1);
        metrics.settings_in_force(true);
        // There from the start, at 0, so that the first wrong key is seen as a change.
        for code in ["401", "429"] {
            metrics.admin_requests.with_label_values(&[WITHOUT_KEY, code]);
        }
        metrics.registry.register(Box::new(build))?;
        let process = prometheus::process_collector::ProcessCollector::for_self();
        metrics.registry.register(Box::new(process))?;
        Ok(metrics)
    }

    /// The handles of a namespace, resolved once so that a request looks nothing up.
    #[must_use]
    pub fn namespace(self: &Arc<Self>, name: &str, routes: &RouteTable) -> NamespaceMetrics {
        let mut series: Vec<Series> = Vec::new();
        let mut by_route = Vec::with_capacity(routes.routes().len());
        for route in routes.routes() {
            let (profile, group) = (route.origin().as_str(), route.access().as_str());
            let place = series.iter().position(|s| *s.profile == *profile && *s.group == *group);
            by_route.push(place.unwrap_or_else(|| {
                series.push(self.series(name, profile, group));
                series.len() - 1
            }));
        }
        series.push(self.series(name, "", ""));
        // Series that are there from the start, at 0, so that a first event is seen as a change.
        for kind in UpstreamError::ALL {
            self.upstream_errors.with_label_values(&[name, kind.as_str()]);
        }
        for why in [StreamEnd::Revoked, StreamEnd::Drain] {
            self.streams_ended.with_label_values(&[name, why.as_str()]);
        }
        for result in ["success", "failure"] {
            self.reloads.with_label_values(&[name, result]);
        }
        let decisions = |result: &'static str| {
            Reason::ALL
                .map(|reason| self.decisions.with_label_values(&[name, result, reason.as_str()]))
        };
        NamespaceMetrics {
            name: name.into(),
            allowed: self.decisions.with_label_values(&[name, "allowed", "allowed"]),
            denied: decisions("denied"),
            would_deny: decisions("would_deny"),
            in_flight: self.in_flight.with_label_values(&[name]),
            first_byte: self.first_byte.with_label_values(&[name]),
            by_route,
            series,
            metrics: Arc::clone(self),
        }
    }

    fn series(&self, namespace: &str, profile: &str, group: &str) -> Series {
        Series {
            profile: profile.into(),
            group: group.into(),
            duration: self.request_duration.with_label_values(&[namespace, profile]),
            by_code: std::iter::repeat_with(OnceLock::new).take(500).collect(),
        }
    }

    /// Counts a refusal before a namespace was known.
    pub fn denied_without_namespace(&self, reason: Option<Reason>) {
        if let Some(reason) = reason {
            self.decisions.with_label_values(&["", "denied", reason.as_str()]).inc();
        }
    }

    /// Counts an answer before a namespace was known.
    pub fn answered_without_namespace(&self, code: u16) {
        self.requests.with_label_values(&["", "", "", code.to_string().as_str()]).inc();
    }

    /// Tells whether an endpoint could be connected to.
    pub fn set_endpoint_up(&self, namespace: &str, endpoint: &str, up: bool) {
        self.endpoint_up.with_label_values(&[namespace, endpoint]).set(i64::from(up));
    }

    /// Tells whether the settings in force are what the file says.
    pub fn settings_in_force(&self, yes: bool) {
        self.settings_in_force.set(i64::from(yes));
    }

    /// Tells that a policy came into force on every worker.
    pub fn policy_in_force(
        &self,
        namespace: &str,
        before: Option<&str>,
        generation: &str,
        now: i64,
    ) {
        if let Some(before) = before
            && before != generation
        {
            // The series may never have been there; then there is nothing to remove.
            let _ = self.policy_info.remove_label_values(&[namespace, before]);
        }
        self.policy_info.with_label_values(&[namespace, generation]).set(1);
        self.last_reload.with_label_values(&[namespace]).set(now);
        self.reload_successful.with_label_values(&[namespace]).set(1);
        self.reloads.with_label_values(&[namespace, "success"]).inc();
    }

    /// Tells that a token file could not be taken over; the last good policy stays in force.
    pub fn policy_refused(&self, namespace: &str) {
        self.reload_successful.with_label_values(&[namespace]).set(0);
        self.reloads.with_label_values(&[namespace, "failure"]).inc();
    }

    /// Tells that the file is what is in force again, though nothing had to be loaded.
    pub fn policy_agrees(&self, namespace: &str) {
        self.reload_successful.with_label_values(&[namespace]).set(1);
    }

    /// Counts an answer of the admin API or the token page. The actions are a closed list of the
    /// program's, never what a request says.
    pub fn admin_answered(&self, action: &'static str, code: u16) {
        self.admin_requests.with_label_values(&[action, code.to_string().as_str()]).inc();
    }

    /// All metrics as text.
    #[must_use]
    pub fn exposition(&self, form: exposition::Form) -> String {
        let mut families = self.registry.gather();
        if self.per_token && self.usage.len() <= MAX_TOKENS_WITH_SERIES {
            families.extend(token_series::families(&self.usage));
        }
        families.sort_by(|one, other| one.name().cmp(other.name()));
        exposition::write(&families, form)
    }
}

/// The handles of one namespace.
pub struct NamespaceMetrics {
    name: Arc<str>,
    allowed: IntCounter,
    denied: [IntCounter; Reason::ALL.len()],
    would_deny: [IntCounter; Reason::ALL.len()],
    /// Requests that are being served.
    pub in_flight: IntGauge,
    /// Time to the head of the model server's response, in seconds.
    pub first_byte: Histogram,
    by_route: Vec<usize>,
    series: Vec<Series>,
    metrics: Arc<Metrics>,
}

struct Series {
    profile: Box<str>,
    group: Box<str>,
    duration: Histogram,
    /// From 100 to 599, each made when it is first counted.
    by_code: Box<[OnceLock<IntCounter>]>,
}

impl NamespaceMetrics {
    /// The namespace's name.
    #[must_use]
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Counts a decision.
    pub fn decided(&self, denied: Option<Reason>, would_deny: Option<Reason>) {
        let counter = match (denied, would_deny) {
            (Some(reason), _) => self.denied.get(reason as usize),
            (None, Some(reason)) => self.would_deny.get(reason as usize),
            (None, None) => Some(&self.allowed),
        };
        if let Some(counter) = counter {
            counter.inc();
        }
    }

    /// Counts an answered request and how long it took.
    pub fn answered(&self, route: Option<usize>, code: u16, seconds: f64) {
        let place = route.and_then(|route| self.by_route.get(route).copied());
        let place = place.unwrap_or(self.series.len().saturating_sub(1));
        let Some(series) = self.series.get(place) else { return };
        series.duration.observe(seconds);
        let cell = usize::from(code).checked_sub(100).and_then(|code| series.by_code.get(code));
        if let Some(cell) = cell {
            cell.get_or_init(|| {
                let code = code.to_string();
                let labels = [&*self.name, &*series.profile, &*series.group, code.as_str()];
                self.metrics.requests.with_label_values(&labels)
            })
            .inc();
        }
    }

    /// Counts a request that the model server did not answer.
    pub fn upstream_failed(&self, error: UpstreamError) {
        self.metrics.upstream_errors.with_label_values(&[&*self.name, error.as_str()]).inc();
    }

    /// Counts a stream that the gate ended.
    pub fn stream_ended(&self, why: StreamEnd) {
        self.metrics.streams_ended.with_label_values(&[&*self.name, why.as_str()]).inc();
    }
}

struct Registering<'r>(&'r Registry);

impl Registering<'_> {
    fn counters(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
    ) -> prometheus::Result<IntCounterVec> {
        let metric = IntCounterVec::new(Opts::new(name, help), labels)?;
        self.0.register(Box::new(metric.clone()))?;
        Ok(metric)
    }

    fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> prometheus::Result<IntGaugeVec> {
        let metric = IntGaugeVec::new(Opts::new(name, help), labels)?;
        self.0.register(Box::new(metric.clone()))?;
        Ok(metric)
    }

    fn gauge(&self, name: &str, help: &str) -> prometheus::Result<IntGauge> {
        let metric = IntGauge::new(name, help)?;
        self.0.register(Box::new(metric.clone()))?;
        Ok(metric)
    }

    fn histogram(
        &self,
        name: &str,
        help: &str,
        buckets: Vec<f64>,
    ) -> prometheus::Result<Histogram> {
        let metric = Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets))?;
        self.0.register(Box::new(metric.clone()))?;
        Ok(metric)
    }

    fn histograms(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
        buckets: Vec<f64>,
    ) -> prometheus::Result<HistogramVec> {
        let metric = HistogramVec::new(HistogramOpts::new(name, help).buckets(buckets), labels)?;
        self.0.register(Box::new(metric.clone()))?;
        Ok(metric)
    }
}

/// From a millisecond to five minutes: models are slow.
fn seconds() -> Vec<f64> {
    vec![
        0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
        300.0,
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_of_the_admin_api_are_counted_by_action_and_code() {
        let metrics = Metrics::new(false).unwrap();
        metrics.admin_answered("issue", 201);
        metrics.admin_answered("issue", 201);
        metrics.admin_answered(WITHOUT_KEY, 401);
        let told = metrics.exposition(exposition::Form::Prometheus);
        let lines: Vec<&str> =
            told.lines().filter(|line| line.starts_with("faregate_admin_requests_total")).collect();
        assert_eq!(
            lines,
            [
                "faregate_admin_requests_total{action=\"issue\",code=\"201\"} 2",
                "faregate_admin_requests_total{action=\"without_key\",code=\"401\"} 1",
                "faregate_admin_requests_total{action=\"without_key\",code=\"429\"} 0",
            ]
        );
    }
}
