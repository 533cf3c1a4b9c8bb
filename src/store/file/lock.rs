use std::fs::{self, File, OpenOptions, TryLockError};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, fchown};
use std::time::{Duration, Instant};

use super::place::Place;
use crate::store::StoreError;

/// How long the lock is waited for. Who holds it needs milliseconds, unless stopped in between.
const PATIENCE: Duration = Duration::from_secs(10);

/// Between two looks whether the lock is free.
const PAUSE: Duration = Duration::from_millis(2);

/// The right to change a token file, among all who ask for it; given back when dropped.
pub(super) struct Lock {
    _file: File,
}

impl Lock {
    pub(super) fn take(place: &Place) -> Result<Self, StoreError> {
        let until = Instant::now() + PATIENCE;
        loop {
            let file = open(place)?;
            while let Err(error) = file.try_lock() {
                match error {
                    TryLockError::WouldBlock if Instant::now() < until => {
                        std::thread::sleep(PAUSE);
                    }
                    TryLockError::WouldBlock => {
                        return Err(StoreError::Busy { path: place.name().into() });
                    }
                    TryLockError::Error(source) => {
                        return Err(place.failed("locking its lock file", source));
                    }
                }
            }
            // Somebody may have removed the file between our opening and locking it; then others
            // lock another file of the same name.
            let is_the_one = |named: &fs::Metadata| {
                file.metadata()
                    .is_ok_and(|own| (own.dev(), own.ino()) == (named.dev(), named.ino()))
            };
            if fs::symlink_metadata(place.lock_file()).is_ok_and(|named| is_the_one(&named)) {
                return Ok(Self { _file: file });
            }
            if Instant::now() >= until {
                return Err(StoreError::Busy { path: place.name().into() });
            }
        }
    }
}

fn open(place: &Place) -> Result<File, StoreError> {
    const OPENING: &str = "opening its lock file";
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(place.lock_file())
        .map_err(|source| place.failed(OPENING, source))?;
    // Made by root for a file of another user, it would lock that user out.
    // Only one that is ours, though: empty, and not another name of somebody's file.
    if let (Ok(own), Ok(data)) = (file.metadata(), fs::metadata(place.file()))
        && own.uid() != data.uid()
        && own.nlink() == 1
        && own.len() == 0
    {
        let _ = fchown(&file, Some(data.uid()), Some(data.gid()));
    }
    Ok(file)
}
