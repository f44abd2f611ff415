//! One entry, whichever store holds it: which pieces are held, whether they are proven, and who uses it.

mod cool;
mod persist;
mod proof;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};

use bytes::Bytes;

use super::api::Uses;
use super::catalogue::{Catalogue, unix_now};
use super::content::Content;
use super::export::{self, ExportOptions, Exported, Output};
use super::record::{EntryId, Marks, PIECES_PER_ROW, Times, Values, id_of};
use super::{Described, Entry, EntryInfo, EntryKey, StoreError, UseGuard};
use crate::task::{HaveMap, PieceHash, PieceIndex};

/// One statement of evidence, or the seal, in bytes: far above a signed batch of 64 values.
const STATEMENT_BYTES_MAX: usize = 64 << 10;

/// Evidence of one entry in bytes: 65 536 pieces attested one by one.
pub(super) const EVIDENCE_BYTES_MAX: usize = 32 << 20;

/// A use is written to the index only if the last one written is older, in seconds: it orders eviction, no more.
const TOUCH_GRAIN: u64 = 60;

/// The one implementation of [`Entry`].
pub(super) struct HeldEntry {
    me: Weak<HeldEntry>,
    catalogue: Arc<Catalogue>,
    key: EntryKey,
    id: EntryId,
    described: Described,
    content: Content,
    uses: Arc<Uses>,
    pinned: AtomicBool,
    created: u64,
    used: AtomicU64,
    /// Ties between uses within a second.
    used_order: AtomicU64,
    used_written: AtomicU64,
    /// When the data file was last read or written, in seconds since the store was opened, and one; 0 where it is not cached.
    warm: AtomicU64,
    /// Bytes held.
    held: AtomicU64,
    /// Bytes that the index has of it beside content, as last written.
    indexed: AtomicU64,
    needs_proof: AtomicBool,
    /// The run in which what is held was made or proven.
    proven: AtomicU64,
    proving: Mutex<()>,
    /// Blocks that proofs have read so far.
    blocks_proven: AtomicU64,
    state: Mutex<State>,
    written: Condvar,
}

struct State {
    have: HaveMap,
    values: Values,
    evidence: BTreeMap<u32, Bytes>,
    evidence_bytes: usize,
    seal: Option<Bytes>,
    /// The data file's times when it was last linked to an output.
    linked: Option<Times>,
    /// Pieces being written now.
    writing: BTreeSet<PieceIndex>,
    /// Whether what the index knows is in here.
    loaded: bool,
    dirty_rows: BTreeSet<u32>,
    /// Whether the index has yet to learn that the data file has a name outside the store.
    linked_is_new: bool,
    /// Whether some rows, or that, are being written to the index now.
    under_way: bool,
    dirty_evidence: BTreeSet<u32>,
    /// Whether the data file was written since it was last made durable.
    unsynced: bool,
}

impl HeldEntry {
    /// An entry that holds nothing.
    pub(super) fn create(catalogue: &Arc<Catalogue>, key: EntryKey, described: Described) -> Arc<Self> {
        let marks =
            Marks { created: unix_now(), used: unix_now(), proven: catalogue.run().current, ..Marks::default() };
        Self::new(catalogue, key, described, marks, true)
    }

    /// An entry of the index, whose pieces are loaded when it is first used.
    pub(super) fn restore(catalogue: &Arc<Catalogue>, key: EntryKey, described: Described, marks: Marks) -> Arc<Self> {
        Self::new(catalogue, key, described, marks, false)
    }

