//! The limits of a core.

use std::time::Duration;

/// How much a [`super::Swarm`] may do at a time. The defaults are those of the design; each says why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Neighbours that a task tries to have. 12: the swarm is then well connected at any size, and a sender's
    /// slots are filled by its own neighbours. With 6 the last of 31 hosts is at 1.16 of the bound and with 24 at 1.18, in
    /// place of 1.08.
    pub neighbours_wanted: usize,
    /// Lanes of this host, whoever opened them. 32: each costs two sockets' buffers and a TLS session.
    pub lanes_max: usize,
    /// Bytes requested and not yet arrived, over all neighbours and tasks: what bounds the memory for pieces in
    /// flight. At least one piece is always requested. 32 MiB: what 1 Gbit/s brings in a quarter of a second, which is what
    /// is asked for ahead. At 100 Mbit/s half of it is never reached.
    pub in_flight_bytes_max: u64,
    /// Requesters served at a time, fewer where there are few pieces. 8: with fewer, an uplink waits for slow receivers;
    /// with more, each piece takes longer until it can be passed on, and each is a flow that costs processor time.
    pub upload_slots: usize,
    /// Whether anything is served and announced at all.
    pub upload: bool,
    /// Children that an injector has allotted something to at a time. 32: all whom it can have a lane to. What it sends
    /// is nowhere else, so the more take part in it the more can pass it on; with 12 of 31 these twelve had everything
    /// before the others and kept each other busy with it.
    pub inject_children: usize,
    /// Requesters that an injector serves at a time. 12: with 4 its uplink waits for slow children; with more each
    /// piece is out later.
    pub inject_slots: usize,
    /// Without any progress of a neighbour for this long, its requests go elsewhere. 10 s: what a lost packet and the longest
    /// pauses of TCP after it take; what only waits is moved long before. Who is equal and well is never silent for half of it.
    pub stall: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            neighbours_wanted: 12,
            lanes_max: 32,
            in_flight_bytes_max: 32 << 20,
            upload_slots: 8,
            upload: true,
            inject_children: 32,
            inject_slots: 12,
            stall: Duration::from_secs(10),
        }
    }
}
