//! The alert rules, judged by Prometheus' own `promtool`.

use std::path::Path;
use std::process::Command;

use crate::python::installed_program;

fn promtool(arguments: &[&str]) {
    let ran = Command::new(installed_program("promtool"))
        .args(arguments)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&ran.stdout).into_owned();
    let errors = String::from_utf8_lossy(&ran.stderr).into_owned();
    assert!(ran.status.success(), "promtool {arguments:?}\n{said}{errors}");
}

#[test]
fn prometheus_takes_the_alert_rules() {
    promtool(&["check", "rules", "deploy/prometheus/faregate-rules.yaml"]);
}

/// Each alert rings when it should, and is quiet beside that.
#[test]
fn the_alerts_ring() {
    let cases = "tests/e2e/alert_rules.yaml";
    promtool(&["test", "rules", cases]);
    // An alert that no case is about would never be seen to ring.
    let text = |file: &str| {
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap()
    };
    let (rules, cases) = (text("deploy/prometheus/faregate-rules.yaml"), text(cases));
    let alerts = rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: "));
    let untried: Vec<&str> =
        alerts.filter(|alert| !cases.contains(&format!("alertname: {alert}\n"))).collect();
    assert_eq!(untried, Vec::<&str>::new());
}
