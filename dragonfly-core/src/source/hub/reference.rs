//! What a URL names: `SCHEME://[models|datasets|spaces/]OWNER/NAME[@REVISION][/PATH]`.

use url::Url;

use super::super::storage::{check_key, decode, is_plain_name};
use super::super::{SourceError, SourceErrorKind, redact};
use super::Hub;

/// The longest name of an owner or a repository, in bytes: hubs take 96.
const NAME_MAX: usize = 128;

/// The longest revision, in bytes: git has files of that name.
const REVISION_MAX: usize = 255;

/// What kind of repository it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Repo {
    Datasets,
    Models,
    Spaces,
}

impl Repo {
    /// As it is called in URLs.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Datasets => "datasets",
            Self::Models => "models",
            Self::Spaces => "spaces",
        }
    }
}

/// What a URL names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Reference {
    pub(super) hub: Hub,
    pub(super) repo: Repo,
    pub(super) owner: String,
    pub(super) name: String,
    /// A branch, a tag or a commit; absent: the hub's default branch.
    pub(super) revision: Option<String>,
    /// Within the repository, without a slash at either end; empty for its root.
    pub(super) path: String,
}

impl Reference {
    /// Reads the URL of a file, or of what is listed (which may end in a slash).
    pub(super) fn of(url: &Url, prefix: bool) -> Result<Self, SourceError> {
        let wrong = |what: &str| SourceError::new(SourceErrorKind::InvalidInput, format!("{}: {what}", redact(url)));
        let hub = Hub::of_scheme(url.scheme()).ok_or_else(|| wrong("no hub has this scheme"))?;
        if !url.username().is_empty() || url.password().is_some() || url.port().is_some() {
            return Err(wrong("the URL of a repository has no port and no user: endpoint and token are settings"));
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(wrong("it has neither a query nor a fragment: write %3F for ? and %23 for #"));
        }
        let what = "wanted [models|datasets|spaces/]OWNER/NAME[@REVISION][/PATH] after ://";
        let first = url.host_str().unwrap_or_default();
        let path = url.path().strip_prefix('/').unwrap_or(url.path());
        let (repo, owner, rest) = match [Repo::Datasets, Repo::Models, Repo::Spaces].iter().find(|r| r.name() == first)
        {
            None => (Repo::Models, first, path),
            Some(repo) => {
                let (owner, rest) = path.split_once('/').ok_or_else(|| wrong(what))?;
                (*repo, owner, rest)
            }
        };
        if repo == Repo::Spaces && hub == Hub::ModelScope {
            return Err(wrong("ModelScope has models and datasets"));
        }
        let (name, rest) = rest.split_once('/').unwrap_or((rest, ""));
        let (name, mut revision, mut rest) = match name.split_once('@') {
            None => (name, None, rest),
            Some((name, revision)) => (name, Some(decode(revision).unwrap_or_default()), rest),
        };
        // As in the URLs of `huggingface_hub`: the slashes in names like these are not encoded.
        if revision.as_deref() == Some("refs")
            && let Some((kind @ ("convert" | "pr"), after)) = rest.split_once('/')
        {
            let (number, after) = after.split_once('/').unwrap_or((after, ""));
            (revision, rest) = (Some(format!("refs/{kind}/{number}")), after);
        }
        for part in [owner, name] {
            if part.len() > NAME_MAX || !is_plain_name(part) {
                return Err(wrong(what));
            }
        }
        if revision.as_ref().is_some_and(|revision| !is_revision(revision)) {
            return Err(wrong("no branch, tag or commit has this name (write %2F for / in it)"));
        }
        let path = decode(rest).ok_or_else(|| wrong("it has bytes that are not UTF-8"))?;
        check_key(&path, prefix).map_err(&wrong)?;
        let path = path.strip_suffix('/').unwrap_or(&path).to_owned();
        let (owner, name) = (owner.to_owned(), name.to_owned());
        Ok(Self { hub, repo, owner, name, revision, path })
    }

    /// The commit, if the URL names one: what is there never changes.
    pub(super) fn commit(&self) -> Option<&str> {
        self.revision.as_deref().filter(|revision| is_commit(revision))
    }

    /// The branch, tag or commit.
    pub(super) fn revision(&self) -> &str {
        self.revision.as_deref().unwrap_or(self.hub.default_revision())
    }

    /// The URL of what has this path in the repository, at a revision.
    pub(super) fn url_of(&self, revision: &str, path: &str, directory: bool) -> Option<Url> {
        let repo = match self.repo {
            Repo::Models => String::new(),
            other => format!("{}/", other.name()),
        };
        let (owner, name) = (&self.owner, &self.name);
        let revision = if revision.starts_with("refs/") { revision.to_owned() } else { encoded(revision, false) };
        let slash = if directory { "/" } else { "" };
        let scheme = self.hub.scheme();
        Url::parse(&format!("{scheme}://{repo}{owner}/{name}@{revision}/{}{slash}", encoded(path, true))).ok()
    }
}

