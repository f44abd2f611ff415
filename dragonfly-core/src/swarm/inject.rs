//! Allotment: how an injector gets each piece that nobody else holds out once.
//!
//! A piece waits, is committed to one child, is out once it was sent, and is shown to everybody when every piece
//! is out. Until then a child sees what was allotted to it and no more, so no piece leaves twice while another
//! has not left at all.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::time::Duration;

use super::depth::bytes_in;
use super::pieces::{PieceState, Pieces};
use super::request::SWEEP;
use super::task::{Member, Task};
use super::timers::Timer;
use super::{Action, HostKey, Swarm, TaskKey, Time};
use crate::task::PieceIndex;

/// An allotment is a run of about this many bytes: smaller ones cost a frame each.
const UNIT_BYTES: u64 = 256 << 10;

/// An allotment has at most so many pieces, for it is passed on only piece by piece.
const UNIT_PIECES_MAX: u32 = 4;

/// Allotments committed to a child at a time: one being sent, one queued.
const UNITS_PER_CHILD: u32 = 2;

/// A fast child is committed what it drains in this time, so that it never waits for a round trip.
const AHEAD: Duration = Duration::from_millis(250);

/// No child is committed more than it drains in this time, but for one piece: what a slow one has alone all others wait
/// for. A child that gets its share of 100 Mbit/s, one twelfth, is not held back by it.
const SLOW: Duration = Duration::from_secs(2);

/// When nothing waits any more, what is committed is given this many times the time in which it should have left at the
/// rate so far. What a slow child has not taken then anybody may ask for: it may leave twice.
const OVERDUE: u32 = 2;

/// Whatever its rate, no child is committed more bytes than this.
const COMMITTED_BYTES_MAX: u64 = 8 << 20;

/// A child that has not asked for its allotment within this time loses it: it asks at once if it can.
const PATIENCE: Duration = Duration::from_secs(5);

/// A child that took so many pieces of which none was seen elsewhere is left for later.
const LAZY_AFTER: u32 = 8;

/// The longest exclusion of a child that lets allotments lapse is `PATIENCE` times two to this power.
const LAPSES_MAX: u32 = 4;

/// What an injector keeps of a child.
#[derive(Clone, Debug, Default)]
pub(super) struct Child {
    /// Pieces committed to it.
    pub(super) committed: u32,
    /// Pieces that it was sent.
    pub(super) delivered: u32,
    /// Pieces of these that were seen at another neighbour.
    pub(super) spread: u32,
    lapses: u32,
    lapsed_until: Time,
}

impl Child {
    /// Whether nothing that it was sent was seen elsewhere, although it was sent enough.
    const fn is_lazy(&self) -> bool {
        self.delivered >= LAZY_AFTER && self.spread == 0
    }
}

/// A piece that a child alone is to get.
#[derive(Clone, Copy, Debug)]
pub(super) struct Commitment {
    pub(super) host: HostKey,
    /// When it lapses; `None` once the child has asked for it.
    pub(super) expires: Option<Time>,
}

/// The pieces of a task that this host injects.
#[derive(Debug, Default)]
pub(super) struct Inject {
    /// Held here and nowhere else, not committed.
    pub(super) waiting: BTreeSet<PieceIndex>,
    pub(super) committed: BTreeMap<PieceIndex, Commitment>,
    /// Sent to this child, seen at no other neighbour yet.
    pub(super) out: BTreeMap<PieceIndex, HostKey>,
    /// When the first piece was committed, and how many have left since.
    began: Option<Time>,
    left: u32,
    /// When what is committed should have left, if nothing waits.
    due: Option<Time>,
}

impl Inject {
    fn uncommit(&mut self, piece: PieceIndex, members: &mut BTreeMap<HostKey, Member>) -> Option<HostKey> {
        let host = self.committed.remove(&piece)?.host;
        if let Some(member) = members.get_mut(&host) {
            member.child.committed -= 1;
        }
        Some(host)
    }

    /// A neighbour says that it holds `piece`.
    pub(super) fn announced(&mut self, host: HostKey, piece: PieceIndex, members: &mut BTreeMap<HostKey, Member>) {
        if self.waiting.is_empty() && self.committed.is_empty() && self.out.is_empty() {
            return;
        }
        self.waiting.remove(&piece);
        if self.committed.get(&piece).is_some_and(|commitment| commitment.host == host) {
            self.delivered(host, piece, members);
            return;
        }
        self.uncommit(piece, members);
        if let Some(child) = self.out.get(&piece).copied()
            && child != host
        {
            self.out.remove(&piece);
            if let Some(member) = members.get_mut(&child) {
                member.child.spread += 1;
            }
        }
    }

