//! What the engines of one host share: identity and membership, the libp2p host, the store, the sources, disk
//! threads, limits and metrics.
//!
//! Engines (`peer`, `seed`, the scheduler's shell) are started on a [`Node`]; it knows none of them. It owns every
//! task that it spawns for them and the accept queues of the two protocols between hosts. No global state: several
//! nodes can live in one process.

mod admission;
mod bounds;
mod buffers;
mod builder;
mod contradicted;
mod descriptors;
mod directory;
mod framed;
mod io;
mod metrics;
mod outbox;
mod parts;
mod permits;
mod policy;
mod preset;
mod rate;
mod triggers;

use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use futures::{Stream, StreamExt as _};
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, broadcast, mpsc};
use tokio::task::JoinHandle;

#[cfg(all(test, feature = "gateway"))]
pub(crate) use bounds::tests::documented;
use buffers::Buffers;
pub use builder::{NodeBuilder, TokenOptions};
use contradicted::Remembered;
pub(crate) use directory::Directory;
pub(crate) use framed::{
    CONTROL_PROTOCOL, ControlReader, FRAME_MAX, LANE_PROTOCOL, in_time, in_whole, read_frame, write_control,
    write_frame,
};
pub(crate) use io::{IoPool, Room, unless_silent};
use metrics::Bounds;
pub(crate) use metrics::Metrics;
pub use metrics::{Metric, MetricKind};
#[cfg(feature = "gateway")]
pub(crate) use metrics::{Number, text as metrics_text};
pub(crate) use outbox::{Frames, NotTaken, Outbox};
pub(crate) use parts::{Part, Parts};
#[cfg(feature = "gateway")]
pub(crate) use permits::PERMIT_MAX;
pub(crate) use permits::{Asker, BEGIN_BYTES, Begins, Permit, Permits, is_public};
pub(crate) use policy::Rules;
pub use policy::{PeerRequest, Policy};
pub use preset::Preset;
pub use rate::RateLimits;
pub(crate) use rate::Throttles;
use triggers::{NoRoom, TRIGGERS_MAX};
pub(crate) use triggers::{SharedTriggers, Triggers};

use crate::net::{Host, Incoming, PeerEvent};
use crate::source::Registry;
use crate::store::{SPOOLS_MAX, Store};
use crate::trust::{self, Claims, Coordinators, Identity, Membership, OriginTrust, Roles, Token};
use crate::wire::control::{Neighbour, TaskInfo};
use crate::wire::statement::Signed;
use crate::wire::{Address, PeerId};
use crate::{Error, ErrorKind, Result};

/// How many received bytes may wait to be written, over all lanes. With what the swarm core lets be requested and
/// the queue of disk jobs, this bounds the memory of everything under way.
const WRITE_BUDGET_BYTES: usize = 16 << 20;

/// The unit of the write budget.
const BUDGET_UNIT: usize = 1 << 10;

/// How many requests of this node are out at origins at a time: far more than one origin likes, and each has a
/// socket and a few pieces in memory. More wait, and keep their leases meanwhile.
const ORIGIN_REQUESTS_MAX: usize = 128;

/// How many addresses a token or a record carries.
const ADDRESSES_MAX: usize = trust::ADDRESSES_MAX;

/// A host as a member of its network. A cheap handle; when the last one and every engine on it are gone, its
/// connections and listeners close.
#[derive(Clone)]
pub struct Node(Arc<Inner>);

/// A handle that does not keep the node alive.
pub(crate) struct WeakNode(Weak<Inner>);

impl WeakNode {
    pub(crate) fn upgrade(&self) -> Option<Node> {
        self.0.upgrade().map(Node)
    }
}

