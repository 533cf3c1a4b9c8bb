//! The house has layers, and this keeps them: which module may use which is read from the source
//! itself. What is compiled for tests only is exempt.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Modules that stand beside each other and are strangers to each other, and the sentence that says
/// what they may use.
struct Block {
    modules: &'static [&'static str],
    rule: &'static str,
}

/// The house from the ground up, as `src/lib.rs` lists it: a module may use what stands below it.
const BLOCKS: &[Block] = &[
    Block { modules: &["token"], rule: "token is the ground: it uses no other module" },
    Block { modules: &["policy"], rule: "policy is the law: it uses token and nothing else" },
    Block { modules: &["strict_toml"], rule: "strict_toml uses the law and nothing else" },
    Block {
        modules: &["settings"],
        rule: "settings are plain values that all above may read: they use the law and \
               strict_toml and nothing else",
    },
    Block {
        modules: &["store", "telemetry", "upstream", "wire"],
        rule: "store, telemetry, upstream and wire are strangers to each other: each uses the \
               law and what files say (strict_toml, settings) and nothing else",
    },
    Block {
        modules: &["live"],
        rule: "live is the bridge between what is kept and what is served: it knows no plane and \
               no assembly",
    },
    Block {
        modules: &["proxy", "forward_auth", "admin"],
        rule: "proxy, forward_auth and admin are strangers to each other: a plane uses live and \
               what stands below it, and no assembly",
    },
];

/// They put the house together and may use all of it.
const ASSEMBLY: &[&str] = &["server", "app", "cli", "demo", "lib", "main"];

/// What the law may use of other people's: nothing here does I/O, tells the time or is random.
const CRATES_OF_THE_LAW: &[&str] =
    &["blake3", "sha2", "crc32fast", "zeroize", "thiserror", "unicode_normalization", "serde"];

/// What it may not use of the standard library.
const NOT_FOR_THE_LAW: &[&str] =
    &["fs", "io", "net", "env", "process", "thread", "time", "os", "path"];

/// The longest file without its tests, in lines.
const MAX_LINES: usize = 450;

