use super::*;
use Fault::{BadBody, BadModel, Conflict, TooLarge, UnsupportedEncoding};

const LIMIT: usize = 10_000;

// Writing protocol buffers by hand, right and wrong.

fn varint(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}

fn tag(field: u32, wire_type: u32) -> Vec<u8> {
    varint(u64::from(field << 3 | wire_type))
}

fn text(field: u32, content: impl AsRef<[u8]>) -> Vec<u8> {
    let content = content.as_ref();
    [tag(field, 2), varint(content.len() as u64), content.to_vec()].concat()
}

fn number(field: u32, value: u64) -> Vec<u8> {
    [tag(field, 0), varint(value)].concat()
}

fn framed(message: &[u8]) -> Vec<u8> {
    [&[0][..], &(message.len() as u32).to_be_bytes(), message].concat()
}

/// What was read of a call: the model of each message with its bytes, and how the call ended.
type Call = (Vec<(Option<String>, Vec<u8>)>, Result<(), Fault>);

fn read_in_pieces(path: &[PathStep], call: &[u8], length: usize) -> Call {
    let mut scan = GrpcScan::new(path, LIMIT);
    let mut messages = Vec::new();
    for piece in call.chunks(length) {
        let mut piece = Bytes::copy_from_slice(piece);
        loop {
            match scan.next(&mut piece) {
                Ok(Some(Message { model, bytes })) => {
                    messages.push((model, bytes.into_pieces().concat()));
                }
                Ok(None) => break,
                Err(fault) => {
                    assert_eq!(scan.next(&mut piece).err(), Some(fault), "a fault stays");
                    assert_eq!(scan.end(), Err(fault), "a fault stays");
                    return (messages, Err(fault));
                }
            }
        }
        assert!(piece.is_empty());
    }
    (messages, scan.end())
}

fn read_call(path: &[PathStep], call: &[u8]) -> Call {
    let whole = read_in_pieces(path, call, usize::MAX);
    for length in [1, 2, 3, 5, 7, 64] {
        assert_eq!(read_in_pieces(path, call, length), whole, "in pieces of {length}: {call:?}");
    }
    whole
}

/// Reads one message.
fn read(path: &[PathStep], message: &[u8]) -> Result<Option<String>, Fault> {
    let (mut messages, end) = read_call(path, &framed(message));
    end?;
    let (model, bytes) = messages.pop().unwrap();
    assert!(messages.is_empty());
    assert_eq!(bytes, framed(message));
    Ok(model)
}

fn one(fields: &[u32]) -> Vec<PathStep> {
    fields.iter().map(|field| PathStep::one(*field)).collect()
}

#[test]
fn the_model_is_found() {
    for (path, message, model) in [
        (&[1][..], vec![], None),
        (&[1], text(1, "iris"), Some("iris")),
        (&[1], text(1, ""), Some("")),
        (&[1], text(1, "café"), Some("café")),
        (&[1], [text(2, "v"), text(1, "iris"), text(3, "id")].concat(), Some("iris")),
        (&[2], [text(1, "repo"), text(2, "iris")].concat(), Some("iris")),
        (&[1], text(2, text(1, "x")), None),
        (&[1], [number(2, u64::MAX), number(3, 0), text(1, "iris")].concat(), Some("iris")),
        (
            &[1],
            [tag(2, 1), vec![9; 8], tag(3, 5), vec![9; 4], text(1, "iris")].concat(),
            Some("iris"),
        ),
        (&[1], [text(2, [8; 5_000]), text(1, "iris"), text(2, [8; 5])].concat(), Some("iris")),
        // The biggest field number, and a small one that is written with two bytes.
        (&[536_870_911], text(536_870_911, "iris"), Some("iris")),
        (&[16], text(16, "iris"), Some("iris")),
        (&[1, 1], text(1, text(1, "iris")), Some("iris")),
        (
            &[1, 1],
            [text(2, "x"), text(1, [number(2, 1), text(1, "iris")].concat())].concat(),
            Some("iris"),
        ),
        (&[1, 1], text(1, ""), None),
        (&[1, 1], text(1, text(2, "x")), None),
        (&[1, 1], text(2, text(1, "x")), None),
        (&[3, 2, 1], text(3, text(2, text(1, "iris"))), Some("iris")),
    ] {
        assert_eq!(read(&one(path), &message), Ok(model.map(Into::into)), "{path:?} {message:?}");
    }
}

