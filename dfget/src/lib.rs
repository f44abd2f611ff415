//! The two programs: `dfget`, a download client like wget, and `dfdaemon`, the reference daemon.
//!
//! The binaries are thin: each calls one function of this library. What tests and other front ends may use is
//! [`client`], which speaks the daemon's local HTTP API, and [`model`], its JSON.

mod api;
pub mod client;
mod daemon;
mod error;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzz;
mod get;
mod hints;
mod join;
mod logging;
pub mod model;
mod names;
mod output;
mod passing;
mod places;
mod progress;
mod range;
mod signals;
#[cfg(feature = "storages")]
mod storages;
mod traces;
mod units;

pub use daemon::main as dfdaemon_main;
pub use get::main as dfget_main;

/// The definition of `dfget`'s command line: help, completions and manual are made from it.
pub fn dfget_command() -> clap::Command {
    <get::Cli as clap::CommandFactory>::command()
}

/// The definition of `dfdaemon`'s command line.
pub fn dfdaemon_command() -> clap::Command {
    <daemon::Cli as clap::CommandFactory>::command()
}
