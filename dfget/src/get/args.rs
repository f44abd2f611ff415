//! The command line of `dfget`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Args, Parser, Subcommand};
use dragonfly_core::wire::Address;

use crate::client::Endpoint;
use crate::error::Failure;
use crate::model::FetchRequest;
use crate::range::ByteRange;
use crate::units::{parse_duration, parse_size};

/// The largest bundle of certificates: the whole request has to stay within 1 MiB.
const CA_CERT_MAX: u64 = 512 << 10;

/// Downloads URLs through the peer-to-peer network.
///
/// Uses the local daemon if one answers, and otherwise fetches in this process. An output appears under its name only
/// when it is complete and verified; what was interrupted goes on where it stopped when the same command is given
/// again.
#[derive(Debug, Parser)]
#[command(name = "dfget", version, max_term_width = 100)]
#[command(subcommand_negates_reqs = true)]
#[command(after_help = "Exit codes: 0 done, 1 a download failed, 2 usage or environment, 130 interrupted.")]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
    #[command(flatten)]
    pub(crate) fetch: Fetch,
}

/// What is asked of the daemon besides fetching.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Show what the daemon holds of a URL or a task
    Stat(One),
    /// List what the daemon holds
    Ls,
    /// Remove a URL or a task from the daemon's store
    Rm(Several),
    /// Keep a URL or a task whatever the quota says
    Pin(Several),
    /// Let a URL or a task go when the quota wants it
    Unpin(Several),
    /// Have the daemon, a seed, fetch URLs before anyone asks for them
    Preheat(Preheat),
    /// Show the tasks that are being fetched and served
    Tasks,
    /// Show the hosts that pieces are exchanged with
    Peers,
    /// Watch tasks, neighbours and rates
    Top(Top),
}

/// How to reach the daemon.
#[derive(Clone, Debug, Args)]
pub(crate) struct Door {
    /// The daemon: unix:PATH or http://HOST:PORT [default: $XDG_RUNTIME_DIR/dragonfly/dfdaemon.sock,
    /// /run/dragonfly/dfdaemon.sock]
    #[arg(short, long, value_name = "ENDPOINT", env = "DRAGONFLY_ENDPOINT", global = true)]
    pub(crate) endpoint: Option<Endpoint>,
    /// The file with the token for a daemon at http://
    #[arg(long, value_name = "FILE", env = "DRAGONFLY_API_TOKEN_FILE", global = true)]
    pub(crate) api_token_file: Option<PathBuf>,
}

/// What tells content from other content: all of it is part of the task's id.
#[derive(Clone, Debug, Args)]
pub(crate) struct Naming {
    /// The digest of the whole: blake3:, sha256:, sha512:, md5: or crc32c: and hexadecimal digits
    #[arg(long, value_name = "ALGORITHM:HEX")]
    pub(crate) digest: Option<String>,
    /// A header for the origin, 'Name: value' (repeatable)
    #[arg(short = 'H', long = "header", value_name = "HEADER", action = ArgAction::Append)]
    pub(crate) headers: Vec<String>,
    /// Keeps content apart that has one URL
    #[arg(long, default_value = "", hide_default_value = true)]
    pub(crate) tag: String,
    /// The application that asks; keeps content apart, too
    #[arg(long, default_value = "", hide_default_value = true)]
    pub(crate) application: String,
    /// A query parameter that does not change the content (repeatable; in place of the signatures of object stores)
    #[arg(long = "filtered-query-param", value_name = "NAME", action = ArgAction::Append)]
    pub(crate) filtered_query_params: Vec<String>,
    /// Certificate authorities to trust beside the system's (PEM)
    #[arg(long, value_name = "FILE")]
    pub(crate) ca_cert: Option<PathBuf>,
    /// Accept any TLS certificate of the origin; the content is then not shared
    #[arg(long)]
    pub(crate) insecure: bool,
}

