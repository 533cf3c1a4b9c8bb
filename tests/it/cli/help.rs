use crate::golden;

use super::{Place, Ran};

const COMMANDS: [&[&str]; 25] = [
    &[],
    &["serve"],
    &["demo"],
    &["init"],
    &["check"],
    &["routes"],
    &["explain"],
    &["token"],
    &["token", "issue"],
    &["token", "list"],
    &["token", "show"],
    &["token", "regenerate"],
    &["token", "disable"],
    &["token", "enable"],
    &["token", "delete"],
    &["token", "hash"],
    &["admin-key"],
    &["admin-key", "issue"],
    &["admin-key", "list"],
    &["admin-key", "delete"],
    &["completions"],
    &["manual"],
    &["help"],
    &["help", "token"],
    &["help", "token", "issue"],
];

#[test]
fn every_command_has_help() {
    let place = Place::empty();
    for command in COMMANDS {
        let is_help = command.first() == Some(&"help");
        let mut arguments = command.to_vec();
        if !is_help {
            arguments.push("--help");
        }
        let help = place.ok(&arguments).out;
        if is_help {
            // The same text on another way.
            let direct: Vec<&str> = command[1..].iter().copied().chain(["--help"]).collect();
            assert_eq!(help, place.ok(&direct).out, "{command:?}");
            continue;
        }
        let name = if command.is_empty() { "faregate".into() } else { command.join("_") };
        golden::check(&format!("help_{}.txt", name.replace('-', "_")), &help);
        let example = format!("  faregate {}", command.join(" "));
        let is_group = matches!(command, [] | ["token"] | ["admin-key"]);
        assert!(is_group || help.contains(&example), "no example for {command:?}");
    }
}

#[test]
fn wrong_usage_is_told_on_standard_error_with_code_2() {
    let place = Place::new();
    for (arguments, told) in [
        (&["nonsense"][..], "nonsense"),
        (&["token", "issue"], "--resource"),
        (&["token", "issue", "--resource", "x"], "--group"),
        (&["token", "show"], "<ID>"),
        (&["token", "regenerate", "batch", "--grace", "soon"], "90d"),
        (&["token", "list", "--colour"], "--colour"),
        (&["explain", "--token-id", "batch", "--method", "get", "--path", "/"], "upper case"),
        (&["explain", "--token-id", "batch", "--method", "GET"], "--path"),
        (&["completions", "tcsh"], "bash"),
        (&["token", "list", "--namespace", "none"], "`default`"),
        (&["admin-key", "delete"], "NAME"),
    ] {
        let told_too = place.fails(2, arguments);
        assert!(told_too.contains(told), "{arguments:?}: {told_too}");
    }
    // Without a command: the help, and the code of wrong usage.
    for arguments in [&[][..], &["token"], &["admin-key"]] {
        assert!(place.fails(2, arguments).contains("Usage: faregate"), "{arguments:?}");
    }
}

#[test]
fn a_secret_in_the_wrong_place_is_not_repeated() {
    let place = Place::new();
    let secret = place.ok(&["token", "issue", "--resource", "x", "--group", "g"]).out;
    let secret = secret.trim_end();
    for arguments in [
        &["token", "show", secret][..],
        &["token", "delete", secret],
        &["token", "list", secret],
        &["token", "list", "--secret", secret],
        &["token", "hash", secret],
        &[secret],
        &["token", "list", "--config", secret],
        &["token", "list", "--namespace", secret],
    ] {
        let Ran { out, err, code } = place.run(arguments);
        assert_ne!(code, 0);
        assert!(!out.contains(&secret[3..]) && !err.contains(&secret[3..]), "{arguments:?}: {err}");
    }
}

#[test]
fn completions_and_the_manual_know_every_command() {
    let place = Place::empty();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = place.ok(&["completions", shell]).out;
        assert!(script.contains("regenerate"), "{shell}");
    }
    let bash = place.path("faregate.bash");
    std::fs::write(&bash, place.ok(&["completions", "bash"]).out).unwrap();
    let read = std::process::Command::new("bash").arg("-n").arg(&bash).status().unwrap();
    assert!(read.success());

    let manual = place.ok(&["manual"]).out;
    assert_eq!(manual.matches(".TH ").count(), 1);
    for command in COMMANDS.iter().filter(|command| command.first() != Some(&"help")) {
        let section = format!("FAREGATE {}", command.join(" ").to_uppercase());
        let section = format!(".SH \"{}\"", section.trim_end());
        assert!(command.is_empty() || manual.contains(&section), "{section}");
    }
    assert!(manual.contains("\n.SS EXAMPLES\n.nf\n"));
    assert_eq!(manual.matches("\n.nf\n").count(), manual.matches("\n.fi\n").count());
}
