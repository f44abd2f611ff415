//! What a member may do, in a form that anyone in the network can check offline.

use std::fmt;
use std::str::FromStr;

use data_encoding::HEXLOWER;
use minicbor::{Decode, Encode};

use super::codec;
use super::key::{self, SigningKey};
use super::revocation::Revocations;
use crate::wire::PeerId;

/// No encoded credential is longer, in bytes: four delegations of 64-byte tenants take about 1 KiB.
pub const CREDENTIAL_MAX: usize = 2048;

/// A chain has at most so many delegations: a token, and three times a token printed by one who joined with it.
pub(super) const CHAIN_MAX: usize = 4;

/// The longest tenant, in bytes.
pub(super) const TENANT_MAX: usize = 64;

/// A credential has at most so many items, of all kinds.
const ITEMS_MAX: usize = 8;

/// The kind of item that this version knows: a chain of delegations from the network's key.
const KIND_DELEGATED: u16 = 1;

const DELEGATION_DOMAIN: &str = "dragonfly-delegation-v1";
const MEMBER_DOMAIN: &str = "dragonfly-member-v1";

/// A set of roles. Bits that this version does not know are kept: a later version may have given them.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Encode, Decode)]
#[cbor(transparent)]
pub struct Roles(u32);

impl Roles {
    /// May trade pieces.
    pub const PEER: Self = Self(1);
    /// May say what an origin said, where the network trusts seeds only, and seal generations.
    pub const SEED: Self = Self(2);
    /// May grant leases.
    pub const SCHEDULER: Self = Self(4);
    /// Every role.
    pub const ALL: Self = Self(7);
    /// No role.
    pub const NONE: Self = Self(0);

    const NAMES: [(Self, &'static str); 3] =
        [(Self::PEER, "peer"), (Self::SCHEDULER, "scheduler"), (Self::SEED, "seed")];

    /// Whether all of `roles` are in this set.
    pub const fn contains(self, roles: Self) -> bool {
        self.0 & roles.0 == roles.0
    }

    /// The roles in either set.
    #[must_use]
    pub const fn with(self, roles: Self) -> Self {
        Self(self.0 | roles.0)
    }

    /// Whether there is no role in it.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }
}

impl fmt::Display for Roles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = Self::NAMES.iter().filter(|(role, _)| self.contains(*role));
        let names: Vec<_> = names.map(|(_, name)| *name).collect();
        f.write_str(if names.is_empty() { "none" } else { "" })?;
        f.write_str(&names.join(","))
    }
}

impl fmt::Debug for Roles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Roles({self})")
    }
}

/// Text that names no roles.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not roles: {0:?} (expected peer, scheduler or seed, separated by commas)")]
pub struct InvalidRoles(String);

impl FromStr for Roles {
    type Err = InvalidRoles;

    fn from_str(s: &str) -> Result<Self, InvalidRoles> {
        s.split(',').try_fold(Self::NONE, |roles, name| {
            let known = Self::NAMES.iter().find(|(_, known)| *known == name.trim());
            known.map(|(role, _)| roles.with(*role)).ok_or_else(|| InvalidRoles(name.to_owned()))
        })
    }
}

/// Names a token, so that it can be revoked. Not a secret. Printed as 32 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
#[cbor(transparent)]
pub struct TokenId(#[cbor(with = "minicbor::bytes")] [u8; 16]);

impl TokenId {
    pub(super) fn generate() -> Self {
        Self(key::random())
    }

    /// The token with this id.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }
}

impl fmt::Display for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&HEXLOWER.encode(&self.0))
    }
}

impl fmt::Debug for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TokenId({self})")
    }
}

/// Text that is no [`TokenId`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a token id: expected 32 hexadecimal digits")]
pub struct InvalidTokenId;

impl FromStr for TokenId {
    type Err = InvalidTokenId;

    fn from_str(s: &str) -> Result<Self, InvalidTokenId> {
        let bytes = HEXLOWER.decode(s.as_bytes()).map_err(|_| InvalidTokenId)?;
        bytes.try_into().map(Self).map_err(|_| InvalidTokenId)
    }
}

