//! Embeddable peer-to-peer distribution of files and images: each byte leaves the origin once, and every
//! piece is proven before it is used.

mod error;
pub mod net;
pub mod node;
pub mod peer;
pub mod scheduler;
pub mod seed;
pub mod source;
pub mod store;
pub mod swarm;
pub mod task;
pub mod trust;
pub mod wire;

pub use error::{Error, ErrorKind, Result};
pub use peer::{Event, Exported, Proof, Receipt, Request};
