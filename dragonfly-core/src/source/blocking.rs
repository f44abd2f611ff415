//! Sources whose calls block: what libraries without async, and other languages, have to offer.

use std::io::{self, Read};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::{self, BoxStream};
use futures::{FutureExt, StreamExt};
use tokio::runtime::Handle;

use super::{Content, OpenRequest, Opened, Source, SourceError, SourceErrorKind, redact};
use crate::task::Validator;

/// How much is read at a time, in bytes: enough that changing threads for it does not show, little enough that many
/// downloads fit into memory.
const CHUNK_BYTES: usize = 256 << 10;

/// The longest version, in bytes: it travels in every description of the content.
const VERSION_MAX: usize = 512;

/// An origin that is asked with calls that block. [`blocking`] makes a [`Source`] of it.
///
/// It is called from several threads at once, on threads that are there to be blocked. A call that is under way
/// cannot be withdrawn from: waits in it must have a bound of their own.
pub trait BlockingSource: Send + Sync + 'static {
    /// Asks the origin once for [`OpenRequest::url`]. What the request says of versions, lengths and retries needs no
    /// attention: it is seen to by [`blocking`], by what the content says.
    ///
    /// # Errors
    /// Any; those that are [temporary](SourceError::temporary) are tried again.
    fn open(&self, request: &OpenRequest) -> Result<BlockingContent, SourceError>;
}

/// What a [`BlockingSource`] answers.
#[non_exhaustive]
pub struct BlockingContent {
    /// The length of the whole, in bytes, if it is known.
    pub length: Option<u64>,
    /// The offset in the whole of the body's first byte: where the range that was asked for starts, or 0 if the origin
    /// has no ranges (default: 0).
    pub offset: u64,
    /// What tells this version from all others, at most 512 bytes (default: nothing does). Without it content cannot
    /// be resumed, and is not shared beyond what was fetched at one time.
    pub version: Option<String>,
    /// Whether the origin serves ranges (default: no).
    pub ranges: bool,
    /// How long the answer stays current (default: the origin does not say).
    pub fresh: Option<Duration>,
    /// The bytes, from `offset` on. They are read up to the end of the range or of the content, whichever comes first.
    /// An error that holds a [`SourceError`] (see [`io::Error::other`]) is that; others are taken for what their kind
    /// says. Dropped on a thread that may block.
    pub body: Box<dyn Read + Send>,
}

impl BlockingContent {
    /// Content of which nothing is known but its bytes.
    pub fn new(body: impl Read + Send + 'static) -> Self {
        Self { length: None, offset: 0, version: None, ranges: false, fresh: None, body: Box::new(body) }
    }
}

impl std::fmt::Debug for BlockingContent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BlockingContent")
            .field("length", &self.length)
            .field("offset", &self.offset)
            .field("version", &self.version)
            .field("ranges", &self.ranges)
            .finish_non_exhaustive()
    }
}

/// A [`Source`] that asks a [`BlockingSource`], on the blocking threads of the node's runtime. It names no schemes:
/// give it one with [`NodeBuilder::source_for`](crate::NodeBuilder::source_for).
///
/// It retries, compares versions and lengths with those expected, and sees to it that bodies are as long as promised.
///
/// ```no_run
/// use dragonfly_core::Node;
/// use dragonfly_core::source::{self, BlockingContent, BlockingSource, OpenRequest, SourceError, SourceErrorKind};
///
/// struct Files;
///
/// impl BlockingSource for Files {
///     fn open(&self, request: &OpenRequest) -> Result<BlockingContent, SourceError> {
///         let failed = |e| SourceError::new(SourceErrorKind::NotFound, "no such file").caused_by(e);
///         let file = std::fs::File::open(request.url.path()).map_err(failed)?;
///         let length = file.metadata().map_err(failed)?.len();
///         let mut content = BlockingContent::new(file);
///         content.length = Some(length);
///         Ok(content)
///     }
/// }
///
/// let builder = Node::builder().source_for("files", source::blocking(Files));
/// ```
pub fn blocking(source: impl BlockingSource) -> Arc<dyn Source> {
    Arc::new(Adapter(Arc::new(source)))
}

struct Adapter<S>(Arc<S>);

impl<S: BlockingSource> Source for Adapter<S> {
    fn schemes(&self) -> &[&str] {
        &[]
    }

    fn open<'a>(&'a self, request: OpenRequest) -> BoxFuture<'a, Result<Opened, SourceError>> {
        async move {
            let mut failures = 0;
            loop {
                match open_once(&self.0, &request).await {
                    Err(error) if error.is_temporary() && failures + 1 < request.retry.attempts => {
                        failures += 1;
                        request.retries.count();
                        tracing::debug!(url = redact(&request.url), %error, "trying again");
                        tokio::time::sleep(request.retry.delay(failures)).await;
                    }
                    outcome => return outcome,
                }
            }
        }
        .boxed()
    }
}

