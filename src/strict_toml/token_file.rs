use std::sync::Arc;

use crate::policy::{
    self, AdminEntry, Compiled, Document, Limits, Placed, Previous, Problems, Rules, TokenEntry,
};
use crate::token::Digest;

use super::place::Kind;
use super::table::Table;
use super::{Reading, read, read_piece};

/// The version of the form of token files that this program reads.
const VERSION: u64 = 1;

/// Reads a token file. Its values are typed, not judged: [`policy::compile`] judges them, and
/// [`judge_token_file`] does both.
///
/// # Errors
/// Everything that is wrong with its form, each with its line.
pub fn read_token_file(text: &str) -> Result<Document, Problems> {
    let Reading { value, problems, .. } = read_leniently(text);
    problems.or(value)
}

/// Reads a token file and makes a policy of it.
///
/// # Errors
/// Everything that is wrong with its form and with its values, each with its line.
pub fn judge_token_file(text: &str, rules: Arc<Rules>) -> Result<(Document, Compiled), Problems> {
    let Reading { value: document, mut problems, is_broken } = read_leniently(text);
    if is_broken {
        return Err(problems);
    }
    match policy::compile(&document, rules) {
        Ok(compiled) => problems.or((document, compiled)),
        Err(others) => {
            problems.extend(others);
            Err(problems)
        }
    }
}

/// Reads what can be read. What is missing has a stand-in, so that the rest of its entry is judged
/// as well; a document with a stand-in never comes without a problem.
fn read_leniently(text: &str) -> Reading<Document> {
    if text.len() > PIECE_BYTES
        && let Some(document) = read_in_pieces(text)
    {
        return Reading { value: document, problems: Problems::new(), is_broken: false };
    }
    read(text, |root| {
        version(root);
        entries(root)
    })
}

/// How long a piece of a long file is at least.
const PIECE_BYTES: usize = 64 * 1024;

/// Reads a long file piece by piece, which takes half the time, since what the parser keeps of a
/// piece stays in the processor's cache. None when anything is wrong: the file must be read whole.
///
/// A cut inside of a string or a list would leave the piece before it without an end, which is a
/// syntax error. What may stand in a piece but not in the file is a table that the piece does not
/// have a list for (`[token.limits]` before any `[[token]]`), and that is a problem as well.
fn read_in_pieces(text: &str) -> Option<Document> {
    let mut document = Document::default();
    let mut first_line = 1;
    let mut rest = text;
    while !rest.is_empty() {
        let (piece, after) = rest.split_at(end_of_piece(rest));
        let Reading { value, problems, .. } = read_piece(piece, first_line, |root| {
            if first_line == 1 {
                version(root);
            }
            entries(root)
        });
        if !problems.is_empty() {
            return None;
        }
        document.admins.extend(value.admins);
        document.tokens.extend(value.tokens);
        first_line += piece.bytes().filter(|byte| *byte == b'\n').count();
        rest = after;
    }
    Some(document)
}

/// Where the first list entry after so many bytes starts, or the text ends.
fn end_of_piece(text: &str) -> usize {
    const HEADER: &str = "\n[[token]]";
    // Bytes, since the place may be in the middle of a character.
    let tail = text.as_bytes().get(PIECE_BYTES..).unwrap_or_default();
    tail.windows(HEADER.len())
        .position(|window| window == HEADER.as_bytes())
        .map_or(text.len(), |place| PIECE_BYTES + place + 1)
}

fn version(root: &mut Table<'_>) {
    const REMEDY: &str = "write `version = 1` at the top of the file";
    match root.kind("version") {
        None => root.missing("`version` is missing", REMEDY),
        Some(Kind::Integer) => {
            if let Some(version) = root.integer("version", 0..=u64::MAX)
                && version.value != VERSION
            {
                root.problem(version.line, "`version` is not one that is known here", REMEDY);
            }
        }
        Some(_) => root.problem(root.line_of("version"), "`version` is no whole number", REMEDY),
    }
    root.ignore("version");
}

