//! Reads held content over and over: `suite-stream URL TIMES`. Prints the processor seconds of the reading: what
//! `benches/boundary/run` compares the bindings with.

use std::io::SeekFrom;

use anyhow::Context as _;
use dragonfly_core::{Node, Peer, Request};
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};

/// Processor seconds of this process, from the kernel's count in clock ticks, of which there are 100 in a second.
fn seconds() -> anyhow::Result<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    // After the name, which may have anything in it: the fields from the third on.
    let (_, rest) = stat.rsplit_once(')').context("no name in stat")?;
    let ticks: f64 = rest.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<f64>().ok()).sum();
    Ok(ticks / 100.0)
}

#[tokio::main(worker_threads = 2)]
async fn main() -> anyhow::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [url, times] = &args[..] else { anyhow::bail!("usage: suite-stream URL TIMES") };
    let node = Node::builder().start().await?;
    let peer = Peer::builder(&node).start().await?;
    peer.fetch(Request::new(url)).await?;
    let mut reader = peer.open(Request::new(url)).await?;
    let mut buffer = vec![0; 1 << 20];
    let before = seconds()?;
    for _ in 0..times.parse()? {
        reader.seek(SeekFrom::Start(0)).await?;
        while reader.read(&mut buffer).await? > 0 {}
    }
    println!("{:.3}", seconds()? - before);
    Ok(())
}
