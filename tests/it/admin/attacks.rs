//! What an outsider tries, and a careless insider: cursors nobody gave, requests within requests, framings with two
//! readings, files laid where the gate writes, a standard error that nobody reads, and the gate stopped in mid-change.

use std::fs::{self, File, Permissions};
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::SocketAddr;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::desk::{Desk, TOKENS, new_token, path_of, text};
use crate::support::gate::{Folder, Namespace, Settings, faregate};
use crate::support::http1::{Client, get};
use crate::support::{PATIENCE, eventually, tokens};

fn desk_with_audit_file() -> Desk {
    Desk::with(|settings| settings.admin = Some("audit_log = \"audit.log\"".into()))
}

fn audit_lines(desk: &Desk) -> Vec<Value> {
    let log = fs::read_to_string(desk.rig.gate.folder.path("audit.log")).unwrap();
    log.lines().map(|line| serde_json::from_str(line).expect(line)).collect()
}

#[test]
fn a_cursor_that_nobody_gave_breaks_nothing() {
    let desk = Desk::new();
    let most = u64::MAX;
    for forged in [
        json!({"after": "gone", "key": null, "place": most, "count": 0, "sort": "file"}),
        json!({"after": "gone", "key": null, "place": most / 2 + 1, "count": 0, "sort": "file"}),
        json!({"after": "gone", "key": null, "place": 0, "count": most, "sort": "file"}),
        json!({"after": "gone", "key": {"Text": "a"}, "place": most, "count": most, "sort": "name"}),
        json!({"after": "gone", "key": {"Number": i64::MIN}, "place": 1, "count": 1, "sort": "name"}),
        json!({"after": "eval", "key": {"Text": ""}, "place": most, "count": 1, "sort": "-file"}),
        json!({"after": "", "key": null, "place": most, "count": 1, "sort": "-file"}),
    ] {
        let cursor = URL_SAFE_NO_PAD.encode(forged.to_string());
        let sort = text(&forged["sort"]);
        let response = desk.get(&format!("{TOKENS}?sort={sort}&cursor={cursor}"));
        assert!(matches!(response.status, 200 | 422), "{forged}: {response:?}");
    }
    desk.finish();
}

#[test]
fn a_question_with_more_headers_than_any_request_has_breaks_nothing() {
    let desk = Desk::new();
    let headers: Value = (0..40_000).map(|n| (format!("h{n}"), json!(""))).collect();
    let question =
        json!({"token_id": "eval", "method": "POST", "path": "/score/allowed", "headers": headers});
    let response = desk.post("/api/v1/namespaces/default/explain", &question);
    assert_eq!((response.status, &response.json()["field"]), (422, &json!("headers")));
    desk.finish();
}

#[test]
fn what_a_refused_request_carries_is_no_request() {
    let desk = Desk::new();
    let (id, _) = desk.create(&new_token("stays"));
    let within = desk.request("DELETE", &path_of(&id)).bytes();
    let refused = [
        desk.anonymous("POST", TOKENS).with("Content-Type", "application/json"),
        desk.anonymous("POST", TOKENS).bearer("fga_wrong").with("Content-Type", "application/json"),
        desk.request("POST", TOKENS).with("Content-Type", "text/plain"),
        desk.request("POST", TOKENS).with("Origin", "http://evil.example"),
        desk.request("PUT", TOKENS),
        desk.request("GET", TOKENS),
    ];
    for request in refused {
        let method = request.method().to_owned();
        let mut client = desk.connect();
        client.send(request.body(&within).bytes());
        client.send(desk.request("GET", &path_of(&id)).bytes());
        let first = client.response_to(&method);
        desk.judge(&method, &first);
        // The connection may be closed; if it is not, the next answer is that of the next request.
        if let Some(second) = client.response_or_end("GET") {
            assert_eq!((second.status, &second.json()["token"]["id"]), (200, &json!(id)));
        }
        assert_eq!(desk.get(&path_of(&id)).status, 200, "{first:?}");
    }
    desk.finish();
}

