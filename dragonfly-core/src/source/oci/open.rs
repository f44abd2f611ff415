//! Content by its digest, and manifests by their tags.

use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt, stream};

use super::super::http::answer::{Asked, refuses_the_whole};
use super::super::http::short;
use super::super::storage::{content, settled};
use super::super::{Opened, SourceError, SourceErrorKind, redact};
use super::image::{self, ACCEPT, Descriptor, LAYOUT, MANIFEST_MAX, Manifest};
use super::reference::{Part, Reference};
use super::{Asking, failure};
use crate::task::{Algorithm, Digest, DigestHasher, Validator};

/// How deep indexes are within indexes; real ones are one deep.
pub(super) const DEPTH_MAX: usize = 4;

/// How long what a digest names is fresh: it never changes, only who may read it does.
const FIXED_FRESH: Duration = Duration::from_secs(3600);

/// The most platforms that an error names.
const PLATFORMS_SHOWN_MAX: usize = 16;

/// One attempt to open what a reference names.
pub(super) async fn open(asking: &Asking<'_>, reference: &Reference) -> Result<Opened, SourceError> {
    if let Some(digest) = reference.fixed() {
        // A tag beside it says that it is a manifest.
        let blob = if reference.tag.is_some() { None } else { open_blob(asking, digest).await? };
        if let Some(opened) = blob {
            return Ok(opened);
        }
    }
    let top = top(asking, reference).await?;
    let (bytes, fixed) = match reference.part {
        Part::Itself => (top.bytes, reference.digest.is_some()),
        Part::Index => {
            let index = image::layout_index(&top.descriptor, reference.tag.as_deref());
            (index.into(), reference.digest.is_some())
        }
        Part::Layout => (Bytes::from_static(LAYOUT.as_bytes()), true),
    };
    held(asking, bytes, fixed.then_some(FIXED_FRESH).or(top.fresh), top.private)
}

/// A blob; absent if the repository has none with this digest.
async fn open_blob(asking: &Asking<'_>, digest: &Digest) -> Result<Option<Opened>, SourceError> {
    let version = Validator::Version(digest.to_string());
    let known = asking.request.prior.as_ref() == Some(&version);
    // Of what is known already one byte shows that it may be read still.
    let range = if known { Some(0..1) } else { asking.request.range.clone() };
    let path = format!("blobs/{digest}");
    for range in [range.clone(), None] {
        let reached = asking.ask(&path, None, range.clone()).await?;
        let status = reached.response.status().as_u16();
        if status == 404 {
            return Ok(None);
        }
        if !matches!(status, 200 | 206 | 416) {
            return Err(failure::of_answer(&asking.shared.http, asking.request, asking.asker, reached).await);
        }
        let asked = Asked { request: asking.request, range, shown: redact(&asking.request.url) };
        let Some(mut opened) = asking.shared.http.opened(&asked, reached, Some(version.clone()))? else { continue };
        match &mut opened {
            Opened::Content(content) => {
                content.private |= asking.private;
                content.fresh = Some(FIXED_FRESH);
            }
            Opened::Unchanged { fresh } => *fresh = Some(FIXED_FRESH),
        }
        return Ok(Some(opened));
    }
    Err(refuses_the_whole(asking.request))
}

/// What is had in whole, as content: its version is its digest.
fn held(asking: &Asking<'_>, bytes: Bytes, fresh: Option<Duration>, private: bool) -> Result<Opened, SourceError> {
    let version = Validator::Version(digest_of(Algorithm::Sha256, &bytes).to_string());
    let shown = redact(&asking.request.url);
    let length = bytes.len() as u64;
    let Some(shape) = settled(asking.request, length, Some(&version), &shown)? else {
        return Ok(Opened::Unchanged { fresh });
    };
    // Within the length, which is that of memory.
    let (from, to) = (shape.offset as usize, (shape.offset + shape.body_length.unwrap_or(0)) as usize);
    let body = stream::iter((from < to).then(|| Ok(bytes.slice(from..to)))).boxed();
    let mut content = content(body, shape, Some(version), private);
    content.fresh = fresh;
    Ok(Opened::Content(content))
}

/// A manifest that was read and proven.
pub(super) struct Top {
    pub(super) descriptor: Descriptor,
    pub(super) bytes: Bytes,
    pub(super) manifest: Manifest,
    fresh: Option<Duration>,
    private: bool,
}

