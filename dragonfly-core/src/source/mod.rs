//! Where content comes from: one [`Source`] per kind of origin, behind a [`Registry`] of URL schemes.
//!
//! For the peer and seed engines (and embedders who bring a source of their own). The room owns the HTTP clients,
//! what a fetch may reach ([`Guard`]), retries and progress time-outs. It knows nothing of tasks, pieces or leases:
//! it turns a URL and a range into a stream of bytes of which status, range, length and version were checked.
//!
//! No background tasks: dropping a future or a body ends the request. Credentials never appear in errors or logs:
//! URLs are shown by [`redact`].

mod blocking;
#[cfg(feature = "http")]
mod body;
#[cfg(any(feature = "conformance", all(test, feature = "http")))]
pub mod conformance;
mod error;
#[cfg_attr(
    not(feature = "http"),
    allow(dead_code, reason = "its rules are for HTTP origins, and configured all the same")
)]
mod guard;
#[cfg(feature = "http")]
mod header;
#[cfg(feature = "http")]
mod http;
#[cfg(any(feature = "hf", feature = "modelscope"))]
mod hub;
mod list;
#[cfg(any(feature = "gateway", feature = "oci"))]
mod names;
#[cfg(feature = "oci")]
mod oci;
mod redact;
mod registry;
mod resume;
#[cfg(feature = "http")]
mod retry;
#[cfg(feature = "storage")]
mod storage;

#[cfg(all(test, feature = "http"))]
mod tests;

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use url::Url;

pub use blocking::{BlockingContent, BlockingSource, blocking};
pub use error::{SourceError, SourceErrorKind};
pub use guard::{Guard, OriginPattern};
#[cfg(all(feature = "http", any(test, feature = "fuzzing")))]
pub(crate) use header::read_headers;
#[cfg(feature = "gateway")]
pub(crate) use header::validator;
#[cfg(feature = "http")]
#[cfg(feature = "gateway")]
pub(crate) use http::{Ask, MARK, Upstream};
#[cfg(feature = "http")]
pub use http::{HttpConfig, HttpSource, Proxy};
#[cfg(any(feature = "hf", feature = "modelscope"))]
pub use hub::HubSource;
pub use list::{Entry, WalkLimits, walk};
#[cfg(any(feature = "gateway", feature = "oci"))]
pub(crate) use names::{is_repository, is_tag};
#[cfg(feature = "oci")]
pub use oci::OciSource;
pub use redact::redact;
pub use registry::{Registry, RegistryBuilder};
pub use resume::{fetch_range, resume};
#[cfg(feature = "storage")]
pub use storage::{StorageConfig, StorageSettings, StorageSource};

use crate::task::{Digest, Validator};

/// The adapter for one kind of origin.
pub trait Source: Send + Sync {
    /// The URL schemes that it serves, in lower case.
    fn schemes(&self) -> &[&str];

    /// Asks the origin once, with retries, and answers when the head of its response was checked.
    ///
    /// # Errors
    /// See [`SourceErrorKind`]. Failures that may pass are retried by the rules of [`OpenRequest::retry`] first.
    ///
    /// # Cancel safety
    /// Dropping the future ends the request.
    fn open<'a>(&'a self, request: OpenRequest) -> BoxFuture<'a, Result<Opened, SourceError>>;

    /// Whether what is read there is read with a credential of this host's own, and so is for its own users alone:
    /// then no other host is told of it. By default it is not.
    fn is_own(&self, url: &Url) -> bool {
        let _ = url;
        false
    }

    /// The digest that a URL names content by, whole: what is fetched from there is held to it. By default none.
    fn named_digest(&self, url: &Url) -> Option<Digest> {
        let _ = url;
        None
    }

    /// Lists what is directly below the prefix [`OpenRequest::url`], in pages, each entry once; files that are deeper
    /// below, too, where there are no directories to be listed apart. What the request says of ranges and versions does
    /// not matter. Names from the origin that are not plain ones ([`Entry::path`]) are left
    /// out. [`walk`] goes on into directories.
    ///
    /// # Errors
    /// As of [`Source::open`]; [`SourceErrorKind::InvalidInput`] from a source that cannot list, which is the default.
    ///
    /// # Cancel safety
    /// Dropping the stream ends its request.
    fn list(&self, request: OpenRequest) -> BoxStream<'static, Result<Vec<Entry>, SourceError>> {
        let text = format!("{}: this kind of origin cannot be listed", redact(&request.url));
        list::failed(SourceError::new(SourceErrorKind::InvalidInput, text))
    }
}

