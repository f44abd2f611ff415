//! The engine's one task: it owns the swarm core and everything that only one may change.
//!
//! Events come in through one bounded queue; each is turned into inputs for the core, whose actions are then
//! carried out. Nothing here waits: what takes time (dialling, the store, the origin) runs in tasks of its own and
//! comes back as an event. So there are no locks to order, and what the engine does is a function of the order of
//! its events.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::announce;
use super::authorities::Authorities;
use super::content::{Content, State};
use super::contradicted::Recalls;
use super::event::{Command, Event};
use super::hosts::Hosts;
use super::idle::Idle;
use super::lane::Registry;
use super::leases::Lease;
use super::tasks::Task;
use crate::node::Node;
use crate::scheduler::Coordinator;
use crate::swarm::{self, Input, LeaseKey, Swarm, TaskKey, Time};
use crate::task::{Generation, TaskId};

/// How many queued events are taken before the core's actions are carried out.
const BATCH_MAX: usize = 128;

/// How long an engine that stops waits for what is being written.
const FETCHES_END: Duration = Duration::from_secs(5);

/// How long coordinators may take to be told of the end.
pub(super) const FAREWELL_MAX: Duration = Duration::from_secs(3);

pub(super) struct Actor {
    pub(super) node: Node,
    pub(super) events: mpsc::Sender<Event>,
    pub(super) swarm: Swarm,
    pub(super) tasks: BTreeMap<TaskId, Task>,
    /// The generations that take part in the swarm.
    pub(super) contents: BTreeMap<TaskKey, Arc<Content>>,
    pub(super) registry: Registry,
    /// Those of the tasks that nobody here wants.
    pub(super) idle: Idle,
    pub(super) hosts: Hosts,
    pub(super) authorities: Authorities,
    pub(super) coordinator: Arc<Coordinator>,
    pub(super) private: Coordinator,
    pub(super) leases: HashMap<(TaskKey, LeaseKey), Lease>,
    /// What is under way under leases: waited for at the end, so that all that was written is attested.
    pub(super) fetches: TaskTracker,
    /// The number of the next generation that takes part.
    pub(super) keys: Arc<AtomicU32>,
    pub(super) recalls: Recalls,
    /// Whether this host is to stop soon.
    pub(super) draining: bool,
    started: Instant,
    stop: CancellationToken,
    /// Who waits for the end.
    ending: Vec<oneshot::Sender<()>>,
}

impl Actor {
    pub(super) fn new(
        node: Node,
        coordinator: Arc<Coordinator>,
        events: mpsc::Sender<Event>,
        stop: CancellationToken,
    ) -> Self {
        let slots = usize::from(node.upload_slots());
        let config = swarm::Config { upload_slots: slots, upload: slots > 0, ..swarm::Config::default() };
        Self {
            swarm: Swarm::new(config, node.seed()),
            events,
            tasks: BTreeMap::new(),
            contents: BTreeMap::new(),
            registry: Registry::default(),
            idle: Idle::default(),
            hosts: Hosts::default(),
            authorities: Authorities::default(),
            coordinator,
            private: Coordinator::private(&node),
            leases: HashMap::new(),
            fetches: TaskTracker::new(),
            node,
            keys: Arc::default(),
            recalls: Recalls::default(),
            draining: false,
            started: Instant::now(),
            stop,
            ending: Vec::new(),
        }
    }

