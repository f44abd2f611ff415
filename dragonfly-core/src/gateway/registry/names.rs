//! Paths of the registry API.

use http::StatusCode;

use super::super::fail::Refusal;
use crate::source::{is_repository, is_tag};
use crate::task::{Algorithm, Digest};

/// What is fixed by a digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Blob,
    Manifest,
}

impl Kind {
    /// As in paths.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Blob => "blobs",
            Self::Manifest => "manifests",
        }
    }
}

/// What a path asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// Content with this digest.
    Object { kind: Kind, digest: Digest },
    /// A manifest by its tag.
    Tag,
    /// Something that only the registry can answer: the API's version, lists of tags, referrers.
    Other,
}

/// Reads a path below `/v2`.
pub(super) fn read(path: &str) -> Result<Asked, Refusal> {
    let bad = |text: String| Refusal::new(StatusCode::BAD_REQUEST, text);
    let rest = path.strip_prefix("/v2").unwrap_or_default().trim_start_matches('/');
    // Nothing that a registry names needs an escape, and what one hides leads elsewhere.
    if path.contains(['%', '\\'])
        || path.contains("//") && !rest.is_empty()
        || path.split('/').any(|part| part == "." || part == "..")
    {
        return Err(bad(format!("{path:?} is no path of a registry")));
    }
    let mut parts = rest.rsplitn(3, '/');
    let (last, kind, name) = (parts.next(), parts.next(), parts.next());
    let (Some(reference), Some(kind), Some(name)) = (last, kind, name) else { return Ok(Asked::Other) };
    let kind = match kind {
        "blobs" => Kind::Blob,
        "manifests" => Kind::Manifest,
        _ => return Ok(Asked::Other),
    };
    if !is_repository(name) {
        return Err(bad(format!("{name:?} is no name of a repository")));
    }
    if !reference.contains(':') {
        return match kind {
            Kind::Manifest if is_tag(reference) => Ok(Asked::Tag),
            _ => Err(bad(format!("{reference:?} names no {}", kind.name()))),
        };
    }
    match reference.parse::<Digest>() {
        Ok(digest) if matches!(digest.algorithm(), Algorithm::Sha256 | Algorithm::Sha512) => {
            Ok(Asked::Object { kind, digest })
        }
        // A registry may know algorithms that we do not.
        _ => Ok(Asked::Other),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn paths() {
        let hex = "0".repeat(64);
        let digest: Digest = format!("sha256:{hex}").parse().unwrap();
        let object = |kind| Asked::Object { kind, digest: digest.clone() };
        for (path, wanted) in [
            (format!("/v2/lib/big/blobs/sha256:{hex}"), object(Kind::Blob)),
            (format!("/v2/a/manifests/sha256:{hex}"), object(Kind::Manifest)),
            (format!("/v2/blobs/blobs/sha256:{hex}"), object(Kind::Blob)),
            ("/v2/a/b/c/manifests/v1.0_x-y".to_owned(), Asked::Tag),
            ("/v2".to_owned(), Asked::Other),
            ("/v2/".to_owned(), Asked::Other),
            ("/v2/_catalog".to_owned(), Asked::Other),
            ("/v2/a/tags/list".to_owned(), Asked::Other),
            (format!("/v2/a/referrers/sha256:{hex}"), Asked::Other),
            ("/v2/a/blobs/sha999:00".to_owned(), Asked::Other),
            ("/v2/a/blobs/crc32c:00000000".to_owned(), Asked::Other),
        ] {
            assert_eq!(read(&path).unwrap(), wanted, "{path}");
        }
        for wrong in [
            "/v2/A/manifests/v1",
            "/v2/a/../manifests/v1",
            "/v2/a//manifests/v1",
            "/v2/a/manifests/.hidden",
            "/v2/a/manifests/v%31",
            "/v2/a/blobs/latest",
            "/v2/%2e%2e/%2e%2e/admin",
            "/v2/..\\..\\admin",
            "/v2/-a/manifests/v1",
        ] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
        assert!(read(&format!("/v2/{}/manifests/v1", "a".repeat(256))).is_err());
    }
}
