//! What may stand in a body: each field that is wrong is named, and nothing of a wrong request is done.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use serde_json::{Value, json};

use super::desk::{Desk, TOKENS, new_token, path_of};
use crate::golden;
use crate::support::http1::{Client, Response};
use crate::support::tokens;

/// A refusal as a reviewer reads it: what is in its body for people.
fn told(case: &str, response: &Response) -> String {
    assert!(response.status >= 400, "{case}: {response:?}");
    let body = response.json();
    let field = body["field"].as_str().unwrap_or("-");
    let mut told = format!(
        "## {case}\n{} {} field: {field}\n",
        response.status,
        body["reason"].as_str().unwrap()
    );
    let (detail, errors) = (body["detail"].as_str().unwrap(), body["errors"].as_array());
    // Mostly the first error once more.
    let first = errors.and_then(|errors| errors[0]["detail"].as_str()).unwrap_or_default();
    if detail != format!("{field}: {first}") {
        writeln!(told, "{detail}").unwrap();
    }
    for error in errors.into_iter().flatten() {
        let member = |name: &str| error[name].as_str().unwrap_or("-").to_owned();
        writeln!(told, "  {} {}: {}", member("field"), member("pointer"), member("detail"))
            .unwrap();
    }
    told
}

/// What is wrong in a new token and in a patch alike: the case, and the members.
fn wrong_members() -> Vec<(&'static str, Value)> {
    let many = |count: usize| -> Value {
        (0..count)
            .map(|number| (format!("k{number}"), json!("")))
            .collect::<serde_json::Map<_, _>>()
            .into()
    };
    vec![
        ("name: empty", json!({"name": ""})),
        ("name: 201 characters", json!({"name": "é".repeat(201)})),
        ("name: line feed", json!({"name": "a\nb"})),
        ("name: escape", json!({"name": "\u{1b}[31m"})),
        ("name: C1 control", json!({"name": "\u{85}"})),
        ("name: NUL", json!({"name": "\u{0}"})),
        ("name: number", json!({"name": 7})),
        ("resources: text", json!({"resources": "allowed"})),
        ("resources: null", json!({"resources": null})),
        ("resources: number in it", json!({"resources": ["a", 1]})),
        ("resources: object", json!({"resources": {"a": "b"}})),
        ("resources: star in the middle", json!({"resources": ["ok", "a*b"]})),
        ("resources: two stars", json!({"resources": ["**"]})),
        ("resources: empty pattern", json!({"resources": [""]})),
        ("resources: blank", json!({"resources": ["a b"]})),
        ("resources: control", json!({"resources": ["a\u{7}"]})),
        ("resources: 257 bytes", json!({"resources": ["m".repeat(257)]})),
        ("resources: dot segment", json!({"resources": ["a/../b"]})),
        ("resources: leading slash", json!({"resources": ["/a"]})),
        ("resources: trailing slash", json!({"resources": ["a/"]})),
        ("resources: escape", json!({"resources": ["a%2fb"]})),
        ("resources: semicolon", json!({"resources": ["a;b"]})),
        ("resources: backslash", json!({"resources": ["a\\b"]})),
        ("resources: question mark", json!({"resources": ["a?b"]})),
        ("resources: three wrong of five", json!({"resources": ["ok", "*a", "fine", "", "a b"]})),
        ("groups: text", json!({"groups": "model-evaluation"})),
        ("groups: null", json!({"groups": null})),
        ("groups: empty name", json!({"groups": [""]})),
        ("groups: blank", json!({"groups": ["model evaluation"]})),
        ("groups: 65 characters", json!({"groups": ["g".repeat(65)]})),
        ("groups: public", json!({"groups": ["public"]})),
        ("groups: deny", json!({"groups": ["model-evaluation", "deny"]})),
        ("groups: star", json!({"groups": ["*"]})),
        ("limits: zero", json!({"limits": {"max_in_flight": 0}})),
        ("limits: burst alone", json!({"limits": {"burst": 5}})),
        ("limits: negative", json!({"limits": {"requests_per_second": -1}})),
        ("limits: fraction", json!({"limits": {"requests_per_second": 0.5}})),
        ("limits: too large", json!({"limits": {"requests_per_second": 4_294_967_296_u64}})),
        ("limits: text", json!({"limits": {"requests_per_second": "5"}})),
        ("limits: unknown", json!({"limits": {"requests_per_minute": 5}})),
        ("labels: empty key", json!({"labels": {"": "x"}})),
        ("labels: long key", json!({"labels": {"k".repeat(65): "x"}})),
        ("labels: long value", json!({"labels": {"k": "v".repeat(201)}})),
        ("labels: control in a value", json!({"labels": {"k": "a\tb"}})),
        ("labels: control in a key", json!({"labels": {"a\nb": "x"}})),
        ("labels: 65 pairs", json!({"labels": many(65)})),
        ("labels: number", json!({"labels": {"k": 5}})),
        ("labels: null in it", json!({"labels": {"k": null}})),
        ("labels: list", json!({"labels": ["k"]})),
        ("expires_at: no zone", json!({"expires_at": "2199-01-01T00:00:00"})),
        ("expires_at: no time", json!({"expires_at": "2199-01-01"})),
        ("expires_at: empty", json!({"expires_at": ""})),
        ("expires_at: no day of the calendar", json!({"expires_at": "2199-02-30T00:00:00Z"})),
        ("expires_at: the year 10000", json!({"expires_at": "10000-01-01T00:00:00Z"})),
        ("expires_at: number", json!({"expires_at": 4_102_444_800_u64})),
        ("unknown member: hash", json!({"hash": "blake3:00"})),
        ("unknown member: id", json!({"id": "chosen"})),
        ("unknown member: secret", json!({"secret": "chosen"})),
        ("unknown member: in another letter case", json!({"Name": "x"})),
        ("two fields", json!({"name": "", "groups": ["a b"]})),
    ]
}

