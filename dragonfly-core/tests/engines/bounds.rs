//! Bounds of a whole engine, reached: what is one too many waits or is told so, and takes its turn as soon as there is room.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use dragonfly_core::source::{Content, OpenRequest, Opened, Source, SourceError, SourceErrorKind};
use dragonfly_core::task::Validator;
use dragonfly_core::{Download, Error, ErrorKind, Event, Node, Peer, Receipt, Request};
use dragonfly_testkit::content;
use futures::future::{BoxFuture, join_all};
use futures::{FutureExt as _, StreamExt as _, stream};
use tokio::sync::watch;

use crate::harness::{Network, SEED, eventually, log, loopback, metric};

/// Small, and more than nothing.
const LENGTH: u64 = 1000;

/// Whatever is asked for is over within this.
const BOUND: Duration = Duration::from_secs(240);

/// Where a request waits until all may go on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Gate {
    /// Before it is answered.
    Answer,
    /// Within a body of unknown length.
    Body,
}

/// An origin of many small files that holds up whoever asks.
#[derive(Debug)]
struct Gated {
    gate: Gate,
    open: watch::Sender<bool>,
    /// Requests that are under way, and the most that were.
    now: Arc<AtomicU64>,
    most: AtomicU64,
    /// All that there ever were.
    asked: AtomicU64,
}

impl Gated {
    fn new(gate: Gate) -> Arc<Self> {
        let (open, _) = watch::channel(false);
        Arc::new(Self { gate, open, now: Arc::default(), most: AtomicU64::new(0), asked: AtomicU64::new(0) })
    }

    /// An answer to be had by everybody at once.
    fn opened() -> Arc<Self> {
        let source = Self::new(Gate::Answer);
        source.open.send_replace(true);
        source
    }

    fn under_way(&self) -> u64 {
        self.now.load(Ordering::SeqCst)
    }

    async fn answer(&self) -> Result<Opened, SourceError> {
        let now = self.now.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(now, Ordering::SeqCst);
        self.asked.fetch_add(1, Ordering::SeqCst);
        // However it ends, and when it is given up.
        let over = Over(Arc::clone(&self.now));
        let mut open = self.open.subscribe();
        if self.gate == Gate::Answer {
            let _ = open.wait_for(|open| *open).await;
        }
        let bytes = async move {
            let _ = open.wait_for(|open| *open).await;
            drop(over);
            Ok(content::bytes(SEED, 0, LENGTH as usize))
        };
        let mut content = Content::new(stream::once(bytes).boxed());
        // It never says that nothing has changed.
        content.validator = Some(Validator::Etag("\"1\"".to_owned()));
        content.fresh = Some(Duration::from_secs(3600));
        if self.gate == Gate::Answer {
            (content.length, content.body_length, content.ranges) = (Some(LENGTH), Some(LENGTH), true);
        }
        Ok(Opened::Content(content))
    }
}

struct Over(Arc<AtomicU64>);

impl Drop for Over {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Source for Gated {
    fn schemes(&self) -> &[&str] {
        &["http"]
    }

    fn open<'a>(&'a self, _: OpenRequest) -> BoxFuture<'a, Result<Opened, SourceError>> {
        self.answer().boxed()
    }
}

fn request(number: u64) -> Request {
    Request::new(format!("http://gated.test/{number}"))
}

/// A peer on its own with such an origin.
async fn alone(source: Arc<dyn Source>) -> (Node, Peer) {
    log();
    let node = Node::builder().source(source).start().await.unwrap();
    let peer = Peer::builder(&node).start().await.unwrap();
    (node, peer)
}

async fn stop((node, peer): (Node, Peer)) {
    peer.shutdown().await.unwrap();
    node.shutdown().await.unwrap();
}

/// Waits until a number is exactly this.
async fn until(node: &Node, name: &str, value: u64) {
    let name = format!("dragonfly_{name}");
    eventually(&format!("{name} is {value}"), async || (metric(node, &name) == value).then_some(())).await;
}

