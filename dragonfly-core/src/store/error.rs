//! What can go wrong in the store.

use std::io;
use std::path::{Path, PathBuf};

use crate::task::{Generation, PieceIndex};
use crate::{Error, ErrorKind};

/// An error of the store. It names generations, never tasks: the id of a private task is a capability.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The output exists and was not to be overwritten.
    #[error("output {} exists; allow overwriting or choose another name", .path.display())]
    Exists {
        /// The output.
        path: PathBuf,
    },
    /// No space: disk, quota or memory budget. What was held is still held; the same call may succeed later.
    #[error("no space for {what}; free some, raise the store's quota, or unpin entries")]
    Full {
        /// What did not fit.
        what: String,
        /// The cause, where it was the file system.
        source: Option<io::Error>,
    },
    /// The entry has not every piece yet.
    #[error("generation {generation:?} is not complete: {held} of {pieces} pieces are held")]
    Incomplete {
        /// The entry's generation.
        generation: Generation,
        /// Pieces held.
        held: u32,
        /// Pieces in all.
        pieces: u32,
    },
    /// The index cannot be read or written.
    #[error("cannot {action} the store's index {}; check the disk", .path.display())]
    Index {
        /// What was being done.
        action: &'static str,
        /// The index file.
        path: PathBuf,
        /// The cause.
        source: Box<redb::Error>,
    },
    /// The entry is being read or served.
    #[error("generation {generation:?} is in use; try again when nothing reads or serves it")]
    InUse {
        /// The entry's generation.
        generation: Generation,
    },
    /// An argument fits no entry: a wrong length, a range past the end, another layout.
    #[error("{0}")]
    Invalid(String),
    /// The file system failed.
    #[error("cannot {action} {}", .path.display())]
    Io {
        /// What was being done.
        action: &'static str,
        /// To which file or directory.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// Another process has the store open.
    #[error("store {} is used by another process; stop it or choose another directory", .dir.display())]
    Locked {
        /// The store's directory.
        dir: PathBuf,
    },
    /// What is held has to be proven again before it is used; see [`Entry::prove`](super::Entry::prove).
    #[error("generation {generation:?} has to be proven again before it is used")]
    NeedsProof {
        /// The entry's generation.
        generation: Generation,
    },
    /// There is no such entry, or it has been removed since.
    #[error("generation {generation:?} is not in the store")]
    NotFound {
        /// The generation.
        generation: Generation,
    },
    /// A piece that was to be read is not held.
    #[error("piece {index} of generation {generation:?} is not held")]
    NotHeld {
        /// The entry's generation.
        generation: Generation,
        /// The first piece that is missing.
        index: PieceIndex,
    },
}

impl StoreError {
    /// Names the file; a lack of space becomes [`StoreError::Full`].
    pub(super) fn io(action: &'static str, path: &Path, source: io::Error) -> Self {
        use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
        match source.kind() {
            FileTooLarge | QuotaExceeded | StorageFull => {
                Self::Full { what: path.display().to_string(), source: Some(source) }
            }
            _ => Self::Io { action, path: path.to_owned(), source },
        }
    }

    /// Names the index.
    pub(super) fn index(action: &'static str, path: &Path, source: impl Into<redb::Error>) -> Self {
        Self::Index { action, path: path.to_owned(), source: Box::new(source.into()) }
    }

    /// The public kind of this error.
    pub const fn kind(&self) -> ErrorKind {
        match self {
            Self::Exists { .. } => ErrorKind::Exists,
            Self::Full { .. } => ErrorKind::Full,
            Self::Incomplete { .. } | Self::NotFound { .. } | Self::NotHeld { .. } => ErrorKind::NotFound,
            Self::Index { .. } | Self::Io { .. } => ErrorKind::Io,
            Self::InUse { .. } | Self::Locked { .. } => ErrorKind::Config,
            Self::Invalid(_) => ErrorKind::InvalidInput,
            Self::NeedsProof { .. } => ErrorKind::Internal,
        }
    }
}

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Self {
        use StoreError as E;
        let temporary = matches!(error, E::Full { .. } | E::InUse { .. } | E::Locked { .. } | E::NeedsProof { .. });
        let public = Error::new(error.kind(), error.to_string()).temporary(temporary);
        // The text of the store's error is the context already: only what lies beneath it is the cause.
        match error {
            E::Full { source: Some(source), .. } | E::Io { source, .. } => public.caused_by(source),
            E::Index { source, .. } => public.caused_by(*source),
            _ => public,
        }
    }
}
