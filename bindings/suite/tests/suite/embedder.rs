//! What an embedder brings: identity, source, policy, eyes and ears.

use std::io::Cursor;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use anyhow::{Context as _, ensure};
use dragonfly_core::log::{self, Level};
use dragonfly_core::source::{self, BlockingContent, BlockingSource, OpenRequest, SourceError, SourceErrorKind};
use dragonfly_core::{
    Claims, Error, Identity, Node, NodeEvent, PeerId, PeerRequest, Policy, Request, Roles, Scheduler, Seed,
    TokenOptions,
};
use dragonfly_suite::Case;
use futures::StreamExt as _;
use tokio::io::AsyncReadExt as _;

use crate::{Runner, checksum, listen, start, stop, whole};

/// The identity whose secret key is `byte`, 32 times.
fn of(byte: u8) -> Identity {
    Identity::from_seed([byte; 32])
}

pub(crate) async fn identity(case: &Case) -> anyhow::Result<()> {
    let node = Node::builder().identity(of(case.number("byte")? as u8)).start().await?;
    ensure!(Some(node.peer_id().to_string().as_str()) == case.get("peer"), "{}", node.peer_id());
    Ok(node.shutdown().await?)
}

/// The origin that README.md describes.
struct Own {
    length: u64,
    opened: AtomicU32,
}

impl BlockingSource for Own {
    fn open(&self, request: &OpenRequest) -> Result<BlockingContent, SourceError> {
        let failed = |kind| Err(SourceError::new(kind, "as the test wants it"));
        let opened = self.opened.fetch_add(1, Ordering::SeqCst);
        match request.url.path() {
            "/missing" => return failed(SourceErrorKind::NotFound),
            "/refused" => return failed(SourceErrorKind::Forbidden),
            "/flaky" if opened.is_multiple_of(2) => {
                return Err(SourceError::new(SourceErrorKind::Network, "not this time").temporary(true));
            }
            _ => {}
        }
        let start = request.range.as_ref().map_or(0, |range| range.start);
        let bytes: Vec<u8> = (start..self.length).map(|at| (at % 251) as u8).collect();
        let mut content = BlockingContent::new(Cursor::new(bytes));
        content.length = Some(self.length);
        content.offset = start;
        content.ranges = true;
        content.version = Some("1".into());
        Ok(content)
    }
}

pub(crate) async fn source(case: &Case) -> anyhow::Result<()> {
    let length = case.get("length").map_or(Ok(0), |length| length.parse::<u64>())?;
    let own = Own { length, opened: AtomicU32::new(0) };
    let (peer, node) = start(Node::builder().source_for("suite", source::blocking(own))).await?;
    let url = case.get("url").context("no url")?;
    let fetched = peer.fetch(Request::new(url)).await;
    let read = async {
        whole(&fetched?, length)?;
        let mut reader = peer.open(Request::new(url)).await?;
        let mut bytes = Vec::new();
        reader.read_to_end(&mut bytes).await.map_err(Error::from_read)?;
        checksum(case, &bytes)?;
        Ok(())
    };
    let outcome = read.await;
    stop(&peer, &node).await?;
    outcome
}

/// Does not admit one member, does not fetch one path for others, and remembers whom it served.
struct Rules {
    refused: PeerId,
    unfetched: String,
    not_fetched: AtomicU32,
    served: Mutex<Vec<(PeerId, String)>>,
}

impl Policy for Rules {
    fn admit_peer(&self, peer: PeerId, claims: &Claims) -> bool {
        claims.roles.contains(Roles::PEER) && peer != self.refused
    }

    fn admit_request(&self, request: &PeerRequest<'_>) -> bool {
        match request {
            PeerRequest::Serve { peer, label, .. } => {
                self.served.lock().unwrap().push((*peer, (*label).to_owned()));
                true
            }
            PeerRequest::Fetch { label, .. } if label.contains(&self.unfetched) => {
                self.not_fetched.fetch_add(1, Ordering::SeqCst);
                false
            }
            _ => true,
        }
    }
}

