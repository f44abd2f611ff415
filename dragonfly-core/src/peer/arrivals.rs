//! What counts as progress: bytes, however slowly they come, once they are a few. A piece may take minutes where a limit
//! is low, so neither downloads nor leases nor neighbours may be judged by whole pieces.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::node::{Node, Throttles};
use crate::swarm::PROGRESS_BYTES_MIN;

/// A lease is renewed at most so often: a quarter of the default time-out of a lease, and then some.
pub(super) const PROGRESS_INTERVAL: Duration = Duration::from_secs(2);

/// When bytes of a generation last came to this host, from wherever.
pub(super) struct Arrivals(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    last: Option<Instant>,
    /// What has come since that does not count yet.
    trickle: u64,
}

impl Arrivals {
    pub(super) const fn new() -> Self {
        Self(Mutex::new(State { last: None, trickle: 0 }))
    }

    /// Bytes have come. They count once they are a few: who sends one now and then would be waited for without end.
    pub(super) fn note(&self, bytes: usize) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.trickle = state.trickle.saturating_add(bytes as u64);
        if state.trickle >= PROGRESS_BYTES_MIN {
            (state.last, state.trickle) = (Some(Instant::now()), 0);
        }
    }

    /// This host itself lets nothing come for now.
    pub(super) fn held_up(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).last = Some(Instant::now());
    }

    fn last(&self) -> Option<Instant> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).last
    }

    /// Resolves once nothing that counts has come for `bound`, counted from the first poll at the earliest. Cancel-safe.
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

/// Waits until bytes from an origin may pass.
pub(super) async fn pass(node: &Node, of_task: &Throttles, bytes: usize) {
    node.throttles().intake.pass(bytes).await;
    node.throttles().origin.pass(bytes).await;
    of_task.origin.pass(bytes).await;
}

#[cfg(test)]
mod tests;
