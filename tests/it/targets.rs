//! The first line of a request and its `Host`: forms that are judged, forms that are refused, and the method that a
//! route never sees.

use crate::support::http1::{Request, get, only, request};
use crate::support::model_server::ModelServer;
use crate::support::rig::Rig;
use crate::support::tokens;

#[test]
fn a_target_of_another_form_is_refused() {
    let rig = Rig::standard();
    for target in [
        "*",
        "score/allowed",
        "?model=allowed",
        "models.test:80",
        "models.test",
        "ftp://models.test/score/allowed",
        "ws://models.test/score/allowed",
        "file:///score/allowed",
        "//models.test/score/allowed",
        "http:///score/allowed",
        "http:/score/allowed",
        "http://models.test@other.test/score/allowed",
        "http://user@models.test/score/allowed",
        "http://user:password@models.test/score/allowed",
        "http://other.test/score/allowed",
        "http://models.test:81/score/allowed",
        "https://models.test:80/score/allowed",
        "http://models.test.other.test/score/allowed",
        "http://models.test%2eother.test/score/allowed",
        "http://models.test",
        "javascript:alert(1)",
    ] {
        let mut client = rig.connect();
        client.send(get(target).token("all").bytes());
        let response = client.response();
        // `http://models.test` is the path `/`, which nobody mapped.
        let expected = if target == "http://models.test" { &[400, 403][..] } else { &[400] };
        assert!(expected.contains(&response.status), "{target:?}: {response:?}");
        if response.status == 400
            && let Some(reason) = response.reason()
        {
            assert!(
                matches!(reason, "bad_target" | "bad_host" | "bad_path"),
                "{target:?}: {reason}"
            );
        }
        rig.assert_upstream_got_nothing(target);
    }
    rig.finish(0);
}

#[test]
fn an_absolute_target_is_judged_and_sent_on_in_origin_form() {
    let rig = Rig::standard();
    for (target, host) in [
        ("http://models.test/score/allowed?a=1", "models.test"),
        ("https://models.test/score/allowed?a=1", "models.test"),
        ("http://models.test:80/score/allowed?a=1", "models.test"),
        ("http://models.test/score/allowed?a=1", "models.test:80"),
        ("https://models.test:443/score/allowed?a=1", "models.test"),
        ("http://models.test:8080/score/allowed?a=1", "models.test:8080"),
        ("http://[::1]:8080/score/allowed?a=1", "[::1]:8080"),
    ] {
        let received = rig.assert_forwarded(target, &get(target).host(host).token("eval"));
        assert_eq!(received.target, "/score/allowed?a=1", "{target}");
        assert_eq!(received.field("host"), Some(host), "{target}");
    }
    rig.assert_refused(
        "model",
        &get("http://models.test/score/secret").token("eval"),
        403,
        "resource_not_allowed",
    );
    rig.assert_refused(
        "path",
        &get("http://models.test/score/../allowed").token("eval"),
        400,
        "bad_path",
    );
    rig.finish(7);
}

#[test]
fn the_host_is_there_once_and_is_a_host() {
    let rig = Rig::standard();
    let ask = || get("/score/allowed").token("eval");
    for host in [
        "models.test",
        "MODELS.test",
        "models.test.",
        "models_1.test",
        "m-1",
        "1.2.3.4",
        "1.2.3.4:65535",
        "models.test:1",
        "[::1]",
        "[2001:db8::1]:443",
    ] {
        let received = rig.assert_forwarded(host, &ask().host(host));
        assert_eq!(received.field("host"), Some(host));
    }
    let long = format!("{}.test", "h".repeat(300));
    for host in [
        "",
        " ",
        "models.test:",
        "models.test:0",
        "models.test:65536",
        "models.test:99999999999",
        "models.test:80a",
        "models.test:+80",
        "models.test:80:80",
        "models.test/",
        "models.test/score",
        "a/../b",
        "user@models.test",
        "models.test, other.test",
        "models.test other.test",
        "models.test\tother.test",
        "http://models.test",
        "[::1",
        "::1",
        "[::1]x",
        "[::zz]",
        "[models.test]",
        "models%2etest",
        "models.test?x",
        "models.test#x",
        "models.test\\x",
        "models..test",
        ".models.test",
        "mod\u{e9}ls.test",
        "models.test;x",
        "models.test'",
        "*",
        "*.test",
        ":80",
        ".",
        long.as_str(),
    ] {
        let before = rig.server.bytes().len();
        let response = rig.ask(&ask().host(host));
        assert_eq!(response.status, 400, "{host:?}: {response:?}");
        if let Some(reason) = response.reason() {
            assert_eq!(reason, "bad_host", "{host:?}");
        }
        rig.assert_upstream_got_nothing_since(before, host);
    }
    for (case, request) in [
        ("missing", ask().without("host")),
        ("twice", ask().with("Host", "other.test")),
        ("twice the same", ask().with("Host", "models.test")),
        ("twice, another case", ask().with("HOST", "models.test")),
        ("missing in HTTP/1.0", ask().without("host").version("HTTP/1.0")),
    ] {
        rig.assert_refused(case, &request, 400, "bad_host");
    }
    rig.finish(10);
}