    /// A child was sent `piece`.
    pub(super) fn delivered(&mut self, host: HostKey, piece: PieceIndex, members: &mut BTreeMap<HostKey, Member>) {
        if self.committed.get(&piece).is_none_or(|commitment| commitment.host != host) {
            return;
        }
        self.uncommit(piece, members);
        self.left += 1;
        self.out.insert(piece, host);
        if let Some(member) = members.get_mut(&host) {
            member.child.delivered += 1;
        }
    }

    /// Whether `piece` is committed to this child.
    pub(super) fn is_owed(&self, host: HostKey, piece: PieceIndex) -> bool {
        self.committed.get(&piece).is_some_and(|commitment| commitment.host == host)
    }

    /// A child asks for `piece`, or (`expires` given) withdrew its question.
    pub(super) fn asked(&mut self, host: HostKey, piece: PieceIndex, expires: Option<Time>) {
        if let Some(commitment) = self.committed.get_mut(&piece)
            && commitment.host == host
        {
            commitment.expires = expires;
        }
    }

    /// `piece` is not held any more.
    pub(super) fn forget(&mut self, piece: PieceIndex, members: &mut BTreeMap<HostKey, Member>) {
        self.waiting.remove(&piece);
        self.uncommit(piece, members);
        self.out.remove(&piece);
    }

    /// A child is gone, and its holdings are no longer counted: what it got alone has to go out again.
    pub(super) fn orphaned(&mut self, host: HostKey, pieces: &Pieces) {
        let committed = self.committed.iter().filter(|(_, commitment)| commitment.host == host);
        let out = self.out.iter().filter(|(_, child)| **child == host);
        let theirs: Vec<PieceIndex> = committed.map(|(piece, _)| *piece).chain(out.map(|(piece, _)| *piece)).collect();
        for piece in theirs {
            self.committed.remove(&piece);
            self.out.remove(&piece);
            if pieces.holders(piece) == 0 {
                self.waiting.insert(piece);
            }
        }
    }
}

/// A child as [`pick`] sees it.
#[derive(Clone, Copy, Debug)]
pub(super) struct View {
    pub(super) host: HostKey,
    /// Pieces committed, and the most there may be.
    pub(super) committed: u32,
    pub(super) limit: u32,
    pub(super) delivered: u32,
    pub(super) spread: u32,
    /// Whether it let allotments lapse lately.
    pub(super) lapsed: bool,
}

/// The child to allot to next: whose queue is drained most, and of equals the one whose pieces were passed on
/// soonest. Children that pass nothing on, while others do, are left for later.
pub(super) fn pick(children: &[View], active_max: usize) -> Option<HostKey> {
    let spreads = children.iter().any(|child| child.spread > 0);
    let is_lazy = |child: &View| spreads && child.spread == 0 && child.delivered >= LAZY_AFTER;
    let lazy_too = children.iter().all(|child| child.lapsed || is_lazy(child));
    let active = children.iter().filter(|child| child.committed > 0).count();
    children
        .iter()
        .filter(|child| !child.lapsed && child.committed < child.limit)
        .filter(|child| child.committed > 0 || active < active_max)
        .filter(|child| lazy_too || !is_lazy(child))
        .min_by_key(|child| {
            (child.committed, child.delivered.saturating_sub(child.spread), child.delivered, child.host)
        })
        .map(|child| child.host)
}

/// Pieces of one allotment, of `waiting` ones that `children` are to share.
fn unit(piece_length: u64, waiting: usize, children: usize) -> u32 {
    let by_bytes = (UNIT_BYTES / piece_length.max(1)).clamp(1, u64::from(UNIT_PIECES_MAX)) as u32;
    let by_share = waiting / (2 * UNITS_PER_CHILD as usize * children.max(1));
    by_bytes.min(by_share.max(1) as u32)
}

/// Pieces that may be committed to a child of this rate at a time.
fn limit(piece_length: u64, rate: Option<u64>, unit: u32) -> u32 {
    let Some(rate) = rate else { return UNITS_PER_CHILD * unit };
    let drained = |time| (bytes_in(rate, time).min(COMMITTED_BYTES_MAX) / piece_length.max(1)) as u32;
    drained(AHEAD).max(UNITS_PER_CHILD * unit).min(drained(SLOW).max(1))
}

