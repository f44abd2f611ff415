//! Buffers for pieces on their way to the disk.
//!
//! A fresh buffer of some megabytes is memory that the system hands out page by page, each of them cleared first:
//! for every piece anew that costs more than hashing it. So they are used again, and let go when nothing came for a
//! while.

use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::BytesMut;

/// Bytes that idle buffers may hold, those that are lent to parts of pieces among them.
pub(super) const IDLE_BYTES_MAX: usize = 16 << 20;

/// Smaller ones are cheap to make.
const LENGTH_MIN: usize = 128 << 10;

/// Buffers that nobody uses at the moment.
#[derive(Default)]
pub(crate) struct Buffers(Mutex<Idle>);

#[derive(Default)]
struct Idle {
    buffers: Vec<BytesMut>,
    bytes: usize,
    /// Bytes of buffers that somebody else keeps for a while.
    lent: usize,
    /// How many were handed out since the last look.
    taken: usize,
}

impl Buffers {
    /// An empty buffer with room for `length` bytes, and for no more than twice as many.
    pub(crate) fn take(&self, length: usize) -> BytesMut {
        if length >= LENGTH_MIN {
            let mut idle = self.lock();
            idle.taken += 1;
            let fits = |buffer: &BytesMut| (length..=2 * length).contains(&buffer.capacity());
            if let Some(at) = idle.buffers.iter().rposition(fits) {
                let buffer = idle.buffers.swap_remove(at);
                idle.bytes -= buffer.capacity();
                return buffer;
            }
        }
        BytesMut::with_capacity(length)
    }

    /// Takes back a buffer that is not needed any more.
    pub(crate) fn give(&self, mut buffer: BytesMut) {
        buffer.clear();
        let mut idle = self.lock();
        if buffer.capacity() >= LENGTH_MIN && idle.bytes + idle.lent + buffer.capacity() <= IDLE_BYTES_MAX {
            idle.bytes += buffer.capacity();
            idle.buffers.push(buffer);
        }
    }

    /// Whether a buffer of this capacity may be kept by somebody else for a while: it then counts as an idle one, and these give
    /// way to it.
    pub(super) fn lend(&self, capacity: usize) -> bool {
        let mut idle = self.lock();
        if idle.lent + capacity > IDLE_BYTES_MAX {
            return false;
        }
        idle.lent += capacity;
        while idle.bytes + idle.lent > IDLE_BYTES_MAX {
            let Some(buffer) = idle.buffers.pop() else { break };
            idle.bytes -= buffer.capacity();
        }
        true
    }

    /// It is kept no more.
    pub(super) fn unlend(&self, capacity: usize) {
        let mut idle = self.lock();
        idle.lent = idle.lent.saturating_sub(capacity);
    }

    /// Lets go of all of them if none was needed since the last call.
    pub(crate) fn trim(&self) {
        let mut idle = self.lock();
        if std::mem::take(&mut idle.taken) == 0 {
            *idle = Idle { lent: idle.lent, ..Idle::default() };
        }
    }

    #[cfg(test)]
    pub(super) fn lent(&self) -> usize {
        self.lock().lent
    }

    /// Bytes of all of them.
    #[cfg(test)]
    pub(super) fn held(&self) -> usize {
        let idle = self.lock();
        idle.bytes + idle.lent
    }

    fn lock(&self) -> MutexGuard<'_, Idle> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PIECE: usize = 4 << 20;

    #[test]
    fn buffers_are_used_again_within_bounds() {
        let buffers = Buffers::default();
        let mut first = buffers.take(PIECE);
        first.extend_from_slice(b"left over");
        let place = first.as_ptr();
        buffers.give(first);
        assert_ne!(buffers.take(PIECE / 4).as_ptr(), place, "far too large");
        let again = buffers.take(PIECE);
        assert_eq!((again.as_ptr(), again.len()), (place, 0));
        buffers.give(again);
        for _ in 0..8 {
            buffers.give(BytesMut::with_capacity(PIECE));
        }
        assert!(buffers.lock().bytes <= IDLE_BYTES_MAX);
        buffers.give(BytesMut::with_capacity(16));
        assert_eq!(buffers.lock().buffers.len(), IDLE_BYTES_MAX / PIECE);
    }

    #[test]
    fn what_nobody_needs_goes() {
        let buffers = Buffers::default();
        buffers.give(buffers.take(PIECE));
        buffers.trim();
        assert_eq!(buffers.lock().bytes, PIECE, "one was needed a moment ago");
        buffers.trim();
        assert_eq!(buffers.lock().bytes, 0);
    }
}
