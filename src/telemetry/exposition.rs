//! The two text forms of metrics: Prometheus' own and OpenMetrics 1.0, which the prometheus crate
//! does not write.

use std::fmt::Write as _;

use prometheus::proto::{LabelPair, MetricFamily, MetricType};

/// A text form of metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// `text/plain; version=0.0.4`.
    Prometheus,
    /// `application/openmetrics-text; version=1.0.0`.
    OpenMetrics,
}

impl Form {
    /// The form that a scraper asks for by `Accept`.
    #[must_use]
    pub fn asked_for(accept: Option<&str>) -> Self {
        match accept {
            Some(accept) if accept.contains("application/openmetrics-text") => Self::OpenMetrics,
            _ => Self::Prometheus,
        }
    }

    /// The `Content-Type`.
    #[must_use]
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// Writes the families in a form.
#[must_use]
pub fn write(families: &[MetricFamily], form: Form) -> String {
    let mut out = String::with_capacity(16 * 1024);
    for family in families {
        write_family(&mut out, family, form);
    }
    if form == Form::OpenMetrics {
        out.push_str("# EOF\n");
    }
    out
}

fn write_family(out: &mut String, family: &MetricFamily, form: Form) {
    let name = family.name();
    let kind = match family.get_field_type() {
        MetricType::COUNTER => "counter",
        MetricType::HISTOGRAM => "histogram",
        MetricType::GAUGE => "gauge",
        // The gate registers no other kind.
        _ => return,
    };
    // OpenMetrics: the family of a counter is named without `_total`, its samples with it.
    let stem = name.strip_suffix("_total").unwrap_or(name);
    let (family_name, counter_name) = match (form, kind) {
        (Form::OpenMetrics, "counter") => (stem, format!("{stem}_total")),
        _ => (name, name.to_owned()),
    };
    let help = family.help().replace('\\', "\\\\").replace('\n', "\\n");
    // Writing to a string cannot fail.
    let _ = writeln!(out, "# HELP {family_name} {help}\n# TYPE {family_name} {kind}");
    for metric in family.get_metric() {
        let labels = metric.get_label();
        match kind {
            "counter" => sample(out, &counter_name, labels, None, metric.get_counter().get_value()),
            "gauge" => sample(out, name, labels, None, metric.get_gauge().get_value()),
            _ => {
                let histogram = metric.get_histogram();
                let count = to_float(histogram.get_sample_count());
                let bucket_name = format!("{name}_bucket");
                for bucket in histogram.get_bucket() {
                    let bound = bucket.upper_bound();
                    if bound.is_finite() {
                        let value = to_float(bucket.cumulative_count());
                        sample(out, &bucket_name, labels, Some(&float(bound)), value);
                    }
                }
                sample(out, &bucket_name, labels, Some("+Inf"), count);
                sample(out, &format!("{name}_sum"), labels, None, histogram.get_sample_sum());
                sample(out, &format!("{name}_count"), labels, None, count);
            }
        }
    }
}

#[allow(clippy::cast_precision_loss, reason = "the exposition formats know only floats")]
fn to_float(count: u64) -> f64 {
    count as f64
}

fn sample(out: &mut String, name: &str, labels: &[LabelPair], bound: Option<&str>, value: f64) {
    out.push_str(name);
    let labels = labels.iter().map(|label| (label.name(), label.value()));
    let mut open = '{';
    for (name, value) in labels.chain(bound.map(|bound| ("le", bound))) {
        let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
        let _ = write!(out, "{open}{name}=\"{value}\"");
        open = ',';
    }
    out.push_str(if open == ',' { "} " } else { " " });
    out.push_str(&float(value));
    out.push('\n');
}

fn float(value: f64) -> String {
    value.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use prometheus::{HistogramOpts, HistogramVec, IntCounterVec, Opts, Registry};

    fn families() -> Vec<MetricFamily> {
        let registry = Registry::new();
        let counters =
            IntCounterVec::new(Opts::new("requests_total", "Requests\\ of\nall."), &["who"]);
        let counters = counters.unwrap();
        counters.with_label_values(&["a\"b\\c\nd"]).inc_by(3);
        let histograms = HistogramVec::new(
            HistogramOpts::new("took_seconds", "Time.").buckets(vec![0.001, 1.0]),
            &["who"],
        )
        .unwrap();
        histograms.with_label_values(&["x"]).observe(0.5);
        registry.register(Box::new(counters)).unwrap();
        registry.register(Box::new(histograms)).unwrap();
        registry.gather()
    }

    #[test]
    fn both_forms_are_as_their_specifications_say() {
        assert_eq!(
            write(&families(), Form::Prometheus),
            "# HELP requests_total Requests\\\\ of\\nall.\n# TYPE requests_total counter\n\
             requests_total{who=\"a\\\"b\\\\c\\nd\"} 3\n\
             # HELP took_seconds Time.\n# TYPE took_seconds histogram\n\
             took_seconds_bucket{who=\"x\",le=\"0.001\"} 0\n\
             took_seconds_bucket{who=\"x\",le=\"1\"} 1\n\
             took_seconds_bucket{who=\"x\",le=\"+Inf\"} 1\n\
             took_seconds_sum{who=\"x\"} 0.5\ntook_seconds_count{who=\"x\"} 1\n"
        );
        let open = write(&families(), Form::OpenMetrics);
        assert!(open.contains("# TYPE requests counter\nrequests_total{"), "{open}");
        assert!(open.ends_with("# EOF\n"), "{open}");
    }
}
