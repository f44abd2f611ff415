//! A source for a scheme of one's own: `shelf://NAME/PATH` is the file PATH of a directory that the program calls NAME.
//!
//! It does all that a source can: ranges, versions, lists, and errors that say what to do. A version is told by time and
//! length, which are the same wherever a shelf is copied with its times. Whoever fills one writes beside it and renames,
//! never twice within a tick of the clock; so a file that is open stays the version that it was.
//!
//! Members of the network may fetch what is on a shelf by its URL, from this host's copy of it, too: it is for all of
//! them. A source whose content is for this host's own users says so by [`Source::is_own`], and then no other is told.

use std::collections::BTreeMap;
use std::io::{self, SeekFrom};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use dragonfly_core::source::{Content, Entry, OpenRequest, Opened, Source, SourceError, SourceErrorKind, redact};
use dragonfly_core::task::Validator;
use futures::future::BoxFuture;
use futures::stream::{self, BoxStream, StreamExt as _};
use percent_encoding::percent_decode_str;
use tokio::fs::{File, ReadDir, canonicalize, metadata, read_dir};
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};
use url::Url;

/// How much is read at a time, in bytes.
const CHUNK_BYTES: usize = 256 << 10;

/// How many entries a page of a list has at most.
const PAGE: usize = 256;

/// Directories by the names that URLs have for them.
pub struct Shelves(pub BTreeMap<String, PathBuf>);

impl Source for Shelves {
    fn schemes(&self) -> &[&str] {
        &["shelf"]
    }

    fn open<'a>(&'a self, request: OpenRequest) -> BoxFuture<'a, Result<Opened, SourceError>> {
        Box::pin(async move {
            let place = self.place_of(&request.url)?;
            open(&place.below_its_shelf(&request.url).await?, &request).await
        })
    }

    fn list(&self, request: OpenRequest) -> BoxStream<'static, Result<Vec<Entry>, SourceError>> {
        let place = self.place_of(&request.url);
        let pages = async move {
            let url = request.url;
            let directory = match place {
                Ok(place) => place.below_its_shelf(&url).await,
                Err(error) => Err(error),
            };
            match directory {
                Err(error) => failed(error),
                Ok(directory) => match read_dir(&directory).await {
                    Err(error) => failed(of_io(&url, error)),
                    Ok(reading) => pages(url, reading),
                },
            }
        };
        stream::once(pages).flatten().boxed()
    }
}

/// What a URL names, before links are followed.
struct Place {
    shelf: PathBuf,
    path: PathBuf,
}

impl Shelves {
    fn place_of(&self, url: &Url) -> Result<Place, SourceError> {
        let said = |kind, what: &str| SourceError::new(kind, format!("{}: {what}", redact(url)));
        let name = url.host_str().unwrap_or_default();
        let Some(shelf) = self.0.get(name) else {
            return Err(said(SourceErrorKind::NotFound, "there is no such shelf"));
        };
        let mut path = shelf.clone();
        let names = url.path().trim_start_matches('/');
        // What is listed ends in a slash, and a shelf itself has no name in it.
        for name in names.strip_suffix('/').unwrap_or(names).split('/').filter(|_| !names.is_empty()) {
            let name = percent_decode_str(name).decode_utf8();
            let name = name.map_err(|_| said(SourceErrorKind::InvalidInput, "its path is not UTF-8"))?;
            if name.is_empty() || name.contains(['/', '\0']) {
                return Err(said(
                    SourceErrorKind::InvalidInput,
                    "a name in it is empty, or has a slash or a zero byte",
                ));
            }
            // `..` among them, and what is written but has no name yet.
            if name.starts_with('.') {
                return Err(said(SourceErrorKind::Forbidden, "names that begin with a dot are not given out"));
            }
            path.push(&*name);
        }
        Ok(Place { shelf: shelf.clone(), path })
    }
}

impl Place {
    /// Where it is, once links were followed: none leads out of a shelf.
    async fn below_its_shelf(&self, url: &Url) -> Result<PathBuf, SourceError> {
        let (shelf, path) = (canonicalize(&self.shelf).await, canonicalize(&self.path).await);
        let path = path.map_err(|e| of_io(url, e))?;
        if !path.starts_with(shelf.map_err(|e| of_io(url, e))?) {
            let text = format!("{}: a link leads out of its shelf", redact(url));
            return Err(SourceError::new(SourceErrorKind::Forbidden, text));
        }
        Ok(path)
    }
}

