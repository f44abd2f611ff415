//! Plays a swarm in virtual time, and says how near to the least possible time it came: a row of
//! `benches/README.md` a command.
//!
//! `cargo run --release -p dragonfly-sim --bin sim -- --peers 1000 --pieces 256`
#![allow(clippy::print_stdout, reason = "prints what was measured")]

mod plot;
mod sweep;
mod why;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::{Parser, ValueEnum};
use dragonfly_sim::fleet::{EXACT_MAX, Fleet, Report};
use dragonfly_sim::{Sharing, State, Thin};

/// Plays a swarm in virtual time.
#[derive(Clone, Debug, Parser)]
struct Args {
    /// What everything is drawn from.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// So many runs, each with the next seed.
    #[arg(long, default_value_t = 1)]
    runs: u64,
    /// Hosts that want the content.
    #[arg(long, default_value_t = 1000)]
    peers: u32,
    /// Hosts that hold it from the start; 0: it comes from the origin.
    #[arg(long, default_value_t = 1)]
    seeds: u32,
    /// Pieces of the content.
    #[arg(long, default_value_t = 256)]
    pieces: u32,
    /// KiB of a piece; without it 64 MiB are cut into the pieces.
    #[arg(long)]
    piece_kib: Option<u64>,
    /// Mbit/s of each link at payload rate.
    #[arg(long, default_value_t = 100)]
    rate: u64,
    /// Milliseconds from a host to the middle of the network.
    #[arg(long, default_value_t = 5)]
    latency_ms: u64,
    /// How links are shared; without it exactly up to 1 000 hosts, and by chunks beyond.
    #[arg(long)]
    share: Option<Share>,
    /// KiB by which flows share an uplink, where they do so by chunks: larger ones are faster and coarser.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u64).range(1..))]
    chunk_kib: u64,
    /// Flows get 0.5 to 1.5 times their even share.
    #[arg(long)]
    unfair: bool,
    /// Uplinks are so many times narrower than downlinks.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    asymmetry: u64,
    /// Hosts that are ten times slower.
    #[arg(long, default_value_t = 0)]
    slow: u32,
    /// Hosts that are ten times faster.
    #[arg(long, default_value_t = 0)]
    fast: u32,
    /// Hosts that never upload.
    #[arg(long, default_value_t = 0)]
    freeloaders: u32,
    /// Sites among which hosts are dealt out.
    #[arg(long, default_value_t = 1)]
    sites: u8,
    /// Mbit/s of the link between sites.
    #[arg(long)]
    thin: Option<u64>,
    /// Nobody says in which site it is.
    #[arg(long)]
    unnamed: bool,
    /// Hosts of each site that bring pieces from the others, in place of the default.
    #[arg(long)]
    bridges: Option<usize>,
    /// Percent of the hosts that join during twice the least time.
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u32).range(..=100))]
    late: u32,
    /// Percent of the hosts replaced each minute.
    #[arg(long, default_value_t = 0)]
    churn: u32,
    /// Milliseconds after which the first seed dies.
    #[arg(long)]
    seed_dies_ms: Option<u64>,
    /// Milliseconds after which the coordinator dies; another is there five seconds later.
    #[arg(long)]
    coordinator_dies_ms: Option<u64>,
    /// Check what must never be after every so many events; 0: only at the end.
    #[arg(long, default_value_t = 0)]
    check_every: u64,
    /// Upload slots of each host, in place of the default.
    #[arg(long)]
    upload_slots: Option<usize>,
    /// Print an object of JSON for each run.
    #[arg(long)]
    json: bool,
    /// Draw the first run into this SVG file.
    #[arg(long)]
    plot: Option<PathBuf>,
    /// Print where the time goes: what uplinks do over time, and how fast pieces spread.
    #[arg(long)]
    why: bool,
    /// Play half and double of each limit of the core, and print a table for `docs/design/swarm.md`.
    #[arg(long)]
    sweep: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Share {
    Exact,
    Chunks,
}

