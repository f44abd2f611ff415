//! The server.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{Either, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::TlsAcceptor;

use crate::answer::{AnswerBody, answer};
use crate::counters::{Counters, Logged, Meter, lock};
use crate::resource::{Pacer, Resource, Served};
use crate::tls::{Flaw, private_ca};

/// The path that answers with the counters; it is neither counted nor logged.
const STATS_PATH: &str = "/_stats";

/// What hyper may buffer of a body beyond the socket: counted bytes that an aborting client never sees.
const BUFFER_MAX: usize = 64 * 1024;

/// An HTTP(S) origin on 127.0.0.1. Dropping it closes every connection.
pub struct Origin {
    address: SocketAddr,
    ca_pem: Option<String>,
    shared: Arc<Shared>,
    server: JoinHandle<()>,
}

/// How an [`Origin`] is to be.
#[derive(Clone, Debug, Default)]
pub struct Builder {
    tls: bool,
    flaw: Option<Flaw>,
    rate: Option<u64>,
    address: Option<SocketAddr>,
}

struct Shared {
    resources: Mutex<BTreeMap<String, Arc<Served>>>,
    meter: Meter,
    pacer: Option<Arc<Pacer>>,
}

impl Builder {
    /// HTTPS with a certificate of a private authority, see [`Origin::ca_pem`].
    #[must_use]
    pub fn tls(mut self) -> Self {
        self.tls = true;
        self
    }

    /// HTTPS with a certificate of a private authority that is not to be accepted all the same.
    #[must_use]
    pub fn flawed_tls(mut self, flaw: Flaw) -> Self {
        (self.tls, self.flaw) = (true, Some(flaw));
        self
    }

    /// All bodies together get so many bytes a second.
    #[must_use]
    pub fn rate(mut self, bytes_per_s: u64) -> Self {
        self.rate = Some(bytes_per_s);
        self
    }

    /// Another address than 127.0.0.1 with a port of the system's choosing (for benches between hosts).
    #[must_use]
    pub fn address(mut self, address: SocketAddr) -> Self {
        self.address = Some(address);
        self
    }

    /// Starts it on the runtime that this is called in.
    ///
    /// # Errors
    /// The address is taken, or a certificate cannot be made.
    pub async fn start(self) -> io::Result<Origin> {
        let (ca_pem, acceptor) = match self.tls {
            true => private_ca(self.flaw).map(|(pem, acceptor)| (Some(pem), Some(acceptor)))?,
            false => (None, None),
        };
        let listener = TcpListener::bind(self.address.unwrap_or_else(|| ([127, 0, 0, 1], 0).into())).await?;
        let address = listener.local_addr()?;
        let pacer = self.rate.map(|rate| Arc::new(Pacer::new(rate)));
        let shared = Arc::new(Shared { resources: Mutex::default(), meter: Meter::default(), pacer });
        let server = tokio::spawn(accept(listener, acceptor, shared.clone()));
        Ok(Origin { address, ca_pem, shared, server })
    }
}

impl Origin {
    /// How it is to be.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// A plain HTTP origin without resources: everything is 404 until it is [`set`](Self::set).
    ///
    /// # Errors
    /// No socket is to be had.
    pub async fn start() -> io::Result<Self> {
        Self::builder().start().await
    }

    /// Puts a resource under a path (which starts with a slash), in place of what was there; its counters of faults
    /// start anew, those of bytes go on.
    pub fn set(&self, path: impl Into<String>, resource: Resource) {
        lock(&self.shared.resources).insert(path.into(), Arc::new(Served::new(resource)));
    }

    /// Lets answers of a resource that was [`held`](Resource::held) go.
    pub fn release(&self, path: &str) {
        if let Some(served) = lock(&self.shared.resources).get(path) {
            served.gate.close();
        }
    }

    /// Takes a resource away.
    pub fn remove(&self, path: &str) {
        lock(&self.shared.resources).remove(path);
    }

    /// The URL of a path, by address.
    pub fn url(&self, path: &str) -> String {
        format!("{}://{}{path}", self.scheme(), self.address)
    }