#[test]
fn no_tunnel_and_no_mirror() {
    let rig = Rig::standard();
    let method = |request: &Request| request.method().to_owned();
    for (case, asked) in [
        ("CONNECT", request("CONNECT", "models.test:443").host("models.test:443").token("all")),
        ("CONNECT, no token", request("CONNECT", "models.test:443").host("models.test:443")),
        ("CONNECT, no host", request("CONNECT", "models.test:443").without("host")),
        ("CONNECT, a path", request("CONNECT", "/score/allowed").token("all")),
        ("TRACE", request("TRACE", "/score/allowed").token("all")),
        ("TRACE, no token", request("TRACE", "/score/allowed")),
        ("TRACE, bad host", request("TRACE", "/score/allowed").host("a b")),
        ("TRACE, bad path", request("TRACE", "/score/../allowed")),
        ("TRACE, public route", request("TRACE", "/open")),
    ] {
        let mut client = rig.connect();
        client.send(asked.bytes());
        client.send(get("/score/allowed").token("eval").with("X-After", method(&asked)).bytes());
        let response = client.response_to(asked.method());
        // A path is no authority, which a library may say before anyone is asked.
        let expected = if case == "CONNECT, a path" { &[400, 405][..] } else { &[405] };
        assert!(expected.contains(&response.status), "{case}: {response:?}");
        // What follows is another request, or the connection is closed; it is never a tunnel.
        if let Some(next) = client.response_or_end("GET") {
            assert!(matches!(next.status, 200 | 400), "{case}: {next:?}");
        }
    }
    for request in rig.server.requests() {
        assert_eq!((request.method.as_str(), request.target.as_str()), ("GET", "/score/allowed"));
    }
    let count = rig.server.requests().len();
    rig.finish(count);
}

#[test]
fn methods_are_told_apart_by_letter_case_and_any_other_is_no_route() {
    let rig = Rig::standard();
    for method in ["get", "Get", "PATCH", "PROPFIND", "M-SEARCH", "PURGE", "FOO"] {
        rig.assert_refused(
            method,
            &request(method, "/score/allowed").token("all"),
            403,
            "no_route",
        );
    }
    rig.finish(0);
}

#[test]
fn a_refused_head_request_has_no_body() {
    let rig = Rig::standard();
    let mut client = rig.connect();
    for _ in 0..3 {
        let refused = client.ask(&request("HEAD", "/score/secret").token("eval"));
        assert_eq!((refused.status, refused.reason()), (403, Some("resource_not_allowed")));
        assert_eq!(client.ask(&get("/score/allowed").token("eval")).status, 200);
    }
    rig.finish(3);
}

#[test]
fn http_1_0_is_answered_in_its_own_way() {
    let chunked = "HTTP/1.1 200 OK\r\nX-Served-By: model\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n3\r\ndef\r\n0\r\n\r\n";
    let rig = Rig::before(ModelServer::answering(chunked));
    let mut client = rig.connect();
    let response = client.ask(&get("/score/allowed").token("eval").version("HTTP/1.0"));
    assert_eq!((response.status, response.text().as_str()), (200, "abcdef"));
    assert!(response.ends_with_connection, "{response:?}");
    assert_eq!(rig.server.requests()[0].field("host"), Some("models.test"));
    let mut client = rig.connect();
    let refused = client.ask(&get("/score/secret").token("eval").version("HTTP/1.0"));
    assert_eq!((refused.status, refused.reason()), (403, Some("resource_not_allowed")));
    client.assert_closes();
    rig.finish(1);
}

#[test]
fn a_connection_serves_one_request_after_another() {
    let rig = Rig::standard();
    let mut client = rig.connect();
    for round in 0..20 {
        let target = if round % 2 == 0 { "/score/allowed" } else { "/score/secret" };
        let response = client.ask(&get(target).token("eval"));
        assert_eq!(response.status, if round % 2 == 0 { 200 } else { 403 });
    }
    // One is asked to be the last.
    let response = client.ask(&get("/score/allowed").token("eval").with("Connection", "close"));
    assert_eq!((response.status, only(&response.fields, "connection")), (200, Some("close")));
    client.assert_closes();
    // Each is judged by its own token, whatever came before on the connection.
    let mut client = rig.connect();
    for (token, status) in
        [("all", 200), ("eval", 403), ("manage", 403), ("all", 200), ("disabled", 401)]
    {
        assert_eq!(client.ask(&get("/score/secret").token(token)).status, status, "{token}");
    }
    assert_eq!(client.ask(&get("/score/secret")).status, 401);
    assert_eq!(client.ask(&get("/score/secret").bearer(&tokens::secret("all"))).status, 200);
    rig.finish(14);
}