    fn new(catalogue: &Arc<Catalogue>, key: EntryKey, described: Described, marks: Marks, loaded: bool) -> Arc<Self> {
        let state = State {
            have: HaveMap::empty(described.layout.pieces()),
            values: Values::default(),
            evidence: BTreeMap::new(),
            evidence_bytes: 0,
            seal: marks.seal.map(Bytes::from),
            linked: marks.linked,
            writing: BTreeSet::new(),
            loaded,
            dirty_rows: BTreeSet::new(),
            linked_is_new: false,
            under_way: false,
            dirty_evidence: BTreeSet::new(),
            unsynced: false,
        };
        let run = catalogue.run();
        let needs_proof = marks.held > 0 && marks.proven < run.floor;
        Arc::new_cyclic(|me| Self {
            me: me.clone(),
            id: id_of(&key),
            content: Content::new(&catalogue.medium, &described.layout),
            key,
            described,
            uses: Arc::default(),
            pinned: AtomicBool::new(marks.pinned),
            created: marks.created,
            used: AtomicU64::new(marks.used),
            used_order: AtomicU64::new(catalogue.next_use()),
            used_written: AtomicU64::new(marks.used),
            warm: AtomicU64::new(0),
            held: AtomicU64::new(marks.held),
            indexed: AtomicU64::new(marks.indexed),
            needs_proof: AtomicBool::new(needs_proof),
            // Without a proof owed, what is held is as good as proven in this run.
            proven: AtomicU64::new(if needs_proof { marks.proven } else { run.current }),
            proving: Mutex::new(()),
            blocks_proven: AtomicU64::new(0),
            state: Mutex::new(state),
            written: Condvar::new(),
            catalogue: catalogue.clone(),
        })
    }

    pub(super) const fn id(&self) -> &EntryId {
        &self.id
    }

    pub(super) fn uses(&self) -> &Arc<Uses> {
        &self.uses
    }

    pub(super) fn held(&self) -> u64 {
        self.held.load(Ordering::Acquire)
    }

    pub(super) const fn created(&self) -> u64 {
        self.created
    }

    pub(super) fn is_pinned(&self) -> bool {
        self.pinned.load(Ordering::Acquire)
    }

    pub(super) fn set_pinned(&self, pinned: bool) {
        self.pinned.store(pinned, Ordering::Release);
        self.changed();
    }

    /// When it was last used: seconds since 1970, then order.
    pub(super) fn last_use(&self) -> (u64, u64) {
        (self.used.load(Ordering::Acquire), self.used_order.load(Ordering::Acquire))
    }

    pub(super) fn info(&self) -> EntryInfo {
        EntryInfo {
            key: self.key.clone(),
            label: self.described.label.clone(),
            length: self.described.layout.length(),
            held: self.held(),
            pinned: self.is_pinned(),
            in_use: self.uses.any(),
            created: self.created,
            used: self.used.load(Ordering::Acquire),
        }
    }

