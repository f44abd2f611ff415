//! The swarm core of one host: piece choice, upload slots, requests, allotment, leases as their holder sees them.
//! Pure: time and randomness are arguments, inputs go in, actions come out.
//!
//! The engines drive one [`Swarm`] per host, and the simulator drives the very same code. It owns what is known of
//! tasks, neighbours and requests; bytes, hashes, sockets and files are the driver's.
//!
//! - Mechanism: [`Swarm`] in `core`, and by concern `connect` (neighbours), `request` (what is asked of them),
//!   `upload` (what they ask), `spread` (have-maps), `inject` (allotment), `lease` (the origin), `whole` (small content),
//!   `report` (how far a task is), `across` (other sites).
//! - Policy, small pure functions with their constants: `choose`, `depth`, `takeover`, `share`, `inject::pick`,
//!   `upload::next_turn`, `spread::tick`.

mod across;
mod bits;
mod choose;
mod config;
mod connect;
mod core;
mod depth;
mod event;
mod host;
mod inject;
mod invariants;
mod lease;
mod pieces;
mod random;
mod rate;
mod report;
mod request;
mod share;
mod spread;
mod takeover;
mod task;
#[cfg(test)]
mod tests;
mod time;
mod timers;
mod upload;
mod whole;

pub use config::Config;
pub use core::{HostRates, Swarm};
pub use event::{Action, Answered, HostKey, Input, LeaseKey, RequestId, TaskKey, TaskOptions};
pub(crate) use request::PROGRESS_BYTES_MIN;
pub use time::Time;

use crate::wire::Bound;

/// The bounds of neighbours that are not shown beside what is used of them.
pub(crate) fn bounds() -> [Bound; 11] {
    let config = Config::default();
    [
        ("dragonfly_neighbours_limit", "Neighbours that are wanted of a task.", config.neighbours_wanted as u64),
        (
            "dragonfly_neighbours_named_limit",
            "Hosts remembered as possible neighbours of a task.",
            connect::CANDIDATES_MAX as u64,
        ),
        ("dragonfly_neighbours_served_limit", "Neighbours that are served at a time.", config.upload_slots as u64),
        (
            "dragonfly_neighbour_silence_seconds_limit",
            "Seconds after which others are asked for what a neighbour does not send.",
            config.stall.as_secs(),
        ),
        (
            "dragonfly_starved_seconds_limit",
            "Seconds without anything of what is missing until the coordinator is told.",
            connect::STARVED_MIN.as_secs(),
        ),
        (
            "dragonfly_site_silence_seconds_limit",
            "Seconds without anything of what is missing until all of it is asked of other sites.",
            across::QUIET_MAX.as_secs(),
        ),
        (
            "dragonfly_refusals_limit",
            "Refusals in a row of what a neighbour says it has.",
            u64::from(request::REFUSALS_MAX),
        ),
        (
            "dragonfly_lane_idle_seconds_limit",
            "Seconds that a lane without a task is kept.",
            connect::IDLE_MAX.as_secs(),
        ),
        (
            "dragonfly_small_asked_bytes_limit",
            "Bytes of small content that one neighbour may be asked for at a time.",
            whole::ASKED_BYTES_MAX,
        ),
        (
            "dragonfly_small_answer_seconds_limit",
            "Seconds without an answer after which small content is had piece by piece.",
            whole::ANSWER_MAX.as_secs(),
        ),
        (
            "dragonfly_small_late_seconds_limit",
            "Seconds after which it is so although the neighbour answers other questions.",
            whole::LATE_MAX.as_secs(),
        ),
    ]
}
