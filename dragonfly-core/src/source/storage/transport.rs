//! How OpenDAL speaks HTTP here: over the connections of the HTTP source, under the same guard, trust and time-outs.
//!
//! What it answered is kept beside what OpenDAL makes of it: status, headers and code decide, not its text, which may
//! hold a signed URL.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use ::http::header::{self, HeaderMap};
use ::http::{Method, Request, Response};
use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{Stream, StreamExt, stream};
use opendal::raw::oio::ReadStream as _;
use opendal::{Buffer, ErrorKind, HttpBody, HttpTransport};
use url::Url;

use super::super::body::stalled;
use super::super::http::{failure, redirect, status_failure};
use super::super::retry::retrying;
use super::super::{OpenRequest, OriginTrust, SourceError, SourceErrorKind, redact};
use super::Reach;

/// Redirects that are followed: a name node sends to a data node, a bucket to its region.
const REDIRECTS_MAX: usize = 5;

/// The most of an error's body that is read, in bytes.
const ERROR_BODY_MAX: usize = 64 * 1024;

/// The longest page of a bucket's list that is read, in bytes: a thousand names of a thousand bytes, and what stands around
/// them.
pub(in crate::source) const PAGE_BYTES_MAX: usize = 16 << 20;

/// The longest list of a directory, which WebDAV and WebHDFS give whole: a kibibyte for each entry of the largest one that
/// is walked.
pub(in crate::source) const DIRECTORY_BYTES_MAX: usize = 128 << 20;

/// The longest code of an error that is shown, in bytes.
const CODE_MAX: usize = 64;

/// Hosts that give out the credentials of the machine that asks.
const METADATA_HOSTS: [&str; 6] = [
    "169.254.169.254",
    "169.254.170.2",
    "169.254.170.23",
    "100.100.100.200",
    "metadata.google.internal",
    "metadata.tencentyun.com",
];

/// What a storage answered last.
#[derive(Clone, Debug, Default)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    /// The code of the error, by the platform's own list.
    pub(super) code: Option<String>,
    /// Whether it came from a service that gives out credentials, not from the storage.
    pub(super) of_credentials: bool,
}

/// What was answered, to whom waits for it.
pub(super) type Seen = Arc<Mutex<Option<Answer>>>;

/// The transport of one request.
pub(super) struct Transport {
    pub(super) reach: Arc<Reach>,
    pub(super) trust: OriginTrust,
    pub(super) local: bool,
    /// Whether this kind of storage has credentials that a machine may be given.
    pub(super) cloud: bool,
    /// What is asked for is a list, for this request. Each page that fails in a way that may pass is asked for again here:
    /// a list that has failed once OpenDAL does not go on with.
    pub(super) lists: Option<OpenRequest>,
    pub(super) seen: Seen,
}

impl HttpTransport for Transport {
    async fn fetch(&self, request: Request<Buffer>) -> opendal::Result<Response<HttpBody>> {
        // Who gives out credentials of the machine may not be there at all: then others are asked.
        let of_machine = request.uri().host().is_some_and(|host| METADATA_HOSTS.contains(&host));
        let answered = match &self.lists {
            Some(list) if !of_machine => retrying(list, || self.page(list, request.clone())).await,
            _ => self.follow(request).await,
        };
        answered.map_err(|error| opendal::Error::new(ErrorKind::Unexpected, "the request failed").set_source(error))
    }
}

impl Transport {
    /// One attempt at a page of a list: what failed for good, or came to its end.
    async fn page(&self, list: &OpenRequest, request: Request<Buffer>) -> Result<Response<HttpBody>, SourceError> {
        let shown = redact(&list.url);
        // What the attempt before was answered is nothing any more.
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = None;
        let (parts, mut body) = self.follow(request).await?.into_parts();
        if !parts.status.is_success() {
            let judged = status_failure(&shown, parts.status.as_u16(), &parts.headers);
            return if judged.is_temporary() { Err(judged) } else { Ok(Response::from_parts(parts, body)) };
        }
        let broken = |error: opendal::Error| {
            let told =
                || SourceError::new(SourceErrorKind::Network, format!("{shown}: the list broke off")).temporary(true);
            super::failure::own(&error).cloned().unwrap_or_else(told)
        };
        // Only buckets have pages.
        let most = if self.cloud { PAGE_BYTES_MAX } else { DIRECTORY_BYTES_MAX };
        let silence = self.reach.http.silence_timeout;
        let mut all = Vec::new();
        loop {
            let read = tokio::time::timeout(silence, body.read()).await.map_err(|_| stalled(&shown, silence))?;
            let bytes = read.map_err(broken)?.to_bytes();
            if bytes.is_empty() {
                break;
            }
            if bytes.len() > most - all.len() {
                let text = format!("{shown}: a page of its list has more than {} MiB", most >> 20);
                return Err(SourceError::new(SourceErrorKind::Origin, text));
            }
            all.extend_from_slice(&bytes);
        }
        let once = stream::once(std::future::ready(Ok(Buffer::from(all))));
        Ok(Response::from_parts(parts, HttpBody::new(Shared(Mutex::new(once.boxed())), None)))
    }

