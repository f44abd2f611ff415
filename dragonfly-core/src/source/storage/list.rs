//! What is below a prefix of a bucket or a directory of a server.

use std::sync::Arc;

use futures::StreamExt;
use futures::stream::{self, BoxStream};
use opendal::{EntryMode, Lister};
use url::Url;

use super::super::body::stalled;
use super::super::list::{below, failed, is_plain};
use super::super::retry::retrying;
use super::super::{Entry, OpenRequest, SourceError, redact};
use super::open::told;
use super::place::Place;
use super::transport::Seen;
use super::{Asking, Shared};

/// Entries a page. OpenDAL buffers one of the storage's own, which are as long.
const PAGE: usize = 1000;

/// What is directly below the prefix of a request.
pub(super) fn list(shared: Arc<Shared>, request: OpenRequest) -> BoxStream<'static, Result<Vec<Entry>, SourceError>> {
    let begun = async move {
        match begin(&shared, &request).await {
            Ok(pages) => pages,
            Err(error) => failed(error),
        }
    };
    stream::once(begun).flatten().boxed()
}

async fn begin(
    shared: &Shared,
    request: &OpenRequest,
) -> Result<BoxStream<'static, Result<Vec<Entry>, SourceError>>, SourceError> {
    let place = Place::of(&request.url, true)?;
    let permit = shared.permit(&place.site, request).await?;
    #[cfg(feature = "ftp")]
    if place.site.kind == super::Kind::Ftp {
        let ftp = super::ftp::Ftp::new(&shared.reach, &place.site, &permit, request);
        return Ok(ftp.list(place.key, request.clone()));
    }
    let asking = shared.ask(&place.site, &permit)?;
    let mut prefix = place.key;
    if !prefix.is_empty() && !prefix.ends_with('/') {
        prefix.push('/');
    }
    // Over HTTP each page is asked for again by itself. Of others nothing was given out before the first page is there:
    // until then the list can be begun anew.
    let begin = || async {
        let mut pages = Pages::begin(&asking, &prefix, request).await?;
        let page = pages.next().await?;
        Ok((pages, page))
    };
    let (pages, page) = if asking.kind.is_over_http() { begin().await? } else { retrying(request, begin).await? };
    // A directory that is not there and one with nothing in it are the same to object stores.
    let rest = stream::unfold(Some(pages), |pages| async move {
        let mut pages = pages?;
        match pages.next().await {
            Ok(None) => None,
            Ok(Some(page)) => Some((Ok(page), Some(pages))),
            Err(error) => Some((Err(error), None)),
        }
    });
    Ok(stream::iter(page.map(Ok)).chain(rest).boxed())
}

struct Pages {
    lister: Lister,
    seen: Seen,
    asking: Asking,
    request: OpenRequest,
    prefix: String,
}

impl Pages {
    async fn begin(asking: &Asking, prefix: &str, request: &OpenRequest) -> Result<Self, SourceError> {
        let (operator, seen) = asking.lister(request);
        let path = if prefix.is_empty() { "/" } else { prefix };
        let lister = operator.lister_with(path).await.map_err(|error| told(asking, request, &seen, &error))?;
        let (asking, request) = (asking.clone(), request.clone());
        Ok(Self { lister, seen, asking, request, prefix: prefix.to_owned() })
    }

    /// The next page; absent: the end.
    async fn next(&mut self) -> Result<Option<Vec<Entry>>, SourceError> {
        let limit = self.asking.reach.http.first_byte_timeout;
        let mut page = Vec::new();
        let mut looked = 0;
        while looked < PAGE {
            let next = if self.asking.kind.is_over_http() {
                // Each attempt has its time, and there are waits between them.
                self.lister.next().await
            } else {
                let next = tokio::time::timeout(limit, self.lister.next()).await;
                next.map_err(|_| stalled(&redact(&self.request.url), limit))?
            };
            let Some(next) = next else {
                return Ok((looked > 0).then_some(page));
            };
            looked += 1;
            let found = next.map_err(|error| told(&self.asking, &self.request, &self.seen, &error))?;
            let (path, metadata) = found.into_parts();
            let directory = metadata.mode() == EntryMode::DIR;
            let length = (!directory).then(|| metadata.content_length());
            page.extend(self.entry(&path, directory, length));
        }
        Ok(Some(page))
    }

    fn entry(&self, path: &str, directory: bool, length: Option<u64>) -> Option<Entry> {
        let name = path.strip_prefix(&self.prefix)?;
        // The prefix itself is among them.
        if name.is_empty() || name == "/" {
            return None;
        }
        plain(&self.request.url, name.strip_suffix('/').unwrap_or(name), directory, length)
    }
}

/// An entry whose name is plain; others are left out, and that is told in the log.
pub(super) fn plain(prefix: &Url, name: &str, directory: bool, length: Option<u64>) -> Option<Entry> {
    if !is_plain(name) {
        tracing::warn!(prefix = redact(prefix), ?name, "an entry is left out: its name would be taken for another");
        return None;
    }
    Some(Entry::new(name, below(prefix, name, directory), length, directory))
}
