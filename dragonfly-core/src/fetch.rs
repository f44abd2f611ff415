//! Fetching without naming an engine.

use std::path::Path;

use bytes::Bytes;
use tokio::io::AsyncReadExt as _;

use crate::{Error, ErrorKind, Node, Peer, Receipt, Request, Result};

/// Fetches `url` to `path`, which must not exist, from its origin alone. The file appears when it is complete.
///
/// A convenience over [`Node`] and [`Peer`] for one download: it listens nowhere and shares nothing. Dropping the
/// future leaves the download running until its node is gone.
///
/// # Errors
/// The URL is malformed, its origin refuses or fails, or the file cannot be written.
pub async fn fetch(url: &str, path: impl AsRef<Path>) -> Result<Receipt> {
    let path = path.as_ref();
    // Content goes through a store beside the output, so that it need not fit into memory and is not copied.
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let store = Scratch::create(parent)?;
    let node = Node::builder().data_dir(&store.0).start().await?;
    let peer = Peer::builder(&node).start().await?;
    let outcome = peer.fetch(Request::new(url).output(path)).await;
    end(&peer, &node).await;
    outcome
}

/// Fetches `url` into memory, from its origin alone; at most `max` bytes.
///
/// # Errors
/// As [`fetch`]; content that is longer than `max` is refused.
pub async fn fetch_bytes(url: &str, max: usize) -> Result<Bytes> {
    let node = Node::builder().memory_bytes(max as u64).start().await?;
    let peer = Peer::builder(&node).start().await?;
    let read = async {
        let mut reader = peer.open(Request::new(url)).await?;
        if reader.length() > max as u64 {
            let context = format!("the content has {} bytes, more than {max}", reader.length());
            return Err(Error::new(ErrorKind::Full, context));
        }
        let mut bytes = Vec::with_capacity(reader.length() as usize);
        reader.read_to_end(&mut bytes).await.map_err(Error::from_read)?;
        reader.receipt().await?;
        Ok(Bytes::from(bytes))
    };
    let outcome = read.await;
    end(&peer, &node).await;
    outcome
}

/// The outcome is that of the download, however its engines end: nothing of theirs is kept.
async fn end(peer: &Peer, node: &Node) {
    let _ = peer.shutdown().await;
    let _ = node.shutdown().await;
}

/// A directory that is removed when it is dropped.
struct Scratch(std::path::PathBuf);

impl Scratch {
    fn create(parent: &Path) -> Result<Self> {
        let mut random = [0; 8];
        getrandom::fill(&mut random)
            .map_err(|e| Error::new(ErrorKind::Internal, format!("the system gives no random numbers: {e}")))?;
        let name = format!(".dragonfly-{}", data_encoding::HEXLOWER.encode(&random));
        let path = parent.join(name);
        std::fs::create_dir(&path)
            .map_err(|e| Error::new(ErrorKind::Io, format!("cannot create {}", path.display())).caused_by(e))?;
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
