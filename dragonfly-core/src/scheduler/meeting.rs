//! How members learn of each other, and of who coordinates a task where no scheduler does: every member runs a
//! coordinator, and says on its sessions who else is there.

use std::time::Duration;

use rand::SeedableRng as _;
use rand::rngs::SmallRng;
use rand::seq::IteratorRandom as _;

use super::engine::Actor;
use crate::task::TaskId;
use crate::trust::{OriginTrust, Roles};
use crate::wire::control::{Announce, NEIGHBOURS_MAX, Neighbour, ToMember};
use crate::wire::{PeerId, bytes_of_ip};

/// Who came is told after so long, so that many who come together are one message.
const NEWS_PAUSE: Duration = Duration::from_millis(200);

/// To how many members it is told. They tell it on to who meets them.
const TOLD_MAX: usize = 64;

/// A scheduler of more members than this does not tell each who came: who needs others in its place knows some.
const SMALL_NETWORK: usize = 64;

/// How many members are named to one that has nothing else to say: so all come to know enough of them.
const REMINDED: usize = 8;

/// Members who came lately and have not been told of yet.
#[derive(Default)]
pub(super) struct News {
    came: Vec<Neighbour>,
    due: Option<Duration>,
}

impl News {
    /// When they are to be told of.
    pub(super) const fn due(&self) -> Option<Duration> {
        self.due
    }
}

impl Actor {
    /// A member said where it can be reached: it is told of others, and others of it.
    pub(super) fn arrived(&mut self, peer: PeerId, announce: &Announce) {
        let Some(session) = self.sessions.get(&peer) else { return };
        let seen_ip = session.ip.map(bytes_of_ip);
        let roles = session.claims.roles;
        let seeds_only = self.node.membership().origin_trust() == OriginTrust::Seeds;
        let may_coordinate = !seeds_only || roles.contains(Roles::SCHEDULER);
        let named = Neighbour { peer, record: announce.record.clone(), seen_ip, seed: announce.seed, share: None };
        if peer == self.node.peer_id() || crate::node::addresses_of(&named).is_none() {
            return;
        }
        let mut rng = SmallRng::seed_from_u64(self.node.seed());
        let mut members = self.node.directory(|directory, now| {
            directory.arrived(named.clone(), may_coordinate);
            directory.sample(now, NEIGHBOURS_MAX - 1, peer, &mut rng)
        });
        // The member sees by itself from where this host speaks.
        let (me, record) = (self.node.peer_id(), self.node.record());
        members.extend(record.map(|record| Neighbour {
            peer: me,
            record: Some(record),
            seen_ip: None,
            seed: self.node.acts_as_seed(),
            share: None,
        }));
        if !members.is_empty() {
            self.send(peer, ToMember::Members(members));
        }
        let told = !self.node.schedules() || self.sessions.len() <= SMALL_NETWORK;
        if named.record.is_some() && told && self.news.came.len() < NEIGHBOURS_MAX {
            self.news.came.push(named);
            let due = self.now() + NEWS_PAUSE;
            self.news.due.get_or_insert(due);
        }
    }

    /// A member had nothing to say: it learns of some others.
    pub(super) fn remind(&mut self, peer: PeerId) {
        let mut rng = SmallRng::seed_from_u64(self.node.seed());
        let some = self.node.directory(|directory, now| directory.sample(now, REMINDED, peer, &mut rng));
        if !some.is_empty() && peer != self.node.peer_id() {
            self.send(peer, ToMember::Members(some));
        }
    }

    /// Tells who came.
    pub(super) fn tell_news(&mut self) {
        if self.news.due.is_none_or(|due| due > self.now()) {
            return;
        }
        let came = std::mem::take(&mut self.news).came;
        let me = self.node.peer_id();
        let mut rng = SmallRng::seed_from_u64(self.node.seed());
        let told = self.sessions.keys().copied().filter(|peer| *peer != me).choose_multiple(&mut rng, TOLD_MAX);
        for peer in told {
            let news: Vec<Neighbour> = came.iter().filter(|named| named.peer != peer).cloned().collect();
            if !news.is_empty() {
                self.send(peer, ToMember::Members(news));
            }
        }
    }

    /// A member asks who coordinates a task.
    pub(super) fn sought(&mut self, from: PeerId, task: TaskId, lost: Option<PeerId>) {
        let me = self.node.peer_id();
        let Some(session) = self.sessions.get(&from) else { return };
        let at_work = self.node.schedules() || self.core.is_at_work(&session.claims.tenant, &task);
        let to = self.node.directory(|directory, now| {
            if at_work {
                directory.keep(task, me);
            }
            // A scheduler has what it is asked about, whichever others there are.
            let coordinator = if self.node.schedules() { me } else { directory.coordinator_of(now, task, lost) };
            directory.get(coordinator).cloned()
        });
        let to = to.unwrap_or(Neighbour { peer: me, record: None, seen_ip: None, seed: false, share: None });
        self.send(from, ToMember::Redirect { task, to });
    }
}
