//! A change of the token file that is killed, wherever that may be: what is on disk is the whole old
//! file or the whole new one, and a secret that was shown is good.

use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::gate::GateFiles;
use crate::strace::{self, SystemCall, Trace, traced};
use crate::token_file::{
    CHANGES, Change, Ran, assert_next_change_works, assert_valid, files, for_each_at_once, hash,
    old_text, text, without_what_varies,
};

/// A change that nobody disturbs.
struct CleanRun {
    change: Change,
    /// What it makes of the file, without what varies.
    new: String,
    took: Duration,
}

impl CleanRun {
    fn of(change: Change) -> Self {
        let files = files();
        let began = Instant::now();
        let ran = Ran::of(&mut change.command(&files));
        let took = began.elapsed();
        assert_eq!(ran.code, Some(0), "{ran:?}");
        assert_eq!(ran.secret().is_some(), change.has_secret());
        let new = without_what_varies(&text(&files));
        assert_ne!(new, old_text());
        Self { change, new, took }
    }

    /// Whether the new file is there. Fails when it is neither the old nor the new one, or is not
    /// good to go on with.
    fn is_made_whole(&self, files: &GateFiles, ran: &Ran) -> bool {
        let text = text(files);
        let is_new = without_what_varies(&text) == self.new;
        assert!(is_new || text == old_text(), "{:?}, {ran:?}:\n{text}", self.change);
        assert_valid(files);
        if let Some(secret) = ran.secret() {
            assert!(text.contains(&hash(secret)), "a secret was shown: {ran:?}:\n{text}");
        }
        if ran.code == Some(0) {
            assert!(is_new && ran.secret().is_some() == self.change.has_secret(), "{ran:?}");
        }
        assert_next_change_works(files);
        is_new
    }
}

#[test]
fn a_change_that_is_killed_at_any_system_call_leaves_the_old_file_or_the_new_one() {
    if !strace::is_allowed() {
        // The other test is the longer for it.
        return;
    }
    let runs: Vec<(CleanRun, Vec<SystemCall>)> =
        CHANGES.iter().map(|change| (CleanRun::of(*change), strace::calls_of(*change))).collect();
    let kills: Vec<(&CleanRun, &SystemCall)> =
        runs.iter().flat_map(|(run, calls)| calls.iter().map(move |call| (run, call))).collect();
    let made = AtomicUsize::new(0);
    for_each_at_once(&kills, |(run, call)| {
        let (files, trace) = (files(), Trace::new());
        let injection = [call.inject("signal=KILL")];
        let ran = Ran::of(&mut traced(&run.change.command(&files), &trace, &injection));
        assert!(ran.was_killed, "{:?} is not killed at {call:?}: {ran:?}", run.change);
        made.fetch_add(usize::from(run.is_made_whole(&files, &ran)), Ordering::Relaxed);
    });
    // Before and after the renaming, or this was not about writing.
    let (made, all) = (made.into_inner(), kills.len());
    assert!(made >= 3 * runs.len() && all - made >= 15 * runs.len(), "{made} made of {all}");
}

/// The order of what is asked of the disk, which a kill cannot show: the system's memory survives it.
#[test]
fn a_change_is_durable_before_it_is_told() {
    if !strace::is_allowed() {
        return;
    }
    for change in CHANGES {
        let calls = strace::calls_of(*change);
        let only = |name: &str, what: &str| {
            let is_it = |call: &SystemCall| call.name == name && call.line.contains(what);
            let found: Vec<usize> = (0..calls.len()).filter(|at| is_it(&calls[*at])).collect();
            assert_eq!(found.len(), 1, "{name} {what}: {calls:#?}");
            found[0]
        };
        let told = if change.has_secret() { only("write", "(1<") } else { only("write", "(2<") };
        let order = [
            only("flock", "LOCK_EX"),
            only("write", ".tmp>"),
            only("fchmod", ".tmp>"),
            only("fsync", ".tmp>"),
            only("renameat2", ".tmp\""),
            // What is left is the folder.
            calls.iter().rposition(|call| call.name == "fsync").unwrap(),
            told,
        ];
        assert!(order.is_sorted_by(|before, after| before < after), "{order:?}: {calls:#?}");
        let folder = &calls[order[5]].line;
        assert!(!folder.contains(".tmp>") && folder.ends_with("= 0"), "{folder}");
    }
}

#[test]
fn a_change_that_is_killed_at_any_moment_leaves_the_old_file_or_the_new_one() {
    // Where strace cannot be used, moments by chance must do.
    let rounds = if strace::is_allowed() { 24 } else { 200 };
    let runs: Vec<CleanRun> = CHANGES.iter().map(|change| CleanRun::of(*change)).collect();
    let mut random = fastrand::Rng::with_seed(20_261_124);
    let plan: Vec<(&CleanRun, Duration)> = (0..rounds)
        .map(|round| {
            let run = &runs[round % runs.len()];
            (run, run.took.mul_f64(random.f64() * 1.2))
        })
        .collect();
    for_each_at_once(&plan, |(run, after)| {
        let files = files();
        let child = started(&mut run.change.command(&files));
        thread::sleep(*after);
        let ran = killed(child);
        run.is_made_whole(&files, &ran);
    });
}

fn started(command: &mut Command) -> Child {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

fn killed(mut child: Child) -> Ran {
    // It may have ended by itself.
    drop(child.kill());
    Ran::from(child.wait_with_output().unwrap())
}
