//! A reader of a document: does what it says, step by step, in a folder of its own.

use std::fs;

use tempfile::TempDir;

use super::markdown::{Block, blocks, differs, fits};
use super::model_server::{self, LastRequest};
use super::terminal::{Gate, Shell};

/// Addresses as the docs write them. The system chooses others, since these may be taken.
pub(crate) const DATA: &str = "127.0.0.1:8080";
pub(crate) const ADMIN: &str = "127.0.0.1:9901";
pub(crate) const OPS: &str = "127.0.0.1:9902";
const MODEL_SERVERS: [&str; 3] = ["127.0.0.1:8000", "127.0.0.1:8001", "127.0.0.1:8501"];

pub(crate) struct Session {
    folder: TempDir,
    shell: Shell,
    gate: Option<Gate>,
    last_request: LastRequest,
    /// As the docs write it, and as it is.
    addresses: Vec<(&'static str, String)>,
}

impl Session {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let last_request = LastRequest::default();
        let addresses = MODEL_SERVERS
            .map(|written| (written, model_server::start(&last_request).to_string()))
            .into();
        let programs = folder.path().join(".programs");
        fs::create_dir(&programs).unwrap();
        std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_faregate"), programs.join("faregate"))
            .unwrap();
        // A reader sits at a terminal, where curl shows no progress of such short answers.
        fs::write(folder.path().join(".curlrc"), "silent\nshow-error\nnoproxy = \"*\"\n").unwrap();
        let shell = Shell::start(&folder, &programs);
        Self { folder, shell, gate: None, last_request, addresses }
    }

    /// Where the README's first five minutes end.
    pub(crate) fn after_first_five_minutes() -> Self {
        Self::begun(|_| true)
    }

    fn begun(wanted: impl Fn(&Block) -> bool) -> Self {
        let mut session = Self::new();
        let first = blocks("README.md").into_iter().filter(|block| block.is("start"));
        for block in first.filter(wanted) {
            session.step(&block);
        }
        session
    }

    /// What commands print that no document has.
    pub(crate) fn run(&mut self, commands: &str) -> String {
        let ended = self.shell.run(&self.as_it_is(commands));
        self.as_written(&ended.said)
    }

    /// Does all that a document says. What comes before its first step is what the README's first
    /// five minutes leave: the blocks marked `start` there.
    pub(crate) fn follow(file: &str) {
        let own = blocks(file);
        let serves = own.iter().any(|block| block.language() == "sh" && block.is("serve"));
        let mut session = match file {
            "README.md" => Self::new(),
            _ => Self::begun(|block| !(serves && block.is("serve"))),
        };
        let mut said = String::new();
        for block in own {
            let complaint = match (block.language(), block.info.get(1).map(String::as_str)) {
                ("text", Some("output")) => differs(&block.text, &said),
                ("http", Some("received")) => {
                    let received = session.last_request.lock().unwrap().replace('\r', "");
                    differs(&sorted(&block.text), &sorted(&session.as_written(&received)))
                }
                ("json", Some("log")) => session.not_logged(&block.text),
                _ => {
                    if let Some(output) = session.step(&block) {
                        said = output;
                    }
                    None
                }
            };
            if let Some(complaint) = complaint {
                panic!("{}: this is not what comes\n{complaint}{}", block.place, session.log());
            }
        }
    }

    /// Does what a block says; what it printed, if it is one of commands.
    fn step(&mut self, block: &Block) -> Option<String> {
        if let Some(file) = block.file() {
            let text = [DATA, ADMIN, OPS]
                .iter()
                .fold(block.text.clone(), |text, written| text.replace(written, "127.0.0.1:0"));
            let text = self.as_it_is(&text);
            let path = self.folder.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
            return None;
        }
        if block.language() != "sh" || block.is("elsewhere") {
            return None;
        }
        if block.is("serve") {
            self.serve(block);
            return None;
        }
        let ended = self.shell.run(&self.as_it_is(&block.text));
        let said = self.as_written(&ended.said);
        assert_eq!(
            ended.failed,
            block.is("fails"),
            "{}: a command {}\n{}--- it said:\n{said}\n{}",
            block.place,
            if ended.failed { "failed" } else { "should have failed" },
            block.text,
            self.log()
        );
        Some(said)
    }

    fn serve(&mut self, block: &Block) {
        // A second one in a document takes the place of the first.
        drop(self.gate.take());
        self.addresses.retain(|(written, _)| MODEL_SERVERS.contains(written));
        let gate = Gate::start(&self.folder, &block.text);
        let mut listeners = vec![(DATA, "data"), (OPS, "ops")];
        if self.settings_have_admin(&block.text) {
            listeners.push((ADMIN, "admin"));
        }
        for (written, listener) in listeners {
            self.addresses.push((written, gate.address_of(listener, &block.place).to_string()));
        }
        self.gate = Some(gate);
    }

    /// Whether a gate that is started so opens the admin listener, which it does not have to.
    fn settings_have_admin(&self, serve: &str) -> bool {
        let mut words = serve.split_whitespace().skip_while(|word| *word != "--config");
        let file = words.nth(1).unwrap_or("config/faregate.toml");
        let settings = fs::read_to_string(self.folder.path().join(file)).unwrap();
        settings.lines().any(|line| line.starts_with("[admin]"))
    }

    fn as_it_is(&self, text: &str) -> String {
        self.addresses.iter().fold(text.to_owned(), |text, (written, is)| text.replace(written, is))
    }

    fn as_written(&self, text: &str) -> String {
        let text = text.replace(self.folder.path().to_str().unwrap(), "/path/to");
        self.addresses.iter().fold(text, |text, (written, is)| text.replace(is, written))
    }

    /// The lines of `expected` that the gate's log does not come to hold.
    fn not_logged(&self, expected: &str) -> Option<String> {
        let gate = self.gate.as_ref().expect("a log has a gate");
        let missing: Vec<&str> = expected
            .lines()
            .filter(|wanted| {
                let seen = gate.wait_for_line(|line| fits(wanted, &self.as_written(line)));
                !seen
            })
            .collect();
        (!missing.is_empty()).then(|| format!("never logged:\n{}\n", missing.join("\n")))
    }

    fn log(&self) -> String {
        let lines = self.gate.as_ref().map(Gate::lines).unwrap_or_default();
        format!("--- the gate's log:\n{}", lines.join("\n"))
    }
}

/// A request with its headers in the order of the alphabet: theirs means nothing. `…` among them
/// stands for any others.
fn sorted(request: &str) -> String {
    let (head, body) = request.split_once("\n\n").unwrap_or((request, ""));
    let mut lines: Vec<&str> = head.lines().filter(|line| *line != "…").collect();
    lines[1..].sort_unstable();
    let has_others = head.lines().any(|line| line == "…");
    let head = lines.join(if has_others { "\n…\n" } else { "\n" });
    format!("{head}\n{}\n{body}", if has_others { "…" } else { "" })
}
