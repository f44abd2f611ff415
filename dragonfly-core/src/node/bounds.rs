//! Every bound that is fixed, for the operator to see beside what is used: each room says its own.

use super::metrics::{Metric, MetricKind};
use super::{descriptors, directory, io, outbox, permits, triggers};
use crate::wire::Bound;
use crate::{net, peer, scheduler, seed, source, store, swarm, trust, wire};

/// The bounds of what all engines of a node share.
fn own() -> [Bound; 11] {
    [
        ("dragonfly_members_limit", "Other members of the network that are remembered.", directory::MEMBERS_MAX as u64),
        (
            "dragonfly_coordinators_remembered_limit",
            "Tasks whose coordinator is remembered.",
            directory::CHOICES_MAX as u64,
        ),
        ("dragonfly_frame_seconds_limit", "Seconds that a frame may be on its way.", super::FRAME_MAX.as_secs()),
        ("dragonfly_disk_jobs_limit", "Jobs that may wait for the disk.", io::QUEUE_MAX as u64),
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
        ("dragonfly_seed_tasks_limit", "Such tasks that may be under way.", seed::TASKS_MAX as u64),
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
    use std::collections::BTreeSet;

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
                    || left_out("storage_sites", cfg!(feature = "storage"))
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
