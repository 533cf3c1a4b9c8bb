//! A path that is accepted has one spelling: nothing else that is accepted means the same.
//!
//! "Means the same" is RFC 3986, section 6.2.2 (case of escapes, escapes of what needs none, dot
//! segments), and what servers do beyond it: merging slashes, `\` for `/`, cutting `;parameters`.

use std::cell::Cell;

use faregate::policy::{PathError, RequestPath};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::TestRunner;

use super::cases;
use super::world::words;

/// Bytes that matter in paths, and a few that do not.
fn a_piece() -> impl Strategy<Value = String> {
    prop_oneof![
        8 => words("/ / / a b . .. ~ - _ A 0 : @ + = !")
        .prop_map(String::from),
        3 => words("%C3%A9 %E4%B8%AD %20 %22 %3C %5B %7B %60 %7C %5E %3A %2B %40 %21")
        .prop_map(String::from),
        1 => words("%c3%a9 %61 %41 %2e %2E %2F %2f %5C %25 %252E %3b ; \\ % %zz %00 %C0%AF é ? # \
                    %EF%BC%8F %EF%BC%8E")
        .prop_map(String::from),
        1 => any::<u8>().prop_map(|byte| format!("%{byte:02X}")),
    ]
}

fn a_raw_path() -> impl Strategy<Value = String> {
    vec(a_piece(), 0..9).prop_map(|pieces| format!("/{}", pieces.concat()))
}

/// The normal form of RFC 3986, section 6.2.2, written after its text.
fn normal_form(path: &str) -> String {
    let bytes = path.as_bytes();
    let mut text = Vec::new();
    let mut place = 0;
    while let Some(&byte) = bytes.get(place) {
        let digits = bytes.get(place + 1..place + 3).and_then(|two| std::str::from_utf8(two).ok());
        let value =
            digits.filter(|_| byte == b'%').and_then(|two| u8::from_str_radix(two, 16).ok());
        match value {
            Some(value) if value.is_ascii_alphanumeric() || b"-._~".contains(&value) => {
                text.push(value);
                place += 3;
            }
            Some(value) => {
                text.extend(format!("%{value:02X}").bytes());
                place += 3;
            }
            None => {
                text.push(byte);
                place += 1;
            }
        }
    }
    remove_dot_segments(&String::from_utf8(text).unwrap())
}

/// RFC 3986, section 5.2.4, on the path of a target, which starts with `/`.
fn remove_dot_segments(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    let mut segments = path.split('/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        let is_last = segments.peek().is_none();
        match segment {
            "." | ".." => {
                if segment == ".." {
                    kept.pop();
                }
                if is_last {
                    kept.push("");
                }
            }
            other => kept.push(other),
        }
    }
    format!("/{}", kept.join("/"))
}

#[test]
fn the_normal_form_is_that_of_the_standard() {
    for (path, normal) in [
        ("/a/b/c/./../../g", "/a/g"),
        ("/%7Euser", "/~user"),
        ("/%7euser/%c3%a9", "/~user/%C3%A9"),
        ("/a/%2e%2E/b", "/b"),
        ("/a/..", "/"),
        ("/a/b/.", "/a/b/"),
        ("/../a", "/a"),
        ("/a%2fb", "/a%2Fb"),
        ("/%", "/%"),
    ] {
        assert_eq!(normal_form(path), normal);
    }
}

#[test]
fn what_is_accepted_is_its_own_normal_form() {
    let accepted = Cell::new(0);
    TestRunner::new(cases(6_000))
        .run(&a_raw_path(), |raw| {
            if RequestPath::parse(&raw).is_ok() {
                accepted.set(accepted.get() + 1);
                prop_assert_eq!(normal_form(&raw), raw);
            }
            Ok(())
        })
        .unwrap_or_else(|e| panic!("{e}"));
    assert!(accepted.get() > 600, "only {} of the paths were accepted", accepted.get());
}

/// Ways to write a path that some server takes for the same.
#[derive(Debug, Clone, Copy)]
enum Respelling {
    EscapeOne,
    LowerCaseEscapes,
    DotSegment,
    ParentSegment,
    DoubleSlash,
    Backslash,
    EscapedSlash,
    PathParameter,
    EscapeTheEscapes,
    Fragment,
    Nul,
}

