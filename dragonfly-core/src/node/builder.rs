//! How a node is configured and started.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use tokio::runtime::Handle;
use tokio::sync::Semaphore;

use super::admission::Members;
use super::contradicted::Remembered;
use super::preset::{Preset, Settings};
use super::{
    BUDGET_UNIT, CONTROL_PROTOCOL, Directory, Inner, IoPool, LANE_PROTOCOL, Metrics, Node, ORIGIN_REQUESTS_MAX,
    Permits, Policy, RateLimits, Rules, Throttles, WRITE_BUDGET_BYTES, WeakNode, descriptors,
};
use crate::net::{Host, HostConfig, LaneConfig};
#[cfg(feature = "storage")]
use crate::source::StorageConfig;
use crate::source::{Guard, OriginPattern, Registry, Source};
use crate::store::{FileOptions, FileStore, MemoryOptions, MemoryStore, Store};
use crate::trust::{Identity, Membership, OriginTrust, Roles, Token};
use crate::wire::Address;
use crate::wire::control::{SITE_BYTES_MAX, is_site};
use crate::{Error, ErrorKind, Result};

/// What the store may hold in memory where there is no data directory.
const MEMORY_BYTES: u64 = 256 << 20;

/// Eviction goes down to this part of the quota, so that it does not begin again with the next piece.
const LOW_WATER: f64 = 0.8;

/// Above this part of the quota eviction begins, so that writes seldom have to wait for it.
const HIGH_WATER: f64 = 0.9;

/// How often the store is looked over: what is written meanwhile makes its own room.
const EVICTION_INTERVAL: Duration = Duration::from_secs(30);

/// Looking more often would only cost.
const EVICTION_INTERVAL_MIN: Duration = Duration::from_millis(10);

/// How many neighbours are served at a time: below it uplinks idle, above it pieces come late to all.
const UPLOAD_SLOTS: u16 = 8;

/// Configures a [`Node`]. Setters can be chained; [`NodeBuilder::start`] checks the whole.
#[must_use = "a builder does nothing until it is started"]
pub struct NodeBuilder {
    data_dir: Option<PathBuf>,
    memory_bytes: u64,
    quota_bytes: Option<u64>,
    water_marks: (f64, f64),
    ttl: Option<Duration>,
    eviction_interval: Duration,
    lock_wait: Duration,
    listen: Vec<Address>,
    token: Option<Token>,
    origin_trust: OriginTrust,
    lanes: Option<LaneConfig>,
    schedulers: Vec<Address>,
    bootstrap: Vec<Address>,
    discover_locally: bool,
    upload_slots: u16,
    connections_max: Option<usize>,
    site: Option<String>,
    rates: RateLimits,
    guard: Guard,
    #[cfg(feature = "storage")]
    storage: StorageConfig,
    sources: Vec<(Option<String>, Arc<dyn Source>)>,
    runtime: Option<Handle>,
    identity: Option<Identity>,
    policy: Option<Arc<dyn Policy>>,
    /// A disk that fails, for tests.
    #[cfg(test)]
    pub(crate) faults: Option<Arc<crate::store::Faults>>,
}

impl Default for NodeBuilder {
    fn default() -> Self {
        Self {
            data_dir: None,
            memory_bytes: MEMORY_BYTES,
            quota_bytes: None,
            water_marks: (LOW_WATER, HIGH_WATER),
            ttl: None,
            eviction_interval: EVICTION_INTERVAL,
            lock_wait: Duration::ZERO,
            listen: Vec::new(),
            token: None,
            origin_trust: OriginTrust::Members,
            lanes: Some(LaneConfig::default()),
            schedulers: Vec::new(),
            bootstrap: Vec::new(),
            discover_locally: false,
            upload_slots: UPLOAD_SLOTS,
            connections_max: None,
            site: None,
            rates: RateLimits::default(),
            guard: Guard::default(),
            #[cfg(feature = "storage")]
            storage: StorageConfig::default(),
            sources: Vec::new(),
            runtime: None,
            identity: None,
            policy: None,
            #[cfg(test)]
            faults: None,
        }
    }
}

