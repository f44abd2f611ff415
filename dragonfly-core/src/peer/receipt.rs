//! What a caller gets: progress while it runs, a receipt at the end.

use std::path::PathBuf;
use std::time::Duration;

pub use crate::store::Exported;
use crate::task::{Digest, Generation, TaskId};

/// How far the content is proven.
// Exhaustive, so that programs which tell the kinds apart have to look at a new one: it would be about what they trust.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proof {
    /// Every piece matches what the host that fetched it from the origin has signed.
    Attested,
    /// Beyond that: the whole matches a digest that the caller gave, a seal by the task's coordinator or a seed,
    /// or this host fetched every byte from the origin itself.
    Verified,
}

/// The outcome of a finished download.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Receipt {
    /// The task.
    pub task: TaskId,
    /// The version of its content.
    pub generation: Generation,
    /// Its length in bytes.
    pub length: u64,
    /// The BLAKE3 digest of the whole.
    pub blake3: Digest,
    /// The caller's digest, which the whole has been checked against.
    pub digest: Option<Digest>,
    /// How far the content is proven.
    pub proof: Proof,
    /// Body bytes that this host took from the origin for this download.
    pub bytes_from_origin: u64,
    /// Bytes that this host took from peers for this download.
    pub bytes_from_peers: u64,
    /// Bytes that were in the store already.
    pub bytes_held: u64,
    /// From the call to the end.
    pub elapsed: Duration,
    /// Where the content is and how it came there, if an output was asked for.
    pub output: Option<(PathBuf, Exported)>,
}

/// Progress of a download. Events are lossy: a slow reader misses some, never the receipt.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// The length is known (again, should the origin's content have changed).
    Described {
        /// Bytes in all.
        length: u64,
    },
    /// More bytes are held.
    Progress {
        /// Bytes held and proven.
        bytes: u64,
        /// Bytes in all.
        length: u64,
        /// Of them from the origin, by this host.
        from_origin: u64,
        /// Of them from peers.
        from_peers: u64,
        /// Neighbours for this task.
        neighbours: u32,
    },
    /// Something went wrong that was, or is being, made good; the counts are from the start of this task. Told again
    /// with each progress from then on.
    Trouble {
        /// How often this host asked the origin again: a response that failed or broke off, a range that was fetched anew.
        retries: u32,
        /// Pieces from peers that did not match their hash; who sent them is blamed.
        refuted: u32,
    },
    /// Every byte is held; digest and output remain.
    Complete,
}
