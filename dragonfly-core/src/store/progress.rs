//! What a job that is as long as its content says of itself while it is under way: that it gets on.
//!
//! Whoever waits for the store waits on another thread, and cannot tell a disk that is slow from one that does nothing any
//! more. A thread that works for such a one has what it does told to it.

use std::cell::RefCell;

type Told = Box<dyn Fn()>;

thread_local! {
    static TOLD: RefCell<Option<Told>> = const { RefCell::new(None) };
}

/// From now on `told` is called on this thread each time that a long job of the store has got a block further.
pub(crate) fn tell(told: impl Fn() + 'static) {
    TOLD.with_borrow_mut(|at| *at = Some(Box::new(told)));
}

/// A block of a long job is done.
pub(crate) fn block_done() {
    TOLD.with_borrow(|told| {
        if let Some(told) = told {
            told();
        }
    });
}
