//! Proof of every piece by BLAKE3.
//!
//! A piece is an aligned power-of-two run of chunks, so its chaining value is a subtree of the BLAKE3 hash of the
//! whole: the list of values proves the content and the hash of the content proves the list. Content of one piece
//! is proven by the root hash itself, which is finalised differently.
//! Source: the BLAKE3 specification, section 2.1; `blake3::hazmat`.

use blake3::hazmat::{self, HasherExt as _, Mode};

use super::{Layout, PIECES_MAX, PieceIndex};

/// The BLAKE3 chaining value of one piece, or the root hash where the content is one piece.
pub type PieceHash = [u8; 32];

/// Hashes one piece as its bytes arrive in order. It never takes a byte more than the piece has, so the hazards of
/// the underlying functions (they assert on bad lengths) are out of a peer's reach.
#[derive(Clone)]
pub struct PieceHasher {
    hasher: blake3::Hasher,
    taken: u64,
    offset: u64,
    length_max: u64,
}

/// More bytes than the piece may have, or fewer at its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("wrong length of a piece: {taken} bytes, expected {expected}")]
pub struct WrongLength {
    /// Bytes seen.
    pub taken: u64,
    /// Bytes expected.
    pub expected: u64,
}

impl PieceHasher {
    /// A hasher for piece `index` of pieces of `piece_length` bytes, the total being unknown. If no valid layout has
    /// such a piece, it takes no byte.
    pub fn new(index: PieceIndex, piece_length: u64) -> Self {
        let mut hasher = blake3::Hasher::new();
        let valid = index < PIECES_MAX && Layout::new(0, piece_length).is_ok();
        let (offset, length_max) = if valid { (u64::from(index) * piece_length, piece_length) } else { (0, 0) };
        if offset > 0 {
            // Piece offsets are multiples of the piece length, a power of two of at least 64 KiB: the assertion
            // on alignment inside cannot fail.
            hasher.set_input_offset(offset);
        }
        Self { hasher, taken: 0, offset, length_max }
    }

    /// Takes the next bytes of the piece.
    ///
    /// # Errors
    /// More bytes in all than a piece has; nothing of `bytes` is taken then.
    pub fn update(&mut self, bytes: &[u8]) -> Result<(), WrongLength> {
        let taken = self.taken + bytes.len() as u64;
        if taken > self.length_max {
            return Err(WrongLength { taken, expected: self.length_max });
        }
        self.hasher.update(bytes);
        self.taken = taken;
        Ok(())
    }

    /// How many bytes were taken.
    pub const fn taken(&self) -> u64 {
        self.taken
    }

    /// The piece's value under `layout`, of which it must be a whole piece.
    ///
    /// # Errors
    /// Another number of bytes was taken than the piece has, or at another place.
    pub fn finish(self, layout: &Layout, index: PieceIndex) -> Result<PieceHash, WrongLength> {
        let range = layout.range_of(index).filter(|range| range.start == self.offset).unwrap_or(0..0);
        let expected = range.end - range.start;
        if self.taken != expected || expected == 0 {
            return Err(WrongLength { taken: self.taken, expected });
        }
        Ok(if layout.pieces() == 1 { *self.hasher.finalize().as_bytes() } else { self.hasher.finalize_non_root() })
    }
}

impl std::fmt::Debug for PieceHasher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PieceHasher").field("taken", &self.taken).finish_non_exhaustive()
    }
}

/// The hash of a whole piece; see [`PieceHasher`].
///
/// # Errors
/// `bytes` has another length than piece `index`.
pub fn hash_piece(layout: &Layout, index: PieceIndex, bytes: &[u8]) -> Result<PieceHash, WrongLength> {
    let mut hasher = PieceHasher::new(index, layout.piece_length());
    hasher.update(bytes)?;
    hasher.finish(layout, index)
}

/// The BLAKE3 hash of the content whose pieces have these values, in order.
pub fn root_of(values: &[PieceHash]) -> [u8; 32] {
    match values {
        [] => *blake3::hash(b"").as_bytes(),
        [only] => *only,
        _ => {
            let (left, right) = values.split_at(left_pieces(values.len()));
            *hazmat::merge_subtrees_root(&subtree(left), &subtree(right), Mode::Hash).as_bytes()
        }
    }
}

fn subtree(values: &[PieceHash]) -> PieceHash {
    if let [only] = values {
        return *only;
    }
    let (left, right) = values.split_at(left_pieces(values.len()));
    hazmat::merge_subtrees_non_root(&subtree(left), &subtree(right), Mode::Hash)
}

/// The left subtree takes the largest power of two below the whole.
const fn left_pieces(pieces: usize) -> usize {
    pieces.next_power_of_two() / 2
}

/// What is known of a generation's pieces: its layout and the values learnt so far.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Manifest {
    layout: Layout,
    values: Vec<Option<PieceHash>>,
    known: u32,
}

/// What adding a value to a [`Manifest`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Learnt {
    /// Another value is known for this piece: one of the two signers lies. Nothing was changed.
    Conflict,
    /// The value is new.
    New,
    /// The piece does not exist. Nothing was changed.
    OutOfRange,
    /// The same value was known.
    Same,
}

impl Manifest {
    /// A manifest that knows the layout alone.
    pub fn new(layout: Layout) -> Self {
        Self { values: vec![None; layout.pieces() as usize], layout, known: 0 }
    }

    /// The layout.
    pub const fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The value of piece `index`, if known.
    pub fn value(&self, index: PieceIndex) -> Option<&PieceHash> {
        self.values.get(index as usize)?.as_ref()
    }

    /// Learns the value of a piece from a statement that the caller has verified.
    pub fn learn(&mut self, index: PieceIndex, value: PieceHash) -> Learnt {
        match self.values.get_mut(index as usize) {
            None => Learnt::OutOfRange,
            Some(Some(known)) if *known == value => Learnt::Same,
            Some(Some(_)) => Learnt::Conflict,
            Some(slot) => {
                *slot = Some(value);
                self.known += 1;
                Learnt::New
            }
        }
    }

    /// Forgets the value of a piece, after its signer was found to lie.
    pub fn forget(&mut self, index: PieceIndex) {
        if let Some(slot) = self.values.get_mut(index as usize)
            && slot.take().is_some()
        {
            self.known -= 1;
        }
    }

    /// How many values are known.
    pub const fn known(&self) -> u32 {
        self.known
    }

    /// The BLAKE3 hash of the content, once every value is known.
    pub fn root(&self) -> Option<[u8; 32]> {
        let values: Option<Vec<PieceHash>> = self.values.iter().copied().collect();
        values.map(|values| root_of(&values))
    }
}
