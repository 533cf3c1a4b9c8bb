use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use crate::policy::{Problem, Problems};
use crate::store::{Generation, StoreError};

/// The largest token file that is read, in bytes. Some 3 million tokens: whatever is larger is
/// something else.
const MOST_BYTES: u64 = 1 << 30;

/// A token file's text at one moment.
#[derive(Clone)]
pub struct Snapshot {
    /// The whole text. It holds hashes: keep it out of messages and logs.
    pub text: String,
    /// Its state.
    pub generation: Generation,
    /// What is odd about the file itself.
    pub warnings: Vec<Problem>,
    pub(super) owner: Owner,
}

/// Who may do what with a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Owner {
    pub(super) user: u32,
    pub(super) group: u32,
    pub(super) mode: u32,
}

impl Owner {
    pub(super) fn of(metadata: &Metadata) -> Self {
        let mode = metadata.mode() & 0o7777;
        Self { user: metadata.uid(), group: metadata.gid(), mode }
    }
}

/// Reads the file at `path`, which errors call `name`. It is opened once: what is checked is what
/// is read, even when something else takes its place meanwhile. Links are followed, since this is
/// how Kubernetes lays out its volumes.
pub(super) fn read(path: &Path, name: &Path) -> Result<Snapshot, StoreError> {
    let failed = |source| StoreError::Read { path: name.into(), source };
    let file = open(path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    if !metadata.is_file() {
        return Err(StoreError::NotAFile { path: name.into() });
    }
    let owner = Owner::of(&metadata);
    if owner.mode & 0o002 != 0 {
        return Err(StoreError::WritableByOthers { path: name.into() });
    }
    if metadata.len() > MOST_BYTES {
        return Err(StoreError::TooLarge { path: name.into() });
    }
    let mut bytes = Vec::with_capacity(usize::try_from(metadata.len()).unwrap_or(0));
    let read = file.take(MOST_BYTES + 1).read_to_end(&mut bytes).map_err(failed)?;
    if read as u64 > MOST_BYTES {
        return Err(StoreError::TooLarge { path: name.into() });
    }
    let generation = Generation::of(&bytes);
    let text = String::from_utf8(bytes).map_err(|error| {
        let valid = error.utf8_error().valid_up_to();
        let line = error.as_bytes()[..valid].iter().filter(|byte| **byte == b'\n').count() + 1;
        let problem = Problem::at(line, "this is no UTF-8 text", "save the file as UTF-8");
        StoreError::Invalid { path: name.into(), problems: Problems::from(problem) }
    })?;
    Ok(Snapshot { text, generation, warnings: warnings(owner), owner })
}

/// Opens without waiting: a pipe that nobody writes to would hold the caller for ever.
fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(path)
}

fn warnings(owner: Owner) -> Vec<Problem> {
    if owner.mode & 0o004 == 0 {
        return Vec::new();
    }
    vec![Problem::of_file(
        "every user of this machine may read the hashes in it",
        "take that right away with `chmod o-r`, or by `defaultMode: 0440` of a Kubernetes volume",
    )]
}
