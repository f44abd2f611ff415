//! Bodies held to what their heads promised.

use std::time::Duration;

use bytes::Bytes;
use futures::stream::{self, BoxStream};
use futures::{Stream, StreamExt};

use super::{SourceError, SourceErrorKind};

/// The error for an origin that said nothing for so long.
pub(super) fn stalled(shown: &str, limit: Duration) -> SourceError {
    SourceError::new(SourceErrorKind::Stalled, format!("{shown}: the origin sent nothing for {limit:?}"))
        .temporary(true)
}

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
/// connection breaks, or if nothing comes for too long. `broken` makes an error of one of `inner`, by the URL and the
/// bytes that came.
pub(super) fn checked<E: Send + 'static>(
    inner: impl Stream<Item = Result<Bytes, E>> + Send + 'static,
    promise: Promise,
    broken: fn(E, &str, u64) -> SourceError,
) -> BoxStream<'static, Result<Bytes, SourceError>> {
    let state = Some(Checked { inner: inner.boxed(), promise, broken, seen: 0, over: None });
    stream::unfold(state, |state| async move {
        let mut state = state?;
        match state.next().await? {
            Ok(bytes) => Some((Ok(bytes), Some(state))),
            Err(error) => Some((Err(error), None)),
        }
    })
    .boxed()
}

struct Checked<E> {
    inner: BoxStream<'static, Result<Bytes, E>>,
    promise: Promise,
    broken: fn(E, &str, u64) -> SourceError,
    seen: u64,
    /// The error for a body that was found too long, after its last good bytes were yielded.
    over: Option<SourceError>,
}

impl<E> Checked<E> {
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
            (Some(Err(error)), _) => Some(Err((self.broken)(error, shown, self.seen))),
            (None, Some(length)) if self.seen < length => {
                let text = format!("{shown}: the origin ended after {} of {length} bytes", self.seen);
                Some(Err(SourceError::new(SourceErrorKind::Origin, text).temporary(true)))
            }
            (None, _) => None,
        }
    }
}
