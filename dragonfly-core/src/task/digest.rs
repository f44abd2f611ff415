//! Digests that a caller may give for whole content, and the streaming hashers that check them.

use std::fmt;
use std::str::FromStr;

use data_encoding::HEXLOWER_PERMISSIVE;
use sha2::Digest as _;

/// The algorithms a caller's digest may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Algorithm {
    /// BLAKE3, 32 bytes: proves every piece, not only the whole.
    Blake3,
    /// CRC-32C (Castagnoli), 4 bytes, big endian: guards against accidents, not against malice.
    Crc32c,
    /// MD5, 16 bytes: guards against accidents, not against malice.
    Md5,
    /// SHA-256, 32 bytes.
    Sha256,
    /// SHA-512, 64 bytes.
    Sha512,
}

impl Algorithm {
    /// Every algorithm.
    pub const ALL: [Self; 5] = [Self::Blake3, Self::Crc32c, Self::Md5, Self::Sha256, Self::Sha512];

    /// The name before the colon.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Blake3 => "blake3",
            Self::Crc32c => "crc32c",
            Self::Md5 => "md5",
            Self::Sha256 => "sha256",
            Self::Sha512 => "sha512",
        }
    }

    /// The digest's length in bytes.
    pub const fn length(self) -> usize {
        match self {
            Self::Blake3 | Self::Sha256 => 32,
            Self::Crc32c => 4,
            Self::Md5 => 16,
            Self::Sha512 => 64,
        }
    }
}

/// A digest of whole content, written `algorithm:hex`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest {
    algorithm: Algorithm,
    bytes: Vec<u8>,
}

/// Text that is no digest.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a digest: expected blake3:, crc32c:, md5:, sha256: or sha512: and {}", match .expected { Some(n) => format!("{n} hexadecimal digits"), None => "hexadecimal digits".to_owned() })]
pub struct InvalidDigest {
    /// How many hexadecimal digits the named algorithm has, where it is known.
    pub expected: Option<usize>,
}

impl Digest {
    /// A digest from its bytes; `None` if the length is not the algorithm's.
    pub fn new(algorithm: Algorithm, bytes: &[u8]) -> Option<Self> {
        (bytes.len() == algorithm.length()).then(|| Self { algorithm, bytes: bytes.to_vec() })
    }

    /// The algorithm.
    pub const fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The digest's bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

impl FromStr for Digest {
    type Err = InvalidDigest;

    fn from_str(s: &str) -> Result<Self, InvalidDigest> {
        let (name, hex) = s.split_once(':').ok_or(InvalidDigest { expected: None })?;
        let algorithm =
            Algorithm::ALL.into_iter().find(|a| a.name() == name).ok_or(InvalidDigest { expected: None })?;
        let invalid = InvalidDigest { expected: Some(algorithm.length() * 2) };
        let bytes = HEXLOWER_PERMISSIVE.decode(hex.as_bytes()).map_err(|_| invalid.clone())?;
        Self::new(algorithm, &bytes).ok_or(invalid)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.algorithm.name(), HEXLOWER_PERMISSIVE.encode(&self.bytes))
    }
}

impl<C> minicbor::Encode<C> for Digest {
    fn encode<W: minicbor::encode::Write>(
        &self,
        e: &mut minicbor::Encoder<W>,
        _: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        e.array(2)?.str(self.algorithm.name())?.bytes(&self.bytes)?;
        Ok(())
    }
}

impl<'b, C> minicbor::Decode<'b, C> for Digest {
    fn decode(d: &mut minicbor::Decoder<'b>, _: &mut C) -> Result<Self, minicbor::decode::Error> {
        if d.array()? != Some(2) {
            return Err(minicbor::decode::Error::message("not a digest"));
        }
        let name = d.str()?;
        let algorithm = Algorithm::ALL.into_iter().find(|a| a.name() == name);
        algorithm
            .and_then(|algorithm| Self::new(algorithm, d.bytes().ok()?))
            .ok_or(minicbor::decode::Error::message("not a digest"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Computes a [`Digest`] over bytes that arrive in order.
#[derive(Clone)]
pub struct DigestHasher(State);

#[derive(Clone)]
enum State {
    Blake3(Box<blake3::Hasher>),
    Crc32c(u32),
    Md5(md5::Md5),
    Sha256(sha2::Sha256),
    Sha512(sha2::Sha512),
}

impl DigestHasher {
    /// A hasher that has seen nothing.
    pub fn new(algorithm: Algorithm) -> Self {
        Self(match algorithm {
            Algorithm::Blake3 => State::Blake3(Box::default()),
            Algorithm::Crc32c => State::Crc32c(0),
            Algorithm::Md5 => State::Md5(md5::Md5::new()),
            Algorithm::Sha256 => State::Sha256(sha2::Sha256::new()),
            Algorithm::Sha512 => State::Sha512(sha2::Sha512::new()),
        })
    }

    /// Takes the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        match &mut self.0 {
            State::Blake3(h) => {
                h.update(bytes);
            }
            State::Crc32c(crc) => *crc = crc32c::crc32c_append(*crc, bytes),
            State::Md5(h) => h.update(bytes),
            State::Sha256(h) => h.update(bytes),
            State::Sha512(h) => h.update(bytes),
        }
    }

    /// The digest of all bytes seen.
    pub fn finish(self) -> Digest {
        let (algorithm, bytes) = match self.0 {
            State::Blake3(h) => (Algorithm::Blake3, h.finalize().as_bytes().to_vec()),
            State::Crc32c(crc) => (Algorithm::Crc32c, crc.to_be_bytes().to_vec()),
            State::Md5(h) => (Algorithm::Md5, h.finalize().to_vec()),
            State::Sha256(h) => (Algorithm::Sha256, h.finalize().to_vec()),
            State::Sha512(h) => (Algorithm::Sha512, h.finalize().to_vec()),
        };
        Digest { algorithm, bytes }
    }
}

impl fmt::Debug for DigestHasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DigestHasher")
    }
}
