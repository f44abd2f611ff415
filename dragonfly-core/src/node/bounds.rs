//! Every bound that is fixed, for the operator to see beside what is used: each room says its own.

use super::metrics::{Metric, MetricKind};
use super::{descriptors, directory, io, outbox, parts, permits, triggers};
use crate::wire::Bound;
use crate::{net, peer, scheduler, seed, source, store, swarm, trust, wire};

/// The bounds of what all engines of a node share.
fn own() -> [Bound; 16] {
    [
        ("dragonfly_members_limit", "Other members of the network that are remembered.", directory::MEMBERS_MAX as u64),
        (
            "dragonfly_coordinators_remembered_limit",
            "Tasks whose coordinator is remembered.",
            directory::CHOICES_MAX as u64,
        ),
        ("dragonfly_frame_seconds_limit", "Seconds that a frame may be on its way.", super::FRAME_MAX.as_secs()),
        ("dragonfly_disk_jobs_limit", "Jobs that may wait for the disk.", io::QUEUE_MAX as u64),
        (
            "dragonfly_disk_silence_seconds_limit",
            "Seconds without a job, or a block of one, done by the disk until who waits for it is told.",
            io::SILENCE_MAX.as_secs(),
        ),
        ("dragonfly_open_files_limit", "Files of content open at a time.", descriptors::for_content() as u64),
        (
            "dragonfly_control_waiting_messages_limit",
            "Messages that may wait for one coordinator or member.",
            outbox::MESSAGES_MAX as u64,
        ),
        (
            "dragonfly_triggers_waiting_bytes_limit",
            "Bytes of tasks that schedulers may want a seed to fetch.",
            triggers::BYTES_MAX as u64,
        ),
        (
            "dragonfly_permits_limit",
            "Answers of origins on who may read what that are remembered.",
            permits::PERMITS_MAX as u64,
        ),
        ("dragonfly_permit_seconds_limit", "Seconds for which such an answer counts.", permits::PERMIT_MAX.as_secs()),
        ("dragonfly_parts_limit", "Pieces of which a part is kept.", parts::PARTS_MAX as u64),
        (
            "dragonfly_part_seconds_limit",
            "Seconds for which such a part is kept, and until it is looked for.",
            parts::PART_AGE_MAX.as_secs(),
        ),
        ("dragonfly_seed_tasks_limit", "Such tasks that may be under way.", seed::TASKS_MAX as u64),
        (
            "dragonfly_seed_member_tasks_limit",
            "Tasks that one member may have a seed fetch in an hour, unless the embedder says otherwise.",
            seed::QUOTA_TASKS,
        ),
        (
            "dragonfly_seed_member_bytes_limit",
            "Bytes that one member may have a seed fetch in an hour, unless the embedder says otherwise.",
            seed::QUOTA_BYTES,
        ),
        ("dragonfly_pieces_limit", "Pieces of one task at the most.", u64::from(crate::task::PIECES_MAX)),
    ]
}

/// All of them.
pub(super) fn fixed() -> Vec<Metric> {
    let rooms = [&wire::BOUNDS[..], &store::BOUNDS, &peer::BOUNDS, &trust::BOUNDS];
    let rooms = rooms.into_iter().flatten().copied();
    let all = rooms.chain(net::bounds()).chain(swarm::bounds()).chain(scheduler::bounds());
    let all = all.chain(source::bounds()).chain(own());
    all.map(|(name, help, value)| Metric { name, help, kind: MetricKind::Gauge, value }).collect()
}