impl Runner {
    pub(crate) async fn policy(&self, case: &Case) -> anyhow::Result<()> {
        let unfetched = case.get("unfetched").context("no unfetched")?.to_owned();
        let (refused, not_fetched) = (of(2).peer_id(), AtomicU32::new(0));
        let rules = Arc::new(Rules { refused, unfetched, not_fetched, served: Mutex::default() });
        let builder = Node::builder().listen(listen()).allow_loopback_origins(true);
        let first = builder.policy(Arc::clone(&rules) as Arc<dyn Policy>).start().await?;
        let scheduler = Scheduler::builder(&first).start().await?;
        let seed = Seed::builder(&first).start().await?;
        let token = first.token(TokenOptions::default())?;
        let joined = |byte| start(Node::builder().listen(listen()).join(token.clone()).identity(of(byte)));
        let (admitted, node) = joined(3).await?;
        let output = self.dir.path().join(&case.name);
        let (receipt, bytes) = self.fetch(&admitted, self.request(case)?, &output).await?;
        checksum(case, &bytes)?;
        ensure!(receipt.bytes_from_peers == receipt.length, "{receipt:?}");
        let path = case.get("path").unwrap();
        let served = rules.served.lock().unwrap().clone();
        ensure!(served.iter().any(|(peer, label)| *peer == node.peer_id() && label.contains(path)), "{served:?}");
        let receipt = admitted.fetch(Request::new(self.origin.clone() + &rules.unfetched)).await?;
        ensure!(receipt.bytes_from_origin == receipt.length, "{receipt:?}");
        ensure!(rules.not_fetched.load(Ordering::SeqCst) > 0, "it was not asked to fetch");
        stop(&admitted, &node).await?;

        let (refused, node) = joined(2).await?;
        let receipt = refused.fetch(Request::new(self.origin.clone() + case.get("refused").unwrap())).await?;
        ensure!(receipt.bytes_from_origin == receipt.length, "{receipt:?}");
        ensure!(!first.peers().contains(&node.peer_id()), "a member that is refused is connected");
        stop(&refused, &node).await?;
        seed.shutdown().await?;
        scheduler.shutdown().await?;
        Ok(first.shutdown().await?)
    }

    pub(crate) async fn events(&self, case: &Case) -> anyhow::Result<()> {
        let first = Node::builder().listen(listen()).allow_loopback_origins(true).start().await?;
        let scheduler = Scheduler::builder(&first).start().await?;
        let seed = Seed::builder(&first).start().await?;
        let mut events = first.events();
        let token = first.token(TokenOptions::default())?;
        let (peer, node) = start(Node::builder().listen(listen()).join(token)).await?;
        peer.fetch(self.request(case)?).await?;
        let other = node.peer_id();
        ensure!(matches!(events.next().await, Some(NodeEvent::PeerUp(peer)) if peer == other));
        stop(&peer, &node).await?;
        ensure!(matches!(events.next().await, Some(NodeEvent::PeerDown(peer)) if peer == other));
        seed.shutdown().await?;
        scheduler.shutdown().await?;
        first.shutdown().await?;
        ensure!(events.next().await.is_none(), "a node that is shut down has an event");
        Ok(())
    }

    pub(crate) async fn log(&self, case: &Case) -> anyhow::Result<()> {
        let heard = Arc::new(AtomicU32::new(0));
        let hears = Arc::clone(&heard);
        let level = case.get("level").and_then(Level::from_name).context("no level")?;
        log::set(level, move |record| {
            let ours = record.target.starts_with("dragonfly") && !record.message.is_empty();
            hears.fetch_add(u32::from(ours), Ordering::SeqCst);
        })?;
        let (peer, node) = start(Node::builder()).await?;
        let fetched = peer.fetch(self.request(case)?).await;
        stop(&peer, &node).await?;
        log::unset();
        fetched?;
        ensure!(heard.load(Ordering::SeqCst) > 0, "nothing was heard");
        Ok(())
    }
}
