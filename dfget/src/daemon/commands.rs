//! The command lines of `dfdaemon init|token|join|status|ca|doctor`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Args};
use dragonfly_core::gateway::Hosts;
use dragonfly_core::trust::Roles;
use dragonfly_core::wire::Address;

use super::config::Trust;
use crate::error::Failure;
use crate::places;
use crate::units::parse_duration;

/// Which daemon is meant.
#[derive(Clone, Debug, Args)]
pub(super) struct Which {
    /// The data directory of the daemon
    #[arg(long, value_name = "DIR", env = "DFDAEMON_DATA_DIR")]
    data_dir: Option<PathBuf>,
    /// The daemon's socket [default: the one noted in the data directory]
    #[arg(long, value_name = "unix:PATH", value_parser = crate::client::parse_endpoint)]
    pub(super) api: Option<PathBuf>,
}

impl Which {
    pub(super) fn data_dir(&self) -> Result<PathBuf, Failure> {
        self.data_dir.clone().map_or_else(places::data_dir, Ok)
    }
}

/// The network to found.
#[derive(Debug, Args)]
pub(super) struct Init {
    #[command(flatten)]
    pub(super) which: Which,
    /// Whose word counts on what an origin said
    #[arg(long, value_enum, default_value = "members")]
    pub(super) origin_trust: Trust,
    /// Write a configuration file to start from
    #[arg(long, value_name = "FILE")]
    pub(super) write_config: Option<PathBuf>,
}

/// The token to print.
#[derive(Debug, Args)]
pub(super) struct Token {
    #[command(flatten)]
    pub(super) which: Which,
    /// The roles of who joins with it: any of scheduler, seed and peer
    #[arg(long, default_value = "peer")]
    pub(super) role: Roles,
    /// For how long hosts can join with it, such as 30d [default: without end]
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub(super) expires: Option<Duration>,
    /// An address to meet at, in place of the daemon's own (repeatable)
    #[arg(long, value_name = "MULTIADDR", action = ArgAction::Append)]
    pub(super) address: Vec<Address>,
}

/// The network to join.
#[derive(Debug, Args)]
pub(super) struct Join {
    #[command(flatten)]
    pub(super) which: Which,
    /// A token, @FILE, or - for standard input
    #[arg(env = "DRAGONFLY_JOIN", hide_env_values = true)]
    pub(super) token: String,
}

/// The authority to create or show.
#[derive(Debug, Args)]
pub(super) struct Ca {
    #[command(flatten)]
    pub(super) which: Which,
    /// A host that it may vouch for, with all below its name; others it is not believed of (repeatable) [default: any]
    #[arg(long, value_name = "HOST", value_parser = super::ca::parse_hosts, action = ArgAction::Append)]
    pub(super) host: Vec<Hosts>,
    /// How long a new one is good
    #[arg(long, value_name = "DAYS", default_value_t = 1825, value_parser = clap::value_parser!(u32).range(1..=36500))]
    pub(super) days: u32,
    /// Make another one in place of the one that is there
    #[arg(long)]
    pub(super) renew: bool,
    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
}

/// What to show.
#[derive(Debug, Args)]
pub(super) struct Status {
    #[command(flatten)]
    pub(super) which: Which,
    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
}

/// What to check.
#[derive(Debug, Args)]
pub(super) struct Doctor {
    #[command(flatten)]
    pub(super) which: Which,
    /// Also check that this configuration file is understood
    #[arg(long, value_name = "FILE", env = "DFDAEMON_CONFIG")]
    pub(super) config: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
}
