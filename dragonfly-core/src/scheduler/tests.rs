//! Tests of the core with a virtual clock. After every input the invariants are checked.
#![allow(clippy::unwrap_used)]

mod collect;
mod current;
mod graph;
mod hosts;
mod leases;
mod random;
mod seeds;
mod sites;

use std::collections::BTreeSet;
use std::time::Duration;

use super::{Action, Config, Core, Input, TaskSnapshot};
use crate::task::{Class, TaskId, TaskSpec, Validator, piece_length_for};
use crate::wire::PeerId;
use crate::wire::control::{
    Announce, Answer, Current, Described, Failure, FailureKind, Granted, Join, LeaseId, Neighbour, TaskInfo,
    ToCoordinator, ToMember, Work,
};
use crate::wire::statement::{Grant, Signed};

/// The host number `n`.
fn peer(n: u32) -> PeerId {
    let mut key = [7; 32];
    key[..4].copy_from_slice(&n.to_be_bytes());
    PeerId::from_public_key(key)
}

/// The task number `n`.
fn task(n: u8) -> TaskId {
    TaskId::from_hash([n; 32])
}

fn etag(text: &str) -> Option<Validator> {
    Some(Validator::Etag(format!("\"{text}\"")))
}

fn failure(kind: FailureKind, temporary: bool) -> Failure {
    Failure { kind, temporary, status: None, retry_ms: None, text: "no".to_owned() }
}

fn spec() -> TaskSpec {
    TaskSpec {
        url: "https://origin.test/file".to_owned(),
        filtered: vec![],
        tag: String::new(),
        application: String::new(),
        tenant: "a".to_owned(),
        class: Class::Public,
        key: None,
        tls: None,
        digest: None,
    }
}

/// A join as a plain downloader sends it.
fn wanting(n: u8) -> Join {
    Join {
        info: TaskInfo { task: task(n), spec: None, fixed: false },
        held: None,
        wanted: true,
        may_lease: true,
        age_max_ms: None,
        stale_ok: false,
        priority: 3,
        earlier: None,
    }
}

/// A join of a task that a seed can fetch, too.
fn seedable(n: u8) -> Join {
    let mut join = wanting(n);
    join.info.spec = Some(spec());
    join
}

fn content(length: u64, validator: Option<Validator>, taking: u32) -> Answer {
    let piece_length = piece_length_for(length);
    Answer::Content { length, piece_length, validator, ranges: true, taking, spooled: false }
}

/// Whether it says no more than that a member that waits is not forgotten.
fn is_assurance(action: &Action) -> bool {
    matches!(action, Action::Send { message: ToMember::NoLease { retry_ms: None, .. }, .. })
}

const MIB: u64 = 1 << 20;

/// A core, its clock, and what it said last.
struct World {
    core: Core,
    now: Duration,
    up: BTreeSet<PeerId>,
    said: Vec<Action>,
    lowest_epoch: u64,
}

impl World {
    fn new() -> Self {
        Self::with(Config::default())
    }

    fn with(config: Config) -> Self {
        let core = Core::new(config, 1);
        Self { core, now: Duration::ZERO, up: BTreeSet::new(), said: vec![], lowest_epoch: 0 }
    }

    /// Hands the core an input, checks what must always hold, and keeps what it said.
    fn step(&mut self, input: Input) -> &[Action] {
        match &input {
            Input::HostUp { peer, .. } => drop(self.up.insert(*peer)),
            Input::HostDown { peer } => drop(self.up.remove(peer)),
            _ => {}
        }
        self.core.handle(self.now, input);
        self.said = std::iter::from_fn(|| self.core.poll()).collect();
        for action in &self.said {
            let (Action::Send { to: peer, .. } | Action::Grant { to: peer, .. } | Action::Close { peer, .. }) = action;
            assert!(self.up.contains(peer), "{action:?} is for a host that is down");
            match action {
                Action::Close { peer, .. } => drop(self.up.remove(peer)),
                Action::Grant { lease, grant, .. } => {
                    assert_eq!(lease.epoch, grant.epoch);
                    assert!(grant.first < grant.end && grant.end <= grant.length.div_ceil(grant.piece_length) as u32);
                }
                Action::Send { message: ToMember::Granted(granted), .. } => {
                    assert!(granted.lease.epoch > self.lowest_epoch, "epochs grow");
                    self.lowest_epoch = granted.lease.epoch;
                }
                Action::Send { message: ToMember::Neighbours { hosts, .. }, to } => {
                    assert!(hosts.len() <= 32 && hosts.iter().all(|host| host.peer != *to));
                }
                Action::Send { .. } => {}
            }
        }
        self.core.assert_invariants();
        &self.said
    }

