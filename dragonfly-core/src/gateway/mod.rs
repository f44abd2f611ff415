//! The Gateway engine: container runtimes and package managers use the swarm through it, unchanged.
//!
//! It listens for HTTP and is two things at one address. A **registry mirror** for requests below `/v2/`: blobs and
//! manifests that are named by their digest are tasks, whatever repository or tag they are pulled by; tags are asked for
//! at the registry each time, with the client's own authorization. A **forward proxy** for requests with an absolute URL:
//! what a [`Rule`] says comes through the swarm, all else is passed on. `CONNECT` is tunnelled untouched, but for hosts whose
//! TLS it is told to take part in ([`Intercept`]).
//!
//! Whatever the client could not have from the server itself it does not get here: each host asks the server with its
//! own client's credentials before a byte comes from the store or from others. A body is sent while it comes, but for
//! its last bytes, which wait until the whole was checked. Where the swarm has trouble, the server's own answer is passed
//! on, or the rest of it if the trouble comes in the middle.
//!
//! For front ends and embedders. It uses a [`Peer`] as any other caller does, and `source` for what it passes on; nobody
//! calls it.

mod activity;
mod authority;
mod config;
mod content;
mod fail;
mod head;
mod intercept;
mod metrics;
mod own;
mod pass;
mod proxy;
mod range;
#[cfg(any(test, feature = "fuzzing"))]
mod read;
mod registry;
mod remembered;
mod rest;
mod route;
mod server;
mod streaming;
mod tunnel;
mod users;
mod wholes;
mod windows;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use authority::{Authority, Hosts, InvalidAuthority, InvalidHosts};
pub use config::{GatewayConfig, InvalidRule, Rule};
pub use intercept::Intercept;
pub use metrics::GatewayCounts;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use read::read_lines;
pub use users::{InvalidUsers, Users};

use crate::peer::Peer;
use crate::source::{OriginTrust, Upstream};
use head::Heads;
use metrics::Counts;
use remembered::Remembered;
use wholes::Wholes;
use windows::Windows;

/// The Gateway engine. A cheap handle; it serves until [`Gateway::shutdown`].
#[derive(Clone)]
pub struct Gateway(Arc<Inner>);

struct Inner {
    peer: Peer,
    config: GatewayConfig,
    upstream: Upstream,
    /// Of servers.
    trust: OriginTrust,
    heads: Heads,
    /// Empty unless content is to be given out while its server is away.
    remembered: Arc<Remembered>,
    counts: Counts,
    /// For connections of clients, of all listeners.
    places: Arc<Semaphore>,
    /// Places that listeners have taken for whoever comes next.
    kept: AtomicUsize,
    /// For requests over HTTP/2, which are several on a connection.
    streams: Arc<Semaphore>,
    /// For manifests that are read for their type.
    manifests: Semaphore,
    /// For tunnels over HTTP/2: requests within them need a place of the former.
    tunnels: Arc<Semaphore>,
    /// What is fetched because parts of it were asked for.
    wholes: Wholes,
    /// For what is taken of requests over HTTP/2 before servers take it.
    windows: Windows,
    /// What its own requests are marked with, so that one that comes back is known.
    mark: http::HeaderValue,
    /// Where this process listens.
    own: Arc<[SocketAddr]>,
    /// Nobody is accepted any more.
    stop: CancellationToken,
    /// Nothing is waited for any more.
    cut: CancellationToken,
    tasks: TaskTracker,
}

impl Gateway {
    /// A gateway that fetches through `peer`.
    pub fn new(peer: &Peer, config: GatewayConfig) -> Self {
        let node = peer.node();
        // Of this gateway alone, and nothing that servers learn anything from.
        let mut mark = [0; 16];
        let _ = getrandom::fill(&mut mark);
        let remembered = match &config.answers {
            answers if config.offline => Remembered::open(answers.as_deref()),
            Some(answers) => {
                // Nobody keeps it up from now on: what is taken back meanwhile would be believed later.
                if let Err(error) = remembered::forget(answers) {
                    tracing::warn!(file = %answers.display(), %error, "what servers said cannot be forgotten");
                }
                Remembered::default()
            }
            None => Remembered::default(),
        };
        let remembered = Arc::new(remembered);
        let mark = http::HeaderValue::try_from(data_encoding::HEXLOWER.encode(&mark));
        // HTTP has no way to others.
        let of_node = node.listeners().into_iter().chain(node.lane_listeners()).filter_map(|address| address.tcp());
        let own = config.own.iter().copied().chain(of_node).collect();
        Self(Arc::new(Inner {
            upstream: node.sources().upstream().clone(),
            trust: OriginTrust { ca_pem: config.ca_pem.clone(), insecure: false },
            mark: mark.unwrap_or_else(|_| http::HeaderValue::from_static("dragonfly")),
            peer: peer.clone(),
            own,
            places: Arc::new(Semaphore::new(config.connections_max)),
            kept: AtomicUsize::new(0),
            streams: Arc::new(Semaphore::new(config.connections_max)),
            manifests: Semaphore::new(registry::MANIFESTS_MAX),
            tunnels: Arc::new(Semaphore::new(config.connections_max)),
            wholes: Wholes::default(),
            windows: Windows::default(),
            config,
            heads: Heads::default(),
            remembered,
            counts: Counts::default(),
            stop: CancellationToken::new(),
            cut: CancellationToken::new(),
            tasks: TaskTracker::new(),
        }))
    }

    /// Serves clients that come to `listener`, until [`Gateway::shutdown`]. Those from a loopback address are local users:
    /// what they ask for may be on loopback. It may be called for several listeners. Does not block.
    pub fn serve(&self, listener: TcpListener) {
        self.0.tasks.spawn_on(server::accept(Arc::clone(&self.0), listener), self.0.peer.node().runtime());
    }

    /// Accepts nobody any more and waits, at most so long, for the requests that are being answered; what has not ended
    /// by then is cut off. Whether all had. Idempotent, cancel-safe.
    pub async fn shutdown(&self, bound: Duration) -> bool {
        self.0.stop.cancel();
        self.0.tasks.close();
        let ended = tokio::time::timeout(bound, self.0.tasks.wait()).await.is_ok();
        self.0.cut.cancel();
        ended
    }
}

impl std::fmt::Debug for Gateway {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gateway")
            .field("config", &self.0.config)
            .field("counts", &self.counts())
            .finish_non_exhaustive()
    }
}

/// Who asks.
#[derive(Clone, Copy, Debug)]
struct Client {
    /// Whether from this machine, see [`Guard`](crate::source::Guard).
    local: bool,
}

impl Client {
    fn at(address: SocketAddr) -> Self {
        Self { local: address.ip().to_canonical().is_loopback() }
    }
}
