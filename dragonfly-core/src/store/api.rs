//! What a store offers, whichever it is.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use bytes::Bytes;

use super::{ExportOptions, Exported, Output, StoreError};
use crate::task::{Class, Generation, HaveMap, Layout, PieceHash, PieceIndex, TaskId, TaskSpec, Validator};

/// The name of an entry: content of two networks, tenants, classes or generations never mixes.
///
/// Keys are ordered by their fields, so all generations of a task are neighbours.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntryKey {
    /// The network's public key.
    pub network: [u8; 32],
    /// The tenant, at most 256 bytes.
    pub tenant: String,
    /// The task.
    pub task: TaskId,
    /// Who may share it.
    pub class: Class,
    /// The version of its content.
    pub generation: Generation,
}

/// What is known of an entry when it is opened; it does not change afterwards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Described {
    /// Length and pieces.
    pub layout: Layout,
    /// What tells this generation from others at the origin.
    pub validator: Option<Validator>,
    /// Whether its ranges may come from several holders (only under a strong validator).
    pub splittable: bool,
    /// What listings show, such as a redacted URL; at most 4096 bytes are kept.
    pub label: String,
    /// What the task is, where this host may know it.
    pub spec: Option<TaskSpec>,
    /// Whether the content is fixed by its name (a digest, an immutable revision).
    pub fixed: bool,
}

/// One line of a listing. Whoever shows it must leave out the task's id where the class is
/// [`Class::Keyed`]: there the id is a capability.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntryInfo {
    /// The name.
    pub key: EntryKey,
    /// What listings show.
    pub label: String,
    /// Bytes in all.
    pub length: u64,
    /// Bytes held.
    pub held: u64,
    /// Whether eviction leaves it alone.
    pub pinned: bool,
    /// Whether something reads, serves or writes it.
    pub in_use: bool,
    /// When it was opened first, in seconds since 1970.
    pub created: u64,
    /// When it was last used, in seconds since 1970.
    pub used: u64,
}

/// How much a store holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Usage {
    /// Content bytes held, spools included.
    pub bytes: u64,
    /// What the index has beside content: headers, values and evidence, as they were last written. They count against
    /// the budget; the file may be larger by what was deleted and is not used again yet.
    pub index_bytes: u64,
    /// Entries.
    pub entries: usize,
    /// Entries with pieces that the index on disk does not know yet: a crash now would cost these pieces.
    pub unwritten: usize,
    /// The budget in bytes, if there is one.
    pub quota: Option<u64>,
    /// Entries evicted since it was opened.
    pub evicted_entries: u64,
    /// Their bytes.
    pub evicted_bytes: u64,
}

/// Told of every entry that eviction removed, after it is gone. Called on whatever thread made room: it must not
/// block, nor call the store.
pub type EvictionObserver = Box<dyn Fn(&EntryKey) + Send + Sync>;

/// A store of proven pieces.
pub trait Store: Send + Sync + 'static {
    /// The entry under `key`, made if there is none.
    ///
    /// Nothing is read, written or reserved for content yet. The entry may need proof ([`Entry::needs_proof`]),
    /// and without a [`UseGuard`] it may be evicted at any time.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] if there is one with another layout; [`StoreError::Full`] at the bound on entries.
    fn open(&self, key: &EntryKey, described: &Described) -> Result<Arc<dyn Entry>, StoreError>;

    /// Every generation held of a task, the newest first.
    fn find(&self, network: &[u8; 32], tenant: &str, task: &TaskId) -> Vec<Arc<dyn Entry>>;

    /// What listings say of one entry, if it is there.
    fn info(&self, key: &EntryKey) -> Option<EntryInfo>;

    /// The entries after `after` (from the first one without it) in the order of their keys, at most `max`.
    fn list(&self, after: Option<&EntryKey>, max: usize) -> Vec<EntryInfo>;

    /// Removes an entry and its content; whether there was one.
    ///
    /// # Errors
    /// [`StoreError::InUse`] while it is read, written or served.
    fn remove(&self, key: &EntryKey) -> Result<bool, StoreError>;

    /// Pins an entry, so that it is not evicted, or unpins it; whether there is one.
    fn set_pinned(&self, key: &EntryKey, pinned: bool) -> bool;

    /// A place for content whose length is not known yet; at most 64 at a time.
    ///
    /// # Errors
    /// The place cannot be made, or [`StoreError::Full`] beyond the bound.
    fn spool(&self) -> Result<Box<dyn Spool>, StoreError>;

    /// How much is held.
    fn usage(&self) -> Usage;

    /// Removes what has not been used for the time to live, and, above the high-water mark, the least recently
    /// used down to the low one. Pinned entries and those in use stay. Returns the bytes freed.
    fn evict(&self, now_unix: u64) -> u64;

    /// Has `observer` told of what is evicted from now on, in place of the one before. Entries that are removed by
    /// name are not evicted: who removes them knows.
    fn on_evicted(&self, observer: EvictionObserver);

    /// Makes everything durable and marks the stop as clean, so that the next start need not prove anything again.
    /// A later change takes the mark away.
    ///
    /// # Errors
    /// Something could not be made durable; nothing is lost in this process, and the next start proves again.
    fn flush(&self) -> Result<(), StoreError>;
}

