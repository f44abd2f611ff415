//! What a URL names: `oci://HOST[:PORT]/REPOSITORY[:TAG][@DIGEST][/PART][?platform=OS/ARCHITECTURE[/VARIANT]]`.

use std::fmt;

use url::Url;

use super::super::storage::is_plain_authority;
use super::super::{SourceError, SourceErrorKind, is_repository, is_tag, redact};
use crate::task::{Algorithm, Digest};

/// The tag of who names none, as for other clients of registries.
const TAG_DEFAULT: &str = "latest";

/// The longest part of a platform's name, in bytes: real ones have a dozen.
const PLATFORM_PART_MAX: usize = 64;

/// The file of a layout that holds what is not in it as a blob.
pub(super) const INDEX_FILE: &str = "index.json";

/// The file of a layout that says that it is one.
pub(super) const LAYOUT_FILE: &str = "oci-layout";

/// What a URL names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Reference {
    /// The registry as in the URL, with its port if it has one.
    pub(super) authority: String,
    pub(super) repository: String,
    pub(super) tag: Option<String>,
    pub(super) digest: Option<Digest>,
    pub(super) part: Part,
    /// Which image of several.
    pub(super) platform: Option<Platform>,
}

/// Which part of an image is meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// What the digest or the tag names.
    Itself,
    /// `index.json` of its layout.
    Index,
    /// `oci-layout` of its layout.
    Layout,
}

impl Reference {
    /// Reads the URL of an object, or of what is listed (which may end in a slash).
    pub(super) fn of(url: &Url, prefix: bool) -> Result<Self, SourceError> {
        let wrong = |what: &str| SourceError::new(SourceErrorKind::InvalidInput, format!("{}: {what}", redact(url)));
        let host = url.host_str().unwrap_or_default();
        if host.is_empty() || !is_plain_authority(url, host) || host.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return Err(wrong("wanted oci://HOST[:PORT]/REPOSITORY:TAG, the host in lower case"));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(wrong("the URL of an image has no user: credentials are settings of the registry"));
        }
        if url.fragment().is_some() {
            return Err(wrong("the URL of an image has no fragment"));
        }
        let platform = platform(url).map_err(&wrong)?;
        let path = url.path().strip_prefix('/').unwrap_or(url.path());
        let path = if prefix { path.strip_suffix('/').unwrap_or(path) } else { path };
        let (repository, rest) = path.split_at(path.find([':', '@']).unwrap_or(path.len()));
        let (reference, part) = match rest.split_once('/') {
            Some((reference, part)) => (reference, Some(part)),
            None => (rest, None),
        };
        let (tag, digest) = match reference.split_once('@') {
            Some((tag, digest)) => (tag, Some(digest)),
            None => (reference, None),
        };
        let repository = full_name(host, repository);
        if !is_repository(&repository) {
            return Err(wrong("no repository has this name (lower-case letters, digits and .-_/)"));
        }
        let tag = tag.strip_prefix(':').map(str::to_owned);
        if tag.as_ref().is_some_and(|tag| !is_tag(tag)) {
            return Err(wrong("no tag is like this one (letters, digits and .-_, 128 at most)"));
        }
        let what = "wanted @sha256: or @sha512: and hexadecimal digits in lower case";
        let digest = digest.map(|text| content_digest(text).ok_or_else(|| wrong(what))).transpose()?;
        let tag = tag.or_else(|| digest.is_none().then(|| TAG_DEFAULT.to_owned()));
        let port = url.port().map_or(String::new(), |port| format!(":{port}"));
        let whole = Self { authority: format!("{host}{port}"), repository, tag, digest, part: Part::Itself, platform };
        whole.part(part).ok_or_else(|| wrong("an image has the parts oci-layout, index.json and blobs/ALGORITHM/HEX"))
    }

    /// A part of it; absent if there is none of this name.
    fn part(mut self, name: Option<&str>) -> Option<Self> {
        self.part = match name {
            None => Part::Itself,
            Some(INDEX_FILE) => Part::Index,
            Some(LAYOUT_FILE) => Part::Layout,
            Some(name) => {
                let blob = content_digest(&name.strip_prefix("blobs/")?.replacen('/', ":", 1))?;
                (self.tag, self.digest, self.platform) = (None, Some(blob), None);
                Part::Itself
            }
        };
        Some(self)
    }

    /// The digest by which content is named, whole.
    pub(super) fn fixed(&self) -> Option<&Digest> {
        self.digest.as_ref().filter(|_| self.part == Part::Itself && self.platform.is_none())
    }
}

/// The platform in a query.
fn platform(url: &Url) -> Result<Option<Platform>, &'static str> {
    let mut platform = None;
    for (name, value) in url.query_pairs() {
        if name != "platform" || platform.is_some() {
            return Err("the URL of an image has no query but ?platform=OS/ARCHITECTURE[/VARIANT], once");
        }
        platform = Some(Platform::of(&value).ok_or("wanted ?platform=OS/ARCHITECTURE[/VARIANT], as in linux/amd64")?);
    }
    Ok(platform)
}

/// Docker Hub's own images are of `library`, which nobody writes.
fn full_name(host: &str, repository: &str) -> String {
    let short = super::is_docker_hub(host) && !repository.contains('/');
    if short { format!("library/{repository}") } else { repository.to_owned() }
}

/// A digest that names content, written as registries write it.
pub(super) fn content_digest(text: &str) -> Option<Digest> {
    let digest: Digest = text.parse().ok()?;
    let strong = matches!(digest.algorithm(), Algorithm::Sha256 | Algorithm::Sha512);
    (strong && digest.to_string() == text).then_some(digest)
}