    /// The URL of a path, by the name `localhost`.
    pub fn url_by_name(&self, path: &str) -> String {
        format!("{}://localhost:{}{path}", self.scheme(), self.address.port())
    }

    fn scheme(&self) -> &'static str {
        if self.ca_pem.is_some() { "https" } else { "http" }
    }

    /// Where it listens.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// The certificate authority to trust, if it speaks TLS.
    pub fn ca_pem(&self) -> Option<&str> {
        self.ca_pem.as_deref()
    }

    /// Every request so far, in the order in which they were answered.
    pub fn log(&self) -> Vec<Logged> {
        self.shared.meter.log()
    }

    /// The totals so far.
    pub fn counters(&self) -> Counters {
        self.shared.meter.counters()
    }

    /// The body bytes that a path gave so far.
    pub fn body_bytes(&self, path: &str) -> u64 {
        self.counters().body_bytes.get(path).copied().unwrap_or_default()
    }

    /// Bodies that are being sent: neither at their end nor given up by who asked for them.
    pub fn bodies_under_way(&self) -> u64 {
        self.shared.meter.bodies()
    }

    /// Forgets log and totals.
    pub fn reset(&self) {
        self.shared.meter.reset();
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// Owns the connections: when it is aborted they are, too.
async fn accept(listener: TcpListener, acceptor: Option<TlsAcceptor>, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            // Out of descriptors or the like: let those who hold them run.
            tokio::task::yield_now().await;
            continue;
        };
        shared.meter.connection();
        let _ = stream.set_nodelay(true);
        let (shared, acceptor) = (shared.clone(), acceptor.clone());
        connections.spawn(async move {
            match acceptor {
                None => connection(stream, shared).await,
                Some(acceptor) => {
                    if let Ok(stream) = acceptor.accept(stream).await {
                        connection(stream, shared).await;
                    }
                }
            }
        });
        while connections.try_join_next().is_some() {}
    }
}

async fn connection(stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static, shared: Arc<Shared>) {
    let service = service_fn(move |request| {
        let shared = shared.clone();
        async move {
            let response = respond(&request, &shared);
            let served = lock(&shared.resources).get(request.uri().path()).cloned();
            if let Some(served) = served {
                // No permit is ever given: what ends the wait is that the gate is closed.
                let _ = served.gate.acquire().await;
            }
            response
        }
    });
    let mut builder = hyper::server::conn::http1::Builder::new();
    builder.max_buf_size(BUFFER_MAX);
    // How a connection ends is the client's affair, or was asked for.
    let _ = builder.serve_connection(TokioIo::new(stream), service).await;
}

fn respond(request: &Request<Incoming>, shared: &Shared) -> io::Result<Response<Either<AnswerBody, Full<Bytes>>>> {
    let path = request.uri().path();
    if path == STATS_PATH {
        let mut response = Response::new(Either::Right(Full::from(shared.meter.counters().to_json())));
        response.headers_mut().insert("content-type", http::HeaderValue::from_static("application/json"));
        return Ok(response);
    }
    let served = lock(&shared.resources).get(path).cloned();
    let answered = match served {
        Some(served) => answer(request, &served, shared.meter.of(path), shared.pacer.clone()),
        None => {
            let mut response = Response::new(Either::Right(Full::default()));
            *response.status_mut() = http::StatusCode::NOT_FOUND;
            Ok(response)
        }
    };
    let header = |(name, value): (&http::HeaderName, &http::HeaderValue)| {
        (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned())
    };
    let headers: Vec<_> = request.headers().iter().map(header).collect();
    shared.meter.request(Logged {
        method: request.method().to_string(),
        path: path.to_owned(),
        query: request.uri().query().map(str::to_owned),
        range: headers.iter().find(|(name, _)| name == "range").map(|(_, value)| value.clone()),
        status: answered.as_ref().map_or(0, |response| response.status().as_u16()),
        headers,
    });
    Ok(answered?.map(Either::Left))
}
