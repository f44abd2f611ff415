//! The handle of the Peer engine, and what callers ask of it.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::actor::Actor;
use super::content::{Content, Counts, State, Told};
use super::download::{STALLED_MAX, stalled};
use super::event::{Command, Event, NewWant, Scope, WantId, WantStatus};
use super::tasks::eighths;
use super::{ActiveTask, LeasesOf, NeighbourInfo, Request, reauth, resolve};
use crate::node::{Node, Permit, unless_silent};
use crate::scheduler::Coordinator;
use crate::swarm::TaskKey;
use crate::task::{Class, Digest, PieceIndex, TaskId};
use crate::wire::control::Held;
use crate::{Error, ErrorKind, Result};

/// How many events may wait for the engine's task. Who sends more waits.
pub(super) const EVENTS_MAX: usize = 4096;

/// The priority of tasks that a seed takes part in because others want them.
const SEED_PRIORITY: u8 = 4;

/// A cheap handle of the engine's one task. The task stops when the last handle is dropped.
#[derive(Clone)]
pub(crate) struct Engine(Arc<Inner>);

/// A handle of an engine that does not keep it alive.
pub(crate) struct WeakEngine(Weak<Inner>);

impl WeakEngine {
    pub(crate) fn upgrade(&self) -> Option<Engine> {
        self.0.upgrade().map(Engine)
    }
}

struct Inner {
    node: Node,
    events: mpsc::Sender<Event>,
    wants: AtomicU64,
    /// Held by who has the store keep content: the next one finds it kept, most of the time.
    keeping: Arc<tokio::sync::Mutex<()>>,
    stopped: CancellationToken,
    _stop: DropGuard,
}

impl Engine {
    /// The engine of a node, started if it does not run.
    pub(crate) fn of(node: &Node) -> Self {
        // Before the lock on what the node shares: making one thing must not ask for another.
        let coordinator = Coordinator::of(node);
        Self(node.shared(|| {
            let (events, queue) = mpsc::channel(EVENTS_MAX);
            let (stop, stopped) = (CancellationToken::new(), CancellationToken::new());
            let actor = Actor::new(node.clone(), coordinator, events.clone(), stop.clone());
            let ended = stopped.clone();
            node.spawn(async move {
                actor.run(queue).await;
                ended.cancel();
            });
            let wants = AtomicU64::new(0);
            let keeping = Arc::default();
            Arc::new(Inner { node: node.clone(), events, wants, keeping, stopped, _stop: stop.drop_guard() })
        }))
    }

    /// Whether the engine of a node runs.
    pub(crate) fn runs_on(node: &Node) -> bool {
        node.has_shared::<Inner>()
    }

    /// A handle that does not keep the engine alive.
    pub(crate) fn downgrade(&self) -> WeakEngine {
        WeakEngine(Arc::downgrade(&self.0))
    }

    /// Takes part in a task until every piece of it is held. How many bytes this host took from the origin for it.
    ///
    /// # Errors
    /// Why it cannot be completed.
    pub(crate) async fn hold(&self, resolved: resolve::Resolved) -> Result<u64> {
        let mut want = self.want_resolved(resolved, None, false, SEED_PRIORITY, true).await?;
        loop {
            let (content, before) = want.content().await?;
            let mut state = content.watch();
            loop {
                let now = state.borrow_and_update().clone();
                match now {
                    State::Complete => return Ok(content.counts().since(before).from_origin),
                    State::Failed(error) => return Err(error),
                    State::Superseded => break,
                    State::Running(_) => {}
                }
                tokio::select! {
                    changed = state.changed() => changed.map_err(|_| stopped())?,
                    // What it holds a place for comes to nothing.
                    () = content.arrivals.ceased(STALLED_MAX) => return Err(stalled(&content)),
                    error = want.failed() => return Err(error),
                }
            }
        }
    }

    pub(crate) fn node(&self) -> &Node {
        &self.0.node
    }

