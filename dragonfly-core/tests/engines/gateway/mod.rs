//! Gateways of real nodes, between a client that speaks HTTP by hand and an origin that counts every byte.

mod continued;
mod errors;
mod gone;
mod h2;
mod intercept;
mod lazy;
mod proxy;
mod registry;
mod said;
mod tokens;
mod trouble;

use std::net::SocketAddr;
use std::sync::{Mutex, Once, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use dragonfly_core::gateway::{Gateway, GatewayConfig};
use dragonfly_core::task::{Algorithm, DigestHasher};
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};

use crate::harness::Network;

/// Two hosts with a scheduler, a gateway on each.
struct Gateways {
    network: Network,
    gateways: Vec<(Gateway, SocketAddr)>,
}

impl Gateways {
    async fn start(config: impl Fn(&Network) -> GatewayConfig) -> Self {
        watch_panics();
        let network = Network::start(2, false).await;
        let mut gateways = Vec::new();
        for member in &network.peers {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let gateway = Gateway::new(&member.peer, config(&network));
            gateway.serve(listener);
            gateways.push((gateway, address));
        }
        Self { network, gateways }
    }

    /// Asks the gateway of one host.
    async fn ask(&self, host: usize, request: Request<Full<Bytes>>) -> Answer {
        ask(self.gateways[host].1, request).await
    }

    async fn get(&self, host: usize, uri: &str, headers: &[(&str, &str)]) -> Answer {
        let mut request = Request::get(uri).header("host", "registry.test");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.ask(host, request.body(Full::default()).unwrap()).await
    }

    async fn stop(self) {
        for (gateway, _) in &self.gateways {
            assert!(gateway.shutdown(Duration::from_secs(20)).await, "what was under way has ended");
        }
        let panics = PANICS.lock().unwrap_or_else(PoisonError::into_inner).clone();
        assert!(panics.is_empty(), "{panics:?}");
        self.network.stop().await;
    }
}

/// What a client sees.
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    /// An error where the connection broke before the end of the body.
    body: Result<Bytes, hyper::Error>,
}

/// The body in bytes is of no use to a reader.
impl std::fmt::Debug for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {:?} {:?}", self.status, self.headers, self.body.as_ref().map(Bytes::len))
    }
}

impl Answer {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// Whether its head came, of an answer with all of it, and the connection broke before the end of the body.
    fn is_cut(&self) -> bool {
        self.status == StatusCode::OK && self.body.is_err()
    }

    /// Status and body of an answer that is whole.
    fn whole(self) -> (u16, Bytes) {
        (self.status.as_u16(), self.body.unwrap())
    }
}

async fn open(address: SocketAddr, request: Request<Full<Bytes>>) -> http::Response<Incoming> {
    let stream = TcpStream::connect(address).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection.with_upgrades());
    sender.send_request(request).await.unwrap()
}

/// # Panics
/// There is no answer.
async fn ask(address: SocketAddr, request: Request<Full<Bytes>>) -> Answer {
    let (parts, body) = open(address, request).await.into_parts();
    let body = body.collect().await.map(|body| body.to_bytes());
    Answer { status: parts.status, headers: parts.headers, body }
}

/// Keeps what the library panics of, in whatever test: a client takes it for an answer that is cut.
fn watch_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let shown = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if panic.location().is_some_and(|at| at.file().contains("dragonfly-core/src/")) {
                PANICS.lock().unwrap_or_else(PoisonError::into_inner).push(panic.to_string());
            }
            shown(panic);
        }));
    });
}

static PANICS: Mutex<Vec<String>> = Mutex::new(Vec::new());

fn sha256(bytes: &[u8]) -> String {
    let mut hasher = DigestHasher::new(Algorithm::Sha256);
    hasher.update(bytes);
    hasher.finish().to_string()
}