/// One generation of a task.
///
/// After the entry has been removed every call says [`StoreError::NotFound`]; hold a [`UseGuard`] to rule it out.
pub trait Entry: Send + Sync + 'static {
    /// The name.
    fn key(&self) -> &EntryKey;

    /// What was known when it was opened.
    fn described(&self) -> &Described;

    /// The pieces held now.
    fn have(&self) -> HaveMap;

    /// Whether a piece is held.
    fn is_held(&self, index: PieceIndex) -> bool;

    /// Whether every piece is held.
    fn is_complete(&self) -> bool;

    /// Fills `buf` with content from `offset` on.
    ///
    /// # Errors
    /// [`StoreError::NotHeld`] if a piece of it is not held, [`StoreError::NeedsProof`],
    /// [`StoreError::Invalid`] past the end.
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), StoreError>;

    /// The content's file, once so many bytes from `offset` on have been read into the page cache, for who sends them from
    /// there; in it they have the same place. `None` where the content has no file of its own, or the system no way to do so.
    ///
    /// # Errors
    /// As for [`Entry::read_at`].
    fn cache(&self, offset: u64, length: usize) -> Result<Option<Arc<File>>, StoreError> {
        let _ = (offset, length);
        Ok(None)
    }

    /// All of it, if it is complete, proven, and in memory as one: nothing is read from a disk for it.
    fn in_memory(&self) -> Option<Bytes>;

    /// Writes a whole piece that the caller has proven against `value`, then counts it as held. False if it was
    /// held already. Of two calls for one piece, the second waits for the first.
    ///
    /// # Errors
    /// [`StoreError::Full`] leaves the entry as it was: call again when there is space.
    fn write_piece(&self, index: PieceIndex, bytes: &[u8], value: &PieceHash) -> Result<bool, StoreError>;

    /// The value of a held piece.
    fn value(&self, index: PieceIndex) -> Option<PieceHash>;

    /// Keeps an encoded statement with the entry, in the place of the one with the same number. Evidence does not
    /// count against the quota: it is bounded per entry.
    ///
    /// # Errors
    /// [`StoreError::Full`] beyond 64 KiB each or 32 MiB together.
    fn put_evidence(&self, sequence: u32, bytes: Bytes) -> Result<(), StoreError>;

    /// The statements kept, in the order of their numbers.
    fn evidence(&self) -> Vec<Bytes>;

    /// Keeps the encoded seal with the entry, at most 64 KiB.
    ///
    /// # Errors
    /// [`StoreError::Full`] if it is larger.
    fn set_seal(&self, seal: Bytes) -> Result<(), StoreError>;

    /// The encoded seal.
    fn seal(&self) -> Option<Bytes>;

    /// Whether all that is held would be there after a kill of this process; always, where nothing outlives it.
    fn is_kept(&self) -> bool {
        true
    }

    /// Has it be so. Of calls at the same time one does the work of all.
    ///
    /// # Errors
    /// The index cannot be written; it is tried again by itself.
    fn keep(&self) -> Result<(), StoreError> {
        Ok(())
    }

    /// Whether what is held must be proven before use: after an unclean stop, after a failed read, and when a
    /// hard-linked output may have been written to. Until then reads, writes and exports are refused.
    fn needs_proof(&self) -> bool;

    /// Hashes every held piece against its value. What does not match is no longer held; the rest can be used.
    /// Takes as long as reading the entry does.
    ///
    /// # Errors
    /// The entry has been removed.
    fn prove(&self) -> Result<HaveMap, StoreError>;

    /// While the guard lives the entry is neither evicted nor removed. Counts as a use.
    ///
    /// # Errors
    /// The entry has been removed.
    fn use_guard(&self) -> Result<UseGuard, StoreError>;

    /// Says that the entry was used at `now_unix` (seconds since 1970).
    fn touch(&self, now_unix: u64);

    /// Puts the complete content under a name of the caller's, at once as a whole: there is never a part of it
    /// under that name, and without `overwrite` never a file that was there before replaced.
    ///
    /// # Errors
    /// [`StoreError::Incomplete`], [`StoreError::NeedsProof`], [`StoreError::Exists`], or the file system's.
    fn export(&self, output: &Path, options: ExportOptions) -> Result<Exported, StoreError>;

    /// An output that follows the download, so that after the last piece only a rename or a link remains.
    ///
    /// # Errors
    /// As for [`Entry::export`], save that the content need not be complete.
    fn output(self: Arc<Self>, output: &Path, options: ExportOptions) -> Result<Output, StoreError>;

    /// A read-only descriptor of the content's file, in which pieces that are held have their place, and others come to
    /// theirs; `None` where the content has no file of its own.
    ///
    /// # Errors
    /// [`StoreError::NeedsProof`], or the file system's.
    fn descriptor(&self) -> Result<Option<File>, StoreError>;
}

