//! Bodies that survive a broken connection.

use std::sync::Arc;

use bytes::Bytes;
use futures::stream::{self, BoxStream};
use futures::{FutureExt, StreamExt};

use super::{Content, OpenRequest, Opened, Source, SourceError, SourceErrorKind, redact};

/// Opens `request` and yields exactly the bytes of its range (to the end of the content at most), resuming like
/// [`resume()`]. Without a range it is all of the content.
///
/// An answer of another range than was asked for is an error here, except that a whole body serves a range that
/// starts at byte 0; its rest is not read.
pub fn fetch_range(source: Arc<dyn Source>, request: OpenRequest) -> BoxStream<'static, Result<Bytes, SourceError>> {
    let opening = async move {
        match source.open(request.clone()).await {
            Ok(Opened::Content(content)) => match fits(&request, &content) {
                Ok(()) => resume(source, request, content),
                Err(error) => failed(error),
            },
            Ok(Opened::Unchanged { .. }) => {
                let text = format!("{}: asked for bytes, told that they are unchanged", redact(&request.url));
                failed(SourceError::new(SourceErrorKind::InvalidInput, text))
            }
            Err(error) => failed(error),
        }
    };
    opening.flatten_stream().boxed()
}

/// The body of `content`, which `request` opened. If it breaks off or stalls, and the version is told by a strong
/// validator, it goes on by a new request for the rest of the range, from the byte reached, under that validator.
///
/// [`OpenRequest::retry`] bounds the resumptions in a row that bring no byte; each byte starts the count anew.
/// Without a strong validator, or without ranges, the first error is the last. After an error the stream ends.
///
/// # Cancel safety
/// Dropping the stream ends its request. No byte is read that is not yielded, but for what the HTTP client buffers.
pub fn resume(
    source: Arc<dyn Source>,
    mut request: OpenRequest,
    content: Content,
) -> BoxStream<'static, Result<Bytes, SourceError>> {
    let wanted = request.range.clone().unwrap_or(0..u64::MAX);
    if content.offset != wanted.start {
        let text = format!("{}: serves no ranges, so not from byte {}", redact(&request.url), wanted.start);
        return failed(SourceError::new(SourceErrorKind::Origin, text));
    }
    let carried = content.body_length.map(|len| content.offset.saturating_add(len));
    let end = [carried, content.length].into_iter().flatten().fold(wanted.end, u64::min);
    // A version that the caller expects was checked; else the one that answered is the one to hold on to.
    let resumable = content.ranges && (request.expect.is_some() || content.validator.is_some());
    request.expect = request.expect.or_else(|| content.validator.clone().filter(|_| resumable));
    request.expect_length = request.expect_length.or(content.length);
    request.prior = None;
    let state = Resuming { source, request, body: Some(content.body), at: wanted.start, end, resumable, failures: 0 };
    stream::unfold(state, |mut state| async move { state.next().await.map(|item| (item, state)) }).boxed()
}

struct Resuming {
    source: Arc<dyn Source>,
    request: OpenRequest,
    /// Absent once an error was yielded or the end reached.
    body: Option<BoxStream<'static, Result<Bytes, SourceError>>>,
    at: u64,
    /// `u64::MAX` until the end is known.
    end: u64,
    resumable: bool,
    /// Without a byte in between.
    failures: u32,
}

impl Resuming {
    async fn next(&mut self) -> Option<Result<Bytes, SourceError>> {
        loop {
            if self.at >= self.end {
                return self.finish();
            }
            let body = self.body.as_mut()?;
            match body.next().await {
                None if self.end == u64::MAX => {
                    self.body = None;
                    return None;
                }
                // A body sees to it itself that it is as long as promised; one that does not has broken off.
                None => {
                    let text = format!("{}: the body ends at byte {}", redact(&self.request.url), self.at);
                    let error = SourceError::new(SourceErrorKind::Network, text).temporary(true);
                    if let Err(error) = self.reopen(error).await {
                        self.body = None;
                        return Some(Err(error));
                    }
                }
                Some(Ok(mut bytes)) if !bytes.is_empty() => {
                    bytes.truncate(usize::try_from(self.end - self.at).unwrap_or(usize::MAX));
                    self.at += bytes.len() as u64;
                    self.failures = 0;
                    return Some(Ok(bytes));
                }
                Some(Ok(_)) => {}
                Some(Err(error)) => {
                    if let Err(error) = self.reopen(error).await {
                        self.body = None;
                        return Some(Err(error));
                    }
                }
            }
        }
    }

    /// Everything came. A body that has more to say was longer than promised; that is told if it is known already.
    fn finish(&mut self) -> Option<Result<Bytes, SourceError>> {
        let mut body = self.body.take()?;
        match body.next().now_or_never() {
            Some(Some(Err(error))) if !error.is_temporary() => Some(Err(error)),
            _ => None,
        }
    }

    /// Replaces the body by one that starts at the byte reached, or says why not.
    async fn reopen(&mut self, error: SourceError) -> Result<(), SourceError> {
        if !self.resumable || !error.is_temporary() || self.failures + 1 >= self.request.retry.attempts {
            return Err(error);
        }
        self.body = None;
        if self.failures > 0 {
            tokio::time::sleep(self.request.retry.delay(self.failures)).await;
        }
        self.failures += 1;
        self.request.retries.count();
        let mut request = self.request.clone();
        request.range = Some(self.at..self.end);
        tracing::debug!(url = redact(&request.url), at = self.at, %error, "resuming");
        match self.source.open(request.clone()).await? {
            Opened::Content(content) if content.offset == self.at => {
                fits(&request, &content)?;
                let carried = content.body_length.map(|len| self.at.saturating_add(len));
                if self.end != u64::MAX && carried.is_some_and(|carried| carried < self.end) {
                    let text = format!("{}: answers with less than the range", redact(&self.request.url));
                    return Err(SourceError::new(SourceErrorKind::Origin, text));
                }
                self.end = carried.map_or(self.end, |carried| carried.min(self.end));
                self.body = Some(content.body);
                Ok(())
            }
            _ => {
                let text = format!("{}: answers with another range", redact(&self.request.url));
                Err(SourceError::new(SourceErrorKind::Origin, text))
            }
        }
    }
}

/// What a source is to check itself: that the answer is the version that was expected, as far as the answer says.
fn fits(request: &OpenRequest, content: &Content) -> Result<(), SourceError> {
    use crate::task::Validator::{Etag, LastModified, Version};
    let same = match (&request.expect, &content.validator) {
        (Some(Etag(a)), Some(Etag(b))) | (Some(LastModified(a)), Some(LastModified(b))) => a == b,
        (Some(Version(a)), Some(Version(b))) => a == b,
        // An answer may be told by something else, or need not repeat what it was asked for.
        _ => true,
    };
    let as_long = match (request.expect_length, content.length) {
        (Some(expected), Some(length)) => expected == length,
        _ => true,
    };
    if same && as_long {
        return Ok(());
    }
    let text = format!("{}: the content is not the version that was expected any more", redact(&request.url));
    Err(SourceError::new(SourceErrorKind::Changed, text))
}

fn failed(error: SourceError) -> BoxStream<'static, Result<Bytes, SourceError>> {
    stream::once(std::future::ready(Err(error))).boxed()
}
