//! The main job on a file of yours: an origin, a scheduler with a seed, and several peers, all on this machine.
//!
//! `swarm FILE [--peers N] [--origin-rate MIB_PER_S]` serves FILE from an HTTP origin that counts every byte, has
//! all peers fetch it at once, compares what each got with FILE, and prints what left the origin and how long it took
//! against the least time that any system could need: the origin's rate is limited, so that is FILE / rate.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use clap::Parser;
use dragonfly_core::{Node, Peer, Receipt, Request, Roles, Scheduler, Seed, TokenOptions};
use dragonfly_testkit::{Origin, Resource};

/// Below this bound it is connections and questions that take the time.
const TELLING: Duration = Duration::from_millis(500);

/// Distributes a file among peers on this machine and shows what it cost the origin.
#[derive(Parser)]
struct Args {
    /// The file to distribute.
    file: PathBuf,
    /// How many peers fetch it.
    #[arg(long, default_value_t = 4)]
    peers: usize,
    /// What the origin can send, in MiB/s.
    #[arg(long, default_value_t = 64)]
    origin_rate: u64,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let content = std::fs::read(&args.file).with_context(|| format!("cannot read {}", args.file.display()))?;
    let length = content.len() as u64;
    let digest = blake3::hash(&content);
    let dir = tempfile::tempdir()?;

    let rate = args.origin_rate << 20;
    let origin = Origin::builder().rate(rate).start().await?;
    origin.set("/file", Resource::bytes(content));
    let url = origin.url("/file");

    // The first node founds a network; it is scheduler and seed. Its origin is on loopback, which has to be allowed.
    let first = Node::builder()
        .data_dir(dir.path().join("seed"))
        .listen("/ip4/127.0.0.1/tcp/0".parse()?)
        .allow_loopback_origins(true)
        .start()
        .await?;
    let scheduler = Scheduler::builder(&first).start().await?;
    let seed = Seed::builder(&first).start().await?;
    let mut options = TokenOptions::default();
    options.roles = Roles::PEER;
    let token = first.token(options)?;

    let mut peers = Vec::new();
    for number in 0..args.peers {
        let node = Node::builder()
            .data_dir(dir.path().join(format!("peer-{number}")))
            .listen("/ip4/127.0.0.1/tcp/0".parse()?)
            .join(token.clone())
            .start()
            .await?;
        peers.push((Peer::builder(&node).start().await?, node));
    }

    let started = Instant::now();
    let outputs: Vec<PathBuf> = (0..args.peers).map(|number| dir.path().join(format!("output-{number}"))).collect();
    let downloads =
        peers.iter().zip(&outputs).map(|((peer, _), output)| peer.fetch(Request::new(url.clone()).output(output)));
    let receipts: Vec<Receipt> = futures::future::try_join_all(downloads).await?;
    let elapsed = started.elapsed();

    for (output, receipt) in outputs.iter().zip(&receipts) {
        ensure!(blake3::hash(&std::fs::read(output)?) == digest, "{} is not the file", output.display());
        println!(
            "peer: {} bytes, {} from peers, {} from the origin, {:.2} s",
            receipt.length,
            receipt.bytes_from_peers,
            receipt.bytes_from_origin,
            receipt.elapsed.as_secs_f64()
        );
    }
    let sent = origin.counters().body_bytes_total();
    let bound = Duration::from_secs_f64(length as f64 / rate as f64);
    println!("{} peers have {} ({length} bytes, blake3:{digest})", receipts.len(), args.file.display());
    println!("origin sent {sent} bytes: {:.3} copies", sent as f64 / length.max(1) as f64);
    let (took, least) = (elapsed.as_secs_f64(), bound.as_secs_f64());
    println!("time {took:.2} s, bound {least:.2} s (the file at the origin's {} MiB/s)", args.origin_rate);
    if bound < TELLING {
        println!("too small for the ratio to say anything: try a larger file, or a lower --origin-rate");
    } else {
        println!("ratio {:.2}", took / least);
    }

    for (peer, node) in &peers {
        peer.shutdown().await?;
        node.shutdown().await?;
    }
    seed.shutdown().await?;
    scheduler.shutdown().await?;
    first.shutdown().await?;
    Ok(())
}
