//! The members of the network that this host knows, and which of them coordinates a task where no scheduler does.
//! Pure: time and randomness are arguments.
//!
//! Everyone who asks one host about one task is sent to the same member for as long as that one can be reached, so
//! that hosts which start together meet although their views differ.

use std::collections::BTreeMap;
use std::time::Duration;

use rand::Rng;
use rand::seq::IteratorRandom as _;

use crate::task::{TaskId, rendezvous_score};
use crate::wire::PeerId;
use crate::wire::control::Neighbour;

/// Members remembered. Beyond it those go that were heard of longest ago and have no session here.
pub(crate) const MEMBERS_MAX: usize = 1024;

/// Tasks whose coordinator is remembered; beyond it the oldest choice is forgotten, and made anew when asked for.
pub(crate) const CHOICES_MAX: usize = 4096;

/// A member that cannot be reached is left out for so long, doubled each time in a row.
const DOWN_MIN: Duration = Duration::from_secs(15);

/// After so many failures in a row a member is forgotten until somebody names it again.
const FAILURES_MAX: u32 = 6;

struct Member {
    named: Neighbour,
    /// Whether it may coordinate, by its credential; unknown until it has had a session here.
    may_coordinate: Option<bool>,
    /// Whether it is a scheduler, as it said and may be in a session with this host.
    scheduler: bool,
    /// Whether it has a session with this host now.
    here: bool,
    failures: u32,
    down_until: Duration,
    heard: u64,
}

struct Choice {
    peer: PeerId,
    made: u64,
}

/// See the module.
pub(crate) struct Directory {
    me: PeerId,
    /// Whether only seeds and schedulers may coordinate, because only their word counts on what an origin said.
    seeds_only: bool,
    i_may: bool,
    members: BTreeMap<PeerId, Member>,
    choices: BTreeMap<TaskId, Choice>,
    count: u64,
}

impl Directory {
    pub(crate) fn new(me: PeerId, seeds_only: bool, i_may: bool) -> Self {
        Self { me, seeds_only, i_may, members: BTreeMap::new(), choices: BTreeMap::new(), count: 0 }
    }

    /// A member was named by another one.
    pub(crate) fn named(&mut self, named: Neighbour) {
        if named.peer == self.me || named.record.is_none() {
            return;
        }
        self.count += 1;
        let heard = self.count;
        let member = self.members.entry(named.peer).or_insert_with(|| Member {
            named: named.clone(),
            may_coordinate: None,
            scheduler: false,
            here: false,
            failures: 0,
            down_until: Duration::ZERO,
            heard,
        });
        // What a member says of itself counts for more than what others say of it.
        if !member.here {
            member.named = named;
        }
        member.heard = heard;
        while self.members.len() > MEMBERS_MAX {
            let oldest = self.members.iter().filter(|(_, member)| !member.here).min_by_key(|(_, member)| member.heard);
            let Some(oldest) = oldest.map(|(peer, _)| *peer) else { break };
            self.members.remove(&oldest);
        }
    }

    /// A member has a session with this host, and may be dialled if it has a record.
    pub(crate) fn arrived(&mut self, named: Neighbour, may_coordinate: bool) {
        let peer = named.peer;
        self.named(named.clone());
        if let Some(member) = self.members.get_mut(&peer) {
            (member.named, member.may_coordinate, member.here) = (named, Some(may_coordinate), true);
            (member.failures, member.down_until) = (0, Duration::ZERO);
        }
    }

    /// Its session ended. It may be in the middle of a restart, so it stays known.
    pub(crate) fn left(&mut self, peer: PeerId) {
        if let Some(member) = self.members.get_mut(&peer) {
            member.here = false;
        }
    }

    /// It says whether it is a scheduler, which it may be.
    pub(crate) fn schedules(&mut self, peer: PeerId, scheduler: bool) {
        if let Some(member) = self.members.get_mut(&peer) {
            member.scheduler = scheduler;
        }
    }

    /// It was reached.
    pub(crate) fn reached(&mut self, peer: PeerId) {
        if let Some(member) = self.members.get_mut(&peer) {
            (member.failures, member.down_until) = (0, Duration::ZERO);
        }
    }

    /// It could not be reached.
    pub(crate) fn unreachable(&mut self, now: Duration, peer: PeerId) {
        let Some(member) = self.members.get_mut(&peer) else { return };
        member.failures += 1;
        member.down_until = now + DOWN_MIN * (1 << member.failures.min(FAILURES_MAX));
        if member.failures >= FAILURES_MAX && !member.here {
            self.members.remove(&peer);
        }
    }

    /// How a member is named to others.
    pub(crate) fn get(&self, peer: PeerId) -> Option<&Neighbour> {
        self.members.get(&peer).map(|member| &member.named)
    }

    /// Who coordinates `task`: the member named before while it can be reached and no scheduler can; else the one that
    /// rendezvous hashing names of those that can, schedulers before others: who meets this host may not know that there
    /// are any. `lost` is one that the asker could not reach. This host, if nobody suits better.
    pub(crate) fn coordinator_of(&mut self, now: Duration, task: TaskId, lost: Option<PeerId>) -> PeerId {
        let others = || self.members.keys().copied().filter(|peer| Some(*peer) != lost && self.suits(now, *peer));
        let schedules = |peer: &PeerId| self.members.get(peer).is_some_and(|member| member.scheduler);
        let by_score = |peer: &PeerId| rendezvous_score(&task, peer.public_key());
        if let Some(choice) = self.choices.get(&task)
            && Some(choice.peer) != lost
            && (choice.peer == self.me || self.suits(now, choice.peer))
        {
            // One that was named while no scheduler could be reached gives way to the scheduler, as its members do, and has
            // the task again should that be gone again.
            let scheduler = others().filter(schedules).max_by_key(by_score).filter(|_| !schedules(&choice.peer));
            return scheduler.unwrap_or(choice.peer);
        }
        let me = self.i_may.then_some(self.me);
        let best = others().chain(me).max_by_key(|peer| (schedules(peer), by_score(peer)));
        let peer = best.unwrap_or(self.me);
        self.keep(task, peer);
        peer
    }

    /// This host coordinates `task` already: so it stays.
    pub(crate) fn keep(&mut self, task: TaskId, peer: PeerId) {
        self.count += 1;
        self.choices.insert(task, Choice { peer, made: self.count });
        if self.choices.len() > CHOICES_MAX {
            let oldest = self.choices.iter().min_by_key(|(_, choice)| choice.made).map(|(task, _)| *task);
            oldest.and_then(|task| self.choices.remove(&task));
        }
    }

    fn suits(&self, now: Duration, peer: PeerId) -> bool {
        let Some(member) = self.members.get(&peer) else { return false };
        let may =
            if self.seeds_only { member.may_coordinate == Some(true) } else { member.may_coordinate != Some(false) };
        may && member.named.record.is_some() && member.down_until <= now
    }

    /// Some of the members that can be dialled, `but` excepted.
    pub(crate) fn sample(&self, now: Duration, max: usize, but: PeerId, rng: &mut impl Rng) -> Vec<Neighbour> {
        let known = self
            .members
            .values()
            .filter(|member| member.named.peer != but && member.named.record.is_some() && member.down_until <= now);
        known.choose_multiple(rng, max).into_iter().map(|member| member.named.clone()).collect()
    }

    /// How many tasks it is remembered of who coordinates them.
    pub(crate) fn choices(&self) -> usize {
        self.choices.len()
    }

    /// How many members are known.
    pub(crate) fn len(&self) -> usize {
        self.members.len()
    }
}

#[cfg(test)]
mod tests;
