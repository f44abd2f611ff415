//! The bounds of the host, and the counting of connections against them.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use libp2p::swarm::ConnectionId;

/// Bounds on what peers, and strangers, can make the host hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Accepted streams of one protocol that wait for the engine. More are dropped, which the other end sees as a
    /// reset. 64: a burst of one stream each from the neighbours of several tasks.
    pub accept_queue: usize,
    /// From the end of the TLS or QUIC handshake until both ends have admitted each other. 5 s (`trust.md` 1).
    pub admission_timeout: Duration,
    /// Established connections in all. 4096: what a scheduler of some thousand hosts needs, and a quarter of a common
    /// descriptor limit of 16 384. A node of more is told so (`NodeBuilder::connections_max`).
    pub connections: usize,
    /// Established connections with one peer. 4: both ends dialed at once, over each transport.
    pub connections_per_peer: usize,
    /// How long a caller waits for a connection, and the bound of one address's attempt. 15 s: a name that resolves to
    /// one dead and one living address. A connection that a peer makes replaces those with it that are older by more:
    /// it has given them up.
    pub dial_timeout: Duration,
    /// Inbound connections that are not yet admitted. 64 (`trust.md` 5). More are dropped at once.
    pub handshakes: usize,
    /// The same from one IPv4 address or one IPv6 /64. 8 (`trust.md` 5).
    pub handshakes_per_ip: usize,
    /// TCP connect plus TLS plus multiplexer. 5 s (`trust.md` 5).
    pub handshake_timeout: Duration,
    /// A connection without streams is closed after this time. 60 s: longer than the pauses between the tasks of a
    /// busy host, much shorter than a NAT forgets.
    pub idle_timeout: Duration,
    /// How long opening a stream may take. 10 s.
    pub open_timeout: Duration,
    /// Streams that this host has open on one connection. 192: the multiplexer tears the whole connection down beyond
    /// 512, which both ends and the streams that are still closing share.
    pub streams_per_connection: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            accept_queue: 64,
            admission_timeout: Duration::from_secs(5),
            connections: 4096,
            connections_per_peer: 4,
            dial_timeout: Duration::from_secs(15),
            handshakes: 64,
            handshakes_per_ip: 8,
            handshake_timeout: Duration::from_secs(5),
            idle_timeout: Duration::from_secs(60),
            open_timeout: Duration::from_secs(10),
            streams_per_connection: 192,
        }
    }
}

/// Over a limit: the connection is dropped.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("too many {0}")]
pub(super) struct OverLimit(&'static str);

/// Inbound connections that are not admitted yet.
#[derive(Default)]
pub(super) struct Handshakes {
    pending: HashMap<ConnectionId, Option<IpAddr>>,
    by_ip: HashMap<IpAddr, usize>,
}

impl Handshakes {
    /// Counts a new inbound connection, unless it is one too many.
    pub(super) fn begin(&mut self, limits: &Limits, id: ConnectionId, ip: Option<IpAddr>) -> Result<(), OverLimit> {
        if self.pending.len() >= limits.handshakes {
            return Err(OverLimit("connections that are not admitted yet"));
        }
        let ip = ip.map(network);
        if let Some(ip) = ip {
            let count = self.by_ip.entry(ip).or_default();
            if *count >= limits.handshakes_per_ip {
                return Err(OverLimit("connections of one address that are not admitted yet"));
            }
            *count += 1;
        }
        self.pending.insert(id, ip);
        Ok(())
    }

    /// The connection is established or has failed. Unknown ids are none of ours (dialed, or over the limit).
    pub(super) fn end(&mut self, id: ConnectionId) {
        let Some(Some(ip)) = self.pending.remove(&id) else { return };
        if let Some(count) = self.by_ip.get_mut(&ip) {
            *count -= 1;
            if *count == 0 {
                self.by_ip.remove(&ip);
            }
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.pending.len() + self.by_ip.len()
    }
}

/// Checks an admitted connection against the limits: `total` and `with_peer` are the established ones.
pub(super) fn check_established(limits: &Limits, total: usize, with_peer: usize) -> Result<(), OverLimit> {
    if total >= limits.connections {
        return Err(OverLimit("connections"));
    }
    if with_peer >= limits.connections_per_peer {
        return Err(OverLimit("connections with one peer"));
    }
    Ok(())
}

/// What one stranger has in hand: an IPv4 address, or a whole IPv6 /64.
fn network(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(ip) => IpAddr::V6(Ipv6Addr::from_bits(ip.to_bits() & !u128::from(u64::MAX))),
        v4 => v4,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn handshakes_are_counted_in_all_and_per_network() {
        let limits = Limits { handshakes: 4, handshakes_per_ip: 2, ..Limits::default() };
        let mut handshakes = Handshakes::default();
        let id = ConnectionId::new_unchecked;
        let ip = |text: &str| Some(text.parse().unwrap());
        handshakes.begin(&limits, id(1), ip("2001:db8::1")).unwrap();
        handshakes.begin(&limits, id(2), ip("2001:db8::2")).unwrap();
        assert!(handshakes.begin(&limits, id(3), ip("2001:db8::3")).is_err(), "the same /64");
        handshakes.begin(&limits, id(4), ip("2001:db8:0:1::3")).unwrap();
        handshakes.begin(&limits, id(5), None).unwrap();
        assert!(handshakes.begin(&limits, id(6), ip("10.0.0.1")).is_err(), "too many in all");
        handshakes.end(id(3));
        handshakes.end(id(1));
        handshakes.end(id(1));
        handshakes.begin(&limits, id(7), ip("2001:db8::9")).unwrap();
        for n in 1..8 {
            handshakes.end(id(n));
        }
        assert_eq!(handshakes.len(), 0);
    }

    #[test]
    fn a_mapped_address_is_its_ipv4_address() {
        assert_eq!(network("::ffff:10.0.0.1".parse().unwrap()), "10.0.0.1".parse::<IpAddr>().unwrap());
    }
}
