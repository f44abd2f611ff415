//! When a request moves from one neighbour to an idle one.

use std::time::Duration;

/// A takeover that saves less than this is not worth the bytes that are on their way already.
const SAVES_MIN: Duration = Duration::from_millis(500);

/// What an idle neighbour that was never measured is expected to need.
const UNMEASURED: Duration = Duration::from_millis(250);

/// A request where it is now.
#[derive(Clone, Copy, Debug)]
pub(super) struct Current {
    /// Bytes that are still to come, those queued ahead of it included.
    pub(super) ahead: u64,
    /// Bytes a second of its neighbour, if known.
    pub(super) rate: Option<u64>,
    /// How long that neighbour has sent nothing.
    pub(super) silent: Duration,
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
    /// It only waits in a queue: move it.
    Move,
    /// Its neighbour is too slow: take it over, and ask that neighbour for nothing for a time.
    Take,
}

/// Whether an idle neighbour of `rate` (bytes a second, if known) should serve `bytes` in place of the current one.
pub(super) fn takeover(current: Current, bytes: u64, rate: Option<u64>) -> Takeover {
    if !current.started && current.older > 0 {
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

    const CURRENT: Current =
        Current { ahead: 1 << 20, rate: Some(1 << 20), silent: Duration::ZERO, started: true, older: 0 };

    #[test]
    fn a_queued_request_moves_freely() {
        assert_eq!(takeover(Current { started: false, older: 1, ..CURRENT }, 1 << 20, Some(1)), Takeover::Move);
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
