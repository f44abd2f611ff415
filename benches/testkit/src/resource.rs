//! What an origin has under a path, and how it misbehaves.

use std::sync::Mutex;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use tokio::time::Instant;

use crate::content;
use crate::counters::lock;

/// When everything was last modified unless told otherwise: 2024-01-01, long enough ago to be a strong validator.
const OLD: u64 = 1_704_067_200;

/// The content of a path and the manners with which it is served.
///
/// By default: ranges, a strong entity tag, an old `Last-Modified`, a `Content-Length`, nothing else.
#[derive(Clone, Debug)]
pub struct Resource {
    pub(crate) content: Content,
    pub(crate) later: Option<(u64, Content)>,
    pub(crate) ranges: bool,
    pub(crate) tag: Tag,
    pub(crate) last_modified: Option<SystemTime>,
    pub(crate) chunked: bool,
    pub(crate) endless: bool,
    pub(crate) redirect: Option<(u16, String)>,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) required: Vec<(String, String)>,
    /// The `Authorization` that is asked for, and what asks for it.
    pub(crate) auth: Option<(String, String)>,
    /// The type and text of refusals.
    pub(crate) refusal: Option<(String, Bytes)>,
    pub(crate) fail: Option<(u64, u16, Option<u64>)>,
    pub(crate) hang_up: u64,
    pub(crate) reset: Option<(u64, u64)>,
    pub(crate) stall: Option<(u64, u64)>,
    pub(crate) content_range: Option<String>,
    pub(crate) body_delta: i64,
    pub(crate) rate: Option<u64>,
    pub(crate) held: bool,
    pub(crate) if_range_ignored: bool,
}

#[derive(Clone, Debug)]
pub(crate) enum Content {
    Fixed(Bytes),
    Seeded { seed: u64, length: u64 },
}

#[derive(Clone, Debug)]
pub(crate) enum Tag {
    /// A strong one that follows the content.
    Auto,
    None,
    Verbatim(String),
}

impl Content {
    pub(crate) fn length(&self) -> u64 {
        match self {
            Self::Fixed(bytes) => bytes.len() as u64,
            Self::Seeded { length, .. } => *length,
        }
    }

    /// `len` bytes from `offset`; what lies beyond the end of fixed content is zero.
    pub(crate) fn part(&self, offset: u64, len: usize) -> Bytes {
        match self {
            Self::Seeded { seed, .. } => content::bytes(*seed, offset, len),
            Self::Fixed(bytes) => {
                let from = (offset as usize).min(bytes.len());
                let to = (from + len).min(bytes.len());
                if to - from == len {
                    return bytes.slice(from..to);
                }
                let mut out = bytes[from..to].to_vec();
                out.resize(len, 0);
                out.into()
            }
        }
    }

    pub(crate) fn etag(&self) -> String {
        match self {
            Self::Fixed(bytes) => format!("\"{}\"", &content::hex(blake3::hash(bytes).as_bytes())[..16]),
            Self::Seeded { seed, length } => format!("\"{seed:x}-{length:x}\""),
        }
    }
}

impl Resource {
    /// The first `length` bytes of the content of `seed`, see [`content`](crate::content).
    pub fn seeded(seed: u64, length: u64) -> Self {
        Self::with(Content::Seeded { seed, length })
    }

    /// These bytes.
    pub fn bytes(bytes: impl Into<Bytes>) -> Self {
        Self::with(Content::Fixed(bytes.into()))
    }

    /// No content: sends the client elsewhere with `status` (301, 302, 303, 307, 308) and this `Location`, which may
    /// be absolute, relative, or the path itself (a loop).
    pub fn redirect(status: u16, location: impl Into<String>) -> Self {
        let mut resource = Self::bytes(Bytes::new());
        resource.redirect = Some((status, location.into()));
        resource
    }

    fn with(content: Content) -> Self {
        Self {
            content,
            later: None,
            ranges: true,
            tag: Tag::Auto,
            last_modified: Some(SystemTime::UNIX_EPOCH + Duration::from_secs(OLD)),
            chunked: false,
            endless: false,
            redirect: None,
            headers: Vec::new(),
            required: Vec::new(),
            auth: None,
            refusal: None,
            fail: None,
            hang_up: 0,
            reset: None,
            stall: None,
            content_range: None,
            body_delta: 0,
            rate: None,
            held: false,
            if_range_ignored: false,
        }
    }

    /// Answers every request with the whole.
    #[must_use]
    pub fn no_ranges(mut self) -> Self {
        self.ranges = false;
        self
    }

    /// The `ETag` header, verbatim: quotes and a `W/` are the caller's.
    #[must_use]
    pub fn etag(mut self, tag: impl Into<String>) -> Self {
        self.tag = Tag::Verbatim(tag.into());
        self
    }

    /// No `ETag`.
    #[must_use]
    pub fn no_etag(mut self) -> Self {
        self.tag = Tag::None;
        self
    }

    /// `Last-Modified`.
    #[must_use]
    pub fn last_modified(mut self, time: SystemTime) -> Self {
        self.last_modified = Some(time);
        self
    }

    /// No `Last-Modified`.
    #[must_use]
    pub fn no_last_modified(mut self) -> Self {
        self.last_modified = None;
        self
    }

    /// No `Content-Length`, and no total in `Content-Range`: the length is unknown until the end.
    #[must_use]
    pub fn chunked(mut self) -> Self {
        self.chunked = true;
        self
    }

    /// The body never ends (and has no length).
    #[must_use]
    pub fn endless(mut self) -> Self {
        self.chunked = true;
        self.endless = true;
        self.ranges = false;
        self
    }