    /// Has its task handle an event, and waits until it has.
    #[cfg(test)]
    pub(super) async fn handled(&self, event: super::event::Event) {
        let _ = self.0.events.send(event).await;
        let _ = self.active_tasks().await;
    }

    /// Has the store keep what is held of content over a kill of this process. Where it cannot be, the store says so by
    /// itself, and what is held is of use in this process all the same.
    pub(super) async fn keep(&self, content: &Content) -> Result<()> {
        if content.entry.is_kept() {
            return Ok(());
        }
        // Who waits here keeps none of the threads for the disk from others, also while one does nothing any more. Nearly all who
        // wait are kept with the first.
        // Whoever has the lock is at it for as long as the index takes to write; what others do says nothing of that.
        let one = match unless_silent(Arc::clone(&self.0.keeping).lock_owned(), || ()).await {
            Ok(one) => one,
            Err(error) => {
                unkept(content, &error);
                return Ok(());
            }
        };
        if content.entry.is_kept() {
            return Ok(());
        }
        let entry = Arc::clone(&content.entry);
        let kept = self.node().io().run(move || {
            let _one = one;
            entry.keep()
        });
        match kept.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => unkept(content, &error),
            // It is here all the same; what else is wanted of the disk says so itself.
            Err(error) if error.is_temporary() => unkept(content, &error),
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Whether there is nobody whose word this host would have to take.
    pub(super) fn is_alone(&self) -> bool {
        self.node().is_alone()
    }

    async fn command(&self, command: Command) -> Result<()> {
        self.0.events.send(Event::Command(command)).await.map_err(|_| stopped())
    }

    /// Declares interest in a task. The interest is withdrawn when the [`Want`] is dropped.
    pub(super) async fn want(&self, request: &Request) -> Result<Want> {
        let resolved = resolve::resolve(self.node(), request)?;
        if request.insecure {
            tracing::warn!(url = resolved.label, "as asked, the certificate of this origin is not checked");
        }
        let mut permitted = None;
        if resolved.scope.class == Class::Reauth {
            let access = resolved.access.as_ref();
            permitted = reauth::check(self.node(), access, &resolved.label, request.stale_ok).await?;
        } else if resolved.is_own && !request.was_asked && self.holds_any_of(&resolved).await? {
            // What this host read as itself it may not be let read any more. What is not held the origin is asked for
            // anyway.
            let permit = reauth::check(self.node(), resolved.access.as_ref(), &resolved.label, false).await?;
            // Other content may be another one by now, which the origin is asked about anyway.
            permitted = permit.filter(|_| resolved.scope.fixed);
        }
        let mut want = self.want_resolved(resolved, request.age_max, request.stale_ok, request.priority, false).await?;
        (want.permitted, want.wanted_length) = (permitted, request.length);
        Ok(want)
    }

    pub(super) async fn want_resolved(
        &self,
        resolved: resolve::Resolved,
        age_max: Option<std::time::Duration>,
        stale_ok: bool,
        priority: u8,
        for_others: bool,
    ) -> Result<Want> {
        let id = WantId(self.0.wants.fetch_add(1, Ordering::Relaxed));
        let (status, watch) = watch::channel(WantStatus::Resolving);
        let task = resolved.info.task;
        let held = self.held_before(task, &resolved.scope).await?;
        let want = NewWant {
            id,
            held,
            info: resolved.info,
            label: resolved.label,
            scope: resolved.scope,
            access: resolved.access,
            age_max_ms: age_max.map(|age| age.as_millis().try_into().unwrap_or(u64::MAX)),
            stale_ok,
            priority,
            for_others,
            status,
        };
        self.command(Command::Want(want)).await?;
        Ok(Want { engine: self.clone(), task, id, status: watch, seen: None, permitted: None, wanted_length: None })
    }

    /// Whether the store holds anything of a task.
    async fn holds_any_of(&self, resolved: &resolve::Resolved) -> Result<bool> {
        let node = self.node();
        let (store, network, scope, task) =
            (Arc::clone(node.store()), node.network(), resolved.scope.clone(), resolved.info.task);
        let find = move || store.find(&network, &scope.tenant, &task).iter().any(|e| e.key().class == scope.class);
        node.io().run(find).await
    }

    /// The newest generation that the store holds pieces of, from an earlier run or from before the task was let go
    /// of: with its validator the origin can say that it is still current, instead of sending its start again.
    async fn held_before(&self, task: TaskId, scope: &Scope) -> Result<Option<Held>> {
        let node = self.node();
        let (store, network) = (Arc::clone(node.store()), node.network());
        let scope = scope.clone();
        let find = move || {
            let found = store.find(&network, &scope.tenant, &task);
            let newest = found.into_iter().find(|entry| entry.key().class == scope.class)?;
            let (have, described) = (newest.have(), newest.described());
            // Without a validator nobody can say that it is current, unless it cannot change.
            (described.fixed || described.validator.is_some()).then_some(())?;
            Some(Held {
                generation: newest.key().generation,
                length: described.layout.length(),
                piece_length: described.layout.piece_length(),
                validator: described.validator.clone(),
                splittable: described.splittable,
                eighths: eighths(&have),
                live: false,
                fetching: Vec::new(),
            })
        };
        node.io().run(find).await
    }

    /// Tells where a reader is: these pieces come first.
    pub(super) async fn window(&self, task: TaskKey, pieces: Range<PieceIndex>) {
        let _ = self.command(Command::Window { task, pieces }).await;
    }

    /// Shuns those who signed something else than what `content` is, which came from the origin and has this root.
    pub(super) async fn blame_liars(&self, content: &Content, root: &Digest, told: &Told) {
        let peers = told.liars(content, root.bytes());
        if !peers.is_empty() {
            let why = format!("what it signed of {:?} is not what the origin sends", content.task);
            let _ = self.command(Command::Blame { peers, why }).await;
        }
    }

    /// Forgets content that others attested and that does not have the caller's digest. The task is this host's own
    /// from now on: it takes the content from the origin itself.
    pub(super) async fn distrust(&self, content: &Content) {
        let (done, wait) = oneshot::channel();
        let (task, generation) = (content.task, content.generation);
        if self.command(Command::Distrust { task, generation, done }).await.is_ok() {
            let _ = wait.await;
        }
    }

    /// Forgets content that is not what it should be.
    pub(super) async fn discard(&self, content: &Content) {
        let (done, wait) = oneshot::channel();
        let (task, generation) = (content.task, content.generation);
        if self.command(Command::Discard { task, generation, done }).await.is_ok() {
            let _ = wait.await;
        }
    }

    /// Neighbours with which the task's pieces are exchanged.
    pub(super) async fn neighbours(&self, task: TaskId) -> u32 {
        let (reply, answer) = oneshot::channel();
        match self.command(Command::Neighbours { task, reply }).await {
            Ok(()) => answer.await.unwrap_or(0),
            Err(_) => 0,
        }
    }

    /// The tasks that take part now.
    pub(super) async fn active_tasks(&self) -> Result<Vec<ActiveTask>> {
        let (reply, answer) = oneshot::channel();
        self.command(Command::ActiveTasks { reply }).await?;
        answer.await.map_err(|_| stopped())
    }

    /// The hosts that are met.
    pub(super) async fn neighbour_infos(&self) -> Result<Vec<NeighbourInfo>> {
        let (reply, answer) = oneshot::channel();
        self.command(Command::NeighbourInfos { reply }).await?;
        answer.await.map_err(|_| stopped())
    }

    /// Lets go of a task so that the store may remove it; refused while somebody wants it.
    pub(super) async fn release(&self, task: TaskId) -> Result<()> {
        let (done, wait) = oneshot::channel();
        self.command(Command::Release { task, done }).await?;
        wait.await.map_err(|_| stopped())?
    }

    /// Gives leases back, and takes no more for others.
    pub(super) async fn drain(&self, whose: LeasesOf) -> Result<()> {
        let (done, wait) = oneshot::channel();
        self.command(Command::Drain { whose, done }).await?;
        wait.await.map_err(|_| stopped())
    }

    /// Pieces that neighbours want and that only this host has.
    pub(super) async fn owed(&self) -> Result<u64> {
        let (reply, answer) = oneshot::channel();
        self.command(Command::Owed { reply }).await?;
        answer.await.map_err(|_| stopped())
    }

    /// Stops the engine: lanes and sessions are closed, leases given back. Idempotent.
    pub(crate) async fn shutdown(&self) {
        let (done, wait) = oneshot::channel();
        if self.command(Command::Shutdown { done }).await.is_ok() {
            let _ = wait.await;
        }
        self.0.stopped.cancelled().await;
    }
}

pub(super) fn stopped() -> Error {
    Error::new(ErrorKind::Cancelled, "the peer engine has stopped")
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Engine")
    }
}

