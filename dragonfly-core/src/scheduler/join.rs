//! Taking part in a task and leaving it; which joiner may be told at once what is current.

use std::time::Duration;

use super::config::FAILURE_TEXT_MAX;
use super::core::{Core, millis_u32};
use super::ranges::RangeSet;
use super::slab::{HostIx, TaskIx};
use super::task::{Member, Task, Version};
use crate::task::{Class, Generation, Layout, TaskId};
use crate::wire::control::{Current, Failure, FailureKind, Held, Join, Share, ToMember};
use crate::wire::lane::Run;
use crate::wire::statement::SealBundle;

/// Every so many tasks that a host is refused it is looked at which of them it still lacks something of.
const LOOKED_AT_EVERY: u32 = 64;

impl Core {
    /// A host joins a task, or changes how it takes part.
    pub(super) fn join(&mut self, host: HostIx, join: Join) {
        let id = join.info.task;
        let Some(t) = self.enter(host, &join) else {
            let text = "too many tasks".to_owned();
            let failure =
                Failure { kind: FailureKind::Overloaded, temporary: true, status: None, retry_ms: None, text };
            return self.send(host, ToMember::Failed { task: id, failure });
        };
        let held = join.held.as_ref().filter(|held| is_plausible(&id, held));
        if let Some(held) = held {
            self.learn_held(t, host, held);
        }
        let task = &mut self.tasks[t];
        if join.info.spec.as_ref().is_some_and(|spec| spec.class == Class::Public) && task.spec.is_none() {
            task.spec = join.info.spec.clone();
        }
        task.fixed &= join.info.fixed;
        task.edit(host, |m| {
            (m.wanted, m.may_lease, m.stale_ok) = (join.wanted, join.may_lease, join.stale_ok);
            (m.priority, m.unfit_until) = (join.priority.min(7), None);
        });
        let triggered = self.take_trigger(t, host);
        let task = &mut self.tasks[t];
        if !join.wanted {
            task.unwait(host);
            if triggered {
                self.after_trigger(t);
            }
            return self.settle(t);
        }
        // A seed that was called to go on with a running fetch is not to start it anew; who waits shares one answer.
        let called = triggered && task.describe.is_none();
        let current = task.version.as_ref().is_some_and(|version| {
            called || join.info.fixed || !version.suspect && version.is_fresh(self.now, join.age_max_ms)
        });
        if current {
            task.unwait(host);
            self.admit(t, &[host]);
        } else {
            let seq = self.next_number();
            self.tasks[t].wait(host, seq);
            match join.earlier.or_else(|| self.expects_others()) {
                Some(earlier) => self.describe_again(t, host, earlier),
                None => self.describe_for(t, host),
            }
        }
        if called && current {
            self.want_lease(t, host);
        }
        self.settle(t);
    }

    /// Makes the host a member of the task, creating it if need be; `None` if a limit forbids that.
    fn enter(&mut self, host: HostIx, join: &Join) -> Option<TaskIx> {
        let id = join.info.task;
        let found = self.find(host, &id);
        if found.is_some_and(|t| self.tasks[t].members.contains_key(&host)) {
            return found;
        }
        let lacks = join.held.as_ref().is_none_or(|held| held.eighths < 8);
        if self.hosts[host].tasks.len() >= self.config.tasks_per_host_max || lacks && !self.may_lack_more(host) {
            return None;
        }
        let t = match found {
            Some(t) => t,
            None => {
                if self.tasks.len() >= self.config.tasks_max {
                    // What nobody takes part in makes room.
                    self.idle.first().copied().map(|(_, oldest)| self.drop_task(oldest))?;
                }
                let tenant = self.hosts[host].tenant.clone();
                let t = self.tasks.insert(Task::new(tenant.clone(), id, join.info.fixed));
                self.ids.insert((tenant, id), t);
                t
            }
        };
        let task = &mut self.tasks[t];
        if let Some(since) = task.idle_since.take() {
            self.idle.remove(&(since, t));
        }
        let h = &mut self.hosts[host];
        h.tasks.insert(t);
        if lacks {
            h.lacking.insert(t);
        }
        let doubted = task.doubted.contains(&h.serial);
        let (seed, uploads, since, site) = (h.seed, h.slots > 0, self.now, h.site.clone());
        task.members.insert(host, Member { seed, uploads, since, doubted, site, ..Member::default() });
        Some(t)
    }

