//! `dfdaemon`: starts the engines that its roles ask for on one node, serves the local API, and stops in order.

mod bounds;
mod ca;
mod commands;
pub(crate) mod config;
mod doctor;
mod engines;
mod files;
mod gateway;
mod init;
mod notify;
mod reload;
mod running;
mod secret;
mod serve;
mod setup;
mod socket;
mod status;
mod token;

use std::ffi::OsString;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use dragonfly_core::ErrorKind;
use dragonfly_core::gateway::Gateway;
use dragonfly_core::node::TokenOptions;
use dragonfly_core::peer::LeasesOf;
use sd_notify::NotifyState;
use tokio::net::TcpListener;
use tokio::runtime::Builder;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub(crate) use self::config::Cli;
use self::config::{Command, LogFormat, Refused, Serve, Settings};
use self::socket::Socket;
use crate::api::{self, Key};
use crate::error::Failure;
use crate::hints;
use crate::logging::{self, LogControl};
use crate::model::ReadyFile;
use crate::signals::Signals;
use crate::traces::{self, Traces};

/// What a shell reports of a process that a second SIGINT ends.
const EXIT_AT_ONCE: i32 = 130;
/// Between two looks at whether neighbours still need this host.
const OWED_LOOK: Duration = Duration::from_millis(50);

/// The program `dfdaemon`.
pub fn main() -> ExitCode {
    let line: Vec<OsString> = std::env::args_os().collect();
    let result = config::resolve(&line).and_then(|(cli, settings)| match &cli.command {
        None => daemon(settings, &line).map_err(Refused::from),
        Some(command) => Ok(obey(command)?),
    });
    match result {
        Ok(code) => code,
        Err(Refused::Clap(error)) => hints::refuse("dfdaemon", &error),
        Err(Refused::Failure(failure)) => {
            let mut out = io::stderr().lock();
            let _ = writeln!(out, "dfdaemon: {}", failure.message);
            if let Some(hint) = failure.hint.or_else(|| hints::daemon_hint(failure.kind)) {
                let _ = writeln!(out, "hint: {hint}");
            }
            ExitCode::from(hints::exit_code(failure.kind))
        }
    }
}

/// The commands that are done in a moment.
fn obey(command: &Command) -> Result<ExitCode, Failure> {
    let runtime = Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|e| Failure::io("cannot start", &e))?;
    let (text, sound) = match command {
        Command::Init(args) => (init::init(args)?, true),
        Command::Token(args) => (runtime.block_on(token::token(args))? + "\n", true),
        Command::Join(args) => (runtime.block_on(init::join(args))?, true),
        Command::Setup(args) => (setup::setup(args)?, true),
        Command::Ca(args) => (ca::ca(args)?, true),
        Command::Status(args) => (runtime.block_on(status::status(args))?, true),
        Command::Doctor(args) => runtime.block_on(doctor::doctor(args))?,
    };
    print(&text)?;
    Ok(if sound { ExitCode::SUCCESS } else { ExitCode::from(hints::EXIT_FAILED) })
}

/// Prints; a pipe that nobody reads any more is no failure.
fn print(text: &str) -> Result<(), Failure> {
    match io::stdout().write_all(text.as_bytes()) {
        Err(e) if e.kind() != io::ErrorKind::BrokenPipe => Err(Failure::io("cannot write the output", &e)),
        _ => Ok(()),
    }
}

fn daemon(settings: Settings, line: &[OsString]) -> Result<ExitCode, Failure> {
    let serve = &settings.serve;
    if serve.print_config {
        print(&config::print(&settings)?)?;
        return Ok(ExitCode::SUCCESS);
    }
    check(serve)?;
    if serve.check_config {
        print("the configuration is sound\n")?;
        return Ok(ExitCode::SUCCESS);
    }
    let (traces, layer) = Traces::start(serve.otlp_endpoint.as_deref(), "dfdaemon")?;
    let log = logging::start(serve.levels(), serve.log_format == LogFormat::Json, layer)?;
    let result = run(settings, line, log);
    traces.end();
    result.map(|()| ExitCode::SUCCESS)
}

/// What can be checked of the settings without starting anything.
fn check(serve: &Serve) -> Result<(), Failure> {
    logging::check(serve.levels())?;
    serve.data_dir()?;
    serve.listen()?;
    serve.otlp_endpoint.as_deref().map(traces::check).transpose()?;
    serve.check_gateway()?;
    serve.gateway_config(Vec::new())?;
    if let Some(group) = &serve.api_group {
        socket::group_id(group)?;
    }
    match serve.join.as_deref() {
        // Standard input can be read once, and the start needs it.
        None | Some("-") => {}
        Some(join) => drop(crate::join::read_token(join)?),
    }
    for address in serve.scheduler.iter().chain(&serve.bootstrap) {
        if address.peer().is_none() {
            let message = format!("{address} does not say who is there: it must end in /p2p/PEER");
            return Err(Failure::new(ErrorKind::Config, message));
        }
    }
    Ok(())
}

