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
//! version of it, cut into **pieces**, each proven by its BLAKE3 value before it is held or served. A [`Node`] is a host
//! as a member of a **network**; on it run engines:
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
//! What goes together for a program that comes and goes, for a machine of a fleet, or for one that serves it, a
//! [`Preset`] sets.
//!
//! # One program per engine
//! A service that schedules, and is the seed that goes to the origin first:
//!
//! ```no_run
//! # async fn example() -> dragonfly_core::Result<()> {
//! use dragonfly_core::{Node, Request, Scheduler, Seed, TokenOptions};
//!
//! let node = Node::builder().data_dir("data").listen("/ip4/0.0.0.0/tcp/65001".parse()?).start().await?;
//! let scheduler = Scheduler::builder(&node).start().await?;
//! let seed = Seed::builder(&node).start().await?;
//! println!("{}", node.token(TokenOptions::default())?.to_text());
//! seed.preheat(Request::new("https://example.org/model.bin")).await?;
//! println!("{} tasks", scheduler.snapshot().await?.tasks.len());
//! # Ok(())
//! # }
//! ```
//!
//! A peer that reads a remote file from the middle, before it is complete:
//!
//! ```no_run
//! # async fn example(peer: dragonfly_core::Peer) -> dragonfly_core::Result<()> {
//! use dragonfly_core::{Error, Request};
//! use tokio::io::{AsyncReadExt, AsyncSeekExt};
//!
//! let mut reader = peer.open(Request::new("https://example.org/table.parquet")).await?;
//! reader.seek(std::io::SeekFrom::End(-8)).await.map_err(Error::from_read)?;
//! let mut footer = [0; 8];
//! reader.read_exact(&mut footer).await.map_err(Error::from_read)?;
//! # Ok(())
//! # }
//! ```
//!
//! A program for each engine, complete, is in `examples/src/bin`: `fetch` and `lazy` (peer), `share` (a peer in an HTTP
//! server), `service` (scheduler and seed); the same four exist in C, Go and Python.
//!
//! # What an embedder brings
//! | of one's own | with |
//! |---|---|
//! | tokio runtime; or none | [`NodeBuilder::runtime`]; [`Runtime`] |
//! | identity | [`NodeBuilder::identity`] |
//! | store directory, or memory | [`NodeBuilder::data_dir`], [`NodeBuilder::memory_bytes`] |
//! | metrics registry | [`Node::metrics_now`] |
//! | URL scheme | [`NodeBuilder::source`] with a [`Source`](source::Source), or one whose calls block: [`source::blocking`] |
//! | rules about members and their requests | [`NodeBuilder::policy`] with a [`Policy`] |
//! | eyes on what happens | [`Node::events`], [`Download::events`]; `tracing`, or [`log`] |
//!
//! [`Error`] says what went wrong by [kind](ErrorKind), the same in every language, and whether to try again. The rooms
//! below [`task`], [`wire`], [`swarm`], [`store`], [`trust`] and [`net`] are what the engines are made of: simulations and
//! tools use them, programs seldom need to.
//!
//! # Stability
//! What this page names at the root, [`source`] and [`log`] are for programs, and follow SemVer once there is a release:
//! structs and enums that will grow are `#[non_exhaustive]`. The rooms above that the engines are made of change with
//! them, in any version, but for what of theirs the root names. Of other crates, these types are in signatures, and are
//! meant to be: `Handle` and the traits of I/O of tokio, `Url` of url, `Bytes` of bytes, the boxed futures and streams of
//! futures.
//!
//! # Features
//! Each adds something and changes nothing else; `http`, `dns`, `mdns` and `quic` are on by default. A peer that brings
//! its own source and reaches its neighbours over TCP needs none of them.
//!
//! | feature | what it adds | crates |
//! |---|---|---|
//! | `http` | [`source::HttpSource`], [`fetch()`]: origins with `http:` and `https:` URLs | 24 |
//! | `dns` | names, beside IP addresses, in the addresses of peers | 17 |
//! | `mdns` | members on one link find each other without an address to meet at | 5 |
//! | `quic` | QUIC beside TCP between peers | 12 |
//! | `azblob`, `cos`, `fs`, `ftp`, `gcs`, `hdfs-native`, `obs`, `oss`, `s3`, `sftp`, `webdav`, `webhdfs` | origins in that kind of storage, each with `storage`, which is of no use alone: `source::StorageConfig` | 30 for `s3`, 72 for all of HTTP's |
//! | `oci` | `source::OciSource`: images and other artifacts of registries, with `storage` for its settings | |
//! | `hf`, `modelscope` | `source::HubSource`: models and datasets of Hugging Face and ModelScope, with `storage` for its settings | |
//! | `gateway` | `gateway::Gateway`: a registry mirror and forward proxy, with `http` | 7 beside HTTP's |
//! | `conformance` | `source::conformance`: tries a source on a real origin; for tests | |
//! | `fuzzing` | what the fuzzers and measurements of this repository call; for nobody else | |
//!
//! Without any there are 203 crates beneath this one, with the four first 254 (some are shared). Engines, store and metrics
//! are no features: they have no dependencies of their own worth leaving out.
//!
//! # What this library does not do
//! It installs no logger (unless asked to, see [`log`]), no crypto provider and no signal handler, keeps no other global
//! state, and never ends the process. Without being told so it has no listener. It emits `tracing` events for whoever subscribes.

mod error;
#[cfg(feature = "http")]
mod fetch;
#[cfg(any(all(test, feature = "http"), feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzz;
#[cfg(feature = "gateway")]
pub mod gateway;
pub mod log;
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
#[cfg(feature = "http")]
pub use fetch::{fetch, fetch_bytes};
pub use node::{
    Metric, MetricKind, Node, NodeBuilder, NodeEvent, NodeEvents, PeerRequest, Policy, Preset, RateLimits, TokenOptions,
};
pub use peer::{
    ActiveTask, Download, Event, Events, Exported, NeighbourInfo, Peer, Proof, Reader, Receipt, Request, TaskInfo,
};
pub use runtime::Runtime;
pub use scheduler::Scheduler;
pub use seed::Seed;
pub use task::{Digest, Generation, TaskId};
pub use trust::{Claims, Identity, OriginTrust, Roles, Token};
pub use wire::{Address, PeerId};
