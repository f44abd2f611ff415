//! Why an origin's bytes could not be had.

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::wire::control::{Failure, FailureKind};
use crate::{Error, ErrorKind};

/// The most bytes of text in a [`Failure`].
const TEXT_MAX: usize = 256;

/// What went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SourceErrorKind {
    /// The content is not the version that was expected any more.
    Changed,
    /// The origin refuses: 401, 403, 407.
    Forbidden,
    /// A rule of this node refuses: see [`Guard`](super::Guard).
    Guarded,
    /// The URL, a header or a range is malformed, or nobody serves the scheme.
    InvalidInput,
    /// This host failed while it took the content in: its disk, its memory.
    Local,
    /// The origin could not be reached, or the connection broke.
    Network,
    /// The origin has no such content: 404, 410.
    NotFound,
    /// The origin failed in another way, or its answer does not fit the question.
    Origin,
    /// The origin was silent for the time-out.
    Stalled,
    /// The origin's certificate is not trusted, or TLS failed.
    Tls,
}

/// An error of a source. It holds no credential.
#[derive(Clone)]
pub struct SourceError {
    kind: SourceErrorKind,
    temporary: bool,
    unreached: bool,
    status: Option<u16>,
    retry_after: Option<Duration>,
    context: String,
    source: Option<Arc<dyn StdError + Send + Sync>>,
}

impl SourceError {
    /// An error; `context` says what was being done, to what (URLs [redacted](super::redact)), and what failed.
    pub fn new(kind: SourceErrorKind, context: impl Into<String>) -> Self {
        let context = context.into();
        Self { kind, temporary: false, unreached: false, status: None, retry_after: None, context, source: None }
    }

    /// Marks that the same call may succeed later.
    #[must_use]
    pub fn temporary(mut self, temporary: bool) -> Self {
        self.temporary = temporary;
        self
    }

    /// Marks that nobody was there: no name, or no connection.
    #[cfg(feature = "http")]
    #[must_use]
    pub(crate) fn unreached(mut self, unreached: bool) -> Self {
        self.unreached = unreached;
        self
    }

    /// Whether nobody was there. A server that breaks off, or says nothing, is there.
    pub(crate) const fn is_unreached(&self) -> bool {
        self.unreached
    }

    /// The HTTP status.
    #[must_use]
    pub fn with_status(mut self, status: u16) -> Self {
        self.status = Some(status);
        self
    }

    /// When the origin wants to be asked again.
    #[must_use]
    pub fn with_retry_after(mut self, after: Option<Duration>) -> Self {
        self.retry_after = after;
        self
    }

    /// Attaches the cause. It must hold no URL that was not redacted.
    #[must_use]
    pub fn caused_by(mut self, source: impl StdError + Send + Sync + 'static) -> Self {
        self.source = Some(Arc::new(source));
        self
    }

    /// The kind.
    pub const fn kind(&self) -> SourceErrorKind {
        self.kind
    }

    /// Whether the same call may succeed later.
    pub const fn is_temporary(&self) -> bool {
        self.temporary
    }

    /// The HTTP status, if there was one.
    pub const fn status(&self) -> Option<u16> {
        self.status
    }

    /// When the origin wants to be asked again, if it said so.
    pub const fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }

    /// The context and every cause beneath it, in one line.
    fn full_text(&self) -> String {
        let mut text = self.context.clone();
        let mut last = text.clone();
        let mut cause = StdError::source(self);
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
}

impl fmt::Display for SourceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.context)
    }
}

impl fmt::Debug for SourceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.kind)?;
        if self.temporary {
            f.write_str(" (temporary)")?;
        }
        write!(f, ": {}", self.full_text())
    }
}

impl StdError for SourceError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

impl From<&SourceError> for Failure {
    fn from(error: &SourceError) -> Self {
        use SourceErrorKind as Kind;
        let kind = match error.kind {
            Kind::Changed => FailureKind::Changed,
            Kind::Forbidden => FailureKind::Forbidden,
            Kind::NotFound => FailureKind::NotFound,
            Kind::Guarded | Kind::InvalidInput | Kind::Local | Kind::Network | Kind::Tls => FailureKind::Local,
            Kind::Origin | Kind::Stalled => FailureKind::Origin,
        };
        let mut text = error.full_text();
        if let Some((at, _)) = text.char_indices().find(|(at, c)| at + c.len_utf8() > TEXT_MAX) {
            text.truncate(at);
        }
        let retry_ms = error.retry_after.map(|after| u32::try_from(after.as_millis()).unwrap_or(u32::MAX));
        Self { kind, temporary: error.temporary, status: error.status, retry_ms, text }
    }
}

impl From<SourceError> for Error {
    fn from(error: SourceError) -> Self {
        use SourceErrorKind as Kind;
        let kind = match error.kind {
            Kind::Changed | Kind::Origin => ErrorKind::Origin,
            Kind::Forbidden | Kind::Guarded => ErrorKind::Forbidden,
            Kind::InvalidInput => ErrorKind::InvalidInput,
            Kind::Local => ErrorKind::Io,
            Kind::Network | Kind::Tls => ErrorKind::Network,
            Kind::NotFound => ErrorKind::NotFound,
            Kind::Stalled => ErrorKind::Timeout,
        };
        // A version that was overtaken is found anew by asking again.
        let temporary = error.temporary || error.kind == Kind::Changed;
        let mut public = Error::new(kind, error.context).temporary(temporary).changed(error.kind == Kind::Changed);
        if let Some(source) = error.source {
            public = public.caused_by(Cause(source));
        }
        public
    }
}

/// Lets a shared cause be a cause again.
#[derive(Debug)]
struct Cause(Arc<dyn StdError + Send + Sync>);

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl StdError for Cause {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source()
    }
}
