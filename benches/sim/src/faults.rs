//! Runs with faults that a seed draws.
//!
//! A [`Scenario`] is hosts, a task and a list of faults at times. Playing it has two parts. While faults happen what
//! must never be is looked for after every event ([`World::check`]). Then everything is mended that a world would mend
//! (links, coordinator, origin; the dead stay dead), and every living host must have all of its task within
//! [`HEALED_MAX`]. In the end the origin must have sent no byte twice but for those that were lost.

use std::collections::BTreeSet;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use dragonfly_core::swarm::{Config, HostKey, TaskKey, Time};
use dragonfly_core::task::Layout;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{Rng as _, SeedableRng as _};

use crate::{HostOptions, Link, World};

/// After everything was mended, the longest that a host may need: the longest pauses of the core (60 s between
/// questions for neighbours, 80 s of probation) one after the other, and the transfer.
pub const HEALED_MAX: Duration = Duration::from_secs(240);

/// The only task.
const TASK: TaskKey = TaskKey(0);

/// Of tasks: the middle of eight.
const PRIORITY: u8 = 3;

/// The link of a host at its best, in bytes a second, so slow that faults fall into transfers.
const RATE: u64 = 1 << 20;

/// A fault, or what ends one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fault {
    /// A host is gone without a word.
    Kill(u32),
    /// A host that was killed is there again, with what it held.
    Revive(u32),
    /// A host joins that was not there; the number is its place in [`Scenario::joiners`].
    Join(u32),
    /// A host loses pieces: the first, and how many.
    Evict(u32, u32, u32),
    /// The lane between two hosts breaks.
    Cut(u32, u32),
    /// Hosts whose numbers are in this mask, and the others, do not reach each other.
    Part(u32),
    /// They do again.
    Mend,
    /// A host's link is slower by this factor.
    Slow(u32, u64),
    /// The coordinator is gone, and what it knew.
    LoseCoordinator,
    /// There is a coordinator again.
    RestoreCoordinator,
    /// So many of the next fetches fail before their first byte.
    OriginFails(u32),
    /// So many of the next pieces break off.
    OriginBreaks(u32),
    /// Nothing leaves the origin for so long.
    OriginStalls(Duration),
}

/// What a seed draws.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// What everything is drawn from.
    pub seed: u64,
    /// Bytes of the task.
    pub length: u64,
    /// Bytes a second that the origin sends.
    pub origin_rate: u64,
    /// Who is there from the start.
    pub hosts: Vec<HostOptions>,
    /// Who may join later.
    pub joiners: Vec<HostOptions>,
    /// What happens, in the order of time.
    pub faults: Vec<(Duration, Fault)>,
}

/// What a run showed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Of every action (see [`World::trace`]); zero if the run was not traced.
    pub trace: u64,
    /// Events handled.
    pub events: u64,
    /// Bytes that left the origin.
    pub origin_bytes: u64,
    /// Bytes of these that had left it before and were lost.
    pub lost_bytes: u64,
    /// Hosts that have everything at the end.
    pub finished: usize,
    /// How long after the mending the last one was done.
    pub healed: Duration,
}

