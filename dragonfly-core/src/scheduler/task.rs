//! What the core knows of a task. Data and the counters derived from it; the rules are in `join`, `describe`,
//! `lease` and `neighbours`.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use super::config::LEASES_PER_HOLDER_MAX;
use super::members::Members;
use super::ranges::RangeSet;
use super::sites::Site;
use super::slab::HostIx;
use crate::task::{Generation, Layout, PieceIndex, TaskId, TaskSpec, Validator};
use crate::wire::control::{Failure, LeaseId, Share};
use crate::wire::statement::SealBundle;

/// A task in which hosts take part, or did a short while ago.
pub(super) struct Task {
    pub(super) tenant: Arc<str>,
    pub(super) id: TaskId,
    pub(super) spec: Option<TaskSpec>,
    /// Whether every joiner said that the content is fixed.
    pub(super) fixed: bool,
    /// The epoch of the newest grant.
    pub(super) epoch: u64,
    pub(super) version: Option<Version>,
    pub(super) members: Members,
    /// Members that are to be given more neighbours, and the step that ends with [`Timer::Deal`](super::core::Timer).
    pub(super) undealt: Vec<HostIx>,
    pub(super) dealing: Option<u64>,
    /// When somebody who was alone in its site had it connected with the others.
    pub(super) bridged: Option<Duration>,
    /// The step that ends with [`Timer::Term`](super::core::Timer).
    pub(super) term: Option<u64>,
    /// The members by the generation that they trade.
    pub(super) groups: BTreeMap<Generation, Group>,
    /// Who waits to be told what is current, by priority and arrival.
    pub(super) waiting: BTreeMap<(u8, u64), HostIx>,
    /// Who asked for a lease: `[peers, seeds]`.
    pub(super) askers: [BTreeSet<Ask>; 2],
    /// How many members may be given leases: `[peers, seeds]`.
    pub(super) lessees: [u32; 2],
    /// How many members hold leases on pieces.
    pub(super) holders: u32,
    /// How many members want what they do not hold yet.
    pub(super) seekers: u32,
    pub(super) leases: BTreeMap<u64, Lease>,
    pub(super) describe: Option<Describe>,
    /// A seed that was asked to join and has not yet.
    pub(super) trigger: Option<Trigger>,
    /// Seeds (by serial) that did not follow a trigger or failed, since pieces came last.
    pub(super) tried: BTreeSet<u64>,
    /// Members (by serial) that hold something of the current version and serve nobody.
    pub(super) doubted: BTreeSet<u64>,
    /// When it was last looked whether all of those who lack something starve.
    pub(super) starvation_looked: Option<Duration>,
    /// Pieces that nobody fetched or fetches. With `orphaned`, the leases and the members' `fetched` these make up
    /// the whole of the current generation.
    pub(super) free: RangeSet,
    /// Pieces fetched by hosts that are gone; others may have got them from these.
    pub(super) orphaned: RangeSet,
    /// Nothing is leased yet: the step that ends with [`Timer::Collected`](super::core::Timer).
    pub(super) collecting: Option<u64>,
    /// Leases that failed in a row, and when the first of them did.
    pub(super) failures: u8,
    pub(super) failing_since: Duration,
    /// How far an attempt at the current version came. Where every attempt starts anew, only what goes beyond is
    /// progress.
    pub(super) reached: PieceIndex,
    pub(super) idle_since: Option<Duration>,
    pub(super) origin_granted: u64,
    pub(super) origin_fetched: u64,
}

/// The generation that was last known to be current.
pub(super) struct Version {
    pub(super) generation: Generation,
    pub(super) layout: Layout,
    pub(super) validator: Option<Validator>,
    pub(super) splittable: bool,
    /// When the origin confirmed it; `None`: not in this core's life.
    pub(super) confirmed: Option<Duration>,
    /// How long its word holds.
    pub(super) fresh: Duration,
    pub(super) seal: Option<SealBundle>,
    /// Whether a holder found the origin to have changed: no lease of it is granted any more.
    pub(super) suspect: bool,
}

