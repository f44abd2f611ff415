//! The engines together, over real sockets on loopback, against an origin that counts every byte.

#![allow(clippy::unwrap_used, missing_docs)]

mod fresh;
mod harness;
mod library;
mod main_job;
mod membership;
mod origins;
mod resume;
mod sizes;
mod stop;
mod stream;
