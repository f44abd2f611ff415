//! What a caller asks for.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::task::Digest;

/// One piece of content to fetch: a URL and how to treat it.
///
/// ```
/// use dragonfly_core::Request;
/// let request = Request::new("https://example.org/model.bin").output("model.bin").tag("v2");
/// assert_eq!(request.url(), "https://example.org/model.bin");
/// ```
#[derive(Clone)]
pub struct Request {
    pub(crate) url: String,
    pub(crate) output: Option<PathBuf>,
    pub(crate) overwrite: bool,
    pub(crate) digest: Option<Digest>,
    pub(crate) length: Option<u64>,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) tag: String,
    pub(crate) application: String,
    pub(crate) filtered_query_params: Option<Vec<String>>,
    pub(crate) priority: u8,
    pub(crate) timeout: Option<Duration>,
    pub(crate) back_to_source: bool,
    pub(crate) ca_pem: Vec<Vec<u8>>,
    pub(crate) insecure: bool,
    pub(crate) age_max: Option<Duration>,
    pub(crate) stale_ok: bool,
    pub(crate) local: bool,
    pub(crate) named_by_digest: Option<String>,
    /// Whether the origin, if it is to be asked who may read it, was asked for this caller already.
    pub(crate) was_asked: bool,
}

impl Request {
    /// Asks for the content of `url`.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            output: None,
            overwrite: false,
            digest: None,
            length: None,
            headers: Vec::new(),
            tag: String::new(),
            application: String::new(),
            filtered_query_params: None,
            priority: 4,
            timeout: None,
            back_to_source: true,
            ca_pem: Vec::new(),
            insecure: false,
            age_max: None,
            stale_ok: false,
            local: true,
            named_by_digest: None,
            was_asked: false,
        }
    }

    /// The URL as given. It may hold credentials: do not log it.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The path that the content appears under, once complete and verified. Without it the content stays in the
    /// store only.
    #[must_use]
    pub fn output(mut self, path: impl AsRef<Path>) -> Self {
        self.output = Some(path.as_ref().to_owned());
        self
    }

    /// Whether an existing output may be replaced (default: no).
    #[must_use]
    pub fn overwrite(mut self, overwrite: bool) -> Self {
        self.overwrite = overwrite;
        self
    }

    /// The digest that the whole must have. A `blake3:` digest proves every piece as it comes and makes the task
    /// the same under every URL. Content whose URL names its digest ([`Source::named_digest`]) is held to that one
    /// without being told, and a digest that contradicts it is an error.
    ///
    /// [`Source::named_digest`]: crate::source::Source::named_digest
    #[must_use]
    pub fn digest(mut self, digest: Digest) -> Self {
        self.digest = Some(digest);
        self
    }

    /// The length that the whole must have, as who named the content said: another one is an error that names both,
    /// before more than the start was fetched.
    #[must_use]
    pub fn length(mut self, length: u64) -> Self {
        self.length = Some(length);
        self
    }

    /// A header for the origin. Headers other than `Accept`, `Accept-Language`, `Cache-Control`, `Pragma` and
    /// `User-Agent` make the content private to those who present the same headers.
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Keeps content apart that has one URL: part of the task's id.
    #[must_use]
    pub fn tag(mut self, tag: impl Into<String>) -> Self {
        self.tag = tag.into();
        self
    }

    /// The application that asks: part of the task's id.
    #[must_use]
    pub fn application(mut self, application: impl Into<String>) -> Self {
        self.application = application.into();
        self
    }

    /// Query parameters that do not change the content. They are left out of the task's id, in place of the
    /// default list (the signatures of the object stores).
    #[must_use]
    pub fn filtered_query_params<S: Into<String>>(mut self, names: impl IntoIterator<Item = S>) -> Self {
        self.filtered_query_params = Some(names.into_iter().map(Into::into).collect());
        self
    }

    /// How urgent it is, 0 (most) to 7; default 4.
    #[must_use]
    pub fn priority(mut self, priority: u8) -> Self {
        self.priority = priority.min(7);
        self
    }

    /// The longest time the whole may take (default: no bound but that of progress).
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Whether this host may go to the origin itself (default: yes). Without it the content must come from peers.
    #[must_use]
    pub fn back_to_source(mut self, allowed: bool) -> Self {
        self.back_to_source = allowed;
        self
    }

    /// A PEM bundle of certificate authorities to trust beside the system's, for this origin.
    #[must_use]
    pub fn ca_pem(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.ca_pem.push(pem.into());
        self
    }

    /// Accepts any TLS certificate of the origin. The content is then kept to this host.
    #[must_use]
    pub fn insecure(mut self, insecure: bool) -> Self {
        self.insecure = insecure;
        self
    }

    /// How long ago the content may have been confirmed by the origin at the most (default: 10 s, or longer where
    /// the origin said so).
    #[must_use]
    pub fn age_max(mut self, age: Duration) -> Self {
        self.age_max = Some(age);
        self
    }

    /// Accepts content of any age, also while the origin cannot be reached.
    #[must_use]
    pub fn stale_ok(mut self, stale_ok: bool) -> Self {
        self.stale_ok = stale_ok;
        self
    }

    /// Whether a user of this machine asks (default: yes): then the origin may be on loopback. For one who asks
    /// from elsewhere only what the node's guard allows to everybody is fetched.
    #[must_use]
    pub fn local(mut self, local: bool) -> Self {
        self.local = local;
        self
    }

    /// For content that its origin has under several URLs, or gives to several accounts: the [digest](Self::digest),
    /// which must be a strong one, and `url` name the task, and neither the URL that it is fetched from nor any header
    /// does. Every host asks the origin, as its own caller would, before a byte comes from its store or from others; a
    /// yes counts for a minute. Who has `stale_ok` and sends no header but public ones need not wait for an origin that
    /// cannot be reached.
    #[must_use]
    pub fn named_by_digest(mut self, url: impl Into<String>) -> Self {
        self.named_by_digest = Some(url.into());
        self
    }
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request")
            .field("url", &"(may hold credentials)")
            .field("output", &self.output)
            .field("digest", &self.digest)
            .finish_non_exhaustive()
    }
}
