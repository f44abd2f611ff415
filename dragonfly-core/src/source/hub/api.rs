//! The URLs of the hubs' APIs, and what is in their answers.

use serde::Deserialize;
use url::Url;

use super::super::http::is_same_origin;
use super::Hub;
use super::reference::{Reference, Repo, encoded};
use crate::task::{Algorithm, Digest};

/// The most entries of a page that ModelScope is asked for; its own client asks for as many.
pub(super) const PAGE: usize = 200;

/// ModelScope lists so many entries of a directory of a model at most, and says nothing of the others.
pub(super) const TRUNCATED: usize = 3000;

/// Where a file is had.
pub(super) fn file(endpoint: &Url, of: &Reference) -> Option<Url> {
    let (repo, revision) = (repository(of), encoded(of.revision(), false));
    match of.hub {
        Hub::HuggingFace => {
            let kind = match of.repo {
                Repo::Models => String::new(),
                other => format!("{}/", other.name()),
            };
            endpoint.join(&format!("{kind}{repo}/resolve/{revision}/{}", encoded(&of.path, true))).ok()
        }
        Hub::ModelScope => {
            let (kind, path) = (of.repo.name(), encoded(&of.path, false));
            endpoint.join(&format!("api/v1/{kind}/{repo}/repo?Revision={revision}&FilePath={path}")).ok()
        }
    }
}

/// What a revision is now, at Hugging Face.
pub(super) fn revision(endpoint: &Url, of: &Reference) -> Option<Url> {
    let (kind, repo, revision) = (of.repo.name(), repository(of), encoded(of.revision(), false));
    endpoint.join(&format!("api/{kind}/{repo}/revision/{revision}")).ok()
}

/// A page of what is directly below a directory.
pub(super) fn tree(endpoint: &Url, of: &Reference, revision: &str, page: usize) -> Option<Url> {
    let (kind, repo, revision) = (of.repo.name(), repository(of), encoded(revision, false));
    match of.hub {
        Hub::HuggingFace => {
            let slash = if of.path.is_empty() { "" } else { "/" };
            let path = encoded(&of.path, true);
            endpoint.join(&format!("api/{kind}/{repo}/tree/{revision}{slash}{path}?recursive=false&expand=false")).ok()
        }
        Hub::ModelScope => {
            let root = if of.path.is_empty() { String::new() } else { format!("&Root={}", encoded(&of.path, false)) };
            let (what, paged) = match of.repo {
                Repo::Datasets => ("tree", format!("&PageNumber={page}&PageSize={PAGE}")),
                _ => ("files", String::new()),
            };
            let query = format!("Revision={revision}&Recursive=False{root}{paged}");
            endpoint.join(&format!("api/v1/{kind}/{repo}/repo/{what}?{query}")).ok()
        }
    }
}

fn repository(of: &Reference) -> String {
    format!("{}/{}", of.owner, of.name)
}

/// The page that comes next by a `Link` header (RFC 8288), which must be at the same server: `None` if there is none,
/// and `Some(None)` if it leads elsewhere.
pub(super) fn next(link: &str, here: &Url) -> Option<Option<Url>> {
    link.split(',').find_map(|one| {
        let (target, parameters) = one.trim().strip_prefix('<')?.split_once('>')?;
        let is_next = |parameter: &str| {
            let (name, value) = parameter.trim().split_once('=').unwrap_or_default();
            name.trim().eq_ignore_ascii_case("rel") && value.trim().trim_matches('"').eq_ignore_ascii_case("next")
        };
        if !parameters.split(';').any(is_next) {
            return None;
        }
        Some(here.join(target).ok().filter(|next| is_same_origin(next, here)))
    })
}

/// What Hugging Face says of a revision.
#[derive(Deserialize)]
pub(super) struct Revision {
    pub(super) sha: String,
}

/// A file or a directory of a repository.
pub(super) struct Item {
    /// From the root of the repository.
    pub(super) path: String,
    pub(super) directory: bool,
    pub(super) length: Option<u64>,
    pub(super) digest: Option<Digest>,
    /// As [`Entry::git_blob`](super::super::Entry::git_blob).
    pub(super) git_blob: Option<[u8; 20]>,
}

/// How many entries there are, on all pages, where ModelScope says so.
pub(super) fn total(bytes: &[u8]) -> Option<u64> {
    serde_json::from_slice::<MsAnswer>(bytes).ok()?.total_count?.as_u64()
}

/// Reads a page of a tree.
///
/// # Errors
/// What is wrong with it.
pub(super) fn items(hub: Hub, bytes: &[u8]) -> Result<Vec<Item>, String> {
    let malformed =
        |cause: serde_json::Error| format!("its list of files is {}", super::super::http::short::malformed(&cause));
    match hub {
        Hub::HuggingFace => {
            let all: Vec<HfItem> = serde_json::from_slice(bytes).map_err(malformed)?;
            Ok(all.into_iter().filter_map(HfItem::item).collect())
        }
        Hub::ModelScope => {
            let answer: MsAnswer = serde_json::from_slice(bytes).map_err(malformed)?;
            if answer.code.is_some_and(|code| code != 200) || answer.success == Some(false) {
                return Err("it cannot list the repository".to_owned());
            }
            let data = answer.data.ok_or("its list of files is not there")?;
            Ok(data.files.unwrap_or_default().into_iter().map(MsItem::item).collect())
        }
    }
}

