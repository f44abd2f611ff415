//! The kill matrix: who dies, and when.

use dragonfly_testkit::{Origin, Resource};

use super::{SEED, all_finish, everyone_knows_everyone, fetch};
use crate::harness::{Daemon, wait_for};

const LENGTH: u64 = 24 << 20;
const RATE: u64 = 12 << 20;
const PEERS: usize = 8;

/// Origin requests have at most this length, so that this much more may be in flight to one that dies.
const REQUEST_MAX: u64 = 32 << 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Victims {
    Scheduler,
    Seed,
    HalfThePeers,
    /// There is neither scheduler nor seed, and whoever coordinates and fetches is among those that die.
    HalfOfEquals,
}

#[derive(Clone, Copy, Debug)]
enum Moment {
    BeforeTheFirstByte,
    AtTheFirstByte,
    InTheMiddle,
}

const MOMENTS: [Moment; 3] = [Moment::BeforeTheFirstByte, Moment::AtTheFirstByte, Moment::InTheMiddle];

impl Moment {
    /// Waits for it.
    fn comes(self, origin: &Origin) {
        let sent = match self {
            Self::BeforeTheFirstByte => return,
            Self::AtTheFirstByte => 1,
            Self::InTheMiddle => LENGTH / 2,
        };
        wait_for("the moment to kill", || (origin.body_bytes("/file") >= sent).then_some(()));
    }
}

/// A network, and who is to die in it.
struct Cast {
    survivors: Vec<Daemon>,
    servers: Vec<Daemon>,
    victims: Vec<Daemon>,
}

fn cast(victims: Victims) -> Cast {
    let join =
        |first: &Daemon| -> Vec<Daemon> { (0..PEERS).map(|_| Daemon::with_role("peer").join(first).start()).collect() };
    if victims == Victims::HalfOfEquals {
        let first = Daemon::with_role("peer").start();
        let mut peers = join(&first);
        let survivors = peers.split_off(PEERS / 2);
        // Where they meet dies, too.
        peers.push(first);
        return Cast { survivors, servers: Vec::new(), victims: peers };
    }
    let scheduler = Daemon::with_role("scheduler").start();
    let seed = Daemon::with_role("seed").join(&scheduler).start();
    let mut peers = join(&scheduler);
    match victims {
        Victims::Scheduler => Cast { survivors: peers, servers: vec![seed], victims: vec![scheduler] },
        Victims::Seed => Cast { survivors: peers, servers: vec![scheduler], victims: vec![seed] },
        _ => {
            let survivors = peers.split_off(PEERS / 2);
            Cast { survivors, servers: vec![scheduler, seed], victims: peers }
        }
    }
}

/// Kills them at this moment of a download by everyone; the survivors finish. How much the origin sent, and how
/// much of it before they died.
async fn kill(victims: Victims, moment: Moment) -> (u64, u64) {
    let origin = Origin::start().await.unwrap();
    origin.set("/file", Resource::seeded(SEED, LENGTH).rate(RATE));
    let url = origin.url("/file");
    let work = tokio::task::spawn_blocking(move || {
        let Cast { survivors, servers, victims } = cast(victims);
        let all: Vec<&Daemon> = survivors.iter().chain(&servers).chain(&victims).collect();
        everyone_knows_everyone(&all);
        let clients: Vec<_> = survivors.iter().map(|daemon| (daemon, fetch(daemon, &url))).collect();
        let doomed: Vec<_> = victims.iter().map(|daemon| fetch(daemon, &url)).collect();
        moment.comes(&origin);
        drop(victims);
        let before = origin.body_bytes("/file");
        all_finish(clients, LENGTH);
        for mut client in doomed {
            // It may have finished before; else it says that its daemon is gone.
            client.wait().unwrap();
        }
        drop(servers);
        (origin.body_bytes("/file"), before)
    });
    let (sent, before) = work.await.unwrap();
    println!("{victims:?} {moment:?}: {:.3} copies, {before} bytes before", sent as f64 / LENGTH as f64);
    (sent, before)
}

/// What the dead had taken, and what was under way to them, may have to be fetched again; nothing else. `spared`:
/// so much, where those who fetch are not among them.
async fn matrix(victims: Victims, spared: Option<u64>) {
    for moment in MOMENTS {
        let (sent, before) = kill(victims, moment).await;
        let lost = spared.unwrap_or(before + REQUEST_MAX.min(RATE));
        assert!(sent <= LENGTH + lost, "{victims:?} {moment:?}: {sent} of {LENGTH}, {before} before");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_scheduler() {
    // The next coordinator asks the origin what is current again, with a request that takes the first 4 MiB along,
    // and the leases that were under way, a MiB each, are granted anew in the worst case.
    matrix(Victims::Scheduler, Some(8 << 20)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_seed() {
    matrix(Victims::Seed, None).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_of_the_peers() {
    matrix(Victims::HalfThePeers, Some(0)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_of_equals_with_those_who_fetch() {
    matrix(Victims::HalfOfEquals, None).await;
}
