//! One spelling of a path, and only one: every other is refused, and what is forwarded means the same to every server.

use std::collections::BTreeSet;

use unicode_normalization::UnicodeNormalization;

use crate::support::gate::{Folder, Gate, Namespace, Settings};
use crate::support::http1::{Client, get};
use crate::support::leaks::percent_decoded;
use crate::support::model_server::ModelServer;
use crate::support::rig::Rig;
use crate::support::tokens::{self, Token};

/// Each is one way to write, or to seem to write, `/score/secret` or a path nobody mapped. They are sent with a token
/// that may do everything, so that only their form is a reason to refuse them.
pub(crate) const SECOND_SPELLINGS: &[&str] = &[
    // Dot segments, plain, escaped once and twice, with parameters.
    "/score/./secret",
    "/score/../score/secret",
    "/score/allowed/../secret",
    "/score/allowed/..",
    "/score/secret/.",
    "/..",
    "/../score/secret",
    "/score/%2e/secret",
    "/score/%2E%2E/secret",
    "/score/%2e%2e/score/secret",
    "/score/.%2e/secret",
    "/score/%2e./secret",
    "/score/allowed%2f..%2fsecret",
    "/score/%252e%252e/secret",
    "/score/..;/secret",
    "/score/..;a=b/secret",
    "/score/%2e%2e;/secret",
    "/score/..%3b/secret",
    "/score/..%00/secret",
    "/score/..%0d%0a/secret",
    "/score/..%5csecret",
    "/score/..\\secret",
    "/score/.%00./secret",
    // Slashes: doubled, escaped, backward, of other scripts.
    "//score/secret",
    "/score//secret",
    "/score/secret//",
    "///",
    "/score%2fsecret",
    "/score%2Fsecret",
    "/score/%2Fsecret",
    "/score/allowed%2f",
    "/score%5csecret",
    "/score%5Csecret",
    "/score\\secret",
    "\\score\\secret",
    "/\\score/secret",
    "/score/allowed%252f",
    "/score%EF%BC%8Fsecret",
    "/score/%EF%BC%8E%EF%BC%8E/secret",
    "/score/%E2%80%A5/secret",
    "/score/%EF%BC%BCsecret",
    "/score%E2%84%80secret",
    // What is escaped without need, in the wrong letter case, or not at all well.
    "/scor%65/secret",
    "/score/%73ecret",
    "/score/%53ecret",
    "/score/secre%74",
    "/score/allowed%2d1",
    "/score/allowed%2D1",
    "/score/allowed%5F",
    "/score/allowed%7E",
    "/score/caf%c3%a9",
    "/score/%",
    "/score/%2",
    "/score/%zz",
    "/score/%u002e",
    "/score/%%32%65",
    "/score/%25%32%65",
    "/score/allowed%",
    // Parameters, queries and fragments inside.
    "/score/secret;a=b",
    "/score;/secret",
    "/score/;secret",
    "/score/secret;",
    "/score/secret%3Ba",
    "/score/allowed%3Fsecret",
    "/score/allowed%23secret",
    // Control characters and what is no UTF-8.
    "/score/secret%00",
    "/score/secret%0a",
    "/score/secret%0D%0AX:y",
    "/score/secret%09",
    "/score/secret%7F",
    "/score/%C0%AFsecret",
    "/score/%C0%AE%C0%AE/secret",
    "/score/%E0%80%AFsecret",
    "/score/%F0%80%80%AFsecret",
    "/score/%ED%A0%80",
    "/score/%FF",
    "/score/%C3",
    "/score/%C2%85",
    // Bytes that may not stand there as they are.
    "/score/a|b",
    "/score/a^b",
    "/score/a\"b",
    "/score/a<b>",
    "/score/a`b",
    "/score/{model}",
    "/score/a[b]",
    "/score/caf\u{e9}",
    "/score/\u{ff0f}secret",
];