#[cfg(test)]
pub(crate) mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::{BTreeMap, BTreeSet};

    use crate::Node;

    const LIMITS: &str = include_str!("../../../docs/design/limits.md");

    /// The metrics that the last column of a table's rows names, with what the row is about, of a chapter.
    pub(crate) fn documented(chapter: &str) -> Vec<(&'static str, Vec<&'static str>)> {
        let part = LIMITS.split_once(chapter).unwrap().1;
        let part = part.split_once("\n## ").map_or(part, |(part, _)| part);
        let rows = part.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| what"));
        let columns = rows.map(|row| row.trim_matches('|').split('|').collect::<Vec<_>>());
        let rows: Vec<_> =
            columns.map(|columns| (columns[0], columns[4].split('`').skip(1).step_by(2).collect())).collect();
        assert!(!rows.is_empty(), "{chapter}");
        rows
    }

    /// What is used of a bound, where that is not called as the bound is.
    const USED: [(&str, &str); 6] = [
        ("connections", "peers_connected"),
        ("coordinator_hosts", "a scheduler's own metrics"),
        ("coordinator_tasks", "a scheduler's own metrics"),
        ("streams_waiting", "streams_dropped_total"),
        ("lane_vain_checks", "vain_checks_total"),
        ("frame_seconds", "neighbours_blamed_total"),
    ];

    /// Bounds on each single thing of which there are many: a message, an attempt, a connection, a task; and times. What is used of
    /// them is another number for each.
    const OF_ONE: [&str; 66] = [
        "admission_seconds",
        "announced_proof_bytes",
        "block_bytes",
        "connections_per_peer",
        "control_message_bytes",
        "control_waiting_messages",
        "coordinator_bridges",
        "coordinator_in_vain_seconds",
        "coordinator_silence_seconds",
        "coordinator_sites",
        "coordinator_lacking_per_host",
        "coordinator_tasks_per_host",
        "credentials_checked",
        "describe_rounds",
        "describe_seconds",
        "digest_age_seconds",
        "disk_silence_seconds",
        "download_silence_seconds",
        "evidence_attestations",
        "evidence_bytes",
        "evidence_grants",
        "farewell_seconds",
        "handshake_seconds",
        "handshakes_per_address",
        "lane_idle_seconds",
        "lane_message_bytes",
        "lane_read_ahead_bytes",
        "lane_tasks",
        "lane_unsent_bytes",
        "lane_vain_checks_per_second",
        "lease_failures",
        "lease_holders",
        "lease_piece_seconds",
        "leases_per_holder",
        "link_addresses",
        "message_items",
        "neighbour_requests",
        "neighbour_silence_seconds",
        "neighbours",
        "neighbours_named",
        "neighbours_served",
        "origin_attempts",
        "origin_redirects",
        "origin_request_bytes",
        "origin_retry_seconds",
        "origin_silence_seconds",
        "part_seconds",
        "permit_seconds",
        "pieces",
        "recall_pause_seconds",
        "refusals",
        "request_pieces",
        "seed_member_bytes",
        "seed_member_tasks",
        "site_silence_seconds",
        "small_answer_seconds",
        "small_asked_bytes",
        "small_asks",
        "small_content_bytes",
        "small_late_seconds",
        "spool_disk_seconds",
        "starved_seconds",
        "storage_directory_bytes",
        "storage_page_bytes",
        "streams_per_connection",
        "versions",
    ];

    /// What is kept below a bound by what holds it, and counted by nothing else. To have one here is a choice.
    const UNCOUNTED: [&str; 12] = [
        "engine_events",
        "handshakes",
        "link_peers",
        "link_records",
        "open_files",
        "origin_pools",
        "plain_lanes_spoilt",
        "revoked",
        "small_content_waiting_bytes",
        "storage_sites",
        "tasks_announced",
        "triggers_waiting_bytes",
    ];

    /// A bound that comes without what is used of it is found here.
    #[tokio::test]
    async fn every_bound_stands_beside_what_is_used_of_it() {
        let node = Node::builder().memory_bytes(1 << 20).start().await.unwrap();
        let metrics = node.metrics_now();
        let shown: BTreeSet<&str> = metrics.iter().map(|m| m.name.trim_start_matches("dragonfly_")).collect();
        let bounds: BTreeSet<&str> = shown.iter().filter_map(|name| name.strip_suffix("_limit")).collect();
        let used: BTreeMap<&str, &str> = USED.into_iter().collect();
        let without: Vec<_> = bounds
            .iter()
            .filter(|bound| !shown.contains(*bound) && !used.contains_key(*bound))
            .filter(|bound| !OF_ONE.contains(bound) && !UNCOUNTED.contains(bound))
            .collect();
        assert!(without.is_empty(), "nothing says what is used of {without:?}");
        for (bound, used) in used {
            assert!(bounds.contains(bound), "{bound} is none");
            assert!(shown.contains(used) || used.contains(' '), "{used} is not shown");
        }
        for bound in OF_ONE.into_iter().chain(UNCOUNTED) {
            let optional = ["link_", "origin_", "storage_"].iter().any(|what| bound.starts_with(what));
            assert!(bounds.contains(bound) || optional, "{bound} is none");
            assert!(!shown.contains(bound), "{bound} is shown, too");
        }
        // Nothing is used of what nobody uses.
        for metric in &metrics {
            let name = metric.name.trim_start_matches("dragonfly_");
            assert!(!bounds.contains(name) || metric.value == 0, "{name} is {}", metric.value);
        }
    }

    #[tokio::test]
    async fn every_bound_that_is_documented_is_shown() {
        let node = Node::builder().start().await.unwrap();
        let metrics = node.metrics_now();
        let shown: BTreeSet<&str> = metrics.iter().map(|metric| metric.name).collect();
        assert_eq!(shown.len(), metrics.len(), "each name once");
        // Rates are there only where they are set; what the last two chapters say is the daemon's and the gateway's.
        let chapters =
            ["## Connections and streams", "## Neighbours and requests", "## Tasks and origins", "## Memory and disk"];
        let rows: Vec<_> = chapters.into_iter().flat_map(documented).collect();
        for (what, names) in &rows {
            assert!(!names.is_empty(), "no metric shows: {what}");
            for name in names {
                let left_out = |what: &str, built: bool| name.starts_with(what) && !built;
                let optional = *name == "store_quota_bytes"
                    || left_out("storage_", cfg!(feature = "storage"))
                    || left_out("link_", cfg!(feature = "mdns") || name.starts_with("link_sessions"));
                assert!(optional || shown.contains(format!("dragonfly_{name}").as_str()), "{name} of: {what}");
            }
        }
        let documented: BTreeSet<&str> = rows.into_iter().flat_map(|(_, names)| names).collect();
        for metric in super::fixed() {
            let name = metric.name.trim_start_matches("dragonfly_");
            assert!(documented.contains(name), "{} is not documented", metric.name);
        }
    }
}
