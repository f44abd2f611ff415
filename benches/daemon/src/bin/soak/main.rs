//! Half an hour in the life of a network: daemons come, go and are killed, files of many sizes are fetched from an
//! origin that fails now and then, and whoever lives through it must not grow.
//!
//! Every byte that is delivered is compared. What is measured of the lasting daemons (resident memory, descriptors,
//! disk) must be flat over the last two thirds of the run; a run that is shorter than ten minutes is not judged, as
//! stores and allocators are still filling. Ends with 1 if something is not as it must be.
//!
//! `cargo build --release -p dfget && cargo run --release -p dragonfly-bench --bin soak`
#![allow(clippy::print_stdout, reason = "benches print what they measured")]

mod cast;
mod load;
mod plot;
mod samples;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::Parser;
use dragonfly_testkit::Origin;

use cast::{Cast, Lasting};
use load::{Load, Outcome};
use samples::{Measure, Series};

/// Files that a daemon has open beside those of its content.
const OWN_FILES: u64 = 8;

/// Below it nothing is judged.
const JUDGED_MIN: Duration = Duration::from_secs(600);

/// Lets daemons live with churn, kills and failing origins, and shows whether they grow.
#[derive(Clone, Debug, Parser)]
struct Args {
    /// How long new tasks come, in seconds.
    #[arg(long, default_value_t = 1800)]
    seconds: u64,
    /// How many tasks come in that time.
    #[arg(long, default_value_t = 2000)]
    tasks: u64,
    /// How often a daemon goes and another comes, in seconds.
    #[arg(long, default_value_t = 20)]
    churn: u64,
    /// What each daemon may keep.
    #[arg(long, default_value = "128MiB")]
    quota: String,
    /// What everything is drawn from.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Draw the plot into this file (SVG).
    #[arg(long)]
    plot: Option<PathBuf>,
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> anyhow::Result<ExitCode> {
    let args = Args::parse();
    let time = Duration::from_secs(args.seconds.max(1));
    println!("{args:?}");
    let origin = Arc::new(Origin::start().await?);
    let cast = Cast::start(&args.quota).await?;
    let load = Load { origin: origin.clone(), doors: cast.doors.clone(), seed: args.seed };
    let (lasting, comings) = cast.split();
    let over = Arc::new(AtomicBool::new(false));

    let churn = tokio::spawn({
        let (over, every) = (over.clone(), Duration::from_secs(args.churn.max(1)));
        async move { comings.run(every, args.seed, &over).await }
    });
    let sampling = tokio::spawn({
        let over = over.clone();
        async move {
            let series = sample(&lasting, time, &over).await;
            (lasting, series)
        }
    });
    let outcome = load.run(args.tasks, time).await;
    over.store(true, Ordering::SeqCst);
    let churn = churn.await??;
    let (lasting, series) = sampling.await?;
    let series = series?;

    println!("{} tasks, {} fetches: {} bytes delivered", args.tasks, outcome.fetches, outcome.bytes);
    println!("  from the origin {}, from peers {}, held {}", outcome.from_origin, outcome.from_peers, outcome.held);
    println!(
        "  {} clients left, {} fetches lost with their daemon, {} not asked",
        outcome.left, outcome.lost, outcome.absent
    );
    println!("{} daemons killed, {} asked to end, {} of them replaced", churn.killed, churn.stopped, churn.replaced);
    let sent_for = origin.counters().body_bytes;
    let copies = |tasks: &BTreeSet<u64>| {
        let lengths: u64 = tasks.iter().map(|task| load.length(*task)).sum();
        let sent: u64 = tasks.iter().filter_map(|task| sent_for.get(&load::path(*task))).sum();
        format!("{sent} bytes for {} tasks, {:.3} copies", tasks.len(), sent as f64 / lengths.max(1) as f64)
    };
    let once = outcome.delivered.difference(&outcome.again).copied().collect();
    let again = outcome.delivered.intersection(&outcome.again).copied().collect();
    println!("the origin sent {}", copies(&once));
    println!("  of what was wanted again later, and may have been evicted everywhere: {}", copies(&again));
    let is_flat = report(&series);
    if let Some(path) = &args.plot {
        plot::draw(path, &series)?;
    }
    let is_judged = time >= JUDGED_MIN;
    if !is_judged {
        println!("too short a run to say whether anything grows");
    }
    let mut is_well = is_well(&outcome, &lasting)?;
    for one in &lasting {
        if !held(one).await? {
            println!("FAULT {}: more files are open than it has entries", one.name);
            is_well = false;
        }
    }
    Ok(if is_well && (is_flat || !is_judged) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Measures until it is over.
async fn sample(lasting: &[Lasting], time: Duration, over: &AtomicBool) -> anyhow::Result<Vec<Series>> {
    let new = |one: &Lasting| Measure::ALL.map(|measure| Series::new(one.name, measure));
    let mut series: Vec<_> = lasting.iter().map(new).collect();
    let started = Instant::now();
    let mut tick = tokio::time::interval((time / 360).max(Duration::from_secs(1)));
    while !over.load(Ordering::SeqCst) {
        tick.tick().await;
        for (one, measures) in lasting.iter().zip(&mut series) {
            for measure in measures {
                measure.sample(started.elapsed(), &one.daemon)?;
            }
        }
    }
    Ok(series.into_iter().flatten().collect())
}

/// Prints the table; whether all is flat.
fn report(series: &[Series]) -> bool {
    println!("{:<12} {:<22} {:>8} {:>8} {:>8} {:>8}", "daemon", "measure", "first", "last", "most", "growth");
    let mut is_flat = true;
    for line in series {
        let Some(verdict) = line.verdict() else { continue };
        is_flat &= verdict.is_flat;
        println!("{:<12} {:<22} {verdict}", line.daemon, line.measure.title());
    }
    is_flat
}

/// What a daemon's metrics say that it keeps, at the end, beside the memory; whether it has no more files open than
/// that explains.
async fn held(one: &Lasting) -> anyhow::Result<bool> {
    const SHOWN: [&str; 6] = ["tasks", "store_entries", "hosts_known", "members", "peers_connected", "lanes"];
    let metrics = one.daemon.client().await?.bytes(http::Method::GET, "/metrics", None).await?;
    let metrics = String::from_utf8_lossy(&metrics);
    let value = |name: &str| metrics.lines().find_map(|line| line.strip_prefix(&format!("dragonfly_{name} ")));
    let (files, _) = one.daemon.descriptor_kinds()?;
    let values = SHOWN.map(|name| format!("{name} {}", value(name).unwrap_or("?"))).join(", ");
    println!("{:<12} {values}, files open {files}", one.name);
    let entries: u64 = value("store_entries").context("no metric of the entries")?.parse()?;
    Ok(files <= entries + OWN_FILES)
}

/// Whether every fetch came to its end and no daemon complains.
fn is_well(outcome: &Outcome, lasting: &[Lasting]) -> anyhow::Result<bool> {
    let mut is_well = outcome.faults.is_empty();
    for fault in &outcome.faults {
        println!("FAULT {fault}");
    }
    for one in lasting {
        let log = one.daemon.log()?;
        for line in cast::complaints(&log) {
            println!("FAULT {}: {line}", one.name);
            is_well = false;
        }
        if !is_well {
            println!("--- the end of the log of {}\n{}", one.name, cast::tail(&log));
        }
    }
    Ok(is_well)
}
