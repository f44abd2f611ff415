//! The network host: connections between members, and raw streams over them.
//!
//! Who may call it: the node, which starts one [`Host`] and hands clones of it to its engines.
//! What it owns: the libp2p swarm and its one event-loop task (no libp2p type leaves this room), the listeners,
//! the registry of admitted peers and the accept queues of the protocols.
//!
//! - [`Admission`] is the seam to the trust room: it runs on the first stream of every connection, inside the
//!   transport, before the swarm or any protocol has seen the peer. A connection that is not admitted never existed.
//! - [`Host`] dials, opens streams and reports who came and went. Bytes flow between the caller's task and the
//!   connection's own task: neither the event loop nor another peer's connection is on the way.
//! - A lane ([`Host::lane`]) is a connection of its own for one protocol, without libp2p and many times cheaper.
//!   Where both ends let it, it is not encrypted once they are proven.
//! - Without a listen address there is no listener. Peers on its links are looked for only where it is told so.
//!
//! Liveness: QUIC connections have a keep-alive of 5 s and die after 10 s of silence. TCP connections have none here:
//! a protocol that keeps a stream open says something from time to time and gives up on silence, and a connection
//! without streams ends after the idle time-out.

mod admission;
mod dials;
mod error;
mod host;
mod lane;
mod limits;
#[cfg(feature = "mdns")]
mod local;
mod stream;
mod streams;
mod transport;

pub use admission::{Admission, Admitted, Claims, Duplex, Refused};
pub use error::{DialError, ListenError, OpenError, StartError};
pub(crate) use host::Found;
pub use host::{Host, HostConfig, PeerEvent};
pub use lane::LaneConfig;
pub(crate) use lane::{Direct, Private};
pub use limits::Limits;

use crate::wire::Bound;

/// The bounds of connections and streams that are not shown beside what is used of them.
pub(crate) fn bounds() -> Vec<Bound> {
    let limits = Limits::default();
    #[allow(unused_mut, reason = "without mDNS that is all")]
    let mut all = vec![
        (
            "dragonfly_connections_per_peer_limit",
            "Connections with one peer at the most.",
            limits.connections_per_peer as u64,
        ),
        ("dragonfly_handshakes_limit", "Connections that may wait to be admitted.", limits.handshakes as u64),
        (
            "dragonfly_handshakes_per_address_limit",
            "Those of one address that may wait to be admitted.",
            limits.handshakes_per_ip as u64,
        ),
        ("dragonfly_handshake_seconds_limit", "Seconds that a handshake may take.", limits.handshake_timeout.as_secs()),
        (
            "dragonfly_admission_seconds_limit",
            "Seconds that an admission may take.",
            limits.admission_timeout.as_secs(),
        ),
        (
            "dragonfly_streams_per_connection_limit",
            "Streams that this host may have open on a connection.",
            limits.streams_per_connection as u64,
        ),
        (
            "dragonfly_streams_waiting_limit",
            "Accepted streams of a protocol that may wait.",
            limits.accept_queue as u64,
        ),
        ("dragonfly_lane_connections_limit", "Lanes open or about to be closed.", lane::LANES_MAX as u64),
        (
            "dragonfly_lane_unsent_bytes_limit",
            "Bytes written to a lane that the network may not have taken.",
            u64::from(lane::NOT_SENT_BYTES),
        ),
        ("dragonfly_lane_read_ahead_bytes_limit", "Bytes read ahead of a lane.", lane::READ_BYTES as u64),
        (
            "dragonfly_plain_lanes_spoilt_limit",
            "Hosts to be remembered with whom lanes are encrypted, for what one that was not said.",
            lane::SPOILT_MAX as u64,
        ),
        ("dragonfly_plain_lanes_spoilt_seconds", "Seconds that they are remembered.", lane::SPOILT_FOR.as_secs()),
    ];
    #[cfg(feature = "mdns")]
    all.extend([
        ("dragonfly_link_peers_limit", "Peers found on the links that are remembered.", local::PEERS_MAX as u64),
        ("dragonfly_link_addresses_limit", "Addresses of one of them.", local::ADDRESSES_MAX as u64),
        ("dragonfly_link_records_limit", "Records of the links that are held.", local::RECORDS_MAX as u64),
    ]);
    all
}
pub use stream::{Carrier, Incoming, Stream};

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
