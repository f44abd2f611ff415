//! The seam to the trust room: who is let in, and what is known of those who are.

use std::any::Any;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::future::BoxFuture;
use futures::io::{AsyncRead, AsyncWrite};

use crate::wire::PeerId;

/// Decides who may connect. It runs on the first stream of each connection, TCP and QUIC alike, once the security
/// layer has proven both identities and before anything else is spoken.
pub trait Admission: Send + Sync + 'static {
    /// Proves this host's membership to `remote` over `io` and checks the remote's. The dialer speaks first.
    ///
    /// It need not be timed: the host drops it after the admission time-out (so it must be cancel-safe), and it need
    /// not close `io`. It must not read beyond its own messages: the host exchanges one more byte each way, so
    /// that neither end counts the other as connected unless both admitted. A refusal is not explained
    /// to the other end: the connection just closes, whatever the reason.
    ///
    /// `binding` is what only the two ends of this connection have in common, to be covered by the proofs; empty where
    /// the carrier has nothing of the kind.
    fn admit<'a>(
        &'a self,
        io: &'a mut dyn Duplex,
        dialer: bool,
        local: PeerId,
        remote: PeerId,
        binding: &'a [u8],
    ) -> BoxFuture<'a, Result<Admitted, Refused>>;
}

/// A stream in both directions, as the admission sees it.
pub trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// What a connected peer has proven (roles, tenant, credential), opaque to the network host: downcast it.
pub type Claims = Arc<dyn Any + Send + Sync>;

/// The peer may connect.
#[derive(Clone)]
pub struct Admitted {
    /// What it has proven. [`Host::claims`](super::Host::claims) returns it while the peer is connected.
    pub claims: Claims,
    /// When its credential ends, in seconds since 1970; lanes end with it.
    pub not_after: Option<u64>,
}

/// The peer may not connect.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Refused {
    reason: String,
}

impl Refused {
    /// A refusal. The reason is for this host's own log and errors; the other end never learns it.
    pub fn new(reason: impl Into<String>) -> Self {
        Self { reason: reason.into() }
    }
}

/// What is known of each admitted connection, for as long as the connection's muxer lives.
#[derive(Default)]
pub(super) struct Registry {
    peers: Mutex<Peers>,
}

#[derive(Default)]
struct Peers {
    next: u64,
    /// Oldest first.
    entries: HashMap<PeerId, Vec<Entry>>,
}

struct Entry {
    id: u64,
    claims: Claims,
    remote_ip: Option<IpAddr>,
}

impl Registry {
    /// Registers an admitted connection until the guard is dropped.
    pub(super) fn insert(self: &Arc<Self>, peer: PeerId, admitted: Admitted, remote_ip: Option<IpAddr>) -> Guard {
        let mut peers = self.lock();
        let id = peers.next;
        peers.next += 1;
        peers.entries.entry(peer).or_default().push(Entry { id, claims: admitted.claims, remote_ip });
        Guard { registry: Arc::clone(self), peer, id }
    }

    /// The claims of the peer's newest connection: a renewed credential counts from its first use.
    pub(super) fn claims(&self, peer: PeerId) -> Option<Claims> {
        self.lock().entries.get(&peer)?.last().map(|entry| Arc::clone(&entry.claims))
    }

    /// From where the peer's newest connection comes, or to where it was dialed, after name resolution.
    pub(super) fn remote_ip(&self, peer: PeerId) -> Option<IpAddr> {
        self.lock().entries.get(&peer)?.last()?.remote_ip
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.lock().entries.len()
    }

    fn lock(&self) -> MutexGuard<'_, Peers> {
        self.peers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Keeps one connection in the registry.
pub(super) struct Guard {
    registry: Arc<Registry>,
    peer: PeerId,
    id: u64,
}

impl Drop for Guard {
    fn drop(&mut self) {
        let mut peers = self.registry.lock();
        if let Some(entries) = peers.entries.get_mut(&self.peer) {
            entries.retain(|entry| entry.id != self.id);
            if entries.is_empty() {
                peers.entries.remove(&self.peer);
            }
        }
    }
}