impl NodeBuilder {
    /// Sets what goes together for a kind of host: listeners, memory, upload slots, how long content stays. What is set
    /// afterwards counts.
    pub fn preset(mut self, preset: Preset) -> Self {
        let Settings { listen, memory_bytes, upload_slots, ttl } = preset.settings();
        self.listen = listen;
        self.memory_bytes = memory_bytes.unwrap_or(MEMORY_BYTES);
        self.upload_slots = upload_slots.unwrap_or(UPLOAD_SLOTS);
        self.ttl = ttl;
        self
    }

    /// Where identity, membership and content are kept (default: in memory, gone with the node). One process at a
    /// time may use a directory.
    pub fn data_dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.data_dir = Some(dir.into());
        self
    }

    /// How many bytes of content a node without a data directory may hold (default: 256 MiB).
    pub fn memory_bytes(mut self, bytes: u64) -> Self {
        self.memory_bytes = bytes;
        self
    }

    /// How many bytes of content the data directory may hold (default: no bound but the disk's).
    pub fn quota_bytes(mut self, bytes: u64) -> Self {
        self.quota_bytes = Some(bytes);
        self
    }

    /// The parts of the quota (or of the memory) at which eviction begins, and down to which it goes on (default:
    /// 0.8 and 0.9). What is pinned, downloaded, read or being served stays whatever they say.
    pub fn water_marks(mut self, low: f64, high: f64) -> Self {
        self.water_marks = (low, high);
        self
    }

    /// How long content that nobody uses stays (default: for ever).
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = Some(ttl);
        self
    }

    /// How often the store is looked over for what is to be evicted (default: 30 s). A write that needs the room
    /// does not wait for it.
    pub fn eviction_interval(mut self, interval: Duration) -> Self {
        self.eviction_interval = interval.max(EVICTION_INTERVAL_MIN);
        self
    }

    /// An address to listen on, such as `/ip4/0.0.0.0/tcp/0` (default: none). Can be repeated.
    pub fn listen(mut self, address: Address) -> Self {
        self.listen.push(address);
        self
    }

    /// Where to accept lanes, the TCP connections that carry pieces (default: beside each address of
    /// [`NodeBuilder::listen`], at the next port, or at any where that is taken; none without a listener). Can be
    /// repeated. A port of 0 is any.
    pub fn lane_listen(mut self, address: SocketAddr) -> Self {
        self.lanes.get_or_insert_default().listen.push(address);
        self
    }

    /// The congestion control of lanes, such as `cubic` or `bbr` (default: the system's). On systems other than
    /// Linux, and where the system does not offer it, it has no effect.
    pub fn lane_congestion(mut self, name: impl Into<String>) -> Self {
        self.lanes.get_or_insert_default().congestion = Some(name.into());
        self
    }

    /// Whether lanes to hosts that let it, too, go on without encryption (default: no). Who both ends are, and that they are
    /// members, is proven over TLS all the same, and so is every piece; public content alone goes over them. But whoever is on
    /// the way can **read** content, who has what and what is asked for, and can **take a connection over** and say what it
    /// likes in a neighbour's name: `docs/design/trust.md` lists what that can do. For networks whose operator accepts that.
    /// Content in files goes out by `sendfile`, on Linux and where the program ignores `SIGPIPE`.
    pub fn plain_lanes(mut self, plain: bool) -> Self {
        if plain {
            self.lanes.get_or_insert_default().plain = true;
        } else if let Some(lanes) = &mut self.lanes {
            lanes.plain = false;
        }
        self
    }

    /// Neither opens nor accepts lanes: pieces go over libp2p's streams, at about twice the processor time.
    pub fn no_lanes(mut self) -> Self {
        self.lanes = None;
        self
    }

    /// Joins the network that the token is of. Without it the membership in the data directory counts, and without
    /// one the node founds a network of its own.
    pub fn join(mut self, token: Token) -> Self {
        self.token = Some(token);
        self
    }

    /// Whose word counts on what an origin said, in a network that this node founds (default: any member's).
    pub fn origin_trust(mut self, trust: OriginTrust) -> Self {
        self.origin_trust = trust;
        self
    }

    /// A scheduler, with `/p2p/PEER` at its end. Can be repeated: each task belongs to one of them.
    pub fn scheduler(mut self, address: Address) -> Self {
        self.schedulers.push(address);
        self
    }

    /// A member to turn to where there is no scheduler, with `/p2p/PEER` at its end (default: those of the token).
    /// Can be repeated.
    pub fn bootstrap(mut self, address: Address) -> Self {
        self.bootstrap.push(address);
        self
    }

    /// Whether it looks by mDNS for members on its links, and tells of itself there if it listens (default: no).
    /// Members need no address to meet at then; what a stranger says there only costs a few refused dials. IPv4 only.
    /// The first download after a start may wait 3 s for others to be found.
    #[cfg(feature = "mdns")]
    pub fn discover_locally(mut self, discover: bool) -> Self {
        self.discover_locally = discover;
        self
    }

    /// How many neighbours are served at a time (default: 8); 0 never uploads.
    pub fn upload_slots(mut self, slots: u16) -> Self {
        self.upload_slots = slots;
        self
    }

    /// How many other members may be connected at a time, from 1 to 100 000 (default: 4096): a scheduler of more has to
    /// be told. Never more than half of the descriptors that the process may have (`RLIMIT_NOFILE`): where that is less
    /// than is set here the log says so.
    pub fn connections_max(mut self, connections: usize) -> Self {
        self.connections_max = Some(connections);
        self
    }

    /// The site that it is in, such as a region or a data centre (default: none). Hosts of one site get content from each
    /// other and few of them from another site, so that it crosses the link between once. At most 64 letters, digits, `-`, `_` and `.`.
    pub fn site(mut self, name: &str) -> Self {
        self.site = Some(name.to_owned());
        self
    }

    /// Bytes a second that it, and each task on it, may move (default: no limits).
    pub fn rates(mut self, rates: RateLimits) -> Self {
        self.rates = rates;
        self
    }

    /// What fetches may reach beyond public addresses (default: nothing, but loopback for local callers).
    pub fn guard(mut self, guard: Guard) -> Self {
        self.guard = guard;
        self
    }

    /// Whether fetches that no local caller asked for may reach origins on loopback (default: no).
    pub fn allow_loopback_origins(mut self, allow: bool) -> Self {
        self.guard.allow_loopback = allow;
        self
    }

    /// An origin that fetches which no local caller asked for may reach, on every hop (default: any). Can be
    /// repeated: then those alone.
    pub fn allow_origin(mut self, origin: OriginPattern) -> Self {
        self.guard.origins.get_or_insert_default().push(origin);
        self
    }

    /// Endpoints and credentials of object stores and file servers (default: what the environment and the usual files
    /// of each platform say).
    #[cfg(feature = "storage")]
    pub fn storage(mut self, config: StorageConfig) -> Self {
        self.storage = config;
        self
    }

    /// A source for further URL schemes, or in place of a built-in one. Can be repeated.
    pub fn source(mut self, source: Arc<dyn Source>) -> Self {
        self.sources.push((None, source));
        self
    }

    /// A source for one URL scheme, whatever schemes it names itself: what [`blocking`](crate::source::blocking) makes
    /// names none. Can be repeated.
    pub fn source_for(mut self, scheme: impl Into<String>, source: Arc<dyn Source>) -> Self {
        self.sources.push((Some(scheme.into()), source));
        self
    }

    /// The tokio runtime to run on (default: that of the caller of [`NodeBuilder::start`]).
    pub fn runtime(mut self, runtime: Handle) -> Self {
        self.runtime = Some(runtime);
        self
    }

    /// Who the node is (default: the identity in the data directory, made where there is none). Two live nodes of one
    /// identity cannot both be reached.
    pub fn identity(mut self, identity: Identity) -> Self {
        self.identity = Some(identity);
        self
    }

    /// How long to wait for another node that has the data directory, such as one that was just told to stop (default:
    /// not at all).
    pub fn lock_wait(mut self, wait: Duration) -> Self {
        self.lock_wait = wait;
        self
    }

    /// The embedder's own rules about other members (default: all members are equal).
    pub fn policy(mut self, policy: Arc<dyn Policy>) -> Self {
        self.policy = Some(policy);
        self
    }

    /// Starts the node: takes the data directory, loads or makes its identity, joins or founds a network, listens.
    ///
    /// # Errors
    /// The data directory is in use or unreadable; the token is of another network than the directory; an address
    /// cannot be listened on; the name of the site is none; a setting is out of its bounds.
    pub async fn start(self) -> Result<Node> {
        let runtime = match self.runtime.clone() {
            Some(runtime) => runtime,
            None => Handle::try_current().map_err(|e| {
                Error::new(ErrorKind::Config, "a node needs a tokio runtime to run on: give it one").caused_by(e)
            })?,
        };
        self.rates.check()?;
        let limits = descriptors::net_limits(self.connections_max)?;
        let site = self.site;
        if let Some(name) = site.as_ref().filter(|name| !is_site(name)) {
            let context =
                format!("a site's name has 1 to {SITE_BYTES_MAX} letters, digits, '-', '_' and '.': {name:?}");
            return Err(Error::new(ErrorKind::Config, context));
        }
        let io = IoPool::start()?;
        let (dir, token, origin_trust) = (self.data_dir.clone(), self.token.clone(), self.origin_trust);
        let (low_water, high_water) = self.water_marks;
        let policy = StorePolicy {
            quota: self.quota_bytes,
            memory_bytes: self.memory_bytes,
            low_water,
            high_water,
            ttl: self.ttl,
            lock_wait: self.lock_wait,
            #[cfg(test)]
            faults: self.faults,
        };
        let own = self.identity;
        let opened = io.run(move || {
            let opened = open(dir.clone(), own, token.as_ref(), origin_trust, &policy)?;
            Ok::<_, Error>((opened, Remembered::open(dir)))
        });
        let ((store, identity, membership), contradicted) = opened.await??;
        let (identity, membership) = (Arc::new(identity), Arc::new(membership));
        let rules = Rules(self.policy);
        let members = Members { membership: Arc::clone(&membership), rules: rules.clone() };
        let config = HostConfig {
            listen: self.listen.clone(),
            lanes: self.lanes.clone().map(|lanes| (LANE_PROTOCOL, lanes_beside(&self.listen, lanes))),
            protocols: vec![CONTROL_PROTOCOL, LANE_PROTOCOL],
            #[cfg(feature = "mdns")]
            discover: self.discover_locally,
            limits: limits.clone(),
            ..HostConfig::new(identity.secret(), Arc::new(members))
        };
        let (host, mut incoming) = Host::start(config, &runtime)?;
        let mut queue = |protocol| {
            incoming.remove(protocol).ok_or_else(|| Error::new(ErrorKind::Internal, "a protocol was not registered"))
        };
        let (control, lanes) = (queue(CONTROL_PROTOCOL)?, queue(LANE_PROTOCOL)?);
        host.listening().await?;
        let me = identity.peer_id();
        let named = [&self.schedulers, &self.bootstrap].into_iter().flatten();
        if let Some(address) = named.clone().find(|address| address.peer().is_none()) {
            let context = format!("{address} does not say who is there: it must end in /p2p/PEER");
            return Err(Error::new(ErrorKind::Config, context));
        }
        // Schedulers first; members that were named where there are none; else whom the token names.
        let lists = [self.schedulers.as_slice(), self.bootstrap.as_slice(), membership.bootstrap()];
        let coordinators = lists.into_iter().map(|list| coordinators(list, me)).find(|list| !list.is_empty());
        let seeds_only = membership.origin_trust() == OriginTrust::Seeds;
        let may = !seeds_only || membership.claims().roles.contains(Roles::SCHEDULER);
        let directory = Directory::new(me, seeds_only, may);
        let mut sources = Registry::builder().guard(self.guard);
        #[cfg(feature = "storage")]
        {
            sources = sources.storage(self.storage);
        }
        for (scheme, source) in self.sources {
            sources = match scheme {
                Some(scheme) => sources.source_for(scheme, source),
                None => sources.source(source),
            };
        }
        let buffers: Arc<super::Buffers> = Arc::default();
        let node = Node(Arc::new(Inner {
            runtime,
            identity,
            membership,
            host,
            store,
            sources: Arc::new(sources.build()),
            io,
            metrics: Arc::new(Metrics::default()),
            coordinators: coordinators.unwrap_or_default(),
            upload_slots: self.upload_slots,
            site,
            listens: !self.listen.is_empty(),
            discovers: self.discover_locally,
            rules,
            control: tokio::sync::Mutex::new(control),
            lanes: tokio::sync::Mutex::new(lanes),
            write_budget: Arc::new(Semaphore::new(WRITE_BUDGET_BYTES / BUDGET_UNIT)),
            parts: super::Parts::new(Arc::clone(&buffers)),
            buffers,
            origin_slots: Arc::new(Semaphore::new(ORIGIN_REQUESTS_MAX)),
            spool_slots: Arc::new(Semaphore::new(crate::store::SPOOLS_MAX)),
            rates: self.rates,
            throttles: Throttles::of_node(&self.rates),
            permits: Permits::default(),
            contradicted,
            connections_max: limits.connections,
            seed: AtomicBool::new(false),
            schedules: AtomicBool::new(false),
            directory: Mutex::new(directory),
            started: Instant::now(),
            triggers: Mutex::new(None),
            waiting: Arc::default(),
            shared: Mutex::new(HashMap::new()),
            numbers: AtomicU64::new(0),
        }));
        node.spawn(evict(node.downgrade(), self.eviction_interval));
        Ok(node)
    }
}

