//! `faregate demo`: a model server, the gate before it, and files to look at, in one process.

mod iris;
pub mod model_server;

use std::fs;
use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use zeroize::Zeroizing;

use crate::app::{self, Open};
use crate::live;
use crate::policy::amend::{self, Entropy, NewToken};
use crate::policy::{Moment, Rules};
use crate::settings::Settings;
use crate::store::file::FileStore;

/// Days until the demo's token expires.
const TOKEN_DAYS: i64 = 30;

/// Runs the demo until Ctrl-C. Its files go into `dir`, which must not hold a demo yet, or into a
/// temporary folder that is removed at the end.
#[must_use]
pub fn run(dir: Option<&Path>) -> ExitCode {
    match prepare(dir) {
        Ok(demo) => demo.run(),
        Err(error) => {
            // Standard error is all there is to tell it to.
            let _ = writeln!(std::io::stderr(), "the demo cannot start: {error}");
            ExitCode::FAILURE
        }
    }
}

type DemoError = Box<dyn std::error::Error>;

struct Demo {
    model_server: TcpListener,
    settings: PathBuf,
    admin_key: Zeroizing<String>,
    token: Zeroizing<String>,
    /// Removed on drop.
    _temporary: Option<tempfile::TempDir>,
}

fn prepare(dir: Option<&Path>) -> Result<Demo, DemoError> {
    let (folder, temporary) = match dir {
        Some(dir) => {
            fs::create_dir_all(dir)?;
            (dir.to_owned(), None)
        }
        None => {
            let temporary = tempfile::Builder::new().prefix("faregate-demo-").tempdir()?;
            (temporary.path().to_owned(), Some(temporary))
        }
    };
    let model_server = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    model_server.set_nonblocking(true)?;
    let text = settings_text(model_server.local_addr()?);
    let (settings, tokens) = (folder.join("faregate.toml"), folder.join("tokens.toml"));
    write_new(&settings, 0o644, &text)?;
    write_new(&tokens, 0o600, TOKENS)?;
    let read = Settings::from_text(&text, &settings)?;
    let rules = read.settings.namespaces.first().map(|namespace| Arc::clone(&namespace.rules));
    let rules = rules.ok_or("its settings have no namespace")?;
    let store = FileStore::new(tokens);
    let (admin_key, token) = (issue_admin_key(&store, &rules)?, issue_token(&store, &rules)?);
    Ok(Demo { model_server, settings, admin_key, token, _temporary: temporary })
}

fn issue_admin_key(store: &FileStore, rules: &Arc<Rules>) -> Result<Zeroizing<String>, DemoError> {
    let entropy = entropy()?;
    let committed =
        store.commit(None, rules, |document| amend::issue_admin_key(document, "demo", &entropy))?;
    Ok(committed.value.reveal())
}

fn issue_token(store: &FileStore, rules: &Arc<Rules>) -> Result<Zeroizing<String>, DemoError> {
    let entropy = entropy()?;
    let now = live::now();
    let new = NewToken {
        name: Some("demo".into()),
        resources: vec!["iris*".into()],
        groups: vec!["model-evaluation".into()],
        expires_at: Some(Moment(now.0 + TOKEN_DAYS * 24 * 60 * 60)),
        ..NewToken::default()
    };
    let committed = store
        .commit(None, rules, |document| Ok(amend::issue(document, new.clone(), &entropy, now)))?;
    Ok(committed.value.reveal())
}

fn entropy() -> Result<Entropy, getrandom::Error> {
    let mut entropy = Entropy { secret: [0; 32], id: [0; 16] };
    getrandom::fill(&mut entropy.secret)?;
    getrandom::fill(&mut entropy.id)?;
    Ok(entropy)
}

fn write_new(path: &Path, mode: u32, text: &str) -> Result<(), DemoError> {
    let opened = fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(path);
    let mut file =
        opened.map_err(|error| format!("{}: {error}; choose another folder", path.display()))?;
    file.write_all(text.as_bytes())?;
    Ok(())
}

const TOKENS: &str = "\
# Who may do what. Made by `faregate demo`; edit it while the demo runs and see.
version = 1
";

fn settings_text(model_server: SocketAddr) -> String {
    let [data, admin, ops] = [8080, 9901, 9902].map(free_address);
    format!(
        "\
# Made by `faregate demo`: the iris classifier behind the gate.

[data]
listen = \"{data}\"

[admin]
listen = \"{admin}\"

[ops]
listen = \"{ops}\"

[log]
format = \"text\"

[drain]
delay   = \"0s\"
timeout = \"2s\"

[[namespace]]
name     = \"default\"
hosts    = [\"*\"]
tokens   = \"tokens.toml\"
profiles = [\"ovh\"]

[namespace.upstream]
endpoints = [\"http://{model_server}\"]
"
    )
}

/// The port that the docs name if nobody uses it, else any.
fn free_address(port: u16) -> SocketAddr {
    let wished = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let is_free = TcpListener::bind(wished).is_ok();
    if is_free { wished } else { SocketAddr::from((Ipv4Addr::LOCALHOST, 0)) }
}

impl Demo {
    fn run(self) -> ExitCode {
        let Self { model_server, settings, admin_key, token, _temporary } = self;
        app::run(&settings.clone(), move |open| {
            if let Ok(listener) = tokio::net::TcpListener::from_std(model_server) {
                let serving = model_server::serve(listener, std::future::pending());
                tokio::task::spawn_local(serving);
            }
            // A demo whose output nobody reads is still a demo.
            let _ = tell(open, &settings, &admin_key, &token);
        })
    }
}

fn tell(open: &Open, settings: &Path, admin_key: &str, token: &str) -> std::io::Result<()> {
    let (data, ops, folder) = (open.data, open.ops, settings.parent().unwrap_or(Path::new(".")));
    let page = open.admin.map_or_else(String::new, |address| format!("http://{address}"));
    let mut out = std::io::stdout().lock();
    writeln!(
        out,
        "\
The gate stands before a model server with one model, the iris classifier.

  Token page            {page}
  Administrator key     {admin_key}

  Clients               http://{data}
  Token                 {token}
  Probes and metrics    http://{ops}
  Settings and tokens   {folder}

Open the token page and sign in with the administrator key: there you issue, regenerate and delete
tokens. The token above is for the models `iris*` and the group `model-evaluation`; it and the key
are shown only now. Paste these lines into another terminal:

# what the model takes and gives
curl -H 'Authorization: Bearer {token}' http://{data}/iris/describe

# which flower is this?
curl -H 'Authorization: Bearer {token}' -d '{{\"sepal_length\":5.1,\"sepal_width\":3.5,\"petal_length\":1.4,\"petal_width\":0.2}}' http://{data}/iris/eval

# without a token: refused (401)
curl -i http://{data}/iris/describe

# another model than the token is for: refused (403)
curl -i -H 'Authorization: Bearer {token}' http://{data}/fraud/describe

# a token of your own, as the page makes it
curl -H 'Authorization: Bearer {admin_key}' -H 'Content-Type: application/json' -d '{{\"name\":\"mine\",\"resources\":[\"iris*\"],\"groups\":[\"model-evaluation\"],\"expires_in\":\"90d\"}}' {page}/api/v1/namespaces/default/tokens

# what the gate counted
curl http://{ops}/metrics

Stop it with Ctrl-C.
",
        folder = folder.display(),
    )?;
    out.flush()
}
