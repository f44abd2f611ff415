//! Every bound that is fixed, for the operator to see beside what is used: each room says its own.

use super::metrics::{Metric, MetricKind};
use super::{descriptors, io, outbox, triggers};
use crate::wire::Bound;
use crate::{net, peer, scheduler, seed, source, store, swarm, wire};

/// The bounds of what all engines of a node share.
fn own() -> [Bound; 7] {
    [
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
        ("dragonfly_seed_tasks_limit", "Such tasks that may be under way.", seed::TASKS_MAX as u64),
        ("dragonfly_pieces_limit", "Pieces of one task at the most.", u64::from(crate::task::PIECES_MAX)),
    ]
}

/// All of them.
pub(super) fn fixed() -> Vec<Metric> {
    let rooms = [&wire::BOUNDS[..], &store::BOUNDS, &peer::BOUNDS];
    let rooms = rooms.into_iter().flatten().copied();
    let all = rooms.chain(net::bounds()).chain(swarm::bounds()).chain(scheduler::bounds());
    let all = all.chain(source::bounds()).chain(own());
    all.map(|(name, help, value)| Metric { name, help, kind: MetricKind::Gauge, value }).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::BTreeSet;

    use crate::Node;

    const LIMITS: &str = include_str!("../../../docs/design/limits.md");

    /// The metrics that the last column of a table's rows names, with what the row is about. Rates are there only where
    /// they are set; what follows in the last part is the daemon's.
    fn documented() -> Vec<(&'static str, Vec<&'static str>)> {
        let part = LIMITS.split_once("## Connections and streams").unwrap().1.split_once("## Clients").unwrap().0;
        let rows = part.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| what"));
        let columns = rows.map(|row| row.trim_matches('|').split('|').collect::<Vec<_>>());
        columns.map(|columns| (columns[0], columns[4].split('`').skip(1).step_by(2).collect())).collect()
    }

    #[tokio::test]
    async fn every_bound_that_is_documented_is_shown() {
        let node = Node::builder().start().await.unwrap();
        let metrics = node.metrics_now();
        let shown: BTreeSet<&str> = metrics.iter().map(|metric| metric.name).collect();
        assert_eq!(shown.len(), metrics.len(), "each name once");
        for (what, names) in documented() {
            assert!(!names.is_empty(), "no metric shows: {what}");
            for name in names {
                let optional = name == "store_quota_bytes";
                assert!(optional || shown.contains(format!("dragonfly_{name}").as_str()), "{name} of: {what}");
            }
        }
        let documented: BTreeSet<String> =
            documented().into_iter().flat_map(|(_, names)| names).map(String::from).collect();
        for metric in super::fixed() {
            assert!(
                documented.contains(metric.name.trim_start_matches("dragonfly_")),
                "{} is not documented",
                metric.name
            );
        }
    }
}