    async fn follow(&self, request: Request<Buffer>) -> Result<Response<HttpBody>, SourceError> {
        let (parts, body) = request.into_parts();
        // Content is only read: what else the library beneath would do is not done. Credentials are asked for by POST.
        let reads = matches!(parts.method, Method::GET | Method::HEAD | Method::POST | Method::OPTIONS);
        let is_refused = !reads && parts.method.as_str() != "PROPFIND" && !(self.cloud && parts.method == Method::PUT);
        if is_refused {
            let text = format!("a request to {} was not sent: origins are only read", parts.method);
            return Err(SourceError::new(SourceErrorKind::Guarded, text));
        }
        let body = body.to_bytes();
        let invalid = |_| SourceError::new(SourceErrorKind::InvalidInput, "the endpoint makes no good URL");
        let mut url = Url::parse(&parts.uri.to_string()).map_err(invalid)?;
        let mut headers = parts.headers;
        headers.remove(header::HOST);
        headers.remove(header::CONTENT_LENGTH);
        let metadata = self.cloud && url.host_str().is_some_and(|host| METADATA_HOSTS.contains(&host));
        if metadata && !self.reach.instance_credentials {
            let text = "no credentials are asked of the machine's metadata service: nobody allowed it";
            return Err(SourceError::new(SourceErrorKind::Guarded, text));
        }
        for hop in 0..=REDIRECTS_MAX {
            let response = self.send(&parts.method, &url, headers.clone(), body.clone(), metadata).await?;
            // What changes things is not sent again; what is read may lie elsewhere.
            let may_follow = matches!(parts.method, Method::GET | Method::HEAD) && !metadata;
            let next = if may_follow { redirect(&url, &response).unwrap_or(None) } else { None };
            let Some(next) = next.filter(|_| hop < REDIRECTS_MAX) else {
                return self.answered(&url, &parts.method, response).await;
            };
            self.reach.guard.check_url(&next, self.local)?;
            let elsewhere = (next.scheme(), next.host(), next.port_or_known_default())
                != (url.scheme(), url.host(), url.port_or_known_default());
            if elsewhere {
                let kept = [header::RANGE, header::IF_MATCH, header::IF_NONE_MATCH, header::ACCEPT];
                headers = headers
                    .iter()
                    .filter(|(name, _)| kept.contains(name))
                    .map(|(n, v)| (n.clone(), v.clone()))
                    .collect();
            }
            url = next;
        }
        Err(SourceError::new(SourceErrorKind::Origin, format!("{}: too many redirects", redact(&url))))
    }

