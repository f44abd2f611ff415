//! Small content that is held and takes part in nothing: who takes part in as many tasks as may still answers whoever asks for all
//! of it at once. Its coordinator goes on naming this host for it; there is nothing else that either has to do.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::actor::Actor;
use super::authorities::PRIVATE;
use super::content::Content;
use super::event::AuthorityId;
use crate::swarm::Input;
use crate::task::{Generation, TaskId};
use crate::wire::control::ToCoordinator;
use crate::wire::lane::WHOLE_BYTES_MAX;

/// How many: with the tasks that take part as many as a coordinator keeps of one host, and some kilobytes for each.
pub(crate) const SHELF_MAX: usize = crate::scheduler::TASKS_PER_HOST_MAX - super::TASKS_MAX;

/// What is on it, in the order in which it came.
#[derive(Default)]
pub(super) struct Shelf {
    by_task: BTreeMap<TaskId, Shelved>,
    order: BTreeMap<u64, TaskId>,
    next: u64,
}

struct Shelved {
    content: Arc<Content>,
    /// Its coordinator, which does not know that it takes part no more.
    authority: AuthorityId,
    order: u64,
}

impl Shelf {
    pub(super) fn len(&self) -> usize {
        self.by_task.len()
    }

    fn put(&mut self, id: TaskId, content: Arc<Content>, authority: AuthorityId) {
        let order = self.next;
        self.next += 1;
        self.order.insert(order, id);
        self.by_task.insert(id, Shelved { content, authority, order });
    }

    fn take(&mut self, id: TaskId) -> Option<Shelved> {
        let shelved = self.by_task.remove(&id)?;
        self.order.remove(&shelved.order);
        Some(shelved)
    }

    /// The one that came first.
    fn oldest(&self) -> Option<TaskId> {
        self.order.first_key_value().map(|(_, id)| *id)
    }
}

impl Actor {
    /// Has a task that nobody here wants take part no more, and its content be answered from on; whether that may be. It is not in
    /// the way of eviction.
    pub(super) fn shelve(&mut self, id: TaskId) -> bool {
        let Some(task) = self.tasks.get(&id).filter(|task| task.wants.is_empty()) else { return false };
        let Some(authority) = task.authority.filter(|authority| *authority != PRIVATE) else { return false };
        let Some(content) = task.current.and_then(|key| self.contents.get(&key)) else { return false };
        let is_small = content.layout.pieces() == 1 && content.layout.length() <= WHOLE_BYTES_MAX as u64;
        let is_had = content.is_complete() && content.attested_have().is_complete() && content.is_shared();
        if !is_small || !is_had || task.scope.is_local() || self.node.upload_slots() == 0 || self.draining {
            return false;
        }
        let content = Arc::clone(content);
        self.abort_leases(content.key);
        self.tasks.remove(&id);
        self.contents.remove(&content.key);
        self.input(Input::TaskRemoved { task: content.key });
        self.close_on_lanes(&content);
        while self.shelf.len() >= SHELF_MAX
            && let Some(oldest) = self.shelf.oldest()
        {
            self.let_fall(oldest);
        }
        self.shelf.put(id, content, authority);
        true
    }

    /// A task on the shelf is held no more, or not to be had from here: its coordinator learns so.
    pub(super) fn let_fall(&mut self, id: TaskId) {
        if let Some(authority) = self.take_down(id) {
            self.tell(authority, ToCoordinator::Leave(id));
        }
    }

    /// A task on the shelf takes part again; the coordinator that names this host for it.
    pub(super) fn take_down(&mut self, id: TaskId) -> Option<AuthorityId> {
        let Shelved { content, authority, .. } = self.shelf.take(id)?;
        self.registry.remove(&content);
        Some(authority)
    }

    /// The store has evicted what may be on the shelf.
    pub(super) fn evicted_from_shelf(&mut self, id: TaskId, generation: Generation) {
        let shelved = self.shelf.by_task.get(&id).filter(|shelved| shelved.content.generation == generation);
        if shelved.is_some_and(|shelved| shelved.content.entry.use_guard().is_err()) {
            self.let_fall(id);
        }
    }

    /// A coordinator is lost, and with it what it knew: it names this host for nothing any more.
    pub(super) fn lose_shelf_of(&mut self, authority: AuthorityId) {
        let lost = self.shelf.by_task.iter().filter(|(_, shelved)| shelved.authority == authority);
        let lost: Vec<TaskId> = lost.map(|(id, _)| *id).collect();
        for id in lost {
            self.take_down(id);
        }
    }
}

#[cfg(test)]
mod tests;
