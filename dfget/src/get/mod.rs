//! `dfget`: reads the command line, fetches through the daemon ([`remote`]) or in this process ([`standalone`]),
//! and says what went wrong. The warm path builds no TLS and one thread.

mod args;
mod remote;
mod standalone;

use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::process::ExitCode;

use clap::Parser;
use dragonfly_core::ErrorKind;
use tokio::runtime::{Builder, Runtime};

use self::args::Args;
use crate::client::Client;
use crate::error::Failure;
use crate::hints;
use crate::model::{FetchRequest, ReceiptBody};
use crate::names::redact;
use crate::output::Target;
use crate::progress::{Progress, Style};
use crate::signals::Signals;
use crate::units::size_text;

/// How a run ends without a receipt.
#[derive(Debug)]
enum End {
    Failed(Failure),
    Interrupted,
    /// Who read our output has enough.
    PipeClosed,
}

impl<T: Into<Failure>> From<T> for End {
    fn from(failure: T) -> Self {
        Self::Failed(failure.into())
    }
}

/// An error of standard output: a closed pipe is no failure.
fn output_failed(error: &io::Error) -> End {
    if error.kind() == io::ErrorKind::BrokenPipe {
        End::PipeClosed
    } else {
        End::Failed(Failure::io("cannot write the output", error))
    }
}

/// What both ways of fetching need.
struct Job<'a> {
    args: &'a Args,
    request: FetchRequest,
    target: Target,
    progress: Progress,
    signals: Signals,
}

/// The program `dfget`.
pub fn main() -> ExitCode {
    let args = Args::parse();
    if args.verbose > 0 {
        let level = if args.verbose > 1 { "debug" } else { "info" };
        crate::daemon::logging(level, false);
    }
    match run(&args) {
        Ok(receipt) => {
            if !args.quiet && !args.json && (args.verbose > 0 || io::stderr().is_terminal()) {
                eprintln!("dfget: {}", summary(&receipt));
            }
            ExitCode::SUCCESS
        }
        Err(End::PipeClosed) => ExitCode::SUCCESS,
        Err(End::Interrupted) => {
            eprintln!("dfget: interrupted");
            ExitCode::from(hints::EXIT_INTERRUPTED)
        }
        Err(End::Failed(failure)) => {
            // Standard error may be gone; the exit code remains.
            let mut out = io::stderr().lock();
            let _ = writeln!(out, "dfget: cannot fetch {}: {}", redact(&args.url), failure.message);
            if let Some(hint) = hints::hint(failure.kind) {
                let _ = writeln!(out, "hint: {hint}");
            }
            ExitCode::from(hints::exit_code(failure.kind))
        }
    }
}

fn run(args: &Args) -> Result<ReceiptBody, End> {
    let request = args.request()?;
    let target = Target::resolve(args.output.as_deref(), &args.url, args.overwrite)?;
    if args.json && target == Target::Stdout {
        return Err(Failure::usage("--json and -O - both write to standard output").into());
    }
    if args.insecure && !args.quiet {
        eprintln!("dfget: warning: --insecure: anyone on the way to the origin can change the content");
    }
    let style = match (args.json, args.quiet || args.no_progress) {
        (true, _) => Style::Json,
        (false, true) => Style::Silent,
        (false, false) => Style::Bar,
    };
    let warm = runtime(Builder::new_current_thread())?;
    let guard = warm.enter();
    let signals = Signals::install().map_err(|e| Failure::io("cannot watch for signals", &e))?;
    drop(guard);
    let job = Job { args, request, target, progress: Progress::new(style), signals };
    if !args.standalone
        && let Some(client) = warm.block_on(find_daemon(args.endpoint.as_deref()))?
    {
        let result = warm.block_on(remote::run(job, client));
        // A write to a full pipe may hang on in its thread: the process does not wait for it.
        warm.shutdown_background();
        return result;
    }
    let alone = runtime(Builder::new_multi_thread())?;
    let result = alone.block_on(standalone::run(job));
    alone.shutdown_background();
    result
}

/// A daemon that answers, if there is one in the usual places; one that was named must answer.
async fn find_daemon(endpoint: Option<&Path>) -> Result<Option<Client>, Failure> {
    if let Some(path) = endpoint {
        return Client::connect(path).await.map(Some).map_err(|e| {
            Failure::new(ErrorKind::Config, format!("no daemon answers at unix:{}: {e}", path.display()))
        });
    }
    for path in crate::places::api_sockets() {
        match Client::connect(&path).await {
            Ok(client) => return Ok(Some(client)),
            Err(e) => tracing::debug!("no daemon answers at unix:{}: {e}", path.display()),
        }
    }
    tracing::info!("no daemon answers: fetching in this process");
    Ok(None)
}

fn runtime(mut builder: Builder) -> Result<Runtime, Failure> {
    builder.enable_all().build().map_err(|e| Failure::io("cannot start", &e))
}

fn summary(receipt: &ReceiptBody) -> String {
    let seconds = receipt.elapsed_ms as f64 / 1000.0;
    let mut text = format!("{} in {seconds:.1} s, {}", size_text(receipt.length), receipt.proof);
    for (bytes, whence) in [
        (receipt.bytes_from_peers, "from peers"),
        (receipt.bytes_from_origin, "from the origin"),
        (receipt.bytes_held, "held already"),
    ] {
        if bytes > 0 {
            text.push_str(&format!(", {} {whence}", size_text(bytes)));
        }
    }
    text
}
