//! Who changed what through the admin API: one line of JSON for each change, and for each key that
//! was refused.

use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::Duration;

use tokio::sync::oneshot;

use super::logging::{json_text, now, tellable};
use crate::settings::AuditLog;

/// Where audit lines go.
#[derive(Debug)]
pub struct Audit {
    to: AuditLog,
    /// Whether the last line could not be written: told once, not with every line.
    is_failing: AtomicBool,
    /// Whether the last line was cut off, by a full disk mostly.
    is_torn: AtomicBool,
}

/// Why the audit log cannot be written to.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// It cannot be opened for appending.
    #[error(
        "the audit log {} cannot be appended to: {source}; let this user write it and its folder, \
         or choose another `audit_log` in `[admin]`",
        path.display()
    )]
    Open {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It is a symbolic link: who may lay links in its folder could choose what is written to.
    #[error(
        "the audit log {} is a symbolic link; name the real file in `audit_log` of `[admin]`",
        path.display()
    )]
    Link {
        /// The link.
        path: PathBuf,
    },
    /// It is a folder, a pipe or a device.
    #[error(
        "the audit log {} is no regular file; name another in `audit_log` of `[admin]`, or \
         \"stderr\"",
        path.display()
    )]
    NotAFile {
        /// What is no file.
        path: PathBuf,
    },
}

/// What somebody did, or tried to do.
#[derive(Debug, Clone, Copy)]
pub struct AuditEntry<'e> {
    /// Whose key it was; none when the key was refused.
    pub administrator: Option<&'e str>,
    /// Where the request came from.
    pub address: IpAddr,
    /// What was asked for.
    pub action: &'static str,
    /// The namespace it was about.
    pub namespace: Option<&'e str>,
    /// The token it was about.
    pub token_id: Option<&'e str>,
    /// Names of the fields that were given new values; never the values.
    pub changed_fields: &'e [&'static str],
    /// Finds the request in the log.
    pub request_id: &'e str,
    /// What came of it.
    pub outcome: &'static str,
}

impl Audit {
    /// Makes sure that lines can be written.
    ///
    /// # Errors
    /// When the file is there and is no regular file, or it cannot be appended to, or made.
    pub fn open(to: &AuditLog) -> Result<Self, AuditError> {
        if let AuditLog::File(path) = to {
            open_file(path)?;
        }
        Ok(Self { to: to.clone(), is_failing: false.into(), is_torn: false.into() })
    }

    /// Writes one line. This waits for the disk; call it where that stops nobody else.
    ///
    /// A line that cannot be written undoes nothing: what it tells of has happened. It is told in
    /// the log, once until lines are written again.
    pub fn record(&self, entry: &AuditEntry<'_>) {
        self.write(&line(entry));
    }

    fn write(&self, line: &str) {
        let written = match &self.to {
            AuditLog::Stderr => self.append(&mut io::stderr().lock(), line),
            // Opened anew each time, so that what log rotation moved away is not written to.
            AuditLog::File(path) => open_file(path)
                .map_err(io::Error::other)
                .and_then(|mut file| self.append(&mut file, line)),
        };
        match written {
            Ok(()) => {
                if self.is_failing.swap(false, Ordering::Relaxed) {
                    tracing::info!("audit lines are written again");
                }
            }
            Err(error) => {
                if !self.is_failing.swap(true, Ordering::Relaxed) {
                    tracing::error!(
                        %error,
                        "an audit line could not be written; those that follow may be lost too"
                    );
                }
            }
        }
    }

