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
    pub(crate) pieces_refuted: Number,
    pub(crate) tasks: Number,
}

/// A metric at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Metric {
    /// Its name, `dragonfly_` in front.
    pub name: &'static str,
    /// One sentence on what it counts.
    pub help: &'static str,
    /// Whether it only grows.
    pub kind: MetricKind,
    /// Its value.
    pub value: u64,
}

/// How a [`Metric`] moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum MetricKind {
    /// It only grows, from the start of the node.
    Counter,
    /// It comes and goes.
    Gauge,
}

impl Metrics {
    /// Every metric, in the order in which they are shown.
    pub(crate) fn values(&self, store: Usage) -> Vec<Metric> {
        use MetricKind::{Counter, Gauge};
        let metric = |name, help, kind, value| Metric { name, help, kind, value };
        let of = |name, help, kind, number: &Number| metric(name, help, kind, number.value());
        vec![
            of("dragonfly_origin_bytes_total", "Body bytes received from origins.", Counter, &self.bytes_from_origin),
            of(
                "dragonfly_peer_received_bytes_total",
                "Proven bytes received from peers.",
                Counter,
                &self.bytes_from_peers,
            ),
            of("dragonfly_peer_sent_bytes_total", "Bytes of pieces sent to peers.", Counter, &self.bytes_to_peers),
            of(
                "dragonfly_pieces_refuted_total",
                "Pieces from peers that did not match their hash.",
                Counter,
                &self.pieces_refuted,
            ),
            of("dragonfly_lanes", "Open lanes to other hosts.", Gauge, &self.lanes),
            of("dragonfly_tasks", "Tasks that take part in the swarm.", Gauge, &self.tasks),
            metric("dragonfly_store_bytes", "Bytes that the store uses.", Gauge, store.bytes),
            metric(
                "dragonfly_store_entries",
                "Generations that the store holds pieces of.",
                Gauge,
                store.entries as u64,
            ),
        ]
    }
}

/// The Prometheus text exposition format, version 0.0.4.
pub(crate) fn text(metrics: &[Metric]) -> String {
    let mut text = String::new();
    for Metric { name, help, kind, value } in metrics {
        let kind = match kind {
            MetricKind::Counter => "counter",
            MetricKind::Gauge => "gauge",
        };
        let _ = write!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}\n");
    }
    text
}
