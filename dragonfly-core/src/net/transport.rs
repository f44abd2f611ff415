//! TCP with TLS and yamux, and QUIC, with the admission inside: what leaves here is proven and admitted.

use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, TcpListener};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

#[cfg(feature = "quic")]
use futures::future::Either;
use futures::io::{AsyncReadExt, AsyncWriteExt};
use libp2p::core::ConnectedPoint;
use libp2p::core::muxing::{StreamMuxer, StreamMuxerBox, StreamMuxerEvent};
use libp2p::core::transport::Boxed;
#[cfg(feature = "quic")]
use libp2p::core::transport::OrTransport;
use libp2p::core::transport::timeout::TransportTimeout;
use libp2p::core::upgrade::Version;
#[cfg(feature = "dns")]
use libp2p::dns;
use libp2p::identity::Keypair;
use libp2p::multiaddr::Protocol;
#[cfg(feature = "quic")]
use libp2p::quic;
use libp2p::{Transport, tcp, tls, yamux};

use super::admission::{Admission, Duplex, Guard, Refused, Registry};
use super::error::StartError;
use super::limits::Limits;
use crate::wire::{Address, PeerId};

/// What the admission of a connection needs. One for all connections of a host.
pub(super) struct Gate {
    pub(super) admission: Arc<dyn Admission>,
    pub(super) limits: Limits,
    pub(super) local: PeerId,
    pub(super) registry: Arc<Registry>,
}

/// Builds the transports. Needs a tokio runtime around it.
pub(super) fn build(
    keypair: &Keypair,
    gate: &Arc<Gate>,
) -> Result<Boxed<(libp2p::PeerId, StreamMuxerBox)>, StartError> {
    let tls = tls::Config::new(keypair).map_err(|e| StartError::Identity(Box::new(e)))?;
    let tcp_gate = Arc::clone(gate);
    let tcp = tcp::tokio::Transport::new(tcp::Config::new().nodelay(true))
        .upgrade(Version::V1Lazy)
        .authenticate(tls)
        .multiplex(yamux::Config::default())
        .timeout(gate.limits.handshake_timeout)
        .and_then(move |(peer, muxer), point| admit(tcp_gate, peer, muxer, point));

    #[cfg(not(feature = "quic"))]
    let every = tcp;
    #[cfg(feature = "quic")]
    let every = {
        let mut config = quic::Config::new(keypair);
        config.handshake_timeout = gate.limits.handshake_timeout;
        let gate = Arc::clone(gate);
        let quic =
            quic::tokio::Transport::new(config).and_then(move |(peer, muxer), point| admit(gate, peer, muxer, point));
        OrTransport::new(tcp, quic).map(|output, _| match output {
            Either::Left(output) | Either::Right(output) => output,
        })
    };
    named(every, gate.limits.dial_timeout)
}

/// The transport, with a bound on dialing; without the feature `dns`, names in addresses cannot be dialed.
#[cfg(not(feature = "dns"))]
fn named<T>(every: T, dial_timeout: Duration) -> Result<Boxed<T::Output>, StartError>
where
    T: Transport + Send + Unpin + 'static,
    T::Dial: Send + 'static,
    T::ListenerUpgrade: Send + 'static,
    T::Error: Send + Sync,
{
    Ok(TransportTimeout::with_outgoing_timeout(every, dial_timeout).boxed())
}

/// The transport, with names in addresses, and a bound on dialing.
#[cfg(feature = "dns")]
fn named<T>(every: T, dial_timeout: Duration) -> Result<Boxed<T::Output>, StartError>
where
    T: Transport + Send + Unpin + 'static,
    T::Dial: Send + 'static,
    T::ListenerUpgrade: Send + 'static,
    T::Error: Send + Sync,
{
    // A machine without a resolver configuration (a bare container) still dials IP addresses. The probe is there
    // because a failing `system` would take the transport with it.
    match dns::tokio::Transport::system(()) {
        Ok(_) => {
            let resolving = dns::tokio::Transport::system(every).map_err(StartError::Resolver)?;
            Ok(TransportTimeout::with_outgoing_timeout(resolving, dial_timeout).boxed())
        }
        Err(error) => {
            tracing::debug!(%error, "no resolver configuration: names in addresses cannot be dialed");
            Ok(TransportTimeout::with_outgoing_timeout(every, dial_timeout).boxed())
        }
    }
}

