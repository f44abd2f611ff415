//! Small content: it comes in the first answer of a member that holds it.

use std::time::Duration;

use dragonfly_core::wire::lane::WHOLE_BYTES_MAX;
use dragonfly_core::{Node, Request};
use dragonfly_testkit::{Resource, content};

use crate::harness::{Network, SEED, metric};

const BOUND: u64 = WHOLE_BYTES_MAX as u64;

/// Small contents that a node has had, and has sent, in one answer.
fn wholes(node: &Node) -> (u64, u64) {
    (metric(node, "dragonfly_small_received_total"), metric(node, "dragonfly_small_sent_total"))
}

/// One copy leaves the origin; the next member has it in one answer, up to the bound, and above it in pieces. Its coordinator
/// hears that it joins, and that it has everything.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_comes_in_one_answer() {
    let network = Network::start(2, false).await;
    let (holder, taker) = (&network.peers[0], &network.peers[1]);
    let scheduler = &network.scheduler.as_ref().unwrap().0;
    let mut had = 0;
    for (length, is_small) in [(1, true), (1 << 10, true), (BOUND, true), (BOUND + 1, false), (0, false)] {
        let path = format!("/{length}");
        let resource = Resource::seeded(SEED, length).header("cache-control", "max-age=3600");
        let url = network.serve(&path, resource);
        holder.peer.fetch(Request::new(&url)).await.unwrap();
        let heard = metric(scheduler, "dragonfly_coordinator_messages_total");
        let joins = metric(scheduler, "dragonfly_coordinator_joins_total");
        let receipt = taker.peer.fetch(Request::new(&url)).await.unwrap();
        assert_eq!(receipt.blake3.bytes(), content::blake3(SEED, length));
        assert_eq!((receipt.bytes_from_peers, receipt.bytes_from_origin), (length, 0), "{length}");
        assert_eq!(network.origin.body_bytes(&path), length, "{length}: {:?}", network.requests(&path));
        had += u64::from(is_small);
        assert_eq!((wholes(&taker.node), wholes(&holder.node)), ((had, 0), (0, had)), "{length}");
        if is_small && length > 1 {
            // The first one had to find a lane, and so asked for a lease meanwhile. Somebody may say that he is there.
            let now = metric(scheduler, "dragonfly_coordinator_messages_total");
            let joined = metric(scheduler, "dragonfly_coordinator_joins_total");
            assert!((1..=2 + 2).contains(&(now - heard)), "{length}: {} messages", now - heard);
            assert_eq!(joined - joins, 1, "{length}");
        }
    }
    network.stop().await;
}

/// Many at once: each is one copy from the origin and one answer, and whoever has it gives it on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_directory_of_them_is_one_copy() {
    const FILES: u64 = 300;
    let network = Network::start(3, false).await;
    let url = |file: u64| {
        let resource = Resource::seeded(SEED + file, 100 + file).header("cache-control", "max-age=3600");
        network.serve(&format!("/{file}"), resource)
    };
    let urls: Vec<String> = (0..FILES).map(url).collect();
    for (number, member) in network.peers.iter().enumerate() {
        let fetches = urls.iter().map(|url| member.peer.fetch(Request::new(url)));
        for (file, receipt) in (0..).zip(futures::future::join_all(fetches).await) {
            let receipt = receipt.unwrap();
            assert_eq!(receipt.blake3.bytes(), content::blake3(SEED + file, 100 + file));
            assert_eq!(receipt.bytes_from_peers > 0, number > 0, "{file} of {number}");
        }
    }
    for file in 0..FILES {
        assert_eq!(network.origin.body_bytes(&format!("/{file}")), 100 + file, "/{file}");
    }
    let [first, second, third] = [0, 1, 2].map(|number: usize| wholes(&network.peers[number].node));
    println!("{FILES} files: received and sent in one answer {first:?}, {second:?}, {third:?}");
    assert_eq!(first.0, 0);
    // Hosts that dial each other at once lose one of two lanes, and the answers that were on it.
    assert!(first.1 + second.1 + third.1 >= second.0 + third.0, "what was received was sent");
    // Who is slow to answer is asked no more for a while: on a busy machine some come the other way.
    assert!(second.0 > 0 && third.0 > 0, "{second:?}, {third:?}");
    network.stop().await;
}

/// A member that does not upload answers nobody: the origin is asked.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_does_not_upload_is_not_had_it_from() {
    let network = Network::start(0, false).await;
    let token = network.token();
    let listen = crate::harness::loopback();
    let silent = network.builder(0, &token, listen.clone()).upload_slots(0).start().await.unwrap();
    let silent_peer = dragonfly_core::Peer::builder(&silent).start().await.unwrap();
    let taker = network.member(1, &token, listen).await;
    let url = network.serve("/file", Resource::seeded(SEED, 1000));
    for peer in [&silent_peer, &taker.peer] {
        let fetched = tokio::time::timeout(Duration::from_secs(60), peer.fetch(Request::new(&url))).await;
        assert_eq!(fetched.unwrap().unwrap().bytes_from_origin, 1000);
    }
    assert_eq!(wholes(&silent), (0, 0));
    silent_peer.shutdown().await.unwrap();
    silent.shutdown().await.unwrap();
    taker.peer.shutdown().await.unwrap();
    taker.node.shutdown().await.unwrap();
    network.stop().await;
}
