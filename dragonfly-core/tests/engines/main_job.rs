use dragonfly_core::Proof;
use dragonfly_testkit::Resource;

use crate::harness::{Network, SEED, loopback, metric, quic};

const LENGTH: u64 = 16 << 20;

/// A scheduler with a seed, eight peers at once: the origin pays for one copy and is asked for metadata once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_byte_leaves_the_origin_once() {
    let network = Network::start(8, true).await;
    let url = network.serve("/file", Resource::seeded(SEED, LENGTH));
    let receipts = network.fetch_all(&url, LENGTH).await;
    assert_eq!(network.origin.body_bytes("/file"), LENGTH, "{:?}", network.origin.log());
    for receipt in &receipts {
        assert_eq!((receipt.bytes_from_peers, receipt.bytes_from_origin), (LENGTH, 0), "{receipt:?}");
    }
    // Every request but the first carries a condition: it resumes one known version.
    let requests = network.requests("/file");
    let unconditional = requests
        .iter()
        .filter(|request| request.header("if-range").is_none() && request.header("if-match").is_none())
        .count();
    assert_eq!(unconditional, 1, "{requests:?}");
    network.stop().await;
}

/// The same without a seed: the peers share the origin among themselves.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_seed_the_peers_share_the_origin() {
    let network = Network::start(6, false).await;
    let url = network.serve("/file", Resource::seeded(SEED, LENGTH));
    let receipts = network.fetch_all(&url, LENGTH).await;
    assert_eq!(network.origin.body_bytes("/file"), LENGTH, "{:?}", network.origin.log());
    let from_origin: u64 = receipts.iter().map(|receipt| receipt.bytes_from_origin).sum();
    assert_eq!(from_origin, LENGTH);
    network.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_streams() {
    for listen in [loopback(), quic()] {
        let network = Network::over(3, true, listen, false).await;
        let url = network.serve("/file", Resource::seeded(SEED, LENGTH));
        network.fetch_all(&url, LENGTH).await;
        assert_eq!(network.origin.body_bytes("/file"), LENGTH);
        let (node, _) = network.scheduler.as_ref().unwrap();
        assert_eq!(metric(node, "dragonfly_lanes_on_streams"), metric(node, "dragonfly_lanes"));
        network.stop().await;
    }
}

/// A second fetch of what a neighbour and the host itself hold costs the origin nothing; the seal of the seed goes
/// ahead of the last piece, so that every receipt is verified.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_held_is_not_fetched_again() {
    let network = Network::start(2, true).await;
    let url = network.serve("/file", Resource::seeded(SEED, LENGTH));
    let seed = network.seed.clone().unwrap();
    let receipt = seed.preheat(dragonfly_core::Request::new(&url)).await.unwrap();
    assert_eq!((receipt.bytes_from_origin, receipt.proof), (LENGTH, Proof::Verified));
    let receipts = network.fetch_all(&url, LENGTH).await;
    assert!(receipts.iter().all(|receipt| receipt.bytes_from_peers == LENGTH));
    assert!(receipts.iter().all(|receipt| receipt.proof == Proof::Verified));
    let again = network.peers[0].peer.fetch(dragonfly_core::Request::new(&url)).await.unwrap();
    assert_eq!((again.bytes_held, again.bytes_from_peers, again.bytes_from_origin), (LENGTH, 0, 0));
    assert_eq!(network.origin.body_bytes("/file"), LENGTH);
    network.stop().await;
}
