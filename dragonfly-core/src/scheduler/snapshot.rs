//! What the core knows, as plain values: for embedders, metrics and tests.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

use serde::Serialize;

use super::core::Core;
use super::ranges::RangeSet;
use super::task::Task;
use crate::task::{Generation, PieceIndex, TaskId};
use crate::wire::PeerId;
use crate::wire::control::LeaseId;

/// What a [`Core`] knows at one moment.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Snapshot {
    /// The hosts that are up, by peer.
    pub hosts: Vec<HostSnapshot>,
    /// The tasks, by tenant and id.
    pub tasks: Vec<TaskSnapshot>,
}

/// A host that is up.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct HostSnapshot {
    /// Who.
    pub peer: PeerId,
    /// Its account.
    pub tenant: String,
    /// Whether it acts as a seed.
    pub seed: bool,
    /// How many tasks it takes part in.
    pub tasks: usize,
    /// How long ago it said something.
    pub silent: Duration,
}

/// A task.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct TaskSnapshot {
    /// Which.
    pub task: TaskId,
    /// Whose.
    pub tenant: String,
    /// The generation last known to be current.
    pub generation: Option<Generation>,
    /// Its length in bytes.
    pub length: Option<u64>,
    /// How long ago the origin confirmed it; `None`: not in this core's life.
    pub age: Option<Duration>,
    /// How many hosts take part.
    pub peers: usize,
    /// How many of them hold all of the current generation and upload.
    pub complete: usize,
    /// How many wait to be told what is current.
    pub waiting: usize,
    /// The live leases on pieces.
    pub leases: Vec<LeaseSnapshot>,
    /// Bytes of all ranges granted so far, those granted again included.
    pub origin_bytes_granted: u64,
    /// Bytes that holders said they fetched.
    pub origin_bytes_fetched: u64,
}

/// A lease on pieces.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct LeaseSnapshot {
    /// Its name.
    pub lease: LeaseId,
    /// Who holds it; `None`: its holder's session ended a moment ago.
    pub holder: Option<PeerId>,
    /// The pieces that are still to be fetched.
    pub pieces: Range<PieceIndex>,
}

impl Core {
    /// What the core knows now. Walks over everything: not for every event.
    pub fn snapshot(&self) -> Snapshot {
        let hosts = self.hosts.iter().map(|(_, h)| HostSnapshot {
            peer: h.peer,
            tenant: h.tenant.to_string(),
            seed: h.seed,
            tasks: h.tasks.len(),
            silent: self.now - h.last_seen,
        });
        let mut hosts: Vec<_> = hosts.collect();
        hosts.sort_by_key(|h| h.peer);
        let mut tasks: Vec<_> = self.tasks.iter().map(|(_, task)| self.task_snapshot(task)).collect();
        tasks.sort_by(|a, b| (&a.tenant, a.task).cmp(&(&b.tenant, b.task)));
        Snapshot { hosts, tasks }
    }

    fn task_snapshot(&self, task: &Task) -> TaskSnapshot {
        let version = task.version.as_ref();
        let leases = task.leases.values().map(|lease| LeaseSnapshot {
            lease: lease.id,
            holder: lease.host.map(|h| self.hosts[h].peer),
            pieces: lease.start..lease.end,
        });
        TaskSnapshot {
            task: task.id,
            tenant: task.tenant.to_string(),
            generation: version.map(|v| v.generation),
            length: version.map(|v| v.layout.length()),
            age: version.and_then(|v| v.confirmed).map(|at| self.now - at),
            peers: task.members.len(),
            complete: task.group().map_or(0, |group| group.complete as usize),
            waiting: task.waiting.len(),
            leases: leases.collect(),
            origin_bytes_granted: task.origin_granted,
            origin_bytes_fetched: task.origin_fetched,
        }
    }

