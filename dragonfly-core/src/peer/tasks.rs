//! The tasks of this host: who wants them, which content they have now.

mod open;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::sync::{oneshot, watch};

pub(super) use open::content_of;
use open::open;

use super::actor::Actor;
use super::authorities::Meeting;
use super::content::{Content, Counts, State};
use super::event::{AuthorityId, Event, NewWant, Scope, WantId, WantStatus};
use super::leases::Bodies;
use super::origin::OriginAccess;
use super::unanswered::Asked;
use crate::swarm::{HostKey, Input, TaskKey, TaskOptions};
use crate::task::{Generation, HaveMap, TaskId};
use crate::wire::PeerId;
use crate::wire::control::{
    Current, Earlier, Failure, FailureKind, Granted, Held, Join, NEIGHBOURS_MAX, Neighbour, Share, TaskInfo,
    ToCoordinator,
};
use crate::{Error, ErrorKind, Result};

/// How many tasks take part in the swarm at a time. Beyond it the ones that nobody wants stop being served; their
/// content stays in the store. Where all are wanted one more is refused.
pub(crate) const TASKS_MAX: usize = 2048;

/// Neighbours that are kept until a generation is open: those named last.
const NAMED_MAX: usize = 2 * NEIGHBOURS_MAX;

/// How many ranges a holder may fetch from the origin at a time for one task; the coordinator grants no more than its
/// share of what all together should.
const LEASES_PER_TASK_MAX: u8 = 2;

pub(super) struct Task {
    pub(super) info: TaskInfo,
    pub(super) label: String,
    pub(super) scope: Scope,
    pub(super) access: Option<OriginAccess>,
    pub(super) wants: BTreeMap<WantId, Wanted>,
    pub(super) authority: Option<AuthorityId>,
    /// Whether it ever had one.
    coordinated: bool,
    /// How its coordinator is found where no scheduler has it.
    pub(super) meeting: Meeting,
    /// What the store held of it when it was asked for, until a generation takes part.
    pub(super) held: Option<Held>,
    /// The generation that takes part in the swarm.
    pub(super) current: Option<TaskKey>,
    /// A generation that is being opened in the store.
    pub(super) activating: Option<(Generation, TaskKey)>,
    /// What its coordinator says of the content now.
    pub(super) described: Option<Current>,
    /// Bytes that came with a description, until their lease is granted.
    pub(super) bodies: Bodies,
    /// Grants that came before the content was open.
    pub(super) grants: Vec<Granted>,
    /// Neighbours that were named before the content was open.
    pub(super) named: Vec<Neighbour>,
    pub(super) asked: Asked,
    /// Others gave way to it at its coordinator.
    pub(super) yielded_to: bool,
    /// The order of use, for letting go of the oldest.
    used: u64,
}

pub(super) struct Wanted {
    age_max_ms: Option<u64>,
    stale_ok: bool,
    priority: u8,
    for_others: bool,
    since: std::time::Instant,
    /// What of the content had come before the caller asked, where there was content.
    before: Option<(TaskKey, Counts)>,
    status: watch::Sender<WantStatus>,
}

impl Task {
    /// A task that nobody wants yet. `used`: the order of its use.
    pub(super) fn new(info: TaskInfo, label: String, scope: Scope, used: u64) -> Self {
        Self {
            info,
            label,
            scope,
            access: None,
            wants: BTreeMap::new(),
            authority: None,
            coordinated: false,
            meeting: Meeting::default(),
            held: None,
            current: None,
            activating: None,
            described: None,
            bodies: Bodies::default(),
            grants: Vec::new(),
            named: Vec::new(),
            asked: Asked::now(),
            yielded_to: false,
            used,
        }
    }

    /// The order of its last use.
    pub(super) const fn used(&self) -> u64 {
        self.used
    }

    /// Whether somebody waits to hear what its content is.
    pub(super) fn is_resolving(&self) -> bool {
        self.wants.values().any(|want| matches!(*want.status.borrow(), WantStatus::Resolving))
    }

