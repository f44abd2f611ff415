#![allow(clippy::unwrap_used)]

use std::io;
use std::pin::Pin;
use std::task::{Context as TaskContext, Poll};

use http_body_util::BodyExt;
use tokio::io::ReadBuf;

use super::*;

/// Content in memory that may break off, or turn out wrong at the end.
struct Fake {
    data: Vec<u8>,
    at: usize,
    length: u64,
    breaks_at: Option<usize>,
    refuted: bool,
}

impl Fake {
    fn new(length: usize) -> Self {
        let data = (0..length).map(|i| (i % 251) as u8).collect();
        Self { data, at: 0, length: length as u64, breaks_at: None, refuted: false }
    }
}

impl AsyncRead for Fake {
    fn poll_read(mut self: Pin<&mut Self>, _: &mut TaskContext<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.breaks_at.is_some_and(|at| self.at >= at) {
            let error = dragonfly_core::Error::new(ErrorKind::Origin, "it broke off").temporary(true);
            return Poll::Ready(Err(io::Error::other(error)));
        }
        let n = buf.remaining().min(self.data.len() - self.at);
        buf.put_slice(&self.data[self.at..self.at + n]);
        self.at += n;
        Poll::Ready(Ok(()))
    }
}

impl Content for Fake {
    fn length(&self) -> u64 {
        self.length
    }

    fn failed(&mut self, _: &Failure) {}

    async fn receipt(&mut self) -> Result<ReceiptBody, Failure> {
        if self.refuted {
            return Err(Failure::new(ErrorKind::DigestMismatch, "another digest"));
        }
        let text = String::new;
        Ok(ReceiptBody {
            task: text(),
            generation: text(),
            length: self.length,
            range: None,
            blake3: text(),
            digest: None,
            proof: "verified".into(),
            bytes_from_origin: 1,
            bytes_from_peers: 2,
            bytes_held: 3,
            elapsed_ms: 4,
            output: None,
            exported: None,
        })
    }
}

/// What a client sees: the bytes, the trailers, and whether the body broke off.
async fn read(response: Response) -> (Vec<u8>, HeaderMap, bool) {
    let mut body = response.into_body();
    let (mut bytes, mut trailers) = (Vec::new(), HeaderMap::new());
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else { return (bytes, trailers, true) };
        match frame.into_data() {
            Ok(data) => bytes.extend_from_slice(&data),
            Err(frame) => trailers = frame.into_trailers().unwrap(),
        }
    }
    (bytes, trailers, false)
}

#[tokio::test]
async fn whole_content_then_a_receipt() {
    for length in [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK] {
        let fake = Fake::new(length);
        let data = fake.data.clone();
        let response = answer(fake, true).await.unwrap();
        assert_eq!(response.headers()[model::LENGTH], length.to_string());
        assert!(!response.headers().contains_key(header::CONTENT_LENGTH));
        let (bytes, trailers, broken) = read(response).await;
        assert!(bytes == data && !broken, "{length}");
        let receipt: ReceiptBody = serde_json::from_slice(trailers[model::RECEIPT].as_bytes()).unwrap();
        assert_eq!(receipt.length, length as u64);
    }
}

#[tokio::test]
async fn without_trailers_the_length_tells() {
    let response = answer(Fake::new(2 * CHUNK), false).await.unwrap();
    assert_eq!(response.headers()[header::CONTENT_LENGTH], (2 * CHUNK).to_string());
    let (bytes, trailers, broken) = read(response).await;
    assert!(bytes.len() == 2 * CHUNK && trailers.is_empty() && !broken);
}

#[tokio::test]
async fn a_failure_before_the_first_byte_has_a_status() {
    let failure = answer(Fake { breaks_at: Some(0), ..Fake::new(10) }, true).await.unwrap_err();
    assert_eq!((failure.kind, failure.temporary), (ErrorKind::Origin, true));
    assert_eq!(failure.into_response().status(), StatusCode::BAD_GATEWAY);
    // Small content is verified before its first byte leaves.
    let failure = answer(Fake { refuted: true, ..Fake::new(10) }, false).await.unwrap_err();
    assert_eq!(failure.kind, ErrorKind::DigestMismatch);
}

#[tokio::test]
async fn a_failure_on_the_way_is_a_trailer_or_cuts_the_connection() {
    let fake = || Fake { breaks_at: Some(CHUNK), ..Fake::new(2 * CHUNK) };
    let (bytes, trailers, broken) = read(answer(fake(), true).await.unwrap()).await;
    assert!(bytes.len() == CHUNK && !broken);
    let error: ErrorBody = serde_json::from_slice(trailers[model::ERROR].as_bytes()).unwrap();
    assert_eq!((error.kind.as_str(), error.temporary), ("origin", true));
    let (bytes, trailers, broken) = read(answer(fake(), false).await.unwrap()).await;
    assert!(bytes.len() == CHUNK && trailers.is_empty() && broken);
}

#[tokio::test]
async fn refuted_content_never_arrives_whole() {
    for trailers in [false, true] {
        let fake = Fake { refuted: true, ..Fake::new(2 * CHUNK) };
        let (bytes, seen, broken) = read(answer(fake, trailers).await.unwrap()).await;
        assert_eq!((bytes.len(), broken), (CHUNK, !trailers));
        assert_eq!(seen.contains_key(model::ERROR), trailers);
        assert!(!seen.contains_key(model::RECEIPT));
    }
}

#[tokio::test]
async fn content_that_ends_early_is_a_failure() {
    let fake = Fake { length: 3 * CHUNK as u64, ..Fake::new(2 * CHUNK) };
    let (_, trailers, _) = read(answer(fake, true).await.unwrap()).await;
    assert!(trailers.contains_key(model::ERROR));
}

#[test]
fn who_takes_trailers() {
    let te =
        |value: &'static str| takes_trailers(&HeaderMap::from_iter([(header::TE, HeaderValue::from_static(value))]));
    assert!(te("trailers") && te("gzip, Trailers"));
    assert!(!te("gzip") && !te("") && !takes_trailers(&HeaderMap::new()));
}
