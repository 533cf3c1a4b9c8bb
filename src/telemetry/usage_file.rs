//! The use of tokens, kept in a small file beside the token file, so that it is still known after
//! the gate was started anew.
//!
//! For people: no decision looks here, so whoever writes the file can change what is told of the
//! use of tokens, and nothing else. Losing it loses nothing but that. The shape:
//!
//! ```json
//! {"version":1,"tokens":{"tk_…":{"requests":2,"denied":1,"last_used_at":1795515000}}}
//! ```

use std::cell::Cell;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::ffi::OsString;
use std::fs::{self, OpenOptions, Permissions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::usage::{TokenUsage, UsageTable};
use crate::token::TokenId;

/// The shape of the file that this version reads and writes.
const VERSION: u32 = 1;

/// The largest file that is read, in bytes: more than a million tokens.
const MOST_BYTES: u64 = 256 << 20;

/// How often the use is saved: what a crash may lose.
const INTERVAL: Duration = Duration::from_secs(30);

/// A temporary file this old is no longer being written.
const LEFT_BEHIND: Duration = Duration::from_secs(600);

const TEMPORARY_SUFFIX: &str = ".tmp";

/// More requests than this are a file that was made up; adding to it would run over.
const MOST_REQUESTS: u64 = 1 << 62;

/// The file beside a token file.
#[derive(Debug)]
pub struct UsageFile {
    path: PathBuf,
    /// What was written last, to write nothing again.
    written: Cell<Option<blake3::Hash>>,
}

/// What such a file says.
#[derive(Debug, Serialize, Deserialize)]
pub struct SavedUsage {
    version: u32,
    tokens: BTreeMap<String, SavedToken>,
}

/// The use of one token; times are in seconds since 1970, 0 is never.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct SavedToken {
    #[serde(skip_serializing_if = "is_default")]
    requests: u64,
    #[serde(skip_serializing_if = "is_default")]
    denied: u64,
    #[serde(skip_serializing_if = "is_default")]
    would_deny: u64,
    #[serde(skip_serializing_if = "is_default")]
    last_used_at: i64,
    #[serde(skip_serializing_if = "is_default")]
    previous_secret_used: u64,
    #[serde(skip_serializing_if = "is_default")]
    previous_last_used_at: i64,
    #[serde(skip_serializing_if = "is_default")]
    previous_valid_until: i64,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

impl UsageFile {
    /// The file beside the token file: in the real folder, behind all links.
    #[must_use]
    pub fn of(token_file: &Path) -> Self {
        let real = fs::canonicalize(token_file).unwrap_or_else(|_| token_file.to_owned());
        let mut path = OsString::from(real);
        path.push(".usage.json");
        Self { path: path.into(), written: Cell::new(None) }
    }

    /// What was saved. None when there is no such file, or one that cannot be understood, which is
    /// told in the log and never an error.
    #[must_use]
    pub fn load(&self) -> Option<SavedUsage> {
        match self.read() {
            Ok(saved) => saved,
            Err(error) => {
                tracing::warn!(
                    file = %self.path.display(),
                    %error,
                    "the saved use of tokens cannot be read; counting starts at 0"
                );
                None
            }
        }
    }

    fn read(&self) -> io::Result<Option<SavedUsage>> {
        let opened = OpenOptions::new()
            .read(true)
            // A pipe that nobody writes to would hold the start for ever.
            .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY)
            .open(&self.path);
        let file = match opened {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            opened => opened?,
        };
        let invalid = |what: String| io::Error::new(io::ErrorKind::InvalidData, what);
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(invalid("it is no regular file".into()));
        }
        let mut bytes = Vec::new();
        let read = file.take(MOST_BYTES + 1).read_to_end(&mut bytes)?;
        if read as u64 > MOST_BYTES {
            return Err(invalid("it is larger than 256 MiB".into()));
        }
        // Only where it is wrong: the parser's own words quote the file.
        let saved: SavedUsage = serde_json::from_slice(&bytes).map_err(|error| {
            let (line, column) = (error.line(), error.column());
            invalid(format!("line {line}, column {column} is not as this program writes it"))
        })?;
        if saved.version != VERSION {
            return Err(invalid(format!("its version is {}, not {VERSION}", saved.version)));
        }
        Ok(Some(saved))
    }

    /// Saves the use of a namespace's tokens; those that were never used are left out. Does nothing
    /// when nothing changed since the last time.
    ///
    /// At every instant there is the whole old file or the whole new one. It is not synced: a power
    /// cut may lose it.
    ///
    /// # Errors
    /// When the file cannot be written; the old one stays.
    pub fn save(&self, table: &UsageTable, namespace: &str) -> io::Result<()> {
        let tokens: BTreeMap<String, SavedToken> = table
            .of_namespace(namespace)
            .into_iter()
            .filter(|(_, usage)| usage.has_any())
            .map(|(id, usage)| (id.as_str().to_owned(), SavedToken::of(&usage)))
            .collect();
        if tokens.is_empty() && fs::symlink_metadata(&self.path).is_err() {
            return Ok(());
        }
        let text = serde_json::to_vec(&SavedUsage { version: VERSION, tokens })?;
        let hash = blake3::hash(&text);
        if self.written.get() == Some(hash) {
            return Ok(());
        }
        self.write(&text)?;
        self.written.set(Some(hash));
        Ok(())
    }

    fn write(&self, text: &[u8]) -> io::Result<()> {
        let (folder, prefix) = self.temporary().ok_or(io::ErrorKind::InvalidFilename)?;
        // Made with `O_EXCL` and renamed: no link is followed, not even one in the file's place.
        let mut temporary = tempfile::Builder::new()
            .prefix(&prefix)
            .suffix(TEMPORARY_SUFFIX)
            .permissions(Permissions::from_mode(0o600))
            .tempfile_in(folder)?;
        temporary.write_all(text)?;
        temporary.persist(&self.path).map(drop).map_err(|error| error.error)
    }

    /// The folder of temporary files, and what their names start with.
    fn temporary(&self) -> Option<(&Path, OsString)> {
        let mut prefix = OsString::from(".");
        prefix.push(self.path.file_name()?);
        prefix.push("-");
        Some((self.path.parent()?, prefix))
    }

    /// Removes what a process left behind that was killed while it saved. Others may be saving at
    /// this moment, so young files stay.
    fn sweep(&self) {
        let Some((folder, prefix)) = self.temporary() else { return };
        let Ok(entries) = fs::read_dir(folder) else { return };
        for entry in entries.flatten() {
            let name = entry.file_name();
            let name = name.as_encoded_bytes();
            let is_ours = name.starts_with(prefix.as_encoded_bytes())
                && name.ends_with(TEMPORARY_SUFFIX.as_bytes());
            let is_old = || {
                let changed = entry.metadata().ok().filter(|found| found.is_file())?.modified();
                let age = SystemTime::now().duration_since(changed.ok()?).ok()?;
                Some(age > LEFT_BEHIND)
            };
            if is_ours && is_old() == Some(true) {
                // What cannot be removed is in nobody's way.
                let _ = fs::remove_file(entry.path());
            }
        }
    }
}

