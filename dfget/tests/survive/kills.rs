//! The kill matrix: who dies, and when.

use dragonfly_testkit::{Origin, Resource};

use super::{Moment, SEED, all_finish, ended, everyone_knows_everyone, fetch, is_told};
use crate::harness::Daemon;

const LENGTH: u64 = 24 << 20;
const RATE: u64 = 12 << 20;
const PEERS: usize = 8;

/// What may be in flight to one that dies, or under leases of a coordinator that dies: two leases and the next one, of 32
/// pieces of 64 KiB each at most.
const IN_FLIGHT: u64 = 6 << 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Victims {
    Scheduler,
    Seed,
    HalfThePeers,
    /// There is neither scheduler nor seed, and whoever coordinates and fetches is among those that die.
    HalfOfEquals,
    /// There is no seed, and the peer dies that has taken most from the origin: it holds a lease.
    LeaseHolder,
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
    if victims == Victims::LeaseHolder {
        let survivors = join(&scheduler);
        return Cast { survivors, servers: vec![scheduler], victims: Vec::new() };
    }
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

/// What the origin sent.
struct Sent {
    total: u64,
    /// To those who live on.
    living: u64,
    /// In all, when the last of the victims was dead.
    at_death: u64,
}

/// What of the origin's came to these.
fn taken(daemons: &[Daemon]) -> u64 {
    daemons.iter().map(|daemon| daemon.metric("dragonfly_origin_bytes_total")).sum()
}

/// Kills them at this moment of a download by everyone; the survivors finish.
async fn kill(victims: Victims, moment: Moment) -> Sent {
    let origin = Origin::start().await.unwrap();
    let file = Resource::seeded(SEED, LENGTH).rate(RATE);
    origin.set("/file", if moment == Moment::BeforeTheFirstByte { file.held() } else { file });
    let url = origin.url("/file");
    let work = tokio::task::spawn_blocking(move || {
        let who = victims;
        let Cast { mut survivors, servers, mut victims } = cast(victims);
        let all: Vec<&Daemon> = survivors.iter().chain(&servers).chain(&victims).collect();
        everyone_knows_everyone(&all);
        let mut clients: Vec<_> = survivors.iter().map(|daemon| fetch(daemon, &url)).collect();
        let mut doomed: Vec<_> = victims.iter().filter(|daemon| daemon.is_peer()).map(|v| fetch(v, &url)).collect();
        moment.comes(&origin, LENGTH);
        if who == Victims::LeaseHolder {
            // Before anything has come, who waits for the origin's answer.
            let key = |at: &usize| (taken(&survivors[*at..=*at]), survivors[*at].metric("dragonfly_origin_requests"));
            let holder = (0..survivors.len()).max_by_key(key).unwrap();
            assert_ne!(key(&holder), (0, 0), "it fetches");
            victims.push(survivors.remove(holder));
            doomed.push(clients.remove(holder));
        }
        // Their clients, some of which may only be starting, work in their directories.
        victims.iter_mut().for_each(Daemon::kill);
        let at_death = origin.body_bytes("/file");
        origin.release("/file");
        all_finish(survivors.iter().zip(clients).collect(), LENGTH);
        for client in doomed {
            is_told(ended(client), &format!("{who:?} {moment:?}"));
        }
        Sent { total: origin.body_bytes("/file"), living: taken(&survivors) + taken(&servers), at_death }
    });
    let sent = work.await.unwrap();
    let copies = |bytes: u64| bytes as f64 / LENGTH as f64;
    println!("{victims:?} {moment:?}: {:.3} copies, {:.3} to the living", copies(sent.total), copies(sent.living));
    sent
}

/// The living take one copy, and `again`; what else the origin sent was in flight to the dead, or had come to them: on a busy machine
/// a seed takes in more than it passes on.
async fn matrix(victims: Victims, again: u64) {
    // Who holds a lease is known once the origin was asked.
    let known = |moment: &Moment| victims != Victims::LeaseHolder || *moment as u8 >= Moment::BeforeTheFirstByte as u8;
    for moment in Moment::ALL.into_iter().filter(known) {
        let Sent { total, living, at_death } = match kill(victims, moment).await {
            // On a machine with a load of ten for each processor one of equals may be too busy to be reached for a while: others take it
            // for dead, too, and are two groups until they meet.
            Sent { living, .. } if victims == Victims::HalfOfEquals && living > LENGTH + again => {
                assert!(living <= 2 * LENGTH, "{victims:?} {moment:?}: {living} of {LENGTH} to the living");
                kill(victims, moment).await
            }
            sent => sent,
        };
        assert!(living <= LENGTH + again, "{victims:?} {moment:?}: {living} of {LENGTH} to the living");
        let lost = total - living;
        let most = if victims == Victims::HalfThePeers { 0 } else { at_death + IN_FLIGHT };
        assert!(lost <= most, "{victims:?} {moment:?}: {lost} lost of {total}, {at_death} when they were dead");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_scheduler() {
    matrix(Victims::Scheduler, 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_seed() {
    matrix(Victims::Seed, 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_of_the_peers() {
    matrix(Victims::HalfThePeers, 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_of_equals_with_those_who_fetch() {
    // What the dead had under way is granted anew, and they may have told others of some of it.
    matrix(Victims::HalfOfEquals, IN_FLIGHT).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_holds_a_lease() {
    matrix(Victims::LeaseHolder, 0).await;
}
