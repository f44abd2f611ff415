//! Who may fetch which range of the current generation from the origin.

use std::ops::Range;
use std::time::Duration;

use super::config::{
    LEASE_BYTES_MAX, LEASE_BYTES_MIN, LEASE_FAILURES_MAX, LEASE_PIECES_MAX, LEASE_RATE_LEAST, LONE_LEASE_PIECES_MAX,
    PIECE_TIME_LEAST, RANGES_AT_ONCE,
};
use super::core::{Core, Timer, millis_u32};
use super::event::Action;
use super::join::bounded;
use super::ranges::RangeSet;
use super::slab::{HostIx, TaskIx};
use super::task::{Ask, AskClass, Lease, Task};
use crate::task::{PieceIndex, TaskId};
use crate::wire::control::{Failure, FailureKind, LeaseId, ToMember};
use crate::wire::statement::Grant;

impl Core {
    /// A member asks for a lease, best from `near` on. If there is none now it is remembered.
    pub(super) fn ask_lease(&mut self, host: HostIx, id: TaskId, near: Option<PieceIndex>) {
        let mut retry_ms = None;
        if let Some(t) = self.find_joined(host, &id) {
            let (task, now) = (&mut self.tasks[t], self.now);
            let current = task.version.as_ref().map(|v| v.generation);
            let member = &task.members[&host];
            if member.waiting.is_none() && member.generation() != current && member.wanted && current.is_some() {
                self.resync(t, host);
            } else if let Some(until) = member.unfit_until.filter(|&until| until > now) {
                retry_ms = Some(millis_u32(until - now).max(1));
            } else {
                task.edit(host, |m| (m.unfit_until, m.near) = (None, near));
                let before = task.members[&host].leases;
                self.want_lease(t, host);
                self.settle(t);
                if self.tasks[t].members[&host].leases > before {
                    return;
                }
            }
        }
        self.send(host, ToMember::NoLease { task: id, retry_ms });
    }

    /// Remembers that a member wants a lease, if it may have one.
    pub(super) fn want_lease(&mut self, t: TaskIx, host: HostIx) {
        let seq = self.next_number();
        let task = &mut self.tasks[t];
        let current = task.version.as_ref().map(|v| v.generation);
        let Some(member) = task.members.get(&host) else { return };
        if current.is_some() && member.generation() == current && member.waiting.is_none() && member.is_fit() {
            task.edit(host, |m| m.asked = m.asked.or(Some(seq)));
        }
    }

    /// A member of an older generation goes on with the current one, or waits for it.
    pub(super) fn resync(&mut self, t: TaskIx, host: HostIx) {
        let task = &self.tasks[t];
        let fresh = task.version.as_ref().is_some_and(|v| v.is_fresh(self.now, None) && !v.suspect);
        if fresh || task.fixed && task.version.is_some() {
            self.admit(t, &[host]);
        } else {
            let seq = self.next_number();
            self.tasks[t].wait(host, seq);
            self.describe_for(t, host);
        }
    }

    /// Grants what can be granted, and calls a seed where one is missing. Due after whatever may free a range,
    /// bring an asker or take a seed away.
    pub(super) fn settle(&mut self, t: TaskIx) {
        let task = &self.tasks[t];
        if !task.is_leasable() {
            return;
        }
        let needs_seed = !task.seeds_only() && task.spec.is_some() && task.describe.is_none() && task.seekers > 0;
        if needs_seed && let Some(seed) = self.best_seed(t, &task.tried) {
            return self.trigger(t, seed);
        }
        while let Some((host, range)) = self.next_grant(t) {
            let id = LeaseId { number: self.next_number(), epoch: self.epoch + 1 };
            self.epoch += 1;
            self.tasks[t].edit(host, |m| (m.asked, m.near) = (None, None));
            self.grant(t, host, range, id);
        }
    }

