//! Raw streams over the connections of the swarm, and the connections' registry.
//!
//! An open request goes straight from the caller to the connection's own task, and an accepted stream straight into
//! its protocol's queue: the swarm's event loop, where one slow handler holds up everybody, is on neither way.

use std::collections::HashMap;
use std::convert::Infallible;
use std::future::{Ready, ready};
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use libp2p::Multiaddr;
use libp2p::core::transport::PortUse;
use libp2p::core::upgrade::{InboundUpgrade, ReadyUpgrade, UpgradeInfo};
use libp2p::core::{ConnectedPoint, Endpoint};
use libp2p::swarm::behaviour::{ConnectionClosed, ConnectionEstablished, DialFailure, ListenFailure};
use libp2p::swarm::handler::{ConnectionEvent, DialUpgradeError, FullyNegotiatedInbound, FullyNegotiatedOutbound};
use libp2p::swarm::{
    CloseConnection, ConnectionDenied, ConnectionHandler, ConnectionHandlerEvent, ConnectionId, FromSwarm,
    NetworkBehaviour, StreamUpgradeError, SubstreamProtocol, THandler, THandlerInEvent, THandlerOutEvent, ToSwarm,
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, broadcast, mpsc, oneshot};
use tokio_util::compat::{Compat, FuturesAsyncReadCompatExt as _};

use super::admission::Registry;
use super::error::{OpenError, chain};
use super::host::PeerEvent;
use super::limits::{Handshakes, Limits, check_established};
use super::stream::{Incoming, Stream};
use crate::wire::{Address, PeerId};

/// A stream of a libp2p connection.
#[derive(Debug)]
pub(super) struct Muxed {
    inner: Compat<libp2p::Stream>,
    /// Until the first bytes came in on a stream that this host opened.
    negotiation: Option<Negotiation>,
    _slot: Option<OwnedSemaphorePermit>,
}

/// Who waits on a stream whose protocol the peer has not confirmed yet.
///
/// Until then reading also flushes what negotiates, and so waits for room to write. A muxer keeps one waker for that,
/// so where a reader and a writer on different tasks both wait, it wakes only the one who came last. Each of them
/// therefore wakes the other when it got on.
#[derive(Debug, Default)]
struct Negotiation {
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl Muxed {
    fn accepted(stream: libp2p::Stream) -> Self {
        Self { inner: stream.compat(), negotiation: None, _slot: None }
    }

    fn opened(stream: libp2p::Stream, slot: OwnedSemaphorePermit) -> Self {
        Self { inner: stream.compat(), negotiation: Some(Negotiation::default()), _slot: Some(slot) }
    }

    /// To be called with the result of every poll of the writing side.
    fn wrote<T>(&mut self, polled: Poll<T>, cx: &Context<'_>) -> Poll<T> {
        if let Some(negotiation) = &mut self.negotiation {
            if polled.is_ready() {
                wake_other(&mut negotiation.reader, cx);
            } else {
                negotiation.writer = Some(cx.waker().clone());
            }
        }
        polled
    }
}

fn wake_other(waker: &mut Option<Waker>, cx: &Context<'_>) {
    if let Some(waker) = waker.take()
        && !waker.will_wake(cx.waker())
    {
        waker.wake();
    }
}

impl AsyncRead for Muxed {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.inner).poll_read(cx, buf);
        if let Some(negotiation) = &mut this.negotiation {
            wake_other(&mut negotiation.writer, cx);
            if polled.is_ready() {
                this.negotiation = None;
            } else {
                negotiation.reader = Some(cx.waker().clone());
            }
        }
        polled
    }
}

impl AsyncWrite for Muxed {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.inner).poll_write(cx, buf);
        this.wrote(polled, cx)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.inner).poll_flush(cx);
        this.wrote(polled, cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.inner).poll_shutdown(cx);
        this.wrote(polled, cx)
    }
}

/// What the host's handles, its event loop and the connections' tasks share. It holds no sender of commands, so that
/// it keeps no host running.
pub(super) struct Shared {
    pub(super) limits: Limits,
    pub(super) registry: Arc<Registry>,
    pub(super) events: broadcast::Sender<PeerEvent>,
    /// Accepted streams that were dropped because their protocol's queue was full.
    pub(super) overflowed: AtomicU64,
    /// Oldest first.
    connections: RwLock<HashMap<PeerId, Vec<Link>>>,
}

impl Shared {
    pub(super) fn new(limits: Limits, registry: Arc<Registry>, events: broadcast::Sender<PeerEvent>) -> Self {
        Self { limits, registry, events, overflowed: AtomicU64::new(0), connections: RwLock::default() }
    }

