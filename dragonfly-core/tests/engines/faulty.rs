//! A source that does what a drawn script says, under the whole engine: describing, leases, store, output.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use dragonfly_core::source::{Content, OpenRequest, Opened, Source, SourceError, SourceErrorKind};
use dragonfly_core::task::Validator;
use dragonfly_core::{Node, Peer, Request};
use dragonfly_testkit::content;
use futures::future::BoxFuture;
use futures::{FutureExt as _, StreamExt as _, stream};
use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};

use crate::harness::log;

/// Longer than what the describing request asks for, so that leases follow.
const LENGTH: u64 = 6 << 20;

const PART: u64 = 64 << 10;

/// Scripts that are played, at the same time.
const SCRIPTS: u64 = 24;

/// For all of them: what fails six times in a row waits five seconds between.
const BOUND: Duration = Duration::from_secs(300);

#[derive(Clone, Copy, Debug)]
enum Deed {
    Honest,
    FailsForNow,
    Fails,
    Resets(u64),
    EndsEarly(u64),
    IsLonger(u64),
    IsSlow,
    Changes,
    ChangesUnasked,
    Misplaces(u64),
    HasNoRanges,
    HidesItsLength,
}

fn draw(random: &mut SmallRng) -> Deed {
    let bytes = random.random_range(0..3 << 20);
    match random.random_range(0..20) {
        0..3 => Deed::FailsForNow,
        3 => Deed::Fails,
        4..8 => Deed::Resets(bytes),
        8..10 => Deed::EndsEarly(bytes),
        10 => Deed::IsLonger(bytes),
        11 => Deed::IsSlow,
        12 => Deed::Changes,
        13 => Deed::ChangesUnasked,
        14 => Deed::Misplaces(bytes + 1),
        15 => Deed::HasNoRanges,
        16 => Deed::HidesItsLength,
        _ => Deed::Honest,
    }
}

#[derive(Debug)]
struct Scripted {
    script: Mutex<VecDeque<Deed>>,
    /// The seed of its content.
    version: AtomicU64,
    sent: Arc<AtomicU64>,
}

impl Scripted {
    async fn answer(&self, request: OpenRequest) -> Result<Opened, SourceError> {
        let deed = self.script.lock().unwrap().pop_front().unwrap_or(Deed::Honest);
        match deed {
            Deed::FailsForNow => return Err(SourceError::new(SourceErrorKind::Network, "not now").temporary(true)),
            Deed::Fails => return Err(SourceError::new(SourceErrorKind::NotFound, "never")),
            Deed::Changes | Deed::ChangesUnasked => drop(self.version.fetch_add(1, Ordering::Relaxed)),
            _ => {}
        }
        let seed = self.version.load(Ordering::Relaxed);
        let validator = Validator::Etag(format!("\"{seed}\""));
        if request.prior.as_ref() == Some(&validator) {
            return Ok(Opened::Unchanged { fresh: None });
        }
        let is_other = request.expect.as_ref().is_some_and(|expected| *expected != validator);
        if is_other && !matches!(deed, Deed::ChangesUnasked) {
            return Err(SourceError::new(SourceErrorKind::Changed, "another version"));
        }
        let whole = matches!(deed, Deed::HasNoRanges | Deed::HidesItsLength);
        let mut range = request.range.filter(|_| !whole).unwrap_or(0..LENGTH);
        range.end = range.end.min(LENGTH);
        if let Deed::Misplaces(by) = deed {
            range.start = (range.start + by).min(range.end);
        }
        let length = (!matches!(deed, Deed::HidesItsLength)).then_some(LENGTH);
        let mut content = Content::new(self.body(seed, range.clone(), deed));
        (content.length, content.offset) = (length, range.start);
        content.body_length = length.map(|_| range.end - range.start);
        (content.validator, content.ranges) = (Some(validator), !whole);
        Ok(Opened::Content(content))
    }

