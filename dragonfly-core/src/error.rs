//! The one error type of the public API.

use std::{fmt, io};

use crate::trust::TokenError;
use crate::wire::InvalidName;
use crate::wire::control::{Failure, FailureKind};

/// What went wrong, in terms that a program can act on. The same kinds exist in every language binding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The caller withdrew, or the engine shut down first.
    Cancelled,
    /// The configuration or the environment does not allow it (a second process on the store, a bad token).
    Config,
    /// The content does not have the digest that the caller gave.
    DigestMismatch,
    /// The output exists and was not to be overwritten.
    Exists,
    /// The origin (or a rule of this node) refuses: 401, 403, a guarded address.
    Forbidden,
    /// No space: disk, quota or memory budget.
    Full,
    /// An argument is malformed: URL, digest, header, path.
    InvalidInput,
    /// The local file system failed.
    Io,
    /// Peers or the scheduler could not be reached.
    Network,
    /// The origin has no such content, or the task is not held.
    NotFound,
    /// The origin failed in another way.
    Origin,
    /// No progress within the bound.
    Timeout,
    /// A bug or a broken invariant; please report it.
    Internal,
}

impl ErrorKind {
    /// The name in lower case with underscores, stable, for scripts.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cancelled => "cancelled",
            Self::Config => "config",
            Self::DigestMismatch => "digest_mismatch",
            Self::Exists => "exists",
            Self::Forbidden => "forbidden",
            Self::Full => "full",
            Self::InvalidInput => "invalid_input",
            Self::Io => "io",
            Self::Network => "network",
            Self::NotFound => "not_found",
            Self::Origin => "origin",
            Self::Timeout => "timeout",
            Self::Internal => "internal",
        }
    }

    /// Every kind, in an order that never changes: bindings number them by it. New ones come at the end.
    pub const ALL: &[Self] = &[
        Self::Cancelled,
        Self::Config,
        Self::DigestMismatch,
        Self::Exists,
        Self::Forbidden,
        Self::Full,
        Self::InvalidInput,
        Self::Io,
        Self::Network,
        Self::NotFound,
        Self::Origin,
        Self::Timeout,
        Self::Internal,
    ];

    /// The kind with this name, if there is one.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|kind| kind.name() == name)
    }
}

/// An error of the public API: kind, whether trying again may help, what was being done, and the cause.
///
/// It never holds a credential: URLs in it are redacted.
#[derive(Clone)]
pub struct Error {
    kind: ErrorKind,
    temporary: bool,
    #[cfg_attr(not(feature = "gateway"), allow(dead_code, reason = "nobody else asks"))]
    changed: bool,
    context: String,
    source: Option<std::sync::Arc<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// An error without a cause beneath it. `context` says what was being done, to what, and what failed.
    pub fn new(kind: ErrorKind, context: impl Into<String>) -> Self {
        Self { kind, temporary: false, changed: false, context: context.into(), source: None }
    }

    /// Marks that the same call may succeed later.
    #[must_use]
    pub fn temporary(mut self, temporary: bool) -> Self {
        self.temporary = temporary;
        self
    }

    /// Marks that the origin has another version by now.
    #[must_use]
    pub(crate) fn changed(mut self, changed: bool) -> Self {
        self.changed = changed;
        self
    }

    /// Whether the origin is known to have another version by now.
    #[cfg(feature = "gateway")]
    pub(crate) const fn is_changed(&self) -> bool {
        self.changed
    }

    /// Says more after what it says already.
    #[must_use]
    pub(crate) fn and(mut self, more: &str) -> Self {
        self.context.push_str("; ");
        self.context.push_str(more);
        self
    }

    /// Attaches the cause.
    #[must_use]
    pub fn caused_by(mut self, source: impl std::error::Error + Send + Sync + 'static) -> Self {
        self.source = Some(std::sync::Arc::new(source));
        self
    }

    /// The kind.
    pub const fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// Whether the same call may succeed later.
    pub const fn is_temporary(&self) -> bool {
        self.temporary
    }

    /// The context and every cause beneath it, in one line: for people, and for languages without causes.
    pub fn report(&self) -> String {
        let mut text = self.context.clone();
        let mut last = text.clone();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            // Some libraries repeat the cause in their own message.
            let line = error.to_string();
            if !last.ends_with(&line) {
                text = format!("{text}: {line}");
            }
            last = line;
            cause = error.source();
        }
        text
    }

    /// The error that a [`Reader`](crate::Reader) answered a read with. Another error of I/O is of the kind
    /// [`Io`](ErrorKind::Io).
    pub fn from_read(error: io::Error) -> Self {
        error.downcast::<Self>().unwrap_or_else(|e| Self::new(ErrorKind::Io, "cannot read the content").caused_by(e))
    }
}

/// Keeps the whole error inside: [`Error::from_read`] gets it back.
impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        let kind = match error.kind {
            ErrorKind::DigestMismatch => io::ErrorKind::InvalidData,
            ErrorKind::Exists => io::ErrorKind::AlreadyExists,
            ErrorKind::Forbidden => io::ErrorKind::PermissionDenied,
            ErrorKind::Full => io::ErrorKind::StorageFull,
            ErrorKind::InvalidInput => io::ErrorKind::InvalidInput,
            ErrorKind::NotFound => io::ErrorKind::NotFound,
            ErrorKind::Timeout => io::ErrorKind::TimedOut,
            ErrorKind::Cancelled
            | ErrorKind::Config
            | ErrorKind::Io
            | ErrorKind::Network
            | ErrorKind::Origin
            | ErrorKind::Internal => io::ErrorKind::Other,
        };
        Self::new(kind, error)
    }
}

impl Error {
    /// What a coordinator said of a task that cannot be had; `label` is the task's redacted URL.
    pub(crate) fn from_failure(failure: &Failure, label: &str) -> Self {
        let kind = match failure.kind {
            FailureKind::Changed | FailureKind::Origin => ErrorKind::Origin,
            FailureKind::Forbidden => ErrorKind::Forbidden,
            FailureKind::Local | FailureKind::Overloaded => ErrorKind::Network,
            FailureKind::NotFound => ErrorKind::NotFound,
        };
        Self::new(kind, format!("cannot fetch {label}: {}", failure.text))
            .temporary(failure.temporary)
            .changed(failure.kind == FailureKind::Changed)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.context)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.kind.name(), self.context)?;
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

/// A result with [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl From<InvalidName> for Error {
    fn from(error: InvalidName) -> Self {
        Self::new(ErrorKind::InvalidInput, error.to_string())
    }
}

impl From<TokenError> for Error {
    fn from(error: TokenError) -> Self {
        Self::new(ErrorKind::InvalidInput, format!("the join token: {error}"))
    }
}
