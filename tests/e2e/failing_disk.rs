//! A disk that is full, broken or read-only, at each step of a change: no secret is shown for what
//! is not there, nothing is half done, and what is wrong is told with a remedy.

use std::collections::BTreeSet;
use std::process::Command;

use crate::gate::GateFiles;
use crate::strace::{self, SystemCall, Trace, traced};
use crate::token_file::{
    CHANGES, Change, NAMES, Ran, assert_next_change_works, assert_valid, files, for_each_at_once,
    hash, names, old_text, text,
};

const ERRORS: [&str; 5] = ["ENOSPC", "EDQUOT", "EIO", "EROFS", "EACCES"];

/// Calls whose errors nobody asks for: files are synced before they are closed, and the standard
/// library takes an error of closing a folder, which no system tells, for a defect. Random numbers
/// come from no disk.
const PASSED_OVER: [&str; 5] = ["close", "exit_group", "fcntl", "getrandom", "sigaltstack"];

/// Whether a change may be made although this call of it failed: what looks for files that an
/// earlier change left behind, and what looks at the old file once more, which makes the change anew.
fn may_fail(calls: &[SystemCall], at: usize) -> bool {
    let call = &calls[at];
    let is_of_sweeping = call.name == "getdents64"
        || call.name == "newfstatat"
        || call.line.contains("O_RDONLY|O_NONBLOCK|O_CLOEXEC|O_DIRECTORY");
    // Whose the lock file shall be; and whether it still has its name, which is asked again.
    let is_locked = calls[..at].iter().any(|before| before.name == "flock");
    let is_opened = calls[..at].iter().any(|before| before.line.contains("/tokens.toml.lock"));
    let is_of_lock = call.line.contains("/tokens.toml.lock") || (is_opened && !is_locked);
    let is_put = calls[..at].iter().any(|before| before.name == "renameat2");
    let is_of_old_file = is_put && call.line.contains("/.tokens.toml.faregate-");
    is_of_sweeping || is_of_old_file || (call.name == "statx" && is_of_lock)
}

/// Whether the call tells what was done, when all is done.
fn is_telling(call: &SystemCall) -> bool {
    call.name == "write" && (call.line.starts_with("write(1<") || call.line.starts_with("write(2<"))
}

#[test]
fn an_error_at_any_step_changes_nothing_and_shows_no_secret() {
    if !strace::is_allowed() {
        return;
    }
    // One that shows a secret and one that does not: all others differ in what they write only.
    let mut steps = Vec::new();
    let mut that_matter = BTreeSet::new();
    for change in [CHANGES[0], CHANGES[3]] {
        let calls = strace::calls_of(change);
        for (at, call) in calls.iter().enumerate() {
            if is_telling(call) || PASSED_OVER.contains(&call.name.as_str()) {
                continue;
            }
            let may_fail = may_fail(&calls, at);
            if !may_fail {
                that_matter.insert(call.name.clone());
            }
            steps.extend(ERRORS.map(|error| (change, call.clone(), error, may_fail)));
        }
    }
    // Every step that matters is among them, whatever else the program calls.
    let all =
        ["fchmod", "flock", "fsync", "openat", "read", "readlink", "renameat2", "statx", "write"];
    assert_eq!(that_matter.into_iter().collect::<Vec<_>>(), all);

    for_each_at_once(&steps, |(change, call, error, may_fail)| {
        let (files, trace) = (files(), Trace::new());
        let injection = [call.inject(&format!("error={error}"))];
        let ran = Ran::of(&mut traced(&change.command(&files), &trace, &injection));
        let what = format!("{error} at {call:?} of {change:?}: {ran:?}");
        if ran.code == Some(0) {
            assert!(*may_fail, "{what}");
            assert_eq!(ran.secret().is_some(), change.has_secret(), "{what}");
            assert!(ran.secret().is_none_or(|secret| text(&files).contains(&hash(secret))));
            assert_valid(&files);
        } else {
            assert!(!*may_fail, "{what}");
            assert_eq!((ran.code, ran.out.as_str()), (Some(1), ""), "{what}");
            assert_eq!(text(&files), old_text(), "{what}");
            assert_told(&files, &ran, &what);
            assert!(names(&files).iter().all(|name| NAMES.contains(&name.as_str())), "{what}");
        }
        assert_next_change_works(&files);
    });
}