    /// Writes a line by one call, so that lines of several writers never mix.
    fn append(&self, to: &mut impl Write, line: &str) -> io::Result<()> {
        let was_torn = self.is_torn.load(Ordering::Relaxed);
        // The rest of a line that was cut off stays alone on its line.
        let line = if was_torn { format!("\n{line}") } else { line.to_owned() };
        loop {
            match to.write(line.as_bytes()) {
                Ok(written) if written == line.len() => {
                    self.is_torn.store(false, Ordering::Relaxed);
                    return Ok(());
                }
                Ok(written) => {
                    self.is_torn.store(was_torn || written > 0, Ordering::Relaxed);
                    let what = "the line was cut off; there may be no room left";
                    return Err(io::Error::new(io::ErrorKind::WriteZero, what));
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

/// Writes audit lines on a thread of its own: a disk that hangs, or a standard error that nobody
/// reads, holds up who waits for a line, and nobody else.
pub struct AuditWriter {
    lines: SyncSender<(String, oneshot::Sender<()>)>,
    is_full: AtomicBool,
}

/// So many lines may wait to be written; beyond, they are lost, and that is told.
const MAX_WAITING: usize = 1024;

/// How long an answer waits for its line. What it tells of has happened whether it is written or not.
const PATIENCE: Duration = Duration::from_secs(5);

impl AuditWriter {
    /// Starts the thread; it ends with the writer.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn start(audit: Audit) -> io::Result<Self> {
        let (lines, waiting) = sync_channel::<(String, oneshot::Sender<()>)>(MAX_WAITING);
        std::thread::Builder::new().name("audit".into()).spawn(move || {
            for (line, written) in waiting {
                audit.write(&line);
                // Who waited may have gone.
                let _ = written.send(());
            }
        })?;
        Ok(Self { lines, is_full: false.into() })
    }

    /// Has a line written, and waits until it is, or some seconds.
    pub async fn record(&self, entry: &AuditEntry<'_>) {
        let (written, is_written) = oneshot::channel();
        self.send(line(entry), written);
        let waiting = tokio::time::timeout(PATIENCE, is_written);
        if matches!(waiting.await, Err(_) | Ok(Err(_))) {
            tracing::error!("an audit line was not written in time");
        }
    }

    fn send(&self, line: String, written: oneshot::Sender<()>) {
        match self.lines.try_send((line, written)) {
            Ok(()) => self.is_full.store(false, Ordering::Relaxed),
            Err(_) => {
                if !self.is_full.swap(true, Ordering::Relaxed) {
                    tracing::error!("audit lines cannot be written fast enough; some are lost");
                }
            }
        }
    }
}

/// Opens for appending, makes it if it is not there, and follows no link. Does not wait for a
/// reader of a pipe.
fn open_file(path: &Path) -> Result<File, AuditError> {
    let opened = OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(path);
    let file = opened.map_err(|source| match source.raw_os_error() {
        Some(libc::ELOOP) => AuditError::Link { path: path.into() },
        // A folder; a pipe that nobody reads, or a socket.
        Some(libc::EISDIR | libc::ENXIO) => AuditError::NotAFile { path: path.into() },
        _ => AuditError::Open { path: path.into(), source },
    })?;
    let is_file = file.metadata().is_ok_and(|metadata| metadata.is_file());
    is_file.then_some(file).ok_or_else(|| AuditError::NotAFile { path: path.into() })
}

fn line(entry: &AuditEntry<'_>) -> String {
    let text = |text: &str| json_text(tellable(text));
    let or_null = |value: Option<&str>| value.map_or_else(|| "null".into(), text);
    let changed: Vec<String> = entry.changed_fields.iter().map(|field| text(field)).collect();
    let mut line = String::with_capacity(512);
    let _ = write!(line, "{{\"time\":\"{}\",\"level\":\"INFO\",\"message\":\"audit\"", now());
    for (name, value) in [
        ("administrator", or_null(entry.administrator)),
        ("address", text(&entry.address.to_canonical().to_string())),
        ("action", text(entry.action)),
        ("namespace", or_null(entry.namespace)),
        ("token_id", or_null(entry.token_id)),
        ("changed_fields", format!("[{}]", changed.join(","))),
        ("request_id", text(entry.request_id)),
        ("outcome", text(entry.outcome)),
    ] {
        let _ = write!(line, ",\"{name}\":{value}");
    }
    line.push_str("}\n");
    line
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt as _, symlink};
    use std::sync::Arc;
    use std::sync::atomic::AtomicUsize;

    use serde_json::{Value, json};
    use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};
    use tracing_subscriber::registry::Registry;

    use super::*;

    fn entry() -> AuditEntry<'static> {
        AuditEntry {
            administrator: Some("ops"),
            address: IpAddr::from([192, 0, 2, 7]),
            action: "issue",
            namespace: Some("default"),
            token_id: Some("tk_1"),
            changed_fields: &["name", "groups"],
            request_id: "r1",
            outcome: "done",
        }
    }

    fn lines(path: &Path) -> Vec<Value> {
        let text = fs::read_to_string(path).unwrap();
        assert!(text.ends_with('\n'), "{text}");
        text.lines().map(|line| serde_json::from_str(line).expect(line)).collect()
    }

    #[test]
    fn a_line_has_the_documented_fields_in_order() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.log");
        let audit = Audit::open(&AuditLog::File(path.clone())).unwrap();
        audit.record(&entry());
        let nobody = AuditEntry {
            administrator: None,
            address: "::ffff:192.0.2.8".parse().unwrap(),
            namespace: None,
            token_id: None,
            changed_fields: &[],
            ..entry()
        };
        audit.record(&nobody);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);

