use std::sync::atomic::Ordering;

use prometheus::proto::{Counter, Gauge, LabelPair, Metric, MetricFamily, MetricType};

use crate::telemetry::usage::UsageTable;

/// The series of each token, made anew from its use.
pub(super) fn families(usage: &UsageTable) -> Vec<MetricFamily> {
    let mut requests = Vec::new();
    let mut last_used = Vec::new();
    let mut expiry = Vec::new();
    let mut previous = Vec::new();
    for (namespace, id, usage) in usage.all() {
        let labels = || vec![pair("namespace", &namespace), pair("token_id", id.as_str())];
        for (result, count) in [
            ("allowed", &usage.allowed),
            ("denied", &usage.denied),
            ("would_deny", &usage.would_deny),
        ] {
            let count = count.load(Ordering::Relaxed);
            if count > 0 || result == "allowed" {
                let mut labels = labels();
                labels.insert(1, pair("result", result));
                requests.push(counter(labels, count));
            }
        }
        for (at, list) in [(&usage.last_used, &mut last_used), (&usage.expires_at, &mut expiry)] {
            let at = at.load(Ordering::Relaxed);
            if at > 0 {
                list.push(gauge(labels(), at));
            }
        }
        let by_previous = usage.previous_secret.load(Ordering::Relaxed);
        if by_previous > 0 {
            previous.push(counter(labels(), by_previous));
        }
    }
    let family = |name: &str, help: &str, kind, metrics| {
        let mut family = MetricFamily::default();
        family.set_name(name.into());
        family.set_help(help.into());
        family.set_field_type(kind);
        family.set_metric(metrics);
        family
    };
    vec![
        family(
            "faregate_token_requests_total",
            "Requests of a token.",
            MetricType::COUNTER,
            requests,
        ),
        family(
            "faregate_token_last_used_timestamp_seconds",
            "When a request of the token was last forwarded.",
            MetricType::GAUGE,
            last_used,
        ),
        family(
            "faregate_token_expiry_timestamp_seconds",
            "When the token expires.",
            MetricType::GAUGE,
            expiry,
        ),
        family(
            "faregate_token_previous_secret_used_total",
            "Requests that came with the secret before the last regeneration.",
            MetricType::COUNTER,
            previous,
        ),
    ]
    .into_iter()
    .filter(|family| !family.get_metric().is_empty())
    .collect()
}

fn pair(name: &str, value: &str) -> LabelPair {
    let mut pair = LabelPair::default();
    pair.set_name(name.into());
    pair.set_value(value.into());
    pair
}

#[allow(clippy::cast_precision_loss, reason = "the exposition format knows only floats")]
fn counter(labels: Vec<LabelPair>, count: u64) -> Metric {
    let mut value = Counter::default();
    value.set_value(count as f64);
    let mut metric = Metric::from_label(labels);
    metric.set_counter(value);
    metric
}

#[allow(clippy::cast_precision_loss, reason = "the exposition format knows only floats")]
fn gauge(labels: Vec<LabelPair>, at: i64) -> Metric {
    let mut value = Gauge::default();
    value.set_value(at as f64);
    let mut metric = Metric::from_label(labels);
    metric.set_gauge(value);
    metric
}
