//! Plays random faults: as many seeds as one likes, or one of them again.
//!
//! `cargo run --release -p dragonfly-sim --bin faults -- --seeds 100000`, and
//! `cargo run -p dragonfly-sim --bin faults -- --seed 17` for one.
#![allow(clippy::print_stdout, reason = "prints what was drawn and what came of it")]

use std::ops::ControlFlow;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use clap::Parser;
use dragonfly_sim::faults::Scenario;

/// Plays seeded runs with random faults in virtual time.
#[derive(Parser)]
struct Args {
    /// Play this seed alone, and show what it draws.
    #[arg(long, conflicts_with_all = ["seeds", "from"])]
    seed: Option<u64>,
    /// How many seeds are played.
    #[arg(long, default_value_t = 10_000)]
    seeds: u64,
    /// The first of them.
    #[arg(long, default_value_t = 0)]
    from: u64,
}

fn main() -> ExitCode {
    let args = Args::parse();
    match args.seed {
        Some(seed) => one(seed),
        None => many(args.from, args.seeds),
    }
}

fn one(seed: u64) -> ExitCode {
    let scenario = Scenario::draw(seed);
    print!("{scenario}");
    match scenario.play(true) {
        Ok(outcome) => {
            println!("{outcome:?}");
            ExitCode::SUCCESS
        }
        Err(why) => {
            println!("FAILED {why}");
            ExitCode::FAILURE
        }
    }
}

fn many(from: u64, seeds: u64) -> ExitCode {
    let (next, failed) = (AtomicU64::new(0), AtomicU64::new(0));
    let slowest = Mutex::new((Duration::ZERO, from));
    let started = Instant::now();
    let play = || {
        let number = next.fetch_add(1, Ordering::Relaxed);
        if number >= seeds {
            return ControlFlow::Break(());
        }
        let scenario = Scenario::draw(from + number);
        match scenario.play(false) {
            Ok(outcome) => {
                let mut slowest = slowest.lock().unwrap_or_else(PoisonError::into_inner);
                *slowest = (*slowest).max((outcome.healed, scenario.seed));
            }
            Err(why) => {
                failed.fetch_add(1, Ordering::Relaxed);
                println!("FAILED {scenario}{why}\nreplay: {}", scenario.command());
            }
        }
        ControlFlow::Continue(())
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| (0..threads).for_each(|_| drop(scope.spawn(|| while play().is_continue() {}))));
    let failed = failed.into_inner();
    let (slowest, seed) = slowest.into_inner().unwrap_or_else(PoisonError::into_inner);
    let elapsed = started.elapsed();
    println!(
        "{seeds} seeds from {from}: {failed} failed; the last host done {slowest:.1?} after the mending (seed {seed}); {elapsed:.1?}"
    );
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