    /// A header of every answer: `Cache-Control`, `Vary`, `Content-Encoding` (a lie) and so on.
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Requests without this header get 403.
    #[must_use]
    pub fn require_header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.required.push((name.into(), value.into()));
        self
    }

    /// Requests without these credentials get 401.
    #[must_use]
    pub fn basic_auth(mut self, user: &str, password: &str) -> Self {
        let basic = format!("Basic {}", base64(format!("{user}:{password}").as_bytes()));
        self.auth = Some((basic, "Basic realm=\"testkit\"".to_owned()));
        self
    }

    /// Requests without this token get 401 with this `WWW-Authenticate`, as of a registry that sends its clients to a server
    /// of tokens.
    #[must_use]
    pub fn bearer_auth(mut self, token: &str, challenge: impl Into<String>) -> Self {
        self.auth = Some((format!("Bearer {token}"), challenge.into()));
        self
    }

    /// What refusals say, which else have no body: those of missing credentials and headers, and failures on demand.
    #[must_use]
    pub fn refusal_body(mut self, media_type: impl Into<String>, body: impl Into<Bytes>) -> Self {
        self.refusal = Some((media_type.into(), body.into()));
        self
    }

    /// The first `times` requests get `status`, with a `Retry-After` of so many seconds if given.
    #[must_use]
    pub fn fail_first(mut self, times: u64, status: u16, retry_after_s: Option<u64>) -> Self {
        self.fail = Some((times, status, retry_after_s));
        self
    }

    /// The connection of the first `times` requests is closed without an answer.
    #[must_use]
    pub fn hang_up_first(mut self, times: u64) -> Self {
        self.hang_up = times;
        self
    }

    /// The first `times` bodies break off after `bytes` bytes: the connection closes.
    #[must_use]
    pub fn reset_after(mut self, bytes: u64, times: u64) -> Self {
        self.reset = Some((bytes, times));
        self
    }

    /// The first `times` bodies stop for good after `bytes` bytes: the connection stays open.
    #[must_use]
    pub fn stall_after(mut self, bytes: u64, times: u64) -> Self {
        self.stall = Some((bytes, times));
        self
    }

    /// After `requests` answered requests the content is that of another seed and length.
    #[must_use]
    pub fn change_after(mut self, requests: u64, seed: u64, length: u64) -> Self {
        self.later = Some((requests, Content::Seeded { seed, length }));
        self
    }

    /// `Content-Range` says this, whatever the body carries.
    #[must_use]
    pub fn content_range(mut self, verbatim: impl Into<String>) -> Self {
        self.content_range = Some(verbatim.into());
        self
    }

    /// Bodies carry so many bytes more (or, negative, fewer) than the headers promise. More is seen only where
    /// `Content-Range` promises, because a body ends at its `Content-Length`; such an answer has none.
    #[must_use]
    pub fn body_delta(mut self, bytes: i64) -> Self {
        self.body_delta = bytes;
        self
    }

    /// Ranged requests are answered with the range even if `If-Range` and `If-Match` name another version.
    #[must_use]
    pub fn conditions_ignored(mut self) -> Self {
        self.if_range_ignored = true;
        self
    }

    /// Requests are logged and not answered until [`Origin::release`](crate::Origin::release).
    #[must_use]
    pub fn held(mut self) -> Self {
        self.held = true;
        self
    }

    /// All bodies of the resource together get so many bytes a second.
    #[must_use]
    pub fn rate(mut self, bytes_per_s: u64) -> Self {
        self.rate = Some(bytes_per_s.max(1));
        self
    }
}

/// A resource and what has happened to it.
pub(crate) struct Served {
    pub(crate) resource: Resource,
    /// Requests seen, refused ones included.
    pub(crate) seen: AtomicU64,
    /// Requests answered with content or a condition.
    pub(crate) answered: AtomicU64,
    pub(crate) resets: AtomicU64,
    pub(crate) stalls: AtomicU64,
    pub(crate) pacer: Option<std::sync::Arc<Pacer>>,
    /// Open once it is closed: answers pass.
    pub(crate) gate: tokio::sync::Semaphore,
}

impl Served {
    pub(crate) fn new(resource: Resource) -> Self {
        let pacer = resource.rate.map(|rate| std::sync::Arc::new(Pacer::new(rate)));
        let zero = AtomicU64::default;
        let gate = tokio::sync::Semaphore::new(0);
        if !resource.held {
            gate.close();
        }
        Self { resource, seen: zero(), answered: zero(), resets: zero(), stalls: zero(), pacer, gate }
    }
}

/// Spreads bytes over time: each part is given the instant at which it may go.
pub(crate) struct Pacer {
    bytes_per_s: u64,
    next: Mutex<Instant>,
}

impl Pacer {
    pub(crate) fn new(bytes_per_s: u64) -> Self {
        Self { bytes_per_s: bytes_per_s.max(1), next: Mutex::new(Instant::now()) }
    }

    /// Bytes that go in one part: a fiftieth of a second's worth, so that slow rates are smooth.
    pub(crate) fn part(&self) -> usize {
        (self.bytes_per_s / 50).clamp(256, 64 * 1024) as usize
    }

    pub(crate) fn reserve(&self, bytes: usize) -> Instant {
        let mut next = lock(&self.next);
        let at = (*next).max(Instant::now());
        *next = at + Duration::from_nanos((bytes as u128 * 1_000_000_000 / u128::from(self.bytes_per_s)) as u64);
        at
    }
}

/// Base64 with padding, for the `Authorization` header.
fn base64(input: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for group in input.chunks(3) {
        let word = group.iter().fold(0_u32, |word, byte| word << 8 | u32::from(*byte)) << (8 * (3 - group.len()));
        for i in 0..4 {
            let digit = DIGITS[(word >> (18 - 6 * i) & 63) as usize];
            out.push(if i <= group.len() { char::from(digit) } else { '=' });
        }
    }
    out
}
