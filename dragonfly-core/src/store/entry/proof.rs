//! Proving again what is held, and watching files that others may write to.

use std::fs::{File, Metadata};
use std::os::unix::fs::MetadataExt as _;
use std::sync::atomic::Ordering;
use std::sync::{MutexGuard, TryLockError};
use std::time::Duration;

use super::super::files::bury;
use super::super::progress;
use super::super::record::{PIECES_PER_ROW, Times};
use super::super::{Entry as _, StoreError};
use super::{HeldEntry, State};
use crate::task::{HaveMap, PieceHash, PieceHasher, PieceIndex};

/// Bytes hashed at a time when an entry is proven again.
const PROVE_BLOCK: usize = 256 << 10;

/// How often somebody looks whether another is done with the same proof.
const PROOF_LOOK: Duration = Duration::from_millis(20);

impl HeldEntry {
    /// See [`Entry::prove`].
    pub(super) fn prove_held(&self) -> Result<HaveMap, StoreError> {
        let _use = self.enter()?;
        let _one = self.alone_at_proof();
        if !self.is_doubted() {
            return Ok(self.have());
        }
        // The change time is taken before the bytes are read: a write in between is seen the next time.
        let linked = match (self.lock().linked, self.file()) {
            (Some(_), Ok(Some((file, _)))) => file.metadata().ok().map(|now| times(&now)),
            _ => None,
        };
        let mut buf = vec![0; PROVE_BLOCK.min(self.described.layout.length() as usize)];
        let before = self.have();
        let refuted: Vec<PieceIndex> = before
            .iter()
            .filter(|index| self.value(*index).is_none_or(|value| self.hash(*index, &mut buf) != Some(value)))
            .collect();
        let have = self.forget(&before, &refuted, linked);
        self.proven.store(self.catalogue.run().current, Ordering::Release);
        self.needs_proof.store(false, Ordering::Release);
        self.changed();
        Ok(have)
    }

    /// One at a time proves an entry. Who waits for another to be done with it gets on as that one does.
    fn alone_at_proof(&self) -> MutexGuard<'_, ()> {
        let mut seen = 0;
        loop {
            match self.proving.try_lock() {
                Ok(one) => return one,
                Err(TryLockError::Poisoned(one)) => return one.into_inner(),
                Err(TryLockError::WouldBlock) => {}
            }
            let now = self.blocks_proven.load(Ordering::Relaxed);
            if now != seen {
                seen = now;
                progress::block_done();
            }
            std::thread::sleep(PROOF_LOOK);
        }
    }

    /// Hashes one held piece from the medium.
    fn hash(&self, index: PieceIndex, buf: &mut [u8]) -> Option<PieceHash> {
        let layout = &self.described.layout;
        let range = layout.range_of(index)?;
        let mut hasher = PieceHasher::new(index, layout.piece_length());
        let mut offset = range.start;
        while offset < range.end {
            let block = &mut buf[..(range.end - offset).min(PROVE_BLOCK as u64) as usize];
            self.read_content(offset, block).ok()?;
            hasher.update(block).ok()?;
            offset += block.len() as u64;
            self.blocks_proven.fetch_add(1, Ordering::Relaxed);
            progress::block_done();
        }
        hasher.finish(layout, index).ok()
    }

    /// Forgets pieces that did not prove. A damaged file that has a name outside is let go as a whole: pieces that
    /// are fetched again must not be written into what is somebody's file now.
    fn forget(&self, before: &HaveMap, refuted: &[PieceIndex], linked: Option<Times>) -> HaveMap {
        let mut state = self.lock();
        let let_go = linked.is_some() && !refuted.is_empty();
        let forgotten: Vec<PieceIndex> = if let_go { before.iter().collect() } else { refuted.to_vec() };
        for index in forgotten {
            self.content.forget(&self.catalogue.medium, &self.id, index);
            state.have.remove(index);
            state.dirty_rows.insert(index / PIECES_PER_ROW);
        }
        state.linked = linked.filter(|_| !let_go);
        if let_go {
            match self.content.remove(&self.catalogue.medium, &self.id) {
                Ok(doomed) => bury(doomed),
                Err(error) => tracing::warn!(%error, "cannot let go of a damaged file"),
            }
        }
        self.recount(&state.have);
        state.have.clone()
    }

    /// A data file that shares its bytes with an output may be written by others: any change to it since means
    /// that it must be proven again.
    pub(super) fn check_linked(&self, state: &State) -> Result<(), StoreError> {
        if let Some(linked) = state.linked
            && let Some((file, path)) = self.file()?
        {
            let now = file.metadata().map_err(|e| StoreError::io("examine", &path, e))?;
            if times(&now) != linked {
                self.needs_proof.store(true, Ordering::Release);
            }
        }
        Ok(())
    }

    /// Notes that the data file has (had) a name outside the store. Linking moves its change time, so what tells
    /// whether it was written to since it was checked is its modification time.
    pub(in super::super) fn set_linked(&self, file: &File) {
        self.note_linked(&mut self.lock(), file);
        self.changed();
    }

    fn note_linked(&self, state: &mut State, file: &File) {
        let Ok(now) = file.metadata() else { return };
        if state.linked.is_some_and(|before| before.modified != times(&now).modified) {
            self.needs_proof.store(true, Ordering::Release);
            return;
        }
        state.linked_is_new |= state.linked.is_none();
        state.linked = Some(times(&now));
    }

    /// Does what moves the change time of the data file. Nobody looks at it meanwhile: it is our own doing.
    pub(in super::super) fn linking<T>(&self, file: &File, work: impl FnOnce() -> T) -> T {
        let mut state = self.lock();
        let done = work();
        if state.linked.is_some() {
            self.note_linked(&mut state, file);
        }
        drop(state);
        self.changed();
        done
    }
}

fn times(file: &Metadata) -> Times {
    Times { changed: (file.ctime(), file.ctime_nsec()), modified: (file.mtime(), file.mtime_nsec()) }
}
