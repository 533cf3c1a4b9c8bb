use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::store::StoreError;

/// Where a token file really is, behind all links.
pub(super) struct Place {
    /// As the settings call it, for messages.
    name: PathBuf,
    file: PathBuf,
    folder: PathBuf,
    file_name: String,
}

impl Place {
    /// Finds the real file. It must be there: a token file is never made by a change of it.
    pub(super) fn of(path: &Path) -> Result<Self, StoreError> {
        let failed = |source| StoreError::Read { path: path.into(), source };
        let file = fs::canonicalize(path).map_err(failed)?;
        let mode = fs::metadata(&file).map_err(failed)?.mode();
        let (Some(folder), Some(file_name)) = (file.parent(), file.file_name()) else {
            return Err(StoreError::NotAFile { path: path.into() });
        };
        let place = Self {
            name: path.into(),
            folder: folder.into(),
            file_name: file_name.to_string_lossy().into_owned(),
            file: file.clone(),
        };
        if is_kubernetes_volume(folder) {
            return Err(place.read_only(
                "it stands in a volume that Kubernetes lays anew; change the ConfigMap or Secret",
            ));
        }
        // The folder's rights would be enough to replace it, and root needs none; but who takes
        // all rights to write away means it.
        if mode & 0o222 == 0 {
            return Err(place.read_only("its mode lets nobody write it; `chmod u+w` changes that"));
        }
        Ok(place)
    }

    /// Whether files can be made in the folder.
    pub(super) fn writable(&self) -> Result<(), StoreError> {
        use rustix::fs::Access;
        rustix::fs::access(&self.folder, Access::WRITE_OK | Access::EXEC_OK)
            .map_err(|error| self.failed("writing to its folder", error.into()))
    }

    pub(super) fn name(&self) -> &Path {
        &self.name
    }

    pub(super) fn file(&self) -> &Path {
        &self.file
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(super) fn lock_file(&self) -> PathBuf {
        self.folder.join(format!("{}.lock", self.file_name))
    }

    /// What the names of temporary files start with.
    pub(super) fn temporary_prefix(&self) -> String {
        format!(".{}.faregate-", self.file_name)
    }

    /// Removes what a change left behind that was killed. Only for who holds the lock: nobody else
    /// has a temporary file then.
    pub(super) fn sweep(&self) {
        let prefix = self.temporary_prefix();
        let Ok(entries) = fs::read_dir(&self.folder) else { return };
        for entry in entries.flatten() {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            let is_ours = name.starts_with(&prefix) && name.ends_with(TEMPORARY_SUFFIX);
            if is_ours && entry.file_type().is_ok_and(|kind| kind.is_file()) {
                // What cannot be removed is in nobody's way.
                let _ = fs::remove_file(entry.path());
            }
        }
    }

    pub(super) fn read_only(&self, why: impl Into<String>) -> StoreError {
        StoreError::ReadOnly { path: self.name.clone(), why: why.into() }
    }

    /// What a failed step of writing means.
    pub(super) fn failed(&self, doing: &'static str, source: io::Error) -> StoreError {
        match source.kind() {
            io::ErrorKind::ReadOnlyFilesystem => {
                self.read_only("its file system is read-only; change it where it comes from")
            }
            io::ErrorKind::PermissionDenied => self.read_only(format!(
                "{doing} is not permitted to this user; \
                 do it as the user who owns the file and its folder"
            )),
            _ => StoreError::Write { path: self.name.clone(), doing, source },
        }
    }
}

pub(super) const TEMPORARY_SUFFIX: &str = ".tmp";

/// Whether the folder is one of those that Kubernetes makes for each version of a volume, beside
/// the link `..data` that says which one counts. What is written there is gone with the next.
fn is_kubernetes_volume(folder: &Path) -> bool {
    let is_version =
        folder.file_name().and_then(OsStr::to_str).is_some_and(|name| name.starts_with(".."));
    is_version && folder.parent().is_some_and(|volume| volume.join("..data").exists())
}
