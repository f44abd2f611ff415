//! Finding out which generation is current: one host asks the origin, all who wait share its answer.

use std::collections::BTreeSet;
use std::time::Duration;

use rand::RngCore;

use super::config::{
    DESCRIBE_CANDIDATES_MAX, DESCRIBE_PAUSE, DESCRIBE_PAUSE_MAX, DESCRIBE_ROUNDS_MAX, DESCRIBE_TIME_MAX,
};
use super::core::{Core, Timer, millis_u32};
use super::host::rendezvous;
use super::join::{bounded, no_fetcher};
use super::ranges::RangeSet;
use super::slab::{HostIx, TaskIx};
use super::task::{Describe, Stage, Task, Trigger, Version};
use crate::task::{Generation, Layout, PieceIndex, Validator, piece_length_for};
use crate::wire::control::{Answer, Described, Failure, FailureKind, Granted, LeaseId, TaskInfo, ToMember, Work};

impl Core {
    /// Somebody waits: sees to it that the origin is asked.
    pub(super) fn describe_for(&mut self, t: TaskIx, host: HostIx) {
        let member = &self.tasks[t].members[&host];
        let may_start = member.seed && member.is_fit();
        match &self.tasks[t].describe {
            None if self.tasks[t].is_collecting_answers() => {}
            None => {
                let (tried, stage) = (BTreeSet::new(), Stage::Trigger);
                self.tasks[t].describe = Some(Describe { round: 0, tried, retryable: false, last: None, stage });
                self.next_describer(t);
            }
            // A seed that is here need not be waited for.
            Some(Describe { stage: Stage::Trigger | Stage::Pause { .. }, .. }) if may_start => {
                self.cancel_trigger(t);
                self.grant_describe(t, host);
            }
            Some(_) => {}
        }
    }

    /// A member that waits to hear what is current hears that it is not forgotten: one that hears nothing at all does
    /// without its coordinator in the end.
    pub(super) fn assure(&mut self, host: HostIx) {
        let waits = |t: &&TaskIx| self.tasks[**t].members.get(&host).is_some_and(|m| m.waiting.is_some());
        let waiting: Vec<_> = self.hosts[host].tasks.iter().filter(waits).map(|&t| self.tasks[t].id).collect();
        for task in waiting {
            self.send(host, ToMember::NoLease { task, retry_ms: None });
        }
    }

    /// Chooses who asks the origin next: seeds first, then those who wait; each once a round.
    fn next_describer(&mut self, t: TaskIx) {
        let task = &self.tasks[t];
        if task.waiting.is_empty() {
            return self.end_describe(t);
        }
        let called = task.trigger.as_ref().map(|trigger| self.hosts[trigger.host].serial);
        let Some(describe) = &mut self.tasks[t].describe else { return };
        if let Some(serial) = called {
            // A seed was called to fetch already: it may ask as well.
            describe.tried.insert(serial);
            describe.stage = Stage::Trigger;
            return;
        }
        let task = &self.tasks[t];
        let Some(describe) = &task.describe else { return };
        if describe.tried.len() < DESCRIBE_CANDIDATES_MAX {
            if let Some(seed) = self.best_seed(t, &describe.tried) {
                return match self.tasks[t].members.contains_key(&seed) {
                    true => self.grant_describe(t, seed),
                    false => self.trigger(t, seed),
                };
            }
            let untried = |h: &&HostIx| !describe.tried.contains(&self.hosts[**h].serial);
            let fit = |h: &&HostIx| task.members.get(h).is_some_and(|m| m.may_lease && !m.seed);
            if let Some(&peer) = task.waiting.values().filter(untried).find(fit) {
                return self.grant_describe(t, peer);
            }
        }
        self.next_round(t);
    }

