//! What the stores share: the map of entries, the budget, and eviction.

mod budget;
mod cool;
mod due;

use std::collections::BTreeMap;
use std::fs::File;
use std::ops::Bound;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock, Weak};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;

use super::content::SlabCache;
use super::entry::HeldEntry;
use super::file::DirectoryLock;
use super::files::{DataFiles, bury};
use super::index::{Index, Run};
use super::record::EntryId;
use super::{Described, Entry as _, EntryInfo, EntryKey, EvictionObserver, StoreError, Usage};
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
    pub(super) _lock: DirectoryLock,
    #[cfg(test)]
    pub(super) faults: Option<Arc<super::faults::Faults>>,
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

    /// Writes content to one of the store's files.
    pub(super) fn write(&self, path: &Path, file: &File, bytes: &[u8], offset: u64) -> std::io::Result<()> {
        #[cfg(test)]
        if let Some(faults) = &self.faults {
            return faults.write(path, file, bytes, offset);
        }
        let _ = path;
        file.write_all_at(bytes, offset)
    }

    /// Reads from one of the store's files.
    pub(super) fn read(&self, file: &File, buf: &mut [u8], offset: u64) -> std::io::Result<()> {
        #[cfg(test)]
        if let Some(faults) = &self.faults {
            return faults.read(file, buf, offset);
        }
        file.read_exact_at(buf, offset)
    }

    /// Has so many bytes of one of the store's files be in the page cache; false where the system has no way to.
    pub(super) fn cache(&self, file: &File, offset: u64, length: usize) -> std::io::Result<bool> {
        if !read_ahead(file, offset, length) {
            return Ok(false);
        }
        // All of it is on its way, and the last byte comes last. If it is not there, the file is too short.
        self.read(file, &mut [0], offset + length as u64 - 1)?;
        Ok(true)
    }

    /// Has the kernel drop what it caches of a data file and has written: what it has not yet, it writes.
    #[cfg(target_os = "linux")]
    pub(super) fn cool(&self, id: &EntryId) {
        // A file that is gone, or that cannot be opened now, caches nothing that this store could do without.
        let Some(file) = self.files.without_use(id) else { return };
        #[cfg(test)]
        if let Some(faults) = &self.faults {
            faults.cooled(&self.files.path(id));
        }
        let _ = rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed);
    }

    #[cfg(not(target_os = "linux"))]
    pub(super) fn cool(&self, _: &EntryId) {}

    /// Makes a file of the store and its directory durable.
    pub(super) fn sync(&self, path: &Path, file: &File) -> std::io::Result<()> {
        #[cfg(test)]
        if let Some(faults) = &self.faults {
            faults.sync()?;
        }
        file.sync_data()?;
        // Its directory too: a file that was made or moved there must be found again.
        File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()?;
        #[cfg(test)]
        if let Some(faults) = &self.faults {
            faults.synced(path);
        }
        Ok(())
    }
}

/// Of what it is advised to read at once a system reads no more than the disk's own limits, which are seldom less than this.
#[cfg(target_os = "linux")]
const READ_AHEAD_BYTES: usize = 128 << 10;

/// Has the system read bytes of a file that is not empty; does not wait for them.
#[cfg(target_os = "linux")]
fn read_ahead(file: &File, offset: u64, length: usize) -> bool {
    let end = offset + length as u64;
    for at in (offset..end).step_by(READ_AHEAD_BYTES) {
        let part = std::num::NonZeroU64::new((end - at).min(READ_AHEAD_BYTES as u64));
        // Advice, and no matter where it is not taken.
        let _ = rustix::fs::fadvise(file, at, part, rustix::fs::Advice::WillNeed);
    }
    true
}

#[cfg(not(target_os = "linux"))]
fn read_ahead(_: &File, _: u64, _: usize) -> bool {
    false
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
    index_bytes: AtomicU64,
    /// Whose turn it is to make room. What another is about to free is waited for: it is nobody's to evict any more, and
    /// counted still.
    evicting: Mutex<()>,
    evicted_entries: AtomicU64,
    evicted_bytes: AtomicU64,
    observer: RwLock<Option<EvictionObserver>>,
    /// Spools that are open, each with a descriptor of its own.
    pub(super) spools: AtomicUsize,
    uses: AtomicU64,
    opened: Instant,
    /// Entries whose data files were read or written since the page cache was last rid of them.
    warm: Mutex<Vec<Weak<HeldEntry>>>,
    due: Mutex<BTreeMap<EntryId, Due>>,
    batch: Mutex<()>,
    /// How many entries the batch that is being written has.
    writing: AtomicUsize,
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
            index_bytes: AtomicU64::new(0),
            evicting: Mutex::default(),
            evicted_entries: AtomicU64::new(0),
            evicted_bytes: AtomicU64::new(0),
            observer: RwLock::default(),
            spools: AtomicUsize::new(0),
            uses: AtomicU64::new(0),
            opened: Instant::now(),
            warm: Mutex::default(),
            due: Mutex::default(),
            batch: Mutex::new(()),
            writing: AtomicUsize::new(0),
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
            self.index_bytes.fetch_add(marks.indexed, Ordering::AcqRel);
            map.insert(key.clone(), HeldEntry::restore(self, key, described, marks));
        }
    }

    /// Lets go of every entry, whose references to the catalogue would otherwise keep it alive.
    pub(super) fn clear(&self) {
        std::mem::take(&mut *self.entries());
        self.due().clear();
    }

    pub(super) fn open(self: &Arc<Self>, key: &EntryKey, described: &Described) -> Result<Arc<HeldEntry>, StoreError> {
        if key.tenant.len() > TENANT_BYTES_MAX {
            return Err(StoreError::Invalid(format!("a tenant's name has at most {TENANT_BYTES_MAX} bytes")));
        }
        if let Some(entry) = self.get(key) {
            return same_layout(entry, described);
        }
        if self.entries().len() >= self.policy.entries_max {
            self.make_place();
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
        let taken = self.take_out(entry)?;
        Ok(taken.map(|(freed, doomed)| {
            bury(doomed);
            freed
        }))
    }

    /// The same but for its file, which is to be [buried](bury).
    fn take_out(&self, entry: &Arc<HeldEntry>) -> Result<Option<(u64, Option<PathBuf>)>, StoreError> {
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
        released.map(Some)
    }

    pub(super) fn set_pinned(&self, key: &EntryKey, pinned: bool) -> bool {
        let entry = self.get(key);
        entry.inspect(|entry| entry.set_pinned(pinned)).is_some()
    }

    pub(super) fn usage(&self) -> Usage {
        Usage {
            bytes: self.bytes.load(Ordering::Acquire),
            index_bytes: self.index_bytes.load(Ordering::Acquire),
            entries: self.entries().len(),
            unwritten: self.unwritten(),
            quota: self.policy.quota,
            evicted_entries: self.evicted_entries.load(Ordering::Relaxed),
            evicted_bytes: self.evicted_bytes.load(Ordering::Relaxed),
        }
    }

    pub(super) fn on_evicted(&self, observer: EvictionObserver) {
        *self.observer.write().unwrap_or_else(PoisonError::into_inner) = Some(observer);
    }

    fn due(&self) -> MutexGuard<'_, BTreeMap<EntryId, Due>> {
        self.due.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Every entry, to be made durable.
    pub(super) fn all(&self) -> Vec<Arc<HeldEntry>> {
        self.entries().values().cloned().collect()
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
