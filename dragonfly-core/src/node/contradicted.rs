//! Members that have contradicted themselves: who signs two values of one piece has lied in at least one, and nothing that
//! it signed or signs counts on this host any more, of whatever task.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use crate::wire::PeerId;

/// So many are remembered; beyond it the first are forgotten, and found out again.
pub(crate) const CONTRADICTED_MAX: usize = 1024;

#[derive(Debug, Default)]
pub(crate) struct Contradicted(Mutex<VecDeque<PeerId>>);

impl Contradicted {
    pub(crate) fn insert(&self, peer: PeerId) {
        let mut peers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if peers.contains(&peer) {
            return;
        }
        if peers.len() >= CONTRADICTED_MAX {
            peers.pop_front();
        }
        peers.push_back(peer);
    }

    pub(crate) fn all(&self) -> Vec<PeerId> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_bounded_and_names_each_once() {
        let known = Contradicted::default();
        for number in 0..CONTRADICTED_MAX + 5 {
            let mut key = [0; 32];
            key[..8].copy_from_slice(&number.to_be_bytes());
            known.insert(PeerId::from_public_key(key));
            known.insert(PeerId::from_public_key(key));
        }
        assert_eq!(known.all().len(), CONTRADICTED_MAX);
    }
}
