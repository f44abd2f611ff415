//! Content of the swarm as an answer.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{self, HeaderMap};
use http::{HeaderName, HeaderValue, Method, Response, StatusCode};
use http_body_util::{BodyExt as _, Empty, StreamBody};
use tokio::io::AsyncSeekExt as _;

use super::Inner;
use super::range::{Part, part};
use super::rest::Rest;
use super::route::Body;
use super::streaming::{Streaming, frames};
use crate::peer::Request;
use crate::task::{Class, Validator};
use crate::{Error, ErrorKind, Result};

/// Parts up to here are sent although the whole was not checked.
const SMALL_PART: u64 = 4 << 20;

/// Names the task that an answer is of.
const TASK: HeaderName = HeaderName::from_static("x-dragonfly-task-id");

/// What an answer is to be like.
pub(super) struct Wanted<'a> {
    pub(super) method: &'a Method,
    /// The client's headers.
    pub(super) headers: &'a HeaderMap,
    /// The server's, of the object; those of framing are set here.
    pub(super) object: HeaderMap,
    /// What the server says the version is, where a digest does not.
    pub(super) version: Option<Validator>,
    /// How long the server says it is. Where it answers somebody with a page that asks for a password, it is as long as
    /// that.
    pub(super) length: Option<u64>,
    /// Whether the rest of it is fetched where only a part was asked for.
    pub(super) prefetch: bool,
    /// Whether nothing of it is sent before the whole was found to have its digest.
    pub(super) proven: bool,
    /// Where the rest is had if the swarm fails in the middle.
    pub(super) rest: Rest,
}

impl Inner {
    /// Answers with content of the swarm, once its first bytes are there. `None`: the swarm has another version than the
    /// server.
    ///
    /// # Errors
    /// The swarm has trouble, or needed too long: the server's own answer is the better one.
    pub(super) async fn swarm(
        self: &Arc<Self>,
        request: Request,
        wanted: Wanted<'_>,
    ) -> Result<Option<Response<Body>>> {
        let patience = self.config.patience;
        let begun = tokio::time::timeout(patience, self.begin(request, &wanted)).await;
        let begun = begun.map_err(|_| {
            Error::new(ErrorKind::Timeout, format!("nothing came through the swarm for {patience:?}")).temporary(true)
        })??;
        let Some((part, streaming, first)) = begun else { return Ok(None) };
        self.counts.swarm.add(1);
        let rest = wanted.rest;
        let length = streaming.reader.length();
        let mut response = Response::new(empty());
        let headers = response.headers_mut();
        *headers = wanted.object;
        headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
        // Of a task whose id is a secret clients are told nothing.
        let task = HeaderValue::try_from(streaming.reader.task().to_string());
        if let Ok(task) = task
            && streaming.reader.class() != Class::Keyed
        {
            headers.insert(TASK, task);
        }
        let sent = match part {
            Part::Whole => 0..length,
            Part::Bytes(range) => {
                let value = format!("bytes {}-{}/{length}", range.start, range.end - 1);
                headers.insert(header::CONTENT_RANGE, value.try_into().map_err(|_| internal())?);
                *response.status_mut() = StatusCode::PARTIAL_CONTENT;
                range
            }
            Part::Outside => {
                let value = format!("bytes */{length}");
                response.headers_mut().insert(header::CONTENT_RANGE, value.try_into().map_err(|_| internal())?);
                response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from_static("0"));
                *response.status_mut() = StatusCode::RANGE_NOT_SATISFIABLE;
                return Ok(Some(response));
            }
        };
        response.headers_mut().insert(header::CONTENT_LENGTH, (sent.end - sent.start).into());
        if wanted.method != Method::HEAD {
            *response.body_mut() = StreamBody::new(frames(streaming, rest, first)).boxed_unsync();
        }
        Ok(Some(response))
    }

    async fn begin(
        self: &Arc<Self>,
        request: Request,
        wanted: &Wanted<'_>,
    ) -> Result<Option<(Part, Streaming, Option<Bytes>)>> {
        let mut reader = self.peer.open(request.clone()).await?;
        let etag = wanted.object.get(header::ETAG).and_then(|etag| etag.to_str().ok());
        let length = reader.length();
        let other = wanted.version.is_some() && reader.validator() != wanted.version;
        if other || wanted.length.is_some_and(|told| told != length) {
            return Ok(None);
        }
        // What HEAD is answered with has no parts (RFC 9110, 14.2).
        let is_get = *wanted.method == Method::GET;
        let part = if is_get { part(wanted.headers, length, etag) } else { Part::Whole };
        let range = match &part {
            Part::Whole => 0..length,
            Part::Bytes(range) => range.clone(),
            Part::Outside => 0..0,
        };
        if wanted.prefetch && range != (0..length) {
            self.wholes.fetch(&self.peer, request);
        }
        reader.seek(io::SeekFrom::Start(range.start)).await.map_err(Error::from_read)?;
        let checked = part != Part::Whole && is_sent_unchecked(&range, length);
        let mut streaming = Streaming { gateway: Arc::clone(self), reader, began: range.start, left: range, checked };
        if wanted.proven {
            streaming.verified().await?;
        }
        let first = streaming.next().await?;
        Ok(Some((part, streaming, first)))
    }
}

/// Whether a part is sent although the whole was not checked: one that does not reach its end, and one that is small, since
/// indexes at the end of archives are read before anything else of them. Who asks for a part checks it himself.
pub(super) fn is_sent_unchecked(part: &Range<u64>, length: u64) -> bool {
    part.end < length || part.end - part.start <= SMALL_PART
}