    fn next_round(&mut self, t: TaskIx) {
        let step = self.next_number();
        let Some(describe) = &mut self.tasks[t].describe else { return };
        // An origin that names a time far off is not asked again before.
        let far_off = |failure: &Failure| {
            failure.retry_ms.is_some_and(|ms| Duration::from_millis(ms.into()) > DESCRIBE_PAUSE_MAX)
        };
        let is_over = !describe.retryable || describe.last.as_ref().is_some_and(far_off);
        if is_over || describe.round + 1 >= DESCRIBE_ROUNDS_MAX {
            let failure = describe.last.take().unwrap_or_else(|| no_fetcher(self.config.unfit_time));
            return self.describe_is_over(t, &failure);
        }
        let named = describe.last.as_ref().and_then(|failure| failure.retry_ms);
        let pause = named.map_or(DESCRIBE_PAUSE * (1 << describe.round), |ms| Duration::from_millis(ms.into()));
        (describe.round, describe.retryable) = (describe.round + 1, false);
        describe.tried.clear();
        describe.stage = Stage::Pause { step };
        self.arm(self.now + pause.min(DESCRIBE_PAUSE_MAX), Timer::Pause { task: t, step });
    }

    pub(super) fn pause_over(&mut self, t: TaskIx, step: u64) {
        let describe = self.tasks.get(t).and_then(|task| task.describe.as_ref());
        if describe.is_some_and(|d| matches!(d.stage, Stage::Pause { step: s } if s == step)) {
            self.next_describer(t);
        }
    }

    /// The seed that suits the task best, of those that are up, untried, and members or to be triggered.
    pub(super) fn best_seed(&self, t: TaskIx, tried: &BTreeSet<u64>) -> Option<HostIx> {
        let task = &self.tasks[t];
        let suits = |&&h: &&HostIx| {
            let usable = task.members.get(&h).map_or(task.spec.is_some(), |m| m.is_fit());
            usable && !tried.contains(&self.hosts[h].serial)
        };
        let seeds = self.seeds.get(&task.tenant)?.iter().filter(suits);
        seeds.copied().max_by_key(|&h| (rendezvous(&task.id, &self.hosts[h].peer), self.hosts[h].peer))
    }

    pub(super) fn grant_describe(&mut self, t: TaskIx, host: HostIx) {
        self.epoch += 1;
        let id = LeaseId { number: self.next_number(), epoch: self.epoch };
        let (deadline, until) = (self.now + self.config.lease_timeout * 2, self.now + DESCRIBE_TIME_MAX);
        let (task, serial) = (&mut self.tasks[t], self.hosts[host].serial);
        let Some(describe) = &mut task.describe else { return };
        task.epoch = id.epoch;
        describe.tried.insert(serial);
        describe.stage = Stage::Lease { id, host: Some(host), deadline, end: 0, until };
        let work = Work::Describe { prior: task.version.as_ref().and_then(|v| v.validator.clone()) };
        let timeout_ms = millis_u32(self.config.lease_timeout);
        let granted = Granted { task: task.id, lease: id, timeout_ms, work };
        self.send(host, ToMember::Granted(granted));
        self.arm(deadline, Timer::Describe { task: t, number: id.number });
    }

    /// Whether `host` holds this lease to describe the task.
    pub(super) fn describes(&self, t: TaskIx, host: HostIx, lease: LeaseId) -> bool {
        let stage = self.tasks[t].describe.as_ref().map(|d| &d.stage);
        matches!(stage, Some(Stage::Lease { id, host: Some(h), .. }) if (*id, *h) == (lease, host))
    }

    /// The holder of the lease to describe is at work. Of content without a length it takes in all, and has come to
    /// `reached`, in steps of its own; as long as it gets on it may take its time. So may one that waits, for a place at origins, say, if nobody
    /// but itself waits for what it finds.
    pub(super) fn renew_describe(&mut self, t: TaskIx, reached: PieceIndex) {
        let (renewed, anew) = (self.now + self.config.lease_timeout * 2, self.now + DESCRIBE_TIME_MAX);
        let Task { describe, waiting, .. } = &mut self.tasks[t];
        if let Some(Describe { stage: Stage::Lease { host, deadline, end, until, .. }, .. }) = describe {
            let is_alone = waiting.len() == 1 && waiting.values().next() == host.as_ref();
            // Once it is served it has to get on.
            if reached > *end || is_alone && *end == 0 {
                (*end, *until) = (reached.max(*end), anew);
            }
            *deadline = renewed.min(*until);
        }
    }

