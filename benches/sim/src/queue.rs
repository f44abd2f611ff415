//! Events in the order of their times, and of their making where times are equal.
//!
//! Nearly all events of a swarm lie a few milliseconds ahead. They go into a wheel of short slots that are put in order
//! only when their time comes, so that an event costs the same however many wait: at 100 000 hosts a tree of all of
//! them took most of the time.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use dragonfly_core::swarm::Time;

/// A slot of the wheel is 2^17 ns, 131 us: a few thousand events in the largest runs, few enough to order in the cache.
const SLOT_BITS: u32 = 17;

/// Slots of the wheel: half a second, within which lie all messages and have-map ticks.
const SLOTS: u64 = 4096;

/// Its time in nanoseconds, its number, and where it is kept.
type Entry = (u64, u64, u32);

/// What will happen when.
#[derive(Debug)]
pub struct Queue<E> {
    /// Events by the last part of their entries: entries are what is ordered, events stay where they are.
    events: Vec<Option<E>>,
    free: Vec<u32>,
    /// What lies in the present slot, or before it.
    present: BinaryHeap<Reverse<Entry>>,
    /// The number of the present slot.
    slot: u64,
    wheel: Vec<Vec<Entry>>,
    /// Events on the wheel.
    waiting: usize,
    /// What lies beyond the wheel.
    far: BTreeMap<u64, Vec<Entry>>,
    made: u64,
}

impl<E> Default for Queue<E> {
    fn default() -> Self {
        Self {
            events: Vec::new(),
            free: Vec::new(),
            present: BinaryHeap::new(),
            slot: 0,
            wheel: (0..SLOTS).map(|_| Vec::new()).collect(),
            waiting: 0,
            far: BTreeMap::new(),
            made: 0,
        }
    }
}

impl<E> Queue<E> {
    /// Lets `event` happen at `at`.
    pub fn push(&mut self, at: Time, event: E) {
        let index = match self.free.pop() {
            Some(index) => {
                self.events[index as usize] = Some(event);
                index
            }
            None => {
                self.events.push(Some(event));
                (self.events.len() - 1) as u32
            }
        };
        let nanos = at.0.as_nanos() as u64;
        let entry = (nanos, self.made, index);
        self.made += 1;
        self.place(entry);
    }

    fn place(&mut self, entry: Entry) {
        let slot = entry.0 >> SLOT_BITS;
        if slot <= self.slot {
            self.present.push(Reverse(entry));
        } else if slot - self.slot < SLOTS {
            self.wheel[(slot % SLOTS) as usize].push(entry);
            self.waiting += 1;
        } else {
            self.far.entry(slot).or_default().push(entry);
        }
    }

    /// When the next event happens.
    pub fn next_at(&mut self) -> Option<Time> {
        while self.present.is_empty() {
            self.turn()?;
        }
        self.present.peek().map(|Reverse((at, ..))| Time(std::time::Duration::from_nanos(*at)))
    }

    /// The next event and its time.
    pub fn pop(&mut self) -> Option<(Time, E)> {
        let at = self.next_at()?;
        let Reverse((.., index)) = self.present.pop()?;
        self.free.push(index);
        self.events[index as usize].take().map(|event| (at, event))
    }

    /// Goes on to the next slot with events; `None` if there is none.
    fn turn(&mut self) -> Option<()> {
        if self.waiting > 0 {
            self.slot += 1;
        } else {
            self.slot = *self.far.keys().next()?;
        }
        // What has come within reach goes onto the wheel.
        while let Some(first) = self.far.first_entry()
            && *first.key() < self.slot + SLOTS
        {
            first.remove().into_iter().for_each(|entry| self.place(entry));
        }
        let due = &mut self.wheel[(self.slot % SLOTS) as usize];
        self.waiting -= due.len();
        self.present.extend(due.drain(..).map(Reverse));
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn events_come_in_the_order_of_time_and_making() {
        let mut queue = Queue::default();
        let times = [5_000_000_000, 3, 3, 700_000_000, 131_072, 0, 600_000_000, 40_000_000_000];
        for (number, nanos) in times.into_iter().enumerate() {
            queue.push(Time(Duration::from_nanos(nanos)), number);
        }
        let mut order = Vec::new();
        while let Some((at, number)) = queue.pop() {
            order.push(number);
            if number == 4 {
                // Behind the present, and at it.
                queue.push(Time(Duration::from_nanos(1)), 100);
                queue.push(at, 101);
            }
        }
        assert_eq!(order, [5, 1, 2, 4, 100, 101, 6, 3, 0, 7]);
        assert_eq!(queue.next_at(), None);
    }
}
