//! The programs as their users meet them: real processes, real sockets, exit codes and what they print.
#![allow(clippy::unwrap_used)]

mod ask;
mod cli;
mod daemon;
mod door;
mod fetch;
mod harness;
mod reference;
mod service;
mod snapshots;
mod survive;
mod swarm;
mod traces;
