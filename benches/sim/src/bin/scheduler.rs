//! What the scheduler's core costs: one large task, in a stated mix of joins, reports, leases and questions, without
//! sockets, signatures and encoding.
//!
//! `cargo run --release -p dragonfly-sim --bin scheduler`
#![allow(clippy::print_stdout, reason = "benches print what they measured")]

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use clap::Parser;
use dragonfly_core::scheduler::{Action, Config, Core, Input};
use dragonfly_core::task::{Generation, TaskId, Validator};
use dragonfly_core::wire::PeerId;
use dragonfly_core::wire::control::{Announce, Held, Join, LeaseId, TaskInfo, ToCoordinator, ToMember};
use dragonfly_core::wire::statement::Signed;
use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;
use rand::{Rng as _, SeedableRng as _};

/// Pieces of the task: as many as there may be, so that there are leases to the end.
const PIECES: u32 = 1 << 16;
const PIECE: u64 = 4 << 20;

/// The bytes of a record of addresses: with two addresses it has about so many.
const RECORD_BYTES: usize = 220;

/// Peers that fetch from the origin by leases, as many as may at a time.
const HOLDERS: u32 = 16;

/// One in so many peers asks for more neighbours once.
const ASKS: u32 = 4;

/// Measures the core of a scheduler.
#[derive(Parser)]
struct Args {
    /// Peers of the task.
    #[arg(long, default_value_t = 100_000)]
    peers: u32,
    /// How many of them join in a second, of the core's time.
    #[arg(long, default_value_t = 10_000)]
    joins: u32,
    /// Sites among which they are dealt out; none: nobody says where it is.
    #[arg(long, default_value_t = 0)]
    sites: u32,
    /// What everything is drawn from.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// The core, its clock, and what it took.
struct Bench {
    core: Core,
    now: Duration,
    took: Vec<u32>,
    /// The longest event of each kind.
    slowest: BTreeMap<&'static str, u32>,
    named: u64,
    grants: Vec<(PeerId, LeaseId, u32, u32)>,
}

impl Bench {
    /// Hands the core an input and takes its actions, which a shell would send.
    fn put(&mut self, input: Input) {
        let kind = kind(&input);
        let began = Instant::now();
        self.core.handle(self.now, input);
        while let Some(action) = self.core.poll() {
            match action {
                Action::Grant { to, lease, grant, .. } => self.grants.push((to, lease, grant.first, grant.end)),
                Action::Send { message: ToMember::Neighbours { hosts, .. }, .. } => self.named += hosts.len() as u64,
                _ => {}
            }
        }
        let took = u32::try_from(began.elapsed().as_nanos()).unwrap_or(u32::MAX);
        let slowest = self.slowest.entry(kind).or_default();
        *slowest = took.max(*slowest);
        self.took.push(took);
    }

    fn say(&mut self, from: PeerId, message: ToCoordinator) {
        self.put(Input::Message { from, message });
    }

    /// Lets time pass.
    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(at) = self.core.next_deadline().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.put(Input::Deadline);
        }
        self.now = end;
    }

    /// Fetches what was leased, piece by piece, and asks for more.
    fn fetch(&mut self, task: TaskId) {
        for (holder, lease, first, end) in std::mem::take(&mut self.grants) {
            for piece in first + 1..end {
                self.say(holder, ToCoordinator::Progress { task, lease, end: piece });
            }
            self.say(holder, ToCoordinator::Done { task, lease });
            self.say(holder, ToCoordinator::AskLease(task, None));
        }
    }
}

/// What an event is called in the list of the slowest.
const fn kind(input: &Input) -> &'static str {
    match input {
        Input::Deadline => "deadline",
        Input::Message { message: ToCoordinator::Join(_), .. } => "join",
        Input::Message { message: ToCoordinator::AskNeighbours { .. }, .. } => "question",
        Input::Message { message: ToCoordinator::Report { .. }, .. } => "report",
        Input::Message { message: ToCoordinator::Leave(_), .. } => "leave",
        Input::Message { .. } => "lease",
        _ => "host",
    }
}

fn peer(number: u32) -> PeerId {
    let mut key = [7; 32];
    key[..4].copy_from_slice(&number.to_be_bytes());
    PeerId::from_public_key(key)
}

