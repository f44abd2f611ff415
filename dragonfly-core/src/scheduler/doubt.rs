//! Holders that do not serve. Who holds content is taken at its word, so one that serves nobody would keep the others
//! from the origin. When nobody gets anything the others go there after all.

use std::collections::BTreeSet;
use std::time::Duration;

use super::config::{STARVED_MIN, STARVED_NEWS};
use super::core::Core;
use super::slab::{HostIx, TaskIx};
use super::task::{Member, Task};

impl Core {
    /// A member says for how long nothing has come of what it lacks, although it knows everybody that it can. If all
    /// who have been here for a while say so, and nobody is fetching, those who hold something are doubted: their word
    /// keeps nobody from the origin any more, and they fetch nothing.
    ///
    /// A member that says so falsely, when no other is missing anything, costs the origin what it could have fetched
    /// by itself.
    pub(super) fn starved(&mut self, t: TaskIx, host: HostIx, silence: Duration) {
        let is_starved = silence >= STARVED_MIN;
        self.tasks[t].edit(host, |m| m.starved = is_starved);
        let task = &self.tasks[t];
        let looked = task.starvation_looked.is_some_and(|at| self.now - at < STARVED_NEWS);
        if !is_starved || looked || !task.leases.is_empty() || task.describe.is_some() || task.trigger.is_some() {
            return;
        }
        self.tasks[t].starvation_looked = Some(self.now);
        let task = &self.tasks[t];
        // Who came a moment ago cannot know yet.
        let grace = STARVED_MIN + STARVED_NEWS;
        let knows = |since: Duration| self.now - since >= grace;
        if task.members.values().any(|m| m.seeks() && !m.starved && knows(m.since) && task.may_be_fed(m)) {
            return;
        }
        let doubted = self.holders(t, host, |starved| !starved);
        // If there are none but those who starve as well, they cannot reach one another.
        let doubted = if doubted.is_empty() { self.holders(t, host, |_| true) } else { doubted };
        for holder in doubted {
            let serial = self.hosts[holder].serial;
            self.tasks[t].doubt(holder, serial);
        }
    }

    /// Members other than `host` whose word keeps pieces from being leased, of those who starve or not as `choose` says.
    fn holders(&self, t: TaskIx, host: HostIx, choose: impl Fn(bool) -> bool) -> Vec<HostIx> {
        let task = &self.tasks[t];
        let Some(generation) = task.version.as_ref().map(|version| version.generation) else { return Vec::new() };
        let members = task.members.iter().filter(|(other, m)| {
            let holds = m.eighths == 8 || !m.fetched.is_empty();
            **other != host && holds && m.generation() == Some(generation) && choose(m.seeks() && m.starved)
        });
        members.map(|(other, _)| *other).collect()
    }
}

impl Task {
    /// Whether others may be serving this member. One that has no more than what it says that it fetched by itself
    /// does not show that anybody serves: it may be the very one that does not.
    fn may_be_fed(&self, m: &Member) -> bool {
        let pieces = self.version.as_ref().map_or(0, |version| u64::from(version.layout.pieces()));
        m.fetched.is_empty() || u64::from(m.eighths) * pieces > 8 * u64::from(m.fetched.len())
    }

    /// What this member holds counts as lost.
    fn doubt(&mut self, host: HostIx, serial: u64) {
        self.doubted.insert(serial);
        self.tried.insert(serial);
        let mut fetched = Default::default();
        self.edit(host, |m| {
            fetched = std::mem::take(&mut m.fetched);
            (m.doubted, m.asked) = (true, None);
        });
        self.orphaned.absorb(&fetched);
    }

    /// Of another version nothing is known.
    pub(super) fn trust_again(&mut self) {
        self.doubted = BTreeSet::new();
        for host in self.members.keys().copied().collect::<Vec<_>>() {
            self.edit(host, |m| (m.doubted, m.starved) = (false, false));
        }
    }
}
