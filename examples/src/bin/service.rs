//! A scheduler and a seed inside your own service: prints the token that others join with, and ends with standard input.

use dragonfly_core::{Node, Scheduler, Seed, TokenOptions};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let node = Node::builder().listen("/ip4/127.0.0.1/tcp/0".parse()?).allow_loopback_origins(true).start().await?;
    let scheduler = Scheduler::builder(&node).start().await?;
    let seed = Seed::builder(&node).start().await?;
    println!("{}", node.token(TokenOptions::default())?.to_text());
    // Here your service does its work.
    tokio::task::spawn_blocking(|| std::io::copy(&mut std::io::stdin(), &mut std::io::sink())).await??;
    let snapshot = scheduler.snapshot().await?;
    eprintln!("{} hosts, {} tasks", snapshot.hosts.len(), snapshot.tasks.len());
    seed.shutdown().await?;
    scheduler.shutdown().await?;
    node.shutdown().await?;
    Ok(())
}
