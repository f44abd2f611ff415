//! What servers say of objects when they are asked without a body: whether this client may have it, and what it is.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use http::header::{self, HeaderMap};
use http::{HeaderName, HeaderValue, Method, StatusCode};
use url::Url;

use super::pass::{end_to_end, outgoing};
use super::remembered::Remembered;
use super::{Client, Inner};
use crate::node::{Asker, PERMIT_MAX, Permit};
use crate::source::{Ask, MARK, SourceError, validator};
use crate::task::Validator;

/// The most objects that are remembered.
pub(super) const HEADS_MAX: usize = 1024;

/// What a registry says the digest is.
pub(super) const CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");

/// Headers of a client that say what it asks for or who it is; what else it sends says how, and is this gateway's
/// business.
const OF_CONTENT: [HeaderName; 5] =
    [header::ACCEPT, header::ACCEPT_LANGUAGE, header::AUTHORIZATION, header::COOKIE, header::USER_AGENT];

/// By what answers may differ that an entity tag tells apart.
const VARYING: [&str; 3] = ["accept", "origin", "user-agent"];

/// What else clients send that says how they ask, and nothing of what for.
const HOW: [&str; 18] = [
    "accept-encoding",
    "cache-control",
    "connection",
    "host",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "keep-alive",
    "pragma",
    "range",
    "te",
    "traceparent",
    "tracestate",
    "via",
    "x-amzn-trace-id",
    "x-correlation-id",
    "x-hf-download-counter",
    "x-request-id",
];

/// The same, of whole programs: npm's, proxies', browsers' and this gateway's own.
const HOW_BEGINNING: [&str; 6] = ["npm-", "pacote-", "proxy-", "sec-fetch-", "x-dragonfly-", "x-forwarded-"];

/// An object as its server describes it.
#[derive(Clone, Debug)]
pub(super) struct Head {
    pub(super) status: StatusCode,
    /// End to end, without those of the body's framing.
    pub(super) headers: HeaderMap,
    /// The body's length, if it was told.
    pub(super) length: Option<u64>,
    /// What tells this version from others, by all that the server said.
    pub(super) version: Option<Validator>,
}

impl Head {
    /// The digest that a registry names.
    pub(super) fn digest(&self) -> Option<&str> {
        self.headers.get(CONTENT_DIGEST)?.to_str().ok()
    }

    /// Whether the swarm can have it for this client: a plain answer that depends on nothing that the swarm is not told.
    pub(super) fn is_shareable(&self) -> bool {
        let vary = self.headers.get_all(header::VARY).iter().filter_map(|value| value.to_str().ok());
        let tagged = matches!(self.version, Some(Validator::Etag(_)));
        let known = |name: &str| {
            // Nobody is asked for another coding than none.
            name.eq_ignore_ascii_case("accept-encoding")
                || tagged && VARYING.iter().any(|known| known.eq_ignore_ascii_case(name))
        };
        self.status == StatusCode::OK
            && self.length.is_some()
            && !self.headers.contains_key(header::CONTENT_ENCODING)
            && vary.flat_map(|names| names.split(',')).all(|name| known(name.trim()))
    }
}

/// What was told of late, by whom and to whom.
#[derive(Default)]
pub(super) struct Heads(Mutex<HashMap<[u8; 32], (Instant, Head)>>);

impl Heads {
    /// What was said of it at most so long ago.
    fn get(&self, key: &[u8; 32], age_max: Duration, now: Instant) -> Option<Head> {
        // Nothing that holds the lock can leave the map broken.
        let heads = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (at, head) = heads.get(key)?;
        (now.saturating_duration_since(*at) < age_max).then(|| head.clone())
    }

    fn put(&self, key: [u8; 32], head: Head, now: Instant) {
        let mut heads = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if heads.len() >= HEADS_MAX && !heads.contains_key(&key) {
            // The oldest goes; at this size a search costs nothing beside a question over the network.
            let oldest = heads.iter().min_by_key(|(_, (at, _))| *at).map(|(key, _)| *key);
            oldest.and_then(|oldest| heads.remove(&oldest));
        }
        heads.insert(key, (now, head));
    }
}

