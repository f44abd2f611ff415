//! How much of what clients send over HTTP/2 is taken before servers take it. A connection says so at its start and cannot
//! take it back (RFC 9113, 6.9): all of them draw on one budget, so that the first ones have room for a long way and the
//! last ones what every connection begins with.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Of all connections together, beside [`LEAST`] of each.
pub(super) const BUDGET_BYTES: u64 = 256 << 20;

/// The most of one connection.
pub(super) const MOST: u32 = 16 << 20;

/// What every connection of HTTP/2 begins with.
const LEAST: u32 = 65_535;

/// Who comes gets so much of what is left: the next ones get something, too.
const SHARE: u64 = 16;

/// Of the window of a connection so much is for each request: seven whose servers take nothing leave as much for an eighth.
const REQUESTS: u32 = 8;

/// The most of one request.
pub(super) const REQUEST_MOST: u32 = MOST / REQUESTS;

/// The budget.
#[derive(Clone, Debug)]
pub(super) struct Windows(Arc<AtomicU64>);

impl Default for Windows {
    fn default() -> Self {
        Self(Arc::new(AtomicU64::new(BUDGET_BYTES)))
    }
}

impl Windows {
    /// For one more connection.
    pub(super) fn draw(&self) -> Window {
        let drawn = |left: u64| {
            let share = (left / SHARE).min(MOST.into());
            if share > LEAST.into() { share } else { 0 }
        };
        let left = self.0.fetch_update(Ordering::AcqRel, Ordering::Acquire, |left| Some(left - drawn(left)));
        let drawn = drawn(left.unwrap_or_else(|left| left));
        Window { of: self.clone(), connection: u32::try_from(drawn).unwrap_or(MOST), drawn: AtomicU64::new(drawn) }
    }

    /// What connections have of it.
    pub(super) fn drawn(&self) -> u64 {
        BUDGET_BYTES - self.0.load(Ordering::Acquire)
    }
}

/// Of a connection, for as long as it lives.
#[derive(Debug)]
pub(super) struct Window {
    of: Windows,
    connection: u32,
    /// What is to be given back.
    drawn: AtomicU64,
}

impl Window {
    /// For all requests.
    pub(super) fn connection(&self) -> u32 {
        self.connection.max(LEAST)
    }

    /// For each.
    pub(super) fn request(&self) -> u32 {
        (self.connection / REQUESTS).max(LEAST)
    }

    /// It is not HTTP/2 that is spoken.
    pub(super) fn give_back(&self) {
        self.of.0.fetch_add(self.drawn.swap(0, Ordering::AcqRel), Ordering::AcqRel);
    }
}

impl Drop for Window {
    fn drop(&mut self) {
        self.give_back();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_budget_holds_however_many_come() {
        let windows = Windows::default();
        let drawn: Vec<_> = (0..2000).map(|_| windows.draw()).collect();
        assert_eq!((drawn[0].connection(), drawn[0].request()), (MOST, REQUEST_MOST));
        assert_eq!((drawn[1999].connection(), drawn[1999].request()), (LEAST, LEAST));
        assert!(drawn.windows(2).all(|two| two[0].connection() >= two[1].connection()));
        let beside: u64 =
            drawn.iter().map(|window| u64::from(window.connection())).filter(|of| *of > LEAST.into()).sum();
        assert_eq!(beside, windows.drawn());
        assert!(beside <= BUDGET_BYTES, "{beside}");
        // Of some use to some dozens.
        assert!(drawn[40].connection() >= 1 << 20, "{}", drawn[40].connection());
        drop(drawn);
        assert_eq!((windows.drawn(), windows.draw().connection()), (0, MOST));
    }

    #[test]
    fn what_was_given_back_is_not_given_back_again() {
        let windows = Windows::default();
        let (one, _other) = (windows.draw(), windows.draw());
        one.give_back();
        one.give_back();
        drop(one);
        assert_eq!(windows.drawn(), u64::from(MOST) - u64::from(MOST / 16));
    }
}
