//! What a host that comes back knows, offers and goes on with.

use std::path::Path;

use dragonfly_core::{Event, Node, Peer, Request, Token};
use dragonfly_testkit::{Origin, Resource, content};
use futures::StreamExt as _;

use crate::harness::{Network, SEED, digest, eventually, loopback, metric};

const LENGTH: u64 = 5 << 20;

/// A node on a directory whose last user may not have let go of it quite yet.
async fn start(dir: &Path, token: Option<&Token>) -> Node {
    eventually("the directory is free", async || {
        let mut builder = Node::builder().data_dir(dir).allow_loopback_origins(true);
        if let Some(token) = token {
            builder = builder.listen(loopback()).join(token.clone());
        }
        builder.start().await.ok()
    })
    .await
}

/// Held tasks are offered again after a restart, without anybody asking for them here: whether the stop was clean
/// or not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn held_tasks_are_offered_again() {
    for clean in [true, false] {
        let mut network = Network::start(2, false).await;
        let token = network.token();
        let url = network.serve("/file", Resource::seeded(SEED, LENGTH));
        let request = || Request::new(&url).digest(digest(SEED, LENGTH));
        let first = network.peers.remove(0);
        first.peer.fetch(request()).await.unwrap();
        let dir = network.dir.path().join("peer-0");
        if clean {
            first.peer.shutdown().await.unwrap();
            first.node.shutdown().await.unwrap();
        }
        drop(first);
        // From here on nobody can have it from the origin.
        network.origin.remove("/file");
        let node = start(&dir, Some(&token)).await;
        let peer = Peer::builder(&node).start().await.unwrap();
        let scheduler = network.scheduler.as_ref().unwrap().1.clone();
        eventually("the scheduler knows a holder again", async || {
            let tasks = scheduler.snapshot().await.unwrap().tasks;
            tasks.iter().any(|task| task.complete == 1).then_some(())
        })
        .await;
        let receipt = network.peers[0].peer.fetch(request().back_to_source(false)).await.unwrap();
        assert_eq!(receipt.bytes_from_peers, LENGTH, "clean: {clean}");
        assert_eq!(network.origin.body_bytes("/file"), LENGTH);
        peer.shutdown().await.unwrap();
        node.shutdown().await.unwrap();
        network.stop().await;
    }
}

/// Many held tasks come back one after another, and all of them do.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_held_tasks_come_back() {
    const TASKS: usize = 40;
    let mut network = Network::start(1, false).await;
    let token = network.token();
    let member = network.peers.remove(0);
    for number in 0..TASKS {
        let url = network.serve(&format!("/{number}"), Resource::seeded(number as u64, 1000));
        member.peer.fetch(Request::new(url)).await.unwrap();
    }
    member.peer.shutdown().await.unwrap();
    member.node.shutdown().await.unwrap();
    drop(member);
    let node = start(&network.dir.path().join("peer-0"), Some(&token)).await;
    let peer = Peer::builder(&node).start().await.unwrap();
    let scheduler = network.scheduler.as_ref().unwrap().1.clone();
    eventually("every task is announced", async || {
        let tasks = scheduler.snapshot().await.unwrap().tasks;
        (tasks.iter().filter(|task| task.complete == 1).count() == TASKS).then_some(())
    })
    .await;
    assert_eq!(metric(&node, "dragonfly_tasks_small"), TASKS as u64);
    peer.shutdown().await.unwrap();
    node.shutdown().await.unwrap();
    network.stop().await;
}

/// A download that was under way at a stop that was not clean goes on from its pieces, each proven again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unfinished_download_goes_on_after_an_unclean_stop() {
    let dir = tempfile::tempdir().unwrap();
    let origin = Origin::start().await.unwrap();
    origin.set("/file", Resource::seeded(SEED, LENGTH).stall_after(3 << 20, 1));
    let url = origin.url("/file");
    {
        let node = start(dir.path(), None).await;
        let peer = Peer::builder(&node).start().await.unwrap();
        let download = peer.fetch(Request::new(&url));
        let mut events = download.events();
        while let Some(event) = events.next().await {
            if matches!(event, Event::Progress { bytes, .. } if bytes >= 2 << 20) {
                break;
            }
        }
        // Neither engine nor node is shut down: nothing is flushed, and no mark of a clean stop is made.
        download.cancel();
    }
    origin.set("/file", Resource::seeded(SEED, LENGTH));
    let before = origin.body_bytes("/file");
    let node = start(dir.path(), None).await;
    let peer = Peer::builder(&node).start().await.unwrap();
    let output = dir.path().join("output");
    let receipt = peer.fetch(Request::new(&url).output(&output)).await.unwrap();
    // The last pieces that were written may not have been attested: they are fetched again, and nothing else is.
    assert!(receipt.bytes_held >= 1 << 20, "{receipt:?}");
    assert_eq!(origin.body_bytes("/file") - before, LENGTH - receipt.bytes_held, "{:?} {receipt:?}", origin.log());
    assert_eq!(blake3::hash(&std::fs::read(&output).unwrap()).as_bytes(), &content::blake3(SEED, LENGTH));
    peer.shutdown().await.unwrap();
    node.shutdown().await.unwrap();
}
