//! Members found on this host's links, where it looks for them: they are met like those that a token names, so that
//! members who were told of nobody share one copy. What is heard there is anyone's word: few are met at a time,
//! and who does not let this host in, or is not let in, is left alone until it has been gone.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use super::actor::Actor;
use super::authorities::Kind;
use super::event::{AuthorityId, Event};
use crate::net::Found;
use crate::wire::PeerId;

/// Sessions with members that were found. Beyond it members know of each other by what they tell each other.
pub(super) const MET_MAX: usize = 16;

/// So long after the start a task waits for others to be found: two questions of the link and their answers.
const SETTLE: Duration = Duration::from_secs(3);

/// Between two looks at who is there, however fast that changes.
const PACE: Duration = Duration::from_millis(250);

/// Attempts, seconds apart and more each time, to reach one that has never been.
const ATTEMPTS_MAX: u32 = 3;

#[derive(Default)]
pub(super) struct Links {
    settled: Option<Instant>,
    /// Failures of those that have never been reached.
    trying: BTreeMap<AuthorityId, (PeerId, u32)>,
    /// Who is not worth an attempt, of those that are there: as bounded as these.
    shunned: BTreeSet<PeerId>,
}

impl Links {
    /// Whether there was no time yet for others to be found.
    pub(super) fn settling(&self) -> bool {
        self.settled.is_some_and(|at| Instant::now() < at)
    }

    pub(super) fn reached(&mut self, id: AuthorityId) {
        self.trying.remove(&id);
    }

    /// Counts a failure to reach it; whether to give it up.
    pub(super) fn is_hopeless(&mut self, id: AuthorityId) -> bool {
        let Some((peer, failures)) = self.trying.get_mut(&id) else { return false };
        *failures += 1;
        let (peer, hopeless) = (*peer, *failures >= ATTEMPTS_MAX);
        if hopeless {
            self.trying.remove(&id);
            self.shunned.insert(peer);
        }
        hopeless
    }
}

impl Actor {
    /// Has the engine told who is on the links, at a bounded pace.
    pub(super) fn watch_links(&mut self) {
        if !self.node.discovers() {
            return;
        }
        self.authorities.links.settled = Some(Instant::now() + SETTLE);
        self.reassess_after(SETTLE);
        let (mut found, events) = (self.node.host().found(), self.events.clone());
        self.node.spawn(async move {
            while found.changed().await.is_ok() {
                let now = found.borrow_and_update().clone();
                if events.send(Event::Found(now)).await.is_err() {
                    return;
                }
                tokio::time::sleep(PACE).await;
            }
        });
    }

    /// Meets who has come, and forgets who is gone.
    pub(super) fn found(&mut self, found: Found) {
        self.authorities.links.shunned.retain(|peer| found.contains_key(peer));
        let links = self.authorities.all.iter().filter(|(_, authority)| authority.kind == Kind::Link);
        let gone = |peer: Option<PeerId>| {
            peer.is_none_or(|peer| !found.contains_key(&peer) && !self.node.host().is_connected(peer))
        };
        let gone: Vec<AuthorityId> = links.filter(|(_, link)| gone(link.peer)).map(|(id, _)| *id).collect();
        for id in gone {
            self.lose_link(id);
        }
        for (peer, addresses) in found {
            let met = self.authorities.all.values().filter(|authority| authority.kind == Kind::Link).count();
            if met >= MET_MAX {
                break;
            }
            if peer == self.node.peer_id() || self.authorities.links.shunned.contains(&peer) {
                continue;
            }
            if let Some(known) = self.authorities.all.values_mut().find(|known| known.peer == Some(peer)) {
                // One session with each: two would take turns in throwing each other out.
                if known.kind == Kind::Found {
                    known.kind = Kind::Link;
                } else if known.is_unreachable() {
                    // Named, at an address of no use: its next attempt finds it connected.
                    let host = self.node.host().clone();
                    self.node.spawn(async move { host.connect(peer, addresses).await });
                }
                continue;
            }
            let addresses = addresses.into_iter().map(|address| address.with_peer(peer)).collect();
            let id = self.start_authority(addresses, Kind::Link);
            self.authorities.links.trying.insert(id, (peer, 0));
        }
    }

    fn lose_link(&mut self, id: AuthorityId) {
        self.lose(id);
        self.authorities.all.remove(&id);
        self.authorities.links.trying.remove(&id);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use tokio::sync::mpsc;
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::node::Node;
    use crate::scheduler::Coordinator;

    /// Strangers as they say that they are on the link, at addresses where nobody answers.
    fn strangers(numbers: std::ops::Range<usize>) -> Found {
        let peer = |number: usize| {
            let mut key = [0; 32];
            key[..8].copy_from_slice(&number.to_be_bytes());
            PeerId::from_public_key(key)
        };
        numbers.map(|number| (peer(number), vec!["/ip4/127.0.0.1/tcp/1".parse().unwrap()])).collect()
    }

    #[tokio::test]
    async fn so_many_of_those_on_the_links_are_met_and_no_more() {
        let node = Node::builder().start().await.unwrap();
        let (events, _queue) = mpsc::channel(crate::peer::engine::EVENTS_MAX);
        let mut actor = Actor::new(node.clone(), Coordinator::of(&node), events, CancellationToken::new());
        for (numbers, sessions) in
            [(0..1, 1), (0..MET_MAX + 5, MET_MAX), (3..MET_MAX + 5, MET_MAX), (3..6, 3), (0..0, 0)]
        {
            let what = format!("{numbers:?}");
            actor.found(strangers(numbers));
            assert_eq!(actor.authorities.sessions(), (0, sessions), "{what}");
            assert_eq!(actor.authorities.links.trying.len(), sessions, "{what}");
        }
        node.shutdown().await.unwrap();
    }
}