impl SavedToken {
    fn of(usage: &TokenUsage) -> Self {
        Self {
            requests: usage.allowed.load(Ordering::Relaxed),
            denied: usage.denied.load(Ordering::Relaxed),
            would_deny: usage.would_deny.load(Ordering::Relaxed),
            last_used_at: usage.last_used.load(Ordering::Relaxed),
            previous_secret_used: usage.previous_secret.load(Ordering::Relaxed),
            previous_last_used_at: usage.previous_last_used.load(Ordering::Relaxed),
            previous_valid_until: usage.previous_valid_until.load(Ordering::Relaxed),
        }
    }

    fn add_to(&self, usage: &TokenUsage) {
        for (saved, count) in [
            (self.requests, &usage.allowed),
            (self.denied, &usage.denied),
            (self.would_deny, &usage.would_deny),
            (self.previous_secret_used, &usage.previous_secret),
        ] {
            count.fetch_add(saved.min(MOST_REQUESTS), Ordering::Relaxed);
        }
        let date = |at: i64| jiff::Timestamp::from_second(at).map_or(0, |_| at.max(0));
        usage.last_used.fetch_max(date(self.last_used_at), Ordering::Relaxed);
        // Regenerated while the gate was down: what was noted is of a secret that is gone.
        if usage.previous_valid_until.load(Ordering::Relaxed) == self.previous_valid_until {
            usage.previous_last_used.fetch_max(date(self.previous_last_used_at), Ordering::Relaxed);
        }
    }
}

