//! The budget in bytes and in entries, and who has to go.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, MutexGuard, PoisonError};

use super::super::files::bury;
use super::super::{Entry as _, StoreError};
use super::{Catalogue, HeldEntry};

/// Corrects a count, which is shared, from what was counted to what is so.
fn correct(count: &AtomicU64, before: u64, now: u64) {
    count.fetch_add(now, Ordering::AcqRel);
    let less = |bytes: u64| Some(bytes.saturating_sub(before));
    // The closure never refuses.
    let _ = count.fetch_update(Ordering::AcqRel, Ordering::Acquire, less);
}

/// Files of what was evicted. They go once others have their turn: a disk may take its time, or never end. So what is
/// declared before a turn is taken is dropped after it.
#[derive(Default)]
struct Doomed(Vec<PathBuf>);

impl Drop for Doomed {
    fn drop(&mut self) {
        self.0.drain(..).for_each(|file| bury(Some(file)));
    }
}

impl Catalogue {
    /// Takes `bytes` of the budget, making room if need be.
    pub(in super::super) fn charge(&self, bytes: u64) -> Result<(), StoreError> {
        let Some(quota) = self.policy.quota else {
            self.bytes.fetch_add(bytes, Ordering::AcqRel);
            return Ok(());
        };
        let take = || {
            let of_index = self.index_bytes.load(Ordering::Acquire);
            let more = |now: u64| now.checked_add(bytes).filter(|then| then.saturating_add(of_index) <= quota);
            self.bytes.fetch_update(Ordering::AcqRel, Ordering::Acquire, more).is_ok()
        };
        if take() {
            return Ok(());
        }
        if bytes <= quota {
            let mut doomed = Doomed::default();
            let _turn = self.turn();
            // Who had it before may have made room enough, or somebody given back his own meanwhile.
            let taken = take() || {
                self.make_room(bytes, 0, &mut doomed);
                take()
            };
            if taken {
                return Ok(());
            }
        }
        Err(StoreError::Full { what: format!("{bytes} more bytes within the quota of {quota}"), source: None })
    }

    /// Corrects the budget from what was counted to what is so.
    pub(in super::super) fn recharge(&self, before: u64, now: u64) {
        correct(&self.bytes, before, now);
    }

    /// Likewise for what the index has of an entry.
    pub(in super::super) fn recharge_index(&self, before: u64, now: u64) {
        correct(&self.index_bytes, before, now);
    }

    /// All that counts against the quota.
    fn spent(&self) -> u64 {
        self.bytes.load(Ordering::Acquire).saturating_add(self.index_bytes.load(Ordering::Acquire))
    }

    fn turn(&self) -> MutexGuard<'_, ()> {
        self.evicting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(in super::super) fn evict(&self, now_unix: u64) -> u64 {
        let mut doomed = Doomed::default();
        let _turn = self.turn();
        let mut freed = 0;
        if let Some(ttl) = self.policy.ttl {
            for entry in self.idle() {
                if now_unix.saturating_sub(entry.last_use().0) > ttl.as_secs() {
                    freed += self.drop_idle(&entry, &mut doomed).unwrap_or(0);
                }
            }
        }
        if let Some(quota) = self.policy.quota {
            let mark = |fraction: f64| (quota as f64 * fraction) as u64;
            if self.spent() > mark(self.policy.high_water) {
                freed += self.evict_down_to(mark(self.policy.low_water), usize::MAX, &mut doomed);
            }
        }
        freed
    }

    /// Makes room for one more entry.
    pub(super) fn make_place(&self) {
        let mut doomed = Doomed::default();
        let _turn = self.turn();
        self.make_room(0, 1, &mut doomed);
    }

    /// Makes room for `bytes` and `count` entries, down to the low-water mark if that is lower.
    fn make_room(&self, bytes: u64, count: usize, doomed: &mut Doomed) {
        let mark = match self.policy.quota {
            Some(quota) if bytes > 0 => {
                ((quota as f64 * self.policy.low_water) as u64).min(quota.saturating_sub(bytes))
            }
            _ => u64::MAX,
        };
        self.evict_down_to(mark, self.policy.entries_max.saturating_sub(count), doomed);
    }

    /// Drops the least recently used until at most `bytes` and `count` entries remain: the bytes freed.
    fn evict_down_to(&self, bytes: u64, count: usize, doomed: &mut Doomed) -> u64 {
        let mut freed = 0;
        let idle = self.idle();
        // Without content an entry frees little, and what is known of it would be lost: only where nothing else helps.
        for with_content in [true, false] {
            for entry in &idle {
                let (over, crowded) = (self.spent() > bytes, self.entries().len() > count);
                if !over && !crowded {
                    return freed;
                }
                if with_content && entry.held() == 0 && !crowded {
                    continue;
                }
                freed += self.drop_idle(entry, doomed).unwrap_or(0);
            }
        }
        freed
    }

    /// Entries that may go, the least recently used first.
    fn idle(&self) -> Vec<Arc<HeldEntry>> {
        let mut idle: Vec<_> =
            self.entries().values().filter(|entry| !entry.is_pinned() && !entry.uses().any()).cloned().collect();
        idle.sort_by_cached_key(|entry| (entry.last_use(), *entry.id()));
        idle
    }

    fn drop_idle(&self, entry: &Arc<HeldEntry>, doomed: &mut Doomed) -> Option<u64> {
        if entry.is_pinned() {
            return None;
        }
        let (freed, file) = self.take_out(entry).unwrap_or_else(|error| {
            tracing::warn!(%error, "cannot remove what was evicted");
            Some((0, None))
        })?;
        doomed.0.extend(file);
        self.evicted_entries.fetch_add(1, Ordering::Relaxed);
        self.evicted_bytes.fetch_add(freed, Ordering::Relaxed);
        tracing::debug!(generation = ?entry.key().generation, freed, "evicted");
        if let Some(observer) = self.observer.read().unwrap_or_else(PoisonError::into_inner).as_ref() {
            observer(entry.key());
        }
        Some(freed)
    }
}
