//! A swarm as the tables of measurements have it: how many hosts, how their links are, what befalls them, and how
//! long each took against the least time that any system needs.

use std::fmt;
use std::time::Duration;

use dragonfly_core::swarm::{Config, HostKey, TaskKey, Time};
use dragonfly_core::task::Layout;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use crate::{Heard, HostOptions, Link, Sharing, Spread, State, Thin, Usage, World};

/// The only task.
const TASK: TaskKey = TaskKey(0);

/// Of tasks: the middle of eight.
const PRIORITY: u8 = 3;

/// Up to so many hosts links are shared exactly, if nothing else is said.
pub const EXACT_MAX: u32 = 1000;

/// A run that takes so many times the least time is over: somebody will never be done.
const GIVE_UP: u32 = 20;

/// And at least so long: after everything was mended the longest pauses of the core may follow one another.
const GIVE_UP_MIN: Duration = Duration::from_secs(300);

/// A slow host has this part of the others' rate, a fast one this many times it.
const SLOWER: u64 = 10;

/// A swarm to be played.
#[derive(Clone, Debug)]
pub struct Fleet {
    /// What everything is drawn from.
    pub seed: u64,
    /// Hosts that want the content.
    pub peers: u32,
    /// Hosts that hold it from the start. None: it comes from the origin, by leases.
    pub seeds: u32,
    /// Pieces of the content.
    pub pieces: u32,
    /// Bytes of a piece.
    pub piece_length: u64,
    /// Bytes a second of each link, and of the origin.
    pub rate: u64,
    /// From a host to the middle of the network.
    pub latency: Duration,
    /// Each host's uplink is this part of its downlink (1: they are equal).
    pub asymmetry: u64,
    /// Hosts whose links are ten times slower.
    pub slow: u32,
    /// Hosts whose links are ten times faster.
    pub fast: u32,
    /// Hosts that never upload.
    pub freeloaders: u32,
    /// Sites, among which hosts are dealt out in turn.
    pub sites: u8,
    /// The link between sites.
    pub thin: Option<Thin>,
    /// Whether hosts name their site to the coordinator.
    pub names: bool,
    /// Hosts of each site that bring pieces from the others, if not as many as production has.
    pub bridges: Option<usize>,
    /// The part of the hosts, in percent, that join during twice the least time.
    pub late: u32,
    /// The part of the hosts, in percent, that is replaced each minute.
    pub churn: u32,
    /// When the first seed dies.
    pub seed_dies: Option<Duration>,
    /// When the coordinator dies; another one is there five seconds later.
    pub coordinator_dies: Option<Duration>,
    /// How links are shared.
    pub sharing: Sharing,
    /// Bytes by which flows share an uplink, where they do so by chunks.
    pub chunk: u64,
    /// Whether flows get more and less than their even share.
    pub is_unfair: bool,
    /// The limits of each host's core.
    pub config: Config,
    /// Checks run after every so many events; 0: only at the end.
    pub check_every: u64,
    /// Whether the run is traced.
    pub is_traced: bool,
    /// Whether it is looked at where the time goes: [`Report::usages`] and [`Report::spreads`].
    pub is_watched: bool,
}

impl Default for Fleet {
    fn default() -> Self {
        Self {
            seed: 1,
            peers: 1000,
            seeds: 1,
            pieces: 256,
            piece_length: 256 << 10,
            rate: 12_500_000,
            latency: Duration::from_millis(5),
            asymmetry: 1,
            slow: 0,
            fast: 0,
            freeloaders: 0,
            sites: 1,
            thin: None,
            names: true,
            bridges: None,
            late: 0,
            churn: 0,
            seed_dies: None,
            coordinator_dies: None,
            sharing: Sharing::Exact,
            chunk: 64 << 10,
            is_unfair: false,
            config: Config::default(),
            check_every: 0,
            is_traced: false,
            is_watched: false,
        }
    }
}

/// What a run showed. Ratios are times from a host's join to its end, over the least that any system needs for it.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// The least time for a host of the usual kind, in seconds.
    pub bound: f64,
    /// Hosts that had everything in the end.
    pub finished: usize,
    /// The median host.
    pub p50: f64,
    /// The host that 99 of 100 are before.
    pub p99: f64,
    /// The last host.
    pub last: f64,
    /// Copies that the seeds sent until all that they hold was out; of the first seed.
    pub injected: Option<f64>,
    /// How much of its uplink the first seed used until then, from its first byte on.
    pub injector_use: Option<f64>,
    /// Bytes that came for requests withdrawn and of pieces already held, over all bytes wanted.
    pub twice: f64,
    /// Copies that left the origin.
    pub origin: f64,
    /// Copies of those that left it again because all who held them were lost.
    pub lost: f64,
    /// Copies that crossed from site to site.
    pub crossed: f64,
    /// What the coordinator heard, leases aside; the last one, if one died.
    pub heard: Heard,
    /// Events handled.
    pub events: u64,
    /// Of every action; zero if the run was not traced.
    pub trace: u64,
    /// What uplinks did over time, if that was looked at.
    pub usages: Vec<Usage>,
    /// How each piece spread, likewise.
    pub spreads: Vec<Spread>,
}

