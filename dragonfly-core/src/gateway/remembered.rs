//! What servers said to clients without credentials, for when they cannot be asked: what is held is given out then, after a
//! restart, too.
//!
//! A server's no counts for its URL, whoever asked: it takes back every yes that was said of it, and of what a tag there
//! stood for, and stays, so that "refused" is not taken for "never asked".
//!
//! The file has a record for each answer that is new, so that a kill loses none that a client had, and is written anew when
//! it has become too long. A record that is torn ends it: it is of an answer that no client had. A file that is damaged
//! otherwise is not believed at all, for a no could be what is damaged, nor one that could not be written to.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::mem;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use http::header::HeaderMap;
use http::{HeaderName, HeaderValue, StatusCode};
use minicbor::{Decode, Encode};
use url::Url;

use super::head::{HEADS_MAX, Head};
use super::registry::named;
use crate::task::{Digest, Validator};

/// All answers together; the file has at most twice as much.
pub(super) const BYTES_MAX: usize = 4 << 20;

/// One of them. Those of registries have some hundred bytes.
const ANSWER_BYTES_MAX: usize = 32 << 10;

/// URLs that were refused. Beyond, every URL of which nothing is known counts as such.
pub(super) const REFUSED_MAX: usize = 8 * HEADS_MAX;

/// Before each record: its length, and the start of its BLAKE3.
const FRAME: usize = 4 + 8;

/// What says how content is to be taken. The rest is of one answer alone, as `x-request-id` is.
const HEADERS: [&str; 10] = [
    "accept-ranges",
    "cache-control",
    "content-disposition",
    "content-encoding",
    "content-language",
    "content-type",
    "docker-content-digest",
    "etag",
    "last-modified",
    "vary",
];

/// The same, of registries, Hugging Face and Artifactory.
const HEADERS_BEGINNING: [&str; 4] = ["docker-", "x-repo-", "x-linked-", "x-checksum-"];

/// Who asks for what, see [`Object::key`](super::head::Object::key); or the BLAKE3 of a URL, whoever asks.
type Key = [u8; 32];

/// In the place of a URL that was refused: more were than are kept.
const ANY: Key = [0; 32];

/// The key of a URL of its own: everything said of it is taken back, and it is refused.
#[derive(Debug, Encode, Decode)]
struct Record {
    #[n(0)]
    #[cbor(with = "minicbor::bytes")]
    key: Key,
    /// Absent: this is not known any more.
    #[n(1)]
    told: Option<Told>,
    #[n(2)]
    #[cbor(with = "minicbor::bytes")]
    url: Key,
}

#[derive(Debug, Encode, Decode)]
struct Told {
    #[n(0)]
    status: u16,
    #[n(1)]
    headers: Vec<(String, String)>,
    #[n(2)]
    length: Option<u64>,
    #[n(3)]
    version: Option<Validator>,
}

impl Told {
    /// `None`: some of it is no text.
    fn of(head: &Head) -> Option<Self> {
        let text =
            |(name, value): (&HeaderName, &HeaderValue)| Some((name.to_string(), value.to_str().ok()?.to_owned()));
        let headers = head.headers.iter().filter(|(name, _)| is_of_use(name.as_str()));
        let headers = headers.map(text).collect::<Option<_>>()?;
        Some(Self { status: head.status.as_u16(), headers, length: head.length, version: head.version.clone() })
    }

    fn head(self) -> Option<Head> {
        let mut headers = HeaderMap::new();
        for (name, value) in self.headers {
            headers.append(HeaderName::try_from(name).ok()?, HeaderValue::try_from(value).ok()?);
        }
        let status = StatusCode::from_u16(self.status).ok()?;
        Some(Head { status, headers, length: self.length, version: self.version })
    }
}

fn is_of_use(name: &str) -> bool {
    HEADERS.contains(&name) || HEADERS_BEGINNING.iter().any(|start| name.starts_with(start))
}

