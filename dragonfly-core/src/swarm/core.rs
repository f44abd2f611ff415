//! The core itself: its state, and the dispatch of inputs to the concerns.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use super::connect::ASK_PAUSE_MIN;
use super::host::Host;
use super::pieces::PieceState;
use super::random::Random;
use super::request::Request;
use super::share::Shares;
use super::task::Task;
use super::timers::{Timer, Timers};
use super::{Action, Config, HostKey, Input, RequestId, TaskKey, TaskOptions, Time};
use crate::task::{HaveMap, Layout, PieceIndex};

/// The swarm core of one host, for all its tasks.
///
/// - Inputs: [`Swarm::handle`]. Then all actions are taken with [`Swarm::poll`] and carried out in order.
/// - Time: [`Swarm::next_deadline`] says when [`Input::Deadline`] is due at the latest.
/// - Everything else reads.
///
/// Equal inputs, times and seed give equal actions.
#[derive(Debug)]
pub struct Swarm {
    pub(super) config: Config,
    pub(super) random: Random,
    pub(super) now: Time,
    pub(super) tasks: BTreeMap<TaskKey, Task>,
    /// Those of them with more than one piece.
    pub(super) larger: BTreeSet<TaskKey>,
    pub(super) hosts: BTreeMap<HostKey, Host>,
    pub(super) requests: BTreeMap<RequestId, Request>,
    pub(super) next_request: u32,
    /// Bytes requested and not arrived, over all hosts.
    pub(super) in_flight: u64,
    /// Whether a request was held back because of `in_flight`.
    pub(super) parched: bool,
    pub(super) pulls: Shares,
    pub(super) pushes: Shares,
    /// Hosts being served.
    pub(super) slots: usize,
    /// Hosts with requests that wait for a slot.
    pub(super) waiting: BTreeSet<HostKey>,
    pub(super) turns: u64,
    /// Until then the last place for a lane is for a neighbour that we dial.
    pub(super) reserved: Time,
    pub(super) timers: Timers,
    /// Hosts that may take requests.
    pub(super) hungry: BTreeSet<HostKey>,
    /// Tasks whose leases and allotments are to be looked at.
    pub(super) restless: BTreeSet<TaskKey>,
    pub(super) actions: VecDeque<Action>,
}

/// What was measured of a neighbour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostRates {
    /// Bytes a second that it sends us while we wait for them.
    pub down: Option<u64>,
    /// Bytes a second that we send it while we serve it.
    pub up: Option<u64>,
    /// The shortest time from a request to its first byte.
    pub round_trip: Option<Duration>,
    /// Our outstanding requests.
    pub requests: usize,
    /// Its outstanding requests.
    pub queued: usize,
}

impl Swarm {
    /// A core without tasks and neighbours. `seed` breaks ties.
    pub fn new(config: Config, seed: u64) -> Self {
        Self {
            config,
            random: Random::new(seed),
            now: Time::ZERO,
            tasks: BTreeMap::new(),
            larger: BTreeSet::new(),
            hosts: BTreeMap::new(),
            requests: BTreeMap::new(),
            next_request: 0,
            in_flight: 0,
            parched: false,
            pulls: Shares::default(),
            pushes: Shares::default(),
            slots: 0,
            waiting: BTreeSet::new(),
            turns: 0,
            reserved: Time::ZERO,
            timers: Timers::default(),
            hungry: BTreeSet::new(),
            restless: BTreeSet::new(),
            actions: VecDeque::new(),
        }
    }

    /// The limits.
    pub const fn config(&self) -> &Config {
        &self.config
    }

    /// The pieces that are held of a task.
    pub fn have(&self, task: TaskKey) -> Option<&HaveMap> {
        self.tasks.get(&task).map(|task| task.pieces.have())
    }

