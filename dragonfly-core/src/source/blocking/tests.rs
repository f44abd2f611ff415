#![allow(clippy::unwrap_used)]

use std::io::Cursor;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

use futures::TryStreamExt;
use url::Url;

use super::super::{Retry, fetch_range};
use super::*;

/// More than one chunk.
const LENGTH: usize = CHUNK_BYTES + 1000;

fn whole() -> Vec<u8> {
    (0..LENGTH).map(|at| (at % 251) as u8).collect()
}

/// How an origin of the tests is.
#[derive(Default)]
struct Given {
    /// So many calls fail, temporarily.
    failures: AtomicU32,
    no_ranges: bool,
    no_length: bool,
    version: Mutex<Option<String>>,
    /// The first body breaks off after so many bytes.
    breaks_after: Mutex<Option<usize>>,
    opened: AtomicU32,
    dropped: Arc<AtomicU32>,
}

struct Counted(Box<dyn Read + Send>, Arc<AtomicU32>);

impl Read for Counted {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.0.read(buf)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.1.fetch_add(1, Ordering::SeqCst);
    }
}

struct Broken;

impl Read for Broken {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(io::ErrorKind::ConnectionReset.into())
    }
}

impl BlockingSource for Arc<Given> {
    fn open(&self, request: &OpenRequest) -> Result<BlockingContent, SourceError> {
        self.opened.fetch_add(1, Ordering::SeqCst);
        if self.failures.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok() {
            return Err(SourceError::new(SourceErrorKind::Network, "not yet").temporary(true));
        }
        let start = request.range.as_ref().map_or(0, |range| range.start).min(LENGTH as u64);
        let offset = if self.no_ranges { 0 } else { start };
        let rest = whole()[offset as usize..].to_vec();
        let body: Box<dyn Read + Send> = match self.breaks_after.lock().unwrap().take() {
            Some(after) => Box::new(Cursor::new(rest[..after].to_vec()).chain(Broken)),
            None => Box::new(Cursor::new(rest)),
        };
        let mut content = BlockingContent::new(Counted(body, Arc::clone(&self.dropped)));
        content.length = (!self.no_length).then_some(LENGTH as u64);
        content.offset = offset;
        content.ranges = !self.no_ranges;
        content.version = self.version.lock().unwrap().clone();
        Ok(content)
    }
}

fn asked(range: Option<std::ops::Range<u64>>) -> OpenRequest {
    let retry = Retry { base: Duration::from_millis(1), ..Retry::default() };
    OpenRequest { range, retry, ..OpenRequest::new(Url::parse("given://here/a").unwrap()) }
}

async fn content(given: &Arc<Given>, request: OpenRequest) -> Result<Content, SourceError> {
    match blocking(Arc::clone(given)).open(request).await? {
        Opened::Content(content) => Ok(content),
        Opened::Unchanged { .. } => panic!("unchanged"),
    }
}

async fn all(body: BoxStream<'static, Result<Bytes, SourceError>>) -> Result<Vec<u8>, SourceError> {
    Ok(body.try_collect::<Vec<_>>().await?.concat())
}

#[tokio::test]
async fn ranges_and_wholes() {
    let given = Arc::new(Given::default());
    let opened = content(&given, asked(None)).await.unwrap();
    assert_eq!((opened.length, opened.offset, opened.body_length), (Some(LENGTH as u64), 0, Some(LENGTH as u64)));
    assert_eq!(all(opened.body).await.unwrap(), whole());
    let opened = content(&given, asked(Some(1000..2000))).await.unwrap();
    assert_eq!((opened.offset, opened.body_length, opened.ranges), (1000, Some(1000), true));
    assert_eq!(all(opened.body).await.unwrap(), whole()[1000..2000]);
    let opened = content(&given, asked(Some(LENGTH as u64 - 5..u64::MAX))).await.unwrap();
    assert_eq!(all(opened.body).await.unwrap(), whole()[LENGTH - 5..]);

    let given = Arc::new(Given { no_ranges: true, no_length: true, ..Given::default() });
    let opened = content(&given, asked(Some(1000..2000))).await.unwrap();
    assert_eq!((opened.offset, opened.body_length, opened.ranges), (0, None, false));
    assert_eq!(all(opened.body).await.unwrap(), whole(), "the whole, where there are no ranges");
}

