//! The rules of the container image that can be read off its `Dockerfile`. `make image` builds and
//! runs it.

use std::fs;
use std::path::Path;

/// A Dockerfile's instruction and what follows it, continued lines joined.
struct Instruction {
    name: String,
    arguments: String,
}

fn dockerfile() -> Vec<Instruction> {
    let text =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("Dockerfile")).unwrap();
    let lines: Vec<&str> =
        text.lines().filter(|line| !line.trim_start().starts_with('#')).collect();
    let joined = lines.join("\n").replace("\\\n", " ");
    let instructions = joined.lines().filter_map(|line| line.trim().split_once(' '));
    instructions
        .map(|(name, arguments)| Instruction {
            name: name.to_ascii_uppercase(),
            arguments: arguments.trim().to_owned(),
        })
        .collect()
}

/// The instructions of the last stage: what they say is what runs.
fn runtime_stage() -> Vec<Instruction> {
    let all = dockerfile();
    let from = all.iter().rposition(|instruction| instruction.name == "FROM").unwrap();
    all.into_iter().skip(from).collect()
}

fn only<'i>(stage: &'i [Instruction], name: &str) -> &'i str {
    let mut found = stage.iter().filter(|instruction| instruction.name == name);
    let instruction = found.next().unwrap_or_else(|| panic!("no {name} in the runtime stage"));
    assert!(found.next().is_none(), "{name} is there twice");
    &instruction.arguments
}

#[test]
fn both_base_images_can_be_chosen() {
    let all = dockerfile();
    let first_stage = all.iter().position(|instruction| instruction.name == "FROM").unwrap();
    let (before, stages) = all.split_at(first_stage);
    for name in ["BUILDER_IMAGE", "RUNTIME_IMAGE"] {
        let declared = before.iter().any(|instruction| {
            instruction.name == "ARG"
                && instruction
                    .arguments
                    .split_once('=')
                    .is_some_and(|(arg, default)| arg == name && !default.is_empty())
        });
        assert!(declared, "ARG {name} with a default stands before every FROM");
    }
    let bases: Vec<&str> = stages
        .iter()
        .filter(|instruction| instruction.name == "FROM")
        .map(|instruction| instruction.arguments.split_whitespace().next().unwrap())
        .collect();
    assert_eq!(bases, ["${BUILDER_IMAGE}", "${RUNTIME_IMAGE}"]);
}

#[test]
fn the_image_runs_as_nobody_in_particular() {
    let stage = runtime_stage();
    let (user, group) = only(&stage, "USER").split_once(':').expect("USER names a group too");
    for id in [user, group] {
        assert!(id.parse::<u32>().expect("Kubernetes can check a number only") > 0);
    }
}

#[test]
fn the_image_needs_no_shell() {
    let stage = runtime_stage();
    for name in ["RUN", "SHELL", "HEALTHCHECK", "ADD"] {
        assert!(
            !stage.iter().any(|instruction| instruction.name == name),
            "{name} in the runtime stage"
        );
    }
    for (name, expected) in [
        ("ENTRYPOINT", &["/usr/bin/faregate"][..]),
        ("CMD", &["serve", "--config", "/etc/faregate/faregate.toml"]),
    ] {
        let words: Vec<String> =
            serde_json::from_str(only(&stage, name)).expect("the form that needs no shell");
        assert_eq!(words, expected);
    }
}

#[test]
fn the_runtime_stage_takes_its_files_from_the_builder_only() {
    let stage = runtime_stage();
    let copied: Vec<&Instruction> =
        stage.iter().filter(|instruction| instruction.name == "COPY").collect();
    assert!(!copied.is_empty());
    for instruction in copied {
        assert!(
            instruction.arguments.starts_with("--from=builder "),
            "COPY {}",
            instruction.arguments
        );
    }
}

#[test]
fn secrets_and_build_output_stay_out_of_the_build_context() {
    let ignored =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(".dockerignore")).unwrap();
    let rules: Vec<&str> =
        ignored.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).collect();
    assert_eq!(rules.first(), Some(&"*"), "nothing is sent that is not named");
    for named in &rules[1..] {
        let path = named.strip_prefix('!').expect("only what is let in follows");
        assert!(!["target", ".git", "."].contains(&path), "{named}");
    }
}
