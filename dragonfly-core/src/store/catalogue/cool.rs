//! Content that nobody uses any more gives its place in the kernel's page cache to others.

use std::sync::{MutexGuard, PoisonError, Weak};
use std::time::Duration;

use super::{Catalogue, HeldEntry, Medium};

impl Catalogue {
    /// How long the store has been open.
    pub(in super::super) fn age(&self) -> Duration {
        self.opened.elapsed()
    }

    /// Notes that the data file of `entry` is in the page cache from now on, as far as this store knows.
    pub(in super::super) fn warmed(&self, entry: Weak<HeldEntry>) {
        self.warm().push(entry);
    }

    /// Has the kernel drop what it caches of files that nobody has used for `after`, as it was when the store had been open for
    /// `age`. Costs nothing for files that were not used since the last time. Between two files it looks whether to go on (`stop`).
    pub(in super::super) fn cool(&self, age: Duration, after: Duration, stop: impl Fn() -> bool) {
        let Medium::Disk(disk) = &self.medium else { return };
        let mut looked_at = std::mem::take(&mut *self.warm());
        looked_at.retain(|entry| match entry.upgrade() {
            Some(entry) => stop() || !entry.cool(disk, age, after),
            None => false,
        });
        self.warm().append(&mut looked_at);
    }

    /// Nothing is ever to be dropped: what was noted is forgotten.
    pub(in super::super) fn forget_warmed(&self) {
        self.warm().clear();
    }

    fn warm(&self) -> MutexGuard<'_, Vec<Weak<HeldEntry>>> {
        self.warm.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
