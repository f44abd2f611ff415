//! What a scheduler costs over real sockets: a process of its own with one task of many peers, and hosts that are connected
//! to it over TCP, with the real handshakes, admission, encoding and signatures.
//!
//! Every host is an identity and a connection of its own; all of them live in this process. The other peers of the task are
//! put into the scheduler's engine without a connection: they are there to be chosen among, and what they would be told is
//! encoded and not sent.
//!
//! `cargo run --release -p dragonfly-bench --bin sessions`
#![allow(clippy::print_stdout, reason = "benches print what they measured")]

mod host;
mod load;
mod served;

use std::time::{Duration, Instant};

use anyhow::ensure;
use clap::Parser;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use host::{Answers, Host};
use load::{Phase, Task};
use served::Served;

/// Handshakes at a time: as many as a scheduler lets one address have.
const HANDSHAKES: usize = 8;

/// Descriptors beside one for each host.
const DESCRIPTORS_MORE: u64 = 512;

/// Measures a scheduler over real sockets.
#[derive(Clone, Debug, Parser)]
struct Args {
    /// Hosts with a connection each.
    #[arg(long, default_value_t = 2000)]
    hosts: usize,
    /// Other peers of the first task, without a connection.
    #[arg(long, default_value_t = 98_000)]
    others: u32,
    /// Tasks that every host takes part in.
    #[arg(long, default_value_t = 1)]
    tasks: usize,
    /// Joins of all hosts together that are measured by themselves.
    #[arg(long, default_value_t = 20_000)]
    joins: usize,
    /// Reports likewise.
    #[arg(long, default_value_t = 200_000)]
    reports: usize,
    /// Leases likewise.
    #[arg(long, default_value_t = 4000)]
    leases: usize,
    /// Peer-tasks of the mix: leave, join, report, ask.
    #[arg(long, default_value_t = 20_000)]
    mixed: usize,
    /// What a peer-task of the mix reports, in eighths.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 8])]
    eighths: Vec<u8>,
    /// Events a second of the mix, of all hosts together.
    #[arg(long, default_value_t = 4000)]
    rate: u32,
    /// Is the scheduler.
    #[arg(long, hide = true)]
    serve: bool,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    descriptors(args.hosts as u64 + DESCRIPTORS_MORE)?;
    if args.serve { served::serve().await } else { measure(&args).await }
}

/// Lets this process have so many descriptors, and the scheduler that it starts twice as many: of these, connections may
/// have half.
fn descriptors(needed: u64) -> anyhow::Result<()> {
    let limit = getrlimit(Resource::Nofile);
    let current = limit.maximum;
    setrlimit(Resource::Nofile, Rlimit { current, maximum: limit.maximum })?;
    let most = current.unwrap_or(u64::MAX);
    ensure!(most >= 2 * needed, "{most} descriptors, {} needed: raise `ulimit -Hn`", 2 * needed);
    Ok(())
}

async fn measure(args: &Args) -> anyhow::Result<()> {
    let mut served = Served::start()?;
    println!(
        "{} hosts, each a connection; {} tasks of all of them, the first with {} others without a connection",
        args.hosts, args.tasks, args.others
    );
    let tasks: Vec<Task> = (0..args.tasks.max(1) as u32).map(Task::new).collect();

    let empty = served.resident()?;
    let (begun, processor) = (Instant::now(), served.processor()?);
    let mut hosts = connect(args.hosts, &served).await?;
    let (took, used) = (begun.elapsed().as_secs_f64(), served.processor()? - processor);
    let connected = served.resident()?;
    let each = 1.0 / args.hosts.max(1) as f64;
    println!(
        "connected in {took:.1} s: {:.2} ms of processor time and {:.1} KiB of memory a host",
        used * each * 1e3,
        connected.saturating_sub(empty) as f64 * each / 1024.0
    );

    if args.others > 0 {
        let processor = served.processor()?;
        served.fill(&tasks[0], args.others)?;
        let (used, filled) = (served.processor()? - processor, served.resident()?);
        println!(
            "{} others put in: {:.1} us of processor time and {} bytes of memory each, as a host and as a peer of the task",
            args.others,
            used / f64::from(args.others) * 1e6,
            filled.saturating_sub(connected) / u64::from(args.others)
        );
    }

    // What others are told of a host that joins is counted where it is heard.
    let before = served.resident()?;
    let phase = Phase::begin(&mut served, &hosts)?;
    load::standing(&mut hosts, &tasks).await?;
    let phase = phase.end(&mut served, &mut hosts, "every host joins every task")?;
    let peer_tasks = (args.hosts * tasks.len()).max(1);
    println!("    {} bytes of memory a peer-task", served.resident()?.saturating_sub(before) / peer_tasks as u64);
    phase.print_latencies();

    let phase = Phase::begin(&mut served, &hosts)?;
    load::joins(&mut hosts, &tasks, args.joins).await?;
    phase.end(&mut served, &mut hosts, "leaves and joins, with neighbours named")?.print_latencies();

    let phase = Phase::begin(&mut served, &hosts)?;
    load::reports(&mut hosts, &tasks, args.reports).await?;
    phase.end(&mut served, &mut hosts, "reports")?;

    let phase = Phase::begin(&mut served, &hosts)?;
    load::leases(&mut hosts, args.leases).await?;
    phase.end(&mut served, &mut hosts, "leases of eight pieces, progress of each")?.print_latencies();

    let phase = Phase::begin(&mut served, &hosts)?;
    let events = load::mixed(&mut hosts, &tasks, args.mixed, &args.eighths, args.rate).await?;
    let phase = phase.end(&mut served, &mut hosts, "the mix")?;
    phase.print_latencies();
    println!(
        "    {:.2} messages a peer-task to the scheduler, {:.2} from it; keepalives not counted",
        events as f64 / args.mixed.max(1) as f64,
        phase.heard as f64 / args.mixed.max(1) as f64
    );
    Ok(())
}

async fn connect(count: usize, served: &Served) -> anyhow::Result<Vec<Host>> {
    let mut hosts = Vec::with_capacity(count);
    let mut joining = tokio::task::JoinSet::new();
    for number in 0..count as u32 {
        if joining.len() >= HANDSHAKES
            && let Some(host) = joining.join_next().await
        {
            hosts.push(host??);
        }
        joining.spawn(Host::connect(number, served.token.clone(), served.address.clone()));
    }
    while let Some(host) = joining.join_next().await {
        hosts.push(host??);
    }
    Ok(hosts)
}

/// Times of answers, in order.
fn print_latencies(answers: &Answers) {
    for (what, times) in answers.by_kind() {
        let at = |part: f64| times[((times.len() - 1) as f64 * part) as usize].as_secs_f64() * 1e3;
        if !times.is_empty() {
            println!(
                "    {what}: {} answers, median {:.2} ms, p99 {:.2} ms, {:.1} ms at the most",
                times.len(),
                at(0.5),
                at(0.99),
                at(1.0)
            );
        }
    }
}

/// For how long an answer is waited for.
const ANSWER_MAX: Duration = Duration::from_secs(60);
