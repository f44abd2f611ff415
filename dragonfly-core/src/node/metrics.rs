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

    pub(crate) fn sub(&self, less: u64) {
        self.0.fetch_sub(less, Ordering::Relaxed);
    }

    pub(crate) fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    pub(crate) fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The numbers of one node.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    pub(crate) bytes_from_origin: Number,
    pub(crate) bytes_from_peers: Number,
    pub(crate) bytes_to_peers: Number,
    pub(crate) bytes_direct: Number,
    pub(crate) hosts: Number,
    pub(crate) in_flight_bytes: Number,
    pub(crate) lanes: Number,
    pub(crate) lane_commands: Number,
    pub(crate) lanes_on_streams: Number,
    pub(crate) lanes_plain: Number,
    pub(crate) lanes_spoilt: Number,
    pub(crate) members: Number,
    pub(crate) neighbours_blamed: Number,
    pub(crate) neighbours_stalled: Number,
    pub(crate) claims_unkept: Number,
    pub(crate) coordinator_joins: Number,
    pub(crate) coordinator_messages: Number,
    pub(crate) coordinator_sessions_opened: Number,
    pub(crate) evidence_refused: Number,
    pub(crate) checks_in_vain: Number,
    pub(crate) bytes_resumed: Number,
    pub(crate) pieces_refuted: Number,
    pub(crate) pieces_repeated: Number,
    pub(crate) wholes_from_peers: Number,
    pub(crate) wholes_to_peers: Number,
    pub(crate) tasks: Number,
    pub(crate) tasks_small: Number,
    pub(crate) coordinator_sessions: Number,
    pub(crate) link_sessions: Number,
    pub(crate) seed_tasks: Number,
    pub(crate) triggers_dropped: Number,
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
    pub(super) fn values(&self, bounds: &Bounds) -> Vec<Metric> {
        let mut all = Vec::new();
        let mut add = |kind, name, help, value| all.push(Metric { name, help, kind, value });
        let mut counter = |name, help, number: &Number| add(MetricKind::Counter, name, help, number.value());
        counter("dragonfly_origin_bytes_total", "Body bytes received from origins.", &self.bytes_from_origin);
        counter("dragonfly_peer_received_bytes_total", "Proven bytes received from peers.", &self.bytes_from_peers);
        counter("dragonfly_peer_sent_bytes_total", "Bytes of pieces sent to peers.", &self.bytes_to_peers);
        let help = "Of these, bytes that went from a file to a lane without encryption inside the kernel.";
        counter("dragonfly_peer_sent_direct_bytes_total", help, &self.bytes_direct);
        let help = "Bytes of pieces that were not asked for again, for they had come before their request ended.";
        counter("dragonfly_resumed_bytes_total", help, &self.bytes_resumed);
        let help = "Pieces from peers that did not match their hash.";
        counter("dragonfly_pieces_refuted_total", help, &self.pieces_refuted);
        let help = "Pieces that came from a second peer although they were held by then.";
        counter("dragonfly_pieces_repeated_total", help, &self.pieces_repeated);
        let help = "Small contents that came from a peer in one answer.";
        counter("dragonfly_small_received_total", help, &self.wholes_from_peers);
        let help = "Small contents that were sent to a peer in one answer.";
        counter("dragonfly_small_sent_total", help, &self.wholes_to_peers);
        let help = "Neighbours that were shunned for a time, for what only a broken or hostile one does.";
        counter("dragonfly_neighbours_blamed_total", help, &self.neighbours_blamed);
        let help =
            "Lanes without encryption that ended for what no neighbour says: the next one with it was encrypted.";
        counter("dragonfly_plain_lanes_spoilt_total", help, &self.lanes_spoilt);
        let help = "Times that a neighbour sent too little for too long of what it was asked for.";
        counter("dragonfly_neighbours_stalled_total", help, &self.neighbours_stalled);
        let help = "Neighbours that were not asked for a time because they refused what they said they had.";
        counter("dragonfly_claims_unkept_total", help, &self.claims_unkept);
        let help = "Evidence of neighbours that did not hold, and that was not believed.";
        counter("dragonfly_evidence_refused_total", help, &self.evidence_refused);
        let help = "Statements of neighbours that were checked and that taught nothing.";
        counter("dragonfly_vain_checks_total", help, &self.checks_in_vain);
        let help = "Tasks that schedulers wanted a seed to fetch and that it had no room for.";
        counter("dragonfly_triggers_dropped_total", help, &self.triggers_dropped);
        let help = "Sessions that members opened with this host as their scheduler or coordinator.";
        counter("dragonfly_coordinator_sessions_opened_total", help, &self.coordinator_sessions_opened);
        let help =
            "How often members told this host, as their scheduler or coordinator, of a task that they take part in.";
        counter("dragonfly_coordinator_joins_total", help, &self.coordinator_joins);
        let help = "What members said to this host as their scheduler or coordinator, in messages.";
        counter("dragonfly_coordinator_messages_total", help, &self.coordinator_messages);
        let mut counter = |name, help, value| add(MetricKind::Counter, name, help, value);
        let help = "Streams of peers that were dropped because too many waited.";
        counter("dragonfly_streams_dropped_total", help, bounds.streams_dropped);
        let store = &bounds.store;
        counter("dragonfly_store_evicted_bytes_total", "Bytes that eviction freed.", store.evicted_bytes);
        let help = "Generations that eviction removed.";
        counter("dragonfly_store_evicted_entries_total", help, store.evicted_entries);
        let mut gauge = |name, help, value| add(MetricKind::Gauge, name, help, value);
        gauge("dragonfly_store_bytes", "Bytes of content that the store holds.", store.bytes);
        let help = "Bytes of the store's index beside content: these and the content are kept to the quota.";
        gauge("dragonfly_store_index_bytes", help, store.index_bytes);
        let help = "Generations that the store holds pieces of.";
        gauge("dragonfly_store_entries", help, store.entries as u64);
        let help = "Generations with pieces that the index on disk does not know yet.";
        gauge("dragonfly_store_unwritten_entries", help, store.unwritten as u64);
        gauge("dragonfly_members", "Other members of the network that are known.", self.members.value());
        let swarm = crate::swarm::Config::default();
        let (connections, connections_max) = bounds.connections;
        gauge("dragonfly_peers_connected", "Hosts that this one is connected to.", connections as u64);
        gauge("dragonfly_connections_limit", "Connections at the most.", connections_max as u64);
        gauge("dragonfly_lanes", "Open lanes to other hosts.", self.lanes.value());
        gauge(
            "dragonfly_lanes_on_streams",
            "Of these, lanes on a stream of a libp2p connection, for want of a connection of their own.",
            self.lanes_on_streams.value(),
        );
        gauge(
            "dragonfly_lanes_plain",
            "Of these, lanes without encryption, as both ends let them be.",
            self.lanes_plain.value(),
        );
        gauge("dragonfly_lanes_limit", "Lanes at the most.", swarm.lanes_max as u64);
        let help = "What waits to be said and sent on the lane on which most waits.";
        gauge("dragonfly_lane_commands", help, self.lane_commands.value());
        let help = "What may wait on one lane.";
        gauge("dragonfly_lane_commands_limit", help, crate::peer::COMMANDS_MAX as u64);
        let help = "Statements that teach nothing, on one lane at once, before the lane waits.";
        gauge("dragonfly_lane_vain_checks_limit", help, crate::peer::VAIN_CHECKS_MAX.into());
        let help = "Statements that teach nothing, a second on one lane after that.";
        gauge("dragonfly_lane_vain_checks_per_second_limit", help, crate::peer::VAIN_CHECKS_RATE.into());
        gauge(
            "dragonfly_tasks",
            "Tasks that take part in the swarm, but for small content that nobody here wants.",
            self.tasks.value(),
        );
        gauge("dragonfly_tasks_limit", "Tasks that take part at the most.", crate::peer::TASKS_MAX as u64);
        let help = "Tasks with small content that nobody on this host wants and that take part beside these.";
        gauge("dragonfly_tasks_small", help, self.tasks_small.value());
        gauge("dragonfly_tasks_small_limit", "Of these at the most.", crate::peer::SMALL_TASKS_MAX as u64);
        gauge("dragonfly_hosts_known", "Hosts that are remembered as neighbours.", self.hosts.value());
        gauge("dragonfly_hosts_known_limit", "Hosts remembered at the most.", crate::peer::HOSTS_MAX as u64);
        let help = "Bytes requested of peers that have not arrived.";
        gauge("dragonfly_in_flight_bytes", help, self.in_flight_bytes.value());
        let help = "Bytes requested of peers at the most.";
        gauge("dragonfly_in_flight_bytes_limit", help, swarm.in_flight_bytes_max);
        let (waiting, waiting_max) = bounds.write_bytes;
        gauge("dragonfly_write_waiting_bytes", "Received bytes that wait to be written.", waiting as u64);
        let help = "Received bytes that may wait to be written.";
        gauge("dragonfly_write_waiting_bytes_limit", help, waiting_max as u64);
        let (requests, requests_max) = bounds.origin_requests;
        gauge("dragonfly_origin_requests", "Requests that are out at origins.", requests as u64);
        gauge("dragonfly_origin_requests_limit", "Requests at origins at the most.", requests_max as u64);
        gauge("dragonfly_spools", "Contents of unknown length that are under way.", bounds.spools as u64);
        gauge("dragonfly_disk_jobs", "Jobs that wait for the disk.", bounds.disk_jobs as u64);
        let help = "Pieces of which a part has come that nobody was asked to go on with yet.";
        gauge("dragonfly_parts", help, bounds.parts as u64);
        let help = "Lanes on connections of their own that are open or about to be closed.";
        gauge("dragonfly_lane_connections", help, bounds.lane_connections as u64);
        let help = "Sessions with members that coordinate something, beside those that this host was told of.";
        gauge("dragonfly_coordinator_sessions", help, self.coordinator_sessions.value());
        let help = "Sessions with members that were found on the links.";
        gauge("dragonfly_link_sessions", help, self.link_sessions.value());
        gauge("dragonfly_seed_tasks", "Tasks that a seed fetches for schedulers now.", self.seed_tasks.value());
        let help = "Tasks whose coordinator is remembered.";
        gauge("dragonfly_coordinators_remembered", help, bounds.coordinators_remembered as u64);
        let help = "Answers of origins on who may read what that are remembered.";
        gauge("dragonfly_permits", help, bounds.permits as u64);
        let help = "Members that contradicted themselves about a task that are remembered.";
        gauge("dragonfly_contradicted", help, bounds.contradicted as u64);
        let (triggers, triggers_max) = bounds.triggers;
        gauge("dragonfly_triggers_waiting", "Tasks that schedulers want this seed to fetch.", triggers as u64);
        let help = "Such tasks that may wait.";
        gauge("dragonfly_triggers_waiting_limit", help, triggers_max as u64);
        let (waiting, waiting_max) = bounds.control_bytes;
        let help = "Bytes that wait to be said to coordinators and members.";
        gauge("dragonfly_control_waiting_bytes", help, waiting as u64);
        let help = "Such bytes that may wait for one of them.";
        gauge("dragonfly_control_waiting_bytes_limit", help, waiting_max as u64);
        let RateLimits { upload, download, origin, task_upload, task_download, task_origin } = bounds.rates;
        let limits = [
            ("dragonfly_store_quota_bytes", "Bytes that the store may use.", store.quota),
            ("dragonfly_upload_rate_limit_bytes", RATE_HELP, upload),
            ("dragonfly_download_rate_limit_bytes", RATE_HELP, download),
            ("dragonfly_origin_rate_limit_bytes", RATE_HELP, origin),
            ("dragonfly_task_upload_rate_limit_bytes", RATE_HELP, task_upload),
            ("dragonfly_task_download_rate_limit_bytes", RATE_HELP, task_download),
            ("dragonfly_task_origin_rate_limit_bytes", RATE_HELP, task_origin),
        ];
        for (name, help, limit) in limits {
            if let Some(limit) = limit {
                gauge(name, help, limit);
            }
        }
        all
    }
}

/// What the rate limits are, those that are set.
const RATE_HELP: &str = "Bytes a second at the most.";

/// What a node has bounds for, and how much of it is used: used, then the bound unless that is among [`super::bounds`].
#[derive(Debug)]
pub(super) struct Bounds {
    pub(super) store: Usage,
    pub(super) rates: RateLimits,
    pub(super) connections: (usize, usize),
    pub(super) write_bytes: (usize, usize),
    pub(super) origin_requests: (usize, usize),
    pub(super) spools: usize,
    pub(super) disk_jobs: usize,
    pub(super) parts: usize,
    pub(super) lane_connections: usize,
    pub(super) coordinators_remembered: usize,
    pub(super) permits: usize,
    pub(super) contradicted: usize,
    pub(super) triggers: (usize, usize),
    pub(super) control_bytes: (usize, usize),
    pub(super) streams_dropped: u64,
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
