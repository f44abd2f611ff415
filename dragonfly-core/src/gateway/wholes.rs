//! Content that is fetched as a whole because parts of it are asked for: once, however many they are.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::peer::{Peer, Request};
use crate::task::TaskId;

/// So much at a time. More is fetched once a part of it is asked for again.
pub(super) const WHOLES_MAX: usize = 256;

/// What failed is not fetched again for so long.
pub(super) const FAILED_PAUSE: Duration = Duration::from_secs(60);

/// What is under way, and what failed. Never locked over a wait.
#[derive(Clone, Default)]
pub(super) struct Wholes(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    under_way: HashSet<TaskId>,
    failed: HashMap<TaskId, Instant>,
}

impl Wholes {
    /// Fetches all of it, whether or not anybody stays, unless that is under way.
    pub(super) fn fetch(&self, peer: &Peer, request: Request) {
        let Some(under_way) = peer.task_id(&request).ok().and_then(|task| self.begin(task)) else { return };
        let whole = peer.fetch(request);
        peer.node().runtime().spawn(async move {
            if let Err(error) = whole.await {
                tracing::info!(task = ?under_way.1, "what parts were asked for of is not here as a whole: {error:?}");
                under_way.failed();
            }
            drop(under_way);
        });
    }

    fn begin(&self, task: TaskId) -> Option<UnderWay> {
        let mut state = self.lock();
        state.failed.retain(|_, at| at.elapsed() < FAILED_PAUSE);
        let room = state.under_way.len() < WHOLES_MAX && !state.failed.contains_key(&task);
        (room && state.under_way.insert(task)).then(|| UnderWay(self.clone(), task))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing that holds the lock can leave it broken.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct UnderWay(Wholes, TaskId);

impl UnderWay {
    fn failed(&self) {
        let mut state = self.0.lock();
        if state.failed.len() < WHOLES_MAX {
            state.failed.insert(self.1, Instant::now());
        }
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.lock().under_way.remove(&self.1);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn each_once_and_so_many() {
        let wholes = Wholes::default();
        let task = |i: u64| TaskId::from_hash(*blake3::hash(&i.to_le_bytes()).as_bytes());
        let one = wholes.begin(task(0)).unwrap();
        assert!(wholes.begin(task(0)).is_none(), "it is under way");
        let others: Vec<_> = (1..).map_while(|i| wholes.begin(task(i))).collect();
        assert_eq!(others.len(), WHOLES_MAX - 1);
        drop(one);
        let again = wholes.begin(task(0)).expect("its end leaves a place");
        again.failed();
        drop(again);
        assert!(wholes.begin(task(0)).is_none(), "it failed a moment ago");
        wholes.lock().failed.insert(task(0), Instant::now().checked_sub(FAILED_PAUSE).unwrap());
        assert!(wholes.begin(task(0)).is_some());
    }
}
