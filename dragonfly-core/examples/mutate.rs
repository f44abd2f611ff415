//! Feeds changed inputs of a corpus to a fuzz target for a time: no instrumentation, any toolchain.
//!
//! `cargo run -p dragonfly-core --features fuzzing --example mutate -- TARGET SECONDS`, from the workspace's root; `all` is every target.

use std::path::Path;
use std::time::Duration;

use dragonfly_core::fuzz::{TARGETS, drive};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let (name, seconds) = (arguments.next().unwrap_or("all".into()), arguments.next().unwrap_or("10".into()));
    let span = Duration::from_secs(seconds.parse()?);
    for target in TARGETS.into_iter().filter(|target| name == "all" || name == target.name) {
        let runs = drive(&Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus"), target, span)?;
        println!("{}: {runs} executions in {span:?}", target.name);
    }
    Ok(())
}
