//! Events in the order of their times, and of their making where times are equal.

use std::collections::BTreeMap;

use dragonfly_core::swarm::Time;

/// What will happen when.
#[derive(Debug)]
pub struct Queue<E> {
    events: BTreeMap<(Time, u64), E>,
    made: u64,
    /// The number of the event that was taken last.
    taken: u64,
}

impl<E> Default for Queue<E> {
    fn default() -> Self {
        Self { events: BTreeMap::new(), made: 0, taken: 0 }
    }
}

impl<E> Queue<E> {
    /// Lets `event` happen at `at`.
    pub fn push(&mut self, at: Time, event: E) {
        self.events.insert((at, self.made), event);
        self.made += 1;
    }

    /// The next event and its time.
    pub fn pop(&mut self) -> Option<(Time, E)> {
        let ((at, number), event) = self.events.pop_first()?;
        self.taken = number;
        Some((at, event))
    }

    /// Puts back the event that was taken last, in its old place.
    pub fn push_back(&mut self, at: Time, event: E) {
        self.events.insert((at, self.taken), event);
    }
}
