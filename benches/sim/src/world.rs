//! Hosts in virtual time: what their shells would do with the actions of their cores.

mod check;
mod fetches;
mod lanes;
mod mishaps;
mod shell;
mod usage;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use dragonfly_core::swarm::{Config, HostKey, Input, LeaseKey, RequestId, Swarm, TaskKey, TaskOptions, Time};
use dragonfly_core::task::{HaveMap, Layout};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use crate::fluid::Ending;
use crate::members::{Heard, Members, Named, Part};
use crate::network::Chunk;
use crate::{Authority, Link, Network, Origin, Queue};

pub use usage::{Spread, Usage};

/// One way to the coordinator or the origin.
const CONTROL: Duration = Duration::from_millis(5);

/// No message of the simulated links takes longer: what a host lost before that, its neighbours must know.
const NEWS: Duration = Duration::from_millis(500);

/// How a host of the simulation is and behaves.
#[derive(Clone, Copy, Debug)]
pub struct HostOptions {
    /// Its link.
    pub link: Link,
    /// Whether it holds everything from the start, and injects it.
    pub is_seed: bool,
    /// Whether it may ask for leases.
    pub may_lease: bool,
    /// Whether it sends bytes that fail their hash.
    pub is_corrupt: bool,
    /// Whether it accepts requests and never sends anything.
    pub is_mute: bool,
    /// Where it is: hosts of one site are near each other.
    pub site: u8,
    /// Which site it names as its own, if any.
    pub named: Option<u8>,
}

/// How far the hosts are that are not seeds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct State {
    /// When.
    pub at: Time,
    /// How many there are.
    pub hosts: u64,
    /// How many hold everything.
    pub done: u64,
    /// Pieces held by all together.
    pub held: u64,
    /// Holders of the rarest piece.
    pub holders_least: u64,
    /// Pieces that none of them holds.
    pub alone: u64,
}

#[derive(Debug)]
struct Host {
    core: Swarm,
    options: HostOptions,
    is_alive: bool,
    /// How often it began: what was on its way to an earlier life does not arrive.
    life: u32,
    wake: Option<Time>,
    /// Requests whose bytes it takes in, and how many pieces of each are still to come.
    requests: Vec<(RequestId, u32)>,
    /// Its lanes, by host.
    lanes: Vec<(u32, u64)>,
    held: BTreeMap<TaskKey, HaveMap>,
    done: BTreeMap<TaskKey, Time>,
    sent: u64,
    wasted: u64,
    /// Bytes of pieces that it took in and held already.
    twice: u64,
    joined: Time,
    /// When it began to send.
    began: Option<Time>,
    /// Bytes it had sent when it had nothing more to inject, and when that was.
    injected: Option<(u64, Time)>,
}

#[derive(Debug)]
enum Event {
    /// Links are to be shared anew.
    Allocate,
    Arrive(Chunk),
    /// The coordinator's core is to be woken.
    Coordinate,
    Arrived(Chunk),
    /// A flow of the exact model has ended.
    Ended {
        index: u32,
        serial: u64,
    },
    Input {
        to: u32,
        life: u32,
        lane: Option<(u32, u64)>,
        input: Input,
    },
    Lane {
        from: u32,
        to: u32,
    },
    Left(u32),
    Open {
        from: u32,
        to: u32,
        lane: u64,
        task: TaskKey,
    },
    OriginPiece,
    /// A fetch may have brought nothing for too long.
    OriginSilent {
        host: u32,
        task: TaskKey,
        lease: LeaseKey,
    },
    Wake(u32),
}

