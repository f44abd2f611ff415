//! The state of every piece of a task, and how many neighbours hold it.

use super::bits::Bits;
use crate::task::{HaveMap, PieceIndex};

/// Where a piece is. Exactly one at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PieceState {
    /// In the store.
    Held,
    /// Being fetched from the origin under a lease of ours.
    Leased,
    /// Nowhere yet.
    Missing,
    /// Arrived and proven; the store has not confirmed it.
    Proven,
    /// Asked of one neighbour.
    Requested,
}

/// All pieces of a task.
#[derive(Debug)]
pub(super) struct Pieces {
    state: Vec<PieceState>,
    holders: Vec<u16>,
    missing: Bits,
    orphans: u32,
    have: HaveMap,
}

impl Pieces {
    /// All pieces of `have` held, all others missing.
    pub(super) fn new(have: HaveMap) -> Self {
        let pieces = have.pieces();
        let mut all = Self {
            state: vec![PieceState::Missing; pieces as usize],
            holders: vec![0; pieces as usize],
            missing: Bits::empty(pieces),
            orphans: 0,
            have: HaveMap::empty(pieces),
        };
        for piece in 0..pieces {
            all.missing.insert(piece);
        }
        all.orphans = pieces;
        for piece in have.iter() {
            all.set(piece, PieceState::Held);
        }
        all
    }

    pub(super) const fn have(&self) -> &HaveMap {
        &self.have
    }

    pub(super) const fn missing(&self) -> &Bits {
        &self.missing
    }

    /// Missing pieces that no neighbour holds.
    pub(super) const fn orphans(&self) -> u32 {
        self.orphans
    }

    /// `None` past the end.
    pub(super) fn state(&self, piece: PieceIndex) -> Option<PieceState> {
        self.state.get(piece as usize).copied()
    }

    pub(super) fn is(&self, piece: PieceIndex, state: PieceState) -> bool {
        self.state(piece) == Some(state)
    }

    /// How many neighbours hold `piece`; 0 past the end.
    pub(super) fn holders(&self, piece: PieceIndex) -> u16 {
        self.holders.get(piece as usize).copied().unwrap_or(0)
    }

    /// Moves a piece to another state. Past the end nothing happens.
    pub(super) fn set(&mut self, piece: PieceIndex, state: PieceState) {
        let Some(slot) = self.state.get_mut(piece as usize) else { return };
        let old = std::mem::replace(slot, state);
        if old == state {
            return;
        }
        let orphan = u32::from(self.holders[piece as usize] == 0);
        match old {
            PieceState::Missing => {
                self.missing.remove(piece);
                self.orphans -= orphan;
            }
            PieceState::Held => {
                self.have.remove(piece);
            }
            PieceState::Leased | PieceState::Proven | PieceState::Requested => {}
        }
        match state {
            PieceState::Missing => {
                self.missing.insert(piece);
                self.orphans += orphan;
            }
            PieceState::Held => {
                self.have.insert(piece);
            }
            PieceState::Leased | PieceState::Proven | PieceState::Requested => {}
        }
    }

    /// One more neighbour holds `piece`, which exists.
    pub(super) fn holder_added(&mut self, piece: PieceIndex) {
        let holders = &mut self.holders[piece as usize];
        *holders += 1;
        if *holders == 1 && self.missing.contains(piece) {
            self.orphans -= 1;
        }
    }

    /// One neighbour fewer holds `piece`, which exists.
    pub(super) fn holder_removed(&mut self, piece: PieceIndex) {
        let holders = &mut self.holders[piece as usize];
        *holders -= 1;
        if *holders == 0 && self.missing.contains(piece) {
            self.orphans += 1;
        }
    }

    pub(super) fn assert_invariants(&self) {
        let mut orphans = 0;
        for (piece, state) in (0u32..).zip(&self.state) {
            assert_eq!(*state == PieceState::Held, self.have.contains(piece), "held, piece {piece}");
            assert_eq!(*state == PieceState::Missing, self.missing.contains(piece), "missing, piece {piece}");
            orphans += u32::from(*state == PieceState::Missing && self.holders(piece) == 0);
        }
        assert_eq!(orphans, self.orphans, "orphans");
    }
}
