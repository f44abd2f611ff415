//! Content of a storage, checked as that of an HTTP origin is.

use std::sync::PoisonError;
use std::time::{Duration, SystemTime};

use ::http::header::HeaderMap;
use bytes::Bytes;
use futures::stream::{self, BoxStream};
use futures::{FutureExt, Stream, StreamExt};
use opendal::{Buffer, BufferStream, ErrorKind, Operator};

use super::super::body::{Promise, checked, stalled};
use super::super::header::{caching, text, validator};
use super::super::http::answer::{Asked, Head, Shape, Verdict, refuses_the_whole};
use super::super::{Content, OpenRequest, Opened, SourceError, SourceErrorKind, redact};
use super::place::Kind;
use super::transport::{Answer, Seen};
use super::{Asking, failure};
use crate::task::Validator;

/// How much is read at a time of what is not a stream by itself, in bytes.
const CHUNK_BYTES: usize = 4 << 20;

/// How much older than now a time of modification must be to tell versions apart: as for HTTP's `Last-Modified`.
const MODIFIED_AGE_MIN: Duration = Duration::from_secs(60);

/// One attempt to open an object.
pub(super) async fn open(asking: &Asking, key: &str, request: &OpenRequest) -> Result<Opened, SourceError> {
    if request.range.as_ref().is_some_and(|range| range.start >= range.end) {
        return Err(SourceError::new(SourceErrorKind::InvalidInput, "the range is empty"));
    }
    if !request.headers.is_empty() {
        let text = format!("{}: storages take no headers of the caller's", redact(&request.url));
        return Err(SourceError::new(SourceErrorKind::InvalidInput, text));
    }
    if !asking.kind.answers_as_http() {
        return open_stated(asking, key, request).await;
    }
    if let Some(opened) = open_as_http(asking, key, request, request.range.is_some()).await? {
        return Ok(opened);
    }
    open_as_http(asking, key, request, false).await?.ok_or_else(|| refuses_the_whole(request))
}

/// One request, judged by the head of its answer; absent: ask for the whole.
async fn open_as_http(
    asking: &Asking,
    key: &str,
    request: &OpenRequest,
    ranged: bool,
) -> Result<Option<Opened>, SourceError> {
    let (operator, seen) = asking.operator(request);
    let range = request.range.clone().filter(|_| ranged);
    let outcome = read(&operator, key, request, range.clone(), asking.kind).await;
    let Some(answer) = seen.lock().unwrap_or_else(PoisonError::into_inner).take() else {
        let told = |error| failure::of_opendal(asking.kind, request, &error);
        let nothing = || SourceError::new(SourceErrorKind::Local, "the storage was not asked");
        return Err(outcome.map_or_else(told, |_| nothing()));
    };
    let validator = validator_of(asking.kind, &answer.headers);
    let asked = Asked { request, range, shown: redact(&request.url) };
    let head = Head {
        status: answer.status,
        headers: &answer.headers,
        length: content_length(&answer.headers),
        validator: validator.as_ref(),
    };
    let caching = caching(&answer.headers);
    // A range outside, another version and the one known are no failures of the storage's.
    let ours = matches!(answer.status, 200 | 206 | 304 | 412 | 416) && !answer.of_credentials;
    let shape = match asked.judge(&head) {
        Err(error) if ours => return Err(error),
        Err(error) => return Err(failure::of_answer(asking.kind, request, &answer, error)),
        Ok(Verdict::AskWhole) => return Ok(None),
        Ok(Verdict::Unchanged) => return Ok(Some(Opened::Unchanged { fresh: caching.fresh })),
        Ok(Verdict::Content(shape)) => shape,
    };
    let stream = match outcome {
        Ok(stream) => Some(stream),
        Err(_) if shape.body_length == Some(0) => None,
        Err(error) => return Err(unread(asking, request, &answer, &error)),
    };
    let mut content = Content::new(body(stream, &shape, asking, request));
    content.length = shape.length;
    content.offset = shape.offset;
    content.body_length = shape.body_length;
    content.validator = validator;
    // Object stores all have ranges; only some say so of a whole.
    content.ranges = shape.ranges || (asking.kind.has_buckets() && (answer.status == 206 || request.range.is_none()));
    content.fresh = caching.fresh;
    content.private = asking.private || caching.private;
    Ok(Some(Opened::Content(content)))
}