    /// The neighbours with which a task is open.
    pub fn neighbours(&self, task: TaskKey) -> impl Iterator<Item = HostKey> + '_ {
        self.tasks.get(&task).into_iter().flat_map(|task| task.members.keys().copied())
    }

    /// Whether a neighbour is believed to hold a piece.
    pub fn is_believed_held(&self, host: HostKey, task: TaskKey, piece: PieceIndex) -> bool {
        self.tasks
            .get(&task)
            .and_then(|task| task.members.get(&host))
            .is_some_and(|member| member.theirs.contains(piece))
    }

    /// Whether a piece is missing and not asked of anybody.
    pub fn is_missing(&self, task: TaskKey, piece: PieceIndex) -> bool {
        self.tasks.get(&task).is_some_and(|task| task.pieces.is(piece, PieceState::Missing))
    }

    /// How many neighbours are being served.
    pub const fn served(&self) -> usize {
        self.slots
    }

    /// What was measured of a neighbour; `None` without a lane to it.
    pub fn host_rates(&self, host: HostKey) -> Option<HostRates> {
        let host = self.hosts.get(&host)?;
        Some(HostRates {
            down: host.down.value(),
            up: host.sent.value(),
            round_trip: host.round_trip,
            requests: host.requests.len(),
            queued: host.uploads.len(),
        })
    }

    /// Bytes requested of all neighbours that have not arrived.
    pub const fn in_flight_bytes(&self) -> u64 {
        self.in_flight
    }

    /// When [`Input::Deadline`] is due at the latest.
    pub fn next_deadline(&self) -> Option<Time> {
        self.timers.next()
    }

    /// The next action, in the order in which they are to be carried out.
    pub fn poll(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// Takes in what happened at `now`; a time before an earlier one counts as that. Inputs about hosts, tasks,
    /// requests and pieces that the core does not know (any more) are ignored: shells and neighbours may race.
    pub fn handle(&mut self, now: Time, input: Input) {
        self.now = self.now.max(now);
        self.dispatch(input);
        loop {
            while let Some(timer) = self.timers.pop_due(self.now) {
                self.fire(timer);
            }
            self.settle();
            if self.timers.next().is_none_or(|at| at > self.now) {
                break;
            }
        }
    }

    fn dispatch(&mut self, input: Input) {
        match input {
            Input::Allotted { host, task, pieces } => self.allotted(host, task, pieces),
            Input::Answered { host, task, answered } => self.answered(host, task, answered),
            Input::Asked { host } => self.asked(host),
            Input::AuthorityDown { task } => self.authority(task, false),
            Input::AuthorityUp { task } => self.authority(task, true),
            Input::Cancelled { host, request } => self.cancelled(host, request),
            Input::Deadline => {}
            Input::Evicted { task, pieces } => self.evicted(task, pieces),
            Input::Have { host, task, runs, complete } => self.have_received(host, task, &runs, complete),
            Input::HeldUp { host } => self.held_up(host),
            Input::AnswerHeldUp { host } => self.answer_held_up(host),
            Input::LaneDown { host } => self.lane_down(host),
            Input::LaneUp { host } => self.lane_up(host),
            Input::LeaseGranted { task, lease, pieces } => self.lease_granted(task, lease, pieces),
            Input::LeaseNone { task, retry } => self.lease_none(task, retry),
            Input::LeaseRevoked { task, lease } => self.lease_revoked(task, lease),
            Input::Lost { host, task, runs } => self.lost(host, task, &runs),
            Input::Mixed { host, request, piece } => self.mixed(host, request, piece),
            Input::Neighbours { task, hosts, across } => self.named(task, &hosts, &across),
            Input::OriginDone { task, lease } => self.origin_done(task, lease),
            Input::OriginFailed { task, lease } => self.origin_failed(task, lease),
            Input::OriginStored { task, piece } => self.origin_stored(task, piece),
            Input::Proven { host, task, request, piece } => self.proven(host, task, request, piece),
            Input::Received { host, request, bytes } => self.received(host, request, bytes),
            Input::Refuted { host, request, piece } => self.refuted(host, request, piece),
            Input::Rejected { host, request, reason } => self.rejected(host, request, reason),
            Input::Requested { host, task, request, first, count, skip } => {
                self.requested(host, task, request, first, count, skip);
            }
            Input::Sent { host, request, piece, bytes } => self.sent(host, request, piece, bytes),
            Input::ServeFailed { host, request } => self.serve_failed(host, request),
            Input::StoreFailed { task, piece } => self.store_failed(task, piece),
            Input::Stored { task, piece } => {
                self.strip(task, piece);
                self.held(task, piece, false);
            }
            Input::TaskAdded { task, layout, have, options, hosts, across } => {
                self.task_added(task, layout, have, options);
                // Before anything is decided: who is asked for small content needs no lease.
                if !hosts.is_empty() {
                    self.named(task, &hosts, &across);
                }
            }
            Input::TaskClosed { host, task } => self.task_closed(host, task),
            Input::TaskReopened { host, task } => self.task_reopened(host, task),
            Input::TaskOpened { host, task, wanted } => self.task_opened(host, task, wanted),
            Input::TaskRemoved { task } => self.task_removed(task),
            Input::Wanted { task, may_lease } => self.wanted(task, may_lease),
            Input::Window { task, pieces } => {
                if let Some(task) = self.tasks.get_mut(&task) {
                    task.window = task.clip(&pieces);
                }
            }
        }
    }

    fn fire(&mut self, timer: Timer) {
        match timer {
            Timer::Connect(task) => self.connect(task),
            Timer::Have(task) => self.have_tick(task),
            Timer::Host(host) => self.host_timer(host),
            Timer::Lease(task) => {
                self.restless.insert(task);
            }
            Timer::Sweep => self.sweep(),
        }
    }

    /// Acts on what the input changed: allotments and leases first, for they decide what is asked of whom.
    fn settle(&mut self) {
        while let Some(task) = self.restless.pop_first() {
            self.mind_leases(task);
            self.allot(task);
        }
        while let Some(host) = self.hungry.pop_first() {
            self.feed(host);
        }
        self.serve();
    }

    fn task_added(&mut self, key: TaskKey, layout: Layout, have: HaveMap, options: TaskOptions) {
        if self.tasks.contains_key(&key) {
            return;
        }
        let task = Task::new(layout, have, options, self.now.after(ASK_PAUSE_MIN), ASK_PAUSE_MIN);
        let held: Vec<PieceIndex> = task.pieces.have().iter().collect();
        if layout.pieces() > 1 {
            self.larger.insert(key);
        }
        self.tasks.insert(key, task);
        for piece in held {
            self.show(key, piece, options.injector);
        }
        self.progressed(key);
        self.restless.insert(key);
        self.timers.set(Timer::Connect(key), self.now);
    }

    fn wanted(&mut self, key: TaskKey, may_lease: bool) {
        let Some(task) = self.tasks.get_mut(&key) else { return };
        let options = TaskOptions { wanted: true, may_lease: task.options.may_lease || may_lease, ..task.options };
        if std::mem::replace(&mut task.options, options) == options {
            return;
        }
        // What it lacks it lacks from now on.
        task.fed = self.now;
        self.hungry.extend(task.members.keys());
        self.restless.insert(key);
        self.timers.set_earlier(Timer::Connect(key), self.now);
    }

    fn task_removed(&mut self, key: TaskKey) {
        if !self.tasks.contains_key(&key) {
            return;
        }
        let requests: Vec<RequestId> =
            self.requests.iter().filter(|(_, request)| request.task == key).map(|(id, _)| *id).collect();
        for id in requests {
            self.drop_request(id, true);
        }
        self.drop_leases(key);
        let hosts: Vec<HostKey> = self.hosts.keys().copied().collect();
        for host in hosts {
            self.part(host, key);
        }
        self.tasks.remove(&key);
        self.larger.remove(&key);
        for timer in [Timer::Connect(key), Timer::Have(key), Timer::Lease(key)] {
            self.timers.clear(timer);
        }
        self.restless.remove(&key);
    }

    /// A piece is in the store now. `injected`: it came from the origin, and nobody else may have it.
    pub(super) fn held(&mut self, key: TaskKey, piece: PieceIndex, injected: bool) {
        let Some(task) = self.tasks.get_mut(&key) else { return };
        let Some(old) = task.pieces.state(piece).filter(|state| *state != PieceState::Held) else { return };
        task.pieces.set(piece, PieceState::Held);
        if old == PieceState::Leased {
            self.lease_served(key, piece, injected);
        }
        self.show(key, piece, injected);
        self.progressed(key);
    }

    /// What follows from a newly held piece.
    fn show(&mut self, key: TaskKey, piece: PieceIndex, injected: bool) {
        self.actions.push_back(Action::Ready { task: key, piece });
        if injected {
            self.inject(key, piece);
        } else {
            self.publish(key, piece);
        }
    }

    /// A piece is needed again: whoever holds it may be asked.
    pub(super) fn missing(&mut self, key: TaskKey, piece: PieceIndex) {
        let Some(task) = self.tasks.get_mut(&key) else { return };
        if task.pieces.state(piece).is_none() {
            return;
        }
        task.pieces.set(piece, PieceState::Missing);
        self.hungry.extend(task.members.keys());
        self.restless.insert(key);
    }

    fn store_failed(&mut self, key: TaskKey, piece: PieceIndex) {
        let Some(task) = self.tasks.get(&key) else { return };
        match task.pieces.state(piece) {
            Some(PieceState::Proven) => self.missing(key, piece),
            Some(PieceState::Held) => self.evicted(key, piece..piece + 1),
            _ => {}
        }
    }

    fn evicted(&mut self, key: TaskKey, range: std::ops::Range<PieceIndex>) {
        let Some(task) = self.tasks.get_mut(&key) else { return };
        let held: Vec<PieceIndex> =
            task.clip(&range).filter(|piece| task.pieces.is(*piece, PieceState::Held)).collect();
        if held.is_empty() {
            return;
        }
        task.done = false;
        for piece in &held {
            task.inject.forget(*piece, &mut task.members);
        }
        self.hide(key, &held);
        for piece in held {
            self.missing(key, piece);
        }
        self.timers.set_earlier(Timer::Connect(key), self.now);
    }
}