fn run(settings: Settings, line: &[OsString], log: LogControl) -> Result<(), Failure> {
    let runtime = Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(|e| Failure::io("cannot start", &e))?;
    let result = runtime.block_on(async {
        let failed = |e: io::Error| Failure::io("cannot watch for signals", &e);
        let mut signals = Signals::install().map_err(failed)?;
        let mut hangup = signal(SignalKind::hangup()).map_err(failed)?;
        let mut running = tokio::select! {
            started = Running::start(settings, log) => started?,
            signal = signals.next() => {
                tracing::info!("{signal} before everything was started");
                return Ok(());
            }
        };
        let signal = loop {
            tokio::select! {
                signal = signals.next() => break signal,
                _ = hangup.recv() => reload::reload(&mut running, line),
            }
        };
        tracing::info!("{signal}: finishing what is under way; a second signal ends at once");
        tokio::select! {
            result = running.stop() => result,
            // Nothing that is half done may hold the process: not even the runtime's own threads.
            _ = signals.next() => std::process::exit(EXIT_AT_ONCE),
        }
    });
    runtime.shutdown_background();
    result
}

/// A daemon that serves.
struct Running {
    /// As they are now.
    settings: Settings,
    /// As they were at the start.
    started: Settings,
    context: Arc<api::Context>,
    tasks: TaskTracker,
    socket: Option<socket::Bound>,
    key: Option<Arc<Key>>,
    /// Ends the door of metrics and health: the last one, so that who asks during the drain hears that it is not ready.
    closed: CancellationToken,
}

/// Where the doors are.
struct Doors {
    api: Option<String>,
    api_tcp: Option<SocketAddr>,
    metrics: Option<SocketAddr>,
    gateway: Option<SocketAddr>,
}

impl Running {
    async fn start(settings: Settings, log: LogControl) -> Result<Self, Failure> {
        let serve = &settings.serve;
        // Where others stand, a relative path means nothing: the start-up line names it to them.
        let data_dir = std::path::absolute(serve.data_dir()?);
        let data_dir = data_dir.map_err(|e| Failure::io("cannot tell the working directory", &e))?;
        files::private_dir(&data_dir)?;
        // What is quick to refuse comes before the engines: the doors are bound, and served at the end.
        let api = serve.api();
        let bind = |path| Socket::bind(path, serve.api_mode, serve.api_group.as_deref());
        let socket = api.as_deref().map(bind).transpose()?;
        let metrics = bind_tcp("--metrics", serve.metrics).await?;
        let api_tcp = bind_tcp("--api-tcp", serve.api_tcp).await?;
        let gateway = bind_tcp("--gateway", serve.gateway_address()).await?;
        let own = [&metrics, &api_tcp, &gateway].into_iter().flatten().map(|(_, address)| *address).collect();
        let token = serve.api_tcp.map(|_| secret::read_or_create(&serve.api_token_file()?)).transpose()?;
        let context = Arc::new(engines::start(serve, &data_dir, log).await?);
        let (stop, tasks) = (context.stopping.clone(), TaskTracker::new());
        let serving = serve::Serving { stop: stop.clone(), tasks: tasks.clone(), client_timeout: serve.client_timeout };
        let closed = CancellationToken::new();
        let metrics = metrics.map(|(listener, address)| {
            let serving = serve::Serving { stop: closed.clone(), tasks: TaskTracker::new(), ..serving.clone() };
            serve::serve(listener, api::metrics(Arc::clone(&context)), serving);
            address
        });
        let mut key = None;
        let api_tcp = api_tcp.zip(token).map(|((listener, address), token)| {
            let made = Arc::new(Key::new(&token, address, &serve.api_host));
            serve::serve(listener, api::remote(Arc::clone(&context), Arc::clone(&made)), serving.clone());
            key = Some(made);
            address
        });
        let socket = socket.map(|socket| {
            serve::serve(socket.listener, api::local(Arc::clone(&context)), serving.clone());
            socket.path
        });
        if let Some(path) = &api {
            running::note_api(&data_dir, path)?;
        }
        let gateway = match gateway {
            None => None,
            Some((listener, address)) => {
                let gateway = Gateway::new(context.peer()?, serve.gateway_config(own)?);
                gateway.serve(listener);
                let _ = context.gateway.set(gateway);
                Some(address)
            }
        };
        context.ready.store(true, Ordering::Release);
        tasks.spawn(notify::watchdog(Arc::clone(&context), stop.clone()));
        let running = Self { started: settings.clone(), settings, context, tasks, socket, key, closed };
        let api = api.map(|path| format!("unix:{}", path.display()));
        running.announce(&data_dir, &Doors { api, api_tcp, metrics, gateway })?;
        Ok(running)
    }