/// What a checked credential says of its holder.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Claims {
    /// What it may do.
    pub roles: Roles,
    /// The account that it belongs to.
    pub tenant: String,
    /// When the claims end, in seconds since 1970; `None`: not by themselves.
    pub not_after: Option<u64>,
    /// The tokens that they come from, the network's own first.
    pub token_ids: Vec<TokenId>,
}

impl Claims {
    /// Whether they have ended at `now_unix`.
    pub fn is_expired(&self, now_unix: u64) -> bool {
        self.not_after.is_some_and(|end| now_unix >= end)
    }

    /// Whether they, whose signatures hold, count still.
    ///
    /// # Errors
    /// They have ended, or they or `peer`, whose they are, were revoked.
    pub(super) fn hold(&self, peer: PeerId, now_unix: u64, revocations: &Revocations) -> Result<(), CredentialError> {
        if self.is_expired(now_unix) {
            return Err(CredentialError::Expired);
        }
        if revocations.revokes(peer, self) { Err(CredentialError::Revoked) } else { Ok(()) }
    }
}

/// Which rule a credential fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CredentialError {
    /// A token of the chain has expired.
    #[error("the credential has expired")]
    Expired,
    /// A signature is not by the key that the link before it names.
    #[error("the credential has a signature that does not fit (forged, or of another network)")]
    Forged,
    /// Bytes that are no credential, or longer than one may be.
    #[error("the credential is malformed")]
    Malformed,
    /// It is another host's.
    #[error("the credential is another host's")]
    OtherHolder,
    /// A token of the chain or the holder has been revoked.
    #[error("the credential has been revoked")]
    Revoked,
    /// The chain is empty or has too many links.
    #[error("the credential's chain has not 1 to {CHAIN_MAX} links")]
    TooDeep,
    /// There is no item of a kind that this version knows.
    #[error("the credential is of a kind that this version does not know")]
    UnknownKind,
    /// A link gives more than the link before it.
    #[error("the credential claims more than its issuer had")]
    Widened,
}

/// One link: the holder of `key` may give at most this.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub(super) struct Delegation {
    #[n(0)]
    pub(super) token: TokenId,
    #[n(1)]
    #[cbor(with = "minicbor::bytes")]
    pub(super) key: [u8; 32],
    #[n(2)]
    pub(super) roles: Roles,
    #[n(3)]
    pub(super) tenant: String,
    #[n(4)]
    pub(super) not_after: Option<u64>,
}

#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
struct Link {
    #[n(0)]
    #[cbor(with = "minicbor::bytes")]
    delegation: Vec<u8>,
    #[n(1)]
    #[cbor(with = "minicbor::bytes")]
    signature: [u8; 64],
}

/// Delegations from the network's key to the key of a token, each signed by the key that the one before it names.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(transparent)]
pub(super) struct Chain(Vec<Link>);

impl Chain {
    pub(super) const fn empty() -> Self {
        Self(Vec::new())
    }

    /// This chain and one more link. `signer` is the key that the last link names, or the network's for the first.
    #[must_use]
    pub(super) fn extended(&self, signer: &SigningKey, network: &[u8; 32], delegation: &Delegation) -> Self {
        let delegation = codec::encode(delegation);
        let signature = signer.sign(DELEGATION_DOMAIN, network, &delegation);
        let mut links = self.0.clone();
        links.push(Link { delegation, signature });
        Self(links)
    }

    pub(super) const fn len(&self) -> usize {
        self.0.len()
    }

    /// Checks signatures and that each link only narrows; not expiry, not revocation. Gives the key that the last
    /// link names, and the claims.
    pub(super) fn check(&self, network: &[u8; 32]) -> Result<([u8; 32], Claims), CredentialError> {
        if !(1..=CHAIN_MAX).contains(&self.0.len()) {
            return Err(CredentialError::TooDeep);
        }
        let mut signer = *network;
        let mut claims: Option<Claims> = None;
        for link in &self.0 {
            if !key::verify(&signer, DELEGATION_DOMAIN, network, &link.delegation, &link.signature) {
                return Err(CredentialError::Forged);
            }
            let next: Delegation = codec::decode_canonical(&link.delegation).ok_or(CredentialError::Malformed)?;
            signer = next.key;
            claims = Some(narrowed(claims, next)?);
        }
        claims.map(|claims| (signer, claims)).ok_or(CredentialError::TooDeep)
    }
}

