//! The store: proven pieces on disk or in memory, from which this host reads, serves and exports.
//!
//! For the engines (`peer`, `seed`, `gateway`) and for embedders that bring a directory. The store owns its
//! directory, the data files, the index and the budget in bytes. It never fetches, and it takes no piece on trust:
//! the caller proves a piece before it is written, and after an unclean stop an entry is proven again before its
//! first use.
//!
//! Everything here is synchronous: async callers run it on a bounded pool of their own threads. All types are safe
//! to use from many threads at once; no lock is held while content is read or written. A [`FileStore`] has one
//! thread of its own, which writes the index in batches.

mod api;
mod catalogue;
mod content;
mod entry;
mod error;
mod export;
#[cfg(test)]
mod faults;
mod file;
mod files;
mod index;
mod memory;
pub(crate) mod progress;
mod record;
mod spool;
#[cfg(test)]
mod tests;

pub use api::{Described, Entry, EntryInfo, EntryKey, EvictionObserver, Spool, Store, Usage, UseGuard};
pub use error::StoreError;
pub use export::{ExportOptions, Exported, Output};
#[cfg(test)]
pub(crate) use faults::Faults;
pub use file::{FileOptions, FileStore};
pub use memory::{MemoryOptions, MemoryStore};
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use record::read_rows;
#[cfg(test)]
pub(crate) use record::seed_rows;
pub(crate) use spool::SPOOLS_MAX;

use crate::wire::Bound;

/// The bounds of a store that are not shown beside what is used of them.
pub(crate) const BOUNDS: [Bound; 4] = [
    ("dragonfly_store_entries_limit", "Generations that a store on disk may hold.", file::ENTRIES_MAX as u64),
    ("dragonfly_evidence_bytes_limit", "Bytes of evidence kept of one generation.", entry::EVIDENCE_BYTES_MAX as u64),
    (
        "dragonfly_small_content_waiting_bytes_limit",
        "Bytes of small content that may wait for the index.",
        content::SLAB_FRESH_BYTES_STUCK as u64,
    ),
    ("dragonfly_spools_limit", "Contents of unknown length that may be under way.", SPOOLS_MAX as u64),
];