#[test]
fn every_module_keeps_to_its_layer() {
    let broken: Vec<String> = sources().iter().flat_map(broken_layers).collect();
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn the_map_of_the_house_has_the_layers_in_order() {
    let sources = sources();
    let map = sources.iter().find(|source| source.path == "src/lib.rs").unwrap();
    let pairs = map.code.iter().zip(map.code.iter().skip(1));
    let modules: Vec<&str> =
        pairs.filter(|(token, _)| token.text == "mod").map(|(_, name)| &*name.text).collect();
    let heights: Vec<_> = modules.iter().map(|module| height(module)).collect();
    assert!(heights.is_sorted(), "src/lib.rs lists the modules from the ground up: {modules:?}");
}

#[test]
fn the_law_is_pure() {
    let crates = dependencies();
    let sources = sources();
    let law = sources.iter().filter(|source| matches!(source.module(), "token" | "policy"));
    let broken: Vec<String> = law.flat_map(|source| impurities(source, &crates)).collect();
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn a_permit_is_made_in_one_place() {
    let made: Vec<String> = sources().iter().flat_map(permits_made).collect();
    assert_eq!(made.len(), 1, "a `Permit` is made only by the decision, in one place: {made:#?}");
    assert!(made[0].starts_with("src/policy/decision.rs:"), "{made:?}");
}

#[test]
fn nothing_is_unsafe() {
    for source in sources() {
        let found = source.code.iter().find(|token| token.text == "unsafe");
        assert!(found.is_none(), "{}: no `unsafe` in this house", source.at(found.unwrap()));
    }
    let manifest = manifest();
    assert_eq!(manifest["lints"]["rust"]["unsafe_code"].as_str(), Some("forbid"));
}

#[test]
fn no_file_is_too_long() {
    let too_long: Vec<String> = sources()
        .iter()
        .filter(|source| source.lines > MAX_LINES)
        .map(|source| format!("{}: {} lines", source.path, source.lines))
        .collect();
    assert!(
        too_long.is_empty(),
        "a file has at most {MAX_LINES} lines without its tests; split what has two subjects:\n{}",
        too_long.join("\n")
    );
}

/// A source file, without comments, literals and what is compiled for tests only.
struct Source {
    /// From the project's folder, with `/`.
    path: String,
    /// `a/b.rs` is the module `[a, b]`.
    modules: Vec<String>,
    code: Vec<Token>,
    /// Lines, comments and blank ones too, less those of the tests.
    lines: usize,
}

#[derive(Debug, Clone)]
struct Token {
    text: String,
    line: usize,
}

impl Source {
    fn new(path: &str, text: &str) -> Self {
        let within = path.strip_prefix("src/").unwrap_or(path);
        let modules = within.trim_end_matches(".rs").split('/').map(Into::into).collect();
        let (code, lines_of_tests) = without_tests(tokens(text));
        Self { path: path.into(), modules, code, lines: text.lines().count() - lines_of_tests }
    }

    fn module(&self) -> &str {
        &self.modules[0]
    }

    fn at(&self, token: &Token) -> String {
        format!("{}:{}", self.path, token.line)
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn manifest() -> toml_edit::DocumentMut {
    fs::read_to_string(root().join("Cargo.toml")).unwrap().parse().unwrap()
}

/// The crates that are linked into the program, as they are named in paths.
fn dependencies() -> BTreeSet<String> {
    let manifest = manifest();
    let table = manifest["dependencies"].as_table().unwrap();
    table.iter().map(|(name, _)| name.replace('-', "_")).collect()
}

fn sources() -> Vec<Source> {
    let mut files = Vec::new();
    rust_files(&root().join("src"), &mut files);
    files.sort();
    assert!(!files.is_empty());
    files
        .iter()
        .map(|file| {
            let path = file.strip_prefix(root()).unwrap().to_str().unwrap().replace('\\', "/");
            Source::new(&path, &fs::read_to_string(file).unwrap())
        })
        // `foo/tests.rs` is the body of a `#[cfg(test)] mod tests;`.
        .filter(|source| source.modules.last().is_none_or(|last| last != "tests"))
        .collect()
}

fn rust_files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            rust_files(&path, found);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            found.push(path);
        }
    }
}

// The rules.

/// How high a module stands; assembly stands above all.
fn height(module: &str) -> Option<usize> {
    if ASSEMBLY.contains(&module) {
        return Some(BLOCKS.len());
    }
    BLOCKS.iter().position(|block| block.modules.contains(&module))
}

fn broken_layers(source: &Source) -> Vec<String> {
    let module = source.module();
    let Some(own) = height(module) else {
        return vec![format!(
            "{}: the module `{module}` has no layer yet: give it one in tests/it/layers.rs",
            source.path
        )];
    };
    let Some(block) = BLOCKS.get(own) else { return Vec::new() };
    modules_used(source)
        .into_iter()
        .filter(|used| used.text != module && height(&used.text).is_none_or(|used| used >= own))
        .map(|used| match used.text.as_str() {
            "*" => format!("{}: say which modules are used, not `*`", source.at(&used)),
            name => format!("{} uses `{name}`, but {}", source.at(&used), block.rule),
        })
        .collect()
}

/// The top-level modules that are named by `crate::…`, or by as many `super::` as lead there.
fn modules_used(source: &Source) -> Vec<Token> {
    let code = &source.code;
    let mut used = Vec::new();
    let mut place = 0;
    while place < code.len() {
        let (is_path, mut next) = match code[place].text.as_str() {
            "crate" => (true, place + 1),
            "super" => {
                let mut supers = 1;
                while text(code, place + 2 * supers - 1) == "::"
                    && text(code, place + 2 * supers) == "super"
                {
                    supers += 1;
                }
                (supers >= source.modules.len(), place + 2 * supers - 1)
            }
            _ => (false, place + 1),
        };
        if is_path && text(code, next) == "::" {
            next += 1;
            used.extend(first_names(&code[next..]));
        } else if is_path && text(code, next) == "as" {
            used.push(Token { text: "*".into(), line: code[place].line });
        }
        place = next;
    }
    used
}

/// The first names of what follows a `::`: one, or several in braces.
fn first_names(code: &[Token]) -> Vec<Token> {
    if text(code, 0) != "{" {
        return code.iter().take(1).cloned().collect();
    }
    let mut names = Vec::new();
    let mut depth = 0_usize;
    for (place, token) in code.iter().enumerate() {
        match token.text.as_str() {
            "{" => depth += 1,
            "}" if depth == 1 => break,
            "}" => depth -= 1,
            "self" if depth == 1 => names.push(Token { text: "*".into(), line: token.line }),
            _ if depth == 1 && matches!(text(code, place - 1), "{" | ",") => {
                names.push(token.clone());
            }
            _ => {}
        }
    }
    names
}

fn impurities(source: &Source, crates: &BTreeSet<String>) -> Vec<String> {
    let code = &source.code;
    let mut broken = Vec::new();
    for (place, token) in code.iter().enumerate() {
        let is_first = place == 0 || text(code, place - 1) != "::";
        if !is_first || text(code, place + 1) != "::" {
            continue;
        }
        let name = token.text.as_str();
        if crates.contains(name) && !CRATES_OF_THE_LAW.contains(&name) {
            broken.push(format!(
                "{} uses the crate `{name}`, but the law knows no HTTP, file, clock or randomness",
                source.at(token)
            ));
        }
        if name == "std" {
            broken.extend(
                first_names(&code[place + 2..])
                    .into_iter()
                    .filter(|used| NOT_FOR_THE_LAW.contains(&used.text.as_str()))
                    .map(|used| {
                        format!(
                            "{} uses `std::{}`, but the law asks nobody and touches nothing",
                            source.at(&used),
                            used.text
                        )
                    }),
            );
        }
    }
    broken
}

/// Where a `Permit` is made: `Permit { … }`, or `Self { … }` in one of its own functions, or by a
/// derived or foreign maker.
fn permits_made(source: &Source) -> Vec<String> {
    let code = &source.code;
    let mut made = Vec::new();
    let mut own_until = 0;
    for (place, token) in code.iter().enumerate() {
        let before = if place == 0 { "" } else { text(code, place - 1) };
        let after = text(code, place + 1);
        match token.text.as_str() {
            "Permit" if after == "{" && before == "struct" => {
                made.extend(
                    derived_makers(&code[..place])
                        .map(|maker| format!("{}: derived by `{maker}`", source.at(token))),
                );
            }
            "Permit" if after == "{" && matches!(before, "impl" | "for") => {
                own_until = place + block_length(&code[place..]);
            }
            // `-> Permit {` is the end of a signature.
            "Permit" if after == "{" && before != ">" => made.push(source.at(token)),
            "Permit" if after == "as" => made.push(format!("{}: renamed", source.at(token))),
            "Permit" if before == "=" && after == ";" => {
                made.push(format!("{}: renamed", source.at(token)));
            }
            "Self" if place < own_until && after == "{" && before != ">" => {
                made.push(source.at(token));
            }
            _ => {}
        }
    }
    made
}

/// The derives before a `struct` that make values out of nothing or out of others.
fn derived_makers(before: &[Token]) -> impl Iterator<Item = &str> {
    let attributes =
        before.iter().rev().take_while(|token| !matches!(token.text.as_str(), ";" | "}"));
    attributes
        .map(|token| token.text.as_str())
        .filter(|name| matches!(*name, "Clone" | "Copy" | "Default" | "Deserialize"))
}

/// How many tokens there are to the end of the first `{ … }`.
fn block_length(code: &[Token]) -> usize {
    let mut depth = 0_usize;
    for (place, token) in code.iter().enumerate() {
        match token.text.as_str() {
            "{" => depth += 1,
            "}" if depth == 1 => return place,
            "}" => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    code.len()
}

// Reading Rust, as far as these rules need it.

fn text(code: &[Token], place: usize) -> &str {
    code.get(place).map_or("", |token| token.text.as_str())
}

/// Names, `::` and single signs; comments and literals are left out.
fn tokens(source: &str) -> Vec<Token> {
    let chars: Vec<char> = source.chars().collect();
    let at = |place: usize| chars.get(place).copied().unwrap_or('\0');
    let is_name = |c: char| c.is_alphanumeric() || c == '_';
    let mut found = Vec::new();
    let (mut place, mut line) = (0, 1);
    while place < chars.len() {
        let start = place;
        let mut push = |text: String| found.push(Token { text, line });
        match at(place) {
            '/' if at(place + 1) == '/' => {
                while place < chars.len() && at(place) != '\n' {
                    place += 1;
                }
            }
            '/' if at(place + 1) == '*' => place = after_comment(&chars, place),
            '"' => place = after_string(&chars, place),
            '\'' => {
                // `'a` is a lifetime, `'a'` and `'\n'` are characters.
                let is_character = at(place + 1) == '\\' || at(place + 2) == '\'';
                place += 1;
                if is_character {
                    place += if at(place) == '\\' { 2 } else { 1 };
                    while place < chars.len() && at(place) != '\'' {
                        place += 1;
                    }
                    place += 1;
                }
            }
            c if is_name(c) => {
                while is_name(at(place)) {
                    place += 1;
                }
                let name: String = chars[start..place].iter().collect();
                let is_prefix = matches!(name.as_str(), "r" | "b" | "br" | "c" | "cr");
                let hashes = chars[place..].iter().take_while(|&&c| c == '#').count();
                if is_prefix && at(place + hashes) == '"' && (hashes == 0 || name != "b") {
                    place = if name.contains('r') {
                        after_raw_string(&chars, place, hashes)
                    } else {
                        after_string(&chars, place)
                    };
                } else if name != "b" || at(place) != '\'' {
                    push(name);
                }
            }
            ':' if at(place + 1) == ':' => {
                push("::".into());
                place += 2;
            }
            c => {
                if !c.is_whitespace() {
                    push(c.into());
                }
                place += 1;
            }
        }
        line += chars[start..place].iter().filter(|&&c| c == '\n').count();
    }
    found
}

fn after_comment(chars: &[char], start: usize) -> usize {
    let (mut place, mut depth) = (start, 0);
    while place < chars.len() {
        match chars.get(place..place + 2) {
            Some(['/', '*']) => depth += 1,
            Some(['*', '/']) => depth -= 1,
            _ => {
                place += 1;
                continue;
            }
        }
        place += 2;
        if depth == 0 {
            break;
        }
    }
    place
}

/// After the string whose `"` stands at `start`.
fn after_string(chars: &[char], start: usize) -> usize {
    let mut place = start + 1;
    while place < chars.len() && chars[place] != '"' {
        place += if chars[place] == '\\' { 2 } else { 1 };
    }
    (place + 1).min(chars.len())
}

fn after_raw_string(chars: &[char], start: usize, hashes: usize) -> usize {
    let mut place = start + hashes + 1;
    while place < chars.len() {
        let closes = chars[place] == '"'
            && chars[place + 1..].iter().take_while(|&&c| c == '#').count() >= hashes;
        place += 1;
        if closes {
            return place + hashes;
        }
    }
    place
}

/// Takes out what stands under `#[cfg(test)]`, and says how many lines that was.
fn without_tests(code: Vec<Token>) -> (Vec<Token>, usize) {
    let (mut kept, mut lines, mut place) = (Vec::new(), 0, 0);
    while place < code.len() {
        if is_test_attribute(&code[place..]) {
            let end = place + item_length(&code[place..]);
            lines += code[end - 1].line - code[place].line + 1;
            place = end;
        } else {
            kept.push(code[place].clone());
            place += 1;
        }
    }
    (kept, lines)
}

/// `#[cfg(test)]` or `#[cfg(all(test, …))]`; `not(test)` and `any(test, …)` are in the program.
fn is_test_attribute(code: &[Token]) -> bool {
    let starts = |signs: &[&str]| signs.iter().enumerate().all(|(n, sign)| text(code, n) == *sign);
    starts(&["#", "[", "cfg", "(", "test", ")", "]"])
        || starts(&["#", "[", "cfg", "(", "all", "(", "test"])
}

/// The tokens of an item with its attributes: to the `;`, or to the end of its block.
fn item_length(code: &[Token]) -> usize {
    let mut place = 0;
    // Attributes first: `#` and one `[ … ]` each.
    while text(code, place) == "#" {
        let mut depth = 0_usize;
        place += 1;
        while place < code.len() {
            match text(code, place) {
                "[" => depth += 1,
                "]" => depth -= 1,
                _ => {}
            }
            place += 1;
            if depth == 0 {
                break;
            }
        }
    }
    while place < code.len() {
        match text(code, place) {
            ";" => return place + 1,
            "{" => return (place + block_length(&code[place..]) + 1).min(code.len()),
            _ => place += 1,
        }
    }
    place
}

// And that all this notices what it is there for.

#[test]
fn a_broken_layer_is_told_with_its_line_and_its_rule() {
    for (path, text, told) in [
        (
            "src/wire/credential.rs",
            "use crate::policy::Reason;\nuse crate::store::Store;\n",
            "src/wire/credential.rs:2 uses `store`, but store, telemetry, upstream and wire are",
        ),
        (
            "src/policy.rs",
            "fn f() { crate::live::now() }",
            "src/policy.rs:1 uses `live`, but policy is the law",
        ),
        (
            "src/proxy/relay.rs",
            "use crate::{\n  live::Live,\n  wire::{headers, refusal},\n  admin::Page,\n};",
            "src/proxy/relay.rs:4 uses `admin`, but proxy, forward_auth and admin are strangers",
        ),
        ("src/token/id.rs", "use super::super::policy::Ask;", "id.rs:1 uses `policy`, but token"),
        ("src/live.rs", "use super::server::Worker;", "src/live.rs:1 uses `server`, but live"),
        ("src/settings/limits.rs", "pub(in crate::wire) struct X;", "uses `wire`, but settings"),
        ("src/admin.rs", "use crate::*;", "say which modules are used"),
        ("src/admin.rs", "use crate as house;", "say which modules are used"),
        ("src/live.rs", "fn f() { super::newcomer::g() }", "uses `newcomer`, but live"),
        ("src/newcomer.rs", "", "the module `newcomer` has no layer yet"),
        ("src/store.rs", "#[cfg(not(test))]\nuse crate::live::Keeper;", "store.rs:2 uses `live`"),
        ("src/store.rs", "#[cfg(test)]\nmod tests { } use crate::wire::X;", "uses `wire`"),
    ] {
        let broken = broken_layers(&Source::new(path, text));
        assert_eq!(broken.len(), 1, "{text}: {broken:?}");
        assert!(broken[0].contains(told), "{text}: {broken:?}");
    }
}

#[test]
fn what_is_allowed_passes() {
    for (path, text) in [
        (
            "src/wire/refusal.rs",
            "use crate::policy::Reason; use super::headers::X; use crate::wire::Y;",
        ),
        ("src/policy/route.rs", "use super::path::RequestPath; use crate::{policy::A, token::B};"),
        ("src/app.rs", "use crate::{admin, proxy, server};"),
        (
            "src/store.rs",
            "// crate::live\n/* crate::wire /* */ crate::app */ const A: &str = \"crate::live\";",
        ),
        (
            "src/store.rs",
            "const A: &str = r#\"\" crate::live\"#; const B: char = '\"'; // crate::app",
        ),
        (
            "src/store.rs",
            "#[cfg(test)]\n#[allow(x)]\nmod tests {\n use crate::live::X; fn f() { {} }\n}",
        ),
        ("src/store.rs", "#[cfg(test)] use crate::live::X; fn f<'a>(x: &'a str) {}"),
        ("src/live.rs", "pub(crate) fn f() {} use crate::store::{self, Store};"),
    ] {
        let broken = broken_layers(&Source::new(path, text));
        assert!(broken.is_empty(), "{text}: {broken:?}");
    }
}

#[test]
fn an_impure_law_is_noticed() {
    let crates = ["hyper", "tokio", "jiff", "blake3"].map(String::from).into();
    let count = |text: &str| impurities(&Source::new("src/policy/x.rs", text), &crates).len();
    assert_eq!(count("use std::{collections::HashMap, time::Instant, fs};"), 2);
    assert_eq!(count("fn f() { std::env::var(x); }"), 1);
    assert_eq!(count("use hyper::Request; use tokio::net; use jiff::Timestamp;"), 3);
    assert_eq!(count("use std::collections::HashMap; use blake3::Hash; use std::fmt;"), 0);
}

#[test]
fn every_way_to_make_a_permit_is_noticed() {
    for (text, times) in [
        ("struct Permit { a: u8 } impl Permit { fn a(&self) -> u8 { 1 } }", 0),
        ("fn f() -> Permit { g() }", 0),
        ("fn f() { Permit { a: 1 } }", 1),
        ("fn f() { Decision::Allow(super::Permit { a: 1 }) }", 1),
        ("impl Permit { fn new() -> Self { Self { a: 1 } } }", 1),
        ("impl Default for Permit { fn default() -> Self { Self { a: 1 } } }", 1),
        ("impl Other { fn new() -> Self { Self { a: 1 } } }", 0),
        ("#[derive(Debug, Clone)] #[must_use] pub struct Permit { a: u8 }", 1),
        ("type Pass = Permit; use x::Permit as P;", 2),
        ("#[cfg(test)] mod tests { fn f() { Permit { a: 1 } } }", 0),
    ] {
        let made = permits_made(&Source::new("src/policy/x.rs", text));
        assert_eq!(made.len(), times, "{text}: {made:?}");
    }
}

#[test]
fn lines_of_tests_do_not_count() {
    let text = "fn a() {}\n\n#[cfg(test)]\nmod tests {\n    fn b() {}\n}\n";
    assert_eq!(Source::new("src/store.rs", text).lines, 2);
    assert_eq!(Source::new("src/store.rs", "fn a() {}\n// b\n").lines, 2);
}
