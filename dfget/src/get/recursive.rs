//! `--recursive`: what is below a URL, as a download for each file.
//!
//! The list is made in this process, with its own settings of storages, also where a daemon fetches the files.

use std::collections::HashSet;
use std::fs;
use std::io::{self, Read, Write};
use std::path::{Component, Path, PathBuf};

use dragonfly_core::ErrorKind;
use dragonfly_core::source::{Entry, OpenRequest, OriginTrust, Registry, WalkLimits};
use dragonfly_core::task::{Algorithm, Digest, DigestHasher};
use futures::StreamExt;
use sha1::{Digest as _, Sha1};
use url::Url;

use super::args::Fetch;
use super::had::{self, Had};
use super::jobs::Job;
use super::{End, output_failed};
use crate::error::Failure;
use crate::names::redact;
use crate::output::Target;
use crate::units::size_text;

/// The longest pattern, in bytes: matching takes the length of pattern times path.
const PATTERN_MAX: usize = 1024;

/// Bytes of a file that are hashed at a time.
const READ_BYTES: usize = 256 << 10;

/// The downloads of everything below the URLs, or a list of them for people with `--dry-run`.
pub(super) async fn expand(args: &Fetch) -> Result<Vec<Job>, End> {
    if args.naming.digest.is_some() || args.range.is_some() || args.input_file.is_some() {
        return Err(Failure::usage("--recursive is neither for --digest nor for --range nor for --input-file").into());
    }
    if args.include.iter().chain(&args.exclude).any(|pattern| pattern.len() > PATTERN_MAX) {
        return Err(Failure::usage(format!("a pattern is longer than {PATTERN_MAX} bytes")).into());
    }
    if args.urls.len() > 1 && args.output.is_some() {
        return Err(Failure::usage("--recursive with several URLs leaves no room for -O").into());
    }
    let sources = sources(args)?;
    let mut jobs = Vec::new();
    let mut counts = Counts::default();
    for url in &args.urls {
        below(args, &sources, url, &mut jobs, &mut counts).await?;
    }
    if args.dry_run {
        let text = format!(
            "{} files, {}{}",
            counts.files,
            size_text(counts.bytes),
            if counts.sized { "" } else { " or more" }
        );
        writeln!(io::stderr(), "dfget: {text}").map_err(|e| output_failed(&e))?;
    } else if !args.talk.quiet {
        for (count, how) in
            [(counts.there, "are there already and left"), (counts.foreign, "are not as dfget put them and are left")]
        {
            if count > 0 {
                eprintln!("dfget: {count} files {how} as they are (--overwrite fetches them anew)");
            }
        }
    }
    if counts.files == 0 {
        return Err(Failure::new(ErrorKind::NotFound, "no file is below the URL, or fits the patterns").into());
    }
    Ok(jobs)
}

/// What was found.
struct Counts {
    files: usize,
    /// Outputs that exist.
    there: usize,
    /// Outputs that are of no version that is known to have been fetched.
    foreign: usize,
    bytes: u64,
    /// Whether all lengths are known.
    sized: bool,
    /// Outputs that are planned.
    taken: HashSet<PathBuf>,
}

impl Default for Counts {
    fn default() -> Self {
        Self { files: 0, there: 0, foreign: 0, bytes: 0, sized: true, taken: HashSet::new() }
    }
}

#[allow(unused_mut, reason = "not without storages")]
fn sources(args: &Fetch) -> Result<Registry, Failure> {
    let mut sources = Registry::builder();
    #[cfg(feature = "storages")]
    {
        sources = sources.storage(crate::storages::config(&args.storage)?);
    }
    let _ = args;
    Ok(sources.build())
}

