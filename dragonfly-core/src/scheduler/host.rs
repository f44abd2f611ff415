//! What the core knows of a host that is up.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::slab::TaskIx;
use crate::task::{TaskId, rendezvous_score};
use crate::wire::statement::Signed;
use crate::wire::{PeerId, bytes_of_ip};

/// A host whose control session is open.
pub(super) struct Host {
    pub(super) peer: PeerId,
    /// Never used twice, unlike the host's number.
    pub(super) serial: u64,
    pub(super) tenant: Arc<str>,
    pub(super) seed_role: bool,
    pub(super) seen_ip: Option<IpAddr>,
    pub(super) last_seen: Duration,
    pub(super) announced: bool,
    /// Whether it acts as a seed: decided by the first announcement of a session.
    pub(super) seed: bool,
    pub(super) record: Option<Signed>,
    pub(super) slots: u16,
    /// The site that its operator named.
    pub(super) site: Option<Arc<str>>,
    pub(super) tasks: BTreeSet<TaskIx>,
    /// Those of which it lacked something when it joined: some it may hold by now, or have left.
    pub(super) lacking: BTreeSet<TaskIx>,
    /// How often it was refused one more of these.
    pub(super) refused: u32,
    /// Tasks that it was asked to join and has not yet.
    pub(super) triggered: BTreeSet<TaskIx>,
}

impl Host {
    /// The IP address as neighbours are told it: 4 or 16 bytes.
    pub(super) fn ip_bytes(&self) -> Option<Vec<u8>> {
        self.seen_ip.map(bytes_of_ip)
    }

    /// Whether two hosts are likely to be near each other: the same /24 or /64.
    pub(super) fn is_near(&self, other: &Self) -> bool {
        match (self.seen_ip, other.seen_ip) {
            (Some(IpAddr::V4(a)), Some(IpAddr::V4(b))) => a.octets()[..3] == b.octets()[..3],
            (Some(IpAddr::V6(a)), Some(IpAddr::V6(b))) => a.octets()[..8] == b.octets()[..8],
            _ => false,
        }
    }
}

/// How well `peer` suits as the seed of `task`: the highest score is first.
pub(super) fn rendezvous(task: &TaskId, peer: &PeerId) -> [u8; 32] {
    rendezvous_score(task, peer.public_key())
}
