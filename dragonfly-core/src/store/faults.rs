//! A disk that fails, for tests: writes that are refused or cut short, reads that fail, what cannot be made durable, and a loss of power after which of what was
//! not made durable some is there, some is not, and some is torn.
//!
//! Everything goes to real files, and a journal keeps what each write replaced until its file is made durable. A
//! crash takes back every write of the journal and then does some of them again.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// Disks tear writes between sectors.
const SECTOR: usize = 512;

/// What goes wrong, shared by the data files, the spools and the index of one store.
#[derive(Debug, Default)]
pub(crate) struct Faults(Mutex<State>, Hang);

/// Whether whoever writes content, and whoever reads it, waits until it does so no more.
#[derive(Debug, Default)]
struct Hang(Mutex<(bool, bool)>, Condvar);

impl Hang {
    fn pass(&self, hangs: impl Fn(&(bool, bool)) -> bool) {
        let state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        drop(self.1.wait_while(state, |state| hangs(state)));
    }
}

#[derive(Debug, Default)]
struct State {
    /// Content is refused with this error, after so many of its bytes were written.
    content: Option<(i32, usize)>,
    /// Reading content fails with this error.
    reads: Option<i32>,
    /// Making content durable fails with this error.
    syncs: Option<i32>,
    /// The index is refused everything.
    index: bool,
    /// The power is gone: nothing reaches the disk any more.
    dead: bool,
    journal: Vec<Change>,
    counts: Counts,
}

/// What a store has asked of its disk so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    /// Writes of content.
    pub(super) writes: usize,
    /// Files, with their directories, made durable.
    pub(super) syncs: usize,
    /// Transactions of the index.
    pub(super) commits: usize,
    /// Files of which the kernel was to drop what it caches.
    pub(super) cooled: Vec<PathBuf>,
}

/// What has happened to a file since it was last made durable.
#[derive(Debug)]
struct Change {
    path: PathBuf,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Created,
    Resized { from: u64, to: u64 },
    Written { offset: u64, old_length: u64, old: Vec<u8>, new: Vec<u8> },
}

impl Faults {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on the disk does not answer who writes content or makes it durable, and who reads it; `false`: it goes on.
    pub(crate) fn hang(&self, writes: bool, reads: bool) {
        *self.1.0.lock().unwrap_or_else(PoisonError::into_inner) = (writes, reads);
        self.1.1.notify_all();
    }

    /// From now on content is refused with the error of this number once `bytes` of it were written; 0: no more.
    pub(crate) fn fail_content(&self, error: i32, bytes: usize) {
        self.state().content = (error != 0).then_some((error, bytes));
    }

    /// From now on content cannot be read, with the error of this number; 0: it can again.
    pub(crate) fn fail_reads(&self, error: i32) {
        self.state().reads = (error != 0).then_some(error);
    }

    /// From now on content cannot be made durable, with the error of this number; 0: it can again.
    pub(crate) fn fail_syncs(&self, error: i32) {
        self.state().syncs = (error != 0).then_some(error);
    }

    /// What the disk was asked for so far.
    pub(super) fn counts(&self) -> Counts {
        self.state().counts.clone()
    }

    /// The index is about to be written.
    pub(super) fn committing(&self) {
        self.state().counts.commits += 1;
    }

    /// The kernel is about to be told that nobody wants a file.
    pub(super) fn cooled(&self, path: &Path) {
        self.state().counts.cooled.push(path.to_owned());
    }

    /// Reads content.
    pub(super) fn read(&self, file: &File, buf: &mut [u8], offset: u64) -> io::Result<()> {
        self.1.pass(|(_, reads)| *reads);
        match self.state().reads {
            None => file.read_exact_at(buf, offset),
            Some(error) => Err(io::Error::from_raw_os_error(error)),
        }
    }

