//! The command line of `dfdaemon`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};
use dragonfly_core::trust::Roles;
use dragonfly_core::wire::Address;

use crate::error::Failure;
use crate::places;
use crate::units::{parse_duration, parse_size};

/// The port that a daemon listens on, TCP and QUIC, unless told otherwise: above the ports that systems hand out
/// by themselves, and easy to open in a firewall.
pub(super) const PORT: u16 = 65001;

/// The reference daemon of Dragonfly: fetches, shares and keeps content, and pairs those who want it.
#[derive(Debug, Parser)]
#[command(name = "dfdaemon", version, max_term_width = 100)]
#[command(args_conflicts_with_subcommands = true)]
#[command(after_help = "SIGTERM or SIGINT ends it once what is under way is done; a second one ends it at once.")]
pub(super) struct Cli {
    #[command(subcommand)]
    pub(super) command: Option<Command>,
    #[command(flatten)]
    pub(super) serve: Serve,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Print a token with which others join this network
    Token(Token),
}

/// What the daemon is to be.
#[derive(Debug, Args)]
pub(super) struct Serve {
    /// What it does: any of scheduler, seed and peer, separated by commas
    #[arg(long, default_value = "peer")]
    pub(super) role: Roles,
    /// Where identity, membership and content are kept [default: $STATE_DIRECTORY, else /var/lib/dragonfly for root
    /// and $XDG_DATA_HOME/dragonfly for others]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Where it listens (repeatable) [default: /ip4/0.0.0.0/tcp/65001 and /ip4/0.0.0.0/udp/65001/quic-v1]
    #[arg(long, value_name = "MULTIADDR", action = ArgAction::Append)]
    listen: Vec<Address>,
    /// A scheduler's address with /p2p (repeatable)
    #[arg(long, value_name = "MULTIADDR", action = ArgAction::Append)]
    pub(super) scheduler: Vec<Address>,
    /// A member's address with /p2p, to find the others through (repeatable)
    #[arg(long, value_name = "MULTIADDR", action = ArgAction::Append)]
    pub(super) bootstrap: Vec<Address>,
    /// Join a network: a token, @FILE, or - for standard input [default: the network joined before, else a new one]
    #[arg(long, value_name = "TOKEN", env = "DRAGONFLY_JOIN", hide_env_values = true)]
    pub(super) join: Option<String>,
    /// The socket of the local API: unix:PATH, or none [default: $RUNTIME_DIRECTORY,
    /// $XDG_RUNTIME_DIR/dragonfly or /run/dragonfly, /dfdaemon.sock]
    #[arg(long, value_name = "unix:PATH", value_parser = parse_api)]
    api: Option<Api>,
    /// Serve /metrics, /healthz and /readyz over HTTP here, such as 127.0.0.1:9090; anyone who reaches it reads it
    #[arg(long, value_name = "IP:PORT")]
    pub(super) metrics: Option<SocketAddr>,
    /// Write identity, addresses and a join token here (JSON, mode 0600) once everything serves
    #[arg(long, value_name = "PATH")]
    pub(super) ready_file: Option<PathBuf>,
    /// The most bytes of content that are kept, such as 50GiB
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub(super) quota: Option<u64>,
    /// Fetch from loopback addresses also for other members; for tests
    #[arg(long)]
    pub(super) allow_loopback_origins: bool,
    /// Say more (twice: much more)
    #[arg(short, long, action = ArgAction::Count)]
    pub(super) verbose: u8,
    /// How the log is written
    #[arg(long, value_enum, default_value = "text")]
    pub(super) log_format: LogFormat,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum LogFormat {
    Json,
    Text,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Api {
    None,
    Unix(PathBuf),
}

fn parse_api(text: &str) -> Result<Api, String> {
    if text == "none" { Ok(Api::None) } else { crate::client::parse_endpoint(text).map(Api::Unix) }
}

impl Serve {
    pub(super) fn data_dir(&self) -> Result<PathBuf, Failure> {
        self.data_dir.clone().map_or_else(places::data_dir, Ok)
    }

    /// The socket of the local API, unless there is to be none.
    pub(super) fn api(&self) -> Option<PathBuf> {
        match &self.api {
            None => Some(places::api_socket()),
            Some(Api::None) => None,
            Some(Api::Unix(path)) => Some(path.clone()),
        }
    }

    pub(super) fn listen(&self) -> Result<Vec<Address>, Failure> {
        if !self.listen.is_empty() {
            return Ok(self.listen.clone());
        }
        let addresses = [format!("/ip4/0.0.0.0/tcp/{PORT}"), format!("/ip4/0.0.0.0/udp/{PORT}/quic-v1")];
        addresses.iter().map(|a| a.parse().map_err(|e| Failure::usage(format!("--listen: {e}")))).collect()
    }
}

/// The token to print.
#[derive(Debug, Args)]
pub(super) struct Token {
    /// The data directory of the daemon
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// The roles of who joins with it: any of scheduler, seed and peer
    #[arg(long, default_value = "peer")]
    pub(super) role: Roles,
    /// For how long hosts can join with it, such as 30d [default: without end]
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub(super) expires: Option<Duration>,
    /// An address to meet at, in place of the daemon's own (repeatable)
    #[arg(long, value_name = "MULTIADDR", action = ArgAction::Append)]
    pub(super) address: Vec<Address>,
    /// The daemon's socket [default: the one noted in the data directory]
    #[arg(long, value_name = "unix:PATH", value_parser = crate::client::parse_endpoint)]
    pub(super) api: Option<PathBuf>,
}

impl Token {
    pub(super) fn data_dir(&self) -> Result<PathBuf, Failure> {
        self.data_dir.clone().map_or_else(places::data_dir, Ok)
    }
}
