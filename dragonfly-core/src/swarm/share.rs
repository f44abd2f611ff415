//! Fair shares among tasks: a lower class goes first, and within a class the task that had the fewest bytes.

/// Classes of priority, 0 the most urgent; `wire::control` has as many.
pub(super) const CLASSES: usize = 8;

/// Counts bytes so that a task that was idle gets its share from now on, not what it missed (start-time fair
/// queueing; it is deficit round-robin with a quantum of one request).
#[derive(Clone, Debug, Default)]
pub(super) struct Shares {
    floor: [u64; CLASSES],
}

impl Shares {
    /// Where a task stands that `used` so much: the least goes first.
    pub(super) fn rank(&self, class: usize, used: u64) -> u64 {
        used.max(self.floor[class])
    }

    /// Charges `bytes` to a task.
    pub(super) fn charge(&mut self, class: usize, used: &mut u64, bytes: u64) {
        self.floor[class] = self.rank(class, *used);
        *used = self.floor[class].saturating_add(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_tasks_alternate_by_bytes_and_a_late_one_does_not_catch_up() {
        let mut shares = Shares::default();
        let mut used = [0u64; 3];
        let mut had = [0u64; 3];
        for turn in 0..300 {
            let tasks = if turn < 100 { 2 } else { 3 };
            let next = (0..tasks).min_by_key(|task| shares.rank(0, used[*task])).unwrap_or(0);
            // Task 1 takes twice as much a turn.
            let bytes = if next == 1 { 2 } else { 1 };
            shares.charge(0, &mut used[next], bytes);
            had[next] += bytes;
        }
        assert!(had[0].abs_diff(had[1]) <= 3, "{had:?}");
        assert!(had[2] < had[0] && had[2] > 50, "{had:?}");
    }
}