#[test]
fn a_body_has_one_framing() {
    let desk = Desk::new();
    let body = new_token("framed").to_string();
    let length = body.len();
    let chunks = format!("{length:x}\r\n{body}\r\n0\r\n\r\n");
    let head = desk.request("POST", TOKENS).with("Content-Type", "application/json").bytes();
    let head = String::from_utf8(head).unwrap();
    let head = head.trim_end_matches("\r\n");
    for (framing, sent) in [
        ("Transfer-Encoding: gzip, chunked".to_owned(), &chunks),
        ("Transfer-Encoding: chunked, chunked".to_owned(), &chunks),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked".to_owned(), &chunks),
        (format!("Content-Length: 0{length}"), &body),
        // The same length twice is one length (RFC 9110, section 8.6), and hyper makes it one before
        // anybody sees it; two that differ it refuses.
        (format!("Content-Length: {length}\r\nContent-Length: 1"), &body),
        ("Transfer-Encoding: identity".to_owned(), &body),
        (format!("Content-Length: {length}, {length}"), &body),
        (format!("Content-Length: +{length}"), &body),
        (format!("Content-Length: {length}\r\nContent-Length: 0"), &body),
    ] {
        let before = desk.file();
        let mut client = desk.connect();
        client.send(format!("{head}\r\n{framing}\r\n\r\n{sent}"));
        let response = client.response_or_end("POST");
        assert!(response.is_none_or(|response| response.status == 400), "{framing}");
        assert_eq!(desk.file(), before, "{framing}");
    }
    // Two kinds of framing: refused, or the chunks count and nothing else is read from the connection.
    let mut client = desk.connect();
    client.send(format!(
        "{head}\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}{head}\r\n\r\n"
    ));
    assert!(matches!(client.response_to("POST").status, 201 | 400));
    client.assert_closes();
}

#[test]
fn a_query_that_no_call_reads_is_not_passed_over() {
    let desk = Desk::new();
    let (id, secret) = desk.create(&new_token("regenerated"));
    // Whoever writes this means to keep the old secret alive.
    let target = format!("{}/regenerate?grace_period=24h", path_of(&id));
    let response = desk.ask(&desk.request("POST", &target));
    assert_eq!((response.status, response.reason()), (422, Some("invalid_field")), "{response:?}");
    assert_eq!(desk.status_with(&secret), 200);
    for target in [format!("{TOKENS}?name=x"), format!("{}/disable?x", path_of(&id))] {
        assert_eq!(desk.post(&target, &json!({})).status, 422, "{target}");
    }
    desk.finish();
}

#[test]
fn a_deletion_takes_json_or_nothing() {
    let desk = Desk::new();
    let (id, _) = desk.create(&new_token("stays"));
    let request = desk.request("DELETE", &path_of(&id));
    let response = desk.ask(&request.with("Content-Type", "text/plain").body("not json"));
    assert_eq!(response.status, 415, "{response:?}");
    assert_eq!(desk.get(&path_of(&id)).status, 200);
    desk.finish();
}

#[test]
fn a_change_under_way_when_the_gate_stops_is_audited_even_if_its_client_is_gone() {
    let mut desk = desk_with_audit_file();
    let lock = File::create(desk.rig.gate.folder.path("tokens.toml.lock")).unwrap();
    lock.lock().unwrap();
    let mut client = desk.connect();
    client.send(desk.with_json("POST", TOKENS, &new_token("orphan")).bytes());
    // A second one says that the first was read: they come in on one thread.
    assert_eq!(desk.get(TOKENS).status, 200);
    drop(client);
    assert_eq!(desk.get(TOKENS).status, 200);
    desk.rig.gate.signal("TERM");
    desk.rig.gate.wait_for_line("draining", |line| line.contains("\"draining\"").then_some(()));
    lock.unlock().unwrap();
    desk.rig.gate.wait_for_end();
    let is_there = desk.file().contains("orphan");
    let told = audit_lines(&desk).iter().filter(|line| line["action"] == "create_token").count();
    assert_eq!(told, usize::from(is_there), "the file has it: {is_there}");
}

#[test]
fn a_change_that_is_written_and_not_in_force_is_audited() {
    let desk = desk_with_audit_file();
    let folder = &desk.rig.gate.folder;
    let lock = File::create(folder.path("tokens.toml.lock")).unwrap();
    lock.lock().unwrap();
    let mut client = desk.connect();
    client.send(desk.with_json("POST", TOKENS, &new_token("late")).bytes());
    assert_eq!(desk.get(TOKENS).status, 200);
    // Meanwhile the namespace gets another file, which is in force before this one can be written.
    let file = format!("{}\n# another\n", tokens::standard_file());
    folder.write("others.toml", &file);
    let settings = fs::read_to_string(folder.path("faregate.toml")).unwrap();
    folder.replace("faregate.toml", settings.replace("\"tokens.toml\"", "\"others.toml\""));
    desk.rig.gate.wait_for_policy("default", &file);
    lock.unlock().unwrap();
    let response = client.response_to("POST");
    assert_eq!((response.status, response.reason()), (409, Some("changed_meanwhile")));
    let is_there = desk.file().contains("late");
    let told = audit_lines(&desk).iter().filter(|line| line["action"] == "create_token").count();
    assert_eq!(told, usize::from(is_there), "the file has it: {is_there}");
    desk.finish();
}