    pub(super) fn describe_lapsed(&mut self, t: TaskIx, number: u64) {
        let stage = self.tasks.get(t).and_then(|task| task.describe.as_ref()).map(|d| &d.stage);
        let Some(&Stage::Lease { id, host, deadline, until, .. }) = stage else { return };
        if id.number != number {
            return;
        }
        if deadline > self.now {
            return self.arm(deadline, Timer::Describe { task: t, number });
        }
        if let Some(host) = host {
            let task = self.tasks[t].id;
            self.send(host, ToMember::Revoked { task, lease: id });
        }
        let text = match host.is_none() || deadline < until {
            true => "the host that asked the origin fell silent".to_owned(),
            false => format!("the host that was to ask the origin got nowhere for {DESCRIBE_TIME_MAX:?}"),
        };
        let failure = Failure { kind: FailureKind::Origin, temporary: true, status: None, retry_ms: None, text };
        self.describe_failed(t, failure);
        self.settle_live(t);
    }

    /// A member is gone: another asks the origin in its place.
    pub(super) fn describer_gone(&mut self, t: TaskIx, gone: HostIx, lost: bool) {
        let grace = self.now + self.config.lost_holder_grace;
        let Some(describe) = &mut self.tasks[t].describe else { return };
        if let Stage::Lease { id, host, deadline, .. } = &mut describe.stage
            && *host == Some(gone)
        {
            describe.retryable = true;
            if lost {
                (*host, *deadline) = (None, grace);
                let number = id.number;
                self.arm(grace, Timer::Describe { task: t, number });
            } else {
                self.next_describer(t);
            }
        } else if self.tasks[t].waiting.is_empty()
            && !matches!(self.tasks[t].describe, Some(Describe { stage: Stage::Lease { .. }, .. }))
        {
            self.end_describe(t);
        }
    }

    /// The holder of the lease to describe could not.
    pub(super) fn describe_failed(&mut self, t: TaskIx, failure: Failure) {
        let failure = bounded(failure);
        let Some(describe) = &mut self.tasks[t].describe else { return };
        let another = matches!(failure.kind, FailureKind::Local | FailureKind::Overloaded | FailureKind::Changed);
        if !another && !failure.temporary {
            return self.describe_is_over(t, &failure);
        }
        describe.retryable |= failure.temporary;
        describe.last = Some(failure);
        self.next_describer(t);
    }

    /// Tells all who wait that the origin cannot be asked; content of any age for those who take it.
    fn describe_is_over(&mut self, t: TaskIx, failure: &Failure) {
        self.end_describe(t);
        let waiters: Vec<HostIx> = self.tasks[t].waiting.values().copied().collect();
        // An origin that says no was asked; stale content is for one that cannot be.
        let unreachable = !matches!(failure.kind, FailureKind::NotFound | FailureKind::Forbidden);
        let task = &self.tasks[t];
        let current = task.version.as_ref().map(|version| version.generation);
        let others_hold = |h: HostIx| task.group().is_some_and(|g| g.holders.iter().any(|&other| other != h));
        let holds_all = |h: HostIx| {
            let member = &task.members[&h];
            current.is_some() && member.generation() == current && member.eighths == 8
        };
        let (stale, failed): (Vec<_>, Vec<_>) = waiters
            .iter()
            .partition(|&&h| unreachable && task.members[&h].stale_ok && (holds_all(h) || others_hold(h)));
        for &host in &waiters {
            self.tasks[t].unwait(host);
        }
        let id = self.tasks[t].id;
        failed.into_iter().for_each(|host| self.send_failed(host, id, failure));
        self.admit(t, &stale);
    }

    fn end_describe(&mut self, t: TaskIx) {
        self.tasks[t].describe = None;
        self.cancel_trigger(t);
    }

