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

pub use peer_id::{Address, InvalidName, PeerId};

/// The 4 or 16 bytes of an IP address, as messages carry it.
pub(crate) fn bytes_of_ip(ip: std::net::IpAddr) -> Vec<u8> {
    match ip {
        std::net::IpAddr::V4(ip) => ip.octets().to_vec(),
        std::net::IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}
