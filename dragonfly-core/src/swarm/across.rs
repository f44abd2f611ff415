//! What is asked of neighbours in other sites: a preference for one's own site, with deadlines.
//!
//! The coordinator says which neighbours are across, and which share of the pieces is ours to bring from there. As long as all
//! is well we ask them for pieces of that share alone, and for none that a neighbour near holds. It is never more than a delay:
//!
//! - What the others of our site were to bring and have not is asked for, too, some time after our own share is on its way.
//! - A neighbour near that is much slower than one across, that owes us something and is silent, or that let us down lately,
//!   keeps nothing from being asked for across.
//! - Where nothing comes at all for a time, and where nobody is near, everything is asked for.

use std::collections::BTreeMap;
use std::time::Duration;

use super::bits::Bits;
use super::host::Host;
use super::request::SWEEP;
use super::task::Task;
use super::timers::Timer;
use super::{HostKey, Swarm, TaskKey, Time};
use crate::task::PieceIndex;
use crate::wire::control::Share;
use crate::wire::lane::REQUEST_PIECES_MAX;

/// For so long at the least the others of a site are waited for: some round trips, in which what they brought becomes known.
const OTHERS_MIN: Duration = Duration::from_secs(1);

/// And for so long at the most, however long our own share took.
const OTHERS_MAX: Duration = Duration::from_secs(10);

/// Nothing came for so long, from anybody: what is held across is asked for, whosever it is to bring. Longer than a round of
/// turns among the requesters of a slow link.
pub(super) const QUIET_MAX: Duration = Duration::from_secs(5);

/// A neighbour near that is so many times slower than one across is not waited for. Below that the link between is spared: where
/// it is thin, who is across is the slower one by far.
const SLOWER: u32 = 4;

/// One that owes us something is silent if nothing came for so long.
const SILENT_MIN: Duration = Duration::from_secs(2);

/// What one across that was never asked for anything is expected to need, as far as silence goes.
const UNMEASURED: Duration = Duration::from_secs(1);

/// Where nothing was to be asked of those across for so long, one piece is asked of one of them, whoever near holds it: else it
/// would never be known that those near are much slower. It is one piece of a download that takes longer than this.
const PROBE_AFTER: Duration = Duration::from_secs(5);

/// Pieces of a reader's window that are looked at.
const WINDOW_MAX: usize = 1024;

/// What is kept of a task's neighbours in other sites.
#[derive(Debug, Default)]
pub(super) struct Across {
    /// Who they are, and what is to be brought from there.
    hosts: BTreeMap<HostKey, Share>,
    /// Since when there are any.
    since: Time,
    /// The pieces of a share, kept because it seldom changes.
    mask: Option<(Share, Bits)>,
    /// When our own share of that was asked for first and last.
    brought: Option<(Time, Time)>,
}

impl Across {
    pub(super) fn contains(&self, host: HostKey) -> bool {
        self.hosts.contains_key(&host)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.hosts.is_empty()
    }

    /// Who was named now: what they were before is not so any more.
    pub(super) fn name(&mut self, now: Time, hosts: &[HostKey], across: &[(HostKey, Share)]) {
        if self.hosts.is_empty() {
            self.since = now;
        }
        self.hosts.retain(|host, _| !hosts.contains(host));
        self.hosts.extend(across.iter().filter(|(host, _)| hosts.contains(host)).copied());
    }

    pub(super) fn retain(&mut self, is_known: impl Fn(&HostKey) -> bool) {
        self.hosts.retain(|host, _| is_known(host));
    }
}

/// What decides how far a share goes.
#[derive(Clone, Copy, Debug)]
struct Standing {
    share: Share,
    /// Whether some of the share is missing and not asked of anybody.
    lacks_own: bool,
    /// When our own share was asked for first and last.
    brought: Option<(Time, Time)>,
    /// When something came last.
    fed: Time,
    /// Whether no neighbour is near.
    alone: bool,
}

/// What may be asked of those across now, and when that is to be looked at again.
fn scope(standing: Standing, now: Time) -> (Share, Option<Time>) {
    let Standing { share, lacks_own, brought, fed, alone } = standing;
    let quiet = fed.after(QUIET_MAX);
    if alone || share == Share::ALL || quiet <= now {
        return (Share::ALL, None);
    }
    if share.of == 0 || lacks_own {
        return (share, Some(quiet));
    }
    let due = brought.map_or(now, |(first, last)| last.after((last.since(first) / 4).clamp(OTHERS_MIN, OTHERS_MAX)));
    if due <= now { (Share::ALL, None) } else { (share, Some(due.min(quiet))) }
}