/// Where lanes are accepted unless it was said: at each address that is listened on, at the next port.
fn lanes_beside(listen: &[Address], mut lanes: LaneConfig) -> LaneConfig {
    if lanes.listen.is_empty() {
        lanes.any_port = true;
        let beside = listen.iter().filter_map(|address| {
            let port = address.port().filter(|port| *port != 0).map_or(0, |port| port.checked_add(1).unwrap_or(0));
            Some(SocketAddr::new(address.ip()?, port))
        });
        // TCP and QUIC are two ways to one place.
        for address in beside {
            if !lanes.listen.iter().any(|known| known.ip() == address.ip()) {
                lanes.listen.push(address);
            }
        }
    }
    lanes
}

/// Looks the store over for as long as the node lives.
async fn evict(node: WeakNode, interval: Duration) {
    loop {
        tokio::time::sleep(interval).await;
        let Some(node) = node.upgrade() else { return };
        node.parts().trim();
        node.buffers().trim();
        let store = Arc::clone(node.store());
        match node.io().run_however_long(move || store.evict(super::now_unix())).await {
            Ok(0) => {}
            Ok(bytes) => tracing::info!(bytes, "evicted what was used longest ago"),
            Err(_) => return,
        }
    }
}

impl std::fmt::Debug for NodeBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NodeBuilder")
            .field("data_dir", &self.data_dir)
            .field("listen", &self.listen)
            .finish_non_exhaustive()
    }
}

