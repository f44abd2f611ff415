//! The registry mirror: `/v2/` of any registry (OCI distribution specification 1.1, Docker Registry HTTP API V2).

mod names;

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use futures::{TryStreamExt as _, stream};
use http::header::{self, HeaderMap};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::{Frame, Incoming};
use tokio::io::AsyncReadExt as _;
use url::Url;

use self::names::{Asked, Kind, read};
use super::content::{Wanted, head_only, is_sent_unchecked, is_unchanged, unchanged};
use super::fail::Refusal;
use super::head::{CONTENT_DIGEST, Head, Object};
use super::pass::is_conditional;
use super::proxy::Said;
use super::range::{Part, part};
use super::rest::Rest;
use super::route::Body;
use super::streaming::cut;
use super::{Client, Inner};
use crate::ErrorKind;
use crate::peer;
use crate::task::{Digest, DigestHasher};

/// The longest manifest whose own word is taken for what it is. Registries take none that is longer.
pub(in crate::gateway) const MANIFEST_MAX: u64 = 4 << 20;

/// Such manifests that are read at a time.
pub(in crate::gateway) const MANIFESTS_MAX: usize = 16;

/// Where clients name the registry behind a mirror: containerd in the query, Dragonfly's in a header.
const REGISTRY: &str = "x-dragonfly-registry";

pub(super) async fn answer(
    gateway: &Arc<Inner>,
    client: Client,
    request: Request<Incoming>,
) -> Result<Response<Body>, Refusal> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let text = "this is a mirror to pull from; push to the registry itself";
        return Err(Refusal::new(StatusCode::METHOD_NOT_ALLOWED, text));
    }
    let base = gateway.base(&request)?;
    through(gateway, client, &base, request).await
}

/// Reads what may be a path of a registry.
#[cfg(any(test, feature = "fuzzing"))]
pub(super) fn read_path(path: &str) {
    let _ = read(path);
}

/// Whether a proxy's client asks a registry for what a registry names.
pub(super) fn is_asked(request: &Request<Incoming>) -> bool {
    let path = request.uri().path();
    // What a query says there only the registry knows.
    let plain = request.uri().query().is_none() && path.starts_with("/v2/");
    let pulls = plain && matches!(*request.method(), Method::GET | Method::HEAD);
    pulls && matches!(read(path), Ok(Asked::Object { .. } | Asked::Tag))
}

/// Answers as the registry at `base`.
pub(super) async fn through(
    gateway: &Arc<Inner>,
    client: Client,
    base: &Url,
    request: Request<Incoming>,
) -> Result<Response<Body>, Refusal> {
    let asked = read(request.uri().path())?;
    let url = upstream_url(base, request.uri());
    let (method, headers) = (request.method().clone(), request.headers());
    let (kind, digest) = match asked {
        _ if is_conditional(headers) => return gateway.own_answer((method, headers), url, (client, false)).await,
        Asked::Other => return gateway.own_answer((method, headers), url, (client, false)).await,
        Asked::Object { kind, digest } => (kind, digest),
        Asked::Tag => {
            let Some(object) = Object::new(url.clone(), headers, client) else {
                return gateway.own_answer((method, headers), url, (client, false)).await;
            };
            let (head, told) = match gateway.head(&object, false, true).await {
                Ok(head) => (head, true),
                Err(error) if error.is_unreached() => (gateway.remembered(&object).ok_or(error)?, false),
                Err(error) => return Err(error.into()),
            };
            let digest = head.digest().and_then(|digest| digest.parse::<Digest>().ok());
            let Some(digest) = digest.filter(|_| head.status.is_success()) else {
                return gateway.own_answer((method, headers), url, (client, false)).await;
            };
            if let Some(by_digest) = Object::new(named(&url, &digest), headers, client).filter(|_| told) {
                // What was said of the tag was said of the digest that it stands for.
                gateway.note(&by_digest, head.clone()).await;
            }
            if let Some(length) = head.length.filter(|_| method == Method::HEAD) {
                let mut headers = head.headers;
                headers.insert(header::CONTENT_LENGTH, length.into());
                return Ok(head_only(headers));
            }
            (Kind::Manifest, digest)
        }
    };
    gateway.object((kind, digest), (base, url), request, client).await
}

