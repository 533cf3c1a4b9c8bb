use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use crate::policy::Compiled;
use crate::store::{Generation, StoreError};

use super::Keeper;

/// What the thread that keeps the policies is asked for.
pub enum Order {
    /// Look at every file, even at those that do not seem to have changed.
    LookAgain,
    /// Bring a change that is on disk into force.
    Settle(Box<Settlement>),
}

/// A change of a token file that is on disk and shall be in force before anybody is told of it.
pub struct Settlement {
    /// The namespace.
    pub namespace: Arc<str>,
    /// The token file that was changed.
    pub file: PathBuf,
    /// What the file said when the change was made.
    pub compiled: Compiled,
    /// The state of the file then.
    pub generation: Generation,
    /// The state of the file that the change took the place of.
    pub replaced: Generation,
    /// A moment at which the file was still in that state.
    pub written_after: Instant,
    /// Called when every worker judges by it, or why that cannot be.
    pub done: Box<dyn FnOnce(Result<(), NotInForce>) + Send>,
}

/// A change is on disk, or was, and is not in force.
#[derive(Debug, thiserror::Error)]
pub enum NotInForce {
    /// The settings no longer say that the file belongs to the namespace.
    #[error("the settings of the namespace changed meanwhile")]
    SettingsChanged,
    /// Somebody overwrote the file at the same time.
    #[error("somebody else overwrote the token file at the same time")]
    Overtaken,
    /// The file is not valid under the settings as they are now.
    #[error(transparent)]
    Invalid(#[from] StoreError),
}

impl Keeper {
    /// Carries out an order that is about one change.
    pub fn settle(&mut self, settlement: Box<Settlement>) {
        let Settlement { namespace, file, compiled, generation, replaced, written_after, done } =
            *settlement;
        let place = self
            .files
            .iter()
            .position(|own| own.namespace == namespace && own.store.path() == file);
        let settled = match place {
            None => Err(NotInForce::SettingsChanged),
            Some(place) => self.settle_file(place, compiled, generation, (replaced, written_after)),
        };
        // Another namespace may have the same file, as one for gRPC beside one for REST has.
        for place in 0..self.files.len() {
            let is_of_another = self
                .files
                .get(place)
                .is_some_and(|own| own.store.path() == file && own.namespace != namespace);
            if is_of_another {
                self.follow_file(place, true);
            }
        }
        done(settled);
    }

    fn settle_file(
        &mut self,
        place: usize,
        compiled: Compiled,
        generation: Generation,
        (replaced, written_after): (Generation, Instant),
    ) -> Result<(), NotInForce> {
        let Some(file) = self.files.get_mut(place) else { return Err(NotInForce::SettingsChanged) };
        if file.generation == generation {
            // It was looked at between the change and this order.
            return Ok(());
        }
        let gate = self.live.gate();
        let Some(namespace) = gate.namespace_named(&file.namespace) else {
            return Err(NotInForce::SettingsChanged);
        };
        file.watch.note();
        let read_at = Instant::now();
        let on_disk = file.store.read();
        let is_ours = on_disk.as_ref().is_ok_and(|snapshot| snapshot.generation == generation);
        if !is_ours {
            // Somebody was fast. What they wrote is taken over, or refused, at the next looks,
            // which must not be skipped because nothing seems to have changed since this one.
            file.half_seen = Some(generation);
        }
        if !Arc::ptr_eq(compiled.policy.rules(), &namespace.site.settings.rules) {
            return match on_disk {
                Ok(snapshot) if is_ours => Ok(self.take_over(place, &snapshot, read_at)?),
                _ => Err(NotInForce::Overtaken),
            };
        }
        let is_older = file.generation == replaced || file.read_at < written_after;
        if is_ours || is_older {
            // Not ours: it was on disk and good, and what is in force is older.
            file.read_at = if is_ours { read_at } else { written_after };
            let warnings = on_disk.map(|snapshot| snapshot.warnings).unwrap_or_default();
            self.adopt(place, compiled, generation, warnings);
        }
        // Otherwise what is in force was written after ours, and upon it.
        Ok(())
    }
}
