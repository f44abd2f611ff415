//! The programs as their users meet them: real processes, real sockets, exit codes and what they print.
#![allow(clippy::unwrap_used)]

mod cli;
mod daemon;
mod harness;
mod survive;
mod swarm;
