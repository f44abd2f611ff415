//! Bodies held to what their heads promised.

use std::time::Duration;

use bytes::Bytes;
use futures::stream::{self, BoxStream};
use futures::{Stream, StreamExt};

use super::super::{SourceError, SourceErrorKind};
use super::stalled;

/// What a body is to be.
pub(super) struct Promise {
    /// The URL, for errors.
    pub(super) shown: String,
    /// Its length in bytes, if known.
    pub(super) length: Option<u64>,
    /// The longest silence.
    pub(super) silence: Duration,
}

/// Yields the bytes of `inner`, at most as many as promised; ends with an error if they are fewer or more, if the
/// connection breaks, or if nothing comes for too long.
pub(super) fn checked(
    inner: impl Stream<Item = reqwest::Result<Bytes>> + Send + 'static,
    promise: Promise,
) -> BoxStream<'static, Result<Bytes, SourceError>> {
    let state = Some(Checked { inner: inner.boxed(), promise, seen: 0, over: None });
    stream::unfold(state, |state| async move {
        let mut state = state?;
        match state.next().await? {
            Ok(bytes) => Some((Ok(bytes), Some(state))),
            Err(error) => Some((Err(error), None)),
        }
    })
    .boxed()
}

struct Checked {
    inner: BoxStream<'static, reqwest::Result<Bytes>>,
    promise: Promise,
    seen: u64,
    /// The error for a body that was found too long, after its last good bytes were yielded.
    over: Option<SourceError>,
}

impl Checked {
    async fn next(&mut self) -> Option<Result<Bytes, SourceError>> {
        if let Some(error) = self.over.take() {
            return Some(Err(error));
        }
        let shown = &self.promise.shown;
        let Ok(item) = tokio::time::timeout(self.promise.silence, self.inner.next()).await else {
            return Some(Err(stalled(shown, self.promise.silence)));
        };
        match (item, self.promise.length) {
            (Some(Ok(mut bytes)), length) => {
                let room = length.map_or(u64::MAX, |length| length - self.seen);
                if bytes.len() as u64 > room {
                    let text =
                        format!("{shown}: the origin sends more than the {} bytes it promised", self.seen + room);
                    let error = SourceError::new(SourceErrorKind::Origin, text);
                    // `room` is less than a buffer's length here.
                    bytes.truncate(room as usize);
                    if bytes.is_empty() {
                        return Some(Err(error));
                    }
                    self.over = Some(error);
                }
                self.seen += bytes.len() as u64;
                Some(Ok(bytes))
            }
            (Some(Err(error)), _) => {
                let text = format!("{shown}: the connection broke after {} bytes", self.seen);
                let error = SourceError::new(SourceErrorKind::Network, text).caused_by(error.without_url());
                Some(Err(error.temporary(true)))
            }
            (None, Some(length)) if self.seen < length => {
                let text = format!("{shown}: the origin ended after {} of {length} bytes", self.seen);
                Some(Err(SourceError::new(SourceErrorKind::Origin, text).temporary(true)))
            }
            (None, _) => None,
        }
    }
}