#[test]
fn the_audit_log_is_no_file_that_the_gate_reads() {
    for name in ["tokens.toml", "./tokens.toml", "faregate.toml", "tokens.toml.lock"] {
        let folder = Folder::new();
        folder.write("tokens.toml", tokens::standard_file());
        let mut settings = Settings::of(Namespace::before("http://127.0.0.1:9"));
        settings.admin = Some(format!("audit_log = {name:?}"));
        folder.write("faregate.toml", settings.toml());
        let mut check = faregate();
        check.arg("check").arg("--config").arg(folder.path("faregate.toml"));
        let checked = check.output().unwrap();
        let said = String::from_utf8_lossy(&checked.stderr);
        assert!(!checked.status.success() && said.contains("audit_log"), "{name}: {said}");
    }
}

#[test]
fn what_lies_in_the_place_of_an_audit_log_is_not_written_to() {
    type Lay = fn(&Folder);
    let ways: [(&str, Lay); 3] = [
        ("a link", |folder| symlink(folder.path("victim"), folder.path("audit.log")).unwrap()),
        ("a folder", |folder| fs::create_dir(folder.path("audit.log")).unwrap()),
        ("a pipe", |folder| make_pipe(folder, "audit.log")),
    ];
    for (case, lay) in ways {
        let desk = desk_with_audit_file();
        let folder = &desk.rig.gate.folder;
        folder.write("victim", "mine");
        fs::remove_file(folder.path("audit.log")).unwrap();
        lay(folder);
        // What was asked for is done and told; that it cannot be audited is told in the log.
        desk.create(&new_token(case));
        desk.rig.gate.wait_for_event("level", "ERROR");
        assert_eq!(fs::read_to_string(folder.path("victim")).unwrap(), "mine", "{case}");
        desk.finish();
    }
}

#[test]
fn what_lies_beside_the_token_file_is_not_written_to() {
    for name in ["tokens.toml.lock", "tokens.toml.usage.json"] {
        for case in ["a link", "a folder", "a pipe"] {
            let folder = Folder::new();
            folder.write("tokens.toml", tokens::standard_file());
            folder.write("victim", "mine");
            let place = folder.path(name);
            match case {
                "a link" => symlink(folder.path("victim"), place).unwrap(),
                "a folder" => fs::create_dir(place).unwrap(),
                _ => make_pipe(&folder, name),
            }
            let mut desk = Desk::in_folder(folder, |_| {});
            assert_eq!(desk.rig.ask(&get("/score/allowed").token("eval")).status, 200);
            let response = desk.post(TOKENS, &new_token("beside"));
            // Without its lock nothing is changed; the count of uses stops nothing.
            let is_changed = response.status == 201;
            assert_eq!(
                is_changed,
                name != "tokens.toml.lock" || case == "a pipe",
                "{name}: {case}"
            );
            assert_eq!(desk.file().contains("beside"), is_changed, "{name}: {case}");
            desk.rig.gate.signal("TERM");
            assert!(desk.rig.gate.wait_for_end().success(), "{name}: {case}");
            let victim = fs::read_to_string(desk.rig.gate.folder.path("victim")).unwrap();
            assert_eq!(victim, "mine", "{name}: {case}");
            let left = fs::read_dir(desk.rig.gate.folder.path(".")).unwrap();
            let names = left.map(|entry| entry.unwrap().file_name().into_string().unwrap());
            let left: Vec<String> = names.filter(|name| name.ends_with(".tmp")).collect();
            assert!(left.is_empty(), "{left:?}");
        }
    }
}

fn make_pipe(folder: &Folder, name: &str) {
    assert!(Command::new("mkfifo").arg(folder.path(name)).status().unwrap().success());
}