    /// How old the origin's word may be, for the strictest of those who want it and say so, in milliseconds.
    pub(super) fn age_max_ms(&self) -> Option<u64> {
        self.waiting().filter_map(|want| want.age_max_ms).min()
    }

    /// Those that were not told yet that it cannot be had: who was is about to leave.
    fn waiting(&self) -> impl Iterator<Item = &Wanted> {
        self.wants.values().filter(|want| !matches!(*want.status.borrow(), WantStatus::Failed(_)))
    }

    /// Whether all who wait take it however old it is.
    fn stale_ok(&self) -> bool {
        let mut waiting = self.waiting().peekable();
        waiting.peek().is_some() && waiting.all(|want| want.stale_ok)
    }

    /// Whether a caller on this host waits for it.
    pub(super) fn has_callers(&self) -> bool {
        self.wants.values().any(|want| !want.for_others)
    }
}

impl Actor {
    pub(super) fn want(&mut self, want: NewWant) {
        let id = want.info.task;
        if !self.has_room(id) {
            let context = format!(
                "{TASKS_MAX} tasks are being fetched or read on this host: another one once one of them is done"
            );
            let _ = want.status.send(WantStatus::Failed(Error::new(ErrorKind::Full, context).temporary(true)));
            return;
        }
        let (used, is_local) = (want.id.0, want.scope.is_local());
        self.idle.take(id);
        let task = self.tasks.entry(id).or_insert_with(|| Task::new(want.info, want.label, want.scope, used));
        task.used = used;
        task.held = want.held.filter(|_| task.current.is_none());
        if want.access.is_some() {
            // The newest request's credentials are the likeliest to be valid still.
            let counted = task.access.take().map(|access| access.retries);
            task.access = want.access.map(|access| access.counting(counted));
        }
        if is_local && !task.scope.is_local() {
            // Another host had it wanted here before; what this host's own user is to get is for this host alone.
            self.withdraw(id);
        }
        let Some(task) = self.tasks.get_mut(&id) else { return };
        let fixed = task.info.fixed;
        // It may have been evicted while nobody wanted it, or an output that shares its bytes was written to.
        let content = task.current.and_then(|key| self.contents.get(&key));
        let unfit = content.is_some_and(|content| content.wake().is_err() || content.entry.needs_proof());
        if unfit {
            // What it said to hold is to be forgotten, too.
            self.leave(id);
            self.deactivate(id);
        }
        let Some(task) = self.tasks.get_mut(&id) else { return };
        let content = task.current.and_then(|key| self.contents.get(&key));
        let before = content.map(|content| (content.key, content.counts()));
        let complete = content.filter(|content| content.is_complete());
        if let Some(content) = complete.filter(|_| fixed) {
            // Content that cannot change needs nobody's word that it is current.
            let _ = want.status.send(WantStatus::Content(Arc::clone(content), content.counts()));
        }
        if !task.is_resolving() {
            task.asked.answered();
        }
        task.wants.insert(
            want.id,
            Wanted {
                age_max_ms: want.age_max_ms,
                stale_ok: want.stale_ok,
                priority: want.priority,
                for_others: want.for_others,
                since: std::time::Instant::now(),
                before,
                status: want.status,
            },
        );
        self.trace(id);
        self.watch_answer(id);
        self.seek_pieces(id);
        match self.tasks.get(&id).and_then(|task| task.authority) {
            Some(authority) => self.join(id, authority),
            None => {
                self.reassign(id);
            }
        }
    }

    /// What takes part in the swarm may do so for others' sake alone, or without a way to the origin: no longer.
    fn seek_pieces(&mut self, id: TaskId) {
        let Some(task) = self.tasks.get(&id) else { return };
        let Some(content) = task.current.and_then(|key| self.contents.get(&key)) else { return };
        if lacks(content) {
            let (task, may_lease) = (content.key, task.access.is_some());
            self.input(Input::Wanted { task, may_lease });
        }
    }