    /// Whether a host may join one more task of which it lacks something. What it holds whole is of use to others, and costs less.
    fn may_lack_more(&mut self, host: HostIx) -> bool {
        let h = &mut self.hosts[host];
        if h.lacking.len() < self.config.lacking_per_host_max {
            return true;
        }
        // Looked at now and then alone: who asks on and on must not have all of them looked at each time.
        h.refused = h.refused.wrapping_add(1);
        if h.refused % LOOKED_AT_EVERY == 1 {
            let tasks = &self.tasks;
            h.lacking.retain(|t| {
                tasks.get(*t).and_then(|task| task.members.get(&host)).is_some_and(|member| member.eighths < 8)
            });
        }
        h.lacking.len() < self.config.lacking_per_host_max
    }

    /// Takes in what a joiner holds: its place, and what the generation looks like if nobody knew.
    fn learn_held(&mut self, t: TaskIx, host: HostIx, held: &Held) {
        let task = &mut self.tasks[t];
        let unknown = task.version.is_none();
        if task.version.is_none()
            && let Ok(layout) = Layout::new(held.length, held.piece_length)
        {
            // Which pieces the host holds is unknown: all count as fetched before, until somebody lacks one.
            let whole = RangeSet::of(0..layout.pieces());
            (task.orphaned, task.free) = if held.eighths > 0 || held.validator.is_none() {
                (whole, RangeSet::default())
            } else {
                (RangeSet::default(), whole)
            };
            task.version = Some(Version {
                generation: held.generation,
                layout,
                validator: held.validator.clone(),
                splittable: held.splittable && held.validator.is_some(),
                confirmed: None,
                fresh: self.config.window,
                seal: None,
                suspect: false,
            });
        }
        if unknown && held.live && task.version.is_some() {
            self.collect(t);
        }
        let task = &mut self.tasks[t];
        if task.version.as_ref().is_some_and(|version| version.generation == held.generation) {
            // Under a lease of another coordinator: as good as fetched, until somebody lacks it.
            for range in held.fetching.iter().filter_map(Run::range) {
                task.orphan_free(range);
            }
        }
        if task.members[&host].place.is_none() {
            task.place(host, Some(held.generation));
        }
        if task.members[&host].generation() == Some(held.generation) {
            task.edit(host, |m| m.eighths = held.eighths);
        }
    }

    /// Tells members what is current and whom to trade it with.
    pub(super) fn admit(&mut self, t: TaskIx, hosts: &[HostIx]) {
        self.tell_current(t, hosts);
        self.connect(t, hosts);
    }

    /// The first half of [`admit`](Self::admit).
    pub(super) fn tell_current(&mut self, t: TaskIx, hosts: &[HostIx]) {
        for &host in hosts {
            let task = &mut self.tasks[t];
            let Some(version) = &task.version else { return };
            let current = version.current(task.id, self.now);
            if task.members.get(&host).is_some_and(|m| m.generation() != Some(current.generation)) {
                task.edit(host, |m| m.eighths = 0);
                task.place(host, Some(current.generation));
            }
            self.send(host, ToMember::Current(current));
        }
    }

    pub(super) fn leave(&mut self, host: HostIx, id: &TaskId) {
        let Some(t) = self.find(host, id) else { return };
        if self.tasks[t].members.contains_key(&host) {
            self.hosts[host].tasks.remove(&t);
            self.remove_member(t, host, false);
            self.settle_live(t);
        } else {
            // A seed that declines what it was triggered for.
            self.trigger_lost(t, host);
        }
    }

    /// Removes a member. `lost`: its session ended, so that it may go on fetching for a moment.
    pub(super) fn remove_member(&mut self, t: TaskIx, host: HostIx, lost: bool) {
        // It is given nothing more by what follows.
        self.tasks[t].edit(host, |m| (m.wanted, m.asked) = (false, None));
        self.tasks[t].unwait(host);
        self.end_leases_of(t, host, lost);
        let brought = self.tasks[t].members.get(&host).is_some_and(|m| m.part.is_some_and(|part| part != Share::NONE));
        let neighbours = self.tasks[t].remove_member(host);
        if brought {
            // Somebody else is to bring what it was to.
            self.deal_soon(t);
        }
        self.describer_gone(t, host, lost);
        // Nobody is left alone while others trade the same.
        for n in neighbours {
            if self.tasks[t].members.contains_key(&n) && self.tasks[t].members.degree(n) == 0 {
                self.connect(t, &[n]);
            }
        }
    }

