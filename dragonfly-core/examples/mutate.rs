//! Feeds changed inputs of a corpus to a fuzz target for a time: no instrumentation, any toolchain.
//!
//! `cargo run -p dragonfly-core --features fuzzing --example mutate -- TARGET SECONDS`, from the workspace's root; `all` is every target.

use std::time::{Duration, Instant};

use dragonfly_core::fuzz::{TARGETS, mutate};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let (name, seconds) = (arguments.next().unwrap_or("all".into()), arguments.next().unwrap_or("10".into()));
    let span = Duration::from_secs(seconds.parse()?);
    for target in TARGETS.into_iter().filter(|target| name == "all" || name == target.name) {
        let corpus = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target.name);
        let mut inputs = Vec::new();
        for file in std::fs::read_dir(corpus)? {
            inputs.push(std::fs::read(file?.path())?);
        }
        let (started, mut runs) = (Instant::now(), 0_u64);
        while started.elapsed() < span {
            for _ in 0..1000 {
                // The seed alone tells the input: a panic's number of runs is enough to have it again.
                let input = &inputs[runs as usize % inputs.len()];
                let other = &inputs[(runs as usize / inputs.len()) % inputs.len()];
                (target.run)(&mutate(runs, input, other));
                runs += 1;
            }
        }
        println!("{}: {runs} executions in {:?} from {} inputs", target.name, span, inputs.len());
    }
    Ok(())
}