/// What to fetch, and how.
#[derive(Clone, Debug, Args)]
pub(crate) struct Fetch {
    /// What to download
    #[arg(value_name = "URL", required_unless_present = "input_file")]
    pub(crate) urls: Vec<String>,
    /// Read URLs from a file, one a line, or from standard input with -; lines that start with # are left out
    #[arg(short, long, value_name = "FILE")]
    pub(crate) input_file: Option<PathBuf>,
    /// Fetch everything below the URL: a directory of a server, a prefix of a bucket, an index page, an image (as an OCI
    /// layout). It goes into a directory, -O or one with the URL's last name; files that are there already are left as
    /// they are
    #[arg(long)]
    pub(crate) recursive: bool,
    /// With --recursive: only files that fit this pattern, such as '*.safetensors' or 'a/**' (repeatable)
    #[arg(long, value_name = "GLOB", action = ArgAction::Append, requires = "recursive")]
    pub(crate) include: Vec<String>,
    /// With --recursive: no files that fit this pattern (repeatable)
    #[arg(long, value_name = "GLOB", action = ArgAction::Append, requires = "recursive")]
    pub(crate) exclude: Vec<String>,
    /// With --recursive: the most files; more are an error
    #[arg(long, value_name = "COUNT", default_value_t = 10_000, requires = "recursive")]
    pub(crate) max_files: usize,
    /// With --recursive and an oci: URL: only the image for this platform [default: all that the image is there for]
    #[cfg(feature = "storages")]
    #[arg(long, value_name = "OS/ARCHITECTURE", requires = "recursive")]
    pub(crate) platform: Option<String>,
    /// With --recursive: say what would be fetched (length, output, URL), and fetch nothing
    #[arg(long, requires = "recursive")]
    pub(crate) dry_run: bool,
    /// Where to put it: a file, an existing directory, or - for standard output [default: the URL's last segment]
    #[arg(short = 'O', long, value_name = "PATH")]
    pub(crate) output: Option<PathBuf>,
    /// Replace an existing output
    #[arg(long)]
    pub(crate) overwrite: bool,
    /// As in wget; what was interrupted always goes on
    #[arg(short = 'c', long = "continue", hide = true)]
    pub(crate) go_on: bool,
    /// Only these bytes: FIRST-LAST, FIRST- or -COUNT, both ends included
    #[arg(short = 'r', long, value_name = "RANGE", conflicts_with = "digest", allow_hyphen_values = true)]
    pub(crate) range: Option<ByteRange>,
    #[command(flatten)]
    pub(crate) naming: Naming,
    /// The most bytes a second, such as 10MiB
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub(crate) limit_rate: Option<u64>,
    /// How urgent it is: 0 (most) to 7
    #[arg(short, long, default_value_t = 4, value_parser = clap::value_parser!(u8).range(0..=7))]
    pub(crate) priority: u8,
    /// The longest time that a download may take, such as 30s or 2h
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub(crate) timeout: Option<Duration>,
    /// Take the content from peers only, never from the origin
    #[arg(long)]
    pub(crate) disable_back_to_source: bool,
    /// As in Dragonfly; has no effect, since the length of a piece follows from the length of the content
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub(crate) piece_length: Option<u64>,
    /// How many URLs are fetched at a time
    #[arg(long, value_name = "COUNT", default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub(crate) max_concurrent_requests: u16,
    #[command(flatten)]
    pub(crate) door: Door,
    /// Fetch in this process, without a daemon
    #[arg(long, conflicts_with = "endpoint")]
    pub(crate) standalone: bool,
    /// Where to keep content and identity when fetching in this process [default: beside the output, until it is done]
    #[arg(long, value_name = "DIR", conflicts_with = "endpoint")]
    pub(crate) data_dir: Option<PathBuf>,
    /// Join a network and fetch in this process: a token, @FILE, or - for standard input
    #[arg(long, value_name = "TOKEN", env = "DRAGONFLY_JOIN", hide_env_values = true)]
    pub(crate) join: Option<String>,
    /// A scheduler's address with /p2p, for fetching in this process (repeatable)
    #[arg(long, value_name = "MULTIADDR", action = ArgAction::Append, conflicts_with = "endpoint")]
    pub(crate) scheduler: Vec<Address>,
    /// A member's address with /p2p, for fetching in this process (repeatable)
    #[arg(long, value_name = "MULTIADDR", action = ArgAction::Append, conflicts_with = "endpoint")]
    pub(crate) bootstrap: Vec<Address>,
    /// How a storage is reached and as whom when fetching in this process: WHERE.WHAT=VALUE, such as
    /// s3.endpoint=https://minio.example (repeatable) [default: what each platform's environment and files say]
    #[cfg(feature = "storages")]
    #[arg(long, value_name = "SETTING", action = ArgAction::Append, env = "DRAGONFLY_STORAGE", value_delimiter = ',')]
    pub(crate) storage: Vec<String>,
    #[command(flatten)]
    pub(crate) talk: Talk,
    /// Show no progress
    #[arg(long)]
    pub(crate) no_progress: bool,
}