#[derive(Deserialize)]
struct HfItem {
    r#type: String,
    path: String,
    size: Option<u64>,
    oid: Option<String>,
    lfs: Option<HfLfs>,
}

#[derive(Deserialize)]
struct HfLfs {
    oid: String,
    size: Option<u64>,
}

impl HfItem {
    /// Absent: neither a file nor a directory.
    fn item(self) -> Option<Item> {
        let directory = match &*self.r#type {
            "directory" => true,
            "file" => false,
            _ => return None,
        };
        let length = self.lfs.as_ref().and_then(|lfs| lfs.size).or(self.size).filter(|_| !directory);
        // That of an LFS file is of the pointer to it.
        let git_blob = self.oid.as_deref().filter(|_| !directory && self.lfs.is_none()).and_then(sha1);
        let digest = self.lfs.and_then(|lfs| sha256(&lfs.oid));
        Some(Item { path: self.path, directory, length, digest, git_blob })
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct MsAnswer {
    code: Option<i64>,
    success: Option<bool>,
    total_count: Option<serde_json::Value>,
    data: Option<MsData>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct MsData {
    files: Option<Vec<MsItem>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct MsItem {
    path: String,
    r#type: Option<String>,
    size: Option<u64>,
    sha256: Option<String>,
}

impl MsItem {
    fn item(self) -> Item {
        let directory = self.r#type.as_deref() == Some("tree");
        let digest = self.sha256.as_deref().and_then(sha256).filter(|_| !directory);
        Item { path: self.path, directory, length: self.size.filter(|_| !directory), digest, git_blob: None }
    }
}

/// A SHA-1 as git writes it.
fn sha1(text: &str) -> Option<[u8; 20]> {
    data_encoding::HEXLOWER.decode(text.as_bytes()).ok()?.try_into().ok()
}

/// A SHA-256 as hubs write it, or as an entity tag.
pub(super) fn sha256(text: &str) -> Option<Digest> {
    let digest: Digest = format!("sha256:{}", text.to_ascii_lowercase()).parse().ok()?;
    (digest.algorithm() == Algorithm::Sha256).then_some(digest)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn the_next_page_is_at_the_same_server() {
        let here = Url::parse("https://hub.example/api/x?a=b").unwrap();
        let of = |link: &str| next(link, &here).map(|next| next.map(|url| url.to_string()));
        let there = Some(Some("https://hub.example/api/x?cursor=2".to_owned()));
        assert_eq!(of("<https://hub.example/api/x?cursor=2>; rel=\"next\""), there);
        assert_eq!(of("</api/x?cursor=1>; rel=prev, </api/x?cursor=2>; x=y; rel=next"), there);
        for none in ["", "x", "<a>", "</api/x>; rel=\"last\"", "</api/x; rel=\"next\""] {
            assert_eq!(of(none), None, "{none}");
        }
        for elsewhere in ["<https://other.example/x>; rel=next", "<http://hub.example/x>; rel=next"] {
            assert_eq!(of(elsewhere), Some(None), "{elsewhere}");
        }
    }

    #[test]
    fn lists_are_read() {
        let sha = "AB".repeat(32);
        let hf = serde_json::json!([
            {"type": "directory", "path": "d", "oid": "0", "size": 0},
            {"type": "file", "path": "d/a", "oid": "0b".repeat(20), "size": 7},
            {"type": "file", "path": "d/b", "oid": "0", "size": 8},
            {"type": "file", "path": "b", "oid": "0b".repeat(20), "size": 9, "lfs": {"oid": sha, "size": 9, "pointerSize": 1}},
            {"type": "other", "path": "c"},
        ]);
        let found = items(Hub::HuggingFace, hf.to_string().as_bytes()).unwrap();
        let digest = sha256(&sha);
        assert!(digest.is_some());
        let seen: Vec<_> = found.iter().map(|i| (&*i.path, i.directory, i.length, i.digest.clone())).collect();
        assert_eq!(
            seen,
            [
                ("d", true, None, None),
                ("d/a", false, Some(7), None),
                ("d/b", false, Some(8), None),
                ("b", false, Some(9), digest.clone())
            ]
        );
        let blobs: Vec<_> = found.iter().map(|item| item.git_blob).collect();
        assert_eq!(blobs, [None, Some([11; 20]), None, None], "of files that are content themselves");
        let ms = |success: bool| {
            let files = [
                serde_json::json!({"Path": "d", "Type": "tree", "Size": 0, "Sha256": ""}),
                serde_json::json!({"Path": "b", "Type": "blob", "Size": 9, "Sha256": sha}),
            ];
            serde_json::json!({"Code": 200, "Success": success, "Data": {"Files": files}}).to_string()
        };
        let found = items(Hub::ModelScope, ms(true).as_bytes()).unwrap();
        let seen: Vec<_> = found.iter().map(|i| (&*i.path, i.directory, i.length, i.digest.clone())).collect();
        assert_eq!(seen, [("d", true, None, None), ("b", false, Some(9), digest)]);
        assert!(items(Hub::ModelScope, ms(false).as_bytes()).is_err());
        for wrong in ["", "{}", "[1]", "<html>", "[{\"type\": \"file\"}]"] {
            assert!(items(Hub::HuggingFace, wrong.as_bytes()).is_err(), "{wrong}");
            assert!(items(Hub::ModelScope, wrong.as_bytes()).is_err(), "{wrong}");
        }
    }
}
