//! Have-maps, both ways.

use std::ops::Range;
use std::time::Duration;

use super::depth::bytes_in;
use super::pieces::PieceState;
use super::timers::Timer;
use super::{Action, HostKey, Swarm, TaskKey};
use crate::task::{HaveMap, PieceIndex};

/// Below this, frames cost more than fresher maps gain.
const TICK_MIN: Duration = Duration::from_millis(10);

/// Above this, the last host is measurably later (250 ms: 1.03, 1 s: 1.07 of the bound).
const TICK_MAX: Duration = Duration::from_millis(100);

/// A frame tells of about this many pieces.
const TICK_PIECES: u64 = 5;

/// What no more than this part of the neighbours hold is told of as soon as [`TICK_MIN`] allows: each of its first hops is
/// one after the other, and in a large swarm they are many.
const RARE: u32 = 4;

/// The pause between two have-maps of a task whose pieces of `piece_length` bytes arrive at `rate` bytes a second.
pub(super) fn tick(piece_length: u64, rate: Option<u64>) -> Duration {
    let Some(rate) = rate else { return TICK_MIN };
    let bytes = piece_length.saturating_mul(TICK_PIECES);
    if bytes <= bytes_in(rate, TICK_MIN) {
        return TICK_MIN;
    }
    if bytes >= bytes_in(rate, TICK_MAX) {
        return TICK_MAX;
    }
    Duration::from_micros(bytes.saturating_mul(1_000_000) / rate.max(1)).clamp(TICK_MIN, TICK_MAX)
}

impl Swarm {
    /// Everyone may know that a held piece is held.
    pub(super) fn publish(&mut self, key: TaskKey, piece: PieceIndex) {
        if !self.config.upload {
            return;
        }
        let Some(task) = self.tasks.get_mut(&key) else { return };
        if !task.public.insert(piece) {
            return;
        }
        task.fresh.push(piece);
        let is_rare = u32::from(task.pieces.holders(piece)) * RARE <= task.members.len() as u32;
        let tick = if is_rare { TICK_MIN } else { tick(task.layout.piece_length(), task.rate.value()) };
        let at = task.ticked.map_or(self.now, |last| last.after(tick)).max(self.now);
        self.timers.set_earlier(Timer::Have(key), at);
    }

    /// Pieces are no longer held. Every neighbour is told, for also one that was shown little may have been allotted
    /// some of them.
    pub(super) fn hide(&mut self, key: TaskKey, pieces: &[PieceIndex]) {
        let Some(task) = self.tasks.get_mut(&key) else { return };
        let mut gone = HaveMap::empty(task.layout.pieces());
        for piece in pieces {
            task.public.remove(*piece);
            gone.insert(*piece);
        }
        task.fresh.retain(|piece| !gone.contains(*piece));
        let runs: Vec<_> = gone.runs().collect();
        for host in task.members.keys() {
            self.actions.push_back(Action::SendLost { host: *host, task: key, runs: runs.clone() });
        }
    }

    /// Tells the neighbours what is new since the last tick. Complete ones need not know.
    pub(super) fn have_tick(&mut self, key: TaskKey) {
        let Some(task) = self.tasks.get_mut(&key) else { return };
        task.ticked = Some(self.now);
        let mut fresh = std::mem::take(&mut task.fresh);
        fresh.sort_unstable();
        let mut runs: Vec<Range<PieceIndex>> = Vec::new();
        for piece in fresh.drain(..) {
            match runs.last_mut() {
                Some(run) if run.end == piece => run.end += 1,
                _ => runs.push(piece..piece + 1),
            }
        }
        task.fresh = fresh;
        if runs.is_empty() {
            return;
        }
        let complete = task.public.is_complete();
        for (host, member) in &mut task.members {
            if member.theirs.is_full() {
                member.behind = true;
            } else {
                self.actions.push_back(Action::SendHave { host: *host, task: key, runs: runs.clone(), complete });
            }
        }
    }

    /// Tells one neighbour everything that is public.
    pub(super) fn send_all(&mut self, host: HostKey, key: TaskKey) {
        let Some(task) = self.tasks.get_mut(&key) else { return };
        let Some(member) = task.members.get_mut(&host) else { return };
        member.behind = false;
        if task.public.held() > 0 {
            let (runs, complete) = (task.public.runs().collect(), task.public.is_complete());
            self.actions.push_back(Action::SendHave { host, task: key, runs, complete });
        }
    }

    pub(super) fn have_received(&mut self, host: HostKey, key: TaskKey, runs: &[Range<PieceIndex>], complete: bool) {
        let Some(task) = self.tasks.get_mut(&key) else { return };
        let everything = 0..task.layout.pieces();
        let runs = if complete { std::slice::from_ref(&everything) } else { runs };
        let mut useful = false;
        for run in runs {
            for piece in task.clip(run) {
                useful |= task.hold(host, piece);
            }
        }
        if useful {
            self.hungry.insert(host);
        }
        // Pieces that were allotted have arrived, or need not be sent any more.
        self.restless.insert(key);
    }

    pub(super) fn lost(&mut self, host: HostKey, key: TaskKey, runs: &[Range<PieceIndex>]) {
        let Some(task) = self.tasks.get_mut(&key) else { return };
        for run in runs {
            for piece in task.clip(run) {
                task.unhold(host, piece);
            }
        }
        let behind = task.members.get(&host).is_some_and(|member| member.behind && !member.theirs.is_full());
        if behind {
            self.send_all(host, key);
        }
        self.restless.insert(key);
    }

    pub(super) fn allotted(&mut self, host: HostKey, key: TaskKey, pieces: Range<PieceIndex>) {
        let Some(task) = self.tasks.get_mut(&key) else { return };
        let range = task.clip(&pieces);
        for piece in range.clone() {
            task.hold(host, piece);
        }
        let Some(member) = task.members.get_mut(&host) else { return };
        if !range.is_empty() {
            member.push_allotted(range);
        }
        self.hungry.insert(host);
    }
}

impl super::task::Task {
    /// A neighbour holds `piece`, which exists; whether that is of use to us.
    fn hold(&mut self, host: HostKey, piece: PieceIndex) -> bool {
        let Some(member) = self.members.get_mut(&host) else { return false };
        if !member.theirs.insert(piece) {
            return false;
        }
        if member.counted {
            self.pieces.holder_added(piece);
        }
        self.inject.announced(host, piece, &mut self.members);
        self.pieces.is(piece, PieceState::Missing)
    }

    /// A neighbour does not hold `piece` (any more).
    pub(super) fn unhold(&mut self, host: HostKey, piece: PieceIndex) {
        let Some(member) = self.members.get_mut(&host) else { return };
        if member.theirs.remove(piece) && member.counted {
            self.pieces.holder_removed(piece);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tick_is_five_pieces_long_within_its_bounds() {
        assert_eq!(tick(1 << 20, None), TICK_MIN);
        assert_eq!(tick(1 << 20, Some(1)), TICK_MAX);
        assert_eq!(tick(1 << 20, Some(u64::MAX)), TICK_MIN);
        assert_eq!(tick(100_000, Some(10_000_000)), Duration::from_millis(50));
    }
}