/// What is asked of an origin.
#[derive(Clone)]
#[non_exhaustive]
pub struct OpenRequest {
    /// The full URL, credentials and all.
    pub url: Url,
    /// The caller's headers. They go to the URL's own scheme, host and port only, never across a redirect to
    /// another. Those that decide what a response means (ranges, conditions, encodings) are refused.
    pub headers: Vec<(String, String)>,
    /// The bytes wanted, end exclusive, not empty; an end of `u64::MAX` is the end of the content. Absent: all.
    pub range: Option<Range<u64>>,
    /// The version that it must be: anything else is [`SourceErrorKind::Changed`].
    pub expect: Option<Validator>,
    /// The length of the whole that it must have: anything else is [`SourceErrorKind::Changed`].
    pub expect_length: Option<u64>,
    /// The version last known: if it is current still the answer is [`Opened::Unchanged`].
    pub prior: Option<Validator>,
    /// What makes a TLS certificate of the origin good.
    pub trust: OriginTrust,
    /// Whether a user of this host asks: loopback may be reached, and the operator's list of origins does not apply.
    pub local: bool,
    /// What comes is passed on to other hosts: content that is read with a credential of this host's own, and that the
    /// operator did not list (see [`Guard::origins`]), is [`SourceErrorKind::Guarded`].
    pub shared: bool,
    /// How failures that may pass are tried again.
    pub retry: Retry,
    /// Counts how often that was done.
    pub retries: Retries,
}

impl OpenRequest {
    /// Asks for all of `url` as it is now, on behalf of nobody in particular.
    pub fn new(url: Url) -> Self {
        Self {
            url,
            headers: Vec::new(),
            range: None,
            expect: None,
            expect_length: None,
            prior: None,
            trust: OriginTrust::default(),
            local: false,
            shared: false,
            retry: Retry::default(),
            retries: Retries::default(),
        }
    }
}

impl fmt::Debug for OpenRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenRequest")
            .field("url", &redact(&self.url))
            .field("range", &self.range)
            .field("expect", &self.expect)
            .field("prior", &self.prior)
            .field("local", &self.local)
            .finish_non_exhaustive()
    }
}

/// What makes a TLS certificate of an origin good, beside the system's authorities.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct OriginTrust {
    /// PEM bundles of authorities to trust beside the system's.
    pub ca_pem: Vec<Vec<u8>>,
    /// Accepts any certificate.
    pub insecure: bool,
}

/// How failures that may pass are tried again.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Retry {
    /// Attempts in all, the first one included; at least 1 is made. Default 4.
    pub attempts: u32,
    /// The wait before the second attempt; it doubles with each. Default 200 ms.
    pub base: Duration,
    /// The longest wait of our own choosing. Default 5 s.
    pub cap: Duration,
    /// The longest `Retry-After` that is waited for; a longer one fails the call at once. Default 30 s.
    pub retry_after_max: Duration,
    /// Of the jitter (each wait is between half and all of what the rules above say), so that hosts which failed
    /// together do not come back together.
    pub seed: u64,
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            attempts: 4,
            base: Duration::from_millis(200),
            cap: Duration::from_secs(5),
            retry_after_max: Duration::from_secs(30),
            seed: 0,
        }
    }
}

/// Counts how often an origin was asked again for what it should have given at once; people who watch a download are
/// told. Clones count together.
#[derive(Clone, Debug, Default)]
pub struct Retries(Arc<AtomicU32>);

