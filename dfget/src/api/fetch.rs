//! `POST /v1/fetch` and `/v1/preheat`.

use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::rejection::BytesRejection;
use axum::extract::{Query, State};
use axum::response::{IntoResponse, Response};
use bytes::BytesMut;
use dragonfly_core::ErrorKind;
use dragonfly_core::peer::Reader;
use futures::Stream;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use http_body_util::StreamBody;
use hyper::body::Frame;
use serde_json::json;
use tokio::io::{AsyncRead, AsyncReadExt};

use super::{Context, parse, read_failed};
use crate::error::Failure;
use crate::model::{self, ErrorBody, FetchRequest, ReceiptBody};

/// The most that is read at once; one such chunk a request is held besides hyper's buffer.
const CHUNK: usize = 256 << 10;

/// What is streamed: bytes in order, then a receipt.
pub(super) trait Content: AsyncRead + Send + Unpin + 'static {
    fn length(&self) -> u64;
    fn receipt(&mut self) -> impl Future<Output = Result<ReceiptBody, Failure>> + Send;
}

impl Content for Reader {
    fn length(&self) -> u64 {
        Self::length(self)
    }

    async fn receipt(&mut self) -> Result<ReceiptBody, Failure> {
        Ok(ReceiptBody::from(&Self::receipt(self).await?))
    }
}

pub(super) async fn fetch(
    State(context): State<Arc<Context>>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Failure> {
    let request = parse::<FetchRequest>(body)?.to_request()?;
    let reader = context.peer()?.open(request).await?;
    let (task, generation) = (reader.task().to_string(), reader.generation().to_string());
    let mut response = answer(reader, takes_trailers(&headers)).await?;
    for (name, text) in [(model::TASK, task), (model::GENERATION, generation)] {
        if let Ok(value) = HeaderValue::from_str(&text) {
            response.headers_mut().insert(name, value);
        }
    }
    Ok(response)
}

/// Starts `preheat` and waits for its receipt, or with `?wait=false` only says which task it is.
pub(super) async fn preheat(
    State(context): State<Arc<Context>>,
    Query(query): Query<HashMap<String, String>>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Failure> {
    let no_seed = || Failure::new(ErrorKind::Config, "this daemon has not the role seed");
    let seed = context.seed.as_ref().ok_or_else(no_seed)?;
    let request = parse::<FetchRequest>(body)?.to_request()?;
    let task = seed.peer().task_id(&request)?;
    // Dropped, a download goes on: the client need not stay.
    let download = seed.preheat(request);
    if query.get("wait").is_some_and(|wait| wait == "false") {
        return Ok((StatusCode::ACCEPTED, Json(json!({"task": task.to_string()}))).into_response());
    }
    Ok(Json(ReceiptBody::from(&download.await?)).into_response())
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
            let n = limited.read_buf(&mut chunk).await.map_err(|e| read_failed(&e))?;
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