    /// Counts the bytes held anew, after pieces came or went other than by a write.
    fn recount(&self, have: &HaveMap) {
        let layout = &self.described.layout;
        let now: u64 = have.iter().filter_map(|index| layout.length_of(index)).sum();
        let before = self.held.swap(now, Ordering::AcqRel);
        self.catalogue.recharge(before, now);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enter(&self) -> Result<UseGuard, StoreError> {
        self.uses.enter().ok_or(StoreError::NotFound { generation: self.key.generation })
    }

    /// Has the change written to the index, in time.
    pub(super) fn changed(&self) {
        if let Some(me) = self.me.upgrade() {
            self.catalogue.changed(&me);
        }
    }

    fn is_doubted(&self) -> bool {
        self.needs_proof.load(Ordering::Acquire)
    }

    fn refuse_unproven(&self) -> Result<(), StoreError> {
        if self.is_doubted() {
            return Err(StoreError::NeedsProof { generation: self.key.generation });
        }
        Ok(())
    }

    /// Refuses unless every piece is held and proven.
    pub(super) fn refuse_incomplete(&self) -> Result<(), StoreError> {
        self.check_linked(&self.lock())?;
        self.refuse_unproven()?;
        let state = self.lock();
        if state.have.is_complete() {
            return Ok(());
        }
        let (held, pieces) = (state.have.held(), state.have.pieces());
        Err(StoreError::Incomplete { generation: self.key.generation, held, pieces })
    }

    /// The data file and its path, if the content has one.
    pub(super) fn file(&self) -> Result<Option<(Arc<File>, PathBuf)>, StoreError> {
        self.content.file(&self.catalogue.medium, &self.id, &self.described.layout)
    }

    /// Refuses unless all pieces of these bytes are held and proven.
    fn refuse_unheld(&self, offset: u64, length: usize) -> Result<(), StoreError> {
        let layout = &self.described.layout;
        let end = offset.checked_add(length as u64).filter(|end| *end <= layout.length());
        let end = end.ok_or_else(|| {
            StoreError::Invalid(format!("cannot read {length} bytes at {offset} of {}", layout.length()))
        })?;
        let state = self.lock();
        self.check_linked(&state)?;
        self.refuse_unproven()?;
        let pieces = layout.pieces_of(offset..end);
        if let Some(index) = state.have.next(pieces.start, false)
            && index < pieces.end
        {
            return Err(StoreError::NotHeld { generation: self.key.generation, index });
        }
        Ok(())
    }

    fn read_content(&self, offset: u64, buf: &mut [u8]) -> Result<(), StoreError> {
        self.warm();
        self.content.read_at(&self.catalogue.medium, &self.id, &self.described.layout, offset, buf)
    }

    /// Claims the writing of a piece; false if it is held. Waits while another writes it.
    fn claim(&self, index: PieceIndex) -> bool {
        let mut state = self.lock();
        loop {
            if state.have.contains(index) {
                return false;
            }
            if state.writing.insert(index) {
                return true;
            }
            state = self.written.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Claims the writing of every piece, if none is held or being written.
    pub(super) fn claim_all(&self) -> bool {
        let mut state = self.lock();
        let free = state.have.held() == 0 && state.writing.is_empty();
        if free {
            state.writing.extend(0..self.described.layout.pieces());
        }
        free
    }

    /// Gives up what [`HeldEntry::claim_all`] claimed.
    pub(super) fn unclaim_all(&self) {
        self.lock().writing.clear();
        self.written.notify_all();
    }

    /// Takes in content that a spool has put in its place, all of it claimed.
    pub(super) fn fill(&self, content: Option<&Bytes>, values: &[PieceHash]) {
        if let Some(content) = content {
            self.content.fill(&self.catalogue.medium, &self.described.layout, content);
        }
        let mut state = self.lock();
        for (index, value) in (0..).zip(values) {
            state.have.insert(index);
            state.values.set(index, *value);
            state.dirty_rows.insert(index / PIECES_PER_ROW);
        }
        state.unsynced = true;
        self.warm();
        // The spool has paid for the bytes; they only change hands.
        self.held.store(self.described.layout.length(), Ordering::Release);
        drop(state);
        self.unclaim_all();
        self.changed();
        self.catalogue.relieve();
    }
}

impl Entry for HeldEntry {
    fn key(&self) -> &EntryKey {
        &self.key
    }

    fn described(&self) -> &Described {
        &self.described
    }

    fn have(&self) -> HaveMap {
        self.lock().have.clone()
    }

    fn is_held(&self, index: PieceIndex) -> bool {
        self.lock().have.contains(index)
    }

    fn is_complete(&self) -> bool {
        self.lock().have.is_complete()
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), StoreError> {
        let _use = self.enter()?;
        self.refuse_unheld(offset, buf.len())?;
        if buf.is_empty() {
            return Ok(());
        }
        // Content that cannot be read back may be damaged elsewhere too: it is proven again before it is served.
        self.read_content(offset, buf).inspect_err(|_| self.needs_proof.store(true, Ordering::Release))
    }

    fn cache(&self, offset: u64, length: usize) -> Result<Option<Arc<File>>, StoreError> {
        let _use = self.enter()?;
        self.refuse_unheld(offset, length)?;
        self.warm();
        let cached = self.content.cache(&self.catalogue.medium, &self.id, offset, length);
        cached.inspect_err(|_| self.needs_proof.store(true, Ordering::Release))
    }

    fn in_memory(&self) -> Option<Bytes> {
        let _use = self.enter().ok()?;
        self.refuse_incomplete().ok()?;
        self.content.in_memory(&self.catalogue.medium, &self.id)
    }

    fn write_piece(&self, index: PieceIndex, bytes: &[u8], value: &PieceHash) -> Result<bool, StoreError> {
        let _use = self.enter()?;
        let layout = &self.described.layout;
        let length = bytes.len() as u64;
        if layout.length_of(index) != Some(length) {
            return Err(StoreError::Invalid(format!("piece {index} does not have {length} bytes")));
        }
        self.refuse_unproven()?;
        if !self.claim(index) {
            return Ok(false);
        }
        self.warm();
        let result = self.catalogue.charge(length).and_then(|()| {
            self.content
                .write(&self.catalogue.medium, &self.id, layout, index, bytes)
                .inspect_err(|_| self.catalogue.recharge(length, 0))
        });
        let mut state = self.lock();
        state.writing.remove(&index);
        if result.is_ok() {
            state.have.insert(index);
            state.values.set(index, *value);
            state.dirty_rows.insert(index / PIECES_PER_ROW);
            state.unsynced = true;
            self.held.fetch_add(length, Ordering::AcqRel);
        }
        drop(state);
        self.written.notify_all();
        result?;
        self.changed();
        self.catalogue.relieve();
        Ok(true)
    }

    fn value(&self, index: PieceIndex) -> Option<PieceHash> {
        let state = self.lock();
        state.have.contains(index).then(|| state.values.value(index))?
    }

    fn put_evidence(&self, sequence: u32, bytes: Bytes) -> Result<(), StoreError> {
        let _use = self.enter()?;
        let mut state = self.lock();
        let old = state.evidence.get(&sequence).map_or(0, Bytes::len);
        let total = state.evidence_bytes - old + bytes.len();
        if bytes.len() > STATEMENT_BYTES_MAX || total > EVIDENCE_BYTES_MAX {
            return Err(StoreError::Full { what: "more evidence of one entry".into(), source: None });
        }
        state.evidence_bytes = total;
        state.evidence.insert(sequence, bytes);
        state.dirty_evidence.insert(sequence);
        drop(state);
        self.changed();
        Ok(())
    }

    fn evidence(&self) -> Vec<Bytes> {
        self.lock().evidence.values().cloned().collect()
    }

    fn set_seal(&self, seal: Bytes) -> Result<(), StoreError> {
        let _use = self.enter()?;
        if seal.len() > STATEMENT_BYTES_MAX {
            return Err(StoreError::Full { what: "a larger seal".into(), source: None });
        }
        self.lock().seal = Some(seal);
        self.changed();
        Ok(())
    }

    fn seal(&self) -> Option<Bytes> {
        self.lock().seal.clone()
    }

    fn is_kept(&self) -> bool {
        !self.lacks_in_index()
    }

    fn keep(&self) -> Result<(), StoreError> {
        self.catalogue.keep(self)
    }

    fn needs_proof(&self) -> bool {
        // A file that cannot be examined is found out when it is read.
        let _ = self.check_linked(&self.lock());
        self.is_doubted()
    }

    fn prove(&self) -> Result<HaveMap, StoreError> {
        self.prove_held()
    }

    fn use_guard(&self) -> Result<UseGuard, StoreError> {
        let guard = self.enter()?;
        self.touch(unix_now());
        Ok(guard)
    }

    fn touch(&self, now_unix: u64) {
        self.used.store(now_unix, Ordering::Release);
        self.used_order.store(self.catalogue.next_use(), Ordering::Release);
        if now_unix.abs_diff(self.used_written.load(Ordering::Acquire)) >= TOUCH_GRAIN {
            self.changed();
        }
    }

    fn export(&self, output: &Path, options: ExportOptions) -> Result<Exported, StoreError> {
        let _use = self.enter()?;
        self.refuse_incomplete()?;
        export::export(self, output, options, &|| true)
    }

    fn output(self: Arc<Self>, output: &Path, options: ExportOptions) -> Result<Output, StoreError> {
        let guard = self.use_guard()?;
        self.check_linked(&self.lock())?;
        self.refuse_unproven()?;
        Output::start(self, guard, output, options)
    }

    fn descriptor(&self) -> Result<Option<File>, StoreError> {
        let _use = self.enter()?;
        self.check_linked(&self.lock())?;
        self.refuse_unproven()?;
        let Some((_, path)) = self.file()? else { return Ok(None) };
        self.warm();
        File::open(&path).map(Some).map_err(|e| StoreError::io("open", &path, e))
    }
}