/// When `committed` pieces should have left, where `left` have since `began`; `None` until one has.
fn due(now: Time, began: Time, left: u32, committed: u32) -> Option<Time> {
    let each = now.since(began).checked_div(left)?;
    Some(now.after(AHEAD + each * committed * OVERDUE))
}

impl Swarm {
    /// A held piece came from the origin, or is said to be nowhere else.
    pub(super) fn inject(&mut self, key: TaskKey, piece: PieceIndex) {
        if !self.config.upload {
            return;
        }
        let Some(task) = self.tasks.get_mut(&key) else { return };
        if task.pieces.holders(piece) == 0 {
            task.inject.waiting.insert(piece);
        }
        self.restless.insert(key);
    }

    /// Allots what waits, and shows everything once nothing waits.
    pub(super) fn allot(&mut self, key: TaskKey) {
        let Some(task) = self.tasks.get(&key) else { return };
        if task.public.held() == task.pieces.have().held() || !self.config.upload {
            return;
        }
        let mut views = Vec::new();
        while let Some(task) = self.tasks.get(&key)
            && !task.inject.waiting.is_empty()
        {
            let unit = self.views(task, &mut views);
            let Some(host) = pick(&views, self.config.inject_children) else { break };
            let room = views.iter().find(|view| view.host == host).map_or(unit, |view| view.limit - view.committed);
            self.commit(key, host, unit.min(room.max(1)));
        }
        let Some(task) = self.tasks.get(&key) else { return };
        // With children that cannot or will not take allotments, secrecy would only delay: liveness comes first.
        let asks = task.members.values().any(|member| member.wanted && !member.theirs.is_full());
        let stuck = asks && views.iter().all(|child| child.lapsed);
        let late = task.inject.waiting.is_empty() && task.inject.due.is_some_and(|due| due <= self.now);
        if late || task.inject.committed.is_empty() && (task.inject.waiting.is_empty() || stuck) {
            self.show_all(key);
        }
    }

    /// Fills `views` with the children that may take allotments; the pieces of one.
    fn views(&self, task: &Task, views: &mut Vec<View>) -> u32 {
        let takes = |member: &Member| member.wanted && member.counted && !member.theirs.is_full();
        // What goes to another site first has to come back: only if nobody here takes it and passes it on.
        let is_near = |host: &HostKey| !task.across.contains(*host);
        let is_of_use = |child: &Child| child.lapsed_until <= self.now && !child.is_lazy();
        let near = |(host, member): (&HostKey, &Member)| takes(member) && is_near(host) && is_of_use(&member.child);
        let any_near = task.across.is_empty() || task.members.iter().any(near);
        let is_child = |host: &HostKey, member: &Member| takes(member) && (!any_near || is_near(host));
        let children = task.members.iter().filter(|(host, member)| is_child(host, member)).count();
        let unit = unit(task.layout.piece_length(), task.inject.waiting.len(), children);
        views.clear();
        views.extend(task.members.iter().filter(|(host, member)| is_child(host, member)).map(|(host, member)| View {
            host: *host,
            committed: member.child.committed,
            limit: limit(task.layout.piece_length(), self.hosts.get(host).and_then(|host| host.sent.value()), unit),
            delivered: member.child.delivered,
            spread: member.child.spread,
            lapsed: member.child.lapsed_until > self.now,
        }));
        unit
    }

    fn commit(&mut self, key: TaskKey, host: HostKey, unit: u32) {
        let Some(task) = self.tasks.get_mut(&key) else { return };
        let Some(member) = task.members.get_mut(&host) else { return };
        let Some(first) = task.inject.waiting.first().copied() else { return };
        let mut end = first;
        let expires = Some(self.now.after(PATIENCE));
        while end - first < unit && task.inject.waiting.remove(&end) {
            task.inject.committed.insert(end, Commitment { host, expires });
            member.child.committed += 1;
            end += 1;
        }
        let began = *task.inject.began.get_or_insert(self.now);
        task.inject.due = due(self.now, began, task.inject.left, task.inject.committed.len() as u32);
        self.actions.push_back(Action::Allot { host, task: key, pieces: first..end });
        self.timers.set_earlier(Timer::Sweep, self.now.after(SWEEP));
    }

    /// Everything held may be known from now on.
    fn show_all(&mut self, key: TaskKey) {
        let Some(task) = self.tasks.get_mut(&key) else { return };
        task.inject.waiting.clear();
        task.inject.out.clear();
        let hidden: Vec<Range<PieceIndex>> = task.pieces.have().runs().collect();
        for piece in hidden.into_iter().flatten() {
            self.publish(key, piece);
        }
    }

