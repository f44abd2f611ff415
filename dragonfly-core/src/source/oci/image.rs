//! Manifests and indexes of images and artifacts: OCI's and Docker's, and the layout that an image is put into.

use serde::{Deserialize, Serialize};

use super::super::http::short::malformed;
use super::reference::{Platform, content_digest};
use crate::task::Digest;

/// The largest manifest or index, in bytes: registries take no larger ones.
pub(super) const MANIFEST_MAX: usize = 4 << 20;

/// What a manifest is asked for as.
pub(super) const ACCEPT: &str = "application/vnd.oci.image.index.v1+json, \
    application/vnd.oci.image.manifest.v1+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, \
    application/vnd.docker.distribution.manifest.v2+json, \
    application/vnd.oci.artifact.manifest.v1+json";

/// `oci-layout` (OCI image specification, Image layout).
pub(super) const LAYOUT: &str = r#"{"imageLayoutVersion":"1.0.0"}"#;

const INDEX_TYPE: &str = "application/vnd.oci.image.index.v1+json";

const INDEXES: [&str; 2] = [INDEX_TYPE, "application/vnd.docker.distribution.manifest.list.v2+json"];

const IMAGES: [&str; 3] = [
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.oci.artifact.manifest.v1+json",
];

/// The longest media type, in bytes (RFC 6838, 4.2: 127 for each half).
const TYPE_MAX: usize = 255;

/// How a media type begins of what is had from elsewhere, not from the registry.
const ELSEWHERE: [&str; 2] =
    ["application/vnd.docker.image.rootfs.foreign.", "application/vnd.oci.image.layer.nondistributable."];

/// What something is that is named by its digest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Descriptor {
    pub(super) media_type: String,
    pub(super) digest: Digest,
    pub(super) size: u64,
    pub(super) platform: Option<Platform>,
    /// The registry need not have it: it says where else it is.
    pub(super) elsewhere: bool,
}

impl Descriptor {
    /// Whether there are more descriptors in it.
    pub(super) fn is_manifest(&self) -> bool {
        is_index(&self.media_type) || IMAGES.contains(&self.media_type.as_str())
    }
}

/// What a manifest names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Manifest {
    /// Configuration and layers of an image, or the parts of an artifact.
    Image(Vec<Descriptor>),
    /// Manifests, of an image for several platforms.
    Index(Vec<Descriptor>),
}

impl Manifest {
    pub(super) fn descriptors(&self) -> &[Descriptor] {
        match self {
            Self::Image(all) | Self::Index(all) => all,
        }
    }
}

/// Reads a manifest of a media type that is known.
///
/// # Errors
/// What is wrong with it.
pub(super) fn read(media_type: &str, bytes: &[u8]) -> Result<Manifest, String> {
    let raw: Raw = serde_json::from_slice(bytes).map_err(|cause| format!("the manifest is {}", malformed(&cause)))?;
    if raw.schema_version != 2 {
        return Err(format!("the manifest has the version {}, and only 2 is read", raw.schema_version));
    }
    // Who names one thing in the head and another in the body is understood differently by different programs.
    if raw.media_type.as_deref().is_some_and(|inner| inner != media_type) {
        return Err("the manifest contradicts itself on what it is".to_owned());
    }
    let of_image = raw.config.is_some() || raw.layers.is_some() || raw.blobs.is_some();
    if is_index(media_type) == of_image || raw.manifests.is_some() == of_image {
        return Err("the manifest is both an image and an index, or neither".to_owned());
    }
    let all = [raw.config.map(|config| vec![config]), raw.layers, raw.blobs, raw.manifests];
    let all = all.into_iter().flatten().flatten().map(descriptor).collect::<Result<_, String>>()?;
    Ok(if of_image { Manifest::Image(all) } else { Manifest::Index(all) })
}

