//! From a TCP connection to a lane: TLS, then the same admission as on any connection, bound to this TLS session; then, where
//! both ends want it, the cut to the bare socket.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use socket2::SockRef;
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};
use tokio_util::compat::TokioAsyncReadCompatExt as _;
use tokio_util::sync::CancellationToken;

use super::super::admission::Guard;
use super::super::transport::{Gate, HandshakeError, exchange};
use super::ahead::ReadAhead;
use super::cut;
use super::plain::Plain;
use super::tls::{self, ALPN, ALPN_PLAIN, Tls};
use super::trusted::Trusted;
use crate::wire::PeerId;
use crate::wire::lane::BLOCK_BYTES_MAX;

/// What the admission's proofs are made over, so that they cannot be relayed into another session (RFC 8446 7.5).
const EXPORTER: &[u8] = b"EXPORTER-dragonfly-lane-admission";

/// How many bytes may wait in the kernel that the network has not taken yet: what is written there can be neither
/// cancelled nor overtaken.
pub(in super::super) const NOT_SENT_BYTES: u32 = 128 << 10;

/// How many bytes TLS takes at once: a block with its header and what was to be said before it. Less would cut each block
/// in two, of which the second is a few bytes.
const WRITE_BYTES: usize = BLOCK_BYTES_MAX + (4 << 10);

/// A connection that both ends have admitted.
pub(super) struct Admitted {
    pub(super) wire: Wire,
    pub(super) peer: PeerId,
    pub(super) remote_ip: IpAddr,
    pub(super) guard: Guard,
    /// When the peer's credential ends, in seconds since 1970.
    pub(super) not_after: Option<u64>,
}

/// What carries the bytes of a lane.
pub(super) enum Wire {
    /// Encrypted.
    Tls(Box<TlsStream<ReadAhead>>),
    /// Not any more, since both ends are proven.
    Plain(Plain),
}

/// What both sides of a handshake need.
pub(super) struct Ends {
    pub(super) gate: Arc<Gate>,
    pub(super) tls: Tls,
    /// With whom lanes may go on without encryption; `None`: with nobody.
    pub(super) trusted: Option<Trusted>,
    /// The algorithm that paces what is sent; `None` is the system's.
    pub(super) congestion: Option<String>,
}

/// Opens a connection to `peer` at `address`.
pub(super) async fn dial(ends: &Ends, peer: PeerId, address: SocketAddr) -> Result<Admitted, HandshakeError> {
    let limits = &ends.gate.limits;
    let connect = async {
        let tcp = TcpStream::connect(address).await.map_err(HandshakeError::Connect)?;
        tune(&tcp, ends);
        let name = rustls::pki_types::ServerName::IpAddress(address.ip().into());
        TlsConnector::from(ends.tls.client(peer)).connect(name, ReadAhead::new(tcp)).await.map_err(HandshakeError::Tls)
    };
    let tls = timed(limits.handshake_timeout, connect).await?;
    admit(ends, TlsStream::Client(tls), true, address.ip()).await
}

/// Takes a connection that somebody opened.
pub(super) async fn accept(ends: &Ends, tcp: TcpStream, from: SocketAddr) -> Result<Admitted, HandshakeError> {
    tune(&tcp, ends);
    let accept = TlsAcceptor::from(ends.tls.server()).accept(ReadAhead::new(tcp));
    let tls = timed(ends.gate.limits.handshake_timeout, async { accept.await.map_err(HandshakeError::Tls) }).await?;
    admit(ends, TlsStream::Server(tls), false, from.ip().to_canonical()).await
}

async fn admit(
    ends: &Ends,
    mut tls: TlsStream<ReadAhead>,
    dialer: bool,
    remote_ip: IpAddr,
) -> Result<Admitted, HandshakeError> {
    let (peer, binding, trusted) = {
        let (_, session) = tls.get_ref();
        // A client that offers none is let through by rustls.
        let trusted = match session.alpn_protocol() {
            Some(ALPN) => None,
            Some(ALPN_PLAIN) => Some(ends.trusted.as_ref().ok_or(HandshakeError::Alpn)?),
            _ => return Err(HandshakeError::Alpn),
        };
        let peer = tls::peer_of(session.peer_certificates()).map_err(HandshakeError::Certificate)?;
        let exported = match &tls {
            TlsStream::Client(tls) => tls.get_ref().1.export_keying_material([0; 32], EXPORTER, None),
            TlsStream::Server(tls) => tls.get_ref().1.export_keying_material([0; 32], EXPORTER, None),
        };
        (peer, exported.map_err(HandshakeError::Certificate)?, trusted)
    };
    match &mut tls {
        TlsStream::Client(tls) => tls.get_mut().1.set_buffer_limit(Some(WRITE_BYTES)),
        TlsStream::Server(tls) => tls.get_mut().1.set_buffer_limit(Some(WRITE_BYTES)),
    }
    let gate = &ends.gate;
    let (admitted, wire) = timed(gate.limits.admission_timeout, async {
        let mut io = (&mut tls).compat();
        let admitted = exchange(gate, &mut io, dialer, peer, &binding).await?;
        let plain = match trusted {
            Some(trusted) => cut::agree(&mut tls, dialer, trusted.allows(peer)).await?,
            None => false,
        };
        let wire = if plain { Wire::Plain(cut::cut(tls, dialer).await?) } else { Wire::Tls(Box::new(tls)) };
        Ok((admitted, wire))
    })
    .await?;
    let not_after = admitted.not_after;
    let guard = gate.registry.insert(peer, admitted, Some(remote_ip));
    Ok(Admitted { wire, peer, remote_ip, guard, not_after })
}

async fn timed<T>(
    limit: std::time::Duration,
    work: impl Future<Output = Result<T, HandshakeError>>,
) -> Result<T, HandshakeError> {
    tokio::time::timeout(limit, work).await.unwrap_or(Err(HandshakeError::TimedOut))
}

/// Options that make a lane quick to change its mind. A system that lacks one is slower, not wrong.
fn tune(tcp: &TcpStream, ends: &Ends) {
    let socket = SockRef::from(tcp);
    let outcome = socket.set_tcp_nodelay(true).and_then(|()| pace(&socket, ends.congestion.as_deref()));
    if let Err(error) = outcome {
        tracing::debug!(%error, "an option of a lane's socket cannot be set");
    }
}

#[cfg(target_os = "linux")]
fn pace(socket: &SockRef<'_>, congestion: Option<&str>) -> std::io::Result<()> {
    socket.set_tcp_notsent_lowat(NOT_SENT_BYTES)?;
    congestion.map_or(Ok(()), |name| socket.set_tcp_congestion(name.as_bytes()))
}

#[cfg(not(target_os = "linux"))]
fn pace(_: &SockRef<'_>, _: Option<&str>) -> std::io::Result<()> {
    let _ = NOT_SENT_BYTES;
    Ok(())
}

/// Ends a lane when its credential does: for as long as `stop` is not cancelled.
pub(super) async fn expire(not_after: u64, stop: CancellationToken) {
    loop {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |now| now.as_secs());
        let Some(left) = not_after.checked_sub(now).filter(|left| *left > 0) else { break };
        // The clock may be set meanwhile: it is looked at again from time to time.
        let pause = std::time::Duration::from_secs(left.min(60));
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
    }
    stop.cancel();
}
