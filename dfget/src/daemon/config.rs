//! The settings of `dfdaemon`: each is a flag, a variable of the environment and a key of the configuration file, in
//! this order of strength. They are defined once, as flags; file and `--print-config` follow from the definitions.

mod file;
mod print;
mod resolve;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};
use dragonfly_core::source::OriginPattern;
use dragonfly_core::trust::{OriginTrust, Roles};
use dragonfly_core::wire::Address;

pub(crate) use self::print::print;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use self::resolve::resolve_text;
pub(super) use self::resolve::{Refused, Settings, resolve};
use super::commands::{Ca, Doctor, Init, Join, Status, Token};
use super::gateway::{GatewayArgs, Role};
use super::setup::Setup;
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
#[command(
    after_help = "Settings come from flags, then the environment, then --config FILE (TOML or YAML; the keys are the \
names of the flags).\nSIGTERM or SIGINT ends it once what is under way is done; a second one ends it at once. SIGHUP reads the \
settings again."
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(super) command: Option<Command>,
    #[command(flatten)]
    pub(super) serve: Serve,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Found a network here, or show which one this is
    Init(Init),
    /// Print a token with which others join this network
    Token(Token),
    /// Join a network, for the daemon's next start
    Join(Join),
    /// Show what the running daemon is and does
    Status(Status),
    /// Have a client of this machine use the gateway, or show how
    Setup(Setup),
    /// Create the authority with which the gateway takes part in TLS, or show it and how to trust it
    Ca(Ca),
    /// Check ports, clock, disk, limits, membership and who can be reached, and say what to do
    Doctor(Doctor),
}

