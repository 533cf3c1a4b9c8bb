//! Names that one reader takes for another's: of routes, of models, of headers, of groups.

use super::connect;
use crate::support::gate::{Folder, Gate, Namespace, Settings};
use crate::support::http1::get;
use crate::support::model_server::ModelServer;
use crate::support::rig::Rig;
use crate::support::tokens::{self, secret};

#[test]
fn an_escape_does_not_lead_around_a_route() {
    let rig = Rig::with(ModelServer::canned(), |settings| {
        settings.namespaces[0].tables.push_str(
            r#"
[[namespace.route]]
methods = ["GET"]
path = "/things/admin@internal"
group = "deny"

[[namespace.route]]
methods = ["GET"]
path = "/things/{model}"
group = "model-evaluation"
"#,
        );
    });
    let ask = |path: &str, token: &str| get(path).token(token);
    for (path, token, reason) in [
        ("/predict/allowed:unload", "eval", "group_not_allowed"),
        ("/predict/allowed%3Aunload", "eval", "no_route"),
        ("/predict/allowed%3Aunload", "all", "no_route"),
        ("/things/admin@internal", "all", "route_denied"),
        ("/things/admin%40internal", "all", "no_route"),
    ] {
        rig.assert_refused(path, &ask(path, token), 403, reason);
    }
    rig.assert_refused("small digits", &ask("/predict/allowed%3aunload", "eval"), 400, "bad_path");
    // An escape that is no other route's name is a model's.
    rig.assert_forwarded("a colon", &ask("/predict/pre-x%3Aother", "eval"));
    rig.assert_forwarded("an at sign", &ask("/things/pre-x%40internal", "eval"));
    rig.finish(2);
}

#[test]
fn a_model_in_the_query_has_one_name_whoever_reads_it() {
    let rig = Rig::standard();
    for query in [
        "model=secret",
        "Model=secret",
        "model%00=secret",
        "%20model=secret",
        "model%20=secret",
        "model+=secret",
        "model[0]=secret",
        "model%5B%5D=secret",
        "model.=secret",
        "%EF%BD%8Dodel=secret",
        "a=1;model=secret",
        // The same model under another name is no better: who knows who reads it.
        "Model=allowed",
    ] {
        let request = get(&format!("/score/allowed?{query}")).token("eval");
        rig.assert_refused(query, &request, 400, "model_conflict");
    }
    let request = get("/score/allowed?model=allowed&remodel=secret&model_name=x").token("eval");
    rig.assert_forwarded("no other model", &request);
    rig.finish(1);
}

#[test]
fn no_spelling_of_an_identity_header_passes() {
    let rig = Rig::standard();
    let mut request = get("/score/allowed").token("eval").with("X-Own", "kept");
    for name in [
        "X.Consumer.Username",
        "X_Consumer_Username",
        "x-Consumer.Username",
        "X!Credential~Identifier",
        "X.Authenticated.Groups",
    ] {
        request = request.with(name, "root");
    }
    let received = rig.assert_forwarded("spellings", &request);
    assert_eq!(received.field("x-own"), Some("kept"));
    assert_eq!(received.field("x-credential-identifier"), Some("eval"));
    let forged: Vec<_> = received.fields.iter().filter(|(_, value)| value == "root").collect();
    assert!(forged.is_empty(), "{forged:?}");
    rig.finish(1);
}

#[test]
fn a_group_cannot_be_two_in_the_header_that_lists_them() {
    let server = ModelServer::canned();
    for group in ["x, model-management", "x,model-management", "x y", "x;y", ""] {
        let groups = ["model-evaluation", group];
        let token = tokens::Token { groups: &groups, ..tokens::STANDARD[0] };
        let folder = Folder::new();
        folder.write("tokens.toml", tokens::file(&[token]));
        folder.write("faregate.toml", Settings::of(Namespace::before(server.url())).toml());
        let ended = Gate::fail_to_start(&folder);
        assert!(!ended.status.success(), "{group:?}: {}", ended.said);
        assert!(ended.said.contains("a name in `groups`"), "{group:?}: {}", ended.said);
    }
}

#[test]
fn as_many_headers_as_in_http_1_and_no_more() {
    let limits = "max_headers = 20\n";
    let rig = Rig::with(ModelServer::canned(), |settings| settings.limits = limits.into());
    let mut http2 = connect(&rig);
    let bearer = format!("Bearer {}", secret("eval"));
    let names: Vec<String> = (0..21).map(|number| format!("x-own-{number}")).collect();
    for (count, status, reason) in [(10, 200, None), (21, 431, Some("too_many_headers"))] {
        let mut head: Vec<(&str, &[u8])> = vec![
            (":method", b"GET"),
            (":scheme", b"http"),
            (":authority", b"models.test"),
            (":path", b"/score/allowed"),
            ("authorization", bearer.as_bytes()),
        ];
        head.extend(names[..count].iter().map(|name| (name.as_str(), &b"1"[..])));
        let response = http2.ask(&head).response();
        assert_eq!((response.status(), response.reason()), (status, reason), "{count} of them");
    }
    rig.finish(1);
}
