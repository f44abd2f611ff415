//! What the stores share: the map of entries, the budget, and eviction.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::ops::Bound;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;

use super::content::{SLAB_FRESH_BYTES_MAX, SlabCache};
use super::entry::HeldEntry;
use super::files::{DataFiles, bury};
use super::index::{Index, Run};
use super::record::EntryId;
use super::{Described, Entry as _, EntryInfo, EntryKey, StoreError, Usage};
use crate::task::{Class, Generation, TaskId};

/// A tenant's name in bytes: it is part of every key.
const TENANT_BYTES_MAX: usize = 256;

/// A label in bytes: it is for people.
const LABEL_BYTES_MAX: usize = 4096;

/// When entries go: see [`Store::evict`](super::Store::evict).
#[derive(Clone, Debug)]
pub(super) struct Policy {
    pub(super) quota: Option<u64>,
    pub(super) high_water: f64,
    pub(super) low_water: f64,
    pub(super) ttl: Option<Duration>,
    pub(super) entries_max: usize,
}

impl Policy {
    /// Refuses settings under which eviction makes no sense.
    pub(super) fn check(&self) -> Result<(), StoreError> {
        let ordered = 0.0 <= self.low_water && self.low_water <= self.high_water && self.high_water <= 1.0;
        if !ordered {
            let (low, high) = (self.low_water, self.high_water);
            return Err(StoreError::Invalid(format!(
                "water marks must be 0 <= low <= high <= 1, not {low} and {high}"
            )));
        }
        Ok(())
    }
}

/// Where content is.
pub(super) enum Medium {
    Disk(Box<Disk>),
    Memory,
}

/// What a store on disk has beside its entries.
pub(super) struct Disk {
    pub(super) files: DataFiles,
    pub(super) index: Index,
    pub(super) cache: SlabCache,
    /// Bytes of small content that the index does not have yet.
    pub(super) fresh: AtomicUsize,
    /// Held for as long as anything uses the directory: no second process may.
    pub(super) _lock: File,
    #[cfg(test)]
    pub(super) fail_writes: std::sync::atomic::AtomicI32,
}

impl Disk {
    /// The content of a small entry that the index has.
    pub(super) fn slab(&self, id: &EntryId) -> Result<Bytes, StoreError> {
        if let Some(content) = self.cache.get(id) {
            return Ok(content);
        }
        let content = self.index.slab(id)?;
        let content = content.ok_or_else(|| StoreError::Invalid("a small entry lacks its content".into()))?;
        self.cache.insert(*id, content.clone());
        Ok(content)
    }

    /// Fails as the file system would, where a test asked for it by the error's number.
    #[cfg(test)]
    pub(super) fn fault(&self, path: &std::path::Path) -> Result<(), StoreError> {
        match self.fail_writes.load(Ordering::Acquire) {
            0 => Ok(()),
            code => Err(StoreError::io("write", path, std::io::Error::from_raw_os_error(code))),
        }
    }
}

/// What waits to be written to the index, of one entry.
#[derive(Default)]
pub(super) struct Due {
    /// The rows that are there belong to an entry that has been removed.
    pub(super) removed: bool,
    pub(super) entry: Option<Arc<HeldEntry>>,
}

/// The entries of one store.
pub(super) struct Catalogue {
    pub(super) medium: Medium,
    run: Run,
    policy: Policy,
    entries: Mutex<BTreeMap<EntryKey, Arc<HeldEntry>>>,
    bytes: AtomicU64,
    uses: AtomicU64,
    due: Mutex<BTreeMap<EntryId, Due>>,
    batch: Mutex<()>,
    /// Changes so far: what was made durable is all there is if this has not moved.
    changes: AtomicU64,
    /// Called at the first change after a clean mark was set.
    clean: AtomicBool,
    unmark: Box<dyn Fn() + Send + Sync>,
    /// Whether the thread that writes the index shall end, and how it is told.
    pub(super) stopping: Mutex<bool>,
    pub(super) wake: Condvar,
}