    async fn send(
        &self,
        method: &Method,
        url: &Url,
        headers: HeaderMap,
        body: Bytes,
        metadata: bool,
    ) -> Result<reqwest::Response, SourceError> {
        let clients = if metadata { &self.reach.for_credentials } else { &self.reach.clients };
        if !metadata {
            self.reach.guard.check_url(url, self.local)?;
            clients.check_shared_name(url, self.local).await?;
        }
        let client = clients.client(url, &self.trust, self.local)?;
        let mut request = client.request(method.clone(), url.clone()).headers(headers);
        if !body.is_empty() || !matches!(*method, Method::GET | Method::HEAD) {
            request = request.body(body);
        }
        let limit = self.reach.http.first_byte_timeout;
        match tokio::time::timeout(limit, request.send()).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) => Err(failure(url, error)),
            Err(_) => Err(stalled(&redact(url), limit)),
        }
    }

    /// Notes an answer, and hands it on.
    async fn answered(
        &self,
        url: &Url,
        method: &Method,
        response: reqwest::Response,
    ) -> Result<Response<HttpBody>, SourceError> {
        let (status, headers) = (response.status(), response.headers().clone());
        let length = response.content_length().filter(|_| *method != Method::HEAD);
        let mut answer = Answer {
            status: status.as_u16(),
            headers: headers.clone(),
            code: None,
            of_credentials: gives_credentials(url),
        };
        let shown = redact(url);
        let body = if status.is_success() {
            let mapped = response.bytes_stream().map(move |item| {
                item.map(Buffer::from).map_err(|error| {
                    let error = SourceError::new(SourceErrorKind::Network, format!("{shown}: the connection broke"))
                        .temporary(true)
                        .caused_by(error.without_url());
                    opendal::Error::new(ErrorKind::Unexpected, "the body broke off").set_source(error)
                })
            });
            // Who reads takes nothing for the end.
            let some = mapped.filter(|item| std::future::ready(!matches!(item, Ok(bytes) if bytes.is_empty())));
            HttpBody::new(Shared(Mutex::new(some.boxed())), None)
        } else {
            let bytes = self.error_body(response).await;
            answer.code = code(&headers, &bytes);
            let once = stream::once(std::future::ready(Ok(Buffer::from(bytes))));
            HttpBody::new(Shared(Mutex::new(once.boxed())), None)
        };
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = Some(answer);
        let mut made = Response::new(body);
        *made.status_mut() = status;
        *made.headers_mut() = headers;
        if let Some(length) = length.filter(|_| status.is_success()) {
            // Where the client took it out of the headers (it does not, but OpenDAL relies on it).
            made.headers_mut().entry(header::CONTENT_LENGTH).or_insert(length.into());
        }
        Ok(made)
    }

    async fn error_body(&self, response: reqwest::Response) -> Bytes {
        let mut all = Vec::new();
        let mut body = response.bytes_stream();
        let silence = self.reach.http.silence_timeout;
        while let Ok(Some(Ok(bytes))) = tokio::time::timeout(silence, body.next()).await {
            all.extend_from_slice(&bytes[..bytes.len().min(ERROR_BODY_MAX - all.len())]);
            if all.len() >= ERROR_BODY_MAX {
                break;
            }
        }
        all.into()
    }
}

fn gives_credentials(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    METADATA_HOSTS.contains(&host)
        || host.starts_with("sts.")
        || matches!(
            host,
            "oauth2.googleapis.com"
                | "iamcredentials.googleapis.com"
                | "sts.googleapis.com"
                | "login.microsoftonline.com"
        )
}

/// The code that an error has: Azure says it in a header, others in XML or JSON.
fn code(headers: &HeaderMap, body: &[u8]) -> Option<String> {
    let in_header = headers.get("x-ms-error-code").and_then(|value| value.to_str().ok());
    let text = String::from_utf8_lossy(body);
    let between = |from: &str, to: &str| {
        let after = &text[text.find(from)? + from.len()..];
        Some(&after[..after.find(to)?])
    };
    let found = in_header
        .or_else(|| between("<Code>", "</Code>"))
        .or_else(|| between("\"reason\":\"", "\""))
        .or_else(|| between("\"reason\": \"", "\""))
        .or_else(|| between("\"exception\":\"", "\""))?;
    let plain = !found.is_empty()
        && found.len() <= CODE_MAX
        && found.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_'));
    plain.then(|| found.to_owned())
}

/// A stream that is polled by whoever owns it, and so may be shared.
struct Shared(Mutex<BoxStream<'static, opendal::Result<Buffer>>>);

impl Stream for Shared {
    type Item = opendal::Result<Buffer>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.get_mut().unwrap_or_else(PoisonError::into_inner).poll_next_unpin(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_of_errors_are_short_words_or_nothing() {
        let none = HeaderMap::new();
        let of = |body: &str| code(&none, body.as_bytes());
        assert_eq!(of("<Error><Code>NoSuchKey</Code><Message>m</Message></Error>").as_deref(), Some("NoSuchKey"));
        assert_eq!(of(r#"{"error":{"errors":[{"reason":"notFound"}]}}"#).as_deref(), Some("notFound"));
        assert_eq!(
            of(r#"{"RemoteException":{"exception":"FileNotFoundException"}}"#).as_deref(),
            Some("FileNotFoundException")
        );
        assert_eq!(of("<Code>a b\r\nc</Code>"), None);
        assert_eq!(of(&format!("<Code>{}</Code>", "x".repeat(CODE_MAX + 1))), None);
        assert_eq!(of("<Code>"), None);
        let mut headers = HeaderMap::new();
        headers.insert("x-ms-error-code", ::http::HeaderValue::from_static("BlobNotFound"));
        assert_eq!(code(&headers, b"").as_deref(), Some("BlobNotFound"));
    }
}
