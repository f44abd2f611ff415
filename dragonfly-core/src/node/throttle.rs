//! A bound on bytes a second that can be changed at any time.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// How much may pass at once after a pause, as time at the full rate: enough to hide the jitter of timers.
const BURST: Duration = Duration::from_millis(100);

/// Lets bytes pass at a rate, in the order in which they ask; without a rate at once.
#[derive(Debug, Default)]
pub(crate) struct Throttle {
    /// Bytes a second; 0 is no bound.
    rate: AtomicU64,
    /// When the next bytes are due.
    due: Mutex<Option<Instant>>,
}

impl Throttle {
    /// Changes the rate. Who waits already waits as before.
    pub(crate) fn set(&self, rate: Option<u64>) {
        self.rate.store(rate.map_or(0, |rate| rate.max(1)), Ordering::Relaxed);
        *self.due.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Waits until these bytes are due. Cancel-safe; what was reserved by a dropped call is lost to the others.
    pub(crate) async fn pass(&self, bytes: u64) {
        if let Some(at) = self.reserve(bytes) {
            tokio::time::sleep_until(at).await;
        }
    }

    fn reserve(&self, bytes: u64) -> Option<Instant> {
        let rate = self.rate.load(Ordering::Relaxed);
        if rate == 0 {
            return None;
        }
        let takes = Duration::from_secs_f64(bytes as f64 / rate as f64);
        let now = Instant::now();
        let earliest = now.checked_sub(BURST).unwrap_or(now);
        let mut due = self.due.lock().unwrap_or_else(PoisonError::into_inner);
        let at = due.map_or(earliest, |due| due.max(earliest)) + takes;
        *due = Some(at);
        (at > now).then_some(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn bytes_pass_at_the_rate_and_without_one_at_once() {
        let throttle = Throttle::default();
        let start = Instant::now();
        throttle.pass(u64::MAX).await;
        assert_eq!(start.elapsed(), Duration::ZERO);
        throttle.set(Some(1000));
        for _ in 0..10 {
            throttle.pass(500).await;
        }
        // Five seconds at this rate, less the burst. The clock is virtual.
        assert_eq!(start.elapsed().as_millis(), 4900);
        throttle.set(None);
        throttle.pass(u64::MAX).await;
        assert_eq!(start.elapsed().as_millis(), 4900);
    }
}