    /// [`settle`](Self::settle) for a task that may have lost its last member.
    pub(super) fn settle_live(&mut self, t: TaskIx) {
        let Some(task) = self.tasks.get(t) else { return };
        if !task.members.is_empty() {
            return self.settle(t);
        }
        if task.version.is_none() {
            return self.drop_task(t);
        }
        if task.idle_since.is_none() {
            self.cancel_trigger(t);
            self.tasks[t].describe = None;
            self.tasks[t].idle_since = Some(self.now);
            self.idle.insert((self.now, t));
        }
    }

    /// Forgets a task without members.
    pub(super) fn drop_task(&mut self, t: TaskIx) {
        self.cancel_trigger(t);
        let Some(task) = self.tasks.remove(t) else { return };
        debug_assert!(task.members.is_empty(), "only idle tasks are dropped");
        self.ids.remove(&(task.tenant, task.id));
        if let Some(since) = task.idle_since {
            self.idle.remove(&(since, t));
        }
    }

    pub(super) fn report(&mut self, host: HostIx, id: &TaskId, generation: Generation, eighths: u8) {
        let Some(t) = self.find_joined(host, id) else { return };
        let task = &mut self.tasks[t];
        if eighths <= 8 && task.members[&host].generation() == Some(generation) {
            let grows = eighths > task.members[&host].eighths;
            task.edit(host, |m| {
                m.eighths = eighths;
                m.lacked &= !grows;
                m.starved &= !grows;
            });
            self.settle(t);
        }
    }

    pub(super) fn sealed(&mut self, host: HostIx, id: &TaskId, generation: Generation, seal: SealBundle) {
        let Some(t) = self.find_joined(host, id) else { return };
        let is_seed = self.hosts[host].seed;
        if let Some(version) = self.tasks[t].version.as_mut()
            && version.generation == generation
            && is_seed
        {
            version.seal = Some(seal);
        }
    }

    /// Tells a host that a task cannot be had.
    pub(super) fn send_failed(&mut self, host: HostIx, task: TaskId, failure: &Failure) {
        self.send(host, ToMember::Failed { task, failure: failure.clone() });
    }
}

impl Version {
    /// Whether the origin's word is young enough for a joiner.
    pub(super) fn is_fresh(&self, now: Duration, age_max_ms: Option<u64>) -> bool {
        let limit = age_max_ms.map_or(self.fresh, Duration::from_millis);
        self.confirmed.is_some_and(|at| now - at < limit)
    }

    fn current(&self, task: TaskId, now: Duration) -> Current {
        Current {
            task,
            generation: self.generation,
            length: self.layout.length(),
            piece_length: self.layout.piece_length(),
            validator: self.validator.clone(),
            splittable: self.splittable,
            // Unknown is older than anything.
            age_ms: self.confirmed.map_or(u64::MAX, |at| u64::try_from((now - at).as_millis()).unwrap_or(u64::MAX)),
            seal: self.seal.clone(),
        }
    }
}

/// Whether what a joiner says it holds can exist. Generations without a validator cannot be checked.
fn is_plausible(task: &TaskId, held: &Held) -> bool {
    let derived = held
        .validator
        .as_ref()
        .map(|validator| Generation::derive(task, Some(validator), Some(held.length), held.piece_length, None));
    held.eighths <= 8
        && Layout::new(held.length, held.piece_length).is_ok()
        && derived.is_none_or(|generation| generation == held.generation)
}

/// A failure as it is passed on: its text cut to what one may say, its pause to what a message can hold.
pub(super) fn bounded(mut failure: Failure) -> Failure {
    let end = failure.text.floor_char_boundary(FAILURE_TEXT_MAX);
    failure.text.truncate(end);
    failure
}

/// A failure of ours that another try may cure.
pub(super) fn no_fetcher(pause: Duration) -> Failure {
    let text = "no host may ask the origin".to_owned();
    Failure { kind: FailureKind::Local, temporary: true, status: None, retry_ms: Some(millis_u32(pause)), text }
}