/// The manifest that a reference names, for its platform if it names one.
pub(super) async fn top(asking: &Asking<'_>, reference: &Reference) -> Result<Top, SourceError> {
    let wanted = match (&reference.digest, &reference.tag) {
        (Some(digest), _) => Wanted::Digest(digest),
        (None, Some(tag)) => Wanted::Tag(tag),
        (None, None) => return Err(asking.error(SourceErrorKind::InvalidInput, "it names neither a tag nor a digest")),
    };
    let mut top = manifest(asking, &wanted).await?;
    let Some(platform) = &reference.platform else { return Ok(top) };
    for _ in 0..DEPTH_MAX {
        let Manifest::Index(all) = &top.manifest else { break };
        let fits = |one: &&Descriptor| one.platform.as_ref().is_some_and(|of| of.is_one_of(platform));
        // An index within is looked at where none of its neighbours fits: it need not say what it is for.
        let within = |one: &&Descriptor| one.platform.is_none() && one.is_manifest();
        let Some(found) = all.iter().find(fits).or_else(|| all.iter().find(within)) else {
            let shown = all.iter().filter_map(|one| one.platform.as_ref()).take(PLATFORMS_SHOWN_MAX);
            let shown = shown.map(ToString::to_string).collect::<Vec<_>>().join(", ");
            let what = format!("the image is not there for {platform}, but for: {shown}");
            return Err(asking.error(SourceErrorKind::NotFound, what));
        };
        top = manifest(asking, &Wanted::Part(found)).await?;
    }
    match top.manifest {
        Manifest::Image(_) => Ok(top),
        Manifest::Index(_) => Err(asking.error(SourceErrorKind::Origin, "its indexes are too deep within each other")),
    }
}

/// What a manifest is named by.
pub(super) enum Wanted<'a> {
    Digest(&'a Digest),
    /// Another manifest has it.
    Part(&'a Descriptor),
    Tag(&'a str),
}

/// Reads a manifest whole, and proves it.
pub(super) async fn manifest(asking: &Asking<'_>, wanted: &Wanted<'_>) -> Result<Top, SourceError> {
    let (named, digest) = match wanted {
        Wanted::Digest(digest) => (digest.to_string(), Some(*digest)),
        Wanted::Part(part) => (part.digest.to_string(), Some(&part.digest)),
        Wanted::Tag(tag) => ((*tag).to_owned(), None),
    };
    let reached = asking.ask(&format!("manifests/{named}"), Some(ACCEPT), None).await?;
    if reached.response.status().as_u16() != 200 {
        return Err(failure::of_answer(&asking.shared.http, asking.request, asking.asker, reached).await);
    }
    let broken = |what: String| asking.error(SourceErrorKind::Origin, what);
    let head = reached.response.headers().get(::http::header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let head = head.map(str::to_owned);
    if head.as_deref().is_some_and(|head| head.starts_with("text/html")) {
        return Err(broken("it answers with a page for people, not as a registry does".to_owned()));
    }
    let (fresh, private) = (reached.caching.fresh, reached.caching.private || asking.private);
    let read = short::read(&asking.shared.http, reached.response, MANIFEST_MAX).await;
    let bytes = Bytes::from(
        read.map_err(|error| error.of(format_args!("{}: the manifest {named}", redact(&asking.request.url))))?,
    );
    let algorithm = digest.map_or(Algorithm::Sha256, |digest| digest.algorithm());
    let found = digest_of(algorithm, &bytes);
    if digest.is_some_and(|digest| *digest != found) {
        return Err(broken(format!("the registry sends something else in place of {named}")));
    }
    let media_type = image::media_type(head.as_deref(), &bytes).map_err(broken)?;
    if let Wanted::Part(part) = wanted {
        let length = bytes.len();
        if part.size != length as u64 {
            return Err(broken(format!("{named} has {length} bytes, and not {} as its index says", part.size)));
        }
        if part.media_type != media_type {
            return Err(broken(format!("{named} is {media_type}, and not {} as its index says", part.media_type)));
        }
    }
    let manifest = image::read(&media_type, &bytes).map_err(broken)?;
    let size = bytes.len() as u64;
    let descriptor = Descriptor { media_type, digest: found, size, platform: None, elsewhere: false };
    Ok(Top { descriptor, bytes, manifest, fresh, private })
}

pub(super) fn digest_of(algorithm: Algorithm, bytes: &[u8]) -> Digest {
    let mut hasher = DigestHasher::new(algorithm);
    hasher.update(bytes);
    hasher.finish()
}
