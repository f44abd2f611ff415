//! What a gateway counts, and its bounds, for its operator.

use std::sync::atomic::Ordering;

use super::{Gateway, Inner, head, intercept, pass, registry, remembered, server, tunnel, wholes, windows};
use crate::node::{Metric, MetricKind, Number, metrics_text};

#[derive(Default)]
pub(super) struct Counts {
    pub(super) requests: Number,
    pub(super) swarm: Number,
    pub(super) passed: Number,
    pub(super) fallbacks: Number,
    pub(super) continued: Number,
    pub(super) tunnels: Number,
    pub(super) intercepted: Number,
    pub(super) bytes: Number,
}

/// What a [`Gateway`] has done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct GatewayCounts {
    /// Requests of clients.
    pub requests: u64,
    /// Requests that were answered with content of the swarm.
    pub swarm: u64,
    /// Requests that were passed on to their servers.
    pub passed: u64,
    /// Those of them that should have been answered from the swarm, which had trouble.
    pub fallbacks: u64,
    /// Answers of the swarm that went on at the server, because the swarm had trouble in the middle.
    pub continued: u64,
    /// Tunnels that were opened.
    pub tunnels: u64,
    /// Tunnels that were opened up.
    pub intercepted: u64,
    /// Bytes of content from the swarm that were sent to clients.
    pub bytes: u64,
}

impl Gateway {
    /// What it has done so far.
    pub fn counts(&self) -> GatewayCounts {
        let counts = &self.0.counts;
        GatewayCounts {
            requests: counts.requests.value(),
            swarm: counts.swarm.value(),
            passed: counts.passed.value(),
            fallbacks: counts.fallbacks.value(),
            continued: counts.continued.value(),
            tunnels: counts.tunnels.value(),
            intercepted: counts.intercepted.value(),
            bytes: counts.bytes.value(),
        }
    }

    /// What it has done and its bounds as plain values at this moment, for a registry of the embedder's own; beside
    /// those of its node ([`Node::metrics_now`](crate::Node::metrics_now)).
    pub fn metrics_now(&self) -> Vec<Metric> {
        let counts = self.counts();
        let counted = [
            ("dragonfly_gateway_requests_total", "Requests of clients to the gateway.", counts.requests),
            (
                "dragonfly_gateway_swarm_total",
                "Requests to the gateway answered with content of the swarm.",
                counts.swarm,
            ),
            ("dragonfly_gateway_passed_total", "Requests to the gateway that were passed on.", counts.passed),
            (
                "dragonfly_gateway_fallbacks_total",
                "Requests that the swarm should have answered, and the server did.",
                counts.fallbacks,
            ),
            ("dragonfly_gateway_continued_total", "Answers of the swarm that went on at the server.", counts.continued),
            ("dragonfly_gateway_tunnels_total", "Tunnels that were opened through the gateway.", counts.tunnels),
            ("dragonfly_gateway_intercepted_total", "Tunnels that the gateway opened up.", counts.intercepted),
            (
                "dragonfly_gateway_bytes_total",
                "Bytes of content of the swarm sent to clients of the gateway.",
                counts.bytes,
            ),
        ];
        let metric = |kind| move |(name, help, value)| Metric { name, help, kind, value };
        let counted = counted.into_iter().map(metric(MetricKind::Counter));
        counted.chain(self.0.bounds().into_iter().map(metric(MetricKind::Gauge))).collect()
    }

    /// The same in the Prometheus text format.
    pub fn metrics_text(&self) -> String {
        metrics_text(&self.metrics_now())
    }
}

