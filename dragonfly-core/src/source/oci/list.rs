//! An image as the files of its layout.

use std::collections::BTreeMap;

use url::Url;

use super::super::{Entry, SourceError, SourceErrorKind};
use super::Asking;
use super::image::{self, Descriptor, LAYOUT};
use super::open::{DEPTH_MAX, Top, Wanted, digest_of, manifest, top};
use super::reference::{INDEX_FILE, LAYOUT_FILE, Reference};
use crate::task::{Algorithm, Digest};

/// The most blobs of an image, manifests included: images have at most 127 layers, times platforms.
const BLOBS_MAX: usize = 20_000;

/// The most manifests that are read of an image: one for each platform, and what is said about each.
const MANIFESTS_MAX: usize = 512;

/// One attempt to list an image: every file of its layout. A tag is looked up once; all else is named by digest.
pub(super) async fn list(asking: &Asking<'_>, reference: &Reference) -> Result<Vec<Entry>, SourceError> {
    let top = top(asking, reference).await?;
    let digest = top.descriptor.digest.clone();
    let index = image::layout_index(&top.descriptor, reference.tag.as_deref());
    let mut found = Blobs { asking, sizes: BTreeMap::new(), manifests: 0 };
    found.walk(top).await?;
    let root = &asking.request.url;
    let file = |name: &str, bytes: &[u8]| {
        let tag = reference.tag.as_ref().map_or(String::new(), |tag| format!(":{tag}"));
        let url = with_path(root, &format!("{}{tag}@{digest}/{name}", reference.repository));
        pinned(Entry::new(name, url, Some(bytes.len() as u64), false), digest_of(Algorithm::Sha256, bytes))
    };
    let blob = |(digest, size): (&Digest, &u64)| {
        let path = format!("blobs/{}", digest.to_string().replacen(':', "/", 1));
        let url = with_path(root, &format!("{}@{digest}", reference.repository));
        pinned(Entry::new(path, url, Some(*size), false), digest.clone())
    };
    let mut entries = vec![file(LAYOUT_FILE, LAYOUT.as_bytes())];
    entries.extend(found.sizes.iter().map(blob));
    entries.push(file(INDEX_FILE, &index));
    Ok(entries)
}

/// An entry whose content has this digest, whatever becomes of the tag.
fn pinned(entry: Entry, digest: Digest) -> Entry {
    Entry { digest: Some(digest), pinned: true, ..entry }
}

fn with_path(root: &Url, path: &str) -> Url {
    let mut url = root.clone();
    url.set_query(None);
    url.set_path(path);
    url
}

/// What was found below a manifest, itself included.
struct Blobs<'a> {
    asking: &'a Asking<'a>,
    sizes: BTreeMap<Digest, u64>,
    manifests: usize,
}

impl Blobs<'_> {
    async fn walk(&mut self, top: Top) -> Result<(), SourceError> {
        self.add(&top.descriptor)?;
        let mut level = self.take(&top)?;
        for _ in 0..DEPTH_MAX {
            if level.is_empty() {
                return Ok(());
            }
            let mut next = Vec::new();
            for part in level {
                self.manifests += 1;
                if self.manifests > MANIFESTS_MAX {
                    return Err(self.too_much(format_args!("more than {MANIFESTS_MAX} manifests")));
                }
                next.extend(self.take(&manifest(self.asking, &Wanted::Part(&part)).await?)?);
            }
            level = next;
        }
        if level.is_empty() { Ok(()) } else { Err(self.too_much(format_args!("manifests that are too deep"))) }
    }

    /// Notes what a manifest names; those that are manifests themselves and new are left to be read.
    fn take(&mut self, of: &Top) -> Result<Vec<Descriptor>, SourceError> {
        let mut manifests = Vec::new();
        for one in of.manifest.descriptors().iter().filter(|one| !one.elsewhere) {
            if self.add(one)? && one.is_manifest() {
                manifests.push(one.clone());
            }
        }
        Ok(manifests)
    }

    /// Notes a blob; whether it is new.
    fn add(&mut self, one: &Descriptor) -> Result<bool, SourceError> {
        match self.sizes.insert(one.digest.clone(), one.size) {
            None if self.sizes.len() > BLOBS_MAX => Err(self.too_much(format_args!("more than {BLOBS_MAX} blobs"))),
            None => Ok(true),
            Some(size) if size == one.size => Ok(false),
            Some(size) => {
                let sizes = format_args!("{size} and {} bytes", one.size);
                let what = format!("two manifests disagree on the size of {}: {sizes}", one.digest);
                Err(self.asking.error(SourceErrorKind::Origin, what))
            }
        }
    }

    fn too_much(&self, what: std::fmt::Arguments<'_>) -> SourceError {
        self.asking.error(SourceErrorKind::Origin, format_args!("the image has {what}"))
    }
}
