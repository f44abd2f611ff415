//! Content that is fetched as a whole because parts of it are asked for: once, however many they are.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::peer::{Peer, Request};
use crate::task::TaskId;

/// So much at a time. More is fetched once a part of it is asked for again.
pub(super) const WHOLES_MAX: usize = 256;

/// What is under way. Never locked over a wait.
#[derive(Clone, Default)]
pub(super) struct Wholes(Arc<Mutex<HashSet<TaskId>>>);

impl Wholes {
    /// Fetches all of it, whether or not anybody stays, unless that is under way.
    pub(super) fn fetch(&self, peer: &Peer, request: Request) {
        let Some(under_way) = peer.task_id(&request).ok().and_then(|task| self.begin(task)) else { return };
        let whole = peer.fetch(request);
        peer.node().runtime().spawn(async move {
            if let Err(error) = whole.await {
                tracing::info!(task = ?under_way.1, "what parts were asked for of is not here as a whole: {error:?}");
            }
            drop(under_way);
        });
    }

    fn begin(&self, task: TaskId) -> Option<UnderWay> {
        let mut all = self.lock();
        (all.len() < WHOLES_MAX && all.insert(task)).then(|| UnderWay(self.clone(), task))
    }

    fn lock(&self) -> MutexGuard<'_, HashSet<TaskId>> {
        // Nothing that holds the lock can leave the set broken.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct UnderWay(Wholes, TaskId);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.lock().remove(&self.1);
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
        assert!(wholes.begin(task(0)).is_some(), "its end leaves a place");
    }
}