/// What was told, with a file or without one.
#[derive(Debug, Default)]
pub(super) struct Remembered {
    path: Option<PathBuf>,
    state: Mutex<State>,
    /// What is appended to, and how long it is; absent where there is none that can be. Held while it is written to, and
    /// taken before the state.
    file: Mutex<Option<(File, u64)>>,
    /// Held by who has the file written: the next one finds his there, most of the time, and keeps no thread from others.
    pub(super) writer: tokio::sync::Mutex<()>,
}

/// Never locked over a wait for the file.
#[derive(Debug, Default)]
struct State {
    told: HashMap<Key, Answer>,
    /// Of `told`, as the file has them.
    bytes: usize,
    refused: HashSet<Key>,
    next: u64,
    /// Frames that the file has not yet.
    pending: Vec<u8>,
    /// Whether `pending` takes back what the file says.
    takes_back: bool,
    /// Whether the file says something else than what is in here, whatever is added to it.
    is_other: bool,
}

#[derive(Debug)]
struct Answer {
    /// Those told last are kept.
    at: u64,
    url: Key,
    /// As it is in the file.
    record: Vec<u8>,
}

impl Answer {
    fn head(&self) -> Option<Head> {
        minicbor::decode::<Record>(&self.record).ok()?.told?.head()
    }
}