fn main() {
    let args = Args::parse();
    let mut random = StdRng::seed_from_u64(args.seed);
    let mut config = Config::default();
    config.hosts_max = args.peers as usize + 1;
    let core = Core::new(config, args.seed);
    let mut bench =
        Bench { core, now: Duration::ZERO, took: Vec::new(), slowest: BTreeMap::new(), named: 0, grants: Vec::new() };
    bench.took.reserve(args.peers as usize * 24);
    let task = TaskId::from_hash([3; 32]);
    let validator = Some(Validator::Etag("\"v\"".to_owned()));
    let length = u64::from(PIECES) * PIECE;
    let generation = Generation::derive(&task, validator.as_ref(), Some(length), PIECE, None);

    let before = resident();
    for number in 0..args.peers {
        let (from, seen_ip) = (peer(number), Some(std::net::Ipv4Addr::from(0x0a00_0000 | number).into()));
        bench.put(Input::HostUp { peer: from, seed_role: false, tenant: "bench".to_owned(), seen_ip, local: true });
        let site = (args.sites > 0).then(|| format!("site-{}", number % args.sites));
        let record = Some(Signed(vec![0; RECORD_BYTES]));
        bench.say(from, ToCoordinator::Announce(Announce { version: 1, record, seed: false, slots: 8, site }));
    }
    let connected = resident();
    let hosts = bench.took.len();
    bench.slowest.clear();

    let held = Held {
        generation,
        length,
        piece_length: PIECE,
        validator,
        splittable: true,
        eighths: 0,
        live: false,
        fetching: Vec::new(),
    };
    let join = Join {
        info: TaskInfo { task, spec: None, fixed: true },
        held: Some(held),
        wanted: true,
        may_lease: true,
        age_max_ms: None,
        stale_ok: true,
        priority: 3,
        earlier: None,
    };
    let (began, processor) = (bench.took.len(), processor_seconds());
    let each = Duration::from_secs(1) / args.joins.max(1);
    for number in 0..args.peers {
        bench.pass(each);
        // Who comes first has a part of it from before: by that the core knows the content.
        let held = join.held.clone().filter(|_| number == 0);
        bench.say(peer(number), ToCoordinator::Join(Join { held, ..join.clone() }));
        if number < HOLDERS {
            bench.say(peer(number), ToCoordinator::AskLease(task, None));
        }
        if number % 16 == 0 {
            bench.fetch(task);
        }
    }
    let (joined, joining, after) = (bench.took.len(), processor_seconds(), resident());
    // Everybody reports the first eighth and the end, who fetches by leases each one, in an order that has nothing to do
    // with that of joins.
    let mut order: Vec<u32> = (0..args.peers).collect();
    for eighths in 1..=8 {
        order.shuffle(&mut random);
        for number in &order {
            if matches!(eighths, 1 | 8) || *number < HOLDERS {
                bench.say(peer(*number), ToCoordinator::Report { task, generation, eighths });
            }
            if eighths == 4 && random.random_range(0..ASKS) == 0 {
                let ask = ToCoordinator::AskNeighbours { task, lacking: false, starved_ms: None };
                bench.say(peer(*number), ask);
            }
            if number % 16 == 0 {
                bench.fetch(task);
            }
        }
        bench.pass(Duration::from_secs(1));
    }
    for number in &order {
        bench.say(peer(*number), ToCoordinator::Leave(task));
    }
    let (ended, ending) = (bench.took.len(), processor_seconds());

    let rate = |events: usize, seconds: f64| events as f64 / seconds.max(1e-9);
    let peers = args.peers as usize;
    println!(
        "{peers} peers, {hosts} events before they join; joins with 16 holders' leases: {} events, {:.0} a second of processor time; \
         reports, questions, leases, leaves: {} events, {:.0} a second; together {:.0}",
        joined - began,
        rate(joined - began, joining - processor),
        ended - joined,
        rate(ended - joined, ending - joining),
        rate(ended - began, ending - processor),
    );
    let mut took = bench.took.split_off(began);
    took.sort_unstable();
    let at = |part: f64| f64::from(took[((took.len() - 1) as f64 * part) as usize]) / 1e3;
    println!(
        "an event takes {:.1} us (median), {:.1} us (p99), {:.1} us (p99.9), {:.1} ms at the most",
        at(0.5),
        at(0.99),
        at(0.999),
        at(1.0) / 1e3
    );
    let slowest: Vec<String> =
        bench.slowest.iter().map(|(kind, took)| format!("{kind} {:.2} ms", f64::from(*took) / 1e6)).collect();
    println!("the slowest: {}", slowest.join(", "));
    println!(
        "{:.1} events a peer-task; {:.1} neighbours named to each; bytes a host {}, a peer-task {}",
        (ended - began) as f64 / peers as f64,
        bench.named as f64 / peers as f64,
        connected.saturating_sub(before) / u64::from(args.peers),
        after.saturating_sub(connected) / u64::from(args.peers),
    );
}

/// The memory that this process has, in bytes; 0 where the system does not say.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.trim().trim_end_matches("kB").trim().parse::<u64>().ok()).unwrap_or(0) << 10
}

/// The processor time of this process; 0 where the system does not say.
fn processor_seconds() -> f64 {
    let nanos = std::fs::read_to_string("/proc/self/schedstat").unwrap_or_default();
    nanos.split_whitespace().next().and_then(|nanos| nanos.parse::<f64>().ok()).unwrap_or(0.0) / 1e9
}
