//! From where a request may come: the names this listener answers to, and the pages of other sites.

use super::desk::{Desk, TOKENS, new_token};
use crate::support::http1::{Request, Response};
use crate::support::tokens;

fn desk() -> Desk {
    Desk::with(|settings| settings.admin = Some("allowed_hosts = [\"Admin.Example\"]\n".into()))
}

/// A request to list the namespaces, as `alice`, with these lines in the place of `Host`.
fn with_hosts(desk: &Desk, target: &str, hosts: &[&str]) -> Request {
    let request = desk.request("GET", target).without("host");
    hosts.iter().fold(request, |request, host| request.with("Host", host))
}

/// A status and a reason.
type Told<'t> = (u16, Option<&'t str>);

fn told(response: &Response) -> Told<'_> {
    (response.status, response.reason())
}

const GOOD: Told<'_> = (200, None);
const MISDIRECTED: Told<'_> = (421, Some("unknown_host"));
const BAD_HOST: Told<'_> = (400, Some("bad_host"));
const BAD_TARGET: Told<'_> = (400, Some("bad_target"));
const CROSS_SITE: Told<'_> = (403, Some("cross_site"));

#[test]
fn only_its_own_names_are_answered() {
    let desk = desk();
    let list = "/api/v1/namespaces";
    #[rustfmt::skip]
    let table: Vec<(&[&str], Told<'_>)> = vec![
        (&["localhost"], GOOD),
        (&["LOCALHOST:1"], GOOD),
        (&["localhost."], GOOD),
        (&["127.0.0.1"], GOOD),
        (&["127.0.0.1:65535"], GOOD),
        (&["[::1]"], GOOD),
        (&["[::1]:9901"], GOOD),
        (&["admin.example"], GOOD),
        (&["ADMIN.example.:443"], GOOD),
        // Names that a site of somebody else gives to this address.
        (&["evil.example"], MISDIRECTED),
        (&["localhost.evil.example"], MISDIRECTED),
        (&["evil-localhost"], MISDIRECTED),
        (&["127.0.0.1.evil.example"], MISDIRECTED),
        (&["sub.admin.example"], MISDIRECTED),
        (&["admin.example.evil.example"], MISDIRECTED),
        (&["127.0.0.2"], MISDIRECTED),
        (&["127.1"], MISDIRECTED),
        (&["2130706433"], MISDIRECTED),
        (&["0.0.0.0"], MISDIRECTED),
        (&["[::]"], MISDIRECTED),
        (&["[::ffff:127.0.0.1]"], MISDIRECTED),
        (&["[0:0:0:0:0:0:0:1]"], MISDIRECTED),
        (&["models.test"], MISDIRECTED),
        (&[], BAD_HOST),
        (&[""], BAD_HOST),
        (&["localhost", "localhost"], BAD_HOST),
        (&["localhost", "evil.example"], BAD_HOST),
        (&["evil.example", "localhost"], BAD_HOST),
        (&["localhost, evil.example"], BAD_HOST),
        (&["user@localhost"], BAD_HOST),
        (&["evil.example#localhost"], BAD_HOST),
        (&["localhost/"], BAD_HOST),
        (&["localhost:"], BAD_HOST),
        (&["localhost:0"], BAD_HOST),
        (&["localhost:http"], BAD_HOST),
        (&["::1"], BAD_HOST),
        (&["local host"], BAD_HOST),
        (&["localhost.."], BAD_HOST),
    ];
    for (hosts, expected) in table {
        // Nobody is told whether a key is right before it is known who is asked.
        let request = with_hosts(&desk, list, hosts);
        assert_eq!(told(&desk.ask(&request)), expected, "{hosts:?}");
        if expected != GOOD {
            let anonymous = request.without("authorization");
            assert_eq!(told(&desk.ask(&anonymous)), expected, "{hosts:?} without a key");
            for public in ["/", "/openapi.json", "/page/app.js", "/nothing"] {
                let request = with_hosts(&desk, public, hosts);
                assert_eq!(told(&desk.ask(&request)), expected, "{hosts:?} {public}");
            }
        }
    }
    desk.finish();
}

