//! The names of hosts: who ([`PeerId`]) and where ([`Address`]).

use std::fmt;
use std::str::FromStr;

/// A host's identity: its Ed25519 public key. Printed as libp2p prints it (`12D3Koo...`).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerId([u8; 32]);

/// Text or bytes that are no [`PeerId`] of an Ed25519 key, or no [`Address`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidName(String);

impl PeerId {
    /// The peer that holds this Ed25519 public key.
    pub const fn from_public_key(key: [u8; 32]) -> Self {
        Self(key)
    }

    /// The Ed25519 public key.
    pub const fn public_key(&self) -> &[u8; 32] {
        &self.0
    }

    /// The identity multihash of a protobuf-encoded Ed25519 key (libp2p peer-ids specification).
    const PREFIX: [u8; 6] = [0x00, 0x24, 0x08, 0x01, 0x12, 0x20];

    pub(crate) fn to_libp2p(self) -> libp2p::PeerId {
        let mut bytes = Self::PREFIX.to_vec();
        bytes.extend_from_slice(&self.0);
        libp2p::PeerId::from_bytes(&bytes).unwrap_or_else(|_| unreachable!("an identity multihash of 36 bytes"))
    }

    pub(crate) fn from_libp2p(id: &libp2p::PeerId) -> Result<Self, InvalidName> {
        let bytes = id.to_bytes();
        let key = bytes.strip_prefix(&Self::PREFIX).and_then(|key| key.try_into().ok());
        key.map(Self).ok_or_else(|| InvalidName(format!("{id} is not the id of an Ed25519 key")))
    }
}

impl fmt::Display for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.to_libp2p().fmt(f)
    }
}

impl fmt::Debug for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.to_string();
        write!(f, "PeerId({})", &text[text.len() - 8..])
    }
}

impl FromStr for PeerId {
    type Err = InvalidName;

    fn from_str(s: &str) -> Result<Self, InvalidName> {
        let id: libp2p::PeerId = s.parse().map_err(|_| InvalidName(format!("not a peer id: {s:?}")))?;
        Self::from_libp2p(&id)
    }
}

impl serde::Serialize for PeerId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<C> minicbor::Encode<C> for PeerId {
    fn encode<W: minicbor::encode::Write>(
        &self,
        e: &mut minicbor::Encoder<W>,
        _: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        e.bytes(&self.0)?;
        Ok(())
    }
}

impl<'b, C> minicbor::Decode<'b, C> for PeerId {
    fn decode(d: &mut minicbor::Decoder<'b>, _: &mut C) -> Result<Self, minicbor::decode::Error> {
        let key = d.bytes()?.try_into().map_err(|_| minicbor::decode::Error::message("not a peer id"))?;
        Ok(Self(key))
    }
}

/// Where a host listens or is to listen: a libp2p multiaddress, such as `/ip4/10.0.0.7/tcp/4001` or
/// `/ip4/10.0.0.7/udp/4001/quic-v1/p2p/12D3Koo...`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Address(libp2p::Multiaddr);

impl Address {
    /// The peer at its end (`/p2p/...`), if it names one.
    pub fn peer(&self) -> Option<PeerId> {
        self.0.iter().last().and_then(|protocol| match protocol {
            libp2p::multiaddr::Protocol::P2p(id) => PeerId::from_libp2p(&id).ok(),
            _ => None,
        })
    }

    /// The same address with `/p2p/PEER` at its end.
    #[must_use]
    pub fn with_peer(&self, peer: PeerId) -> Self {
        let mut address = self.without_peer().0;
        address.push(libp2p::multiaddr::Protocol::P2p(peer.to_libp2p()));
        Self(address)
    }

    /// The same address without `/p2p/PEER` at its end.
    #[must_use]
    pub fn without_peer(&self) -> Self {
        let mut address = self.0.clone();
        if let Some(libp2p::multiaddr::Protocol::P2p(_)) = address.iter().last() {
            address.pop();
        }
        Self(address)
    }

    /// The IP address that it starts with, if it does.
    pub fn ip(&self) -> Option<std::net::IpAddr> {
        self.0.iter().next().and_then(|protocol| match protocol {
            libp2p::multiaddr::Protocol::Ip4(ip) => Some(ip.into()),
            libp2p::multiaddr::Protocol::Ip6(ip) => Some(ip.into()),
            _ => None,
        })
    }

    /// The port that it names after an IP address, TCP or UDP.
    pub(crate) fn port(&self) -> Option<u16> {
        use libp2p::multiaddr::Protocol;
        match self.0.iter().nth(1) {
            Some(Protocol::Tcp(port) | Protocol::Udp(port)) => Some(port),
            _ => None,
        }
    }

    /// Where TCP comes to this very host; absent of QUIC, of names, and of what a relay passes on.
    #[cfg(feature = "gateway")]
    pub(crate) fn tcp(&self) -> Option<std::net::SocketAddr> {
        use libp2p::multiaddr::Protocol;
        let relayed = self.0.iter().any(|protocol| matches!(protocol, Protocol::P2pCircuit));
        match self.0.iter().nth(1) {
            Some(Protocol::Tcp(port)) if !relayed => Some((self.ip()?, port).into()),
            _ => None,
        }
    }

    /// The address of a lane, a connection that begins with TLS: `/ip4/10.0.0.7/tcp/4002/tls`.
    pub(crate) fn of_lane(socket: std::net::SocketAddr) -> Self {
        use libp2p::multiaddr::Protocol;
        let address = libp2p::Multiaddr::from(socket.ip());
        Self(address.with(Protocol::Tcp(socket.port())).with(Protocol::Tls))
    }

    /// Where a lane is to be had, if this is a lane's address.
    pub(crate) fn lane(&self) -> Option<std::net::SocketAddr> {
        use libp2p::multiaddr::Protocol;
        let mut protocols = self.0.iter();
        let (_, ip) = (protocols.next(), self.ip()?);
        match (protocols.next(), protocols.next(), protocols.next()) {
            (Some(Protocol::Tcp(port)), Some(Protocol::Tls), None | Some(Protocol::P2p(_))) => Some((ip, port).into()),
            _ => None,
        }
    }

    pub(crate) fn to_libp2p(&self) -> libp2p::Multiaddr {
        self.0.clone()
    }

    pub(crate) const fn from_libp2p(address: libp2p::Multiaddr) -> Self {
        Self(address)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Address {
    type Err = InvalidName;

    fn from_str(s: &str) -> Result<Self, InvalidName> {
        let address = s.parse().map_err(|e| InvalidName(format!("not a multiaddress: {s:?} ({e})")))?;
        Ok(Self(address))
    }
}

impl<C> minicbor::Encode<C> for Address {
    fn encode<W: minicbor::encode::Write>(
        &self,
        e: &mut minicbor::Encoder<W>,
        _: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        e.bytes(&self.0.to_vec())?;
        Ok(())
    }
}

impl<'b, C> minicbor::Decode<'b, C> for Address {
    fn decode(d: &mut minicbor::Decoder<'b>, _: &mut C) -> Result<Self, minicbor::decode::Error> {
        let address = libp2p::Multiaddr::try_from(d.bytes()?.to_vec());
        address.map(Self).map_err(|_| minicbor::decode::Error::message("not a multiaddress"))
    }
}