/// A whole swarm.
#[derive(Debug)]
pub struct World {
    /// Where content comes from.
    pub origin: Origin,
    /// Whether actions go into [`World::trace`]; it costs more than the cores do.
    pub is_traced: bool,
    /// Checks run after every so many events (0: never).
    pub check_every: u64,
    now: Time,
    events: Queue<Event>,
    handled: u64,
    hosts: Vec<Host>,
    /// The links.
    pub network: Network,
    authority: Authority,
    members: Members,
    /// What its choices are drawn from, and the bridges of each site, if not as many as production has.
    members_seed: u64,
    bridges: Option<usize>,
    /// When it is woken next.
    coordinate: Option<Time>,
    /// Scratch.
    endings: Vec<Ending>,
    /// Tasks that living hosts have joined and are not done with.
    unfinished: usize,
    layouts: BTreeMap<TaskKey, Layout>,
    lanes_made: u64,
    random: StdRng,
    trace: u64,
    /// When the last piece left the origin.
    origin_used: Time,
    /// Whether the coordinator is gone.
    is_down: bool,
    /// How often each piece left the origin.
    delivered: BTreeMap<(TaskKey, u32), u32>,
    /// Bytes that left the origin and that nobody has any more, or never had whole.
    lost: u64,
    evicted: BTreeMap<(HostKey, TaskKey, u32), Time>,
    /// Who does not reach the others.
    apart: BTreeSet<HostKey>,
    /// How pieces spread, if that is looked at.
    spreads: BTreeMap<(TaskKey, u32), Spread>,
    /// Whether it is.
    pub is_watched: bool,
    /// Hosts that were added and are not seeds.
    peers: u32,
}

