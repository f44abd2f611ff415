//! Answers that have to be short, read whole: tokens, manifests, lists, and what an error says.

use std::time::Duration;

use futures::StreamExt;

use super::super::{SourceError, SourceErrorKind};
use super::Inner;

/// Why a short body could not be read.
#[derive(Debug, thiserror::Error)]
pub(in crate::source) enum Unread {
    #[error("its answer broke off after {after} bytes")]
    Broken { after: usize, source: reqwest::Error },
    #[error("nothing came for {0:?} in the middle of its answer")]
    Silent(Duration),
    #[error("its answer has more than {0} bytes")]
    TooLong(usize),
}

impl Unread {
    /// The error; `context` says what was to be read.
    pub(in crate::source) fn of(self, context: impl std::fmt::Display) -> SourceError {
        let (kind, temporary) = match self {
            Self::Broken { .. } => (SourceErrorKind::Network, true),
            Self::Silent(_) => (SourceErrorKind::Stalled, true),
            Self::TooLong(_) => (SourceErrorKind::Origin, false),
        };
        SourceError::new(kind, format!("{context} could not be read")).temporary(temporary).caused_by(self)
    }
}

/// A body that has to be short.
pub(in crate::source) async fn read(http: &Inner, response: reqwest::Response, max: usize) -> Result<Vec<u8>, Unread> {
    let mut all = Vec::new();
    let mut body = response.bytes_stream();
    let silence = http.config.silence_timeout;
    loop {
        match tokio::time::timeout(silence, body.next()).await {
            Err(_) => return Err(Unread::Silent(silence)),
            Ok(None) => return Ok(all),
            Ok(Some(Ok(bytes))) => all.extend_from_slice(&bytes),
            // Its own text would have the URL in full.
            Ok(Some(Err(error))) => {
                return Err(Unread::Broken { after: all.len(), source: error.without_url() });
            }
        }
        if all.len() > max {
            return Err(Unread::TooLong(max));
        }
    }
}

/// What is wrong with JSON. What its parser says quotes what it read: a token, or megabytes.
pub(in crate::source) fn malformed(error: &serde_json::Error) -> String {
    let what = match error.classify() {
        serde_json::error::Category::Io | serde_json::error::Category::Eof => "cut off",
        serde_json::error::Category::Syntax => "no JSON",
        serde_json::error::Category::Data => "of another structure",
    };
    format!("{what} (line {}, column {})", error.line(), error.column())
}
