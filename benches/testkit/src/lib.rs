//! What tests, examples and benches share: an HTTP(S) origin that counts every byte and misbehaves on demand,
//! and content that anyone can compute from a seed.
//!
//! The origin runs in the process that starts it, on a port of the system's choosing on 127.0.0.1, and dies with
//! its handle. Nothing here is meant for production.
//!
//! ```
//! use dragonfly_testkit::{Origin, Resource, content};
//! # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
//! let origin = Origin::start().await.unwrap();
//! origin.set("/model.bin", Resource::seeded(7, 1 << 20).fail_first(1, 503, Some(0)));
//! let url = origin.url("/model.bin");
//! let expected = content::blake3(7, 1 << 20);
//! # let _ = (url, expected);
//! assert_eq!(origin.body_bytes("/model.bin"), 0);
//! # });
//! ```

mod answer;
mod body;
pub mod content;
mod counters;
mod hub;
mod origin;
mod resource;
mod tls;

#[cfg(test)]
mod tests;

pub use counters::{Counters, Logged};
pub use hub::{Hub, HubConfig, HubRequest};
pub use origin::{Builder, Origin};
pub use resource::Resource;
pub use tls::Flaw;
