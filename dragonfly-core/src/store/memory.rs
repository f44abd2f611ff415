//! A store in memory, within a budget.

use std::sync::Arc;
use std::time::Duration;

use super::catalogue::{Catalogue, Medium, Policy};
use super::index::Run;
use super::spool::MemorySpool;
use super::{Described, Entry, EntryInfo, EntryKey, EvictionObserver, Spool, Store, StoreError, Usage};
use crate::task::TaskId;

/// How a [`MemoryStore`] behaves.
#[derive(Clone, Debug)]
pub struct MemoryOptions {
    /// The budget for content in bytes (default: 256 MiB).
    pub quota: u64,
    /// Above this part of the budget, eviction begins (default: 0.9).
    pub high_water: f64,
    /// Down to this part of it, eviction goes on (default: 0.8).
    pub low_water: f64,
    /// How long an entry that is not used stays (default: for ever).
    pub ttl: Option<Duration>,
    /// How many entries there may be (default: 65 536).
    pub entries_max: usize,
}

impl Default for MemoryOptions {
    fn default() -> Self {
        Self { quota: 256 << 20, high_water: 0.9, low_water: 0.8, ttl: None, entries_max: 1 << 16 }
    }
}

/// A store in memory. What it holds ends with it.
pub struct MemoryStore(Arc<Catalogue>);

impl MemoryStore {
    /// An empty store.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] unless `0 <= low_water <= high_water <= 1`.
    pub fn new(options: MemoryOptions) -> Result<Self, StoreError> {
        let MemoryOptions { quota, high_water, low_water, ttl, entries_max } = options;
        let policy = Policy { quota: Some(quota), high_water, low_water, ttl, entries_max };
        policy.check()?;
        Ok(Self(Catalogue::new(Medium::Memory, Run { current: 1, floor: 0 }, policy, Box::new(|| ()))))
    }
}

impl Drop for MemoryStore {
    fn drop(&mut self) {
        self.0.clear();
    }
}

impl Store for MemoryStore {
    fn open(&self, key: &EntryKey, described: &Described) -> Result<Arc<dyn Entry>, StoreError> {
        Ok(self.0.open(key, described)?)
    }

    fn find(&self, network: &[u8; 32], tenant: &str, task: &TaskId) -> Vec<Arc<dyn Entry>> {
        self.0.find(network, tenant, task).into_iter().map(|entry| entry as _).collect()
    }

    fn info(&self, key: &EntryKey) -> Option<EntryInfo> {
        self.0.info(key)
    }

    fn list(&self, after: Option<&EntryKey>, max: usize) -> Vec<EntryInfo> {
        self.0.list(after, max)
    }

    fn remove(&self, key: &EntryKey) -> Result<bool, StoreError> {
        self.0.remove(key)
    }

    fn set_pinned(&self, key: &EntryKey, pinned: bool) -> bool {
        self.0.set_pinned(key, pinned)
    }

    fn spool(&self) -> Result<Box<dyn Spool>, StoreError> {
        Ok(Box::new(MemorySpool::new(self.0.clone())?))
    }

    fn usage(&self) -> Usage {
        self.0.usage()
    }

    fn evict(&self, now_unix: u64) -> u64 {
        self.0.evict(now_unix)
    }

    fn on_evicted(&self, observer: EvictionObserver) {
        self.0.on_evicted(observer);
    }

    fn flush(&self) -> Result<(), StoreError> {
        Ok(())
    }
}

impl std::fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("MemoryStore").field(&self.usage()).finish()
    }
}