/// A host's part in a task.
#[derive(Default)]
pub(super) struct Member {
    pub(super) seed: bool,
    /// Whether it uploads: else it is nobody's source.
    pub(super) uploads: bool,
    pub(super) wanted: bool,
    pub(super) may_lease: bool,
    pub(super) stale_ok: bool,
    pub(super) priority: u8,
    /// Its key in [`Task::waiting`].
    pub(super) waiting: Option<(u8, u64)>,
    /// The generation it trades, and its place in the group's list.
    pub(super) place: Option<(Generation, usize)>,
    /// The site that it says it is in, that in whose list it is (`None`: among those of nowhere), and its place there.
    pub(super) site: Option<Arc<str>>,
    pub(super) listed: Option<Arc<str>>,
    pub(super) site_place: usize,
    /// What it is to bring from other sites, if it was told anything of that.
    pub(super) part: Option<Share>,
    /// Whether it may bring anything, because nothing came to it.
    pub(super) roams: bool,
    pub(super) eighths: u8,
    /// When it asked for a lease.
    pub(super) asked: Option<u64>,
    /// Where somebody reads there, as it said last when it asked.
    pub(super) near: Option<PieceIndex>,
    pub(super) leases: u32,
    /// What it fetched from the origin.
    pub(super) fetched: RangeSet,
    pub(super) unfit_until: Option<Duration>,
    /// Whether it said before that no neighbour holds what it misses.
    pub(super) lacked: bool,
    /// When it joined.
    pub(super) since: Duration,
    /// Whether it said last that nothing comes of what it misses.
    pub(super) starved: bool,
    /// Whether what it holds counts for nothing, because it serves nobody.
    pub(super) doubted: bool,
}

/// The members that trade one generation.
#[derive(Default)]
pub(super) struct Group {
    /// In no order that matters: for sampling.
    pub(super) list: Vec<HostIx>,
    /// How many hold every piece and upload.
    pub(super) complete: u32,
    /// Those who hold or fetch something and upload.
    pub(super) holders: BTreeSet<HostIx>,
    /// Those whose site is known, by site, and those of nowhere.
    pub(super) sites: BTreeMap<Arc<str>, Site>,
    pub(super) nowhere: Vec<HostIx>,
}

/// A member that wants a lease. The order is that of service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Ask {
    pub(super) class: AskClass,
    pub(super) priority: u8,
    pub(super) seq: u64,
    pub(super) host: HostIx,
}

/// Whether an [`Ask`] can be granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum AskClass {
    /// It fetches already and wants the next range.
    Holder,
    /// It would be one more holder.
    New,
    /// It holds as many leases as it may, or cannot reach the origin.
    Blocked,
}

/// The right to fetch a range.
pub(super) struct Lease {
    pub(super) id: LeaseId,
    /// `None`: its session ended.
    pub(super) host: Option<HostIx>,
    /// The first piece that is not fetched yet.
    pub(super) start: PieceIndex,
    pub(super) end: PieceIndex,
    pub(super) deadline: Duration,
    /// No later than this the first piece has to come.
    pub(super) until: Duration,
}

/// Finding out what is current.
pub(super) struct Describe {
    pub(super) round: u8,
    /// Hosts (by serial) that were asked in this round.
    pub(super) tried: BTreeSet<u64>,
    /// Whether another round may help.
    pub(super) retryable: bool,
    pub(super) last: Option<Failure>,
    pub(super) stage: Stage,
}

/// See [`Describe`].
pub(super) enum Stage {
    /// A host holds the lease to describe.
    Lease {
        id: LeaseId,
        host: Option<HostIx>,
        deadline: Duration,
        /// Pieces that it has taken in of content without a length.
        end: PieceIndex,
        /// No later than this it has to have got on.
        until: Duration,
    },
    /// Every candidate failed; the next round begins at the step's deadline.
    Pause { step: u64 },
    /// A seed is being triggered (see [`Task::trigger`]).
    Trigger,
}

/// A seed that was asked to join.
pub(super) struct Trigger {
    pub(super) host: HostIx,
    pub(super) step: u64,
}

impl Member {
    /// Whether it may be given leases.
    pub(super) const fn is_fit(&self) -> bool {
        self.wanted && self.may_lease && self.unfit_until.is_none() && !self.doubted
    }

    /// The generation it trades.
    pub(super) fn generation(&self) -> Option<Generation> {
        self.place.map(|(generation, _)| generation)
    }