/// One address a peer, TCP and QUIC being two ways to one place, and not this host itself.
fn coordinators(list: &[Address], me: crate::wire::PeerId) -> Vec<Vec<Address>> {
    let mut peers: Vec<(crate::wire::PeerId, Vec<Address>)> = Vec::new();
    for address in list {
        let Some(peer) = address.peer().filter(|peer| *peer != me) else { continue };
        match peers.iter_mut().find(|(known, _)| *known == peer) {
            Some((_, addresses)) => addresses.push(address.clone()),
            None => peers.push((peer, vec![address.clone()])),
        }
    }
    peers.into_iter().map(|(_, addresses)| addresses).collect()
}

/// When content goes from the store.
struct StorePolicy {
    quota: Option<u64>,
    memory_bytes: u64,
    low_water: f64,
    high_water: f64,
    ttl: Option<Duration>,
    lock_wait: Duration,
    #[cfg(test)]
    faults: Option<Arc<crate::store::Faults>>,
}

/// Everything that touches the disk at the start.
fn open(
    dir: Option<PathBuf>,
    own: Option<Identity>,
    token: Option<&Token>,
    origin_trust: OriginTrust,
    policy: &StorePolicy,
) -> Result<(Arc<dyn Store>, Identity, Membership)> {
    let Some(dir) = dir else {
        let identity = own.unwrap_or_else(Identity::generate);
        let StorePolicy { memory_bytes: quota, low_water, high_water, ttl, .. } = *policy;
        let options = MemoryOptions { quota, low_water, high_water, ttl, ..MemoryOptions::default() };
        let membership = match token {
            Some(token) => Membership::join(&identity, token),
            None => Membership::found(&identity, origin_trust),
        };
        return Ok((Arc::new(MemoryStore::new(options)?), identity, membership));
    };
    // The store's lock comes first: it tells a second process off before it can change anything.
    let StorePolicy { quota, low_water, high_water, ttl, lock_wait, .. } = *policy;
    let open_files_max = descriptors::for_content();
    let options = FileOptions {
        quota,
        low_water,
        high_water,
        ttl,
        open_files_max,
        lock_wait,
        #[cfg(test)]
        faults: policy.faults.clone(),
        ..FileOptions::default()
    };
    let store = FileStore::open(&dir, options)?;
    let config = |e: crate::trust::FileError| Error::new(ErrorKind::Config, e.to_string()).caused_by(e);
    let identity = match own {
        Some(identity) => identity,
        None => Identity::load_or_create(&dir).map_err(config)?,
    };
    let known = Membership::load(&dir, &identity).map_err(config)?;
    let membership = match (known, token) {
        (Some(mut membership), Some(token)) => {
            if membership.network_id() != token.network_id() {
                let context = format!(
                    "{} belongs to another network than the token: use another data directory, or remove its \
                     file `membership` to leave that network",
                    dir.display()
                );
                return Err(Error::new(ErrorKind::Config, context));
            }
            if membership.is_founder() {
                membership
                    .adopt(token)
                    .map_err(|e| Error::new(ErrorKind::Config, "cannot take up the token").caused_by(e))?;
                membership
            } else {
                Membership::join(&identity, token)
            }
        }
        (Some(membership), None) => membership,
        (None, Some(token)) => Membership::join(&identity, token),
        (None, None) => Membership::found(&identity, origin_trust),
    };
    membership.save(&dir).map_err(config)?;
    Ok((Arc::new(store), identity, membership))
}