/// Fails when another socket listens on this TCP port. libp2p-tcp sets `SO_REUSEPORT` on its listeners and does not
/// let one choose, so two hosts with one address would both start and then share, unnoticed, who connects.
pub(super) fn port_is_free(address: &Address) -> io::Result<()> {
    let address = address.to_libp2p();
    let mut protocols = address.iter();
    let ip: IpAddr = match protocols.next() {
        Some(Protocol::Ip4(ip)) => ip.into(),
        // `::` is not probed: the standard library would bind IPv4 too, where a listener of our own may be.
        Some(Protocol::Ip6(ip)) if !ip.is_unspecified() => ip.into(),
        _ => return Ok(()),
    };
    match protocols.next() {
        Some(Protocol::Tcp(port)) if port != 0 => TcpListener::bind((ip, port)).map(drop),
        _ => Ok(()),
    }
}

/// Why a connection was not admitted. Only this end sees it.
#[derive(Debug, thiserror::Error)]
pub(super) enum HandshakeError {
    #[error("the other end does not speak the lane's protocol")]
    Alpn,
    #[error("the other end's certificate")]
    Certificate(#[source] rustls::Error),
    #[error("no connection")]
    Connect(#[source] io::Error),
    #[error("TLS failed")]
    Tls(#[source] io::Error),
    #[error("the connection closed during admission: the other end refuses, or is no member of this network")]
    Closed(#[source] io::Error),
    #[error("{0} is not the id of an Ed25519 key")]
    Name(libp2p::PeerId),
    #[error("refused: {0}")]
    Refused(#[from] Refused),
    #[error("not admitted in time")]
    TimedOut,
    #[error("bytes came that nobody had reason to send yet")]
    Unasked,
    #[error("another peer is there: {0}")]
    WrongPeer(PeerId),
}

/// Runs the admission on a new connection and hands its muxer on.
async fn admit<M>(
    gate: Arc<Gate>,
    peer: libp2p::PeerId,
    muxer: M,
    point: ConnectedPoint,
) -> Result<(libp2p::PeerId, StreamMuxerBox), HandshakeError>
where
    M: StreamMuxer + Send + Unpin + 'static,
    M::Substream: Send + Unpin + 'static,
    M::Error: Send + Sync + 'static,
{
    let result =
        match tokio::time::timeout(gate.limits.admission_timeout, admit_untimed(&gate, peer, muxer, &point)).await {
            Ok(result) => result,
            Err(_) => Err(HandshakeError::TimedOut),
        };
    match result {
        Ok(muxer) => Ok((peer, StreamMuxerBox::new(muxer))),
        Err(error) => {
            tracing::debug!(%peer, dialer = point.is_dialer(), %error, "not admitted");
            Err(error)
        }
    }
}

async fn admit_untimed<M>(
    gate: &Gate,
    peer: libp2p::PeerId,
    mut muxer: M,
    point: &ConnectedPoint,
) -> Result<Guarded<M>, HandshakeError>
where
    M: StreamMuxer + Send + Unpin,
    M::Substream: Send + Unpin,
    M::Error: Send + Sync + 'static,
{
    let remote = PeerId::from_libp2p(&peer).map_err(|_| HandshakeError::Name(peer))?;
    let address = Address::from_libp2p(point.get_remote_address().clone());
    // The swarm would notice too, but after this host had proven itself to the wrong one, which would have counted us
    // as connected.
    if point.is_dialer() && address.peer().is_some_and(|expected| expected != remote) {
        return Err(HandshakeError::WrongPeer(remote));
    }
    let mut stream = first_stream(&mut muxer, point.is_dialer()).await?;
    let exchange = async {
        let admitted = exchange(gate, &mut stream, point.is_dialer(), remote, &[]).await?;
        // Closing properly matters: dropping an unfinished QUIC stream may take the last byte back.
        stream.close().await.map_err(HandshakeError::Closed)?;
        Ok::<_, HandshakeError>(admitted)
    };
    let admitted = drive(&mut muxer, exchange).await??;
    let guard = gate.registry.insert(remote, admitted, address.ip());
    Ok(Guarded { muxer, _guard: guard })
}

/// Has both ends admit each other over a fresh stream, and tell each other that they did.
pub(super) async fn exchange(
    gate: &Gate,
    stream: &mut dyn Duplex,
    dialer: bool,
    remote: PeerId,
    binding: &[u8],
) -> Result<super::Admitted, HandshakeError> {
    let admitted = gate.admission.admit(stream, dialer, gate.local, remote, binding).await?;
    let mut answer = [0];
    let confirm = async {
        stream.write_all(&[ADMITTED]).await?;
        stream.flush().await?;
        stream.read_exact(&mut answer).await
    };
    confirm.await.map_err(HandshakeError::Closed)?;
    if answer != [ADMITTED] {
        return Err(Refused::new("the other end speaks another admission").into());
    }
    Ok(admitted)
}

/// What each end says once it has admitted the other.
const ADMITTED: u8 = 1;

/// Opens (dialer) or accepts (listener) the first stream of a connection.
async fn first_stream<M>(muxer: &mut M, dialer: bool) -> Result<M::Substream, HandshakeError>
where
    M: StreamMuxer + Unpin,
    M::Error: Send + Sync + 'static,
{
    poll_fn(|cx| {
        let mut pinned = Pin::new(&mut *muxer);
        let stream = if dialer { pinned.as_mut().poll_outbound(cx) } else { pinned.as_mut().poll_inbound(cx) };
        match stream {
            Poll::Ready(stream) => Poll::Ready(stream.map_err(closed)),
            Poll::Pending => poll_muxer(muxer, cx).map(Err),
        }
    })
    .await
}

/// Runs `work` on a stream of the muxer, and the muxer beneath it, which moves bytes only while it is polled.
async fn drive<M, T>(muxer: &mut M, work: impl Future<Output = T>) -> Result<T, HandshakeError>
where
    M: StreamMuxer + Unpin,
    M::Error: Send + Sync + 'static,
{
    let mut work = pin!(work);
    poll_fn(|cx| match work.as_mut().poll(cx) {
        Poll::Ready(done) => Poll::Ready(Ok(done)),
        Poll::Pending => match poll_muxer(muxer, cx) {
            // What the muxer took in before it failed, `work` may still read.
            Poll::Ready(error) => match work.as_mut().poll(cx) {
                Poll::Ready(done) => Poll::Ready(Ok(done)),
                Poll::Pending => Poll::Ready(Err(error)),
            },
            Poll::Pending => Poll::Pending,
        },
    })
    .await
}

/// Ready when the muxer has failed. A change of the remote's address is of no interest before admission.
fn poll_muxer<M>(muxer: &mut M, cx: &mut Context<'_>) -> Poll<HandshakeError>
where
    M: StreamMuxer + Unpin,
    M::Error: Send + Sync + 'static,
{
    loop {
        match Pin::new(&mut *muxer).poll(cx) {
            Poll::Ready(Ok(StreamMuxerEvent::AddressChange(_))) => {}
            Poll::Ready(Err(error)) => return Poll::Ready(closed(error)),
            Poll::Pending => return Poll::Pending,
        }
    }
}

fn closed(error: impl std::error::Error + Send + Sync + 'static) -> HandshakeError {
    HandshakeError::Closed(io::Error::other(error))
}

/// A muxer that keeps its peer registered while it lives.
struct Guarded<M> {
    muxer: M,
    _guard: Guard,
}

impl<M: StreamMuxer + Unpin> StreamMuxer for Guarded<M> {
    type Substream = M::Substream;
    type Error = M::Error;

    fn poll_inbound(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<M::Substream, M::Error>> {
        Pin::new(&mut self.get_mut().muxer).poll_inbound(cx)
    }

    fn poll_outbound(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<M::Substream, M::Error>> {
        Pin::new(&mut self.get_mut().muxer).poll_outbound(cx)
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), M::Error>> {
        Pin::new(&mut self.get_mut().muxer).poll_close(cx)
    }

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<StreamMuxerEvent, M::Error>> {
        Pin::new(&mut self.get_mut().muxer).poll(cx)
    }
}
