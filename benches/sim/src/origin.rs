//! The origin: its bandwidth, shared piece by piece among those who fetch, and a count of what left it.

use std::collections::VecDeque;

use dragonfly_core::swarm::{LeaseKey, TaskKey};

/// A range being fetched.
#[derive(Clone, Debug)]
pub(crate) struct Fetch {
    pub(crate) host: u32,
    pub(crate) task: TaskKey,
    pub(crate) lease: LeaseKey,
    pub(crate) next: u32,
    pub(crate) end: u32,
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
    pub(crate) fetches: VecDeque<Fetch>,
    pub(crate) is_busy: bool,
}

impl Origin {
    pub(crate) const fn new(rate: u64) -> Self {
        Self { rate, bytes: 0, failures: 0, fetches: VecDeque::new(), is_busy: false }
    }

    pub(crate) fn abort(&mut self, host: u32, task: TaskKey, lease: LeaseKey) {
        self.fetches.retain(|fetch| fetch.host != host || fetch.task != task || fetch.lease != lease);
    }
}