impl Inner {
    /// The registry that a request is for.
    fn base(&self, request: &Request<Incoming>) -> Result<Url, Refusal> {
        let query = request.uri().query().unwrap_or_default();
        let ns = url::form_urlencoded::parse(query.as_bytes()).find(|(name, _)| name == "ns").map(|(_, value)| value);
        let header = request.headers().get(REGISTRY).and_then(|value| value.to_str().ok());
        let unknown = |name: &str| {
            let text = format!("{name:?} is no registry: expected HOST[:PORT]");
            Refusal::new(StatusCode::BAD_REQUEST, text)
        };
        if let Some(name) = ns {
            return self.config.registry(&name).ok_or_else(|| unknown(&name));
        }
        if let Some(name) = header {
            let host = name.strip_prefix("https://").unwrap_or(name).trim_end_matches('/');
            return self.config.registry(host).ok_or_else(|| unknown(name));
        }
        self.config.registry_default.clone().ok_or_else(|| {
            let text =
                "the request names no registry (no ?ns= and no X-Dragonfly-Registry), and there is no default one";
            Refusal::new(StatusCode::NOT_FOUND, text)
        })
    }

    /// Answers for content that its digest fixes.
    async fn object(
        self: &Arc<Self>,
        (kind, digest): (Kind, Digest),
        (base, url): (&Url, Url),
        request: Request<Incoming>,
        client: Client,
    ) -> Result<Response<Body>, Refusal> {
        let (method, headers) = (request.method(), request.headers());
        let Some(object) = Object::new(named(&url, &digest), headers, client) else {
            return self.own_answer((method.clone(), headers), url, (client, true)).await;
        };
        // What was had without credentials may be given out without asking, if the registry is away: it has a name of its own.
        let whose = if object.has_credentials() { "" } else { "open/" };
        let base = base.as_str().trim_end_matches('/');
        let mut asked = peer::Request::new(object.url.as_str())
            .digest(digest.clone())
            .named_by_digest(format!("{base}/v2/{whose}{}/{digest}", kind.name()))
            .local(client.local);
        for (name, value) in &object.headers {
            asked = asked.header(name, value);
        }
        // Its digest alone says which task it is; how it is had the client may say here, too.
        let said = Said::by(headers);
        if let Some(priority) = said.priority {
            asked = asked.priority(priority);
        }
        let mut asked = self.trusting(asked);
        let (head, is_away) = match self.head(&object, true, true).await {
            Ok(head) => (head, false),
            Err(error) if error.is_unreached() => {
                asked = asked.stale_ok(true);
                (self.offline(&object, kind, &asked).await.ok_or(error)?, true)
            }
            Err(error) => return Err(error.into()),
        };
        if !head.status.is_success() {
            // In the registry's own words.
            return self.own_answer((method.clone(), headers), url, (client, true)).await;
        }
        let mut described = head.headers;
        described.insert(CONTENT_DIGEST, text(&digest.to_string()));
        described.insert(header::ETAG, text(&format!("\"{digest}\"")));
        if is_unchanged(headers, &described) {
            return Ok(unchanged(&described));
        }
        if let Some(length) = head.length.filter(|_| method == Method::HEAD) {
            described.insert(header::CONTENT_LENGTH, length.into());
            return Ok(head_only(described));
        }
        let proven = self.config.proven_parts && asks_for_part(method, headers, head.length);
        if proven && !self.is_proven(&asked).await {
            // The next one may find all of it here, and read.
            self.wholes.fetch(&self.peer, asked.clone());
            if !is_away {
                // The registry's own word, as without this gateway.
                return self.own_answer((method.clone(), headers), object.url, (client, true)).await;
            }
        }
        let prefetch = said.prefetch.unwrap_or(self.config.prefetch);
        let rest = Rest::of_digest(&object, digest.clone());
        let wanted =
            Wanted { method, headers, object: described, version: None, length: head.length, prefetch, proven, rest };
        match self.swarm(asked, wanted).await {
            Ok(Some(response)) => Ok(response),
            // A blob that is not what its digest says is of no use to anybody. Manifests of the old kind (schema 1) have
            // digests of something else than their bytes.
            Err(error) if error.kind() == ErrorKind::DigestMismatch && kind == Kind::Blob => {
                let text = format!("the registry's content is not {digest}: {}", error.report());
                Err(Refusal::new(StatusCode::BAD_GATEWAY, text))
            }
            outcome => {
                tracing::info!(%digest, "the swarm has trouble, the registry is asked: {:?}", outcome.err());
                self.counts.fallbacks.add(1);
                let answer = self.own_answer((method.clone(), headers), object.url, (client, true)).await?;
                let whole = kind == Kind::Blob && answer.status() == StatusCode::OK && method == Method::GET;
                Ok(if whole { answer.map(|body| checked(body, digest)) } else { answer })
            }
        }
    }

