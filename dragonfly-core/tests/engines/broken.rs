//! Origins that break: every case ends right, or in one clear error, within its bound.

use std::sync::Arc;
use std::time::Duration;

use dragonfly_core::source::{Guard, HttpConfig, HttpSource};
use dragonfly_core::{Error, ErrorKind, Node, Peer, Receipt, Request, Result};
use dragonfly_testkit::{Flaw, Origin, Resource, content};

use crate::harness::{Network, SEED, digest, log};

const LENGTH: u64 = 6 << 20;

/// Bounds of the cases, each far above what it takes, and each below the next thing that would end it. What one answer
/// of the origin decides, or one more:
const DECIDED: Duration = Duration::from_secs(20);

/// What waits for as long as an origin says, or resumes a few times.
const RESUMED: Duration = Duration::from_secs(40);

/// What fails under six leases in a row, five seconds apart.
const GIVEN_UP: Duration = Duration::from_secs(110);

/// Time-outs of an origin, short so that tests are.
const SILENCE: Duration = Duration::from_millis(400);

/// A peer on its own, which goes to the origin itself.
async fn alone() -> (Node, Peer) {
    log();
    let mut config = HttpConfig::default();
    (config.first_byte_timeout, config.silence_timeout) = (SILENCE, SILENCE);
    let source = Arc::new(HttpSource::new(Guard::default(), config));
    let node = Node::builder().source(source).start().await.unwrap();
    let peer = Peer::builder(&node).start().await.unwrap();
    (node, peer)
}

/// Fetches from `origin` on a peer of its own, within a bound.
async fn fetch_from(bound: Duration, origin: &Origin, request: Request) -> Result<Receipt> {
    let (node, peer) = alone().await;
    let outcome = tokio::time::timeout(bound, peer.fetch(request)).await.expect("it ends within its bound");
    if let Ok(receipt) = &outcome {
        assert!(receipt.bytes_from_origin <= origin.counters().body_bytes.values().sum());
    }
    peer.shutdown().await.unwrap();
    node.shutdown().await.unwrap();
    outcome
}

/// Fetches one resource, within a bound.
async fn fetch(bound: Duration, resource: Resource) -> (Result<Receipt>, Origin) {
    let origin = Origin::start().await.unwrap();
    origin.set("/file", resource);
    let outcome = fetch_from(bound, &origin, Request::new(origin.url("/file"))).await;
    (outcome, origin)
}

fn seeded() -> Resource {
    Resource::seeded(SEED, LENGTH)
}

/// It ended right.
fn right(outcome: Result<Receipt>, seed: u64, length: u64) -> Receipt {
    let receipt = outcome.unwrap();
    assert_eq!((receipt.length, receipt.blake3.bytes()), (length, &content::blake3(seed, length)[..]));
    receipt
}