async fn below(
    args: &Fetch,
    sources: &Registry,
    url: &str,
    jobs: &mut Vec<Job>,
    counts: &mut Counts,
) -> Result<(), End> {
    let request = args.request(url)?;
    let mut root = crate::names::parse_url(url)?;
    #[cfg(feature = "storages")]
    if let Some(platform) = &args.platform {
        if root.scheme() != "oci" {
            return Err(Failure::usage("--platform is for images: oci: URLs").into());
        }
        root.query_pairs_mut().append_pair("platform", platform);
    }
    if !root.path().ends_with('/') {
        root.set_path(&format!("{}/", root.path()));
    }
    let dir = match &args.output {
        Some(path) if path.as_os_str() == "-" => {
            return Err(Failure::usage("--recursive makes files: give a directory with -O").into());
        }
        Some(path) => path.clone(),
        None => directory_name(&root)?,
    };
    let mut asked = OpenRequest::new(root.clone());
    asked.headers = request.headers.clone();
    asked.local = true;
    asked.trust = trust(&request);
    let mut limits = WalkLimits::default();
    limits.entries = limits.entries.max(args.max_files.saturating_mul(4));
    let mut walk = sources.walk(asked, limits);
    // In an image's layout nothing is there to be changed: its files are named by their digests.
    let keeps = root.scheme() != "oci";
    let (mut had, planned) = (None, jobs.len());
    let mut wanted = Vec::new();
    while let Some(entry) = walk.next().await {
        let entry = entry.map_err(|error| {
            let failure: Failure = dragonfly_core::Error::from(error).into();
            failure
        })?;
        if entry.directory || !is_wanted(args, &entry.path) {
            continue;
        }
        if keeps && entry.pinned && entry.path == had::NAME {
            eprintln!("dfget: warning: {} of the origin is left out: a file of ours has this name", had::NAME);
            continue;
        }
        counts.files += 1;
        if counts.files > args.max_files {
            let text = format!("more than {} files are below it: take a part, or give --max-files", args.max_files);
            return Err(Failure::usage(text).into());
        }
        counts.bytes = counts.bytes.saturating_add(entry.length.unwrap_or(0));
        counts.sized &= entry.length.is_some();
        let path = dir.join(inner_path(&entry.path)?);
        if args.dry_run {
            tell(&entry, &path)?;
        } else {
            wanted.push((entry, path));
        }
    }
    // No directory is made before the list is whole.
    for (entry, path) in wanted {
        let there = fs::symlink_metadata(&path).ok().filter(fs::Metadata::is_file);
        let version = version(&entry);
        if keeps && entry.pinned && had.is_none() {
            had = Some(Had::load(&dir, args.overwrite)?);
        }
        if there.is_some() && !args.overwrite {
            // Of what version it is, or is to be, nobody can tell.
            let Some(wanted) = &version else {
                counts.there += 1;
                continue;
            };
            if is_named(&path, wanted).await? {
                counts.there += 1;
                if let Some(had) = &mut had {
                    had.note(&entry.path, wanted.clone());
                }
                continue;
            }
            if let Some(had) = &mut had {
                let Some(found) = known(&path, had.of(&entry.path)).await? else {
                    counts.foreign += 1;
                    continue;
                };
                // It stays known until the other one is there, however long that takes.
                had.note(&entry.path, found);
            }
        }
        make_parents(&dir, &path)?;
        // What is there under the name, a directory or a link, would be written into.
        if there.is_none() && fs::symlink_metadata(&path).is_ok() {
            return Err(Failure::usage(format!("{} is there and is no file", path.display())).into());
        }
        // What is there is of another version.
        let overwrite = args.overwrite || (entry.pinned && there.is_some());
        let target = Target::resolve(Some(&path), entry.url.as_str(), overwrite)?;
        if !counts.taken.insert(path.clone()) {
            return Err(Failure::usage(format!("two files would go to {}", path.display())).into());
        }
        let mut request = args.request(entry.url.as_str())?;
        request.digest = entry.digest.as_ref().map(ToString::to_string);
        // Lists of directories are of what was there a moment ago.
        request.length = entry.length.filter(|_| entry.pinned);
        jobs.push(Job { request, target, overwrite });
        if let (Some(version), Some(had)) = (version, &mut had) {
            had.note(&entry.path, version);
        }
    }
    match had.map_or(Ok(()), |had| had.save()) {
        // Where nothing is to be fetched the directory need not be one that can be written to.
        Err(_) if jobs.len() == planned => Ok(()),
        saved => Ok(saved?),
    }
}

/// How the version of content is called by which an entry is known, if it is of one.
fn version(entry: &Entry) -> Option<String> {
    let of_git = || entry.git_blob.as_ref().map(git_name);
    entry.digest.as_ref().map(ToString::to_string).or_else(of_git).filter(|_| entry.pinned)
}

fn git_name(blob: &[u8; 20]) -> String {
    blob.iter().fold("git:".to_owned(), |name, byte| format!("{name}{byte:02x}"))
}

/// Whether a file that is there is of the version with this name.
async fn is_named(path: &Path, name: &str) -> Result<bool, Failure> {
    Ok(known(path, &[name.to_owned()]).await?.is_some())
}