    fn say(&mut self, n: u32, message: ToCoordinator) -> &[Action] {
        self.step(Input::Message { from: peer(n), message })
    }

    fn up_with(&mut self, n: u32, seed: bool, tenant: &str, ip: [u8; 4], slots: u16) {
        let (peer, seen_ip) = (peer(n), Some(ip.into()));
        self.step(Input::HostUp { peer, seed_role: seed, tenant: tenant.to_owned(), seen_ip, local: false });
        let record = Some(Signed(vec![1]));
        self.say(n, ToCoordinator::Announce(Announce { version: 1, record, seed, slots, site: None }));
    }

    fn peer_up(&mut self, n: u32) {
        self.up_with(n, false, "a", [10, 0, (n >> 8) as u8, n as u8], 4);
    }

    fn seed_up(&mut self, n: u32) {
        self.up_with(n, true, "a", [10, 0, 0, n as u8], 4);
    }

    fn down(&mut self, n: u32) {
        self.step(Input::HostDown { peer: peer(n) });
    }

    fn join(&mut self, n: u32, join: Join) {
        self.say(n, ToCoordinator::Join(join));
    }

    fn ask(&mut self, n: u32) {
        self.say(n, ToCoordinator::AskLease(task(1), None));
    }

    fn describe(&mut self, n: u32, lease: LeaseId, answer: Answer) {
        let described = Described { task: task(1), lease, fresh_ms: None, answer };
        self.say(n, ToCoordinator::Described(described));
    }

    fn done(&mut self, n: u32, lease: LeaseId) {
        self.say(n, ToCoordinator::Done { task: task(1), lease });
    }

    fn progress(&mut self, n: u32, lease: LeaseId, end: u32) {
        self.say(n, ToCoordinator::Progress { task: task(1), lease, end });
    }

    fn fail(&mut self, n: u32, lease: LeaseId, failure: Failure) {
        self.say(n, ToCoordinator::LeaseFailed { task: task(1), lease, end: 0, failure });
    }

    fn report(&mut self, n: u32, eighths: u8) {
        let generation = self.task().generation.unwrap();
        self.say(n, ToCoordinator::Report { task: task(1), generation, eighths });
    }

    fn lacking(&mut self, n: u32) {
        self.say(n, ToCoordinator::AskNeighbours { task: task(1), lacking: true, starved_ms: None });
    }

    fn starved(&mut self, n: u32, secs: u32) {
        let starved_ms = Some(secs * 1000);
        self.say(n, ToCoordinator::AskNeighbours { task: task(1), lacking: true, starved_ms });
    }

    /// Lets time pass, deadline by deadline; gathers all that is said. Members that are up keep alive.
    fn pass(&mut self, time: Duration) {
        let (end, mut said) = (self.now + time, vec![]);
        loop {
            let pause = Duration::from_secs(5);
            let next = self.core.next_deadline().unwrap_or(end).min(self.now + pause).min(end);
            self.now = self.now.max(next);
            self.step(Input::Deadline);
            said.append(&mut self.said);
            if self.now >= end && self.core.next_deadline().is_none_or(|at| at > end) {
                break;
            }
            for from in self.up.clone() {
                self.step(Input::Message { from, message: ToCoordinator::KeepAlive });
                // That those who wait are not forgotten has a test of its own.
                self.said.retain(|action| !is_assurance(action));
                said.append(&mut self.said);
            }
        }
        self.said = said;
    }

