//! What a store of many tasks costs: to fill it, to open it again, to list it page by page, and to hold it in memory.
//!
//! `cargo run --release -p dragonfly-bench --bin tasks`
#![allow(clippy::print_stdout, reason = "benches print what they measured")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use clap::Parser;
use dragonfly_bench::Times;
use dragonfly_core::store::{Described, EntryKey, FileOptions, FileStore, Store as _};
use dragonfly_core::task::{Class, Layout, hash_piece};
use dragonfly_core::{Generation, TaskId};
use dragonfly_testkit::content;

/// Entries of one page of the listing, as the daemon's API has them at most.
const PAGE: usize = 1000;

/// Measures a store of many tasks.
#[derive(Parser)]
struct Args {
    /// How many tasks.
    #[arg(long, default_value_t = 100_000)]
    tasks: u32,
    /// The length of each in bytes: up to 64 KiB they have no files of their own.
    #[arg(long, default_value_t = 1024)]
    length: u64,
    /// Where the store is made (default: the system's place for temporary files).
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Opens the store that is here, in this process; used by the bench itself.
    #[arg(long, hide = true)]
    open: Option<PathBuf>,
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    if let Some(directory) = &args.open {
        return reopen(directory, args.tasks);
    }
    let dir = match &args.dir {
        Some(dir) => tempfile::tempdir_in(dir)?,
        None => tempfile::tempdir()?,
    };
    let directory = dir.path().join("store");
    println!("{} tasks of {} bytes", args.tasks, args.length);
    fill(&directory, &args)?;
    // Another process, so that its memory is that of an opened store and no more.
    for stop in ["a clean stop", "a stop without a word"] {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["--tasks", &args.tasks.to_string(), "--open"]).arg(&directory);
        let output = command.output()?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        println!("opened after {stop}: {}", String::from_utf8(output.stdout)?.trim());
    }
    Ok(())
}

fn key(number: u32) -> EntryKey {
    let hash = *blake3::hash(&number.to_le_bytes()).as_bytes();
    EntryKey {
        network: [7; 32],
        tenant: String::new(),
        task: TaskId::from_hash(hash),
        class: Class::Public,
        generation: Generation::from_hash(hash),
    }
}

fn fill(directory: &Path, args: &Args) -> anyhow::Result<()> {
    let layout = Layout::of_length(args.length)?;
    let started = Instant::now();
    let store = FileStore::open(directory, FileOptions::default())?;
    for number in 0..args.tasks {
        let described = Described {
            layout,
            validator: None,
            splittable: true,
            label: format!("https://origin.example/models/part-{number}.bin"),
            spec: None,
            fixed: true,
        };
        let entry = store.open(&key(number), &described)?;
        let _use = entry.use_guard()?;
        for piece in 0..layout.pieces() {
            let length = layout.length_of(piece).context("a piece of the layout")? as usize;
            let bytes = content::bytes(number.into(), layout.offset(piece), length);
            entry.write_piece(piece, &bytes, &hash_piece(&layout, piece, &bytes)?)?;
        }
    }
    let written = started.elapsed();
    store.flush()?;
    println!("filled in {written:.2?}, made durable after {:.2?}", started.elapsed());
    Ok(())
}

fn reopen(directory: &Path, tasks: u32) -> anyhow::Result<()> {
    let before = resident()?;
    let started = Instant::now();
    let store = FileStore::open(directory, FileOptions::default())?;
    let opened = started.elapsed();
    let after = resident()?;
    let mut pages = Times::default();
    let (mut listed, mut last) = (0, None);
    loop {
        let started = Instant::now();
        let page = store.list(last.as_ref(), PAGE);
        pages.add(started.elapsed());
        listed += page.len();
        match page.last() {
            Some(entry) if page.len() == PAGE => last = Some(entry.key.clone()),
            _ => break,
        }
    }
    ensure!(listed == tasks as usize, "{listed} of {tasks} tasks are listed");
    let started = Instant::now();
    let found = (0..tasks).step_by(97).all(|number| {
        let key = key(number);
        !store.find(&key.network, &key.tenant, &key.task).is_empty()
    });
    ensure!(found, "a task is not found");
    let finding: Duration = started.elapsed() / tasks.div_ceil(97);
    let each = (after - before) as f64 / f64::from(tasks);
    println!(
        "{opened:.2?}; resident {:.1} MiB more, {each:.0} bytes a task; a page of {PAGE}: {pages}; one found in {finding:.2?}",
        (after - before) as f64 / f64::from(1 << 20),
    );
    // A change that is not flushed takes the mark of a clean stop away.
    store.set_pinned(&key(0), true);
    drop(store);
    Ok(())
}

fn resident() -> anyhow::Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no such field")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? << 10)
}