async fn open(path: &Path, request: &OpenRequest) -> Result<Opened, SourceError> {
    let said = |kind, what: &str| SourceError::new(kind, format!("{}: {what}", redact(&request.url)));
    // Before it is opened: a pipe would wait for somebody who writes into it.
    if !metadata(path).await.map_err(|e| of_io(&request.url, e))?.is_file() {
        return Err(said(SourceErrorKind::InvalidInput, "it is no file: a directory is listed (`--recursive`)"));
    }
    let mut file = File::open(path).await.map_err(|e| of_io(&request.url, e))?;
    let about = file.metadata().await.map_err(|e| of_io(&request.url, e))?;
    let length = about.len();
    let version = format!("{}.{:09}-{length}", about.mtime(), about.mtime_nsec());
    let validator = Validator::Version(version);
    if request.prior.as_ref() == Some(&validator) {
        return Ok(Opened::Unchanged { fresh: None });
    }
    let other_version = request.expect.as_ref().is_some_and(|expected| *expected != validator);
    if other_version || request.expect_length.is_some_and(|expected| expected != length) {
        return Err(said(SourceErrorKind::Changed, "it is another version by now"));
    }
    let wanted = request.range.clone().unwrap_or(0..u64::MAX);
    if wanted.is_empty() || (wanted.start > 0 && wanted.start >= length) {
        return Err(said(SourceErrorKind::InvalidInput, "the range is empty, or beyond its end"));
    }
    file.seek(SeekFrom::Start(wanted.start)).await.map_err(|e| of_io(&request.url, e))?;
    let carried = wanted.end.min(length) - wanted.start;
    let mut content = Content::new(body(request.url.clone(), file, carried));
    (content.length, content.offset, content.body_length) = (Some(length), wanted.start, Some(carried));
    (content.validator, content.ranges) = (Some(validator), true);
    Ok(Opened::Content(content))
}

/// So many bytes from where the file is at: not one less without an error.
fn body(url: Url, file: File, carried: u64) -> BoxStream<'static, Result<Bytes, SourceError>> {
    let read = move |(mut file, left): (File, u64)| {
        let url = url.clone();
        async move {
            if left == 0 {
                return Ok(None);
            }
            let mut bytes = vec![0; CHUNK_BYTES.min(usize::try_from(left).unwrap_or(CHUNK_BYTES))];
            match file.read(&mut bytes).await {
                Ok(0) => Err(of_io(&url, io::ErrorKind::UnexpectedEof.into())),
                Ok(count) => {
                    bytes.truncate(count);
                    Ok(Some((Bytes::from(bytes), (file, left - count as u64))))
                }
                Err(error) => Err(of_io(&url, error)),
            }
        }
    };
    stream::try_unfold((file, carried), read).boxed()
}

fn pages(url: Url, reading: ReadDir) -> BoxStream<'static, Result<Vec<Entry>, SourceError>> {
    let page = move |mut reading: ReadDir| {
        let url = url.clone();
        async move {
            let mut entries = Vec::new();
            while entries.len() < PAGE {
                let Some(found) = reading.next_entry().await.map_err(|e| of_io(&url, e))? else { break };
                // No URL has what is not UTF-8.
                let Some(name) = found.file_name().to_str().map(str::to_owned) else { continue };
                let plain = !name.contains(|c: char| c.is_control() || c == '\\') && name.trim() == name;
                if name.starts_with('.') || !plain {
                    continue;
                }
                // Links are followed by who names them, and not listed: one may lead out, or in a circle.
                let about = match found.metadata().await {
                    Ok(about) if about.is_file() || about.is_dir() => about,
                    Ok(_) => continue,
                    // It is gone by now.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                    Err(error) => return Err(of_io(&url, error)),
                };
                let mut below = url.clone();
                if let Ok(mut segments) = below.path_segments_mut() {
                    segments.pop_if_empty().push(&name);
                    if about.is_dir() {
                        segments.push("");
                    }
                }
                let length = about.is_file().then_some(about.len());
                entries.push(Entry::new(name, below, length, about.is_dir()));
            }
            Ok(if entries.is_empty() { None } else { Some((entries, reading)) })
        }
    };
    stream::try_unfold(reading, page).boxed()
}

fn failed<T: Send + 'static>(error: SourceError) -> BoxStream<'static, Result<T, SourceError>> {
    stream::once(async { Err(error) }).boxed()
}

fn of_io(url: &Url, error: io::Error) -> SourceError {
    let kind = match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => SourceErrorKind::NotFound,
        io::ErrorKind::PermissionDenied => SourceErrorKind::Forbidden,
        _ => SourceErrorKind::Origin,
    };
    SourceError::new(kind, format!("{}: the shelf could not be read", redact(url))).caused_by(error)
}