async fn open_once<S: BlockingSource>(source: &Arc<S>, request: &OpenRequest) -> Result<Opened, SourceError> {
    let (source, asked) = (Arc::clone(source), request.clone());
    let opened = on_a_blocking_thread(move || source.open(&asked)).await??;
    let BlockingContent { length, offset, version, ranges, fresh, body } = opened;
    let body = Body(Some(body));
    let shown = || redact(&request.url);
    let wrong = |what: String| SourceError::new(SourceErrorKind::Origin, format!("{}: {what}", shown()));
    let changed = |what: &str| SourceError::new(SourceErrorKind::Changed, format!("{}: {what}", shown()));
    if version.as_ref().is_some_and(|version| version.len() > VERSION_MAX) {
        return Err(wrong(format!("its version is longer than {VERSION_MAX} bytes")));
    }
    let validator = version.filter(|version| !version.is_empty()).map(Validator::Version);
    if validator.is_some() && validator == request.prior {
        return Ok(Opened::Unchanged { fresh });
    }
    if request.expect.is_some() && request.expect != validator {
        return Err(changed("it is of another version than expected"));
    }
    if length.zip(request.expect_length).is_some_and(|(length, expected)| length != expected) {
        return Err(changed("it has another length than expected"));
    }
    let wanted = request.range.clone().unwrap_or(0..u64::MAX);
    if offset != 0 && offset != wanted.start {
        return Err(wrong(format!("asked for byte {} on, it answers from byte {offset} on", wanted.start)));
    }
    let end = length.map_or(wanted.end, |length| wanted.end.min(length));
    // A body from byte 0 on that was not asked for is the whole, of an origin without ranges.
    let end = if offset == wanted.start { end } else { length.unwrap_or(u64::MAX) };
    let body_length = (end != u64::MAX && length.is_some()).then(|| end.saturating_sub(offset));
    if offset > end {
        return Err(wrong(format!("it has {end} bytes, and none at byte {offset}")));
    }
    let reading = Reading { body: Some(body), left: end - offset, exact: body_length.is_some(), shown: shown() };
    let mut content = Content::new(reading.stream());
    content.length = length;
    content.offset = offset;
    content.body_length = body_length;
    content.validator = validator;
    content.ranges = ranges;
    content.fresh = fresh;
    Ok(Opened::Content(content))
}

/// Runs the embedder's code. Its panics are errors.
async fn on_a_blocking_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, SourceError> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|e| SourceError::new(SourceErrorKind::Local, "the source did not answer").caused_by(e))
}

/// A body, whose end may block.
struct Body(Option<Box<dyn Read + Send>>);

impl Drop for Body {
    fn drop(&mut self) {
        let Some(body) = self.0.take() else { return };
        // A runtime that is ending drops what it does not run any more.
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn_blocking(move || drop(body));
        }
    }
}

struct Reading {
    /// Absent after its end.
    body: Option<Body>,
    /// Bytes that are wanted still.
    left: u64,
    /// Whether so many were promised.
    exact: bool,
    shown: String,
}

impl Reading {
    fn stream(self) -> BoxStream<'static, Result<Bytes, SourceError>> {
        stream::unfold(self, |mut reading| async move { reading.next().await.map(|item| (item, reading)) }).boxed()
    }

    async fn next(&mut self) -> Option<Result<Bytes, SourceError>> {
        let mut body = self.body.take().filter(|_| self.left > 0)?;
        let room = usize::try_from(self.left).map_or(CHUNK_BYTES, |left| left.min(CHUNK_BYTES));
        let read = on_a_blocking_thread(move || {
            let mut chunk = vec![0; room];
            let read = body.0.as_mut().map_or(Ok(0), |body| read_some(body, &mut chunk));
            (body, read.map(|read| (chunk, read)))
        });
        match read.await {
            Err(error) => Some(Err(error)),
            Ok((_, Err(error))) => Some(Err(told(error, &self.shown))),
            Ok((_, Ok((_, 0)))) if self.exact => {
                let text = format!("{}: the body ended {} bytes early", self.shown, self.left);
                Some(Err(SourceError::new(SourceErrorKind::Network, text).temporary(true)))
            }
            Ok((_, Ok((_, 0)))) => None,
            Ok((_, Ok((_, read)))) if read > room => {
                let text = format!("{}: more bytes were read than there was room for", self.shown);
                Some(Err(SourceError::new(SourceErrorKind::Local, text)))
            }
            Ok((body, Ok((mut chunk, read)))) => {
                chunk.truncate(read);
                self.left -= read as u64;
                self.body = Some(body);
                Some(Ok(Bytes::from(chunk)))
            }
        }
    }
}

/// At least one byte, or 0 at the end.
fn read_some(body: &mut dyn Read, room: &mut [u8]) -> io::Result<usize> {
    loop {
        match body.read(room) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            outcome => return outcome,
        }
    }
}

/// The error of a body.
fn told(error: io::Error, shown: &str) -> SourceError {
    if let Some(own) = error.get_ref().and_then(|inner| inner.downcast_ref::<SourceError>()) {
        return own.clone();
    }
    let (kind, temporary) = match error.kind() {
        io::ErrorKind::NotFound => (SourceErrorKind::NotFound, false),
        io::ErrorKind::PermissionDenied => (SourceErrorKind::Forbidden, false),
        io::ErrorKind::TimedOut => (SourceErrorKind::Stalled, true),
        _ => (SourceErrorKind::Network, true),
    };
    SourceError::new(kind, format!("{shown}: the body broke off")).temporary(temporary).caused_by(error)
}

#[cfg(test)]
mod tests;
