//! Whether the kernel keeps pages of the data file that nobody is likely to want soon.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::super::catalogue::Disk;
use super::HeldEntry;

impl HeldEntry {
    /// Notes that the data file is read or written now.
    pub(in super::super) fn warm(&self) {
        if !self.content.has_file() {
            return;
        }
        // One more than it is: 0 says that nothing is known to be in the page cache.
        let now = self.catalogue.age().as_secs() + 1;
        if self.warm.swap(now, Ordering::AcqRel) == 0 {
            self.catalogue.warmed(self.me.clone());
        }
    }

    /// Has the kernel drop what it caches of the data file, if nobody has used the entry for `after`; whether there is nothing left
    /// to be done.
    pub(in super::super) fn cool(&self, disk: &Disk, age: Duration, after: Duration) -> bool {
        if self.uses.is_removed() {
            return true;
        }
        let last = self.warm.load(Ordering::Acquire);
        let is_cold = age.saturating_sub(Duration::from_secs(last)) >= after;
        if !is_cold || self.uses.any() {
            return false;
        }
        // Who reads from here on notes it again. That what he has read goes at once costs him a read, no more.
        if self.warm.compare_exchange(last, 0, Ordering::AcqRel, Ordering::Acquire).is_err() {
            return false;
        }
        // With a name outside, it is somebody's file, and its pages are those that he reads.
        if self.lock().linked.is_none() {
            disk.cool(&self.id);
        }
        true
    }
}