impl UsageTable {
    /// Adds what was saved to the counters of those tokens of a namespace that have counted nothing
    /// yet. Tokens that are not there are left out.
    pub fn restore(&self, namespace: &Arc<str>, saved: SavedUsage) {
        for (id, token) in saved.tokens {
            let usage = TokenId::parse(&id).ok().and_then(|id| self.of_token(namespace, id));
            if let Some(usage) = usage.filter(|usage| !usage.has_any()) {
                token.add_to(&usage);
            }
        }
    }
}

/// Saves the use of tokens from time to time, on a thread of its own.
#[derive(Debug)]
pub struct UsageSaver {
    stop: Sender<()>,
    thread: JoinHandle<()>,
}

impl UsageSaver {
    /// Starts saving. `source` tells which namespaces there are, each with its token file; it is
    /// asked every time. A namespace that it tells for the first time gets what its file says.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn start(
        table: Arc<UsageTable>,
        source: impl Fn() -> Vec<(Arc<str>, PathBuf)> + Send + 'static,
    ) -> io::Result<Self> {
        let (stop, stopped) = channel();
        let thread = std::thread::Builder::new()
            .name("usage-saver".into())
            .spawn(move || Saving::new(table).until(&stopped, source))?;
        Ok(Self { stop, thread })
    }

    /// Saves a last time and stops.
    pub fn stop(self) {
        let Self { stop, thread } = self;
        drop(stop);
        if thread.join().is_err() {
            tracing::warn!("the last use of tokens was not saved");
        }
    }
}

/// What the thread does.
struct Saving {
    table: Arc<UsageTable>,
    files: HashMap<Arc<str>, UsageFile>,
    /// Namespaces of which it was told that their use cannot be saved.
    told: HashSet<Arc<str>>,
}

impl Saving {
    fn new(table: Arc<UsageTable>) -> Self {
        Self { table, files: HashMap::new(), told: HashSet::new() }
    }

    fn until(mut self, stopped: &Receiver<()>, source: impl Fn() -> Vec<(Arc<str>, PathBuf)>) {
        // Nothing is ever sent: the other end goes away.
        while stopped.recv_timeout(INTERVAL) == Err(RecvTimeoutError::Timeout) {
            self.save_all(source());
        }
        self.save_all(source());
    }

    fn save_all(&mut self, namespaces: Vec<(Arc<str>, PathBuf)>) {
        let mut before = std::mem::take(&mut self.files);
        let mut taken = HashSet::new();
        for (namespace, tokens) in namespaces {
            let file = self.file(&namespace, &tokens, before.remove(&namespace));
            // Two namespaces with one token file, by way of a link: the first one has it.
            if taken.insert(file.path.clone()) {
                self.save(&namespace, &file);
            }
            self.files.insert(namespace, file);
        }
    }

    fn file(&self, namespace: &Arc<str>, tokens: &Path, before: Option<UsageFile>) -> UsageFile {
        let now = UsageFile::of(tokens);
        if let Some(before) = before
            // Somebody is replacing it, so where its links lead cannot be seen.
            && (before.path == now.path || !tokens.exists())
        {
            return before;
        }
        now.sweep();
        if let Some(saved) = now.load() {
            self.table.restore(namespace, saved);
        }
        now
    }

