//! What the benches of the programs share: daemons that are started and ended, and figures.
#![allow(clippy::print_stdout, reason = "benches print what they measured")]

mod daemon;
mod figures;

pub use daemon::{Daemon, Home, program};
pub use figures::Times;
