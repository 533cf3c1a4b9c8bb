use std::fs::{File, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{PermissionsExt as _, fchown};

use rustix::fs::{CWD, RenameFlags};
use rustix::io::Errno;
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

/// How often somebody may save within the microseconds between two exchanges.
const MOST_EXCHANGES: u32 = 8;

const SYNCING_FOLDER: &str = "making the change of the folder durable";

/// Puts `text` in the place of the file that was read as `before`. At every instant the path leads
/// to the whole old file or to the whole new one; after a crash too.
pub(super) fn replace(
    place: &Place,
    before: &Snapshot,
    text: &str,
) -> Result<Replaced, StoreError> {
    let temporary = written(place, before.owner, text)?;
    // Never tried again: after one failure the system may have thrown the data away, and a second
    // call would say that all is well.
    temporary
        .as_file()
        .sync_all()
        .map_err(|source| place.failed("making the new file durable", source))?;
    if !is_still(place, before)? {
        return Ok(Replaced::Overtaken);
    }
    if let Replaced::Overtaken = put(place, temporary, &before.text, text)? {
        return Ok(Replaced::Overtaken);
    }
    let Err(source) = sync_folder(place) else { return Ok(Replaced::Done) };
    // The new file may be lost in a crash, so the change must not count.
    if is_undone(place, before, text) {
        Err(place.failed(SYNCING_FOLDER, source))
    } else {
        Err(StoreError::Unsettled { path: place.name().into(), doing: SYNCING_FOLDER, source })
    }
}

/// Puts the old text back, unless somebody else has written another one by now. On a disk that is
/// failing this may not be durable, but it is what everybody reads.
fn is_undone(place: &Place, before: &Snapshot, text: &str) -> bool {
    let put_back = || {
        let now = reading::read(place.file(), place.name())?;
        if now.text != text {
            return Err(StoreError::Changed { path: place.name().into() });
        }
        let old = written(place, before.owner, &before.text)?;
        let _ = old.as_file().sync_all();
        put(place, old, text, &before.text)
    };
    matches!(put_back(), Ok(Replaced::Done))
}

/// A new file in the folder with this text, owner and mode. It goes away when dropped.
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
    Ok(temporary)
}

fn keep_owner(file: &File, owner: Owner) -> io::Result<()> {
    let own = Owner::of(&file.metadata()?);
    if own.user != owner.user {
        fchown(file, Some(owner.user), Some(owner.group))?;
    } else if own.group != owner.group
        && let Err(error) = fchown(file, None, Some(owner.group))
        && owner.mode & 0o070 != 0
    {
        // A group without rights is not missed; often it is only that of whoever made the file.
        return Err(error);
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

/// Puts the new file, which says `text`, into the place of the old one, if that says `expected`.
///
/// Who holds no lock may save between the last look and the renaming. So the two files change their
/// places (renameat2(2), `RENAME_EXCHANGE`), and what stood there is looked at once more.
fn put(
    place: &Place,
    temporary: NamedTempFile,
    expected: &str,
    text: &str,
) -> Result<Replaced, StoreError> {
    let exchange = || {
        let (new, old) = (temporary.path(), place.file());
        rustix::fs::renameat_with(CWD, new, CWD, old, RenameFlags::EXCHANGE)
    };
    match exchange() {
        Ok(()) => {}
        // Not every file system knows this, nor every sandbox allows it.
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP | Errno::PERM) => {
            let renamed = temporary.persist(place.file());
            return match renamed {
                Ok(_) => Ok(Replaced::Done),
                Err(error) => Err(not_put(place, error.error)),
            };
        }
        // An editor removes the file before it writes it anew.
        Err(Errno::NOENT) => return Ok(Replaced::Overtaken),
        Err(error) => return Err(not_put(place, error.into())),
    }
    let displaced_text =
        || reading::read(temporary.path(), place.name()).ok().map(|snapshot| snapshot.text);
    let mut displaced = displaced_text();
    if displaced.as_deref() == Some(expected) {
        return Ok(Replaced::Done);
    }
    // Theirs gets its place back; and if they saved once more meanwhile, the last of theirs.
    let mut put = Some(text.to_owned());
    for _ in 0..MOST_EXCHANGES {
        if exchange().is_err() {
            let renamed = temporary.persist(place.file());
            return match renamed {
                Ok(_) => Ok(Replaced::Overtaken),
                Err(error) => Err(StoreError::Unsettled {
                    path: place.name().into(),
                    doing: "giving its place back to what somebody saved at the same time",
                    source: error.error,
                }),
            };
        }
        let now = displaced_text();
        if now == put {
            return Ok(Replaced::Overtaken);
        }
        (put, displaced) = (displaced, now);
    }
    Err(StoreError::Busy { path: place.name().into() })
}

fn not_put(place: &Place, source: io::Error) -> StoreError {
    match source.kind() {
        // The file itself is mounted, as `docker run -v ./tokens.toml:…` does.
        io::ErrorKind::ResourceBusy => {
            place.read_only("it is a mount of its own; mount its folder instead")
        }
        _ => place.failed("putting the new file into its place", source),
    }
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