/// How a neighbour near does.
#[derive(Clone, Copy, Debug)]
struct Pace {
    /// Bytes a second, if known.
    rate: Option<u64>,
    /// Bytes that it owes us.
    owed: u64,
    /// For how long nothing has come of them.
    silent: Duration,
}

/// Whether it need not be waited for, where one across sends so many bytes a second (if known).
fn is_slow(near: Pace, across: Option<u64>) -> bool {
    let there = across.map_or(UNMEASURED, |rate| Duration::from_millis(near.owed.saturating_mul(1000) / rate.max(1)));
    if near.owed > 0 && near.silent >= SILENT_MIN.max(there.saturating_mul(SLOWER)) {
        return true;
    }
    matches!((near.rate, across), (Some(near), Some(across)) if near.saturating_mul(SLOWER.into()) < across)
}

impl Swarm {
    /// Of what a neighbour across holds that for which it is asked now, and at most how many pieces at a time.
    pub(super) fn open_across(&mut self, key: HostKey, task_key: TaskKey) -> Option<(Bits, u32)> {
        let task = self.tasks.get_mut(&task_key)?;
        let share = task.across.hosts.get(&key).copied()?;
        task.mask(share);
        let (scope, due) = scope(task.standing(share), self.now);
        let rate = self.hosts.get(&key)?.down.value();
        let member = task.members.get(&key)?;
        let mut open = member.theirs.clone();
        if task.is_unasked(&self.hosts) && self.now.since(task.across.since) >= PROBE_AFTER {
            return Some((open, 1));
        }
        for near in task.near(&self.hosts, rate, self.now) {
            open.remove_all(near);
        }
        task.narrow(&mut open, scope);
        if let Some(due) = due {
            self.timers.set_earlier(Timer::Sweep, due.max(self.now.after(SWEEP)));
        }
        Some((open, REQUEST_PIECES_MAX as u32))
    }

    /// Notes that `first` was asked of a neighbour across.
    pub(super) fn asked_across(&mut self, key: HostKey, task_key: TaskKey, first: PieceIndex) {
        let now = self.now;
        let Some(task) = self.tasks.get_mut(&task_key) else { return };
        if task.across.hosts.get(&key).is_some_and(|share| share.covers(first)) {
            let begun = task.across.brought.map_or(now, |(begun, _)| begun);
            task.across.brought = Some((begun, now));
        }
    }

    /// Whether a request to `victim` may be taken over by `key`: by one across only from one that is across as well, or so slow
    /// that it need not be waited for. What is on its way would cross, or cross twice.
    pub(super) fn may_relieve(&self, task: &Task, key: HostKey, victim: HostKey) -> bool {
        if !task.across.contains(key) || task.across.contains(victim) {
            return true;
        }
        let Some(host) = self.hosts.get(&victim) else { return false };
        is_slow(host.pace(self.now), self.hosts.get(&key).and_then(|host| host.down.value()))
    }
}

impl Host {
    fn pace(&self, now: Time) -> Pace {
        let silent = if self.requests.is_empty() { Duration::ZERO } else { now.since(self.progress) };
        Pace { rate: self.down.value(), owed: self.pending, silent }
    }
}