impl World {
    /// An empty world. `origin_rate` is in bytes a second.
    pub fn new(seed: u64, origin_rate: u64) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let members_seed = random.random();
        Self {
            origin: Origin::new(origin_rate),
            is_traced: true,
            check_every: 1,
            now: Time::ZERO,
            events: Queue::default(),
            handled: 0,
            hosts: Vec::new(),
            network: Network::default(),
            authority: Authority::default(),
            members: Members::new(members_seed, Config::default().neighbours_wanted, None),
            members_seed,
            bridges: None,
            coordinate: None,
            endings: Vec::new(),
            unfinished: 0,
            layouts: BTreeMap::new(),
            lanes_made: 0,
            random,
            trace: 0xcbf2_9ce4_8422_2325,
            origin_used: Time::ZERO,
            is_down: false,
            delivered: BTreeMap::new(),
            lost: 0,
            evicted: BTreeMap::new(),
            apart: BTreeSet::new(),
            spreads: BTreeMap::new(),
            is_watched: false,
            peers: 0,
        }
    }

    /// Adds a task; `leased`: its pieces can be leased from the origin.
    pub fn add_task(&mut self, task: TaskKey, layout: Layout, leased: bool) {
        self.layouts.insert(task, layout);
        if leased {
            self.authority.offer(task, 0..layout.pieces());
        }
    }

    /// Adds a task that hosts hold from the start; what they lose can be leased from the origin.
    pub fn add_held_task(&mut self, task: TaskKey, layout: Layout) {
        self.layouts.insert(task, layout);
        self.authority.offer(task, 0..0);
    }

    /// So many hosts of each site bring pieces from the others. To be said before anybody joins.
    pub fn set_bridges(&mut self, bridges: usize) {
        self.bridges = Some(bridges);
        self.members = Members::new(self.members_seed, Config::default().neighbours_wanted, self.bridges);
    }

    /// Adds a host without tasks.
    pub fn add_host(&mut self, config: Config, options: HostOptions) -> HostKey {
        let key = HostKey(self.hosts.len() as u32);
        let core = Swarm::new(config, self.random.random());
        self.network.add(options.link, options.site);
        self.peers += u32::from(!options.is_seed);
        self.hosts.push(Host {
            core,
            options,
            is_alive: true,
            life: 0,
            wake: None,
            requests: Vec::new(),
            lanes: Vec::new(),
            held: BTreeMap::new(),
            done: BTreeMap::new(),
            sent: 0,
            wasted: 0,
            twice: 0,
            joined: self.now,
            began: None,
            injected: None,
        });
        key
    }

    /// Lets a host take part in a task of this priority from now on.
    pub fn join(&mut self, host: HostKey, task: TaskKey, priority: u8) {
        let pieces = self.layouts[&task].pieces();
        let is_seed = self.hosts[host.0 as usize].options.is_seed;
        let have = if is_seed { HaveMap::full(pieces) } else { HaveMap::empty(pieces) };
        self.take_part(host, task, priority, have);
    }

    /// Lets a host take part that holds everything and lets everybody know, as one does that came to it earlier.
    pub fn join_complete(&mut self, host: HostKey, task: TaskKey, priority: u8) {
        let have = HaveMap::full(self.layouts[&task].pieces());
        self.take_part(host, task, priority, have);
    }

    fn take_part(&mut self, host: HostKey, task: TaskKey, priority: u8, have: HaveMap) {
        let layout = self.layouts[&task];
        let taking = &mut self.hosts[host.0 as usize];
        let options = taking.options;
        taking.joined = self.now;
        if taking.held.insert(task, have.clone()).is_none() {
            self.unfinished += 1;
        }
        self.authority.join(task, host);
        let options = TaskOptions {
            priority,
            wanted: true,
            may_lease: options.may_lease,
            leases_max: 2,
            injector: options.is_seed,
        };
        self.input(host.0, Input::TaskAdded { task, layout, have, options, hosts: Vec::new(), across: Vec::new() });
        if self.is_down {
            return self.input(host.0, Input::AuthorityDown { task });
        }
        self.announce(host, task);
    }

    /// Tells the coordinator that a host takes part.
    fn announce(&mut self, key: HostKey, task: TaskKey) {
        let host = &self.hosts[key.0 as usize];
        let Some(have) = host.held.get(&task) else { return };
        let eighths = (u64::from(have.held()) * 8).checked_div(u64::from(have.pieces())).unwrap_or(8) as u8;
        let part = Part {
            site: host.options.site,
            named: host.options.named,
            is_seed: host.options.is_seed,
            uploads: host.core.config().upload,
            eighths,
        };
        let named = self.members.join(self.now, key, task, self.layouts[&task], part);
        self.name(named);
    }

    /// Tells hosts whom they are to have as neighbours.
    fn name(&mut self, named: Vec<Named>) {
        for (host, task, hosts) in named {
            let across = hosts.iter().filter_map(|(host, share)| Some((*host, (*share)?))).collect();
            let hosts = hosts.into_iter().map(|(host, _)| host).collect();
            self.later(CONTROL * 2, host.0, Input::Neighbours { task, hosts, across });
        }
        if let Some(at) = self.members.next_deadline()
            && self.coordinate.is_none_or(|set| set > at)
        {
            self.coordinate = Some(at);
            self.events.push(at.max(self.now), Event::Coordinate);
        }
    }

    fn coordinate(&mut self) {
        if self.coordinate.is_some_and(|at| at <= self.now) {
            self.coordinate = None;
            let named = self.members.wake(self.now);
            self.name(named);
        }
    }

    /// Runs until every living host that joined is done with all its tasks, or `limit` has passed; whether all are.
    pub fn run(&mut self, limit: Duration) -> bool {
        let end = self.now.after(limit);
        while !self.is_done() {
            match self.events.next_at() {
                Some(at) if at <= end => self.next(),
                Some(_) => {
                    self.now = end;
                    return false;
                }
                None => return false,
            }
        }
        true
    }

    /// Lets so much time pass, whether or not anybody has anything to do.
    pub fn pass(&mut self, time: Duration) {
        let end = self.now.after(time);
        while self.events.next_at().is_some_and(|at| at <= end) {
            self.next();
        }
        self.now = end;
    }

    fn next(&mut self) {
        if let Some((at, event)) = self.events.pop() {
            self.step(at, event);
        }
    }

    /// Whether every living host is done with all its tasks.
    pub const fn is_done(&self) -> bool {
        self.unfinished == 0
    }

    /// The time.
    pub const fn now(&self) -> Time {
        self.now
    }

    /// A hash of every action, with its host and time: equal runs have equal traces.
    pub const fn trace(&self) -> u64 {
        self.trace
    }

    /// Events handled.
    pub const fn handled(&self) -> u64 {
        self.handled
    }

    /// When a host was done with a task.
    pub fn done_at(&self, host: HostKey, task: TaskKey) -> Option<Time> {
        self.hosts[host.0 as usize].done.get(&task).copied()
    }

    /// What the coordinator that is there now has heard.
    pub const fn heard(&self) -> Heard {
        self.members.heard
    }

    /// Bytes of pieces that a host has sent.
    pub fn sent_bytes(&self, host: HostKey) -> u64 {
        self.hosts[host.0 as usize].sent
    }

    /// Bytes of pieces that a host took in for requests that it had withdrawn.
    pub fn wasted_bytes(&self, host: HostKey) -> u64 {
        self.hosts[host.0 as usize].wasted
    }

    /// Bytes that an injector had sent when its last piece was out.
    pub fn injected_bytes(&self, host: HostKey) -> Option<u64> {
        self.hosts[host.0 as usize].injected.map(|(bytes, _)| bytes)
    }

    /// How much of its uplink an injector used from its first byte until its last piece was out.
    pub fn injector_use(&self, host: HostKey) -> Option<f64> {
        let host = &self.hosts[host.0 as usize];
        let ((bytes, at), began) = (host.injected?, host.began?);
        Some(bytes as f64 / (at.since(began).as_secs_f64() * host.options.link.up as f64))
    }

    /// Bytes of pieces that a host took in and held already.
    pub fn twice_bytes(&self, host: HostKey) -> u64 {
        self.hosts[host.0 as usize].twice
    }

    /// When a host joined, last.
    pub fn joined_at(&self, host: HostKey) -> Time {
        self.hosts[host.0 as usize].joined
    }

    /// How far everybody is.
    pub fn state(&self, task: TaskKey) -> State {
        let mut holders = vec![0; self.layouts.get(&task).map_or(0, |layout| layout.pieces() as usize)];
        let mut state = State { at: self.now, hosts: 0, done: 0, held: 0, holders_least: 0, alone: 0 };
        for host in self.hosts.iter().filter(|host| host.is_alive && !host.options.is_seed) {
            let Some(held) = host.held.get(&task) else { continue };
            state.hosts += 1;
            state.done += u64::from(held.is_complete());
            state.held += u64::from(held.held());
            held.runs().flatten().for_each(|piece| holders[piece as usize] += 1);
        }
        state.holders_least = holders.iter().copied().min().unwrap_or(0);
        state.alone = holders.iter().filter(|holders| **holders == 0).count() as u64;
        state
    }

    /// Bytes that had to leave the origin again because of what befell the hosts.
    pub const fn lost_bytes(&self) -> u64 {
        self.lost
    }

    /// Whether a host is up.
    pub fn is_alive(&self, host: HostKey) -> bool {
        self.hosts[host.0 as usize].is_alive
    }

    /// A host's link, as it was added.
    pub fn link(&self, host: HostKey) -> Link {
        self.hosts[host.0 as usize].options.link
    }

    /// A host's core.
    pub fn core(&self, host: HostKey) -> &Swarm {
        &self.hosts[host.0 as usize].core
    }

    fn step(&mut self, at: Time, event: Event) {
        self.now = at;
        self.handled += 1;
        match event {
            Event::Allocate => self.allocate(),
            Event::Ended { index, serial } => self.ended(index, serial),
            Event::Arrive(chunk) => {
                let through = self.network.receive(at, &chunk);
                self.events.push(through, Event::Arrived(chunk));
            }
            Event::Arrived(chunk) => self.arrived(chunk),
            Event::Coordinate => self.coordinate(),
            Event::Input { to, life, lane, input } => {
                let is_meant = self.hosts[to as usize].life == life;
                if is_meant && lane.is_none_or(|(other, lane)| self.lane(to, other) == Some(lane)) {
                    if let Input::Cancelled { host, request } = &input {
                        let came = self.network.cancel(at, to, host.0, *request);
                        self.hosts[to as usize].sent += came;
                        self.hosts[host.0 as usize].wasted += came;
                    }
                    self.input(to, input);
                }
            }
            Event::Lane { from, to } => self.raise_lane(from, to),
            Event::Left(from) => self.left(from),
            Event::Open { from, to, lane, task } => self.open(from, to, lane, task),
            Event::OriginPiece => self.origin_piece(),
            Event::OriginSilent { host, task, lease } => self.origin_silent(host, task, lease),
            Event::Wake(host) => {
                if self.hosts[host as usize].wake == Some(at) {
                    self.hosts[host as usize].wake = None;
                    self.input(host, Input::Deadline);
                }
            }
        }
        if self.check_every > 0 && self.handled.is_multiple_of(self.check_every) {
            self.check();
        }
    }
}