    fn save(&mut self, namespace: &Arc<str>, file: &UsageFile) {
        match file.save(&self.table, namespace) {
            Ok(()) => {}
            Err(error) if self.told.insert(Arc::clone(namespace)) => {
                tracing::info!(
                    namespace = &**namespace,
                    file = %file.path.display(),
                    %error,
                    "the use of tokens cannot be saved; it is lost when the gate stops"
                );
            }
            Err(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt as _, symlink};
    use std::sync::atomic::AtomicUsize;

    use tempfile::TempDir;
    use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};
    use tracing_subscriber::registry::Registry;

    use super::*;
    use crate::policy::{
        Ask, Caller, Moment, Origin, Policy, RequestPath, RouteSpec, RouteTable, Rules, compile,
    };
    use crate::strict_toml::read_token_file;
    use crate::token::{Presented, Secret, SecretKind};

    const GRACE: &str = "2100-01-01T00:00:00Z";
    const LATER_GRACE: &str = "2100-01-02T00:00:00Z";

    fn secret(of: u8) -> Secret {
        Secret::from_entropy(SecretKind::Token, &[of; _])
    }

    /// The token `on` may be used, `off` is switched off, `old` has expired.
    fn policy(grace: &str) -> Policy {
        let hash = |of: u8| secret(of).digest().to_file_form();
        let rights = "groups = [\"g\"]\nresources = [\"iris\"]";
        let text = format!(
            "version = 1\n\
             [[token]]\nid = \"on\"\nhash = \"{}\"\n{rights}\n\
             previous = {{ hash = \"{}\", valid_until = {grace} }}\n\
             [[token]]\nid = \"off\"\nhash = \"{}\"\n{rights}\ndisabled = true\n\
             [[token]]\nid = \"old\"\nhash = \"{}\"\n{rights}\nexpires_at = 2020-01-01T00:00:00Z\n",
            hash(1),
            hash(2),
            hash(3),
            hash(4),
        );
        let mut routes = RouteTable::new();
        let route = RouteSpec {
            methods: vec!["GET".into()],
            path: "/{model}".into(),
            group: "g".into(),
            ..RouteSpec::default()
        };
        routes.add(Origin::Own, &route).unwrap();
        let rules = Rules { routes, default_model: None, enforce: true };
        compile(&read_token_file(&text).unwrap(), Arc::new(rules)).ok().unwrap().policy
    }

    fn without_tokens() -> Policy {
        let document = crate::policy::Document::default();
        compile(&document, Arc::default()).ok().unwrap().policy
    }

    /// What the law says to each secret, for each of two models.
    fn decisions(policy: &Policy) -> Vec<String> {
        let ask = |of, path| {
            let secret = secret(of).reveal();
            let decision = policy.decide(&Ask {
                method: "GET",
                path: RequestPath::parse(path).unwrap(),
                query: None,
                caller: Caller::Secret { secret: Presented::new(secret.as_bytes()), user: "" },
                now: Moment(1_795_515_000),
            });
            format!("{decision:?}")
        };
        (1..=5).flat_map(|of| [ask(of, "/iris"), ask(of, "/other")]).collect()
    }

    /// A table with the tokens of the policy in a namespace, and a folder with a token file.
    struct World {
        folder: TempDir,
        table: Arc<UsageTable>,
        namespace: Arc<str>,
        used: Vec<Arc<TokenUsage>>,
    }

    impl World {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            fs::write(folder.path().join("tokens.toml"), "").unwrap();
            let world = Self {
                folder,
                table: Arc::default(),
                namespace: "default".into(),
                used: Vec::new(),
            };
            world.restarted(GRACE)
        }

        /// The same folder, with nothing counted.
        fn restarted(self, grace: &str) -> Self {
            let table: Arc<UsageTable> = Arc::default();
            let used = table.adopt(&self.namespace, &policy(grace));
            Self { table, used, ..self }
        }

        fn tokens(&self) -> PathBuf {
            self.folder.path().join("tokens.toml")
        }

        fn path(&self) -> PathBuf {
            self.folder.path().join("tokens.toml.usage.json")
        }

        fn file(&self) -> UsageFile {
            UsageFile::of(&self.tokens())
        }

        fn save(&self) {
            self.file().save(&self.table, &self.namespace).unwrap();
        }

        fn restore(&self) {
            self.table.restore(&self.namespace, self.file().load().unwrap());
        }

        /// Of the token at this place: what the file keeps.
        fn counted(&self, place: usize) -> String {
            serde_json::to_string(&SavedToken::of(&self.used[place])).unwrap()
        }

        fn files(&self) -> Vec<OsString> {
            let entries = fs::read_dir(self.folder.path()).unwrap();
            let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
            names.sort();
            names
        }
    }

