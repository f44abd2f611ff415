//! When a request moves from one neighbour to an idle one.

use std::time::Duration;

/// A takeover that saves less than this is not worth the bytes that are on their way already.
const SAVES_MIN: Duration = Duration::from_millis(500);

/// What an idle neighbour that was never measured is expected to need.
const UNMEASURED: Duration = Duration::from_millis(250);

/// A request that waits for others moves if its turn is not within this time, or two round trips: sooner than that it may be
/// on its way, and moving it gains nothing.
const TURN: Duration = Duration::from_millis(50);

/// A request of which nothing came for so long, or for two round trips, waits for others there, though it is the oldest.
/// What is on its way when it is withdrawn comes twice, so not at once.
const WAITS: Duration = Duration::from_millis(50);

/// That time is doubled so often each time that it moves: over slow links nothing comes so soon of any request, and it would
/// be moved for ever.
const WAITS_DOUBLED: u32 = 2;

/// And at most so often, which is longer than a stall.
const WAITS_DOUBLED_MAX: u32 = 12;

/// A request where it is now.
#[derive(Clone, Copy, Debug)]
pub(super) struct Current {
    /// Bytes that are still to come, those queued ahead of it included.
    pub(super) ahead: u64,
    /// Bytes a second of its neighbour, if known.
    pub(super) rate: Option<u64>,
    /// How long that neighbour has sent nothing.
    pub(super) silent: Duration,
    /// How long ago it was made.
    pub(super) asked: Duration,
    /// The shortest time from a request to its first byte there.
    pub(super) round_trip: Duration,
    /// How often it was moved.
    pub(super) moves: u32,
    /// Whether bytes of it have come.
    pub(super) started: bool,
    /// Requests outstanding at that neighbour that are older.
    pub(super) older: usize,
}

/// What to do with a request that an idle neighbour could serve, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Takeover {
    /// Leave it.
    Leave,
    /// It only waits for others: move it.
    Move,
    /// Its neighbour is too slow: take it over, and ask that neighbour for nothing for a time.
    Take,
}

/// Whether an idle neighbour of `rate` (bytes a second, if known) should serve `bytes` in place of the current one.
pub(super) fn takeover(current: Current, bytes: u64, rate: Option<u64>) -> Takeover {
    let waits = WAITS.max(current.round_trip * 2) * (1 << (current.moves * WAITS_DOUBLED).min(WAITS_DOUBLED_MAX));
    let turn = current.rate.map(|rate| time_for(current.ahead.saturating_sub(bytes), rate));
    let is_far = current.older > 0 && turn.is_none_or(|turn| turn >= TURN.max(current.round_trip * 2));
    if !current.started && (is_far || current.asked >= waits) {
        return Takeover::Move;
    }
    // Silence is evidence: what has sent nothing for a time is expected to take as long again.
    let there = current.rate.map_or(Duration::ZERO, |rate| time_for(current.ahead, rate)).max(current.silent);
    let here = rate.map_or(UNMEASURED, |rate| time_for(bytes, rate));
    if there > here + SAVES_MIN && there / 2 > here { Takeover::Take } else { Takeover::Leave }
}

/// A rate of zero needs an hour for anything.
fn time_for(bytes: u64, rate: u64) -> Duration {
    if rate == 0 {
        return Duration::from_secs(3600);
    }
    Duration::from_micros((u128::from(bytes) * 1_000_000 / u128::from(rate)).min(3_600_000_000) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CURRENT: Current = Current {
        ahead: 1 << 20,
        rate: Some(1 << 20),
        silent: Duration::ZERO,
        asked: WAITS,
        round_trip: Duration::ZERO,
        moves: 0,
        started: true,
        older: 0,
    };

    #[test]
    fn a_queued_request_moves_freely() {
        let queued = Current { started: false, asked: Duration::ZERO, ..CURRENT };
        assert_eq!(takeover(Current { older: 1, ahead: 2 << 20, ..queued }, 1 << 20, Some(1)), Takeover::Move);
        assert_eq!(takeover(queued, 1 << 20, Some(1)), Takeover::Leave, "it may be on its way");
        let second = |rate| Current { older: 1, ahead: 2 << 20, rate, ..queued };
        assert_eq!(takeover(second(Some(10 << 20)), 1 << 20, Some(1)), Takeover::Move, "its turn is in 100 ms");
        assert_eq!(takeover(second(Some(40 << 20)), 1 << 20, Some(1)), Takeover::Leave, "its turn is in 25 ms");
        assert_eq!(takeover(second(None), 1 << 20, Some(1)), Takeover::Move, "nobody knows when its turn is");
        let waiting = Current { asked: WAITS, ..queued };
        assert_eq!(takeover(waiting, 1 << 20, Some(1)), Takeover::Move);
        assert_eq!(takeover(Current { round_trip: WAITS, ..waiting }, 1 << 20, Some(1)), Takeover::Leave);
        assert_eq!(takeover(Current { moves: 1, ..waiting }, 1 << 20, Some(1)), Takeover::Leave);
        assert_eq!(takeover(Current { moves: 1, asked: WAITS * 4, ..waiting }, 1 << 20, Some(1)), Takeover::Move);
    }

    #[test]
    fn what_is_in_service_is_taken_only_if_that_halves_the_time() {
        assert_eq!(takeover(CURRENT, 1 << 20, Some(3 << 19)), Takeover::Leave);
        assert_eq!(takeover(CURRENT, 1 << 20, Some(10 << 20)), Takeover::Take);
        assert_eq!(takeover(Current { ahead: 1 << 18, ..CURRENT }, 1 << 18, Some(10 << 20)), Takeover::Leave);
    }

    #[test]
    fn silence_counts_as_slowness() {
        let silent = Current { silent: Duration::from_secs(3), ..CURRENT };
        assert_eq!(takeover(silent, 1 << 20, Some(1 << 20)), Takeover::Take);
    }
}
