//! A real origin, a scheduler with a seed, and two peers.

use anyhow::Context as _;
use dragonfly_core::{Node, Peer, Roles, Scheduler, Seed, TokenOptions};
use dragonfly_testkit::{Origin, Resource};
use tempfile::TempDir;

use crate::table::{Case, Row, TABLE, table};

/// How many peers there are beside the runner's own.
const PEERS: usize = 2;

/// The scene of the suite. Everything is on loopback, on ports of the system's choosing.
pub struct World {
    origin: Origin,
    first: Node,
    scheduler: Scheduler,
    seed: Seed,
    peers: Vec<(Peer, Node)>,
    _dir: TempDir,
}

impl World {
    /// Sets the scene.
    ///
    /// # Errors
    /// No port or no disk is to be had, or the table is malformed.
    pub async fn start() -> anyhow::Result<Self> {
        let origin = Origin::start().await?;
        for row in table(TABLE)? {
            if let Row::Resource(resource) = row {
                serve(&origin, &resource)?;
            }
        }
        let dir = tempfile::tempdir()?;
        let listen = "/ip4/127.0.0.1/tcp/0";
        let first = Node::builder()
            .data_dir(dir.path().join("first"))
            .listen(listen.parse()?)
            .allow_loopback_origins(true)
            .start()
            .await?;
        let scheduler = Scheduler::builder(&first).start().await?;
        let seed = Seed::builder(&first).start().await?;
        let token = first.token(TokenOptions::default())?;
        let mut peers = Vec::new();
        for number in 0..PEERS {
            let dir = dir.path().join(format!("peer-{number}"));
            let node = Node::builder().data_dir(dir).listen(listen.parse()?).join(token.clone()).start().await?;
            peers.push((Peer::builder(&node).start().await?, node));
        }
        Ok(Self { origin, first, scheduler, seed, peers, _dir: dir })
    }

    /// The origin's URL, without a path.
    pub fn origin(&self) -> String {
        self.origin.url("")
    }

    /// A token of a peer, and one of every role.
    ///
    /// # Errors
    /// None that a founder's node has.
    pub fn tokens(&self) -> anyhow::Result<(String, String)> {
        let mut all = TokenOptions::default();
        all.roles = Roles::ALL;
        Ok((self.first.token(TokenOptions::default())?.to_text(), self.first.token(all)?.to_text()))
    }

    /// Ends it.
    ///
    /// # Errors
    /// A store cannot be made durable.
    pub async fn stop(self) -> anyhow::Result<()> {
        for (peer, node) in &self.peers {
            peer.shutdown().await?;
            node.shutdown().await?;
        }
        self.seed.shutdown().await?;
        self.scheduler.shutdown().await?;
        self.first.shutdown().await.context("the first node")
    }
}

fn serve(origin: &Origin, row: &Case) -> anyhow::Result<()> {
    let (seed, length) = (row.number("seed")?, row.number("length")?);
    if row.get("count").is_some() {
        for number in 0..row.number("count")? {
            origin.set(format!("{}{number}", row.name), Resource::seeded(seed + number, length));
        }
        return Ok(());
    }
    let mut resource = Resource::seeded(seed, length);
    if row.get("no-ranges").is_some() {
        resource = resource.no_ranges();
    }
    if row.get("rate").is_some() {
        resource = resource.rate(row.number("rate")?);
    }
    if row.get("stall-after").is_some() {
        resource = resource.stall_after(row.number("stall-after")?, u64::MAX);
    }
    if row.get("status").is_some() {
        resource = resource.fail_first(u64::MAX, row.number("status")?.try_into()?, None);
    }
    if row.get("needs-header").is_some() {
        resource = resource.require_header("x-suite", "none has it");
    }
    origin.set(row.name.clone(), resource);
    Ok(())
}
