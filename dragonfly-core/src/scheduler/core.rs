//! The state machine: its door, its clock and its hosts.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use rand::RngCore as _;
use rand::SeedableRng;
use rand::rngs::StdRng;

use super::config::{Config, SILENT_INTERVALS};
use super::deal::Deal;
use super::event::{Action, CloseReason, Input};
use super::host::Host;
use super::slab::{HostIx, Slab, TaskIx};
use super::task::Task;
use crate::task::TaskId;
use crate::wire::PeerId;
use crate::wire::control::{Announce, ToCoordinator, ToMember, is_site};

/// The coordinator of tasks. Give it what happened with [`handle`](Self::handle), then take every action from
/// [`poll`](Self::poll), then sleep until [`next_deadline`](Self::next_deadline) or the next event.
///
/// The same seed and the same inputs give the same actions.
pub struct Core {
    pub(super) config: Config,
    pub(super) rng: StdRng,
    pub(super) now: Duration,
    pub(super) hosts: Slab<HostIx, Host>,
    pub(super) peers: HashMap<PeerId, HostIx>,
    /// The seeds that are up, by tenant.
    pub(super) seeds: BTreeMap<Arc<str>, BTreeSet<HostIx>>,
    pub(super) tasks: Slab<TaskIx, Task>,
    pub(super) ids: HashMap<(Arc<str>, TaskId), TaskIx>,
    /// Tasks without members, since when.
    pub(super) idle: BTreeSet<(Duration, TaskIx)>,
    timers: BinaryHeap<Reverse<(Duration, u64, Timer)>>,
    /// Neighbours that are being dealt, the task that is next first.
    pub(super) deals: VecDeque<Deal>,
    actions: VecDeque<Action>,
    counter: u64,
    pub(super) epoch: u64,
    /// Until then members of a coordinator that was lost may come.
    pub(super) expecting_until: Duration,
}

/// What is to be looked at later. It may have changed or gone by then; nothing is ever taken out of the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Timer {
    /// Whoever had a part in the task under another coordinator has said so.
    Collected { task: TaskIx, step: u64 },
    /// Who joined meanwhile is given the neighbours that it lacks.
    Deal { task: TaskIx, step: u64 },
    /// A lease to describe may have lapsed.
    Describe { task: TaskIx, number: u64 },
    /// A lease on pieces may have lapsed.
    Lease { task: TaskIx, number: u64 },
    /// A pause between rounds is over.
    Pause { task: TaskIx, step: u64 },
    /// A host may have been silent too long.
    Silent { host: HostIx, serial: u64 },
    /// One bridge of each site makes room for another.
    Term { task: TaskIx, step: u64 },
    /// A triggered seed is late.
    Trigger { task: TaskIx, step: u64 },
}

impl Core {
    /// A core that knows nothing yet. `seed` feeds its choices and the nonces of generations: a shell takes it from
    /// the system's generator, a simulator repeats it.
    pub fn new(config: Config, seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        // Members that come from another coordinator still speak of its leases: no number is to be the same by chance.
        let counter = rng.next_u64() >> 2;
        Self {
            epoch: config.epoch_floor,
            expecting_until: Duration::ZERO,
            config,
            counter,
            rng,
            now: Duration::ZERO,
            hosts: Slab::new(),
            peers: HashMap::new(),
            seeds: BTreeMap::new(),
            tasks: Slab::new(),
            ids: HashMap::new(),
            idle: BTreeSet::new(),
            timers: BinaryHeap::new(),
            deals: VecDeque::new(),
            actions: VecDeque::new(),
        }
    }

    /// Takes in what happened at `now`, a time since any fixed point. A time before an earlier one counts as that.
    pub fn handle(&mut self, now: Duration, input: Input) {
        self.now = self.now.max(now);
        match input {
            Input::Deadline => self.fire(),
            Input::HostDown { peer } => {
                if let Some(&host) = self.peers.get(&peer) {
                    self.remove_host(host);
                }
            }
            Input::HostUp { peer, seed_role, tenant, seen_ip, local } => {
                self.add_host(peer, seed_role, &tenant, seen_ip, local);
            }
            Input::OtherLost => self.expect_others(),
            Input::Message { from, message } => self.message(from, message),
        }
    }

