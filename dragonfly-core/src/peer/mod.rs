//! The Peer engine: download, serve, open as a stream; a coordinator where there is no scheduler.
//!
//! Callers hold [`Peer`] and what it gives them: [`Download`], [`Reader`]. Behind them one task (`actor`) owns the
//! swarm core and the tables of tasks, hosts and leases; lanes, fetches from the origin and downloads are tasks of
//! their own that send it events. Everything that belongs to one generation of a task is in a `Content`, which they
//! all share.

mod actions;
mod actor;
mod announce;
mod arrivals;
mod attest;
mod authorities;
mod authority;
mod content;
mod contradicted;
mod download;
mod drain;
mod engine;
mod event;
#[cfg(test)]
mod failing_disk;
mod follow;
mod hosts;
mod idle;
mod lane;
mod leases;
mod links;
mod origin;
mod publisher;
mod reader;
mod reauth;
mod receipt;
mod request;
mod resolve;
mod seal;
mod spool;
#[cfg(test)]
mod storm;
mod tasks;
mod trace;
mod unanswered;
mod view;
#[cfg(test)]
mod waits;

use std::sync::Arc;

pub use download::Download;
pub use drain::LeasesOf;
pub(crate) use engine::{Engine, WeakEngine};
pub(crate) use hosts::HOSTS_MAX;
pub(crate) use idle::SMALL_TASKS_MAX;
pub(crate) use lane::{COMMANDS_MAX, VAIN_CHECKS_MAX, VAIN_CHECKS_RATE};
pub use publisher::Events;
pub use reader::Reader;
pub use receipt::{Event, Exported, Proof, Receipt};
pub use request::Request;
pub(crate) use resolve::resolve_trigger;
pub(crate) use tasks::TASKS_MAX;
pub use trace::TRACE_TARGET;
pub use view::{ActiveTask, NeighbourInfo};

use crate::node::Node;
use crate::store::{EntryInfo, EntryKey};
use crate::task::{Class, Generation, TaskId};
use crate::wire::Bound;
use crate::wire::lane::SLOTS_MAX;
use crate::{Error, ErrorKind, Result};

/// The bounds of this engine that are not shown beside what is used of them.
pub(crate) const BOUNDS: [Bound; 16] = [
    (
        "dragonfly_recall_pause_seconds_limit",
        "Seconds between two times that lanes begin anew because members contradicted themselves.",
        contradicted::RECALL_PAUSE.as_secs(),
    ),
    (
        "dragonfly_coordinator_sessions_limit",
        "Sessions with members that coordinate something, beside those that this host was told of.",
        authorities::FOUND_MAX as u64,
    ),
    ("dragonfly_link_sessions_limit", "Sessions with members that were found on the links.", links::MET_MAX as u64),
    (
        "dragonfly_farewell_seconds_limit",
        "Seconds in which coordinators are told that this host stops.",
        actor::FAREWELL_MAX.as_secs(),
    ),
    ("dragonfly_lane_tasks_limit", "Tasks that one side may have open on a lane.", SLOTS_MAX as u64),
    ("dragonfly_shunned_seconds", "Seconds that a neighbour is shunned at first.", hosts::SHUNNED_MIN.as_secs()),
    (
        "dragonfly_lane_address_pause_seconds",
        "Seconds that the address of a lane is not tried that did not answer, at first.",
        hosts::UNREACHABLE_MIN.as_secs(),
    ),
    ("dragonfly_tasks_announced_limit", "Tasks announced after a start.", announce::ANNOUNCED_MAX as u64),
    (
        "dragonfly_announced_proof_bytes_limit",
        "Bytes a second that are proven again for that.",
        announce::PROOF_BYTES_PER_S,
    ),
    (
        "dragonfly_coordinator_silence_seconds_limit",
        "Seconds that a coordinator may owe an answer.",
        unanswered::UNANSWERED_MAX.as_secs(),
    ),
    (
        "dragonfly_coordinator_in_vain_seconds_limit",
        "Seconds without anything of what is missing until another coordinator is asked.",
        unanswered::IN_VAIN_MAX.as_secs(),
    ),
    (
        "dragonfly_download_silence_seconds_limit",
        "Seconds without a byte, or without a word of what the content is, until a download fails.",
        download::STALLED_MAX.as_secs(),
    ),
    (
        "dragonfly_spool_disk_seconds_limit",
        "Seconds that the disk may take for a part of content of unknown length.",
        spool::DEAD_DISK.as_secs(),
    ),
    (
        "dragonfly_digest_age_seconds_limit",
        "Seconds for which content that was found to have a digest is not read for that again.",
        content::DIGEST_AGE_MAX.as_secs(),
    ),
    (
        "dragonfly_versions_limit",
        "Versions that may replace one another under a download.",
        download::RESTARTS_MAX as u64,
    ),
    ("dragonfly_engine_events_limit", "Events of lanes, disk and origins that may wait.", engine::EVENTS_MAX as u64),
];

