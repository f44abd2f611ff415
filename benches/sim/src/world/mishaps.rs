//! What may befall hosts, the coordinator, links and the origin.

use std::collections::BTreeSet;
use std::ops::Range;
use std::time::Duration;

use dragonfly_core::swarm::{Config, HostKey, Input, Swarm, TaskKey};
use rand::Rng as _;

use super::{CONTROL, Host, World};
use crate::Link;
use crate::members::Members;

impl World {
    /// Takes a host away without a word.
    pub fn kill(&mut self, host: HostKey) {
        let killed = &mut self.hosts[host.0 as usize];
        if !std::mem::replace(&mut killed.is_alive, false) {
            return;
        }
        self.unfinished -= killed.held.len() - killed.done.len();
        for (other, _) in killed.lanes.clone() {
            self.drop_lane(host.0, other);
        }
        self.origin.fetches.retain(|fetch| fetch.host != host.0);
        let lost: Vec<(TaskKey, u32)> = self.hosts[host.0 as usize]
            .held
            .iter()
            // Also what it does not hold: it may have been on its way to it.
            .flat_map(|(task, held)| (0..held.pieces()).map(|piece| (*task, piece)))
            .filter(|(task, piece)| !self.can_be_had(*task, *piece))
            .collect();
        self.authority.lose(host);
        if !self.is_down {
            let named = self.members.lose(self.now, host);
            self.name(named);
        }
        self.free(&lost);
    }

    /// Lets a host that was killed come back with what it held, and nothing else of its earlier life.
    pub fn revive(&mut self, host: HostKey, priority: u8) {
        let core = Swarm::new(Config::default(), self.random.random());
        let revived = &mut self.hosts[host.0 as usize];
        if revived.is_alive {
            return;
        }
        (revived.core, revived.is_alive, revived.wake) = (core, true, None);
        revived.life += 1;
        revived.requests.clear();
        revived.done.clear();
        for (task, have) in std::mem::take(&mut revived.held) {
            self.take_part(host, task, priority, have);
        }
    }

    /// Removes held pieces from a host's store. What nobody else can serve may be leased again, as far as the task
    /// can be leased.
    pub fn evict(&mut self, host: HostKey, task: TaskKey, pieces: Range<u32>) {
        let evictee = &mut self.hosts[host.0 as usize];
        let Some(held) = evictee.held.get_mut(&task) else { return };
        for piece in pieces.clone() {
            if held.remove(piece) {
                self.evicted.insert((host, task, piece), self.now);
                if evictee.done.remove(&task).is_some() && evictee.is_alive {
                    self.unfinished += 1;
                }
            }
        }
        let lost: Vec<(TaskKey, u32)> = pieces
            .clone()
            .filter(|piece| self.evicted.get(&(host, task, *piece)) == Some(&self.now))
            .filter(|piece| !self.can_be_had(task, *piece))
            .map(|piece| (task, piece))
            .collect();
        self.free(&lost);
        self.input(host.0, Input::Evicted { task, pieces });
    }

    /// Cuts the lane between two hosts, if there is one.
    pub fn cut(&mut self, a: HostKey, b: HostKey) {
        self.drop_lane(a.0, b.0);
    }

    /// From now on these hosts and all others do not reach each other; none: everybody reaches everybody. The
    /// coordinator and the origin are reached by all.
    pub fn part(&mut self, apart: BTreeSet<HostKey>) {
        self.apart = apart;
        for from in 0..self.hosts.len() as u32 {
            for (to, _) in self.hosts[from as usize].lanes.clone() {
                if self.are_apart(from, to) {
                    self.drop_lane(from, to);
                }
            }
        }
    }

    pub(super) fn are_apart(&self, a: u32, b: u32) -> bool {
        self.apart.contains(&HostKey(a)) != self.apart.contains(&HostKey(b))
    }

    /// Gives a host another link. Its latency stays: messages do not overtake one another.
    pub fn relink(&mut self, host: HostKey, up: u64, down: u64) {
        let latency = self.hosts[host.0 as usize].options.link.latency;
        self.network.relink(host.0, Link { up, down, latency });
        self.start(host.0);
    }

    /// Nothing leaves the origin for so long.
    pub fn stall_origin(&mut self, time: Duration) {
        self.origin.stalled_until = self.origin.stalled_until.max(self.now.after(time));
    }

    /// The coordinator is gone, and all that it knew.
    pub fn lose_authority(&mut self) {
        if !std::mem::replace(&mut self.is_down, true) {
            self.tell_authority(|task| Input::AuthorityDown { task });
        }
    }

    /// A coordinator is there again. What it knows is what the living say: what they hold, and what they are fetching
    /// under the leases of the one before.
    pub fn restore_authority(&mut self) {
        if !std::mem::replace(&mut self.is_down, false) {
            return;
        }
        let tasks: Vec<(TaskKey, u32)> = self.layouts.iter().map(|(task, layout)| (*task, layout.pieces())).collect();
        self.authority.forget();
        self.members = Members::new(self.random.random(), Config::default().neighbours_wanted, self.bridges);
        for (task, pieces) in tasks {
            for (index, host) in self.hosts.iter().enumerate() {
                if host.is_alive && host.held.contains_key(&task) {
                    self.authority.join(task, HostKey(index as u32));
                }
            }
            let lost: Vec<_> = (0..pieces).filter(|piece| !self.can_be_had(task, *piece)).map(|p| (task, p)).collect();
            self.free(&lost);
        }
        self.tell_authority(|task| Input::AuthorityUp { task });
        for index in 0..self.hosts.len() as u32 {
            for task in self.tasks_of(index) {
                self.announce(HostKey(index), task);
            }
        }
    }

    fn tell_authority(&mut self, news: impl Fn(TaskKey) -> Input) {
        for index in 0..self.hosts.len() as u32 {
            for task in self.tasks_of(index) {
                self.later(CONTROL, index, news(task));
            }
        }
    }

    fn tasks_of(&self, host: u32) -> Vec<TaskKey> {
        let host = &self.hosts[host as usize];
        host.held.keys().copied().filter(|_| host.is_alive).collect()
    }

    /// Lets pieces be leased again that nobody can serve, unless they are on their way from the origin, and counts
    /// those that had left it.
    pub(super) fn free(&mut self, lost: &[(TaskKey, u32)]) {
        let is_coming = |(task, piece): &(TaskKey, u32)| {
            self.origin.fetches.iter().any(|fetch| fetch.task == *task && (fetch.next..fetch.end).contains(piece))
        };
        let lost: Vec<(TaskKey, u32)> = lost.iter().copied().filter(|piece| !is_coming(piece)).collect();
        for (task, piece) in self.authority.free(&lost) {
            if self.delivered.contains_key(&(task, piece)) {
                self.lost += self.layouts[&task].length_of(piece).unwrap_or(0);
            }
        }
    }

    /// Whether a living host holds a piece and sends it as it is.
    pub(super) fn can_be_had(&self, task: TaskKey, piece: u32) -> bool {
        let serves = |host: &&Host| host.is_alive && !host.options.is_mute && !host.options.is_corrupt;
        self.hosts.iter().filter(serves).any(|host| host.held.get(&task).is_some_and(|held| held.contains(piece)))
    }
}
