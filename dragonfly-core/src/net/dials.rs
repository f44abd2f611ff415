//! Attempts to reach peers: callers that want the same peer share them.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use libp2p::swarm::ConnectionId;
use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
use tokio::sync::oneshot;

use super::error::{DialError, chain};
use crate::wire::{Address, PeerId};

/// Addresses of a peer that one dial tries; more are a victim's list, not a host's.
const ADDRESSES: usize = 16;

/// Callers that may wait for one peer.
const WAITERS: usize = 1024;

/// An attempt that is older is joined by another one if somebody asks again: a first packet that was lost while a network was
/// split is sent again only after a time that doubles, when the network may long be whole.
const SLOW: Duration = Duration::from_secs(2);

/// Attempts to reach one peer at a time.
const ATTEMPTS: usize = 3;

type Reply = oneshot::Sender<Result<(), DialError>>;

/// Who is being dialled, and who waits for it.
#[derive(Default)]
pub(super) struct Dials(HashMap<PeerId, Dial>);

struct Dial {
    /// Those under way, the newest last.
    attempts: Vec<ConnectionId>,
    /// When the newest began.
    began: Instant,
    /// Addresses of another peer, which were not tried, and what attempts that are over failed of.
    causes: Vec<(Option<Address>, String)>,
    waiters: Vec<Reply>,
}

impl Dials {
    /// Has `reply` told once the peer is reached or is not: what to dial for that, if anything. `now` never goes back.
    pub(super) fn ask(&mut self, now: Instant, peer: PeerId, addresses: &[Address], reply: Reply) -> Option<DialOpts> {
        let (ours, others): (Vec<_>, Vec<_>) =
            addresses.iter().take(ADDRESSES).partition(|address| address.peer().is_none_or(|named| named == peer));
        if let Some(dial) = self.0.get_mut(&peer) {
            dial.waiters.retain(|waiter| !waiter.is_closed());
            if dial.waiters.len() < WAITERS {
                dial.waiters.push(reply);
            } else {
                let _ = reply.send(Err(DialError::Busy { peer }));
            }
            let slow = now.saturating_duration_since(dial.began) >= SLOW;
            if !slow || dial.attempts.len() >= ATTEMPTS || ours.is_empty() {
                return None;
            }
            let options = options(peer, &ours);
            dial.attempts.push(options.connection_id());
            dial.began = now;
            return Some(options);
        }
        let causes: Vec<_> =
            others.into_iter().map(|address| (Some(address.clone()), "the address of another peer".into())).collect();
        if ours.is_empty() {
            let error =
                if causes.is_empty() { DialError::NoAddress { peer } } else { DialError::Failed { peer, causes } };
            let _ = reply.send(Err(error));
            return None;
        }
        let options = options(peer, &ours);
        self.0.insert(peer, Dial { attempts: vec![options.connection_id()], began: now, causes, waiters: vec![reply] });
        Some(options)
    }

    /// An attempt failed; those who wait are told if it was the last.
    pub(super) fn failed(&mut self, connection: ConnectionId, peer: PeerId, error: libp2p::swarm::DialError) {
        let Some(dial) = self.0.get_mut(&peer) else { return };
        let before = dial.attempts.len();
        dial.attempts.retain(|attempt| *attempt != connection);
        if dial.attempts.len() == before {
            return;
        }
        for cause in causes(error) {
            if !dial.causes.contains(&cause) {
                dial.causes.push(cause);
            }
        }
        if !dial.attempts.is_empty() {
            return;
        }
        let Some(dial) = self.0.remove(&peer) else { return };
        let error = DialError::Failed { peer, causes: dial.causes };
        tracing::debug!(%error, "dial failed");
        for waiter in dial.waiters {
            let _ = waiter.send(Err(error.clone()));
        }
    }

    /// The peer is connected, whoever dialled.
    pub(super) fn reached(&mut self, peer: PeerId) {
        for waiter in self.0.remove(&peer).into_iter().flat_map(|dial| dial.waiters) {
            let _ = waiter.send(Ok(()));
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

fn options(peer: PeerId, addresses: &[&Address]) -> DialOpts {
    DialOpts::peer_id(peer.to_libp2p())
        // Whether to dial was decided here.
        .condition(PeerCondition::Always)
        .addresses(addresses.iter().map(|address| address.to_libp2p()).collect())
        .allocate_new_port()
        .build()
}

fn causes(error: libp2p::swarm::DialError) -> Vec<(Option<Address>, String)> {
    use libp2p::swarm::DialError as E;
    let named = |address, cause: String| vec![(Some(Address::from_libp2p(address)), cause)];
    match error {
        E::Denied { cause } => vec![(None, chain(&cause))],
        E::LocalPeerId { address } => named(address, "this host itself is there".into()),
        E::NoAddresses => vec![(None, "every address is one of this host's own".into())],
        E::Transport(errors) => {
            errors.into_iter().map(|(address, error)| (Some(Address::from_libp2p(address)), chain(&error))).collect()
        }
        E::WrongPeerId { obtained, address } => named(address, format!("another peer is there: {obtained}")),
        error @ (E::Aborted | E::DialPeerConditionFalse(_)) => vec![(None, chain(&error))],
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn aborted() -> libp2p::swarm::DialError {
        libp2p::swarm::DialError::Aborted
    }

    #[test]
    fn a_slow_attempt_is_joined_by_others_and_the_last_one_tells() {
        let peer = PeerId::from_public_key(*crate::trust::Identity::from_seed([7; 32]).peer_id().public_key());
        let addresses = ["/ip4/192.0.2.1/tcp/4001".parse().unwrap()];
        let (mut dials, began) = (Dials::default(), Instant::now());
        let ask = |dials: &mut Dials, after: Duration| {
            let (reply, answer) = oneshot::channel();
            (dials.ask(began + after, peer, &addresses, reply).map(|options| options.connection_id()), answer)
        };
        let (first, mut answer) = ask(&mut dials, Duration::ZERO);
        assert!(ask(&mut dials, SLOW / 2).0.is_none(), "it is young");
        let more: Vec<_> = (1..5).filter_map(|at| ask(&mut dials, SLOW * at).0).collect();
        assert_eq!(more.len(), ATTEMPTS - 1);
        for attempt in first.into_iter().chain(more.clone()).take(ATTEMPTS - 1) {
            dials.failed(attempt, peer, aborted());
            // Told twice it counts once.
            dials.failed(attempt, peer, aborted());
            assert!(answer.try_recv().is_err());
        }
        dials.failed(*more.last().unwrap(), peer, aborted());
        let Ok(Err(DialError::Failed { causes, .. })) = answer.try_recv() else { panic!("it is over") };
        assert_eq!((causes.len(), dials.len()), (1, 0), "{causes:?}");
    }
}
