//! Real gateways that ask the gate, each with the configuration that its guide shows: what the model
//! server behind them gets, and what it never gets. Traefik is in no registry that these tests
//! install from; what it asks is tried in `tests/it/forward_auth`.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::curl::{CurlAnswer, curl};
use crate::gate::{Gate, GateFiles, GateSettings, listener_address};
use crate::process::{PATIENCE, RunningProcess};
use crate::python::installed_program;

/// The block of the guide with this language, the first one or a later one.
fn shown(guide: &str, language: &str, place: usize) -> String {
    let guide = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/gateways").join(guide);
    let text = fs::read_to_string(guide).unwrap();
    let start = format!("```{language}\n");
    let block = text.split(&start).nth(place + 1).expect("a block of that language");
    block.split_once("\n```").expect("its end").0.to_owned()
}

/// What stands between clients and the model server.
struct Gateway {
    /// Ended before its folder goes.
    _process: RunningProcess,
    _folder: TempDir,
    url: String,
}

/// A program that is started with a file and a free port.
struct Program<'p> {
    name: &'p str,
    file: &'p str,
    /// The guide's configuration.
    shown: String,
    /// What a whole file has around it.
    whole: &'p dyn Fn(&str, &Path) -> String,
    /// Its command line with the file.
    command: &'p dyn Fn(&Path) -> Command,
}

impl Program<'_> {
    /// Starts it with the guide's addresses replaced by those of this test.
    fn start(&self, model_server: &str, gate: &str) -> Gateway {
        for _ in 0..5 {
            // None of them tells which port it was given, so it has to be known before. Somebody
            // else may take it in between: then another one.
            let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            let folder = tempfile::tempdir().unwrap();
            let text = self.shown.replace("127.0.0.1:8000", model_server);
            let text = text.replace("127.0.0.1:9903", gate);
            let text = text.replace("127.0.0.1:8080", &format!("127.0.0.1:{free}"));
            let port = |address: &str| address.rsplit_once(':').unwrap().1.to_owned();
            let text =
                text.replace("port_value: 8000", &format!("port_value: {}", port(model_server)));
            let text = text.replace("port_value: 9903", &format!("port_value: {}", port(gate)));
            let text = text.replace("port_value: 8080", &format!("port_value: {free}"));
            let file = folder.path().join(self.file);
            fs::write(&file, (self.whole)(&text, folder.path())).unwrap();
            let mut command = (self.command)(&file);
            command.env("HOME", folder.path()).env_remove("XDG_DATA_HOME");
            let process = RunningProcess::start(self.name, &mut command);
            if answers(&process, free) {
                let url = format!("http://127.0.0.1:{free}");
                return Gateway { _process: process, _folder: folder, url };
            }
        }
        panic!("{} found no port", self.name);
    }
}

/// Waits until somebody listens; false when that port was taken.
fn answers(process: &RunningProcess, port: u16) -> bool {
    let deadline = Instant::now() + PATIENCE;
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(Instant::now() < deadline, "it does not listen:\n{}", process.transcript());
        std::thread::sleep(Duration::from_millis(20));
    }
    !process.transcript().to_ascii_lowercase().contains("address already in use")
}

fn nginx() -> Program<'static> {
    Program {
        name: "nginx",
        file: "nginx.conf",
        shown: shown("nginx.md", "nginx", 0),
        whole: &|server, folder| {
            let folder = folder.display();
            let paths: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
                .map(|what| format!("{what}_temp_path {folder}/{what};\n"))
                .concat();
            format!(
                "daemon off;\nmaster_process off;\npid {folder}/pid;\nerror_log stderr warn;\n\
                 events {{}}\nhttp {{\naccess_log off;\n{paths}{server}\n}}\n"
            )
        },
        command: &|file| {
            // Where Debian has it, which is not in everybody's path.
            let mut command = Command::new("/usr/sbin/nginx");
            command.arg("-e").arg("stderr").arg("-c").arg(file);
            command
        },
    }
}

fn caddy() -> Program<'static> {
    Program {
        name: "caddy",
        file: "Caddyfile",
        shown: shown("caddy.md", "caddyfile", 0),
        whole: &|site, _| format!("{{\n\tadmin off\n}}\n{site}\n"),
        command: &|file| {
            let mut command = Command::new(installed_program("caddy"));
            command.args(["run", "--adapter", "caddyfile", "--config"]).arg(file);
            command
        },
    }
}

/// Envoy by the guide's first configuration, gRPC, or its second, HTTP.
fn envoy(place: usize) -> Program<'static> {
    Program {
        name: "envoy",
        file: "envoy.yaml",
        shown: shown("envoy.md", "yaml", place),
        whole: &|text, _| text.to_owned(),
        command: &|file| {
            let mut command = Command::new(installed_program("envoy"));
            command.args(["--disable-hot-restart", "--concurrency", "1", "--log-level", "warn"]);
            command.arg("--config-path").arg(file);
            command
        },
    }
}

