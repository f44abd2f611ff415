//! How fast bytes flow, measured only while they are expected to.

use std::time::Duration;

use super::Time;

/// Samples shorter than this say more about scheduling than about the link.
const WINDOW: Duration = Duration::from_millis(100);

/// A byte rate: the mean of the newest windows, each newer one weighing a third.
#[derive(Clone, Debug, Default)]
pub(super) struct Rate {
    started: Option<Time>,
    bytes: u64,
    value: Option<u64>,
}

impl Rate {
    /// Bytes are expected from now on.
    pub(super) const fn start(&mut self, now: Time) {
        if self.started.is_none() {
            self.started = Some(now);
            self.bytes = 0;
        }
    }

    /// No bytes are expected any more: a window that is too short is dropped unless it is all there is.
    pub(super) fn stop(&mut self, now: Time) {
        if let Some(started) = self.started.take()
            && self.value.is_none()
            && now > started
        {
            self.sample(now.since(started));
        }
    }

    pub(super) fn add(&mut self, now: Time, bytes: u64) {
        let started = *self.started.get_or_insert(now);
        self.bytes += bytes;
        let elapsed = now.since(started);
        if elapsed >= WINDOW {
            self.sample(elapsed);
            self.started = Some(now);
        }
    }

    fn sample(&mut self, elapsed: Duration) {
        let micros = elapsed.as_micros().max(1) as u64;
        let sample = self.bytes.saturating_mul(1_000_000) / micros;
        self.value = Some(self.value.map_or(sample, |old| old - old / 3 + sample / 3));
        self.bytes = 0;
    }

    /// Bytes a second; `None` until something was measured.
    pub(super) const fn value(&self) -> Option<u64> {
        self.value
    }
}
