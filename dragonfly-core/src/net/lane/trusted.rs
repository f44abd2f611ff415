//! With whom lanes may go on without encryption, where the operator of this host lets them.
//!
//! Not while this host takes part in content that is not public: the name of such content is what lets one have it. And not
//! with a host whose lane said for a time what no honest one says: somebody on the way may have said it, and over an
//! encrypted lane it shows who.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::wire::PeerId;

/// Hosts that are remembered for what their lanes said. Beyond it every lane is encrypted until the first is forgotten.
pub(in super::super) const SPOILT_MAX: usize = 1024;

/// For so long they are remembered.
pub(in super::super) const SPOILT_FOR: Duration = Duration::from_secs(3600);

#[derive(Default)]
pub(super) struct Trusted {
    private: Arc<AtomicUsize>,
    spoilt: Mutex<HashMap<PeerId, Instant>>,
}

/// While it lives, lanes are opened encrypted.
#[derive(Debug)]
pub(crate) struct Private(Arc<AtomicUsize>);

impl Drop for Private {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Trusted {
    /// Whether this end lets the next lane with `peer` go on without encryption.
    pub(super) fn allows(&self, peer: PeerId) -> bool {
        let mut spoilt = self.spoilt.lock().unwrap_or_else(PoisonError::into_inner);
        if spoilt.len() >= SPOILT_MAX {
            forget(&mut spoilt);
        }
        let lately = spoilt.get(&peer).is_some_and(|since| since.elapsed() < SPOILT_FOR);
        !lately && spoilt.len() < SPOILT_MAX && self.private.load(Ordering::Acquire) == 0
    }

    /// This host takes part in content that is not public.
    pub(super) fn private(&self) -> Private {
        self.private.fetch_add(1, Ordering::AcqRel);
        Private(Arc::clone(&self.private))
    }

    /// A lane without encryption said what no honest neighbour says.
    pub(super) fn spoil(&self, peer: PeerId) {
        let mut spoilt = self.spoilt.lock().unwrap_or_else(PoisonError::into_inner);
        forget(&mut spoilt);
        if spoilt.len() < SPOILT_MAX || spoilt.contains_key(&peer) {
            spoilt.insert(peer, Instant::now());
        }
    }
}

fn forget(spoilt: &mut HashMap<PeerId, Instant>) {
    spoilt.retain(|_, since| since.elapsed() < SPOILT_FOR);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(number: usize) -> PeerId {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&number.to_be_bytes());
        PeerId::from_public_key(key)
    }

    #[test]
    fn who_spoilt_one_has_no_other_and_nobody_has_one_beside_private_content() {
        let trusted = Trusted::default();
        assert!(trusted.allows(peer(0)));
        trusted.spoil(peer(0));
        assert_eq!((trusted.allows(peer(0)), trusted.allows(peer(1))), (false, true));
        let private = [trusted.private(), trusted.private()];
        assert!(!trusted.allows(peer(1)));
        drop(private);
        assert!(trusted.allows(peer(1)));
    }

    #[test]
    fn of_too_many_to_be_remembered_none_is_trusted() {
        let trusted = Trusted::default();
        (0..SPOILT_MAX + 7).for_each(|number| trusted.spoil(peer(number)));
        assert!(!trusted.allows(peer(SPOILT_MAX + 100)));
        assert_eq!(trusted.spoilt.lock().map_or(0, |spoilt| spoilt.len()), SPOILT_MAX);
    }
}
