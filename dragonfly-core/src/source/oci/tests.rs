//! Against a registry of our own, which can be anything that registries are.
#![allow(clippy::unwrap_used)]

mod asker;
mod content;
mod fake;
mod hostile;
mod layout;

use futures::TryStreamExt;
use url::Url;

use super::super::{Content, OpenRequest, Opened, OriginPattern, Proxy, Retry};
use super::*;
use fake::{Fake, digest};

const IMAGE: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

fn source(config: StorageConfig) -> OciSource {
    guarded(Guard::default(), config)
}

/// A source that reads no files of this machine.
fn guarded(guard: Guard, config: StorageConfig) -> OciSource {
    let http = HttpConfig { proxy: Proxy::None, ..HttpConfig::default() };
    OciSource::with_files(guard, http, config, Files::new(Vec::new()))
}

fn anybody() -> OciSource {
    source(StorageConfig::default())
}

/// Alice, at one registry.
fn alice(fake: &Fake) -> StorageConfig {
    let mut own = StorageSettings::default();
    (own.user, own.secret) = (Some("alice".to_owned()), Some("secret123".to_owned()));
    StorageConfig::default().origin(origin(fake), own)
}

fn origin(fake: &Fake) -> OriginPattern {
    format!("oci://{}", fake.address).parse().unwrap()
}

fn request(fake: &Fake, name: &str) -> OpenRequest {
    let url = Url::parse(&format!("oci://{}/{name}", fake.address)).unwrap();
    OpenRequest { local: true, retry: Retry { attempts: 1, ..Retry::default() }, ..OpenRequest::new(url) }
}

async fn opened(source: &OciSource, request: OpenRequest) -> Content {
    match source.open(request).await.unwrap() {
        Opened::Content(content) => content,
        Opened::Unchanged { .. } => panic!("unchanged"),
    }
}

async fn all(content: Content) -> Vec<u8> {
    content.body.try_fold(Vec::new(), |all, part| async move { Ok([all, part.to_vec()].concat()) }).await.unwrap()
}

/// The error, which holds no secret.
async fn refusal(source: &OciSource, request: OpenRequest) -> SourceError {
    let error = source.open(request).await.map(|_| ()).unwrap_err();
    assert!(!format!("{error:?}{error}").contains("secret123"), "{error:?}");
    error
}

async fn listed(source: &OciSource, request: OpenRequest) -> Result<Vec<Entry>, SourceError> {
    source.list(request).try_concat().await
}
