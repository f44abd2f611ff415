//! Messages as plain structs, and apart from them the codec that bounds and reads them. Pure: no I/O.
//!
//! - [`codec`]: how messages are framed, bounded and read.
//! - [`control`]: what a member and a task's coordinator say to each other.
//! - [`lane`]: what two neighbours say to each other: have-maps, requests, pieces.
//! - [`statement`]: what is signed: grants, attestations, seals.

pub mod codec;
pub mod control;
pub mod lane;
mod peer_id;
pub mod statement;

/// A bound of a room of this library, for its operator to see: the name of its metric, what it bounds, and how much.
pub(crate) type Bound = (&'static str, &'static str, u64);

/// The bounds of what one message may be.
pub(crate) const BOUNDS: [Bound; 8] = [
    (
        "dragonfly_control_message_bytes_limit",
        "Bytes of a control message at the most.",
        codec::CONTROL_BYTES_MAX as u64,
    ),
    ("dragonfly_lane_message_bytes_limit", "Bytes of a message of a lane at the most.", codec::LANE_BYTES_MAX as u64),
    ("dragonfly_block_bytes_limit", "Bytes of a block of a piece at the most.", lane::BLOCK_BYTES_MAX as u64),
    ("dragonfly_message_items_limit", "Items of a message at the most.", codec::ITEMS_MAX as u64),
    (
        "dragonfly_neighbour_requests_limit",
        "Requests of one neighbour that may be outstanding.",
        lane::REQUESTS_MAX as u64,
    ),
    ("dragonfly_request_pieces_limit", "Pieces of one request at the most.", lane::REQUEST_PIECES_MAX as u64),
    (
        "dragonfly_small_content_bytes_limit",
        "Bytes of content that is had in one answer.",
        lane::WHOLE_BYTES_MAX as u64,
    ),
    (
        "dragonfly_small_asks_limit",
        "Questions for small content that one side may have outstanding.",
        lane::ASKS_MAX as u64,
    ),
];

pub use peer_id::{Address, InvalidName, PeerId};

/// The 4 or 16 bytes of an IP address, as messages carry it.
pub(crate) fn bytes_of_ip(ip: std::net::IpAddr) -> Vec<u8> {
    match ip {
        std::net::IpAddr::V4(ip) => ip.octets().to_vec(),
        std::net::IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}
