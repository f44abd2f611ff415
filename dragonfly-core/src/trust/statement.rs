//! Signing and opening what hosts state: each a libp2p SignedEnvelope (RFC 0002) in a domain of ours.
//!
//! Opening checks form, version and signature, and says who signed. Whether that one may say so is for
//! [`super::EvidenceVerifier`].

use libp2p::core::SignedEnvelope;
use libp2p::identity::Keypair;
use minicbor::{Decode, Encode};

use super::codec;
use super::credential::is_tenant;
use super::identity::Identity;
use super::key;
use crate::task::PieceHash;
use crate::wire::PeerId;
use crate::wire::statement::{ATTESTED_PIECES_MAX, Attestation, Grant, Seal, Signed};

/// A whole statement's digests, at most.
const DIGESTS_MAX: usize = 8;

/// Why a statement is not taken for one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StatementError {
    /// The signature is not the named key's, or was made for another kind of statement.
    #[error("the statement's signature does not fit")]
    Forged,
    /// Bytes that are no statement of this kind.
    #[error("the statement is malformed")]
    Malformed,
    /// It is not signed by the one whose word is asked for.
    #[error("the statement is signed by someone else")]
    OtherSigner,
    /// It has more bytes or entries than one of its kind may have.
    #[error("the statement is too long")]
    TooLong,
    /// It is of a version that we do not know.
    #[error("the statement is of a version that this program does not know")]
    Version,
}

/// Something that is signed in a domain of its own.
pub(super) trait Statement: Encode<()> + for<'b> Decode<'b, ()> {
    /// Separates its signatures from all others; also the envelope's payload type.
    const DOMAIN: &'static str;
    /// The envelope's bytes, at most.
    const BYTES_MAX: usize;
    /// Checks what the types do not.
    fn check(&self) -> Result<(), StatementError>;
}

/// Signs a statement.
pub(super) fn sign<T: Statement>(keypair: &Keypair, statement: &T) -> Signed {
    let payload = codec::encode(statement);
    let envelope = SignedEnvelope::new(keypair, T::DOMAIN.to_owned(), T::DOMAIN.into(), payload);
    let envelope = envelope.unwrap_or_else(|_| unreachable!("signing with Ed25519 has no failure"));
    Signed(envelope.into_protobuf_encoding())
}

/// Opens a statement: what it says, and who signed it.
pub(super) fn open<T: Statement>(signed: &Signed) -> Result<(T, PeerId), StatementError> {
    if signed.0.len() > T::BYTES_MAX {
        return Err(StatementError::TooLong);
    }
    let envelope = SignedEnvelope::from_protobuf_encoding(&signed.0).map_err(|_| StatementError::Malformed)?;
    // The signature does not cover the envelope itself, and statements are referred to by the hash of all bytes:
    // there must be one spelling of each.
    if envelope.clone().into_protobuf_encoding() != signed.0 {
        return Err(StatementError::Malformed);
    }
    let (payload, signer) = envelope
        .payload_and_signing_key(T::DOMAIN.to_owned(), T::DOMAIN.as_bytes())
        .map_err(|_| StatementError::Forged)?;
    let signer = key::peer_of(signer).ok_or(StatementError::Malformed)?;
    let statement: T = codec::decode(payload).ok_or(StatementError::Malformed)?;
    statement.check()?;
    Ok((statement, signer))
}

/// The hash by which one statement refers to another.
pub fn hash_of(signed: &Signed) -> [u8; 32] {
    *blake3::hash(&signed.0).as_bytes()
}

impl Statement for Grant {
    const DOMAIN: &'static str = "dragonfly-grant-v1";
    const BYTES_MAX: usize = 1024;
    fn check(&self) -> Result<(), StatementError> {
        match self.version {
            1 if !is_tenant(&self.tenant) || self.first >= self.end => Err(StatementError::Malformed),
            1 => Ok(()),
            _ => Err(StatementError::Version),
        }
    }
}

impl Statement for Attestation {
    const DOMAIN: &'static str = "dragonfly-attestation-v1";
    const BYTES_MAX: usize = 512 + 32 * ATTESTED_PIECES_MAX;
    fn check(&self) -> Result<(), StatementError> {
        if self.is_well_formed() { Ok(()) } else { Err(StatementError::Malformed) }
    }
}

impl Statement for Seal {
    const DOMAIN: &'static str = "dragonfly-seal-v1";
    const BYTES_MAX: usize = 2048;
    fn check(&self) -> Result<(), StatementError> {
        match self.version {
            1 if self.digests.len() > DIGESTS_MAX => Err(StatementError::TooLong),
            1 => Ok(()),
            _ => Err(StatementError::Version),
        }
    }
}

/// Signs a grant.
pub fn sign_grant(identity: &Identity, grant: &Grant) -> Signed {
    sign(identity.keypair(), grant)
}

/// Opens a grant: what it says, and who signed it. An empty range is malformed.
///
/// # Errors
/// It is malformed, too long, forged or of an unknown version.
pub fn open_grant(signed: &Signed) -> Result<(Grant, PeerId), StatementError> {
    open(signed)
}

/// Signs an attestation. [`Attester`] numbers and chains them.
pub fn sign_attestation(identity: &Identity, attestation: &Attestation) -> Signed {
    sign(identity.keypair(), attestation)
}

/// Opens an attestation: what it says (it is well formed), and who signed it.
///
/// # Errors
/// It is malformed, too long or forged.
pub fn open_attestation(signed: &Signed) -> Result<(Attestation, PeerId), StatementError> {
    open(signed)
}

/// Signs a seal.
pub fn sign_seal(identity: &Identity, seal: &Seal) -> Signed {
    sign(identity.keypair(), seal)
}

/// Opens a seal: what it says, and who signed it.
///
/// # Errors
/// It is malformed, too long, forged or of an unknown version.
pub fn open_seal(signed: &Signed) -> Result<(Seal, PeerId), StatementError> {
    open(signed)
}

/// Makes the attestations under one grant: numbers them and chains each to the one before.
#[derive(Clone, Debug)]
pub struct Attester {
    grant: [u8; 32],
    batch: u32,
    previous: [u8; 32],
}

impl Attester {
    /// For a grant to this host, as it was signed.
    pub fn new(grant: &Signed) -> Self {
        Self { grant: hash_of(grant), batch: 0, previous: [0; 32] }
    }

    /// Signs the values of the pieces from `first` on. `None` unless there are 1 to [`ATTESTED_PIECES_MAX`].
    pub fn attest(&mut self, identity: &Identity, first: u32, values: &[PieceHash]) -> Option<Signed> {
        let attestation = Attestation::new(self.grant, self.batch, self.previous, first, values);
        if !attestation.is_well_formed() {
            return None;
        }
        let signed = sign_attestation(identity, &attestation);
        self.batch = self.batch.saturating_add(1);
        self.previous = hash_of(&signed);
        Some(signed)
    }
}

#[cfg(test)]
mod tests;