fn respelled(path: &str, how: Respelling, at: prop::sample::Index) -> String {
    let slashes: Vec<usize> = path.match_indices('/').map(|(place, _)| place).collect();
    let slash = slashes[at.index(slashes.len())];
    let around = |middle: &str| format!("{}{middle}{}", &path[..slash], &path[slash + 1..]);
    match how {
        Respelling::EscapeOne => {
            let place = at.index(path.len());
            let byte = path.as_bytes()[place];
            let is_free = byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
            let in_escape =
                path[..place].ends_with('%') || (place >= 2 && path.as_bytes()[place - 2] == b'%');
            if is_free && !in_escape {
                format!("{}%{byte:02X}{}", &path[..place], &path[place + 1..])
            } else {
                path.into()
            }
        }
        Respelling::LowerCaseEscapes => {
            let mut parts = path.split('%');
            let first = parts.next().unwrap_or_default().to_owned();
            parts.fold(first, |text, part| {
                format!("{text}%{}{}", part[..2].to_ascii_lowercase(), &part[2..])
            })
        }
        Respelling::DotSegment => around("/./"),
        Respelling::ParentSegment => around("/other/../"),
        Respelling::DoubleSlash => around("//"),
        Respelling::Backslash => around("\\"),
        Respelling::EscapedSlash => {
            // The first slash is what makes it a path.
            if slash == 0 { format!("/%2F{}", &path[1..]) } else { around("%2F") }
        }
        Respelling::PathParameter => around(";v=1/"),
        Respelling::EscapeTheEscapes => path.replace('%', "%25"),
        Respelling::Fragment => format!("{path}#"),
        Respelling::Nul => format!("{path}%00"),
    }
}

proptest! {
    #![proptest_config(cases(6_000))]

    #[test]
    fn no_respelling_of_an_accepted_path_is_accepted(
        path in a_raw_path(),
        how in select(vec![
            Respelling::EscapeOne,
            Respelling::LowerCaseEscapes,
            Respelling::DotSegment,
            Respelling::ParentSegment,
            Respelling::DoubleSlash,
            Respelling::Backslash,
            Respelling::EscapedSlash,
            Respelling::PathParameter,
            Respelling::EscapeTheEscapes,
            Respelling::Fragment,
            Respelling::Nul,
        ]),
        at in any::<prop::sample::Index>(),
    ) {
        if RequestPath::parse(&path).is_ok() {
            let other = respelled(&path, how, at);
            prop_assert!(
                other == path || RequestPath::parse(&other).is_err(),
                "{} is accepted as well as {}", other, path
            );
        }
    }

    #[test]
    fn two_accepted_paths_have_two_normal_forms(one in a_raw_path(), other in a_raw_path()) {
        // Near each other: the second is often the first's normal form, or a piece longer.
        let close = normal_form(&one);
        for other in [&other, &close, &format!("{one}/"), &one.to_ascii_lowercase()] {
            if *other != one && RequestPath::parse(&one).is_ok() && RequestPath::parse(other).is_ok()
            {
                prop_assert_ne!(normal_form(&one), normal_form(other));
            }
        }
    }
}

proptest! {
    #![proptest_config(cases(1_000))]

    #[test]
    fn what_clients_write_properly_is_accepted(
        segments in vec("[A-Za-z0-9_~!$&'()*+,=:@-]{1,8}", 1..6),
        name in "[a-zéüñ中文字한국어]{1,6}",
        has_slash in any::<bool>(),
    ) {
        let escaped: String = name
            .bytes()
            .map(|byte| match byte {
                b'a'..=b'z' => char::from(byte).to_string(),
                other => format!("%{other:02X}"),
            })
            .collect();
        let end = if has_slash { "/" } else { "" };
        let path = format!("/{}/{escaped}{end}", segments.join("/"));
        prop_assert!(RequestPath::parse(&path).is_ok(), "{}", path);
    }
}

#[test]
fn a_second_spelling_is_refused_at_every_length() {
    // No shortcut for long paths, nor for the last segment.
    for length in [0, 1, 98, 100, 4_000, 8_000] {
        let long = "a".repeat(length);
        let path = |end: &str| format!("/{long}{end}");
        assert_eq!(RequestPath::parse(&path("x/%41")), Err(PathError::NeedlessEscape));
        assert_eq!(RequestPath::parse(&path("x/..")), Err(PathError::DotSegment));
        assert_eq!(RequestPath::parse(&path("x//y")), Err(PathError::EmptySegment));
        assert_eq!(RequestPath::parse(&path("x;y")), Err(PathError::Character));
        assert!(RequestPath::parse(&path("x/y")).is_ok());
    }
}
