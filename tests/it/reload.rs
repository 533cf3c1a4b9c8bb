//! A change of a file is in force however it was made; what is wrong changes nothing.

use std::fs;
use std::os::unix::fs::symlink;

use crate::support::eventually;
use crate::support::gate::{Folder, Gate, Namespace, Settings};
use crate::support::http1::get;
use crate::support::model_server::ModelServer;
use crate::support::rig::Rig;
use crate::support::tokens::{self, Token, standard_file};

/// The standard file, with the token `late` as well.
fn file_with_late_token() -> String {
    let late = Token {
        id: "late",
        name: "",
        resources: &["allowed"],
        groups: &["model-evaluation"],
        more: "",
    };
    tokens::file(&[tokens::STANDARD, &[late]].concat())
}

/// The standard file without the token `eval`.
fn file_without_eval() -> String {
    let others: Vec<Token<'_>> =
        tokens::STANDARD.iter().copied().filter(|token| token.id != "eval").collect();
    tokens::file(&others)
}

const NAMESPACE: &[(&str, &str)] = &[("namespace", "default")];

#[test]
fn a_change_is_in_force_however_the_file_was_written() {
    let rig = Rig::standard();
    let late = get("/score/allowed").token("late");
    let eval = get("/score/allowed").token("eval");
    type Write = fn(&Folder, &str);
    let ways: [(&str, Write); 4] = [
        ("in place", |folder, text| folder.write("tokens.toml", text)),
        ("by rename", |folder, text| folder.replace("tokens.toml", text)),
        ("removed and written anew", |folder, text| {
            fs::remove_file(folder.path("tokens.toml")).unwrap();
            folder.write("tokens.toml", text);
        }),
        ("by copy over it", |folder, text| {
            folder.write("copy.toml", text);
            fs::copy(folder.path("copy.toml"), folder.path("tokens.toml")).unwrap();
        }),
    ];
    let mut forwarded = 0;
    for (case, write) in ways {
        rig.assert_refused(case, &late, 401, "invalid_token");
        let more = file_with_late_token();
        write(&rig.gate.folder, &more);
        rig.gate.wait_for_policy("default", &more);
        rig.assert_forwarded(case, &late);
        let fewer = file_without_eval();
        write(&rig.gate.folder, &fewer);
        rig.gate.wait_for_policy("default", &fewer);
        rig.assert_refused(case, &eval, 401, "invalid_token");
        rig.assert_refused(case, &late, 401, "invalid_token");
        write(&rig.gate.folder, &standard_file());
        rig.gate.wait_for_policy("default", &standard_file());
        rig.assert_forwarded(case, &eval);
        forwarded += 2;
    }
    assert_eq!(rig.gate.metric("faregate_policy_reload_successful", NAMESPACE), 1.0);
    let reloads = rig.gate.metric(
        "faregate_policy_reloads_total",
        &[("namespace", "default"), ("result", "success")],
    );
    assert!(reloads >= 12.0, "{reloads}");
    rig.finish(forwarded);
}

/// The files as Kubernetes mounts a Secret: `tokens.toml -> ..data/tokens.toml`, `..data -> ..<version>`, and a change
/// is a new folder and a rename of the link `..data`.
struct Mount<'f>(&'f Folder);

impl Mount<'_> {
    fn swap(&self, version: &str, text: &str) {
        let folder = self.0.path(version);
        fs::create_dir(&folder).unwrap();
        let file = folder.join("tokens.toml");
        fs::write(&file, text).unwrap();
        // Nothing but the content tells one version from another.
        let time = fs::File::options().write(true).open(&file).unwrap();
        time.set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
        let old = fs::read_link(self.0.path("..data")).ok();
        symlink(version, self.0.path("..data_tmp")).unwrap();
        fs::rename(self.0.path("..data_tmp"), self.0.path("..data")).unwrap();
        if let Some(old) = old {
            fs::remove_dir_all(self.0.path(old.to_str().unwrap())).unwrap();
        }
    }
}

