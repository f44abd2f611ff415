//! Hosts in virtual time: what their shells would do with the actions of their cores.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use dragonfly_core::swarm::{Action, Config, HostKey, Input, LeaseKey, RequestId, Swarm, TaskKey, TaskOptions, Time};
use dragonfly_core::task::{HaveMap, Layout};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use crate::network::{Chunk, Flow, duration};
use crate::origin::Fetch;
use crate::{Authority, Link, Network, Origin, Queue};

/// From a piece that is proven to the store's word that it is held.
const STORE: Duration = Duration::from_micros(100);

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
}

#[derive(Debug)]
struct Host {
    core: Swarm,
    options: HostOptions,
    is_alive: bool,
    wake: Option<Time>,
    /// Requests whose bytes it takes in.
    requests: BTreeSet<RequestId>,
    held: BTreeMap<TaskKey, HaveMap>,
    done: BTreeMap<TaskKey, Time>,
    sent: u64,
    wasted: u64,
    /// Bytes it had sent when it had nothing more to inject.
    injected: Option<u64>,
}

#[derive(Debug)]
enum Event {
    Arrive(Chunk),
    Arrived(Chunk),
    Input { to: u32, lane: Option<(u32, u64)>, input: Input },
    Lane { from: u32, to: u32 },
    Left(u32),
    Open { from: u32, to: u32, lane: u64, task: TaskKey },
    OriginPiece,
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
    network: Network,
    authority: Authority,
    layouts: BTreeMap<TaskKey, Layout>,
    lanes: BTreeMap<(u32, u32), u64>,
    lanes_made: u64,
    random: StdRng,
    trace: u64,
    /// When the last piece left the origin.
    origin_used: Time,
    evicted: BTreeMap<(HostKey, TaskKey, u32), Time>,
}

