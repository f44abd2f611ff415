//! What servers said to clients without credentials, for when they cannot be asked: what is held is given out then, after a
//! restart, too.
//!
//! The file has a record for each answer that is new, so that a kill loses none that a client had, and is written anew when
//! it has become too long. What cannot be read ends it: it is knowledge, not content, and the next answer brings it back.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use http::header::HeaderMap;
use http::{HeaderName, HeaderValue, StatusCode};
use minicbor::{Decode, Encode};

use super::head::{HEADS_MAX, Head};
use crate::task::Validator;

/// All answers together; the file has at most twice as much.
pub(super) const BYTES_MAX: usize = 4 << 20;

/// One of them. Those of registries have some hundred bytes.
const ANSWER_BYTES_MAX: usize = 32 << 10;

/// Before each record: its length, and the start of its BLAKE3.
const FRAME: usize = 4 + 8;

/// Who asks for what: see [`Object::key`](super::head::Object::key).
type Key = [u8; 32];

#[derive(Debug, Encode, Decode)]
struct Record {
    #[n(0)]
    #[cbor(with = "minicbor::bytes")]
    key: Key,
    /// Absent: the server says no by now.
    #[n(1)]
    told: Option<Told>,
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
        let headers = head.headers.iter().map(text).collect::<Option<_>>()?;
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

/// What was told, with a file or without one.
#[derive(Debug, Default)]
pub(super) struct Remembered {
    path: Option<PathBuf>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Records as they are in the file, and which was told last.
    told: HashMap<Key, (u64, Vec<u8>)>,
    bytes: usize,
    next: u64,
    /// What is appended to, and how long it is; absent after it could not be written.
    file: Option<(File, u64)>,
}

impl Remembered {
    /// With what a file has.
    pub(super) fn open(path: Option<&Path>) -> Self {
        let mut state = State::default();
        if let Some(path) = path {
            match read(path, &mut state) {
                Ok(file) => state.file = Some(file),
                Err(error) => tracing::warn!(file = %path.display(), %error, "what servers said before is not known"),
            }
        }
        Self { path: path.map(Path::to_owned), state: Mutex::new(state) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing that holds the lock can leave it broken: what is in memory is changed before the file.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn get(&self, key: &Key) -> Option<Head> {
        let record = self.lock().told.get(key)?.1.clone();
        minicbor::decode::<Record>(&record).ok()?.told?.head()
    }

    /// Whether this would change nothing that a file has; then it counts as told last.
    pub(super) fn knows(&self, key: &Key, head: Option<&Head>) -> bool {
        let mut state = self.lock();
        let Some(head) = head else { return !state.told.contains_key(key) };
        let Some(record) = record(key, Some(head)) else { return true };
        let next = state.next;
        let known = state.told.get_mut(key).filter(|(_, known)| *known == record);
        let known = known.map(|(at, _)| *at = next).is_some();
        state.next += u64::from(known);
        known
    }

    /// A server said this, or that it may not be had any more. Blocks for the file.
    pub(super) fn put(&self, key: Key, head: Option<&Head>) {
        let Some(record) = record(&key, head) else { return };
        let mut state = self.lock();
        state.take(key, head.is_some().then(|| record.clone()));
        let Some(path) = &self.path else { return };
        let written = match &mut state.file {
            Some((file, length)) if *length + (FRAME + record.len()) as u64 <= 2 * BYTES_MAX as u64 => {
                file.write_all(&framed(&record)).map(|()| *length += (FRAME + record.len()) as u64)
            }
            _ => rewrite(path, &state).map(|file| state.file = Some(file)),
        };
        if let Err(error) = written {
            // Half of a record may be in it.
            state.file = None;
            tracing::warn!(file = %path.display(), %error, "what servers said is not known after a restart");
        }
    }
}

impl State {
    fn take(&mut self, key: Key, record: Option<Vec<u8>>) {
        if let Some((_, old)) = self.told.remove(&key) {
            self.bytes -= FRAME + old.len();
        }
        let Some(record) = record else { return };
        self.bytes += FRAME + record.len();
        self.told.insert(key, (self.next, record));
        self.next += 1;
        while self.told.len() > HEADS_MAX || self.bytes > BYTES_MAX {
            // At this size a search costs nothing beside a question over the network.
            let oldest = self.told.iter().min_by_key(|(_, (at, _))| *at).map(|(key, _)| *key);
            let Some((_, old)) = oldest.and_then(|oldest| self.told.remove(&oldest)) else { break };
            self.bytes -= FRAME + old.len();
        }
    }
}

/// `None`: it is not worth remembering.
fn record(key: &Key, head: Option<&Head>) -> Option<Vec<u8>> {
    let told = match head {
        Some(head) => Some(Told::of(head)?),
        None => None,
    };
    minicbor::to_vec(Record { key: *key, told }).ok().filter(|record| record.len() <= ANSWER_BYTES_MAX)
}

fn framed(record: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(FRAME + record.len());
    frame.extend_from_slice(&(record.len() as u32).to_le_bytes());
    frame.extend_from_slice(&blake3::hash(record).as_bytes()[..8]);
    frame.extend_from_slice(record);
    frame
}

/// The record that bytes begin with; `None` if that is none.
fn first(bytes: &[u8]) -> Option<(Record, &[u8])> {
    let (frame, rest) = bytes.split_at_checked(FRAME)?;
    let length = u32::from_le_bytes(*frame.first_chunk()?) as usize;
    let record = rest.get(..length).filter(|_| length <= ANSWER_BYTES_MAX)?;
    (blake3::hash(record).as_bytes()[..8] == frame[4..]).then_some(())?;
    Some((minicbor::decode(record).ok()?, record))
}

/// Takes in what a file has, and opens it to go on behind that.
fn read(path: &Path, state: &mut State) -> io::Result<(File, u64)> {
    let mut file = OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path)?;
    let mut bytes = Vec::new();
    (&mut file).take(2 * BYTES_MAX as u64).read_to_end(&mut bytes)?;
    let mut rest = &bytes[..];
    while let Some((record, text)) = first(rest) {
        state.take(record.key, record.told.is_some().then(|| text.to_vec()));
        rest = &rest[FRAME + text.len()..];
    }
    let length = (bytes.len() - rest.len()) as u64;
    file.set_len(length)?;
    Ok((file, length))
}

/// A file with what is remembered, the oldest first, in the place of the one that is there.
fn rewrite(path: &Path, state: &State) -> io::Result<(File, u64)> {
    let mut told: Vec<_> = state.told.values().collect();
    told.sort_unstable_by_key(|(at, _)| *at);
    let fresh = path.with_extension("new");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&fresh)?;
    let bytes = told.iter().flat_map(|(_, record)| framed(record)).collect::<Vec<_>>();
    file.write_all(&bytes)?;
    file.sync_data()?;
    fs::rename(&fresh, path)?;
    Ok((file, bytes.len() as u64))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn head(name: &'static str, value: &str) -> Head {
        let mut headers = HeaderMap::new();
        headers.append(name, value.parse().unwrap());
        let version = Some(Validator::Etag("\"a\"".to_owned()));
        Head { status: StatusCode::OK, headers, length: Some(7), version }
    }