/// One caller's interest in a task; dropping it withdraws it.
#[derive(Debug)]
pub(super) struct Want {
    engine: Engine,
    pub(super) task: TaskId,
    id: WantId,
    status: watch::Receiver<WantStatus>,
    /// The content that was told last. A generation may take part anew, with content of its own.
    seen: Option<TaskKey>,
    /// What the origin gives this caller, where it was asked.
    permitted: Option<Permit>,
    /// How many bytes the caller says that there are.
    wanted_length: Option<u64>,
}

impl Want {
    /// The task's content now, once it is known, with what had come before this want; after that, the content that
    /// takes its place. Cancel-safe.
    pub(super) async fn content(&mut self) -> Result<(Arc<Content>, Counts)> {
        loop {
            let now = self.status.borrow_and_update().clone();
            match now {
                WantStatus::Failed(error) => return Err(error),
                WantStatus::Content(content, before) if self.seen != Some(content.key) => {
                    let ended = matches!(*content.watch().borrow(), State::Superseded);
                    if !ended {
                        if !self.is_permitted(&content).await? {
                            continue;
                        }
                        let length = content.layout.length();
                        if let Some(wanted) = self.wanted_length.filter(|wanted| *wanted != length) {
                            let context = format!("the content has {length} bytes, and not {wanted} as was said of it");
                            return Err(Error::new(ErrorKind::Origin, context));
                        }
                        self.seen = Some(content.key);
                        return Ok((content, before));
                    }
                }
                WantStatus::Content(..) | WantStatus::Resolving => {}
            }
            self.status.changed().await.map_err(|_| stopped())?;
        }
    }

