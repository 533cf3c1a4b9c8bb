//! Several namespaces behind one listener: told apart by host, strangers to each other; and models that are served
//! elsewhere than at the namespace's own server.

use crate::support::gate::{Folder, Gate, Namespace, OWN_ROUTES, Settings};
use crate::support::http1::get;
use crate::support::model_server::ModelServer;
use crate::support::rig::Rig;
use crate::support::tokens::{self, Token};

const fn token(id: &str) -> Token<'_> {
    Token { id, name: "", resources: &["*"], groups: &["model-evaluation"], more: "" }
}

fn namespace(name: &str, hosts: &[&str], server: &ModelServer) -> Namespace {
    Namespace {
        name: name.into(),
        hosts: hosts.iter().map(|host| (*host).to_owned()).collect(),
        tokens: format!("{name}.toml"),
        ..Namespace::before(server.url())
    }
}

#[test]
fn the_most_specific_host_wins_and_a_token_is_worthless_elsewhere() {
    let servers: Vec<ModelServer> = (0..3).map(|_| ModelServer::canned()).collect();
    let mut settings = Settings::of(namespace("exact", &["models.test", "also.test"], &servers[0]));
    settings.namespaces.push(namespace("below", &["*.models.test"], &servers[1]));
    settings.namespaces.push(namespace("deep", &["*.deep.models.test"], &servers[2]));
    let folder = Folder::new();
    folder.write("faregate.toml", settings.toml());
    for name in ["exact", "below", "deep"] {
        folder.write(
            &format!("{name}.toml"),
            tokens::file(&[token(name)]).replace("foreign", &format!("foreign-{name}")),
        );
    }
    let [exact, below, deep] = <[ModelServer; 3]>::try_from(servers).ok().unwrap();
    let mut rig = Rig::of(Gate::start(folder), exact);
    for id in ["exact", "below", "deep"] {
        rig.keep_secret(&tokens::secret(id));
    }
    #[rustfmt::skip]
    let table = [
        ("models.test", "exact"),
        ("MODELS.Test", "exact"),
        ("models.test.", "exact"),
        ("models.test:8443", "exact"),
        ("models.test.:8443", "exact"),
        ("also.test", "exact"),
        ("a.models.test", "below"),
        ("A.Models.Test.", "below"),
        ("a.b.models.test", "below"),
        ("deep.models.test", "below"),
        ("x.deep.models.test:80", "deep"),
        ("x.y.deep.models.test", "deep"),
    ];
    let mut counts = std::collections::BTreeMap::from([("exact", 0), ("below", 0), ("deep", 0)]);
    for (host, name) in table {
        for id in ["exact", "below", "deep"] {
            let response = rig.ask(&get("/score/allowed").host(host).token(id));
            let expected = if id == name { (200, None) } else { (401, Some("invalid_token")) };
            assert_eq!(
                (response.status, response.reason()),
                expected,
                "{host} with the token of {id}"
            );
        }
        *counts.get_mut(name).unwrap() += 1;
    }
    for host in [
        "other.test",
        "models.test.other",
        "xmodels.test",
        "test",
        "127.0.0.1",
        "[::1]",
        "amodels.test",
    ] {
        for id in ["exact", "below"] {
            let response = rig.ask(&get("/score/allowed").host(host).token(id));
            assert_eq!((response.status, response.reason()), (404, Some("unknown_host")), "{host}");
        }
    }
    // What can be read in two ways is refused before anyone looks for its namespace.
    let two_ways = get("/score/../allowed").host("other.test").token("exact");
    assert_eq!(rig.ask(&two_ways).reason(), Some("bad_path"));
    let sees = |server: &ModelServer| server.requests().len();
    assert_eq!(
        [sees(&rig.server), sees(&below), sees(&deep)],
        [counts["exact"], counts["below"], counts["deep"]]
    );
    // A change in one is none in another.
    rig.gate.folder.write("below.toml", "version = 1\n");
    rig.gate.wait_for_policy("below", "version = 1\n");
    assert_eq!(rig.ask(&get("/score/allowed").host("a.models.test").token("below")).status, 401);
    assert_eq!(rig.ask(&get("/score/allowed").host("models.test").token("exact")).status, 200);
    rig.gate.folder.write("below.toml", "nonsense");
    crate::support::eventually("the reload of one fails", || {
        let metrics = rig.gate.metrics();
        let of = |name| metrics.value("faregate_policy_reload_successful", &[("namespace", name)]);
        (of("below") == Some(0.0) && of("exact") == Some(1.0)).then_some(())
    });
    let count = counts["exact"] + 1;
    rig.finish(count);
}

