//! What README.md and docs/embedding.md show is what compiles.

#![allow(clippy::unwrap_used, dead_code)]

/// The lines of the README, verbatim; that they compile is the point.
#[rustfmt::skip]
async fn embedded() -> dragonfly_core::Result<()> {
use dragonfly_core::{Node, Peer, Request};

let node = Node::builder().start().await?;
let peer = Peer::builder(&node).start().await?;
let receipt = peer.fetch(Request::new("https://example.org/model.bin").output("model.bin")).await?;
println!("{} bytes, {}", receipt.length, receipt.blake3);
Ok(())
}

/// The program of docs/embedding.md.
#[rustfmt::skip]
mod embedding {
use dragonfly_core::{Node, Peer, Request};

#[tokio::main]
async fn main() -> dragonfly_core::Result<()> {
    let node = Node::builder().start().await?;
    let peer = Peer::builder(&node).start().await?;
    let receipt = peer.fetch(Request::new("https://example.org/model.bin").output("model.bin")).await?;
    println!("{} bytes, {}", receipt.length, receipt.blake3);
    Ok(())
}
}

#[test]
fn the_rust_of_the_documents_is_compiled_here() {
    for document in [include_str!("../../README.md"), include_str!("../../docs/embedding.md")] {
        let blocks = document.split("```rust\n").skip(1).map(|rest| rest.split("```").next().unwrap());
        let blocks: Vec<&str> = blocks.collect();
        assert!(!blocks.is_empty());
        for block in blocks {
            assert!(include_str!("readme.rs").contains(block), "not compiled here:\n{block}");
        }
    }
}