    /// Whether it misses pieces that it wants.
    pub(super) const fn seeks(&self) -> bool {
        self.wanted && self.eighths < 8
    }

    pub(super) const fn is_complete_source(&self) -> bool {
        self.uploads && self.eighths == 8 && !self.doubted
    }

    /// Whether others can get something from it.
    pub(super) const fn is_source(&self) -> bool {
        self.uploads && !self.doubted && (self.eighths > 0 || self.leases > 0 || !self.fetched.is_empty())
    }

    fn ask(&self, host: HostIx) -> Option<Ask> {
        let class = match self.leases {
            _ if !self.is_fit() => AskClass::Blocked,
            0 => AskClass::New,
            n if n < LEASES_PER_HOLDER_MAX => AskClass::Holder,
            _ => AskClass::Blocked,
        };
        self.asked.map(|seq| Ask { class, priority: self.priority, seq, host })
    }
}

impl Task {
    pub(super) fn new(tenant: Arc<str>, id: TaskId, fixed: bool) -> Self {
        Self {
            tenant,
            id,
            spec: None,
            fixed,
            epoch: 0,
            version: None,
            members: Members::default(),
            undealt: Vec::new(),
            dealing: None,
            bridged: None,
            term: None,
            groups: BTreeMap::new(),
            waiting: BTreeMap::new(),
            askers: Default::default(),
            lessees: [0; 2],
            holders: 0,
            seekers: 0,
            leases: BTreeMap::new(),
            describe: None,
            trigger: None,
            tried: BTreeSet::new(),
            doubted: BTreeSet::new(),
            starvation_looked: None,
            free: RangeSet::default(),
            orphaned: RangeSet::default(),
            collecting: None,
            failures: 0,
            failing_since: Duration::ZERO,
            reached: 0,
            idle_since: None,
            origin_granted: 0,
            origin_fetched: 0,
        }
    }

    /// Changes a member and every counter that depends on it. The only way to change one; `place` and `waiting`
    /// have methods of their own.
    pub(super) fn edit(&mut self, host: HostIx, change: impl FnOnce(&mut Member)) {
        let Some(member) = self.members.get_mut(&host) else { return };
        let seed = usize::from(member.seed);
        let before = (member.is_fit(), member.leases > 0, member.ask(host));
        let seeks_before = member.seeks();
        let source_before = (member.is_complete_source(), member.is_source());
        let uploads_before = member.uploads;
        change(member);
        let after = (member.is_fit(), member.leases > 0, member.ask(host));
        let seeks_after = member.seeks();
        let source_after = (member.is_complete_source(), member.is_source());
        debug_assert_eq!(seed, usize::from(member.seed), "a seed stays one");
        count(&mut self.lessees[seed], before.0, after.0);
        count(&mut self.holders, before.1, after.1);
        count(&mut self.seekers, seeks_before, seeks_after);
        if before.2 != after.2 {
            before.2.map(|ask| self.askers[seed].remove(&ask));
            after.2.map(|ask| self.askers[seed].insert(ask));
        }
        let Some(group) = member.place.and_then(|(generation, _)| self.groups.get_mut(&generation)) else { return };
        if source_before != source_after {
            group.update(host, source_before, source_after);
        }
        if uploads_before != member.uploads {
            group.uploads(member.listed.as_ref(), uploads_before, member.uploads);
        }
    }

    /// Lets a member trade `generation`, or none.
    pub(super) fn place(&mut self, host: HostIx, generation: Option<Generation>) {
        let Some(member) = self.members.get(&host) else { return };
        if member.generation() == generation {
            return;
        }
        let neighbours = self.members.unlink(host);
        self.edit(host, |m| (m.asked, m.near) = (None, None));
        self.unplace(host);
        let Some(member) = self.members.get_mut(&host) else { return };
        member.lacked = false;
        if let Some(generation) = generation {
            let group = self.groups.entry(generation).or_default();
            member.place = Some((generation, group.list.len()));
            group.list.push(host);
            group.update(host, (false, false), (member.is_complete_source(), member.is_source()));
            self.list(host, generation);
        }
        debug_assert!(neighbours.iter().all(|n| !self.members.are_linked(*n, host)));
    }

