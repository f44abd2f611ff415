//! HTTP and HTTPS origins.

pub(super) mod answer;
pub(super) mod client;
mod index;
#[cfg(any(feature = "hf", feature = "modelscope", feature = "oci"))]
pub(super) mod short;
mod tls;
#[cfg(feature = "gateway")]
mod upstream;

use std::error::Error as StdError;
use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use ::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt, stream};
use url::Url;

use super::body::{Promise, checked, stalled};
use super::header::{Caching, caching, retry_after, text, validator};
use super::retry::retrying;
use super::{Content, Entry, Guard, OpenRequest, Opened, Source, SourceError, SourceErrorKind, redact};
use crate::task::Validator;
use answer::{Asked, Head, Verdict, refuses_the_whole};
use client::{Clients, Refused};
use index::INDEX_MAX;
#[cfg(feature = "gateway")]
pub(crate) use upstream::{Ask, MARK, Upstream};

/// Redirects after which a chain is given up: real ones have two or three, and each costs a round trip.
pub(super) const REDIRECTS_MAX: usize = 10;

/// The longest `Location` that is followed, in bytes.
const LOCATION_MAX: usize = 16 * 1024;

/// Headers that decide what a response means, or how it is framed: ours to set.
const RESERVED: [HeaderName; 15] = [
    header::ACCEPT_ENCODING,
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::EXPECT,
    header::HOST,
    header::IF_MATCH,
    header::IF_MODIFIED_SINCE,
    header::IF_NONE_MATCH,
    header::IF_RANGE,
    header::IF_UNMODIFIED_SINCE,
    header::RANGE,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// How HTTP origins are spoken to.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct HttpConfig {
    /// The time to connect, TLS included. Default 10 s.
    pub connect_timeout: Duration,
    /// The time until the head of an answer is there, connecting included. Default 30 s.
    pub first_byte_timeout: Duration,
    /// The longest silence within a body. Default 30 s. There is no bound on the whole.
    pub silence_timeout: Duration,
    /// Which proxy to use. Default: what the environment says.
    pub proxy: Proxy,
    /// The `User-Agent`, unless the caller's headers have one. Default: `dragonfly/` and the version.
    pub user_agent: String,
}

impl Default for HttpConfig {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(10),
            first_byte_timeout: Duration::from_secs(30),
            silence_timeout: Duration::from_secs(30),
            proxy: Proxy::Environment,
            user_agent: concat!("dragonfly/", env!("CARGO_PKG_VERSION")).to_owned(),
        }
    }
}

/// Which proxy leads to HTTP origins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Proxy {
    /// What `HTTP_PROXY`, `HTTPS_PROXY`, `ALL_PROXY` and `NO_PROXY` say (or the system's settings where it has some).
    #[default]
    Environment,
    /// None.
    None,
    /// This one for everything; user information in it goes to the proxy.
    Url(Url),
}

/// The source for `http:` and `https:`.
///
/// Redirects are followed here, at most 10, each checked by the [`Guard`]; one to another scheme, host or port drops
/// every header of the caller, and one from HTTPS to HTTP is refused. User information in the URL becomes Basic
/// authorization; in a redirect it is ignored. One pool of connections per TLS trust and asker.
///
/// HTTP/1.1 only: ranges that are fetched at the same time get connections of their own, and with them windows and
/// fates of their own, instead of sharing one as HTTP/2 streams would.
pub struct HttpSource(Arc<Inner>);

/// What is spoken over HTTP: for this source, and for others whose origins are HTTP servers.
pub(super) struct Inner {
    guard: Guard,
    pub(super) config: HttpConfig,
    pub(super) clients: Clients,
}

/// An answer that is no redirect.
pub(super) struct Reached {
    /// Where it came from in the end.
    pub(super) url: Url,
    pub(super) response: reqwest::Response,
    /// Of all hops.
    pub(super) caching: Caching,
    /// Who sent us on, in turn, and what they said of it.
    #[cfg_attr(not(any(feature = "hf", feature = "modelscope")), allow(dead_code, reason = "hubs alone say more"))]
    pub(super) hops: Vec<(Url, HeaderMap)>,
}

impl HttpSource {
    /// A source under these rules.
    pub fn new(guard: Guard, config: HttpConfig) -> Self {
        Self(Arc::new(Inner::new(guard, config)))
    }

    /// The way to the same servers for requests that are passed on.
    #[cfg(feature = "gateway")]
    pub(crate) fn upstream(&self) -> Upstream {
        Upstream(Arc::clone(&self.0))
    }
}

impl Inner {
    pub(super) fn new(guard: Guard, config: HttpConfig) -> Self {
        let clients = Clients::new(guard.clone(), config.clone());
        Self { guard, config, clients }
    }

