//! A set of pieces whose intersection with another can be walked word by word.

use crate::task::PieceIndex;

/// A bit per piece.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Bits {
    words: Vec<u64>,
    pieces: u32,
    count: u32,
}

impl Bits {
    pub(super) fn empty(pieces: u32) -> Self {
        Self { words: vec![0; pieces.div_ceil(64) as usize], pieces, count: 0 }
    }

    pub(super) const fn count(&self) -> u32 {
        self.count
    }

    pub(super) const fn is_full(&self) -> bool {
        self.count == self.pieces
    }

    pub(super) fn contains(&self, piece: PieceIndex) -> bool {
        piece < self.pieces && self.words[(piece / 64) as usize] >> (piece % 64) & 1 == 1
    }

    /// Adds `piece`; whether that changed anything.
    pub(super) fn insert(&mut self, piece: PieceIndex) -> bool {
        if piece >= self.pieces || self.contains(piece) {
            return false;
        }
        self.words[(piece / 64) as usize] |= 1 << (piece % 64);
        self.count += 1;
        true
    }

    /// Removes `piece`; whether that changed anything.
    pub(super) fn remove(&mut self, piece: PieceIndex) -> bool {
        if !self.contains(piece) {
            return false;
        }
        self.words[(piece / 64) as usize] &= !(1 << (piece % 64));
        self.count -= 1;
        true
    }

    /// Keeps only what is in `other`, too.
    pub(super) fn keep(&mut self, other: &Self) {
        self.count = 0;
        for (word, other) in self.words.iter_mut().zip(&other.words) {
            *word &= other;
            self.count += word.count_ones();
        }
    }

    /// Removes what is in `other`.
    pub(super) fn remove_all(&mut self, other: &Self) {
        for (word, other) in self.words.iter_mut().zip(&other.words) {
            self.count -= (*word & other).count_ones();
            *word &= !other;
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = PieceIndex> + '_ {
        self.common(self, 0)
    }

    /// The pieces in both sets, in order from the word of `start` on and once around.
    pub(super) fn common<'a>(&'a self, other: &'a Self, start: PieceIndex) -> impl Iterator<Item = PieceIndex> + 'a {
        let words = self.words.len().min(other.words.len());
        let first = (start / 64) as usize;
        let first = if first < words { first } else { 0 };
        (first..words).chain(0..first).flat_map(move |index| {
            let mut word = self.words[index] & other.words[index];
            std::iter::from_fn(move || {
                if word == 0 {
                    return None;
                }
                let bit = word.trailing_zeros();
                word &= word - 1;
                Some(index as u32 * 64 + bit)
            })
        })
    }
}
