//! What counts as progress: bytes, however few and however slowly they come. A piece may take minutes where a limit
//! is low, so neither downloads nor leases nor neighbours may be judged by whole pieces.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// When bytes of a generation last came to this host, from wherever.
pub(super) struct Arrivals(Mutex<Option<Instant>>);

impl Arrivals {
    pub(super) const fn new() -> Self {
        Self(Mutex::new(None))
    }

    /// Bytes have come.
    pub(super) fn note(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    fn last(&self) -> Option<Instant> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Resolves once nothing has come for `bound`, counted from the first poll at the earliest. Cancel-safe.
    pub(super) async fn ceased(&self, bound: Duration) {
        let since = Instant::now();
        loop {
            let due = self.last().map_or(since, |last| last.max(since)) + bound;
            if due <= Instant::now() {
                return;
            }
            tokio::time::sleep_until(due).await;
        }
    }
}

/// Waits for `work`, and calls `tick` each time that another `interval` has passed over it.
pub(super) async fn meanwhile<T, F: Future>(
    work: impl Future<Output = T>,
    interval: Duration,
    mut tick: impl FnMut() -> F,
) -> T {
    let mut work = std::pin::pin!(work);
    loop {
        match tokio::time::timeout(interval, &mut work).await {
            Ok(done) => return done,
            Err(_) => drop(tick().await),
        }
    }
}

#[cfg(test)]
mod tests;