impl Scenario {
    /// Draws one.
    pub fn draw(seed: u64) -> Self {
        let mut random = StdRng::seed_from_u64(seed ^ 0x5eed_0f0f_fa17_5eed);
        let is_cold = random.random_bool(0.5);
        let count = random.random_range(2..8);
        let mut host = |index: usize| {
            let rate = RATE / random.random_range(1..5);
            let latency = Duration::from_millis(random.random_range(1..40));
            HostOptions {
                link: Link { up: rate, down: rate * 2, latency },
                is_seed: !is_cold && (index == 0 || random.random_bool(0.15)),
                may_lease: index == 0 || random.random_bool(0.6),
                // The first one is honest: somebody has to be.
                is_corrupt: index > 0 && random.random_bool(0.07),
                is_mute: index > 0 && random.random_bool(0.07),
                site: 0,
                named: None,
            }
        };
        let hosts: Vec<_> = (0..count).map(&mut host).collect();
        let joiners: Vec<_> = (1..4).map(|index| HostOptions { is_seed: false, ..host(index) }).collect();
        let length = random.random_range(1..3 << 20);
        let origin_rate = RATE / random.random_range(1..4);
        // The time that a transfer takes without faults, and a little more.
        let span = Duration::from_secs(2 + 3 * length / RATE);
        let mut faults = Vec::new();
        let (all, mut joins) = (count + joiners.len(), 0..joiners.len() as u32);
        for _ in 0..random.random_range(1..12) {
            let at = span.mul_f64(random.random_range(0.0..1.0));
            let mut any = || random.random_range(0..all as u32);
            let (a, b) = (any(), any());
            let later = at + span.mul_f64(random.random_range(0.1..1.0));
            match random.random_range(0..22) {
                0..3 => faults.push((at, Fault::Kill(a))),
                3..6 => faults.extend([(at, Fault::Kill(a)), (later, Fault::Revive(a))]),
                6..8 => faults.extend(joins.next().map(|join| (at, Fault::Join(join)))),
                8..10 => faults.push((at, Fault::Evict(a, random.random_range(0..40), random.random_range(1..20)))),
                10..12 => faults.push((at, Fault::Cut(a, b))),
                12..14 => faults.push((at, Fault::Slow(a, *[4, 16, 60].choose(&mut random).unwrap_or(&4)))),
                14..16 => faults.extend([(at, Fault::LoseCoordinator), (later, Fault::RestoreCoordinator)]),
                16 => faults.push((at, Fault::OriginFails(random.random_range(1..6)))),
                17..19 => {
                    faults.extend([(at, Fault::Part(random.random_range(1..1_u32 << all))), (later, Fault::Mend)])
                }
                19 => faults.push((at, Fault::OriginBreaks(random.random_range(1..6)))),
                _ => faults.push((at, Fault::OriginStalls(Duration::from_secs(random.random_range(1..25))))),
            }
        }
        faults.sort_by_key(|(at, _)| *at);
        Self { seed, length, origin_rate, hosts, joiners, faults }
    }

    /// Plays it.
    ///
    /// # Errors
    /// What was not as it must be: a check that failed, or who did not finish and why.
    pub fn play(&self, is_traced: bool) -> Result<Outcome, String> {
        // Nothing of the world is used after a panic.
        let played = catch_unwind(AssertUnwindSafe(|| Play::new(self, is_traced).run()));
        played.unwrap_or_else(|panic| {
            let text = panic.downcast_ref::<String>().cloned();
            Err(text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default())
        })
    }

    /// The command that plays this seed again.
    pub fn command(&self) -> String {
        format!("cargo run -p dragonfly-sim --bin faults -- --seed {}", self.seed)
    }
}

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "seed {}: {} bytes, origin {} bytes/s", self.seed, self.length, self.origin_rate)?;
        for (index, host) in self.hosts.iter().chain(&self.joiners).enumerate() {
            let Link { up, down, latency } = host.link;
            let joins = if index < self.hosts.len() { "" } else { ", may join" };
            let seed = if host.is_seed { ", seed" } else { "" };
            let leases = if host.may_lease { ", may lease" } else { "" };
            let lies = if host.is_corrupt { ", sends what is wrong" } else { "" };
            let mute = if host.is_mute { ", sends nothing" } else { "" };
            writeln!(f, "  host {index}: up {up}, down {down}, {latency:?}{seed}{leases}{lies}{mute}{joins}")?;
        }
        for (at, fault) in &self.faults {
            writeln!(f, "  {at:>8.3?} {fault:?}")?;
        }
        Ok(())
    }
}

/// A scenario being played.
struct Play<'a> {
    scenario: &'a Scenario,
    world: World,
    /// By their numbers in the scenario; joiners have none before they join.
    keys: Vec<Option<HostKey>>,
}

impl<'a> Play<'a> {
    fn new(scenario: &'a Scenario, is_traced: bool) -> Self {
        let mut world = World::new(scenario.seed, scenario.origin_rate);
        (world.check_every, world.is_traced) = (1, is_traced);
        let mut play = Self { scenario, world, keys: Vec::new() };
        match Layout::of_length(scenario.length) {
            Ok(layout) if scenario.hosts.iter().any(|host| host.is_seed) => play.world.add_held_task(TASK, layout),
            Ok(layout) => play.world.add_task(TASK, layout, true),
            Err(error) => panic!("a length that cannot be: {error}"),
        }
        for host in &scenario.hosts {
            let key = play.join(*host);
            play.keys.push(Some(key));
        }
        play.keys.resize(scenario.hosts.len() + scenario.joiners.len(), None);
        play
    }

