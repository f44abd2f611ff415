//! How engines end: in order when they are told to, and by themselves when nobody holds them any more.

use std::time::Duration;

use dragonfly_core::{Node, Peer, Request, Scheduler, Seed};
use dragonfly_testkit::{Origin, Resource};

use crate::harness::{SEED, log, loopback};

const LENGTH: u64 = 1 << 20;

/// How long the last pieces of what was dropped may take to end, on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// Starts a node on a directory as soon as nothing uses it any more.
async fn once_free(dir: &std::path::Path) -> Node {
    let start = async {
        loop {
            match Node::builder().data_dir(dir).start().await {
                Ok(node) => return node,
                Err(_) => tokio::task::yield_now().await,
            }
        }
    };
    tokio::time::timeout(PATIENCE, start).await.expect("what was dropped goes on using its directory")
}

/// Nobody shut anything down: when the last handle is gone the listeners close and the directory is free.
async fn dropped(scheduler: bool, seed: bool) {
    log();
    let dir = tempfile::tempdir().unwrap();
    let origin = Origin::start().await.unwrap();
    origin.set("/file", Resource::seeded(SEED, LENGTH));
    let address = {
        let node = Node::builder().data_dir(dir.path()).listen(loopback()).start().await.unwrap();
        let scheduler = if scheduler { Some(Scheduler::builder(&node).start().await.unwrap()) } else { None };
        let seed = if seed { Some(Seed::builder(&node).start().await.unwrap()) } else { None };
        let peer = Peer::builder(&node).start().await.unwrap();
        peer.fetch(Request::new(origin.url("/file"))).await.unwrap();
        let address = node.listeners()[0].to_string();
        drop((scheduler, seed, peer));
        address
    };
    let again = once_free(dir.path()).await;
    let port = address.split('/').nth(4).unwrap().parse::<u16>().unwrap();
    assert!(tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_err(), "{address} still listens");
    again.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dropping_the_last_handle_stops_a_peer() {
    dropped(false, false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dropping_the_last_handle_stops_a_scheduler() {
    dropped(true, false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dropping_the_last_handle_stops_a_seed() {
    dropped(true, true).await;
}

/// After a shutdown, in order, the same directory serves again in the same process, with what it held.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shut_down_seed_starts_again_in_the_same_process() {
    let dir = tempfile::tempdir().unwrap();
    let origin = Origin::start().await.unwrap();
    origin.set("/file", Resource::seeded(SEED, LENGTH));
    {
        let node = Node::builder().data_dir(dir.path()).listen(loopback()).start().await.unwrap();
        let seed = Seed::builder(&node).start().await.unwrap();
        seed.preheat(Request::new(origin.url("/file"))).await.unwrap();
        seed.shutdown().await.unwrap();
        node.shutdown().await.unwrap();
    }
    let node = once_free(dir.path()).await;
    let seed = Seed::builder(&node).start().await.unwrap();
    let receipt = seed.preheat(Request::new(origin.url("/file"))).await.unwrap();
    assert_eq!(receipt.bytes_held, LENGTH);
    seed.shutdown().await.unwrap();
    node.shutdown().await.unwrap();
}