    pub(super) fn unwant(&mut self, id: TaskId, want: WantId) {
        let Some(task) = self.tasks.get_mut(&id) else { return };
        task.wants.remove(&want);
        if !task.wants.is_empty() {
            return;
        }
        match task.current.and_then(|key| self.contents.get(&key)).filter(|content| content.is_complete()) {
            // It is served on, for as long as the store has room for it.
            Some(content) => {
                content.rest();
                self.rest(id);
            }
            // Nobody wants it any more: what is held stays in the store, the rest is not fetched.
            None => self.drop_task(id),
        }
    }

    /// The store has evicted what took part in the swarm.
    pub(super) fn evicted(&mut self, id: TaskId, generation: Generation) {
        let content = self.tasks.get(&id).and_then(|task| task.current).and_then(|key| self.contents.get(&key));
        // Unless it came back meanwhile, under the same name.
        if content.is_some_and(|content| content.generation == generation && content.entry.use_guard().is_err()) {
            self.drop_task(id);
        }
    }

    /// Whether this task may be wanted: those that were used longest ago and that nobody wants stop being served for it.
    pub(super) fn has_room(&mut self, id: TaskId) -> bool {
        // What takes part already does not more than that.
        while !self.tasks.contains_key(&id) && self.counted() >= TASKS_MAX {
            let Some(oldest) = self.idle.oldest() else { return false };
            self.drop_task(oldest);
        }
        true
    }

    /// Takes part in the task no more.
    pub(super) fn drop_task(&mut self, id: TaskId) {
        self.idle.take(id);
        self.leave(id);
        self.deactivate(id);
        self.tasks.remove(&id);
    }

    pub(super) fn leave(&mut self, id: TaskId) {
        self.tell_of(id, ToCoordinator::Leave(id));
    }

    /// Takes the task's content out of the swarm.
    pub(super) fn deactivate(&mut self, id: TaskId) {
        let Some(key) = self.tasks.get_mut(&id).and_then(|task| task.current.take()) else { return };
        self.abort_leases(key);
        self.input(Input::TaskRemoved { task: key });
        if let Some(content) = self.contents.remove(&key) {
            self.registry.remove(&content);
            content.end(State::Superseded);
            content.rest();
            self.close_on_lanes(&content);
            self.node.parts().over((content.task, content.generation));
        }
    }

    /// Joins (or joins again, with what has changed) at a coordinator.
    pub(super) fn join(&mut self, id: TaskId, authority: AuthorityId) {
        let Some(task) = self.tasks.get_mut(&id) else { return };
        let mut earlier = None;
        if task.authority.replace(authority) != Some(authority) {
            task.bodies.release();
            task.asked.another();
            let moved = std::mem::replace(&mut task.coordinated, true);
            earlier = moved.then(|| if task.bodies.asked() { Earlier::Asked } else { Earlier::Moved });
            if moved {
                self.expire_spare(id);
            }
        }
        let Some(task) = self.tasks.get(&id) else { return };
        let content = task.current.and_then(|key| self.contents.get(&key));
        let held = content.map(|content| {
            let described = task.described.as_ref().filter(|d| d.generation == content.generation);
            Held {
                generation: content.generation,
                length: content.layout.length(),
                piece_length: content.layout.piece_length(),
                validator: described.and_then(|d| d.validator.clone()),
                splittable: described.is_some_and(|d| d.splittable),
                eighths: eighths(&content.attested_have()),
                live: true,
                fetching: self.fetching(content.key),
            }
        });
        let held = held.or_else(|| task.held.clone());
        let join = Join {
            info: task.info.clone(),
            held,
            wanted: !task.wants.is_empty(),
            may_lease: task.access.is_some(),
            age_max_ms: task.age_max_ms(),
            stale_ok: task.stale_ok(),
            priority: task.wants.values().map(|want| want.priority).min().unwrap_or(7),
            earlier,
        };
        let key = task.current;
        self.tell(authority, ToCoordinator::Join(join));
        if let Some(task) = key {
            self.input(Input::AuthorityUp { task });
        }
    }

    /// A seed is asked to take part in a task.
    pub(super) fn triggered(&mut self, by: PeerId, info: TaskInfo) {
        if self.draining {
            // At once, so that another one is asked.
            return self.decline(by, info.task);
        }
        self.node.triggered(by, info);
    }

