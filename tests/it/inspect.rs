//! The model that a body names: whatever the gate passes, other people's readers must read alike.

mod agreement;

use std::cell::Cell;

use agreement::{BOUNDARY, DeclaredInfer, DeclaredMultiInference, DeclaredPredict, Found, framed};
use faregate::wire::inspect::Fault;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::{Config, TestRunner};
use prost::Message as _;

/// How often each property is tried, unless the environment says otherwise.
fn runner(cases: u32) -> TestRunner {
    let mut config = Config::default();
    if std::env::var_os("PROPTEST_CASES").is_none() {
        config.cases = cases;
    }
    config.failure_persistence = None;
    TestRunner::new(config)
}

/// How many of the bodies of a property named a model, named none and were refused. A property says
/// nothing where one of these does not occur.
#[derive(Default)]
struct Tally {
    named: Cell<u32>,
    silent: Cell<u32>,
    refused: Cell<u32>,
}

impl Tally {
    fn add(&self, found: &Found) {
        let count = match found {
            Ok(Some(_)) => &self.named,
            Ok(None) => &self.silent,
            Err(_) => &self.refused,
        };
        count.set(count.get() + 1);
    }

    fn assert_all_met(&self, at_least: u32) {
        for (what, count) in
            [("named", &self.named), ("silent", &self.silent), ("refused", &self.refused)]
        {
            assert!(count.get() >= at_least, "{what}: {} bodies only", count.get());
        }
    }
}

fn cuts() -> impl Strategy<Value = Vec<usize>> {
    vec(any::<usize>(), 0..4)
}

/// A change of a few bytes: what is put in, where, and how many bytes it takes the place of.
type Change = (Vec<u8>, prop::sample::Index, usize);

fn changes(words: &'static [&'static [u8]]) -> impl Strategy<Value = Vec<Change>> {
    let put_in = prop_oneof![
        4 => select(words).prop_map(<[u8]>::to_vec),
        1 => vec(any::<u8>(), 0..3),
    ];
    let change = (put_in, any::<prop::sample::Index>(), 0_usize..4);
    prop_oneof![2 => Just(Vec::new()), 3 => vec(change, 1..4)]
}

fn changed(mut body: Vec<u8>, changes: &[Change]) -> Vec<u8> {
    for (put_in, place, taken_out) in changes {
        let start = place.index(body.len() + 1);
        let end = body.len().min(start + taken_out);
        body.splice(start..end, put_in.iter().copied());
    }
    body
}

// JSON.

const JSON_WORDS: &[&[u8]] = &[
    b"\"",
    b"\\",
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b":",
    b"\"model\":",
    b"\"model\":\"x\",",
    b"\"Model\":\"x\",",
    b"model",
    b"MODEL",
    b"\\u0065",
    b"\\ud83d",
    b"\\ude00",
    b"\\u0000",
    b"\\",
    b"\\\"",
    b"null",
    b"true",
    b"0",
    b"-",
    b".",
    b"e",
    b"1e5",
    b" ",
    b"\n",
    b"\0",
    b"\x1f",
    b"\x7f",
    b"\xff",
    b"\xc3",
    b"\xa9",
    b"\xe2\x82\xac",
    b"\xed\xa0\x80",
    b"\xf0\x9f\x98\x80",
    b"\xef\xbb\xbf",
    b"//",
    b"'",
    b"NaN",
];

fn json_space() -> impl Strategy<Value = &'static str> {
    prop_oneof![6 => Just(""), 1 => select(vec![" ", "\n", "\t\r ", "  "])]
}

/// A string in one of its spellings, in quotes.
fn json_string(text: impl Strategy<Value = String>) -> impl Strategy<Value = String> {
    (text, any::<u64>()).prop_map(|(text, spelling)| {
        let mut spelt = String::from("\"");
        for (place, character) in text.chars().enumerate() {
            match spelling.rotate_right(2 * (place as u32 % 32)) % 4 {
                0 => character.encode_utf16(&mut [0; 2]).iter().for_each(|unit| {
                    spelt.push_str(&format!("\\u{unit:04x}"));
                }),
                _ if matches!(character, '"' | '\\' | '\0'..'\x20') => {
                    let quoted = serde_json::to_string(&character).unwrap();
                    spelt.push_str(quoted.trim_matches('"').trim_start_matches('"'));
                    if character == '"' {
                        spelt.push('"');
                    }
                }
                _ => spelt.push(character),
            }
        }
        spelt + "\""
    })
}

