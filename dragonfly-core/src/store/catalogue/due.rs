//! What waits to be written to the index, and the mark of a clean stop.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use super::super::StoreError;
use super::super::content::SLAB_FRESH_BYTES_MAX;
use super::super::record::EntryId;
use super::{Catalogue, Disk, Due, HeldEntry, Medium};

impl Catalogue {
    /// Notes that `entry` has something to be written to the index.
    pub(in super::super) fn changed(&self, entry: &Arc<HeldEntry>) {
        if let Medium::Disk(_) = self.medium {
            let mut due = self.due();
            // Under the lock: what has been removed must not take the place of what has its name now.
            if entry.uses().is_removed() {
                return;
            }
            due.entry(*entry.id()).or_default().entry = Some(entry.clone());
            drop(due);
            self.count_change();
        }
    }

    pub(super) fn count_change(&self) {
        self.changes.fetch_add(1, Ordering::AcqRel);
        if self.clean.swap(false, Ordering::AcqRel) {
            (self.unmark)();
        }
    }

    /// Takes what waits; it counts as unwritten until the batch is [settled](Self::settled).
    pub(super) fn take_due(&self) -> BTreeMap<EntryId, Due> {
        let mut due = self.due();
        let batch = std::mem::take(&mut *due);
        self.writing.store(batch.len(), Ordering::Release);
        batch
    }

    fn settled(&self) {
        self.writing.store(0, Ordering::Release);
    }

    /// How many entries have something that the index does not know yet.
    pub(super) fn unwritten(&self) -> usize {
        let due = self.due();
        due.len() + self.writing.load(Ordering::Acquire)
    }

    /// Puts back what could not be written.
    fn put_back(&self, batch: BTreeMap<EntryId, Due>) {
        let mut due = self.due();
        for (id, old) in batch {
            let slot = due.entry(id).or_default();
            slot.removed |= old.removed;
            if slot.entry.is_none() {
                slot.entry = old.entry.filter(|entry| !entry.uses().is_removed());
            }
        }
    }

    /// Writes everything that waits to the index, in one transaction. What cannot be written waits on.
    pub(in super::super) fn write_due(&self) -> Result<(), StoreError> {
        let Medium::Disk(disk) = &self.medium else { return Ok(()) };
        // One at a time, or an older state of an entry could overwrite a newer one.
        let _one = self.batch.lock().unwrap_or_else(PoisonError::into_inner);
        self.write_batch(disk)
    }

    /// Has the pieces of `entry` in the index. Of those who wait here together the first writes for all.
    pub(in super::super) fn keep(&self, entry: &HeldEntry) -> Result<(), StoreError> {
        let Medium::Disk(disk) = &self.medium else { return Ok(()) };
        let _one = self.batch.lock().unwrap_or_else(PoisonError::into_inner);
        if !entry.lacks_in_index() {
            return Ok(());
        }
        // Whoever changed it may not have come to say so yet.
        entry.changed();
        self.write_batch(disk)
    }

    /// The batch's lock is held.
    fn write_batch(&self, disk: &Disk) -> Result<(), StoreError> {
        let batch = self.take_due();
        if batch.is_empty() {
            return Ok(());
        }
        let removed: BTreeSet<EntryId> = batch.iter().filter(|(_, due)| due.removed).map(|(id, _)| *id).collect();
        let live: Vec<_> = batch.values().filter_map(|due| due.entry.as_ref()).collect();
        let live: Vec<_> = live.into_iter().filter(|entry| !entry.uses().is_removed()).collect();
        let changes: Vec<_> = live.iter().map(|entry| entry.take_changes()).collect();
        #[cfg(test)]
        if let Some(faults) = &disk.faults {
            faults.committing();
        }
        let result = disk.index.write(&removed, &changes);
        for (entry, changes) in live.iter().zip(&changes) {
            match result {
                Ok(()) => entry.changes_written(changes),
                Err(_) => entry.changes_failed(changes),
            }
        }
        let result = result.inspect_err(|_| self.put_back(batch));
        self.settled();
        result
    }

    /// Writes the index at once if too much small content waits for it.
    pub(in super::super) fn relieve(&self) {
        if let Medium::Disk(disk) = &self.medium
            && disk.fresh.load(Ordering::Acquire) > SLAB_FRESH_BYTES_MAX
            && let Err(error) = self.write_due()
        {
            tracing::warn!(%error, "small content waits in memory");
        }
    }

    pub(in super::super) fn change_count(&self) -> u64 {
        self.changes.load(Ordering::Acquire)
    }

    /// Marks the store clean with `mark`, if nothing has changed since `changes` were counted.
    pub(in super::super) fn mark_clean(
        &self,
        changes: u64,
        mark: impl FnOnce() -> Result<(), StoreError>,
    ) -> Result<bool, StoreError> {
        if self.change_count() != changes {
            return Ok(false);
        }
        mark()?;
        self.clean.store(true, Ordering::Release);
        // A change between the two steps found no mark to take away.
        if self.change_count() != changes && self.clean.swap(false, Ordering::AcqRel) {
            (self.unmark)();
            return Ok(false);
        }
        Ok(true)
    }
}