    /// Whether it is this content that the origin gives this caller; `false`: another one takes its place.
    async fn is_permitted(&mut self, content: &Content) -> Result<bool> {
        let Some(permit) = self.permitted else { return Ok(true) };
        let engine = self.engine.clone();
        let gives = tokio::select! {
            gives = reauth::gives(&engine, content, permit) => gives?,
            error = self.failed() => return Err(error),
        };
        if gives == Some(false) {
            let context = "the origin gives this caller something else under the same URL";
            return Err(Error::new(ErrorKind::Forbidden, context));
        }
        Ok(gives.is_some())
    }

    /// Resolves when the task is found to be impossible although its content is known. Cancel-safe.
    pub(super) async fn failed(&mut self) -> Error {
        loop {
            if let WantStatus::Failed(error) = self.status.borrow_and_update().clone() {
                return error;
            }
            if self.status.changed().await.is_err() {
                return stopped();
            }
        }
    }
}

impl Drop for Want {
    fn drop(&mut self) {
        let (events, task, id) = (self.engine.0.events.clone(), self.task, self.id);
        // A full queue must not lose it, and a destructor cannot wait.
        self.engine.node().spawn(async move {
            let _ = events.send(Event::Command(Command::Unwant { task, id })).await;
        });
    }
}

fn unkept(content: &Content, error: &dyn std::fmt::Display) {
    tracing::debug!(task = ?content.task, %error, "a kill now would cost pieces");
}
