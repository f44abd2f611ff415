//! Embeddable peer-to-peer distribution of files and images: each byte leaves the origin once, and every
//! piece is proven before it is used.

pub mod task;
pub mod wire;
pub mod swarm;
pub mod scheduler;
pub mod trust;
pub mod store;
pub mod source;
pub mod net;
