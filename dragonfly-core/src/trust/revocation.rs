//! Who does not belong any more.

use std::collections::BTreeSet;

use minicbor::{Decode, Encode};

use super::credential::{Claims, TokenId};
use super::key::SigningKey;
use super::statement::{self, Statement, StatementError};
use crate::wire::PeerId;
use crate::wire::statement::Signed;

/// At most so many tokens and so many peers: 4096 peers are 140 KiB, which every member keeps and passes on. A
/// network that needs more makes a new gate secret and new tokens.
pub const REVOKED_MAX: usize = 4096;

/// The list of tokens and peers that are revoked, with its serial. Empty (serial 0) until one is learnt.
#[derive(Clone, Debug, Default)]
pub struct Revocations {
    serial: u64,
    tokens: BTreeSet<TokenId>,
    peers: BTreeSet<PeerId>,
    signed: Option<Signed>,
}

/// As it is signed.
#[derive(Clone, Debug, Encode, Decode)]
struct List {
    #[n(0)]
    version: u8,
    #[n(1)]
    #[cbor(with = "minicbor::bytes")]
    network: [u8; 32],
    #[n(2)]
    serial: u64,
    #[n(3)]
    tokens: Vec<TokenId>,
    #[n(4)]
    peers: Vec<PeerId>,
}

impl Statement for List {
    const DOMAIN: &'static str = "dragonfly-revocations-v1";
    const BYTES_MAX: usize = 256 << 10;
    fn check(&self) -> Result<(), StatementError> {
        match self.version {
            1 if self.tokens.len() > REVOKED_MAX || self.peers.len() > REVOKED_MAX => Err(StatementError::TooLong),
            1 => Ok(()),
            _ => Err(StatementError::Version),
        }
    }
}

impl Revocations {
    /// Opens a list of the network with this public key.
    ///
    /// # Errors
    /// It is malformed, too long, or not signed by the network's key.
    pub fn open(signed: &Signed, network: &[u8; 32]) -> Result<Self, StatementError> {
        let (list, signer) = statement::open::<List>(signed)?;
        if signer.public_key() != network || list.network != *network {
            return Err(StatementError::OtherSigner);
        }
        let (tokens, peers) = (list.tokens.into_iter().collect(), list.peers.into_iter().collect());
        Ok(Self { serial: list.serial, tokens, peers, signed: Some(signed.clone()) })
    }

    /// This list with more on it, signed, its serial one higher.
    pub(super) fn extended(
        &self,
        key: &SigningKey,
        tokens: &[TokenId],
        peers: &[PeerId],
    ) -> Result<Self, StatementError> {
        let network = key.public();
        let list = List {
            version: 1,
            network,
            serial: self.serial.checked_add(1).ok_or(StatementError::Malformed)?,
            tokens: self.tokens.iter().chain(tokens).copied().collect::<BTreeSet<_>>().into_iter().collect(),
            peers: self.peers.iter().chain(peers).copied().collect::<BTreeSet<_>>().into_iter().collect(),
        };
        list.check()?;
        Self::open(&statement::sign(key.pair(), &list), &network)
    }

    /// Takes the other list's place if that one is newer; whether this one changed.
    pub fn merge(&mut self, other: Self) -> bool {
        let newer = other.serial > self.serial;
        if newer {
            *self = other;
        }
        newer
    }

    /// Whether the peer or a token that its claims come from is on the list.
    pub fn revokes(&self, peer: PeerId, claims: &Claims) -> bool {
        self.peers.contains(&peer) || claims.token_ids.iter().any(|id| self.tokens.contains(id))
    }

    /// Rises with every list that the network signs; 0 for none.
    pub const fn serial(&self) -> u64 {
        self.serial
    }

    /// The list as the network signed it, to pass on; `None` for serial 0.
    pub const fn signed(&self) -> Option<&Signed> {
        self.signed.as_ref()
    }
}
