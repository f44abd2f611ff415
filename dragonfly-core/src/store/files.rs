//! The data files, and how many of them are open at a time.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use data_encoding::HEXLOWER;

use super::StoreError;
use super::record::EntryId;

/// Data files open at a time unless configured: half of the usual limit of 1024 descriptors, which sockets share.
pub(super) const OPEN_FILES_MAX: usize = 512;

/// Files that one start removes at most because no entry names them; the next start goes on.
const SWEEP_MAX: usize = 100_000;

/// The directory of data files, one per generation that is not small.
pub(super) struct DataFiles {
    directory: PathBuf,
    max: usize,
    open: Mutex<OpenFiles>,
    #[cfg(test)]
    pub(super) faults: Option<Arc<super::faults::Faults>>,
}

#[derive(Default)]
struct OpenFiles {
    files: HashMap<EntryId, (Arc<File>, u64)>,
    /// When each was last used, as a count: the first one is closed next.
    order: BTreeMap<u64, EntryId>,
    clock: u64,
}

impl DataFiles {
    /// At most `max` files, and at least one, are open at a time.
    pub(super) fn new(directory: PathBuf, max: usize) -> Self {
        Self {
            directory,
            max: max.max(1),
            open: Mutex::default(),
            #[cfg(test)]
            faults: None,
        }
    }

    /// Where the content of `id` is.
    pub(super) fn path(&self, id: &EntryId) -> PathBuf {
        let name = HEXLOWER.encode(id);
        self.directory.join(&name[..2]).join(&name)
    }

    /// The open file of `id`; with `length`, made and set to that length if there is none.
    pub(super) fn file(&self, id: &EntryId, length: Option<u64>) -> Result<Arc<File>, StoreError> {
        // Opened under the lock, so that a file that is just being replaced or removed is not kept.
        let mut open = self.lock();
        if let Some(file) = open.used(id) {
            return Ok(file);
        }
        let path = self.path(id);
        #[cfg(test)]
        let is_new = !path.exists();
        let file = Arc::new(open_data(&path, length)?);
        #[cfg(test)]
        if let (Some(faults), true) = (&self.faults, is_new) {
            faults.created(&path, length.unwrap_or(0));
        }
        open.keep(*id, file.clone(), self.max);
        Ok(file)
    }

    /// The file of `id`, which this does not use: another is not closed for its sake.
    #[cfg(target_os = "linux")]
    pub(super) fn without_use(&self, id: &EntryId) -> Option<Arc<File>> {
        if let Some((file, _)) = self.lock().files.get(id) {
            return Some(Arc::clone(file));
        }
        File::open(self.path(id)).ok().map(Arc::new)
    }

    /// Takes in a finished file.
    pub(super) fn adopt(&self, id: &EntryId, from: &Path) -> Result<(), StoreError> {
        let path = self.path(id);
        make_parent(&path).map_err(|e| StoreError::io("create the directory of", &path, e))?;
        let mut open = self.lock();
        open.forget(id);
        fs::rename(from, &path).map_err(|e| StoreError::io("move a spool to", &path, e))?;
        #[cfg(test)]
        if let Some(faults) = &self.faults {
            faults.renamed(from, &path);
        }
        Ok(())
    }

    /// Closes the file of `id` and frees its name, if there is one. What is returned is still to be removed: freeing
    /// the blocks of a large file takes its time, and the name may be wanted before.
    pub(super) fn doom(&self, id: &EntryId) -> Result<Option<PathBuf>, StoreError> {
        let path = self.path(id);
        let doomed = path.with_extension("gone");
        let mut open = self.lock();
        open.forget(id);
        match fs::rename(&path, &doomed) {
            Ok(()) => {
                #[cfg(test)]
                if let Some(faults) = &self.faults {
                    faults.renamed(&path, &doomed);
                }
                Ok(Some(doomed))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(StoreError::io("free the name of", &path, error)),
        }
    }

    /// Removes files that no entry names: what an unclean stop left behind.
    pub(super) fn sweep(&self, known: impl Fn(&EntryId) -> bool) {
        let mut removed = 0;
        for directory in fs::read_dir(&self.directory).into_iter().flatten().flatten() {
            for file in fs::read_dir(directory.path()).into_iter().flatten().flatten() {
                let id = file.file_name().to_str().and_then(|name| HEXLOWER.decode(name.as_bytes()).ok());
                let id: Option<EntryId> = id.and_then(|id| id.try_into().ok());
                if id.is_some_and(|id| known(&id)) {
                    continue;
                }
                if removed == SWEEP_MAX {
                    return;
                }
                removed += 1;
                if let Err(error) = fs::remove_file(file.path()) {
                    tracing::warn!(file = %file.path().display(), %error, "cannot remove a file that no entry names");
                }
            }
        }
    }

    /// How many are open.
    #[cfg(test)]
    pub(super) fn open_count(&self) -> usize {
        self.lock().files.len()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, OpenFiles> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl OpenFiles {
    fn used(&mut self, id: &EntryId) -> Option<Arc<File>> {
        let (file, last) = self.files.get_mut(id)?;
        self.order.remove(last);
        self.clock += 1;
        *last = self.clock;
        self.order.insert(self.clock, *id);
        Some(file.clone())
    }

    fn keep(&mut self, id: EntryId, file: Arc<File>, max: usize) {
        while self.files.len() >= max {
            let Some((_, oldest)) = self.order.pop_first() else { break };
            self.files.remove(&oldest);
        }
        self.clock += 1;
        self.order.insert(self.clock, id);
        self.files.insert(id, (file, self.clock));
    }

    fn forget(&mut self, id: &EntryId) {
        if let Some((_, last)) = self.files.remove(id) {
            self.order.remove(&last);
        }
    }
}

fn open_data(path: &Path, length: Option<u64>) -> Result<File, StoreError> {
    let open = || OpenOptions::new().read(true).write(true).create(length.is_some()).truncate(false).open(path);
    let file = match open() {
        Err(error) if error.kind() == io::ErrorKind::NotFound && length.is_some() => {
            make_parent(path).map_err(|e| StoreError::io("create the directory of", path, e))?;
            open()
        }
        other => other,
    };
    let file = file.map_err(|e| StoreError::io("open", path, e))?;
    if let Some(length) = length {
        let now = file.metadata().map_err(|e| StoreError::io("examine", path, e))?.len();
        if now != length {
            // Sparse: space is taken as pieces come, so a claimed length reserves nothing, and what is read in part takes
            // that part of the disk (measured: docs/design/datapath.md).
            file.set_len(length).map_err(|e| StoreError::io("set the length of", path, e))?;
        }
    }
    Ok(file)
}

/// Removes what [`DataFiles::doom`] left; another removal of the same name may have come first.
pub(super) fn bury(doomed: Option<PathBuf>) {
    if let Some(path) = doomed
        && let Err(error) = fs::remove_file(&path)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(file = %path.display(), %error, "cannot remove a file that is no longer needed");
    }
}

fn make_parent(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), fs::create_dir_all)
}