#[test]
fn the_swap_of_a_mounted_secret_is_noticed_again_and_again() {
    let server = ModelServer::canned();
    let folder = Folder::new();
    Mount(&folder).swap("..v0", &standard_file());
    symlink("..data/tokens.toml", folder.path("tokens.toml")).unwrap();
    folder.write("faregate.toml", Settings::of(Namespace::before(server.url())).toml());
    let rig = Rig::of(Gate::start(folder), server);
    let eval = get("/score/allowed").token("eval");
    rig.assert_forwarded("as it was mounted", &eval);
    // Files of one length: `eval` may use another model each time.
    for round in 1..=10 {
        let model = format!("model-{}", round % 10);
        let token = Token {
            id: "eval",
            name: "",
            resources: &[&model],
            groups: &["model-evaluation"],
            more: "",
        };
        let file = tokens::file(&[token]);
        Mount(&rig.gate.folder).swap(&format!("..v{round}"), &file);
        rig.gate.wait_for_policy("default", &file);
        rig.assert_forwarded(&model, &get(&format!("/score/{model}")).token("eval"));
        let before = format!("model-{}", round - 1);
        let stale = get(&format!("/score/{before}")).token("eval");
        rig.assert_refused(&before, &stale, 403, "resource_not_allowed");
    }
    rig.finish(11);
}

#[test]
fn an_invalid_file_leaves_the_last_good_policy_in_force() {
    let rig = Rig::standard();
    let eval = get("/score/allowed").token("eval");
    let hash = tokens::hash(&tokens::secret("nobody"));
    let good = standard_file();
    let unknown_key = format!(
        "{good}\n[[token]]\nid = \"x\"\nhash = \"{hash}\"\nsecret = \"fg_not-to-be-quoted\"\n"
    );
    let duplicate = format!("{good}\n[[token]]\nid = \"eval\"\nhash = \"{hash}\"\n");
    let twice = format!(
        "{good}\n[[token]]\nid = \"x\"\nhash = \"{}\"\n",
        tokens::hash(&tokens::secret("eval"))
    );
    let pattern = format!(
        "{good}\n[[token]]\nid = \"x\"\nhash = \"{hash}\"\nresources = [\"a*b\", \"../x\"]\n"
    );
    let cut = good[..good.len() - 40].to_owned();
    let version = good.replace("version = 1", "version = 2");
    let no_version = good.replace("version = 1\n", "");
    let bad_hash =
        format!("{good}\n[[token]]\nid = \"x\"\nhash = \"blake3:{}\"\n", "ab".repeat(31));
    let failures = || rig.gate.metric("faregate_policy_reloads_total", &[("result", "failure")]);
    let wrong = [
        ("empty", ""),
        ("no TOML", "version = 1\n[[token"),
        ("cut", cut.as_str()),
        ("a key nobody knows", &unknown_key),
        ("an id twice", &duplicate),
        ("a hash twice", &twice),
        ("a pattern that is none", &pattern),
        ("another version", &version),
        ("no version", &no_version),
        ("a hash that is none", &bad_hash),
    ];
    for (case, text) in wrong {
        let before = failures();
        rig.gate.folder.write("tokens.toml", text);
        eventually(&format!("the reload fails: {case}"), || (failures() > before).then_some(()));
        assert_eq!(rig.gate.metric("faregate_policy_reload_successful", NAMESPACE), 0.0, "{case}");
        rig.assert_forwarded(case, &eval);
        rig.assert_refused(case, &get("/score/allowed").token("nobody"), 401, "invalid_token");
        assert_eq!(
            rig.gate.ops_get("/readyz").status,
            200,
            "{case}: it serves by the last good policy"
        );
    }
    // The good file again, whose generation never went out of force; and then another one.
    rig.gate.folder.write("tokens.toml", &good);
    eventually("the reload succeeds", || {
        (rig.gate.metric("faregate_policy_reload_successful", NAMESPACE) == 1.0).then_some(())
    });
    rig.assert_forwarded("good again", &eval);
    rig.gate.change_tokens(&file_without_eval());
    rig.assert_refused("another", &eval, 401, "invalid_token");
    let forwarded = wrong.len() + 1;
    let log = String::from_utf8(rig.gate.log()).unwrap();
    assert!(log.contains("tokens.toml"), "the log names the file");
    for quoted in ["not-to-be-quoted", &hash["blake3:".len()..], "abababab"] {
        assert!(!log.contains(quoted), "the log quotes {quoted:?}");
    }
    rig.finish(forwarded);
}

