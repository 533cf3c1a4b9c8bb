//! `faregate demo` as somebody meets it who has just installed the program: start it, paste what it prints.

use std::process::Command;

use crate::gate::faregate;
use crate::process::{RunningProcess, run};

#[test]
fn every_line_the_demo_prints_works_when_pasted() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = faregate();
    command.arg("demo").arg("--dir").arg(folder.path().join("namespace"));
    let demo = RunningProcess::start("faregate demo", &mut command);
    demo.wait_for_output("its curl lines", |line| line.contains("curl").then_some(()));
    panic!("adapt: {}", demo.transcript());
}