#[tokio::test]
async fn versions_and_lengths_are_compared() {
    let given = Arc::new(Given { version: Mutex::new(Some("1".into())), ..Given::default() });
    let one = || Some(Validator::Version("1".into()));
    let opened = content(&given, OpenRequest { expect: one(), ..asked(None) }).await.unwrap();
    assert_eq!(opened.validator, one());
    let prior = OpenRequest { prior: one(), ..asked(None) };
    assert!(matches!(blocking(Arc::clone(&given)).open(prior.clone()).await, Ok(Opened::Unchanged { fresh: None })));
    *given.version.lock().unwrap() = Some("2".into());
    assert!(matches!(blocking(Arc::clone(&given)).open(prior).await, Ok(Opened::Content(_))));
    for request in
        [OpenRequest { expect: one(), ..asked(None) }, OpenRequest { expect_length: Some(7), ..asked(Some(0..10)) }]
    {
        assert_eq!(content(&given, request).await.unwrap_err().kind(), SourceErrorKind::Changed);
    }
    *given.version.lock().unwrap() = Some("v".repeat(VERSION_MAX + 1));
    assert_eq!(content(&given, asked(None)).await.unwrap_err().kind(), SourceErrorKind::Origin);
}

#[tokio::test]
async fn what_may_pass_is_tried_again_and_bodies_go_on() {
    let given = Arc::new(Given { failures: AtomicU32::new(3), ..Given::default() });
    assert!(content(&given, asked(None)).await.is_ok());
    given.failures.store(4, Ordering::SeqCst);
    let error = content(&given, asked(None)).await.unwrap_err();
    assert_eq!((error.kind(), given.opened.load(Ordering::SeqCst)), (SourceErrorKind::Network, 8));

    let given = Arc::new(Given {
        version: Mutex::new(Some("1".into())),
        breaks_after: Mutex::new(Some(10)),
        ..Given::default()
    });
    let body = fetch_range(blocking(Arc::clone(&given)), asked(Some(5..LENGTH as u64)));
    assert_eq!(all(body).await.unwrap(), whole()[5..]);
    assert_eq!(given.opened.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn bodies_are_as_long_as_promised_and_dropped_once() {
    struct Short;
    impl BlockingSource for Short {
        fn open(&self, _: &OpenRequest) -> Result<BlockingContent, SourceError> {
            let mut content = BlockingContent::new(&[7_u8; 10][..]);
            content.length = Some(11);
            Ok(content)
        }
    }
    let Ok(Opened::Content(opened)) = blocking(Short).open(asked(None)).await else { panic!("no content") };
    let error = all(opened.body).await.unwrap_err();
    assert!(error.is_temporary(), "{error:?}");

    let given = Arc::new(Given::default());
    let mut opened = content(&given, asked(None)).await.unwrap();
    assert!(opened.body.next().await.unwrap().is_ok());
    drop(opened);
    let opened = content(&given, asked(Some(0..10))).await.unwrap();
    assert_eq!(all(opened.body).await.unwrap(), whole()[..10]);
    // They are dropped on blocking threads, which come to it.
    let both = async {
        while given.dropped.load(Ordering::SeqCst) < 2 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), both).await.unwrap();
}

#[tokio::test]
async fn what_an_embedder_gets_wrong_is_an_error() {
    struct Panics;
    impl BlockingSource for Panics {
        fn open(&self, _: &OpenRequest) -> Result<BlockingContent, SourceError> {
            panic!("on purpose")
        }
    }
    let error = blocking(Panics).open(asked(None)).await.unwrap_err();
    assert_eq!(error.kind(), SourceErrorKind::Local);

    struct Elsewhere;
    impl BlockingSource for Elsewhere {
        fn open(&self, _: &OpenRequest) -> Result<BlockingContent, SourceError> {
            let mut content = BlockingContent::new(io::empty());
            content.offset = 3;
            Ok(content)
        }
    }
    let error = blocking(Elsewhere).open(asked(Some(2..5))).await.unwrap_err();
    assert_eq!(error.kind(), SourceErrorKind::Origin);

    struct Own;
    impl Read for Own {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::other(SourceError::new(SourceErrorKind::Forbidden, "no more")))
        }
    }
    impl BlockingSource for Own {
        fn open(&self, _: &OpenRequest) -> Result<BlockingContent, SourceError> {
            Ok(BlockingContent::new(Own))
        }
    }
    let Ok(Opened::Content(opened)) = blocking(Own).open(asked(None)).await else { panic!("no content") };
    assert_eq!(all(opened.body).await.unwrap_err().kind(), SourceErrorKind::Forbidden);
}
