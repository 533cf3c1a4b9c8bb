//! Golden files: what the program says, kept as text that a reviewer can read whole.
//!
//! `golden::check("decisions.txt", &actual)` compares with `tests/it/golden/decisions.txt`. After a
//! change that was meant, `UPDATE_GOLDEN=1 cargo test --test it` writes the files anew, and the
//! difference is reviewed with the code.

use std::fs;
use std::path::Path;

/// How many lines are shown around the first difference.
const CONTEXT: usize = 3;

/// Fails when `actual` is not the text of the golden file `name` (a file name with its ending).
/// With `UPDATE_GOLDEN=1` in the environment it writes the file instead.
#[track_caller]
pub(crate) fn check(name: &str, actual: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/golden").join(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some_and(|value| value == "1") {
        fs::write(&path, actual).unwrap_or_else(|e| panic!("cannot write {}: {e}", path.display()));
        return;
    }
    let expected = fs::read_to_string(&path).unwrap_or_else(|e| {
        panic!("cannot read {}: {e}; UPDATE_GOLDEN=1 writes it", path.display())
    });
    if let Some(difference) = first_difference(&expected, actual) {
        panic!("tests/it/golden/{name} says otherwise (UPDATE_GOLDEN=1 rewrites it)\n{difference}");
    }
}

/// The first line in which two texts differ, with the lines around it; none when they are equal.
fn first_difference(expected: &str, actual: &str) -> Option<String> {
    if expected == actual {
        return None;
    }
    // `split` and not `lines`: a missing line end at the end of the file is a difference too.
    let (old, new): (Vec<&str>, Vec<&str>) =
        (expected.split('\n').collect(), actual.split('\n').collect());
    let place = old.iter().zip(&new).take_while(|(old, new)| old == new).count();
    let mut told = format!("first difference at line {}:\n", place + 1);
    for line in &old[place.saturating_sub(CONTEXT)..place] {
        told.push_str(&format!("  {line}\n"));
    }
    for (sign, lines) in [('-', &old), ('+', &new)] {
        for line in lines.iter().skip(place).take(CONTEXT) {
            told.push_str(&format!("{sign} {line}\n"));
        }
    }
    Some(told)
}

#[test]
fn the_first_difference_is_told_with_its_line() {
    assert_eq!(first_difference("a\nb\n", "a\nb\n"), None);
    let told = first_difference("a\nb\nc\n", "a\nx\nc\n").unwrap();
    assert!(told.starts_with("first difference at line 2:\n  a\n- b\n- c\n"), "{told}");
    assert!(told.contains("+ x\n+ c\n"), "{told}");
    assert!(first_difference("a\n", "a").unwrap().contains("line 2"));
    assert!(first_difference("a\n", "a\nb\n").unwrap().contains("+ b\n"));
}

#[test]
#[should_panic(expected = "UPDATE_GOLDEN=1 writes it")]
fn a_missing_file_is_a_failure_and_not_a_first_time() {
    // In the mode that writes, this would make the file it says is missing.
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        panic!("UPDATE_GOLDEN=1 writes it");
    }
    check("no-such-file.txt", "anything");
}
