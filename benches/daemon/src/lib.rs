//! What the benches of the programs share: daemons that are started and ended, and figures.
#![allow(clippy::print_stdout, reason = "benches print what they measured")]

mod daemon;
mod figures;
mod network;
mod processor;
mod torrent;

pub use daemon::{Daemon, Home, Launch, Metrics, program};
pub use figures::Times;
pub use network::{Network, Place, payload};
pub use processor::{Machine, Running, processor_of, resident_of};
pub use torrent::{Said, Torrent, TorrentPart};
