//! Probes and metrics: what they tell, to whom, and that they tell no more.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use crate::golden;
use crate::support::eventually;
use crate::support::http1::{Client, get, post, request};
use crate::support::metrics::Scrape;
use crate::support::model_server::{CANNED, ModelServer, Then};
use crate::support::rig::Rig;
use crate::support::tokens::{self, Token, secret};

#[test]
fn probes_answer_and_nothing_else_is_there() {
    let rig = Rig::standard();
    let live = rig.gate.ops_get("/livez");
    assert_eq!(live.status, 200);
    let ready = rig.gate.ops_get("/readyz");
    assert_eq!(ready.status, 200);
    assert!(ready.text().contains("default"), "each check is listed: {}", ready.text());
    for target in [
        "/",
        "/healthz",
        "/livez/",
        "/livez/x",
        "//livez",
        "/LIVEZ",
        "/metrics/",
        "/api/v1/namespaces",
        "/debug/pprof/",
        "/score/allowed",
        "/faregate.toml",
        "/../livez",
    ] {
        let response = Client::to(rig.gate.ops).ask(&get(target).token("all"));
        assert_eq!(response.status, 404, "{target}");
        assert!(!response.text().contains("fg_"), "{target}");
    }
    for method in ["POST", "PUT", "DELETE", "OPTIONS"] {
        for target in ["/livez", "/readyz", "/metrics"] {
            let response = Client::to(rig.gate.ops).ask(&request(method, target));
            assert!(matches!(response.status, 404 | 405), "{method} {target}: {response:?}");
        }
    }
    let head = Client::to(rig.gate.ops).ask(&request("HEAD", "/livez"));
    assert_eq!(head.status, 200);
    // Probes are not on the data listener, nor models on this one.
    rig.assert_refused("probe", &get("/livez").token("all"), 403, "no_route");
    rig.assert_refused("metrics", &get("/metrics"), 401, "no_credential");
    rig.finish(0);
}

/// Traffic of every kind, so that every metric has a value.
fn busy_rig() -> Rig {
    let server = ModelServer::scripted(|exchange| {
        exchange.whole();
        if exchange.request.target == "/score/pre-fails" {
            return Then::Close;
        }
        if exchange.request.target == "/score/pre-streams" {
            exchange.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n");
            exchange.wait_until_closed();
            return Then::Close;
        }
        exchange.send(CANNED);
        Then::KeepOpen
    });
    let rig = Rig::before(server);
    let expires = "expires_at = 2999-01-01T00:00:00Z\n".to_owned()
        + &tokens::previous("eval", "2999-01-01T00:00:00Z");
    let with = |streaming: bool| {
        let mut list: Vec<Token<'_>> =
            tokens::STANDARD.iter().copied().filter(|token| token.id != "eval").collect();
        list.push(Token { more: &expires, ..tokens::STANDARD[0] });
        if streaming {
            list.push(Token { id: "streams", ..tokens::STANDARD[0] });
        }
        tokens::file(&list)
    };
    rig.gate.change_tokens(&with(true));
    assert_eq!(rig.ask(&get("/score/allowed").token("eval")).status, 200);
    assert_eq!(rig.ask(&get("/score/allowed").bearer(&tokens::former_secret("eval"))).status, 200);
    assert_eq!(rig.ask(&post("/v2/models/allowed/infer", "{}").token("eval")).status, 200);
    assert_eq!(rig.ask(&get("/open")).status, 200);
    assert_eq!(rig.ask(&get("/score/secret").token("eval")).status, 403);
    assert_eq!(rig.ask(&get("/score/allowed")).status, 401);
    assert_eq!(rig.ask(&get("/nowhere").token("eval")).status, 403);
    assert_eq!(rig.ask(&get("/score/pre-fails").token("eval")).status, 502);
    let mut streaming = rig.connect();
    streaming.send(get("/score/pre-streams").token("streams").bytes());
    streaming.response_head();
    rig.gate.change_tokens(&with(false));
    streaming.rest();
    eventually("the stream is counted", || {
        (rig.gate.metric("faregate_streams_ended_total", &[("why", "revoked")]) == 1.0)
            .then_some(())
    });
    rig
}

/// Name, type and label names of every family of the gate's own, one a line.
fn families(scrape: &Scrape) -> String {
    let mut labels: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for sample in &scrape.samples {
        let family = scrape
            .types
            .keys()
            .filter(|family| {
                let rest = sample.name.strip_prefix(family.as_str());
                let is_histogram = scrape.types[*family] == "histogram";
                rest.is_some_and(|rest| {
                    rest.is_empty()
                        || (is_histogram && matches!(rest, "_bucket" | "_sum" | "_count"))
                })
            })
            .max_by_key(|family| family.len())
            .unwrap_or_else(|| panic!("{} has no type", sample.name));
        let known = labels.entry(family).or_default();
        known.extend(sample.labels.keys().map(String::as_str).filter(|label| *label != "le"));
    }
    let mut text = String::new();
    for (family, kind) in scrape.types.iter().filter(|(family, _)| family.starts_with("faregate_"))
    {
        let labels: Vec<&str> = labels
            .get(family.as_str())
            .map(|labels| labels.iter().copied().collect())
            .unwrap_or_default();
        writeln!(text, "{family} {kind} {}", labels.join(",")).unwrap();
    }
    text
}