#[test]
fn every_field_that_is_wrong_is_named() {
    let desk = Desk::new();
    let before = desk.file();
    let mut all = String::from(
        "What each wrong body is told. A patch stands here only where it is told something else than a new token.\n\n",
    );
    let only_new = [
        ("name and groups missing", json!({"resources": ["a"]})),
        ("everything missing", json!({})),
        ("resources: none", json!({"resources": [], "groups": ["model-evaluation"]})),
        ("groups: none", json!({"resources": ["a"], "groups": []})),
    ];
    for (case, body) in only_new {
        all.push_str(&told(&format!("new, {case}"), &desk.post(TOKENS, &body)));
    }
    let mut told_of_new = BTreeSet::new();
    let mut members = wrong_members();
    members.extend([
        ("disabled", json!({"disabled": false})),
        ("expires_at: past", json!({"expires_at": "2020-01-01T00:00:00Z"})),
        ("expires_in: zero", json!({"expires_in": "0s"})),
        ("expires_in: no unit", json!({"expires_in": "90"})),
        ("expires_in: unit nobody knows", json!({"expires_in": "3mo"})),
        ("expires_in: negative", json!({"expires_in": "-1d"})),
        ("expires_in: below a second", json!({"expires_in": "1500ms"})),
        ("expires_in: without end", json!({"expires_in": "99999999999999999999d"})),
        ("expires_in: beyond the year 9999", json!({"expires_in": "3000000d"})),
        (
            "expires_in and expires_at",
            json!({"expires_in": "1d", "expires_at": "2199-01-01T00:00:00Z"}),
        ),
    ]);
    for (case, wrong) in members {
        let mut body = new_token("good");
        body.as_object_mut().unwrap().extend(wrong.as_object().unwrap().clone());
        let told = told(case, &desk.post(TOKENS, &body));
        writeln!(all, "{}", told.replacen("## ", "## new, ", 1).trim_end()).unwrap();
        told_of_new.insert(told);
    }
    let mut members = wrong_members();
    members.extend([
        ("disabled: null", json!({"disabled": null})),
        ("disabled: text", json!({"disabled": "yes"})),
        ("expires_in", json!({"expires_in": "1d"})),
        ("state", json!({"state": "active"})),
    ]);
    for (case, wrong) in members {
        let told = told(case, &desk.patch(&path_of("eval"), &wrong));
        if !told_of_new.contains(&told) {
            writeln!(all, "{}", told.replacen("## ", "## patch, ", 1).trim_end()).unwrap();
        }
    }
    for (case, grace) in [
        ("31 days", json!("31d")),
        ("a second more than 30 days", json!("2592001s")),
        ("empty", json!("")),
        ("negative", json!("-1h")),
        ("below a second", json!("1ms")),
        ("number", json!(3600)),
        ("null and another", json!({"grace": "1h"})),
    ] {
        let path = format!("{}/regenerate", path_of("eval"));
        let response = desk.post(&path, &json!({"grace_period": grace}));
        all.push_str(&told(&format!("regenerate, grace_period: {case}"), &response));
    }
    for (case, body) in [
        ("nothing", json!({})),
        ("a method in lower case", json!({"token_id": "eval", "method": "get", "path": "/"})),
        (
            "headers that are none",
            json!({"token_id": "eval", "method": "GET", "path": "/", "headers": ["a"]}),
        ),
        (
            "unknown member",
            json!({"token_id": "eval", "method": "GET", "path": "/", "secret": "x"}),
        ),
        ("no such token", json!({"token_id": "nobody", "method": "GET", "path": "/"})),
    ] {
        let response = desk.post("/api/v1/namespaces/default/explain", &body);
        all.push_str(&told(&format!("explain, {case}"), &response));
    }
    golden::check("admin_field_errors.txt", &all);
    assert_eq!(desk.file(), before, "nothing of all that was done");
    assert_eq!(desk.status_with(&tokens::secret("eval")), 200);
    desk.finish();
}

