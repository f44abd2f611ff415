//! How ids and keys are hashed. **Frozen**: `dragonfly-core/vectors/task.json` holds examples for suites in other
//! languages.
//!
//! Every id is `BLAKE3 derive_key(context, preimage)`: the context string keeps one kind of hash from ever being
//! taken for another. A preimage is a concatenation of fields, without separators, in these encodings:
//!
//! | field | bytes |
//! |---|---|
//! | `u8`, `u64` | the number, big endian |
//! | `text` | its length in bytes as 4 bytes big endian, then its UTF-8 |
//! | `bytes` | like `text` |
//! | `list of x` | the number of items as 4 bytes big endian, then each item as `x` |
//! | `optional x` | like `list of x` with no item or one |
//!
//! and these are the preimages:
//!
//! | hash | context | fields in order |
//! |---|---|---|
//! | [`TaskId`] | `dragonfly task v1` | url `text`, filtered `list of text`, tag `text`, application `text`, tenant `text`, class `u8` (0 public, 1 keyed, 2 reauth, 3 host-local), key `optional bytes`, tls `optional bytes`, digest `optional text` (as `sha256:` and lower-case hex) |
//! | [`Generation`] | `dragonfly generation v1` | task `bytes` (33), validator kind `u8` (0 none, 1 entity tag, 2 last modified, 3 version), validator `text` (empty if none), length `optional u64`, piece length `u64`, nonce `optional bytes` (16) |
//! | rendezvous score | `dragonfly rendezvous v1` | task `bytes` (33), peer's public key `bytes` (32) |
//!
//! Where the digest is `blake3:`, it alone says what the bytes are: url, filtered, tag and application are hashed as
//! empty and tls as absent. Tenant, class and key stay: who may have the content is another question.

use super::{Algorithm, Generation, TaskId, TaskSpec, Validator};

const TASK: &str = "dragonfly task v1";
const GENERATION: &str = "dragonfly generation v1";
const RENDEZVOUS: &str = "dragonfly rendezvous v1";

impl TaskSpec {
    /// The task's id: the hash of everything in here, by the layout that the module `preimage` documents.
    pub fn id(&self) -> TaskId {
        let by_content = self.digest.as_ref().is_some_and(|digest| digest.algorithm() == Algorithm::Blake3);
        let mut preimage = Preimage::new(TASK);
        if by_content {
            preimage.text("").count(0).text("").text("");
        } else {
            preimage.text(&self.url).count(self.filtered.len());
            for name in &self.filtered {
                preimage.text(name);
            }
            preimage.text(&self.tag).text(&self.application);
        }
        preimage.text(&self.tenant).u8(self.class as u8);
        preimage.optional_bytes(self.key.as_ref().map(|key| &key[..]));
        preimage.optional_bytes(self.tls.as_ref().filter(|_| !by_content).map(|tls| &tls[..]));
        preimage.optional_bytes(self.digest.as_ref().map(ToString::to_string).as_ref().map(String::as_bytes));
        TaskId::from_hash(preimage.hash())
    }
}

impl Generation {
    /// The version of `task`'s content that the origin called `validator`. Lengths are in bytes, `length` absent while
    /// it is unknown. Where there is no strong validator, whoever names the generation gives a random `nonce`, so that
    /// two answers of the origin are never taken for one.
    pub fn derive(
        task: &TaskId,
        validator: Option<&Validator>,
        length: Option<u64>,
        piece_length: u64,
        nonce: Option<[u8; 16]>,
    ) -> Self {
        let (kind, text) = match validator {
            None => (0, ""),
            Some(Validator::Etag(text)) => (1, text.as_str()),
            Some(Validator::LastModified(text)) => (2, text.as_str()),
            Some(Validator::Version(text)) => (3, text.as_str()),
        };
        let mut preimage = Preimage::new(GENERATION);
        preimage.bytes(task.as_bytes()).u8(kind).text(text);
        preimage.count(usize::from(length.is_some()));
        if let Some(length) = length {
            preimage.u64(length);
        }
        preimage.u64(piece_length).optional_bytes(nonce.as_ref().map(|nonce| &nonce[..]));
        Self::from_hash(preimage.hash())
    }
}

/// How well the host with this Ed25519 public key suits to coordinate `task`: the greatest score (compared as a big
/// endian number) wins, and everyone who knows the same hosts agrees on it (rendezvous hashing).
pub fn rendezvous_score(task: &TaskId, peer: &[u8; 32]) -> [u8; 32] {
    let mut preimage = Preimage::new(RENDEZVOUS);
    preimage.bytes(task.as_bytes()).bytes(peer);
    preimage.hash()
}

/// Sorts hosts by how well they suit to coordinate `task`, best first; see [`rendezvous_score`]. `key` gives a
/// host's Ed25519 public key.
pub fn rendezvous_sort<T>(task: &TaskId, peers: &mut [T], key: impl Fn(&T) -> [u8; 32]) {
    peers.sort_by_cached_key(|peer| {
        let key = key(peer);
        (std::cmp::Reverse(rendezvous_score(task, &key)), key)
    });
}

/// Hashes fields in the encodings above. Its lengths fit 4 bytes: a specification is bounded, and so is a list.
pub(super) struct Preimage(blake3::Hasher);

impl Preimage {
    pub(super) fn new(context: &str) -> Self {
        Self(blake3::Hasher::new_derive_key(context))
    }

    pub(super) fn keyed(key: &[u8; 32]) -> Self {
        Self(blake3::Hasher::new_keyed(key))
    }

    pub(super) fn u8(&mut self, n: u8) -> &mut Self {
        self.0.update(&[n]);
        self
    }

    pub(super) fn u64(&mut self, n: u64) -> &mut Self {
        self.0.update(&n.to_be_bytes());
        self
    }

    pub(super) fn count(&mut self, n: usize) -> &mut Self {
        // Saturating: what cannot be, a field of 4 GiB, must not wrap into a short one.
        self.0.update(&u32::try_from(n).unwrap_or(u32::MAX).to_be_bytes());
        self
    }

    pub(super) fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.count(bytes.len());
        self.0.update(bytes);
        self
    }

    pub(super) fn text(&mut self, text: &str) -> &mut Self {
        self.bytes(text.as_bytes())
    }

    pub(super) fn optional_bytes(&mut self, bytes: Option<&[u8]>) -> &mut Self {
        match bytes {
            None => self.count(0),
            Some(bytes) => self.count(1).bytes(bytes),
        }
    }

    pub(super) fn hash(&self) -> [u8; 32] {
        *self.0.finalize().as_bytes()
    }
}