impl Args {
    fn fleet(&self) -> Fleet {
        let mbit = |rate: u64| rate * 1_000_000 / 8;
        let mut fleet = Fleet {
            seed: self.seed,
            peers: self.peers,
            seeds: self.seeds,
            pieces: self.pieces,
            piece_length: self.piece_kib.map_or((64 << 20) / u64::from(self.pieces.max(1)), |kib| kib << 10),
            rate: mbit(self.rate),
            latency: Duration::from_millis(self.latency_ms),
            asymmetry: self.asymmetry,
            slow: self.slow,
            fast: self.fast,
            freeloaders: self.freeloaders,
            sites: self.sites,
            thin: self.thin.map(|rate| Thin { rate: mbit(rate), latency: Duration::from_millis(10) }),
            names: !self.unnamed,
            bridges: self.bridges,
            late: self.late,
            churn: self.churn,
            seed_dies: self.seed_dies_ms.map(Duration::from_millis),
            coordinator_dies: self.coordinator_dies_ms.map(Duration::from_millis),
            sharing: match self.share {
                Some(Share::Exact) => Sharing::Exact,
                Some(Share::Chunks) => Sharing::Chunks,
                None if self.peers <= EXACT_MAX => Sharing::Exact,
                None => Sharing::Chunks,
            },
            chunk: self.chunk_kib << 10,
            is_unfair: self.unfair,
            check_every: self.check_every,
            is_watched: self.why,
            ..Fleet::default()
        };
        if let Some(slots) = self.upload_slots {
            fleet.config.upload_slots = slots;
        }
        fleet
    }
}

fn main() -> anyhow::Result<ExitCode> {
    let args = Args::parse();
    if args.sweep {
        return sweep::run(&args.fleet(), args.runs).map(|()| ExitCode::SUCCESS);
    }
    for run in 0..args.runs {
        let fleet = Fleet { seed: args.seed + run, ..args.fleet() };
        let started = Instant::now();
        let mut states = Vec::new();
        let report = match fleet.play(&mut |state| states.push(state)) {
            Ok(report) => report,
            Err(failed) => {
                println!("FAILED {failed}");
                return Ok(ExitCode::FAILURE);
            }
        };
        print(&fleet, &report, &states, started.elapsed(), args.json);
        if args.why {
            why::print(&fleet, &report);
        }
        if let Some(path) = args.plot.as_ref().filter(|_| run == 0) {
            plot::draw(path, &fleet, report.bound, &states)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn print(fleet: &Fleet, report: &Report, states: &[State], wall: Duration, is_json: bool) {
    let Report { p50, p99, last, twice, origin, lost, crossed, .. } = report;
    let (wall, rss) = (wall.as_secs_f64(), peak_mib());
    if is_json {
        let curve = states.iter().map(|state| {
            let part = state.held as f64 / (state.hosts * u64::from(fleet.pieces)).max(1) as f64;
            (state.at.0.as_secs_f64(), part, state.holders_least)
        });
        let curve: Vec<(f64, f64, u64)> = curve.collect();
        let value = serde_json::json!({
            "command": fleet.to_string(), "seed": fleet.seed, "bound_s": report.bound, "finished": report.finished,
            "p50": p50, "p99": p99, "last": last, "injected_copies": report.injected,
            "injector_use": report.injector_use, "twice": twice, "origin_copies": origin, "lost_copies": lost,
            "crossed_copies": crossed, "reports": report.heard.reports, "questions": report.heard.questions,
            "events": report.events, "wall_s": wall, "processor_s": processor_seconds(),
            "peak_rss_mib": rss, "curve": curve,
        });
        return println!("{value}");
    }
    let maybe = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| format!("{value:.3}"));
    println!(
        "seed {}: {} hosts, bound {:.3} s: p50 {p50:.3}, p99 {p99:.3}, last {last:.3}; injected {}, injector use {}; \
         twice {twice:.4}; origin {origin:.3}, lost {lost:.3}, crossed {crossed:.3}; {} reports, {} questions; {:.1} M events, {wall:.1} s \
         ({:.1} s of processor so far), {rss} MiB",
        fleet.seed,
        report.finished,
        report.bound,
        maybe(report.injected),
        maybe(report.injector_use),
        report.heard.reports,
        report.heard.questions,
        report.events as f64 / 1e6,
        processor_seconds(),
    );
}

/// The processor time of this process; 0 where the system does not say. Unlike the wall's it does not depend on what
/// else the machine does.
fn processor_seconds() -> f64 {
    let nanos = std::fs::read_to_string("/proc/self/schedstat").unwrap_or_default();
    nanos.split_whitespace().next().and_then(|nanos| nanos.parse::<f64>().ok()).unwrap_or(0.0) / 1e9
}

/// The most memory that this process had, in MiB; 0 where the system does not say.
fn peak_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.trim().trim_end_matches("kB").trim().parse::<u64>().ok()).unwrap_or(0) >> 10
}