impl Remembered {
    /// With what a file has.
    pub(super) fn open(path: Option<&Path>) -> Self {
        let (mut state, mut file) = (State::default(), None);
        if let Some(path) = path {
            match read(path, &mut state) {
                Ok(opened) => file = Some(opened),
                Err(error) => {
                    state.is_other = true;
                    // What was refused is not known either: then nothing is given out of which nothing was said since.
                    state.refused.insert(ANY);
                    tracing::warn!(file = %path.display(), %error, "what servers said before is not known");
                }
            }
        }
        Self { path: path.map(Path::to_owned), state: Mutex::new(state), file: Mutex::new(file), ..Self::default() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing that holds the lock can leave it broken.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn get(&self, key: &Key) -> Option<Head> {
        self.lock().told.get(key)?.head()
    }

    /// Whether a server's last word on this was no, or may have been.
    pub(super) fn is_refused(&self, url: &Url) -> bool {
        let state = self.lock();
        state.is_refused(&key_of(url)) || object_of(url).is_some_and(|object| state.is_refused(&object))
    }

    /// A server said this to whoever has this key.
    pub(super) fn allow(&self, url: &Url, key: Key, head: &Head) {
        let (mut state, object, url) = (self.lock(), object_of(url), key_of(url));
        if object.is_some_and(|object| state.refused.remove(&object)) {
            // It is to be had in one of the repositories. The file has no word for that.
            state.is_other = true;
        }
        let record = Told::of(head).map(|told| encoded(key, Some(told), url));
        let Some(record) = record.filter(|record| record.len() <= ANSWER_BYTES_MAX) else {
            // Too much to be remembered, but what was said before is not so any more.
            if state.forget(&key) {
                state.push(&encoded(key, None, url));
            }
            return;
        };
        let next = state.next;
        if !state.refused.contains(&url)
            && let Some(known) = state.told.get_mut(&key).filter(|known| known.record == record)
        {
            known.at = next;
            state.next += 1;
            return;
        }
        state.push(&record);
        state.take(key, url, record);
    }

    /// A server says that this cannot be had; of what is `fixed` that is known from then on.
    pub(super) fn refuse(&self, url: &Url, fixed: bool) {
        let (mut state, key) = (self.lock(), key_of(url));
        let told: Vec<_> = state.told.values().filter(|answer| answer.url == key).collect();
        let mut refused: Vec<Key> = (fixed || !told.is_empty()).then_some(key).into_iter().collect();
        // What a tag stood for was known by that tag.
        let digests = told.iter().filter_map(|answer| answer.head()?.digest()?.parse::<Digest>().ok());
        let named: Vec<Url> = digests.map(|digest| named(url, &digest)).collect();
        refused.extend(named.iter().map(key_of).filter(|digest| *digest != key));
        // A digest names the same in every repository: who was refused it in one does not have it by the name of another.
        refused.extend(named.iter().filter_map(object_of));
        refused.extend(object_of(url).filter(|_| fixed || !told.is_empty()));
        for url in refused {
            if state.refuse(url) {
                state.push(&encoded(url, None, url));
            }
        }
    }

    /// Whether there is nothing to [write](Self::write).
    pub(super) fn is_written(&self) -> bool {
        let state = self.lock();
        self.path.is_none() || state.pending.is_empty() && !state.is_other
    }

    /// Has the file say what is remembered. Blocks for it.
    pub(super) fn write(&self) {
        let Some(path) = &self.path else { return };
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        let (frames, whole, takes_back) = {
            let mut state = self.lock();
            let pending = mem::take(&mut state.pending);
            let room = |(_, length): &(File, u64)| length + pending.len() as u64 <= 2 * BYTES_MAX as u64;
            let whole = mem::take(&mut state.is_other) || !file.as_ref().is_some_and(room);
            (if whole { state.frames() } else { pending }, whole, mem::take(&mut state.takes_back))
        };
        let written = match &mut *file {
            Some((file, length)) if !whole => file
                .write_all(&frames)
                .and_then(|()| if takes_back { file.sync_data() } else { Ok(()) })
                .map(|()| *length += frames.len() as u64),
            _ => rewrite(path, &frames).map(|fresh| *file = Some(fresh)),
        };
        if let Err(error) = written {
            tracing::warn!(file = %path.display(), %error, "what servers said is not known after a restart");
            // What it says may have been taken back since, and what was refused must not be taken for what was never asked.
            *file = refuse_all(path).ok();
            self.lock().is_other = true;
        }
    }
}

impl State {
    fn is_refused(&self, url: &Key) -> bool {
        self.refused.contains(url) || self.refused.contains(&ANY)
    }

    /// For the file.
    fn push(&mut self, record: &[u8]) {
        if self.pending.len() > BYTES_MAX {
            // Nobody comes to write it.
            (self.pending, self.is_other) = (Vec::new(), true);
        }
        self.pending.extend_from_slice(&framed(record));
    }

    /// Whether it was known.
    fn forget(&mut self, key: &Key) -> bool {
        let old = self.told.remove(key);
        self.bytes -= old.as_ref().map_or(0, |old| FRAME + old.record.len());
        old.is_some()
    }

    fn take(&mut self, key: Key, url: Key, record: Vec<u8>) {
        self.forget(&key);
        self.refused.remove(&url);
        self.bytes += FRAME + record.len();
        self.told.insert(key, Answer { at: self.next, url, record });
        self.next += 1;
        while self.told.len() > HEADS_MAX || self.bytes > BYTES_MAX {
            // At this size a search costs nothing beside a question over the network.
            let oldest = self.told.iter().min_by_key(|(_, answer)| answer.at).map(|(key, answer)| (*key, answer.url));
            let Some((key, url)) = oldest else { break };
            self.forget(&key);
            // Or it came back with the file, whatever the server says of it meanwhile.
            self.push(&encoded(key, None, url));
        }
    }

    /// Whether that changes anything.
    fn refuse(&mut self, url: Key) -> bool {
        let keys: Vec<Key> = self.told.iter().filter(|(_, answer)| answer.url == url).map(|(key, _)| *key).collect();
        for key in &keys {
            self.forget(key);
        }
        self.takes_back |= !keys.is_empty();
        let is_new = !self.is_refused(&url);
        if is_new {
            let is_full = self.refused.len() >= REFUSED_MAX;
            if is_full {
                self.refused.clear();
            }
            self.refused.insert(if is_full { ANY } else { url });
        }
        is_new || !keys.is_empty()
    }

    /// All of it, the oldest answer first.
    fn frames(&self) -> Vec<u8> {
        let mut told: Vec<_> = self.told.values().collect();
        told.sort_unstable_by_key(|answer| answer.at);
        let refused = self.refused.iter().flat_map(|url| framed(&encoded(*url, None, *url)));
        refused.chain(told.iter().flat_map(|answer| framed(&answer.record))).collect()
    }
}

fn key_of(url: &Url) -> Key {
    *blake3::hash(url.as_str().as_bytes()).as_bytes()
}

/// What a digest names at a registry, by that alone, whatever repository it is asked for in.
fn object_of(url: &Url) -> Option<Key> {
    let (path, digest) = url.path().rsplit_once('/')?;
    let name = || format!("{} {digest}", url.origin().ascii_serialization());
    let fixed = path.ends_with("/blobs") || path.ends_with("/manifests") && digest.contains(':');
    fixed.then(|| *blake3::hash(name().as_bytes()).as_bytes())
}

fn encoded(key: Key, told: Option<Told>, url: Key) -> Vec<u8> {
    let mut record = Vec::new();
    // A vector takes everything.
    let _ = minicbor::encode(Record { key, told, url }, &mut record);
    record
}

fn framed(record: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(FRAME + record.len());
    frame.extend_from_slice(&(record.len() as u32).to_le_bytes());
    frame.extend_from_slice(&blake3::hash(record).as_bytes()[..8]);
    frame.extend_from_slice(record);
    frame
}

/// The record that bytes begin with; `None` if they end within it.
///
/// # Errors
/// It is none.
fn first(bytes: &[u8]) -> io::Result<Option<(Record, &[u8])>> {
    let damaged = || io::Error::new(io::ErrorKind::InvalidData, "it is damaged");
    let Some((frame, rest)) = bytes.split_at_checked(FRAME) else { return Ok(None) };
    let length = u32::from_le_bytes(*frame.first_chunk().ok_or_else(damaged)?) as usize;
    if length > ANSWER_BYTES_MAX {
        return Err(damaged());
    }
    let Some(record) = rest.get(..length) else { return Ok(None) };
    if blake3::hash(record).as_bytes()[..8] != frame[4..] {
        return Err(damaged());
    }
    let read = minicbor::decode(record).map_err(|_| damaged())?;
    Ok(Some((read, record)))
}

/// Takes in what a file has, and opens it to go on behind that.
fn read(path: &Path, state: &mut State) -> io::Result<(File, u64)> {
    let mut file = OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path)?;
    let mut bytes = Vec::new();
    (&mut file).take(2 * BYTES_MAX as u64).read_to_end(&mut bytes)?;
    let (mut rest, mut known) = (&bytes[..], State::default());
    while let Some((Record { key, told, url }, text)) = first(rest)? {
        if told.is_some() {
            known.take(key, url, text.to_vec());
        } else if key == url {
            known.refuse(url);
        } else {
            known.forget(&key);
        }
        rest = &rest[FRAME + text.len()..];
    }
    let length = (bytes.len() - rest.len()) as u64;
    file.set_len(length)?;
    *state = known;
    Ok((file, length))
}

/// A file of these frames in the place of the one that is there.
fn rewrite(path: &Path, frames: &[u8]) -> io::Result<(File, u64)> {
    let fresh = path.with_extension("new");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&fresh)?;
    file.write_all(frames)?;
    file.sync_data()?;
    fs::rename(&fresh, path)?;
    Ok((file, frames.len() as u64))
}

/// Has a file say no more than that anything may have been refused. Where it can be neither that nor removed it stays as it is.
fn refuse_all(path: &Path) -> io::Result<(File, u64)> {
    let frames = framed(&encoded(ANY, None, ANY));
    // In place: there may be no room for another file.
    let in_place = || {
        let mut file = OpenOptions::new().write(true).open(path)?;
        file.set_len(0)?;
        file.write_all(&frames)?;
        file.sync_data()?;
        Ok((file, frames.len() as u64))
    };
    let written: io::Result<_> = in_place();
    written.inspect_err(|_| drop(fs::remove_file(path)))
}

/// Has a file that nobody keeps up from now on say nothing that may be taken back meanwhile.
///
/// # Errors
/// It says what it said.
pub(super) fn forget(path: &Path) -> io::Result<()> {
    if !path.try_exists()? {
        return Ok(());
    }
    let forgotten = refuse_all(path).map(drop);
    if path.try_exists()? { forgotten } else { Ok(()) }
}

#[cfg(test)]
mod tests;
