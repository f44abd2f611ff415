//! What every source must do, tried on a real origin. For the tests of this crate, and for embedders who bring a source
//! of their own.

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;

use futures::TryStreamExt;
use url::Url;

use super::list::below;
use super::{Content, Entry, OpenRequest, Opened, Registry, Retry, SourceError, SourceErrorKind, WalkLimits};
use crate::task::Validator;

/// How long the content is that is put, in bytes.
const LENGTH: usize = 300_000;

/// Puts content at a path.
pub type Put = Box<dyn Fn(&str, &[u8]) -> io::Result<()> + Send + Sync>;

/// An origin to be tried.
#[non_exhaustive]
pub struct Subject {
    /// The sources, as a node has them.
    pub sources: Registry,
    /// A directory or prefix of the origin that may be filled; it ends in a slash.
    pub base: Url,
    /// Puts content at a path below `base`, in place of what may be there. It may block.
    pub put: Put,
    /// What may not be read, and sources that are refused there (default: that is not tried).
    pub denied: Option<(Registry, Url)>,
    /// Whether it tells versions apart, and serves ranges (default: yes).
    pub versions: bool,
    /// Whether it can hold what has no bytes (default: yes).
    pub empties: bool,
    /// Whether it can be listed (default: yes).
    pub lists: bool,
    /// What must appear in no error (default: nothing).
    pub secrets: Vec<String>,
}

impl Subject {
    /// An origin that can do all.
    pub fn new(
        sources: Registry,
        base: Url,
        put: impl Fn(&str, &[u8]) -> io::Result<()> + Send + Sync + 'static,
    ) -> Self {
        let put = Box::new(put);
        Self { sources, base, put, denied: None, versions: true, empties: true, lists: true, secrets: Vec::new() }
    }