    pub(super) fn neighbours(&mut self, id: TaskId, hosts: Vec<Neighbour>) {
        let Some(task) = self.tasks.get_mut(&id) else { return };
        // They are named for what is current there: what was before may still be here while that is being opened.
        match task.current.filter(|_| task.activating.is_none()) {
            None => {
                // In several messages, if they are many.
                task.named.retain(|known| hosts.iter().all(|host| host.peer != known.peer));
                task.named.splice(..0, hosts);
                task.named.truncate(NAMED_MAX);
            }
            Some(key) => {
                self.name(key, hosts);
            }
        }
    }

    /// Tells the core of neighbours.
    fn name(&mut self, task: TaskKey, named: Vec<Neighbour>) {
        let (hosts, across) = self.interned(named);
        self.input(Input::Neighbours { task, hosts, across });
    }

    /// Neighbours as the core knows them, and what is to be had from those in other sites.
    fn interned(&mut self, named: Vec<Neighbour>) -> (Vec<HostKey>, Vec<(HostKey, Share)>) {
        let (mut hosts, mut across) = (Vec::with_capacity(named.len()), Vec::new());
        for neighbour in named {
            let share = neighbour.share;
            if let Some(host) = self.intern(neighbour) {
                hosts.push(host);
                across.extend(share.map(|share| (host, share)));
            }
        }
        (hosts, across)
    }

    /// The coordinator says which content is current.
    pub(super) fn current(&mut self, current: Current) {
        let id = current.task;
        let Some(task) = self.tasks.get_mut(&id) else { return };
        let generation = current.generation;
        (task.described, task.yielded_to) = (Some(current), false);
        let active = task.current.and_then(|key| self.contents.get(&key));
        if let Some(key) = active.filter(|content| content.generation == generation).map(|content| content.key) {
            // Who asked for a lease before the coordinator knew what is current was told not to ask until it hears of
            // the task again: this is it.
            // And what was to take its place meanwhile does not.
            task.activating = None;
            // Nor what was taken in to see that it is the same: it has a place among those of unknown length.
            let spooled = task.bodies.take_spooled();
            let named = std::mem::take(&mut task.named);
            self.let_go(spooled);
            self.input(Input::LeaseNone { task: key, retry: Some(std::time::Duration::ZERO) });
            if !named.is_empty() {
                self.neighbours(id, named);
            }
            self.satisfy(id);
            return;
        }
        if task.activating.is_some_and(|(coming, _)| coming == generation) {
            return;
        }
        if task.wants.is_empty() {
            // What is held here is of no use to anyone any more, and nobody here wants what came in its place.
            return self.drop_task(id);
        }
        self.activate(id);
    }

    /// Opens the generation that is current in the store.
    fn activate(&mut self, id: TaskId) {
        let key = TaskKey(self.keys.fetch_add(1, Ordering::Relaxed));
        let Some(task) = self.tasks.get_mut(&id) else { return };
        let Some(current) = task.described.clone() else { return };
        task.activating = Some((current.generation, key));
        let spooled = task.bodies.take_spooled();
        let scope = task.scope.clone();
        let (info, label) = (task.info.clone(), task.label.clone());
        let node = self.node.clone();
        self.spawn_event(async move {
            let opener = node.clone();
            let open = move || open(&opener, key, &current, (info, label, scope), spooled);
            let outcome = match node.io().run(open).await {
                Ok(outcome) => outcome,
                Err(error) => Err(error),
            };
            Event::Activated { task: id, key, outcome: outcome.map(Arc::new) }
        });
    }

    /// A generation was opened.
    pub(super) fn activated(&mut self, id: TaskId, key: TaskKey, outcome: Result<Arc<Content>>) {
        let Some(task) = self.tasks.get_mut(&id) else { return };
        if task.activating.is_none_or(|(_, coming)| coming != key) {
            // Another version became current meanwhile, or the task goes another way.
            return;
        }
        let content = match outcome {
            Ok(content) => content,
            Err(error) => {
                task.activating = None;
                self.fail(id, &error);
                return;
            }
        };
        task.activating = None;
        if task.wants.is_empty() && !content.is_complete() {
            // Who wanted it had what was current before, and left while this was opened: as if it became current now.
            return self.drop_task(id);
        }
        self.enter(id, content);
    }