/// What a token is to allow. The default is what a plain peer needs, for ever.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TokenOptions {
    /// What its bearers may be.
    pub roles: Roles,
    /// When it ends, and every credential made with it.
    pub not_after: Option<SystemTime>,
    /// Where its bearers find the network, at most 16 addresses (default: this node's own).
    pub addresses: Vec<Address>,
}

impl Default for TokenOptions {
    fn default() -> Self {
        Self { roles: Roles::PEER, not_after: None, addresses: Vec::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_site_is_short_and_plain() {
        for (name, is_one) in [("eu-1.A_b", true), ("", false), ("a\nb", false), ("a b", false), ("\u{e9}", false)] {
            assert_eq!(is_site(name), is_one, "{name:?}");
        }
        assert!(is_site(&"x".repeat(SITE_BYTES_MAX)) && !is_site(&"x".repeat(SITE_BYTES_MAX + 1)));
    }

    #[test]
    fn what_is_set_after_a_preset_counts() {
        let builder = NodeBuilder::default().ttl(Duration::from_secs(1)).preset(Preset::Guest).memory_bytes(7);
        assert_eq!((builder.memory_bytes, builder.upload_slots, builder.ttl), (7, 2, None));
        let builder = NodeBuilder::default().preset(Preset::Guest).preset(Preset::Host);
        assert_eq!((builder.memory_bytes, builder.upload_slots), (MEMORY_BYTES, UPLOAD_SLOTS));
        assert!(builder.ttl.is_some() && !builder.listen.is_empty());
    }
}