#[test]
fn a_list_is_no_object_even_where_it_has_a_value_for_each_member() {
    let desk = Desk::new();
    for limits in [json!([]), json!([5]), json!([5, 7, 3])] {
        let mut new = new_token("limited");
        new["limits"] = limits.clone();
        let patch = desk.patch(&path_of("eval"), &json!({"limits": limits}));
        for response in [desk.post(TOKENS, &new), patch] {
            assert_eq!(response.status, 422, "{limits}: {response:?}");
            let body = response.json();
            assert_eq!(
                (&body["field"], &body["errors"][0]["pointer"]),
                (&json!("limits"), &json!("/limits"))
            );
            assert!(!response.text().contains("LimitsBody"), "an inner name: {body}");
        }
    }
    desk.finish();
}

#[test]
fn a_body_that_is_no_json_object_is_refused_whole() {
    let desk = Desk::new();
    let before = desk.file();
    let nested =
        |depth: usize| format!("{{\"labels\":{}1{}}}", "{\"a\":".repeat(depth), "}".repeat(depth));
    let lists = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    #[rustfmt::skip]
    let table: Vec<(&str, Vec<u8>, u16)> = vec![
        ("empty", b"".to_vec(), 400),
        ("blank", b" ".to_vec(), 400),
        ("null", b"null".to_vec(), 400),
        ("text", b"\"x\"".to_vec(), 400),
        ("list", b"[]".to_vec(), 400),
        ("list of one", b"[{\"resources\":[\"a\"],\"groups\":[\"g\"]}]".to_vec(), 400),
        ("open", b"{\"resources\":[\"a\"],\"groups\":[\"g\"]".to_vec(), 400),
        ("something after it", b"{\"resources\":[\"a\"],\"groups\":[\"g\"]} {}".to_vec(), 400),
        ("a comma too many", b"{\"resources\":[\"a\"],\"groups\":[\"g\"],}".to_vec(), 400),
        ("a comment", b"{\"resources\":[\"a\"],\"groups\":[\"g\"]/**/}".to_vec(), 400),
        ("single quotes", b"{'resources':['a'],'groups':['g']}".to_vec(), 400),
        ("byte order mark", b"\xef\xbb\xbf{\"resources\":[\"a\"],\"groups\":[\"g\"]}".to_vec(), 400),
        ("UTF-16", "{\"resources\":[\"a\"],\"groups\":[\"g\"]}".encode_utf16().flat_map(u16::to_le_bytes).collect(), 400),
        ("bytes that are no UTF-8", b"{\"name\":\"\xff\",\"resources\":[\"a\"],\"groups\":[\"g\"]}".to_vec(), 400),
        ("overlong UTF-8", b"{\"name\":\"\xc0\xaf\",\"resources\":[\"a\"],\"groups\":[\"g\"]}".to_vec(), 400),
        ("half a surrogate pair", b"{\"name\":\"\\ud800\",\"resources\":[\"a\"],\"groups\":[\"g\"]}".to_vec(), 400),
        ("a raw control character", b"{\"name\":\"a\x01\",\"resources\":[\"a\"],\"groups\":[\"g\"]}".to_vec(), 400),
        ("a member twice", b"{\"resources\":[\"a\"],\"groups\":[\"g\"],\"resources\":[\"*\"]}".to_vec(), 400),
        ("a member twice, once escaped", b"{\"resources\":[\"a\"],\"groups\":[\"g\"],\"resource\\u0073\":[\"*\"]}".to_vec(), 400),
        ("a label twice", b"{\"resources\":[\"a\"],\"groups\":[\"g\"],\"labels\":{\"a\":\"1\",\"a\":\"2\"}}".to_vec(), 400),
        ("an unknown member twice", b"{\"x\":{\"y\":1,\"y\":2}}".to_vec(), 400),
        ("NaN", b"{\"limits\":{\"burst\":NaN}}".to_vec(), 400),
        ("a number beyond all", b"{\"limits\":{\"burst\":1e999}}".to_vec(), 400),
        ("a leading zero", b"{\"limits\":{\"burst\":01}}".to_vec(), 400),
        ("nested a bit", nested(20).into_bytes(), 422),
        ("nested deep", nested(50_000).into_bytes(), 400),
        ("lists in lists", lists(50_0000).into_bytes(), 400),
        ("lists that never close", vec![b'['; 1_000_000], 400),
    ];
    for (case, body, expected) in table {
        for (method, path) in [("POST", TOKENS.to_owned()), ("PATCH", path_of("eval"))] {
            let request = desk.request(method, &path).with("Content-Type", "application/json");
            let response = desk.ask(&request.body(&body));
            assert_eq!(response.status, expected, "{method} {case}: {}", response.text());
        }
    }
    assert_eq!(desk.file(), before);
    desk.finish();
}