    /// One request, and the redirects that it meets.
    async fn attempt(&self, request: &OpenRequest) -> Result<Opened, SourceError> {
        if let Some(opened) = self.follow(request, request.range.is_some()).await? {
            return Ok(opened);
        }
        // Some servers refuse every range of an empty file, and some ranges of any; the whole tells.
        self.follow(request, false).await?.ok_or_else(|| refuses_the_whole(request))
    }

    /// One request, after its redirects; absent: ask for the whole.
    async fn follow(&self, request: &OpenRequest, ranged: bool) -> Result<Option<Opened>, SourceError> {
        let reached = self.reach(request, ranged).await?;
        let asked = Asked { request, range: request.range.clone().filter(|_| ranged), shown: redact(&reached.url) };
        let validator = validator(reached.response.headers());
        self.opened(&asked, reached, validator)
    }

    /// One request, and what answered it after its redirects, whatever the status.
    pub(super) async fn reach(&self, request: &OpenRequest, ranged: bool) -> Result<Reached, SourceError> {
        let mut url = request.url.clone();
        let mut callers = callers_headers(request)?;
        strip_user_info(&mut url);
        let ours = our_headers(request, ranged)?;
        let (mut so_far, mut hops): (Option<Caching>, Vec<(Url, HeaderMap)>) = (None, Vec::new());
        for _ in 0..=REDIRECTS_MAX {
            self.guard.check_url(&url, request.local)?;
            let mut headers = callers.clone();
            headers.extend(ours.clone());
            let response = self.send(request, &url, headers).await?;
            let caching = combined(so_far, caching(response.headers()));
            let Some(next) = redirect(&url, &response)? else { return Ok(Reached { url, response, caching, hops }) };
            if !is_same_origin(&next, &url) {
                callers.clear();
            }
            so_far = Some(Caching { private: false, ..caching });
            let before = std::mem::replace(&mut url, next);
            hops.push((before, response.headers().clone()));
        }
        let text = format!("{}: more than {REDIRECTS_MAX} redirects", redact(&request.url));
        Err(SourceError::new(SourceErrorKind::Origin, text))
    }

    async fn index(&self, request: OpenRequest) -> Result<Vec<Entry>, SourceError> {
        let shown = redact(&request.url);
        if !request.url.path().ends_with('/') || request.url.query().is_some() {
            let text = format!("{shown}: only a URL that ends in / can be an index page");
            return Err(SourceError::new(SourceErrorKind::InvalidInput, text));
        }
        let request = OpenRequest { range: None, expect: None, expect_length: None, prior: None, ..request };
        let opened = retrying(&request, || self.attempt(&request)).await?;
        let Opened::Content(content) = opened else { return Ok(Vec::new()) };
        let (mut body, mut page) = (content.body, Vec::new());
        while let Some(bytes) = body.next().await {
            page.extend_from_slice(&bytes?);
            if page.len() > INDEX_MAX {
                let text = format!("{shown}: the index page has more than {} MiB", INDEX_MAX >> 20);
                return Err(SourceError::new(SourceErrorKind::Origin, text));
            }
        }
        Ok(index::entries(&String::from_utf8_lossy(&page), &request.url))
    }

    /// Refuses what must not be reached.
    #[cfg(feature = "oci")]
    pub(super) async fn check(&self, url: &Url, local: bool) -> Result<(), SourceError> {
        self.guard.check_url(url, local)?;
        self.clients.check_shared_name(url, local).await
    }

    /// What is told of an answer whose version is told by `validator`; absent: ask for the whole.
    pub(super) fn opened(
        &self,
        asked: &Asked<'_>,
        reached: Reached,
        validator: Option<Validator>,
    ) -> Result<Option<Opened>, SourceError> {
        let Reached { response, caching, .. } = reached;
        let head = Head {
            status: response.status().as_u16(),
            headers: response.headers(),
            length: response.content_length(),
            validator: validator.as_ref(),
        };
        let shape = match asked.judge(&head)? {
            Verdict::AskWhole => return Ok(None),
            Verdict::Unchanged => return Ok(Some(Opened::Unchanged { fresh: caching.fresh })),
            Verdict::Content(shape) => shape,
        };
        let promise =
            Promise { shown: asked.shown.clone(), length: shape.body_length, silence: self.config.silence_timeout };
        let empty = shape.body_length == Some(0);
        let body = if empty { stream::empty().boxed() } else { checked(response.bytes_stream(), promise, broken) };
        Ok(Some(Opened::Content(Content {
            length: shape.length,
            offset: shape.offset,
            body_length: shape.body_length,
            validator,
            ranges: shape.ranges,
            fresh: caching.fresh,
            private: caching.private,
            body,
        })))
    }

