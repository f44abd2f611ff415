//! `dfget`: reads the command line, fetches through the daemon ([`remote`]) or in this process ([`standalone`]), asks
//! the daemon ([`ask`]), and says what went wrong. The warm path builds no TLS and one thread.

mod args;
mod ask;
mod door;
mod had;
mod jobs;
mod recursive;
mod remote;
mod standalone;
mod top;

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use clap::parser::ValueSource;
use clap::{ArgMatches, CommandFactory, FromArgMatches};
use dragonfly_core::ErrorKind;
use futures::StreamExt;
use tokio::runtime::{Builder, Runtime};

pub(crate) use self::args::Cli;
use self::args::{Command, Fetch};
use self::jobs::Job;
use crate::error::Failure;
use crate::hints;
use crate::model::{ErrorBody, EventBody, ReceiptBody};
use crate::names::redact;
use crate::progress::{Progress, Style};
use crate::signals::Signals;
use crate::traces::Traces;
use crate::units::size_text;

/// How something ends without what was asked for.
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
    match error.kind() {
        io::ErrorKind::BrokenPipe => End::PipeClosed,
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            End::Failed(Failure::new(ErrorKind::Full, format!("cannot write the output: {error}")))
        }
        _ => End::Failed(Failure::io("cannot write the output", error)),
    }
}

/// The program `dfget`.
pub fn main() -> ExitCode {
    let parsed = Cli::command().try_get_matches();
    let parsed = parsed.and_then(|matches| Cli::from_arg_matches(&matches).map(|cli| (cli, matches)));
    let (cli, matches) = match parsed {
        Ok(parsed) => parsed,
        Err(error) => return hints::refuse("dfget", &error),
    };
    if cli.command.is_some()
        && let Some(stray) = stray(&matches)
    {
        let message = format!("{stray} is for downloads, not for commands");
        return report("", &End::Failed(Failure::usage(message)));
    }
    let level = match cli.fetch.talk.verbose {
        0 => "off",
        1 => "info",
        _ => "debug",
    };
    let started = Traces::start(None, "dfget").and_then(|(traces, layer)| {
        if level != "off" || layer.is_some() {
            crate::logging::start(level, false, layer)?;
        }
        Ok(traces)
    });
    let traces = match started {
        Ok(traces) => traces,
        Err(failure) => return report("cannot start", &End::Failed(failure)),
    };
    let code = act(&cli, &matches);
    traces.end();
    code
}

fn act(cli: &Cli, matches: &ArgMatches) -> ExitCode {
    match &cli.command {
        Some(command) => match obey(command, ask::How { door: &cli.fetch.door, talk: &cli.fetch.talk }) {
            Ok(()) => ExitCode::SUCCESS,
            Err(end) => report("", &end),
        },
        None => fetch(&cli.fetch, matches),
    }
}

/// An option of downloads that was given together with a command.
fn stray(matches: &ArgMatches) -> Option<String> {
    let command = Cli::command();
    let given = |arg: &&clap::Arg| {
        let source = matches.value_source(arg.get_id().as_str());
        !arg.is_global_set() && source == Some(ValueSource::CommandLine)
    };
    let stray = command.get_arguments().find(given)?;
    Some(stray.get_long().map_or("a URL".to_owned(), |long| format!("--{long}")))
}

/// Says how it ended; the exit code.
fn report(doing: &str, end: &End) -> ExitCode {
    // Standard error may be gone; the exit code remains.
    let mut out = io::stderr().lock();
    match end {
        End::PipeClosed => ExitCode::SUCCESS,
        End::Interrupted => {
            let _ = writeln!(out, "dfget: interrupted");
            ExitCode::from(hints::EXIT_INTERRUPTED)
        }
        End::Failed(failure) => {
            let _ = out.write_all(describe(doing, failure).as_bytes());
            ExitCode::from(hints::exit_code(failure.kind))
        }
    }
}