impl Inner {
    fn bounds(&self) -> [(&'static str, &'static str, u64); 24] {
        let config = &self.config;
        let places = config.connections_max;
        let taken = places.saturating_sub(self.places.available_permits());
        [
            (
                "dragonfly_gateway_connections",
                "Connections of clients to the gateway.",
                taken.saturating_sub(self.kept.load(Ordering::Acquire)) as u64,
            ),
            ("dragonfly_gateway_connections_limit", "Such connections at the most.", places as u64),
            (
                "dragonfly_gateway_head_bytes_limit",
                "Bytes of the head of a request to the gateway.",
                server::HEAD_BYTES_MAX as u64,
            ),
            (
                "dragonfly_gateway_head_seconds_limit",
                "Seconds that it may take, and that a connection may wait for the next one.",
                server::HEAD_MAX.as_secs(),
            ),
            (
                "dragonfly_gateway_client_silence_seconds_limit",
                "Seconds for which a client of the gateway may take nothing.",
                config.client_timeout.as_secs(),
            ),
            (
                "dragonfly_gateway_patience_seconds_limit",
                "Seconds that the swarm may take for the first bytes, and be silent later.",
                config.patience.as_secs(),
            ),
            (
                "dragonfly_gateway_server_silence_seconds_limit",
                "Seconds that a server may be silent within a body that is passed on.",
                pass::SILENCE_MAX.as_secs(),
            ),
            (
                "dragonfly_gateway_connect_seconds_limit",
                "Seconds that a connection for a tunnel may take.",
                tunnel::CONNECT_MAX.as_secs(),
            ),
            (
                "dragonfly_gateway_tunnel_idle_seconds_limit",
                "Seconds that a tunnel may be without a byte.",
                tunnel::IDLE_MAX.as_secs(),
            ),
            (
                "dragonfly_gateway_streams_limit",
                "Requests at a time on a connection of HTTP/2.",
                server::STREAMS_MAX.into(),
            ),
            (
                "dragonfly_gateway_window_bytes_limit",
                "Bytes of a request over HTTP/2 that wait for its server, at the most.",
                windows::REQUEST_MOST.into(),
            ),
            (
                "dragonfly_gateway_connection_window_bytes_limit",
                "Bytes of all requests on a connection of HTTP/2 that wait for their servers, at the most.",
                windows::MOST.into(),
            ),
            (
                "dragonfly_gateway_windows_bytes",
                "Bytes that may wait so on all connections, beside what each of HTTP/2 begins with.",
                self.windows.drawn(),
            ),
            ("dragonfly_gateway_windows_bytes_limit", "Such bytes at the most.", windows::BUDGET_BYTES),
            (
                "dragonfly_gateway_send_bytes_limit",
                "Bytes of an answer over HTTP/2 before its client takes it.",
                server::SEND_BUFFER_BYTES as u64,
            ),
            (
                "dragonfly_gateway_wholes_limit",
                "Wholes that the gateway fetches at a time because parts were asked for.",
                wholes::WHOLES_MAX as u64,
            ),
            (
                "dragonfly_gateway_wholes_pause_seconds_limit",
                "Seconds for which a whole that could not be fetched is not fetched again.",
                wholes::FAILED_PAUSE.as_secs(),
            ),
            (
                "dragonfly_gateway_manifests_limit",
                "Manifests that are read at a time for their type.",
                registry::MANIFESTS_MAX as u64,
            ),
            ("dragonfly_gateway_manifest_bytes_limit", "Bytes of such a manifest.", registry::MANIFEST_MAX),
            (
                "dragonfly_gateway_handshake_seconds_limit",
                "Seconds that a client's TLS handshake may take.",
                intercept::HANDSHAKE_MAX.as_secs(),
            ),
            (
                "dragonfly_gateway_certificates_limit",
                "Certificates of the gateway's authority that are kept.",
                intercept::KNOWN_MAX as u64,
            ),
            (
                "dragonfly_gateway_answers_limit",
                "Answers of servers that the gateway remembers at the most.",
                head::HEADS_MAX as u64,
            ),
            (
                "dragonfly_gateway_answers_bytes_limit",
                "Bytes of those that the gateway remembers over a restart.",
                remembered::BYTES_MAX as u64,
            ),
            (
                "dragonfly_gateway_refusals_limit",
                "URLs that were refused which the gateway remembers at the most.",
                remembered::REFUSED_MAX as u64,
            ),
        ]
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::BTreeSet;

    use super::*;
    use crate::node::documented;
    use crate::{Node, Peer};

    #[tokio::test]
    async fn what_is_documented_is_shown() {
        let node = Node::builder().start().await.unwrap();
        let peer = Peer::builder(&node).start().await.unwrap();
        let gateway = Gateway::new(&peer, super::super::GatewayConfig::default());
        let metrics = gateway.metrics_now();
        let shown: BTreeSet<&str> = metrics.iter().map(|metric| metric.name).collect();
        assert_eq!(shown.len(), metrics.len(), "each name once");
        let mut bounds = BTreeSet::new();
        for (what, names) in documented("## The gateway") {
            assert!(!names.is_empty(), "no metric shows: {what}");
            bounds.extend(names.into_iter().map(|name| format!("dragonfly_{name}")));
        }
        for name in &bounds {
            assert!(shown.contains(name.as_str()), "{name} is not shown");
        }
        for name in shown.iter().filter(|name| name.ends_with("_limit")) {
            assert!(bounds.contains(*name), "{name} is not documented");
        }
        assert!(gateway.metrics_text().contains("\ndragonfly_gateway_connections 0\n"));
    }
}