/// Opens an object for reading; its head has come when this ends.
async fn read(
    operator: &Operator,
    key: &str,
    request: &OpenRequest,
    range: Option<std::ops::Range<u64>>,
    kind: Kind,
) -> opendal::Result<BufferStream> {
    let mut reading = operator.reader_with(key);
    match &request.expect {
        Some(Validator::Etag(tag)) => reading = reading.if_match(tag),
        Some(Validator::Version(version)) if kind == Kind::Gcs => reading = reading.if_version_match(version),
        _ => {}
    }
    match &request.prior {
        Some(Validator::Etag(tag)) => reading = reading.if_none_match(tag),
        Some(Validator::Version(version)) if kind == Kind::Gcs => reading = reading.if_version_not_match(version),
        _ => {}
    }
    let reader = reading.await?;
    let mut stream = match range {
        None => reader.into_stream(..).await?,
        Some(range) if range.end == u64::MAX => reader.into_stream(range.start..).await?,
        Some(range) => reader.into_stream(range).await?,
    };
    match stream.metadata().await {
        // It is opened all the same.
        Err(error) if error.kind() == ErrorKind::Unsupported => Ok(stream),
        Err(error) => Err(error),
        Ok(_) => Ok(stream),
    }
}

/// Content that cannot be read although its head was good.
fn unread(asking: &Asking, request: &OpenRequest, answer: &Answer, error: &opendal::Error) -> SourceError {
    if let Some(own) = failure::own(error) {
        return own.clone();
    }
    tracing::debug!(kind = ?asking.kind, status = answer.status, of = ?error.kind(), "an answer that cannot be read");
    SourceError::new(SourceErrorKind::Origin, format!("{}: the answer makes no sense", redact(&request.url)))
        .with_status(answer.status)
}

/// Of what kind of storage, what tells a version: GCS numbers them, others have entity tags or dates.
fn validator_of(kind: Kind, headers: &HeaderMap) -> Option<Validator> {
    if kind == Kind::Gcs
        && let Some(number) = headers.get("x-goog-generation").and_then(|value| value.to_str().ok())
        && !number.is_empty()
        && number.len() <= 20
        && number.bytes().all(|byte| byte.is_ascii_digit())
    {
        return Some(Validator::Version(number.to_owned()));
    }
    validator(headers)
}

fn content_length(headers: &HeaderMap) -> Option<u64> {
    let digits = text(headers, &::http::header::CONTENT_LENGTH)?;
    digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok()).flatten()
}

fn body(
    stream: Option<impl Stream<Item = opendal::Result<Buffer>> + Send + 'static>,
    shape: &Shape,
    asking: &Asking,
    request: &OpenRequest,
) -> BoxStream<'static, Result<Bytes, SourceError>> {
    let Some(stream) = stream.filter(|_| shape.body_length != Some(0)) else {
        return stream::empty().boxed();
    };
    let promise =
        Promise { shown: redact(&request.url), length: shape.body_length, silence: asking.reach.http.silence_timeout };
    checked(stream.map(|item| item.map(|buffer: Buffer| buffer.to_bytes())), promise, broken)
}

/// The error of a body of which so many bytes came.
fn broken(error: opendal::Error, shown: &str, seen: u64) -> SourceError {
    let text = format!("{shown}: the connection broke after {seen} bytes");
    let broken = SourceError::new(SourceErrorKind::Network, text).temporary(true);
    match failure::own(&error) {
        Some(own) => broken.caused_by(own.clone()),
        None => broken,
    }
}

/// What is asked first and read then: its version is asked for once more at the end, since no request can be bound to
/// one.
async fn open_stated(asking: &Asking, key: &str, request: &OpenRequest) -> Result<Opened, SourceError> {
    let (operator, seen) = asking.operator(request);
    let limit = asking.reach.http.first_byte_timeout;
    let shown = redact(&request.url);
    let stated = tokio::time::timeout(limit, operator.stat(key)).await.map_err(|_| stalled(&shown, limit))?;
    let metadata = stated.map_err(|error| told(asking, request, &seen, &error))?;
    if metadata.is_dir() {
        let text = format!("{shown}: it is a directory: list it");
        return Err(SourceError::new(SourceErrorKind::InvalidInput, text));
    }
    let length = metadata.content_length();
    let validator = metadata.last_modified().and_then(|modified| version(modified.into(), length, SystemTime::now()));
    let Some(shape) = settled(request, length, validator.as_ref(), &shown)? else {
        return Ok(Opened::Unchanged { fresh: None });
    };
    let (start, end) = (shape.offset, shape.offset + shape.body_length.unwrap_or(0));
    let stream = if shape.body_length == Some(0) {
        None
    } else {
        let mut reading = operator.reader_with(key);
        if asking.kind != Kind::Webhdfs {
            reading = reading.chunk(CHUNK_BYTES);
        }
        let opening = async { reading.await?.into_stream(start..end).await };
        let opened = tokio::time::timeout(limit, opening).await.map_err(|_| stalled(&shown, limit))?;
        let mut stream = opened.map_err(|error| told(asking, request, &seen, &error))?;
        // Who may see that it is there may not be let read it: that is known with the first bytes.
        let silence = asking.reach.http.silence_timeout;
        let first = tokio::time::timeout(silence, stream.next()).await.map_err(|_| stalled(&shown, silence))?;
        let first = first.transpose().map_err(|error| match error.kind() {
            ErrorKind::NotFound | ErrorKind::PermissionDenied => told(asking, request, &seen, &error),
            _ => broken(error, &shown, 0),
        })?;
        Some(stream::iter(first.map(Ok)).chain(stream))
    };
    let body = body(stream, &shape, asking, request);
    let key = key.to_owned();
    let (asked, again) = (request.clone(), asking.clone());
    let same = async move {
        let after = tokio::time::timeout(limit, operator.stat(&key)).await;
        let after = after.map_err(|_| stalled(&redact(&asked.url), limit))?;
        let after = after.map_err(|error| told(&again, &asked, &seen, &error))?;
        let facts = |of: &opendal::Metadata| (of.content_length(), of.last_modified());
        Ok(facts(&after) == facts(&metadata))
    };
    Ok(Opened::Content(content(confirmed(body, end - start, same, shown), shape, validator, asking.private)))
}