impl Catalogue {
    pub(super) fn new(medium: Medium, run: Run, policy: Policy, unmark: Box<dyn Fn() + Send + Sync>) -> Arc<Self> {
        Arc::new(Self {
            medium,
            run,
            policy,
            entries: Mutex::default(),
            bytes: AtomicU64::new(0),
            uses: AtomicU64::new(0),
            due: Mutex::default(),
            batch: Mutex::new(()),
            changes: AtomicU64::new(0),
            clean: AtomicBool::new(false),
            unmark,
            stopping: Mutex::new(false),
            wake: Condvar::new(),
        })
    }

    pub(super) const fn run(&self) -> Run {
        self.run
    }

    pub(super) fn next_use(&self) -> u64 {
        self.uses.fetch_add(1, Ordering::AcqRel)
    }

    fn entries(&self) -> MutexGuard<'_, BTreeMap<EntryKey, Arc<HeldEntry>>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes in the entries of the index.
    pub(super) fn restore(self: &Arc<Self>, entries: Vec<(EntryKey, Described, super::record::Marks)>) {
        let mut map = self.entries();
        for (key, described, marks) in entries {
            self.bytes.fetch_add(marks.held, Ordering::AcqRel);
            map.insert(key.clone(), HeldEntry::restore(self, key, described, marks));
        }
    }

    /// Lets go of every entry, whose references to the catalogue would otherwise keep it alive.
    pub(super) fn clear(&self) {
        std::mem::take(&mut *self.entries());
        self.take_due();
    }

    pub(super) fn open(self: &Arc<Self>, key: &EntryKey, described: &Described) -> Result<Arc<HeldEntry>, StoreError> {
        if key.tenant.len() > TENANT_BYTES_MAX {
            return Err(StoreError::Invalid(format!("a tenant's name has at most {TENANT_BYTES_MAX} bytes")));
        }
        if let Some(entry) = self.get(key) {
            return same_layout(entry, described);
        }
        if self.entries().len() >= self.policy.entries_max {
            self.make_room(0, 1);
        }
        let mut described = described.clone();
        truncate(&mut described.label, LABEL_BYTES_MAX);
        let entry = {
            let mut entries = self.entries();
            if entries.len() >= self.policy.entries_max && !entries.contains_key(key) {
                return Err(StoreError::Full { what: "another entry".into(), source: None });
            }
            let new = || HeldEntry::create(self, key.clone(), described.clone());
            entries.entry(key.clone()).or_insert_with(new).clone()
        };
        self.changed(&entry);
        same_layout(entry, &described)
    }

    pub(super) fn get(&self, key: &EntryKey) -> Option<Arc<HeldEntry>> {
        self.entries().get(key).cloned()
    }

    pub(super) fn find(&self, network: &[u8; 32], tenant: &str, task: &TaskId) -> Vec<Arc<HeldEntry>> {
        let first = EntryKey {
            network: *network,
            tenant: tenant.to_owned(),
            task: *task,
            class: Class::Public,
            generation: Generation::from_hash([0; 32]),
        };
        let mut found: Vec<_> = self
            .entries()
            .range(&first..)
            .take_while(|(key, _)| key.network == *network && key.tenant == tenant && key.task == *task)
            .map(|(_, entry)| entry.clone())
            .collect();
        found.retain(|entry| match entry.load() {
            Ok(()) => true,
            Err(error) => {
                tracing::warn!(generation = ?entry.key().generation, %error, "cannot load an entry");
                false
            }
        });
        found.sort_by_key(|entry| std::cmp::Reverse((entry.created(), entry.last_use())));
        found
    }

    pub(super) fn info(&self, key: &EntryKey) -> Option<EntryInfo> {
        self.get(key).map(|entry| entry.info())
    }