    async fn send(
        &self,
        request: &OpenRequest,
        url: &Url,
        headers: HeaderMap,
    ) -> Result<reqwest::Response, SourceError> {
        self.clients.check_shared_name(url, request.local).await?;
        let client = self.clients.client(url, &request.trust, request.local)?;
        let limit = self.config.first_byte_timeout;
        match tokio::time::timeout(limit, client.get(url.clone()).headers(headers).send()).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) => Err(failure(url, error)),
            Err(_) => Err(stalled(&redact(url), limit)),
        }
    }
}

impl Source for HttpSource {
    fn schemes(&self) -> &[&str] {
        &["http", "https"]
    }

    fn open<'a>(&'a self, request: OpenRequest) -> BoxFuture<'a, Result<Opened, SourceError>> {
        async move { retrying(&request, || self.0.attempt(&request)).await }.boxed()
    }

    /// The links of an index page, as servers make them of directories. The URL ends in a slash.
    fn list(&self, request: OpenRequest) -> BoxStream<'static, Result<Vec<Entry>, SourceError>> {
        let inner = Arc::clone(&self.0);
        async move { inner.index(request).await }.into_stream().boxed()
    }
}

/// The error of a body of which so many bytes came.
fn broken(error: reqwest::Error, shown: &str, seen: u64) -> SourceError {
    let text = format!("{shown}: the connection broke after {seen} bytes");
    SourceError::new(SourceErrorKind::Network, text).caused_by(error.without_url()).temporary(true)
}

/// The caller's headers and the authorization in the URL.
fn callers_headers(request: &OpenRequest) -> Result<HeaderMap, SourceError> {
    let mut headers = HeaderMap::new();
    let invalid = |text: String| SourceError::new(SourceErrorKind::InvalidInput, text);
    for (name, value) in &request.headers {
        let name = HeaderName::try_from(name).map_err(|_| invalid("a header's name is malformed".to_owned()))?;
        if RESERVED.contains(&name) || name.as_str().starts_with("proxy-") {
            return Err(invalid(format!("the header {name} is set by the fetch itself and cannot be given")));
        }
        let mut value = HeaderValue::try_from(value)
            .map_err(|_| invalid(format!("the value of the header {name} is malformed")))?;
        value.set_sensitive(true);
        headers.append(name, value);
    }
    let user_info = !request.url.username().is_empty() || request.url.password().is_some();
    if user_info && !headers.contains_key(header::AUTHORIZATION) {
        let mut plain = percent_decoded(request.url.username());
        plain.push(b':');
        plain.extend(percent_decoded(request.url.password().unwrap_or_default()));
        let basic = format!("Basic {}", data_encoding::BASE64.encode(&plain));
        let mut value = HeaderValue::try_from(basic).map_err(|_| invalid("malformed user information".to_owned()))?;
        value.set_sensitive(true);
        headers.insert(header::AUTHORIZATION, value);
    }
    Ok(headers)
}

pub(super) fn percent_decoded(text: &str) -> Vec<u8> {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut i = 0;
    while i < bytes.len() {
        let pair = bytes.get(i + 1..i + 3).filter(|_| bytes[i] == b'%');
        match pair.and_then(|pair| data_encoding::HEXUPPER_PERMISSIVE.decode(pair).ok()) {
            Some(decoded) => {
                out.extend(decoded);
                i += 3;
            }
            None => {
                out.push(bytes[i]);
                i += 1;
            }
        }
    }
    out
}

/// The headers that say what is wanted; they go to every hop.
fn our_headers(request: &OpenRequest, ranged: bool) -> Result<HeaderMap, SourceError> {
    let invalid = |text: &str| SourceError::new(SourceErrorKind::InvalidInput, text);
    let value = |text: &str| HeaderValue::try_from(text).map_err(|_| invalid("a validator is malformed"));
    let mut headers = HeaderMap::new();
    headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    if let Some(range) = &request.range {
        if range.start >= range.end {
            return Err(invalid("the range is empty"));
        }
        if ranged {
            let last = if range.end == u64::MAX { String::new() } else { (range.end - 1).to_string() };
            headers.insert(header::RANGE, value(&format!("bytes={}-{last}", range.start))?);
        }
    }
    // If-Match saves the body of another version where it is understood, If-Range is understood by more.
    let (expect, if_range) = match &request.expect {
        None => (None, None),
        Some(Validator::Etag(tag)) => (Some((header::IF_MATCH, tag)), Some(tag)),
        Some(Validator::LastModified(date)) => (Some((header::IF_UNMODIFIED_SINCE, date)), Some(date)),
        Some(Validator::Version(_)) => return Err(invalid("HTTP origins have no versions to expect")),
    };
    if let Some((name, text)) = expect {
        headers.insert(name, value(text)?);
    }
    if let Some(text) = if_range.filter(|_| ranged) {
        headers.insert(header::IF_RANGE, value(text)?);
    }
    match &request.prior {
        Some(Validator::Etag(tag)) => drop(headers.insert(header::IF_NONE_MATCH, value(tag)?)),
        Some(Validator::LastModified(date)) => drop(headers.insert(header::IF_MODIFIED_SINCE, value(date)?)),
        // Another kind of source knew it: the content is asked for as if it were new.
        Some(Validator::Version(_)) | None => {}
    }
    Ok(headers)
}

