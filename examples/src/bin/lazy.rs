//! Reads a part of a remote file: `lazy URL OFFSET LENGTH` writes it to standard output. What it needs is fetched first.

use std::io::{SeekFrom, Write as _};

use dragonfly_core::{Node, Peer, Preset, Request};
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [url, offset, length] = &args[..] else { anyhow::bail!("usage: lazy URL OFFSET LENGTH") };
    let node = Node::builder().preset(Preset::Guest).start().await?;
    let peer = Peer::builder(&node).start().await?;
    let mut reader = peer.open(Request::new(url)).await?;
    reader.seek(SeekFrom::Start(offset.parse()?)).await?;
    let mut bytes = Vec::new();
    reader.take(length.parse()?).read_to_end(&mut bytes).await?;
    std::io::stdout().write_all(&bytes)?;
    Ok(())
}
