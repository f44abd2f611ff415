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
//! - Without a listen address there is no listener. Peers on its links are looked for only where it is told so.
//!
//! Liveness: QUIC connections have a keep-alive of 5 s and die after 10 s of silence. TCP connections have none here:
//! a protocol that keeps a stream open says something from time to time and gives up on silence, and a connection
//! without streams ends after the idle time-out.

mod admission;
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
pub use limits::Limits;
pub use stream::{Carrier, Incoming, Stream};

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