/// Content of a shape.
pub(in crate::source) fn content(
    body: BoxStream<'static, Result<Bytes, SourceError>>,
    shape: Shape,
    validator: Option<Validator>,
    private: bool,
) -> Content {
    Content {
        length: shape.length,
        offset: shape.offset,
        body_length: shape.body_length,
        validator,
        ranges: shape.ranges,
        fresh: None,
        private,
        body,
    }
}

/// What is to be read of content of which length and version are known; absent: it is the version known already.
pub(in crate::source) fn settled(
    request: &OpenRequest,
    length: u64,
    validator: Option<&Validator>,
    shown: &str,
) -> Result<Option<Shape>, SourceError> {
    let wrong = |kind, what: &str| SourceError::new(kind, format!("{shown}: {what}"));
    if validator.is_some() && validator == request.prior.as_ref() {
        return Ok(None);
    }
    let another = request.expect.is_some() && request.expect.as_ref() != validator;
    if another || request.expect_length.is_some_and(|expected| expected != length) {
        let what = "the content is not the version that was expected any more";
        return Err(wrong(SourceErrorKind::Changed, what));
    }
    let wanted = request.range.clone().unwrap_or(0..u64::MAX);
    if wanted.start >= length && wanted.start > 0 {
        return Err(wrong(SourceErrorKind::Origin, "the origin ends before the range that was asked for"));
    }
    let body_length = Some(wanted.end.min(length) - wanted.start);
    Ok(Some(Shape { length: Some(length), offset: wanted.start, body_length, ranges: true }))
}

/// The error of a request that is not judged as HTTP's.
pub(super) fn told(asking: &Asking, request: &OpenRequest, seen: &Seen, error: &opendal::Error) -> SourceError {
    let answer = seen.lock().unwrap_or_else(PoisonError::into_inner).take();
    match answer.filter(|answer| answer.status >= 300) {
        Some(answer) => {
            let judged = super::super::http::status_failure(&redact(&request.url), answer.status, &answer.headers);
            failure::of_answer(asking.kind, request, &answer, judged)
        }
        None => failure::of_opendal(asking.kind, request, error),
    }
}

/// The version by time and length, once the time is old enough that no second change can share it.
pub(super) fn version(modified: SystemTime, length: u64, now: SystemTime) -> Option<Validator> {
    let old = now.duration_since(modified).is_ok_and(|age| age >= MODIFIED_AGE_MIN);
    let since = modified.duration_since(SystemTime::UNIX_EPOCH).ok()?;
    let text = format!("{}.{:09}-{length}", since.as_secs(), since.subsec_nanos());
    old.then_some(Validator::Version(text))
}

/// A body whose last bytes come only if it is the `same` object still.
pub(super) fn confirmed(
    body: BoxStream<'static, Result<Bytes, SourceError>>,
    length: u64,
    same: impl Future<Output = Result<bool, SourceError>> + Send + 'static,
    shown: String,
) -> BoxStream<'static, Result<Bytes, SourceError>> {
    let confirm = async move {
        let text = format!("{shown}: the content changed while it was read");
        if same.await? { Ok(()) } else { Err(SourceError::new(SourceErrorKind::Changed, text)) }
    };
    stream::unfold((body, length, Some(confirm.boxed())), |(mut body, left, mut confirm)| async move {
        let mut item = body.next().await?;
        let left = left.saturating_sub(item.as_ref().map_or(0, |bytes| bytes.len() as u64));
        if left == 0
            && item.is_ok()
            && let Some(confirm) = confirm.take()
            && let Err(error) = confirm.await
        {
            item = Err(error);
        }
        Some((item, (body, left, confirm)))
    })
    .boxed()
}
