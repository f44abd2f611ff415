//! Lanes: one TCP connection between two hosts, with TLS by their identities, for the piece protocol alone.
//!
//! Streams of libp2p connections cost several times the processor time of a plain one (`docs/design`): they carry
//! control messages, cross NATs, and carry pieces where a lane is not to be had. Who may come in is the same for both:
//! the one [`Admission`](super::Admission), its proofs bound to the TLS session.
//!
//! Where the operators of both ends let it ([`LaneConfig::plain`]) TLS ends with that, and the lane goes on on the bare
//! socket ([`cut`]): who both are is proven all the same, but whoever is on the way reads what they say, and can say more.

mod ahead;
mod cut;
mod direct;
mod handshake;
mod plain;
mod tls;
mod trusted;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;

pub(super) use ahead::READ_BYTES;
pub(crate) use direct::Direct;
pub(super) use handshake::NOT_SENT_BYTES;
pub(crate) use trusted::Private;
pub(super) use trusted::{SPOILT_FOR, SPOILT_MAX};

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use libp2p::identity::Keypair;
use libp2p::swarm::ConnectionId;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tokio_util::task::TaskTracker;

use self::handshake::{Admitted, Ends, Wire};
use self::tls::Tls;
use self::trusted::Trusted;
use super::admission::Guard;
use super::error::{DialError, StartError, chain};
use super::limits::Handshakes;
use super::stream::{Incoming, Stream};
use super::transport::{Gate, HandshakeError};
use crate::wire::{Address, PeerId};

/// Where lanes are accepted, and how they are paced.
#[derive(Clone, Debug, Default)]
pub struct LaneConfig {
    /// Where to accept lanes. A port of 0 is any. Empty: none are accepted.
    pub listen: Vec<SocketAddr>,
    /// Whether another port will do where one of these is taken.
    pub any_port: bool,
    /// The congestion control of lanes (`cubic`, `bbr`); `None` is the system's.
    pub congestion: Option<String>,
    /// Whether lanes to hosts that let it, too, go on without encryption once both ends are proven.
    pub plain: bool,
}

/// How many addresses of a peer one dial tries.
const ATTEMPTS: usize = 2;

/// Lanes that may be open at a time, whoever opened them: what the swarm core allows, and as many again that are
/// about to be closed for one another's sake.
pub(super) const LANES_MAX: usize = 128;