/// The media type of a manifest: what the head of an answer says, else what the manifest says itself.
///
/// # Errors
/// It is none that can be read.
pub(super) fn media_type(head: Option<&str>, bytes: &[u8]) -> Result<String, String> {
    let head = head.map(|text| text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase());
    // Servers of files, which know no media types.
    let vague = ["", "application/json", "application/octet-stream", "text/plain"];
    let found = match head.filter(|head| !vague.contains(&head.as_str())) {
        Some(head) => head,
        None => serde_json::from_slice::<Raw>(bytes).ok().and_then(|raw| raw.media_type).unwrap_or_default(),
    };
    if is_index(&found) || IMAGES.contains(&found.as_str()) {
        return Ok(found);
    }
    let plain = is_media_type(&found);
    Err(format!("its media type is not supported: {}", if plain { &found } else { "(none)" }))
}

/// `index.json` of a layout with one image (or with what else a manifest describes) in it.
pub(super) fn layout_index(top: &Descriptor, tag: Option<&str>) -> Vec<u8> {
    let annotations = tag.map(|name| Annotations { name });
    let top = Written { media_type: &top.media_type, digest: top.digest.to_string(), size: top.size, annotations };
    let index = WrittenIndex { schema_version: 2, media_type: INDEX_TYPE, manifests: [top] };
    // Of structures without maps it cannot fail.
    serde_json::to_vec(&index).unwrap_or_default()
}

fn is_index(media_type: &str) -> bool {
    INDEXES.contains(&media_type)
}

fn is_media_type(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$&-^_.+/".contains(&byte);
    (1..=TYPE_MAX).contains(&text.len()) && text.bytes().all(plain)
}

fn descriptor(raw: RawDescriptor) -> Result<Descriptor, String> {
    let digest = content_digest(&raw.digest).ok_or("the manifest names a digest that is none")?;
    if !is_media_type(&raw.media_type) {
        return Err(format!("the media type of {digest} is none"));
    }
    let size = u64::try_from(raw.size).map_err(|_| format!("the size of {digest} is none: {}", raw.size))?;
    let platform = raw.platform.and_then(|p| Platform::new(&p.os, &p.architecture, p.variant.as_deref()));
    let elsewhere =
        !raw.urls.unwrap_or_default().is_empty() || ELSEWHERE.iter().any(|prefix| raw.media_type.starts_with(prefix));
    Ok(Descriptor { media_type: raw.media_type, digest, size, platform, elsewhere })
}

#[derive(Deserialize)]
struct Raw {
    #[serde(rename = "schemaVersion", default)]
    schema_version: i64,
    #[serde(rename = "mediaType")]
    media_type: Option<String>,
    config: Option<RawDescriptor>,
    layers: Option<Vec<RawDescriptor>>,
    blobs: Option<Vec<RawDescriptor>>,
    manifests: Option<Vec<RawDescriptor>>,
}

#[derive(Deserialize)]
struct RawDescriptor {
    #[serde(rename = "mediaType")]
    media_type: String,
    digest: String,
    size: i64,
    platform: Option<RawPlatform>,
    urls: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct RawPlatform {
    #[serde(default)]
    os: String,
    #[serde(default)]
    architecture: String,
    variant: Option<String>,
}

#[derive(Serialize)]
struct WrittenIndex<'a> {
    #[serde(rename = "schemaVersion")]
    schema_version: u8,
    #[serde(rename = "mediaType")]
    media_type: &'a str,
    manifests: [Written<'a>; 1],
}

#[derive(Serialize)]
struct Written<'a> {
    #[serde(rename = "mediaType")]
    media_type: &'a str,
    digest: String,
    size: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    annotations: Option<Annotations<'a>>,
}

