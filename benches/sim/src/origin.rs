//! The origin: its bandwidth, shared piece by piece among those who fetch, and a count of what left it.

use std::collections::VecDeque;

use dragonfly_core::swarm::{LeaseKey, TaskKey, Time};

/// A range being fetched.
#[derive(Clone, Debug)]
pub(crate) struct Fetch {
    pub(crate) host: u32,
    pub(crate) task: TaskKey,
    pub(crate) lease: LeaseKey,
    pub(crate) next: u32,
    pub(crate) end: u32,
    /// When it began, or brought something last.
    pub(crate) heard: Time,
}

/// Where content comes from.
#[derive(Debug)]
pub struct Origin {
    /// Bytes a second to everybody together.
    pub rate: u64,
    /// Bytes that have left it.
    pub bytes: u64,
    /// So many of the next fetches fail before their first byte.
    pub failures: u32,
    /// So many of the next pieces do not come to their end: the fetch breaks off.
    pub breaks: u32,
    /// Nothing leaves it before then.
    pub stalled_until: Time,
    pub(crate) fetches: VecDeque<Fetch>,
    pub(crate) is_busy: bool,
}

impl Origin {
    pub(crate) const fn new(rate: u64) -> Self {
        Self {
            rate,
            bytes: 0,
            failures: 0,
            breaks: 0,
            stalled_until: Time::ZERO,
            fetches: VecDeque::new(),
            is_busy: false,
        }
    }

    /// Everything that was to go wrong does not any more.
    pub const fn mend(&mut self) {
        (self.failures, self.breaks, self.stalled_until) = (0, 0, Time::ZERO);
    }

    pub(crate) fn abort(&mut self, host: u32, task: TaskKey, lease: LeaseKey) {
        self.fetches.retain(|fetch| fetch.host != host || fetch.task != task || fetch.lease != lease);
    }
}
