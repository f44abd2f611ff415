//! How much of this host's time a neighbour may take with signatures that teach it nothing. What is kept already costs no
//! check; what is news pays for itself. What is left are statements that hold and say nothing new, and those that do not hold
//! here: whoever sends these without end has the lane wait, and nobody else.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::trust::{EvidenceError, Outcome};

/// So many may come at once: two hosts that each attested all of a large task, which a neighbour shows after the other.
pub(crate) const VAIN_CHECKS_MAX: u32 = 2048;

/// And so many a second after that: a signature each, and no more for a neighbour that has many lanes.
pub(crate) const VAIN_CHECKS_RATE: u32 = 128;

/// What is left of that for one neighbour, whatever lane it comes on.
#[derive(Debug)]
pub(in crate::peer) struct Checks(Mutex<Left>);

#[derive(Debug)]
struct Left {
    /// Checks in vain that may still be made.
    checks: u32,
    /// Up to when the rate is counted in.
    counted: Instant,
}

impl Checks {
    pub(in crate::peer) fn new() -> Self {
        Self(Mutex::new(Left { checks: VAIN_CHECKS_MAX, counted: Instant::now() }))
    }

    /// Whether another item may be looked at now.
    pub(super) fn is_ready(&self) -> bool {
        self.left(|left| left.checks > 0)
    }

    /// Resolves once another item may be looked at. Cancel-safe.
    pub(super) async fn ready(&self) {
        while let Some(wait) =
            self.left(|left| (left.checks == 0).then(|| interval().saturating_sub(left.counted.elapsed())))
        {
            tokio::time::sleep(wait.max(Duration::from_millis(1))).await;
        }
    }

    /// Counts what came of an item; whether it was in vain.
    pub(super) fn count(&self, outcome: &Result<Outcome, EvidenceError>) -> bool {
        self.left(|left| match outcome {
            Ok(Outcome::Known) => false,
            Ok(Outcome::Values { first: true, .. } | Outcome::Sealed { .. }) => {
                left.checks = left.checks.saturating_add(2).min(VAIN_CHECKS_MAX);
                false
            }
            Ok(_) | Err(_) => {
                left.checks = left.checks.saturating_sub(1);
                true
            }
        })
    }

    fn left<T>(&self, work: impl FnOnce(&mut Left) -> T) -> T {
        let mut left = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let earned = (left.counted.elapsed().as_nanos() / interval().as_nanos()) as u32;
        if earned > 0 {
            left.checks = left.checks.saturating_add(earned).min(VAIN_CHECKS_MAX);
            left.counted += interval() * earned;
        }
        work(&mut left)
    }
}

const fn interval() -> Duration {
    Duration::from_nanos(1_000_000_000 / VAIN_CHECKS_RATE as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn waited(checks: &Checks) -> Duration {
        let began = Instant::now();
        checks.ready().await;
        began.elapsed()
    }

    fn in_vain(checks: &Checks, times: u32) {
        for at in 0..times {
            checks.count(&if at % 2 == 0 { Ok(Outcome::Stale) } else { Err(EvidenceError::OtherTask) });
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_teaches_nothing_comes_at_a_rate() {
        let checks = Checks::new();
        in_vain(&checks, VAIN_CHECKS_MAX - 1);
        assert_eq!(waited(&checks).await, Duration::ZERO);
        let began = Instant::now();
        for _ in 0..=10 * VAIN_CHECKS_RATE {
            in_vain(&checks, 1);
            checks.ready().await;
        }
        let took = began.elapsed().as_secs_f64();
        assert!((9.9..10.2).contains(&took), "{took}");
        // It is remembered for no longer than it takes to be earned again.
        tokio::time::advance(Duration::from_secs(3600)).await;
        in_vain(&checks, VAIN_CHECKS_MAX - 1);
        assert_eq!(waited(&checks).await, Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn news_and_what_is_known_wait_for_nothing() {
        let checks = Checks::new();
        let news = Ok(Outcome::Sealed {
            root: [0; 32],
            signer: crate::wire::PeerId::from_public_key([1; 32]),
            digests: vec![],
        });
        for _ in 0..10 * VAIN_CHECKS_MAX {
            // A grant teaches nothing until something is known under it.
            in_vain(&checks, 1);
            checks.count(&news);
            checks.count(&Ok(Outcome::Known));
        }
        assert_eq!(waited(&checks).await, Duration::ZERO);
    }
}
