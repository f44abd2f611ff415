//! What a network's founder holds and signs.

use minicbor::{Decode, Encode};

use super::key::{Secret, SigningKey};
use super::statement::{self, Statement, StatementError};
use crate::wire::statement::Signed;

/// Whose word counts on what an origin said. Fixed by the network's descriptor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
#[non_exhaustive]
pub enum OriginTrust {
    /// Every member's: a swarm without seeds works, and any member can lie about a bare URL.
    #[default]
    #[n(0)]
    Members,
    /// That of seeds only.
    #[n(1)]
    Seeds,
}

impl OriginTrust {
    /// Whether `next` trusts no more hosts than this.
    pub(super) fn allows(self, next: Self) -> bool {
        self == Self::Members || next == Self::Seeds
    }
}

/// What is fixed for the whole network, signed by its key.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub(super) struct Descriptor {
    /// The version of this statement; 1.
    #[n(0)]
    pub(super) version: u8,
    /// The network's public key.
    #[n(1)]
    #[cbor(with = "minicbor::bytes")]
    pub(super) network: [u8; 32],
    /// The higher one counts.
    #[n(2)]
    pub(super) serial: u64,
    #[n(3)]
    pub(super) origin_trust: OriginTrust,
}

impl Statement for Descriptor {
    const DOMAIN: &'static str = "dragonfly-network-v1";
    const BYTES_MAX: usize = 1024;
    fn check(&self) -> Result<(), StatementError> {
        if self.version == 1 { Ok(()) } else { Err(StatementError::Version) }
    }
}

impl Descriptor {
    /// Opens a descriptor of the network with this public key.
    pub(super) fn open(signed: &Signed, network: &[u8; 32]) -> Result<Self, StatementError> {
        let (descriptor, signer) = statement::open::<Self>(signed)?;
        if signer.public_key() != network || descriptor.network != *network {
            return Err(StatementError::OtherSigner);
        }
        Ok(descriptor)
    }
}

/// The founder's half: the network's key, and the root that every tenant's key is derived from.
#[derive(Clone, Debug)]
pub(super) struct Network {
    pub(super) key: SigningKey,
    pub(super) tenant_root: Secret,
}

impl Network {
    pub(super) fn found() -> Self {
        Self { key: SigningKey::generate(), tenant_root: Secret::generate() }
    }

    pub(super) fn descriptor(&self, serial: u64, origin_trust: OriginTrust) -> Signed {
        let network = self.key.public();
        statement::sign(self.key.pair(), &Descriptor { version: 1, network, serial, origin_trust })
    }

    /// The key of one tenant; members of another cannot compute it.
    pub(super) fn tenant_key(&self, tenant: &str) -> Secret {
        self.tenant_root.derive("dragonfly 2026 tenant key v1", tenant.as_bytes())
    }
}
