//! Embeddable peer-to-peer distribution of files and images: each byte leaves its origin once, and every piece is
//! proven before it is used.
//!
//! # In one line
//! ```no_run
//! # async fn example() -> dragonfly_core::Result<()> {
//! dragonfly_core::fetch("https://example.org/model.bin", "model.bin").await?;
//! # Ok(())
//! # }
//! ```
//! That takes the bytes from the origin alone: nobody else is known yet.
//!
//! # Concepts
//! A **task** is one piece of content: a URL and everything else that may change its bytes. A **generation** is one
//! version of it, cut into **pieces**, each proven by its BLAKE3 value before it is held or served. A [`Node`] is a host as a member of a **network**; on it run engines:
//!
//! - [`Peer`] downloads, stores, and serves what it holds to its **neighbours**.
//! - [`Seed`] is a peer that is expected to fetch from the origin, and that is preheated.
//! - [`Scheduler`] pairs the hosts that want a task and **leases** the origin to them, a range to one host at a time.
//!
//! A **token** makes a host a member: the first node founds a network, [`Node::token`] prints what the others
//! [join](NodeBuilder::join) with.
//!
//! ```no_run
//! # async fn example(token: &str) -> dragonfly_core::Result<()> {
//! use dragonfly_core::{Node, Peer, Request};
//!
//! let node = Node::builder().data_dir("data").listen("/ip4/0.0.0.0/tcp/0".parse()?).join(token.parse()?).start().await?;
//! let peer = Peer::builder(&node).start().await?;
//! let receipt = peer.fetch(Request::new("https://example.org/model.bin").output("model.bin")).await?;
//! println!("{} bytes, {} from the origin", receipt.length, receipt.bytes_from_origin);
//! # Ok(())
//! # }
//! ```
//!
//! # What this library does not do
//! It installs no logger, no crypto provider and no signal handler, keeps no global state, and never ends the
//! process. Without being told so it has no listener. It emits `tracing` events for whoever subscribes.

mod error;
mod fetch;
pub mod net;
pub mod node;
pub mod peer;
mod runtime;
pub mod scheduler;
pub mod seed;
pub mod source;
pub mod store;
pub mod swarm;
pub mod task;
pub mod trust;
pub mod wire;

pub use error::{Error, ErrorKind, Result};
pub use fetch::{fetch, fetch_bytes};
pub use node::{Metric, MetricKind, Node, NodeBuilder, NodeEvent, NodeEvents, PeerRequest, Policy, TokenOptions};
pub use peer::{Download, Event, Events, Exported, Peer, Proof, Reader, Receipt, Request, TaskInfo};
pub use runtime::Runtime;
pub use scheduler::Scheduler;
pub use seed::Seed;
pub use task::{Digest, Generation, TaskId};
pub use trust::{Claims, Identity, OriginTrust, Roles, Token};
pub use wire::{Address, PeerId};