    fn join(&mut self, options: HostOptions) -> HostKey {
        let key = self.world.add_host(Config::default(), options);
        self.world.join(key, TASK, PRIORITY);
        key
    }

    fn run(mut self) -> Result<Outcome, String> {
        for (at, fault) in &self.scenario.faults {
            self.world.pass(at.saturating_sub(self.world.now().0));
            self.apply(*fault);
            self.world.check();
        }
        self.heal();
        let healed = self.world.now();
        if !self.world.run(HEALED_MAX) {
            return Err(format!("not done {HEALED_MAX:?} after all was well again, {}", self.world.why()));
        }
        let (sent, lost) = (self.world.origin.bytes, self.world.lost_bytes());
        if sent > self.scenario.length + lost {
            return Err(format!("the origin sent {sent} of {} bytes, and {lost} were lost", self.scenario.length));
        }
        let alive = || self.keys.iter().flatten().filter(|key| self.world.is_alive(**key));
        let incomplete = alive().find(|key| !self.world.core(**key).have(TASK).is_some_and(|have| have.is_complete()));
        if let Some(key) = incomplete {
            return Err(format!("{key:?} is done and lacks something"));
        }
        let last = alive().filter_map(|key| self.world.done_at(*key, TASK)).max().unwrap_or(Time::ZERO);
        Ok(Outcome {
            trace: if self.world.is_traced { self.world.trace() } else { 0 },
            events: self.world.handled(),
            origin_bytes: sent,
            lost_bytes: lost,
            finished: alive().count(),
            healed: last.0.saturating_sub(healed.0),
        })
    }

    /// A host that is there and alive.
    fn living(&self, number: u32) -> Option<HostKey> {
        self.keys[number as usize].filter(|key| self.world.is_alive(*key))
    }

    fn apply(&mut self, fault: Fault) {
        match fault {
            Fault::Kill(number) => {
                if let Some(key) = self.living(number) {
                    self.world.kill(key);
                }
            }
            Fault::Revive(number) => {
                if let Some(key) = self.keys[number as usize] {
                    self.world.revive(key, PRIORITY);
                }
            }
            Fault::Join(number) => {
                let key = self.join(self.scenario.joiners[number as usize]);
                self.keys[self.scenario.hosts.len() + number as usize] = Some(key);
            }
            Fault::Evict(number, first, count) => {
                if let Some(key) = self.living(number) {
                    self.world.evict(key, TASK, first..first + count);
                }
            }
            Fault::Cut(a, b) => {
                if let (Some(a), Some(b)) = (self.living(a), self.living(b)) {
                    self.world.cut(a, b);
                }
            }
            Fault::Part(mask) => {
                let numbers = (0..self.keys.len()).filter(|number| (mask >> number) & 1 == 1);
                let apart = numbers.filter_map(|number| self.keys[number]).collect();
                self.world.part(apart);
            }
            Fault::Mend => self.world.part(BTreeSet::new()),
            Fault::Slow(number, factor) => self.relink(number, factor),
            Fault::LoseCoordinator => self.world.lose_authority(),
            Fault::RestoreCoordinator => self.world.restore_authority(),
            Fault::OriginFails(times) => self.world.origin.failures += times,
            Fault::OriginBreaks(times) => self.world.origin.breaks += times,
            Fault::OriginStalls(time) => self.world.stall_origin(time),
        }
    }

    fn relink(&mut self, number: u32, factor: u64) {
        let options = self.scenario.hosts.iter().chain(&self.scenario.joiners).nth(number as usize);
        if let (Some(key), Some(options)) = (self.keys[number as usize], options) {
            self.world.relink(key, options.link.up / factor, options.link.down / factor);
        }
    }

    /// Mends what would be mended, and sees to it that somebody is left who may go to the origin.
    fn heal(&mut self) {
        self.world.restore_authority();
        self.world.part(BTreeSet::new());
        self.world.origin.mend();
        (0..self.keys.len() as u32).for_each(|number| self.relink(number, 1));
        let rate = Link { up: RATE, down: RATE, latency: Duration::from_millis(5) };
        let may_lease = HostOptions {
            link: rate,
            is_seed: false,
            may_lease: true,
            is_corrupt: false,
            is_mute: false,
            site: 0,
            named: None,
        };
        let key = self.join(may_lease);
        self.keys.push(Some(key));
    }
}
