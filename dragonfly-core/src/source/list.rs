//! What is below a prefix: directories of file servers, prefixes of buckets, index pages.

use std::collections::VecDeque;
use std::sync::Arc;

use futures::StreamExt;
use futures::stream::{self, BoxStream};
use url::Url;

use super::{OpenRequest, Source, SourceError, SourceErrorKind, redact};
use crate::task::Digest;

/// The longest name of an entry, in bytes: object stores have 1024 for a whole key, file systems 255 for a part of one.
#[cfg(feature = "http")]
const NAME_MAX: usize = 1024;

/// One thing below a prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Entry {
    /// Its path relative to the prefix that was asked for: no part of it is empty, `.` or `..`, it does not begin or
    /// end with a slash, and it has no control characters. It comes from the origin all the same: who makes a file of
    /// it must not follow links on the way.
    pub path: String,
    /// Where it is. That of a directory ends in a slash. It carries the user information of the prefix.
    pub url: Url,
    /// Its length in bytes, if the list says.
    pub length: Option<u64>,
    /// Whether it has entries of its own, in place of content.
    pub directory: bool,
    /// The digest of its content, if the list says.
    pub digest: Option<Digest>,
    /// The name that git has for its content, if the list says: the SHA-1 of `blob`, a space, its length in decimal digits,
    /// a zero byte and the content. It tells versions apart; whom the origin does not trust it proves nothing to.
    pub git_blob: Option<[u8; 20]>,
    /// Whether the list is of one version of all that is below, which the URL names: what was had of an earlier list
    /// under the same path may be of another version.
    pub pinned: bool,
}

impl Entry {
    /// An entry of which nothing is known but this.
    pub fn new(path: impl Into<String>, url: Url, length: Option<u64>, directory: bool) -> Self {
        Self { path: path.into(), url, length, directory, digest: None, git_blob: None, pinned: false }
    }
}

/// How much of what is below a prefix is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct WalkLimits {
    /// Entries in all, directories included; one more is an error. Default 100 000.
    pub entries: usize,
    /// Directories within directories; one deeper is an error. Default 32.
    pub depth: usize,
}

impl Default for WalkLimits {
    fn default() -> Self {
        Self { entries: 100_000, depth: 32 }
    }
}

/// All that is below the prefix in [`OpenRequest::url`], level by level, each directory before what is in it. Paths are
/// relative to that prefix. After an error it ends.
///
/// # Cancel safety
/// Dropping the stream ends its request.
pub fn walk(
    source: Arc<dyn Source>,
    request: OpenRequest,
    limits: WalkLimits,
) -> BoxStream<'static, Result<Entry, SourceError>> {
    let queue = VecDeque::from([Level { url: request.url.clone(), path: String::new() }]);
    let state = Walk { source, request, limits, queue, current: None, ready: VecDeque::new(), count: 0 };
    stream::unfold(Some(state), |state| async move {
        let mut state = state?;
        match state.next().await? {
            Ok(entry) => Some((Ok(entry), Some(state))),
            Err(error) => Some((Err(error), None)),
        }
    })
    .boxed()
}

/// What a source lists, page by page.
type Pages = BoxStream<'static, Result<Vec<Entry>, SourceError>>;

/// A directory to be listed.
struct Level {
    url: Url,
    /// Relative to the root, with a slash at its end unless it is the root.
    path: String,
}

struct Walk {
    source: Arc<dyn Source>,
    request: OpenRequest,
    limits: WalkLimits,
    queue: VecDeque<Level>,
    current: Option<(Level, Pages)>,
    ready: VecDeque<Entry>,
    count: usize,
}

impl Walk {
    async fn next(&mut self) -> Option<Result<Entry, SourceError>> {
        loop {
            if let Some(entry) = self.ready.pop_front() {
                return Some(self.passed(entry));
            }
            if self.current.is_none() {
                let level = self.queue.pop_front()?;
                let request = OpenRequest { url: level.url.clone(), ..self.request.clone() };
                let pages = self.source.list(request);
                self.current = Some((level, pages));
            }
            let (level, pages) = self.current.as_mut()?;
            match pages.next().await {
                None => self.current = None,
                Some(Err(error)) => return Some(Err(error)),
                Some(Ok(page)) => {
                    for mut entry in page {
                        entry.path.insert_str(0, &level.path);
                        self.ready.push_back(entry);
                    }
                }
            }
        }
    }