#[test]
fn a_file_that_is_gone_or_writable_by_others_changes_nothing() {
    use std::os::unix::fs::PermissionsExt;
    let rig = Rig::standard();
    let eval = get("/score/allowed").token("eval");
    let path = rig.gate.folder.path("tokens.toml");
    let fails = |case: &str| {
        eventually(&format!("the reload fails: {case}"), || {
            (rig.gate.metric("faregate_policy_reload_successful", NAMESPACE) == 0.0).then_some(())
        });
        rig.assert_forwarded(case, &eval);
    };
    fs::remove_file(&path).unwrap();
    fails("removed");
    fs::create_dir(&path).unwrap();
    fails("a folder");
    fs::remove_dir(&path).unwrap();
    rig.gate.change_tokens(&standard_file());
    rig.gate.folder.write("open.toml", file_without_eval());
    fs::set_permissions(rig.gate.folder.path("open.toml"), fs::Permissions::from_mode(0o606))
        .unwrap();
    fs::rename(rig.gate.folder.path("open.toml"), &path).unwrap();
    fails("writable by others");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    rig.gate.wait_for_policy("default", &file_without_eval());
    rig.assert_refused("mended", &eval, 401, "invalid_token");
    rig.finish(3);
}

#[test]
fn a_kept_connection_sees_the_new_policy_at_its_next_request() {
    let rig = Rig::standard();
    let eval = get("/score/allowed").token("eval");
    let mut clients: Vec<_> = (0..8).map(|_| rig.connect()).collect();
    for client in &mut clients {
        assert_eq!(client.ask(&eval).status, 200);
    }
    rig.gate.change_tokens(&file_without_eval());
    for client in &mut clients {
        assert_eq!(client.ask(&eval).reason(), Some("invalid_token"));
    }
    // Rights that shrink are as good as none, and rights that grow are there.
    let token = |resources| Token {
        id: "eval",
        name: "",
        resources,
        groups: &["model-evaluation"],
        more: "",
    };
    rig.gate.change_tokens(&tokens::file(&[token(&["pre-*"])]));
    for client in &mut clients {
        assert_eq!(client.ask(&eval).reason(), Some("resource_not_allowed"));
    }
    rig.gate.change_tokens(&tokens::file(&[token(&["allowed"])]));
    for client in &mut clients {
        assert_eq!(client.ask(&eval).status, 200);
    }
    let disabled = Token { more: "disabled = true\n", ..token(&["allowed"]) };
    rig.gate.change_tokens(&tokens::file(&[disabled]));
    for client in &mut clients {
        assert_eq!(client.ask(&eval).reason(), Some("invalid_token"));
    }
    rig.finish(16);
}

#[test]
fn a_file_without_tokens_refuses_everybody() {
    let rig = Rig::standard();
    rig.gate.change_tokens("version = 1\n");
    for token in ["eval", "all", "manage"] {
        rig.assert_refused(token, &get("/score/allowed").token(token), 401, "invalid_token");
    }
    rig.assert_forwarded("public", &get("/open"));
    rig.finish(1);
}

