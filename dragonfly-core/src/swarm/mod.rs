//! The swarm core of one host: piece choice, upload slots, requests, allotment, leases as their holder sees them.
//! Pure: time and randomness are arguments, inputs go in, actions come out.
//!
//! The engines drive one [`Swarm`] per host, and the simulator drives the very same code. It owns what is known of
//! tasks, neighbours and requests; bytes, hashes, sockets and files are the driver's.
//!
//! - Mechanism: [`Swarm`] in `core`, and by concern `connect` (neighbours), `request` (what is asked of them),
//!   `upload` (what they ask), `spread` (have-maps), `inject` (allotment), `lease` (the origin).
//! - Policy, small pure functions with their constants: `choose`, `depth`, `takeover`, `share`, `inject::pick`,
//!   `upload::next_turn`, `spread::tick`.

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

pub use config::Config;
pub use core::{HostRates, Swarm};
pub use event::{Action, HostKey, Input, LeaseKey, RequestId, TaskKey, TaskOptions};
pub use time::Time;