    /// Tries everything, and names what was tried.
    ///
    /// # Errors
    /// What the source did wrong, or the origin could not do.
    pub async fn conform(&self) -> Result<Vec<&'static str>, String> {
        let mut tried = vec!["whole", "ranges", "names", "missing"];
        self.whole().await.map_err(|e| format!("whole: {e}"))?;
        self.ranges().await.map_err(|e| format!("ranges: {e}"))?;
        self.names().await.map_err(|e| format!("names: {e}"))?;
        self.missing().await.map_err(|e| format!("missing: {e}"))?;
        if self.empties {
            tried.push("empty");
            self.empty().await.map_err(|e| format!("empty: {e}"))?;
        }
        if self.versions {
            tried.push("versions");
            self.versions().await.map_err(|e| format!("versions: {e}"))?;
        }
        if let Some((sources, url)) = &self.denied {
            tried.push("denied");
            self.refused(sources, url, SourceErrorKind::Forbidden).await.map_err(|e| format!("denied: {e}"))?;
        }
        if self.lists {
            tried.push("lists");
            self.lists().await.map_err(|e| format!("lists: {e}"))?;
        }
        Ok(tried)
    }

    async fn whole(&self) -> Result<(), String> {
        let expected = self.put("whole.bin", 1)?;
        let content = self.content(self.request("whole.bin")).await?;
        same("the length", &content.length, &Some(LENGTH as u64))?;
        same("the offset", &content.offset, &0)?;
        same("what the body carries", &content.body_length, &Some(LENGTH as u64))?;
        if self.versions {
            same("that there are ranges", &content.ranges, &true)?;
        }
        bytes(content, &expected).await
    }

    async fn ranges(&self) -> Result<(), String> {
        let expected = self.put("whole.bin", 1)?;
        let length = LENGTH as u64;
        let within: [Range<u64>; 8] = [
            1..2,
            0..1000,
            100_000..200_000,
            length - 1000..length,
            length - 1..u64::MAX,
            length - 1000..length + 1000,
            0..u64::MAX,
            0..4 << 20,
        ];
        for range in within {
            let said = |e| format!("{range:?}: {e}");
            let content = self.content(OpenRequest { range: Some(range.clone()), ..self.request("whole.bin") }).await;
            let content = content.map_err(said)?;
            let end = range.end.min(length);
            same("the length", &content.length, &Some(length)).map_err(said)?;
            same("the offset", &content.offset, &range.start).map_err(said)?;
            same("what the body carries", &content.body_length, &Some(end - range.start)).map_err(said)?;
            bytes(content, &expected[range.start as usize..end as usize]).await.map_err(said)?;
        }
        for outside in [length..length + 1, length * 2..u64::MAX] {
            let request = OpenRequest { range: Some(outside.clone()), ..self.request("whole.bin") };
            match self.sources.open(request).await {
                Err(error) => self.silent(&error)?,
                Ok(opened) => return Err(format!("{outside:?} is outside, but it opened {opened:?}")),
            }
        }
        Ok(())
    }

    async fn empty(&self) -> Result<(), String> {
        (self.put)("empty.bin", &[]).map_err(|e| e.to_string())?;
        for range in [None, Some(0..4096), Some(0..u64::MAX)] {
            let content = self.content(OpenRequest { range, ..self.request("empty.bin") }).await?;
            same("the length", &content.length, &Some(0))?;
            bytes(content, &[]).await?;
        }
        Ok(())
    }

    async fn names(&self) -> Result<(), String> {
        for name in ["a b+c.bin", "ü&=;,'.bin", "100%25.bin", "[x](y)~!$.bin"] {
            let expected = self.put(name, 2)?;
            let content = self.content(self.request(name)).await.map_err(|e| format!("{name}: {e}"))?;
            bytes(content, &expected).await.map_err(|e| format!("{name}: {e}"))?;
        }
        Ok(())
    }

    async fn missing(&self) -> Result<(), String> {
        let url = below(&self.base, "nothing.bin", false);
        self.refused(&self.sources, &url, SourceErrorKind::NotFound).await
    }

    async fn versions(&self) -> Result<(), String> {
        self.put("changing.bin", 3)?;
        let content = self.content(self.request("changing.bin")).await?;
        let validator = content.validator.clone().ok_or("there is no validator")?;
        drop(content);
        let with = |prior: Option<&Validator>, expect: Option<&Validator>, length: Option<u64>| OpenRequest {
            prior: prior.cloned(),
            expect: expect.cloned(),
            expect_length: length,
            range: Some(1000..2000),
            ..self.request("changing.bin")
        };
        self.unchanged(with(Some(&validator), None, None)).await?;
        let whole = OpenRequest { range: None, ..with(Some(&validator), None, None) };
        self.unchanged(whole).await?;
        let content = self.content(with(None, Some(&validator), Some(LENGTH as u64))).await?;
        same("the validator", &content.validator, &Some(validator.clone()))?;
        bytes(content, &made(3)[1000..2000]).await?;
        let wrong = self.sources.open(with(None, None, Some(7))).await;
        kind(wrong, SourceErrorKind::Changed).map_err(|e| format!("another length: {e}"))?;
        // As long, and another.
        let after = self.put("changing.bin", 4)?;
        for range in [Some(1000..2000), Some(0..1000), None] {
            let request = OpenRequest { range: range.clone(), ..with(None, Some(&validator), None) };
            let changed = self.sources.open(request).await;
            kind(changed, SourceErrorKind::Changed).map_err(|e| format!("changed, {range:?}: {e}"))?;
        }
        let content = self.content(with(Some(&validator), None, None)).await?;
        if content.validator.as_ref() == Some(&validator) {
            return Err("another version has the same validator".to_owned());
        }
        bytes(content, &after[1000..2000]).await
    }

    async fn lists(&self) -> Result<(), String> {
        for name in ["list/a.bin", "list/b c.bin", "list/sub/d.bin", "list/sub/deeper/e.bin"] {
            self.put(name, 5)?;
        }
        let request = OpenRequest { url: below(&self.base, "list", true), ..self.request("") };
        let level: Vec<Vec<Entry>> = self.sources.list(request.clone()).try_collect().await.map_err(|e| told(&e))?;
        let found: BTreeMap<String, bool> = level.into_iter().flatten().map(|e| (e.path, e.directory)).collect();
        let expected = [("a.bin", false), ("b c.bin", false), ("sub", true)];
        same("a level", &found, &expected.map(|(name, directory)| (name.to_owned(), directory)).into())?;
        let all: Vec<Entry> =
            self.sources.walk(request, WalkLimits::default()).try_collect().await.map_err(|e| told(&e))?;
        let files: Vec<&Entry> = all.iter().filter(|entry| !entry.directory).collect();
        let mut paths: Vec<&str> = files.iter().map(|entry| entry.path.as_str()).collect();
        paths.sort_unstable();
        same("the files", &paths, &vec!["a.bin", "b c.bin", "sub/d.bin", "sub/deeper/e.bin"])?;
        for file in files {
            if file.length.is_some_and(|length| length != LENGTH as u64) {
                return Err(format!("{} is listed with {:?} bytes", file.path, file.length));
            }
            let content = self.content(OpenRequest { url: file.url.clone(), ..self.request("") }).await?;
            bytes(content, &made(5)).await?;
        }
        Ok(())
    }

    fn request(&self, name: &str) -> OpenRequest {
        let retry = Retry { attempts: 2, ..Retry::default() };
        OpenRequest { local: true, retry, ..OpenRequest::new(below(&self.base, name, false)) }
    }

    fn put(&self, name: &str, seed: u64) -> Result<Vec<u8>, String> {
        let content = made(seed);
        (self.put)(name, &content).map_err(|e| format!("{name} cannot be put: {e}"))?;
        Ok(content)
    }

    async fn content(&self, request: OpenRequest) -> Result<Content, String> {
        match self.sources.open(request).await {
            Ok(Opened::Content(content)) => Ok(content),
            Ok(Opened::Unchanged { .. }) => Err("it is unchanged, which nobody asked".to_owned()),
            Err(error) => Err(told(&error)),
        }
    }

    async fn unchanged(&self, request: OpenRequest) -> Result<(), String> {
        match self.sources.open(request).await {
            Ok(Opened::Unchanged { .. }) => Ok(()),
            Ok(opened) => Err(format!("it is unchanged, but it opened {opened:?}")),
            Err(error) => Err(told(&error)),
        }
    }

    async fn refused(&self, sources: &Registry, url: &Url, expected: SourceErrorKind) -> Result<(), String> {
        for range in [None, Some(0..4096)] {
            let request = OpenRequest { url: url.clone(), range, ..self.request("") };
            self.silent(&kind(sources.open(request).await, expected)?)?;
        }
        Ok(())
    }

    /// Whether an error keeps the secrets.
    fn silent(&self, error: &SourceError) -> Result<(), String> {
        let shown = told(error);
        match self.secrets.iter().find(|secret| shown.contains(*secret)) {
            Some(secret) => Err(format!("an error shows {secret:?}: {shown}")),
            None => Ok(()),
        }
    }
}