impl Retries {
    /// One more.
    pub fn count(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// How often so far.
    pub fn get(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Retry {
    /// The wait after so many failures in a row (from 1).
    pub fn delay(&self, failures: u32) -> Duration {
        let doubled = self.base.saturating_mul(1_u32.checked_shl(failures.saturating_sub(1)).unwrap_or(u32::MAX));
        let wait = doubled.min(self.cap);
        // The finaliser of splitmix64, as fair as jitter needs.
        let mut z = self.seed.wrapping_add(u64::from(failures).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let share = (z ^ (z >> 31)) >> 54; // 0 to 1023
        wait / 2 + (wait / 2 / 1024) * share as u32
    }
}

/// What an origin answered.
#[derive(Debug)]
#[non_exhaustive]
pub enum Opened {
    /// The version in [`OpenRequest::prior`] is current.
    Unchanged {
        /// How long the answer is fresh, see [`Content::fresh`].
        fresh: Option<Duration>,
    },
    /// Content.
    Content(Content),
}

/// A response with content; its head was checked against the request.
#[non_exhaustive]
pub struct Content {
    /// The length of the whole, in bytes, if the origin said.
    pub length: Option<u64>,
    /// The offset in the whole of the body's first byte.
    pub offset: u64,
    /// The bytes that the body carries, if known: from `offset` to the end of the asked range or of the content.
    /// It is the whole (from offset 0) where the origin has no ranges.
    pub body_length: Option<u64>,
    /// What tells this version from all others, if the origin gave a strong validator.
    pub validator: Option<Validator>,
    /// Whether the origin serves ranges of it.
    pub ranges: bool,
    /// How long the origin says the answer stays current: `max-age` less `Age`; zero on `no-cache` and `no-store`;
    /// absent if it says nothing. Across redirects the least of all hops.
    pub fresh: Option<Duration>,
    /// Whether the answer is one client's: `private`, `no-store`, or varying with credentials or cookies.
    pub private: bool,
    /// The bytes, as sent: no content coding is asked for, and one that is sent regardless is not decoded.
    ///
    /// It yields at most `body_length` bytes. It ends with an error if the connection breaks, nothing comes for the
    /// time-out, or the body is shorter or longer than promised (the latter is seen by polling it to its end).
    pub body: BoxStream<'static, Result<Bytes, SourceError>>,
}

impl Content {
    /// Content of which nothing is known but its bytes: from the start, not to be resumed, not private.
    pub fn new(body: BoxStream<'static, Result<Bytes, SourceError>>) -> Self {
        Self {
            length: None,
            offset: 0,
            body_length: None,
            validator: None,
            ranges: false,
            fresh: None,
            private: false,
            body,
        }
    }
}

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Content")
            .field("length", &self.length)
            .field("offset", &self.offset)
            .field("body_length", &self.body_length)
            .field("validator", &self.validator)
            .field("ranges", &self.ranges)
            .field("fresh", &self.fresh)
            .field("private", &self.private)
            .finish_non_exhaustive()
    }
}

/// The bounds of what origins may make this host wait for.
pub(crate) fn bounds() -> Vec<crate::wire::Bound> {
    let retry = Retry::default();
    #[allow(unused_mut, reason = "without HTTP that is all")]
    let mut all = vec![
        ("dragonfly_origin_attempts_limit", "Attempts of one request at an origin.", u64::from(retry.attempts)),
        (
            "dragonfly_origin_retry_seconds_limit",
            "Seconds that an origin may ask to wait.",
            retry.retry_after_max.as_secs(),
        ),
    ];
    #[cfg(feature = "http")]
    all.extend([
        ("dragonfly_origin_redirects_limit", "Redirects of one request.", http::REDIRECTS_MAX as u64),
        (
            "dragonfly_origin_silence_seconds_limit",
            "Seconds without a byte of an origin, unless it was said.",
            HttpConfig::default().silence_timeout.as_secs(),
        ),
        ("dragonfly_origin_pools_limit", "Pools of connections to origins.", http::client::CLIENTS_MAX as u64),
    ]);
    #[cfg(feature = "storage")]
    all.extend([
        ("dragonfly_storage_sites_limit", "Storages whose set-up is kept.", storage::SITES_MAX as u64),
        ("dragonfly_storage_page_bytes_limit", "Bytes of a page of a bucket's list.", storage::PAGE_BYTES_MAX as u64),
        (
            "dragonfly_storage_directory_bytes_limit",
            "Bytes of the list of a directory that a storage gives whole, over HTTP.",
            storage::DIRECTORY_BYTES_MAX as u64,
        ),
    ]);
    all
}