fn json_value() -> impl Strategy<Value = String> {
    let text = prop_oneof!["[a-z ]{0,12}", any::<String>(), "[\"\\\\/\n\u{0}é€😀]{0,6}"];
    let number = "-?(0|[1-9][0-9]{0,20})(\\.[0-9]{1,20})?([eE][+-]?[0-9]{1,2})?";
    let leaf = prop_oneof![
        3 => json_string(text),
        2 => number,
        1 => select(vec!["true", "false", "null"]).prop_map(Into::into),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        let name = json_string(select(vec!["a", "model", "Model", ""]).prop_map(Into::into));
        let member = (name, json_space(), inner.clone());
        prop_oneof![
            (vec(inner, 0..4), json_space())
                .prop_map(|(items, space)| format!("[{space}{}]", items.join(","))),
            vec(member, 0..4).prop_map(|members| {
                let members =
                    members.iter().map(|(name, space, value)| format!("{name}{space}:{value}"));
                format!("{{{}}}", members.collect::<Vec<_>>().join(","))
            }),
        ]
    })
}

fn json_body() -> impl Strategy<Value = Vec<u8>> {
    let other = select(vec!["messages", "stream", "", "mode", "models", "a", "é", "model_"]);
    let model = prop_oneof![4 => "[a-z0-9/.-]{0,20}", 1 => any::<String>(), 1 => "x{250,260}"];
    let member = prop_oneof![
        12 => (json_string(other.prop_map(Into::into)), json_value()),
        4 => (json_string(Just("model".into())), json_string(model)),
        1 => (json_string(Just("model".into())), json_value()),
        1 => (json_string("[mM][oO][dD][eE][lL]\u{0}?"), json_value()),
    ];
    let member = (json_space(), member, json_space());
    vec(member, 0..6).prop_map(|members| {
        let members = members.into_iter().map(|(before, (name, value), between)| {
            format!("{before}{name}{between}:{between}{value}")
        });
        format!("{{{}}}", members.collect::<Vec<_>>().join(",")).into_bytes()
    })
}

#[test]
fn json_is_read_as_serde_json_reads_it() {
    let tally = Tally::default();
    runner(3_000)
        .run(&(json_body(), changes(JSON_WORDS), cuts()), |(body, changes, cuts)| {
            tally.add(&agreement::json(&changed(body, &changes), &cuts));
            Ok(())
        })
        .unwrap();
    tally.assert_all_met(100);
}

// Forms.

const FORM_WORDS: &[&[u8]] = &[
    b"\r\n",
    b"\r",
    b"\n",
    b"--",
    b"-",
    b"X-b",
    b"--X-b",
    b"\r\n--X-b",
    b"\n--X-b\r\n",
    b"\r\n--X-b\r\n",
    b"--X-b--",
    b"\r\n\r\n",
    b" ",
    b"\t",
    b";",
    b"\"",
    b"\\",
    b"'",
    b"; name=\"model\"",
    b"; filename=\"a\"",
    b"name=",
    b"name*=",
    b"model",
    b"Model",
    b"model[]",
    b"%6d",
    b"\0",
    b"\xff",
    b":",
    b"Content-Disposition: form-data; name=\"model\"\r\n",
    b"Content-Type: text/plain\r\n",
    b"Content-Transfer-Encoding: base64\r\n",
    b"Content-Length: 1\r\n",
    b"\r\n--X-b\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\ny",
];