    /// A generation takes part in the swarm from now on.
    pub(super) fn enter(&mut self, id: TaskId, content: Arc<Content>) {
        self.deactivate(id);
        let Some(task) = self.tasks.get_mut(&id) else { return };
        let key = content.key;
        // Who was found out while it was being opened.
        content.void(&self.node.contradicted().of(id));
        (task.current, task.held) = (Some(key), None);
        let have = content.attested_have();
        let options = TaskOptions {
            priority: task.wants.values().map(|want| want.priority).min().unwrap_or(7),
            wanted: lacks(&content) && !task.wants.is_empty(),
            may_lease: task.access.is_some(),
            leases_max: LEASES_PER_TASK_MAX,
            // Complete before anyone asked: each piece is given away once before any is given twice.
            injector: have.is_complete() && (self.node.acts_as_seed() || content.bytes_held == 0),
        };
        let named = std::mem::take(&mut task.named);
        let grants = std::mem::take(&mut task.grants);
        self.contents.insert(key, Arc::clone(&content));
        self.registry.insert(&content);
        let (hosts, across) = self.interned(named);
        self.input(Input::TaskAdded { task: key, layout: content.layout, have, options, hosts, across });
        for granted in grants {
            self.granted(granted);
        }
        if content.is_complete() {
            self.completed(key);
        }
        self.rest(id);
        self.trace(id);
        self.satisfy(id);
    }

    /// Traces the download of what is wanted here.
    fn trace(&self, id: TaskId) {
        let Some(task) = self.tasks.get(&id) else { return };
        let waited = task.wants.values().map(|want| want.since.elapsed()).max();
        if let Some(content) = task.current.and_then(|key| self.contents.get(&key))
            && let Some(waited) = waited
        {
            content.wanted(self.node.peer_id(), waited);
        }
    }

    /// Tells those who want the task what its content is, if it is fresh enough for them.
    fn satisfy(&mut self, id: TaskId) {
        let Some(task) = self.tasks.get(&id) else { return };
        let Some(content) = task.current.and_then(|key| self.contents.get(&key)) else { return };
        let age = task.described.as_ref().map_or(u64::MAX, |current| current.age_ms);
        for want in task.wants.values() {
            // The coordinator applies the default; a caller's own bound is checked here, too, because several
            // callers share one answer.
            let waited = want.since.elapsed().as_millis() as u64;
            let fresh = want.age_max_ms.is_none_or(|max| age <= max.saturating_add(waited)) || want.stale_ok;
            if fresh || task.info.fixed {
                let before = want.before.filter(|(key, _)| *key == content.key);
                let before = before.map_or_else(Counts::default, |(_, counts)| counts);
                want.status.send_replace(WantStatus::Content(Arc::clone(content), before));
            }
        }
    }

    pub(super) fn task_failed(&mut self, id: TaskId, failure: &Failure) {
        if failure.kind == FailureKind::Overloaded
            && self.yield_to(id)
            && let Some(authority) = self.tasks.get(&id).and_then(|task| task.authority)
        {
            return self.join(id, authority);
        }
        let Some(task) = self.tasks.get(&id) else { return };
        let content = task.current.and_then(|key| self.contents.get(&key));
        // Not where the origin says no: that is so whatever the disk does.
        let may_be = failure.kind == FailureKind::Local || failure.temporary;
        let slow_disk = content.filter(|_| may_be).and_then(|content| content.slow_disk());
        let error = slow_disk.unwrap_or_else(|| Error::from_failure(failure, &task.label));
        // That nobody may ask the origin is no reason where others had it: what kept them from giving it is.
        let content = content.filter(|_| failure.kind == FailureKind::Local);
        let trouble = content.and_then(|content| content.trouble());
        let error = trouble.map_or_else(|| error.clone(), |trouble| error.clone().and(&trouble));
        self.fail(id, &error);
    }

