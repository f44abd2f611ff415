//! What an embedder sees.

use std::sync::Arc;
use std::time::Duration;

use dragonfly_core::source::{self, OpenRequest, Opened, Source, SourceError};
use dragonfly_core::task::{Algorithm, DigestHasher};
use dragonfly_core::{Digest, ErrorKind, Event, Node, Peer, Proof, Request};
use dragonfly_testkit::{Origin, Resource, content};
use futures::future::BoxFuture;
use futures::{FutureExt as _, StreamExt as _};

const LENGTH: u64 = 2 << 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_line_fetches() {
    crate::harness::log();
    let dir = tempfile::tempdir().unwrap();
    let origin = Origin::start().await.unwrap();
    origin.set("/file", Resource::seeded(3, LENGTH));
    let output = dir.path().join("output");
    let receipt = dragonfly_core::fetch(&origin.url("/file"), &output).await.unwrap();
    assert_eq!((receipt.length, receipt.proof), (LENGTH, Proof::Verified));
    assert_eq!(std::fs::read(&output).unwrap(), content::bytes(3, 0, LENGTH as usize));
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "nothing else is left");
    let bytes = dragonfly_core::fetch_bytes(&origin.url("/file"), LENGTH as usize).await.unwrap();
    assert_eq!(bytes, content::bytes(3, 0, LENGTH as usize));
    let error = dragonfly_core::fetch_bytes(&origin.url("/file"), 1000).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Full);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_digest_is_checked_over_the_whole() {
    let origin = Origin::start().await.unwrap();
    origin.set("/file", Resource::seeded(3, LENGTH));
    let node = Node::builder().start().await.unwrap();
    let peer = Peer::builder(&node).start().await.unwrap();
    for algorithm in Algorithm::ALL {
        let mut hasher = DigestHasher::new(algorithm);
        hasher.update(&content::bytes(3, 0, LENGTH as usize));
        let right = hasher.finish();
        let receipt = peer.fetch(Request::new(origin.url("/file")).digest(right.clone())).await.unwrap();
        assert_eq!((receipt.digest, receipt.proof), (Some(right.clone()), Proof::Verified));
        let mut bytes = right.bytes().to_vec();
        bytes[0] ^= 1;
        let wrong = Digest::new(algorithm, &bytes).unwrap();
        let error = peer.fetch(Request::new(origin.url("/file")).digest(wrong)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::DigestMismatch, "{algorithm:?}");
    }
    peer.shutdown().await.unwrap();
    node.shutdown().await.unwrap();
}

/// An output may share its bytes with the store: who removes it, or writes to it, has the next one right all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_output_that_was_removed_or_written_to_is_made_again() {
    let dir = tempfile::tempdir().unwrap();
    let origin = Origin::start().await.unwrap();
    origin.set("/file", Resource::seeded(3, LENGTH));
    let output = dir.path().join("output");
    for life in 0..2 {
        let builder = Node::builder().data_dir(dir.path().join("data")).lock_wait(Duration::from_secs(60));
        let node = builder.start().await.unwrap();
        let peer = Peer::builder(&node).start().await.unwrap();
        for is_written in [false, true, false] {
            let receipt = peer.fetch(Request::new(origin.url("/file")).output(&output)).await.unwrap();
            println!("{life} {is_written}: {receipt:?}");
            assert_eq!(std::fs::read(&output).unwrap(), content::bytes(3, 0, LENGTH as usize));
            if is_written {
                std::fs::write(&output, "mine").unwrap();
            }
            std::fs::remove_file(&output).unwrap();
        }
        peer.shutdown().await.unwrap();
        node.shutdown().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn downloads_show_progress_and_are_shared() {
    let origin = Origin::start().await.unwrap();
    origin.set("/file", Resource::seeded(3, LENGTH).rate(8 << 20));
    let node = Node::builder().start().await.unwrap();
    let peer = Peer::builder(&node).start().await.unwrap();
    let first = peer.fetch(Request::new(origin.url("/file")));
    let second = peer.fetch(Request::new(origin.url("/file")));
    let events: Vec<Event> = first.events().collect().await;
    assert!(events.contains(&Event::Described { length: LENGTH }), "{events:?}");
    assert!(events.iter().any(|event| matches!(event, Event::Progress { bytes: 1.., .. })), "{events:?}");
    first.await.unwrap();
    second.await.unwrap();
    assert_eq!(origin.body_bytes("/file"), LENGTH);
    peer.shutdown().await.unwrap();
    node.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn held_tasks_are_listed_pinned_and_removed() {
    let origin = Origin::start().await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let node = Node::builder().data_dir(dir.path()).start().await.unwrap();
    let peer = Peer::builder(&node).start().await.unwrap();
    for number in 0..3 {
        let path = format!("/{number}?X-Amz-Signature=secret{number}");
        origin.set(&path, Resource::seeded(number, LENGTH));
        origin.set(format!("/{number}"), Resource::seeded(number, LENGTH));
        peer.fetch(Request::new(origin.url(&format!("/{number}")))).await.unwrap();
    }
    let listed = peer.list(None, 2).await.unwrap();
    assert_eq!(listed.len(), 2);
    let rest = peer.list(Some((listed[1].task, listed[1].generation)), 10).await.unwrap();
    assert_eq!(rest.len(), 1);
    let task = rest[0].task;
    peer.pin(task, true).await.unwrap();
    assert!(peer.stat(task).await.unwrap()[0].pinned);
    assert!(peer.remove(task).await.unwrap() >= LENGTH);
    assert!(peer.stat(task).await.unwrap().is_empty());
    assert_eq!(peer.pin(task, true).await.unwrap_err().kind(), ErrorKind::NotFound);
    peer.shutdown().await.unwrap();
    node.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn malformed_requests_are_told_what_is_wrong() {
    let node = Node::builder().start().await.unwrap();
    let peer = Peer::builder(&node).start().await.unwrap();
    for url in ["", "not a url", "file:///etc/passwd", "gopher://example.org/"] {
        let error = peer.fetch(Request::new(url)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{url}: {error:?}");
    }
    peer.shutdown().await.unwrap();
    assert_eq!(peer.fetch(Request::new("http://127.0.0.1:1/")).await.unwrap_err().kind(), ErrorKind::Cancelled);
    node.shutdown().await.unwrap();
}

/// An embedder's own scheme: content that it computes.
struct Computed;

impl Source for Computed {
    fn schemes(&self) -> &[&str] {
        &["computed"]
    }

    fn open<'a>(&'a self, request: OpenRequest) -> BoxFuture<'a, Result<Opened, SourceError>> {
        let (start, end) = request.range.map_or((0, LENGTH), |range| (range.start, range.end.min(LENGTH)));
        let body = content::bytes(9, start, (end - start) as usize);
        let mut content = source::Content::new(futures::stream::once(async move { Ok(body) }).boxed());
        content.length = Some(LENGTH);
        content.offset = start;
        content.body_length = Some(end - start);
        content.validator = request.expect;
        content.ranges = true;
        async move { Ok(Opened::Content(content)) }.boxed()
    }
}

/// The same, read with what this host alone has.
struct Own;

impl Source for Own {
    fn schemes(&self) -> &[&str] {
        &["own"]
    }

    fn is_own(&self, _: &url::Url) -> bool {
        true
    }

    fn open<'a>(&'a self, request: OpenRequest) -> BoxFuture<'a, Result<Opened, SourceError>> {
        assert!(request.local && !request.shared, "asked on behalf of others");
        Computed.open(request)
    }
}