impl World {
    /// An empty world. `origin_rate` is in bytes a second.
    pub fn new(seed: u64, origin_rate: u64) -> Self {
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
            layouts: BTreeMap::new(),
            lanes: BTreeMap::new(),
            lanes_made: 0,
            random: StdRng::seed_from_u64(seed),
            trace: 0xcbf2_9ce4_8422_2325,
            origin_used: Time::ZERO,
            evicted: BTreeMap::new(),
        }
    }

    /// Adds a task; `leased`: its pieces can be leased from the origin.
    pub fn add_task(&mut self, task: TaskKey, layout: Layout, leased: bool) {
        self.layouts.insert(task, layout);
        if leased {
            self.authority.offer(task, 0..layout.pieces());
        }
    }

    /// Adds a host without tasks.
    pub fn add_host(&mut self, config: Config, options: HostOptions) -> HostKey {
        let key = HostKey(self.hosts.len() as u32);
        let core = Swarm::new(config, self.random.random());
        self.network.add(options.link);
        self.hosts.push(Host {
            core,
            options,
            is_alive: true,
            wake: None,
            requests: BTreeSet::new(),
            held: BTreeMap::new(),
            done: BTreeMap::new(),
            sent: 0,
            wasted: 0,
            injected: None,
        });
        key
    }

    /// Lets a host take part in a task of this priority from now on.
    pub fn join(&mut self, host: HostKey, task: TaskKey, priority: u8) {
        let layout = self.layouts[&task];
        let options = self.hosts[host.0 as usize].options;
        let have = if options.is_seed { HaveMap::full(layout.pieces()) } else { HaveMap::empty(layout.pieces()) };
        self.hosts[host.0 as usize].held.insert(task, have.clone());
        self.authority.join(task, host);
        let options = TaskOptions {
            priority,
            wanted: true,
            may_lease: options.may_lease,
            leases_max: 2,
            injector: options.is_seed,
        };
        self.input(host.0, Input::TaskAdded { task, layout, have, options });
        let neighbours = self.authority.neighbours(task, host, &mut self.random);
        self.later(CONTROL * 2, host.0, neighbours);
    }

    /// Takes a host away without a word.
    pub fn kill(&mut self, host: HostKey) {
        self.hosts[host.0 as usize].is_alive = false;
        let lanes: Vec<(u32, u32)> = self.lanes.keys().filter(|(a, b)| *a == host.0 || *b == host.0).copied().collect();
        for (a, b) in lanes {
            self.drop_lane(a, b);
        }
        self.origin.fetches.retain(|fetch| fetch.host != host.0);
        let lost: Vec<(TaskKey, u32)> = self.hosts[host.0 as usize]
            .held
            .iter()
            // Also what it does not hold: it may have been on its way to it.
            .flat_map(|(task, held)| (0..held.pieces()).map(|piece| (*task, piece)))
            .filter(|(task, piece)| !self.can_be_had(*task, *piece))
            .collect();
        self.authority.lose(host, &lost);
    }

    /// Whether a living host holds a piece and sends it as it is.
    fn can_be_had(&self, task: TaskKey, piece: u32) -> bool {
        let serves = |host: &&Host| host.is_alive && !host.options.is_mute && !host.options.is_corrupt;
        self.hosts.iter().filter(serves).any(|host| host.held.get(&task).is_some_and(|held| held.contains(piece)))
    }

    /// Removes held pieces from a host's store. What nobody else can serve may be leased again, as far as the task
    /// can be leased.
    pub fn evict(&mut self, host: HostKey, task: TaskKey, pieces: std::ops::Range<u32>) {
        let evictee = &mut self.hosts[host.0 as usize];
        let Some(held) = evictee.held.get_mut(&task) else { return };
        for piece in pieces.clone() {
            if held.remove(piece) {
                self.evicted.insert((host, task, piece), self.now);
                evictee.done.remove(&task);
            }
        }
        let lost: Vec<(TaskKey, u32)> = pieces
            .clone()
            .filter(|piece| self.evicted.get(&(host, task, *piece)) == Some(&self.now))
            .filter(|piece| !self.can_be_had(task, *piece))
            .map(|piece| (task, piece))
            .collect();
        self.authority.free(&lost);
        self.input(host.0, Input::Evicted { task, pieces });
    }

    /// Runs until every living host that joined is done with all its tasks, or `limit` has passed; whether all are.
    pub fn run(&mut self, limit: Duration) -> bool {
        let end = self.now.after(limit);
        while !self.is_done() {
            match self.events.pop() {
                Some((at, event)) if at <= end => self.step(at, event),
                Some((at, event)) => {
                    self.events.push(at, event);
                    self.now = end;
                    return false;
                }
                None => return false,
            }
        }
        true
    }

    /// Whether every living host is done with all its tasks.
    pub fn is_done(&self) -> bool {
        self.hosts.iter().filter(|host| host.is_alive).all(|host| host.done.len() == host.held.len())
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
        self.hosts[host.0 as usize].injected
    }

    /// A host's core.
    pub fn core(&self, host: HostKey) -> &Swarm {
        &self.hosts[host.0 as usize].core
    }

    /// What each living host lacks and what it is doing about it, for the message of a failed test.
    pub fn why(&self) -> String {
        let mut text = format!("at {:?}, {} events, {}:", self.now.0, self.handled, self.authority.state());
        for (index, host) in self.hosts.iter().enumerate().filter(|(_, host)| host.is_alive) {
            for (task, held) in &host.held {
                let neighbours: Vec<u32> = host.core.neighbours(*task).map(|host| host.0).collect();
                let in_flight = host.core.in_flight_bytes();
                let (held, pieces) = (held.held(), held.pieces());
                let hidden = host.core.hidden(*task);
                text += &format!(
                    "\n  host {index}, {task:?}: {held}/{pieces}, {hidden} hidden, {in_flight} bytes in flight, neighbours {neighbours:?}"
                );
            }
        }
        text
    }

    fn step(&mut self, at: Time, event: Event) {
        self.now = at;
        self.handled += 1;
        match event {
            Event::Arrive(chunk) => {
                let through = self.network.receive(at, &chunk);
                self.events.push(through, Event::Arrived(chunk));
            }
            Event::Arrived(chunk) => self.arrived(chunk),
            Event::Input { to, lane, input } => {
                if lane.is_none_or(|(other, lane)| self.lane(to, other) == Some(lane)) {
                    if let Input::Cancelled { host, request } = &input {
                        self.network.cancel(to, host.0, *request);
                    }
                    self.input(to, input);
                }
            }
            Event::Lane { from, to } => self.raise_lane(from, to),
            Event::Left(from) => self.left(from),
            Event::Open { from, to, lane, task } => self.open(from, to, lane, task),
            Event::OriginPiece => self.origin_piece(),
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

    /// Panics if a core's books are wrong or it believes what is not so.
    pub fn check(&self) {
        for (index, host) in self.hosts.iter().enumerate().filter(|(_, host)| host.is_alive) {
            host.core.assert_invariants();
            for (task, held) in &host.held {
                assert_eq!(host.core.have(*task), Some(held), "host {index} holds something else than it thinks");
                for neighbour in host.core.neighbours(*task) {
                    let theirs = self.hosts[neighbour.0 as usize].held.get(task);
                    for piece in 0..held.pieces() {
                        let believed = host.core.is_believed_held(neighbour, *task, piece);
                        assert!(
                            !believed
                                || self.is_news(neighbour, *task, piece)
                                || theirs.is_some_and(|theirs| theirs.contains(piece)),
                            "host {index} believes that {neighbour:?} holds piece {piece}"
                        );
                    }
                }
            }
        }
    }

    /// Whether a host lost a piece so lately that its neighbours cannot know.
    fn is_news(&self, host: HostKey, task: TaskKey, piece: u32) -> bool {
        self.evicted.get(&(host, task, piece)).is_some_and(|at| self.now.since(*at) <= NEWS)
    }

    fn input(&mut self, to: u32, input: Input) {
        let host = &mut self.hosts[to as usize];
        if !host.is_alive {
            return;
        }
        match &input {
            Input::OriginStored { task, piece } | Input::Stored { task, piece } => {
                if let Some(held) = host.held.get_mut(task) {
                    held.insert(*piece);
                }
            }
            Input::Rejected { request, .. } => {
                host.requests.remove(request);
            }
            _ => {}
        }
        host.core.handle(self.now, input);
        while let Some(action) = self.hosts[to as usize].core.poll() {
            if self.is_traced {
                self.note(to, &action);
            }
            self.act(to, action);
        }
        let host = &mut self.hosts[to as usize];
        if host.injected.is_none() && host.options.is_seed && host.held.keys().all(|task| host.core.hidden(*task) == 0)
        {
            host.injected = Some(host.sent);
        }
        if let Some(at) = host.core.next_deadline() {
            let at = at.max(self.now);
            if host.wake.is_none_or(|wake| wake > at) {
                host.wake = Some(at);
                self.events.push(at, Event::Wake(to));
            }
        }
    }

    /// Hashes an action into the trace (FNV-1a).
    fn note(&mut self, host: u32, action: &Action) {
        for byte in format!("{:?} {host} {action:?}", self.now.0).bytes() {
            self.trace = (self.trace ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    fn act(&mut self, from: u32, action: Action) {
        let me = HostKey(from);
        match action {
            Action::Abort { task, lease } => self.origin.abort(from, task, lease),
            Action::Allot { host, task, pieces } => self.tell(from, host, Input::Allotted { host: me, task, pieces }),
            Action::AskLease { task } => {
                if self.now.since(self.origin_used) > NEWS {
                    self.recover(task);
                }
                let answer = self.authority.ask(task, me);
                self.later(CONTROL * 2, from, answer);
            }
            Action::AskNeighbours { task, .. } => {
                let answer = self.authority.neighbours(task, me, &mut self.random);
                self.later(CONTROL * 2, from, answer);
            }
            Action::Blame { host, .. } | Action::Close { host } => self.drop_lane(from, host.0),
            Action::Cancel { host, request } => {
                self.hosts[from as usize].requests.remove(&request);
                self.tell(from, host, Input::Cancelled { host: me, request: request.0 });
            }
            Action::Dial { host } => {
                let at = self.now.after(self.network.latency(from, host.0) * 3);
                self.events.push(at, Event::Lane { from, to: host.0 });
            }
            Action::Done { task } => {
                self.hosts[from as usize].done.insert(task, self.now);
            }
            Action::Fetch { task, lease, pieces } => self.fetch(from, task, lease, pieces),
            Action::Open { host, task } => {
                if let Some(lane) = self.lane(from, host.0) {
                    let at = self.now.after(self.network.latency(from, host.0));
                    self.events.push(at, Event::Open { from, to: host.0, lane, task });
                }
            }
            Action::Reject { host, request, reason } => {
                self.tell(from, host, Input::Rejected { host: me, request: RequestId(request), reason });
            }
            Action::ReleaseLease { task, lease } => {
                // What it was released for is held by somebody: that must not be granted again and again.
                for piece in self.authority.pieces(task, lease) {
                    if self.can_be_had(task, piece) {
                        self.authority.fetched(task, lease, piece);
                    }
                }
                self.authority.end(task, lease, true);
            }
            Action::Request { host, task, request, first, count, skip } => {
                self.hosts[from as usize].requests.insert(request);
                let request = request.0;
                self.tell(from, host, Input::Requested { host: me, task, request, first, count, skip });
            }
            Action::Stalled { .. } => {}
            Action::SendHave { host, task, runs, complete } => {
                self.tell(from, host, Input::Have { host: me, task, runs, complete });
            }
            Action::SendLost { host, task, runs } => self.tell(from, host, Input::Lost { host: me, task, runs }),
            Action::Serve { host, task, request, piece, skip } => {
                self.transmit(from, host.0, task, request, piece, skip);
            }
            _ => {}
        }
    }

    /// Lets pieces be leased again that nobody can serve, though they were fetched once.
    fn recover(&mut self, task: TaskKey) {
        let pieces = 0..self.layouts[&task].pieces();
        let lost: Vec<_> = pieces.filter(|piece| !self.can_be_had(task, *piece)).map(|piece| (task, piece)).collect();
        self.authority.free(&lost);
    }

    fn later(&mut self, after: Duration, to: u32, input: Input) {
        self.events.push(self.now.after(after), Event::Input { to, lane: None, input });
    }

    /// Sends a message over the lane, if there is one.
    fn tell(&mut self, from: u32, to: HostKey, input: Input) {
        if let Some(lane) = self.lane(from, to.0) {
            let at = self.now.after(self.network.latency(from, to.0));
            self.events.push(at, Event::Input { to: to.0, lane: Some((from, lane)), input });
        }
    }

    fn lane(&self, a: u32, b: u32) -> Option<u64> {
        self.lanes.get(&(a.min(b), a.max(b))).copied()
    }

    fn raise_lane(&mut self, from: u32, to: u32) {
        let alive = |host: u32| self.hosts[host as usize].is_alive;
        if !alive(from) || !alive(to) {
            return self.input(from, Input::LaneDown { host: HostKey(to) });
        }
        self.lanes_made += 1;
        let made = self.lanes_made;
        self.lanes.entry((from.min(to), from.max(to))).or_insert(made);
        self.input(to, Input::LaneUp { host: HostKey(from) });
        self.input(from, Input::LaneUp { host: HostKey(to) });
    }

    fn drop_lane(&mut self, a: u32, b: u32) {
        if self.lanes.remove(&(a.min(b), a.max(b))).is_none() {
            return;
        }
        for (from, to) in [(a, b), (b, a)] {
            self.network.cut(from, to);
            let latency = self.network.latency(from, to);
            self.later(latency, from, Input::LaneDown { host: HostKey(to) });
        }
    }

    fn open(&mut self, from: u32, to: u32, lane: u64, task: TaskKey) {
        if self.lane(from, to) != Some(lane) {
            return;
        }
        let (a, b) = (HostKey(from), HostKey(to));
        if self.hosts[to as usize].held.contains_key(&task) {
            // The answer goes ahead of the have-map that follows it.
            self.tell(to, a, Input::TaskOpened { host: b, task, wanted: true });
            self.input(to, Input::TaskOpened { host: a, task, wanted: true });
        } else {
            self.tell(to, a, Input::TaskClosed { host: b, task });
        }
    }

    fn transmit(&mut self, from: u32, to: u32, task: TaskKey, request: u32, piece: u32, skip: u32) {
        let Some(lane) = self.lane(from, to) else { return };
        let Some(bytes) = self.layouts[&task].length_of(piece) else { return };
        let held = self.hosts[from as usize].held.get(&task);
        assert!(held.is_some_and(|held| held.contains(piece)), "host {from} serves piece {piece} and lacks it");
        if self.hosts[from as usize].options.is_mute {
            return;
        }
        self.network.send(Flow::new(from, to, lane, task, request, piece, bytes - u64::from(skip)));
        self.start(from);
    }

    fn start(&mut self, from: u32) {
        if let Some(at) = self.network.start(self.now, from) {
            self.events.push(at, Event::Left(from));
        }
    }

    fn left(&mut self, from: u32) {
        let Some(chunk) = self.network.left(from) else { return };
        self.hosts[from as usize].sent += chunk.bytes;
        let at = self.now.after(self.network.latency(from, chunk.flow.to));
        self.events.push(at, Event::Arrive(chunk));
        self.start(from);
        let Flow { to, lane, request, piece, bytes, .. } = chunk.flow;
        if chunk.is_last && self.lane(from, to) == Some(lane) {
            self.input(from, Input::Sent { host: HostKey(to), request, piece, bytes: bytes as u32 });
        }
    }

    fn arrived(&mut self, chunk: Chunk) {
        self.network.arrived(&chunk);
        self.start(chunk.flow.from);
        let Flow { from, to, lane, task, request, piece, .. } = chunk.flow;
        let (host, request) = (HostKey(from), RequestId(request));
        let receiver = &mut self.hosts[to as usize];
        if !receiver.requests.contains(&request) || self.lane(from, to) != Some(lane) {
            self.hosts[to as usize].wasted += chunk.bytes;
            return;
        }
        self.input(to, Input::Received { host, request, bytes: chunk.bytes as u32 });
        if !chunk.is_last {
            return;
        }
        if self.hosts[from as usize].options.is_corrupt {
            return self.input(to, Input::Refuted { host, request, piece });
        }
        self.input(to, Input::Proven { host, request, piece });
        self.later(STORE, to, Input::Stored { task, piece });
    }

    fn fetch(&mut self, host: u32, task: TaskKey, lease: LeaseKey, pieces: std::ops::Range<u32>) {
        if self.origin.failures > 0 {
            self.origin.failures -= 1;
            self.authority.end(task, lease, true);
            return self.later(CONTROL * 2, host, Input::OriginFailed { task, lease });
        }
        self.origin.fetches.push_back(Fetch { host, task, lease, next: pieces.start, end: pieces.end });
        self.origin_next();
    }

    fn origin_next(&mut self) {
        if self.origin.is_busy {
            return;
        }
        if let Some(fetch) = self.origin.fetches.front() {
            let bytes = self.layouts[&fetch.task].length_of(fetch.next).unwrap_or(0);
            self.origin.is_busy = true;
            self.events.push(self.now.after(duration(bytes, self.origin.rate)), Event::OriginPiece);
        }
    }

    fn origin_piece(&mut self) {
        self.origin.is_busy = false;
        if let Some(mut fetch) = self.origin.fetches.pop_front() {
            let (task, lease, piece) = (fetch.task, fetch.lease, fetch.next);
            self.origin.bytes += self.layouts[&task].length_of(piece).unwrap_or(0);
            self.origin_used = self.now;
            self.authority.fetched(task, lease, piece);
            self.later(CONTROL, fetch.host, Input::OriginStored { task, piece });
            fetch.next += 1;
            if fetch.next < fetch.end {
                self.origin.fetches.push_back(fetch);
            } else {
                self.authority.end(task, lease, false);
                self.later(CONTROL, fetch.host, Input::OriginDone { task, lease });
            }
        }
        self.origin_next();
    }
}