#[test]
fn the_mode_of_the_token_file_stays() {
    let desk = Desk::new();
    let path = desk.rig.gate.folder.path("tokens.toml");
    for mode in [0o600, 0o640, 0o440, 0o400] {
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        let response = desk.post(TOKENS, &new_token("moded"));
        // Whoever takes all rights to write away means it.
        let expected = if mode & 0o222 == 0 { 409 } else { 201 };
        assert_eq!(response.status, expected, "{mode:o}");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, mode);
    }
    desk.finish();
}

/// A gate whose standard error is read up to the line that says where administrators come in, and then no more.
struct UnreadGate {
    child: Child,
    admin: SocketAddr,
    ops: SocketAddr,
    /// The end that nobody reads.
    _unread: BufReader<std::io::PipeReader>,
}

impl UnreadGate {
    fn start(folder: &Folder) -> Self {
        let (reader, mut writer) = std::io::pipe().unwrap();
        let child = faregate()
            .args(["serve", "--config"])
            .arg(folder.path("faregate.toml"))
            .stderr(writer.try_clone().unwrap())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let mut reader = BufReader::new(reader);
        let mut addresses: Vec<(String, SocketAddr)> = Vec::new();
        while addresses.len() < 3 {
            let mut line = String::new();
            assert!(reader.read_line(&mut line).unwrap() > 0, "it ended: {addresses:?}");
            let event: Value = serde_json::from_str(&line).unwrap();
            if event["message"] == "listening" {
                addresses
                    .push((text(&event["listener"]), text(&event["address"]).parse().unwrap()));
            }
        }
        let of = |name: &str| addresses.iter().find(|(own, _)| own == name).unwrap().1;
        let (admin, ops) = (of("admin"), of("ops"));
        // Fills the pipe, and ends when the other end is gone.
        std::thread::spawn(move || while writer.write_all(&[b'\n'; 4096]).is_ok() {});
        Self { child, admin, ops, _unread: reader }
    }
}

impl Drop for UnreadGate {
    fn drop(&mut self) {
        // Both fail only when it has ended already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

#[test]
fn a_standard_error_that_nobody_reads_stops_no_administrator_and_no_end() {
    let folder = Folder::new();
    folder.write("tokens.toml", tokens::standard_file());
    let mut settings = Settings::of(Namespace::before("http://127.0.0.1:9"));
    settings.admin = Some(String::new());
    folder.write("faregate.toml", settings.toml());
    let mut gate = UnreadGate::start(&folder);
    let host = gate.admin.to_string();
    // Each leaves a line, for which there is no room; whether it is answered is another question.
    let mut wrong: Vec<Client> = (0..3).map(|_| Client::to(gate.admin)).collect();
    for client in &mut wrong {
        client.send(get(TOKENS).host(&host).bearer("fga_wrong").bytes());
    }
    for _ in 0..20 {
        assert_eq!(Client::to(gate.ops).ask(&get("/livez").host(&host)).status, 200);
        let list = get(TOKENS).host(&host).bearer(&tokens::administrator_key());
        assert_eq!(Client::to(gate.admin).ask(&get("/").host(&host)).status, 200);
        assert!(matches!(Client::to(gate.admin).ask(&list).status, 200));
    }
    let id = gate.child.id().to_string();
    assert!(Command::new("kill").args(["-s", "TERM", &id]).status().unwrap().success());
    let deadline = Instant::now() + PATIENCE;
    let status = eventually("the gate ends", || gate.child.try_wait().unwrap());
    assert!(status.success() && Instant::now() < deadline, "{status}");
}

#[test]
fn who_reads_slowly_slows_neither_clients_nor_probes() {
    let desk = Desk::new();
    // More than may be open at once, each with answers to come that nobody takes.
    let page = desk.anonymous("GET", "/openapi.json").bytes().repeat(200);
    let mut slow: Vec<Client> = Vec::new();
    for _ in 0..300 {
        let mut client = desk.connect();
        client.send(&page);
        slow.push(client);
    }
    for _ in 0..20 {
        assert_eq!(desk.rig.ask(&get("/score/allowed").token("eval")).status, 200);
        assert_eq!(desk.rig.gate.ops_get("/livez").status, 200);
        assert_eq!(desk.rig.gate.ops_get("/metrics").status, 200);
    }
    drop(slow);
    eventually("administrators are served again", || {
        let mut client = desk.connect();
        client.send(desk.request("GET", TOKENS).bytes());
        let answer = client.response_or_end("GET")?;
        (answer.status == 200).then_some(())
    });
    desk.finish();
}