/// It ended in an error of this kind, whose one line has all of these in it.
fn wrong(outcome: Result<Receipt>, kind: ErrorKind, says: &[&str]) -> Error {
    let error = outcome.unwrap_err();
    assert_eq!(error.kind(), kind, "{error:?}");
    let text = error.to_string();
    assert!(!text.contains('\n'), "{text}");
    for part in says {
        assert!(text.contains(part), "{part:?} is not in: {text}");
    }
    error
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn not_found() {
    let origin = Origin::start().await.unwrap();
    let outcome = fetch_from(DECIDED, &origin, Request::new(origin.url("/missing"))).await;
    assert!(!wrong(outcome, ErrorKind::NotFound, &["/missing", "404"]).is_temporary());
    assert_eq!(origin.log().len(), 1, "asking again would not help");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn forbidden() {
    let (outcome, origin) = fetch(DECIDED, seeded().fail_first(u64::MAX, 403, None)).await;
    assert!(!wrong(outcome, ErrorKind::Forbidden, &["/file", "403"]).is_temporary());
    assert_eq!(origin.log().len(), 1, "asking again would not help");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn too_many_requests_and_when_to_come_back() {
    let (outcome, origin) = fetch(RESUMED, seeded().fail_first(1, 429, Some(1))).await;
    let receipt = right(outcome, SEED, LENGTH);
    assert!(receipt.elapsed >= Duration::from_secs(1), "it waits for as long as it is told: {:?}", receipt.elapsed);
    assert_eq!(origin.log()[0].status, 429);
    // Longer than anyone would wait for: told at once.
    let (outcome, origin) = fetch(RESUMED, seeded().fail_first(u64::MAX, 429, Some(86_400))).await;
    assert!(wrong(outcome, ErrorKind::Origin, &["/file", "429"]).is_temporary());
    assert!(origin.log().len() <= 2, "{:?}", origin.log());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_error_of_its_own_then_fine() {
    let (outcome, origin) = fetch(GIVEN_UP, seeded().fail_first(2, 500, None)).await;
    right(outcome, SEED, LENGTH);
    assert_eq!(origin.body_bytes("/file"), LENGTH);
    let (outcome, _origin) = fetch(GIVEN_UP, seeded().fail_first(u64::MAX, 500, None)).await;
    wrong(outcome, ErrorKind::Origin, &["/file", "500"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reset_in_the_middle() {
    let (outcome, origin) = fetch(GIVEN_UP, seeded().reset_after(1 << 20, 3)).await;
    right(outcome, SEED, LENGTH);
    // What had arrived stays: at most the piece under way is asked for again each time.
    assert!(origin.body_bytes("/file") < LENGTH + (2 << 20), "{}", origin.body_bytes("/file"));
    // Without ranges it cannot go on where it broke off; it begins anew, and ends right.
    let (outcome, _origin) = fetch(GIVEN_UP, seeded().no_ranges().reset_after(1 << 20, 1)).await;
    right(outcome, SEED, LENGTH);
    // Again and again, before the first byte: over, and the message says why.
    let (outcome, _origin) = fetch(GIVEN_UP, seeded().reset_after(0, u64::MAX)).await;
    wrong(outcome, ErrorKind::Network, &["/file", "the connection broke after 0 bytes"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_listens() {
    let origin = Origin::start().await.unwrap();
    let url = origin.url("/file");
    drop(origin);
    let other = Origin::start().await.unwrap();
    let outcome = fetch_from(GIVEN_UP, &other, Request::new(url)).await;
    let error = outcome.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Origin | ErrorKind::Network), "{error:?}");
    assert!(error.to_string().contains("/file"), "{error}");
}

/// A stall at the origin is told as one, and is no wait for the whole: a slow origin that goes on is waited for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slower_than_a_timeout() {
    let (outcome, _origin) = fetch(GIVEN_UP, seeded().stall_after(2 << 20, 1)).await;
    right(outcome, SEED, LENGTH);
    let (outcome, _origin) = fetch(GIVEN_UP, seeded().stall_after(0, u64::MAX)).await;
    wrong(outcome, ErrorKind::Origin, &["/file", "the origin sent nothing for 400ms"]);
    // Three times as long as the time-out, with progress all along.
    let slow = Resource::seeded(SEED, 256 << 10).rate(200 << 10);
    let (outcome, _origin) = fetch(GIVEN_UP, slow).await;
    let receipt = right(outcome, SEED, 256 << 10);
    assert!(receipt.elapsed > SILENCE, "{:?}", receipt.elapsed);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shorter_than_promised() {
    // Always: no amount of asking brings the rest of what a plain answer promised.
    let short = || Resource::seeded(SEED, 2 << 20).body_delta(-1000);
    let (whole, parts) = tokio::join!(fetch(GIVEN_UP, short().no_ranges()), fetch(GIVEN_UP, short()));
    wrong(whole.0, ErrorKind::Network, &["/file", "the connection broke after 2096152 bytes"]);
    // Parts that are short are asked for again from where they ended.
    wrong(parts.0, ErrorKind::Origin, &["/file", "the origin contradicts itself on how many bytes it sends"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn longer_than_promised() {
    let (outcome, _origin) = fetch(RESUMED, seeded().body_delta(1000)).await;
    match outcome {
        // Nothing beyond what was promised is taken.
        Ok(receipt) => drop(right(Ok(receipt), SEED, LENGTH)),
        Err(error) => drop(wrong(Err(error), ErrorKind::Origin, &["/file", "more than"])),
    }
}

/// The second range is of another version: what came of the first is of no use, and the new one is fetched whole.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changed_between_two_ranges() {
    let (outcome, _origin) = fetch(RESUMED, seeded().change_after(1, 8, LENGTH)).await;
    right(outcome, 8, LENGTH);
    let (outcome, _origin) = fetch(RESUMED, seeded().change_after(1, 8, LENGTH + 5)).await;
    right(outcome, 8, LENGTH + 5);
    // With the old version's digest in hand there is nothing to be had.
    let origin = Origin::start().await.unwrap();
    origin.set("/file", seeded().change_after(1, 8, LENGTH));
    let request = Request::new(origin.url("/file")).digest(digest(SEED, LENGTH));
    wrong(fetch_from(RESUMED, &origin, request).await, ErrorKind::DigestMismatch, &["digest"]);
}

/// It mixes versions although it was told not to: the mixture never gets a final name where a digest is known.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changed_and_conditions_ignored() {
    let dir = tempfile::tempdir().unwrap();
    let origin = Origin::start().await.unwrap();
    // The entity tag stays the same: nothing but a digest can tell.
    origin.set("/file", seeded().etag("\"same\"").change_after(1, 8, LENGTH).conditions_ignored());
    let output = dir.path().join("output");
    let request = Request::new(origin.url("/file")).digest(digest(SEED, LENGTH)).output(&output);
    wrong(fetch_from(RESUMED, &origin, request).await, ErrorKind::DigestMismatch, &["digest"]);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "nothing is left behind");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lying_about_ranges() {
    for lie in ["bytes 0-99/100", "bytes 5-4194308/6291456", "nonsense", "bytes 0-18446744073709551615/*"] {
        let (outcome, _origin) = fetch(RESUMED, seeded().content_range(lie)).await;
        wrong(outcome, ErrorKind::Origin, &["/file", "the origin"]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redirect_loop() {
    let (outcome, origin) = fetch(DECIDED, Resource::redirect(302, "/file")).await;
    wrong(outcome, ErrorKind::Origin, &["/file", "redirects"]);
    assert!(origin.log().len() <= 22, "{}", origin.log().len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_tls() {
    let origin = Origin::builder().tls().start().await.unwrap();
    origin.set("/file", seeded());
    // Nobody vouches for it.
    let error = fetch_from(RESUMED, &origin, Request::new(origin.url("/file"))).await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Origin | ErrorKind::Network | ErrorKind::Forbidden), "{error:?}");
    let text = error.to_string();
    assert!(text.to_lowercase().contains("certificate"), "{text}");
    // It speaks no TLS at all.
    let plain = Origin::start().await.unwrap();
    plain.set("/file", seeded());
    let url = plain.url("/file").replace("http://", "https://");
    let error = fetch_from(RESUMED, &plain, Request::new(url)).await.unwrap_err();
    assert!(error.to_string().contains("/file"), "{error}");
    assert_eq!(origin.body_bytes("/file") + plain.body_bytes("/file"), 0);
}

/// Its authority is known, and the certificate is of no use all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_that_is_not_good() {
    for (flaw, says) in [(Flaw::Expired, "expired"), (Flaw::OtherName, "not valid for name")] {
        let origin = Origin::builder().flawed_tls(flaw).start().await.unwrap();
        origin.set("/file", seeded());
        let request = || Request::new(origin.url("/file")).ca_pem(origin.ca_pem().unwrap().as_bytes());
        let error = fetch_from(RESUMED, &origin, request()).await.unwrap_err();
        let text = error.to_string();
        assert!(text.contains("/file") && text.contains("certificate") && text.contains(says), "{flaw:?}: {text}");
        println!("{flaw:?}: {text}");
        assert_eq!(origin.body_bytes("/file"), 0);
        // The certificate is what is wrong, nothing else.
        right(fetch_from(RESUMED, &origin, request().insecure(true)).await, SEED, LENGTH);
    }
}

/// How a case ends for everybody.
enum Ends {
    Right(u64),
    Wrong(ErrorKind, &'static str),
}

/// With a scheduler, a seed and peers the same origins end the same way for everybody, each within its own bound.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn broken_for_everybody() {
    let network = Network::start(3, true).await;
    let (fine, refused) = (Ends::Right(SEED), |says| Ends::Wrong(ErrorKind::Origin, says));
    let cases = [
        ("/forbidden", DECIDED, seeded().fail_first(u64::MAX, 403, None), Ends::Wrong(ErrorKind::Forbidden, "403")),
        ("/missing", DECIDED, seeded().fail_first(u64::MAX, 404, None), Ends::Wrong(ErrorKind::NotFound, "404")),
        ("/busy", RESUMED, seeded().fail_first(1, 429, Some(1)), fine),
        ("/busy-for-a-day", RESUMED, seeded().fail_first(u64::MAX, 429, Some(86_400)), refused("429")),
        ("/error", RESUMED, seeded().fail_first(2, 500, None), Ends::Right(SEED)),
        ("/error-for-ever", GIVEN_UP, seeded().fail_first(u64::MAX, 500, None), refused("500")),
        ("/loop", DECIDED, Resource::redirect(302, "/loop"), refused("redirects")),
        ("/reset", RESUMED, seeded().reset_after(1 << 20, 2), Ends::Right(SEED)),
        ("/reset-without-ranges", RESUMED, seeded().no_ranges().reset_after(1 << 20, 1), Ends::Right(SEED)),
        ("/changed", RESUMED, seeded().change_after(1, 8, LENGTH), Ends::Right(8)),
        ("/lie", RESUMED, seeded().content_range("bytes 0-99/100"), refused("the origin")),
        ("/nonsense", RESUMED, seeded().content_range("nonsense"), refused("the origin")),
        ("/short", GIVEN_UP, seeded().body_delta(-1000), refused("contradicts itself")),
        ("/stalls", GIVEN_UP, seeded().stall_after(2 << 20, 1), Ends::Right(SEED)),
    ];
    let shared = &network;
    let all = cases.map(|(path, bound, resource, ends)| async move {
        let url = shared.serve(path, resource);
        let downloads = shared.peers.iter().map(|member| member.peer.fetch(Request::new(&url)));
        let outcomes = tokio::time::timeout(bound, futures::future::join_all(downloads)).await;
        for outcome in outcomes.unwrap_or_else(|_| panic!("{path} does not end within {bound:?}")) {
            match ends {
                Ends::Right(seed) => drop(right(outcome, seed, LENGTH)),
                Ends::Wrong(kind, says) => drop(wrong(outcome, kind, &[path, says])),
            }
        }
    });
    futures::future::join_all(all).await;
    network.stop().await;
}
