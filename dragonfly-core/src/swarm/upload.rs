//! Serving: whose turn it is, and which piece is sent next.

use super::pieces::PieceState;
use super::{Action, HostKey, Swarm, TaskKey};
use crate::task::PieceIndex;
use crate::wire::lane::{REQUEST_PIECES_MAX, REQUESTS_MAX, RejectReason};

/// A requester gets so many bytes in one turn while others wait: with less each turn costs a round trip, with more
/// a piece that could be passed on waits for others.
const TURN_BYTES: u64 = 256 << 10;

/// At the least so many neighbours are served at a time, if that is allowed.
const SLOTS_MIN: usize = 4;

/// One neighbour for each so many pieces: the fewer there are, the more of the whole time a piece takes that is sent to
/// many at once, and until then nobody can pass it on.
const PIECES_PER_SLOT: usize = 32;

/// What is left of a neighbour's request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Upload {
    pub(super) task: TaskKey,
    pub(super) request: u32,
    pub(super) next: PieceIndex,
    pub(super) end: PieceIndex,
    pub(super) skip: u32,
    /// How many pieces of younger requests went before it.
    pub(super) passed: u32,
}

/// A request before which so many pieces of younger ones went is next, whatever it is for: what many hold somebody may be
/// reading.
const PASSED_MAX: u32 = 16;

/// A neighbour being served: the piece that is being sent, and how many bytes of this turn were.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slot {
    pub(super) request: u32,
    pub(super) piece: PieceIndex,
    pub(super) bytes: u64,
}

/// A neighbour that waits for a turn.
#[derive(Clone, Copy, Debug)]
pub(super) struct Waiting {
    pub(super) host: HostKey,
    /// The most urgent class among its requests.
    pub(super) class: usize,
    /// Whether others hold what it asks for in that class.
    pub(super) known: bool,
    /// The number of its last turn.
    pub(super) turned: u64,
}

/// Who is served next: the most urgent class, then who asks for what nobody else can pass on, then who was served
/// longest ago.
pub(super) fn next_turn(waiting: impl Iterator<Item = Waiting>) -> Option<HostKey> {
    waiting
        .min_by_key(|waiting| (waiting.class, waiting.known, waiting.turned, waiting.host))
        .map(|waiting| waiting.host)
}

/// How many neighbours are served at a time of a task of so many pieces, where `allowed` may be.
fn slots(pieces: usize, allowed: usize) -> usize {
    (pieces / PIECES_PER_SLOT).max(SLOTS_MIN).min(allowed).max(1)
}

impl Swarm {
    pub(super) fn requested(
        &mut self,
        key: HostKey,
        task_key: TaskKey,
        request: u32,
        first: PieceIndex,
        count: u32,
        skip: u32,
    ) {
        let Some(host) = self.hosts.get_mut(&key) else { return };
        if !host.up {
            return;
        }
        if host.uploads.iter().any(|upload| upload.request == request) {
            return self.reject(key, request, RejectReason::Malformed);
        }
        if host.uploads.len() >= REQUESTS_MAX {
            return self.reject(key, request, RejectReason::Busy);
        }
        let Some(task) = self.tasks.get_mut(&task_key).filter(|task| task.members.contains_key(&key)) else {
            return self.reject(key, request, RejectReason::NotHeld);
        };
        let end = first.saturating_add(count);
        let sane = (1..=REQUEST_PIECES_MAX as u32).contains(&count)
            && end <= task.layout.pieces()
            && u64::from(skip) < task.bytes(first);
        if !sane {
            return self.reject(key, request, RejectReason::Malformed);
        }
        if !self.config.upload || !(first..end).all(|piece| task.pieces.is(piece, PieceState::Held)) {
            return self.reject(key, request, RejectReason::NotHeld);
        }
        for piece in first..end {
            task.inject.asked(key, piece, None);
        }
        host.uploads.push_back(Upload { task: task_key, request, next: first, end, skip, passed: 0 });
        if host.slot.is_none() {
            self.waiting.insert(key);
        }
    }

    fn reject(&mut self, host: HostKey, request: u32, reason: RejectReason) {
        self.actions.push_back(Action::Reject { host, request, reason });
    }

    pub(super) fn cancelled(&mut self, key: HostKey, request: u32) {
        self.remove_upload(key, request);
    }

    pub(super) fn serve_failed(&mut self, key: HostKey, request: u32) {
        if self.remove_upload(key, request) {
            self.reject(key, request, RejectReason::Unreadable);
        }
    }

    /// Forgets a request and frees the slot if it was being served; whether it was known.
    pub(super) fn remove_upload(&mut self, key: HostKey, request: u32) -> bool {
        let patience = self.patience();
        let Some(host) = self.hosts.get_mut(&key) else { return false };
        let Some(index) = host.uploads.iter().position(|upload| upload.request == request) else { return false };
        let Some(upload) = host.uploads.remove(index) else { return false };
        if let Some(task) = self.tasks.get_mut(&upload.task) {
            for piece in upload.next..upload.end {
                task.inject.asked(key, piece, Some(patience));
            }
        }
        if host.slot.is_some_and(|slot| slot.request == request) {
            self.end_turn(key);
        } else if host.uploads.is_empty() {
            self.waiting.remove(&key);
        }
        true
    }

    /// Frees a host's slot; it waits again if it has more requests.
    pub(super) fn end_turn(&mut self, key: HostKey) {
        let Some(host) = self.hosts.get_mut(&key) else { return };
        if host.slot.take().is_some() {
            self.slots -= 1;
        }
        self.turns += 1;
        host.turned = self.turns;
        host.sent.stop(self.now);
        if host.uploads.is_empty() {
            self.waiting.remove(&key);
        } else {
            self.waiting.insert(key);
        }
    }