impl Task {
    /// The neighbours near whose word keeps pieces from being asked for across, where such a one sends so many bytes a second.
    fn near<'a>(
        &'a self,
        hosts: &'a BTreeMap<HostKey, Host>,
        rate: Option<u64>,
        now: Time,
    ) -> impl Iterator<Item = &'a Bits> + 'a {
        let counts = move |key: &HostKey| {
            let host = hosts.get(key).filter(|host| host.strikes == 0);
            host.is_some_and(|host| !is_slow(host.pace(now), rate))
        };
        let near = self.members.iter().filter(|(key, member)| member.counted && !self.across.contains(**key));
        near.filter(move |(key, _)| counts(key)).map(|(_, member)| &member.theirs)
    }

    /// Whether nothing was ever asked of anybody across.
    fn is_unasked(&self, hosts: &BTreeMap<HostKey, Host>) -> bool {
        let known = |host: &Host| host.down.value().is_some() || !host.requests.is_empty();
        !self.across.hosts.keys().filter_map(|key| hosts.get(key)).any(known)
    }

    fn standing(&self, share: Share) -> Standing {
        let own = self.across.mask.as_ref().filter(|(of, _)| *of == share);
        Standing {
            share,
            lacks_own: own.is_some_and(|(_, mask)| self.pieces.missing().common(mask, 0).next().is_some()),
            brought: self.across.brought,
            fed: self.fed,
            alone: !self.members.iter().any(|(key, member)| member.counted && !self.across.contains(*key)),
        }
    }

    /// Lets the pieces of a share be at hand.
    fn mask(&mut self, share: Share) {
        if self.across.mask.as_ref().is_none_or(|(of, _)| *of != share) {
            let mut mask = Bits::empty(self.layout.pieces());
            (0..self.layout.pieces()).filter(|piece| share.covers(*piece)).for_each(|piece| {
                mask.insert(piece);
            });
            self.across.mask = Some((share, mask));
        }
    }

    /// Leaves of `open` what is in a scope, or in a reader's window.
    fn narrow(&self, open: &mut Bits, scope: Share) {
        if scope == Share::ALL {
            return;
        }
        let window: Vec<PieceIndex> =
            self.window.clone().take(WINDOW_MAX).filter(|piece| open.contains(*piece)).collect();
        match &self.across.mask {
            Some((of, mask)) if *of == scope => open.keep(mask),
            _ => *open = Bits::empty(self.layout.pieces()),
        }
        for piece in window {
            open.insert(piece);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHARE: Share = Share { part: 1, of: 4 };

    fn at(millis: u64) -> Time {
        Time(Duration::from_millis(millis))
    }

    fn standing() -> Standing {
        Standing { share: SHARE, lacks_own: true, brought: None, fed: at(0), alone: false }
    }

    #[test]
    fn our_own_share_comes_first_and_what_the_others_have_not_brought_later() {
        assert_eq!(scope(standing(), at(1000)).0, SHARE);
        let over = Standing { lacks_own: false, fed: at(8500), brought: Some((at(0), at(8000))), ..standing() };
        assert_eq!(scope(over, at(9999)), (SHARE, Some(at(10_000))));
        assert_eq!(scope(over, at(10_000)), (Share::ALL, None));
        let short = Standing { brought: Some((at(7900), at(8000))), ..over };
        assert_eq!(scope(short, at(8999)).0, SHARE);
        assert_eq!(scope(short, at(9000)).0, Share::ALL);
    }

    #[test]
    fn the_others_are_given_no_more_than_so_long() {
        let over = Standing { lacks_own: false, fed: at(999_000), brought: Some((at(0), at(990_000))), ..standing() };
        assert_eq!(scope(over, at(999_999)).0, SHARE);
        assert_eq!(scope(over, at(1_000_000)).0, Share::ALL);
    }

    #[test]
    fn where_nothing_comes_or_nobody_is_near_everything_is_asked_for() {
        for share in [SHARE, Share::NONE] {
            let standing = Standing { share, ..standing() };
            assert_eq!(scope(standing, at(4999)), (share, Some(at(5000))));
            assert_eq!(scope(standing, at(5000)), (Share::ALL, None));
            assert_eq!(scope(Standing { alone: true, ..standing }, at(1)), (Share::ALL, None));
        }
    }

    #[test]
    fn who_near_is_much_slower_or_silent_is_not_waited_for() {
        let near = Pace { rate: Some(1 << 20), owed: 1 << 20, silent: Duration::ZERO };
        assert!(!is_slow(near, Some(4 << 20)));
        assert!(is_slow(near, Some((4 << 20) + 1)));
        assert!(!is_slow(Pace { rate: None, ..near }, Some(u64::MAX)));
        assert!(!is_slow(Pace { rate: Some(1), ..near }, None), "nothing to compare it with");
        let silent = |millis| Pace { silent: Duration::from_millis(millis), ..near };
        assert!(!is_slow(silent(1999), Some(1 << 21)) && is_slow(silent(2000), Some(1 << 21)));
        assert!(!is_slow(silent(3999), Some(1 << 20)) && is_slow(silent(4000), Some(1 << 20)));
        assert!(!is_slow(silent(3999), None) && is_slow(silent(4000), None));
        assert!(!is_slow(Pace { owed: 0, ..silent(60_000) }, Some(1 << 20)), "it was asked for nothing");
    }
}
