//! `faregate demo` as somebody meets it who has just installed the program: start it, paste what it
//! prints.

use std::path::PathBuf;
use std::process::Command;

use crate::gate::faregate;
use crate::process::{RunningProcess, run};

/// A line to paste, and the status its comment promises: `# without a token: refused (401)`.
struct Pasted {
    comment: String,
    line: String,
    promised: Option<u16>,
}

#[test]
fn every_line_the_demo_prints_does_what_it_says() {
    let demo = RunningProcess::start("faregate demo", faregate().arg("demo"));
    demo.wait_for_output("how to end it", |line| line.contains("Ctrl-C").then_some(()));
    let printed = demo.output_lines();
    let pasted = lines_to_paste(&printed);
    let allowed = pasted.iter().filter(|pasted| pasted.promised.is_none()).count();
    assert!(allowed >= 3 && pasted.len() > allowed, "both answers and refusals: {printed:?}");

    for Pasted { comment, line, promised } in pasted {
        let (status, answer) = paste(&line);
        match promised {
            Some(promised) => assert_eq!(status, promised, "{comment}\n{line}\n{answer}"),
            None => assert!((200..300).contains(&status), "{comment}\n{line}\n{answer}"),
        }
        if line.contains("sepal_length") {
            assert!(answer.contains("setosa"), "{comment}\n{line}\n{answer}");
        }
    }

    let folder: PathBuf = printed
        .iter()
        .find_map(|line| line.trim_start().strip_prefix("Settings and tokens"))
        .expect("where its files are")
        .trim()
        .into();
    assert!(folder.join("tokens.toml").exists(), "{}", folder.display());
    assert!(demo.terminate().success());
    assert!(!folder.exists(), "{} is left behind", folder.display());
}

fn lines_to_paste(printed: &[String]) -> Vec<Pasted> {
    let mut comment = String::new();
    let mut pasted = Vec::new();
    for line in printed {
        if line.starts_with('#') {
            comment.clone_from(line);
        } else if line.starts_with("curl ") {
            let promised = comment.split_once("refused (").map(|(_, status)| {
                status.split(')').next().unwrap_or_default().parse().expect("a status")
            });
            pasted.push(Pasted { comment: comment.clone(), line: line.clone(), promised });
        }
    }
    pasted
}

/// Has a shell run the line as it stands; the status and all that curl printed.
fn paste(line: &str) -> (u16, String) {
    const SHOW_STATUS: &str =
        r#"curl() { command curl --disable --noproxy '*' -sS -w '\n%{http_code}' "$@"; };"#;
    let finished =
        run(line, Command::new("bash").arg("-c").arg(format!("{SHOW_STATUS}\n{line}"))).succeeded();
    let (answer, status) = finished.stdout.rsplit_once('\n').expect("the status comes last");
    (status.parse().unwrap(), answer.to_owned())
}