/// How long accepting pauses when the system has no descriptor left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The lanes of one host.
pub(super) struct Lanes {
    ends: Ends,
    protocol: &'static str,
    listening: Vec<SocketAddr>,
    open: Arc<Open>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

/// The lanes that are open, to be closed from outside.
#[derive(Default)]
struct Open {
    next: AtomicU64,
    table: Mutex<HashMap<u64, (PeerId, CancellationToken)>>,
}

impl Open {
    fn table(&self) -> MutexGuard<'_, HashMap<u64, (PeerId, CancellationToken)>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lanes {
    /// Listens, and accepts lanes into `queue` until `stop` is cancelled. Needs a tokio runtime around it.
    ///
    /// # Errors
    /// The identity cannot be used, or an address not be listened on.
    pub(super) fn start(
        keypair: &Keypair,
        gate: &Arc<Gate>,
        config: LaneConfig,
        (protocol, queue): (&'static str, mpsc::Sender<Incoming>),
        overflowed: impl Fn() + Send + Sync + 'static,
        stop: CancellationToken,
    ) -> Result<Arc<Self>, StartError> {
        let ends = Ends {
            gate: Arc::clone(gate),
            tls: Tls::new(keypair, config.plain)?,
            trusted: config.plain.then(Trusted::default),
            congestion: config.congestion,
        };
        let mut listeners = Vec::new();
        let mut listening = Vec::new();
        for address in config.listen {
            let listener = listen(address, config.any_port).map_err(|cause| StartError::Lane { address, cause })?;
            listening.push(listener.local_addr().map_err(|cause| StartError::Lane { address, cause })?);
            listeners.push(listener);
        }
        let lanes = Arc::new(Self {
            ends,
            protocol,
            listening,
            open: Arc::default(),
            tasks: TaskTracker::new(),
            stop: stop.clone(),
        });
        let overflowed: Arc<dyn Fn() + Send + Sync> = Arc::new(overflowed);
        let handshakes = Arc::new(Mutex::new((Handshakes::default(), 0)));
        for listener in listeners {
            let door = Door {
                lanes: Arc::downgrade(&lanes),
                queue: queue.clone(),
                overflowed: Arc::clone(&overflowed),
                handshakes: Arc::clone(&handshakes),
                stop: stop.clone(),
            };
            lanes.tasks.spawn(door.run(listener));
        }
        Ok(lanes)
    }

    /// Where lanes are accepted, ports as bound; an unspecified address stands for every interface.
    pub(super) fn listening(&self) -> &[SocketAddr] {
        &self.listening
    }

    /// While it lives lanes are opened encrypted; `None` where they are so always.
    pub(super) fn private(&self) -> Option<Private> {
        self.ends.trusted.as_ref().map(Trusted::private)
    }

    /// Has the next lanes with `peer` be encrypted.
    pub(super) fn spoil(&self, peer: PeerId) {
        if let Some(trusted) = &self.ends.trusted {
            trusted.spoil(peer);
        }
    }

    /// Opens a lane to `peer` at one of `addresses`, of which two are tried. Cancel-safe.
    pub(super) async fn dial(&self, peer: PeerId, addresses: &[Address]) -> Result<Stream, DialError> {
        let there = addresses.iter().filter_map(|address| Some((address, address.lane()?)));
        let mut causes = Vec::new();
        for (address, socket) in there.take(ATTEMPTS) {
            let attempt = self.stop.run_until_cancelled(handshake::dial(&self.ends, peer, socket));
            match attempt.await {
                None => return Err(DialError::Stopped),
                Some(Ok(admitted)) if admitted.peer != peer => {
                    causes.push((Some(address.clone()), HandshakeError::WrongPeer(admitted.peer).to_string()));
                }
                Some(Ok(admitted)) => match self.keep(admitted) {
                    Some((stream, _)) => return Ok(stream),
                    None => causes.push((None, "too many lanes are open".to_owned())),
                },
                Some(Err(error)) => causes.push((Some(address.clone()), chain(&error))),
            }
        }
        if causes.is_empty() { Err(DialError::NoAddress { peer }) } else { Err(DialError::Failed { peer, causes }) }
    }

    /// Those with whom lanes are open; a peer with several is named as often.
    pub(super) fn peers(&self) -> Vec<PeerId> {
        self.open.table().values().map(|(peer, _)| *peer).collect()
    }

    /// Closes all lanes with a peer.
    pub(super) fn disconnect(&self, peer: PeerId) {
        self.open.table().values().filter(|(with, _)| *with == peer).for_each(|(_, stop)| stop.cancel());
    }

    /// Waits until accepting and every handshake have ended, after `stop` was cancelled. Lanes fail from then on.
    pub(super) async fn stopped(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// Counts an admitted connection among the open lanes; `None` if they are too many.
    fn keep(&self, admitted: Admitted) -> Option<(Stream, IpAddr)> {
        let Admitted { wire, peer, remote_ip, guard, not_after } = admitted;
        let stop = self.stop.child_token();
        let number = self.open.next.fetch_add(1, Ordering::Relaxed);
        {
            let mut table = self.open.table();
            if table.len() >= LANES_MAX {
                return None;
            }
            table.insert(number, (peer, stop.clone()));
        }
        if let Some(not_after) = not_after {
            self.tasks.spawn(handshake::expire(not_after, stop.clone()));
        }
        let cut = Box::pin(stop.clone().cancelled_owned());
        let open = Entry { open: Arc::clone(&self.open), number, stop };
        Some((Connection { wire, cut, _open: open, _guard: guard }.into(), remote_ip))
    }
}

fn listen(address: SocketAddr, any_port: bool) -> io::Result<TcpListener> {
    match listen_on(address) {
        Err(error) if any_port && error.kind() == io::ErrorKind::AddrInUse => {
            tracing::warn!(%address, "this port for lanes is taken: another is used");
            listen_on(SocketAddr::new(address.ip(), 0))
        }
        outcome => outcome,
    }
}

fn listen_on(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        // IPv4 has a listener of its own where it is asked for.
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(1024)?;
    TcpListener::from_std(socket.into())
}

/// One listener.
struct Door {
    lanes: std::sync::Weak<Lanes>,
    queue: mpsc::Sender<Incoming>,
    overflowed: Arc<dyn Fn() + Send + Sync>,
    /// Those that are not admitted yet, and the number of the last.
    handshakes: Arc<Mutex<(Handshakes, usize)>>,
    stop: CancellationToken,
}

impl Door {
    async fn run(self, listener: TcpListener) {
        loop {
            let accepted = tokio::select! {
                () = self.stop.cancelled() => return,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((tcp, from)) => {
                    let Some(lanes) = self.lanes.upgrade() else { return };
                    self.admit(&lanes, tcp, from);
                }
                Err(error) => {
                    tracing::debug!(%error, "cannot accept a lane");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    fn admit(&self, lanes: &Arc<Lanes>, tcp: TcpStream, from: SocketAddr) {
        let id = {
            let mut handshakes = self.handshakes.lock().unwrap_or_else(PoisonError::into_inner);
            handshakes.1 += 1;
            let id = ConnectionId::new_unchecked(handshakes.1);
            if let Err(error) = handshakes.0.begin(&lanes.ends.gate.limits, id, Some(from.ip())) {
                tracing::debug!(%from, %error, "a lane was dropped");
                return;
            }
            id
        };
        let (queue, overflowed) = (self.queue.clone(), Arc::clone(&self.overflowed));
        let (handshakes, stop) = (Arc::clone(&self.handshakes), self.stop.clone());
        let (tracker, lanes) = (lanes.tasks.clone(), Arc::clone(lanes));
        tracker.spawn(async move {
            let admitted = stop.run_until_cancelled(handshake::accept(&lanes.ends, tcp, from)).await;
            handshakes.lock().unwrap_or_else(PoisonError::into_inner).0.end(id);
            let admitted = match admitted {
                None => return,
                Some(Ok(admitted)) => admitted,
                Some(Err(error)) => {
                    tracing::debug!(%from, %error, "a lane was not admitted");
                    return;
                }
            };
            let peer = admitted.peer;
            let Some((stream, remote_ip)) = lanes.keep(admitted) else { return overflowed() };
            let incoming = Incoming { peer, protocol: lanes.protocol, remote_ip: Some(remote_ip), stream };
            if queue.try_send(incoming).is_err() {
                overflowed();
            }
        });
    }
}

/// A lane's end on this host. It fails once the host stops, the peer is disconnected or its credential ends.
pub(super) struct Connection {
    wire: Wire,
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
    _open: Entry,
    _guard: Guard,
}

impl Connection {
    fn check(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        if self.cut.as_mut().poll(cx).is_ready() {
            return Err(io::Error::new(io::ErrorKind::ConnectionAborted, "the lane was cut"));
        }
        Ok(())
    }

    /// Whether it is not encrypted.
    pub(super) const fn is_plain(&self) -> bool {
        matches!(self.wire, Wire::Plain(_))
    }

    /// A way for the bytes of files past the memory of this process, where there is one.
    pub(super) fn direct(&self) -> Option<Direct> {
        match &self.wire {
            Wire::Tls(_) => None,
            Wire::Plain(plain) => plain.direct(),
        }
    }
}

impl AsyncRead for Connection {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.check(cx)?;
        match &mut this.wire {
            Wire::Tls(tls) => Pin::new(tls).poll_read(cx, buf),
            Wire::Plain(plain) => Pin::new(plain).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().wire {
            Wire::Tls(tls) => Pin::new(tls).poll_write(cx, buf),
            Wire::Plain(plain) => Pin::new(plain).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().wire {
            Wire::Tls(tls) => Pin::new(tls).poll_write_vectored(cx, bufs),
            Wire::Plain(plain) => Pin::new(plain).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().wire {
            Wire::Tls(tls) => Pin::new(tls).poll_flush(cx),
            Wire::Plain(plain) => Pin::new(plain).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().wire {
            Wire::Tls(tls) => Pin::new(tls).poll_shutdown(cx),
            Wire::Plain(plain) => Pin::new(plain).poll_shutdown(cx),
        }
    }
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Connection")
    }
}

/// Keeps a lane in the table of those that are open.
struct Entry {
    open: Arc<Open>,
    number: u64,
    stop: CancellationToken,
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.open.table().remove(&self.number);
        // Ends who waits for the credential's end.
        self.stop.cancel();
    }
}
