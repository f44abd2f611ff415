//! A coordinator's leases reduced to what the swarm cores need: each range is granted once.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::time::Duration;

use dragonfly_core::swarm::{HostKey, Input, LeaseKey, TaskKey};

/// The most pieces of a lease.
const LEASE_PIECES_MAX: usize = 8;

/// When to ask again while others hold leases.
const RETRY: Duration = Duration::from_millis(500);

/// Who may fetch what, and who takes part.
#[derive(Debug, Default)]
pub struct Authority {
    members: BTreeMap<TaskKey, BTreeSet<HostKey>>,
    free: BTreeMap<TaskKey, BTreeSet<u32>>,
    leases: BTreeMap<(TaskKey, LeaseKey), (HostKey, BTreeSet<u32>)>,
    granted: u64,
}

impl Authority {
    /// Lets these pieces of a task be leased.
    pub(crate) fn offer(&mut self, task: TaskKey, pieces: Range<u32>) {
        self.free.entry(task).or_default().extend(pieces);
    }

    pub(crate) fn join(&mut self, task: TaskKey, host: HostKey) {
        self.members.entry(task).or_default().insert(host);
    }

    pub(crate) fn ask(&mut self, task: TaskKey, host: HostKey) -> Input {
        let holders = self.members.get(&task).map_or(1, BTreeSet::len).min(16);
        let outstanding = self.leases.keys().any(|(other, _)| *other == task);
        let free = self.free.entry(task).or_default();
        let Some(first) = free.first().copied() else {
            return Input::LeaseNone { task, retry: outstanding.then_some(RETRY) };
        };
        let count = (free.len() / (2 * holders)).clamp(1, LEASE_PIECES_MAX);
        let mut end = first;
        let mut pieces = BTreeSet::new();
        while pieces.len() < count && free.remove(&end) {
            pieces.insert(end);
            end += 1;
        }
        self.granted += 1;
        let lease = LeaseKey { lease: self.granted, epoch: self.granted };
        self.leases.insert((task, lease), (host, pieces));
        Input::LeaseGranted { task, lease, pieces: first..end }
    }

    /// What is left to fetch under a lease.
    pub(crate) fn pieces(&self, task: TaskKey, lease: LeaseKey) -> Vec<u32> {
        self.leases.get(&(task, lease)).map_or_else(Vec::new, |(_, pieces)| pieces.iter().copied().collect())
    }

    /// A piece was fetched.
    pub(crate) fn fetched(&mut self, task: TaskKey, lease: LeaseKey, piece: u32) {
        if let Some((_, pieces)) = self.leases.get_mut(&(task, lease)) {
            pieces.remove(&piece);
        }
    }

    /// A lease ended. `give_back`: what was not fetched can be leased again.
    pub(crate) fn end(&mut self, task: TaskKey, lease: LeaseKey, give_back: bool) {
        if let Some((_, pieces)) = self.leases.remove(&(task, lease))
            && give_back
        {
            self.free.entry(task).or_default().extend(pieces);
        }
    }

    /// What can be leased and what is, for a message.
    pub(crate) fn state(&self) -> String {
        let free: Vec<_> = self.free.iter().map(|(task, free)| (task.0, free.len())).collect();
        format!("free pieces by task {free:?}, {} leases out", self.leases.len())
    }

    /// Panics if a piece can be leased twice.
    pub(crate) fn assert_invariants(&self) {
        let mut seen: BTreeSet<(TaskKey, u32)> =
            self.free.iter().flat_map(|(task, free)| free.iter().map(|piece| (*task, *piece))).collect();
        for ((task, lease), (host, pieces)) in &self.leases {
            for piece in pieces {
                assert!(
                    seen.insert((*task, *piece)),
                    "piece {piece} of {task:?} under {lease:?} of {host:?} and elsewhere"
                );
            }
        }
    }

    /// A host is lost: its leases are free again.
    pub(crate) fn lose(&mut self, host: HostKey) {
        let gone: Vec<_> = self.leases.iter().filter(|(_, (holder, _))| *holder == host).map(|(key, _)| *key).collect();
        for (task, lease) in gone {
            self.end(task, lease, true);
        }
        for members in self.members.values_mut() {
            members.remove(&host);
        }
    }

    /// It is another one, which knows nothing but what can be leased at all.
    pub(crate) fn forget(&mut self) {
        self.members.clear();
        self.leases.clear();
        self.free.values_mut().for_each(BTreeSet::clear);
    }

    /// Lets pieces be leased again that nobody holds any more, of tasks that can be leased; which of them could not.
    pub(crate) fn free(&mut self, lost: &[(TaskKey, u32)]) -> Vec<(TaskKey, u32)> {
        let is_leased = |task: &TaskKey, piece: &u32| {
            self.leases.iter().any(|((other, _), (_, pieces))| other == task && pieces.contains(piece))
        };
        let lost: Vec<_> = lost.iter().copied().filter(|(task, piece)| !is_leased(task, piece)).collect();
        lost.into_iter()
            .filter(|(task, piece)| self.free.get_mut(task).is_some_and(|free| free.insert(*piece)))
            .collect()
    }
}