    fn body(&self, seed: u64, range: Range<u64>, deed: Deed) -> stream::BoxStream<'static, Result<Bytes, SourceError>> {
        let sent = Arc::clone(&self.sent);
        let (mut end, mut last) = (range.end, None);
        match deed {
            Deed::Resets(after) => {
                end = end.min(range.start + after);
                last = Some(Err(SourceError::new(SourceErrorKind::Network, "reset").temporary(true)));
            }
            Deed::EndsEarly(after) => end = end.min(range.start + after),
            Deed::IsLonger(by) => end += by,
            _ => {}
        }
        let pause = Duration::from_millis(if matches!(deed, Deed::IsSlow) { 5 } else { 0 });
        let parts = stream::unfold(range.start, move |at| {
            let sent = Arc::clone(&sent);
            async move {
                let take = (end - at).min(PART);
                if take == 0 {
                    return None;
                }
                tokio::time::sleep(pause).await;
                sent.fetch_add(take, Ordering::Relaxed);
                Some((Ok(content::bytes(seed, at, take as usize)), at + take))
            }
        });
        parts.chain(stream::iter(last)).boxed()
    }
}

impl Source for Scripted {
    fn schemes(&self) -> &[&str] {
        &["http"]
    }

    fn open<'a>(&'a self, request: OpenRequest) -> BoxFuture<'a, Result<Opened, SourceError>> {
        self.answer(request).boxed()
    }
}

/// What came of a script, for a message; the error's absence says that the file was right.
async fn play(seed: u64, output: std::path::PathBuf) -> Result<bool, String> {
    let mut random = SmallRng::seed_from_u64(seed);
    let script: Vec<Deed> = (0..random.random_range(1..9)).map(|_| draw(&mut random)).collect();
    let first = 1000 * seed;
    let source = Arc::new(Scripted {
        script: Mutex::new(script.iter().copied().collect()),
        version: AtomicU64::new(first),
        sent: Arc::default(),
    });
    let node = Node::builder().source(source.clone()).start().await.map_err(|e| format!("{e:?}"))?;
    let peer = Peer::builder(&node).start().await.map_err(|e| format!("{e:?}"))?;
    let outcome = peer.fetch(Request::new("http://script.test/file").output(&output)).await;
    peer.shutdown().await.map_err(|e| format!("{e:?}"))?;
    node.shutdown().await.map_err(|e| format!("{e:?}"))?;
    let wrong = |why: &str| Err(format!("seed {seed}: {why}: {outcome:?} under {script:?}"));
    // Every version may cost the whole, every deed what it had sent, and content of unknown length a first part more.
    let (sent, versions) = (source.sent.load(Ordering::Relaxed), source.version.load(Ordering::Relaxed) - first + 1);
    if sent > LENGTH * (versions + script.len() as u64) {
        return wrong(&format!("{sent} bytes left the origin"));
    }
    match &outcome {
        Ok(receipt) => {
            let bytes = std::fs::read(&output).map_err(|e| e.to_string())?;
            let is_version = |version: u64| bytes == content::bytes(first + version, 0, LENGTH as usize);
            if receipt.length != LENGTH || !(0..versions).any(is_version) {
                return wrong("what is under the final name is no version of the content");
            }
            Ok(true)
        }
        Err(error) if output.exists() => wrong(&format!("something is under the final name, and {error}")),
        Err(error) if error.to_string().is_empty() => wrong("an error that says nothing"),
        Err(_) => Ok(false),
    }
}

/// Right bytes under the final name, or one clear error and nothing there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scripted_sources_bring_a_version_or_an_error() {
    log();
    let dir = tempfile::tempdir().unwrap();
    let plays = (0..SCRIPTS).map(|seed| play(seed, dir.path().join(seed.to_string())));
    let outcomes = tokio::time::timeout(BOUND, futures::future::join_all(plays)).await.expect("they end");
    let wrong: Vec<_> = outcomes.iter().filter_map(|outcome| outcome.as_ref().err()).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
    let done = outcomes.iter().filter(|outcome| **outcome == Ok(true)).count();
    println!("{done} of {SCRIPTS} brought a version");
    assert!(done >= SCRIPTS as usize / 3, "{done}: the scripts are about something");
}
