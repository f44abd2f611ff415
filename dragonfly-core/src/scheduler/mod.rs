//! Who fetches what from the origin, and who trades with whom: the coordinator of tasks.
//!
//! The room has two halves: the pure core, and the [`Scheduler`] engine (`engine`), which is its shell.
//!
//! [`Core`] is a plain state machine: no sockets, no clock, no global randomness. Its shell hands it what happened
//! ([`Input`]) with the time, and does what it says ([`Action`]). A scheduler runs one for many tasks; an elected
//! member runs the very same one for a task without a scheduler; the simulator drives it with a virtual clock.
//!
//! It owns soft state only: which hosts are up, which generation of a task is current, who may fetch which range
//! from the origin, and the graph of neighbours. All of it is rebuilt from what members announce. It knows progress
//! in eighths and the ranges of leases, never bitmaps.
//!
//! Whoever calls it has checked identity, roles and tenant (from credentials), seals, and that a
//! [`TaskSpec`](crate::task::TaskSpec) in a join is the preimage of the task's id.

mod collect;
mod config;
mod core;
mod deal;
mod describe;
mod doubt;
mod engine;
mod event;
mod host;
mod join;
mod lease;
mod meeting;
mod members;
mod neighbours;
mod ranges;
mod sites;
mod slab;
mod snapshot;
mod task;
#[cfg(test)]
mod tests;

pub use config::Config;
pub(crate) use config::{HOSTS_MAX, TASKS_PER_HOST_MAX};
pub use core::Core;
pub(crate) use engine::Coordinator;
pub use engine::{Scheduler, SchedulerBuilder};
pub use event::{Action, CloseReason, Input};
pub use snapshot::{HostSnapshot, LeaseSnapshot, Snapshot, TaskSnapshot};

use crate::wire::Bound;

/// The bounds of what a coordinator remembers and lets others do.
pub(crate) fn bounds() -> [Bound; 13] {
    let limits = Config::default();
    [
        ("dragonfly_coordinator_hosts_limit", "Hosts that a coordinator knows at the most.", limits.hosts_max as u64),
        ("dragonfly_coordinator_tasks_limit", "Tasks that it knows at the most.", limits.tasks_max as u64),
        (
            "dragonfly_coordinator_tasks_per_host_limit",
            "Tasks of one host that it knows at the most.",
            limits.tasks_per_host_max as u64,
        ),
        (
            "dragonfly_coordinator_lacking_per_host_limit",
            "Tasks of one host that lacked something of them when it joined.",
            limits.lacking_per_host_max as u64,
        ),
        ("dragonfly_coordinator_sites_limit", "Sites of one task that it tells apart.", sites::SITES_MAX as u64),
        (
            "dragonfly_coordinator_bridges_limit",
            "Hosts of a site that bring a task from other sites.",
            limits.bridges_per_site as u64,
        ),
        ("dragonfly_origin_request_bytes_limit", "Bytes of one request at an origin.", config::LEASE_BYTES_MAX),
        (
            "dragonfly_lease_piece_seconds_limit",
            "Seconds that a piece of a lease may take, and its length at 16 KiB a second.",
            config::PIECE_TIME_LEAST.as_secs(),
        ),
        (
            "dragonfly_describe_seconds_limit",
            "Seconds that a holder may take to say what the content is.",
            config::DESCRIBE_TIME_MAX.as_secs(),
        ),
        (
            "dragonfly_lease_holders_limit",
            "Hosts that fetch one task from its origin at a time.",
            limits.holders_max as u64,
        ),
        (
            "dragonfly_leases_per_holder_limit",
            "Leases of one task that one host has at a time.",
            u64::from(config::LEASES_PER_HOLDER_MAX),
        ),
        (
            "dragonfly_describe_rounds_limit",
            "Rounds in which hosts are asked what the content is.",
            u64::from(config::DESCRIBE_ROUNDS_MAX),
        ),
        ("dragonfly_lease_failures_limit", "Leases that may fail in a row.", u64::from(config::LEASE_FAILURES_MAX)),
    ]
}
