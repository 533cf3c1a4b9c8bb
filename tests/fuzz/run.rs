//! How a target is tried.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};
use std::sync::Once;
use std::time::{Duration, Instant};

use fastrand::Rng;

use crate::damage::damaged;

/// Inputs that were accepted and are damaged further, at most.
const MAX_POOL: usize = 2_000;

/// Judges an input, with random choices of its own; says whether it was accepted, and panics when
/// something is wrong.
pub(crate) type Check = fn(&[u8], &mut Rng) -> bool;

pub(crate) struct Target {
    name: &'static str,
    words: &'static [&'static [u8]],
    check: Check,
    failures: PathBuf,
}

impl Target {
    pub(crate) fn new(name: &'static str, words: &'static [&'static [u8]], check: Check) -> Self {
        let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
        Self { name, words, check, failures: target.join("fuzz-failures") }
    }

    pub(crate) fn with_failures_in(mut self, folder: &Path) -> Self {
        self.failures = folder.into();
        self
    }

    pub(crate) fn run(&self) {
        let seconds = env::var("FUZZ_SECONDS").map_or(2, |seconds| seconds.parse().unwrap());
        let seed =
            env::var("FUZZ_SEED").map_or_else(|_| fastrand::u64(..), |seed| seed.parse().unwrap());
        let mut random = Rng::with_seed(seed);

        let mut pool = self.corpus();
        let verdicts: BTreeSet<bool> =
            pool.iter().map(|input| self.judge(input, seed, &random)).collect();
        assert_eq!(
            verdicts.len(),
            2,
            "the corpus has inputs that are accepted and such that are not"
        );

        let end = Instant::now() + Duration::from_secs(seconds);
        let (mut tried, mut accepted) = (0_u64, 0_u64);
        while Instant::now() < end {
            for _ in 0..100 {
                let input =
                    damaged(&pool[random.usize(..pool.len())], &pool, self.words, &mut random);
                let is_accepted = self.judge(&input, seed, &random);
                tried += 1;
                accepted += u64::from(is_accepted);
                if is_accepted && pool.len() < MAX_POOL {
                    pool.push(input);
                } else if is_accepted {
                    let place = random.usize(..pool.len());
                    pool[place] = input;
                }
                // Other choices for the next.
                random.u64(..);
            }
        }
        println!("{}: {tried} inputs, {accepted} of them accepted, FUZZ_SEED={seed}", self.name);
    }

    fn corpus(&self) -> Vec<Vec<u8>> {
        let folder =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus").join(self.name);
        let files: BTreeSet<PathBuf> =
            fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()).collect();
        files.iter().map(|file| fs::read(file).unwrap()).collect()
    }

    fn judge(&self, input: &[u8], seed: u64, random: &Rng) -> bool {
        // The same choices for the same input, so that it can be made shorter.
        let check = |input: &[u8]| (self.check)(input, &mut random.clone());
        match panic::catch_unwind(AssertUnwindSafe(|| check(input))) {
            Ok(is_accepted) => is_accepted,
            Err(reason) => {
                let fails = |input: &[u8]| {
                    quietly(|| {
                        check(input);
                    })
                    .is_err()
                };
                let short = shortened(input.to_vec(), fails);
                fs::create_dir_all(&self.failures).unwrap();
                let digest = blake3::hash(&short).to_hex();
                let file = self.failures.join(format!("{}-{}", self.name, &digest[..16]));
                fs::write(&file, &short).unwrap();
                eprintln!("{}: {}, FUZZ_SEED={seed}", self.name, file.display());
                panic::resume_unwind(reason)
            }
        }
    }
}

/// Leaves out whatever can be left out while it still fails.
fn shortened(mut input: Vec<u8>, fails: impl Fn(&[u8]) -> bool) -> Vec<u8> {
    let mut length = input.len().next_power_of_two();
    while length > 0 {
        let mut start = 0;
        while start < input.len() {
            let mut shorter = input.clone();
            shorter.drain(start..(start + length).min(input.len()));
            if fails(&shorter) {
                input = shorter;
            } else {
                start += length;
            }
        }
        length /= 2;
    }
    input
}

thread_local! {
    static IS_QUIET: Cell<bool> = const { Cell::new(false) };
}

/// Runs something that may well panic, without the messages: what it said, if it did.
pub(crate) fn quietly(run: impl FnOnce()) -> Result<(), String> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let loud = panic::take_hook();
        panic::set_hook(Box::new(move |told| {
            if !IS_QUIET.get() {
                loud(told);
            }
        }));
    });
    let before = IS_QUIET.replace(true);
    let result = panic::catch_unwind(AssertUnwindSafe(run));
    IS_QUIET.set(before);
    result.map_err(|reason| {
        let text = reason.downcast_ref::<String>().map(String::as_str);
        text.or_else(|| reason.downcast_ref::<&str>().copied()).unwrap_or_default().to_owned()
    })
}
