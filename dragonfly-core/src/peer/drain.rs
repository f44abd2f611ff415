//! Before a stop: what others wait for is handed over while this host can still serve what it has.

use super::actor::Actor;
use super::tasks::Task;
use crate::task::TaskId;

/// Which leases on origins are given back before a stop: see [`Peer::give_back_leases`](super::Peer::give_back_leases).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LeasesOf {
    /// Every one. Callers whose downloads are under way get what neighbours have.
    All,
    /// Those that no caller on this host waits for.
    Others,
}

impl Actor {
    /// From now on this host goes to origins for its own callers alone, or for nobody. The other leases go back, so
    /// that the next host goes on at once; what it has is served on.
    pub(super) fn drain(&mut self, whose: LeasesOf) {
        self.draining = true;
        let given = |task: &Task| whose == LeasesOf::All || !task.has_callers();
        let tasks = self.tasks.iter().filter(|(_, task)| given(task)).map(|(id, _)| *id);
        for id in tasks.collect::<Vec<_>>() {
            self.hand_over(id);
        }
    }

    fn hand_over(&mut self, id: TaskId) {
        let Some(task) = self.tasks.get_mut(&id) else { return };
        if task.access.take().is_none() {
            return;
        }
        let (current, authority) = (task.current, task.authority);
        if let Some(authority) = authority {
            // As one that may not lease any more: its coordinator turns to another host with what comes back.
            self.join(id, authority);
        }
        if let Some(key) = current {
            self.revoke_own(key);
        }
    }

    /// Pieces that neighbours want and that, as far as is known, only this host has.
    pub(super) fn owed(&self) -> u64 {
        self.contents.keys().map(|key| u64::from(self.swarm.owed(*key))).sum()
    }
}