/// Whether it is the name of a commit, in full.
pub(super) fn is_commit(text: &str) -> bool {
    text.len() == 40 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

fn is_revision(text: &str) -> bool {
    let plain = |part: &str| !matches!(part, "" | "." | "..") && !part.starts_with('-');
    text.len() <= REVISION_MAX
        && !text.contains(|c: char| c.is_control() || c.is_whitespace())
        && text.split('/').all(plain)
}

/// A text as a part of a URL's path or query.
pub(super) fn encoded(text: &str, slashes: bool) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) || slashes && byte == b'/';
    text.bytes().map(|b| if plain(b) { (b as char).to_string() } else { format!("%{b:02X}") }).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn of(text: &str) -> Result<Reference, SourceError> {
        Reference::of(&Url::parse(text).unwrap(), false)
    }

    #[test]
    fn urls_are_read_and_written() {
        let commit = "0123456789abcdef0123456789abcdef01234567";
        for (url, repo, revision, path, again) in [
            ("hf://Qwen/Q-1.5/a/b%20c.bin", Repo::Models, "main", "a/b c.bin", "hf://Qwen/Q-1.5@main/a/b%20c.bin"),
            ("hf://models/Qwen/Q-1.5@v1/a", Repo::Models, "v1", "a", "hf://Qwen/Q-1.5@v1/a"),
            ("hf://datasets/Qwen/Q-1.5/a", Repo::Datasets, "main", "a", "hf://datasets/Qwen/Q-1.5@main/a"),
            ("hf://spaces/Qwen/Q-1.5@x%2Fy/a", Repo::Spaces, "x/y", "a", "hf://spaces/Qwen/Q-1.5@x%2Fy/a"),
            ("hf://Qwen/Q-1.5@refs/pr/7/a", Repo::Models, "refs/pr/7", "a", "hf://Qwen/Q-1.5@refs/pr/7/a"),
            ("hf://Qwen/Q-1.5@refs%2Fpr%2F7/a", Repo::Models, "refs/pr/7", "a", "hf://Qwen/Q-1.5@refs/pr/7/a"),
            ("modelscope://Qwen/Q-1.5/a", Repo::Models, "master", "a", "modelscope://Qwen/Q-1.5@master/a"),
        ] {
            let found = of(url).unwrap();
            assert_eq!((found.repo, found.revision(), &*found.path), (repo, revision, path), "{url}");
            assert_eq!((&*found.owner, &*found.name, found.commit()), ("Qwen", "Q-1.5", None), "{url}");
            let written = found.url_of(found.revision(), &found.path, false).unwrap();
            assert_eq!(written.as_str(), again);
            assert_eq!(of(again).unwrap(), Reference { revision: Some(revision.to_owned()), ..found });
        }
        assert_eq!(of(&format!("hf://a/b@{commit}/c")).unwrap().commit(), Some(commit));
        for root in ["hf://a/b", "hf://a/b/", "hf://a/b@v1/", "hf://a/b@refs/pr/1", "hf://datasets/a/b/"] {
            assert_eq!(Reference::of(&Url::parse(root).unwrap(), true).unwrap().path, "", "{root}");
            assert!(of(root).is_err(), "{root}");
        }
    }

    #[test]
    fn what_names_no_file_of_a_repository_is_refused() {
        for wrong in [
            "hf:///a/b",
            "hf://a",
            "hf://a/",
            "hf://a//b",
            "hf://datasets/a",
            "hf://a:1/b/c",
            "hf://user:secret@a/b/c",
            "hf://a/b@/c",
            "hf://a/b@x%20y/c",
            "hf://a/b@x%2F%2Fy/c",
            "hf://a/b@x%2F..%2Fy/c",
            "hf://a/b@-x/c",
            "hf://a/b@main/c?x=y",
            "hf://a/b/c#x",
            "hf://a/b/c/",
            "hf://a/b/c%00",
            "hf://a/b/c%2F%2Fd",
            "hf://a/b/%FF",
            "hf://a/b%2Fc/d",
            "hf://a/b$(x)/d",
            "modelscope://spaces/a/b/c",
        ] {
            let Ok(url) = Url::parse(wrong) else { continue };
            let error = Reference::of(&url, false).map(|_| wrong).unwrap_err();
            assert_eq!(error.kind(), SourceErrorKind::InvalidInput, "{wrong}");
            assert!(!format!("{error:?}").contains("secret"), "{error:?}");
        }
    }
}
