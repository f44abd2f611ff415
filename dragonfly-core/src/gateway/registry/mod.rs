//! The registry mirror: `/v2/` of any registry (OCI distribution specification 1.1, Docker Registry HTTP API V2).

mod names;

use std::sync::Arc;

use http::header::{self, HeaderMap};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use url::Url;

use self::names::{Asked, Kind, read};
use super::content::{Wanted, head_only, is_unchanged, unchanged};
use super::fail::Refusal;
use super::head::{CONTENT_DIGEST, Head, Object};
use super::route::Body;
use super::{Client, Counts, Inner};
use crate::peer;
use crate::task::Digest;

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
    let asked = read(request.uri().path())?;
    gateway.refuse_own(&base)?;
    let url = upstream_url(&base, request.uri());
    let (method, headers) = (request.method().clone(), request.headers());
    let named = match asked {
        Asked::Other => return gateway.own_answer((method, headers), url, (client, false)).await,
        Asked::Object { kind, digest } => (kind, digest),
        Asked::Tag => {
            let object = Object::new(url.clone(), headers, client);
            let head = match gateway.head(&object, false).await {
                Ok(head) => head,
                Err(error) => gateway.remembered(&object).ok_or(error)?,
            };
            let digest = head.digest().and_then(|digest| digest.parse::<Digest>().ok());
            match digest.filter(|_| head.status.is_success() && method == Method::GET) {
                Some(digest) => {
                    // What was said of the tag was said of the digest that it stands for.
                    gateway.note(&Object::new(named(&url, &digest), headers, client), head);
                    (Kind::Manifest, digest)
                }
                None => return gateway.own_answer((method, headers), url, (client, false)).await,
            }
        }
    };
    gateway.object(named, (&base, url), request, client).await
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
        let object = Object::new(named(&url, &digest), headers, client);
        let (head, stale) = match self.head(&object, true).await {
            Ok(head) => (head, false),
            Err(error) => (self.offline(&object, kind).ok_or(error)?, true),
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
        let mut asked = peer::Request::new(object.url.as_str())
            .digest(digest.clone())
            .named_by_digest(format!("{}/v2/{}/{digest}", base.as_str().trim_end_matches('/'), kind.name()))
            .stale_ok(stale)
            .local(client.local);
        for (name, value) in &object.headers {
            asked = asked.header(name, value);
        }
        let prefetch = self.config.prefetch;
        let wanted = Wanted { method, headers, object: described, version: None, prefetch };
        match self.swarm(asked, wanted).await {
            Ok(Some(response)) => Ok(response),
            Ok(None) => Err(Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "content with a digest has no versions")),
            Err(error) => {
                tracing::info!(%digest, "the swarm has trouble, the registry is asked: {error:?}");
                Counts::add(&self.counts.fallbacks, 1);
                self.own_answer((method.clone(), headers), object.url, (client, true)).await
            }
        }
    }

    /// What may be given out while a registry cannot be reached: to clients without credentials, if it is allowed at all.
    fn offline(&self, object: &Object, kind: Kind) -> Option<Head> {
        if let Some(head) = self.remembered(object) {
            return Some(head);
        }
        // A blob needs no more than its digest; a manifest's type only the registry knows.
        let open = self.config.offline && !object.has_credentials() && kind == Kind::Blob;
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
        open.then_some(Head { status: StatusCode::OK, headers, length: None })
    }
}

/// By its digest, whatever tag it was asked for by: the tag may be another's in a moment.
fn named(url: &Url, digest: &Digest) -> Url {
    let mut url = url.clone();
    if let Some((path, _)) = url.path().to_owned().rsplit_once('/') {
        url.set_path(&format!("{path}/{digest}"));
    }
    url
}

/// The same path at the registry, below its own path if it has one.
fn upstream_url(base: &Url, uri: &http::Uri) -> Url {
    let mut url = base.clone();
    url.set_path(&format!("{}{}", base.path().trim_end_matches('/'), uri.path()));
    let query =
        url::form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes()).filter(|(name, _)| name != "ns");
    let query = query.fold(url::form_urlencoded::Serializer::new(String::new()), |mut query, (name, value)| {
        query.append_pair(&name, &value);
        query
    });
    let mut query = query;
    let query = query.finish();
    url.set_query((!query.is_empty()).then_some(&query));
    url
}

fn text(value: &str) -> HeaderValue {
    HeaderValue::try_from(value).unwrap_or_else(|_| HeaderValue::from_static(""))
}