/// A model server that keeps each request it gets, and answers all alike.
struct ModelServer {
    address: String,
    received: Arc<Mutex<Vec<Received>>>,
}

/// A request: its first line and header lines as they came, and its body.
#[derive(Debug, Clone)]
struct Received {
    line: String,
    headers: Vec<(String, String)>,
    body: String,
}

impl Received {
    fn all(&self, name: &str) -> Vec<&str> {
        let named = self.headers.iter().filter(|(own, _)| own.eq_ignore_ascii_case(name));
        named.map(|(_, value)| value.as_str()).collect()
    }

    /// Whether this is anywhere in it.
    fn holds(&self, text: &str) -> bool {
        format!("{self:?}").contains(text)
    }
}

impl ModelServer {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let received = Arc::new(Mutex::new(Vec::new()));
        let keep = Arc::downgrade(&received);
        std::thread::spawn(move || {
            for connection in listener.incoming() {
                let (Ok(connection), Some(received)) = (connection, keep.upgrade()) else { return };
                std::thread::spawn(move || serve(connection, &received));
            }
        });
        Self { address, received }
    }

    fn requests(&self) -> Vec<Received> {
        self.received.lock().unwrap().clone()
    }
}

impl Drop for ModelServer {
    fn drop(&mut self) {
        self.received = Arc::default();
        // The accepting thread looks for the record at its next connection: this is it.
        drop(TcpStream::connect(&self.address));
    }
}

fn serve(connection: TcpStream, received: &Mutex<Vec<Received>>) {
    let mut to = connection.try_clone().unwrap();
    let mut from = BufReader::new(connection);
    while let Some(request) = read_request(&mut from) {
        received.lock().unwrap().push(request);
        let answer = "HTTP/1.1 200 OK\r\nX-Served-By: model\r\nContent-Length: 2\r\n\r\n{}";
        if to.write_all(answer.as_bytes()).is_err() {
            return;
        }
    }
}

fn read_request(from: &mut BufReader<TcpStream>) -> Option<Received> {
    let mut line = || {
        let mut line = String::new();
        from.read_line(&mut line).ok().filter(|length| *length > 0)?;
        Some(line.trim_end_matches(['\r', '\n']).to_owned())
    };
    let first = line()?;
    let mut headers = Vec::new();
    loop {
        let line = line()?;
        let Some((name, value)) = line.split_once(':') else { break };
        headers.push((name.to_owned(), value.trim().to_owned()));
    }
    let mut request = Received { line: first, headers, body: String::new() };
    if let [length] = request.all("content-length")[..] {
        let mut body = vec![0; length.parse().unwrap()];
        from.read_exact(&mut body).unwrap();
        request.body = String::from_utf8(body).unwrap();
    } else if request.all("transfer-encoding") == ["chunked"] {
        loop {
            let mut size = String::new();
            from.read_line(&mut size).unwrap();
            let size = usize::from_str_radix(size.trim(), 16).unwrap();
            let mut chunk = vec![0; size + 2];
            from.read_exact(&mut chunk).unwrap();
            if size == 0 {
                break;
            }
            request.body.push_str(std::str::from_utf8(&chunk[..size]).unwrap());
        }
    }
    Some(request)
}

/// A gateway, the gate that it asks, and the model server behind it.
struct Setup {
    gateway: Gateway,
    gate: Gate,
    server: ModelServer,
    /// The token `fraud team`, for `iris*`.
    token: String,
}

impl Setup {
    fn of(program: &Program<'_>, namespace: &str) -> Self {
        let server = ModelServer::start();
        let files = GateFiles::write(&GateSettings {
            profile: "kserve-v2 openai",
            upstream: &format!("http://{}", server.address),
            data: "\n[forward_auth]\nlisten = \"127.0.0.1:0\"",
            namespace,
            ..GateSettings::default()
        });
        let token = files.issue("fraud team", &["iris*"], &["model-evaluation"]);
        let gate = files.start();
        let address = listener_address(&gate.process, "forward_auth");
        let gateway = program.start(&server.address, &address);
        Self { gateway, gate, server, token }
    }

    /// Sends a request with these header lines to the gateway, and says what came of it and what
    /// reached the model server.
    fn ask(&self, path: &str, headers: &[&str], more: &[&str]) -> (CurlAnswer, Vec<Received>) {
        let before = self.server.requests().len();
        let url = format!("{}{path}", self.gateway.url);
        let mut arguments: Vec<&str> = more.to_vec();
        arguments.extend(headers.iter().flat_map(|header| ["--header", header]));
        arguments.extend(["--path-as-is", &url]);
        let answer = curl(&arguments);
        (answer, self.server.requests().split_off(before))
    }