#[test]
fn a_field_that_is_there_twice_is_a_conflict() {
    for (path, message) in [
        (&[1][..], text(1, "iris").repeat(2)),
        (&[1], [text(1, "iris"), text(2, ""), text(1, "x")].concat()),
        (&[1], [text(1, ""), text(1, "iris")].concat()),
        (&[1, 1], text(1, text(1, "iris").repeat(2))),
        // Parsers merge the two.
        (&[1, 1], [text(1, text(1, "iris")), text(1, number(2, 1))].concat()),
        (&[1, 1], [text(1, ""), text(1, text(1, "iris"))].concat()),
    ] {
        assert_eq!(read(&one(path), &message), Err(Conflict), "{path:?} {message:?}");
    }
}

#[test]
fn messages_in_a_repeated_field_must_agree() {
    let path = [PathStep::each(1), PathStep::one(1), PathStep::one(1)];
    let task = |model: &str| text(1, [text(1, text(1, model)), text(2, "classify")].concat());
    for (message, expected) in [
        (vec![], Ok(None)),
        (text(2, "input"), Ok(None)),
        (task("iris"), Ok(Some("iris"))),
        ([task("iris"), text(2, "input"), task("iris")].concat(), Ok(Some("iris"))),
        (text(1, "").repeat(2), Ok(None)),
        ([task("iris"), task("x")].concat(), Err(Conflict)),
        ([task("iris"), task("iris"), task("")].concat(), Err(Conflict)),
        // One of them names none.
        ([task("iris"), text(1, "")].concat(), Err(Conflict)),
        ([text(1, text(2, "regress")), task("iris")].concat(), Err(Conflict)),
        ([task("iris"), text(1, text(1, ""))].concat(), Err(Conflict)),
        // One of them names it twice.
        (text(1, text(1, text(1, "iris")).repeat(2)), Err(Conflict)),
    ] {
        assert_eq!(read(&path, &message), expected.map(|m| m.map(Into::into)), "{message:?}");
    }
    let names = [PathStep::each(1)];
    assert_eq!(read(&names, &text(1, "iris").repeat(3)), Ok(Some("iris".into())));
    assert_eq!(read(&names, &[text(1, "iris"), text(1, "x")].concat()), Err(Conflict));
}

#[test]
fn what_parsers_take_differently_is_refused() {
    for (what, message) in [
        ("another wire type: varint", number(1, 1)),
        ("another wire type: 64 bits", [tag(1, 1), vec![0; 8]].concat()),
        ("another wire type: 32 bits", [tag(1, 5), vec![0; 4]].concat()),
        ("a group on the path", [tag(1, 3), tag(1, 4)].concat()),
        ("a group beside the path", [tag(2, 3), text(1, "iris"), tag(2, 4)].concat()),
        ("the end of a group", tag(2, 4)),
        ("wire type 6", tag(2, 6)),
        ("wire type 7", tag(2, 7)),
        ("field 0", text(0, "x")),
        ("field 0 of two bytes", vec![0x82, 0x00, 0x00]),
        ("a tag with needless bytes", vec![0x8A, 0x00, 0x01, b'x']),
        ("a tag with many needless bytes", vec![0x8A, 0x80, 0x80, 0x80, 0x00, 0x01, b'x']),
        ("a tag of 33 bits", vec![0x8A, 0x80, 0x80, 0x80, 0x10, 0x01, b'x']),
        ("a tag of six bytes", vec![0x8A, 0x80, 0x80, 0x80, 0x80, 0x00, 0x01, b'x']),
        ("a length with needless bytes", vec![0x0A, 0x81, 0x00, b'x']),
        ("a length of 33 bits", vec![0x12, 0x81, 0x80, 0x80, 0x80, 0x10, b'x']),
        ("a varint of eleven bytes", [tag(2, 0), vec![0x80; 10], vec![0]].concat()),
        ("a varint of 65 bits", [tag(2, 0), vec![0xFF; 9], vec![2]].concat()),
        ("no UTF-8", text(1, b"\xff")),
        ("half a character", text(1, b"\xc3")),
        ("a cut tag", vec![0x8A]),
        ("no length", tag(1, 2)),
        ("a cut length", vec![0x12, 0x80]),
        ("a cut varint", vec![0x10, 0x80]),
        ("a cut text", vec![0x0A, 5, b'i', b'r', b'i', b's']),
        ("a cut field beside the path", vec![0x12, 5, b'i', b'r', b'i', b's']),
        ("a cut 64-bit value", [tag(2, 1), vec![0; 7]].concat()),
        ("a cut 32-bit value", [tag(2, 5), vec![0; 3]].concat()),
    ] {
        assert_eq!(read(&one(&[1]), &message), Err(BadBody), "{what}");
        // The same inside of a message.
        let inner = [text(1, &message), text(3, "and more than what is missing")].concat();
        assert_eq!(read(&one(&[1, 1]), &inner), Err(BadBody), "{what}, inside");
    }
    // What is not on the path is not looked into.
    assert_eq!(
        read(&one(&[1]), &[text(2, tag(1, 3)), text(1, "x")].concat()),
        Ok(Some("x".into()))
    );
    // A number of ten bytes is what -1 is.
    assert_eq!(read(&one(&[1]), &number(2, u64::MAX)), Ok(None));
}

