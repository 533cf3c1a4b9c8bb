use super::*;
use Fault::{BadBody, BadModel, Conflict};

/// Reads a body whole and byte by byte.
fn read(body: &[u8]) -> Result<Option<String>, Fault> {
    let whole = JsonScan::read("model", body);
    let mut scan = JsonScan::new("model");
    let byte_by_byte =
        body.chunks(1).try_for_each(|byte| scan.feed(byte)).and_then(|()| scan.end());
    assert_eq!(byte_by_byte, whole, "{:?}", String::from_utf8_lossy(body));
    whole
}

#[test]
fn the_model_is_found() {
    for (body, model) in [
        (r#"{}"#, None),
        (" \t\r\n{ } \r\n\t", None),
        (r#"{"model":"iris"}"#, Some("iris")),
        ("\n{\n\t\"model\" :\r\n \"iris\"\n}\n", Some("iris")),
        (r#"{"a":[1,{"model":"x"}],"model":"iris","b":{"model":"y","model":null}}"#, Some("iris")),
        (r#"{"a":"\"model\":\"x\"","model":"iris"}"#, Some("iris")),
        (r#"{"a":"\\","model":"iris"}"#, Some("iris")),
        (r#"{"messages":[],"Models":"x","model_name":"y"}"#, None),
        (r#"{"a":{"model":"x"}}"#, None),
        (r#"{"a":"model"}"#, None),
        (r#"{"":1,"model":"iris","":2,"a":1,"a":2}"#, Some("iris")),
        (r#"{"mod\u0065l":"iris"}"#, Some("iris")),
        (r#"{"\u006Dodel":"\u0069r\u0069s"}"#, Some("iris")),
        (r#"{"model":"org\/name"}"#, Some("org/name")),
        (r#"{"model":"\"\\\/\b\f\n\r\t"}"#, Some("\"\\/\u{8}\u{c}\n\r\t")),
        (r#"{"model":""}"#, Some("")),
        (r#"{"model":"caf\u00e9 café"}"#, Some("café café")),
        (r#"{"model":"\ud83d\uDE00😀"}"#, Some("😀😀")),
        (r#"{"model":"\u0000"}"#, Some("\0")),
        (r#"{"a":"\uFFFF\u007f","model":"x"}"#, Some("x")),
        ("{\"a\":\"\u{7f}\u{85}\u{2028}\u{feff}\",\"model\":\"x\"}", Some("x")),
        (r#"{"a":[0,-0,1,-1,10,0.0,-0.10,1e1,1E+1,0e-0,1.5E-10,12345678901234567890]}"#, None),
        (r#"{"a":[true,false,null,"",[],{},[[]],[{}]]}"#, None),
    ] {
        assert_eq!(read(body.as_bytes()), Ok(model.map(Into::into)), "{body}");
    }
}

#[test]
fn a_second_name_is_a_conflict() {
    for body in [
        r#"{"model":"iris","model":"iris"}"#,
        r#"{"model":"iris","model":1}"#,
        r#"{"model":"iris","mod\u0065l":"x"}"#,
        r#"{"\u006d\u006f\u0064\u0065\u006c":"iris","model":"x"}"#,
        r#"{"model":"iris","Model":"x"}"#,
        r#"{"MODEL":"x","model":"iris"}"#,
        r#"{"model":"iris","\u004dodel":"x"}"#,
        r#"{"model":"iris","model\u0000":"x"}"#,
        r#"{"model\u0000abc","model":"iris"}"#,
        r#"{"model":"iris","ｍodel":"x"}"#,
        r#"{"model":"iris","\uff4dodel":"x"}"#,
        r#"{"model":"iris","\ud835\udc26odel":"x"}"#,
        // Go's encoding/json would take the one there is, Python would find none.
        r#"{"Model":"x"}"#,
        r#"{"model":"iris","messages":[{"model":1}],"moDel":{}}"#,
    ] {
        assert_eq!(read(body.as_bytes()), Err(Conflict), "{body}");
    }
    let padded = format!(r#"{{"model":"iris","model\u0000{}":"x"}}"#, "a".repeat(1_000));
    assert_eq!(read(padded.as_bytes()), Err(Conflict));
}

#[test]
fn what_readers_take_differently_is_refused() {
    for body in [
        "",
        " ",
        "null",
        "\"model\"",
        "[]",
        r#"[{"model":"iris"}]"#,
        r#"{"model":"iris"}{}"#,
        r#"{"model":"iris"},"#,
        r#"{"model":"iris"}x"#,
        "{\"model\":\"iris\"}\0",
        "{\"model\":\"iris\"}\u{a0}",
        "{\"model\":\"iris\"}\u{b}",
        "\u{feff}{\"model\":\"iris\"}",
        r#"{"model":"iris"} // x"#,
        r#"{/* x */"model":"iris"}"#,
        r#"{"model":"iris",}"#,
        r#"{,"model":"iris"}"#,
        r#"{"model":"iris",,"a":1}"#,
        r#"{"model" "iris"}"#,
        r#"{"model"}"#,
        r#"{"model":}"#,
        r#"{"model":"iris" "a":1}"#,
        r#"{"model":"iris";"a":1}"#,
        r#"{model:"iris"}"#,
        r#"{'model':"iris"}"#,
        r#"{"model":'iris'}"#,
        r#"{"model":iris}"#,
        // Another value than a string.
        r#"{"model":null}"#,
        r#"{"model":1}"#,
        r#"{"model":-1}"#,
        r#"{"model":true}"#,
        r#"{"model":["iris"]}"#,
        r#"{"model":{"name":"iris"}}"#,
        // Strings.
        "{\"model\":\"a\nb\"}",
        "{\"a\":\"\t\"}",
        "{\"a\":\"\0\"}",
        "{\"a\":\"\u{1f}\"}",
        "{\"a\n\":1}",
        r#"{"a":"\x41"}"#,
        r#"{"a":"\'"}"#,
        r#"{"a":"\0"}"#,
        r#"{"a":"\u"}"#,
        r#"{"a":"\u12"}"#,
        r#"{"a":"\u12g4"}"#,
        r#"{"a":"\U0041"}"#,
        r#"{"a":"\u{41}"}"#,
        r#"{"a":"\u+041"}"#,
        // Halves of surrogate pairs.
        r#"{"model":"\ud800"}"#,
        r#"{"a":"\ud800x"}"#,
        r#"{"a":"\udc00"}"#,
        r#"{"a":"\udc00\ud800"}"#,
        r#"{"a":"\ud800\ud800"}"#,
        r#"{"a":"\ud800\n"}"#,
        r#"{"a":"\ud800\u0041"}"#,
        r#"{"a\udfff":1}"#,
        // Numbers and literals.
        r#"{"a":01}"#,
        r#"{"a":-01}"#,
        r#"{"a":00}"#,
        r#"{"a":+1}"#,
        r#"{"a":.5}"#,
        r#"{"a":5.}"#,
        r#"{"a":5.e1}"#,
        r#"{"a":-}"#,
        r#"{"a":--1}"#,
        r#"{"a":1e}"#,
        r#"{"a":1e+}"#,
        r#"{"a":1e1.5}"#,
        r#"{"a":1.2.3}"#,
        r#"{"a":0x10}"#,
        r#"{"a":1_000}"#,
        r#"{"a":1 2}"#,
        r#"{"a":NaN}"#,
        r#"{"a":Infinity}"#,
        r#"{"a":-Infinity}"#,
        r#"{"a":True}"#,
        r#"{"a":nul}"#,
        r#"{"a":nulll}"#,
        r#"{"a":true1}"#,
        r#"{"a":tru"#,
        // Brackets.
        r#"{"a":[}"#,
        r#"{"a":[1}"#,
        r#"{"a":{]}"#,
        r#"{"a":{"b":1]}"#,
        r#"{"a":[1,]}"#,
        r#"{"a":[,1]}"#,
        r#"{"a":["b":1]}"#,
        r#"{"a":{"b"}}"#,
        r#"{"a":{1:2}}"#,
        r#"{"a":]}"#,
        r#"{"a":[]]}"#,
        "{",
        r#"{"model"#,
        r#"{"model":"iris""#,
        r#"{"model":"iris"#,
        r#"{"model":"iris","a":[1"#,
        r#"{"model":"iris","a":1"#,
        r#"{"model":"iris\"#,
        r#"{"a":"\ud83d"#,
    ] {
        assert_eq!(read(body.as_bytes()), Err(BadBody), "{body}");
    }
}

#[test]
fn only_utf_8_is_text() {
    for bad in [
        &b"\xff"[..],
        b"\x80",
        b"\xc0\xaf",
        b"\xc1\xbf",
        b"\xe0\x80\xaf",
        b"\xf0\x80\x80\xaf",
        b"\xed\xa0\x80",
        b"\xed\xa0\xbd\xed\xb8\x80",
        b"\xf4\x90\x80\x80",
        b"\xf8\x88\x80\x80\x80",
        b"\xc3",
        b"\xe2\x82",
        b"\xf0\x9f\x98",
        b"\xc3(",
        b"\xe2\x82(",
        b"caf\xe9",
    ] {
        for (before, after) in [
            (&b"{\"a\":\""[..], &b"\"}"[..]),
            (b"{\"model\":\"", b"\"}"),
            (b"{\"", b"\":1}"),
            (b"{\"a\":\"", b"\\n\"}"),
            (b"{\"a\":\"", b""),
            (b"{", b"}"),
            (b"{}", b""),
        ] {
            let body = [before, bad, after].concat();
            assert_eq!(read(&body), Err(BadBody), "{body:?}");
        }
    }
    // UTF-16 and UTF-32, with and without a byte order mark.
    for units in
        [&b"{\0}\0"[..], b"\0{\0}", b"\xff\xfe{\0}\0", b"\xfe\xff\0{\0}", b"{\0\0\0}\0\0\0"]
    {
        assert_eq!(read(units), Err(BadBody));
    }
}

#[test]
fn nesting_has_an_end() {
    let nested = |open: &str, close: &str, levels: usize| {
        format!("{{\"a\":{}1{}}}", open.repeat(levels), close.repeat(levels))
    };
    let deepest = MAX_DEPTH as usize - 1;
    for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
        assert_eq!(read(nested(open, close, deepest).as_bytes()), Ok(None));
        assert_eq!(read(nested(open, close, deepest + 1).as_bytes()), Err(BadBody));
        assert!(serde_json::from_str::<serde_json::Value>(&nested(open, close, deepest)).is_ok());
    }
    assert_eq!(read(nested("[", "]", 1_000_000).as_bytes()), Err(BadBody));
    // Wide is not deep.
    let wide = format!(r#"{{"a":[{}[]],"model":"x"}}"#, "[[]],{},".repeat(1_000));
    assert_eq!(read(wide.as_bytes()), Ok(Some("x".into())));
}

#[test]
fn what_is_kept_is_bounded() {
    let named = |name: &str| format!(r#"{{"model":"{name}"}}"#);
    let longest = "x".repeat(MAX_MODEL_BYTES);
    assert_eq!(read(named(&longest).as_bytes()), Ok(Some(longest.clone())));
    assert_eq!(read(named(&(longest.clone() + "x")).as_bytes()), Err(BadModel));
    assert_eq!(read(named(&r"\u0078".repeat(MAX_MODEL_BYTES)).as_bytes()), Ok(Some(longest)));
    assert_eq!(read(named(&"é".repeat(MAX_MODEL_BYTES / 2 + 1)).as_bytes()), Err(BadModel));

    // What comes first is told, however the body is cut: too long, or no text.
    let at =
        |place: usize, bad: &str| named(&format!("{}{bad}{}", "x".repeat(place), "x".repeat(300)));
    assert_eq!(read(at(256, "\n").as_bytes()), Err(BadBody));
    assert_eq!(read(at(257, "\n").as_bytes()), Err(BadModel));
    assert_eq!(read(at(255, "€\n").as_bytes()), Err(BadModel));

    let mut scan = JsonScan::new("model");
    scan.feed(b"{\"").unwrap();
    for _ in 0..1_000 {
        scan.feed(&[b'k'; 10_000]).unwrap();
    }
    assert!(scan.text.capacity() < 1_000);
    assert_eq!(scan.feed(b"\":1,\"model\":\"x\"}"), Ok(()));
    assert_eq!(scan.end(), Ok(Some("x".into())));
}

#[test]
fn a_fault_stays() {
    let mut scan = JsonScan::new("model");
    assert_eq!(scan.feed(br#"{"model":"x","model""#), Err(Conflict));
    assert_eq!(scan.feed(br#":"y"}"#), Err(Conflict));
    assert_eq!(scan.end(), Err(Conflict));
}

#[test]
fn other_members_can_be_looked_for() {
    let found = JsonScan::read("task_id", br#"{"model":"x","Model":"y","task_id":"t"}"#);
    assert_eq!(found, Ok(Some("t".into())));
    assert_eq!(JsonScan::read("task", "{\"ta\u{17f}k\":\"t\"}".as_bytes()), Err(Conflict));
    assert_eq!(JsonScan::read("task", "{\"tas\u{212a}\":\"t\"}".as_bytes()), Err(Conflict));
}

/// Pieces longer than a block, cut inside of characters, escapes and numbers.
#[test]
fn long_bodies_are_read_in_blocks() {
    for shift in 0..8 {
        let text =
            format!("{}{}", "a".repeat(shift), "é€😀\\u00e9\\ud83d\\ude00\\n".repeat(10_000));
        let body =
            format!(r#"{{"a":"{text}","b":[{}0],"model":"x"}}"#, "-1.5e+10, ".repeat(10_000));
        assert_eq!(JsonScan::read("model", body.as_bytes()), Ok(Some("x".into())));
    }
}