    /// Takes back what children have not asked for; whether commitments are left.
    pub(super) fn lapse(&mut self, key: TaskKey) -> bool {
        let now = self.now;
        let Some(task) = self.tasks.get_mut(&key) else { return false };
        let lapsed = |commitment: &Commitment| commitment.expires.is_some_and(|at| at <= now);
        let gone: Vec<PieceIndex> =
            task.inject.committed.iter().filter(|(_, c)| lapsed(c)).map(|(piece, _)| *piece).collect();
        for piece in &gone {
            let host = task.inject.uncommit(*piece, &mut task.members);
            if task.pieces.is(*piece, PieceState::Held) {
                task.inject.waiting.insert(*piece);
            }
            if let Some(member) = host.and_then(|host| task.members.get_mut(&host))
                && member.child.lapsed_until <= now
            {
                member.child.lapsed_until = now.after(PATIENCE * (1 << member.child.lapses.min(LAPSES_MAX)));
                member.child.lapses += 1;
            }
        }
        if !gone.is_empty() || task.inject.due.is_some_and(|due| due <= now) {
            self.restless.insert(key);
        }
        !task.inject.committed.is_empty()
    }

    /// How many held pieces are kept from the neighbours in general, because they are still to be injected.
    pub fn hidden(&self, task: TaskKey) -> u32 {
        self.tasks.get(&task).map_or(0, |task| task.pieces.have().held() - task.public.held())
    }

    /// How many pieces neighbours want that only this host has, as far as is known.
    pub fn owed(&self, task: TaskKey) -> u32 {
        let Some(task) = self.tasks.get(&task) else { return 0 };
        let wanted = task.members.values().any(|member| member.wanted && !member.theirs.is_full());
        if wanted { (task.inject.waiting.len() + task.inject.committed.len()) as u32 } else { 0 }
    }

    /// When what a child has withdrawn lapses.
    pub(super) fn patience(&self) -> Time {
        self.now.after(PATIENCE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(host: u32) -> View {
        View { host: HostKey(host), committed: 0, limit: 2, delivered: 0, spread: 0, lapsed: false }
    }

    #[test]
    fn the_most_drained_child_is_next() {
        assert_eq!(pick(&[View { committed: 1, ..view(1) }, view(2)], 12), Some(HostKey(2)));
        assert_eq!(pick(&[View { committed: 2, ..view(1) }], 12), None);
        assert_eq!(pick(&[], 12), None);
    }

    #[test]
    fn no_more_children_than_allowed_are_active() {
        assert_eq!(pick(&[View { committed: 1, ..view(1) }, view(2)], 1), Some(HostKey(1)));
    }

    #[test]
    fn children_that_pass_nothing_on_are_left_for_later() {
        let lazy = View { delivered: LAZY_AFTER, ..view(1) };
        let good = View { delivered: 20, spread: 3, committed: 1, ..view(2) };
        assert_eq!(pick(&[lazy, good], 12), Some(HostKey(2)));
        assert_eq!(pick(&[lazy, View { committed: 2, ..good }], 12), None);
        assert_eq!(pick(&[lazy], 12), Some(HostKey(1)), "alone it has nobody to pass anything to");
        assert_eq!(pick(&[lazy, View { lapsed: true, ..good }], 12), Some(HostKey(1)));
    }

    #[test]
    fn small_pieces_go_in_runs_unless_there_are_few() {
        assert_eq!(unit(64 << 10, 1000, 8), 4);
        assert_eq!(unit(64 << 10, 8, 8), 1);
        assert_eq!(unit(4 << 20, 1000, 8), 1);
        assert_eq!(limit(64 << 10, Some(1 << 30), 4), 128);
        assert_eq!(limit(4 << 20, None, 1), 2);
    }

    #[test]
    fn a_slow_child_is_committed_little_and_is_not_waited_for_for_ever() {
        assert_eq!(limit(64 << 10, Some(256 << 10), 4), 8);
        assert_eq!(limit(64 << 10, Some(64 << 10), 4), 2);
        assert_eq!(limit(64 << 10, Some(1), 4), 1);
        let at = |millis| Time(Duration::from_millis(millis));
        assert_eq!(due(at(1000), at(0), 0, 3), None);
        assert_eq!(due(at(1000), at(0), 100, 3), Some(at(1000 + 250 + 2 * 3 * 10)));
    }
}