    /// Panics if what the core knows contradicts itself. For tests and simulations, after every step.
    ///
    /// # Panics
    /// On a broken invariant, which is a bug here and never the fault of an input.
    pub fn assert_invariants(&self) {
        assert_eq!(self.peers.len(), self.hosts.len(), "one name per host");
        assert_eq!(self.ids.len(), self.tasks.len(), "one name per task");
        assert!(self.hosts.len() <= self.config.hosts_max && self.tasks.len() <= self.config.tasks_max);
        for (h, host) in self.hosts.iter() {
            assert_eq!(self.peers.get(&host.peer), Some(&h));
            assert!(host.tasks.iter().all(|&t| self.tasks[t].members.contains_key(&h)), "a host knows its tasks");
            assert!(host.triggered.iter().all(|&t| self.tasks[t].trigger.as_ref().is_some_and(|x| x.host == h)));
            assert!(host.tasks.len() <= self.config.tasks_per_host_max);
        }
        for (t, task) in self.tasks.iter() {
            assert_eq!(self.ids.get(&(task.tenant.clone(), task.id)), Some(&t));
            assert_eq!(task.idle_since.is_some(), task.members.is_empty(), "idle tasks are those without members");
            assert!(task.idle_since.is_none_or(|since| self.idle.contains(&(since, t))));
            self.assert_members(task);
            self.assert_leases(task);
        }
    }

    fn assert_members(&self, task: &Task) {
        for (h, member) in task.members.iter() {
            let host = &self.hosts[*h];
            assert!(host.announced && host.tenant == task.tenant, "members are announced and of the task's tenant");
            assert_eq!((member.seed, member.uploads), (host.seed, host.slots > 0));
            let neighbours = task.members.neighbours(*h);
            assert!(neighbours.len() <= self.config.hosts_max && !neighbours.contains(h));
            for n in neighbours {
                let other = &task.members[n];
                assert!(task.members.are_linked(*n, *h), "neighbours are mutual");
                assert_eq!(other.generation(), member.generation(), "neighbours trade one generation");
            }
            if let Some((generation, at)) = member.place {
                assert_eq!(task.groups[&generation].list[at], *h, "a member knows its place");
            }
            assert_eq!(member.waiting.and_then(|key| task.waiting.get(&key)), member.waiting.map(|_| h));
        }
        for group in task.groups.values() {
            group.assert_sites(&task.members);
            let members = || group.list.iter().map(|h| (h, &task.members[h]));
            let complete = members().filter(|(_, m)| m.is_complete_source()).count();
            assert_eq!(group.complete as usize, complete);
            assert!(members().all(|(h, m)| m.is_source() == group.holders.contains(h)));
        }
        let members = || task.members.values();
        let fit = |seed| members().filter(|m| m.is_fit() && m.seed == seed).count();
        assert_eq!(task.lessees.map(|n| n as usize), [fit(false), fit(true)]);
        assert_eq!(task.holders as usize, members().filter(|m| m.leases > 0).count());
        assert_eq!(task.seekers as usize, members().filter(|m| m.seeks()).count());
        assert_eq!(task.waiting.len(), members().filter(|m| m.waiting.is_some()).count());
        let asked = members().filter(|m| m.asked.is_some()).count();
        assert_eq!(task.askers.iter().map(|asks| asks.len()).sum::<usize>(), asked);
        let worked_for = task.describe.is_some() || task.collecting.is_some();
        assert!(worked_for || task.waiting.is_empty(), "who waits is being worked for");
    }

    fn assert_leases(&self, task: &Task) {
        let mut all = RangeSet::default();
        let (mut sum, mut per_host) = (0, BTreeMap::new());
        let leased = task.leases.values().map(|lease| lease.start..lease.end);
        let fetched = task.members.values().flat_map(|m| m.fetched.iter());
        for range in leased.chain(fetched).chain(task.free.iter()).chain(task.orphaned.iter()) {
            sum += range.end - range.start;
            all.insert(range);
        }
        let pieces = task.version.as_ref().map_or(0, |version| version.layout.pieces());
        assert_eq!((all.len(), sum), (pieces, pieces), "every piece is free, leased, fetched or orphaned");
        assert!(all.first().is_none_or(|range| range == (0..pieces)));
        for lease in task.leases.values() {
            assert!(lease.start <= lease.end && lease.id.epoch <= self.epoch);
            if let Some(host) = lease.host {
                *per_host.entry(host).or_insert(0) += 1;
            }
        }
        assert!(task.holders as usize <= self.config.holders_max.max(1) + 1, "few hosts ask the origin at a time");
        for (h, member) in task.members.iter() {
            assert_eq!(per_host.get(h).copied().unwrap_or(0), member.leases, "a member knows its leases");
        }
    }
}
