//! The engines together, over real sockets on loopback, against an origin that counts every byte.

#![allow(clippy::unwrap_used, missing_docs)]

mod bounds;
mod broken;
mod embedder;
mod faulty;
mod fresh;
#[cfg(feature = "gateway")]
mod gateway;
mod harness;
mod hostile;
mod lanes;
mod library;
mod limits;
mod main_job;
mod membership;
mod origins;
mod quota;
mod restart;
mod resume;
mod seeds;
mod sizes;
mod small;
mod stop;
mod storm;
mod stream;
