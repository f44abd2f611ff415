//! What hosts sign (`docs/design/trust.md`): plain structs; `trust` signs and checks them.

use minicbor::{Decode, Encode};

use super::PeerId;
use crate::task::{Digest, Generation, PieceHash, PieceIndex, TaskId};

/// The most pieces one attestation names.
pub const ATTESTED_PIECES_MAX: usize = 64;

/// An encoded signed envelope, with the domain and the payload inside. Opaque until `trust` has checked it.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Encode, Decode)]
#[cbor(transparent)]
pub struct Signed(#[cbor(with = "minicbor::bytes")] pub Vec<u8>);

/// A coordinator's word that a host may fetch a range of a generation from the origin.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub struct Grant {
    /// The version of this statement; 1.
    #[n(0)]
    pub version: u8,
    /// The network's public key.
    #[n(1)]
    #[cbor(with = "minicbor::bytes")]
    pub network: [u8; 32],
    /// The account whose content it is.
    #[n(2)]
    pub tenant: String,
    /// The task.
    #[n(3)]
    pub task: TaskId,
    /// The version of its content.
    #[n(4)]
    pub generation: Generation,
    /// The content's length in bytes, a claim until proven.
    #[n(5)]
    pub length: u64,
    /// The piece length in bytes.
    #[n(6)]
    pub piece_length: u64,
    /// The first piece of the range.
    #[n(7)]
    pub first: PieceIndex,
    /// The piece after the last one.
    #[n(8)]
    pub end: PieceIndex,
    /// Who may fetch it.
    #[n(9)]
    pub holder: PeerId,
    /// Grows with every grant for the task.
    #[n(10)]
    pub epoch: u64,
}

/// A holder's word that consecutive pieces have these values.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub struct Attestation {
    /// The BLAKE3 hash of the signed grant.
    #[n(0)]
    #[cbor(with = "minicbor::bytes")]
    pub grant: [u8; 32],
    /// Numbers the attestations under one grant, from 0.
    #[n(1)]
    pub batch: u32,
    /// The BLAKE3 hash of the signed attestation before this one under the same grant; zeros for batch 0.
    #[n(2)]
    #[cbor(with = "minicbor::bytes")]
    pub previous: [u8; 32],
    /// The first piece.
    #[n(3)]
    pub first: PieceIndex,
    /// The values of it and of those that follow: 1 to [`ATTESTED_PIECES_MAX`] of 32 bytes, concatenated.
    #[n(4)]
    #[cbor(with = "minicbor::bytes")]
    values: Vec<u8>,
}

impl Attestation {
    /// An attestation for the pieces from `first` on.
    pub fn new(grant: [u8; 32], batch: u32, previous: [u8; 32], first: PieceIndex, values: &[PieceHash]) -> Self {
        Self { grant, batch, previous, first, values: values.concat() }
    }

    /// The pieces' values, in order. Checked by `trust` to be 1 to [`ATTESTED_PIECES_MAX`] whole values.
    pub fn values(&self) -> impl ExactSizeIterator<Item = PieceHash> + '_ {
        self.values.as_chunks::<32>().0.iter().copied()
    }

    /// Whether the number of values is allowed and no bytes are left over.
    pub fn is_well_formed(&self) -> bool {
        let (values, rest) = self.values.as_chunks::<32>();
        rest.is_empty() && (1..=ATTESTED_PIECES_MAX).contains(&values.len())
    }
}

/// A coordinator's or seed's word on a whole generation.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub struct Seal {
    /// The version of this statement; 1.
    #[n(0)]
    pub version: u8,
    /// The network's public key.
    #[n(1)]
    #[cbor(with = "minicbor::bytes")]
    pub network: [u8; 32],
    /// The task.
    #[n(2)]
    pub task: TaskId,
    /// The version of its content.
    #[n(3)]
    pub generation: Generation,
    /// The content's length in bytes.
    #[n(4)]
    pub length: u64,
    /// The piece length in bytes.
    #[n(5)]
    pub piece_length: u64,
    /// The BLAKE3 hash of the content.
    #[n(6)]
    #[cbor(with = "minicbor::bytes")]
    pub root: [u8; 32],
    /// Digests of the whole that were computed beside it; at most 8.
    #[n(7)]
    pub digests: Vec<Digest>,
}

/// What lets anyone in the network check an attestation: the signed grant and the credentials of both signers.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub struct GrantBundle {
    /// The signed [`Grant`].
    #[n(0)]
    pub grant: Signed,
    /// The grantor's encoded credential.
    #[n(1)]
    #[cbor(with = "minicbor::bytes")]
    pub grantor: Vec<u8>,
    /// The holder's encoded credential.
    #[n(2)]
    #[cbor(with = "minicbor::bytes")]
    pub holder: Vec<u8>,
}

/// A signed seal and its signer's credential.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub struct SealBundle {
    /// The signed [`Seal`].
    #[n(0)]
    pub seal: Signed,
    /// The signer's encoded credential.
    #[n(1)]
    #[cbor(with = "minicbor::bytes")]
    pub signer: Vec<u8>,
}

/// What proves pieces to a neighbour, in the order in which it must be shown: grants before their attestations.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub enum Evidence {
    /// A signed [`Attestation`].
    #[n(0)]
    Attestation(#[n(0)] Signed),
    /// A grant that attestations refer to.
    #[n(1)]
    Grant(#[n(0)] GrantBundle),
    /// A seal.
    #[n(2)]
    Seal(#[n(0)] SealBundle),
}