#[test]
fn messages_are_released_one_by_one() {
    let path = one(&[1]);
    let (a, b) = (framed(&text(1, "a")), framed(&text(1, "b")));
    let none = framed(&[]);
    let (messages, end) = read_call(&path, &[&a[..], &b, &none, &a].concat());
    assert_eq!(end, Ok(()));
    let named = |name: &str| Some(name.to_owned());
    assert_eq!(
        messages,
        [(named("a"), a.clone()), (named("b"), b), (None, none), (named("a"), a.clone()),]
    );

    // A fault in one leaves those before it as they were.
    let (messages, end) = read_call(&path, &[&a[..], &framed(&number(1, 1)), &a].concat());
    assert_eq!((messages.len(), end), (1, Err(BadBody)));

    assert_eq!(read_call(&path, b""), (vec![], Ok(())));
    for cut in 1..a.len() {
        assert_eq!(read_call(&path, &a[..cut]), (vec![], Err(BadBody)), "cut at {cut}");
    }
}

#[test]
fn the_prefix_is_read_first() {
    let path = one(&[1]);
    let message = text(1, "iris");
    for (flag, fault) in [(1, UnsupportedEncoding), (2, BadBody), (0x80, BadBody), (0xFF, BadBody)]
    {
        let mut call = framed(&message);
        call[0] = flag;
        assert_eq!(read_call(&path, &call), (vec![], Err(fault)));
        assert_eq!(read_call(&path, &[flag]), (vec![], Err(fault)), "no need to wait for more");
    }
    let just = text(2, vec![0; LIMIT - 3]);
    assert_eq!(just.len(), LIMIT);
    assert_eq!(read(&path, &just), Ok(None));
    let prefix = framed(&[0; LIMIT + 1]);
    assert_eq!(read_call(&path, &prefix[..PREFIX_BYTES]), (vec![], Err(TooLarge)));
    assert_eq!(read_call(&path, &[0, 0xFF, 0xFF, 0xFF, 0xFF]), (vec![], Err(TooLarge)));
}

#[test]
fn a_long_name_is_not_kept() {
    let longest = "x".repeat(256);
    assert_eq!(read(&one(&[1]), &text(1, &longest)), Ok(Some(longest.clone())));
    assert_eq!(read(&one(&[1]), &text(1, longest + "x")), Err(BadModel));
}

#[test]
fn long_pieces_are_not_copied() {
    let call = Bytes::from(framed(&[text(1, "iris"), text(2, vec![0; 9_000])].concat()));
    let mut scan = GrpcScan::new(&one(&[1]), LIMIT);
    let (mut first, mut second) = (call.slice(..4_500), call.slice(4_500..));
    let long = first.as_ptr() as usize..first.as_ptr() as usize + call.len();
    assert!(scan.next(&mut first).unwrap().is_none());
    assert_eq!(scan.held_bytes(), 4_500);
    let message = scan.next(&mut second).unwrap().unwrap();
    assert_eq!(scan.held_bytes(), 0);
    let pieces = message.bytes.into_pieces();
    let (prefix, rest) = pieces.split_first().unwrap();
    assert_eq!(prefix.len(), PREFIX_BYTES);
    assert!(rest.iter().all(|piece| long.contains(&(piece.as_ptr() as usize))));
}