    /// 2100-01-01T00:00:00Z.
    const GRACE_SECONDS: i64 = 4_102_444_800;

    #[test]
    fn what_is_saved_is_counted_again_after_a_restart() {
        let world = World::new();
        world.used[0].count_allowed(Moment(10), true);
        world.used[0].count_allowed(Moment(20), false);
        world.used[0].denied.store(3, Ordering::Relaxed);
        world.used[1].would_deny.store(4, Ordering::Relaxed);
        world.save();
        let text = fs::read_to_string(world.path()).unwrap();
        let on = format!(
            "{{\"requests\":2,\"denied\":3,\"last_used_at\":20,\"previous_secret_used\":1,\
             \"previous_last_used_at\":10,\"previous_valid_until\":{GRACE_SECONDS}}}"
        );
        // `old` was never used.
        let expected =
            format!("{{\"version\":1,\"tokens\":{{\"off\":{{\"would_deny\":4}},\"on\":{on}}}}}");
        assert_eq!(text, expected);
        assert_eq!(fs::metadata(world.path()).unwrap().mode() & 0o777, 0o600);

        let world = world.restarted(GRACE);
        world.restore();
        assert_eq!(world.counted(0), on);
        assert_eq!(world.counted(1), "{\"would_deny\":4}");
        world.used[0].count_allowed(Moment(30), false);
        // Again: what has counted keeps its count.
        world.restore();
        assert_eq!(world.used[0].allowed.load(Ordering::Relaxed), 3);
        assert_eq!(world.used[0].last_used.load(Ordering::Relaxed), 30);
    }

    #[test]
    fn the_last_use_of_a_secret_that_is_gone_is_not_told_of_its_successor() {
        let world = World::new();
        world.used[0].count_allowed(Moment(10), true);
        world.save();
        let world = world.restarted(LATER_GRACE);
        world.restore();
        assert_eq!(world.used[0].previous_last_used.load(Ordering::Relaxed), 0);
        assert_eq!(world.used[0].previous_secret.load(Ordering::Relaxed), 1);
        assert_eq!(world.used[0].last_used.load(Ordering::Relaxed), 10);
    }

    #[test]
    fn nothing_is_written_where_nothing_changed() {
        let world = World::new();
        let file = world.file();
        let save = || {
            file.save(&world.table, &world.namespace).unwrap();
            fs::metadata(world.path()).map(|metadata| (metadata.ino(), metadata.ctime_nsec())).ok()
        };
        assert_eq!(save(), None, "nothing was used");
        world.used[0].count_allowed(Moment(10), false);
        let first = save();
        assert!(first.is_some());
        assert_eq!(save(), first);
        world.used[0].count_allowed(Moment(10), false);
        assert_ne!(save(), first);
        assert_eq!(world.files(), ["tokens.toml", "tokens.toml.usage.json"]);
        // Tokens that were deleted leave the file too.
        let _ = world.table.adopt(&world.namespace, &without_tokens());
        save();
        let text = fs::read_to_string(world.path()).unwrap();
        assert_eq!(text, "{\"version\":1,\"tokens\":{}}");
    }
    #[test]
    fn the_file_stands_beside_the_real_file_and_links_are_not_followed() {
        let world = World::new();
        world.used[0].count_allowed(Moment(10), false);
        let elsewhere = tempfile::tempdir().unwrap();
        let link = elsewhere.path().join("link.toml");
        symlink(world.tokens(), &link).unwrap();
        let file = UsageFile::of(&link);
        let victim = elsewhere.path().join("victim");
        fs::write(&victim, "{\"version\":1,\"tokens\":{\"on\":{\"requests\":9}}}").unwrap();
        symlink(&victim, world.path()).unwrap();

        assert!(file.load().is_none());
        file.save(&world.table, &world.namespace).unwrap();
        assert!(fs::read_to_string(&victim).unwrap().contains(":9"), "written through the link");
        assert!(fs::symlink_metadata(world.path()).unwrap().is_file());
        assert!(file.load().is_some());
    }

