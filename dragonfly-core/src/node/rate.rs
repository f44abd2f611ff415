//! Rates that bytes are kept to: for the node as a whole, and for each task.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::{Error, ErrorKind, Result};

/// How much of a rate's bytes may go at once after a pause: below it, timers would keep the rate from being reached.
const BURST: Duration = Duration::from_millis(100);

/// Bytes a second that a node, and each task on it, may move. `None`: as much as the network gives.
///
/// Rates below 16 KiB a second let neighbours take this host for stalled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RateLimits {
    /// To peers, over all tasks.
    pub upload: Option<u64>,
    /// From peers, over all tasks.
    pub download: Option<u64>,
    /// From origins, over all tasks.
    pub origin: Option<u64>,
    /// To peers, of one task.
    pub task_upload: Option<u64>,
    /// From peers, of one task.
    pub task_download: Option<u64>,
    /// From the origin, of one task.
    pub task_origin: Option<u64>,
}

impl RateLimits {
    /// Refuses rates at which nothing would ever move.
    pub(super) fn check(&self) -> Result<()> {
        let all = [self.upload, self.download, self.origin, self.task_upload, self.task_download, self.task_origin];
        if all.contains(&Some(0)) {
            return Err(Error::new(ErrorKind::Config, "a rate of 0 bytes a second moves nothing: leave the limit out"));
        }
        Ok(())
    }
}

/// The throttles of a node, or of one task.
#[derive(Debug, Default)]
pub(crate) struct Throttles {
    /// What is taken from origins and peers together.
    pub(crate) intake: Throttle,
    pub(crate) upload: Throttle,
    pub(crate) download: Throttle,
    pub(crate) origin: Throttle,
}

impl Throttles {
    pub(super) fn of_node(limits: &RateLimits) -> Self {
        Self {
            intake: Throttle::default(),
            upload: Throttle::new(limits.upload),
            download: Throttle::new(limits.download),
            origin: Throttle::new(limits.origin),
        }
    }

    pub(super) fn of_task(limits: &RateLimits) -> Self {
        Self {
            intake: Throttle::default(),
            upload: Throttle::new(limits.task_upload),
            download: Throttle::new(limits.task_download),
            origin: Throttle::new(limits.task_origin),
        }
    }
}

/// Lets bytes pass at a rate, in the order in which they come.
#[derive(Debug, Default)]
pub(crate) struct Throttle {
    /// Bytes a second; 0 is no bound.
    rate: AtomicU64,
    /// When the next bytes may pass.
    next: Mutex<Option<Instant>>,
}

impl Throttle {
    fn new(rate: Option<u64>) -> Self {
        Self { rate: AtomicU64::new(rate.unwrap_or(0)), next: Mutex::default() }
    }

    /// Changes the rate. Who waits already waits as before.
    pub(super) fn set(&self, rate: Option<u64>) {
        self.rate.store(rate.map_or(0, |rate| rate.max(1)), Ordering::Relaxed);
        *self.next.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Waits until so many bytes may pass. Dropping the future gives nothing back: they count as passed.
    pub(crate) async fn pass(&self, bytes: usize) {
        if let Some(at) = self.reserve(bytes, Instant::now()) {
            tokio::time::sleep_until(at).await;
        }
    }

    /// Counts so many bytes without waiting for them: what comes next waits.
    pub(crate) fn charge(&self, bytes: usize) {
        let _ = self.reserve(bytes, Instant::now());
    }

    /// When so many bytes may pass; `None`: now.
    fn reserve(&self, bytes: usize, now: Instant) -> Option<Instant> {
        let rate = Some(self.rate.load(Ordering::Relaxed)).filter(|rate| *rate > 0)?;
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        let earliest = now.checked_sub(BURST).unwrap_or(now);
        let at = next.map_or(earliest, |next| next.max(earliest));
        let takes = u64::try_from(bytes as u128 * 1_000_000_000 / u128::from(rate)).unwrap_or(u64::MAX);
        *next = Some(at + Duration::from_nanos(takes));
        (at > now).then_some(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_pass_at_their_rate_and_a_pause_saves_a_burst_at_most() {
        let throttle = Throttle::new(Some(1000));
        let start = Instant::now();
        let second = Duration::from_secs(1);
        assert_eq!(throttle.reserve(1000, start), None);
        // The first thousand began a burst ago.
        assert_eq!(throttle.reserve(500, start), Some(start + second - BURST));
        assert_eq!(throttle.reserve(1, start), Some(start + second * 3 / 2 - BURST));
        let later = start + second * 100;
        assert_eq!(throttle.reserve(100, later), None);
        assert_eq!(throttle.reserve(1, later), None);
        assert!(throttle.reserve(1, later).is_some());
        throttle.set(None);
        assert_eq!(throttle.reserve(usize::MAX, later), None);
    }

    /// A node's rate is shared by its tasks; a task's is its own. To the nanosecond, since time is virtual.
    #[tokio::test(start_paused = true)]
    async fn a_nodes_rate_is_shared_and_a_tasks_is_its_own() {
        const BLOCK: usize = 100;
        const BLOCKS: u32 = 40;
        let second_of_blocks = Some(10 * BLOCK as u64);
        let of_node = RateLimits { upload: second_of_blocks, ..RateLimits::default() };
        let of_task = RateLimits { task_upload: second_of_blocks, ..RateLimits::default() };
        // Forty blocks of each of two tasks: the first of a bucket is free, and a burst's worth, one more.
        for (limits, seconds) in [(of_node, 7.8), (of_task, 3.8)] {
            let (node, tasks) = (Throttles::of_node(&limits), [(); 2].map(|()| Throttles::of_task(&limits)));
            let started = Instant::now();
            futures::future::join_all(tasks.iter().map(|task| async {
                for _ in 0..BLOCKS {
                    node.upload.pass(BLOCK).await;
                    task.upload.pass(BLOCK).await;
                }
            }))
            .await;
            assert_eq!(started.elapsed().as_secs_f64(), seconds, "{limits:?}");
        }
    }

    #[test]
    fn a_rate_of_nothing_is_refused() {
        assert!(RateLimits::default().check().is_ok());
        assert!(RateLimits { task_origin: Some(0), ..RateLimits::default() }.check().is_err());
    }
}