    /// Whether all of it is here and was found to have its digest. Whoever fetches the whole finds that out, once for all.
    async fn is_proven(&self, asked: &peer::Request) -> bool {
        let opened = tokio::time::timeout(self.config.patience, self.peer.open(asked.clone())).await;
        opened.is_ok_and(|reader| reader.is_ok_and(|reader| reader.is_verified()))
    }

    /// What may be given out while a registry cannot be reached: to clients without credentials, if it is allowed at all, and
    /// not what the registry refused when it was asked last.
    async fn offline(&self, object: &Object, kind: Kind, asked: &peer::Request) -> Option<Head> {
        if let Some(head) = self.remembered(object) {
            return Some(head);
        }
        if !self.is_open(object) || self.remembered.is_refused(&object.url) {
            return None;
        }
        // A blob needs no more than its digest; a manifest's type the registry knows, and the manifest if it says so.
        let (media_type, length) = match kind {
            Kind::Blob => (HeaderValue::from_static("application/octet-stream"), None),
            Kind::Manifest => {
                let said = tokio::time::timeout(self.config.patience, self.said_type(asked.clone())).await.ok()?;
                said.map(|(media_type, length)| (media_type, Some(length)))?
            }
        };
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, media_type);
        Some(Head { status: StatusCode::OK, headers, length, version: None })
    }

    /// The type that a manifest of the swarm says it is of, once all of it has its digest; and its length.
    async fn said_type(&self, asked: peer::Request) -> Option<(HeaderValue, u64)> {
        #[derive(serde::Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Typed {
            media_type: String,
        }
        let mut reader = self.peer.open(asked).await.ok()?;
        let length = Some(reader.length()).filter(|length| *length <= MANIFEST_MAX)?;
        reader.receipt().await.ok()?;
        let _one_of_few = self.manifests.acquire().await.ok()?;
        let mut text = Vec::with_capacity(length as usize);
        reader.take(length).read_to_end(&mut text).await.ok()?;
        let said: Typed = serde_json::from_slice(&text).ok()?;
        Some((HeaderValue::try_from(said.media_type).ok()?, length))
    }
}

/// Whether a request is for a part that is sent although the whole is not checked with it.
fn asks_for_part(method: &Method, headers: &HeaderMap, length: Option<u64>) -> bool {
    if *method != Method::GET || !headers.contains_key(header::RANGE) {
        return false;
    }
    // Of what length it is out of nobody knows: it may be one.
    length.is_none_or(|length| match part(headers, length, None) {
        Part::Bytes(range) => is_sent_unchecked(&range, length),
        Part::Whole => headers.contains_key(header::IF_RANGE),
        Part::Outside => false,
    })
}

/// By its digest, whatever tag it was asked for by: the tag may be another's in a moment.
pub(super) fn named(url: &Url, digest: &Digest) -> Url {
    let mut url = url.clone();
    if let Some((path, _)) = url.path().to_owned().rsplit_once('/') {
        url.set_path(&format!("{path}/{digest}"));
    }
    url
}

/// A body whose last bytes come only if the whole has its digest.
fn checked(body: Body, digest: Digest) -> Body {
    let state = (body.into_data_stream(), DigestHasher::new(digest.algorithm()), None::<Bytes>);
    let frames = stream::try_unfold(Some(state), move |state| {
        let digest = digest.clone();
        async move {
            let Some((mut body, mut hasher, mut held)) = state else { return Ok(None) };
            while let Some(bytes) = body.try_next().await? {
                hasher.update(&bytes);
                if let Some(before) = held.replace(bytes) {
                    return Ok(Some((Frame::data(before), Some((body, hasher, held)))));
                }
            }
            if hasher.finish() != digest {
                cut().await;
                return Err(io::Error::other(format!("the registry's content is not {digest}")));
            }
            Ok(held.map(|last| (Frame::data(last), None)))
        }
    });
    StreamBody::new(frames).boxed_unsync()
}

/// The same path at the registry, below its own path if it has one.
fn upstream_url(base: &Url, uri: &http::Uri) -> Url {
    let mut url = base.clone();
    url.set_path(&format!("{}{}", base.path().trim_end_matches('/'), uri.path()));
    let asked = url::form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes());
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    query.extend_pairs(asked.filter(|(name, _)| name != "ns"));
    let query = query.finish();
    url.set_query((!query.is_empty()).then_some(&query));
    url
}

fn text(value: &str) -> HeaderValue {
    HeaderValue::try_from(value).unwrap_or_else(|_| HeaderValue::from_static(""))
}
