//! A directory of a repository.

use std::collections::BTreeSet;

use ::http::header::LINK;
use url::Url;

use super::super::http::{Reached, is_same_origin, short};
use super::super::list::is_plain;
use super::super::{Entry, SourceError, SourceErrorKind, redact};
use super::api::{self, Item};
use super::reference::{Reference, Repo, is_commit};
use super::{Asking, Hub, failure};

/// The longest page of a list, in bytes: Hugging Face has 1000 entries on one, ModelScope 3000, some hundred bytes each.
const PAGE_MAX: usize = 16 << 20;

/// The most entries of a directory: they are held in memory.
const ENTRIES_MAX: usize = 200_000;

/// The most pages of a directory.
const PAGES_MAX: usize = 2000;

/// One attempt to list what is directly below a directory. A branch is looked up once: what is listed is of one commit.
pub(super) async fn list(asking: &Asking<'_>, reference: &Reference) -> Result<Vec<Entry>, SourceError> {
    let revision = commit(asking, reference).await?;
    let endpoint = &asking.settings.endpoint;
    let (mut all, mut seen) = (Vec::new(), BTreeSet::new());
    let mut next = Some(url(asking, api::tree(endpoint, reference, &revision, 1))?);
    let (mut pages, mut last) = (0, Last::default());
    while let Some(page) = next.take() {
        pages += 1;
        if pages > PAGES_MAX {
            return Err(asking.error(SourceErrorKind::Origin, format_args!("the list has more than {PAGES_MAX} pages")));
        }
        let (bytes, reached_next) = match read(asking, page).await {
            // A server need not have a page after the last.
            Err(error) if pages > 1 && last.may_be() && is_no_page(&error) => break,
            read => read?,
        };
        let items = api::items(reference.hub, &bytes).map_err(|what| asking.error(SourceErrorKind::Origin, what))?;
        let count = items.len();
        let before = seen.len();
        for item in items {
            if seen.insert(item.path.clone()) {
                all.extend(entry(reference, &revision, item));
            }
        }
        if seen.len() > ENTRIES_MAX {
            let what = format_args!("the directory has more than {ENTRIES_MAX} entries");
            return Err(asking.error(SourceErrorKind::Origin, what));
        }
        if reached_next.is_some() && seen.len() == before {
            // It may name itself as the next; and what is cut off there must not pass for the whole.
            return Err(asking.error(SourceErrorKind::Origin, "the list goes on after a page with nothing new"));
        }
        next = reached_next;
        // A page is as long as the server likes: where they are numbered one with nothing new is after the last. A server
        // that knows no pages sends the first one again.
        let numbered = reference.hub == Hub::ModelScope && reference.repo == Repo::Datasets;
        if numbered && seen.len() > before {
            last = Last { short: count < api::PAGE, total: api::total(&bytes), seen: seen.len() as u64 };
            if last.is_said() {
                break;
            }
            next = Some(url(asking, api::tree(endpoint, reference, &revision, pages + 1))?);
        }
        if reference.hub == Hub::ModelScope && !numbered && count >= api::TRUNCATED {
            let what = format_args!("the directory has {count} entries or more, and the hub does not list them all");
            return Err(asking.error(SourceErrorKind::Origin, what));
        }
    }
    Ok(all)
}

/// What tells whether a numbered page is the last.
#[derive(Default)]
struct Last {
    /// It has fewer entries than were asked for.
    short: bool,
    /// Entries on all pages, as the server says.
    total: Option<u64>,
    /// Entries on all pages so far.
    seen: u64,
}

impl Last {
    /// Nothing speaks against it.
    fn may_be(&self) -> bool {
        self.short && self.total.is_none_or(|total| self.seen >= total)
    }

    /// The server says so. A total alone does not count: what it is of nobody knows.
    fn is_said(&self) -> bool {
        self.may_be() && self.total.is_some()
    }
}

/// Whether the answer is that there is no such page, and not one about who asks or how often.
fn is_no_page(error: &SourceError) -> bool {
    matches!(error.status(), Some(400 | 404 | 410 | 416 | 422))
}

/// The commit that is listed. ModelScope names none for a branch: there it is the digest of each file that tells.
async fn commit(asking: &Asking<'_>, reference: &Reference) -> Result<String, SourceError> {
    if reference.hub == Hub::ModelScope || reference.commit().is_some() {
        return Ok(reference.revision().to_owned());
    }
    let at = url(asking, api::revision(&asking.settings.endpoint, reference))?;
    let (bytes, _) = read(asking, at).await?;
    let found: api::Revision = serde_json::from_slice(&bytes).map_err(|cause| {
        let what = format_args!("what the hub says of the revision is {}", short::malformed(&cause));
        asking.error(SourceErrorKind::Origin, what)
    })?;
    if !is_commit(&found.sha) {
        return Err(asking.error(SourceErrorKind::Origin, "the hub names a commit that is none"));
    }
    Ok(found.sha)
}

fn url(asking: &Asking<'_>, url: Option<Url>) -> Result<Url, SourceError> {
    url.ok_or_else(|| asking.error(SourceErrorKind::InvalidInput, "it makes no URL at this endpoint"))
}

/// An answer of the API, and where the next page is.
async fn read(asking: &Asking<'_>, at: Url) -> Result<(Vec<u8>, Option<Url>), SourceError> {
    let reached = asking.ask(at, None).await?;
    if reached.response.status().as_u16() != 200 {
        return Err(failure::of_answer(asking, &reached));
    }
    let Reached { url, response, .. } = reached;
    let link = response.headers().get(LINK).and_then(|value| value.to_str().ok());
    // Where a redirect led may be elsewhere, and the list must not go on there with this host's token.
    let endpoint = &asking.settings.endpoint;
    let next = match link.and_then(|link| api::next(link, &url)) {
        Some(Some(next)) if !is_same_origin(&next, endpoint) => {
            return Err(asking.error(SourceErrorKind::Guarded, "the list goes on at another server"));
        }
        Some(None) => return Err(asking.error(SourceErrorKind::Guarded, "the list goes on at another server")),
        Some(next) => next,
        None => None,
    };
    let read = short::read(&asking.shared.http, response, PAGE_MAX).await;
    let bytes = read.map_err(|error| error.of(format_args!("{}: {}", redact(&asking.request.url), redact(&url))))?;
    Ok((bytes, next))
}

/// The entry for an item; absent if it is not below, or its name is not a plain one.
fn entry(reference: &Reference, revision: &str, item: Item) -> Option<Entry> {
    let prefix = if reference.path.is_empty() { String::new() } else { format!("{}/", reference.path) };
    let below = item.path.strip_prefix(&prefix).filter(|below| below.split('/').all(is_plain));
    let Some(below) = below else {
        tracing::warn!(path = ?item.path.chars().take(200).collect::<String>(), "an entry is left out: its name would \
                        be taken for another");
        return None;
    };
    let url = reference.url_of(revision, &item.path, item.directory)?;
    let mut entry = Entry::new(below, url, item.length, item.directory);
    (entry.digest, entry.git_blob, entry.pinned) = (item.digest, item.git_blob, true);
    Some(entry)
}
