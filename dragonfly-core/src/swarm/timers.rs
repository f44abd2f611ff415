//! The deadlines of a core: one per thing that waits, in one ordered table.

use std::collections::{BTreeMap, BTreeSet};

use super::{HostKey, TaskKey, Time};

/// What a deadline is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Timer {
    /// The next dial, or the next question for neighbours, of a task.
    Connect(TaskKey),
    /// The next have-map tick of a task.
    Have(TaskKey),
    /// The end of a host's probation, or of the patience with an idle lane.
    Host(HostKey),
    /// The next lease question of a task.
    Lease(TaskKey),
    /// The coarse tick that looks for stalls: one for all requests and allotments.
    Sweep,
}

/// At most one deadline per [`Timer`].
#[derive(Debug, Default)]
pub(super) struct Timers {
    at: BTreeMap<Timer, Time>,
    order: BTreeSet<(Time, Timer)>,
}

impl Timers {
    pub(super) fn set(&mut self, timer: Timer, at: Time) {
        if let Some(old) = self.at.insert(timer, at) {
            self.order.remove(&(old, timer));
        }
        self.order.insert((at, timer));
    }

    /// Sets the deadline unless an earlier one is set.
    pub(super) fn set_earlier(&mut self, timer: Timer, at: Time) {
        if self.at.get(&timer).is_none_or(|old| *old > at) {
            self.set(timer, at);
        }
    }

    pub(super) fn clear(&mut self, timer: Timer) {
        if let Some(old) = self.at.remove(&timer) {
            self.order.remove(&(old, timer));
        }
    }

    pub(super) fn is_set(&self, timer: Timer) -> bool {
        self.at.contains_key(&timer)
    }

    pub(super) fn next(&self) -> Option<Time> {
        self.order.first().map(|(at, _)| *at)
    }

    pub(super) fn pop_due(&mut self, now: Time) -> Option<Timer> {
        let (at, timer) = *self.order.first()?;
        if at > now {
            return None;
        }
        self.clear(timer);
        Some(timer)
    }
}