#[test]
fn a_hangup_reloads_and_ends_nothing() {
    let rig = Rig::standard();
    let late = get("/score/allowed").token("late");
    let mut kept = rig.connect();
    assert_eq!(kept.ask(&late).status, 401);
    rig.gate.folder.write("tokens.toml", file_with_late_token());
    rig.gate.signal("HUP");
    rig.gate.wait_for_policy("default", &file_with_late_token());
    assert_eq!(kept.ask(&late).status, 200);
    rig.finish(1);
}

#[test]
fn settings_are_reloaded_and_what_cannot_change_keeps_its_value() {
    let server = ModelServer::canned();
    let url = server.url();
    let rig = Rig::before(server);
    let new = get("/new/allowed").token("eval");
    rig.assert_refused("not yet", &new, 403, "no_route");
    let mut settings = Settings::of(Namespace::before(&url));
    settings.namespaces[0].tables.push_str(
        "\n[[namespace.route]]\nmethods = [\"GET\"]\npath = \"/new/{model}\"\ngroup = \"model-evaluation\"\n",
    );
    let other_address = settings.toml().replace("workers = 2", "workers = 1");
    rig.gate.folder.write("faregate.toml", &other_address);
    let mut kept = rig.connect();
    eventually("the new route is in force", || (kept.ask(&new).status == 200).then_some(()));
    rig.gate.wait_for_line("a warning about what cannot change", |line| {
        (line.contains("WARN") && line.contains("\"data\"")).then_some(())
    });
    // What is wrong as a whole changes nothing.
    rig.gate.folder.write("faregate.toml", format!("{other_address}\n[nonsense]\nx = 1\n"));
    rig.gate.wait_for_line("what is wrong with the settings", |line| {
        line.contains("nonsense").then_some(())
    });
    eventually("the metric tells it", || {
        (rig.gate.metric("faregate_settings_reload_successful", &[]) == 0.0).then_some(())
    });
    assert_eq!(kept.ask(&new).status, 200);
    // A route taken away is gone, and a server that was replaced is asked no more.
    let other = ModelServer::canned();
    rig.gate.folder.write("faregate.toml", Settings::of(Namespace::before(other.url())).toml());
    eventually("the route is gone", || (kept.ask(&new).reason() == Some("no_route")).then_some(()));
    let before = rig.server.bytes().len();
    for _ in 0..4 {
        assert_eq!(rig.ask(&get("/score/allowed").token("eval")).status, 200);
    }
    assert_eq!(other.requests().len(), 4);
    assert_eq!(rig.gate.metric("faregate_settings_reload_successful", &[]), 1.0);
    rig.assert_upstream_got_nothing_since(before, "replaced");
    let count = rig.server.requests().len();
    rig.finish(count);
}

#[test]
fn settings_that_are_refused_leave_what_counts_the_tokens() {
    let server = ModelServer::canned();
    let url = server.url();
    let rig = Rig::before(server);
    assert_eq!(rig.ask(&get("/score/allowed").token("eval")).status, 200);
    let counted = || {
        let labels = [("namespace", "default"), ("token_id", "eval"), ("result", "allowed")];
        rig.gate.metric("faregate_token_requests_total", &labels)
    };
    assert_eq!(counted(), 1.0);
    // The first namespace would take another, good file; the second one's is not there.
    rig.gate.folder.write("others.toml", "version = 1\n");
    let settings = Settings::of(Namespace::before(&url)).toml();
    let first = settings.replace("tokens.toml", "others.toml");
    let second = format!(
        "{first}\n[[namespace]]\nname = \"second\"\nhosts = [\"second.test\"]\ntokens = \"missing.toml\"\n\
         profiles = [\"any\"]\n[namespace.upstream]\nendpoints = [\"{url}\"]\n"
    );
    rig.gate.folder.write("faregate.toml", second);
    eventually("the settings are refused", || {
        (rig.gate.metric("faregate_settings_reload_successful", &[]) == 0.0).then_some(())
    });
    assert_eq!(rig.ask(&get("/score/allowed").token("eval")).status, 200);
    assert_eq!(counted(), 2.0);
    rig.finish(2);
}
