//! A source that does what a drawn script says, under the machinery that resumes: in virtual time, no socket.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::{FutureExt as _, StreamExt as _, stream};
use proptest::prelude::*;

use super::*;

/// Bytes in one part of a body.
const PART: u64 = 1000;

/// What a source does at one call, or in the body that it opens.
#[derive(Clone, Copy, Debug)]
enum Deed {
    /// As it should be.
    Honest,
    /// It fails, and may not the next time.
    FailsForNow,
    /// It fails for good.
    Fails,
    /// The connection breaks after so many bytes.
    Resets(u64),
    /// The body ends after so many bytes, without a word.
    EndsEarly(u64),
    /// The body carries so many bytes more than it should.
    IsLonger(u64),
    /// So many seconds pass before each part.
    IsSlow(u64),
    /// It falls silent after so many bytes, and says so.
    Stalls(u64),
    /// Another version takes the place of the one before, and it says so.
    Changes,
    /// The same, and it answers whatever was expected.
    ChangesUnasked,
    /// It answers from so many bytes further on.
    Misplaces(u64),
}

fn deed() -> impl Strategy<Value = Deed> {
    let bytes = || 0..6000_u64;
    prop_oneof![
        2 => Just(Deed::Honest),
        3 => Just(Deed::FailsForNow),
        1 => Just(Deed::Fails),
        4 => bytes().prop_map(Deed::Resets),
        3 => bytes().prop_map(Deed::EndsEarly),
        2 => bytes().prop_map(Deed::IsLonger),
        2 => (1..1000_u64).prop_map(Deed::IsSlow),
        2 => bytes().prop_map(Deed::Stalls),
        1 => Just(Deed::Changes),
        1 => Just(Deed::ChangesUnasked),
        1 => (1..6000_u64).prop_map(Deed::Misplaces),
    ]
}

#[derive(Debug)]
struct Scripted {
    script: Mutex<VecDeque<Deed>>,
    version: AtomicU64,
    opened: AtomicU64,
    /// Bytes that it yielded, and those of them that nobody wants.
    sent: Arc<AtomicU64>,
    surplus: AtomicU64,
}

impl Scripted {
    fn new(script: &[Deed]) -> Arc<Self> {
        Arc::new(Self {
            script: Mutex::new(script.iter().copied().collect()),
            version: AtomicU64::new(SEED),
            opened: AtomicU64::default(),
            sent: Arc::default(),
            surplus: AtomicU64::default(),
        })
    }

    fn validator(&self) -> Validator {
        Validator::Etag(format!("\"{}\"", self.version.load(Ordering::Relaxed)))
    }

    async fn answer(&self, request: OpenRequest) -> Result<Opened, SourceError> {
        self.opened.fetch_add(1, Ordering::Relaxed);
        let deed = self.script.lock().unwrap().pop_front().unwrap_or(Deed::Honest);
        match deed {
            Deed::FailsForNow => return Err(SourceError::new(SourceErrorKind::Network, "not now").temporary(true)),
            Deed::Fails => return Err(SourceError::new(SourceErrorKind::NotFound, "never")),
            Deed::Changes | Deed::ChangesUnasked => drop(self.version.fetch_add(1, Ordering::Relaxed)),
            _ => {}
        }
        let validator = self.validator();
        let is_other = request.expect.as_ref().is_some_and(|expected| *expected != validator);
        if is_other && !matches!(deed, Deed::ChangesUnasked) {
            return Err(SourceError::new(SourceErrorKind::Changed, "another version"));
        }
        let mut range = request.range.unwrap_or(0..LENGTH);
        range.end = range.end.min(LENGTH);
        if let Deed::Misplaces(by) = deed {
            range.start = (range.start + by).min(range.end);
        }
        Ok(Opened::Content(Content {
            length: Some(LENGTH),
            offset: range.start,
            body_length: Some(range.end - range.start),
            validator: Some(validator),
            ranges: true,
            fresh: None,
            private: false,
            body: self.body(range, deed),
        }))
    }

