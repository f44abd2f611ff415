//! The shortest program that embeds a peer: `fetch URL OUTPUT`.

use dragonfly_core::{Node, Peer, Request};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut args = std::env::args().skip(1);
    let (Some(url), Some(output)) = (args.next(), args.next()) else { anyhow::bail!("usage: fetch URL OUTPUT") };
    let node = Node::builder().start().await?;
    let peer = Peer::builder(&node).start().await?;
    let receipt = peer.fetch(Request::new(url).output(output)).await?;
    println!("{} bytes, {}", receipt.length, receipt.blake3);
    Ok(())
}
