//! Who trades with whom, as the production scheduler says it.
//!
//! The scheduler's core is told of hosts, joins, progress and losses as its shell would tell it, and what it says of
//! neighbours is handed to the hosts. Leases are not its matter here: [`Authority`](crate::Authority) has them, for a
//! lease's fetch is the simulated origin's.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use dragonfly_core::scheduler::{Action, Config, Core, Input};
use dragonfly_core::swarm::{HostKey, TaskKey, Time};
use dragonfly_core::task::{Generation, Layout, TaskId};
use dragonfly_core::wire::PeerId;
use dragonfly_core::wire::control::{Announce, Held, Join, Share, TaskInfo, ToCoordinator, ToMember};
use dragonfly_core::wire::statement::Signed;

/// Everybody is of one account.
const TENANT: &str = "sim";

/// Of tasks, as the scheduler sees them: the middle of eight.
const PRIORITY: u8 = 3;

/// A host and whom it is to have as neighbours; of those across what it is to bring from there.
pub(crate) type Named = (HostKey, TaskKey, Vec<(HostKey, Option<Share>)>);

/// How a host takes part, as its announcement and its join say.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Part {
    pub(crate) site: u8,
    /// The site that it names.
    pub(crate) named: Option<u8>,
    pub(crate) is_seed: bool,
    pub(crate) uploads: bool,
    /// Held eighths.
    pub(crate) eighths: u8,
}

/// What hosts said to the scheduler, leases aside.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Heard {
    /// Joins.
    pub joins: u64,
    /// Reports of how far a host is.
    pub reports: u64,
    /// Questions for neighbours.
    pub questions: u64,
    /// Of these such as say that no neighbour holds what the host lacks.
    pub lacking: u64,
}

/// The scheduler's core and what is needed to speak to it.
pub(crate) struct Members {
    core: Core,
    pub(crate) heard: Heard,
    named: BTreeMap<TaskId, TaskKey>,
    /// Hosts that have announced themselves.
    up: BTreeSet<HostKey>,
}

impl std::fmt::Debug for Members {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Members").finish_non_exhaustive()
    }
}

impl Members {
    /// `bridges`: of each site, if not as many as production has.
    pub(crate) fn new(seed: u64, neighbours: usize, bridges: Option<usize>) -> Self {
        let mut config = Config::default();
        config.bridges_per_site = bridges.unwrap_or(config.bridges_per_site);
        (config.hosts_max, config.neighbours_wanted) = (1 << 20, neighbours);
        Self { core: Core::new(config, seed), heard: Heard::default(), named: BTreeMap::new(), up: BTreeSet::new() }
    }

    /// A host takes part in a task.
    pub(crate) fn join(&mut self, now: Time, host: HostKey, task: TaskKey, layout: Layout, part: Part) -> Vec<Named> {
        let peer = peer(host);
        let id = id(task);
        self.named.insert(id, task);
        let octets = host.0.to_be_bytes();
        // A site is a network of 24 bits.
        let seen_ip = Some(IpAddr::V4(Ipv4Addr::new(10, 0, part.site, octets[3])));
        let up = Input::HostUp { peer, seed_role: part.is_seed, tenant: TENANT.to_owned(), seen_ip, local: true };
        let announce = Announce {
            version: 1,
            record: Some(Signed(Vec::new())),
            seed: part.is_seed,
            slots: u16::from(part.uploads),
            site: part.named.map(|site| format!("site-{site}")),
        };
        let held = Held {
            generation: Generation::derive(&id, None, Some(layout.length()), layout.piece_length(), None),
            length: layout.length(),
            piece_length: layout.piece_length(),
            validator: None,
            splittable: false,
            eighths: part.eighths,
            live: false,
            fetching: Vec::new(),
        };
        let join = Join {
            info: TaskInfo { task: id, spec: None, fixed: true },
            held: Some(held),
            wanted: true,
            may_lease: false,
            age_max_ms: None,
            stale_ok: true,
            priority: PRIORITY,
            earlier: None,
        };
        if self.up.insert(host) {
            self.tell(now, up);
            self.tell(now, Input::Message { from: peer, message: ToCoordinator::Announce(announce) });
        }
        self.heard.joins += 1;
        self.tell(now, Input::Message { from: peer, message: ToCoordinator::Join(join) });
        self.answers()
    }

    /// A host asks for more neighbours.
    pub(crate) fn ask(
        &mut self,
        now: Time,
        host: HostKey,
        task: TaskKey,
        lacking: bool,
        starved: Option<Duration>,
    ) -> Vec<Named> {
        self.heard.questions += 1;
        self.heard.lacking += u64::from(lacking);
        let starved_ms = starved.map(|time| time.as_millis() as u32);
        let message = ToCoordinator::AskNeighbours { task: id(task), lacking, starved_ms };
        self.tell(now, Input::Message { from: peer(host), message });
        self.answers()
    }

    /// A host has come so far.
    pub(crate) fn report(
        &mut self,
        now: Time,
        host: HostKey,
        task: TaskKey,
        layout: &Layout,
        eighths: u8,
    ) -> Vec<Named> {
        let id = id(task);
        let generation = Generation::derive(&id, None, Some(layout.length()), layout.piece_length(), None);
        self.heard.reports += 1;
        let message = ToCoordinator::Report { task: id, generation, eighths };
        self.tell(now, Input::Message { from: peer(host), message });
        self.answers()
    }

    /// A host is gone.
    pub(crate) fn lose(&mut self, now: Time, host: HostKey) -> Vec<Named> {
        self.up.remove(&host);
        self.tell(now, Input::HostDown { peer: peer(host) });
        self.answers()
    }

    /// When it wants to be woken.
    pub(crate) fn next_deadline(&self) -> Option<Time> {
        self.core.next_deadline().map(Time)
    }

    /// It is time.
    pub(crate) fn wake(&mut self, now: Time) -> Vec<Named> {
        self.core.handle(now.0, Input::Deadline);
        self.answers()
    }

    fn tell(&mut self, now: Time, input: Input) {
        while self.core.next_deadline().is_some_and(|at| at <= now.0) {
            self.core.handle(now.0, Input::Deadline);
        }
        self.core.handle(now.0, input);
    }

    fn answers(&mut self) -> Vec<Named> {
        let mut all = Vec::new();
        while let Some(action) = self.core.poll() {
            if let Action::Send { to, message: ToMember::Neighbours { task, hosts } } = action
                && let Some(task) = self.named.get(&task)
            {
                all.push((host(&to), *task, hosts.iter().map(|named| (host(&named.peer), named.share)).collect()));
            }
        }
        all
    }
}

fn peer(host: HostKey) -> PeerId {
    let mut key = [7; 32];
    key[..4].copy_from_slice(&host.0.to_be_bytes());
    PeerId::from_public_key(key)
}

fn host(peer: &PeerId) -> HostKey {
    let mut bytes = [0; 4];
    bytes.copy_from_slice(&peer.public_key()[..4]);
    HostKey(u32::from_be_bytes(bytes))
}

fn id(task: TaskKey) -> TaskId {
    let mut hash = [0; 32];
    hash[..4].copy_from_slice(&task.0.to_be_bytes());
    TaskId::from_hash(hash)
}
