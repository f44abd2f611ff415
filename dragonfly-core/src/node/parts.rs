//! What has come of pieces whose request ended before they were whole: who is asked next is asked for the rest alone.
//!
//! Nothing of it is proven. A piece that several sent parts of, and that does not match, may be any one's fault: nobody is
//! blamed, and no part of these is kept, or gone on with, for that task again. So each can waste little, and once.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::BytesMut;

use super::Buffers;
use super::buffers::IDLE_BYTES_MAX;
use crate::task::{Generation, PieceHash, PieceHasher, PieceIndex, TaskId};
use crate::wire::PeerId;

/// How many are kept, of whatever task. Their bytes are among those of idle buffers.
pub(crate) const PARTS_MAX: usize = 16;

/// For how long at the least, if there is room: whoever can go on with one is asked within seconds. They go when the node is
/// looked over.
pub(crate) const PART_AGE_MAX: Duration = Duration::from_secs(60);

/// A part of so many senders is not kept again.
const SENDERS_MAX: usize = 8;

/// Those whose parts are not kept, each for one task. Beyond it the first are forgotten.
const DOUBTED_MAX: usize = 256;

/// Names one version of a task's content.
type Name = (TaskId, Generation);

/// The first bytes of a piece, fewer than all.
pub(crate) struct Part {
    pub(crate) buffer: BytesMut,
    /// Has taken the first of them, perhaps not all.
    pub(crate) hasher: PieceHasher,
    /// What the whole piece has to have.
    pub(crate) value: PieceHash,
    /// Whom they came from, each once.
    pub(crate) from: Vec<PeerId>,
}

struct Kept {
    name: Name,
    piece: PieceIndex,
    part: Part,
    since: Instant,
}

/// The parts that a node keeps.
pub(crate) struct Parts {
    table: Mutex<Table>,
    buffers: Arc<Buffers>,
}

#[derive(Default)]
struct Table {
    /// Oldest first.
    kept: VecDeque<Kept>,
    doubted: VecDeque<(Name, PeerId)>,
}

impl Table {
    fn is_doubted(&self, name: Name, peers: &[PeerId]) -> bool {
        self.doubted.iter().any(|(task, peer)| *task == name && peers.contains(peer))
    }
}

impl Parts {
    pub(crate) fn new(buffers: Arc<Buffers>) -> Self {
        Self { table: Mutex::default(), buffers }
    }

    /// Keeps what has come of a piece, unless more of it is there, somebody who sent it is doubted, or it is larger than all
    /// that may be kept. The oldest give way.
    pub(crate) fn keep(&self, name: Name, piece: PieceIndex, part: Part) {
        let mut table = self.lock();
        let known = table.kept.iter().position(|kept| (kept.name, kept.piece) == (name, piece));
        let longer = known.is_some_and(|at| table.kept[at].part.buffer.len() >= part.buffer.len());
        if longer || part.from.len() > SENDERS_MAX || table.is_doubted(name, &part.from) {
            return self.buffers.give(part.buffer);
        }
        if part.buffer.capacity() > IDLE_BYTES_MAX {
            return;
        }
        if let Some(old) = known.and_then(|at| table.kept.remove(at)) {
            self.let_go(old);
        }
        while table.kept.len() >= PARTS_MAX || !self.buffers.lend(part.buffer.capacity()) {
            match table.kept.pop_front() {
                Some(old) => self.let_go(old),
                None => return,
            }
        }
        table.kept.push_back(Kept { name, piece, part, since: Instant::now() });
    }

    /// What is kept of a piece that has to have this value, for `by` to send the rest.
    pub(crate) fn take(&self, name: Name, piece: PieceIndex, value: &PieceHash, by: PeerId) -> Option<Part> {
        let mut table = self.lock();
        let at = table.kept.iter().position(|kept| (kept.name, kept.piece) == (name, piece))?;
        if table.is_doubted(name, &[by]) {
            return None;
        }
        let kept = table.kept.remove(at)?;
        if kept.part.value != *value || table.is_doubted(name, &kept.part.from) {
            self.let_go(kept);
            return None;
        }
        self.buffers.unlend(kept.part.buffer.capacity());
        Some(kept.part)
    }

    /// A piece is held: no part of it is needed.
    pub(crate) fn held(&self, name: Name, piece: PieceIndex) {
        self.retain(|kept| (kept.name, kept.piece) != (name, piece));
    }

    /// A task is over: nothing of it is kept, and nobody doubted.
    pub(crate) fn over(&self, name: Name) {
        self.retain(|kept| kept.name != name);
        self.lock().doubted.retain(|(task, _)| *task != name);
    }

    /// Nothing of this task that came from one of these is kept, nor will be.
    pub(crate) fn doubt(&self, name: Name, peers: &[PeerId]) {
        {
            let mut table = self.lock();
            for peer in peers {
                if table.is_doubted(name, &[*peer]) {
                    continue;
                }
                if table.doubted.len() >= DOUBTED_MAX {
                    table.doubted.pop_front();
                }
                table.doubted.push_back((name, *peer));
            }
        }
        // Afterwards: what is kept meanwhile is kept of nobody whom these are.
        self.retain(|kept| kept.name != name || !kept.part.from.iter().any(|peer| peers.contains(peer)));
    }

    /// Nothing that came from this one is kept any more: it is to blame for something.
    pub(crate) fn shun(&self, peer: PeerId) {
        self.retain(|kept| !kept.part.from.contains(&peer));
    }

    /// Lets go of what nobody went on with for too long.
    pub(crate) fn trim(&self) {
        self.retain(|kept| kept.since.elapsed() < PART_AGE_MAX);
    }

    /// How many are kept.
    pub(crate) fn len(&self) -> usize {
        self.lock().kept.len()
    }