    /// Who is next, and for what.
    fn next_grant(&mut self, t: TaskIx) -> Option<(HostIx, Range<PieceIndex>)> {
        let task = &mut self.tasks[t];
        if !task.is_leasable() {
            return None;
        }
        let room = (task.holders as usize) < self.config.holders_max;
        let most = leases_max(sharers(task, self.config.holders_max));
        let may = |ask: &Ask| match ask.class {
            AskClass::Holder => task.members.get(&ask.host).is_some_and(|member| member.leases < most),
            AskClass::New => room,
            AskClass::Blocked => false,
        };
        // Of those who hold leases there are few, and they come first.
        let askers = &task.askers[usize::from(task.seeds_only())];
        let ask = *askers.iter().take_while(|ask| ask.class != AskClass::Blocked).find(|ask| may(ask))?;
        let version = task.version.as_ref()?;
        if !version.splittable {
            let pieces = version.layout.pieces();
            task.reclaim();
            return Some((ask.host, 0..pieces));
        }
        let near = task.members.get(&ask.host).and_then(|member| member.near);
        Some((ask.host, next_range(task, near, version.layout.piece_length(), self.config.holders_max)?))
    }

    /// Grants `range`, which is free, to `host`.
    fn grant(&mut self, t: TaskIx, host: HostIx, range: Range<PieceIndex>, id: LeaseId) {
        let deadline = self.now + self.config.lease_timeout * 2;
        let until = self.now + piece_time_max(&self.tasks[t]);
        let task = &mut self.tasks[t];
        let Some(version) = &task.version else { return };
        let to = self.hosts[host].peer;
        let grant = Grant {
            version: 1,
            network: self.config.network,
            tenant: task.tenant.to_string(),
            task: task.id,
            generation: version.generation,
            length: version.layout.length(),
            piece_length: version.layout.piece_length(),
            first: range.start,
            end: range.end,
            holder: to,
            epoch: id.epoch,
        };
        task.origin_granted = task.origin_granted.saturating_add(bytes_of(task, range.clone()));
        task.free.remove(range.clone());
        task.orphaned.remove(range.clone());
        task.epoch = task.epoch.max(id.epoch);
        let (start, end) = (range.start, range.end);
        task.leases.insert(id.number, Lease { id, host: Some(host), start, end, deadline, until });
        task.edit(host, |m| m.leases += 1);
        let timeout_ms = millis_u32(self.config.lease_timeout);
        self.act(Action::Grant { to, lease: id, timeout_ms, grant });
        self.arm(deadline, Timer::Lease { task: t, number: id.number });
    }

    /// The lease to describe becomes one on the first pieces, as far as nobody else has them.
    pub(super) fn convert_lease(&mut self, t: TaskIx, host: HostIx, id: LeaseId, taking: u32) {
        let task = &mut self.tasks[t];
        let Some(version) = &task.version else { return };
        let (pieces, splittable) = (version.layout.pieces(), version.splittable);
        if pieces == 0 {
            return;
        }
        let mut range = 0..taking.min(pieces);
        if splittable {
            range.end = range.end.min(request_pieces_max(version.layout.piece_length()));
            let mut open = task.free.clone();
            open.absorb(&task.orphaned);
            range = open.prefix_of(range);
        } else if task.leases.is_empty() && taking > 0 {
            task.reclaim();
        } else {
            range.end = 0;
        }
        if range.is_empty() || task.is_held() {
            let task = task.id;
            return self.send(host, ToMember::Revoked { task, lease: id });
        }
        self.grant(t, host, range, id);
    }

    /// The live lease on pieces that `host` names, if it is its.
    fn held_lease(&self, host: HostIx, id: &TaskId, lease: LeaseId) -> Option<(TaskIx, u64)> {
        let t = self.find_joined(host, id)?;
        let found = self.tasks[t].leases.get(&lease.number)?;
        (found.id == lease && found.host == Some(host)).then_some((t, lease.number))
    }

