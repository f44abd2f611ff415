//! Sets of pieces as disjoint, merged ranges.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::task::PieceIndex;

/// A set of pieces: start -> end, disjoint and never adjacent.
#[derive(Clone, Default, Debug, PartialEq, Eq)]
pub(super) struct RangeSet {
    ranges: BTreeMap<PieceIndex, PieceIndex>,
    len: u32,
}

impl RangeSet {
    /// All of `range`.
    pub(super) fn of(range: Range<PieceIndex>) -> Self {
        let mut set = Self::default();
        set.insert(range);
        set
    }

    /// How many pieces.
    pub(super) const fn len(&self) -> u32 {
        self.len
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The first range.
    pub(super) fn first(&self) -> Option<Range<PieceIndex>> {
        self.ranges.first_key_value().map(|(&start, &end)| start..end)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = Range<PieceIndex>> + '_ {
        self.ranges.iter().map(|(&start, &end)| start..end)
    }

    /// The part of `range` from its start on that is in the set without a gap.
    pub(super) fn prefix_of(&self, range: Range<PieceIndex>) -> Range<PieceIndex> {
        let end = match self.ranges.range(..=range.start).next_back() {
            Some((_, &end)) if end > range.start => end.min(range.end),
            _ => range.start,
        };
        range.start..end
    }

    /// Adds `range`.
    pub(super) fn insert(&mut self, range: Range<PieceIndex>) {
        if range.is_empty() {
            return;
        }
        self.remove(range.clone());
        self.len += range.end - range.start;
        let Range { mut start, mut end } = range;
        if let Some((&before, &touches)) = self.ranges.range(..start).next_back()
            && touches == start
        {
            start = before;
        }
        if let Some(after) = self.ranges.remove(&end) {
            end = after;
        }
        self.ranges.insert(start, end);
    }

    /// Takes `range` away.
    pub(super) fn remove(&mut self, range: Range<PieceIndex>) {
        if range.is_empty() {
            return;
        }
        while let Some((&start, &end)) = self.ranges.range(..range.end).next_back() {
            if end <= range.start {
                break;
            }
            self.ranges.remove(&start);
            self.len -= end.min(range.end) - start.max(range.start);
            if end > range.end {
                self.ranges.insert(range.end, end);
            }
            if start < range.start {
                self.ranges.insert(start, range.start);
            }
        }
    }

    /// Adds all of `other`.
    pub(super) fn absorb(&mut self, other: &Self) {
        other.iter().for_each(|range| self.insert(range));
    }
}