/// What failed, the causes, and the next step.
fn describe(doing: &str, failure: &Failure) -> String {
    // The library says what it was doing, too: once is enough.
    let message = failure.message.strip_prefix(doing).and_then(|rest| rest.strip_prefix(": "));
    let message = message.unwrap_or(&failure.message);
    let url = doing.strip_prefix("cannot fetch ").unwrap_or_default();
    let again = message.strip_prefix(url).and_then(|rest| rest.strip_prefix(": ")).filter(|_| !url.is_empty());
    let colon = if doing.is_empty() { "" } else { ": " };
    let mut text = format!("dfget: {doing}{colon}{}\n", again.unwrap_or(message));
    if let Some(hint) = hints::hint_for(failure) {
        text.push_str(&format!("hint: {hint}\n"));
    }
    text
}

fn obey(command: &Command, how: ask::How<'_>) -> Result<(), End> {
    runtime(Builder::new_current_thread())?.block_on(async {
        let mut signals = Signals::install().map_err(|e| Failure::io("cannot watch for signals", &e))?;
        tokio::select! {
            result = ask::obey(command, how) => result,
            _ = signals.next() => Err(End::Interrupted),
        }
    })
}

fn fetch(args: &Fetch, matches: &ArgMatches) -> ExitCode {
    match try_fetch(args, matches) {
        Ok(code) => code,
        Err(end) => {
            let doing = args.urls.first().filter(|_| args.urls.len() == 1);
            report(&doing.map_or(String::new(), |url| format!("cannot fetch {}", redact(url))), &end)
        }
    }
}

/// Where the content is fetched.
enum Session {
    Daemon(door::Door),
    Alone(standalone::Alone),
}

/// What `--recursive` is to fetch. Listing needs TLS, which the warm path does not: a runtime of its own.
fn listed(args: &Fetch) -> Result<Vec<Job>, End> {
    let listing = runtime(Builder::new_multi_thread())?;
    let jobs = listing.block_on(async {
        let mut signals = Signals::install().map_err(|e| Failure::io("cannot watch for signals", &e))?;
        tokio::select! {
            jobs = recursive::expand(args) => jobs,
            _ = signals.next() => Err(End::Interrupted),
        }
    });
    listing.shutdown_background();
    jobs
}

fn try_fetch(args: &Fetch, matches: &ArgMatches) -> Result<ExitCode, End> {
    let jobs = if args.recursive { listed(args)? } else { jobs::plan(args)? };
    if args.recursive && jobs.is_empty() {
        // A dry run, or everything is there.
        return Ok(ExitCode::SUCCESS);
    }
    let talk = &args.talk;
    if !talk.quiet {
        if args.naming.insecure {
            eprintln!("dfget: warning: --insecure: anyone on the way to the origin can change the content");
        }
        if args.piece_length.is_some() {
            eprintln!("dfget: --piece-length has no effect: the length of a piece follows from the content's");
        }
    }
    let progress = Progress::new(Style::choose(talk.json, talk.quiet || args.no_progress), jobs.len());
    let join_given = matches.value_source("join") == Some(ValueSource::CommandLine);
    let warm = runtime(Builder::new_current_thread())?;
    let guard = warm.enter();
    let mut signals = Signals::install().map_err(|e| Failure::io("cannot watch for signals", &e))?;
    drop(guard);
    if !args.is_standalone(join_given)
        && let Some(door) = warm.block_on(door::find(&args.door))?
    {
        let code = warm.block_on(run(args, jobs, Session::Daemon(door), &progress, &mut signals));
        // A write to a full pipe may hang on in its thread: the process does not wait for it.
        warm.shutdown_background();
        return Ok(code);
    }
    tracing::info!("fetching in this process");
    let alone = runtime(Builder::new_multi_thread())?;
    let code = alone.block_on(async {
        let started = tokio::select! {
            started = standalone::Alone::start(args, &jobs) => started?,
            _ = signals.next() => return Err(End::Interrupted),
        };
        Ok(run(args, jobs, Session::Alone(started), &progress, &mut signals).await)
    });
    alone.shutdown_background();
    code
}