    fn key(number: u64) -> Key {
        *blake3::hash(&number.to_le_bytes()).as_bytes()
    }

    fn value(remembered: &Remembered, number: u64) -> Option<String> {
        let head = remembered.get(&key(number))?;
        assert_eq!((head.status, head.length), (StatusCode::OK, Some(7)));
        assert_eq!(head.version, Some(Validator::Etag("\"a\"".to_owned())));
        Some(head.headers["x"].to_str().unwrap().to_owned())
    }

    #[test]
    fn answers_outlive_a_kill_and_refusals_do_too() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("answers");
        let remembered = Remembered::open(Some(&path));
        for (number, told) in [(1, "a"), (2, "b"), (1, "c"), (3, "d")] {
            assert!(!remembered.knows(&key(number), Some(&head("x", told))));
            remembered.put(key(number), Some(&head("x", told)));
            assert!(remembered.knows(&key(number), Some(&head("x", told))));
        }
        assert!(!remembered.knows(&key(3), None) && remembered.knows(&key(4), None));
        remembered.put(key(3), None);
        // Nobody stops it.
        std::mem::forget(remembered);
        let again = Remembered::open(Some(&path));
        let of = |remembered: &Remembered| [1, 2, 3].map(|number| value(remembered, number));
        assert_eq!(of(&again), [Some("c".to_owned()), Some("b".to_owned()), None]);
        // A record that is torn, and what follows it, are as if they had not been; what comes later is there again.
        let whole = fs::read(&path).unwrap();
        for torn in [whole[..whole.len() - 1].to_vec(), [&whole[..], &whole[..20]].concat()] {
            fs::write(&path, &torn).unwrap();
            let torn = Remembered::open(Some(&path));
            assert_eq!(value(&torn, 1).as_deref(), Some("c"));
            torn.put(key(5), Some(&head("x", "e")));
            assert_eq!(value(&Remembered::open(Some(&path)), 5).as_deref(), Some("e"));
        }
        let mut flipped = whole;
        flipped[FRAME + 5] ^= 1;
        fs::write(&path, &flipped).unwrap();
        assert_eq!(of(&Remembered::open(Some(&path))), [None, None, None]);
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("answers");
        let remembered = Remembered::open(Some(&path));
        let check = |remembered: &Remembered| {
            let state = remembered.lock();
            assert!(state.told.len() <= HEADS_MAX && state.bytes <= BYTES_MAX);
            assert_eq!(state.bytes, state.told.values().map(|(_, record)| FRAME + record.len()).sum::<usize>());
            let length = fs::metadata(&path).unwrap().len();
            assert!(length <= 2 * BYTES_MAX as u64 && state.file.as_ref().unwrap().1 == length, "{length}");
        };
        for number in 0..HEADS_MAX as u64 + 10 {
            remembered.put(key(number), Some(&head("x", "small")));
        }
        check(&remembered);
        assert_eq!(
            (value(&remembered, 9), value(&remembered, 10).as_deref()),
            (None, Some("small")),
            "the oldest went"
        );
        let large = "x".repeat(ANSWER_BYTES_MAX - 200);
        for number in 0..400 {
            remembered.put(key(number), Some(&head("x", &large)));
            check(&remembered);
        }
        assert_eq!((value(&remembered, 0), value(&remembered, 399)), (None, Some(large.clone())));
        let again = Remembered::open(Some(&path));
        check(&again);
        assert_eq!(value(&again, 399), Some(large));
        let too_large = head("x", &"x".repeat(ANSWER_BYTES_MAX));
        again.put(key(1000), Some(&too_large));
        assert!(again.knows(&key(1000), Some(&too_large)) && again.get(&key(1000)).is_none());
    }
}
