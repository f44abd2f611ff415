//! The host's handle and its event loop.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures::{FutureExt as _, StreamExt as _};
use libp2p::core::transport::ListenerId;
use libp2p::core::upgrade::Version;
use libp2p::identity::Keypair;
use libp2p::swarm::{NetworkBehaviour, Swarm, SwarmEvent};
use tokio::runtime::Handle;
use tokio::sync::{Notify, broadcast, mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::admission::{Admission, Claims, Registry};
use super::dials::Dials;
use super::error::{DialError, ListenError, OpenError, StartError, chain};
use super::lane::{LaneConfig, Lanes, Private};
use super::limits::Limits;
#[cfg(feature = "mdns")]
use super::local;
use super::stream::{Incoming, Stream};
use super::streams::{self, Acceptor, Shared};
use super::transport::{self, Gate};
use crate::wire::{Address, PeerId};

/// How a host is to be started.
#[derive(Clone)]
pub struct HostConfig {
    /// The Ed25519 secret key of this host's identity.
    pub seed: [u8; 32],
    /// Who is let in.
    pub admission: Arc<dyn Admission>,
    /// Where to listen. Empty: no listener, the host only dials.
    pub listen: Vec<Address>,
    /// The protocols to accept, each a name that begins with a slash.
    pub protocols: Vec<&'static str>,
    /// The one of these protocols that lanes carry, and where they are accepted; `None`: there are no lanes.
    pub lanes: Option<(&'static str, LaneConfig)>,
    /// Whether peers on this host's links are looked for by mDNS, and it is told of to them.
    #[cfg(feature = "mdns")]
    pub discover: bool,
    /// The bounds.
    pub limits: Limits,
}

impl HostConfig {
    /// A host that only dials and accepts no protocol, with the default limits.
    pub fn new(seed: [u8; 32], admission: Arc<dyn Admission>) -> Self {
        let limits = Limits::default();
        Self {
            seed,
            admission,
            listen: Vec::new(),
            protocols: Vec::new(),
            lanes: None,
            #[cfg(feature = "mdns")]
            discover: false,
            limits,
        }
    }
}

/// Who came and who went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerEvent {
    /// The last connection to this peer closed.
    Down(PeerId),
    /// The first connection to this peer is up, in whichever direction.
    Up(PeerId),
}

/// A handle to the network host of this process: a cheap clone. Dropping the last one stops the host without waiting
/// for anything; [`Host::shutdown`] stops it and waits.
///
/// All async methods are cancel-safe: dropping `connect` leaves the attempt running, dropping `open` gives the stream
/// back. They need a tokio runtime with timers.
#[derive(Clone)]
pub struct Host {
    inner: Arc<Inner>,
}

struct Inner {
    local: PeerId,
    shared: Arc<Shared>,
    control: Arc<Control>,
    lanes: Option<Arc<Lanes>>,
    commands: mpsc::Sender<Command>,
    listening: watch::Receiver<Listening>,
    found: watch::Receiver<Found>,
}

/// What the handle tells the loop without queueing.
#[derive(Default)]
struct Control {
    stop: CancellationToken,
    doomed: Mutex<Vec<PeerId>>,
    wake: Notify,
}

enum Command {
    Dial {
        peer: PeerId,
        addresses: Vec<Address>,
        reply: oneshot::Sender<Result<(), DialError>>,
    },
    #[cfg(test)]
    Leftovers(oneshot::Sender<usize>),
}

#[derive(Clone, Default)]
struct Listening {
    /// Requested listeners that have no address yet.
    waiting: usize,
    addresses: Vec<Address>,
    failure: Option<ListenError>,
}

impl Host {
    /// Starts a host on `runtime`, where all its tasks run. Returns the handle and, for each protocol, the queue of
    /// streams that peers open. Listeners come up asynchronously: see [`Host::listening`].
    ///
    /// # Errors
    /// When a protocol name or the identity cannot be used.
    pub fn start(
        config: HostConfig,
        runtime: &Handle,
    ) -> Result<(Self, HashMap<&'static str, mpsc::Receiver<Incoming>>), StartError> {
        let _context = runtime.enter();
        let keypair = Keypair::ed25519_from_bytes(config.seed).map_err(|e| StartError::Identity(Box::new(e)))?;
        let local =
            PeerId::from_libp2p(&keypair.public().to_peer_id()).map_err(|e| StartError::Identity(Box::new(e)))?;
        let limits = config.limits;
        let (acceptors, queues) = accept_queues(&config.protocols, limits.accept_queue)?;

        let registry = Arc::new(Registry::default());
        let shared = Arc::new(Shared::new(limits.clone(), Arc::clone(&registry), broadcast::channel(EVENTS).0));
        let gate = Arc::new(Gate { admission: config.admission, limits: limits.clone(), local, registry });
        let control = Arc::new(Control::default());
        let lanes = match config.lanes {
            None => None,
            Some((protocol, lanes)) => {
                let acceptor = acceptors.iter().find(|acceptor| acceptor.protocol == protocol);
                let queue = acceptor.ok_or(StartError::Protocol(protocol))?.queue.clone();
                let counted = Arc::clone(&shared);
                let overflowed = move || {
                    counted.overflowed.fetch_add(1, Ordering::Relaxed);
                };
                let stop = control.stop.child_token();
                Some(Lanes::start(&keypair, &gate, lanes, (protocol, queue), overflowed, stop)?)
            }
        };
        let tasks = TaskTracker::new();
        let swarm = Swarm::new(
            transport::build(&keypair, &gate)?,
            Behaviour {
                streams: streams::Behaviour::new(Arc::clone(&shared), acceptors),
                #[cfg(feature = "mdns")]
                local: local::behaviour(config.discover, keypair.public().to_peer_id())?,
            },
            keypair.public().to_peer_id(),
            swarm_config(&limits, runtime, &tasks),
        );

        let (commands, inbox) = mpsc::channel(COMMANDS);
        let (publish, listening) = watch::channel(Listening { waiting: config.listen.len(), ..Listening::default() });
        let (_publish_found, found) = watch::channel(Found::new());
        let mut core = Loop {
            swarm,
            local,
            shared: Arc::clone(&shared),
            control: Arc::clone(&control),
            dials: Dials::default(),
            listeners: HashMap::new(),
            listening: Listening::default(),
            publish,
            #[cfg(feature = "mdns")]
            publish_found: _publish_found,
        };
        core.listen(config.listen);
        runtime.spawn(core.run(inbox, tasks));
        Ok((Self { inner: Arc::new(Inner { local, shared, control, lanes, commands, listening, found }) }, queues))
    }

    /// This host.
    pub fn local(&self) -> PeerId {
        self.inner.local
    }

    /// Where this host listens now: ports as bound, `0.0.0.0` as the addresses of the interfaces, `/p2p/...` at the
    /// end. It may change as interfaces come and go.
    pub fn listeners(&self) -> Vec<Address> {
        self.inner.listening.borrow().addresses.clone()
    }

    /// Waits until every configured listener has at least one address, and returns [`Host::listeners`].
    ///
    /// # Errors
    /// The first listener that failed. The others go on: shut the host down if that is not enough.
    pub async fn listening(&self) -> Result<Vec<Address>, ListenError> {
        let mut listening = self.inner.listening.clone();
        let state = listening.wait_for(|state| state.waiting == 0 || state.failure.is_some()).await;
        let state = state.map_err(|_| ListenError::Stopped)?;
        state.failure.clone().map_or_else(|| Ok(state.addresses.clone()), Err)
    }

    /// Connects to `peer` unless it is connected. Callers that want the same peer at the same time share one attempt,
    /// with the addresses of the first. At most 16 addresses are tried; those of another peer are not.
    ///
    /// # Errors
    /// Within the dial time-out: every address with its cause, or that time is up.
    pub async fn connect(&self, peer: PeerId, addresses: Vec<Address>) -> Result<(), DialError> {
        if peer == self.inner.local {
            return Err(DialError::Itself);
        }
        if self.inner.shared.is_connected(peer) {
            return Ok(());
        }
        let addresses: Vec<_> = addresses.into_iter().filter(|address| address.lane().is_none()).collect();
        let (reply, answer) = oneshot::channel();
        let dial = Command::Dial { peer, addresses: addresses.clone(), reply };
        let outcome = async {
            self.inner.commands.send(dial).await.map_err(|_| DialError::Stopped)?;
            answer.await.map_err(|_| DialError::Stopped)?
        };
        let timed = tokio::time::timeout(self.inner.shared.limits.dial_timeout, outcome).await;
        timed.unwrap_or(Err(DialError::TimedOut { peer, addresses }))
    }

    /// Opens a stream for `protocol` on the newest connection to `peer`: [`Host::connect`] first. It returns before
    /// the peer has answered, so a peer that does not speak the protocol shows at the first read.
    ///
    /// # Errors
    /// When the peer is not connected, is this host itself, or gives no stream within the open time-out.
    pub async fn open(&self, peer: PeerId, protocol: &'static str) -> Result<Stream, OpenError> {
        if peer == self.inner.local {
            return Err(OpenError::Itself);
        }
        let answer = self.inner.shared.request(peer, protocol)?;
        match tokio::time::timeout(self.inner.shared.limits.open_timeout, answer).await {
            Ok(Ok(opened)) => opened.map(Stream::from),
            Ok(Err(_)) => Err(OpenError::Closed(peer)),
            Err(_) => Err(OpenError::TimedOut(peer)),
        }
    }

    /// Opens a lane to `peer`, at one of those of `addresses` that are a lane's.
    ///
    /// # Errors
    /// Within two handshakes' time: every address with its cause; there is none; this host has no lanes.
    pub async fn lane(&self, peer: PeerId, addresses: &[Address]) -> Result<Stream, DialError> {
        if peer == self.inner.local {
            return Err(DialError::Itself);
        }
        match &self.inner.lanes {
            Some(lanes) => lanes.dial(peer, addresses).await,
            None => Err(DialError::NoAddress { peer }),
        }
    }

    /// While it lives lanes are opened encrypted; `None` where they are so always.
    pub(crate) fn private(&self) -> Option<Private> {
        self.inner.lanes.as_ref()?.private()
    }

    /// Has the next lanes with `peer` be encrypted, for a time: one that was not said what no honest host says.
    pub(crate) fn spoil(&self, peer: PeerId) {
        if let Some(lanes) = &self.inner.lanes {
            lanes.spoil(peer);
        }
    }

    /// Where this host accepts lanes now: an unspecified address stands for those of the other listeners.
    pub fn lane_listeners(&self) -> Vec<Address> {
        let Some(lanes) = &self.inner.lanes else { return Vec::new() };
        let ips: BTreeSet<IpAddr> = self.listeners().iter().filter_map(Address::ip).collect();
        let mut addresses = Vec::new();
        for socket in lanes.listening() {
            if socket.ip().is_unspecified() {
                let family = ips.iter().filter(|ip| ip.is_ipv4() == socket.is_ipv4());
                addresses.extend(family.map(|ip| Address::of_lane(SocketAddr::new(*ip, socket.port()))));
            } else {
                addresses.push(Address::of_lane(*socket));
            }
        }
        addresses
    }

    /// Resolves once the host has shut down, or its last handle is gone; keeps none.
    pub fn ended(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut listening = self.inner.listening.clone();
        async move { while listening.changed().await.is_ok() {} }
    }

    /// Who says by mDNS that it is on a link of this host: changes as they come and go. Anyone can say so.
    pub fn found(&self) -> watch::Receiver<Found> {
        self.inner.found.clone()
    }

    /// Whether a connection to the peer is up on which streams can be opened: a lane is none.
    pub fn is_connected(&self, peer: PeerId) -> bool {
        self.inner.shared.is_connected(peer)
    }

    /// The peers to whom a connection or a lane is up, in no order.
    pub fn peers(&self) -> Vec<PeerId> {
        let mut peers = self.inner.shared.peers();
        let lanes = self.inner.lanes.iter().flat_map(|lanes| lanes.peers());
        peers.extend(lanes);
        peers.sort_unstable();
        peers.dedup();
        peers
    }

    /// How many lanes are open on connections of their own, those that are about to end among them.
    pub(crate) fn lanes_open(&self) -> usize {
        self.inner.lanes.as_ref().map_or(0, |lanes| lanes.peers().len())
    }

    /// The peer's IP address as this host sees it: of its newest connection, names resolved.
    pub fn remote_ip(&self, peer: PeerId) -> Option<IpAddr> {
        self.inner.shared.registry.remote_ip(peer)
    }

    /// What the peer proved at its newest connection, while it is connected.
    pub fn claims(&self, peer: PeerId) -> Option<Claims> {
        self.inner.shared.registry.claims(peer)
    }

    /// Closes all connections and lanes to the peer, soon. It may connect again: refusing it is the admission's business.
    pub fn disconnect(&self, peer: PeerId) {
        if let Some(lanes) = &self.inner.lanes {
            lanes.disconnect(peer);
        }
        self.inner.control.doomed.lock().unwrap_or_else(PoisonError::into_inner).push(peer);
        self.inner.control.wake.notify_one();
    }

    /// Who comes and goes from now on. A receiver that falls more than 1024 events behind is told so and should
    /// look at [`Host::peers`].
    pub fn events(&self) -> broadcast::Receiver<PeerEvent> {
        self.inner.shared.events.subscribe()
    }

    /// Streams of peers that were dropped, since the start, because their protocol's accept queue was full.
    pub fn overflowed(&self) -> u64 {
        self.inner.shared.overflowed.load(Ordering::Relaxed)
    }

    /// Stops the host whatever other handles there are, and waits until its listeners and connections are closed and
    /// its tasks have ended, for at most some seconds.
    pub async fn shutdown(self) {
        self.inner.control.stop.cancel();
        // The loop holds the other end until it is done, and the tasks with it.
        let mut listening = self.inner.listening.clone();
        while listening.changed().await.is_ok() {}
        if let Some(lanes) = &self.inner.lanes {
            let _ = tokio::time::timeout(GOODBYE, lanes.stopped()).await;
        }
    }

    #[cfg(test)]
    pub(super) async fn leftovers(&self) -> usize {
        let (reply, answer) = oneshot::channel();
        assert!(self.inner.commands.send(Command::Leftovers(reply)).await.is_ok());
        answer.await.map_or(0, |count| count + self.inner.shared.registry.len())
    }
}

impl std::fmt::Debug for Host {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Host").field("local", &self.inner.local).finish_non_exhaustive()
    }
}

