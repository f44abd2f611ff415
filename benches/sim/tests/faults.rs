//! Random faults: a few hundred seeds of [`dragonfly_sim::faults`].

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use dragonfly_sim::faults::Scenario;

/// Seeds that every change is tried with; `--bin faults` plays as many as one likes.
const SEEDS: u64 = 400;

#[test]
fn drawn_faults_break_nothing_and_what_is_left_finishes() {
    let (next, failed) = (AtomicU64::new(0), Mutex::new(Vec::new()));
    let (lost, finished) = (AtomicU64::new(0), AtomicU64::new(0));
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= SEEDS {
                return;
            }
            let scenario = Scenario::draw(seed);
            match scenario.play(false) {
                Ok(outcome) => {
                    lost.fetch_add(u64::from(outcome.lost_bytes > 0), Ordering::Relaxed);
                    finished.fetch_add(outcome.finished as u64, Ordering::Relaxed);
                }
                Err(why) => {
                    let text = format!("{scenario}{why}\nreplay: {}", scenario.command());
                    failed.lock().unwrap_or_else(PoisonError::into_inner).push(text);
                }
            }
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| (0..threads).for_each(|_| drop(scope.spawn(work))));
    let failed = failed.into_inner().unwrap_or_else(PoisonError::into_inner);
    assert!(failed.is_empty(), "{} of {SEEDS} seeds failed:\n{}", failed.len(), failed.join("\n\n"));
    // The runs are about something.
    let (lost, finished) = (lost.into_inner(), finished.into_inner());
    println!("{finished} hosts finished; something was lost in {lost} of {SEEDS} runs");
    assert!(lost > SEEDS / 20 && finished > SEEDS * 3, "{lost} {finished}");
}

#[test]
fn a_seed_that_is_played_again_does_the_same() {
    for seed in 0..10 {
        let play = || Scenario::draw(seed).play(true);
        assert_eq!(play(), play());
    }
    let trace = |seed| Scenario::draw(seed).play(true).map(|outcome| outcome.trace);
    assert_ne!(trace(1), trace(2));
}