#[test]
fn a_body_has_a_most_length() {
    let desk = Desk::new();
    let most = 1 << 20;
    // Blanks are JSON, so that only the length can be what is wrong.
    let padded = |length: usize| {
        let text = new_token("long").to_string();
        format!("{}{text}", " ".repeat(length - text.len()))
    };
    let request = || desk.request("POST", TOKENS).with("Content-Type", "application/json");
    assert_eq!(desk.ask(&request().body(padded(most))).status, 201);
    let before = desk.file();
    assert_eq!(desk.ask(&request().body(padded(most + 1))).status, 413);
    // Said before it is sent: a client that waits for leave to send is told no, or to go on.
    let mut client = desk.connect();
    let head = String::from_utf8(request().bytes()).unwrap();
    let head = head.trim_end_matches("\r\n");
    client.send(format!("{head}\r\nContent-Length: {}\r\n\r\n", 1_u64 << 40));
    let sent = send_until_answered(&mut client, 8 * most);
    let response = client.response_to("POST");
    desk.judge("POST", &response);
    assert_eq!(response.status, 413, "after {sent} bytes");
    // In chunks, whose sum nobody announces.
    let mut client = desk.connect();
    client.send(format!("{head}\r\nTransfer-Encoding: chunked\r\n\r\n"));
    for _ in 0..17 {
        client.send(format!("10000\r\n{}\r\n", " ".repeat(0x10000)));
    }
    let response = client.response_to("POST");
    desk.judge("POST", &response);
    assert_eq!(response.status, 413);
    assert_eq!(desk.file(), before);
    desk.finish();
}