#[test]
fn a_target_that_names_a_host_names_the_same() {
    let desk = desk();
    let own = desk.rig.gate.admin().to_string();
    let path = "/api/v1/namespaces";
    #[rustfmt::skip]
    let table: Vec<(String, Vec<&str>, Told<'_>)> = vec![
        (format!("http://{own}{path}"), vec![&own], GOOD),
        (format!("http://localhost{path}"), vec!["localhost"], GOOD),
        (format!("http://localhost{path}"), vec!["localhost:80"], GOOD),
        (format!("https://localhost:443{path}"), vec!["localhost"], GOOD),
        (format!("http://{own}{path}"), vec!["localhost"], BAD_HOST),
        (format!("http://evil.example{path}"), vec![&own], BAD_HOST),
        (format!("http://{own}{path}"), vec!["evil.example"], BAD_HOST),
        (format!("http://evil.example{path}"), vec!["evil.example"], MISDIRECTED),
        (format!("http://evil.example{path}"), vec![], MISDIRECTED),
        (format!("ftp://{own}{path}"), vec![&own], BAD_TARGET),
        (format!("file://{own}{path}"), vec![&own], BAD_TARGET),
        ("*".to_owned(), vec![&own], BAD_TARGET),
        (own.clone(), vec![&own], BAD_TARGET),
    ];
    for (target, hosts, expected) in table {
        let response = desk.ask(&with_hosts(&desk, &target, &hosts));
        assert_eq!(told(&response), expected, "{target} {hosts:?}");
    }
    desk.finish();
}

/// Lines that a browser adds, and what the API and the page say to them.
type Row<'r> = (Vec<(&'r str, &'r str)>, Told<'r>, Told<'r>);

