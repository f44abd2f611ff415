//! A client of the daemon's local API: HTTP/1.1 over a Unix socket, or over TCP with a token; one connection, no TLS
//! and no pool, so that a fetch of what the daemon holds costs a start-up and a copy.

mod content;
mod events;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use bytes::Bytes;
use dragonfly_core::{Error, ErrorKind, Result};
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

pub use self::content::{Content, Fetched, Pieces};
pub use self::events::EventStream;
use crate::model::{self, ErrorBody, FetchRequest};
use crate::passing::{Receiving, Slot};

/// The longest JSON answer that is read: a page of tasks or the metrics of a busy daemon stay far below.
const ANSWER_MAX: usize = 16 << 20;

/// Reads `unix:PATH`.
pub fn parse_endpoint(text: &str) -> Result<PathBuf, String> {
    match text.strip_prefix("unix:") {
        Some(path) if !path.is_empty() => Ok(PathBuf::from(path)),
        _ => Err(format!("{text:?}: expected unix:PATH")),
    }
}

/// Where a daemon's API is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// `unix:PATH`, or an absolute path.
    Unix(PathBuf),
    /// `http://HOST:PORT`; wants a token.
    Tcp(String),
}

impl FromStr for Endpoint {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.starts_with('/') {
            return Ok(Self::Unix(PathBuf::from(text)));
        }
        if let Some(rest) = text.strip_prefix("http://") {
            let authority = rest.trim_end_matches('/');
            let port = authority
                .rsplit_once(':')
                .and_then(|(host, port)| port.parse::<u16>().ok().filter(|_| !host.is_empty()));
            let plain = !authority.contains(['/', '@', '?', '#']) && !authority.contains(char::is_whitespace);
            return port
                .filter(|_| plain)
                .map(|_| Self::Tcp(authority.to_owned()))
                .ok_or_else(|| format!("{text:?}: expected http://HOST:PORT"));
        }
        parse_endpoint(text).map(Self::Unix).map_err(|_| format!("{text:?}: expected unix:PATH or http://HOST:PORT"))
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Tcp(authority) => write!(f, "http://{authority}"),
        }
    }
}

/// One connection to a daemon.
///
/// Requests go one after the other; an answer must be read to its end, or dropped with the connection.
#[derive(Debug)]
pub struct Client {
    sender: SendRequest<Full<Bytes>>,
    host: String,
    authorization: Option<HeaderValue>,
    /// Descriptors that the daemon passed; only over a Unix socket.
    passed: Option<Slot>,
}

impl Client {
    /// Connects to the socket at `path`. An error is the operating system's: no such file, refused, not allowed.
    pub async fn connect(path: &Path) -> io::Result<Self> {
        let (stream, slot) = Receiving::new(UnixStream::connect(path).await?);
        Ok(Self { passed: Some(slot), ..Self::over(stream, "dfdaemon").await? })
    }

    /// Connects to an endpoint; `token` is for those over TCP.
    pub async fn connect_to(endpoint: &Endpoint, token: Option<&str>) -> io::Result<Self> {
        match endpoint {
            Endpoint::Unix(path) => Self::connect(path).await,
            Endpoint::Tcp(authority) => {
                let stream = TcpStream::connect(authority.as_str()).await?;
                let mut client = Self::over(stream, authority).await?;
                if let Some(token) = token {
                    let mut value = HeaderValue::from_str(&format!("Bearer {token}"))
                        .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "the token is no text of a header"))?;
                    value.set_sensitive(true);
                    client.authorization = Some(value);
                }
                Ok(client)
            }
        }
    }

    async fn over(stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static, host: &str) -> io::Result<Self> {
        let (sender, connection) = handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
        // Ends with the connection; what goes wrong there is seen by the request.
        tokio::spawn(connection);
        Ok(Self { sender, host: host.to_owned(), authorization: None, passed: None })
    }

    /// Sends a request with a JSON body, or none, and hands back the answer whatever its status.
    pub async fn send(&mut self, method: Method, path: &str, body: Option<Vec<u8>>) -> Result<Response<Incoming>> {
        self.send_with(method, path, body, &[]).await
    }

    async fn send_with(
        &mut self,
        method: Method,
        path: &str,
        body: Option<Vec<u8>>,
        headers: &[(&'static str, &'static str)],
    ) -> Result<Response<Incoming>> {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, &self.host)
            .header(header::TE, HeaderValue::from_static("trailers"));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Some(authorization) = &self.authorization {
            request = request.header(header::AUTHORIZATION, authorization);
        }
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
        match self.fetch_with(request, &[]).await? {
            Fetched::Content(content) => Ok(content),
            Fetched::File { .. } | Fetched::Pieces(_) => {
                Err(Error::new(ErrorKind::Internal, "the daemon passed what was not asked for"))
            }
        }
    }

    /// Like [`fetch`](Self::fetch), but takes a descriptor where the content has a file at the daemon: of all of it, or of
    /// what is coming.
    pub async fn fetch_or_descriptor(&mut self, request: &FetchRequest) -> Result<Fetched> {
        if self.passed.is_none() {
            return Ok(Fetched::Content(self.fetch(request).await?));
        }
        self.fetch_with(request, &[(model::PASSING, "pieces")]).await
    }

    async fn fetch_with(
        &mut self,
        request: &FetchRequest,
        headers: &[(&'static str, &'static str)],
    ) -> Result<Fetched> {
        let body = serde_json::to_vec(request).map_err(|e| internal("a request that is no JSON", e))?;
        let response = self.send_with(Method::POST, "/v1/fetch", Some(body), headers).await?;
        let status = response.status();
        if status != StatusCode::OK {
            return Err(refusal(status, &read(response).await?));
        }
        if let Some(passing) = response.headers().get(model::PASSING) {
            let pieces = passing == "pieces";
            let fd = self.passed.as_ref().and_then(Slot::take);
            let fd =
                fd.ok_or_else(|| Error::new(ErrorKind::Internal, "the daemon's answer came without its descriptor"))?;
            if pieces {
                return Pieces::of(fd.into(), response).map(Fetched::Pieces);
            }
            let body = read(response).await?;
            let receipt =
                serde_json::from_slice(&body).map_err(|e| internal("the daemon's receipt is not understood", e))?;
            return Ok(Fetched::File { file: fd.into(), receipt });
        }
        Content::of(response).map(Fetched::Content)
    }

    /// What happens to fetches from now on: to all, or to one task's.
    pub async fn events(&mut self, task: Option<&str>) -> Result<EventStream> {
        let path = task.map_or_else(|| "/v1/events".to_owned(), |task| format!("/v1/events?task={task}"));
        let response = self.send(Method::GET, &path, None).await?;
        let status = response.status();
        if status != StatusCode::OK {
            return Err(refusal(status, &read(response).await?));
        }
        Ok(EventStream::new(response.into_body()))
    }
}

async fn read(response: Response<Incoming>) -> Result<Bytes> {
    let body = Limited::new(response.into_body(), ANSWER_MAX).collect().await;
    let body = body.map_err(|e| Error::new(ErrorKind::Network, format!("the daemon's answer broke off: {e}")))?;
    Ok(body.to_bytes())
}

fn refusal(status: StatusCode, body: &[u8]) -> Error {
    if status == StatusCode::UNAUTHORIZED {
        return Error::new(ErrorKind::Config, "the daemon wants its token: give the file with --api-token-file");
    }
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
