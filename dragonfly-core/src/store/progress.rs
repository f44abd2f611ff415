//! What a job that is as long as its content says of itself while it is under way: that it gets on.
//!
//! Whoever waits for the store waits on another thread, and cannot tell a disk that is slow from one that does nothing any
//! more. A thread that works for such a one runs the job [`counted`].

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

thread_local! {
    static BLOCKS: RefCell<Option<[Arc<AtomicU64>; 2]>> = const { RefCell::new(None) };
}

/// Runs `job` on this thread; each of `blocks` (of this job, and of all) counts that it began, and each block that it has got
/// further.
pub(crate) fn counted<T>(blocks: [Arc<AtomicU64>; 2], job: impl FnOnce() -> T) -> T {
    BLOCKS.set(Some(blocks));
    block_done();
    let done = job();
    BLOCKS.set(None);
    done
}

/// A block of a long job is done.
pub(crate) fn block_done() {
    BLOCKS.with_borrow(|blocks| {
        for blocks in blocks.iter().flatten() {
            blocks.fetch_add(1, Ordering::Relaxed);
        }
    });
}