/// An object that a client asks for.
pub(super) struct Object {
    /// Where its server has it.
    pub(super) url: Url,
    /// The client's own headers that say what is asked for and by whom, in lower case.
    pub(super) headers: Vec<(String, String)>,
    pub(super) client: Client,
}

impl Object {
    /// `None`: what the client says of itself is not text.
    pub(super) fn new(url: Url, headers: &HeaderMap, client: Client) -> Option<Self> {
        let values = |name: &HeaderName| headers.get_all(name).iter().cloned().collect::<Vec<_>>();
        let own = OF_CONTENT.iter().flat_map(|name| values(name).into_iter().map(move |value| (name, value)));
        let text =
            |(name, value): (&HeaderName, HeaderValue)| Some((name.to_string(), value.to_str().ok()?.to_owned()));
        let mut headers = own.map(text).collect::<Option<Vec<_>>>()?;
        // As podman sends them to a mirror that it has no password for.
        headers.retain(|(name, value)| name != "authorization" || value.trim() != "Basic Og==");
        Some(Self { url, headers, client })
    }

    /// Whether the client shows who it is, or may: a query can be a signature.
    pub(super) fn has_credentials(&self) -> bool {
        let in_url = self.url.query().is_some() || !self.url.username().is_empty();
        in_url || self.headers.iter().any(|(name, _)| name == "authorization" || name == "cookie")
    }

    fn asker(&self) -> Asker<'_> {
        Asker { url: &self.url, headers: &self.headers, local: self.client.local }
    }

    fn key(&self) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&[u8::from(self.client.local)]);
        for text in
            std::iter::once(self.url.as_str()).chain(self.headers.iter().flat_map(|(name, value)| [&**name, value]))
        {
            hasher.update(&(text.len() as u64).to_le_bytes());
            hasher.update(text.as_bytes());
        }
        *hasher.finalize().as_bytes()
    }
}

/// Whether a request has headers that may change what it is answered with, and that the swarm is not told.
pub(super) fn asks_for_more(headers: &HeaderMap) -> bool {
    headers.keys().any(|name| {
        let how = HOW.contains(&name.as_str()) || HOW_BEGINNING.iter().any(|start| name.as_str().starts_with(start));
        !how && !OF_CONTENT.contains(name) && *name != MARK
    })
}

