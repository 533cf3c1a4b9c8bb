//! The token file on disk.
//!
//! People and other programs change it too, so nothing is remembered between two calls: every
//! reading is of the file as it is, every change is made to the file as it is. A change holds the
//! lock of `<file>.lock` (never of the file itself, which is replaced); who edits by a script can
//! hold it as well: `flock tokens.toml.lock my-script`.

mod lock;
mod place;
mod reading;
mod replace;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Generation;
pub use super::StoreError;
use super::edit;
use super::rebase::rebased;
use crate::policy::amend::{AmendError, Amended, Edit};
use crate::policy::{self, Compiled, Document, Problem, Problems, Rules};
use crate::strict_toml::{judge_token_file, read_token_file};
use lock::Lock;
use place::Place;
pub use reading::Snapshot;
use replace::Replaced;

/// How often a change is made anew because somebody who does not hold the lock was faster.
const MOST_ATTEMPTS: u32 = 50;

/// How long a change waits after somebody was faster: about as long as an editor needs to save.
const PAUSE: Duration = Duration::from_millis(5);

/// A token file, by its path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileStore {
    path: PathBuf,
}

/// A token file that was read.
#[derive(Debug)]
pub struct Loaded {
    /// What it says.
    pub document: Document,
    /// The state of the file in which it said so.
    pub generation: Generation,
    /// What is odd about the file itself.
    pub warnings: Vec<Problem>,
}

/// A change that is on disk, durably.
pub struct Committed<T> {
    /// What the change made beside the new document; a secret, mostly.
    pub value: T,
    /// The document as it is on disk now.
    pub document: Document,
    /// The policy of that document.
    pub compiled: Compiled,
    /// The state of the file now.
    pub generation: Generation,
    /// The state of the file that it took the place of.
    pub replaced: Generation,
    /// A moment at which the file was still in that state: whatever was read before is older.
    pub written_after: Instant,
}

impl FileStore {
    /// The store whose file is, or will be, at `path`. Nothing is opened yet.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// The path as it was given.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads the file's text, whatever it says.
    ///
    /// # Errors
    /// When there is no regular file, it cannot be read, every user may write it, it is larger than
    /// 1 GiB, or it is not UTF-8.
    pub fn read(&self) -> Result<Snapshot, StoreError> {
        reading::read(&self.path, &self.path)
    }

    /// Reads the file and what it says. It is not judged: [`policy::compile`] does that.
    ///
    /// # Errors
    /// As [`FileStore::read`], and when the form of the file is wrong.
    pub fn load(&self) -> Result<Loaded, StoreError> {
        self.loaded(self.read()?)
    }

    /// Makes a policy of a file that was read, or tells everything that is wrong with it: its form
    /// and its values in one list.
    ///
    /// # Errors
    /// When anything is wrong.
    pub fn judge(
        &self,
        snapshot: &Snapshot,
        rules: &Arc<Rules>,
    ) -> Result<(Document, Compiled), StoreError> {
        judge_token_file(&snapshot.text, Arc::clone(rules))
            .map_err(|problems| self.problems(problems))
    }

    /// The error that tells what is wrong in this file.
    #[must_use]
    pub fn problems(&self, problems: Problems) -> StoreError {
        StoreError::Invalid { path: self.path.clone(), problems }
    }

    fn loaded(&self, snapshot: Snapshot) -> Result<Loaded, StoreError> {
        let document =
            read_token_file(&snapshot.text).map_err(|problems| self.problems(problems))?;
        Ok(Loaded { document, generation: snapshot.generation, warnings: snapshot.warnings })
    }