/// A run that did not come to its end, and how to see it again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{why}\nreplay: {replay}")]
pub struct Failed {
    /// What was wrong.
    pub why: String,
    /// The command that plays it again.
    pub replay: String,
}

impl Fleet {
    /// Bytes of the content.
    pub const fn length(&self) -> u64 {
        self.pieces as u64 * self.piece_length
    }

    /// The options of each host, seeds first.
    fn hosts(&self) -> Vec<HostOptions> {
        let seeds = (0..self.seeds).map(|_| (self.rate, true));
        let peer = |index: u32| match index {
            index if index < self.slow => self.rate / SLOWER,
            index if index < self.slow + self.fast => self.rate * SLOWER,
            _ => self.rate,
        };
        let peers = (0..self.peers).map(|index| (peer(index), false));
        let all = seeds.chain(peers).enumerate().map(|(index, (rate, is_seed))| {
            let up = if is_seed { rate } else { rate / self.asymmetry };
            self.host(Link { up, down: rate, latency: self.latency }, is_seed, index)
        });
        all.collect()
    }

    fn host(&self, link: Link, is_seed: bool, index: usize) -> HostOptions {
        let may_lease = !is_seed && self.may_lease();
        let site = (index % usize::from(self.sites.max(1))) as u8;
        let named = self.names.then_some(site);
        HostOptions { link, is_seed, may_lease, is_corrupt: false, is_mute: false, site, named }
    }

    /// Whether hosts go to the origin: for all, or for what was lost.
    const fn may_lease(&self) -> bool {
        self.seeds == 0 || self.churn > 0 || self.seed_dies.is_some()
    }

    const fn is_freeloader(&self, index: u32) -> bool {
        // Not the slow and the fast ones.
        index >= self.slow + self.fast && index < self.slow + self.fast + self.freeloaders
    }

    /// The least time that any system needs until a host whose downlink has this rate has everything: the content has
    /// to leave its source, to cross the thin link, and to come in; all together can send no faster than their uplinks
    /// do; and where all links are equal, the number of holders of a piece at most doubles in its time.
    fn bound(&self, down: u64) -> f64 {
        let length = self.length() as f64;
        let up: u64 = self.hosts().iter().map(|host| host.link.up).sum();
        let kept = u64::from(self.freeloaders) * self.rate / self.asymmetry;
        let source = if self.seeds == 0 { self.rate } else { self.rate * u64::from(self.seeds) };
        let mut bound = (length / source as f64).max(length / down as f64);
        if self.late == 0 && self.churn == 0 {
            let supply = up - kept + if self.seeds == 0 { self.rate } else { 0 };
            bound = bound.max(f64::from(self.peers) * length / supply as f64);
            if self.is_even() {
                let doublings = f64::from(self.peers.max(1)).log2().floor();
                bound = bound.max((1.0 + doublings / f64::from(self.pieces)) * length / self.rate as f64);
            }
        }
        self.thin.map_or(bound, |thin| bound.max(length / thin.rate as f64))
    }

    fn is_even(&self) -> bool {
        self.seeds <= 1 && self.asymmetry == 1 && self.slow + self.fast + self.freeloaders == 0 && self.thin.is_none()
    }

    /// Plays it.
    ///
    /// # Errors
    /// Somebody was not done in the end.
    ///
    /// # Panics
    /// If a check fails: what must never be was.
    pub fn play(&self, watch: &mut dyn FnMut(State)) -> Result<Report, Failed> {
        Play::new(self).run(watch)
    }

    fn failed(&self, why: String) -> Failed {
        Failed { why, replay: self.to_string() }
    }
}

