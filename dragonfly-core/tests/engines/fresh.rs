//! Which content counts as current, as a caller sees it.

use std::time::Duration;

use dragonfly_core::{ErrorKind, Node, Peer, Request};
use dragonfly_testkit::{Origin, Resource};

use crate::harness::{Network, SEED};

const LENGTH: u64 = 300_000;

/// Within the window nobody asks the origin again, whoever asks; past it one conditional request serves all who wait.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_origin_is_asked_once_per_window() {
    let network = Network::start(3, true).await;
    let url = network.serve("/file", Resource::seeded(SEED, LENGTH));
    network.fetch_all(&url, LENGTH).await;
    let first = network.requests("/file").len();
    for member in &network.peers {
        member.peer.fetch(Request::new(&url)).await.unwrap();
    }
    assert_eq!(network.requests("/file").len(), first, "{:?}", network.requests("/file"));
    let now = network.peers.iter().map(|m| m.peer.fetch(Request::new(&url).age_max(Duration::ZERO)));
    futures::future::try_join_all(now).await.unwrap();
    let requests = network.requests("/file");
    // Who asks after the answer to another was given is not among those who waited for it.
    assert!((first + 1..=first + 3).contains(&requests.len()), "{requests:?}");
    assert!(requests[first..].iter().all(|asked| asked.header("if-none-match").is_some()), "{requests:?}");
    assert_eq!(network.origin.body_bytes("/file"), LENGTH);
    network.stop().await;
}

/// A version that became current while nobody on a host wanted it is fetched there once somebody does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_changed_while_nobody_wanted_it_is_fetched_when_somebody_does() {
    let network = Network::start(2, false).await;
    let url = network.serve("/file", Resource::seeded(SEED + 1, LENGTH));
    for member in &network.peers {
        member.peer.fetch(Request::new(&url)).await.unwrap();
    }
    network.serve("/file", Resource::seeded(SEED, LENGTH));
    let now = Request::new(&url).age_max(Duration::ZERO);
    let first = network.peers[0].peer.fetch(now).await.unwrap();
    // The other host has heard of it by now, or hears of it with its own answer.
    let second = network.peers[1].peer.fetch(Request::new(&url)).await.unwrap();
    assert_eq!(second.generation, first.generation);
    assert_eq!(network.origin.body_bytes("/file"), 2 * LENGTH, "one copy of each version");
    network.stop().await;
}

/// Content that is held but may be old is an error while its origin cannot be asked, unless the caller takes it so.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stale_content_is_for_those_who_take_it() {
    let node = Node::builder().start().await.unwrap();
    let peer = Peer::builder(&node).start().await.unwrap();
    let origin = Origin::start().await.unwrap();
    origin.set("/file", Resource::seeded(SEED, LENGTH));
    let url = origin.url("/file");
    let first = peer.fetch(Request::new(&url)).await.unwrap();
    // An answer that says nothing of the content; for good, so that it is not asked for again and again.
    origin.set("/file", Resource::seeded(SEED, LENGTH).fail_first(u64::MAX, 501, None));
    let now = || Request::new(&url).age_max(Duration::ZERO);
    let error = peer.fetch(now()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Origin, "{error:?}");
    let stale = peer.fetch(now().stale_ok(true)).await.unwrap();
    assert_eq!((stale.generation, stale.bytes_held), (first.generation, LENGTH));
    peer.shutdown().await.unwrap();
    node.shutdown().await.unwrap();
}

/// Content that its digest fixes is served without a word from the origin.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fixed_content_needs_no_origin() {
    let dir = tempfile::tempdir().unwrap();
    let origin = Origin::start().await.unwrap();
    origin.set("/file", Resource::seeded(SEED, LENGTH));
    let url = origin.url("/file");
    let digest: dragonfly_core::Digest =
        format!("sha256:{}", dragonfly_testkit::content::hex(&dragonfly_testkit::content::sha256(SEED, LENGTH)))
            .parse()
            .unwrap();
    for round in 0..2 {
        let node = Node::builder().data_dir(dir.path()).start().await.unwrap();
        let peer = Peer::builder(&node).start().await.unwrap();
        let receipt = peer.fetch(Request::new(&url).digest(digest.clone()).age_max(Duration::ZERO)).await.unwrap();
        assert_eq!(receipt.bytes_held, if round == 0 { 0 } else { LENGTH });
        assert_eq!(origin.counters().requests_total(), 1);
        peer.shutdown().await.unwrap();
        node.shutdown().await.unwrap();
    }
}

/// A signed URL whose content a strong digest fixes: each host asks the origin with its own signature, and who may read it
/// has it from the others. Who may not is told so, although his neighbour holds it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn signed_urls_with_a_digest_are_shared_by_who_may_read_them() {
    let network = Network::start(3, false).await;
    let url = network.serve("/file", Resource::seeded(SEED, LENGTH));
    let digest = crate::harness::digest(SEED, LENGTH);
    let signed = |by: usize| Request::new(format!("{url}?X-Amz-Signature={by}")).digest(digest.clone());
    for host in 0..2 {
        let receipt = network.peers[host].peer.fetch(signed(host)).await.unwrap();
        assert_eq!(receipt.bytes_from_origin, if host == 0 { LENGTH } else { 0 });
    }
    // Each asked for a byte, with its own signature; the content left the origin once.
    assert_eq!(network.origin.body_bytes("/file"), LENGTH + 2);
    network.serve("/file", Resource::seeded(SEED, LENGTH).require_header("x-no", "body"));
    let refused = network.peers[2].peer.fetch(signed(2)).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Forbidden, "{refused:?}");
    network.stop().await;
}
