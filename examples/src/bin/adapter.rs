//! A source of one's own: `adapter DIRECTORY PATH OUTPUT` fetches a file of a directory under a scheme that the library
//! does not know. Nodes that have the source share what it gives like any other content.

use std::collections::BTreeMap;
use std::sync::Arc;

use dragonfly_core::{Node, Peer, Request};
use dragonfly_examples::shelf::Shelves;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [directory, path, output] = &args[..] else { anyhow::bail!("usage: adapter DIRECTORY PATH OUTPUT") };
    let shelves = Shelves(BTreeMap::from([("models".to_owned(), directory.into())]));
    let node = Node::builder().source(Arc::new(shelves)).start().await?;
    let peer = Peer::builder(&node).start().await?;
    let receipt = peer.fetch(Request::new(format!("shelf://models/{path}")).output(output)).await?;
    println!("{} bytes, {}", receipt.length, receipt.blake3);
    Ok(())
}
