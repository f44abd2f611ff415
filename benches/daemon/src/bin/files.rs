//! Many small files from one neighbour: files a second, and for each second of processor time.
//!
//! `cargo run --release -p dragonfly-bench --bin files`
#![allow(clippy::print_stdout, reason = "benches print what they measured")]

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use anyhow::ensure;
use clap::Parser;
use dragonfly_core::{Node, Peer, Request, Scheduler, Token, TokenOptions};
use dragonfly_testkit::{Origin, Resource};
use rustix::time::{ClockId, clock_gettime};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

const SEED: u64 = 3;

/// Measures many small files from one neighbour.
#[derive(Parser)]
struct Args {
    /// How many files.
    #[arg(long, default_value_t = 10_000)]
    files: u64,
    /// Their length in bytes.
    #[arg(long, default_value_t = 4096)]
    length: u64,
    /// How many are asked for at a time.
    #[arg(long, default_value_t = 64)]
    at_once: usize,
    /// Where content is written (default: the system's place for temporary files).
    #[arg(long)]
    dir: Option<PathBuf>,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let dir = match &args.dir {
        Some(dir) => tempfile::tempdir_in(dir)?,
        None => tempfile::tempdir()?,
    };
    let origin = Origin::start().await?;
    let mut urls = Vec::new();
    for file in 0..args.files {
        let path = format!("/{file}");
        // Fresh for as long as this runs, so that it measures the neighbour and not the origin.
        origin.set(&path, Resource::seeded(SEED + file, args.length).header("cache-control", "max-age=86400"));
        urls.push(origin.url(&path));
    }
    let (first, first_peer) = start(dir.path().join("first"), None).await?;
    let scheduler = Scheduler::builder(&first).start().await?;
    let token = first.token(TokenOptions::default())?;
    let (holder, holding) = start(dir.path().join("holder"), Some(&token)).await?;
    let (taker, taking) = start(dir.path().join("taker"), Some(&token)).await?;

    println!("{} files of {} bytes, {} at a time", args.files, args.length, args.at_once);
    let peers = [("from the origin", &holding), ("from a neighbour", &taking), ("held already", &taking)];
    for (name, peer) in peers {
        let begun = (Instant::now(), processor());
        let from_peers = fetch(peer, &urls, args.at_once).await?;
        let (wall, used) = (begun.0.elapsed().as_secs_f64(), processor() - begun.1);
        ensure!(name != "from a neighbour" || from_peers == args.files * args.length, "{from_peers} bytes from peers");
        let files = args.files as f64;
        // One process is all of them: the hosts, the scheduler and the origin.
        println!("{name:17} {:7.0} files/s {:7.0} files a second of processor time", files / wall, files / used);
    }
    for (node, peer) in [(taker, taking), (holder, holding)] {
        peer.shutdown().await?;
        node.shutdown().await?;
    }
    scheduler.shutdown().await?;
    first_peer.shutdown().await?;
    first.shutdown().await?;
    Ok(())
}

/// Fetches all, so many at a time; how many bytes came from peers.
async fn fetch(peer: &Peer, urls: &[String], at_once: usize) -> anyhow::Result<u64> {
    let room = Arc::new(Semaphore::new(at_once));
    let mut fetches = JoinSet::new();
    for url in urls {
        let permit = Arc::clone(&room).acquire_owned().await?;
        let download = peer.fetch(Request::new(url));
        fetches.spawn(async move {
            let receipt = download.await;
            drop(permit);
            receipt
        });
    }
    let mut from_peers = 0;
    while let Some(receipt) = fetches.join_next().await {
        from_peers += receipt??.bytes_from_peers;
    }
    Ok(from_peers)
}

async fn start(dir: PathBuf, token: Option<&Token>) -> anyhow::Result<(Node, Peer)> {
    let mut builder =
        Node::builder().data_dir(dir).listen("/ip4/127.0.0.1/tcp/0".parse()?).allow_loopback_origins(true);
    if let Some(token) = token {
        builder = builder.join(token.clone());
    }
    let node = builder.start().await?;
    let peer = Peer::builder(&node).start().await?;
    Ok((node, peer))
}

/// Processor time that this process has used, in seconds.
fn processor() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}
