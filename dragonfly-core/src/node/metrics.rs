//! What a node counts, for its operator.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};

use super::RateLimits;
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
    pub(crate) hosts: Number,
    pub(crate) in_flight_bytes: Number,
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
    pub(super) fn text(&self, bounds: &Bounds) -> String {
        let store = &bounds.store;
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
        let gauge = "gauge";
        let (connections, connections_max) = bounds.connections;
        family("peers_connected", gauge, "Hosts that this one is connected to.", connections as u64);
        family("connections_limit", gauge, "Connections at the most.", connections_max as u64);
        let (waiting, waiting_max) = bounds.write_bytes;
        family("write_waiting_bytes", gauge, "Received bytes that wait to be written.", waiting as u64);
        family("write_waiting_bytes_limit", gauge, "Received bytes that may wait to be written.", waiting_max as u64);
        let (requests, requests_max) = bounds.origin_requests;
        family("origin_requests", gauge, "Requests that are out at origins.", requests as u64);
        family("origin_requests_limit", gauge, "Requests at origins at the most.", requests_max as u64);
        let help = "Streams of peers that were dropped because too many waited.";
        family("streams_dropped_total", counter, help, bounds.streams_dropped);
        family("hosts_known", gauge, "Hosts that are remembered as neighbours.", self.hosts.value());
        family("hosts_known_limit", gauge, "Hosts remembered at the most.", crate::peer::HOSTS_MAX as u64);
        family("tasks_limit", gauge, "Tasks that take part at the most.", crate::peer::TASKS_MAX as u64);
        let help = "Bytes requested of peers that have not arrived.";
        family("in_flight_bytes", gauge, help, self.in_flight_bytes.value());
        let swarm = crate::swarm::Config::default();
        family("in_flight_bytes_limit", gauge, "Bytes requested of peers at the most.", swarm.in_flight_bytes_max);
        family("lanes_limit", gauge, "Lanes at the most.", swarm.lanes_max as u64);
        let RateLimits { upload, download, origin, task_upload, task_download, task_origin } = bounds.rates;
        let rates = [
            ("upload", upload),
            ("download", download),
            ("origin", origin),
            ("task_upload", task_upload),
            ("task_download", task_download),
            ("task_origin", task_origin),
        ];
        for (name, rate) in rates {
            if let Some(rate) = rate {
                family(&format!("{name}_rate_limit_bytes"), gauge, "Bytes a second at the most.", rate);
            }
        }
        text
    }
}

/// What a node has bounds for, and how much of it is used: used, then the bound.
#[derive(Debug)]
pub(super) struct Bounds {
    pub(super) store: Usage,
    pub(super) rates: RateLimits,
    pub(super) connections: (usize, usize),
    pub(super) write_bytes: (usize, usize),
    pub(super) origin_requests: (usize, usize),
    pub(super) streams_dropped: u64,
}
