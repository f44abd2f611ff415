//! How much to ask of one neighbour at a time.

use std::time::Duration;

use crate::wire::lane::{REQUEST_PIECES_MAX, REQUESTS_MAX};

/// What a neighbour sends until our next request can have reached it: a round trip, and this for its scheduling.
const AHEAD: Duration = Duration::from_millis(250);

/// More requests than this queue at the neighbour without making it faster, and cannot be moved elsewhere.
const DEPTH_MAX: u64 = 4;

/// A run this long costs nothing against the same bytes in one piece.
const RUN_BYTES_MAX: u64 = 1 << 20;

/// A run is over within this time, so that a neighbour's slot turns.
const RUN_TIME: Duration = Duration::from_millis(100);

/// What is queued beyond the depth, so that the last piece of a run does not wait for a round trip.
const RUNS_AHEAD: u64 = 1;

/// How many requests may be outstanding at a neighbour of this rate (bytes a second, if known).
pub(super) fn requests(rate: Option<u64>, round_trip: Duration, run_bytes: u64) -> usize {
    let ahead = bytes_in(rate.unwrap_or(0), round_trip + AHEAD);
    let depth = (ahead / run_bytes.max(1)).clamp(1, DEPTH_MAX) + RUNS_AHEAD;
    (depth as usize).min(REQUESTS_MAX)
}

/// The most pieces of one request: `missing` are left and `members` neighbours share them.
pub(super) fn run(rate: Option<u64>, piece_length: u64, missing: u32, members: usize) -> u32 {
    let bytes = bytes_in(rate.unwrap_or(0), RUN_TIME).min(RUN_BYTES_MAX);
    // Of the last pieces each neighbour gets some.
    let share = missing / (2 * members.max(1) as u32);
    (bytes / piece_length.max(1)).clamp(1, REQUEST_PIECES_MAX as u64).min(u64::from(share.max(1))) as u32
}

/// What flows at `rate` in `time`.
pub(super) const fn bytes_in(rate: u64, time: Duration) -> u64 {
    (rate as u128 * time.as_micros() / 1_000_000) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    const RTT: Duration = Duration::from_millis(20);

    #[test]
    fn a_neighbour_of_unknown_rate_gets_one_request_and_one_ahead() {
        assert_eq!(requests(None, RTT, 1 << 20), 2);
        assert_eq!(run(None, 64 << 10, 1000, 1), 1);
    }

    #[test]
    fn depth_and_runs_grow_with_the_rate_up_to_their_bounds() {
        assert_eq!(requests(Some(100 << 20), RTT, 1 << 20), 5);
        assert_eq!(run(Some(100 << 20), 64 << 10, 1000, 1), 16);
        assert_eq!(run(Some(u64::MAX), 1, 1000, 1), 64);
        assert_eq!(run(Some(100 << 20), 4 << 20, 1000, 1), 1);
    }

    #[test]
    fn the_last_pieces_are_shared() {
        assert_eq!(run(Some(100 << 20), 64 << 10, 8, 4), 1);
    }
}
