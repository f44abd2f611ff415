//! What goes from a store that is full, and what stays.

use std::time::Duration;

use dragonfly_core::{ErrorKind, Node, NodeBuilder, Peer, Receipt, Request};
use dragonfly_testkit::{Origin, Resource, content};
use tokio::io::AsyncReadExt as _;

use crate::harness::{eventually, log, metric};

const LENGTH: u64 = 1 << 20;

/// Whatever ends has ended within this.
const BOUND: Duration = Duration::from_secs(60);

struct Alone {
    origin: Origin,
    node: Node,
    peer: Peer,
}

impl Alone {
    async fn start(configure: impl FnOnce(NodeBuilder) -> NodeBuilder) -> Self {
        log();
        let origin = Origin::start().await.unwrap();
        let node = configure(Node::builder().eviction_interval(Duration::from_millis(20))).start().await.unwrap();
        let peer = Peer::builder(&node).start().await.unwrap();
        Self { origin, node, peer }
    }

    fn request(&self, number: u64) -> Request {
        let path = format!("/{number}");
        self.origin.set(&path, Resource::seeded(number, LENGTH));
        Request::new(self.origin.url(&path))
    }

    async fn fetch(&self, number: u64) -> Receipt {
        self.peer.fetch(self.request(number)).await.unwrap()
    }

    async fn is_held(&self, receipt: &Receipt) -> bool {
        self.peer.stat(receipt.task).await.unwrap().iter().any(|held| held.complete)
    }

    /// Waits until the periodic look has brought the store down to so many bytes.
    async fn wait_for(&self, bytes: u64) {
        eventually("the store is down to its low-water mark", async || {
            (metric(&self.node, "dragonfly_store_bytes") <= bytes).then_some(())
        })
        .await;
    }

    async fn stop(self) {
        self.peer.shutdown().await.unwrap();
        self.node.shutdown().await.unwrap();
    }
}

/// Between the marks nothing goes; above the high one the least recently used go down to the low one, although no
/// write asks for room, and although they take part in the swarm.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_least_recently_used_go() {
    let alone = Alone::start(|node| node.memory_bytes(10 * LENGTH).water_marks(0.5, 0.75)).await;
    let mut receipts = Vec::new();
    for number in 0..6 {
        receipts.push(alone.fetch(number).await);
    }
    // The first one is used again: the second is now the oldest.
    assert_eq!(alone.fetch(0).await.bytes_held, LENGTH);
    alone.peer.pin(receipts[2].task, true).await.unwrap();
    for number in 6..8 {
        receipts.push(alone.fetch(number).await);
    }
    alone.wait_for(5 * LENGTH).await;
    let mut held = Vec::new();
    for receipt in &receipts {
        held.push(alone.is_held(receipt).await);
    }
    assert_eq!(held, [true, false, true, false, false, true, true, true]);
    assert_eq!(metric(&alone.node, "dragonfly_store_evicted_entries_total"), 3);
    assert_eq!(metric(&alone.node, "dragonfly_store_evicted_bytes_total"), 3 * LENGTH);
    eventually("what was evicted is not offered any more", async || {
        (metric(&alone.node, "dragonfly_tasks") == 5).then_some(())
    })
    .await;
    // What was evicted can be had again.
    let again = alone.fetch(1).await;
    assert_eq!((again.bytes_held, again.bytes_from_origin), (0, LENGTH));
    alone.stop().await;
}

/// What is read stays, however little room there is; when it is read no more, it may go.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_read_stays() {
    let alone = Alone::start(|node| node.memory_bytes(3 * LENGTH).water_marks(0.0, 0.1)).await;
    let mut reader = alone.peer.open(alone.request(0)).await.unwrap();
    let read = reader.receipt().await.unwrap();
    for number in 1..8 {
        alone.fetch(number).await;
    }
    alone.wait_for(LENGTH).await;
    assert!(alone.is_held(&read).await);
    let mut bytes = Vec::new();
    reader.read_to_end(&mut bytes).await.unwrap();
    assert_eq!(bytes, content::bytes(0, 0, LENGTH as usize));
    drop(reader);
    alone.wait_for(0).await;
    assert!(!alone.is_held(&read).await);
    alone.stop().await;
}

/// Content that nobody has used for its time to live goes, pinned content does not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn content_has_a_time_to_live() {
    let alone = Alone::start(|node| node.ttl(Duration::from_secs(1))).await;
    let (first, second) = (alone.fetch(0).await, alone.fetch(1).await);
    alone.peer.pin(second.task, true).await.unwrap();
    alone.wait_for(LENGTH).await;
    assert!(!alone.is_held(&first).await && alone.is_held(&second).await);
    alone.stop().await;
}

/// What does not fit is refused in one clear error, and what came of it is kept: with room the same fetch goes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_does_not_fit_says_so_and_goes_on_later() {
    let dir = tempfile::tempdir().unwrap();
    let on = |quota: u64| {
        let dir = dir.path().join("data");
        // What is kept is nobody's until it is fetched again: it would be the next to be evicted.
        let interval = Duration::from_secs(3600);
        Alone::start(move |node| node.data_dir(dir).quota_bytes(quota).eviction_interval(interval))
    };
    let alone = on(5 * LENGTH).await;
    alone.origin.set("/large", Resource::seeded(9, 8 * LENGTH));
    let url = alone.origin.url("/large");
    let error = alone.peer.fetch(Request::new(&url)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Full, "{error:?}");
    let text = error.to_string();
    assert!(text.contains("within the quota of 5242880") && text.contains("of 8388608 bytes are kept"), "{text}");
    let Alone { origin, node, peer } = alone;
    peer.shutdown().await.unwrap();
    node.shutdown().await.unwrap();
    drop((node, peer));
    let alone = Alone { origin, ..on(10 * LENGTH).await };
    let receipt = alone.peer.fetch(Request::new(&url)).await.unwrap();
    assert!(receipt.bytes_held > 0, "{receipt:?}");
    assert_eq!(receipt.bytes_held + receipt.bytes_from_origin, 8 * LENGTH);
    assert_eq!(receipt.blake3.bytes(), content::blake3(9, 8 * LENGTH));
    alone.stop().await;
}

/// A body without end is taken in until the store has no more room for it, and leaves nothing behind.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_without_end_ends() {
    let dir = tempfile::tempdir().unwrap();
    for in_memory in [true, false] {
        let alone = Alone::start(|node| match in_memory {
            true => node.memory_bytes(8 * LENGTH),
            false => node.data_dir(dir.path()).quota_bytes(8 * LENGTH),
        })
        .await;
        alone.origin.set("/endless", Resource::seeded(1, LENGTH).endless());
        let fetch = alone.peer.fetch(Request::new(alone.origin.url("/endless")));
        let error = tokio::time::timeout(BOUND, fetch).await.expect("it ends").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Full, "{error:?}");
        assert!(error.to_string().contains("of unknown length"), "{error}");
        alone.wait_for(0).await;
        alone.stop().await;
    }
}