/// The command that plays it again.
impl fmt::Display for Fleet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "cargo run --release -p dragonfly-sim --bin sim -- --seed {} --peers {} --seeds {} --pieces {} --piece-kib {}",
            self.seed,
            self.peers,
            self.seeds,
            self.pieces,
            self.piece_length >> 10
        )?;
        let sharing = if self.sharing == Sharing::Exact { "exact" } else { "chunks" };
        write!(f, " --share {sharing}")?;
        let numbers: [(&str, u64); 13] = [
            ("chunk-kib", u64::from(self.chunk != 64 << 10) * (self.chunk >> 10)),
            ("asymmetry", u64::from(self.asymmetry != 1) * self.asymmetry),
            ("slow", u64::from(self.slow)),
            ("fast", u64::from(self.fast)),
            ("freeloaders", u64::from(self.freeloaders)),
            ("sites", u64::from(self.sites > 1) * u64::from(self.sites)),
            ("thin", self.thin.map_or(0, |thin| thin.rate * 8 / 1_000_000)),
            ("bridges", self.bridges.unwrap_or(0) as u64),
            ("late", u64::from(self.late)),
            ("churn", u64::from(self.churn)),
            ("seed-dies-ms", self.seed_dies.map_or(0, |at| at.as_millis() as u64)),
            ("coordinator-dies-ms", self.coordinator_dies.map_or(0, |at| at.as_millis() as u64)),
            ("check-every", self.check_every),
        ];
        for (name, number) in numbers.into_iter().filter(|(_, number)| *number > 0) {
            write!(f, " --{name} {number}")?;
        }
        if !self.names && self.sites > 1 {
            write!(f, " --unnamed")?;
        }
        if self.is_unfair { write!(f, " --unfair") } else { Ok(()) }
    }
}

/// What happens at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Happening {
    CoordinatorBack,
    CoordinatorDies,
    Join,
    Replace,
    SeedDies,
}

/// A fleet being played.
struct Play<'a> {
    fleet: &'a Fleet,
    world: World,
    random: StdRng,
    seeds: Vec<HostKey>,
    peers: Vec<HostKey>,
    waiting: Vec<HostOptions>,
}

impl<'a> Play<'a> {
    fn new(fleet: &'a Fleet) -> Self {
        let mut world = World::new(fleet.seed, fleet.rate);
        (world.check_every, world.is_traced) = (fleet.check_every, fleet.is_traced);
        world.is_watched = fleet.is_watched;
        if let Some(bridges) = fleet.bridges {
            world.set_bridges(bridges);
        }
        world.network.sharing = fleet.sharing;
        world.network.chunk = fleet.chunk;
        world.network.is_unfair = fleet.is_unfair;
        if let Some(thin) = fleet.thin {
            world.network.set_thin(thin);
        }
        match Layout::new(fleet.length(), fleet.piece_length) {
            Ok(layout) if fleet.seeds > 0 && fleet.may_lease() => world.add_held_task(TASK, layout),
            Ok(layout) => world.add_task(TASK, layout, fleet.seeds == 0),
            Err(error) => panic!("a length that cannot be: {error}"),
        }
        let random = StdRng::seed_from_u64(fleet.seed ^ 0x0f1e_e75e_ed00_0001);
        let mut play = Self { fleet, world, random, seeds: Vec::new(), peers: Vec::new(), waiting: Vec::new() };
        let hosts = fleet.hosts();
        let (seeds, peers) = hosts.split_at(fleet.seeds as usize);
        for options in seeds {
            let key = play.world.add_host(fleet.config.clone(), *options);
            play.world.join(key, TASK, PRIORITY);
            play.seeds.push(key);
        }
        let early = peers.len() - peers.len() * fleet.late as usize / 100;
        for options in &peers[..early] {
            play.join(*options);
        }
        play.waiting = peers[early..].to_vec();
        play
    }

    fn join(&mut self, options: HostOptions) {
        let mut config = self.fleet.config.clone();
        config.upload &= !self.fleet.is_freeloader(self.peers.len() as u32);
        let key = self.world.add_host(config, options);
        self.world.join(key, TASK, PRIORITY);
        self.peers.push(key);
    }

    /// What happens, in the order of time.
    fn happenings(&mut self, bound: Duration) -> Vec<(Duration, Happening)> {
        let fleet = self.fleet;
        let late = self.waiting.len();
        let mut all: Vec<_> =
            (0..late).map(|_| (bound.mul_f64(self.random.random_range(0.0..2.0)), Happening::Join)).collect();
        if fleet.churn > 0 {
            // Until half of those who are there from the start would be done twice over.
            let each = Duration::from_secs(60).div_f64(f64::from(fleet.peers * fleet.churn) / 100.0);
            let count = (bound.as_secs_f64() * 2.0 / each.as_secs_f64()) as u32;
            all.extend((1..=count).map(|number| (each * number, Happening::Replace)));
        }
        all.extend(fleet.seed_dies.map(|at| (at, Happening::SeedDies)));
        if let Some(at) = fleet.coordinator_dies {
            all.extend([(at, Happening::CoordinatorDies), (at + Duration::from_secs(5), Happening::CoordinatorBack)]);
        }
        all.sort_unstable();
        all
    }

