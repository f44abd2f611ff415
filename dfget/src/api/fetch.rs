//! `POST /v1/fetch` and `/v1/preheat`.

mod pieces;

use std::collections::HashMap;
use std::future::Future;
use std::io::{self, SeekFrom};
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{self, Poll};
use std::time::{Duration, Instant};

use axum::body::{Body, Bytes};
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use bytes::BytesMut;
use dragonfly_core::peer::Reader;
use dragonfly_core::{ErrorKind, Receipt};
use futures::Stream;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use http_body_util::StreamBody;
use hyper::body::Frame;
use serde_json::json;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncSeekExt, ReadBuf};

use super::body::Asked;
use super::events::Watch;
use super::{Caller, Context, query, read_failed};
use crate::error::Failure;
use crate::model::{self, ErrorBody, FetchRequest, ReceiptBody};
use crate::passing::Slot;
use crate::range::ByteRange;

/// For the receipt to say why a read failed.
const WHY_MAX: Duration = Duration::from_secs(5);
/// The most that is read at once; one such chunk a request is held besides hyper's buffer.
const CHUNK: usize = 256 << 10;

/// What is streamed: bytes in order, then a receipt.
pub(super) trait Content: AsyncRead + Send + Unpin + 'static {
    fn length(&self) -> u64;
    fn receipt(&mut self) -> impl Future<Output = Result<ReceiptBody, Failure>> + Send;
    /// It could not be read.
    fn failed(&mut self, failure: &Failure);
}

impl Content for Watched {
    fn failed(&mut self, failure: &Failure) {
        self.watch.failed(failure);
    }

    fn length(&self) -> u64 {
        self.part.end - self.part.start
    }

    async fn receipt(&mut self) -> Result<ReceiptBody, Failure> {
        let receipt = if self.is_part { Ok(self.part_receipt()) } else { self.whole_receipt().await };
        match &receipt {
            Ok(receipt) => self.watch.receipt(receipt),
            Err(failure) => self.watch.failed(failure),
        }
        receipt
    }
}

/// Content, or a part of it, and who is told how it goes.
struct Watched {
    reader: Reader,
    watch: Watch,
    part: Range<u64>,
    is_part: bool,
    /// Of the whole, where a part of it waited for that.
    proven: Option<Receipt>,
    started: Instant,
}

impl Watched {
    async fn new(mut reader: Reader, mut watch: Watch, range: Option<ByteRange>) -> Result<Self, Failure> {
        let started = Instant::now();
        let part = range.map_or(Ok(0..reader.length()), |range| range.within(reader.length()))?;
        let mut proven = None;
        if range.is_some() && reader.digest().is_some() {
            // A digest is of the whole: of no byte is it known to be right before.
            let whole = reader.receipt().await.map_err(Failure::from).inspect_err(|failure| watch.failed(failure))?;
            proven = Some(whole);
        }
        reader.seek(SeekFrom::Start(part.start)).await.map_err(|e| read_failed(&e))?;
        Ok(Self { reader, watch, part, is_part: range.is_some(), proven, started })
    }

    async fn whole_receipt(&mut self) -> Result<ReceiptBody, Failure> {
        Ok(ReceiptBody::from(&self.reader.receipt().await?))
    }

    /// Every piece of a part was proven by itself, or the whole was; else the rest of the content need not be there.
    fn part_receipt(&self) -> ReceiptBody {
        crate::model::part_receipt(&self.reader, &self.part, self.proven.as_ref(), self.started.elapsed())
    }
}

impl AsyncRead for Watched {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        // No more than the part is asked for: `Streaming` counts.
        Pin::new(&mut self.reader).poll_read(cx, buf)
    }
}