    /// Before content is made durable.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.1.pass(|(writes, _)| *writes);
        let mut state = self.state();
        state.counts.syncs += 1;
        state.syncs.map_or(Ok(()), |error| Err(io::Error::from_raw_os_error(error)))
    }

    /// Whether the index is refused everything from now on.
    pub(super) fn fail_index(&self, fails: bool) {
        self.state().index = fails;
    }

    /// Writes content, and notes what it replaced.
    pub(super) fn write(&self, path: &Path, file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.1.pass(|(writes, _)| *writes);
        let mut state = self.state();
        state.counts.writes += 1;
        if state.dead {
            return Err(lost());
        }
        match state.content {
            None => state.write(path, file, bytes, offset),
            Some((error, part)) => {
                state.write(path, file, &bytes[..part.min(bytes.len())], offset)?;
                Err(io::Error::from_raw_os_error(error))
            }
        }
    }

    /// Notes that a file was made, and its length set.
    pub(super) fn created(&self, path: &Path, length: u64) {
        let mut state = self.state();
        state.journal.push(Change { path: path.to_owned(), kind: Kind::Created });
        state.journal.push(Change { path: path.to_owned(), kind: Kind::Resized { from: 0, to: length } });
    }

    /// Notes that a file and its directory were made durable.
    pub(super) fn synced(&self, path: &Path) {
        self.state().journal.retain(|change| change.path != path);
    }

    /// Notes that a file has another name.
    pub(super) fn renamed(&self, from: &Path, to: &Path) {
        let mut state = self.state();
        state.journal.retain(|change| change.path != to);
        for change in state.journal.iter_mut().filter(|change| change.path == from) {
            change.path = to.to_owned();
        }
    }

    /// The power goes: from here on nothing reaches the disk.
    pub(super) fn lose_power(&self) {
        self.state().dead = true;
    }

    /// The power comes back: what was not durable is as `choose` says (a number below its argument).
    pub(super) fn restart(&self, mut choose: impl FnMut(usize) -> usize) {
        let mut state = self.state();
        for change in state.journal.iter().rev() {
            // A file that was removed since is not there to be changed.
            let _ = change.undo();
        }
        for change in &state.journal {
            let _ = match choose(4) {
                0 => Ok(()),
                1 => change.redo(choose(change.sectors() + 1) * SECTOR),
                _ => change.redo(usize::MAX),
            };
        }
        *state = State::default();
    }
}

impl State {
    fn write(&mut self, path: &Path, file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
        let old_length = file.metadata()?.len();
        let there = old_length.saturating_sub(offset).min(bytes.len() as u64) as usize;
        let mut old = vec![0; there];
        file.read_exact_at(&mut old, offset)?;
        file.write_all_at(bytes, offset)?;
        let kind = Kind::Written { offset, old_length, old, new: bytes.to_vec() };
        self.journal.push(Change { path: path.to_owned(), kind });
        Ok(())
    }
}

impl Change {
    fn sectors(&self) -> usize {
        match &self.kind {
            Kind::Written { new, .. } => new.len() / SECTOR,
            _ => 0,
        }
    }

    fn open(&self) -> io::Result<File> {
        OpenOptions::new().write(true).open(&self.path)
    }

    fn undo(&self) -> io::Result<()> {
        match &self.kind {
            Kind::Created => fs::remove_file(&self.path),
            Kind::Resized { from, .. } => self.open()?.set_len(*from),
            Kind::Written { offset, old_length, old, .. } => {
                let file = self.open()?;
                file.write_all_at(old, *offset)?;
                file.set_len(*old_length)
            }
        }
    }

    /// Does it again; of a write at most `bytes`.
    fn redo(&self, bytes: usize) -> io::Result<()> {
        match &self.kind {
            Kind::Created => OpenOptions::new().write(true).create(true).truncate(false).open(&self.path).map(drop),
            Kind::Resized { to, .. } => self.open()?.set_len(*to),
            Kind::Written { offset, new, .. } => self.open()?.write_all_at(&new[..bytes.min(new.len())], *offset),
        }
    }
}

fn lost() -> io::Error {
    io::Error::other("the power is gone")
}

/// The index's file on such a disk.
#[derive(Debug)]
pub(super) struct FaultyIndex {
    faults: Arc<Faults>,
    path: PathBuf,
    file: File,
}

impl FaultyIndex {
    pub(super) fn open(faults: &Arc<Faults>, path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        Ok(Self { faults: Arc::clone(faults), path: path.to_owned(), file })
    }

    fn alive(&self) -> io::Result<MutexGuard<'_, State>> {
        let state = self.faults.state();
        match (state.dead, state.index) {
            (true, _) => Err(lost()),
            (_, true) => Err(io::Error::from_raw_os_error(rustix::io::Errno::IO.raw_os_error())),
            _ => Ok(state),
        }
    }
}

impl redb::StorageBackend for FaultyIndex {
    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(out, offset)
    }

    fn set_len(&self, to: u64) -> io::Result<()> {
        let mut state = self.alive()?;
        let from = self.file.metadata()?.len();
        self.file.set_len(to)?;
        state.journal.push(Change { path: self.path.clone(), kind: Kind::Resized { from, to } });
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.alive()?.journal.retain(|change| change.path != self.path);
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.alive()?.write(&self.path, &self.file, data, offset)
    }
}