/// How many entries [`Peer::list`] gives at a time at most.
const LIST_MAX: usize = 1000;

/// The Peer engine of a node: it downloads, stores, and serves what it holds to its neighbours.
///
/// A cheap handle. The engine stops when the last handle, [`Download`] and [`Reader`] are gone;
/// [`Peer::shutdown`] stops it in order.
#[derive(Clone, Debug)]
pub struct Peer {
    engine: Engine,
}

/// Starts a [`Peer`].
#[derive(Debug)]
#[must_use = "a builder does nothing until it is started"]
pub struct PeerBuilder {
    node: Node,
}

/// A task as the store holds it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TaskInfo {
    /// The task.
    pub task: TaskId,
    /// The version of its content.
    pub generation: Generation,
    /// Its URL without anything secret.
    pub label: String,
    /// Its length in bytes.
    pub length: u64,
    /// Bytes of it that are held and proven.
    pub bytes_held: u64,
    /// Whether every piece is held.
    pub complete: bool,
    /// Whether it is kept whatever the quota says.
    pub pinned: bool,
    /// Hosts that its pieces are exchanged with now.
    pub neighbours: u32,
    /// Whether its id must not be shown to others: who knows it may ask for the content.
    pub private: bool,
}

impl Peer {
    /// A peer on `node`.
    pub fn builder(node: &Node) -> PeerBuilder {
        PeerBuilder { node: node.clone() }
    }

    pub(crate) fn of(engine: Engine) -> Self {
        Self { engine }
    }

    /// Where it runs.
    #[cfg(feature = "gateway")]
    pub(crate) fn node(&self) -> &Node {
        self.engine.node()
    }

    /// Fetches content: into the store and, if the request names one, to an output that appears under its name
    /// only when it is complete and verified. Several fetches of one task share it.
    pub fn fetch(&self, request: Request) -> Download {
        Download::start(self.engine.clone(), request)
    }

    /// Opens content as a stream of proven bytes, before it is complete. Cancel-safe.
    ///
    /// # Errors
    /// The request is malformed, or the content cannot be had.
    pub async fn open(&self, request: Request) -> Result<Reader> {
        let mut request = resolve::held(self.engine.node(), request)?;
        request.output = None;
        let bound = request.timeout;
        let opening = async {
            let mut want = self.engine.want(&request).await?;
            request.was_asked = true;
            let digest = request.digest.clone();
            // The download checks the whole.
            let download = self.fetch(request);
            let (content, _) = want.content().await?;
            Ok(Reader::new(self.engine.clone(), content, download, (want, digest)))
        };
        match bound {
            None => opening.await,
            Some(bound) => tokio::time::timeout(bound, opening).await.unwrap_or_else(|_| {
                Err(Error::new(ErrorKind::Timeout, format!("no content after {bound:?}")).temporary(true))
            }),
        }
    }

    /// The id of the task that a request names.
    ///
    /// # Errors
    /// The request is malformed.
    pub fn task_id(&self, request: &Request) -> Result<TaskId> {
        let node = self.engine.node();
        Ok(resolve::resolve(node, &resolve::held(node, request.clone())?)?.info.task)
    }

