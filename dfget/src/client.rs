//! A client of the daemon's local API: HTTP/1.1 over a Unix socket, one connection, no TLS and no pool, so that a
//! fetch of what the daemon holds costs a start-up and a copy.

use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use dragonfly_core::{Error, ErrorKind, Result};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;

use crate::model::{self, ErrorBody, FetchRequest, ReceiptBody};

/// The longest JSON answer that is read: a page of tasks or the metrics of a busy daemon stay far below.
const ANSWER_MAX: usize = 16 << 20;

/// Reads `unix:PATH`.
pub fn parse_endpoint(text: &str) -> Result<PathBuf, String> {
    match text.strip_prefix("unix:") {
        Some(path) if !path.is_empty() => Ok(PathBuf::from(path)),
        _ => Err(format!("{text:?}: expected unix:PATH")),
    }
}

/// One connection to a daemon.
///
/// Requests go one after the other; an answer must be read to its end, or dropped with the connection.
#[derive(Debug)]
pub struct Client {
    sender: SendRequest<Full<Bytes>>,
}

impl Client {
    /// Connects to the socket at `path`. An error is the operating system's: no such file, refused, not allowed.
    pub async fn connect(path: &Path) -> io::Result<Self> {
        let stream = UnixStream::connect(path).await?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
        // Ends with the connection; what goes wrong there is seen by the request.
        tokio::spawn(connection);
        Ok(Self { sender })
    }

    /// Sends a request with a JSON body, or none, and hands back the answer whatever its status.
    pub async fn send(&mut self, method: Method, path: &str, body: Option<Vec<u8>>) -> Result<Response<Incoming>> {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, "dfdaemon")
            .header(header::TE, HeaderValue::from_static("trailers"));
        if body.is_some() {
            request = request.header(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        let body = Full::new(Bytes::from(body.unwrap_or_default()));
        let request = request.body(body).map_err(|e| internal("a malformed request", e))?;
        self.sender.ready().await.map_err(lost)?;
        self.sender.send_request(request).await.map_err(lost)
    }

    /// Sends a request and reads the whole answer. A status of 400 or more is an error of the kind it names.
    pub async fn bytes(&mut self, method: Method, path: &str, body: Option<Vec<u8>>) -> Result<Bytes> {
        let response = self.send(method, path, body).await?;
        let status = response.status();
        let body = read(response).await?;
        if status.is_success() { Ok(body) } else { Err(refusal(status, &body)) }
    }

    /// Like [`bytes`](Self::bytes), with JSON both ways.
    pub async fn json<T: DeserializeOwned>(
        &mut self,
        method: Method,
        path: &str,
        body: Option<&(impl Serialize + Sync)>,
    ) -> Result<T> {
        let body = body.map(serde_json::to_vec).transpose().map_err(|e| internal("a request that is no JSON", e))?;
        let answer = self.bytes(method, path, body).await?;
        serde_json::from_slice(&answer).map_err(|e| internal("the daemon's answer is not understood", e))
    }

    /// Starts a fetch. Comes back once the length is known and the first bytes are proven.
    pub async fn fetch(&mut self, request: &FetchRequest) -> Result<Content> {
        let body = serde_json::to_vec(request).map_err(|e| internal("a request that is no JSON", e))?;
        let response = self.send(Method::POST, "/v1/fetch", Some(body)).await?;
        let status = response.status();
        if status != StatusCode::OK {
            return Err(refusal(status, &read(response).await?));
        }
        let text = |name| response.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let length = text(model::LENGTH).and_then(|length| length.parse().ok());
        let length = length.ok_or_else(|| Error::new(ErrorKind::Internal, "the daemon's answer has no length"))?;
        let task = text(model::TASK).unwrap_or_default();
        Ok(Content { task, length, body: response.into_body(), trailers: None, received: 0 })
    }
}

/// Content that is coming: bytes in order, then a receipt.
#[derive(Debug)]
pub struct Content {
    /// The task's id.
    pub task: String,
    /// Bytes in all.
    pub length: u64,
    body: Incoming,
    trailers: Option<HeaderMap>,
    received: u64,
}

impl Content {
    /// The next bytes; `None` at the end, after which [`receipt`](Self::receipt) tells whether it is the true end.
    /// Cancel-safe.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>> {
        while let Some(frame) = self.body.frame().await {
            match frame.map_err(lost)?.into_data() {
                Ok(data) if data.is_empty() => {}
                Ok(data) => {
                    self.received += data.len() as u64;
                    return Ok(Some(data));
                }
                Err(frame) => self.trailers = frame.into_trailers().ok(),
            }
        }
        Ok(None)
    }

    /// What the daemon says at the end. An error unless every byte came, and all are proven.
    pub fn receipt(&self) -> Result<ReceiptBody> {
        let trailer = |name| self.trailers.as_ref().and_then(|trailers| trailers.get(name));
        if let Some(error) = trailer(model::ERROR) {
            return Err(match serde_json::from_slice::<ErrorBody>(error.as_bytes()) {
                Ok(body) => body.into(),
                Err(e) => internal("the daemon's error is not understood", e),
            });
        }
        let Some(receipt) = trailer(model::RECEIPT) else {
            return Err(Error::new(ErrorKind::Network, "the daemon's answer ends without a receipt").temporary(true));
        };
        let receipt: ReceiptBody = serde_json::from_slice(receipt.as_bytes())
            .map_err(|e| internal("the daemon's receipt is not understood", e))?;
        if receipt.length != self.length || self.received != self.length {
            let message = format!("{} bytes came, of {}", self.received, receipt.length);
            return Err(Error::new(ErrorKind::Network, message).temporary(true));
        }
        Ok(receipt)
    }
}

async fn read(response: Response<Incoming>) -> Result<Bytes> {
    let body = Limited::new(response.into_body(), ANSWER_MAX).collect().await;
    let body = body.map_err(|e| Error::new(ErrorKind::Network, format!("the daemon's answer broke off: {e}")))?;
    Ok(body.to_bytes())
}

fn refusal(status: StatusCode, body: &[u8]) -> Error {
    match serde_json::from_slice::<ErrorBody>(body) {
        Ok(body) => body.into(),
        Err(_) => Error::new(ErrorKind::Internal, format!("the daemon answered {status}")),
    }
}

fn lost(error: hyper::Error) -> Error {
    Error::new(ErrorKind::Network, "lost the connection to the daemon").temporary(true).caused_by(error)
}

fn internal(context: &str, error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::new(ErrorKind::Internal, context).caused_by(error)
}