    /// Expects that the model server answers, and gives what it got.
    fn passes(&self, path: &str, headers: &[&str], more: &[&str]) -> Received {
        let (answer, mut received) = self.ask(path, headers, more);
        assert_eq!(answer.status, 200, "{path} {headers:?}: {answer:?}");
        assert_eq!((answer.header_values("x-served-by"), received.len()), (vec!["model"], 1));
        let received = received.remove(0);
        assert!(
            !received.holds(&self.token),
            "{path} {headers:?}: the token arrived: {received:?}"
        );
        received
    }

    /// Expects a refusal, and that the model server gets nothing.
    fn is_refused(&self, path: &str, headers: &[&str], more: &[&str], status: u16) -> CurlAnswer {
        let (answer, received) = self.ask(path, headers, more);
        assert_eq!(answer.status, status, "{path} {headers:?} {more:?}: {answer:?}");
        assert!(received.is_empty(), "{path} {headers:?} {more:?}: {received:?}");
        answer
    }
}

const INFER: &str = "/v2/models/iris/infer";
const POST: &[&str] = &["--json", r#"{"inputs":[]}"#];
const SPOOFED: [&str; 3] = [
    "X-Credential-Identifier: admin",
    "X-Consumer-Username: admin",
    "X-Authenticated-Groups: admin",
];

/// What holds behind every gateway. `bad`: the status it makes of a refusal that is none of 401 and
/// 403.
fn prove(program: &Program<'_>, bad: u16, judges_bodies: bool) -> Setup {
    let setup = Setup::of(program, "");
    let bearer = format!("Authorization: Bearer {}", setup.token);
    let api_key = format!("X-Api-Key: {}", setup.token);
    let id = setup.gate.files.token_id("fraud team");

    // The caller's name, and nothing that the client said of it.
    for credential in [&bearer, &api_key] {
        let headers = [&[credential.as_str()], &SPOOFED[..]].concat();
        let received = setup.passes(INFER, &headers, POST);
        assert_eq!(received.line, format!("POST {INFER} HTTP/1.1"));
        assert_eq!(received.body, r#"{"inputs":[]}"#);
        assert_eq!(received.all("x-credential-identifier"), [id.as_str()]);
        assert_eq!(received.all("x-consumer-username"), ["fraud team"]);
        assert_eq!(received.all("x-authenticated-groups"), ["model-evaluation"]);
        assert!(!received.holds("admin"), "{received:?}");
    }
    // A public route: nobody is named, and what is a credential elsewhere does not arrive.
    let headers = [&[bearer.as_str()], &SPOOFED[..]].concat();
    let received = setup.passes("/v2/health/live", &headers, &[]);
    assert!(!received.holds("admin") && !received.holds(&id), "{received:?}");
    // Another spelling of such a header: taken out or refused.
    for spelling in ["X_Consumer_Username: admin", "X-Consumer_Username: admin"] {
        let (answer, received) = setup.ask(INFER, &[&bearer, spelling], POST);
        let passed = answer.status == 200 && received.iter().all(|own| !own.holds("admin"));
        assert!(passed || (answer.status == bad && received.is_empty()), "{spelling}: {answer:?}");
    }
    let (answer, received) = setup.ask(INFER, &[&bearer, "X-HTTP-Method-Override: DELETE"], POST);
    let passed = answer.status == 200 && received.iter().all(|own| !own.holds("DELETE"));
    assert!(passed || (answer.status == bad && received.is_empty()), "{answer:?}");

    // Refusals.
    let nobody = setup.is_refused(INFER, &[], POST, 401);
    assert_eq!(nobody.header_values("www-authenticate"), ["Bearer realm=\"default\""]);
    let unknown = setup.is_refused(INFER, &["Authorization: Bearer fg_x"], POST, 401);
    let challenge = "Bearer realm=\"default\", error=\"invalid_token\"";
    assert_eq!(unknown.header_values("www-authenticate"), [challenge]);
    setup.is_refused("/v2/models/fraud/infer", &[&bearer], POST, 403);
    setup.is_refused("/v2/repository/models/iris/load", &[&bearer], POST, 403);
    setup.is_refused("/nowhere", &[&bearer], &[], 403);
    // NGINX refuses two such lines itself; Envoy joins them to one of a token that nobody knows.
    let two = if program.name == "envoy" { 401 } else { 400 };
    setup.is_refused(INFER, &[&bearer, "Authorization: Bearer fg_x"], POST, two);
    // A list that only the gate itself can cut down to what the token may see.
    setup.is_refused("/v1/models", &[&bearer], &[], 403);

    // Paths with a second reading, by whichever of the two they are refused.
    for path in [
        "/v2/models/iris/../fraud/infer",
        "/v2/models/iris/%2e%2e/fraud/infer",
        "/v2/models/iris/..%2ffraud/infer",
        "/v2/models//iris/infer",
        "/v2/models/iris;x/infer",
        "/v2/models/%69ris/infer",
        "/v2/models/iris%23/infer",
    ] {
        let (answer, received) = setup.ask(path, &[&bearer], POST);
        assert!([400, 403].contains(&answer.status), "{path}: {answer:?}");
        assert!(received.is_empty(), "{path}: {received:?}");
    }

    // Who names another request in the headers by which gateways ask does not choose the question.
    for headers in [
        &["X-Forwarded-Method: GET", "X-Forwarded-Uri: /v2/health/live"][..],
        &["X-Original-Method: GET", "X-Original-URI: /v2/health/live"],
        &[
            "X-Forwarded-Method: GET",
            "X-Forwarded-Uri: /v2/health/live",
            "X-Original-Method: GET",
            "X-Original-URI: /v2/health/live",
        ],
        &["X-Forwarded-Uri: /v2/health/live"],
        &["X-Original-URI: /v2/health/live"],
    ] {
        let (answer, received) = setup.ask("/v2/models/fraud/infer", headers, POST);
        assert!([400, 401, 403].contains(&answer.status), "{headers:?}: {answer:?}");
        assert!(received.is_empty(), "{headers:?}: {received:?}");
    }
    // Nor the host: one that is none would be refused.
    setup.passes(INFER, &[&bearer, "X-Forwarded-Host: a/../b"], POST);

    // A model in the body.
    let chat = |model: &str| format!(r#"{{"model":"{model}","messages":[]}}"#);
    let own = chat("iris");
    let ask = ["--json", own.as_str()];
    if judges_bodies {
        let received = setup.passes("/v1/chat/completions", &[&bearer], &ask);
        assert_eq!(received.body, own);
        let chunked = ["Transfer-Encoding: chunked", bearer.as_str()];
        assert_eq!(setup.passes("/v1/chat/completions", &chunked, &ask).body, own);
        let twice = r#"{"model":"iris","model":"fraud"}"#;
        setup.is_refused("/v1/chat/completions", &[&bearer], &["--json", twice], bad);
    } else {
        setup.is_refused("/v1/chat/completions", &[&bearer], &ask, 403);
    }
    let other = chat("fraud");
    setup.is_refused("/v1/chat/completions", &[&bearer], &["--json", &other], 403);
    setup
}

#[test]
fn nginx_asks() {
    prove(&nginx(), 403, false);
}

#[test]
fn caddy_asks() {
    prove(&caddy(), 400, false);
}

#[test]
fn envoy_asks_by_http() {
    prove(&envoy(1), 400, true);
}

#[test]
fn envoy_asks_by_grpc() {
    let setup = prove(&envoy(0), 400, true);
    // A client that speaks gRPC is refused in its own way.
    let more = ["--http2-prior-knowledge", "--request", "POST"];
    let headers = ["Content-Type: application/grpc", "TE: trailers"];
    let path = "/inference.GRPCInferenceService/ModelInfer";
    let answer = setup.is_refused(path, &headers, &more, 200);
    assert_eq!(answer.header_values("grpc-status"), ["16"]);
    assert_eq!(answer.header_values("content-type"), ["application/grpc"]);
    assert!(answer.header_values("grpc-message")[0].starts_with("A token is needed"));
    // What is refused says why, in the dialect of the route.
    let bearer = format!("Authorization: Bearer {}", setup.token);
    let answer = setup.is_refused("/v1/models/fraud", &[&bearer], &[], 403);
    assert_eq!(answer.json()["error"]["code"], "resource_not_allowed");
    assert_eq!(answer.header_values("faregate-reason"), ["resource_not_allowed"]);
}

#[test]
fn envoy_takes_a_credential_out_wherever_it_is() {
    let setup = Setup::of(
        &envoy(0),
        "credentials = [\"query:access_token\", \"cookie:token\", \"websocket-protocol\"]",
    );
    let token = &setup.token;
    let received = setup.passes(&format!("{INFER}?b=%41&access_token={token}&a=;x"), &[], POST);
    assert_eq!(received.line, format!("POST {INFER}?b=%41&a=;x HTTP/1.1"));
    let cookies = [format!("Cookie: a=b; token={token}"), "Cookie: c=d".to_owned()];
    let received = setup.passes(INFER, &[&cookies[0], &cookies[1]], POST);
    assert_eq!(received.all("cookie").join("; "), "a=b; c=d");
    let received = setup.passes(INFER, &[&format!("Cookie: token={token}")], POST);
    assert!(received.all("cookie").is_empty(), "{received:?}");
}
