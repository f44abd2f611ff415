//! A file of a repository.

use std::time::Duration;

use ::http::header::{self, HeaderMap};

use super::super::header::{text, validator};
use super::super::http::answer::{Asked, refuses_the_whole};
use super::super::http::{Reached, is_same_origin};
use super::super::{Opened, SourceError, SourceErrorKind, redact};
use super::reference::Reference;
use super::{Asking, api, failure};
use crate::task::Validator;

/// What the content behind a redirect has: its SHA-256, and its length in bytes.
const LINKED_ETAG: &str = "x-linked-etag";
const LINKED_SIZE: &str = "x-linked-size";

/// The longest entity tag that is taken for a version, in bytes.
const TAG_MAX: usize = 256;

/// How long what a commit names is fresh: it never changes, only who may read it does.
const FIXED_FRESH: Duration = Duration::from_secs(3600);

/// One attempt to open a file.
pub(super) async fn open(asking: &Asking<'_>, reference: &Reference) -> Result<Opened, SourceError> {
    let at = api::file(&asking.settings.endpoint, reference);
    let at = at.ok_or_else(|| asking.error(SourceErrorKind::InvalidInput, "it makes no URL at this endpoint"))?;
    let wanted = asking.request.range.clone();
    // Of what is known already one byte shows whether it is current still.
    let probe = asking.request.prior.is_some().then_some(Some(0..1));
    for (is_probe, range) in probe.map(|range| (true, range)).into_iter().chain([(false, wanted), (false, None)]) {
        let reached = asking.ask(at.clone(), range.clone()).await?;
        if !matches!(reached.response.status().as_u16(), 200 | 206 | 416) {
            return Err(failure::of_answer(asking, &reached));
        }
        let said = said(asking, &reached);
        let asked = Asked { request: asking.request, range, shown: redact(&asking.request.url) };
        let opened = match asking.shared.http.opened(&asked, reached, said.version) {
            // Another version than the one that is known, of which the first byte says nothing.
            Err(error) if is_probe && error.kind() == SourceErrorKind::Changed => continue,
            other => other?,
        };
        let Some(mut opened) = opened else { continue };
        let fixed = reference.commit().map(|_| FIXED_FRESH);
        match &mut opened {
            Opened::Content(_) if is_probe => continue,
            Opened::Content(content) => {
                if let (Some(said), Some(length)) = (said.length, content.length)
                    && said != length
                {
                    let what = format_args!("the hub says that it has {said} bytes, and {length} are sent");
                    return Err(asking.error(SourceErrorKind::Origin, what));
                }
                content.private |= asking.private;
                content.fresh = fixed.or(content.fresh);
            }
            Opened::Unchanged { fresh } => *fresh = fixed.or(*fresh),
        }
        return Ok(opened);
    }
    Err(refuses_the_whole(asking.request))
}

/// What a hub says of a file.
struct Said {
    version: Option<Validator>,
    length: Option<u64>,
}

/// What the hub itself says of the content that it sends us on to, else what comes with the content.
fn said(asking: &Asking<'_>, reached: &Reached) -> Said {
    let of_hub = |headers: &HeaderMap| {
        let tag = headers.get(LINKED_ETAG).and_then(|value| value.to_str().ok()).map(plain_tag)?;
        let size = headers.get(LINKED_SIZE).and_then(|value| value.to_str().ok()).and_then(|size| size.parse().ok());
        let known = api::sha256(tag).map(|digest| digest.to_string());
        let version = known.or_else(|| (1..=TAG_MAX).contains(&tag.len()).then(|| tag.to_owned()))?;
        Some(Said { version: Some(Validator::Version(version)), length: size })
    };
    // Where we were sent may say what it likes.
    let is_hub = |url| is_same_origin(url, &asking.settings.endpoint);
    let hops = reached.hops.iter().filter(|(url, _)| is_hub(url)).map(|(_, headers)| headers);
    let last = Some(reached.response.headers()).filter(|_| is_hub(&reached.url));
    if let Some(said) = hops.chain(last).find_map(of_hub) {
        return said;
    }
    let headers = reached.response.headers();
    // The name that git has for content: as good where a proxy on the way made a weak tag of it.
    let of_git = text(headers, &header::ETAG).map(plain_tag).filter(|tag| super::reference::is_commit(tag));
    let version = match (of_git.filter(|_| is_hub(&reached.url)), validator(headers)) {
        (Some(tag), _) => Some(tag.to_owned()),
        (None, Some(Validator::Etag(tag))) => Some(tag),
        (None, Some(Validator::LastModified(date))) => Some(date),
        (None, Some(Validator::Version(_)) | None) => None,
    };
    Said { version: version.map(Validator::Version), length: None }
}

/// An entity tag without its quotes.
fn plain_tag(tag: &str) -> &str {
    let tag = tag.trim();
    tag.strip_prefix("W/").unwrap_or(tag).trim_matches('"')
}