/// The claims after one more link.
fn narrowed(parent: Option<Claims>, next: Delegation) -> Result<Claims, CredentialError> {
    if !is_tenant(&next.tenant) {
        return Err(CredentialError::Malformed);
    }
    let mut token_ids = Vec::new();
    if let Some(parent) = parent {
        let outlives = parent.not_after.is_some_and(|end| next.not_after.is_none_or(|next| next > end));
        if !parent.roles.contains(next.roles) || parent.tenant != next.tenant || outlives {
            return Err(CredentialError::Widened);
        }
        token_ids = parent.token_ids;
    }
    token_ids.push(next.token);
    Ok(Claims { roles: next.roles, tenant: next.tenant, not_after: next.not_after, token_ids })
}

/// Whether text may name a tenant: 1 to 64 bytes, nothing that garbles a log line or a path.
pub(super) fn is_tenant(tenant: &str) -> bool {
    let fit = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.@".contains(&byte);
    (1..=TENANT_MAX).contains(&tenant.len()) && tenant.bytes().all(fit)
}

/// What a member shows: a list of typed items, of which unknown kinds are ignored.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Credential(Vec<Item>);

#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
struct Item {
    #[n(0)]
    kind: u16,
    #[n(1)]
    #[cbor(with = "minicbor::bytes")]
    body: Vec<u8>,
}

#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
struct Delegated {
    #[n(0)]
    chain: Chain,
    #[n(1)]
    holder: PeerId,
    #[n(2)]
    #[cbor(with = "minicbor::bytes")]
    signature: [u8; 64],
}

impl Credential {
    /// The credential of `holder`, signed with the key that the chain's last link names.
    pub(super) fn new(chain: &Chain, key: &SigningKey, network: &[u8; 32], holder: PeerId) -> Self {
        let signature = key.sign(MEMBER_DOMAIN, network, holder.public_key());
        let body = codec::encode(&Delegated { chain: chain.clone(), holder, signature });
        Self(vec![Item { kind: KIND_DELEGATED, body }])
    }

    /// Reads an encoded credential; nothing is checked yet.
    ///
    /// # Errors
    /// More than [`CREDENTIAL_MAX`] bytes, or bytes that are no credential.
    pub fn decode(bytes: &[u8]) -> Result<Self, CredentialError> {
        if bytes.len() > CREDENTIAL_MAX {
            return Err(CredentialError::Malformed);
        }
        let items: Vec<Item> = codec::decode(bytes).ok_or(CredentialError::Malformed)?;
        if items.len() > ITEMS_MAX {
            return Err(CredentialError::Malformed);
        }
        Ok(Self(items))
    }

    /// The encoded form, at most [`CREDENTIAL_MAX`] bytes.
    pub fn encode(&self) -> Vec<u8> {
        codec::encode(&self.0)
    }

    /// What the credential proves of `peer` in the network with this public key. `now_unix` is in seconds since
    /// 1970. Of several items of a known kind the first counts.
    ///
    /// # Errors
    /// The rule that it fails.
    pub fn check(
        &self,
        network: &[u8; 32],
        peer: PeerId,
        now_unix: u64,
        revocations: &Revocations,
    ) -> Result<Claims, CredentialError> {
        let item = self.0.iter().find(|item| item.kind == KIND_DELEGATED).ok_or(CredentialError::UnknownKind)?;
        let shown: Delegated = codec::decode_canonical(&item.body).ok_or(CredentialError::Malformed)?;
        if shown.holder != peer {
            return Err(CredentialError::OtherHolder);
        }
        let (key, claims) = shown.chain.check(network)?;
        if !key::verify(&key, MEMBER_DOMAIN, network, peer.public_key(), &shown.signature) {
            return Err(CredentialError::Forged);
        }
        claims.hold(peer, now_unix, revocations)?;
        Ok(claims)
    }
}
