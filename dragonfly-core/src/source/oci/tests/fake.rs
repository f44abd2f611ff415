//! A registry of a few lines.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

use crate::task::{Algorithm, DigestHasher};

/// A request that came.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub(super) method: String,
    /// With its query.
    pub(super) path: String,
    pub(super) authorization: Option<String>,
    pub(super) accept: Option<String>,
    pub(super) range: Option<String>,
    pub(super) body: String,
}

/// What is answered in place of content.
type Answer = Box<dyn Fn(&Seen) -> Option<Response<Full<Bytes>>> + Send + Sync>;

pub(super) struct Fake {
    pub(super) address: SocketAddr,
    inner: Arc<Inner>,
}

#[derive(Default)]
struct Inner {
    /// Media type and content by path.
    content: Mutex<BTreeMap<String, (String, Bytes)>>,
    first: Mutex<Option<Answer>>,
    seen: Mutex<Vec<Seen>>,
}

impl Fake {
    pub(super) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, inner) = (listener.local_addr().unwrap(), Arc::new(Inner::default()));
        let serving = Arc::clone(&inner);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let inner = Arc::clone(&serving);
                let service = service_fn(move |request| {
                    let inner = Arc::clone(&inner);
                    async move { Ok::<_, Infallible>(inner.answer(request).await) }
                });
                tokio::spawn(
                    hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service),
                );
            }
        });
        Self { address, inner }
    }

    /// What is asked before the content.
    pub(super) fn first(&self, answer: impl Fn(&Seen) -> Option<Response<Full<Bytes>>> + Send + Sync + 'static) {
        *self.inner.first.lock().unwrap() = Some(Box::new(answer));
    }

    pub(super) fn put(&self, path: &str, kind: &str, bytes: impl Into<Bytes>) {
        self.inner.content.lock().unwrap().insert(path.to_owned(), (kind.to_owned(), bytes.into()));
    }

    /// Puts a blob of the repository `a`; its digest.
    pub(super) fn blob(&self, bytes: impl Into<Bytes>) -> String {
        let bytes = bytes.into();
        let digest = digest(&bytes);
        self.put(&format!("/v2/a/blobs/{digest}"), "application/octet-stream", bytes);
        digest
    }

    /// Puts a manifest of the repository `a`; its descriptor.
    pub(super) fn manifest(&self, tag: Option<&str>, kind: &str, value: &serde_json::Value) -> serde_json::Value {
        let bytes = Bytes::from(serde_json::to_vec(value).unwrap());
        let digest = digest(&bytes);
        for name in tag.into_iter().chain([&*digest]) {
            self.put(&format!("/v2/a/manifests/{name}"), kind, bytes.clone());
        }
        serde_json::json!({"mediaType": kind, "digest": digest, "size": bytes.len()})
    }

    pub(super) fn seen(&self) -> Vec<Seen> {
        self.inner.seen.lock().unwrap().clone()
    }
}

impl Inner {
    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let (head, body) = request.into_parts();
        let header = |name: &str| head.headers.get(name).map(|value| value.to_str().unwrap().to_owned());
        let seen = Seen {
            method: head.method.to_string(),
            path: head.uri.to_string(),
            authorization: header("authorization"),
            accept: header("accept"),
            range: header("range"),
            body: String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap(),
        };
        self.seen.lock().unwrap().push(seen.clone());
        if let Some(answer) = self.first.lock().unwrap().as_ref().and_then(|first| first(&seen)) {
            return answer;
        }
        let Some((kind, bytes)) = self.content.lock().unwrap().get(&seen.path).cloned() else {
            let code = if seen.path.contains("/blobs/") { "BLOB_UNKNOWN" } else { "MANIFEST_UNKNOWN" };
            return error(404, code);
        };
        let answer = Response::builder().header("content-type", kind).header("accept-ranges", "bytes");
        let Some((from, to)) = seen.range.as_deref().map(|range| bounds(range, bytes.len())) else {
            return answer.body(Full::new(bytes)).unwrap();
        };
        if from >= bytes.len() {
            let range = format!("bytes */{}", bytes.len());
            return Response::builder().status(416).header("content-range", range).body(Full::default()).unwrap();
        }
        let range = format!("bytes {from}-{}/{}", to - 1, bytes.len());
        answer.status(206).header("content-range", range).body(Full::new(bytes.slice(from..to))).unwrap()
    }
}

fn bounds(range: &str, length: usize) -> (usize, usize) {
    let (from, last) = range.strip_prefix("bytes=").unwrap().split_once('-').unwrap();
    (from.parse().unwrap(), last.parse::<usize>().map_or(length, |last| (last + 1).min(length)))
}

pub(super) fn error(status: u16, code: &str) -> Response<Full<Bytes>> {
    let body = serde_json::json!({"errors": [{"code": code, "message": "not for people"}]}).to_string();
    Response::builder().status(status).body(Full::new(body.into())).unwrap()
}

pub(super) fn challenged(challenge: &str) -> Response<Full<Bytes>> {
    let mut answer = error(401, "UNAUTHORIZED");
    answer.headers_mut().insert("www-authenticate", challenge.parse().unwrap());
    answer
}

pub(super) fn digest(bytes: &[u8]) -> String {
    let mut hasher = DigestHasher::new(Algorithm::Sha256);
    hasher.update(bytes);
    hasher.finish().to_string()
}