    /// What the origin said.
    pub(super) fn described(&mut self, host: HostIx, described: Described) {
        let Described { task: id, lease, fresh_ms, answer } = described;
        let Some(t) = self.find_joined(host, &id).filter(|&t| self.describes(t, host, lease)) else {
            // A stale holder: it is to stop.
            return self.send(host, ToMember::Revoked { task: id, lease });
        };
        let fresh = match fresh_ms.map(Duration::from_millis) {
            None => self.config.window,
            Some(Duration::ZERO) => Duration::ZERO,
            Some(fresh) => fresh.min(self.config.fresh_max).max(self.config.window),
        };
        match answer {
            Answer::Spooling => self.renew_describe(t, 1),
            Answer::Unchanged => match &mut self.tasks[t].version {
                Some(version) if version.validator.is_some() => {
                    (version.confirmed, version.fresh, version.suspect) = (Some(self.now), fresh, false);
                    self.answer_all(t, None);
                }
                _ => self.misdescribed(t),
            },
            Answer::Content { length, piece_length, validator, ranges, taking, spooled } => {
                let fits = spooled || piece_length == piece_length_for(length);
                let Some(layout) = Layout::new(length, piece_length).ok().filter(|_| fits) else {
                    return self.misdescribed(t);
                };
                let splittable = ranges && validator.is_some();
                let same = self.confirm(t, layout, validator, splittable, fresh);
                // Grants made meanwhile have a higher epoch than this lease: under it nothing more is granted.
                let usable = !same || lease.epoch == self.tasks[t].epoch;
                let taking = if splittable { taking } else { layout.pieces() };
                self.answer_all(t, Some((host, lease, if usable { taking } else { 0 })));
            }
        }
        self.settle(t);
    }

    /// A holder said what cannot be.
    fn misdescribed(&mut self, t: TaskIx) {
        let text = "a host described the content in a way that cannot be".to_owned();
        self.describe_failed(
            t,
            Failure { kind: FailureKind::Local, temporary: false, status: None, retry_ms: None, text },
        );
        self.settle(t);
    }

    /// Makes what the origin described current; whether it was before.
    fn confirm(
        &mut self,
        t: TaskIx,
        layout: Layout,
        validator: Option<Validator>,
        splittable: bool,
        fresh: Duration,
    ) -> bool {
        let nonce = validator.is_none().then(|| {
            let mut nonce = [0; 16];
            self.rng.fill_bytes(&mut nonce);
            nonce
        });
        let id = self.tasks[t].id;
        let (length, piece_length) = (Some(layout.length()), layout.piece_length());
        let generation = Generation::derive(&id, validator.as_ref(), length, piece_length, nonce);
        if let Some(version) = self.tasks[t].version.as_mut().filter(|v| v.generation == generation) {
            (version.confirmed, version.fresh, version.suspect) = (Some(self.now), fresh, false);
            version.splittable = splittable;
            return true;
        }
        self.revoke_all(t);
        let task = &mut self.tasks[t];
        let confirmed = Some(self.now);
        task.version =
            Some(Version { generation, layout, validator, splittable, confirmed, fresh, seal: None, suspect: false });
        // Those who asked for leases of the version before learn that there is a new one.
        for asker in task.askers.iter().flatten().map(|ask| ask.host).collect::<Vec<_>>() {
            let seq = self.next_number();
            self.tasks[t].wait(asker, seq);
        }
        let task = &mut self.tasks[t];
        for host in task.members.keys().copied().collect::<Vec<_>>() {
            task.edit(host, |m| (m.fetched, m.asked, m.near) = (RangeSet::default(), None, None));
        }
        let whole = RangeSet::of(0..layout.pieces());
        let known = task.group().is_some_and(|group| !group.holders.is_empty());
        (task.orphaned, task.free) = if known { (whole, RangeSet::default()) } else { (RangeSet::default(), whole) };
        task.tried.clear();
        task.trust_again();
        (task.failures, task.reached) = (0, 0);
        false
    }

