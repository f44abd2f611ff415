//! A host's key.

use std::fmt;
use std::path::Path;

use minicbor::{Decode, Encode};

use super::codec;
use super::file::{FileError, Kind};
use super::key::{Secret, SigningKey};
use crate::wire::PeerId;

const FILE: Kind = Kind { name: "identity", magic: b"dragonfly identity 1\n" };

/// What names a machine, if its system gave it a name.
const MACHINE_ID: &str = "/etc/machine-id";

/// A host's Ed25519 key. Cheap to clone; never shown.
#[derive(Clone)]
pub struct Identity {
    key: SigningKey,
}

#[derive(Encode, Decode)]
struct Stored {
    #[n(0)]
    seed: Secret,
    /// The hash of the machine's id where the key was made.
    #[n(1)]
    #[cbor(with = "minicbor::bytes")]
    machine: Option<[u8; 32]>,
}

impl Identity {
    /// A fresh identity that is written nowhere.
    pub fn generate() -> Self {
        Self { key: SigningKey::generate() }
    }

    /// The identity whose Ed25519 secret key is `seed`, which the caller keeps, and has from a good random source.
    pub fn from_seed(seed: [u8; 32]) -> Self {
        Self { key: SigningKey::from_seed(Secret::from_bytes(seed)) }
    }

    /// The identity in the file `identity` of `dir`; made, with mode 0600, where there is none.
    ///
    /// An identity belongs to one machine: if the file comes from another one (a copied disk), a new identity takes
    /// its place and a warning is logged, because two live hosts of one identity cannot both be reached. `dir` must
    /// be in use by one process only. Blocks on the file system.
    ///
    /// # Errors
    /// The file is damaged, can be read by others, or the file system fails. It is never replaced then.
    pub fn load_or_create(dir: &Path) -> Result<Self, FileError> {
        Self::load_or_create_on(dir, machine())
    }

    pub(super) fn load_or_create_on(dir: &Path, machine: Option<[u8; 32]>) -> Result<Self, FileError> {
        if let Some(bytes) = FILE.read(dir)? {
            let stored: Stored = codec::decode(&bytes).ok_or_else(|| FILE.corrupt(dir))?;
            // Where either side has no name there is nothing to compare.
            let moved = stored.machine.zip(machine).is_some_and(|(stored, here)| stored != here);
            if !moved {
                return Ok(Self { key: SigningKey::from_seed(stored.seed) });
            }
            tracing::warn!(
                path = %FILE.path(dir).display(),
                "the identity was made on another machine (a copied disk?): making a new one"
            );
        }
        let identity = Self::generate();
        let stored = Stored { seed: identity.key.seed().clone(), machine };
        FILE.write(dir, &codec::encode(&stored))?;
        Ok(identity)
    }

    /// The name that goes with the key.
    pub const fn peer_id(&self) -> PeerId {
        PeerId::from_public_key(self.key.public())
    }

    /// Signs bytes as they are: 64 bytes. The caller separates domains; statements have functions of their own.
    pub fn sign(&self, message: &[u8]) -> Vec<u8> {
        self.key.sign_raw(message)
    }

    /// The secret key, for the transports.
    pub(crate) fn secret(&self) -> [u8; 32] {
        *self.key.seed().bytes()
    }

    /// The key as libp2p's signed envelopes want it.
    pub(super) const fn keypair(&self) -> &libp2p::identity::Keypair {
        self.key.pair()
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity({})", self.peer_id())
    }
}

/// The hash of this machine's id, which is not to be shown itself (machine-id(5)).
fn machine() -> Option<[u8; 32]> {
    let id = std::fs::read_to_string(MACHINE_ID).ok()?;
    let id = id.trim();
    // An image that has not booted yet says "uninitialized" or nothing.
    (id.len() == 32).then(|| blake3::derive_key("dragonfly 2026 machine id v1", id.as_bytes()))
}