/// What an image is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Platform {
    pub(super) os: String,
    pub(super) architecture: String,
    pub(super) variant: Option<String>,
}

impl Platform {
    /// Reads `OS/ARCHITECTURE[/VARIANT]`.
    fn of(text: &str) -> Option<Self> {
        let mut parts = text.split('/').map(|part| is_plain(part).then(|| part.to_owned()));
        let (os, architecture, variant) = (parts.next()??, parts.next()??, parts.next());
        let platform = Self { os, architecture, variant: variant.map_or(Some(None), |found| found.map(Some))? };
        parts.next().is_none().then_some(platform)
    }

    /// One of an index; absent if it is not plain.
    pub(super) fn new(os: &str, architecture: &str, variant: Option<&str>) -> Option<Self> {
        let plain = |text: &str| is_plain(text).then(|| text.to_owned());
        let variant = variant.filter(|variant| !variant.is_empty()).map(plain);
        Some(Self {
            os: plain(os)?,
            architecture: plain(architecture)?,
            variant: variant.map_or(Some(None), |v| v.map(Some))?,
        })
    }

    /// Whether an image for `self` is one of those that are asked for.
    pub(super) fn is_one_of(&self, asked: &Self) -> bool {
        (&self.os, &self.architecture) == (&asked.os, &asked.architecture)
            && (asked.variant.is_none() || asked.variant == self.variant)
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        self.variant.as_ref().map_or(Ok(()), |variant| write!(f, "/{variant}"))
    }
}

fn is_plain(part: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    (1..=PLATFORM_PART_MAX).contains(&part.len()) && part.bytes().all(plain)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn of(text: &str) -> Result<Reference, SourceError> {
        Reference::of(&Url::parse(text).unwrap(), false)
    }

    #[test]
    fn urls_are_read() {
        let hex = "0".repeat(64);
        let digest = content_digest(&format!("sha256:{hex}"));
        let base = Reference {
            authority: "h:5000".to_owned(),
            repository: "a/b".to_owned(),
            tag: Some("v1".to_owned()),
            digest: None,
            part: Part::Itself,
            platform: None,
        };
        let pinned = Reference { digest: digest.clone(), ..base.clone() };
        let alone = Reference { tag: None, ..pinned.clone() };
        let arm = Platform { os: "linux".to_owned(), architecture: "arm".to_owned(), variant: Some("v7".to_owned()) };
        for (url, wanted) in [
            ("oci://h:5000/a/b:v1", base.clone()),
            ("oci://h:5000/a/b", Reference { tag: Some("latest".to_owned()), ..base.clone() }),
            (&format!("oci://h:5000/a/b@sha256:{hex}"), alone.clone()),
            (&format!("oci://h:5000/a/b:v1@sha256:{hex}"), pinned.clone()),
            ("oci://h:5000/a/b:v1/index.json", Reference { part: Part::Index, ..base.clone() }),
            (&format!("oci://h:5000/a/b:v1@sha256:{hex}/oci-layout"), Reference { part: Part::Layout, ..pinned }),
            (&format!("oci://h:5000/a/b:v1/blobs/sha256/{hex}"), alone),
            ("oci://h:5000/a/b:v1?platform=linux/arm/v7", Reference { platform: Some(arm.clone()), ..base.clone() }),
            ("oci://h:5000/a/b:v1?platform=linux%2Farm%2Fv7", Reference { platform: Some(arm), ..base }),
        ] {
            assert_eq!(of(url).unwrap(), wanted, "{url}");
        }
        let directory = Url::parse("oci://h/a:v1/").unwrap();
        assert!(Reference::of(&directory, true).is_ok() && Reference::of(&directory, false).is_err());
        assert_eq!(of("oci://docker.io/alpine:3").unwrap().repository, "library/alpine");
        assert_eq!(of("oci://127.0.0.1:5000/alpine:3").unwrap().repository, "alpine");
    }

    #[test]
    fn what_no_image_is_called_is_refused() {
        let hex = "0".repeat(64);
        for wrong in [
            "oci:///a:v1",
            "oci://h",
            "oci://h/",
            "oci://h/:v1",
            "oci://H/a:v1",
            "oci://h/A:v1",
            "oci://h/a//b:v1",
            "oci://h/a%2Fb:v1",
            "oci://h/a:.v1",
            "oci://h/a:v1:v2",
            "oci://h/a:",
            "oci://h/a@",
            "oci://h/a@sha256:00",
            &format!("oci://h/a@sha256:{}", "A".repeat(64)),
            &format!("oci://h/a@md5:{}", "0".repeat(32)),
            &format!("oci://h/a@sha256:{hex}@sha256:{hex}"),
            "oci://h/a:v1/other",
            "oci://h/a:v1/blobs/sha256",
            "oci://h/a:v1/blobs/sha256/../x",
            "oci://user:secret@h/a:v1",
            "oci://h/a:v1#x",
            "oci://h/a:v1?x=y",
            "oci://h/a:v1?platform=linux",
            "oci://h/a:v1?platform=linux/arm/v7/x",
            "oci://h/a:v1?platform=linux/a%0a",
            "oci://h$(x)/a:v1",
        ] {
            let Ok(url) = Url::parse(wrong) else { continue };
            let error = Reference::of(&url, false).map(|_| wrong).unwrap_err();
            assert_eq!(error.kind(), SourceErrorKind::InvalidInput, "{wrong}");
            assert!(!format!("{error:?}").contains("secret"), "{error:?}");
        }
    }
}
