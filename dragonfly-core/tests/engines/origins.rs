//! Origins that are not all one could wish for.

use dragonfly_core::{ErrorKind, Node, Peer, Proof, Request};
use dragonfly_testkit::{Origin, Resource, content};

use crate::harness::{Network, SEED};

const LENGTH: u64 = 3 << 20;

/// Fetches with three peers from an origin with one resource; what it sent.
async fn origin_bytes(resource: Resource, seed: bool) -> u64 {
    let network = Network::start(3, seed).await;
    let url = network.serve("/file", resource);
    network.fetch_all(&url, LENGTH).await;
    let bytes = network.origin.body_bytes("/file");
    network.stop().await;
    bytes
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_ranges() {
    for seed in [true, false] {
        assert_eq!(origin_bytes(Resource::seeded(SEED, LENGTH).no_ranges(), seed).await, LENGTH);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_unknown_length() {
    for seed in [true, false] {
        assert_eq!(origin_bytes(Resource::seeded(SEED, LENGTH).chunked().no_ranges(), seed).await, LENGTH);
    }
}

/// An origin that serves ranges of what it does not know the length of: the part that the describing request asks for is
/// not taken for the whole.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_unknown_length_with_ranges() {
    const LENGTH: u64 = 9 << 20;
    for seed in [true, false] {
        let network = Network::start(2, seed).await;
        let url = network.serve("/file", Resource::seeded(SEED, LENGTH).chunked());
        network.fetch_all(&url, LENGTH).await;
        let sent = network.origin.body_bytes("/file");
        assert!((LENGTH..=LENGTH + (4 << 20)).contains(&sent), "{sent}: all of it once, and some of the first part");
        network.stop().await;
    }
}

/// The one response goes on beyond what the describing request asked for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_ranges_and_larger_than_the_first_request() {
    const LENGTH: u64 = 9 << 20;
    for resource in [Resource::seeded(SEED, LENGTH), Resource::seeded(SEED, LENGTH).no_etag().no_last_modified()] {
        let network = Network::start(2, true).await;
        let url = network.serve("/file", resource.no_ranges());
        network.fetch_all(&url, LENGTH).await;
        assert_eq!(network.origin.body_bytes("/file"), LENGTH);
        assert_eq!(network.requests("/file").len(), 1);
        network.stop().await;
    }
}

/// Neither length nor validator: the generation is told by a nonce.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_validator() {
    let resource = Resource::seeded(SEED, LENGTH).no_ranges().no_etag().no_last_modified();
    assert_eq!(origin_bytes(resource, false).await, LENGTH);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn that_fail_at_first_or_break_off() {
    let resource = Resource::seeded(SEED, LENGTH).fail_first(2, 503, Some(0));
    assert_eq!(origin_bytes(resource, true).await, LENGTH);
    // What was under way when the connection broke is lost; what had arrived is not fetched again.
    let bytes = origin_bytes(Resource::seeded(SEED, LENGTH).reset_after(1 << 20, 1), true).await;
    assert!((LENGTH..LENGTH + (1 << 20)).contains(&bytes), "{bytes}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn that_refuse() {
    let network = Network::start(1, true).await;
    let missing = network.origin.url("/missing");
    let error = network.peers[0].peer.fetch(Request::new(missing)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error:?}");
    let url = network.serve("/secret", Resource::seeded(SEED, LENGTH).require_header("x-key", "right"));
    let error = network.peers[0].peer.fetch(Request::new(&url).header("x-key", "wrong-secret")).await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Forbidden | ErrorKind::NotFound), "{error:?}");
    assert!(!format!("{error:?}").contains("wrong-secret"));
    let receipt = network.peers[0].peer.fetch(Request::new(&url).header("x-key", "right")).await.unwrap();
    assert_eq!(receipt.length, LENGTH);
    network.stop().await;
}

/// HTTPS with a private authority: refused without it, fetched with it, and shared by those who trust it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_https_with_a_private_authority() {
    let network = Network::start(3, true).await;
    let origin = Origin::builder().tls().start().await.unwrap();
    origin.set("/file", Resource::seeded(SEED, LENGTH));
    let url = origin.url("/file");
    let error = network.peers[0].peer.fetch(Request::new(&url)).await.unwrap_err();
    assert_eq!(origin.body_bytes("/file"), 0, "{error:?}");
    let ca = origin.ca_pem().unwrap().as_bytes().to_vec();
    let downloads = network.peers.iter().map(|member| member.peer.fetch(Request::new(&url).ca_pem(ca.clone())));
    for receipt in futures::future::try_join_all(downloads).await.unwrap() {
        assert_eq!(receipt.blake3.bytes(), content::blake3(SEED, LENGTH));
    }
    assert_eq!(origin.body_bytes("/file"), LENGTH);
    // Without verification the content is kept to the host that asked so.
    let receipt = network.peers[0].peer.fetch(Request::new(&url).insecure(true)).await.unwrap();
    assert_eq!(receipt.bytes_from_origin, LENGTH);
    network.stop().await;
}

/// Content coding is an attribute of what the origin sent, and bytes are passed on as they are.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn that_claim_a_content_coding() {
    let resource = Resource::seeded(SEED, LENGTH).header("content-encoding", "gzip");
    assert_eq!(origin_bytes(resource, true).await, LENGTH);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn that_redirect() {
    let network = Network::start(2, true).await;
    let target = network.serve("/target", Resource::seeded(SEED, LENGTH));
    let url = network.serve("/file", Resource::redirect(302, target));
    network.fetch_all(&url, LENGTH).await;
    assert_eq!(network.origin.body_bytes("/target"), LENGTH);
    network.stop().await;
}

/// An answer for one client alone stays on the host that got it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn private_answers_are_not_shared() {
    let network = Network::start(2, true).await;
    let url = network.serve("/file", Resource::seeded(SEED, LENGTH).header("cache-control", "private"));
    let receipts = network.fetch_all(&url, LENGTH).await;
    assert!(receipts.iter().all(|receipt| receipt.bytes_from_peers == 0 && receipt.proof == Proof::Verified));
    network.stop().await;
}

/// A new version at the origin is a new generation; the old one is not served once it is known to be old.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn that_change() {
    let node = Node::builder().start().await.unwrap();
    let peer = Peer::builder(&node).start().await.unwrap();
    let origin = Origin::start().await.unwrap();
    origin.set("/file", Resource::seeded(1, LENGTH));
    let url = origin.url("/file");
    let now = || Request::new(&url).age_max(std::time::Duration::ZERO);
    let first = peer.fetch(now()).await.unwrap();
    let again = peer.fetch(now()).await.unwrap();
    assert_eq!(again.bytes_held, LENGTH);
    assert_eq!(first.generation, again.generation);
    assert_eq!(origin.body_bytes("/file"), LENGTH, "a conditional request has no body");
    origin.set("/file", Resource::seeded(2, LENGTH).etag("\"two\""));
    let second = peer.fetch(now()).await.unwrap();
    assert_ne!(second.generation, first.generation);
    assert_eq!(second.blake3.bytes(), content::blake3(2, LENGTH));
    peer.shutdown().await.unwrap();
    node.shutdown().await.unwrap();
}