pub(super) fn strip_user_info(url: &mut Url) {
    // These fail for URLs without a host, which have none.
    let _ = url.set_username("");
    let _ = url.set_password(None);
}

/// Whether what is told to one may be told to the other.
pub(super) fn is_same_origin(a: &Url, b: &Url) -> bool {
    (a.scheme(), a.host(), a.port_or_known_default()) == (b.scheme(), b.host(), b.port_or_known_default())
}

/// Where a response sends us, if it does.
pub(super) fn redirect(url: &Url, response: &reqwest::Response) -> Result<Option<Url>, SourceError> {
    let status = response.status().as_u16();
    if !matches!(status, 301 | 302 | 303 | 307 | 308) {
        return Ok(None);
    }
    let refused = |kind, why: &str| Err(SourceError::new(kind, format!("{}: {why}", redact(url))).with_status(status));
    let location = text(response.headers(), &header::LOCATION).filter(|location| location.len() <= LOCATION_MAX);
    let Some(Ok(mut next)) = location.map(|location| url.join(location)) else {
        return refused(SourceErrorKind::Origin, "redirects to nowhere");
    };
    match (url.scheme(), next.scheme()) {
        (_, "https") | ("http", "http") => {}
        ("https", "http") => return refused(SourceErrorKind::Guarded, "redirects from HTTPS to plain HTTP"),
        _ => return refused(SourceErrorKind::Guarded, "redirects to what is not HTTP"),
    }
    strip_user_info(&mut next);
    Ok(Some(next))
}

/// What two hops say of freshness: where one says nothing, only a plain "not at all" is certain.
fn combined(before: Option<Caching>, now: Caching) -> Caching {
    let Some(before) = before else { return now };
    let fresh = match (before.fresh, now.fresh) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (Some(Duration::ZERO), None) | (None, Some(Duration::ZERO)) => Some(Duration::ZERO),
        _ => None,
    };
    Caching { fresh, private: now.private }
}

/// An error of the client, told in our terms.
pub(super) fn failure(url: &Url, error: reqwest::Error) -> SourceError {
    let shown = redact(url);
    // Its own text would have the URL in full.
    let error = error.without_url();
    if let Some(refused) = find::<Refused>(&error) {
        return SourceError::new(SourceErrorKind::Guarded, format!("{shown} must not be reached: {refused}"));
    }
    if let Some(tls) = find::<rustls::Error>(&error) {
        return SourceError::new(SourceErrorKind::Tls, format!("{shown}: TLS failed: {tls}"));
    }
    let (kind, what) = match () {
        () if error.is_builder() => (SourceErrorKind::InvalidInput, "the request cannot be made"),
        () if error.is_dns() => (SourceErrorKind::Network, "the host's name cannot be resolved"),
        () if error.is_connect() => (SourceErrorKind::Network, "cannot connect"),
        () => (SourceErrorKind::Network, "the connection broke"),
    };
    let temporary = kind == SourceErrorKind::Network;
    let unreached = error.is_dns() || error.is_connect();
    SourceError::new(kind, format!("{shown}: {what}")).temporary(temporary).unreached(unreached).caused_by(error)
}

/// Finds a cause by its type, also inside I/O errors, whose wrapped error is not among their sources.
pub(super) fn find<'a, T: StdError + 'static>(error: &'a (dyn StdError + 'static)) -> Option<&'a T> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<T>() {
            return Some(found);
        }
        let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        next = match inner {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    None
}

/// An error for a status that is no content.
pub(super) fn status_failure(shown: &str, status: u16, headers: &HeaderMap) -> SourceError {
    let kind = match status {
        401 | 403 | 407 => SourceErrorKind::Forbidden,
        404 | 410 => SourceErrorKind::NotFound,
        _ => SourceErrorKind::Origin,
    };
    let temporary = matches!(status, 408 | 425 | 429 | 500 | 502 | 503 | 504);
    let after = retry_after(headers, SystemTime::now()).filter(|_| temporary);
    SourceError::new(kind, format!("{shown}: the origin answered {status}"))
        .temporary(temporary)
        .with_status(status)
        .with_retry_after(after)
}