#[derive(Serialize)]
struct Annotations<'a> {
    #[serde(rename = "org.opencontainers.image.ref.name")]
    name: &'a str,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn digest(digit: &str) -> String {
        format!("sha256:{}", digit.repeat(64))
    }

    fn bytes(value: &serde_json::Value) -> Vec<u8> {
        serde_json::to_vec(value).unwrap()
    }

    #[test]
    fn images_and_indexes_are_read() {
        let part = |kind: &str, digit| serde_json::json!({"mediaType": kind, "digest": digest(digit), "size": 7});
        for kind in &IMAGES[..2] {
            let image = serde_json::json!({"schemaVersion": 2, "mediaType": kind, "config": part("a/b", "1"),
                "layers": [part("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", "2"), part("c/d", "3")]});
            let Manifest::Image(all) = read(kind, &bytes(&image)).unwrap() else { panic!() };
            assert_eq!(all.iter().map(|d| d.elsewhere).collect::<Vec<_>>(), [false, true, false]);
            assert_eq!((all[2].digest.to_string(), all[2].size), (digest("3"), 7));
        }
        for kind in INDEXES {
            let mut one = part(IMAGES[0], "1");
            one["platform"] = serde_json::json!({"os": "linux", "architecture": "arm", "variant": "v7"});
            let index = serde_json::json!({"schemaVersion": 2, "manifests": [one]});
            let Manifest::Index(all) = read(kind, &bytes(&index)).unwrap() else { panic!() };
            assert_eq!(all[0].platform.as_ref().unwrap().to_string(), "linux/arm/v7");
            assert!(all[0].is_manifest());
        }
    }

    #[test]
    fn what_is_no_manifest_is_refused() {
        let part = serde_json::json!({"mediaType": "a/b", "digest": digest("1"), "size": 7});
        let with = |name: &str, value: serde_json::Value| {
            let mut part = part.clone();
            part[name] = value;
            serde_json::json!({"schemaVersion": 2, "layers": [part]})
        };
        for wrong in [
            serde_json::json!({}),
            serde_json::json!([]),
            serde_json::json!({"schemaVersion": 1, "layers": []}),
            serde_json::json!({"schemaVersion": 2}),
            serde_json::json!({"schemaVersion": 2, "manifests": []}),
            serde_json::json!({"schemaVersion": 2, "layers": [], "manifests": []}),
            serde_json::json!({"schemaVersion": 2, "mediaType": INDEX_TYPE, "layers": []}),
            with("digest", serde_json::json!("sha256:../../etc/passwd")),
            with("digest", serde_json::json!(format!("sha256:{}", "A".repeat(64)))),
            with("digest", serde_json::json!("md5:00000000000000000000000000000000")),
            with("size", serde_json::json!(-1)),
            with("size", serde_json::json!(1.5)),
            with("mediaType", serde_json::json!("a\nb")),
            with("mediaType", serde_json::json!("")),
        ] {
            assert!(read(IMAGES[0], &bytes(&wrong)).is_err(), "{wrong}");
        }
        assert!(read(IMAGES[0], b"<html>").is_err());
        assert!(read(IMAGES[0], "[".repeat(100_000).as_bytes()).is_err(), "nesting is bounded");
    }

    #[test]
    fn media_types_are_the_heads_else_the_manifests_own() {
        let image = serde_json::json!({"schemaVersion": 2, "mediaType": IMAGES[0], "layers": []});
        let image = bytes(&image);
        assert_eq!(
            media_type(Some("Application/vnd.oci.image.index.v1+json; charset=utf-8"), &image).unwrap(),
            INDEX_TYPE
        );
        for vague in [None, Some("application/json"), Some("text/plain; charset=utf-8")] {
            assert_eq!(media_type(vague, &image).unwrap(), IMAGES[0]);
        }
        for (head, wanted) in [
            (Some("application/vnd.docker.distribution.manifest.v1+prettyjws"), "v1+prettyjws"),
            (Some("text/html"), "text/html"),
            (Some("a\u{1b}[2J/b"), "(none)"),
        ] {
            assert!(media_type(head, &image).unwrap_err().ends_with(wanted), "{head:?}");
        }
        assert!(media_type(None, b"{}").is_err());
    }

    #[test]
    fn a_layout_names_its_image() {
        let top = Descriptor {
            media_type: IMAGES[0].to_owned(),
            digest: digest("1").parse().unwrap(),
            size: 7,
            platform: None,
            elsewhere: false,
        };
        let index = layout_index(&top, Some("v1"));
        let Manifest::Index(all) = read(INDEX_TYPE, &index).unwrap() else { panic!() };
        assert_eq!(all, std::slice::from_ref(&top));
        assert!(String::from_utf8(index).unwrap().contains(r#""org.opencontainers.image.ref.name":"v1""#));
        assert!(!String::from_utf8(layout_index(&top, None)).unwrap().contains("annotations"));
    }
}