pub(super) async fn fetch(
    State(context): State<Arc<Context>>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    Asked(asked): Asked<FetchRequest>,
) -> Result<Response, Failure> {
    let range = asked.byte_range()?;
    let request = asked.to_request()?.local(caller.is_local());
    let peer = context.peer()?;
    let mut watch = Watch::start(&context, peer.task_id(&request)?, asked.is_private());
    let mut reader = peer.open(request).await.map_err(Failure::from).inspect_err(|e| watch.failed(e))?;
    watch.follow(reader.events());
    let (task, generation) = (reader.task().to_string(), reader.generation().to_string());
    let trailers = takes_trailers(&headers);
    let takes = Takes::of(&headers);
    let mut response = match &caller {
        Caller::Local(slot) if range.is_none() && takes != Takes::Bytes => {
            let pieces = takes == Takes::Pieces && trailers;
            match pass(&mut reader, slot, pieces).await.inspect_err(|failure| watch.failed(failure))? {
                Passed::Whole(receipt) => {
                    watch.receipt(&receipt);
                    passing(Json(receipt).into_response(), "descriptor")
                }
                Passed::Pieces(first) => passing(pieces::answer(reader, watch, first), "pieces"),
                Passed::Nothing => answer(Watched::new(reader, watch, range).await?, trailers).await?,
            }
        }
        _ => answer(Watched::new(reader, watch, range).await?, trailers).await?,
    };
    for (name, text) in [(model::TASK, task), (model::GENERATION, generation)] {
        if let Ok(value) = HeaderValue::from_str(&text) {
            response.headers_mut().insert(name, value);
        }
    }
    Ok(response)
}

/// What a client takes in place of the bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Takes {
    Bytes,
    /// A descriptor of content that is there.
    Descriptor,
    /// Also one of content that is coming, and what of it is there, as it comes.
    Pieces,
}

impl Takes {
    fn of(headers: &HeaderMap) -> Self {
        match headers.get(model::PASSING).map(HeaderValue::as_bytes) {
            Some(b"descriptor") => Self::Descriptor,
            Some(b"pieces") => Self::Pieces,
            _ => Self::Bytes,
        }
    }
}

/// What went to the client in place of the bytes.
enum Passed {
    /// All of it, which is complete.
    Whole(Box<ReceiptBody>),
    /// The file that it comes into, with these ranges of bytes so far.
    Pieces(Vec<Range<u64>>),
    /// There is no file of it: the bytes must be sent.
    Nothing,
}

/// Puts a descriptor on its way, if there is one to pass.
async fn pass(reader: &mut Reader, slot: &Slot, pieces: bool) -> Result<Passed, Failure> {
    let passed = if reader.is_complete() {
        Passed::Whole(Box::new(ReceiptBody::from(&reader.receipt().await?)))
    } else if pieces {
        // What fails before the first bytes are there has a status of its own.
        match reader.arrivals().await {
            Ok(first) => Passed::Pieces(first.unwrap_or_default()),
            Err(error) => return Err(pieces::why(reader, error.into()).await),
        }
    } else {
        return Ok(Passed::Nothing);
    };
    let Some(file) = reader.descriptor().await? else { return Ok(Passed::Nothing) };
    slot.put(file.into());
    Ok(passed)
}

fn passing(mut response: Response, what: &'static str) -> Response {
    response.headers_mut().insert(model::PASSING, HeaderValue::from_static(what));
    response
}

/// Starts `preheat` and waits for its receipt, or with `?wait=false` only says which task it is.
pub(super) async fn preheat(
    State(context): State<Arc<Context>>,
    Extension(caller): Extension<Caller>,
    how: Result<Query<HashMap<String, String>>, QueryRejection>,
    Asked(asked): Asked<FetchRequest>,
) -> Result<Response, Failure> {
    let wait = query(how)?.remove("wait");
    let no_seed = || Failure::new(ErrorKind::Config, "this daemon has not the role seed");
    let seed = context.seed.as_ref().ok_or_else(no_seed)?;
    if asked.range.is_some() {
        return Err(Failure::usage("a range cannot be preheated: all of the content is"));
    }
    let request = asked.to_request()?.local(caller.is_local());
    let task = seed.peer().task_id(&request)?;
    let mut watch = Watch::start(&context, task, asked.is_private());
    // Dropped, a download goes on: the client need not stay.
    let download = seed.preheat(request);
    watch.follow(download.events());
    let end = async move {
        let receipt = download.await.map(|receipt| ReceiptBody::from(&receipt)).map_err(Failure::from);
        match &receipt {
            Ok(receipt) => watch.receipt(receipt),
            Err(failure) => watch.failed(failure),
        }
        receipt
    };
    let end = tokio::spawn(end);
    if wait.is_some_and(|wait| wait == "false") {
        return Ok((StatusCode::ACCEPTED, Json(json!({"task": task.to_string()}))).into_response());
    }
    let receipt = end.await.map_err(|e| Failure::new(ErrorKind::Internal, format!("a preheat broke off: {e}")))?;
    Ok(Json(receipt?).into_response())
}

