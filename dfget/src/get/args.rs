//! The command line of `dfget`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Parser};
use dragonfly_core::wire::Address;

use crate::client::parse_endpoint;
use crate::error::Failure;
use crate::model::FetchRequest;
use crate::units::parse_duration;

/// The largest bundle of certificates: the whole request has to stay within 1 MiB.
const CA_CERT_MAX: u64 = 512 << 10;

/// Downloads a URL through the peer-to-peer network.
///
/// Uses the local daemon if one answers, and otherwise fetches in this process. The output appears under its name
/// only when it is complete and verified.
#[derive(Debug, Parser)]
#[command(name = "dfget", version, max_term_width = 100)]
#[command(after_help = "Exit codes: 0 done, 1 the download failed, 2 usage or environment, 130 interrupted.")]
pub(crate) struct Args {
    /// What to download
    pub(crate) url: String,
    /// Where to put it: a file, an existing directory, or - for standard output [default: the URL's last segment]
    #[arg(short = 'O', long, value_name = "PATH")]
    pub(crate) output: Option<PathBuf>,
    /// Replace an existing output
    #[arg(long)]
    pub(crate) overwrite: bool,
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
    /// How urgent it is: 0 (most) to 7
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u8).range(0..=7))]
    pub(crate) priority: u8,
    /// The longest time that the download may take, such as 30s or 2h
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub(crate) timeout: Option<Duration>,
    /// Take the content from peers only, never from the origin
    #[arg(long)]
    pub(crate) disable_back_to_source: bool,
    /// Certificate authorities to trust beside the system's (PEM)
    #[arg(long, value_name = "FILE")]
    pub(crate) ca_cert: Option<PathBuf>,
    /// Accept any TLS certificate of the origin; the content is then not shared
    #[arg(long)]
    pub(crate) insecure: bool,
    /// The daemon's socket [default: $XDG_RUNTIME_DIR/dragonfly/dfdaemon.sock, /run/dragonfly/dfdaemon.sock]
    #[arg(short, long, value_name = "unix:PATH", value_parser = parse_endpoint, conflicts_with = "standalone")]
    pub(crate) endpoint: Option<PathBuf>,
    /// Fetch in this process, without a daemon
    #[arg(long)]
    pub(crate) standalone: bool,
    /// Where to keep content and identity [default: temporary, beside the output]
    #[arg(long, value_name = "DIR", requires = "standalone")]
    pub(crate) data_dir: Option<PathBuf>,
    /// Join a network when fetching in this process: a token, @FILE, or - for standard input
    #[arg(long, value_name = "TOKEN", env = "DRAGONFLY_JOIN", hide_env_values = true)]
    pub(crate) join: Option<String>,
    /// A scheduler's address with /p2p (repeatable)
    #[arg(long, value_name = "MULTIADDR", requires = "standalone", action = ArgAction::Append)]
    pub(crate) scheduler: Vec<Address>,
    /// A member's address with /p2p (repeatable)
    #[arg(long, value_name = "MULTIADDR", requires = "standalone", action = ArgAction::Append)]
    pub(crate) bootstrap: Vec<Address>,
    /// Say nothing but errors
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// Say more (twice: much more)
    #[arg(short, long, action = ArgAction::Count, conflicts_with = "quiet")]
    pub(crate) verbose: u8,
    /// Write a line of JSON per event, then the receipt, to standard output
    #[arg(long)]
    pub(crate) json: bool,
    /// Show no progress
    #[arg(long)]
    pub(crate) no_progress: bool,
}

impl Args {
    /// The request of the local API; checked as far as it can be here.
    pub(crate) fn request(&self) -> Result<FetchRequest, Failure> {
        let url = url::Url::parse(&self.url).map_err(|e| Failure::usage(format!("not a URL: {e}")))?;
        if url.scheme() == "file" {
            return Err(Failure::usage("file: URLs are not fetched: copy the file"));
        }
        let headers = self.headers.iter().enumerate();
        let headers = headers.map(|(i, text)| header(text, i + 1)).collect::<Result<_, _>>()?;
        let filtered = (!self.filtered_query_params.is_empty()).then(|| self.filtered_query_params.clone());
        let request = FetchRequest {
            url: self.url.clone(),
            digest: self.digest.clone(),
            headers,
            tag: self.tag.clone(),
            application: self.application.clone(),
            filtered_query_params: filtered,
            priority: Some(self.priority),
            timeout_ms: self.timeout.map(|t| u64::try_from(t.as_millis()).unwrap_or(u64::MAX)),
            back_to_source: Some(!self.disable_back_to_source),
            ca_pem: self.ca_cert.as_deref().map(read_ca).transpose()?,
            insecure: self.insecure,
            age_max_ms: None,
            stale_ok: false,
        };
        request.to_request()?;
        Ok(request)
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
