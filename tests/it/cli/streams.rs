use std::fs;
use std::io::Read as _;
use std::process::{Command, Stdio};

use faregate::strict_toml::read_token_file;

use super::{Place, Ran, SETTINGS, TOKENS, hash_of};

#[test]
fn a_secret_is_hashed_as_it_was_meant() {
    let place = Place::empty();
    let hash = |input: &[u8]| place.run_with_input(&["token", "hash"], input);
    // printf %s hunter2 | b3sum
    let hunter2 = hash_of("hunter2");
    for (input, told) in [("hunter2", ""), ("hunter2\n", "line end"), ("hunter2\r\n", "line end")] {
        let ran = hash(input.as_bytes());
        assert_eq!((ran.code, ran.line()), (0, hunter2.as_str()), "{input:?}");
        assert!(ran.err.contains(told) && ran.err.is_empty() == told.is_empty(), "{}", ran.err);
    }
    // Every other byte is part of it.
    for input in ["hunter2 ", " hunter2", "hunter2\n\n", "hunt\0er2", "hunter2\r"] {
        let expected = hash_of(input.strip_suffix("\n").unwrap_or(input));
        assert_eq!(hash(input.as_bytes()).line(), expected, "{input:?}");
    }
    assert_eq!(hash(b"\xff\xfe").code, 0);
    assert!(hash(b" x").err.contains("white space"));
    for empty in [&b""[..], b"\n", b"\r\n"] {
        let ran = hash(empty);
        assert_eq!((ran.code, ran.out.as_str()), (1, ""));
    }
    assert_eq!(hash(&vec![b'x'; 64 * 1024 + 1]).code, 1);
    // One of ours, mistyped.
    let ran = hash(format!("fg_{}", "x".repeat(49)).as_bytes());
    assert!(ran.code == 0 && ran.err.contains("checksum"), "{}", ran.err);
    let json = place.run_with_input(&["token", "hash", "--json"], b"hunter2");
    assert_eq!(json.out.matches(&hunter2).count(), 1);

    // What was hashed opens what it is written into.
    let other = Place::new();
    let secret = other.ok(&["token", "issue", "--resource", "x", "--group", "g"]).out;
    let hashed = hash(secret.as_bytes());
    assert!(other.tokens().contains(hashed.line()));
}

#[test]
fn who_stops_reading_is_no_failure_and_no_panic() {
    let many = (0..2000).fold(TOKENS.to_owned(), |text, number| {
        format!("{text}\n[[token]]\nid = \"many-{number}\"\nhash = \"sha256:f{number:063x}\"\n")
    });
    let place = Place::with(SETTINGS, &many);
    for arguments in [&["token", "list"][..], &["token", "list", "--json"]] {
        let mut child =
            place.command(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut first = [0; 10];
        let mut out = child.stdout.take().unwrap();
        out.read_exact(&mut first).unwrap();
        drop(out);
        let ended = Ran::from_output(child.wait_with_output().unwrap());
        assert_eq!((ended.code, ended.err.as_str()), (0, ""), "{arguments:?}");
    }
    for arguments in [&["manual"][..], &["completions", "bash"], &["--help"], &["routes"]] {
        let mut child =
            place.command(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let ended = Ran::from_output(child.wait_with_output().unwrap());
        assert!(!ended.err.contains("panicked"), "{arguments:?}: {}", ended.err);
    }
}

#[test]
fn a_secret_that_nobody_could_read_is_said_to_be_lost() {
    let place = Place::new();
    let full = || fs::File::options().write(true).open("/dev/full").unwrap();
    let arguments = ["token", "issue", "--resource", "x", "--group", "model-evaluation"];
    for more in [&[][..], &["--json"]] {
        let arguments: Vec<&str> = arguments.iter().chain(more).copied().collect();
        let ran = Ran::of(place.command(&arguments).stdout(full()).stderr(Stdio::piped()));
        assert_eq!(ran.code, 1);
        let id = read_token_file(&place.tokens()).unwrap().tokens.pop().unwrap().id.value;
        assert!(ran.err.contains("regenerate") && ran.err.contains(&id), "{}", ran.err);
    }
    let ran = Ran::of(place.command(&["token", "list"]).stdout(full()).stderr(Stdio::piped()));
    assert!(ran.code == 1 && ran.err.contains("standard output"), "{}", ran.err);
}

#[test]
fn a_full_disk_changes_nothing_and_shows_no_secret() {
    let place = Place::new();
    // Files may not grow: every write of the new file fails, once with an error and once deadly.
    for (trap, code) in [("trap '' XFSZ;", 1), ("", 128 + 25)] {
        let script = format!("{trap} ulimit -f 0; exec \"$@\"");
        let mut command = Command::new("sh");
        command
            .args(["-c", &script, "sh", env!("CARGO_BIN_EXE_faregate")])
            .args(["token", "regenerate", "batch"])
            .current_dir(place.folder.path());
        let ran = Ran::of(&mut command);
        assert_eq!((ran.code, ran.out.as_str()), (code, ""), "{}", ran.err);
        assert_eq!(place.tokens(), TOKENS);
        assert!(code != 1 || ran.err.contains("nothing was changed"), "{}", ran.err);
    }
    // The next change finds no obstacle in what the dead one left behind, and clears it away.
    place.ok(&["token", "disable", "batch"]);
    let mut names: Vec<_> = fs::read_dir(place.path("config"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, ["faregate.toml", "tokens.toml", "tokens.toml.lock"]);
}

#[test]
fn a_killed_change_leaves_the_old_file_or_the_new_one() {
    let place = Place::new();
    let mut finished = 0;
    for number in 0..60_u32 {
        let name = format!("n{number}");
        let mut child = place
            .command(&["token", "issue", "--resource", "x", "--group", "g", "--name", &name])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // Later and later, so that it dies at many places and at last not at all.
        std::thread::sleep(std::time::Duration::from_micros(200 * u64::from(number)));
        // It may have ended already.
        let _ = child.kill();
        let ran = Ran::from_output(child.wait_with_output().unwrap());
        let text = place.tokens();
        assert!(text.starts_with(TOKENS));
        let document = read_token_file(&text).unwrap();
        let made = document
            .tokens
            .iter()
            .find(|token| token.name.as_ref().is_some_and(|own| own.value == name));
        if let Some(secret) = ran.out.strip_suffix('\n') {
            finished += 1;
            assert_eq!(made.map(|made| made.hash.value.clone()), Some(hash_of(secret)), "{name}");
        }
    }
    // One that nobody kills, whatever the dead ones hold or left behind.
    place.ok(&["token", "issue", "--resource", "x", "--group", "g"]);
    let count = read_token_file(&place.tokens()).unwrap().tokens.len();
    assert!(count > 2 + finished && count <= 2 + 61);
    assert_eq!(fs::read_dir(place.path("config")).unwrap().count(), 3);
}