/// A gate with so many tokens, each with so many patterns beside its own.
fn gate_with(server: &ModelServer, tokens: usize) -> Gate {
    let patterns: Vec<String> =
        (0..tokens.min(101)).map(|number| format!("other-{number}")).collect();
    let patterns: Vec<&str> = patterns.iter().map(String::as_str).chain(["*"]).collect();
    let ids: Vec<String> = (1..tokens).map(|number| format!("token-{number}")).collect();
    let mut list: Vec<Token<'_>> = ids
        .iter()
        .map(|id| Token {
            id,
            name: "",
            resources: &["elsewhere"],
            groups: &["model-evaluation"],
            more: "",
        })
        .collect();
    let middle = list.len() / 2;
    list.insert(
        middle,
        Token {
            id: "all",
            name: "",
            resources: &patterns,
            groups: &["model-evaluation"],
            more: "",
        },
    );
    let folder = Folder::new();
    folder.write("tokens.toml", tokens::file(&list));
    folder.write("faregate.toml", Settings::of(Namespace::before(server.url())).toml());
    Gate::start(folder)
}

#[test]
fn a_second_spelling_is_refused_however_many_tokens_there_are() {
    for count in [1, 99, 101, 10_000] {
        let server = ModelServer::canned();
        let gate = gate_with(&server, count);
        let rig = Rig::of(gate, server);
        for target in SECOND_SPELLINGS {
            // A library may close on what it cannot read at all, so each has a connection of its own.
            let mut client = rig.connect();
            client.send(get(target).token("all").bytes());
            let response = client.response();
            assert_eq!(response.status, 400, "{target:?} with {count} tokens: {response:?}");
            if let Some(reason) = response.reason() {
                assert!(matches!(reason, "bad_path" | "bad_target"), "{target:?}: {reason}");
            }
            rig.assert_upstream_got_nothing(target);
        }
        rig.assert_forwarded("the one spelling", &get("/score/secret").token("all"));
        rig.finish(1);
    }
}

#[test]
fn a_path_has_a_longest_length() {
    let rig = Rig::standard();
    let of = |length: usize| {
        let start = "/files/allowed/";
        get(&format!("{start}{}", "a".repeat(length - start.len()))).token("eval")
    };
    rig.assert_forwarded("8 KiB", &of(8 * 1024));
    rig.assert_refused("more", &of(8 * 1024 + 1), 400, "bad_path");
    rig.finish(1);
}

/// Numbers that follow from a seed, so that a failure can be had again.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: usize) -> usize {
        // xorshift64*
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let number = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33;
        usize::try_from(number).unwrap() % limit
    }

    fn of<'t>(&mut self, items: &[&'t str]) -> &'t str {
        items[self.below(items.len())]
    }
}

/// What paths are made of here: words that mean something, and everything that may change what a path means.
const PIECES: &[&str] = &[
    "/",
    "/",
    "/",
    "//",
    "score",
    "files",
    "v2",
    "models",
    "allowed",
    "pre-",
    "pre-x",
    "secret",
    "secret",
    ".",
    "..",
    "/../",
    "/./",
    "%2e",
    "%2E",
    "%2f",
    "%2F",
    "%5c",
    "\\",
    ";",
    ";a=b",
    "..;",
    "%00",
    "%23",
    "#",
    "?",
    "%3f",
    "%252e",
    "%252f",
    "%25",
    "%61",
    "%C3%A9",
    "e\u{301}",
    "%EF%BC%8F",
    "%EF%BC%8E",
    "%C0%AF",
    "%20",
    "+",
    ":",
    "@",
    "*",
    "~",
    ":unload",
    "%3Aunload",
    "%3A",
    "infer",
    "ready",
    "versions",
    "1",
    "audit",
    "everything",
    "closed",
    "SECRET",
    "Secret",
    "-",
    "_",
    ",",
    "!",
    "=",
];