    /// An entry within the limits; directories are noted for later.
    fn passed(&mut self, entry: Entry) -> Result<Entry, SourceError> {
        let too = |what: String| {
            let text = format!("{}: {what}: list a part of it", redact(&self.request.url));
            SourceError::new(SourceErrorKind::InvalidInput, text)
        };
        self.count += 1;
        if self.count > self.limits.entries {
            return Err(too(format!("more than {} entries are below it", self.limits.entries)));
        }
        if entry.directory {
            let depth = entry.path.matches('/').count() + 1;
            if depth > self.limits.depth {
                return Err(too(format!("directories are more than {} deep", self.limits.depth)));
            }
            self.queue.push_back(Level { url: entry.url.clone(), path: format!("{}/", entry.path) });
        }
        Ok(entry)
    }
}

/// A list that is an error.
pub(super) fn failed(error: SourceError) -> Pages {
    stream::once(std::future::ready(Err(error))).boxed()
}

/// Whether a name from an origin is one that may be a part of a path.
#[cfg(feature = "http")]
pub(super) fn is_plain(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= NAME_MAX
        && !matches!(name, "." | "..")
        && name.trim() == name
        && !name.contains(|c: char| c.is_control() || matches!(c, '/' | '\\'))
}

/// The URL of what has this name below a prefix.
#[cfg(any(feature = "storage", feature = "conformance", test))]
pub(super) fn below(prefix: &Url, name: &str, directory: bool) -> Url {
    let mut url = prefix.clone();
    let mut path = url.path().to_owned();
    if !path.ends_with('/') {
        path.push('/');
    }
    for byte in name.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => path.push(byte as char),
            _ => path.push_str(&format!("%{byte:02X}")),
        }
    }
    if directory {
        path.push('/');
    }
    url.set_path(&path);
    url
}

#[cfg(all(test, feature = "http"))]
mod tests {
    #![allow(clippy::unwrap_used)]

    use futures::TryStreamExt;
    use futures::future::BoxFuture;

    use super::super::Opened;
    use super::*;

    /// Each directory has two files and a directory, without end.
    struct Endless;

    impl Source for Endless {
        fn schemes(&self) -> &[&str] {
            &["endless"]
        }

        fn open<'a>(&'a self, _: OpenRequest) -> BoxFuture<'a, Result<Opened, SourceError>> {
            unreachable!()
        }

        fn list(&self, request: OpenRequest) -> BoxStream<'static, Result<Vec<Entry>, SourceError>> {
            let entry = |name: &str, directory| Entry::new(name, below(&request.url, name, directory), None, directory);
            let pages = vec![Ok(vec![entry("a", false)]), Ok(vec![entry("b c", false), entry("d", true)])];
            stream::iter(pages).boxed()
        }
    }

    #[tokio::test]
    async fn a_walk_has_an_end_where_the_tree_has_none() {
        let walk_with = |entries, depth| {
            let request = OpenRequest::new(Url::parse("endless://h/r/").unwrap());
            walk(Arc::new(Endless), request, WalkLimits { entries, depth })
        };
        let some: Vec<Entry> = walk_with(7, 99).take(7).try_collect().await.unwrap();
        let paths: Vec<&str> = some.iter().map(|entry| entry.path.as_str()).collect();
        assert_eq!(paths, ["a", "b c", "d", "d/a", "d/b c", "d/d", "d/d/a"]);
        assert_eq!(some[4].url.as_str(), "endless://h/r/d/b%20c");
        for (entries, depth) in [(50, 99), (1000, 3)] {
            let error = walk_with(entries, depth).try_collect::<Vec<_>>().await.unwrap_err();
            assert_eq!(error.kind(), SourceErrorKind::InvalidInput, "{error:?}");
        }
    }

    #[test]
    fn names_that_lead_elsewhere_are_not_plain() {
        for wrong in ["", ".", "..", "a/b", "/", "a\\b", "a\r\n", "\u{7f}", " a", "a ", &"x".repeat(NAME_MAX + 1)] {
            assert!(!is_plain(wrong), "{wrong:?}");
        }
        for good in ["a", "...", "a b", "ä", ".hidden"] {
            assert!(is_plain(good), "{good}");
        }
    }
}