    /// Says what runs and how to join. The token itself is a secret and goes into the ready file alone.
    fn announce(&self, data_dir: &Path, doors: &Doors) -> Result<(), Failure> {
        let node = &self.context.node;
        let listen: Vec<_> = node.listeners().iter().map(ToString::to_string).collect();
        let text = |address: Option<SocketAddr>| address.map(|address| address.to_string());
        if let Some(path) = &self.settings.serve.ready_file {
            let ready = ReadyFile {
                peer_id: node.peer_id().to_string(),
                listen: listen.clone(),
                join: node.token(TokenOptions::default())?.to_text(),
                api: doors.api.clone(),
                metrics: text(doors.metrics),
                api_tcp: text(doors.api_tcp),
                gateway: text(doors.gateway),
                pid: std::process::id(),
            };
            files::write_json(path, &ready)?;
        }
        let tcp = text(doors.api_tcp).map_or(String::new(), |address| format!(" and at http://{address}"));
        let gateway = text(doors.gateway).map_or(String::new(), |address| format!(", gateway at http://{address}"));
        tracing::info!(
            "dfdaemon {} serves as {}: peer {}, listening at {}, API at {}{tcp}, metrics at {}{gateway}; others join with \
             --join \"$(dfdaemon token --data-dir '{}')\"",
            env!("CARGO_PKG_VERSION"),
            self.context.roles,
            node.peer_id(),
            if listen.is_empty() { "no address".to_owned() } else { listen.join(" ") },
            doors.api.as_deref().unwrap_or("none"),
            text(doors.metrics).as_deref().unwrap_or("none"),
            data_dir.display(),
        );
        notify::tell(&[NotifyState::Ready, NotifyState::Status(&format!("serves as {}", self.context.roles))]);
        Ok(())
    }

    /// Stops in order: no new requests; leases that are for others go back; requests under way have three quarters of
    /// the bound; then the other leases go back, and neighbours get what only this host has; then peers, seed,
    /// scheduler and node.
    async fn stop(self) -> Result<(), Failure> {
        let bound = self.settings.serve.drain_timeout;
        let until = Instant::now() + bound;
        notify::tell(&[NotifyState::Stopping, NotifyState::Status("finishing what is under way")]);
        self.context.ready.store(false, Ordering::Release);
        self.context.stopping.cancel();
        // New clients find no daemon, rather than one that does not answer.
        drop(self.socket);
        if let Some(path) = &self.settings.serve.ready_file {
            let _ = std::fs::remove_file(path);
        }
        self.context.hand_over(LeasesOf::Others).await;
        self.tasks.close();
        let clients = bound * 3 / 4;
        let gateway = async {
            match self.context.gateway.get() {
                Some(gateway) => gateway.shutdown(clients).await,
                None => true,
            }
        };
        let (api, gateway) = tokio::join!(tokio::time::timeout(clients, self.tasks.wait()), gateway);
        if api.is_err() {
            tracing::warn!("{} connections were not done within {clients:?}", self.tasks.len());
        }
        if !gateway {
            tracing::warn!("clients of the gateway were not done within {clients:?}");
        }
        self.context.hand_over(LeasesOf::All).await;
        loop {
            match self.context.owed().await {
                (0, 0) => break,
                (requests, pieces) if Instant::now() >= until => {
                    tracing::warn!(
                        "within {bound:?} neighbours did not get {pieces} pieces that only this host has, nor answers \
                         to {requests} requests"
                    );
                    break;
                }
                _ => tokio::time::sleep(OWED_LOOK).await,
            }
        }
        self.closed.cancel();
        engines::stop(&self.context).await;
        tracing::info!("stopped");
        Ok(())
    }
}

async fn bind_tcp(flag: &str, address: Option<SocketAddr>) -> Result<Option<(TcpListener, SocketAddr)>, Failure> {
    let Some(address) = address else { return Ok(None) };
    let failed = |e: io::Error| Failure::io(format_args!("{flag}: cannot listen at {address}"), &e);
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    Ok(Some((listener, address)))
}