    /// Changes the file: `change` gets the document as it is on disk now and answers the document
    /// as it shall be. When this returns, the new file is on disk, durably, and nothing differs
    /// from the old one but the entry that was changed; or it fails and nothing was changed.
    ///
    /// With `seen`, the change is made only to the file that the caller saw. Without, whatever
    /// others changed meanwhile stays, unless it is the same entry.
    ///
    /// This waits for the lock and the disk; call it where that stops nobody else.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn commit<T>(
        &self,
        seen: Option<&Generation>,
        rules: &Arc<Rules>,
        change: impl FnOnce(&Document) -> Result<(Amended, T), AmendError>,
    ) -> Result<Committed<T>, StoreError> {
        self.commit_while(seen, rules, |_| Ok(()), change)
    }

    /// As [`FileStore::commit`], as long as the document on disk permits it: `permitted` is asked of
    /// each state of the file that the change is made to.
    ///
    /// # Errors
    /// See [`StoreError`], and what `permitted` says.
    pub fn commit_while<T>(
        &self,
        seen: Option<&Generation>,
        rules: &Arc<Rules>,
        permitted: impl Fn(&Document) -> Result<(), AmendError>,
        change: impl FnOnce(&Document) -> Result<(Amended, T), AmendError>,
    ) -> Result<Committed<T>, StoreError> {
        let place = Place::of(&self.path)?;
        let _lock = Lock::take(&place)?;
        place.sweep();
        let (mut snapshot, mut before) = self.current(&place, seen, rules)?;
        permitted(&before)?;
        let (mut amended, value) = change(&before)?;
        for _ in 0..MOST_ATTEMPTS {
            let prepared = self.prepare(&snapshot, &before, &amended, rules)?;
            let written_after = Instant::now();
            let replaced = if prepared.text == snapshot.text {
                Replaced::Done
            } else {
                replace::replace(&place, &snapshot, &prepared.text)?
            };
            match replaced {
                Replaced::Done => {
                    return Ok(Committed {
                        value,
                        document: prepared.document,
                        compiled: prepared.compiled,
                        generation: Generation::of(prepared.text.as_bytes()),
                        replaced: snapshot.generation,
                        written_after,
                    });
                }
                Replaced::Overtaken => {
                    std::thread::sleep(PAUSE);
                    let Some((new_snapshot, now)) = self.after_overtaking(&place, seen, rules)?
                    else {
                        continue;
                    };
                    permitted(&now)?;
                    let document = rebased(&before, &now, &amended.edit)
                        .ok_or_else(|| StoreError::Changed { path: self.path.clone() })?;
                    amended = Amended { document, edit: amended.edit };
                    (snapshot, before) = (new_snapshot, now);
                }
            }
        }
        // Somebody may have left it invalid, which is the better thing to say.
        self.current(&place, seen, rules)?;
        Err(StoreError::Busy { path: self.path.clone() })
    }

    /// Whether a change could be written now, as far as that can be told without trying.
    ///
    /// # Errors
    /// [`StoreError::ReadOnly`] with what stands in the way, and what reading the file says.
    pub fn writable(&self) -> Result<(), StoreError> {
        Place::of(&self.path)?.writable()
    }

    /// Does all that [`FileStore::commit`] does but writing: the edit that would be made. For files
    /// that cannot be changed here, whose [`stanza`](super::stanza) a person then puts into the
    /// place they come from.
    ///
    /// # Errors
    /// As [`FileStore::commit`], but for those of writing.
    pub fn rehearse<T>(
        &self,
        rules: &Arc<Rules>,
        change: impl FnOnce(&Document) -> Result<(Amended, T), AmendError>,
    ) -> Result<(Edit, T), StoreError> {
        let snapshot = self.read()?;
        let before = self.judge(&snapshot, rules)?.0;
        let (amended, value) = change(&before)?;
        self.prepare(&snapshot, &before, &amended, rules)?;
        Ok((amended.edit, value))
    }

    /// The file as it is, in a valid state and the one that the caller saw.
    fn current(
        &self,
        place: &Place,
        seen: Option<&Generation>,
        rules: &Arc<Rules>,
    ) -> Result<(Snapshot, Document), StoreError> {
        let snapshot = reading::read(place.file(), &self.path)?;
        if seen.is_some_and(|seen| *seen != snapshot.generation) {
            return Err(StoreError::Changed { path: self.path.clone() });
        }
        let document = self.judge(&snapshot, rules)?.0;
        Ok((snapshot, document))
    }

    /// As [`FileStore::current`], but none while somebody is still saving: an editor removes or
    /// empties the file for a moment.
    fn after_overtaking(
        &self,
        place: &Place,
        seen: Option<&Generation>,
        rules: &Arc<Rules>,
    ) -> Result<Option<(Snapshot, Document)>, StoreError> {
        match self.current(place, seen, rules) {
            Ok(current) => Ok(Some(current)),
            Err(StoreError::Invalid { .. }) => Ok(None),
            Err(StoreError::Read { source, .. })
                if source.kind() == std::io::ErrorKind::NotFound =>
            {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// The new text, with the proof that it says what was asked for and nothing else.
    fn prepare(
        &self,
        snapshot: &Snapshot,
        before: &Document,
        amended: &Amended,
        rules: &Arc<Rules>,
    ) -> Result<Prepared, StoreError> {
        let compiled = policy::compile(&amended.document, Arc::clone(rules))
            .map_err(|problems| StoreError::Refused(without_made_lines(problems)))?;
        let internal = |what: String| StoreError::Internal { path: self.path.clone(), what };
        let text = edit::apply(&snapshot.text, before, &amended.edit)
            .map_err(|error| internal(error.to_string()))?;
        match read_token_file(&text) {
            Ok(document) if document == amended.document => {
                Ok(Prepared { text, document, compiled })
            }
            Ok(_) => Err(internal("the new text would say something else".into())),
            Err(_) => Err(internal("the new text would be invalid".into())),
        }
    }
}

struct Prepared {
    text: String,
    document: Document,
    compiled: Compiled,
}

/// What is wrong with a value that the program was given stands on no line of the file.
fn without_made_lines(problems: Problems) -> Problems {
    let mut told = Problems::new();
    for problem in problems.sorted() {
        let line = problem.line.filter(|line| *line > 0);
        told.push(Problem { line, ..problem });
    }
    told
}
