//! What a member holds.

use std::path::Path;
use std::sync::Arc;

use minicbor::{Decode, Encode};

use super::checked::Checked;
use super::codec;
use super::credential::{CHAIN_MAX, Chain, Claims, Credential, CredentialError, Delegation, Roles, TokenId, is_tenant};
use super::file::{FileError, Kind};
use super::identity::Identity;
use super::key::{Secret, SigningKey};
use super::network::{Descriptor, Network, OriginTrust};
use super::revocation::Revocations;
use super::statement::StatementError;
use super::token::{BOOTSTRAP_MAX, Parts, Token, TokenError};
use crate::wire::statement::Signed;
use crate::wire::{Address, PeerId};

const FILE: Kind = Kind { name: "membership", magic: b"dragonfly membership 1\n" };

/// The tenant of those for whom none was named.
pub const TENANT_DEFAULT: &str = "default";

/// At most so many gate secrets are accepted at a time: the one in use, and the one before or after it.
pub(super) const GATES_MAX: usize = 2;

/// Why a membership cannot be used or changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MembershipError {
    /// Its file cannot be used.
    #[error(transparent)]
    File(#[from] FileError),
    /// The network never trusts more hosts than it did.
    #[error("the network's descriptor would trust more hosts than the one before it")]
    Loosened,
    /// Only the founder, who has the network's key, can do this.
    #[error("only the founder of the network can do this")]
    NotFounder,
    /// The token is another network's.
    #[error("the token is another network's")]
    OtherNetwork,
    /// A statement of the network is not sound.
    #[error(transparent)]
    Statement(#[from] StatementError),
}

/// A host's membership in a network: secrets, credential, what the network has fixed, who is revoked. The founder's
/// also holds the network's key.
#[derive(Clone, Debug)]
pub struct Membership {
    network: [u8; 32],
    descriptor: Signed,
    described: Descriptor,
    /// The one to use when dialling first.
    gates: Vec<Secret>,
    tenant_key: Secret,
    chain: Chain,
    key: SigningKey,
    claims: Claims,
    holder: PeerId,
    credential: Vec<u8>,
    bootstrap: Vec<Address>,
    revocations: Arc<Revocations>,
    checked: Arc<Checked>,
    founder: Option<Network>,
}

/// As it is written. The credential is not: it is signed anew for whichever identity the host has.
#[derive(Encode, Decode)]
struct Stored {
    #[n(0)]
    parts: Parts,
    #[n(1)]
    gate_before: Option<Secret>,
    #[n(2)]
    revocations: Option<Signed>,
    #[n(3)]
    network_key: Option<Secret>,
    #[n(4)]
    tenant_root: Option<Secret>,
}

impl Membership {
    /// Founds a network; its founder has every role, in the tenant `default`.
    pub fn found(identity: &Identity, origin_trust: OriginTrust) -> Self {
        let network = Network::found();
        let descriptor = network.descriptor(1, origin_trust);
        let token = issue_root(&network, &Secret::generate(), &descriptor, Roles::ALL, TENANT_DEFAULT, None, vec![]);
        let token = token.unwrap_or_else(|_| unreachable!("a founder's own token is sound"));
        Self { founder: Some(network), ..Self::join(identity, &token) }
    }

    /// Joins with a token. Nothing is asked of anyone: the token lets the host sign its own credential. Whether it
    /// has expired is for [`Claims::is_expired`].
    pub fn join(identity: &Identity, token: &Token) -> Self {
        let parts = token.parts.clone();
        let key = SigningKey::from_seed(parts.key);
        let holder = identity.peer_id();
        let credential = Credential::new(&parts.chain, &key, &parts.network, holder).encode();
        let described = Descriptor::open(&parts.descriptor, &parts.network)
            .unwrap_or_else(|_| unreachable!("a token's descriptor was opened when the token was made"));
        Self {
            network: parts.network,
            descriptor: parts.descriptor,
            described,
            gates: vec![parts.gate],
            tenant_key: parts.tenant_key,
            chain: parts.chain,
            key,
            claims: token.claims().clone(),
            holder,
            credential,
            bootstrap: parts.addresses,
            revocations: Arc::default(),
            checked: Arc::default(),
            founder: None,
        }
    }

    /// The membership in the file `membership` of `dir`, for `identity` (a new one is the same member's new host);
    /// `None` if there is no such file. Blocks on the file system.
    ///
    /// # Errors
    /// The file is damaged, can be read by others, or the file system fails.
    pub fn load(dir: &Path, identity: &Identity) -> Result<Option<Self>, FileError> {
        let Some(bytes) = FILE.read(dir)? else { return Ok(None) };
        let restored = codec::decode(&bytes).and_then(|stored| Self::restored(stored, identity));
        restored.map(Some).ok_or_else(|| FILE.corrupt(dir))
    }

    fn restored(stored: Stored, identity: &Identity) -> Option<Self> {
        let network = stored.parts.network;
        let mut membership = Self::join(identity, &Token::new(stored.parts).ok()?);
        membership.gates.extend(stored.gate_before);
        if let Some(signed) = stored.revocations {
            membership.revocations = Arc::new(Revocations::open(&signed, &network).ok()?);
        }
        if let Some((key, tenant_root)) = stored.network_key.zip(stored.tenant_root) {
            let key = SigningKey::from_seed(key);
            if key.public() != network {
                return None;
            }
            membership.founder = Some(Network { key, tenant_root });
        }
        Some(membership)
    }

    /// Writes the file `membership` in `dir`, mode 0600, whole or not at all. Blocks on the file system.
    ///
    /// # Errors
    /// The file system fails; the file that was there is untouched then.
    pub fn save(&self, dir: &Path) -> Result<(), FileError> {
        let founder = self.founder.as_ref();
        let stored = Stored {
            parts: self.parts(self.key.seed().clone(), self.chain.clone(), self.bootstrap.clone()),
            gate_before: self.gates.get(1).cloned(),
            revocations: self.revocations.signed().cloned(),
            network_key: founder.map(|network| network.key.seed().clone()),
            tenant_root: founder.map(|network| network.tenant_root.clone()),
        };
        FILE.write(dir, &codec::encode(&stored))
    }

    fn parts(&self, key: Secret, chain: Chain, addresses: Vec<Address>) -> Parts {
        let (gate, tenant_key) = (self.gates[0].clone(), self.tenant_key.clone());
        Parts { network: self.network, gate, tenant_key, key, chain, descriptor: self.descriptor.clone(), addresses }
    }

    /// The network's public key, which is its name.
    pub const fn network_id(&self) -> &[u8; 32] {
        &self.network
    }

    /// The host whose membership this is.
    pub const fn peer_id(&self) -> PeerId {
        self.holder
    }

    /// What this host may do, for which tenant, until when.
    pub const fn claims(&self) -> &Claims {
        &self.claims
    }

    /// This host's encoded credential, to be shown to anyone in the network.
    pub fn credential_bytes(&self) -> &[u8] {
        &self.credential
    }

    /// The key that members of this tenant share, for ids of content fetched with credentials. A secret.
    pub const fn tenant_key(&self) -> &[u8; 32] {
        self.tenant_key.bytes()
    }

    /// Where the token said that members can be found.
    pub fn bootstrap(&self) -> &[Address] {
        &self.bootstrap
    }

    /// Whose word the network takes on what an origin said.
    pub const fn origin_trust(&self) -> OriginTrust {
        self.described.origin_trust
    }

    /// Whether this host holds the network's key.
    pub const fn is_founder(&self) -> bool {
        self.founder.is_some()
    }

    /// Who is revoked, as far as this host knows.
    pub const fn revocations(&self) -> &Arc<Revocations> {
        &self.revocations
    }

    /// What of others' credentials was checked before.
    pub(super) const fn checked(&self) -> &Arc<Checked> {
        &self.checked
    }

    pub(super) fn gates(&self) -> &[Secret] {
        &self.gates
    }

    /// Whether a member with these claims may say what an origin said.
    pub fn may_attest(&self, claims: &Claims) -> bool {
        may_attest(self.origin_trust(), claims)
    }

    /// Checks another host's encoded credential in this network. `now_unix` is in seconds since 1970.
    ///
    /// # Errors
    /// The rule that it fails.
    pub fn check(&self, credential: &[u8], peer: PeerId, now_unix: u64) -> Result<Claims, CredentialError> {
        self.checked.check(credential, (&self.network, peer), now_unix, &self.revocations)
    }

    /// A token for this member's tenant, with at most its own roles and life (`None`: as long as its own).
    /// `addresses` are where members can be found, each with `/p2p/PEER`.
    ///
    /// # Errors
    /// It would give more than this member has, the chain of delegations is at its longest, or an address is unfit.
    pub fn token(&self, roles: Roles, not_after: Option<u64>, addresses: Vec<Address>) -> Result<Token, TokenError> {
        let (own, end) = (&self.claims, self.claims.not_after);
        if roles.is_empty() || !own.roles.contains(roles) {
            return Err(TokenError::Narrow(format!("roles {roles} of {}", own.roles)));
        }
        if not_after.zip(end).is_some_and(|(wanted, end)| wanted > end) {
            return Err(TokenError::Narrow("it would expire later".to_owned()));
        }
        if let Some(network) = &self.founder {
            return self.root_token(network, roles, &own.tenant, not_after.or(end), addresses);
        }
        if self.chain.len() == CHAIN_MAX {
            return Err(TokenError::Narrow(format!("it was itself narrowed {} times", CHAIN_MAX - 1)));
        }
        let key = SigningKey::generate();
        let delegation = Delegation {
            token: TokenId::generate(),
            key: key.public(),
            roles,
            tenant: own.tenant.clone(),
            not_after: not_after.or(end),
        };
        let chain = self.chain.extended(&self.key, &self.network, &delegation);
        Token::new(self.parts(key.seed().clone(), chain, addresses))
    }

    /// A token for another tenant; the founder's alone to make.
    ///
    /// # Errors
    /// As [`Membership::token`]; this host is not the founder; the tenant is not 1 to 64 letters, digits or `-_.@`.
    pub fn tenant_token(
        &self,
        tenant: &str,
        roles: Roles,
        not_after: Option<u64>,
        addresses: Vec<Address>,
    ) -> Result<Token, TokenError> {
        let Some(network) = &self.founder else {
            return Err(TokenError::Narrow("only the founder can name a tenant".to_owned()));
        };
        if roles.is_empty() || !is_tenant(tenant) {
            return Err(TokenError::Narrow(format!("no roles, or not a tenant: {tenant:?}")));
        }
        self.root_token(network, roles, tenant, not_after, addresses)
    }

    fn root_token(
        &self,
        network: &Network,
        roles: Roles,
        tenant: &str,
        not_after: Option<u64>,
        addresses: Vec<Address>,
    ) -> Result<Token, TokenError> {
        issue_root(network, &self.gates[0], &self.descriptor, roles, tenant, not_after, addresses)
    }

    /// Makes a new gate secret, which new tokens carry; the one before it is accepted still, those before that are
    /// not. Others take it with [`Membership::adopt`].
    ///
    /// # Errors
    /// Only the founder can.
    pub fn rotate_gate(&mut self) -> Result<(), MembershipError> {
        self.founder.as_ref().ok_or(MembershipError::NotFounder)?;
        self.take_gate(Secret::generate());
        Ok(())
    }

    /// Takes gate secret, bootstrap addresses and descriptor of a newer token of the same network. Roles stay: to
    /// change them, join anew.
    ///
    /// # Errors
    /// The token is another network's, or its descriptor would trust more hosts.
    pub fn adopt(&mut self, token: &Token) -> Result<(), MembershipError> {
        if token.network_id() != &self.network {
            return Err(MembershipError::OtherNetwork);
        }
        self.learn_descriptor(&token.parts.descriptor)?;
        self.take_gate(token.parts.gate.clone());
        if !token.addresses().is_empty() {
            self.bootstrap = token.addresses().iter().take(BOOTSTRAP_MAX).cloned().collect();
        }
        Ok(())
    }

    fn take_gate(&mut self, gate: Secret) {
        self.gates.retain(|known| *known != gate);
        self.gates.insert(0, gate);
        self.gates.truncate(GATES_MAX);
    }

    /// The network's signed descriptor, to pass on.
    pub const fn descriptor(&self) -> &Signed {
        &self.descriptor
    }

    /// Takes a newer descriptor; whether it was newer.
    ///
    /// # Errors
    /// It is not the network's, or it would trust more hosts than the one before: that is never done at run time.
    pub fn learn_descriptor(&mut self, signed: &Signed) -> Result<bool, MembershipError> {
        let next = Descriptor::open(signed, &self.network)?;
        if next.serial <= self.described.serial {
            return Ok(false);
        }
        if !self.described.origin_trust.allows(next.origin_trust) {
            return Err(MembershipError::Loosened);
        }
        (self.descriptor, self.described) = (signed.clone(), next);
        Ok(true)
    }

    /// From now on only seeds may say what an origin said. There is no way back.
    ///
    /// # Errors
    /// Only the founder can.
    pub fn trust_seeds_only(&mut self) -> Result<(), MembershipError> {
        let network = self.founder.as_ref().ok_or(MembershipError::NotFounder)?;
        let serial = self.described.serial.checked_add(1).ok_or(StatementError::Malformed)?;
        let signed = network.descriptor(serial, OriginTrust::Seeds);
        self.learn_descriptor(&signed).map(|_| ())
    }

    /// Takes a newer list of revocations; whether it was newer.
    ///
    /// # Errors
    /// It is malformed, too long, or not signed by the network's key.
    pub fn learn_revocations(&mut self, signed: &Signed) -> Result<bool, StatementError> {
        let next = Revocations::open(signed, &self.network)?;
        Ok(Arc::make_mut(&mut self.revocations).merge(next))
    }

    /// Revokes tokens (with all that were narrowed from them) and peers. The list is to be passed on.
    ///
    /// # Errors
    /// Only the founder can; the list is full.
    pub fn revoke(&mut self, tokens: &[TokenId], peers: &[PeerId]) -> Result<(), MembershipError> {
        let network = self.founder.as_ref().ok_or(MembershipError::NotFounder)?;
        self.revocations = Arc::new(self.revocations.extended(&network.key, tokens, peers)?);
        Ok(())
    }
}

/// Whether one with these claims may say what an origin said.
pub(super) const fn may_attest(origin_trust: OriginTrust, claims: &Claims) -> bool {
    match origin_trust {
        OriginTrust::Members => true,
        OriginTrust::Seeds => claims.roles.contains(Roles::SEED),
    }
}

/// A token whose one delegation is signed by the network's key.
fn issue_root(
    network: &Network,
    gate: &Secret,
    descriptor: &Signed,
    roles: Roles,
    tenant: &str,
    not_after: Option<u64>,
    addresses: Vec<Address>,
) -> Result<Token, TokenError> {
    let (id, key) = (network.key.public(), SigningKey::generate());
    let delegation =
        Delegation { token: TokenId::generate(), key: key.public(), roles, tenant: tenant.to_owned(), not_after };
    Token::new(Parts {
        network: id,
        gate: gate.clone(),
        tenant_key: network.tenant_key(tenant),
        key: key.seed().clone(),
        chain: Chain::empty().extended(&network.key, &id, &delegation),
        descriptor: descriptor.clone(),
        addresses,
    })
}
