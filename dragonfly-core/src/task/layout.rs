//! How content is cut into pieces: a pure function of its length.

use std::ops::Range;

/// The number of a piece, from 0.
pub type PieceIndex = u32;

/// No task has more pieces than this; larger content has larger pieces.
pub const PIECES_MAX: u32 = 65_536;

/// The piece length of content whose length is not known when its first piece is made.
pub const PIECE_LENGTH_UNKNOWN: u64 = 1 << 20;

/// The smallest piece: below it, per-piece costs outweigh what finer pieces gain.
const PIECE_LENGTH_MIN: u64 = 64 << 10;

/// The largest piece chosen for good piece counts; only [`PIECES_MAX`] makes larger ones.
const PIECE_LENGTH_PREFERRED_MAX: u64 = 4 << 20;

/// About this many pieces bring the last host within a few percent of the bound (`docs/design`).
const PIECES_WANTED: u64 = 1024;

/// The piece length in bytes of content of `length` bytes: a power of two, frozen by test vectors.
pub const fn piece_length_for(length: u64) -> u64 {
    let wanted = pow2_ceil(length.div_ceil(PIECES_WANTED));
    let clamped = if wanted < PIECE_LENGTH_MIN {
        PIECE_LENGTH_MIN
    } else if wanted > PIECE_LENGTH_PREFERRED_MAX {
        PIECE_LENGTH_PREFERRED_MAX
    } else {
        wanted
    };
    let floor = pow2_ceil(length.div_ceil(PIECES_MAX as u64));
    if clamped > floor { clamped } else { floor }
}

const fn pow2_ceil(n: u64) -> u64 {
    match n.checked_next_power_of_two() {
        Some(n) => n,
        None => 1 << 63,
    }
}

/// The length of content and of its pieces. Only valid layouts exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Layout {
    length: u64,
    piece_length: u64,
}

/// A claimed length and piece length that fit no task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no valid layout: length {length}, piece length {piece_length}")]
pub struct InvalidLayout {
    /// The claimed length in bytes.
    pub length: u64,
    /// The claimed piece length in bytes.
    pub piece_length: u64,
}

impl Layout {
    /// The layout of content whose length was known from the start.
    ///
    /// # Errors
    /// Lengths above 2^62 bytes are refused.
    pub fn of_length(length: u64) -> Result<Self, InvalidLayout> {
        Self::new(length, piece_length_for(length))
    }

    /// A layout with a given piece length: content of unknown length, or a claim read from the wire.
    ///
    /// # Errors
    /// The piece length must be a power of two of at least 64 KiB and give at most [`PIECES_MAX`] pieces.
    pub fn new(length: u64, piece_length: u64) -> Result<Self, InvalidLayout> {
        let valid = length <= 1 << 62
            && piece_length.is_power_of_two()
            && (PIECE_LENGTH_MIN..=1 << 46).contains(&piece_length)
            && length.div_ceil(piece_length) <= PIECES_MAX as u64;
        if !valid {
            return Err(InvalidLayout { length, piece_length });
        }
        Ok(Self { length, piece_length })
    }

    /// Bytes in all.
    pub const fn length(&self) -> u64 {
        self.length
    }

    /// Bytes of every piece but the last.
    pub const fn piece_length(&self) -> u64 {
        self.piece_length
    }

    /// How many pieces; zero for empty content.
    pub const fn pieces(&self) -> u32 {
        self.length.div_ceil(self.piece_length) as u32
    }

    /// Where piece `index` starts, in bytes. Past the end it is some number past the end.
    pub const fn offset(&self, index: PieceIndex) -> u64 {
        (index as u64).saturating_mul(self.piece_length)
    }

    /// The length of piece `index` in bytes, `None` past the end.
    pub fn length_of(&self, index: PieceIndex) -> Option<u64> {
        (index < self.pieces()).then(|| (self.length - self.offset(index)).min(self.piece_length))
    }

    /// The bytes of piece `index`, `None` past the end.
    pub fn range_of(&self, index: PieceIndex) -> Option<Range<u64>> {
        let start = self.offset(index);
        self.length_of(index).map(|length| start..start + length)
    }

    /// The pieces that overlap `bytes` (clipped to the content).
    pub fn pieces_of(&self, bytes: Range<u64>) -> Range<PieceIndex> {
        let end = bytes.end.min(self.length);
        if bytes.start >= end {
            return 0..0;
        }
        (bytes.start / self.piece_length) as u32..end.div_ceil(self.piece_length) as u32
    }
}