#[test]
fn what_another_site_makes_a_browser_send_is_refused() {
    let desk = desk();
    let own = desk.rig.gate.admin().to_string();
    let (http, https) = (format!("http://{own}"), format!("https://{own}"));
    let port = desk.rig.gate.admin().port();
    let neighbour = format!("http://127.0.0.1:{}", if port > 9000 { port - 1 } else { port + 1 });
    let (named, longer) = (format!("http://localhost:{port}"), format!("{http}.evil.example"));
    let (navigate, document) = (("Sec-Fetch-Mode", "navigate"), ("Sec-Fetch-Dest", "document"));
    let cross = ("Sec-Fetch-Site", "cross-site");
    #[rustfmt::skip]
    let table: Vec<Row<'_>> = vec![
        (vec![], GOOD, GOOD),
        (vec![("Origin", &http)], GOOD, GOOD),
        (vec![("Origin", &https)], GOOD, GOOD),
        (vec![("Origin", "http://127.0.0.1")], CROSS_SITE, CROSS_SITE),
        (vec![("Origin", &neighbour)], CROSS_SITE, CROSS_SITE),
        (vec![("Origin", &named)], CROSS_SITE, CROSS_SITE),
        (vec![("Origin", &longer)], CROSS_SITE, CROSS_SITE),
        (vec![("Origin", "http://evil.example")], CROSS_SITE, CROSS_SITE),
        (vec![("Origin", "null")], CROSS_SITE, CROSS_SITE),
        (vec![("Origin", "")], CROSS_SITE, CROSS_SITE),
        (vec![("Origin", "file://")], CROSS_SITE, CROSS_SITE),
        (vec![("Origin", "chrome-extension://abcdefgh")], CROSS_SITE, CROSS_SITE),
        (vec![("Origin", &own)], CROSS_SITE, CROSS_SITE),
        (vec![("Origin", &http), ("Origin", "http://evil.example")], CROSS_SITE, CROSS_SITE),
        (vec![("Origin", "http://evil.example"), ("Origin", &http)], CROSS_SITE, CROSS_SITE),
        (vec![("Sec-Fetch-Site", "same-origin")], GOOD, GOOD),
        (vec![("Sec-Fetch-Site", "none")], GOOD, GOOD),
        (vec![("Sec-Fetch-Site", "same-site")], CROSS_SITE, CROSS_SITE),
        (vec![cross], CROSS_SITE, CROSS_SITE),
        (vec![("Sec-Fetch-Site", "Same-Origin")], CROSS_SITE, CROSS_SITE),
        (vec![("Sec-Fetch-Site", "")], CROSS_SITE, CROSS_SITE),
        (vec![("Sec-Fetch-Site", "same-origin"), cross], CROSS_SITE, CROSS_SITE),
        (vec![("Origin", &http), cross], CROSS_SITE, CROSS_SITE),
        (vec![("Origin", "http://evil.example"), ("Sec-Fetch-Site", "same-origin")], CROSS_SITE, CROSS_SITE),
        // A link to the page may be followed, and nothing else.
        (vec![cross, navigate, document], CROSS_SITE, GOOD),
        (vec![cross, navigate, ("Sec-Fetch-Dest", "iframe")], CROSS_SITE, CROSS_SITE),
        (vec![cross, navigate, ("Sec-Fetch-Dest", "embed")], CROSS_SITE, CROSS_SITE),
        (vec![cross, ("Sec-Fetch-Mode", "no-cors"), ("Sec-Fetch-Dest", "script")], CROSS_SITE, CROSS_SITE),
        (vec![cross, navigate, document, ("Origin", "http://evil.example")], CROSS_SITE, CROSS_SITE),
    ];
    let before = desk.file();
    for (lines, api, page) in table {
        // Not even with the key can it be made to change anything.
        let with = |request: Request| {
            lines.iter().fold(request, |own, (name, value)| own.with(name, value))
        };
        let told_by = |request: Request| {
            let response = desk.ask(&with(request));
            (response.status, response.reason().map(str::to_owned))
        };
        let owned = |told: Told<'_>| (told.0, told.1.map(str::to_owned));
        assert_eq!(told_by(desk.request("GET", "/api/v1/namespaces")), owned(api), "{lines:?}");
        assert_eq!(told_by(desk.anonymous("GET", "/")), owned(page), "{lines:?} page");
        assert_eq!(told_by(desk.anonymous("GET", "/page/app.js")), owned(api), "{lines:?} file");
        if api == CROSS_SITE {
            let create = desk.with_json("POST", TOKENS, &new_token("from elsewhere"));
            assert_eq!(told_by(create), owned(api), "{lines:?} create");
            // What a form can send without asking first.
            let form = desk.request("POST", TOKENS).with("Content-Type", "text/plain").body("{}");
            assert_eq!(told_by(form), owned(api), "{lines:?} form");
        }
    }
    assert_eq!(desk.file(), before);
    desk.finish();
}

#[test]
fn no_other_site_is_ever_given_leave() {
    let desk = desk();
    // A browser asks first: it is told nothing that it could take for leave.
    for origin in ["http://evil.example", "null"] {
        let preflight = desk
            .anonymous("OPTIONS", TOKENS)
            .with("Origin", origin)
            .with("Access-Control-Request-Method", "POST")
            .with("Access-Control-Request-Headers", "authorization, content-type");
        let response = desk.ask(&preflight);
        assert_eq!(told(&response), CROSS_SITE);
        let given: Vec<_> =
            response.fields.iter().filter(|(name, _)| name.starts_with("access-control")).collect();
        assert!(given.is_empty(), "{given:?}");
    }
    // And no method in a header takes the place of the one in the request line.
    for name in ["X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override"] {
        let request = desk.request("GET", &format!("{TOKENS}/eval")).with(name, "DELETE");
        assert_eq!(desk.ask(&request).status, 200, "{name}");
    }
    assert_eq!(desk.status_with(&tokens::secret("eval")), 200);
    desk.finish();
}
