//! Whatever is said, in whatever order, the core neither panics nor contradicts itself, and does the same again.

use proptest::prelude::*;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::*;
use crate::wire::control::{Earlier, Held};

/// What a run has seen, so that messages name leases and generations that exist, now or before.
struct Run {
    world: World,
    rng: StdRng,
    /// Who holds it, for what task, and whether it was granted to describe it.
    leases: Vec<(PeerId, TaskId, LeaseId, bool)>,
    announced: BTreeSet<PeerId>,
    trace: Vec<Action>,
}

impl Run {
    fn new(seed: u64) -> Self {
        let config = Config { hosts_max: 14, tasks_max: 4, tasks_per_host_max: 3, holders_max: 3, ..Config::default() };
        let leases = vec![(peer(1), task(1), LeaseId { number: 0, epoch: 0 }, true)];
        let (world, rng) = (World::with(config), StdRng::seed_from_u64(seed));
        let mut run = Self { world, rng, leases, announced: BTreeSet::new(), trace: vec![] };
        for n in 1..=14 {
            let input = run.host_up(n);
            run.world.step(input);
            let message = run.announce(n);
            run.world.say(n, message);
        }
        run
    }

    fn host_up(&mut self, n: u32) -> Input {
        let tenant = if n.is_multiple_of(5) { "b" } else { "a" }.to_owned();
        let seen_ip = self.chance(80).then(|| [10, 0, (n % 2) as u8, n as u8].into());
        Input::HostUp { peer: peer(n), seed_role: n.is_multiple_of(4), tenant, seen_ip, local: n == 1 }
    }

    fn step(&mut self) {
        let input = self.input();
        self.world.step(input);
        for action in &self.world.said {
            match action {
                Action::Grant { to, lease, grant, .. } => self.leases.push((*to, grant.task, *lease, false)),
                Action::Send { to, message: ToMember::Granted(granted) } => {
                    self.leases.push((*to, granted.task, granted.lease, true));
                }
                Action::Close { peer, .. } => drop(self.announced.remove(peer)),
                _ => {}
            }
        }
        self.trace.extend_from_slice(&self.world.said);
    }

    fn chance(&mut self, percent: u32) -> bool {
        self.rng.random_range(0..100) < percent
    }

    fn input(&mut self) -> Input {
        let n = self.rng.random_range(1..=16);
        match self.rng.random_range(0..100) {
            0..8 if !self.world.up.contains(&peer(n)) || self.chance(10) => {
                self.announced.remove(&peer(n));
                self.host_up(n)
            }
            8 => {
                self.announced.remove(&peer(n));
                Input::HostDown { peer: peer(n) }
            }
            9..13 => {
                let pause = self.rng.random_range(0..3000);
                let next = self.world.core.next_deadline().filter(|_| pause % 2 == 0);
                self.world.now = next.unwrap_or(self.world.now + Duration::from_millis(pause)).max(self.world.now);
                Input::Deadline
            }
            13..60 if self.chance(90) => self.lease_message(),
            _ => Input::Message { from: peer(n), message: self.message(n) },
        }
    }

    fn message(&mut self, n: u32) -> ToCoordinator {
        let task = task(self.rng.random_range(1..=5));
        let (.., lease, _) = self.lease();
        if !self.announced.contains(&peer(n)) && self.chance(90) {
            return self.announce(n);
        }
        let end = self.rng.random_range(0..12);
        match self.rng.random_range(0..12) {
            0 => self.announce(n),
            1..4 => ToCoordinator::Join(self.join(task)),
            4 => ToCoordinator::AskLease(task, self.chance(50).then_some(end)),
            5 | 6 => {
                let fresh_ms = self.chance(30).then(|| self.rng.random_range(0..20_000));
                ToCoordinator::Described(Described { task, lease, fresh_ms, answer: self.answer() })
            }
            7 => ToCoordinator::Progress { task, lease, end },
            8 => ToCoordinator::Done { task, lease },
            9 => {
                let kinds = [FailureKind::Changed, FailureKind::Local, FailureKind::NotFound, FailureKind::Origin];
                let failure = failure(kinds[end as usize % 4], self.chance(50));
                match self.chance(70) {
                    true => ToCoordinator::LeaseFailed { task, lease, end, failure },
                    false => ToCoordinator::Release { task, lease, end },
                }
            }
            10 => match self.chance(70) {
                true => {
                    let starved_ms = self.chance(50).then(|| self.rng.random_range(0..40_000));
                    ToCoordinator::AskNeighbours { task, lacking: self.chance(70), starved_ms }
                }
                false => ToCoordinator::Leave(task),
            },
            _ => {
                let tasks = self.world.core.snapshot().tasks;
                let generation = tasks.iter().find(|t| t.task == task).and_then(|t| t.generation);
                match generation {
                    Some(generation) => ToCoordinator::Report { task, generation, eighths: end as u8 },
                    None => ToCoordinator::KeepAlive,
                }
            }
        }
    }