    pub(super) fn is_connected(&self, peer: PeerId) -> bool {
        self.read().contains_key(&peer)
    }

    pub(super) fn peers(&self) -> Vec<PeerId> {
        self.read().keys().copied().collect()
    }

    /// Asks the newest living connection to the peer for a stream: the other end of an older one may be gone.
    pub(super) fn request(
        &self,
        peer: PeerId,
        protocol: &'static str,
    ) -> Result<oneshot::Receiver<Result<Muxed, OpenError>>, OpenError> {
        let connections = self.read();
        let links = connections.get(&peer).ok_or(OpenError::NotConnected(peer))?;
        let link = links.iter().rev().find(|link| !link.opens.is_closed()).ok_or(OpenError::NotConnected(peer))?;
        let slot = Arc::clone(&link.slots).try_acquire_owned().map_err(|_| OpenError::Busy(peer))?;
        let (reply, answer) = oneshot::channel();
        link.opens.try_send(Open { protocol, reply, slot }).map_err(|error| match error {
            mpsc::error::TrySendError::Closed(_) => OpenError::Closed(peer),
            mpsc::error::TrySendError::Full(_) => OpenError::Busy(peer),
        })?;
        Ok(answer)
    }

    fn read(&self) -> RwLockReadGuard<'_, HashMap<PeerId, Vec<Link>>> {
        self.connections.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, HashMap<PeerId, Vec<Link>>> {
        self.connections.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The way to one connection's handler.
struct Link {
    id: ConnectionId,
    /// When it was prepared.
    since: Instant,
    opens: mpsc::Sender<Open>,
    slots: Arc<Semaphore>,
}

struct Open {
    protocol: &'static str,
    reply: oneshot::Sender<Result<Muxed, OpenError>>,
    slot: OwnedSemaphorePermit,
}

/// A protocol that this host accepts, and where its streams go.
pub(super) struct Acceptor {
    pub(super) protocol: &'static str,
    pub(super) queue: mpsc::Sender<Incoming>,
}

/// The behaviour: counts connections, keeps their registry, and gives each a [`Handler`].
pub(super) struct Behaviour {
    shared: Arc<Shared>,
    acceptors: Arc<[Acceptor]>,
    protocols: Arc<[&'static str]>,
    pub(super) handshakes: Handshakes,
    established: usize,
    /// Connections that have a handler, until the swarm says that they are established.
    prepared: HashMap<ConnectionId, Link>,
    /// Connections that the peer has given up, and who shall close them.
    superseded: Vec<(libp2p::PeerId, ConnectionId)>,
    waker: Option<Waker>,
}

impl Behaviour {
    pub(super) fn new(shared: Arc<Shared>, acceptors: Vec<Acceptor>) -> Self {
        let protocols = acceptors.iter().map(|acceptor| acceptor.protocol).collect();
        Self {
            shared,
            acceptors: acceptors.into(),
            protocols,
            handshakes: Handshakes::default(),
            established: 0,
            prepared: HashMap::new(),
            superseded: Vec::new(),
            waker: None,
        }
    }

    fn prepare(
        &mut self,
        id: ConnectionId,
        peer: libp2p::PeerId,
        address: &Multiaddr,
    ) -> Result<Handler, ConnectionDenied> {
        let peer = PeerId::from_libp2p(&peer).map_err(ConnectionDenied::new)?;
        let with_peer = self.shared.read().get(&peer).map_or(0, Vec::len);
        check_established(&self.shared.limits, self.established, with_peer).map_err(ConnectionDenied::new)?;
        let (opens, requests) = mpsc::channel(OPENS_PER_CONNECTION);
        let slots = Arc::new(Semaphore::new(self.shared.limits.streams_per_connection));
        self.prepared.insert(id, Link { id, since: Instant::now(), opens, slots });
        // A dialed name has no IP address of its own; the transport, beneath the resolver, saw the one it became.
        let remote_ip = Address::from_libp2p(address.clone()).ip().or_else(|| self.shared.registry.remote_ip(peer));
        Ok(Handler {
            peer,
            remote_ip,
            shared: Arc::clone(&self.shared),
            acceptors: Arc::clone(&self.acceptors),
            protocols: Arc::clone(&self.protocols),
            open_timeout: self.shared.limits.open_timeout,
            requests,
            negotiating: 0,
        })
    }

    fn established(&mut self, id: ConnectionId, libp2p_peer: &libp2p::PeerId, endpoint: &ConnectedPoint) {
        self.handshakes.end(id);
        let (Some(link), Ok(peer)) = (self.prepared.remove(&id), PeerId::from_libp2p(libp2p_peer)) else { return };
        self.established += 1;
        let first = {
            let mut connections = self.shared.write();
            let links = connections.entry(peer).or_default();
            if !endpoint.is_dialer() {
                // Nobody dials who is connected. Where the network was cut in between, TCP may take as long as that
                // lasted, up to two minutes, to find out that the other end of the old connection is gone.
                let before = |old: &&Link| link.since.duration_since(old.since) > self.shared.limits.dial_timeout;
                self.superseded.extend(links.iter().filter(before).map(|old| (*libp2p_peer, old.id)));
            }
            links.push(link);
            links.len() == 1
        };
        if !self.superseded.is_empty()
            && let Some(waker) = self.waker.take()
        {
            waker.wake();
        }
        tracing::debug!(%peer, address = %endpoint.get_remote_address(), dialer = endpoint.is_dialer(), "connected");
        if first {
            // Nobody listening is no error.
            let _ = self.shared.events.send(PeerEvent::Up(peer));
        }
    }

    fn closed(&mut self, id: ConnectionId, peer: &libp2p::PeerId, cause: Option<&libp2p::swarm::ConnectionError>) {
        let Ok(peer) = PeerId::from_libp2p(peer) else { return };
        self.established = self.established.saturating_sub(1);
        let last = {
            let mut connections = self.shared.write();
            let Some(links) = connections.get_mut(&peer) else { return };
            links.retain(|link| link.id != id);
            let last = links.is_empty();
            if last {
                connections.remove(&peer);
            }
            last
        };
        tracing::debug!(%peer, cause = cause.map(|cause| chain(cause)), "connection closed");
        if last {
            let _ = self.shared.events.send(PeerEvent::Down(peer));
        }
    }

    fn failed(&mut self, id: ConnectionId) {
        self.handshakes.end(id);
        self.prepared.remove(&id);
    }

    #[cfg(test)]
    pub(super) fn leftovers(&self) -> usize {
        self.prepared.len() + self.established + self.shared.read().len() + self.handshakes.len()
    }
}

impl NetworkBehaviour for Behaviour {
    type ConnectionHandler = Handler;
    type ToSwarm = Infallible;

    fn handle_pending_inbound_connection(
        &mut self,
        id: ConnectionId,
        _: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<(), ConnectionDenied> {
        let ip = Address::from_libp2p(remote.clone()).ip();
        self.handshakes.begin(&self.shared.limits, id, ip).map_err(ConnectionDenied::new)
    }

    fn handle_established_inbound_connection(
        &mut self,
        id: ConnectionId,
        peer: libp2p::PeerId,
        _: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.prepare(id, peer, remote)
    }

    fn handle_established_outbound_connection(
        &mut self,
        id: ConnectionId,
        peer: libp2p::PeerId,
        address: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.prepare(id, peer, address)
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match event {
            FromSwarm::ConnectionClosed(ConnectionClosed { peer_id, connection_id, cause, .. }) => {
                self.closed(connection_id, &peer_id, cause);
            }
            FromSwarm::ConnectionEstablished(ConnectionEstablished { peer_id, connection_id, endpoint, .. }) => {
                self.established(connection_id, &peer_id, endpoint);
            }
            FromSwarm::DialFailure(DialFailure { connection_id, .. })
            | FromSwarm::ListenFailure(ListenFailure { connection_id, .. }) => self.failed(connection_id),
            _ => {}
        }
    }

    fn on_connection_handler_event(&mut self, _: libp2p::PeerId, _: ConnectionId, event: THandlerOutEvent<Self>) {
        match event {}
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        let Some((peer_id, id)) = self.superseded.pop() else {
            self.waker = Some(cx.waker().clone());
            return Poll::Pending;
        };
        tracing::debug!(peer = %peer_id, "the peer has connected anew: what it had before is closed");
        Poll::Ready(ToSwarm::CloseConnection { peer_id, connection: CloseConnection::One(id) })
    }
}

/// One connection's end of the behaviour. It lives in the connection's task; dropping it with its request queue is
/// what fails the opens that still wait when the connection closes.
pub(super) struct Handler {
    peer: PeerId,
    remote_ip: Option<IpAddr>,
    shared: Arc<Shared>,
    acceptors: Arc<[Acceptor]>,
    protocols: Arc<[&'static str]>,
    open_timeout: Duration,
    requests: mpsc::Receiver<Open>,
    /// Outbound streams in negotiation.
    negotiating: usize,
}

impl Handler {
    fn accept(&self, stream: libp2p::Stream, protocol: &'static str) {
        let stream = Stream::from(Muxed::accepted(stream));
        let incoming = Incoming { peer: self.peer, protocol, remote_ip: self.remote_ip, stream };
        let acceptor = self.acceptors.iter().find(|acceptor| acceptor.protocol == protocol);
        // A queue whose engine is gone counts like a full one: nobody takes the stream.
        if acceptor.is_none_or(|acceptor| acceptor.queue.try_send(incoming).is_err()) {
            self.shared.overflowed.fetch_add(1, Ordering::Relaxed);
            tracing::debug!(peer = %self.peer, protocol, "accept queue full: stream dropped");
        }
    }

    fn refused(&self, error: StreamUpgradeError<Infallible>) -> OpenError {
        match error {
            StreamUpgradeError::Timeout => OpenError::TimedOut(self.peer),
            error => OpenError::Failed { peer: self.peer, cause: chain(&error) },
        }
    }
}

impl ConnectionHandler for Handler {
    type FromBehaviour = Infallible;
    type ToBehaviour = Infallible;
    type InboundProtocol = Accept;
    type OutboundProtocol = ReadyUpgrade<&'static str>;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = (oneshot::Sender<Result<Muxed, OpenError>>, OwnedSemaphorePermit);

    fn listen_protocol(&self) -> SubstreamProtocol<Accept, ()> {
        SubstreamProtocol::new(Accept { protocols: Arc::clone(&self.protocols) }, ())
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<ConnectionHandlerEvent<Self::OutboundProtocol, Self::OutboundOpenInfo, Infallible>> {
        while self.negotiating < OPENS_PER_CONNECTION {
            match self.requests.poll_recv(cx) {
                // The caller gave up while the request was queued.
                Poll::Ready(Some(open)) if open.reply.is_closed() => {}
                Poll::Ready(Some(Open { protocol, reply, slot })) => {
                    self.negotiating += 1;
                    let protocol = SubstreamProtocol::new(ReadyUpgrade::new(protocol), (reply, slot))
                        .with_timeout(self.open_timeout);
                    return Poll::Ready(ConnectionHandlerEvent::OutboundSubstreamRequest { protocol });
                }
                Poll::Ready(None) | Poll::Pending => break,
            }
        }
        Poll::Pending
    }

    fn on_behaviour_event(&mut self, event: Infallible) {
        match event {}
    }

    fn on_connection_event(
        &mut self,
        event: ConnectionEvent<'_, Accept, Self::OutboundProtocol, (), Self::OutboundOpenInfo>,
    ) {
        match event {
            ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound { protocol: (stream, name), .. }) => {
                self.accept(stream, name);
            }
            ConnectionEvent::FullyNegotiatedOutbound(FullyNegotiatedOutbound {
                protocol: stream,
                info: (reply, slot),
            }) => {
                self.negotiating -= 1;
                // A caller that gave up drops the stream, which resets it.
                let _ = reply.send(Ok(Muxed::opened(stream, slot)));
            }
            ConnectionEvent::DialUpgradeError(DialUpgradeError { info: (reply, _), error }) => {
                self.negotiating -= 1;
                let _ = reply.send(Err(self.refused(error)));
            }
            _ => {}
        }
    }
}

/// The accepting side of all protocols of a host. Built at every wake-up of a connection, so it must be cheap.
#[derive(Clone)]
pub(super) struct Accept {
    protocols: Arc<[&'static str]>,
}

impl UpgradeInfo for Accept {
    type Info = &'static str;
    type InfoIter = Names;

    fn protocol_info(&self) -> Names {
        Names { protocols: Arc::clone(&self.protocols), next: 0 }
    }
}

impl<C> InboundUpgrade<C> for Accept {
    type Output = (C, &'static str);
    type Error = Infallible;
    type Future = Ready<Result<Self::Output, Infallible>>;

    fn upgrade_inbound(self, stream: C, name: &'static str) -> Self::Future {
        ready(Ok((stream, name)))
    }
}

pub(super) struct Names {
    protocols: Arc<[&'static str]>,
    next: usize,
}

impl Iterator for Names {
    type Item = &'static str;

    fn next(&mut self) -> Option<&'static str> {
        let name = self.protocols.get(self.next).copied();
        self.next += 1;
        name
    }
}

/// Opens of one connection that wait, and again as many that negotiate. More fail at once: a connection that does not
/// get its streams opened is stuck, and queueing more would only hide it.
const OPENS_PER_CONNECTION: usize = 64;