/// Content of unknown length on its way into a store. Dropping it removes what it holds.
pub trait Spool: Send {
    /// Takes the next bytes.
    ///
    /// # Errors
    /// [`StoreError::Full`]: what was taken before is still there.
    fn append(&mut self, bytes: &[u8]) -> Result<(), StoreError>;

    /// Bytes taken so far.
    fn length(&self) -> u64;

    /// Fills `buf` with what was taken, from `offset` on.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] past the end.
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), StoreError>;

    /// Turns it into the complete entry `key`. `values` are the pieces' in order, as the caller computed them.
    /// An entry that exists under this key is completed.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] if the layout or the number of values do not fit what was taken.
    fn finish(
        self: Box<Self>,
        key: &EntryKey,
        described: &Described,
        values: &[PieceHash],
    ) -> Result<Arc<dyn Entry>, StoreError>;
}

/// While it lives, its entry is neither evicted nor removed.
#[derive(Debug)]
pub struct UseGuard(Arc<Uses>);

impl Drop for UseGuard {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// How many uses of an entry there are; removal is the last word.
#[derive(Debug, Default)]
pub(super) struct Uses(AtomicU32);

impl Uses {
    const REMOVED: u32 = u32::MAX;

    /// One use more, unless the entry has been removed.
    pub(super) fn enter(self: &Arc<Self>) -> Option<UseGuard> {
        let more = |uses: u32| (uses < Self::REMOVED - 1).then(|| uses + 1);
        self.0.fetch_update(Ordering::AcqRel, Ordering::Acquire, more).ok().map(|_| UseGuard(self.clone()))
    }

    /// Whether there is any.
    pub(super) fn any(&self) -> bool {
        !matches!(self.0.load(Ordering::Acquire), 0 | Self::REMOVED)
    }

    /// Whether the entry has been removed.
    pub(super) fn is_removed(&self) -> bool {
        self.0.load(Ordering::Acquire) == Self::REMOVED
    }

    /// Rules out any further use; false while there is one.
    pub(super) fn remove(&self) -> bool {
        self.0.compare_exchange(0, Self::REMOVED, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }
}