struct Inner {
    runtime: Handle,
    identity: Arc<Identity>,
    membership: Arc<Membership>,
    host: Host,
    store: Arc<dyn Store>,
    sources: Arc<Registry>,
    io: IoPool,
    metrics: Arc<Metrics>,
    coordinators: Vec<Vec<Address>>,
    upload_slots: u16,
    site: Option<String>,
    listens: bool,
    discovers: bool,
    rules: Rules,
    control: tokio::sync::Mutex<mpsc::Receiver<Incoming>>,
    lanes: tokio::sync::Mutex<mpsc::Receiver<Incoming>>,
    write_budget: Arc<Semaphore>,
    buffers: Arc<Buffers>,
    parts: Parts,
    origin_slots: Arc<Semaphore>,
    spool_slots: Arc<Semaphore>,
    rates: RateLimits,
    throttles: Throttles,
    permits: Permits,
    contradicted: Remembered,
    connections_max: usize,
    seed: AtomicBool,
    schedules: AtomicBool,
    directory: Mutex<Directory>,
    started: Instant,
    triggers: Mutex<Option<(SharedTriggers, mpsc::Sender<()>)>>,
    /// Bytes that wait to be said on control streams.
    waiting: Arc<AtomicUsize>,
    shared: Mutex<HashMap<TypeId, Weak<dyn Any + Send + Sync>>>,
    numbers: AtomicU64,
}

impl Node {
    /// A node to be configured. As a library it is quiet: without being told so it has no listener and no data
    /// directory.
    pub fn builder() -> NodeBuilder {
        NodeBuilder::default()
    }

    /// Who this host is.
    pub fn peer_id(&self) -> PeerId {
        self.0.identity.peer_id()
    }

    /// Where it listens: addresses that another node can dial, each with `/p2p/PEER` at its end.
    pub fn listeners(&self) -> Vec<Address> {
        self.0.host.listeners()
    }

    /// Where it accepts lanes, the connections that carry pieces.
    pub fn lane_listeners(&self) -> Vec<Address> {
        self.0.host.lane_listeners()
    }

    /// What its credential allows.
    pub fn claims(&self) -> &Claims {
        self.0.membership.claims()
    }