    pub(super) fn sent(&mut self, key: HostKey, request: u32, piece: PieceIndex, bytes: u32) {
        let now = self.now;
        let others = !self.waiting.is_empty();
        let Some(host) = self.hosts.get_mut(&key) else { return };
        let Some(slot) = &mut host.slot else { return };
        if slot.request != request || slot.piece != piece {
            return;
        }
        slot.bytes += u64::from(bytes);
        let goes_on = slot.bytes < TURN_BYTES || !others;
        host.sent.add(now, u64::from(bytes));
        let Some(index) = host.uploads.iter().position(|upload| upload.request == request) else { return };
        let upload = &mut host.uploads[index];
        upload.next += 1;
        upload.skip = 0;
        let task_key = upload.task;
        if upload.next >= upload.end {
            host.uploads.remove(index);
        }
        if let Some(task) = self.tasks.get_mut(&task_key) {
            task.inject.delivered(key, piece, &mut task.members);
            self.restless.insert(task_key);
        }
        if !(goes_on && self.start(key)) {
            self.end_turn(key);
        }
    }

    /// Gives free slots to hosts that wait.
    pub(super) fn serve(&mut self) {
        while !self.waiting.is_empty() && self.slots < self.slots_max() {
            let waiting = self.waiting.iter().filter_map(|key| {
                let host = self.hosts.get(key)?;
                let ranks = host.uploads.iter().filter_map(|upload| {
                    let task = self.tasks.get(&upload.task)?;
                    Some((task.class(), !task.inject.is_owed(*key, upload.next)))
                });
                let (class, known) = ranks.min()?;
                Some(Waiting { host: *key, class, known, turned: host.turned })
            });
            let Some(key) = next_turn(waiting) else { return };
            self.waiting.remove(&key);
            if let Some(host) = self.hosts.get_mut(&key) {
                host.sent.start(self.now);
            }
            self.start(key);
        }
    }

    /// How many are served at a time: of the tasks that are traded here the one with the most pieces decides.
    fn slots_max(&self) -> usize {
        // Of one piece there may be many thousands, open with nobody.
        let least = if self.tasks.is_empty() { 1 } else { slots(1, self.config.upload_slots) };
        let larger = self.larger.iter().filter_map(|key| self.tasks.get(key));
        let slots = larger.map(|task| {
            let injects = !task.inject.committed.is_empty();
            let allowed = if injects { self.config.inject_slots } else { 0 }.max(self.config.upload_slots);
            slots(task.layout.pieces() as usize, allowed)
        });
        slots.max().unwrap_or(1).max(least)
    }

    /// Sends the next piece of a host that has, or now gets, a slot: of the task whose turn it is, the request for what
    /// the fewest hold, and of these the oldest. Whether there was one. Pieces that are not held any more are refused on the way.
    fn start(&mut self, key: HostKey) -> bool {
        loop {
            let Some(host) = self.hosts.get_mut(&key) else { return false };
            let rank = |upload: &Upload| {
                let task = self.tasks.get(&upload.task)?;
                // What nobody else has goes first: until it is out nobody can pass it on.
                let known = !task.inject.is_owed(key, upload.next);
                let holders = task.pieces.holders(upload.next);
                let waits = upload.passed < PASSED_MAX;
                Some((task.class(), self.pushes.rank(task.class(), task.pushed), known, waits, holders))
            };
            let Some(upload) = host.uploads.iter().min_by_key(|upload| rank(upload)).copied() else { return false };
            let held = self.tasks.get_mut(&upload.task).filter(|task| task.pieces.is(upload.next, PieceState::Held));
            let Some(task) = held else {
                host.uploads.retain(|other| other.request != upload.request);
                self.reject(key, upload.request, RejectReason::NotHeld);
                continue;
            };
            for older in host.uploads.iter_mut().take_while(|older| older.request != upload.request) {
                older.passed += u32::from(older.task == upload.task);
            }
            let (class, bytes) = (task.class(), task.bytes(upload.next) - u64::from(upload.skip));
            self.pushes.charge(class, &mut task.pushed, bytes);
            let sent = match host.slot {
                Some(slot) if slot.bytes < TURN_BYTES => slot.bytes,
                Some(_) => 0,
                None => {
                    self.slots += 1;
                    0
                }
            };
            host.slot = Some(Slot { request: upload.request, piece: upload.next, bytes: sent });
            let Upload { task, request, next: piece, skip, .. } = upload;
            self.actions.push_back(Action::Serve { host: key, task, request, piece, skip });
            return true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_of_few_pieces_goes_to_few_at_a_time() {
        assert_eq!(slots(1024, 12), 12);
        assert_eq!(slots(256, 12), 8);
        assert_eq!(slots(1, 12), SLOTS_MIN);
        assert_eq!(slots(1024, 2), 2);
        assert_eq!(slots(1024, 0), 1);
    }

    #[test]
    fn urgency_then_the_longest_wait_decides() {
        let waiting = |host, class, turned| Waiting { host: HostKey(host), class, known: true, turned };
        assert_eq!(next_turn([waiting(1, 3, 9), waiting(2, 3, 4)].into_iter()), Some(HostKey(2)));
        assert_eq!(next_turn([waiting(1, 2, 9), waiting(2, 3, 4)].into_iter()), Some(HostKey(1)));
        let owed = Waiting { known: false, ..waiting(3, 3, 12) };
        assert_eq!(next_turn([waiting(1, 3, 9), owed].into_iter()), Some(HostKey(3)));
        assert_eq!(next_turn([waiting(1, 2, 9), owed].into_iter()), Some(HostKey(1)));
        assert_eq!(next_turn(std::iter::empty()), None);
    }
}
