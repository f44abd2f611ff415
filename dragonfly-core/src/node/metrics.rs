//! What a node counts, for its operator.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::store::Usage;

/// One number. Relaxed: it orders nothing.
#[derive(Debug, Default)]
pub(crate) struct Number(AtomicU64);

impl Number {
    pub(crate) fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    pub(crate) fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The numbers of one node.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    pub(crate) bytes_from_origin: Number,
    pub(crate) bytes_from_peers: Number,
    pub(crate) bytes_to_peers: Number,
    pub(crate) lanes: Number,
    pub(crate) members: Number,
    pub(crate) neighbours_blamed: Number,
    pub(crate) neighbours_stalled: Number,
    pub(crate) pieces_refuted: Number,
    pub(crate) pieces_repeated: Number,
    pub(crate) tasks: Number,
}

impl Metrics {
    /// The Prometheus text exposition format, version 0.0.4.
    pub(crate) fn text(&self, store: Usage) -> String {
        let mut text = String::new();
        let mut family = |name: &str, kind: &str, help: &str, value: u64| {
            let _ = write!(
                text,
                "# HELP dragonfly_{name} {help}\n# TYPE dragonfly_{name} {kind}\ndragonfly_{name} {value}\n"
            );
        };
        let counter = "counter";
        family("origin_bytes_total", counter, "Body bytes received from origins.", self.bytes_from_origin.value());
        family(
            "peer_received_bytes_total",
            counter,
            "Proven bytes received from peers.",
            self.bytes_from_peers.value(),
        );
        family("peer_sent_bytes_total", counter, "Bytes of pieces sent to peers.", self.bytes_to_peers.value());
        let help = "Pieces from peers that did not match their hash.";
        family("pieces_refuted_total", counter, help, self.pieces_refuted.value());
        let help = "Pieces that came from a second peer although they were held by then.";
        family("pieces_repeated_total", counter, help, self.pieces_repeated.value());
        let help = "Neighbours that were shunned for a time, for what only a broken or hostile one does.";
        family("neighbours_blamed_total", counter, help, self.neighbours_blamed.value());
        let help = "Times that a neighbour sent too little for too long of what it was asked for.";
        family("neighbours_stalled_total", counter, help, self.neighbours_stalled.value());
        family("lanes", "gauge", "Open lanes to other hosts.", self.lanes.value());
        family("members", "gauge", "Other members of the network that are known.", self.members.value());
        family("tasks", "gauge", "Tasks that take part in the swarm.", self.tasks.value());
        family("store_bytes", "gauge", "Bytes that the store uses.", store.bytes);
        family("store_evicted_bytes_total", counter, "Bytes that eviction freed.", store.evicted_bytes);
        let help = "Generations that eviction removed.";
        family("store_evicted_entries_total", counter, help, store.evicted_entries);
        if let Some(quota) = store.quota {
            family("store_quota_bytes", "gauge", "Bytes that the store may use.", quota);
        }
        family("store_entries", "gauge", "Generations that the store holds pieces of.", store.entries as u64);
        let help = "Generations with pieces that the index on disk does not know yet.";
        family("store_unwritten_entries", "gauge", help, store.unwritten as u64);
        text
    }
}