    pub(super) async fn run(mut self, mut queue: mpsc::Receiver<Event>) {
        let lanes = self.accept_lanes();
        let mut evicted = self.watch_evictions();
        self.start_authorities();
        self.watch_links();
        self.announce_held();
        let mut batch = Vec::with_capacity(BATCH_MAX);
        loop {
            let deadline = self.swarm.next_deadline();
            let stop = self.stop.clone();
            let due = async {
                match deadline {
                    None => std::future::pending().await,
                    Some(deadline) => tokio::time::sleep_until((self.started + deadline.0).into()).await,
                }
            };
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                count = queue.recv_many(&mut batch, BATCH_MAX) => {
                    if count == 0 {
                        break;
                    }
                    for event in batch.drain(..) {
                        self.handle(event);
                    }
                }
                Some((task, generation)) = evicted.recv() => self.evicted(task, generation),
                () = due => self.input(Input::Deadline),
            }
            self.carry_out();
            if !self.ending.is_empty() {
                break;
            }
        }
        lanes.abort();
        let fetches = self.fetches.clone();
        fetches.close();
        let said = tokio::time::timeout(FAREWELL_MAX, self.close());
        let written = tokio::time::timeout(FETCHES_END, fetches.wait());
        let remembered = self.remember();
        let mut over = std::pin::pin!(async { tokio::join!(said, written, remembered) });
        loop {
            tokio::select! {
                (said, written, ()) = &mut over => {
                    if said.is_err() {
                        tracing::warn!("a coordinator takes nothing: it will miss the leases that are given back");
                    }
                    if written.is_err() {
                        tracing::debug!("a fetch from an origin did not end in time");
                    }
                    break;
                }
                // Nothing counts any more, but nobody may wait for the queue.
                Some(_) = queue.recv() => {}
            }
        }
        for done in self.ending.drain(..) {
            let _ = done.send(());
        }
    }

    /// Takes in the lanes that neighbours open.
    fn accept_lanes(&self) -> tokio::task::JoinHandle<()> {
        let (node, events) = (self.node.clone(), self.events.clone());
        self.node.spawn(async move {
            while let Some(incoming) = node.next_lane().await {
                if events.send(Event::IncomingLane(incoming)).await.is_err() {
                    return;
                }
            }
        })
    }

    /// What was held before the start is offered again, where there is anybody to offer it to.
    fn announce_held(&self) {
        if !self.node.is_alone() && self.node.upload_slots() > 0 {
            self.node.spawn(announce::run(self.node.clone(), Arc::clone(&self.keys), self.events.clone()));
        }
    }

    /// Has the store tell what it evicts of what takes part in the swarm. That bounds the queue: each of these goes
    /// once.
    fn watch_evictions(&self) -> mpsc::UnboundedReceiver<(TaskId, Generation)> {
        let (sender, queue) = mpsc::unbounded_channel();
        // Contents hold their entries, and these the store that is given this: it must not hold them in turn.
        let registry = self.registry.downgrade();
        self.node.store().on_evicted(Box::new(move |key| {
            if registry.contains(key.task, key.generation) {
                // An engine that has stopped serves nothing.
                let _ = sender.send((key.task, key.generation));
            }
        }));
        queue
    }

    /// Gives back what is held for others: leases, sessions, lanes. Resolves once the coordinators were told.
    fn close(&mut self) -> impl Future<Output = ()> + use<> {
        for (key, lease) in self.leases.keys().copied().collect::<Vec<_>>() {
            self.give_up(key, lease);
        }
        let tasks: Vec<TaskId> = self.tasks.keys().copied().collect();
        for task in tasks {
            self.leave(task);
        }
        for content in self.contents.values() {
            content.end(State::Failed(crate::Error::new(crate::ErrorKind::Cancelled, "the peer engine has stopped")));
        }
        self.farewell()
    }

    pub(super) fn input(&mut self, input: Input) {
        self.swarm.handle(Time(self.started.elapsed()), input);
    }

    /// Sends an event to this very task from a task of its own.
    pub(super) fn spawn_event(&self, work: impl Future<Output = Event> + Send + 'static) {
        let events = self.events.clone();
        self.node.spawn(async move {
            let _ = events.send(work.await).await;
        });
    }

    fn handle(&mut self, event: Event) {
        tracing::trace!(?event);
        match event {
            Event::Activated { task, key, outcome } => self.activated(task, key, outcome),
            Event::Authority { id, event } => self.authority(id, event),
            Event::Command(command) => self.command(command),
            Event::Described { task, lease, outcome } => self.described(task, lease, outcome),
            Event::Dialled { host, peer, outcome } => self.dialled(host, peer, outcome),
            Event::Found(found) => self.found(found),
            Event::Held(held) => self.held(*held),
            Event::IncomingLane(incoming) => self.incoming_lane(incoming),
            Event::Input(input) => self.input(input),
            Event::Lane { host, peer, lane, event } => self.lane((host, peer), lane, event),
            Event::LeaseEnded { task, lease, end, outcome } => self.lease_ended(task, lease, end, outcome),
            Event::RecallDue => self.recall_due(),
            Event::Recalled { tasks } => self.recalled(&tasks),
            Event::SpareOver { task } => self.spare_over(task),
            Event::Contradicted { task, signers } => self.contradicted(task, &signers),
            Event::LeaseProgress { task, lease, end } => self.lease_progress(task, lease, end),
            Event::Reassess => self.reassess_due(),
            Event::SeekOver { task, number } => self.seek_over(task, number),
            Event::AnswerDue { task } => self.answer_due(task),
            Event::Spooling { task, lease } => self.spooling(task, lease),
            Event::SpoolFailed { task, error } => self.spool_failed(task, &error),
            Event::StoreFailed { task, error } => self.store_failed(task, error),
        }
    }

    fn command(&mut self, command: Command) {
        match command {
            Command::ActiveTasks { reply } => drop(reply.send(self.active_tasks())),
            Command::Discard { task, generation, done } => self.discard(task, generation, done),
            Command::Blame { peers, why } => peers.into_iter().for_each(|peer| self.blame_peer(peer, &why)),
            Command::Drain { whose, done } => {
                self.drain(whose);
                let _ = done.send(());
            }
            Command::Distrust { task, generation, done } => self.distrust(task, generation, done),
            Command::Neighbours { task, reply } => {
                let key = self.tasks.get(&task).and_then(|task| task.current);
                let count = key.map_or(0, |key| self.swarm.neighbours(key).count());
                let _ = reply.send(count as u32);
            }
            Command::NeighbourInfos { reply } => drop(reply.send(self.neighbour_infos())),
            Command::Owed { reply } => drop(reply.send(self.owed())),
            Command::Release { task, done } => {
                let _ = done.send(self.release(task));
            }
            Command::Shutdown { done } => self.ending.push(done),
            Command::Unwant { task, id } => self.unwant(task, id),
            Command::Want(want) => self.want(want),
            Command::Window { task, pieces } => self.input(Input::Window { task, pieces }),
        }
    }
}