/// Fetches everything, some at a time; the exit code.
async fn run(
    args: &Fetch,
    jobs: Vec<Job>,
    mut session: Session,
    progress: &Progress,
    signals: &mut Signals,
) -> ExitCode {
    // What goes into one stream goes there in order.
    let streams = jobs.iter().any(|job| job.target.is_stream());
    let most = if streams { 1 } else { usize::from(args.max_concurrent_requests) };
    let count = jobs.len();
    let mut failed: Option<u8> = None;
    let mut resumable = false;
    let end = {
        let session = &session;
        let fetches = futures::stream::iter(jobs).map(async |job| {
            let shown = progress.file(&job.name(), &redact(&job.request.url));
            let result = one(args, session, &job, &shown, progress).await;
            (job, shown, result)
        });
        let mut fetches = std::pin::pin!(fetches.buffer_unordered(most));
        loop {
            let next = tokio::select! {
                next = fetches.next() => next,
                _ = signals.next() => break Some(End::Interrupted),
            };
            let Some((job, shown, result)) = next else { break None };
            let ended = match result {
                Ok(receipt) => done(args, &job, &receipt, &shown, progress),
                Err(End::Failed(failure)) => {
                    failed = Some(worse(failed, hints::exit_code(failure.kind)));
                    resumable |= hints::is_resumable(failure.kind);
                    not_done(&job, &failure, &shown, progress)
                }
                Err(end) => Err(end),
            };
            if let Err(end) = ended {
                break Some(end);
            }
        }
    };
    progress.clear();
    let interrupted = matches!(end, Some(End::Interrupted));
    if let Session::Alone(alone) = &mut session {
        let kept = alone.stop(interrupted || resumable).await;
        if kept > 0 && !args.talk.quiet {
            progress.say(&format!("dfget: {} are kept: the same command goes on from there", size_text(kept)));
        }
    }
    match (end, failed) {
        (Some(end), _) => report("", &end),
        (None, Some(code)) => {
            if count > 1 {
                progress.say("dfget: not everything was fetched");
            }
            ExitCode::from(code)
        }
        (None, None) => ExitCode::SUCCESS,
    }
}

/// A download that failed counts for more than an option that was wrong: that one is the user's to see at once.
fn worse(before: Option<u8>, code: u8) -> u8 {
    match before {
        Some(hints::EXIT_FAILED) => hints::EXIT_FAILED,
        Some(before) if code != hints::EXIT_FAILED => before,
        _ => code,
    }
}

async fn one(
    args: &Fetch,
    session: &Session,
    job: &Job,
    shown: &crate::progress::FileProgress,
    progress: &Progress,
) -> Result<ReceiptBody, End> {
    match session {
        Session::Daemon(door) => remote::run(args, job, door, shown, progress.is_shown()).await,
        Session::Alone(alone) => alone.run(args, job, shown).await,
    }
}

fn done(
    args: &Fetch,
    job: &Job,
    receipt: &ReceiptBody,
    shown: &crate::progress::FileProgress,
    progress: &Progress,
) -> Result<(), End> {
    shown.receipt(receipt).map_err(|e| output_failed(&e))?;
    let talk = &args.talk;
    let wanted = if job.target.is_stream() { talk.verbose > 0 || io::stderr().is_terminal() } else { true };
    if wanted && !talk.quiet && !talk.json {
        progress.say(&format!("dfget: {}: {}", job.name(), summary(receipt)));
    }
    Ok(())
}

fn not_done(
    job: &Job,
    failure: &Failure,
    shown: &crate::progress::FileProgress,
    progress: &Progress,
) -> Result<(), End> {
    shown.failed(&EventBody::Failed(ErrorBody::from(failure))).map_err(|e| output_failed(&e))?;
    let text = describe(&format!("cannot fetch {}", redact(&job.request.url)), failure);
    progress.say(text.trim_end());
    Ok(())
}

fn runtime(mut builder: Builder) -> Result<Runtime, Failure> {
    builder.enable_all().build().map_err(|e| Failure::io("cannot start", &e))
}

fn summary(receipt: &ReceiptBody) -> String {
    let seconds = receipt.elapsed_ms as f64 / 1000.0;
    let mut text = format!("{} in {seconds:.1} s, {}", size_text(receipt.length), receipt.proof);
    if let Some(range) = &receipt.range {
        text = format!("bytes {range}, {text}");
    }
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