    /// Fails everyone who wants the task.
    pub(super) fn fail(&mut self, id: TaskId, error: &Error) {
        let Some(task) = self.tasks.get(&id) else { return };
        let complete =
            task.current.and_then(|key| self.contents.get(&key)).is_some_and(|content| content.is_complete());
        for want in task.wants.values() {
            want.status.send_replace(WantStatus::Failed(error.clone()));
        }
        if !complete {
            self.drop_task(id);
        }
    }

    pub(super) fn store_failed(&mut self, key: TaskKey, error: Error) {
        let Some(content) = self.contents.get(&key) else { return };
        // A disk that is full does not get better by trying again: what is held stays, and the caller is told.
        let (id, held, length) = (content.task, content.held_bytes(), content.layout.length());
        let kept = format!("{held} of {length} bytes are kept: the same fetch goes on from there");
        self.fail(id, &error.and(&kept));
    }

    /// Content of unknown length could not be taken in.
    pub(super) fn spool_failed(&mut self, id: TaskId, error: &Error) {
        self.fail(id, error);
    }

    /// Forgets what others attested and takes the task from its origin. Who is to blame, its signers or the caller's
    /// digest, is known once the origin was asked.
    pub(super) fn distrust(&mut self, id: TaskId, generation: Generation, done: oneshot::Sender<()>) {
        let content = self.registry.find(id, generation);
        if content.is_some() {
            self.withdraw(id);
        }
        self.remove(content, done);
    }

    pub(super) fn discard(&mut self, id: TaskId, generation: Generation, done: oneshot::Sender<()>) {
        let content = self.registry.find(id, generation);
        if content.is_some() {
            self.drop_task(id);
        }
        self.remove(content, done);
    }

    fn remove(&self, content: Option<Arc<Content>>, done: oneshot::Sender<()>) {
        let node = self.node.clone();
        self.node.spawn(async move {
            if let Some(content) = content {
                let key = content.entry.key().clone();
                drop(content);
                let store = Arc::clone(node.store());
                let _ = node.io().run(move || store.remove(&key)).await;
            }
            let _ = done.send(());
        });
    }

    pub(super) fn release(&mut self, id: TaskId) -> Result<()> {
        match self.tasks.get(&id) {
            Some(task) if !task.wants.is_empty() => {
                Err(Error::new(ErrorKind::InvalidInput, "the task is being downloaded or read: cancel that first")
                    .temporary(true))
            }
            _ => {
                self.drop_task(id);
                Ok(())
            }
        }
    }

    /// Every piece of a generation is held.
    pub(super) fn completed(&mut self, key: TaskKey) {
        let Some(content) = self.contents.get(&key).cloned() else { return };
        // A seal is this host's own word: not for what it has from one whose word is void.
        let may_seal = self.node.may_seal() && !content.is_tainted();
        if may_seal && content.evidence().sealed_root().is_none() && super::seal::seal(&self.node, &content) {
            self.sealed(&content);
        }
        content.end(State::Complete);
        if self.tasks.get(&content.task).is_some_and(|task| task.wants.is_empty()) {
            content.rest();
        }
    }

    /// A seal was made: neighbours and the coordinator get it.
    fn sealed(&mut self, content: &Arc<Content>) {
        let Some(seal) = content.evidence().seal().cloned() else { return };
        let (task, generation) = (content.task, content.generation);
        self.tell_of(task, ToCoordinator::Sealed { task, generation, seal });
        self.show_seal(content);
    }
}

/// Whether a caller's want is a reason to fetch: what is held whole already is not fetched again for the sake of others, but
/// for what only waits to be attested here.
fn lacks(content: &Content) -> bool {
    !content.is_complete() || content.is_own()
}

/// How much is held, in eighths of the pieces; 8 only when every one is.
pub(super) fn eighths(have: &HaveMap) -> u8 {
    if have.is_complete() { 8 } else { (u64::from(have.held()) * 8 / u64::from(have.pieces())).min(7) as u8 }
}

#[cfg(test)]
mod tests;