    fn body(&self, range: Range<u64>, deed: Deed) -> stream::BoxStream<'static, Result<Bytes, SourceError>> {
        let (seed, sent) = (self.version.load(Ordering::Relaxed), Arc::clone(&self.sent));
        let (mut end, mut last) = (range.end, None);
        match deed {
            Deed::Resets(after) => {
                end = end.min(range.start + after);
                last = Some(SourceError::new(SourceErrorKind::Network, "reset").temporary(true));
            }
            Deed::Stalls(after) => {
                end = end.min(range.start + after);
                last = Some(SourceError::new(SourceErrorKind::Stalled, "silent").temporary(true));
            }
            Deed::EndsEarly(after) => end = end.min(range.start + after),
            Deed::IsLonger(by) => {
                end += by;
                self.surplus.fetch_add(by, Ordering::Relaxed);
            }
            _ => {}
        }
        let pause = Duration::from_secs(if let Deed::IsSlow(seconds) = deed { seconds } else { 0 });
        let silence = Duration::from_secs(if matches!(deed, Deed::Stalls(_)) { 30 } else { 0 });
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
        let last = stream::iter(last).then(move |error| async move {
            tokio::time::sleep(silence).await;
            Err(error)
        });
        parts.chain(last).boxed()
    }
}

impl Source for Scripted {
    fn schemes(&self) -> &[&str] {
        &["script"]
    }

    fn open<'a>(&'a self, request: OpenRequest) -> BoxFuture<'a, Result<Opened, SourceError>> {
        self.answer(request).boxed()
    }
}

/// What was yielded before the end or the error, and the error.
async fn drain(source: &Arc<Scripted>, request: OpenRequest) -> (Vec<u8>, Option<SourceError>) {
    let source: Arc<dyn Source> = source.clone();
    let mut body = fetch_range(source, request);
    let mut got = Vec::new();
    while let Some(item) = body.next().await {
        match item {
            Ok(bytes) => got.extend_from_slice(&bytes),
            Err(error) => return (got, Some(error)),
        }
    }
    (got, None)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever the source does: what comes is the beginning of what was asked for, of the version that was expected,
    /// byte by byte; all of it unless there is an error; and the origin sent nothing twice.
    #[test]
    fn a_scripted_source_never_brings_a_wrong_byte(
        script in prop::collection::vec(deed(), 0..8),
        range in (0..LENGTH - 1, 1..8000_u64).prop_map(|(start, length)| start..(start + length).min(LENGTH)),
    ) {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let source = Scripted::new(&script);
        let request = OpenRequest {
            expect: Some(source.validator()),
            expect_length: Some(LENGTH),
            ..ranged("script://a/b", range.clone())
        };
        let attempts = u64::from(request.retry.attempts);
        let length = range.end - range.start;
        let bound = Duration::from_secs(1 << 20);
        let drained = runtime.block_on(async { tokio::time::timeout(bound, drain(&source, request)).await });
        let (got, error) = drained.unwrap();
        prop_assert!(got == expected(range.start, got.len() as u64), "wrong bytes, or bytes out of place");
        prop_assert_eq!(got.len() as u64 == length, error.is_none(), "{:?}", error);
        if let Some(error) = &error {
            prop_assert!(!error.to_string().is_empty());
        }
        let (sent, surplus) = (source.sent.load(Ordering::Relaxed), source.surplus.load(Ordering::Relaxed));
        prop_assert!(sent <= got.len() as u64 + surplus.min(2 * PART), "{} sent for {}", sent, got.len());
        // Each opening brings a byte or is one of a few in a row, and one that is honest is the last.
        let opened = source.opened.load(Ordering::Relaxed);
        prop_assert!(opened <= (script.len() as u64 + 1).min((got.len() as u64 + 1) * attempts), "{} openings", opened);
    }

    /// Breaks that bring a byte each, silences and slowness are only a matter of time.
    #[test]
    fn what_breaks_off_again_and_again_comes_to_its_end(
        script in prop::collection::vec(prop_oneof![
            (1..3000_u64).prop_map(Deed::Resets),
            (1..3000_u64).prop_map(Deed::EndsEarly),
            (1..3000_u64).prop_map(Deed::Stalls),
            (1..1000_u64).prop_map(Deed::IsSlow),
        ], 0..12),
    ) {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let source = Scripted::new(&script);
        let request = OpenRequest { expect: Some(source.validator()), ..ranged("script://a/b", 10..20_010) };
        let (got, error) = runtime.block_on(drain(&source, request));
        prop_assert!(error.is_none(), "{:?}", error);
        prop_assert!(got == expected(10, 20_000));
        prop_assert_eq!(source.sent.load(Ordering::Relaxed), 20_000);
    }
}
