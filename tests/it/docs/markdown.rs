//! What the documents hold: fenced blocks and tables.

use std::fs;
use std::path::{Path, PathBuf};

/// Where the project stands.
pub(crate) fn project() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The text of a file of the project.
pub(crate) fn text_of(file: &str) -> String {
    let path = project().join(file);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Every file below a folder of the project with this ending, by its path from the root.
pub(crate) fn files_in(folder: &str, ending: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![PathBuf::from(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(project().join(&folder)).unwrap() {
            let entry = entry.unwrap();
            let path = folder.join(entry.file_name());
            if entry.file_type().unwrap().is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|own| own == ending) {
                found.push(path.to_str().unwrap().to_owned());
            }
        }
    }
    found.sort();
    found
}

/// A fenced block of a document.
#[derive(Debug, Clone)]
pub(crate) struct Block {
    /// `FILE:LINE` of its first fence.
    pub(crate) place: String,
    /// What stands behind the first fence, word by word: the language, then what it is for.
    pub(crate) info: Vec<String>,
    pub(crate) text: String,
}

impl Block {
    pub(crate) fn language(&self) -> &str {
        self.info.first().map_or("", String::as_str)
    }

    /// Whether a word stands behind the language.
    pub(crate) fn is(&self, word: &str) -> bool {
        self.info.iter().skip(1).any(|own| own == word)
    }

    /// The file that a reader shall write the block to.
    pub(crate) fn file(&self) -> Option<&str> {
        self.info.iter().find_map(|word| word.strip_prefix("file="))
    }
}

/// The fenced blocks of a document, in order.
pub(crate) fn blocks(file: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut open: Option<Block> = None;
    for (number, line) in text_of(file).lines().enumerate() {
        match &mut open {
            None if line.starts_with("```") => {
                let info = line.trim_start_matches('`').split_whitespace().map(Into::into);
                let place = format!("{file}:{}", number + 1);
                open = Some(Block { place, info: info.collect(), text: String::new() });
            }
            None => {}
            Some(_) if line == "```" => blocks.extend(open.take()),
            Some(block) => block.text = format!("{}{line}\n", block.text),
        }
    }
    assert!(open.is_none(), "{file}: a block does not end: {open:?}");
    blocks
}

/// A row of a table, its cells without white space around them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Row {
    /// The heading above the table.
    pub(crate) heading: String,
    pub(crate) cells: Vec<String>,
}

/// The rows of all tables below headings that `wanted` picks, without the tables' own headings.
pub(crate) fn rows(file: &str, wanted: impl Fn(&str) -> bool) -> Vec<Row> {
    let text = text_of(file);
    let lines: Vec<&str> = text.lines().collect();
    let mut heading = String::new();
    let mut rows = Vec::new();
    for (number, line) in lines.iter().enumerate() {
        if let Some(title) = line.strip_prefix('#') {
            heading = title.trim_start_matches('#').trim().to_owned();
        }
        let is_rule = |line: &str| line.starts_with("| -") || line.starts_with("|-");
        let is_title = lines.get(number + 1).is_some_and(|next| is_rule(next));
        if !line.starts_with('|') || is_rule(line) || is_title || !wanted(&heading) {
            continue;
        }
        // `\|` is a bar within a cell.
        let cells = line.trim_matches('|').replace("\\|", "\u{0}");
        let cells = cells.split('|').map(|cell| cell.replace('\u{0}', "|").trim().to_owned());
        rows.push(Row { heading: heading.clone(), cells: cells.collect() });
    }
    assert!(!rows.is_empty(), "{file}: there is no such table");
    rows
}

/// A cell's text without the backticks around it; none when it is no code.
pub(crate) fn code(cell: &str) -> Option<&str> {
    cell.strip_prefix('`')?.strip_suffix('`').filter(|code| !code.contains('`'))
}

/// Where a line differs from what it should be; `…` stands for any text, and alone on a line for
/// any lines.
pub(crate) fn differs(expected: &str, actual: &str) -> Option<String> {
    let expected: Vec<&str> = expected.trim_end().lines().collect();
    let actual: Vec<&str> = actual.trim_end().lines().map(str::trim_end).collect();
    (!fits_all(&expected, &actual)).then(|| {
        format!("--- written:\n{}\n--- seen:\n{}\n", expected.join("\n"), actual.join("\n"))
    })
}

fn fits_all(expected: &[&str], actual: &[&str]) -> bool {
    match (expected.split_first(), actual.split_first()) {
        (None, None) => true,
        (Some((&"…", expected)), _) => {
            (0..=actual.len()).any(|skipped| fits_all(expected, &actual[skipped..]))
        }
        (Some((line, expected)), Some((seen, actual))) => {
            fits(line, seen) && fits_all(expected, actual)
        }
        _ => false,
    }
}

/// Whether a line is as it is written.
pub(crate) fn fits(expected: &str, actual: &str) -> bool {
    let Some((before, after)) = expected.split_once('…') else { return expected == actual };
    let Some(mut rest) = actual.strip_prefix(before) else { return false };
    loop {
        if fits(after, rest) {
            return true;
        }
        let mut characters = rest.chars();
        if characters.next().is_none() {
            return false;
        }
        rest = characters.as_str();
    }
}

#[test]
fn dots_stand_for_any_text() {
    for (expected, actual, is_equal) in [
        ("a", "a", true),
        ("a\n", "a", true),
        ("a", "b", false),
        ("a", "a\nb", false),
        ("a…c", "abbc", true),
        ("a…", "a", true),
        ("a…c", "ab", false),
        ("…\nb", "x\ny\nb", true),
        ("a\n…\nb", "a\nb", true),
        ("a\n…", "b", false),
    ] {
        assert_eq!(differs(expected, actual).is_none(), is_equal, "{expected:?} {actual:?}");
    }
}
