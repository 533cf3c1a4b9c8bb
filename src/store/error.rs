use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use crate::policy::amend::AmendError;
use crate::policy::{Problem, Problems};

/// Why a token file could not be read or changed.
///
/// Every message names the file and a remedy, and none quotes a hash, a secret or a line of the
/// file. When a change fails, the file is as it was, but for [`StoreError::Unsettled`].
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file cannot be opened or read.
    #[error("{}: it cannot be read: {source}; {}", path.display(), remedy_of_read(source))]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A folder, a pipe or a device stands where the file is expected.
    #[error("{}: it is not a regular file; name a file in the settings", path.display())]
    NotAFile {
        /// The path.
        path: PathBuf,
    },
    /// Anybody on the machine could give themselves a token.
    #[error(
        "{}: every user of this machine may write it, so it is not trusted; run `chmod o-w {}`",
        path.display(), path.display()
    )]
    WritableByOthers {
        /// The file.
        path: PathBuf,
    },
    /// Larger than 1 GiB.
    #[error("{}: it is larger than 1 GiB; is it a token file?", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// The file as it is says nothing valid.
    #[error("{}", Listed { path, problems })]
    Invalid {
        /// The file.
        path: PathBuf,
        /// All that is wrong with it.
        problems: Problems,
    },
    /// The file can be read and not changed here.
    #[error("{}: it cannot be changed here: {why}", path.display())]
    ReadOnly {
        /// The file.
        path: PathBuf,
        /// How that was seen; and a remedy.
        why: String,
    },
    /// It is not the file that the caller saw, or somebody changed the same entry meanwhile.
    #[error("{}: it was changed meanwhile; look at it and try again", path.display())]
    Changed {
        /// The file.
        path: PathBuf,
    },
    /// Others kept changing it, or held its lock, for too long.
    #[error(
        "{}: others kept changing it for too long; see who holds `{}.lock`, and try again",
        path.display(), path.display()
    )]
    Busy {
        /// The file.
        path: PathBuf,
    },
    /// The change makes no sense on the document as it is.
    #[error(transparent)]
    Amend(#[from] AmendError),
    /// The file would be invalid after the change.
    #[error("the change is refused: {0}")]
    Refused(Problems),
    /// Nothing was changed: the disk is full, broken, or the like.
    #[error(
        "{}: {doing} failed, and nothing was changed: {source}; {}",
        path.display(), remedy_of_write(source)
    )]
    Write {
        /// The file.
        path: PathBuf,
        /// What failed.
        doing: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// The file was changed, this could neither be made durable nor undone.
    #[error(
        "{}: it was changed, but {doing} failed and the change could not be undone: {source}; \
         mend the disk and look at the file", path.display()
    )]
    Unsettled {
        /// The file.
        path: PathBuf,
        /// What failed.
        doing: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// A defect of this program: it would have written something else than was asked for.
    #[error(
        "{}: nothing was changed, because {what}; please report this, and edit the file by hand",
        path.display()
    )]
    Internal {
        /// The file.
        path: PathBuf,
        /// What was noticed.
        what: String,
    },
}

impl StoreError {
    /// What is wrong, one by one, for callers that list problems of several files.
    #[must_use]
    pub fn problems(&self) -> Vec<Problem> {
        match self {
            Self::Invalid { problems, .. } | Self::Refused(problems) => problems.clone().sorted(),
            other => {
                // The path stands before the message there, and is told by the list here.
                let message = other.to_string();
                let own = other.path().map(|path| format!("{}: ", path.display()));
                let what = own.and_then(|own| message.strip_prefix(&own).map(str::to_owned));
                let what = what.unwrap_or(message);
                let (what, remedy) = what.split_once("; ").unwrap_or((&what, ""));
                vec![Problem::of_file(what, remedy)]
            }
        }
    }

    /// The file it is about.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::Read { path, .. }
            | Self::NotAFile { path }
            | Self::WritableByOthers { path }
            | Self::TooLarge { path }
            | Self::Invalid { path, .. }
            | Self::ReadOnly { path, .. }
            | Self::Changed { path }
            | Self::Busy { path }
            | Self::Write { path, .. }
            | Self::Unsettled { path, .. }
            | Self::Internal { path, .. } => Some(path),
            Self::Amend(_) | Self::Refused(_) => None,
        }
    }
}

fn remedy_of_read(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::NotFound => "write it, or correct the path in the settings",
        io::ErrorKind::PermissionDenied => "let the user who runs this read it",
        _ => "see that it is there and readable",
    }
}

fn remedy_of_write(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "make room on its disk, and try again"
        }
        io::ErrorKind::FileTooLarge => "let files be larger (`ulimit -f`), and try again",
        _ => "mend the disk or what stands in the way, and try again",
    }
}

/// Problems with their file before each: `FILE:LINE: what; remedy`.
struct Listed<'e> {
    path: &'e Path,
    problems: &'e Problems,
}

impl fmt::Display for Listed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, problem) in self.problems.clone().sorted().into_iter().enumerate() {
            if number > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{}:", self.path.display())?;
            if let Some(line) = problem.line {
                write!(f, "{line}:")?;
            }
            write!(f, " {}", Problem { line: None, ..problem })?;
        }
        Ok(())
    }
}