    /// The next thing to do, in order; `None` when all is said.
    pub fn poll(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// When [`Input::Deadline`] is due at the latest; earlier does no harm. A time that has come means that more is to be
    /// done than one input should take: what others say may go first.
    pub fn next_deadline(&self) -> Option<Duration> {
        if !self.deals.is_empty() {
            return Some(self.now);
        }
        let timer = self.timers.peek().map(|Reverse((at, ..))| *at);
        let idle = self.idle.first().map(|(since, _)| *since + self.config.idle_max);
        timer.into_iter().chain(idle).min()
    }

    fn fire(&mut self) {
        while let Some(Reverse((at, _, timer))) = self.timers.peek().copied() {
            if at > self.now {
                break;
            }
            self.timers.pop();
            match timer {
                Timer::Deal { task, step } => self.deal(task, step),
                Timer::Describe { task, number } => self.describe_lapsed(task, number),
                Timer::Lease { task, number } => self.lease_lapsed(task, number),
                Timer::Collected { task, step } => self.collected(task, step),
                Timer::Pause { task, step } => self.pause_over(task, step),
                Timer::Silent { host, serial } => self.maybe_silent(host, serial),
                Timer::Term { task, step } => self.term_over(task, step),
                Timer::Trigger { task, step } => self.trigger_late(task, step),
            }
        }
        while let Some(&(since, task)) = self.idle.first() {
            if since + self.config.idle_max > self.now {
                break;
            }
            self.drop_task(task);
        }
        self.deal_some();
    }

    /// Whether anybody takes part in the task here now.
    pub fn is_at_work(&self, tenant: &str, task: &TaskId) -> bool {
        let found = self.ids.get(&(Arc::from(tenant), *task));
        found.is_some_and(|&t| !self.tasks[t].members.is_empty())
    }

    fn message(&mut self, from: PeerId, message: ToCoordinator) {
        let Some(&host) = self.peers.get(&from) else { return };
        self.hosts[host].last_seen = self.now;
        match message {
            ToCoordinator::Announce(announce) => self.announce(host, announce),
            // Everything else needs an announcement before it; a member that sends none is not answered.
            _ if !self.hosts[host].announced => {}
            ToCoordinator::AskLease(task, near) => self.ask_lease(host, task, near),
            ToCoordinator::AskNeighbours { task, lacking, starved_ms } => {
                let silence = starved_ms.map_or(Duration::ZERO, |ms| Duration::from_millis(ms.into()));
                self.ask_neighbours(host, &task, lacking, silence);
            }
            ToCoordinator::Described(described) => self.described(host, described),
            ToCoordinator::Done { task, lease } => self.lease_done(host, &task, lease),
            ToCoordinator::Join(join) => self.join(host, join),
            ToCoordinator::KeepAlive => self.assure(host),
            ToCoordinator::LeaseFailed { task, lease, end, failure } => {
                self.lease_failed(host, &task, lease, end, failure);
            }
            ToCoordinator::Leave(task) => self.leave(host, &task),
            ToCoordinator::Progress { task, lease, end } => self.progress(host, &task, lease, end),
            ToCoordinator::Release { task, lease, end } => self.release(host, &task, lease, end),
            ToCoordinator::Report { task, generation, eighths } => self.report(host, &task, generation, eighths),
            // Answered by the engine, which knows the members of the network.
            ToCoordinator::Seek { .. } => {}
            ToCoordinator::Sealed { task, generation, seal } => self.sealed(host, &task, generation, seal),
        }
    }

    fn add_host(&mut self, peer: PeerId, seed_role: bool, tenant: &str, seen_ip: Option<IpAddr>, local: bool) {
        if let Some(&host) = self.peers.get(&peer) {
            self.remove_host(host);
        }
        if self.hosts.len() >= self.config.hosts_max {
            self.actions.push_back(Action::Close { peer, reason: CloseReason::Full });
            return;
        }
        let serial = self.next_number();
        let host = self.hosts.insert(Host {
            peer,
            serial,
            tenant: tenant.into(),
            seed_role,
            seen_ip,
            last_seen: self.now,
            announced: false,
            seed: false,
            record: None,
            slots: 0,
            site: None,
            tasks: BTreeSet::new(),
            lacking: BTreeSet::new(),
            refused: 0,
            triggered: BTreeSet::new(),
        });
        self.peers.insert(peer, host);
        if !local {
            self.arm(self.now + self.config.interval * SILENT_INTERVALS, Timer::Silent { host, serial });
        }
    }

    fn announce(&mut self, host: HostIx, announce: Announce) {
        let h = &mut self.hosts[host];
        if !h.announced {
            h.announced = true;
            h.seed = announce.seed && h.seed_role;
            h.site = announce.site.as_deref().filter(|site| is_site(site)).map(Arc::from);
            if h.seed {
                self.seeds.entry(h.tenant.clone()).or_default().insert(host);
            }
        }
        let uploads_changed = (h.slots > 0) != (announce.slots > 0);
        (h.record, h.slots) = (announce.record, announce.slots);
        if uploads_changed {
            for task in h.tasks.clone() {
                self.tasks[task].edit(host, |m| m.uploads = announce.slots > 0);
                self.settle(task);
            }
        }
        let interval_ms = millis_u32(self.config.interval);
        // Whether it is a scheduler is no business of the core's: who sends this says so.
        self.send(host, ToMember::Welcome { interval_ms, scheduler: false });
    }

    fn maybe_silent(&mut self, host: HostIx, serial: u64) {
        let Some(h) = self.hosts.get(host).filter(|h| h.serial == serial) else { return };
        let deadline = h.last_seen + self.config.interval * SILENT_INTERVALS;
        if deadline > self.now {
            return self.arm(deadline, Timer::Silent { host, serial });
        }
        let peer = h.peer;
        self.remove_host(host);
        self.actions.push_back(Action::Close { peer, reason: CloseReason::Silent });
    }

    fn remove_host(&mut self, host: HostIx) {
        // First the host, so that nothing that follows chooses it or speaks to it.
        let h = &mut self.hosts[host];
        let (tasks, peer, tenant) = (std::mem::take(&mut h.tasks), h.peer, h.tenant.clone());
        self.peers.remove(&peer);
        if let Some(seeds) = self.seeds.get_mut(&tenant) {
            seeds.remove(&host);
            if seeds.is_empty() {
                self.seeds.remove(&tenant);
            }
        }
        for &task in &tasks {
            self.remove_member(task, host, true);
        }
        for task in std::mem::take(&mut self.hosts[host].triggered) {
            self.trigger_lost(task, host);
        }
        self.hosts.remove(host);
        tasks.into_iter().for_each(|task| self.settle_live(task));
    }

    /// The task of this id as `host` may see it: of its own tenant.
    pub(super) fn find(&self, host: HostIx, task: &TaskId) -> Option<TaskIx> {
        self.ids.get(&(self.hosts[host].tenant.clone(), *task)).copied()
    }

    /// The task of this id if `host` takes part in it.
    pub(super) fn find_joined(&self, host: HostIx, task: &TaskId) -> Option<TaskIx> {
        self.find(host, task).filter(|&t| self.tasks[t].members.contains_key(&host))
    }

    /// A number that this core has not given before.
    pub(super) const fn next_number(&mut self) -> u64 {
        self.counter += 1;
        self.counter
    }

    pub(super) fn arm(&mut self, at: Duration, timer: Timer) {
        let number = self.next_number();
        self.timers.push(Reverse((at, number, timer)));
    }

    pub(super) fn act(&mut self, action: Action) {
        self.actions.push_back(action);
    }

    pub(super) fn send(&mut self, host: HostIx, message: ToMember) {
        let to = self.hosts[host].peer;
        self.actions.push_back(Action::Send { to, message });
    }
}

/// Whole milliseconds, as many as fit.
pub(super) fn millis_u32(time: Duration) -> u32 {
    u32::try_from(time.as_millis()).unwrap_or(u32::MAX)
}