/// All of them are right.
async fn all_right(downloads: Vec<Download>) {
    let expected = content::blake3(SEED, LENGTH);
    let outcomes = tokio::time::timeout(BOUND, join_all(downloads)).await.expect("they finish");
    for (number, outcome) in outcomes.into_iter().enumerate() {
        let receipt: Receipt = outcome.unwrap_or_else(|error| panic!("{number}: {error:?}"));
        assert_eq!((receipt.length, receipt.blake3.bytes()), (LENGTH, &expected[..]), "{number}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn so_many_requests_are_out_at_origins_and_the_rest_waits() {
    const MORE: u64 = 20;
    let source = Gated::new(Gate::Answer);
    let (node, peer) = alone(source.clone()).await;
    let bound = metric(&node, "dragonfly_origin_requests_limit");
    let downloads: Vec<_> = (0..bound + MORE).map(|number| peer.fetch(request(number))).collect();
    until(&node, "tasks", bound + MORE).await;
    until(&node, "origin_requests", bound).await;
    eventually("so many are asked for", async || (source.under_way() == bound).then_some(())).await;
    // One that is not wanted any more gives its place to the next, which had none.
    downloads[0].cancel();
    until(&node, "tasks", bound + MORE - 1).await;
    eventually("the next is asked for", async || (source.asked.load(Ordering::SeqCst) > bound).then_some(())).await;
    assert_eq!(source.under_way(), bound);
    source.open.send_replace(true);
    let mut downloads = downloads.into_iter();
    assert_eq!(downloads.next().unwrap().await.unwrap_err().kind(), ErrorKind::Cancelled);
    all_right(downloads.collect()).await;
    assert_eq!(source.most.load(Ordering::SeqCst), bound, "never more");
    until(&node, "origin_requests", 0).await;
    stop((node, peer)).await;
}

/// As many of unknown length as anyone likes: each is taken in before anybody knows what it is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn so_many_of_unknown_length_are_taken_in_and_the_rest_waits() {
    const MORE: u64 = 20;
    let source = Gated::new(Gate::Body);
    let (node, peer) = alone(source.clone()).await;
    let bound = metric(&node, "dragonfly_spools_limit");
    let downloads: Vec<_> = (0..bound + MORE).map(|number| peer.fetch(request(number))).collect();
    let asked = || source.asked.load(Ordering::SeqCst);
    eventually("all are answered", async || (asked() == bound + MORE).then_some(())).await;
    until(&node, "spools", bound).await;
    // Who waits keeps neither its answer nor a place among the requests.
    eventually("those are let go", async || (source.under_way() == bound).then_some(())).await;
    until(&node, "origin_requests", bound).await;
    source.open.send_replace(true);
    all_right(downloads).await;
    assert_eq!(asked(), bound + 2 * MORE, "those that waited were asked for anew, once");
    until(&node, "spools", 0).await;
    // What was taken in only to see that it is the same has no place for longer.
    all_right(vec![peer.fetch(request(0).age_max(Duration::ZERO))]).await;
    assert_eq!(asked(), bound + 2 * MORE + 1, "it was asked for anew");
    until(&node, "spools", 0).await;
    stop((node, peer)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn so_many_tasks_take_part_and_one_more_is_told_so() {
    let source = Gated::new(Gate::Answer);
    let (node, peer) = alone(source.clone()).await;
    let bound = metric(&node, "dragonfly_tasks_limit");
    let mut downloads: Vec<_> = (0..bound).map(|number| peer.fetch(request(number))).collect();
    until(&node, "tasks", bound).await;
    let refused = |error: Error| {
        assert_eq!((error.kind(), error.is_temporary()), (ErrorKind::Full, true), "{error:?}");
        assert!(error.to_string().contains("2048 tasks"), "{error}");
    };
    refused(tokio::time::timeout(BOUND, peer.fetch(request(bound))).await.expect("at once").unwrap_err());
    assert_eq!(metric(&node, "dragonfly_tasks"), bound, "nothing of it is left");
    // Who wants what takes part already is not one more.
    downloads.push(peer.fetch(request(0)));
    downloads.swap_remove(1).cancel();
    until(&node, "tasks", bound - 1).await;
    downloads.push(peer.fetch(request(bound)));
    until(&node, "tasks", bound).await;
    refused(peer.fetch(request(bound + 1)).await.unwrap_err());
    source.open.send_replace(true);
    all_right(downloads).await;
    eventually("nobody wants them any more", async || {
        peer.active().await.unwrap().iter().all(|task| task.callers == 0).then_some(())
    })
    .await;
    // What is small and nobody wants any more is in nobody's way, and takes part all the same.
    until(&node, "tasks", 0).await;
    until(&node, "tasks_small", bound).await;
    all_right(vec![peer.fetch(request(bound + 1))]).await;
    until(&node, "tasks_small", bound + 1).await;
    let active = peer.active().await.unwrap();
    assert_eq!((active.len() as u64, metric(&node, "dragonfly_tasks")), (bound + 1, 0));
    let active: HashSet<_> = active.into_iter().map(|task| task.task).collect();
    let takes_part = |number| active.contains(&peer.task_id(&request(number)).unwrap());
    assert!((0..bound + 2).all(|number| takes_part(number) == (number != 1)));
    let held = peer.fetch(request(700)).await.unwrap();
    assert_eq!((held.bytes_held, held.bytes_from_origin), (LENGTH, 0));
    stop((node, peer)).await;
}

/// More tasks than a few are opened on a lane at once where hosts meet that have much in common: that is no lane that does not
/// keep up.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn as_many_tasks_as_take_part_are_had_over_one_lane() {
    const FILES: u64 = 1200;
    let network = Network::start(0, false).await;
    let token = network.token();
    let mut members = Vec::new();
    for number in 0..2 {
        let node = network.builder(number, &token, loopback()).source(Gated::opened()).start().await.unwrap();
        let peer = Peer::builder(&node).start().await.unwrap();
        members.push((node, peer));
    }
    let (holder, other) = (&members[0], &members[1]);
    all_right((0..FILES).map(|number| holder.1.fetch(request(number))).collect()).await;
    let most = AtomicU64::new(0);
    let looking = async {
        loop {
            let now = members.iter().map(|(node, _)| metric(node, "dragonfly_lane_commands")).max().unwrap_or(0);
            most.fetch_max(now, Ordering::Relaxed);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let began = std::time::Instant::now();
    // On a busy machine the scheduler may be taken for silent for a moment.
    let again = async |number| {
        loop {
            match other.1.fetch(request(number).back_to_source(false)).await {
                Ok(receipt) => return receipt,
                Err(error) => assert!(error.is_temporary(), "{number}: {error:?}"),
            }
        }
    };
    let expected = content::blake3(SEED, LENGTH);
    let all = async {
        for receipt in join_all((0..FILES).map(again)).await {
            assert_eq!((receipt.length, receipt.blake3.bytes()), (LENGTH, &expected[..]));
        }
    };
    tokio::select! {
        all = tokio::time::timeout(BOUND, all) => all.expect("they are had"),
        () = looking => unreachable!("it goes on"),
    }
    let limit = metric(&other.0, "dragonfly_lane_commands_limit");
    println!("{:?}, at the most {} of {limit} commands waited", began.elapsed(), most.load(Ordering::Relaxed));
    assert_eq!(metric(&other.0, "dragonfly_peer_received_bytes_total"), FILES * LENGTH);
    assert_eq!(metric(&holder.0, "dragonfly_lane_connections"), 1);
    for member in members {
        stop(member).await;
    }
    network.stop().await;
}

/// An origin that has another version for whoever comes back for the rest of one.
#[derive(Debug)]
struct Changing {
    version: AtomicU64,
    /// It changes so often.
    times: u64,
}

/// More than what comes with the answer to what the content is.
const LONG: u64 = 6 << 20;

impl Changing {
    fn answer(&self, request: &OpenRequest) -> Result<Opened, SourceError> {
        let is_rest = request.range.as_ref().is_some_and(|range| range.start > 0);
        let version = self.version.load(Ordering::SeqCst);
        if is_rest && version < self.times {
            self.version.fetch_add(1, Ordering::SeqCst);
            return Err(SourceError::new(SourceErrorKind::Changed, "another version"));
        }
        let range = request.range.clone().unwrap_or(0..LONG);
        let range = range.start..range.end.min(LONG);
        let bytes = content::bytes(version, range.start, (range.end - range.start) as usize);
        let mut content = Content::new(stream::iter([Ok::<Bytes, _>(bytes)]).boxed());
        (content.length, content.offset, content.body_length) =
            (Some(LONG), range.start, Some(range.end - range.start));
        (content.validator, content.ranges) = (Some(Validator::Etag(format!("\"{version}\""))), true);
        Ok(Opened::Content(content))
    }
}

impl Source for Changing {
    fn schemes(&self) -> &[&str] {
        &["http"]
    }

    fn open<'a>(&'a self, request: OpenRequest) -> BoxFuture<'a, Result<Opened, SourceError>> {
        std::future::ready(self.answer(&request)).boxed()
    }
}

/// One that changes whenever somebody looks ends in one error; one that comes to rest in time is had, in its last version.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn so_many_versions_replace_one_another_under_a_download_and_no_more() {
    for times in [u64::MAX, 7] {
        let source = Arc::new(Changing { version: AtomicU64::new(0), times });
        let (node, peer) = alone(source.clone()).await;
        let bound = metric(&node, "dragonfly_versions_limit");
        let dir = tempfile::tempdir().unwrap();
        let output = dir.path().join("file");
        let fetched = peer.fetch(Request::new("http://changing.test/file").output(&output));
        let events = fetched.events();
        let begun = events.filter(|event| std::future::ready(matches!(event, Event::Described { .. }))).count();
        let begun = tokio::spawn(begun.map(|count| count as u64));
        let outcome = tokio::time::timeout(BOUND, fetched).await.expect("it ends");
        let versions = source.version.load(Ordering::SeqCst);
        // Some are gone before it begins with them.
        let begun = begun.await.unwrap();
        println!("{versions} versions, begun with {begun}: {:?}", outcome.as_ref().map(|receipt| receipt.elapsed));
        if times < bound {
            let receipt = outcome.unwrap();
            assert_eq!((receipt.length, receipt.blake3.bytes()), (LONG, &content::blake3(times, LONG)[..]));
            assert_eq!(versions, times);
            assert!((2..=bound).contains(&begun), "{begun} of {bound}");
        } else {
            let error = outcome.unwrap_err();
            assert_eq!((error.kind(), error.is_temporary()), (ErrorKind::Origin, true), "{error:?}");
            assert!(error.to_string().contains("changed at its origin again and again"), "{error}");
            assert_eq!(begun, bound);
            assert!(!output.exists(), "no version is under the final name");
        }
        stop((node, peer)).await;
    }
}