fn entries(root: &mut Table<'_>) -> Document {
    let admins = root.headed_tables("admin").into_iter().map(admin).collect();
    let tokens = root.headed_tables("token").into_iter().map(token).collect();
    Document { admins, tokens }
}

fn admin(mut table: Table<'_>) -> AdminEntry {
    table.must_have("name", "write `name = \"…\"`: who holds the key");
    let name = table.string("name").unwrap_or_else(|| stand_in(&table));
    let hash = hash(&mut table);
    table.finish();
    AdminEntry { name, hash }
}

fn token(mut table: Table<'_>) -> TokenEntry {
    table.must_have("id", "write `id = \"…\"`: a name of 1 to 64 characters of A-Z a-z 0-9 . _ -");
    let id = table.string("id").unwrap_or_else(|| stand_in(&table));
    let name = table.string("name");
    let hash = hash(&mut table);
    let resources = table.strings("resources").map(|list| list.value).unwrap_or_default();
    let groups = table.strings("groups").map(|list| list.value).unwrap_or_default();
    let created_at = table.moment("created_at").map(|moment| moment.value);
    let expires_at = table.moment("expires_at").map(|moment| moment.value);
    let disabled = table.boolean("disabled").is_some_and(|disabled| disabled.value);
    let previous = table.table("previous").and_then(previous);
    let limits = table.table("limits").map(limits);
    let labels = table.string_pairs("labels").unwrap_or_default();
    table.finish();
    TokenEntry {
        id,
        name,
        hash,
        resources,
        groups,
        created_at,
        expires_at,
        disabled,
        previous,
        limits,
        labels,
    }
}

fn previous(mut table: Table<'_>) -> Option<Previous> {
    table.must_have("valid_until", "write `valid_until = 2027-11-23T10:00:00Z`: its last moment");
    let hash = hash(&mut table);
    let valid_until = table.moment("valid_until");
    table.finish();
    Some(Previous { hash, valid_until: valid_until?.value })
}

fn limits(mut table: Table<'_>) -> Limits {
    let mut limit = |name| {
        table
            .integer(name, 0..=u64::from(u32::MAX))
            .and_then(|number| u32::try_from(number.value).ok())
    };
    let limits = Limits {
        requests_per_second: limit("requests_per_second"),
        burst: limit("burst"),
        max_in_flight: limit("max_in_flight"),
    };
    table.finish();
    limits
}

fn hash(table: &mut Table<'_>) -> Placed<String> {
    table.must_have(
        "hash",
        "write `hash = \"blake3:…\"`: the line that `faregate token hash` prints",
    );
    table.string("hash").unwrap_or_else(|| {
        // The hash of no secret: a digest of the place, which no two entries share.
        let Placed { value, line } = stand_in(table);
        Placed::new(Digest::blake3(value.as_bytes()).to_file_form(), line)
    })
}