/// The message names the file and says what to do.
fn assert_told(files: &GateFiles, ran: &Ran, what: &str) {
    let file = files.path("tokens.toml");
    let told = ran.err.strip_prefix(&format!("error: {}: ", file.display()));
    let told = told.unwrap_or_else(|| panic!("the file is named first: {what}"));
    let remedies = [
        "make room",
        "mend the disk",
        "do it as the user",
        "change it where",
        "let the user",
        "let files be larger",
        "see that it is there",
    ];
    assert!(remedies.iter().any(|remedy| told.contains(remedy)), "there is no remedy: {what}");
}

/// After the renaming the new file is what everybody reads, and may be lost if the machine stops.
#[test]
fn a_folder_that_cannot_be_synced_gets_its_old_file_back_or_it_is_told() {
    if !strace::is_allowed() {
        return;
    }
    let run = |injections: &[&str]| {
        let (files, trace) = (files(), Trace::new());
        let injections: Vec<String> =
            injections.iter().map(|text| format!("inject={text}")).collect();
        let ran = Ran::of(&mut traced(&Change::regenerate().command(&files), &trace, &injections));
        assert_eq!((ran.code, ran.out.as_str()), (Some(1), ""), "{ran:?}");
        assert_valid(&files);
        (files, ran)
    };
    for error in ["EIO", "ENOSPC", "EDQUOT"] {
        // The second is that of the folder; and all from there on, that of the old file among them.
        for when in ["2", "2+"] {
            let (files, ran) = run(&[&format!("fsync:error={error}:when={when}")]);
            assert_eq!(text(&files), old_text(), "{ran:?}");
            assert!(ran.err.contains("nothing was changed"), "{ran:?}");
            assert_next_change_works(&files);
        }
        // Nor can it be put back.
        for undoing in ["renameat2:error=EIO:when=2", "fchmod:error=EIO:when=2"] {
            let (files, ran) = run(&[&format!("fsync:error={error}:when=2"), undoing]);
            assert_ne!(text(&files), old_text());
            assert!(ran.err.contains("it was changed, but"), "{ran:?}");
            assert!(ran.err.contains("could not be undone"), "{ran:?}");
            assert_told(&files, &ran, "undoing");
            assert_next_change_works(&files);
        }
    }
}

/// Not every file system lets two files change their places at once.
#[test]
fn a_file_system_that_exchanges_no_files_does_as_well() {
    if !strace::is_allowed() {
        return;
    }
    for change in CHANGES {
        for error in ["EINVAL", "ENOSYS", "EPERM"] {
            let (files, trace) = (files(), Trace::new());
            let injection = [format!("inject=renameat2:error={error}")];
            let ran = Ran::of(&mut traced(&change.command(&files), &trace, &injection));
            assert_eq!(ran.code, Some(0), "{ran:?}");
            assert_ne!(text(&files), old_text(), "{ran:?}");
            assert!(ran.secret().is_none_or(|secret| text(&files).contains(&hash(secret))));
            assert_eq!(names(&files), NAMES);
            assert_next_change_works(&files);
        }
    }
}

/// An error of the system itself, which needs no strace: files may not grow here.
#[test]
fn a_file_that_may_not_grow_stays_as_it_is() {
    for change in CHANGES.iter().filter(|change| change.has_secret()) {
        let files = files();
        let command = change.command(&files);
        let mut limited = Command::new("sh");
        limited.args(["-c", "trap '' XFSZ; ulimit -f 0; exec \"$@\"", "sh"]);
        limited.arg(command.get_program()).args(command.get_args());
        let ran = Ran::of(&mut limited);
        assert_eq!((ran.code, ran.out.as_str()), (Some(1), ""), "{ran:?}");
        assert_eq!(text(&files), old_text());
        assert_eq!(names(&files), NAMES);
        assert_told(&files, &ran, "a file that may not grow");
        assert_next_change_works(&files);
    }
}