    /// A token with which others join this node's network, with its addresses in it.
    ///
    /// # Errors
    /// More roles are asked for than this node has.
    pub fn token(&self, options: TokenOptions) -> Result<Token> {
        let not_after = options.not_after.map(|at| at.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()));
        // An address without a peer is this host's own.
        let me = self.peer_id();
        let own = |address: Address| if address.peer().is_some() { address } else { address.with_peer(me) };
        let mut addresses: Vec<Address> = options.addresses.into_iter().map(own).collect();
        if addresses.is_empty() {
            addresses = self.listeners();
        }
        if addresses.is_empty() {
            addresses = self.0.coordinators.concat();
        }
        // TCP first: it crosses more middleboxes.
        addresses.sort_by_key(|address| !address.to_string().contains("/tcp/"));
        addresses.truncate(trust::BOOTSTRAP_MAX);
        self.0
            .membership
            .token(options.roles, not_after, addresses)
            .map_err(|e| Error::new(ErrorKind::Config, "cannot make a token").caused_by(e))
    }

    /// Its metrics in the Prometheus text format.
    pub fn metrics_text(&self) -> String {
        metrics::text(&self.metrics_now())
    }

    /// Its metrics as plain values at this moment, for a registry of the embedder's own.
    pub fn metrics_now(&self) -> Vec<Metric> {
        self.0.metrics.members.set(self.directory(|directory, _| directory.len() as u64));
        let bounds = Bounds {
            store: self.0.store.usage(),
            rates: self.0.rates,
            connections: (self.0.host.peers().len(), self.0.connections_max),
            write_bytes: (
                WRITE_BUDGET_BYTES - self.0.write_budget.available_permits() * BUDGET_UNIT,
                WRITE_BUDGET_BYTES,
            ),
            origin_requests: (ORIGIN_REQUESTS_MAX - self.0.origin_slots.available_permits(), ORIGIN_REQUESTS_MAX),
            spools: SPOOLS_MAX - self.0.spool_slots.available_permits(),
            disk_jobs: self.0.io.waiting(),
            parts: self.0.parts.len(),
            lane_connections: self.0.host.lanes_open(),
            coordinators_remembered: self.directory(|directory, _| directory.choices()),
            permits: self.0.permits.len(),
            contradicted: self.0.contradicted.len(),
            triggers: (self.triggers_waiting(), TRIGGERS_MAX),
            control_bytes: (self.0.waiting.load(Ordering::Relaxed), outbox::BYTES_MAX),
            streams_dropped: self.0.host.overflowed(),
        };
        let mut all = self.0.metrics.values(&bounds);
        all.extend(bounds::fixed());
        all
    }

    /// How much its store holds.
    pub fn usage(&self) -> crate::store::Usage {
        self.0.store.usage()
    }

    /// Bounds what it takes from origins and peers together, in bytes a second; `None` is no bound. Takes effect at
    /// once. However low it is, a download that gets bytes goes on.
    pub fn set_download_limit(&self, bytes_per_second: Option<u64>) {
        self.0.throttles.intake.set(bytes_per_second);
    }

    /// Bounds what it sends to peers, in bytes a second; `None` is no bound. Takes effect at once.
    pub fn set_upload_limit(&self, bytes_per_second: Option<u64>) {
        self.0.throttles.upload.set(bytes_per_second);
    }

    /// The members that are connected now, in no order.
    pub fn peers(&self) -> Vec<PeerId> {
        self.0.host.peers()
    }

    /// Members that come and go from now on. Bounded and lossy: a reader that lags far behind misses events and
    /// should look at [`Node::peers`]. The stream ends when the node is shut down or gone.
    pub fn events(&self) -> NodeEvents {
        let state = (self.0.host.events(), Box::pin(self.0.host.ended()));
        let events = futures::stream::unfold(state, |(mut receiver, mut ended)| async move {
            loop {
                let received = tokio::select! {
                    biased;
                    received = receiver.recv() => received,
                    () = &mut ended => return None,
                };
                let event = match received {
                    Ok(PeerEvent::Up(peer)) => NodeEvent::PeerUp(peer),
                    Ok(PeerEvent::Down(peer)) => NodeEvent::PeerDown(peer),
                    Err(broadcast::error::RecvError::Lagged(_)) => continue,
                    Err(broadcast::error::RecvError::Closed) => return None,
                };
                return Some((event, (receiver, ended)));
            }
        });
        NodeEvents { inner: events.boxed() }
    }

    /// Closes listeners and connections and makes the store durable. Shut down the engines on it first: what they
    /// still do fails. Idempotent.
    ///
    /// # Errors
    /// The store cannot be flushed.
    pub async fn shutdown(&self) -> Result<()> {
        self.0.host.clone().shutdown().await;
        let store = Arc::clone(&self.0.store);
        Ok(self.0.io.run(move || store.flush()).await??)
    }

    /// A handle that does not keep it alive.
    pub(crate) fn downgrade(&self) -> WeakNode {
        WeakNode(Arc::downgrade(&self.0))
    }

    pub(crate) fn runtime(&self) -> &Handle {
        &self.0.runtime
    }

    pub(crate) fn spawn<F: Future<Output: Send + 'static> + Send + 'static>(&self, work: F) -> JoinHandle<F::Output> {
        self.0.runtime.spawn(work)
    }

    pub(crate) fn identity(&self) -> &Arc<Identity> {
        &self.0.identity
    }

    pub(crate) fn membership(&self) -> &Arc<Membership> {
        &self.0.membership
    }

    pub(crate) fn network(&self) -> [u8; 32] {
        *self.0.membership.network_id()
    }

    pub(crate) fn host(&self) -> &Host {
        &self.0.host
    }

    pub(crate) fn store(&self) -> &Arc<dyn Store> {
        &self.0.store
    }

    pub(crate) fn sources(&self) -> &Arc<Registry> {
        &self.0.sources
    }

    pub(crate) fn io(&self) -> &IoPool {
        &self.0.io
    }

    pub(crate) fn metrics(&self) -> &Metrics {
        &self.0.metrics
    }

    /// The coordinators that it was told of, each with its addresses.
    pub(crate) fn coordinators(&self) -> Vec<Vec<Address>> {
        self.0.coordinators.clone()
    }

    /// Whose grants count: of schedulers alone where only seeds may say what an origin said.
    pub(crate) fn coordinators_policy(&self) -> Coordinators {
        match self.0.membership.origin_trust() {
            OriginTrust::Seeds => Coordinators::Schedulers,
            OriginTrust::Members => Coordinators::AnyMember,
        }
    }

    /// Whether nobody else can have had a hand in what it fetches.
    pub(crate) fn is_alone(&self) -> bool {
        self.0.coordinators.is_empty() && !self.0.listens && !self.0.discovers
    }

    /// Whether it looks for members on its links.
    pub(crate) fn discovers(&self) -> bool {
        self.0.discovers
    }

    /// The site that its operator named.
    pub(crate) fn site(&self) -> Option<String> {
        self.0.site.clone()
    }

    pub(crate) fn upload_slots(&self) -> u16 {
        self.0.upload_slots
    }

    pub(crate) fn rules(&self) -> &Rules {
        &self.0.rules
    }

    pub(crate) fn acts_as_seed(&self) -> bool {
        self.0.seed.load(Ordering::Acquire)
    }

    /// From now on it acts as a seed. `triggers` gets the tasks that a scheduler wants it to fetch, and who that is;
    /// `bell` rings when there are some.
    pub(crate) fn become_seed(&self, triggers: SharedTriggers, bell: mpsc::Sender<()>) {
        self.0.seed.store(true, Ordering::Release);
        *lock(&self.0.triggers) = Some((triggers, bell));
    }

    pub(crate) fn may_seal(&self) -> bool {
        self.acts_as_seed() && self.claims().roles.contains(Roles::SEED)
    }

    /// Whether a scheduler runs on it.
    pub(crate) fn schedules(&self) -> bool {
        self.0.schedules.load(Ordering::Acquire)
    }

    pub(crate) fn set_schedules(&self, schedules: bool) {
        self.0.schedules.store(schedules, Ordering::Release);
    }

    /// The members that it knows, and the time by which they are kept.
    pub(crate) fn directory<T>(&self, work: impl FnOnce(&mut Directory, Duration) -> T) -> T {
        work(&mut lock(&self.0.directory), self.0.started.elapsed())
    }

    fn triggers_waiting(&self) -> usize {
        lock(&self.0.triggers).as_ref().map_or(0, |(queue, _)| lock(queue).len())
    }

    /// A scheduler wants this seed to take part in a task. Where there is no room for it the scheduler asks again, or
    /// finds another way.
    pub(crate) fn triggered(&self, by: PeerId, info: TaskInfo) {
        let Some((queue, bell)) = lock(&self.0.triggers).clone() else { return };
        match lock(&queue).push(by, info) {
            // A bell that is ringing already need not be rung.
            Ok(()) => drop(bell.try_send(())),
            Err(NoRoom) => {
                self.metrics().triggers_dropped.add(1);
                tracing::debug!(%by, "no room for what a scheduler wants fetched");
            }
        }
    }

    /// The signed record of its addresses; `None` without a listener.
    pub(crate) fn record(&self) -> Option<Signed> {
        // Lanes first: where there is one, nothing else is dialled.
        let mut addresses = self.0.host.lane_listeners();
        addresses.extend(self.listeners().iter().map(Address::without_peer));
        addresses.truncate(ADDRESSES_MAX);
        (!addresses.is_empty()).then(|| trust::sign_record(&self.0.identity, &addresses).ok()).flatten()
    }

    /// What a connected peer has proven: its claims and its encoded credential.
    pub(crate) fn admitted(&self, peer: PeerId) -> Option<(Claims, Vec<u8>)> {
        admission::of(&self.0.host, peer)
    }

    /// The next control stream that a member opens; `None` when the host has stopped.
    pub(crate) async fn next_control(&self) -> Option<Incoming> {
        self.0.control.lock().await.recv().await
    }

    /// The next lane that a member opens; `None` when the host has stopped.
    pub(crate) async fn next_lane(&self) -> Option<Incoming> {
        self.0.lanes.lock().await.recv().await
    }

    /// Whose word counts for nothing here.
    pub(crate) fn contradicted(&self) -> &Remembered {
        &self.0.contradicted
    }

    /// What origins let this host's callers read.
    pub(crate) fn permits(&self) -> &Permits {
        &self.0.permits
    }

    /// The throttles of the node as a whole.
    pub(crate) fn throttles(&self) -> &Throttles {
        &self.0.throttles
    }

    /// The throttles of one more task.
    pub(crate) fn task_throttles(&self) -> Throttles {
        Throttles::of_task(&self.0.rates)
    }

    /// Waits for leave to ask an origin; it is given back when the permit is dropped.
    pub(crate) async fn origin_slot(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.0.origin_slots).acquire_owned().await.ok()
    }

    /// Waits until one more content of unknown length may be taken in; the place is given back when the permit is dropped.
    pub(crate) async fn spool_slot(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.0.spool_slots).acquire_owned().await.ok()
    }

    /// The same without waiting; `None`: as many as may be are under way.
    pub(crate) fn try_spool_slot(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.0.spool_slots).try_acquire_owned().ok()
    }

    /// Waits until so many bytes may wait to be written.
    pub(crate) async fn write_budget(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        let units = bytes.div_ceil(BUDGET_UNIT).clamp(1, WRITE_BUDGET_BYTES / BUDGET_UNIT) as u32;
        Arc::clone(&self.0.write_budget).acquire_many_owned(units).await.ok()
    }

    /// Buffers for pieces.
    pub(crate) fn buffers(&self) -> &Buffers {
        &self.0.buffers
    }

    /// What has come of pieces that were not whole when their request ended.
    pub(crate) fn parts(&self) -> &Parts {
        &self.0.parts
    }

    /// The one instance of an engine's insides on this node, made if there is none.
    pub(crate) fn shared<T: Any + Send + Sync>(&self, make: impl FnOnce() -> Arc<T>) -> Arc<T> {
        let mut shared = lock(&self.0.shared);
        let known = shared.get(&TypeId::of::<T>()).and_then(Weak::upgrade).and_then(|known| known.downcast::<T>().ok());
        known.unwrap_or_else(|| {
            let made = make();
            let any: Arc<dyn Any + Send + Sync> = made.clone();
            shared.insert(TypeId::of::<T>(), Arc::downgrade(&any));
            made
        })
    }

    /// Whether an engine's insides live on this node.
    pub(crate) fn has_shared<T: Any + Send + Sync>(&self) -> bool {
        lock(&self.0.shared).get(&TypeId::of::<T>()).is_some_and(|known| known.strong_count() > 0)
    }

    /// A number that no other call on this node gets.
    pub(crate) fn next_number(&self) -> u64 {
        self.0.numbers.fetch_add(1, Ordering::Relaxed)
    }

    /// A queue of what is to be said on a control stream.
    pub(crate) fn outbox(&self) -> (Outbox, Frames) {
        outbox::outbox(&self.0.waiting)
    }

    /// A seed for a core's generator.
    pub(crate) fn seed(&self) -> u64 {
        random()
    }

    /// Between half and all of `duration`, so that hosts which failed together do not come back together.
    pub(crate) fn jitter(&self, duration: Duration) -> Duration {
        // Sixteen random bits are as fair as jitter needs.
        duration / 2 + (duration / 2 / (1 << 16)) * (random() as u32 & 0xffff)
    }
}

