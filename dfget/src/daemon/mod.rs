//! `dfdaemon`: starts the engines that its roles ask for on one node, serves the local API, and stops in order.

mod config;
mod engines;
mod files;
mod serve;
mod socket;
mod token;

use std::io::{self, IsTerminal, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use clap::Parser;
use dragonfly_core::node::TokenOptions;
use tokio::net::TcpListener;
use tokio::runtime::Builder;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing_subscriber::EnvFilter;

use self::config::{Cli, Command, LogFormat, Serve};
use self::socket::Socket;
use crate::api;
use crate::error::Failure;
use crate::hints;
use crate::model::ReadyFile;
use crate::signals::Signals;

/// For requests under way when the daemon is asked to stop. Well below the 90 s after which systemd kills.
const DRAIN_MAX: Duration = Duration::from_secs(20);
/// What a shell reports of a process that a second SIGINT ends.
const EXIT_AT_ONCE: i32 = 130;

/// The program `dfdaemon`.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = match &cli.command {
        Some(Command::Token(args)) => print_token(args),
        None => {
            let level = ["info", "debug", "trace"][usize::from(cli.serve.verbose.min(2))];
            logging(level, cli.serve.log_format == LogFormat::Json);
            run(&cli.serve)
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            let mut out = io::stderr().lock();
            let _ = writeln!(out, "dfdaemon: {}", failure.message);
            if let Some(hint) = hints::hint(failure.kind) {
                let _ = writeln!(out, "hint: {hint}");
            }
            ExitCode::from(hints::exit_code(failure.kind))
        }
    }
}

/// Sends the log to standard error. `RUST_LOG` refines what is logged.
pub(crate) fn logging(level: &str, json: bool) {
    // Of the libraries beneath only what is amiss: they are chatty at every level.
    let ours = format!("warn,dragonfly_core={level},dfget={level}");
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(ours));
    let colour = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let log =
        tracing_subscriber::fmt().with_ansi(colour).with_env_filter(filter).with_writer(io::stderr).with_target(false);
    // A second subscriber in one process is refused: the first stays.
    let _ = if json { log.json().try_init() } else { log.try_init() };
}

fn print_token(args: &config::Token) -> Result<(), Failure> {
    let runtime = Builder::new_current_thread().enable_all().build();
    let text = runtime.map_err(|e| Failure::io("cannot start", &e))?.block_on(token::token(args))?;
    match writeln!(io::stdout(), "{text}") {
        Err(e) if e.kind() != io::ErrorKind::BrokenPipe => Err(Failure::io("cannot write the token", &e)),
        _ => Ok(()),
    }
}

fn run(args: &Serve) -> Result<(), Failure> {
    let runtime = Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(|e| Failure::io("cannot start", &e))?;
    let result = runtime.block_on(async {
        let mut signals = Signals::install().map_err(|e| Failure::io("cannot watch for signals", &e))?;
        let started = tokio::select! {
            started = Daemon::start(args) => started?,
            signal = signals.next() => {
                tracing::info!("{signal} before everything was started");
                return Ok(());
            }
        };
        let signal = signals.next().await;
        tracing::info!("{signal}: finishing what is under way; a second signal ends at once");
        tokio::select! {
            result = started.stop() => result,
            // Nothing that is half done may hold the process: not even the runtime's own threads.
            _ = signals.next() => std::process::exit(EXIT_AT_ONCE),
        }
    });
    runtime.shutdown_background();
    result
}

/// A daemon that serves.
struct Daemon<'a> {
    args: &'a Serve,
    context: Arc<api::Context>,
    stop: CancellationToken,
    tasks: TaskTracker,
    socket: Option<socket::Bound>,
}

impl<'a> Daemon<'a> {
    async fn start(args: &'a Serve) -> Result<Self, Failure> {
        let data_dir = args.data_dir()?;
        files::private_dir(&data_dir)?;
        // What is quick to refuse comes before the engines: both doors are bound, and served at the end.
        let api = args.api();
        let socket = api.as_deref().map(Socket::bind).transpose()?;
        let metrics = match args.metrics {
            Some(address) => Some(bind_metrics(address).await?),
            None => None,
        };
        let context = Arc::new(engines::start(args, &data_dir).await?);
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        let metrics = metrics.map(|(listener, address)| {
            serve::serve(listener, api::metrics(Arc::clone(&context)), stop.clone(), &tasks);
            address
        });
        let socket = socket.map(|socket| {
            serve::serve(socket.listener, api::local(Arc::clone(&context)), stop.clone(), &tasks);
            socket.path
        });
        if let Some(path) = &api {
            token::note_api(&data_dir, path)?;
        }
        context.ready.store(true, Ordering::Release);
        let daemon = Self { args, context, stop, tasks, socket };
        daemon.announce(&data_dir, api.as_deref(), metrics)?;
        Ok(daemon)
    }

    /// Says what runs and how to join. The token itself is a secret and goes into the ready file alone.
    fn announce(&self, data_dir: &Path, api: Option<&Path>, metrics: Option<SocketAddr>) -> Result<(), Failure> {
        let node = &self.context.node;
        let listen: Vec<_> = node.listeners().iter().map(ToString::to_string).collect();
        let api = api.map(|path| format!("unix:{}", path.display()));
        let metrics = metrics.map(|address| address.to_string());
        if let Some(path) = &self.args.ready_file {
            let join = node.token(TokenOptions::default())?.to_text();
            let (api, metrics) = (api.clone(), metrics.clone());
            let peer_id = node.peer_id().to_string();
            let ready = ReadyFile { peer_id, listen: listen.clone(), join, api, metrics, pid: std::process::id() };
            files::write_json(path, &ready)?;
        }
        tracing::info!(
            "dfdaemon {} serves as {}: peer {}, listening at {}, API at {}, metrics at {}; others join with \
             --join \"$(dfdaemon token --data-dir '{}')\"",
            env!("CARGO_PKG_VERSION"),
            self.context.roles,
            node.peer_id(),
            if listen.is_empty() { "no address".to_owned() } else { listen.join(" ") },
            api.as_deref().unwrap_or("none"),
            metrics.as_deref().unwrap_or("none"),
            data_dir.display(),
        );
        Ok(())
    }

    /// Stops in order: no new requests, those under way, peers, seed, scheduler, node.
    async fn stop(self) -> Result<(), Failure> {
        self.context.ready.store(false, Ordering::Release);
        self.stop.cancel();
        // New clients find no daemon, rather than one that does not answer.
        drop(self.socket);
        if let Some(path) = &self.args.ready_file {
            let _ = std::fs::remove_file(path);
        }
        self.tasks.close();
        if tokio::time::timeout(DRAIN_MAX, self.tasks.wait()).await.is_err() {
            tracing::warn!("{} connections were not done within {DRAIN_MAX:?}", self.tasks.len());
        }
        engines::stop(&self.context).await;
        tracing::info!("stopped");
        Ok(())
    }
}

async fn bind_metrics(address: SocketAddr) -> Result<(TcpListener, SocketAddr), Failure> {
    let failed = |e: io::Error| Failure::io(format_args!("--metrics: cannot listen at {address}"), &e);
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    Ok((listener, address))
}
