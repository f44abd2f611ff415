//! Whose word on which task counts for nothing on this host, from one run to the next.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::task::TaskId;
use crate::trust::{Contradicted, FileError};
use crate::wire::PeerId;

/// Without a directory they are forgotten with the node.
#[derive(Debug, Default)]
pub(crate) struct Remembered {
    known: Mutex<Contradicted>,
    dir: Option<PathBuf>,
}

impl Remembered {
    /// Blocks on the file system.
    pub(super) fn open(dir: Option<PathBuf>) -> Self {
        let known = dir.as_deref().map(Contradicted::load).unwrap_or_default();
        Self { known: Mutex::new(known), dir }
    }

    fn known(&self) -> MutexGuard<'_, Contradicted> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn insert(&self, task: TaskId, peer: PeerId) {
        self.known().insert(task, peer);
    }

    /// How many are remembered.
    pub(super) fn len(&self) -> usize {
        self.known().len()
    }

    pub(crate) fn of(&self, task: TaskId) -> BTreeSet<PeerId> {
        self.known().of(task)
    }

    /// Writes them down. Blocks on the file system.
    pub(crate) fn save(&self) -> Result<(), FileError> {
        let Some(dir) = &self.dir else { return Ok(()) };
        let known = self.known().clone();
        known.save(dir)
    }
}
