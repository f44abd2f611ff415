//! How long N hosts on links of one rate take to have a file, against the least time that any system could need: a
//! network namespace and a real `dfdaemon` for each host, beside other systems in the same run.
//!
//! `cargo build --release -p dfget -p dragonfly-testkit && cargo run --release -p dragonfly-bench --bin shaped`
#![allow(clippy::print_stdout, reason = "benches print what they measured")]

mod aria2;
mod curve;
mod ours;
mod report;
mod rivals;

use std::path::PathBuf;

use anyhow::ensure;
use clap::{Parser, ValueEnum};
use dragonfly_bench::Torrent;

use report::Report;

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Case {
    /// The seed holds the file, as in BitTorrent.
    Warm,
    /// Nobody but the origin has it; a scheduler and a seed.
    Cold,
    /// Nobody but the origin has it; neither scheduler nor seed.
    Alone,
    /// The seed holds the file: libtorrent, which is to be installed for `--python`.
    Libtorrent,
    /// The seed holds the file: aria2, which is to be installed with opentracker, mktorrent and curl.
    Aria2,
}

/// Measures how a file reaches many hosts at once.
#[derive(Clone, Parser)]
struct Args {
    /// Hosts that want the file, besides the one that has it.
    #[arg(long, default_value_t = 8)]
    hosts: usize,
    /// Every host's link, in Mbit/s each way. The product with the hosts should stay below 800 on two processors:
    /// above that it measures the machine.
    #[arg(long, default_value_t = 100)]
    rate: u64,
    /// The file's length in MiB.
    #[arg(long, default_value_t = 256)]
    mib: u64,
    /// What is measured, in turns.
    #[arg(long, value_enum, value_delimiter = ',', default_value = "warm,cold,alone")]
    cases: Vec<Case>,
    /// How often.
    #[arg(long, default_value_t = 1)]
    rounds: usize,
    /// Where everyone's data is; best in memory.
    #[arg(long, default_value = "/dev/shm")]
    dir: PathBuf,
    /// The congestion control of lanes, such as reno (default: the system's).
    #[arg(long)]
    congestion: Option<String>,
    /// The Python with libtorrent.
    #[arg(long, default_value = "python3")]
    python: PathBuf,
    /// Prints when every host had the file.
    #[arg(long)]
    each: bool,
    /// Writes here who had how much, and when, as CSV: of the last run.
    #[arg(long)]
    curve: Option<PathBuf>,
}

impl Args {
    fn length(&self) -> u64 {
        self.mib << 20
    }

    /// In bit/s.
    fn rate(&self) -> u64 {
        self.rate * 1_000_000
    }
}

impl Case {
    fn name(self) -> String {
        format!("{self:?}").to_lowercase()
    }
}

/// What is not there of what a case needs.
fn lacks(args: &Args, case: Case) -> Option<String> {
    match case {
        Case::Warm | Case::Cold | Case::Alone => None,
        Case::Libtorrent => {
            let is_there = Torrent::is_there(&args.python);
            (!is_there).then(|| format!("{} has no libtorrent", args.python.display()))
        }
        Case::Aria2 => aria2::lacks(),
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    ensure!(args.hosts > 0 && args.rate > 0 && args.mib > 0, "nothing to measure");
    println!(
        "{} hosts, {} Mbit/s each way, {} MiB; bound {:.2} s",
        args.hosts,
        args.rate,
        args.mib,
        report::bound(&args)
    );
    println!("{}", report::HEAD);
    for _ in 0..args.rounds {
        for case in &args.cases {
            if let Some(reason) = lacks(&args, *case) {
                println!("{:12} left out: {reason}", case.name());
                continue;
            }
            let dir = tempfile::tempdir_in(&args.dir)?;
            let report: Report = match case {
                Case::Warm | Case::Cold | Case::Alone => ours::run(&args, *case, dir.path()).await?,
                Case::Libtorrent => {
                    let (args, dir) = (args.clone(), dir.path().to_owned());
                    tokio::task::spawn_blocking(move || rivals::libtorrent(&args, &dir)).await??
                }
                Case::Aria2 => {
                    let (args, dir) = (args.clone(), dir.path().to_owned());
                    tokio::task::spawn_blocking(move || aria2::run(&args, &dir)).await??
                }
            };
            report.print(&args, *case);
            if let (Some(path), Some(curve)) = (&args.curve, &report.curve) {
                std::fs::write(path, curve.to_csv())?;
            }
        }
    }
    Ok(())
}
