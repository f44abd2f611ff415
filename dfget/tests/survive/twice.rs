//! Two deaths in a row: who takes over dies, too.

use dragonfly_testkit::Resource;

use super::{Moment, SEED, all_finish, all_know, ended, fetch, is_told};
use crate::harness::{Daemon, TestOrigin};

const LENGTH: u64 = 24 << 20;
const RATE: u64 = 8 << 20;
const PEERS: usize = 8;

/// What may have to be fetched again for two deaths: the request with which content was described, two leases and the next
/// one of each of the dead. What they had taken before they had passed on.
const AGAIN: u64 = 10 << 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    SchedulerThenSeed,
    SchedulerThenItsSuccessor,
    SeedThenItsSuccessor,
    /// Four peers at once.
    HalfThePeersThenTheSeed,
    /// Of equals, each time the one that has taken most from the origin.
    HolderThenItsSuccessor,
}

/// A network: those who may die first, then those who may die next, then those who stay.
fn cast(order: Order) -> [Vec<Daemon>; 3] {
    let first_role = if order == Order::HolderThenItsSuccessor { "peer" } else { "scheduler" };
    let first = Daemon::with_role(first_role).start();
    let start = |role: &str, count: usize| -> Vec<Daemon> {
        (0..count).map(|_| Daemon::with_role(role).join(&first).start()).collect()
    };
    match order {
        Order::SchedulerThenSeed => {
            let (seed, peers) = (start("seed", 1), start("peer", PEERS));
            [vec![first], seed, peers]
        }
        Order::SchedulerThenItsSuccessor => {
            let second = Daemon::with_role("scheduler").join(&first).start();
            let both = |mut daemon: crate::harness::DaemonBuilder| {
                for scheduler in [&first, &second] {
                    daemon = daemon.args(["--scheduler", &scheduler.ready().listen[0]]);
                }
                daemon.join(&first).start()
            };
            let mut peers: Vec<Daemon> = (0..PEERS).map(|_| both(Daemon::with_role("peer"))).collect();
            peers.push(both(Daemon::with_role("seed")));
            [vec![first], vec![second], peers]
        }
        Order::SeedThenItsSuccessor => {
            // The scheduler stays. Which of the seeds is the first to fetch is the scheduler's choice.
            let (seeds, mut peers) = (start("seed", 2), start("peer", PEERS));
            peers.push(first);
            [seeds, Vec::new(), peers]
        }
        Order::HalfThePeersThenTheSeed => {
            let (half, seed, mut peers) = (start("peer", PEERS / 2), start("seed", 1), start("peer", PEERS / 2));
            peers.push(first);
            [half, seed, peers]
        }
        Order::HolderThenItsSuccessor => {
            let mut peers = start("peer", PEERS - 1);
            peers.push(first);
            [peers, Vec::new(), Vec::new()]
        }
    }
}

/// Takes out the one that has taken most from the origin, or waits for its answer.
fn holder(daemons: &mut Vec<Daemon>) -> Daemon {
    let metrics = ["dragonfly_origin_bytes_total", "dragonfly_origin_requests"];
    let index = (0..daemons.len()).max_by_key(|at| metrics.map(|name| daemons[*at].metric(name))).unwrap();
    daemons.remove(index)
}

fn kill_twice(order: Order) {
    use Moment::{AtOnce, AtTheFirstByte, BeforeTheFirstByte, InTheMiddle};
    for moments in [
        [AtOnce, BeforeTheFirstByte],
        [BeforeTheFirstByte, BeforeTheFirstByte],
        [BeforeTheFirstByte, AtTheFirstByte],
        [AtTheFirstByte, AtTheFirstByte],
        [AtTheFirstByte, InTheMiddle],
        [InTheMiddle, InTheMiddle],
    ] {
        kill_at(order, moments);
    }
}

fn kill_at(order: Order, moments: [Moment; 2]) {
    let origin = TestOrigin::start();
    let file = Resource::seeded(SEED, LENGTH).rate(RATE);
    let is_held = moments.contains(&Moment::BeforeTheFirstByte);
    let url = origin.set("/file", if is_held { file.held() } else { file });
    let origin = &origin.origin;
    let [mut first, mut second, stay] = cast(order);
    // Schedulers alone do not look for one another.
    let all: Vec<&Daemon> = first.iter().chain(&second).chain(&stay).collect();
    let members: Vec<&Daemon> = all.iter().copied().filter(|daemon| daemon.is_peer()).collect();
    all_know(&members, all.len() as u64 - 1);
    let mut clients = Vec::new();
    for daemon in first.iter().chain(&second).chain(&stay) {
        if daemon.is_peer() {
            clients.push((daemon.ready().peer_id.clone(), fetch(daemon, &url)));
        }
    }
    let mut before = 0;
    for (part, moment) in moments.into_iter().enumerate() {
        if moment > Moment::BeforeTheFirstByte {
            origin.release("/file");
        }
        moment.comes(origin, LENGTH);
        let from = if part == 1 && !second.is_empty() { &mut second } else { &mut first };
        match (order, part) {
            (Order::HalfThePeersThenTheSeed, 0) => from.clear(),
            _ => drop(holder(from)),
        }
        before = origin.body_bytes("/file");
    }
    origin.release("/file");
    let all: Vec<&Daemon> = first.iter().chain(&second).chain(&stay).collect();
    let mut survivors = Vec::new();
    for (peer, client) in clients {
        match all.iter().find(|daemon| daemon.ready().peer_id == peer) {
            Some(daemon) => survivors.push((*daemon, client)),
            None => is_told(ended(client), &format!("{order:?} {moments:?}")),
        }
    }
    let least = if order == Order::HalfThePeersThenTheSeed { PEERS / 2 } else { PEERS - 2 };
    assert!(survivors.len() >= least);
    all_finish(survivors, LENGTH);
    let sent = origin.body_bytes("/file");
    println!("{order:?} {moments:?}: {:.3} copies, {before} bytes before the second", sent as f64 / LENGTH as f64);
    assert!(sent <= LENGTH + AGAIN, "{order:?} {moments:?}: {sent} of {LENGTH}, {before} before: {:?}", origin.log());
}

#[test]
fn the_scheduler_then_the_seed() {
    kill_twice(Order::SchedulerThenSeed);
}

#[test]
fn the_scheduler_then_its_successor() {
    kill_twice(Order::SchedulerThenItsSuccessor);
}

#[test]
fn the_seed_then_its_successor() {
    kill_twice(Order::SeedThenItsSuccessor);
}

#[test]
fn half_of_the_peers_then_the_seed() {
    kill_twice(Order::HalfThePeersThenTheSeed);
}

#[test]
fn who_fetches_then_its_successor() {
    kill_twice(Order::HolderThenItsSuccessor);
}