    /// Tells all who wait what is current. The holder's lease becomes one on the first pieces.
    fn answer_all(&mut self, t: TaskIx, holder: Option<(HostIx, LeaseId, u32)>) {
        self.end_describe(t);
        let task = &mut self.tasks[t];
        let mut waiters: Vec<HostIx> = task.waiting.values().copied().collect();
        waiters.iter().for_each(|&host| task.unwait(host));
        if let Some((holder, ..)) = holder.filter(|(h, ..)| !waiters.contains(h)) {
            waiters.push(holder);
        }
        self.tell_current(t, &waiters);
        if let Some((host, lease, taking)) = holder {
            self.convert_lease(t, host, lease, taking);
        }
        self.connect(t, &waiters);
        self.call_more_seeds(t);
    }

    /// Large content is fetched by several seeds: calls those that are not here.
    fn call_more_seeds(&mut self, t: TaskIx) {
        let task = &self.tasks[t];
        let (Some(version), Some(spec)) = (&task.version, &task.spec) else { return };
        let share = version.layout.length() / self.config.seed_share.max(1);
        let wanted = usize::try_from(share).unwrap_or(usize::MAX).min(self.config.seeds_per_task_max);
        let here = task.lessees[1] as usize;
        if here == 0 || wanted <= here || !version.splittable || !task.is_leasable() {
            return;
        }
        let absent = self.seeds.get(&task.tenant).into_iter().flatten().filter(|h| !task.members.contains_key(h));
        let mut absent: Vec<HostIx> = absent.copied().collect();
        absent.sort_by_cached_key(|&h| std::cmp::Reverse(rendezvous(&task.id, &self.hosts[h].peer)));
        let info = TaskInfo { task: task.id, spec: Some(spec.clone()), fixed: task.fixed };
        for &seed in absent.iter().take(wanted - here) {
            self.send(seed, ToMember::Trigger(info.clone()));
        }
    }

    /// Asks a seed to join.
    pub(super) fn trigger(&mut self, t: TaskIx, seed: HostIx) {
        let step = self.next_number();
        let task = &mut self.tasks[t];
        let serial = self.hosts[seed].serial;
        task.tried.insert(serial);
        if let Some(describe) = &mut task.describe {
            describe.stage = Stage::Trigger;
            describe.tried.insert(serial);
        }
        task.trigger = Some(Trigger { host: seed, step });
        let info = TaskInfo { task: task.id, spec: task.spec.clone(), fixed: task.fixed };
        self.hosts[seed].triggered.insert(t);
        self.send(seed, ToMember::Trigger(info));
        self.arm(self.now + self.config.trigger_timeout, Timer::Trigger { task: t, step });
    }

    pub(super) fn cancel_trigger(&mut self, t: TaskIx) {
        if let Some(trigger) = self.tasks[t].trigger.take() {
            self.hosts[trigger.host].triggered.remove(&t);
        }
    }

    /// Ends the trigger if it was for this host; whether it was.
    pub(super) fn take_trigger(&mut self, t: TaskIx, host: HostIx) -> bool {
        let was = self.tasks[t].trigger.as_ref().is_some_and(|trigger| trigger.host == host);
        if was {
            self.cancel_trigger(t);
        }
        was
    }

    /// The triggered seed will not come: the next one.
    pub(super) fn after_trigger(&mut self, t: TaskIx) {
        if matches!(self.tasks[t].describe, Some(Describe { stage: Stage::Trigger, .. })) {
            if let Some(describe) = &mut self.tasks[t].describe {
                describe.retryable = true;
            }
            self.next_describer(t);
        }
        self.settle_live(t);
    }

    pub(super) fn trigger_late(&mut self, t: TaskIx, step: u64) {
        let trigger = self.tasks.get(t).and_then(|task| task.trigger.as_ref());
        if trigger.is_some_and(|trigger| trigger.step == step) {
            self.cancel_trigger(t);
            self.after_trigger(t);
        }
    }

    pub(super) fn trigger_lost(&mut self, t: TaskIx, host: HostIx) {
        if self.tasks.get(t).is_some() && self.take_trigger(t, host) {
            self.after_trigger(t);
        }
    }
}
