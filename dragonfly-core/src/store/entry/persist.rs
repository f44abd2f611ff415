//! What of an entry goes to the index and to the disk, and when.

use std::path::PathBuf;
use std::sync::atomic::Ordering;

use bytes::Bytes;

use super::super::StoreError;
use super::super::catalogue::Medium;
use super::super::record::{Changes, Header, Loaded, Marks, ROW_KEY};
use super::HeldEntry;

impl HeldEntry {
    /// Reads from the index what is not in memory yet.
    pub(in super::super) fn load(&self) -> Result<(), StoreError> {
        let mut state = self.lock();
        let Medium::Disk(disk) = &self.catalogue.medium else { return Ok(()) };
        if state.loaded {
            return Ok(());
        }
        let Loaded { have, values, evidence } = disk.index.load(&self.id, self.described.layout.pieces())?;
        state.evidence_bytes = evidence.values().map(Bytes::len).sum();
        (state.have, state.values, state.evidence) = (have, values, evidence);
        state.loaded = true;
        self.recount(&state.have);
        Ok(())
    }

    /// What changed since the last call.
    pub(in super::super) fn take_changes(&self) -> Changes {
        let mut state = self.lock();
        let rows = std::mem::take(&mut state.dirty_rows);
        let linked_is_new = std::mem::take(&mut state.linked_is_new);
        state.under_way = !rows.is_empty() || linked_is_new;
        let rows = rows.into_iter().map(|row| (row, state.values.encode_row(row, &state.have))).collect();
        let evidence = std::mem::take(&mut state.dirty_evidence);
        let evidence = evidence.iter().filter_map(|n| Some((*n, state.evidence.get(n)?.clone()))).collect();
        let used = self.used.load(Ordering::Acquire);
        self.used_written.store(used, Ordering::Release);
        let mut marks = Marks {
            pinned: self.is_pinned(),
            created: self.created,
            used,
            held: self.held(),
            proven: self.proven.load(Ordering::Acquire),
            seal: state.seal.as_ref().map(|seal| seal.to_vec()),
            linked: state.linked,
            indexed: self.indexed.load(Ordering::Acquire),
        };
        if state.loaded {
            let evidence = state.evidence_bytes + state.evidence.len() * ROW_KEY;
            let header = Header::new(&self.key, &self.described, marks.clone()).encode().len();
            marks.indexed = state.values.encoded_length(state.have.held()) + (self.id.len() + header + evidence) as u64;
        }
        let before = self.indexed.swap(marks.indexed, Ordering::AcqRel);
        self.catalogue.recharge_index(before, marks.indexed);
        if self.uses.is_removed() {
            // Removed in this moment: whichever came last lets go of it.
            self.catalogue.recharge_index(self.indexed.swap(0, Ordering::AcqRel), 0);
        }
        let header = Header::new(&self.key, &self.described, marks).encode();
        Changes { id: self.id, header, rows, evidence, slab: self.content.fresh(), linked_is_new }
    }

    /// `changes` are in the index.
    pub(in super::super) fn changes_written(&self, changes: &Changes) {
        self.lock().under_way = false;
        if let (Some(content), Medium::Disk(disk)) = (&changes.slab, &self.catalogue.medium) {
            self.content.written(disk, &self.id, content);
        }
    }

    /// `changes` could not be written: they are due again.
    pub(in super::super) fn changes_failed(&self, changes: &Changes) {
        let mut state = self.lock();
        state.under_way = false;
        state.linked_is_new |= changes.linked_is_new;
        state.dirty_rows.extend(changes.rows.iter().map(|(row, _)| *row));
        state.dirty_evidence.extend(changes.evidence.iter().map(|(sequence, _)| *sequence));
    }

    /// Whether pieces are held that the index does not have yet, or it does not know that others may write to them.
    pub(in super::super) fn lacks_in_index(&self) -> bool {
        let state = self.lock();
        matches!(self.catalogue.medium, Medium::Disk(_))
            && (state.under_way || state.linked_is_new || !state.dirty_rows.is_empty())
    }

    /// Makes the data file durable if it was written.
    pub(in super::super) fn sync(&self) -> Result<(), StoreError> {
        if !std::mem::take(&mut self.lock().unsynced) {
            return Ok(());
        }
        let Ok(_use) = self.enter() else { return Ok(()) };
        let Some((file, path)) = self.file()? else { return Ok(()) };
        let Medium::Disk(disk) = &self.catalogue.medium else { return Ok(()) };
        disk.sync(&path, &file).map_err(|error| {
            self.lock().unsynced = true;
            StoreError::io("make durable", &path, error)
        })
    }

    /// Gives the content back; the entry has been ruled out of use. The bytes freed, and the file still to be buried.
    pub(in super::super) fn release(&self) -> Result<(u64, Option<PathBuf>), StoreError> {
        let held = self.held.swap(0, Ordering::AcqRel);
        self.catalogue.recharge(held, 0);
        self.catalogue.recharge_index(self.indexed.swap(0, Ordering::AcqRel), 0);
        self.content.remove(&self.catalogue.medium, &self.id).map(|doomed| (held, doomed))
    }
}
