//! Which tasks take part in the swarm though nobody on this host wants them, in the order in which they give way.
//!
//! Small content counts apart: its neighbours have it in one answer, so that it is open on no lane and costs memory alone.

use std::collections::{BTreeMap, BTreeSet};

use super::actor::Actor;
use crate::task::{Layout, TaskId};
use crate::wire::lane::WHOLE_BYTES_MAX;

/// How many tasks with small content that nobody here wants take part, beside the others: with those as many as a coordinator
/// keeps of one host.
pub(crate) const SMALL_TASKS_MAX: usize = crate::scheduler::TASKS_PER_HOST_MAX - super::TASKS_MAX;

/// How many of them give way to one that is wanted, where their coordinator has no room for it: more than its one place, for what
/// else may come meanwhile.
const YIELDED: usize = 2;

/// Ordered by use.
#[derive(Default)]
pub(super) struct Idle {
    by_task: BTreeMap<TaskId, (u64, bool)>,
    small: BTreeSet<(u64, TaskId)>,
    others: BTreeSet<(u64, TaskId)>,
}

impl Idle {
    /// How many have small content.
    pub(super) fn small(&self) -> usize {
        self.small.len()
    }

    /// Nobody wants it any more, or its content is another one. `used`: the order of its last use.
    pub(super) fn put(&mut self, id: TaskId, used: u64, small: bool) {
        self.take(id);
        self.by_task.insert(id, (used, small));
        let order = if small { &mut self.small } else { &mut self.others };
        order.insert((used, id));
    }

    /// It is wanted, or takes part no more.
    pub(super) fn take(&mut self, id: TaskId) {
        if let Some((used, small)) = self.by_task.remove(&id) {
            let order = if small { &mut self.small } else { &mut self.others };
            order.remove(&(used, id));
        }
    }

    /// Those of small content that were used longest ago, first.
    fn smalls(&self) -> impl Iterator<Item = TaskId> {
        self.small.iter().map(|(_, id)| *id)
    }

    /// The one of the others that was used longest ago.
    pub(super) fn oldest(&self) -> Option<TaskId> {
        self.others.first().map(|(_, id)| *id)
    }
}

/// Whether content is had in one answer.
pub(super) fn is_small(layout: &Layout) -> bool {
    layout.pieces() == 1 && layout.length() <= WHOLE_BYTES_MAX as u64
}

impl Actor {
    /// How many tasks take part, but for those with small content that nobody here wants.
    pub(super) fn counted(&self) -> usize {
        self.tasks.len() - self.idle.small()
    }

    /// Takes a task that nobody here wants for one that gives way.
    pub(super) fn rest(&mut self, id: TaskId) {
        let Some(task) = self.tasks.get(&id).filter(|task| task.wants.is_empty()) else { return };
        let content = task.current.and_then(|key| self.contents.get(&key));
        let small = content.is_some_and(|content| is_small(&content.layout));
        self.idle.put(id, task.used(), small);
        let many = self.idle.small().saturating_sub(SMALL_TASKS_MAX);
        let oldest: Vec<TaskId> = self.idle.smalls().take(many).collect();
        for id in oldest {
            self.drop_task(id);
        }
    }

    /// The coordinator of a task that is wanted keeps no more of this host: what was used longest ago of what it keeps gives way,
    /// once for each task. Whether something did. It may have no room for other reasons: then the next answer says so.
    pub(super) fn yield_to(&mut self, id: TaskId) -> bool {
        let Some(task) = self.tasks.get_mut(&id).filter(|task| !task.wants.is_empty()) else { return false };
        let Some(authority) = task.authority else { return false };
        if std::mem::replace(&mut task.yielded_to, true) {
            return false;
        }
        let kept = |id: &TaskId| self.tasks.get(id).is_some_and(|task| task.authority == Some(authority));
        let yielded: Vec<TaskId> = self.idle.smalls().filter(kept).take(YIELDED).collect();
        for id in &yielded {
            self.drop_task(*id);
        }
        !yielded.is_empty()
    }
}

#[cfg(test)]
mod tests;