/// The answer to a HEAD.
pub(super) fn head_only(mut headers: HeaderMap) -> Response<Body> {
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    let mut response = Response::new(empty());
    *response.headers_mut() = headers;
    response
}

/// Whether the client has what is current (RFC 9110, 13.1.2 and 13.1.3).
pub(super) fn is_unchanged(client: &HeaderMap, object: &HeaderMap) -> bool {
    if client.contains_key(header::IF_NONE_MATCH) {
        // Dates count for nothing beside tags.
        let etag = object.get(header::ETAG).map(|etag| weak(etag.as_bytes()));
        return client.get_all(header::IF_NONE_MATCH).iter().any(|known| {
            let mut tags = tags(known.as_bytes());
            // Whatever is there now is what it asks about.
            known.as_bytes().trim_ascii() == b"*" || etag.is_some_and(|etag| tags.any(|known| known == etag))
        });
    }
    let date = |headers: &HeaderMap, name| {
        headers.get(name).and_then(|value| value.to_str().ok()).and_then(|date| httpdate::parse_http_date(date).ok())
    };
    let since = date(client, header::IF_MODIFIED_SINCE);
    since.zip(date(object, header::LAST_MODIFIED)).is_some_and(|(since, modified)| modified <= since)
}

/// An entity tag as the weak comparison sees it.
fn weak(tag: &[u8]) -> &[u8] {
    let tag = tag.trim_ascii();
    tag.strip_prefix(b"W/").unwrap_or(tag)
}

/// The entity tags of a list, which may have commas in them.
fn tags(mut list: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        while let Some((b',' | b' ' | b'\t', rest)) = list.split_first() {
            list = rest;
        }
        let mut quoted = false;
        let end = list.iter().position(|byte| {
            quoted ^= *byte == b'"';
            !quoted && *byte == b','
        });
        let (tag, rest) = list.split_at(end.unwrap_or(list.len()));
        list = rest;
        (!tag.is_empty()).then(|| weak(tag))
    })
}

/// Says so.
pub(super) fn unchanged(object: &HeaderMap) -> Response<Body> {
    let mut response = Response::new(empty());
    *response.status_mut() = StatusCode::NOT_MODIFIED;
    *response.headers_mut() = object.clone();
    response
}

fn empty() -> Body {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

fn internal() -> Error {
    Error::new(ErrorKind::Internal, "a number is no header's value")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn headers(of: &[(&'static str, &str)]) -> HeaderMap {
        of.iter().map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap())).collect()
    }

    #[test]
    fn who_has_what_is_current() {
        const NONE: &str = "if-none-match";
        const SINCE: &str = "if-modified-since";
        const THEN: &str = "Mon, 01 Jan 2024 00:00:00 GMT";
        const BEFORE: &str = "Sun, 31 Dec 2023 23:59:59 GMT";
        let strong = headers(&[("etag", "\"a,b\""), ("last-modified", THEN)]);
        let by_weak = headers(&[("etag", "W/\"a\"")]);
        let untagged = headers(&[("last-modified", THEN)]);
        for (client, object, wanted) in [
            (&[][..], &strong, false),
            (&[(NONE, "\"a,b\"")], &strong, true),
            (&[(NONE, "W/\"a,b\"")], &strong, true),
            (&[(NONE, "a,b")], &strong, false),
            (&[(NONE, "\"a\", \"b\"")], &strong, false),
            (&[(NONE, "\"x\",\t\"y\" ,, W/\"a,b\" , \"z\"")], &strong, true),
            (&[(NONE, "*")], &strong, true),
            (&[(NONE, " * ")], &strong, true),
            (&[(NONE, "*")], &untagged, true),
            (&[(NONE, "*, \"x\"")], &strong, false),
            (&[(NONE, "\"*\"")], &strong, false),
            (&[(NONE, "")], &strong, false),
            (&[(NONE, "\"a")], &strong, false),
            (&[(NONE, "\"x\""), (NONE, "\"a,b\"")], &strong, true),
            (&[(NONE, "\"a\"")], &by_weak, true),
            (&[(NONE, "w/\"a\"")], &by_weak, false),
            (&[(NONE, "\"a\"")], &untagged, false),
            (&[(SINCE, THEN)], &strong, true),
            (&[(SINCE, "Tue, 02 Jan 2024 00:00:00 GMT")], &untagged, true),
            (&[(SINCE, "Monday, 01-Jan-24 00:00:00 GMT")], &untagged, true),
            (&[(SINCE, BEFORE)], &untagged, false),
            (&[(SINCE, "yesterday")], &untagged, false),
            (&[(SINCE, THEN)], &by_weak, false),
            // A tag counts, and the date beside it does not, whatever either says.
            (&[(NONE, "\"x\""), (SINCE, THEN)], &strong, false),
            (&[(NONE, "\"a,b\""), (SINCE, BEFORE)], &strong, true),
            (&[(NONE, "\"x\""), (SINCE, THEN)], &untagged, false),
            (&[(NONE, "\"\u{e4}\""), (SINCE, THEN)], &strong, false),
        ] {
            let mut map = HeaderMap::new();
            for (name, value) in client {
                map.append(HeaderName::from_static(name), HeaderValue::from_bytes(value.as_bytes()).unwrap());
            }
            assert_eq!(is_unchanged(&map, object), wanted, "{client:?} of {object:?}");
        }
    }
}