    pub(super) fn list(&self, after: Option<&EntryKey>, max: usize) -> Vec<EntryInfo> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.entries().range((from, Bound::Unbounded)).take(max).map(|(_, entry)| entry.info()).collect()
    }

    pub(super) fn remove(&self, key: &EntryKey) -> Result<bool, StoreError> {
        let Some(entry) = self.get(key) else { return Ok(false) };
        match self.remove_entry(&entry)? {
            Some(_) => Ok(true),
            None => Err(StoreError::InUse { generation: key.generation }),
        }
    }

    /// Removes an entry that nothing uses; the bytes freed.
    fn remove_entry(&self, entry: &Arc<HeldEntry>) -> Result<Option<u64>, StoreError> {
        let released = {
            // Under the lock, so that whoever opens the key next finds the old entry or makes a new one, whose file
            // has the same name.
            let mut entries = self.entries();
            if !entry.uses().remove() {
                return Ok(None);
            }
            entries.remove(entry.key());
            self.due().insert(*entry.id(), Due { removed: true, entry: None });
            entry.release()
        };
        self.count_change();
        let (freed, doomed) = released?;
        bury(doomed);
        Ok(Some(freed))
    }

    pub(super) fn set_pinned(&self, key: &EntryKey, pinned: bool) -> bool {
        let entry = self.get(key);
        entry.inspect(|entry| entry.set_pinned(pinned)).is_some()
    }

    pub(super) fn usage(&self) -> Usage {
        Usage { bytes: self.bytes.load(Ordering::Acquire), entries: self.entries().len(), quota: self.policy.quota }
    }

    /// Takes `bytes` of the budget, making room if need be.
    pub(super) fn charge(&self, bytes: u64) -> Result<(), StoreError> {
        let Some(quota) = self.policy.quota else {
            self.bytes.fetch_add(bytes, Ordering::AcqRel);
            return Ok(());
        };
        let take = || {
            let more = |now: u64| now.checked_add(bytes).filter(|then| *then <= quota);
            self.bytes.fetch_update(Ordering::AcqRel, Ordering::Acquire, more).is_ok()
        };
        if take() || (bytes <= quota && self.make_room(bytes, 0) > 0 && take()) {
            return Ok(());
        }
        Err(StoreError::Full { what: format!("{bytes} more bytes within the quota of {quota}"), source: None })
    }

    /// Corrects the budget from what was counted to what is so.
    pub(super) fn recharge(&self, before: u64, now: u64) {
        self.bytes.fetch_add(now, Ordering::AcqRel);
        let less = |bytes: u64| Some(bytes.saturating_sub(before));
        // The closure never refuses.
        let _ = self.bytes.fetch_update(Ordering::AcqRel, Ordering::Acquire, less);
    }

    pub(super) fn evict(&self, now_unix: u64) -> u64 {
        let mut freed = 0;
        if let Some(ttl) = self.policy.ttl {
            for entry in self.idle() {
                if now_unix.saturating_sub(entry.last_use().0) > ttl.as_secs() {
                    freed += self.drop_idle(&entry).unwrap_or(0);
                }
            }
        }
        if let Some(quota) = self.policy.quota {
            let mark = |fraction: f64| (quota as f64 * fraction) as u64;
            if self.bytes.load(Ordering::Acquire) > mark(self.policy.high_water) {
                freed += self.evict_down_to(mark(self.policy.low_water), usize::MAX).0;
            }
        }
        freed
    }

    /// Makes room for `bytes` and `count` entries, down to the low-water mark if that is lower; how many entries went.
    fn make_room(&self, bytes: u64, count: usize) -> usize {
        let mark = match self.policy.quota {
            Some(quota) if bytes > 0 => {
                ((quota as f64 * self.policy.low_water) as u64).min(quota.saturating_sub(bytes))
            }
            _ => u64::MAX,
        };
        self.evict_down_to(mark, self.policy.entries_max.saturating_sub(count)).1
    }

    /// Drops the least recently used until at most `bytes` and `count` entries remain: bytes freed, entries gone.
    fn evict_down_to(&self, bytes: u64, count: usize) -> (u64, usize) {
        let (mut freed, mut gone) = (0, 0);
        for entry in self.idle() {
            let over = self.bytes.load(Ordering::Acquire) > bytes;
            if !over && self.entries().len() <= count {
                break;
            }
            // Without bytes it frees none: it would only lose what is known of it.
            if entry.held() == 0 && over && self.entries().len() <= count {
                continue;
            }
            if let Some(bytes) = self.drop_idle(&entry) {
                freed += bytes;
                gone += 1;
            }
        }
        (freed, gone)
    }

    /// Entries that may go, the least recently used first.
    fn idle(&self) -> Vec<Arc<HeldEntry>> {
        let mut idle: Vec<_> =
            self.entries().values().filter(|entry| !entry.is_pinned() && !entry.uses().any()).cloned().collect();
        idle.sort_by_cached_key(|entry| (entry.last_use(), *entry.id()));
        idle
    }

    fn drop_idle(&self, entry: &Arc<HeldEntry>) -> Option<u64> {
        if entry.is_pinned() {
            return None;
        }
        self.remove_entry(entry).unwrap_or_else(|error| {
            tracing::warn!(%error, "cannot remove what was evicted");
            Some(0)
        })
    }

    fn due(&self) -> MutexGuard<'_, BTreeMap<EntryId, Due>> {
        self.due.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that `entry` has something to be written to the index.
    pub(super) fn changed(&self, entry: &Arc<HeldEntry>) {
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

    fn count_change(&self) {
        self.changes.fetch_add(1, Ordering::AcqRel);
        if self.clean.swap(false, Ordering::AcqRel) {
            (self.unmark)();
        }
    }

    fn take_due(&self) -> BTreeMap<EntryId, Due> {
        std::mem::take(&mut *self.due())
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
    pub(super) fn write_due(&self) -> Result<(), StoreError> {
        let Medium::Disk(disk) = &self.medium else { return Ok(()) };
        // One at a time, or an older state of an entry could overwrite a newer one.
        let _one = self.batch.lock().unwrap_or_else(PoisonError::into_inner);
        let batch = self.take_due();
        if batch.is_empty() {
            return Ok(());
        }
        let removed: BTreeSet<EntryId> = batch.iter().filter(|(_, due)| due.removed).map(|(id, _)| *id).collect();
        let live: Vec<_> = batch.values().filter_map(|due| due.entry.as_ref()).collect();
        let live: Vec<_> = live.into_iter().filter(|entry| !entry.uses().is_removed()).collect();
        let changes: Vec<_> = live.iter().map(|entry| entry.take_changes()).collect();
        let result = disk.index.write(&removed, &changes);
        for (entry, changes) in live.iter().zip(&changes) {
            match result {
                Ok(()) => entry.changes_written(changes),
                Err(_) => entry.changes_failed(changes),
            }
        }
        result.inspect_err(|_| self.put_back(batch))
    }

    /// Writes the index at once if too much small content waits for it.
    pub(super) fn relieve(&self) {
        if let Medium::Disk(disk) = &self.medium
            && disk.fresh.load(Ordering::Acquire) > SLAB_FRESH_BYTES_MAX
            && let Err(error) = self.write_due()
        {
            tracing::warn!(%error, "small content waits in memory");
        }
    }

    pub(super) fn change_count(&self) -> u64 {
        self.changes.load(Ordering::Acquire)
    }

    /// Every entry, to be made durable.
    pub(super) fn all(&self) -> Vec<Arc<HeldEntry>> {
        self.entries().values().cloned().collect()
    }

    /// Marks the store clean with `mark`, if nothing has changed since `changes` were counted.
    pub(super) fn mark_clean(
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

fn same_layout(entry: Arc<HeldEntry>, described: &Described) -> Result<Arc<HeldEntry>, StoreError> {
    let (held, asked) = (entry.described().layout, described.layout);
    if held != asked {
        let generation = entry.key().generation;
        return Err(StoreError::Invalid(format!("generation {generation:?} is held as {held:?}, not {asked:?}")));
    }
    entry.load()?;
    Ok(entry)
}

fn truncate(text: &mut String, max: usize) {
    text.truncate(text.floor_char_boundary(max));
}

/// Seconds since 1970, for the order of eviction only.
pub(super) fn unix_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