/// Bytes that differ by seed, all over.
fn made(seed: u64) -> Vec<u8> {
    let mut z = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut next = || {
        z = z.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (z >> 56) as u8
    };
    (0..LENGTH).map(|_| next()).collect()
}

async fn bytes(content: Content, expected: &[u8]) -> Result<(), String> {
    let read = content.body.try_fold(Vec::new(), |mut all, part| async move {
        all.extend_from_slice(&part);
        Ok(all)
    });
    let read = read.await.map_err(|e| told(&e))?;
    if read == expected {
        return Ok(());
    }
    let at = read.iter().zip(expected).position(|(a, b)| a != b);
    Err(format!("{} of {} bytes came, the first that is wrong at {at:?}", read.len(), expected.len()))
}

fn same<T: PartialEq + std::fmt::Debug>(what: &str, found: &T, expected: &T) -> Result<(), String> {
    if found == expected { Ok(()) } else { Err(format!("{what} is {found:?} in place of {expected:?}")) }
}

fn kind(outcome: Result<Opened, SourceError>, expected: SourceErrorKind) -> Result<SourceError, String> {
    match outcome {
        Err(error) if error.kind() == expected => Ok(error),
        Err(error) => Err(format!("{expected:?} in place of {}", told(&error))),
        Ok(opened) => Err(format!("{expected:?} in place of {opened:?}")),
    }
}

fn told(error: &SourceError) -> String {
    format!("{error:?}")
}
