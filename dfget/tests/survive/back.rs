//! Who is gone for a while and comes back: a process that is frozen and thawed, and one that is killed and started
//! again where it was.

use dragonfly_testkit::Resource;
use rustix::process::Signal;

use super::{SEED, all_finish, all_know, fetch};
use crate::harness::{Daemon, TestOrigin, signal, wait_for};

const LENGTH: u64 = 24 << 20;
const RATE: u64 = 8 << 20;
const PEERS: usize = 6;

/// What may have to be fetched twice: the request with which content was described, and two leases and the next one.
const AGAIN: u64 = 10 << 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Scheduler,
    Seed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Absence {
    /// It is silent, and its connections stay open.
    Frozen,
    /// `kill -9`, and started again at once.
    Restarted,
}

fn everyone_fetches(peers: &[Daemon], url: &str) {
    all_finish(peers.iter().map(|peer| (peer, fetch(peer, url))).collect(), LENGTH);
    for peer in peers {
        std::fs::remove_file(peer.dir().join("output")).unwrap();
    }
}

/// It goes in the middle of a download by everyone, who finish all the same; once it is back, the next download costs
/// one copy again.
fn goes(role: Role, absence: Absence) {
    let origin = TestOrigin::start();
    let url = origin.set("/file", Resource::seeded(SEED, LENGTH).rate(RATE));
    let scheduler = Daemon::with_role("scheduler").start();
    let seed = Daemon::with_role("seed").join(&scheduler).start();
    let peers: Vec<Daemon> = (0..PEERS).map(|_| Daemon::with_role("peer").join(&scheduler).start()).collect();
    let everyone = PEERS as u64 + 1;
    let (mut who, other) = if role == Role::Scheduler { (scheduler, seed) } else { (seed, scheduler) };
    all_know(&peers.iter().chain([&who, &other]).collect::<Vec<_>>(), everyone);
    let id = who.ready().peer_id.clone();

    let started = std::time::Instant::now();
    let clients: Vec<_> = peers.iter().map(|peer| (peer, fetch(peer, &url))).collect();
    wait_for("the middle", || (origin.origin.body_bytes("/file") >= LENGTH / 3).then_some(()));
    match absence {
        Absence::Frozen => signal(who.child(), Signal::STOP),
        Absence::Restarted => who = who.kill_and_restart_in_place(),
    }
    all_finish(clients, LENGTH);
    for peer in &peers {
        std::fs::remove_file(peer.dir().join("output")).unwrap();
    }
    let sent = origin.origin.body_bytes("/file");
    println!("{role:?} {absence:?}: {:.3} copies, after {:?}", sent as f64 / LENGTH as f64, started.elapsed());
    assert!(sent <= LENGTH + AGAIN, "{role:?} {absence:?}: {sent} of {LENGTH}");

    if absence == Absence::Frozen {
        signal(who.child(), Signal::CONT);
    }
    assert_eq!(who.ready().peer_id, id, "it comes back as who it was");
    all_know(&peers.iter().chain([&who, &other]).collect::<Vec<_>>(), everyone);
    if role == Role::Seed {
        assert!(who.metric("dragonfly_store_bytes") > 0, "what it held it holds");
    }
    // What it coordinated before is known again: who comes late has it from the others.
    let late = Daemon::with_role("peer").join(&peers[0]).start();
    all_finish(vec![(&late, fetch(&late, &url))], LENGTH);
    // But for what was under way when it froze: its leases are granted anew, or it goes on with them.
    let again = origin.origin.body_bytes("/file") - sent;
    println!("{role:?} {absence:?}, late: {again} bytes again");
    let most = if absence == Absence::Frozen { AGAIN } else { 0 };
    assert!(again <= most, "{role:?} {absence:?}: {again} again: {:?}", origin.origin.log());
    let next = origin.set("/next", Resource::seeded(SEED, LENGTH));
    everyone_fetches(&peers, &next);
    let sent = origin.origin.body_bytes("/next");
    println!("{role:?} {absence:?}, then: {:.3} copies, after {:?}", sent as f64 / LENGTH as f64, started.elapsed());
    assert_eq!(sent, LENGTH, "{role:?} {absence:?}: {:?}", origin.origin.log());
}

#[test]
fn a_scheduler_is_frozen() {
    goes(Role::Scheduler, Absence::Frozen);
}

#[test]
fn a_scheduler_is_restarted() {
    goes(Role::Scheduler, Absence::Restarted);
}

#[test]
fn a_seed_is_frozen() {
    goes(Role::Seed, Absence::Frozen);
}

#[test]
fn a_seed_is_restarted() {
    goes(Role::Seed, Absence::Restarted);
}
