use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Hints at a file's change without reading it.
///
/// Only a hint: what counts is the content. It is a look at the file's metadata, several times a
/// second, rather than inotify: a mounted `ConfigMap` gives inotify one event and then none, network
/// file systems give none at all, and four `stat` calls a second cost nothing.
pub struct Watch {
    path: PathBuf,
    noted: Option<Fingerprint>,
    noted_at: SystemTime,
}

/// What changes when a file is replaced or written. The inode's change time cannot be set back by
/// anybody, unlike the modification time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Fingerprint {
    device: u64,
    inode: u64,
    size: u64,
    changed: (i64, i64),
}

/// Two writes within this time may leave one change time: clocks of file systems tick slowly.
const TICK: Duration = Duration::from_secs(1);

impl Watch {
    /// Watches a path, through symbolic links.
    #[must_use]
    pub fn new(path: PathBuf) -> Self {
        Self { path, noted: None, noted_at: UNIX_EPOCH }
    }

    /// Notes how the file looks, and whether it is another file than before (replaced by a rename,
    /// and so written whole) rather than the same one written into. To be called *before* it is
    /// read, so that a change in between is seen as one.
    pub fn note(&mut self) -> bool {
        let before = self.noted.map(|noted| (noted.device, noted.inode));
        self.noted_at = SystemTime::now();
        self.noted = self.look();
        self.noted.map(|noted| (noted.device, noted.inode)) != before
    }

    /// Whether the file may have changed since it was noted.
    #[must_use]
    pub fn hints_at_change(&self) -> bool {
        let seen = self.look();
        seen != self.noted || seen.is_some_and(|seen| seen.changed_near(self.noted_at))
    }

    fn look(&self) -> Option<Fingerprint> {
        let metadata = fs::metadata(&self.path).ok()?;
        Some(Fingerprint {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        })
    }
}

impl Fingerprint {
    fn changed_near(&self, at: SystemTime) -> bool {
        let (Ok(seconds), Ok(nanos)) =
            (u64::try_from(self.changed.0), u32::try_from(self.changed.1))
        else {
            return false;
        };
        let changed = UNIX_EPOCH + Duration::new(seconds, nanos);
        changed + TICK > at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sees_replaced_rewritten_and_missing_files() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokens.toml");
        let mut watch = Watch::new(path.clone());
        watch.note();
        assert!(!watch.hints_at_change());
        fs::write(&path, "a").unwrap();
        assert!(watch.hints_at_change());
        watch.note();
        // Just written: a second write could go unseen, so it stays suspicious for a tick.
        assert!(watch.hints_at_change());
        watch.noted_at = SystemTime::now() + 2 * TICK;
        assert!(!watch.hints_at_change());
        let other = folder.path().join("other");
        fs::write(&other, "b").unwrap();
        fs::rename(&other, &path).unwrap();
        assert!(watch.hints_at_change());
        watch.note();
        fs::remove_file(&path).unwrap();
        assert!(watch.hints_at_change());
    }
}