/// What the daemon is to be.
#[derive(Clone, Debug, Args)]
pub(crate) struct Serve {
    /// Read settings from here (TOML, or YAML by its ending .yaml or .yml)
    #[arg(long, value_name = "FILE", env = "DFDAEMON_CONFIG")]
    pub(super) config: Option<PathBuf>,
    /// Print every setting, where it comes from, and end
    #[arg(long)]
    pub(super) print_config: bool,
    /// Check the settings and end
    #[arg(long, conflicts_with = "print_config")]
    pub(super) check_config: bool,
    /// What it does: any of scheduler, seed, peer and gateway, separated by commas
    #[arg(long, default_value = "peer", env = "DFDAEMON_ROLE")]
    pub(super) role: Role,
    /// Where identity, membership and content are kept [default: $STATE_DIRECTORY, else /var/lib/dragonfly for root
    /// and $XDG_DATA_HOME/dragonfly for others]
    #[arg(long, value_name = "DIR", env = "DFDAEMON_DATA_DIR")]
    data_dir: Option<PathBuf>,
    /// Where it listens (repeatable) [default: /ip4/0.0.0.0/tcp/65001 and /ip4/0.0.0.0/udp/65001/quic-v1]
    #[arg(long, value_name = "MULTIADDR", action = ArgAction::Append, env = "DFDAEMON_LISTEN", value_delimiter = ',')]
    listen: Vec<Address>,
    /// Where to accept lanes, the connections that carry pieces (repeatable) [default: beside each --listen, at the next port]
    #[arg(long, value_name = "IP:PORT", action = ArgAction::Append, env = "DFDAEMON_LANE_LISTEN", value_delimiter = ',')]
    pub(super) lane_listen: Vec<SocketAddr>,
    /// The congestion control of lanes, such as bbr [default: the system's]
    #[arg(long, value_name = "NAME", env = "DFDAEMON_LANE_CONGESTION")]
    pub(super) lane_congestion: Option<String>,
    /// Do not encrypt lanes to hosts that are set so, too, once both are proven: whoever is on the way reads public content
    /// and who has what, and can take a connection over. Members and pieces are proven as always; private content stays
    /// encrypted
    #[arg(long, env = "DFDAEMON_PLAIN_LANES")]
    pub(super) plain_lanes: bool,
    /// Carry pieces over streams of libp2p alone, at about twice the processor time
    #[arg(long, env = "DFDAEMON_NO_LANES", conflicts_with_all = ["lane_listen", "lane_congestion", "plain_lanes"])]
    pub(super) no_lanes: bool,
    /// A scheduler's address with /p2p (repeatable)
    #[arg(long, value_name = "MULTIADDR", action = ArgAction::Append, env = "DFDAEMON_SCHEDULER", value_delimiter = ',')]
    pub(super) scheduler: Vec<Address>,
    /// A member's address with /p2p, to find the others through (repeatable)
    #[arg(long, value_name = "MULTIADDR", action = ArgAction::Append, env = "DFDAEMON_BOOTSTRAP", value_delimiter = ',')]
    pub(super) bootstrap: Vec<Address>,
    /// Look by mDNS for members on the links of this host, and tell them of it: no address to meet at is needed
    #[arg(long, env = "DFDAEMON_MDNS")]
    pub(super) mdns: bool,
    /// Join a network: a token, @FILE, or - for standard input [default: the network joined before, else a new one]
    #[arg(long, value_name = "TOKEN", env = "DRAGONFLY_JOIN", hide_env_values = true)]
    pub(super) join: Option<String>,
    /// Whose word counts on what an origin said, in a network that is founded here
    #[arg(long, value_enum, default_value = "members", env = "DFDAEMON_ORIGIN_TRUST")]
    pub(super) origin_trust: Trust,
    /// The socket of the local API: unix:PATH, or none [default: $RUNTIME_DIRECTORY,
    /// $XDG_RUNTIME_DIR/dragonfly or /run/dragonfly, /dfdaemon.sock]
    #[arg(long, value_name = "unix:PATH", value_parser = parse_api, env = "DFDAEMON_API")]
    api: Option<Api>,
    /// Who may use the socket: its mode, octal
    #[arg(long, value_name = "MODE", default_value = "0600", value_parser = parse_mode, env = "DFDAEMON_API_MODE")]
    pub(super) api_mode: Mode,
    /// The group of the socket, by name or number [default: the daemon's]
    #[arg(long, value_name = "GROUP", env = "DFDAEMON_API_GROUP")]
    pub(super) api_group: Option<String>,
    /// Serve the API over TCP here as well, to who has the token
    #[arg(long, value_name = "IP:PORT", env = "DFDAEMON_API_TCP")]
    pub(super) api_tcp: Option<SocketAddr>,
    /// The file with the token of the TCP API; made if it is not there [default: api-token in the data directory]
    #[arg(long, value_name = "FILE", env = "DFDAEMON_API_TOKEN_FILE")]
    api_token_file: Option<PathBuf>,
    /// A further name of this host by which clients of the TCP API may call it (repeatable)
    #[arg(long, value_name = "HOST", action = ArgAction::Append, env = "DFDAEMON_API_HOST", value_delimiter = ',')]
    pub(super) api_host: Vec<String>,
    /// Serve /metrics, /healthz and /readyz over HTTP here, such as 127.0.0.1:9090; anyone who reaches it reads it
    #[arg(long, value_name = "IP:PORT", env = "DFDAEMON_METRICS")]
    pub(super) metrics: Option<SocketAddr>,
    /// Write identity, addresses and a join token here (JSON, mode 0600) once everything serves
    #[arg(long, value_name = "PATH", env = "DFDAEMON_READY_FILE")]
    pub(super) ready_file: Option<PathBuf>,
    /// The most bytes of content that are kept, such as 50GiB
    #[arg(long, value_name = "SIZE", value_parser = parse_size, env = "DFDAEMON_QUOTA")]
    pub(super) quota: Option<u64>,
    /// The most bytes a second that are taken from origins and peers, such as 100MiB
    #[arg(long, value_name = "SIZE", value_parser = parse_size, env = "DFDAEMON_DOWNLOAD_LIMIT")]
    pub(super) download_limit: Option<u64>,
    /// The most bytes a second that are sent to peers
    #[arg(long, value_name = "SIZE", value_parser = parse_size, env = "DFDAEMON_UPLOAD_LIMIT")]
    pub(super) upload_limit: Option<u64>,
    /// How many neighbours are served at a time; 0 never uploads
    #[arg(long, value_name = "COUNT", default_value_t = 8, env = "DFDAEMON_UPLOAD_SLOTS")]
    pub(super) upload_slots: u16,
    /// How many members may be connected at a time, up to 100000 and half of the descriptors [default: 4096, with the role
    /// scheduler 100000]
    #[arg(long, value_name = "COUNT", env = "DFDAEMON_CONNECTIONS")]
    connections: Option<usize>,
    /// The site that this host is in, such as a region or a data centre, where the links between sites are thin: hosts of
    /// one site get content from each other, and few of them from another
    #[arg(long, value_name = "NAME", env = "DFDAEMON_SITE")]
    pub(super) site: Option<String>,
    /// An origin that may be fetched from for other members, [scheme://]host[:port], the host perhaps with *. in front
    /// (repeatable) [default: any]
    #[arg(long, value_name = "ORIGIN", action = ArgAction::Append, env = "DFDAEMON_ALLOW_ORIGIN", value_delimiter = ',')]
    pub(super) allow_origin: Vec<OriginPattern>,
    /// Fetch from loopback addresses also for other members; for tests
    #[arg(long, env = "DFDAEMON_ALLOW_LOOPBACK_ORIGINS")]
    pub(super) allow_loopback_origins: bool,
    /// How a storage is reached and as whom: WHERE.WHAT=VALUE, such as s3.endpoint=https://minio.example or
    /// webdav://host.secret-file=FILE (repeatable) [default: what each platform's environment and files say]
    #[cfg(feature = "storages")]
    #[arg(long, value_name = "SETTING", action = ArgAction::Append, env = "DFDAEMON_STORAGE", value_delimiter = ',')]
    pub(super) storage: Vec<String>,
    #[command(flatten)]
    pub(super) gateway: GatewayArgs,
    /// For what is under way when the daemon is asked to stop
    #[arg(long, value_name = "DURATION", default_value = "20s", value_parser = parse_duration, env = "DFDAEMON_DRAIN_TIMEOUT")]
    pub(super) drain_timeout: Duration,
    /// How long a client of the API may take nothing of what it asked for
    #[arg(long, value_name = "DURATION", default_value = "10m", value_parser = parse_duration, env = "DFDAEMON_CLIENT_TIMEOUT")]
    pub(super) client_timeout: Duration,
    /// What is logged: a level, and levels of single rooms, such as info,swarm=debug
    #[arg(long, value_name = "LEVELS", default_value = "info", env = "DFDAEMON_LOG_LEVEL")]
    log_level: String,
    /// How the log is written
    #[arg(long, value_enum, default_value = "text", env = "DFDAEMON_LOG_FORMAT")]
    pub(super) log_format: LogFormat,
    /// Send traces of downloads to this collector, OTLP over HTTP, such as http://127.0.0.1:4318; in builds with the
    /// feature otlp [default: $OTEL_EXPORTER_OTLP_ENDPOINT]
    #[arg(long, value_name = "URL", env = "DFDAEMON_OTLP_ENDPOINT")]
    pub(super) otlp_endpoint: Option<String>,
    /// Say more (twice: much more): short for --log-level debug, trace
    #[arg(short, long, action = ArgAction::Count)]
    verbose: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum LogFormat {
    Json,
    Text,
}

/// [`OriginTrust`] on a command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Trust {
    /// Any member's: works without seeds; any member can lie about a bare URL
    Members,
    /// Only seeds': the right choice for fleets
    Seeds,
}