    fn announce(&mut self, n: u32) -> ToCoordinator {
        if self.world.up.contains(&peer(n)) {
            self.announced.insert(peer(n));
        }
        let record = self.chance(80).then(|| Signed(vec![n as u8]));
        let slots = self.rng.random_range(0..3);
        let site = (!n.is_multiple_of(3)).then(|| format!("site-{}", n % 3));
        ToCoordinator::Announce(Announce { version: 1, record, seed: n.is_multiple_of(4), slots, site })
    }

    /// One of the newest leases.
    fn lease(&mut self) -> (PeerId, TaskId, LeaseId, bool) {
        let recent = self.leases.len().saturating_sub(self.rng.random_range(1..6));
        self.leases[recent]
    }

    /// What the rightful holder of a lease may say.
    fn lease_message(&mut self) -> Input {
        let (from, task, lease, describing) = self.lease();
        let end = self.rng.random_range(0..20);
        let message = match self.rng.random_range(0..8) {
            0..6 if describing => {
                let fresh_ms = self.chance(50).then(|| self.rng.random_range(0..2_000_000));
                ToCoordinator::Described(Described { task, lease, fresh_ms, answer: self.answer() })
            }
            1 | 2 => ToCoordinator::Done { task, lease },
            3 => ToCoordinator::Release { task, lease, end },
            4 => {
                let kinds = [FailureKind::Changed, FailureKind::Local, FailureKind::NotFound, FailureKind::Origin];
                let failure = failure(kinds[end as usize % 4], self.chance(50));
                ToCoordinator::LeaseFailed { task, lease, end, failure }
            }
            0 | 5 => ToCoordinator::AskLease(task, self.chance(50).then_some(end)),
            _ => ToCoordinator::Progress { task, lease, end },
        };
        Input::Message { from, message }
    }

    fn join(&mut self, task: TaskId) -> Join {
        let tasks = self.world.core.snapshot().tasks;
        let known = tasks.iter().find(|t| t.task == task).and_then(|t| Some((t.generation?, t.length?)));
        let held = known.filter(|_| self.chance(40)).map(|(generation, length)| {
            let (piece_length, eighths) = (piece_length_for(length), self.rng.random_range(0..10));
            Held {
                generation,
                length,
                piece_length,
                validator: None,
                splittable: self.chance(50),
                eighths,
                live: self.chance(50),
                fetching: Vec::new(),
            }
        });
        Join {
            info: TaskInfo { task, spec: self.chance(50).then(spec), fixed: self.chance(20) },
            held,
            wanted: self.chance(85),
            may_lease: self.chance(85),
            age_max_ms: self.chance(20).then(|| self.rng.random_range(0..30_000)),
            stale_ok: self.chance(30),
            priority: self.rng.random_range(0..10),
            earlier: [None, None, Some(Earlier::Moved), Some(Earlier::Asked)][self.rng.random_range(0..4)],
        }
    }

    fn answer(&mut self) -> Answer {
        let length = [0, 1, 70_000, u64::MAX, 3 * MIB, 9 * MIB, 90 * MIB][self.rng.random_range(0..7)];
        let validator = etag(["x", "y"][self.rng.random_range(0..2)]).filter(|_| self.chance(60));
        match self.rng.random_range(0..8) {
            0 => Answer::Unchanged,
            1 => Answer::Spooling,
            _ => Answer::Content {
                length,
                piece_length: piece_length_for(length),
                validator,
                ranges: self.chance(70),
                taking: self.rng.random_range(0..20),
                spooled: self.chance(20),
            },
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_inputs_break_nothing(seed: u64) {
        let mut run = Run::new(seed);
        (0..400).for_each(|_| run.step());
        // When all are gone and time has passed, nothing is left.
        (1..=16).for_each(|n| run.world.down(n));
        run.world.secs(700);
        prop_assert!(run.world.core.snapshot().tasks.is_empty());
        prop_assert_eq!(run.world.core.next_deadline(), None);
    }
}

#[test]
fn the_same_inputs_give_the_same_actions() {
    let mut grants = 0;
    for seed in 0..20 {
        let trace = || {
            let mut run = Run::new(seed);
            (0..500).for_each(|_| run.step());
            run.trace
        };
        let first = trace();
        grants += first.iter().filter(|action| matches!(action, Action::Grant { .. })).count();
        assert_eq!(first, trace());
    }
    assert!(grants > 100, "the runs are about something: {grants}");
}