/// How much is said, and how.
#[derive(Clone, Debug, Args)]
pub(crate) struct Talk {
    /// Say nothing but errors
    #[arg(short, long, global = true)]
    pub(crate) quiet: bool,
    /// Say more (twice: much more)
    #[arg(short, long, action = ArgAction::Count, conflicts_with = "quiet", global = true)]
    pub(crate) verbose: u8,
    /// Write JSON to standard output: for downloads a line per event, then the receipt
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

/// A command about one thing.
#[derive(Debug, Args)]
pub(crate) struct One {
    /// A URL, or the id of a task as `dfget ls` shows it
    #[arg(value_name = "URL|TASK")]
    pub(crate) what: String,
    #[command(flatten)]
    pub(crate) naming: Naming,
}

/// A command about some things.
#[derive(Debug, Args)]
pub(crate) struct Several {
    /// URLs, or ids of tasks as `dfget ls` shows them
    #[arg(value_name = "URL|TASK", required = true)]
    pub(crate) what: Vec<String>,
    #[command(flatten)]
    pub(crate) naming: Naming,
}

/// What to preheat.
#[derive(Debug, Args)]
pub(crate) struct Preheat {
    /// What to fetch
    #[arg(value_name = "URL", required = true)]
    pub(crate) urls: Vec<String>,
    /// Only start it, and do not wait for the end
    #[arg(long)]
    pub(crate) no_wait: bool,
    #[command(flatten)]
    pub(crate) naming: Naming,
}

/// What to watch.
#[derive(Debug, Args)]
pub(crate) struct Top {
    /// Between two looks
    #[arg(short = 'd', long, value_name = "DURATION", default_value = "1s", value_parser = parse_duration)]
    pub(crate) interval: Duration,
    /// Look so often, then end; without a terminal the default is once
    #[arg(short = 'n', long, value_name = "COUNT")]
    pub(crate) count: Option<u32>,
}

impl Naming {
    /// A request for a URL, checked as far as it can be here.
    pub(crate) fn request(&self, url: &str) -> Result<FetchRequest, Failure> {
        let parsed = crate::names::parse_url(url)?;
        if parsed.scheme() == "file" {
            return Err(Failure::usage("file: URLs are not fetched: copy the file"));
        }
        let headers = self.headers.iter().enumerate();
        let headers = headers.map(|(i, text)| header(text, i + 1)).collect::<Result<_, _>>()?;
        let filtered = (!self.filtered_query_params.is_empty()).then(|| self.filtered_query_params.clone());
        Ok(FetchRequest {
            url: url.to_owned(),
            digest: self.digest.clone(),
            headers,
            tag: self.tag.clone(),
            application: self.application.clone(),
            filtered_query_params: filtered,
            ca_pem: self.ca_cert.as_deref().map(read_ca).transpose()?,
            insecure: self.insecure,
            ..FetchRequest::default()
        })
    }
}

impl Fetch {
    /// The request of the local API for one of the URLs; checked as far as it can be here.
    pub(crate) fn request(&self, url: &str) -> Result<FetchRequest, Failure> {
        let request = FetchRequest {
            priority: Some(self.priority),
            timeout_ms: self.timeout.map(|t| u64::try_from(t.as_millis()).unwrap_or(u64::MAX)),
            back_to_source: Some(!self.disable_back_to_source),
            range: self.range.map(|range| range.to_string()),
            ..self.naming.request(url)?
        };
        request.to_request()?;
        Ok(request)
    }

    /// Whether the options leave no room for a daemon. A token in the environment does.
    pub(crate) fn is_standalone(&self, join_given: bool) -> bool {
        let named = !self.scheduler.is_empty() || !self.bootstrap.is_empty();
        self.standalone || self.data_dir.is_some() || named || (join_given && self.door.endpoint.is_none())
    }
}

/// Reads `Name: value`. The message does not repeat it: values are secrets.
fn header(text: &str, number: usize) -> Result<(String, String), Failure> {
    let malformed = || Failure::usage(format!("-H number {number}: expected 'Name: value'"));
    let (name, value) = text.split_once(':').ok_or_else(malformed)?;
    let (name, value) = (name.trim(), value.trim());
    http::HeaderName::from_bytes(name.as_bytes()).map_err(|_| malformed())?;
    http::HeaderValue::from_str(value).map_err(|_| malformed())?;
    Ok((name.to_owned(), value.to_owned()))
}

fn read_ca(path: &std::path::Path) -> Result<String, Failure> {
    use std::io::Read;
    let mut pem = String::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(CA_CERT_MAX + 1).read_to_string(&mut pem))
        .map_err(|e| Failure::io(format_args!("cannot read {}", path.display()), &e))?;
    if pem.len() as u64 > CA_CERT_MAX || !pem.contains("-----BEGIN CERTIFICATE-----") {
        return Err(Failure::usage(format!("{} is no PEM bundle of at most 512 KiB", path.display())));
    }
    Ok(pem)
}
