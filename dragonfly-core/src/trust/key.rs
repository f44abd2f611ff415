//! Keys and secrets that are never shown.

use std::fmt;

use libp2p::identity::{Keypair, PublicKey, ed25519};
use minicbor::{Decode, Encode};

use crate::wire::PeerId;

/// 256 secret bits: a gate secret, a tenant key, the seed of a signing key.
#[derive(Clone, Encode, Decode)]
#[cbor(transparent)]
pub(super) struct Secret(#[cbor(with = "minicbor::bytes")] [u8; 32]);

impl Secret {
    /// Fresh bits from the kernel.
    pub(super) fn generate() -> Self {
        Self(random())
    }

    /// These bits, from a source as good.
    pub(super) const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    pub(super) const fn bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// A secret of its own for each purpose and input.
    pub(super) fn derive(&self, context: &str, input: &[u8]) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key(context);
        hasher.update(&self.0).update(input);
        Self(*hasher.finalize().as_bytes())
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        // `blake3::Hash` compares in constant time.
        blake3::Hash::from_bytes(self.0) == blake3::Hash::from_bytes(other.0)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// Random bytes from the kernel.
pub(super) fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("a kernel without random numbers cannot run this program at all");
    bytes
}

/// An Ed25519 key that signs.
#[derive(Clone)]
pub(super) struct SigningKey {
    seed: Secret,
    pair: Keypair,
    public: [u8; 32],
}

impl SigningKey {
    pub(super) fn generate() -> Self {
        Self::from_seed(Secret::generate())
    }

    /// Every 32 bytes are the seed of a key (RFC 8032, 5.1.5).
    pub(super) fn from_seed(seed: Secret) -> Self {
        let secret = ed25519::SecretKey::try_from_bytes(*seed.bytes()).expect("any 32 bytes are a seed");
        let pair = ed25519::Keypair::from(secret);
        let public = pair.public().to_bytes();
        Self { seed, pair: pair.into(), public }
    }

    pub(super) const fn seed(&self) -> &Secret {
        &self.seed
    }

    pub(super) const fn public(&self) -> [u8; 32] {
        self.public
    }

    pub(super) const fn pair(&self) -> &Keypair {
        &self.pair
    }

    /// Signs `payload` for one purpose within one network; see [`verify`].
    pub(super) fn sign(&self, domain: &str, network: &[u8; 32], payload: &[u8]) -> [u8; 64] {
        let signature = self.sign_raw(&preimage(domain, network, payload));
        signature.try_into().unwrap_or_else(|_| unreachable!("an Ed25519 signature has 64 bytes"))
    }

    /// Signs bytes as they are.
    pub(super) fn sign_raw(&self, message: &[u8]) -> Vec<u8> {
        self.pair.sign(message).unwrap_or_else(|_| unreachable!("signing with Ed25519 has no failure"))
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({})", data_encoding::HEXLOWER.encode(&self.public[..6]))
    }
}

/// Whether `signature` is `public`'s over `payload` for this purpose within this network.
pub(super) fn verify(public: &[u8; 32], domain: &str, network: &[u8; 32], payload: &[u8], signature: &[u8]) -> bool {
    ed25519::PublicKey::try_from_bytes(public)
        .is_ok_and(|public| public.verify(&preimage(domain, network, payload), signature))
}

/// The peer whose Ed25519 key this is; `None` for a key of another kind.
pub(super) fn peer_of(key: &PublicKey) -> Option<PeerId> {
    let key = key.clone().try_into_ed25519().ok()?;
    Some(PeerId::from_public_key(key.to_bytes()))
}

/// What is signed: domain with its length, network, payload. A signature made for one purpose or network is worth
/// nothing for another.
fn preimage(domain: &str, network: &[u8; 32], payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(1 + domain.len() + 32 + payload.len());
    bytes.push(domain.len() as u8);
    bytes.extend_from_slice(domain.as_bytes());
    bytes.extend_from_slice(network);
    bytes.extend_from_slice(payload);
    bytes
}