    fn secs(&mut self, secs: u64) {
        self.pass(Duration::from_secs(secs));
    }

    /// What the last step said to host `n`.
    fn to(&self, n: u32) -> Vec<ToMember> {
        let to = |action: &Action| match action {
            Action::Send { to, message } if *to == peer(n) => Some(message.clone()),
            _ => None,
        };
        self.said.iter().filter_map(to).collect()
    }

    /// The leases to describe that the last step granted.
    fn describers(&self) -> Vec<(PeerId, LeaseId, Option<Validator>)> {
        let granted = |action: &Action| match action {
            Action::Send { to, message: ToMember::Granted(Granted { lease, work: Work::Describe { prior }, .. }) } => {
                Some((*to, *lease, prior.clone()))
            }
            _ => None,
        };
        self.said.iter().filter_map(granted).collect()
    }

    /// The one lease to describe that the last step granted, to host `n`.
    fn describer(&self, n: u32) -> LeaseId {
        let [(to, lease, _)] = self.describers()[..] else { panic!("{:?}", self.said) };
        assert_eq!(to, peer(n));
        lease
    }

    /// The leases on pieces that the last step granted.
    fn grants(&self) -> Vec<(PeerId, LeaseId, Grant)> {
        let granted = |action: &Action| match action {
            Action::Grant { to, lease, grant, .. } => Some((*to, *lease, grant.clone())),
            _ => None,
        };
        self.said.iter().filter_map(granted).collect()
    }

    /// The one lease on pieces that the last step granted, to host `n`, and its first and last end.
    fn grant(&self, n: u32) -> (LeaseId, u32, u32) {
        let grants = self.grants();
        let [(to, lease, grant)] = &grants[..] else { panic!("{:?}", self.said) };
        assert_eq!(*to, peer(n));
        (*lease, grant.first, grant.end)
    }

    fn current(&self, n: u32) -> Option<Current> {
        self.to(n).into_iter().find_map(|m| if let ToMember::Current(current) = m { Some(current) } else { None })
    }

    fn failed(&self, n: u32) -> Option<FailureKind> {
        self.to(n)
            .into_iter()
            .find_map(|m| if let ToMember::Failed { failure, .. } = m { Some(failure.kind) } else { None })
    }

    fn triggered(&self) -> Vec<PeerId> {
        let trigger = |action: &Action| match action {
            Action::Send { to, message: ToMember::Trigger(_) } => Some(*to),
            _ => None,
        };
        self.said.iter().filter_map(trigger).collect()
    }

    fn neighbours(&self, n: u32) -> Option<Vec<PeerId>> {
        let named = |m| match m {
            ToMember::Neighbours { hosts, .. } => Some(hosts.into_iter().map(|host| host.peer).collect()),
            _ => None,
        };
        self.to(n).into_iter().find_map(named)
    }

    fn task(&self) -> TaskSnapshot {
        self.core.snapshot().tasks.into_iter().find(|t| t.task == task(1)).unwrap()
    }

    /// Hosts 1 to `hosts` are up and know the content; host 1 holds a lease on the first pieces, which is given.
    fn cold(hosts: u32, length: u64, validator: Option<Validator>) -> (Self, LeaseId) {
        let (mut w, lease) = Self::asking(hosts);
        w.describe(1, lease, content(length, validator, 8));
        let (same, first, _) = w.grant(1);
        assert_eq!((same, first), (lease, 0));
        (w, lease)
    }

    /// Hosts 1 to `hosts` are up and want the content; host 1 holds the lease to describe it, which is given.
    fn asking(hosts: u32) -> (Self, LeaseId) {
        let mut w = Self::new();
        for n in 1..=hosts {
            w.peer_up(n);
        }
        w.join(1, wanting(1));
        let lease = w.describer(1);
        for n in 2..=hosts {
            w.join(n, wanting(1));
            assert!(w.said.is_empty(), "who comes second waits");
        }
        (w, lease)
    }
}