    pub(super) fn progress(&mut self, host: HostIx, id: &TaskId, lease: LeaseId, end: PieceIndex) {
        if let Some(t) = self.find_joined(host, id).filter(|&t| self.describes(t, host, lease)) {
            return self.renew_describe(t, end);
        }
        let Some((t, number)) = self.held_lease(host, id, lease) else { return };
        let (renewed, anew) = (self.now + self.config.lease_timeout * 2, self.now + piece_time_max(&self.tasks[t]));
        let Some(held) = self.tasks[t].leases.get_mut(&number) else { return };
        // An end before an earlier one is late news, one past the lease is nonsense: neither renews.
        if (held.start..=held.end).contains(&end) {
            let fetched = held.start..end;
            if !fetched.is_empty() {
                held.until = anew;
            }
            (held.start, held.deadline) = (end, renewed.min(held.until));
            self.credit(t, Some(host), fetched);
        }
    }

    pub(super) fn lease_done(&mut self, host: HostIx, id: &TaskId, lease: LeaseId) {
        if let Some((t, number)) = self.held_lease(host, id, lease) {
            self.give_back(t, number, PieceIndex::MAX);
            self.settle(t);
        }
    }

    pub(super) fn release(&mut self, host: HostIx, id: &TaskId, lease: LeaseId, end: PieceIndex) {
        if let Some(t) = self.find_joined(host, id).filter(|&t| self.describes(t, host, lease)) {
            let text = "the host that was to ask the origin gave that back".to_owned();
            let failure = Failure { kind: FailureKind::Local, temporary: false, status: None, retry_ms: None, text };
            self.describe_failed(t, failure);
            return self.settle(t);
        }
        if let Some((t, number)) = self.held_lease(host, id, lease) {
            self.give_back(t, number, end);
            self.settle(t);
        }
    }

    pub(super) fn lease_failed(
        &mut self,
        host: HostIx,
        id: &TaskId,
        lease: LeaseId,
        end: PieceIndex,
        failure: Failure,
    ) {
        if let Some(t) = self.find_joined(host, id).filter(|&t| self.describes(t, host, lease)) {
            self.describe_failed(t, failure);
            return self.settle(t);
        }
        let Some((t, number)) = self.held_lease(host, id, lease) else { return };
        self.give_back(t, number, end);
        if failure.kind == FailureKind::Changed {
            self.restart(t, true);
        } else {
            let pause = failure.retry_ms.map_or(self.config.unfit_time, |ms| Duration::from_millis(ms.into()));
            self.set_unfit(t, host, pause);
            self.send(host, ToMember::NoLease { task: *id, retry_ms: Some(millis_u32(pause)) });
            let soon = failure.temporary && pause <= self.config.unfit_time;
            self.count_failure(t, failure, soon);
        }
        self.settle(t);
    }

    pub(super) fn lease_lapsed(&mut self, t: TaskIx, number: u64) {
        let Some(lease) = self.tasks.get(t).and_then(|task| task.leases.get(&number)) else { return };
        let (deadline, holder, id, start) = (lease.deadline, lease.host, lease.id, lease.start);
        if deadline > self.now {
            return self.arm(deadline, Timer::Lease { task: t, number });
        }
        self.give_back(t, number, start);
        if let Some(host) = holder {
            let task = self.tasks[t].id;
            self.send(host, ToMember::Revoked { task, lease: id });
            self.set_unfit(t, host, self.config.unfit_time);
            // One that says nothing at all is cut off or gone, which says nothing about the origin: half of a
            // network that is split off must not fail the download of the others. It may have said something after the
            // last progress of this lease, but one that is there says something in every interval.
            if self.now.saturating_sub(self.hosts[host].last_seen) < self.config.interval * 5 / 4 {
                let text = "hosts that fetched from the origin fell silent".to_owned();
                let kind = FailureKind::Origin;
                // Two lease times were waited already.
                let failure = Failure { kind, temporary: true, status: None, retry_ms: None, text };
                self.count_failure(t, failure, false);
            }
        }
        self.settle_live(t);
    }