    /// Counts what is told in the log.
    #[derive(Clone, Default)]
    struct Told(Arc<AtomicUsize>);

    impl<S: tracing::Subscriber> Layer<S> for Told {
        fn on_event(&self, _: &tracing::Event<'_>, _: Context<'_, S>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How many lines are logged while `act` runs.
    fn lines_of(act: impl FnOnce()) -> usize {
        let told = Told::default();
        let subscriber = Registry::default().with(told.clone());
        tracing::subscriber::with_default(subscriber, act);
        told.0.load(Ordering::Relaxed)
    }

    #[test]
    fn a_file_that_cannot_be_understood_is_told_and_left_out() {
        let world = World::new();
        assert_eq!(lines_of(|| assert!(world.file().load().is_none())), 0, "there is none");
        let deep = "[".repeat(100_000);
        for text in [
            "",
            "\0\0\0\0",
            "{}",
            "[]",
            "{\"version\":1}",
            "{\"version\":2,\"tokens\":{}}",
            "{\"version\":1,\"tokens\":{\"on\":{\"requests\":-1}}}",
            "{\"version\":1,\"tokens\":{\"on\":{\"requests\":1e400}}}",
            "{\"version\":1,\"tokens\":{\"on\":{\"requests\":1}}",
            &deep,
        ] {
            fs::write(world.path(), text).unwrap();
            let told = lines_of(|| assert!(world.file().load().is_none(), "{text:.80}"));
            assert_eq!(told, 1, "{text:.80}");
        }
        // Sparse: it has no blocks on disk.
        fs::File::create(world.path()).unwrap().set_len(MOST_BYTES + 1).unwrap();
        assert_eq!(lines_of(|| assert!(world.file().load().is_none())), 1);
        fs::remove_file(world.path()).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(world.path()).unwrap();
        assert_eq!(lines_of(|| assert!(world.file().load().is_none())), 1);
    }

    #[test]
    fn a_forged_file_changes_no_decision_and_adds_no_token() {
        let policy = policy(GRACE);
        let before = decisions(&policy);
        assert_eq!(before.iter().filter(|said| said.starts_with("Allow")).count(), 2, "{before:?}");
        let world = World::new();
        let claims = "\"requests\":18446744073709551615,\"denied\":18446744073709551615,\
                      \"last_used_at\":9223372036854775807,\"previous_last_used_at\":-5,\
                      \"previous_valid_until\":9223372036854775807,\"disabled\":false,\
                      \"expires_at\":null,\"resources\":[\"*\"],\"groups\":[\"g\"]";
        let hash = secret(5).digest().to_file_form();
        let tokens = ["on", "off", "old", "new", "../../etc", "on\\n", ""]
            .map(|id| format!("\"{id}\":{{{claims},\"hash\":\"{hash}\"}}"));
        let text = format!("{{\"version\":1,\"tokens\":{{{}}}}}", tokens.join(","));
        fs::write(world.path(), text).unwrap();
        world.restore();

        assert_eq!(decisions(&policy), before);
        assert_eq!(world.table.len(), 3);
        for used in &world.used {
            // Counting on neither overflows nor shows a time that no calendar has.
            used.count_allowed(Moment(1), true);
            assert_eq!(used.allowed.load(Ordering::Relaxed), MOST_REQUESTS + 1);
            assert_eq!(used.last_used.load(Ordering::Relaxed), 1);
        }
        let again = world.table.adopt(&world.namespace, &policy);
        assert_eq!(again[0].expires_at.load(Ordering::Relaxed), 0);
        assert_eq!(again[0].previous_valid_until.load(Ordering::Relaxed), GRACE_SECONDS);
        assert_eq!(decisions(&policy), before);
    }

    #[test]
    fn the_saver_saves_when_it_is_stopped() {
        let world = World::new();
        let files = vec![(Arc::clone(&world.namespace), world.tokens())];
        let saver = UsageSaver::start(Arc::clone(&world.table), move || files.clone()).unwrap();
        world.used[0].count_allowed(Moment(10), false);
        saver.stop();
        assert!(fs::read_to_string(world.path()).unwrap().contains("\"requests\":1"));
    }

    #[test]
    fn a_namespace_that_came_with_new_settings_gets_what_was_saved() {
        let world = World::new();
        world.used[0].count_allowed(Moment(10), false);
        world.save();
        let before = fs::read_to_string(world.path()).unwrap();
        let world = world.restarted(GRACE);
        let mut saving = Saving::new(Arc::clone(&world.table));
        let namespaces = || vec![(Arc::clone(&world.namespace), world.tokens())];
        saving.save_all(namespaces());
        assert_eq!(world.used[0].allowed.load(Ordering::Relaxed), 1);
        assert_eq!(fs::read_to_string(world.path()).unwrap(), before);
        // While an editor replaces the token file, the file beside it stays the same one.
        fs::remove_file(world.tokens()).unwrap();
        world.used[0].count_allowed(Moment(20), false);
        saving.save_all(namespaces());
        assert!(fs::read_to_string(world.path()).unwrap().contains("\"requests\":2"));
        // And it went, with its namespace.
        saving.save_all(Vec::new());
        assert!(saving.files.is_empty());
    }

    #[test]
    fn two_namespaces_with_one_token_file_do_not_overwrite_each_other() {
        let world = World::new();
        world.used[0].count_allowed(Moment(10), false);
        let link = world.folder.path().join("link.toml");
        symlink(world.tokens(), &link).unwrap();
        let other: Arc<str> = "other".into();
        let _ = world.table.adopt(&other, &policy(GRACE));
        let mut saving = Saving::new(Arc::clone(&world.table));
        for _ in 0..2 {
            saving.save_all(vec![
                (Arc::clone(&world.namespace), world.tokens()),
                (Arc::clone(&other), link.clone()),
            ]);
            assert!(fs::read_to_string(world.path()).unwrap().contains("\"requests\":1"));
        }
    }

    #[test]
    fn a_folder_that_cannot_be_written_is_told_once() {
        let world = World::new();
        world.used[0].count_allowed(Moment(10), false);
        let missing = world.folder.path().join("missing/tokens.toml");
        let mut saving = Saving::new(Arc::clone(&world.table));
        let mut round = || {
            saving.save_all(vec![(Arc::clone(&world.namespace), missing.clone())]);
        };
        assert_eq!(lines_of(&mut round), 1);
        assert_eq!(lines_of(&mut round), 0);
    }

    #[test]
    fn what_a_killed_process_left_is_removed_and_what_is_being_written_is_not() {
        let world = World::new();
        let at = |name: &str| world.folder.path().join(name);
        let old = SystemTime::now() - 2 * LEFT_BEHIND;
        for (name, is_old) in [
            (".tokens.toml.usage.json-a.tmp", true),
            (".tokens.toml.usage.json-b.tmp", false),
            (".tokens.toml.faregate-c.tmp", true),
            (".tokens.toml.usage.json-d", true),
        ] {
            let file = fs::File::create(at(name)).unwrap();
            if is_old {
                file.set_modified(old).unwrap();
            }
        }
        Saving::new(Arc::clone(&world.table))
            .save_all(vec![(Arc::clone(&world.namespace), world.tokens())]);
        assert_eq!(
            world.files(),
            [
                ".tokens.toml.faregate-c.tmp",
                ".tokens.toml.usage.json-b.tmp",
                ".tokens.toml.usage.json-d",
                "tokens.toml",
            ]
        );
    }
}
