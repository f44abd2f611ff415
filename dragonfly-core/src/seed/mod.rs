//! The Seed engine: a peer that is allowed and expected to go to the origin, and that is preheated.
//!
//! It is the Peer engine of its node plus a policy: which tasks it takes part in when a scheduler asks. What a seed
//! may reach is decided by the node's guard, as for every fetch that no local user asked for.

mod quota;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::{Semaphore, mpsc};

use self::quota::Quota;
use crate::node::{Node, PeerRequest, SharedTriggers, Triggers};
use crate::peer::{Download, Engine, Peer, Request, resolve_trigger};
use crate::trust::Roles;
use crate::wire::PeerId;
use crate::wire::control::TaskInfo;
use crate::{Error, ErrorKind, Result};

/// How many triggered tasks are under way at a time: half of what a host takes part in. How many of them are asked for
/// at their origins at a time is the node's to bound; those that wait for that keep their leases, while one that waits
/// here would be given to somebody else.
pub(crate) const TASKS_MAX: usize = 1024;

/// Tasks and bytes that one member may have it fetch in an hour, unless the builder says otherwise: more than a
/// fleet asks for, less than fills a link for a day.
pub(crate) const QUOTA_TASKS: u64 = 10_000;
pub(crate) const QUOTA_BYTES: u64 = 1 << 40;

/// The Seed engine of a node. A cheap handle, as [`Peer`] is.
#[derive(Clone, Debug)]
pub struct Seed {
    peer: Peer,
}

/// Starts a [`Seed`].
#[derive(Debug)]
#[must_use = "a builder does nothing until it is started"]
pub struct SeedBuilder {
    node: Node,
    quota: (u64, u64),
}

impl Seed {
    /// A seed on `node`.
    pub fn builder(node: &Node) -> SeedBuilder {
        SeedBuilder { node: node.clone(), quota: (QUOTA_TASKS, QUOTA_BYTES) }
    }

    /// Fetches content before anyone asks for it, and keeps it to be served.
    pub fn preheat(&self, request: Request) -> Download {
        self.peer.fetch(request)
    }

    /// The peer that it is.
    pub const fn peer(&self) -> &Peer {
        &self.peer
    }

    /// Stops the engine. Idempotent; see [`Peer::shutdown`].
    ///
    /// # Errors
    /// The store cannot be flushed.
    pub async fn shutdown(&self) -> Result<()> {
        self.peer.shutdown().await
    }
}

impl SeedBuilder {
    /// How many tasks, and how many bytes, each member may have it fetch in an hour (default: 10 000 and 1 TiB).
    /// What a local caller preheats is not counted.
    pub const fn quota(mut self, tasks: u64, bytes: u64) -> Self {
        self.quota = (tasks, bytes);
        self
    }

    /// Starts it. On a node that is to be both, the seed is started before the peer: hosts announce what they are
    /// when the engine starts.
    ///
    /// # Errors
    /// The node's credential lacks the seed's role, or its peer was started before.
    pub async fn start(self) -> Result<Seed> {
        let node = self.node;
        if !node.claims().roles.contains(Roles::SEED) {
            let context = "this node's token does not carry the seed's role: ask for one that does";
            return Err(Error::new(ErrorKind::Config, context));
        }
        if Engine::runs_on(&node) && !node.acts_as_seed() {
            return Err(Error::new(ErrorKind::Config, "start the seed of a node before its peer"));
        }
        let triggers = SharedTriggers::default();
        let (bell, rung) = mpsc::channel(1);
        node.become_seed(Arc::clone(&triggers), bell);
        let engine = Engine::of(&node);
        let quota = Quota::new(self.quota.0, self.quota.1);
        node.spawn(obey(engine.downgrade(), triggers, rung, quota));
        Ok(Seed { peer: Peer::of(engine) })
    }
}

/// Takes part in the tasks that schedulers name, for as long as the engine runs. It holds neither engine nor node
/// while it waits: the node has the bell.
async fn obey(engine: crate::peer::WeakEngine, triggers: SharedTriggers, mut bell: mpsc::Receiver<()>, quota: Quota) {
    let places = Arc::new(Semaphore::new(TASKS_MAX));
    let (quota, started) = (Arc::new(Mutex::new(quota)), Instant::now());
    loop {
        // What comes while there is no place waits in the queue, where members take turns.
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let Some((member, info)) = next(&triggers, &mut bell).await else { return };
        let Some(engine) = engine.upgrade() else { return };
        let resolved = match resolve_trigger(engine.node(), &info) {
            Ok(resolved) => resolved,
            Err(error) => {
                tracing::warn!(task = ?info.task, error = ?error, "a scheduler asks for what this seed does not fetch");
                continue;
            }
        };
        let fetch = PeerRequest::Fetch { task: info.task, label: resolved.label() };
        if !engine.node().rules().admit_request(&fetch) {
            tracing::info!(task = ?info.task, "the embedder's policy refuses what a scheduler asks for");
            continue;
        }
        if !lock(&quota).admit(started.elapsed(), member) {
            tracing::warn!(%member, task = ?info.task, "a member asks for more than it may have fetched in an hour");
            continue;
        }
        let (node, quota) = (engine.node().clone(), Arc::clone(&quota));
        node.metrics().seed_tasks.add(1);
        node.spawn(async move {
            match engine.hold(resolved).await {
                Ok(from_origin) => lock(&quota).charge(started.elapsed(), member, from_origin),
                Err(error) => {
                    tracing::info!(task = ?info.task, error = ?error, "a triggered task was not completed");
                }
            }
            engine.node().metrics().seed_tasks.sub(1);
            drop(place);
        });
    }
}

/// The next trigger; `None` once the node is gone.
async fn next(triggers: &Mutex<Triggers>, bell: &mut mpsc::Receiver<()>) -> Option<(PeerId, TaskInfo)> {
    loop {
        if let Some(next) = lock(triggers).pop() {
            return Some(next);
        }
        bell.recv().await?;
    }
}

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}