/// Sends blanks until the other side answers or has had `most` of them.
fn send_until_answered(client: &mut Client, most: usize) -> usize {
    let (blanks, mut sent) = (vec![b' '; 1 << 16], 0);
    while sent < most {
        if !client.connection.try_send(&blanks, std::time::Duration::from_secs(5)) {
            break;
        }
        sent += blanks.len();
    }
    sent
}

#[test]
fn only_json_as_it_is_is_taken() {
    let desk = Desk::new();
    let before = desk.file();
    let body = new_token("typed").to_string();
    let ask = || desk.request("POST", TOKENS).body(&body);
    let typed = |kind: &str| ask().with("Content-Type", kind);
    #[rustfmt::skip]
    let refused = [
        ("none", ask()),
        ("form", typed("application/x-www-form-urlencoded")),
        ("parts", typed("multipart/form-data; boundary=x")),
        ("text", typed("text/plain")),
        ("text that claims to be JSON", typed("text/plain; application/json")),
        ("text JSON", typed("text/json")),
        ("longer", typed("application/jsonp")),
        ("a list of types", typed("application/json, text/plain")),
        ("merge patch", typed("application/merge-patch+json")),
        ("another charset", typed("application/json; charset=utf-16")),
        ("another parameter", typed("application/json; boundary=x")),
        ("empty", typed("")),
        ("two", typed("application/json").with("Content-Type", "application/json")),
        ("JSON and text", typed("application/json").with("Content-Type", "text/plain")),
        ("gzip", typed("application/json").with("Content-Encoding", "gzip")),
        ("identity", typed("application/json").with("Content-Encoding", "identity")),
    ];
    for (case, request) in refused {
        assert_eq!(desk.ask(&request).status, 415, "{case}");
    }
    assert_eq!(desk.file(), before);
    for kind in [
        "application/json",
        "Application/JSON",
        "application/json;charset=utf-8",
        "application/json ; charset=\"UTF-8\"",
    ] {
        assert_eq!(desk.ask(&typed(kind)).status, 201, "{kind}");
    }
    desk.finish();
}

#[test]
fn what_looks_like_a_secret_is_never_said_back() {
    let mut desk = Desk::new();
    let secret = tokens::secret("pasted into the wrong place");
    desk.rig.keep_secret(&secret);
    let key = tokens::administrator_key();
    let eval = path_of("eval");
    let mut answers = vec![
        ("a name that is no text", desk.patch(&eval, &json!({"resources": secret}))),
        ("an unknown member", desk.patch(&eval, &json!({&secret: 1}))),
        ("an unknown member of limits", desk.patch(&eval, &json!({"limits": {&secret: 1}}))),
        ("a label", desk.patch(&eval, &json!({"labels": {&secret: 1}}))),
        ("a time", desk.patch(&eval, &json!({"expires_at": secret}))),
        ("a span", desk.post(&format!("{eval}/regenerate"), &json!({"grace_period": secret}))),
        ("a group", desk.patch(&eval, &json!({"groups": [format!("{secret} ")]}))),
        (
            "a method",
            desk.post(
                "/api/v1/namespaces/default/explain",
                &json!({"token_id": "eval", "method": secret, "path": "/"}),
            ),
        ),
        ("the id of a token", desk.get(&path_of(&secret))),
        ("the id of a token to delete", desk.delete(&path_of(&secret))),
        ("a namespace", desk.get(&format!("/api/v1/namespaces/{secret}/tokens"))),
        ("a parameter", desk.get(&format!("{TOKENS}?{secret}=1"))),
        ("a sort key", desk.get(&format!("{TOKENS}?sort={secret}"))),
        ("a cursor", desk.get(&format!("{TOKENS}?cursor={secret}"))),
    ];
    answers.push(("the key itself", desk.patch(&eval, &json!({&key: 1}))));
    let telling: Vec<String> = answers
        .iter()
        .inspect(|(case, answer)| assert!(matches!(answer.status, 404 | 422), "{case}: {answer:?}"))
        .filter(|(_, answer)| {
            [&secret, &key].iter().any(|own| answer.text().contains(own.as_str()))
        })
        .map(|(case, answer)| format!("{case}: {}", answer.text()))
        .collect();
    assert!(telling.is_empty(), "{}", telling.join("\n"));
    desk.finish();
}
