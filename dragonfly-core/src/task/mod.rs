//! What content *is*: the ids of tasks and generations, how content is cut into pieces, which pieces are held,
//! and how each is proven. Pure: no I/O, no clock, no global randomness. Every other room builds on this one.

mod canonical;
mod digest;
mod have;
mod id;
mod layout;
mod preimage;
mod proof;
mod spec;
#[cfg(test)]
mod tests;

pub use canonical::{FILTER_DEFAULT, label};
pub use digest::{Algorithm, Digest, DigestHasher, InvalidDigest};
pub use have::{HaveMap, Runs};
pub use id::{Generation, InvalidId, TaskId};
pub use layout::{InvalidLayout, Layout, PIECE_LENGTH_UNKNOWN, PIECES_MAX, PieceIndex, piece_length_for};
pub use preimage::{rendezvous_score, rendezvous_sort};
pub use proof::{Learnt, Manifest, PieceHash, PieceHasher, WrongLength, hash_piece, root_of};
pub use spec::{
    Class, FILTERED_MAX, HEADER_BYTES_MAX, HEADERS_MAX, InvalidSpec, NAME_BYTES_MAX, PUBLIC_HEADERS, SpecOptions,
    Specified, TaskSpec, URL_BYTES_MAX, Validator,
};
