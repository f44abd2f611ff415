//! Rates that bytes are kept to, and bounds that are shown.

use std::time::Duration;

use dragonfly_core::{ErrorKind, Node, Peer, RateLimits, Request};
use dragonfly_testkit::{Origin, Resource};

use crate::harness::{Network, SEED, digest, loopback, metric};

const LENGTH: u64 = 3 << 20;
const RATE: u64 = 2 << 20;

/// No way takes less than a second and a half, but for the burst that is let through at once, a tenth of a second's
/// worth, and the last part, which does not wait for its own time.
const LEAST: Duration = Duration::from_millis(1200);

fn limits(set: impl FnOnce(&mut RateLimits)) -> RateLimits {
    let mut limits = RateLimits::default();
    set(&mut limits);
    limits
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_origin_is_asked_at_a_rate() {
    let origin = Origin::start().await.unwrap();
    origin.set("/file", Resource::seeded(SEED, LENGTH));
    origin.set("/spooled", Resource::seeded(SEED, LENGTH).chunked().no_ranges());
    for rates in [limits(|rates| rates.origin = Some(RATE)), limits(|rates| rates.task_origin = Some(RATE))] {
        let node = Node::builder().rates(rates).start().await.unwrap();
        let peer = Peer::builder(&node).start().await.unwrap();
        for path in ["/file", "/spooled"] {
            let receipt = peer.fetch(Request::new(origin.url(path))).await.unwrap();
            assert!(receipt.elapsed >= LEAST, "{path}: {:?}", receipt.elapsed);
        }
        peer.shutdown().await.unwrap();
        node.shutdown().await.unwrap();
    }
}

/// A member with limits, and one without that has the content from it, or the other way round.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn peers_send_and_receive_at_a_rate() {
    let sends = [limits(|rates| rates.upload = Some(RATE)), limits(|rates| rates.task_upload = Some(RATE))];
    let receives = [limits(|rates| rates.download = Some(RATE)), limits(|rates| rates.task_download = Some(RATE))];
    let none = RateLimits::default();
    let pairs = sends.map(|rates| (rates, none)).into_iter().chain(receives.map(|rates| (none, rates)));
    for (sender, receiver) in pairs {
        let network = Network::start(0, false).await;
        let token = network.token();
        let mut members = Vec::new();
        for (number, rates) in [sender, receiver].into_iter().enumerate() {
            let node = network.builder(number, &token, loopback()).rates(rates).start().await.unwrap();
            let peer = Peer::builder(&node).start().await.unwrap();
            members.push((node, peer));
        }
        let url = network.serve("/file", Resource::seeded(SEED, LENGTH));
        let request = || Request::new(&url).digest(digest(SEED, LENGTH));
        members[0].1.fetch(request()).await.unwrap();
        let receipt = members[1].1.fetch(request().back_to_source(false)).await.unwrap();
        assert_eq!(receipt.bytes_from_peers, LENGTH);
        assert!(receipt.elapsed >= LEAST, "{sender:?} {receiver:?}: {:?}", receipt.elapsed);
        for (node, peer) in members {
            peer.shutdown().await.unwrap();
            node.shutdown().await.unwrap();
        }
        network.stop().await;
    }
}

/// Tasks share the rate of their node: two at once take twice as long as one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tasks_share_the_rate_of_their_node() {
    let network = Network::start(1, false).await;
    let token = network.token();
    let rates = limits(|rates| rates.download = Some(RATE));
    let node = network.builder(1, &token, loopback()).rates(rates).start().await.unwrap();
    let peer = Peer::builder(&node).start().await.unwrap();
    let mut downloads = Vec::new();
    for number in 0..2 {
        let url = network.serve(&format!("/{number}"), Resource::seeded(number, LENGTH));
        network.peers[0].peer.fetch(Request::new(&url).digest(digest(number, LENGTH))).await.unwrap();
        downloads.push(Request::new(&url).digest(digest(number, LENGTH)).back_to_source(false));
    }
    let started = std::time::Instant::now();
    let receipts = futures::future::join_all(downloads.into_iter().map(|request| peer.fetch(request))).await;
    let took = started.elapsed();
    assert!(receipts.into_iter().all(|receipt| receipt.unwrap().bytes_from_peers == LENGTH));
    assert!(took >= LEAST * 2, "{took:?}");
    peer.shutdown().await.unwrap();
    node.shutdown().await.unwrap();
    network.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rate_of_nothing_is_refused() {
    let error = Node::builder().rates(limits(|rates| rates.upload = Some(0))).start().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
}

/// Every bound that has a number stands beside what is used of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bounds_are_shown() {
    let rates = limits(|rates| (rates.upload, rates.task_origin) = (Some(5_000_000), Some(7_000_000)));
    let node = Node::builder().rates(rates).memory_bytes(1 << 20).start().await.unwrap();
    let shown = [
        ("dragonfly_upload_rate_limit_bytes", 5_000_000),
        ("dragonfly_task_origin_rate_limit_bytes", 7_000_000),
        ("dragonfly_store_quota_bytes", 1 << 20),
        ("dragonfly_tasks_limit", 2048),
        ("dragonfly_lanes_limit", 32),
        ("dragonfly_in_flight_bytes_limit", 32 << 20),
        ("dragonfly_write_waiting_bytes_limit", 16 << 20),
        ("dragonfly_origin_requests_limit", 128),
        ("dragonfly_hosts_known_limit", 16_384),
    ];
    for (name, value) in shown {
        assert_eq!(metric(&node, name), value, "{name}");
    }
    for used in ["peers_connected", "origin_requests", "write_waiting_bytes", "in_flight_bytes", "hosts_known"] {
        assert_eq!(metric(&node, &format!("dragonfly_{used}")), 0, "{used}");
    }
    assert!(metric(&node, "dragonfly_connections_limit") > 0);
    node.shutdown().await.unwrap();
}
