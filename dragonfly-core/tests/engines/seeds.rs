//! Several seeds, and seeds that much is asked of at once.

use dragonfly_core::trust::OriginTrust;
use dragonfly_core::{Node, Peer, Request, Roles, Scheduler, Seed, TokenOptions};
use dragonfly_testkit::{Origin, Resource};

use crate::harness::{SEED, all_roles, digest, log, loopback, metric};

const TASKS: u64 = 600;
const LENGTH: u64 = 20_000;

/// More tasks at once than a seed asks the origin for at a time, in a network in which nobody else may: none is
/// forgotten, and each byte leaves the origin once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_burst_of_tasks_is_not_forgotten() {
    log();
    let origin = Origin::start().await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| Node::builder().data_dir(dir.path().join(name)).listen(loopback());
    let first = at("first").origin_trust(OriginTrust::Seeds).allow_loopback_origins(true).start().await.unwrap();
    let scheduler = Scheduler::builder(&first).start().await.unwrap();
    let seed = Seed::builder(&first).start().await.unwrap();
    let mut options = TokenOptions::default();
    options.roles = Roles::PEER;
    let token = first.token(options).unwrap();
    let mut peers = Vec::new();
    for name in ["a", "b"] {
        let node = at(name).join(token.clone()).start().await.unwrap();
        peers.push((Peer::builder(&node).start().await.unwrap(), node));
    }
    let mut downloads = Vec::new();
    for number in 0..TASKS {
        let path = format!("/{number}");
        origin.set(&path, Resource::seeded(number, LENGTH));
        for (peer, _) in &peers {
            downloads.push(peer.fetch(Request::new(origin.url(&path))));
        }
    }
    for receipt in futures::future::join_all(downloads).await {
        let receipt = receipt.unwrap();
        assert_eq!((receipt.length, receipt.bytes_from_origin), (LENGTH, 0));
    }
    assert_eq!(origin.counters().body_bytes_total(), TASKS * LENGTH);
    assert_eq!(metric(&first, "dragonfly_triggers_dropped_total"), 0);
    assert_eq!(metric(&first, "dragonfly_triggers_waiting"), 0);
    for (peer, node) in &peers {
        peer.shutdown().await.unwrap();
        node.shutdown().await.unwrap();
    }
    seed.shutdown().await.unwrap();
    scheduler.shutdown().await.unwrap();
    first.shutdown().await.unwrap();
}

/// Two seeds split a large file between them, and one copy leaves the origin.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_seeds_split_a_large_file() {
    const LARGE: u64 = 48 << 20;
    log();
    let origin = Origin::start().await.unwrap();
    // Slow enough that one alone would not be done before the other one is there.
    origin.set("/large", Resource::seeded(SEED, LARGE).rate(24 << 20));
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| Node::builder().data_dir(dir.path().join(name)).listen(loopback());
    let first = at("first").origin_trust(OriginTrust::Seeds).allow_loopback_origins(true).start().await.unwrap();
    let scheduler = Scheduler::builder(&first).start().await.unwrap();
    let mut seeds = vec![(Seed::builder(&first).start().await.unwrap(), first.clone())];
    let second = at("second").join(first.token(all_roles()).unwrap()).allow_loopback_origins(true);
    let second = second.start().await.unwrap();
    seeds.push((Seed::builder(&second).start().await.unwrap(), second));
    let mut options = TokenOptions::default();
    options.roles = Roles::PEER;
    let node = at("peer").join(first.token(options).unwrap()).start().await.unwrap();
    let peer = Peer::builder(&node).start().await.unwrap();
    // Both are asked to: the one that the scheduler would have turned to, and the other one.
    let url = origin.url("/large");
    let preheated = futures::future::join_all(seeds.iter().map(|(seed, _)| seed.preheat(Request::new(&url)))).await;
    assert!(preheated.iter().all(Result::is_ok), "{preheated:?}");
    let receipt = peer.fetch(Request::new(&url)).await.unwrap();
    assert_eq!((receipt.bytes_from_origin, receipt.blake3), (0, digest(SEED, LARGE)));
    assert_eq!(origin.body_bytes("/large"), LARGE);
    let taken: Vec<u64> = seeds.iter().map(|(_, node)| metric(node, "dragonfly_origin_bytes_total")).collect();
    assert!(taken.iter().all(|bytes| *bytes > 0), "{taken:?}");
    println!("of {LARGE} bytes the seeds took {taken:?}");
    peer.shutdown().await.unwrap();
    node.shutdown().await.unwrap();
    for (seed, node) in seeds.into_iter().rev() {
        seed.shutdown().await.unwrap();
        if node.peer_id() == first.peer_id() {
            scheduler.shutdown().await.unwrap();
        }
        node.shutdown().await.unwrap();
    }
}