/// All behaviours of the swarm. Each costs a poll per wake-up of each connection: few, and none without need.
#[derive(NetworkBehaviour)]
#[behaviour(to_swarm = "Happening", prelude = "libp2p::swarm::derive_prelude")]
struct Behaviour {
    streams: streams::Behaviour,
    #[cfg(feature = "mdns")]
    local: local::Behaviour,
}

/// What the behaviours say.
#[derive(Debug)]
enum Happening {
    #[cfg(feature = "mdns")]
    Heard(libp2p::mdns::Event),
}

impl From<std::convert::Infallible> for Happening {
    fn from(never: std::convert::Infallible) -> Self {
        match never {}
    }
}

#[cfg(feature = "mdns")]
impl From<libp2p::mdns::Event> for Happening {
    fn from(event: libp2p::mdns::Event) -> Self {
        Self::Heard(event)
    }
}

/// Who says that he is on a link of this host, and where.
pub(crate) type Found = BTreeMap<PeerId, Vec<Address>>;

type Queues = HashMap<&'static str, mpsc::Receiver<Incoming>>;

fn accept_queues(protocols: &[&'static str], length: usize) -> Result<(Vec<Acceptor>, Queues), StartError> {
    let mut acceptors = Vec::new();
    let mut queues = HashMap::new();
    for &protocol in protocols {
        let (queue, receiver) = mpsc::channel(length.max(1));
        if !protocol.starts_with('/') || queues.insert(protocol, receiver).is_some() {
            return Err(StartError::Protocol(protocol));
        }
        acceptors.push(Acceptor { protocol, queue });
    }
    Ok((acceptors, queues))
}

fn swarm_config(limits: &Limits, runtime: &Handle, tasks: &TaskTracker) -> libp2p::swarm::Config {
    let (runtime, tasks) = (runtime.clone(), tasks.clone());
    let executor = move |task| {
        tasks.spawn_on(task, &runtime);
    };
    libp2p::swarm::Config::with_executor(executor)
        // No round trip before the first bytes of a stream.
        .with_substream_upgrade_protocol_override(Version::V1Lazy)
        .with_idle_connection_timeout(limits.idle_timeout)
}

/// The one task that owns the swarm. It does nothing slow.
struct Loop {
    swarm: Swarm<Behaviour>,
    local: PeerId,
    shared: Arc<Shared>,
    control: Arc<Control>,
    dials: Dials,
    /// The configured address of each listener that is not closed, and whether it is up.
    listeners: HashMap<ListenerId, (Address, bool)>,
    listening: Listening,
    publish: watch::Sender<Listening>,
    #[cfg(feature = "mdns")]
    publish_found: watch::Sender<Found>,
}

impl Loop {
    async fn run(mut self, mut inbox: mpsc::Receiver<Command>, tasks: TaskTracker) {
        let control = Arc::clone(&self.control);
        loop {
            tokio::select! {
                () = control.stop.cancelled() => break,
                () = control.wake.notified() => self.disconnect_doomed(),
                command = inbox.recv() => match command {
                    Some(command) => self.command(command),
                    None => break,
                },
                event = self.swarm.select_next_some() => {
                    self.event(event);
                    self.drain();
                }
            }
        }
        inbox.close();
        self.stop(&tasks).await;
    }

    /// Takes what else the swarm has ready, so that listeners which come up together are published together.
    fn drain(&mut self) {
        for _ in 0..DRAIN {
            let Some(Some(event)) = self.swarm.next().now_or_never() else { break };
            self.event(event);
        }
        self.publish.send_if_modified(|state| {
            let changed = state.addresses != self.listening.addresses
                || state.waiting != self.listening.waiting
                || state.failure != self.listening.failure;
            if changed {
                *state = self.listening.clone();
            }
            changed
        });
    }

    async fn stop(mut self, tasks: &TaskTracker) {
        #[cfg(feature = "mdns")]
        {
            let known: Vec<_> = self.swarm.listeners().cloned().collect();
            local::hush(&mut self.swarm.behaviour_mut().local, known.iter());
        }
        for id in self.listeners.keys().copied().collect::<Vec<_>>() {
            self.swarm.remove_listener(id);
        }
        for peer in self.swarm.connected_peers().copied().collect::<Vec<_>>() {
            let _ = self.swarm.disconnect_peer_id(peer);
        }
        let goodbye = async {
            while self.swarm.connected_peers().next().is_some() {
                self.swarm.next().await;
            }
        };
        if tokio::time::timeout(GOODBYE, goodbye).await.is_err() {
            tracing::debug!("some connections were cut at shutdown");
        }
        // The connections' tasks end when the swarm is gone.
        drop(self.swarm);
        tasks.close();
        let _ = tokio::time::timeout(GOODBYE, tasks.wait()).await;
    }

    fn listen(&mut self, addresses: Vec<Address>) {
        for address in addresses {
            self.listening.waiting += 1;
            let listener = transport::port_is_free(&address)
                .map_err(|error| chain(&error))
                .and_then(|()| self.swarm.listen_on(address.without_peer().to_libp2p()).map_err(|e| chain(&e)));
            match listener {
                Ok(id) => {
                    self.listeners.insert(id, (address, false));
                }
                Err(cause) => self.listen_failed(address, cause),
            }
        }
        self.publish.send_replace(self.listening.clone());
    }

    fn listen_failed(&mut self, address: Address, cause: String) {
        tracing::debug!(%address, cause, "cannot listen");
        self.listening.failure.get_or_insert(ListenError::Failed { address, cause });
    }

    fn command(&mut self, command: Command) {
        match command {
            Command::Dial { peer, addresses, reply } => self.dial(peer, &addresses, reply),
            #[cfg(test)]
            Command::Leftovers(reply) => {
                let _ = reply.send(self.swarm.behaviour().streams.leftovers() + self.dials.len());
            }
        }
    }

    fn dial(&mut self, peer: PeerId, addresses: &[Address], reply: oneshot::Sender<Result<(), DialError>>) {
        if self.shared.is_connected(peer) {
            let _ = reply.send(Ok(()));
            return;
        }
        let Some(options) = self.dials.ask(Instant::now(), peer, addresses, reply) else { return };
        let connection = options.connection_id();
        if let Err(error) = self.swarm.dial(options) {
            self.dials.failed(connection, peer, error);
        }
    }

    fn disconnect_doomed(&mut self) {
        let doomed = std::mem::take(&mut *self.control.doomed.lock().unwrap_or_else(PoisonError::into_inner));
        for peer in doomed {
            let _ = self.swarm.disconnect_peer_id(peer.to_libp2p());
        }
    }

    fn event(&mut self, event: SwarmEvent<Happening>) {
        match event {
            #[cfg(feature = "mdns")]
            SwarmEvent::Behaviour(Happening::Heard(event)) => {
                let shared = &self.shared;
                self.publish_found
                    .send_if_modified(|found| local::heard(found, event, |peer| shared.is_connected(peer)));
                let (me, listeners) =
                    (*self.swarm.local_peer_id(), self.swarm.listeners().cloned().collect::<Vec<_>>());
                local::bound(&mut self.swarm.behaviour_mut().local, me, listeners.iter());
            }
            SwarmEvent::ConnectionEstablished { peer_id, .. } => {
                if let Ok(peer) = PeerId::from_libp2p(&peer_id) {
                    self.dials.reached(peer);
                }
            }
            SwarmEvent::ExpiredListenAddr { address, .. } => {
                let address = Address::from_libp2p(address).with_peer(self.local);
                self.listening.addresses.retain(|known| *known != address);
            }
            SwarmEvent::IncomingConnectionError { send_back_addr, error, .. } => {
                tracing::debug!(remote = %send_back_addr, error = chain(&error), "inbound connection dropped");
            }
            SwarmEvent::ListenerClosed { listener_id, addresses, reason } => {
                self.listening.addresses.retain(|known| {
                    let known = known.without_peer().to_libp2p();
                    !addresses.contains(&known)
                });
                if let (Some((address, _)), Err(error)) = (self.listeners.remove(&listener_id), reason) {
                    self.listen_failed(address, chain(&error));
                }
            }
            SwarmEvent::ListenerError { error, .. } => tracing::debug!(error = chain(&error), "listener"),
            SwarmEvent::NewListenAddr { listener_id, address } => {
                if let Some((_, up)) = self.listeners.get_mut(&listener_id)
                    && !std::mem::replace(up, true)
                {
                    self.listening.waiting -= 1;
                }
                let address = Address::from_libp2p(address).with_peer(self.local);
                if !self.listening.addresses.contains(&address) {
                    self.listening.addresses.push(address);
                }
            }
            SwarmEvent::OutgoingConnectionError { connection_id, peer_id: Some(peer), error } => {
                if let Ok(peer) = PeerId::from_libp2p(&peer) {
                    self.dials.failed(connection_id, peer, error);
                }
            }
            _ => {}
        }
    }
}

/// Commands that wait for the loop. A caller waits for room.
const COMMANDS: usize = 256;

/// Peer events that a slow receiver may lag behind.
const EVENTS: usize = 1024;

/// Swarm events taken in one go before commands are looked at again.
const DRAIN: usize = 64;

/// How long a shutdown waits for connections to close, and again for their tasks to end.
const GOODBYE: Duration = Duration::from_secs(1);
