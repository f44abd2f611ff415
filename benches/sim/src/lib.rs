//! A seeded, event-driven simulator that drives the production swarm cores in virtual time.
//!
//! [`World`] holds the hosts, each with a [`dragonfly_core::swarm::Swarm`], and plays what their shells would do;
//! [`Network`] is the model of links, [`Authority`] of the coordinator's leases, [`Origin`] of where content comes from.
//! Who trades with whom is said by the production scheduler's core.
//! Equal seeds and set-ups give equal runs, to the last action: see [`World::trace`]. [`faults`] draws what goes
//! wrong, [`fleet`] is a swarm as the tables of measurements have it.

mod authority;
pub mod faults;
pub mod fleet;
mod fluid;
mod members;
mod network;
mod origin;
mod queue;
mod world;

pub use authority::Authority;
pub use members::Heard;
pub use network::{Link, Network, Sharing, Thin};
pub use origin::Origin;
pub use queue::Queue;
pub use world::{HostOptions, Spread, State, Usage, World};