#[test]
fn a_model_can_be_served_elsewhere() {
    let iris = ModelServer::canned();
    let iris_two = ModelServer::canned();
    let tables = format!(
        "{OWN_ROUTES}\n\
         [[namespace.route]]\nmethods = [\"GET\", \"POST\"]\npath = \"/{{model}}/{{rest...}}\"\ngroup = \"model-evaluation\"\n\
         [[namespace.model]]\nresource = \"iris*\"\nendpoints = [\"{}\"]\nstrip_prefix = \"/{{model}}\"\n\
         [[namespace.model]]\nresource = \"iris-two\"\nendpoints = [\"{}\"]\n",
        iris.url(),
        iris_two.url()
    );
    let rig = Rig::with(ModelServer::canned(), |settings| settings.namespaces[0].tables = tables);
    let ask = |target: &str| {
        rig.ask(&get(target).token("all").with("X-Forwarded-Prefix", "/forged")).status
    };
    assert_eq!(ask("/iris/eval?x=1"), 200);
    assert_eq!(ask("/iris-one/v2/eval/"), 200);
    assert_eq!(ask("/iris-two/eval"), 200);
    assert_eq!(ask("/other/eval"), 200);
    assert_eq!(ask("/Iris/eval"), 200);
    let seen = |server: &ModelServer| -> Vec<(String, Option<String>)> {
        let requests = server.requests();
        requests
            .iter()
            .map(|r| (r.target.clone(), r.field("x-forwarded-prefix").map(str::to_owned)))
            .collect()
    };
    let at = |target: &str, prefix: Option<&str>| (target.to_owned(), prefix.map(str::to_owned));
    let mut of_iris = seen(&iris);
    of_iris.sort();
    assert_eq!(of_iris, [at("/eval?x=1", Some("/iris")), at("/v2/eval/", Some("/iris-one"))]);
    let targets = |server: &ModelServer| -> Vec<String> {
        let mut targets: Vec<String> = seen(server).into_iter().map(|(target, _)| target).collect();
        targets.sort();
        targets
    };
    assert_eq!(targets(&iris_two), ["/iris-two/eval"]);
    assert_eq!(targets(&rig.server), ["/Iris/eval", "/other/eval"]);
    for request in [iris.requests(), iris_two.requests(), rig.server.requests()].concat() {
        assert_eq!(request.field("host"), Some("models.test"));
        assert_eq!(request.field("x-credential-identifier"), Some("all"));
        assert_eq!(request.field("authorization"), None);
    }
    // Who may not use the model is refused before any of the servers hears of it.
    let refused = rig.ask(&get("/iris/eval").token("eval"));
    assert_eq!(refused.reason(), Some("resource_not_allowed"));
    assert_eq!((iris.requests().len(), iris_two.requests().len()), (2, 1));
    rig.finish(2);
}

#[test]
fn a_prefix_is_cut_at_the_end_of_a_segment_only() {
    let elsewhere = ModelServer::canned();
    let tables = format!(
        "[[namespace.route]]\nmethods = [\"GET\"]\npath = \"/serve/{{model}}/{{rest...}}\"\ngroup = \"model-evaluation\"\n\
         [[namespace.route]]\nmethods = [\"GET\"]\npath = \"/serve/{{model}}\"\ngroup = \"model-evaluation\"\n\
         [[namespace.route]]\nmethods = [\"GET\"]\npath = \"/serving/{{model}}/{{rest...}}\"\ngroup = \"model-evaluation\"\n\
         [[namespace.model]]\nresource = \"*\"\nendpoints = [\"{}\"]\nstrip_prefix = \"/serve/{{model}}\"\n",
        elsewhere.url()
    );
    let rig = Rig::with(ModelServer::canned(), |settings| settings.namespaces[0].tables = tables);
    for (target, arrives, prefix) in [
        ("/serve/iris/eval", "/eval", Some("/serve/iris")),
        ("/serve/iris/", "/", Some("/serve/iris")),
        ("/serve/iris", "/", Some("/serve/iris")),
        ("/serve/iris?a=b", "/?a=b", Some("/serve/iris")),
        ("/serve/caf%C3%A9/eval", "/eval", Some("/serve/caf%C3%A9")),
        ("/serving/iris/eval", "/serving/iris/eval", None),
    ] {
        let mark = elsewhere.mark();
        let response = rig.ask(&get(target).token("all"));
        assert_eq!(response.status, 200, "{target}");
        let received = elsewhere.since(&mark);
        assert_eq!(received.len(), 1, "{target}");
        assert_eq!(received[0].target, arrives, "{target}");
        assert_eq!(received[0].field("x-forwarded-prefix"), prefix, "{target}");
    }
    rig.finish(0);
}