/// The name, of these, of the version that a file is of. Names are of several kinds: a hub calls a file otherwise once it
/// is a large one, and another hub may name all in one way.
async fn known(path: &Path, names: &[String]) -> Result<Option<String>, Failure> {
    let (path, names) = (path.to_owned(), names.to_vec());
    // Files are as large as models are.
    let found = tokio::task::spawn_blocking(move || {
        let mut kinds: Vec<Kind> = Vec::new();
        for kind in names.iter().filter_map(|name| Kind::of(name)) {
            if !kinds.contains(&kind) {
                kinds.push(kind);
            }
        }
        for kind in kinds {
            let found = kind.name(&path)?;
            if names.contains(&found) {
                return Ok(Some(found));
            }
        }
        Ok(None)
    });
    found.await.map_err(|e| Failure::new(ErrorKind::Internal, format!("a file cannot be compared: {e}")))?
}

/// A way to name content.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Digest(Algorithm),
    Git,
}

impl Kind {
    fn of(name: &str) -> Option<Self> {
        if name.starts_with("git:") {
            return Some(Self::Git);
        }
        name.parse::<Digest>().ok().map(|digest| Self::Digest(digest.algorithm()))
    }

    /// That of a file.
    fn name(self, path: &Path) -> Result<String, Failure> {
        match self {
            Self::Digest(algorithm) => {
                let mut hasher = DigestHasher::new(algorithm);
                read(path, |bytes| hasher.update(bytes))?;
                Ok(hasher.finish().to_string())
            }
            Self::Git => {
                let failed = |e: io::Error| Failure::io(format_args!("cannot look at {}", path.display()), &e);
                let length = fs::metadata(path).map_err(failed)?.len();
                let mut hasher = Sha1::new_with_prefix(format!("blob {length}\0"));
                read(path, |bytes| hasher.update(bytes))?;
                Ok(git_name(&hasher.finalize().into()))
            }
        }
    }
}

fn read(path: &Path, mut with: impl FnMut(&[u8])) -> Result<(), Failure> {
    let failed = |e: io::Error| Failure::io(format_args!("cannot read {}", path.display()), &e);
    let mut file = fs::File::open(path).map_err(failed)?;
    let mut buffer = vec![0; READ_BYTES];
    loop {
        match file.read(&mut buffer).map_err(failed)? {
            0 => return Ok(()),
            n => with(&buffer[..n]),
        }
    }
}

fn trust(request: &crate::model::FetchRequest) -> OriginTrust {
    let mut trust = OriginTrust::default();
    trust.ca_pem = request.ca_pem.iter().map(|pem| pem.as_bytes().to_vec()).collect();
    trust.insecure = request.insecure;
    trust
}

/// One line of `--dry-run`: the length, where it would go, the URL.
fn tell(entry: &Entry, path: &Path) -> Result<(), End> {
    let length = entry.length.map_or_else(|| "-".to_owned(), |length| length.to_string());
    let line = format!("{length}\t{}\t{}\n", path.display(), redact(entry.url.as_str()));
    io::stdout().lock().write_all(line.as_bytes()).map_err(|e| output_failed(&e))
}

/// The directory for a URL: its last segment, or the bucket or host.
fn directory_name(root: &Url) -> Result<PathBuf, Failure> {
    let mut without = root.clone();
    without.set_path(root.path().trim_end_matches('/'));
    crate::names::output_name(without.as_str()).or_else(|failure| match root.host_str() {
        Some(host) if !host.contains(['/', '[', ']']) && !matches!(host, "." | "..") => Ok(PathBuf::from(host)),
        _ => Err(failure),
    })
}

/// A path that stays below where it is put. The library says so of its entries; this is the last look.
fn inner_path(path: &str) -> Result<PathBuf, Failure> {
    let inner = PathBuf::from(path);
    if inner.components().all(|part| matches!(part, Component::Normal(_))) {
        return Ok(inner);
    }
    Err(Failure::usage(format!("the origin lists {path:?}, which leads elsewhere")))
}

