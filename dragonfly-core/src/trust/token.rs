//! The one line that makes a host a member.

use std::fmt;
use std::str::FromStr;

use data_encoding::BASE64URL_NOPAD;
use minicbor::{Decode, Encode};

use super::codec;
use super::credential::{Chain, Claims, CredentialError, Roles, TokenId};
use super::key::{Secret, SigningKey};
use super::network::{Descriptor, OriginTrust};
use crate::wire::Address;
use crate::wire::statement::Signed;

/// The text's bytes, at most: four delegations and sixteen long addresses take about 6 KiB.
pub const TOKEN_TEXT_MAX: usize = 16 << 10;

/// A token's bootstrap addresses, at most.
pub const BOOTSTRAP_MAX: usize = 16;

/// The bytes of one bootstrap address, at most: a name of 253 bytes, port, and peer.
const ADDRESS_MAX: usize = 384;

/// What the text starts with; the digit is the version.
const PREFIX: &str = "df1:";

/// Bytes of the checksum at the end. It is there to tell a text that was cut or mistyped; signatures do the rest.
const CHECK_LEN: usize = 6;

/// A join token: a secret. Only [`Token::to_text`] shows it.
#[derive(Clone, PartialEq)]
pub struct Token {
    pub(super) parts: Parts,
    claims: Claims,
    origin_trust: OriginTrust,
}

#[derive(Clone, PartialEq, Encode, Decode)]
pub(super) struct Parts {
    #[n(0)]
    #[cbor(with = "minicbor::bytes")]
    pub(super) network: [u8; 32],
    #[n(1)]
    pub(super) gate: Secret,
    #[n(2)]
    pub(super) tenant_key: Secret,
    /// The seed of the key that the chain's last link names.
    #[n(3)]
    pub(super) key: Secret,
    #[n(4)]
    pub(super) chain: Chain,
    #[n(5)]
    pub(super) descriptor: Signed,
    #[n(6)]
    pub(super) addresses: Vec<Address>,
}

/// Why a token cannot be made or read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TokenError {
    /// An address is too long or names no peer at its end.
    #[error("the token's address {0} is too long or does not end in /p2p/PEER")]
    Address(Address),
    /// The text has a character that no token has.
    #[error("the token has a character that cannot be in it (copied with a line break or quotes?)")]
    Character,
    /// The checksum does not fit.
    #[error("the token is incomplete or mistyped: its checksum does not fit")]
    Checksum,
    /// The chain of delegations is not sound.
    #[error("the token is not sound: {0}")]
    Credential(#[from] CredentialError),
    /// The network's descriptor is not signed by the network's key.
    #[error("the token's network descriptor is not signed by the network's key")]
    Descriptor,
    /// The delegated key is not the one that the chain names.
    #[error("the token's key is not the one that its delegation names")]
    Key,
    /// Not laid out like a token.
    #[error("the token is malformed inside: made by a program that this one does not understand?")]
    Malformed,
    /// More roles, or a longer life, than its issuer has.
    #[error("a token cannot give more than its issuer has: {0}")]
    Narrow(String),
    /// The text does not start like a token.
    #[error("not a token: expected text that starts with {PREFIX}")]
    Prefix,
    /// Too long a text, or too many addresses.
    #[error("the token is too long: at most {TOKEN_TEXT_MAX} bytes of text and {BOOTSTRAP_MAX} addresses")]
    TooLong,
    /// A version that this program does not know.
    #[error("the token is of a version that this program does not know: expected {PREFIX}")]
    Version,
}

impl Token {
    pub(super) fn new(parts: Parts) -> Result<Self, TokenError> {
        if parts.addresses.len() > BOOTSTRAP_MAX {
            return Err(TokenError::TooLong);
        }
        let unfit = |address: &&Address| address.peer().is_none() || address.to_libp2p().len() > ADDRESS_MAX;
        if let Some(address) = parts.addresses.iter().find(unfit) {
            return Err(TokenError::Address(address.clone()));
        }
        let (key, claims) = parts.chain.check(&parts.network)?;
        if SigningKey::from_seed(parts.key.clone()).public() != key {
            return Err(TokenError::Key);
        }
        let descriptor = Descriptor::open(&parts.descriptor, &parts.network).map_err(|_| TokenError::Descriptor)?;
        Ok(Self { parts, claims, origin_trust: descriptor.origin_trust })
    }

    /// Reads a token's text; white space around it is ignored. Signatures are checked, expiry is not (see
    /// [`Claims::is_expired`]).
    ///
    /// # Errors
    /// What is wrong with it; never the text itself.
    pub fn from_text(text: &str) -> Result<Self, TokenError> {
        let text = text.trim();
        if text.len() > TOKEN_TEXT_MAX {
            return Err(TokenError::TooLong);
        }
        let Some(body) = text.strip_prefix(PREFIX) else {
            let other = text.strip_prefix("df").and_then(|rest| rest.split_once(':'));
            let version = other.is_some_and(|(digits, _)| digits.bytes().all(|b| b.is_ascii_digit()));
            return Err(if version { TokenError::Version } else { TokenError::Prefix });
        };
        let bytes = BASE64URL_NOPAD.decode(body.as_bytes()).map_err(|error| match error.kind {
            data_encoding::DecodeKind::Symbol => TokenError::Character,
            // A length that no encoding has, or loose bits at the end: characters are missing.
            _ => TokenError::Checksum,
        })?;
        let (payload, check) = bytes.split_last_chunk::<CHECK_LEN>().ok_or(TokenError::Checksum)?;
        if *check != checksum(payload) {
            return Err(TokenError::Checksum);
        }
        Self::new(codec::decode(payload).ok_or(TokenError::Malformed)?)
    }

    /// The text to hand out. It is the secret: whoever has it can join.
    pub fn to_text(&self) -> String {
        let mut bytes = codec::encode(&self.parts);
        bytes.extend_from_slice(&checksum(&bytes));
        format!("{PREFIX}{}", BASE64URL_NOPAD.encode(&bytes))
    }

    /// The network's public key.
    pub const fn network_id(&self) -> &[u8; 32] {
        &self.parts.network
    }

    /// What its holders may do, for which tenant, until when.
    pub const fn claims(&self) -> &Claims {
        &self.claims
    }

    /// The roles that it gives.
    pub const fn roles(&self) -> Roles {
        self.claims.roles
    }

    /// Its own id, by which it can be revoked.
    pub fn id(&self) -> TokenId {
        self.claims.token_ids.last().copied().unwrap_or_else(|| unreachable!("a checked chain has a link"))
    }

    /// Where to find members, each with `/p2p/PEER` at its end.
    pub fn addresses(&self) -> &[Address] {
        &self.parts.addresses
    }

    /// Whose word the network takes on what an origin said.
    pub const fn origin_trust(&self) -> OriginTrust {
        self.origin_trust
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "token {} ({} of tenant {})", self.id(), self.claims.roles, self.claims.tenant)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token({self})")
    }
}

impl FromStr for Token {
    type Err = TokenError;

    fn from_str(s: &str) -> Result<Self, TokenError> {
        Self::from_text(s)
    }
}

fn checksum(payload: &[u8]) -> [u8; CHECK_LEN] {
    let hash = blake3::derive_key("dragonfly 2026 token checksum v1", payload);
    hash.first_chunk().copied().unwrap_or_else(|| unreachable!("a hash has 32 bytes"))
}