    fn unplace(&mut self, host: HostIx) {
        let Some(generation) = self.members.get(&host).and_then(Member::generation) else { return };
        self.unlist(host, generation);
        let Some(member) = self.members.get_mut(&host) else { return };
        let Some((_, at)) = member.place.take() else { return };
        let source = (member.is_complete_source(), member.is_source());
        let Some(group) = self.groups.get_mut(&generation) else { return };
        group.update(host, source, (false, false));
        group.list.swap_remove(at);
        if let Some(&moved) = group.list.get(at)
            && let Some(moved) = self.members.get_mut(&moved)
        {
            moved.place = Some((generation, at));
        }
        if group.list.is_empty() {
            self.groups.remove(&generation);
        }
    }

    /// Lets a member wait to be told what is current.
    pub(super) fn wait(&mut self, host: HostIx, seq: u64) {
        if let Some(member) = self.members.get_mut(&host)
            && member.waiting.is_none()
        {
            let key = (member.priority, seq);
            member.waiting = Some(key);
            self.waiting.insert(key, host);
        }
    }

    pub(super) fn unwait(&mut self, host: HostIx) {
        if let Some(key) = self.members.get_mut(&host).and_then(|m| m.waiting.take()) {
            self.waiting.remove(&key);
        }
    }

    /// Removes a member for good: from its group, its neighbours, the queues and the counters. Its leases are the
    /// caller's to end before.
    pub(super) fn remove_member(&mut self, host: HostIx) -> Vec<HostIx> {
        self.unwait(host);
        let neighbours = self.members.unlink(host);
        self.unplace(host);
        self.edit(host, |m| (m.asked, m.wanted, m.leases) = (None, false, 0));
        if let Some(member) = self.members.remove(&host) {
            self.orphaned.absorb(&member.fetched);
        }
        neighbours
    }

    /// The group that trades the current generation.
    pub(super) fn group(&self) -> Option<&Group> {
        self.groups.get(&self.version.as_ref()?.generation)
    }

    /// Whether a live host holds every piece.
    pub(super) fn is_held(&self) -> bool {
        self.group().is_some_and(|group| group.complete > 0)
    }

    /// Whether there is a range that may be leased now.
    pub(super) fn is_leasable(&self) -> bool {
        let Some(version) = &self.version else { return false };
        let room = version.splittable || self.leases.is_empty() && self.is_resumable();
        room && self.collecting.is_none() && !self.free.is_empty() && !self.is_held() && !version.suspect
    }

    /// Whether another request to the origin can go on with the current generation. Without a validator two
    /// responses may differ, unless nothing can change them.
    pub(super) fn is_resumable(&self) -> bool {
        self.fixed || self.version.as_ref().is_some_and(|version| version.validator.is_some())
    }

    /// What of a range is free counts as fetched by a host that is gone.
    pub(super) fn orphan_free(&mut self, range: Range<PieceIndex>) {
        let within = |free: &Range<PieceIndex>| free.start.max(range.start)..free.end.min(range.end);
        let parts: Vec<_> = self.free.iter().map(|free| within(&free)).filter(|part| !part.is_empty()).collect();
        for part in parts {
            self.free.remove(part.clone());
            self.orphaned.insert(part);
        }
    }

    /// Makes everything that is not leased leasable, whoever fetched it.
    pub(super) fn reclaim(&mut self) {
        let pieces = self.version.as_ref().map_or(0, |version| version.layout.pieces());
        for host in self.members.keys().copied().collect::<Vec<_>>() {
            self.edit(host, |m| m.fetched = RangeSet::default());
        }
        (self.orphaned, self.free) = (RangeSet::default(), RangeSet::of(0..pieces));
        self.leases.values().for_each(|lease| self.free.remove(lease.start..lease.end));
    }

    /// Whether leases go to seeds alone.
    pub(super) const fn seeds_only(&self) -> bool {
        self.lessees[1] > 0 || self.trigger.is_some()
    }
}

impl Group {
    fn update(&mut self, host: HostIx, before: (bool, bool), after: (bool, bool)) {
        count(&mut self.complete, before.0, after.0);
        if after.1 {
            self.holders.insert(host);
        } else {
            self.holders.remove(&host);
        }
    }
}

fn count(counter: &mut u32, before: bool, after: bool) {
    *counter = *counter + u32::from(after) - u32::from(before);
}