#[test]
fn the_metrics_are_those_that_are_documented() {
    let rig = busy_rig();
    let scrape = rig.gate.metrics();
    golden::check("metrics.txt", &families(&scrape));
    for family in ["process_cpu_seconds_total", "process_resident_memory_bytes", "process_open_fds"]
    {
        assert!(scrape.types.contains_key(family), "{family}");
    }
    for family in scrape.types.keys() {
        assert!(scrape.text.contains(&format!("# HELP {family} ")), "{family} has no help");
    }
    let value = |name: &str, labels: &[(&str, &str)]| {
        scrape.value(name, labels).unwrap_or_else(|| panic!("{name}"))
    };
    let of = |more: &[(&'static str, &'static str)]| [&[("namespace", "default")], more].concat();
    // 200 four times, 502 once and 200 of the stream; 403 twice, 401 once.
    assert_eq!(value("faregate_requests_total", &of(&[("code", "200")])), 5.0);
    assert_eq!(value("faregate_requests_total", &of(&[("code", "502")])), 1.0);
    assert_eq!(value("faregate_requests_total", &of(&[("code", "403")])), 2.0);
    assert_eq!(value("faregate_requests_total", &of(&[("code", "401")])), 1.0);
    assert_eq!(
        value(
            "faregate_requests_total",
            &of(&[("profile", "kserve-v2"), ("group", "model-evaluation")])
        ),
        1.0
    );
    assert_eq!(value("faregate_requests_total", &of(&[("group", "public")])), 1.0);
    assert_eq!(
        value("faregate_decisions_total", &of(&[("result", "allowed"), ("reason", "allowed")])),
        6.0
    );
    assert_eq!(
        value("faregate_decisions_total", &of(&[("result", "denied"), ("reason", "no_route")])),
        1.0
    );
    assert_eq!(
        value("faregate_token_requests_total", &of(&[("token_id", "eval"), ("result", "allowed")])),
        4.0
    );
    assert_eq!(
        value("faregate_token_requests_total", &of(&[("token_id", "eval"), ("result", "denied")])),
        2.0
    );
    assert_eq!(
        value("faregate_token_previous_secret_used_total", &of(&[("token_id", "eval")])),
        1.0
    );
    assert_eq!(
        value("faregate_token_expiry_timestamp_seconds", &of(&[("token_id", "eval")])),
        32_472_144_000.0
    );
    let used = value("faregate_token_last_used_timestamp_seconds", &of(&[("token_id", "eval")]));
    let now =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64();
    assert!((0.0..600.0).contains(&(now - used)), "{used}");
    assert_eq!(value("faregate_tokens", &of(&[("state", "disabled")])), 1.0);
    assert_eq!(value("faregate_tokens", &of(&[("state", "expired")])), 1.0);
    // The foreign key's token is one of them.
    assert_eq!(value("faregate_tokens", &of(&[("state", "active")])), 7.0);
    assert_eq!(value("faregate_upstream_errors_total", &of(&[])), 1.0);
    assert_eq!(value("faregate_upstream_first_byte_seconds_count", &of(&[])), 5.0);
    assert_eq!(value("faregate_requests_in_flight", &of(&[])), 0.0);
    assert!(value("faregate_decision_duration_seconds_count", &[]) >= 9.0);
    assert_eq!(value("faregate_build_info", &[]), 1.0);
    assert_eq!(value("faregate_policy_info", &of(&[])), 1.0, "one generation is in force");
    let buckets: Vec<&str> = scrape
        .samples
        .iter()
        .filter(|sample| sample.name == "faregate_decision_duration_seconds_bucket")
        .filter_map(|sample| sample.labels.get("le").map(String::as_str))
        .collect();
    let bounds: Vec<f64> = buckets
        .iter()
        .filter_map(|bound| bound.parse().ok())
        .filter(|b: &f64| b.is_finite())
        .collect();
    assert_eq!((bounds.first(), bounds.last()), (Some(&1e-7), Some(&1e-2)));
    assert_eq!(buckets.last(), Some(&"+Inf"));
    rig.assert_no_leak();
}