type Normaliser = (&'static str, fn(&str) -> String);

/// What servers, frameworks and gateways do to a path before they look at it.
const NORMALISERS: &[Normaliser] = &[
    ("as it is", str::to_owned),
    ("decoded", decoded),
    ("decoded twice", |path| decoded(&decoded(path))),
    ("dot segments removed", without_dot_segments),
    ("slashes merged", |path| {
        let mut merged = path.to_owned();
        while merged.contains("//") {
            merged = merged.replace("//", "/");
        }
        merged
    }),
    ("backslashes turned", |path| path.replace('\\', "/")),
    ("parameters cut", |path| {
        let segments = path.split('/').map(|segment| segment.split(';').next().unwrap_or_default());
        segments.collect::<Vec<_>>().join("/")
    }),
    ("cut at a terminator", |path| {
        let ends = ["\0", "#", "?", "%00", "%23", "%3f", "%3F"]
            .iter()
            .filter_map(|end| path.find(end))
            .min();
        path[..ends.unwrap_or(path.len())].to_owned()
    }),
    ("lower case", |path| path.to_lowercase()),
    ("NFC", |path| path.nfc().collect()),
    ("NFKC", |path| path.nfkc().collect()),
    ("end trimmed", |path| path.trim_end_matches(['/', '.', ' ']).to_owned()),
];

fn decoded(path: &str) -> String {
    String::from_utf8_lossy(&percent_decoded(path.as_bytes())).into_owned()
}

fn without_dot_segments(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    for segment in path.split('/').skip(1) {
        match segment {
            "." => {}
            ".." => drop(kept.pop()),
            segment => kept.push(segment),
        }
    }
    format!("/{}", kept.join("/"))
}

/// Whether a server that reads the path so would use a model, or a route, that the token `eval` may not.
fn reaches_what_is_closed(path: &str) -> bool {
    let segments: Vec<&str> = path.split('/').skip(1).collect();
    match segments[..] {
        ["score", model] => !may_use(model),
        ["predict", model] => model.ends_with(":unload") || !may_use(model),
        ["files", model, _, ..] => !may_use(model),
        ["v2", "models", model] => !may_use(model),
        ["v2", "models", model, "ready" | "infer"] => !may_use(model),
        ["v2", "models", model, "versions", _] => !may_use(model),
        ["v2", "models", model, "versions", _, "ready" | "infer"] => !may_use(model),
        ["everything" | "closed"] | ["audit", _] => true,
        _ => false,
    }
}

fn may_use(model: &str) -> bool {
    model == "allowed" || model.starts_with("pre-")
}

#[test]
fn whatever_is_forwarded_means_the_same_to_every_server() {
    const PATHS: usize = 2500;
    let rig = Rig::standard();
    let mut dice = Dice(0x5eed_0fa7_e9a7_e000);
    let mut client = rig.connect();
    let mut forwarded = BTreeSet::new();
    for _ in 0..PATHS {
        let mut target = String::from("/");
        target.push_str(dice.of(&["score/", "files/", "predict/", "v2/models/", ""]));
        target.push_str(dice.of(&["allowed", "pre-", "secret", ""]));
        for _ in 0..dice.below(6) {
            target.push_str(dice.of(PIECES));
        }
        client.send(get(&target).token("eval").bytes());
        let Some(response) = client.response_or_end("GET") else {
            client = rig.connect();
            continue;
        };
        if response.status == 200 {
            forwarded.insert(target);
        } else {
            assert!(matches!(response.status, 400 | 403), "{target:?}: {response:?}");
        }
        if response.field("connection") == Some("close") {
            client = rig.connect();
        }
    }
    let received = rig.server.requests();
    // Otherwise the pieces would make nothing that tests anything.
    assert!(received.len() > PATHS / 50, "only {} of {PATHS} paths were forwarded", received.len());
    for request in &received {
        let whole = request.target.as_str();
        let path = whole.split('?').next().unwrap();
        for (first, normalise) in NORMALISERS {
            let once = normalise(path);
            for (second, normalise) in NORMALISERS {
                let twice = normalise(&once);
                assert!(
                    !reaches_what_is_closed(&twice),
                    "{whole:?} becomes {twice:?}: {first}, then {second}"
                );
            }
        }
    }
    let count = received.len();
    rig.finish(count);
}

#[test]
fn the_cut_of_a_fragment_is_what_is_judged() {
    let rig = Rig::standard();
    for target in ["/score/allowed#/../secret", "/score/allowed#", "/score/allowed#?model=secret"] {
        let mut client = Client::to(rig.gate.data);
        let before = rig.server.requests().len();
        let response = client.ask(&get(target).token("eval"));
        let received = rig.server.requests();
        if response.status == 200 {
            assert_eq!(received.last().unwrap().target, "/score/allowed", "{target}");
        } else {
            assert_eq!((response.status, received.len()), (400, before), "{target}");
        }
    }
    let mut client = Client::to(rig.gate.data);
    let response = client.ask(&get("/score/secret#/../allowed").token("eval"));
    assert!(matches!(response.status, 400 | 403), "{response:?}");
    let count = rig.server.requests().len();
    rig.finish(count);
}