/// Makes the directories of an output below `dir`. Links on the way are refused: they would lead elsewhere.
fn make_parents(dir: &Path, path: &Path) -> Result<(), Failure> {
    fs::create_dir_all(dir).map_err(|e| Failure::io(format_args!("cannot make {}", dir.display()), &e))?;
    let Some(parents) = path.strip_prefix(dir).ok().and_then(Path::parent) else { return Ok(()) };
    let mut at = dir.to_owned();
    for part in parents {
        at.push(part);
        match fs::create_dir(&at) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                if !fs::symlink_metadata(&at).is_ok_and(|found| found.is_dir()) {
                    return Err(Failure::usage(format!("{} is no directory of its own", at.display())));
                }
            }
            made => made.map_err(|e| Failure::io(format_args!("cannot make {}", at.display()), &e))?,
        }
    }
    Ok(())
}

/// Whether a path is to be fetched: it fits some pattern of `--include`, if there are any, and none of `--exclude`.
fn is_wanted(args: &Fetch, path: &str) -> bool {
    let fits = |patterns: &[String]| patterns.iter().any(|pattern| matches(pattern, path));
    (args.include.is_empty() || fits(&args.include)) && !fits(&args.exclude)
}

/// Whether a path fits a pattern: `*` and `?` within one part of it, `**` across parts. A pattern without a slash is one
/// for the last part alone, as with `.gitignore`.
fn matches(pattern: &str, path: &str) -> bool {
    let path = if pattern.contains('/') { path } else { path.rsplit('/').next().unwrap_or(path) };
    let (pattern, text): (Vec<char>, Vec<char>) = (pattern.chars().collect(), path.chars().collect());
    // `fits[j]`: whether the pattern so far fits the first `j` characters.
    let mut fits = vec![false; text.len() + 1];
    fits[0] = true;
    let mut i = 0;
    while i < pattern.len() {
        let mut next = vec![false; text.len() + 1];
        let across = pattern[i] == '*' && pattern.get(i + 1) == Some(&'*');
        if across {
            // `**/` is also no part at all.
            let directory = pattern.get(i + 2) == Some(&'/');
            let mut reached = false;
            for j in 0..=text.len() {
                reached |= fits[j];
                let at_part = j == 0 || text[j - 1] == '/';
                next[j] = reached && (!directory || fits[j] || at_part);
            }
            i += if directory { 3 } else { 2 };
        } else if pattern[i] == '*' {
            let mut reached = false;
            for j in 0..=text.len() {
                if j > 0 && text[j - 1] == '/' {
                    reached = false;
                }
                reached |= fits[j];
                next[j] = reached;
            }
            i += 1;
        } else {
            for j in 0..text.len() {
                let one = pattern[i] == text[j] || (pattern[i] == '?' && text[j] != '/');
                next[j + 1] = fits[j] && one;
            }
            i += 1;
        }
        fits = next;
    }
    fits[text.len()]
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn patterns_fit_paths() {
        for (pattern, path) in [
            ("*.bin", "a.bin"),
            ("*.bin", "d/e/a.bin"),
            ("d/*.bin", "d/a.bin"),
            ("d/**", "d/e/a.bin"),
            ("**/a.bin", "a.bin"),
            ("**/a.bin", "d/e/a.bin"),
            ("d/**/a.bin", "d/a.bin"),
            ("d/**/a.bin", "d/e/f/a.bin"),
            ("?.bin", "ä.bin"),
            ("*", "a"),
        ] {
            assert!(matches(pattern, path), "{pattern} {path}");
        }
        for (pattern, path) in [
            ("*.bin", "a.bin2"),
            ("d/*.bin", "d/e/a.bin"),
            ("**/a.bin", "d/ba.bin"),
            ("d/?", "d//"),
            ("", "a"),
            ("a", ""),
        ] {
            assert!(!matches(pattern, path), "{pattern} {path}");
        }
        assert!(!matches(&"*a".repeat(500), &"a".repeat(400)));
    }

    #[test]
    fn outputs_stay_below_their_directory() {
        assert!(inner_path("a/b").is_ok());
        for wrong in ["../a", "a/../../b", "/etc/passwd"] {
            assert!(inner_path(wrong).is_err(), "{wrong}");
        }
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("out");
        make_parents(&root, &root.join("a/b/c.bin")).unwrap();
        assert!(root.join("a/b").is_dir());
        std::os::unix::fs::symlink("/tmp", root.join("link")).unwrap();
        assert!(make_parents(&root, &root.join("link/c.bin")).is_err());
        let of = |url: &str| directory_name(&Url::parse(url).unwrap()).unwrap();
        assert_eq!(of("s3://bucket/a/models/"), PathBuf::from("models"));
        assert_eq!(of("s3://bucket/"), PathBuf::from("bucket"));
    }
}