#[test]
fn openmetrics_is_written_when_it_is_asked_for() {
    let rig = busy_rig();
    let ask = |accept: &str| Client::to(rig.gate.ops).ask(&get("/metrics").with("Accept", accept));
    let plain = ask("*/*");
    assert!(
        plain.field("content-type").unwrap().starts_with("text/plain; version=0.0.4"),
        "{plain:?}"
    );
    assert!(!plain.text().contains("# EOF"));
    // As Prometheus asks.
    let open = ask(
        "application/openmetrics-text;version=1.0.0;q=0.6,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
    );
    assert!(
        open.field("content-type")
            .unwrap()
            .starts_with("application/openmetrics-text; version=1.0.0"),
        "{open:?}"
    );
    let text = open.text();
    assert!(text.ends_with("# EOF\n"));
    let scrape = Scrape::parse(text.clone());
    for (family, kind) in &scrape.types {
        assert!(
            !family.ends_with("_total"),
            "{family}: a family is named without the suffix of its samples"
        );
        if kind == "counter" {
            let samples =
                scrape.samples.iter().filter(|sample| sample.name == format!("{family}_total"));
            assert!(samples.count() > 0, "{family}");
        }
    }
    assert_eq!(scrape.types.get("faregate_requests").map(String::as_str), Some("counter"));
    assert_eq!(scrape.value("faregate_streams_ended_total", &[("why", "revoked")]), Some(1.0));
    // Every family's lines stand together, which a parser of the format insists on.
    let mut done = BTreeSet::new();
    let mut current = String::new();
    for line in text.lines().filter(|line| line.starts_with("# TYPE ")) {
        let family = line.split(' ').nth(2).unwrap().to_owned();
        assert!(done.insert(family.clone()) && family != current, "{family} twice");
        current = family;
    }
    rig.assert_no_leak();
}

#[test]
fn labels_come_from_no_request() {
    let rig = Rig::standard();
    let marks = [
        "mark-path",
        "mark-host.test",
        "MARKMETHOD",
        "mark-agent",
        "mark-query",
        "mark-id",
        "mark-user",
    ];
    let basic = {
        use base64::Engine as _;
        base64::engine::general_purpose::STANDARD.encode(format!("mark-user:{}", secret("eval")))
    };
    for asked in [
        get("/score/mark-path").token("eval"),
        get("/mark-path/x").token("eval"),
        get("/score/allowed").host("mark-host.test").token("nobody"),
        request("MARKMETHOD", "/score/allowed").token("eval"),
        get("/score/allowed?mark-query=1")
            .token("eval")
            .with("User-Agent", "mark-agent")
            .with("X-Request-Id", "mark-id"),
        get("/score/allowed").with("Authorization", format!("Basic {basic}")),
        get("/ask?model=mark-query").token("eval"),
    ] {
        rig.ask(&asked);
    }
    let text = rig.gate.metrics().text;
    for mark in marks {
        assert!(!text.to_lowercase().contains(&mark.to_lowercase()), "{mark} is in the metrics");
    }
    rig.finish(1);
}

#[test]
fn there_are_no_series_of_each_token_when_there_are_very_many() {
    let rig = Rig::standard();
    let ids: Vec<String> = (0..10_001).map(|number| format!("token-{number}")).collect();
    let tokens: Vec<Token<'_>> = ids
        .iter()
        .map(|id| Token {
            id,
            name: "",
            resources: &["allowed"],
            groups: &["model-evaluation"],
            more: "",
        })
        .collect();
    rig.gate.change_tokens(&tokens::file(&tokens));
    assert_eq!(rig.ask(&get("/score/allowed").token("token-10000")).status, 200);
    let scrape = rig.gate.metrics();
    assert_eq!(scrape.value("faregate_tokens", &[("state", "active")]), Some(10_002.0));
    assert!(!scrape.text.contains("token-10000"));
    assert_eq!(scrape.value("faregate_token_requests_total", &[]), None);
    rig.finish(1);
}

#[test]
fn the_generation_tells_replicas_apart_and_alike() {
    let (one, other) = (Rig::standard(), Rig::standard());
    let generation = |rig: &Rig| {
        let scrape = rig.gate.metrics();
        let found: Vec<String> = scrape
            .samples
            .iter()
            .filter(|sample| sample.name == "faregate_policy_info")
            .map(|sample| sample.labels["generation"].clone())
            .collect();
        assert_eq!(found.len(), 1, "{found:?}");
        found[0].clone()
    };
    assert_eq!(generation(&one), tokens::generation(&tokens::standard_file()));
    assert_eq!(generation(&one), generation(&other));
    // A comment is a change of the file, if not of anyone's rights.
    let commented = format!("{}# reviewed\n", tokens::standard_file());
    other.gate.change_tokens(&commented);
    assert_ne!(generation(&one), generation(&other));
    one.finish(0);
    other.finish(0);
}