        let text = fs::read_to_string(&path).unwrap();
        let (before, after) =
            text.split_once("\",\"level\":\"INFO\",\"message\":\"audit\",").unwrap();
        let time = before.strip_prefix("{\"time\":\"").unwrap();
        assert_eq!((time.len(), &time[19..20], &time[23..]), (24, ".", "Z"), "{time}");
        assert!(time.parse::<jiff::Timestamp>().is_ok(), "{time}");
        assert!(after.starts_with(
            "\"administrator\":\"ops\",\"address\":\"192.0.2.7\",\"action\":\"issue\",\
             \"namespace\":\"default\",\"token_id\":\"tk_1\",\"changed_fields\":[\"name\",\
             \"groups\"],\"request_id\":\"r1\",\"outcome\":\"done\"}\n"
        ));
        let second = &lines(&path)[1];
        assert_eq!(second["administrator"], Value::Null);
        assert_eq!(second["address"], "192.0.2.8");
        assert_eq!((&second["namespace"], &second["token_id"]), (&Value::Null, &Value::Null));
        assert_eq!(second["changed_fields"], json!([]));
    }

    #[test]
    fn a_hostile_name_makes_no_line_no_colour_and_leaks_no_secret() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.log");
        let audit = Audit::open(&AuditLog::File(path.clone())).unwrap();
        let name = "a\n{\"outcome\":\"forged\"}\r\u{1b}[31m\u{9b}2J\u{202e} \
                    fg_0123456789abcdefghijklmnopqrstuvwxyzABCD";
        let id = format!("fga_{}", "S".repeat(5000));
        audit.record(&AuditEntry {
            administrator: Some(name),
            namespace: Some(name),
            token_id: Some(&id),
            request_id: name,
            ..entry()
        });
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(text.lines().count(), 1, "{text}");
        assert!(text.trim_end_matches('\n').chars().all(|c| c == ' ' || c.is_ascii_graphic()));
        assert!(!text.contains("0123456789") && !text.contains("SSS"), "{text}");
        let line = &lines(&path)[0];
        let told = name.replace("0123456789abcdefghijklmnopqrstuvwxyzABCD", "[redacted]");
        assert_eq!(line["administrator"], told);
        assert_eq!(line["request_id"], told);
        assert_eq!(line["token_id"], "fga_[redacted]");
    }

    #[test]
    fn a_rotated_file_is_made_anew() {
        let folder = tempfile::tempdir().unwrap();
        let (path, old) = (folder.path().join("audit.log"), folder.path().join("audit.log.1"));
        let audit = Audit::open(&AuditLog::File(path.clone())).unwrap();
        audit.record(&entry());
        fs::rename(&path, &old).unwrap();
        audit.record(&AuditEntry { request_id: "r2", ..entry() });
        assert_eq!(lines(&old).len(), 1);
        assert_eq!(lines(&path)[0]["request_id"], "r2");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn lines_of_many_threads_stay_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.log");
        let audit = Audit::open(&AuditLog::File(path.clone())).unwrap();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..100).for_each(|_| audit.record(&entry())));
            }
        });
        assert_eq!(lines(&path).len(), 400);
    }

    #[test]
    fn what_cannot_be_a_log_is_refused_at_the_start_with_its_name_and_a_remedy() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir(at("folder")).unwrap();
        symlink(at("elsewhere"), at("link")).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
        for (name, told) in [
            ("missing/audit.log", "cannot be appended to: No such file"),
            ("folder", "is no regular file"),
            ("socket", "is no regular file"),
            ("link", "is a symbolic link"),
        ] {
            let error = Audit::open(&AuditLog::File(at(name))).unwrap_err().to_string();
            assert!(error.contains(told) && error.contains("`audit_log`"), "{error}");
            assert!(error.contains(&at(name).display().to_string()), "{error}");
        }
        assert!(!at("elsewhere").exists(), "the link was followed");
        let error = Audit::open(&AuditLog::File("/dev/null".into())).unwrap_err();
        assert!(matches!(error, AuditError::NotAFile { .. }), "{error}");
        assert!(Audit::open(&AuditLog::Stderr).is_ok());
    }

    /// Counts what is told in the log.
    #[derive(Clone, Default)]
    struct Told(Arc<AtomicUsize>);

    impl<S: tracing::Subscriber> Layer<S> for Told {
        fn on_event(&self, _: &tracing::Event<'_>, _: Context<'_, S>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn a_log_that_fails_is_told_once_until_it_works_again() {
        let folder = tempfile::tempdir().unwrap();
        let (inside, away) = (folder.path().join("logs"), folder.path().join("away"));
        fs::create_dir(&inside).unwrap();
        let path = inside.join("audit.log");
        let audit = Audit::open(&AuditLog::File(path.clone())).unwrap();
        let told = Told::default();
        tracing::subscriber::with_default(Registry::default().with(told.clone()), || {
            let count = || {
                audit.record(&entry());
                told.0.swap(0, Ordering::Relaxed)
            };
            assert_eq!(count(), 0);
            for _ in 0..2 {
                fs::rename(&inside, &away).unwrap();
                assert_eq!([count(), count()], [1, 0]);
                fs::rename(&away, &inside).unwrap();
                assert_eq!([count(), count()], [1, 0]);
            }
        });
        assert_eq!(lines(&path).len(), 5);
    }

    /// Takes so many bytes of each write.
    struct Disk {
        room: usize,
        text: Vec<u8>,
        writes: usize,
    }

    impl Write for Disk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.writes += 1;
            let taken = bytes.len().min(self.room);
            self.text.extend(&bytes[..taken]);
            Ok(taken)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_line_is_one_write_and_one_that_was_cut_off_spoils_no_other() {
        let audit = Audit::open(&AuditLog::Stderr).unwrap();
        let mut disk = Disk { room: 4, text: Vec::new(), writes: 0 };
        assert!(audit.append(&mut disk, "line one\n").is_err());
        disk.room = 0;
        assert!(audit.append(&mut disk, "line two\n").is_err());
        disk.room = 100;
        for line in ["line three\n", "line four\n"] {
            audit.append(&mut disk, line).unwrap();
        }
        assert_eq!(String::from_utf8(disk.text).unwrap(), "line\nline three\nline four\n");
        assert_eq!(disk.writes, 4);
    }
}
