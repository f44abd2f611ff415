//! The two names of content: [`TaskId`] (which content) and [`Generation`] (which version of it).

use std::fmt;
use std::str::FromStr;

use data_encoding::HEXLOWER;

/// Defines a 33-byte id: one algorithm byte, then a 32-byte BLAKE3 hash.
macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; 33]);

        impl $name {
            /// The algorithm byte of a BLAKE3 hash (the only one so far).
            pub const BLAKE3: u8 = 1;

            /// Wraps a BLAKE3 hash of the id's preimage.
            pub const fn from_hash(hash: [u8; 32]) -> Self {
                let mut bytes = [0; 33];
                bytes[0] = Self::BLAKE3;
                let mut i = 0;
                while i < 32 {
                    bytes[i + 1] = hash[i];
                    i += 1;
                }
                Self(bytes)
            }

            /// Reads an id from its 33 bytes; an unknown algorithm or another length is refused.
            pub fn from_bytes(bytes: &[u8]) -> Result<Self, InvalidId> {
                let bytes: [u8; 33] = bytes.try_into().map_err(|_| InvalidId)?;
                if bytes[0] != Self::BLAKE3 {
                    return Err(InvalidId);
                }
                Ok(Self(bytes))
            }

            /// The 33 bytes: algorithm, then hash.
            pub const fn as_bytes(&self) -> &[u8; 33] {
                &self.0
            }

            /// The 32 bytes of the hash.
            pub fn hash(&self) -> [u8; 32] {
                let mut hash = [0; 32];
                hash.copy_from_slice(&self.0[1..]);
                hash
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&HEXLOWER.encode(&self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($name), HEXLOWER.encode(&self.0[1..7]))
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;
            fn from_str(s: &str) -> Result<Self, InvalidId> {
                Self::from_bytes(&HEXLOWER.decode(s.as_bytes()).map_err(|_| InvalidId)?)
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<C> minicbor::Encode<C> for $name {
            fn encode<W: minicbor::encode::Write>(
                &self,
                e: &mut minicbor::Encoder<W>,
                _: &mut C,
            ) -> Result<(), minicbor::encode::Error<W::Error>> {
                e.bytes(&self.0)?;
                Ok(())
            }
        }

        impl<'b, C> minicbor::Decode<'b, C> for $name {
            fn decode(d: &mut minicbor::Decoder<'b>, _: &mut C) -> Result<Self, minicbor::decode::Error> {
                Self::from_bytes(d.bytes()?).map_err(minicbor::decode::Error::custom)
            }
        }
    };
}

id! {
    /// One piece of content: the hash of its canonical URL and of all that may change its bytes (see `TaskSpec`).
    TaskId
}
id! {
    /// One version of a task's content. Pieces of two generations never mix.
    Generation
}

/// Bytes or text that are no [`TaskId`] or [`Generation`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an id: expected an algorithm byte 01 and a 32-byte hash")]
pub struct InvalidId;