impl Inner {
    /// What the server says of an object now; of one that is `fixed` what it said in the last minute, to the same client.
    /// Where `follow` says so redirects are followed: else they are what it says.
    ///
    /// # Errors
    /// The server must not or cannot be asked.
    pub(super) async fn head(&self, object: &Object, fixed: bool, follow: bool) -> Result<Head, SourceError> {
        let key = object.key();
        // For as long as its yes counts.
        if fixed && let Some(head) = self.heads.get(&key, PERMIT_MAX, Instant::now()) {
            return Ok(head);
        }
        let mut headers = HeaderMap::new();
        for (name, value) in &object.headers {
            if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
                headers.append(name, value);
            }
        }
        headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        let ask = Ask {
            method: Method::HEAD,
            url: object.url.clone(),
            headers: outgoing(&headers, &self.mark),
            body: None,
            trust: self.trust.clone(),
            local: object.client.local,
            follow,
            own: Arc::clone(&self.own),
        };
        let response = self.upstream.ask(ask).await?;
        // reqwest tells the length of the body that is there, which for HEAD is none.
        let length = response.headers().get(header::CONTENT_LENGTH);
        let length = length.and_then(|value| value.to_str().ok()?.parse().ok());
        // A date alone tells versions apart only beside the date of the answer.
        let version = validator(response.headers());
        let mut headers = end_to_end(response.headers());
        // Of this answer alone, or for this client alone.
        for name in [header::CONTENT_LENGTH, header::DATE, header::AGE, header::SET_COOKIE] {
            headers.remove(name);
        }
        let head = Head { status: response.status(), headers, length, version };
        if head.status.is_success() {
            self.note(object, head.clone()).await;
        } else if is_no(head.status) {
            // What it said before counts no more, also where it cannot be asked.
            self.remember(object, |remembered| remembered.refuse(&object.url, fixed)).await;
        }
        Ok(head)
    }

    /// The server lets this client have this object, which is so.
    pub(super) async fn note(&self, object: &Object, head: Head) {
        self.remember(object, |remembered| remembered.allow(&object.url, object.key(), &head)).await;
        if let Some(length) = head.length {
            self.peer.node().permits().grant(object.asker(), Permit::Length(length), Instant::now());
        }
        self.heads.put(object.key(), head, Instant::now());
    }

    /// What was said of an object when its server could be asked, for a client that shows no credentials.
    pub(super) fn remembered(&self, object: &Object) -> Option<Head> {
        self.is_open(object).then(|| self.remembered.get(&object.key())).flatten()
    }

    /// Remembers what was said of an object, for when its server cannot be asked; the client hears it when that is written.
    async fn remember(&self, object: &Object, change: impl FnOnce(&Remembered)) {
        if !self.is_open(object) {
            return;
        }
        change(&self.remembered);
        if self.remembered.is_written() {
            return;
        }
        // Who waits here keeps none of the threads for the disk from others.
        let _one = self.remembered.writer.lock().await;
        if self.remembered.is_written() {
            return;
        }
        let remembered = Arc::clone(&self.remembered);
        // It fails where nobody is answered any more, or the disk does nothing.
        let _ = self.peer.node().io().run(move || remembered.write()).await;
    }

    /// Whether something may be given out of what its server said before.
    pub(super) fn is_open(&self, object: &Object) -> bool {
        self.config.offline && !object.has_credentials()
    }
}

/// Whether a server says that this client cannot have it, and not that it has trouble, or none of the time. So does one that
/// sends it elsewhere, where nobody went: to a page that asks for a password, say.
fn is_no(status: StatusCode) -> bool {
    status.is_redirection()
        || status.is_client_error() && !matches!(status, StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn head(headers: &[(&'static str, &str)]) -> Head {
        let headers =
            headers.iter().map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap())).collect();
        let version = validator(&headers);
        Head { status: StatusCode::OK, headers, length: Some(1), version }
    }

    #[test]
    fn what_may_be_shared() {
        assert!(head(&[]).is_shareable());
        assert!(head(&[("vary", "Accept-Encoding, Accept"), ("etag", "\"a\"")]).is_shareable());
        assert!(!head(&[("vary", "Accept-Encoding, Accept")]).is_shareable(), "nothing tells them apart");
        assert!(!head(&[("vary", "accept"), ("vary", "x-tenant")]).is_shareable());
        assert!(!head(&[("vary", "*")]).is_shareable());
        assert!(!head(&[("content-encoding", "gzip")]).is_shareable());
        assert!(!Head { length: None, ..head(&[]) }.is_shareable());
        assert!(!Head { status: StatusCode::NO_CONTENT, ..head(&[]) }.is_shareable());
    }

    #[test]
    fn what_is_remembered_is_bounded_and_ages() {
        let (heads, now) = (Heads::default(), Instant::now());
        for i in 0..HEADS_MAX as u64 + 10 {
            let key = *blake3::hash(&i.to_le_bytes()).as_bytes();
            heads.put(key, head(&[]), now + Duration::from_millis(i));
            assert!(heads.0.lock().unwrap().len() <= HEADS_MAX);
        }
        let first = *blake3::hash(&0_u64.to_le_bytes()).as_bytes();
        let last = *blake3::hash(&(HEADS_MAX as u64).to_le_bytes()).as_bytes();
        assert!(heads.get(&first, Duration::MAX, now).is_none(), "the oldest went");
        assert!(heads.get(&last, PERMIT_MAX, now).is_some());
        assert!(heads.get(&last, PERMIT_MAX, now + Duration::from_secs(120)).is_none());
    }
}