    fn retain(&self, stays: impl Fn(&Kept) -> bool) {
        let mut table = self.lock();
        let mut at = 0;
        while let Some(kept) = table.kept.get(at) {
            if stays(kept) {
                at += 1;
            } else if let Some(kept) = table.kept.remove(at) {
                self.let_go(kept);
            }
        }
    }

    fn let_go(&self, kept: Kept) {
        self.buffers.unlend(kept.part.buffer.capacity());
        self.buffers.give(kept.part.buffer);
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: PeerId = PeerId::from_public_key([1; 32]);
    const OTHER: PeerId = PeerId::from_public_key([2; 32]);
    const VALUE: PieceHash = [3; 32];
    const LARGE: usize = IDLE_BYTES_MAX / 4;

    const fn name(number: u8) -> Name {
        (TaskId::from_hash([number; 32]), Generation::from_hash([number; 32]))
    }

    fn part(length: usize, capacity: usize, from: &[PeerId]) -> Part {
        let mut buffer = BytesMut::with_capacity(capacity);
        buffer.resize(length, 0);
        Part { buffer, hasher: PieceHasher::new(0, 64 << 10), value: VALUE, from: from.to_vec() }
    }

    fn parts() -> Parts {
        Parts::new(Arc::default())
    }

    #[test]
    fn what_is_kept_of_a_piece_is_taken_once_and_for_its_value() {
        let parts = parts();
        parts.keep(name(1), 5, part(10, 64, &[ONE]));
        parts.keep(name(1), 5, part(4, 64, &[OTHER]));
        assert!(parts.take(name(1), 4, &VALUE, OTHER).is_none());
        assert!(parts.take(name(2), 5, &VALUE, OTHER).is_none());
        let taken = parts.take(name(1), 5, &VALUE, OTHER);
        assert!(taken.is_some_and(|part| part.buffer.len() == 10 && part.from == [ONE]), "the longer one");
        assert!(parts.take(name(1), 5, &VALUE, OTHER).is_none());
        parts.keep(name(1), 5, part(10, 64, &[ONE]));
        assert!(parts.take(name(1), 5, &[4; 32], OTHER).is_none(), "its value is another by now");
        assert_eq!((parts.len(), parts.buffers.lent()), (0, 0));
    }

    #[test]
    fn what_is_of_no_use_goes() {
        let parts = parts();
        for (number, piece) in [(1, 0), (1, 1), (2, 0)] {
            parts.keep(name(number), piece, part(10, 64, &[ONE]));
        }
        parts.held(name(1), 0);
        assert_eq!(parts.len(), 2);
        parts.over(name(1));
        assert_eq!(parts.len(), 1);
        parts.trim();
        assert_eq!(parts.len(), 1);
        parts.shun(OTHER);
        assert_eq!(parts.len(), 1);
        parts.shun(ONE);
        assert_eq!((parts.len(), parts.buffers.lent()), (0, 0));
    }

    /// Whose part was of a piece that did not match has none kept of that task again, and goes on with none.
    #[test]
    fn who_is_doubted_has_no_part_for_that_task() {
        let parts = parts();
        parts.keep(name(1), 0, part(10, 64, &[ONE]));
        parts.doubt(name(1), &[ONE, OTHER]);
        assert_eq!(parts.len(), 0);
        let third = PeerId::from_public_key([9; 32]);
        parts.keep(name(1), 0, part(10, 64, &[third, OTHER]));
        assert_eq!(parts.len(), 0);
        parts.keep(name(1), 0, part(10, 64, &[third]));
        assert!(parts.take(name(1), 0, &VALUE, ONE).is_none());
        assert!(parts.take(name(1), 0, &VALUE, third).is_some(), "it is there for others");
        parts.keep(name(2), 0, part(10, 64, &[ONE]));
        assert!(parts.take(name(2), 0, &VALUE, OTHER).is_some(), "nor does it count for another task");
        for number in 0..2 * DOUBTED_MAX {
            let mut key = [7; 32];
            key[..8].copy_from_slice(&number.to_be_bytes());
            parts.doubt(name(3), &[PeerId::from_public_key(key)]);
        }
        assert_eq!(parts.lock().doubted.len(), DOUBTED_MAX);
        parts.over(name(3));
        assert_eq!(parts.lock().doubted.len(), 0);
    }

    #[test]
    fn they_are_few_and_within_what_idle_buffers_may_hold() {
        let parts = parts();
        for piece in 0..2 * PARTS_MAX as u32 {
            parts.keep(name(1), piece, part(10, 64, &[ONE]));
        }
        assert_eq!(parts.len(), PARTS_MAX);
        assert!(parts.take(name(1), 0, &VALUE, ONE).is_none(), "the oldest give way");
        parts.over(name(1));
        for _ in 0..8 {
            parts.buffers.give(BytesMut::with_capacity(LARGE));
        }
        for piece in 0..6 {
            parts.keep(name(1), piece, part(10, LARGE, &[ONE]));
            assert!(parts.buffers.held() <= IDLE_BYTES_MAX);
        }
        assert_eq!((parts.len(), parts.buffers.lent()), (4, IDLE_BYTES_MAX));
        parts.keep(name(1), 9, part(10, IDLE_BYTES_MAX + 1, &[ONE]));
        assert_eq!(parts.len(), 4, "and no other gives way to it");
        assert!(parts.take(name(1), 9, &VALUE, ONE).is_none(), "it is larger than all of that");
        parts.over(name(1));
        assert!(parts.buffers.held() <= IDLE_BYTES_MAX);
        assert_eq!(parts.buffers.lent(), 0);
        parts.keep(name(1), 0, part(10, 64, &[ONE; SENDERS_MAX + 1]));
        assert_eq!(parts.len(), 0, "of too many");
    }
}
