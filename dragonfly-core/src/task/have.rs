//! The set of pieces that a peer can serve.

use std::ops::Range;

use super::PieceIndex;

/// A bit per piece, of a fixed number of pieces.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HaveMap {
    words: Vec<u64>,
    pieces: u32,
    held: u32,
}

impl HaveMap {
    /// An empty map for `pieces` pieces.
    pub fn empty(pieces: u32) -> Self {
        Self { words: vec![0; pieces.div_ceil(64) as usize], pieces, held: 0 }
    }

    /// A full map for `pieces` pieces.
    pub fn full(pieces: u32) -> Self {
        let mut map = Self::empty(pieces);
        map.insert_range(0..pieces);
        map
    }

    /// How many pieces the task has.
    pub const fn pieces(&self) -> u32 {
        self.pieces
    }

    /// How many of them are held.
    pub const fn held(&self) -> u32 {
        self.held
    }

    /// Whether every piece is held (true for a task without pieces).
    pub const fn is_complete(&self) -> bool {
        self.held == self.pieces
    }

    /// Whether piece `index` is held; false past the end.
    pub fn contains(&self, index: PieceIndex) -> bool {
        index < self.pieces && self.words[(index / 64) as usize] >> (index % 64) & 1 == 1
    }

    /// Adds piece `index`; whether it is new. Past the end nothing is added.
    pub fn insert(&mut self, index: PieceIndex) -> bool {
        if index >= self.pieces || self.contains(index) {
            return false;
        }
        self.words[(index / 64) as usize] |= 1 << (index % 64);
        self.held += 1;
        true
    }

    /// Adds all of `range` (clipped to the task).
    pub fn insert_range(&mut self, range: Range<PieceIndex>) {
        for index in range.start..range.end.min(self.pieces) {
            self.insert(index);
        }
    }

    /// Removes piece `index`; whether it was held.
    pub fn remove(&mut self, index: PieceIndex) -> bool {
        if !self.contains(index) {
            return false;
        }
        self.words[(index / 64) as usize] &= !(1 << (index % 64));
        self.held -= 1;
        true
    }

    /// The held pieces as runs of consecutive ones, in order.
    pub fn runs(&self) -> Runs<'_> {
        Runs { map: self, next: 0 }
    }

    /// The held pieces, in order.
    pub fn iter(&self) -> impl Iterator<Item = PieceIndex> + '_ {
        self.runs().flatten()
    }

    /// The first piece at or after `from` that is held (`held` true) or missing (`held` false).
    pub fn next(&self, from: PieceIndex, held: bool) -> Option<PieceIndex> {
        let mut index = from;
        while index < self.pieces {
            let word = self.words[(index / 64) as usize];
            let word = if held { word } else { !word } >> (index % 64);
            if word != 0 {
                let found = index + word.trailing_zeros();
                return (found < self.pieces).then_some(found);
            }
            index = (index / 64 + 1) * 64;
        }
        None
    }
}

/// The runs of a [`HaveMap`]; see [`HaveMap::runs`].
#[derive(Clone, Debug)]
pub struct Runs<'a> {
    map: &'a HaveMap,
    next: PieceIndex,
}

impl Iterator for Runs<'_> {
    type Item = Range<PieceIndex>;

    fn next(&mut self) -> Option<Range<PieceIndex>> {
        let start = self.map.next(self.next, true)?;
        let end = self.map.next(start, false).unwrap_or(self.map.pieces());
        self.next = end;
        Some(start..end)
    }
}