impl From<Trust> for OriginTrust {
    fn from(trust: Trust) -> Self {
        match trust {
            Trust::Members => Self::Members,
            Trust::Seeds => Self::Seeds,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Api {
    None,
    Unix(PathBuf),
}

fn parse_api(text: &str) -> Result<Api, String> {
    if text == "none" { Ok(Api::None) } else { crate::client::parse_endpoint(text).map(Api::Unix) }
}

/// The mode of a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mode(pub(super) u32);

fn parse_mode(text: &str) -> Result<Mode, String> {
    match u32::from_str_radix(text, 8) {
        Ok(mode) if mode <= 0o777 && mode & 0o600 == 0o600 => Ok(Mode(mode)),
        _ => Err(format!("{text:?}: expected an octal mode with read and write for the owner, such as 0660")),
    }
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

    /// Whom the daemon asks first, besides who its token names.
    pub(super) fn meeting_places(&self) -> Vec<Address> {
        self.scheduler.iter().chain(&self.bootstrap).cloned().collect()
    }

    /// How many members may be connected, if that is not the library's default: a scheduler has as many as it knows.
    pub(super) fn connections(&self) -> Option<usize> {
        let is_scheduler = self.role.roles.contains(Roles::SCHEDULER);
        self.connections.or_else(|| is_scheduler.then(|| dragonfly_core::scheduler::Config::default().hosts_max))
    }

    pub(super) fn api_token_file(&self) -> Result<PathBuf, Failure> {
        self.api_token_file.clone().map_or_else(|| Ok(self.data_dir()?.join("api-token")), Ok)
    }

    /// The levels of the log.
    pub(super) fn levels(&self) -> &str {
        match self.verbose {
            0 => &self.log_level,
            1 => "debug",
            _ => "trace",
        }
    }
}