/// What a host reads with credentials of its own is for its own users: a member that knows the URL, even one that
/// could describe the content, gets nothing of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_host_reads_as_itself_stays_there() {
    let listen = || "/ip4/127.0.0.1/tcp/0".parse().unwrap();
    let first = Node::builder().listen(listen()).source(Arc::new(Own)).start().await.unwrap();
    let scheduler = dragonfly_core::Scheduler::builder(&first).start().await.unwrap();
    let seed = dragonfly_core::Seed::builder(&first).start().await.unwrap();
    let token = || first.token(Default::default()).unwrap();
    let mine = Node::builder().listen(listen()).source(Arc::new(Own)).join(token()).start().await.unwrap();
    // It takes the URL for one that anybody may read.
    let public = Arc::new(Computed);
    let other = Node::builder().listen(listen()).source_for("own", public).join(token()).start().await.unwrap();
    let (peer, stranger) = (Peer::builder(&mine).start().await.unwrap(), Peer::builder(&other).start().await.unwrap());
    let request = || Request::new("own://host/secret").local(true);
    let described = stranger.fetch(request()).await.unwrap();
    let receipt = peer.fetch(request()).await.unwrap();
    assert_eq!((receipt.bytes_from_peers, receipt.bytes_from_origin), (0, LENGTH), "nobody else is believed either");
    assert_eq!(receipt.task, described.task, "the name is the same");
    stranger.remove(described.task).await.unwrap();
    let refused = stranger.fetch(request().back_to_source(false).timeout(Duration::from_secs(3))).await;
    assert!(refused.is_err(), "{refused:?}");
    for node in [&mine, &first] {
        let sent = node.metrics_text();
        let sent = sent.lines().find_map(|line| line.strip_prefix("dragonfly_peer_sent_bytes_total ")).unwrap();
        assert_eq!(sent, "0");
    }
    peer.shutdown().await.unwrap();
    stranger.shutdown().await.unwrap();
    seed.shutdown().await.unwrap();
    scheduler.shutdown().await.unwrap();
}

/// A program without a runtime, with a scheme of its own.
#[test]
fn an_embedder_brings_a_source_and_no_runtime() {
    let runtime = dragonfly_core::Runtime::new(2).unwrap();
    let node = runtime.block_on(Node::builder().source(Arc::new(Computed)).start()).unwrap();
    let peer = runtime.block_on(Peer::builder(&node).start()).unwrap();
    let receipt = runtime.block_on(peer.fetch(Request::new("computed://anything/at/all"))).unwrap();
    assert_eq!((receipt.length, receipt.blake3.bytes()), (LENGTH, &content::blake3(9, LENGTH)[..]));
    runtime.block_on(peer.shutdown()).unwrap();
    runtime.block_on(node.shutdown()).unwrap();
}