    /// A host that could not fetch gets no lease for a while.
    fn set_unfit(&mut self, t: TaskIx, host: HostIx, pause: Duration) {
        let until = self.now.saturating_add(pause);
        let serial = self.hosts[host].serial;
        let task = &mut self.tasks[t];
        task.edit(host, |m| (m.unfit_until, m.asked) = (Some(until), None));
        if task.members.get(&host).is_some_and(|m| m.seed) {
            task.tried.insert(serial);
        }
    }

    /// After many failures without a piece between them those who lack something are told. Many hosts that fail at the
    /// same time say no more than one: what may pass `soon` is given the time that a host by itself would take to fail so
    /// often.
    fn count_failure(&mut self, t: TaskIx, failure: Failure, soon: bool) {
        let may_pass = self.config.unfit_time * u32::from(LEASE_FAILURES_MAX - 1);
        let task = &mut self.tasks[t];
        if task.failures == 0 {
            task.failing_since = self.now;
        }
        task.failures = task.failures.saturating_add(1);
        let early = soon && self.now.saturating_sub(task.failing_since) < may_pass;
        if task.failures < LEASE_FAILURES_MAX || early {
            return;
        }
        task.failures = 0;
        let (id, failure) = (task.id, bounded(failure));
        let seekers: Vec<HostIx> = task.members.iter().filter(|(_, m)| m.seeks()).map(|(&h, _)| h).collect();
        for host in seekers {
            self.tasks[t].edit(host, |m| m.asked = None);
            self.send_failed(host, id, &failure);
        }
    }

    /// Notes that pieces were fetched, by a member or (`None`) by a host that is gone.
    fn credit(&mut self, t: TaskIx, host: Option<HostIx>, range: Range<PieceIndex>) {
        if range.is_empty() {
            return;
        }
        let task = &mut self.tasks[t];
        task.origin_fetched = task.origin_fetched.saturating_add(bytes_of(task, range.clone()));
        let splittable = task.version.as_ref().is_some_and(|version| version.splittable);
        if splittable || range.end > task.reached {
            (task.failures, task.reached) = (0, range.end);
            task.tried.clear();
        }
        match host {
            Some(host) => task.edit(host, |m| m.fetched.insert(range)),
            None => task.orphaned.insert(range),
        }
    }

    /// Ends a lease: what comes before `end` was fetched, the rest may be leased again.
    fn give_back(&mut self, t: TaskIx, number: u64, end: PieceIndex) {
        let task = &mut self.tasks[t];
        let Some(lease) = task.leases.remove(&number) else { return };
        let end = end.clamp(lease.start, lease.end);
        if let Some(host) = lease.host {
            task.edit(host, |m| m.leases -= 1);
        }
        task.free.insert(end..lease.end);
        self.credit(t, lease.host, lease.start..end);
        let task = &mut self.tasks[t];
        if end == lease.end || task.version.as_ref().is_none_or(|version| version.splittable) {
            return;
        }
        // A take-over starts at the first byte, and without a validator it may bring something else.
        if task.is_resumable() {
            task.reclaim();
        } else if !task.is_held() {
            self.restart(t, false);
        }
    }

    /// A member's leases end with its part in the task. `lost`: it may be fetching still, for a moment.
    pub(super) fn end_leases_of(&mut self, t: TaskIx, host: HostIx, lost: bool) {
        let leases = self.tasks[t].leases.values().filter(|lease| lease.host == Some(host));
        for (number, start) in leases.map(|lease| (lease.id.number, lease.start)).collect::<Vec<_>>() {
            if !lost {
                self.give_back(t, number, start);
                continue;
            }
            let deadline = self.now + self.config.lost_holder_grace;
            let task = &mut self.tasks[t];
            if let Some(lease) = task.leases.get_mut(&number) {
                (lease.host, lease.deadline) = (None, deadline);
                task.edit(host, |m| m.leases -= 1);
                self.arm(deadline, Timer::Lease { task: t, number });
            }
        }
    }