/// A name that is valid, and like no other in its file.
fn stand_in(table: &Table<'_>) -> Placed<String> {
    let line = table.line();
    Placed::new(format!("stand-in.for.what.line.{line}.lacks"), line)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(table: &str, name: &str, number: usize) -> String {
        let hash = Digest::blake3(&number.to_le_bytes()).to_file_form();
        format!("\n[[{table}]]\n{name} = \"x{number}\"\nhash = \"{hash}\"\n")
    }

    /// A file long enough for several pieces, with something put in after some entries.
    fn long_file(put_in: &str, every: usize) -> String {
        let mut text = String::from("version = 1\n");
        for number in 0..3 * PIECE_BYTES / 100 {
            text += &entry("token", "id", number);
            if number % every == 0 {
                text += put_in;
            }
        }
        text
    }

    fn read_whole(text: &str) -> Reading<Document> {
        read(text, |root| {
            version(root);
            entries(root)
        })
    }

    fn lines(document: &Document) -> Vec<usize> {
        let tokens = document.tokens.iter().flat_map(|token| [token.id.line, token.hash.line]);
        tokens.chain(document.admins.iter().map(|admin| admin.name.line)).collect()
    }

    #[test]
    fn pieces_make_the_same_document_with_the_same_lines() {
        for put_in in [
            "",
            "# a comment\n",
            "name = \"\"\"a\n[[token]]\nb\"\"\"\n",
            "name = '''\n\n[[token]]\n'''\n",
            "resources = [\n\"a\",\n# ]\n]\n",
            "groups = [\"é\", \"漢字\"]\r\n",
            "[token.limits]\nburst = 1\nrequests_per_second = 1\n",
            "labels.team = \"a\"\nlabels.\"[[token]]\" = \"b\"\n",
            "[[admin]]\nname = \"a\"\nhash = \"b\"\n[token.limits]\nburst = 1\n",
        ] {
            let text = long_file(put_in, 7);
            let whole = read_whole(&text);
            assert!(whole.problems.is_empty(), "{put_in}: {}", whole.problems);
            let lenient = read_leniently(&text);
            assert!(lenient.problems.is_empty(), "{put_in}: {}", lenient.problems);
            assert!(lenient.value == whole.value, "{put_in}");
            assert_eq!(lines(&lenient.value), lines(&whole.value), "{put_in}");
            // A cut may fall into a text that looks like an entry: the file is then read whole.
            if !put_in.contains("\n[[token]]") {
                assert!(read_in_pieces(&text).is_some(), "{put_in}");
            }
        }
    }

    #[test]
    fn what_only_the_whole_file_tells_is_told_by_it() {
        for (put_in, every) in [
            ("colour = 1\n", 2_000),
            ("hash = \"\"\n", 1_000),
            ("[[tokens]]\n", 1_500),
            ("[token]\n", 1_000),
            ("version = 1\n", 1_999),
            ("name = \"\"\"a\n", 1_700),
            ("resources = [\n", 1_900),
            ("\n[admin.x]\n", 1_234),
        ] {
            let text = long_file(put_in, every);
            assert!(read_in_pieces(&text).is_none(), "{put_in}");
            let (whole, lenient) = (read_whole(&text), read_leniently(&text));
            assert!(!whole.problems.is_empty(), "{put_in}");
            assert_eq!(lenient.problems, whole.problems, "{put_in}");
        }
    }

    #[test]
    fn a_list_entry_may_have_its_table_in_the_next_piece() {
        // The one table header that belongs to an entry of an earlier piece.
        let admin = entry("admin", "name", 0);
        let filler = "# filler\n".repeat(PIECE_BYTES / 9 + 1);
        let token = entry("token", "id", 1);
        let text = format!(
            "version = 1\n{token}{filler}{token2}[token.limits]\nburst = 2\n{admin}",
            token2 = entry("token", "id", 2)
        );
        let document = read_token_file(&text).unwrap();
        assert!(document.tokens[0].limits.is_none());
        assert_eq!(document.tokens[1].limits.unwrap().burst, Some(2));
        assert_eq!(document.admins.len(), 1);
    }

    #[test]
    fn a_part_that_is_missing_does_not_hide_other_problems() {
        let text = "version = 1\n[[token]]\nresources = [\"a*b\"]\n[[token]]\n[[admin]]\n";
        let problems = judge_token_file(text, Arc::default()).err().unwrap().sorted();
        let told: Vec<_> = problems.iter().map(|p| (p.line.unwrap(), p.what.as_str())).collect();
        assert_eq!(
            told,
            [
                (2, "`id` is missing in `[[token]]`"),
                (2, "`hash` is missing in `[[token]]`"),
                (3, "a pattern in `resources` is not one: `*` may stand only at the end"),
                (4, "`id` is missing in `[[token]]`"),
                (4, "`hash` is missing in `[[token]]`"),
                (5, "`name` is missing in `[[admin]]`"),
                (5, "`hash` is missing in `[[admin]]`"),
            ]
        );
    }
}
