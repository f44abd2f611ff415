//! Address records: where a host says it can be reached, signed by itself (libp2p RFC 0003).

use libp2p::core::{PeerRecord, SignedEnvelope};

use super::identity::Identity;
use super::statement::StatementError;
use crate::wire::statement::Signed;
use crate::wire::{Address, PeerId};

/// A record's bytes, at most.
pub const RECORD_MAX: usize = 4096;

/// A record's addresses, at most: more are more to try in vain.
pub const ADDRESSES_MAX: usize = 16;

/// Signs the addresses of this host. Records made later have a higher serial (the time, as libp2p has it).
///
/// # Errors
/// More than [`ADDRESSES_MAX`] addresses, more than [`RECORD_MAX`] bytes, or an address of another peer.
pub fn sign_record(identity: &Identity, addresses: &[Address]) -> Result<Signed, StatementError> {
    check(addresses, identity.peer_id())?;
    let record = PeerRecord::new_interop(identity.keypair(), addresses.iter().map(Address::to_libp2p).collect())
        .unwrap_or_else(|_| unreachable!("signing with Ed25519 has no failure"));
    let signed = Signed(record.into_signed_envelope().into_protobuf_encoding());
    if signed.0.len() > RECORD_MAX {
        return Err(StatementError::TooLong);
    }
    Ok(signed)
}

/// The addresses in a record that `peer` signed.
///
/// # Errors
/// It is malformed, too long, forged, another peer's, or names an address of another peer.
pub fn open_record(signed: &Signed, peer: PeerId) -> Result<Vec<Address>, StatementError> {
    use libp2p::core::peer_record::FromEnvelopeError;

    if signed.0.len() > RECORD_MAX {
        return Err(StatementError::TooLong);
    }
    let envelope = SignedEnvelope::from_protobuf_encoding(&signed.0).map_err(|_| StatementError::Malformed)?;
    let record = PeerRecord::from_signed_envelope_interop(envelope).map_err(|error| match error {
        FromEnvelopeError::BadPayload(_) => StatementError::Forged,
        FromEnvelopeError::MismatchedSignature => StatementError::OtherSigner,
        _ => StatementError::Malformed,
    })?;
    if record.peer_id() != peer.to_libp2p() {
        return Err(StatementError::OtherSigner);
    }
    let addresses: Vec<_> = record.addresses().iter().cloned().map(Address::from_libp2p).collect();
    check(&addresses, peer)?;
    Ok(addresses)
}

fn check(addresses: &[Address], peer: PeerId) -> Result<(), StatementError> {
    if addresses.len() > ADDRESSES_MAX {
        return Err(StatementError::TooLong);
    }
    let others = addresses.iter().filter_map(Address::peer).any(|named| named != peer);
    if others { Err(StatementError::OtherSigner) } else { Ok(()) }
}
