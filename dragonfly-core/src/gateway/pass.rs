//! Requests and answers that are passed on as they are.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures::{Stream, StreamExt as _};
use http::header::{self, HeaderMap};
use http::{HeaderName, HeaderValue, Method, Request, Response};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::{Body as _, Frame, Incoming};
use url::Url;

use super::fail::Refusal;
use super::route::Body;
use super::{Client, Inner};
use crate::source::{Ask, MARK};

/// The longest silence within a body, either way. As of content from origins.
pub(super) const SILENCE_MAX: Duration = Duration::from_secs(30);

/// Headers between two neighbours alone (RFC 9110, 7.6.1), and what clients put there without its being so.
const HOP_BY_HOP: [HeaderName; 8] = [
    header::CONNECTION,
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::HOST,
];

/// What goes further than the next neighbour.
pub(super) fn end_to_end(headers: &HeaderMap) -> HeaderMap {
    let listed: Vec<String> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|name| name.trim().to_ascii_lowercase())
        .collect();
    let mut out = HeaderMap::with_capacity(headers.len());
    for (name, value) in headers {
        let hop = HOP_BY_HOP.contains(name) || matches!(name.as_str(), "keep-alive" | "proxy-connection");
        if !hop && !listed.iter().any(|listed| listed == name.as_str()) {
            out.append(name.clone(), value.clone());
        }
    }
    out
}

/// What of a client's headers goes to the server, with a mark of this gateway's.
pub(super) fn outgoing(headers: &HeaderMap, mark: &HeaderValue) -> HeaderMap {
    let mut out = end_to_end(headers);
    let ours: Vec<_> = out.keys().filter(|name| name.as_str().starts_with("x-dragonfly-")).cloned().collect();
    // How long a body is, is said again where there is one: a length without a body would have the next request on the
    // connection, which may be another client's, taken for it.
    for name in ours.iter().chain(&[header::EXPECT, header::CONTENT_LENGTH]) {
        out.remove(name);
    }
    out.append(MARK, mark.clone());
    out
}

/// Whether somebody shows who he is by a scheme that binds to a connection: those to servers are shared here, and who came
/// next would be taken for him.
pub(super) fn binds_to_connection(headers: &HeaderMap) -> bool {
    headers.get_all(header::AUTHORIZATION).iter().any(is_bound)
}

/// Such schemes are not offered to clients.
fn without_bound_schemes(headers: &mut HeaderMap) {
    let kept: Vec<_> =
        headers.get_all(header::WWW_AUTHENTICATE).iter().filter(|value| !is_bound(value)).cloned().collect();
    headers.remove(header::WWW_AUTHENTICATE);
    for value in kept {
        headers.append(header::WWW_AUTHENTICATE, value);
    }
}

fn is_bound(value: &HeaderValue) -> bool {
    let scheme = value.as_bytes().split(|byte| *byte == b' ').next().unwrap_or_default();
    scheme.eq_ignore_ascii_case(b"ntlm") || scheme.eq_ignore_ascii_case(b"negotiate")
}

/// Whether a request depends on the version in a way that only its server should judge (RFC 9110, 13.1.1 and 13.1.4).
pub(super) fn is_conditional(headers: &HeaderMap) -> bool {
    headers.contains_key(header::IF_MATCH) || headers.contains_key(header::IF_UNMODIFIED_SINCE)
}

impl Inner {
    /// Passes a request on to `url`, and the answer back.
    pub(super) async fn pass(
        &self,
        request: Request<Incoming>,
        url: Url,
        client: Client,
    ) -> Result<Response<Body>, Refusal> {
        self.counts.passed.add(1);
        let (parts, body) = request.into_parts();
        let mut headers = outgoing(&parts.headers, &self.mark);
        let body = (!body.is_end_stream()).then(|| {
            if let Some(length) = body.size_hint().exact() {
                headers.insert(header::CONTENT_LENGTH, length.into());
            }
            paced(body.into_data_stream(), io::Error::other).boxed()
        });
        let ask = Ask {
            headers,
            body,
            // Clients follow redirects themselves, and tell others by them.
            follow: false,
            method: parts.method,
            url,
            trust: self.trust.clone(),
            local: client.local,
            own: Arc::clone(&self.own),
        };
        self.answer_of(ask).await
    }

    /// The server's own answer to a client that asks for an object: `method` is GET or HEAD.
    pub(super) async fn own_answer(
        &self,
        (method, headers): (Method, &HeaderMap),
        url: Url,
        (client, follow): (Client, bool),
    ) -> Result<Response<Body>, Refusal> {
        self.counts.passed.add(1);
        let headers = outgoing(headers, &self.mark);
        let own = Arc::clone(&self.own);
        let trust = self.trust.clone();
        self.answer_of(Ask { method, url, headers, body: None, trust, local: client.local, follow, own }).await
    }

    async fn answer_of(&self, ask: Ask) -> Result<Response<Body>, Refusal> {
        let response = self.upstream.ask(ask).await?;
        let (status, mut headers) = (response.status(), end_to_end(response.headers()));
        without_bound_schemes(&mut headers);
        let broken = |error: reqwest::Error| io::Error::other(error.without_url());
        let body = paced(response.bytes_stream(), broken).map(|chunk| chunk.map(Frame::data));
        let mut answer = Response::new(StreamBody::new(body).boxed_unsync());
        *answer.status_mut() = status;
        *answer.headers_mut() = headers;
        Ok(answer)
    }
}

/// Ends a body that says nothing for too long.
pub(super) fn paced<E: Send + 'static>(
    body: impl Stream<Item = Result<bytes::Bytes, E>> + Send + 'static,
    broken: fn(E) -> io::Error,
) -> impl Stream<Item = io::Result<bytes::Bytes>> + Send {
    futures::stream::unfold(Some(body.boxed()), move |body| async move {
        let mut body = body?;
        match tokio::time::timeout(SILENCE_MAX, body.next()).await {
            Ok(Some(Ok(bytes))) => Some((Ok(bytes), Some(body))),
            Ok(Some(Err(error))) => Some((Err(broken(error)), None)),
            Ok(None) => None,
            Err(_) => Some((Err(io::ErrorKind::TimedOut.into()), None)),
        }
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_is_between_neighbours_stays_there() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("accept", "a"),
            ("accept", "b"),
            ("connection", "close, X-Mine"),
            ("x-mine", "1"),
            ("keep-alive", "5"),
            ("proxy-authorization", "Basic secret"),
            ("proxy-connection", "keep-alive"),
            ("te", "trailers"),
            ("transfer-encoding", "chunked"),
            ("host", "h"),
            ("x-dragonfly-tag", "t"),
            ("authorization", "Bearer t"),
            ("content-length", "45"),
        ] {
            headers.append(HeaderName::from_static(name), value.parse().unwrap());
        }
        let out = outgoing(&headers, &HeaderValue::from_static("me"));
        let mut names: Vec<_> = out.iter().map(|(name, value)| format!("{name}={}", value.to_str().unwrap())).collect();
        names.sort();
        assert_eq!(names, ["accept=a", "accept=b", "authorization=Bearer t", "dragonfly-gateway=me"]);
    }
}