fn part() -> impl Strategy<Value = Vec<u8>> {
    let name = prop_oneof![
        4 => select(vec!["file", "prompt", "response_format", "a[]", "models"]),
        3 => Just("model"),
        1 => select(vec!["Model", "model[]", "%6dodel", " model"]),
    ];
    let quoted = prop_oneof![
        4 => name.clone().prop_map(|name| format!("\"{name}\"")),
        1 => Just("file".to_owned()),
    ];
    let file = prop_oneof![
        6 => Just(""),
        1 => Just("; filename=\"a b.wav\""),
        1 => Just("; filename*=utf-8''a.wav"),
    ];
    let lines = prop_oneof![
        6 => Just(""),
        1 => Just("Content-Type: text/plain; charset=utf-8\r\n"),
        1 => Just("Content-Type: audio/wav\r\n"),
        1 => Just("Content-Transfer-Encoding: binary\r\n"),
    ];
    let content = prop_oneof![
        3 => "[a-z0-9/.-]{0,20}".prop_map(String::into_bytes),
        1 => vec(any::<u8>(), 0..40),
        1 => vec(select(vec!["\r", "\n", "-", "--", "X", "X-b", "\r\n"]), 0..6)
            .prop_map(|words| words.concat().into_bytes()),
    ];
    (quoted, file, lines, content).prop_map(|(name, file, lines, content)| {
        let head = format!(
            "--{BOUNDARY}\r\n{lines}Content-Disposition: form-data; name={name}{file}\r\n\r\n"
        );
        [head.as_bytes(), &content, b"\r\n"].concat()
    })
}

#[test]
fn a_form_in_parts_is_read_as_multer_reads_it() {
    let tally = Tally::default();
    let form = vec(part(), 0..4)
        .prop_map(|parts| [parts.concat(), format!("--{BOUNDARY}--\r\n").into()].concat());
    runner(3_000)
        .run(&(form, changes(FORM_WORDS), cuts()), |(body, changes, cuts)| {
            tally.add(&agreement::multipart(&changed(body, &changes), &cuts));
            Ok(())
        })
        .unwrap();
    tally.assert_all_met(100);
}

const PAIR_WORDS: &[&[u8]] = &[
    b"&",
    b"=",
    b";",
    b"+",
    b"%",
    b"%6",
    b"%6d",
    b"%3B",
    b"%26",
    b"%00",
    b"%ff",
    b"model",
    b"model=y",
    b"&model=y",
    b";model=y",
    b"&Model=y",
    b"[]",
    b" ",
    b"\0",
    b"\r\n",
    b"\xff",
    b"{",
    b"\"",
];

#[test]
fn a_form_of_pairs_is_read_as_simple_readers_do() {
    let tally = Tally::default();
    let name = prop_oneof![
        3 => "[a-z]{0,4}",
        2 => select(vec!["model", "%6dodel", "mode%6C"]).prop_map(Into::into),
    ];
    let value = "([a-z0-9/.=+-]|%2[0-9A-F]){0,12}";
    let pair = (name, value).prop_map(|(name, value)| format!("{name}={value}"));
    let form = vec(pair, 0..4).prop_map(|pairs| pairs.join("&").into_bytes());
    runner(3_000)
        .run(&(form, changes(PAIR_WORDS), cuts()), |(body, changes, cuts)| {
            tally.add(&agreement::urlencoded(&changed(body, &changes), &cuts));
            Ok(())
        })
        .unwrap();
    tally.assert_all_met(100);
}

// gRPC.

/// Tags, lengths and fields: right ones, and such as parsers do not agree on.
const PROTOBUF_WORDS: &[&[u8]] = &[
    b"\x0a",
    b"\x0a\x00",
    b"\x0a\x01x",
    b"\x0a\x03\x0a\x01x",
    b"\x0a\x05\x0a\x03\x0a\x01x",
    b"\x12\x01x",
    b"\x12\x00",
    b"\x08\x01",
    b"\x10\x01",
    b"\x0b",
    b"\x0c",
    b"\x13",
    b"\x14",
    b"\x09",
    b"\x0d",
    b"\x8a\x00",
    b"\x8a\x80\x00",
    b"\x81\x00",
    b"\x80",
    b"\xff",
    b"\x00",
    b"\x01",
    b"\x02",
    b"\x7f",
    b"\x10\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
    b"\x11\x00\x00\x00\x00\x00\x00\x00\x00",
    b"\x15\x00\x00\x00\x00",
    b"\x8a\x80\x80\x80\x10",
];