    /// Takes every lease on pieces back.
    pub(super) fn revoke_all(&mut self, t: TaskIx) {
        let task = &mut self.tasks[t];
        let id = task.id;
        for lease in std::mem::take(&mut task.leases).into_values() {
            self.tasks[t].free.insert(lease.start..lease.end);
            if let Some(host) = lease.host {
                self.tasks[t].edit(host, |m| m.leases -= 1);
                self.send(host, ToMember::Revoked { task: id, lease: lease.id });
            }
        }
    }

    /// The current generation cannot be completed: everyone who lacks some of it waits for the next one. `known`: it
    /// still is what the origin is to be asked about.
    pub(super) fn restart(&mut self, t: TaskIx, known: bool) {
        self.revoke_all(t);
        let task = &mut self.tasks[t];
        let seekers: Vec<HostIx> = task.group().map(|group| group.list.clone()).unwrap_or_default();
        match &mut task.version {
            Some(version) if known => (version.confirmed, version.suspect) = (None, true),
            _ => {
                task.reclaim();
                (task.version, task.free) = (None, RangeSet::default());
            }
        }
        for host in seekers {
            let seq = self.next_number();
            let task = &mut self.tasks[t];
            task.edit(host, |m| m.asked = None);
            if task.members.get(&host).is_some_and(|m| m.seeks()) {
                task.wait(host, seq);
                self.describe_for(t, host);
            }
        }
    }
}

/// Who shares the origin of a task, at most: members that may be given leases.
fn sharers(task: &Task, holders_max: usize) -> u32 {
    task.lessees[usize::from(task.seeds_only())].clamp(1, holders_max.max(1) as u32)
}

/// How many leases one of so many sharers may hold: its share of what is fetched at a time, and the next one.
fn leases_max(sharers: u32) -> u32 {
    (RANGES_AT_ONCE / sharers.max(1)).max(1) + 1
}

/// The next range to lease of splittable content: from `near` on if that is free, else the first.
fn next_range(
    task: &Task,
    near: Option<PieceIndex>,
    piece_length: u64,
    holders_max: usize,
) -> Option<Range<PieceIndex>> {
    let there = near.map(|near| task.free.prefix_of(near..PieceIndex::MAX)).filter(|there| !there.is_empty());
    let first = there.or_else(|| task.free.first())?;
    let sharers = sharers(task, holders_max);
    let most = if sharers == 1 { LONE_LEASE_PIECES_MAX } else { LEASE_PIECES_MAX };
    let fair = task.free.len().div_ceil(2 * sharers).min(most);
    let least = LEASE_BYTES_MIN.div_ceil(piece_length) as u32;
    let pieces = fair.max(least).min(request_pieces_max(piece_length));
    Some(first.start..first.end.min(first.start + pieces))
}

/// How long one piece may take its holder, which keeps its lease meanwhile by saying that bytes come.
fn piece_time_max(task: &Task) -> Duration {
    let length = task.version.as_ref().map_or(0, |version| version.layout.piece_length());
    PIECE_TIME_LEAST + Duration::from_secs(length / LEASE_RATE_LEAST)
}

/// The most pieces that one request to the origin may cover.
fn request_pieces_max(piece_length: u64) -> u32 {
    u32::try_from(LEASE_BYTES_MAX / piece_length).unwrap_or(u32::MAX).max(1)
}

/// The bytes of a range of pieces.
fn bytes_of(task: &Task, range: Range<PieceIndex>) -> u64 {
    let Some(version) = &task.version else { return 0 };
    let end = version.layout.offset(range.end).min(version.layout.length());
    end.saturating_sub(version.layout.offset(range.start))
}