/// What happens to a [`Node`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NodeEvent {
    /// A member is connected.
    PeerUp(PeerId),
    /// The last connection to a member is gone.
    PeerDown(PeerId),
}

/// The events of a [`Node`]: see [`Node::events`].
pub struct NodeEvents {
    inner: futures::stream::BoxStream<'static, NodeEvent>,
}

impl Stream for NodeEvents {
    type Item = NodeEvent;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<NodeEvent>> {
        self.inner.poll_next_unpin(cx)
    }
}

impl std::fmt::Debug for NodeEvents {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("NodeEvents")
    }
}

impl std::fmt::Debug for Node {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Node").field("peer_id", &self.peer_id()).finish_non_exhaustive()
    }
}

/// Seconds since 1970, for checking credentials.
pub(crate) fn now_unix() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Random bits from the system; if it has none, the time.
fn random() -> u64 {
    getrandom::u64().unwrap_or_else(|_| now_unix())
}

/// Where a member may be dialled, by its own signed record; `None` if that does not hold.
///
/// Only where whoever named it sees it, or somebody could send ten thousand hosts to a stranger.
pub(crate) fn addresses_of(member: &Neighbour) -> Option<Vec<Address>> {
    let Some(record) = &member.record else { return Some(Vec::new()) };
    let addresses = trust::open_record(record, member.peer)
        .inspect_err(|error| tracing::debug!(peer = %member.peer, %error, "a member's record does not hold"))
        .ok()?;
    let seen = member.seen_ip.as_deref().and_then(ip_of_bytes);
    let there = |address: &Address| seen.is_none() || address.ip().is_none_or(|ip| Some(ip) == seen);
    Some(addresses.into_iter().filter(there).collect())
}

/// An IP address from its 4 or 16 bytes.
fn ip_of_bytes(bytes: &[u8]) -> Option<IpAddr> {
    if let Ok(four) = <[u8; 4]>::try_from(bytes) {
        return Some(four.into());
    }
    <[u8; 16]>::try_from(bytes).ok().map(Into::into)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