/// Fields beside the model, well-formed.
fn other_fields() -> impl Strategy<Value = Vec<u8>> {
    let field = prop_oneof![
        vec(any::<u8>(), 0..20)
            .prop_map(|content| [&[0x12, content.len() as u8][..], &content].concat()),
        Just(b"\x18\x96\x01".to_vec()),
        any::<u32>().prop_map(|value| [&[0x25][..], &value.to_le_bytes()].concat()),
        any::<u64>().prop_map(|value| [&[0x29][..], &value.to_le_bytes()].concat()),
    ];
    vec(field, 0..4).prop_map(|fields| fields.concat())
}

fn infer() -> impl Strategy<Value = DeclaredInfer> {
    prop_oneof!["[a-z]{0,10}", any::<String>()].prop_map(|model| DeclaredInfer { model })
}

fn predict() -> impl Strategy<Value = DeclaredPredict> {
    prop::option::of(infer()).prop_map(|spec| DeclaredPredict { spec })
}

fn message() -> impl Strategy<Value = Vec<u8>> {
    let tasks = prop_oneof![
        vec(predict(), 0..3),
        (predict(), 1_usize..4).prop_map(|(task, times)| vec![task; times]),
    ];
    let message = prop_oneof![
        infer().prop_map(|message| message.encode_to_vec()),
        predict().prop_map(|message| message.encode_to_vec()),
        tasks.prop_map(|tasks| DeclaredMultiInference { tasks }.encode_to_vec()),
    ];
    (other_fields(), message, other_fields())
        .prop_map(|(before, message, after)| [before, message, after].concat())
}

#[test]
fn messages_are_read_as_prost_reads_them() {
    let tallies: [Tally; 3] = Default::default();
    runner(3_000)
        .run(&(message(), changes(PROTOBUF_WORDS), cuts()), |(message, changes, cuts)| {
            let found = agreement::protobuf(&changed(message, &changes), &cuts);
            tallies.iter().zip(&found).for_each(|(tally, found)| tally.add(found));
            Ok(())
        })
        .unwrap();
    tallies.iter().for_each(|tally| tally.assert_all_met(100));
}

#[test]
fn what_prost_writes_is_passed() {
    runner(500)
        .run(&(infer(), 1_usize..4, cuts()), |(infer, times, cuts)| {
            let model = (!infer.model.is_empty()).then(|| infer.model.clone());
            let task = DeclaredPredict { spec: Some(infer.clone()) };
            let tasks = DeclaredMultiInference { tasks: vec![task.clone(); times] };
            let read =
                |message: &[u8], path: usize| agreement::protobuf(message, &cuts)[path].clone();
            if infer.model.len() <= 256 {
                prop_assert_eq!(read(&infer.encode_to_vec(), 0), Ok(model.clone()));
                prop_assert_eq!(read(&task.encode_to_vec(), 1), Ok(model.clone()));
                prop_assert_eq!(read(&tasks.encode_to_vec(), 2), Ok(model));
            } else {
                prop_assert_eq!(read(&infer.encode_to_vec(), 0), Err(Fault::BadModel));
            }
            Ok(())
        })
        .unwrap();
}

#[test]
fn a_call_is_released_message_by_message() {
    let faulty = Cell::new(0);
    let call = vec(message(), 0..4)
        .prop_map(|messages| messages.iter().flat_map(|message| framed(message)).collect());
    runner(1_000)
        .run(&(call, changes(PROTOBUF_WORDS), cuts()), |(call, changes, cuts)| {
            let (_, end) = agreement::grpc(&changed(call, &changes), &cuts);
            faulty.set(faulty.get() + u32::from(end.is_err()));
            Ok(())
        })
        .unwrap();
    assert!((100..=900).contains(&faulty.get()), "{} of 1000", faulty.get());
}