    fn run(mut self, watch: &mut dyn FnMut(State)) -> Result<Report, Failed> {
        let bound = Duration::from_secs_f64(self.fleet.bound(self.fleet.rate));
        let every = bound / 50;
        let mut happenings = self.happenings(bound).into_iter().peekable();
        let mut seen = Duration::ZERO;
        let mut usages = Vec::new();
        watch(self.world.state(TASK));
        // Whatever happens, happens; then there is an end by which all are done.
        let end = happenings.clone().last().map_or(Duration::ZERO, |(at, _)| at);
        let end = end + (bound * GIVE_UP).max(GIVE_UP_MIN);
        loop {
            let next = happenings.peek().map_or(end, |(at, _)| *at).min(seen + every);
            let left = next.saturating_sub(self.world.now().0);
            let is_over = match happenings.peek() {
                None => self.world.run(left),
                Some(_) => {
                    self.world.pass(left);
                    false
                }
            };
            let now = self.world.now().0;
            if now >= seen + every || is_over {
                seen = now;
                watch(self.world.state(TASK));
                if self.fleet.is_watched {
                    usages.push(self.world.usage(TASK));
                }
            }
            if is_over {
                break;
            }
            while let Some((_, happening)) = happenings.next_if(|(at, _)| *at <= now) {
                self.happen(happening);
            }
            if now >= end {
                let why: String = self.world.why().chars().take(4000).collect();
                return Err(self.fleet.failed(format!("not done {why}")));
            }
        }
        if self.fleet.peers <= EXACT_MAX {
            self.world.check();
        }
        Ok(Report { usages, spreads: self.world.spreads(TASK).map(|(_, spread)| spread).collect(), ..self.report() })
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::CoordinatorBack => self.world.restore_authority(),
            Happening::CoordinatorDies => self.world.lose_authority(),
            Happening::Join => {
                if let Some(options) = self.waiting.pop() {
                    self.join(options);
                }
            }
            Happening::Replace => {
                let alive: Vec<HostKey> = self.peers.iter().copied().filter(|key| self.world.is_alive(*key)).collect();
                if !alive.is_empty() {
                    self.world.kill(alive[self.random.random_range(0..alive.len())]);
                }
                let rate = self.fleet.rate;
                let link = Link { up: rate / self.fleet.asymmetry, down: rate, latency: self.fleet.latency };
                self.join(self.fleet.host(link, false, self.peers.len()));
            }
            Happening::SeedDies => {
                if let Some(seed) = self.seeds.first() {
                    self.world.kill(*seed);
                }
            }
        }
    }

    fn report(&self) -> Report {
        let (world, fleet, length) = (&self.world, self.fleet, self.fleet.length() as f64);
        let survivors: Vec<HostKey> = self.peers.iter().copied().filter(|key| world.is_alive(*key)).collect();
        let mut bounds = std::collections::BTreeMap::new();
        let mut ratios: Vec<f64> = Vec::with_capacity(survivors.len());
        for key in &survivors {
            let done = world.done_at(*key, TASK).unwrap_or(Time(Duration::MAX));
            let down = world.link(*key).down;
            let bound = *bounds.entry(down).or_insert_with(|| fleet.bound(down));
            ratios.push(done.since(world.joined_at(*key)).as_secs_f64() / bound);
        }
        ratios.sort_unstable_by(f64::total_cmp);
        let at = |part: f64| {
            let index = (ratios.len() as f64 * part).ceil() as usize;
            ratios.get(index.saturating_sub(1)).copied().unwrap_or(0.0)
        };
        let seed = self.seeds.first();
        let twice: u64 = self.peers.iter().map(|key| world.twice_bytes(*key) + world.wasted_bytes(*key)).sum();
        Report {
            bound: fleet.bound(fleet.rate),
            finished: survivors.len(),
            p50: at(0.5),
            p99: at(0.99),
            last: at(1.0),
            injected: seed.and_then(|seed| world.injected_bytes(*seed)).map(|bytes| bytes as f64 / length),
            injector_use: seed.and_then(|seed| world.injector_use(*seed)),
            twice: twice as f64 / (length * self.peers.len() as f64),
            origin: world.origin.bytes as f64 / length,
            lost: world.lost_bytes() as f64 / length,
            crossed: world.network.crossed as f64 / length,
            heard: world.heard(),
            events: world.handled(),
            trace: if world.is_traced { world.trace() } else { 0 },
            usages: Vec::new(),
            spreads: Vec::new(),
        }
    }
}