/// Whether the client reads trailers (RFC 9110, 10.1.4).
fn takes_trailers(headers: &HeaderMap) -> bool {
    let values = headers.get_all(header::TE).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|coding| coding.trim().eq_ignore_ascii_case("trailers"))
}

/// The response, once the first bytes are there: what fails before them gets a status of its own.
pub(super) async fn answer(content: impl Content, trailers: bool) -> Result<Response, Failure> {
    let length = content.length();
    let mut streaming = Streaming { content, length, read: 0, trailers, receipt: None };
    let first = streaming.next().await?;
    let mut response = Response::new(Body::new(StreamBody::new(frames(streaming, first))));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    headers.insert(model::LENGTH, length.into());
    if trailers {
        headers.insert(header::TRAILER, HeaderValue::from_static("dragonfly-receipt, dragonfly-error"));
    } else {
        headers.insert(header::CONTENT_LENGTH, length.into());
    }
    Ok(response)
}

struct Streaming<C> {
    content: C,
    length: u64,
    read: u64,
    trailers: bool,
    /// Set once every byte was read and the whole is verified.
    receipt: Option<ReceiptBody>,
}

impl<C: Content> Streaming<C> {
    /// The next bytes; `None` at the end. The last ones come only with the receipt.
    async fn next(&mut self) -> Result<Option<Bytes>, Failure> {
        if self.receipt.is_some() {
            return Ok(None);
        }
        let mut chunk = BytesMut::new();
        if self.read < self.length {
            let left = usize::try_from(self.length - self.read).unwrap_or(CHUNK);
            chunk.reserve(left.min(CHUNK));
            let mut limited = (&mut self.content).take(left.min(CHUNK) as u64);
            let n = match limited.read_buf(&mut chunk).await {
                Ok(n) => n,
                Err(e) => return Err(self.why(read_failed(&e)).await),
            };
            if n == 0 {
                let message = format!("the content ends after {} bytes of {}", self.read, self.length);
                return Err(Failure::new(ErrorKind::Internal, message));
            }
            self.read += n as u64;
        }
        if self.read == self.length {
            self.receipt = Some(self.content.receipt().await?);
        }
        Ok(Some(chunk.freeze()))
    }
}

impl<C: Content> Streaming<C> {
    /// Content that was found to be wrong is removed while it is read: why says the receipt, not the reader.
    async fn why(&mut self, failure: Failure) -> Failure {
        match tokio::time::timeout(WHY_MAX, self.content.receipt()).await {
            Ok(Err(why)) => why,
            Ok(Ok(_)) | Err(_) => {
                self.content.failed(&failure);
                failure
            }
        }
    }
}

/// What is still to come of a response.
enum Rest<C> {
    First(Streaming<C>, Option<Bytes>),
    More(Streaming<C>),
    Nothing,
}

/// Bytes, then a trailer. Without trailers a failure is an error of the body, on which hyper cuts the connection.
fn frames<C: Content>(
    streaming: Streaming<C>,
    first: Option<Bytes>,
) -> impl Stream<Item = Result<Frame<Bytes>, std::io::Error>> + Send {
    futures::stream::unfold(Rest::First(streaming, first), async |rest| {
        let (mut streaming, next) = match rest {
            Rest::First(streaming, first) => (streaming, Ok(first)),
            Rest::More(mut streaming) => {
                let next = streaming.next().await;
                (streaming, next)
            }
            Rest::Nothing => return None,
        };
        match next {
            Ok(Some(bytes)) => Some((Ok(Frame::data(bytes)), Rest::More(streaming))),
            Ok(None) => {
                let receipt = streaming.receipt.take()?;
                let frame = trailer(model::RECEIPT, model::header_json(&receipt));
                streaming.trailers.then_some((Ok(frame), Rest::Nothing))
            }
            Err(failure) if streaming.trailers => {
                let json = model::header_json(&ErrorBody::from(&failure));
                Some((Ok(trailer(model::ERROR, json)), Rest::Nothing))
            }
            Err(failure) => {
                tracing::info!("a fetch ended early: {}", failure.message);
                Some((Err(std::io::Error::other(failure.message)), Rest::Nothing))
            }
        }
    })
}

/// An empty trailer, should the text not fit: the client takes the lack of a receipt for a failure.
fn trailer(name: &'static str, value: Option<HeaderValue>) -> Frame<Bytes> {
    Frame::trailers(value.map(|value| (http::HeaderName::from_static(name), value)).into_iter().collect())
}

#[cfg(test)]
mod tests;