    /// What the store holds of a task, the newest version first; empty if nothing. Cancel-safe.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn stat(&self, task: TaskId) -> Result<Vec<TaskInfo>> {
        let neighbours = self.engine.neighbours(task).await;
        let keys = self.keys(task).await?;
        let node = self.engine.node();
        let store = Arc::clone(node.store());
        let listed = node.io().run(move || keys.iter().filter_map(|key| store.info(key)).collect::<Vec<_>>()).await?;
        Ok(listed.iter().map(|entry| TaskInfo { neighbours, ..info(entry) }).collect())
    }

    /// What the store holds, in the order of ids, from after one that was listed before; at most `max` (and at
    /// most 1000) at a time. Cancel-safe.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn list(&self, after: Option<(TaskId, Generation)>, max: usize) -> Result<Vec<TaskInfo>> {
        let node = self.engine.node();
        let store = Arc::clone(node.store());
        let max = max.min(LIST_MAX);
        let after = match after {
            None => None,
            Some((task, generation)) => {
                let known = self.keys(task).await?.into_iter().find(|key| key.generation == generation);
                let (network, tenant) = (node.network(), node.claims().tenant.clone());
                // One that has gone since has its place in the order still.
                Some(known.unwrap_or(EntryKey { network, tenant, task, class: Class::Public, generation }))
            }
        };
        let listed = node.io().run(move || store.list(after.as_ref(), max)).await?;
        Ok(listed.iter().map(info).collect())
    }

    /// The tasks that take part in the swarm now: being fetched, or served. Cancel-safe.
    ///
    /// # Errors
    /// The engine has stopped.
    pub async fn active(&self) -> Result<Vec<ActiveTask>> {
        self.engine.active_tasks().await
    }

    /// The hosts that pieces are, or were, exchanged with. Cancel-safe.
    ///
    /// # Errors
    /// The engine has stopped.
    pub async fn neighbours(&self) -> Result<Vec<NeighbourInfo>> {
        self.engine.neighbour_infos().await
    }

    /// Removes a task from the store; how many bytes that freed. Cancel-safe: what was begun is finished.
    ///
    /// # Errors
    /// The task is being downloaded, read or served.
    pub async fn remove(&self, task: TaskId) -> Result<u64> {
        self.engine.release(task).await?;
        let keys = self.keys(task).await?;
        let node = self.engine.node();
        let store = Arc::clone(node.store());
        let removed = move || {
            let before = store.usage().bytes;
            keys.iter().try_for_each(|key| store.remove(key).map(drop))?;
            Ok::<_, Error>(before.saturating_sub(store.usage().bytes))
        };
        node.io().run(removed).await?
    }

    /// Keeps a task whatever the quota says, or no longer. Cancel-safe.
    ///
    /// # Errors
    /// The store holds nothing of the task.
    pub async fn pin(&self, task: TaskId, pinned: bool) -> Result<()> {
        let keys = self.keys(task).await?;
        let store = Arc::clone(self.engine.node().store());
        let pinned = move || keys.iter().filter(|key| store.set_pinned(key, pinned)).count();
        match self.engine.node().io().run(pinned).await? {
            0 => Err(Error::new(ErrorKind::NotFound, format!("the store holds nothing of the task {task}"))),
            _ => Ok(()),
        }
    }

    /// Prepares for a stop: leases on origins are given back, and no more are taken for others, so that other hosts go
    /// on at once. What is held is served on. It cannot be undone. Idempotent, cancel-safe.
    ///
    /// # Errors
    /// The engine has stopped.
    pub async fn give_back_leases(&self, whose: LeasesOf) -> Result<()> {
        self.engine.drain(whose).await
    }

    /// How many pieces neighbours want that, as far as is known, only this host has: if it stops now, they leave
    /// their origins once more. Cancel-safe.
    ///
    /// # Errors
    /// The engine has stopped.
    pub async fn owed(&self) -> Result<u64> {
        self.engine.owed().await
    }

    /// Stops the engine: downloads end with [`ErrorKind::Cancelled`], leases are given back, what is held is
    /// flushed. Idempotent.
    ///
    /// # Errors
    /// The store cannot be flushed.
    pub async fn shutdown(&self) -> Result<()> {
        self.engine.shutdown().await;
        let node = self.engine.node();
        let store = Arc::clone(node.store());
        Ok(node.io().run(move || store.flush()).await??)
    }

    async fn keys(&self, task: TaskId) -> Result<Vec<EntryKey>> {
        let node = self.engine.node();
        let (store, network) = (Arc::clone(node.store()), node.network());
        let tenant = node.claims().tenant.clone();
        let find = move || store.find(&network, &tenant, &task).iter().map(|entry| entry.key().clone()).collect();
        node.io().run(find).await
    }
}

impl PeerBuilder {
    /// Starts it. A node has one engine: a peer and a seed on it share store and lanes.
    ///
    /// # Errors
    /// The node's credential lacks the peer's role.
    pub async fn start(self) -> Result<Peer> {
        if !self.node.claims().roles.contains(crate::trust::Roles::PEER) {
            let context = "this node's token does not carry the peer's role: ask for one that does";
            return Err(Error::new(ErrorKind::Config, context));
        }
        Ok(Peer { engine: Engine::of(&self.node) })
    }
}

fn info(entry: &EntryInfo) -> TaskInfo {
    TaskInfo {
        task: entry.key.task,
        generation: entry.key.generation,
        label: entry.label.clone(),
        length: entry.length,
        bytes_held: entry.held,
        complete: entry.held == entry.length,
        pinned: entry.pinned,
        neighbours: 0,
        private: matches!(entry.key.class, Class::Keyed | Class::Reauth),
    }
}
