#![allow(clippy::unwrap_used)]

mod bodies;
mod faulty;
mod heads;
mod parsers;
mod reach;

use std::time::Duration;

use dragonfly_testkit::{Origin, Resource, content};
use futures::TryStreamExt;
use url::Url;

use super::*;

const LENGTH: u64 = 300_000;
const SEED: u64 = 5;

/// A source without proxies.
fn registry() -> Registry {
    silent_for(HttpConfig::default().silence_timeout)
}

/// A source that takes so long a silence for a failure. Only for tests of silence: a busy machine is silent, too.
fn silent_for(silence_timeout: Duration) -> Registry {
    let config = HttpConfig { proxy: Proxy::None, silence_timeout, ..HttpConfig::default() };
    Registry::builder().http(config).build()
}

/// A local user's request, tried again at once.
fn request(url: &str) -> OpenRequest {
    let retry = Retry { base: Duration::from_millis(1), ..Retry::default() };
    OpenRequest { local: true, retry, ..OpenRequest::new(Url::parse(url).unwrap()) }
}

fn ranged(url: &str, range: std::ops::Range<u64>) -> OpenRequest {
    OpenRequest { range: Some(range), ..request(url) }
}

async fn origin(resource: Resource) -> (Origin, String) {
    let origin = Origin::start().await.unwrap();
    origin.set("/a", resource);
    let url = origin.url("/a");
    (origin, url)
}

async fn open(request: OpenRequest) -> Content {
    match registry().open(request).await.unwrap() {
        Opened::Content(content) => content,
        Opened::Unchanged { .. } => panic!("unchanged"),
    }
}

async fn refusal(request: OpenRequest) -> SourceError {
    registry().open(request).await.unwrap_err()
}

async fn all(
    body: futures::stream::BoxStream<'static, Result<bytes::Bytes, SourceError>>,
) -> Result<Vec<u8>, SourceError> {
    body.try_fold(Vec::new(), |mut all, part| async move {
        all.extend_from_slice(&part);
        Ok(all)
    })
    .await
}

fn expected(offset: u64, len: u64) -> Vec<u8> {
    content::bytes(SEED, offset, len as usize).to_vec()
}
