use std::fs::{File, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{PermissionsExt as _, fchown};

use tempfile::NamedTempFile;

use super::place::{Place, TEMPORARY_SUFFIX};
use super::reading::{self, Owner, Snapshot};
use crate::store::StoreError;

/// Whether a file was replaced.
pub(super) enum Replaced {
    /// It was, and that is durable.
    Done,
    /// Somebody who does not hold the lock changed it since it was read. Nothing was written.
    Overtaken,
}

const SYNCING_FOLDER: &str = "making the change of the folder durable";

/// Puts `text` in the place of the file that was read as `before`. At every instant the path leads
/// to the whole old file or to the whole new one; after a crash too.
pub(super) fn replace(
    place: &Place,
    before: &Snapshot,
    text: &str,
) -> Result<Replaced, StoreError> {
    let temporary = written(place, before.owner, text)?;
    if !is_still(place, before)? {
        return Ok(Replaced::Overtaken);
    }
    put(place, temporary)?;
    let Err(source) = sync_folder(place) else { return Ok(Replaced::Done) };
    // The new file may be lost in a crash, so the change must not count: the old one again.
    let is_undone = reading::read(place.file(), place.name()).is_ok_and(|now| now.text == text)
        && written(place, before.owner, &before.text).and_then(|old| put(place, old)).is_ok();
    if is_undone {
        Err(place.failed(SYNCING_FOLDER, source))
    } else {
        Err(StoreError::Unsettled { path: place.name().into(), doing: SYNCING_FOLDER, source })
    }
}

/// A new file in the folder with this text, owner and mode, on disk. It goes away when dropped.
fn written(place: &Place, owner: Owner, text: &str) -> Result<NamedTempFile, StoreError> {
    // Made with `O_EXCL`, so that no link is followed, and readable by nobody else until it has
    // its owner.
    let mut temporary = tempfile::Builder::new()
        .prefix(&place.temporary_prefix())
        .suffix(TEMPORARY_SUFFIX)
        .permissions(Permissions::from_mode(0o600))
        .tempfile_in(place.folder())
        .map_err(|source| place.failed("making a temporary file beside it", source))?;
    temporary
        .write_all(text.as_bytes())
        .map_err(|source| place.failed("writing a temporary file beside it", source))?;
    let file = temporary.as_file();
    keep_owner(file, owner).map_err(|source| place.failed("keeping its owner and mode", source))?;
    // Never tried again: after one failure the system may have thrown the data away, and a second
    // call would say that all is well.
    file.sync_all().map_err(|source| place.failed("making the new file durable", source))?;
    Ok(temporary)
}

fn keep_owner(file: &File, owner: Owner) -> io::Result<()> {
    let own = Owner::of(&file.metadata()?);
    if (own.user, own.group) != (owner.user, owner.group) {
        fchown(file, Some(owner.user), Some(owner.group))?;
    }
    file.set_permissions(Permissions::from_mode(owner.mode))
}

/// Whether the file says what it said.
fn is_still(place: &Place, before: &Snapshot) -> Result<bool, StoreError> {
    match reading::read(place.file(), place.name()) {
        Ok(now) => Ok(now.text == before.text),
        Err(StoreError::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            Ok(false)
        }
        Err(StoreError::Invalid { .. }) => Ok(false),
        Err(error) => Err(error),
    }
}

fn put(place: &Place, temporary: NamedTempFile) -> Result<(), StoreError> {
    temporary
        .persist(place.file())
        .map(drop)
        .map_err(|error| place.failed("putting the new file into its place", error.error))
}

fn sync_folder(place: &Place) -> io::Result<()> {
    match File::open(place.folder()).and_then(|folder| folder.sync_all()) {
        // Some network file systems know no such thing; they say so by these.
        Err(error)
            if matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported) =>
        {
            Ok(())
        }
        other => other,
    }
}
